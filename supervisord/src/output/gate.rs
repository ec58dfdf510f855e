//! When the pipes may wake us: at once after silence, and in a stream of writes only when some have gathered.
//!
//! The runtime watches the gate, an epoll that holds a timer and, while it is open, the epoll of the pipes. A write to a
//! pipe behind a shut gate wakes nobody. The timer has a finer grain than those of the runtime.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Pipes served in one round.
pub(super) const ROUND: usize = 64;

/// Set in the data of an event that is about a log's target, not a stream.
pub(super) const LOG_EVENT: u64 = 1 << 63;

/// Room for one event.
pub(crate) fn no_event() -> epoll::Event {
    epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }
}

/// Pipes that have something for us, as many as are served at a time.
#[allow(missing_debug_implementations, reason = "an event of the kernel has none")]
pub struct Round {
    events: [epoll::Event; ROUND],
    count: usize,
}

impl Round {
    /// Whether a pipe has come to its end. Mostly its program has, too.
    pub fn has_end(&self) -> bool {
        let is_end = |event: &epoll::Event| {
            let (data, flags) = (event.data.u64(), event.flags);
            data & LOG_EVENT == 0 && flags.contains(epoll::EventFlags::HUP)
        };
        self.events().iter().any(is_end)
    }

    pub(super) fn events(&self) -> &[epoll::Event] {
        &self.events[..self.count]
    }
}

/// The gate before the pipes.
#[derive(Debug)]
pub(super) struct Gate {
    watched: AsyncFd<OwnedFd>,
    /// Holds the pipes.
    pipes: OwnedFd,
    /// Expires when enough has gathered.
    timer: OwnedFd,
    pub(super) is_shut: bool,
    /// Whether more pipes may be ready than fitted into the last look.
    has_more: bool,
}

impl Gate {
    /// An open gate. Must be called within a runtime.
    pub(super) fn new() -> io::Result<Self> {
        let pipes = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let gate = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC)?;
        epoll::add(&gate, &pipes, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        epoll::add(&gate, &timer, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        #[allow(
            deprecated,
            reason = "its successor is unsafe since `AsRawFd` types may lie; an `OwnedFd` owns a valid descriptor for its whole life"
        )]
        let watched = AsyncFd::with_interest(gate, Interest::READABLE)?;
        Ok(Self { watched, pipes, timer, is_shut: false, has_more: false })
    }

    /// The epoll that pipes are to be registered with.
    pub(super) fn pipes(&self) -> &OwnedFd {
        &self.pipes
    }

    /// Waits until it is time to look at the pipes. Cancel-safe.
    pub(super) async fn ready(&self) {
        if self.has_more {
            // It is ready already, and the runtime takes in signals and requests only while somebody waits.
            tokio::task::yield_now().await;
        }
        if self.watched.readable().await.is_err() {
            // Only happens while the runtime shuts down.
            std::future::pending().await
        }
    }

    /// Which pipes are ready.
    pub(super) fn look(&mut self) -> Round {
        let mut round = Round { events: [no_event(); ROUND], count: 0 };
        // Clears the readiness unless more pipes may be ready than fit: from now on the timer, or a write while the
        // gate is open, makes it ready again. The answer is in `round`.
        let _ = self.watched.try_io(Interest::READABLE, |_| {
            round.count = epoll::wait(&self.pipes, &mut round.events, Some(&Timespec::default()))?;
            if round.count < ROUND { Err(io::Error::from(io::ErrorKind::WouldBlock)) } else { Ok(()) }
        });
        self.has_more = round.count == ROUND;
        round
    }

    /// Shuts the gate for a time.
    pub(super) fn shut_for(&mut self, time: Duration) {
        self.set_timer(Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() });
        if !self.is_shut {
            self.is_shut = true;
            self.watch_pipes(epoll::EventFlags::empty());
        }
    }

    /// Opens the gate.
    pub(super) fn open(&mut self) {
        if !self.is_shut {
            return;
        }
        self.is_shut = false;
        self.set_timer(Timespec::default());
        // Nobody else ever waits on the gate itself. Without this it may remember the pipes as ready from before it was
        // shut, and then would not announce that they are ready now.
        let _ = epoll::wait(self.watched.get_ref(), &mut [no_event(); 2], Some(&Timespec::default()));
        self.watch_pipes(epoll::EventFlags::IN);
    }

    /// Also takes back that it has expired.
    fn set_timer(&self, end: Timespec) {
        let timer = Itimerspec { it_interval: Timespec::default(), it_value: end };
        // Cannot fail: the time is a valid one.
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &timer);
    }

    fn watch_pipes(&self, flags: epoll::EventFlags) {
        // Cannot fail: they are registered.
        let _ = epoll::modify(self.watched.get_ref(), &self.pipes, epoll::EventData::new_u64(0), flags);
    }
}
