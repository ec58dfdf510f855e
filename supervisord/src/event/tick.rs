//! When TICK events are due. Nobody is woken for a period that nobody subscribes to.

use std::time::{Duration, Instant};

use super::{Event, EventType};
use crate::clock::Moment;

/// How often a tick comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    /// Every five seconds.
    Five,
    /// Every minute.
    Minute,
    /// Every hour.
    Hour,
}

impl Period {
    const ALL: [Self; 3] = [Self::Five, Self::Minute, Self::Hour];

    /// The type of its events.
    pub fn event_type(self) -> EventType {
        match self {
            Self::Five => EventType::Tick5,
            Self::Minute => EventType::Tick60,
            Self::Hour => EventType::Tick3600,
        }
    }

    /// Its length.
    pub fn seconds(self) -> u64 {
        match self {
            Self::Five => 5,
            Self::Minute => 60,
            Self::Hour => 3600,
        }
    }
}

/// The clock of ticks: events at multiples of their periods on the wall clock.
#[derive(Debug, Default)]
pub struct Ticks {
    /// The last multiple of each period that was seen; `None` while nobody wants it.
    slices: [Option<u64>; 3],
    next: Option<Instant>,
}

impl Ticks {
    /// Looks at the clock: which ticks are due, of those periods that somebody wants. After a stall, and after the clock
    /// was set, there is one tick, not those that were missed; there is none at the moment when a period is first wanted.
    pub fn handle(&mut self, now: Moment, is_wanted: impl Fn(EventType) -> bool) -> Vec<Event> {
        let mut due = Vec::new();
        self.next = None;
        for (period, slice) in Period::ALL.into_iter().zip(&mut self.slices) {
            if !is_wanted(period.event_type()) {
                *slice = None;
                continue;
            }
            let seconds = period.seconds();
            let when = now.unix.as_secs() / seconds * seconds;
            if slice.replace(when).is_some_and(|last| last != when) {
                due.push(Event::Tick { period, when });
            }
            let at = now.mono + (Duration::from_secs(when + seconds) - now.unix);
            self.next = Some(self.next.map_or(at, |next| next.min(at)));
        }
        due
    }

    /// When [`Ticks::handle`] must next be called, if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(start: Moment, unix: u64) -> Moment {
        let unix = Duration::from_secs(unix);
        Moment { mono: start.mono + unix, unix }
    }

    fn whens(events: &[Event]) -> Vec<(u64, u64)> {
        events
            .iter()
            .filter_map(|event| match event {
                Event::Tick { period, when } => Some((period.seconds(), *when)),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn ticks_come_at_multiples_of_their_period_and_not_at_once() {
        let (start, mut ticks) = (crate::clock::now(), Ticks::default());
        assert!(ticks.handle(at(start, 3598), |_| true).is_empty());
        assert_eq!(ticks.poll_timeout(), Some(at(start, 3600).mono));
        assert_eq!(whens(&ticks.handle(at(start, 3600), |_| true)), [(5, 3600), (60, 3600), (3600, 3600)]);
        assert!(ticks.handle(at(start, 3604), |_| true).is_empty(), "an early look does nothing");
        assert_eq!(
            whens(&ticks.handle(at(start, 3622), |_| true)),
            [(5, 3620)],
            "missed ones are not made up for"
        );
    }

    #[test]
    fn nobody_is_woken_for_ticks_that_nobody_wants() {
        let (start, mut ticks) = (crate::clock::now(), Ticks::default());
        assert!(ticks.handle(at(start, 100), |_| false).is_empty());
        assert_eq!(ticks.poll_timeout(), None);
        ticks.handle(at(start, 103), |kind| kind == EventType::Tick60);
        assert_eq!(ticks.poll_timeout(), Some(at(start, 120).mono));
        assert_eq!(whens(&ticks.handle(at(start, 121), |kind| kind == EventType::Tick60)), [(60, 120)]);
        ticks.handle(at(start, 130), |_| false);
        assert!(ticks.handle(at(start, 190), |_| true).is_empty(), "a new subscriber waits for the next one");
    }
}
