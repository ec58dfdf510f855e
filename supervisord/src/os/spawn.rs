//! Starting a child: what to start ([`SpawnPlan`]), how ([`Spawner`]), and which step failed ([`SpawnFailure`]).
//!
//! The usual method is `clone(CLONE_VM|CLONE_VFORK|CLONE_FILES|CLONE_PIDFD)`: its cost depends neither on the daemon's
//! size nor on the number of its descriptors, it returns a pidfd without a race, and the child reports a failed step
//! through the memory which it shares. `fork` with an error pipe stands beside it for places where that is refused.
//! What the child itself does is in `child.rs`.

#![allow(unsafe_code, reason = "clone, fork and mmap")]

use std::ffi::{CStr, CString, c_char, c_void};
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::unistd::Pid;

use super::child::{ChildTask, RawIdentity, changed_signals, own_descriptors, set_signal_mask};

/// Bytes of the stack on which a `clone`d child runs until `execve`.
const STACK_SIZE: usize = 64 * 1024;
const CLONE_FLAGS: i32 =
    libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES | libc::CLONE_PIDFD | libc::SIGCHLD;
/// Exit status of a child that could not become its program; nobody sees it, since `spawn` reaps such a child.
const NOT_SPAWNED: i32 = 127;

/// Whose rights a child takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The user.
    pub uid: u32,
    /// The user's primary group.
    pub gid: u32,
    /// All supplementary groups, see [`super::users::groups_of`].
    pub groups: Vec<u32>,
}

/// Limit of open files (`RLIMIT_NOFILE`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenFiles {
    /// What binds the process.
    pub soft: u64,
    /// Up to where it may raise that itself.
    pub hard: u64,
}

/// One child to be: everything is resolved and allocated before the child exists.
#[derive(Debug)]
pub struct SpawnPlan<'fd> {
    /// The file to execute; if relative, then to `directory`.
    pub executable: CString,
    /// The arguments, the program's own name first.
    pub argv: Vec<CString>,
    /// The whole environment, each as `NAME=value`.
    pub envp: Vec<Arc<CStr>>,
    /// Working directory; the daemon's if none.
    pub directory: Option<CString>,
    /// File mode creation mask; the daemon's if none.
    pub umask: Option<u32>,
    /// Limit of open files; the daemon's if none.
    pub open_files: Option<OpenFiles>,
    /// The user to become; the daemon's if none. Ignored when the daemon is that user already.
    pub identity: Option<Identity>,
    /// Becomes descriptor 0.
    pub stdin: BorrowedFd<'fd>,
    /// Becomes descriptor 1.
    pub stdout: BorrowedFd<'fd>,
    /// Becomes descriptor 2; may be the same as `stdout`.
    pub stderr: BorrowedFd<'fd>,
}

/// A child that has become its program.
#[derive(Debug)]
pub struct Child {
    /// Its process id, and that of its process group.
    pub pid: Pid,
    /// A handle that never means another process; none where a sandbox forbids `pidfd_open`.
    pub pidfd: Option<OwnedFd>,
}

/// What a [`SpawnFailure`] is about: where a user has to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The `command`.
    Executable,
    /// The `directory`.
    Directory,
    /// The `user`.
    User,
    /// A resource of the machine or of the daemon.
    System,
}

/// The steps from the call to the running program, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
pub enum Step {
    /// The error pipe of the `fork` method.
    Pipe = 1,
    /// Making a process.
    Fork,
    /// Its process group.
    Setpgid,
    /// Its descriptors 0, 1 and 2.
    Dup,
    /// Its supplementary groups.
    Setgroups,
    /// Its group.
    Setgid,
    /// Its user.
    Setuid,
    /// Its directory.
    Chdir,
    /// The program.
    Exec,
}

impl Step {
    const ALL: [Self; 9] = [
        Self::Pipe,
        Self::Fork,
        Self::Setpgid,
        Self::Dup,
        Self::Setgroups,
        Self::Setgid,
        Self::Setuid,
        Self::Chdir,
        Self::Exec,
    ];

    /// The step's name: that of the system call, as users know it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pipe => "pipe",
            Self::Fork => "fork",
            Self::Setpgid => "setpgid",
            Self::Dup => "dup",
            Self::Setgroups => "setgroups",
            Self::Setgid => "setgid",
            Self::Setuid => "setuid",
            Self::Chdir => "chdir",
            Self::Exec => "exec",
        }
    }

    /// What the step is about.
    pub fn subject(self) -> Subject {
        match self {
            Self::Pipe | Self::Fork | Self::Setpgid | Self::Dup => Subject::System,
            Self::Setgroups | Self::Setgid | Self::Setuid => Subject::User,
            Self::Chdir => Subject::Directory,
            Self::Exec => Subject::Executable,
        }
    }

    fn from_number(number: i32) -> Option<Self> {
        Self::ALL.into_iter().find(|step| *step as i32 == number)
    }
}

/// Why there is no child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("couldn't {}: {errno:?} ({})", step.name(), errno.desc())]
pub struct SpawnFailure {
    /// The step that failed.
    pub step: Step,
    /// Its error.
    pub errno: Errno,
}

/// How a child is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `clone` in shared memory.
    Clone,
    /// Plain `fork`.
    Fork,
}

/// Makes children. One per daemon, used by one thread at a time.
#[derive(Debug)]
pub struct Spawner {
    /// Present with [`Method::Clone`] only.
    clone: Option<(Stack, Tray)>,
    /// What a child has to undo, found with the first one: all handlers have to be installed by then.
    changed_signals: Option<u64>,
}

impl Spawner {
    /// Chooses the best method that works here, by trying it.
    pub fn probe() -> Self {
        let clone = match (Stack::new(), Tray::new()) {
            (Ok(stack), Ok(tray)) if clone_works(&stack) => Some((stack, tray)),
            (Ok(_) | Err(_), _) => None,
        };
        Self { clone, changed_signals: None }
    }

    /// Uses `method` whether it works here or not.
    ///
    /// # Errors
    /// When there is no memory for the child's stack, or there are no descriptors left.
    pub fn with_method(method: Method) -> io::Result<Self> {
        let clone = match method {
            Method::Clone => Some((Stack::new()?, Tray::new()?)),
            Method::Fork => None,
        };
        Ok(Self { clone, changed_signals: None })
    }

    /// The method in use.
    pub fn method(&self) -> Method {
        if self.clone.is_some() { Method::Clone } else { Method::Fork }
    }

    /// Makes one child and returns when it has become its program.
    ///
    /// # Errors
    /// The step that failed; then no process is left, not even a zombie.
    pub fn spawn(&mut self, plan: &SpawnPlan<'_>) -> Result<Child, SpawnFailure> {
        let argv = pointers(plan.argv.iter().map(CString::as_ref));
        let envp = pointers(plan.envp.iter().map(Arc::as_ref));
        let mut task = task_of(plan, &argv, &envp);
        task.changed_signals = *self.changed_signals.get_or_insert_with(changed_signals);
        // A process that changes its user becomes undumpable, and that mark belongs to the memory, which is shared.
        let dumpable = plan.identity.as_ref().map(|_| Dumpable::remember());
        let result = match &mut self.clone {
            Some((stack, tray)) => tray.lend(plan, &mut task, |task| spawn_by_clone(stack, task)),
            None => spawn_by_fork(&task),
        };
        drop(dumpable);
        result
    }
}

fn task_of(plan: &SpawnPlan<'_>, argv: &[*const c_char], envp: &[*const c_char]) -> ChildTask {
    ChildTask {
        executable: plan.executable.as_ptr(),
        argv: argv.as_ptr(),
        envp: envp.as_ptr(),
        directory: plan.directory.as_ref().map_or(std::ptr::null(), |directory| directory.as_ptr()),
        umask: plan.umask,
        open_files: plan.open_files.map(|limit| [limit.soft, limit.hard]),
        identity: plan.identity.as_ref().map(|identity| RawIdentity {
            uid: identity.uid,
            gid: identity.gid,
            groups: identity.groups.as_ptr(),
            group_count: identity.groups.len(),
        }),
        stdio: [plan.stdin.as_raw_fd(), plan.stdout.as_raw_fd(), plan.stderr.as_raw_fd()],
        shared_beyond: None,
        changed_signals: 0,
        failed_step: AtomicI32::new(0),
        failed_errno: AtomicI32::new(0),
    }
}

/// The null-terminated array that `execve` takes.
fn pointers<'a>(strings: impl Iterator<Item = &'a CStr>) -> Vec<*const c_char> {
    strings.map(CStr::as_ptr).chain([std::ptr::null()]).collect()
}

fn spawn_by_clone(stack: &Stack, task: &ChildTask) -> Result<Child, SpawnFailure> {
    extern "C" fn child_main(task: *mut c_void) -> i32 {
        // SAFETY: `task` is the reference given to `clone_child`, whose owner is suspended until this process has
        // called `execve` or has ended; the parent blocked all signals.
        unsafe { (*task.cast::<ChildTask>().cast_const()).run() };
        NOT_SPAWNED
    }
    let child = clone_child(stack, child_main, std::ptr::from_ref(task).cast_mut().cast())
        .map_err(|errno| SpawnFailure { step: Step::Fork, errno })?;
    settle(child, task.failed_step.load(Ordering::Acquire), task.failed_errno.load(Ordering::Relaxed))
}

/// Runs `entry` in a child that shares our memory and our descriptors; returns when it has called `execve` or has ended.
fn clone_child(
    stack: &Stack,
    entry: extern "C" fn(*mut c_void) -> i32,
    argument: *mut c_void,
) -> nix::Result<Child> {
    let mut pidfd: i32 = -1;
    let pidfd_address: *mut i32 = &mut pidfd;
    let old_mask = set_signal_mask(u64::MAX);
    // SAFETY: the child runs on its own stack; CLONE_VFORK suspends this thread, and with it all that the child
    // borrows, until the child is done with our memory. What `entry` may do there is its own contract.
    let pid = Errno::result(unsafe { libc::clone(entry, stack.top(), CLONE_FLAGS, argument, pidfd_address) });
    set_signal_mask(old_mask);
    let pid = Pid::from_raw(pid?);
    // SAFETY: the kernel has just opened it for us.
    let pidfd = (pidfd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(pidfd) });
    Ok(Child { pid, pidfd })
}

/// Whether `clone` is allowed here and really shares the memory, which an emulator may not do, and whether a child
/// can have descriptors of its own then, which a sandbox may refuse.
fn clone_works(stack: &Stack) -> bool {
    extern "C" fn leave_mark(mark: *mut c_void) -> i32 {
        // SAFETY: this is a new process, whose descriptors are still those of its parent.
        if unsafe { own_descriptors(2) }.is_ok() {
            // SAFETY: `mark` is the address of an AtomicI32 that outlives this child.
            unsafe { &*mark.cast::<AtomicI32>().cast_const() }.store(1, Ordering::Release);
        }
        0
    }
    let mark = AtomicI32::new(0);
    match clone_child(stack, leave_mark, std::ptr::from_ref(&mark).cast_mut().cast()) {
        Ok(child) => {
            wait_for(child.pid);
            child.pidfd.is_some() && mark.load(Ordering::Acquire) == 1
        }
        Err(_) => false,
    }
}

fn spawn_by_fork(task: &ChildTask) -> Result<Child, SpawnFailure> {
    let (read, write) = error_pipe().map_err(|errno| SpawnFailure { step: Step::Pipe, errno })?;
    let old_mask = set_signal_mask(u64::MAX);
    // SAFETY: the child does nothing but raw system calls until it is another program or has ended.
    let forked = Errno::result(unsafe { libc::fork() });
    if forked == Ok(0) {
        // SAFETY: this is the new process, and every signal is blocked.
        unsafe {
            task.run();
            let report =
                [task.failed_step.load(Ordering::Relaxed), task.failed_errno.load(Ordering::Relaxed)];
            libc::syscall(libc::SYS_write, write.as_raw_fd(), report.as_ptr(), size_of_val(&report));
            libc::_exit(NOT_SPAWNED)
        }
    }
    set_signal_mask(old_mask);
    drop(write);
    let pid = Pid::from_raw(forked.map_err(|errno| SpawnFailure { step: Step::Fork, errno })?);
    let mut report = Vec::with_capacity(8);
    // The end of file comes with `execve`. An error here would mean a broken pipe implementation: then the child's
    // exit status tells what happened.
    let _ = fs::File::from(read).read_to_end(&mut report);
    let word =
        |at: usize| report.get(at..at + 4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes);
    settle(Child { pid, pidfd: open_pidfd(pid) }, word(0), word(4))
}

/// A pipe above the numbers that the child is going to overwrite.
fn error_pipe() -> nix::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    Ok((read, above_stdio(write)?))
}

/// `fd`, or a copy of it with a number above 2.
fn above_stdio(fd: OwnedFd) -> nix::Result<OwnedFd> {
    if fd.as_raw_fd() > 2 { Ok(fd) } else { Ok(rustix::io::fcntl_dupfd_cloexec(&fd, 3).map_err(errno_of)?) }
}

fn errno_of(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}

/// A pidfd of a process that cannot be reaped meanwhile, or none where that is forbidden.
pub fn open_pidfd(pid: Pid) -> Option<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid.as_raw())?;
    rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).ok()
}

/// The child, or the failure it reported, after its zombie is gone.
fn settle(child: Child, step: i32, errno: i32) -> Result<Child, SpawnFailure> {
    let Some(step) = Step::from_number(step) else { return Ok(child) };
    wait_for(child.pid);
    Err(SpawnFailure { step, errno: Errno::from_raw(errno) })
}

/// Waits for a child that is about to end by itself, and forgets it.
fn wait_for(pid: Pid) {
    // SAFETY: all zero is a valid siginfo_t.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    loop {
        // SAFETY: `info` outlives the call.
        let result =
            unsafe { libc::waitid(libc::P_PID, pid.as_raw() as libc::id_t, &mut info, libc::WEXITED) };
        // ECHILD: SIGCHLD is ignored, so the kernel has reaped it.
        if Errno::result(result) != Err(Errno::EINTR) {
            return;
        }
    }
}

/// Restores our own "may be dumped and inspected" mark when dropped.
struct Dumpable(i32);

impl Dumpable {
    fn remember() -> Self {
        // SAFETY: only asks.
        Self(unsafe { libc::prctl(libc::PR_GET_DUMPABLE) })
    }
}

impl Drop for Dumpable {
    fn drop(&mut self) {
        // Only 0 and 1 can be set; 2 is what the kernel sets itself.
        if self.0 == 1 {
            // SAFETY: sets a flag of our own process.
            unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0) };
        }
    }
}

/// Three descriptors with low numbers that hand stdin, stdout and stderr to a child.
///
/// A child that copied our descriptors would pay for each of them twice, when it is made and when it executes: with
/// thousands open, many times what all the rest costs. Instead it shares them until it takes a copy of the lowest ones.
#[derive(Debug)]
struct Tray {
    places: [OwnedFd; 3],
    /// Lies in the places while no child is being made, so that they stay ours and hold no pipe open.
    nothing: fs::File,
}

impl Tray {
    fn new() -> io::Result<Self> {
        let nothing = fs::File::open("/dev/null")?;
        let place = || rustix::io::fcntl_dupfd_cloexec(&nothing, 3);
        Ok(Self { places: [place()?, place()?, place()?], nothing })
    }

    /// Makes a child with `make` while the descriptors of `plan` are in the places.
    fn lend(
        &mut self,
        plan: &SpawnPlan<'_>,
        task: &mut ChildTask,
        make: impl FnOnce(&ChildTask) -> Result<Child, SpawnFailure>,
    ) -> Result<Child, SpawnFailure> {
        let flags = rustix::io::DupFlags::CLOEXEC;
        for (place, lent) in self.places.iter_mut().zip([plan.stdin, plan.stdout, plan.stderr]) {
            rustix::io::dup3(lent, place, flags)
                .map_err(|error| SpawnFailure { step: Step::Dup, errno: errno_of(error) })?;
        }
        task.stdio = self.places.each_ref().map(AsRawFd::as_raw_fd);
        task.shared_beyond = task.stdio.into_iter().max();
        let result = make(task);
        for place in &mut self.places {
            // Both are open, so this cannot fail.
            let _ = rustix::io::dup3(&self.nothing, place, flags);
        }
        result
    }
}

/// The memory on which `clone`d children run, one after the other, with a guard page below it.
#[derive(Debug)]
struct Stack {
    base: *mut c_void,
    size: usize,
}

// SAFETY: plain memory that nothing but its owner uses.
unsafe impl Send for Stack {}

impl Stack {
    fn new() -> io::Result<Self> {
        // SAFETY: only asks.
        let guard =
            usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).map_err(io::Error::other)?;
        let size = STACK_SIZE + guard;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK;
        // SAFETY: a new mapping at a place of the kernel's choice.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), size, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self { base, size };
        // SAFETY: the lowest page of our own mapping, which nobody uses yet.
        Errno::result(unsafe { libc::mprotect(base, guard, libc::PROT_NONE) })?;
        Ok(stack)
    }

    /// One past the highest address: where the stack begins.
    fn top(&self) -> *mut c_void {
        self.base.wrapping_byte_add(self.size)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: our own mapping; no child uses it, since each is waited for.
        unsafe { libc::munmap(self.base, self.size) };
    }
}

/// Marks every open descriptor above 2 as close-on-exec and returns how many were not. To be called once at start:
/// what we open ourselves carries the mark from birth, but what the launching shell left open does not.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn mark_inherited_cloexec() -> io::Result<usize> {
    let mut numbers: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|number| *number > 2)
        .collect();
    numbers.sort_unstable();
    let mut marked = 0;
    for number in numbers {
        // SAFETY: flags only. The one descriptor of the list that is closed by now is that of the listing itself; the
        // caller has no other threads yet, so the number is not in use again.
        let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
        if flags >= 0 && flags & libc::FD_CLOEXEC == 0 {
            // SAFETY: as above.
            unsafe { libc::fcntl(number, libc::F_SETFD, flags | libc::FD_CLOEXEC) };
            marked += 1;
        }
    }
    Ok(marked)
}
