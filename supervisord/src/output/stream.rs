//! One captured pipe, and what is waited for on it.

use std::os::fd::OwnedFd;

use rustix::event::epoll;
use serde::{Deserialize, Serialize};

use super::ansi::Stripper;
use super::capture::Capture;
use super::log::{Condition, Filter};
use super::slots::Key;
use super::syslog::Lines;
use super::tap::Tap;

/// The read end of one pipe.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) pipe: OwnedFd,
    pub(super) capacity: usize,
    pub(super) log: Key,
    /// The process it belonged to is gone; others may still hold the pipe.
    pub(super) released: bool,
    pub(super) filter: Filter,
    /// Who else wants its bytes.
    pub(super) tap: Option<Tap>,
}

/// What a stream holds back from chunk to chunk, for another image of the daemon.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Held {
    #[serde(default)]
    capture: Option<Capture>,
    /// The beginning of a character for an event.
    #[serde(default)]
    tail: Vec<u8>,
    #[serde(default)]
    stripper: Stripper,
    #[serde(default)]
    lines: Lines,
}

impl Stream {
    pub(super) fn held(&self) -> Held {
        let (stripper, lines) = self.filter.held();
        let tap = self.tap.as_ref();
        let tail = tap.map(|tap| tap.tail().to_vec()).unwrap_or_default();
        Held { capture: tap.and_then(Tap::capture).cloned(), tail, stripper, lines }
    }

    pub(super) fn resume(&mut self, held: Held) {
        self.filter.resume((held.stripper, held.lines));
        if let Some(tap) = &mut self.tap {
            tap.resume(held.capture, held.tail);
        }
    }
}

/// What marks events of this stream.
pub(super) fn stream_event(key: Key) -> epoll::EventData {
    epoll::EventData::new_u64(key.to_u64())
}

/// Level-triggered while the data can be taken, else edge-triggered: a pipe that has to keep its data does not wake us for it.
pub(super) fn watch_flags(condition: &Condition) -> epoll::EventFlags {
    match condition {
        Condition::Good | Condition::Failing(None, _) => epoll::EventFlags::IN,
        Condition::Slow(_) | Condition::Stuck | Condition::Failing(Some(_), _) => {
            epoll::EventFlags::IN | epoll::EventFlags::ET
        }
    }
}
