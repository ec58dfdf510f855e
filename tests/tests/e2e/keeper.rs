//! What the keeper keeps for the next daemon, and what becomes of it.

use std::{fs, os::unix::net::UnixStream, time::Duration};

use supervisor_tests::{Daemon, Signal, kill, processes, reap};

/// Kills the daemon, has these programs end without it, and takes their exit statuses as init does.
fn end_without_daemon(daemon: &mut Daemon, pids: &[i32], end: impl FnOnce(&Daemon)) {
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    end(daemon);
    daemon.until("the programs to end and to be reaped", || {
        pids.iter().for_each(|pid| reap(*pid));
        pids.iter().all(|pid| !processes::all().contains(pid))
    });
}

/// Two programs that wait at the gate, write five lines and exit with a status that one of them may exit with.
const LAST_WORDS: &str = "\
[program:expected]
command=$ACTOR record=$DIR/expected gate=$DIR/gate lines=5 eprint=gone exit=3
exitcodes=3
startsecs=0
stdout_logfile=$DIR/expected.log
stderr_logfile=$DIR/expected.err
[program:unexpected]
command=$ACTOR record=$DIR/unexpected gate=$DIR/gate lines=5 exit=4
startsecs=0
stdout_logfile=$DIR/unexpected.log
";

const FIVE_LINES: &str = "line 1\nline 2\nline 3\nline 4\nline 5\n";

fn check_last_words(daemon: &Daemon, restarted: usize) {
    daemon.until_starts("unexpected", restarted + 1);
    daemon.until_state("expected", "EXITED");
    let expected = daemon.json("expected");
    assert_eq!(expected["exitstatus"], 3, "{expected}");
    assert!(daemon.log().contains("exited: expected (exit status 3; expected)"));
    assert!(daemon.log().contains("exited: unexpected (exit status 4; not expected)"));
    assert_eq!(daemon.read("expected.log"), FIVE_LINES);
    assert_eq!(daemon.read("expected.err"), "gone\n");
    assert_eq!(daemon.read("unexpected.log"), FIVE_LINES.repeat(restarted));
    assert_eq!(daemon.starts("expected").len(), 1);
}

fn pids_of_last_words(daemon: &Daemon) -> [i32; 2] {
    ["expected", "unexpected"].map(|name| {
        daemon.until_state(name, "RUNNING");
        daemon.process_pid(name)
    })
}

#[test]
fn t14_last_words_and_exit_status_of_a_program_that_ends_without_a_daemon_are_kept() {
    if !processes::kernel_tells_exits() {
        return eprintln!("not run: this kernel tells no exits");
    }
    let mut daemon = Daemon::start(LAST_WORDS);
    let pids = pids_of_last_words(&daemon);
    end_without_daemon(&mut daemon, &pids, Daemon::open_gate);
    let old: Vec<i32> = daemon.keepers().iter().map(|keeper| keeper.pid).collect();
    assert_eq!(old.len(), 1);
    daemon.launch(&[]);
    check_last_words(&daemon, 1);
    daemon.until("one keeper, a new one", || {
        daemon.keeper().is_some() && !daemon.keepers().iter().any(|keeper| old.contains(&keeper.pid))
    });
    daemon.terminate();
    daemon.until("no keeper", || daemon.keepers().is_empty());
}

#[test]
fn last_words_are_kept_after_an_upgrade_and_by_a_keeper_that_replaced_another() {
    if !processes::kernel_tells_exits() {
        return eprintln!("not run: this kernel tells no exits");
    }
    let mut daemon = Daemon::start(LAST_WORDS);
    let pids = pids_of_last_words(&daemon);
    assert_eq!(daemon.ctl("upgrade").status, 0);
    daemon.until("the old keeper to end", || daemon.keepers().len() == 1);
    daemon.until("it to have lived long enough", || {
        let keeper = daemon.keeper().expect("it runs");
        processes::age(keeper) > Duration::from_millis(1100)
    });
    let first = daemon.keeper().expect("it runs");
    kill(first, Signal::SIGKILL);
    daemon.until_some("another", || daemon.keeper().filter(|pid| *pid != first));
    // It was told everything before it was named in the journal; commands are answered after that.
    assert_eq!(pids_of_last_words(&daemon), pids);
    end_without_daemon(&mut daemon, &pids, Daemon::open_gate);
    daemon.launch(&[]);
    check_last_words(&daemon, 1);
}

#[test]
fn without_its_keeper_a_new_daemon_goes_on_as_well_as_it_can() {
    let mut daemon = Daemon::start(&format!(
        "{LAST_WORDS}[program:stays]\ncommand=$ACTOR sleep\nstartsecs=0\n\
         [fcgi-program:f]\ncommand=$ACTOR accept\nsocket=unix://$DIR/f.sock\nstartsecs=0\n"
    ));
    let pids = pids_of_last_words(&daemon);
    let others = ["stays", "f"].map(|name| {
        daemon.until_state(name, "RUNNING");
        daemon.process_pid(name)
    });
    let keeper = daemon.keeper().expect("it runs");
    daemon.remember();
    // It must not replace its keeper.
    daemon.signal(Signal::SIGSTOP);
    kill(keeper, Signal::SIGKILL);
    end_without_daemon(&mut daemon, &pids, Daemon::open_gate);
    daemon.launch(&[]);
    daemon.until_starts("expected", 2);
    daemon.until_starts("unexpected", 2);
    daemon.until_log("the keeper of the last supervisord is gone too");
    assert!(daemon.log().contains("exit status unknown"));
    assert_eq!(["stays", "f"].map(|name| daemon.process_pid(name)), others);
    drop(UnixStream::connect(daemon.path("f.sock")).expect("its worker holds it"));
}

#[test]
fn what_others_write_to_the_pipe_of_a_program_that_has_ended_is_read_over_a_crash() {
    let mut daemon = Daemon::start(
        "[program:before]
command=$ACTOR daemonize { lines-paced=40:25 } exit=0
stdout_logfile=$DIR/before.log
autorestart=false
startsecs=0
killmode=process
[program:within]
command=$ACTOR daemonize { lines-paced=40:25 } gate=$DIR/gate exit=0
stdout_logfile=$DIR/within.log
autorestart=false
startsecs=0
killmode=process
",
    );
    daemon.until_state("before", "EXITED");
    daemon.until_state("within", "RUNNING");
    daemon.until_file("before.log", "line 5\n");
    daemon.remember();
    let within = daemon.process_pid("within");
    end_without_daemon(&mut daemon, &[within], Daemon::open_gate);
    daemon.launch(&[]);
    let all: String = (1..=40).map(|n| format!("line {n}\n")).collect();
    for name in ["before.log", "within.log"] {
        daemon.until(&format!("all of {name}"), || daemon.read(name).lines().count() >= 40);
        assert_eq!(daemon.read(name), all, "{name}");
    }
    // As they end nothing is held of them any more.
    daemon.until("nothing to be kept", || {
        let keeper = daemon.keeper();
        keeper
            .is_none_or(|keeper| !processes::descriptors(keeper).iter().any(|file| file.starts_with("pipe:")))
    });
}

#[test]
fn a_keeper_that_cannot_stay_is_missed_in_words_and_programs_are_supervised_all_the_same() {
    let daemon = Daemon::start("[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\n");
    daemon.until_starts("starts", 1);
    let keeper = daemon.until_some("the keeper", || daemon.keeper());
    kill(keeper, Signal::SIGKILL);
    daemon.until_log("for there is no keeper: it ended at once");
    let pid = daemon.process_pid("x");
    kill(pid, Signal::SIGKILL);
    daemon.until_starts("starts", 2);
    assert_eq!(daemon.log().matches("there is no keeper").count(), 1);
    let long = daemon.ctl("status --long");
    assert!(long.stderr.contains("there is no keeper"), "{long:?}");
}

#[test]
fn a_keeper_that_nobody_can_find_any_more_ends() {
    let mut daemon = Daemon::start("[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\n");
    daemon.until_starts("starts", 1);
    daemon.until_some("the keeper", || daemon.keeper());
    daemon.remember();
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    assert_eq!(daemon.keepers().len(), 1, "it waits for the next daemon");
    fs::remove_dir_all(daemon.path("supervisord.state")).expect("ours");
    daemon.until("it to end", || daemon.keepers().is_empty());
}
