//! What is written into the journal, and when: the effects of the core and the lines about them, in an order in which
//! the death of the daemon between any two of them loses no child and makes no second one.
//!
//! Before a child exists its pipes are written down, by which it is found; after every change what has become of it.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    path::PathBuf,
};

use crate::{
    clock::Timeline,
    config::diff,
    journal::record::{Child, Manner, PipeId, Pipes, Record, Remains},
    process::Effect,
    supervisor::{Forgotten, Mode, ProcessId, Supervisor},
};

/// What the driver is to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Write the whole journal anew. Answered by [`Scribe::handle_written`] for each record, if that can be done.
    WriteAll,
    /// Write down that a process of this group and name is not supervised any more.
    Forget(String, String),
    /// Write down that all is about to be stopped.
    AnnounceEnd,
    /// Make everything that a child needs, but not the child. Answered by [`Scribe::handle_prepared`], or by the failure
    /// of the spawn.
    Prepare(ProcessId),
    /// Write down that a child with these pipes is about to exist.
    Announce(ProcessId, Pipes),
    /// Make the child that was prepared.
    Spawn(ProcessId),
    /// Any other effect.
    Perform(ProcessId, Effect),
    /// Write down what has become of a process, if [`Scribe::handle_written`] says that it is news.
    Write(ProcessId),
}

/// A child on its way.
#[derive(Debug, Clone, Copy)]
enum Birth {
    Prepared(ProcessId, Pipes),
    Announced(ProcessId),
}

/// Knows what the journal says, and what it must say next.
#[derive(Debug, Default)]
pub struct Scribe {
    /// Hash of what the journal says of each process.
    said: BTreeMap<ProcessId, u64>,
    /// What has changed since, ascending, the next one last.
    unsaid: Vec<ProcessId>,
    birth: Option<Birth>,
    writes_all: bool,
    /// Group and name of processes that are gone and of which the journal still speaks.
    forgotten: Vec<(String, String)>,
    has_announced_end: bool,
}

impl Scribe {
    /// Says that all is to be written anew: the journal has grown, or can be written again.
    pub fn begin_anew(&mut self) {
        self.writes_all = true;
    }

    /// Takes the next thing to do. Each must be done, and answered where it says so, before the next is taken.
    pub fn poll_step(&mut self, supervisor: &mut Supervisor) -> Option<Step> {
        if !self.has_announced_end && supervisor.mode() == Mode::ShuttingDown {
            // What is at rest from now on is so for no reason of its own.
            self.has_announced_end = true;
            return Some(Step::AnnounceEnd);
        }
        match self.birth.take() {
            Some(Birth::Prepared(id, pipes)) => {
                self.birth = Some(Birth::Announced(id));
                // If nothing comes of it, what was said before is to be said again.
                self.said.remove(&id);
                return Some(Step::Announce(id, pipes));
            }
            Some(Birth::Announced(id)) => return Some(Step::Spawn(id)),
            None => {}
        }
        self.note_forgotten(supervisor);
        // Before anything else is done: to a journal that is not ours yet no spawn can be announced.
        if std::mem::take(&mut self.writes_all) {
            supervisor.take_touched();
            self.unsaid.clear();
            self.said.clear();
            self.forgotten.clear();
            return Some(Step::WriteAll);
        }
        // Before there is a new process of that name.
        if let Some((group, name)) = self.forgotten.pop() {
            return Some(Step::Forget(group, name));
        }
        match supervisor.poll_effect() {
            Some((id, Effect::Spawn)) => return Some(Step::Prepare(id)),
            Some((id, effect)) => return Some(Step::Perform(id, effect)),
            None => {}
        }
        self.poll_unsaid(supervisor).map(Step::Write)
    }

    fn note_forgotten(&mut self, supervisor: &mut Supervisor) {
        match supervisor.take_forgotten() {
            Forgotten::All => self.writes_all = true,
            Forgotten::These(these) => {
                for (id, group, name) in these {
                    self.said.remove(&id);
                    self.forgotten.push((group, name));
                }
            }
        }
    }

    /// Takes the next process of which is to be written down what has become of it, even if other effects wait.
    pub fn poll_unsaid(&mut self, supervisor: &mut Supervisor) -> Option<ProcessId> {
        let touched = supervisor.take_touched();
        if !touched.is_empty() {
            self.unsaid.extend(touched);
            self.unsaid.sort_unstable_by(|a, b| b.cmp(a));
            self.unsaid.dedup();
        }
        self.unsaid.pop()
    }

    /// Records that a child can be made now, with these pipes.
    pub fn handle_prepared(&mut self, id: ProcessId, pipes: Pipes) {
        self.birth = Some(Birth::Prepared(id, pipes));
    }

    /// Records that the journal says this of a process from now on. Returns whether it has not said so before.
    pub fn handle_written(&mut self, id: ProcessId, record: &Record) -> bool {
        let mut hasher = DefaultHasher::new();
        record.hash(&mut hasher);
        let hash = hasher.finish();
        self.said.insert(id, hash) != Some(hash)
    }
}

/// What the core does not know of a process and is to be remembered.
#[derive(Debug, Default)]
pub struct Belongings {
    /// Who the present child is.
    pub child: Option<Child>,
    /// The log files of stdout and stderr.
    pub logs: [Option<PathBuf>; 2],
    /// Process groups that dead main processes have left behind.
    pub groups: Vec<i32>,
    /// Descendants outside of these groups.
    pub strays: Vec<i32>,
    /// Pipes of stdout and stderr of dead main processes to which others may still write.
    pub outputs: [Vec<PipeId>; 2],
}

/// All that is to be remembered of a process. Nothing of one that was never started nor meant to be, nor kept from it: the
/// next daemon treats it like a new one, which starts by itself if its settings say so.
pub fn record_of(
    supervisor: &Supervisor,
    id: ProcessId,
    belongings: Belongings,
    timeline: Timeline,
) -> Option<Record> {
    let process = supervisor.process(id)?;
    let (group, name) = supervisor.names(id)?;
    let memory = process.memory(timeline);
    if process.is_untouched() && !memory.wanted {
        return None;
    }
    let config = process.config();
    Some(Record {
        group: group.to_owned(),
        name: name.to_owned(),
        settings: settings_of(supervisor, id)?,
        policy: Some(diff::policy_digest(config)),
        wanted: memory.wanted,
        life: memory.life,
        child: belongings.child.filter(|_| memory.pid.is_some()),
        intent: None,
        past: memory.past,
        manner: Manner {
            signal: config.stopsignal.0,
            wait: config.stopwaitsecs.as_secs(),
            stop_group: config.stopasgroup,
            kill_group: config.killasgroup,
            killmode: config.killmode,
        },
        logs: belongings.logs,
        remains: Remains {
            leftovers: memory.leftovers,
            groups: belongings.groups,
            strays: belongings.strays,
            outputs: belongings.outputs,
        },
    })
}

/// The digest of the present settings of a process.
pub fn settings_of(supervisor: &Supervisor, id: ProcessId) -> Option<u64> {
    let process = supervisor.process(id)?;
    let (group, _) = supervisor.names(id)?;
    Some(diff::digest(&supervisor.group(group)?.config().kind, process.config()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        clock::{Moment, now},
        config::{GroupConfig, GroupKind, ProgramConfig},
        journal::record::PipeId,
        process::{Pid, test_defaults},
    };

    fn supervisor(now: Moment) -> (Supervisor, [ProcessId; 2]) {
        let mut supervisor = Supervisor::new();
        let never = ProgramConfig { autostart: false, ..test_defaults("never") };
        let processes = vec![Arc::new(test_defaults("a")), Arc::new(never)];
        let group = GroupConfig { name: "g".to_owned(), priority: 1, kind: GroupKind::Program, processes };
        let ids = supervisor.add_group(Arc::new(group)).unwrap().to_vec();
        supervisor.autostart("g", now);
        (supervisor, [ids[0], ids[1]])
    }

    /// What is done, except for what is said and shown.
    fn next(scribe: &mut Scribe, supervisor: &mut Supervisor) -> Option<Step> {
        loop {
            match scribe.poll_step(supervisor) {
                Some(Step::Perform(_, Effect::Note(_) | Effect::Changed { .. })) => {}
                step => return step,
            }
        }
    }

    #[test]
    fn journal_is_ours_before_a_spawn_which_is_announced_before_it_is_made() {
        let (mut supervisor, [id, _]) = supervisor(now());
        let (mut scribe, pipes) = (Scribe::default(), Pipes { stdin: Some(PipeId(1)), ..Pipes::default() });
        scribe.begin_anew();
        assert_eq!(next(&mut scribe, &mut supervisor), Some(Step::WriteAll));
        assert_eq!(next(&mut scribe, &mut supervisor), Some(Step::Prepare(id)));
        scribe.handle_prepared(id, pipes);
        assert_eq!(next(&mut scribe, &mut supervisor), Some(Step::Announce(id, pipes)));
        assert_eq!(next(&mut scribe, &mut supervisor), Some(Step::Spawn(id)));
        supervisor.handle_spawned(id, Pid::from_raw(7), now());
        assert_eq!(next(&mut scribe, &mut supervisor), Some(Step::Write(id)));
        assert_eq!(next(&mut scribe, &mut supervisor), None);
    }

    #[test]
    fn who_is_gone_costs_a_line_and_not_a_journal() {
        let now = now();
        let (mut supervisor, [id, never]) = supervisor(now);
        let mut scribe = Scribe::default();
        assert_eq!(next(&mut scribe, &mut supervisor), Some(Step::Prepare(id)));
        supervisor.handle_spawn_failed(id, "no".to_owned(), now);
        supervisor.stop(id, now).unwrap();
        while next(&mut scribe, &mut supervisor).is_some() {}
        assert_eq!(supervisor.remove_group("g", now).unwrap(), [id, never]);
        let forget = |name: &str| Some(Step::Forget("g".to_owned(), name.to_owned()));
        assert_eq!(next(&mut scribe, &mut supervisor), forget("never"));
        assert_eq!(next(&mut scribe, &mut supervisor), forget("a"));
        assert_eq!(next(&mut scribe, &mut supervisor), None);
    }

    #[test]
    fn end_is_announced_before_anything_is_stopped() {
        let (mut supervisor, _) = supervisor(now());
        let mut scribe = Scribe::default();
        supervisor.begin_shutdown(Mode::ShuttingDown, now());
        assert_eq!(scribe.poll_step(&mut supervisor), Some(Step::AnnounceEnd));
        assert_ne!(scribe.poll_step(&mut supervisor), Some(Step::AnnounceEnd));
    }

    #[test]
    fn what_was_never_started_has_no_record_and_starts_by_itself_if_the_next_daemon_finds_it_should() {
        let (mut supervisor, [id, never]) = supervisor(now());
        let timeline = Timeline::new(now(), std::time::Duration::ZERO);
        let of = |id| record_of(&supervisor, id, Belongings::default(), timeline);
        assert!(of(id).is_some());
        assert_eq!(of(never), None);
        let (start, stop) = (supervisor.start(never, now()), supervisor.stop(never, now()));
        assert!(start.is_ok() && stop.is_ok());
        assert!(record_of(&supervisor, never, Belongings::default(), timeline).is_some());
    }

    #[test]
    fn same_is_not_written_twice_but_again_after_a_spawn_was_announced() {
        let (mut supervisor, [id, _]) = supervisor(now());
        let timeline = Timeline::new(now(), std::time::Duration::ZERO);
        let mut scribe = Scribe::default();
        let record = record_of(&supervisor, id, Belongings::default(), timeline).unwrap();
        assert!(scribe.handle_written(id, &record));
        assert!(!scribe.handle_written(id, &record));
        assert_eq!(next(&mut scribe, &mut supervisor), Some(Step::Prepare(id)));
        scribe.handle_prepared(id, Pipes::default());
        assert_eq!(next(&mut scribe, &mut supervisor), Some(Step::Announce(id, Pipes::default())));
        assert!(scribe.handle_written(id, &record));
    }
}
