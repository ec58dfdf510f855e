//! One program's life: start, retries, restart, stop; and what many of them do together.
//! T-numbers are scenarios of the project's list of what users suffer from.
//!
//! T30 (a stepped wall clock) has no test here: a test cannot step the machine's clock. The state machine takes its
//! time as an argument, from the monotonic clock; its own tests cover it.

use std::{fs, time::Duration};

use supervisor_tests::{Daemon, Signal, kill, monotonic, observe, processes, until_idle, until_quick};

#[test]
fn a_program_is_running_after_startsecs_and_not_before() {
    let success = "success: x entered RUNNING state, process has stayed up for > than 1 seconds (startsecs)";
    let before = monotonic();
    let daemon = Daemon::start(
        "[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=1\n\
         [program:y]\ncommand=$ACTOR sleep\nstartsecs=3600\n",
    );
    let start = daemon.until_starts("starts", 1)[0];
    daemon.until_log(success);
    let up = monotonic() - before;
    assert!(up > Duration::from_secs(1), "{up:?}");
    assert_eq!(daemon.state("y"), "STARTING");
    let status = daemon.ctl("status x").stdout;
    assert!(
        status
            .starts_with(&format!("x                                RUNNING   pid {}, uptime 0:", start.pid))
    );
    let mut seen = 1;
    until_quick("a start with startsecs=1", Duration::from_millis(1900), || {
        daemon.ctl("stop x");
        let before = monotonic();
        let _start = daemon.ctl_background(&["start", "x"], "start.out");
        seen += 1;
        daemon.until("another success", || daemon.log().matches(success).count() == seen);
        monotonic() - before
    });
}

#[test]
fn an_exit_before_startsecs_is_a_failed_start_even_with_an_expected_status() {
    let daemon = Daemon::start(
        "[program:x]\ncommand=$ACTOR record=$DIR/starts exit=0\nstartsecs=3600\nstartretries=1\n",
    );
    daemon.until_log("gave up: x entered FATAL state, too many start retries too quickly");
    let starts = daemon.starts("starts");
    assert_eq!(starts.len(), 2, "one start and one retry");
    let wait = starts[1].at - starts[0].at;
    assert!(wait > Duration::from_millis(990), "the first retry waits a second: {wait:?}");
    daemon.ctl("status x").fails(
        3,
        "x                                FATAL     Exited too quickly (process log may have details)\n",
    );
    assert_eq!(daemon.log().matches("exited: x (exit status 0; not expected)").count(), 2);
}

#[test]
fn a_killed_program_is_replaced_at_once() {
    let daemon = Daemon::start(
        "[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\nautorestart=unexpected\n",
    );
    let mut last = daemon.until_starts("starts", 1)[0];
    let mut number = 1;
    until_quick("a replacement", Duration::from_millis(500), || {
        kill(last.pid, Signal::SIGKILL);
        let at = monotonic();
        last = daemon.until_starts("starts", number + 1)[number];
        number += 1;
        last.at.saturating_sub(at)
    });
    daemon.until_log("exited: x (terminated by SIGKILL; not expected)");
    assert_eq!(daemon.process_pid("x"), last.pid);
}

#[test]
fn an_expected_exit_is_not_replaced_and_an_unexpected_one_is() {
    let daemon = Daemon::start(
        "[program:expected]
command=$ACTOR record=$DIR/expected exit=2
startsecs=0
exitcodes=0,2
[program:unexpected]
command=$ACTOR record=$DIR/unexpected count=$DIR/runs:1:3 sleep
startsecs=0
exitcodes=0,2
[program:never]
command=$ACTOR record=$DIR/never exit=3
startsecs=0
autorestart=false
",
    );
    daemon.until_starts("unexpected", 2);
    daemon.until_log("exited: expected (exit status 2; expected)");
    daemon.until_log("exited: never (exit status 3; not expected)");
    assert_eq!(daemon.starts("expected").len(), 1);
    assert_eq!(daemon.starts("never").len(), 1);
    assert_eq!(daemon.state("expected"), "EXITED");
    assert_eq!(daemon.state("never"), "EXITED");
}

#[test]
fn t10_term_ends_the_daemon_while_programs_wait_start_or_are_disabled() {
    let mut daemon = Daemon::start(
        "[program:backoff]
command=/bin/false
startretries=1000
[program:starting]
command=$ACTOR record=$DIR/starts sleep
startsecs=3600
[program:disabled]
command=/bin/sleep 1000
autostart=false
",
    );
    daemon.until_starts("starts", 1);
    daemon.until_state("backoff", "BACKOFF");
    assert_eq!(daemon.terminate().code(), Some(0));
    assert!(!daemon.log().contains("killing '"), "nothing had to be waited for: {}", daemon.log());
    daemon.until_no_programs();
    daemon.until_log("received SIGTERM indicating exit request");
}

#[test]
fn t15_the_exit_of_a_predecessor_does_not_touch_its_successor() {
    // The predecessor's death and the successor's start cross again and again.
    let daemon = Daemon::start(
        "[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\nautorestart=true\nstopwaitsecs=1\n",
    );
    for round in 1..=20 {
        let starts = daemon.until_starts("starts", round);
        kill(starts[round - 1].pid, Signal::SIGKILL);
    }
    let last = daemon.until_starts("starts", 21)[20];
    daemon.until("the last one to be the one that is known", || daemon.process_pid("x") == last.pid);
    assert_eq!(daemon.programs().len(), 1);
    assert_eq!(daemon.state("x"), "RUNNING");
}

#[test]
fn t16_concurrent_restarts_and_crashes_leave_exactly_one_instance() {
    let daemon = Daemon::start(
        "[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\nautorestart=true\n",
    );
    daemon.until_starts("starts", 1);
    let mut restarts: Vec<_> =
        (0..6).map(|n| daemon.ctl_background(&["restart", "x"], &format!("restart.{n}"))).collect();
    for _ in 0..5 {
        for process in daemon.programs() {
            if process.command.contains("record=") {
                kill(process.pid, Signal::SIGKILL);
            }
        }
    }
    for restart in &mut restarts {
        restart.wait();
    }
    drop(restarts);
    // A restart may have found a replacement running, and one of them stopped it last: start it if so.
    daemon.ctl("start x");
    daemon.until_state("x", "RUNNING");
    daemon.until("one instance", || daemon.programs().len() == 1);
    assert_eq!(daemon.programs()[0].pid, daemon.process_pid("x"));
    // Never two at once: whoever started later did so after its predecessor had ended, which the log shows in order.
    let log = daemon.log();
    let mut alive = 0;
    for line in log.lines() {
        alive += i32::from(line.contains("spawned: 'x'"));
        alive -= i32::from(line.contains("exited: x (") || line.contains("stopped: x ("));
        assert!((0..=1).contains(&alive), "{log}");
    }
}

#[test]
fn t20_a_crash_loop_without_startsecs_goes_on_and_costs_little() {
    let daemon = Daemon::start(
        "[program:x]
command=/bin/sh -c 'echo >> $DIR/runs; exit 1'
startsecs=0
startretries=3
autorestart=true
",
    );
    let runs = || daemon.read("runs").len();
    let lines = || daemon.log().lines().count();
    daemon.until("some restarts", || runs() > 20);
    let before = monotonic();
    let (runs_before, lines_before) = (runs(), lines());
    observe(Duration::from_millis(500));
    daemon.until("it to go on", || runs() > runs_before + 2);
    let (ran, logged) = (runs() - runs_before, lines() - lines_before);
    let tenths = (monotonic() - before).as_millis() as usize / 100 + 1;
    assert!(ran <= 11 * tenths, "{ran} runs in {tenths} tenths of a second");
    assert!(logged <= 20 * tenths, "{logged} lines of log in {tenths} tenths of a second");
    assert!(!daemon.log().contains("gave up"), "with startsecs=0 no start fails");
}

#[test]
fn t21_without_startsecs_and_retries_an_unexpected_exit_is_restarted() {
    let daemon = Daemon::start(
        "[program:x]
command=$ACTOR record=$DIR/starts count=$DIR/runs:3:120 sleep
startsecs=0
startretries=0
autorestart=unexpected
",
    );
    daemon.until_starts("starts", 4);
    daemon.until_state("x", "RUNNING");
    assert_eq!(daemon.log().matches("exited: x (exit status 120; not expected)").count(), 3);
}

#[test]
fn t29_the_first_spawn_follows_the_start_of_the_daemon_at_once() {
    // Supervisor needs more than a second.
    until_quick("the first spawn", Duration::from_millis(300), || {
        let before = monotonic();
        let daemon = Daemon::start("[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\n");
        daemon.until_starts("starts", 1)[0].at - before
    });
}

#[test]
fn t29_status_of_a_thousand_programs_is_quick_and_they_cost_nothing_when_idle() {
    let daemon = Daemon::start(
        "[supervisord]
minfds=4096
[program:x]
command=/bin/sleep 1000
process_name=%(process_num)04d
numprocs=1000
startsecs=0
stdout_logfile=none
stderr_logfile=none
",
    );
    daemon.until("all to run", || daemon.log().matches("entered RUNNING state").count() == 1000);
    until_quick("the status of a thousand", Duration::from_secs(1), || {
        let before = monotonic();
        let status = daemon.ctl("status");
        let took = monotonic() - before;
        assert_eq!(status.stdout.matches("RUNNING").count(), 1000);
        took
    });
    until_idle(daemon.daemon_pid());
}

#[test]
fn t53_a_start_that_cannot_execute_says_so_and_fails() {
    let daemon = Daemon::start(
        "[program:vanishing]
command=$DIR/program
startsecs=0
[program:cwd]
command=/bin/sleep 1000
directory=$DIR/nonexistent
autostart=false
startretries=0
[program:script]
command=$DIR/script
autostart=false
startretries=0
",
    );
    daemon.ctl("start vanishing").fails(1, "vanishing: ERROR (no such file)\n");
    daemon.write_program("program", b"#!/bin/sh\nexec sleep 1000\n", 0o755);
    daemon.ctl("stop vanishing");
    daemon.ctl("start vanishing").is("vanishing: started\n");
    fs::remove_file(daemon.path("program")).expect("the program");
    daemon.ctl("restart vanishing").fails(1, "vanishing: stopped\nvanishing: ERROR (no such file)\n");
    daemon.ctl("start cwd").fails(7, "cwd: ERROR (spawn error)\n");
    let cause = daemon.ctl("status cwd").stdout;
    assert!(cause.contains("FATAL") && cause.contains("nonexistent: ENOENT"), "{cause}");
    // Executable, but its interpreter is not there.
    daemon.write_program("script", b"#!/nonexistent/interpreter\n", 0o755);
    daemon.ctl("start script").fails(7, "script: ERROR (spawn error)\n");
    assert!(!daemon.log().contains("success: script"));
}

#[test]
fn t54_a_fatal_program_can_be_started_and_already_started_means_that_it_runs() {
    let daemon = Daemon::start("[program:x]\ncommand=$DIR/program\nstartretries=0\n");
    daemon.until_state("x", "FATAL");
    let script = daemon.expand("#!/bin/sh\nexec $ACTOR record=$DIR/starts sleep\n");
    daemon.write_program("program", script.as_bytes(), 0o755);
    daemon.ctl("start x").is("x: started\n");
    daemon.ctl("start x").is("x: ERROR (already started)\n");
    let pid = daemon.starts("starts")[0].pid;
    assert!(processes::is_alive(pid));
    assert_eq!((daemon.state("x").as_str(), daemon.process_pid("x")), ("RUNNING", pid));
    daemon.ctl("stop x").is("x: stopped\n");
    assert_eq!((daemon.state("x").as_str(), daemon.process_pid("x")), ("STOPPED", 0));
}

#[test]
fn stop_waits_stopwaitsecs_then_kills() {
    let daemon = Daemon::start(
        "[program:x]\ncommand=$ACTOR ignore=TERM record=$DIR/starts sleep\nstartsecs=0\nstopwaitsecs=1\n",
    );
    daemon.until_starts("starts", 1);
    let mut number = 1;
    until_quick("a stop with stopwaitsecs=1", Duration::from_secs(8), || {
        let before = monotonic();
        daemon.ctl("stop x").is("x: stopped\n");
        let took = monotonic() - before;
        assert!(took >= Duration::from_secs(1), "{took:?}");
        daemon.ctl("start x").is("x: started\n");
        number += 1;
        daemon.until_starts("starts", number);
        took
    });
    assert!(daemon.log().contains("killing 'x' ("), "{}", daemon.log());
    assert!(daemon.log().contains("stopped: x (terminated by SIGKILL)"));
}

#[test]
fn stopsignal_is_the_one_that_is_sent() {
    let daemon = Daemon::start(
        "[program:x]
command=$ACTOR ignore=TERM record=$DIR/starts wait-signal=USR1 exit=0
startsecs=0
stopsignal=USR1
stdout_logfile=$DIR/x.log
",
    );
    daemon.until_starts("starts", 1);
    daemon.ctl("stop x").is("x: stopped\n");
    assert!(
        daemon.log().contains("stopped: x (exit status 0)") || daemon.log().contains("terminated by SIGUSR1")
    );
}

#[test]
fn shutdown_goes_by_reverse_priority_and_waits_for_each() {
    let program = |name: &str, priority: u32| {
        format!(
            "[program:{name}]
command=/bin/sh -c 'trap \"echo {name} >> $DIR/ended; exit 0\" TERM; echo > $DIR/{name}.up; while :; do sleep 0.02; done'
startsecs=0
priority={priority}
killasgroup=true
"
        )
    };
    let mut daemon =
        Daemon::start(&[program("first", 10), program("second", 20), program("third", 30)].concat());
    for name in ["first.up", "second.up", "third.up"] {
        daemon.until(name, || daemon.path(name).exists());
    }
    assert_eq!(daemon.terminate().code(), Some(0));
    assert_eq!(daemon.read("ended"), "third\nsecond\nfirst\n");
}

#[test]
fn programs_start_in_the_order_of_their_priority() {
    let mut config = String::new();
    for priority in [30, 10, 20] {
        config +=
            &format!("[program:p{priority}]\ncommand=/bin/sleep 1000\nstartsecs=0\npriority={priority}\n");
    }
    let daemon = Daemon::start(&config);
    daemon.until_log("spawned: 'p30'");
    let log = daemon.log();
    let at = |name: &str| log.find(&format!("spawned: '{name}'")).expect("it was spawned");
    assert!(at("p10") < at("p20") && at("p20") < at("p30"), "{log}");
}

#[test]
fn numprocs_makes_numbered_processes() {
    let daemon = Daemon::start(
        "[program:web]
command=$ACTOR dump=$DIR/%(program_name)s.%(process_num)d sleep
process_name=%(program_name)s_%(process_num)02d
numprocs=3
numprocs_start=7
startsecs=0
",
    );
    for number in 7..10 {
        daemon.until("its dump", || daemon.path(&format!("web.{number}")).exists());
    }
    let status = daemon.ctl("status web:*").stdout;
    let names: Vec<_> = status.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["web:web_07", "web:web_08", "web:web_09"]);
}

#[test]
fn an_operators_stop_holds() {
    let daemon = Daemon::start(
        "[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\nautorestart=true\n",
    );
    daemon.until_starts("starts", 1);
    daemon.ctl("stop x").is("x: stopped\n");
    observe(Duration::from_millis(200));
    assert_eq!(daemon.starts("starts").len(), 1);
    assert_eq!(daemon.state("x"), "STOPPED");
}

#[test]
fn a_failed_exec_leaves_supervisors_words_in_the_stderr_log() {
    let daemon = Daemon::start(
        "[program:x]
command=/bin/sleep 1000
directory=/nonexistent
startretries=0
stderr_logfile=$DIR/x.err
",
    );
    daemon.until_state("x", "FATAL");
    let words = daemon.read("x.err");
    assert!(words.starts_with("supervisor: couldn't chdir to /nonexistent: ENOENT"), "{words}");
    assert!(words.ends_with("\nsupervisor: child process was not spawned\n"), "{words}");
}
