//! The order in which everything is stopped: groups by descending priority, equal priorities at once, but pools of
//! listeners one by one, each when it has got what happened before; and what others depend on when these have stopped.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{Group, ProcessId};
use crate::config::GroupKind;

/// Time that a shutdown waits, all in all, for listeners that do not answer to take the events that are kept for them.
/// Enough for whoever answers, and no burden where somebody does not.
const PATIENCE: Duration = Duration::from_secs(1);
/// The same for listeners that answer, however slowly: whoever kills us if we take too long gives us at least ten.
const INDULGENCE: Duration = Duration::from_secs(3);

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
    /// Those of them that have not been told to stop, and how many that depend on them have not come to rest.
    untold: BTreeMap<ProcessId, usize>,
    /// Those of them on which nobody depends who has not come to rest, in the order in which they are told.
    free: Vec<ProcessId>,
    /// Whether some are being told.
    is_telling: bool,
    /// Which processes depend on each, if any do, and the other way.
    dependents: BTreeMap<ProcessId, Vec<ProcessId>>,
    needed: BTreeMap<ProcessId, Vec<ProcessId>>,
    hearing: Hearing,
    /// What is left of [`PATIENCE`].
    patience: Duration,
    /// What is left of [`INDULGENCE`].
    indulgence: Duration,
}

/// Whether the pool whose phase is next has got its events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hearing {
    /// Nobody has asked.
    Unasked,
    /// It has until then, and longer for each answer.
    Until {
        /// When it has been silent for too long.
        silent: Instant,
        /// When it has taken too long in all.
        slow: Instant,
    },
    /// It has, or does not answer.
    Over,
}

impl Shutdown {
    /// A shutdown of `groups`, given in order of activation, of which nothing has been begun.
    pub(super) fn new(groups: &[Group], dependents: BTreeMap<ProcessId, Vec<ProcessId>>) -> Self {
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
        let mut needed: BTreeMap<ProcessId, Vec<ProcessId>> = BTreeMap::new();
        for (id, dependents) in &dependents {
            for dependent in dependents {
                needed.entry(*dependent).or_default().push(*id);
            }
        }
        Self {
            ahead,
            waiting: BTreeSet::new(),
            untold: BTreeMap::new(),
            free: Vec::new(),
            is_telling: false,
            dependents,
            needed,
            hearing: Hearing::Unasked,
            patience: PATIENCE,
            indulgence: INDULGENCE,
        }
    }

    /// Goes on if nothing has to be waited for.
    pub(super) fn next(&mut self, now: Instant) -> Next {
        if !self.waiting.is_empty() {
            return Next::Wait;
        }
        let is_pool = matches!(self.ahead.last(), Some(Phase::Listeners(_)));
        match self.hearing {
            Hearing::Until { .. } => return Next::Wait,
            Hearing::Unasked if is_pool && !self.patience.is_zero() && !self.indulgence.is_zero() => {
                self.hearing = Hearing::Until { silent: now + self.patience, slow: now + self.indulgence };
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
            (Hearing::Until { .. }, Some(Phase::Listeners(pool))) => Some(pool),
            (Hearing::Until { .. } | Hearing::Unasked | Hearing::Over, _) => None,
        }
    }

    /// Until when listeners are waited for, if they are.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.hearing {
            Hearing::Until { silent, slow } => Some(silent.min(slow)),
            Hearing::Unasked | Hearing::Over => None,
        }
    }

    /// Records that the pool has answered an event: its silence begins anew.
    pub(super) fn handle_answer(&mut self, now: Instant) {
        if let Hearing::Until { silent, .. } = &mut self.hearing {
            *silent = now + self.patience;
        }
    }

    /// Records that the pool has got its events, or that it is not waited for any longer.
    pub(super) fn end_hearing(&mut self, now: Instant) {
        if let Hearing::Until { silent, slow } = self.hearing {
            self.patience = silent.saturating_duration_since(now);
            self.indulgence = slow.saturating_duration_since(now);
            self.hearing = Hearing::Over;
        }
    }

    /// Begins a phase in which these are stopped in this order, and before them those that depend on them and are
    /// `busy`, of whatever priority.
    pub(super) fn begin_phase(&mut self, ids: Vec<ProcessId>, busy: impl Fn(ProcessId) -> bool) {
        let mut ahead: Vec<ProcessId> = ids.into_iter().rev().collect();
        let mut all = Vec::with_capacity(ahead.len());
        while let Some(id) = ahead.pop() {
            if self.waiting.insert(id) {
                all.push(id);
                let dependents = self.dependents.get(&id).into_iter().flatten().copied();
                ahead.extend(dependents.filter(|id| busy(*id)));
            }
        }
        for id in all {
            let dependents = self.dependents.get(&id).into_iter().flatten();
            let count = dependents.filter(|dependent| self.waiting.contains(dependent)).count();
            self.untold.insert(id, count);
            if count == 0 {
                self.free.push(id);
            }
        }
    }

    /// Whether the caller may tell processes to stop; not while it does, for one that is at rest calls for the next.
    /// [`Shutdown::end_telling`] must follow.
    pub(super) fn begin_telling(&mut self) -> bool {
        !std::mem::replace(&mut self.is_telling, true)
    }

    /// Records that all that could be told have been.
    pub(super) fn end_telling(&mut self) {
        self.is_telling = false;
    }

    /// Takes those that can be told to stop now: nobody depends on them who has not come to rest.
    pub(super) fn take_free(&mut self) -> Vec<ProcessId> {
        let mut free = std::mem::take(&mut self.free);
        // Those of a circle wait for each other.
        if free.is_empty() && self.untold.len() == self.waiting.len() {
            free = self.untold.keys().copied().collect();
        }
        for id in &free {
            self.untold.remove(id);
        }
        free
    }

    /// Records that `id` has come to rest. That of one which has not been told does not count: it may have left something
    /// behind that is ended when it is told.
    pub(super) fn rested(&mut self, id: ProcessId) {
        if self.untold.contains_key(&id) || !self.waiting.remove(&id) {
            return;
        }
        for needed in self.needed.get(&id).into_iter().flatten() {
            if let Some(count) = self.untold.get_mut(needed) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.free.push(*needed);
                }
            }
        }
    }

    /// Records that `id` is not supervised any more.
    pub(super) fn forget(&mut self, id: ProcessId) {
        self.untold.remove(&id);
        self.free.retain(|free| *free != id);
        self.rested(id);
    }

    /// Whether nothing remains to be done.
    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.ahead.is_empty()
    }
}
