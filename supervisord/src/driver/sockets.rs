//! Listening sockets of FastCGI programs: when they are made, who holds them, when they are closed.
//!
//! A socket is made before the first child of its program, shared by all its processes, and stays open until the last
//! of them has come to rest. A worker that dies, waits for its next try or is restarted closes nothing: connections
//! wait in the queue of the socket for its replacement.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use tracing::info;

use crate::{
    config::{FastCgi, FastCgiSocket},
    os::listen::{self, Access, ListenError},
    supervisor::ProcessId,
};

/// Names a socket: a program that is in several groups has one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SocketKey {
    /// Name of the `[fcgi-program:x]` section: `x`.
    pub(super) program: String,
    /// `unix:///path` or `tcp://host:port`.
    pub(super) url: String,
}

impl SocketKey {
    /// The key of a program's socket.
    pub(super) fn new(program: &str, config: &FastCgi) -> Self {
        Self { program: program.to_owned(), url: config.socket.url() }
    }
}

/// There is no socket. The words before the cause are Supervisor's.
#[derive(Debug, thiserror::Error)]
#[error("Could not create FastCGI socket {url}: {cause}")]
pub(super) struct SocketError {
    url: String,
    cause: String,
}

/// An open socket and the processes that do not rest.
#[derive(Debug)]
struct Held {
    socket: OwnedFd,
    holders: BTreeSet<ProcessId>,
}

/// All open sockets.
#[derive(Debug, Default)]
pub(super) struct Sockets {
    open: BTreeMap<SocketKey, Held>,
    is_changed: bool,
}

impl Sockets {
    /// Makes a socket and closes it again, to find out early whether it can be made. An open one is left alone.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub(super) fn check(&self, key: &SocketKey, config: &FastCgi) -> Result<(), SocketError> {
        if !self.open.contains_key(key) {
            drop(make(key, config)?);
            info!("Closing socket {}", key.url);
        }
        Ok(())
    }

    /// Makes the socket for a child of `id` if nobody holds it yet. From now on `id` holds it and no other.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub(super) fn open(
        &mut self,
        id: ProcessId,
        key: &SocketKey,
        config: &FastCgi,
    ) -> Result<(), SocketError> {
        self.release_but(id, Some(key));
        if !self.open.contains_key(key) {
            self.adopt(key.clone(), make(key, config)?);
        }
        let held = self.open.get_mut(key).expect("it has just been made or was there");
        held.holders.insert(id);
        Ok(())
    }

    /// An open socket.
    pub(super) fn socket(&self, key: &SocketKey) -> Option<BorrowedFd<'_>> {
        self.open.get(key).map(|held| held.socket.as_fd())
    }

    /// Takes over an open socket that nobody holds yet; see [`Sockets::hold`].
    pub(super) fn adopt(&mut self, key: SocketKey, socket: OwnedFd) {
        self.open.entry(key).or_insert(Held { socket, holders: BTreeSet::new() });
        self.is_changed = true;
    }

    /// Records that `id`, whose child another image of the daemon has made, holds a socket.
    pub(super) fn hold(&mut self, id: ProcessId, key: &SocketKey) {
        if let Some(held) = self.open.get_mut(key) {
            held.holders.insert(id);
        }
    }

    /// Closes what nobody holds.
    pub(super) fn close_unheld(&mut self) {
        self.open.retain(|_, held| !held.holders.is_empty());
        self.is_changed = true;
    }

    /// An open socket.
    pub(super) fn find(&self, key: &SocketKey) -> Option<BorrowedFd<'_>> {
        self.open.get(key).map(|held| held.socket.as_fd())
    }

    /// Whether one was opened or closed since the last call.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.is_changed)
    }

    /// All open sockets, to be handed on.
    pub(super) fn sockets(&self) -> impl Iterator<Item = (&SocketKey, BorrowedFd<'_>)> {
        self.open.iter().map(|(key, held)| (key, held.socket.as_fd()))
    }

    /// Records that `id` has come to rest: what nobody else holds is closed.
    pub(super) fn release(&mut self, id: ProcessId) {
        self.release_but(id, None);
    }

    /// Closes everything.
    pub(super) fn clear(&mut self) {
        while let Some((key, _)) = self.open.pop_first() {
            info!("Closing socket {}", key.url);
            self.is_changed = true;
        }
    }

    /// Gives an open socket another mode, owner and length of its queue.
    ///
    /// # Errors
    /// Why that is not possible.
    pub(super) fn reconfigure(&self, key: &SocketKey, config: &FastCgi) -> Result<(), SocketError> {
        let Some(held) = self.open.get(key) else { return Ok(()) };
        let path = match &config.socket {
            FastCgiSocket::Unix(path) => Some(path.as_path()),
            FastCgiSocket::Tcp(..) => None,
        };
        listen::reconfigure(held.socket.as_fd(), path, access(config), config.backlog)
            .map_err(|error| problem(key, &error))
    }

    fn release_but(&mut self, id: ProcessId, keep: Option<&SocketKey>) {
        let is_changed = &mut self.is_changed;
        self.open.retain(|key, held| {
            if Some(key) == keep || !held.holders.remove(&id) {
                return true;
            }
            if held.holders.is_empty() {
                info!("Closing socket {}", key.url);
                *is_changed = true;
            }
            !held.holders.is_empty()
        });
    }
}

fn make(key: &SocketKey, config: &FastCgi) -> Result<OwnedFd, SocketError> {
    info!("Creating socket {}", key.url);
    let made = match &config.socket {
        FastCgiSocket::Unix(path) => listen::lend_unix(path, access(config), config.backlog),
        FastCgiSocket::Tcp(host, port) => listen::lend_tcp(host, *port, config.backlog),
    };
    made.map_err(|error| problem(key, &error))
}

fn access(config: &FastCgi) -> Access {
    Access { mode: config.mode, owner: config.owner }
}

fn problem(key: &SocketKey, error: &ListenError) -> SocketError {
    SocketError { url: key.url.clone(), cause: error.cause() }
}
