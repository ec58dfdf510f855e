//! `add`.

use serde_json::json;
use supervisor_proto::v1::{GroupRequest, Reason};

use crate::{
    client::Failure,
    render::{Plain, exit, reason_name},
    session::Session,
};

/// Activates groups of the configuration.
pub(super) async fn run(session: &mut Session, arg: &str) -> Result<(), Failure> {
    session.begin_list();
    for name in arg.split_whitespace() {
        let mut rpc = session.rpc().await?;
        match rpc.add_group(GroupRequest { group: name.to_owned() }).await.map_err(Failure::from) {
            Ok(_) => session.say(&Plain::new(
                format!("{name}: added process group"),
                json!({"group": name, "result": "added"}),
            )),
            Err(Failure::Refused { reason, message }) => {
                let Some((text, status)) = words(reason, name) else {
                    return Err(Failure::Refused { reason, message });
                };
                session.say(&Plain::error(format!("ERROR: {text}"), reason_name(reason), &text, status));
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(())
}

/// What Supervisor says about a refusal, and the exit status.
fn words(reason: Reason, name: &str) -> Option<(String, Option<u8>)> {
    match reason {
        Reason::AlreadyAdded => Some(("process group already active".to_owned(), None)),
        Reason::BadName | Reason::BadGroup => {
            Some((format!("no such process/group: {name}"), Some(exit::GENERIC)))
        }
        Reason::ShuttingDown => Some(("shutting down".to_owned(), Some(exit::GENERIC))),
        _unexpected => None,
    }
}
