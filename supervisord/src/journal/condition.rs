//! How it stands with the file of the journal: when a line can be appended, when all is written anew, when a journal that
//! cannot be written is tried again.

use std::time::{Duration, Instant};

use crate::clock::Moment;

/// Bytes beyond which a journal is written anew if it has at least doubled.
const COMPACT_AT: u64 = 256 << 10;
/// Time between attempts to write a journal that cannot be written.
const RETRY: Duration = Duration::from_secs(5);

/// How it stands with the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Nothing of ours is in it yet.
    Unwritten,
    /// Lines can be appended.
    Open {
        /// Bytes that are in it.
        len: u64,
        /// Length after it was last written anew.
        base: u64,
    },
    /// It cannot be written.
    Failing {
        /// When to try again.
        retry_at: Instant,
        /// Why, and which file.
        problem: String,
    },
}

/// What writing has brought.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is written, or nothing was to be done.
    Fine,
    /// It cannot be written any more, and why. Said once.
    Failed(String),
    /// It can be written again.
    Recovered,
}

impl Condition {
    /// Whether all is to be written anew: it has grown, could not be written for a while, or has nothing of ours.
    pub fn wants_rewrite(&self, now: Moment) -> bool {
        match self {
            Self::Unwritten => true,
            Self::Open { len, base } => *len > COMPACT_AT && *len > 2 * base,
            Self::Failing { retry_at, .. } => *retry_at <= now.mono,
        }
    }

    /// When a journal that could not be written is to be tried again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Unwritten | Self::Open { .. } => None,
            Self::Failing { retry_at, .. } => Some(*retry_at),
        }
    }

    /// What is wrong, if something is.
    pub fn problem(&self) -> Option<&str> {
        match self {
            Self::Unwritten | Self::Open { .. } => None,
            Self::Failing { problem, .. } => Some(problem),
        }
    }

    /// Where the next line goes, if lines can be appended.
    pub fn end(&self) -> Option<u64> {
        match self {
            Self::Open { len, .. } => Some(*len),
            Self::Unwritten | Self::Failing { .. } => None,
        }
    }

    /// Records that a line of `bytes` was appended.
    pub fn handle_appended(&mut self, bytes: usize) -> Outcome {
        if let Self::Open { len, .. } = self {
            *len += bytes as u64;
        }
        Outcome::Fine
    }

    /// Records that all was written anew, with so many bytes.
    pub fn handle_rewritten(&mut self, bytes: usize) -> Outcome {
        let was_failing = matches!(self, Self::Failing { .. });
        *self = Self::Open { len: bytes as u64, base: bytes as u64 };
        if was_failing { Outcome::Recovered } else { Outcome::Fine }
    }

    /// Records that it could not be written, and why.
    pub fn handle_failed(&mut self, problem: String, now: Moment) -> Outcome {
        let is_news = !matches!(self, Self::Failing { .. });
        *self = Self::Failing { retry_at: now.deadline(RETRY), problem: problem.clone() };
        if is_news { Outcome::Failed(problem) } else { Outcome::Fine }
    }
}
