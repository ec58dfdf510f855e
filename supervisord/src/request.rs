//! What clients may ask of the driver, and its answers, in the words of the domain.
//!
//! Every protocol decodes into [`Request`]s and encodes these answers; no behaviour lives in a protocol.

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use tokio::sync::{mpsc, oneshot, watch};

use crate::{
    config::{ProgramConfig, StopSignal},
    event::EventType,
    output::follow::Follower,
    process::ProcessState,
    subscription::Subscription,
};

/// Why something was refused or failed. Numbers are Supervisor's fault codes where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The daemon is shutting down or restarting.
    ShuttingDown = 6,
    /// No process of this name.
    BadName = 10,
    /// The command, or the log file, does not exist.
    NoFile = 20,
    /// The command is not executable, or cannot be parsed.
    NotExecutable = 21,
    /// Another failure.
    Failed = 30,
    /// The process ended before it was up.
    AbnormalTermination = 40,
    /// It could not be spawned, or exited too quickly.
    SpawnError = 50,
    /// It runs, is starting, or waits for its next try.
    AlreadyStarted = 60,
    /// It does not run.
    NotRunning = 70,
    /// Done.
    Ok = 80,
    /// The group is active.
    AlreadyAdded = 90,
    /// A process of the group still runs.
    StillRunning = 91,
    /// The configuration cannot be read.
    CannotReread = 92,
    /// No group of this name.
    BadGroup = 1001,
    /// Something that it depends on is not up and will not come up by itself.
    DependencyDown = 1003,
}

/// A request as a whole was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Why, for machines.
    pub reason: Reason,
    /// Why, for people.
    pub message: String,
}

impl Refusal {
    /// A refusal with these words.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// Where an answer goes. A client that is gone does not mind.
pub type Reply<T> = oneshot::Sender<T>;
/// An answer that may be a refusal.
pub type Answer<T> = Reply<Result<T, Refusal>>;

/// What a client asks.
#[derive(Debug)]
pub enum Request {
    /// The daemon.
    Info(Reply<DaemonInfo>),
    /// Processes.
    List(Reply<Listing>, ListQuery),
    /// All processes. Whoever asks in the same second, while nothing changes and the answer is in use, gets the same one.
    ListAll(Reply<Arc<Listing>>),
    /// Wakes the receiver whenever a process may have changed.
    Changes(Reply<watch::Receiver<u64>>),
    /// Start, stop, restart or signal processes.
    Operate(Answer<mpsc::Receiver<ProcessResult>>, Operate),
    /// The configuration as last read.
    ListConfiguration(Answer<Vec<ConfiguredProcess>>),
    /// Read the configuration again.
    Reread(Answer<Changes>),
    /// Make the active groups equal to the configuration.
    Update(Answer<mpsc::Receiver<UpdateResult>>, Vec<String>),
    /// Activate a group of the configuration as last read.
    AddGroup(Answer<()>, String),
    /// Forget an active group.
    RemoveGroup(Answer<()>, String),
    /// Stop all processes of a group; one result each.
    StopGroup(Answer<mpsc::Receiver<ProcessResult>>, String),
    /// Stop those processes of a group that cannot take over the configuration as last read while they run.
    StopOutdated(Answer<Outdated>, String),
    /// Give an active group the configuration as last read, then start the processes with these names too.
    ReplaceGroup(Answer<Vec<ProcessUpdate>>, String, BTreeSet<String>),
    /// The path of a log.
    Log(Answer<PathBuf>, LogSource),
    /// Follows a log, beginning so many bytes before its end.
    Follow(Answer<Follower>, LogSource, u64),
    /// Empty the logs of processes.
    ClearLogs(Answer<Vec<ProcessResult>>, Vec<String>),
    /// Empty the daemon's own log.
    ClearDaemonLog(Answer<()>),
    /// Close and open all logs again.
    ReopenLogs(Reply<()>),
    /// Write to a process's stdin.
    WriteStdin(Answer<()>, String, Vec<u8>),
    /// Events of these types as they happen; of no type means of all.
    Events(Reply<Subscription>, Vec<EventType>),
    /// Raise a REMOTE_COMMUNICATION event: its type, its data.
    RemoteEvent(Reply<()>, String, String),
    /// Stop everything and end.
    Shutdown(Answer<()>),
    /// Stop everything and start anew.
    Reload(Answer<()>),
    /// Execute the daemon's binary anew, in place; whether the configuration is to be applied then, as by an update.
    Upgrade(Answer<Upgraded>, bool),
}

/// The daemon is about to be replaced in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upgraded {
    /// Its pid, before and after.
    pub pid: i32,
    /// Version before.
    pub from: String,
    /// Version after.
    pub to: String,
    /// What [`DaemonInfo::generation`] is when it has been replaced.
    pub generation: u32,
}

/// What XML-RPC clients may call. The driver publishes it, so that a call costs one question and not two.
#[derive(Debug, Clone, Default)]
pub struct Interfaces {
    /// Names of the `[rpcinterface:x]` sections: the namespaces of Supervisor's methods.
    pub names: Arc<[String]>,
    /// Whether the daemon is shutting down or restarting.
    pub is_ending: bool,
}

/// Which processes to list.
#[derive(Debug, Default)]
pub struct ListQuery {
    /// Selectors; empty = all.
    pub names: Vec<String>,
    /// Only those that changed after this generation.
    pub since: Option<u64>,
}

/// Processes, and selectors that match none.
#[derive(Debug)]
pub struct Listing {
    /// The processes.
    pub processes: Vec<ProcessInfo>,
    /// Selectors without a match: `BadName` or `BadGroup`.
    pub unmatched: Vec<(String, Reason)>,
    /// How many processes there are, listed or not: who keeps a list notices by it that some are gone.
    pub total: usize,
    /// The generation of this listing, for [`ListQuery::since`].
    pub generation: u64,
}

/// The daemon.
#[derive(Debug)]
pub struct DaemonInfo {
    /// Process id.
    pub pid: i32,
    /// Key `identifier`.
    pub identifier: String,
    /// Start, since 1970-01-01 UTC.
    pub started_at: Duration,
    /// What it is doing.
    pub mode: crate::supervisor::Mode,
    /// Absolute path of the configuration file.
    pub configuration_file: PathBuf,
    /// What works worse than it should.
    pub warnings: Vec<String>,
    /// How often it was replaced in place.
    pub generation: u32,
    /// Why the last attempt to replace it failed after it had been announced.
    pub upgrade_problem: Option<String>,
}

/// One supervised process.
#[derive(Debug, Clone)]
pub struct ProcessInfo {
    /// Name within the group.
    pub name: String,
    /// Group.
    pub group: String,
    /// State.
    pub state: ProcessState,
    /// Supervisor's one-line description.
    pub description: String,
    /// Process id, 0 if none.
    pub pid: i32,
    /// Last spawn attempt since 1970-01-01 UTC.
    pub start: Option<Duration>,
    /// Last end since 1970-01-01 UTC.
    pub stop: Option<Duration>,
    /// Time of this information since 1970-01-01 UTC.
    pub now: Duration,
    /// Why it failed last.
    pub spawn_error: String,
    /// Whether it waits for a process that will not come up by itself.
    pub is_stalled: bool,
    /// Last exit status; −1 if a signal ended it; 0 while it runs.
    pub exit_status: i32,
    /// Signal that ended it last, 0 if none.
    pub exit_signal: i32,
    /// Consecutive failed starts.
    pub retries: u32,
    /// Children made so far.
    pub spawns: u64,
    /// Log of stdout.
    pub stdout_logfile: Option<PathBuf>,
    /// Log of stderr.
    pub stderr_logfile: Option<PathBuf>,
    /// What an administrator should know.
    pub advice: Vec<String>,
    /// Bytes of output that could not be stored.
    pub output_lost: u64,
}

/// An operation on processes.
#[derive(Debug)]
pub struct Operate {
    /// Which operation.
    pub verb: Verb,
    /// Selectors.
    pub names: Vec<String>,
    /// Whether a result is given when the operation has ended, not when it has begun.
    pub wait: bool,
}

/// What to do to processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Start.
    Start,
    /// Stop.
    Stop,
    /// Stop what runs, then start all.
    Restart,
    /// Send this signal.
    Signal(StopSignal),
}

/// What became of an operation on one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessResult {
    /// Its name; the selector if it names nothing.
    pub name: String,
    /// Its group; empty if the selector names nothing.
    pub group: String,
    /// `Ok` or what prevented it.
    pub reason: Reason,
    /// More, for people.
    pub description: String,
    /// Which part of the operation.
    pub phase: Phase,
}

/// Which part of an operation a result belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It has one part.
    Whole,
    /// The stop of a restart.
    Stop,
    /// The start of a restart.
    Start,
}

/// A process of the configuration as last read.
#[derive(Debug, Clone)]
pub struct ConfiguredProcess {
    /// Its settings.
    pub config: Arc<ProgramConfig>,
    /// Group.
    pub group: String,
    /// Whether the group is active.
    pub in_use: bool,
    /// Priority of the group.
    pub group_priority: i32,
    /// Log of stdout, if the process is active and has one.
    pub stdout_logfile: Option<PathBuf>,
    /// Log of stderr, likewise.
    pub stderr_logfile: Option<PathBuf>,
}

/// How the configuration differs from the active groups.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Configured and not active.
    pub added: Vec<String>,
    /// Active with another configuration.
    pub changed: Vec<String>,
    /// Active and not configured.
    pub removed: Vec<String>,
    /// What is accepted and doubtful.
    pub warnings: Vec<String>,
}

/// Processes that are being stopped because their group gets another configuration.
#[derive(Debug)]
pub struct Outdated {
    /// Ends when all of them are at rest.
    pub stops: mpsc::Receiver<ProcessResult>,
    /// Names of those that shall run again.
    pub to_restart: Vec<String>,
}

/// What an update did to one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessUpdate {
    /// Its name within the group.
    pub name: String,
    /// What was done.
    pub action: Action,
}

/// What an update did to a process of a changed group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Nothing: its settings are the same.
    Unchanged,
    /// It has its new settings and is in the state that it was in.
    Applied,
    /// It was stopped, and started with its new settings.
    Restarted,
    /// It was not running and was started, because its new settings ask for it.
    Started,
    /// It is new.
    Added,
    /// It is gone.
    Removed,
}

/// One step of an update.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateStep {
    /// The group.
    pub group: String,
    /// What was done.
    pub step: Step,
    /// What was done to each process of a group that took over another configuration.
    pub processes: Vec<ProcessUpdate>,
}

/// A step of an update, or why there are no further ones: supervisord ends or starts anew.
pub type UpdateResult = Result<UpdateStep, Refusal>;

/// What an update did to a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Its processes were stopped.
    Stopped,
    /// It was removed.
    Removed,
    /// It took over its new configuration.
    Updated,
    /// It was added.
    Added,
    /// It does not exist.
    NoSuchGroup,
    /// A process of it could not be stopped.
    HasProblems,
}

/// Names a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogSource {
    /// The daemon's own.
    Daemon,
    /// Of a process: its `name` or `group:name`, and the stream.
    Process(String, Channel),
}

/// One of the two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Channel {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The way to the driver.
#[derive(Debug, Clone)]
pub struct Handle {
    requests: mpsc::Sender<Request>,
    /// Whether streams to clients are to end: the daemon is about to be replaced in place.
    parting: watch::Sender<bool>,
    interfaces: watch::Sender<Interfaces>,
}

/// The driver has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("supervisord is ending")]
pub struct Ended;

impl From<Ended> for Refusal {
    fn from(ended: Ended) -> Self {
        Self::new(Reason::ShuttingDown, ended.to_string())
    }
}

impl Handle {
    /// A handle and what the driver receives from it. At most 256 requests wait; more clients wait for room.
    pub fn new() -> (Self, mpsc::Receiver<Request>) {
        let (requests, receiver) = mpsc::channel(256);
        let interfaces = watch::Sender::new(Interfaces::default());
        (Self { requests, parting: watch::Sender::new(false), interfaces }, receiver)
    }

    /// Ends the streams of all clients, or lets new ones begin again.
    pub fn set_parting(&self, parting: bool) {
        self.parting.send_replace(parting);
    }

    /// Waits until streams to clients are to end. Cancel-safe.
    pub fn parting(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut parting = self.parting.subscribe();
        async move {
            if parting.wait_for(|parting| *parting).await.is_err() {
                // Nobody is left who could say so.
                std::future::pending().await
            }
        }
    }

    /// Publishes what clients may call, where it has changed. The driver does so before anybody sees what it has answered
    /// since: all tasks share one thread.
    pub fn publish(&self, names: &Arc<[String]>, is_ending: bool) {
        self.interfaces.send_if_modified(|known| {
            let is_news = known.is_ending != is_ending || !Arc::ptr_eq(&known.names, names);
            if is_news {
                *known = Interfaces { names: Arc::clone(names), is_ending };
            }
            is_news
        });
    }

    /// What clients may call.
    ///
    /// # Errors
    /// [`Ended`] when the driver is gone.
    pub fn interfaces(&self) -> Result<Interfaces, Ended> {
        if self.requests.is_closed() { Err(Ended) } else { Ok(self.interfaces.borrow().clone()) }
    }

    /// Asks the driver and waits for the answer.
    ///
    /// # Errors
    /// [`Ended`] when the driver is gone.
    pub async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Ended> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| Ended)?;
        answer.await.map_err(|_| Ended)
    }

    /// As [`Handle::ask`], for answers that may be refusals.
    ///
    /// # Errors
    /// The refusal; `ShuttingDown` when the driver is gone.
    pub async fn ask_for<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, Refusal> {
        self.ask(request).await?
    }
}
