//! How many answers of one connection are on their way at once: who asks for many and reads none of them would have all
//! of them kept here.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::{Body, Bytes};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::stall::Waiting;

/// Answers that are made or on their way at once, over one connection. Streams that wait for something to happen do not
/// count.
const AT_ONCE: usize = 8;

/// Counts the answers of one connection.
#[derive(Debug, Clone)]
pub(super) struct Answers {
    turns: Arc<Semaphore>,
    waiting: Waiting,
}

impl Default for Answers {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_ONCE)), waiting: Waiting::default() }
    }
}

impl Answers {
    /// A turn to make an answer. Cancel-safe.
    pub(super) async fn turn(&self) -> Turn {
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        self.waiting.set(false);
        Turn {
            _permit: Arc::new(turn.expect("this semaphore is never closed")),
            waiting: self.waiting.clone(),
        }
    }

    /// Whether what is being answered waits for something to happen.
    pub(super) fn waiting(&self) -> Waiting {
        self.waiting.clone()
    }
}

/// Given back when the last byte of the answer is gone.
#[derive(Debug, Clone)]
pub(super) struct Turn {
    _permit: Arc<OwnedSemaphorePermit>,
    waiting: Waiting,
}

impl Turn {
    /// The body of the answer.
    pub(super) fn with(self, body: Body) -> Body {
        Body::new(Answer { body, turn: Some(self) })
    }
}

/// A body with its turn.
#[derive(Debug)]
struct Answer {
    body: Body,
    turn: Option<Turn>,
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if frame.is_pending() {
            // All that there was has gone to the connection: from here on this is a stream.
            if let Some(turn) = self.turn.take() {
                turn.waiting.set(true);
            }
        }
        let turn = &self.turn;
        frame.map(|frame| {
            frame.map(|frame| {
                frame.map(|frame| {
                    frame.map_data(|data| match turn {
                        Some(turn) => Bytes::from_owner(Unsent { data, _turn: turn.clone() }),
                        None => data,
                    })
                })
            })
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Bytes that hold the turn until they have been written.
struct Unsent {
    data: Bytes,
    _turn: Turn,
}

impl AsRef<[u8]> for Unsent {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, StreamBody};

    use super::*;

    #[tokio::test]
    async fn a_turn_lasts_until_the_last_byte_is_gone() {
        let answers = Answers::default();
        let mut body = answers.turn().await.with(Body::from("abc"));
        let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        drop(body);
        assert_eq!(answers.turns.available_permits(), AT_ONCE - 1);
        let rest = data.slice(1..);
        drop(data);
        assert_eq!(answers.turns.available_permits(), AT_ONCE - 1);
        assert_eq!(rest, "bc");
        drop(rest);
        assert_eq!(answers.turns.available_permits(), AT_ONCE);
    }

    #[tokio::test]
    async fn a_stream_gives_its_turn_back_when_it_waits() {
        let answers = Answers::default();
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Frame<Bytes>, axum::Error>>(1);
        let stream = StreamBody::new(tokio_stream::wrappers::ReceiverStream::new(receiver));
        let mut body = answers.turn().await.with(Body::new(stream));
        sender.send(Ok(Frame::data(Bytes::from_static(b"a")))).await.unwrap();
        let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!((&data[..], answers.turns.available_permits()), (&b"a"[..], AT_ONCE - 1));
        assert!(frame_of(&mut body).is_none(), "nothing is there");
        drop(data);
        assert_eq!(answers.turns.available_permits(), AT_ONCE);
    }

    /// A frame, if there is one.
    fn frame_of(body: &mut Body) -> Option<Frame<Bytes>> {
        let mut context = Context::from_waker(std::task::Waker::noop());
        match Pin::new(body).poll_frame(&mut context) {
            Poll::Ready(frame) => frame.map(Result::unwrap),
            Poll::Pending => None,
        }
    }
}
