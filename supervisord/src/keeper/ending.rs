//! Ending programs whose daemon is gone: stop signal, a pause, SIGKILL.
//!
//! Signals go through pidfds, and only to processes whose membership was seen while another of the same program was
//! alive: never to a number that means somebody else by now.

use std::{
    collections::HashSet,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use nix::poll::PollTimeout;

use super::line::{Reach, Ward};
use crate::{
    clock::{self, Moment},
    os::{Pid, family, signal, spawn},
};

/// Time between the stop signal and SIGKILL.
const GRACE: Duration = Duration::from_millis(700);
/// How long it sends SIGKILL to what is still being born.
const KILLING: Duration = Duration::from_secs(5);
/// Longest wait before it looks again for new children of a program: after the stop signal and after SIGKILL, in
/// milliseconds.
const PAUSE: u16 = 50;
const KILL_PAUSE: u16 = 10;

/// A process that is to end: always the one that was meant.
struct Target {
    pid: Pid,
    start_time: u64,
    /// None where a sandbox forbids it; then pid and start time have to do.
    pidfd: Option<OwnedFd>,
}

impl Target {
    /// Takes hold of a process, if it is still the one that started then.
    fn new(pid: Pid, start_time: u64) -> Option<Self> {
        let target = Self { pid, start_time, pidfd: spawn::open_pidfd(pid) };
        // After the pidfd was opened: now they mean the same.
        target.stat().map(|_| target)
    }

    /// What `/proc` says of it while it lives.
    fn stat(&self) -> Option<family::Stat> {
        let stat = family::stat_of(self.pid).ok()?;
        (stat.start_time == self.start_time && !matches!(stat.state, 'Z' | 'X')).then_some(stat)
    }

    fn signal(&self, number: i32) {
        // It may have ended, or belong to another user: nothing can be done about either.
        let _ = match &self.pidfd {
            Some(pidfd) => signal::kill_pidfd(pidfd.as_fd(), number),
            None if self.stat().is_some() => signal::kill(self.pid, number),
            None => Ok(()),
        };
    }
}

/// A program that is to end, and what is known to belong to it.
pub(super) struct Doomed {
    ward: Ward,
    targets: Vec<Target>,
}

impl Doomed {
    /// Takes hold of the main process, if it is still there.
    pub(super) fn new(ward: Ward) -> Option<Self> {
        let target = Target::new(ward.pid, ward.start_time)?;
        Some(Self { ward, targets: vec![target] })
    }

    /// What was said of it.
    pub(super) fn ward(&self) -> Ward {
        self.ward
    }

    /// Adds those of `all` that belong to it. One is accepted when, after it was looked at, a known one by which it
    /// belongs is still alive: then the numbers meant what they seemed to mean.
    fn extend(&mut self, all: &[(Pid, family::Stat)]) {
        let mut has_grown = self.ward.kill != Reach::Process;
        while has_grown {
            let known: HashSet<Pid> = self.targets.iter().map(|target| target.pid).collect();
            let new = all.iter().filter(|(pid, _)| !known.contains(pid));
            let found: Vec<Target> = new.filter_map(|(pid, stat)| self.relative(*pid, stat)).collect();
            has_grown = !found.is_empty();
            self.targets.extend(found);
        }
    }

    fn relative(&self, pid: Pid, stat: &family::Stat) -> Option<Target> {
        let group = self.ward.pid;
        let parent = self.targets.iter().find(|known| known.pid == stat.parent);
        let parent = parent.filter(|_| self.ward.kill == Reach::Tree);
        if stat.group != group && parent.is_none() {
            return None;
        }
        let target = Target::new(pid, stat.start_time)?;
        let is_in_group = |known: &Target| known.stat().is_some_and(|stat| stat.group == group);
        let is_member = stat.group == group && self.targets.iter().any(is_in_group);
        (is_member || parent.is_some_and(|parent| parent.stat().is_some())).then_some(target)
    }
}

/// What `/proc` says of all processes.
fn look_around() -> Vec<(Pid, family::Stat)> {
    let all = family::all_processes().into_iter();
    all.filter_map(|pid| Some((pid, family::stat_of(pid).ok()?))).collect()
}

/// Programs that are being ended: by the stop signal, and after a pause by SIGKILL.
#[derive(Default)]
pub(super) struct Ending {
    doomed: Vec<Doomed>,
    start: Option<Moment>,
}

impl Ending {
    /// Sends the stop signals.
    pub(super) fn begin(&mut self, mut doomed: Vec<Doomed>) {
        if doomed.is_empty() {
            return;
        }
        self.start = Some(clock::now());
        let all = look_around();
        for one in &mut doomed {
            // While the main process lives: by it the others are known.
            one.extend(&all);
            for target in &one.targets {
                let is_meant = match one.ward.stop {
                    Reach::Process => target.pid == one.ward.pid,
                    Reach::Group | Reach::Tree => {
                        target.stat().is_some_and(|stat| stat.group == one.ward.pid)
                    }
                };
                if is_meant {
                    target.signal(one.ward.signal);
                }
            }
        }
        self.doomed.extend(doomed);
    }

    /// Sees who is left, and sends SIGKILL when it is time. True when this was the last one.
    pub(super) fn advance(&mut self) -> bool {
        let Some(start) = self.start.filter(|_| !self.doomed.is_empty()) else { return false };
        let now = clock::now().mono;
        if now >= start.deadline(GRACE + KILLING) {
            self.doomed.clear();
            return true;
        }
        let is_grace = now < start.deadline(GRACE);
        let all = look_around();
        for one in &mut self.doomed {
            one.extend(&all);
            one.targets.retain(|target| target.stat().is_some());
            if !is_grace {
                one.targets.iter().for_each(|target| target.signal(nix::libc::SIGKILL));
            }
        }
        self.doomed.retain(|one| !one.targets.is_empty());
        self.doomed.is_empty()
    }

    /// Whether nobody is left to be ended.
    pub(super) fn is_over(&self) -> bool {
        self.doomed.is_empty()
    }

    /// Become readable when one of them ends.
    pub(super) fn handles(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let targets = self.doomed.iter().flat_map(|one| &one.targets);
        targets.filter_map(|target| target.pidfd.as_ref()).map(OwnedFd::as_fd)
    }

    /// How long to wait until the next look, for they may have children meanwhile; for ever if there is nobody.
    pub(super) fn pause(&self) -> PollTimeout {
        let Some(start) = self.start.filter(|_| !self.is_over()) else { return PollTimeout::NONE };
        let left = start.deadline(GRACE).saturating_duration_since(clock::now().mono).as_millis();
        let pause = if left == 0 { KILL_PAUSE } else { u16::try_from(left).unwrap_or(PAUSE).min(PAUSE) };
        PollTimeout::from(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_that_means_another_process_is_not_held() {
        let own = family::stat_of(Pid::this()).unwrap();
        assert!(Target::new(Pid::this(), own.start_time).is_some());
        assert!(Target::new(Pid::this(), own.start_time + 1).is_none());
    }
}
