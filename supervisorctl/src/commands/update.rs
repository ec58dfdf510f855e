//! `update`.

use supervisor_proto::v1::UpdateRequest;

use crate::{client::Failure, session::Session};

/// Makes the active groups equal to the configuration, telling each step as it is done.
pub(super) async fn run(session: &mut Session, arg: &str) -> Result<(), Failure> {
    let groups: Vec<String> = match arg.split_whitespace().any(|name| name == "all") {
        true => Vec::new(),
        false => arg.split_whitespace().map(str::to_owned).collect(),
    };
    let mut steps = session.rpc().await?.update(UpdateRequest { groups }).await?.into_inner();
    session.begin_list();
    while let Some(step) = steps.message().await? {
        session.say(&step);
        session.flush();
    }
    Ok(())
}
