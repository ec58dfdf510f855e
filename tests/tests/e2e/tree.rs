//! Process trees: groups, leaders that die before their workers, strays, strangers.
//! T-numbers are scenarios of the project's list of what users suffer from.

use supervisor_tests::{Daemon, Signal, is_root, kill, processes};

#[test]
fn t01_stop_with_stopasgroup_ends_a_tree_of_three_levels() {
    let daemon = Daemon::start(
        "[program:tree]
command=/bin/sh -c '$ACTOR record=$DIR/starts spawn { record=$DIR/starts spawn { record=$DIR/starts sleep } sleep } sleep & wait'
startsecs=0
stopasgroup=true
killasgroup=true
",
    );
    let starts = daemon.until_starts("starts", 3);
    assert_eq!(daemon.programs().len(), 4, "the shell and three actors");
    daemon.ctl("stop tree").is("tree: stopped\n");
    daemon.until_no_programs();
    assert!(starts.iter().all(|start| !processes::is_alive(start.pid)));
}

#[test]
fn t02_stop_kills_the_rest_of_the_group_after_stopwaitsecs_when_the_leader_left_at_once() {
    let daemon = Daemon::start(
        "[program:leader]
command=$ACTOR spawn { ignore=TERM record=$DIR/starts sleep } wait-signal=TERM
startsecs=0
stopwaitsecs=1
stopasgroup=true
",
    );
    let worker = daemon.until_starts("starts", 1)[0].pid;
    daemon.ctl("stop leader").is("leader: stopped\n");
    assert!(!processes::is_alive(worker), "stop returned before the group was empty");
}

#[test]
fn t03_a_stray_in_its_own_session_is_named_and_ended_before_a_replacement_starts() {
    let daemon = Daemon::start(
        "[program:stray]
command=$ACTOR count=$DIR/runs:0:0 daemonize { record=$DIR/strays sleep } record=$DIR/starts sleep
startsecs=0
autorestart=true
",
    );
    let stray = daemon.until_starts("strays", 1)[0].pid;
    let leader = daemon.until_starts("starts", 1)[0].pid;
    kill(leader, Signal::SIGKILL);
    daemon.until_starts("starts", 2);
    assert!(!processes::is_alive(stray), "the stray lives beside the replacement");
    let log = daemon.log();
    assert!(log.lines().any(|line| line.contains("stray") && line.contains(&stray.to_string())), "{log}");
}

#[test]
fn t03_a_program_that_daemonized_itself_is_named_in_the_log_and_the_status() {
    let daemon = Daemon::start(
        "[program:forker]
command=$ACTOR daemonize { record=$DIR/strays sleep }
startsecs=0
autorestart=false
",
    );
    let stray = daemon.until_starts("strays", 1)[0].pid;
    daemon.until_state("forker", "EXITED");
    daemon.until("advice", || daemon.json("forker")["advice"].as_array().is_some_and(|a| !a.is_empty()));
    let advice = daemon.json("forker")["advice"].to_string();
    assert!(advice.contains(&stray.to_string()), "{advice}");
    assert!(daemon.log().contains(&stray.to_string()), "the log names the stray");
    assert!(processes::is_alive(stray), "nothing replaces it, so it stays");
}

#[test]
fn t04_workers_of_a_killed_leader_end_before_the_replacement_starts() {
    let daemon = Daemon::start(
        "[program:web]
command=$ACTOR claim=$MARK-leader spawn { claim=$MARK record=$DIR/workers ignore=TERM sleep } record=$DIR/leaders sleep
startsecs=0
stopwaitsecs=1
autorestart=true
",
    );
    let worker = daemon.until_starts("workers", 1)[0].pid;
    let leader = daemon.until_starts("leaders", 1)[0].pid;
    kill(leader, Signal::SIGKILL);
    daemon.until_starts("leaders", 2);
    assert!(!processes::is_alive(worker), "the old worker lives beside the replacement");
    // The address that the worker held is free again: the new worker got it.
    daemon.until_starts("workers", 2);
    assert_eq!(daemon.programs().len(), 2);
}

#[test]
fn t05_stopwaitsecs_0_with_stopsignal_kill_sends_one_sigkill() {
    let daemon = Daemon::start(
        "[supervisord]
loglevel=debug
[program:x]
command=$ACTOR record=$DIR/starts ignore=TERM sleep
startsecs=0
stopwaitsecs=0
stopsignal=KILL
",
    );
    daemon.until_starts("starts", 1);
    daemon.ctl("stop x").is("x: stopped\n");
    assert_eq!(daemon.log().matches("SIGKILL").count(), 2, "sent once, and the cause of its end");
}

#[test]
fn t06_stop_of_a_shell_with_a_foreground_command_returns_in_time() {
    let daemon = Daemon::start(
        "[program:x]\ncommand=/bin/sh -c \"sleep 100; true\"\nstartsecs=0\nstopwaitsecs=3600\n",
    );
    daemon.until("the shell's child", || daemon.programs().len() == 2);
    daemon.ctl("stop x").is("x: stopped\n");
}

#[test]
fn t07_the_exit_of_a_leader_is_recorded_while_a_child_keeps_its_stdout_open() {
    let daemon = Daemon::start(
        "[program:x]
command=$ACTOR print=leader daemonize { record=$DIR/strays sleep } exit=3
startsecs=0
autorestart=false
stdout_logfile=$DIR/x.log
",
    );
    daemon.until_starts("strays", 1);
    daemon.until_state("x", "EXITED");
    daemon.until_log("exited: x (exit status 3; not expected)");
    assert_eq!(daemon.read("x.log"), "leader\n");
    // What it left behind can be stopped, and then there is nothing to stop.
    daemon.ctl("stop x").is("x: stopped\n");
    daemon.until_no_programs();
    daemon.ctl("stop x").is("x: ERROR (not running)\n");
}

#[test]
fn t08_as_pid_1_it_reaps_strangers_quietly_and_keeps_the_statuses_of_its_own() {
    if !is_root("t08") {
        return;
    }
    let mut daemon = Daemon::prepare(
        "[program:orphans]
command=/bin/sh -c 'i=0; while [ $i -lt 1000 ]; do ( : & ); i=$((i+1)); done; echo > $DIR/done; exec sleep 1000'
startsecs=0
[program:own]
command=/bin/sh -c 'sleep 0.5; exit 3'
process_name=own%(process_num)d
numprocs=1
startsecs=0
autorestart=false
[program:quick]
command=$ACTOR sleep=%(process_num)d00 exit=3
process_name=quick%(process_num)d
numprocs=9
startsecs=0
autorestart=false
",
    );
    daemon.launch_in(&["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    daemon.until("all orphans", || daemon.path("done").exists());
    let pid = daemon.daemon_pid();
    daemon.until("the zombies to be reaped", || {
        !processes::children(pid).into_iter().any(processes::is_zombie)
    });
    daemon.until("the statuses of all its own", || {
        daemon.log().matches("(exit status 3; not expected)").count() == 9 + 1
    });
    assert!(!daemon.log().contains("unknown pid"), "a stranger is not worth a line at level info");
}

#[test]
fn t09_under_another_process_1_it_reaps_strangers_too_and_after_an_upgrade_still() {
    let mut daemon = Daemon::prepare(
        "[program:orphans]
command=/bin/sh -c 'i=0; while [ $i -lt 300 ]; do ( : & ); i=$((i+1)); done; echo >> $DIR/done; exec sleep 1000'
startsecs=0
[program:own]
command=$ACTOR wait-signal=USR1 exit=3
startsecs=0
autorestart=false
",
    );
    // As under `docker run --init`, which is process 1 and would get the orphans of a daemon that does not ask for them.
    daemon.launch_in(&["sh", "-c", "\"$@\"; exit $?", "sh"]);
    for round in 1..=2 {
        daemon.until("all orphans", || daemon.read("done").lines().count() == round);
        let pid = daemon.daemon_pid();
        daemon.until("the zombies to be reaped", || {
            !processes::children(pid).into_iter().any(processes::is_zombie)
        });
        daemon.until_state("own", "RUNNING");
        kill(daemon.process_pid("own"), Signal::SIGUSR1);
        daemon.until_state("own", "EXITED");
        assert_eq!(daemon.json("own")["exitstatus"], 3);
        if round == 1 {
            assert_eq!(daemon.ctl("upgrade").status, 0);
            assert_eq!(daemon.ctl("restart all").status, 0);
        }
    }
    assert!(!daemon.log().contains("unknown pid"), "a stranger is not worth a line at level info");
}

#[test]
fn t11_a_process_that_is_stopping_can_be_signalled() {
    let daemon = Daemon::start(
        "[program:x]
command=$ACTOR ignore=TERM record=$DIR/starts sleep
startsecs=0
stopwaitsecs=60
",
    );
    daemon.until_starts("starts", 1);
    let mut stop = daemon.ctl_background(&["stop", "x"], "stop.out");
    daemon.until_state("x", "STOPPING");
    daemon.ctl("signal KILL x").is("x: signalled\n");
    assert_eq!(stop.wait(), 0);
    assert_eq!(stop.text(), "x: stopped\n");
}

#[test]
fn shutdown_ends_leftovers_of_the_group_and_strays() {
    let mut daemon = Daemon::start(
        "[program:x]
command=$ACTOR spawn { ignore=TERM record=$DIR/starts sleep } daemonize { record=$DIR/starts sleep } wait-signal=TERM
startsecs=0
stopwaitsecs=1
",
    );
    daemon.until_starts("starts", 2);
    assert_eq!(daemon.terminate().code(), Some(0));
    daemon.until_no_programs();
}

#[test]
fn the_stop_signal_goes_to_the_leader_alone_without_stopasgroup() {
    let daemon = Daemon::start(
        "[program:x]
command=$ACTOR spawn { wait-signal=TERM record=$DIR/told } record=$DIR/starts wait-signal=TERM record=$DIR/leader gate=$DIR/gate
startsecs=0
stopwaitsecs=30
",
    );
    daemon.until_starts("starts", 1);
    let mut stop = daemon.ctl_background(&["stop", "x"], "stop.out");
    // While the leader ends, as a warm shutdown does, its workers are not told.
    daemon.until_starts("leader", 1);
    assert!(daemon.starts("told").is_empty());
    daemon.open_gate();
    assert_eq!(stop.wait(), 0);
    daemon.until_no_programs();
}
