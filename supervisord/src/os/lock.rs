//! Locks on files, by which two daemons keep out of each other's way.
//!
//! A daemon that was killed lets go of its locks a moment later: when the kernel has closed its files, and when a child that it
//! was just making, and that has them too, has executed its program.

use std::{fs::File, io};

use nix::unistd::Pid;
use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
    time::Timespec,
};

use super::family::{read_small, stat_of};

/// Time between two tries.
const PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };
/// Tries that are made in any case.
const TRIES: u32 = 20;
/// Tries that are made while the owner is dead. On a busy machine its last files are closed late.
const TRIES_AFTER_DEATH: u32 = 1000;

/// Locks the file for this open file alone. `owner` tells whose lock it may be.
///
/// # Errors
/// `WOULDBLOCK` when somebody else has it and goes on living; others of `flock`.
pub fn lock_soon(file: &File, owner: impl Fn() -> Option<Pid>) -> rustix::io::Result<()> {
    for attempt in 1.. {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) if attempt >= TRIES_AFTER_DEATH => break,
            Err(Errno::WOULDBLOCK) if attempt >= TRIES && owner().is_none_or(lives) => break,
            Err(Errno::WOULDBLOCK) => {}
            done => return done,
        }
        // A pause cut short by a signal is long enough.
        let _ = rustix::thread::nanosleep(&PAUSE);
    }
    Err(Errno::WOULDBLOCK)
}

/// Whether a process is there and not about to end.
fn lives(pid: Pid) -> bool {
    match stat_of(pid) {
        Ok(stat) => !matches!(stat.state, 'Z' | 'X' | 'x') && !is_being_killed(pid),
        Err(error) => error.kind() != io::ErrorKind::NotFound,
    }
}

/// Whether SIGKILL is on its way to it.
fn is_being_killed(pid: Pid) -> bool {
    let Ok(status) = read_small(format!("/proc/{pid}/status")) else { return false };
    let status = String::from_utf8_lossy(&status);
    let mask = status.lines().find_map(|line| line.strip_prefix("ShdPnd:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & (1 << (libc::SIGKILL - 1)) != 0)
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, fs::OpenOptions, path::Path};

    use super::*;

    fn open(path: &Path) -> File {
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).unwrap()
    }

    /// A pid that is nobody's: larger than the kernel gives.
    fn nobody() -> Option<Pid> {
        Some(Pid::from_raw(1 << 23))
    }

    #[test]
    fn lock_of_somebody_who_lives_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let held = open(&path);
        lock_soon(&held, || None).unwrap();
        for owner in [None, Some(Pid::this())] {
            assert_eq!(lock_soon(&open(&path), || owner), Err(Errno::WOULDBLOCK));
        }
    }

    #[test]
    fn lock_of_a_dead_daemon_whose_child_has_it_still_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let held = open(&path);
        lock_soon(&held, || None).unwrap();
        let held = Cell::new(Some(held));
        let asked = Cell::new(0);
        let owner = || {
            asked.set(asked.get() + 1);
            if asked.get() == 10 {
                drop(held.take());
            }
            nobody()
        };
        assert_eq!((lock_soon(&open(&path), owner), asked.get()), (Ok(()), 10));
    }
}
