//! Everything but the daemon: the machine, time, the configuration, chance, and what operators wish.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    dice::Dice,
    kernel::{Disk, Kernel, Key},
};
use crate::{
    clock::{Moment, Timeline},
    config::{AutoRestart, Dependency, GroupConfig, GroupKind, ProgramConfig, StopSignal},
    process::test_defaults,
};

/// The daemon was killed.
#[derive(Debug)]
pub(super) struct Killed;

/// What came of something that the daemon did not have to live to see the end of.
pub(super) type Lived<T = ()> = Result<T, Killed>;

/// Everything but the daemon.
#[derive(Debug)]
pub(super) struct World {
    pub(super) kernel: Kernel,
    pub(super) disk: Disk,
    pub(super) dice: Dice,
    pub(super) now: Moment,
    pub(super) timeline: Timeline,
    /// The configuration as it is in the file.
    pub(super) config: Vec<GroupConfig>,
    pub(super) remember_stopped: bool,
    pub(super) spawns_fail: bool,
    /// Whether the journal on the disk is not what it should be, for it could not be written.
    pub(super) is_stale: bool,
    /// Whether a daemon had to begin with such a journal.
    pub(super) was_stale: bool,
    /// Programs that left the configuration, under the names by which they are stopped.
    pub(super) apart: BTreeMap<Key, Key>,
    /// Steps that the daemon has to live.
    pub(super) fuel: Option<usize>,
    /// Programs that ended by themselves or could not be started, so that they may have been given up.
    pub(super) failed: BTreeSet<Key>,
    /// Programs that could not be signalled or looked at: as in Supervisor, their end is not the cause of a start.
    pub(super) out_of_reach: BTreeSet<Key>,
    /// What operators have said last, or `autostart`; `None` where both would be right.
    pub(super) wishes: BTreeMap<Key, Option<bool>>,
    /// What an operator has stopped last.
    pub(super) stopped: BTreeSet<Key>,
    is_loud: bool,
}

impl World {
    pub(super) fn new(seed: u64, is_loud: bool) -> Self {
        let mut dice = Dice::new(seed);
        let now = Moment { unix: Duration::from_secs(1_700_000_000), ..crate::clock::now() };
        let mut world = Self {
            kernel: Kernel::new(&mut dice),
            disk: Disk::new(&mut dice),
            now,
            timeline: Timeline::new(now, Duration::from_secs(1000)),
            config: Vec::new(),
            remember_stopped: dice.is(1, 2),
            spawns_fail: false,
            is_stale: false,
            was_stale: false,
            apart: BTreeMap::new(),
            fuel: None,
            failed: BTreeSet::new(),
            out_of_reach: BTreeSet::new(),
            wishes: BTreeMap::new(),
            stopped: BTreeSet::new(),
            is_loud,
            dice,
        };
        for at in 0..1 + world.dice.below(3) {
            world.add_group(at);
        }
        world
    }

    /// Tells what happens, in the run of a single seed.
    pub(super) fn say(&self, what: impl FnOnce() -> String) {
        if self.is_loud {
            println!("{}", what());
        }
    }

    /// The world goes on by itself.
    pub(super) fn stir(&mut self) {
        if self.dice.is(1, 3) {
            self.kernel.stir(&mut self.dice);
        }
    }

    /// Between two effects: the daemon may be killed here.
    pub(super) fn step(&mut self) -> Lived {
        self.stir();
        match &mut self.fuel {
            Some(0) => Err(Killed),
            Some(fuel) => {
                *fuel -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Appends to the journal, if there is space. The daemon may be killed at any byte.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Lived<bool> {
        if let Err(killed) = self.step() {
            let torn = self.dice.below(bytes.len() + 1);
            self.disk.text.extend_from_slice(&bytes[..torn]);
            return Err(killed);
        }
        let is_written = self.disk.takes(bytes.len());
        if is_written {
            self.disk.text.extend_from_slice(bytes);
        }
        Ok(is_written)
    }

    /// Writes the journal anew, if there is space for it: at once or not at all.
    pub(super) fn replace(&mut self, bytes: Vec<u8>) -> Lived<bool> {
        self.step()?;
        let is_written = self.disk.replace(bytes);
        self.step()?;
        Ok(is_written)
    }

    pub(super) fn note_failure(&mut self, key: Key) {
        self.failed.insert(key);
    }

    pub(super) fn add_group(&mut self, at: usize) {
        let name = format!("g{at}");
        if self.config.iter().any(|group| group.name == name) {
            return;
        }
        let count = 1 + self.dice.below(2);
        let processes = (0..count).map(|process| Arc::new(self.program((at, process)))).collect();
        let priority = self.dice.below(2) as i32;
        self.config.push(GroupConfig { name, priority, kind: GroupKind::Program, processes });
    }

    /// The program `p<process>` of the group `g<group>`. It depends on those with smaller numbers, so that there is no circle.
    fn program(&mut self, at: (usize, usize)) -> ProgramConfig {
        let earlier = |group: &GroupConfig| {
            let of = group.name.clone();
            let processes = group.processes.iter().map(move |process| (of.clone(), process.name.clone()));
            processes.filter(|key| number(key) < at).collect::<Vec<_>>()
        };
        let mut depends_on: Vec<Key> = self.config.iter().flat_map(earlier).collect();
        depends_on.retain(|_| self.dice.is(1, 4));
        let depends_on =
            depends_on.into_iter().map(|(group, name)| Dependency::Process { group, name }).collect();
        let dice = &mut self.dice;
        let policies = [AutoRestart::Never, AutoRestart::Unexpected, AutoRestart::Always];
        ProgramConfig {
            command: format!("run {}", dice.below(3)),
            autostart: dice.is(3, 4),
            autorestart: policies[dice.below(3)],
            startsecs: Duration::from_secs(dice.below(3) as u64),
            startretries: dice.below(3) as u32,
            stopwaitsecs: Duration::from_secs(dice.below(3) as u64),
            stopsignal: if dice.is(1, 8) { StopSignal::KILL } else { StopSignal::TERM },
            stopasgroup: dice.is(1, 3),
            killasgroup: dice.is(1, 3),
            depends_on,
            ..test_defaults(&format!("p{}", at.1))
        }
    }

    /// Another configuration: other settings, more or fewer processes and groups.
    pub(super) fn edit(&mut self) {
        let at = self.dice.below(self.config.len());
        match self.dice.below(6) {
            0 => {
                let at = self.dice.below(4);
                self.add_group(at);
            }
            1 if self.config.len() > 1 => drop(self.config.remove(at)),
            2 if self.config[at].processes.len() > 1 => drop(self.config[at].processes.pop()),
            3 if self.config[at].processes.len() < 3 => {
                let (group, _) = number(&(self.config[at].name.clone(), "p0".to_owned()));
                let program = Arc::new(self.program((group, self.config[at].processes.len())));
                self.config[at].processes.push(program);
            }
            _ => {
                let which = self.dice.below(self.config[at].processes.len());
                let before = Arc::clone(&self.config[at].processes[which]);
                let of = number(&(self.config[at].name.clone(), before.name.clone()));
                let after = ProgramConfig { autostart: before.autostart, ..self.program(of) };
                self.config[at].processes[which] = Arc::new(after);
            }
        }
        let keys: BTreeSet<Key> = self.keys().into_iter().map(|(key, _)| key).collect();
        self.wishes.retain(|key, _| keys.contains(key));
        self.stopped.retain(|key| keys.contains(key));
    }

    /// Every configured process, and whether it starts by itself.
    pub(super) fn keys(&self) -> Vec<(Key, bool)> {
        let of = |group: &GroupConfig| {
            let name = group.name.clone();
            let key =
                |process: &Arc<ProgramConfig>| ((name.clone(), process.name.clone()), process.autostart);
            group.processes.iter().map(key).collect::<Vec<_>>()
        };
        self.config.iter().flat_map(of).collect()
    }

    /// New processes are wanted if they start by themselves. If others depend on them, they may be started with these.
    pub(super) fn wish_for_new(&mut self) {
        for (key, autostart) in self.keys() {
            let wish = Some(autostart).filter(|wish| *wish || !self.is_needed(&key));
            let known = self.wishes.entry(key.clone()).or_insert(wish);
            if *known == Some(false) && !self.stopped.contains(&key) {
                *known = wish.and(*known);
            }
        }
    }

    /// Whether a program depends on this one.
    pub(super) fn is_needed(&self, key: &Key) -> bool {
        let mut dependencies =
            self.config.iter().flat_map(|group| &group.processes).flat_map(|p| &p.depends_on);
        let this = Dependency::Process { group: key.0.clone(), name: key.1.clone() };
        dependencies.any(|dependency| *dependency == this)
    }

    /// After an end that ends all: who starts by itself does, unless it was stopped and that is remembered.
    pub(super) fn wish_anew(&mut self, is_certain: bool) {
        let remember = self.remember_stopped && !self.disk.text.is_empty();
        if !remember {
            self.stopped.clear();
        }
        let autostart: BTreeMap<Key, bool> = self.keys().into_iter().collect();
        let needed: BTreeSet<Key> = self.wishes.keys().filter(|key| self.is_needed(key)).cloned().collect();
        for (key, wish) in &mut self.wishes {
            let starts = autostart.get(key).copied().unwrap_or(false);
            *wish = match *wish {
                Some(false) if remember => Some(false),
                Some(_) if is_certain => Some(starts).filter(|wish| *wish || !needed.contains(key)),
                Some(true) if starts => Some(true),
                Some(_) | None => None,
            };
        }
    }

    /// When it is not known whether it was written down what operators said last.
    pub(super) fn wish_nothing(&mut self) {
        self.wishes.values_mut().for_each(|wish| *wish = None);
    }
}

/// The numbers in the names of a group and a process.
fn number(key: &Key) -> (usize, usize) {
    let of = |name: &str| name[1..].parse().expect("a letter and a number");
    (of(&key.0), of(&key.1))
}
