//! Who may ask what: each request of a connection is checked here, and passed to the router of its protocol or refused.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use axum::{Router, body::Body};
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use tokio::sync::Notify;
use tower::ServiceExt;

use super::{
    answers::Answers,
    auth, budget, origin,
    socket::Peer,
    xmlrpc::{SERVER, error_page},
};
use crate::config::Credentials;

/// Where requests go.
#[derive(Debug, Clone)]
pub struct Routers {
    /// Requests whose content type is gRPC's.
    pub grpc: Router,
    /// All others.
    pub http: Router,
}

/// Who may ask what on one socket.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    pub(super) routers: Routers,
    /// `None` = anybody.
    pub(super) credentials: Option<Arc<Credentials>>,
}

impl Gate {
    /// The gate of one connection.
    pub(super) fn for_peer(self, peer: Peer) -> PeerGate {
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
pub(super) struct PeerGate {
    gate: Gate,
    peer: Peer,
    /// How many requests were let in.
    pub(super) requests: Arc<AtomicU64>,
    /// One was not, and the connection is to end; over HTTP/1.1 the response says so itself.
    pub(super) refused: Arc<Notify>,
    pub(super) answers: Answers,
}

impl PeerGate {
    /// Answers one request.
    pub(super) async fn answer(
        self,
        request: Request<Incoming>,
    ) -> Result<Response<Body>, std::convert::Infallible> {
        let mut request = request.map(Body::new);
        let is_grpc = is_grpc(&request);
        if !settle_host(&mut request) {
            return Ok(error_page(StatusCode::BAD_REQUEST));
        }
        if !auth::is_allowed(self.gate.credentials.as_deref(), request.headers()) {
            if request.version() == Version::HTTP_2 {
                self.refused.notify_one();
            }
            let version = request.version();
            return Ok(if is_grpc { unauthenticated_grpc() } else { inert(unauthorized_http(version)) });
        }
        self.requests.fetch_add(1, Ordering::Relaxed);
        request.extensions_mut().insert(self.peer);
        if is_grpc {
            // No browser speaks this protocol without TLS.
            let turn = self.answers.turn().await;
            let response = match self.gate.routers.grpc.oneshot(request).await {
                Ok(response) => budget::settle(response).await,
                Err(never) => match never {},
            };
            return Ok(response.map(|body| turn.with(body)));
        }
        match self.sender(&request) {
            Ok(sender) => {
                request.extensions_mut().insert(sender);
                // Over HTTP/1.1 there is one at a time.
                let turn = self.answers.turn().await;
                let response = self.gate.routers.http.oneshot(request).await;
                response.map(|response| named(inert(response)).map(|body| turn.with(body)))
            }
            Err(foreign) => Ok(inert(forbidden(foreign))),
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

/// What a browser is told with every text: that it is nothing but what it says it is (the lines of a log are anybody's),
/// and is shown inside no other page. The page itself says more.
const INERT: [(HeaderName, &str); 3] = [
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
];

fn inert(mut response: Response<Body>) -> Response<Body> {
    let is_text = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| {
        [&b"text/plain"[..], b"text/html"].iter().any(|text| kind.as_bytes().starts_with(text))
    });
    if is_text {
        for (name, value) in INERT {
            response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
        }
    }
    response
}

/// Every answer names the server as Supervisor's does.
fn named(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().entry(header::SERVER).or_insert(SERVER);
    response
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
