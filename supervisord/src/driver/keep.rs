//! The daemon's side of `keeper/`: starts it when a program first needs it, tells it who runs, replaces it when it
//! ends.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd as _, OwnedFd, RawFd},
    time::{Duration, Instant},
};

use tracing::{debug, error, warn};

use super::Driver;
use crate::{
    clock,
    config::{DaemonDeath, KillMode, ProgramConfig},
    keeper::line::{Line, Reach, Ward},
    os::{family, handover::Inherited, pipe, signal},
    process::Pid,
    supervisor::ProcessId,
};

/// One that lived shorter is not replaced before the next program starts: it would be for nothing again.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);

/// The keeper, and whom it guards.
#[derive(Debug, Default)]
pub(super) struct Keep {
    running: Option<Running>,
    wards: BTreeMap<Pid, Ward>,
    /// That of the image before this one, until ours knows all.
    predecessor: Option<OwnedFd>,
}

#[derive(Debug)]
struct Running {
    pid: Pid,
    /// Its standard input; its end is our death.
    pipe: OwnedFd,
    since: Instant,
}

impl Keep {
    /// What the next image shall find open.
    pub(super) fn carry<'a>(&'a self, inherited: &mut Inherited<'a>) -> Option<RawFd> {
        self.running.as_ref().map(|running| inherited.add(running.pipe.as_fd()))
    }

    /// Keeps the keeper of the image before this one until [`Driver::dismiss_old_keeper`].
    pub(super) fn set_predecessor(&mut self, pipe: Option<OwnedFd>) {
        self.predecessor = pipe;
    }
}

impl Driver {
    /// Lets a running process end with the daemon, if it is to. To be called for each that was started or taken over.
    pub(super) fn guard(&mut self, id: ProcessId, pid: Pid) {
        let Some(process) = self.supervisor.process(id) else { return };
        if process.config().on_daemon_death == DaemonDeath::Keep {
            return;
        }
        // It was not reaped yet: the number means it. One that cannot be seen cannot be told from another later.
        let ward = match family::stat_of(pid) {
            Ok(stat) => ward(process.config(), pid, stat.start_time),
            Err(error) => {
                return error!("{} will outlive supervisord: cannot look at it: {error}", self.name_of(id));
            }
        };
        self.keep.wards.insert(pid, ward);
        if self.keep.running.is_some() {
            self.tell_keeper(Line::Guard(ward));
        } else {
            self.start_keeper();
        }
    }

    /// Forgets a process that was reaped.
    pub(super) fn unguard(&mut self, pid: Pid) {
        if self.keep.wards.remove(&pid).is_some() && self.keep.running.is_some() {
            self.tell_keeper(Line::Forget(pid));
        }
    }

    /// Records that a child of ours has ended; whether it was the keeper.
    pub(super) fn handle_keeper_ended(&mut self, pid: Pid) -> bool {
        let Some(running) = self.keep.running.take_if(|running| running.pid == pid) else { return false };
        if clock::now().mono.duration_since(running.since) >= SHORTEST_LIFE {
            warn!("the keeper (pid {pid}) ended, starting another");
            self.start_keeper();
        } else {
            error!("the keeper (pid {pid}) ended at once: programs with on_daemon_death=stop would run on");
        }
        true
    }

    /// Sends the keeper of the image before this one away: ours knows all by now.
    pub(super) fn dismiss_old_keeper(&mut self) {
        if let Some(pipe) = self.keep.predecessor.take()
            && let Err(error) = pipe::write_whole(&pipe, Line::Quit.to_string().as_bytes())
        {
            // It has ended by itself, or does not read; then it must not see the end of the pipe.
            warn!("cannot dismiss the keeper of the image before this one: {error}");
            self.keep.predecessor = Some(pipe);
        }
    }

    /// Starts a keeper and tells it everything.
    fn start_keeper(&mut self) {
        let (pid, pipe) = match self.launcher.start_keeper() {
            Ok(started) => started,
            Err(problem) => {
                return error!("no keeper, programs with on_daemon_death=stop would run on: {problem}");
            }
        };
        debug!("started the keeper (pid {pid})");
        self.family.ignore(pid);
        self.keep.running = Some(Running { pid, pipe, since: clock::now().mono });
        for ward in self.keep.wards.values().copied().collect::<Vec<_>>() {
            self.tell_keeper(Line::Guard(ward));
        }
    }

    /// Says something to the keeper. One that does not listen is ended, and replaced when that is seen.
    fn tell_keeper(&mut self, line: Line) {
        let Some(running) = &self.keep.running else { return };
        if let Err(error) = pipe::write_whole(&running.pipe, line.to_string().as_bytes()) {
            warn!("the keeper (pid {}) does not listen, ending it: {error}", running.pid);
            // While the pipe is open, for it must not take us for dead. Not reaped yet: the number is its own.
            let _ = signal::kill(running.pid, nix::libc::SIGKILL);
        }
    }
}

fn ward(config: &ProgramConfig, pid: Pid, start_time: u64) -> Ward {
    let kill = match config.killmode {
        KillMode::Tree => Reach::Tree,
        KillMode::Process if !config.killasgroup => Reach::Process,
        KillMode::Group | KillMode::Process => Reach::Group,
    };
    let stop = if config.stopasgroup { Reach::Group } else { Reach::Process };
    Ward { pid, start_time, signal: config.stopsignal.0, stop, kill }
}
