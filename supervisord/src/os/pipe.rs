//! The pipes between the daemon and its children.
//!
//! A child gets both ends in one descriptor (opened read-write), so that its pipe lives as long as the child does: it
//! neither dies of SIGPIPE nor loses a byte when the daemon is gone, and its successor takes the pipe up again through
//! `/proc/PID/fd`. Non-blocking mode is set on our own end only; the child's is another open file.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::journal::record::PipeId;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Gid, Uid, fchown, geteuid, pipe2};
use rustix::event::{PollFd, PollFlags, Timespec};

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
    let (read, write) = nonblocking_pipe()?;
    set_owner(&write, owner)?;
    if geteuid().is_root() {
        // Refused (EPERM, EBUSY) in a user namespace or beyond pipe-max-size: the default size works too.
        let _ = fcntl(&read, FcntlArg::F_SETPIPE_SZ(CAPACITY_AS_ROOT));
    }
    Ok(OutputPipe { read, child: end_for_child(write)? })
}

/// Makes the pipe of a child's stdin.
///
/// # Errors
/// As [`output_pipe`].
pub fn input_pipe(owner: Option<u32>, on_daemon_death: OnDaemonDeath) -> io::Result<InputPipe> {
    let (read, write) = nonblocking_pipe()?;
    set_owner(&read, owner)?;
    let child = match on_daemon_death {
        OnDaemonDeath::Keep => end_for_child(read)?,
        OnDaemonDeath::EndOfFile => blocking(read)?,
    };
    Ok(InputPipe { write, child })
}

/// The pipe behind a descriptor.
pub fn id_of(pipe: impl AsFd) -> Option<PipeId> {
    rustix::fs::fstat(pipe).ok().map(|stat| PipeId(stat.st_ino))
}

/// Whether nothing more can be read, now and for ever: nobody can write to the pipe, and it is empty.
pub fn is_exhausted(pipe: impl AsFd) -> bool {
    let mut asked = [PollFd::new(&pipe, PollFlags::IN)];
    let is_answered = rustix::event::poll(&mut asked, Some(&Timespec::default())).is_ok();
    let answer = asked[0].revents();
    is_answered && answer.contains(PollFlags::HUP) && !answer.contains(PollFlags::IN)
}

/// Bytes that the pipe holds.
///
/// # Errors
/// When `pipe` is none.
pub fn pipe_capacity(pipe: BorrowedFd<'_>) -> io::Result<usize> {
    Ok(fcntl(pipe, FcntlArg::F_GETPIPE_SZ)?.unsigned_abs() as usize)
}

/// Writes all of `data` to a child's stdin without waiting for the child.
///
/// # Errors
/// `WouldBlock` when there is no room: then nothing was written, or, when the room turned out smaller than the kernel
/// said, a part. `BrokenPipe` when nobody can read it any more.
pub fn write_whole(pipe: &OwnedFd, data: &[u8]) -> io::Result<()> {
    let queued = rustix::io::ioctl_fionread(pipe)?;
    let capacity = pipe_capacity(pipe.as_fd())? as u64;
    if queued + data.len() as u64 > capacity {
        // Room is made where the limits of the user allow it.
        let wanted = i32::try_from(queued + data.len() as u64).map_err(|_| io::ErrorKind::WouldBlock)?;
        fcntl(pipe, FcntlArg::F_SETPIPE_SZ(wanted)).map_err(|_| io::ErrorKind::WouldBlock)?;
    }
    let mut rest = data;
    while !rest.is_empty() {
        let written = nix::unistd::write(pipe, rest)?;
        rest = &rest[written..];
    }
    Ok(())
}

/// A second open file of the same pipe, with both directions and blocking; where `/proc` is missing it is `end` itself,
/// and then the pipe ends with the daemon.
fn end_for_child(end: OwnedFd) -> io::Result<OwnedFd> {
    reopen_read_write(end.as_fd()).or_else(|_| blocking(end))
}

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

fn nonblocking_pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
    pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)
}

fn blocking(end: OwnedFd) -> io::Result<OwnedFd> {
    fcntl(&end, FcntlArg::F_SETFL(OFlag::empty()))?;
    Ok(end)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Write};

    use super::*;

    fn flags(fd: &OwnedFd) -> OFlag {
        OFlag::from_bits_retain(fcntl(fd, FcntlArg::F_GETFL).expect("open"))
    }

    fn is_cloexec(fd: &OwnedFd) -> bool {
        fcntl(fd, FcntlArg::F_GETFD).expect("open") & libc::FD_CLOEXEC != 0
    }

    #[test]
    fn only_our_end_is_non_blocking_and_both_are_close_on_exec() {
        let output = output_pipe(None).expect("made");
        let input = input_pipe(None, OnDaemonDeath::Keep).expect("made");
        for (ours, childs) in [(&output.read, &output.child), (&input.write, &input.child)] {
            assert!(flags(ours).contains(OFlag::O_NONBLOCK));
            assert!(!flags(childs).contains(OFlag::O_NONBLOCK), "a child must not see EAGAIN");
            assert!(flags(childs).contains(OFlag::O_RDWR));
            assert!(is_cloexec(ours) && is_cloexec(childs));
        }
        let listener = input_pipe(None, OnDaemonDeath::EndOfFile).expect("made");
        assert!(!flags(&listener.child).intersects(OFlag::O_RDWR | OFlag::O_WRONLY | OFlag::O_NONBLOCK));
    }

    #[test]
    fn writer_outlives_its_reader_and_loses_nothing() {
        let OutputPipe { read, child } = output_pipe(None).expect("made");
        drop(read);
        let mut child = File::from(child);
        child.write_all(b"kept").expect("no EPIPE");
        // As a successor does through /proc/PID/fd.
        let path = format!("/proc/self/fd/{}", child.as_raw_fd());
        let mut successor = OpenOptions::new().read(true).open(path).expect("reopened");
        drop(child);
        let mut text = String::new();
        successor.read_to_string(&mut text).expect("end of file");
        assert_eq!(text, "kept");
    }

    #[test]
    fn a_pipe_is_exhausted_when_it_is_empty_and_nobody_can_write_to_it() {
        let OutputPipe { read, child } = output_pipe(None).expect("made");
        assert!(!is_exhausted(&read), "somebody may write");
        nix::unistd::write(&child, b"x").expect("room");
        drop(child);
        assert!(!is_exhausted(&read), "there is a byte");
        assert_eq!(nix::unistd::read(&read, &mut [0; 2]), Ok(1));
        assert!(is_exhausted(&read));
    }

    #[test]
    fn end_of_file_comes_when_the_last_child_is_gone() {
        let OutputPipe { read, child } = output_pipe(None).expect("made");
        let mut read = File::from(read);
        let mut byte = [0];
        assert_eq!(read.read(&mut byte).expect_err("empty").kind(), io::ErrorKind::WouldBlock);
        drop(child);
        assert_eq!(read.read(&mut byte).expect("end of file"), 0);
    }

    #[test]
    fn input_of_a_listener_ends_with_us_and_that_of_a_program_does_not() {
        let InputPipe { write, child } = input_pipe(None, OnDaemonDeath::EndOfFile).expect("made");
        drop(write);
        assert_eq!(File::from(child).read(&mut [0]).expect("end of file"), 0);
        let InputPipe { write, child } = input_pipe(None, OnDaemonDeath::Keep).expect("made");
        drop(write);
        fcntl(&child, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).expect("set");
        assert_eq!(File::from(child).read(&mut [0]).expect_err("waits").kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn capacity_follows_our_rights() {
        let output = output_pipe(None).expect("made");
        let capacity = pipe_capacity(output.read.as_fd()).expect("a pipe");
        // A container's root may be bound like anybody else.
        let refused = fcntl(&output.read, FcntlArg::F_SETPIPE_SZ(CAPACITY_AS_ROOT)).is_err();
        if geteuid().is_root() && !refused {
            assert_eq!(capacity, 1 << 20);
        } else {
            assert!(capacity < 1 << 20);
        }
        let file = File::open("/dev/null").expect("there");
        assert!(pipe_capacity(file.as_fd()).is_err());
    }
}
