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
        daemon.until_log("stopped: x (terminated by SIGTERM)");
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
        // Only its keeper has its pipes.
        daemon.until_more_lines("x.log");
        daemon.ctl("stop x").is("x: stopped\n");
        assert!(!processes::is_alive(pid) || processes::is_zombie(pid));
        lines::count(&daemon, "x.log");
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
        daemon.until_log("exited: meanwhile (terminated by SIGKILL; not expected)");
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
        let text = daemon.read("x.0.log");
        let (first, _) = text[1..].split_once("000000001xx").expect("the new one's");
        // It was killed while it wrote, and what the main process said last is somewhere among its lines.
        let first = &text[..=first.len()];
        assert_eq!(first.matches("SIGUSR1\n").count(), 1, "{gap:?}, {is_reaped}");
        let whole = lines::check_text(first.replace("SIGUSR1\n", "").as_bytes());
        assert!(whole >= written && written > 0, "{whole} lines of {written}, {gap:?}, {is_reaped}");
        if !is_reaped || processes::kernel_tells_exits() {
            daemon.until_log("exited: x0 (exit status 1; not expected)");
        }
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
        daemon.until_log("stopped: x (terminated by SIGKILL)");
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
        assert_eq!(daemon.json("once")["exitstatus"], 3, "{gap:?}");
        assert!(daemon.read("once.log").ends_with("line 1000\nSIGUSR1\nlast\n"), "{gap:?}");
        for said in ["always (exit status 0; expected)", "unexpected (exit status 5; not expected)"] {
            assert!(daemon.log().contains(&format!("exited: {said}")), "{gap:?}: {said}");
        }
    }
}

/// Programs of every kind, which end in every way: name, keys, what it does first, what it does last, the lines of its
/// stdout and stderr, how its end is told.
const KINDS: &str = "
plain   |                      | print=first                             | print=last exit=7             | first last     |            | exit status 7
loud    |                      | eprint=first                            | print=out eprint=last exit=7  | out            | first last | exit status 7
joined  | redirect_stderr=true | eprint=first                            | print=out eprint=last exit=7  | first out last |            | exit status 7
closes  |                      | print=first                             | print=last close-stdout close-stderr exit=7 | first last | | exit status 7
closed  |                      | print=first close-stdout close-stderr   | exit=7                        | first          |            | exit status 7
silent  | stdout_logfile=NONE  | eprint=first                            | print=out eprint=last exit=0  |                | first last | exit status 0
killed  |                      | print=first                             | print=last kill=KILL          | first last     |            | terminated by SIGKILL
much    |                      | print=first                             | lines=6000 eprint=last exit=7 | first 6000     | last       | exit status 7
other   | user=daemon          | print=first                             | print=last exit=7             | first last     |            | exit status 7
";

/// What [`KINDS`] means by the lines of a log: a number stands for so many numbered lines.
fn text_of(lines: &str) -> String {
    let text = |word: &str| match word.parse() {
        Ok(number) => (1..=number).map(|n: usize| format!("line {n}\n")).collect(),
        Err(_) => format!("{word}\n"),
    };
    lines.split_whitespace().map(text).collect()
}

/// The rows of [`KINDS`] that can be had here.
fn kinds(is_root: bool) -> impl Iterator<Item = [&'static str; 7]> {
    let rows = KINDS.lines().filter(|line| !line.is_empty()).map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        cells.try_into().expect("seven cells")
    });
    rows.filter(move |[_, keys, ..]: &[&str; 7]| is_root || !keys.contains("user="))
}

/// Of each kind one ends in the gap and another one after it: all that either has written is in its log, and how it ended is
/// known. With `is_reaped` an init has taken the exit statuses of the former.
fn check_ends(gap: Gap, is_reaped: bool, is_hidden: bool) {
    let all: Vec<_> = kinds(runs_as_root() && !is_hidden).collect();
    let hide = if is_hidden { "non-dumpable " } else { "" };
    let section = |[name, keys, first, last, ..]: &[&str; 7]| {
        let out = format!("stdout_logfile=$DIR/{name}%(process_num)d.out");
        let out = if keys.contains("stdout_logfile") { "" } else { &out };
        format!(
            "[program:{name}]
command=$DIR/actor {hide}{first} gate=$DIR/gate-{name}%(process_num)d {last}
process_name={name}%(process_num)d
numprocs=2
startsecs=0
autorestart=false
{out}
stderr_logfile=$DIR/{name}%(process_num)d.err
{keys}
"
        )
    };
    let mut daemon = Daemon::prepare(&all.iter().map(section).collect::<String>());
    let names = |n| all.iter().map(move |kind| format!("{}{n}", kind[0]));
    names(0).chain(names(1)).for_each(|name| daemon.make_gate(&format!("gate-{name}")));
    copy_program(&actor(), &daemon.path("actor"));
    if is_hidden && runs_as_root() {
        daemon.launch_as(1);
    } else {
        daemon.launch_copy();
    }
    daemon.until("all to run", || daemon.ctl("status").stdout.matches("RUNNING").count() == 2 * all.len());
    let pids: Vec<i32> =
        all.iter().map(|[name, ..]| daemon.process_pid(&format!("{name}:{name}0"))).collect();
    daemon.pass(gap, |daemon| {
        names(0).for_each(|name| daemon.open(&format!("gate-{name}")));
        daemon.until("all to end", || {
            let has_ended = |pid: &i32| {
                if is_reaped {
                    reap(*pid);
                    !processes::all().contains(pid)
                } else {
                    !processes::is_alive(*pid) || processes::is_zombie(*pid)
                }
            };
            pids.iter().all(has_ended)
        });
    });
    names(1).for_each(|name| daemon.open(&format!("gate-{name}")));
    for [name, _, _, _, out, err, end] in all {
        for n in 0..2 {
            let process = format!("{name}{n}");
            // Of what is hidden until it was reaped, and ends before that, nobody tells.
            if n == 0 || gap == Gap::Upgrade || !is_hidden {
                daemon.until_log(&format!("exited: {process} ({end}; "));
            }
            for (log, expected) in [("out", text_of(out)), ("err", text_of(err))] {
                let log = format!("{process}.{log}");
                daemon.until(&format!("{log} to be whole, {gap:?}, reaped: {is_reaped}"), || {
                    daemon.read(&log) == expected
                });
            }
            let shown = daemon.json(&format!("{name}:{process}"));
            assert_eq!(shown["state"], "EXITED", "{shown}");
        }
    }
}

#[test]
fn t14_last_words_and_exit_status_of_every_kind_of_program_are_known_whenever_it_ends() {
    check_ends(Gap::Crash, false, false);
    check_ends(Gap::Upgrade, false, false);
    if processes::kernel_tells_exits() {
        check_ends(Gap::Crash, true, false);
    }
}

#[test]
fn t14_last_words_and_exit_status_of_programs_that_nobody_may_look_into_are_known_whenever_they_end() {
    check_ends(Gap::Upgrade, false, true);
    if processes::kernel_tells_exits() {
        check_ends(Gap::Crash, true, true);
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
    if processes::kernel_tells_exits() {
        daemon.until_log("exited: x (terminated by SIGKILL; not expected)");
    }
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
    // Before, all mounts of `/proc` share their options.
    if !is_root(name) || !processes::is_kernel((5, 8)) {
        return;
    }
    let mut daemon = Daemon::prepare(
        "[program:x]
command=$DIR/actor non-dumpable record=$DIR/starts gate=$DIR/gate print=last exit=3
startsecs=0
autorestart=true
stdout_logfile=$DIR/x.log
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
        // The keeper has a handle of it.
        assert_eq!((daemon.state("x").as_str(), daemon.process_pid("x")), ("RUNNING", pid));
        assert_eq!(daemon.starts("starts").len(), 1, "there are two");
    }
    daemon.crash_without_keeper();
    daemon.launch_in(&restricted);
    // Where nobody has kept a handle of it, it cannot be told for certain, and nobody touches it.
    assert_eq!(daemon.state("x"), "UNKNOWN", "{}", daemon.ctl("status").stdout);
    assert!(processes::is_alive(pid), "nobody has told it to end");
    assert_eq!(daemon.starts("starts").len(), 1, "there are two");
}
