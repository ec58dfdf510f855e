//! Follows a log file for a client: what is there now, then everything that is appended, through rotation, clearing,
//! truncation and deletion.
//!
//! Data is read from the file when the client asks for more, so a client that does not read costs a descriptor and no
//! memory, and the program and other clients never notice it. A client that falls behind by more than all rotated
//! files misses what is gone.

use std::fmt;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use bytes::Bytes;
use tokio::sync::watch;

use super::{rotate, target::open_to_read};

/// One client's place in a log.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    file: Option<File>,
    offset: u64,
    wake: watch::Receiver<u64>,
}

/// A place in a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// File system of the file.
    pub device: u64,
    /// Number of the file there.
    pub inode: u64,
    /// Bytes before this place.
    pub offset: u64,
}

impl Position {
    /// The place after so many more bytes of the same file.
    pub fn after(self, bytes: usize) -> Self {
        Self { offset: self.offset.saturating_add(bytes as u64), ..self }
    }
}

/// `device.inode.offset`, for those who come back.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.device, self.inode, self.offset)
    }
}

/// Text that is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a position in a log is written DEVICE.INODE.OFFSET, three numbers")]
pub struct NoPosition;

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let mut numbers = text.split('.').map(|number| number.parse().map_err(|_| NoPosition));
        let mut number = || numbers.next().unwrap_or(Err(NoPosition));
        let position = Self { device: number()?, inode: number()?, offset: number()? };
        numbers.next().is_none().then_some(position).ok_or(NoPosition)
    }
}

impl Follower {
    /// Begins `backlog` bytes before the end of `path`, which need not exist yet. `wake` changes whenever the file may
    /// have: it is only waited for, its value means nothing.
    pub fn new(path: PathBuf, backlog: u64, wake: watch::Receiver<u64>) -> Self {
        let file = open_to_read(&path).ok();
        let size = file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len());
        Self { path, file, offset: size.saturating_sub(backlog), wake }
    }

    /// Where the next bytes come from; `None` while there is no file.
    pub fn position(&self) -> Option<Position> {
        let meta = self.file.as_ref()?.metadata().ok()?;
        Some(Position { device: meta.dev(), inode: meta.ino(), offset: self.offset })
    }

    /// Goes on where another follower of the same log was. When that file is gone, all that is left was written later.
    pub fn go_to(&mut self, position: Position) {
        let names =
            std::iter::once(self.path.clone()).chain((1..).map(|number| rotate::backup(&self.path, number)));
        for (number, name) in names.enumerate() {
            let Ok(file) = open_to_read(&name) else {
                // The current file may be missing for a moment, a backup is the last.
                if number == 0 { continue } else { break }
            };
            let is_it = |meta: &Metadata| (meta.dev(), meta.ino()) == (position.device, position.inode);
            let found = file.metadata().is_ok_and(|meta| is_it(&meta));
            if found {
                (self.file, self.offset) = (Some(file), position.offset);
                return;
            }
            // The oldest that is left, should ours be gone.
            (self.file, self.offset) = (Some(file), 0);
        }
    }

    /// Goes on where another follower of the same log was, if its file is still there and has not been cut before that
    /// place; else stays where it is. Whether it went. A file that was cut and has grown beyond it again does not show it.
    pub fn resume(&mut self, position: Position) -> bool {
        let names = (1..).map(|number| rotate::backup(&self.path, number));
        let mut found = open_to_read(&self.path).ok().filter(|file| is_at(file, position));
        for name in names {
            if found.is_some() {
                break;
            }
            let Ok(file) = open_to_read(&name) else { break };
            found = Some(file).filter(|file| is_at(file, position));
        }
        let Some(file) = found else { return false };
        let Ok(meta) = file.metadata() else { return false };
        if meta.len() < position.offset {
            return false;
        }
        (self.file, self.offset) = (Some(file), position.offset);
        if meta.len() == position.offset
            && let Ok(Some(next)) = successor(&self.path, &meta)
        {
            (self.file, self.offset) = (Some(next), 0);
        }
        true
    }

    /// Bytes of the file that are not yet returned.
    pub fn behind(&self) -> u64 {
        let size = self.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |meta| meta.len());
        size.saturating_sub(self.offset)
    }

    /// Leaves out what lies more than `most` bytes before the end of the file, but for the last `rest`. How many bytes
    /// that is.
    pub fn skip(&mut self, most: u64, rest: u64) -> u64 {
        let behind = self.behind();
        if behind <= most {
            return 0;
        }
        let skipped = behind.saturating_sub(rest);
        self.offset += skipped;
        skipped
    }

    /// Waits for the next bytes, at most [`PIECE`] of them; `None` when nothing can come any more. Cancel-safe.
    ///
    /// # Errors
    /// Those of opening and reading the file, but a missing one is waited for.
    pub async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            // News that arrive while the file is read are seen by `changed`.
            self.wake.mark_unchanged();
            if let Some(bytes) = self.read()? {
                return Ok(Some(bytes));
            }
            if self.wake.changed().await.is_err() {
                return self.read();
            }
        }
    }

    /// What is there and not yet returned, at most [`PIECE`] bytes of it.
    ///
    /// # Errors
    /// As [`Follower::next`].
    pub fn read(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let Some(file) = &self.file else {
                self.file = open_if_there(&self.path)?;
                self.offset = 0;
                match self.file {
                    Some(_) => continue,
                    None => return Ok(None),
                }
            };
            let meta = file.metadata()?;
            if meta.len() < self.offset {
                // Truncated: what is in the file now was written afterwards.
                self.offset = 0;
            }
            if meta.len() > self.offset {
                let mut bytes = vec![0; PIECE.min((meta.len() - self.offset) as usize)];
                let read = file.read_at(&mut bytes, self.offset)?;
                bytes.truncate(read);
                self.offset += read as u64;
                return Ok((read > 0).then(|| bytes.into()));
            }
            let Some(next) = successor(&self.path, &meta)? else { return Ok(None) };
            // The old file may have grown since we looked; once the next one has content it does not any more.
            if file.metadata()?.len() == self.offset {
                (self.file, self.offset) = (Some(next), 0);
            }
        }
    }
}

/// The file that is written after the one with this metadata; `None` while that is still the current one, or the next one
/// is empty: whoever renamed ours may not yet have told the daemon, which then still writes to it.
fn successor(path: &Path, ours: &Metadata) -> io::Result<Option<File>> {
    let Some(current) = open_if_there(path)? else { return Ok(None) };
    if is_same(&current.metadata()?, ours) {
        return Ok(None);
    }
    let mut newer = current;
    for number in 1.. {
        let Some(file) = open_if_there(&rotate::backup(path, number))? else { break };
        if is_same(&file.metadata()?, ours) {
            return non_empty(newer);
        }
        newer = file;
    }
    // Ours was deleted, or renamed by others: go on with the current one.
    match open_if_there(path)? {
        Some(file) => non_empty(file),
        None => Ok(None),
    }
}

fn non_empty(file: File) -> io::Result<Option<File>> {
    Ok((file.metadata()?.len() > 0).then_some(file))
}

/// Whether this is the file of that position.
fn is_at(file: &File, position: Position) -> bool {
    file.metadata().is_ok_and(|meta| (meta.dev(), meta.ino()) == (position.device, position.inode))
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    (one.dev(), one.ino()) == (other.dev(), other.ino())
}

fn open_if_there(path: &Path) -> io::Result<Option<File>> {
    match open_to_read(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Most bytes returned at once.
pub const PIECE: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use super::super::writer::RotatingFile;
    use super::*;

    struct Bed {
        dir: tempfile::TempDir,
        wake: watch::Sender<u64>,
    }

    impl Bed {
        fn new() -> Self {
            Self { dir: tempfile::tempdir().unwrap(), wake: watch::Sender::new(0) }
        }

        fn path(&self) -> PathBuf {
            self.dir.path().join("log")
        }

        fn writer(&self, maxbytes: u64, backups: u32) -> RotatingFile {
            RotatingFile::open(&self.path(), 0o600, maxbytes, backups).unwrap()
        }

        fn follower(&self, backlog: u64) -> Follower {
            Follower::new(self.path(), backlog, self.wake.subscribe())
        }

        fn news(&self) {
            self.wake.send_modify(|news| *news += 1);
        }
    }

    async fn next(follower: &mut Follower) -> String {
        let bytes =
            tokio::time::timeout(Duration::from_secs(10), follower.next()).await.expect("bytes in time");
        String::from_utf8(bytes.unwrap().unwrap().to_vec()).unwrap()
    }

    #[tokio::test(flavor = "current_thread")]
    async fn who_is_far_behind_can_go_on_near_the_end() {
        let bed = Bed::new();
        fs::write(bed.path(), "0123456789").unwrap();
        let mut follower = bed.follower(10);
        assert_eq!(follower.skip(10, 2), 0, "not too far");
        assert_eq!(follower.skip(9, 2), 8);
        assert_eq!(next(&mut follower).await, "89");
        assert_eq!(follower.skip(0, 2), 0);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn begins_with_the_backlog_and_goes_on_with_news() {
        let bed = Bed::new();
        let mut log = bed.writer(0, 0);
        log.write_all(b"hello world").unwrap();
        let mut follower = bed.follower(5);
        assert_eq!(next(&mut follower).await, "world");
        let ((), text) = tokio::join!(
            async {
                log.write_all(b"!").unwrap();
                bed.news();
            },
            next(&mut follower)
        );
        assert_eq!(text, "!");
        assert_eq!(next(&mut bed.follower(1000)).await, "hello world!");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn goes_through_several_rotations_without_loss() {
        let bed = Bed::new();
        let mut log = bed.writer(10, 5);
        log.write_all(b"old").unwrap();
        let mut follower = bed.follower(0);
        let mut expected = String::new();
        for line in 0..9 {
            let text = format!("line {line}\n");
            log.write_all(text.as_bytes()).unwrap();
            expected.push_str(&text);
        }
        let mut seen = String::new();
        while seen.len() < expected.len() {
            seen.push_str(&next(&mut follower).await);
        }
        assert_eq!(seen, expected);
        assert!(rotate::backup(&bed.path(), 4).exists());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn goes_on_where_another_was_though_the_file_was_rotated() {
        let bed = Bed::new();
        let mut log = bed.writer(8, 5);
        log.write_all(b"one\n").unwrap();
        let mut first = bed.follower(100);
        assert_eq!(next(&mut first).await, "one\n");
        let position = first.position().unwrap();
        for line in ["two\n", "three\n", "four\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        let mut second = bed.follower(0);
        second.go_to(position);
        let mut seen = String::new();
        while seen.len() < "two\nthree\nfour\n".len() {
            seen.push_str(&next(&mut second).await);
        }
        assert_eq!(seen, "two\nthree\nfour\n");
    }

    #[test]
    fn positions_come_back_as_they_were_written() {
        let position = Position { device: u64::MAX, inode: 7, offset: 0 };
        assert_eq!(position.to_string().parse(), Ok(position));
        for text in
            ["", "1", "1.2", "1.2.", "1.2.3.4", "1.2.-3", "1.2.x", "1.2.18446744073709551616", "/etc/passwd"]
        {
            assert_eq!(text.parse::<Position>(), Err(NoPosition), "{text}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn resumes_in_the_files_of_the_log_and_nowhere_else() {
        let bed = Bed::new();
        let mut log = bed.writer(8, 1);
        log.write_all(b"one\n").unwrap();
        let mut first = bed.follower(100);
        assert_eq!(next(&mut first).await, "one\n");
        let position = first.position().unwrap();
        let resumed = |position| {
            let mut follower = bed.follower(3);
            follower.resume(position).then(|| follower.read().unwrap().map(|bytes| bytes.to_vec()))
        };
        assert_eq!(resumed(position), Some(None), "there is no more");
        assert_eq!(resumed(position.after(1)), None, "the file was cut");
        log.write_all(b"two.two\n").unwrap();
        assert_eq!(resumed(position), Some(Some(b"two.two\n".to_vec())), "of the file as it is called now");
        log.write_all(b"three\n").unwrap();
        let mut follower = bed.follower(0);
        assert!(follower.resume(position.after(8)), "all of that file was read");
        assert_eq!(follower.position().unwrap().offset, 0, "so it is at the begin of the next");
        assert_eq!(next(&mut follower).await, "three\n");
        let end = follower.position().unwrap();
        log.write_all(b"four.four\n").unwrap();
        assert_eq!(resumed(position), None, "the file is gone");
        log.clear().unwrap();
        assert_eq!(resumed(end.after(100)), None);
        let other = bed.dir.path().join("other");
        fs::write(&other, "secret").unwrap();
        let meta = fs::metadata(&other).unwrap();
        assert_eq!(resumed(Position { device: meta.dev(), inode: meta.ino(), offset: 0 }), None);
        let mut follower = bed.follower(3);
        let before = follower.position();
        assert!(!follower.resume(position));
        assert_eq!(follower.position(), before, "who cannot go on stays");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn goes_on_after_clearing_truncation_and_deletion() {
        let bed = Bed::new();
        let mut log = bed.writer(0, 0);
        log.write_all(b"a long beginning").unwrap();
        let mut follower = bed.follower(0);
        log.clear().unwrap();
        log.write_all(b"cleared").unwrap();
        assert_eq!(next(&mut follower).await, "cleared");
        File::options().write(true).truncate(true).open(bed.path()).unwrap();
        log.write_all(b"trunc").unwrap();
        assert_eq!(next(&mut follower).await, "trunc");
        fs::remove_file(bed.path()).unwrap();
        log.write_all(b"deleted").unwrap();
        assert_eq!(next(&mut follower).await, "deleted");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn reads_what_is_written_between_renaming_by_others_and_reopening() {
        let bed = Bed::new();
        let mut log = bed.writer(0, 0);
        let mut follower = bed.follower(0);
        for name in ["log.1", "log-2026"] {
            fs::rename(bed.path(), bed.dir.path().join(name)).unwrap();
            File::create(bed.path()).unwrap();
            assert!(follower.read().unwrap().is_none());
            log.write_all(b"late").unwrap();
            assert_eq!(next(&mut follower).await, "late");
            log.reopen().unwrap();
            log.write_all(b"new").unwrap();
            assert_eq!(next(&mut follower).await, "new");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn waits_for_a_file_that_is_not_there_and_ends_with_its_writer() {
        let bed = Bed::new();
        let mut follower = bed.follower(100);
        assert!(follower.read().unwrap().is_none());
        bed.writer(0, 0).write_all(b"first").unwrap();
        bed.news();
        assert_eq!(next(&mut follower).await, "first");
        drop(bed.wake);
        assert!(follower.next().await.unwrap().is_none());
    }
}
