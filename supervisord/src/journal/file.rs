//! The journal's file: where it is, who may use it, appending, compaction, and what happens on a full disk.
//!
//! A journal that is written anew is another file, which takes the place of the former one at once. When there is no space
//! for it, it is written where space was set aside for that (`reserve`).
//!
//! Nothing is synced: after a crash of the daemon the page cache is still there, and after one of the machine nothing
//! that the journal says runs any more. A journal that cannot be written never stops supervision.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Instant,
};

use super::{
    Alien, Line, Snapshot,
    condition::{self, Condition, Outcome},
    encode,
    record::Header,
    replay, reserve,
};
use crate::{
    clock::Moment,
    os::{lock::lock_soon, search},
};

/// Name of the journal in the runtime directory, and of the file that becomes one.
const NAME: &str = "journal";
const NEW_NAME: &str = "journal.new";
/// Bytes of a first line that is read on its own.
const LONGEST_HEADER: u64 = 64 << 10;
/// Bytes that are written at a time when all is written anew; few lines are longer than the second.
const PIECE: usize = 32 << 10;
const LONG_LINE: usize = 4 << 10;

/// Why there is no journal.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The directory cannot be made or opened.
    #[error("{}: {error}", path.display())]
    System {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// Somebody else could write our journal.
    #[error("{} {problem}", path.display())]
    NotPrivate {
        /// The directory.
        path: PathBuf,
        /// Whose it is, or who may write to it.
        problem: String,
    },
    /// Another daemon has it.
    #[error("{} is in use by another supervisord", .0.display())]
    Held(PathBuf),
    /// A daemon that was killed has left programs that run and are known from there alone.
    #[error("{} holds what a supervisord that was killed has left, and programs of it run", .0.display())]
    Needed(PathBuf),
}

/// The open journal of this daemon.
#[derive(Debug)]
pub struct Journal {
    directory: PathBuf,
    /// Holds the lock; whoever has it may write.
    lock: File,
    /// While something was written that can be appended to.
    file: Option<File>,
    condition: Condition,
    /// A line on its way to the file.
    buffer: Vec<u8>,
}

impl Journal {
    /// Opens the journal in `directory`, which is made if it is missing, and reads what an earlier daemon has left.
    ///
    /// # Errors
    /// See [`JournalError`]. A journal that cannot be understood is no error: it is moved aside.
    pub fn open(directory: &Path) -> Result<(Self, Result<Snapshot, Alien>), JournalError> {
        let system = |path: &Path| {
            let path = path.to_path_buf();
            move |error| JournalError::System { path, error }
        };
        match DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(system(directory)(error));
            }
            Ok(()) | Err(_) => {}
        }
        let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW | libc::O_CLOEXEC;
        let lock =
            OpenOptions::new().read(true).custom_flags(flags).open(directory).map_err(system(directory))?;
        check_private(directory, &lock)?;
        lock_soon(&lock, || None).map_err(|_| JournalError::Held(directory.to_path_buf()))?;
        let path = directory.join(NAME);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(system(&path)(error)),
        };
        let found = if text.is_empty() { Ok(Snapshot::default()) } else { replay(&text) };
        if found.is_err() {
            // Kept for whoever wants to know. If that fails, the new journal takes its place.
            let _ = fs::rename(&path, directory.join("journal.alien"));
        }
        let directory = directory.to_path_buf();
        let condition = Condition::Unwritten;
        Ok((Self { directory, lock, file: None, condition, buffer: Vec::new() }, found))
    }

    /// Opens a journal in `directory`, in the boot `boot`, for a daemon that has one elsewhere: what is found there is
    /// overwritten.
    ///
    /// # Errors
    /// As [`Journal::open`]; also when something is found there that is needed.
    pub fn open_another(directory: &Path, boot: &str) -> Result<Self, JournalError> {
        let (journal, found) = Self::open(directory)?;
        let is_needed = |found: &Snapshot| {
            let is_closed = found.header.as_ref().is_none_or(|header| header.is_closed);
            let mut children = found.records.values().filter_map(|record| record.child);
            !is_closed
                && found.is_of_boot(boot)
                && children.any(|child| {
                    let pid = nix::unistd::Pid::from_raw(child.identity.pid);
                    child.identity.is(search::identity_of(pid).ok())
                })
        };
        match found {
            Ok(found) if is_needed(&found) => Err(JournalError::Needed(directory.to_path_buf())),
            Ok(_) | Err(_) => Ok(journal),
        }
    }

    /// Who wrote the journal in `directory`, if there is one that can be read. Does not wait for who has it.
    pub fn header_in(directory: &Path) -> Option<Header> {
        let mut line = Vec::new();
        let file = File::open(directory.join(NAME)).ok()?;
        BufReader::new(file.take(LONGEST_HEADER)).read_until(b'\n', &mut line).ok()?;
        replay(&line).ok()?.header
    }

    /// Whether everything that there is to know stands in the file.
    pub fn is_written(&self, now: Moment) -> bool {
        self.condition.problem().is_none() && !self.condition.wants_rewrite(now)
    }

    /// Whether all is to be written anew by [`Journal::rewrite`]. See [`Condition::wants_rewrite`].
    pub fn wants_rewrite(&self, now: Moment) -> bool {
        self.condition.wants_rewrite(now)
    }

    /// Whether the space for the present file is nearly used up. See [`Condition::is_about_to_be_full`].
    pub fn is_about_to_be_full(&self) -> bool {
        self.condition.is_about_to_be_full()
    }

    /// When what could not be done is to be tried again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.condition.poll_timeout()
    }

    /// Why it cannot be written, if it cannot.
    pub fn problem(&self) -> Option<&str> {
        self.condition.problem()
    }

    /// Why too little space is set aside, if it is.
    pub fn shortage(&self) -> Option<&str> {
        self.condition.shortage()
    }

    /// The directory, which is private to us.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The open directory.
    pub fn lock(&self) -> &File {
        &self.lock
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.directory.join(NAME)
    }

    /// Appends a line. While the journal cannot be written nothing is done.
    pub fn append(&mut self, line: &Line<'_>, now: Moment) -> Outcome {
        let (Some(len), Some(file)) = (self.condition.end(), &mut self.file) else { return Outcome::Fine };
        self.buffer.clear();
        encode(line, &mut self.buffer);
        if let Some(upto) = self.condition.wants_growth(self.buffer.len())
            && let Ok(true) = reserve::set_aside(file, upto)
        {
            self.condition.handle_grown(upto);
        }
        match file.write_all_at(&self.buffer, len) {
            Ok(()) => self.condition.handle_appended(self.buffer.len()),
            Err(error) => {
                // What is torn is cut off: the lines before it are still worth something.
                let _ = file.set_len(len);
                self.fail(&error, now)
            }
        }
    }

    /// Replaces the whole journal by these lines, at once or not at all. They are asked for again after a failure.
    pub fn rewrite<'a, L>(&mut self, lines: impl Fn() -> L, now: Moment) -> Outcome
    where
        L: Iterator<Item = Line<'a>>,
    {
        let path = self.path();
        // It may be full of what is outdated; then space is set aside for more than is needed.
        let base = fs::metadata(&path).map_or(0, |metadata| metadata.len() / condition::GROWTH);
        let room = condition::room_for(base);
        let written = match self.write_new(lines(), Some(room)) {
            Err(error) if reserve::is_full(&error) => {
                reserve::write_in_reserve(&path, |file| write_lines(file, lines()))
                    .or_else(|_| self.write_new(lines(), None))
            }
            written => written,
        };
        match written {
            Ok((file, len)) => {
                let aside = reserve::set_both_aside(&file, &self.directory, condition::room_for(len as u64));
                self.file = Some(file);
                self.condition.handle_rewritten(len, aside, now)
            }
            Err(error) => self.fail(&error, now),
        }
    }

    /// Sets space aside if that is due, for it could not be done before.
    pub fn renew_reserve(&mut self, now: Moment) -> Outcome {
        let (Some(room), Some(file)) = (self.condition.wants_reserve(now), &self.file) else {
            return Outcome::Fine;
        };
        let aside = reserve::set_both_aside(file, &self.directory, room);
        self.condition.handle_set_aside(aside, now)
    }

    /// Removes the journal, and its directory if nothing else is in it: nothing is to be remembered.
    pub fn remove(self) {
        // What cannot be removed says at the next start that it is closed, or of another boot.
        let _ = fs::remove_file(self.directory.join(NAME));
        reserve::remove(&self.directory);
        let _ = fs::remove_dir(&self.directory);
        drop(self.lock);
    }

    /// Writes the lines into a new file, which has space for `room` bytes if that is said, and puts it in its place.
    fn write_new<'a>(
        &self,
        lines: impl Iterator<Item = Line<'a>>,
        room: Option<u64>,
    ) -> io::Result<(File, usize)> {
        let path = self.directory.join(NEW_NAME);
        let write = || {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
                .open(&path)?;
            reserve::write_in_place(&file);
            if let Some(room) = room {
                // Whether that can be done at all is asked when it is known how much is needed.
                reserve::set_aside(&file, room)?;
            }
            let len = write_lines(&mut file, lines)?;
            fs::rename(&path, self.path())?;
            Ok((file, len))
        };
        write().inspect_err(|_| {
            // It would take the space that is missing.
            let _ = fs::remove_file(&path);
        })
    }

    fn fail(&mut self, error: &io::Error, now: Moment) -> Outcome {
        self.file = None;
        self.condition.handle_failed(format!("{}: {error}", self.path().display()), now)
    }
}

/// Writes the lines; how many bytes they are.
fn write_lines<'a>(file: &mut File, lines: impl Iterator<Item = Line<'a>>) -> io::Result<usize> {
    let mut len = 0;
    let mut buffer = Vec::with_capacity(PIECE);
    for line in lines {
        encode(&line, &mut buffer);
        if buffer.len() >= PIECE - LONG_LINE {
            file.write_all(&buffer)?;
            len += buffer.len();
            buffer.clear();
        }
    }
    file.write_all(&buffer)?;
    Ok(len + buffer.len())
}

/// Nobody but us and root may put words into our mouth.
fn check_private(path: &Path, directory: &File) -> Result<(), JournalError> {
    let metadata =
        directory.metadata().map_err(|error| JournalError::System { path: path.to_path_buf(), error })?;
    let not_private = |problem| Err(JournalError::NotPrivate { path: path.to_path_buf(), problem });
    let own = nix::unistd::geteuid().as_raw();
    if metadata.uid() != own && metadata.uid() != 0 {
        return not_private(format!("belongs to uid {}, expected {own}", metadata.uid()));
    }
    if metadata.mode() & 0o022 != 0 {
        return not_private(format!("has mode {:o}: others can write to it", metadata.mode() & 0o7777));
    }
    Ok(())
}
