//! What the core wants done: children, signals, news for clients, lines in the log.

use std::os::fd::OwnedFd;

use tracing::{debug, error, info, warn};

use super::{
    Driver,
    launch::{Captured, Prepared},
    sockets::SocketKey,
    unit::Verdict,
};
use crate::{
    clock::{self, Moment},
    config::{LogLevel, python},
    continuity::scribe::Step,
    crit,
    journal::{Line, file::Journal, record::Child},
    os::{pipe::OnDaemonDeath, signal, watch},
    output::OpenError,
    process::{Effect, Note, Pid, Process, ProcessState},
    request::{Channel, Reason},
    supervisor::ProcessId,
};

/// What becomes of a spawn of a process that is gone.
const UNSUPERVISED: &str = "it is not supervised any more";

impl Driver {
    /// Performs everything that the core wants done by now.
    pub(super) fn perform_effects(&mut self, now: Moment) {
        // A replacement does not wait for the line about its predecessor.
        let _gathering = self.log.gather();
        if self.journal.as_ref().is_some_and(|journal| journal.wants_rewrite(now)) {
            self.scribe.begin_anew();
        }
        self.renew_reserve(now);
        while let Some(step) = self.next_step() {
            match step {
                Step::WriteAll => self.rewrite_journal(now),
                Step::Forget(group, name) => self.write_down(&Line::Forgotten(group, name), now),
                Step::AnnounceEnd => self.announce_end(now),
                Step::Prepare(id) => self.prepare_child(id, now),
                Step::Announce(id, pipes) => self.announce(id, pipes, now),
                Step::Spawn(id) => {
                    self.spawn(id, now);
                    if self.keep.has_much_to_tell() {
                        while let Some(id) = self.scribe.poll_unsaid(&mut self.supervisor) {
                            self.remember(id, now);
                        }
                        self.tell_keeper(now);
                    }
                }
                Step::Perform(id, effect) => self.perform(id, effect, now),
                Step::Write(id) => self.remember(id, now),
            }
        }
        self.tell_keeper(now);
    }

    /// The next thing to do. What is done in one turn may be more than there is space for on a full disk.
    fn next_step(&mut self) -> Option<Step> {
        if self.journal.as_ref().is_some_and(Journal::is_about_to_be_full) {
            self.scribe.begin_anew();
        }
        self.scribe.poll_step(&mut self.supervisor)
    }

    fn perform(&mut self, id: ProcessId, effect: Effect, now: Moment) {
        match effect {
            // The scribe takes it apart.
            Effect::Spawn => {}
            Effect::Signal { pid, signal, group } => self.send_signal(id, pid, signal.0, group, now),
            Effect::EndLeftovers { signal } => {
                self.family.signal(id, self.supervisor.names(id), signal);
                self.check_leftovers_of(id, now);
            }
            Effect::Changed { to, .. } => {
                self.raise_change(id, &effect, now);
                self.publish(id, to, now);
            }
            Effect::Waits => self.publish_wait(id, now),
            Effect::Note(note) => self.say(id, &note, now),
        }
    }

    /// Tells watchers what a process waits for, and whoever waits for its start that this may take for ever.
    pub(super) fn publish_wait(&mut self, id: ProcessId, now: Moment) {
        self.generation.send_modify(|generation| *generation += 1);
        let generation = *self.generation.borrow();
        if let Some(unit) = self.units.get_mut(&id) {
            unit.changed = generation;
        }
        let Some(process) = self.supervisor.process(id).filter(|process| process.is_stalled()) else {
            return;
        };
        let why = format!("waiting for {}", process.waits_for().unwrap_or_default());
        for operation in self.operations.handle_stalled(id) {
            let result = self.result_with(id, Reason::DependencyDown, why.clone());
            self.operations.report(operation, result);
            self.finish_operation(operation, now);
        }
    }

    /// Makes what a child needs.
    fn prepare_child(&mut self, id: ProcessId, now: Moment) {
        match self.preparations(id) {
            Ok(prepared) => {
                self.scribe.handle_prepared(id, prepared.pipes);
                self.prepared = Some(prepared);
            }
            Err(problem) => self.supervisor.handle_spawn_failed(id, problem, now),
        }
    }

    /// What a child needs. An error is said in words for `status`.
    fn preparations(&mut self, id: ProcessId) -> Result<Prepared, String> {
        let (Some(process), Some((group, _)), Some(unit)) =
            (self.supervisor.process(id), self.supervisor.names(id), self.units.get(&id))
        else {
            return Err(UNSUPERVISED.to_owned());
        };
        let config = process.config();
        self.launcher.check_room(config).map_err(|error| error.to_string())?;
        for log in unit.logs() {
            self.output.open(log).map_err(|error| log_error(&config.name, &error))?;
        }
        let on_daemon_death = if unit.is_listener { OnDaemonDeath::EndOfFile } else { OnDaemonDeath::Keep };
        match &config.fastcgi {
            Some(fastcgi) => {
                let key = SocketKey::new(&config.program, fastcgi);
                self.sockets.open(id, &key, fastcgi).map_err(|error| error.to_string())?;
            }
            // It may have been a FastCGI program before an update.
            None => self.sockets.release(id),
        }
        let (stdout, stderr) = (unit.stdout.is_some(), unit.stderr.is_some());
        let captured = Captured { stdout, stderr, on_daemon_death };
        self.launcher.prepare(group, config, captured).map_err(|error| error.to_string())
    }

    fn spawn(&mut self, id: ProcessId, now: Moment) {
        match self.launch(id, now) {
            Ok((pid, pidfd)) => {
                self.keep(id, pidfd);
                self.supervisor.handle_spawned(id, pid, now);
            }
            Err(problem) => self.supervisor.handle_spawn_failed(id, problem, now),
        }
    }

    /// Makes the child that was prepared, with its pipes attached to its logs; its pid and handle. An error is said in
    /// words for `status`.
    fn launch(&mut self, id: ProcessId, now: Moment) -> Result<(Pid, Option<OwnedFd>), String> {
        let (Some(prepared), Some(process), Some(unit)) =
            (self.prepared.take(), self.supervisor.process(id), self.units.get_mut(&id))
        else {
            return Err(UNSUPERVISED.to_owned());
        };
        let fastcgi = process.config().fastcgi.as_ref();
        let key = fastcgi.map(|fastcgi| SocketKey::new(&process.config().program, fastcgi));
        let socket = key.and_then(|key| self.sockets.socket(&key));
        let before = clock::since_boot();
        let launched = match self.launcher.launch(process.config(), prepared, socket) {
            Ok(launched) => launched,
            Err(failed) => {
                let log = if process.config().redirect_stderr { unit.stdout } else { unit.stderr };
                if let (Some(pipe), Some(log)) = (failed.last_words, log)
                    && let Ok(stream) = self.output.attach(pipe, log)
                {
                    self.output.drain(stream, now);
                    self.output.release(stream, now);
                }
                return Err(failed.error.to_string());
            }
        };
        let identity = self.births.identity_of(launched.pid, before..=clock::since_boot());
        let pipes = [
            (launched.stdout, unit.stdout, unit.wanted_stdout, Channel::Stdout),
            (launched.stderr, unit.stderr, unit.wanted_stderr, Channel::Stderr),
        ];
        let mut sources = Vec::new();
        for (pipe, log, wanted, channel) in pipes {
            let (Some(pipe), Some(log)) = (pipe, log) else { continue };
            match self.output.attach_tapped(pipe, log, wanted) {
                Ok(stream) => {
                    unit.streams.push(stream);
                    sources.extend(wanted.map(|_| (stream, channel)));
                }
                Err(error) => error!("cannot watch the output of '{}': {error}", process.config().name),
            }
        }
        unit.stdin = launched.stdin;
        unit.child = Some(Child { identity, pipes: launched.pipes, adopted: None, only_writes: false });
        self.events.pools.handle_spawned(id);
        for (stream, channel) in sources {
            self.add_source(stream, id, launched.pid, channel);
        }
        Ok((launched.pid, launched.pidfd))
    }

    fn send_signal(&mut self, id: ProcessId, pid: Pid, number: i32, group: bool, now: Moment) {
        let sent = match (self.foreign(id), group) {
            (Some(pidfd), true) => watch::kill_group(pid, pidfd, number),
            (Some(pidfd), false) => signal::kill_pidfd(pidfd, number),
            (None, true) => signal::kill_group(pid, number),
            (None, false) => signal::kill(pid, number),
        };
        let name = self.name_of(id);
        match sent {
            Ok(()) => {}
            Err(signal::SignalError::Gone) => {
                debug!("unable to signal {name} (pid {pid}), it probably just exited on its own");
            }
            Err(error) => {
                let problem = format!("unknown problem killing {name} ({pid}): {error}");
                crit!("{problem}");
                self.supervisor.handle_signal_refused(id, problem, now);
            }
        }
    }

    /// Tells watchers and waiting operations of a new state.
    fn publish(&mut self, id: ProcessId, to: ProcessState, now: Moment) {
        self.generation.send_modify(|generation| *generation += 1);
        let generation = *self.generation.borrow();
        if let Some(unit) = self.units.get_mut(&id) {
            unit.changed = generation;
            let proves_itself =
                self.supervisor.process(id).is_some_and(|process| !process.config().startsecs.is_zero());
            if to == ProcessState::Running && proves_itself {
                unit.advice.clear();
            }
        }
        let lacks_dependency = self.process_is(id, Process::is_held_back);
        for (operation, reason) in self.operations.handle_state(id, to) {
            let reason = if lacks_dependency { Reason::DependencyDown } else { reason };
            let result = self.result_of(id, reason);
            self.operations.report(operation, result);
            self.finish_operation(operation, now);
        }
        // Only now: a restart has begun its start above.
        self.release_socket(id);
    }

    /// Lets go of the socket of a process that has come to rest, unless it rests only for an update.
    pub(super) fn release_socket(&mut self, id: ProcessId) {
        let is_updated = self.supervisor.names(id).is_some_and(|(group, _)| self.updating.contains(group));
        let rests = self.process_is(id, |process| process.state().is_stopped() && !process.is_to_run());
        if rests && !is_updated {
            self.sockets.release(id);
        }
    }

    fn say(&mut self, id: ProcessId, note: &Note, now: Moment) {
        let verdict = self.units.get_mut(&id).map_or(Verdict::Say, |unit| unit.chatter.judge(note, now));
        let name = self.name_of(id);
        match verdict {
            Verdict::LeaveOut => return,
            Verdict::SayAfter(count) => info!("{name}: {count} lines about spawns and exits were left out"),
            Verdict::Say => {}
        }
        let who = match note {
            Note::EndingLeftovers(_) | Note::LeftoversRemain => format!(": {}", self.family.describe(id)),
            Note::Spawned(_)
            | Note::SpawnFailed(_)
            | Note::Up(_)
            | Note::Exited { .. }
            | Note::Stopped { .. }
            | Note::NeededBy(_)
            | Note::Waiting(_)
            | Note::HeldBack(_)
            | Note::GaveUp
            | Note::Killing { .. }
            | Note::KillingHard(_)
            | Note::StoppedWaiting
            | Note::AlreadyRunning
            | Note::KillingLeftovers => String::new(),
        };
        let line = format_args!("{}{who}", note.about(&name));
        match note.level() {
            LogLevel::Critical | LogLevel::Error => error!("{line}"),
            LogLevel::Warn => warn!("{line}"),
            LogLevel::Info => info!("{line}"),
            LogLevel::Debug | LogLevel::Trace | LogLevel::Blather => debug!("{line}"),
        }
    }

    /// Logs what is to be said about logs of programs.
    pub(super) fn say_what_happened_to_output(&mut self) {
        while let Some(report) = self.output.poll_report() {
            warn!("{report}");
        }
    }

    /// The name of a process within its group.
    pub(super) fn name_of(&self, id: ProcessId) -> String {
        self.supervisor.names(id).map(|(_, name)| name.to_owned()).unwrap_or_default()
    }
}

/// Supervisor's words for a log that cannot be opened, and which one it is.
fn log_error(name: &str, error: &OpenError) -> String {
    let errno = error.source.raw_os_error().map(nix::errno::Errno::from_raw);
    let code = errno.map_or_else(|| error.source.to_string(), |errno| format!("{errno:?}"));
    format!("unknown error making dispatchers for {}: {code} ({error})", python::repr(name))
}
