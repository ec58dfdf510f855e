//! What moves: the stream of changed rows (server-sent events), and a log as it grows.
//!
//! Each stream is a task of its own with a channel of one message: a client that reads slowly keeps its own task waiting
//! and nobody else. While nothing changes a task sleeps, but for a sign of life once in a while: both ends find dead
//! connections by it.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::StreamBody;
use hyper::body::Frame;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};

use super::{Web, page::Notices, row::Row};
use crate::{
    output::follow::{Follower, Position},
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
/// Bytes of a log in an answer that is no stream.
const MOST_AT_ONCE: usize = 1 << 20;
const LOG_KIND: &str = "text/plain; charset=utf-8";
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

/// The place of the first byte of an answer with a log; see [`Position`].
const POSITION: HeaderName = HeaderName::from_static("x-log-position");
/// There if the answer goes on from the place that the client asked for, and does not begin anew.
const GOES_ON: HeaderName = HeaderName::from_static("x-log-goes-on");
/// Bytes between that place and the first byte, which are left out because the client is too far behind.
const LEFT_OUT: HeaderName = HeaderName::from_static("x-log-left-out");

/// A log from a place on, or its end. All bytes of one answer are one piece of one file, so that who counts them knows
/// where to go on: what comes after a rotation or a cut is in the next answer.
pub(super) struct Log {
    follower: Follower,
    goes_on: bool,
    left_out: u64,
}

impl Log {
    /// Goes on from `from` if that can be.
    pub(super) fn new(mut follower: Follower, from: Option<Position>) -> Self {
        let goes_on = from.is_some_and(|from| follower.resume(from));
        let left_out = follower.skip(MOST_BEHIND, LEFT);
        Self { follower, goes_on, left_out }
    }

    /// What is there now, at most [`MOST_AT_ONCE`] and a piece, for the clients that ask again and again.
    pub(super) fn now(mut self) -> Response<Body> {
        let headers = self.headers();
        let mut body = Vec::new();
        // What cannot be read ends the answer: the client asks again, and then there is no such log.
        while body.len() < MOST_AT_ONCE {
            let before = self.follower.position();
            let Ok(Some(bytes)) = self.follower.read() else { break };
            if !is_next(before, &bytes, self.follower.position()) {
                break;
            }
            body.extend_from_slice(&bytes);
        }
        with(answer(Body::from(body), LOG_KIND), headers)
    }

    /// As it grows.
    pub(super) fn stream(mut self, web: &Web) -> Response<Body> {
        let Ok(place) = Arc::clone(&web.streams).try_acquire_owned() else { return too_many() };
        let headers = self.headers();
        let (sender, receiver) = mpsc::channel(1);
        let parting = web.driver.parting();
        // Ends when the client is gone or has to ask again, when the log is gone, or when the daemon is replaced in place:
        // each step waits for them.
        tokio::spawn(async move {
            let _place: OwnedSemaphorePermit = place;
            tokio::select! {
                () = self.tell(&sender) => {}
                () = parting => {}
            }
        });
        with(stream(LOG_KIND, receiver), headers)
    }

    async fn tell(&mut self, sender: &mpsc::Sender<Bytes>) {
        while self.follower.behind() <= MOST_BEHIND {
            let before = self.follower.position();
            let Ok(Ok(Some(bytes))) = quiet(sender, self.follower.next()).await else { return };
            if !is_next(before, &bytes, self.follower.position()) || sender.send(bytes).await.is_err() {
                return;
            }
        }
    }

    fn headers(&self) -> [(HeaderName, Option<HeaderValue>); 3] {
        let position =
            self.follower.position().and_then(|place| HeaderValue::try_from(place.to_string()).ok());
        let goes_on = self.goes_on.then(|| HeaderValue::from_static("1"));
        let left_out = (self.left_out > 0).then(|| HeaderValue::from(self.left_out));
        [(POSITION, position), (GOES_ON, goes_on), (LEFT_OUT, left_out)]
    }
}

/// Whether `bytes` are what lies between these two places.
fn is_next(before: Option<Position>, bytes: &Bytes, after: Option<Position>) -> bool {
    before.is_some_and(|before| after == Some(before.after(bytes.len())))
}

fn with(mut response: Response<Body>, headers: [(HeaderName, Option<HeaderValue>); 3]) -> Response<Body> {
    for (name, value) in headers {
        if let Some(value) = value {
            response.headers_mut().insert(name, value);
        }
    }
    response
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
