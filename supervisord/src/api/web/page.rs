//! The pages as text: status, confirmation, refusal. Pure.

use std::fmt::{self, Display};

use jiff::tz::TimeZone;

use super::{
    assets::Asset,
    form::encode,
    html::Escaped,
    row::{Row, count},
};
use crate::{
    process::ProcessState,
    request::{DaemonInfo, ProcessInfo},
    supervisor::Mode,
};

/// What every page begins with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head<'a> {
    /// Title.
    pub title: &'a str,
    /// Its scripts, in the order in which they run.
    pub scripts: &'a [Asset],
}

impl Display for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{}</title>\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
             <meta name=\"color-scheme\" content=\"light dark\">\
             <link rel=\"stylesheet\" href=\"{}\"><link rel=\"icon\" href=\"{}\">",
            Escaped(self.title),
            Asset::Style.url(),
            Asset::Icon.url()
        )?;
        for script in self.scripts {
            write!(f, "<script src=\"{}\" defer></script>", script.url())?;
        }
        f.write_str("</head>\n")
    }
}

/// The status page.
#[derive(Debug)]
pub(super) struct Page<'a> {
    /// The daemon.
    pub info: &'a DaemonInfo,
    /// Its processes, by group and name.
    pub processes: &'a [ProcessInfo],
    /// What an action had to say.
    pub message: Option<&'a str>,
    /// The secret that its forms carry.
    pub token: &'a str,
    /// Where its live stream begins.
    pub since: &'a str,
    /// For times of day.
    pub zone: &'a TimeZone,
}

impl Page<'_> {
    fn header(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identifier = Escaped(&self.info.identifier);
        writeln!(
            f,
            "<header><h1>{identifier} <small id=\"count\">{}</small></h1>\
             <input id=\"filter\" type=\"search\" placeholder=\"Filter\" aria-label=\"Filter by name or state\" \
             autocomplete=\"off\" spellcheck=\"false\" hidden>\
             <nav><button formaction=\"index.html?action=refresh\">Refresh</button>\
             <button formaction=\"index.html?action=restartall\" data-confirm=\"Restart all processes?\">Restart all</button>\
             <button formaction=\"index.html?action=stopall\" data-confirm=\"Stop all processes?\">Stop all</button>\
             <a href=\"tail.html?channel=main\">Main log</a></nav></header>",
            count(self.processes)
        )
    }

    fn notices(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "<div id=\"notices\">{}</div><div id=\"told\"><p id=\"lost\" role=\"alert\" hidden></p>",
            Notices(self.info)
        )?;
        match self.message {
            Some(message) => {
                let class =
                    if message.starts_with("ERROR") || message.contains("fault [") { " bad" } else { "" };
                writeln!(
                    f,
                    "<p id=\"message\" class=\"status_msg{class}\" role=\"status\">{}</p></div>",
                    Escaped(message)
                )
            }
            None => f.write_str("<p id=\"message\" class=\"status_msg\" role=\"status\" hidden></p></div>\n"),
        }
    }

    fn list(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<main id=\"list\">")?;
        if self.processes.is_empty() {
            f.write_str("<p class=\"empty\">No programs to manage</p>")?;
        }
        let mut is_open = false;
        for group in self.processes.chunk_by(|one, next| one.group == next.group) {
            let is_alone = group.len() == 1 && group[0].group == group[0].name;
            if is_alone {
                if !is_open {
                    f.write_str("<ul class=\"alone\">")?;
                    is_open = true;
                }
                writeln!(f, "{}", Row::new(&group[0], self.zone))?;
                continue;
            }
            if is_open {
                f.write_str("</ul>")?;
                is_open = false;
            }
            self.group(f, group)?;
        }
        if is_open {
            f.write_str("</ul>")?;
        }
        f.write_str("<p class=\"empty\" id=\"none\" hidden>Nothing matches the filter</p></main>\n")
    }

    fn group(&self, f: &mut fmt::Formatter<'_>, group: &[ProcessInfo]) -> fmt::Result {
        let name = Escaped(&group[0].group);
        let state =
            if group.iter().all(|process| process.state == ProcessState::Running) { "" } else { " uneven" };
        writeln!(
            f,
            "<details class=\"group\" data-group=\"{name}\" open><summary>{name} \
             <small class=\"count{state}\">{}</small></summary><ul>",
            count(group)
        )?;
        for process in group {
            writeln!(f, "{}", Row::new(process, self.zone))?;
        }
        f.write_str("</ul></details>")
    }
}

impl Display for Page<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = Head { title: "Supervisor Status", scripts: &[Asset::LiveScript, Asset::PageScript] };
        writeln!(
            f,
            "{head}<body data-since=\"{}\"><form method=\"post\" action=\"index.html\">\
             <input type=\"hidden\" name=\"token\" value=\"{}\">",
            Escaped(self.since),
            Escaped(self.token)
        )?;
        self.header(f)?;
        self.notices(f)?;
        self.list(f)?;
        writeln!(
            f,
            "</form><footer><span id=\"daemon\">supervisord {} · pid {} · {}</span><span id=\"keys\" hidden> · \
             <kbd>?</kbd> keys</span></footer>\n<p id=\"news\" class=\"unseen\" aria-live=\"polite\"></p>\n</body></html>",
            env!("CARGO_PKG_VERSION"),
            self.info.pid,
            Escaped(&self.info.configuration_file.to_string_lossy())
        )
    }
}

/// What concerns the daemon as a whole: that it is ending, what works worse than it should.
#[derive(Debug)]
pub(super) struct Notices<'a>(pub(super) &'a DaemonInfo);

impl Display for Notices<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.mode {
            Mode::Running => {}
            Mode::ShuttingDown => f.write_str(
                "<p class=\"notice\">Supervisor is shutting down: its processes are being stopped.</p>",
            )?,
            Mode::Restarting => f.write_str(
                "<p class=\"notice\">Supervisor is restarting: its processes are stopped and started again.</p>",
            )?,
        }
        let upgrade = self.0.upgrade_problem.iter();
        upgrade
            .chain(&self.0.warnings)
            .try_for_each(|warning| write!(f, "<p class=\"notice\">{}</p>", Escaped(warning)))
    }
}

/// Asks before an action that a link or a bookmark names: links must not change anything.
#[derive(Debug)]
pub(super) struct Confirmation<'a> {
    /// The action.
    pub action: &'a str,
    /// Of which process; `None` = of all.
    pub process: Option<&'a str>,
    /// The secret that its form carries.
    pub token: &'a str,
}

impl Display for Confirmation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = Head { title: "Supervisor: confirm", scripts: &[Asset::ConfirmScript] };
        let mut target = format!("index.html?action={}", encode(self.action));
        let mut question = words(self.action).to_owned();
        if let Some(process) = self.process {
            target.push_str(&format!("&processname={}", encode(process)));
            question = format!("{question} {process}");
        }
        writeln!(
            f,
            "{head}<body class=\"short\"><main><h1>{}?</h1><p>A link asks for this. Nothing has been done yet.</p>\
             <form method=\"post\" action=\"{}\"><input type=\"hidden\" name=\"token\" value=\"{}\">\
             <p class=\"acts\"><button class=\"go\">{}</button><a href=\"./\" autofocus>No, show the status</a></p></form></main></body></html>",
            Escaped(&question),
            Escaped(&target),
            Escaped(self.token),
            Escaped(&question)
        )
    }
}

/// An action as it is asked for.
fn words(action: &str) -> &str {
    match action {
        "start" => "Start",
        "stop" => "Stop",
        "restart" => "Restart",
        "clearlog" => "Clear log of",
        "restartall" => "Restart all processes",
        "stopall" => "Stop all processes",
        other => other,
    }
}

/// Says why something was not done.
#[derive(Debug)]
pub(super) struct Refused<'a>(pub(super) &'a str);

impl Display for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = Head { title: "Supervisor: not done", scripts: &[] };
        writeln!(
            f,
            "{head}<body class=\"short\"><main><h1>Not done</h1><p>{}</p>\
             <p class=\"acts\"><a href=\"./\">Show the status</a></p></main></body></html>",
            Escaped(self.0)
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::row::tests::process, *};

    fn info() -> DaemonInfo {
        DaemonInfo {
            pid: 42,
            identifier: "<super>".to_owned(),
            started_at: Duration::from_secs(1),
            mode: Mode::Running,
            configuration_file: "/etc/<x>.conf".into(),
            warnings: Vec::new(),
            generation: 0,
            upgrade_problem: None,
        }
    }

    fn page(info: &DaemonInfo, processes: &[ProcessInfo], message: Option<&str>) -> String {
        let zone = &TimeZone::UTC;
        Page { info, processes, message, token: "t0k", since: "b.1", zone }.to_string()
    }

    #[test]
    fn groups_have_headings_and_counts_and_single_programs_have_none() {
        let processes = [
            process("a", "a", ProcessState::Running),
            process("b", "b", ProcessState::Stopped),
            process("g", "one", ProcessState::Running),
            process("g", "two", ProcessState::Fatal),
            process("z", "z", ProcessState::Running),
        ];
        let html = page(&info(), &processes, None);
        assert_eq!(html.matches("<details class=\"group\"").count(), 1);
        assert!(html.contains("<small class=\"count uneven\">1 of 2 running</small>"), "{html}");
        assert!(html.contains("<small id=\"count\">3 of 5 running</small>"), "{html}");
        assert_eq!(html.matches("<ul").count(), html.matches("</ul>").count());
        assert_eq!(html.matches("<li class=\"row").count(), 5);
    }

    #[test]
    fn nothing_to_manage_is_said_in_supervisors_words() {
        assert!(page(&info(), &[], None).contains("No programs to manage"));
    }

    #[test]
    fn messages_and_names_of_the_daemon_are_only_text() {
        let html = page(&info(), &[], Some("<img src=x onerror=alert(1)>"));
        assert!(html.contains("&lt;img src=x onerror=alert(1)&gt;"), "{html}");
        assert!(html.contains("&lt;super&gt;") && html.contains("/etc/&lt;x&gt;.conf"), "{html}");
    }

    #[test]
    fn an_ending_daemon_and_warnings_are_shown() {
        let mut info = info();
        info.mode = Mode::ShuttingDown;
        info.warnings.push("disk <full>".to_owned());
        let html = page(&info, &[], None);
        assert!(html.contains("Supervisor is shutting down"), "{html}");
        assert!(html.contains("disk &lt;full&gt;"), "{html}");
    }

    #[test]
    fn a_link_to_an_action_becomes_a_question() {
        let html = Confirmation { action: "stop", process: Some("g:<p>"), token: "t0k" }.to_string();
        assert!(html.contains("action=\"index.html?action=stop&amp;processname=g%3A%3Cp%3E\""), "{html}");
        assert!(html.contains("value=\"t0k\"") && html.contains("Stop g:&lt;p&gt;?"), "{html}");
        assert!(html.contains("method=\"post\""), "{html}");
    }

    #[test]
    fn pages_have_no_inline_script_or_style() {
        let processes = [process("g", "p", ProcessState::Running)];
        for html in [
            page(&info(), &processes, Some("m")),
            Confirmation { action: "stop", process: None, token: "t" }.to_string(),
            Refused("why").to_string(),
        ] {
            assert!(
                !html.contains(" style=") && !html.contains(" on") || !html.contains("=\"javascript"),
                "{html}"
            );
            assert!(!html.contains("<style"), "{html}");
            for script in html.split("<script").skip(1) {
                assert!(script.starts_with(" src=\"ui/"), "{script}");
            }
        }
    }

    #[test]
    fn a_page_of_a_thousand_processes_has_a_bounded_size() {
        let processes: Vec<_> = (0..1000)
            .map(|number| process("g", &format!("worker_{number:04}"), ProcessState::Running))
            .collect();
        let html = page(&info(), &processes, None);
        assert!(html.len() < 2_000_000, "{} bytes", html.len());
    }
}
