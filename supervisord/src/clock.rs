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

/// Time since the machine was started, sleep included.
pub fn since_boot() -> Duration {
    duration_of(rustix::time::clock_gettime(rustix::time::ClockId::Boottime))
}

/// Translates between this process's points in time and those that other processes of this boot understand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeline {
    anchor: Moment,
    /// The monotonic clock at `anchor`.
    at_anchor: Duration,
}

impl Timeline {
    /// A translation by one moment, known on both sides.
    pub fn new(anchor: Moment, at_anchor: Duration) -> Self {
        Self { anchor, at_anchor }
    }

    /// A point of the monotonic clock, as time since that clock's zero; that zero for what lies before it.
    pub fn to_shared(self, instant: Instant) -> Duration {
        match instant.checked_duration_since(self.anchor.mono) {
            Some(later) => self.at_anchor + later,
            None => self.at_anchor.saturating_sub(self.anchor.mono.duration_since(instant)),
        }
    }

    /// The reverse of [`Timeline::to_shared`]; thirty years from now at the latest.
    pub fn from_shared(self, shared: Duration) -> Instant {
        match shared.checked_sub(self.at_anchor) {
            Some(later) => self.anchor.deadline(later),
            None => self
                .anchor
                .mono
                .checked_sub(self.at_anchor.saturating_sub(shared))
                .unwrap_or(self.anchor.mono),
        }
    }
}

/// The translation for this process.
pub fn timeline() -> Timeline {
    let anchor = now();
    Timeline::new(anchor, duration_of(rustix::time::clock_gettime(rustix::time::ClockId::Monotonic)))
}

fn duration_of(read: rustix::time::Timespec) -> Duration {
    let (secs, nanos) = (u64::try_from(read.tv_sec).unwrap_or(0), u32::try_from(read.tv_nsec).unwrap_or(0));
    Duration::new(secs, nanos)
}
