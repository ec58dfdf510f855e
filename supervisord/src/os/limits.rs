//! `minfds` and `minprocs`: raising our own resource limits at start; children inherit them. And our place among others.

use std::os::fd::{AsFd, AsRawFd as _};

use super::spawn::OpenFiles;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// A limit that the configuration can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Open files: `minfds`.
    Files,
    /// Processes of the user: `minprocs`.
    Processes,
}

impl Limit {
    /// The kernel's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Files => "RLIMIT_NOFILE",
            Self::Processes => "RLIMIT_NPROC",
        }
    }

    fn resource(self) -> Resource {
        match self {
            Self::Files => Resource::RLIMIT_NOFILE,
            Self::Processes => Resource::RLIMIT_NPROC,
        }
    }
}

/// What [`raise`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Raised {
    /// Nothing: the limit was high enough.
    No,
    /// The limit is now what was asked for. Supervisor logs `Increased RLIMIT_NOFILE limit to N`.
    To(u64),
}

/// A limit that was not granted. The text is Supervisor's, which ends there; a container often cannot grant it and
/// works nevertheless, so the caller may warn and go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitError {
    /// Which limit.
    pub limit: Limit,
    /// What was asked for.
    pub wanted: u64,
    /// The limit as it is now: the soft limit was raised as far as it goes.
    pub granted: u64,
    /// The kernel's answer.
    pub errno: Errno,
}

impl std::error::Error for LimitError {}

impl std::fmt::Display for LimitError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { wanted, granted, .. } = self;
        match self.limit {
            Limit::Files => write!(
                f,
                "The minimum number of file descriptors required to run this process is {wanted} as per the \"minfds\" \
                 command-line argument or config file setting. The current environment will only allow you to open \
                 {granted} file descriptors.  Either raise the number of usable file descriptors in your environment \
                 (see README.rst) or lower the minfds setting in the config file to allow the process to start."
            ),
            Limit::Processes => write!(
                f,
                "The minimum number of available processes required to run this program is {wanted} as per the \
                 \"minprocs\" command-line argument or config file setting. The current environment will only allow \
                 you to open {granted} processes.  Either raise the number of usable processes in your environment \
                 (see README.rst) or lower the minprocs setting in the config file to allow the program to start."
            ),
        }
    }
}

/// Raises the soft limit to at least `wanted`, and the hard one too if it is lower, which only root may.
///
/// # Errors
/// When that is not granted; the soft limit is then as high as the hard one.
pub fn raise(limit: Limit, wanted: u64) -> Result<Raised, LimitError> {
    let refused = |granted, errno| LimitError { limit, wanted, granted, errno };
    let (soft, hard) = getrlimit(limit.resource()).map_err(|errno| refused(0, errno))?;
    // "Unlimited" is the largest number.
    if soft >= wanted {
        return Ok(Raised::No);
    }
    match setrlimit(limit.resource(), wanted, hard.max(wanted)) {
        Ok(()) => Ok(Raised::To(wanted)),
        Err(errno) => {
            let most = hard.min(wanted);
            let granted = setrlimit(limit.resource(), most, hard).map_or(soft, |()| most);
            Err(refused(granted, errno))
        }
    }
}

/// From now on this process is run like others, but takes nobody's place when it wakes up: a child that was just made is
/// not to wait because somebody is told of it.
#[allow(unsafe_code, reason = "neither wrapper has the call")]
pub fn never_preempt() {
    // SAFETY: all zero is a valid parameter, and the only one for this policy.
    let parameter: libc::sched_param = unsafe { std::mem::zeroed() };
    // SAFETY: about this process alone, with a pointer to a live value. A sandbox that refuses it does no harm.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_BATCH, &parameter) };
}

/// Descriptors that programs may not take: with them the daemon answers clients and rotates logs.
const RESERVE: u64 = 64;

/// Whether another program may take descriptors. `any` is an open one, which is duplicated for a moment: the kernel
/// gives the lowest free number.
pub fn has_room_for_program(any: impl AsFd) -> bool {
    let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return true };
    let lowest = rustix::io::fcntl_dupfd_cloexec(any, 0);
    lowest.is_ok_and(|fd| u64::from(fd.as_raw_fd().unsigned_abs()) < soft - RESERVE.min(soft / 4))
}

/// Connections to serve at once: at most `most`, and not so many that clients take the descriptors of programs.
pub fn connections(most: usize) -> usize {
    let share = getrlimit(Resource::RLIMIT_NOFILE).map_or(u64::MAX, |(_, hard)| hard / 8);
    usize::try_from(share).map_or(most, |share| share.clamp(1, most))
}

/// Raises the daemon's own soft limit of open files to the hard one: it needs some for each program, whatever the
/// programs shall have. Returns the limit that it had, which is what children are to get.
///
/// # Errors
/// When the limit cannot be read.
pub fn raise_own_files() -> nix::Result<OpenFiles> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    // Raising the soft limit up to the hard one is always granted.
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(OpenFiles { soft, hard })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn enough_is_left_alone() {
        let before = getrlimit(Resource::RLIMIT_NOFILE).expect("known");
        assert_eq!(raise(Limit::Files, 1), Ok(Raised::No));
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE), Ok(before));
    }

    #[test]
    fn more_files_than_any_kernel_grants_is_refused_in_supervisors_words() {
        // Beyond fs.nr_open (at most 2^31), which binds root too.
        let error = raise(Limit::Files, 1 << 40).expect_err("too many");
        assert_eq!(error.errno, Errno::EPERM);
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("known");
        assert_eq!((error.granted, soft), (hard, hard), "as far as it goes");
        let text = error.to_string();
        assert!(text.starts_with(
            "The minimum number of file descriptors required to run this process is 1099511627776 as"
        ));
        assert!(text.contains(&format!(" to open {hard} file descriptors.  Either raise ")), "{text}");
    }

    #[test]
    fn text_about_processes_is_supervisors() {
        let error = LimitError { limit: Limit::Processes, wanted: 200, granted: 100, errno: Errno::EPERM };
        assert_eq!(
            error.to_string(),
            "The minimum number of available processes required to run this program is 200 as per the \"minprocs\" \
             command-line argument or config file setting. The current environment will only allow you to open 100 \
             processes.  Either raise the number of usable processes in your environment (see README.rst) or lower \
             the minprocs setting in the config file to allow the program to start."
        );
    }
}
