//! Programs, sockets and descriptors between two images of the daemon: what the old one writes down for the new one,
//! and how the new one goes on with it. When and in which order is in `upgrade`.

use std::{collections::HashMap, os::fd::AsFd as _, sync::Arc};

use tracing::{error, info, warn};

use super::{
    Driver,
    keep::Keeper,
    sockets::SocketKey,
    unit::{Chatter, Unit},
};
use crate::{
    api::{Endpoint, Listener},
    clock::{self, Moment, Timeline},
    config::{GroupConfig, Listen, LogTarget, ProgramConfig},
    handover::{Carried, CarriedLog, CarriedPipe, CarriedSocket, FORMAT, Handover, Programs, Socket, State},
    os::{handover::Inherited, spawn::OpenFiles},
    output::{LogId, LogSpec},
    process::Pid,
    request::Channel,
    supervisor::ProcessId,
};

/// The old image.
impl Driver {
    /// All that the next image needs; what it shall find open is added to `inherited`.
    pub(super) fn state<'a>(
        &'a self,
        endpoints: &'a [Endpoint],
        apply: bool,
        inherited: &mut Inherited<'a>,
    ) -> State {
        let pidfile = self.pidfile.as_ref();
        let limit = self.launcher.open_files();
        State {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            generation: self.upgrades.generation,
            origin: self.origin.clone(),
            detached: self.detached,
            started: self.started.unix,
            apply,
            pidfile: pidfile.map(|pidfile| (pidfile.path().to_owned(), inherited.add(pidfile.file()))),
            journal: self.journal.as_ref().map(|journal| journal.directory().to_owned()),
            sockets: endpoints.iter().map(|endpoint| self.carry_socket(endpoint, inherited)).collect(),
            open_files: limit.map(|limit| (limit.soft, limit.hard)),
            binary: None,
            keepers: self.keep.carry(inherited),
            programs: self.programs(inherited),
        }
    }

    fn carry_socket<'a>(&self, endpoint: &'a Endpoint, inherited: &mut Inherited<'a>) -> Socket {
        let fd = match &endpoint.listener {
            Listener::Unix(listener) => listener.as_fd(),
            Listener::Tcp(listener) => listener.as_fd(),
        };
        let file = match &endpoint.listen {
            Listen::Unix { path, .. } => self.socket_files.find(path).cloned(),
            Listen::Inet { .. } => None,
        };
        Socket { listen: endpoint.listen.clone(), fd: inherited.add(fd), file }
    }

    fn programs<'a>(&'a self, inherited: &mut Inherited<'a>) -> Programs {
        let timeline = clock::timeline();
        let groups = self.supervisor.groups();
        let settings = groups.iter().filter_map(|group| serde_json::to_value(&**group.config()).ok());
        let ids = groups.iter().flat_map(|group| group.processes());
        let (pools, next_serial) = self.events.pools.carry();
        let carry = |(key, socket): (&SocketKey, _)| CarriedSocket {
            program: key.program.clone(),
            url: key.url.clone(),
            fd: inherited.add(socket),
        };
        let sockets = self.sockets.sockets().map(carry).collect();
        Programs {
            sockets,
            groups: settings.collect(),
            processes: ids.filter_map(|id| self.carry(*id, timeline, inherited)).collect(),
            removed: self.output.removed_logs().map(|log| self.carry_log(Some(log), inherited)).collect(),
            printed: self.carry_log(self.events.stdout, inherited),
            pools,
            next_serial,
        }
    }

    fn carry<'a>(
        &'a self,
        id: ProcessId,
        timeline: Timeline,
        inherited: &mut Inherited<'a>,
    ) -> Option<Carried> {
        let (process, unit) = (self.supervisor.process(id)?, self.units.get(&id)?);
        let (group, name) = self.supervisor.names(id)?;
        let memory = process.memory(timeline);
        let (groups, strays) = self.family.remains_of(id);
        let pidfd = self.foreign(id).map(|pidfd| inherited.add(pidfd));
        Some(Carried {
            group: group.to_owned(),
            name: name.to_owned(),
            wanted: memory.wanted,
            life: memory.life,
            pid: memory.pid.map(nix::unistd::Pid::as_raw),
            child: unit.child,
            pidfd,
            past: memory.past,
            leftovers: memory.leftovers,
            groups,
            foreign_groups: self.family.foreign_groups_of(id),
            strays,
            stdin: unit.stdin.as_ref().map(|stdin| inherited.add(stdin.as_fd())),
            listener: self.events.pools.carry_listener(id),
            outbox: self.events.outbox.waiting(id).to_vec(),
            logs: [unit.stdout, unit.stderr].map(|log| self.carry_log(log, inherited)),
            advice: unit.advice.clone(),
        })
    }

    fn carry_log<'a>(&'a self, log: Option<LogId>, inherited: &mut Inherited<'a>) -> CarriedLog {
        let Some(log) = log else { return CarriedLog::default() };
        let carry = |(pipe, released, held)| CarriedPipe { fd: inherited.add(pipe), released, held };
        let pipes = self.output.pipes(log).map(carry);
        CarriedLog {
            file: self.output.path(log).map(ToOwned::to_owned),
            pipes: pipes.collect(),
            pending: self.output.pending(log).to_vec(),
            lost: self.output.health(log).lost,
        }
    }
}

/// The new image.
impl Driver {
    /// Goes on with everything that the image before this one supervised. Nothing here fails as a whole.
    pub(super) fn resume(&mut self, mut handover: Handover, now: Moment) {
        let (timeline, apply) = (clock::timeline(), handover.state.apply);
        if let Some((soft, hard)) = handover.state.open_files {
            self.launcher.set_open_files(OpenFiles { soft, hard });
        }
        self.started.unix = handover.state.started;
        self.resume_keepers(&mut handover, now);
        let groups = handover.state.programs.understand(&self.available).unwrap_or_else(|problem| {
            // Its check has said that they are understood.
            error!("{problem}: its processes run on and are not supervised");
            Vec::new()
        });
        self.events.pools.set_server(&self.available.daemon.identifier);
        for CarriedSocket { program, url, fd } in std::mem::take(&mut handover.state.programs.sockets) {
            if let Some(socket) = handover.descriptor(fd) {
                self.sockets.adopt(SocketKey { program, url }, socket);
            }
        }
        let resumed = self.resume_groups(groups, &mut handover, (timeline, now));
        for log in std::mem::take(&mut handover.state.programs.removed) {
            self.resume_removed(log, &mut handover, now);
        }
        self.sockets.close_unheld();
        let programs = &mut handover.state.programs;
        let printed = std::mem::take(&mut programs.printed);
        if !printed.pending.is_empty() {
            let stdout = self.stdout();
            self.output.resume(stdout, printed.pending, printed.lost, now);
        }
        self.events.pools.resume(std::mem::take(&mut programs.pools), programs.next_serial);
        self.say_who_went_before(&handover, resumed.len());
        drop(handover);
        // Children that ended while no image waited are still there to be waited for.
        self.reap(now);
        for id in resumed {
            self.supervisor.resume(id, now);
            if self.supervisor.process(id).is_some_and(|process| process.pid().is_some()) {
                self.keep(id, None);
            }
            for stream in self.units.get(&id).map(|unit| unit.trailing.clone()).unwrap_or_default() {
                self.keep_pipe(stream);
            }
        }
        self.keep.let_predecessors_go();
        self.check_leftovers(now);
        self.perform_effects(now);
        if apply && let Err(refusal) = self.begin_update(Vec::new()) {
            error!("the configuration is not applied: {refusal}");
        }
    }

    fn resume_keepers(&mut self, handover: &mut Handover, now: Moment) {
        let keepers = std::mem::take(&mut handover.state.keepers);
        let keepers: Vec<Keeper> = keepers
            .into_iter()
            .filter_map(|carried| {
                self.family.ignore(Pid::from_raw(carried.identity.pid));
                let channel = handover.descriptor(carried.fd)?;
                Some(Keeper { identity: carried.identity, channel, since: now.mono })
            })
            .collect();
        self.keep.add_predecessors(keepers);
    }

    /// Activates the groups with the processes that were carried over, or else with new ones; which were carried over.
    fn resume_groups(
        &mut self,
        groups: Vec<GroupConfig>,
        handover: &mut Handover,
        at: (Timeline, Moment),
    ) -> Vec<ProcessId> {
        let processes = std::mem::take(&mut handover.state.programs.processes);
        let mut carried: HashMap<(String, String), Carried> =
            processes.into_iter().map(|one| ((one.group.clone(), one.name.clone()), one)).collect();
        let mut resumed = Vec::new();
        for group in groups {
            let name = group.name.clone();
            let ids = match self.supervisor.add_group(Arc::new(group)) {
                Ok(ids) => ids.to_vec(),
                Err(denied) => {
                    warn!("group {name} is not activated: {denied}");
                    continue;
                }
            };
            if let Some(config) = self.supervisor.group(&name).map(|group| Arc::clone(group.config())) {
                self.set_pool(&config, &ids);
            }
            for id in ids {
                let Some(config) = self.supervisor.process(id).map(|process| process.config().clone()) else {
                    continue;
                };
                match carried.remove(&(name.clone(), config.name.clone())) {
                    Some(one) => {
                        self.resume_process(id, (&config, one), handover, at);
                        resumed.push(id);
                    }
                    None => self.add_unit(id, &config),
                }
            }
        }
        resumed
    }

    /// Says in the log how the image came to be, and remembers it for clients.
    fn say_who_went_before(&mut self, handover: &Handover, count: usize) {
        let (pid, old, new) = (std::process::id(), &handover.state.version, env!("CARGO_PKG_VERSION"));
        self.upgrades.generation = handover.state.generation;
        if let Some(problem) = &handover.failure {
            error!("the upgrade failed, version {new} goes on with pid {pid}: {problem}");
            self.upgrades.problem = Some(problem.clone());
        } else {
            self.upgrades.generation += 1;
            info!("supervisord {old} was replaced by {new} with pid {pid}: {count} processes go on");
        }
    }

    fn resume_process(
        &mut self,
        id: ProcessId,
        (config, carried): (&ProgramConfig, Carried),
        handover: &mut Handover,
        at: (Timeline, Moment),
    ) {
        let memory = carried.memory();
        let stdin = carried.stdin.and_then(|number| handover.descriptor(number));
        let wanted = [Channel::Stdout, Channel::Stderr].map(|channel| self.wanted(id, config, channel));
        let (mut streams, mut trailing) = (Vec::new(), Vec::new());
        let mut logs = [None, None];
        for (channel, (place, log)) in
            [Channel::Stdout, Channel::Stderr].into_iter().zip(logs.iter_mut().zip(carried.logs))
        {
            if channel == Channel::Stderr && config.redirect_stderr {
                continue;
            }
            let wanted = wanted[channel as usize];
            *place = self.resume_log(config, channel, (log.file.clone(), wanted.is_some()));
            let Some(log_id) = *place else {
                self.resume_removed(log, handover, at.1);
                continue;
            };
            self.output.resume(log_id, log.pending, log.lost, at.1);
            for CarriedPipe { fd, released, held } in log.pipes {
                let Some(pipe) = handover.descriptor(fd) else { continue };
                match self.output.attach_tapped(pipe, log_id, wanted.filter(|_| !released)) {
                    Ok(stream) if released => {
                        trailing.push(stream);
                        self.output.release(stream, at.1);
                    }
                    Ok(stream) => {
                        self.output.resume_stream(stream, held);
                        streams.push(stream);
                        if let (Some(_), Some(pid)) = (wanted, memory.pid) {
                            self.add_source(stream, id, pid, channel);
                        }
                    }
                    Err(error) => error!("cannot watch the output of '{}': {error}", config.name),
                }
            }
        }
        let unit = Unit {
            stdout: logs[0],
            stderr: logs[1],
            wanted_stdout: wanted[0],
            wanted_stderr: wanted[1],
            is_listener: self.events.pools.has(id),
            streams,
            trailing,
            child: carried.child.filter(|_| memory.pid.is_some()),
            stdin,
            advice: carried.advice,
            changed: *self.generation.borrow(),
            chatter: Chatter::default(),
        };
        if let (Some(stdin), false) = (&unit.stdin, carried.outbox.is_empty())
            && let Err(error) = self.events.outbox.send(id, stdin, &carried.outbox)
        {
            warn!("cannot go on writing to the stdin of {}: {error}", config.name);
        }
        if let Some(listener) = carried.listener {
            self.events.pools.resume_listener(id, listener);
        }
        if let (Some(child), Some(number)) = (unit.child, carried.pidfd)
            && let Some(pidfd) = handover.descriptor(number)
        {
            self.watch_foreign(child.identity, pidfd);
        }
        self.units.insert(id, unit);
        self.family.resume(id, (&carried.groups, &carried.strays), carried.foreign_groups);
        self.supervisor.restore(id, &memory, None, at);
        if let Some(fastcgi) = &config.fastcgi
            && self.supervisor.process(id).is_some_and(|process| !process.is_at_rest())
        {
            self.sockets.hold(id, &SocketKey::new(&config.program, fastcgi));
        }
    }

    /// Reads on from pipes whose log is nobody's any more, to where it was: who holds them would wait for ever in a write.
    fn resume_removed(&mut self, log: CarriedLog, handover: &mut Handover, now: Moment) {
        if log.pipes.is_empty() {
            return;
        }
        let id = self.output.add_log(LogSpec { file: log.file, mode: 0o666, ..LogSpec::default() });
        self.output.resume(id, log.pending, log.lost, now);
        for CarriedPipe { fd, .. } in log.pipes {
            let Some(pipe) = handover.descriptor(fd) else { continue };
            match self.output.attach(pipe, id) {
                Ok(stream) => self.output.release(stream, now),
                Err(error) => error!("cannot watch the output of an earlier process: {error}"),
            }
        }
        // It lasts as long as the pipes.
        self.output.remove_log(id);
    }

    /// The log of one stream; one whose name was made up keeps it.
    fn resume_log(
        &mut self,
        config: &ProgramConfig,
        channel: Channel,
        (file, is_wanted): (Option<std::path::PathBuf>, bool),
    ) -> Option<LogId> {
        let output = match channel {
            Channel::Stdout => &config.stdout,
            Channel::Stderr => &config.stderr,
        };
        match (&output.logfile, file) {
            (LogTarget::Auto, Some(file)) => {
                let syslog = output.syslog.then(|| config.name.clone());
                let spec = self.log_spec(output, Some(file), 0o600, syslog);
                Some(self.output.add_log(spec))
            }
            (LogTarget::Auto | LogTarget::None | LogTarget::File(_), _) => {
                self.make_log(config, channel, is_wanted)
            }
        }
    }
}
