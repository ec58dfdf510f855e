//! `reload`.

use serde_json::json;
use supervisor_proto::v1::ReloadRequest;

use super::{Verb, confirm, refuse_arguments};
use crate::{client::Failure, render::Plain, session::Session};

/// Stops everything, reads the configuration again and starts anew.
pub(super) async fn run(session: &mut Session, arg: &str) -> Result<(), Failure> {
    if refuse_arguments(session, Verb::Reload, arg)
        || !confirm(session, "Really restart the remote supervisord process y/N? ").await
    {
        return Ok(());
    }
    session.rpc().await?.reload(ReloadRequest {}).await?;
    session.say(&Plain::new("Restarted supervisord", json!({"result": "Restarted supervisord"})));
    Ok(())
}
