//! Drives the real program against a fake daemon, and compares with what Supervisor 4.3.0 printed for the same
//! commands.

#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "a test is no supervisor: nothing else reaps here, and it may wait"
)]
#![allow(clippy::unwrap_used, reason = "in a test a failure is a panic")]

mod fake;

use std::{
    io::{Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use fake::Fake;
use nix::{sys::signal::Signal, unistd::Pid};
use serde_json::{Value, json};
use supervisor_proto::v1::{Reason, update_progress::Step};

/// Waits until `holds`, for ten seconds at most.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let mut left = 1000;
    while !holds() {
        left -= 1;
        assert!(left > 0, "{what} did not come about");
        std::sync::mpsc::channel::<()>().1.recv_timeout(Duration::from_millis(10)).unwrap_err();
    }
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_supervisorctl"));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs `supervisorctl -s URL WORDS…`.
fn ctl(url: &str, words: &[&str]) -> Output {
    program().args(["-s", url]).args(words).output().unwrap()
}

/// Runs the shell with `typed` on a standard input that is no terminal.
fn pipe(url: &str, words: &[&str], typed: &str) -> Output {
    let mut child = program().args(["-s", url]).args(words).stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// stdout, stderr and exit status as text.
fn outcome(output: &Output) -> (String, String, i32) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap_or(-1))
}

/// The words of a line; double quotes hold words together.
fn split(line: &str) -> Vec<&str> {
    let mut words = Vec::new();
    for (at, part) in line.split('"').enumerate() {
        if at % 2 == 1 {
            words.push(part);
        } else {
            words.extend(part.split_whitespace());
        }
    }
    words
}

#[test]
fn every_command_prints_what_supervisor_prints_and_exits_as_it_does() {
    let fake = Fake::start();
    let mut differences = String::new();
    let expected = include_str!("expected/commands.txt");
    for block in expected.strip_prefix("$ ").unwrap().split("\n$ ") {
        let (line, rest) = block.split_once('\n').unwrap();
        let (lines, status) = rest.trim_end().rsplit_once("= ").unwrap();
        let (stdout, stderr, code) = outcome(&ctl(&fake.url(), &split(line)));
        let got = stdout + &stderr;
        let lines = lines.replace("URL", &fake.url());
        if (got.as_str(), code.to_string().as_str()) != (lines.as_str(), status) {
            differences += &format!("$ {line}\nexpected {status}: {lines:?}\ngot      {code}: {got:?}\n");
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

#[test]
fn a_missing_socket_and_a_refused_connection_have_supervisors_words_and_statuses() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    let url = format!("unix://{}", path.display());
    for (kind, missing) in [("no such file", true), ("refused connection", false)] {
        if !missing {
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        }
        for (words, line, status) in [
            (&["status"][..], format!("{url} {kind}\n"), 4),
            (&["pid"], format!("{url} {kind}\n"), if missing { 7 } else { 4 }),
            (&["restart", "x"], format!("{url} {kind}\n"), if missing { 7 } else { 4 }),
            (&["start"], format!("{url} {kind}\n"), if missing { 7 } else { 4 }),
            (&["shutdown"], format!("ERROR: {url} {kind} (already shut down?)\n"), 1),
            (&["add"], String::new(), 0),
        ] {
            let (stdout, stderr, code) = outcome(&ctl(&url, words));
            assert_eq!((stdout, stderr, code), (line, String::new(), status), "{words:?}");
        }
        let (stdout, _, code) = outcome(&ctl(&url, &["reread"]));
        assert!(stdout.starts_with(&format!("error: {url} {kind}: ")), "{stdout}");
        assert_eq!((code, stdout.lines().count()), (1, 1));
    }
}

#[test]
fn a_failure_of_the_connection_is_one_line_that_names_the_address() {
    for (url, cause) in [
        ("foo://x", "unknown protocol for serverurl foo://x"),
        ("http://127.0.0.1:99999", "unknown protocol"),
        ("unix:///etc/passwd/s.sock", "unix:///etc/passwd/s.sock: "),
    ] {
        let (stdout, _, code) = outcome(&ctl(url, &["status"]));
        assert!(stdout.starts_with("error: ") && stdout.contains(cause), "{stdout}");
        assert_eq!((code, stdout.lines().count()), (1, 1));
    }
}

#[test]
fn what_is_no_supervisord_is_called_so() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
    });
    let (stdout, _, code) = outcome(&ctl(&format!("unix://{}", path.display()), &["status"]));
    server.join().unwrap();
    assert!(stdout.contains("does not speak gRPC") && code == 1, "{stdout}");
}

#[test]
fn a_socket_that_may_not_be_used_names_owner_mode_and_asker() {
    if nix::unistd::geteuid().is_root() {
        // Root may use every socket: as somebody else, through the user database's `nobody`.
        return denied_to_nobody();
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("s.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o000)).unwrap();
    let (stdout, _, code) = outcome(&ctl(&format!("unix://{}", path.display()), &["status"]));
    assert!(stdout.contains("permission denied: the socket belongs to uid") && code == 1, "{stdout}");
}

/// The same as user `nobody`, in a directory that it may search.
fn denied_to_nobody() {
    use std::os::unix::process::CommandExt as _;
    const NOBODY: u32 = 65534;
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(&directory, std::fs::Permissions::from_mode(0o755)).unwrap();
    let copy = directory.path().join("supervisorctl");
    // By another process: children that other tests make meanwhile would hold our descriptor ("text file busy").
    assert!(
        Command::new("cp")
            .args([env!("CARGO_BIN_EXE_supervisorctl").as_ref(), copy.as_os_str()])
            .status()
            .unwrap()
            .success()
    );
    let path = directory.path().join("s.sock");
    let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    let mut command = Command::new(copy);
    command.uid(NOBODY).gid(NOBODY).args(["-s", &format!("unix://{}", path.display()), "status"]);
    let (stdout, _, code) = outcome(&command.output().unwrap());
    let expected =
        "permission denied: the socket belongs to uid 0, gid 0 with mode 0700, and you are uid 65534";
    assert!(stdout.starts_with("error: unix://") && stdout.contains(expected), "{stdout}");
    assert_eq!((code, stdout.lines().count()), (1, 1));
}

#[test]
fn a_daemon_that_shuts_down_is_reported_in_the_words_of_each_command() {
    let fake = Fake::start();
    fake.model().refusal = Some((Reason::ShuttingDown, "supervisord is shutting down"));
    for (words, line, status) in [
        (&["avail"][..], "ERROR: supervisor shutting down", 1),
        (&["reread"], "ERROR: supervisor shutting down", 1),
        (&["update"], "ERROR: already shutting down", 1),
        (&["reload"], "ERROR: already shutting down", 1),
        (&["shutdown"], "ERROR: already shutting down", 0),
        (&["add", "x"], "ERROR: shutting down", 1),
        (&["start", "x"], "error: supervisord is shutting down or restarting", 1),
    ] {
        let (stdout, _, code) = outcome(&ctl(&fake.url(), words));
        assert_eq!((stdout.trim_end(), code), (line, status), "{words:?}");
    }
}

#[test]
fn a_configuration_that_cannot_be_read_is_one_clean_error() {
    let fake = Fake::start();
    fake.model().refusal = Some((Reason::CannotReread, "a.conf:3: [program:x] startsecs = \"x\": bad"));
    for verb in ["reread", "update", "reload"] {
        let (stdout, _, code) = outcome(&ctl(&fake.url(), &[verb]));
        let expected = "ERROR: CANT_REREAD: a.conf:3: [program:x] startsecs = \"x\": bad\n";
        assert_eq!((stdout.as_str(), code), (expected, 1), "{verb}");
    }
}

#[test]
fn reread_and_update_tell_changes_as_supervisor_does() {
    let fake = Fake::start();
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    fake.model().reread.added = names(&["new"]);
    fake.model().reread.changed = names(&["grp", "el"]);
    fake.model().reread.removed = names(&["rem"]);
    let (stdout, _, _) = outcome(&ctl(&fake.url(), &["reread"]));
    assert_eq!(stdout, "el: changed\ngrp: changed\nnew: available\nrem: disappeared\n");
    fake.model().steps = vec![
        ("rem", Step::Stopped),
        ("rem", Step::Removed),
        ("el", Step::Stopped),
        ("el", Step::Updated),
        ("newman", Step::Added),
    ];
    let expected = "rem: stopped\nrem: removed process group\nel: stopped\nel: updated process group\n\
                    newman: added process group\n";
    assert_eq!(outcome(&ctl(&fake.url(), &["update", "all"])), (expected.to_owned(), String::new(), 0));
    fake.model().steps = vec![("el", Step::HasProblems)];
    let expected = "el: has problems; not removing\n";
    assert_eq!(outcome(&ctl(&fake.url(), &["update"])), (expected.to_owned(), String::new(), 1));
}

#[test]
fn reload_shutdown_and_reopen_say_that_they_were_done() {
    let fake = Fake::start();
    for (verb, line) in
        [("reload", "Restarted supervisord\n"), ("shutdown", "Shut down\n"), ("reopen", "Reopened logs\n")]
    {
        assert_eq!(outcome(&ctl(&fake.url(), &[verb])), (line.to_owned(), String::new(), 0));
    }
}

#[test]
fn credentials_are_sent_and_their_lack_is_told_once() {
    let fake = Fake::start();
    fake.model().authorization = Some("Basic bWU6czNjcmV0");
    let (stdout, _, code) = outcome(&ctl(&fake.url(), &["status"]));
    assert_eq!((stdout.as_str(), code), ("Server requires authentication\n", 1));
    let (stdout, _, code) = outcome(&ctl(&fake.url(), &["-u", "me", "-p", "s3cret", "version"]));
    assert_eq!((stdout.as_str(), code), ("4.3.0\n", 0));
    let output = pipe(&fake.url(), &["-i", "version"], "you\nwrong\nme\ns3cret\n");
    let asked = "Server requires authentication\nUsername:Password:\n\n";
    assert_eq!(outcome(&output), (format!("{asked}{asked}4.3.0\n"), String::new(), 0));
}

#[test]
fn a_log_passes_unchanged_and_whole_through_tail() {
    let fake = Fake::start();
    let log: Vec<u8> = (0..=255_u8).cycle().take(5000).collect();
    fake.model().log = log.clone();
    for (modifier, count) in [("-0", 5000), ("-5000", 5000), ("-3", 3), ("-99999", 5000)] {
        for words in [&["tail", modifier, "cat"][..], &["maintail", modifier]] {
            let output = ctl(&fake.url(), words);
            assert!(output.stdout == [&log[5000 - count..], b"\n"].concat(), "{words:?}");
            assert_eq!(output.status.code(), Some(0));
        }
    }
    let output = ctl(&fake.url(), &["tail", "cat"]);
    assert!(output.stdout == [&log[3400..], b"\n"].concat());
}

/// Reads from `child` until its output ends with `text`.
fn expect(child: &mut Child, seen: &mut String, text: &str) {
    let stdout = child.stdout.as_mut().unwrap();
    while !seen.ends_with(text) {
        let mut chunk = [0; 1000];
        let count = stdout.read(&mut chunk).unwrap();
        assert!(count > 0, "expected {text:?} at the end of {seen:?}");
        seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
    }
}

fn interrupt(child: &Child) {
    nix::sys::signal::kill(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
}

#[test]
fn tail_f_streams_what_is_written_until_interrupted() {
    let fake = Fake::start();
    for words in [&["tail", "-f", "cat"][..], &["maintail", "-f"]] {
        let mut child = program().args(["-s", &fake.url()]).args(words).spawn().unwrap();
        let mut seen = String::new();
        expect(&mut child, &mut seen, "==> Press Ctrl-C to exit <==\n");
        fake.wait_for_follower();
        fake.write("no line end");
        expect(&mut child, &mut seen, "no line end");
        interrupt(&child);
        expect(&mut child, &mut seen, "\n");
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(seen, "==> Press Ctrl-C to exit <==\nno line end\n");
        fake.model().forget_followers();
    }
}

#[test]
fn tail_f_ends_when_its_reader_has_gone() {
    let fake = Fake::start();
    let mut child = program().args(["-s", &fake.url(), "tail", "-f", "cat"]).spawn().unwrap();
    expect(&mut child, &mut String::new(), "<==\n");
    fake.wait_for_follower();
    drop(child.stdout.take());
    // A child that another test is just making may hold the pipe for a moment: then the first write has a reader.
    for _ in 0..1000 {
        fake.write("nobody reads this\n");
        if let Some(status) = child.try_wait().unwrap() {
            return assert_eq!(status.code(), Some(0));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("tail -f goes on without a reader");
}

#[test]
fn fg_connects_until_the_process_ends() {
    let fake = Fake::start();
    let mut child = program().args(["-s", &fake.url(), "fg", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut seen = String::new();
    expect(&mut child, &mut seen, "<==\n");
    stdin.write_all(b"hello\n").unwrap();
    expect(&mut child, &mut seen, "read hello\n");
    fake.write("by itself\n");
    expect(&mut child, &mut seen, "by itself\n");
    stdin.write_all(b"die\n").unwrap();
    expect(&mut child, &mut seen, "Exiting foreground\n");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let expected = "==> Press Ctrl-C to exit <==\nread hello\nby itself\nread die\nProcess got killed\n\
                    Exiting foreground\n";
    assert_eq!(seen, expected);
}

#[test]
fn fg_is_left_by_an_interrupt_and_at_the_end_of_the_input() {
    let fake = Fake::start();
    let (stdout, _, code) = outcome(&ctl(&fake.url(), &["fg", "cat"]));
    assert_eq!((stdout.as_str(), code), ("==> Press Ctrl-C to exit <==\nExiting foreground\n", 0));
    fake.model().forget_followers();
    let mut child = program().args(["-s", &fake.url(), "fg", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut seen = String::new();
    expect(&mut child, &mut seen, "<==\n");
    fake.wait_for_follower();
    fake.write("x\n");
    expect(&mut child, &mut seen, "x\n");
    interrupt(&child);
    expect(&mut child, &mut seen, "Exiting foreground\n");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn watch_prints_a_row_for_every_change() {
    let fake = Fake::start();
    let mut child = program().args(["-s", &fake.url(), "watch", "cat"]).spawn().unwrap();
    let mut seen = String::new();
    expect(&mut child, &mut seen, "uptime 0:00:07\n");
    fake.model().end("cat");
    expect(&mut child, &mut seen, "cat                              STOPPED   Not started\n");
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn events_are_lines_with_what_a_program_wrote_in_quotes() {
    let fake = Fake::start();
    let (stdout, stderr, code) = outcome(&ctl(&fake.url(), &["events", "TICK_5", "tick_60"]));
    let expected = "01:02:03.004Z TICK_5+tick_60 processname:cat groupname:cat from_state:STOPPED tries:0\n\
                    (3 events were lost here: this client was too slow)\n\
                    00:00:00.000Z PROCESS_LOG_STDOUT channel:stdout \"a\\u{1b}\\n\"\n";
    assert_eq!((stdout.as_str(), stderr.as_str(), code), (expected, "", 0));
    let (stdout, _, _) = outcome(&ctl(&fake.url(), &["--format", "json", "events", "X"]));
    let lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines[0]["detail"]["name"].as_str(), lines[1]["lost"].as_u64()), (Some("cat"), Some(3)));
}

#[test]
fn status_survives_a_reader_that_leaves() {
    let fake = Fake::start();
    fake.model().crowd = 5000;
    let mut child = program().args(["-s", &fake.url(), "status"]).spawn().unwrap();
    let mut first = [0; 5];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((&first, output.stderr.as_slice(), output.status.code()), (b"crowd", &b""[..], Some(3)));
}

/// The JSON that a command prints.
fn answer(fake: &Fake, words: &[&str]) -> Value {
    let output = ctl(&fake.url(), words);
    let (stdout, stderr, _) = outcome(&output);
    assert_eq!((stderr.as_str(), stdout.lines().count()), ("", 1), "{words:?}: {stdout}");
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn every_answer_has_a_json_form() {
    let fake = Fake::start();
    let status = answer(&fake, &["status", "cat", "--format", "json"]);
    let expected = json!([{
        "name": "cat", "group": "cat", "state": "RUNNING", "statecode": 20,
        "description": "pid 102, uptime 0:00:07", "pid": 102, "start": 1000, "stop": 0, "now": 1007,
        "exitstatus": 0, "signal": 0, "spawnerr": "", "retries": 0, "spawns": 0,
        "logfiles": {"stdout": "/log/out", "stderr": ""}, "advice": ["do this"], "lost": 0,
    }]);
    assert_eq!(status, expected);
    let result = |operation: &str, name: &str, group: &str, result: &str| json!({"operation": operation, "name": name, "group": group, "result": result, "description": ""});
    for (words, expected) in [
        (&["--format", "json", "pid"][..], json!({"pid": 100})),
        (&["pid", "cat", "--format=json"], json!([{"name": "cat", "group": "cat", "pid": 102}])),
        (
            &["--format=json", "stop", "cat", "x"],
            json!([result("stop", "cat", "cat", "OK"), result("stop", "x", "", "BAD_NAME")]),
        ),
        (
            &["--format=json", "restart", "cat"],
            json!([result("stop", "cat", "cat", "NOT_RUNNING"), result("start", "cat", "cat", "OK")]),
        ),
        (&["--format=json", "start", "grp:*"], json!([])),
        (&["--format=json", "reread"], json!([])),
        (&["--format=json", "update"], json!([])),
        (
            &["--format=json", "start"],
            json!({"error": {"reason": "USAGE", "message": "start requires a process name"}}),
        ),
        (
            &["--format=json", "nonsense"],
            json!({"error": {"reason": "UNKNOWN_COMMAND", "message": "nonsense"}}),
        ),
        (
            &["--format=json", "status", "x"],
            json!([{"error": {"reason": "BAD_NAME", "message": "no such process", "name": "x"}}]),
        ),
    ] {
        assert_eq!(answer(&fake, words), expected, "{words:?}");
    }
    assert_eq!(answer(&fake, &["--format=json", "version"])["version"], "4.3.0");
    fake.model().refusal = Some((Reason::ShuttingDown, "it ends"));
    let expected = json!({"error": {"reason": "SHUTTING_DOWN", "message": "it ends"}});
    assert_eq!(answer(&fake, &["--format=json", "start", "cat"]), expected);
}

#[test]
fn exit_statuses_do_not_depend_on_the_format() {
    let fake = Fake::start();
    for (words, status) in
        [(&["status"][..], 3), (&["status", "x"], 4), (&["start", "quick"], 7), (&["start"], 2)]
    {
        for format in ["text", "json"] {
            let output = ctl(&fake.url(), &[&["--format", format], words].concat());
            assert_eq!(output.status.code(), Some(status), "{words:?} {format}");
        }
    }
}

#[test]
fn a_format_that_does_not_exist_is_refused() {
    let fake = Fake::start();
    let (_, stderr, code) = outcome(&ctl(&fake.url(), &["--format", "xml", "status"]));
    assert!(
        stderr.starts_with("Error: invalid value for --format 'xml': expected text or json\n"),
        "{stderr}"
    );
    assert_eq!(code, 2);
    let (stdout, _, code) = outcome(&ctl(&fake.url(), &["status", "--format=xml"]));
    assert_eq!((stdout.lines().count(), code), (1, 2), "{stdout}");
}

#[test]
fn status_long_tells_all_that_is_known() {
    let fake = Fake::start();
    let (stdout, _, code) = outcome(&ctl(&fake.url(), &["status", "--long", "cat"]));
    for line in
        ["cat", "    state          RUNNING", "    stdout log     /log/out", "    advice         do this"]
    {
        assert!(stdout.lines().any(|seen| seen == line), "{line:?} in {stdout}");
    }
    assert_eq!(code, 0);
}

#[test]
fn the_shell_reads_commands_from_a_pipe_as_supervisor_does() {
    let fake = Fake::start();
    let output = pipe(&fake.url(), &[], include_str!("expected/shell_input.txt"));
    let (stdout, stderr, code) = outcome(&output);
    assert_eq!((stdout.as_str(), stderr.as_str(), code), (include_str!("expected/shell_output.txt"), "", 0));
}

#[test]
fn the_shell_asks_before_it_ends_or_restarts_the_daemon() {
    let fake = Fake::start();
    let output = pipe(&fake.url(), &["-i", "shutdown"], "no\n");
    let question = "Really shut the remote supervisord process down y/N? ";
    assert_eq!(outcome(&output), (question.to_owned(), String::new(), 0));
    let output = pipe(&fake.url(), &["-i", "reload"], "Yes\n");
    let expected = "Really restart the remote supervisord process y/N? Restarted supervisord\n";
    assert_eq!(outcome(&output), (expected.to_owned(), String::new(), 0));
}

/// The shell on a terminal of its own.
struct Terminal {
    child: Child,
    screen: std::fs::File,
    seen: String,
}

impl Terminal {
    fn open(url: &str, words: &[&str]) -> Self {
        let pty = nix::pty::openpty(None, None).unwrap();
        let side = || Stdio::from(pty.slave.try_clone().unwrap());
        let mut command = Command::new(env!("CARGO_BIN_EXE_supervisorctl"));
        command.args(["-s", url]).args(words).env("TERM", "xterm");
        let child = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
        Self { child, screen: pty.master.into(), seen: String::new() }
    }

    fn type_text(&mut self, text: &str) {
        self.screen.write_all(text.as_bytes()).unwrap();
    }

    /// Reads until `text` has appeared after what was expected before.
    fn expect(&mut self, text: &str) {
        while !self.seen.contains(text) {
            let mut chunk = [0; 1000];
            // A terminal that nobody has open any more is an error to read from.
            let count = self.screen.read(&mut chunk).unwrap_or(0);
            assert!(count > 0, "expected {text:?} in {:?}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&chunk[..count]));
        }
        let end = self.seen.find(text).unwrap() + text.len();
        self.seen.drain(..end);
    }

    fn exit_status(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";

#[test]
fn the_shell_on_a_terminal_begins_with_status_and_is_left_by_ctrl_d() {
    let fake = Fake::start();
    let mut terminal = Terminal::open(&fake.url(), &[]);
    terminal.expect("sleeper                          RUNNING   pid 105, uptime 0:00:07\r\n");
    terminal.expect("supervisor> ");
    terminal.type_text("version\r");
    terminal.expect("4.3.0\r\n");
    terminal.expect("supervisor> ");
    terminal.type_text(CTRL_D);
    assert_eq!(terminal.exit_status(), Some(0));
}

#[test]
fn the_shell_on_a_terminal_completes_actions_and_processes() {
    let fake = Fake::start();
    let mut terminal = Terminal::open(&fake.url(), &[]);
    terminal.expect("supervisor> ");
    terminal.type_text("vers\t\r");
    terminal.expect("4.3.0\r\n");
    terminal.expect("supervisor> ");
    terminal.type_text("pid sl\t\r");
    terminal.expect("105\r\n");
    terminal.expect("supervisor> ");
    terminal.type_text("pid grp:grp_1\t\r");
    terminal.expect("104\r\n");
    terminal.expect("supervisor> ");
    terminal.type_text("quit\r");
    assert_eq!(terminal.exit_status(), Some(0));
}

#[test]
fn the_shell_on_a_terminal_is_left_by_ctrl_c_at_the_prompt_but_not_in_tail() {
    let fake = Fake::start();
    let mut terminal = Terminal::open(&fake.url(), &[]);
    terminal.expect("supervisor> ");
    terminal.type_text("tail -f cat\r");
    terminal.expect("<==\r\n");
    fake.wait_for_follower();
    interrupt(&terminal.child);
    terminal.expect("supervisor> ");
    terminal.type_text(CTRL_C);
    assert_eq!(terminal.exit_status(), Some(0));
}

#[test]
fn the_shell_on_a_terminal_asks_for_a_password_that_is_not_shown() {
    let fake = Fake::start();
    fake.model().authorization = Some("Basic bWU6czNjcmV0");
    let mut terminal = Terminal::open(&fake.url(), &[]);
    terminal.expect("Server requires authentication\r\nUsername:");
    terminal.type_text("me\n");
    terminal.expect("Password:");
    let slave = terminal.screen.try_clone().unwrap();
    until("a terminal without echo", || {
        let attributes = nix::sys::termios::tcgetattr(&slave).unwrap();
        !attributes.local_flags.contains(nix::sys::termios::LocalFlags::ECHO)
    });
    terminal.type_text("s3cret\n");
    terminal.expect("pid 105");
    terminal.expect("supervisor> ");
    terminal.type_text(CTRL_D);
    assert_eq!(terminal.exit_status(), Some(0));
}

#[test]
fn the_shell_keeps_its_history_for_the_user_alone_and_finds_it_again() {
    let fake = Fake::start();
    let history = fake.path("history");
    let words = ["-r", history.to_str().unwrap()];
    let mut terminal = Terminal::open(&fake.url(), &words);
    terminal.expect("supervisor> ");
    terminal.type_text("pid sleeper\r");
    terminal.expect("105\r\n");
    terminal.expect("supervisor> ");
    terminal.type_text(CTRL_D);
    assert_eq!(terminal.exit_status(), Some(0));
    assert_eq!(std::fs::metadata(&history).unwrap().permissions().mode() & 0o777, 0o600);
    let mut terminal = Terminal::open(&fake.url(), &words);
    terminal.expect("supervisor> ");
    terminal.type_text("\x1b[A\r");
    terminal.expect("105\r\n");
    terminal.expect("supervisor> ");
    terminal.type_text(CTRL_D);
    assert_eq!(terminal.exit_status(), Some(0));
}

#[test]
fn the_shell_finds_a_daemon_that_was_restarted_between_two_commands() {
    let mut fake = Fake::start();
    let mut terminal = Terminal::open(&fake.url(), &[]);
    terminal.expect("supervisor> ");
    fake.restart();
    terminal.type_text("version\r");
    terminal.expect("4.3.0\r\n");
    terminal.expect("supervisor> ");
    terminal.type_text(CTRL_D);
    assert_eq!(terminal.exit_status(), Some(0));
}

#[test]
fn mistakes_of_the_command_line_are_told_as_supervisor_tells_them() {
    for (words, error) in [
        (&["-x"][..], "option -x not recognized"),
        (&["--bogus"], "option --bogus not recognized"),
        (&["-c"], "option -c requires argument"),
        (&["--config"], "option --configuration requires argument"),
        (&["--h"], "option --h not a unique prefix"),
        (&["--help=1"], "option --help must not have an argument"),
        (&["-s", "foo", "status"], "invalid value for -s 'foo': value 'foo' is not a URL"),
        (&["-i", "-i"], "conflicting command line option '-i'"),
        (&["-c", "/no/such.conf", "status"], "could not find config file /no/such.conf"),
    ] {
        let (stdout, stderr, code) = outcome(&program().args(words).output().unwrap());
        let expected = format!("Error: {error}\nFor help, use {} -h\n", env!("CARGO_BIN_EXE_supervisorctl"));
        assert_eq!((stdout.as_str(), stderr, code), ("", expected, 2), "{words:?}");
    }
}

#[test]
fn the_configuration_file_tells_the_address_and_options_override_it() {
    let fake = Fake::start();
    let write = |name: &str, text: &str| {
        std::fs::write(fake.path(name), text).unwrap();
        fake.path(name).to_str().unwrap().to_owned()
    };
    fake.model().authorization = Some("Basic bWU6czNjcmV0");
    let good = "[supervisorctl]\nserverurl = unix://%(here)s/./s.sock\nusername = me\npassword = s3cret\nprompt = p\n";
    let good = write("good.conf", good);
    let run = |words: &[&str]| outcome(&program().args(words).output().unwrap());
    assert_eq!(run(&["-c", &good, "version"]), ("4.3.0\n".to_owned(), String::new(), 0));
    let (stdout, _, code) = run(&["-c", &good, "-p", "other", "version"]);
    assert_eq!((stdout.as_str(), code), ("Server requires authentication\n", 1));
    let (stdout, _, _) = run(&["-c", &good]);
    assert!(stdout.ends_with("\np> \n"), "{stdout}");
    let missing = write("missing.conf", "[supervisorctl]\nserverurl = unix://%(here)s/no.sock\n");
    let (stdout, _, code) = run(&["-c", &missing, "version"]);
    assert_eq!((stdout, code), (format!("unix://{} no such file\n", fake.path("no.sock").display()), 7));
    let none = write("none.conf", "[supervisord]\n");
    let (_, stderr, code) = run(&["-c", &none, "version"]);
    assert!(stderr.starts_with("Error: .ini file does not include supervisorctl section\n"), "{stderr}");
    assert_eq!(code, 2);
}

#[test]
fn help_version_completions_and_manual_are_printed() {
    for (words, fragment) in [
        (&["-h"][..], "\n-i/--interactive -- start an interactive"),
        (&["-?"], "supervisorctl -- control applications run by supervisord from the cmd line.\n"),
        (&["--version"], env!("CARGO_PKG_VERSION")),
        (&["--completions", "bash"], "complete -F _supervisorctl"),
        (&["--completions", "zsh"], "#compdef supervisorctl"),
        (&["--completions", "fish"], "complete -c supervisorctl"),
        (&["--man"], ".TH supervisorctl"),
    ] {
        let (stdout, stderr, code) = outcome(&program().args(words).output().unwrap());
        assert!(stdout.contains(fragment), "{words:?}: {stdout}");
        assert_eq!((stderr.as_str(), code), ("", 0), "{words:?}");
    }
}
