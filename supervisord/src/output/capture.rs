//! Capture mode: what a program writes between two tokens is a message, not log text. Pure.

use serde::{Deserialize, Serialize};

/// Begins a message. Source: Supervisor.
const BEGIN: &[u8] = b"<!--XSUPERVISOR:BEGIN-->";
/// Ends a message. Source: Supervisor.
const END: &[u8] = b"<!--XSUPERVISOR:END-->";

/// A part of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    /// For the log.
    Log(Vec<u8>),
    /// Of a message that goes on.
    Captured(Vec<u8>),
    /// A whole message.
    Message(Vec<u8>),
    /// A message that has no end because the stream ended, its token included: for the log.
    Unfinished(Vec<u8>),
}

/// The capture of one stream: remembers a message, and what may be the beginning of a token.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Capture {
    maxbytes: usize,
    pending: Vec<u8>,
    message: Option<Vec<u8>>,
}

impl Capture {
    /// A capture that keeps about this many bytes of a message.
    pub(super) fn new(maxbytes: u64) -> Self {
        Self { maxbytes: usize::try_from(maxbytes).unwrap_or(usize::MAX), pending: Vec::new(), message: None }
    }

    /// Goes on where another one was.
    pub(super) fn resume(&mut self, other: Self) {
        (self.pending, self.message) = (other.pending, other.message);
    }

    /// Divides what was written.
    pub(super) fn feed(&mut self, data: &[u8]) -> Vec<Part> {
        let mut text = std::mem::take(&mut self.pending);
        text.extend_from_slice(data);
        let (mut rest, mut parts) = (&text[..], Vec::new());
        loop {
            let token = if self.message.is_some() { END } else { BEGIN };
            let Some(at) = rest.windows(token.len()).position(|window| window == token) else {
                let held = longest_beginning(token, rest);
                self.take(&rest[..rest.len() - held], &mut parts);
                self.pending = rest[rest.len() - held..].to_vec();
                return parts;
            };
            self.take(&rest[..at], &mut parts);
            match self.message.take() {
                Some(message) => parts.push(Part::Message(message)),
                None => self.message = Some(Vec::new()),
            }
            rest = &rest[at + token.len()..];
        }
    }

    /// Ends the stream: nothing is withheld.
    pub(super) fn finish(&mut self) -> Vec<Part> {
        let (mut pending, mut parts) = (std::mem::take(&mut self.pending), Vec::new());
        match self.message.take() {
            Some(mut message) => {
                message.append(&mut pending);
                parts.push(Part::Unfinished([BEGIN, &message].concat()));
            }
            None => self.take(&pending, &mut parts),
        }
        parts
    }

    fn take(&mut self, text: &[u8], parts: &mut Vec<Part>) {
        if text.is_empty() {
            return;
        }
        let Some(message) = &mut self.message else { return parts.push(Part::Log(text.to_vec())) };
        // Supervisor's rule: what was written at once is kept whole.
        if message.len() + text.len() > self.maxbytes {
            message.drain(..text.len().min(message.len()));
        }
        message.extend_from_slice(text);
        parts.push(Part::Captured(text.to_vec()));
    }
}

/// Length of the longest end of `text` that a token may begin with.
fn longest_beginning(token: &[u8], text: &[u8]) -> usize {
    let most = text.len().min(token.len() - 1);
    (0..=most).rev().find(|length| token.starts_with(&text[text.len() - length..])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Log text, messages, and what was left at the end.
    fn divide(maxbytes: u64, chunks: &[&[u8]]) -> (String, Vec<String>) {
        let (mut capture, mut log, mut messages) = (Capture::new(maxbytes), Vec::new(), Vec::new());
        let mut parts: Vec<Part> = chunks.iter().flat_map(|chunk| capture.feed(chunk)).collect();
        parts.extend(capture.finish());
        for part in parts {
            match part {
                Part::Log(text) | Part::Unfinished(text) => log.extend(text),
                Part::Message(text) => messages.push(String::from_utf8(text).unwrap()),
                Part::Captured(_) => {}
            }
        }
        (String::from_utf8(log).unwrap(), messages)
    }

    #[test]
    fn messages_are_taken_out_of_the_log() {
        let text = b"before<!--XSUPERVISOR:BEGIN-->one<!--XSUPERVISOR:END-->after\n\
            <!--XSUPERVISOR:BEGIN-->two<!--XSUPERVISOR:END--><";
        let expected = ("beforeafter\n<".to_owned(), vec!["one".to_owned(), "two".to_owned()]);
        assert_eq!(divide(100, &[text]), expected);
    }

    #[test]
    fn nothing_is_withheld_at_the_end() {
        for text in ["short", "x<!--XSUP", "x<!--XSUPERVISOR:BEGIN-->unfinished<!--XSUPER"] {
            assert_eq!(divide(100, &[text.as_bytes()]), (text.to_owned(), Vec::new()));
        }
    }

    #[test]
    fn of_a_long_message_the_end_is_kept_but_what_was_written_at_once_stays_whole() {
        let (begin, end) = ("<!--XSUPERVISOR:BEGIN-->", "<!--XSUPERVISOR:END-->");
        let whole = format!("{begin}{}{end}", "x".repeat(40));
        assert_eq!(divide(20, &[whole.as_bytes()]).1, ["x".repeat(40)]);
        let pieces = [begin.as_bytes(), b"0123456789", b"abcdefghij", b"ABCDE", end.as_bytes()];
        assert_eq!(divide(20, &pieces).1, ["56789abcdefghijABCDE"]);
    }

    proptest! {
        #[test]
        fn where_chunks_end_makes_no_difference(
            words in prop::collection::vec(
                prop::sample::select(vec!["<!--XSUPERVISOR:BEGIN-->", "<!--XSUPERVISOR:END-->", "<!--", "text\n", "<"]),
                0..7,
            )
        ) {
            let text = words.concat().into_bytes();
            let whole = divide(1000, &[&text]);
            for at in 0..=text.len() {
                prop_assert_eq!(&divide(1000, &[&text[..at], &text[at..]]), &whole);
            }
        }
    }
}
