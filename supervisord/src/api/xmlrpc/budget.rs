//! Memory for large answers, over all clients: who asks for a large log and reads nothing must not have it kept here as
//! often as it asks.
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
pub(super) struct Budget {
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
        let left = text.len();
        let sending = Sending { text, taken: clock::now().mono, _permit: self.permit };
        let slot = Arc::new(Mutex::new(Some(sending)));
        let mut sent = lock(&self.budget.sent);
        sent.retain(|slot| slot.strong_count() > 0);
        sent.push(Arc::downgrade(&slot));
        drop(sent);
        Body::new(Pieces { slot, left })
    }
}

/// The body of a large answer.
#[derive(Debug)]
struct Pieces {
    slot: Arc<Slot>,
    left: usize,
}

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
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
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left as u64)
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

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
