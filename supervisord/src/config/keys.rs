//! Which sections and keys exist, and what was probably meant by others.

use super::{environment, ini::Entry, shlex};

/// What to say about a section that nothing reads, if so.
pub fn unknown_section(name: &str) -> Option<String> {
    if known_keys(name).is_some() || name.starts_with("ctlplugin:") {
        return None;
    }
    let (kind, rest) = name.split_once(':').map_or((name, None), |(kind, rest)| (kind, Some(rest)));
    let problem = "unknown section, ignored";
    Some(match nearest(kind.trim(), KINDS.iter().copied()) {
        Some(kind) => {
            let rest = rest.map_or(String::new(), |rest| format!(":{}", rest.trim()));
            let missing = if rest.is_empty() && NAMED.contains(&kind) { ":NAME" } else { "" };
            format!("{problem}; did you mean [{kind}{rest}{missing}]?")
        }
        None => problem.to_owned(),
    })
}

/// What to say about a key that nothing reads, or that probably is not read as meant.
pub fn suspicious(section: &str, entry: &Entry) -> Option<String> {
    if let Some(header) = entry.key.strip_prefix('[') {
        return Some(format!(
            "this line is read as a key of [{section}], because the section header has no closing bracket; \
             did you mean [{header}:{}]?",
            entry.value
        ));
    }
    if let Some(known) = known_keys(section)
        && !known.contains(&entry.key.as_str())
    {
        let problem = "unknown key, ignored";
        return Some(match nearest(&entry.key, known.iter().copied()) {
            Some(known) => format!("{problem}; did you mean {known:?}?"),
            None => problem.to_owned(),
        });
    }
    cut_in_quotes(entry).then(|| {
        "a blank before ; or # starts a comment, even between quotes: the rest of the line is not part of the value"
            .to_owned()
    })
}

/// Whether a comment took the closing quote of a command or environment.
fn cut_in_quotes(entry: &Entry) -> bool {
    entry.is_cut
        && match entry.key.as_str() {
            "command" => shlex::split(&entry.value).is_err(),
            "environment" => environment::parse(&entry.value).is_err(),
            _ => false,
        }
}

/// Keys of a section; `None` for sections that are unknown or have keys of their own.
fn known_keys(section: &str) -> Option<&'static [&'static str]> {
    if section.starts_with("inet_http_server") {
        return Some(&INET_SERVER);
    }
    if section.starts_with("unix_http_server") {
        return Some(&UNIX_SERVER);
    }
    match section {
        "supervisord" => Some(&DAEMON),
        "supervisorctl" => Some(&CTL),
        "include" => Some(&["files"]),
        _ => match section.split_once(':')?.0 {
            "program" => Some(&PROGRAM),
            "eventlistener" => Some(&LISTENER),
            "fcgi-program" => Some(&FASTCGI),
            "group" => Some(&["programs", "priority"]),
            // Supervisor's own interface takes no others.
            "rpcinterface" => Some(&["supervisor.rpcinterface_factory"]),
            _ => None,
        },
    }
}

/// The candidate that differs from `word` by a typing mistake or two.
pub(super) fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = if word.chars().count() <= 4 { 1 } else { 2 };
    let lower = word.to_lowercase().replace('-', "_");
    candidates
        .map(|candidate| (distance(&lower, &candidate.replace('-', "_")), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Number of characters to insert, delete, replace or swap with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    if a.len().abs_diff(b.len()) > 2 {
        return usize::MAX;
    }
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = change.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

const KINDS: [&str; 11] = [
    "supervisord",
    "supervisorctl",
    "include",
    "unix_http_server",
    "inet_http_server",
    "program",
    "group",
    "eventlistener",
    "fcgi-program",
    "rpcinterface",
    "ctlplugin",
];

/// Kinds that need a `:NAME`.
const NAMED: [&str; 6] = ["program", "group", "eventlistener", "fcgi-program", "rpcinterface", "ctlplugin"];

const INET_SERVER: [&str; 3] = ["port", "username", "password"];
const UNIX_SERVER: [&str; 5] = ["file", "chmod", "chown", "username", "password"];
const CTL: [&str; 5] = ["serverurl", "username", "password", "prompt", "history_file"];
const DAEMON: [&str; 21] = [
    "logfile",
    "logfile_maxbytes",
    "logfile_backups",
    "loglevel",
    "pidfile",
    "umask",
    "nodaemon",
    "silent",
    "minfds",
    "minprocs",
    "user",
    "identifier",
    "directory",
    "nocleanup",
    "childlogdir",
    "environment",
    "strip_ansi",
    "reload",
    "runtime_directory",
    "remember_stopped",
    "on_daemon_death",
];

macro_rules! program_keys {
    ($($more:literal),*) => {
        [
            "command", "process_name", "numprocs", "numprocs_start", "priority", "autostart", "autorestart", "startsecs",
            "startretries", "exitcodes", "stopsignal", "stopwaitsecs", "stopasgroup", "killasgroup", "user",
            "redirect_stderr", "stdout_logfile", "stdout_logfile_maxbytes", "stdout_logfile_backups",
            "stdout_capture_maxbytes", "stdout_events_enabled", "stdout_syslog", "stderr_logfile",
            "stderr_logfile_maxbytes", "stderr_logfile_backups", "stderr_capture_maxbytes", "stderr_events_enabled",
            "stderr_syslog", "environment", "directory", "umask", "serverurl", "killmode", "login_environment", "on_daemon_death", "depends_on", $($more),*
        ]
    };
}

const PROGRAM: [&str; 36] = program_keys!();
const LISTENER: [&str; 40] = program_keys!("events", "buffer_size", "result_handler", "event_length");
const FASTCGI: [&str; 40] = program_keys!("socket", "socket_owner", "socket_mode", "socket_backlog");

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn entry(key: &str, value: &str, is_cut: bool) -> Entry {
        let (key, value) = (key.to_owned(), value.to_owned());
        Entry { key, value, file: Arc::from("f"), line: 1, is_cut, is_inherited: false }
    }

    #[test]
    fn typing_mistakes_get_a_suggestion() {
        for (section, key, expected) in [
            ("program:a", "comand", "unknown key, ignored; did you mean \"command\"?"),
            ("program:a", "auto_start", "unknown key, ignored; did you mean \"autostart\"?"),
            ("supervisord", "pdifile", "unknown key, ignored; did you mean \"pidfile\"?"),
            ("group:g", "colour", "unknown key, ignored"),
        ] {
            assert_eq!(suspicious(section, &entry(key, "", false)).as_deref(), Some(expected));
        }
        assert_eq!(suspicious("program:a", &entry("command", "x", false)), None);
        assert_eq!(suspicious("ctlplugin:x", &entry("anything", "x", false)), None);
        assert_eq!(
            suspicious("rpcinterface:x", &entry("retries", "3", false)).as_deref(),
            Some("unknown key, ignored")
        );
    }

    #[test]
    fn unknown_sections_get_a_suggestion() {
        for (name, expected) in [
            ("progam:web", Some("unknown section, ignored; did you mean [program:web]?")),
            ("program", Some("unknown section, ignored; did you mean [program:NAME]?")),
            (" program:web", Some("unknown section, ignored; did you mean [program:web]?")),
            ("logging", Some("unknown section, ignored")),
            ("inet_http_server:a", None),
            ("rpcinterface:x", None),
        ] {
            assert_eq!(unknown_section(name).as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn a_header_without_bracket_is_pointed_out() {
        let problem = suspicious("program:a", &entry("[program", "b", false)).unwrap();
        assert!(problem.ends_with("did you mean [program:b]?"), "{problem}");
    }

    #[test]
    fn a_comment_within_quotes_is_pointed_out() {
        assert!(suspicious("program:a", &entry("command", "bash -c 'foo", true)).is_some());
        assert!(suspicious("program:a", &entry("command", "bash -c foo", true)).is_none());
    }
}
