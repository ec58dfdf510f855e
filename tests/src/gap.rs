//! A time without a daemon, or with one that does not read yet: it was killed and is started anew, or it is just being
//! replaced in place. A test says what happens meanwhile.

use std::{fs, os::unix::fs::OpenOptionsExt as _};

use nix::sys::{signal::Signal, stat::Mode};

use crate::{Daemon, binary, kill, set_mode};

/// How one daemon follows another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gap {
    /// SIGKILL, then a new start.
    Crash,
    /// The next image is executed in place.
    Upgrade,
}

impl Gap {
    /// Both kinds, for tests of what holds for either.
    pub const ALL: [Self; 2] = [Self::Crash, Self::Upgrade];
}

impl Daemon {
    /// Starts the daemon so that [`Daemon::pass`] can be used.
    pub fn start_for_gap(config: &str) -> Self {
        let mut daemon = Self::prepare(config);
        daemon.launch_copy();
        daemon
    }

    /// Lets `gap` happen and, while nobody reads pipes and nobody answers, `meanwhile`. Returns when the next daemon is
    /// ready. The daemon must have been started by [`Daemon::launch_copy`] or [`Daemon::launch_as`].
    pub fn pass(&mut self, gap: Gap, meanwhile: impl FnOnce(&Self)) {
        match gap {
            Gap::Crash => {
                self.crash();
                meanwhile(self);
                match self.user {
                    Some(uid) => self.launch_as(uid),
                    None => self.launch_copy(),
                }
            }
            Gap::Upgrade => {
                let before = self.count_replaced();
                self.hold_upgrade();
                meanwhile(self);
                self.finish_upgrade();
                self.until("the next image", || self.count_replaced() > before);
            }
        }
    }

    /// Kills the daemon and waits for its end.
    pub fn crash(&mut self) {
        self.remember();
        self.signal(Signal::SIGKILL);
        self.wait();
    }

    /// Kills the keeper and the daemon, neither of which can do anything about the other's end.
    pub fn crash_without_keeper(&mut self) {
        let keeper = self.until_some("the keeper", || self.keeper());
        self.remember();
        self.signal(Signal::SIGSTOP);
        kill(keeper, Signal::SIGKILL);
        self.crash();
    }

    /// Starts another daemon that takes the place of this one, and waits for the end of the latter.
    pub fn supersede(&mut self) {
        let mut old = self.child.take().expect("a daemon runs in the foreground");
        self.launch(&["--take-over"]);
        self.until("the old daemon to end", || old.try_wait().expect("waiting for supervisord").is_some());
    }

    /// Begins an upgrade which stands still when the old image has gone and the next one has not begun. A shell is in
    /// the daemon's place then: it makes no child, for it would reap ours.
    pub fn hold_upgrade(&self) {
        let gate = self.path("next-image");
        if nix::unistd::mkfifo(&gate, Mode::from_bits_truncate(0o600)).is_ok() {
            set_mode(&gate, 0o666);
        }
        // There from the second time on.
        let _ = fs::remove_file(self.path("in-gap"));
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in *--check-handover*) exec {real} \"$@\";; esac\n\
             : > {here}\nread x < {gate}\nexec {real} \"$@\"\n",
            real = binary("supervisord").display(),
            here = self.path("in-gap").display(),
            gate = gate.display(),
        );
        self.replace_copy(script.as_bytes(), 0o755);
        self.signal(Signal::SIGUSR1);
        self.until("the old image to be gone", || self.path("in-gap").exists());
    }

    /// Lets the next image begin.
    fn finish_upgrade(&self) {
        self.until("the gate", || {
            let gate = fs::OpenOptions::new()
                .write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(self.path("next-image"));
            gate.is_ok()
        });
    }

    /// How often the log says that an image has followed another.
    fn count_replaced(&self) -> usize {
        self.log().matches("was replaced by").count()
    }
}
