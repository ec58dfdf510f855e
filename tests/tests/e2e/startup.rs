//! The daemon itself: becoming one, its pidfile and socket, a second one beside it, its end.
//! T-numbers are scenarios of the project's list of what users suffer from.

use std::fs;

use supervisor_tests::{Daemon, Signal, is_root, kill, processes};

const PROGRAM: &str = "[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\n";

#[test]
fn it_daemonizes_and_its_parent_returns_when_it_is_ready() {
    let mut daemon = Daemon::prepare(PROGRAM);
    let reply = daemon.daemonize(&[]);
    assert_eq!((reply.status, reply.stdout.as_str()), (0, ""), "{reply:?}");
    // No waiting: the parent has returned, so the daemon answers.
    daemon.ctl("version").is("4.3.0\n");
    let pid = daemon.daemon_pid();
    daemon.until_starts("starts", 1);
    assert_eq!(daemon.read("supervisord.pid"), format!("{pid}\n"));
    let streams: Vec<_> = (0..3).filter_map(|n| fs::read_link(format!("/proc/{pid}/fd/{n}")).ok()).collect();
    assert!(streams.iter().all(|path| path.as_os_str() == "/dev/null"), "{streams:?}");
    daemon.ctl("shutdown").is("Shut down\n");
    daemon.until("its end", || !processes::is_alive(pid));
    daemon.until_no_programs();
    assert!(!daemon.path("supervisord.pid").exists() && !daemon.path("s.sock").exists());
}

#[test]
fn umask_and_directory_are_the_daemons_when_it_daemonizes() {
    let mut daemon = Daemon::prepare(
        "[supervisord]
umask=077
directory=/usr/share
[program:x]
command=$ACTOR dump=$DIR/x sleep
startsecs=0
",
    );
    assert_eq!(daemon.daemonize(&[]).status, 0);
    daemon.until("its dump", || daemon.path("x").exists());
    let x: serde_json::Value = serde_json::from_slice(&daemon.read_bytes("x")).expect("a dump is JSON");
    assert_eq!((&x["cwd"], &x["umask"]), (&"/usr/share".into(), &"0077".into()));
    daemon.ctl("reread").is("No config updates to processes\n");
}

#[test]
fn a_failed_start_prints_the_reason_and_exits_as_supervisor_does() {
    let mut daemon = Daemon::prepare(PROGRAM);
    fs::create_dir(daemon.path("supervisord.log")).expect("a directory in the log's place");
    let reply = daemon.daemonize(&[]);
    assert_eq!(reply.status, 1, "{reply:?}");
    assert!(reply.stderr.starts_with("Error: ") && reply.stderr.contains("supervisord.log"), "{reply:?}");
    daemon.configure("[unix_http_server]\nfile=/nonexistent/s.sock\n[supervisord]\nlogfile=$DIR/other.log\n");
    let reply = daemon.daemonize(&[]);
    assert_eq!(reply.status, 2, "{reply:?}");
    assert!(reply.stderr.contains("Error: "), "{reply:?}");
    // Whoever detached the failed daemon may return before that has left the process table.
    daemon.until_no_programs();
    assert!(!daemon.path("starts").exists(), "a program was started");
}

#[test]
fn t44_a_killed_daemons_socket_and_pidfile_are_no_obstacle() {
    let mut daemon = Daemon::start(PROGRAM);
    daemon.until_starts("starts", 1);
    kill(daemon.daemon_pid(), Signal::SIGKILL);
    daemon.wait();
    assert!(
        daemon.path("s.sock").exists() && daemon.path("supervisord.pid").exists(),
        "left by the killed one"
    );
    daemon.launch(&[]);
    daemon.until_state("x", "RUNNING");
    assert_eq!(daemon.read("supervisord.pid").trim(), daemon.daemon_pid().to_string());
}

#[test]
fn t44_a_second_daemon_refuses_and_leaves_the_first_alone() {
    let daemon =
        Daemon::start("[program:x]\ncommand=$ACTOR record=$DIR/starts print=said sleep\nstartsecs=0\n");
    daemon.until_starts("starts", 1);
    let logs = || {
        let entries = fs::read_dir(daemon.path("")).expect("the directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        let mut names: Vec<_> = names.filter(|name| name.contains("---")).collect();
        names.sort();
        names
    };
    let before = logs();
    let file = daemon.config_file().display().to_string();
    for options in [vec!["-c", &file], vec!["-n", "-c", &file]] {
        let reply = daemon.supervisord(&options);
        assert_eq!(reply.status, 2, "{reply:?}");
        assert!(reply.stderr.starts_with("Error: "), "{reply:?}");
    }
    assert_eq!(logs(), before, "the logs of the living one stay");
    assert_eq!(daemon.read("supervisord.pid").trim(), daemon.daemon_pid().to_string());
    daemon.ctl("version").is("4.3.0\n");
    assert_eq!(daemon.starts("starts").len(), 1);
}

#[test]
fn the_pidfile_and_the_socket_are_gone_after_every_orderly_end() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let mut daemon = Daemon::start(PROGRAM);
        daemon.until_starts("starts", 1);
        daemon.signal(signal);
        assert_eq!(daemon.wait().code(), Some(0), "{signal}");
        assert!(!daemon.path("supervisord.pid").exists() && !daemon.path("s.sock").exists(), "{signal}");
        assert!(daemon.log().contains(&format!("received {signal} indicating exit request")));
        daemon.until_no_programs();
    }
}

#[test]
fn the_daemon_changes_to_its_user() {
    if !is_root("the_daemon_changes_to_its_user") {
        return;
    }
    let mut daemon = Daemon::prepare(
        "[supervisord]
user=daemon
logfile=$DIR/open/supervisord.log
pidfile=$DIR/open/supervisord.pid
childlogdir=$DIR/open
[unix_http_server]
file=$DIR/open/s.sock
[supervisorctl]
serverurl=unix://$DIR/open/s.sock
[program:x]
command=$ACTOR dump=$DIR/open/x sleep
startsecs=0
",
    );
    fs::create_dir(daemon.path("open")).expect("a directory");
    supervisor_tests::set_mode(&daemon.path("open"), 0o777);
    daemon.launch_without_waiting();
    daemon.until("its dump", || daemon.path("open/x").exists());
    let x: serde_json::Value = serde_json::from_slice(&daemon.read_bytes("open/x")).expect("a dump is JSON");
    assert_eq!((&x["uid"], &x["gid"]), (&"1 1 1 1".into(), &"1 1 1 1".into()));
    assert!(daemon.read("open/supervisord.log").contains("Set uid to user 1 succeeded"));
    assert_eq!(daemon.terminate().code(), Some(0));
    assert!(!daemon.path("open/supervisord.pid").exists() && !daemon.path("open/s.sock").exists());
}

#[test]
fn an_unknown_user_is_a_usage_error() {
    let daemon = Daemon::prepare("[supervisord]\nuser=svt-nosuch\n");
    let file = daemon.config_file().display().to_string();
    let reply = daemon.supervisord(&["-n", "-c", &file]);
    assert_eq!(reply.status, 2);
    assert!(reply.stderr.contains("svt-nosuch"), "{reply:?}");
}

#[test]
fn included_files_and_options_over_the_file() {
    let mut daemon = Daemon::prepare("[include]\nfiles=conf.d/*.conf\n");
    fs::create_dir(daemon.path("conf.d")).expect("a directory");
    fs::write(daemon.path("conf.d/a.conf"), "[program:from_a]\ncommand=/bin/sleep 1000\nstartsecs=0\n")
        .expect("a file");
    fs::write(daemon.path("conf.d/b.conf"), "[program:from_b]\ncommand=/bin/sleep 1000\nstartsecs=0\n")
        .expect("a file");
    daemon.launch(&["-i", "mine", "-e", "debug"]);
    daemon.until_state("from_a", "RUNNING");
    daemon.until_state("from_b", "RUNNING");
    daemon.ctl("stop from_a").is("from_a: stopped\n");
    let log = daemon.log();
    assert!(log.contains(&format!(
        "Included extra file \"{}\" during parsing",
        daemon.path("conf.d/a.conf").display()
    )));
    assert!(log.contains("DEBG killing from_a (pid "), "the option's level: {log}");
}
