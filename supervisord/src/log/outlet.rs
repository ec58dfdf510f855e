//! One place that log lines go to, and what happens when it takes none.

use std::{
    collections::VecDeque,
    io::{self, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use crate::output::{syslog::Syslog, target::Target, writer::Notice};

/// Bytes kept while an outlet takes none; what comes later is dropped.
const KEPT: usize = 256 * 1024;

/// Mode of a log file that is created, less the umask.
const MODE: u32 = 0o666;

/// One place that lines go to.
#[derive(Debug)]
pub(super) struct Outlet {
    kind: Kind,
    /// Accepted, not yet written; complete lines but for the first.
    pending: VecDeque<u8>,
    lost: u64,
    /// Whether the present trouble was told on stderr.
    told: bool,
}

/// What an outlet is.
#[derive(Debug)]
enum Kind {
    Target(Target),
    Syslog(Syslog),
    /// A file that could not be opened: each line tries again.
    Missing(Missing),
}

/// How a file is to be opened that could not be.
#[derive(Debug)]
struct Missing {
    path: PathBuf,
    maxbytes: u64,
    backups: u32,
}

impl Missing {
    fn open(&self) -> io::Result<Target> {
        Target::open(&self.path, MODE, self.maxbytes, self.backups)
    }
}

impl Outlet {
    /// A file, or whatever the path leads to.
    pub(super) fn file(path: &Path, maxbytes: u64, backups: u32) -> io::Result<Self> {
        Ok(Self::new(Kind::Target(Target::open(path, MODE, maxbytes, backups)?)))
    }

    /// The same for a daemon that has to go on even if it cannot be opened now.
    pub(super) fn file_or_missing(path: &Path, maxbytes: u64, backups: u32) -> Self {
        let missing = Missing { path: path.to_path_buf(), maxbytes, backups };
        Self::new(missing.open().map_or(Kind::Missing(missing), Kind::Target))
    }

    /// The system log.
    pub(super) fn syslog() -> Self {
        Self::new(Kind::Syslog(Syslog::new()))
    }

    /// An outlet with nothing pending.
    fn new(kind: Kind) -> Self {
        Self { kind, pending: VecDeque::new(), lost: 0, told: false }
    }

    /// Whether it leads to the same thing as stdout, so that nothing must be said twice.
    pub(super) fn is_stdout(&self) -> bool {
        let identity = match &self.kind {
            Kind::Target(Target::File(file)) => rustix::fs::fstat(file.as_fd()),
            Kind::Target(Target::Stream(stream)) => rustix::fs::fstat(stream.as_fd()),
            Kind::Syslog(_) | Kind::Missing(_) => return false,
        };
        match (identity, rustix::fs::fstat(io::stdout())) {
            (Ok(ours), Ok(stdout)) => (ours.st_dev, ours.st_ino) == (stdout.st_dev, stdout.st_ino),
            (Ok(_) | Err(_), _) => false,
        }
    }

    /// Takes a line (with its end), or drops it. To a file or descriptor it is written by [`Outlet::flush`].
    pub(super) fn add(&mut self, line: &[u8]) {
        match &mut self.kind {
            Kind::Syslog(syslog) => {
                for part in line.split(|byte| *byte == b'\n').filter(|part| !part.is_empty()) {
                    syslog.send(part);
                }
            }
            Kind::Target(_) | Kind::Missing(_) => self.keep(line),
        }
    }

    /// Writes what was added, as much as is taken now; the rest is kept.
    pub(super) fn flush(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        if let Kind::Missing(missing) = &self.kind
            && let Ok(target) = missing.open()
        {
            self.kind = Kind::Target(target);
        }
        match &mut self.kind {
            Kind::Missing(Missing { path, .. }) => {
                let trouble = format!("cannot open the log {}, will try again", path.display());
                self.tell(&trouble);
            }
            Kind::Syslog(_) => {}
            Kind::Target(target) => {
                match flush(target, &mut self.pending) {
                    Ok(()) => self.told = false,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => self.tell(&format!("cannot write the log: {error}")),
                }
                if let Some(notice) = take_notice(&mut self.kind) {
                    self.tell(&notice);
                }
            }
        }
    }

    /// Bytes that are not written yet.
    pub(super) fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Keeps a line until it can be written, while there is room.
    fn keep(&mut self, line: &[u8]) {
        if self.pending.len() + line.len() > KEPT {
            self.lost += 1;
        } else {
            self.pending.extend(line);
        }
    }

    /// Opens a file again; other outlets stay as they are.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        match &mut self.kind {
            Kind::Target(Target::File(file)) => file.reopen(),
            Kind::Missing(missing) => missing.open().map(|target| self.kind = Kind::Target(target)),
            Kind::Target(Target::Stream(_)) | Kind::Syslog(_) => Ok(()),
        }
    }

    /// Empties a file; `None` when it is none.
    pub(super) fn clear(&mut self) -> Option<io::Result<()>> {
        match &mut self.kind {
            Kind::Target(Target::File(file)) => Some(file.clear()),
            Kind::Target(Target::Stream(_)) | Kind::Syslog(_) | Kind::Missing(_) => None,
        }
    }

    /// Lines dropped so far.
    pub(super) fn lost(&self) -> u64 {
        match &self.kind {
            Kind::Target(_) | Kind::Missing(_) => self.lost,
            Kind::Syslog(syslog) => syslog.lost(),
        }
    }

    /// Says `trouble` on stderr, once until it is over.
    fn tell(&mut self, trouble: &str) {
        if !std::mem::replace(&mut self.told, true) {
            // The last resort: if stderr fails too, nobody can be told.
            drop(writeln!(io::stderr(), "supervisord: {trouble}"));
        }
    }
}

/// Writes as much of `pending` as is taken now.
fn flush(target: &mut Target, pending: &mut VecDeque<u8>) -> io::Result<()> {
    while !pending.is_empty() {
        let written = target.write_lines(pending.make_contiguous())?;
        pending.drain(..written);
    }
    Ok(())
}

/// What the user should hear about the last write. A log file that was deleted and is back needs no words.
fn take_notice(kind: &mut Kind) -> Option<String> {
    let Kind::Target(Target::File(file)) = kind else { return None };
    match file.take_notice()? {
        Notice::NotRotated(error) => {
            Some(format!("cannot rotate the log {}: {error}", file.path().display()))
        }
        Notice::Recreated | Notice::Rotated => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(outlet: &mut Outlet, line: &[u8]) {
        outlet.add(line);
        outlet.flush();
    }

    #[test]
    fn full_pipe_delays_lines_in_order_and_drops_only_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let mut outlet = Outlet::file(&path, 0, 0).unwrap();
        let line = [&[b'x'; 99][..], b"\n"].concat();
        while outlet.lost() == 0 {
            write(&mut outlet, &line);
        }
        let mut reader = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let mut buffer = vec![0; 64 * 1024];
        let first = io::Read::read(&mut reader, &mut buffer).unwrap();
        assert!(buffer[..first].chunks(100).all(|part| line.starts_with(part)));
        let kept = outlet.pending.len();
        outlet.flush();
        assert!(outlet.pending.len() < kept, "room in the pipe is used");
        assert_eq!(outlet.lost(), 1);
    }

    #[test]
    fn lines_that_were_gathered_are_rotated_as_if_each_were_written_by_itself() {
        let dir = tempfile::tempdir().unwrap();
        let files = |name: &str, is_gathered: bool| {
            let path = dir.path().join(name);
            let mut outlet = Outlet::file(&path, 100, 3).unwrap();
            for number in 0..30 {
                outlet.add(format!("{}\n", "x".repeat(number)).as_bytes());
                if !is_gathered || number == 20 {
                    outlet.flush();
                }
            }
            outlet.flush();
            let backup = |number: u32| dir.path().join(format!("{name}.{number}"));
            let paths = [path, backup(1), backup(2), backup(3), backup(4)];
            paths.map(|path| std::fs::read_to_string(path).ok())
        };
        let expected = files("one", false);
        assert!(expected[3].is_some() && expected[4].is_none());
        assert_eq!(files("many", true), expected);
    }

    #[test]
    fn full_disk_neither_panics_nor_fails_and_is_told_once() {
        let mut outlet = Outlet::file(Path::new("/dev/full"), 0, 0).unwrap();
        write(&mut outlet, b"one\n");
        assert!(outlet.told);
        write(&mut outlet, b"two\n");
        assert_eq!((outlet.pending.len(), outlet.lost()), (8, 0));
    }

    #[test]
    fn file_that_cannot_be_opened_gets_all_lines_when_it_can() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("not-yet/log");
        let mut outlet = Outlet::file_or_missing(&path, 0, 0);
        write(&mut outlet, b"one\n");
        assert!(outlet.told);
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        write(&mut outlet, b"two\n");
        assert!(!outlet.told);
        assert_eq!(std::fs::read_to_string(path).unwrap(), "one\ntwo\n");
    }
}
