//! One log: its target, what could not be written yet, and how it fares. Knows nothing of pipes' readiness and of
//! other logs; `mod.rs` does.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::ansi::Stripper;
use super::syslog::{Lines, Syslog};
use super::tap::{Mirror, Tap};
use super::target::{Stream as TargetStream, Target};
use super::writer::{Notice, RotatingFile};

/// The settings of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogSpec {
    /// The file, device or inherited descriptor (`/dev/stdout`) to write to; `None` = what is read is thrown away.
    pub file: Option<PathBuf>,
    /// Mode of a file that has to be created, less the umask.
    pub mode: u32,
    /// Size in bytes at which it is rotated, 0 = never. Of no meaning for what is no regular file.
    pub maxbytes: u64,
    /// Rotated files to keep.
    pub backups: u32,
    /// Send each line to the system log too, after this process name.
    pub syslog: Option<String>,
    /// Remove ANSI control sequences.
    pub strip_ansi: bool,
}

/// A log that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot open log {path}: {source}", path = path.display())]
pub struct OpenError {
    /// The log.
    pub path: PathBuf,
    /// Why not.
    pub source: io::Error,
}

/// How a log fares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogHealth {
    /// Bytes dropped since the log was added.
    pub lost: u64,
    /// What is wrong now.
    pub error: Option<String>,
}

/// A log and its state.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) spec: LogSpec,
    pub(super) condition: Condition,
    /// Bytes dropped since `condition` was last `Good`, and before.
    pub(super) lost_now: u64,
    pub(super) lost_before: u64,
    /// Streams that write to it.
    pub(super) streams: u32,
    /// Nobody knows it any more; it goes with its last stream.
    pub(super) removed: bool,
    target: Option<Target>,
    /// Read from a pipe, not yet written: the rest of a chunk the target did not take whole.
    pending: Vec<u8>,
    /// Whether what follows its last line end is the beginning of a line, the rest of which is in a pipe.
    is_begun: bool,
    /// The file system cannot splice.
    splice_refused: bool,
}

/// How a log fares.
#[derive(Debug)]
pub(super) enum Condition {
    /// It takes what comes.
    Good,
    /// It takes nothing now; its programs' data waits in their pipes until this time, then it is stuck.
    Slow(Instant),
    /// It has taken nothing for long: data is dropped until it does.
    Stuck,
    /// Writing failed. Data which fills pipes more than half is dropped. At this time writing is tried again; `None` = it
    /// is to be tried with the next data.
    Failing(Option<Instant>, String),
}

/// What became of an attempt to move data from a pipe to a log.
#[derive(Debug)]
pub(super) enum Moved {
    /// So many bytes left the pipe, and are where they belong.
    Bytes(usize),
    /// There is nothing in the pipe.
    Nothing,
    /// All writers have closed the pipe and it is empty.
    End,
    /// The target took so many bytes, and nothing more now; the rest of what was read is kept.
    Blocked(usize),
    /// Writing failed; the rest of what was read is kept.
    Failed(io::Error),
}

/// What the bytes of one stream go through, in state that outlives a chunk.
#[derive(Debug, Default)]
pub(super) struct Filter {
    stripper: Stripper,
    lines: Lines,
    stripped: Vec<u8>,
}

impl Filter {
    /// What is kept from chunk to chunk.
    pub(super) fn held(&self) -> (Stripper, Lines) {
        (self.stripper.clone(), self.lines.clone())
    }

    /// Goes on where another one was.
    pub(super) fn resume(&mut self, (stripper, lines): (Stripper, Lines)) {
        (self.stripper, self.lines) = (stripper, lines);
    }
}

impl Log {
    pub(super) fn new(spec: LogSpec) -> Self {
        Self {
            spec,
            condition: Condition::Good,
            lost_now: 0,
            lost_before: 0,
            streams: 0,
            removed: false,
            target: None,
            pending: Vec::new(),
            is_begun: false,
            splice_refused: false,
        }
    }

    /// Opens the target unless it is open; true if the file was found deleted or replaced.
    pub(super) fn open(&mut self) -> Result<bool, OpenError> {
        let Some(path) = &self.spec.file else { return Ok(false) };
        if matches!(self.target, Some(Target::File(_)))
            && std::fs::metadata(path).is_ok_and(|meta| !meta.is_file())
        {
            // Somebody has put something else there, which is written to as it is.
            self.target = None;
        }
        let result = match &mut self.target {
            Some(Target::File(file)) => file.reopen_if_replaced(),
            Some(Target::Stream(_)) => Ok(false),
            None => Target::open(path, self.spec.mode, self.spec.maxbytes, self.spec.backups).map(|target| {
                self.target = Some(target);
                self.splice_refused = false;
                false
            }),
        };
        result.map_err(|source| OpenError { path: path.clone(), source })
    }

    /// Takes over new settings; true if the target has to be opened anew.
    pub(super) fn update(&mut self, spec: LogSpec) -> bool {
        let moved = spec.file != self.spec.file;
        self.spec = spec;
        if let Some(Target::File(file)) = &mut self.target {
            file.set_rotation(self.spec.maxbytes, self.spec.backups);
        }
        moved
    }

    /// Closes the target. What is pending is lost, and counted.
    pub(super) fn close(&mut self) {
        if std::mem::take(&mut self.is_begun) {
            let begun = std::mem::take(&mut self.pending);
            // What it does not take now is pending again.
            drop(self.write(&begun));
        }
        self.lost_now += std::mem::take(&mut self.pending).len() as u64;
        self.target = None;
    }

    /// Is everything that was read written?
    pub(super) fn is_flushed(&self) -> bool {
        self.pending.is_empty()
    }

    /// What is read and not written.
    pub(super) fn pending(&self) -> &[u8] {
        &self.pending
    }

    /// Has `data` written before anything else.
    pub(super) fn set_pending(&mut self, data: Vec<u8>) {
        self.pending = data;
    }

    /// The file, if it is one and is open.
    pub(super) fn file_mut(&mut self) -> Option<&mut RotatingFile> {
        match &mut self.target {
            Some(Target::File(file)) => Some(file),
            Some(Target::Stream(_)) | None => None,
        }
    }

    /// The target to wait for, if it is one that can be slow.
    pub(super) fn stream(&self) -> Option<&TargetStream> {
        match &self.target {
            Some(Target::Stream(stream)) => Some(stream),
            Some(Target::File(_)) | None => None,
        }
    }

    pub(super) fn path(&self) -> Option<&Path> {
        self.spec.file.as_deref()
    }

    pub(super) fn take_notice(&mut self) -> Option<Notice> {
        self.file_mut().and_then(RotatingFile::take_notice)
    }

    /// Moves at most `limit` bytes from the pipe. The bytes are not looked at unless the settings ask for it.
    pub(super) fn take(&mut self, pipe: &OwnedFd, limit: usize, mut tools: Tools<'_>) -> Moved {
        let is_only_begun = self.is_begun && line_end(&self.pending).is_none();
        if !self.pending.is_empty() && !is_only_begun {
            return Moved::Blocked(0);
        }
        if self.target.is_none()
            && let Err(error) = self.open()
        {
            return Moved::Failed(error.source);
        }
        if !self.spec.strip_ansi
            && self.spec.syslog.is_none()
            && !self.splice_refused
            && !tools.tap.as_ref().is_some_and(|tap| tap.divides())
            && let Some(Target::File(file)) = &mut self.target
        {
            let spliced = match (&mut tools.tap, &tools.mirror) {
                (None, _) => file.splice_from(pipe.as_fd(), limit),
                (Some(_), None) => return self.copy(pipe, limit, tools),
                (Some(tap), Some(mirror)) => {
                    let room = limit.min(tools.buffer.len());
                    mirror.look(pipe, &mut tools.buffer[..room]).and_then(|seen| {
                        // What is not moved now will be seen again.
                        let moved = file.splice_from(pipe.as_fd(), if seen == 0 { limit } else { seen })?;
                        tap.see_raw(&tools.buffer[..moved.min(seen)]);
                        tap.see(&tools.buffer[..moved.min(seen)]);
                        Ok(moved)
                    })
                }
            };
            return match spliced {
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
                    self.splice_refused = true;
                    self.copy(pipe, limit, tools)
                }
                Ok(0) => Moved::End,
                Ok(moved) => Moved::Bytes(moved),
                Err(error) if is_empty(&error) => Moved::Nothing,
                Err(error) => {
                    self.look_for_other();
                    Moved::Failed(error)
                }
            };
        }
        self.copy(pipe, limit, tools)
    }

    /// Writes what is pending.
    pub(super) fn flush(&mut self) -> Moved {
        let has_more = std::mem::take(&mut self.is_begun);
        let data = std::mem::take(&mut self.pending);
        if data.is_empty() { Moved::Nothing } else { self.write_up_to_line_end(data, has_more) }
    }

    /// The same as [`Log::take`], through memory.
    fn copy(&mut self, pipe: &OwnedFd, limit: usize, tools: Tools<'_>) -> Moved {
        let Tools { buffer, filter, syslog, mut tap, mirror: _ } = tools;
        let room = limit.min(buffer.len());
        let read = match rustix::io::read(pipe, &mut buffer[..room]) {
            Ok(read) => read,
            Err(error) if is_empty(&error.into()) => return Moved::Nothing,
            // A pipe that cannot be read will give nothing more.
            Err(_) => 0,
        };
        let mut text = &buffer[..read];
        if let Some(tap) = &mut tap {
            tap.see_raw(text);
        }
        if self.spec.strip_ansi {
            filter.stripped.clear();
            match read {
                0 => filter.stripper.finish(&mut filter.stripped),
                _ => filter.stripper.strip(text, &mut filter.stripped),
            }
            text = &filter.stripped;
        }
        let mut divided = tap.as_mut().and_then(|tap| tap.see(text));
        if let (Some(rest), Some(tap), 0) = (&mut divided, tap, read) {
            rest.append(&mut tap.finish());
        }
        let text = divided.as_deref().unwrap_or(text);
        if let Some(prefix) = &self.spec.syslog {
            let send = |line: &[u8]| syslog.send(&[prefix.as_bytes(), b" ", line].concat());
            match read {
                0 => filter.lines.finish(send),
                _ => filter.lines.feed(text, send),
            }
        }
        let has_more = read == room && matches!(self.target, Some(Target::Stream(_))) && has_data(pipe);
        let moved = if has_more || self.is_begun {
            self.is_begun = false;
            let text = [&std::mem::take(&mut self.pending)[..], text].concat();
            self.write_up_to_line_end(text, has_more)
        } else {
            self.write(text)
        };
        match (moved, read) {
            (Moved::Bytes(_) | Moved::Nothing, 0) => Moved::End,
            (Moved::Bytes(_) | Moved::Nothing, read) => Moved::Bytes(read),
            (other @ (Moved::End | Moved::Blocked(_) | Moved::Failed(_)), _) => other,
        }
    }

    /// Writes it, but for the beginning of a line whose rest `has_more` says is there already: what others write to the
    /// same pipe or terminal does not come between the two.
    fn write_up_to_line_end(&mut self, mut text: Vec<u8>, has_more: bool) -> Moved {
        let begun = if has_more { line_end(&text).map(|at| text.split_off(at)) } else { None };
        let moved = self.write(&text);
        if let Some(begun) = begun {
            self.is_begun = !begun.is_empty();
            self.pending.extend(begun);
        }
        moved
    }

    /// Writes what was held back of a stream whose process has ended.
    pub(super) fn add(&mut self, text: &[u8]) -> Moved {
        if text.is_empty() {
            return Moved::Nothing;
        }
        if self.pending.is_empty() {
            return self.write(text);
        }
        self.pending.extend_from_slice(text);
        self.is_begun = false;
        Moved::Blocked(0)
    }

    /// Writes what no program has written. What the target does not take now is kept, but not without bound.
    pub(super) fn add_if_room(&mut self, text: &[u8]) -> Moved {
        let moved = self.add(text);
        if self.pending.len() > MOST_KEPT {
            let line_end = self.pending[..MOST_KEPT].iter().rposition(|byte| *byte == b'\n');
            let kept = line_end.map_or(MOST_KEPT, |at| at + 1);
            self.lost_now += (self.pending.len() - kept) as u64;
            self.pending.truncate(kept);
        }
        moved
    }

    /// Whether there is a loss to be told: when all is written, and meanwhile for each full store that was lost.
    pub(super) fn owes_report(&self) -> bool {
        self.lost_now > if self.pending.is_empty() { 0 } else { MOST_KEPT as u64 }
    }

    /// Writes all of it, or keeps the rest as pending.
    fn write(&mut self, data: &[u8]) -> Moved {
        let Some(target) = &mut self.target else { return Moved::Bytes(data.len()) };
        let mut rest = data;
        while !rest.is_empty() {
            match target.write_some(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.pending = rest.to_vec();
                    if error.kind() == io::ErrorKind::WouldBlock {
                        return Moved::Blocked(data.len() - rest.len());
                    }
                    self.look_for_other();
                    return Moved::Failed(error);
                }
            }
        }
        Moved::Bytes(data.len())
    }

    /// After an error: somebody may have put something else in the place of the file, which is written to from now on.
    fn look_for_other(&mut self) {
        let Some(path) = self.spec.file.as_ref().filter(|_| matches!(self.target, Some(Target::File(_))))
        else {
            return;
        };
        if std::fs::metadata(path).is_ok_and(|meta| !meta.is_file())
            && let Ok(other) = Target::open(path, self.spec.mode, self.spec.maxbytes, self.spec.backups)
        {
            self.target = Some(other);
        }
    }

    /// Removes the file and starts an empty one, also while nothing writes to it.
    pub(super) fn clear(&mut self) -> io::Result<()> {
        let was_open = self.target.is_some();
        if !was_open && self.path().is_some_and(|path| !path.exists()) {
            // Of a program that has never written: it stays without a log.
            return Ok(());
        }
        self.open().map_err(|error| error.source)?;
        let result = self.file_mut().map_or(Ok(()), RotatingFile::clear);
        if !was_open {
            self.target = None;
        }
        result
    }
}

/// What [`Log::take`] borrows from its surroundings.
pub(super) struct Tools<'a> {
    /// Room for one chunk.
    pub(super) buffer: &'a mut [u8],
    /// The stream's own state.
    pub(super) filter: &'a mut Filter,
    /// The system log.
    pub(super) syslog: &'a mut Syslog,
    /// Who else wants to see the bytes.
    pub(super) tap: Option<&'a mut Tap>,
    /// Where they are seen without being taken out of the pipe.
    pub(super) mirror: Option<&'a Mirror>,
}

/// The path of a log that can be followed: one that is, or will be, a regular file.
pub(super) fn followable(path: &Path) -> Option<PathBuf> {
    let is_other = path.starts_with("/dev/fd") || std::fs::metadata(path).is_ok_and(|meta| !meta.is_file());
    (!is_other).then(|| path.to_path_buf())
}

/// Bytes kept for a target that takes nothing, of what is not in a pipe.
const MOST_KEPT: usize = 1 << 20;

fn is_empty(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Where the last line ends.
fn line_end(text: &[u8]) -> Option<usize> {
    text.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1)
}

/// Whether something is in the pipe.
fn has_data(pipe: &OwnedFd) -> bool {
    rustix::io::ioctl_fionread(pipe).is_ok_and(|bytes| bytes > 0)
}
