//! How a child ended, and Supervisor's words for it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Exit {
    /// It called `exit`.
    Code(u8),
    /// A signal ended it.
    Signal {
        /// The signal's number.
        signal: i32,
        /// Whether the kernel wrote a core file.
        core_dumped: bool,
    },
    /// It was not our child, and nobody could tell.
    Unknown,
}

impl Exit {
    /// How the status that `wait` tells (`waitpid`'s, not `waitid`'s) is read.
    pub fn from_wait_status(status: i32) -> Self {
        match status & 0x7f {
            0 => Self::Code(((status >> 8) & 0xff) as u8),
            signal => Self::Signal { signal, core_dumped: status & 0x80 != 0 },
        }
    }

    /// Supervisor's `exitstatus`: the code, or -1 after a signal and where the code is not known.
    pub fn status(self) -> i32 {
        match self {
            Self::Code(code) => i32::from(code),
            Self::Signal { .. } | Self::Unknown => -1,
        }
    }

    /// Whether `exitcodes` says that it was to be expected. The end by a signal never is.
    pub fn is_expected_by(self, exitcodes: &[u8]) -> bool {
        match self {
            Self::Code(code) => exitcodes.contains(&code),
            Self::Signal { .. } | Self::Unknown => false,
        }
    }

    /// The signal that ended it, if one did.
    pub fn signal(self) -> Option<i32> {
        match self {
            Self::Code(_) | Self::Unknown => None,
            Self::Signal { signal, .. } => Some(signal),
        }
    }
}

/// Supervisor's words, as in its log.
impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Unknown => f.write_str("exit status unknown"),
            Self::Signal { signal, core_dumped } => {
                f.write_str("terminated by ")?;
                match signal_name(signal) {
                    Some(name) => f.write_str(name)?,
                    None => write!(f, "signal {signal}")?,
                }
                f.write_str(if core_dumped { " (core dumped)" } else { "" })
            }
        }
    }
}

/// The name of a signal, where it has one; of the real-time signals only the first and the last do.
pub fn signal_name(signal: i32) -> Option<&'static str> {
    let index = usize::try_from(signal).ok()?.checked_sub(1)?;
    match signal {
        34 => Some("SIGRTMIN"),
        64 => Some("SIGRTMAX"),
        _ => NAMES.get(index).copied(),
    }
}

/// From 1 on; 29 is SIGIO too. The same on x86-64 and aarch64.
const NAMES: [&str; 31] = [
    "SIGHUP",
    "SIGINT",
    "SIGQUIT",
    "SIGILL",
    "SIGTRAP",
    "SIGABRT",
    "SIGBUS",
    "SIGFPE",
    "SIGKILL",
    "SIGUSR1",
    "SIGSEGV",
    "SIGUSR2",
    "SIGPIPE",
    "SIGALRM",
    "SIGTERM",
    "SIGSTKFLT",
    "SIGCHLD",
    "SIGCONT",
    "SIGSTOP",
    "SIGTSTP",
    "SIGTTIN",
    "SIGTTOU",
    "SIGURG",
    "SIGXCPU",
    "SIGXFSZ",
    "SIGVTALRM",
    "SIGPROF",
    "SIGWINCH",
    "SIGPOLL",
    "SIGPWR",
    "SIGSYS",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_is_the_code_or_minus_one() {
        assert_eq!(Exit::Code(0).status(), 0);
        assert_eq!(Exit::Code(255).status(), 255);
        assert_eq!(Exit::Signal { signal: 9, core_dumped: false }.status(), -1);
        assert_eq!(Exit::Unknown.status(), -1);
    }

    #[test]
    fn status_of_wait_is_taken_apart() {
        assert_eq!(Exit::from_wait_status(0), Exit::Code(0));
        assert_eq!(Exit::from_wait_status(1792), Exit::Code(7));
        assert_eq!(Exit::from_wait_status(9), Exit::Signal { signal: 9, core_dumped: false });
        assert_eq!(Exit::from_wait_status(139), Exit::Signal { signal: 11, core_dumped: true });
    }

    #[test]
    fn words_are_those_of_supervisor() {
        assert_eq!(Exit::Code(7).to_string(), "exit status 7");
        let by = |signal, core_dumped| Exit::Signal { signal, core_dumped }.to_string();
        assert_eq!(by(libc::SIGKILL, false), "terminated by SIGKILL");
        assert_eq!(by(libc::SIGSEGV, true), "terminated by SIGSEGV (core dumped)");
        assert_eq!(by(libc::SIGIO, false), "terminated by SIGPOLL");
        assert_eq!(by(libc::SIGSYS, false), "terminated by SIGSYS");
        assert_eq!(by(32, false), "terminated by signal 32");
        assert_eq!(by(34, false), "terminated by SIGRTMIN");
        assert_eq!(by(35, false), "terminated by signal 35");
        assert_eq!(by(64, false), "terminated by SIGRTMAX");
        assert_eq!(by(0, false), "terminated by signal 0");
    }
}
