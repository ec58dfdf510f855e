use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
};

use std::os::unix::net::UnixListener as StdUnixListener;

use axum::Router;

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
async fn who_says_no_more_while_it_waits_leaves_when_another_client_comes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.sock");
    let (_servers, _) = two_places(&path);
    let mut waiting = Vec::new();
    for _ in 0..2 {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        stream.shutdown().await.unwrap();
        waiting.push(stream);
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
    let length = tokio::time::timeout(Duration::from_secs(20), third.read(&mut late)).await.unwrap().unwrap();
    assert!(late[..length].starts_with(b"HTTP/1.1 404"));
}
