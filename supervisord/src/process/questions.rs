//! What may be asked of a process; nothing here changes one.

use std::sync::Arc;

use super::{Exit, Pid, Process, ProcessState, State, leftovers::Leftovers};
use crate::{clock::Moment, config::ProgramConfig};

impl Process {
    /// Its settings.
    pub fn config(&self) -> &Arc<ProgramConfig> {
        &self.config
    }

    /// The state that clients see.
    pub fn state(&self) -> ProcessState {
        match self.state {
            State::Stopped => ProcessState::Stopped,
            State::Waiting | State::Spawning | State::Starting { .. } => ProcessState::Starting,
            State::Running { .. } => ProcessState::Running,
            State::Backoff { .. } => ProcessState::Backoff,
            State::Stopping { .. } | State::StoppingLeftovers { .. } => ProcessState::Stopping,
            State::Exited { .. } => ProcessState::Exited,
            State::Fatal => ProcessState::Fatal,
            State::Unknown { .. } => ProcessState::Unknown,
        }
    }

    /// The child, if there is one.
    pub fn pid(&self) -> Option<Pid> {
        match self.state {
            State::Starting { pid, .. }
            | State::Running { pid }
            | State::Stopping { pid, .. }
            | State::Unknown { pid } => Some(pid),
            State::Stopped
            | State::Waiting
            | State::Spawning
            | State::Backoff { .. }
            | State::StoppingLeftovers { .. }
            | State::Exited { .. }
            | State::Fatal => None,
        }
    }

    /// When it was last tried to spawn it.
    pub fn spawned_at(&self) -> Option<Moment> {
        self.spawned_at
    }

    /// When it last ended.
    pub fn ended_at(&self) -> Option<Moment> {
        self.ended_at
    }

    /// Why it could not be started or signalled, or ended badly, last.
    pub fn spawn_error(&self) -> Option<&str> {
        self.spawn_error.as_deref()
    }

    /// How it last ended; `None` while it runs.
    pub fn exit(&self) -> Option<Exit> {
        self.exit
    }

    /// Consecutive failed starts.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Children made so far.
    pub fn spawns(&self) -> u64 {
        self.spawns
    }

    /// Whether operators want it to run.
    pub fn is_wanted(&self) -> bool {
        self.wanted
    }

    /// Whether it runs, or will by itself.
    pub fn is_to_run(&self) -> bool {
        self.state().is_started() || matches!(self.state, State::Exited { restart_at: Some(_) })
    }

    /// Whether nothing of it runs and nothing will be started by itself, leftovers that are being ended included.
    pub fn is_at_rest(&self) -> bool {
        let is_restarting = matches!(self.state, State::Exited { restart_at: Some(_) });
        self.state().is_stopped() && !is_restarting && !matches!(self.leftovers, Leftovers::Ending { .. })
    }
}
