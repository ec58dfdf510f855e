//! Programs that share a listening socket as their standard input: who may connect, who answers, and what a worker's death
//! costs.

use std::{
    io::{self, Read},
    os::unix::{
        fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
        net::UnixStream,
    },
};

use supervisor_tests::{Daemon, Signal, kill, processes};

const WORKERS: &str = "\
[fcgi-program:f]
command=$ACTOR accept
process_name=f%(process_num)d
numprocs=2
startsecs=0
autorestart=true
socket=unix://$DIR/f.sock
socket_mode=0770
";

/// The pid of the worker that answers.
fn ask(daemon: &Daemon) -> io::Result<i32> {
    let mut text = String::new();
    UnixStream::connect(daemon.path("f.sock"))?.read_to_string(&mut text)?;
    text.trim().parse().map_err(|_| io::Error::other(format!("no answer: {text:?}")))
}

fn pids(daemon: &Daemon) -> [i32; 2] {
    ["f:f0", "f:f1"].map(|name| daemon.process_pid(name))
}

#[test]
fn workers_share_one_socket_of_the_mode_that_is_configured() {
    let daemon = Daemon::start(WORKERS);
    daemon.until_state("f:f1", "RUNNING");
    let found = std::fs::metadata(daemon.path("f.sock")).expect("the socket");
    assert!(found.file_type().is_socket());
    assert_eq!(found.permissions().mode() & 0o777, 0o770);
    let pids = pids(&daemon);
    assert!(pids.contains(&ask(&daemon).expect("an answer")));
    kill(pids[0], Signal::SIGSTOP);
    kill(pids[1], Signal::SIGSTOP);
    daemon.until("both to stand still", || pids.iter().all(|pid| processes::is_stopped(*pid)));
    // Nobody takes it now: the kernel keeps it for whoever comes first.
    let mut waiting = UnixStream::connect(daemon.path("f.sock")).expect("a place in the queue");
    kill(pids[1], Signal::SIGCONT);
    let mut text = String::new();
    waiting.read_to_string(&mut text).expect("an answer");
    assert_eq!(text.trim(), pids[1].to_string());
    kill(pids[0], Signal::SIGCONT);
}

#[test]
fn no_connection_is_refused_while_workers_are_killed_and_replaced() {
    let daemon = Daemon::start(WORKERS);
    daemon.until_state("f:f1", "RUNNING");
    let inode = std::fs::metadata(daemon.path("f.sock")).expect("the socket").ino();
    for _ in 0..5 {
        let before = pids(&daemon);
        for pid in before {
            kill(pid, Signal::SIGKILL);
        }
        let mut answered = 0;
        while answered < 20 {
            match UnixStream::connect(daemon.path("f.sock")) {
                // One that a worker had taken when it was killed ends without an answer; it was not refused.
                Ok(mut stream) => {
                    let mut text = String::new();
                    answered += usize::from(stream.read_to_string(&mut text).is_ok() && !text.is_empty());
                }
                Err(error) => panic!("refused: {error}"),
            }
        }
        daemon.until("replacements", || pids(&daemon).iter().all(|pid| *pid > 0 && !before.contains(pid)));
    }
    assert_eq!(std::fs::metadata(daemon.path("f.sock")).expect("the socket").ino(), inode);
}

#[test]
fn a_socket_that_cannot_be_made_is_a_spawn_error_and_no_other_file_is_removed() {
    let daemon = Daemon::prepare(&format!("{WORKERS}[program:other]\ncommand=$ACTOR sleep\nstartsecs=0\n"));
    std::fs::write(daemon.path("f.sock"), "mine").expect("a file in its place");
    let mut daemon = daemon;
    daemon.launch(&[]);
    daemon.until_state("other", "RUNNING");
    daemon.until("the failure", || ["BACKOFF", "FATAL"].contains(&daemon.state("f:f0").as_str()));
    let shown = daemon.ctl("status f:f0").stdout;
    assert!(shown.contains("Could not create FastCGI socket"), "{shown}");
    assert_eq!(daemon.read("f.sock"), "mine");
}

#[test]
fn a_program_that_an_update_makes_an_ordinary_one_lets_go_of_its_socket() {
    let text = "[fcgi-program:f]\ncommand=$ACTOR accept\nstartsecs=0\nsocket=unix://$DIR/f.sock\n";
    let daemon = Daemon::start(text);
    daemon.until_state("f", "RUNNING");
    let worker = daemon.process_pid("f");
    assert_eq!(ask(&daemon).expect("an answer"), worker);
    daemon.configure("[program:f]\ncommand=$ACTOR sleep\nstartsecs=0\n");
    daemon.ctl("update").is("f: stopped\nf: updated process group\n");
    daemon.until("another process", || daemon.state("f") == "RUNNING" && daemon.process_pid("f") != worker);
    let error = UnixStream::connect(daemon.path("f.sock")).expect_err("nobody would ever answer");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn the_socket_stays_through_an_upgrade_and_workers_go_on_after_a_crash_of_the_daemon() {
    let mut daemon = Daemon::start(WORKERS);
    daemon.until_state("f:f1", "RUNNING");
    let before = pids(&daemon);
    assert_eq!(daemon.ctl("upgrade").status, 0);
    assert_eq!(pids(&daemon), before);
    assert!(before.contains(&ask(&daemon).expect("an answer")));
    daemon.remember();
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    assert!(before.contains(&ask(&daemon).expect("an answer while no daemon runs")));
    daemon.launch(&[]);
    assert_eq!(pids(&daemon), before);
    assert!(before.contains(&ask(&daemon).expect("an answer from an adopted worker")));
}

#[test]
fn the_socket_outlives_the_daemon_and_all_workers_and_who_waits_is_answered_by_the_next() {
    let mut daemon = Daemon::start(WORKERS);
    daemon.until_state("f:f1", "RUNNING");
    let inode = std::fs::metadata(daemon.path("f.sock")).expect("the socket").ino();
    let before = pids(&daemon);
    daemon.remember();
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    for pid in before {
        kill(pid, Signal::SIGKILL);
    }
    daemon.until("the workers to end", || !before.iter().any(|pid| processes::is_alive(*pid)));
    let mut waiting = UnixStream::connect(daemon.path("f.sock")).expect("a place in the queue");
    daemon.launch(&[]);
    let mut text = String::new();
    waiting.read_to_string(&mut text).expect("an answer");
    daemon.until_state("f:f1", "RUNNING");
    daemon.until_state("f:f0", "RUNNING");
    let after = pids(&daemon);
    assert!(after.contains(&text.trim().parse().expect("a pid")), "{text}");
    assert_eq!(std::fs::metadata(daemon.path("f.sock")).expect("the socket").ino(), inode);
    // It is one that is shared, and closed with the last of them.
    assert!(after.contains(&ask(&daemon).expect("an answer")));
    daemon.ctl("stop f:*");
    assert!(UnixStream::connect(daemon.path("f.sock")).is_err(), "nobody holds it");
}
