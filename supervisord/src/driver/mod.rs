//! The loop: wait, handle, perform. The driver task owns all state; everybody else sends it a [`Request`].
//!
//! Owns the order in which inputs meet the pure core. `exits` hands it children that ended, `requests` and `groups` what
//! clients ask; `effects` performs what comes out. `launch` makes children, `family` knows what dead ones left behind,
//! `operations` whom to tell.

mod adopt;
mod command;
mod crash;
mod echo;
mod effects;
mod estate;
mod events;
mod exits;
mod family;
mod groups;
mod handover;
mod keep;
mod kept;
mod launch;
mod operate;
mod operations;
mod outbox;
mod remember;
mod replace;
mod requests;
mod servers;
mod sockets;
mod unit;
mod update;
mod upgrade;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use events::Events;
use family::Family;
use jiff::tz::TimeZone;
use keep::Keep;
use launch::{Launcher, Prepared};
use operations::Operations;
use requests::LastListing;
use sockets::Sockets;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tracing::{debug, error, info, warn};
use unit::Unit;
use upgrade::Upgrades;

use crate::{
    api::{self, Endpoint, Routers, Servers, grpc},
    args::SpawnMethod,
    clock::{self, Moment, Timeline},
    config::{
        Config, Reload,
        error::ConfigWarning,
        load::{Inputs, Loaded, Overrides},
    },
    continuity::scribe::Scribe,
    daemonize::Pidfile,
    event::Event,
    handover::{Handover, Origin},
    journal::{Snapshot, file::Journal},
    launch::give_up,
    log::ActivityLog,
    os::{
        births::Births,
        memory,
        spawn::{Method, Spawner},
        watch::Watch,
    },
    output::Output,
    request::{Handle, Reason, Request},
    signals::{DaemonSignal, Signals},
    startup::{self, ReadySignal, SocketFiles, Start, StartError},
    supervisor::{Mode, ProcessId, Supervisor},
    takeover::Estate,
};

/// Requests that are answered before the loop looks at anything else.
const REQUESTS_AT_ONCE: usize = 64;
/// Time between two lines that say for whom a shutdown waits. Source: Supervisor.
const WAITING_LINE: Duration = Duration::from_secs(3);

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
    /// A listener has made room on its stdin.
    Room,
    Deadline,
    MoreExits,
    ForeignExit,
    JobEnded,
    Parted(Vec<Endpoint>),
}

/// Everything that `supervisord` is while it runs.
#[derive(Debug)]
struct Driver {
    supervisor: Supervisor,
    units: BTreeMap<ProcessId, Unit>,
    family: Family,
    /// Main processes that are not our children, and what they left behind.
    watch: Watch,
    /// Where all is written down that the next daemon must know, if that is possible.
    journal: Option<Journal>,
    /// What the last daemon has written, if that is in another place, until all of it stands in ours.
    former_journal: Option<Journal>,
    scribe: Scribe,
    /// A child that is about to be made.
    prepared: Option<Prepared>,
    /// Why it is not, if so.
    no_journal: Option<String>,
    boot: String,
    timeline: Timeline,
    /// What the last daemon has written down, until it is taken over.
    inheritance: Snapshot,
    keep: Keep,
    operations: Operations,
    output: Output,
    events: Events,
    launcher: Launcher,
    births: Births,
    /// Names of the XML-RPC interfaces, which only a restart changes.
    interfaces: Arc<[String]>,
    /// What FastCGI programs listen on.
    sockets: Sockets,
    /// Groups some of whose processes were stopped to take over another configuration.
    updating: BTreeSet<String>,
    /// What was doubtful about the configuration as last read, and is in the log.
    warned: Vec<ConfigWarning>,
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
    last_listing: LastListing,
    /// Tells updates that were begun before a restart that what they had planned is void.
    lives: watch::Sender<()>,
    zone: TimeZone,
    started: Moment,
    more_exits: bool,
    /// Before then a crash is no reason to look for strays.
    next_look_for_strays: Instant,
    /// When to look for what which crashed programs left behind.
    search: Option<(Instant, Vec<ProcessId>)>,
    /// When to say again for whom a shutdown waits.
    next_waiting_line: Option<Instant>,
    /// The configuration to start anew with.
    reload: Option<Box<Loaded>>,
    upgrades: Upgrades,
    /// What was started, to be started again by an upgrade.
    origin: Origin,
    detached: bool,
}

/// Supervises until everything has been stopped by request.
pub async fn run(mut start: Start) -> ExitCode {
    let mut ready = std::mem::take(&mut start.ready);
    let argv0 = start.args.argv0.clone();
    let predecessor = start.predecessor.take();
    let plumbing = Plumbing::new(&mut start);
    if let (Err(error), Some(predecessor)) = (&plumbing, &predecessor) {
        // While nothing of the start has been given up. Comes back only when there is no way back.
        give_up(predecessor, &error.to_string());
    }
    let is_aside = start.old.is_some();
    let failed = |error| match StartError::Driver(error) {
        error if is_aside => StartError::Aside(Box::new(error)),
        error => error,
    };
    let begun = plumbing.map_err(failed).and_then(|plumbing| {
        let estate = startup::commit(&mut start)?;
        Ok((Driver::new(start, plumbing), estate))
    });
    match begun {
        Ok((mut driver, estate)) => {
            let now = clock::now();
            driver.begin(predecessor, estate, now);
            ready.ready();
            driver.ready = ready;
            memory::give_back();
            driver.supervise().await;
            driver.end().await;
            ExitCode::SUCCESS
        }
        Err(error) => {
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

/// What a driver needs of the system and the runtime.
#[derive(Debug)]
struct Plumbing {
    handle: Handle,
    requests: mpsc::Receiver<Request>,
    routers: Routers,
    servers: Servers,
    launcher: Launcher,
    output: Output,
    watch: Watch,
    upgrades: Upgrades,
}

impl Plumbing {
    fn new(start: &mut Start) -> Result<Self, DriverError> {
        let system = |what| move |error| DriverError::System { what, error };
        let (handle, requests) = Handle::new();
        let upgrades = Upgrades::default();
        let budget = api::Budget::default();
        let service = grpc::Service::new(handle.clone(), budget.clone());
        let service = supervisor_proto::v1::supervisor_server::SupervisorServer::new(service);
        let (grpc, _health) = api::grpc_router(tonic::service::Routes::new(service))?;
        let routers = Routers { grpc, http: api::http_router(handle.clone(), budget) };
        let mut launcher = Launcher::new(spawner(start.args.spawn_method), &start.loaded.config)
            .map_err(system("open /dev/null"))?;
        if let Some(limit) = start.open_files {
            launcher.set_open_files(limit);
        }
        let output = Output::new().map_err(system("make an epoll instance"))?;
        let watch = Watch::new().map_err(system("make an epoll instance"))?;
        let endpoints = std::mem::take(&mut start.endpoints);
        let servers = Servers::start(endpoints, &routers).map_err(system("listen"))?;
        Ok(Self { handle, requests, routers, servers, launcher, output, watch, upgrades })
    }
}

impl Driver {
    fn new(start: Start, plumbing: Plumbing) -> Self {
        let Plumbing { handle, requests, routers, servers, launcher, output, watch, upgrades } = plumbing;
        Self {
            supervisor: Supervisor::new(),
            units: BTreeMap::new(),
            family: Family::default(),
            watch,
            journal: start.journal.journal,
            former_journal: start.journal.former,
            scribe: Scribe::default(),
            prepared: None,
            no_journal: start.journal.problem,
            boot: start.journal.boot,
            timeline: clock::timeline(),
            inheritance: start.journal.found,
            keep: Keep::default(),
            operations: Operations::default(),
            output,
            events: Events::default(),
            launcher,
            births: Births::default(),
            sockets: Sockets::default(),
            updating: BTreeSet::new(),
            overrides: start.args.overrides,
            configuration_file: start.loaded.path,
            inputs: start.loaded.inputs,
            interfaces: start.loaded.config.rpc_interfaces.keys().cloned().collect(),
            warned: start.loaded.warnings,
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
            last_listing: LastListing::default(),
            lives: watch::Sender::new(()),
            zone: TimeZone::system(),
            started: clock::now(),
            more_exits: false,
            next_look_for_strays: clock::now().mono,
            search: None,
            next_waiting_line: None,
            reload: None,
            upgrades,
            origin: start.origin,
            detached: start.detached,
        }
    }

    /// Activates all groups and starts what starts with them; in place of `predecessor`, and of the daemon that has left
    /// `estate`, goes on with what runs.
    fn begin(&mut self, predecessor: Option<Handover>, estate: Option<Estate>, now: Moment) {
        if let Err(error) = crate::os::family::become_subreaper() {
            warn!("orphaned processes cannot be adopted: {error}");
        }
        if let Some(predecessor) = predecessor {
            self.resume(predecessor, now);
            self.deliver_events(now);
            // Held since before the execution of this binary; handlers are in place.
            return crate::os::handover::release_signals();
        }
        self.inherit(estate, now);
        self.deliver_events(now);
    }

    async fn supervise(&mut self) {
        while !self.is_finished() {
            self.publish_interfaces();
            let wake = self.next_wake().await;
            let now = clock::now();
            match wake {
                Wake::Signal(DaemonSignal::ChildExited) => {
                    self.reap(now);
                    // Source: Supervisor, which says so after what the child wrote and how it ended.
                    debug!("received SIGCHLD indicating a child quit");
                }
                Wake::Signal(signal) => self.handle_signal(signal, now),
                // With many deadlines, each of them a spawn, exits are not left for the time after them.
                Wake::MoreExits | Wake::Deadline => self.reap(now),
                Wake::Request(request) => self.handle_requests(request, now),
                Wake::ForeignExit => self.reap_foreign(now),
                Wake::Output => self.handle_output(now),
                Wake::Room => self.pump_outbox(),
                Wake::JobEnded => {}
                Wake::Parted(endpoints) => self.execute(endpoints).await,
            }
            self.advance_upgrade(now);
            self.supervisor.handle_timeout(now);
            self.output.handle_timeout(now);
            self.search_when_due(now);
            self.perform_effects(now);
            self.say_what_happened_to_output();
            self.handle_pieces(now);
            self.dismiss_idle_listeners(now);
            self.say_for_whom_we_wait(now);
            self.begin_anew_if_due(now);
            self.raise_ticks(now);
            self.deliver_events(now);
        }
    }

    /// Waits for the next input. Every branch is cancel-safe: what it has not returned is still there the next time.
    async fn next_wake(&mut self) -> Wake {
        let (deadline, more_exits) = (self.next_deadline(), self.more_exits);
        let is_due = deadline.is_some_and(|at| at <= clock::now().mono);
        if more_exits || is_due {
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
            () = self.watch.ready() => Wake::ForeignExit,
            () = self.output.ready() => Wake::Output,
            () = self.events.outbox.ready() => Wake::Room,
            Some(_) = self.jobs.join_next() => Wake::JobEnded,
            endpoints = self.upgrades.parted() => Wake::Parted(endpoints),
            // The runtime's timers have a grain of a millisecond: what is due does not wait for them.
            () = sleep, if !is_due => Wake::Deadline,
            () = std::future::ready(()), if is_due => Wake::Deadline,
            () = std::future::ready(()), if more_exits => Wake::MoreExits,
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let of_output = self.output.poll_timeout();
        let search = self.search.as_ref().map(|(at, _)| *at);
        let tick = self.events.ticks.poll_timeout();
        let of_upgrade = self.upgrades.poll_timeout();
        let of_journal = self.journal.as_ref().and_then(Journal::poll_timeout);
        let of_processes = self.supervisor.poll_timeout();
        let of_keeper = self.keep.poll_timeout();
        [of_processes, of_output, search, self.next_waiting_line, tick, of_upgrade, of_journal, of_keeper]
            .into_iter()
            .flatten()
            .min()
    }

    fn is_finished(&self) -> bool {
        self.supervisor.mode() == Mode::ShuttingDown && self.supervisor.is_shut_down()
    }

    /// After the loop: no socket, no pidfile, no client is left.
    async fn end(mut self) {
        self.dismiss_keepers();
        self.close_journal(clock::now());
        // An update that we have cut short still tells its client so.
        // Whoever watches for changes would wait for ever.
        drop((self.requests, self.operations, self.events, self.generation));
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
                // The file says so by now, if it can be read; else whoever is asked next names its mistakes.
                let keeps = self.reload_setting() == Reload::Keep;
                if keeps {
                    self.begin_upgrade(true, None, now);
                } else if let Err(refusal) = self.begin_reload(now) {
                    error!("not restarting, nothing was changed: {refusal}");
                }
            }
            DaemonSignal::Upgrade => {
                warn!("received SIGUSR1 indicating upgrade request");
                self.begin_upgrade(false, None, now);
            }
            DaemonSignal::ReopenLogs => {
                info!("received SIGUSR2 indicating log reopen request");
                self.reopen_logs();
            }
            DaemonSignal::ChildExited => self.reap(now),
        }
    }

    fn handle_output(&mut self, now: Moment) {
        let round = self.output.look();
        if round.has_end() {
            // A dying program closes its pipe just before it is a zombie: its replacement does not wait for the signal
            // about that, nor for what is to be done about the pipe, and finds the log still open.
            self.reap(now);
        }
        self.output.pump(&round, now);
    }

    fn handle_requests(&mut self, first: Request, now: Moment) {
        self.handle_request(first, now);
        for _ in 1..REQUESTS_AT_ONCE {
            self.perform_effects(now);
            let Ok(request) = self.requests.try_recv() else { return };
            self.handle_request(request, now);
        }
    }
}

/// The end, and a new beginning.
impl Driver {
    fn begin_shutdown(&mut self, now: Moment) {
        self.ready.manager.stopping();
        self.reload = None;
        self.raise_stopping(now);
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

    /// Tells that everything is about to be stopped, once.
    fn raise_stopping(&mut self, now: Moment) {
        if self.supervisor.mode() == Mode::Running {
            self.raise(Event::SupervisorStopping, now);
        }
    }

    fn begin_anew_if_due(&mut self, now: Moment) {
        if self.supervisor.mode() == Mode::Restarting
            && self.supervisor.is_shut_down()
            && let Some(loaded) = self.reload.take()
        {
            self.begin_anew(*loaded, now);
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
