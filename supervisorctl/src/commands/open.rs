//! `open`.

use super::{Verb, status};
use crate::{
    client::Failure,
    render::{Plain, exit},
    session::Session,
};

/// Turns to another daemon and shows its processes, whose states do not count for the exit status.
pub(super) async fn run(session: &mut Session, arg: &str) -> Result<(), Failure> {
    if !arg.starts_with("unix:") && !arg.starts_with("http:") {
        let message = "url must be http:// or unix://";
        session.say(&Plain::error(format!("ERROR: {message}"), "USAGE", message, Some(exit::GENERIC)));
        return Ok(());
    }
    session.open(arg.to_owned());
    let before = session.exit_status();
    let shown = match status::run(session, "").await {
        // What it shows is the status, also where there is none.
        Err(problem @ Failure::Connect(_)) => {
            super::tell(session, Verb::Status, &problem);
            Ok(())
        }
        shown => shown,
    };
    session.restore_exit_status(before);
    shown
}
