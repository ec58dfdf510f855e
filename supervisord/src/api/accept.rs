//! The accept loop: takes connections from every listening socket, finds out which protocol each speaks, checks
//! who asks, and hands every request to the router of its protocol.
//!
//! Owns connections: their number, their patience and their end. gRPC (HTTP/2 with prior knowledge) and HTTP/1.1
//! share each socket; the first bytes tell them apart.

use std::{
    io,
    net::SocketAddr,
    os::{fd::AsFd, unix::net::UnixListener as StdUnixListener},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
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
    sync::{Notify, OwnedSemaphorePermit, watch},
    task::{JoinError, JoinSet},
};
use tower::ServiceExt;
use tracing::{error, trace};

use super::{
    answers::Answers,
    auth, origin,
    places::Places,
    stall::{Stall, Watched},
    xmlrpc::error_page,
};
use crate::{
    config::{Credentials, Listen, ServerConfig},
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

    /// The same socket by another descriptor.
    fn again(&self) -> io::Result<Listener> {
        Ok(match self {
            Self::Unix(listener) => Listener::Unix(listener.as_fd().try_clone_to_owned()?.into()),
            Self::Tcp(listener) => Listener::Tcp(listener.as_fd().try_clone_to_owned()?.into()),
        })
    }

    /// Gives up the address, whoever else has the socket open.
    fn stop_listening(&self) {
        let closed = match self {
            Self::Unix(listener) => rustix::net::shutdown(listener, rustix::net::Shutdown::Both),
            Self::Tcp(listener) => rustix::net::shutdown(listener, rustix::net::Shutdown::Both),
        };
        if let Err(error) = closed {
            trace!("cannot close a listening socket early: {error}");
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
                // Or a machine that has lost its power would hold a place for ever; likewise no reason to refuse it.
                let _ = rustix::net::sockopt::set_socket_keepalive(&stream, true);
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
    let service = TowerToHyperService::new(tower::service_fn(move |request| gate.clone().answer(request)));
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
    let mut http2 = builder.http2();
    http2.timer(TokioTimer::new());
    http2.max_concurrent_streams(STREAMS).max_send_buf_size(STREAM_BUFFER);
    http2.max_header_list_size(HEADERS).max_pending_accept_reset_streams(TAKEN_BACK);
    let stall = Stall::new();
    let stream = Watched::new(stream, stall.clone(), IDLE);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut patience = pin!(tokio::time::sleep(patience));
    let mut wanted = pin!(held.places.wanted(&requests));
    let mut look = pin!(tokio::time::sleep(STUCK));
    let (mut waiting, mut leaving, mut is_wanted) = (true, false, false);
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
                if !has_asked() {
                    return;
                }
                waiting = false;
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
                    waiting = true;
                }
            }
            // What it is being told, it is told to the end, if it listens.
            () = wanted.as_mut(), if !leaving => {
                (leaving, is_wanted) = (true, true);
                look.set(tokio::time::sleep(Duration::ZERO));
                connection.as_mut().graceful_shutdown();
            }
            () = look.as_mut(), if is_wanted => {
                if stall.lasts(STUCK) {
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

/// Who may ask what on one socket.
#[derive(Debug, Clone)]
struct Gate {
    routers: Routers,
    credentials: Option<Arc<Credentials>>,
}

impl Gate {
    /// The gate of one connection.
    fn for_peer(self, peer: Peer) -> PeerGate {
        PeerGate {
            gate: self,
            peer,
            requests: Arc::default(),
            refused: Arc::default(),
            answers: Answers::default(),
        }
    }
}

/// The gate of one connection.
#[derive(Debug, Clone)]
struct PeerGate {
    gate: Gate,
    peer: Peer,
    /// How many requests were let in.
    requests: Arc<AtomicU64>,
    /// One was not, and the connection is to end; over HTTP/1.1 the response says so itself.
    refused: Arc<Notify>,
    answers: Answers,
}

impl PeerGate {
    /// Answers one request.
    async fn answer(self, request: Request<Incoming>) -> Result<Response<Body>, std::convert::Infallible> {
        let mut request = request.map(Body::new);
        let is_grpc = is_grpc(&request);
        if !settle_host(&mut request) {
            return Ok(error_page(StatusCode::BAD_REQUEST));
        }
        if !auth::is_allowed(self.gate.credentials.as_deref(), request.headers()) {
            if request.version() == Version::HTTP_2 {
                self.refused.notify_one();
            }
            return Ok(if is_grpc { unauthenticated_grpc() } else { unauthorized_http(request.version()) });
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        request.extensions_mut().insert(self.peer);
        if is_grpc {
            // No browser speaks this protocol without TLS.
            let turn = self.answers.turn().await;
            let response = self.gate.routers.grpc.oneshot(request).await;
            return response.map(|response| response.map(|body| turn.with(body)));
        }
        match self.sender(&request) {
            Ok(sender) => {
                request.extensions_mut().insert(sender);
                // Over HTTP/1.1 there is one at a time.
                let turn = self.answers.turn().await;
                let response = self.gate.routers.http.oneshot(request).await;
                response.map(|response| response.map(|body| turn.with(body)))
            }
            Err(foreign) => Ok(forbidden(foreign)),
        }
    }

    /// Who sent an HTTP request, and whether it may come in.
    fn sender(&self, request: &Request<Body>) -> Result<origin::Sender, origin::Foreign> {
        let way = origin::Way {
            is_loopback: matches!(self.peer, Peer::Remote(address) if address.ip().to_canonical().is_loopback()),
            has_password: self.gate.credentials.is_some(),
            own_name: || nix::unistd::gethostname().unwrap_or_default().to_string_lossy().into_owned(),
        };
        let sender = origin::judge(request.method(), request.headers(), way)?;
        // Only the forms of the page carry a secret that can dispel the doubt.
        let has_forms = matches!(request.uri().path(), "/" | "/index.html");
        if sender == origin::Sender::Doubtful && !has_forms {
            return Err(origin::Foreign::Site);
        }
        Ok(sender)
    }
}

/// Sees to it that a request names its host once, in the header `Host` (source: RFC 9112, 3.2). Whether it does: proxies
/// differ in which of two they take, and so in what they let pass.
fn settle_host(request: &mut Request<Body>) -> bool {
    if request.headers().get_all(header::HOST).iter().nth(1).is_some() {
        return false;
    }
    // HTTP/2 has it there only; in HTTP/1.1 what stands there counts.
    let authority = request.uri().authority().map(|authority| HeaderValue::from_str(authority.as_str()));
    match authority {
        None => true,
        Some(Ok(host)) => {
            request.headers_mut().insert(header::HOST, host);
            true
        }
        Some(Err(_)) => false,
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
    let mut response = error_page(StatusCode::UNAUTHORIZED);
    let headers = response.headers_mut();
    headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"default\""));
    if version < Version::HTTP_2 {
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// The refusal of what another site caused.
fn forbidden(foreign: origin::Foreign) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{foreign}\n")));
    *response.status_mut() = StatusCode::FORBIDDEN;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
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

    /// A server with two places. `/wait` is answered when that is allowed.
    fn two_places(path: &std::path::Path) -> (Servers, Arc<tokio::sync::Notify>) {
        let listener = Listener::Unix(StdUnixListener::bind(path).unwrap());
        let listen = Listen::Unix { path: path.into(), mode: 0o700, owner: None };
        let section = "unix_http_server".to_owned();
        let endpoint = Endpoint { listener, credentials: None, section, listen };
        let allowed = Arc::new(tokio::sync::Notify::new());
        let wait = Arc::clone(&allowed);
        let http = Router::new().route(
            "/wait",
            axum::routing::get(move || async move {
                wait.notified().await;
                "waited"
            }),
        );
        let http = http.route("/large", axum::routing::get(async || vec![0_u8; 64 << 20]));
        let limits = Limits { connections: 2, first_request: Duration::from_secs(60) };
        let routers = Routers { grpc: Router::new(), http };
        (Servers::start_with(vec![endpoint], &routers, limits).unwrap(), allowed)
    }

    #[tokio::test]
    async fn the_most_silent_connection_leaves_when_another_client_comes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let (_servers, _) = two_places(&path);
        let mut first = UnixStream::connect(&path).await.unwrap();
        assert!(ask(&mut first).await.starts_with("HTTP/1.1 404"));
        let mut second = UnixStream::connect(&path).await.unwrap();
        assert!(ask(&mut second).await.starts_with("HTTP/1.1 404"));
        assert!(ask(&mut first).await.starts_with("HTTP/1.1 404"));
        // The second has been silent for longer now; one that never says anything would be too.
        let mut third = UnixStream::connect(&path).await.unwrap();
        assert!(ask(&mut third).await.starts_with("HTTP/1.1 404"));
        assert_eq!(second.read(&mut [0]).await.unwrap(), 0, "the second was closed");
        let mut fourth = UnixStream::connect(&path).await.unwrap();
        assert!(ask(&mut fourth).await.starts_with("HTTP/1.1 404"));
        assert_eq!(first.read(&mut [0]).await.unwrap(), 0, "then the first");
        assert!(ask(&mut third).await.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn strangers_take_no_places_from_who_is_here() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap();
        let endpoint = |listener| Endpoint {
            listener,
            credentials: None,
            section: String::new(),
            listen: Listen::Inet { host: String::new(), port: 1 },
        };
        let unix = Listener::Unix(StdUnixListener::bind(&path).unwrap());
        let http = Router::new().route("/wait", axum::routing::get(std::future::pending::<&str>));
        let limits = Limits { connections: 1, first_request: Duration::from_secs(60) };
        let routers = Routers { grpc: Router::new(), http };
        let endpoints = vec![endpoint(unix), endpoint(Listener::Tcp(port))];
        let _servers = Servers::start_with(endpoints, &routers, limits).unwrap();
        let mut stranger = tokio::net::TcpStream::connect(address).await.unwrap();
        stranger.write_all(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(100), stranger.read(&mut [0])).await;
        assert!(early.is_err(), "it waits for its answer");
        let mut here = UnixStream::connect(&path).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(20), ask(&mut here)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn clients_that_take_nothing_of_their_answers_leave_when_another_comes() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let (_servers, _) = two_places(&path);
        let mut stuck = Vec::new();
        for _ in 0..2 {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            stream.read_exact(&mut [0; 100]).await.unwrap();
            stuck.push(stream);
        }
        let mut third = UnixStream::connect(&path).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_secs(60), ask(&mut third)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 404"));
    }

    #[tokio::test]
    async fn a_connection_whose_answer_is_awaited_does_not_leave() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let (_servers, allowed) = two_places(&path);
        let mut served = Vec::new();
        for _ in 0..2 {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            stream.write_all(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            served.push(stream);
        }
        let mut third = UnixStream::connect(&path).await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(200), ask(&mut third)).await;
        assert!(early.is_err(), "served beyond the bound: {early:?}");
        allowed.notify_one();
        allowed.notify_one();
        for stream in &mut served {
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.ends_with("waited"), "{answer}");
        }
        let mut late = vec![0; 1000];
        let length =
            tokio::time::timeout(Duration::from_secs(20), third.read(&mut late)).await.unwrap().unwrap();
        assert!(late[..length].starts_with(b"HTTP/1.1 404"));
    }
}
