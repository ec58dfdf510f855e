//! Watching processes that are not our children: one handle for each, all on one epoll; nothing polls.
//!
//! A pidfd becomes readable when its process has ended, whoever its parent is. How it ended is told by its entry below
//! `/proc` until its parent has reaped it, and after that by the pidfd where the kernel keeps it (6.15 and later).

#![allow(unsafe_code, reason = "pidfd_open and the ioctl of pidfds, which the safe wrappers lack")]

use std::{
    collections::HashMap,
    fs, io,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout},
    unistd::Pid,
};
use rustix::event::{Timespec, epoll};
use tokio::io::{Interest, unix::AsyncFd};

use super::{family, search};
use crate::{journal::record::Identity, process::Exit};

/// `PIDFD_GET_INFO` with room for the 64 bytes of the version that tells exits.
const PIDFD_GET_INFO: libc::Ioctl = 0xc040_ff0b_u32 as libc::Ioctl;
const INFO_EXIT: u64 = 1 << 3;
/// Sends a signal to the process group; since 6.9.
const SIGNAL_PROCESS_GROUP: u32 = 1 << 2;

/// A handle of the process `identity`; none if that is gone, even if another has its pid.
///
/// # Errors
/// When a process with this pid lives that we may not look at, as with `hidepid`: it may be the one. Also when the kernel
/// refuses for another reason, such as too many open files.
pub fn open(identity: Identity) -> io::Result<Option<OwnedFd>> {
    let pid = Pid::from_raw(identity.pid);
    let Some(pidfd) = open_pid(pid)? else { return Ok(None) };
    // Read after the handle was opened: if it is the same, the handle is that of this process and of no later one.
    match search::identity_of(pid) {
        Ok(seen) if identity.is(Some(seen)) => Ok(Some(pidfd)),
        Ok(_) if identity.is_seen() => Ok(None),
        Ok(_) | Err(_) if has_ended(pidfd.as_fd()) => Ok(None),
        Ok(_) | Err(_) => Err(io::Error::other(
            "a process with its pid lives, but /proc does not show whether it is the same",
        )),
    }
}

/// Whether the process of a handle has ended, all of its threads.
fn has_ended(pidfd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(pidfd, PollFlags::POLLIN)];
    matches!(nix::poll::poll(&mut fds, PollTimeout::ZERO), Ok(1..))
}

/// A handle of whatever process has this pid now; none if none has.
///
/// # Errors
/// As [`open`].
pub fn open_pid(pid: Pid) -> io::Result<Option<OwnedFd>> {
    if pid.as_raw() <= 1 {
        return Ok(None);
    }
    // SAFETY: no memory involved.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    match Errno::result(fd) {
        // SAFETY: a new descriptor that nobody else owns; the kernel makes it close-on-exec.
        Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as i32) })),
        // A kernel may say EINVAL of a pid that is a thread's.
        Err(Errno::ESRCH | Errno::EINVAL) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// What is known of the end of `identity`, whose handle is `pidfd`: `None` while it lives.
pub fn exit_of(identity: Identity, pidfd: BorrowedFd<'_>) -> Option<Exit> {
    // Of one that is hidden nothing else would tell that it lives.
    if !has_ended(pidfd) {
        return None;
    }
    // Its parent may reap it between two looks: then the second one finds what the first one missed.
    for _ in 0..2 {
        match family::stat_of(Pid::from_raw(identity.pid)) {
            Ok(stat) if stat.start_time == identity.start_time => {
                let is_hidden = stat.wait_status == 0 && !may_inspect(identity.pid);
                if !is_hidden {
                    return Some(Exit::from_wait_status(stat.wait_status));
                }
            }
            Ok(_) | Err(_) => {}
        }
        if let Some(exit) = exit_by_handle(pidfd) {
            return Some(exit);
        }
    }
    Some(Exit::Unknown)
}

/// The kernel tells the exit status 0 to who may not look: asks in a way that is refused instead.
fn may_inspect(pid: i32) -> bool {
    fs::read_link(format!("/proc/{pid}/ns/user")).is_ok()
}

/// What the kernel keeps for holders of a handle after the process was reaped.
fn exit_by_handle(pidfd: BorrowedFd<'_>) -> Option<Exit> {
    let mut info = [0u64; 8];
    info[0] = INFO_EXIT;
    // SAFETY: the request says that it writes at most 64 bytes, which `info` has.
    let result = unsafe { libc::ioctl(pidfd.as_raw_fd(), PIDFD_GET_INFO, info.as_mut_ptr()) };
    if result != 0 || info[0] & INFO_EXIT == 0 {
        return None;
    }
    // `exit_code` is the second half of the last eight bytes.
    let bytes = info[7].to_ne_bytes();
    Some(Exit::from_wait_status(i32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]])))
}

/// Whether the exit status of a process that is not our child will be known however fast its parent reaps it.
pub fn tells_exits() -> bool {
    // A living process has no exit; the kernel that knows the question answers it all the same.
    let Ok(Some(own)) = open_pid(Pid::this()) else { return false };
    let mut info = [0u64; 8];
    // SAFETY: as above.
    unsafe { libc::ioctl(own.as_raw_fd(), PIDFD_GET_INFO, info.as_mut_ptr()) == 0 }
}

/// Sends `signal` to the process group that the process of `pidfd` leads.
///
/// # Errors
/// See [`super::signal::SignalError`].
pub fn kill_group(pid: Pid, pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), super::signal::SignalError> {
    use super::signal;
    let info: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: a null `info` means "as by kill".
    let sent = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, SIGNAL_PROCESS_GROUP)
    };
    match Errno::result(sent) {
        Ok(_) => Ok(()),
        // An older kernel: the group has its number for as long as its leader is there.
        Err(Errno::EINVAL) => {
            signal::kill_pidfd(pidfd, 0)?;
            signal::kill_group(pid, signal)
        }
        Err(Errno::ESRCH) => Err(signal::SignalError::Gone),
        Err(Errno::EPERM) => Err(signal::SignalError::Denied),
        Err(errno) => Err(signal::SignalError::Other(errno)),
    }
}

/// Processes that are waited for.
#[derive(Debug)]
pub struct Watch {
    epoll: AsyncFd<OwnedFd>,
    pidfds: HashMap<Identity, OwnedFd>,
    /// By what epoll tells them apart: a pid may be another's before its end was told.
    by_token: HashMap<u64, Identity>,
    last_token: u64,
}

impl Watch {
    /// Waits for nobody yet. Must be called within a runtime.
    ///
    /// # Errors
    /// Those of `epoll_create` and of registering it.
    pub fn new() -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        #[allow(
            deprecated,
            reason = "as in output/gate.rs: an `OwnedFd` owns a valid descriptor for its whole life"
        )]
        let epoll = AsyncFd::with_interest(epoll, Interest::READABLE)?;
        Ok(Self { epoll, pidfds: HashMap::new(), by_token: HashMap::new(), last_token: 0 })
    }

    /// Waits for the end of a process.
    ///
    /// # Errors
    /// Those of `epoll_ctl`.
    pub fn add(&mut self, identity: Identity, pidfd: OwnedFd) -> io::Result<()> {
        self.last_token += 1;
        let data = epoll::EventData::new_u64(self.last_token);
        epoll::add(self.epoll.get_ref(), &pidfd, data, epoll::EventFlags::IN)?;
        self.by_token.insert(self.last_token, identity);
        self.pidfds.insert(identity, pidfd);
        Ok(())
    }

    /// The handle of a process that is waited for.
    pub fn pidfd(&self, identity: Identity) -> Option<BorrowedFd<'_>> {
        self.pidfds.get(&identity).map(|pidfd| pidfd.as_fd())
    }

    /// Waits until [`Watch::poll_exit`] has something to tell. Cancel-safe.
    pub async fn ready(&self) {
        if self.epoll.readable().await.is_err() {
            // Only happens while the runtime shuts down.
            std::future::pending().await
        }
    }

    /// A process that has ended, and how; it is not waited for any longer.
    pub fn poll_exit(&mut self) -> Option<(Identity, Exit)> {
        loop {
            let mut events =
                [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }];
            let mut count = 0;
            // Clears the readiness when nothing is ready; the answer is in `count`.
            let _ = self.epoll.try_io(Interest::READABLE, |epoll| {
                count = epoll::wait(epoll, &mut events[..], Some(&Timespec::default()))?;
                if count == 0 { Err(io::Error::from(io::ErrorKind::WouldBlock)) } else { Ok(()) }
            });
            if count == 0 {
                return None;
            }
            let data = events[0].data;
            let Some(identity) = self.by_token.remove(&data.u64()) else { continue };
            if let Some(pidfd) = self.pidfds.remove(&identity) {
                // Closing it is not enough: a keeper may hold the same open file. It is there, so this cannot fail.
                let _ = epoll::delete(self.epoll.get_ref(), &pidfd);
                let exit = exit_of(identity, pidfd.as_fd()).unwrap_or(Exit::Unknown);
                return Some((identity, exit));
            }
        }
    }
}
