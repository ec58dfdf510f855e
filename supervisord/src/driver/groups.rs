//! Groups come and go: activation with logs, reread, add, remove, and starting anew with another configuration.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};

use tokio::sync::mpsc;
use tracing::{error, info, warn};

use super::{
    Driver,
    replace::refusal,
    sockets::SocketKey,
    unit::{Chatter, Unit},
    update,
};
use crate::{
    clock::Moment,
    config::{
        Config, GroupConfig, LogTarget, OutputConfig, ProgramConfig, Reload, diff,
        load::{self, Loaded},
    },
    crit,
    daemonize::Pidfile,
    event::Event,
    handover::refuse_other_user,
    os::memory,
    output::{LogId, LogSpec, auto},
    request::{Changes, Channel, ConfiguredProcess, Reason, Refusal, UpdateResult},
    startup,
    supervisor::{Mode, ProcessId},
};

impl Driver {
    /// Activates all groups and starts what starts with them.
    pub(super) fn begin_groups(&mut self, now: Moment) {
        self.events.pools.set_server(&self.available.daemon.identifier);
        let groups = self.available.groups.clone();
        let names: Vec<String> = groups.iter().map(|group| group.name.clone()).collect();
        for group in groups {
            self.prepare(group, now);
        }
        for name in &names {
            self.check_sockets(name);
        }
        self.autostart_but(&BTreeSet::new(), &names, now);
        self.raise(Event::SupervisorRunning, now);
        self.perform_effects(now);
    }

    /// Activates a group with its logs and starts what starts with it.
    pub(super) fn activate(&mut self, group: GroupConfig, now: Moment) {
        let name = group.name.clone();
        if self.prepare(group, now) {
            self.check_sockets(&name);
            self.autostart_but(&BTreeSet::new(), &[name], now);
        }
    }

    /// Activates a group with its logs, and starts nothing. False if it is active already.
    pub(super) fn prepare(&mut self, group: GroupConfig, now: Moment) -> bool {
        let name = group.name.clone();
        let ids = match self.supervisor.add_group(Arc::new(group)) {
            Ok(ids) => ids.to_vec(),
            Err(denied) => {
                warn!("group {name} is not activated: {denied}");
                return false;
            }
        };
        let Some(config) = self.supervisor.group(&name).map(|group| Arc::clone(group.config())) else {
            return false;
        };
        self.set_pool(&config, &ids);
        // Before they get it: who knows the generation so far must see them, also those that are not started.
        self.generation.send_modify(|generation| *generation += 1);
        for id in ids {
            let Some(config) = self.supervisor.process(id).map(|process| process.config().clone()) else {
                continue;
            };
            self.add_unit(id, &config);
        }
        self.raise(Event::GroupAdded(name), now);
        true
    }

    /// Starts what starts with these groups, but for processes that go on where another daemon left them.
    pub(super) fn autostart_but(&mut self, restored: &BTreeSet<ProcessId>, groups: &[String], now: Moment) {
        let groups: Vec<&str> = groups.iter().map(String::as_str).collect();
        self.supervisor.autostart_but(restored, &groups, now);
    }

    /// Says early which sockets of a group cannot be made. Each start tries again.
    fn check_sockets(&self, group: &str) {
        let Some(group) = self.supervisor.group(group) else { return };
        let sockets = group.config().processes.iter().filter_map(|program| {
            program.fastcgi.as_ref().map(|fastcgi| (SocketKey::new(&program.program, fastcgi), fastcgi))
        });
        for (key, fastcgi) in sockets.collect::<BTreeMap<_, _>>() {
            if let Err(error) = self.sockets.check(&key, fastcgi) {
                error!("{error}");
            }
        }
    }

    /// Makes what a process needs beside its state machine.
    pub(super) fn add_unit(&mut self, id: ProcessId, config: &ProgramConfig) {
        let (wanted_stdout, wanted_stderr) =
            (self.wanted(id, config, Channel::Stdout), self.wanted(id, config, Channel::Stderr));
        let stdout = self.make_log(config, Channel::Stdout, wanted_stdout.is_some());
        let stderr = if config.redirect_stderr {
            None
        } else {
            self.make_log(config, Channel::Stderr, wanted_stderr.is_some())
        };
        let unit = Unit {
            stdout,
            stderr,
            wanted_stdout,
            wanted_stderr,
            is_listener: self.events.pools.has(id),
            streams: Vec::new(),
            trailing: Vec::new(),
            child: None,
            stdin: None,
            advice: Vec::new(),
            changed: *self.generation.borrow(),
            chatter: Chatter::default(),
        };
        self.units.insert(id, unit);
    }

    /// Gives up what belongs to a process that is not supervised any more.
    pub(super) fn forget_unit(&mut self, id: ProcessId) {
        self.family.forget(id);
        self.events.outbox.forget(id);
        self.sockets.release(id);
        if let Some(unit) = self.units.remove(&id) {
            for log in unit.logs() {
                self.output.remove_log(log);
            }
        }
    }

    /// The log of one stream; none if its output goes nowhere and nobody else wants it.
    pub(super) fn make_log(
        &mut self,
        config: &ProgramConfig,
        channel: Channel,
        is_wanted: bool,
    ) -> Option<LogId> {
        let output = match channel {
            Channel::Stdout => &config.stdout,
            Channel::Stderr => &config.stderr,
        };
        let (file, mode) = match &output.logfile {
            LogTarget::None => (None, 0o666),
            LogTarget::File(path) => (Some(path.clone()), 0o666),
            LogTarget::Auto => {
                (self.inherited_log(config, channel).or_else(|| self.make_auto_log(config, channel)), 0o600)
            }
        };
        let syslog = output.syslog.then(|| config.name.clone());
        if file.is_none() && syslog.is_none() && !is_wanted {
            return None;
        }
        Some(self.output.add_log(self.log_spec(output, file, mode, syslog)))
    }

    pub(super) fn log_spec(
        &self,
        output: &OutputConfig,
        file: Option<PathBuf>,
        mode: u32,
        syslog: Option<String>,
    ) -> LogSpec {
        LogSpec {
            file,
            mode,
            maxbytes: output.maxbytes,
            backups: output.backups,
            syslog,
            strip_ansi: self.available.daemon.strip_ansi,
        }
    }

    fn make_auto_log(&self, config: &ProgramConfig, channel: Channel) -> Option<PathBuf> {
        let daemon = &self.available.daemon;
        let channel = match channel {
            Channel::Stdout => auto::Channel::Stdout,
            Channel::Stderr => auto::Channel::Stderr,
        };
        match auto::create(&daemon.childlogdir, &config.name, channel, &daemon.identifier) {
            Ok(path) => Some(path),
            Err(error) => {
                error!("no log for {}: {}: {error}", config.name, daemon.childlogdir.display());
                None
            }
        }
    }

    /// Deletes AUTO logs of earlier runs. The pidfile is locked: they belong to nobody who lives.
    pub(super) fn clean_up_auto_logs(&self) {
        let daemon = &self.available.daemon;
        if daemon.nocleanup {
            return;
        }
        match auto::clean_up(
            &daemon.childlogdir,
            &daemon.identifier,
            nix::unistd::getuid().as_raw(),
            &BTreeSet::new(),
        ) {
            Ok(failed) => {
                for (path, error) in failed {
                    warn!("Failed to clean up '{}': {error}", path.display());
                }
            }
            Err(error) => warn!("Could not clear childlog dir: {error}"),
        }
    }

    /// The configuration as last read, ordered by process name.
    pub(super) fn configured_processes(&self) -> Vec<ConfiguredProcess> {
        let one = |group: &GroupConfig, process: &Arc<ProgramConfig>| {
            let active = self.supervisor.find(&group.name, &process.name);
            let path = |channel| {
                let log = self.units.get(&active?)?.log(channel)?;
                self.output.path(log).map(ToOwned::to_owned)
            };
            ConfiguredProcess {
                config: Arc::clone(process),
                group: group.name.clone(),
                in_use: self.supervisor.group(&group.name).is_some(),
                group_priority: group.priority,
                stdout_logfile: path(Channel::Stdout),
                stderr_logfile: path(Channel::Stderr),
            }
        };
        let groups = self.available.groups.iter();
        let mut all: Vec<_> =
            groups.flat_map(|group| group.processes.iter().map(move |process| one(group, process))).collect();
        all.sort_by(|a, b| a.config.name.cmp(&b.config.name));
        all
    }

    fn load(&self) -> Result<Loaded, Refusal> {
        let loaded = load::load_again(&self.configuration_file, &self.inputs, &self.overrides);
        memory::give_back();
        loaded.map_err(|errors| {
            Refusal::new(Reason::CannotReread, format!("{}\n\n{errors}", errors.first_like_supervisor()))
        })
    }

    /// What SIGHUP does according to the file as it is now; as it was when it cannot be read.
    pub(super) fn reload_setting(&self) -> Reload {
        self.load().map_or(self.available.daemon.reload, |loaded| loaded.config.daemon.reload)
    }

    /// Reads the configuration again and compares it with the active groups.
    pub(super) fn reread(&mut self) -> Result<Changes, Refusal> {
        let loaded = self.load()?;
        for warning in loaded.warnings.iter().filter(|warning| !self.warned.contains(warning)) {
            warn!("{warning}");
        }
        self.available = loaded.config;
        self.launcher.forget_users();
        self.say_where_the_journal_stays();
        let active: Vec<GroupConfig> =
            self.supervisor.groups().iter().map(|group| GroupConfig::clone(group.config())).collect();
        let changes = diff::compare(&active, &self.available.groups);
        let warnings = loaded.warnings.iter().map(ToString::to_string).collect();
        self.warned = loaded.warnings;
        Ok(Changes { added: changes.added, changed: changes.changed, removed: changes.removed, warnings })
    }

    /// Activates a group of the configuration as last read.
    pub(super) fn add_group(&mut self, name: &str, now: Moment) -> Result<(), Refusal> {
        let group = self.available.groups.iter().find(|group| group.name == name).cloned();
        let group =
            group.ok_or_else(|| Refusal::new(Reason::BadName, format!("no group is called {name:?}")))?;
        if self.supervisor.group(name).is_some() {
            return Err(Refusal::new(Reason::AlreadyAdded, format!("group {name} is active")));
        }
        self.activate(group, now);
        Ok(())
    }

    /// Forgets an active group and its logs.
    pub(super) fn remove_group(&mut self, name: &str, now: Moment) -> Result<(), Refusal> {
        let ids = self.supervisor.remove_group(name, now).map_err(|denied| refusal(name, denied))?;
        for id in ids {
            self.forget_unit(id);
        }
        self.events.pools.remove(name);
        self.raise(Event::GroupRemoved(name.to_owned()), now);
        self.generation.send_modify(|generation| *generation += 1);
        Ok(())
    }

    /// Begins an update; it is carried to its end even if the client leaves.
    pub(super) fn begin_update(
        &mut self,
        groups: Vec<String>,
    ) -> Result<mpsc::Receiver<UpdateResult>, Refusal> {
        let changes = self.reread()?;
        let active = self.supervisor.groups().iter().filter(|group| !group.processes().is_empty());
        let active = active.map(|group| group.config().name.clone()).collect();
        let plan = update::plan(&changes, active, &groups).in_order(&self.available.groups);
        let (steps, receiver) = mpsc::channel(plan.step_count() + 1);
        let asker = update::Asker { driver: self.handle.clone(), life: self.lives.subscribe() };
        self.jobs.spawn(update::run(asker, plan, steps));
        Ok(receiver)
    }

    /// Reads the configuration again and, if it is good, stops everything to start anew.
    pub(super) fn begin_reload(&mut self, now: Moment) -> Result<(), Refusal> {
        let loaded = self.load()?;
        refuse_other_user(&loaded.config.daemon)
            .map_err(|problem| Refusal::new(Reason::CannotReread, problem))?;
        self.ready.manager.reloading();
        self.reload = Some(Box::new(loaded));
        self.raise_stopping(now);
        self.supervisor.begin_shutdown(Mode::Restarting, now);
        self.next_waiting_line.get_or_insert(now.mono);
        Ok(())
    }

    /// Everything has been stopped: takes over the new configuration and starts.
    pub(super) fn begin_anew(&mut self, loaded: Loaded, now: Moment) {
        for unit in std::mem::take(&mut self.units).into_values() {
            for log in unit.logs() {
                self.output.remove_log(log);
            }
        }
        self.family = super::family::Family::default();
        self.sockets.clear();
        self.updating.clear();
        self.next_waiting_line = None;
        self.lives.send_replace(());
        self.supervisor.begin_anew();
        self.events.pools.clear();
        if let Err(error) = self.log.reconfigure(&loaded.config.daemon) {
            error!("{error}");
        }
        let mut backlog = startup::remarks(&loaded);
        startup::note_user(&loaded.config.daemon, &mut backlog);
        backlog.emit();
        let Loaded { config, warnings, .. } = loaded;
        self.warned = warnings;
        self.interfaces = config.rpc_interfaces.keys().cloned().collect();
        self.reopen_servers(&config);
        self.move_pidfile(&config);
        self.move_journal(&config);
        self.launcher.set_config(&config);
        self.available = config;
        self.clean_up_auto_logs();
        info!("supervisord started with pid {}", std::process::id());
        self.begin_groups(now);
        self.ready.manager.ready();
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// Takes the pidfile that is now configured and removes the old one, which stays when that cannot be done.
    fn move_pidfile(&mut self, config: &Config) {
        let path = &config.daemon.pidfile;
        if self.pidfile.as_ref().is_some_and(|pidfile| pidfile.path() == path) {
            return;
        }
        match Pidfile::acquire(path) {
            Ok(pidfile) => self.pidfile = Some(pidfile),
            Err(error) => crit!("{error}"),
        }
    }
}
