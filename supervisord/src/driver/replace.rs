//! An active group takes over the configuration as last read: what has to stop for it, then the exchange, with logs.

use std::{collections::BTreeSet, sync::Arc};

use tracing::error;

use super::{Driver, operate::Aim, sockets::SocketKey};
use crate::{
    clock::Moment,
    config::{GroupConfig, LogTarget, OutputConfig, ProgramConfig, diff::ProcessChange},
    event::Event,
    output::LogId,
    process::Process,
    request::{Action, Channel, Outdated, ProcessUpdate, Reason, Refusal},
    supervisor::{GroupDenied, ProcessId, Replaced},
};

impl Driver {
    /// Stops those processes of a group that cannot take over the configuration as last read while they run.
    pub(super) fn stop_outdated(&mut self, group: &str, now: Moment) -> Result<Outdated, Refusal> {
        self.refuse_while_ending()?;
        let new = self.available_group(group)?;
        let ids = self.supervisor.in_the_way_of(new).map_err(|denied| refusal(group, denied))?;
        let is_to_go_on = |id| self.process_is(id, |process| process.is_to_run());
        let to_go_on: Vec<ProcessId> = ids.iter().copied().filter(|id| is_to_go_on(*id)).collect();
        let names = to_go_on.iter().map(|id| self.name_of(*id)).collect();
        self.updating.insert(group.to_owned());
        let stops = self.stop_and_wait(ids, Aim::Update, now);
        Ok(Outdated { stops, to_restart: names })
    }

    /// Gives an active group the configuration as last read, and starts what that asks for and what was stopped for it.
    pub(super) fn replace_group(
        &mut self,
        group: &str,
        to_restart: &BTreeSet<String>,
        now: Moment,
    ) -> Result<Vec<ProcessUpdate>, Refusal> {
        self.refuse_while_ending()?;
        self.updating.remove(group);
        let new = Arc::new(self.available_group(group)?.clone());
        let replaced = match self.supervisor.replace_group(new, now) {
            Ok(replaced) => replaced,
            Err(denied) => {
                self.release_sockets_of(group);
                return Err(refusal(group, denied));
            }
        };
        if let Some(active) = self.supervisor.group(group) {
            let (config, members) = (Arc::clone(active.config()), active.processes().to_vec());
            self.set_pool(&config, &members);
        }
        for one in &replaced {
            self.resettle(one);
        }
        // As Supervisor, which removes the group and adds it again.
        self.raise(Event::GroupRemoved(group.to_owned()), now);
        self.raise(Event::GroupAdded(group.to_owned()), now);
        self.generation.send_modify(|generation| *generation += 1);
        // Unless an operator has stopped it meanwhile.
        let goes_on =
            |one: &Replaced| to_restart.contains(&one.name) && self.process_is(one.id, Process::is_wanted);
        let restarted: BTreeSet<ProcessId> =
            replaced.iter().filter(|one| goes_on(one)).map(|one| one.id).collect();
        let starts = |one: &&Replaced| one.is_to_start || restarted.contains(&one.id);
        for one in replaced.iter().filter(starts) {
            // Whoever started it meanwhile has done what is wanted.
            let _ = if restarted.contains(&one.id) {
                self.supervisor.start_again(one.id, now)
            } else {
                self.supervisor.start_by_itself(one.id, now)
            };
        }
        self.release_sockets_of(group);
        let update = |one: Replaced| {
            let action = match one.change {
                ProcessChange::Added => Action::Added,
                ProcessChange::Removed => Action::Removed,
                _ if restarted.contains(&one.id) => Action::Restarted,
                _ if one.is_to_start => Action::Started,
                ProcessChange::Unchanged => Action::Unchanged,
                ProcessChange::Live | ProcessChange::Restart => Action::Applied,
            };
            ProcessUpdate { name: one.name, action }
        };
        Ok(replaced.into_iter().map(update).collect())
    }

    fn release_sockets_of(&mut self, group: &str) {
        let ids = self.supervisor.group(group).map(|group| group.processes().to_vec()).unwrap_or_default();
        for id in ids {
            self.release_socket(id);
        }
    }

    fn available_group(&self, name: &str) -> Result<&GroupConfig, Refusal> {
        let group = self.available.groups.iter().find(|group| group.name == name);
        group.ok_or_else(|| Refusal::new(Reason::BadName, format!("no group is called {name:?}")))
    }

    /// Makes the belongings of a process fit its settings.
    fn resettle(&mut self, replaced: &Replaced) {
        let id = replaced.id;
        if replaced.change == ProcessChange::Removed {
            return self.forget_unit(id);
        }
        let Some(after) = self.supervisor.process(id).map(|process| Arc::clone(process.config())) else {
            return;
        };
        let Some(before) = &replaced.before else { return self.add_unit(id, &after) };
        if let Some(fastcgi) = after.fastcgi.as_ref().filter(|new| before.fastcgi.as_ref() != Some(*new))
            && let Err(error) = self.sockets.reconfigure(&SocketKey::new(&after.program, fastcgi), fastcgi)
        {
            error!("{error}");
        }
        let Some(unit) = self.units.get(&id) else { return };
        let logs = [(unit.stdout, Channel::Stdout), (unit.stderr, Channel::Stderr)];
        let [stdout, stderr] = logs.map(|(log, channel)| {
            let wanted = self.wanted(id, &after, channel);
            (self.renew_log(log, before, (&after, channel), wanted.is_some()), wanted)
        });
        let is_listener = self.events.pools.has(id);
        if let Some(unit) = self.units.get_mut(&id) {
            unit.is_listener = is_listener;
            (unit.stdout, unit.wanted_stdout) = stdout;
            (unit.stderr, unit.wanted_stderr) = stderr;
            unit.changed = *self.generation.borrow() + 1;
        }
    }

    /// The log for new settings: the same one where they name the same place, so that nothing is cut.
    fn renew_log(
        &mut self,
        log: Option<LogId>,
        before: &ProgramConfig,
        (after, channel): (&ProgramConfig, Channel),
        is_wanted: bool,
    ) -> Option<LogId> {
        let (old, new) = (output_of(before, channel), output_of(after, channel));
        let is_same_place = new.is_some_and(|new| {
            old.is_some_and(|old| (&old.logfile, old.syslog) == (&new.logfile, new.syslog))
        });
        if let (Some(id), Some(new), true) = (log, new, is_same_place) {
            let file = self.output.path(id).map(ToOwned::to_owned);
            let mode = if new.logfile == LogTarget::Auto { 0o600 } else { 0o666 };
            let spec = self.log_spec(new, file, mode, new.syslog.then(|| after.name.clone()));
            self.output.update_log(id, spec);
            return Some(id);
        }
        if let Some(log) = log {
            self.output.remove_log(log);
        }
        new.and_then(|_| self.make_log(after, channel, is_wanted))
    }
}

/// The settings of a stream; none if it goes where the other goes.
fn output_of(config: &ProgramConfig, channel: Channel) -> Option<&OutputConfig> {
    match channel {
        Channel::Stdout => Some(&config.stdout),
        Channel::Stderr => Some(&config.stderr).filter(|_| !config.redirect_stderr),
    }
}

/// Why a group cannot be added, removed or replaced, for a client.
pub(super) fn refusal(name: &str, denied: GroupDenied) -> Refusal {
    match denied {
        GroupDenied::NoSuchGroup => Refusal::new(Reason::BadName, format!("no group is called {name:?}")),
        GroupDenied::StillRunning => Refusal::new(Reason::StillRunning, format!("group {name} still runs")),
        GroupDenied::AlreadyAdded => Refusal::new(Reason::AlreadyAdded, denied.to_string()),
    }
}
