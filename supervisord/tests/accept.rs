//! The accept loop over real sockets: both protocols on each, authentication, clients that misbehave, the end.
#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

use std::{os::unix::net::UnixListener, path::PathBuf, time::Duration};

use axum::{extract::Extension, routing::get};
use http::{Request, Response, header};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Bytes, client::conn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use supervisord::{
    api::{self, Endpoint, Listener, Peer, Routers, Servers},
    config::Credentials,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    time::{Instant, timeout},
};
use tonic::{Code, service::Routes};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// Longer than anything here takes, short enough to fail a test.
const BOUND: Duration = Duration::from_secs(3600);

/// Servers on a unix and a TCP socket, both with the same credentials.
struct Fixture {
    servers: Servers,
    path: PathBuf,
    port: u16,
    _dir: TempDir,
}

impl Fixture {
    fn start(credentials: Option<(&str, &str)>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.sock");
        let unix = UnixListener::bind(&path).unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let credentials = credentials.map(|(username, password)| Credentials {
            username: username.to_owned(),
            password: password.to_owned(),
        });
        let endpoint = |listener, section: &str| Endpoint {
            listener,
            credentials: credentials.clone(),
            section: section.to_owned(),
            listen: supervisord::config::Listen::Inet { host: "localhost".to_owned(), port },
        };
        let endpoints = vec![
            endpoint(Listener::Unix(unix), "unix_http_server"),
            endpoint(Listener::Tcp(tcp), "inet_http_server"),
        ];
        let (grpc, _reporter) = api::grpc_router(Routes::builder().routes()).unwrap();
        let http = api::http_router(supervisord::request::Handle::new().0, api::Budget::default())
            .route("/peer", get(|Extension(peer): Extension<Peer>| async move { format!("{peer:?}") }));
        let servers = Servers::start(endpoints, &Routers { grpc, http }).unwrap();
        Self { servers, path, port, _dir: dir }
    }

    async fn unix(&self) -> UnixStream {
        UnixStream::connect(&self.path).await.unwrap()
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port)).await.unwrap()
    }
}

/// `Authorization` of a user.
fn basic(pair: &str) -> String {
    use base64::Engine;
    format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(pair))
}

/// One HTTP/1.1 request on a new connection: status, `WWW-Authenticate`, body.
async fn http1<S>(stream: S, path: &str, auth: Option<&str>) -> (u16, Option<String>, String)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let mut request = Request::get(path).header(header::HOST, "localhost");
    if let Some(auth) = auth {
        request = request.header(header::AUTHORIZATION, auth);
    }
    let response: Response<_> =
        sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let challenge =
        response.headers().get(header::WWW_AUTHENTICATE).map(|value| value.to_str().unwrap().to_owned());
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    driver.abort();
    (status, challenge, String::from_utf8_lossy(&body).into_owned())
}

/// One gRPC health check on a new connection.
async fn health<S>(stream: S, auth: Option<&str>) -> Result<ServingStatus, tonic::Status>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, connection) =
        conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let service = tower::service_fn(move |request: Request<tonic::body::Body>| {
        let mut sender = sender.clone();
        async move {
            sender.ready().await?;
            sender.send_request(request).await
        }
    });
    let mut client = HealthClient::with_origin(service, "http://localhost".parse().unwrap());
    let mut request = tonic::Request::new(HealthCheckRequest { service: String::new() });
    if let Some(auth) = auth {
        request.metadata_mut().insert("authorization", auth.parse().unwrap());
    }
    let reply = client.check(request).await;
    driver.abort();
    reply.map(|reply| reply.into_inner().status())
}

/// Sends `bytes`, then waits until the server closes the connection; how long that took.
async fn silence<S: AsyncRead + AsyncWrite + Unpin>(mut stream: S, bytes: &[u8]) -> Duration {
    let started = Instant::now();
    stream.write_all(bytes).await.unwrap();
    let mut rest = Vec::new();
    timeout(BOUND, stream.read_to_end(&mut rest)).await.expect("the server cuts silent clients").ok();
    started.elapsed()
}

#[tokio::test]
async fn each_socket_speaks_both_protocols() {
    let fixture = Fixture::start(None);
    let (status, _, page) = http1(fixture.unix().await, "/RPC2", None).await;
    assert_eq!(status, 400, "{page}");
    assert_eq!(http1(fixture.tcp().await, "/RPC2", None).await.0, 400, "not a POST");
    assert_eq!(http1(fixture.tcp().await, "/nosuch", None).await.0, 404);
    assert_eq!(health(fixture.unix().await, None).await.unwrap(), ServingStatus::Serving);
    assert_eq!(health(fixture.tcp().await, None).await.unwrap(), ServingStatus::Serving);
    fixture.servers.shutdown().await;
}

#[tokio::test]
async fn credentials_are_asked_for_in_both_protocols() {
    let hash = "{SHA}5baa61e4c9b93f3f0682250b6cf8331b7ee68fd8";
    for (password, secret) in [("with:colon", "with:colon"), ("password", hash)] {
        let fixture = Fixture::start(Some(("user", secret)));
        let right = basic(&format!("user:{password}"));
        let wrong = basic("user:wrong");
        for auth in [None, Some(wrong.as_str()), Some("Bearer x"), Some(hash)] {
            let (status, challenge, _) = http1(fixture.unix().await, "/ok.html", auth).await;
            assert_eq!((status, challenge.as_deref()), (401, Some("Basic realm=\"default\"")));
            assert_eq!(health(fixture.tcp().await, auth).await.unwrap_err().code(), Code::Unauthenticated);
        }
        assert_eq!(http1(fixture.tcp().await, "/ok.html", Some(&right)).await.0, 200);
        assert_eq!(health(fixture.unix().await, Some(&right)).await.unwrap(), ServingStatus::Serving);
        fixture.servers.shutdown().await;
    }
}

#[tokio::test]
async fn header_of_a_client_is_ignored_where_none_is_asked_for() {
    let fixture = Fixture::start(None);
    assert_eq!(http1(fixture.unix().await, "/ok.html", Some("Basic !!!")).await.0, 200);
    assert_eq!(health(fixture.unix().await, Some("Basic !!!")).await.unwrap(), ServingStatus::Serving);
}

#[tokio::test]
async fn handlers_learn_who_asks() {
    let fixture = Fixture::start(None);
    let uid = nix::unistd::getuid().as_raw();
    let (_, _, body) = http1(fixture.unix().await, "/peer", None).await;
    assert_eq!(body, format!("Local {{ uid: {uid}, pid: Some({}) }}", std::process::id()));
    let (_, _, body) = http1(fixture.tcp().await, "/peer", None).await;
    assert!(body.starts_with("Remote(127.0.0.1:"), "{body}");
}

/// The clock is simulated: it jumps to the next timer whenever nothing else is left to do.
#[tokio::test(start_paused = true)]
async fn clients_that_never_complete_a_request_are_cut_after_ten_seconds() {
    let fixture = Fixture::start(None);
    let starts: [&[u8]; 4] =
        [b"", b"PRI * HTTP/2.0\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
    for start in starts {
        let on_unix = silence(fixture.unix().await, start).await;
        let on_tcp = silence(fixture.tcp().await, start).await;
        for elapsed in [on_unix, on_tcp] {
            let seconds = elapsed.as_secs_f64();
            assert!(
                (9.9..10.2).contains(&seconds),
                "{:?} cut after {seconds}",
                String::from_utf8_lossy(start)
            );
        }
    }
}

/// Requests that are refused are no way to stay.
#[tokio::test(start_paused = true)]
async fn clients_without_the_password_are_cut_after_ten_seconds() {
    let fixture = Fixture::start(Some(("user", "password")));
    let settings = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    // Stream 1, complete: GET http://x/, from HPACK's static table.
    let headers = b"\x00\x00\x06\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x01x";
    let request = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), settings, headers].concat();
    for elapsed in
        [silence(fixture.unix().await, &request).await, silence(fixture.tcp().await, &request).await]
    {
        assert!(elapsed.as_secs_f64() < 10.2, "cut after {elapsed:?}");
    }
}

/// Clients that know the protocol leave at once.
#[tokio::test(start_paused = true)]
async fn refused_http2_connection_is_shut_down() {
    let fixture = Fixture::start(Some(("user", "password")));
    let (mut sender, connection) =
        conn::http2::handshake(TokioExecutor::new(), TokioIo::new(fixture.tcp().await)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get("http://localhost/ok.html").body(Empty::<Bytes>::new()).unwrap();
    let response: Response<_> = sender.send_request(request).await.unwrap();
    assert_eq!(response.status(), 401);
    drop(response);
    let ended = timeout(Duration::from_secs(5), connection).await.expect("shut down by the server");
    ended.unwrap().unwrap();
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// How an HTTP/2 connection begins: the preface and no settings.
fn preface() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".as_slice(), &frame(4, 0, 0, b"")].concat()
}

/// `POST /x` in the form of a frame of headers: `:method`, `:scheme` and `:path` of the static table, or literally.
fn request(stream: u32) -> Vec<u8> {
    frame(1, 4, stream, b"\x83\x86\x04\x02/x\x01\x09localhost")
}

#[tokio::test]
async fn http2_clients_are_told_how_much_they_may_ask_at_once() {
    let fixture = Fixture::start(None);
    let mut stream = fixture.tcp().await;
    stream.write_all(&preface()).await.unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!((head[0], head[1], head[3]), (0, 0, 4), "settings come first");
    let mut settings = vec![0; usize::from(head[2])];
    stream.read_exact(&mut settings).await.unwrap();
    let said = |name: u8, value: u32| {
        let setting = [[0, name].as_slice(), &value.to_be_bytes()].concat();
        settings.chunks(6).any(|chunk| chunk == setting)
    };
    assert!(said(3, 100) && said(6, 16 << 10), "streams and bytes of headers: {settings:?}");
}

/// Whether the server ends a connection over which this is sent, all at once and then again and again.
async fn is_cut(fixture: &Fixture, begin: &[u8], again: impl Fn(u32) -> Vec<u8>) {
    let (mut reader, mut writer) = tokio::io::split(fixture.tcp().await);
    writer.write_all(&[&preface(), begin].concat()).await.unwrap();
    let flood = async {
        for round in 0..100_000 {
            if writer.write_all(&again(round)).await.is_err() {
                return;
            }
        }
        panic!("never cut");
    };
    let drain = async { while reader.read(&mut [0; 4096]).await.is_ok_and(|count| count > 0) {} };
    timeout(Duration::from_secs(60), async { tokio::join!(flood, drain) }).await.unwrap();
}

#[tokio::test]
async fn floods_over_http2_end_their_connection() {
    let fixture = Fixture::start(None);
    // Requests that are taken back at once.
    let reset = |round: u32| {
        let one = |at| [request(at), frame(3, 0, at, &8_u32.to_be_bytes())].concat();
        (0..50).map(|at| one(1 + 2 * (round * 50 + at))).collect::<Vec<_>>().concat()
    };
    is_cut(&fixture, b"", reset).await;
    // Headers that never end, with nothing in them and with something.
    let open = frame(1, 0, 1, b"\x83\x86\x04\x02/x");
    is_cut(&fixture, &open, |_| frame(9, 0, 1, b"").repeat(100)).await;
    is_cut(&fixture, &open, |_| frame(9, 0, 1, b"\x00\x01a\x01b").repeat(100)).await;
    assert_eq!(health(fixture.tcp().await, None).await.unwrap(), ServingStatus::Serving);
}

#[tokio::test(start_paused = true)]
async fn one_byte_at_a_time_is_no_way_to_stay_and_hinders_nobody() {
    let fixture = Fixture::start(None);
    let mut slow = fixture.unix().await;
    let started = Instant::now();
    let request = b"GET / HTTP/1.1\r\nHost: localhost-with-a-very-long-name\r\n\r\n";
    for byte in request {
        if slow.write_all(&[*byte]).await.is_err() {
            break;
        }
        assert_eq!(http1(fixture.unix().await, "/ok.html", None).await.0, 200);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!((10..13).contains(&started.elapsed().as_secs()), "cut after {:?}", started.elapsed());
}

/// Supervisor keeps idle connections for half an hour, and XML-RPC clients rely on it.
#[tokio::test(start_paused = true)]
async fn connection_may_idle_between_requests() {
    let fixture = Fixture::start(None);
    let mut stream = fixture.unix().await;
    for _ in 0..3 {
        stream.write_all(b"GET /nosuch HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b"</body>\r\n") {
            assert_ne!(timeout(BOUND, stream.read_buf(&mut seen)).await.unwrap().unwrap(), 0, "closed");
        }
        tokio::time::sleep(Duration::from_secs(20 * 60)).await;
    }
    let rest = timeout(BOUND, stream.read_u8()).await.expect("closed in the end");
    assert!(rest.is_err());
}

#[tokio::test(start_paused = true)]
async fn shutdown_cuts_after_a_second_what_does_not_end_by_itself() {
    let fixture = Fixture::start(None);
    // A request whose body never comes, an idle connection, one that has said nothing.
    let mut hanging = fixture.unix().await;
    hanging.write_all(b"POST /endless HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n").await.unwrap();
    let _silent = fixture.tcp().await;
    assert_eq!(http1(fixture.unix().await, "/ok.html", None).await.0, 200);
    let started = Instant::now();
    fixture.servers.shutdown().await;
    assert!(started.elapsed() <= Duration::from_millis(1100), "{:?}", started.elapsed());
    assert!(TcpStream::connect(("127.0.0.1", fixture.port)).await.is_err(), "nobody listens any more");
}

/// In HTTP/2 the host is no header. A proxy that ends TLS may pass a browser's requests on so.
#[tokio::test]
async fn a_browser_by_http2_is_judged_by_the_host_that_it_asks() {
    let fixture = Fixture::start(None);
    let (mut sender, connection) =
        conn::http2::handshake(TokioExecutor::new(), TokioIo::new(fixture.tcp().await)).await.unwrap();
    tokio::spawn(connection);
    for (origin, status) in [("http://localhost", 200), ("http://evil.example", 403)] {
        let request = Request::get("http://localhost/ok.html")
            .header(header::USER_AGENT, "Mozilla/5.0")
            .header(header::ORIGIN, origin)
            .body(Empty::<Bytes>::new())
            .unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.status().as_u16(), status, "{origin}");
    }
    // A name that anybody may own, on a port without a password.
    let request = Request::get("http://evil.example/ok.html").header(header::USER_AGENT, "Mozilla/5.0");
    let answer = sender.send_request(request.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    assert_eq!(answer.status().as_u16(), 403);
}

#[tokio::test]
async fn sockets_are_not_inherited_by_programs() {
    let fixture = Fixture::start(None);
    let _held = fixture.unix().await;
    assert_eq!(http1(fixture.unix().await, "/ok.html", None).await.0, 200);
    let mut sockets = 0;
    for entry in std::fs::read_dir("/proc/self/fd").unwrap() {
        let entry = entry.unwrap();
        let number = entry.file_name();
        let Ok(target) = std::fs::read_link(entry.path()) else { continue };
        let Ok(info) = std::fs::read_to_string(PathBuf::from("/proc/self/fdinfo").join(&number)) else {
            continue;
        };
        // The first three are the harness's.
        if !target.to_string_lossy().starts_with("socket:")
            || number.to_string_lossy().len() == 1 && number.to_string_lossy().as_ref() < "3"
        {
            continue;
        }
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).unwrap().trim();
        assert_ne!(u32::from_str_radix(flags, 8).unwrap() & libc::O_CLOEXEC as u32, 0, "{number:?}");
        sockets += 1;
    }
    assert!(sockets >= 4, "listeners and connections were looked at");
}

#[tokio::test]
async fn reflection_lists_the_services() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let fixture = Fixture::start(None);
    let (sender, connection) =
        conn::http2::handshake(TokioExecutor::new(), TokioIo::new(fixture.unix().await)).await.unwrap();
    tokio::spawn(connection);
    let service = tower::service_fn(move |request: Request<tonic::body::Body>| {
        let mut sender = sender.clone();
        async move { sender.send_request(request).await }
    });
    let mut client = ServerReflectionClient::with_origin(service, "http://localhost".parse().unwrap());
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut replies = client.server_reflection_info(tokio_stream::once(ask)).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) =
        replies.message().await.unwrap().unwrap().message_response
    else {
        panic!("no list")
    };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    assert!(
        names.contains(&"supervisor.v1.Supervisor") && names.contains(&"grpc.health.v1.Health"),
        "{names:?}"
    );
}
