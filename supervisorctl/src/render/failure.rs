//! Why a command could not be carried out: line, JSON and exit status.

use supervisor_proto::v1::Reason;

use super::{Plain, exit, reason_name};
use crate::{
    client::{Broken, ConnectError, Failure},
    commands::Verb,
};

/// Why a command could not be carried out. The `cure` stands in the line where Supervisor has no words of its own.
pub fn failure(verb: Verb, failure: &Failure, url: &str, cure: Option<&str>) -> Plain {
    match failure {
        Failure::Connect(error) => no_connection(verb, error, cure),
        Failure::Unauthenticated => {
            let words = "Server requires authentication";
            Plain::error(words, "UNAUTHENTICATED", words, Some(exit::GENERIC))
        }
        Failure::Refused { reason, message } => refusal(verb, *reason, message),
        Failure::Broken(broken) => {
            let reason = match broken {
                Broken::Lost(_) => "CONNECTION_LOST",
                Broken::Foreign(_) => "NOT_A_SUPERVISORD",
                Broken::Reported(_) => "FAILED",
            };
            let message = format!("{}: {broken}", crate::client::without_user(url));
            Plain::error(format!("error: {message}"), reason, &message, Some(exit::GENERIC))
        }
    }
}

/// No connection came about. Commands that look first whether the daemon is up have their own words for it.
fn no_connection(verb: Verb, error: &ConnectError, cure: Option<&str>) -> Plain {
    let message = error.to_string();
    let (reason, upcheck_status) = match error {
        ConnectError::Refused { .. } => ("CONNECTION_REFUSED", Some(exit::UNKNOWN)),
        ConnectError::Missing { .. } if verb == Verb::Status => ("NO_SUCH_SOCKET", Some(exit::UNKNOWN)),
        ConnectError::Missing { .. } => ("NO_SUCH_SOCKET", Some(exit::NOT_RUNNING)),
        ConnectError::Denied { .. } => ("PERMISSION_DENIED", None),
        ConnectError::UnknownProtocol { .. } => ("UNKNOWN_PROTOCOL", None),
        ConnectError::Other { .. } => ("UNREACHABLE", None),
    };
    match upcheck_status {
        Some(status) if verb.checks_first() => Plain::error(message.clone(), reason, &message, Some(status)),
        Some(_) if verb == Verb::Shutdown => {
            let text = format!("ERROR: {message} (already shut down?)");
            Plain::error(text, reason, &message, Some(exit::GENERIC))
        }
        Some(_) | None => {
            let cure = cure.map(|cure| format!(": {cure}")).unwrap_or_default();
            Plain::error(format!("error: {message}{cure}"), reason, &message, Some(exit::GENERIC))
        }
    }
}

/// The daemon refuses the command as a whole.
fn refusal(verb: Verb, reason: Reason, message: &str) -> Plain {
    let name = reason_name(reason);
    if reason == Reason::CannotReread {
        let first = message.split_once("\n\n").map_or(message, |(first, _)| first);
        return Plain::error(format!("ERROR: CANT_REREAD: {first}"), name, message, Some(exit::GENERIC));
    }
    if reason != Reason::ShuttingDown {
        return Plain::error(format!("error: {message}"), name, message, Some(exit::GENERIC));
    }
    let (text, status) = match verb {
        Verb::Avail | Verb::Reread => ("ERROR: supervisor shutting down", Some(exit::GENERIC)),
        Verb::Update | Verb::Reload => ("ERROR: already shutting down", Some(exit::GENERIC)),
        // What was asked for happens.
        Verb::Shutdown => ("ERROR: already shutting down", None),
        Verb::Add => ("ERROR: shutting down", Some(exit::GENERIC)),
        _elsewhere => ("error: supervisord is shutting down or restarting", Some(exit::GENERIC)),
    };
    Plain::error(text, name, message, status)
}
