//! How it stands with what a process depends on, and who is to be told when that changes.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use super::{Mode, ProcessId, Supervisor};
use crate::{
    clock::Moment,
    config::{Dependency, dependencies::needed_first},
    process::{Denied, Dependencies, Process, ProcessState},
};

/// Who waits for whom. Empty in a configuration without `depends_on`.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    /// What is waited for.
    watched: HashMap<Dependency, Watch>,
    /// Processes whose standing has changed and of which nobody has been told.
    news: VecDeque<ProcessId>,
    /// Whether somebody is being told.
    is_telling: bool,
}

/// The processes of one dependency, and who waits for them: kept, so that nobody has to look at all of them whenever one
/// changes.
#[derive(Debug, Default)]
struct Watch {
    waiting: BTreeSet<ProcessId>,
    /// Those that are not up.
    failed: BTreeSet<ProcessId>,
    stalled: BTreeSet<ProcessId>,
    coming: BTreeSet<ProcessId>,
}

impl Watch {
    fn set(&mut self, id: ProcessId, standing: Standing) {
        for (own, set) in [
            (Standing::Failed, &mut self.failed),
            (Standing::Stalled, &mut self.stalled),
            (Standing::Coming, &mut self.coming),
        ] {
            if own == standing {
                set.insert(id);
            } else {
                set.remove(&id);
            }
        }
    }

    /// The process that is farthest from being up. The last of several: that of a crowd which comes up in order stays the
    /// same, and nobody has to be told anew each time.
    fn worst(&self) -> Option<(Standing, ProcessId)> {
        let last = |standing, set: &BTreeSet<ProcessId>| set.last().map(|id| (standing, *id));
        last(Standing::Failed, &self.failed)
            .or_else(|| last(Standing::Stalled, &self.stalled))
            .or_else(|| last(Standing::Coming, &self.coming))
    }
}

/// How it stands with one process, for those that depend on it; the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Standing {
    Up,
    /// Will be started without anybody asking.
    Coming,
    /// Is not up, and will not be by itself.
    Stalled,
    /// As that, for it has failed.
    Failed,
}

impl Standing {
    /// RUNNING is up, and so is what has ended as expected: it has done its work.
    pub(super) fn of(process: &Process) -> Self {
        let is_done = || process.exit().is_some_and(|exit| exit.is_expected_by(&process.config().exitcodes));
        match process.state() {
            ProcessState::Running => Self::Up,
            ProcessState::Starting if process.is_stalled() => Self::Stalled,
            ProcessState::Starting | ProcessState::Backoff => Self::Coming,
            ProcessState::Exited if process.is_to_run() => Self::Coming,
            ProcessState::Exited if is_done() => Self::Up,
            // The first half of a restart.
            ProcessState::Stopping | ProcessState::Stopped if process.is_wanted() => Self::Coming,
            ProcessState::Stopping | ProcessState::Stopped | ProcessState::Unknown => Self::Stalled,
            ProcessState::Exited | ProcessState::Fatal => Self::Failed,
        }
    }
}

/// What is in the way of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Obstacle {
    Process(Standing, ProcessId),
    /// No process of it is active.
    Inactive(Dependency),
}

/// Starts.
impl Supervisor {
    /// Asks for a start. What it depends on is started too where it does not run, and waited for. See
    /// [`Process::start_after`].
    ///
    /// # Errors
    /// As [`Process::start`]; [`Denied::NotRunning`] when there is no such process any more.
    pub fn start(&mut self, id: ProcessId, now: Moment) -> Result<(), Denied> {
        let is_startable = self.process(id).is_some_and(Process::is_startable);
        let is_stalled = self.process(id).is_some_and(Process::is_stalled);
        if is_startable || is_stalled {
            let may_start = |process: &Process| process.is_startable() || process.is_stopping();
            self.start_what_is_needed(id, may_start, now);
        }
        let dependencies = self.dependencies_of(id);
        let asked = self.with(id, now, |process| process.start_after(dependencies, now));
        match asked.unwrap_or(Err(Denied::NotRunning)) {
            // It waits, perhaps already for what has just been started.
            Err(Denied::AlreadyStarted) if is_startable || is_stalled => Ok(()),
            answer => answer,
        }
    }

    /// Asks for a start that nobody asked for by name: as [`Supervisor::start`], but what an operator has stopped, or what has
    /// failed, is not started with it.
    ///
    /// # Errors
    /// As [`Supervisor::start`].
    pub fn start_by_itself(&mut self, id: ProcessId, now: Moment) -> Result<(), Denied> {
        self.start_untouched(id, now);
        let dependencies = self.dependencies_of(id);
        self.with(id, now, |process| process.start_after(dependencies, now))
            .unwrap_or(Err(Denied::NotRunning))
    }

    /// Asks for the start of a process that ran until now. What it depends on is waited for if that is on its way; if not,
    /// it ran without, and goes on so.
    ///
    /// # Errors
    /// As [`Supervisor::start`].
    pub fn start_again(&mut self, id: ProcessId, now: Moment) -> Result<(), Denied> {
        self.start_untouched(id, now);
        let dependencies = self.dependencies_of(id);
        self.with(id, now, |process| process.start_again(dependencies, now))
            .unwrap_or(Err(Denied::NotRunning))
    }

    /// Starts what `id` depends on as far as nobody has ever said whether it shall run, if `id` is to be started or waits.
    pub(super) fn start_untouched(&mut self, id: ProcessId, now: Moment) {
        if self.process(id).is_some_and(|process| process.is_startable() || process.is_waiting()) {
            self.start_what_is_needed(id, Process::is_untouched, now);
        }
    }

    /// Starts what `id` depends on and will not come up by itself, as far as `may_start` it.
    fn start_what_is_needed(&mut self, id: ProcessId, may_start: impl Fn(&Process) -> bool, now: Moment) {
        let is = |id: ProcessId, question: &dyn Fn(&Process) -> bool| {
            let process = self.process(id);
            process.is_some_and(|process| Standing::of(process) >= Standing::Stalled && question(process))
        };
        // What waits itself is asked for what it waits for.
        let leads_on = |process: &Process| may_start(process) || process.is_waiting();
        let of_one = |id| self.needed_by(id).filter(|id| is(*id, &leads_on)).collect();
        let mut needed = needed_first(vec![id], of_one);
        needed.retain(|needed| *needed != id && is(*needed, &may_start));
        for needed in needed {
            let why = self.written(id);
            let dependencies = self.dependencies_of(needed);
            self.with(needed, now, |process| {
                process.note_needed_by(why);
                process.start_once_stopped();
                // Refused only while it is being stopped.
                let _ = process.start_after(dependencies, now);
            });
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
}

/// News.
impl Supervisor {
    /// Lets the process be told when what it depends on changes.
    pub(super) fn watch_dependencies(&mut self, id: ProcessId) {
        let Some(process) = self.process(id) else { return };
        for dependency in process.config().depends_on.clone() {
            if !self.waiting.watched.contains_key(&dependency) {
                let watch = self.look_at(&dependency);
                self.waiting.watched.insert(dependency.clone(), watch);
            }
            if let Some(watch) = self.waiting.watched.get_mut(&dependency) {
                watch.waiting.insert(id);
            }
        }
    }

    /// A process is new: nobody is told before all of them are there.
    pub(super) fn count_among_dependencies(&mut self, id: ProcessId) {
        for dependency in self.meanings_of(id) {
            let standing = self.standing(id);
            if let Some(watch) = self.waiting.watched.get_mut(&dependency) {
                watch.set(id, standing);
            }
        }
    }

    fn look_at(&self, dependency: &Dependency) -> Watch {
        let mut watch = Watch::default();
        for id in self.members_of(dependency) {
            watch.set(id, self.standing(id));
        }
        watch
    }

    /// Tells those who wait for `id` that its state has changed, and those who wait for them, and so on.
    pub(super) fn tell_dependents(&mut self, id: ProcessId, now: Moment) {
        if self.waiting.watched.is_empty() || self.mode != Mode::Running {
            return;
        }
        self.waiting.news.push_back(id);
        if std::mem::replace(&mut self.waiting.is_telling, true) {
            return;
        }
        while let Some(changed) = self.waiting.news.pop_front() {
            for dependency in self.meanings_of(changed) {
                self.tell_of(&dependency, Some(changed), now);
            }
        }
        self.waiting.is_telling = false;
    }

    /// Tells those who wait for `dependency`; `changed` is the process of it that has another standing, if that is all.
    fn tell_of(&mut self, dependency: &Dependency, changed: Option<ProcessId>, now: Moment) {
        let Some(mut watch) = self.waiting.watched.remove(dependency) else { return };
        match changed {
            Some(changed) => watch.set(changed, self.standing(changed)),
            None => watch = Watch { waiting: watch.waiting, ..self.look_at(dependency) },
        }
        let depends = |id: &ProcessId| {
            let process = self.process(*id);
            process.is_some_and(|p| p.is_held_back() && p.config().depends_on.contains(dependency))
        };
        watch.waiting.retain(depends);
        let waiting: Vec<ProcessId> = watch.waiting.iter().copied().collect();
        // Empty ones are put back all the same: others may come to wait while these are told.
        self.waiting.watched.insert(dependency.clone(), watch);
        for dependent in waiting {
            self.tell(dependent, now);
        }
        let is_done = |watch: &Watch| {
            !watch.waiting.iter().any(|id| self.process(*id).is_some_and(Process::is_held_back))
        };
        if self.waiting.watched.get(dependency).is_some_and(is_done) {
            self.waiting.watched.remove(dependency);
        }
    }

    /// Tells one process how it stands with what it waits for.
    pub(super) fn tell(&mut self, id: ProcessId, now: Moment) {
        let dependencies = self.dependencies_of(id);
        if self.process(id).is_some_and(|process| !process.knows(&dependencies)) {
            self.with(id, now, |process| process.handle_dependencies(dependencies, now));
        }
    }

    /// Tells everybody who waits: processes have come, gone, or got other settings.
    pub(super) fn tell_all(&mut self, now: Moment) {
        if self.waiting.watched.is_empty() || self.mode != Mode::Running {
            return;
        }
        let watched: Vec<Dependency> = self.waiting.watched.keys().cloned().collect();
        for dependency in watched {
            self.tell_of(&dependency, None, now);
        }
    }

    /// Under which dependencies a process is waited for.
    fn meanings_of(&self, id: ProcessId) -> Vec<Dependency> {
        let Some(entry) = self.entries.get(&id) else { return Vec::new() };
        let (group, name) = (entry.group.name.clone(), entry.process.config().name.clone());
        vec![
            Dependency::Program(entry.process.config().program.clone()),
            Dependency::Group(group.clone()),
            Dependency::Process { group, name },
        ]
    }
}

/// Questions.
impl Supervisor {
    /// How it stands with what `id` depends on: the process that is farthest from being up is named.
    pub fn dependencies_of(&self, id: ProcessId) -> Dependencies {
        match self.obstacle_of(id) {
            None | Some(Obstacle::Process(Standing::Up, _)) => Dependencies::Up,
            Some(Obstacle::Process(Standing::Coming, other)) => Dependencies::Coming(self.state_of(other)),
            Some(Obstacle::Process(Standing::Stalled, other)) => Dependencies::Stalled(self.state_of(other)),
            Some(Obstacle::Process(Standing::Failed, other)) => Dependencies::Failed(self.failure_of(other)),
            Some(Obstacle::Inactive(dependency)) => {
                Dependencies::Stalled(format!("{dependency}, which is not active"))
            }
        }
    }

    fn obstacle_of(&self, id: ProcessId) -> Option<Obstacle> {
        let mut worst: Option<(Standing, ProcessId)> = None;
        let mut inactive = None;
        for dependency in &self.entries.get(&id)?.process.config().depends_on {
            let found = match self.waiting.watched.get(dependency) {
                Some(watch) => watch.worst(),
                None => self.look_at(dependency).worst(),
            };
            if found.map(|(standing, _)| standing) > worst.map(|(standing, _)| standing) {
                worst = found;
            }
            if found.is_none() && !self.is_active(dependency) {
                inactive = inactive.or(Some(dependency));
            }
        }
        match (worst, inactive) {
            (Some((Standing::Failed, _)), _) | (_, None) => {
                worst.map(|(standing, id)| Obstacle::Process(standing, id))
            }
            (_, Some(dependency)) => Some(Obstacle::Inactive(dependency.clone())),
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

    fn is_active(&self, dependency: &Dependency) -> bool {
        match dependency {
            Dependency::Program(program) => self.by_program.contains_key(program),
            Dependency::Group(group) => self.group(group).is_some(),
            Dependency::Process { group, name } => self.find(group, name).is_some(),
        }
    }

    fn standing(&self, id: ProcessId) -> Standing {
        self.entries.get(&id).map_or(Standing::Up, |entry| Standing::of(&entry.process))
    }

    /// `db, which is STARTING`
    fn state_of(&self, id: ProcessId) -> String {
        let state = self.process(id).map_or(ProcessState::Unknown, Process::state);
        format!("{}, which is {state}", self.written(id))
    }

    /// `db, on which it depends, is EXITED (exit status 1)`
    fn failure_of(&self, id: ProcessId) -> String {
        let process = self.process(id);
        let state = process.map_or(ProcessState::Unknown, Process::state);
        let exit = process.and_then(Process::exit).filter(|_| state == ProcessState::Exited);
        let how = exit.map(|exit| format!(" ({exit})")).unwrap_or_default();
        format!("{}, on which it depends, is {state}{how}", self.written(id))
    }

    /// The name of a process as for `supervisorctl`.
    fn written(&self, id: ProcessId) -> String {
        match self.names(id) {
            Some((group, name)) if group == name => name.to_owned(),
            Some((group, name)) => format!("{group}:{name}"),
            None => String::new(),
        }
    }
}
