//! The daemon is replaced in place: `supervisorctl upgrade`, `reload --keep` and SIGUSR1. Programs, their output, their
//! exit statuses and their deadlines, sockets and clients go on; what cannot take over is found out before.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, symlink},
    time::Duration,
};

use supervisor_tests::{Daemon, Signal, binary, is_root, kill, processes};

const UPGRADED: &str = "Upgraded supervisord (pid $PID, 0.1.0 → 0.1.0)\n";

/// Replaces the daemon and checks that it says so.
#[track_caller]
fn upgrade(daemon: &Daemon) {
    let expected = UPGRADED.replace("$PID", &daemon.daemon_pid().to_string());
    daemon.ctl("upgrade").is(&expected);
}

/// Descriptors of the daemon.
fn descriptors(daemon: &Daemon) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{}/fd", daemon.daemon_pid())).expect("the daemon runs");
    let targets = entries.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    targets.map(|target| target.display().to_string()).collect()
}

/// Whether `text` holds the lines 0, 1, 2, … each once and in order, the last one perhaps torn. How many.
#[track_caller]
fn numbered(text: &str) -> usize {
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    for (expected, line) in whole.lines().enumerate() {
        let number: usize = line.trim().parse().unwrap_or_else(|_| panic!("no number: {line:?}"));
        assert_eq!(number, expected, "a line is lost, doubled or out of order");
    }
    whole.lines().count()
}

/// A program that counts, about two thousand lines each second.
const COUNTER: &str = "/bin/sh -c 'i=0; while :; do echo $i; i=$((i+1)); done'";

#[test]
fn t17_under_load_nothing_restarts_no_line_is_lost_and_a_pending_kill_comes_in_time() {
    let config = format!(
        "[program:w]
command={COUNTER}
process_name=w%(process_num)d
numprocs=3
stdout_logfile=$DIR/w%(process_num)d.log
stdout_logfile_maxbytes=64MB
[program:slow]
command=/bin/sh -c 'i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done'
stdout_logfile=$DIR/slow.log
[program:deaf]
command=$ACTOR ignore=TERM record=$DIR/deaf sleep
startsecs=0
stopwaitsecs=4
[program:dies]
command=$ACTOR wait-line exit=7
startsecs=0
autorestart=false
"
    );
    let mut daemon = Daemon::prepare(&config);
    daemon.launch_copy();
    for name in ["w:w0", "w:w1", "w:w2", "slow", "deaf"] {
        daemon.until_state(name, "RUNNING");
    }
    let names = ["w:w0", "w:w1", "w:w2", "slow", "deaf", "dies"];
    let pids = names.map(|name| daemon.process_pid(name));
    let tail = daemon.ctl_background(&["tail", "-f", "slow"], "tail.out");
    daemon.until("the tail to begin", || tail.text().lines().count() > 20);
    let mut stop = daemon.ctl_background(&["stop", "deaf"], "stop.out");
    daemon.until_state("deaf", "STOPPING");
    let asked = supervisor_tests::monotonic();
    // Each upgrade takes a second on a busy machine, and the pending kill must come after them.
    for _ in 0..3 {
        upgrade(&daemon);
    }
    let now = names.map(|name| daemon.process_pid(name));
    let state = daemon.state("deaf");
    // On a machine on which they take longer, its time may be over.
    let is_due = supervisor_tests::monotonic() - asked > Duration::from_secs(3);
    assert!(state == "STOPPING" || is_due && state == "STOPPED", "{state}");
    let as_before =
        pids.iter().zip(now).all(|(then, now)| *then == now || is_due && now == 0 && *then == pids[4]);
    assert!(as_before, "nothing was restarted: {pids:?}, {now:?}");
    assert_eq!(stop.wait(), 0);
    let waited = supervisor_tests::monotonic() - asked;
    assert!(waited > Duration::from_secs(3), "killed too early: {waited:?}");
    assert_eq!(stop.text(), "deaf: stopped\n");
    daemon.until_log("killing 'deaf'");
    // An exit status is still known: it is the same parent.
    fs::write(format!("/proc/{}/fd/0", pids[5]), "\n").expect("the stdin of the program");
    daemon.until_log("exited: dies (exit status 7; not expected)");
    assert_eq!(daemon.json("dies")["exitstatus"], 7);
    let seen = tail.text().lines().count();
    daemon.until("the tail to go on", || tail.text().lines().count() > seen + 20);
    daemon.ctl("stop all");
    daemon.until("the last lines", || numbered(&daemon.read("w0.log")) > 100);
    for name in ["w0.log", "w1.log", "w2.log", "slow.log"] {
        assert!(numbered(&daemon.read(name)) > 100, "{name}");
    }
    let text = tail.text();
    let followed = text.split_once("<==\n").expect("its first line").1;
    let log = daemon.read("slow.log");
    let whole = &followed[..followed.rfind('\n').expect("lines") + 1];
    assert!(log.contains(whole), "the tail lost or doubled a line:\n{whole}");
}

#[test]
fn daemon_and_programs_keep_pid_descriptors_and_sockets_over_generations() {
    let mut daemon = Daemon::prepare(
        "[program:a]\ncommand=$ACTOR cat\n[program:b]\ncommand=$ACTOR dump=$DIR/b.json sleep\n",
    );
    daemon.launch_copy();
    daemon.until_state("a", "RUNNING");
    daemon.until_state("b", "RUNNING");
    upgrade(&daemon);
    let (pid, pids) = (daemon.daemon_pid(), ["a", "b"].map(|name| daemon.process_pid(name)));
    let socket = fs::metadata(daemon.path("s.sock")).expect("the socket");
    // Its own sockets (the keeper is at the end of one), and connections that are about to end; everything else stands still.
    let count = || descriptors(&daemon).iter().filter(|target| !target.starts_with("socket:")).count();
    let before = count();
    for _ in 0..4 {
        upgrade(&daemon);
    }
    assert_eq!(daemon.read("supervisord.pid"), format!("{pid}\n"));
    assert_eq!(["a", "b"].map(|name| daemon.process_pid(name)), pids);
    assert_eq!(fs::metadata(daemon.path("s.sock")).expect("the socket").ino(), socket.ino());
    assert_eq!(count(), before, "{:#?}", descriptors(&daemon));
    daemon.until("its clients to be gone", || descriptors(&daemon).len() <= before + 5);
    assert!(!descriptors(&daemon).iter().any(|target| target.contains("memfd")), "the state is gone");
    // A child of the new image knows nothing of all that.
    fs::remove_file(daemon.path("b.json")).expect("the record of the first child");
    daemon.ctl("restart b").is("b: stopped\nb: started\n");
    daemon.until("the record of the second child", || daemon.path("b.json").exists());
    let record: serde_json::Value = serde_json::from_str(&daemon.read("b.json")).expect("JSON");
    let environment = record["environment"].as_object().expect("an object");
    assert!(!environment.keys().any(|name| name.contains("HANDOVER")), "{environment:?}");
    assert_eq!(record["descriptors"].as_object().expect("an object").len(), 3, "{record}");
    assert_eq!(record["blocked"], "0000000000000000");
    daemon.terminate();
    assert!(!daemon.path("s.sock").exists() && !daemon.path("supervisord.pid").exists());
}

#[test]
fn exit_statuses_of_programs_that_end_meanwhile_are_known() {
    let daemon = Daemon::start(
        "[program:q]
command=$ACTOR sleep=%(process_num)d00 exit=%(process_num)d
process_name=q%(process_num)d
numprocs=40
startsecs=0
autorestart=false
exitcodes=99
",
    );
    for _ in 0..12 {
        upgrade(&daemon);
    }
    daemon.until("all to end", || daemon.ctl("status").stdout.matches("EXITED").count() == 40);
    for number in 0..40 {
        let name = format!("q:q{number}");
        assert_eq!(daemon.json(&name)["exitstatus"], number, "{name}");
        assert_eq!(daemon.json(&name)["spawns"], 1, "{name}");
    }
}

#[test]
fn deadlines_go_on_where_they_were() {
    let daemon = Daemon::start(
        "[program:starting]
command=$ACTOR sleep
startsecs=6
[program:later]
command=$ACTOR sleep
startsecs=3600
[program:failing]
command=$ACTOR exit=1
startsecs=3600
startretries=20
",
    );
    daemon.until("a few failures", || daemon.json("failing")["retries"].as_u64() >= Some(2));
    let retries = daemon.json("failing")["retries"].as_u64();
    upgrade(&daemon);
    assert_eq!(daemon.state("later"), "STARTING");
    assert!(daemon.json("failing")["retries"].as_u64() >= retries, "failures are still counted");
    daemon.until_state("starting", "RUNNING");
    daemon.until("the next failure", || daemon.json("failing")["retries"].as_u64() > retries);
    daemon.ctl("stop failing").is("failing: stopped\n");
    upgrade(&daemon);
    assert_eq!(daemon.state("failing"), "STOPPED", "what was stopped stays so");
}

#[test]
fn no_client_is_refused_while_the_daemon_is_replaced() {
    let daemon = Daemon::start("[program:a]\ncommand=$ACTOR sleep\n");
    daemon.until_state("a", "RUNNING");
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..25 {
                        let reply = daemon.ctl("pid a");
                        assert_eq!(reply.status, 0, "{reply:?}");
                    }
                })
            })
            .collect();
        for _ in 0..6 {
            upgrade(&daemon);
        }
        for client in clients {
            client.join().expect("every client was served");
        }
    });
}

#[test]
fn sigusr1_upgrades_and_says_so_in_the_log() {
    let daemon = Daemon::start("[program:a]\ncommand=$ACTOR sleep\n");
    daemon.until_state("a", "RUNNING");
    let pid = daemon.process_pid("a");
    daemon.signal(Signal::SIGUSR1);
    daemon.until_log("received SIGUSR1 indicating upgrade request");
    daemon.until_log(&format!("was replaced by 0.1.0 with pid {}: 1 processes go on", daemon.daemon_pid()));
    assert_eq!(daemon.process_pid("a"), pid);
    let reply = daemon.ctl("--format json upgrade");
    assert!(
        reply.stdout.contains("\"result\":\"upgraded\"") && reply.stdout.contains("\"generation\":2"),
        "{reply:?}"
    );
}

#[test]
fn binary_that_cannot_take_over_changes_nothing() {
    let mut daemon = Daemon::prepare("[program:a]\ncommand=$ACTOR sleep\n");
    daemon.launch_copy();
    daemon.until_state("a", "RUNNING");
    let (pid, own) = (daemon.process_pid("a"), daemon.path("supervisord").display().to_string());
    let refused = |why: &str| {
        let reply = daemon.ctl("upgrade");
        let expected = format!("ERROR: not upgraded: {own} cannot take over, nothing was changed: {why}\n");
        reply.fails(1, &expected);
        assert_eq!(daemon.process_pid("a"), pid);
    };
    daemon.replace_copy(b"just text\n", 0o755);
    refused("couldn't exec: ENOEXEC (Exec format error)");
    daemon.replace_copy(b"#!/bin/sh\n", 0o644);
    refused("couldn't exec: EACCES (Permission denied)");
    daemon.replace_copy(b"#!/bin/sh\necho broken; exit 1\n", 0o755);
    refused("it ended with status 1: broken");
    daemon.replace_copy(b"#!/bin/sh\necho supervisord-takes-over 2 9.0\n", 0o755);
    refused("it is no supervisord that can take over: supervisord-takes-over 2 9.0");
    daemon.replace_copy(b"#!/bin/sh\nkill -SEGV $$\n", 0o755);
    refused("signal 11 ended it");
    fs::remove_file(daemon.path("supervisord")).expect("the binary");
    refused("couldn't exec: ENOENT (No such file or directory)");
    symlink(binary("supervisord"), daemon.path("supervisord")).expect("a link");
    upgrade(&daemon);
    assert_eq!(daemon.process_pid("a"), pid);
}

#[test]
fn bad_configuration_or_another_user_is_refused_before_anything_is_given_up() {
    let daemon = Daemon::start("[program:a]\ncommand=$ACTOR sleep\n");
    daemon.until_state("a", "RUNNING");
    let pid = daemon.process_pid("a");
    daemon.configure("[program:a]\ncommand=$ACTOR sleep\nstartsecs=ten\n");
    for command in ["upgrade", "reload --keep"] {
        let reply = daemon.ctl(command);
        assert_eq!(reply.status, 1);
        assert!(
            reply.stdout.contains("cannot take over, nothing was changed: it ended with status 2"),
            "{reply:?}"
        );
        assert!(reply.stdout.contains("startsecs"), "{reply:?}");
    }
    daemon.configure("[supervisord]\nuser=nobody\n[program:a]\ncommand=$ACTOR sleep\n");
    let reply = daemon.ctl("upgrade");
    assert!(reply.stdout.contains("which cannot change in place"), "{reply:?}");
    assert_eq!(daemon.process_pid("a"), pid);
}

#[test]
fn image_that_gives_up_is_followed_by_the_one_before() {
    let mut daemon = Daemon::prepare("[program:a]\ncommand=$ACTOR sleep\n");
    daemon.launch_copy();
    daemon.until_state("a", "RUNNING");
    let pid = daemon.process_pid("a");
    let real = binary("supervisord").display().to_string();
    // It answers well, and as the next image fails after it has read the state.
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in *--check-handover*) exec {real} \"$@\";; esac\nexec {real} --bogus\n"
    );
    daemon.replace_copy(script.as_bytes(), 0o755);
    let reply = daemon.ctl("upgrade");
    assert_eq!(reply.status, 1, "{reply:?}");
    assert!(reply.stdout.starts_with("ERROR: not upgraded: "), "{reply:?}");
    daemon.until_log("the upgrade failed, version 0.1.0 goes on with pid");
    assert_eq!(daemon.process_pid("a"), pid);
    daemon.ctl("restart a").is("a: stopped\na: started\n");
}

#[test]
fn log_that_cannot_be_opened_again_is_no_reason_to_end() {
    let daemon = Daemon::start("[program:a]\ncommand=$ACTOR sleep\n");
    daemon.until_state("a", "RUNNING");
    let pid = daemon.process_pid("a");
    let log = daemon.path("supervisord.log");
    fs::rename(&log, daemon.path("moved.log")).expect("as logrotate does");
    fs::create_dir(&log).expect("a directory in its place");
    daemon.ctl("upgrade").is(&format!("Upgraded supervisord (pid {}, 0.1.0 → 0.1.0)\n", daemon.daemon_pid()));
    assert_eq!((daemon.state("a").as_str(), daemon.process_pid("a")), ("RUNNING", pid));
    assert!(daemon.read("daemon.err").contains("cannot open the log"), "{}", daemon.read("daemon.err"));
    fs::remove_dir(&log).expect("it is empty");
    daemon.ctl("restart a").is("a: stopped\na: started\n");
    let text = daemon.log();
    assert!(text.contains("was replaced by") && text.contains("spawned: 'a'"), "nothing is left out: {text}");
}

/// Writes lines of 1000 bytes, and a byte to `$DIR/progress` after each.
const WRITER: &str = "x=$(printf %%01000d 0); while :; do echo $x; printf . >> $DIR/progress; done";

/// Waits until the writer has written more than any pipe holds.
fn until_it_writes_on(daemon: &Daemon) {
    let before = daemon.read_bytes("progress").len();
    daemon.until("the writer to go on", || daemon.read_bytes("progress").len() > before + 3000);
}

#[test]
fn pipe_that_only_the_log_of_the_daemon_wanted_is_read_on() {
    let config = |level: &str| {
        format!(
            "[supervisord]\nloglevel={level}\nlogfile_maxbytes=1MB\nlogfile_backups=0\n\
             [program:a]\ncommand=bash -c '{WRITER}'\nstdout_logfile=NONE\nstartsecs=0\n"
        )
    };
    let daemon = Daemon::start(&config("debug"));
    until_it_writes_on(&daemon);
    let pid = daemon.process_pid("a");
    daemon.configure(&config("info"));
    daemon.ctl("upgrade").is(&format!("Upgraded supervisord (pid {}, 0.1.0 → 0.1.0)\n", daemon.daemon_pid()));
    until_it_writes_on(&daemon);
    assert_eq!(daemon.process_pid("a"), pid);
}

#[test]
fn what_a_removed_program_left_running_is_read_on() {
    let daemon = Daemon::start(&format!(
        "[program:a]\ncommand=bash -c '( {WRITER} ) & wait'\nkillmode=process\nstartsecs=0\n\
         stdout_logfile=$DIR/a.log\nstdout_logfile_maxbytes=1MB\nstdout_logfile_backups=0\n\
         [program:b]\ncommand=$ACTOR sleep\nstartsecs=0\n"
    ));
    until_it_writes_on(&daemon);
    daemon.configure("[program:b]\ncommand=$ACTOR sleep\nstartsecs=0\n");
    daemon.ctl("update").is("a: stopped\na: removed process group\n");
    until_it_writes_on(&daemon);
    for _ in 0..2 {
        daemon
            .ctl("upgrade")
            .is(&format!("Upgraded supervisord (pid {}, 0.1.0 → 0.1.0)\n", daemon.daemon_pid()));
        until_it_writes_on(&daemon);
    }
}

#[test]
fn end_of_what_an_adopted_program_left_behind_is_seen_after_an_upgrade() {
    let mut daemon = Daemon::start(
        "[program:x]
command=$ACTOR spawn { ignore=TERM record=$DIR/workers sleep } record=$DIR/leaders sleep
startsecs=0
",
    );
    let worker = daemon.until_starts("workers", 1)[0].pid;
    let leader = daemon.until_starts("leaders", 1)[0].pid;
    daemon.crash();
    daemon.launch(&[]);
    assert_eq!(daemon.process_pid("x"), leader);
    kill(leader, Signal::SIGKILL);
    daemon.until_log(&format!("left behind: process group {leader}"));
    upgrade(&daemon);
    kill(worker, Signal::SIGKILL);
    // Nobody reaps the two: to the kernel the group is there on.
    daemon.until_starts("leaders", 2);
    assert!(!daemon.log().contains("survive SIGKILL"), "{}", daemon.log());
}

#[test]
fn second_upgrade_under_way_is_refused() {
    let mut daemon = Daemon::prepare("[program:a]\ncommand=$ACTOR sleep\n");
    daemon.launch_copy();
    daemon.until_state("a", "RUNNING");
    let real = binary("supervisord").display().to_string();
    let gate = daemon.path("gate").display().to_string();
    let script = format!("#!/bin/sh\nwhile [ -e {gate} ]; do sleep 0.05; done\nexec {real} \"$@\"\n");
    fs::write(&gate, "").expect("the gate");
    daemon.replace_copy(script.as_bytes(), 0o755);
    let mut first = daemon.ctl_background(&["upgrade"], "first.out");
    daemon.until_log("whether it can take over");
    daemon.ctl("upgrade").fails(1, "ERROR: not upgraded: an upgrade is under way already\n");
    assert_eq!(daemon.state("a"), "RUNNING", "clients are served meanwhile");
    fs::remove_file(&gate).expect("the gate");
    assert_eq!(first.wait(), 0, "{}", first.text());
}

#[test]
fn reload_keep_applies_the_configuration_and_keeps_what_is_unchanged() {
    let daemon = Daemon::start("[program:a]\ncommand=$ACTOR sleep\n[program:b]\ncommand=$ACTOR sleep\n");
    daemon.until_state("a", "RUNNING");
    daemon.until_state("b", "RUNNING");
    let (a, b) = (daemon.process_pid("a"), daemon.process_pid("b"));
    let changed = "[supervisord]\nidentifier=other\n[program:a]\ncommand=$ACTOR sleep\n\
                   [program:b]\ncommand=$ACTOR print=new sleep\n[program:c]\ncommand=$ACTOR sleep\n";
    daemon.configure(changed);
    upgrade(&daemon);
    assert_eq!(daemon.process_pid("b"), b, "an upgrade alone changes no program");
    daemon.ctl("reload --keep").is(&format!("Reloaded supervisord (pid {})\n", daemon.daemon_pid()));
    daemon.until_state("c", "RUNNING");
    daemon.until("b to be replaced", || daemon.process_pid("b") != b);
    daemon.until_state("b", "RUNNING");
    assert_eq!(daemon.process_pid("a"), a);
    let version = daemon.ctl("--format json version").stdout;
    assert!(version.contains("\"identifier\":\"other\""), "{version}");
}

#[test]
fn sighup_keeps_programs_where_the_configuration_says_so() {
    let daemon = Daemon::start("[program:a]\ncommand=$ACTOR sleep\n");
    daemon.until_state("a", "RUNNING");
    let pid = daemon.process_pid("a");
    let keep =
        "[supervisord]\nreload=keep\n[program:a]\ncommand=$ACTOR sleep\n[program:b]\ncommand=$ACTOR sleep\n";
    daemon.configure(keep);
    daemon.signal(Signal::SIGHUP);
    daemon.until_log("was replaced by");
    daemon.until_state("b", "RUNNING");
    assert_eq!(daemon.process_pid("a"), pid);
    daemon.configure("[supervisord]\nreload=never\n[program:a]\ncommand=$ACTOR sleep\n");
    daemon.signal(Signal::SIGHUP);
    daemon.until_log("invalid 'reload' value 'never', expected restart or keep");
    assert_eq!(daemon.process_pid("a"), pid);
    daemon.configure("[program:a]\ncommand=$ACTOR sleep\n");
    daemon.signal(Signal::SIGHUP);
    daemon.until("the restart", || {
        daemon.ctl("pid a").stdout.trim().parse().is_ok_and(|now: i32| now > 0 && now != pid)
    });
}

#[test]
fn watch_goes_on_without_repeating_itself() {
    let daemon = Daemon::start("[program:a]\ncommand=$ACTOR sleep\n");
    daemon.until_state("a", "RUNNING");
    let watch = daemon.ctl_background(&["watch"], "watch.out");
    daemon.until("the first row", || watch.text().contains("RUNNING"));
    upgrade(&daemon);
    daemon.ctl("stop a").is("a: stopped\n");
    daemon.until("the last row", || watch.text().contains("STOPPED"));
    assert_eq!(watch.text().matches("RUNNING").count(), 1, "{}", watch.text());
}

#[test]
fn event_listeners_get_every_event_once_and_keep_their_place_in_the_protocol() {
    let daemon = Daemon::start(
        "[eventlistener:recorder]
command=$ACTOR listen=$DIR/events
events=PROCESS_STATE
startsecs=0
[eventlistener:slow]
command=/bin/sh -c 'echo READY; read header; echo \"$header\" >> $DIR/slow; sleep 3; echo RESULT 2; printf OK; echo READY; read header; echo \"$header\" >> $DIR/slow; sleep 1000'
events=PROCESS_STATE
startsecs=0
stopasgroup=true
[program:busy]
command=$ACTOR sleep=5
startsecs=0
autorestart=true
",
    );
    daemon.until_state("busy", "RUNNING");
    let names = ["recorder", "slow"];
    let pids = names.map(|name| daemon.process_pid(name));
    for round in 1..=4 {
        let wanted = 40 * round;
        daemon.until("more events", || daemon.read("events").lines().count() > wanted);
        upgrade(&daemon);
    }
    daemon.until("the next events", || daemon.read("events").lines().count() > 220);
    assert_eq!(names.map(|name| daemon.process_pid(name)), pids);
    let numbers = |text: &str, name: &str| -> Vec<usize> {
        let words = text.split([' ', '"', '\n']).filter_map(|word| word.strip_prefix(name)?.parse().ok());
        words.collect()
    };
    let recorded = numbers(&daemon.read("events"), "poolserial:");
    let expected: Vec<usize> = (0..recorded.len()).collect();
    assert_eq!(recorded, expected, "an event is lost, doubled or out of order");
    // Busy over all upgrades, and asked for a result all the same.
    daemon.until("the second event", || daemon.read("slow").lines().count() == 2);
    assert!(!daemon.log().contains("UNKNOWN state"), "nobody broke the protocol");
}

#[test]
fn message_of_capture_mode_and_torn_token_are_put_together() {
    let daemon = Daemon::start(
        "[eventlistener:recorder]
command=$ACTOR listen=$DIR/events
events=PROCESS_COMMUNICATION
startsecs=0
[program:a]
command=/bin/sh -c 'printf \"text <!--XSUPER\"; read x; printf \"VISOR:BEGIN-->one \"; read x; printf \"two<!--XSUPERVISOR:END-->more <!--X\"; read x; echo end; sleep 1000'
stdout_logfile=$DIR/a.log
stdout_capture_maxbytes=1MB
",
    );
    daemon.until_state("a", "RUNNING");
    daemon.until_state("recorder", "RUNNING");
    let next = |shown: &str| {
        daemon.until_file("a.log", shown);
        upgrade(&daemon);
        fs::write(format!("/proc/{}/fd/0", daemon.process_pid("a")), "\n").expect("the stdin of the program");
    };
    next("text ");
    next("text ");
    daemon.until_file("events", "one two");
    next("more ");
    daemon.until_file("a.log", "text more <!--Xend\n");
    assert_eq!(daemon.read("a.log"), "text more <!--Xend\n");
}

#[test]
fn sockets_of_fastcgi_programs_stay_open_with_or_without_a_worker() {
    let daemon = Daemon::start(
        "[fcgi-program:f]
command=$ACTOR sleep
socket=unix://$DIR/f.sock
startsecs=0
",
    );
    daemon.until_state("f", "RUNNING");
    let path = daemon.path("f.sock");
    let inode = fs::metadata(&path).expect("the socket").ino();
    let waiting = std::os::unix::net::UnixStream::connect(&path).expect("somebody listens");
    upgrade(&daemon);
    supervisor_tests::kill(daemon.process_pid("f"), Signal::SIGKILL);
    daemon.until("the next worker", || daemon.json("f")["spawns"] == 2);
    daemon.until_state("f", "RUNNING");
    drop(std::os::unix::net::UnixStream::connect(&path).expect("somebody still listens"));
    assert_eq!(fs::metadata(&path).expect("the socket").ino(), inode, "it is the same one");
    drop(waiting);
    daemon.ctl("stop f").is("f: stopped\n");
    assert!(std::os::unix::net::UnixStream::connect(&path).is_err(), "closed with the last of its processes");
}

#[test]
fn stdin_and_fg_go_on() {
    let daemon = Daemon::start("[program:a]\ncommand=$ACTOR cat\nstdout_logfile=$DIR/a.log\n");
    daemon.until_state("a", "RUNNING");
    let mut fg = daemon.ctl_background(&["fg", "a"], "fg.out");
    fg.input("one\n");
    daemon.until("the first echo", || fg.text().contains("one\n"));
    upgrade(&daemon);
    fg.input("two\n");
    daemon.until("the second echo", || fg.text().contains("two\n"));
    assert_eq!(daemon.read("a.log"), "one\ntwo\n");
    assert_eq!(fg.text().matches("one").count(), 1);
}

#[test]
fn daemon_in_the_background_without_root_and_as_process_1() {
    let config = "[supervisord]\ndirectory=$DIR\n[program:a]\ncommand=$ACTOR sleep\n";
    let mut daemon = Daemon::prepare(config);
    assert_eq!(daemon.daemonize(&[]).status, 0);
    daemon.until_state("a", "RUNNING");
    let pid = daemon.process_pid("a");
    upgrade(&daemon);
    assert_eq!(daemon.process_pid("a"), pid);
    let cwd = fs::read_link(format!("/proc/{}/cwd", daemon.daemon_pid())).expect("the daemon runs");
    assert_eq!(cwd, daemon.path("").canonicalize().expect("the directory"));
    if !is_root("daemon_in_the_background_without_root_and_as_process_1") {
        return;
    }
    let mut other = Daemon::prepare("[program:a]\ncommand=$ACTOR sleep\n");
    other.launch_as(65534);
    other.until_state("a", "RUNNING");
    let pid = other.process_pid("a");
    upgrade(&other);
    assert_eq!(other.process_pid("a"), pid);
    let mut first = Daemon::prepare("[program:a]\ncommand=$ACTOR sleep\n");
    first.launch_in(&["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    first.until_state("a", "RUNNING");
    let pid = first.process_pid("a");
    first.ctl("upgrade").is("Upgraded supervisord (pid 1, 0.1.0 → 0.1.0)\n");
    assert_eq!(first.process_pid("a"), pid);
}

#[test]
fn dropped_privileges_are_no_obstacle() {
    if !is_root("dropped_privileges_are_no_obstacle") {
        return;
    }
    let mut daemon = Daemon::prepare(
        "[supervisord]\nuser=nobody\nlogfile=/dev/null\npidfile=/dev/null\n[unix_http_server]\nfile=$DIR/open/s.sock\n\
         [supervisorctl]\nserverurl=unix://$DIR/open/s.sock\n[program:a]\ncommand=$ACTOR sleep\n",
    );
    fs::create_dir(daemon.path("open")).expect("a directory");
    supervisor_tests::set_mode(&daemon.path("open"), 0o777);
    daemon.launch_without_waiting();
    daemon.until_state("a", "RUNNING");
    let pid = daemon.process_pid("a");
    upgrade(&daemon);
    assert_eq!(daemon.process_pid("a"), pid);
}

#[test]
fn service_manager_hears_of_the_new_image_and_programs_do_not_hear_of_it() {
    let mut daemon = Daemon::prepare("[program:a]\ncommand=$ACTOR dump=$DIR/a.json sleep\nautostart=false\n");
    let socket = std::os::unix::net::UnixDatagram::bind(daemon.path("notify")).expect("a socket");
    socket.set_read_timeout(Some(supervisor_tests::BOUND)).expect("a timeout");
    let received = || {
        let mut buffer = [0; 500];
        let length = socket.recv(&mut buffer).expect("a message in time");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let variable = format!("NOTIFY_SOCKET={}", daemon.path("notify").display());
    daemon.launch_in(&["env", &variable]);
    assert!(received().starts_with("READY=1"));
    upgrade(&daemon);
    assert!(received().starts_with("RELOADING=1"));
    assert_eq!(received(), format!("READY=1\nMAINPID={}\n", daemon.daemon_pid()));
    daemon.ctl("start a").is("a: started\n");
    assert!(!daemon.read("a.json").contains("NOTIFY_SOCKET"));
}

#[test]
fn shutdown_works_after_an_upgrade() {
    let mut daemon = Daemon::start("[program:a]\ncommand=$ACTOR sleep\n");
    daemon.until_state("a", "RUNNING");
    let pid = daemon.process_pid("a");
    upgrade(&daemon);
    assert!(daemon.terminate().success());
    assert!(!processes::is_alive(pid));
}
