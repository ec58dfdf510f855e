//! From a configuration to a daemon that is about to supervise: user, limits, log, pidfile, AUTO logs, sockets.
//!
//! Owns the order of these steps and what is said when one fails. The order is Supervisor's, but for the pidfile: it
//! is locked before anything is touched that a living daemon may use, so a second daemon of the same configuration
//! leaves the first one's logs, sockets and pidfile alone.

mod journal;
mod takeover;

use std::{
    collections::BTreeSet,
    env, io,
    path::{Path, PathBuf},
};

use nix::sys::stat::{Mode, umask};

pub use journal::OpenJournal;
use journal::{open_journal, succeed_journal};
pub use takeover::commit;

use crate::{
    api::{Endpoint, Listener},
    args::{self, Args},
    config::{Config, DaemonConfig, Listen, ServerConfig, load::Loaded, python::repr},
    crit,
    daemonize::{Pidfile, PidfileError, Readiness, USAGE_STATUS},
    driver::DriverError,
    handover::{self, Handover, Origin, Socket},
    log::{ActivityLog, Backlog, LogError},
    notify::ServiceManager,
    os::{
        limits::{self, Limit, Raised},
        listen::{self, Access, ListenError, SocketFile},
        spawn::OpenFiles,
        users::{self, UserError},
    },
    output::auto,
    signals::Signals,
    takeover::{TakeOver, TakeOverError},
};

/// A daemon whose start has succeeded, but for saying so.
#[derive(Debug)]
pub struct Start {
    /// The configuration, command line included, its warnings and its path.
    pub loaded: Loaded,
    /// The command line, to read the configuration again.
    pub args: Args,
    /// The open log.
    pub log: ActivityLog,
    /// The locked pidfile; `None` when it cannot be written. Removed when dropped.
    pub pidfile: Option<Pidfile>,
    /// Signals that have come since before the pidfile could name us.
    pub signals: Signals,
    /// The listening sockets with their credentials.
    pub endpoints: Vec<Endpoint>,
    /// The files of the unix sockets. Removed when dropped.
    pub socket_files: SocketFiles,
    /// The journal, and what the last daemon has left in it.
    pub journal: OpenJournal,
    /// Whom to tell that the daemon is ready.
    pub ready: ReadySignal,
    /// What was started.
    pub origin: Origin,
    /// Whether it has left its terminal.
    pub detached: bool,
    /// The image of this daemon before this one, whose programs are to go on. Signals are held until they do.
    pub predecessor: Option<Handover>,
    /// A daemon that stands still and whose place is taken by [`commit`].
    pub old: Option<TakeOver>,
    /// The limit of open files that programs get, if that is not the one this process has.
    pub open_files: Option<OpenFiles>,
}

/// Whom to tell that the daemon is ready: the process that the user started, and the service manager.
#[derive(Debug, Default)]
pub struct ReadySignal {
    launcher: Readiness,
    /// The service manager, for later news too.
    pub manager: ServiceManager,
}

impl ReadySignal {
    /// For a daemon that `launcher` and `manager` wait for.
    pub fn new(launcher: Readiness, manager: ServiceManager) -> Self {
        Self { launcher, manager }
    }

    /// The daemon serves clients. A detached one lets go of the terminal.
    pub fn ready(&mut self) {
        if let Err(error) = self.launcher.ready() {
            tracing::error!("cannot let go of the terminal: {error}");
        }
        self.manager.ready();
    }

    /// The start failed: prints `error` on the terminal.
    pub fn failed(&mut self, error: &StartError, argv0: &str) {
        self.launcher.failed(error.status(), &args::report(&error.to_string(), argv0));
    }
}

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It cannot become the configured user.
    #[error(transparent)]
    User(#[from] UserError),
    /// It has no log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Another daemon holds the pidfile.
    #[error(transparent)]
    Pidfile(#[from] PidfileError),
    /// A socket cannot be opened.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The runtime cannot be built.
    #[error("cannot start the runtime: {0}")]
    Runtime(#[source] io::Error),
    /// A signal cannot be handled.
    #[error("cannot install signal handlers: {0}")]
    Signals(#[source] io::Error),
    /// The daemon is replaced in place and would become another user.
    #[error("{0}")]
    OtherUser(String),
    /// Nothing is taken over from a running daemon.
    #[error(transparent)]
    TakeOver(#[from] TakeOverError),
    /// A step of our own failed while the daemon whose place was to be taken stood still.
    #[error("{0}; nothing was taken over, the running supervisord goes on")]
    Aside(Box<StartError>),
    /// The loop cannot begin.
    #[error(transparent)]
    Driver(#[from] DriverError),
}

impl StartError {
    /// The exit status, as Supervisor's.
    pub fn status(&self) -> u8 {
        match self {
            Self::User(_)
            | Self::Pidfile(_)
            | Self::Listen(_)
            | Self::OtherUser(_)
            | Self::TakeOver(_)
            | Self::Aside(_) => USAGE_STATUS,
            Self::Log(_) | Self::Runtime(_) | Self::Signals(_) | Self::Driver(_) => 1,
        }
    }
}

/// Files of unix sockets, removed when dropped if they are still ours.
#[derive(Debug, Default)]
pub struct SocketFiles(Vec<SocketFile>);

impl SocketFiles {
    /// The file of the socket at `path`.
    pub fn find(&self, path: &Path) -> Option<&SocketFile> {
        self.0.iter().find(|file| file.path == path)
    }

    /// Removes the files for whose path `stays` does not hold.
    pub fn keep(&mut self, stays: impl Fn(&Path) -> bool) {
        let (kept, gone) = std::mem::take(&mut self.0).into_iter().partition(|file| stays(&file.path));
        self.0 = kept;
        drop(Self(gone));
    }
}

impl Drop for SocketFiles {
    fn drop(&mut self) {
        for file in &self.0 {
            if let Err(error) = file.remove() {
                tracing::warn!("cannot remove the socket {}: {error}", file.path.display());
            }
        }
    }
}

/// Performs the steps in the process that will be the daemon, before it has threads, inside of its runtime. `backlog` holds what was to be
/// said while there was no log.
///
/// # Errors
/// The first step that fails; what the earlier ones made is removed.
pub fn prepare(
    loaded: Loaded,
    args: Args,
    backlog: Backlog,
    told: (&mut ReadySignal, Origin),
) -> Result<Start, StartError> {
    // First: whoever becomes another user may not do it any more.
    let old = args.take_over.as_ref().map(|whose| TakeOver::begin(&loaded, whose)).transpose()?;
    let is_aside = old.is_some();
    prepare_beside(old, (loaded, args), backlog, told)
        .map_err(|error| if is_aside { StartError::Aside(Box::new(error)) } else { error })
}

/// The steps, beside a daemon that stands still if our place is to be its own.
fn prepare_beside(
    mut old: Option<TakeOver>,
    (loaded, args): (Loaded, Args),
    mut backlog: Backlog,
    (ready, origin): (&mut ReadySignal, Origin),
) -> Result<Start, StartError> {
    let config = &loaded.config;
    become_user(&config.daemon, &mut backlog)?;
    raise_limits(&config.daemon, &mut backlog);
    let log = ActivityLog::open(&config.daemon)?;
    log.install()?;
    // Whoever reads the pidfile may send us SIGHUP at once, which would end us without a handler.
    let signals = Signals::install().map_err(StartError::Signals)?;
    let (pidfile, journal) = match &old {
        None => claim(&loaded, backlog)?,
        Some(old) => {
            Pidfile::check_held_by(&config.daemon.pidfile, old.pid())?;
            backlog.emit();
            (None, OpenJournal::default())
        }
    };
    let (endpoints, socket_files) = match &mut old {
        None => open_servers(config)?,
        Some(old) => takeover::take_servers(&config.servers, old)?,
    };
    let open_files = old.as_ref().and_then(|old| takeover::open_files(old, &config.daemon));
    let detached = ready.launcher.is_detached();
    if detached {
        tracing::info!("daemonizing the supervisord process");
        settle(&config.daemon);
    }
    if pidfile.is_some() {
        tracing::info!("supervisord started with pid {}", std::process::id());
    }
    Ok(Start {
        loaded,
        args,
        log,
        pidfile,
        signals,
        endpoints,
        socket_files,
        journal,
        ready: std::mem::take(ready),
        origin,
        detached,
        predecessor: None,
        old,
        open_files,
    })
}

/// Takes pidfile and journal, and removes what nobody needs any more.
fn claim(loaded: &Loaded, backlog: Backlog) -> Result<(Option<Pidfile>, OpenJournal), PidfileError> {
    let config = &loaded.config.daemon;
    // Before the first line is written: the log may be that of a living daemon.
    let pidfile = match Pidfile::acquire(&config.pidfile) {
        Err(held @ PidfileError::Held { .. }) => return Err(held),
        pidfile => pidfile,
    };
    backlog.emit();
    let pidfile = pidfile.inspect_err(|error| crit!("{error}")).ok();
    let journal = open_journal(loaded);
    if !config.nocleanup {
        let records = journal.found.records.values();
        clean_up_logs(config, &records.flat_map(|record| record.logs.iter().flatten().cloned()).collect());
    }
    Ok((pidfile, journal))
}

/// The same for a daemon that was replaced in place: user, log, pidfile and sockets are there already. `predecessor` is
/// taken if the start succeeds, else the way back to it is open.
///
/// # Errors
/// The first step that fails.
pub fn succeed(
    loaded: Loaded,
    args: Args,
    mut backlog: Backlog,
    (ready, origin): (&mut ReadySignal, Origin),
    predecessor: &mut Option<Handover>,
) -> Result<Start, StartError> {
    let config = &loaded.config;
    handover::refuse_other_user(&config.daemon).map_err(StartError::OtherUser)?;
    raise_limits(&config.daemon, &mut backlog);
    let log = ActivityLog::open_whatever_happens(&config.daemon);
    log.install()?;
    let signals = Signals::install().map_err(StartError::Signals)?;
    backlog.emit();
    let handover = predecessor.as_ref().expect("the caller has seen it");
    // From here on nothing fails as a whole: what cannot be had is said and done without.
    let pidfile = succeed_pidfile(&config.daemon, handover);
    let (endpoints, socket_files) = succeed_servers(&config.servers, handover);
    // What it says is what the handover says, and is written anew.
    let journal = succeed_journal(&loaded, handover.state.journal.as_deref());
    let detached = handover.state.detached;
    if detached {
        settle(&config.daemon);
    }
    Ok(Start {
        loaded,
        args,
        log,
        pidfile,
        signals,
        endpoints,
        socket_files,
        journal,
        ready: std::mem::take(ready),
        origin,
        detached,
        predecessor: predecessor.take(),
        old: None,
        open_files: None,
    })
}

/// The pidfile that is there, with its lock; another one if the configuration now names it.
fn succeed_pidfile(config: &DaemonConfig, handover: &Handover) -> Option<Pidfile> {
    let old = handover.state.pidfile.as_ref().and_then(|(path, number)| {
        let file = handover.duplicate(*number).ok()?;
        Some(Pidfile::inherited(path.clone(), file))
    });
    if old.as_ref().is_some_and(|old| old.path() == config.pidfile) {
        return old;
    }
    match Pidfile::acquire(&config.pidfile) {
        // The old one is removed.
        Ok(new) => Some(new),
        Err(error) => {
            crit!("{error}");
            old
        }
    }
}

/// The listening sockets that are there, others for sections that are new. What is no longer configured is closed.
fn succeed_servers(servers: &[ServerConfig], handover: &Handover) -> (Vec<Endpoint>, SocketFiles) {
    let mut files = SocketFiles::default();
    let mut endpoints = Vec::with_capacity(servers.len());
    let mut kept = Vec::new();
    for server in servers {
        let carried =
            handover.state.sockets.iter().find(|socket| is_same_place(&socket.listen, &server.listen));
        let listener = match carried.and_then(|socket| succeed_listener(socket, handover)) {
            Some(listener) => {
                if let Some(file) = carried.and_then(|socket| socket.file.clone()) {
                    kept.push(file.path.clone());
                    grant_access(server);
                    files.0.push(file);
                }
                Ok(listener)
            }
            None => open_server(server, &mut files),
        };
        match listener {
            Ok(listener) => endpoints.push(Endpoint::new(server, listener)),
            Err(error) => tracing::error!("no client can connect to [{}]: {error}", server.section),
        }
    }
    let gone = handover.state.sockets.iter().filter_map(|socket| socket.file.clone());
    drop(SocketFiles(gone.filter(|file| !kept.contains(&file.path)).collect()));
    (endpoints, files)
}

/// Whether a socket that listens at `one` serves a section that wants `other`.
pub fn is_same_place(one: &Listen, other: &Listen) -> bool {
    match (one, other) {
        (Listen::Unix { path: one, .. }, Listen::Unix { path: other, .. }) => one == other,
        (Listen::Inet { .. }, Listen::Inet { .. }) => one == other,
        (Listen::Unix { .. } | Listen::Inet { .. }, Listen::Unix { .. } | Listen::Inet { .. }) => false,
    }
}

/// The socket as a listener; `None` when somebody has removed or replaced its file, so that it must be made anew.
fn succeed_listener(socket: &Socket, handover: &Handover) -> Option<Listener> {
    if socket.file.as_ref().is_some_and(|file| !file.is_there()) {
        return None;
    }
    let fd = handover.duplicate(socket.fd).ok()?;
    Some(match socket.listen {
        Listen::Unix { .. } => Listener::Unix(fd.into()),
        Listen::Inet { .. } => Listener::Tcp(fd.into()),
    })
}

/// Gives the file of a unix socket the owner and mode that the configuration now wants.
pub fn grant_access(server: &ServerConfig) {
    let Listen::Unix { path, mode, owner } = &server.listen else { return };
    match listen::set_access(path, path, Access { mode: *mode, owner: *owner }) {
        Ok(None) => {}
        Ok(Some(refused)) => tracing::warn!("{refused}"),
        Err(error) => tracing::warn!("{error}"),
    }
}

/// Becomes the configured user for good.
fn become_user(config: &DaemonConfig, backlog: &mut Backlog) -> Result<(), UserError> {
    if let Some(user) = &config.user {
        users::drop_privileges(user.uid)?;
    }
    note_user(config, backlog);
    Ok(())
}

/// What is to be said about a configuration that was read.
pub fn remarks(loaded: &Loaded) -> Backlog {
    let mut backlog = Backlog::default();
    for warning in &loaded.warnings {
        backlog.warn(warning.supervisor.clone().unwrap_or_else(|| warning.to_string()));
    }
    for file in &loaded.included {
        backlog.info(format!("Included extra file \"{}\" during parsing", file.display()));
    }
    backlog
}

/// Says as whom the daemon runs.
pub fn note_user(config: &DaemonConfig, backlog: &mut Backlog) {
    match &config.user {
        Some(user) => backlog.info(format!("Set uid to user {} succeeded", user.uid)),
        None if nix::unistd::getuid().is_root() => backlog.critical(
            "Supervisor is running as root.  Privileges were not dropped because no user is specified in the config \
             file.  If you intend to run as root, you can set user=root in the config file to avoid this message.",
        ),
        None => {}
    }
}

/// Raises the resource limits. Supervisor refuses to start when it cannot; containers often forbid it, and the
/// programs may still run.
fn raise_limits(config: &DaemonConfig, backlog: &mut Backlog) {
    for (limit, wanted) in [(Limit::Files, config.minfds), (Limit::Processes, config.minprocs)] {
        match limits::raise(limit, wanted) {
            Ok(Raised::No) => {}
            Ok(Raised::To(value)) => backlog.info(format!("Increased {} limit to {value}", limit.name())),
            Err(error) => backlog.warn(error.to_string()),
        }
    }
}

/// Removes the AUTO logs of earlier runs.
fn clean_up_logs(config: &DaemonConfig, keep: &BTreeSet<PathBuf>) {
    let uid = nix::unistd::geteuid().as_raw();
    match auto::clean_up(&config.childlogdir, &config.identifier, uid, keep) {
        Ok(failures) => {
            for (path, _) in failures {
                tracing::warn!("Failed to clean up {}", repr(&path.to_string_lossy()));
            }
        }
        Err(_) => tracing::warn!("Could not clear childlog dir"),
    }
}

/// Opens the listening sockets in the order of the configuration.
///
/// # Errors
/// The first socket that cannot be opened; the files of the earlier ones are removed.
fn open_servers(config: &Config) -> Result<(Vec<Endpoint>, SocketFiles), ListenError> {
    let mut files = SocketFiles::default();
    let mut endpoints = Vec::with_capacity(config.servers.len());
    for server in &config.servers {
        let listener = open_server(server, &mut files)?;
        announce(server, config.rpc_interfaces.keys(), Some(&listener));
        endpoints.push(Endpoint::new(server, listener));
    }
    Ok((endpoints, files))
}

/// Says what a server offers, and what it does not ask for. As Supervisor, whose administrators look for these lines.
/// `listener`: its socket, if it is a new one.
pub fn announce<'a>(
    server: &ServerConfig,
    interfaces: impl Iterator<Item = &'a String>,
    listener: Option<&Listener>,
) {
    for name in interfaces {
        tracing::info!("RPC interface {} initialized", repr(name));
    }
    if server.credentials.is_none() {
        crit!("Server '{}' running without any HTTP authentication checking", server.section);
        if let Some(listener) = listener {
            warn_of_strangers(server, listener);
        }
    }
}

/// Says who can control a daemon that listens on TCP and asks for no password.
fn warn_of_strangers(server: &ServerConfig, listener: &Listener) {
    let Listener::Tcp(listener) = listener else { return };
    let Ok(address) = listener.local_addr() else { return };
    let (section, cure) = (&server.section, "set username and password");
    if address.ip().is_loopback() {
        tracing::warn!(
            "[{section}] listens on {address} without a password: every user of this machine can control all programs; \
             {cure}, or use [unix_http_server]"
        );
    } else if address.ip().is_unspecified() {
        crit!(
            "[{section}] listens on ALL INTERFACES ({address}) without a password: everyone who can reach this machine \
             can control all programs; {cure}, or listen on 127.0.0.1"
        );
    } else {
        tracing::warn!(
            "[{section}] listens on {address} without a password: everyone who can reach that address can control all \
             programs; {cure}"
        );
    }
}

/// Opens one socket and remembers its file.
pub fn open_server(server: &ServerConfig, files: &mut SocketFiles) -> Result<Listener, ListenError> {
    match &server.listen {
        Listen::Inet { host, port } => Ok(Listener::Tcp(listen::bind_tcp(host, *port)?)),
        Listen::Unix { path, mode, owner } => {
            let socket = listen::bind_unix(path, Access { mode: *mode, owner: *owner })?;
            if socket.was_stale {
                eprintln!("Unlinking stale socket {}", path.display());
            }
            if let Some(refused) = socket.chown_refused {
                tracing::warn!("{refused}");
            }
            files.0.push(socket.file);
            Ok(Listener::Unix(socket.listener))
        }
    }
}

/// Working directory and umask, which only a detached daemon takes, as Supervisor's.
fn settle(config: &DaemonConfig) {
    if let Some(directory) = &config.directory {
        let shown = repr(&directory.to_string_lossy());
        match env::set_current_dir(directory) {
            Ok(()) => tracing::info!("set current directory: {shown}"),
            Err(error) => crit!("can't chdir into {shown}: {error}"),
        }
    }
    umask(Mode::from_bits_truncate(config.umask));
}
