//! All processes and groups: who is there, by which name and pid, when something is due, and the order of a shutdown.
//!
//! Pure. Each decision about one process is in [`crate::process`]; this module routes inputs to it and hands out the
//! effects in the order in which they arose.

mod dependencies;
mod replace;
mod select;
mod shutdown;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Instant,
};

use dependencies::{Standing, Waiting};
pub use replace::Replaced;
pub use select::{Selection, literally, select};
use shutdown::{Next, Shutdown};

use crate::{
    clock::{Moment, Timeline},
    config::{GroupConfig, GroupKind, StopSignal},
    process::{Aftermath, Denied, Effect, Exit, Memory, Pid, Process},
};

/// Names a process for as long as its group is active; never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessId(u64);

/// What the supervisor is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Supervising.
    Running,
    /// Stopping everything, to end.
    ShuttingDown,
    /// Stopping everything, to start anew.
    Restarting,
}

/// An active group.
#[derive(Debug)]
pub struct Group {
    config: Arc<GroupConfig>,
    processes: Vec<ProcessId>,
}

impl Group {
    /// Its configuration.
    pub fn config(&self) -> &Arc<GroupConfig> {
        &self.config
    }

    /// Its processes, in the order in which they start.
    pub fn processes(&self) -> &[ProcessId] {
        &self.processes
    }
}

/// Why a group was not added or removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GroupDenied {
    /// A group of this name is active.
    #[error("already added")]
    AlreadyAdded,
    /// No group of this name is active.
    #[error("no such group")]
    NoSuchGroup,
    /// One of its processes is not at rest.
    #[error("still running")]
    StillRunning,
}

#[derive(Debug)]
struct Entry {
    group: Arc<GroupConfig>,
    process: Process,
    deadline: Option<Instant>,
    /// Whether its child was reaped and its exit is about to be handled: its pid may be another's by now.
    is_reaped: bool,
}

/// All supervised processes.
#[derive(Debug)]
pub struct Supervisor {
    /// In order of activation.
    groups: Vec<Group>,
    /// Where each group stands in `groups`.
    group_at: HashMap<String, usize>,
    /// Group and process name of each process.
    by_name: BTreeMap<(String, String), ProcessId>,
    /// Processes of each program, in order of activation.
    by_program: HashMap<String, Vec<ProcessId>>,
    entries: BTreeMap<ProcessId, Entry>,
    by_pid: HashMap<Pid, ProcessId>,
    deadlines: BTreeSet<(Instant, ProcessId)>,
    effects: VecDeque<(ProcessId, Effect)>,
    mode: Mode,
    shutdown: Option<Shutdown>,
    waiting: Waiting,
    /// Whether processes are being put in the place of others, so that nobody can say yet how it stands with them.
    is_restoring: bool,
    next_id: u64,
    /// Processes to which something has happened, for whoever writes down what becomes of them.
    touched: Vec<ProcessId>,
    /// Processes that are not supervised any more, likewise.
    forgotten: Forgotten,
}

/// Processes that are not supervised any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forgotten {
    /// Each with its group and name.
    These(Vec<(ProcessId, String, String)>),
    /// All that there were before everything started anew.
    All,
}

impl Default for Forgotten {
    fn default() -> Self {
        Self::These(Vec::new())
    }
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

/// Groups and names.
impl Supervisor {
    /// A supervisor of nothing.
    pub fn new() -> Self {
        Self {
            groups: Vec::new(),
            group_at: HashMap::new(),
            by_name: BTreeMap::new(),
            by_program: HashMap::new(),
            entries: BTreeMap::new(),
            by_pid: HashMap::new(),
            deadlines: BTreeSet::new(),
            effects: VecDeque::new(),
            mode: Mode::Running,
            shutdown: None,
            waiting: Waiting::default(),
            is_restoring: false,
            next_id: 0,
            touched: Vec::new(),
            forgotten: Forgotten::default(),
        }
    }

    /// Activates a group; nothing of it is started yet. Of two processes with one name the later replaces the earlier.
    ///
    /// # Errors
    /// [`GroupDenied::AlreadyAdded`].
    pub fn add_group(&mut self, config: Arc<GroupConfig>) -> Result<&[ProcessId], GroupDenied> {
        if self.group(&config.name).is_some() {
            return Err(GroupDenied::AlreadyAdded);
        }
        let mut processes: Vec<ProcessId> = Vec::with_capacity(config.processes.len());
        for program in &config.processes {
            if let Some(at) =
                processes.iter().position(|id| self.entries[id].process.config().name == program.name)
            {
                let replaced = processes.remove(at);
                self.unlist(replaced);
                self.entries.remove(&replaced);
            }
            processes.push(self.settle(&config, program).id);
        }
        self.group_at.insert(config.name.clone(), self.groups.len());
        self.groups.push(Group { config, processes });
        Ok(self.groups.last().map_or(&[], |group| &group.processes))
    }

    /// Starts the processes of a group that start with it.
    pub fn autostart(&mut self, group: &str, now: Moment) {
        self.autostart_but(&BTreeSet::new(), &[group], now);
    }

    /// [`Supervisor::autostart`] of several groups, but for processes that go on where another daemon left them.
    pub fn autostart_but(&mut self, restored: &BTreeSet<ProcessId>, groups: &[&str], now: Moment) {
        let groups = groups.iter().filter_map(|name| self.group(name));
        let mut ids: Vec<ProcessId> = groups.flat_map(|group| group.processes.iter().copied()).collect();
        ids.retain(|id| !restored.contains(id) && self.entries[id].process.config().autostart);
        for id in self.after_dependencies(ids) {
            // A process that was just added is never refused; a second call finds it started.
            let _ = self.start_by_itself(id, now);
        }
        self.tell_all(now);
    }

    /// Forgets a group, all of whose processes are at rest.
    ///
    /// # Errors
    /// [`GroupDenied::NoSuchGroup`], [`GroupDenied::StillRunning`].
    pub fn remove_group(&mut self, name: &str, now: Moment) -> Result<Vec<ProcessId>, GroupDenied> {
        let at = *self.group_at.get(name).ok_or(GroupDenied::NoSuchGroup)?;
        if !self.groups[at].processes.iter().all(|id| self.entries[id].process.is_at_rest()) {
            return Err(GroupDenied::StillRunning);
        }
        let group = self.take_out(at);
        for id in &group.processes {
            self.unsettle(name, *id);
        }
        self.tell_all(now);
        self.advance_shutdown(now);
        Ok(group.processes)
    }

    /// Takes a group out of the list.
    fn take_out(&mut self, at: usize) -> Group {
        let group = self.groups.remove(at);
        self.group_at.remove(&group.config.name);
        // No name is copied: an update may do this to thousands of groups, one by one.
        for later in self.group_at.values_mut().filter(|later| **later > at) {
            *later -= 1;
        }
        group
    }

    /// The active groups in order of activation.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The active group of this name.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.group_at.get(name).map(|at| &self.groups[*at])
    }

    /// The process `name` of `group`.
    pub fn find(&self, group: &str, name: &str) -> Option<ProcessId> {
        self.by_name.get(&(group.to_owned(), name.to_owned())).copied()
    }

    /// The process whose child is `pid`.
    pub fn owner(&self, pid: Pid) -> Option<ProcessId> {
        self.by_pid.get(&pid).copied()
    }

    /// A process.
    pub fn process(&self, id: ProcessId) -> Option<&Process> {
        self.entries.get(&id).map(|entry| &entry.process)
    }

    /// Group and name of a process.
    pub fn names(&self, id: ProcessId) -> Option<(&str, &str)> {
        self.entries.get(&id).map(|entry| (entry.group.name.as_str(), entry.process.config().name.as_str()))
    }

    /// All processes, ordered by group name, then process name.
    pub fn in_name_order(&self) -> Vec<ProcessId> {
        self.by_name.values().copied().collect()
    }

    /// `ids` in the order in which they start: by priority and name of the group, then priority of the process, else as
    /// given.
    pub fn in_start_order(&self, ids: &[ProcessId]) -> Vec<ProcessId> {
        let mut ids = ids.to_vec();
        ids.sort_by_cached_key(|id| {
            let entry = self.entries.get(id);
            entry.map(|Entry { group, process, .. }| {
                (group.priority, group.name.clone(), process.config().priority)
            })
        });
        ids
    }
}

/// Requests and inputs.
impl Supervisor {
    /// Asks for a stop. See [`Process::stop`].
    ///
    /// # Errors
    /// As [`Process::stop`].
    pub fn stop(&mut self, id: ProcessId, now: Moment) -> Result<(), Denied> {
        self.with(id, now, |process| process.stop(now)).unwrap_or(Err(Denied::NotRunning))
    }

    /// Asks to send a signal. See [`Process::signal`].
    ///
    /// # Errors
    /// As [`Process::signal`].
    pub fn signal(&mut self, id: ProcessId, signal: StopSignal, now: Moment) -> Result<(), Denied> {
        self.with(id, now, |process| process.signal(signal)).unwrap_or(Err(Denied::NotRunning))
    }

    /// Takes the list of processes to which something has happened since it was taken last, some more than once.
    pub fn take_touched(&mut self) -> Vec<ProcessId> {
        std::mem::take(&mut self.touched)
    }

    /// Takes what was forgotten since it was asked last.
    pub fn take_forgotten(&mut self) -> Forgotten {
        std::mem::take(&mut self.forgotten)
    }

    /// Puts a process that another daemon has left in the place of one that was just added, and records how its child
    /// has ended meanwhile, if it has.
    pub fn restore(
        &mut self,
        id: ProcessId,
        memory: &Memory,
        ended: Option<(Exit, Aftermath)>,
        at: (Timeline, Moment),
    ) {
        let (timeline, now) = at;
        let Some(entry) = self.entries.get_mut(&id) else { return };
        self.is_restoring = true;
        entry.process = Process::restored(Arc::clone(entry.process.config()), memory, timeline);
        match (entry.process.pid(), ended) {
            // Its pid may be another's by now.
            (Some(_), Some((exit, aftermath))) => {
                self.with(id, now, |process| process.handle_exit(exit, aftermath, now));
            }
            (Some(pid), None) => {
                self.by_pid.insert(pid, id);
                self.with(id, now, |_| ());
            }
            (None, _) => {
                self.with(id, now, |_| ());
            }
        }
        self.is_restoring = false;
    }

    /// Lets a restored process go on with what it was about to do. See [`Process::resume`].
    pub fn resume(&mut self, id: ProcessId, now: Moment) {
        self.start_untouched(id, now);
        let dependencies = self.dependencies_of(id);
        self.with(id, now, |process| process.resume(dependencies, now));
    }

    /// Lets a restored process go on under other settings than its child has. See [`Process::catch_up`].
    pub fn catch_up(&mut self, id: ProcessId, is_listener: bool, now: Moment) -> bool {
        self.start_untouched(id, now);
        let dependencies = self.dependencies_of(id);
        self.with(id, now, |process| process.catch_up(is_listener, dependencies, now)).unwrap_or(false)
    }

    /// Replaces the child by one with the present settings. See [`Process::renew`].
    pub fn renew(&mut self, id: ProcessId, now: Moment) {
        self.with(id, now, |process| process.renew(now));
    }

    /// Asks for the first half of a restart. See [`Process::stop_for_start`].
    ///
    /// # Errors
    /// As [`Process::stop`].
    pub fn stop_for_start(&mut self, id: ProcessId, now: Moment) -> Result<(), Denied> {
        self.with(id, now, |process| process.stop_for_start(now)).unwrap_or(Err(Denied::NotRunning))
    }

    /// Records that `id` has the child `pid`.
    pub fn handle_spawned(&mut self, id: ProcessId, pid: Pid, now: Moment) {
        self.by_pid.insert(pid, id);
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.is_reaped = false;
        }
        self.with(id, now, |process| process.handle_spawned(pid, now));
    }

    /// Records that no child could be made for `id`.
    pub fn handle_spawn_failed(&mut self, id: ProcessId, problem: String, now: Moment) {
        self.with(id, now, |process| process.handle_spawn_failed(problem, now));
    }

    /// Records that the child `pid` has been reaped. From now on that may be the pid of another process, so that no
    /// signal goes there. Returns whose child it was; [`Supervisor::handle_exit`] must follow.
    pub fn handle_reaped(&mut self, pid: Pid) -> Option<ProcessId> {
        let id = self.by_pid.remove(&pid)?;
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.is_reaped = true;
        }
        Some(id)
    }

    /// Records that the child of `id` has ended, and what was found then.
    pub fn handle_exit(&mut self, id: ProcessId, exit: Exit, aftermath: Aftermath, now: Moment) {
        let pid = self.process(id).and_then(Process::pid);
        if let Some(pid) = pid.filter(|pid| self.by_pid.get(pid) == Some(&id)) {
            self.by_pid.remove(&pid);
        }
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.is_reaped = false;
        }
        self.with(id, now, |process| process.handle_exit(exit, aftermath, now));
    }

    /// Records that main processes of `id` were found to have left something behind.
    pub fn handle_leftovers_found(&mut self, id: ProcessId, now: Moment) {
        self.with(id, now, |process| process.handle_leftovers_found(now));
    }

    /// Records that nothing is left of what main processes of `id` left behind.
    pub fn handle_leftovers_gone(&mut self, id: ProcessId, now: Moment) {
        self.with(id, now, |process| process.handle_leftovers_gone(now));
    }

    /// Records that the kernel refused a signal to the child of `id`, and why.
    pub fn handle_signal_refused(&mut self, id: ProcessId, problem: String, now: Moment) {
        self.with(id, now, |process| process.handle_signal_refused(problem));
    }

    /// Acts on the earliest deadline if it is at or before `now`, and on no other: a crowd of programs that are due for
    /// a restart must not keep the caller from what else has happened.
    pub fn handle_timeout(&mut self, now: Moment) {
        let hearing = self.shutdown.as_ref().and_then(Shutdown::deadline);
        if hearing.is_some_and(|until| until <= now.mono) {
            self.handle_pool_idle(now);
        } else if let Some(&(due, id)) = self.deadlines.first()
            && due <= now.mono
        {
            self.with(id, now, |process| process.handle_timeout(now));
        }
    }

    /// When `handle_timeout` must next be called, if ever.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let of_processes = self.deadlines.first().map(|(due, _)| *due);
        let hearing = self.shutdown.as_ref().and_then(Shutdown::deadline);
        of_processes.into_iter().chain(hearing).min()
    }

    /// Takes the next effect for the driver to perform.
    pub fn poll_effect(&mut self) -> Option<(ProcessId, Effect)> {
        loop {
            let (id, effect) = self.effects.pop_front()?;
            let is_signal = matches!(effect, Effect::Signal { .. });
            if !(is_signal && self.entries.get(&id).is_some_and(|entry| entry.is_reaped)) {
                return Some((id, effect));
            }
        }
    }

    /// What the supervisor is doing.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Begins to stop everything; a shutdown overrides a restart that is under way.
    pub fn begin_shutdown(&mut self, mode: Mode, now: Moment) {
        self.mode = mode;
        if self.shutdown.is_some() {
            return;
        }
        let ids: Vec<ProcessId> = self.entries.keys().copied().collect();
        for id in ids {
            self.with(id, now, Process::halt);
        }
        // After all have been told: one that is at rest already would begin the first phase.
        self.shutdown = Some(Shutdown::new(&self.groups, self.dependents()));
        self.advance_shutdown(now);
    }

    /// The pool of listeners that a shutdown stops as soon as it has nothing to do, or does not answer for too long.
    pub fn awaited_pool(&self) -> Option<&str> {
        self.shutdown.as_ref().and_then(Shutdown::heard_pool)
    }

    /// Records that a listener of [`Supervisor::awaited_pool`] has processed an event: it is worth waiting for.
    pub fn handle_pool_answer(&mut self, now: Moment) {
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.handle_answer(now.mono);
        }
    }

    /// Records that [`Supervisor::awaited_pool`] has got everything that is kept for it.
    pub fn handle_pool_idle(&mut self, now: Moment) {
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.end_hearing(now.mono);
            self.advance_shutdown(now);
        }
    }

    /// Whether everything has been stopped.
    pub fn is_shut_down(&self) -> bool {
        self.shutdown.as_ref().is_some_and(Shutdown::is_over)
    }

    /// Takes the groups away after everything has been stopped for a restart, and supervises again.
    pub fn begin_anew(&mut self) {
        *self = Self { next_id: self.next_id, forgotten: Forgotten::All, ..Self::new() };
    }

    /// Names of the processes that are not at rest, in order of activation.
    pub fn unrested(&self) -> Vec<&str> {
        let busy = self.entries.values().filter(|entry| !entry.process.is_at_rest());
        busy.map(|entry| entry.process.config().name.as_str()).collect()
    }
}

/// Steps.
impl Supervisor {
    /// Gives `input` to a process, then collects its effects and its deadline.
    fn with<T>(&mut self, id: ProcessId, now: Moment, input: impl FnOnce(&mut Process) -> T) -> Option<T> {
        let entry = self.entries.get_mut(&id)?;
        let before = (entry.process.state(), Standing::of(&entry.process));
        let answer = input(&mut entry.process);
        let has_changed = before != (entry.process.state(), Standing::of(&entry.process));
        let is_held_back = entry.process.is_held_back() && !self.is_restoring;
        let is_ignorant = is_held_back && entry.process.is_ignorant();
        while let Some(effect) = entry.process.poll_effect() {
            self.effects.push_back((id, effect));
        }
        if self.touched.last() != Some(&id) {
            self.touched.push(id);
        }
        let due = entry.process.poll_timeout();
        if due != entry.deadline {
            if let Some(old) = entry.deadline {
                self.deadlines.remove(&(old, id));
            }
            if let Some(new) = due {
                self.deadlines.insert((new, id));
            }
            entry.deadline = due;
        }
        if entry.process.is_at_rest()
            && let Some(shutdown) = &mut self.shutdown
        {
            shutdown.rested(id);
            self.advance_shutdown(now);
        }
        if is_held_back {
            self.watch_dependencies(id);
        }
        if is_ignorant {
            self.tell(id, now);
        }
        if has_changed {
            self.tell_dependents(id, now);
        }
        Some(answer)
    }

    fn advance_shutdown(&mut self, now: Moment) {
        self.stop_free(now);
        while let Some(shutdown) = &mut self.shutdown
            && let Next::Stop(groups) = shutdown.next(now.mono)
        {
            let groups = groups.iter().filter_map(|name| self.group(name));
            let mut ids: Vec<ProcessId> = groups.flat_map(|group| group.processes.iter().copied()).collect();
            ids.sort_by_key(|id| std::cmp::Reverse(self.entries[id].process.config().priority));
            // Listeners hear of all that happens before their turn.
            let is_busy = |id| {
                let is_program = |entry: &Entry| !matches!(entry.group.kind, GroupKind::EventListener { .. });
                self.entries.get(&id).is_some_and(|entry| is_program(entry) && !entry.process.is_at_rest())
            };
            if let Some(shutdown) = &mut self.shutdown {
                shutdown.begin_phase(ids, is_busy);
            }
            self.stop_free(now);
        }
    }

    /// Stops what can be stopped in the present phase of a shutdown, as far as it has not been told.
    fn stop_free(&mut self, now: Moment) {
        if !self.shutdown.as_mut().is_some_and(Shutdown::begin_telling) {
            return;
        }
        while let Some(free) = self.shutdown.as_mut().map(Shutdown::take_free).filter(|free| !free.is_empty())
        {
            for id in free {
                self.with(id, now, |process| {
                    // Refused when nothing runs: then only leftovers are to be ended.
                    let _ = process.stop(now);
                    process.end_leftovers(now);
                });
            }
        }
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.end_telling();
        }
    }
}
