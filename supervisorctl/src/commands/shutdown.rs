//! `shutdown`.

use serde_json::json;
use supervisor_proto::v1::ShutdownRequest;

use super::{Verb, confirm, refuse_arguments};
use crate::{client::Failure, render::Plain, session::Session};

/// Ends the daemon and all processes.
pub(super) async fn run(session: &mut Session, arg: &str) -> Result<(), Failure> {
    if refuse_arguments(session, Verb::Shutdown, arg)
        || !confirm(session, "Really shut the remote supervisord process down y/N? ").await
    {
        return Ok(());
    }
    session.rpc().await?.shutdown(ShutdownRequest {}).await?;
    session.say(&Plain::new("Shut down", json!({"result": "Shut down"})));
    Ok(())
}
