//! Operations on processes: who is meant, what is asked of the core, and what the client hears of each.

use std::collections::BTreeSet;

use tokio::sync::mpsc;

use super::{
    Driver,
    operations::{Goal, OperationId},
    requests::{Repeats, answer},
};
use crate::{
    clock::Moment,
    process::{Denied, Process, ProcessState},
    request::{Answer, Operate, Phase, ProcessResult, Reason, Verb},
    supervisor::{ProcessId, Selection, select},
};

/// Which processes an operation is about.
#[derive(Debug, Default)]
struct Targets {
    /// Named one by one: every refusal is a result.
    named: Vec<ProcessId>,
    /// Named by a group, a wildcard or `all`: those for which there is nothing to do are left out.
    gathered: Vec<ProcessId>,
    /// Selectors that name nothing.
    unmatched: Vec<(String, Reason)>,
}

/// What a stop is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aim {
    /// Itself.
    Stop,
    /// Itself; nobody waits for its end.
    StopLater,
    /// The start that follows.
    Restart,
    /// Other settings, under which goes on what was to run.
    Update,
}

impl Driver {
    pub(super) fn handle_operate(
        &mut self,
        reply: Answer<mpsc::Receiver<ProcessResult>>,
        operate: &Operate,
        now: Moment,
    ) {
        if let Err(refusal) = self.refuse_while_ending() {
            return answer(reply, Err(refusal));
        }
        let targets = self.resolve(&operate.names);
        let all: Vec<ProcessId> = targets.named.iter().chain(&targets.gathered).copied().collect();
        let is_restart = operate.verb == Verb::Restart;
        if is_restart || operate.verb == Verb::Start {
            self.launcher.forget_users();
        }
        let phase = if is_restart { Phase::Stop } else { Phase::Whole };
        let capacity = 2 * all.len() + targets.unmatched.len();
        let then_start = if is_restart { all } else { Vec::new() };
        let (operation, results) = self.operations.begin(capacity, phase, then_start);
        answer(reply, Ok(results));
        for (name, reason) in &targets.unmatched {
            let result = ProcessResult {
                name: name.clone(),
                group: String::new(),
                reason: *reason,
                description: String::new(),
                phase,
            };
            self.operations.report(operation, result);
        }
        match operate.verb {
            Verb::Start => self.start_all(operation, &targets, operate.wait, now),
            Verb::Stop if operate.wait => self.stop_all(operation, &targets, Aim::Stop, now),
            Verb::Stop => self.stop_all(operation, &targets, Aim::StopLater, now),
            Verb::Restart => {
                self.stop_all(operation, &targets, Aim::Restart, now);
            }
            Verb::Signal(signal) => {
                let is_signallable =
                    |id: &ProcessId| self.process_is(*id, |process| process.state().is_signallable());
                let gathered: Vec<_> = targets.gathered.iter().copied().filter(is_signallable).collect();
                let gathered = self.supervisor.in_start_order(&gathered);
                for id in targets.named.iter().copied().chain(gathered) {
                    let outcome = self.supervisor.signal(id, signal, now);
                    self.perform_effects(now);
                    if self
                        .process_is(id, |process| outcome.is_ok() && process.state() == ProcessState::Unknown)
                    {
                        let result = self.result_of(id, Reason::Failed);
                        self.operations.report(operation, result);
                    } else {
                        self.report_outcome(operation, id, outcome);
                    }
                }
            }
        }
        self.perform_effects(now);
        self.operations.release(operation);
        self.finish_operation(operation, now);
    }

    fn resolve(&self, names: &[String]) -> Targets {
        let mut targets = Targets::default();
        let mut repeats = Repeats::default();
        for name in names {
            match select(&self.supervisor, name) {
                Selection::One(id) => targets.named.push(id),
                Selection::Many(ids) => targets.gathered.extend(repeats.bound(ids)),
                Selection::NoProcess => targets.unmatched.push((name.clone(), Reason::BadName)),
                Selection::NoGroup => targets.unmatched.push((name.clone(), Reason::BadGroup)),
            }
        }
        targets
    }

    pub(super) fn process_is(&self, id: ProcessId, question: impl FnOnce(&Process) -> bool) -> bool {
        self.supervisor.process(id).is_some_and(question)
    }

    fn start_all(&mut self, operation: OperationId, targets: &Targets, wait: bool, now: Moment) {
        let needs_start = |id: &ProcessId| self.process_is(*id, |process| !process.state().is_started());
        let gathered: Vec<_> = targets.gathered.iter().copied().filter(needs_start).collect();
        let gathered = self.supervisor.in_start_order(&gathered);
        let ids = targets.named.iter().copied().chain(gathered).collect();
        self.start_in_order(operation, ids, wait, now);
    }

    fn start_in_order(&mut self, operation: OperationId, ids: Vec<ProcessId>, wait: bool, now: Moment) {
        // The start of one may let others wait that were held back until now: that is what was asked for.
        let is_given_up = |id: &ProcessId| {
            self.process_is(*id, |process| process.is_held_back() && !process.state().is_started())
        };
        let held_back: BTreeSet<ProcessId> = ids.iter().copied().filter(is_given_up).collect();
        for id in self.supervisor.after_dependencies(ids) {
            self.start_one(operation, id, (wait, held_back.contains(&id)), now);
        }
    }

    fn start_one(
        &mut self,
        operation: OperationId,
        id: ProcessId,
        (wait, was_held_back): (bool, bool),
        now: Moment,
    ) {
        let Some(process) = self.supervisor.process(id) else { return };
        if let Err(error) = self.launcher.check(process.config()) {
            let result = self.result_with(id, error.reason(), error.to_string());
            if self.process_is(id, |process| process.state() == ProcessState::Stopped && process.is_wanted())
            {
                // The second half of a restart: as after a stop, nobody is to wait for it.
                let _ = self.supervisor.stop(id, now);
            }
            return self.operations.report(operation, result);
        }
        if wait {
            self.operations.wait(operation, id, Goal::Started);
        }
        let asked = match self.supervisor.start(id, now) {
            Err(Denied::AlreadyStarted) if was_held_back => Ok(()),
            asked => asked,
        };
        if was_held_back && self.process_is(id, |process| process.state() == ProcessState::Running) {
            self.operations.forget(operation, id);
            return self.report_outcome(operation, id, Ok(()));
        }
        match asked {
            Ok(()) if wait => {
                self.perform_effects(now);
                self.publish_wait(id, now);
            }
            Ok(()) => {
                self.perform_effects(now);
                // What is known at once is said also to who does not wait, as by Supervisor.
                let has_failed = |process: &Process| {
                    matches!(process.state(), ProcessState::Backoff | ProcessState::Fatal)
                };
                let reason = if self.process_is(id, Process::is_stalled) {
                    Reason::DependencyDown
                } else if !self.process_is(id, has_failed) {
                    Reason::Ok
                } else if self.process_is(id, Process::is_held_back) {
                    Reason::DependencyDown
                } else {
                    Reason::SpawnError
                };
                let result = self.result_of(id, reason);
                self.operations.report(operation, result);
            }
            // Supervisor answers a start that does not wait with success here too.
            Err(Denied::Stopping) if !wait => self.report_outcome(operation, id, Ok(())),
            Err(denied) => {
                self.operations.forget(operation, id);
                self.report_outcome(operation, id, Err(denied));
            }
        }
    }

    fn stop_all(&mut self, operation: OperationId, targets: &Targets, aim: Aim, now: Moment) {
        let needs_stop = |id: &ProcessId| {
            self.process_is(*id, |p| !p.is_at_rest() || p.has_leftovers() || p.is_held_back())
        };
        let gathered: Vec<_> = targets.gathered.iter().copied().filter(needs_stop).collect();
        // Highest priority number first, as Supervisor's documentation says.
        let gathered = self.supervisor.in_start_order(&gathered).into_iter().rev();
        for id in targets.named.iter().copied().chain(gathered) {
            if aim != Aim::StopLater {
                self.operations.wait(operation, id, Goal::Stopped);
            }
            let asked = match aim {
                Aim::Stop | Aim::StopLater => self.supervisor.stop(id, now),
                Aim::Restart => self.supervisor.stop_for_start(id, now),
                Aim::Update if self.process_is(id, Process::is_to_run) => {
                    self.supervisor.stop_for_start(id, now)
                }
                Aim::Update => self.supervisor.stop(id, now),
            };
            match asked {
                Ok(()) if aim == Aim::StopLater => self.report_outcome(operation, id, Ok(())),
                Ok(()) => tracing::info!("waiting for {} to stop", self.name_of(id)),
                Err(denied) => {
                    self.operations.forget(operation, id);
                    self.report_outcome(operation, id, Err(denied));
                }
            }
        }
    }

    /// Stops all processes of a group, and waits also for those that somebody else is stopping.
    pub(super) fn stop_group(
        &mut self,
        reply: Answer<mpsc::Receiver<ProcessResult>>,
        group: &str,
        now: Moment,
    ) {
        if let Err(refusal) = self.refuse_while_ending() {
            return answer(reply, Err(refusal));
        }
        let ids = self.supervisor.group(group).map(|group| group.processes().to_vec()).unwrap_or_default();
        let results = self.stop_and_wait(ids, Aim::Stop, now);
        answer(reply, Ok(results));
    }

    /// Stops processes and waits also for those that somebody else is stopping. One result for each that did not rest.
    pub(super) fn stop_and_wait(
        &mut self,
        ids: Vec<ProcessId>,
        aim: Aim,
        now: Moment,
    ) -> mpsc::Receiver<ProcessResult> {
        let (operation, results) = self.operations.begin(ids.len(), Phase::Whole, Vec::new());
        let is_stopping =
            |id: &ProcessId| self.process_is(*id, |process| process.state() == ProcessState::Stopping);
        let (stopping, gathered) = ids.into_iter().partition::<Vec<_>, _>(is_stopping);
        for id in stopping {
            self.operations.wait(operation, id, Goal::Stopped);
        }
        let targets = Targets { gathered, ..Targets::default() };
        self.stop_all(operation, &targets, aim, now);
        self.perform_effects(now);
        self.operations.release(operation);
        self.finish_operation(operation, now);
        results
    }

    /// Ends an operation that waits for nothing any more; a restart goes on with its starts.
    pub(super) fn finish_operation(&mut self, operation: OperationId, now: Moment) {
        if let Some(to_start) = self.operations.finish(operation) {
            self.start_in_order(operation, to_start, true, now);
            self.operations.release(operation);
            self.operations.finish(operation);
        }
    }

    fn report_outcome(&mut self, operation: OperationId, id: ProcessId, outcome: Result<(), Denied>) {
        let reason = match outcome {
            Ok(()) => Reason::Ok,
            Err(Denied::AlreadyStarted) => Reason::AlreadyStarted,
            Err(Denied::Stopping) => Reason::AbnormalTermination,
            Err(Denied::NotRunning) => Reason::NotRunning,
            Err(Denied::Halted) => Reason::ShuttingDown,
            Err(Denied::Unknown) => Reason::Failed,
        };
        let result = match outcome {
            Ok(()) => self.result_of(id, reason),

            Err(denied) => self.result_with(id, reason, denied.to_string()),
        };
        self.operations.report(operation, result);
    }

    /// The result of an operation on a process, described by what is known of it.
    pub(super) fn result_of(&self, id: ProcessId, reason: Reason) -> ProcessResult {
        let error = self.supervisor.process(id).and_then(|process| process.spawn_error());
        let description = if reason == Reason::Ok { "" } else { error.unwrap_or_default() };
        self.result_with(id, reason, description.to_owned())
    }

    pub(super) fn result_with(&self, id: ProcessId, reason: Reason, description: String) -> ProcessResult {
        let (group, name) = self.supervisor.names(id).unwrap_or_default();
        ProcessResult {
            name: name.to_owned(),
            group: group.to_owned(),
            reason,
            description,
            phase: Phase::Whole,
        }
    }
}
