//! The beginning of a daemon whose predecessor died: who is still there, what has become of the others, and our ends of
//! the pipes.
//!
//! A pid that belongs to another process by now is never signalled: a handle is opened first, and only then it is looked
//! whether it is that of the process which was written down.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use nix::unistd::Pid;
use tokio::sync::mpsc;
use tracing::{info, warn};

use super::{
    Driver,
    adopt::{Adopted, Bond},
    estate::{self, Grips},
    kept::Kept,
    sockets::SocketKey,
    update,
};
use crate::{
    clock::Moment,
    config::{
        AutoRestart, Environment, GroupConfig, GroupKind, KillMode, LogTarget, OutputConfig, ProgramConfig,
        StopSignal,
    },
    event::Event,
    journal::record::{Child, Due, Header, Identity, Life, Past, PipeId, Record, Remains},
    os::{
        search::{self, End},
        watch,
    },
    output::auto,
    process::Exit,
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
        let is_closed = found.header.as_ref().is_some_and(|header| header.is_closed);
        let mut records: Vec<Record> = found.records.into_values().collect();
        if !is_of_boot || is_closed {
            records.retain_mut(|record| self.outlives_an_end(record, is_of_boot));
        }
        let restored: BTreeSet<ProcessId> =
            records.iter().filter_map(|record| self.supervisor.find(&record.group, &record.name)).collect();
        self.take_sockets(&mut grips);
        let adopted = self.look_for(records, (&mut grips, &mut kept), now);
        let gone = self.adopt(adopted, now);
        self.settle_estate();
        for name in names {
            self.autostart_but(&restored, &name, now);
        }
        self.raise(Event::SupervisorRunning, now);
        self.perform_effects(now);
        self.take_down_removed(gone, now);
        drop(kept);
        self.keep.let_predecessors_go();
        self.tell_keeper(now);
    }

    /// Takes back what the keeper of the last daemon has kept. Sockets are in their place then.
    fn take_back(&mut self, header: Option<&Header>, now: Moment) -> Kept {
        let (Some(header), Some(journal)) = (header, &self.journal) else { return Kept::default() };
        let (mut kept, keepers) = Kept::take_back(journal.lock(), &header.keepers, now);
        self.keep.add_predecessors(keepers);
        for (program, url, socket) in kept.sockets() {
            self.sockets.adopt(SocketKey { program, url }, socket);
        }
        kept
    }

    /// What is left of a record after an orderly end, or a reboot: a program that did not end in time, and the will of
    /// the operators if that is to be remembered.
    fn outlives_an_end(&self, record: &mut Record, is_of_boot: bool) -> bool {
        if is_of_boot && (record.child.is_some() || record.intent.is_some()) {
            return true;
        }
        if record.wanted || !self.available.daemon.remember_stopped {
            return false;
        }
        let is_known = self.supervisor.find(&record.group, &record.name).is_some();
        record.life = Life::Stopped;
        record.child = None;
        record.intent = None;
        record.remains = Remains::default();
        record.past = Past { spawns: record.past.spawns, ..Past::default() };
        is_known && record.past.spawns > 0
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
        let unborn = |record: &&mut Record| record.child.is_none() && record.intent.is_some();
        let mut unborn: Vec<&mut Record> = records.iter_mut().filter(unborn).collect();
        let intents: Vec<_> = unborn.iter().filter_map(|record| record.intent).collect();
        let timeline = self.timeline;
        for (record, (identity, pipes)) in
            unborn.iter_mut().zip(search::find_newborn(&intents).into_iter().zip(intents))
        {
            record.intent = None;
            let Some(identity) = identity else { continue };
            info!(
                "'{}' was just being spawned when the last supervisord died: pid {}",
                record.name, identity.pid
            );
            let config = self.supervisor.find(&record.group, &record.name);
            let config = config.and_then(|id| self.supervisor.process(id)).map(|process| process.config());
            let startsecs = config.map_or(Duration::ZERO, |config| config.startsecs);
            let up_at = timeline.to_shared(now.deadline(startsecs));
            record.life = Life::Starting(Due(u64::try_from(up_at.as_nanos()).unwrap_or(u64::MAX)));
            record.past.spawns += 1;
            record.past.exit = None;
            record.child = Some(Child { identity, pipes, adopted: None, only_writes: false });
        }
    }

    /// Ends programs that are not in the configuration any more, as an update does.
    fn take_down_removed(&mut self, gone: Vec<Adopted>, now: Moment) {
        let mut removed: BTreeMap<String, Vec<Adopted>> = BTreeMap::new();
        for mut one in gone {
            if !matches!(one.bond, Bond::Ours | Bond::Foreign(_)) {
                continue;
            }
            info!("'{}' is not in the configuration any more, so it is stopped", one.record.name);
            // A group of this name may be active.
            one.record.group = format!("{}:{} (removed)", one.record.group, one.record.name);
            removed.entry(one.record.group.clone()).or_default().push(one);
        }
        if removed.is_empty() {
            return;
        }
        let names: Vec<String> = removed.keys().cloned().collect();
        for (name, mut adopted) in removed {
            let processes = adopted.iter().map(|one| Arc::new(stand_in(&one.record))).collect();
            self.prepare(GroupConfig { name, priority: 999, kind: GroupKind::Program, processes }, now);
            for one in &mut adopted {
                if let Some(id) = self.supervisor.find(&one.record.group, &one.record.name) {
                    one.record.settings = self.settings_of(id).unwrap_or_default();
                }
            }
            self.adopt(adopted, now);
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
    // Of what dead main processes have left behind only numbers were written down, which may be others' by now.
    let remains = std::mem::take(&mut record.remains);
    let outputs = [Channel::Stdout, Channel::Stderr].into_iter().zip(remains.outputs);
    let outputs = outputs.flat_map(|(channel, pipes)| pipes.into_iter().map(move |pipe| (channel, pipe)));
    let trailing = outputs.filter_map(|(channel, pipe)| Some((channel, kept.pipe(pipe)?))).collect();
    let none =
        |record, bond, trailing| Adopted { record, bond, stdout: None, stderr: None, stdin: None, trailing };
    let Some(child) = record.child else { return none(record, Bond::None, trailing) };
    let Child { identity, pipes, .. } = child;
    let pid = Pid::from_raw(identity.pid);
    let reopen =
        |pipe: Option<PipeId>, usual, end| pipe.and_then(|pipe| search::reopen(pid, pipe, usual, end));
    let bond = match bond_with(identity, kept.process(identity)) {
        Ok(bond) => bond,
        Err(error) => {
            // It may live: better one that cannot be steered than two.
            warn!("cannot take over '{}', pid {}: {error}", record.name, identity.pid);
            record.life = Life::Unknown;
            record.past.spawn_error = Some(format!("cannot be taken over: {error}"));
            return none(record, Bond::None, trailing);
        }
    };
    // If it has ended and nobody kept its pipe, others of its group may still hold what it wrote last.
    let mut read = |pipe: Option<PipeId>, usual| kept.pipe(pipe?).or_else(|| reopen(pipe, usual, End::Read));
    let (stdout, stderr) = (read(pipes.stdout, 1), read(pipes.stderr, 2));
    let is_alive = matches!(bond, Bond::Foreign(_) | Bond::Ours);
    let stdin = if is_alive { reopen(pipes.stdin, 0, End::Write) } else { None };
    if is_alive {
        let is_lost = |pipe: Option<PipeId>, end: &Option<OwnedFd>| pipe.is_some() && end.is_none();
        if is_lost(pipes.stdout, &stdout) || is_lost(pipes.stderr, &stderr) {
            match search::look_into(pid) {
                Ok(()) => info!("'{}' has closed its output, so there is nothing to capture", record.name),
                Err(error) => warn!(
                    "the output of '{}' cannot be captured until it is restarted, for its pipes cannot be seen: \
                     /proc/{pid}/fd: {error}",
                    record.name
                ),
            }
        }
    }
    Adopted { record, bond, stdout, stderr, stdin, trailing }
}

/// A handle of a recorded main process, the one that was kept or a new one, or its exit.
fn bond_with(identity: Identity, kept: Option<OwnedFd>) -> io::Result<Bond> {
    let pidfd = match kept {
        Some(pidfd) => Some(pidfd),
        None => watch::open(identity)?,
    };
    Ok(match pidfd {
        Some(pidfd) => match watch::exit_of(identity, pidfd.as_fd()) {
            None => Bond::Foreign(pidfd),
            Some(exit) => Bond::Ended(exit),
        },
        None => Bond::Ended(Exit::Unknown),
    })
}

/// Settings by which a program is stopped that is in the configuration no more.
fn stand_in(record: &Record) -> ProgramConfig {
    let output = |path: &Option<PathBuf>| OutputConfig {
        logfile: path.clone().map_or(LogTarget::None, LogTarget::File),
        maxbytes: 0,
        backups: 0,
        capture_maxbytes: 0,
        events_enabled: false,
        syslog: false,
    };
    ProgramConfig {
        program: record.name.clone(),
        name: record.name.clone(),
        command: String::new(),
        priority: 999,
        autostart: false,
        autorestart: AutoRestart::Never,
        startsecs: Duration::ZERO,
        startretries: 0,
        exitcodes: vec![0],
        stopsignal: StopSignal(record.manner.signal),
        stopwaitsecs: Duration::from_secs(record.manner.wait),
        stopasgroup: record.manner.stop_group,
        killasgroup: record.manner.kill_group,
        killmode: KillMode::Tree,
        login_environment: false,
        user: None,
        redirect_stderr: record.logs[1].is_none(),
        stdout: output(&record.logs[0]),
        stderr: output(&record.logs[1]),
        environment: Environment::default(),
        directory: None,
        umask: None,
        serverurl: None,
        fastcgi: None,
        on_daemon_death: crate::config::DaemonDeath::Keep,
    }
}
