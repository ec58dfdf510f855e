//! The start of the real program: what the terminal sees, which files it makes, and whom it leaves alone.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]
#![allow(clippy::disallowed_types, reason = "the test is not the daemon: it may wait for its own children")]

use std::{
    fs,
    io::Read,
    os::unix::net::{UnixDatagram, UnixStream},
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_supervisord");

/// A directory with a configuration; ends the daemon of its pidfile when dropped.
struct Place {
    dir: TempDir,
}

impl Place {
    fn new(extra: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let here = dir.path().display();
        let text = format!(
            "[supervisord]\nlogfile={here}/d.log\npidfile={here}/d.pid\nchildlogdir={here}\nuser=root\n{extra}\n\
             [unix_http_server]\nfile={here}/d.sock\n"
        );
        // Only root may name another user.
        let text = if nix::unistd::getuid().is_root() { text } else { text.replace("user=root\n", "") };
        fs::write(dir.path().join("d.conf"), text).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(PROGRAM);
        command
            .arg("-c")
            .arg(self.path("d.conf"))
            .args(words)
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null());
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// The pid of the daemon.
    fn pid(&self) -> Pid {
        Pid::from_raw(self.read("d.pid").trim().parse().unwrap())
    }

    /// Sends a signal to the daemon and waits for its end, which closes its last socket.
    fn end(&self, signal: Signal) {
        let mut connection = UnixStream::connect(self.path("d.sock")).unwrap();
        connection.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        kill(self.pid(), signal).unwrap();
        let mut rest = Vec::new();
        connection.read_to_end(&mut rest).ok();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.path("d.pid").exists() {
            kill(self.pid(), Signal::SIGKILL).ok();
        }
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn launcher_returns_when_the_daemon_serves() {
    let place = Place::new("");
    let output = place.run(&[]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
    UnixStream::connect(place.path("d.sock")).expect("ready means that clients are served");
    let pid = place.pid();
    let log = place.read("d.log");
    assert!(log.ends_with(&format!(" INFO supervisord started with pid {pid}\n")), "{log}");
    assert!(
        log.contains(" CRIT Server 'unix_http_server' running without any HTTP authentication checking\n")
    );
    for fd in 0..3 {
        assert_eq!(fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap(), PathBuf::from("/dev/null"));
    }
    assert_eq!(nix::unistd::getsid(Some(pid)).unwrap(), nix::unistd::getpgid(Some(pid)).unwrap());
    place.end(Signal::SIGTERM);
}

/// T44.
#[test]
fn second_daemon_names_the_first_and_leaves_its_files_alone() {
    let place = Place::new("identifier=me");
    assert!(place.run(&[]).status.success());
    fs::write(place.path("web-stdout---me-abcdefgh.log"), "precious").unwrap();
    let (pid, log) = (place.read("d.pid"), place.read("d.log"));
    let output = place.run(&[]);
    assert_eq!(output.status.code(), Some(2));
    let path = place.path("d.pid");
    assert_eq!(
        stderr(&output),
        format!(
            "Error: another supervisord is already running with pid {}: it holds the pidfile {}\nFor help, use \
             {PROGRAM} -h\n",
            pid.trim(),
            path.display()
        )
    );
    assert_eq!((place.read("d.pid"), place.read("d.log")), (pid, log));
    assert_eq!(place.read("web-stdout---me-abcdefgh.log"), "precious");
    UnixStream::connect(place.path("d.sock")).expect("the first still serves");
}

/// T44.
#[test]
fn leavings_of_a_killed_daemon_are_no_obstacle() {
    let place = Place::new("");
    assert!(place.run(&[]).status.success());
    let first = place.pid();
    place.end(Signal::SIGKILL);
    assert!(place.path("d.sock").exists() && place.path("d.pid").exists());
    let output = place.run(&[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), format!("Unlinking stale socket {}\n", place.path("d.sock").display()));
    assert_ne!(place.pid(), first);
    UnixStream::connect(place.path("d.sock")).unwrap();
}

#[test]
fn failed_start_says_why_on_the_terminal_and_leaves_nothing() {
    let place = Place::new("");
    fs::create_dir(place.path("d.sock")).unwrap();
    for words in [&[][..], &["-n"]] {
        let output = place.run(words);
        assert_eq!(output.status.code(), Some(2));
        let said = stderr(&output);
        assert!(said.starts_with("Error: Cannot open an HTTP server: ") && said.ends_with(" -h\n"), "{said}");
        assert!(!place.path("d.pid").exists());
    }
    let log = place.dir.path().to_str().unwrap();
    let output = place.run(&["-l", log]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with(&format!("Error: cannot open the log file {log}: ")));
}

#[test]
fn every_mistake_of_the_configuration_is_shown_with_its_place() {
    let place = Place::new("loglevel=loud\nminprocs=few");
    for words in [&[][..], &["--check"]] {
        let output = place.run(words);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2));
        assert!(said.contains("[supervisord] loglevel = \"loud\": "), "{said}");
        assert!(said.contains("[supervisord] minprocs = \"few\": "), "{said}");
        assert!(said.ends_with(&format!("\nFor help, use {PROGRAM} -h\n")));
    }
}

#[test]
fn check_and_strict_judge_warnings() {
    let place = Place::new("nosuchkey=1");
    let output = place.run(&["--check"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("nosuchkey"));
    assert_eq!(place.run(&["--check", "--strict"]).status.code(), Some(2));
    assert!(!place.path("d.log").exists(), "a check makes no file");
}

/// A daemon in the foreground, ended when dropped.
struct Foreground(Child);

impl Drop for Foreground {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn service_manager_hears_when_the_daemon_is_ready_and_when_it_ends() {
    let place = Place::new("");
    let notify = UnixDatagram::bind(place.path("notify")).unwrap();
    notify.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let hear = || {
        let mut buffer = [0; 200];
        let length = notify.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    let child = place
        .command(&["-n"])
        .env("NOTIFY_SOCKET", place.path("notify"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut child = Foreground(child);
    assert_eq!(hear(), format!("READY=1\nMAINPID={}\n", child.0.id()));
    kill(Pid::from_raw(child.0.id() as i32), Signal::SIGTERM).unwrap();
    assert_eq!(hear(), "STOPPING=1\n");
    assert_eq!(child.0.wait().unwrap().code(), Some(0));
    let mut echoed = String::new();
    child.0.stdout.take().unwrap().read_to_string(&mut echoed).unwrap();
    assert_eq!(echoed, place.read("d.log"), "in the foreground, stdout repeats the log");
    assert!(!place.path("d.sock").exists() && !place.path("d.pid").exists());
}

#[test]
fn log_on_stdout_is_not_doubled() {
    let place = Place::new("");
    let child =
        place.command(&["-n", "-l", "/dev/stdout", "-y", "0"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut child = Foreground(child);
    let mut stdout = child.0.stdout.take().unwrap();
    let mut text = Vec::new();
    while !text.windows(16).any(|part| part == b"started with pid") {
        let mut buffer = [0; 1000];
        let length = stdout.read(&mut buffer).unwrap();
        assert_ne!(length, 0, "ended early: {}", String::from_utf8_lossy(&text));
        text.extend(&buffer[..length]);
    }
    let text = String::from_utf8(text).unwrap();
    assert_eq!(text.matches("running without any HTTP authentication").count(), 1, "{text}");
}
