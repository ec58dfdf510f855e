//! What programs write: from their pipes to their logs, unchanged, in order, exactly once.
//!
//! [`Output`] owns every captured stream and its log. One task owns it and calls it; nothing here spawns a task, takes a
//! lock or blocks. All pipes hang on one nested epoll behind a gate (`gate.rs`), so an idle stream costs neither a wake-up
//! nor a registration with the runtime, and small writes gather for a moment before they wake us.
//!
//! Where nobody has to look at the bytes they go from pipe to file by `splice`: a daemon killed at any moment loses none.
//! When a log cannot be written, the data stays in the program's pipe while that is at most half full; what a fuller
//! one holds is dropped and counted, so that no program ever waits for a disk. When a target other than a file (the
//! daemon's own stdout, say) is slow, programs wait for it as they would without us, but not longer than [`PATIENCE`].

mod ansi;
pub mod auto;
mod capture;
pub mod follow;
mod gate;
mod log;
mod report;
pub mod rotate;
mod slots;
mod stream;
pub mod syslog;
pub mod tail;
mod tap;
pub(crate) mod target;
mod trouble;
pub mod writer;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::epoll;
use tokio::sync::watch;

use self::follow::Follower;
pub use self::gate::Round;
pub(crate) use self::gate::no_event;
use self::gate::{Gate, LOG_EVENT, ROUND};
use self::log::{Condition, Filter, Log, Moved, Tools};
pub use self::log::{LogHealth, LogSpec, OpenError};
pub use self::report::Report;
use self::slots::{Key, Slots};
pub use self::stream::Held;
use self::stream::{Stream, stream_event, watch_flags};
use self::syslog::Syslog;
use self::tap::{Mirror, Tap};
pub use self::tap::{Piece, Wanted};
use self::trouble::CHECK;
pub use self::trouble::{PATIENCE, RETRY};
use self::writer::{CHUNK, Notice};
use crate::clock::Moment;
use crate::os::pipe;

/// All captured streams and the logs they go to.
#[derive(Debug)]
pub struct Output {
    /// Holds the pipes, and targets that are slow.
    gate: Gate,
    streams: Slots<Stream>,
    logs: Slots<Log>,
    /// Logs that are not in good condition.
    troubled: Vec<Key>,
    /// Who waits for news of a file, by its path.
    wakes: HashMap<PathBuf, watch::Sender<u64>>,
    syslog: Syslog,
    buffer: Vec<u8>,
    /// When to look again at pipes which hold data that their log does not take.
    check_at: Option<Instant>,
    reports: VecDeque<Report>,
    /// What was wanted of streams.
    pieces: VecDeque<(StreamId, Piece)>,
    /// Made with the first stream of which something is wanted.
    mirror: Option<Mirror>,
    /// Streams that have ended and were not asked about yet.
    ended: VecDeque<StreamId>,
}

/// Names a log of an [`Output`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId(Key);

/// Names a stream of an [`Output`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct StreamId(Key);

impl Output {
    /// Nothing captured yet. Must be called within a runtime.
    ///
    /// # Errors
    /// Those of `epoll_create` and of registering it.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            gate: Gate::new()?,
            streams: Slots::new(),
            logs: Slots::new(),
            troubled: Vec::new(),
            wakes: HashMap::new(),
            syslog: Syslog::new(),
            buffer: Vec::new(),
            check_at: None,
            reports: VecDeque::new(),
            pieces: VecDeque::new(),
            mirror: None,
            ended: VecDeque::new(),
        })
    }

    /// Adds a log; opens nothing yet.
    pub fn add_log(&mut self, spec: LogSpec) -> LogId {
        LogId(self.logs.insert(Log::new(spec)))
    }

    /// Changes a log's settings, also while it is written to.
    pub fn update_log(&mut self, id: LogId, spec: LogSpec) {
        let Some(log) = self.logs.get_mut(id.0) else { return };
        if log.update(spec) {
            self.close(id.0);
        }
    }

    /// Forgets a log. Streams that still write to it go on until they end.
    pub fn remove_log(&mut self, id: LogId) {
        if let Some(log) = self.logs.get_mut(id.0) {
            log.removed = true;
            self.forget_unused(id.0);
        }
    }

    /// Makes sure that the log is open and that its path leads to it: to be called before each spawn.
    ///
    /// # Errors
    /// The path and why it cannot be opened.
    pub fn open(&mut self, id: LogId) -> Result<(), OpenError> {
        let Some(log) = self.logs.get_mut(id.0) else { return Ok(()) };
        if log.open()?
            && let Some(path) = log.path().map(Path::to_path_buf)
        {
            self.wake_followers(&path);
            self.reports.push_back(Report::Recreated { path });
        }
        Ok(())
    }

    /// Captures a pipe from now on. `pipe` is a read end which is non-blocking.
    ///
    /// # Errors
    /// Those of `epoll_ctl`; `NotFound` for a log that was removed.
    pub fn attach(&mut self, pipe: OwnedFd, id: LogId) -> io::Result<StreamId> {
        self.attach_tapped(pipe, id, None)
    }

    /// As [`Output::attach`]; what is wanted of the stream comes out of [`Output::poll_piece`].
    ///
    /// # Errors
    /// As [`Output::attach`].
    pub fn attach_tapped(
        &mut self,
        pipe: OwnedFd,
        id: LogId,
        wanted: Option<Wanted>,
    ) -> io::Result<StreamId> {
        if wanted.is_some() && self.mirror.is_none() {
            // Without it the bytes go through memory.
            self.mirror = Mirror::new().ok();
        }
        let log = self.logs.get_mut(id.0).ok_or(io::ErrorKind::NotFound)?;
        let capacity = rustix::pipe::fcntl_getpipe_size(&pipe)?;
        let flags = watch_flags(&log.condition);
        let stream = Stream {
            pipe,
            capacity,
            log: id.0,
            released: false,
            filter: Filter::default(),
            tap: wanted.map(Tap::new),
        };
        log.streams += 1;
        let key = self.streams.insert(stream);
        let stream = self.streams.get(key).expect("just inserted");
        if let Err(error) = epoll::add(self.gate.pipes(), &stream.pipe, stream_event(key), flags) {
            self.end_stream(key);
            return Err(error.into());
        }
        Ok(StreamId(key))
    }

    /// Waits until [`Output::look`] has something to find. Cancel-safe.
    pub async fn ready(&self) {
        self.gate.ready().await;
    }

    /// Which pipes have something for us. To be served by [`Output::pump`].
    pub fn look(&mut self) -> Round {
        self.gate.look()
    }

    /// Serves the pipes that have data, each with a bounded amount.
    pub fn pump(&mut self, round: &Round, now: Moment) {
        let events = round.events();
        let count = events.len();
        if count == 0 {
            return self.gate.open();
        }
        let share = (ROUND_BYTES / count).clamp(CHUNK, MOST);
        let mut smallest = MOST;
        for event in events {
            let (data, flags) = (event.data.u64(), event.flags);
            if data & LOG_EVENT == 0 {
                let key = Key::from_u64(data);
                smallest = smallest.min(self.streams.get(key).map_or(MOST, |stream| stream.capacity));
                self.serve(key, flags, share, now);
            } else {
                self.flush(Key::from_u64(data & !LOG_EVENT), now);
            }
        }
        if count < ROUND {
            self.gate.shut_for(Duration::from_nanos((smallest / BYTES_PER_NANOSECOND) as u64));
        } else {
            // More pipes may be ready: the next round is due at once.
            self.gate.open();
        }
    }

    /// Moves everything that is in the pipe now. To be called when the main process has died, before that is told to
    /// anyone: its last words are in the log then.
    pub fn drain(&mut self, id: StreamId, now: Moment) {
        let Some(stream) = self.streams.get(id.0) else { return };
        let mut left = rustix::io::ioctl_fionread(&stream.pipe).unwrap_or(0) as usize;
        while left > 0 {
            match self.transfer(id.0, left.min(MOST), now) {
                Some(moved @ 1..) => left -= moved.min(left),
                Some(0) | None => break,
            }
        }
        self.finish_capture(id.0, now);
    }

    /// Nothing is withheld from the log of a process that has ended.
    fn finish_capture(&mut self, key: Key, now: Moment) {
        let Some(stream) = self.streams.get_mut(key) else { return };
        let Some(tap) = &mut stream.tap else { return };
        let rest = tap.finish();
        let (log_key, pieces) = (stream.log, tap.take());
        self.pieces.extend(pieces.into_iter().map(|piece| (StreamId(key), piece)));
        if let Some(log) = self.logs.get_mut(log_key) {
            let moved = log.add(&rest);
            self.settle(log_key, moved, now);
        }
    }

    /// Tells that the main process is gone. The pipe is read on for others that hold it, until the last one closes it.
    pub fn release(&mut self, id: StreamId, now: Moment) {
        let Some(stream) = self.streams.get_mut(id.0) else { return };
        stream.released = true;
        // Mostly nobody holds it any more: then it ends here, and not by an event of its own.
        self.transfer(id.0, CHUNK, now);
        self.watch(id.0);
    }

    /// Pipes that are being read.
    pub fn streams(&self) -> usize {
        self.streams.iter().count()
    }

    /// Opens all open log files again, after others renamed them. Returns those which cannot be: they stay as they were.
    pub fn reopen_all(&mut self) -> Vec<OpenError> {
        let mut errors = Vec::new();
        for log in self.logs.values_mut() {
            if let Some(file) = log.file_mut()
                && let Err(source) = file.reopen()
            {
                errors.push(OpenError { path: file.path().to_path_buf(), source });
            }
        }
        self.wakes.values().for_each(announce);
        errors
    }

    /// Empties a log, also that of a process which is not running. Rotated files stay.
    ///
    /// # Errors
    /// Those of `unlink` and `open`.
    pub fn clear(&mut self, id: LogId) -> io::Result<()> {
        let Some(log) = self.logs.get_mut(id.0) else { return Ok(()) };
        log.clear()?;
        self.follow_rename(id.0);
        Ok(())
    }

    /// Where a log is.
    pub fn path(&self, id: LogId) -> Option<&Path> {
        self.logs.get(id.0)?.path()
    }

    /// Writes to a log by itself, now or as soon as there is room. What is too much to be kept is dropped and counted.
    pub fn write(&mut self, id: LogId, text: &[u8], now: Moment) {
        let Some(log) = self.logs.get_mut(id.0) else { return };
        let moved = match log.open() {
            Ok(_) => log.add_if_room(text),
            Err(error) => Moved::Failed(error.source),
        };
        self.settle(id.0, moved, now);
    }

    /// How a log fares.
    pub fn health(&self, id: LogId) -> LogHealth {
        let Some(log) = self.logs.get(id.0) else { return LogHealth::default() };
        let error = match &log.condition {
            Condition::Good | Condition::Slow(_) => None,
            Condition::Stuck => Some("takes no output".to_owned()),
            Condition::Failing(_, error) => Some(error.clone()),
        };
        LogHealth { lost: log.lost_before + log.lost_now, error }
    }

    /// Logs that were removed and last as long as somebody holds their pipes.
    pub fn removed_logs(&self) -> impl Iterator<Item = LogId> {
        self.logs.iter().filter(|(_, log)| log.removed).map(|(key, _)| LogId(key))
    }

    /// The pipes that go to a log; for each whether its main process is gone, and what is held back of it.
    pub fn pipes(&self, id: LogId) -> impl Iterator<Item = (BorrowedFd<'_>, bool, Held)> {
        let streams = self.streams.iter().filter(move |(_, stream)| stream.log == id.0);
        streams.map(|(_, stream)| (stream.pipe.as_fd(), stream.released, stream.held()))
    }

    /// Goes on with what was held back of a pipe.
    pub fn resume_stream(&mut self, id: StreamId, held: Held) {
        if let Some(stream) = self.streams.get_mut(id.0) {
            stream.resume(held);
        }
    }

    /// What was read for a log and could not be written yet.
    pub fn pending(&self, id: LogId) -> &[u8] {
        self.logs.get(id.0).map_or(&[], Log::pending)
    }

    /// Goes on with a log of the image before this one: `pending` comes before all that is in the pipes.
    pub fn resume(&mut self, id: LogId, pending: Vec<u8>, lost: u64, now: Moment) {
        let Some(log) = self.logs.get_mut(id.0) else { return };
        log.lost_before = lost;
        if pending.is_empty() {
            return;
        }
        log.set_pending(pending);
        match log.open() {
            Ok(_) => self.flush(id.0, now),
            Err(error) => self.settle(id.0, Moved::Failed(error.source), now),
        }
    }

    /// Takes the next thing to be logged.
    pub fn poll_report(&mut self) -> Option<Report> {
        self.reports.pop_front()
    }

    /// The pipe of a stream that has not ended.
    pub fn pipe(&self, id: StreamId) -> Option<BorrowedFd<'_>> {
        self.streams.get(id.0).map(|stream| stream.pipe.as_fd())
    }

    /// The log of a stream that has not ended.
    pub fn log_of(&self, id: StreamId) -> Option<LogId> {
        self.streams.get(id.0).map(|stream| LogId(stream.log))
    }

    /// Whether nothing more will come: nobody can write to the pipe, and it is empty.
    pub fn is_exhausted(&self, id: StreamId) -> bool {
        self.streams.get(id.0).is_none_or(|stream| pipe::is_exhausted(&stream.pipe))
    }

    /// Takes the next stream that has ended.
    pub fn poll_ended(&mut self) -> Option<StreamId> {
        self.ended.pop_front()
    }

    /// Whether a stream has not ended yet.
    pub fn is_attached(&self, id: StreamId) -> bool {
        self.streams.get(id.0).is_some()
    }

    /// Takes the next thing that was wanted of a stream, in the order in which it was written.
    pub fn poll_piece(&mut self) -> Option<(StreamId, Piece)> {
        self.pieces.pop_front()
    }

    /// Follows a log file, beginning `backlog` bytes before its end; `None` if it is no regular file.
    pub fn follow(&mut self, id: LogId, backlog: u64) -> Option<Follower> {
        let path = log::followable(self.path(id)?)?;
        self.wakes.retain(|_, sender| sender.receiver_count() > 0);
        let wake = self.wakes.entry(path.clone()).or_insert_with(|| watch::Sender::new(0)).subscribe();
        Some(Follower::new(path, backlog, wake))
    }

    /// Serves one ready pipe, in pieces, for the kernel lets nobody write to a pipe while it is
    /// being spliced.
    fn serve(&mut self, key: Key, flags: epoll::EventFlags, share: usize, now: Moment) {
        let Some(stream) = self.streams.get(key) else { return };
        let room = stream.capacity.min(share);
        match self.logs.get(stream.log).map(|log| &log.condition) {
            Some(Condition::Good | Condition::Failing(None, _)) => {
                let mut moved = 0;
                while moved < room
                    && let Some(count) = self.transfer(key, CHUNK.min(room - moved), now)
                {
                    moved += count;
                    if count < CHUNK {
                        break;
                    }
                }
            }
            Some(Condition::Slow(_)) => {}
            Some(Condition::Stuck | Condition::Failing(Some(_), _)) | None => {
                self.shed(key, flags.contains(epoll::EventFlags::HUP));
                // A write that fills a pipe which is not empty is no event until it is through.
                self.check_at = Some(now.mono + CHECK);
            }
        }
    }

    /// Moves up to `limit` bytes from a pipe to its log; `None` when the stream or the log is done for now.
    fn transfer(&mut self, key: Key, limit: usize, now: Moment) -> Option<usize> {
        if self.buffer.is_empty() {
            // Pages that are zero already are not touched, and where all is spliced they never are.
            self.buffer = vec![0; CHUNK];
        }
        let stream = self.streams.get_mut(key)?;
        let log_key = stream.log;
        let log = self.logs.get_mut(log_key)?;
        if !matches!(log.condition, Condition::Good | Condition::Failing(None, _)) {
            return None;
        }
        let tools = Tools {
            buffer: &mut self.buffer,
            filter: &mut stream.filter,
            syslog: &mut self.syslog,
            tap: stream.tap.as_mut(),
            mirror: self.mirror.as_ref(),
        };
        let moved = log.take(&stream.pipe, limit, tools);
        if let Some(tap) = &mut stream.tap {
            if matches!(moved, Moved::End) {
                tap.end_text();
            }
            self.pieces.extend(tap.take().into_iter().map(|piece| (StreamId(key), piece)));
        }
        let count = if let Moved::Bytes(count) = moved { Some(count) } else { None };
        let ended = matches!(moved, Moved::End);
        self.settle(log_key, moved, now);
        if ended {
            self.end_stream(key);
        }
        count
    }

    /// Writes what a log had to keep back.
    fn flush(&mut self, key: Key, now: Moment) {
        if let Some(log) = self.logs.get_mut(key) {
            let moved = log.flush();
            self.settle(key, moved, now);
        }
    }

    /// Draws the conclusions for a log from what became of an attempt to write to it.
    fn settle(&mut self, key: Key, moved: Moved, now: Moment) {
        let Some(log) = self.logs.get_mut(key) else { return };
        match moved {
            Moved::Nothing | Moved::End => {}
            Moved::Bytes(_) => {
                if !self.wakes.is_empty()
                    && let Some(path) = log.path().map(Path::to_path_buf)
                {
                    self.wake_followers(&path);
                }
                self.recover(key);
            }
            Moved::Blocked(taken) => {
                if taken > 0 {
                    self.recover(key);
                }
                self.wait_for_target(key, now);
            }
            Moved::Failed(error) => {
                if !matches!(log.condition, Condition::Failing(..)) {
                    let path = log.path().map(Path::to_path_buf).unwrap_or_default();
                    self.reports.push_back(Report::Failing { path, error: error.to_string() });
                }
                self.condemn(key, Condition::Failing(Some(now.mono + RETRY), error.to_string()));
            }
        }
        self.handle_notice(key);
    }

    fn handle_notice(&mut self, key: Key) {
        let Some(log) = self.logs.get_mut(key) else { return };
        let Some(notice) = log.take_notice() else { return };
        let path = log.path().map(Path::to_path_buf).unwrap_or_default();
        match notice {
            Notice::Rotated => self.follow_rename(key),
            Notice::Recreated => {
                self.reports.push_back(Report::Recreated { path });
                self.follow_rename(key);
            }
            Notice::NotRotated(error) => {
                self.reports.push_back(Report::NotRotated { path, error: error.to_string() });
            }
        }
    }

    /// A log's path leads to a new file: other logs at the same path go along.
    fn follow_rename(&mut self, key: Key) {
        let Some(path) = self.logs.get(key).and_then(Log::path).map(Path::to_path_buf) else { return };
        for log in self.logs.values_mut().filter(|log| log.path() == Some(&path)) {
            if let Some(file) = log.file_mut() {
                // On an error it goes on with the file it has; the next rotation or spawn tries again.
                let _ = file.reopen_if_replaced();
            }
        }
        self.wake_followers(&path);
    }

    fn end_stream(&mut self, key: Key) {
        let Some(stream) = self.streams.remove(key) else { return };
        // Closing it is not enough: a keeper may hold the same open file. One that was never registered is none there.
        let _ = epoll::delete(self.gate.pipes(), &stream.pipe);
        self.ended.push_back(StreamId(key));
        if let Some(log) = self.logs.get_mut(stream.log) {
            log.streams -= 1;
            self.forget_unused(stream.log);
        }
    }

    /// Closes a log that nothing writes to any more, and forgets it if it was removed.
    fn forget_unused(&mut self, key: Key) {
        let Some(log) = self.logs.get(key) else { return };
        if log.streams > 0 {
            return;
        }
        let removed = log.removed;
        if log.is_flushed() || removed {
            self.close(key);
        }
        if removed {
            self.logs.remove(key);
            self.troubled.retain(|other| *other != key);
        }
    }

    fn close(&mut self, key: Key) {
        let Some(log) = self.logs.get_mut(key) else { return };
        if let Some(stream) = log.stream() {
            // A shared description stays in the epoll beyond our closing. It is there only if it was slow.
            let _ = epoll::delete(self.gate.pipes(), stream);
        }
        log.close();
        if matches!(log.condition, Condition::Slow(_) | Condition::Stuck) {
            self.recover(key);
        }
    }

    fn watch_streams_of(&self, log: Key) {
        for (key, _) in self.streams.iter().filter(|(_, stream)| stream.log == log) {
            self.watch(key);
        }
    }

    /// Registers a stream's interest anew, according to its log's condition.
    fn watch(&self, key: Key) {
        let Some(stream) = self.streams.get(key) else { return };
        let Some(log) = self.logs.get(stream.log) else { return };
        // The stream is registered, so this cannot fail.
        let _ =
            epoll::modify(self.gate.pipes(), &stream.pipe, stream_event(key), watch_flags(&log.condition));
    }

    fn wake_followers(&mut self, path: &Path) {
        self.wakes.get(path).into_iter().for_each(announce);
    }
}

fn announce(sender: &watch::Sender<u64>) {
    sender.send_modify(|news| *news = news.wrapping_add(1));
}

/// Capacity of the smallest pipe for each nanosecond that writes are left to gather: in that time the fastest program
/// (1.2 GB/s) fills a quarter of it. 0.2 ms for a pipe of 1 MiB.
const BYTES_PER_NANOSECOND: usize = 5;
/// Bytes that the pipes of one round share.
const ROUND_BYTES: usize = 4 << 20;
/// Most bytes moved at a time.
const MOST: usize = 1 << 20;

#[cfg(test)]
mod tests;
