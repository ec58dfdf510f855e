//! Signals to the daemon, as a stream of typed requests.
//!
//! Owns the handlers. What a signal leads to is decided by the driver; the only reaper is in `os`.
//!
//! SIGPIPE is ignored by Rust's start-up code, and every other signal keeps its default action. The handlers are
//! explicit, so they also work for a daemon that is process 1, where the kernel drops signals without a handler.

use std::{
    fmt, io,
    pin::pin,
    task::{Context, Poll, Waker},
};

use nix::sys::signal::{SigSet, Signal as Number};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks the daemon to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonSignal {
    /// Stop everything and end: TERM, INT, QUIT.
    Terminate(Termination),
    /// Read the configuration again and start anew: HUP.
    Hangup,
    /// Execute the binary anew, in place: USR1. Supervisor dies of it.
    Upgrade,
    /// Close and open all log files: USR2.
    ReopenLogs,
    /// A child changed state: CHLD. Several deaths may be one signal.
    ChildExited,
}

/// Which signal asked the daemon to end; displayed as its name, for example `SIGTERM`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Termination {
    /// SIGTERM
    Term,
    /// SIGINT
    Int,
    /// SIGQUIT
    Quit,
}

impl fmt::Display for Termination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Term => "SIGTERM",
            Self::Int => "SIGINT",
            Self::Quit => "SIGQUIT",
        })
    }
}

/// The stream of signals. Handlers stay installed for the life of the process.
#[derive(Debug)]
pub struct Signals {
    term: Signal,
    int: Signal,
    quit: Signal,
    hangup: Signal,
    child: Signal,
    reopen: Signal,
    upgrade: Signal,
    /// Whether SIGCHLD is kept waiting.
    holds_child_exits: bool,
}

impl DaemonSignal {
    /// The number of a signal that asks for this.
    pub fn number(self) -> i32 {
        match self {
            Self::Terminate(Termination::Term) => nix::libc::SIGTERM,
            Self::Terminate(Termination::Int) => nix::libc::SIGINT,
            Self::Terminate(Termination::Quit) => nix::libc::SIGQUIT,
            Self::Hangup => nix::libc::SIGHUP,
            Self::Upgrade => nix::libc::SIGUSR1,
            Self::ReopenLogs => nix::libc::SIGUSR2,
            Self::ChildExited => nix::libc::SIGCHLD,
        }
    }
}

impl Signals {
    /// Installs the handlers; needs a running runtime.
    ///
    /// # Errors
    /// What `sigaction` reports.
    pub fn install() -> io::Result<Self> {
        // Its default would end the daemon when a log outgrows the limit of file sizes; the write fails all the same.
        drop(signal(SignalKind::from_raw(nix::libc::SIGXFSZ))?);
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
            hangup: signal(SignalKind::hangup())?,
            child: signal(SignalKind::child())?,
            reopen: signal(SignalKind::user_defined2())?,
            upgrade: signal(SignalKind::user_defined1())?,
            holds_child_exits: false,
        })
    }

    /// Keeps SIGCHLD waiting, or lets it come: for who knows that more children have ended, each one is no news, and costs
    /// more than to reap its child. To be called by the thread of the daemon.
    pub fn hold_child_exits(&mut self, hold: bool) {
        if hold != self.holds_child_exits {
            self.holds_child_exits = hold;
            let set = SigSet::from(Number::SIGCHLD);
            // Only a wrong number would be refused; and that a signal comes does no harm.
            let _ = if hold { set.thread_block() } else { set.thread_unblock() };
        }
    }

    /// A signal that has come and was not yet returned.
    pub fn take_waiting(&mut self) -> Option<DaemonSignal> {
        let mut context = Context::from_waker(Waker::noop());
        match pin!(self.next()).poll(&mut context) {
            Poll::Ready(signal) => Some(signal),
            Poll::Pending => None,
        }
    }

    /// The next signal. Equal signals that came while nobody waited are one.
    ///
    /// Cancel-safe: a signal is taken only by the call that returns it.
    pub async fn next(&mut self) -> DaemonSignal {
        // Each branch is cancel-safe (`Signal::recv`). Biased, so that an exit request is never starved by
        // a storm of children.
        tokio::select! {
            biased;
            _ = self.term.recv() => DaemonSignal::Terminate(Termination::Term),
            _ = self.int.recv() => DaemonSignal::Terminate(Termination::Int),
            _ = self.quit.recv() => DaemonSignal::Terminate(Termination::Quit),
            _ = self.hangup.recv() => DaemonSignal::Hangup,
            _ = self.reopen.recv() => DaemonSignal::ReopenLogs,
            _ = self.child.recv() => DaemonSignal::ChildExited,
            _ = self.upgrade.recv() => DaemonSignal::Upgrade,
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::raise;

    use super::*;

    /// One test, because handlers and signals belong to the whole process.
    #[tokio::test]
    async fn every_signal_becomes_its_request_and_none_is_lost() {
        let mut signals = Signals::install().unwrap();
        let table = [
            (Number::SIGTERM, DaemonSignal::Terminate(Termination::Term)),
            (Number::SIGINT, DaemonSignal::Terminate(Termination::Int)),
            (Number::SIGQUIT, DaemonSignal::Terminate(Termination::Quit)),
            (Number::SIGHUP, DaemonSignal::Hangup),
            (Number::SIGUSR2, DaemonSignal::ReopenLogs),
            (Number::SIGUSR1, DaemonSignal::Upgrade),
        ];
        for (number, expected) in table {
            raise(number).unwrap();
            // The harness and other tests may have children: their signal is not the subject here.
            let received = loop {
                match signals.next().await {
                    DaemonSignal::ChildExited => {}
                    other => break other,
                }
            };
            assert_eq!(received, expected);
        }
        raise(Number::SIGCHLD).unwrap();
        assert_eq!(signals.next().await, DaemonSignal::ChildExited);
        signals.hold_child_exits(true);
        raise(Number::SIGCHLD).unwrap();
        let is_held = || SigSet::thread_get_mask().unwrap().contains(Number::SIGCHLD);
        assert!(is_held());
        signals.hold_child_exits(false);
        assert!(!is_held());
        assert_eq!(signals.next().await, DaemonSignal::ChildExited, "it has waited");
    }

    #[test]
    fn termination_is_displayed_by_name() {
        assert_eq!(Termination::Quit.to_string(), "SIGQUIT");
    }
}
