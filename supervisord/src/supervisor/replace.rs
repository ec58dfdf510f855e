//! An active group takes over another configuration: processes that stay keep their child, name and history.

use std::{collections::HashMap, sync::Arc};

use super::{Entry, Forgotten, Group, GroupDenied, ProcessId, Supervisor};
use crate::{
    clock::Moment,
    config::{
        GroupConfig, ProgramConfig,
        diff::{self, ProcessChange},
    },
    process::Process,
};

/// What a new configuration did to one process of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replaced {
    /// The process; of a removed one nothing else is left.
    pub id: ProcessId,
    /// Its name.
    pub name: String,
    /// How its settings differ.
    pub change: ProcessChange,
    /// Its settings before; `None` if it is new.
    pub before: Option<Arc<ProgramConfig>>,
    /// Whether the new settings ask for a start. See [`Process::is_asked_to_start_by`].
    pub is_to_start: bool,
}

impl Supervisor {
    /// The processes of an active group that cannot take over a new configuration as they are: those with settings
    /// that only a new child has, and those that are gone, as far as they are not at rest.
    ///
    /// # Errors
    /// [`GroupDenied::NoSuchGroup`].
    pub fn in_the_way_of(&self, new: &GroupConfig) -> Result<Vec<ProcessId>, GroupDenied> {
        let group = self.group(&new.name).ok_or(GroupDenied::NoSuchGroup)?;
        let changes = diff::process_changes(&group.config, new).into_iter();
        let in_the_way = |(name, change): (String, ProcessChange)| {
            let id = self.find(&new.name, &name)?;
            let process = &self.entries[&id].process;
            let is_in_the_way = match change {
                ProcessChange::Removed => !process.is_at_rest() || process.has_leftovers(),
                // One that waits has no child with other settings.
                ProcessChange::Restart => !process.is_at_rest() && !process.is_waiting(),
                ProcessChange::Unchanged | ProcessChange::Live | ProcessChange::Added => false,
            };
            is_in_the_way.then_some(id)
        };
        Ok(changes.filter_map(in_the_way).collect())
    }

    /// Gives an active group another configuration. Processes that stay are those of the same name: what they run goes
    /// on. Nothing is started yet. Returns what became of each process, those of `new` in its order, then the removed.
    ///
    /// # Errors
    /// [`GroupDenied::NoSuchGroup`]; [`GroupDenied::StillRunning`] when something is in the way, or the daemon ends:
    /// then nothing has changed.
    pub fn replace_group(
        &mut self,
        new: Arc<GroupConfig>,
        now: Moment,
    ) -> Result<Vec<Replaced>, GroupDenied> {
        let at = *self.group_at.get(&new.name).ok_or(GroupDenied::NoSuchGroup)?;
        if self.shutdown.is_some() || !self.in_the_way_of(&new)?.is_empty() {
            return Err(GroupDenied::StillRunning);
        }
        let changes: HashMap<String, ProcessChange> =
            diff::process_changes(&self.groups[at].config, &new).into_iter().collect();
        let mut replaced = Vec::with_capacity(changes.len());
        let mut processes = Vec::with_capacity(new.processes.len());
        for program in &new.processes {
            let one = match self.find(&new.name, &program.name) {
                Some(id) => self.resettle(id, &new, program, changes[&program.name], now),
                None => self.settle(&new, program),
            };
            processes.push(one.id);
            replaced.push(one);
        }
        let old = std::mem::replace(&mut self.groups[at], Group { config: new, processes });
        let gone = old.processes.into_iter().filter(|id| !self.groups[at].processes.contains(id));
        for id in gone.collect::<Vec<_>>() {
            replaced.extend(self.unsettle(&old.config.name, id));
        }
        for one in replaced
            .iter()
            .filter(|one| one.change == ProcessChange::Live || one.change == ProcessChange::Restart)
        {
            if self.process(one.id).is_some_and(Process::is_held_back) {
                self.start_untouched(one.id, now);
                self.watch_dependencies(one.id);
                self.tell(one.id, now);
            }
        }
        self.put_last(at);
        self.tell_all(now);
        Ok(replaced)
    }

    /// Makes a group the one that was activated last, as Supervisor does, which removes a changed group and adds it again.
    fn put_last(&mut self, at: usize) {
        let group = self.take_out(at);
        self.group_at.insert(group.config.name.clone(), self.groups.len());
        self.groups.push(group);
    }

    /// Adds a process to the entries and names, under an id of its own; not to a group.
    pub(super) fn settle(&mut self, group: &Arc<GroupConfig>, program: &Arc<ProgramConfig>) -> Replaced {
        let id = ProcessId(self.next_id);
        self.next_id += 1;
        let process = Process::new(Arc::clone(program));
        self.by_name.insert((group.name.clone(), program.name.clone()), id);
        self.by_program.entry(program.program.clone()).or_default().push(id);
        self.entries
            .insert(id, Entry { group: Arc::clone(group), process, deadline: None, is_reaped: false });
        self.count_among_dependencies(id);
        Replaced {
            id,
            name: program.name.clone(),
            change: ProcessChange::Added,
            before: None,
            is_to_start: program.autostart,
        }
    }

    /// Gives a process that stays its new settings.
    fn resettle(
        &mut self,
        id: ProcessId,
        group: &Arc<GroupConfig>,
        program: &Arc<ProgramConfig>,
        change: ProcessChange,
        now: Moment,
    ) -> Replaced {
        let process = &self.entries[&id].process;
        let is_to_start = process.is_asked_to_start_by(program, change);
        let before = Some(Arc::clone(process.config()));
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.group = Arc::clone(group);
        }
        if before.as_ref().is_some_and(|before| before.program != program.program) {
            self.unlist(id);
            self.by_program.entry(program.program.clone()).or_default().push(id);
        }
        self.with(id, now, |process| process.handle_settings(Arc::clone(program)));
        Replaced { id, name: program.name.clone(), change, before, is_to_start }
    }

    /// Forgets a process that is at rest, except in its group.
    pub(super) fn unsettle(&mut self, group: &str, id: ProcessId) -> Option<Replaced> {
        self.unlist(id);
        let entry = self.entries.remove(&id)?;
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.forget(id);
        }
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, id));
        }
        if let Some(pid) = entry.process.pid() {
            self.by_pid.remove(&pid);
        }
        let before = Arc::clone(entry.process.config());
        self.by_name.remove(&(group.to_owned(), before.name.clone()));
        self.effects.retain(|(owner, _)| *owner != id);
        let name = before.name.clone();
        match &mut self.forgotten {
            Forgotten::These(these) => these.push((id, group.to_owned(), name.clone())),
            Forgotten::All => {}
        }
        Some(Replaced { id, name, change: ProcessChange::Removed, before: Some(before), is_to_start: false })
    }

    /// Takes a process out of its program.
    pub(super) fn unlist(&mut self, id: ProcessId) {
        let Some(program) = self.entries.get(&id).map(|entry| &entry.process.config().program) else {
            return;
        };
        if let Some(ids) = self.by_program.get_mut(program) {
            ids.retain(|known| *known != id);
            if ids.is_empty() {
                self.by_program.remove(program);
            }
        }
    }
}
