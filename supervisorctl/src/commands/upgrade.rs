//! `upgrade`: replaces the daemon by its binary as it is now on disk; programs go on. `reload --keep` shares it.

use std::time::Duration;

use serde_json::json;
use supervisor_proto::v1::{DaemonInfo, GetInfoRequest, Reason, UpgradeReply, UpgradeRequest};

use super::{Verb, refuse_arguments};
use crate::{
    client::{Broken, Failure},
    render::{Plain, exit, reason_name},
    session::Session,
};

/// How often, and after which pause, the new daemon is looked for.
const ATTEMPTS: u32 = 3000;
const PAUSE: Duration = Duration::from_millis(10);

/// Replaces the daemon in place.
pub(super) async fn run(session: &mut Session, arg: &str) -> Result<(), Failure> {
    if refuse_arguments(session, Verb::Upgrade, arg) {
        return Ok(());
    }
    replace(session, false, |reply| {
        format!("Upgraded supervisord (pid {}, {} → {})", reply.pid, reply.from_version, reply.to_version)
    })
    .await
}

/// Replaces the daemon in place and waits until the new one answers; then says `words`.
pub(super) async fn replace(
    session: &mut Session,
    apply_configuration: bool,
    words: impl FnOnce(&UpgradeReply) -> String,
) -> Result<(), Failure> {
    let reply = match session.rpc().await?.upgrade(UpgradeRequest { apply_configuration }).await {
        Ok(reply) => reply.into_inner(),
        Err(status) => match Failure::from(status) {
            Failure::Refused { reason: Reason::Failed, message } => {
                refuse(session, &message);
                return Ok(());
            }
            failure => return Err(failure),
        },
    };
    let info = successor(session, reply.generation).await?;
    if info.generation < reply.generation {
        refuse(session, &info.upgrade_problem);
        return Ok(());
    }
    let json = json!({
        "result": "upgraded",
        "pid": reply.pid,
        "from_version": reply.from_version,
        "to_version": info.version,
        "generation": info.generation,
    });
    session.say(&Plain::new(words(&reply), json));
    Ok(())
}

/// The daemon of this generation, as soon as it answers; the one before if that had to go on.
async fn successor(session: &mut Session, generation: u32) -> Result<DaemonInfo, Failure> {
    let mut last = Failure::Broken(Broken::Lost("the new supervisord does not answer".to_owned()));
    for _ in 0..ATTEMPTS {
        session.disconnect();
        match info(session).await {
            Ok(info) if info.generation >= generation || !info.upgrade_problem.is_empty() => return Ok(info),
            Ok(_old) => {}
            Err(failure) => last = failure,
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(last)
}

async fn info(session: &mut Session) -> Result<DaemonInfo, Failure> {
    Ok(session.rpc().await?.get_info(GetInfoRequest {}).await?.into_inner())
}

/// Says why the old daemon goes on.
fn refuse(session: &mut Session, problem: &str) {
    let text = format!("ERROR: not upgraded: {problem}");
    session.say(&Plain::error(text, reason_name(Reason::Failed), problem, Some(exit::GENERIC)));
}
