//! Replies → text and exit status. Pure: nothing here reads, waits or prints.
//!
//! Each kind of thing that a command can say is an [`Item`]: its line is Supervisor's to the byte, its JSON is for
//! programs, and it tells the exit status that it stands for. The texts of failures are in [`failure()`].

mod configuration;
mod event;
mod failure;
mod operation;
mod status;

use serde_json::{Value, json};
use supervisor_proto::v1::{ProcessState, Reason};

pub use self::configuration::Change;
pub use self::event::EventLine;
pub use self::failure::failure;
pub use self::operation::{Done, Operation};
pub use self::status::{Details, Pid, Row, name_width};
use crate::commands::Verb;

/// Exit statuses, after the LSB conventions for init scripts that Supervisor follows.
pub mod exit {
    /// Everything was done.
    pub const OK: u8 = 0;
    /// Something failed.
    pub const GENERIC: u8 = 1;
    /// The command line is wrong.
    pub const INVALID_ARGS: u8 = 2;
    /// `status`: a process that was shown is not up.
    pub const STATUS_NOT_RUNNING: u8 = 3;
    /// The daemon refuses connections; `status`: unknown.
    pub const UNKNOWN: u8 = 4;
    /// A process is not up, or the daemon is not.
    pub const NOT_RUNNING: u8 = 7;
}

/// Form of the output.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Supervisor's lines.
    #[default]
    Text,
    /// One JSON value a command; one a line for what goes on (`watch`, `tail -f`).
    Json,
}

impl Format {
    /// `text` or `json`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _other => None,
        }
    }
}

/// One thing that a command says.
pub trait Item {
    /// For people: one line or several, without the last line's end.
    fn text(&self) -> String;
    /// For programs.
    fn json(&self) -> Value;
    /// The exit status that it stands for; `None` leaves it as it is.
    fn status(&self) -> Option<u8> {
        None
    }
}

/// An item that is made where it is said.
pub struct Plain {
    text: String,
    json: Value,
    status: Option<u8>,
}

impl Plain {
    /// A success.
    pub fn new(text: impl Into<String>, json: Value) -> Self {
        Self { text: text.into(), json, status: None }
    }

    /// An error: `text` is the whole line, `message` its sentence alone.
    pub fn error(text: impl Into<String>, reason: &str, message: &str, status: Option<u8>) -> Self {
        let json = json!({"error": {"reason": reason, "message": message}});
        Self { text: text.into(), json, status }
    }

    /// A command that was used wrongly, with its help.
    pub fn misuse(verb: Verb, message: &str, status: u8) -> Self {
        let text = format!("Error: {message}\n{}", crate::help::topic(verb));
        Self::error(text, "USAGE", message, Some(status))
    }

    /// A command that was used wrongly, without its help.
    pub fn mistake(message: &str, status: u8) -> Self {
        Self::error(format!("Error: {message}"), "USAGE", message, Some(status))
    }
}

impl Item for Plain {
    fn text(&self) -> String {
        self.text.clone()
    }

    fn json(&self) -> Value {
        self.json.clone()
    }

    fn status(&self) -> Option<u8> {
        self.status
    }
}

/// `name` → (name, name); `group:name` → (group, name); `group:` and `group:*` → (group, none).
pub fn split_namespec(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((group, "" | "*")) => (group, None),
        Some((group, name)) => (group, Some(name)),
        None => (text, Some(text)),
    }
}

/// How a process is called on the terminal.
pub fn namespec(group: &str, name: &str) -> String {
    if group == name { name.to_owned() } else { format!("{group}:{name}") }
}

/// How the process of a selector is called on the terminal; the group alone for a whole group.
fn display_selector(selector: &str) -> String {
    match split_namespec(selector) {
        (group, Some(name)) => namespec(group, name),
        (group, None) => group.to_owned(),
    }
}

/// The state's name without the prefix that the contract demands.
pub fn state_name(state: ProcessState) -> &'static str {
    strip(state.as_str_name(), "PROCESS_STATE_")
}

/// The reason's name without the prefix that the contract demands.
pub fn reason_name(reason: Reason) -> &'static str {
    strip(reason.as_str_name(), "REASON_")
}

fn strip(name: &'static str, prefix: &str) -> &'static str {
    name.strip_prefix(prefix).unwrap_or(name)
}
