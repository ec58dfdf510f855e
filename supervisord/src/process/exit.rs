//! How a Unix process ended.

use std::fmt;

use nix::sys::signal::Signal;

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By `exit(2)` with this status.
    Code(u8),
    /// By this signal.
    Signal {
        /// Its number.
        signal: i32,
        /// Whether it left a core file.
        core_dumped: bool,
    },
}

impl Exit {
    /// The exit status as Supervisor reports it: −1 when a signal ended the process.
    pub fn status(self) -> i32 {
        match self {
            Self::Code(code) => i32::from(code),
            Self::Signal { .. } => -1,
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

/// Supervisor's words: `exit status 3`, `terminated by SIGSEGV (core dumped)`.
impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Code(code) => write!(f, "exit status {code}"),
            Self::Signal { signal, core_dumped } => {
                match Signal::try_from(signal) {
                    Ok(signal) => write!(f, "terminated by {signal}")?,
                    Err(_) => write!(f, "terminated by signal {signal}")?,
                }
                if core_dumped { f.write_str(" (core dumped)") } else { Ok(()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_supervisors_words() {
        let killed = |signal, core_dumped| Exit::Signal { signal, core_dumped }.to_string();
        assert_eq!(Exit::Code(3).to_string(), "exit status 3");
        assert_eq!(killed(libc::SIGSEGV, true), "terminated by SIGSEGV (core dumped)");
        assert_eq!(killed(libc::SIGTERM, false), "terminated by SIGTERM");
        assert_eq!(killed(40, false), "terminated by signal 40");
    }
}
