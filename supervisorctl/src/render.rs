//! Replies → text and exit status. Pure: nothing here reads, waits or prints.
//!
//! Each kind of thing that a command can say is an [`Item`]: its line is Supervisor's to the byte, its JSON is for
//! programs, and it tells the exit status that it stands for. The texts of failures are in [`failure`].

use serde_json::{Value, json};
use supervisor_proto::v1::{
    Channel, Event, Process, ProcessConfiguration, ProcessResult, ProcessState, ProcessUpdate, Reason,
    Unmatched, UpdateProgress, event::Detail, update_progress::Step,
};

use crate::{
    client::{Broken, ConnectError, Failure},
    commands::Verb,
};

/// Exit statuses, after the LSB conventions for init scripts that Supervisor follows.
pub mod exit {
    /// Everything was done.
    pub const OK: u8 = 0;
    /// Something failed.
    pub const GENERIC: u8 = 1;
    /// The command line is wrong.
    pub const INVALID_ARGS: u8 = 2;
    /// `status`: a process that was shown is not up.
    pub const STATUS_NOT_RUNNING: u8 = 3;
    /// The daemon refuses connections; `status`: unknown.
    pub const UNKNOWN: u8 = 4;
    /// A process is not up, or the daemon is not.
    pub const NOT_RUNNING: u8 = 7;
}

/// Form of the output.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Supervisor's lines.
    #[default]
    Text,
    /// One JSON value a command; one a line for what goes on (`watch`, `tail -f`).
    Json,
}

impl Format {
    /// `text` or `json`.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "text" => Some(Self::Text),
            "json" => Some(Self::Json),
            _other => None,
        }
    }
}

/// One thing that a command says.
pub trait Item {
    /// For people: one line or several, without the last line's end.
    fn text(&self) -> String;
    /// For programs.
    fn json(&self) -> Value;
    /// The exit status that it stands for; `None` leaves it as it is.
    fn status(&self) -> Option<u8> {
        None
    }
}

/// An item that is made where it is said.
pub struct Plain {
    text: String,
    json: Value,
    status: Option<u8>,
}

impl Plain {
    /// A success.
    pub fn new(text: impl Into<String>, json: Value) -> Self {
        Self { text: text.into(), json, status: None }
    }

    /// An error: `text` is the whole line, `message` its sentence alone.
    pub fn error(text: impl Into<String>, reason: &str, message: &str, status: Option<u8>) -> Self {
        let json = json!({"error": {"reason": reason, "message": message}});
        Self { text: text.into(), json, status }
    }

    /// A command that was used wrongly, with its help.
    pub fn misuse(verb: Verb, message: &str, status: u8) -> Self {
        let text = format!("Error: {message}\n{}", crate::help::topic(verb));
        Self::error(text, "USAGE", message, Some(status))
    }

    /// A command that was used wrongly, without its help.
    pub fn mistake(message: &str, status: u8) -> Self {
        Self::error(format!("Error: {message}"), "USAGE", message, Some(status))
    }
}

impl Item for Plain {
    fn text(&self) -> String {
        self.text.clone()
    }

    fn json(&self) -> Value {
        self.json.clone()
    }

    fn status(&self) -> Option<u8> {
        self.status
    }
}

/// `name` → (name, name); `group:name` → (group, name); `group:` and `group:*` → (group, none).
pub fn split_namespec(text: &str) -> (&str, Option<&str>) {
    match text.split_once(':') {
        Some((group, "" | "*")) => (group, None),
        Some((group, name)) => (group, Some(name)),
        None => (text, Some(text)),
    }
}

/// How a process is called on the terminal.
pub fn namespec(group: &str, name: &str) -> String {
    if group == name { name.to_owned() } else { format!("{group}:{name}") }
}

/// How the process of a selector is called on the terminal; the group alone for a whole group.
fn display_selector(selector: &str) -> String {
    match split_namespec(selector) {
        (group, Some(name)) => namespec(group, name),
        (group, None) => group.to_owned(),
    }
}

/// The state's name without the prefix that the contract demands.
pub fn state_name(state: ProcessState) -> &'static str {
    strip(state.as_str_name(), "PROCESS_STATE_")
}

/// The reason's name without the prefix that the contract demands.
pub fn reason_name(reason: Reason) -> &'static str {
    strip(reason.as_str_name(), "REASON_")
}

fn strip(name: &'static str, prefix: &str) -> &'static str {
    name.strip_prefix(prefix).unwrap_or(name)
}

/// Is there no child, and will there be none by itself?
fn is_down(state: ProcessState) -> bool {
    match state {
        ProcessState::Stopped | ProcessState::Exited | ProcessState::Fatal | ProcessState::Unknown => true,
        ProcessState::Starting | ProcessState::Running | ProcessState::Backoff | ProcessState::Stopping => {
            false
        }
    }
}

/// Width of the first column of a table of `processes`.
pub fn name_width(processes: &[Process]) -> usize {
    let longest =
        processes.iter().map(|process| namespec(&process.group, &process.name).chars().count()).max();
    longest.unwrap_or(0).max(30) + 3
}

/// A row of `status`.
pub struct Row<'a> {
    /// Which process.
    pub process: &'a Process,
    /// Of the first column.
    pub width: usize,
}

impl Item for Row<'_> {
    fn text(&self) -> String {
        let Process { group, name, description, .. } = self.process;
        let state = state_name(self.process.state());
        format!("{:<width$}{state:<10}{description}", namespec(group, name), width = self.width)
    }

    fn json(&self) -> Value {
        process_json(self.process)
    }

    fn status(&self) -> Option<u8> {
        is_down(self.process.state()).then_some(exit::STATUS_NOT_RUNNING)
    }
}

/// One event, as a line.
pub struct EventLine<'a>(
    /// Which.
    pub &'a Event,
);

impl Item for EventLine<'_> {
    fn text(&self) -> String {
        let Event { r#type: name, at_millis, payload, detail } = self.0;
        if let Some(Detail::Lost(lost)) = detail {
            return format!("({lost} events were lost here: this client was too slow)");
        }
        // The line ends with the header of the payload; what follows it may be anything, so it is quoted.
        let (head, data) = payload.split_once('\n').unwrap_or((payload, ""));
        let data = if data.is_empty() { String::new() } else { format!(" {data:?}") };
        format!("{} {name} {head}{data}", clock_time(*at_millis)).trim_end().to_owned()
    }

    fn json(&self) -> Value {
        let Event { r#type: name, at_millis, payload, detail } = self.0;
        if let Some(Detail::Lost(lost)) = detail {
            return json!({"lost": lost});
        }
        let mut json = json!({"type": name, "at_millis": at_millis, "payload": payload});
        let detail = match detail {
            Some(Detail::ProcessState(change)) => json!({
                "name": change.name,
                "group": change.group,
                "from": state_name(change.from()),
                "to": state_name(change.to()),
                "tries": change.tries,
                "pid": change.pid,
                "expected": change.expected,
            }),
            Some(Detail::Output(output)) => json!({
                "name": output.name,
                "group": output.group,
                "pid": output.pid,
                "channel": match output.channel() {
                    Channel::Stdout => "stdout",
                    Channel::Stderr => "stderr",
                },
                "data": String::from_utf8_lossy(&output.data),
            }),
            Some(Detail::Remote(remote)) => json!({"type": remote.r#type, "data": remote.data}),
            Some(Detail::Tick(when)) => json!({"when": when}),
            Some(Detail::Group(group)) => json!({"group": group}),
            Some(Detail::Lost(_)) | None => return json,
        };
        json["detail"] = detail;
        json
    }
}

/// Time of day in UTC: `12:34:56.789Z`.
fn clock_time(millis: i64) -> String {
    let (seconds, millis) = (millis.div_euclid(1000), millis.rem_euclid(1000));
    let of_day = seconds.rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}.{millis:03}Z", of_day / 3600, of_day / 60 % 60, of_day % 60)
}

/// Everything about a process, one fact a line: `status --long`.
pub struct Details<'a>(
    /// Which process.
    pub &'a Process,
);

impl Item for Details<'_> {
    fn text(&self) -> String {
        let Process { group, name, .. } = self.0;
        let mut text = namespec(group, name);
        for (key, value) in facts(self.0) {
            text.push_str(&format!("\n    {key:<14} {value}"));
        }
        text
    }

    fn json(&self) -> Value {
        process_json(self.0)
    }

    fn status(&self) -> Option<u8> {
        is_down(self.0.state()).then_some(exit::STATUS_NOT_RUNNING)
    }
}

/// What is worth telling about a process, in reading order.
fn facts(process: &Process) -> Vec<(&'static str, String)> {
    let mut facts = vec![("state", state_name(process.state()).to_owned())];
    let mut tell = |key, value: String| facts.push((key, value));
    if !process.description.is_empty() {
        tell("description", process.description.clone());
    }
    if process.pid != 0 {
        tell("pid", process.pid.to_string());
        tell("up for", format!("{} s", (process.now - process.start).max(0)));
    }
    // A start that failed before there was a process leaves a time, but no exit status.
    if process.stop != 0 && process.spawns > 0 {
        let ago = (process.now - process.stop).max(0);
        let how = match process.exit_signal {
            0 => format!("exit status {}", process.exit_status),
            signal => format!("signal {signal}"),
        };
        tell("last end", format!("{how}, {ago} s ago"));
    }
    if !process.spawn_error.is_empty() {
        tell("spawn error", process.spawn_error.clone());
    }
    if process.retries > 0 {
        tell("failed starts", process.retries.to_string());
    }
    tell("starts", process.spawns.to_string());
    for (key, path) in [("stdout log", &process.stdout_logfile), ("stderr log", &process.stderr_logfile)] {
        tell(key, if path.is_empty() { "none".to_owned() } else { path.clone() });
    }
    if process.output_lost > 0 {
        tell("output lost", format!("{} bytes", process.output_lost));
    }
    for advice in &process.advice {
        tell("advice", advice.clone());
    }
    facts
}

/// A process, with the names of Supervisor's `getProcessInfo` where it has them.
fn process_json(process: &Process) -> Value {
    json!({
        "name": process.name,
        "group": process.group,
        "state": state_name(process.state()),
        "statecode": process.state,
        "description": process.description,
        "pid": process.pid,
        "start": process.start,
        "stop": process.stop,
        "now": process.now,
        "exitstatus": process.exit_status,
        "signal": process.exit_signal,
        "spawnerr": process.spawn_error,
        "retries": process.retries,
        "spawns": process.spawns,
        "logfiles": {"stdout": process.stdout_logfile, "stderr": process.stderr_logfile},
        "advice": process.advice,
        "lost": process.output_lost,
    })
}

/// `status`: a name that fits nothing.
impl Item for Unmatched {
    fn text(&self) -> String {
        match self.reason() {
            Reason::BadGroup => format!("{}: ERROR (no such group)", split_namespec(&self.name).0),
            _no_process => format!("{}: ERROR (no such process)", self.name),
        }
    }

    fn json(&self) -> Value {
        let message = if self.reason() == Reason::BadGroup { "no such group" } else { "no such process" };
        json!({"error": {"reason": reason_name(self.reason()), "message": message, "name": self.name}})
    }

    fn status(&self) -> Option<u8> {
        Some(exit::UNKNOWN)
    }
}

/// `pid NAME`: the child of a process.
pub struct Pid<'a> {
    /// Which process.
    pub process: &'a Process,
    /// Whether it was asked for by name: then having none is worth an exit status.
    pub is_named: bool,
}

impl Item for Pid<'_> {
    fn text(&self) -> String {
        self.process.pid.to_string()
    }

    fn json(&self) -> Value {
        json!({"name": self.process.name, "group": self.process.group, "pid": self.process.pid})
    }

    fn status(&self) -> Option<u8> {
        (self.is_named && self.process.pid == 0).then_some(exit::NOT_RUNNING)
    }
}

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
            (Reason::SpawnError | Reason::AbnormalTermination | Reason::NotRunning, _) => {
                Some(exit::NOT_RUNNING)
            }
            (_other, _) => Some(exit::GENERIC),
        }
    }
}

/// `avail`: a configured process.
impl Item for ProcessConfiguration {
    fn text(&self) -> String {
        let in_use = if self.in_use { "in use" } else { "avail" };
        let autostart = if self.autostart { "auto" } else { "manual" };
        let name = namespec(&self.group, &self.name);
        format!("{name:<32} {in_use:<9} {autostart:<9} {}:{}", self.group_priority, self.process_priority)
    }

    fn json(&self) -> Value {
        json!({
            "name": self.name,
            "group": self.group,
            "inuse": self.in_use,
            "autostart": self.autostart,
            "group_prio": self.group_priority,
            "process_prio": self.process_priority,
        })
    }
}

/// `reread`: how a group differs.
pub struct Change<'a> {
    /// Its name.
    pub group: &'a str,
    /// `available`, `changed` or `disappeared`.
    pub change: &'static str,
}

impl Item for Change<'_> {
    fn text(&self) -> String {
        format!("{}: {}", self.group, self.change)
    }

    fn json(&self) -> Value {
        json!({"group": self.group, "result": self.change})
    }
}

/// `update`: one step.
impl Item for UpdateProgress {
    fn text(&self) -> String {
        match step_words(self.step()) {
            Some(words) => format!("{}: {words}", self.group),
            None => format!("ERROR: no such group: {}", self.group),
        }
    }

    fn json(&self) -> Value {
        let step = strip(self.step().as_str_name(), "STEP_").to_lowercase();
        let mut value = json!({"group": self.group, "result": step});
        if !self.processes.is_empty() {
            let one = |process: &ProcessUpdate| {
                let action = strip(process.action().as_str_name(), "ACTION_").to_lowercase();
                json!({"name": process.name, "result": action})
            };
            value["processes"] = self.processes.iter().map(one).collect();
        }
        value
    }

    fn status(&self) -> Option<u8> {
        match self.step() {
            Step::NoSuchGroup | Step::HasProblems => Some(exit::GENERIC),
            Step::Unspecified | Step::Stopped | Step::Removed | Step::Updated | Step::Added => None,
        }
    }
}

/// What was done to a group, in words; `None` = there is no such group.
fn step_words(step: Step) -> Option<&'static str> {
    match step {
        Step::Stopped => Some("stopped"),
        Step::Removed => Some("removed process group"),
        Step::Updated => Some("updated process group"),
        Step::Added => Some("added process group"),
        Step::HasProblems => Some("has problems; not removing"),
        Step::Unspecified => Some("done"),
        Step::NoSuchGroup => None,
    }
}

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

#[cfg(test)]
mod tests {
    use super::*;

    fn process(group: &str, name: &str, state: ProcessState, description: &str) -> Process {
        Process {
            name: name.to_owned(),
            group: group.to_owned(),
            state: state.into(),
            description: description.to_owned(),
            ..Process::default()
        }
    }

    #[test]
    fn status_rows_are_supervisors_to_the_byte() {
        let long = "averyveryverylongprogramnamethatexceedsthirtychars";
        let processes = [
            process("sleeper", "sleeper", ProcessState::Running, "pid 27646, uptime 0:00:29"),
            process("longstart", "longstart", ProcessState::Starting, ""),
            process("grp", "gb", ProcessState::Stopped, "Not started"),
            process("exit1", "exit1", ProcessState::Exited, "Nov 21 01:05 AM"),
            process("fail", "fail", ProcessState::Fatal, "Exited too quickly (process log may have details)"),
        ];
        let width = name_width(&processes);
        let rows: Vec<String> = processes.iter().map(|process| Row { process, width }.text()).collect();
        assert_eq!(
            rows,
            [
                "sleeper                          RUNNING   pid 27646, uptime 0:00:29",
                "longstart                        STARTING  ",
                "grp:gb                           STOPPED   Not started",
                "exit1                            EXITED    Nov 21 01:05 AM",
                "fail                             FATAL     Exited too quickly (process log may have details)",
            ]
        );
        let wide = [process(long, long, ProcessState::Stopped, "Not started")];
        let row = Row { process: &wide[0], width: name_width(&wide) }.text();
        assert_eq!(row, format!("{long}   STOPPED   Not started"));
    }

    #[test]
    fn status_tells_whether_a_shown_process_is_down() {
        for (state, status) in [
            (ProcessState::Stopped, Some(3)),
            (ProcessState::Starting, None),
            (ProcessState::Running, None),
            (ProcessState::Backoff, None),
            (ProcessState::Stopping, None),
            (ProcessState::Exited, Some(3)),
            (ProcessState::Fatal, Some(3)),
            (ProcessState::Unknown, Some(3)),
        ] {
            assert_eq!(
                Row { process: &process("a", "a", state, ""), width: 33 }.status(),
                status,
                "{state:?}"
            );
        }
    }

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

    #[test]
    fn avail_has_supervisors_columns() {
        let configuration = ProcessConfiguration {
            name: "el".to_owned(),
            group: "el".to_owned(),
            in_use: true,
            autostart: true,
            group_priority: -1,
            process_priority: 999,
        };
        assert_eq!(configuration.text(), "el                               in use    auto      -1:999");
        let configuration = ProcessConfiguration { in_use: false, autostart: false, ..configuration };
        assert_eq!(configuration.text(), "el                               avail     manual    -1:999");
    }

    #[test]
    fn details_tell_how_a_process_ended() {
        let mut ended = process("a", "a", ProcessState::Exited, "Nov 21 01:05 AM");
        (ended.stop, ended.now, ended.exit_status, ended.output_lost) = (100, 160, 3, 7);
        ended.spawns = 1;
        let text = Details(&ended).text();
        assert!(text.contains("\n    last end       exit status 3, 60 s ago\n"), "{text}");
        assert!(text.ends_with("\n    output lost    7 bytes"), "{text}");
        ended.exit_signal = 9;
        assert!(Details(&ended).text().contains("last end       signal 9, 60 s ago"));
        ended.spawns = 0;
        assert!(!Details(&ended).text().contains("last end"), "it never ran");
    }
}
