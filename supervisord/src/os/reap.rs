//! The only place that takes exit statuses of children. (`spawn` takes those of children that never became programs.)
//!
//! SIGCHLD says "look here"; signals coalesce, so the caller loops until there is nothing left.

#![allow(
    unsafe_code,
    reason = "waitid with real-time signals, which the safe wrappers turn into errors after reaping"
)]

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::process::exit::Exit;

/// A child that has ended, left as a zombie: its entry below `/proc` and its pid stay valid until [`reap`] is called.
pub fn peek() -> Option<Pid> {
    wait(libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT).map(|(pid, _)| pid)
}

/// Takes the exit status of `pid`, if that is a child of ours which has ended. From now on the pid may be re-used.
pub fn reap(pid: Pid) -> Option<(Pid, Exit)> {
    // 0 would mean our own process group.
    if pid.as_raw() <= 0 {
        return None;
    }
    wait(libc::P_PID, pid.as_raw() as libc::id_t, libc::WEXITED | libc::WNOHANG)
}

/// [`peek`] and [`reap`] in one.
pub fn next() -> Option<(Pid, Exit)> {
    wait(libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG)
}

fn wait(kind: libc::idtype_t, id: libc::id_t, options: i32) -> Option<(Pid, Exit)> {
    // SAFETY: all zero is a valid siginfo_t, and the kernel leaves it so when no child has ended.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: `info` outlives the call.
    while let Err(errno) = Errno::result(unsafe { libc::waitid(kind, id, &mut info, options) }) {
        if errno != Errno::EINTR {
            return None; // ECHILD: no children, or not ours.
        }
    }
    // SAFETY: filled in by waitid, whose variant has these fields.
    let (pid, status) = unsafe { (info.si_pid(), info.si_status()) };
    let exit = match info.si_code {
        libc::CLD_EXITED => Exit::Code((status & 0xff) as u8),
        code => Exit::Signal { signal: status, core_dumped: code == libc::CLD_DUMPED },
    };
    (pid != 0).then(|| (Pid::from_raw(pid), exit))
}
