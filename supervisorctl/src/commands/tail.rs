//! `tail`, and the reading of logs that it shares with `maintail`.

use std::io::{self, Write as _};

use serde_json::json;
use supervisor_proto::v1::{Channel, FollowLogRequest, LogChunk, LogSource, ReadLogRequest, Reason};
use supervisord::config::python::repr;
use tonic::Streaming;

use super::Verb;
use crate::{
    client::{Failure, Rpc},
    render::{Format, Plain, exit, reason_name},
    session::Session,
};

/// What is shown of a log when no number is given.
pub(super) const USUAL: i64 = 1600;

/// Where a followed log begins before its end.
pub(super) const BACKLOG: i64 = 1024;

/// How much of a log to show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// `-f`: its end, and what is appended.
    Follow,
    /// `-BYTES`: so many of its last bytes; 0 = all.
    Last(i64),
}

impl Extent {
    /// `-f` or `-BYTES`.
    pub(super) fn parse(modifier: &str) -> Option<Self> {
        match modifier.strip_prefix('-')? {
            "f" => Some(Self::Follow),
            number => number.parse().ok().map(Self::Last),
        }
    }
}

/// A log, and how it is called in messages.
pub(super) struct Log {
    /// For the daemon.
    pub(super) source: LogSource,
    /// `NAME` in `NAME: ERROR (…)`.
    pub(super) subject: String,
    /// Path of the same log in the web interface; Supervisor names it when it cannot be followed.
    pub(super) path: String,
}

/// Shows the end of a process's log.
pub(super) async fn run(session: &mut Session, arg: &str) -> Result<(), Failure> {
    match parse(arg) {
        Ok((extent, log)) => show(session, extent, log).await,
        Err(mistake) => {
            session.say(&mistake);
            Ok(())
        }
    }
}

/// Understands `[-f|-BYTES] NAME [stdout|stderr]`.
fn parse(arg: &str) -> Result<(Extent, Log), Plain> {
    let misuse = |message| Err(Plain::misuse(Verb::Tail, message, exit::GENERIC));
    let mistake = |message: &str| Err(Plain::mistake(message, exit::GENERIC));
    let mut words: Vec<&str> = arg.split_whitespace().collect();
    if words.is_empty() {
        return misuse("too few arguments");
    } else if words.len() > 3 {
        return misuse("too many arguments");
    }
    let modifier = words[0].starts_with('-').then(|| words.remove(0));
    let (name, channel) = match (words.first(), words.last()) {
        (Some(name), Some(_)) if words.len() == 1 => (*name, "stdout".to_owned()),
        (Some(name), Some(channel)) => (*name, channel.to_lowercase()),
        (_, _) => return mistake("tail requires process name"),
    };
    let number = match channel.as_str() {
        "stdout" => Channel::Stdout,
        "stderr" => Channel::Stderr,
        other => return mistake(&format!("bad channel {}", repr(other))),
    };
    let extent = match modifier.map(|text| (text, Extent::parse(text))) {
        None => Extent::Last(USUAL),
        Some((_, Some(extent))) => extent,
        Some((text, None)) => return mistake(&format!("bad argument {text}")),
    };
    let source = LogSource { process: name.to_owned(), channel: number.into() };
    Ok((extent, Log { source, subject: name.to_owned(), path: format!("/logtail/{name}/{channel}") }))
}

/// Shows a log to the extent asked for.
pub(super) async fn show(session: &mut Session, extent: Extent, log: Log) -> Result<(), Failure> {
    match extent {
        Extent::Follow => follow(session, log).await,
        Extent::Last(bytes) => {
            let subject = log.subject.clone();
            match read(session, bytes, log).await {
                Err(Failure::Refused { reason, message }) => {
                    let Some(words) = words(reason) else {
                        return Err(Failure::Refused { reason, message });
                    };
                    let text = format!("{subject}: ERROR ({words})");
                    session.say(&Plain::error(text, reason_name(reason), words, Some(exit::GENERIC)));
                    Ok(())
                }
                outcome => outcome,
            }
        }
    }
}

/// What Supervisor says when a log cannot be read.
fn words(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::NoFile => Some("no log file"),
        Reason::Failed => Some("unknown error reading log"),
        Reason::BadName | Reason::BadGroup => Some("no such process name"),
        _unexpected => None,
    }
}

/// Prints the last bytes of a log and a line end: in text the bytes as they are.
async fn read(session: &mut Session, bytes: i64, log: Log) -> Result<(), Failure> {
    let mut rpc = session.rpc().await?;
    let mut request = ReadLogRequest { source: Some(log.source), offset: -bytes, length: 0 };
    let first = rpc.read_log(request.clone()).await?.into_inner();
    // What is appended meanwhile is not waited for: a busy log would never end.
    let (begin, end) = (first.offset, first.size);
    let mut offset = begin;
    let mut chunk = first.data;
    let mut all = Vec::new();
    while !chunk.is_empty() {
        offset += chunk.len() as i64;
        match session.format {
            Format::Text => session.write(&chunk),
            Format::Json => all.extend_from_slice(&chunk),
        }
        if offset >= end || !session.flush() {
            break;
        }
        (request.offset, request.length) = (offset, end - offset);
        chunk = rpc.read_log(request.clone()).await?.into_inner().data;
    }
    let data = String::from_utf8_lossy(&all);
    session.say(&Plain::new("", json!({"name": log.subject, "offset": begin, "size": end, "data": data})));
    Ok(())
}

/// Follows a log until Ctrl-C or the end of the daemon.
async fn follow(session: &mut Session, log: Log) -> Result<(), Failure> {
    tokio::select! {
        // Ctrl-C first, so that it counts from the moment that the user is told about it.
        biased;
        _interrupt = tokio::signal::ctrl_c() => {
            session.print("");
            Ok(())
        }
        outcome = pump(session, log) => outcome,
    }
}

/// Prints the end of a log and what is appended to it.
///
/// A log that cannot be followed is reported on stderr and is no failure, as in Supervisor.
async fn pump(session: &mut Session, log: Log) -> Result<(), Failure> {
    if session.format == Format::Text {
        session.print("==> Press Ctrl-C to exit <==");
        session.flush();
    }
    let mut rpc = session.rpc().await?;
    let mut chunks = match Following::begin(&mut rpc, log.source).await {
        Ok(chunks) => chunks,
        Err(Failure::Refused { reason, .. }) => {
            complain(session, &log.path, reason);
            return Ok(());
        }
        Err(failure) => return Err(failure),
    };
    loop {
        let data = match chunks.next().await {
            Ok(Some(data)) => data,
            Ok(None) => return Ok(()),
            Err(failure) if failure.is_upgrade() => {
                session.disconnect();
                chunks.go_on(&mut session.rpc().await?).await?;
                continue;
            }
            Err(failure) => return Err(failure),
        };
        match session.format {
            Format::Text => session.write(&data),
            Format::Json => {
                let data = String::from_utf8_lossy(&data);
                session.print(&json!({"name": log.subject, "data": data}).to_string());
            }
        }
        if !session.flush() {
            return Ok(());
        }
    }
}

/// A log that is followed, also from one image of the daemon to the next.
pub(super) struct Following {
    request: FollowLogRequest,
    chunks: Streaming<LogChunk>,
}

impl Following {
    /// Begins a little before the end of the log.
    ///
    /// # Errors
    /// The daemon's refusals, for example of a log that is no file.
    pub(super) async fn begin(rpc: &mut Rpc, source: LogSource) -> Result<Self, Failure> {
        let request = FollowLogRequest { source: Some(source), backlog: BACKLOG, position: None };
        let chunks = rpc.follow_log(request.clone()).await?.into_inner();
        Ok(Self { request, chunks })
    }

    /// Goes on with the first byte that was not seen, by another connection.
    ///
    /// # Errors
    /// As [`Following::begin`].
    pub(super) async fn go_on(&mut self, rpc: &mut Rpc) -> Result<(), Failure> {
        self.chunks = rpc.follow_log(self.request.clone()).await?.into_inner();
        Ok(())
    }

    /// The next bytes; `None` at the end. Cancel-safe.
    ///
    /// # Errors
    /// What ended the stream before the log did.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        while let Some(chunk) = self.chunks.message().await? {
            self.request.position = chunk.position.or(self.request.position);
            if !chunk.data.is_empty() {
                return Ok(Some(chunk.data));
            }
        }
        Ok(None)
    }
}

/// Says that a log cannot be followed, with the status that the web interface answers.
fn complain(session: &Session, path: &str, reason: Reason) {
    let code = match reason {
        Reason::BadName | Reason::BadGroup | Reason::NoFile => 404,
        _unexpected => 500,
    };
    // Whoever has closed stderr does not want to know.
    let _unheard = writeln!(io::stderr(), "{}{path} Cannot read, status code {code}", session.url());
}
