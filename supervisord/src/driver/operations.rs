//! Operations that wait: which client wants to hear of which process, and when an operation has ended.

use std::collections::HashMap;

use tokio::sync::mpsc;

use crate::{
    process::ProcessState,
    request::{Phase, ProcessResult, Reason},
    supervisor::ProcessId,
};

/// What an operation waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Goal {
    /// The process is up.
    Started,
    /// The process has come to rest.
    Stopped,
}

impl Goal {
    /// What entering `state` means for the goal; `None` = wait on. Source: Supervisor's `startProcess` and
    /// `stopProcess`.
    fn outcome(self, state: ProcessState) -> Option<Reason> {
        match (self, state) {
            (Self::Started, ProcessState::Running) => Some(Reason::Ok),
            (Self::Started, ProcessState::Backoff | ProcessState::Fatal) => Some(Reason::SpawnError),
            (Self::Started, ProcessState::Starting) => None,
            (
                Self::Started,
                ProcessState::Stopped | ProcessState::Stopping | ProcessState::Exited | ProcessState::Unknown,
            ) => Some(Reason::AbnormalTermination),
            (Self::Stopped, ProcessState::Unknown) => Some(Reason::Failed),
            (Self::Stopped, state) => state.is_stopped().then_some(Reason::Ok),
        }
    }
}

/// Identifies an operation under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct OperationId(u64);

#[derive(Debug)]
struct Operation {
    /// Has room for every result, so that no client can block the driver.
    results: mpsc::Sender<ProcessResult>,
    pending: usize,
    phase: Phase,
    /// What to start when all has been stopped.
    then_start: Vec<ProcessId>,
}

/// All operations under way.
#[derive(Debug, Default)]
pub(super) struct Operations {
    next: u64,
    under_way: HashMap<OperationId, Operation>,
    waiting: HashMap<ProcessId, Vec<(OperationId, Goal)>>,
}

impl Operations {
    /// Begins an operation that will give at most `capacity` results; `then_start` belongs to a restart.
    pub(super) fn begin(
        &mut self,
        capacity: usize,
        phase: Phase,
        then_start: Vec<ProcessId>,
    ) -> (OperationId, mpsc::Receiver<ProcessResult>) {
        let (results, receiver) = mpsc::channel(capacity.max(1));
        let id = OperationId(self.next);
        self.next += 1;
        // The one more is the beginning itself: a process that is up at once must not end the operation before the
        // others have been asked. `release` takes it back.
        self.under_way.insert(id, Operation { results, pending: 1, phase, then_start });
        (id, receiver)
    }

    /// Records that all processes of this part of the operation have been asked.
    pub(super) fn release(&mut self, id: OperationId) {
        if let Some(operation) = self.under_way.get_mut(&id) {
            operation.pending -= 1;
        }
    }

    /// Gives a result at once.
    pub(super) fn report(&mut self, id: OperationId, result: ProcessResult) {
        if let Some(operation) = self.under_way.get(&id) {
            let result = ProcessResult { phase: operation.phase, ..result };
            // The channel has room for all results: this fails only when the client is gone.
            let _ = operation.results.try_send(result);
        }
    }

    /// Makes the operation wait for `process`.
    pub(super) fn wait(&mut self, id: OperationId, process: ProcessId, goal: Goal) {
        if let Some(operation) = self.under_way.get_mut(&id) {
            operation.pending += 1;
            self.waiting.entry(process).or_default().push((id, goal));
        }
    }

    /// Takes back the last `wait` for `process`.
    pub(super) fn forget(&mut self, id: OperationId, process: ProcessId) {
        let Some(waiting) = self.waiting.get_mut(&process) else { return };
        if let Some(at) = waiting.iter().rposition(|(operation, _)| *operation == id) {
            waiting.remove(at);
            if let Some(operation) = self.under_way.get_mut(&id) {
                operation.pending -= 1;
            }
        }
        if waiting.is_empty() {
            self.waiting.remove(&process);
        }
    }

    /// Records that `process` entered `state`: the operations for which this is the end, and how it ended.
    pub(super) fn handle_state(
        &mut self,
        process: ProcessId,
        state: ProcessState,
    ) -> Vec<(OperationId, Reason)> {
        let Some(waiting) = self.waiting.get_mut(&process) else { return Vec::new() };
        let mut ended = Vec::new();
        waiting.retain(|(id, goal)| match goal.outcome(state) {
            Some(reason) => {
                ended.push((*id, reason));
                false
            }
            None => true,
        });
        if waiting.is_empty() {
            self.waiting.remove(&process);
        }
        for (id, _) in &ended {
            if let Some(operation) = self.under_way.get_mut(id) {
                operation.pending -= 1;
            }
        }
        ended
    }

    /// Records that the start of `process` waits for what will not happen by itself: the operations that have waited for
    /// it.
    pub(super) fn handle_stalled(&mut self, process: ProcessId) -> Vec<OperationId> {
        let Some(waiting) = self.waiting.get_mut(&process) else { return Vec::new() };
        let ended: Vec<OperationId> =
            waiting.extract_if(.., |(_, goal)| *goal == Goal::Started).map(|(id, _)| id).collect();
        if waiting.is_empty() {
            self.waiting.remove(&process);
        }
        for id in &ended {
            if let Some(operation) = self.under_way.get_mut(id) {
                operation.pending -= 1;
            }
        }
        ended
    }

    /// Ends the operation if it waits for nothing any more; for the stop of a restart, what is to be started now,
    /// to be followed by `release`.
    pub(super) fn finish(&mut self, id: OperationId) -> Option<Vec<ProcessId>> {
        let operation = self.under_way.get_mut(&id)?;
        if operation.pending > 0 {
            return None;
        }
        if operation.phase == Phase::Stop {
            operation.phase = Phase::Start;
            operation.pending = 1;
            return Some(std::mem::take(&mut operation.then_start));
        }
        self.under_way.remove(&id);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_does_not_end_before_all_have_been_asked() {
        let mut operations = Operations::default();
        let (id, _results) = operations.begin(2, Phase::Stop, Vec::new());
        assert_eq!(operations.finish(id), None, "the stop is being asked for");
        operations.release(id);
        assert_eq!(operations.finish(id), Some(Vec::new()));
        assert_eq!(operations.finish(id), None, "the start is being asked for");
        assert!(operations.under_way.contains_key(&id));
        operations.release(id);
        operations.finish(id);
        assert!(!operations.under_way.contains_key(&id));
    }

    #[test]
    fn goals_end_as_supervisors_requests_do() {
        let started = |state| Goal::Started.outcome(state);
        let stopped = |state| Goal::Stopped.outcome(state);
        let expected = [
            (ProcessState::Stopped, Some(Reason::AbnormalTermination), Some(Reason::Ok)),
            (ProcessState::Starting, None, None),
            (ProcessState::Running, Some(Reason::Ok), None),
            (ProcessState::Backoff, Some(Reason::SpawnError), None),
            (ProcessState::Stopping, Some(Reason::AbnormalTermination), None),
            (ProcessState::Exited, Some(Reason::AbnormalTermination), Some(Reason::Ok)),
            (ProcessState::Fatal, Some(Reason::SpawnError), Some(Reason::Ok)),
            (ProcessState::Unknown, Some(Reason::AbnormalTermination), Some(Reason::Failed)),
        ];
        for (state, start, stop) in expected {
            assert_eq!((started(state), stopped(state)), (start, stop), "{state}");
        }
    }
}
