//! New settings for a process that exists: what they mean at once, and whether they ask for a start.

use std::sync::Arc;

use super::{Exit, Process, State};
use crate::config::{AutoRestart, ProgramConfig, diff::ProcessChange};

impl Process {
    /// Takes over new settings. What is under way goes on: a stop keeps its deadline, a wait for the next try too;
    /// a start counts as up by the new `startsecs`.
    pub fn handle_settings(&mut self, config: Arc<ProgramConfig>) {
        self.config = config;
        if let State::Starting { pid, .. } = self.state
            && let Some(spawned_at) = self.spawned_at
        {
            self.state = State::Starting { pid, up_at: spawned_at.deadline(self.config.startsecs) };
        }
    }

    /// Whether these new settings ask for a start of a process that is at rest; to be asked before they are taken over.
    ///
    /// What an operator stopped stays stopped, also if it had ended before. What was given up is tried again, for it was meant to run. What ended by
    /// itself runs again as Supervisor's `update` would have it, unless the settings that changed cannot matter to it.
    pub fn is_asked_to_start_by(&self, new: &ProgramConfig, change: ProcessChange) -> bool {
        let is_changed = match change {
            ProcessChange::Live | ProcessChange::Restart => true,
            ProcessChange::Unchanged | ProcessChange::Added | ProcessChange::Removed => false,
        };
        is_changed
            && match self.state {
                State::Stopped => new.autostart && !self.config.autostart && self.is_untouched(),
                State::Exited { restart_at: None } | State::Fatal if !self.wanted => false,
                State::Fatal => true,
                State::Exited { restart_at: None } if change == ProcessChange::Restart => new.autostart,
                State::Exited { restart_at: None } => self.exit.is_some_and(|exit| restarts_after(new, exit)),
                State::Exited { restart_at: Some(_) }
                | State::Waiting
                | State::Spawning
                | State::Starting { .. }
                | State::Running { .. }
                | State::Backoff { .. }
                | State::Stopping { .. }
                | State::StoppingLeftovers { .. }
                | State::Unknown { .. } => false,
            }
    }
}

/// Whether a program that was up is started again after this end.
pub fn restarts_after(config: &ProgramConfig, exit: Exit) -> bool {
    match config.autorestart {
        AutoRestart::Never => false,
        AutoRestart::Unexpected => !exit.is_expected_by(&config.exitcodes),
        AutoRestart::Always => true,
    }
}
