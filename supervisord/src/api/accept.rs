//! The accept loop: takes connections from every listening socket, finds out which protocol each speaks, and lets its
//! requests through `gate.rs`.
//!
//! Owns connections: their number, their patience and their end. gRPC (HTTP/2 with prior knowledge) and HTTP/1.1
//! share each socket; the first bytes tell them apart.

use std::{
    io,
    pin::pin,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    sync::{OwnedSemaphorePermit, watch},
    task::{JoinError, JoinSet},
};
use tracing::{error, trace};

use super::{
    gate::{Gate, PeerGate, Routers},
    places::Places,
    socket::{Endpoint, Listener, Peer, Socket, Stream},
    stall::{Stall, Watched},
};
use crate::{
    config::{Listen, ServerConfig},
    os::limits,
};

/// Connections served at once at most, over all unix sockets, and as many over all others. For a further one the most silent one must leave.
const MAX_CONNECTIONS: usize = 1024;

/// Time from the connection to its first request with the right password. Without it a client that sends nothing, half
/// a protocol preface, or requests that are refused, would hold a place for ever.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// Time that an HTTP/1.1 connection may idle between requests, as in Supervisor: long-lived XML-RPC clients keep one.
const IDLE: Duration = Duration::from_secs(30 * 60);

/// Time that a client which takes nothing of what it is being told keeps its place when another one wants it.
const STUCK: Duration = Duration::from_secs(2);

/// Bounds on one HTTP/2 connection. Streams that are open at once: the least that is recommended (source: RFC 9113, 6.5.2).
const STREAMS: u32 = 100;
/// Bytes of a stream that wait for the client to take them.
const STREAM_BUFFER: usize = 64 << 10;
/// Bytes of the headers of a request.
const HEADERS: u32 = 16 << 10;
/// Requests that were taken back before they were looked at (source: CVE-2023-44487); with more the connection ends.
const TAKEN_BACK: usize = 20;

/// Time that open connections get to finish when the daemon ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// Time that a connection without a request gets to send one when the daemon is replaced in place.
const FIRST_WORDS: Duration = Duration::from_millis(300);

/// Pause after `accept` failed for want of descriptors or memory; without it the loop would spin.
const RETRY: Duration = Duration::from_millis(100);

/// The running accept loops, one per socket. Dropping it cuts every connection.
#[derive(Debug)]
pub struct Servers {
    /// Each returns its endpoint when told to stop.
    loops: JoinSet<Option<Endpoint>>,
    stop: watch::Sender<Stop>,
    /// What is served, and the sockets once more, for whoever goes on with them.
    sockets: Vec<(ServerConfig, Arc<Socket>)>,
}

/// Whether and why no more connections are accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// They are.
    No,
    /// The daemon ends: the sockets are closed at once.
    End,
    /// The sockets are handed over: whoever has connected is to get an answer to a request that is on its way.
    HandOver,
}

impl Stop {
    fn is_set(&self) -> bool {
        match self {
            Self::No => false,
            Self::End | Self::HandOver => true,
        }
    }

    /// Time that a connection gets to send its first request.
    fn patience(self) -> Duration {
        match self {
            Self::No | Self::End => Duration::ZERO,
            Self::HandOver => FIRST_WORDS,
        }
    }
}

impl Servers {
    /// Starts to accept connections on all `endpoints`; needs a running runtime.
    ///
    /// # Errors
    /// When a socket cannot be registered with the runtime.
    pub fn start(endpoints: Vec<Endpoint>, routers: &Routers) -> io::Result<Self> {
        let limits =
            Limits { connections: limits::connections(MAX_CONNECTIONS), first_request: FIRST_REQUEST };
        Self::start_with(endpoints, routers, limits)
    }

    /// The same with other limits.
    fn start_with(endpoints: Vec<Endpoint>, routers: &Routers, limits: Limits) -> io::Result<Self> {
        let (stop, stopped) = watch::channel(Stop::No);
        // Whoever comes from outside cannot lock out those who are here.
        let [local, remote] = [(); 2].map(|()| Places::new(limits.connections));
        let mut loops = JoinSet::new();
        let mut sockets = Vec::with_capacity(endpoints.len());
        for endpoint in endpoints {
            let Endpoint { listener, credentials, section, listen } = endpoint;
            let places = if matches!(listener, Listener::Unix(_)) { &local } else { &remote };
            let places = places.clone();
            let socket = Arc::new(Socket::register(listener)?);
            let server = ServerConfig {
                section: section.clone(),
                listen: listen.clone(),
                credentials: credentials.clone(),
            };
            sockets.push((server, Arc::clone(&socket)));
            let gate = Gate { routers: routers.clone(), credentials: credentials.map(Arc::new) };
            let door = Door { socket, section, listen, gate, limits, places };
            loops.spawn(door.run(stopped.clone()));
        }
        Ok(Self { loops, stop, sockets })
    }

    /// Stops accepting, lets open requests finish for at most one second, then cuts what is left.
    pub async fn shutdown(self) {
        drop(self.stop(Stop::End).await);
    }

    /// The same, and returns the listening sockets: who connects meanwhile waits in their queues.
    pub async fn part(self) -> Vec<Endpoint> {
        self.stop(Stop::HandOver).await
    }

    /// Whether exactly these servers are served.
    pub fn serves(&self, servers: &[ServerConfig]) -> bool {
        servers.iter().eq(self.sockets.iter().map(|(server, _)| server))
    }

    /// Takes the sockets for which `stays` holds, to be listened on by others; the rest is closed at once. From here on
    /// nobody new is served; [`Servers::shutdown`] ends who is.
    pub fn retire(&mut self, stays: impl Fn(&Listen) -> bool) -> Vec<(Listen, Listener)> {
        self.stop.send_replace(Stop::End);
        let (kept, closed): (Vec<_>, Vec<_>) =
            self.sockets.drain(..).partition(|(server, _)| stays(&server.listen));
        for (_, socket) in closed {
            // The accept loop still has it open, and a port would be taken until it notices.
            socket.stop_listening();
        }
        let again = |(server, socket): (ServerConfig, Arc<Socket>)| match socket.again() {
            Ok(listener) => Some((server.listen, listener)),
            Err(error) => {
                error!("a listening socket is lost: {error}");
                None
            }
        };
        kept.into_iter().filter_map(again).collect()
    }

    async fn stop(mut self, why: Stop) -> Vec<Endpoint> {
        // First, for the loops give the sockets back when they are the only ones to have them.
        self.sockets.clear();
        self.stop.send_replace(why);
        let mut endpoints = Vec::new();
        while let Some(ended) = self.loops.join_next().await {
            endpoints.extend(ended.ok().flatten());
        }
        endpoints
    }
}

/// Bounds on connections.
#[derive(Debug, Clone, Copy)]
struct Limits {
    connections: usize,
    first_request: Duration,
}

/// One socket with its accept loop.
struct Door {
    socket: Arc<Socket>,
    section: String,
    listen: Listen,
    gate: Gate,
    limits: Limits,
    places: Places,
}

impl Door {
    /// Accepts until `stopped`, then waits for its connections, but not for long. Returns what it listened at.
    async fn run(self, mut stopped: watch::Receiver<Stop>) -> Option<Endpoint> {
        let mut connections = JoinSet::new();
        loop {
            // All branches are cancel-safe; `next` holds a place only while it returns one.
            let next = tokio::select! {
                biased;
                _ = stopped.wait_for(Stop::is_set) => break,
                Some(ended) = connections.join_next() => {
                    report_panic(ended);
                    continue;
                }
                next = self.next() => next,
            };
            match next {
                Ok((stream, peer, place)) => {
                    let gate = self.gate.clone().for_peer(peer);
                    let held = Held { _place: place, places: self.places.clone() };
                    let patience = self.limits.first_request;
                    connections.spawn(serve(stream, gate, patience, held, stopped.clone()));
                }
                Err(error) => {
                    error!("cannot accept a connection on '{}': {error}", self.section);
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        let why = *stopped.borrow();
        // No new clients from here on: the socket is closed before the last replies are sent, or whoever comes now
        // waits in the kernel's queue for whoever gets the socket.
        let endpoint = match why {
            Stop::No | Stop::End => {
                drop(self.socket);
                None
            }
            Stop::HandOver => self.into_endpoint(),
        };
        let last = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(FAREWELL, last).await.is_err() {
            connections.shutdown().await;
        }
        endpoint
    }

    /// Takes the socket back from the runtime.
    fn into_endpoint(self) -> Option<Endpoint> {
        let socket = Arc::into_inner(self.socket).expect("whoever stops the loops has let go of it");
        let listener = match socket {
            Socket::Unix(listener) => listener.into_std().map(Listener::Unix),
            Socket::Tcp(listener) => listener.into_std().map(Listener::Tcp),
        };
        let listener =
            listener.inspect_err(|error| error!("the socket of '{}' is lost: {error}", self.section)).ok()?;
        let credentials = self.gate.credentials.map(Arc::unwrap_or_clone);
        Some(Endpoint { listener, credentials, section: self.section, listen: self.listen })
    }

    /// The next connection, taken from the kernel's queue only when there is a place for it.
    async fn next(&self) -> io::Result<(Stream, Peer, OwnedSemaphorePermit)> {
        let place = self.places.take().await;
        let (stream, peer) = self.socket.accept().await?;
        Ok((stream, peer, place))
    }
}

/// Logs a connection that ended by a panic: a bug of ours which must not end the daemon.
fn report_panic(ended: Result<(), JoinError>) {
    if let Err(failure) = ended
        && failure.is_panic()
    {
        error!("the handler of a connection panicked: {failure}");
    }
}

/// The place of one connection, given back when it ends.
struct Held {
    _place: OwnedSemaphorePermit,
    places: Places,
}

/// Serves one connection to its end.
async fn serve(
    stream: Stream,
    gate: PeerGate,
    patience: Duration,
    held: Held,
    mut stopped: watch::Receiver<Stop>,
) {
    let requests = Arc::clone(&gate.requests);
    let refused = Arc::clone(&gate.refused);
    let has_asked = || requests.load(Ordering::Relaxed) > 0;
    let waiting = gate.answers.waiting();
    let service = TowerToHyperService::new(tower::service_fn(move |request| gate.clone().answer(request)));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    // Who has sent its request may close that side (`nc`, `socat`) and is answered all the same; header names are written
    // as Supervisor writes them, for scripts that look for `Content-Length`.
    let mut http1 = builder.http1();
    http1.timer(TokioTimer::new()).header_read_timeout(IDLE).half_close(true).title_case_headers(true);
    let mut http2 = builder.http2();
    http2.timer(TokioTimer::new());
    http2.max_concurrent_streams(STREAMS).max_send_buf_size(STREAM_BUFFER);
    http2.max_header_list_size(HEADERS).max_pending_accept_reset_streams(TAKEN_BACK);
    let stall = Stall::new();
    let stream = Watched::new(stream, stall.clone(), waiting, IDLE);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut patience = pin!(tokio::time::sleep(patience));
    let mut wanted = pin!(held.places.wanted(&requests));
    let mut look = pin!(tokio::time::sleep(STUCK));
    let (mut is_patient, mut leaving, mut is_wanted) = (true, false, false);
    loop {
        tokio::select! {
            biased;
            result = connection.as_mut() => {
                // A client that went away is its own business.
                if let Err(error) = result {
                    trace!("connection ended: {error}");
                }
                return;
            }
            () = patience.as_mut(), if is_patient => {
                if !has_asked() {
                    return;
                }
                is_patient = false;
                if leaving {
                    connection.as_mut().graceful_shutdown();
                }
            }
            why = has_stopped(&mut stopped), if !leaving => {
                leaving = true;
                if has_asked() {
                    connection.as_mut().graceful_shutdown();
                } else {
                    patience.set(tokio::time::sleep(why.patience()));
                    is_patient = true;
                }
            }
            // What it is being told, it is told to the end, if it listens.
            () = wanted.as_mut(), if !leaving => {
                (leaving, is_wanted) = (true, true);
                look.set(tokio::time::sleep(Duration::ZERO));
                connection.as_mut().graceful_shutdown();
            }
            () = look.as_mut(), if is_wanted => {
                // Who says no more has most likely gone.
                if stall.lasts(STUCK) || stall.has_ended() {
                    return;
                }
                look.set(tokio::time::sleep(STUCK));
            }
            // Who does not leave then has the rest of the patience.
            () = refused.notified(), if !leaving => {
                leaving = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Waits until no more connections are accepted; why. Cancel-safe.
async fn has_stopped(stopped: &mut watch::Receiver<Stop>) -> Stop {
    // Servers that were dropped have ended.
    stopped.wait_for(Stop::is_set).await.map_or(Stop::End, |why| *why)
}

#[cfg(test)]
#[path = "accept/tests.rs"]
mod tests;
