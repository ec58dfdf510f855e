//! What is remembered of a process beyond the life of the daemon: the form in which it is written down.
//!
//! Whoever reads a record is another process, perhaps of another version. Fields may be added, with a default for
//! records that lack them; a change of meaning needs a new [`FORMAT`]. Points in time are those of the monotonic clock,
//! which all processes of one boot share.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::KillMode;

/// The version of the form. A reader takes this and all earlier ones, and of later ones what [`Essence`] says.
pub const FORMAT: u32 = 1;

/// Who wrote a journal, and when its contents hold.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// The kernel's `boot_id`: nothing but what an operator wanted holds in another.
    pub boot: String,
    /// The daemon.
    pub daemon: Identity,
    /// Whether that daemon came to its end as asked: then nothing of it runs.
    #[serde(default)]
    pub is_closed: bool,
    /// Those who may keep descriptors of its programs; see `keeper/`.
    #[serde(default)]
    pub keepers: Vec<Identity>,
    /// The configuration file, by which the next daemon knows a journal that is not where it looks first.
    #[serde(default)]
    pub configuration: String,
}

/// One process of the machine, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identity {
    /// Its pid.
    pub pid: i32,
    /// When it started, in clock ticks since boot; 0 if that could not be seen.
    pub start_time: u64,
}

impl Identity {
    /// A process of which `/proc` shows nothing, as with `hidepid` and a program that has other rights than we.
    pub fn unseen(pid: i32) -> Self {
        Self { pid, start_time: 0 }
    }

    /// Whether it can be told from a later process with the same pid.
    pub fn is_seen(self) -> bool {
        self.start_time != 0
    }

    /// Whether what was seen under this pid is this process, and no later one that has its pid.
    pub fn is(self, seen: Option<Self>) -> bool {
        seen == Some(self)
    }
}

/// All that is remembered of one supervised process.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Record {
    /// Its group.
    pub group: String,
    /// Its name within the group.
    pub name: String,
    /// Digest of the settings that only a new child can have; see `config::diff::digest`.
    pub settings: u64,
    /// Digest of the policy that its ends were followed by; see `config::diff::policy_digest`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub policy: Option<u64>,
    /// Whether it shall run, as far as operators have said: a stop takes this away, a start gives it back.
    pub wanted: bool,
    /// Where it is in its life.
    pub life: Life,
    /// The main process, while there is one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub child: Option<Child>,
    /// Written before a spawn: the pipes by which the child is found if nobody lived to write down its pid.
    #[serde(default, skip_serializing_if = "is_default")]
    pub intent: Option<Pipes>,
    /// What has been.
    #[serde(default, skip_serializing_if = "is_default")]
    pub past: Past,
    /// How it is stopped should it no longer be in the configuration.
    pub manner: Manner,
    /// The log files of stdout and stderr.
    #[serde(default, skip_serializing_if = "is_default")]
    pub logs: [Option<PathBuf>; 2],
    /// What dead main processes have left behind.
    #[serde(default, skip_serializing_if = "is_default")]
    pub remains: Remains,
}

impl Record {
    /// Group and name, by which a process is found again.
    pub fn key(&self) -> (&str, &str) {
        (&self.group, &self.name)
    }
}

/// What a line about a process says in every version, so that an earlier one too knows who runs.
#[derive(Debug, Deserialize)]
pub struct Essence {
    process: EssentialProcess,
}

#[derive(Debug, Deserialize)]
struct EssentialProcess {
    group: String,
    name: String,
    #[serde(default)]
    child: Option<EssentialChild>,
}

#[derive(Debug, Deserialize)]
struct EssentialChild {
    identity: Identity,
    #[serde(default)]
    pipes: Pipes,
}

impl Essence {
    /// The record of a main process with settings that are not known, so that another one takes its place.
    ///
    /// # Errors
    /// Group and name of the process if it has none.
    pub fn record(self) -> Result<Record, (String, String)> {
        let EssentialProcess { group, name, child } = self.process;
        let Some(EssentialChild { identity, pipes }) = child else { return Err((group, name)) };
        Ok(Record {
            group,
            name,
            settings: 0,
            policy: None,
            wanted: true,
            life: Life::Running,
            child: Some(Child { identity, pipes, adopted: None, only_writes: false }),
            intent: None,
            past: Past::default(),
            // Supervisor's defaults.
            manner: Manner {
                signal: 15,
                wait: 10,
                stop_group: false,
                kill_group: false,
                killmode: whole_tree(),
            },
            logs: [None, None],
            remains: Remains::default(),
        })
    }
}

/// Where a process is in its life, with what it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Life {
    /// Stopped, or never started.
    Stopped,
    /// About to be spawned, perhaps when leftovers have ended.
    Spawning,
    /// Has a child that is not up yet.
    Starting(Due),
    /// Is up.
    Running,
    /// Waits for its next try.
    Backoff(Due),
    /// Has a child that was sent the stop signal; then follows SIGKILL.
    Stopping(Due),
    /// Has no child any more, and waits for leftovers to end.
    Clearing,
    /// Ended by itself, and is started again then, if so.
    Exited(Option<Due>),
    /// Given up.
    Fatal,
    /// Has a child that could not be signalled.
    Unknown,
}

/// A point on the monotonic clock, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Due(pub u64);

/// A point in time on both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Stamp {
    /// On the monotonic clock.
    pub mono: Due,
    /// Nanoseconds since 1970-01-01 UTC.
    pub unix: u64,
}

/// A main process and what connects it with the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Child {
    /// Which process.
    pub identity: Identity,
    /// Its pipes.
    pub pipes: Pipes,
    /// If another daemon made it: since when this one, or one before it, has it. Seconds since 1970-01-01 UTC.
    #[serde(default, skip_serializing_if = "is_default")]
    pub adopted: Option<u64>,
    /// Whether it can only write to its output pipes, as another kind of daemon has made it: what it writes while no
    /// daemon reads ends it by SIGPIPE.
    #[serde(default, skip_serializing_if = "is_default")]
    pub only_writes: bool,
}

/// The pipes between daemon and child; none where there is no pipe.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Pipes {
    /// Standard input.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stdin: Option<PipeId>,
    /// Standard output.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stdout: Option<PipeId>,
    /// Standard error, if it has a pipe of its own.
    #[serde(default, skip_serializing_if = "is_default")]
    pub stderr: Option<PipeId>,
}

/// The inode number of a pipe: all pipes are on one file system of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PipeId(pub u64);

/// What has been.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Past {
    /// Consecutive failed starts.
    #[serde(default, skip_serializing_if = "is_default")]
    pub failures: u32,
    /// Children made so far.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spawns: u64,
    /// When a spawn was last tried.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spawned: Option<Stamp>,
    /// When it last ended.
    #[serde(default, skip_serializing_if = "is_default")]
    pub ended: Option<Stamp>,
    /// Why it could not be started or signalled, or ended badly, last.
    #[serde(default, skip_serializing_if = "is_default")]
    pub spawn_error: Option<String>,
    /// How it last ended.
    #[serde(default, skip_serializing_if = "is_default")]
    pub exit: Option<crate::process::Exit>,
    /// Whether it starts as soon as what it depends on is up.
    #[serde(default, skip_serializing_if = "is_false")]
    pub held_back: bool,
    /// Whether an operator has stopped it, and not started it since.
    #[serde(default, skip_serializing_if = "is_false")]
    pub stopped: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// How a process is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Manner {
    /// Number of the stop signal.
    pub signal: i32,
    /// Seconds between it and SIGKILL.
    pub wait: u64,
    /// Whether the stop signal goes to the whole process group.
    pub stop_group: bool,
    /// Whether SIGKILL goes to the whole process group.
    pub kill_group: bool,
    /// Which processes that its main process leaves behind are ended.
    #[serde(default = "whole_tree")]
    pub killmode: KillMode,
}

/// What a reader takes for granted is not written: most of a record says that nothing special is the case.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// How all programs were stopped before it was written down: the default of the key.
fn whole_tree() -> KillMode {
    KillMode::Tree
}

/// What dead main processes have left behind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Remains {
    /// Where their end is.
    #[serde(default, skip_serializing_if = "is_default")]
    pub leftovers: Leftovers,
    /// Process groups that have members.
    #[serde(default, skip_serializing_if = "is_default")]
    pub groups: Vec<i32>,
    /// Descendants outside of these groups.
    #[serde(default, skip_serializing_if = "is_default")]
    pub strays: Vec<i32>,
    /// Pipes of dead main processes that others may still write to, or that are not read to their end: of stdout and of
    /// stderr.
    #[serde(default, skip_serializing_if = "is_default")]
    pub outputs: [Vec<PipeId>; 2],
}

/// How it stands with leftovers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Leftovers {
    /// None are known.
    #[default]
    None,
    /// They are left alone.
    Kept,
    /// They were sent a signal; then follows SIGKILL.
    Ending(Due),
    /// They were sent SIGKILL; then they are given up.
    Killed(Due),
}
