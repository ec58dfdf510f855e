//! The states of a process as clients see them: names, numbers and groupings.

use std::fmt;

/// Where a process is in its life. Names and numbers are Supervisor's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProcessState {
    /// Stopped by a user, or never started.
    Stopped,
    /// Spawned, and not yet up for `startsecs`.
    Starting,
    /// Up.
    Running,
    /// Failed to start; will be tried again.
    Backoff,
    /// Was sent its stop signal and has not ended yet.
    Stopping,
    /// Ended by itself.
    Exited,
    /// Could not be started, and is not tried any more.
    Fatal,
    /// Could not be signalled.
    Unknown,
}

impl ProcessState {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Stopped,
        Self::Starting,
        Self::Running,
        Self::Backoff,
        Self::Stopping,
        Self::Exited,
        Self::Fatal,
        Self::Unknown,
    ];

    /// The number that clients see.
    pub fn code(self) -> i32 {
        match self {
            Self::Stopped => 0,
            Self::Starting => 10,
            Self::Running => 20,
            Self::Backoff => 30,
            Self::Stopping => 40,
            Self::Exited => 100,
            Self::Fatal => 200,
            Self::Unknown => 1000,
        }
    }

    /// The name that clients see.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stopped => "STOPPED",
            Self::Starting => "STARTING",
            Self::Running => "RUNNING",
            Self::Backoff => "BACKOFF",
            Self::Stopping => "STOPPING",
            Self::Exited => "EXITED",
            Self::Fatal => "FATAL",
            Self::Unknown => "UNKNOWN",
        }
    }

    /// Whether a stop makes sense and a start is refused: it runs, is starting, or waits for its next try.
    pub fn is_started(self) -> bool {
        match self {
            Self::Starting | Self::Running | Self::Backoff => true,
            Self::Stopped | Self::Stopping | Self::Exited | Self::Fatal | Self::Unknown => false,
        }
    }

    /// Whether it has come to rest: nothing runs and nothing will be started by itself.
    pub fn is_stopped(self) -> bool {
        match self {
            Self::Stopped | Self::Exited | Self::Fatal | Self::Unknown => true,
            Self::Starting | Self::Running | Self::Backoff | Self::Stopping => false,
        }
    }

    /// Whether a signal may be sent to it.
    pub fn is_signallable(self) -> bool {
        match self {
            Self::Starting | Self::Running | Self::Stopping => true,
            Self::Stopped | Self::Backoff | Self::Exited | Self::Fatal | Self::Unknown => false,
        }
    }
}

impl fmt::Display for ProcessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_belongs_to_supervisors_groupings() {
        let started = ["STARTING", "RUNNING", "BACKOFF"];
        let stopped = ["STOPPED", "EXITED", "FATAL", "UNKNOWN"];
        let signallable = ["STARTING", "RUNNING", "STOPPING"];
        for state in ProcessState::ALL {
            assert_eq!(state.is_started(), started.contains(&state.name()), "{state}");
            assert_eq!(state.is_stopped(), stopped.contains(&state.name()), "{state}");
            assert_eq!(state.is_signallable(), signallable.contains(&state.name()), "{state}");
        }
    }
}
