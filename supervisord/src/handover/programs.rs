//! The programs in a [`State`](super::State): settings of the active groups, where each process is in its life, and its
//! descriptors.

use std::{os::fd::RawFd, path::PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    config::{Config, GroupConfig},
    event::{CarriedListener, CarriedPool},
    journal::record::{Child, Leftovers, Life, Past},
    os::group::ForeignGroup,
    output::Held,
    process::{Memory, Pid},
};

/// All programs.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Programs {
    /// The active groups, in order, with the settings that they have; see [`Programs::understand`].
    #[serde(default)]
    pub groups: Vec<Value>,
    /// Their processes.
    #[serde(default)]
    pub processes: Vec<Carried>,
    /// Logs that no process has any more, whose pipes somebody holds all the same.
    #[serde(default)]
    pub removed: Vec<CarriedLog>,
    /// What result handlers have printed and the daemon's stdout has not taken yet.
    #[serde(default)]
    pub printed: CarriedLog,
    /// Listening sockets of FastCGI programs.
    #[serde(default)]
    pub sockets: Vec<CarriedSocket>,
    /// Events that wait for listeners.
    #[serde(default)]
    pub pools: Vec<CarriedPool>,
    /// The number of the next event.
    #[serde(default)]
    pub next_serial: u64,
}

/// One process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Carried {
    /// Its group.
    pub group: String,
    /// Its name within the group.
    pub name: String,
    /// Whether operators want it to run.
    #[serde(default)]
    pub wanted: bool,
    /// Where it is in its life.
    pub life: Life,
    /// Its main process.
    #[serde(default)]
    pub pid: Option<i32>,
    /// Who that is, for the journal.
    #[serde(default)]
    pub child: Option<Child>,
    /// Tells its end, if it is not our child.
    #[serde(default)]
    pub pidfd: Option<RawFd>,
    /// What has been.
    #[serde(default)]
    pub past: Past,
    /// How it stands with what dead main processes left behind.
    #[serde(default)]
    pub leftovers: Leftovers,
    /// Their process groups.
    #[serde(default)]
    pub groups: Vec<i32>,
    /// More about those among them whose main processes were not our children.
    #[serde(default)]
    pub foreign_groups: Vec<ForeignGroup>,
    /// Descendants outside of these.
    #[serde(default)]
    pub strays: Vec<i32>,
    /// Writes to its standard input.
    #[serde(default)]
    pub stdin: Option<RawFd>,
    /// Where an event listener is in its protocol.
    #[serde(default)]
    pub listener: Option<CarriedListener>,
    /// What waits to be written to its standard input.
    #[serde(default)]
    pub outbox: Vec<u8>,
    /// The logs of stdout and stderr.
    #[serde(default)]
    pub logs: [CarriedLog; 2],
    /// What an administrator should know about it.
    #[serde(default)]
    pub advice: Vec<String>,
}

/// One log of a process.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CarriedLog {
    /// The file, whose name may have been made up.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// Pipes that it takes.
    #[serde(default)]
    pub pipes: Vec<CarriedPipe>,
    /// What was read from a pipe and could not be written yet.
    #[serde(default)]
    pub pending: Vec<u8>,
    /// Bytes lost so far.
    #[serde(default)]
    pub lost: u64,
}

/// The listening socket of a FastCGI program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedSocket {
    /// Name of the program's section.
    pub program: String,
    /// `unix:///path` or `tcp://host:port`.
    pub url: String,
    /// The descriptor.
    pub fd: RawFd,
}

/// A pipe from which a log is written.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CarriedPipe {
    /// The descriptor.
    pub fd: RawFd,
    /// Whether the main process that had it is gone.
    #[serde(default)]
    pub released: bool,
    /// What was read and is held back until it is known what follows.
    #[serde(default)]
    pub held: Held,
}

impl Carried {
    /// What the state machine remembers.
    pub fn memory(&self) -> Memory {
        Memory {
            wanted: self.wanted,
            life: self.life,
            pid: self.pid.map(Pid::from_raw),
            past: self.past.clone(),
            leftovers: self.leftovers,
        }
    }
}

impl Programs {
    /// The groups as this version understands them. A setting that the writer did not know is as in `config`, which
    /// was read just now.
    ///
    /// # Errors
    /// Names a group with settings that this version does not have.
    pub fn understand(&self, config: &Config) -> Result<Vec<GroupConfig>, String> {
        self.groups.iter().map(|group| understand(group, config)).collect()
    }
}

fn understand(group: &Value, config: &Config) -> Result<GroupConfig, String> {
    let name = group["name"].as_str().unwrap_or_default();
    serde_json::from_value(group.clone()).or_else(|error| {
        let known = config.groups.iter().find(|known| known.name == name).or(config.groups.first());
        let completed = known
            .and_then(|known| serde_json::to_value(known).ok())
            .and_then(|known| serde_json::from_value(completed(group, &known)).ok());
        completed.ok_or_else(|| format!("the settings of group {name:?} are not understood: {error}"))
    })
}

/// `value`, with what it lacks from `pattern`; every element of a list has the first one of the pattern's.
fn completed(value: &Value, pattern: &Value) -> Value {
    match (value, pattern) {
        (Value::Object(fields), Value::Object(known)) => {
            let mut all = known.clone();
            for (name, field) in fields {
                let field = known.get(name).map_or_else(|| field.clone(), |known| completed(field, known));
                all.insert(name.clone(), field);
            }
            Value::Object(all)
        }
        (Value::Array(elements), Value::Array(known)) => {
            let first = known.first().unwrap_or(&Value::Null);
            Value::Array(elements.iter().map(|element| completed(element, first)).collect())
        }
        (other, _) => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_the_writer_did_not_know_is_as_in_the_pattern() {
        let old = json!({"name": "g", "processes": [{"name": "a", "x": 1}, {"name": "b", "x": 2}]});
        let pattern = json!({"name": "g", "kind": "program", "processes": [{"name": "a", "x": 9, "y": 3}]});
        let expected = json!({
            "name": "g", "kind": "program",
            "processes": [{"name": "a", "x": 1, "y": 3}, {"name": "b", "x": 2, "y": 3}],
        });
        assert_eq!(completed(&old, &pattern), expected);
    }
}
