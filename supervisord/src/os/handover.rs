//! Replacing the program of this process: a file in memory for what the next program must know, descriptors that
//! stay open, signals that wait, and `execve` itself.
//!
//! Pid, children, working directory, umask, locks and pending signals stay as they are. Handlers and other threads do
//! not; everything with the mark close-on-exec is closed.

#![allow(
    unsafe_code,
    reason = "descriptors known by number alone, and execve, which std offers only to children"
)]

use std::{
    ffi::{CStr, CString, c_char},
    fs::File,
    io::{self, Read as _, Seek as _, Write as _},
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
};

use nix::errno::Errno;
use rustix::{
    fs::MemfdFlags,
    io::{FdFlags, fcntl_getfd, fcntl_setfd},
};

use super::child::set_signal_mask;

/// A set with every signal.
const ALL_SIGNALS: u64 = u64::MAX;

/// Most that is read of a state: far above what ten thousand programs take.
const MOST: u64 = 1 << 30;

/// A file in memory that holds `content`, to be read from its beginning. Close-on-exec.
///
/// # Errors
/// When there is no memory or descriptor for it.
pub fn memory_file(content: &[u8]) -> io::Result<File> {
    let mut file = File::from(rustix::fs::memfd_create("supervisord-state", MemfdFlags::CLOEXEC)?);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

/// The whole content of an open file, from its beginning.
///
/// # Errors
/// Those of reading; `InvalidData` when there is more than any daemon writes.
pub fn read_whole(mut file: File) -> io::Result<Vec<u8>> {
    file.rewind()?;
    let mut content = Vec::new();
    if file.take(MOST).read_to_end(&mut content)? as u64 == MOST {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(content)
}

/// Descriptors that are to survive an `execve`. They keep their marks until then.
#[derive(Debug, Default)]
pub struct Inherited<'a>(Vec<BorrowedFd<'a>>);

impl<'a> Inherited<'a> {
    /// Lets `fd` survive; the number under which the next program finds it.
    pub fn add(&mut self, fd: BorrowedFd<'a>) -> RawFd {
        self.0.push(fd);
        fd.as_raw_fd()
    }

    /// Takes the mark close-on-exec off all of them.
    fn expose(&self) -> io::Result<()> {
        self.0.iter().try_for_each(|fd| Ok(fcntl_setfd(fd, FdFlags::empty())?))
    }

    fn hide(&self) {
        for fd in &self.0 {
            // An open descriptor takes the flag.
            let _ = fcntl_setfd(fd, FdFlags::CLOEXEC);
        }
    }
}

/// Takes over a descriptor that the program before this one left open under `number`; it is close-on-exec from now on.
///
/// # Errors
/// When nothing is open there, or it is one of the standard descriptors.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    if number < 3 {
        return Err(io::Error::from(Errno::EBADF));
    }
    // SAFETY: only asks, and sets a flag, while the number is checked to be open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = fcntl_getfd(borrowed)?;
    if flags.contains(FdFlags::CLOEXEC) {
        // What was handed over is not marked: this number is ours already, and has an owner.
        return Err(io::Error::from(Errno::EBADF));
    }
    fcntl_setfd(borrowed, FdFlags::CLOEXEC)?;
    // SAFETY: open, as just seen, and without an owner in this program: those have the mark, and it is set now.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Numbers above 2 that are open and not close-on-exec: what the program before this one left open for us, as long as
/// nothing else was opened without that mark.
///
/// # Errors
/// When `/proc` cannot be read.
pub fn open_unmarked() -> io::Result<Vec<RawFd>> {
    let names = std::fs::read_dir("/proc/self/fd")?;
    let numbers: Vec<RawFd> =
        names.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    let is_unmarked = |number: &RawFd| {
        // SAFETY: only asks for flags; for a number that is closed by now the answer is an error.
        let borrowed = unsafe { BorrowedFd::borrow_raw(*number) };
        fcntl_getfd(borrowed).is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC))
    };
    Ok(numbers.into_iter().filter(|number| *number > 2 && is_unmarked(number)).collect())
}

/// Keeps every signal waiting until [`release_signals`]; those that wait also outlive an `execve`.
pub fn hold_signals() {
    set_signal_mask(ALL_SIGNALS);
}

/// Lets all signals come.
pub fn release_signals() {
    set_signal_mask(0);
}

/// What to execute.
#[derive(Debug)]
pub enum Program<'a> {
    /// The file of this name.
    Path(&'a CStr),
    /// An open file.
    Open(BorrowedFd<'a>),
}

/// Becomes `program`; returns only when that fails. `inherited` stays open in the new program, other descriptors
/// follow their marks.
pub fn execute(
    program: &Program<'_>,
    argv: &[CString],
    envp: &[CString],
    inherited: &Inherited<'_>,
) -> io::Error {
    if let Err(error) = inherited.expose() {
        inherited.hide();
        return error;
    }
    let (argv, envp) = (pointers(argv), pointers(envp));
    let (directory, path, flags) = match program {
        Program::Path(path) => (libc::AT_FDCWD, path.as_ptr(), 0),
        Program::Open(file) => (file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH),
    };
    // SAFETY: all pointers are to null-terminated strings and arrays of them, which outlive the call.
    unsafe { libc::syscall(libc::SYS_execveat, directory, path, argv.as_ptr(), envp.as_ptr(), flags) };
    let error = io::Error::last_os_error();
    inherited.hide();
    error
}

/// The null-terminated array that `execve` takes.
fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    #[test]
    fn a_memory_file_gives_back_what_was_put_in() {
        let file = memory_file(b"state").unwrap();
        assert!(fcntl_getfd(&file).unwrap().contains(FdFlags::CLOEXEC));
        assert_eq!(read_whole(file).unwrap(), b"state");
    }

    #[test]
    fn what_was_not_handed_over_is_not_taken() {
        assert!(take(0).is_err() && take(2).is_err());
        let file = memory_file(b"").unwrap();
        assert!(take(file.as_raw_fd()).is_err(), "it has an owner");
        assert!(take(1_000_000).is_err());
    }

    #[test]
    fn descriptors_are_exposed_only_for_the_call_and_a_failed_call_returns_its_error() {
        let file = memory_file(b"kept").unwrap();
        let mut inherited = Inherited::default();
        let number = inherited.add(file.as_fd());
        let error = execute(&Program::Path(c"/nonexistent/program"), &[], &[], &inherited);
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(fcntl_getfd(&file).unwrap().contains(FdFlags::CLOEXEC));
        assert_eq!(number, file.as_raw_fd());
    }
}
