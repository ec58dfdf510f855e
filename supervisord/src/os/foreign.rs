//! The process of another daemon: holding it still where it sleeps, and taking descriptors out of it.
//!
//! A process is named by a pidfd that was opened before its start time was read, so nothing here ever touches a
//! stranger which got the same pid. Needs the rights of a debugger over it: the same user (and no change of user since
//! its `exec`), or root.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::family::{self, Stat};
use super::signal::{SignalError, kill_pidfd};
use crate::journal::record::Identity;

/// Time between two looks at a process that is about to stop.
const PAUSE: Duration = Duration::from_millis(1);
/// Looks at a process that is about to stop. The kernel takes microseconds, unless the process is stuck in it.
const LOOKS: u32 = 1000;

/// System calls in which a daemon waits for its next event. A call that was interrupted by a stop and goes on has a
/// number of its own; of those that go on like this, these daemons sleep in no other.
const SLEEPS: &[libc::c_long] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    libc::SYS_ppoll,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_restart_syscall,
];

/// A process that is not our child.
#[derive(Debug)]
pub struct Foreign {
    /// Its pid.
    pub pid: Pid,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
    pidfd: OwnedFd,
}

/// Where a stopped process stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It sleeps until its next event: nothing is between a read and a write.
    Asleep,
    /// It does something.
    Busy,
}

/// What a descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// A pipe, by its inode.
    Pipe(u64),
    /// A socket, by its inode.
    Socket(u64),
}

/// What may be done through a descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Both.
    Both,
}

/// An open pipe or socket of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor {
    /// Its number there.
    pub number: i32,
    /// What it leads to.
    pub object: Object,
    /// What may be done through it.
    pub direction: Direction,
}

impl Foreign {
    /// Names a process for good.
    ///
    /// # Errors
    /// When there is none of this pid.
    pub fn open(pid: Pid) -> io::Result<Self> {
        let raw = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(io::ErrorKind::InvalidInput)?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty())?;
        let start_time = family::stat_of(pid)?.start_time;
        Ok(Self { pid, start_time, pidfd })
    }

    /// Which process it is.
    pub fn identity(&self) -> Identity {
        Identity { pid: self.pid.as_raw(), start_time: self.start_time }
    }

    /// Its present `/proc/PID/stat`.
    ///
    /// # Errors
    /// When it is gone or hidden.
    pub fn stat(&self) -> io::Result<Stat> {
        let stat = family::stat_of(self.pid)?;
        if stat.start_time == self.start_time { Ok(stat) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    /// Whether it lives: a zombie does not.
    pub fn is_alive(&self) -> bool {
        self.stat().is_ok_and(|stat| !matches!(stat.state, 'Z' | 'X'))
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// See [`SignalError`].
    pub fn signal(&self, number: i32) -> Result<(), SignalError> {
        kill_pidfd(self.pidfd.as_fd(), number)
    }

    /// After SIGSTOP: waits until it stands still, and tells where.
    ///
    /// # Errors
    /// When it cannot be inspected, is gone, or does not stop within a second.
    pub fn standing(&self) -> io::Result<Standing> {
        for _ in 0..LOOKS {
            if self.stat()?.state == 'T' {
                let call = fs::read_to_string(format!("/proc/{}/syscall", self.pid))?;
                return Ok(parse_syscall(&call));
            }
            pause(PAUSE);
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    /// Waits until it has ended. False when that takes longer than `limit`.
    pub fn wait_for_end(&self, limit: Duration) -> bool {
        let limit = Timespec { tv_sec: limit.as_secs() as i64, tv_nsec: i64::from(limit.subsec_nanos()) };
        let mut ends = [PollFd::new(&self.pidfd, PollFlags::IN)];
        // An interruption by a signal is no answer; the caller's limit is generous, so one more wait may be as long.
        let again = || poll(&mut ends, Some(&limit));
        let ready = rustix::io::retry_on_intr(again);
        ready.is_ok_and(|count| count > 0)
    }

    /// Takes a copy of a descriptor out of it.
    ///
    /// # Errors
    /// When the kernel refuses: no rights, or no such descriptor.
    pub fn take(&self, wanted: &Descriptor) -> io::Result<OwnedFd> {
        match pidfd_getfd(&self.pidfd, wanted.number, PidfdGetfdFlags::empty()) {
            Ok(copy) => Ok(copy),
            // Linux 5.4, or a sandbox: a pipe has another way, a socket has none.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM)
                if matches!(wanted.object, Object::Pipe(_)) =>
            {
                self.reopen(wanted)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a pipe of it once more.
    fn reopen(&self, wanted: &Descriptor) -> io::Result<OwnedFd> {
        let is = |one| wanted.direction == one || wanted.direction == Direction::Both;
        let mut options = OpenOptions::new();
        options.read(is(Direction::Read)).write(is(Direction::Write));
        options.custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC);
        Ok(options.open(format!("/proc/{}/fd/{}", self.pid, wanted.number))?.into())
    }

    /// Its pidfd.
    pub fn pidfd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }

    /// Gives its pidfd away.
    pub fn into_pidfd(self) -> OwnedFd {
        self.pidfd
    }
}

/// Waits for a moment that nothing announces.
pub fn pause(span: Duration) {
    let span = Timespec { tv_sec: span.as_secs() as i64, tv_nsec: i64::from(span.subsec_nanos()) };
    // A pause cut short by a signal is long enough: all callers look again.
    let _ = rustix::thread::nanosleep(&span);
}

/// All children of a process, zombies included.
pub fn children_of(parent: Pid) -> Vec<Pid> {
    family::all_processes()
        .into_iter()
        .filter(|pid| family::stat_of(*pid).is_ok_and(|stat| stat.parent == parent))
        .collect()
}

/// All pipes and sockets that a process has open.
///
/// # Errors
/// When it is gone or may not be inspected.
pub fn descriptors_of(pid: Pid) -> io::Result<Vec<Descriptor>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        let Some(number) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have been closed since.
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let Some(object) = target.to_str().and_then(parse_object) else { continue };
        let Ok(info) = fs::read_to_string(format!("/proc/{pid}/fdinfo/{number}")) else { continue };
        let Some(direction) = parse_direction(&info) else { continue };
        found.push(Descriptor { number, object, direction });
    }
    found.sort_by_key(|descriptor| descriptor.number);
    Ok(found)
}

/// The processes that a process has handles of and that were not reaped yet.
///
/// # Errors
/// When it is gone or may not be inspected.
pub fn watched_by(pid: Pid) -> io::Result<BTreeSet<i32>> {
    let mut watched = BTreeSet::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))? {
        let entry = entry?;
        // Some kernels between 6.9 and 6.10 have the second form.
        let is_handle = fs::read_link(entry.path()).is_ok_and(|target| {
            target
                .to_str()
                .is_some_and(|target| target == "anon_inode:[pidfd]" || target.starts_with("pidfd:"))
        });
        if is_handle {
            let info = entry.file_name();
            let info = fs::read_to_string(format!("/proc/{pid}/fdinfo/{}", info.to_string_lossy()));
            watched.extend(info.ok().as_deref().and_then(parse_watched));
        }
    }
    Ok(watched)
}

/// The line `Pid:` of `/proc/PID/fdinfo/N`: −1 when the process was reaped.
fn parse_watched(info: &str) -> Option<i32> {
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    pid.trim().parse().ok().filter(|pid| *pid > 0)
}

/// `7 0x… …`, `running`, or `-1 …` outside of a call.
fn parse_syscall(line: &str) -> Standing {
    let number = line.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
    match number {
        Some(number) if SLEEPS.contains(&number) => Standing::Asleep,
        Some(_) | None => Standing::Busy,
    }
}

/// `pipe:[123]`, `socket:[123]`.
fn parse_object(target: &str) -> Option<Object> {
    let (kind, inode) = target.strip_suffix(']')?.split_once(":[")?;
    let inode = inode.parse().ok()?;
    match kind {
        "pipe" => Some(Object::Pipe(inode)),
        "socket" => Some(Object::Socket(inode)),
        _ => None,
    }
}

/// The line `flags:` of `/proc/PID/fdinfo/N`, octal.
fn parse_direction(info: &str) -> Option<Direction> {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    let flags = i32::from_str_radix(flags.trim(), 8).ok()?;
    match flags & libc::O_ACCMODE {
        libc::O_RDONLY => Some(Direction::Read),
        libc::O_WRONLY => Some(Direction::Write),
        libc::O_RDWR => Some(Direction::Both),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_calls_that_wait_for_events_count_as_sleep() {
        for number in SLEEPS {
            let line = format!("{number} 0x7f 0x2 0x3e8 0x0 0x0 0x0 0x7ffc 0x7f12\n");
            assert_eq!(parse_syscall(&line), Standing::Asleep, "{line}");
        }
        let read = format!("{} 0x4 0x7f 0x20000\n", libc::SYS_read);
        for line in ["running\n", "-1 0x7ffc 0x7f12\n", "", read.as_str()] {
            assert_eq!(parse_syscall(line), Standing::Busy, "{line}");
        }
    }

    #[test]
    fn links_and_flags_are_understood() {
        assert_eq!(parse_object("pipe:[4711]"), Some(Object::Pipe(4711)));
        assert_eq!(parse_object("socket:[1]"), Some(Object::Socket(1)));
        for other in ["/dev/null", "anon_inode:[eventpoll]", "pipe:[x]", "pipe:[1"] {
            assert_eq!(parse_object(other), None, "{other}");
        }
        let info = |flags: &str| format!("pos:\t0\nflags:\t{flags}\nmnt_id:\t15\n");
        assert_eq!(parse_direction(&info("0104000")), Some(Direction::Read));
        assert_eq!(parse_direction(&info("0104001")), Some(Direction::Write));
        assert_eq!(parse_direction(&info("02")), Some(Direction::Both));
        assert_eq!(parse_direction("pos:\t0\n"), None);
    }

    #[test]
    fn own_pipe_is_found_and_taken_like_a_foreign_one() {
        let (read, write) = io::pipe().unwrap();
        let own = Foreign::open(Pid::this()).unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&read);
        let found = descriptors_of(Pid::this()).unwrap();
        let found = found.iter().find(|descriptor| descriptor.number == number).unwrap();
        assert_eq!(found.direction, Direction::Read);
        for copy in [own.take(found), own.reopen(found)] {
            let copy = copy.unwrap();
            rustix::io::write(&write, b"x").unwrap();
            assert_eq!(rustix::io::read(&copy, &mut [0; 8]), Ok(1));
        }
        assert!(own.is_alive());
        assert!(watched_by(Pid::this()).unwrap().contains(&Pid::this().as_raw()));
    }

    #[test]
    fn handles_tell_whose_they_are() {
        assert_eq!(parse_watched("pos:\t0\nPid:\t4711\nNSpid:\t4711\n"), Some(4711));
        assert_eq!(parse_watched("pos:\t0\nPid:\t-1\n"), None);
        assert_eq!(parse_watched("pos:\t0\n"), None);
    }
}
