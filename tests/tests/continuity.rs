//! What survives the death of the daemon.

use std::fs;

use supervisor_tests::{Daemon, Signal, kill, processes};

/// Kills the daemon as a crash would, and starts another one.
fn crash(daemon: &mut Daemon) {
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    daemon.launch(&[]);
}

#[test]
fn t13_killed_daemon_is_replaced_and_programs_keep_pid_and_log() {
    let mut daemon = Daemon::start(
        "[program:x]
command=/bin/sh -c 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.01; done'
stdout_logfile=$DIR/x.log
startsecs=0
",
    );
    daemon.until_file("x.log", "20\n");
    let pid = daemon.process_pid("x");
    crash(&mut daemon);
    assert_eq!(daemon.process_pid("x"), pid);
    let count = daemon.read("x.log").lines().count() + 20;
    daemon.until("it writes on", || daemon.read("x.log").lines().count() > count);
    for (at, line) in daemon.read("x.log").lines().enumerate() {
        assert_eq!(line, (at + 1).to_string(), "a line is lost or doubled");
    }
    assert_eq!(daemon.ctl("stop x").stdout, "x: stopped\n");
    assert!(!processes::is_alive(pid) || processes::is_zombie(pid));
}

#[test]
fn t14_program_that_ends_without_a_daemon_counts_as_failed_and_is_started_again() {
    let mut daemon = Daemon::start(
        "[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\n[program:once]\ncommand=$ACTOR record=$DIR/once sleep\nstartsecs=0\nautorestart=false\n",
    );
    let pid = daemon.until_starts("starts", 1)[0].pid;
    let once = daemon.until_starts("once", 1)[0].pid;
    // Of a child that ran and died before anybody could write down its pid nothing is known.
    for name in ["x", "once"] {
        daemon.until_state(name, "RUNNING");
    }
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    kill(pid, Signal::SIGKILL);
    kill(once, Signal::SIGKILL);
    daemon.until("both have ended", || {
        [pid, once].iter().all(|pid| !processes::is_alive(*pid) || processes::is_zombie(*pid))
    });
    daemon.launch(&[]);
    daemon.until_starts("starts", 2);
    daemon.until_state("once", "EXITED");
    assert_eq!(daemon.starts("once").len(), 1);
}

#[test]
fn what_an_operator_stopped_stays_stopped_after_a_crash() {
    let mut daemon = Daemon::start("[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\n");
    daemon.until_starts("starts", 1);
    daemon.ctl("stop x");
    crash(&mut daemon);
    assert_eq!(daemon.state("x"), "STOPPED");
    assert_eq!(daemon.starts("starts").len(), 1);
}

#[test]
fn torn_tail_of_the_journal_takes_nothing_away_and_an_orderly_end_removes_it() {
    let mut daemon = Daemon::start("[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\n");
    let first = daemon.until_starts("starts", 1)[0].pid;
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    let path = daemon.path("supervisord.state/journal");
    let torn = [fs::read(&path).expect("written"), b"0000".to_vec()].concat();
    fs::write(&path, torn).expect("ours");
    daemon.launch(&[]);
    assert_eq!(daemon.process_pid("x"), first, "a torn tail takes nothing away");
    assert!(daemon.log().contains("were not written whole"));
    daemon.terminate();
    assert!(!path.exists(), "after an orderly end nothing is to be remembered");
}

#[test]
fn remember_stopped_keeps_a_stop_over_an_orderly_end() {
    let mut daemon = Daemon::start(
        "[supervisord]\nremember_stopped=true\n[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\n[program:y]\ncommand=$ACTOR record=$DIR/y sleep\nstartsecs=0\n",
    );
    daemon.until_starts("starts", 1);
    daemon.ctl("stop x");
    daemon.terminate();
    daemon.launch(&[]);
    daemon.until_starts("y", 2);
    assert_eq!(daemon.state("x"), "STOPPED");
}
