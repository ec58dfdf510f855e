//! What a child does between its birth and `execve`: raw system calls only.
//!
//! The child may share its memory with the daemon, whose other threads may hold any lock at that moment. So nothing
//! here allocates, locks, panics, or calls a libc function that does more than enter the kernel (glibc's `setuid`
//! signals every thread of the process, which would be the daemon's threads). `spawn` prepares all pointers before.

#![allow(unsafe_code, reason = "raw system calls of a child that shares its parent's memory")]

use std::ffi::c_char;
use std::sync::atomic::{AtomicI32, Ordering};

use super::spawn::Step;

/// The largest signal number of the kernel.
const LAST_SIGNAL: i32 = 64;
/// Size of the kernel's signal set in bytes: not that of libc's `sigset_t`.
pub(super) const SIGNAL_SET_SIZE: usize = 8;
/// The kernel's `struct sigaction` for "default": all bytes zero on every architecture, which differ in its layout
/// but not above this size.
const DEFAULT_ACTION: [u64; 8] = [0; 8];
/// Not in libc for every target.
const CLOSE_RANGE_CLOEXEC: u32 = 4;
const CLOSE_RANGE_UNSHARE: u32 = 2;

/// Whose rights the child takes, as the kernel wants it.
pub(super) struct RawIdentity {
    pub(super) uid: libc::uid_t,
    pub(super) gid: libc::gid_t,
    pub(super) groups: *const libc::gid_t,
    pub(super) group_count: usize,
}

/// All that the child needs, as pointers into memory which its parent keeps alive until the child has called `execve`
/// or has ended.
pub(super) struct ChildTask {
    pub(super) executable: *const c_char,
    pub(super) argv: *const *const c_char,
    pub(super) envp: *const *const c_char,
    /// Null: stay.
    pub(super) directory: *const c_char,
    pub(super) umask: Option<u32>,
    /// Soft and hard limit of open files, as the kernel's `struct rlimit64`.
    pub(super) open_files: Option<[u64; 2]>,
    pub(super) identity: Option<RawIdentity>,
    /// As [`changed_signals`].
    pub(super) changed_signals: u64,
    pub(super) stdio: [i32; 3],
    /// The table of descriptors is the daemon's, which needs those above this number and the child does not.
    pub(super) shared_beyond: Option<i32>,
    /// The number of the step that failed, 0 if none did. Written by the child.
    pub(super) failed_step: AtomicI32,
    /// Written by the child before `failed_step`.
    pub(super) failed_errno: AtomicI32,
}

/// What went wrong in the child: the step and the error number.
type Failure = (Step, i32);

impl ChildTask {
    /// Becomes the program. Returns only on failure, which it has recorded.
    ///
    /// # Safety
    /// To be called in a new process only, with every signal blocked, and with all pointers of `self` valid.
    pub(super) unsafe fn run(&self) {
        // SAFETY: handed on from the caller.
        if let Err((step, errno)) = unsafe { self.become_program() } {
            self.failed_errno.store(errno, Ordering::Relaxed);
            self.failed_step.store(step as i32, Ordering::Release);
        }
    }

    /// # Safety
    /// As [`ChildTask::run`].
    unsafe fn become_program(&self) -> Result<(), Failure> {
        // SAFETY: raw system calls on this process alone (its descriptor table, its signal table, its credentials and
        // its working directory are copies), with pointers that the caller vouches for.
        unsafe {
            if let Some(last) = self.shared_beyond {
                own_descriptors(last)?;
            }
            check(Step::Setpgid, libc::syscall(libc::SYS_setpgid, 0, 0))?;
            place_descriptors(self.stdio)?;
            // A kernel before 5.11 refuses; then `mark_inherited_cloexec` has done this at start.
            libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, CLOSE_RANGE_CLOEXEC);
            // Before the mask is emptied: a handler of the daemon must never run here.
            for signal in (1..=LAST_SIGNAL).filter(|signal| self.changed_signals & bit(*signal) != 0) {
                let action = DEFAULT_ACTION.as_ptr();
                let old: *mut u64 = std::ptr::null_mut();
                libc::syscall(libc::SYS_rt_sigaction, signal, action, old, SIGNAL_SET_SIZE);
            }
            if let Some(limit) = &self.open_files {
                let old: *mut u64 = std::ptr::null_mut();
                libc::syscall(libc::SYS_prlimit64, 0, libc::RLIMIT_NOFILE, limit.as_ptr(), old);
            }
            if let Some(identity) = &self.identity {
                take_identity(identity)?;
            }
            if !self.directory.is_null() {
                check(Step::Chdir, libc::syscall(libc::SYS_chdir, self.directory))?;
            }
            if let Some(umask) = self.umask {
                libc::syscall(libc::SYS_umask, umask);
            }
            set_signal_mask(0);
            check(Step::Exec, libc::syscall(libc::SYS_execve, self.executable, self.argv, self.envp))
        }
    }
}

/// The signals that this process handles or ignores, as a set like that of the kernel. Not one system call for each of
/// all signals, but only for these, is what a child then needs to give them their defaults.
pub(super) fn changed_signals() -> u64 {
    let is_changed = |signal: &i32| {
        let new: *const u64 = std::ptr::null();
        let mut action = DEFAULT_ACTION;
        // SAFETY: only asks; `action` has room for the kernel's struct.
        unsafe {
            libc::syscall(libc::SYS_rt_sigaction, *signal, new, action.as_mut_ptr(), SIGNAL_SET_SIZE);
        }
        action != DEFAULT_ACTION
    };
    let fixed = |signal: &i32| [libc::SIGKILL, libc::SIGSTOP].contains(signal);
    (1..=LAST_SIGNAL).filter(|signal| !fixed(signal) && is_changed(signal)).map(bit).sum()
}

fn bit(signal: i32) -> u64 {
    1 << (signal - 1)
}

/// Sets the calling thread's mask and returns the old one. Unlike libc's function it includes the two signals which
/// libc keeps for itself.
pub(super) fn set_signal_mask(mask: u64) -> u64 {
    let mut old = 0u64;
    // SAFETY: both pointers are to live values of the size given.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            std::ptr::from_ref(&mask),
            std::ptr::from_mut(&mut old),
            SIGNAL_SET_SIZE,
        );
    }
    old
}

/// Takes a copy of the daemon's descriptors up to `last`: before this, a change here would be a change there.
pub(super) unsafe fn own_descriptors(last: i32) -> Result<(), Failure> {
    // SAFETY: leaves the daemon's table as it is and gives this process one of its own.
    unsafe {
        if libc::syscall(libc::SYS_close_range, last + 1, u32::MAX, CLOSE_RANGE_UNSHARE) < 0 {
            // A kernel before 5.9: a copy of all.
            check(Step::Dup, libc::syscall(libc::SYS_unshare, libc::CLONE_FILES))?;
        }
    }
    Ok(())
}

/// Puts the three descriptors at 0, 1 and 2. Sources that are themselves 0–2 are moved away first: else an earlier
/// target would overwrite a later source, and one that is in place already would keep its close-on-exec flag.
unsafe fn place_descriptors(mut stdio: [i32; 3]) -> Result<(), Failure> {
    for source in stdio.iter_mut().filter(|source| **source < 3) {
        // SAFETY: makes a new descriptor, in the child's own table.
        let moved = unsafe { libc::syscall(libc::SYS_fcntl, *source, libc::F_DUPFD_CLOEXEC, 3) };
        check(Step::Dup, moved)?;
        *source = moved as i32;
    }
    for (source, target) in stdio.into_iter().zip(0i32..) {
        // SAFETY: as above; dup3 because not every architecture has dup2.
        check(Step::Dup, unsafe { libc::syscall(libc::SYS_dup3, source, target, 0) })?;
    }
    Ok(())
}

/// Takes groups, group and user, in the order in which each still has the right to set the next. Who is that user
/// already keeps everything, as in Supervisor.
unsafe fn take_identity(identity: &RawIdentity) -> Result<(), Failure> {
    // SAFETY: raw system calls on the child's own credentials; `groups` points to `group_count` ids.
    unsafe {
        if libc::syscall(libc::SYS_getuid) == libc::c_long::from(identity.uid) {
            return Ok(());
        }
        check(Step::Setgroups, libc::syscall(libc::SYS_setgroups, identity.group_count, identity.groups))?;
        check(Step::Setgid, libc::syscall(libc::SYS_setgid, identity.gid))?;
        check(Step::Setuid, libc::syscall(libc::SYS_setuid, identity.uid))
    }
}

/// Takes the result of a system call apart.
fn check(step: Step, result: libc::c_long) -> Result<(), Failure> {
    if result >= 0 {
        return Ok(());
    }
    // SAFETY: the address is that of the calling thread's `errno`; a child that shares memory uses the one of its
    // parent's thread, which is suspended.
    Err((step, unsafe { *libc::__errno_location() }))
}
