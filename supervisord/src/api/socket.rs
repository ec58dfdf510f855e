//! Listening sockets and the connections that come from them, over unix sockets and TCP alike.

use std::{
    io,
    net::SocketAddr,
    os::{fd::AsFd, unix::net::UnixListener as StdUnixListener},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
};
use tracing::trace;

use super::stall::Ending;
use crate::config::{Credentials, Listen, ServerConfig};

/// A bound, listening socket.
#[derive(Debug)]
pub enum Listener {
    /// Of `[unix_http_server]`.
    Unix(StdUnixListener),
    /// Of `[inet_http_server]`.
    Tcp(std::net::TcpListener),
}

/// A listening socket and who may use it.
#[derive(Debug)]
pub struct Endpoint {
    /// The socket.
    pub listener: Listener,
    /// What clients must present; `None` = nothing.
    pub credentials: Option<Credentials>,
    /// Name of its configuration section, for messages.
    pub section: String,
    /// Where it listens, as configured.
    pub listen: Listen,
}

impl Endpoint {
    /// The endpoint of a configured server.
    pub fn new(server: &ServerConfig, listener: Listener) -> Self {
        Self {
            listener,
            credentials: server.credentials.clone(),
            section: server.section.clone(),
            listen: server.listen.clone(),
        }
    }
}

/// Who is at the other end of a connection; an extension of every request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A process on this machine, as the kernel saw it when it connected.
    Local {
        /// Its user id.
        uid: u32,
        /// Its process id; `None` when it is in a pid namespace that we do not see.
        pid: Option<i32>,
    },
    /// A TCP client.
    Remote(SocketAddr),
    /// The kernel did not tell.
    Unknown,
}

/// A listening socket registered with the runtime.
#[derive(Debug)]
pub(super) enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Socket {
    /// Registers `listener`, which becomes non-blocking.
    pub(super) fn register(listener: Listener) -> io::Result<Self> {
        match listener {
            Listener::Unix(listener) => {
                listener.set_nonblocking(true)?;
                Ok(Self::Unix(UnixListener::from_std(listener)?))
            }
            Listener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                Ok(Self::Tcp(TcpListener::from_std(listener)?))
            }
        }
    }

    /// The same socket by another descriptor.
    pub(super) fn again(&self) -> io::Result<Listener> {
        Ok(match self {
            Self::Unix(listener) => Listener::Unix(listener.as_fd().try_clone_to_owned()?.into()),
            Self::Tcp(listener) => Listener::Tcp(listener.as_fd().try_clone_to_owned()?.into()),
        })
    }

    /// Gives up the address, whoever else has the socket open.
    pub(super) fn stop_listening(&self) {
        let closed = match self {
            Self::Unix(listener) => rustix::net::shutdown(listener, rustix::net::Shutdown::Both),
            Self::Tcp(listener) => rustix::net::shutdown(listener, rustix::net::Shutdown::Both),
        };
        if let Err(error) = closed {
            trace!("cannot close a listening socket early: {error}");
        }
    }

    /// The next connection. Cancel-safe. Accepted sockets are close-on-exec: mio uses `accept4`.
    pub(super) async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let peer = stream
                    .peer_cred()
                    .map_or(Peer::Unknown, |peer| Peer::Local { uid: peer.uid(), pid: peer.pid() });
                Ok((Box::new(stream), peer))
            }
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Small replies must not wait for an acknowledgement; a failure only costs time.
                drop(stream.set_nodelay(true));
                // Or a machine that has lost its power would hold a place for ever; likewise no reason to refuse it.
                let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
                Ok((Box::new(stream), Peer::Remote(address)))
            }
        }
    }
}

/// An accepted connection of either kind.
pub(super) type Stream = Box<dyn Connection>;

/// What both kinds of connection can do.
pub(super) trait Connection: AsyncRead + AsyncWrite + Ending + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Ending + Unpin + Send> Connection for T {}

impl Ending for Stream {
    fn poll_end(&self, context: &mut Context<'_>) -> Poll<()> {
        (**self).poll_end(context)
    }
}
