//! The connection to supervisord: HTTP/2 over a unix socket or TCP, and what can go wrong with it.
//!
//! Owns connecting, authentication and the translation of gRPC statuses into [`Failure`]. A connection is one hyper
//! connection and a small service around it: nothing of it balances or reconnects, which keeps a whole
//! command at about a millisecond.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
};

use base64::Engine as _;
use http::{HeaderValue, Uri, header::AUTHORIZATION};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use supervisor_proto::v1::{Reason, supervisor_client::SupervisorClient};
use supervisord::config::Credentials;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, UnixStream},
    task::JoinHandle,
};
use tonic::{Status, body::Body};

/// The calls of the contract.
pub type Rpc = SupervisorClient<Connection>;

/// Largest answer that is accepted: the status of tens of thousands of processes.
const MAX_ANSWER: usize = 256 << 20;

/// How much the daemon may send before we have read it: enough that a log passes without waiting for us.
const WINDOW: u32 = 1 << 20;

/// How often, and after which pause, a connection is tried again that found no room in the queue of the socket.
const QUEUE_ATTEMPTS: u32 = 200;
const QUEUE_PAUSE: std::time::Duration = std::time::Duration::from_millis(10);

/// Metadata that names the [`Reason`] of a failed call.
const REASON_KEY: &str = "supervisor-reason";

/// A daemon that was connected to. Dropping it closes the connection.
pub struct Client {
    /// The calls.
    pub rpc: Rpc,
    /// Moves bytes between the socket and the calls.
    driver: JoinHandle<hyper::Result<()>>,
    /// How that ended, once it has been asked: with which error, if with one.
    end: Option<Option<String>>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Client {
    /// Connects to `url`.
    ///
    /// # Errors
    /// [`ConnectError`], which tells the cause and the cure.
    pub async fn connect(url: &str, credentials: Option<&Credentials>) -> Result<Self, ConnectError> {
        let failed = |source| ConnectError::new(url, source);
        let unknown = || ConnectError::UnknownProtocol { url: without_user(url) };
        match Address::parse(url).ok_or_else(unknown)? {
            Address::Unix(path) => {
                let stream = connect_unix(&path).await.map_err(failed)?;
                Self::over(stream, credentials).await.map_err(failed)
            }
            Address::Tcp(host, port) => {
                let stream = TcpStream::connect((host.as_str(), port)).await.map_err(failed)?;
                stream.set_nodelay(true).map_err(failed)?;
                Self::over(stream, credentials).await.map_err(failed)
            }
        }
    }

    /// Whether nothing can be asked any more over this connection.
    pub fn has_ended(&self) -> bool {
        self.end.is_some() || self.driver.is_finished()
    }

    /// What a failure really was: a call that met an ended connection does not know why it ended.
    pub async fn explain(&mut self, failure: Failure) -> Failure {
        self.settle().await;
        match &self.end {
            Some(Some(problem)) if matches!(failure, Failure::Broken(Broken::Lost(_))) => {
                Failure::Broken(Broken::of_transport(problem.clone()))
            }
            Some(_) | None => failure,
        }
    }

    /// Takes note of the end of the connection, if it has ended.
    async fn settle(&mut self) {
        if self.end.is_none() && self.driver.is_finished() {
            self.end = Some(match (&mut self.driver).await {
                Ok(Err(error)) => Some(innermost(&error)),
                Ok(Ok(())) | Err(_) => None,
            });
        }
    }

    /// Speaks HTTP/2 over `stream`.
    async fn over<S>(stream: S, credentials: Option<&Credentials>) -> io::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let driver = tokio::spawn(connection);
        let connection = Connection { sender, authorization: credentials.map(authorization) };
        let rpc = SupervisorClient::with_origin(connection, Uri::from_static("http://localhost"))
            .max_decoding_message_size(MAX_ANSWER);
        Ok(Self { rpc, driver, end: None })
    }
}

/// Connects; where the queue of the socket is full, for as long as it takes to work off what a burst leaves there.
async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    for _ in 0..QUEUE_ATTEMPTS {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tokio::time::sleep(QUEUE_PAUSE).await,
            other => return other,
        }
    }
    UnixStream::connect(path).await
}

/// The header that presents `credentials`.
fn authorization(credentials: &Credentials) -> HeaderValue {
    let pair = format!("{}:{}", credentials.username, credentials.password);
    let encoded = base64::engine::general_purpose::STANDARD.encode(pair);
    let mut value = HeaderValue::try_from(format!("Basic {encoded}"))
        .expect("base64 is made of letters that a header may have");
    value.set_sensitive(true);
    value
}

/// Sends the requests of the generated client over one HTTP/2 connection.
#[derive(Clone)]
pub struct Connection {
    sender: http2::SendRequest<Body>,
    authorization: Option<HeaderValue>,
}

impl tower_service::Service<http::Request<Body>> for Connection {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.sender.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(value) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, value.clone());
        }
        Box::pin(self.sender.send_request(request))
    }
}

/// Where a URL points to.
#[derive(Debug, PartialEq, Eq)]
enum Address {
    Unix(PathBuf),
    Tcp(String, u16),
}

impl Address {
    /// `unix:///path` or `http://[user@]host[:port][/path]`; `None` for anything else.
    fn parse(url: &str) -> Option<Self> {
        if let Some(path) = url.strip_prefix("unix://") {
            return Some(Self::Unix(PathBuf::from(path)));
        }
        let rest = url.strip_prefix("http://")?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let place = authority.rsplit_once('@').map_or(authority, |(_user, place)| place);
        let (host, port) = match place.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':').unwrap_or("")),
            None => place.rsplit_once(':').unwrap_or((place, "")),
        };
        let port = if port.is_empty() { 80 } else { port.parse().ok()? };
        Some(Self::Tcp(host.to_lowercase(), port))
    }
}

/// No connection came about.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL is of a kind that we cannot speak to.
    #[error("unknown protocol for serverurl {url}: expected unix:///path or http://host:port")]
    UnknownProtocol {
        /// As configured.
        url: String,
    },
    /// Nobody listens.
    #[error("{url} refused connection")]
    Refused {
        /// As configured.
        url: String,
    },
    /// There is no socket file.
    #[error("{url} no such file")]
    Missing {
        /// As configured.
        url: String,
    },
    /// The socket file may not be used by this user.
    #[error("{url}: permission denied: {explanation}")]
    Denied {
        /// As configured.
        url: String,
        /// Who may, who asked, and what to do.
        explanation: String,
    },
    /// Anything else.
    #[error("{url}: {source}")]
    Other {
        /// As configured.
        url: String,
        /// What the system said.
        source: io::Error,
    },
}

impl ConnectError {
    fn new(url: &str, source: io::Error) -> Self {
        let url = without_user(url);
        match source.kind() {
            io::ErrorKind::ConnectionRefused => Self::Refused { url },
            io::ErrorKind::NotFound => Self::Missing { url },
            io::ErrorKind::PermissionDenied => {
                let explanation = match url.strip_prefix("unix://") {
                    Some(path) => explain_denial(Path::new(path)),
                    None => source.to_string(),
                };
                Self::Denied { url, explanation }
            }
            _other => Self::Other { url, source },
        }
    }

    /// What to do about it, for people; `None` when the error itself says it.
    pub fn cure(&self, configuration: Option<&Path>) -> Option<String> {
        let start = match configuration {
            Some(file) => format!("supervisord -c {}", file.display()),
            None => "supervisord -c FILE".to_owned(),
        };
        match self {
            Self::Refused { url } if url.starts_with("unix://") => Some(format!(
                "the socket file is there and nobody listens: supervisord has ended; start it with: {start}"
            )),
            Self::Refused { .. } => Some(format!(
                "nobody listens there: start supervisord with: {start}, \
                 or name the file with its [supervisorctl] section (-c) or its address (-s)"
            )),
            Self::Missing { .. } => Some(format!(
                "supervisord does not run, or listens elsewhere: start it with: {start}, \
                 or compare serverurl in [supervisorctl] with file in [unix_http_server]"
            )),
            Self::UnknownProtocol { .. } | Self::Denied { .. } | Self::Other { .. } => None,
        }
    }
}

/// `url` as it may be shown: without the user name and the password that it may carry.
pub(crate) fn without_user(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    if scheme == "unix" {
        return url.to_owned();
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let at = rest[..end].rfind('@').map_or(0, |at| at + 1);
    format!("{scheme}://{}", &rest[at..])
}

/// Who owns the socket, who asks, and what would help.
fn explain_denial(path: &Path) -> String {
    use std::os::unix::fs::MetadataExt as _;
    let asker = nix::unistd::geteuid();
    let Ok(meta) = path.metadata() else {
        return format!(
            "a directory above it may not be searched by uid {asker}: become a user who may, \
             or put the socket elsewhere (file in [unix_http_server])"
        );
    };
    format!(
        "the socket belongs to uid {}, gid {} with mode {:04o}, and you are uid {asker}: become that user (sudo), \
         or set chmod and chown in [unix_http_server]",
        meta.uid(),
        meta.gid(),
        meta.mode() & 0o7777,
    )
}

/// A command could not be carried out.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The daemon wants credentials, or others.
    #[error("Server requires authentication")]
    Unauthenticated,
    /// The daemon refuses.
    #[error("{message}")]
    Refused {
        /// Why.
        reason: Reason,
        /// A sentence about it.
        message: String,
    },
    /// The connection broke, or what answers is no supervisord of this kind.
    #[error("{0}")]
    Broken(Broken),
}

/// How a call broke.
#[derive(Debug, PartialEq, Eq)]
pub enum Broken {
    /// The connection ended before the answer.
    Lost(String),
    /// What answers does not speak the contract.
    Foreign(String),
    /// The daemon reports an error of its own.
    Reported(String),
}

impl Broken {
    /// What an error of the transport means. What is not HTTP/2 does not make sense as frames.
    fn of_transport(detail: String) -> Self {
        let is_foreign = ["frame", "protocol error"].iter().any(|word| detail.contains(word));
        if is_foreign { Self::Foreign(detail) } else { Self::Lost(detail) }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost(detail) => write!(f, "the connection ended before the answer ({detail})"),
            Self::Foreign(detail) => {
                write!(
                    f,
                    "what listens there does not speak gRPC: another program, or the supervisord of Supervisor ({detail})"
                )
            }
            Self::Reported(message) => f.write_str(message),
        }
    }
}

impl Failure {
    /// Whether the daemon ended a stream because it is being replaced in place: what was asked can be asked again.
    pub fn is_upgrade(&self) -> bool {
        matches!(self, Self::Refused { reason: Reason::Upgrading, .. })
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        if let Some(reason) = reason_of(&status) {
            return Self::Refused { reason, message: status.message().to_owned() };
        }
        if status.code() == tonic::Code::Unauthenticated {
            return Self::Unauthenticated;
        }
        Self::Broken(match std::error::Error::source(&status) {
            Some(error) => Broken::of_transport(innermost(error)),
            None if status.code() == tonic::Code::Unimplemented => {
                Broken::Foreign(status.message().to_owned())
            }
            // The words of the generated client for a connection that ended before it was asked anything.
            None if status.message().starts_with("Service was not ready") => {
                Broken::Lost(status.message().to_owned())
            }
            None => Broken::Reported(status.message().to_owned()),
        })
    }
}

/// The reason that the daemon attached.
fn reason_of(status: &Status) -> Option<Reason> {
    let name = status.metadata().get(REASON_KEY)?.to_str().ok()?;
    Reason::from_str_name(&format!("REASON_{name}"))
}

/// The innermost words of an error, where its cause is.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(inner) = error.source() {
        error = inner;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_full_queue_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let listener = tokio::net::UnixSocket::new_stream().unwrap();
        listener.bind(&path).unwrap();
        let listener = listener.listen(1).unwrap();
        let mut queue = Vec::new();
        let full = loop {
            match UnixStream::connect(&path).await {
                Ok(stream) => queue.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        let accept = async {
            tokio::task::yield_now().await;
            listener.accept().await
        };
        let (connected, accepted) = tokio::join!(connect_unix(&path), accept);
        connected.unwrap();
        accepted.unwrap();
    }

    #[test]
    fn a_password_in_a_url_is_not_shown() {
        for (url, expected) in [
            ("http://me:secret@host:1/x@y", "http://host:1/x@y"),
            ("https://me:se@cret@host", "https://host"),
            ("http://host:1", "http://host:1"),
            ("unix:///run/a@b.sock", "unix:///run/a@b.sock"),
            ("nonsense", "nonsense"),
        ] {
            let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
            let error = ConnectError::new(url, refused);
            assert_eq!(error.to_string(), format!("{expected} refused connection"));
        }
    }

    #[test]
    fn urls_are_taken_apart_as_supervisor_does() {
        let tcp = |host: &str, port| Some(Address::Tcp(host.to_owned(), port));
        for (url, expected) in [
            ("unix:///run/s.sock", Some(Address::Unix(PathBuf::from("/run/s.sock")))),
            ("http://localhost:9001", tcp("localhost", 9001)),
            ("http://Localhost", tcp("localhost", 80)),
            ("http://me:secret@host:1/RPC2?x", tcp("host", 1)),
            ("http://[::1]:9001/", tcp("::1", 9001)),
            ("http://host:port", None),
            ("https://host:1", None),
            ("localhost:9001", None),
        ] {
            assert_eq!(Address::parse(url), expected, "{url}");
        }
    }

    #[test]
    fn a_status_with_a_reason_is_a_refusal() {
        let mut status = Status::not_found("no such process");
        status.metadata_mut().insert(REASON_KEY, "BAD_NAME".parse().unwrap());
        assert!(matches!(Failure::from(status), Failure::Refused { reason: Reason::BadName, .. }));
        assert!(matches!(Failure::from(Status::unauthenticated("")), Failure::Unauthenticated));
        let failure = Failure::from(Status::internal("a bug"));
        assert!(matches!(failure, Failure::Broken(Broken::Reported(text)) if text == "a bug"));
    }
}
