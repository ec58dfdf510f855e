//! What happened to a process, in the words of Supervisor's log.

use std::fmt;

use super::{Exit, Pid};
use crate::config::{LogLevel, StopSignal};

/// One remarkable step in the life of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A child exists.
    Spawned(Pid),
    /// No child could be made, and why.
    SpawnFailed(String),
    /// It stayed up for `startsecs` (whole seconds).
    Up(u64),
    /// It ended by itself.
    Exited {
        /// How.
        exit: Exit,
        /// Whether the exit status is one of `exitcodes` and it had been up.
        expected: bool,
    },
    /// It ended after a stop was asked for.
    Stopped {
        /// How.
        exit: Exit,
        /// Whether the exit status is one of `exitcodes`.
        expected: bool,
    },
    /// It is started because this program depends on it.
    NeededBy(String),
    /// Its start waits for another program, and which.
    Waiting(String),
    /// It is not started for want of another program, and which.
    HeldBack(String),
    /// It will not be tried any more.
    GaveUp,
    /// A signal is about to be sent.
    Killing {
        /// To whom.
        pid: Pid,
        /// Whether the whole process group gets it.
        group: bool,
        /// Which.
        signal: StopSignal,
    },
    /// The stop signal did not help within `stopwaitsecs`.
    KillingHard(Pid),
    /// A stop was asked for while it waited for its next try.
    StoppedWaiting,
    /// A start was asked for while a child exists.
    AlreadyRunning,
    /// Processes that it left behind are being ended, because its replacement or a stop waits for them.
    EndingLeftovers(Option<StopReach>),
    /// They did not end in time and get SIGKILL.
    KillingLeftovers,
    /// They are still there after SIGKILL; they are no longer waited for.
    LeftoversRemain,
}

/// Whom the stop signal of a stop under way was sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReach {
    /// The main process: what outlives it was not asked to end.
    Leader,
    /// The whole group: what outlives the main process is about to end.
    Group,
}

impl Note {
    /// How important it is.
    pub fn level(&self) -> LogLevel {
        match self {
            Self::Spawned(_)
            | Self::SpawnFailed(_)
            | Self::Up(_)
            | Self::Waiting(_)
            | Self::NeededBy(_)
            | Self::GaveUp => LogLevel::Info,
            Self::Exited { expected: true, .. } | Self::Stopped { expected: true, .. } => LogLevel::Info,
            Self::Exited { expected: false, .. } | Self::Stopped { expected: false, .. } => LogLevel::Warn,
            Self::KillingHard(_) | Self::AlreadyRunning | Self::HeldBack(_) => LogLevel::Warn,
            Self::EndingLeftovers(None) | Self::KillingLeftovers | Self::LeftoversRemain => LogLevel::Warn,
            Self::EndingLeftovers(Some(StopReach::Leader)) => LogLevel::Info,
            Self::EndingLeftovers(Some(StopReach::Group)) => LogLevel::Debug,
            Self::Killing { .. } | Self::StoppedWaiting => LogLevel::Debug,
        }
    }

    /// The line for the log, about the process of this name.
    pub fn about<'a>(&'a self, name: &'a str) -> impl fmt::Display + 'a {
        Line { note: self, name }
    }
}

struct Line<'a> {
    note: &'a Note,
    name: &'a str,
}

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name;
        match self.note {
            Note::Spawned(pid) => write!(f, "spawned: '{name}' with pid {pid}"),
            Note::SpawnFailed(problem) => write!(f, "spawnerr: {problem}"),
            Note::Up(seconds) => write!(
                f,
                "success: {name} entered RUNNING state, process has stayed up for > than {seconds} seconds (startsecs)"
            ),
            Note::Exited { exit, expected: true } => write!(f, "exited: {name} ({exit}; expected)"),
            Note::Exited { exit, expected: false } => write!(f, "exited: {name} ({exit}; not expected)"),
            Note::Stopped { exit, .. } => write!(f, "stopped: {name} ({exit})"),
            Note::NeededBy(other) => write!(f, "{name} is started too, because {other} depends on it"),
            Note::Waiting(what) => write!(f, "{name} starts later: waiting for {what}"),
            Note::HeldBack(problem) => {
                write!(f, "held back: {name} entered FATAL state until it can be started: {problem}")
            }
            Note::GaveUp => {
                write!(f, "gave up: {name} entered FATAL state, too many start retries too quickly")
            }
            Note::Killing { pid, group, signal } => {
                let group = if *group { "process group " } else { "" };
                write!(f, "killing {name} (pid {pid}) {group}with signal {}", signal.name())
            }
            Note::KillingHard(pid) => write!(f, "killing '{name}' ({pid}) with SIGKILL"),
            Note::StoppedWaiting => write!(f, "Attempted to kill {name}, which is in BACKOFF state."),
            Note::AlreadyRunning => write!(f, "process '{name}' already running"),
            Note::EndingLeftovers(_) => write!(f, "ending the processes that '{name}' left behind"),
            Note::KillingLeftovers => {
                write!(f, "killing the processes that '{name}' left behind with SIGKILL")
            }
            Note::LeftoversRemain => {
                write!(f, "processes that '{name}' left behind survive SIGKILL; going on without")
            }
        }
    }
}
