//! `help`.

use serde_json::json;

use super::Verb;
use crate::{help, render::Plain, session::Session};

/// Lists the commands, or explains one. That there is no help on a topic is no failure.
pub(super) fn run(session: &mut Session, arg: &str) {
    let text = match (arg, Verb::from_name(arg).map(help::topic)) {
        ("", _) => help::TABLE.to_owned(),
        (_, Some(text)) if !text.is_empty() => text.to_owned(),
        (topic, Some(_) | None) => format!("*** No help on {topic}"),
    };
    session.say(&Plain::new(text.clone(), json!({"help": text})));
}
