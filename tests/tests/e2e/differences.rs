//! One test for each bug that was found by comparing with Supervisor (`tests/differential`), so that it stays fixed
//! where no Supervisor is at hand.

use supervisor_tests::Daemon;

const GROUP: &str = "\
[program:job]
command=$ACTOR sleep
startsecs=0
[program:idle]
command=$ACTOR sleep
startsecs=0
autostart=false
[group:jobs]
programs=job,idle
[group:empty]
programs=
[program:alone]
command=$ACTOR sleep
startsecs=0
stdout_logfile=NONE
";

/// Says `alone` is up, which the daemon starts last.
fn start() -> Daemon {
    let daemon = Daemon::start(GROUP);
    daemon.until_state("alone", "RUNNING");
    daemon.until_state("jobs:job", "RUNNING");
    daemon
}

#[test]
fn a_bad_signal_is_reported_for_each_process_that_would_get_it() {
    let daemon = start();
    let refused = |names: &[&str]| {
        let lines = names.iter().map(|name| format!("{name}: ERROR (bad signal name)\n"));
        lines.collect::<String>()
    };
    daemon.ctl("signal NONSENSE alone").fails(1, &refused(&["alone"]));
    daemon.ctl("signal NONSENSE jobs:idle").fails(1, &refused(&["jobs:idle"]));
    // Of a group and of all, only those that have a child.
    daemon.ctl("signal NONSENSE jobs:*").fails(1, &refused(&["jobs:job"]));
    daemon.ctl("signal NONSENSE all").fails(1, &refused(&["alone", "jobs:job"]));
    // An unknown name comes before an unknown signal.
    daemon.ctl("signal NONSENSE nosuch").fails(1, "nosuch: ERROR (no such process)\n");
}

#[test]
fn an_empty_group_is_nothing_to_do() {
    let daemon = start();
    for verb in ["start", "stop", "restart", "signal HUP"] {
        daemon.ctl(&format!("{verb} empty:*")).is("");
    }
    // A listing does not tell it from none.
    daemon.ctl("status empty:*").fails(4, "empty: ERROR (no such group)\n");
}

#[test]
fn open_shows_the_status_of_the_other_daemon_even_if_there_is_none() {
    let daemon = Daemon::prepare("");
    let reply = daemon.ctl_words(&["open", "unix:///nonexistent/s.sock"]);
    reply.is("unix:///nonexistent/s.sock no such file\n");
}

#[test]
fn a_log_that_is_not_kept_cannot_be_followed_for_now() {
    let daemon = start();
    let reply = daemon.ctl("tail -f alone");
    assert_eq!((reply.status, reply.stdout.as_str()), (0, "==> Press Ctrl-C to exit <==\n"), "{reply:?}");
    assert!(reply.stderr.ends_with("/logtail/alone/stdout Cannot read, status code 404\n"), "{reply:?}");
}

#[test]
fn a_missing_configuration_file_is_reported_once() {
    let daemon = Daemon::prepare("");
    let reply = daemon.supervisord(&["-n", "-c", "/nonexistent.conf"]);
    assert_eq!(reply.status, 2, "{reply:?}");
    let lines: Vec<&str> = reply.stderr.lines().collect();
    assert_eq!(lines[0], "Error: could not find config file /nonexistent.conf");
    assert_eq!(lines.len(), 2, "{reply:?}");
}

#[test]
fn while_everything_is_being_stopped_questions_are_answered_and_orders_are_not() {
    let mut daemon = Daemon::prepare(
        "[program:lingering]\ncommand=$ACTOR ignore=TERM print=ready sleep\nstopwaitsecs=3600\nstartsecs=0\n\
         stdout_logfile=$DIR/lingering.log\n",
    );
    daemon.launch(&[]);
    daemon.until_file("lingering.log", "ready");
    daemon.ctl("shutdown").is("Shut down\n");
    daemon.ctl("version").is("4.3.0\n");
    assert_eq!(daemon.state("lingering"), "STOPPING");
    for order in ["start lingering", "stop lingering", "clear all", "tail lingering"] {
        daemon.ctl(order).fails(1, "error: supervisord is shutting down or restarting\n");
    }
    daemon.ctl("add x").fails(1, "ERROR: shutting down\n");
    supervisor_tests::kill(daemon.process_pid("lingering"), supervisor_tests::Signal::SIGKILL);
    assert_eq!(daemon.wait().code(), Some(0));
}

#[test]
fn an_update_ends_whether_or_not_there_is_something_to_stop() {
    let daemon = start();
    daemon.configure(&GROUP.replace("$ACTOR sleep", "$ACTOR print=new sleep"));
    daemon.ctl("stop alone").is("alone: stopped\n");
    daemon.ctl("update alone").is("alone: stopped\nalone: updated process group\n");
    daemon.ctl("update").is("jobs: stopped\njobs: updated process group\n");
    daemon.ctl("update").is("");
    daemon.until_state("jobs:job", "RUNNING");
}
