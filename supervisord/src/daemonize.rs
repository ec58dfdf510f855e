//! Detaching from the terminal, and the pidfile.
//!
//! The launching process stays until the daemon says that it is ready, or why it is not: a [`Readiness`] is the
//! daemon's end of that conversation. Must run before any thread exists, because a fork keeps only the thread that
//! forked.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::fs::{FileExt as _, MetadataExt, OpenOptionsExt},
    },
    path::{Path, PathBuf},
};

use daemonize::{Daemonize, Outcome, Stdio};
use nix::{
    fcntl::OFlag,
    sys::stat::{Mode, umask},
    unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, pipe2},
};
use rustix::fs::{FlockOperation, flock};

use crate::os::lock::lock_soon;

/// Exit status of a start that failed for a reason that the user can mend, as Supervisor's.
pub const USAGE_STATUS: u8 = 2;

/// What the daemon writes when it is ready.
const READY: &[u8] = b"READY";

/// Which of the two processes this is, after [`detach`].
#[derive(Debug)]
pub enum Role {
    /// The process that the user started; the daemon has answered, or has died.
    Launcher(Verdict),
    /// The daemon.
    Daemon(Readiness),
}

/// What the launcher learned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The daemon is ready.
    Ready,
    /// The daemon could not start: exit with this status after printing this text.
    Failed {
        /// Exit status.
        status: u8,
        /// What to print on stderr, complete lines.
        text: String,
    },
}

/// Detaching failed.
#[derive(Debug, thiserror::Error)]
pub enum DetachError {
    /// No pipe for the conversation.
    #[error("cannot create a pipe: {0}")]
    Pipe(#[source] nix::Error),
    /// No second process, or no session of its own.
    #[error("cannot daemonize: {0}")]
    Fork(#[source] daemonize::Error),
    /// Nothing to put in the place of the terminal.
    #[error("cannot open /dev/null: {0}")]
    Null(#[source] io::Error),
    /// The daemon's answer could not be read.
    #[error("cannot read the daemon's answer: {0}")]
    Answer(#[source] io::Error),
}

/// Forks a daemon in a session of its own and returns in both processes. The daemon keeps the working directory, the
/// umask and the standard descriptors until [`Readiness::ready`], so that a failing start is seen on the terminal.
///
/// # Errors
/// See [`DetachError`]; in either process.
pub fn detach() -> Result<Role, DetachError> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC).map_err(DetachError::Pipe)?;
    let outcome = Daemonize::new()
        .working_directory(".")
        .umask(current_umask())
        .stdout(Stdio::keep())
        .stderr(Stdio::keep())
        .execute();
    match outcome {
        Outcome::Parent(result) => {
            drop(writer);
            result.map_err(DetachError::Fork)?;
            Ok(Role::Launcher(read_verdict(reader)?))
        }
        Outcome::Child(result) => {
            drop(reader);
            result.map_err(DetachError::Fork)?;
            let null =
                OpenOptions::new().read(true).write(true).open("/dev/null").map_err(DetachError::Null)?;
            Ok(Role::Daemon(Readiness { launcher: Some((File::from(writer), null)) }))
        }
    }
}

/// The umask of this process; reading it means setting it, hence before any thread exists.
fn current_umask() -> u32 {
    let mask = umask(Mode::empty());
    umask(mask);
    mask.bits()
}

/// Waits for the daemon's answer, or its death.
fn read_verdict(reader: OwnedFd) -> Result<Verdict, DetachError> {
    let mut answer = Vec::new();
    File::from(reader).read_to_end(&mut answer).map_err(DetachError::Answer)?;
    Ok(parse_verdict(&answer))
}

/// An answer is `READY`, or one byte of exit status and a text.
fn parse_verdict(answer: &[u8]) -> Verdict {
    match answer.split_first() {
        _ if answer == READY => Verdict::Ready,
        Some((status, text)) => {
            Verdict::Failed { status: *status, text: String::from_utf8_lossy(text).into_owned() }
        }
        None => Verdict::Failed { status: 1, text: "Error: supervisord ended during start\n".to_owned() },
    }
}

/// Whom to tell that the start is over; dropped without a word, the launcher reports that the daemon ended.
#[derive(Debug, Default)]
pub struct Readiness {
    /// The conversation, and `/dev/null`, opened while there are descriptors to spare.
    launcher: Option<(File, File)>,
}

impl Readiness {
    /// For a daemon in the foreground: nobody waits.
    pub fn foreground() -> Self {
        Self::default()
    }

    /// Whether this process is detached.
    pub fn is_detached(&self) -> bool {
        self.launcher.is_some()
    }

    /// The daemon is ready: the launcher ends with status 0, and this process lets go of the terminal.
    ///
    /// # Errors
    /// When `/dev/null` cannot take the place of the standard descriptors.
    pub fn ready(&mut self) -> io::Result<()> {
        let Some((mut launcher, null)) = self.launcher.take() else { return Ok(()) };
        // A launcher that was killed meanwhile needs no answer.
        drop(launcher.write_all(READY));
        dup2_stdin(&null)?;
        dup2_stdout(&null)?;
        dup2_stderr(&null)?;
        Ok(())
    }

    /// The start failed: `text` (complete lines) reaches the terminal, through the launcher if there is one.
    pub fn failed(&mut self, status: u8, text: &str) {
        let result = match self.launcher.take() {
            Some((mut launcher, _)) => launcher.write_all(&[&[status], text.as_bytes()].concat()),
            None => io::stderr().write_all(text.as_bytes()),
        };
        // Nobody is left to be told.
        drop(result);
    }
}

/// The pidfile of this daemon, locked for as long as it lives, removed when dropped.
#[derive(Debug)]
pub struct Pidfile {
    path: PathBuf,
    /// Holds the lock. Close-on-exec: programs must not inherit it.
    file: File,
}

/// The pidfile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PidfileError {
    /// A living daemon holds it.
    #[error("another supervisord is already running{}: it holds the pidfile {path}", with_pid(.pid), path = path.display())]
    Held {
        /// The pidfile.
        path: PathBuf,
        /// The pid in it, if it is readable.
        pid: Option<u32>,
    },
    /// It cannot be created, locked or written; the daemon can do without.
    #[error("could not write pidfile {path}", path = path.display())]
    Unwritable {
        /// The pidfile.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// ` with pid N`, if it is known.
fn with_pid(pid: &Option<u32>) -> String {
    pid.map(|pid| format!(" with pid {pid}")).unwrap_or_default()
}

impl Pidfile {
    /// Locks `path` and writes the pid of this process into it. A file left by a daemon that died is no obstacle.
    /// The lock belongs to this process and is inherited over `fork`: call it in the daemon, not before.
    ///
    /// # Errors
    /// See [`PidfileError`].
    pub fn acquire(path: &Path) -> Result<Self, PidfileError> {
        let unwritable = |source| PidfileError::Unwritable { path: path.to_owned(), source };
        loop {
            let file = open_pidfile(path).map_err(unwritable)?;
            let metadata = file.metadata().map_err(unwritable)?;
            // A lock on `/dev/null` would be shared with everybody who had the same idea.
            if metadata.is_file() {
                match lock_soon(&file, || {
                    read_pid(&file).and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw)
                }) {
                    Ok(()) => {}
                    Err(rustix::io::Errno::WOULDBLOCK) => {
                        return Err(PidfileError::Held { path: path.to_owned(), pid: read_pid(&file) });
                    }
                    Err(errno) => return Err(unwritable(errno.into())),
                }
                // Its last owner may have removed it between our open and our lock.
                if !is_same_file(path, &file) {
                    continue;
                }
            }
            write_pid(&file, metadata.is_file()).map_err(unwritable)?;
            return Ok(Self { path: path.to_owned(), file });
        }
    }

    /// Makes sure that the pidfile will be free when the process `owner` has ended. Changes nothing.
    ///
    /// # Errors
    /// [`PidfileError::Held`] when yet another daemon holds it.
    pub fn check_held_by(path: &Path, owner: Pid) -> Result<(), PidfileError> {
        // What cannot be opened is nobody's; whether it can be written is said when it is.
        let mut options = OpenOptions::new();
        // A FIFO would wait for a writer, and the other daemon with it.
        let Ok(file) = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path) else {
            return Ok(());
        };
        let is_locked =
            flock(&file, FlockOperation::NonBlockingLockExclusive) == Err(rustix::io::Errno::WOULDBLOCK);
        match read_pid(&file) {
            pid if is_locked && pid != u32::try_from(owner.as_raw()).ok() => {
                Err(PidfileError::Held { path: path.to_owned(), pid })
            }
            _ => Ok(()),
        }
    }

    /// Goes on with the pidfile, and its lock, of the image of this daemon before this one.
    pub fn inherited(path: PathBuf, file: OwnedFd) -> Self {
        Self { path, file: file.into() }
    }

    /// The open file that holds the lock.
    pub fn file(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Pidfile {
    fn drop(&mut self) {
        let is_ours = self.file.metadata().is_ok_and(|m| m.is_file()) && is_same_file(&self.path, &self.file);
        if is_ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!("cannot remove the pidfile {}: {error}", self.path.display());
        }
    }
}

/// Opens without truncating: the content belongs to the holder of the lock. Std opens close-on-exec.
fn open_pidfile(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o666).open(path)
}

/// Whether `path` still names the open file.
fn is_same_file(path: &Path, file: &File) -> bool {
    match (std::fs::symlink_metadata(path).and_then(|_| std::fs::metadata(path)), file.metadata()) {
        (Ok(named), Ok(open)) => (named.dev(), named.ino()) == (open.dev(), open.ino()),
        _ => false,
    }
}

/// The pid in a pidfile.
fn read_pid(file: &File) -> Option<u32> {
    let mut text = [0; 32];
    let len = file.read_at(&mut text, 0).ok()?;
    std::str::from_utf8(&text[..len]).ok()?.trim().parse().ok()
}

/// Replaces the content by our pid.
fn write_pid(mut file: &File, is_regular: bool) -> io::Result<()> {
    if is_regular {
        file.set_len(0)?;
    }
    file.write_all(format!("{}\n", std::process::id()).as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_the_daemon_are_read_back() {
        assert_eq!(parse_verdict(b"READY"), Verdict::Ready);
        assert_eq!(
            parse_verdict(b"\x02Error: x\n"),
            Verdict::Failed { status: 2, text: "Error: x\n".into() }
        );
        let Verdict::Failed { status, text } = parse_verdict(b"") else { panic!("death is not readiness") };
        assert_eq!((status, text.as_str()), (1, "Error: supervisord ended during start\n"));
    }

    #[test]
    fn failure_travels_through_the_pipe() {
        let (reader, writer) = pipe2(OFlag::O_CLOEXEC).unwrap();
        let mut readiness =
            Readiness { launcher: Some((File::from(writer), File::open("/dev/null").unwrap())) };
        readiness.failed(2, "Error: port in use\n");
        assert_eq!(
            read_verdict(reader).unwrap(),
            Verdict::Failed { status: 2, text: "Error: port in use\n".into() }
        );
    }

    #[test]
    fn pidfile_holds_the_pid_and_goes_with_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.pid");
        std::fs::write(&path, "4194303999\nleft by a dead daemon\n").unwrap();
        let pidfile = Pidfile::acquire(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(pidfile);
        assert!(!path.exists());
    }

    #[test]
    fn second_daemon_is_refused_with_the_pid_of_the_first_and_leaves_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.pid");
        let _first = Pidfile::acquire(&path).unwrap();
        let error = Pidfile::acquire(&path).unwrap_err();
        let pid = std::process::id();
        assert_eq!(
            error.to_string(),
            format!(
                "another supervisord is already running with pid {pid}: it holds the pidfile {}",
                path.display()
            )
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{pid}\n"));
    }

    #[test]
    fn pidfile_that_will_be_free_is_told_from_one_of_a_third_daemon() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.pid");
        let (this, other) = (Pid::this(), Pid::from_raw(1));
        Pidfile::check_held_by(&path, other).unwrap();
        std::fs::write(&path, "4711\n").unwrap();
        // As Supervisor leaves it: not locked, whatever it says.
        Pidfile::check_held_by(&path, other).unwrap();
        let held = Pidfile::acquire(&path).unwrap();
        Pidfile::check_held_by(&path, this).unwrap();
        let error = Pidfile::check_held_by(&path, other).unwrap_err();
        assert!(matches!(error, PidfileError::Held { .. }), "{error}");
        drop(held);
    }

    #[test]
    fn file_that_replaced_ours_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("d.pid");
        let pidfile = Pidfile::acquire(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "1\n").unwrap();
        drop(pidfile);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n");
    }

    #[test]
    fn unwritable_pidfile_is_told_apart_and_device_is_neither_locked_nor_removed() {
        let error = Pidfile::acquire(Path::new("/nonexistent/d.pid")).unwrap_err();
        assert_eq!(error.to_string(), "could not write pidfile /nonexistent/d.pid");
        let null = Path::new("/dev/null");
        let (first, second) = (Pidfile::acquire(null).unwrap(), Pidfile::acquire(null).unwrap());
        drop((first, second));
        assert!(null.exists());
    }
}
