//! A simple client of HTTP/1.1: one request on a connection, the whole answer, nothing understood beyond that.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
};

use crate::BOUND;

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The number in the first line.
    pub status: u16,
    /// The first line and the headers.
    pub head: String,
    /// What follows, as it was sent; bytes that are no UTF-8 are replaced.
    pub body: String,
}

impl Answer {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// A connection to a unix socket, with a bound on reading.
pub fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).expect("a connection");
    stream.set_read_timeout(Some(BOUND)).expect("a bound");
    stream
}

/// A connection to a port of this machine, with a bound on reading.
pub fn connect_port(port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(BOUND)).expect("a bound");
    Ok(stream)
}

/// A port of this machine that is free, and that nobody is given before long.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

/// Sends a request, `headers` each with their line end, and reads the answer to the end of the connection.
pub fn ask(
    mut stream: impl Read + Write,
    (method, target): (&str, &str),
    headers: &str,
    body: &str,
) -> Answer {
    let length = body.len();
    let text = format!(
        "{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).expect("sent");
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).expect("an answer");
    parse(&reply)
}

/// Takes an answer apart.
pub fn parse(reply: &[u8]) -> Answer {
    let reply = String::from_utf8_lossy(reply);
    let (head, body) =
        reply.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no complete answer: {reply:?}"));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// The header with which a user presents a name and a password.
pub fn basic(user: &str, password: &str) -> String {
    format!("Authorization: Basic {}\r\n", base64(format!("{user}:{password}").as_bytes()))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |chunk: &[u8]| {
        let bits = (0..3).fold(0, |bits, at| bits << 8 | u32::from(chunk.get(at).copied().unwrap_or(0)));
        let digit = move |at: usize| char::from(DIGITS[(bits >> (18 - 6 * at) & 63) as usize]);
        let kept = chunk.len() + 1;
        (0..4).map(move |at| if at < kept { digit(at) } else { '=' }).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}
