//! What changes between two configurations: groups as `reread` names them, processes as `update` treats them.
//!
//! Unlike Supervisor, effective settings are compared truthfully: a log that changes from a path to AUTO is a change,
//! and so are the owner, mode and backlog of a FastCGI socket.

use std::collections::{HashMap, HashSet};

use super::{GroupConfig, GroupKind, OutputConfig, ProgramConfig};

/// Groups that differ, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// In the new configuration only, in its order.
    pub added: Vec<String>,
    /// In both but different, in the new order.
    pub changed: Vec<String>,
    /// Active only, in the order of activation.
    pub removed: Vec<String>,
}

/// Compares the active groups with those of a new configuration.
pub fn compare(active: &[GroupConfig], new: &[GroupConfig]) -> Changes {
    let active_by_name: HashMap<&str, &GroupConfig> =
        active.iter().map(|group| (group.name.as_str(), group)).collect();
    let new_names: HashSet<&str> = new.iter().map(|group| group.name.as_str()).collect();
    let mut changes = Changes::default();
    for group in new {
        match active_by_name.get(group.name.as_str()) {
            None => changes.added.push(group.name.clone()),
            Some(known) if !is_same_group(known, group) => changes.changed.push(group.name.clone()),
            Some(_) => {}
        }
    }
    let removed = active.iter().filter(|group| !new_names.contains(group.name.as_str()));
    changes.removed = removed.map(|group| group.name.clone()).collect();
    changes
}

/// Whether two groups have the same effective settings; the order of variables and events is none.
fn is_same_group(a: &GroupConfig, b: &GroupConfig) -> bool {
    let is_same_process = |(a, b): (&ProgramConfig, &ProgramConfig)| ordered(a) == ordered(b);
    (&a.name, a.priority, ordered_kind(&a.kind)) == (&b.name, b.priority, ordered_kind(&b.kind))
        && a.processes.len() == b.processes.len()
        && a.processes.iter().zip(&b.processes).all(is_same_process)
}

/// `process` with its variables in the order of their names.
fn ordered(process: &ProgramConfig) -> ProgramConfig {
    let mut process = process.clone();
    process.environment.0.sort();
    process
}

fn ordered_kind(kind: &GroupKind) -> GroupKind {
    let mut kind = kind.clone();
    if let GroupKind::EventListener { events, .. } = &mut kind {
        events.sort();
    }
    kind
}

/// What a new configuration means for one process of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessChange {
    /// Nothing.
    Unchanged,
    /// New settings that a running child need not be restarted for.
    Live,
    /// Settings that only a new child has.
    Restart,
    /// The process is new.
    Added,
    /// The process is gone.
    Removed,
}

/// The change of every process, by name: those of `new` in its order, then the removed ones.
pub fn process_changes(old: &GroupConfig, new: &GroupConfig) -> Vec<(String, ProcessChange)> {
    let by_name: HashMap<&str, &ProgramConfig> =
        old.processes.iter().map(|process| (process.name.as_str(), process)).collect();
    let new_names: HashSet<&str> = new.processes.iter().map(|process| process.name.as_str()).collect();
    // A group of another kind treats its children differently: a listener's stdout is a protocol.
    let is_same_kind = ordered_kind(&old.kind) == ordered_kind(&new.kind);
    let of_new = new.processes.iter().map(|process| {
        let change = match by_name.get(process.name.as_str()) {
            None => ProcessChange::Added,
            Some(_) if !is_same_kind => ProcessChange::Restart,
            Some(known) => process_change(&ordered(known), &ordered(process)),
        };
        (process.name.clone(), change)
    });
    let gone = old.processes.iter().filter(|process| !new_names.contains(process.name.as_str()));
    of_new.chain(gone.map(|process| (process.name.clone(), ProcessChange::Removed))).collect()
}

fn process_change(old: &ProgramConfig, new: &ProgramConfig) -> ProcessChange {
    if old == new {
        ProcessChange::Unchanged
    } else if with_live_settings(old, new) == *new {
        ProcessChange::Live
    } else {
        ProcessChange::Restart
    }
}

/// `old` with those settings of `new` that only the daemon acts on.
fn with_live_settings(old: &ProgramConfig, new: &ProgramConfig) -> ProgramConfig {
    let output = |old: &OutputConfig, new: &OutputConfig| OutputConfig {
        maxbytes: new.maxbytes,
        backups: new.backups,
        ..old.clone()
    };
    ProgramConfig {
        program: new.program.clone(),
        priority: new.priority,
        autostart: new.autostart,
        autorestart: new.autorestart,
        startsecs: new.startsecs,
        startretries: new.startretries,
        exitcodes: new.exitcodes.clone(),
        stopsignal: new.stopsignal,
        stopwaitsecs: new.stopwaitsecs,
        stopasgroup: new.stopasgroup,
        killasgroup: new.killasgroup,
        stdout: output(&old.stdout, &new.stdout),
        stderr: output(&old.stderr, &new.stderr),
        ..old.clone()
    }
}
