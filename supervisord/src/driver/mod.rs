//! The loop: wait, handle, perform. The driver task owns all state; everybody else sends it a [`Request`].
//!
//! Owns the order in which inputs meet the pure core and the performing of its effects. `launch` makes children,
//! `family` knows what dead ones left behind, `operations` whom to tell, `requests` and `groups` answer clients.

mod command;
mod family;
mod groups;
mod launch;
mod operations;
mod requests;
mod unit;
mod update;

use std::{
    collections::BTreeMap,
    io,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use family::Family;
use jiff::tz::TimeZone;
use launch::{Captured, Launcher};
use operations::Operations;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tracing::{debug, error, info, warn};
use unit::{Unit, Verdict};

use crate::{
    api::{self, Routers, Servers, grpc},
    args::SpawnMethod,
    clock::{self, Moment},
    config::{
        Config, KillMode, LogLevel,
        load::{Inputs, Overrides},
        python,
    },
    crit,
    daemonize::Pidfile,
    log::ActivityLog,
    os::{
        memory, reap, signal,
        spawn::{Method, Spawner},
    },
    output::{OpenError, Output},
    process::{Aftermath, Effect, Exit, Note, Pid, ProcessState, advice},
    request::{Handle, Reason, Request},
    signals::{DaemonSignal, Signals},
    startup::{ReadySignal, SocketFiles, Start, StartError},
    supervisor::{Mode, ProcessId, Supervisor},
};

/// Requests that are answered before the loop looks at anything else.
const REQUESTS_AT_ONCE: usize = 64;
/// Children that are reaped before the loop looks at anything else, and those among them that may be replaced at once.
/// The kernel tells the oldest child first: a program that ran for long does not wait for a crowd that crashes again and
/// again, if that is not taken all at once.
const EXITS_AT_ONCE: usize = 256;
const RESTARTS_AT_ONCE: usize = 2;
/// Time between two lines that say for whom a shutdown waits. Source: Supervisor.
const WAITING_LINE: Duration = Duration::from_secs(3);

/// Least time between two searches for what crashed programs left behind: each looks at every child, and a storm of
/// crashes must not become dearer by it.
const STRAYS_PAUSE: Duration = Duration::from_millis(20);

/// Why the driver cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// A resource of the operating system is missing.
    #[error("cannot {what}: {error}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// Why it failed.
        error: io::Error,
    },
    /// The reflection service does not accept the contract.
    #[error("cannot serve the reflection service: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// What made the loop turn.
#[derive(Debug)]
enum Wake {
    Signal(DaemonSignal),
    Request(Request),
    Output,
    Deadline,
    MoreExits,
    JobEnded,
}

/// Everything that `supervisord` is while it runs.
#[derive(Debug)]
struct Driver {
    supervisor: Supervisor,
    units: BTreeMap<ProcessId, Unit>,
    family: Family,
    operations: Operations,
    output: Output,
    launcher: Launcher,
    /// The configuration as last read; the active groups may differ from it.
    available: Config,
    /// What the command line sets, the machine as it was at the start, and the file, to read it again.
    overrides: Overrides,
    inputs: Inputs,
    configuration_file: PathBuf,
    log: ActivityLog,
    pidfile: Option<Pidfile>,
    ready: ReadySignal,
    socket_files: SocketFiles,
    servers: Option<Servers>,
    routers: Routers,
    signals: Signals,
    handle: Handle,
    requests: mpsc::Receiver<Request>,
    /// Updates under way.
    jobs: JoinSet<()>,
    generation: watch::Sender<u64>,
    /// Tells updates that were begun before a restart that what they had planned is void.
    lives: watch::Sender<()>,
    zone: TimeZone,
    started: Moment,
    more_exits: bool,
    /// Before then a crash is no reason to look for strays.
    next_look_for_strays: Instant,
    /// When to say again for whom a shutdown waits.
    next_waiting_line: Option<Instant>,
    /// The configuration to start anew with.
    reload: Option<Box<Config>>,
}

/// Supervises until everything has been stopped by request.
pub async fn run(mut start: Start) -> ExitCode {
    let mut ready = std::mem::take(&mut start.ready);
    let argv0 = start.args.argv0.clone();
    match Driver::new(start) {
        Ok(mut driver) => {
            driver.begin(clock::now());
            ready.ready();
            driver.ready = ready;
            memory::give_back();
            driver.supervise().await;
            driver.end().await;
            ExitCode::SUCCESS
        }
        Err(error) => {
            let error = StartError::Driver(error);
            ready.failed(&error, &argv0);
            ExitCode::from(error.status())
        }
    }
}

/// As the command line says, else as the kernel allows.
fn spawner(method: Option<SpawnMethod>) -> Spawner {
    let method = match method {
        None => return Spawner::probe(),
        Some(SpawnMethod::Clone) => Method::Clone,
        Some(SpawnMethod::Fork) => Method::Fork,
    };
    Spawner::with_method(method).unwrap_or_else(|error| {
        warn!("cannot spawn as asked, doing as the kernel allows: {error}");
        Spawner::probe()
    })
}

impl Driver {
    fn new(start: Start) -> Result<Self, DriverError> {
        let system = |what| move |error| DriverError::System { what, error };
        let (handle, requests) = Handle::new();
        let service = supervisor_proto::v1::supervisor_server::SupervisorServer::new(grpc::Service::new(
            handle.clone(),
        ));
        let (grpc, _health) = api::grpc_router(tonic::service::Routes::new(service))?;
        let routers = Routers { grpc, http: api::http_router() };
        let servers = Servers::start(start.endpoints, &routers).map_err(system("listen"))?;
        let launcher = Launcher::new(spawner(start.args.spawn_method), &start.loaded.config)
            .map_err(system("open /dev/null"))?;
        Ok(Self {
            supervisor: Supervisor::new(),
            units: BTreeMap::new(),
            family: Family::default(),
            operations: Operations::default(),
            output: Output::new().map_err(system("make an epoll instance"))?,
            launcher,
            overrides: start.args.overrides,
            configuration_file: start.loaded.path,
            inputs: start.loaded.inputs,
            available: start.loaded.config,
            log: start.log,
            pidfile: start.pidfile,
            ready: start.ready,
            socket_files: start.socket_files,
            servers: Some(servers),
            routers,
            signals: start.signals,
            handle,
            requests,
            jobs: JoinSet::new(),
            generation: watch::Sender::new(0),
            lives: watch::Sender::new(()),
            zone: TimeZone::system(),
            started: clock::now(),
            more_exits: false,
            next_look_for_strays: clock::now().mono,
            next_waiting_line: None,
            reload: None,
        })
    }

    /// Activates all groups and starts what starts with them.
    fn begin(&mut self, now: Moment) {
        if let Err(error) = crate::os::family::become_subreaper() {
            warn!("orphaned processes cannot be adopted: {error}");
        }
        let groups = self.available.groups.clone();
        for group in groups {
            self.activate(group, now);
        }
        self.perform_effects(now);
    }

    async fn supervise(&mut self) {
        while !self.is_finished() {
            let wake = self.next_wake().await;
            let now = clock::now();
            match wake {
                Wake::Signal(DaemonSignal::ChildExited) => {
                    debug!("received SIGCHLD indicating a child quit");
                    self.reap(now);
                }
                Wake::Signal(signal) => self.handle_signal(signal, now),
                // With many deadlines, each of them a spawn, exits are not left for the time after them.
                Wake::MoreExits | Wake::Deadline => self.reap(now),
                Wake::Request(request) => self.handle_requests(request, now),
                Wake::Output => self.output.pump(now),
                Wake::JobEnded => {}
            }
            self.supervisor.handle_timeout(now);
            self.output.handle_timeout(now);
            self.perform_effects(now);
            self.say_what_happened_to_output();
            self.say_for_whom_we_wait(now);
            self.begin_anew_if_due(now);
        }
    }

    /// Waits for the next input. Every branch is cancel-safe: what it has not returned is still there the next time.
    async fn next_wake(&mut self) -> Wake {
        let (deadline, more_exits) = (self.next_deadline(), self.more_exits);
        if more_exits || deadline.is_some_and(|at| at <= clock::now().mono) {
            // The runtime takes in signals, requests and output only while this task waits.
            tokio::task::yield_now().await;
        }
        let sleep = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            signal = self.signals.next() => Wake::Signal(signal),
            Some(request) = self.requests.recv() => Wake::Request(request),
            () = self.output.ready() => Wake::Output,
            Some(_) = self.jobs.join_next() => Wake::JobEnded,
            () = sleep => Wake::Deadline,
            () = std::future::ready(()), if more_exits => Wake::MoreExits,
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let of_output = self.output.poll_timeout();
        [self.supervisor.poll_timeout(), of_output, self.next_waiting_line].into_iter().flatten().min()
    }

    fn is_finished(&self) -> bool {
        self.supervisor.mode() == Mode::ShuttingDown && self.supervisor.is_shut_down()
    }

    /// After the loop: no socket, no pidfile, no client is left.
    async fn end(mut self) {
        // An update that we have cut short still tells its client so.
        drop((self.requests, self.operations));
        while self.jobs.join_next().await.is_some() {}
        if let Some(servers) = self.servers.take() {
            servers.shutdown().await;
        }
        drop(self.socket_files);
        drop(self.pidfile);
    }
}

/// Inputs.
impl Driver {
    fn handle_signal(&mut self, signal: DaemonSignal, now: Moment) {
        match signal {
            DaemonSignal::Terminate(which) => {
                warn!("received {which} indicating exit request");
                self.begin_shutdown(now);
            }
            DaemonSignal::Hangup if self.supervisor.mode() == Mode::ShuttingDown => {
                warn!("ignored SIGHUP indicating restart request (shutdown in progress)");
            }
            DaemonSignal::Hangup => {
                warn!("received SIGHUP indicating restart request");
                if let Err(refusal) = self.begin_reload(now) {
                    error!("not restarting, nothing was changed: {refusal}");
                }
            }
            DaemonSignal::ReopenLogs => {
                info!("received SIGUSR2 indicating log reopen request");
                self.reopen_logs();
            }
            DaemonSignal::ChildExited => self.reap(now),
        }
    }

    fn handle_requests(&mut self, first: Request, now: Moment) {
        self.handle_request(first, now);
        for _ in 1..REQUESTS_AT_ONCE {
            self.perform_effects(now);
            let Ok(request) = self.requests.try_recv() else { return };
            self.handle_request(request, now);
        }
    }

    /// Reaps a bounded number of children. Leftovers are looked for once for all of them.
    fn reap(&mut self, now: Moment) {
        let mut exits = Vec::new();
        let mut restarts = 0;
        self.more_exits = false;
        while let Some(exit) = reap::next() {
            let process = self.supervisor.owner(exit.0).and_then(|id| self.supervisor.process(id));
            if process.is_some_and(|process| process.state() != ProcessState::Stopping) {
                restarts += 1;
            }
            exits.push(exit);
            self.more_exits = exits.len() == EXITS_AT_ONCE || restarts == RESTARTS_AT_ONCE;
            if self.more_exits {
                break;
            }
        }
        for (pid, _) in &exits {
            if let Some(id) = self.supervisor.owner(*pid) {
                let killmode = self.supervisor.process(id).map(|process| process.config().killmode);
                if killmode != Some(KillMode::Process) {
                    self.family.note_group(id, *pid);
                }
            }
        }
        let mut diagnoses = self.look_for_strays(&exits, now);
        let mut is_family_changed = false;
        for (pid, exit) in exits {
            if let Some(id) = self.supervisor.owner(pid) {
                let diagnosis = diagnoses.remove(&id);
                self.handle_exit(id, pid, exit, diagnosis, now);
            } else {
                debug!("reaped unknown pid {pid} ({exit})");
                self.family.handle_reaped(pid);
                is_family_changed = true;
            }
        }
        if is_family_changed {
            self.check_leftovers(now);
        }
    }

    /// Attributes the descendants that landed on us when main processes ended, so that a replacement finds nothing of
    /// its predecessor. Returns which programs put themselves into the background, and what to do about it.
    ///
    /// After a crash this is done at most once in [`STRAYS_PAUSE`].
    fn look_for_strays(&mut self, exits: &[(Pid, Exit)], now: Moment) -> BTreeMap<ProcessId, String> {
        let is_certain = |(pid, exit): &(Pid, Exit)| {
            let process = self.supervisor.owner(*pid).and_then(|id| self.supervisor.process(id));
            process.is_some_and(|process| *exit == Exit::Code(0) || process.state() == ProcessState::Stopping)
        };
        let mut diagnoses = BTreeMap::new();
        let is_ours = |(pid, _): &(Pid, Exit)| self.supervisor.owner(*pid).is_some();
        let is_too_soon = now.mono < self.next_look_for_strays;
        if !exits.iter().any(is_certain) && (is_too_soon || !exits.iter().any(is_ours)) {
            return diagnoses;
        }
        self.next_look_for_strays = now.mono + STRAYS_PAUSE;
        let suspects: Vec<_> = exits.iter().filter_map(|(pid, _)| self.supervisor.owner(*pid)).collect();
        let found = self.family.find_strays(&self.supervisor, &suspects);
        for (pid, exit) in exits {
            let Some(id) = self.supervisor.owner(*pid).filter(|_| *exit == Exit::Code(0)) else { continue };
            let state = self.supervisor.process(id).map(crate::process::Process::state);
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
        let words = crate::config::shlex::split(&config.command).unwrap_or_default();
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

    fn handle_exit(&mut self, id: ProcessId, pid: Pid, exit: Exit, diagnosis: Option<String>, now: Moment) {
        let mut streams = Vec::new();
        if let Some(unit) = self.units.get_mut(&id) {
            unit.stdin = None;
            streams = std::mem::take(&mut unit.streams);
        }
        for stream in &streams {
            self.output.drain(*stream, now);
        }
        let remains = !self.family.is_gone(id);
        self.supervisor.handle_exit(pid, exit, Aftermath { remains, diagnosis }, now);
        self.perform_effects(now);
        // After the replacement has been spawned: it does not wait for this, and finds the log still open.
        for stream in streams {
            self.output.release(stream, now);
        }
    }

    /// Tells the core whose leftovers are gone.
    fn check_leftovers(&mut self, now: Moment) {
        // A dead stray may have left strays of its own.
        self.family.find_strays(&self.supervisor, &[]);
        for id in self.family.bereaved() {
            self.check_leftovers_of(id, now);
        }
        self.perform_effects(now);
    }

    fn check_leftovers_of(&mut self, id: ProcessId, now: Moment) {
        if self.family.is_gone(id) {
            self.supervisor.handle_leftovers_gone(id, now);
        }
    }
}

/// Effects.
impl Driver {
    fn perform_effects(&mut self, now: Moment) {
        while let Some((id, effect)) = self.supervisor.poll_effect() {
            match effect {
                Effect::Spawn => self.spawn(id, now),
                Effect::Signal { pid, signal, group } => self.send_signal(id, pid, signal.0, group, now),
                Effect::EndLeftovers { signal } => {
                    self.family.signal(id, signal);
                    self.check_leftovers_of(id, now);
                }
                Effect::Changed { to, .. } => self.publish(id, to, now),
                Effect::Note(note) => self.say(id, &note, now),
            }
        }
    }

    fn spawn(&mut self, id: ProcessId, now: Moment) {
        match self.launch(id, now) {
            Ok(pid) => self.supervisor.handle_spawned(id, pid, now),
            Err(problem) => self.supervisor.handle_spawn_failed(id, problem, now),
        }
    }

    /// Makes a child with its pipes attached to its logs. An error is said in words for `status`.
    fn launch(&mut self, id: ProcessId, now: Moment) -> Result<Pid, String> {
        let (Some(process), Some((group, _)), Some(unit)) =
            (self.supervisor.process(id), self.supervisor.names(id), self.units.get_mut(&id))
        else {
            return Err("it is not supervised any more".to_owned());
        };
        self.launcher.check_room(process.config()).map_err(|error| error.to_string())?;
        for log in unit.logs() {
            self.output.open(log).map_err(|error| log_error(&process.config().name, &error))?;
        }
        let captured = Captured { stdout: unit.stdout.is_some(), stderr: unit.stderr.is_some() };
        let launched = match self.launcher.launch(group, process.config(), captured) {
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
        let pipes = [(launched.stdout, unit.stdout), (launched.stderr, unit.stderr)];
        for (pipe, log) in pipes {
            let (Some(pipe), Some(log)) = (pipe, log) else { continue };
            match self.output.attach(pipe, log) {
                Ok(stream) => unit.streams.push(stream),
                Err(error) => error!("cannot watch the output of '{}': {error}", process.config().name),
            }
        }
        unit.stdin = Some(launched.stdin);
        Ok(launched.pid)
    }

    fn send_signal(&mut self, id: ProcessId, pid: Pid, number: i32, group: bool, now: Moment) {
        let sent = if group { signal::kill_group(pid, number) } else { signal::kill(pid, number) };
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
        for (operation, reason) in self.operations.handle_state(id, to) {
            let result = self.result_of(id, reason);
            self.operations.report(operation, result);
            self.finish_operation(operation, now);
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

    fn say_what_happened_to_output(&mut self) {
        while let Some(report) = self.output.poll_report() {
            warn!("{report}");
        }
    }

    fn name_of(&self, id: ProcessId) -> String {
        self.supervisor.names(id).map(|(_, name)| name.to_owned()).unwrap_or_default()
    }
}

/// The end, and a new beginning.
impl Driver {
    fn begin_shutdown(&mut self, now: Moment) {
        self.ready.manager.stopping();
        self.reload = None;
        self.supervisor.begin_shutdown(Mode::ShuttingDown, now);
        self.next_waiting_line.get_or_insert(now.mono);
    }

    /// Says at the beginning of a shutdown and then every three seconds for whom it waits.
    fn say_for_whom_we_wait(&mut self, now: Moment) {
        if self.next_waiting_line.is_none_or(|at| at > now.mono) {
            return;
        }
        let names = self.supervisor.unrested();
        if names.is_empty() {
            self.next_waiting_line = None;
        } else {
            info!("waiting for {} to die", names.join(", "));
            self.next_waiting_line = Some(now.mono + WAITING_LINE);
        }
    }

    fn begin_anew_if_due(&mut self, now: Moment) {
        if self.supervisor.mode() == Mode::Restarting
            && self.supervisor.is_shut_down()
            && let Some(config) = self.reload.take()
        {
            self.begin_anew(*config, now);
        }
    }

    /// The refusal of everything that changes something while the daemon ends.
    fn refuse_while_ending(&self) -> Result<(), crate::request::Refusal> {
        match self.supervisor.mode() {
            Mode::Running => Ok(()),
            Mode::ShuttingDown | Mode::Restarting => Err(crate::request::Refusal::new(
                Reason::ShuttingDown,
                "supervisord is shutting down or restarting",
            )),
        }
    }
}

/// Supervisor's words for a log that cannot be opened, and which one it is.
fn log_error(name: &str, error: &OpenError) -> String {
    let errno = error.source.raw_os_error().map(nix::errno::Errno::from_raw);
    let code = errno.map_or_else(|| error.source.to_string(), |errno| format!("{errno:?}"));
    format!("unknown error making dispatchers for {}: {code} ({error})", python::repr(name))
}
