//! What a daemon leaves whose place was taken: its processes as if they had been written down, and our ends of their
//! pipes and sockets. `crash` goes on from there.

use std::{collections::BTreeMap, os::fd::OwnedFd};

use tracing::{info, warn};

use super::{Driver, adopt::Adopted, keep::Keeper, sockets::SocketKey};
use crate::{
    clock::Moment,
    continuity::heir::Bond,
    journal::{
        Snapshot,
        record::{Child, FORMAT, Header, Pipes, Record, Remains},
    },
    os::search,
    takeover::{Estate, record, seize::Grip},
};

/// What connects us with running processes, by group and name.
pub(super) type Grips = BTreeMap<(String, String), Grip>;

impl Driver {
    /// Puts what the old daemon has told in the place of what the journal says; where it was one of ours and has written
    /// down the same process, that is more. Returns what connects us with those that run.
    pub(super) fn take_estate(&mut self, estate: Estate, now: Moment) -> Grips {
        let Estate { daemon, processes, keepers, .. } = estate;
        let found = std::mem::take(&mut self.inheritance);
        let is_its = found.is_of_boot(&self.boot)
            && found.header.as_ref().is_some_and(|header| header.daemon == daemon && !header.is_closed);
        let mut written = if is_its { found.records } else { BTreeMap::new() };
        let mut grips = Grips::new();
        let mut records = BTreeMap::new();
        for (one, grip) in processes {
            let key = (one.old.group.clone(), one.old.name.clone());
            let identity = grip.as_ref().map(|grip| grip.child.identity());
            let known = written.remove(&key);
            let known = known.filter(|record| record.child.map(|child| child.identity) == identity);
            records.insert(
                key.clone(),
                known.unwrap_or_else(|| record::record(&one, identity, self.timeline, now)),
            );
            if let Some(grip) = grip {
                grips.insert(key, grip);
            }
        }
        info!("took the place of the supervisord with pid {}: {} processes run", daemon.pid, grips.len());
        // Its keeper is not to be asked: we have everything, and the way to it.
        let (format, boot, configuration) = (FORMAT, self.boot.clone(), String::new());
        let header = Header { format, boot, daemon, is_closed: false, keepers: Vec::new(), configuration };
        self.inheritance = Snapshot { header: Some(header), records, damage: None };
        let keepers = keepers.into_iter();
        self.keep.add_predecessors(keepers.map(|(identity, channel)| Keeper {
            identity,
            channel,
            since: now.mono,
        }));
        grips
    }

    /// Takes over the listening sockets of FastCGI programs. The groups are active.
    pub(super) fn take_sockets(&mut self, grips: &mut Grips) {
        for ((group, name), grip) in grips {
            let Some(socket) = grip.socket.take() else { continue };
            let id = self.supervisor.find(group, name);
            let Some(config) = id.and_then(|id| self.supervisor.process(id)).map(|process| process.config())
            else {
                continue;
            };
            if let Some(fastcgi) = &config.fastcgi {
                self.sockets.adopt(SocketKey::new(&config.program, fastcgi), socket);
            }
        }
    }

    /// All processes are in their places: what only the old daemon needed can go.
    pub(super) fn settle_estate(&mut self) {
        self.sockets.close_unheld();
    }
}

/// A process with all that was copied out of its daemon.
pub(super) fn adopted(mut record: Record, grip: Grip) -> Adopted {
    let Grip { child, stdin, stdout, stderr, exit, only_writes, .. } = grip;
    record.remains = Remains::default();
    let pipe = |end: &Option<OwnedFd>| end.as_ref().and_then(search::pipe_of);
    let pipes = Pipes { stdin: pipe(&stdin), stdout: pipe(&stdout), stderr: pipe(&stderr) };
    for end in [&stdin, &stdout, &stderr].into_iter().flatten() {
        if let Err(error) = rustix::io::ioctl_fionbio(end, true) {
            warn!("a pipe of '{}' cannot be made non-blocking: {error}", record.name);
        }
    }
    let adopted = record.child.and_then(|child| child.adopted);
    record.child = Some(Child { identity: child.identity(), pipes, adopted, only_writes });
    let bond = match exit {
        Some(exit) => Bond::Ended(exit),
        None => Bond::Foreign(child.into_pidfd()),
    };
    Adopted { record, bond, stdout, stderr, stdin, trailing: Vec::new() }
}
