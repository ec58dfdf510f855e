//! What is wanted of a stream beside its log: its bytes for events, messages of capture mode, or a listener's words.
//!
//! Where the bytes are only to be seen they are doubled inside the kernel, seen, and then moved to the log by `splice`: a
//! daemon killed between the two loses nothing of the log.

use std::io;
use std::os::fd::OwnedFd;

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, tee};

use super::capture::{Capture, Part};

/// What is wanted of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The bytes as they are: the words of an event listener.
    Words,
    /// The text that is logged, messages of capture mode, or both.
    Output {
        /// Whether the text is wanted.
        text: bool,
        /// Bytes that are kept of a message, if messages are wanted.
        capture: Option<u64>,
    },
}

/// Something that was wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// Bytes that were written.
    Text(Vec<u8>),
    /// A message of capture mode.
    Message(Vec<u8>),
}

/// The tap of one stream.
#[derive(Debug)]
pub(super) struct Tap {
    wants_text: bool,
    is_raw: bool,
    capture: Option<Capture>,
    pieces: Vec<Piece>,
}

impl Tap {
    pub(super) fn new(wanted: Wanted) -> Self {
        let (wants_text, is_raw, capture) = match wanted {
            Wanted::Words => (true, true, None),
            Wanted::Output { text, capture } => (text, false, capture.map(Capture::new)),
        };
        Self { wants_text, is_raw, capture, pieces: Vec::new() }
    }

    /// Whether the bytes have to pass through us, because not all of them go to the log.
    pub(super) fn divides(&self) -> bool {
        self.capture.is_some()
    }

    /// Sees bytes as they were written.
    pub(super) fn see_raw(&mut self, data: &[u8]) {
        if self.is_raw {
            self.add_text(data.to_vec());
        }
    }

    /// Sees what is left after the settings of the log have been applied; returns what goes to the log, if that is not
    /// the same.
    pub(super) fn see(&mut self, text: &[u8]) -> Option<Vec<u8>> {
        let Some(capture) = &mut self.capture else {
            if !self.is_raw {
                self.add_text(text.to_vec());
            }
            return None;
        };
        let parts = capture.feed(text);
        Some(self.sort(parts))
    }

    /// The stream has ended, or its process: returns what was held back from the log.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let parts = self.capture.as_mut().map(Capture::finish).unwrap_or_default();
        self.sort(parts)
    }

    /// What divides the bytes, if something does.
    pub(super) fn capture(&self) -> Option<&Capture> {
        self.capture.as_ref()
    }

    /// Goes on where another one was.
    pub(super) fn resume(&mut self, capture: Capture) {
        if let Some(own) = &mut self.capture {
            own.resume(capture);
        }
    }

    /// Takes what has gathered.
    pub(super) fn take(&mut self) -> Vec<Piece> {
        std::mem::take(&mut self.pieces)
    }

    fn add_text(&mut self, text: Vec<u8>) {
        if self.wants_text && !text.is_empty() {
            self.pieces.push(Piece::Text(text));
        }
    }

    fn sort(&mut self, parts: Vec<Part>) -> Vec<u8> {
        let mut log = Vec::new();
        for part in parts {
            match part {
                Part::Log(text) => {
                    log.extend_from_slice(&text);
                    self.add_text(text);
                }
                // Supervisor publishes a message as output too.
                Part::Captured(text) => self.add_text(text),
                Part::Message(message) => self.pieces.push(Piece::Message(message)),
                Part::Unfinished(text) => log.extend_from_slice(&text),
            }
        }
        log
    }
}

/// A pipe of our own, in which bytes are seen that are still in another.
#[derive(Debug)]
pub(super) struct Mirror {
    read: OwnedFd,
    write: OwnedFd,
}

impl Mirror {
    /// An empty one.
    pub(super) fn new() -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        // Refused beyond the budget of the user: the usual size works too.
        let _ = fcntl_setpipe_size(&write, 1 << 20);
        Ok(Self { read, write })
    }

    /// Copies what is at the head of `pipe` into `buffer`, and leaves it there. Returns how many bytes; 0 at its end.
    pub(super) fn look(&self, pipe: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
        let count = tee(pipe, &self.write, buffer.len(), SpliceFlags::NONBLOCK)?;
        let mut filled = 0;
        while filled < count {
            // What was put in is there: nobody else reads it.
            filled += rustix::io::read(&self.read, &mut buffer[filled..count])?;
        }
        Ok(count)
    }
}
