//! HTTP as attackers, proxies and impatient clients speak it. What a request smuggles, where a path leads, who is served
//! while others fill the daemon with connections.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    time::Duration,
};

use supervisor_tests::{
    BOUND, Daemon,
    http::{self, Answer},
};

const PROGRAM: &str = "[program:x]\ncommand=$ACTOR sleep\nstartsecs=0\nstdout_logfile=$DIR/x.log\n";

const CALL: &str = "<methodCall><methodName>supervisor.getAPIVersion</methodName></methodCall>";

fn connect(daemon: &Daemon) -> UnixStream {
    http::connect(&daemon.path("s.sock"))
}

fn get(daemon: &Daemon, path: &str) -> Answer {
    http::ask(connect(daemon), ("GET", path), "", "")
}

/// Everything that comes in answer to these bytes, until the daemon closes or says nothing more.
fn exchange(daemon: &Daemon, bytes: &[u8]) -> String {
    let mut stream = connect(daemon);
    // One that is refused early may be closed before it has sent all.
    let _ = stream.write_all(bytes);
    let mut all = Vec::new();
    let mut buffer = [0; 65536];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => all.extend_from_slice(&buffer[..length]),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
                break;
            }
        }
    }
    String::from_utf8_lossy(&all).into_owned()
}

/// The statuses of the answers in a conversation.
fn statuses(conversation: &str) -> Vec<&str> {
    let lines = conversation.split("HTTP/1.1 ").skip(1);
    lines.map(|answer| &answer[..3]).collect()
}

fn post(headers: &str, body: &str) -> String {
    format!("POST /RPC2 HTTP/1.1\r\nHost: x\r\n{headers}\r\n{body}")
}

fn chunked(body: &str) -> String {
    let (one, two) = body.split_at(body.len() / 3);
    format!("{:x}\r\n{one}\r\n{:X};name=value\r\n{two}\r\n0\r\n\r\n", one.len(), two.len())
}

/// Ends a conversation: who sees another answer than this one after it, has been smuggled past.
const LAST: &str = "GET /ok.html HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[test]
fn what_could_be_read_in_two_ways_is_refused_or_ends_the_connection() {
    let daemon = Daemon::start(PROGRAM);
    let length = CALL.len();
    let hidden = "GET /index.html?processname=x&action=stop HTTP/1.1\r\nHost: x\r\n\r\n";
    for (request, expected) in [
        (post("Content-Length: 5\r\nContent-Length: 6\r\n", hidden), &["400"][..]),
        (post(&format!("Content-Length: {length}, {length}\r\n"), CALL), &["400"]),
        (post(&format!("Content-Length: +{length}\r\n"), CALL), &["400"]),
        (post("Content-Length: -1\r\n", CALL), &["400"]),
        (post("Content-Length: 0x10\r\n", CALL), &["400"]),
        (post("Transfer-Encoding: xchunked\r\n", &chunked(CALL)), &["400"]),
        (post("Transfer-Encoding: chunked, identity\r\n", &chunked(CALL)), &["400"]),
        (post("Transfer-Encoding : chunked\r\n", &chunked(CALL)), &["400"]),
        (post("Transfer-Encoding: chunked\r\n", "zz\r\nabc\r\n0\r\n\r\n"), &["400"]),
        (post("Transfer-Encoding: chunked\r\n", "fffffffffffffffff\r\nabc\r\n0\r\n\r\n"), &["400"]),
        // Chunks count, and what follows is not looked at.
        (
            post(&format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"), &chunked(CALL)),
            &["200"],
        ),
        (post("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", &chunked(CALL)), &["200"]),
        (post(&format!("Host: y\r\nContent-Length: {length}\r\n"), CALL), &["400", "200"]),
        ("GET /ok.html HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n".to_owned(), &["400"]),
        ("GET /ok.html HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n".to_owned(), &["400"]),
        ("GET /ok.html\r\n\r\n".to_owned(), &["400"]),
        ("\x16\x03\x01\x02\0\x01\0\x01\u{7f}\x03\x03".to_owned(), &["400"]),
        // A body that nobody wants is not the next request.
        (
            format!("GET /ok.html HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len()),
            &["200", "200"],
        ),
        (
            format!("POST /nosuch HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len()),
            &["400", "200"],
        ),
        (
            format!("DELETE /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{hidden}", hidden.len()),
            &["400", "200"],
        ),
    ] {
        let conversation = exchange(&daemon, format!("{request}{LAST}").as_bytes());
        assert_eq!(statuses(&conversation), expected, "{request}\n{conversation}");
    }
    assert_eq!(daemon.state("x"), "RUNNING");
}

#[test]
fn what_is_unusual_and_right_is_answered() {
    let daemon = Daemon::start(PROGRAM);
    let length = CALL.len();
    for (request, expected) in [
        (post("Transfer-Encoding: chunked\r\n", &chunked(CALL)), &["200", "200"][..]),
        (
            post(&format!("Expect: 100-continue\r\nContent-Length: {length}\r\n"), CALL),
            &["100", "200", "200"],
        ),
        (post(&format!("Content-Length: {length}\r\nContent-Length: {length}\r\n"), CALL), &["200", "200"]),
        (format!("\r\n\r\n{}", post(&format!("Content-Length: {length}\r\n"), CALL)), &["200", "200"]),
        (
            format!(
                "POST http://other.example/RPC2 HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{CALL}"
            ),
            &["200", "200"],
        ),
        (format!("POST /RPC2 HTTP/1.1\r\nContent-Length: {length}\r\n\r\n{CALL}"), &["200", "200"]),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), &["400", "200"]),
        ("OPTIONS /RPC2 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), &["400", "200"]),
        ("CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), &["400", "200"]),
        ("TRACE / HTTP/1.1\r\nHost: x\r\nCookie: secret\r\n\r\n".to_owned(), &["405", "200"]),
        ("HEAD /RPC2 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), &["400", "200"]),
        ("HEAD /logtail/x HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), &["400", "200"]),
        (
            "GET /ok.html HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n".to_owned(),
            &["200", "200"],
        ),
    ] {
        let conversation = exchange(&daemon, format!("{request}{LAST}").as_bytes());
        assert_eq!(statuses(&conversation), expected, "{request}\n{conversation}");
        assert!(!conversation.contains("secret"), "{conversation}");
    }
    // HTTP/1.0 closes, unless it is asked not to.
    let old = format!("POST /RPC2 HTTP/1.0\r\nContent-Length: {length}\r\n");
    let once = exchange(&daemon, format!("{old}\r\n{CALL}").as_bytes());
    assert!(once.starts_with("HTTP/1.0 200") && once.contains("3.0"), "{once}");
    let mut twice = connect(&daemon);
    for _ in 0..2 {
        twice.write_all(format!("{old}Connection: keep-alive\r\n\r\n{CALL}").as_bytes()).expect("sent");
        let mut answer = String::new();
        while !answer.ends_with("</methodResponse>\n") {
            let mut byte = [0];
            twice.read_exact(&mut byte).expect("an answer");
            answer.push(char::from(byte[0]));
        }
    }
}

#[test]
fn headers_are_bounded() {
    let daemon = Daemon::start(PROGRAM);
    let many = (0..1000).map(|n| format!("X{n}: y\r\n")).collect::<String>();
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n");
    assert_eq!(statuses(&exchange(&daemon, request.as_bytes())), ["431"]);
    let request = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(70_000));
    assert_eq!(statuses(&exchange(&daemon, request.as_bytes())), ["414"]);
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "a".repeat(2_000_000));
    let answered = exchange(&daemon, request.as_bytes());
    assert!(matches!(statuses(&answered)[..], [] | ["431"]), "{answered}");
    assert_eq!(get(&daemon, "/ok.html").status, 200);
}

#[test]
fn a_refusal_reaches_who_sends_more_than_is_read() {
    let port = http::free_port();
    let daemon = Daemon::start(&format!(
        "{PROGRAM}[inet_http_server]\nport=127.0.0.1:{port}\nusername=u\npassword=p\n"
    ));
    let large = "x".repeat(6 << 20);
    for _ in 0..5 {
        let answer =
            http::ask(http::connect_port(port).expect("a connection"), ("POST", "/RPC2"), "", &large);
        assert_eq!(answer.status, 401, "{}", answer.head);
        let answer = http::ask(connect(&daemon), ("POST", "/RPC2"), "", &large);
        assert_eq!(answer.status, 413, "{}", answer.head);
        let answer = http::ask(connect(&daemon), ("POST", "/nosuch"), "", &large);
        assert_eq!(answer.status, 400, "{}", answer.head);
    }
}

#[test]
fn headers_are_written_as_by_supervisor() {
    let daemon = Daemon::start(PROGRAM);
    for (method, path, body) in
        [("POST", "/RPC2", CALL), ("GET", "/RPC2", ""), ("GET", "/nosuch", ""), ("GET", "/", "")]
    {
        let head = http::ask(connect(&daemon), (method, path), "", body).head;
        for name in ["Server: Medusa/1.12", "Content-Length: ", "Content-Type: text/", "Date: "] {
            assert!(head.contains(&format!("\r\n{name}")), "{method} {path}: {head}");
        }
    }
}

#[test]
fn paths_lead_to_no_file() {
    let daemon = Daemon::start(&format!(
        "{PROGRAM}[program:é]\ncommand=$ACTOR sleep\nstdout_logfile=$DIR/e.log\nautostart=false\n"
    ));
    let secret = daemon.path("supervisord.conf");
    let secret = secret.display();
    for path in [
        format!("/logtail/..{secret}"),
        format!("/logtail/../../../../../../../..{secret}"),
        format!("/logtail/{}", secret.to_string().replace('/', "%2f")),
        format!("/logtail/x/../../../../../..{secret}"),
        format!("/logtail/x%00{secret}"),
        format!("/mainlogtail/../../../../../..{secret}").replace("/mainlogtail", "/ui/.."),
        format!("/../../../../../../../..{secret}"),
        format!("/ui/../../../../../../..{secret}"),
        format!("/stylesheets/../../../../../..{secret}"),
        format!("/tail.html?processname=../../../../../../..{secret}"),
        format!("/ui/follow?processname=../../../../../../..{secret}"),
        "/logtail/x%2fstdout%2f..%2f..".to_owned(),
        "/logtail/".to_owned(),
        "/logtail".to_owned(),
    ] {
        let answer = get(&daemon, &path);
        assert!(answer.status == 404 || path.starts_with("/tail.html"), "{path}: {answer:?}");
        assert!(!answer.body.contains("[supervisord]"), "{path}: {answer:?}");
    }
    std::fs::write(daemon.path("e.log"), "from é\n").expect("written");
    for path in ["/logtail/%C3%A9", "/logtail/%C3%A9/stdout", "/logtail/%c3%a9:%C3%A9", "/logtail/é"] {
        let mut stream = connect(&daemon);
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).expect("sent");
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains("from é\n") {
            let mut buffer = [0; 1024];
            let length = stream.read(&mut buffer).expect("an answer");
            assert!(length > 0, "{path}: {}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&buffer[..length]);
        }
    }
    // Nothing of a name becomes a header.
    let answer = get(&daemon, "/index.html?processname=x%0d%0aSet-Cookie:%20a&action=stop");
    assert_eq!((answer.status, answer.header("set-cookie")), (301, None), "{}", answer.head);
}

/// Memory of the daemon in KiB.
fn resident(daemon: &Daemon) -> u64 {
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", daemon.daemon_pid())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
}

#[test]
fn who_asks_for_a_large_log_and_reads_nothing_costs_bounded_memory() {
    let daemon = Daemon::start(PROGRAM);
    daemon.until_state("x", "RUNNING");
    let size = 16 << 20;
    std::fs::write(daemon.path("x.log"), vec![b'x'; size]).expect("written");
    let params = "<param><value>x</value></param><param><value><int>0</int></value></param>\
                  <param><value><int>0</int></value></param>";
    let call = format!(
        "<methodCall><methodName>supervisor.readProcessStdoutLog</methodName><params>{params}</params></methodCall>"
    );
    let request = post(&format!("Content-Length: {}\r\n", call.len()), &call);
    let before = resident(&daemon);
    let mut waiting = Vec::new();
    let mut stuck = Vec::new();
    for _ in 0..40 {
        let mut stream = connect(&daemon);
        stream.write_all(request.as_bytes()).expect("sent");
        stream.set_read_timeout(Some(Duration::from_millis(1))).expect("a bound");
        waiting.push(stream);
    }
    let mut most = 0;
    // More than there is room for: the first have to give way to them. Others are served all the while.
    daemon.until("some of them are answered", || {
        assert_eq!(http::ask(connect(&daemon), ("POST", "/RPC2"), "", CALL).status, 200);
        most = most.max(resident(&daemon).saturating_sub(before));
        for mut stream in std::mem::take(&mut waiting) {
            match stream.read_exact(&mut [0]) {
                Ok(()) => stuck.push(stream),
                Err(_) => waiting.push(stream),
            }
        }
        stuck.len() >= 8
    });
    assert!(most < 128 << 10, "{most} KiB more for 40 clients that want {size} bytes each");
    drop((waiting, stuck));
    let answer = http::ask(connect(&daemon), ("POST", "/RPC2"), "", &call);
    assert_eq!(answer.status, 200);
    assert!(answer.body.len() > size, "{} bytes", answer.body.len());
}

/// A frame of HTTP/2 (source: RFC 9113, 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short frame").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A connection over which a gRPC method is called so many times at once.
fn grpc_calls(daemon: &Daemon, path: &str, message: &[u8], number: u32) -> UnixStream {
    const HEADERS_END: u8 = 4;
    const STREAM_END: u8 = 1;
    let headers = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x")];
    let headers = headers.into_iter().chain([("content-type", "application/grpc"), ("te", "trailers")]);
    let literal = |text: &str| [&[u8::try_from(text.len()).expect("a short text")], text.as_bytes()].concat();
    let headers: Vec<u8> =
        headers.flat_map(|(name, value)| [vec![0], literal(name), literal(value)].concat()).collect();
    let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
    let body = [&[0], &length[..], message].concat();
    let mut text = [&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], &frame(4, 0, 0, b"")].concat();
    for stream in (1..).step_by(2).take(number as usize) {
        text.extend(frame(1, HEADERS_END, stream, &headers));
        text.extend(frame(0, STREAM_END, stream, &body));
    }
    let mut connection = connect(daemon);
    connection.write_all(&text).expect("sent");
    connection
}

#[test]
fn who_asks_for_large_logs_over_grpc_and_reads_nothing_costs_bounded_memory() {
    let daemon = Daemon::start(PROGRAM);
    daemon.until_state("x", "RUNNING");
    std::fs::write(daemon.path("x.log"), vec![b'x'; 8 << 20]).expect("written");
    let before = resident(&daemon);
    // ReadLogRequest { source: { process: "x" } }, answered with 4 MiB, eight times on each connection.
    let message = [0x0a, 3, 0x0a, 1, b'x'];
    let path = "/supervisor.v1.Supervisor/ReadLog";
    let mut waiting: Vec<_> = (0..12).map(|_| grpc_calls(&daemon, path, &message, 8)).collect();
    for stream in &waiting {
        stream.set_read_timeout(Some(Duration::from_millis(1))).expect("a bound");
    }
    let (mut most, mut seen) = (0, vec![0; waiting.len()]);
    // Until all of them are answered as far as they take it: more than settings and what is said about windows.
    daemon.until("all of them are answered", || {
        assert_eq!(http::ask(connect(&daemon), ("POST", "/RPC2"), "", CALL).status, 200);
        most = most.max(resident(&daemon).saturating_sub(before));
        for (stream, seen) in waiting.iter_mut().zip(&mut seen) {
            *seen += stream.read(&mut [0; 64]).unwrap_or(0);
        }
        seen.iter().all(|seen| *seen > 200)
    });
    assert!(most < 128 << 10, "{most} KiB more for 12 clients that want 8 times 4 MiB each");
}

#[test]
fn who_reads_a_log_slowly_costs_no_memory() {
    let daemon = Daemon::start(PROGRAM);
    daemon.until_state("x", "RUNNING");
    let resident = || resident(&daemon);
    let ask = |stream: &mut UnixStream| {
        stream.write_all(b"GET /logtail/x HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
        // The head of the answer is all that is ever read.
        stream.read_exact(&mut [0; 12]).expect("an answer");
    };
    let mut readers: Vec<_> = (0..50).map(|_| connect(&daemon)).collect();
    std::fs::write(daemon.path("x.log"), "begin\n").expect("written");
    readers.iter_mut().for_each(ask);
    let before = resident();
    let mut log = OpenOptions::new().append(true).open(daemon.path("x.log")).expect("the log");
    let line = [b'x'; 1 << 20];
    for _ in 0..64 {
        log.write_all(&line).expect("written");
        // Whoever follows is woken by what the daemon writes; a new follower makes it look.
        assert_eq!(get(&daemon, "/ok.html").status, 200);
    }
    daemon.ctl("signal HUP x");
    let mut late = connect(&daemon);
    ask(&mut late);
    let grown = resident().saturating_sub(before);
    assert!(grown < 32 << 10, "{grown} KiB more for 50 readers of 64 MiB");
}

#[test]
fn idle_and_silent_connections_keep_nobody_out() {
    let daemon = Daemon::start(PROGRAM);
    let mut held = Vec::new();
    // More than are served at once: half of them idle between two requests, half have said nothing or half a request.
    for number in 0..1200 {
        let mut stream = connect(&daemon);
        match number % 4 {
            0 | 1 => {
                stream.write_all(b"GET /ok.html HTTP/1.1\r\nHost: x\r\n\r\n").expect("sent");
                stream.read_exact(&mut [0; 12]).expect("an answer");
            }
            2 => stream.write_all(b"POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-").expect("sent"),
            _ => {}
        }
        held.push(stream);
    }
    assert_eq!(get(&daemon, "/ok.html").status, 200);
    assert_eq!(daemon.state("x"), "RUNNING");
    // The oldest have left, the latest are still served.
    let last = held.iter_mut().rev().nth(3).expect("one that has asked");
    last.set_read_timeout(Some(Duration::from_millis(1))).expect("a bound");
    while last.read(&mut [0; 1000]).is_ok_and(|length| length > 0) {}
    last.set_read_timeout(Some(BOUND)).expect("a bound");
    last.write_all(LAST.as_bytes()).expect("sent");
    let mut answer = String::new();
    last.read_to_string(&mut answer).expect("an answer");
    assert!(answer.contains(" 200 OK"), "{answer}");
}
