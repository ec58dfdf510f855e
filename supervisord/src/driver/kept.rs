//! What keepers of an earlier daemon have kept: found at their doors, taken back, and given to whom it belongs.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use tracing::{debug, warn};

use super::keep::Keeper;
use crate::{
    clock::Moment,
    journal::record::{Identity, PipeId},
    keeper::line::{Key, Line},
    os::{
        passing::{self, Wait},
        search,
    },
};

/// How long a start waits for a keeper that does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Descriptors that were taken back.
#[derive(Debug, Default)]
pub(super) struct Kept(BTreeMap<Key, OwnedFd>);

impl Kept {
    /// Takes back what these keepers hold. Returns it with the keepers, who hold it on until they are sent away.
    pub(super) fn take_back(
        directory: impl AsFd,
        identities: &[Identity],
        now: Moment,
    ) -> (Self, Vec<Keeper>) {
        let mut all = Self::default();
        let mut keepers = Vec::new();
        for identity in identities {
            match take_from(directory.as_fd(), *identity) {
                Ok((kept, channel)) => {
                    debug!("the keeper (pid {}) gave back {} descriptors", identity.pid, kept.len());
                    all.0.extend(kept);
                    keepers.push(Keeper { identity: *identity, channel, since: now.mono });
                }
                Err(error) => {
                    debug!("the keeper (pid {}) cannot be asked: {error}", identity.pid);
                    // Nobody is behind it, or somebody who does not answer and ends without it.
                    let _ = passing::remove_door(directory.as_fd(), &door_of(*identity));
                }
            }
        }
        if keepers.is_empty() && !identities.is_empty() {
            warn!(
                "the keeper of the last supervisord is gone too: of programs that ended meanwhile the exit status and what \
                 they wrote last may be lost"
            );
        }
        (all, keepers)
    }

    /// The handle of a main process.
    pub(super) fn process(&mut self, identity: Identity) -> Option<OwnedFd> {
        self.0.remove(&Key::Process(identity))
    }

    /// The read end of a pipe.
    pub(super) fn pipe(&mut self, pipe: PipeId) -> Option<OwnedFd> {
        self.0.remove(&Key::Pipe(pipe))
    }

    /// All listening sockets: program, URL, socket.
    pub(super) fn sockets(&mut self) -> Vec<(String, String, OwnedFd)> {
        let is_socket = |key: &Key| matches!(key, Key::Socket(_));
        let (sockets, rest) = std::mem::take(&mut self.0).into_iter().partition(|(key, _)| is_socket(key));
        self.0 = rest;
        let sockets: BTreeMap<Key, OwnedFd> = sockets;
        let named = sockets.into_iter().filter_map(|(key, socket)| match key {
            Key::Socket(names) => Some((names.0, names.1, socket)),
            Key::Process(_) | Key::Pipe(_) => None,
        });
        named.collect()
    }
}

/// The name of a keeper's door, beside the journal.
pub(super) fn door_of(keeper: Identity) -> String {
    format!("keeper.{}", keeper.pid)
}

fn take_from(directory: impl AsFd, keeper: Identity) -> io::Result<(BTreeMap<Key, OwnedFd>, OwnedFd)> {
    let channel = passing::knock(directory, &door_of(keeper))?;
    let (pid, _) = passing::peer(&channel)?;
    if search::identity_of(pid)? != keeper {
        return Err(io::Error::other(format!("pid {pid} answers in its place")));
    }
    passing::set_patience(&channel, PATIENCE)?;
    passing::send(&channel, &Line::Give.to_string(), &[], Wait::Yes)?;
    let mut kept = BTreeMap::new();
    let mut buffer = vec![0; passing::MOST_TEXT];
    loop {
        let message = passing::receive(&channel, &mut buffer)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut descriptors = message.descriptors.into_iter();
        for line in message.text.lines() {
            match Line::parse(line) {
                Some(Line::Held(key)) => kept.extend(descriptors.next().map(|descriptor| (key, descriptor))),
                Some(Line::End) => return Ok((kept, channel)),
                Some(
                    Line::Guard(_)
                    | Line::Unguard(_)
                    | Line::Hold(_)
                    | Line::Forget(_)
                    | Line::Door
                    | Line::Sync
                    | Line::Give
                    | Line::Quit,
                )
                | None => {}
            }
        }
    }
}
