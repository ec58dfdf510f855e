//! The order in which everything is stopped: groups by descending priority, equal priorities at once, but pools of
//! listeners one by one, each when it has got what happened before.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use super::{Group, ProcessId};
use crate::config::GroupKind;

/// Time that a shutdown waits, all in all, for listeners to take the events that are kept for them. Enough for whoever
/// answers, and no burden where somebody does not.
const PATIENCE: Duration = Duration::from_secs(1);

/// Groups that are stopped at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    /// Programs, by the names of their groups.
    Programs(Vec<String>),
    /// A pool of listeners: the next one gets the events of its end.
    Listeners(String),
}

/// What a shutdown does next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// It waits.
    Wait,
    /// These groups are to be stopped.
    Stop(Vec<String>),
}

/// A shutdown under way.
#[derive(Debug)]
pub(super) struct Shutdown {
    /// Phases that have not been begun, the next one last.
    ahead: Vec<Phase>,
    /// Processes of the present phase that have not come to rest.
    waiting: BTreeSet<ProcessId>,
    hearing: Hearing,
    /// What is left of [`PATIENCE`].
    patience: Duration,
}

/// Whether the pool whose phase is next has got its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hearing {
    /// Nobody has asked.
    Unasked,
    /// It has until then.
    Until(Instant),
    /// It has, or does not answer.
    Over,
}

impl Shutdown {
    /// A shutdown of `groups`, given in order of activation, of which nothing has been begun.
    pub(super) fn new(groups: &[Group]) -> Self {
        let mut groups: Vec<&Group> = groups.iter().collect();
        groups.sort_by_key(|group| group.config.priority);
        let mut ahead: Vec<Phase> = Vec::new();
        let mut priority = None;
        for config in groups.into_iter().map(|group| &group.config) {
            let is_equal = priority.replace(config.priority) == Some(config.priority);
            let name = config.name.clone();
            if matches!(config.kind, GroupKind::EventListener { .. }) {
                ahead.push(Phase::Listeners(name));
            } else if let Some(Phase::Programs(names)) = ahead.last_mut().filter(|_| is_equal) {
                names.push(name);
            } else {
                ahead.push(Phase::Programs(vec![name]));
            }
        }
        Self { ahead, waiting: BTreeSet::new(), hearing: Hearing::Unasked, patience: PATIENCE }
    }

    /// Goes on if nothing has to be waited for.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        if !self.waiting.is_empty() {
            return Next::Wait;
        }
        let is_pool = matches!(self.ahead.last(), Some(Phase::Listeners(_)));
        match self.hearing {
            Hearing::Until(_) => return Next::Wait,
            Hearing::Unasked if is_pool && !self.patience.is_zero() => {
                self.hearing = Hearing::Until(now + self.patience);
                return Next::Wait;
            }
            Hearing::Unasked | Hearing::Over => self.hearing = Hearing::Unasked,
        }
        match self.ahead.pop() {
            Some(Phase::Programs(groups)) => Next::Stop(groups),
            Some(Phase::Listeners(group)) => Next::Stop(vec![group]),
            None => Next::Wait,
        }
    }

    /// The pool that is stopped next, once it has got its events.
    pub(super) fn heard_pool(&self) -> Option<&str> {
        match (self.hearing, self.ahead.last()) {
            (Hearing::Until(_), Some(Phase::Listeners(pool))) => Some(pool),
            (Hearing::Until(_) | Hearing::Unasked | Hearing::Over, _) => None,
        }
    }

    /// Until when listeners are waited for, if they are.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.hearing {
            Hearing::Until(until) => Some(until),
            Hearing::Unasked | Hearing::Over => None,
        }
    }

    /// Records that the pool has got its events, or that it is not waited for any longer.
    pub(super) fn end_hearing(&mut self, now: Instant) {
        if let Hearing::Until(until) = self.hearing {
            self.patience = until.saturating_duration_since(now);
            self.hearing = Hearing::Over;
        }
    }

    /// Waits for `id` in this phase.
    pub(super) fn wait_for(&mut self, id: ProcessId) {
        self.waiting.insert(id);
    }

    /// Records that `id` has come to rest.
    pub(super) fn rested(&mut self, id: ProcessId) {
        self.waiting.remove(&id);
    }

    /// Whether nothing remains to be done.
    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.ahead.is_empty()
    }
}
