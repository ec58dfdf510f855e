//! `maintail`.

use supervisor_proto::v1::LogSource;

use super::{
    Verb,
    tail::{Extent, Log, USUAL, show},
};
use crate::{
    client::Failure,
    render::{Plain, exit},
    session::Session,
};

/// Shows the end of the daemon's own log.
pub(super) async fn run(session: &mut Session, arg: &str) -> Result<(), Failure> {
    let words: Vec<&str> = arg.split_whitespace().collect();
    let extent = match words.as_slice() {
        [] => Some(Extent::Last(USUAL)),
        [modifier] => Extent::parse(modifier),
        _several => {
            session.say(&Plain::misuse(Verb::Maintail, "too many arguments", exit::GENERIC));
            return Ok(());
        }
    };
    let Some(extent) = extent else {
        session.say(&Plain::mistake(&format!("bad argument {arg}"), exit::GENERIC));
        return Ok(());
    };
    let (subject, path) = ("supervisord".to_owned(), "/mainlogtail".to_owned());
    show(session, extent, Log { source: LogSource::default(), subject, path }).await
}
