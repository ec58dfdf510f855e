//! What moves: the stream of changed rows (server-sent events), and a log as it grows.
//!
//! Each stream is a task of its own with a channel of one message: a client that reads slowly keeps its own task waiting
//! and nobody else. While nothing changes a task sleeps, but for a sign of life once in a while: both ends find dead
//! connections by it.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use super::{Web, page::Notices, row::Row};
use crate::{
    output::follow::Follower,
    request::{Ended, ListQuery, Request},
};

/// Streams at once at most: they must not use up the connections that others need.
pub(super) const MOST_STREAMS: usize = 128;
/// Shortest time between two messages to one client: changes in between go together.
const PACE: Duration = Duration::from_millis(200);
/// The same for each row of the last message: a browser has to take them in.
const PACE_OF_ROW: Duration = Duration::from_millis(1);
/// Time after which a quiet stream says that it is there. `page.js` takes it for dead after more than two of these: a
/// browser does not notice that a connection has gone while its machine slept.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Bytes of a log that a page may be behind, more than it keeps: what it shows as live is not to be an hour old.
const MOST_BEHIND: u64 = 4 << 20;
/// Bytes of a log that are shown to a page which was further behind.
const LEFT: u64 = 64 << 10;
/// To a client that knows nothing of this daemon.
const FRESH: &str = "retry: 1000\nevent: fresh\ndata: {}\n\n";

/// The place of a client in the history: what it has seen, of which daemon.
///
/// Written `boot.generation`.
pub(super) fn seen(web: &Web, id: &str) -> Option<u64> {
    let (boot, generation) = id.rsplit_once('.')?;
    (boot == web.boot).then(|| generation.parse().ok())?
}

/// The stream of changes since what `id` names. Of another daemon's, or nothing: the client is told to begin afresh.
pub(super) async fn changes(web: Arc<Web>, id: &str) -> Response<Body> {
    let Ok(place) = Arc::clone(&web.streams).try_acquire_owned() else { return too_many() };
    let Ok(changes) = web.driver.ask(Request::Changes).await else { return ending() };
    let since = seen(&web, id);
    let (sender, receiver) = mpsc::channel(1);
    // Ends when the client or the driver is gone, or when the daemon is replaced in place: each step waits for them.
    tokio::spawn(async move {
        let parting = web.driver.parting();
        tokio::select! {
            // Both mean that nobody listens any more.
            Err(Gone) | Ok(()) = tell_changes(&web, since, changes, &sender) => {}
            () = parting => {}
        }
        drop(place);
    });
    stream("text/event-stream", receiver)
}

/// One of the two ends of a stream is gone.
struct Gone;

impl From<Ended> for Gone {
    fn from(_: Ended) -> Self {
        Self
    }
}

/// What `changes` would say first, and no more: for clients that ask again and again, since a proxy holds streams back or
/// the browser has no connection left for one.
pub(super) async fn news(web: &Web, id: &str) -> Response<Body> {
    let text = match seen(web, id) {
        None => FRESH.to_owned(),
        Some(since) => match News::since(web, since).await {
            Ok(news) => news.text,
            Err(Gone) => return ending(),
        },
    };
    answer(Body::from(text), "text/event-stream")
}

/// The end of a log, for the same clients.
pub(super) fn end(bytes: Vec<u8>) -> Response<Body> {
    answer(Body::from(bytes), "text/plain; charset=utf-8")
}

/// What has changed.
struct News {
    text: String,
    generation: u64,
    rows: usize,
}

impl News {
    async fn since(web: &Web, since: u64) -> Result<Self, Gone> {
        let query = ListQuery { names: Vec::new(), since: Some(since) };
        let listing = web.driver.ask(|reply| Request::List(reply, query)).await?;
        let info = web.driver.ask(Request::Info).await?;
        let generation = listing.generation;
        let rows: Vec<String> =
            listing.processes.iter().map(|process| Row::new(process, &web.zone).to_string()).collect();
        let data = json!({ "total": listing.total, "notices": Notices(&info).to_string(), "rows": rows });
        let text = format!("retry: 1000\nid: {}.{generation}\ndata: {data}\n\n", web.boot);
        Ok(Self { text, generation, rows: rows.len() })
    }

    /// Time before the next.
    fn pace(&self) -> Duration {
        PACE + PACE_OF_ROW * u32::try_from(self.rows).unwrap_or(u32::MAX)
    }
}

async fn tell_changes(
    web: &Web,
    since: Option<u64>,
    mut changes: watch::Receiver<u64>,
    sender: &mpsc::Sender<Bytes>,
) -> Result<(), Gone> {
    let mut since = match since {
        Some(since) => since,
        None => {
            send(sender, FRESH.to_owned()).await?;
            *changes.borrow()
        }
    };
    loop {
        changes.mark_unchanged();
        let news = News::since(web, since).await?;
        since = news.generation;
        let pace = news.pace();
        send(sender, news.text).await?;
        quiet(sender, tokio::time::sleep(pace)).await?;
        loop {
            match tokio::time::timeout(KEEP_ALIVE, quiet(sender, changes.changed())).await {
                Ok(changed) => break changed?.map_err(|_| Gone)?,
                Err(_) => send(sender, "event: alive\ndata: {}\n\n".to_owned()).await?,
            }
        }
    }
}

async fn send(sender: &mpsc::Sender<Bytes>, text: String) -> Result<(), Gone> {
    sender.send(text.into()).await.map_err(|_| Gone)
}

/// Waits for something as long as the client is there. Cancel-safe if `event` is.
async fn quiet<T>(sender: &mpsc::Sender<Bytes>, event: impl Future<Output = T>) -> Result<T, Gone> {
    tokio::select! {
        event = event => Ok(event),
        () = sender.closed() => Err(Gone),
    }
}

/// A log as it grows.
pub(super) fn follow(web: &Web, mut follower: Follower) -> Response<Body> {
    let Ok(place) = Arc::clone(&web.streams).try_acquire_owned() else { return too_many() };
    let (sender, receiver) = mpsc::channel(1);
    let parting = web.driver.parting();
    // Ends when the client is gone, or the log, or when the daemon is replaced in place: each step waits for them.
    tokio::spawn(async move {
        let _place: OwnedSemaphorePermit = place;
        let mut parting = std::pin::pin!(parting);
        loop {
            let skipped = follower.skip(MOST_BEHIND, LEFT);
            let next = tokio::select! {
                next = quiet(&sender, follower.next()) => next,
                () = parting.as_mut() => return,
            };
            let Ok(Ok(Some(bytes))) = next else { return };
            let note =
                format!("\n[{skipped} bytes left out: they came faster than this page could take them]\n");
            let is_gone = skipped > 0 && sender.send(note.into()).await.is_err();
            if is_gone || sender.send(bytes).await.is_err() {
                return;
            }
        }
    });
    stream("text/plain; charset=utf-8", receiver)
}

fn stream(kind: &'static str, receiver: mpsc::Receiver<Bytes>) -> Response<Body> {
    let frames = ReceiverStream::new(receiver).map(|bytes| Ok::<_, Infallible>(Frame::data(bytes)));
    answer(Body::new(StreamBody::new(frames)), kind)
}

fn answer(body: Body, kind: &'static str) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn too_many() -> Response<Body> {
    let text = format!("{MOST_STREAMS} pages are followed already, the most there can be\n");
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}

/// The answer when the driver has ended.
pub(super) fn ending() -> Response<Body> {
    let mut response = Response::new(Body::from("supervisord is ending\n"));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response
}
