//! The simulated shell: performs what the core and the scribe want done on the simulated machine, in the driver's order,
//! and takes over from a dead daemon as `driver/crash.rs` and `driver/adopt.rs` do. It decides nothing.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    kernel::{Handle, Key},
    world::{Lived, World},
};
use crate::{
    config::{GroupConfig, diff},
    continuity::{
        heir::{self, Bond, Found},
        scribe::{self, Belongings, Scribe, Step},
    },
    journal::{
        Line,
        condition::{self, Condition},
        encode,
        record::{Child, FORMAT, Header, Identity, Life, Pipes, Record},
        replay,
    },
    process::{Aftermath, Denied, Effect, Exit, Pid, Process, ProcessState},
    supervisor::{Mode, ProcessId, Supervisor},
};

/// A daemon and what it keeps beside its core.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) supervisor: Supervisor,
    scribe: Scribe,
    condition: Condition,
    children: BTreeMap<ProcessId, Child>,
    /// Handles of main processes that are not our children.
    foreign: BTreeMap<ProcessId, Handle>,
    /// Process groups that dead main processes have left behind.
    remains: BTreeMap<ProcessId, BTreeSet<i32>>,
    /// The child that was prepared.
    prepared: Option<Pipes>,
    /// Whose start an operator's restart waits for.
    pub(super) restarts: BTreeSet<ProcessId>,
    /// Groups that are being taken down.
    removing: BTreeSet<String>,
    /// Groups that are to take over their new configuration, and whom to start then.
    updating: BTreeMap<String, BTreeSet<String>>,
}

/// Beginning.
impl Daemon {
    /// Activates all groups, takes over what an earlier daemon has left, and starts the rest.
    pub(super) fn begin(world: &mut World) -> Lived<Self> {
        let mut daemon = Self {
            supervisor: Supervisor::new(),
            scribe: Scribe::default(),
            condition: Condition::Unwritten,
            children: BTreeMap::new(),
            foreign: BTreeMap::new(),
            remains: BTreeMap::new(),
            prepared: None,
            restarts: BTreeSet::new(),
            removing: BTreeSet::new(),
            updating: BTreeMap::new(),
        };
        for group in world.config.clone() {
            daemon.supervisor.add_group(Arc::new(group)).expect("names differ");
        }
        // A file whose beginning was lost with the power is alien.
        let found = replay(&world.disk.text).unwrap_or_default();
        let boot = world.kernel.boot();
        let mut records = heir::records_that_count(found, &boot, world.remember_stopped, &daemon.supervisor);
        let restored = records.iter().filter_map(|record| daemon.find(&record.group, &record.name)).collect();
        for (record, pipes) in heir::unborn(&mut records) {
            let newborn = world.kernel.holder(pipes);
            heir::complete(record, (pipes, newborn), &daemon.supervisor, (world.timeline, world.now));
            world.stir();
        }
        let mut adopted = Vec::new();
        for mut record in records {
            let bond = heir::bond_of(&mut record, |identity| look(world, identity));
            if record.life == Life::Unknown {
                world.out_of_reach.insert((record.group.clone(), record.name.clone()));
            }
            adopted.push((record, bond));
        }
        let recorded: BTreeSet<String> = adopted.iter().map(|(record, _)| record.group.clone()).collect();
        for (record, bond) in &mut adopted {
            if bond.may_live() && daemon.find(&record.group, &record.name).is_none() {
                let key = (record.group.clone(), record.name.clone());
                let key = world.apart.get(&key).cloned().unwrap_or(key);
                let is_taken =
                    |name: &str| recorded.contains(name) || daemon.supervisor.group(name).is_some();
                let group = heir::set_apart(record, is_taken);
                world.apart.insert((record.group.clone(), record.name.clone()), key);
                if bond.is_alive() {
                    daemon.removing.insert(group.name.clone());
                }
                daemon.supervisor.add_group(Arc::new(group)).expect("a name of its own");
            }
        }
        daemon.adopt(adopted, world)?;
        let names: Vec<&str> = world.config.iter().map(|group| group.name.as_str()).collect();
        daemon.supervisor.autostart_but(&restored, &names, world.now);
        daemon.perform(world)?;
        Ok(daemon)
    }

    fn adopt(&mut self, all: Vec<(Record, Bond<Handle>)>, world: &mut World) -> Lived {
        let mut taken = Vec::new();
        for (record, bond) in all {
            let Some(id) = self.find(&record.group, &record.name) else { continue };
            let ended = bond.exit();
            if ended.is_some() {
                world.note_failure(self.key(id, world));
            }
            if let Some(child) = record.child.filter(|_| ended.is_none()) {
                self.children.insert(id, child);
                if let Bond::Foreign(handle) = bond {
                    self.foreign.insert(id, handle);
                }
            }
            let ended = ended.map(|exit| (exit, Aftermath::default()));
            let at = (world.timeline, world.now);
            taken.push((id, heir::restore(&mut self.supervisor, id, (&record, ended), false, at)));
        }
        self.perform(world)?;
        for (id, can_go_on) in taken {
            if can_go_on {
                self.supervisor.resume(id, world.now);
            } else {
                self.supervisor.catch_up(id, false, world.now);
            }
        }
        self.perform(world)
    }

    pub(super) fn find(&self, group: &str, name: &str) -> Option<ProcessId> {
        self.supervisor.find(group, name)
    }

    /// The program that a process is of.
    fn key(&self, id: ProcessId, world: &World) -> Key {
        let (group, name) = self.supervisor.names(id).expect("it is supervised");
        let key = (group.to_owned(), name.to_owned());
        world.apart.get(&key).cloned().unwrap_or(key)
    }
}

/// Looks at a recorded main process. Between any two looks the world goes on.
fn look(world: &mut World, identity: Identity) -> Found<Handle> {
    if world.dice.is(1, 80) {
        return Err("too many open files".to_owned());
    }
    let Some(handle) = world.kernel.open(identity.pid) else { return Ok(None) };
    world.stir();
    let seen = world.kernel.seen(identity.pid);
    if !identity.is(seen) {
        return Ok(None);
    }
    world.stir();
    Ok(Some((handle, world.kernel.exit_of(handle))))
}

/// Performing.
impl Daemon {
    /// Performs everything that the core wants done by now.
    pub(super) fn perform(&mut self, world: &mut World) -> Lived {
        if self.condition.wants_rewrite(world.now) {
            self.scribe.begin_anew();
        }
        if let Some(room) = self.condition.wants_reserve(world.now) {
            let aside = world.disk.set_aside(room);
            self.condition.handle_set_aside(aside, world.now);
        }
        while let Some(step) = self.next_step() {
            world.say(|| format!("  {step:?}"));
            world.step()?;
            match step {
                Step::WriteAll => self.write_all(self.supervisor.mode() == Mode::ShuttingDown, world)?,
                Step::Forget(group, name) => self.append(&Line::Forgotten(group, name), world)?,
                Step::AnnounceEnd => self.append(&Line::Header(Cow::Owned(header(world, true))), world)?,
                Step::Prepare(id) => self.prepare(id, world),
                Step::Announce(id, pipes) => {
                    let record = self.record_of(id, world).expect("it is supervised");
                    let record = Record { intent: Some(pipes), ..record };
                    self.append(&Line::Process(Cow::Owned(record)), world)?;
                }
                Step::Spawn(id) => self.spawn(id, world),
                Step::Perform(id, effect) => self.perform_effect(id, &effect, world),
                Step::Write(id) => {
                    if let Some(record) = self.record_of(id, world)
                        && self.scribe.handle_written(id, &record)
                    {
                        self.append(&Line::Process(Cow::Owned(record)), world)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn next_step(&mut self) -> Option<Step> {
        if self.condition.is_about_to_be_full() {
            self.scribe.begin_anew();
        }
        self.scribe.poll_step(&mut self.supervisor)
    }

    fn prepare(&mut self, id: ProcessId, world: &mut World) {
        if world.spawns_fail && world.dice.is(1, 2) {
            world.note_failure(self.key(id, world));
            self.supervisor.handle_spawn_failed(id, "can't find command".to_owned(), world.now);
        } else {
            let pipes = world.kernel.pipes();
            self.prepared = Some(pipes);
            self.scribe.handle_prepared(id, pipes);
        }
    }

    fn spawn(&mut self, id: ProcessId, world: &mut World) {
        let pipes = self.prepared.take().expect("it was prepared");
        let key = self.key(id, world);
        if world.spawns_fail && world.dice.is(1, 2) {
            world.note_failure(key);
            return self.supervisor.handle_spawn_failed(id, "couldn't exec".to_owned(), world.now);
        }
        for (other, proc) in world.kernel.mains() {
            let is_apart = || self.apart_identities(world).contains(&proc.identity);
            assert!(*other != key || is_apart() || world.was_stale, "a second instance beside {proc}");
        }
        let identity = world.kernel.spawn(key, pipes, &mut world.dice);
        self.children.insert(id, Child { identity, pipes, adopted: None, only_writes: false });
        self.supervisor.handle_spawned(id, Pid::from_raw(identity.pid), world.now);
    }

    /// Programs that are stopped because they are not in the configuration any more.
    fn apart_identities(&self, world: &World) -> Vec<Identity> {
        let ids = world.apart.keys().filter_map(|(group, name)| self.find(group, name));
        ids.filter_map(|id| Some(self.children.get(&id)?.identity)).collect()
    }

    fn perform_effect(&mut self, id: ProcessId, effect: &Effect, world: &mut World) {
        match *effect {
            Effect::Signal { pid, signal, group } => {
                let key = self.key(id, world);
                if world.dice.is(1, 150) {
                    world.out_of_reach.insert(key);
                    return self.supervisor.handle_signal_refused(id, "EPERM".to_owned(), world.now);
                }
                match self.foreign.get(&id) {
                    Some(handle) => world.kernel.kill_handle(*handle, signal.0, group, &key, &mut world.dice),
                    None => world.kernel.kill(pid.as_raw(), signal.0, group, &key, &mut world.dice),
                };
            }
            Effect::EndLeftovers { signal } => {
                let key = self.key(id, world);
                for group in self.remains.get(&id).into_iter().flatten() {
                    world.kernel.kill(*group, signal.0, true, &key, &mut world.dice);
                }
                self.check_leftovers_of(id, world);
            }
            Effect::Changed { to, .. } => {
                if to.is_stopped() && self.restarts.remove(&id) {
                    // Refused when somebody was quicker.
                    let _ = self.start(id, world);
                }
            }
            Effect::Spawn | Effect::Waits | Effect::Note(_) => {}
        }
    }

    fn record_of(&self, id: ProcessId, world: &World) -> Option<Record> {
        let groups = self.remains.get(&id).map(|groups| groups.iter().copied().collect());
        let child = self.children.get(&id).copied();
        let belongings = Belongings { child, groups: groups.unwrap_or_default(), ..Belongings::default() };
        scribe::record_of(&self.supervisor, id, belongings, world.timeline)
    }

    fn append(&mut self, line: &Line<'_>, world: &mut World) -> Lived {
        if self.condition.end().is_none() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        encode(line, &mut bytes);
        if world.append(&bytes)? {
            self.condition.handle_appended(bytes.len());
        } else {
            self.fail(world);
        }
        Ok(())
    }

    fn fail(&mut self, world: &mut World) {
        assert!(!world.disk.is_prepared(), "space was set aside for what could not be written");
        world.is_stale = true;
        self.condition.handle_failed("full".to_owned(), world.now);
    }

    fn write_all(&mut self, is_closed: bool, world: &mut World) -> Lived {
        let mut bytes = Vec::new();
        encode(&Line::Header(Cow::Owned(header(world, is_closed))), &mut bytes);
        for id in self.supervisor.in_name_order() {
            if let Some(record) = self.record_of(id, world) {
                self.scribe.handle_written(id, &record);
                encode(&Line::Process(Cow::Owned(record)), &mut bytes);
            }
        }
        let len = bytes.len();
        if world.replace(bytes)? {
            world.is_stale = false;
            world.step()?;
            let aside = world.disk.set_aside(condition::room_for(len as u64));
            self.condition.handle_rewritten(len, aside, world.now);
        } else {
            self.fail(world);
        }
        Ok(())
    }
}

fn header(world: &World, is_closed: bool) -> Header {
    let daemon = Identity { pid: 7, start_time: 1 };
    let (boot, configuration) = (world.kernel.boot(), String::new());
    Header { format: FORMAT, boot, daemon, is_closed, keepers: Vec::new(), configuration }
}

/// Inputs.
impl Daemon {
    /// One turn of the loop, and as many more as there are deadlines.
    pub(super) fn turn(&mut self, world: &mut World) -> Lived {
        for _ in 0..200 {
            self.reap(world)?;
            self.reap_foreign(world)?;
            self.go_on_with_updates(world)?;
            if self.supervisor.poll_timeout().is_none_or(|at| at > world.now.mono) {
                return self.perform(world);
            }
            self.supervisor.handle_timeout(world.now);
            self.perform(world)?;
        }
        panic!("deadlines without end: {:?}", self.supervisor.poll_timeout());
    }

    fn reap(&mut self, world: &mut World) -> Lived {
        let mut exits = Vec::new();
        while let Some((pid, exit)) = world.kernel.reap() {
            exits.push((self.supervisor.handle_reaped(Pid::from_raw(pid)), pid, exit));
        }
        for (id, pid, _) in &exits {
            if let Some(id) = id
                && world.kernel.has_group(*pid)
            {
                self.remains.entry(*id).or_default().insert(*pid);
            }
        }
        for id in self.remains.keys().copied().collect::<Vec<_>>() {
            self.check_leftovers_of(id, world);
        }
        for (id, _, exit) in exits {
            if let Some(id) = id {
                self.handle_exit(id, exit, world)?;
            }
        }
        self.perform(world)
    }

    fn reap_foreign(&mut self, world: &mut World) -> Lived {
        let ended = |(id, handle): (&ProcessId, &Handle)| Some((*id, world.kernel.exit_of(*handle)?));
        for (id, exit) in self.foreign.iter().filter_map(ended).collect::<Vec<_>>() {
            self.handle_exit(id, exit, world)?;
        }
        Ok(())
    }

    fn handle_exit(&mut self, id: ProcessId, exit: Exit, world: &mut World) -> Lived {
        world.say(|| format!(" exit of {:?}: {exit}", self.supervisor.names(id)));
        world.note_failure(self.key(id, world));
        self.children.remove(&id);
        self.foreign.remove(&id);
        let remains = !self.is_gone(id, world);
        self.supervisor.handle_exit(id, exit, Aftermath { remains, diagnosis: None }, world.now);
        self.perform(world)
    }

    fn is_gone(&mut self, id: ProcessId, world: &World) -> bool {
        if let Some(groups) = self.remains.get_mut(&id) {
            groups.retain(|group| world.kernel.has_group(*group));
            if groups.is_empty() {
                self.remains.remove(&id);
            }
        }
        !self.remains.contains_key(&id)
    }

    fn check_leftovers_of(&mut self, id: ProcessId, world: &World) {
        if self.is_gone(id, world) {
            self.supervisor.handle_leftovers_gone(id, world.now);
        }
    }
}

/// Changes of the configuration.
impl Daemon {
    /// Makes the active groups equal to the configuration, as far as that is possible at once.
    pub(super) fn update(&mut self, world: &mut World) -> Lived {
        let active: Vec<GroupConfig> =
            self.supervisor.groups().iter().map(|group| GroupConfig::clone(group.config())).collect();
        let changes = diff::compare(&active, &world.config);
        self.removing.extend(changes.removed);
        for name in changes.changed {
            self.removing.remove(&name);
            self.updating.entry(name).or_default();
        }
        for name in changes.added {
            let group = world.config.iter().find(|group| group.name == name).expect("it is new").clone();
            self.supervisor.add_group(Arc::new(group)).expect("it is new");
            self.supervisor.autostart(&name, world.now);
        }
        self.go_on_with_updates(world)
    }

    fn go_on_with_updates(&mut self, world: &mut World) -> Lived {
        for name in self.removing.clone() {
            let Some(group) = self.supervisor.group(&name) else {
                self.removing.remove(&name);
                continue;
            };
            for id in group.processes().to_vec() {
                self.stop_for_update(id, world);
            }
            self.perform(world)?;
            if let Ok(ids) = self.supervisor.remove_group(&name, world.now) {
                ids.iter().for_each(|id| self.forget(*id, world));
                self.removing.remove(&name);
            }
            self.perform(world)?;
        }
        for (name, mut to_restart) in self.updating.clone() {
            let Some(new) = world.config.iter().find(|group| group.name == name).cloned() else {
                self.updating.remove(&name);
                continue;
            };
            let Ok(in_the_way) = self.supervisor.in_the_way_of(&new) else {
                self.updating.remove(&name);
                continue;
            };
            for id in in_the_way {
                let process = self.supervisor.process(id).expect("it is in the way");
                let is_to_run = process.is_to_run();
                if is_to_run {
                    to_restart.insert(process.config().name.clone());
                }
                if is_to_run {
                    self.supervisor.stop_for_start(id, world.now).expect("it is to run");
                } else {
                    self.stop_for_update(id, world);
                }
            }
            self.updating.insert(name.clone(), to_restart.clone());
            self.perform(world)?;
            if to_restart.iter().any(|process| self.is_stopping(&name, process)) {
                continue; // Perhaps for settings that are not asked for any more.
            }
            let Ok(replaced) = self.supervisor.replace_group(Arc::new(new), world.now) else { continue };
            self.updating.remove(&name);
            for one in replaced {
                if one.change == diff::ProcessChange::Removed {
                    self.forget(one.id, world);
                } else if to_restart.contains(&one.name) && self.is_wanted(one.id) {
                    // Somebody was quicker.
                    let _ = self.supervisor.start_again(one.id, world.now);
                } else if one.is_to_start {
                    let _ = self.supervisor.start_by_itself(one.id, world.now);
                }
            }
            self.perform(world)?;
        }
        Ok(())
    }

    /// An operator asks for a start. Returns what is started too, which may run from now on or not yet.
    pub(super) fn start(&mut self, id: ProcessId, world: &mut World) -> (Result<(), Denied>, Vec<Key>) {
        let unwanted: Vec<ProcessId> =
            self.supervisor.in_name_order().into_iter().filter(|id| !self.is_wanted(*id)).collect();
        let answer = self.supervisor.start(id, world.now);
        let started_too: Vec<Key> = unwanted
            .into_iter()
            .filter(|other| *other != id && self.is_wanted(*other))
            .map(|id| self.key(id, world))
            .collect();
        for key in &started_too {
            world.wishes.entry(key.clone()).and_modify(|wish| *wish = None);
        }
        (answer, started_too)
    }

    fn is_wanted(&self, id: ProcessId) -> bool {
        self.supervisor.process(id).is_some_and(Process::is_wanted)
    }

    fn is_stopping(&self, group: &str, name: &str) -> bool {
        let process = self.find(group, name).and_then(|id| self.supervisor.process(id));
        process.is_some_and(|process| process.state() == ProcessState::Stopping)
    }

    fn stop_for_update(&mut self, id: ProcessId, world: &World) {
        let is_stopping = |state| state == ProcessState::Stopping;
        if self.supervisor.process(id).is_some_and(|process| !is_stopping(process.state())) {
            // Refused when nothing runs.
            let _ = self.supervisor.stop(id, world.now);
        }
    }

    fn forget(&mut self, id: ProcessId, world: &mut World) {
        if let Some(child) = self.children.remove(&id) {
            // As in Supervisor, what could not be signalled counts as stopped.
            world.kernel.give_up(child.identity);
            self.foreign.remove(&id);
        }
        self.remains.remove(&id);
        self.restarts.remove(&id);
    }

    /// Everything was stopped to start anew.
    pub(super) fn begin_anew(&mut self, world: &mut World) -> Lived {
        for id in self.children.keys().copied().collect::<Vec<_>>() {
            self.forget(id, world);
        }
        self.remains.clear();
        self.restarts.clear();
        self.removing.clear();
        self.updating.clear();
        self.supervisor.begin_anew();
        for group in world.config.clone() {
            self.supervisor.add_group(Arc::new(group.clone())).expect("names differ");
            self.supervisor.autostart(&group.name, world.now);
        }
        self.perform(world)
    }

    /// Whether the journal says what is so.
    pub(super) fn can_write(&self) -> bool {
        self.condition.end().is_some()
    }

    /// The end: nothing runs any more.
    pub(super) fn close(&mut self, world: &mut World) -> Lived {
        if world.remember_stopped {
            self.write_all(true, world)?;
            if self.can_write() {
                return Ok(());
            }
        }
        world.step()?;
        world.disk.text.clear();
        for id in self.children.keys().copied().collect::<Vec<_>>() {
            self.forget(id, world);
        }
        Ok(())
    }
}

/// What must hold whenever the daemon waits.
impl Daemon {
    pub(super) fn check(&self, world: &World) {
        for (key, proc) in world.kernel.mains() {
            let is_its = |(id, child): (&ProcessId, &Child)| {
                let process = self.supervisor.process(*id);
                child.identity == proc.identity
                    && process.and_then(|process| process.pid()) == Some(Pid::from_raw(proc.identity.pid))
                    && self.key(*id, world) == *key
            };
            assert!(self.children.iter().any(is_its), "an untracked instance: {proc}");
        }
        if self.can_write() {
            self.check_journal(world);
        }
    }

    fn check_journal(&self, world: &World) {
        let snapshot = replay(&world.disk.text).expect("our own journal");
        assert_eq!(snapshot.damage, None);
        let mut records = snapshot.records;
        for id in self.supervisor.in_name_order() {
            let (group, name) = self.supervisor.names(id).expect("it is supervised");
            let written = records.remove(&(group.to_owned(), name.to_owned()));
            assert_eq!(written, self.record_of(id, world), "the journal is not what the core is");
        }
        assert_eq!(records.keys().next(), None, "the journal remembers what is forgotten");
    }
}
