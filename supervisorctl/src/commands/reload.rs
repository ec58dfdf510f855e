//! `reload`.

use serde_json::json;
use supervisor_proto::v1::ReloadRequest;

use super::{Verb, confirm, refuse_arguments, upgrade::replace};
use crate::{client::Failure, render::Plain, session::Session};

/// The argument that keeps what need not be restarted.
const KEEP: &str = "--keep";

/// Stops everything, reads the configuration again and starts anew; with `--keep` everything of the daemon begins anew
/// and programs go on, but for those whose settings have changed.
pub(super) async fn run(session: &mut Session, arg: &str) -> Result<(), Failure> {
    if arg == KEEP {
        return replace(session, true, |reply| format!("Reloaded supervisord (pid {})", reply.pid)).await;
    }
    if refuse_arguments(session, Verb::Reload, arg)
        || !confirm(session, "Really restart the remote supervisord process y/N? ").await
    {
        return Ok(());
    }
    session.rpc().await?.reload(ReloadRequest {}).await?;
    session.say(&Plain::new("Restarted supervisord", json!({"result": "Restarted supervisord"})));
    Ok(())
}
