//! `reopen`, which Supervisor offers as a signal only.

use serde_json::json;
use supervisor_proto::v1::ReopenLogsRequest;

use super::{Verb, refuse_arguments};
use crate::{client::Failure, render::Plain, session::Session};

/// Closes and opens all log files again.
pub(super) async fn run(session: &mut Session, arg: &str) -> Result<(), Failure> {
    if !refuse_arguments(session, Verb::Reopen, arg) {
        session.rpc().await?.reopen_logs(ReopenLogsRequest {}).await?;
        session.say(&Plain::new("Reopened logs", json!({"result": "Reopened logs"})));
    }
    Ok(())
}
