//! Removes ANSI control sequences (`strip_ansi`). Pure.
//!
//! As in Supervisor only sequences that start with `ESC [` are removed. Two of its defects are not kept: a sequence
//! may be cut by the end of a chunk, and one with a final letter which Supervisor does not know ends there instead of
//! swallowing the text after it.

use serde::{Deserialize, Serialize};

/// The stripper of one stream: remembers a sequence that a chunk ends in.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Stripper {
    state: State,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    #[default]
    Text,
    /// After an ESC, which is kept back until it is known what follows.
    Escape,
    /// Within `ESC [ …`.
    Sequence,
}

impl Stripper {
    /// Appends to `out` what is left of `data`.
    pub(super) fn strip(&mut self, data: &[u8], out: &mut Vec<u8>) {
        for &byte in data {
            self.state = match (self.state, byte) {
                (State::Text, ESC) => State::Escape,
                (State::Text, _) => {
                    out.push(byte);
                    State::Text
                }
                (State::Escape, b'[') => State::Sequence,
                (State::Escape, ESC) => {
                    out.push(ESC);
                    State::Escape
                }
                (State::Escape, _) => {
                    out.extend([ESC, byte]);
                    State::Text
                }
                // Parameters and intermediate bytes, then one final byte (ECMA-48, 5.4).
                (State::Sequence, 0x20..=0x3f) => State::Sequence,
                (State::Sequence, 0x40..=0x7e) => State::Text,
                (State::Sequence, ESC) => State::Escape,
                // No sequence after all, as it seems: what was swallowed is lost, the text is not.
                (State::Sequence, _) => {
                    out.push(byte);
                    State::Text
                }
            }
        }
    }

    /// Appends what was kept back, at the end of the stream.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        if std::mem::take(&mut self.state) == State::Escape {
            out.push(ESC);
        }
    }
}

const ESC: u8 = 0x1b;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn strip(chunks: &[&[u8]]) -> Vec<u8> {
        let (mut stripper, mut out) = (Stripper::default(), Vec::new());
        for chunk in chunks {
            stripper.strip(chunk, &mut out);
        }
        stripper.finish(&mut out);
        out
    }

    #[test]
    fn sequences_are_removed_and_the_rest_is_kept() {
        for (input, output) in [
            (&b"\x1b[31mred\x1b[0m plain"[..], &b"red plain"[..]),
            (b"\x1b[?25lx\x1b[2K\x1b[10;20Hy", b"xy"),
            (b"\x1b[6nasks", b"asks"),
            (b"\x1b]0;title\x07x", b"\x1b]0;title\x07x"),
            (b"\x1b\x1b[1mx\x1b", b"\x1bx\x1b"),
            (b"\x1b[1\nx", b"\nx"),
            (b"\xff\x00\x1b[mz", b"\xff\x00z"),
        ] {
            assert_eq!(strip(&[input]), output, "{}", input.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn where_chunks_end_makes_no_difference(text in "[\\x1b\\[0-9;mHxy\\n]{0,40}", cut in 0usize..40) {
            let text = text.as_bytes();
            let (head, tail) = text.split_at(cut.min(text.len()));
            prop_assert_eq!(strip(&[text]), strip(&[head, tail]));
        }
    }
}
