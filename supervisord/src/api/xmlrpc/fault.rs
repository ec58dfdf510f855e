//! Supervisor's faults: their numbers and texts, and which of them our refusals are.

use std::fmt::Display;

use crate::request::{ProcessResult, Reason, Refusal};

/// What a client gets instead of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `faultCode`.
    pub code: i64,
    /// `faultString`: the name of the code, then what it is about.
    pub text: String,
}

/// `status` of a process for which an operation was done.
pub const SUCCESS: i64 = Reason::Ok as i64;

const UNKNOWN_METHOD: i64 = 1;
const INCORRECT_PARAMETERS: i64 = 2;
const BAD_ARGUMENTS: i64 = 3;
const SIGNATURE_UNSUPPORTED: i64 = 4;
const BAD_SIGNAL: i64 = 11;

impl Fault {
    fn bare(code: i64, name: &str) -> Self {
        Self { code, text: name.to_owned() }
    }

    fn about(code: i64, name: &str, what: impl Display) -> Self {
        Self { code, text: format!("{name}: {what}") }
    }

    /// There is no such method.
    pub fn unknown_method() -> Self {
        Self::bare(UNKNOWN_METHOD, "UNKNOWN_METHOD")
    }

    /// Too many, too few, or of a type that makes no sense.
    pub fn incorrect_parameters() -> Self {
        Self::bare(INCORRECT_PARAMETERS, "INCORRECT_PARAMETERS")
    }

    /// The same about something.
    pub fn parameters(what: impl Display) -> Self {
        Self::about(INCORRECT_PARAMETERS, "INCORRECT_PARAMETERS", what)
    }

    /// An impossible combination of offset and length.
    pub fn bad_arguments() -> Self {
        Self::bare(BAD_ARGUMENTS, "BAD_ARGUMENTS")
    }

    /// Introspection of an unknown method.
    pub fn signature_unsupported() -> Self {
        Self::bare(SIGNATURE_UNSUPPORTED, "SIGNATURE_UNSUPPORTED")
    }

    /// No signal is called so.
    pub fn bad_signal(signal: &str) -> Self {
        Self::about(BAD_SIGNAL, "BAD_SIGNAL", signal)
    }

    /// The daemon is shutting down or restarting.
    pub fn ending() -> Self {
        Self::of(Reason::ShuttingDown, "")
    }

    /// No process or group is called so.
    pub fn bad_name(name: &str) -> Self {
        Self::of(Reason::BadName, name)
    }

    /// A file is missing, or none is configured.
    pub fn no_file(path: Option<&std::path::Path>) -> Self {
        Self::of(Reason::NoFile, &path.map(|path| path.display().to_string()).unwrap_or_default())
    }

    /// Something else went wrong.
    pub fn failed(what: impl Display) -> Self {
        Self::of(Reason::Failed, &what.to_string())
    }

    /// The fault of a reason, about `what` if that is not empty.
    pub fn of(reason: Reason, what: &str) -> Self {
        let (code, name) = match reason {
            Reason::ShuttingDown => return Self::bare(reason as i64, "SHUTDOWN_STATE"),
            // Supervisor has one code for both.
            Reason::BadName | Reason::BadGroup => (Reason::BadName, "BAD_NAME"),
            Reason::NoFile => (reason, "NO_FILE"),
            Reason::NotExecutable => (reason, "NOT_EXECUTABLE"),
            Reason::Failed => (reason, "FAILED"),
            Reason::AbnormalTermination => (reason, "ABNORMAL_TERMINATION"),
            Reason::SpawnError | Reason::DependencyDown => (Reason::SpawnError, "SPAWN_ERROR"),
            Reason::AlreadyStarted => (reason, "ALREADY_STARTED"),
            Reason::NotRunning => (reason, "NOT_RUNNING"),
            Reason::Ok => (reason, "SUCCESS"),
            Reason::AlreadyAdded => (reason, "ALREADY_ADDED"),
            Reason::StillRunning => (reason, "STILL_RUNNING"),
            Reason::CannotReread => (reason, "CANT_REREAD"),
        };
        // An empty name is a name.
        if what.is_empty() && code != Reason::BadName {
            return Self::bare(code as i64, name);
        }
        Self::about(code as i64, name, what)
    }

    /// The fault of a refused request about `name`.
    pub fn refused(refusal: &Refusal, name: &str) -> Self {
        match refusal.reason {
            // The first error is Supervisor's text; all of them follow after an empty line.
            Reason::CannotReread => {
                Self::of(refusal.reason, refusal.message.split("\n\n").next().unwrap_or_default())
            }
            Reason::Failed => Self::of(refusal.reason, &refusal.message),
            Reason::ShuttingDown
            | Reason::BadName
            | Reason::BadGroup
            | Reason::NoFile
            | Reason::NotExecutable
            | Reason::AbnormalTermination
            | Reason::SpawnError
            | Reason::AlreadyStarted
            | Reason::NotRunning
            | Reason::Ok
            | Reason::AlreadyAdded
            | Reason::DependencyDown
            | Reason::StillRunning => Self::of(refusal.reason, name),
        }
    }

    /// The fault of an operation on one process, which the client called `name`; none if it was done.
    pub fn of_result(result: &ProcessResult, name: &str) -> Option<Self> {
        match result.reason {
            Reason::Ok => None,
            Reason::NoFile | Reason::NotExecutable | Reason::Failed if !result.description.is_empty() => {
                Some(Self::of(result.reason, &result.description))
            }
            Reason::Failed => {
                Some(Self::of(result.reason, &format!("{name} is in an unknown process state")))
            }
            Reason::ShuttingDown
            | Reason::BadName
            | Reason::BadGroup
            | Reason::NoFile
            | Reason::NotExecutable
            | Reason::AbnormalTermination
            | Reason::SpawnError
            | Reason::AlreadyStarted
            | Reason::NotRunning
            | Reason::AlreadyAdded
            | Reason::DependencyDown
            | Reason::StillRunning
            | Reason::CannotReread => Some(Self::of(result.reason, name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Phase;

    #[test]
    fn faults_have_supervisors_numbers_and_texts() {
        for (fault, code, text) in [
            (Fault::unknown_method(), 1, "UNKNOWN_METHOD"),
            (Fault::parameters(5), 2, "INCORRECT_PARAMETERS: 5"),
            (Fault::ending(), 6, "SHUTDOWN_STATE"),
            (Fault::bad_name("a:b"), 10, "BAD_NAME: a:b"),
            (Fault::bad_name(""), 10, "BAD_NAME: "),
            (Fault::of(Reason::BadGroup, "g"), 10, "BAD_NAME: g"),
            (Fault::no_file(None), 20, "NO_FILE"),
            (Fault::of(Reason::CannotReread, "x"), 92, "CANT_REREAD: x"),
        ] {
            assert_eq!((fault.code, fault.text.as_str()), (code, text));
        }
    }

    #[test]
    fn results_tell_the_file_where_one_is_the_reason_and_else_the_name() {
        let result = |reason, description: &str| ProcessResult {
            name: "p".to_owned(),
            group: "g".to_owned(),
            reason,
            description: description.to_owned(),
            phase: Phase::Whole,
        };
        let text = |reason, description| {
            Fault::of_result(&result(reason, description), "g:p").map(|fault| fault.text)
        };
        assert_eq!(text(Reason::Ok, ""), None);
        assert_eq!(
            text(Reason::NoFile, "can't find command 'x'").unwrap(),
            "NO_FILE: can't find command 'x'"
        );
        assert_eq!(text(Reason::SpawnError, "Exited too quickly").unwrap(), "SPAWN_ERROR: g:p");
        assert_eq!(text(Reason::Failed, "").unwrap(), "FAILED: g:p is in an unknown process state");
    }
}
