//! `remove`.

use serde_json::json;
use supervisor_proto::v1::{GroupRequest, Reason};

use crate::{
    client::Failure,
    render::{Plain, exit, reason_name},
    session::Session,
};

/// Forgets groups whose processes are stopped.
pub(super) async fn run(session: &mut Session, arg: &str) -> Result<(), Failure> {
    session.begin_list();
    for name in arg.split_whitespace() {
        let mut rpc = session.rpc().await?;
        match rpc.remove_group(GroupRequest { group: name.to_owned() }).await.map_err(Failure::from) {
            Ok(_) => session.say(&Plain::new(
                format!("{name}: removed process group"),
                json!({"group": name, "result": "removed"}),
            )),
            Err(Failure::Refused { reason, message }) => {
                let Some(text) = words(reason, name) else {
                    return Err(Failure::Refused { reason, message });
                };
                let line = format!("ERROR: {text}");
                session.say(&Plain::error(line, reason_name(reason), &text, Some(exit::GENERIC)));
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

/// What Supervisor says about a refusal.
fn words(reason: Reason, name: &str) -> Option<String> {
    match reason {
        Reason::StillRunning => Some(format!("process/group still running: {name}")),
        Reason::BadName | Reason::BadGroup => Some(format!("no such process/group: {name}")),
        _unexpected => None,
    }
}
