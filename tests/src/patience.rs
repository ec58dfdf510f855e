//! How often a waiting test looks.

use std::{
    thread,
    time::{Duration, Instant},
};

/// A bounded wait for something that nothing reports.
pub(crate) struct Patience {
    start: Instant,
    bound: Duration,
}

impl Patience {
    /// Begins to wait.
    pub(crate) fn new(bound: Duration) -> Self {
        Self { start: Instant::now(), bound }
    }

    /// Waits before the next look, at first hardly, later a tenth of the time that it has taken so far: many tests wait at
    /// once, and a look may be a run of `supervisorctl`. Whether the bound is not reached.
    pub(crate) fn wait(&mut self) -> bool {
        let waited = self.start.elapsed();
        thread::sleep((waited / 10).clamp(SHORTEST, LONGEST));
        waited < self.bound
    }
}

const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(40);
