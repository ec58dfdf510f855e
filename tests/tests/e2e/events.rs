//! Events: listeners get them as from Supervisor, and clients can stream them.
//! T-numbers are scenarios of the project's list of what users suffer from.

use std::time::Duration;

use serde_json::Value;
use supervisor_tests::{Daemon, Signal, kill, monotonic, observe, processes, until_quick};

/// A listener of these types that records what it gets in `$DIR/events`.
fn recorder(types: &str) -> String {
    format!(
        "[eventlistener:recorder]
command=$ACTOR listen=$DIR/events
events={types}
startsecs=0
"
    )
}

/// A listener that gives each payload back as its result, as that of the plug-in `supervisor-stdout` does.
const GIVES_BACK: &str = "#!/bin/bash
while printf 'READY\\n'; read -r line; do
    length=${line##*len:}
    payload=$(head -c $length; echo .)
    printf 'RESULT %s\\n%s' $length \"${payload%.}\"
done
";

/// A daemon whose results go to the handler of `supervisor-stdout`; not started yet.
fn with_supervisor_stdout(events: &str, programs: &str) -> Daemon {
    let daemon = Daemon::prepare(&format!(
        "[eventlistener:stdout]
command=bash $DIR/give-back
buffer_size=100
events={events}
result_handler=supervisor_stdout:event_handler
startsecs=0
{programs}"
    ));
    std::fs::write(daemon.path("give-back"), GIVES_BACK).expect("a script");
    daemon
}

/// What the recorder has got: name and payload.
fn recorded(daemon: &Daemon) -> Vec<(String, String)> {
    let text = daemon.read("events");
    // A line that is not complete yet is read the next time.
    let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
    let one = |line: &str| {
        let event: Value = serde_json::from_str(line).expect("JSON");
        let field = |name: &str| event[name].as_str().expect("text").to_owned();
        (token(&field("header"), "eventname"), field("payload"))
    };
    complete.lines().map(one).collect()
}

/// The value of `name:value` in a header.
fn token(header: &str, name: &str) -> String {
    let mut words = header.split_whitespace();
    let found = words.find_map(|word| word.strip_prefix(name)?.strip_prefix(':'));
    found.unwrap_or_else(|| panic!("{name} in {header:?}")).to_owned()
}

/// Waits until the recorder has got an event whose payload contains `text`.
fn until_recorded(daemon: &Daemon, name: &str, text: &str) -> String {
    daemon.until_some(&format!("{name} {text}"), || {
        let found = recorded(daemon).into_iter().find(|event| event.0 == name && event.1.contains(text));
        found.map(|event| event.1)
    })
}

/// The recorded events about a process: what became of it, and the payload without the names.
fn changes(daemon: &Daemon, name: &str) -> Vec<String> {
    let about = format!("processname:{name} groupname:{name} ");
    let events = recorded(daemon).into_iter();
    events
        .filter_map(|(kind, payload)| {
            let rest = payload.strip_prefix(&about)?;
            Some(format!("{} {rest}", kind.trim_start_matches("PROCESS_STATE_")))
        })
        .collect()
}

#[test]
fn every_change_of_a_state_is_an_event_with_the_values_of_that_moment() {
    let daemon = Daemon::start(&format!(
        "{}[program:web]
command=$ACTOR sleep
autostart=false
startsecs=0
[program:once]
command=$ACTOR exit=3
autostart=false
autorestart=false
startsecs=0
[program:bad]
command=$ACTOR exit=1
autostart=false
startsecs=3600
startretries=1
[program:missing]
command=/nowhere/at/all
startretries=0
",
        recorder("PROCESS_STATE")
    ));
    daemon.until_state("recorder", "RUNNING");
    daemon.ctl("start web");
    let pid = daemon.process_pid("web");
    daemon.ctl("stop web");
    daemon.ctl("start once bad");
    until_recorded(&daemon, "PROCESS_STATE_FATAL", "processname:bad");
    until_recorded(&daemon, "PROCESS_STATE_EXITED", "processname:once");
    assert_eq!(
        changes(&daemon, "web"),
        [
            "STARTING from_state:STOPPED tries:0".to_owned(),
            format!("RUNNING from_state:STARTING pid:{pid}"),
            format!("STOPPING from_state:RUNNING pid:{pid}"),
            format!("STOPPED from_state:STOPPING pid:{pid}"),
        ]
    );
    let once = changes(&daemon, "once");
    assert!(once[2].starts_with("EXITED from_state:RUNNING expected:0 pid:"), "{once:?}");
    assert_eq!(
        changes(&daemon, "bad"),
        [
            "STARTING from_state:STOPPED tries:0",
            "BACKOFF from_state:STARTING tries:1",
            "STARTING from_state:BACKOFF tries:1",
            "BACKOFF from_state:STARTING tries:2",
            "FATAL from_state:BACKOFF",
        ]
    );
    assert_eq!(
        changes(&daemon, "missing"),
        [
            "STARTING from_state:STOPPED tries:0",
            "BACKOFF from_state:STARTING tries:1",
            "FATAL from_state:BACKOFF",
        ]
    );
}

#[test]
fn a_listener_gets_the_events_of_the_start_with_serials_without_a_gap() {
    let daemon =
        Daemon::start(&format!("{}[program:a]\ncommand=$ACTOR sleep\nstartsecs=0\n", recorder("EVENT")));
    until_recorded(&daemon, "PROCESS_STATE_RUNNING", "processname:a");
    let names: Vec<String> = recorded(&daemon).into_iter().map(|event| event.0).collect();
    let first = ["PROCESS_GROUP_ADDED", "PROCESS_GROUP_ADDED", "SUPERVISOR_STATE_CHANGE_RUNNING"];
    assert_eq!(names[..3], first, "{names:?}");
    let text = daemon.read("events");
    for (at, line) in text.lines().enumerate() {
        let event: Value = serde_json::from_str(line).expect("JSON");
        let header = event["header"].as_str().expect("text");
        assert_eq!(header.matches(' ').count(), 6, "{header}");
        assert!(header.starts_with("ver:3.0 server:supervisor serial:"), "{header}");
        assert_eq!(token(header, "serial"), at.to_string());
        assert_eq!(token(header, "pool"), "recorder");
        assert_eq!(token(header, "poolserial"), at.to_string());
    }
    let added: Value = serde_json::from_str(text.lines().next().expect("a line")).expect("JSON");
    assert_eq!(added["payload"], "groupname:recorder\n");
}

#[test]
fn t69_three_lines_of_shell_are_a_listener() {
    let daemon = Daemon::start(
        "[supervisord]
loglevel=debug
[eventlistener:sh]
command=bash -c 'while printf \"READY\\n\"; read line; do echo $line >> $DIR/lines; printf \"RESULT 2\\nOK\"; done'
events=PROCESS_STATE_RUNNING
startsecs=0
stdout_logfile=$DIR/sh.log
[program:a]
command=$ACTOR sleep
startsecs=0
",
    );
    daemon.until_file("lines", "eventname:PROCESS_STATE_RUNNING");
    daemon.until_log("sh: BUSY -> ACKNOWLEDGED");
    for line in ["sh: ACKNOWLEDGED -> READY", "event 0 sent to listener sh", "sh: event was processed"] {
        daemon.until_log(line);
    }
    // What a listener prints is in its log too.
    daemon.until_file("sh.log", "READY\nRESULT 2\nOKREADY\n");
    assert!(!daemon.log().contains("UNKNOWN"), "{}", daemon.log());
}

#[test]
fn a_rejected_event_is_delivered_again_and_nothing_overtakes_it() {
    let daemon = Daemon::start(
        "[eventlistener:sh]
command=bash -c 'printf \"READY\\n\"; read a; printf \"RESULT 4\\nFAILREADY\\n\"; read b; echo \"$a\" > $DIR/a; echo \"$b\" \
         > $DIR/b; sleep 1000'
events=SUPERVISOR_STATE_CHANGE_RUNNING,REMOTE_COMMUNICATION
startsecs=0
stdout_logfile=NONE
",
    );
    daemon.until("both", || daemon.read("b").ends_with('\n'));
    assert_eq!(daemon.read("a"), daemon.read("b"));
    assert!(
        daemon
            .read("a")
            .contains("serial:0 pool:sh poolserial:0 eventname:SUPERVISOR_STATE_CHANGE_RUNNING len:0")
    );
    assert!(daemon.log().contains("WARN sh: event was rejected"));
}

#[test]
fn results_for_supervisor_stdout_are_printed_on_the_daemons_stdout_line_by_line() {
    let mut daemon = with_supervisor_stdout(
        "PROCESS_LOG",
        "[program:web]
command=bash -c 'printf \"one\\ntwo\\n\"; sleep 1000'
stdout_events_enabled=true
startsecs=0
[program:other]
command=bash -c 'printf Øresund >&2; sleep 1000'
stderr_events_enabled=true
startsecs=0
",
    );
    daemon.launch(&["--silent"]);
    daemon.until_file("daemon.out", "web stdout | one\nweb stdout | two\n");
    daemon.until_file("daemon.out", "other stderr | Øresund\n");
    assert_eq!(daemon.read("daemon.out").lines().count(), 3, "{}", daemon.read("daemon.out"));
    assert!(!daemon.log().contains("UNKNOWN"), "{}", daemon.log());
}

#[test]
fn a_result_that_supervisor_stdout_cannot_use_is_an_error_and_the_next_one_is_printed() {
    let mut daemon = with_supervisor_stdout(
        "SUPERVISOR_STATE_CHANGE_RUNNING,PROCESS_LOG",
        "[program:web]
command=bash -c 'echo hello; sleep 1000'
stdout_events_enabled=true
autostart=false
startsecs=0
",
    );
    daemon.launch(&["--silent"]);
    for line in [
        "WARN stdout: event caused an error",
        "WARN stdout: has entered the UNKNOWN state and will no longer receive events",
        "ERRO pool stdout: discarding event 0: it was delivered twice",
    ] {
        daemon.until_log(line);
    }
    daemon.ctl("start web");
    daemon.until_file("daemon.out", "web stdout | hello\n");
}

/// Launches it with a stdout that nobody reads before the gate is opened; then it goes to `piped`.
fn launch_with_unread_stdout(daemon: &mut Daemon) {
    daemon.make_gate("gate");
    let piped = daemon.expand("\"$@\" --silent | { read go < $DIR/gate; cat > $DIR/piped; }");
    daemon.launch_in(&["sh", "-c", &piped, "sh"]);
}

#[test]
fn a_stdout_that_nobody_reads_delays_what_supervisor_stdout_prints_and_nothing_else() {
    let mut daemon = with_supervisor_stdout(
        "PROCESS_LOG",
        "[program:flood]
command=$ACTOR lines=100000 print=end-of-flood sleep
stdout_events_enabled=true
stdout_logfile=$DIR/flood.log
startsecs=0
[program:last]
command=$ACTOR print=last-words sleep
stdout_events_enabled=true
autostart=false
startsecs=0
",
    );
    launch_with_unread_stdout(&mut daemon);
    // More than a pipe holds: neither the program nor the daemon waits for who does not read.
    daemon.until_file("flood.log", "end-of-flood\n");
    daemon.until_state("flood", "RUNNING");
    daemon.open_gate();
    daemon.until_file("piped", "flood stdout | line 1\n");
    daemon.ctl("start last");
    daemon.until_file("piped", "last stdout | last-words\n");
}

#[test]
fn what_waits_for_a_stdout_that_nobody_reads_outlives_an_upgrade() {
    let mut daemon = with_supervisor_stdout(
        "PROCESS_LOG",
        "[program:flood]
command=$ACTOR lines=20000 print=end-of-flood sleep
stdout_events_enabled=true
startsecs=0
",
    );
    let tell = "[[ $payload != *end-of-flood* ]] || touch $DIR/all-given-back\ndone\n";
    let script = GIVES_BACK.replace("done\n", &daemon.expand(tell));
    std::fs::write(daemon.path("give-back"), script).expect("a script");
    launch_with_unread_stdout(&mut daemon);
    daemon.until("everything to be given back", || daemon.path("all-given-back").exists());
    assert_eq!(daemon.ctl("upgrade").status, 0);
    daemon.open_gate();
    daemon.until("the end", || daemon.read("piped").ends_with("end-of-flood\n"));
    // Where an event ends within a line, so does what is printed of it.
    let text: String = daemon.read("piped").replace("flood stdout | ", "").replace('\n', "");
    let expected: String = (1..=20_000).map(|number| format!("line {number}")).collect();
    assert!(text == expected + "end-of-flood", "{} bytes", text.len());
}

#[test]
fn an_event_comes_back_when_its_listener_dies_of_it() {
    let daemon = Daemon::start(
        "[eventlistener:sh]
command=bash -c 'printf \"READY\\n\"; read line; echo \"$line\" >> $DIR/lines; test -e $DIR/again || { touch $DIR/again; \
         exit 1; }; printf \"RESULT 2\\nOK\"; sleep 1000'
events=SUPERVISOR_STATE_CHANGE_RUNNING
startsecs=0
",
    );
    daemon.until("two lines", || daemon.read("lines").lines().count() == 2);
    let lines = daemon.read("lines");
    let lines: Vec<_> = lines.lines().collect();
    assert_eq!(lines[0], lines[1]);
}

#[test]
fn t58_a_stray_line_is_a_named_error_and_the_listener_goes_on() {
    let daemon = Daemon::start(
        "[eventlistener:chatty]
command=bash -c 'echo Starting up; while printf \"READY\\n\"; read line; do echo working; echo $line >> $DIR/lines; printf \
         \"RESULT 2\\nOK\"; done'
events=PROCESS_STATE_RUNNING,SUPERVISOR_STATE_CHANGE_RUNNING
startsecs=0
[program:a]
command=$ACTOR sleep
startsecs=0
autostart=false
",
    );
    daemon.until("the first event", || daemon.read("lines").lines().count() >= 2);
    daemon.ctl("start a");
    daemon.until("the last event", || daemon.read("lines").contains("serial:2 "));
    let log = daemon.log();
    for line in [
        "WARN chatty: event protocol error: it printed \"Starting up\" on stdout, expected \"READY\\n\"",
        "WARN chatty: has entered the UNKNOWN state and will no longer receive events, this usually indicates the process \
         violated the eventlistener protocol",
        "WARN chatty: bad result line: 'working'",
        "INFO chatty: follows the eventlistener protocol again and receives events",
    ] {
        assert!(log.contains(line), "{line}");
    }
    // Each event once, though each met a stray line.
    let lines = daemon.read("lines");
    let serials: Vec<String> = lines.lines().map(|line| token(line, "serial")).collect();
    assert_eq!(serials, ["0", "1", "2"]);
    let long = daemon.ctl("status --long chatty").stdout;
    assert!(long.contains("event protocol error: it printed \"working\" on stdout"), "{long}");
    assert!(long.contains("print everything else to stderr"), "{long}");
}

#[test]
fn t57_a_burst_for_a_listener_that_does_not_answer_is_kept_and_what_does_not_fit_is_named() {
    let config = |size: &str| {
        format!(
            "[eventlistener:slow]
command=$ACTOR gate=$DIR/gate listen=$DIR/events
events=PROCESS_LOG
startsecs=0
{size}
[program:a]
command=bash -c 'for i in {{1..500}}; do echo $i; sleep 0.001; done; touch $DIR/done; sleep 1000'
startsecs=0
stdout_events_enabled=true
stdout_logfile=NONE
"
        )
    };
    let daemon = Daemon::start(&config(""));
    daemon.until("the burst", || daemon.path("done").exists());
    daemon.open_gate();
    until_recorded(&daemon, "PROCESS_LOG_STDOUT", "500\n");
    let data: String =
        recorded(&daemon).iter().map(|(_, payload)| payload.split_once('\n').expect("two lines").1).collect();
    assert_eq!(data, (1..=500).map(|n| format!("{n}\n")).collect::<String>());

    let daemon = Daemon::start(&config("buffer_size=3"));
    daemon.until("the burst", || daemon.path("done").exists());
    daemon.until_log("ERRO pool slow event buffer overflowed, discarding event 0");
    daemon.open_gate();
    until_recorded(&daemon, "PROCESS_LOG_STDOUT", "500\n");
    let events = daemon.read("events");
    let first: Value = serde_json::from_str(events.lines().next().expect("a line")).expect("JSON");
    let gap: usize = token(first["header"].as_str().expect("text"), "poolserial").parse().expect("a number");
    assert_eq!(
        daemon.log().matches("event buffer overflowed").count(),
        gap,
        "the gap is as wide as what was named"
    );
    let long = daemon.ctl("status --long slow").stdout;
    assert!(long.contains(&format!("{gap} events for pool slow were discarded")), "{long}");
}

#[test]
fn t59_an_essential_program_that_was_never_up_ends_the_container() {
    let mut daemon = Daemon::start(
        "[eventlistener:exit]
command=bash -c 'while printf \"READY\\n\"; read line; do kill -TERM $PPID; printf \"RESULT 2\\nOK\"; done'
events=PROCESS_STATE_FATAL
startsecs=0
[program:essential]
command=$ACTOR exit=1
startsecs=3600
startretries=0
",
    );
    assert_eq!(daemon.wait().code(), Some(0));
    assert!(daemon.log().contains("gave up: essential entered FATAL state"));
}

#[test]
fn output_is_published_as_it_is_logged() {
    let daemon = Daemon::start(&format!(
        "{}[program:a]
command=bash -c 'echo out; echo err >&2; sleep 1000'
startsecs=0
stdout_logfile=$DIR/a.out
stderr_logfile=NONE
stdout_events_enabled=true
stderr_events_enabled=true
[program:quiet]
command=bash -c 'echo not published; sleep 1000'
startsecs=0
[program:last]
command=bash -c 'printf \"last words\"'
autorestart=false
startsecs=0
stdout_events_enabled=true
",
        recorder("PROCESS_LOG,PROCESS_STATE_EXITED")
    ));
    let pid = daemon.process_pid("a");
    let out = until_recorded(&daemon, "PROCESS_LOG_STDOUT", "processname:a ");
    assert_eq!(out, format!("processname:a groupname:a pid:{pid} channel:stdout\nout\n"));
    let err = until_recorded(&daemon, "PROCESS_LOG_STDERR", "processname:a ");
    assert_eq!(err, format!("processname:a groupname:a pid:{pid} channel:stderr\nerr\n"));
    assert_eq!(daemon.read("a.out"), "out\n");
    until_recorded(&daemon, "PROCESS_STATE_EXITED", "processname:last");
    let events = recorded(&daemon);
    let at = |text: &str| events.iter().position(|event| event.1.contains(text)).expect(text);
    assert!(at("last words") < at("expected:1"), "{events:?}");
    assert!(!events.iter().any(|event| event.1.contains("not published")));
}

/// A listener that writes each payload into the file that it is given, without the names in front. It reads bytes with
/// `head` or, as Python does, characters.
fn reader(read: &str) -> String {
    format!(
        "#!/bin/bash
while printf 'READY\\n'; read -r line; do
    {read}
    printf '%s' \"${{payload#*$'\\n'}}\" >> $1
    printf 'RESULT 2\\nOK'
done
"
    )
}

#[test]
fn the_length_of_an_event_is_what_the_program_that_reads_it_counts() {
    let mut daemon = Daemon::prepare(
        "[eventlistener:bytes]
command=bash $DIR/bytes $DIR/bytes.out
events=PROCESS_LOG
startsecs=0
[eventlistener:python]
command=$DIR/python3 $DIR/characters $DIR/python.out
environment=LC_ALL=C.UTF-8
events=PROCESS_LOG
startsecs=0
[eventlistener:wrapped]
command=bash -c '$DIR/python3 $DIR/characters $DIR/wrapped.out; exit 1'
environment=LC_ALL=C.UTF-8
events=PROCESS_LOG
startsecs=0
[eventlistener:elsewhere]
command=setsid -w $DIR/python3 $DIR/characters $DIR/elsewhere.out
environment=LC_ALL=C.UTF-8
events=PROCESS_LOG
startsecs=0
[eventlistener:said]
command=bash $DIR/characters $DIR/said.out
environment=LC_ALL=C.UTF-8
event_length=characters
events=PROCESS_LOG
startsecs=0
[program:speaker]
command=bash -c 'while read -r line; do echo \"$line\"; sleep 0.1; done < $DIR/text; sleep 1000'
stdout_events_enabled=true
startsecs=0
",
    );
    let script = |name: &str, read: &str| {
        std::fs::write(daemon.path(name), reader(read)).expect("a script");
    };
    script("bytes", "payload=$(head -c ${line##*len:}; echo .); payload=${payload%.}");
    script("characters", "read -r -N ${line##*len:} payload");
    // Nothing but its name makes it an interpreter.
    std::fs::copy("/bin/bash", daemon.path("python3")).expect("a copy of bash");
    // In events of their own, most of them: who has lost step with one does not find the next.
    let text = "plain\nØresund ☃ naïve\nß\nplain again\n";
    std::fs::write(daemon.path("text"), text).expect("a text");
    daemon.launch(&[]);
    for listener in ["bytes", "python", "wrapped", "elsewhere", "said"] {
        daemon.until_file(&format!("{listener}.out"), text);
    }
    assert!(!daemon.log().contains("UNKNOWN"), "{}", daemon.log());
}

#[test]
fn the_length_of_an_event_is_right_though_the_daemon_may_not_look_at_the_listener() {
    if !supervisor_tests::is_root("the_length_of_an_event") {
        return;
    }
    let mut daemon = Daemon::prepare(
        "[eventlistener:python]
command=$DIR/python3 $DIR/characters $DIR/python.out
environment=LC_ALL=C.UTF-8
user=nobody
events=PROCESS_LOG
startsecs=0
[program:speaker]
command=bash -c 'cat $DIR/text; sleep 1000'
stdout_events_enabled=true
startsecs=0
",
    );
    std::fs::write(daemon.path("characters"), reader("read -r -N ${line##*len:} payload")).expect("a script");
    std::fs::copy("/bin/bash", daemon.path("python3")).expect("a copy of bash");
    std::fs::write(daemon.path("python.out"), "").expect("a file");
    supervisor_tests::set_mode(&daemon.path("python.out"), 0o666);
    std::fs::write(daemon.path("text"), "Øresund ☃ naïve\n").expect("a text");
    // As in a container.
    daemon.launch_in(&["setpriv", "--bounding-set=-sys_ptrace"]);
    daemon.until_file("python.out", "Øresund ☃ naïve\n");
}

#[test]
fn no_event_ends_within_a_character_however_much_is_written_at_once() {
    let mut daemon = Daemon::prepare(&format!(
        "{}buffer_size=10000
[program:speaker]
command=bash -c 'cat $DIR/text; sleep 1000'
stdout_events_enabled=true
startsecs=0
",
        recorder("PROCESS_LOG")
    ));
    let text = format!("{}\n", "\u{e9}\u{2603}x\u{1f600}".repeat(11)).repeat(5000);
    std::fs::write(daemon.path("text"), &text).expect("a text");
    daemon.launch(&[]);
    let printed = || {
        let payloads = recorded(&daemon).into_iter().map(|(_, payload)| payload);
        payloads.map(|payload| payload.split_once('\n').expect("a head").1.to_owned()).collect::<String>()
    };
    daemon.until("all of it", || printed().len() >= text.len());
    assert!(printed() == text, "not the same text");
}

#[test]
fn messages_of_capture_mode_are_events_and_not_in_the_log() {
    let daemon = Daemon::start(&format!(
        "{}[program:a]
command=bash -c 'printf \"before<!--XSUPERVISOR:BEG\"; sleep 0.1; printf \"IN-->mess\"; sleep 0.1; printf \
         \"age<!--XSUPERVISOR:END-->after<!--XSUP\"'
autorestart=false
startsecs=0
stdout_logfile=$DIR/a.out
stdout_capture_maxbytes=1KB
[program:big]
command=bash -c 'printf \"<!--XSUPERVISOR:BEGIN-->\"; head -c 300000 /dev/zero | tr \"\\\\0\" x; printf \
         \"<!--XSUPERVISOR:END-->\"; sleep 1000' 
startsecs=0
stdout_capture_maxbytes=1MB
stdout_logfile=$DIR/big.out
",
        recorder("PROCESS_COMMUNICATION,PROCESS_STATE_EXITED")
    ));
    let message = until_recorded(&daemon, "PROCESS_COMMUNICATION_STDOUT", "processname:a ");
    assert!(message.ends_with("\nmessage"), "{message}");
    until_recorded(&daemon, "PROCESS_STATE_EXITED", "processname:a ");
    // Nothing is withheld at the end, as little as it looks like a token.
    assert_eq!(daemon.read("a.out"), "beforeafter<!--XSUP");
    // More than the pipe of a listener holds: it is sent in pieces.
    let big = until_recorded(&daemon, "PROCESS_COMMUNICATION_STDOUT", "processname:big ");
    assert_eq!(big.split_once('\n').expect("two lines").1.len(), 300_000);
    assert_eq!(daemon.read("big.out"), "");
}

#[test]
fn events_of_groups_tell_when_they_come_and_go() {
    let daemon = Daemon::start(&recorder("PROCESS_GROUP"));
    daemon.until_state("recorder", "RUNNING");
    daemon.configure(&format!(
        "{}[program:new]\ncommand=$ACTOR sleep\nstartsecs=0\n",
        recorder("PROCESS_GROUP")
    ));
    assert!(daemon.ctl("update").stdout.contains("new: added process group"));
    until_recorded(&daemon, "PROCESS_GROUP_ADDED", "groupname:new\n");
    daemon.configure(&recorder("PROCESS_GROUP"));
    assert!(daemon.ctl("update").stdout.contains("new: removed process group"));
    until_recorded(&daemon, "PROCESS_GROUP_REMOVED", "groupname:new\n");
}

#[test]
fn listeners_are_stopped_after_everything_they_listen_to() {
    let mut daemon = Daemon::start(&format!(
        "{}[program:a]\ncommand=$ACTOR wait-signal=TERM sleep=200\nstartsecs=0\n",
        recorder("SUPERVISOR_STATE_CHANGE_STOPPING,PROCESS_STATE_STOPPING")
    ));
    daemon.until_state("recorder", "RUNNING");
    daemon.until_state("a", "RUNNING");
    daemon.terminate();
    let names: Vec<String> = recorded(&daemon).into_iter().map(|event| event.0).collect();
    assert_eq!(names, ["SUPERVISOR_STATE_CHANGE_STOPPING", "PROCESS_STATE_STOPPING"]);
    let log = daemon.log();
    assert!(log.find("stopped: a ") < log.find("stopped: recorder "), "{log}");
}

/// Programs that stop at once, of one priority and of several, and two listeners with a file of their own each.
fn that_stops_at_once() -> String {
    let listener = |name: &str| {
        format!(
            "[eventlistener:{name}]
command=$ACTOR listen=$DIR/{name}.events
events=SUPERVISOR_STATE_CHANGE,PROCESS_STATE_STOPPING,PROCESS_STATE_STOPPED
startsecs=0
"
        )
    };
    let program = |(name, priority): (&str, u32)| {
        format!("[program:{name}]\ncommand=$ACTOR sleep\nstartsecs=0\npriority={priority}\n")
    };
    let programs: String = [("a", 999), ("b", 999), ("c", 5), ("d", 1)].map(program).concat();
    format!("{}{}{programs}", listener("one"), listener("two"))
}

/// What a listener of [`that_stops_at_once`] has got, but for `RUNNING`.
fn endings(daemon: &Daemon, listener: &str) -> Vec<String> {
    let text = daemon.read(&format!("{listener}.events"));
    let one = |line: &str| {
        let event: Value = serde_json::from_str(line).expect("JSON");
        let kind = token(event["header"].as_str().expect("text"), "eventname");
        let payload = event["payload"].as_str().expect("text").to_owned();
        let process = payload.split([' ', ':']).nth(1).unwrap_or_default();
        format!("{} {process}", kind.rsplit('_').next().unwrap_or_default()).trim().to_owned()
    };
    text.lines().map(one).filter(|ending| ending != "RUNNING").collect()
}

/// What both listeners must have got: the second is stopped first.
fn expect_all_endings(daemon: &Daemon) {
    let of_programs = ["STOPPING", "STOPPING a", "STOPPING b", "STOPPED a", "STOPPED b"];
    let later = ["STOPPING c", "STOPPED c", "STOPPING d", "STOPPED d"];
    let mut expected = [of_programs.as_slice(), &later].concat();
    let mut two = endings(daemon, "two");
    // Which of two ends first is up to them.
    two[3..5].sort_unstable();
    assert_eq!(two, expected);
    expected.extend(["STOPPING two", "STOPPED two"]);
    let mut one = endings(daemon, "one");
    one[3..5].sort_unstable();
    assert_eq!(one, expected);
}

#[test]
fn listeners_get_everything_that_happens_before_a_shutdown_stops_them() {
    // Listeners are waited for a second, all in all.
    until_quick("a shutdown", Duration::from_secs(1), || {
        let mut daemon = Daemon::start(&that_stops_at_once());
        for name in ["one", "two", "a", "b", "c", "d"] {
            daemon.until_state(name, "RUNNING");
        }
        let before = monotonic();
        daemon.terminate();
        let took = monotonic() - before;
        if took < Duration::from_secs(1) {
            expect_all_endings(&daemon);
        }
        took
    });
}

#[test]
fn a_shutdown_waits_for_a_listener_that_takes_its_time_for_each_event() {
    let programs: String =
        (0..6).map(|n| format!("[program:p{n}]\ncommand=$ACTOR sleep\nstartsecs=0\n")).collect();
    // Listeners that answer are waited for three seconds, all in all.
    until_quick("a shutdown", Duration::from_secs(3), || {
        let mut daemon = Daemon::start(&format!(
            "[eventlistener:slow]
command=bash -c 'while printf \"READY\\n\" && read -r line; do read -r -N ${{line##*len:}} payload; sleep 0.25; \
             echo \"$payload\" >> $DIR/got; printf \"RESULT 2\\nOK\"; done'
events=PROCESS_STATE_STOPPED
startsecs=0
{programs}"
        ));
        for name in ["slow", "p0", "p1", "p2", "p3", "p4", "p5"] {
            daemon.until_state(name, "RUNNING");
        }
        let before = monotonic();
        daemon.terminate();
        let took = monotonic() - before;
        if took < Duration::from_secs(3) {
            assert_eq!(daemon.read("got").lines().count(), 6, "{}", daemon.read("got"));
        }
        took
    });
}

#[test]
fn listeners_get_everything_that_happens_before_a_reload_stops_them() {
    until_quick("a reload", Duration::from_secs(1), || {
        let daemon = Daemon::start(&that_stops_at_once());
        for name in ["one", "two", "a", "b", "c", "d"] {
            daemon.until_state(name, "RUNNING");
        }
        let before = monotonic();
        daemon.ctl("reload");
        let starts =
            |name| daemon.read(&format!("{name}.events")).matches("SUPERVISOR_STATE_CHANGE_RUNNING").count();
        daemon.until("a new start", || starts("one") == 2 && starts("two") == 2);
        let took = monotonic() - before;
        if took < Duration::from_secs(1) {
            expect_all_endings(&daemon);
        }
        took
    });
}

#[test]
fn a_shutdown_does_not_hang_on_listeners_that_never_answer() {
    let mut daemon = Daemon::start(&format!(
        "{}[eventlistener:busy]
command=bash -c 'printf \"READY\\n\"; read line; touch $DIR/busy; exec sleep 1000'
events=SUPERVISOR_STATE_CHANGE
startsecs=0
[eventlistener:mute]
command=sleep 1000
events=EVENT
startsecs=0
[program:a]
command=$ACTOR sleep
startsecs=0
",
        recorder("SUPERVISOR_STATE_CHANGE_STOPPING,PROCESS_STATE_STOPPED")
    ));
    for name in ["recorder", "mute", "a"] {
        daemon.until_state(name, "RUNNING");
    }
    daemon.until("an event that is never answered", || daemon.path("busy").exists());
    daemon.terminate();
    let log = daemon.log();
    assert!(log.find("stopped: mute ") < log.find("stopped: busy "), "{log}");
}

#[test]
fn a_listener_ends_with_the_daemon_though_that_is_killed() {
    let daemon = Daemon::start(&recorder("TICK_3600"));
    daemon.until_state("recorder", "RUNNING");
    let pid = daemon.process_pid("recorder");
    kill(daemon.daemon_pid(), Signal::SIGKILL);
    daemon.until("the listener to end", || !processes::is_alive(pid));
}

#[test]
fn ticks_come_by_the_clock_and_cost_nothing_while_nobody_wants_them() {
    let daemon = Daemon::start("[program:a]\ncommand=$ACTOR sleep\nstartsecs=0\n");
    daemon.until_state("a", "RUNNING");
    let switches = || {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", daemon.daemon_pid())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.expect("a count").trim().parse::<u64>().expect("a number")
    };
    // It may yet have to notice that the last client has left, or to write something down.
    let before = daemon.until_some("the daemon to be at rest", || {
        let first = switches();
        observe(Duration::from_millis(500));
        (switches() == first).then_some(first)
    });
    // Longer than the shortest tick: the daemon would have to wake up.
    observe(Duration::from_millis(5500));
    assert_eq!(switches(), before, "the idle daemon has woken up");
    daemon.configure(&recorder("TICK_5"));
    assert!(daemon.ctl("update").stdout.contains("recorder: added process group"));
    let tick = until_recorded(&daemon, "TICK_5", "when:");
    let when: u64 = tick.strip_prefix("when:").expect("when").parse().expect("a number");
    assert_eq!(when % 5, 0);
}

#[test]
fn clients_stream_the_events_that_listeners_get() {
    let daemon = Daemon::start("[program:a]\ncommand=$ACTOR sleep\nstartsecs=0\nautostart=false\n");
    let text = daemon.ctl_background(&["events", "process_state"], "events.txt");
    let json = daemon
        .ctl_background(&["--format", "json", "events", "PROCESS_STATE_RUNNING", "TICK"], "events.json");
    // A subscription is there when the first event is: what happened before it is not told.
    daemon.until("both to be subscribed", || {
        daemon.ctl("start a");
        daemon.ctl("stop a");
        // One that came in the middle has not seen the first of them.
        text.text().contains(" PROCESS_STATE_STARTING ") && json.text().contains("RUNNING")
    });
    let line = daemon.until_some("a line", || {
        let text = text.text();
        text.lines().find(|line| line.contains(" PROCESS_STATE_STARTING ")).map(str::to_owned)
    });
    assert!(
        line.ends_with("Z PROCESS_STATE_STARTING processname:a groupname:a from_state:STOPPED tries:0"),
        "{line}"
    );
    let first = json.text().lines().next().expect("a line").to_owned();
    let event: Value = serde_json::from_str(&first).expect("JSON");
    assert_eq!(event["type"], "PROCESS_STATE_RUNNING");
    assert_eq!((&event["detail"]["from"], &event["detail"]["to"]), (&"STARTING".into(), &"RUNNING".into()));
    assert!(!json.text().contains("STOPPED"), "{}", json.text());
    let refused = daemon.ctl("events NONSENSE");
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(
        said.contains("\"NONSENSE\" is not a type of event; there are EVENT, PROCESS_STATE,"),
        "{refused:?}"
    );
    assert_ne!(refused.status, 0);
}

#[test]
fn a_listener_takes_over_other_events_without_a_restart() {
    let more = "[program:a]\ncommand=$ACTOR sleep\nautostart=false\nstartsecs=0\n";
    let daemon = Daemon::start(&format!("{}{more}", recorder("TICK_3600")));
    daemon.until_state("recorder", "RUNNING");
    let pid = daemon.process_pid("recorder");
    daemon.configure(&format!("{}{more}", recorder("PROCESS_STATE_RUNNING")));
    daemon.ctl("update");
    daemon.ctl("start a");
    until_recorded(&daemon, "PROCESS_STATE_RUNNING", "processname:a ");
    assert_eq!(daemon.process_pid("recorder"), pid);
}

#[test]
fn listeners_work_again_after_a_reload_and_serials_go_on() {
    let daemon = Daemon::start(&recorder("SUPERVISOR_STATE_CHANGE_RUNNING"));
    until_recorded(&daemon, "SUPERVISOR_STATE_CHANGE_RUNNING", "");
    daemon.signal(Signal::SIGHUP);
    daemon.until("the second start", || recorded(&daemon).len() == 2);
    let events = daemon.read("events");
    let second: Value = serde_json::from_str(events.lines().nth(1).expect("two lines")).expect("JSON");
    let header = second["header"].as_str().expect("text");
    assert_eq!((token(header, "serial").as_str(), token(header, "poolserial").as_str()), ("1", "0"));
}

#[test]
fn two_listeners_of_one_pool_share_its_events() {
    let daemon = Daemon::start(
        "[eventlistener:pair]
command=$ACTOR listen=$DIR/events.%(process_num)d
process_name=%(program_name)s_%(process_num)d
numprocs=2
events=PROCESS_LOG
startsecs=0
[program:a]
command=bash -c 'for i in {1..50}; do echo $i; sleep 0.01; done; touch $DIR/done; sleep 1000'
startsecs=0
stdout_events_enabled=true
",
    );
    daemon.until("the end", || daemon.path("done").exists());
    let serials = || {
        let text = daemon.read("events.0") + &daemon.read("events.1");
        let complete = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut serials: Vec<u64> = complete
            .map(|event| token(event["header"].as_str().expect("text"), "serial").parse().expect("a number"))
            .collect();
        serials.sort_unstable();
        serials
    };
    daemon.until("each event once", || {
        let serials = serials();
        let text = daemon.read("events.0") + &daemon.read("events.1");
        text.contains("\\n50\\n") && serials == (0..serials.len() as u64).collect::<Vec<_>>()
    });
}

#[test]
fn a_listener_that_reads_nothing_or_has_closed_its_stdin_holds_up_nobody() {
    let daemon = Daemon::start(&format!(
        "{}[eventlistener:lazy]
command=bash -c 'printf \"READY\\n\"; exec sleep 1000'
events=PROCESS_COMMUNICATION
startsecs=0
stdout_logfile=$DIR/lazy.log
[eventlistener:deaf]
command=bash -c 'exec 0<&-; printf \"READY\\n\"; exec sleep 1000'
events=PROCESS_COMMUNICATION
startsecs=0
stdout_logfile=$DIR/deaf.log
[program:big]
command=bash -c 'read x; printf \"<!--XSUPERVISOR:BEGIN-->\"; head -c 300000 /dev/zero | tr \"\\\\0\" x; printf \
         \"<!--XSUPERVISOR:END-->\"; exec sleep 1000'
startsecs=0
stdout_capture_maxbytes=1MB
stdout_logfile=NONE
",
        recorder("PROCESS_COMMUNICATION")
    ));
    daemon.until_file("lazy.log", "READY\n");
    daemon.until_file("deaf.log", "READY\n");
    daemon.ctl_with_input(&["fg", "big"], "go\n");
    until_recorded(&daemon, "PROCESS_COMMUNICATION_STDOUT", "processname:big ");
    daemon.ctl("stop lazy deaf").is("lazy: stopped\ndeaf: stopped\n");
    assert_eq!(daemon.state("big"), "RUNNING");
}

#[test]
fn a_listener_that_answers_without_reading_gets_the_next_event_when_it_has_read_the_last() {
    let daemon = Daemon::start(
        "[eventlistener:lazy]
command=bash -c 'printf \"READY\\n\"; until [ -e $DIR/answer ]; do sleep 0.05; done; printf \
         \"RESULT 2\\nOKREADY\\n\"; until [ -e $DIR/read ]; do sleep 0.05; done; exec cat > $DIR/got'
events=PROCESS_COMMUNICATION,PROCESS_STATE_STOPPED
startsecs=0
buffer_size=2
[supervisord]
loglevel=debug
[program:big]
command=bash -c 'read x; printf \"<!--XSUPERVISOR:BEGIN-->\"; head -c 300000 /dev/zero | tr \"\\\\0\" x; printf \
         \"<!--XSUPERVISOR:END-->\"; exec sleep 1000'
startsecs=0
stdout_capture_maxbytes=1MB
stdout_logfile=NONE
[program:a]
command=$ACTOR sleep
startsecs=0
",
    );
    daemon.until_state("lazy", "RUNNING");
    daemon.ctl_with_input(&["fg", "big"], "go\n");
    daemon.until_log("event 0 sent to listener lazy");
    std::fs::write(daemon.path("answer"), "").expect("a file");
    daemon.until_log("lazy: event was processed");
    for _ in 0..3 {
        daemon.ctl("restart a");
    }
    // None of them is in memory beyond the buffer, and none is written into the middle of the first.
    daemon.until_log("pool lazy event buffer overflowed, discarding event 1");
    std::fs::write(daemon.path("read"), "").expect("a file");
    daemon.until_log("event 2 sent to listener lazy");
    daemon.until("the second event to be read", || daemon.read("got").contains("processname:a "));
    let got = daemon.read("got");
    let heads: Vec<&str> =
        got.split("ver:3.0 ").skip(1).map(|event| event.split(' ').nth(3).expect("five words")).collect();
    assert_eq!(heads, ["poolserial:0", "poolserial:2"]);
    assert!(got.contains(&"x".repeat(300_000)), "the first is whole");
}

#[test]
fn a_killed_daemon_loses_nothing_of_a_log_that_is_published_too() {
    use std::io::Read as _;
    let daemon = Daemon::start(&format!(
        "{}[program:writer]
command=$ACTOR lines-paced=200000:0 sleep
startsecs=0
stdout_logfile=$DIR/out
stdout_events_enabled=true
",
        recorder("PROCESS_LOG")
    ));
    let pid = daemon.process_pid("writer");
    until_recorded(&daemon, "PROCESS_LOG_STDOUT", "line ");
    kill(daemon.daemon_pid(), Signal::SIGKILL);
    // As a successor does: what is not in the log is still in the pipe, which the program keeps open.
    let mut pipe = std::fs::File::open(format!("/proc/{pid}/fd/1")).expect("the pipe lives");
    let mut text = Vec::new();
    let mut buffer = vec![0; 1 << 16];
    daemon.until("the last line", || {
        let count = pipe.read(&mut buffer).expect("a pipe");
        text.extend_from_slice(&buffer[..count]);
        text.ends_with(b"line 200000\n")
    });
    let logged = daemon.read_bytes("out");
    let all = String::from_utf8([logged, text].concat()).expect("text");
    let expected: String = (1..=200_000).map(|line| format!("line {line}\n")).collect();
    assert!(all == expected, "{} of {} bytes", all.len(), expected.len());
}

#[test]
fn capture_mode_finds_its_place_again_after_the_death_of_the_daemon() {
    let mut daemon = Daemon::prepare(&format!(
        "{}[program:a]
command=bash -c 'printf \"log1<!--XSUPERVISOR:BEGIN-->half\"; $ACTOR gate=$DIR/gate; printf \
         \" rest<!--XSUPERVISOR:END-->log2<!--XSUPERVISOR:BEGIN-->whole<!--XSUPERVISOR:END-->log3\"; sleep 1000'
startsecs=0
stdout_logfile=$DIR/a.out
stdout_capture_maxbytes=1KB
",
        recorder("PROCESS_COMMUNICATION")
    ));
    daemon.launch(&[]);
    daemon.until_file("a.out", "log1");
    let pid = daemon.process_pid("a");
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    daemon.launch(&[]);
    assert_eq!(daemon.process_pid("a"), pid);
    daemon.open_gate();
    let message = until_recorded(&daemon, "PROCESS_COMMUNICATION_STDOUT", "processname:a ");
    assert!(message.ends_with("\nwhole"), "{message}");
    // Of the message that was under way nobody knows the beginning any more; the rest is not withheld.
    daemon.until_file("a.out", "log3");
    assert_eq!(daemon.read("a.out"), "log1 rest<!--XSUPERVISOR:END-->log2log3");
}
