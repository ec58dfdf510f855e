//! Logs as streams over HTTP: `/logtail/NAME[/stdout|/stderr]` and `/mainlogtail`, the end of the log and then what is
//! added, for as long as the client listens.

use std::{io, os::unix::fs::MetadataExt as _, path::Path};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use super::xmlrpc::{SERVER, error_page};
use crate::{
    output::follow::Follower,
    request::{Channel, Handle, LogSource, Reason, Refusal, Request as Ask},
    supervisor::literally,
};

/// Bytes of the log that come first.
const BACKLOG: u64 = 1024;

/// Answers a request by `method` for the log that `path` (percent-decoded) names.
pub(super) async fn answer(driver: &Handle, method: &Method, path: &str) -> Response {
    if method != Method::GET {
        return error_page(StatusCode::BAD_REQUEST);
    }
    let Some(source) = source(path) else { return error_page(StatusCode::NOT_FOUND) };
    match open(driver, source.clone()).await {
        Ok((follower, modified)) => {
            let mut response = Response::new(stream(follower, driver.parting()).await);
            let headers = response.headers_mut();
            headers.insert(header::SERVER, SERVER);
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain;charset=utf-8"));
            if let Some(modified) = modified {
                headers.insert(header::LAST_MODIFIED, modified);
            }
            // Asks proxies to pass on each line as it comes.
            if source != LogSource::Daemon {
                headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
            }
            response
        }
        Err(refusal) if refusal.reason == Reason::ShuttingDown => error_page(StatusCode::SERVICE_UNAVAILABLE),
        Err(_) => error_page(StatusCode::NOT_FOUND),
    }
}

/// Which log a path means; none if it names a stream that does not exist. Pure.
fn source(path: &str) -> Option<LogSource> {
    let path = path.trim_start_matches('/');
    if path.starts_with("mainlogtail") {
        return Some(LogSource::Daemon);
    }
    let (_, rest) = path.split_once('/')?;
    let (name, channel) = match rest.split_once('/') {
        None | Some((_, "stdout")) => (rest, Channel::Stdout),
        Some((_, "stderr")) => (rest, Channel::Stderr),
        Some(_) => return None,
    };
    let name = name.split('/').next().unwrap_or_default();
    // Names by which supervisorctl means several processes have no meaning here.
    Some(LogSource::Process(literally(name), channel))
}

/// The follower of a log, and when the log was last written to.
async fn open(driver: &Handle, source: LogSource) -> Result<(Follower, Option<HeaderValue>), Refusal> {
    let path = driver.ask_for(|reply| Ask::Log(reply, source.clone())).await?;
    let follower = driver.ask_for(|reply| Ask::Follow(reply, source, BACKLOG)).await?;
    Ok((follower, modified(&path)))
}

/// When a file was last written to, as HTTP says it.
fn modified(path: &Path) -> Option<HeaderValue> {
    let seconds = path.metadata().ok()?.mtime();
    let time = jiff::Timestamp::from_second(seconds).ok()?;
    HeaderValue::from_str(&time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()).ok()
}

/// What comes from the log. Read only as fast as the client takes it.
async fn stream(mut follower: Follower, parting: impl Future<Output = ()> + Send + 'static) -> Body {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(1);
    // What is there at once is for everybody; one that says no more when there is nothing is taken to have left.
    let first = tokio::select! {
        biased;
        next = follower.next() => next.transpose(),
        () = std::future::ready(()) => None,
    };
    // Ends when the client is gone, or the log, or when the daemon is replaced in place: each step waits for all of them.
    tokio::spawn(async move {
        let mut parting = std::pin::pin!(parting);
        loop {
            let next = tokio::select! {
                next = follower.next() => next,
                () = sender.closed() => return,
                () = parting.as_mut() => return,
            };
            let Some(piece) = next.transpose() else { return };
            let is_end = piece.is_err();
            if sender.send(piece).await.is_err() || is_end {
                return;
            }
        }
    });
    Body::from_stream(tokio_stream::iter(first).chain(ReceiverStream::new(receiver)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_processes_and_streams() {
        let process = |name: &str, channel| Some(LogSource::Process(literally(name), channel));
        for (path, expected) in [
            ("/mainlogtail", Some(LogSource::Daemon)),
            ("/mainlogtail/x", Some(LogSource::Daemon)),
            ("/logtail/x", process("x", Channel::Stdout)),
            ("//logtail/g:x/stdout", process("g:x", Channel::Stdout)),
            ("/logtail/g:x/stderr", process("g:x", Channel::Stderr)),
            ("/logtail/x/other", None),
            ("/logtail/x/", None),
            ("/logtail/w*", process("w*", Channel::Stdout)),
            ("/logtail/", process("", Channel::Stdout)),
            ("/logtail", None),
        ] {
            assert_eq!(source(path), expected, "{path}");
        }
    }
}
