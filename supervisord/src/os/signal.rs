//! Sending signals: by number, since programs may be stopped by a real-time signal, which the safe wrappers lack.

#![allow(unsafe_code, reason = "kill with real-time signals")]

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::unistd::Pid;

/// Why a signal was not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignalError {
    /// There is no such process or group any more: for most callers a success.
    #[error("no such process")]
    Gone,
    /// It became another user's.
    #[error("not permitted to signal the process")]
    Denied,
    /// The kernel knows signals 1 to 64 only.
    #[error("no such signal")]
    BadSignal,
    /// The number would mean every process, or our own group.
    #[error("pid {0} does not mean one child, expected 2 or more")]
    NotOneChild(i32),
    /// Anything else, such as a sandbox that refuses the call.
    #[error("{0:?}")]
    Other(Errno),
}

/// Sends `signal` to this process itself.
pub fn raise(signal: i32) {
    // SAFETY: no memory involved. A bad number is an error and changes nothing.
    unsafe { libc::kill(libc::getpid(), signal) };
}

/// Sends `signal` to one process which has not been reaped yet.
///
/// # Errors
/// See [`SignalError`].
pub fn kill(pid: Pid, signal: i32) -> Result<(), SignalError> {
    let pid = one_child(pid)?;
    // SAFETY: no memory involved.
    outcome(unsafe { libc::kill(pid, signal) })
}

/// Sends `signal` to all processes of a group.
///
/// # Errors
/// See [`SignalError`].
pub fn kill_group(pgid: Pid, signal: i32) -> Result<(), SignalError> {
    let pgid = one_child(pgid)?;
    // SAFETY: no memory involved.
    outcome(unsafe { libc::kill(-pgid, signal) })
}

/// Sends `signal` to the process of a pidfd, whether it is our child or not, and never to another.
///
/// # Errors
/// See [`SignalError`].
pub fn kill_pidfd(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), SignalError> {
    let info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: a null `info` means "as by kill".
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) };
    outcome(result as i32)
}

/// 0, -1 and their like mean whole sets of processes, and 1 is the machine's or container's own init.
fn one_child(pid: Pid) -> Result<i32, SignalError> {
    if pid.as_raw() > 1 { Ok(pid.as_raw()) } else { Err(SignalError::NotOneChild(pid.as_raw())) }
}

fn outcome(result: i32) -> Result<(), SignalError> {
    match Errno::result(result) {
        Ok(_) => Ok(()),
        Err(Errno::ESRCH) => Err(SignalError::Gone),
        Err(Errno::EPERM) => Err(SignalError::Denied),
        Err(Errno::EINVAL) => Err(SignalError::BadSignal),
        Err(errno) => Err(SignalError::Other(errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pids_that_mean_many_processes_are_refused() {
        for pid in [i32::MIN, -1, 0, 1] {
            assert_eq!(kill(Pid::from_raw(pid), 0), Err(SignalError::NotOneChild(pid)));
            assert_eq!(kill_group(Pid::from_raw(pid), 0), Err(SignalError::NotOneChild(pid)));
        }
    }

    #[test]
    fn results_are_told_apart() {
        assert_eq!(kill(Pid::this(), 0), Ok(()));
        assert_eq!(kill(Pid::this(), 65), Err(SignalError::BadSignal));
        // Beyond the kernel's largest pid.
        assert_eq!(kill(Pid::from_raw(i32::MAX), 0), Err(SignalError::Gone));
        assert_eq!(kill_group(Pid::from_raw(i32::MAX), 64), Err(SignalError::Gone));
    }
}
