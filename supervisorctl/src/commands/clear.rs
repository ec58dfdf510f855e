//! `clear`.

use super::operate::{self, Order};
use crate::{client::Failure, session::Session};

/// Empties the logs of processes.
pub(super) async fn run(session: &mut Session, arg: &str) -> Result<(), Failure> {
    operate::run(session, Order::Clear, arg).await
}
