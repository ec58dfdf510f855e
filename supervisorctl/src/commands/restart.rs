//! `restart`.

use super::{
    Verb,
    operate::{self, Order},
};
use crate::{
    client::Failure,
    render::{Plain, exit},
    session::Session,
};

/// Stops processes, all of them before the first starts again. As in Supervisor these are two commands on the same
/// names, so that what did not run is started too, and the lines come in the same order.
pub(super) async fn run(session: &mut Session, arg: &str) -> Result<(), Failure> {
    if arg.is_empty() {
        session.say(&Plain::misuse(Verb::Restart, "restart requires a process name", exit::GENERIC));
        return Ok(());
    }
    operate::run(session, Order::Stop, arg).await?;
    operate::run(session, Order::Start, arg).await
}
