//! A process of another daemon as ours would have written it down. ◆

use std::time::Duration;

use super::plan::{Match, OldProcess};
use crate::clock::{Moment, Timeline};
use crate::config::{AutoRestart, ProgramConfig, diff};
use crate::journal::record::{Child, Due, Identity, Life, Manner, Past, Pipes, Record, Remains, Stamp};
use crate::process::{Exit, ProcessState};

/// Time within which Supervisor starts anew what has ended and is to be restarted: a round of its loop, and some more.
const ROUND: u64 = 3;

/// What is known of a process that another daemon tells of. `identity` is its main process.
pub fn record(one: &Match, identity: Option<Identity>, timeline: Timeline, now: Moment) -> Record {
    let Match { old, config, kind } = one;
    let stamp = |unix: u64| (unix > 0).then(|| stamp(unix, timeline, now));
    let pipes = Pipes::default();
    let spawned = stamp(old.start);
    let is_up = identity.is_some();
    Record {
        policy: None,
        group: old.group.clone(),
        name: old.name.clone(),
        // What the old daemon has read is not known: as if it were what we have read.
        settings: diff::digest(kind, config),
        wanted: old.state != ProcessState::Stopped,
        life: life(old, config, timeline, now),
        child: identity.map(|identity| Child { identity, pipes, adopted: None, only_writes: false }),
        intent: None,
        past: Past {
            held_back: false,
            stopped: false,
            failures: u32::from(old.state == ProcessState::Backoff),
            spawns: u64::from(spawned.is_some()),
            spawned,
            ended: stamp(old.stop),
            spawn_error: Some(old.spawn_error.clone()).filter(|text| !text.is_empty()),
            // That of the life before is of no interest while there is another.
            exit: (old.stop > 0 && !is_up)
                .then(|| u8::try_from(old.exit_status).map_or(Exit::Unknown, Exit::Code)),
        },
        manner: Manner {
            signal: config.stopsignal.0,
            wait: config.stopwaitsecs.as_secs(),
            stop_group: config.stopasgroup,
            kill_group: config.killasgroup,
            killmode: config.killmode,
        },
        logs: [old.stdout_log.clone(), old.stderr_log.clone()],
        remains: Remains::default(),
    }
}

/// Where it is in its life. The old daemon does not tell what it waits for: as if it had just begun to.
fn life(old: &OldProcess, config: &ProgramConfig, timeline: Timeline, now: Moment) -> Life {
    let due = |span: Duration| Due(nanos(timeline.to_shared(now.deadline(span))));
    match old.state {
        ProcessState::Stopped => Life::Stopped,
        ProcessState::Starting => {
            let age = now.unix.saturating_sub(Duration::from_secs(old.start));
            Life::Starting(due(config.startsecs.saturating_sub(age)))
        }
        ProcessState::Running => Life::Running,
        ProcessState::Backoff => Life::Backoff(due(Duration::from_secs(1))),
        ProcessState::Exited => Life::Exited(starts_again(old, config, now).then(|| due(Duration::ZERO))),
        ProcessState::Fatal => Life::Fatal,
        // Refused before.
        ProcessState::Stopping | ProcessState::Unknown => Life::Unknown,
    }
}

/// Whether the old daemon was just about to start it again: it looks once a second.
fn starts_again(old: &OldProcess, config: &ProgramConfig, now: Moment) -> bool {
    let is_recent = now.unix.as_secs().saturating_sub(old.stop) <= ROUND;
    let exit = u8::try_from(old.exit_status).map_or(Exit::Unknown, Exit::Code);
    is_recent
        && match config.autorestart {
            AutoRestart::Always => true,
            AutoRestart::Unexpected => !exit.is_expected_by(&config.exitcodes),
            AutoRestart::Never => false,
        }
}

/// A second of the wall clock on both clocks.
fn stamp(unix: u64, timeline: Timeline, now: Moment) -> Stamp {
    let then = Duration::from_secs(unix);
    let age = now.unix.saturating_sub(then);
    Stamp { mono: Due(nanos(timeline.to_shared(now.mono).saturating_sub(age))), unix: nanos(then) }
}

fn nanos(span: Duration) -> u64 {
    u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;
    use crate::config::GroupKind;
    use crate::process::test_defaults;

    const NOW: u64 = 1_000_000;

    fn told(state: ProcessState, start: u64, stop: u64, exit_status: i32) -> OldProcess {
        OldProcess {
            group: "g".into(),
            name: "p".into(),
            pid: None,
            state,
            start,
            stop,
            exit_status,
            spawn_error: String::new(),
            stdout_log: Some("/tmp/p.log".into()),
            stderr_log: None,
        }
    }

    /// The record of a process, the clocks being at one hour of the monotonic and at `NOW` of the other.
    #[allow(clippy::disallowed_methods, reason = "any point of the monotonic clock will do")]
    fn recorded(old: OldProcess, change: impl Fn(&mut ProgramConfig)) -> Record {
        let mut config = test_defaults("p");
        change(&mut config);
        let now = Moment { mono: Instant::now(), unix: Duration::from_secs(NOW) };
        let timeline = Timeline::new(now, Duration::from_secs(3600));
        let identity = old.state.is_started().then_some(Identity { pid: 7, start_time: 9 });
        record(&Match { old, config: Arc::new(config), kind: GroupKind::Program }, identity, timeline, now)
    }

    fn due(secs: u64) -> Due {
        Due(secs * 1_000_000_000)
    }

    #[test]
    fn running_process_keeps_pid_uptime_and_log() {
        let record = recorded(told(ProcessState::Running, NOW - 60, 0, 0), |_| ());
        assert_eq!((record.life, record.wanted), (Life::Running, true));
        assert_eq!(record.child.map(|child| child.identity.pid), Some(7));
        let spawned = Stamp { mono: due(3540), unix: (NOW - 60) * 1_000_000_000 };
        assert_eq!(record.past.spawned, Some(spawned));
        assert_eq!(record.logs, [Some("/tmp/p.log".into()), None]);
        assert_eq!(record.past.exit, None);
    }

    #[test]
    fn what_started_before_this_boot_started_at_its_beginning() {
        let record = recorded(told(ProcessState::Running, NOW - 7200, 0, 0), |_| ());
        assert_eq!(record.past.spawned.map(|stamp| stamp.mono), Some(due(0)));
    }

    #[test]
    fn young_process_has_the_rest_of_its_time_to_prove_itself() {
        let young = |age| {
            recorded(told(ProcessState::Starting, NOW - age, 0, 0), |config| {
                config.startsecs = Duration::from_secs(10);
            })
        };
        assert_eq!(young(4).life, Life::Starting(due(3606)));
        assert_eq!(young(40).life, Life::Starting(due(3600)));
    }

    #[test]
    fn what_was_stopped_stays_stopped_and_what_failed_is_tried_again() {
        let stopped = recorded(told(ProcessState::Stopped, NOW - 60, NOW - 5, 0), |_| ());
        assert_eq!((stopped.life, stopped.wanted, stopped.past.spawns), (Life::Stopped, false, 1));
        let never = recorded(told(ProcessState::Stopped, 0, 0, 0), |_| ());
        assert_eq!((never.life, never.past.spawns, never.past.spawned), (Life::Stopped, 0, None));
        let retried = recorded(told(ProcessState::Backoff, NOW - 2, NOW - 1, 3), |_| ());
        assert_eq!((retried.life, retried.past.failures), (Life::Backoff(due(3601)), 1));
        let given_up = recorded(told(ProcessState::Fatal, NOW - 2, NOW - 1, -1), |_| ());
        assert_eq!((given_up.life, given_up.past.exit), (Life::Fatal, Some(Exit::Unknown)));
    }

    #[test]
    fn what_has_just_ended_is_started_again_as_its_policy_says() {
        let ended = |ago, status, policy| {
            recorded(told(ProcessState::Exited, NOW - 60, NOW - ago, status), |config| {
                config.autorestart = policy;
            })
            .life
        };
        let again = Life::Exited(Some(due(3600)));
        assert_eq!(ended(1, 0, AutoRestart::Always), again);
        assert_eq!(ended(1, 3, AutoRestart::Unexpected), again);
        assert_eq!(ended(1, -1, AutoRestart::Unexpected), again);
        assert_eq!(ended(1, 0, AutoRestart::Unexpected), Life::Exited(None));
        assert_eq!(ended(1, 3, AutoRestart::Never), Life::Exited(None));
        // It has had its chance: the setting is newer than that.
        assert_eq!(ended(30, 0, AutoRestart::Always), Life::Exited(None));
    }
}
