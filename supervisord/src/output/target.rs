//! What a log path leads to: a file of our own, one of the daemon's inherited descriptors, or another thing that can
//! be written to (device, FIFO). Writing to any of them never blocks.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::net::SendFlags;
use rustix::process::{PidfdFlags, PidfdGetfdFlags};

use super::writer::RotatingFile;

/// An opened log target.
#[derive(Debug)]
pub(crate) enum Target {
    /// A regular file: rotated, reopened, spliced into.
    File(RotatingFile),
    /// Anything else: written to as it is, never sought in or rotated, whatever `maxbytes` says.
    Stream(Stream),
}

/// A target that is no file of ours.
#[derive(Debug)]
pub(crate) struct Stream {
    fd: OwnedFd,
    kind: Kind,
    /// Bytes written at a time: what a pipe takes whole or not at all (source: pipe(7)), so that lines of several programs
    /// are not mixed in it.
    most: usize,
}

/// How to write without blocking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// `write` does not block: our own non-blocking description, or a regular file.
    Plain,
    /// A socket shared with others: `MSG_DONTWAIT`.
    Socket,
    /// A pipe or terminal shared with others, which could not be opened anew: poll before each write.
    Shared,
}

impl Target {
    /// Opens `path` for appending.
    pub(crate) fn open(path: &Path, mode: u32, maxbytes: u64, backups: u32) -> io::Result<Self> {
        if let Some(number) = inherited(path, std::process::id) {
            return Stream::inherit(number).map(Self::Stream);
        }
        match std::fs::metadata(path) {
            Ok(meta) if !meta.is_file() => Stream::open(path, &meta.file_type()).map(Self::Stream),
            Ok(_) | Err(_) => RotatingFile::open(path, mode, maxbytes, backups).map(Self::File),
        }
    }

    /// Writes a part of it; `WouldBlock` when the target takes nothing now.
    pub(crate) fn write_some(&mut self, data: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write_some(data),
            Self::Stream(stream) => stream.write_some(data),
        }
    }

    /// The same for whole lines; a file is rotated as if each were written by itself.
    pub(crate) fn write_lines(&mut self, lines: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write_lines(lines),
            Self::Stream(stream) => stream.write_some(lines),
        }
    }
}

impl Stream {
    /// Takes over a descriptor which the daemon was started with. Opening its path anew would fail for sockets, and for
    /// pipes and terminals of another user.
    fn inherit(number: i32) -> io::Result<Self> {
        let fd = duplicate(number)?;
        let file_type = FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode);
        let most = if file_type == FileType::Fifo { rustix::pipe::PIPE_BUF } else { usize::MAX };
        let (kind, most) = match file_type {
            FileType::Socket => (Kind::Socket, most),
            FileType::RegularFile | FileType::BlockDevice => (Kind::Plain, most),
            FileType::Fifo
            | FileType::CharacterDevice
            | FileType::Directory
            | FileType::Symlink
            | FileType::Unknown => {
                // O_NONBLOCK belongs to the description, which others share: try for one of our own.
                let own = format!("/proc/self/fd/{}", rustix::fd::AsRawFd::as_raw_fd(&fd));
                match rustix::fs::open(
                    own,
                    OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
                    Mode::empty(),
                ) {
                    Ok(fd) => return Ok(Self { fd, kind: Kind::Plain, most }),
                    Err(_) if file_type == FileType::Fifo => (Kind::Shared, most),
                    Err(_) => (Kind::Shared, 256),
                }
            }
        };
        Ok(Self { fd, kind, most })
    }

    fn open(path: &Path, file_type: &std::fs::FileType) -> io::Result<Self> {
        // A FIFO without a reader cannot be opened for writing only; data waits in it until one comes.
        let access = if file_type.is_fifo() { OFlags::RDWR } else { OFlags::WRONLY };
        let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let most = if file_type.is_fifo() { rustix::pipe::PIPE_BUF } else { usize::MAX };
        Ok(Self { fd: rustix::fs::open(path, flags, Mode::empty())?, kind: Kind::Plain, most })
    }

    fn write_some(&self, data: &[u8]) -> io::Result<usize> {
        let data = whole_lines(data, self.most);
        match self.kind {
            Kind::Plain => Ok(rustix::io::write(&self.fd, data)?),
            Kind::Socket => Ok(rustix::net::send(&self.fd, data, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)?),
            Kind::Shared => {
                let mut polled = [PollFd::new(&self.fd, PollFlags::OUT)];
                if rustix::event::poll(&mut polled, Some(&Timespec::default()))? == 0 {
                    return Err(io::ErrorKind::WouldBlock.into());
                }
                Ok(rustix::io::write(&self.fd, data)?)
            }
        }
    }
}

/// At most so many bytes from the beginning, up to the end of a line if one ends there.
fn whole_lines(data: &[u8], most: usize) -> &[u8] {
    match data.get(..most) {
        None => data,
        Some(part) => {
            let end = part.iter().rposition(|byte| *byte == b'\n').map_or(most, |at| at + 1);
            &part[..end]
        }
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Opens a log to be read. One that is a FIFO cannot be: what is taken out of it, nobody else would get.
///
/// # Errors
/// Those of `open`.
pub(super) fn open_to_read(path: &Path) -> io::Result<File> {
    // Or the open would wait for whoever writes to it, and everybody for us.
    let file = OpenOptions::new().read(true).custom_flags(WITHOUT_WAITING).open(path)?;
    match file.metadata()?.file_type().is_fifo() {
        true => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is a FIFO, which cannot be read twice")),
        false => Ok(file),
    }
}

/// Flags of `open` by which it never waits, and takes no terminal.
pub(super) const WITHOUT_WAITING: i32 = libc::O_NONBLOCK | libc::O_NOCTTY;

/// The number of the daemon's own descriptor that this path means, if it means one.
fn inherited(path: &Path, pid: impl FnOnce() -> u32) -> Option<i32> {
    let path = path.to_str()?;
    let number = match path {
        "/dev/stdout" => return Some(1),
        "/dev/stderr" => return Some(2),
        _ => path
            .strip_prefix("/dev/fd/")
            .or_else(|| path.strip_prefix("/proc/self/fd/"))
            .or_else(|| path.strip_prefix("/proc/")?.strip_prefix(&format!("{}/fd/", pid())))?,
    };
    number.parse().ok().filter(|number| *number >= 0)
}

fn duplicate(number: i32) -> io::Result<OwnedFd> {
    let copy = match number {
        0 => rustix::io::fcntl_dupfd_cloexec(io::stdin(), 3),
        1 => rustix::io::fcntl_dupfd_cloexec(io::stdout(), 3),
        2 => rustix::io::fcntl_dupfd_cloexec(io::stderr(), 3),
        other => rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())
            .and_then(|own| rustix::process::pidfd_getfd(own, other, PidfdGetfdFlags::empty())),
    };
    Ok(copy?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_mean_an_inherited_descriptor() {
        for (path, number) in [
            ("/dev/stdout", Some(1)),
            ("/dev/stderr", Some(2)),
            ("/dev/fd/7", Some(7)),
            ("/proc/self/fd/1", Some(1)),
            ("/proc/42/fd/1", Some(1)),
            ("/proc/43/fd/1", None),
            ("/dev/fd/x", None),
            ("/var/log/a", None),
        ] {
            assert_eq!(inherited(Path::new(path), || 42), number, "{path}");
        }
    }
}
