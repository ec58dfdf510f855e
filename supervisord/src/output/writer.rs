//! A log file that is appended to, rotated, reopened and cleared. Follows what others do to the file: truncation
//! (`copytruncate`), deletion and appending. Serves the programs' logs and the daemon's own.
//!
//! The file is opened without `O_APPEND`, which `splice` refuses; instead the end is asked for before each write. All
//! logs of the daemon are written by one thread, so two logs that share a file cannot overwrite each other.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::pipe::SpliceFlags;

use super::rotate::{self, Step};

/// What Supervisor reads at most before it looks whether to rotate: a rotated file exceeds `maxbytes` by less.
pub const CHUNK: usize = 128 * 1024;

/// So many names are tried one by one; for more, the directory is read.
const FEW: u32 = 64;

/// Something a writer came across which the user should hear of once.
#[derive(Debug)]
pub enum Notice {
    /// The file had been deleted; it was created again.
    Recreated,
    /// The file was rotated.
    Rotated,
    /// It should have been rotated, but could not be; it goes on growing for another `maxbytes`.
    NotRotated(io::Error),
}

/// An open log file with its rotation rule.
#[derive(Debug)]
pub struct RotatingFile {
    path: PathBuf,
    mode: u32,
    maxbytes: u64,
    backups: u32,
    file: File,
    /// Size from which on it is rotated; above `maxbytes` only after a rotation that failed.
    rotate_at: u64,
    /// The highest number among its backups, known from the rotation before: trying all that there could be takes
    /// longer than the rotation.
    highest: Option<u32>,
    notice: Option<Notice>,
}

impl RotatingFile {
    /// Opens the file for appending, creating it with `mode` (less the umask). `maxbytes` 0 = never rotate.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn open(path: &Path, mode: u32, maxbytes: u64, backups: u32) -> io::Result<Self> {
        let file = open(path, mode)?;
        Ok(Self {
            path: path.to_path_buf(),
            mode,
            maxbytes,
            backups,
            file,
            rotate_at: maxbytes,
            highest: None,
            notice: None,
        })
    }

    /// Where the log is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Changes the rotation rule; in force from the next write on.
    pub fn set_rotation(&mut self, maxbytes: u64, backups: u32) {
        (self.maxbytes, self.backups, self.rotate_at) = (maxbytes, backups, maxbytes);
        self.highest = None;
    }

    /// Appends all of it, then rotates if due. After an error, an unknown part of it is in the file.
    ///
    /// # Errors
    /// Those of `write`, and of creating the file again when it has been deleted.
    pub fn write_all(&mut self, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            let written = self.write_some(data)?;
            data = &data[written..];
        }
        Ok(())
    }

    /// Appends at most [`CHUNK`] bytes of it, then rotates if due; the number of bytes appended, at least one.
    ///
    /// # Errors
    /// Those of `write`, and of creating the file again when it has been deleted. Nothing was appended then.
    pub fn write_some(&mut self, data: &[u8]) -> io::Result<usize> {
        let end = self.end()?;
        self.append(data, end)
    }

    /// The same, but not more than the line with which the file is due to be rotated: as if each line were written by
    /// itself.
    ///
    /// # Errors
    /// As [`RotatingFile::write_some`].
    pub fn write_lines(&mut self, lines: &[u8]) -> io::Result<usize> {
        let end = self.end()?;
        let room = if self.maxbytes == 0 { usize::MAX } else { self.rotate_at.saturating_sub(end) as usize };
        let last = room.saturating_sub(1).min(lines.len());
        let length =
            lines[last..].iter().position(|byte| *byte == b'\n').map_or(lines.len(), |at| last + at + 1);
        self.append(&lines[..length], end)
    }

    fn append(&mut self, data: &[u8], end: u64) -> io::Result<usize> {
        let written = self.file.write_at(&data[..data.len().min(CHUNK)], end)?;
        if written == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.rotate_if_due(end + written as u64);
        Ok(written)
    }

    /// Moves up to `limit` bytes from the non-blocking pipe to the end of the file, then rotates if due; 0 when all
    /// writers have closed the pipe.
    ///
    /// # Errors
    /// `WouldBlock` when the pipe is empty; else those of [`RotatingFile::write_some`]. The pipe's data is untouched then.
    pub fn splice_from(&mut self, pipe: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
        let mut end = self.end()?;
        let room = if self.maxbytes == 0 { usize::MAX } else { self.rotate_at.saturating_sub(end) as usize };
        let limit = limit.min(room.max(CHUNK));
        let moved =
            rustix::pipe::splice(pipe, None, &self.file, Some(&mut end), limit, SpliceFlags::NONBLOCK)?;
        if moved > 0 {
            self.rotate_if_due(end);
        }
        Ok(moved)
    }

    /// Opens the path again: a file put there by others is taken, a missing one is created. The old one is kept on an error.
    ///
    /// # Errors
    /// Those of `open`.
    pub fn reopen(&mut self) -> io::Result<()> {
        self.file = open(&self.path, self.mode)?;
        self.rotate_at = self.maxbytes;
        Ok(())
    }

    /// Reopens if the path does not lead to the open file any more; true if so.
    ///
    /// # Errors
    /// Those of `open` and `stat`.
    pub fn reopen_if_replaced(&mut self) -> io::Result<bool> {
        let ours = self.file.metadata()?;
        let replaced = match std::fs::metadata(&self.path) {
            Ok(theirs) => (theirs.dev(), theirs.ino()) != (ours.dev(), ours.ino()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(error),
        };
        if replaced {
            self.reopen()?;
        }
        Ok(replaced)
    }

    /// Removes the file and starts an empty one; rotated files stay.
    ///
    /// # Errors
    /// Those of `unlink` and `open`.
    pub fn clear(&mut self) -> io::Result<()> {
        remove_if_there(&self.path)?;
        self.reopen()
    }

    /// Takes what is to be told about the last call.
    pub fn take_notice(&mut self) -> Option<Notice> {
        self.notice.take()
    }

    /// The size of the file, which is where the next byte goes. A deleted file is created again first.
    fn end(&mut self) -> io::Result<u64> {
        let stat = rustix::fs::fstat(&self.file)?;
        if stat.st_nlink == 0 {
            self.reopen()?;
            self.notice = Some(Notice::Recreated);
            return Ok(self.file.metadata()?.len());
        }
        Ok(stat.st_size.unsigned_abs())
    }

    fn rotate_if_due(&mut self, size: u64) {
        if self.maxbytes == 0 || size < self.rotate_at {
            return;
        }
        self.notice = Some(match self.rotate() {
            Ok(()) => Notice::Rotated,
            Err(error) => {
                self.rotate_at = size.saturating_add(self.maxbytes);
                Notice::NotRotated(error)
            }
        });
    }

    /// How many files may have to be renamed, the log itself among them.
    fn candidates(&self) -> u32 {
        match self.highest.map(|highest| highest.saturating_add(1)) {
            // Somebody else may have put a file there: it moves on, and what is above it too.
            Some(free) if free < self.backups && !rotate::backup(&self.path, free).exists() => free,
            Some(_) | None if self.backups <= FEW => self.backups,
            // A directory that cannot be read is no reason to look at millions of names, most of them in vain.
            Some(_) | None => self.highest_there().unwrap_or(FEW).saturating_add(1).min(self.backups),
        }
    }

    /// The highest number among the files beside it that have the name of a backup.
    fn highest_there(&self) -> io::Result<u32> {
        let (Some(directory), Some(name)) = (self.path.parent(), self.path.file_name()) else { return Ok(0) };
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let mut highest = 0;
        for entry in std::fs::read_dir(directory)? {
            let other = entry?.file_name();
            let number =
                other.as_bytes().strip_prefix(name.as_bytes()).and_then(|rest| rest.strip_prefix(b"."));
            let number = number.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
            highest = highest.max(number.filter(|number| *number <= self.backups).unwrap_or(0));
        }
        Ok(highest)
    }

    fn rotate(&mut self) -> io::Result<()> {
        let moved = self.candidates();
        // Unknown until all is done.
        self.highest = None;
        let mut highest = 0;
        for (step, number) in rotate::steps(&self.path, moved).zip((0..=moved).rev()) {
            let was_there = match step {
                Step::Rename { from, to } => rename_if_there(&from, &to)?,
                Step::Truncate => self.file.set_len(0).map(|()| false)?,
            };
            if was_there {
                highest = highest.max(number);
            }
        }
        self.highest = Some(highest);
        self.reopen().inspect_err(|_| {
            // The open file must stay where users look for it. That the name cannot be given back is not the
            // error worth telling.
            let _ = std::fs::rename(rotate::backup(&self.path, 1), &self.path);
        })
    }
}

impl AsFd for RotatingFile {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn open(path: &Path, mode: u32) -> io::Result<File> {
    // Somebody may have put a FIFO there since it was looked at: nobody waits for its reader.
    let flags = super::target::WITHOUT_WAITING;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(mode)
        .custom_flags(flags)
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file any more")),
    }
}

/// Whether there was something to rename.
fn rename_if_there(from: &Path, to: &Path) -> io::Result<bool> {
    is_done(std::fs::rename(from, to))
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    is_done(std::fs::remove_file(path)).map(|_| ())
}

/// A missing file is no error: nothing was done.
fn is_done(result: io::Result<()>) -> io::Result<bool> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn log(dir: &tempfile::TempDir, maxbytes: u64, backups: u32) -> RotatingFile {
        RotatingFile::open(&dir.path().join("log"), 0o600, maxbytes, backups).unwrap()
    }

    fn read(log: &RotatingFile, suffix: &str) -> String {
        fs::read_to_string(format!("{}{suffix}", log.path().display())).unwrap()
    }

    #[test]
    fn rotates_after_the_write_that_reaches_the_limit() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(&dir, 5, 2);
        for text in ["abc", "def", "ghi", "jklmno", "p"] {
            log.write_all(text.as_bytes()).unwrap();
        }
        assert_eq!(
            (read(&log, ""), read(&log, ".1"), read(&log, ".2")),
            ("p".into(), "ghijklmno".into(), "abcdef".into())
        );
    }

    #[test]
    fn rotation_costs_what_there_is_and_not_what_there_could_be() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(&dir, 1, u32::MAX);
        for text in ["a", "b", "c"] {
            log.write_all(text.as_bytes()).unwrap();
        }
        assert_eq!((log.highest, fs::read_dir(dir.path()).unwrap().count()), (Some(3), 4));
        assert_eq!([read(&log, ".1"), read(&log, ".2"), read(&log, ".3")], ["c", "b", "a"]);
    }

    #[test]
    fn a_far_backup_is_found_in_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(&dir, 1, u32::MAX - 1);
        for number in [3, 70_000, u32::MAX] {
            fs::write(rotate::backup(log.path(), number), number.to_string()).unwrap();
        }
        log.write_all(b"a").unwrap();
        let kept = [".1", ".4", ".70001", ".4294967295"].map(|suffix| read(&log, suffix));
        assert_eq!(kept, ["a", "3", "70000", "4294967295"]);
        assert_eq!(log.highest, Some(70_001));
    }

    #[test]
    fn backups_that_others_add_and_remove_are_moved_as_if_each_were_looked_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(&dir, 1, 6);
        let put = |number: u32, text: &str| {
            fs::write(rotate::backup(&dir.path().join("log"), number), text).unwrap()
        };
        put(2, "two");
        log.write_all(b"a").unwrap();
        assert_eq!([read(&log, ".1"), read(&log, ".3")], ["a", "two"], "a gap stays one");
        fs::remove_file(rotate::backup(log.path(), 1)).unwrap();
        put(4, "four");
        put(5, "five");
        log.write_all(b"b").unwrap();
        let kept = [".1", ".4", ".5", ".6"].map(|suffix| read(&log, suffix));
        assert_eq!(kept, ["b", "two", "four", "five"]);
        log.set_rotation(1, 2);
        log.write_all(b"c").unwrap();
        let kept = [".1", ".2", ".4", ".5", ".6"].map(|suffix| read(&log, suffix));
        assert_eq!(kept, ["c", "b", "two", "four", "five"], "above the setting nothing is touched");
    }

    #[test]
    fn without_backups_starts_over_in_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(&dir, 5, 0);
        log.write_all(b"abcdef").unwrap();
        log.write_all(b"x").unwrap();
        assert_eq!(read(&log, ""), "x");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn opening_appends_and_keeps_the_given_mode() {
        let dir = tempfile::tempdir().unwrap();
        log(&dir, 0, 0).write_all(b"one").unwrap();
        let mut again = log(&dir, 0, 0);
        again.write_all(b"two").unwrap();
        assert_eq!(read(&again, ""), "onetwo");
        assert_eq!(fs::metadata(again.path()).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn goes_on_at_the_start_after_truncation_by_others() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(&dir, 0, 0);
        log.write_all(b"before").unwrap();
        OpenOptions::new().write(true).truncate(true).open(log.path()).unwrap();
        log.write_all(b"after").unwrap();
        assert_eq!(read(&log, ""), "after");
    }

    #[test]
    fn creates_a_deleted_file_again_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(&dir, 0, 0);
        fs::remove_file(log.path()).unwrap();
        log.write_all(b"x").unwrap();
        assert_eq!(read(&log, ""), "x");
        assert!(matches!(log.take_notice(), Some(Notice::Recreated)));
    }

    #[test]
    fn a_fifo_in_place_of_the_file_is_refused_and_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(&dir, 0, 0);
        fs::remove_file(log.path()).unwrap();
        nix::unistd::mkfifo(log.path(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        log.write_all(b"x").unwrap_err();
        let _reader = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(log.path()).unwrap();
        log.write_all(b"x").unwrap_err();
        assert!(log.reopen_if_replaced().is_err());
    }

    #[test]
    fn notices_a_replaced_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(&dir, 0, 0);
        assert!(!log.reopen_if_replaced().unwrap());
        fs::rename(log.path(), dir.path().join("old")).unwrap();
        log.write_all(b"late").unwrap();
        assert!(log.reopen_if_replaced().unwrap());
        log.write_all(b"new").unwrap();
        assert_eq!(read(&log, ""), "new");
        assert_eq!(fs::read_to_string(dir.path().join("old")).unwrap(), "late");
    }

    #[test]
    fn a_rotation_that_cannot_be_done_loses_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(&dir, 4, 1);
        // A directory that is not empty cannot be replaced by a file.
        fs::create_dir_all(dir.path().join("log.1/x")).unwrap();
        log.write_all(b"abcd").unwrap();
        assert!(matches!(log.take_notice(), Some(Notice::NotRotated(_))));
        log.write_all(b"ef").unwrap();
        assert!(log.take_notice().is_none());
        assert_eq!(read(&log, ""), "abcdef");
    }

    #[test]
    fn clear_starts_empty_and_leaves_rotated_files() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = log(&dir, 3, 1);
        log.write_all(b"abc").unwrap();
        log.write_all(b"d").unwrap();
        log.clear().unwrap();
        assert_eq!((read(&log, ""), read(&log, ".1")), (String::new(), "abc".into()));
    }
}
