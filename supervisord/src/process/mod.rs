//! One supervised process: the state machine of its life, as pure code.
//!
//! Owns every decision about one process: when it counts as up, when it is tried again, when a stop becomes SIGKILL,
//! when its replacement may start. Time and what happened are arguments; what shall be done comes out as [`Effect`]s,
//! which the driver performs. States and their rules are Supervisor 4.3's; the differences are in COMPATIBILITY.md.

pub mod advice;
mod dependencies;
pub mod describe;
pub mod exit;
mod leftovers;
mod note;
mod questions;
mod restore;
mod settings;
mod state;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::defaults as test_defaults;

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

pub use dependencies::Dependencies;
use dependencies::Hold;
pub use exit::Exit;
use leftovers::Leftovers;
pub use nix::unistd::Pid;
pub use note::{Note, StopReach};
pub use restore::Memory;
pub use settings::restarts_after;
pub use state::ProcessState;

use crate::{
    clock::Moment,
    config::{ProgramConfig, StopSignal},
};

/// Time after SIGKILL at which a process that is still there is sent it again, at least. It is stuck in the kernel.
const KILL_AGAIN: Duration = Duration::from_secs(1);

/// Shortest time between two spawns without a failure between them: a program with `startsecs=0` that exits at once
/// may not take a whole processor.
const SPAWN_SPACING: Duration = Duration::from_millis(10);

/// What the driver shall do for a process. `Spawn` must be answered by `handle_spawned` or `handle_spawn_failed` before
/// any other input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// Make a child.
    Spawn,
    /// Send a signal to the child, or to its process group.
    Signal {
        /// The child.
        pid: Pid,
        /// Which signal.
        signal: StopSignal,
        /// Whether the whole group gets it.
        group: bool,
    },
    /// Send a signal to all processes that dead main processes of this program left behind, and report when they
    /// are gone.
    EndLeftovers {
        /// Which signal.
        signal: StopSignal,
    },
    /// Publish that the state has changed.
    Changed {
        /// Before.
        from: ProcessState,
        /// After.
        to: ProcessState,
        /// The child that this is about, if there is or was one.
        pid: Option<Pid>,
        /// Consecutive failed starts at that moment.
        tries: u32,
        /// Whether the last exit was expected.
        expected: bool,
    },
    /// Publish what it waits for before it is started, and whether that will not come up by itself.
    Waits,
    /// Log this.
    Note(Note),
}

/// Why a request about a process was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// It runs, is starting, or waits for its next try.
    #[error("already started")]
    AlreadyStarted,
    /// It is being stopped and cannot be started yet.
    #[error("is being stopped")]
    Stopping,
    /// It does not run.
    #[error("not running")]
    NotRunning,
    /// The daemon is shutting down.
    #[error("shutting down")]
    Halted,
    /// It could not be signalled, so nothing is known of it.
    #[error("is in an unknown state")]
    Unknown,
}

/// Where a process is in its life. Each state carries only what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Stopped,
    /// STARTING without a child: waits for other programs to come up.
    Waiting,
    /// STARTING without a child: waits for the driver's answer to `Spawn`, or for leftovers to end.
    Spawning,
    Starting {
        pid: Pid,
        up_at: Instant,
    },
    Running {
        pid: Pid,
    },
    Backoff {
        retry_at: Instant,
    },
    Stopping {
        pid: Pid,
        kill_at: Instant,
    },
    /// STOPPING without a child: waits for leftovers to end. `child`: whose stop that was.
    StoppingLeftovers {
        child: Option<Pid>,
    },
    /// `restart_at`: it ran so shortly that its replacement is held back until then.
    Exited {
        restart_at: Option<Instant>,
    },
    Fatal,
    Unknown {
        pid: Pid,
    },
}

/// What was found when the main process of a program had ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Aftermath {
    /// Whether processes of the program live on.
    pub remains: bool,
    /// What went wrong, when that is known better than "exited too quickly".
    pub diagnosis: Option<String>,
}

/// A supervised process.
#[derive(Debug)]
pub struct Process {
    config: Arc<ProgramConfig>,
    state: State,
    leftovers: Leftovers,
    /// The daemon is shutting down: nothing is started any more.
    halted: bool,
    /// Operators want it to run: a start says so, a stop takes it back.
    wanted: bool,
    /// The stop that is under way is for the sake of a start.
    starts_again: bool,
    /// An operator has stopped it, even if it had not run.
    stopped_by_hand: bool,
    /// What it waits for, if it does.
    hold: Hold,
    failures: u32,
    spawned_at: Option<Moment>,
    ended_at: Option<Moment>,
    spawn_error: Option<String>,
    exit: Option<Exit>,
    spawns: u64,
    effects: VecDeque<Effect>,
}

/// Requests and inputs.
impl Process {
    /// A process that has never been started.
    pub fn new(config: Arc<ProgramConfig>) -> Self {
        Self {
            config,
            state: State::Stopped,
            leftovers: Leftovers::None,
            halted: false,
            wanted: false,
            starts_again: false,
            stopped_by_hand: false,
            hold: Hold::default(),
            failures: 0,
            spawned_at: None,
            ended_at: None,
            spawn_error: None,
            exit: None,
            spawns: 0,
            effects: VecDeque::new(),
        }
    }

    /// Asks for a start.
    ///
    /// # Errors
    /// [`Denied::AlreadyStarted`] when a child exists or a retry is pending, [`Denied::Stopping`] while it is being
    /// stopped, [`Denied::Unknown`] when it could not be signalled, [`Denied::Halted`] when the daemon ends.
    pub fn start(&mut self, now: Moment) -> Result<(), Denied> {
        if self.halted {
            return Err(Denied::Halted);
        }
        match self.state {
            State::Waiting
            | State::Spawning
            | State::Starting { .. }
            | State::Running { .. }
            | State::Backoff { .. } => {
                self.wanted = true;
                Err(Denied::AlreadyStarted)
            }
            // Refused: the stop remains what is wanted.
            State::Stopping { .. } | State::StoppingLeftovers { .. } => {
                self.note(Note::AlreadyRunning);
                Err(Denied::Stopping)
            }
            State::Unknown { .. } => Err(Denied::Unknown),
            State::Stopped | State::Exited { .. } | State::Fatal => {
                self.wanted = true;
                self.stopped_by_hand = false;
                self.failures = 0;
                self.begin_start(now);
                Ok(())
            }
        }
    }

    /// Asks for a stop. A process that waits for its next try is stopped at once; one that has ended and left
    /// processes behind is stopped when these have ended.
    ///
    /// # Errors
    /// [`Denied::NotRunning`] when there is nothing to stop, or it is being stopped already.
    pub fn stop(&mut self, now: Moment) -> Result<(), Denied> {
        if !self.halted {
            self.wanted = false;
            self.starts_again = false;
            self.stopped_by_hand = true;
        }
        self.stop_for(now)
    }

    /// The first half of a restart. Where it is refused, nothing changes: a restart that is under way goes on.
    ///
    /// # Errors
    /// As [`Process::stop`].
    pub fn stop_for_start(&mut self, now: Moment) -> Result<(), Denied> {
        self.stop_for(now)?;
        self.wanted |= !self.halted;
        Ok(())
    }

    /// [`Process::stop`], whoever wants it.
    fn stop_for(&mut self, now: Moment) -> Result<(), Denied> {
        match self.state {
            State::Starting { pid, .. } | State::Running { pid } => self.begin_stop(pid, now),
            State::Backoff { .. } => {
                self.note(Note::StoppedWaiting);
                self.rest_after_stop(now);
            }
            State::Exited { restart_at: Some(_) } | State::Waiting | State::Spawning => {
                self.rest_after_stop(now);
            }
            State::Fatal if self.hold.has_failed && !self.halted => self.rest_after_stop(now),
            State::Stopped | State::Exited { .. } | State::Fatal if self.leftovers != Leftovers::None => {
                self.rest_after_stop(now);
            }
            State::Stopped
            | State::Stopping { .. }
            | State::StoppingLeftovers { .. }
            | State::Exited { restart_at: None }
            | State::Fatal
            | State::Unknown { .. } => return Err(Denied::NotRunning),
        }
        Ok(())
    }

    /// Asks to send a signal to the main process; never to its group.
    ///
    /// # Errors
    /// [`Denied::NotRunning`] when there is no child.
    pub fn signal(&mut self, signal: StopSignal) -> Result<(), Denied> {
        let pid = self.pid().filter(|_| self.state().is_signallable()).ok_or(Denied::NotRunning)?;
        self.effects.push_back(Effect::Signal { pid, signal, group: false });
        Ok(())
    }

    /// From now on nothing is started: the daemon ends. What runs goes on until it is stopped.
    pub fn halt(&mut self) {
        self.halted = true;
        match self.state {
            State::Backoff { .. } => self.enter(State::Fatal),
            State::Exited { restart_at: Some(_) } => self.state = State::Exited { restart_at: None },
            State::Waiting | State::Spawning => self.enter(State::Stopped),
            State::Stopped
            | State::Starting { .. }
            | State::Running { .. }
            | State::Stopping { .. }
            | State::StoppingLeftovers { .. }
            | State::Exited { restart_at: None }
            | State::Fatal
            | State::Unknown { .. } => {}
        }
    }

    /// Records that the child exists.
    pub fn handle_spawned(&mut self, pid: Pid, now: Moment) {
        self.spawn_error = None;
        self.exit = None;
        self.spawns += 1;
        self.note(Note::Spawned(pid));
        self.state = State::Starting { pid, up_at: now.deadline(self.config.startsecs) };
        if self.config.startsecs.is_zero() {
            self.come_up(pid);
        }
    }

    /// Records that no child could be made, and why.
    pub fn handle_spawn_failed(&mut self, problem: String, now: Moment) {
        self.note(Note::SpawnFailed(problem.clone()));
        self.spawn_error = Some(problem);
        self.back_off(now);
    }

    /// Records that the child has been reaped, and what was found then.
    pub fn handle_exit(&mut self, exit: Exit, aftermath: Aftermath, now: Moment) {
        self.ended_at = Some(now);
        self.exit = Some(exit);
        if aftermath.remains {
            self.leftovers = Leftovers::Kept;
        }
        let expected = exit.is_expected_by(&self.config.exitcodes);
        match self.state {
            State::Starting { pid, up_at } if now.mono >= up_at => {
                self.come_up(pid);
                self.handle_end_of_running(exit, expected, now);
            }
            State::Starting { .. } => {
                self.note(Note::Exited { exit, expected: false });
                let unknown = || "Exited too quickly (process log may have details)".to_owned();
                self.spawn_error = Some(aftermath.diagnosis.unwrap_or_else(unknown));
                self.back_off(now);
            }
            State::Running { .. } => self.handle_end_of_running(exit, expected, now),
            State::Stopping { pid, kill_at } => {
                self.note(Note::Stopped { exit, expected });
                self.finish_stop(pid, kill_at, now);
            }
            State::Unknown { .. } => {
                self.note(Note::Exited { exit, expected });
                self.enter(State::Exited { restart_at: None });
            }
            // No child in these states: an exit reported for one of an earlier life changes nothing.
            State::Stopped
            | State::Waiting
            | State::Spawning
            | State::Backoff { .. }
            | State::StoppingLeftovers { .. }
            | State::Exited { .. }
            | State::Fatal => {}
        }
    }

    /// Records that the kernel refused a signal to the child for another reason than that it is gone, and which.
    pub fn handle_signal_refused(&mut self, problem: String) {
        if let Some(pid) = self.pid() {
            self.spawn_error = Some(problem);
            self.enter(State::Unknown { pid });
        }
    }

    /// Acts on deadlines at or before `now`; an early call does nothing.
    pub fn handle_timeout(&mut self, now: Moment) {
        match self.state {
            State::Starting { pid, up_at } if now.mono >= up_at => self.come_up(pid),
            State::Backoff { retry_at } if now.mono >= retry_at => self.begin_start(now),
            State::Exited { restart_at: Some(at) } if now.mono >= at => self.begin_start(now),
            State::Stopping { pid, kill_at } if now.mono >= kill_at => {
                self.note(Note::KillingHard(pid));
                let group = self.config.killasgroup;
                self.effects.push_back(Effect::Signal { pid, signal: StopSignal::KILL, group });
                self.state = State::Stopping { pid, kill_at: now.deadline(self.kill_interval()) };
            }
            State::Starting { .. }
            | State::Backoff { .. }
            | State::Exited { .. }
            | State::Stopping { .. }
            | State::Stopped
            | State::Waiting
            | State::Spawning
            | State::Running { .. }
            | State::StoppingLeftovers { .. }
            | State::Fatal
            | State::Unknown { .. } => {}
        }
        match self.leftovers {
            Leftovers::Ending { kill_at, killed } if now.mono >= kill_at => self.press_leftovers(killed, now),
            Leftovers::Ending { .. } | Leftovers::None | Leftovers::Kept => {}
        }
    }

    /// When `handle_timeout` must next be called, if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let of_state = match self.state {
            State::Starting { up_at, .. } => Some(up_at),
            State::Backoff { retry_at } => Some(retry_at),
            State::Exited { restart_at } => restart_at,
            State::Stopping { kill_at, .. } => Some(kill_at),
            State::Stopped
            | State::Waiting
            | State::Spawning
            | State::Running { .. }
            | State::StoppingLeftovers { .. }
            | State::Fatal
            | State::Unknown { .. } => None,
        };
        match self.leftovers {
            Leftovers::Ending { kill_at, .. } => Some(of_state.map_or(kill_at, |at| at.min(kill_at))),
            Leftovers::None | Leftovers::Kept => of_state,
        }
    }

    /// Takes the next effect for the driver to perform.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }
}

/// Steps.
impl Process {
    fn begin_start(&mut self, now: Moment) {
        self.stop_waiting();
        self.enter(State::Spawning);
        match self.leftovers {
            Leftovers::None => self.request_spawn(now),
            Leftovers::Kept => self.begin_ending(self.leftover_deadline(now)),
            Leftovers::Ending { .. } => {}
        }
    }

    fn request_spawn(&mut self, now: Moment) {
        self.spawned_at = Some(now);
        self.effects.push_back(Effect::Spawn);
    }

    fn come_up(&mut self, pid: Pid) {
        self.failures = 0;
        self.enter(State::Running { pid });
        self.note(Note::Up(self.config.startsecs.as_secs()));
    }

    fn handle_end_of_running(&mut self, exit: Exit, expected: bool, now: Moment) {
        if !expected {
            self.spawn_error = Some(match exit {
                Exit::Unknown => "Ended while supervisord did not run; how is not known".to_owned(),
                Exit::Code(_) | Exit::Signal { .. } => format!("Bad exit code {}", exit.status()),
            });
        }
        self.note(Note::Exited { exit, expected });
        let restarts = restarts_after(&self.config, exit);
        self.enter(State::Exited { restart_at: None });
        if !restarts || self.halted {
            return;
        }
        let earliest = self.spawned_at.map_or(now.mono, |at| at.mono + SPAWN_SPACING);
        if now.mono >= earliest {
            self.begin_start(now);
        } else {
            self.state = State::Exited { restart_at: Some(earliest) };
        }
    }

    fn back_off(&mut self, now: Moment) {
        self.failures = self.failures.saturating_add(1);
        let delay = Duration::from_secs(u64::from(self.failures));
        self.enter(State::Backoff { retry_at: now.deadline(delay) });
        if self.failures > self.config.startretries || self.halted {
            self.failures = 0;
            self.enter(State::Fatal);
            self.note(Note::GaveUp);
        } else {
            self.end_leftovers(now);
        }
    }

    fn begin_stop(&mut self, pid: Pid, now: Moment) {
        let (signal, group) = (self.config.stopsignal, self.config.stopasgroup);
        self.note(Note::Killing { pid, group, signal });
        let wait = if signal == StopSignal::KILL { self.kill_interval() } else { self.config.stopwaitsecs };
        self.enter(State::Stopping { pid, kill_at: now.deadline(wait) });
        self.effects.push_back(Effect::Signal { pid, signal, group });
    }

    /// The child is gone after a stop; what it left behind has the rest of its stop time.
    fn finish_stop(&mut self, pid: Pid, kill_at: Instant, now: Moment) {
        if self.leftovers == Leftovers::None {
            self.enter_stopped(now);
        } else {
            self.state = State::StoppingLeftovers { child: Some(pid) };
            self.begin_ending(kill_at);
        }
    }

    /// A stop found no child.
    fn rest_after_stop(&mut self, now: Moment) {
        self.failures = 0;
        self.stop_waiting();
        if self.leftovers == Leftovers::None {
            self.enter_stopped(now);
        } else {
            self.enter(State::StoppingLeftovers { child: None });
            self.end_leftovers(now);
        }
    }

    /// A stop is over, or the first half of a restart.
    fn enter_stopped(&mut self, now: Moment) {
        self.enter(State::Stopped);
        if std::mem::take(&mut self.starts_again) && !self.halted {
            self.begin_start_again(now);
        }
    }

    fn kill_interval(&self) -> Duration {
        self.config.stopwaitsecs.max(KILL_AGAIN)
    }

    /// The child, or the one that has just ended and whose stop goes on.
    fn child_of_state(&self) -> Option<Pid> {
        match self.state {
            State::StoppingLeftovers { child } => child,
            State::Stopped
            | State::Waiting
            | State::Spawning
            | State::Starting { .. }
            | State::Running { .. }
            | State::Backoff { .. }
            | State::Stopping { .. }
            | State::Exited { .. }
            | State::Fatal
            | State::Unknown { .. } => self.pid(),
        }
    }

    fn enter(&mut self, next: State) {
        let (from, last_child) = (self.state(), self.child_of_state());
        self.state = next;
        let to = self.state();
        if from != to {
            let pid = self.child_of_state().or(last_child);
            let expected = self.exit.is_some_and(|exit| exit.is_expected_by(&self.config.exitcodes));
            self.effects.push_back(Effect::Changed { from, to, pid, tries: self.failures, expected });
        }
    }

    fn note(&mut self, note: Note) {
        self.effects.push_back(Effect::Note(note));
    }
}
