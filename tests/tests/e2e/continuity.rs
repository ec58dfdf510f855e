//! What survives the death of the daemon.

use std::fs;

use supervisor_tests::{Daemon, Gap, Signal, is_root, journal, kill, processes};

/// Kills the daemon as a crash would, and starts another one.
fn crash(daemon: &mut Daemon) {
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    daemon.launch(&[]);
}

/// Makes the journal one of another boot.
fn forge_boot(daemon: &Daemon) {
    let lines = daemon.journal();
    let other: Vec<String> = lines
        .iter()
        .map(|line| line.replace(&journal::boot_id(), "00000000-0000-0000-0000-000000000000"))
        .collect();
    assert_ne!(other, lines);
    daemon.write_journal(&other);
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
    let mut forged = daemon.last_child_in_journal("x");
    forged["process"]["child"]["identity"]["start_time"] = 1.into();
    let mut lines = daemon.journal();
    lines.push(forged.to_string());
    daemon.write_journal(&lines);
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
    forge_boot(&daemon);
    daemon.launch(&[]);
    daemon.until_starts("starts", 2);
    assert!(processes::is_alive(first), "what had that pid before the reboot is not there any more");
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
fn what_ran_before_a_reload_is_not_started_after_a_crash() {
    let mut daemon = Daemon::start(
        "[program:x]
command=$ACTOR record=$DIR/x sleep
autostart=false
startsecs=0
[program:y]
command=$ACTOR record=$DIR/y sleep
startsecs=0
",
    );
    daemon.ctl("start x").is("x: started\n");
    daemon.ctl("reload");
    daemon.until_starts("y", 2);
    daemon.until_state("y", "RUNNING");
    assert_eq!(daemon.state("x"), "STOPPED");
    crash(&mut daemon);
    daemon.until_state("y", "RUNNING");
    assert_eq!((daemon.state("x").as_str(), daemon.starts("x").len()), ("STOPPED", 1));
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

#[test]
fn t14_end_of_a_program_by_an_orderly_shutdown_or_a_reboot_is_no_failure() {
    let mut daemon = Daemon::start(
        "[supervisord]\nremember_stopped=true\n\
         [program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\nautorestart=false\n",
    );
    daemon.until_state("x", "RUNNING");
    let is_started_anew = |daemon: &Daemon, times: usize| {
        daemon.until_starts("starts", times);
        daemon.until_state("x", "RUNNING");
        let process = daemon.json("x");
        assert_eq!((&process["retries"], &process["exitstatus"]), (&0.into(), &0.into()), "{process}");
        assert!(!daemon.log().contains("exited: x"), "{}", daemon.log());
    };
    // The journal outlives the end, for what operators have stopped is to be remembered.
    daemon.terminate();
    assert!(daemon.path("supervisord.state/journal").exists());
    daemon.launch(&[]);
    is_started_anew(&daemon, 2);
    let pid = daemon.process_pid("x");
    daemon.remember();
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    kill(pid, Signal::SIGKILL);
    forge_boot(&daemon);
    daemon.launch(&[]);
    is_started_anew(&daemon, 3);
}

#[test]
fn t15_end_of_an_adopted_process_does_not_touch_its_successors() {
    let mut daemon = Daemon::start(
        "[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\nautorestart=true\nstopwaitsecs=1\n",
    );
    let mut round = 1;
    for _ in 0..5 {
        daemon.until_state("x", "RUNNING");
        let pid = daemon.until_starts("starts", round)[round - 1].pid;
        crash(&mut daemon);
        assert_eq!(daemon.process_pid("x"), pid);
        // The first end comes by a handle, the second one from the kernel, while the first may still be on its way.
        kill(pid, Signal::SIGKILL);
        let second = daemon.until_starts("starts", round + 1)[round].pid;
        kill(second, Signal::SIGKILL);
        round += 2;
    }
    let last = daemon.until_starts("starts", round)[round - 1].pid;
    daemon.until("the last one to be the one that is known", || daemon.process_pid("x") == last);
    daemon.until_state("x", "RUNNING");
    assert_eq!(daemon.starts("starts").len(), round);
    assert_eq!(daemon.programs().iter().filter(|process| process.command.contains("record=")).count(), 1);
}

#[test]
fn t16_restarts_that_a_crash_or_an_upgrade_meets_leave_exactly_one_instance() {
    for gap in Gap::ALL {
        let mut daemon = Daemon::start_for_gap(
            "[program:x]\ncommand=$ACTOR claim=$MARK record=$DIR/starts sleep\nstartsecs=0\nautorestart=true\n",
        );
        for round in 0..3 {
            daemon.until_state("x", "RUNNING");
            let mut restarts: Vec<_> = (0..4)
                .map(|n| daemon.ctl_background(&["restart", "x"], &format!("restart.{round}.{n}")))
                .collect();
            let pid = daemon.process_pid("x");
            if pid > 0 {
                kill(pid, Signal::SIGKILL);
            }
            daemon.pass(gap, |_| {});
            for restart in &mut restarts {
                // With any result: their daemon may have died.
                restart.wait();
            }
            daemon.ctl("start x");
            daemon.until_state("x", "RUNNING");
            let instances = || {
                let mut programs = daemon.programs();
                programs.retain(|process| process.command.contains("claim="));
                programs
            };
            daemon.until("one instance", || instances().len() == 1);
            assert_eq!(instances()[0].pid, daemon.process_pid("x"), "{gap:?}");
        }
        assert!(!daemon.log().contains("exit status 98"), "two at once: the second found its name taken");
    }
}

#[test]
fn t38_logrotates_rename_meanwhile_loses_and_doubles_nothing() {
    for gap in Gap::ALL {
        let mut daemon = Daemon::start_for_gap(
            "[program:x]
command=$ACTOR lines-wild=1
startsecs=0
stdout_logfile=$DIR/x.log
stdout_logfile_maxbytes=0
",
        );
        for round in (1..=3).rev() {
            daemon.until_more_lines("x.log");
            let pid = daemon.process_pid("x");
            daemon.pass(gap, |daemon| {
                fs::rename(daemon.path("x.log"), daemon.path(&format!("x.log.{round}"))).expect("a log");
            });
            // Of an upgrade it is part that logs stay open, as under logrotate's eyes: then comes its signal.
            daemon.signal(Signal::SIGUSR2);
            daemon.until("the new file", || daemon.path("x.log").exists());
            assert_eq!(daemon.process_pid("x"), pid, "{gap:?}");
        }
        daemon.until_more_lines("x.log");
    }
}

#[test]
fn killed_container_that_comes_back_starts_everything_though_the_boot_is_the_same() {
    if !is_root("killed_container_that_comes_back_starts_everything_though_the_boot_is_the_same") {
        return;
    }
    let mut daemon = Daemon::prepare(
        "[program:once]
command=$ACTOR record=$DIR/once
startsecs=0
autorestart=false
[program:x]
command=$ACTOR record=$DIR/x sleep
startsecs=0
",
    );
    let container = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    daemon.launch_in(&container);
    daemon.until_starts("once", 1);
    daemon.until_state("once", "EXITED");
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    daemon.until_no_programs();
    daemon.launch_in(&container);
    daemon.until_starts("once", 2);
    daemon.until_starts("x", 2);
    assert_eq!(daemon.state("x"), "RUNNING");
    assert!(!daemon.log().contains("while no supervisord ran"), "{}", daemon.log());
}
