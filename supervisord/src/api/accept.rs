//! The accept loop: takes connections from every listening socket, finds out which protocol each speaks, checks
//! who asks, and hands every request to the router of its protocol.
//!
//! Owns connections: their number, their patience and their end. gRPC (HTTP/2 with prior knowledge) and HTTP/1.1
//! share each socket; the first bytes tell them apart.

use std::{
    io,
    net::SocketAddr,
    os::unix::net::UnixListener as StdUnixListener,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body};
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::{JoinError, JoinSet},
};
use tower::ServiceExt;
use tracing::{error, trace};

use super::auth;
use crate::{config::Credentials, os::limits};

/// Connections served at once at most, over all sockets; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1024;

/// Time from the connection to its first complete request header. Without it a client that sends nothing, or half a
/// protocol preface, would hold a place for ever.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// Time that an HTTP/1.1 connection may idle between requests, as in Supervisor: long-lived XML-RPC clients keep one.
const IDLE: Duration = Duration::from_secs(30 * 60);

/// Time that open connections get to finish when the daemon ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// Pause after `accept` failed for want of descriptors or memory; without it the loop would spin.
const RETRY: Duration = Duration::from_millis(100);

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

/// Where requests go.
#[derive(Debug, Clone)]
pub struct Routers {
    /// Requests whose content type is gRPC's.
    pub grpc: Router,
    /// All others.
    pub http: Router,
}

/// The running accept loops, one per socket. Dropping it cuts every connection.
#[derive(Debug)]
pub struct Servers {
    loops: JoinSet<()>,
    stop: watch::Sender<bool>,
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
        let (stop, stopped) = watch::channel(false);
        let places = Arc::new(Semaphore::new(limits.connections));
        let mut loops = JoinSet::new();
        for endpoint in endpoints {
            let socket = Socket::register(endpoint.listener)?;
            let gate = Gate { routers: routers.clone(), credentials: endpoint.credentials.map(Arc::new) };
            let door = Door { socket, section: endpoint.section, gate, limits, places: Arc::clone(&places) };
            loops.spawn(door.run(stopped.clone()));
        }
        Ok(Self { loops, stop })
    }

    /// Stops accepting, lets open requests finish for at most one second, then cuts what is left.
    pub async fn shutdown(mut self) {
        self.stop.send_replace(true);
        if tokio::time::timeout(FAREWELL, async { while self.loops.join_next().await.is_some() {} })
            .await
            .is_err()
        {
            self.loops.shutdown().await;
        }
    }
}

/// Bounds on connections.
#[derive(Debug, Clone, Copy)]
struct Limits {
    connections: usize,
    first_request: Duration,
}

/// A listening socket registered with the runtime.
#[derive(Debug)]
enum Socket {
    Unix(UnixListener),
    Tcp(TcpListener),
}

impl Socket {
    /// Registers `listener`, which becomes non-blocking.
    fn register(listener: Listener) -> io::Result<Self> {
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

    /// The next connection. Cancel-safe. Accepted sockets are close-on-exec: mio uses `accept4`.
    async fn accept(&self) -> io::Result<(Stream, Peer)> {
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
                Ok((Box::new(stream), Peer::Remote(address)))
            }
        }
    }
}

/// An accepted connection of either kind.
type Stream = Box<dyn Connection>;

/// What both kinds of connection can do.
trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Connection for T {}

/// One socket with its accept loop.
struct Door {
    socket: Socket,
    section: String,
    gate: Gate,
    limits: Limits,
    places: Arc<Semaphore>,
}

impl Door {
    /// Accepts until `stopped`, then waits for its connections.
    async fn run(self, mut stopped: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        loop {
            // All branches are cancel-safe; `next` holds a place only while it returns one.
            let next = tokio::select! {
                biased;
                _ = stopped.wait_for(|stop| *stop) => break,
                Some(ended) = connections.join_next() => {
                    report_panic(ended);
                    continue;
                }
                next = self.next() => next,
            };
            match next {
                Ok((stream, peer, place)) => {
                    let gate = self.gate.clone();
                    let patience = self.limits.first_request;
                    connections.spawn(serve(stream, gate.for_peer(peer), patience, place, stopped.clone()));
                }
                Err(error) => {
                    error!("cannot accept a connection on '{}': {error}", self.section);
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        // No new clients from here on: the socket is closed before the last replies are sent.
        drop(self.socket);
        while connections.join_next().await.is_some() {}
    }

    /// The next connection, taken from the kernel's queue only when there is a place for it.
    async fn next(&self) -> io::Result<(Stream, Peer, OwnedSemaphorePermit)> {
        let place = Arc::clone(&self.places)
            .acquire_owned()
            .await
            .expect("this semaphore is never closed while doors exist");
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

/// Serves one connection to its end. `_place` is given back when it ends.
async fn serve(
    stream: Stream,
    gate: PeerGate,
    patience: Duration,
    _place: OwnedSemaphorePermit,
    mut stopped: watch::Receiver<bool>,
) {
    let asked = Arc::clone(&gate.asked);
    let service = TowerToHyperService::new(tower::service_fn(move |request| gate.clone().answer(request)));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
    builder.http2().timer(TokioTimer::new());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut patience = pin!(tokio::time::sleep(patience));
    let (mut waiting, mut leaving) = (true, false);
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
            () = patience.as_mut(), if waiting => {
                if !asked.load(Ordering::Relaxed) {
                    return;
                }
                waiting = false;
            }
            _ = stopped.wait_for(|stop| *stop), if !leaving => {
                if !asked.load(Ordering::Relaxed) {
                    return;
                }
                leaving = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Who may ask what on one socket.
#[derive(Debug, Clone)]
struct Gate {
    routers: Routers,
    credentials: Option<Arc<Credentials>>,
}

impl Gate {
    /// The gate of one connection.
    fn for_peer(self, peer: Peer) -> PeerGate {
        PeerGate { gate: self, peer, asked: Arc::new(AtomicBool::new(false)) }
    }
}

/// The gate of one connection.
#[derive(Debug, Clone)]
struct PeerGate {
    gate: Gate,
    peer: Peer,
    /// Whether a complete request header has arrived.
    asked: Arc<AtomicBool>,
}

impl PeerGate {
    /// Answers one request.
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, std::convert::Infallible> {
        self.asked.store(true, Ordering::Relaxed);
        let mut request = request.map(Body::new);
        let is_grpc = is_grpc(&request);
        if !auth::is_allowed(self.gate.credentials.as_deref(), request.headers()) {
            return Ok(if is_grpc { unauthenticated_grpc() } else { unauthorized_http(request.version()) });
        }
        request.extensions_mut().insert(self.peer);
        let router = if is_grpc { self.gate.routers.grpc } else { self.gate.routers.http };
        router.oneshot(request).await
    }
}

/// Whether a request is a gRPC call.
fn is_grpc(request: &Request<Body>) -> bool {
    request.version() == Version::HTTP_2
        && request
            .headers()
            .get(header::CONTENT_TYPE)
            .is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

/// The refusal of a gRPC call.
fn unauthenticated_grpc() -> Response<Body> {
    tonic::Status::unauthenticated("this server wants a user name and a password").into_http()
}

/// The refusal of another request, as Supervisor's: the browser asks for a password.
fn unauthorized_http(version: Version) -> Response<Body> {
    let mut response = Response::new(Body::from("this server wants a user name and a password\n"));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    let headers = response.headers_mut();
    headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"default\""));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    if version < Version::HTTP_2 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::UnixStream,
    };

    use super::*;

    /// Asks once and reads what comes.
    async fn ask(stream: &mut UnixStream) -> String {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut reply = vec![0; 1000];
        let length = stream.read(&mut reply).await.unwrap();
        String::from_utf8_lossy(&reply[..length]).into_owned()
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_wait_until_a_place_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let listener = Listener::Unix(StdUnixListener::bind(&path).unwrap());
        let endpoint = Endpoint { listener, credentials: None, section: "unix_http_server".to_owned() };
        let routers = Routers { grpc: Router::new(), http: Router::new() };
        let limits = Limits { connections: 2, first_request: Duration::from_secs(60) };
        let _servers = Servers::start_with(vec![endpoint], &routers, limits).unwrap();
        let mut served = Vec::new();
        for _ in 0..2 {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            assert!(ask(&mut stream).await.starts_with("HTTP/1.1 404"));
            served.push(stream);
        }
        let mut third = UnixStream::connect(&path).await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(200), ask(&mut third)).await;
        assert!(early.is_err(), "served beyond the bound: {early:?}");
        drop(served.pop());
        let late = tokio::time::timeout(Duration::from_secs(20), ask(&mut third)).await.unwrap();
        assert!(late.starts_with("HTTP/1.1 404"), "{late}");
    }
}
