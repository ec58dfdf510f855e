//! Asks a running daemon over XML-RPC, before there is a loop: one question after the other, each with a time limit.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::answer::{self, AnswerError};
use super::plan::OldProcess;
use crate::api::xmlrpc::value::Value;

/// Time that the old daemon has for each step of an answer. It looks for requests between two rounds of its loop.
const PATIENCE: Duration = Duration::from_secs(10);
/// Largest answer that is read: a thousand processes need less than two megabytes.
const LARGEST: u64 = 64 << 20;

/// Where a daemon listens, and what it wants to hear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// `unix:///path` or `http://host:port`, as the user knows it.
    pub url: String,
    address: Address,
    credentials: Option<(String, String)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Address {
    Unix(PathBuf),
    /// `host:port`.
    Inet(String),
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address has another form.
    #[error("expected unix:///path or http://host:port")]
    Url,
    /// Nobody is there, or the way is closed.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// Name or password are wrong or missing.
    #[error("it wants another username and password than those in [supervisorctl]")]
    Unauthorized,
    /// Something answers that is no supervisord.
    #[error("it answers with status {0}, expected 200")]
    Status(u16),
    /// No HTTP, or not to the end.
    #[error("what it answers is not HTTP")]
    Http,
    /// The answer is a refusal, or makes no sense.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The answer is another than this method has.
    #[error("unexpected answer to {0}")]
    Unexpected(&'static str),
}

impl Server {
    /// A server of this address. Empty user names are none.
    ///
    /// # Errors
    /// [`ClientError::Url`].
    pub fn new(url: &str, username: Option<String>, password: Option<String>) -> Result<Self, ClientError> {
        let address = match (url.strip_prefix("unix://"), url.strip_prefix("http://")) {
            (Some(path), _) if path.starts_with('/') => Address::Unix(path.into()),
            (None, Some(rest)) if !rest.is_empty() => {
                let authority = rest.split('/').next().unwrap_or_default();
                let has_port =
                    authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
                Address::Inet(if has_port { authority.to_owned() } else { format!("{authority}:80") })
            }
            _ => return Err(ClientError::Url),
        };
        let credentials =
            username.filter(|name| !name.is_empty()).map(|name| (name, password.unwrap_or_default()));
        Ok(Self { url: url.to_owned(), address, credentials })
    }

    /// The pid of the daemon.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn pid(&self) -> Result<i32, ClientError> {
        let pid = self.call("supervisor.getPID")?.as_int().and_then(|pid| i32::try_from(pid).ok());
        pid.filter(|pid| *pid > 0).ok_or(ClientError::Unexpected("getPID"))
    }

    /// All processes.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub fn processes(&self) -> Result<Vec<OldProcess>, ClientError> {
        const METHOD: &str = "getAllProcessInfo";
        let answer = self.call("supervisor.getAllProcessInfo")?;
        let all = answer.as_array().ok_or(ClientError::Unexpected(METHOD))?;
        all.iter().map(|one| OldProcess::read(one).ok_or(ClientError::Unexpected(METHOD))).collect()
    }

    /// Calls a method without arguments.
    fn call(&self, method: &str) -> Result<Value, ClientError> {
        let body = format!(
            "<?xml version='1.0'?>\n<methodCall><methodName>{method}</methodName><params></params></methodCall>\n"
        );
        let authorization = self.credentials.as_ref().map(|(name, password)| {
            format!("Authorization: Basic {}\r\n", STANDARD.encode(format!("{name}:{password}")))
        });
        let request = format!(
            "POST /RPC2 HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/xml\r\nContent-Length: {}\r\n\
             Connection: close\r\n{}\r\n{body}",
            body.len(),
            authorization.unwrap_or_default(),
        );
        let response = match &self.address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                exchange(stream, &request)?
            }
            Address::Inet(authority) => {
                let stream = TcpStream::connect(authority)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                exchange(stream, &request)?
            }
        };
        Ok(answer::parse(String::from_utf8_lossy(content(&response)?).as_bytes())?)
    }
}

/// Sends the request and reads until there is a whole answer.
fn exchange(mut stream: impl Read + Write, request: &str) -> Result<Vec<u8>, ClientError> {
    stream.write_all(request.as_bytes())?;
    let mut response = Vec::new();
    let mut piece = [0; 16 << 10];
    while !is_whole(&response) && (response.len() as u64) < LARGEST {
        match stream.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => response.extend_from_slice(&piece[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it does not answer").into());
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(response)
}

/// Head and body of a response.
fn split(response: &[u8]) -> Option<(&str, &[u8])> {
    let end = response.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((std::str::from_utf8(&response[..end]).ok()?, &response[end + 4..]))
}

/// The length of the body, if the head tells it.
fn length(head: &str) -> Option<usize> {
    head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })
}

/// Whether nothing more is to be read. Without a length the end of the connection is the end of the body.
fn is_whole(response: &[u8]) -> bool {
    split(response).is_some_and(|(head, body)| length(head).is_some_and(|length| body.len() >= length))
}

/// The body of a response that has status 200 and is complete.
fn content(response: &[u8]) -> Result<&[u8], ClientError> {
    let (head, body) = split(response).ok_or(ClientError::Http)?;
    let status = head.strip_prefix("HTTP/1.").and_then(|rest| rest.split(' ').nth(1));
    match status.and_then(|status| status.parse().ok()) {
        Some(200) if length(head).is_none_or(|length| body.len() >= length) => Ok(body),
        Some(200) | None => Err(ClientError::Http),
        Some(401) => Err(ClientError::Unauthorized),
        Some(status) => Err(ClientError::Status(status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_supervisorctl_are_understood() {
        let unix = Server::new("unix:///run/s.sock", None, None).unwrap();
        assert_eq!(unix.address, Address::Unix("/run/s.sock".into()));
        for (url, authority) in [
            ("http://localhost:9001", "localhost:9001"),
            ("http://10.0.0.1:9001/RPC2", "10.0.0.1:9001"),
            ("http://host", "host:80"),
        ] {
            let server = Server::new(url, None, None).unwrap();
            assert_eq!(server.address, Address::Inet(authority.into()), "{url}");
        }
        for url in ["", "unix://relative", "https://host", "ftp://x", "http://"] {
            assert!(matches!(Server::new(url, None, None), Err(ClientError::Url)), "{url}");
        }
    }

    #[test]
    fn answers_are_read_by_their_length_and_status() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc";
        assert!(is_whole(whole));
        assert_eq!(content(whole).unwrap(), b"abc");
        assert!(!is_whole(&whole[..whole.len() - 1]));
        assert!(matches!(content(&whole[..whole.len() - 1]), Err(ClientError::Http)));
        assert_eq!(content(b"HTTP/1.0 200 OK\r\n\r\nx").unwrap(), b"x");
        assert!(matches!(content(b"HTTP/1.1 401 Unauthorized\r\n\r\n"), Err(ClientError::Unauthorized)));
        assert!(matches!(content(b"HTTP/1.1 404 Not Found\r\n\r\n"), Err(ClientError::Status(404))));
        assert!(matches!(content(b"SSH-2.0\r\n\r\n"), Err(ClientError::Http)));
    }
}
