//! Writing the journal. What is written into it and when is decided by [`Scribe`](crate::continuity::scribe::Scribe).

use std::{borrow::Cow, cell::RefCell};

use nix::unistd::Pid;
use tracing::{error, info, warn};

use super::{Driver, keep::Keep, unit::Unit};
use crate::{
    clock::Moment,
    config::Config,
    continuity::scribe::{self, Belongings},
    journal::{
        Line,
        condition::Outcome,
        file::Journal,
        record::{FORMAT, Header, Identity, PipeId, Pipes, Record},
    },
    os::{pipe, search},
    supervisor::{Mode, ProcessId},
};

impl Driver {
    /// Writes down what has become of a process.
    pub(super) fn remember(&mut self, id: ProcessId, now: Moment) {
        if self.journal.is_some()
            && let Some(record) = self.record_of(id)
            && self.scribe.handle_written(id, &record)
        {
            self.write_down(&Line::Process(Cow::Owned(record)), now);
        }
    }

    /// Writes down that a child with these pipes is about to exist.
    pub(super) fn announce(&mut self, id: ProcessId, pipes: Pipes, now: Moment) {
        if self.journal.is_some()
            && let Some(record) = self.record_of(id)
        {
            self.write_down(&Line::Process(Cow::Owned(Record { intent: Some(pipes), ..record })), now);
        }
    }

    /// Writes down that all is about to be stopped.
    pub(super) fn announce_end(&mut self, now: Moment) {
        let header = self.header(true);
        self.write_down(&Line::Header(Cow::Owned(header)), now);
    }

    /// The end: nothing runs any more.
    pub(super) fn close_journal(&mut self, now: Moment) {
        if let Some(former) = self.former_journal.take() {
            former.remove();
        }
        if self.available.daemon.remember_stopped {
            self.rewrite_journal(now);
        }
        // What an outdated one says would be taken for the truth.
        let is_outdated = self.journal.as_ref().is_none_or(|journal| journal.problem().is_some());
        if (is_outdated || !self.available.daemon.remember_stopped)
            && let Some(journal) = self.journal.take()
        {
            journal.remove();
        }
    }

    /// Everything starts anew, and nothing runs: goes on in the place that is now configured, and removes the journal in
    /// the old one, which stays when that cannot be done.
    pub(super) fn move_journal(&mut self, config: &Config) {
        let place = &config.daemon.runtime_directory;
        if self.journal.as_ref().is_some_and(|journal| journal.directory() == place) {
            return;
        }
        match Journal::open_another(place, &self.boot) {
            Ok(journal) => {
                // Nothing is to be kept, and its door is in the old place.
                self.dismiss_keepers();
                self.keep = Keep::default();
                if let Some(old) = self.journal.replace(journal) {
                    info!("the journal is now in {}", place.display());
                    old.remove();
                }
                self.no_journal = None;
            }
            Err(error) => match &self.journal {
                Some(journal) => {
                    error!("the journal stays in {}: {error}", journal.directory().display());
                }
                None => self.no_journal = Some(error.to_string()),
            },
        }
    }

    /// The configuration that was just read may name another place than is in use.
    pub(super) fn say_where_the_journal_stays(&self) {
        let place = &self.available.daemon.runtime_directory;
        if let Some(journal) = self.journal.as_ref().filter(|journal| journal.directory() != place) {
            let (old, new) = (journal.directory().display(), place.display());
            info!("the journal stays in {old} until a reload or an upgrade, then it is in {new}");
        }
    }

    /// What the last daemon had written in another place is not needed any more, if it is written down in ours.
    pub(super) fn leave_former_place(&mut self, now: Moment) {
        if self.journal.as_ref().is_some_and(|journal| journal.is_written(now))
            && let Some(former) = self.former_journal.take()
        {
            former.remove();
        }
    }

    /// What clients should know about the journal.
    pub(super) fn journal_problem(&self) -> Option<String> {
        let journal = self.journal.as_ref();
        if let Some(problem) = journal.and_then(Journal::shortage) {
            return Some(short(problem));
        }
        journal.and_then(Journal::problem).or(self.no_journal.as_deref()).map(unwritable)
    }

    fn record_of(&self, id: ProcessId) -> Option<Record> {
        let unit = self.units.get(&id)?;
        let path = |log| self.output.path(log).map(std::path::Path::to_path_buf);
        let (groups, strays) = self.family.remains_of(id);
        let logs = [unit.stdout.and_then(path), unit.stderr.and_then(path)];
        let outputs = self.outputs_of(unit);
        let belongings = Belongings { child: unit.child, logs, groups, strays, outputs };
        scribe::record_of(&self.supervisor, id, belongings, self.timeline)
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

    /// Writes the whole journal anew.
    pub(super) fn rewrite_journal(&mut self, now: Moment) {
        let Some(mut journal) = self.journal.take() else { return };
        let scribe = RefCell::new(std::mem::take(&mut self.scribe));
        let header = self.header(self.supervisor.mode() == Mode::ShuttingDown);
        let ids = self.supervisor.in_name_order();
        let lines = || {
            // One at a time: all of them together would take more memory than all else that is kept of the programs.
            let records = ids.iter().filter_map(|id| {
                let record = self.record_of(*id)?;
                scribe.borrow_mut().handle_written(*id, &record);
                Some(Line::Process(Cow::Owned(record)))
            });
            [Line::Header(Cow::Borrowed(&header))].into_iter().chain(records)
        };
        let outcome = journal.rewrite(lines, now);
        (self.scribe, self.journal) = (scribe.into_inner(), Some(journal));
        self.tell(&outcome);
    }

    /// Sees to it that the journal can be written when the disk is full.
    pub(super) fn renew_reserve(&mut self, now: Moment) {
        if let Some(journal) = &mut self.journal {
            let outcome = journal.renew_reserve(now);
            self.tell(&outcome);
        }
    }

    /// Adds a line to the journal, if there is one.
    pub(super) fn write_down(&mut self, line: &Line<'_>, now: Moment) {
        if let Some(journal) = &mut self.journal {
            let outcome = journal.append(line, now);
            self.tell(&outcome);
        }
    }

    fn tell(&self, outcome: &Outcome) {
        match outcome {
            Outcome::Fine => {}
            Outcome::Failed(problem) => warn!("{}", unwritable(problem)),
            Outcome::Recovered => info!("the journal can be written again"),
            Outcome::Short(problem) => warn!("{}", short(problem)),
            Outcome::Renewed => info!("space for the journal is set aside again"),
        }
    }

    fn header(&self, is_closed: bool) -> Header {
        let daemon = search::identity_of(Pid::this());
        let daemon = daemon.unwrap_or(Identity { pid: Pid::this().as_raw(), start_time: 0 });
        let (format, boot, keepers) = (FORMAT, self.boot.clone(), self.keep.identities());
        let configuration = self.configuration_file.to_string_lossy().into_owned();
        Header { format, boot, daemon, is_closed, keepers, configuration }
    }
}

fn unwritable(problem: &str) -> String {
    format!(
        "programs cannot be taken over if supervisord is killed, for the journal cannot be written: {problem}"
    )
}

fn short(problem: &str) -> String {
    format!(
        "on a full disk programs could not be taken over any more if supervisord is killed, for no space can be set aside for the journal: {problem}"
    )
}
