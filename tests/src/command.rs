//! Programs that a test runs: to their end, or beside it.

use std::{
    fs,
    fs::File,
    io::{self, Read},
    os::unix::process::ExitStatusExt,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
};

use nix::sys::signal::Signal;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags},
};

use crate::{BOUND, kill};

/// What a command printed and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// Exit status; 128 + signal where one ended it.
    pub status: i32,
    /// Standard output, bytes that are no UTF-8 replaced.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// A command that runs beside the test; ended when dropped.
pub struct Background {
    child: Child,
    output: PathBuf,
}

impl Reply {
    /// Fails the test unless the command printed exactly this on stdout and exited with 0.
    #[track_caller]
    pub fn is(&self, stdout: &str) {
        assert_eq!((self.stdout.as_str(), self.status), (stdout, 0), "stderr: {}", self.stderr);
    }

    /// Fails the test unless the command printed exactly this on stdout and exited with `status`.
    #[track_caller]
    pub fn fails(&self, status: i32, stdout: &str) {
        assert_eq!((self.stdout.as_str(), self.status), (stdout, status), "stderr: {}", self.stderr);
    }
}

impl Background {
    /// Starts the command with its input from a pipe; `output` is where its standard output goes.
    pub(crate) fn start(mut command: Command, output: PathBuf) -> Self {
        let out = File::create(&output).expect("creating an output file");
        let err = out.try_clone().expect("a descriptor");
        command.stdin(Stdio::piped()).stdout(out).stderr(err);
        let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        Self { child, output }
    }

    /// What it has printed so far.
    pub fn output(&self) -> Vec<u8> {
        fs::read(&self.output).unwrap_or_default()
    }

    /// What it has printed so far; bytes that are no UTF-8 are replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.output()).into_owned()
    }

    /// Writes to its standard input.
    pub fn input(&mut self, text: &str) {
        let stdin = self.child.stdin.as_mut().expect("stdin is a pipe");
        io::Write::write_all(stdin, text.as_bytes()).expect("writing to supervisorctl");
    }

    /// Its pid.
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("pids are positive")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal);
    }

    /// Waits until it has ended.
    pub fn wait(&mut self) -> i32 {
        let ended = await_end(&self.child);
        assert!(ended, "waited in vain for supervisorctl to end: {}", self.text());
        code(self.child.wait().expect("waiting for supervisorctl"))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // Either call fails when it has ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs any program without input to its end.
pub fn run(program: &str, words: &[&str]) -> Reply {
    let mut command = Command::new(program);
    command.args(words);
    finish(command)
}

/// Runs a command without input to its end.
pub(crate) fn finish(mut command: Command) -> Reply {
    command.stdin(Stdio::null());
    run_to_end(command)
}

/// Runs a command to its end, within the bound.
pub(crate) fn run_to_end(mut command: Command) -> Reply {
    let mut out = tempfile::tempfile().expect("a temporary file");
    let mut err = tempfile::tempfile().expect("a temporary file");
    command.stdout(out.try_clone().expect("a descriptor")).stderr(err.try_clone().expect("a descriptor"));
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    if !await_end(&child) {
        // It is our own child; a failure to end it changes nothing about the panic.
        let _ = child.kill();
        panic!("{command:?} did not end: {}", text(&mut out));
    }
    let status = child.wait().expect("waiting for a command");
    Reply { status: code(status), stdout: text(&mut out), stderr: text(&mut err) }
}

/// Waits until a child has ended, within the bound; whether it has.
fn await_end(child: &Child) -> bool {
    let pid = Pid::from_child(child);
    let handle = rustix::process::pidfd_open(pid, PidfdFlags::empty()).expect("it is not reaped yet");
    let mut wanted = [PollFd::new(&handle, PollFlags::IN)];
    let bound = Timespec::try_from(BOUND).expect("a short time");
    rustix::io::retry_on_intr(|| poll(&mut wanted, Some(&bound))).expect("waiting for a child") > 0
}

/// Everything in a file that somebody else wrote through the same descriptor.
fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    io::Seek::rewind(file).and_then(|()| file.read_to_end(&mut bytes)).expect("reading output");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Exit status, or 128 + signal.
fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1)
}
