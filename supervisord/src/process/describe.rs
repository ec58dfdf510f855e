//! The one-line description of a process that `status` shows, in Supervisor's words.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

use super::{Process, ProcessState};
use crate::clock::Moment;

/// `pid 123, uptime 0:01:02`, `Not started`, `Nov 21 01:05 AM`, or why it could not be started; empty for STOPPING, UNKNOWN,
/// and STARTING unless it waits for another program.
pub fn description(process: &Process, now: Moment, zone: &TimeZone) -> String {
    match process.state() {
        ProcessState::Running => {
            let pid = process.pid().map_or(0, nix::unistd::Pid::as_raw);
            let up =
                process.spawned_at().map_or(Duration::ZERO, |at| now.mono.saturating_duration_since(at.mono));
            format!("pid {pid}, uptime {}", uptime(up))
        }
        ProcessState::Fatal | ProcessState::Backoff => process.spawn_error().map_or_else(
            || format!("unknown error (try \"tail {}\")", process.config().name),
            ToOwned::to_owned,
        ),
        ProcessState::Stopped | ProcessState::Exited => match (process.spawned_at(), process.ended_at()) {
            (Some(_), Some(at)) => date(at, zone),
            (Some(at), None) => date(at, zone),
            (None, _) => "Not started".to_owned(),
        },
        ProcessState::Starting => {
            process.waits_for().map_or_else(String::new, |what| format!("waiting for {what}"))
        }
        ProcessState::Stopping | ProcessState::Unknown => String::new(),
    }
}

/// As Python prints a `timedelta` of whole seconds: `0:03:12`, `1 day, 2:03:04`.
fn uptime(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, rest) = (seconds / 86400, seconds % 86400);
    let clock = format!("{}:{:02}:{:02}", rest / 3600, rest / 60 % 60, rest % 60);
    match days {
        0 => clock,
        1 => format!("1 day, {clock}"),
        days => format!("{days} days, {clock}"),
    }
}

fn date(at: Moment, zone: &TimeZone) -> String {
    let seconds = i64::try_from(at.unix.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds)
        .map(|time| time.to_zoned(zone.clone()).strftime("%b %d %I:%M %p").to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_is_printed_as_python_prints_it() {
        for (seconds, text) in [
            (0, "0:00:00"),
            (192, "0:03:12"),
            (86399, "23:59:59"),
            (93784, "1 day, 2:03:04"),
            (172_801, "2 days, 0:00:01"),
        ] {
            assert_eq!(uptime(Duration::from_secs(seconds)), text);
        }
    }
}
