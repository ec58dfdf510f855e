//! Keys that Supervisor does not have.

use supervisor_tests::{Daemon, Signal, is_root, kill, processes};

#[test]
fn killmode_process_leaves_what_outlives_the_main_process_alone() {
    let daemon = Daemon::start(
        "[program:leader]
command=$ACTOR spawn { record=$DIR/workers sleep } record=$DIR/starts sleep
startsecs=0
autorestart=true
killmode=process
",
    );
    let worker = daemon.until_starts("workers", 1)[0].pid;
    let leader = daemon.until_starts("starts", 1)[0].pid;
    kill(leader, Signal::SIGKILL);
    daemon.until_starts("starts", 2);
    assert!(processes::is_alive(worker), "it was left alone");
    kill(worker, Signal::SIGKILL);
}

#[test]
fn killmode_of_a_program_that_was_removed_while_no_daemon_ran_is_heeded() {
    for (killmode, is_left) in [("process", true), ("group", false)] {
        let mut daemon = Daemon::start(&format!(
            "[program:x]
command=$ACTOR spawn {{ record=$DIR/workers sleep }} record=$DIR/starts sleep
startsecs=0
killmode={killmode}
"
        ));
        let worker = daemon.until_starts("workers", 1)[0].pid;
        daemon.until_starts("starts", 1);
        daemon.crash();
        daemon.configure("");
        daemon.launch(&[]);
        daemon.until_log("is not in the configuration any more, so it is stopped");
        daemon.until("the end of the program", || daemon.ctl("status").stdout.is_empty());
        let lives = processes::is_alive(worker) && !processes::is_zombie(worker);
        assert_eq!(lives, is_left, "{killmode}");
        kill(worker, Signal::SIGKILL);
    }
}

#[test]
fn killmode_is_checked() {
    let daemon = Daemon::prepare("[program:x]\ncommand=/bin/true\nkillmode=all\n");
    let reply = daemon.supervisord(&["-c", &daemon.config_file().display().to_string(), "--check"]);
    assert_eq!(reply.status, 2, "{reply:?}");
    assert!(
        reply.stderr.contains("invalid 'killmode' value 'all', expected process, group or tree"),
        "{reply:?}"
    );
}

#[test]
fn t62_login_environment_sets_what_a_login_as_the_user_would() {
    if !is_root("t62") {
        return;
    }
    let daemon = Daemon::start(
        "[program:x]
command=/bin/sh -c 'echo $HOME $USER $LOGNAME $SHELL; exec sleep 60'
user=daemon
login_environment=true
environment=SHELL=\"/bin/own\"
stdout_logfile=$DIR/x.log
startsecs=0
",
    );
    daemon.until("its line", || !daemon.read("x.log").is_empty());
    assert_eq!(
        daemon.read("x.log"),
        "/usr/sbin daemon daemon /bin/own\n",
        "the program's own environment wins"
    );
}
