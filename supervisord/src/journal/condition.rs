//! How it stands with the file of the journal: when a line can be appended, when all is written anew, how much space is to
//! be set aside, when what could not be done is tried again.

use std::time::{Duration, Instant};

use crate::clock::Moment;

/// Bytes beyond which a journal is written anew if it has also grown to [`GROWTH`] times what it was then.
const COMPACT_AT: u64 = 256 << 10;
/// See `COMPACT_AT`. When many of many programs crash again and again, half a record is written anew for each that is
/// appended.
pub const GROWTH: u64 = 3;
/// Bytes that may be written between the decision to write all anew and the moment when that is done, and some more: a
/// line is seldom longer than a kilobyte.
const MARGIN: u64 = 32 << 10;
/// Time between attempts to write a journal that cannot be written, and to set space aside.
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
        /// What is set aside.
        reserve: Reserve,
    },
    /// It cannot be written.
    Failing {
        /// When to try again.
        retry_at: Instant,
        /// Why, and which file.
        problem: String,
    },
}

/// Space on the disk that nobody else can take, so that the journal can be written when the disk is full: the present file
/// is appended to, and the next one, of which there is nothing but its space, takes its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reserve {
    /// The file system cannot set space aside.
    Impossible,
    /// All that is needed. The present file has space up to this length.
    Complete(u64),
    /// Less than is needed.
    Short {
        /// The present file has space up to this length.
        upto: u64,
        /// When to try again.
        retry_at: Instant,
        /// Why, and which file.
        problem: String,
    },
}

/// What came of setting space aside.
#[derive(Debug, PartialEq, Eq)]
pub enum Aside {
    /// The file system cannot.
    Impossible,
    /// The present file has space up to this length, and the next one too.
    Complete(u64),
    /// The same, but that there is not enough, and why.
    Short(u64, String),
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
    /// It is written, but less space than is needed can be set aside, and why. Said once.
    Short(String),
    /// Enough space is set aside again.
    Renewed,
}

/// Bytes for which there is to be space in a journal that had `base` bytes after it was last written anew.
pub fn room_for(base: u64) -> u64 {
    COMPACT_AT.max(GROWTH * base) + 2 * MARGIN
}

impl Condition {
    /// Whether all is to be written anew: it has grown, could not be written for a while, or has nothing of ours.
    pub fn wants_rewrite(&self, now: Moment) -> bool {
        match self {
            Self::Unwritten => true,
            Self::Open { len, base, .. } => {
                (*len > COMPACT_AT && *len > GROWTH * base) || self.is_about_to_be_full()
            }
            Self::Failing { retry_at, .. } => *retry_at <= now.mono,
        }
    }

    /// Whether what is set aside for the present file is nearly used up, and writing all anew would help.
    pub fn is_about_to_be_full(&self) -> bool {
        match self {
            Self::Open { len, base, reserve } => {
                reserve.upto().is_some_and(|upto| *len + MARGIN > upto) && *len > base + MARGIN
            }
            Self::Unwritten | Self::Failing { .. } => false,
        }
    }

    /// Up to which length space is to be set aside before `bytes` are appended, if there is not enough.
    pub fn wants_growth(&self, bytes: usize) -> Option<u64> {
        match self {
            Self::Open { len, reserve: Reserve::Complete(upto), .. } => {
                let end = *len + bytes as u64;
                (end + MARGIN > *upto).then_some(end + COMPACT_AT)
            }
            Self::Open { reserve: Reserve::Impossible | Reserve::Short { .. }, .. }
            | Self::Unwritten
            | Self::Failing { .. } => None,
        }
    }

    /// For how many bytes in each of both files space is to be set aside now, for it could not be before.
    pub fn wants_reserve(&self, now: Moment) -> Option<u64> {
        match self {
            Self::Open { base, reserve: Reserve::Short { retry_at, .. }, .. } => {
                (*retry_at <= now.mono).then(|| room_for(*base))
            }
            Self::Open { reserve: Reserve::Impossible | Reserve::Complete(_), .. }
            | Self::Unwritten
            | Self::Failing { .. } => None,
        }
    }

    /// When what could not be done is to be tried again.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Self::Open { reserve: Reserve::Short { retry_at, .. }, .. } | Self::Failing { retry_at, .. } => {
                Some(*retry_at)
            }
            Self::Open { reserve: Reserve::Impossible | Reserve::Complete(_), .. } | Self::Unwritten => None,
        }
    }

    /// Why it cannot be written, if it cannot.
    pub fn problem(&self) -> Option<&str> {
        match self {
            Self::Unwritten | Self::Open { .. } => None,
            Self::Failing { problem, .. } => Some(problem),
        }
    }

    /// Why too little space is set aside, if it is.
    pub fn shortage(&self) -> Option<&str> {
        match self {
            Self::Open { reserve: Reserve::Short { problem, .. }, .. } => Some(problem),
            Self::Open { reserve: Reserve::Impossible | Reserve::Complete(_), .. }
            | Self::Unwritten
            | Self::Failing { .. } => None,
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

    /// Records that space for the present file is set aside up to this length.
    pub fn handle_grown(&mut self, to: u64) {
        if let Self::Open { reserve: Reserve::Complete(upto), .. } = self {
            *upto = to;
        }
    }

    /// Records that all was written anew, with so many bytes, and what is set aside now.
    pub fn handle_rewritten(&mut self, bytes: usize, aside: Aside, now: Moment) -> Outcome {
        let (was_failing, was_short) = (self.problem().is_some(), self.shortage().is_some());
        let bytes = bytes as u64;
        let reserve = Reserve::of(aside, now);
        let outcome = match &reserve {
            Reserve::Short { problem, .. } if !was_short => Outcome::Short(problem.clone()),
            Reserve::Short { .. } => Outcome::Fine,
            Reserve::Impossible | Reserve::Complete(_) if was_failing => Outcome::Recovered,
            Reserve::Impossible | Reserve::Complete(_) if was_short => Outcome::Renewed,
            Reserve::Impossible | Reserve::Complete(_) => Outcome::Fine,
        };
        *self = Self::Open { len: bytes, base: bytes, reserve };
        outcome
    }

    /// Records what came of setting space aside once more.
    pub fn handle_set_aside(&mut self, aside: Aside, now: Moment) -> Outcome {
        let Self::Open { reserve, .. } = self else { return Outcome::Fine };
        *reserve = Reserve::of(aside, now);
        match reserve {
            Reserve::Short { .. } => Outcome::Fine,
            Reserve::Impossible | Reserve::Complete(_) => Outcome::Renewed,
        }
    }

    /// Records that it could not be written, and why.
    pub fn handle_failed(&mut self, problem: String, now: Moment) -> Outcome {
        let is_news = !matches!(self, Self::Failing { .. });
        *self = Self::Failing { retry_at: now.deadline(RETRY), problem: problem.clone() };
        if is_news { Outcome::Failed(problem) } else { Outcome::Fine }
    }
}

impl Reserve {
    fn of(aside: Aside, now: Moment) -> Self {
        match aside {
            Aside::Impossible => Self::Impossible,
            Aside::Complete(upto) => Self::Complete(upto),
            Aside::Short(upto, problem) => Self::Short { upto, retry_at: now.deadline(RETRY), problem },
        }
    }

    fn upto(&self) -> Option<u64> {
        match self {
            Self::Impossible => None,
            Self::Complete(upto) | Self::Short { upto, .. } => Some(*upto),
        }
    }
}
