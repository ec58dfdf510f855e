//! How a child ended, and Supervisor's words for it.

use std::fmt;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
}

impl Exit {
    /// Supervisor's `exitstatus`: the code, or -1 after a signal.
    pub fn status(self) -> i32 {
        match self {
            Self::Code(code) => i32::from(code),
            Self::Signal { .. } => -1,
        }
    }

    /// Whether `exitcodes` says that it was to be expected. The end by a signal never is.
    pub fn is_expected_by(self, exitcodes: &[u8]) -> bool {
        match self {
            Self::Code(code) => exitcodes.contains(&code),
            Self::Signal { .. } => false,
        }
    }

    /// The signal that ended it, if one did.
    pub fn signal(self) -> Option<i32> {
        match self {
            Self::Code(_) => None,
            Self::Signal { signal, .. } => Some(signal),
        }
    }
}

/// Supervisor's words, as in its log.
impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exit status {code}"),
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
