//! Moving in without downtime: this daemon takes the place of one that runs, which keeps its programs until then.
//!
//! The old daemon is asked for its processes, then stopped where it sleeps between two rounds of its loop: then nothing
//! is between a read and a write, and all that programs have written is either in their logs or in their pipes. The
//! pipes and sockets are copied out of it, and only when all of them are here it is ended by SIGKILL, so that it
//! cannot tell its programs to stop. Until that last step every failure lets it go on, also our own death: see
//! `os/guard.rs`. Owns these steps and what is said when one fails; `plan` matches, `client` asks, `seize` takes.

pub mod answer;
pub mod client;
pub mod plan;
pub mod record;
pub mod seize;
pub mod sockets;

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::unistd::Pid;

use self::answer::AnswerError;
use self::client::{ClientError, Server};
use self::plan::{Match, OldProcess, Refusal};
use self::seize::{Seized, Unsettled};
use self::sockets::Sockets;
use crate::api::Listener;
use crate::args;
use crate::clock;
use crate::config::load::{self, Loaded};
use crate::config::{Config, Credentials, Listen};
use crate::journal::record::Identity;
use crate::os::foreign::{self, Foreign};
use crate::os::guard::Guard;
use crate::os::limits;
use crate::os::listen::SocketFile;
use crate::os::spawn::OpenFiles;

/// How long a moment is looked for at which the old daemon sleeps and none of its programs comes or goes, and the time
/// between two tries. Supervisor notices within a second that a child has ended.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);
/// Time in which a kill that was ordered shows.
const SOON: Duration = Duration::from_millis(200);
/// Time that the kernel has to end the old daemon.
const END: Duration = Duration::from_secs(10);
/// The fault of a daemon that is shutting down or restarting.
const SHUTDOWN_STATE: i64 = 6;

/// The old daemon goes on, and this one ends.
#[derive(Debug, thiserror::Error)]
#[error("cannot take over from {from}: {problem}")]
pub struct TakeOverError {
    from: String,
    problem: Problem,
}

/// Why nothing is taken over.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// There is nobody to ask.
    #[error(
        "the configuration does not tell where it listens: give --take-over=serverurl, or a serverurl in \
         [supervisorctl]"
    )]
    NoServer,
    /// The section for clients is wrong.
    #[error("{0}")]
    Configuration(String),
    /// It does not answer as it should.
    #[error("{0}")]
    Client(#[from] ClientError),
    /// It is about to end.
    #[error(
        "it is shutting down or restarting: try again when it has started, or start supervisord as usual"
    )]
    Ending,
    /// The pid that it tells is none that could be it.
    #[error("it says that its pid is {0}, which {1}")]
    Stranger(i32, &'static str),
    /// No rights.
    #[error(
        "not permitted to take descriptors from pid {pid}: {error}; run this as root (in a container, with CAP_SYS_PTRACE)"
    )]
    Rights {
        /// The process.
        pid: Pid,
        /// What the kernel says.
        error: io::Error,
    },
    /// Some processes cannot be taken over.
    #[error("{}", listed(.0))]
    Processes(Vec<Refusal>),
    /// No quiet moment.
    #[error("no quiet moment in {secs} s: {0}; try again", secs = PATIENCE.as_secs())]
    Unsettled(Unsettled),
    /// The system refuses a step.
    #[error("cannot {what}: {error}")]
    Step {
        /// What was to be done.
        what: &'static str,
        /// Why not.
        error: io::Error,
    },
}

/// One after the other on a line.
fn listed(refusals: &[Refusal]) -> String {
    refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The old daemon, standing still, and all that it holds. Dropped, it goes on.
#[derive(Debug)]
pub struct TakeOver {
    from: String,
    old: Foreign,
    guard: Guard,
    seized: Seized,
    matches: Vec<Match>,
    /// Files of the sockets that were taken.
    socket_files: Vec<SocketFile>,
    /// The limit of open files that this process had before: all those descriptors need more.
    open_files: Option<OpenFiles>,
}

/// What is left of the old daemon: its programs.
#[derive(Debug)]
pub struct Estate {
    /// Which process it was.
    pub daemon: Identity,
    /// All processes that it knew and we know, with the descriptors of those that run.
    pub processes: Vec<(Match, Option<seize::Grip>)>,
    /// Files of its sockets, which are ours now.
    pub socket_files: Vec<SocketFile>,
    /// If it was one of our kind: its keeper, and the ways to it, whose end would be the daemon's death to that.
    pub keepers: Vec<(Identity, OwnedFd)>,
}

impl TakeOver {
    /// Stops the old daemon and takes copies of all that it holds.
    ///
    /// # Errors
    /// The first step that fails; the old daemon goes on.
    pub fn begin(loaded: &Loaded, whose: &args::TakeOver) -> Result<Self, TakeOverError> {
        let url = match whose {
            args::TakeOver::Configured => None,
            args::TakeOver::At(url) => Some(url.as_str()),
        };
        let server = server(loaded, url).map_err(|problem| TakeOverError {
            from: url.unwrap_or("the running supervisord").to_owned(),
            problem,
        })?;
        let from = server.url.clone();
        hold(&server, &loaded.config).map_err(|problem| TakeOverError { from, problem })
    }

    /// The listening socket of the old daemon for this address, if it has one that clients can find.
    pub fn listener(&mut self, listen: &Listen) -> Option<Listener> {
        match listen {
            Listen::Unix { path, .. } => {
                let file = SocketFile::of(path).ok()?;
                let socket = self.seized.sockets.take(listen)?;
                self.socket_files.push(file);
                Some(Listener::Unix(socket.into()))
            }
            Listen::Inet { .. } => Some(Listener::Tcp(self.seized.sockets.take(listen)?.into())),
        }
    }

    /// Pid of the old daemon.
    pub fn pid(&self) -> Pid {
        self.old.pid
    }

    /// The limit of open files that programs are to get.
    pub fn open_files(&self) -> Option<OpenFiles> {
        self.open_files
    }

    /// Ends the old daemon: from here on its programs are ours.
    ///
    /// # Errors
    /// When the kernel refuses to end it. Then it goes on.
    pub fn finish(self) -> Result<Estate, TakeOverError> {
        let Self { from, old, guard, mut seized, matches, socket_files, .. } = self;
        seized.note_ends();
        let failed =
            |what, error| TakeOverError { from: from.clone(), problem: Problem::Step { what, error } };
        // A guard that says nothing may have done its work all the same.
        if let Err(error) = guard.end()
            && !old.wait_for_end(SOON)
        {
            let _ = old.signal(libc::SIGCONT);
            return Err(failed("end the old daemon", error));
        }
        if !old.wait_for_end(END) {
            // There is no way back: it will never run again.
            tracing::warn!("the old supervisord, pid {}, was killed and is still there", old.pid);
        }
        let mut grips = seized.grips;
        let processes = matches.into_iter().map(|one| {
            let grip = one.old.pid.and_then(|pid| grips.remove(&pid));
            (one, grip)
        });
        Ok(Estate {
            daemon: old.identity(),
            processes: processes.collect(),
            socket_files,
            keepers: seized.keepers,
        })
    }
}

/// Finds out where the old daemon listens, and how to address it.
fn server(loaded: &Loaded, url: Option<&str>) -> Result<Server, Problem> {
    let ctl = match load::load_ctl(&loaded.path) {
        Ok(ctl) => Some(ctl),
        // Without the section the servers tell.
        Err(error) if error.first_like_supervisor().contains("does not include supervisorctl") => None,
        Err(error) => return Err(Problem::Configuration(error.first_like_supervisor())),
    };
    let servers = &loaded.config.servers;
    let unix = servers.iter().find(|server| matches!(server.listen, Listen::Unix { .. }));
    let configured = || {
        let of_ctl = ctl.as_ref().map(|ctl| ctl.serverurl.clone());
        of_ctl.or_else(|| unix.or(servers.first()).map(|server| server.listen.url()))
    };
    let url = url.map(str::to_owned).or_else(configured).ok_or(Problem::NoServer)?;
    let of_server = servers.iter().find(|server| server.listen.url() == url);
    let known = of_server.and_then(|server| server.credentials.as_ref()).filter(|known| is_plain(known));
    let (username, password) = match (ctl, known) {
        (Some(ctl), _) if ctl.username.as_ref().is_some_and(|name| !name.is_empty()) => {
            (ctl.username, ctl.password)
        }
        (_, Some(known)) => (Some(known.username.clone()), Some(known.password.clone())),
        (_, None) => (None, None),
    };
    Ok(Server::new(&url, username, password)?)
}

/// Whether the password itself is known, and not only its digest.
fn is_plain(credentials: &Credentials) -> bool {
    !credentials.password.starts_with("{SHA}")
}

/// All steps up to the point where the old daemon stands still and everything is in our hands.
fn hold(server: &Server, config: &Config) -> Result<TakeOver, Problem> {
    let pid = server.pid().map_err(ending)?;
    let old = identify(server, pid)?;
    // First without any harm: what cannot work need not be tried.
    let before = foreign::children_of(old.pid);
    let (matches, _) = ask(server, config)?;
    inspect(&old, &matches)?;
    let open_files = limits::raise_own_files().ok();
    let guard = Guard::over(old.pidfd()).map_err(|error| Problem::Step { what: "make a guard", error })?;
    let mut known = before;
    let end = clock::now().deadline(PATIENCE);
    loop {
        let (matches, processes) = ask(server, config)?;
        match seize::try_to_seize(&old, &matches, &processes, &known) {
            Ok(seized) => {
                let (from, socket_files) = (server.url.clone(), Vec::new());
                return Ok(TakeOver { from, old, guard, seized, matches, socket_files, open_files });
            }
            Err(seize::Failure::Unsettled(why)) if clock::now().mono > end => {
                return Err(Problem::Unsettled(why));
            }
            Err(seize::Failure::Unsettled(_)) => {}
            Err(seize::Failure::Problem(problem)) => return Err(problem),
        }
        foreign::pause(PAUSE);
        known = foreign::children_of(old.pid);
    }
}

/// Whether a refusal means that the daemon is about to end.
fn ending(error: ClientError) -> Problem {
    match error {
        ClientError::Answer(AnswerError::Fault { code: SHUTDOWN_STATE, .. }) => Problem::Ending,
        error => Problem::Client(error),
    }
}

/// The processes of the old daemon, and which of our settings they have.
fn ask(server: &Server, config: &Config) -> Result<(Vec<Match>, Vec<OldProcess>), Problem> {
    let processes = server.processes().map_err(ending)?;
    let matches = plan::match_processes(&processes, &config.groups).map_err(Problem::Processes)?;
    Ok((matches, processes))
}

/// Makes sure that the pid is that of the daemon which answers at this address.
fn identify(server: &Server, pid: i32) -> Result<Foreign, Problem> {
    let stranger = |what| Problem::Stranger(pid, what);
    if pid == 1 {
        return Err(stranger("nothing can take the place of: restart the container instead"));
    }
    if pid == Pid::this().as_raw() {
        return Err(stranger("is this process"));
    }
    let old = Foreign::open(Pid::from_raw(pid))
        .map_err(|_| stranger("does not exist here: is it in a container?"))?;
    let sockets = Sockets::of(&old).map_err(|error| Problem::Rights { pid: old.pid, error })?;
    match sockets.listens_at(&server.url) {
        true => Ok(old),
        false => Err(stranger("does not listen there: is it in a container?")),
    }
}

/// Makes sure, while everything runs, that we have the rights we need.
fn inspect(old: &Foreign, matches: &[Match]) -> Result<(), Problem> {
    let may_not = |pid| move |error| Problem::Rights { pid, error };
    std::fs::read_to_string(format!("/proc/{}/syscall", old.pid)).map_err(may_not(old.pid))?;
    foreign::descriptors_of(old.pid).map_err(may_not(old.pid))?;
    for pid in matches.iter().filter_map(|one| one.old.pid).map(Pid::from_raw) {
        match foreign::descriptors_of(pid) {
            // It may have ended since.
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(may_not(pid)(error)),
            Ok(_) | Err(_) => {}
        }
    }
    Ok(())
}
