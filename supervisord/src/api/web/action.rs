//! What the buttons do: a form to a request to the driver, and its answer to Supervisor's words.

use jiff::{Timestamp, tz::TimeZone};

use super::{form::Fields, row::namespec};
use crate::{
    clock::Moment,
    request::{Handle, ListQuery, Operate, Phase, ProcessResult, Reason, Refusal, Request, Verb},
};

/// An action of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    /// Show the page anew.
    Refresh,
    /// Stop, then start everything.
    RestartAll,
    /// Stop everything.
    StopAll,
    /// Something with one process.
    One(OneAction, String),
}

/// An action on one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OneAction {
    Start,
    Stop,
    Restart,
    ClearLog,
}

/// The action that a form or a query names; `Ok(None)` when it names none.
///
/// # Errors
/// What is wrong with it.
pub(super) fn parse(fields: &Fields) -> Result<Option<Action>, String> {
    let Some(word) = fields.get("action") else { return Ok(None) };
    // Supervisor prints a missing name as Python's None.
    let one = |action| Action::One(action, fields.get("processname").unwrap_or("None").to_owned());
    Ok(Some(match word {
        "refresh" => Action::Refresh,
        "restartall" => Action::RestartAll,
        "stopall" => Action::StopAll,
        "start" => one(OneAction::Start),
        "stop" => one(OneAction::Stop),
        "restart" => one(OneAction::Restart),
        "clearlog" => one(OneAction::ClearLog),
        other => {
            return Err(format!(
                "unknown action {other:?}: one of refresh, restartall, stopall, start, stop, restart, clearlog"
            ));
        }
    }))
}

/// Performs an action and says what became of it.
pub(super) async fn perform(driver: &Handle, action: &Action, now: Moment, zone: &TimeZone) -> String {
    let all = || vec!["all".to_owned()];
    let outcome = match action {
        Action::Refresh => Ok(format!("Page refreshed at {}", ctime(now, zone))),
        Action::StopAll => {
            operate(driver, Verb::Stop, all()).await.map(|_| format!("All stopped at {}", ctime(now, zone)))
        }
        Action::RestartAll => operate(driver, Verb::Restart, all())
            .await
            .map(|_| format!("All restarted at {}", ctime(now, zone))),
        Action::One(action, name) => perform_on(driver, *action, name).await,
    };
    outcome.unwrap_or_else(|refusal| match refusal.reason {
        Reason::ShuttingDown => format!("ERROR: {}", refusal.message),
        _ => format!("unexpected rpc fault [{}] {}", refusal.reason as i32, refusal.message),
    })
}

async fn perform_on(driver: &Handle, action: OneAction, name: &str) -> Result<String, Refusal> {
    // Wildcards and groups are for supervisorctl: a button means one process.
    let query = ListQuery { names: vec![name.to_owned()], since: None };
    let listing = driver.ask(|reply| Request::List(reply, query)).await?;
    let is_named = |name: &str, found: &crate::request::ProcessInfo| {
        namespec(found) == name || name.split_once(':') == Some((&found.group, &found.name))
    };
    if !matches!(listing.processes.as_slice(), [found] if is_named(name, found)) {
        return Ok(format!("No such process named {name}"));
    }
    let names = vec![name.to_owned()];
    let (verb, done) = match action {
        OneAction::Start => (Verb::Start, "started"),
        OneAction::Stop => (Verb::Stop, "stopped"),
        OneAction::Restart => (Verb::Restart, "restarted"),
        OneAction::ClearLog => {
            let results = driver.ask_for(|reply| Request::ClearLogs(reply, names)).await?;
            let failed = results.iter().find(|result| result.reason != Reason::Ok);
            return Ok(match failed {
                None => format!("Log for {name} cleared"),
                Some(result) => fault(result, name),
            });
        }
    };
    let results = operate(driver, verb, names).await?;
    Ok(tell(action, done, name, &results))
}

/// The message for the results of an operation on one process.
fn tell(action: OneAction, done: &str, name: &str, results: &[ProcessResult]) -> String {
    // That a process which is restarted did not run before is no fault.
    let failed = results.iter().find(|result| result.reason != Reason::Ok && result.phase != Phase::Stop);
    let Some(result) = failed else { return format!("Process {name} {done}") };
    let why = match result.reason {
        Reason::NoFile => "no such file",
        Reason::NotExecutable => "file not executable",
        Reason::AlreadyStarted => "already started",
        Reason::DependencyDown if !result.description.is_empty() => &result.description,
        Reason::SpawnError | Reason::DependencyDown => "spawn error",
        Reason::AbnormalTermination => "abnormal termination",
        Reason::ShuttingDown
        | Reason::BadName
        | Reason::Failed
        | Reason::NotRunning
        | Reason::Ok
        | Reason::AlreadyAdded
        | Reason::StillRunning
        | Reason::CannotReread
        | Reason::BadGroup => return fault(result, name),
    };
    match action {
        OneAction::Start | OneAction::Restart => format!("ERROR: Process {name}: {why}"),
        OneAction::Stop | OneAction::ClearLog => fault(result, name),
    }
}

/// Supervisor's words for everything that it does not expect.
fn fault(result: &ProcessResult, name: &str) -> String {
    let word = match result.reason {
        Reason::ShuttingDown => "SHUTDOWN_STATE",
        Reason::BadName | Reason::BadGroup => "BAD_NAME",
        Reason::NoFile => "NO_FILE",
        Reason::NotExecutable => "NOT_EXECUTABLE",
        Reason::Failed => "FAILED",
        Reason::AbnormalTermination => "ABNORMAL_TERMINATION",
        Reason::SpawnError | Reason::DependencyDown => "SPAWN_ERROR",
        Reason::AlreadyStarted => "ALREADY_STARTED",
        Reason::NotRunning => "NOT_RUNNING",
        Reason::Ok => "SUCCESS",
        Reason::AlreadyAdded => "ALREADY_ADDED",
        Reason::StillRunning => "STILL_RUNNING",
        Reason::CannotReread => "CANT_REREAD",
    };
    let detail = if result.reason == Reason::Failed && !result.description.is_empty() {
        &result.description
    } else {
        name
    };
    format!("unexpected rpc fault [{}] {word}: {detail}", result.reason as i32)
}

/// Performs an operation to its end.
async fn operate(driver: &Handle, verb: Verb, names: Vec<String>) -> Result<Vec<ProcessResult>, Refusal> {
    let operate = Operate { verb, names, wait: true };
    let mut answers = driver.ask_for(|reply| Request::Operate(reply, operate)).await?;
    let mut results = Vec::new();
    while let Some(result) = answers.recv().await {
        results.push(result);
    }
    Ok(results)
}

/// A time as C writes it: `Sat Nov 21 01:13:55 2026`.
fn ctime(now: Moment, zone: &TimeZone) -> String {
    let seconds = i64::try_from(now.unix.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds)
        .map(|time| time.to_zoned(zone.clone()).strftime("%a %b %e %H:%M:%S %Y").to_string())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(reason: Reason, phase: Phase) -> ProcessResult {
        ProcessResult { name: "p".into(), group: "g".into(), reason, description: String::new(), phase }
    }

    #[test]
    fn messages_are_supervisors() {
        let start = |reason| tell(OneAction::Start, "started", "g:p", &[result(reason, Phase::Whole)]);
        for (reason, message) in [
            (Reason::Ok, "Process g:p started"),
            (Reason::NoFile, "ERROR: Process g:p: no such file"),
            (Reason::NotExecutable, "ERROR: Process g:p: file not executable"),
            (Reason::AlreadyStarted, "ERROR: Process g:p: already started"),
            (Reason::SpawnError, "ERROR: Process g:p: spawn error"),
            (Reason::AbnormalTermination, "ERROR: Process g:p: abnormal termination"),
            (Reason::ShuttingDown, "unexpected rpc fault [6] SHUTDOWN_STATE: g:p"),
        ] {
            assert_eq!(start(reason), message);
        }
        let stop = tell(OneAction::Stop, "stopped", "p", &[result(Reason::NotRunning, Phase::Whole)]);
        assert_eq!(stop, "unexpected rpc fault [70] NOT_RUNNING: p");
    }

    #[test]
    fn a_restart_fails_only_by_its_start() {
        let stopped = result(Reason::NotRunning, Phase::Stop);
        let restart = |reason| {
            tell(OneAction::Restart, "restarted", "p", &[stopped.clone(), result(reason, Phase::Start)])
        };
        assert_eq!(restart(Reason::Ok), "Process p restarted");
        assert_eq!(restart(Reason::SpawnError), "ERROR: Process p: spawn error");
    }

    #[test]
    fn forms_name_actions_and_unknown_ones_are_refused_with_the_list() {
        let parsed = |text: &str| {
            let mut fields = Fields::default();
            fields.read(text);
            parse(&fields)
        };
        assert_eq!(parsed("message=x"), Ok(None));
        assert_eq!(parsed("action=stopall"), Ok(Some(Action::StopAll)));
        let stop = Action::One(OneAction::Stop, "g:p".to_owned());
        assert_eq!(parsed("processname=g%3Ap&action=stop"), Ok(Some(stop)));
        assert!(parsed("action=dance").unwrap_err().contains("clearlog"));
    }

    #[test]
    fn times_are_written_as_c_does() {
        let unix = std::time::Duration::from_secs(1_793_495_635);
        let now = Moment { unix, ..crate::clock::now() };
        assert_eq!(ctime(now, &TimeZone::UTC), "Sun Nov  1 01:13:55 2026");
    }
}
