//! `signal`.

use super::{
    Verb,
    operate::{self, Order},
};
use crate::{
    client::Failure,
    render::{Plain, exit},
    session::Session,
};

/// Sends a signal to processes.
pub(super) async fn run(session: &mut Session, arg: &str) -> Result<(), Failure> {
    match arg.split_once(char::is_whitespace) {
        Some((signal, names)) => operate::run(session, Order::Signal(signal), names).await,
        None => {
            let message = "signal requires a signal name and a process name";
            session.say(&Plain::misuse(Verb::Signal, message, exit::GENERIC));
            Ok(())
        }
    }
}
