//! The pipes between the daemon and its children.
//!
//! A child gets both ends in one descriptor (opened read-write), so that its pipe lives as long as the child does: it
//! neither dies of SIGPIPE nor loses a byte when the daemon is gone, and its successor takes the pipe up again through
//! `/proc/PID/fd`. Non-blocking mode is set on our own end only; the child's is another open file.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Gid, Uid, fchown, geteuid, pipe2};

/// Bytes that an output pipe holds when the kernel lets us have them: root is not bound by the per-user budget.
/// Without root, 64 pipes of this size would use the budget up, and every later pipe would shrink to two pages.
const CAPACITY_AS_ROOT: i32 = 1 << 20;

/// A child's stdout or stderr.
#[derive(Debug)]
pub struct OutputPipe {
    /// Ours: non-blocking.
    pub read: OwnedFd,
    /// The child's, to be dropped after the spawn.
    pub child: OwnedFd,
}

/// A child's stdin.
#[derive(Debug)]
pub struct InputPipe {
    /// Ours: non-blocking.
    pub write: OwnedFd,
    /// The child's, to be dropped after the spawn.
    pub child: OwnedFd,
}

/// What happens to a child's stdin when the daemon dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDaemonDeath {
    /// Reads block as before: for ordinary programs.
    Keep,
    /// The child reads end of file: for event listeners, which serve the daemon only.
    EndOfFile,
}

/// Makes the pipe of a child's stdout or stderr. `owner` is the user that the child becomes, if another than ours: it
/// must own the pipe to be able to open `/dev/stdout`.
///
/// # Errors
/// When there are no descriptors left, or the owner cannot be set.
pub fn output_pipe(owner: Option<u32>) -> io::Result<OutputPipe> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    set_owner(&write, owner)?;
    set_nonblocking(&read)?;
    if geteuid().is_root() {
        // Refused (EPERM, EBUSY) in a user namespace or beyond pipe-max-size: the default size works too.
        let _ = fcntl(&read, FcntlArg::F_SETPIPE_SZ(CAPACITY_AS_ROOT));
    }
    let child = reopen_read_write(write.as_fd()).unwrap_or(write);
    Ok(OutputPipe { read, child })
}

/// Makes the pipe of a child's stdin.
///
/// # Errors
/// As [`output_pipe`].
pub fn input_pipe(owner: Option<u32>, on_daemon_death: OnDaemonDeath) -> io::Result<InputPipe> {
    let (read, write) = pipe2(OFlag::O_CLOEXEC)?;
    set_owner(&read, owner)?;
    set_nonblocking(&write)?;
    let child = match on_daemon_death {
        OnDaemonDeath::Keep => reopen_read_write(read.as_fd()).unwrap_or(read),
        OnDaemonDeath::EndOfFile => read,
    };
    Ok(InputPipe { write, child })
}

/// Bytes that the pipe holds.
///
/// # Errors
/// When `pipe` is none.
pub fn pipe_capacity(pipe: BorrowedFd<'_>) -> io::Result<usize> {
    Ok(fcntl(pipe, FcntlArg::F_GETPIPE_SZ)?.unsigned_abs() as usize)
}

/// A second open file of the same pipe, with both directions; none where `/proc` is missing, and then the pipe ends
/// with the daemon.
fn reopen_read_write(end: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // Both directions: neither open nor close waits for a peer.
    let path = format!("/proc/self/fd/{}", end.as_raw_fd());
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC).open(path)?;
    Ok(file.into())
}

fn set_owner(end: &OwnedFd, owner: Option<u32>) -> io::Result<()> {
    let Some(owner) = owner.filter(|owner| *owner != geteuid().as_raw()) else { return Ok(()) };
    match fchown(end, Some(Uid::from_raw(owner)), None::<Gid>) {
        // Only root can become another user: the spawn is going to say so, naming the step.
        Ok(()) | Err(nix::errno::Errno::EPERM) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn set_nonblocking(end: &OwnedFd) -> io::Result<()> {
    fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    Ok(())
}
