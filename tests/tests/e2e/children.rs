//! What a program finds when it starts: environment, descriptors, identity, directory, limits, signals.
//! T-numbers are scenarios of the project's list of what users suffer from.

use std::{fs, time::Duration};

use serde_json::Value;
use supervisor_tests::{Daemon, Signal, binary, is_root, kill, monotonic, set_mode, until_quick};

/// What the actor's `dump=$DIR/NAME` found.
fn dump(daemon: &Daemon, name: &str) -> Value {
    daemon.until("its dump", || daemon.path(name).exists());
    serde_json::from_slice(&daemon.read_bytes(name)).expect("a dump is JSON")
}

#[test]
fn t47_a_program_holds_no_descriptor_but_0_1_and_2() {
    let mut daemon = Daemon::prepare(
        "[inet_http_server]
port=127.0.0.1:0
[program:x]
command=$ACTOR dump=$DIR/x sleep
startsecs=0
[program:later]
command=$ACTOR dump=$DIR/later sleep
startsecs=0
autostart=false
",
    );
    daemon.configure(
        "[program:x]
command=$ACTOR dump=$DIR/x sleep
startsecs=0
[program:later]
command=$ACTOR dump=$DIR/later sleep
startsecs=0
autostart=false
",
    );
    // What the daemon itself inherited must not reach a program either.
    let inherit = "exec 7</dev/null 123</dev/null; exec \"$@\"";
    daemon.launch_in(&["bash", "-c", inherit, "bash"]);
    dump(&daemon, "x");
    // Now with connections, logs and pipes of others open.
    let follow = daemon.ctl_background(&["maintail", "-f"], "follow.out");
    daemon.until("the connection", || follow.text().contains("started with pid"));
    daemon.ctl("start later").is("later: started\n");
    for name in ["x", "later"] {
        let found = dump(&daemon, name);
        let descriptors: Vec<_> =
            found["descriptors"].as_object().expect("a table").keys().cloned().collect();
        assert_eq!(descriptors, ["0", "1", "2"], "{found:#}");
    }
}

#[test]
fn the_environment_is_inherited_and_extended() {
    let mut daemon = Daemon::prepare(
        "[supervisord]
environment=FROM_DAEMON=\"daemon\",BOTH=\"daemon\",EXPANDED=\"%(here)s\"
[program:web]
command=$ACTOR dump=$DIR/web sleep
environment=BOTH=\"program\",QUOTED=\"a b,c\",OF_DAEMON=\"%(ENV_FROM_DAEMON)s\"
process_name=worker_%(process_num)d
startsecs=0
numprocs=1
[program:member]
command=$ACTOR dump=$DIR/member sleep
environment=SUPERVISOR_PROCESS_NAME=\"mine\"
startsecs=0
serverurl=http://example.test:1
[group:both]
programs=member
",
    );
    daemon.launch(&[]);
    let web = dump(&daemon, "web");
    let environment = &web["environment"];
    for (name, value) in [
        ("FROM_DAEMON", "daemon"),
        ("BOTH", "program"),
        ("QUOTED", "a b,c"),
        ("OF_DAEMON", "daemon"),
        ("EXPANDED", daemon.path("").display().to_string().trim_end_matches('/')),
        ("SUPERVISOR_ENABLED", "1"),
        ("SUPERVISOR_PROCESS_NAME", "worker_0"),
        ("SUPERVISOR_GROUP_NAME", "web"),
        ("SUPERVISOR_SERVER_URL", &format!("unix://{}", daemon.path("s.sock").display())),
    ] {
        assert_eq!(environment[name], value, "{name} in {environment:#}");
    }
    assert_eq!(environment["PATH"], std::env::var("PATH").unwrap_or_default(), "inherited from the daemon");
    let member = &dump(&daemon, "member")["environment"];
    assert_eq!(member["SUPERVISOR_GROUP_NAME"], "both");
    assert_eq!(member["SUPERVISOR_PROCESS_NAME"], "mine");
    assert_eq!(member["SUPERVISOR_SERVER_URL"], "http://example.test:1");
}

#[test]
fn a_program_leads_its_own_process_group_and_has_its_directory_and_umask() {
    let daemon = Daemon::start(
        "[program:x]
command=$ACTOR dump=$DIR/x sleep
directory=/usr/share
umask=027
startsecs=0
[program:plain]
command=$ACTOR dump=$DIR/plain sleep
startsecs=0
",
    );
    let x = dump(&daemon, "x");
    assert_eq!(x["cwd"], "/usr/share");
    assert_eq!(x["umask"], "0027");
    assert_eq!(x["pgid"], x["pid"]);
    assert_eq!(x["ppid"], daemon.daemon_pid(), "a direct child");
    let plain = dump(&daemon, "plain");
    let own = std::env::current_dir().expect("the directory of the test");
    assert_eq!(plain["cwd"], own.display().to_string());
}

#[test]
fn t62_user_gives_ids_and_all_groups_and_leaves_the_environment_alone() {
    if !is_root("t62") {
        return;
    }
    let daemon = Daemon::prepare(
        "[program:x]
command=$ACTOR dump=$DIR/out/x sleep
user=daemon
startsecs=0
[program:numeric]
command=$ACTOR dump=$DIR/out/numeric sleep
user=1
startsecs=0
",
    );
    fs::create_dir(daemon.path("out")).expect("a directory");
    set_mode(&daemon.path("out"), 0o777);
    // The daemon runs in a namespace with its own /etc/group, so that the user has supplementary groups.
    let mut groups = fs::read_to_string("/etc/group").expect("/etc/group");
    groups += "svt-one:x:54301:daemon\nsvt-two:x:54302:root,daemon\nsvt-not:x:54303:root\n";
    fs::write(daemon.path("group"), groups).expect("writing a group file");
    let mount = daemon.expand("mount --bind $DIR/group /etc/group && exec \"$@\"");
    let mut daemon = daemon;
    daemon.launch_in(&["unshare", "-m", "sh", "-c", &mount, "sh"]);
    for name in ["out/x", "out/numeric"] {
        let found = dump(&daemon, name);
        assert_eq!(found["uid"], "1 1 1 1", "{name}");
        assert_eq!(found["gid"], "1 1 1 1", "{name}");
        let groups: Vec<_> = found["groups"].as_str().expect("a text").split(' ').collect();
        assert!(groups.contains(&"54301") && groups.contains(&"54302"), "{groups:?}");
        assert!(!groups.contains(&"54303") && !groups.contains(&"0"), "{groups:?}");
        assert_eq!(
            found["environment"]["HOME"],
            std::env::var("HOME").unwrap_or_default(),
            "as in Supervisor"
        );
    }
}

#[test]
fn t48_the_cost_of_a_spawn_does_not_grow_with_minfds() {
    let restarts = |minfds: u32| {
        let daemon = Daemon::start(&format!(
            "[supervisord]\nminfds={minfds}\n[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\nautorestart=true\n"
        ));
        let before = monotonic();
        for round in 1..=15 {
            let starts = daemon.until_starts("starts", round);
            kill(starts[round - 1].pid, Signal::SIGKILL);
        }
        daemon.until_starts("starts", 16);
        monotonic() - before
    };
    until_quick("a million in comparison", Duration::from_millis(500), || {
        let few = restarts(1024);
        restarts(1_000_000).saturating_sub(few * 3)
    });
}

#[test]
fn t48_a_limit_that_is_not_granted_is_a_warning() {
    let daemon = Daemon::start(
        "[supervisord]
minfds=2000000000
[program:x]
command=$ACTOR dump=$DIR/x sleep
startsecs=0
",
    );
    dump(&daemon, "x");
    let log = daemon.log();
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains("2000000000")), "{log}");
}

#[test]
fn every_signal_has_its_default_in_a_program() {
    let mut daemon = Daemon::prepare(
        "[program:x]
command=/bin/grep Sig /proc/self/status
startsecs=0
autorestart=false
stdout_logfile=$DIR/x.log
",
    );
    // A daemon whose parent ignores some and blocks none.
    daemon.launch_in(&["sh", "-c", "trap '' PIPE QUIT USR1; exec \"$@\"", "sh"]);
    daemon.until_file("x.log", "SigCgt:");
    let text = daemon.read("x.log");
    let mask = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    assert_eq!(mask("SigBlk:"), Some("0000000000000000"), "{text}");
    assert_eq!(mask("SigIgn:"), Some("0000000000000000"), "{text}");
}

#[test]
fn a_command_is_divided_as_a_shell_divides_it_and_found_in_path() {
    let daemon = Daemon::start(
        "[program:x]
command=env $ACTOR dump=$DIR/x print='a  b' 'print=it''s' print=\\\"q\\\" print=$HOME print=* sleep
startsecs=0
",
    );
    let args = dump(&daemon, "x")["args"].clone();
    let words: Vec<_> = args.as_array().expect("a list").iter().filter_map(Value::as_str).skip(2).collect();
    assert_eq!(words, ["print=a  b", "print=its", "print=\"q\"", "print=$HOME", "print=*", "sleep"]);
}

#[test]
fn children_made_by_fork_are_the_same() {
    let mut daemon = Daemon::prepare(
        "[program:x]
command=$ACTOR dump=$DIR/x sleep
directory=/usr/share
umask=027
startsecs=0
[program:failing]
command=/bin/sleep 1000
directory=/nonexistent
startretries=0
",
    );
    daemon.launch(&["--spawn-method=fork"]);
    let x = dump(&daemon, "x");
    let descriptors: Vec<_> = x["descriptors"].as_object().expect("a table").keys().cloned().collect();
    assert_eq!(descriptors, ["0", "1", "2"], "{x:#}");
    assert_eq!((&x["cwd"], &x["umask"], &x["pgid"]), (&"/usr/share".into(), &"0027".into(), &x["pid"]));
    assert_eq!(x["ppid"], daemon.daemon_pid());
    daemon.until_state("failing", "FATAL");
    assert!(daemon.ctl("status failing").stdout.contains("chdir to /nonexistent: ENOENT"));
}

#[test]
fn where_a_sandbox_lets_no_child_own_its_descriptors_children_are_made_by_fork() {
    let mut daemon = Daemon::prepare(
        "[program:x]
command=$ACTOR dump=$DIR/x sleep
startsecs=0
",
    );
    let actor = binary("actor").display().to_string();
    // As the default profile of container engines does to who is not their administrator, on kernels before 5.9.
    daemon.launch_in(&[&actor, "refuse=close_range,unshare", "become"]);
    let x = dump(&daemon, "x");
    let descriptors: Vec<_> = x["descriptors"].as_object().expect("a table").keys().cloned().collect();
    assert_eq!(descriptors, ["0", "1", "2"], "{x:#}");
    assert_eq!(daemon.state("x"), "RUNNING");
}
