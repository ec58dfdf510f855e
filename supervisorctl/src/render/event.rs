//! Events as lines and as JSON.

use serde_json::{Value, json};
use supervisor_proto::v1::{Channel, Event, event::Detail};

use super::{Item, state_name};

/// One event, as a line.
pub struct EventLine<'a>(
    /// Which.
    pub &'a Event,
);

impl Item for EventLine<'_> {
    fn text(&self) -> String {
        let Event { r#type: name, at_millis, payload, detail } = self.0;
        if let Some(Detail::Lost(lost)) = detail {
            return format!("({lost} events were lost here: this client was too slow)");
        }
        // The line ends with the header of the payload; what follows it may be anything, so it is quoted.
        let (head, data) = payload.split_once('\n').unwrap_or((payload, ""));
        let data = if data.is_empty() { String::new() } else { format!(" {data:?}") };
        format!("{} {name} {head}{data}", clock_time(*at_millis)).trim_end().to_owned()
    }

    fn json(&self) -> Value {
        let Event { r#type: name, at_millis, payload, detail } = self.0;
        if let Some(Detail::Lost(lost)) = detail {
            return json!({"lost": lost});
        }
        let mut json = json!({"type": name, "at_millis": at_millis, "payload": payload});
        let detail = match detail {
            Some(Detail::ProcessState(change)) => json!({
                "name": change.name,
                "group": change.group,
                "from": state_name(change.from()),
                "to": state_name(change.to()),
                "tries": change.tries,
                "pid": change.pid,
                "expected": change.expected,
            }),
            Some(Detail::Output(output)) => json!({
                "name": output.name,
                "group": output.group,
                "pid": output.pid,
                "channel": match output.channel() {
                    Channel::Stdout => "stdout",
                    Channel::Stderr => "stderr",
                },
                "data": String::from_utf8_lossy(&output.data),
            }),
            Some(Detail::Remote(remote)) => json!({"type": remote.r#type, "data": remote.data}),
            Some(Detail::Tick(when)) => json!({"when": when}),
            Some(Detail::Group(group)) => json!({"group": group}),
            Some(Detail::Lost(_)) | None => return json,
        };
        json["detail"] = detail;
        json
    }
}

/// Time of day in UTC: `12:34:56.789Z`.
fn clock_time(millis: i64) -> String {
    let (seconds, millis) = (millis.div_euclid(1000), millis.rem_euclid(1000));
    let of_day = seconds.rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}.{millis:03}Z", of_day / 3600, of_day / 60 % 60, of_day % 60)
}
