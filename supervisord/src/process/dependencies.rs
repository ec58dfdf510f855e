//! A start that waits for other programs, key `depends_on`.
//!
//! Owns what a process does while they are not up; how it stands with them is told by [`crate::supervisor`].

use super::{Denied, Note, Process, State};
use crate::clock::Moment;

/// How it stands with the processes that one depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dependencies {
    /// All are up, or there are none.
    Up,
    /// One is on its way; which one, in words that follow "waiting for".
    Coming(String),
    /// One will not come up by itself; which one, in words.
    Down(String),
}

impl Process {
    /// Asks for a start as soon as what it depends on is up. What will not come up by itself makes it FATAL, from which it
    /// starts by itself when it does come up after all.
    ///
    /// # Errors
    /// As [`Process::start`].
    pub fn start_after(&mut self, dependencies: Dependencies, now: Moment) -> Result<(), Denied> {
        if dependencies == Dependencies::Up || !self.is_startable() {
            return self.start(now);
        }
        self.wanted = true;
        self.failures = 0;
        self.hold_back(dependencies, now);
        Ok(())
    }

    /// Waits for what it depends on.
    pub(super) fn hold_back(&mut self, dependencies: Dependencies, now: Moment) {
        self.enter(State::Waiting);
        if let Dependencies::Coming(what) = &dependencies {
            self.note(Note::Waiting(what.clone()));
        }
        self.handle_dependencies(dependencies, now);
    }

    /// Records how it stands now with what it depends on. Nothing happens to a process that does not wait for that.
    pub fn handle_dependencies(&mut self, dependencies: Dependencies, now: Moment) {
        if !self.is_held_back() {
            return;
        }
        match dependencies {
            Dependencies::Up => self.begin_start(now),
            Dependencies::Coming(what) => self.spawn_error = Some(format!("waiting for {what}")),
            Dependencies::Down(problem) => {
                if self.state == State::Waiting {
                    self.note(Note::HeldBack(problem.clone()));
                }
                self.spawn_error = Some(problem);
                self.enter(State::Fatal);
                self.lacks_dependency = true;
            }
        }
    }

    /// Records that it is about to be started because another program depends on it.
    pub fn note_needed_by(&mut self, other: String) {
        self.note(Note::NeededBy(other));
    }

    /// Whether it starts as soon as what it depends on is up.
    pub fn is_held_back(&self) -> bool {
        let is_given_up = self.state == State::Fatal && self.lacks_dependency;
        self.wanted && !self.halted && (self.state == State::Waiting || is_given_up)
    }

    /// Whether a start would begin one.
    pub fn is_startable(&self) -> bool {
        !self.halted && matches!(self.state, State::Stopped | State::Exited { .. } | State::Fatal)
    }

    /// Why it does not start yet.
    pub fn waits_for(&self) -> Option<&str> {
        self.spawn_error.as_deref().filter(|_| self.state == State::Waiting)
    }
}
