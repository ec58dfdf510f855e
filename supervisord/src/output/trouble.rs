//! Logs that take nothing: a full disk, a slow or a stuck target. What programs write meanwhile waits in their pipes, or
//! is dropped and counted, so that no program ever waits for a disk.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::gate::LOG_EVENT;
use super::log::{Condition, Log};
use super::slots::Key;
use super::writer::CHUNK;
use super::{Output, Report, StreamId};
use crate::clock::Moment;

impl Output {
    /// When [`Output::handle_timeout`] must next be called, if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = self.troubled.iter().filter_map(|key| match &self.logs.get(*key)?.condition {
            Condition::Slow(until) => Some(*until),
            Condition::Failing(retry_at, _) => *retry_at,
            Condition::Good | Condition::Stuck => None,
        });
        deadlines.chain(self.check_at).min()
    }

    /// Acts on deadlines at or before `now`; an early call does nothing.
    pub fn handle_timeout(&mut self, now: Moment) {
        if self.check_at.is_some_and(|at| at <= now.mono) {
            self.check_at = self.shed_all().then(|| now.mono + CHECK);
        }
        for key in self.troubled.clone() {
            let Some(log) = self.logs.get_mut(key) else { continue };
            match &mut log.condition {
                Condition::Slow(until) if *until <= now.mono => {
                    log.condition = Condition::Stuck;
                    let report =
                        Report::Stuck { path: log.path().map(Path::to_path_buf).unwrap_or_default() };
                    self.reports.push_back(report);
                    self.watch_streams_of(key);
                }
                Condition::Failing(retry_at @ Some(_), _) if retry_at.is_some_and(|at| at <= now.mono) => {
                    *retry_at = None;
                    self.flush(key, now);
                    self.watch_streams_of(key);
                }
                Condition::Good | Condition::Slow(_) | Condition::Stuck | Condition::Failing(..) => {}
            }
        }
    }

    pub(super) fn condemn(&mut self, key: Key, condition: Condition) {
        let Some(log) = self.logs.get_mut(key) else { return };
        log.condition = condition;
        if !self.troubled.contains(&key) {
            self.troubled.push(key);
        }
        self.watch_streams_of(key);
    }

    /// A log has taken data: if it was in trouble it is not any more.
    pub(super) fn recover(&mut self, key: Key) {
        let Some(log) = self.logs.get_mut(key) else { return };
        let is_told = match log.condition {
            Condition::Good => return,
            Condition::Slow(_) => log.owes_report(),
            Condition::Stuck | Condition::Failing(..) => true,
        };
        let path = log.path().filter(|_| is_told).map(Path::to_path_buf);
        log.condition = Condition::Good;
        let lost = if is_told { std::mem::take(&mut log.lost_now) } else { 0 };
        log.lost_before += lost;
        if let Some(stream) = log.stream() {
            // It is registered only if it was slow.
            let _ = epoll::delete(self.gate.pipes(), stream);
        }
        self.reports.extend(path.map(|path| Report::Recovered { path, lost }));
        self.troubled.retain(|other| *other != key);
        self.watch_streams_of(key);
    }

    /// Looks at all pipes whose log takes nothing; true if any holds data.
    pub(super) fn shed_all(&mut self) -> bool {
        let is_shedding =
            |log: &Log| matches!(log.condition, Condition::Stuck | Condition::Failing(Some(_), _));
        let streams =
            self.streams.iter().filter(|(_, stream)| self.logs.get(stream.log).is_some_and(is_shedding));
        let keys: Vec<Key> = streams.map(|(key, _)| key).collect();
        keys.into_iter().filter(|key| self.shed(*key, false)).count() > 0
    }

    /// Drops what a pipe holds if that is more than half of what it can, or if nobody is left to write; true if it holds
    /// data. It is dropped whole: the next write to an empty pipe is an event for us.
    pub(super) fn shed(&mut self, key: Key, is_hung_up: bool) -> bool {
        if self.buffer.is_empty() {
            self.buffer.resize(CHUNK, 0);
        }
        let Some(stream) = self.streams.get_mut(key) else { return false };
        let is_over = is_hung_up && stream.released;
        let held = rustix::io::ioctl_fionread(&stream.pipe).unwrap_or(0) as usize;
        // Whoever wants the bytes for something else gets them though the log does not.
        if !is_over && stream.tap.is_none() && held <= stream.capacity / 2 {
            return held > 0;
        }
        let mut dropped = 0;
        while dropped < stream.capacity
            && let Ok(read @ 1..) = rustix::io::read(&stream.pipe, &mut self.buffer)
        {
            dropped += read;
            if let Some(tap) = &mut stream.tap {
                tap.see_raw(&self.buffer[..read]);
                tap.see(&self.buffer[..read]);
                self.pieces.extend(tap.take().into_iter().map(|piece| (StreamId(key), piece)));
            }
        }
        if let Some(log) = self.logs.get_mut(stream.log) {
            log.lost_now += dropped as u64;
        }
        if is_over {
            self.end_stream(key);
        }
        true
    }

    /// A log's target takes nothing: waits for it.
    pub(super) fn wait_for_target(&mut self, key: Key, now: Moment) {
        match self.logs.get(key).map(|log| &log.condition) {
            Some(Condition::Good) => self.condemn(key, Condition::Slow(now.mono + PATIENCE)),
            Some(Condition::Failing(None, error)) => {
                let error = error.clone();
                self.condemn(key, Condition::Failing(Some(now.mono + RETRY), error));
            }
            // More to be written puts no attempt off.
            Some(Condition::Failing(Some(_), _) | Condition::Slow(_) | Condition::Stuck) | None => {}
        }
        let Some(stream) = self.logs.get(key).and_then(Log::stream) else { return };
        let data = epoll::EventData::new_u64(key.to_u64() | LOG_EVENT);
        let flags = epoll::EventFlags::OUT | epoll::EventFlags::ONESHOT;
        if epoll::add(self.gate.pipes(), stream, data, flags) == Err(rustix::io::Errno::EXIST) {
            // Registered is registered; an error would be one of memory, and the next attempt repeats it.
            let _ = epoll::modify(self.gate.pipes(), stream, data, flags);
        }
    }
}

/// How long a target that is no file may take nothing before output is dropped.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Time between attempts to write a log that fails.
pub const RETRY: Duration = Duration::from_secs(1);
/// Time between looks at pipes whose log takes nothing.
pub(super) const CHECK: Duration = Duration::from_millis(20);
