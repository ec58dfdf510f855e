//! The only place that reads a clock; `clippy.toml` bans the others.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Longest time that anything waits. A configuration may ask for more than the clock can count.
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 365 * 86_400);

/// A point in time: on the monotonic clock for every decision, on the wall clock for what a user reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic time.
    pub mono: Instant,
    /// Wall-clock time, since 1970-01-01 UTC.
    pub unix: Duration,
}

impl Moment {
    /// This moment and `span` later, on both clocks.
    pub fn after(self, span: Duration) -> Self {
        Self { mono: self.mono + span, unix: self.unix + span }
    }

    /// When a wait of `span` that begins now is over; thirty years from now at the latest.
    pub fn deadline(self, span: Duration) -> Instant {
        self.mono + span.min(LONGEST_WAIT)
    }
}

/// Now.
#[allow(clippy::disallowed_methods, reason = "the one clock read of the program")]
pub fn now() -> Moment {
    Moment { mono: Instant::now(), unix: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default() }
}
