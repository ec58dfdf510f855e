//! Children that ended: reaped, with what they left behind, and told to the core.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use tracing::{debug, warn};

use super::{Driver, family};
use crate::{
    clock::Moment,
    config::{KillMode, shlex},
    journal::record::{Child, Identity},
    os::{group::Census, reap, watch},
    output::StreamId,
    process::{Aftermath, Exit, Pid, Process, ProcessState, advice},
    supervisor::ProcessId,
};

/// Children that are reaped before the loop looks at anything else, and those among them that may be replaced at once.
/// The kernel tells the oldest child first: a program that ran for long does not wait for a crowd that crashes again and
/// again, if that is not taken all at once.
const EXITS_AT_ONCE: usize = 256;
const RESTARTS_AT_ONCE: usize = 2;
/// More programs than this are not searched for strays of a crashed one before its replacement starts.
const MANY: usize = 100;
/// Least time between two searches for what crashed programs left behind: each looks at every child, and a storm of
/// crashes must not become dearer by it.
const STRAYS_PAUSE: Duration = Duration::from_millis(20);

/// A child that was reaped.
struct Ended {
    /// Whose main process it was, if it was one.
    id: Option<ProcessId>,
    pid: Pid,
    exit: Exit,
}

impl Driver {
    /// Reaps a bounded number of children. Leftovers are looked for once for all of them.
    pub(super) fn reap(&mut self, now: Moment) {
        let mut exits = Vec::new();
        let mut restarts = 0;
        self.more_exits = false;
        while let Some((pid, exit)) = reap::next() {
            let id = self.supervisor.handle_reaped(pid);
            let process = id.and_then(|id| self.supervisor.process(id));
            if process.is_some_and(|process| process.state() != ProcessState::Stopping) {
                restarts += 1;
            }
            exits.push(Ended { id, pid, exit });
            self.more_exits = exits.len() == EXITS_AT_ONCE || restarts == RESTARTS_AT_ONCE;
            if self.more_exits {
                break;
            }
        }
        self.signals.hold_child_exits(self.more_exits);
        for Ended { id, pid, .. } in &exits {
            if let Some(id) = id {
                let killmode = self.supervisor.process(*id).map(|process| process.config().killmode);
                if killmode != Some(KillMode::Process) {
                    self.family.note_group(*id, *pid);
                }
            }
        }
        let owners: Vec<ProcessId> = exits.iter().filter_map(|ended| ended.id).collect();
        let mut diagnoses = self.look_for_strays(&exits, now);
        let mut is_family_changed = false;
        let census = Census::default();
        let (mains, others): (Vec<Ended>, Vec<Ended>) =
            exits.into_iter().partition(|ended| ended.id.is_some());
        // First, before anything is spawned: the number of a group that is gone may be given to another process.
        for Ended { pid, exit, .. } in others {
            if !self.handle_check_ended(pid, exit, now) && !self.handle_keeper_ended(pid, now) {
                debug!("reaped unknown pid {pid} ({exit})");
                self.family.handle_reaped(pid);
                is_family_changed = true;
            }
        }
        if is_family_changed {
            self.check_leftovers(now);
        }
        for Ended { id, pid, exit } in mains {
            if let Some(id) = id {
                let diagnosis = diagnoses.remove(&id);
                self.handle_exit(id, pid, (exit, diagnosis), &census, now);
            }
        }
        self.plan_search(owners, now);
    }

    /// With many programs a search takes longer than a start: then what a crashed one left outside its group is ended
    /// a little later, beside the replacement.
    fn plan_search(&mut self, owners: Vec<ProcessId>, now: Moment) {
        if !owners.is_empty() && self.units.len() > MANY {
            self.search.get_or_insert_with(|| (now.deadline(STRAYS_PAUSE), Vec::new())).1.extend(owners);
        }
    }

    /// Carries out the search that was planned, when it is due.
    pub(super) fn search_when_due(&mut self, now: Moment) {
        let Some((_, owners)) = self.search.take_if(|(at, _)| *at <= now.mono) else { return };
        for (id, _) in self.family.find_strays(&self.supervisor, &owners) {
            self.supervisor.handle_leftovers_found(id, now);
        }
    }

    /// Attributes the descendants that landed on us when main processes ended, so that a replacement finds nothing of
    /// its predecessor. Returns which programs put themselves into the background, and what to do about it.
    ///
    /// After a crash this is done at most once in [`STRAYS_PAUSE`].
    fn look_for_strays(&mut self, exits: &[Ended], now: Moment) -> BTreeMap<ProcessId, String> {
        let is_certain = |ended: &Ended| {
            let process = ended.id.and_then(|id| self.supervisor.process(id));
            let is_stopping = |process: &Process| process.state() == ProcessState::Stopping;
            process.is_some_and(|process| ended.exit == Exit::Code(0) || is_stopping(process))
        };
        let mut diagnoses = BTreeMap::new();
        let is_ours = |ended: &Ended| ended.id.is_some();
        let is_too_soon = now.mono < self.next_look_for_strays;
        let is_late = is_too_soon || self.units.len() > MANY;
        if !exits.iter().any(is_certain) && (is_late || !exits.iter().any(is_ours)) {
            return diagnoses;
        }
        self.next_look_for_strays = now.deadline(STRAYS_PAUSE);
        let suspects: Vec<_> = exits.iter().filter_map(|ended| ended.id).collect();
        let found = self.family.find_strays(&self.supervisor, &suspects);
        for Ended { id, exit, .. } in exits {
            let Some(id) = id.filter(|_| *exit == Exit::Code(0)) else { continue };
            let state = self.supervisor.process(id).map(Process::state);
            let stray = found.iter().find(|(owner, _)| *owner == id).map(|(_, stray)| *stray);
            let Some(stray) = stray.filter(|_| state != Some(ProcessState::Stopping)) else { continue };
            if let Some(diagnosis) = self.diagnose_background(id, stray) {
                diagnoses.insert(id, diagnosis);
            }
        }
        diagnoses
    }

    fn diagnose_background(&mut self, id: ProcessId, stray: Pid) -> Option<String> {
        let config = self.supervisor.process(id)?.config().clone();
        let words = shlex::split(&config.command).unwrap_or_default();
        let program = words.first().map_or(config.name.as_str(), String::as_str);
        let hint = advice::foreground_hint(program);
        let diagnosis = format!("{program} put itself into the background (pid {stray}): {hint}");
        let unit = self.units.get_mut(&id)?;
        let is_background = |known: &String| known.contains("put itself into the background");
        if !unit.advice.iter().any(is_background) {
            warn!("{}: {diagnosis}", config.name);
        }
        unit.advice.retain(|known| !is_background(known));
        unit.advice.push(diagnosis.clone());
        Some(diagnosis)
    }

    /// Hands the ends of foreign processes to the core.
    pub(super) fn reap_foreign(&mut self, now: Moment) {
        let exits: Vec<(Identity, Exit)> = std::iter::from_fn(|| self.watch.poll_exit()).collect();
        // One look at all processes for all of them.
        let census = Census::default();
        let owners: HashMap<Identity, ProcessId> =
            self.units.iter().filter_map(|(id, unit)| Some((unit.child?.identity, *id))).collect();
        let mut is_family_changed = false;
        for (identity, exit) in exits {
            // Not by its pid: a child of ours may have that by now.
            let Some(id) = owners.get(&identity).copied() else {
                is_family_changed = true;
                continue;
            };
            self.note_foreign_group(id, identity, &census);
            self.handle_exit(id, Pid::from_raw(identity.pid), (exit, None), &census, now);
        }
        if is_family_changed {
            self.check_leftovers(now);
        }
    }

    /// Records what is left of the group of a main process that ended while no daemon ran. Returns whether something is.
    pub(super) fn note_orphans(&mut self, id: ProcessId, child: Child, census: &Census) -> bool {
        let Some(name) = self.supervisor.names(id) else { return false };
        family::is_group_of(child, name, census) && self.note_foreign_group(id, child.identity, census)
    }

    /// Records what is left of the group of `leader`, which was not our child. Returns whether something is.
    fn note_foreign_group(&mut self, id: ProcessId, leader: Identity, census: &Census) -> bool {
        let killmode = self.supervisor.process(id).map(|process| process.config().killmode);
        if killmode == Some(KillMode::Process) {
            return false;
        }
        // Its parent may take its time to reap it, and until then its group seems to exist.
        let has_left_some = self.family.note_foreign_group(id, leader, census);
        self.watch_relatives();
        has_left_some
    }

    /// Waits for the ends of those left behind who are not our children.
    fn watch_relatives(&mut self) {
        for member in self.family.take_unwatched() {
            if let Ok(Some(pidfd)) = watch::open(member)
                && let Err(error) = self.watch.add(member, pidfd)
            {
                let pid = member.pid;
                debug!("the end of pid {pid}, which a program left behind, will not be noticed: {error}");
            }
        }
    }

    fn handle_exit(
        &mut self,
        id: ProcessId,
        pid: Pid,
        (exit, diagnosis): (Exit, Option<String>),
        census: &Census,
        now: Moment,
    ) {
        self.unkeep(id, pid);
        let mut streams = Vec::new();
        if let Some(unit) = self.units.get_mut(&id) {
            unit.stdin = None;
            unit.child = None;
            streams = std::mem::take(&mut unit.streams);
        }
        for stream in &streams {
            self.output.drain(*stream, now);
        }
        self.trail(id, &streams);
        // What it wrote happened before its end.
        self.handle_pieces(now);
        self.end_listener(id, now);
        self.release_sources(id);
        let remains = !self.is_gone(id, census);
        self.supervisor.handle_exit(id, exit, Aftermath { remains, diagnosis }, now);
        self.perform_effects(now);
        self.settle_listener(id, now);
        // After the replacement has been spawned: it does not wait for this, and finds the log still open.
        for stream in streams {
            self.output.release(stream, now);
        }
        self.handle_pieces(now);
        self.forget_sources();
    }

    /// Others may write on to the pipes of a dead main process: these are remembered, and kept, until they end.
    pub(super) fn trail(&mut self, id: ProcessId, streams: &[StreamId]) {
        let Some(unit) = self.units.get_mut(&id) else { return };
        unit.trailing.retain(|stream| self.output.is_attached(*stream));
        let lasting = streams.iter().copied().filter(|stream| !self.output.is_exhausted(*stream));
        let lasting: Vec<StreamId> = lasting.collect();
        unit.trailing.extend(&lasting);
        for stream in lasting {
            self.keep_pipe(stream);
        }
    }

    /// Tells the core whose leftovers are gone.
    pub(super) fn check_leftovers(&mut self, now: Moment) {
        // A dead stray may have left strays of its own.
        self.family.find_strays(&self.supervisor, &[]);
        let census = Census::default();
        for id in self.family.bereaved() {
            if self.is_gone(id, &census) {
                self.supervisor.handle_leftovers_gone(id, now);
            }
        }
        self.perform_effects(now);
    }

    /// Tells the core if nothing is left of what main processes of `id` left behind.
    pub(super) fn check_leftovers_of(&mut self, id: ProcessId, now: Moment) {
        if self.is_gone(id, &Census::default()) {
            self.supervisor.handle_leftovers_gone(id, now);
        }
    }

    fn is_gone(&mut self, id: ProcessId, census: &Census) -> bool {
        let is_gone = self.family.is_gone(id, self.supervisor.names(id), census);
        self.watch_relatives();
        is_gone
    }
}
