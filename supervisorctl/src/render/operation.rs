//! What became of `start`, `stop`, `signal` and `clear`, process by process.

use serde_json::{Value, json};
use supervisor_proto::v1::{ProcessResult, Reason};

use super::{Item, display_selector, exit, namespec, reason_name};

/// What is done to processes, one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `start`
    Start,
    /// `stop`
    Stop,
    /// `signal`
    Signal,
    /// `clear`
    Clear,
}

impl Operation {
    /// The word for its success.
    fn done(self) -> &'static str {
        match self {
            Self::Start => "started",
            Self::Stop => "stopped",
            Self::Signal => "signalled",
            Self::Clear => "cleared",
        }
    }

    /// Its name.
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Signal => "signal",
            Self::Clear => "clear",
        }
    }
}

/// What became of an operation on one process.
pub struct Done<'a> {
    /// What was done.
    pub operation: Operation,
    /// What became of it.
    pub result: &'a ProcessResult,
}

impl Done<'_> {
    /// The words in the brackets of `N: ERROR (…)`; `None` = success.
    fn problem(&self) -> Option<&str> {
        Some(match self.result.reason() {
            Reason::Ok => return None,
            Reason::BadName => "no such process",
            Reason::BadGroup => "no such group",
            Reason::BadSignal => "bad signal name",
            Reason::NoFile => "no such file",
            Reason::NotExecutable => "file is not executable",
            Reason::AbnormalTermination => "abnormal termination",
            Reason::SpawnError => "spawn error",
            Reason::AlreadyStarted => "already started",
            Reason::NotRunning => "not running",
            Reason::ShuttingDown => "supervisord is shutting down",
            Reason::Failed if self.operation == Operation::Clear => "failed",
            Reason::Failed
            | Reason::Unspecified
            | Reason::AlreadyAdded
            | Reason::StillRunning
            | Reason::DependencyDown
            | Reason::Upgrading
            | Reason::CannotReread => match self.result.description.as_str() {
                "" => "failed",
                description => description,
            },
        })
    }

    /// The cause of a failure, where the line of Supervisor keeps it back.
    pub fn cause(&self) -> Option<String> {
        let ProcessResult { name, group, description, .. } = self.result;
        let is_cause =
            self.problem().is_some_and(|problem| problem != description) && !description.is_empty();
        is_cause.then(|| format!("{}: {description}", namespec(group, name)))
    }
}

impl Item for Done<'_> {
    fn text(&self) -> String {
        let ProcessResult { name, group, .. } = self.result;
        let subject = if group.is_empty() { display_selector(name) } else { namespec(group, name) };
        match self.problem() {
            None => format!("{subject}: {}", self.operation.done()),
            Some(problem) => format!("{subject}: ERROR ({problem})"),
        }
    }

    fn json(&self) -> Value {
        let ProcessResult { name, group, description, .. } = self.result;
        json!({
            "operation": self.operation.name(),
            "name": name,
            "group": group,
            "result": reason_name(self.result.reason()),
            "description": description,
        })
    }

    fn status(&self) -> Option<u8> {
        match (self.result.reason(), self.operation) {
            (Reason::Ok, _) => None,
            (Reason::AlreadyStarted, Operation::Start) | (Reason::NotRunning, Operation::Stop) => None,
            (Reason::BadGroup, Operation::Start) => Some(exit::INVALID_ARGS),
            (
                Reason::SpawnError
                | Reason::AbnormalTermination
                | Reason::DependencyDown
                | Reason::NotRunning,
                _,
            ) => Some(exit::NOT_RUNNING),
            (_other, _) => Some(exit::GENERIC),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_line_and_exit_status_for_every_operation() {
        use Operation::{Clear, Signal, Start, Stop};
        for (operation, reason, line, status) in [
            (Start, Reason::Ok, "g:a: started", None),
            (Start, Reason::BadName, "g:a: ERROR (no such process)", Some(1)),
            (Start, Reason::NoFile, "g:a: ERROR (no such file)", Some(1)),
            (Start, Reason::NotExecutable, "g:a: ERROR (file is not executable)", Some(1)),
            (Start, Reason::AlreadyStarted, "g:a: ERROR (already started)", None),
            (Start, Reason::SpawnError, "g:a: ERROR (spawn error)", Some(7)),
            (Start, Reason::AbnormalTermination, "g:a: ERROR (abnormal termination)", Some(7)),
            (Start, Reason::Failed, "g:a: ERROR (why)", Some(1)),
            (Stop, Reason::Ok, "g:a: stopped", None),
            (Stop, Reason::NotRunning, "g:a: ERROR (not running)", None),
            (Stop, Reason::Failed, "g:a: ERROR (why)", Some(1)),
            (Signal, Reason::Ok, "g:a: signalled", None),
            (Signal, Reason::NotRunning, "g:a: ERROR (not running)", Some(7)),
            (Signal, Reason::BadSignal, "g:a: ERROR (bad signal name)", Some(1)),
            (Clear, Reason::Ok, "g:a: cleared", None),
            (Clear, Reason::Failed, "g:a: ERROR (failed)", Some(1)),
        ] {
            let result = ProcessResult {
                name: "a".to_owned(),
                group: "g".to_owned(),
                reason: reason.into(),
                description: "why".to_owned(),
                ..ProcessResult::default()
            };
            let done = Done { operation, result: &result };
            assert_eq!((done.text().as_str(), done.status()), (line, status), "{operation:?} {reason:?}");
        }
    }

    #[test]
    fn what_does_not_exist_is_called_as_it_was_asked_for() {
        for (selector, reason, line, start, stop) in [
            ("x", Reason::BadName, "x: ERROR (no such process)", 1, 1),
            ("x:x", Reason::BadName, "x: ERROR (no such process)", 1, 1),
            ("g:x", Reason::BadName, "g:x: ERROR (no such process)", 1, 1),
            ("g:*", Reason::BadGroup, "g: ERROR (no such group)", 2, 1),
            ("g:", Reason::BadGroup, "g: ERROR (no such group)", 2, 1),
        ] {
            let name = selector.to_owned();
            let result = ProcessResult { name, reason: reason.into(), ..ProcessResult::default() };
            for (operation, status) in [(Operation::Start, start), (Operation::Stop, stop)] {
                let done = Done { operation, result: &result };
                assert_eq!((done.text().as_str(), done.status()), (line, Some(status)), "{selector}");
            }
        }
    }

    #[test]
    fn a_failed_start_keeps_its_cause_for_people() {
        let result = ProcessResult {
            name: "a".to_owned(),
            group: "a".to_owned(),
            reason: Reason::SpawnError.into(),
            description: "can't find command '/x'".to_owned(),
            ..ProcessResult::default()
        };
        let done = Done { operation: Operation::Start, result: &result };
        assert_eq!(done.cause().as_deref(), Some("a: can't find command '/x'"));
    }
}
