//! What is written into the journal, and when: after every change of a process, and before every spawn.

use std::{
    borrow::Cow,
    hash::{DefaultHasher, Hash as _, Hasher as _},
};

use nix::unistd::Pid;
use tracing::{info, warn};

use super::{Driver, unit::Unit};
use crate::{
    clock::Moment,
    journal::{
        Line,
        file::Outcome,
        record::{FORMAT, Header, Identity, Manner, PipeId, Record, Remains},
    },
    os::{pipe, search},
    supervisor::{Mode, ProcessId},
};

impl Driver {
    /// Writes down what has become of processes since the last time.
    pub(super) fn remember(&mut self, now: Moment) {
        let mut touched = self.supervisor.take_touched();
        let Some(journal) = &self.journal else { return };
        if journal.wants_rewrite(now) {
            return self.rewrite_journal(now);
        }
        touched.sort_unstable();
        touched.dedup();
        for id in touched {
            let Some(record) = self.record_of(id) else { continue };
            let hash = hash_of(&record);
            let Some(unit) = self.units.get_mut(&id) else { continue };
            if std::mem::replace(&mut unit.remembered, hash) != hash {
                self.write_down(&Line::Process(Cow::Owned(record)), now);
            }
        }
    }

    /// Processes are not supervised any more: with the next change the journal is written anew without them.
    pub(super) fn forget_in_journal(&mut self) {
        if let Some(journal) = &mut self.journal {
            journal.invalidate();
        }
    }

    /// Everything is about to be stopped: what is at rest afterwards is so for no reason of its own.
    pub(super) fn announce_end(&mut self, now: Moment) {
        let header = self.header(true);
        self.write_down(&Line::Header(Cow::Owned(header)), now);
    }

    /// The end: nothing runs any more.
    pub(super) fn close_journal(&mut self, now: Moment) {
        if self.available.daemon.remember_stopped {
            self.rewrite_journal(now);
        } else if let Some(journal) = self.journal.take() {
            journal.remove();
        }
    }

    /// What clients should know about the journal.
    pub(super) fn journal_problem(&self) -> Option<String> {
        let problem = self.journal.as_ref().and_then(|journal| journal.problem());
        problem.or(self.no_journal.as_deref()).map(|problem| {
            format!("programs cannot be taken over if supervisord is killed, for the journal cannot be written: {problem}")
        })
    }

    /// All that is to be remembered of a process.
    pub(super) fn record_of(&self, id: ProcessId) -> Option<Record> {
        let process = self.supervisor.process(id)?;
        let (group, name) = self.supervisor.names(id)?;
        let unit = self.units.get(&id)?;
        let memory = process.memory(self.timeline);
        let config = process.config();
        let path = |log| self.output.path(log).map(std::path::Path::to_path_buf);
        let (groups, strays) = self.family.remains_of(id);
        let outputs = self.outputs_of(unit);
        Some(Record {
            group: group.to_owned(),
            name: name.to_owned(),
            settings: self.settings_of(id)?,
            wanted: memory.wanted,
            life: memory.life,
            child: unit.child.filter(|_| memory.pid.is_some()),
            intent: None,
            past: memory.past,
            manner: Manner {
                signal: config.stopsignal.0,
                wait: config.stopwaitsecs.as_secs(),
                stop_group: config.stopasgroup,
                kill_group: config.killasgroup,
            },
            logs: [unit.stdout.and_then(path), unit.stderr.and_then(path)],
            remains: Remains { leftovers: memory.leftovers, groups, strays, outputs },
        })
    }

    /// The pipes of dead children that have not ended.
    fn outputs_of(&self, unit: &Unit) -> [Vec<PipeId>; 2] {
        let of = |log| {
            let of_log = unit.trailing.iter().filter(|stream| self.output.log_of(**stream) == log);
            let pipes = of_log.filter_map(|stream| self.output.pipe(*stream)).filter_map(pipe::id_of);
            pipes.collect()
        };
        if unit.trailing.is_empty() { Default::default() } else { [unit.stdout, unit.stderr].map(of) }
    }

    /// Writes down who the keeper is.
    pub(super) fn announce_keeper(&mut self, now: Moment) {
        let header = self.header(self.supervisor.mode() == Mode::ShuttingDown);
        self.write_down(&Line::Header(Cow::Owned(header)), now);
    }

    fn rewrite_journal(&mut self, now: Moment) {
        let header = self.header(self.supervisor.mode() == Mode::ShuttingDown);
        let ids = self.supervisor.in_name_order();
        let records: Vec<(ProcessId, Record)> =
            ids.into_iter().filter_map(|id| Some((id, self.record_of(id)?))).collect();
        for (id, record) in &records {
            if let Some(unit) = self.units.get_mut(id) {
                unit.remembered = hash_of(record);
            }
        }
        let Some(journal) = &mut self.journal else { return };
        let lines = records.iter().map(|(_, record)| Line::Process(Cow::Borrowed(record)));
        let outcome = journal.rewrite([Line::Header(Cow::Owned(header))].into_iter().chain(lines), now);
        self.tell(&outcome);
    }

    fn write_down(&mut self, line: &Line<'_>, now: Moment) {
        if let Some(journal) = &mut self.journal {
            let outcome = journal.append(line, now);
            self.tell(&outcome);
        }
    }

    fn tell(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Fine => {}
            Outcome::Failed(problem) => warn!(
                "programs cannot be taken over if supervisord is killed, for the journal cannot be written: {problem}"
            ),
            Outcome::Recovered => info!("the journal can be written again"),
        }
    }

    fn header(&self, is_closed: bool) -> Header {
        let daemon = search::identity_of(Pid::this());
        let daemon = daemon.unwrap_or(Identity { pid: Pid::this().as_raw(), start_time: 0 });
        let keepers = self.keep.identities();
        Header { format: FORMAT, boot: self.boot.clone(), daemon, is_closed, keepers }
    }
}

fn hash_of(record: &Record) -> u64 {
    let mut hasher = DefaultHasher::new();
    record.hash(&mut hasher);
    hasher.finish()
}
