//! How it stands with what a process depends on, and who is to be told when that changes.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::{Mode, ProcessId, Supervisor};
use crate::{
    clock::Moment,
    config::{Dependency, dependencies::needed_first},
    process::{Denied, Dependencies, Exit, Process, ProcessState},
};

/// Who waits for whom. Empty in a configuration without `depends_on`.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// Processes that have waited for each; those that no longer do are taken out when it is looked at.
    by_dependency: HashMap<Dependency, BTreeSet<ProcessId>>,
    /// Processes whose standing has changed and of which nobody has been told.
    news: VecDeque<ProcessId>,
    /// Whether somebody is being told.
    is_telling: bool,
}

/// How it stands with one process, for those that depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    Up,
    Coming,
    Down,
}

impl Standing {
    /// RUNNING is up, and so is what has ended as expected: it has done its work. On its way is what will be started
    /// without anybody asking.
    pub(super) fn of(process: &Process) -> Self {
        let is_done = || process.exit().is_some_and(|exit| exit.is_expected_by(&process.config().exitcodes));
        match process.state() {
            ProcessState::Running => Self::Up,
            ProcessState::Starting | ProcessState::Backoff => Self::Coming,
            ProcessState::Exited if process.is_to_run() => Self::Coming,
            ProcessState::Exited if is_done() => Self::Up,
            // The first half of a restart.
            ProcessState::Stopping | ProcessState::Stopped if process.is_wanted() => Self::Coming,
            ProcessState::Stopping
            | ProcessState::Stopped
            | ProcessState::Exited
            | ProcessState::Fatal
            | ProcessState::Unknown => Self::Down,
        }
    }
}

impl Supervisor {
    /// Asks for a start. What it depends on is started too where it does not run, and waited for. See
    /// [`Process::start_after`].
    ///
    /// # Errors
    /// As [`Process::start`]; [`Denied::DependencyDown`] when something that it depends on cannot be started now, see
    /// [`Supervisor::lacking`]; [`Denied::NotRunning`] when there is no such process any more.
    pub fn start(&mut self, id: ProcessId, now: Moment) -> Result<(), Denied> {
        if !self.process(id).is_some_and(Process::is_startable) {
            return self.with(id, now, |process| process.start(now)).unwrap_or(Err(Denied::NotRunning));
        }
        self.start_what_is_needed(id, Process::is_startable, now);
        match self.dependencies_of(id) {
            Dependencies::Down(_) => Err(Denied::DependencyDown),
            dependencies => self.start_after(id, dependencies, now),
        }
    }

    /// Asks for a start that nobody asked for by name: as [`Supervisor::start`], but what an operator has stopped, or what was
    /// given up, is not started with it. Then it is held back.
    ///
    /// # Errors
    /// As [`Process::start`]; [`Denied::NotRunning`] when there is no such process any more.
    pub fn start_by_itself(&mut self, id: ProcessId, now: Moment) -> Result<(), Denied> {
        let is_untouched = |process: &Process| process.is_startable() && process.spawned_at().is_none();
        if self.process(id).is_some_and(Process::is_startable) {
            self.start_what_is_needed(id, is_untouched, now);
        }
        let dependencies = self.dependencies_of(id);
        self.start_after(id, dependencies, now)
    }

    /// Asks for the start of a process that ran until now. What it depends on is waited for if that is on its way; if not,
    /// it ran without, and goes on so.
    ///
    /// # Errors
    /// As [`Process::start`]; [`Denied::NotRunning`] when there is no such process any more.
    pub fn start_again(&mut self, id: ProcessId, now: Moment) -> Result<(), Denied> {
        let dependencies = match self.dependencies_of(id) {
            Dependencies::Down(_) => Dependencies::Up,
            dependencies => dependencies,
        };
        self.start_after(id, dependencies, now)
    }

    fn start_after(&mut self, id: ProcessId, dependencies: Dependencies, now: Moment) -> Result<(), Denied> {
        self.with(id, now, |process| process.start_after(dependencies, now))
            .unwrap_or(Err(Denied::NotRunning))
    }

    /// Starts what `id` depends on and will not come up by itself, as far as `may_start` it.
    fn start_what_is_needed(&mut self, id: ProcessId, may_start: impl Fn(&Process) -> bool, now: Moment) {
        let is_needed = |id: ProcessId| {
            let process = self.process(id);
            process.is_some_and(|process| Standing::of(process) == Standing::Down && may_start(process))
        };
        let of_one = |id| self.needed_by(id).filter(|id| is_needed(*id)).collect();
        let mut needed = needed_first(vec![id], of_one);
        needed.retain(|needed| *needed != id);
        for needed in needed {
            let (why, _) = self.written_process(id);
            let dependencies = self.dependencies_of(needed);
            self.with(needed, now, |process| {
                process.note_needed_by(why);
                // Not refused: it is at rest.
                let _ = process.start_after(dependencies, now);
            });
        }
    }

    /// Which process keeps `id` from being started, and why that will not change by itself.
    pub fn lacking(&self, id: ProcessId) -> Option<String> {
        match self.dependencies_of(id) {
            Dependencies::Down(problem) => Some(problem),
            Dependencies::Up | Dependencies::Coming(_) => None,
        }
    }

    /// `ids` so that none comes before one that it depends on; else as given.
    pub fn after_dependencies(&self, ids: Vec<ProcessId>) -> Vec<ProcessId> {
        let depends = |id: &ProcessId| self.process(*id).is_some_and(|p| !p.config().depends_on.is_empty());
        if !ids.iter().any(depends) {
            return ids;
        }
        let all: BTreeSet<ProcessId> = ids.iter().copied().collect();
        needed_first(ids, |id| self.needed_by(id).filter(|id| all.contains(id)).collect())
    }

    /// How it stands with what `id` depends on: what will not come up by itself is named before what is on its way.
    pub(super) fn dependencies_of(&self, id: ProcessId) -> Dependencies {
        let Some(entry) = self.entries.get(&id) else { return Dependencies::Up };
        let mut coming = None;
        for dependency in &entry.process.config().depends_on {
            let mut is_there = matches!(dependency, Dependency::Group(group) if self.group(group).is_some());
            for other in self.members_of(dependency) {
                is_there = true;
                match self.standing(other) {
                    Standing::Up => {}
                    Standing::Coming => coming = coming.or(Some(other)),
                    Standing::Down => return self.down(other),
                }
            }
            if !is_there {
                return Dependencies::Down(format!(
                    "{}, on which it depends, is not active",
                    written(dependency)
                ));
            }
        }
        coming.map_or(Dependencies::Up, |other| self.coming(other))
    }

    /// Lets the process be told when what it depends on changes, if it waits for that.
    pub(super) fn watch_dependencies(&mut self, id: ProcessId) {
        let Some(entry) = self.entries.get(&id).filter(|entry| entry.process.is_held_back()) else { return };
        for dependency in &entry.process.config().depends_on {
            self.waiting.by_dependency.entry(dependency.clone()).or_default().insert(id);
        }
    }

    /// Tells those who wait for `id` that its standing has changed, and those who wait for them, and so on.
    pub(super) fn tell_dependents(&mut self, id: ProcessId, now: Moment) {
        if self.waiting.by_dependency.is_empty() || self.mode != Mode::Running {
            return;
        }
        self.waiting.news.push_back(id);
        if std::mem::replace(&mut self.waiting.is_telling, true) {
            return;
        }
        while let Some(changed) = self.waiting.news.pop_front() {
            for dependent in self.dependents_waiting_for(changed) {
                let dependencies = match self.standing(changed) {
                    Standing::Down => self.down(changed),
                    Standing::Up | Standing::Coming => self.first_obstacle(dependent),
                };
                self.with(dependent, now, |process| process.handle_dependencies(dependencies, now));
            }
            // Those that have been started are not looked at again.
            self.dependents_waiting_for(changed);
        }
        self.waiting.is_telling = false;
    }

    /// Looks again at what `id` waits for: its settings have changed.
    pub(super) fn review_dependencies(&mut self, id: ProcessId, now: Moment) {
        if self.entries.get(&id).is_some_and(|entry| entry.process.is_held_back()) {
            let dependencies = self.dependencies_of(id);
            self.with(id, now, |process| process.handle_dependencies(dependencies, now));
        }
    }

    fn dependents_waiting_for(&mut self, id: ProcessId) -> Vec<ProcessId> {
        let Some(entry) = self.entries.get(&id) else { return Vec::new() };
        let (group, name) = (entry.group.name.clone(), entry.process.config().name.clone());
        let keys = [
            Dependency::Program(entry.process.config().program.clone()),
            Dependency::Group(group.clone()),
            Dependency::Process { group, name },
        ];
        let mut found = BTreeSet::new();
        for key in keys {
            let Some(waiting) = self.waiting.by_dependency.get_mut(&key) else { continue };
            waiting.retain(|id| self.entries.get(id).is_some_and(|entry| entry.process.is_held_back()));
            found.extend(waiting.iter().copied());
            if waiting.is_empty() {
                self.waiting.by_dependency.remove(&key);
            }
        }
        found.into_iter().collect()
    }

    /// As [`Self::dependencies_of`], but the first that is not up is named.
    fn first_obstacle(&self, id: ProcessId) -> Dependencies {
        let Some(entry) = self.entries.get(&id) else { return Dependencies::Up };
        let mut needed =
            entry.process.config().depends_on.iter().flat_map(|dependency| self.members_of(dependency));
        match needed.find(|other| self.standing(*other) != Standing::Up) {
            None => self.dependencies_of(id),
            Some(other) if self.standing(other) == Standing::Down => self.down(other),
            Some(other) => self.coming(other),
        }
    }

    /// The processes that depend on each one, where any do.
    pub(super) fn dependents(&self) -> BTreeMap<ProcessId, Vec<ProcessId>> {
        let mut dependents: BTreeMap<ProcessId, Vec<ProcessId>> = BTreeMap::new();
        for id in self.entries.keys() {
            for needed in self.needed_by(*id) {
                dependents.entry(needed).or_default().push(*id);
            }
        }
        dependents
    }

    fn needed_by(&self, id: ProcessId) -> impl Iterator<Item = ProcessId> {
        let depends_on = self.entries.get(&id).map(|entry| entry.process.config().depends_on.as_slice());
        depends_on.unwrap_or_default().iter().flat_map(|dependency| self.members_of(dependency))
    }

    /// The active processes that are meant.
    fn members_of(&self, dependency: &Dependency) -> impl Iterator<Item = ProcessId> {
        let (many, one) = match dependency {
            Dependency::Program(program) => (self.by_program.get(program).map(Vec::as_slice), None),
            Dependency::Group(group) => (self.group(group).map(super::Group::processes), None),
            Dependency::Process { group, name } => (None, self.find(group, name)),
        };
        many.unwrap_or_default().iter().copied().chain(one)
    }

    fn standing(&self, id: ProcessId) -> Standing {
        self.entries.get(&id).map_or(Standing::Down, |entry| Standing::of(&entry.process))
    }

    fn coming(&self, id: ProcessId) -> Dependencies {
        let (name, state) = self.written_process(id);
        Dependencies::Coming(format!("{name}, which is {state}"))
    }

    fn down(&self, id: ProcessId) -> Dependencies {
        let (name, state) = self.written_process(id);
        let exit = self.entries.get(&id).and_then(|entry| entry.process.exit());
        let how = match (state, exit) {
            (ProcessState::Exited, Some(Exit::Code(_) | Exit::Signal { .. })) => {
                exit.map(|exit| format!(" ({exit})")).unwrap_or_default()
            }
            _ => String::new(),
        };
        Dependencies::Down(format!("{name}, on which it depends, is {state}{how}"))
    }

    /// Name as for `supervisorctl`, and state.
    fn written_process(&self, id: ProcessId) -> (String, ProcessState) {
        let Some(entry) = self.entries.get(&id) else { return (String::new(), ProcessState::Unknown) };
        let (group, name) = (&entry.group.name, &entry.process.config().name);
        let written = if group == name { name.clone() } else { format!("{group}:{name}") };
        (written, entry.process.state())
    }
}

/// As in the configuration.
fn written(dependency: &Dependency) -> String {
    match dependency {
        Dependency::Program(name) => name.clone(),
        Dependency::Group(group) => format!("{group}:*"),
        Dependency::Process { group, name } => format!("{group}:{name}"),
    }
}
