//! supervisorctl against the daemon: names, groups, wildcards, changes of the configuration, errors, the shell.
//! T-numbers are scenarios of the project's list of what users suffer from.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, process::CommandExt},
};

use supervisor_tests::{Daemon, Signal, is_root, kill, runs_as_root};

const GROUPS: &str = "\
[program:web]
command=/bin/sleep 1000
process_name=web_%(process_num)d
numprocs=2
startsecs=0
[program:webhook]
command=/bin/sleep 1000
startsecs=0
[program:a]
command=/bin/sleep 1000
startsecs=0
[program:b]
command=/bin/sleep 1000
startsecs=0
autostart=false
[group:duo]
programs=a,b
";

/// Lines in any order: results of a group come as each is done.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<_> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn groups_and_wildcards_name_several_processes() {
    let daemon = Daemon::start(GROUPS);
    daemon.until_state("duo:a", "RUNNING");
    assert_eq!(sorted(&daemon.ctl("stop duo:*").stdout), ["duo:a: stopped"]);
    assert_eq!(sorted(&daemon.ctl("start duo:*").stdout), ["duo:a: started", "duo:b: started"]);
    assert_eq!(sorted(&daemon.ctl("stop web:web_*").stdout), ["web:web_0: stopped", "web:web_1: stopped"]);
    let restarted = daemon.ctl("restart webh*");
    restarted.is("webhook: stopped\nwebhook: started\n");
    assert_eq!(
        sorted(&daemon.ctl("stop all").stdout),
        ["duo:a: stopped", "duo:b: stopped", "webhook: stopped"]
    );
    daemon.ctl("start web_0").fails(1, "web_0: ERROR (no such process)\n");
    let status = daemon.ctl("status");
    assert_eq!((status.stdout.matches("STOPPED").count(), status.status), (5, 3));
}

#[test]
fn several_names_are_done_in_order() {
    let daemon = Daemon::start(GROUPS);
    daemon.until_state("webhook", "RUNNING");
    daemon
        .ctl("stop webhook nosuch duo:a")
        .fails(1, "webhook: stopped\nnosuch: ERROR (no such process)\nduo:a: stopped\n");
    daemon.ctl("start duo:b webhook").is("duo:b: started\nwebhook: started\n");
}

#[test]
fn json_is_one_value_a_command() {
    let daemon = Daemon::start(GROUPS);
    daemon.until_state("webhook", "RUNNING");
    for line in ["status", "avail", "version", "pid", "reread", "pid webhook", "stop webhook", "start nosuch"]
    {
        let words: Vec<_> = ["--format", "json"].into_iter().chain(line.split(' ')).collect();
        let reply = daemon.ctl_words(&words);
        let value: Result<serde_json::Value, _> = serde_json::from_str(&reply.stdout);
        assert!(value.is_ok(), "{line}: {reply:?}");
    }
    let status = daemon.json("duo:a");
    assert_eq!(
        (&status["name"], &status["group"], &status["state"]),
        (&"a".into(), &"duo".into(), &"RUNNING".into())
    );
    assert_eq!(status["pid"], daemon.process_pid("duo:a"));
}

#[test]
fn the_shell_reads_commands_from_its_standard_input() {
    let daemon = Daemon::start("[program:x]\ncommand=/bin/sleep 1000\nautostart=false\n");
    let reply = daemon.ctl_with_input(&[], "version\nstop x\nnonsense\nquit\nversion\n");
    let row = "x                                STOPPED   Not started\n";
    let prompt = "supervisor> ";
    reply.is(&format!(
        "{row}{prompt}4.3.0\n{prompt}x: ERROR (not running)\n{prompt}*** Unknown syntax: nonsense\n{prompt}\n"
    ));
    // The end of the input is the end of the shell.
    assert_eq!(daemon.ctl_with_input(&[], "").status, 0);
}

#[test]
fn fg_connects_the_terminal_with_a_program() {
    let daemon = Daemon::start(
        "[program:x]\ncommand=$ACTOR print=hello cat\nstartsecs=0\nstdout_logfile=$DIR/x.log\n",
    );
    daemon.until_file("x.log", "hello\n");
    let mut fg = daemon.ctl_background(&["fg", "x"], "fg.out");
    daemon.until("what it printed before", || fg.text().contains("hello\n"));
    fg.input("typed line\n");
    daemon.until("the echo", || fg.text().matches("typed line\n").count() == 1);
    fg.signal(Signal::SIGINT);
    assert_eq!(fg.wait(), 0);
    assert!(fg.text().starts_with("==> Press Ctrl-C to exit <==\n"), "{:?}", fg.text());
    assert_eq!(daemon.state("x"), "RUNNING", "the program is left alone");
}

#[test]
fn a_password_is_asked_for_and_checked() {
    let daemon = Daemon::start(
        "[unix_http_server]
username=alice
password=secret
[program:x]
command=/bin/sleep 1000
startsecs=0
",
    );
    let refused = daemon.ctl("version");
    assert_eq!(refused.status, 1);
    assert!(refused.stdout.starts_with("Server requires authentication\n"), "{refused:?}");
    daemon.ctl_words(&["-u", "alice", "-p", "secret", "version"]).is("4.3.0\n");
    assert_eq!(daemon.ctl_words(&["-u", "alice", "-p", "wrong", "version"]).status, 1);
    assert_eq!(daemon.ctl_words(&["-u", "bob", "-p", "secret", "version"]).status, 1);
    assert!(!daemon.log().contains("secret"));
}

#[test]
fn a_hashed_password_is_checked_and_config_credentials_are_used() {
    // SHA-1 of `secret`.
    let daemon = Daemon::start(
        "[unix_http_server]
username=alice
password={SHA}e5e9fa1ba31ecd1ae84f75caaa474f3a663f05f4
[supervisorctl]
username=alice
password=secret
",
    );
    daemon.ctl("version").is("4.3.0\n");
    assert_eq!(daemon.ctl_words(&["-u", "alice", "-p", "secre", "version"]).status, 1);
}

#[test]
fn t45_connection_errors_name_the_address_and_the_cause() {
    let daemon = Daemon::prepare("");
    let url = daemon.expand("unix://$DIR/s.sock");
    // No socket: status has an exit status of its own.
    daemon.ctl("status").fails(4, &format!("{url} no such file\n"));
    daemon.ctl("pid").fails(7, &format!("{url} no such file\n"));
    daemon.ctl("shutdown").fails(1, &format!("ERROR: {url} no such file (already shut down?)\n"));
    // A socket that nobody listens at.
    drop(std::os::unix::net::UnixListener::bind(daemon.path("s.sock")).expect("binding"));
    daemon.ctl("status").fails(4, &format!("{url} refused connection\n"));
    daemon.ctl("pid").fails(4, &format!("{url} refused connection\n"));
}

#[test]
fn t45_a_socket_without_permission_is_explained() {
    if !is_root("t45") {
        return;
    }
    let daemon = Daemon::start("");
    supervisor_tests::set_mode(&daemon.config_file(), 0o644);
    let client = daemon.path("supervisorctl");
    supervisor_tests::copy_program(&supervisor_tests::binary("supervisorctl"), &client);
    let mut command = daemon.ctl_command_of(&client);
    let output = command.arg("status").uid(65534).gid(65534).output().expect("running the client");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    assert!(out.starts_with("error: "), "{out}");
    let all = format!("{out}{err}");
    assert!(all.contains("s.sock") && all.contains("ermission denied") && all.contains("65534"), "{all}");
}

#[test]
fn t46_the_sockets_mode_is_as_configured() {
    let mut daemon = Daemon::prepare("[unix_http_server]\nchmod=0720\n");
    daemon.launch(&[]);
    let mode = fs::metadata(daemon.path("s.sock")).expect("the socket").permissions().mode();
    assert_eq!(mode & 0o7777, 0o720);
    assert!(!fs::read_dir(daemon.path("")).expect("the directory").any(|entry| {
        entry.is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("s.sock."))
    }));
}

#[test]
fn t46_the_sockets_owner_is_as_configured() {
    use std::os::unix::fs::MetadataExt;
    if !is_root("t46") {
        return;
    }
    let daemon = Daemon::start("[unix_http_server]\nchmod=0770\nchown=nobody:daemon\n");
    let socket = fs::metadata(daemon.path("s.sock")).expect("the socket");
    assert_eq!((socket.uid(), socket.gid(), socket.mode() & 0o777), (65534, 1, 0o770));
}

#[test]
fn t46_an_owner_that_is_not_granted_is_a_warning() {
    let mut daemon = Daemon::prepare("[unix_http_server]\nchown=root:root\n");
    if runs_as_root() {
        daemon.launch_as(65534);
    } else {
        daemon.launch(&[]);
    }
    daemon.until("the socket", || daemon.path("s.sock").exists());
    let log = daemon.log();
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains("s.sock")), "{log}");
    daemon.until("an answer", || daemon.ctl("version").stdout == "4.3.0\n");
}

#[test]
fn t49_a_broken_configuration_changes_nothing() {
    let good = "[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\n";
    let daemon = Daemon::start(good);
    let pid = daemon.until_starts("starts", 1)[0].pid;
    let refusals = || daemon.log().matches("not restarting, nothing was changed").count();
    let hang_up = || {
        let before = refusals();
        daemon.signal(Signal::SIGHUP);
        daemon.until("the refusal", || refusals() > before);
    };
    for (broken, word) in [
        ("[program:x]\ncommand=/bin/true\nstartsecs=soon\n", "'soon' in section 'program:x'"),
        ("[program:x]\ncommand=/bin/true\n[group:g]\nprograms=x,nosuch\n", "nosuch"),
        ("[program:x]\ncommand=/bin/true %(nosuch)s\n", "nosuch"),
        ("[program:x]\ncommand=/bin/true\n[include]\n", "include"),
    ] {
        daemon.configure(broken);
        for command in ["reread", "update", "reload"] {
            let reply = daemon.ctl(command);
            assert_eq!(reply.status, 1, "{command}: {reply:?}");
            assert!(reply.stdout.starts_with("ERROR: CANT_REREAD: "), "{command}: {reply:?}");
            assert!(reply.stdout.contains(word), "{command} names what is wrong: {reply:?}");
        }
        hang_up();
    }
    // A file that is no INI file: supervisorctl cannot find the daemon in it either, and the daemon goes on.
    daemon.configure("[program:x]\nthis is no key\n");
    let reply = daemon.ctl("reread");
    assert_eq!(reply.status, 2, "{reply:?}");
    assert!(
        reply.stderr.contains("supervisord.conf:") && reply.stderr.contains("this is no key"),
        "{reply:?}"
    );
    hang_up();
    daemon.configure(good);
    assert_eq!(daemon.process_pid("x"), pid, "nothing was stopped");
    daemon.ctl("reread").is("No config updates to processes\n");
}

#[test]
fn t50_a_refused_configuration_lists_all_errors_with_file_and_line() {
    let daemon = Daemon::prepare(
        "[program:x]
command=/bin/true
stdout_logfile=/nonexistent/x.log
[program:y]
command=/bin/true %(ENV_SVT_UNDEFINED)s
startsecs=soon
[program:z]
autostart=perhaps
",
    );
    let file = daemon.config_file().display().to_string();
    let refused = daemon.supervisord(&["-n", "-c", &file]);
    assert_eq!(refused.status, 2, "{refused:?}");
    assert!(refused.stderr.contains("Error: "), "{refused:?}");
    let check = daemon.supervisord(&["--check", "-c", &file]);
    assert_ne!(check.status, 0);
    let checked = format!("{}{}", check.stdout, check.stderr);
    for all in [&checked, &refused.stderr] {
        for (line, word) in [(13, "/nonexistent"), (15, "ENV_SVT_UNDEFINED"), (16, "soon"), (18, "perhaps")] {
            let found = all
                .lines()
                .any(|text| text.contains(&format!("supervisord.conf:{line}:")) && text.contains(word));
            assert!(found, "line {line}, {word}: {all}");
        }
        assert!(all.contains("program section program:z does not specify a command"), "{all}");
    }
}

#[test]
fn update_adds_changes_and_removes_and_leaves_the_rest_alone() {
    let daemon = Daemon::start(
        "[program:same]
command=$ACTOR record=$DIR/same sleep
startsecs=0
[program:changed]
command=$ACTOR record=$DIR/changed sleep
startsecs=0
[program:removed]
command=$ACTOR record=$DIR/removed sleep
startsecs=0
",
    );
    for name in ["same", "changed", "removed"] {
        daemon.until_starts(name, 1);
    }
    daemon.configure(
        "[program:same]
; a comment and another order are no change
startsecs=0
command=$ACTOR record=$DIR/same sleep
[program:changed]
command=$ACTOR record=$DIR/changed print=new sleep
startsecs=0
[program:added]
command=$ACTOR record=$DIR/added sleep
startsecs=0
",
    );
    daemon.ctl("reread").is("added: available\nchanged: changed\nremoved: disappeared\n");
    assert_eq!(daemon.starts("changed").len(), 1, "reread changes nothing that runs");
    daemon.ctl("update").is(
        "removed: stopped\nremoved: removed process group\nchanged: stopped\nchanged: updated process group\nadded: added process group\n",
    );
    daemon.until_starts("changed", 2);
    daemon.until_starts("added", 1);
    assert_eq!(daemon.starts("same").len(), 1);
    daemon.ctl("update").is("");
    daemon.ctl("status removed").fails(4, "removed: ERROR (no such process)\n");
}

#[test]
fn add_and_remove_work_on_single_groups() {
    let daemon = Daemon::start("[program:x]\ncommand=/bin/sleep 1000\nstartsecs=0\n");
    daemon.until_state("x", "RUNNING");
    daemon.ctl("remove x").fails(1, "ERROR: process/group still running: x\n");
    daemon.ctl("stop x").is("x: stopped\n");
    daemon.ctl("remove x").is("x: removed process group\n");
    daemon.ctl("remove x").fails(1, "ERROR: no such process/group: x\n");
    daemon.ctl("add x").is("x: added process group\n");
    daemon.until_state("x", "RUNNING");
    daemon.ctl("add x").is("ERROR: process group already active\n");
}

#[test]
fn hup_keeps_the_pid_and_starts_everything_anew() {
    let mut daemon = Daemon::start("[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\n");
    let before = daemon.until_starts("starts", 1)[0].pid;
    let pid = daemon.daemon_pid();
    daemon.configure("[program:y]\ncommand=$ACTOR record=$DIR/others sleep\nstartsecs=0\n");
    daemon.signal(Signal::SIGHUP);
    daemon.until_starts("others", 1);
    daemon.until_log("received SIGHUP indicating restart request");
    assert!(!supervisor_tests::processes::is_alive(before));
    assert_eq!(daemon.ctl("pid").stdout.trim(), pid.to_string());
    daemon.until_state("y", "RUNNING");
    daemon.ctl("status x").fails(4, "x: ERROR (no such process)\n");
    assert_eq!(daemon.terminate().code(), Some(0));
}

#[test]
fn reload_restarts_the_daemon_in_place() {
    let daemon = Daemon::start("[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\n");
    daemon.until_starts("starts", 1);
    daemon.ctl("reload").is("Restarted supervisord\n");
    daemon.until_starts("starts", 2);
    assert_eq!(daemon.read("supervisord.pid").trim(), daemon.daemon_pid().to_string());
}

#[test]
fn reload_moves_the_pidfile_and_keeps_it_where_it_cannot_be_moved() {
    let daemon = Daemon::start("");
    let pid = daemon.daemon_pid().to_string();
    let reload = |path: &str, count| {
        daemon.configure(&format!("[supervisord]\npidfile={path}\n"));
        daemon.signal(Signal::SIGHUP);
        daemon.until("a start", || daemon.log().matches("supervisord started with pid").count() == count);
    };
    reload("$DIR/new.pid", 2);
    assert_eq!(daemon.read("new.pid").trim(), pid);
    assert!(!daemon.path("supervisord.pid").exists());
    std::fs::create_dir(daemon.path("x.pid")).expect("a directory in its place");
    reload("$DIR/x.pid", 3);
    daemon.until_log("CRIT could not write pidfile");
    assert_eq!(daemon.read("new.pid").trim(), pid);
}

#[test]
fn shutdown_is_answered_and_ends_the_daemon_with_0() {
    let mut daemon = Daemon::start("[program:x]\ncommand=/bin/sleep 1000\nstartsecs=0\n");
    daemon.until_state("x", "RUNNING");
    daemon.ctl("shutdown").is("Shut down\n");
    assert_eq!(daemon.wait().code(), Some(0));
    daemon.until_no_programs();
}

#[test]
fn operations_on_one_program_do_not_hold_up_others() {
    let daemon = Daemon::start(
        "[program:slow]
command=$ACTOR ignore=TERM record=$DIR/starts sleep
startsecs=0
stopwaitsecs=3600
[program:other]
command=/bin/sleep 1000
startsecs=0
",
    );
    let pid = daemon.until_starts("starts", 1)[0].pid;
    let mut stop = daemon.ctl_background(&["stop", "slow"], "stop.out");
    daemon.until_state("slow", "STOPPING");
    daemon.ctl("restart other").is("other: stopped\nother: started\n");
    kill(pid, Signal::SIGKILL);
    assert_eq!(stop.wait(), 0);
}

#[test]
fn a_client_that_goes_away_stops_no_operation() {
    let daemon = Daemon::start(
        "[program:x]\ncommand=$ACTOR ignore=TERM record=$DIR/starts sleep\nstartsecs=0\nstopwaitsecs=1\n",
    );
    daemon.until_starts("starts", 1);
    let stop = daemon.ctl_background(&["stop", "x"], "stop.out");
    daemon.until_log("waiting for x to stop");
    drop(stop);
    daemon.until_state("x", "STOPPED");
    daemon.until_no_programs();
}
