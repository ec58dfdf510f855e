//! Events: what happened, for those who subscribe to it.
//!
//! Pure. Owns the types of events, their exact payloads and envelope ([`Event`]), the pools of listeners with their
//! buffers ([`Pools`]), what a listener says on its stdout ([`Listener`]) and when a tick is due ([`Ticks`]). Names and
//! words are Supervisor's; the differences are in COMPATIBILITY.md. The driver raises events and moves the bytes.

mod handler;
mod kind;
mod listener;
mod pool;
#[cfg(test)]
mod tests;
mod tick;

use std::fmt::Write as _;

pub use kind::EventType;
pub use listener::{Expected, Heard, Listener, ListenerState, Violation};
pub use pool::{Buffering, CarriedListener, CarriedPool, Delivery, News, PoolSettings, Pools};
pub use tick::{Period, Ticks};

use crate::{process::ProcessState, request::Channel};

/// Names a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessName {
    /// Within its group.
    pub name: String,
    /// Its group.
    pub group: String,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A process has changed its state. The values are those of that moment.
    ProcessState {
        /// Which.
        process: ProcessName,
        /// Before.
        from: ProcessState,
        /// After.
        to: ProcessState,
        /// Consecutive failed starts.
        tries: u32,
        /// The child that this is about; 0 if there is none.
        pid: i32,
        /// Whether an exit was expected.
        expected: bool,
    },
    /// A process whose output is published has written something.
    ProcessLog {
        /// Which.
        process: ProcessName,
        /// Its child.
        pid: i32,
        /// Where it wrote.
        channel: Channel,
        /// What.
        data: Vec<u8>,
    },
    /// A process has sent a message between the tokens of capture mode.
    ProcessCommunication {
        /// Which.
        process: ProcessName,
        /// Its child.
        pid: i32,
        /// Where it wrote.
        channel: Channel,
        /// What.
        data: Vec<u8>,
    },
    /// A client has sent a message.
    RemoteCommunication {
        /// What the client calls it.
        kind: String,
        /// What it says.
        data: String,
    },
    /// The daemon supervises.
    SupervisorRunning,
    /// The daemon begins to stop everything.
    SupervisorStopping,
    /// So many seconds have passed on the wall clock.
    Tick {
        /// How many.
        period: Period,
        /// Seconds since 1970-01-01 UTC, a multiple of the period.
        when: u64,
    },
    /// A group is active.
    GroupAdded(String),
    /// A group is active no more.
    GroupRemoved(String),
}

impl Event {
    /// Its type.
    pub fn kind(&self) -> EventType {
        match self {
            Self::ProcessState { to, .. } => match to {
                ProcessState::Stopped => EventType::ProcessStateStopped,
                ProcessState::Starting => EventType::ProcessStateStarting,
                ProcessState::Running => EventType::ProcessStateRunning,
                ProcessState::Backoff => EventType::ProcessStateBackoff,
                ProcessState::Stopping => EventType::ProcessStateStopping,
                ProcessState::Exited => EventType::ProcessStateExited,
                ProcessState::Fatal => EventType::ProcessStateFatal,
                ProcessState::Unknown => EventType::ProcessStateUnknown,
            },
            Self::ProcessLog { channel: Channel::Stdout, .. } => EventType::ProcessLogStdout,
            Self::ProcessLog { channel: Channel::Stderr, .. } => EventType::ProcessLogStderr,
            Self::ProcessCommunication { channel: Channel::Stdout, .. } => {
                EventType::ProcessCommunicationStdout
            }
            Self::ProcessCommunication { channel: Channel::Stderr, .. } => {
                EventType::ProcessCommunicationStderr
            }
            Self::RemoteCommunication { .. } => EventType::RemoteCommunication,
            Self::SupervisorRunning => EventType::SupervisorStateChangeRunning,
            Self::SupervisorStopping => EventType::SupervisorStateChangeStopping,
            Self::Tick { period, .. } => period.event_type(),
            Self::GroupAdded(_) => EventType::ProcessGroupAdded,
            Self::GroupRemoved(_) => EventType::ProcessGroupRemoved,
        }
    }

    /// What a listener finds behind the header.
    pub fn payload(&self) -> String {
        match self {
            Self::ProcessState { process, from, to, tries, pid, expected } => {
                let mut text = format!("{} from_state:{from}", head(process));
                // Writing to a string cannot fail.
                let _ = match to {
                    ProcessState::Starting | ProcessState::Backoff => write!(text, " tries:{tries}"),
                    ProcessState::Running | ProcessState::Stopping | ProcessState::Stopped => {
                        write!(text, " pid:{pid}")
                    }
                    ProcessState::Exited => write!(text, " expected:{} pid:{pid}", u8::from(*expected)),
                    ProcessState::Fatal | ProcessState::Unknown => Ok(()),
                };
                text
            }
            Self::ProcessLog { process, pid, channel, data } => {
                let channel = match channel {
                    Channel::Stdout => "stdout",
                    Channel::Stderr => "stderr",
                };
                format!("{} pid:{pid} channel:{channel}\n{}", head(process), text_of(data))
            }
            Self::ProcessCommunication { process, pid, data, .. } => {
                format!("{} pid:{pid}\n{}", head(process), text_of(data))
            }
            Self::RemoteCommunication { kind, data } => format!("type:{kind}\n{data}"),
            Self::SupervisorRunning | Self::SupervisorStopping => String::new(),
            Self::Tick { when, .. } => format!("when:{when}"),
            // The line end is Supervisor's, though its documentation omits it.
            Self::GroupAdded(group) | Self::GroupRemoved(group) => format!("groupname:{group}\n"),
        }
    }
}

/// What `len` counts of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// As Supervisor's documentation says.
    Bytes,
    /// As Supervisor does: whatever Python takes for one, a Unicode code point.
    Characters,
    /// What the strings of Java and JavaScript consist of: a character beyond U+FFFF is two of them.
    Utf16,
}

/// What precedes a payload on a listener's stdin.
#[derive(Debug, Clone, Copy)]
pub struct Envelope<'a> {
    /// Key `identifier` of the daemon.
    pub server: &'a str,
    /// Number of the event among all that anybody subscribed to.
    pub serial: u64,
    /// Name of the pool.
    pub pool: &'a str,
    /// Number of the event within the pool.
    pub poolserial: u64,
    /// Its type.
    pub kind: EventType,
}

impl Envelope<'_> {
    /// Header and payload.
    pub fn around(self, payload: &str, counted: Counted) -> Vec<u8> {
        let Self { server, serial, pool, poolserial, kind } = self;
        let length = match counted {
            Counted::Bytes => payload.len(),
            Counted::Characters => payload.chars().count(),
            Counted::Utf16 => payload.encode_utf16().count(),
        };
        format!(
            "ver:3.0 server:{server} serial:{serial} pool:{pool} poolserial:{poolserial} eventname:{kind} \
             len:{length}\n{payload}"
        )
        .into_bytes()
    }
}

fn head(process: &ProcessName) -> String {
    format!("processname:{} groupname:{}", process.name, process.group)
}

/// Output as text; what is no UTF-8 as Supervisor writes it: `Undecodable: b'\xff'`.
fn text_of(data: &[u8]) -> String {
    std::str::from_utf8(data).map_or_else(|_| format!("Undecodable: {}", bytes_repr(data)), ToOwned::to_owned)
}

/// As Python's `repr` of bytes.
fn bytes_repr(data: &[u8]) -> String {
    let quote = if data.contains(&b'\'') && !data.contains(&b'"') { b'"' } else { b'\'' };
    let mut text = String::from("b");
    text.push(char::from(quote));
    for &byte in data {
        match byte {
            b'\t' => text.push_str("\\t"),
            b'\n' => text.push_str("\\n"),
            b'\r' => text.push_str("\\r"),
            b'\\' => text.push_str("\\\\"),
            _ if byte == quote => text.extend(['\\', char::from(byte)]),
            b' '..=b'~' => text.push(char::from(byte)),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(text, "\\x{byte:02x}");
            }
        }
    }
    text.push(char::from(quote));
    text
}
