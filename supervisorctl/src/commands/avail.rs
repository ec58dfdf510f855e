//! `avail`.

use supervisor_proto::v1::ListConfigurationRequest;

use super::{Verb, refuse_arguments};
use crate::{client::Failure, session::Session};

/// Shows every process of the configuration.
pub(super) async fn run(session: &mut Session, arg: &str) -> Result<(), Failure> {
    if refuse_arguments(session, Verb::Avail, arg) {
        return Ok(());
    }
    let reply = session.rpc().await?.list_configuration(ListConfigurationRequest {}).await?.into_inner();
    session.begin_list();
    for process in &reply.processes {
        session.say(process);
    }
    Ok(())
}
