//! The order in which everything is stopped: groups by descending priority, equal priorities at once.

use std::collections::BTreeSet;

use super::ProcessId;

/// A shutdown under way.
#[derive(Debug)]
pub(super) struct Shutdown {
    /// Priorities that have not been begun, ascending.
    ahead: Vec<i32>,
    /// Processes of the present phase that have not come to rest.
    waiting: BTreeSet<ProcessId>,
}

impl Shutdown {
    /// A shutdown of groups with these priorities, of which nothing has been begun.
    pub(super) fn new(mut priorities: Vec<i32>) -> Self {
        priorities.sort_unstable();
        priorities.dedup();
        Self { ahead: priorities, waiting: BTreeSet::new() }
    }

    /// Begins the next phase: the priority whose groups are to be stopped, or `None` when all is done.
    pub(super) fn next_phase(&mut self) -> Option<i32> {
        self.ahead.pop()
    }

    /// Waits for `id` in this phase.
    pub(super) fn wait_for(&mut self, id: ProcessId) {
        self.waiting.insert(id);
    }

    /// Records that `id` has come to rest.
    pub(super) fn rested(&mut self, id: ProcessId) {
        self.waiting.remove(&id);
    }

    /// Whether every process of the phase has come to rest.
    pub(super) fn is_phase_over(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether nothing remains to be done.
    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.ahead.is_empty()
    }
}
