//! A process as it is written down, and a process made from what was written down.
//!
//! Owns which parts of the state machine outlive the daemon, and in which state a process goes on under the next one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Dependencies, Hold, Pid, Process, State, leftovers::Leftovers, settings::restarts_after};
use crate::{
    clock::{Moment, Timeline},
    config::ProgramConfig,
    journal::record::{self, Due, Life, Past, Record, Stamp},
};

/// The part of a record that the state machine knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memory {
    /// Whether operators want it to run.
    pub wanted: bool,
    /// Where it is in its life.
    pub life: Life,
    /// The main process.
    pub pid: Option<Pid>,
    /// What has been.
    pub past: Past,
    /// How it stands with leftovers.
    pub leftovers: record::Leftovers,
}

impl From<&Record> for Memory {
    fn from(record: &Record) -> Self {
        Self {
            wanted: record.wanted,
            life: record.life,
            pid: record.child.map(|child| Pid::from_raw(child.identity.pid)),
            past: record.past.clone(),
            leftovers: record.remains.leftovers,
        }
    }
}

impl Process {
    /// What is to be remembered.
    pub fn memory(&self, timeline: Timeline) -> Memory {
        let due = |at| due(timeline, at);
        let life = match self.state {
            // It is wanted: the next daemon looks anew at what it waits for.
            State::Stopped | State::Waiting => Life::Stopped,
            State::Spawning => Life::Spawning,
            State::Starting { up_at, .. } => Life::Starting(due(up_at)),
            State::Running { .. } => Life::Running,
            State::Backoff { retry_at } => Life::Backoff(due(retry_at)),
            State::Stopping { kill_at, .. } => Life::Stopping(due(kill_at)),
            State::StoppingLeftovers { .. } => Life::Clearing,
            State::Exited { restart_at } => Life::Exited(restart_at.or(self.missed_restart()).map(due)),
            State::Fatal => Life::Fatal,
            State::Unknown { .. } => Life::Unknown,
        };
        let stamp = |at: Moment| Stamp { mono: due(at.mono), unix: nanos(at.unix) };
        Memory {
            wanted: self.wanted,
            life,
            pid: self.pid(),
            past: Past {
                failures: self.failures,
                spawns: self.spawns,
                spawned: self.spawned_at.map(stamp),
                ended: self.ended_at.map(stamp),
                spawn_error: self.spawn_error.clone(),
                exit: self.exit,
                // Also while all is being stopped: should that be cut short, it goes on.
                held_back: self.is_to_be_held_back(),
                stopped: self.stopped_by_hand,
            },
            leftovers: match self.leftovers {
                Leftovers::None => record::Leftovers::None,
                Leftovers::Kept => record::Leftovers::Kept,
                Leftovers::Ending { kill_at, killed: false } => record::Leftovers::Ending(due(kill_at)),
                Leftovers::Ending { kill_at, killed: true } => record::Leftovers::Killed(due(kill_at)),
            },
        }
    }

    /// When it would have been started again if the daemon were not stopping everything. Should that be cut short, the next
    /// daemon starts it.
    fn missed_restart(&self) -> Option<Instant> {
        let restarts = self.exit.is_some_and(|exit| restarts_after(&self.config, exit));
        self.ended_at.filter(|_| self.halted && self.wanted && restarts).map(|at| at.mono)
    }

    /// A process that goes on where another daemon left it. A life that needs a child and has none is taken for one
    /// that is about to be spawned; [`Process::resume`] must follow when all processes are in place.
    pub fn restored(config: Arc<ProgramConfig>, memory: &Memory, timeline: Timeline) -> Self {
        let at = |due: Due| timeline.from_shared(Duration::from_nanos(due.0));
        let state = match (memory.life, memory.pid) {
            (Life::Stopped, _) if memory.past.held_back => State::Waiting,
            (Life::Stopped, _) => State::Stopped,
            (Life::Starting(up_at), Some(pid)) => State::Starting { pid, up_at: at(up_at) },
            (Life::Running, Some(pid)) => State::Running { pid },
            (Life::Stopping(kill_at), Some(pid)) => State::Stopping { pid, kill_at: at(kill_at) },
            (Life::Unknown, Some(pid)) => State::Unknown { pid },
            (Life::Backoff(retry_at), _) => State::Backoff { retry_at: at(retry_at) },
            (Life::Exited(restart_at), _) => State::Exited { restart_at: restart_at.map(at) },
            (Life::Fatal, _) => State::Fatal,
            (Life::Clearing | Life::Stopping(_), _) => State::StoppingLeftovers { child: None },
            (Life::Spawning | Life::Starting(_) | Life::Running | Life::Unknown, _) => State::Spawning,
        };
        let moment = |stamp: Stamp| Moment { mono: at(stamp.mono), unix: Duration::from_nanos(stamp.unix) };
        let past = &memory.past;
        Self {
            state,
            leftovers: match memory.leftovers {
                record::Leftovers::None => Leftovers::None,
                record::Leftovers::Kept => Leftovers::Kept,
                record::Leftovers::Ending(kill_at) => {
                    Leftovers::Ending { kill_at: at(kill_at), killed: false }
                }
                record::Leftovers::Killed(kill_at) => {
                    Leftovers::Ending { kill_at: at(kill_at), killed: true }
                }
            },
            wanted: memory.wanted,
            stopped_by_hand: past.stopped,
            hold: Hold::restored(past.held_back && memory.life == Life::Fatal),
            starts_again: memory.wanted && matches!(memory.life, Life::Stopping(_) | Life::Clearing),
            failures: past.failures,
            spawned_at: past.spawned.map(moment),
            ended_at: past.ended.map(moment),
            spawn_error: past.spawn_error.clone(),
            exit: past.exit,
            spawns: past.spawns,
            ..Self::new(config)
        }
    }

    /// Goes on after [`Process::restored`]: what was about to happen when the last daemon died happens now.
    pub fn resume(&mut self, dependencies: Dependencies, now: Moment) {
        match (self.state, self.leftovers) {
            (State::Spawning, Leftovers::None) => self.request_spawn(now),
            (State::StoppingLeftovers { .. }, Leftovers::None) => self.enter_stopped(now),
            (State::Spawning | State::StoppingLeftovers { .. }, Leftovers::Kept) => self.end_leftovers(now),
            // An operator's restart was cut short between its stop and its start.
            (State::Stopped, _) if self.wanted => {
                // Not refused: it is at rest.
                let _ = self.start_again(dependencies, now);
            }
            (State::Waiting | State::Fatal, _) => self.handle_dependencies(dependencies, now),
            // Its stop did not reach it.
            (State::Starting { pid, .. } | State::Running { pid }, _) if !self.wanted => {
                self.begin_stop(pid, now);
            }
            (
                State::Stopped
                | State::Spawning
                | State::Starting { .. }
                | State::Running { .. }
                | State::Backoff { .. }
                | State::Stopping { .. }
                | State::StoppingLeftovers { .. }
                | State::Exited { .. }
                | State::Unknown { .. },
                _,
            ) => {}
        }
    }

    /// Goes on after [`Process::restored`] where the settings have changed while no daemon ran, as an update would treat
    /// it. A listener that the last daemon had is always started again. Returns whether it is replaced.
    pub fn catch_up(&mut self, is_listener: bool, dependencies: Dependencies, now: Moment) -> bool {
        // What was given up was meant to run, as in `is_asked_to_start_by`.
        let is_up =
            self.pid().is_some() || self.config.autostart || is_listener || self.state == State::Fatal;
        // A stop that has nothing left to stop ends with `resume`, and then the start follows.
        let is_ending = matches!(self.state, State::StoppingLeftovers { .. });
        let is_replaced = self.wanted && is_up && !is_ending;
        match self.state {
            // It has no child that has other settings.
            State::Waiting => {
                self.resume(dependencies, now);
                return false;
            }
            // Not refused: it is at rest.
            State::Fatal if is_replaced => _ = self.start_after(dependencies, now),
            State::Exited { restart_at: None } if is_replaced => _ = self.start_again(dependencies, now),
            State::Stopped => self.resume(dependencies, now),
            State::Spawning
            | State::Starting { .. }
            | State::Running { .. }
            | State::Backoff { .. }
            | State::Stopping { .. }
            | State::StoppingLeftovers { .. }
            | State::Exited { .. }
            | State::Fatal
            | State::Unknown { .. } => {
                if is_replaced {
                    self.renew(now);
                } else {
                    self.resume(dependencies, now);
                }
            }
        }
        is_replaced
    }

    /// Stops the child, and starts another one with the present settings as soon as it is gone.
    pub fn renew(&mut self, now: Moment) {
        if self.halted {
            return;
        }
        match self.state {
            State::Stopped | State::Exited { restart_at: None } | State::Fatal => self.begin_start(now),
            // Its child will have them.
            State::Waiting => {}
            State::Spawning
            | State::Starting { .. }
            | State::Running { .. }
            | State::Backoff { .. }
            | State::Stopping { .. }
            | State::StoppingLeftovers { .. }
            | State::Exited { restart_at: Some(_) }
            | State::Unknown { .. } => {
                self.starts_again = true;
                // Refused while it is being stopped, and where nothing can be done.
                let _ = self.stop_for(now);
            }
        }
    }
}

fn due(timeline: Timeline, at: Instant) -> Due {
    Due(nanos(timeline.to_shared(at)))
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}
