//! What the driver keeps for each process beside its state machine: logs, pipes, advice.

use std::{os::fd::OwnedFd, time::Instant};

use crate::{
    clock::Moment,
    journal::record::Child,
    output::{LogId, StreamId, Wanted},
    process::Note,
    request::Channel,
};

/// Lines about spawns and exits of one process that are logged in one second; what exceeds it is counted.
const LINES_PER_SECOND: u32 = 20;

/// Shell-side belongings of one process.
#[derive(Debug)]
pub(super) struct Unit {
    /// Log of stdout, if it has one.
    pub(super) stdout: Option<LogId>,
    /// Log of stderr, if it has one of its own.
    pub(super) stderr: Option<LogId>,
    /// What is wanted of stdout and stderr beside their logs.
    pub(super) wanted_stdout: Option<Wanted>,
    /// See `wanted_stdout`.
    pub(super) wanted_stderr: Option<Wanted>,
    /// Whether it is an event listener: then stdin and stdout belong to its protocol.
    pub(super) is_listener: bool,
    /// Pipes of the present child.
    pub(super) streams: Vec<StreamId>,
    /// Pipes of dead children that others may still write to; some have ended since.
    pub(super) trailing: Vec<StreamId>,
    /// Who the present child is.
    pub(super) child: Option<Child>,
    /// Writes to the stdin of the present child.
    pub(super) stdin: Option<OwnedFd>,
    /// What an administrator should know, until the next start that succeeds.
    pub(super) advice: Vec<String>,
    /// Generation of its last change.
    pub(super) changed: u64,
    /// Limits its lines in the daemon's log.
    pub(super) chatter: Chatter,
}

impl Unit {
    /// The log of one of its streams.
    pub(super) fn log(&self, channel: Channel) -> Option<LogId> {
        match channel {
            Channel::Stdout => self.stdout,
            Channel::Stderr => self.stderr,
        }
    }

    /// Both logs.
    pub(super) fn logs(&self) -> impl Iterator<Item = LogId> + use<> {
        self.stdout.into_iter().chain(self.stderr)
    }
}

/// Keeps a program that exits again and again from flooding the daemon's log.
#[derive(Debug, Default)]
pub(super) struct Chatter {
    since: Option<Instant>,
    lines: u32,
    left_out: u32,
}

/// What to do with a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Log it.
    Say,
    /// Log it, and before it that so many lines were left out.
    SayAfter(u32),
    /// Leave it out.
    LeaveOut,
}

impl Chatter {
    /// Decides about a line. Only lines that a fast restart repeats are ever left out.
    pub(super) fn judge(&mut self, note: &Note, now: Moment) -> Verdict {
        let is_new_second = self.since.is_none_or(|since| now.mono.duration_since(since).as_secs() >= 1);
        if is_new_second {
            self.since = Some(now.mono);
            self.lines = 0;
        }
        let is_repetitive = match note {
            Note::Spawned(_) | Note::Up(_) | Note::Exited { .. } => true,
            Note::SpawnFailed(_)
            | Note::Stopped { .. }
            | Note::NeededBy(_)
            | Note::Waiting(_)
            | Note::HeldBack(_)
            | Note::GaveUp
            | Note::Killing { .. }
            | Note::KillingHard(_)
            | Note::StoppedWaiting
            | Note::AlreadyRunning
            | Note::EndingLeftovers(_)
            | Note::KillingLeftovers
            | Note::LeftoversRemain => false,
        };
        if is_repetitive {
            self.lines += 1;
            if self.lines > LINES_PER_SECOND {
                self.left_out += 1;
                return Verdict::LeaveOut;
            }
        }
        match std::mem::take(&mut self.left_out) {
            0 => Verdict::Say,
            count => Verdict::SayAfter(count),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::process::{Exit, Pid};

    #[test]
    fn lines_beyond_the_limit_are_counted_and_said_later() {
        let mut chatter = Chatter::default();
        let now = crate::clock::now();
        let spawned = Note::Spawned(Pid::from_raw(7));
        for _ in 0..LINES_PER_SECOND {
            assert_eq!(chatter.judge(&spawned, now), Verdict::Say);
        }
        assert_eq!(chatter.judge(&spawned, now), Verdict::LeaveOut);
        assert_eq!(
            chatter.judge(&Note::Exited { exit: Exit::Code(1), expected: false }, now),
            Verdict::LeaveOut
        );
        assert_eq!(chatter.judge(&Note::GaveUp, now), Verdict::SayAfter(2));
        assert_eq!(chatter.judge(&spawned, now.after(Duration::from_secs(1))), Verdict::Say);
    }
}
