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
    let long = daemon.ctl("status --long x").stdout;
    assert!(long.contains("taken over from an earlier supervisord"), "{long}");
    let count = daemon.read("x.log").lines().count() + 20;
    daemon.until("it writes on", || daemon.read("x.log").lines().count() > count);
    for (at, line) in daemon.read("x.log").lines().enumerate() {
        assert_eq!(line, (at + 1).to_string(), "a line is lost or doubled");
    }
    assert_eq!(daemon.ctl("stop x").stdout, "x: stopped\n");
    assert!(!processes::is_alive(pid) || processes::is_zombie(pid));
    daemon.ctl("start x");
    let long = daemon.ctl("status --long x").stdout;
    assert!(!long.contains("taken over"), "its successor is our own: {long}");
}

#[test]
fn t13_pid_that_belongs_to_another_process_by_now_is_left_alone() {
    let mut daemon = Daemon::start("[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\n");
    daemon.until_state("x", "RUNNING");
    let first = daemon.process_pid("x");
    daemon.remember();
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    // As if the pid had been given to another process after the recorded one ended: it started at another time.
    let path = daemon.path("supervisord.state/journal");
    let text = fs::read_to_string(&path).expect("the journal");
    let line = text.lines().rev().find(|line| line.contains("\"child\":{")).expect("a record with a child");
    let time =
        line.split("\"start_time\":").nth(1).and_then(|rest| rest.split([',', '}']).next()).expect("a time");
    let forged = line[9..].replace(&format!("\"start_time\":{time}"), "\"start_time\":1");
    fs::write(&path, format!("{text}{} {forged}\n", checksum(forged.as_bytes()))).expect("ours");
    daemon.launch(&[]);
    daemon.until_starts("starts", 2);
    daemon.until_state("x", "RUNNING");
    assert_ne!(daemon.process_pid("x"), first);
    daemon.ctl("stop all");
    assert!(processes::is_alive(first), "a stranger was signalled");
}

#[test]
fn t14_journal_of_another_boot_is_no_reason_to_believe_a_pid() {
    let mut daemon = Daemon::start("[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\n");
    daemon.until_state("x", "RUNNING");
    let first = daemon.process_pid("x");
    daemon.remember();
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").expect("Linux");
    let path = daemon.path("supervisord.state/journal");
    let text = fs::read_to_string(&path).expect("the journal");
    let other: String = text
        .lines()
        .map(|line| {
            let body = line[9..].replace(boot.trim(), "00000000-0000-0000-0000-000000000000");
            format!("{} {body}\n", checksum(body.as_bytes()))
        })
        .collect();
    assert_ne!(other, text);
    fs::write(&path, other).expect("ours");
    daemon.launch(&[]);
    daemon.until_starts("starts", 2);
    assert!(processes::is_alive(first), "what had that pid before the reboot is not there any more");
}

/// The checksum in front of a line of the journal: FNV-1a, folded.
fn checksum(bytes: &[u8]) -> String {
    let hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{:08x}", (hash ^ (hash >> 32)) as u32)
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
