//! Memory for large answers, over all clients and both protocols: who asks for a large log and reads nothing must not
//! have it kept here as often as it asks.
//!
//! A large answer has room before it is made, and until all of it went to its connection. Who finds no room waits, first
//! come first served; meanwhile answers of which nothing is taken are given up.

use std::{
    io,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use axum::body::{Body, Bytes};
use bytes::Buf as _;
use http::{HeaderMap, Response};
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::clock;

/// Bytes of all large answers together. A larger one takes all of it.
const ALL: u32 = 64 << 20;
/// Answers up to this size need no room.
const SMALL: usize = 64 << 10;
/// Bytes that a connection gets at once; a copy, for what is given up must not live on in its last piece.
const PIECE: usize = 16 << 10;
/// Time after which an answer of which nothing was taken is given up when another one waits.
const STUCK: Duration = Duration::from_secs(2);
/// How often who waits looks for such answers.
const LOOK: Duration = Duration::from_millis(200);

/// Room for large answers.
#[derive(Debug, Clone)]
pub struct Budget {
    free: Arc<Semaphore>,
    sent: Arc<Mutex<Vec<Weak<Slot>>>>,
}

/// An answer on its way; `None` once all of it is gone, or it was given up.
type Slot = Mutex<Option<Sending>>;

/// What is left of an answer.
#[derive(Debug)]
struct Sending {
    text: Bytes,
    /// When its connection last took some.
    taken: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Default for Budget {
    fn default() -> Self {
        Self { free: Arc::new(Semaphore::new(ALL as usize)), sent: Arc::default() }
    }
}

impl Budget {
    /// Room for an answer of about this many bytes; `None` if it needs none. Cancel-safe.
    pub(super) async fn room(&self, bytes: usize) -> Option<Room> {
        if !Self::is_large(bytes) {
            return None;
        }
        let number = u32::try_from(bytes).unwrap_or(ALL).min(ALL);
        let mut permit = pin!(Arc::clone(&self.free).acquire_many_owned(number));
        loop {
            match tokio::time::timeout(LOOK, permit.as_mut()).await {
                Ok(permit) => {
                    let permit = permit.expect("this semaphore is never closed");
                    return Some(Room { permit, budget: self.clone() });
                }
                Err(_) => self.give_up(),
            }
        }
    }

    /// Whether an answer of so many bytes needs room.
    pub(super) fn is_large(bytes: usize) -> bool {
        bytes > SMALL
    }

    /// Gives up the answers of which nothing is taken.
    fn give_up(&self) {
        let now = clock::now().mono;
        lock(&self.sent).retain(|slot| {
            let Some(slot) = slot.upgrade() else { return false };
            let mut sending = lock(&slot);
            if sending.as_ref().is_some_and(|sending| now >= sending.taken + STUCK) {
                *sending = None;
            }
            sending.is_some()
        });
    }
}

/// Nothing that is done under these locks can fail half-way.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Room for one answer.
#[derive(Debug)]
pub(super) struct Room {
    permit: OwnedSemaphorePermit,
    budget: Budget,
}

impl Room {
    /// The most that there is, for who does not know how much it needs.
    pub(super) const MOST: usize = ALL as usize;

    /// The answer, which keeps its room until it is gone.
    pub(super) fn body(self, text: Bytes) -> Body {
        Body::new(self.pieces(text))
    }

    fn pieces(self, text: Bytes) -> Pieces {
        let left = text.len();
        let sending = Sending { text, taken: clock::now().mono, _permit: self.permit };
        let slot = Arc::new(Mutex::new(Some(sending)));
        let mut sent = lock(&self.budget.sent);
        sent.retain(|slot| slot.strong_count() > 0);
        sent.push(Arc::downgrade(&slot));
        drop(sent);
        Pieces { slot, left, trailers: None }
    }

    /// The answer that a router has made of a message for which there is room.
    async fn carry(self, body: Body) -> Body {
        match body.collect().await {
            Ok(whole) => {
                let trailers = whole.trailers().cloned();
                // A copy, for what has been written down there takes up to twice its length.
                let text = Bytes::copy_from_slice(&whole.to_bytes());
                Body::new(Pieces { trailers, ..self.pieces(text) })
            }
            Err(error) => Body::from_stream(tokio_stream::once(Err::<Bytes, _>(error))),
        }
    }
}

/// Room for the answer of a call, on its way through a router that makes the body.
#[derive(Debug, Clone)]
pub(super) struct Reserved(Arc<Mutex<Option<Room>>>);

impl From<Room> for Reserved {
    fn from(room: Room) -> Self {
        Self(Arc::new(Mutex::new(Some(room))))
    }
}

/// An answer that keeps the room which came with it, if any did.
pub(super) async fn settle(mut response: Response<Body>) -> Response<Body> {
    let room = response.extensions_mut().remove::<Reserved>().and_then(|reserved| lock(&reserved.0).take());
    match room {
        None => response,
        Some(room) => {
            let (head, body) = response.into_parts();
            Response::from_parts(head, room.carry(body).await)
        }
    }
}

/// The body of a large answer.
#[derive(Debug)]
struct Pieces {
    slot: Arc<Slot>,
    left: usize,
    /// What follows it.
    trailers: Option<HeaderMap>,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        let mut slot = lock(&self.slot);
        let Some(sending) = slot.as_mut() else {
            return Poll::Ready(Some(Err(io::ErrorKind::TimedOut.into())));
        };
        let length = sending.text.len().min(PIECE);
        let piece = Bytes::copy_from_slice(&sending.text[..length]);
        sending.text.advance(length);
        sending.taken = clock::now().mono;
        let left = sending.text.len();
        if left == 0 {
            *slot = None;
        }
        drop(slot);
        self.left = left;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0 && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::StreamBody;

    use super::*;

    #[tokio::test]
    async fn a_large_answer_has_its_room_until_all_of_it_is_gone() {
        let budget = Budget::default();
        assert!(budget.room(SMALL).await.is_none());
        let room = budget.room(usize::MAX).await.unwrap();
        assert_eq!(budget.free.available_permits(), 0);
        let text = Bytes::from(vec![b'x'; 3 * PIECE + 1]);
        let mut body = room.body(text.clone());
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((first.len(), budget.free.available_permits()), (PIECE, 0));
        let rest = body.collect().await.unwrap().to_bytes();
        assert_eq!([first, rest].concat(), text);
        assert_eq!(budget.free.available_permits(), Room::MOST);
    }

    #[tokio::test]
    async fn an_answer_of_a_router_keeps_its_room_and_its_trailers() {
        let budget = Budget::default();
        let response = |room: Option<Room>, text: &'static [u8]| {
            let mut trailers = http::HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            let frames = [Frame::data(Bytes::from_static(text)), Frame::trailers(trailers)];
            let frames =
                frames.into_iter().filter(|frame| frame.data_ref().is_none_or(|data| !data.is_empty()));
            let frames: Vec<_> = frames.map(Ok::<_, io::Error>).collect();
            let mut response = Response::new(Body::new(StreamBody::new(tokio_stream::iter(frames))));
            if let Some(room) = room {
                response.extensions_mut().insert(Reserved::from(room));
            }
            response
        };
        static TEXT: [u8; 2 * PIECE] = [b'x'; 2 * PIECE];
        for (text, is_roomy) in [(&TEXT[..], true), (&TEXT[..], false), (b"", true)] {
            let room = if is_roomy { budget.room(Room::MOST).await } else { None };
            let mut body = settle(response(room, text)).await.into_body();
            if is_roomy && !text.is_empty() {
                assert_eq!(budget.free.available_permits(), 0);
                assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap().len(), PIECE);
            }
            let rest = body.collect().await.unwrap();
            assert_eq!(rest.trailers().unwrap()["grpc-status"], "0");
            assert_eq!(budget.free.available_permits(), Room::MOST);
        }
    }

    #[tokio::test]
    async fn an_answer_of_which_nothing_is_taken_is_given_up_when_another_waits() {
        let budget = Budget::default();
        let mut stuck = budget.room(Room::MOST).await.unwrap().body(Bytes::from(vec![b'x'; 2 * PIECE]));
        assert!(stuck.frame().await.unwrap().is_ok());
        let dropped = budget.room(1 << 20).await.unwrap();
        assert_eq!(budget.free.available_permits(), Room::MOST - (1 << 20));
        drop(dropped);
        assert!(stuck.frame().await.unwrap().is_err());
    }
}
