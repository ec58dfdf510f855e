//! Processes as `status`, `pid` and `status --long` show them.

use serde_json::{Value, json};
use supervisor_proto::v1::{Process, ProcessState, Reason, Unmatched};

use super::{Item, exit, namespec, reason_name, split_namespec, state_name};

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
