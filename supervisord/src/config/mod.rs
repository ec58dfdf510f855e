//! The configuration as typed values: what the keys of Supervisor's INI file mean, with their defaults.
//!
//! Owns the types that the rest of the program works with. How text becomes these values: `ini` reads the
//! dialect, `expand` replaces `%(name)s`, `parse` types one value, `load` finds and reads files and assembles
//! a [`Config`], `diff` compares two.
//!
//! Source of keys, defaults and accepted forms: Supervisor 4.3.

pub mod ctl;
pub mod daemon;
pub mod dependencies;
pub mod diff;
pub mod environment;
pub mod error;
pub mod evaluation;
pub mod expand;
pub mod groups;
pub mod ini;
pub mod keys;
pub mod load;
pub mod parse;
pub mod programs;
pub mod python;
pub mod servers;
pub mod shlex;

use std::{collections::BTreeMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use nix::sys::signal::Signal;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::event::EventType;

/// A whole configuration, after includes and expansion.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Config {
    /// The daemon itself: `[supervisord]`.
    pub daemon: DaemonConfig,
    /// `[unix_http_server]` and `[inet_http_server]` sections, inet first, each kind in the order of the file.
    pub servers: Vec<ServerConfig>,
    /// Groups to supervise, ordered by priority, then name.
    pub groups: Vec<GroupConfig>,
    /// `[rpcinterface:x]` sections: name to its keys.
    pub rpc_interfaces: BTreeMap<String, BTreeMap<String, String>>,
}

/// `[supervisord]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DaemonConfig {
    /// The daemon's own log. Key `logfile`, default `supervisord.log` in the working directory; `syslog` allowed.
    pub logfile: DaemonLog,
    /// Size in bytes at which its log is rotated, 0 = never. Key `logfile_maxbytes`, default 50 MiB.
    pub logfile_maxbytes: u64,
    /// Rotated files to keep. Key `logfile_backups`, default 10.
    pub logfile_backups: u32,
    /// Least important messages to log. Key `loglevel`, default `info`.
    pub loglevel: LogLevel,
    /// Absolute path of the pidfile. Key `pidfile`, default `supervisord.pid` in the working directory.
    pub pidfile: PathBuf,
    /// File mode mask of a daemonized supervisord. Key `umask`, octal, default 022.
    pub umask: u32,
    /// Stay in the foreground. Key `nodaemon`, default false.
    pub nodaemon: bool,
    /// In the foreground, do not repeat the log on stdout. Key `silent`, default false.
    pub silent: bool,
    /// File descriptors that must be available. Key `minfds`, default 1024.
    pub minfds: u64,
    /// Processes that must be available. Key `minprocs`, default 200.
    pub minprocs: u64,
    /// User to become. Key `user`, default none.
    pub user: Option<User>,
    /// Name that clients see. Key `identifier`, default `supervisor`.
    pub identifier: String,
    /// Working directory of a daemonized supervisord. Key `directory`, default none.
    pub directory: Option<PathBuf>,
    /// Directory for AUTO logs. Key `childlogdir`, default the system's temporary directory.
    pub childlogdir: PathBuf,
    /// Keep AUTO logs of earlier runs. Key `nocleanup`, default false.
    pub nocleanup: bool,
    /// Remove ANSI escape sequences from captured output. Key `strip_ansi`, default false.
    pub strip_ansi: bool,
    /// What SIGHUP does. Key `reload`, not in Supervisor, default `restart`.
    pub reload: Reload,
    /// Directory of the journal, by which the next daemon takes over what runs if this one dies. Key
    /// `runtime_directory`, not in Supervisor, default beside the pidfile: its path with `.state` for `.pid`.
    pub runtime_directory: PathBuf,
    /// Keep stopped what an operator has stopped, also after an orderly end and a new start. Key `remember_stopped`, not
    /// in Supervisor, default false.
    pub remember_stopped: bool,
    /// What becomes of programs that do not say so themselves. Key `on_daemon_death`, not in Supervisor, default `keep`.
    pub on_daemon_death: DaemonDeath,
    /// Variables for every program, in order of appearance. Key `environment`.
    pub environment: Environment,
}

/// Key `reload`: what SIGHUP does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reload {
    /// `restart`: stops everything and starts anew, as in Supervisor.
    Restart,
    /// `keep`: replaces the daemon in place and applies the configuration; programs that did not change go on.
    Keep,
}

/// Key `on_daemon_death`: what becomes of a program when the daemon dies without having stopped it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DaemonDeath {
    /// `keep`: it runs on, as in Supervisor.
    #[default]
    Keep,
    /// `stop`: it ends within a second.
    Stop,
}

/// Where the daemon's own log goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum DaemonLog {
    /// To this file (absolute path).
    File(PathBuf),
    /// To syslog.
    Syslog,
}

/// Importance of a message in the daemon's log; Supervisor's levels, most important first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// CRIT
    Critical,
    /// ERRO
    Error,
    /// WARN
    Warn,
    /// INFO
    Info,
    /// DEBG
    Debug,
    /// TRAC
    Trace,
    /// BLAT
    Blather,
}

/// A listening socket for clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ServerConfig {
    /// Name of its section, for example `unix_http_server` or `inet_http_server:a`.
    pub section: String,
    /// Where it listens.
    pub listen: Listen,
    /// What clients must present; `None` = nothing.
    pub credentials: Option<Credentials>,
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Listen {
    /// `[unix_http_server]`.
    Unix {
        /// Absolute path. Key `file`.
        path: PathBuf,
        /// Mode of the socket file. Key `chmod`, octal, default 0700.
        mode: u32,
        /// Owner, and group if given. Key `chown`, default unchanged.
        owner: Option<Owner>,
    },
    /// `[inet_http_server]`. Key `port`.
    Inet {
        /// Host as written in lower case; empty = all interfaces.
        host: String,
        /// Port, 1–65535.
        port: u16,
    },
}

impl Listen {
    /// The URL a client on this machine uses, as in `SUPERVISOR_SERVER_URL`: `unix:///path` or `http://host:port`.
    pub fn url(&self) -> String {
        match self {
            Self::Unix { path, .. } => format!("unix://{}", path.display()),
            Self::Inet { host, port } if host.is_empty() => format!("http://localhost:{port}"),
            Self::Inet { host, port } => format!("http://{host}:{port}"),
        }
    }
}

/// User name and password of a server or client. Neither is ever printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Key `username`.
    pub username: String,
    /// Key `password`: clear text, or `{SHA}` and the hexadecimal SHA-1 of the password.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

impl Serialize for Credentials {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("(hidden)")
    }
}

/// A user of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
}

/// Owner of a socket file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Variables in order of appearance; a later one of the same name has replaced the earlier.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment(pub Vec<(String, String)>);

impl Environment {
    /// Sets `name`, in place when it is already there.
    pub fn set(&mut self, name: String, value: String) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some(pair) => pair.1 = value,
            None => self.0.push((name, value)),
        }
    }

    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// These variables, overridden by those of `other`.
    pub fn merged(&self, other: &Self) -> Self {
        let mut all = self.clone();
        for (name, value) in &other.0 {
            all.set(name.clone(), value.clone());
        }
        all
    }
}

/// A group of processes, supervised, added and removed together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupConfig {
    /// Its name.
    pub name: String,
    /// Order among groups: lower starts first and stops last. Default 999; −1 for event listeners.
    pub priority: i32,
    /// What kind of section it comes from.
    pub kind: GroupKind,
    /// Its processes: those of one section by priority and name; those of a `[group:x]` in the order of `programs`.
    #[serde(serialize_with = "contents", deserialize_with = "with_contents")]
    pub processes: Vec<Arc<ProgramConfig>>,
}

fn contents<S: Serializer>(processes: &[Arc<ProgramConfig>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(processes.iter().map(|process| &**process))
}

fn with_contents<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Arc<ProgramConfig>>, D::Error> {
    Ok(Vec::<ProgramConfig>::deserialize(deserializer)?.into_iter().map(Arc::new).collect())
}

/// What kind of section a group comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupKind {
    /// `[program:x]` alone.
    Program,
    /// `[group:x]`.
    Group,
    /// `[eventlistener:x]`.
    EventListener {
        /// Event types in the order of the file. Key `events`.
        events: Vec<EventType>,
        /// Events kept while all listeners are busy. Key `buffer_size`, default none: as many as a storm brings, see
        /// `event::Buffering`.
        buffer_size: Option<u32>,
        /// Key `result_handler`.
        result_handler: ResultHandler,
        /// What `len` counts in the header of an event. Key `event_length`, not in Supervisor.
        #[serde(default)]
        event_length: EventLength,
    },
    /// `[fcgi-program:x]` alone.
    FastCgi,
}

/// Key `event_length`: what `len` counts in the header of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EventLength {
    /// What the listener counts, as far as the program that runs it tells. The default.
    #[default]
    Auto,
    /// Bytes.
    Bytes,
    /// Characters.
    Characters,
}

/// Who judges the results that listeners give. Supervisor calls any Python function; these are known by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum ResultHandler {
    /// `OK` is good, everything else rejects the event. The default.
    #[default]
    #[serde(rename = "supervisor.dispatchers:default_handler")]
    Default,
    /// That of the plug-in `supervisor-stdout`: what programs print appears on the daemon's stdout.
    #[serde(rename = "supervisor_stdout:event_handler")]
    SupervisorStdout,
}

impl ResultHandler {
    /// All that are known.
    pub const ALL: [Self; 2] = [Self::Default, Self::SupervisorStdout];

    /// As the configuration names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Default => "supervisor.dispatchers:default_handler",
            Self::SupervisorStdout => "supervisor_stdout:event_handler",
        }
    }
}

/// The listening socket that all processes of a `[fcgi-program:x]` share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FastCgi {
    /// Where it listens. Key `socket`.
    pub socket: FastCgiSocket,
    /// Owner of a unix socket. Key `socket_owner`.
    pub owner: Option<Owner>,
    /// Mode of a unix socket. Key `socket_mode`, octal, default 0700.
    pub mode: u32,
    /// Length of the queue of new connections; `None` = the system's. Key `socket_backlog`.
    pub backlog: Option<u32>,
}

/// Where the socket of a `[fcgi-program:x]` listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FastCgiSocket {
    /// `tcp://host:port`, host in lower case.
    Tcp(String, u16),
    /// `unix:///path`.
    Unix(PathBuf),
}

impl FastCgiSocket {
    /// As in the configuration: `unix:///path` or `tcp://host:port`.
    pub fn url(&self) -> String {
        match self {
            Self::Tcp(host, port) => format!("tcp://{host}:{port}"),
            Self::Unix(path) => format!("unix://{}", path.display()),
        }
    }
}

/// One supervised process: a `[program:x]` section for one `process_num`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramConfig {
    /// Name of the section without its kind: `x`.
    pub program: String,
    /// Name of the process. Key `process_name`, default `%(program_name)s`.
    pub name: String,
    /// Command line, after expansion. Key `command`; split like Python's `shlex.split` when it is spawned.
    pub command: String,
    /// Order within the group. Key `priority`, default 999.
    pub priority: i32,
    /// Start with its group. Key `autostart`, default true.
    pub autostart: bool,
    /// When to start it again after it ended. Key `autorestart`, default `unexpected`.
    pub autorestart: AutoRestart,
    /// Time that it must stay up to count as started. Key `startsecs`, whole seconds, default 1.
    pub startsecs: Duration,
    /// Failed starts in a row that are tried again. Key `startretries`, default 3.
    pub startretries: u32,
    /// Exit statuses that are expected. Key `exitcodes`, default 0.
    pub exitcodes: Vec<u8>,
    /// Signal that asks it to stop. Key `stopsignal`, default TERM.
    pub stopsignal: StopSignal,
    /// Time between `stopsignal` and SIGKILL. Key `stopwaitsecs`, whole seconds, default 10.
    pub stopwaitsecs: Duration,
    /// Send the stop signal to the whole process group. Key `stopasgroup`, default false.
    pub stopasgroup: bool,
    /// Send SIGKILL to the whole process group. Key `killasgroup`, default as `stopasgroup`.
    pub killasgroup: bool,
    /// What is ended with the main process. Key `killmode`, not in Supervisor, default `tree`.
    pub killmode: KillMode,
    /// What becomes of it when the daemon dies. Key `on_daemon_death`, not in Supervisor, default that of `[supervisord]`.
    #[serde(default)]
    pub on_daemon_death: DaemonDeath,
    /// User to run it as. Key `user`, default none: as the daemon.
    pub user: Option<User>,
    /// Set HOME, USER, LOGNAME and SHELL to those of `user`. Key `login_environment`, not in Supervisor, default false.
    pub login_environment: bool,
    /// Send stderr where stdout goes. Key `redirect_stderr`, default false.
    pub redirect_stderr: bool,
    /// Where stdout goes.
    pub stdout: OutputConfig,
    /// Where stderr goes.
    pub stderr: OutputConfig,
    /// Variables of `[supervisord]` overridden by those of the program. Key `environment`.
    pub environment: Environment,
    /// Working directory. Key `directory`, default none: the daemon's.
    pub directory: Option<PathBuf>,
    /// File mode mask. Key `umask`, octal, default none: the daemon's.
    pub umask: Option<u32>,
    /// The socket that is its stdin; `None` for all but FastCGI programs.
    pub fastcgi: Option<FastCgi>,
    /// Value of `SUPERVISOR_SERVER_URL`; `None` (also for AUTO) = the daemon's own. Key `serverurl`.
    pub serverurl: Option<String>,
    /// What must be up before it is started. Key `depends_on`, not in Supervisor, default none.
    #[serde(default)]
    pub depends_on: Vec<Dependency>,
}

/// Key `depends_on`: processes that must be up before another is started.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dependency {
    /// All processes of the section `[program:x]`, `[fcgi-program:x]` or `[eventlistener:x]`, in whatever groups: `x`.
    Program(String),
    /// All processes of a group: `g` where no program is called so, or `g:*`.
    Group(String),
    /// One process of a group: `g:x`.
    Process {
        /// The group.
        group: String,
        /// The process.
        name: String,
    },
}

impl fmt::Display for Dependency {
    /// As it is written in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program(name) => f.write_str(name),
            Self::Group(group) => write!(f, "{group}:*"),
            Self::Process { group, name } => write!(f, "{group}:{name}"),
        }
    }
}

/// Where one output stream goes and what else is done with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputConfig {
    /// Key `stdout_logfile` / `stderr_logfile`, default AUTO.
    pub logfile: LogTarget,
    /// Size in bytes at which the file is rotated, 0 = never. Key `…_logfile_maxbytes`, default 50 MiB.
    pub maxbytes: u64,
    /// Rotated files to keep. Key `…_logfile_backups`, default 10.
    pub backups: u32,
    /// Size in bytes of the buffer for PROCESS_COMMUNICATION events, 0 = off. Key `…_capture_maxbytes`.
    pub capture_maxbytes: u64,
    /// Emit PROCESS_LOG events. Key `…_events_enabled`, default false.
    pub events_enabled: bool,
    /// Send each line to syslog too. Key `…_syslog`, default false.
    pub syslog: bool,
}

/// The file that a stream is written to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogTarget {
    /// No file.
    None,
    /// A file of its own in `childlogdir`, named when the group is added.
    Auto,
    /// This path: absolute, or relative to the daemon's working directory.
    File(PathBuf),
}

/// Key `autorestart`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AutoRestart {
    /// `false`
    Never,
    /// `unexpected`: when the exit status is not in `exitcodes`, or a signal ended it.
    Unexpected,
    /// `true`
    Always,
}

/// Key `killmode`: which processes of a program are ended when its main process has died, before a replacement starts
/// and before a stop is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KillMode {
    /// `process`: none, as in Supervisor.
    Process,
    /// `group`: its process group.
    Group,
    /// `tree`: its process group, and descendants that left it.
    Tree,
}

/// Key `stopsignal`: a signal number, real-time signals included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopSignal(pub i32);

impl StopSignal {
    /// SIGTERM.
    pub const TERM: Self = Self(libc::SIGTERM);
    /// SIGKILL.
    pub const KILL: Self = Self(libc::SIGKILL);

    /// Its name as Supervisor prints it: `SIGTERM`, or `signal 40`.
    pub fn name(self) -> String {
        Signal::try_from(self.0)
            .map_or_else(|_| format!("signal {}", self.0), |signal| signal.as_str().to_owned())
    }
}

/// `[supervisorctl]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CtlConfig {
    /// Where the daemon listens: `unix:///path` or `http://host:port`. Key `serverurl`, default `http://localhost:9001`.
    pub serverurl: String,
    /// Keys `username` and `password`.
    pub username: Option<String>,
    /// See `username`.
    pub password: Option<String>,
    /// Key `prompt`, default `supervisor`.
    pub prompt: String,
    /// Key `history_file`, default none.
    pub history_file: Option<PathBuf>,
}
