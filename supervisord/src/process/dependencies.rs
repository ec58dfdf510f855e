//! A start that waits for other programs, key `depends_on`.
//!
//! Owns what a process does while they are not up; how it stands with them is told by [`crate::supervisor`].

use super::{Denied, Effect, Note, Process, State};
use crate::clock::Moment;

/// How it stands with the processes that one depends on. Words are for people, and name one of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dependencies {
    /// All are up, or there are none.
    Up,
    /// One is on its way: `db, which is STARTING`.
    Coming(String),
    /// One is not up, and will not be before somebody starts it: `db, which is STOPPED`.
    Stalled(String),
    /// One has failed: `db, on which it depends, is FATAL`.
    Failed(String),
}

/// What a process waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Hold {
    /// One of the processes, in words.
    what: Option<String>,
    /// Whether that will not come up by itself.
    is_stalled: bool,
    /// Whether it starts without, should that become clear: it ran without until now.
    insists: bool,
    /// Whether it is FATAL because that has failed.
    pub(super) has_failed: bool,
}

impl Hold {
    /// That of a process which was written down so.
    pub(super) fn restored(has_failed: bool) -> Self {
        Self { has_failed, ..Self::default() }
    }
}

impl Process {
    /// Asks for a start as soon as what it depends on is up. If that has failed, it is FATAL, and goes on waiting when that
    /// is tried again.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start_after(&mut self, dependencies: Dependencies, now: Moment) -> Result<(), Denied> {
        self.begin_waiting(dependencies, false, now)
    }

    /// Asks for a start of a process that ran until now: it waits for what is on its way, and for nothing else.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start_again(&mut self, dependencies: Dependencies, now: Moment) -> Result<(), Denied> {
        self.begin_waiting(dependencies, true, now)
    }

    fn begin_waiting(
        &mut self,
        dependencies: Dependencies,
        insists: bool,
        now: Moment,
    ) -> Result<(), Denied> {
        let goes_on = match dependencies {
            Dependencies::Up => true,
            Dependencies::Stalled(_) | Dependencies::Failed(_) => insists,
            Dependencies::Coming(_) => false,
        };
        if goes_on || !self.is_startable() {
            return self.start(now);
        }
        self.wanted = true;
        self.stopped_by_hand = false;
        self.failures = 0;
        self.hold = Hold { insists, ..Hold::default() };
        self.enter(State::Waiting);
        self.handle_dependencies(dependencies, now);
        Ok(())
    }

    /// Records how it stands now with what it depends on. Nothing happens to a process that does not wait for that.
    pub fn handle_dependencies(&mut self, dependencies: Dependencies, now: Moment) {
        if !self.is_held_back() {
            return;
        }
        match dependencies {
            Dependencies::Up => self.begin_start(now),
            Dependencies::Stalled(_) | Dependencies::Failed(_) if self.hold.insists => self.begin_start(now),
            Dependencies::Coming(what) => self.wait_for(what, false),
            Dependencies::Stalled(what) => self.wait_for(what, true),
            Dependencies::Failed(problem) => {
                if !self.hold.has_failed {
                    self.note(Note::HeldBack(problem.clone()));
                }
                self.spawn_error = Some(problem);
                self.hold = Hold { has_failed: true, ..Hold::default() };
                self.enter(State::Fatal);
            }
        }
    }

    fn wait_for(&mut self, what: String, is_stalled: bool) {
        if self.hold.what.is_none() || self.hold.is_stalled != is_stalled {
            self.note(Note::Waiting(what.clone()));
        }
        self.enter(State::Waiting);
        self.effects.push_back(Effect::Waits);
        self.hold = Hold { what: Some(what), is_stalled, has_failed: false, insists: self.hold.insists };
    }

    /// Whether it has been told just that, so that telling it again would change nothing.
    pub fn knows(&self, dependencies: &Dependencies) -> bool {
        match dependencies {
            Dependencies::Up => false,
            Dependencies::Coming(what) => !self.hold.is_stalled && self.waits_for() == Some(what),
            Dependencies::Stalled(what) => self.hold.is_stalled && self.waits_for() == Some(what),
            Dependencies::Failed(problem) => self.hold.has_failed && self.spawn_error() == Some(problem),
        }
    }

    /// The second half of a restart: it waits to be told how it stands with what it depends on.
    pub(super) fn begin_start_again(&mut self, now: Moment) {
        if self.config.depends_on.is_empty() {
            return self.begin_start(now);
        }
        self.hold = Hold { insists: true, ..Hold::default() };
        self.enter(State::Waiting);
    }

    /// Asks for a start when the stop that is under way is over.
    pub fn start_once_stopped(&mut self) {
        if self.is_stopping() && !self.halted {
            (self.wanted, self.starts_again, self.stopped_by_hand) = (true, true, false);
        }
    }

    /// Whether a stop is under way.
    pub fn is_stopping(&self) -> bool {
        matches!(self.state, State::Stopping { .. } | State::StoppingLeftovers { .. })
    }

    /// What the next daemon must know. What insists is one whose restart was cut short.
    pub(super) fn is_to_be_held_back(&self) -> bool {
        self.wanted && self.hold != Hold::default() && !self.hold.insists
    }

    /// Waits no longer.
    pub(super) fn stop_waiting(&mut self) {
        self.hold = Hold::default();
    }

    /// Records that it is about to be started because another program depends on it.
    pub fn note_needed_by(&mut self, other: String) {
        self.note(Note::NeededBy(other));
    }

    /// Whether it starts as soon as what it depends on is up.
    pub fn is_held_back(&self) -> bool {
        let is_given_up = self.state == State::Fatal && self.hold.has_failed;
        self.wanted && !self.halted && (self.state == State::Waiting || is_given_up)
    }

    /// Whether it waits, and has not been told what for.
    pub fn is_ignorant(&self) -> bool {
        self.state == State::Waiting && self.hold.what.is_none()
    }

    /// Whether it waits, so that it has no child that has other settings than it has.
    pub fn is_waiting(&self) -> bool {
        self.state == State::Waiting
    }

    /// Whether it waits for something that will not come up by itself.
    pub fn is_stalled(&self) -> bool {
        self.state == State::Waiting && self.hold.is_stalled
    }

    /// Whether a start would begin one.
    pub fn is_startable(&self) -> bool {
        !self.halted && matches!(self.state, State::Stopped | State::Exited { .. } | State::Fatal)
    }

    /// Whether nobody has ever said that it shall run, or that it shall not.
    pub fn is_untouched(&self) -> bool {
        let has_run = self.spawned_at.is_some() || self.spawns > 0;
        self.state == State::Stopped && !has_run && !self.stopped_by_hand
    }

    /// What it waits for, in words.
    pub fn waits_for(&self) -> Option<&str> {
        self.hold.what.as_deref().filter(|_| self.state == State::Waiting)
    }
}
