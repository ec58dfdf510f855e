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
    /// The beginning of a character whose rest has not been seen yet.
    tail: Vec<u8>,
    pieces: Vec<Piece>,
}

impl Tap {
    pub(super) fn new(wanted: Wanted) -> Self {
        let (wants_text, is_raw, capture) = match wanted {
            Wanted::Words => (true, true, None),
            Wanted::Output { text, capture } => (text, false, capture.map(Capture::new)),
        };
        Self { wants_text, is_raw, capture, tail: Vec::new(), pieces: Vec::new() }
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
        let log = match &mut self.capture {
            Some(capture) => {
                let parts = capture.feed(text);
                Some(self.sort(parts))
            }
            None => {
                if !self.is_raw {
                    self.add_text(text.to_vec());
                }
                None
            }
        };
        if !self.is_raw {
            self.hold_tail();
        }
        log
    }

    /// An event that ends within a character would be no text at all: what is read ends where a buffer does, or where the
    /// program is in the middle of writing.
    fn hold_tail(&mut self) {
        let Some(Piece::Text(text)) = self.pieces.last_mut() else { return };
        // If no text was added since, the last one ends with whole characters and what is held back stays.
        self.tail.append(&mut text.split_off(text.len() - incomplete(text)));
        if text.is_empty() {
            self.pieces.pop();
        }
    }

    /// Nothing more comes: what was held back of the text is text.
    pub(super) fn end_text(&mut self) {
        self.add_text(Vec::new());
    }

    /// The stream has ended, or its process: returns what was held back from the log.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        let parts = self.capture.as_mut().map(Capture::finish).unwrap_or_default();
        let log = self.sort(parts);
        self.end_text();
        log
    }

    /// What is held back of the text.
    pub(super) fn tail(&self) -> &[u8] {
        &self.tail
    }

    /// What divides the bytes, if something does.
    pub(super) fn capture(&self) -> Option<&Capture> {
        self.capture.as_ref()
    }

    /// Goes on where another one was.
    pub(super) fn resume(&mut self, capture: Option<Capture>, tail: Vec<u8>) {
        if let (Some(own), Some(capture)) = (&mut self.capture, capture) {
            own.resume(capture);
        }
        self.tail = tail;
    }

    /// Takes what has gathered.
    pub(super) fn take(&mut self) -> Vec<Piece> {
        std::mem::take(&mut self.pieces)
    }

    fn add_text(&mut self, text: Vec<u8>) {
        let text = match std::mem::take(&mut self.tail) {
            tail if tail.is_empty() => text,
            tail => [tail, text].concat(),
        };
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
                Part::Message(message) => {
                    self.end_text();
                    self.pieces.push(Piece::Message(message));
                }
                Part::Unfinished(text) => log.extend_from_slice(&text),
            }
        }
        log
    }
}

/// Length of the beginning of a UTF-8 character that `text` ends with, 0 if it ends with a whole one or with none.
fn incomplete(text: &[u8]) -> usize {
    let longest = text.len().min(3);
    let tail = &text[text.len() - longest..];
    let Some(at) = tail.iter().rposition(|byte| !matches!(byte, 0x80..=0xbf)) else { return 0 };
    let needed = match tail[at] {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => 1,
    };
    let there = longest - at;
    if there < needed { there } else { 0 }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(tap: &mut Tap) -> Vec<String> {
        let text = |piece| match piece {
            Piece::Text(text) => String::from_utf8_lossy(&text).into_owned(),
            Piece::Message(message) => format!("message {}", String::from_utf8_lossy(&message)),
        };
        tap.take().into_iter().map(text).collect()
    }

    #[test]
    fn text_that_was_cut_ends_with_a_whole_character_and_nothing_is_lost() {
        let whole = "x\u{e9}\u{2603}\u{1f600}y";
        for at in 0..=whole.len() {
            let mut tap = Tap::new(Wanted::Output { text: true, capture: None });
            assert_eq!(tap.see(&whole.as_bytes()[..at]), None);
            let mut all = texts(&mut tap);
            assert!(all.iter().all(|text| whole.starts_with(text.as_str())), "{at}: {all:?}");
            tap.see(&whole.as_bytes()[at..]);
            all.extend(texts(&mut tap));
            assert_eq!(all.concat(), whole, "{at}");
        }
    }

    #[test]
    fn what_is_held_back_stays_while_nothing_comes() {
        let mut tap = Tap::new(Wanted::Output { text: true, capture: Some(100) });
        tap.see(b"caf\xc3");
        tap.see(b"");
        tap.see(b"\xa9");
        assert_eq!(texts(&mut tap), ["caf", "\u{e9}"]);
    }

    #[test]
    fn what_is_no_text_is_not_held_back() {
        for text in [&b"a\xff"[..], b"\x80\x80\x80\x80", b"caf\xe9\n", b"\xf0\x9f\n", b"ok"] {
            let mut tap = Tap::new(Wanted::Output { text: true, capture: None });
            tap.see(text);
            assert_eq!(tap.take(), [Piece::Text(text.to_vec())]);
        }
        let mut words = Tap::new(Wanted::Words);
        words.see_raw(b"caf\xc3");
        words.see(b"caf\xc3");
        assert_eq!(words.take(), [Piece::Text(b"caf\xc3".to_vec())]);
    }

    #[test]
    fn what_is_held_back_comes_at_the_end_and_before_a_message() {
        let mut tap = Tap::new(Wanted::Output { text: true, capture: None });
        tap.see(b"caf\xc3");
        tap.end_text();
        assert_eq!(tap.take(), [Piece::Text(b"caf".to_vec()), Piece::Text(b"\xc3".to_vec())]);
        let mut tap = Tap::new(Wanted::Output { text: true, capture: Some(100) });
        tap.see(b"caf\xc3");
        tap.see(b"\xa9<!--XSUPERVISOR:BEGIN-->m<!--XSUPERVISOR:END-->");
        assert_eq!(texts(&mut tap), ["caf", "\u{e9}", "m", "message m"]);
    }
}
