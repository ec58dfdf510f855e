//! `--take-over`: a daemon in the place of another one of this kind. Beside a real Supervisor: `tests/takeover.py`.

use std::{fs, io::Read as _, os::unix::net::UnixStream};

use supervisor_tests::{Daemon, Signal, kill, lines, processes};

/// One program in each state that lasts.
const ALL_STATES: &str = "\
[program:wild]
command=$ACTOR lines-wild=1
startsecs=0
stdout_logfile=$DIR/wild.log
stdout_logfile_maxbytes=1MB
stdout_logfile_backups=999
[program:redirected]
command=$ACTOR lines-wild=2
redirect_stderr=true
startsecs=0
stdout_logfile=$DIR/redirected.log
[program:auto]
command=$ACTOR lines-paced=999999:2
startsecs=0
[program:young]
command=$ACTOR sleep
startsecs=1000
[program:stopped]
command=$ACTOR record=$DIR/stopped sleep
startsecs=0
[program:never]
command=$ACTOR sleep
autostart=false
[program:done]
command=$ACTOR exit=3
startsecs=0
exitcodes=3
[program:broken]
command=$ACTOR exit=1
startretries=0
";
const NAMES: [&str; 8] = ["wild", "redirected", "auto", "young", "stopped", "never", "done", "broken"];

/// Name, state and pid of every program.
fn table(daemon: &Daemon) -> Vec<(&'static str, String, String)> {
    let of = |name| (name, daemon.state(name), daemon.ctl(&format!("pid {name}")).stdout);
    NAMES.map(of).to_vec()
}

#[test]
fn every_program_keeps_pid_state_and_output_as_often_as_the_daemon_is_replaced() {
    let mut daemon = Daemon::start(ALL_STATES);
    daemon.ctl("stop stopped");
    for (name, state) in [("done", "EXITED"), ("broken", "FATAL"), ("wild", "RUNNING")] {
        daemon.until_state(name, state);
    }
    let (before, log) = (table(&daemon), daemon.json("auto")["logfiles"]["stdout"].clone());
    for _ in 0..3 {
        daemon.until_more_lines("wild.log");
        daemon.supersede();
        assert_eq!(table(&daemon), before);
        daemon.until_more_lines("redirected.log");
    }
    assert!(lines::count(&daemon, "wild.log") > 0);
    assert_eq!(daemon.json("auto")["logfiles"]["stdout"], log, "an AUTO log keeps its name");
    let text = fs::read_to_string(log.as_str().expect("a path")).expect("the AUTO log");
    for (at, line) in text.lines().enumerate() {
        assert_eq!(line, format!("line {}", at + 1), "a line is lost or doubled");
    }
    assert_eq!(daemon.starts("stopped").len(), 1, "what was stopped stays stopped");
    let long = daemon.ctl("status --long wild").stdout;
    assert!(long.contains("taken over from an earlier supervisord"), "{long}");
    assert!(!long.contains("holds no read end"), "it is of our own making: {long}");
}

#[test]
fn what_was_taken_over_is_supervised_upgraded_and_survives_a_crash() {
    let mut daemon = Daemon::start(
        "[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\n[program:y]\ncommand=$ACTOR sleep\nstartsecs=0\n",
    );
    daemon.until_starts("starts", 1);
    daemon.supersede();
    let (first, other) = (daemon.process_pid("x"), daemon.process_pid("y"));
    kill(first, Signal::SIGKILL);
    daemon.until_starts("starts", 2);
    daemon.until_log("exited: x (");
    daemon.until_state("x", "RUNNING");
    // The option on its command line is not obeyed again.
    let upgraded = daemon.ctl("upgrade");
    assert_eq!(upgraded.status, 0, "{upgraded:?}");
    assert_eq!(daemon.process_pid("y"), other);
    daemon.crash();
    daemon.launch(&[]);
    assert_eq!(daemon.process_pid("y"), other);
    assert_eq!(daemon.starts("starts").len(), 2);
    assert_eq!(daemon.ctl("stop all").status, 0);
    assert!(!processes::is_alive(other) || processes::is_zombie(other));
}

#[test]
fn programs_that_are_to_end_with_the_daemon_end_with_the_last_one() {
    let mut daemon = Daemon::start(
        "[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\non_daemon_death=stop\n",
    );
    let pid = daemon.until_starts("starts", 1)[0].pid;
    daemon.until_state("x", "RUNNING");
    for _ in 0..2 {
        daemon.supersede();
        assert_eq!(daemon.process_pid("x"), pid, "the guardian of the old daemon is kept quiet");
    }
    daemon.crash();
    daemon.until("the program to end", || !processes::is_alive(pid) || processes::is_zombie(pid));
}

#[test]
fn changed_settings_are_applied_as_by_an_update() {
    let config = |word: &str| {
        format!(
            "[program:same]\ncommand=$ACTOR sleep\nstartsecs=0\n[program:changed]\ncommand=$ACTOR {word}=$DIR/starts sleep\nstartsecs=0\n"
        )
    };
    let mut daemon = Daemon::start(&config("print"));
    daemon.until_state("changed", "RUNNING");
    let (same, changed) = (daemon.process_pid("same"), daemon.process_pid("changed"));
    daemon.configure(&config("record"));
    daemon.supersede();
    daemon.until_starts("starts", 1);
    daemon.until_state("changed", "RUNNING");
    assert_eq!(daemon.process_pid("same"), same);
    assert_ne!(daemon.process_pid("changed"), changed);
}

/// The pid of the worker that answers a connection; none if it was killed before it did. Nobody is refused.
fn ask(daemon: &Daemon) -> Option<i32> {
    let mut connection = UnixStream::connect(daemon.path("web.sock")).expect("nobody is refused");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).ok()?;
    answer.trim().parse().ok()
}

#[test]
fn fastcgi_workers_keep_their_socket() {
    let mut daemon = Daemon::start(
        "[fcgi-program:web]\nsocket=unix://$DIR/web.sock\ncommand=$ACTOR accept\nstartsecs=0\nstopsignal=KILL\n",
    );
    daemon.until_state("web:web", "RUNNING");
    let pid = ask(&daemon).expect("an answer");
    let socket = fs::read_link(format!("/proc/{pid}/fd/0")).expect("its standard input");
    daemon.supersede();
    assert_eq!(ask(&daemon), Some(pid));
    kill(pid, Signal::SIGKILL);
    let next = daemon.until_some("another worker", || ask(&daemon).filter(|next| *next != pid));
    assert_eq!(fs::read_link(format!("/proc/{next}/fd/0")).ok(), Some(socket), "the same socket");
}

#[test]
fn whoever_starts_it_in_the_background_is_told_how_it_went() {
    let mut daemon = Daemon::start("[program:x]\ncommand=$ACTOR sleep\nstartsecs=0\n");
    daemon.until_state("x", "RUNNING");
    let (pid, old) = (daemon.process_pid("x"), daemon.daemon_pid());
    let reply = daemon.daemonize(&["--take-over"]);
    assert_eq!((reply.status, reply.stderr.as_str()), (0, ""), "{reply:?}");
    assert_eq!(daemon.process_pid("x"), pid);
    assert_ne!(daemon.daemon_pid(), old);
    assert_eq!(daemon.ctl("pid").stdout.trim(), daemon.daemon_pid().to_string());
    daemon.ctl("shutdown");
    daemon.until("the pidfile and the socket to go", || {
        !daemon.path("supervisord.pid").exists() && !daemon.path("s.sock").exists()
    });
}

#[test]
fn a_refused_take_over_changes_nothing() {
    let mut daemon =
        Daemon::start("[program:x]\ncommand=$ACTOR lines-wild=3\nstartsecs=0\nstdout_logfile=$DIR/x.log\n");
    daemon.until_more_lines("x.log");
    let (pid, old) = (daemon.process_pid("x"), daemon.daemon_pid());
    let config = daemon.config_file().display().to_string();
    let fewer = daemon.path("fewer.conf");
    let text = fs::read_to_string(&config).expect("the configuration");
    fs::write(&fewer, text.split("[program:x]").next().unwrap_or_default()).expect("a file of the test");
    let fewer = fewer.display().to_string();
    let nowhere = daemon.expand("--take-over=unix://$DIR/nowhere.sock");
    let directory = daemon.expand("$DIR");
    for (options, expected) in [
        (
            vec!["-c", &fewer, "--take-over"],
            "x is RUNNING, and the configuration has no such process: add it, or stop it",
        ),
        (vec!["-c", &config, &nowhere], "No such file or directory"),
        (vec!["-c", &config, "--take-over=nonsense"], "expected unix:///path or http://host:port"),
        // Fails when the old one stands still already.
        (
            vec!["-c", &config, "--take-over", "-l", &directory],
            "nothing was taken over, the running supervisord goes on",
        ),
        (vec!["-c", &config], "another supervisord is already running with pid"),
    ] {
        let reply = daemon.supervisord(&options);
        assert_eq!(reply.status, 2, "{options:?}: {reply:?}");
        assert!(
            reply.stderr.starts_with("Error: ") && reply.stderr.contains(expected),
            "{options:?}: {reply:?}"
        );
        assert_eq!((daemon.process_pid("x"), daemon.daemon_pid()), (pid, old));
        daemon.until_more_lines("x.log");
    }
    assert_eq!(daemon.ctl("pid").stdout.trim(), old.to_string());
    daemon.supersede();
    assert_eq!(daemon.process_pid("x"), pid);
}

#[test]
fn there_must_be_a_daemon_to_take_over_from() {
    let daemon = Daemon::prepare("[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\n");
    let config = daemon.config_file().display().to_string();
    let reply = daemon.supervisord(&["-c", &config, "--take-over"]);
    assert_eq!(reply.status, 2, "{reply:?}");
    let expected =
        daemon.expand("Error: cannot take over from unix://$DIR/s.sock: No such file or directory");
    assert!(reply.stderr.starts_with(&expected), "{reply:?}");
    assert!(daemon.starts("starts").is_empty() && !daemon.path("supervisord.log").exists());
}
