//! What dead main processes left behind: when it is ended, when it gets SIGKILL, and when it is given up.
//!
//! Owns the rules; whether something was left and when it is gone is found out by the driver.

use std::time::{Duration, Instant};

use super::{Effect, KILL_AGAIN, Note, Process, State, StopReach};
use crate::{clock::Moment, config::StopSignal};

/// Time that processes left behind by a dead main process get between the stop signal and SIGKILL when a replacement
/// waits for them; `stopwaitsecs` if that is shorter.
const LEFTOVER_GRACE: Duration = Duration::from_millis(500);

/// Processes of the program that outlived its main process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leftovers {
    /// None are known.
    None,
    /// They exist and nobody waits for their end.
    Kept,
    /// They were sent a signal; at `kill_at` follows SIGKILL, or, if that was it, they are given up.
    Ending { kill_at: Instant, killed: bool },
}

impl Process {
    /// Asks to end what a dead main process left behind, if there is something and nobody waits for it yet.
    pub fn end_leftovers(&mut self, now: Moment) {
        if self.leftovers == Leftovers::Kept {
            self.begin_ending(self.leftover_deadline(now));
        }
    }

    /// Records that an earlier main process was found to have left something behind, and ends it if the program goes on.
    pub fn handle_leftovers_found(&mut self, now: Moment) {
        if self.leftovers == Leftovers::None {
            self.leftovers = Leftovers::Kept;
        }
        if !self.state().is_stopped() {
            self.end_leftovers(now);
        }
    }

    /// Records that nothing is left of what earlier main processes left behind.
    pub fn handle_leftovers_gone(&mut self, now: Moment) {
        self.leftovers = Leftovers::None;
        match self.state {
            State::Spawning => self.request_spawn(now),
            State::StoppingLeftovers { .. } => self.enter_stopped(now),
            State::Stopped
            | State::Waiting
            | State::Starting { .. }
            | State::Running { .. }
            | State::Backoff { .. }
            | State::Stopping { .. }
            | State::Exited { .. }
            | State::Fatal
            | State::Unknown { .. } => {}
        }
    }

    /// Whether processes that a dead main process left behind are known to live.
    pub fn has_leftovers(&self) -> bool {
        self.leftovers != Leftovers::None
    }

    /// Sends the stop signal to what was left behind, and SIGKILL at `kill_at`.
    pub(super) fn begin_ending(&mut self, kill_at: Instant) {
        let stop = match self.state {
            State::StoppingLeftovers { .. } if self.config.stopasgroup => Some(StopReach::Group),
            State::StoppingLeftovers { .. } => Some(StopReach::Leader),
            State::Stopped
            | State::Waiting
            | State::Spawning
            | State::Starting { .. }
            | State::Running { .. }
            | State::Backoff { .. }
            | State::Stopping { .. }
            | State::Exited { .. }
            | State::Fatal
            | State::Unknown { .. } => None,
        };
        self.note(Note::EndingLeftovers(stop));
        self.leftovers = Leftovers::Ending { kill_at, killed: false };
        self.effects.push_back(Effect::EndLeftovers { signal: self.config.stopsignal });
    }

    /// The time of a signal is over: SIGKILL follows, or, after that, nobody waits any longer.
    pub(super) fn press_leftovers(&mut self, killed: bool, now: Moment) {
        if killed {
            self.note(Note::LeftoversRemain);
            self.handle_leftovers_gone(now);
        } else {
            self.note(Note::KillingLeftovers);
            self.leftovers = Leftovers::Ending { kill_at: now.deadline(KILL_AGAIN), killed: true };
            self.effects.push_back(Effect::EndLeftovers { signal: StopSignal::KILL });
        }
    }

    /// When SIGKILL follows if a replacement waits.
    pub(super) fn leftover_deadline(&self, now: Moment) -> Instant {
        now.deadline(self.config.stopwaitsecs.min(LEFTOVER_GRACE))
    }
}
