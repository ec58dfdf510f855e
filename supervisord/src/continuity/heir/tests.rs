//! The table of what becomes of a process under the next daemon: every life that can be written down, with every fate of
//! its child, wanted or not, under the same settings and others.

use std::{fmt::Write as _, time::Duration};

use super::{super::scribe, *};
use crate::{
    config::KillMode,
    journal::record::{self, Leftovers},
    process::{Effect, Pid, test_defaults},
};

/// What has become of the main process that was written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Child {
    None,
    Alive,
    Ended(Exit),
}

const CHILDREN: [(&str, Child); 5] = [
    ("no child", Child::None),
    ("alive", Child::Alive),
    ("exit 0", Child::Ended(Exit::Code(0))),
    ("exit 1", Child::Ended(Exit::Code(1))),
    ("exit unknown", Child::Ended(Exit::Unknown)),
];

const WAS: Pid = Pid::from_raw(7);
const IS: Pid = Pid::from_raw(8);

/// Every life, due in a second where it waits.
fn lives(now: Moment, timeline: Timeline) -> Vec<(&'static str, Life)> {
    let soon = timeline.to_shared(now.deadline(Duration::from_secs(1)));
    let soon = Due(u64::try_from(soon.as_nanos()).unwrap());
    vec![
        ("STOPPED", Life::Stopped),
        ("STARTING, no child", Life::Spawning),
        ("STARTING", Life::Starting(soon)),
        ("RUNNING", Life::Running),
        ("BACKOFF", Life::Backoff(soon)),
        ("STOPPING", Life::Stopping(soon)),
        ("STOPPING, no child", Life::Clearing),
        ("EXITED", Life::Exited(None)),
        ("EXITED, held back", Life::Exited(Some(soon))),
        ("FATAL", Life::Fatal),
        ("UNKNOWN", Life::Unknown),
    ]
}

/// What is done for a process that goes on from `memory`, and where it is then.
fn outcome(memory: &Memory, child: Child, is_same: bool, at: (Timeline, Moment)) -> String {
    let (mut supervisor, id) = supervisor();
    let mut done = Vec::new();
    let mut perform = |supervisor: &mut Supervisor| {
        while let Some((_, effect)) = supervisor.poll_effect() {
            match effect {
                Effect::Waits => {}
                Effect::Spawn => {
                    done.push("spawn".to_owned());
                    supervisor.handle_spawned(id, IS, at.1);
                }
                Effect::Signal { pid, signal, .. } => {
                    assert_eq!((pid, child), (WAS, Child::Alive), "a signal to a stranger");
                    done.push(signal.name());
                }
                Effect::EndLeftovers { .. } => panic!("there are none"),
                Effect::Changed { .. } | Effect::Note(_) => {}
            }
        }
    };
    let settings = scribe::settings_of(&supervisor, id).unwrap() + u64::from(!is_same);
    let record = record(memory, settings);
    let ended = match child {
        Child::None | Child::Alive => None,
        Child::Ended(exit) => Some((exit, Aftermath::default())),
    };
    let goes_on = restore(&mut supervisor, id, (&record, ended), false, at);
    perform(&mut supervisor);
    if goes_on {
        supervisor.resume(id, at.1);
    } else {
        supervisor.catch_up(id, false, at.1);
    }
    perform(&mut supervisor);
    let process = supervisor.process(id).unwrap();
    assert!(child != Child::Alive || process.pid() == Some(WAS), "{memory:?} forgets its child");
    let done = if done.is_empty() { "-".to_owned() } else { done.join(", ") };
    format!("{done:<12} {}", process.state())
}

fn supervisor() -> (Supervisor, ProcessId) {
    let mut supervisor = Supervisor::new();
    let processes = vec![Arc::new(test_defaults("x"))];
    let group = GroupConfig { name: "g".to_owned(), priority: 1, kind: GroupKind::Program, processes };
    let id = supervisor.add_group(Arc::new(group)).unwrap()[0];
    (supervisor, id)
}

fn record(memory: &Memory, settings: u64) -> Record {
    let child = memory.pid.map(|pid| record::Child {
        identity: Identity { pid: pid.as_raw(), start_time: 1 },
        pipes: Pipes::default(),
        adopted: None,
        only_writes: false,
    });
    Record {
        group: "g".to_owned(),
        name: "x".to_owned(),
        settings,
        policy: None,
        wanted: memory.wanted,
        life: memory.life,
        child,
        intent: None,
        past: memory.past.clone(),
        manner: record::Manner {
            signal: 15,
            wait: 10,
            stop_group: false,
            kill_group: false,
            killmode: KillMode::Tree,
        },
        logs: [None, None],
        remains: Remains { leftovers: memory.leftovers, ..Remains::default() },
    }
}

#[test]
fn every_life_goes_on_as_the_table_says() {
    let now = crate::clock::now();
    let timeline = Timeline::new(now, Duration::from_secs(1000));
    let mut table = String::new();
    for (name, life) in lives(now, timeline) {
        for (fate, child) in CHILDREN {
            let has_child = match life {
                Life::Starting(_) | Life::Running | Life::Stopping(_) | Life::Unknown => true,
                Life::Stopped
                | Life::Spawning
                | Life::Backoff(_)
                | Life::Clearing
                | Life::Exited(_)
                | Life::Fatal => false,
            };
            if child != Child::None && !has_child {
                continue; // Such a record is not written.
            }
            for wanted in [true, false] {
                for is_same in [true, false] {
                    let pid = (child != Child::None).then_some(WAS);
                    let past = Past { spawns: 1, ..Past::default() };
                    let memory = Memory { wanted, life, pid, past, leftovers: Leftovers::None };
                    let outcome = outcome(&memory, child, is_same, (timeline, now));
                    let wanted = if wanted { "wanted" } else { "-" };
                    let settings = if is_same { "same" } else { "changed" };
                    writeln!(table, "{name:<20} {fate:<14} {wanted:<8} {settings:<9} {outcome}").unwrap();
                }
            }
        }
    }
    assert_eq!(table.trim(), include_str!("table.txt").trim(), "the table is now:\n{table}");
}

#[test]
fn what_is_written_down_of_a_restored_process_is_what_was() {
    let now = crate::clock::now();
    let timeline = Timeline::new(now, Duration::from_secs(1000));
    for (_, life) in lives(now, timeline) {
        for pid in [None, Some(WAS)] {
            let past = Past { failures: 2, spawns: 3, spawn_error: Some("x".to_owned()), ..Past::default() };
            let memory = Memory { wanted: true, life, pid, past, leftovers: Leftovers::Kept };
            let process = Process::restored(Arc::new(test_defaults("x")), &memory, timeline);
            let again = process.memory(timeline);
            let has_lost_child = pid.is_none()
                && matches!(life, Life::Starting(_) | Life::Running | Life::Unknown | Life::Stopping(_));
            if !has_lost_child {
                assert_eq!(Memory { pid: again.pid, ..memory }, again);
            }
        }
    }
}

/// A record of `g:x`, which has a child.
fn removed(life: Life) -> Record {
    let memory =
        Memory { wanted: true, life, pid: Some(WAS), past: Past::default(), leftovers: Leftovers::None };
    record(&memory, 1)
}

#[test]
fn what_could_not_be_looked_at_is_looked_at_by_the_next_daemon() {
    let mut record = removed(Life::Running);
    let unseen: Bond<()> = bond_of(&mut record, |_| Err("too many open files".to_owned()));
    assert!(unseen.may_live() && !unseen.is_alive());
    assert_eq!(record.life, Life::Unknown);
    assert!(record.child.is_some(), "the next daemon would not know whom to look at");
    let seen = bond_of(&mut record, |_| Ok(Some(((), None))));
    assert!(seen.is_alive());
    assert_eq!(record.life, Life::Running);
}

#[test]
fn groups_for_removed_programs_have_names_of_their_own_and_keep_them() {
    let mut first = removed(Life::Running);
    set_apart(&mut first, |_| false);
    assert_eq!(first.group, "g/x-removed");
    assert!(!first.group.contains([':', ' ']), "listeners could not read the headers of its events");
    let mut again = first.clone();
    set_apart(&mut again, |name| name == first.group);
    assert_eq!(again.group, first.group, "the name must not grow from daemon to daemon");
    let mut old = removed(Life::Running);
    old.group = "g:x (removed)".to_owned();
    set_apart(&mut old, |_| false);
    assert_eq!(old.group, "g/x-removed", "as a version before this one wrote it");
    let mut other = removed(Life::Running);
    set_apart(&mut other, |name| name == first.group);
    assert_eq!(other.group, "g/x-removed-2");
}

#[test]
fn another_policy_starts_what_ended_under_the_old_one() {
    let now = crate::clock::now();
    let timeline = Timeline::new(now, Duration::from_secs(1000));
    for (policy_of_then, state) in
        [(Some(0), "STARTING"), (None, "EXITED"), (Some(diff::policy_digest(&test_defaults("x"))), "EXITED")]
    {
        let (mut supervisor, id) = supervisor();
        let past = Past { spawns: 1, exit: Some(Exit::Code(1)), ..Past::default() };
        let life = Life::Exited(None);
        let memory = Memory { wanted: true, life, pid: None, past, leftovers: Leftovers::None };
        let settings = scribe::settings_of(&supervisor, id).unwrap();
        let record = Record { policy: policy_of_then, ..record(&memory, settings) };
        assert!(restore(&mut supervisor, id, (&record, None), false, (timeline, now)));
        supervisor.resume(id, now);
        supervisor.handle_timeout(now);
        assert_eq!(supervisor.process(id).unwrap().state().to_string(), state, "{policy_of_then:?}");
    }
}

#[test]
fn what_a_shutdown_did_not_reach_is_stopped_unless_it_starts_by_itself() {
    let (supervisor, _) = supervisor();
    for (name, remember_stopped, was_wanted, wanted) in [
        ("x", false, true, true),
        ("x", false, false, true),
        ("x", true, false, false),
        ("not configured", false, true, false),
    ] {
        let record = Record { name: name.to_owned(), wanted: was_wanted, ..removed(Life::Unknown) };
        let daemon = Identity { pid: 1, start_time: 1 };
        let header = record::Header {
            format: record::FORMAT,
            boot: "b".to_owned(),
            daemon,
            is_closed: true,
            keepers: Vec::new(),
            configuration: String::new(),
        };
        let key = (record.group.clone(), record.name.clone());
        let found = Snapshot { header: Some(header), records: [(key, record)].into(), ..Snapshot::default() };
        let records = records_that_count(found, "b", remember_stopped, &supervisor);
        assert_eq!(records[0].wanted, wanted, "{name} {remember_stopped} {was_wanted}");
    }
}

#[test]
fn what_ends_while_everything_is_stopped_is_started_if_that_is_cut_short() {
    let now = crate::clock::now();
    let timeline = Timeline::new(now, Duration::from_secs(1000));
    for (exit, starts) in [(Exit::Code(1), true), (Exit::Code(0), false)] {
        let mut process = Process::new(Arc::new(test_defaults("x")));
        process.start(now).unwrap();
        process.handle_spawned(WAS, now);
        let later = now.after(Duration::from_secs(5));
        process.handle_timeout(later);
        process.halt();
        process.handle_exit(exit, Aftermath::default(), later);
        let life = process.memory(timeline).life;
        assert_eq!(matches!(life, Life::Exited(Some(_))), starts, "{exit}: {life:?}");
    }
}
