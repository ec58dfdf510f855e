//! When a child of ours has started, in the ticks of `/proc/PID/stat`, mostly without a look at that.
//!
//! A look costs more than the look: the kernel keeps what it has found, and has to clean up when the child is reaped,
//! which is what a replacement waits for. The time is that of the kernel's boot clock when the process was made. So if
//! one and the same tick covers all of the making, it is that one.

use std::{ops::RangeInclusive, time::Duration};

use nix::unistd::Pid;

use super::search;
use crate::journal::record::Identity;

/// A tick of `/proc`, on all usual architectures; elsewhere the clock is found not to agree.
const TICK: Duration = Duration::from_millis(10);

/// Knows whether the clock agrees with `/proc` here.
#[derive(Debug, Default)]
pub struct Births {
    is_proven: bool,
}

impl Births {
    /// The identity of a child that was made, and not reaped, in the time `between`; [`Identity::unseen`] if neither clock
    /// nor `/proc` tell.
    pub fn identity_of(&mut self, pid: Pid, between: RangeInclusive<Duration>) -> Identity {
        let by_clock = tick_of(between);
        match by_clock {
            Some(start_time) if self.is_proven => Identity { pid: pid.as_raw(), start_time },
            Some(_) | None => {
                let Ok(seen) = search::identity_of(pid) else { return Identity::unseen(pid.as_raw()) };
                if let Some(start_time) = by_clock {
                    // A sandbox may have a time of its own.
                    self.is_proven = start_time == seen.start_time;
                }
                seen
            }
        }
    }
}

/// The tick that covers all of a time, if one does.
fn tick_of(between: RangeInclusive<Duration>) -> Option<u64> {
    let tick = |time: &Duration| u64::try_from(time.as_nanos() / TICK.as_nanos()).ok();
    tick(between.start()).filter(|first| tick(between.end()) == Some(*first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_within_one_tick_is_that_tick_and_another_is_none() {
        let at = Duration::from_micros;
        assert_eq!(tick_of(at(70_000)..=at(79_999)), Some(7));
        assert_eq!(tick_of(at(79_999)..=at(80_000)), None);
    }

    #[test]
    fn a_clock_that_is_wrong_is_not_believed() {
        let mut births = Births::default();
        let own = search::identity_of(Pid::this()).unwrap();
        for _ in 0..2 {
            assert_eq!(births.identity_of(Pid::this(), Duration::ZERO..=Duration::ZERO), own);
        }
        let nobody = Pid::from_raw(i32::MAX);
        assert_eq!(births.identity_of(nobody, Duration::ZERO..=TICK), Identity::unseen(i32::MAX));
    }
}
