//! What belongs to what: the old daemon's processes to our configuration, its descriptors to its children. ◆

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use crate::api::xmlrpc::value::Value;
use crate::config::{GroupConfig, GroupKind, ProgramConfig};
use crate::os::foreign::{Descriptor, Direction, Object};
use crate::process::ProcessState;

/// A process as the old daemon tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldProcess {
    /// Its group.
    pub group: String,
    /// Its name.
    pub name: String,
    /// The main process, if there is one.
    pub pid: Option<i32>,
    /// Its state.
    pub state: ProcessState,
    /// When it was last spawned, in seconds since 1970; 0 = never.
    pub start: u64,
    /// When it last ended, likewise.
    pub stop: u64,
    /// Its last exit status; −1 after a signal.
    pub exit_status: i32,
    /// Why it could not be started; empty if it could.
    pub spawn_error: String,
    /// The log of its stdout, AUTO names told.
    pub stdout_log: Option<PathBuf>,
    /// The log of its stderr, likewise.
    pub stderr_log: Option<PathBuf>,
}

impl OldProcess {
    /// Reads a structure of `getProcessInfo`; `None` when it is another one.
    pub fn read(info: &Value) -> Option<Self> {
        let text = |name| info.member(name).and_then(Value::as_text);
        let int = |name| info.member(name).and_then(Value::as_int);
        let code = int("state")?;
        let log = |name| text(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        Some(Self {
            group: text("group")?.to_owned(),
            name: text("name")?.to_owned(),
            pid: Some(i32::try_from(int("pid")?).ok()?).filter(|pid| *pid > 0),
            state: ProcessState::ALL.into_iter().find(|state| i64::from(state.code()) == code)?,
            start: u64::try_from(int("start")?).unwrap_or(0),
            stop: u64::try_from(int("stop")?).unwrap_or(0),
            exit_status: i32::try_from(int("exitstatus")?).unwrap_or(-1),
            spawn_error: text("spawnerr")?.to_owned(),
            stdout_log: log("stdout_logfile"),
            stderr_log: log("stderr_logfile"),
        })
    }

    /// `group:name`, or the name alone where they are the same.
    pub fn full_name(&self) -> String {
        if self.group == self.name { self.name.clone() } else { format!("{}:{}", self.group, self.name) }
    }
}

/// Why a process cannot be taken over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It runs, and we would not know what to do with it.
    #[error(
        "{name} is {state}, and the configuration has no such process: add it, or stop it with supervisorctl stop {name}"
    )]
    NotConfigured {
        /// The process.
        name: String,
        /// Its state.
        state: ProcessState,
    },
    /// How long it may still take is known to the old daemon only.
    #[error("{0} is being stopped: try again when it has stopped")]
    Stopping(String),
    /// The old daemon has lost it.
    #[error("{0} is in state UNKNOWN: end it by hand, and restart it with supervisorctl restart {0}")]
    Unknown(String),
}

/// A process of the old daemon, and its settings.
#[derive(Debug, Clone)]
pub struct Match {
    /// What the old daemon tells.
    pub old: OldProcess,
    /// Its settings.
    pub config: Arc<ProgramConfig>,
    /// What kind of section its group comes from.
    pub kind: GroupKind,
}

/// Finds the settings of every process. A process that does not run and is not configured is left out: there is
/// nothing to carry on.
///
/// # Errors
/// Every process that cannot be taken over.
pub fn match_processes(old: &[OldProcess], groups: &[GroupConfig]) -> Result<Vec<Match>, Vec<Refusal>> {
    let mut matches = Vec::new();
    let mut refusals = Vec::new();
    for process in old {
        let name = process.full_name();
        let group = groups.iter().find(|group| group.name == process.group);
        // Of two processes with one name the later is the one that runs.
        let found = group.and_then(|group| {
            let config = group.processes.iter().rev().find(|config| config.name == process.name)?;
            Some((group, config))
        });
        match (process.state, found) {
            (ProcessState::Stopping, _) => refusals.push(Refusal::Stopping(name)),
            (ProcessState::Unknown, _) => refusals.push(Refusal::Unknown(name)),
            (_, Some((group, config))) => matches.push(Match {
                old: process.clone(),
                config: Arc::clone(config),
                kind: group.kind.clone(),
            }),
            (state, None) if !state.is_stopped() => refusals.push(Refusal::NotConfigured { name, state }),
            (_, None) => {}
        }
    }
    if refusals.is_empty() { Ok(matches) } else { Err(refusals) }
}

/// A child of the old daemon and what it has open.
#[derive(Debug, Clone, Default)]
pub struct Child {
    /// Its pid.
    pub pid: i32,
    /// Whether its stderr was sent where its stdout goes.
    pub redirect_stderr: bool,
    /// What it has open.
    pub own: Vec<Descriptor>,
    /// What processes that it has started have open.
    pub family: Vec<Descriptor>,
}

/// Descriptors of the old daemon that belong to one child.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ends {
    /// Writes to its stdin.
    pub stdin: Option<Descriptor>,
    /// Reads its stdout.
    pub stdout: Option<Descriptor>,
    /// Reads its stderr, if that is captured on its own.
    pub stderr: Option<Descriptor>,
    /// The listening socket that is its stdin.
    pub socket: Option<Descriptor>,
}

impl Ends {
    /// Those that are pipes.
    pub fn pipes(&self) -> impl Iterator<Item = Descriptor> + use<> {
        self.stdin.into_iter().chain(self.stdout).chain(self.stderr)
    }
}

/// Which descriptor of the old daemon is whose.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignment {
    /// By the pid of the child.
    pub ends: BTreeMap<i32, Ends>,
    /// Pipes that belong to no child, as far as can be seen.
    pub left_over: Vec<Descriptor>,
}

/// Gives every pipe of the old daemon to the child that has its other end, and every FastCGI socket to all children
/// that have it. Standard descriptors count before others, and those of a child before those of its family.
pub fn assign(daemon: &[Descriptor], children: &[Child]) -> Assignment {
    let own = objects_of_its_own(daemon);
    let is_pipe = |held: &&Descriptor| matches!(held.object, Object::Pipe(_)) && !own.contains(&held.object);
    let mut free: Vec<Descriptor> = daemon.iter().filter(is_pipe).copied().collect();
    let mut shares: BTreeMap<i32, Vec<Descriptor>> = BTreeMap::new();
    let is_standard = |descriptor: &&Descriptor| descriptor.number < 3;
    type View<'a> = &'a dyn Fn(&Child) -> Vec<Descriptor>;
    let views: [View<'_>; 3] = [
        &|child| child.own.iter().filter(is_standard).copied().collect(),
        &|child| child.own.clone(),
        &|child| child.family.clone(),
    ];
    for view in views {
        for child in children {
            let held = view(child);
            let (its, others) =
                free.iter().partition(|end| held.iter().any(|other| is_other_end(end, other)));
            free = others;
            shares.entry(child.pid).or_default().append(&mut { its });
        }
    }
    let mut assignment = Assignment { ends: BTreeMap::new(), left_over: free };
    for child in children {
        let share = shares.remove(&child.pid).unwrap_or_default();
        let ends = Ends { socket: socket_of(daemon, child), ..sort(&share, child) };
        let is_used = |end: &Descriptor| ends.pipes().any(|used| used == *end);
        assignment.left_over.extend(share.iter().filter(|end| !is_used(end)));
        assignment.ends.insert(child.pid, ends);
    }
    assignment
}

/// What leads to no child: its standard descriptors, and pipes of which it has both ends.
fn objects_of_its_own(daemon: &[Descriptor]) -> BTreeSet<Object> {
    let with =
        |direction| daemon.iter().filter(move |held| held.direction == direction).map(|held| held.object);
    let written: BTreeSet<Object> = with(Direction::Write).collect();
    let standard = daemon.iter().filter(|held| held.number < 3).map(|held| held.object);
    with(Direction::Read).filter(|object| written.contains(object)).chain(standard).collect()
}

/// Whether what is written to one comes out of the other.
fn is_other_end(end: &Descriptor, other: &Descriptor) -> bool {
    end.object == other.object
        && match end.direction {
            Direction::Read => other.direction != Direction::Read,
            Direction::Write => other.direction != Direction::Write,
            Direction::Both => true,
        }
}

/// The socket that a FastCGI program has as its stdin, if the old daemon has it too.
fn socket_of(daemon: &[Descriptor], child: &Child) -> Option<Descriptor> {
    let stdin = child.own.iter().find(|descriptor| descriptor.number == 0)?;
    let is_it = |descriptor: &&Descriptor| descriptor.object == stdin.object;
    daemon.iter().filter(|descriptor| matches!(descriptor.object, Object::Socket(_))).find(is_it).copied()
}

/// Tells the pipes of one child apart. The daemon makes them in the order stdin, stdout, stderr and gets the lowest free
/// numbers, so of two outputs the one with the lower number is stdout, wherever the child has put them since.
fn sort(share: &[Descriptor], child: &Child) -> Ends {
    let mut share = share.to_vec();
    share.sort_by_key(|end| end.number);
    let stdin = share.iter().find(|end| end.direction == Direction::Write).copied();
    let mut outputs = share.into_iter().filter(|end| end.direction != Direction::Write);
    match (outputs.next(), outputs.next()) {
        (Some(stdout), Some(stderr)) => {
            Ends { stdin, stdout: Some(stdout), stderr: Some(stderr), socket: None }
        }
        (Some(only), None) if is_stderr(&only, child) => {
            Ends { stdin, stderr: Some(only), ..Ends::default() }
        }
        (only, _) => Ends { stdin, stdout: only, ..Ends::default() },
    }
}

/// Whether the only output that is left of a child is its stderr: it closed its stdout, or sent it elsewhere.
fn is_stderr(only: &Descriptor, child: &Child) -> bool {
    let is_at = |number| child.own.iter().any(|held| held.number == number && held.object == only.object);
    !child.redirect_stderr && is_at(2) && !is_at(1)
}

#[cfg(test)]
#[path = "plan/tests.rs"]
mod tests;
