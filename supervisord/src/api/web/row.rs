//! One process on the page: `ProcessInfo` to HTML. Pure.
//!
//! The page is made of these rows, and the live stream sends them again when they change: there is one place that says how
//! a process looks.

use std::fmt::{self, Display, Write as _};

use jiff::{Timestamp, tz::TimeZone};

use super::{form::encode, html::Escaped};
use crate::{process::ProcessState, request::ProcessInfo};

/// Name of a process as users write it: `name`, or `group:name` where these differ.
pub(super) fn namespec(process: &ProcessInfo) -> String {
    if process.group == process.name {
        process.name.clone()
    } else {
        format!("{}:{}", process.group, process.name)
    }
}

/// A process as an element of a list, on one line.
#[derive(Debug)]
pub(super) struct Row<'a> {
    process: &'a ProcessInfo,
    zone: &'a TimeZone,
    name: String,
    /// The name inside a URL.
    url: String,
}

impl<'a> Row<'a> {
    /// The row of a process; times of day are those of `zone`.
    pub(super) fn new(process: &'a ProcessInfo, zone: &'a TimeZone) -> Self {
        let name = namespec(process);
        let url = encode(&name);
        Self { process, zone, name, url }
    }

    /// The name; what of it is the group's steps back, and is not seen at all where the rest says it again.
    fn shown_name(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (group, name) = (&self.process.group, &self.process.name);
        if group != name {
            let class = if name.starts_with(group.as_str()) { "unseen" } else { "of" };
            write!(f, "<span class=\"{class}\">{}:</span>", Escaped(group))?;
        }
        write!(f, "{}", Escaped(name))
    }

    fn button(&self, f: &mut fmt::Formatter<'_>, action: &str, label: &str) -> fmt::Result {
        let (url, name) = (&self.url, Escaped(&self.name));
        write!(
            f,
            "<button class=\"{action}\" formaction=\"index.html?processname={url}&amp;action={action}\" \
             aria-label=\"{label} {name}\">{label}</button>"
        )
    }

    fn actions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.process.state {
            ProcessState::Running => {
                self.button(f, "restart", "Restart")?;
                self.button(f, "stop", "Stop")?;
            }
            ProcessState::Starting | ProcessState::Backoff => self.button(f, "stop", "Stop")?,
            ProcessState::Stopped | ProcessState::Exited | ProcessState::Fatal => {
                self.button(f, "start", "Start")?;
            }
            ProcessState::Stopping | ProcessState::Unknown => {}
        }
        let (url, name) = (&self.url, Escaped(&self.name));
        if self.process.stdout_logfile.is_some() {
            write!(
                f,
                "<a class=\"log\" href=\"tail.html?processname={url}\" aria-label=\"Log of {name}\">Log</a>"
            )?;
        }
        if self.process.stderr_logfile.is_some() {
            write!(
                f,
                "<a class=\"err\" href=\"tail.html?processname={url}&amp;channel=stderr\" \
                 aria-label=\"Stderr of {name}\">Stderr</a>"
            )?;
        }
        Ok(())
    }

    /// What is wrong with it, the most important first.
    fn problems(&self) -> Vec<String> {
        let process = self.process;
        let mut problems = process.advice.clone();
        let is_said = matches!(process.state, ProcessState::Fatal | ProcessState::Backoff);
        if !process.spawn_error.is_empty() && !is_said && process.state != ProcessState::Running {
            problems.push(process.spawn_error.clone());
        }
        if process.output_lost > 0 {
            problems.push(format!("{} bytes of its output could not be stored", process.output_lost));
        }
        problems
    }

    /// What is known of it beyond the row.
    fn facts(&self) -> Vec<(&'static str, String)> {
        let process = self.process;
        let time = |at: Option<std::time::Duration>| at.map(|at| date(at, self.zone));
        let ended = match (process.stop, process.exit_signal) {
            (None, _) => None,
            (Some(_), 0) => Some(format!("exit status {}", process.exit_status)),
            (Some(_), signal) => Some(format!("signal {signal}")),
        };
        let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let mut facts = vec![("started", time(process.start)), ("ended", time(process.stop))];
        facts.push(("last end", ended.filter(|_| process.pid == 0)));
        facts.push(("starts", (process.spawns > 0).then(|| process.spawns.to_string())));
        facts.push(("failed starts in a row", (process.retries > 0).then(|| process.retries.to_string())));
        facts.push(("stdout", path(&process.stdout_logfile)));
        facts.push(("stderr", path(&process.stderr_logfile)));
        facts.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }

    fn details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, problems) = (Escaped(&self.name), self.problems());
        f.write_str("<details><summary")?;
        match problems.first() {
            Some(problem) => write!(f, " class=\"problem\">{}</summary>", Escaped(problem))?,
            None => write!(f, " aria-label=\"Details of {name}\"></summary>")?,
        }
        for problem in problems.iter().skip(1) {
            write!(f, "<p class=\"problem\">{}</p>", Escaped(problem))?;
        }
        f.write_str("<dl>")?;
        for (fact, value) in self.facts() {
            write!(f, "<dt>{fact}<dd>{}", Escaped(&value))?;
        }
        f.write_str("</dl><p class=\"acts\">")?;
        self.button(f, "clearlog", "Clear log")?;
        let url = &self.url;
        write!(
            f,
            "<a href=\"logtail/{url}\">Tail -f Stdout</a><a href=\"logtail/{url}/stderr\">Tail -f Stderr</a>\
             </p></details>"
        )
    }
}

impl Display for Row<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { process, url, .. } = self;
        let (name, state) = (Escaped(&self.name), process.state);
        let word = state.name().to_ascii_lowercase();
        write!(
            f,
            "<li class=\"row s-{word}\" data-name=\"{name}\" aria-label=\"{name} {word}\" tabindex=\"-1\">\
             <span class=\"state {}\"><i></i>{word}</span>\
             <a class=\"name\" href=\"tail.html?processname={url}\">",
            class(state)
        )?;
        self.shown_name(f)?;
        f.write_str("</a><span class=\"what\">")?;
        match process.description.rsplit_once(", uptime ").filter(|_| state == ProcessState::Running) {
            Some((pid, uptime)) => {
                write!(f, "{}, uptime <time>{}</time>", Escaped(pid), Escaped(uptime))?;
            }
            None => write!(f, "{}", Escaped(&process.description))?,
        }
        f.write_str("</span><span class=\"acts\">")?;
        self.actions(f)?;
        f.write_str("</span>")?;
        self.details(f)?;
        f.write_str("</li>")
    }
}

/// Supervisor's classes of states, for those who read its page with a program.
fn class(state: ProcessState) -> &'static str {
    match state {
        ProcessState::Running => "statusrunning",
        ProcessState::Fatal | ProcessState::Backoff => "statuserror",
        ProcessState::Stopped
        | ProcessState::Starting
        | ProcessState::Stopping
        | ProcessState::Exited
        | ProcessState::Unknown => "statusnominal",
    }
}

fn date(unix: std::time::Duration, zone: &TimeZone) -> String {
    let seconds = i64::try_from(unix.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds)
        .map(|time| time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string())
        .unwrap_or_default()
}

/// The counts in the heading of a group, also of the whole page: `3 of 5 running`.
pub(super) fn count<'a>(processes: impl IntoIterator<Item = &'a ProcessInfo>) -> String {
    let (mut all, mut running) = (0, 0);
    for process in processes {
        all += 1;
        running += u32::from(process.state == ProcessState::Running);
    }
    let mut text = String::new();
    write!(text, "{running} of {all} running").expect("writing to a string does not fail");
    text
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;

    /// A process as it could be.
    pub(in crate::api::web) fn process(group: &str, name: &str, state: ProcessState) -> ProcessInfo {
        ProcessInfo {
            name: name.to_owned(),
            group: group.to_owned(),
            state,
            description: "pid 7, uptime 1 day, 0:00:03".to_owned(),
            pid: 7,
            start: Some(Duration::from_secs(1_000_000)),
            stop: None,
            now: Duration::from_secs(1_086_403),
            spawn_error: String::new(),
            is_stalled: false,
            exit_status: 0,
            exit_signal: 0,
            retries: 0,
            spawns: 1,
            stdout_logfile: Some("/var/log/x.log".into()),
            stderr_logfile: None,
            advice: Vec::new(),
            output_lost: 0,
        }
    }

    fn row(process: &ProcessInfo) -> String {
        Row::new(process, &TimeZone::UTC).to_string()
    }

    #[test]
    fn a_row_offers_what_the_state_allows_as_supervisors_page_does() {
        let offered = |state| {
            let html = row(&process("g", "p", state));
            ["start", "stop", "restart", "clearlog"]
                .into_iter()
                .filter(|action| html.contains(&format!("?processname=g%3Ap&amp;action={action}\"")))
                .collect::<Vec<_>>()
        };
        assert_eq!(offered(ProcessState::Running), ["stop", "restart", "clearlog"]);
        for state in [ProcessState::Stopped, ProcessState::Exited, ProcessState::Fatal] {
            assert_eq!(offered(state), ["start", "clearlog"], "{state}");
        }
        // Beyond Supervisor: what is being started can be stopped.
        for state in [ProcessState::Starting, ProcessState::Backoff] {
            assert_eq!(offered(state), ["stop", "clearlog"], "{state}");
        }
        for state in [ProcessState::Stopping, ProcessState::Unknown] {
            assert_eq!(offered(state), ["clearlog"], "{state}");
        }
    }

    #[test]
    fn hostile_names_and_texts_stay_text_and_a_row_stays_a_line() {
        let hostile = "\"><script>alert('x')</script>\n\u{1b}[0m&";
        let mut process = process(hostile, hostile, ProcessState::Fatal);
        process.description = hostile.to_owned();
        process.spawn_error = hostile.to_owned();
        process.advice = vec![hostile.to_owned(), hostile.to_owned()];
        process.stdout_logfile = Some(hostile.into());
        let html = row(&process);
        assert!(!html.contains("<script") && !html.contains("alert('x')"), "{html}");
        assert_eq!(html.matches('<').count(), html.matches('>').count(), "{html}");
        assert!(html.contains("processname=%22%3E%3Cscript%3E"), "{html}");
    }

    #[test]
    fn problems_show_in_the_row_without_opening_it() {
        let mut process = process("p", "p", ProcessState::Running);
        assert!(!row(&process).contains("problem"));
        process.advice.push("add `daemon off;`".to_owned());
        process.output_lost = 12;
        let html = row(&process);
        assert!(html.contains("<summary class=\"problem\">add `daemon off;`</summary>"), "{html}");
        assert!(html.contains("12 bytes of its output could not be stored"), "{html}");
    }

    #[test]
    fn uptime_is_marked_so_that_the_browser_can_count_it() {
        let html = row(&process("p", "p", ProcessState::Running));
        assert!(html.contains("pid 7, uptime <time>1 day, 0:00:03</time>"), "{html}");
    }

    #[test]
    fn the_group_is_not_seen_where_the_name_says_it_again() {
        let shown = |group, name| {
            let html = row(&process(group, name, ProcessState::Running));
            let (_, rest) = html.split_once("<a class=\"name\" href=").unwrap();
            rest.split_once('>').unwrap().1.split("</a>").next().unwrap().to_owned()
        };
        assert_eq!(shown("p", "p"), "p");
        assert_eq!(shown("web", "web_00"), "<span class=\"unseen\">web:</span>web_00");
        assert_eq!(shown("blue", "web"), "<span class=\"of\">blue:</span>web");
    }

    #[test]
    fn names_are_written_as_users_write_them() {
        assert_eq!(namespec(&process("p", "p", ProcessState::Running)), "p");
        assert_eq!(namespec(&process("g", "p", ProcessState::Running)), "g:p");
    }
}
