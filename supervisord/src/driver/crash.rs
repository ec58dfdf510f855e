//! The beginning of a daemon whose predecessor died: who is still there, what has become of the others, and our ends of
//! the pipes.
//!
//! A pid that belongs to another process by now is never signalled: a handle is opened first, and only then it is looked
//! whether it is that of the process which was written down.

use std::{
    collections::BTreeSet,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
};

use nix::unistd::Pid;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{
    Driver,
    adopt::Adopted,
    estate::{self, Grips},
    kept::Kept,
    sockets::SocketKey,
    update,
};
use crate::{
    clock::Moment,
    config::ProgramConfig,
    continuity::heir::{self, Bond, Found},
    event::Event,
    journal::record::{Child, Header, Identity, PipeId, Pipes, Record},
    os::{
        search::{self, End},
        watch,
    },
    output::auto,
    request::Channel,
    supervisor::ProcessId,
    takeover::Estate,
};

impl Driver {
    /// Activates all groups, takes over what an earlier daemon has left (as `estate` if it has just been ended, else in the
    /// journal), and starts the rest.
    pub(super) fn inherit(&mut self, estate: Option<Estate>, now: Moment) {
        let mut grips = estate.map(|estate| self.take_estate(estate, now)).unwrap_or_default();
        self.events.pools.set_server(&self.available.daemon.identifier);
        let groups = self.available.groups.clone();
        let names: Vec<String> = groups.iter().map(|group| group.name.clone()).collect();
        for group in groups {
            self.prepare(group, now);
        }
        let found = std::mem::take(&mut self.inheritance);
        if let Some(damage) = &found.damage {
            warn!("the journal of the last supervisord: {damage}");
        }
        let is_of_boot = found.is_of_boot(&self.boot);
        let mut kept = self.take_back(found.header.as_ref().filter(|_| is_of_boot), now);
        let remember_stopped = self.available.daemon.remember_stopped;
        let records = heir::records_that_count(found, &self.boot, remember_stopped, &self.supervisor);
        let restored: BTreeSet<ProcessId> =
            records.iter().filter_map(|record| self.supervisor.find(&record.group, &record.name)).collect();
        self.take_sockets(&mut grips);
        let mut adopted = self.look_for(records, (&mut grips, &mut kept), now);
        let removed = self.set_apart(&mut adopted, now);
        self.adopt(adopted, now);
        self.settle_estate();
        self.autostart_but(&restored, &names, now);
        self.raise(Event::SupervisorRunning, now);
        self.perform_effects(now);
        self.take_down(removed);
        drop(kept);
        self.keep.let_predecessors_go();
        self.tell_keeper(now);
    }

    /// Takes back what the keeper of the last daemon has kept. Sockets are in their place then.
    fn take_back(&mut self, header: Option<&Header>, now: Moment) -> Kept {
        let journal = self.former_journal.as_ref().or(self.journal.as_ref());
        let (Some(header), Some(journal)) = (header, journal) else { return Kept::default() };
        let (mut kept, keepers) = Kept::take_back(journal.lock(), &header.keepers, now);
        self.keep.add_predecessors(keepers);
        for (program, url, socket) in kept.sockets() {
            self.sockets.adopt(SocketKey { program, url }, socket);
        }
        kept
    }

    /// Finds out what is left of each recorded process.
    fn look_for(
        &self,
        mut records: Vec<Record>,
        found: (&mut Grips, &mut Kept),
        now: Moment,
    ) -> Vec<Adopted> {
        self.find_newborn(&mut records, now);
        let (grips, kept) = found;
        let find = |record: Record| match grips.remove(&(record.group.clone(), record.name.clone())) {
            Some(grip) => estate::adopted(record, grip),
            None => look_for_one(record, kept),
        };
        records.into_iter().map(find).collect()
    }

    /// Completes records of spawns that nobody lived to see the end of.
    fn find_newborn(&self, records: &mut [Record], now: Moment) {
        let unborn = heir::unborn(records);
        let intents: Vec<Pipes> = unborn.iter().map(|(_, pipes)| *pipes).collect();
        let found = search::find_newborn(&intents);
        for ((record, pipes), newborn) in unborn.into_iter().zip(found) {
            if let Some(identity) = newborn {
                let pid = identity.pid;
                info!("'{}' was just being spawned when the last supervisord died: pid {pid}", record.name);
            }
            heir::complete(record, (pipes, newborn), &self.supervisor, (self.timeline, now));
        }
    }

    /// Makes a place for programs that are not in the configuration any more and may live. Returns the groups of those that
    /// can be stopped.
    fn set_apart(&mut self, adopted: &mut [Adopted], now: Moment) -> Vec<String> {
        let recorded: BTreeSet<String> = adopted.iter().map(|one| one.record.group.clone()).collect();
        let mut names = Vec::new();
        for Adopted { record, bond, .. } in adopted {
            if !bond.may_live() || self.supervisor.find(&record.group, &record.name).is_some() {
                continue;
            }
            let is_taken = |name: &str| recorded.contains(name) || self.supervisor.group(name).is_some();
            let group = heir::set_apart(record, is_taken);
            if bond.is_alive() {
                info!("'{}' is not in the configuration any more, so it is stopped", record.name);
                names.push(group.name.clone());
            } else {
                // The next daemon may see it.
                info!("'{}' is not in the configuration any more, and cannot be stopped", record.name);
            }
            self.prepare(group, now);
        }
        names
    }

    /// Ends programs that are not in the configuration any more, as an update does.
    fn take_down(&mut self, names: Vec<String>) {
        if names.is_empty() {
            return;
        }
        let asker = update::Asker { driver: self.handle.clone(), life: self.lives.subscribe() };
        let plan = update::Plan::of_removed(names);
        // Nobody listens: what happens to the programs is in the log.
        let (steps, _) = mpsc::channel(plan.step_count().max(1));
        self.jobs.spawn(update::run(asker, plan, steps));
    }

    /// The AUTO log that a process had under the last daemon.
    pub(super) fn inherited_log(&self, config: &ProgramConfig, channel: Channel) -> Option<PathBuf> {
        let is_its_group = |group: &&crate::supervisor::Group| {
            group.config().processes.iter().any(|known| std::ptr::eq(&**known, config))
        };
        if self.inheritance.records.is_empty() {
            return None;
        }
        let group = self.supervisor.groups().iter().find(is_its_group)?;
        let record = self.inheritance.records.get(&(group.config().name.clone(), config.name.clone()))?;
        let index = match channel {
            Channel::Stdout => 0,
            Channel::Stderr => 1,
        };
        let path = record.logs[index].clone()?;
        let is_auto =
            auto::is_auto_path(&path, &self.available.daemon.childlogdir, &self.available.daemon.identifier);
        (is_auto && path.exists()).then_some(path)
    }
}

/// Finds out what is left of one recorded process.
fn look_for_one(mut record: Record, kept: &mut Kept) -> Adopted {
    let remains = std::mem::take(&mut record.remains);
    let outputs = [Channel::Stdout, Channel::Stderr].into_iter().zip(remains.outputs);
    let outputs = outputs.flat_map(|(channel, pipes)| pipes.into_iter().map(move |pipe| (channel, pipe)));
    let trailing = outputs.filter_map(|(channel, pipe)| Some((channel, kept.pipe(pipe)?))).collect();
    let bond = heir::bond_of(&mut record, |identity| look(identity, kept.process(identity)));
    let mut adopted = Adopted { record, bond, stdout: None, stderr: None, stdin: None, trailing };
    let Some(Child { identity, pipes, .. }) = adopted.record.child else { return adopted };
    let pid = Pid::from_raw(identity.pid);
    let reopen =
        |pipe: Option<PipeId>, usual, end| pipe.and_then(|pipe| search::reopen(pid, pipe, usual, end));
    if let Bond::Unseen = &adopted.bond {
        let problem = adopted.record.past.spawn_error.as_deref().unwrap_or_default();
        warn!("'{}', pid {pid}, {problem}", adopted.record.name);
        return adopted;
    }
    // If it has ended and nobody kept its pipe, others of its group may still hold what it wrote last.
    let mut read = |pipe: Option<PipeId>, usual| kept.pipe(pipe?).or_else(|| reopen(pipe, usual, End::Read));
    (adopted.stdout, adopted.stderr) = (read(pipes.stdout, 1), read(pipes.stderr, 2));
    if adopted.bond.is_alive() {
        adopted.stdin = reopen(pipes.stdin, 0, End::Write);
        let is_lost = |pipe: Option<PipeId>, end: &Option<OwnedFd>| pipe.is_some() && end.is_none();
        if is_lost(pipes.stdout, &adopted.stdout) || is_lost(pipes.stderr, &adopted.stderr) {
            let name = &adopted.record.name;
            match search::look_into(pid) {
                Ok(()) => info!("'{name}' has closed its output, so there is nothing to capture"),
                Err(error) => warn!(
                    "the output of '{name}' cannot be captured until it is restarted, for its pipes cannot be \
                     seen: /proc/{pid}/fd: {error}"
                ),
            }
        }
    }
    adopted
}

/// A handle of a recorded main process, the one that was kept or a new one, and its exit if it has ended.
fn look(identity: Identity, kept: Option<OwnedFd>) -> Found<OwnedFd> {
    let pidfd = match kept {
        Some(pidfd) => Some(pidfd),
        None => watch::open(identity).map_err(|error| error.to_string())?,
    };
    Ok(pidfd.map(|pidfd| {
        let exit = watch::exit_of(identity, pidfd.as_fd());
        (pidfd, exit)
    }))
}
