//! Programs of every kind over a crash of the daemon and over an upgrade: they keep their pid, their log holds every line
//! once, their state is right, and nobody else gets a signal.

use std::{fs, os::unix::fs::chown};

use supervisor_tests::{
    Daemon, Gap, Signal, actor, binary, copy_program, is_root, kill, lines, processes, reap, runs_as_root,
};

/// Whether `text` holds `line 1` to `line N` in order, each once, and nothing else. N.
#[track_caller]
fn numbered(text: &str) -> usize {
    for (at, line) in text.lines().enumerate() {
        assert_eq!(line, format!("line {}", at + 1), "a line is lost, doubled or out of order");
    }
    text.lines().count()
}

#[test]
fn program_of_another_user_goes_on() {
    if !is_root("program_of_another_user_goes_on") {
        return;
    }
    for gap in Gap::ALL {
        let mut daemon = Daemon::prepare(
            "[program:x]
command=$DIR/actor lines-wild=1
user=daemon
startsecs=0
stdout_logfile=$DIR/x.log
",
        );
        copy_program(&actor(), &daemon.path("actor"));
        daemon.launch_copy();
        daemon.until_more_lines("x.log");
        let pid = daemon.process_pid("x");
        daemon.pass(gap, |_| {});
        assert_eq!(daemon.process_pid("x"), pid, "{gap:?}");
        daemon.until_more_lines("x.log");
        daemon.ctl("stop x").is("x: stopped\n");
        assert!(!processes::is_alive(pid) || processes::is_zombie(pid));
        lines::count(&daemon, "x.log");
    }
}

#[test]
fn program_that_nobody_may_look_into_goes_on() {
    for gap in Gap::ALL {
        let mut daemon = Daemon::prepare(
            "[program:x]
command=$DIR/actor non-dumpable record=$DIR/starts lines-wild=1
startsecs=0
stdout_logfile=$DIR/x.log
",
        );
        copy_program(&actor(), &daemon.path("actor"));
        // Root may look into everybody.
        if runs_as_root() {
            daemon.launch_as(1)
        } else {
            daemon.launch_copy()
        }
        daemon.until_more_lines("x.log");
        let pid = daemon.process_pid("x");
        daemon.pass(gap, |_| {});
        assert_eq!((daemon.state("x").as_str(), daemon.process_pid("x")), ("RUNNING", pid), "{gap:?}");
        assert_eq!(daemon.starts("starts").len(), 1);
        lines::count(&daemon, "x.log");
        if gap == Gap::Upgrade {
            daemon.until_more_lines("x.log");
        }
        daemon.ctl("stop x").is("x: stopped\n");
        assert!(!processes::is_alive(pid) || processes::is_zombie(pid));
    }
}

#[test]
fn program_that_closes_its_output_before_or_meanwhile_goes_on() {
    for gap in Gap::ALL {
        let mut daemon = Daemon::start_for_gap(
            "[program:before]
command=$ACTOR lines=1000 close-stdout close-stderr record=$DIR/before sleep
startsecs=0
stdout_logfile=$DIR/before.log
[program:meanwhile]
command=$ACTOR lines=1000 gate=$DIR/gate close-stdout close-stderr record=$DIR/meanwhile sleep
startsecs=0
autorestart=false
stdout_logfile=$DIR/meanwhile.log
",
        );
        daemon.until_starts("before", 1);
        daemon.until_file("meanwhile.log", "line 1000\n");
        let names = ["before", "meanwhile"];
        let pids = names.map(|name| daemon.process_pid(name));
        daemon.pass(gap, |daemon| {
            daemon.open_gate();
            daemon.until_starts("meanwhile", 1);
        });
        assert_eq!(names.map(|name| daemon.process_pid(name)), pids, "{gap:?}");
        assert_eq!(names.map(|name| daemon.state(name)), ["RUNNING", "RUNNING"]);
        for name in ["before.log", "meanwhile.log"] {
            assert_eq!(numbered(&daemon.read(name)), 1000, "{name}, {gap:?}");
        }
        kill(pids[1], Signal::SIGKILL);
        daemon.until_state("meanwhile", "EXITED");
    }
}

#[test]
fn program_that_redirects_its_output_goes_on() {
    for gap in Gap::ALL {
        let mut daemon = Daemon::start_for_gap(
            "[program:x]
command=/bin/sh -c 'echo before; exec > $DIR/own; exec $ACTOR lines=1000 gate=$DIR/gate eprint=after lines=1000 record=$DIR/done sleep'
startsecs=0
stdout_logfile=$DIR/x.log
stderr_logfile=$DIR/x.err
",
        );
        daemon.until_file("own", "line 1000\n");
        let pid = daemon.process_pid("x");
        daemon.pass(gap, |_| {});
        assert_eq!((daemon.state("x").as_str(), daemon.process_pid("x")), ("RUNNING", pid), "{gap:?}");
        daemon.open_gate();
        daemon.until_starts("done", 1);
        daemon.until_file("x.err", "after\n");
        assert_eq!(daemon.read("x.err"), "after\n", "{gap:?}");
        assert_eq!(daemon.read("x.log"), "before\n", "{gap:?}");
        assert_eq!(daemon.read("own").matches("line 1000\n").count(), 2, "{gap:?}");
    }
}

#[test]
fn program_whose_child_writes_for_it_goes_on() {
    for gap in Gap::ALL {
        let mut daemon = Daemon::start_for_gap(
            "[program:x]
command=$ACTOR spawn { record=$DIR/child lines-wild=1 } sleep
startsecs=0
stdout_logfile=$DIR/x.log
stdout_logfile_maxbytes=300KB
stdout_logfile_backups=100
",
        );
        daemon.until_more_lines("x.log");
        let pid = daemon.process_pid("x");
        daemon.pass(gap, |_| {});
        assert_eq!(daemon.process_pid("x"), pid, "{gap:?}");
        daemon.until_more_lines("x.log");
        let child = daemon.starts("child")[0].pid;
        assert_eq!(daemon.starts("child").len(), 1);
        assert!(processes::is_alive(child));
    }
}

#[test]
fn program_that_ends_meanwhile_and_leaves_a_writer_is_replaced_and_its_writer_ended() {
    // With an init that reaps at once nothing is left of it but its group.
    for (gap, is_reaped) in [(Gap::Crash, false), (Gap::Crash, true), (Gap::Upgrade, false)] {
        let mut daemon = Daemon::start_for_gap(
            "[program:x]
command=$ACTOR spawn { record=$DIR/child lines-wild=1 } record=$DIR/starts wait-signal=USR1 exit=1
startsecs=0
stdout_logfile=$DIR/x.%(process_num)d.log
process_name=x%(process_num)d
",
        );
        daemon.until_more_lines("x.0.log");
        let pid = daemon.process_pid("x:x0");
        let child = daemon.starts("child")[0].pid;
        let mut written = 0;
        daemon.pass(gap, |daemon| {
            kill(pid, Signal::SIGUSR1);
            daemon.until("it to end", || !processes::is_alive(pid) || processes::is_zombie(pid));
            if is_reaped {
                reap(pid);
            }
            assert!(processes::is_alive(child));
            written = lines::count(daemon, "x.0.log");
        });
        daemon.until_starts("starts", 2);
        let second = daemon.until_starts("child", 2)[1].pid;
        daemon.until_state("x:x0", "RUNNING");
        assert!(!processes::is_alive(child), "it would write beside the new one, {gap:?}, {is_reaped}");
        daemon.until("the new one's output", || daemon.read("x.0.log").matches("000000001xx").count() == 2);
        assert!(processes::is_alive(second));
        assert!(written > 0);
    }
}

#[test]
fn program_that_is_stopped_by_a_signal_meanwhile_goes_on() {
    for gap in Gap::ALL {
        let mut daemon = Daemon::start_for_gap(
            "[program:before]
command=$ACTOR lines-wild=1
startsecs=0
stdout_logfile=$DIR/before.log
[program:meanwhile]
command=$ACTOR lines-wild=2
startsecs=0
stdout_logfile=$DIR/meanwhile.log
",
        );
        let names = ["before", "meanwhile"];
        for name in names {
            daemon.until_more_lines(&format!("{name}.log"));
        }
        let pids = names.map(|name| daemon.process_pid(name));
        kill(pids[0], Signal::SIGSTOP);
        daemon.pass(gap, |_| {
            kill(pids[0], Signal::SIGCONT);
            kill(pids[1], Signal::SIGSTOP);
        });
        assert_eq!(names.map(|name| daemon.process_pid(name)), pids, "{gap:?}");
        assert_eq!(names.map(|name| daemon.state(name)), ["RUNNING", "RUNNING"]);
        kill(pids[1], Signal::SIGCONT);
        for name in names {
            daemon.until_more_lines(&format!("{name}.log"));
        }
        assert_eq!(daemon.ctl("stop all").status, 0);
    }
}

#[test]
fn program_that_is_stopped_by_a_signal_can_be_ended_by_the_next_daemon() {
    for gap in Gap::ALL {
        let mut daemon = Daemon::start_for_gap(
            "[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\nstopwaitsecs=1\n",
        );
        daemon.until_state("x", "RUNNING");
        let pid = daemon.process_pid("x");
        kill(pid, Signal::SIGSTOP);
        daemon.pass(gap, |_| {});
        assert_eq!(daemon.process_pid("x"), pid, "{gap:?}");
        daemon.ctl("stop x").is("x: stopped\n");
        assert!(!processes::is_alive(pid) || processes::is_zombie(pid));
    }
}

#[test]
fn t14_program_that_ends_meanwhile_is_treated_as_its_policy_says() {
    for gap in Gap::ALL {
        let mut daemon = Daemon::start_for_gap(
            "[program:once]
command=$ACTOR record=$DIR/once lines=1000 wait-signal=USR1 print=last exit=3
startsecs=0
autorestart=false
stdout_logfile=$DIR/once.log
[program:always]
command=$ACTOR record=$DIR/always wait-signal=USR1 exit=0
startsecs=0
autorestart=true
[program:unexpected]
command=$ACTOR record=$DIR/unexpected wait-signal=USR1 exit=5
startsecs=0
exitcodes=0,4
",
        );
        let names = ["once", "always", "unexpected"];
        for name in names {
            daemon.until_state(name, "RUNNING");
        }
        daemon.until_file("once.log", "line 1000\n");
        let pids = names.map(|name| daemon.process_pid(name));
        daemon.pass(gap, |daemon| {
            for pid in pids {
                kill(pid, Signal::SIGUSR1);
            }
            let has_ended = |pid: &i32| !processes::is_alive(*pid) || processes::is_zombie(*pid);
            daemon.until("all to end", || pids.iter().all(has_ended));
        });
        daemon.until_starts("always", 2);
        daemon.until_starts("unexpected", 2);
        daemon.until_state("once", "EXITED");
        for name in ["always", "unexpected"] {
            daemon.until_state(name, "RUNNING");
            assert_eq!(daemon.starts(name).len(), 2, "{name}, {gap:?}");
        }
        assert_eq!(daemon.starts("once").len(), 1, "{gap:?}");
        if gap == Gap::Upgrade {
            assert_eq!(daemon.json("once")["exitstatus"], 3);
            assert!(
                daemon.read("once.log").ends_with("line 1000\nUSR1\nlast\n")
                    || daemon.read("once.log").ends_with("line 1000\nSIGUSR1\nlast\n")
            );
        }
    }
}

#[test]
fn t13_process_that_was_given_the_pid_meanwhile_is_left_alone() {
    if !is_root("t13_process_that_was_given_the_pid_meanwhile_is_left_alone") {
        return;
    }
    let mut daemon = Daemon::start_for_gap(
        "[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\nstopwaitsecs=1\n",
    );
    daemon.until_state("x", "RUNNING");
    let pid = daemon.process_pid("x");
    let mut stranger = None;
    daemon.pass(Gap::Crash, |daemon| {
        kill(pid, Signal::SIGKILL);
        daemon.until("the pid to be free", || {
            reap(pid);
            !fs::exists(format!("/proc/{pid}")).unwrap_or(true)
        });
        stranger = Some(daemon.until_some("a process with this pid", || {
            // Others make processes too: whoever comes next gets it.
            fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).expect("root may");
            let other = daemon.beside("sleep", &["1000"]);
            (other.pid() == pid).then_some(other)
        }));
    });
    daemon.until_starts("starts", 2);
    daemon.until_state("x", "RUNNING");
    assert_ne!(daemon.process_pid("x"), pid);
    for command in ["restart x", "stop x"] {
        daemon.ctl(command);
    }
    assert!(daemon.terminate().success());
    assert!(processes::is_alive(pid) && !processes::is_zombie(pid), "a stranger was signalled");
    drop(stranger);
}

#[test]
fn program_that_a_restricted_proc_hides_is_never_there_twice() {
    let name = "program_that_a_restricted_proc_hides_is_never_there_twice";
    if !is_root(name) || !has_proc_of_its_own() {
        return;
    }
    let mut daemon = Daemon::prepare(
        "[program:x]
command=$DIR/actor non-dumpable record=$DIR/starts sleep
startsecs=0
autorestart=true
",
    );
    copy_program(&actor(), &daemon.path("actor"));
    copy_program(&binary("supervisord"), &daemon.path("supervisord"));
    for path in [daemon.path("."), daemon.config_file()] {
        chown(path, Some(1), Some(1)).expect("chown of a file of the test");
    }
    // Of processes of another kind than its own the daemon sees nothing at all.
    let hidden = daemon.expand(
        "mount -t proc -o hidepid=2 proc /proc && shift && exec setpriv --reuid 1 --regid 1 --clear-groups $DIR/supervisord \"$@\"",
    );
    let restricted = ["unshare", "-m", "sh", "-c", &hidden, "sh"];
    daemon.launch_in(&restricted);
    let pid = daemon.until_starts("starts", 1)[0].pid;
    daemon.until_state("x", "RUNNING");
    for _ in 0..2 {
        daemon.crash();
        daemon.launch_in(&restricted);
        assert!(processes::is_alive(pid), "nobody has told it to end");
        // Where nobody has kept a handle of it, it cannot be told for certain, and nobody touches it.
        assert!(
            ["RUNNING", "UNKNOWN"].contains(&daemon.state("x").as_str()),
            "{}",
            daemon.ctl("status").stdout
        );
        assert_eq!(daemon.starts("starts").len(), 1, "there are two");
    }
}

/// Whether a mount of `/proc` has options of its own: before Linux 5.8 all mounts share them.
fn has_proc_of_its_own() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("Linux");
    let mut numbers = release.split('.').map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(5), Some(8))
}
