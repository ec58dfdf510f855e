//! One test for each defect that was found on the running product.

use std::{fs, time::Duration};

use supervisor_tests::{Daemon, Signal, is_root, kill, observe};

/// A program that ignores SIGTERM.
const DEAF: &str = "[program:deaf]
command=$ACTOR ignore=TERM print=up sleep
startsecs=0
stopwaitsecs=6
stdout_logfile=$DIR/deaf.log
";

#[test]
fn a_restarted_daemon_does_not_say_that_it_waits_for_processes_to_die() {
    let daemon = Daemon::start("[program:x]\ncommand=$ACTOR sleep\n");
    daemon.signal(Signal::SIGHUP);
    daemon.until("the restart", || daemon.log().matches("supervisord started with pid").count() == 2);
    daemon.until_state("x", "RUNNING");
    observe(Duration::from_millis(3500));
    assert_eq!(daemon.log().matches("to die").count(), 1, "{}", daemon.log());
}

#[test]
fn update_waits_for_a_stop_that_is_under_way() {
    let daemon = Daemon::start(DEAF);
    daemon.until_file("deaf.log", "up");
    let mut stop = daemon.ctl_background(&["stop", "deaf"], "stop.out");
    daemon.until_state("deaf", "STOPPING");
    daemon.configure(&DEAF.replace("print=up", "print=new"));
    daemon.ctl("update").is("deaf: stopped\ndeaf: updated process group\n");
    assert_eq!((stop.wait(), stop.text().as_str()), (0, "deaf: stopped\n"));
    assert_eq!(daemon.state("deaf"), "STOPPED", "an operator wants it so");
    daemon.ctl("start deaf").is("deaf: started\n");
    daemon.until_file("deaf.log", "new");
}

#[test]
fn an_update_that_a_shutdown_cuts_short_says_so() {
    let mut daemon = Daemon::start(DEAF);
    daemon.until_file("deaf.log", "up");
    daemon.configure("");
    let mut update = daemon.ctl_background(&["update"], "update.out");
    daemon.until_state("deaf", "STOPPING");
    assert!(daemon.terminate().success());
    let status = update.wait();
    assert_eq!((status, update.text().as_str()), (1, "deaf: stopped\nERROR: already shutting down\n"));
}

#[test]
fn a_process_that_may_not_be_signalled_is_not_reported_as_stopped() {
    if !is_root("a_process_that_may_not_be_signalled_is_not_reported_as_stopped") {
        return;
    }
    let mut daemon = Daemon::prepare(
        "[program:other]
command=$DIR/setpriv --reuid 0 --regid 0 --clear-groups $ACTOR sleep
startsecs=0
",
    );
    let setpriv = daemon.path("setpriv");
    supervisor_tests::copy_program(std::path::Path::new("/usr/bin/setpriv"), &setpriv);
    supervisor_tests::set_mode(&setpriv, 0o4755);
    supervisor_tests::set_mode(&daemon.path(""), 0o777);
    daemon.launch_in(&["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    let pid = daemon.process_pid("other");
    daemon.until("it to be another user's", || {
        fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|text| text.contains("Uid:\t0\t0"))
    });
    let problem = format!("unknown problem killing other ({pid}): not permitted to signal the process");
    daemon.ctl("stop other").fails(1, &format!("other: ERROR ({problem})\n"));
    assert_eq!(daemon.state("other"), "UNKNOWN");
    kill(pid, Signal::SIGKILL);
    daemon.until_state("other", "EXITED");
}

#[test]
fn programs_leave_the_daemon_descriptors_to_answer_clients() {
    let mut daemon = Daemon::prepare(
        "[program:x]
command=$ACTOR sleep
startsecs=0
numprocs=60
process_name=%(process_num)s
",
    );
    daemon.launch_in(&["prlimit", "--nofile=200:200"]);
    let reply = daemon.ctl("status");
    assert!(reply.stdout.contains("RUNNING"), "{reply:?}");
    assert!(reply.stdout.contains("too many open files to spawn"), "{reply:?}");
    daemon.ctl("stop x:*");
    daemon.ctl("start x:59").is("x:59: started\n");
}
