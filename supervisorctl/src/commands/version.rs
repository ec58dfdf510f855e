//! `version`.

use serde_json::json;
use supervisor_proto::v1::GetInfoRequest;

use super::{Verb, refuse_arguments};
use crate::{client::Failure, render::Plain, session::Session};

/// Shows the version of Supervisor that the daemon behaves as: what tools parse.
pub(super) async fn run(session: &mut Session, arg: &str) -> Result<(), Failure> {
    if refuse_arguments(session, Verb::Version, arg) {
        return Ok(());
    }
    let info = session.rpc().await?.get_info(GetInfoRequest {}).await?.into_inner();
    let json = json!({
        "version": info.supervisor_version,
        "program_version": info.version,
        "api_version": info.api_version,
        "identifier": info.identifier,
    });
    session.say(&Plain::new(info.supervisor_version, json));
    Ok(())
}
