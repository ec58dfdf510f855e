//! `on_daemon_death`: what becomes of programs when the daemon dies without having stopped them (T12).

use std::time::Duration;

use supervisor_tests::{Daemon, Signal, is_root, kill, monotonic, processes, until_quick};

/// Far above the second that is promised: the machine may be loaded.
const PROMPTLY: Duration = Duration::from_secs(6);

/// Kills the daemon, and waits until all of these are gone; how long that took.
fn kill_daemon(daemon: &mut Daemon, doomed: &[i32]) -> Duration {
    daemon.remember();
    let start = monotonic();
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    daemon.until("programs and keeper to end", || !doomed.iter().any(|pid| processes::is_alive(*pid)));
    monotonic() - start
}

#[test]
fn t12_programs_that_are_to_stop_end_within_a_second_and_others_run_on() {
    until_quick("the end of all", PROMPTLY, end_some_and_keep_one);
}

/// How long the end takes of those that are not to run on.
fn end_some_and_keep_one() -> Duration {
    let mut daemon = Daemon::start(
        "[supervisord]
on_daemon_death=stop
[program:polite]
command=$ACTOR record=$DIR/doomed wait-signal=TERM record=$DIR/told
[program:deaf]
command=$ACTOR ignore=TERM,HUP record=$DIR/doomed sleep
[program:parent]
command=$ACTOR spawn { ignore=TERM record=$DIR/doomed sleep } record=$DIR/doomed sleep
stopasgroup=true
[program:grandparent]
command=$ACTOR spawn { spawn { ignore=TERM record=$DIR/doomed sleep } record=$DIR/doomed sleep } record=$DIR/doomed sleep
killasgroup=true
[program:keeps]
command=$ACTOR record=$DIR/kept sleep
on_daemon_death=keep
",
    );
    let doomed: Vec<i32> = daemon.until_starts("doomed", 7).iter().map(|start| start.pid).collect();
    let kept = daemon.until_starts("kept", 1)[0].pid;
    // What is answered comes after what the keeper was told.
    daemon.ctl("status");
    let took = kill_daemon(&mut daemon, &doomed);
    if daemon.starts("told").is_empty() {
        // The stop signal comes first. Where the machine is slow, SIGKILL comes before it is obeyed.
        return Duration::MAX;
    }
    assert!(processes::is_alive(kept));
    assert_eq!(daemon.keepers().len(), 1, "it keeps what the one that runs on will write");
    took
}

#[test]
fn t12_programs_of_another_user_end_too() {
    if !is_root("t12") {
        return;
    }
    let mut daemon = Daemon::start(
        "[program:x]
command=/bin/sh -c 'trap : TERM; while :; do sleep 1; done'
user=daemon
startsecs=0
on_daemon_death=stop
",
    );
    daemon.until_state("x", "RUNNING");
    let pid = daemon.process_pid("x");
    kill_daemon(&mut daemon, &[pid]);
}

#[test]
fn a_keeper_that_was_killed_is_replaced_and_a_clean_shutdown_leaves_none() {
    let config = "[program:x]
command=$ACTOR record=$DIR/starts ignore=TERM sleep
startsecs=2
stopwaitsecs=1
on_daemon_death=stop
";
    let mut daemon = Daemon::start(config);
    daemon.until_state("x", "RUNNING");
    let first = daemon.until_some("the keeper", || daemon.keeper());
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGKILL] {
        kill(first, signal);
    }
    let second = daemon.until_some("another", || daemon.keeper().filter(|pid| *pid != first));
    let pid = daemon.process_pid("x");
    kill_daemon(&mut daemon, &[pid, second]);
    daemon.launch(&[]);
    daemon.until_some("the keeper", || daemon.keeper());
    assert_eq!(daemon.terminate().code(), Some(0));
    daemon.until_no_programs();
    daemon.until("the keeper to end", || daemon.keepers().is_empty());
}

#[test]
fn after_an_upgrade_programs_still_end_with_the_daemon() {
    let mut daemon = Daemon::start(
        "[program:x]
command=$ACTOR record=$DIR/starts sleep
startsecs=0
on_daemon_death=stop
",
    );
    let pid = daemon.until_starts("starts", 1)[0].pid;
    let first = daemon.until_some("the keeper", || daemon.keeper());
    assert_eq!(daemon.ctl("upgrade").status, 0);
    let second = daemon.until_some("its successor", || daemon.keeper().filter(|pid| *pid != first));
    daemon.until("the old one to end", || !processes::is_alive(first));
    assert!(processes::is_alive(pid), "an upgrade is not the daemon's death");
    assert_eq!(daemon.process_pid("x"), pid);
    kill_daemon(&mut daemon, &[pid, second]);
}

#[test]
fn there_is_no_keeper_before_the_first_program_and_values_are_checked() {
    let daemon = Daemon::start(
        "[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nautostart=false\non_daemon_death=stop\n",
    );
    assert_eq!(daemon.keeper(), None);
    daemon.ctl("start x");
    assert!(daemon.keeper().is_some());
    daemon.configure("[program:x]\ncommand=/bin/true\non_daemon_death=kill\n");
    let reply = daemon.supervisord(&["-c", &daemon.config_file().display().to_string(), "--check"]);
    assert_eq!(reply.status, 2, "{reply:?}");
    let problem = "invalid 'on_daemon_death' value 'kill', expected keep or stop";
    assert!(reply.stderr.contains(problem), "{reply:?}");
}
