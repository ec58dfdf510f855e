//! `start`.

use super::operate::{self, Order};
use crate::{client::Failure, session::Session};

/// Starts processes.
pub(super) async fn run(session: &mut Session, arg: &str) -> Result<(), Failure> {
    operate::run(session, Order::Start, arg).await
}
