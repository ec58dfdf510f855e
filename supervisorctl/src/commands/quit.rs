//! `quit`, `exit` and the end of the input.

use super::Flow;
use crate::{render::Format, session::Session};

/// Leaves the shell, after an empty line.
pub(super) fn run(session: &mut Session) -> Flow {
    if session.format == Format::Text {
        session.print("");
    }
    Flow::Quit
}
