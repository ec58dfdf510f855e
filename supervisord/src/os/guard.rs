//! A process of its own that decides over another daemon which we hold still: it ends that daemon when we say so, and
//! lets it go on when we give up or are gone ourselves.
//!
//! It keeps the rights that we had when it was made, so we may become another user meanwhile.

#![allow(unsafe_code, reason = "fork")]

use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, Pid, fork, setsid};

use super::signal::{SignalError, kill_pidfd};

/// The order to end the other daemon.
const END: u8 = b'K';

/// The way to the guard. Dropped, it lets the other daemon go on.
#[derive(Debug)]
pub struct Guard {
    pid: Pid,
    /// `None` once it has been closed to be heard as the end.
    line: Option<UnixStream>,
}

impl Guard {
    /// Makes a guard over the process of `pidfd`. Must be called while this process has one thread.
    ///
    /// # Errors
    /// When no process can be made.
    pub fn over(pidfd: BorrowedFd<'_>) -> io::Result<Self> {
        let (ours, its) = UnixStream::pair()?;
        // SAFETY: this process has one thread, so the child finds no lock taken and may go on like any other code.
        match unsafe { fork() }? {
            ForkResult::Child => {
                drop(ours);
                watch(its, pidfd);
                // SAFETY: ends the child without running what the parent has registered for its own end.
                unsafe { libc::_exit(0) }
            }
            ForkResult::Parent { child } => Ok(Self { pid: child, line: Some(ours) }),
        }
    }

    /// Ends the other daemon by SIGKILL.
    ///
    /// # Errors
    /// When the kernel refuses, or the guard is gone. The other daemon is then let go on.
    pub fn end(mut self) -> io::Result<()> {
        let Some(line) = &mut self.line else { return Err(io::ErrorKind::NotConnected.into()) };
        line.write_all(&[END])?;
        let mut answer = [0];
        line.read_exact(&mut answer)?;
        match answer[0] {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(i32::from(errno))),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.line = None;
        // It ends at once. A reaper of this process may have been faster.
        while waitpid(self.pid, None) == Err(Errno::EINTR) {}
    }
}

/// What the guard does all its life.
fn watch(mut line: UnixStream, pidfd: BorrowedFd<'_>) {
    // The terminal's signals are meant for the daemon that is being started; and nobody else ends a guard by accident.
    let _ = setsid();
    let _ = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), None);
    close_others(&line, pidfd);
    let mut order = [0];
    if line.read_exact(&mut order).is_ok() && order[0] == END {
        let errno = match kill_pidfd(pidfd, libc::SIGKILL) {
            // Ended by itself: that is what was wanted.
            Ok(()) | Err(SignalError::Gone) => 0,
            Err(SignalError::Denied) => Errno::EPERM as i32,
            Err(SignalError::BadSignal | SignalError::NotOneChild(_)) => Errno::EINVAL as i32,
            Err(SignalError::Other(errno)) => errno as i32,
        };
        if errno == 0 && line.write_all(&[0]).is_ok() {
            return;
        }
        // All errors of Linux that a signal can meet are small numbers. A daemon that hears nothing has given up.
        let _ = line.write_all(&[u8::try_from(errno).unwrap_or(u8::MAX)]);
    }
    // Refused only where the stop was refused too, or when it has ended.
    let _ = kill_pidfd(pidfd, libc::SIGCONT);
}

/// Closes what the guard has no use for: others wait for these descriptors to be closed.
fn close_others(line: &UnixStream, pidfd: BorrowedFd<'_>) {
    let keep = [line.as_raw_fd(), pidfd.as_raw_fd()];
    let mut sorted = keep;
    sorted.sort_unstable();
    let mut first = 3;
    for kept in sorted {
        close_between(first, kept - 1);
        first = kept + 1;
    }
    close_between(first, i32::MAX);
}

/// Closes a range of descriptors.
fn close_between(first: i32, last: i32) {
    if first > last {
        return;
    }
    // SAFETY: the descriptors belong to values of the parent which this process never uses or drops: it ends by
    // `_exit`. Before Linux 5.9 they stay open until then, which a working guard does soon.
    unsafe { libc::syscall(libc::SYS_close_range, first as libc::c_uint, last as libc::c_uint, 0) };
}
