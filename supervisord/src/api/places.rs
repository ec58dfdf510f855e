//! Places for connections: how many are served at once, and which one leaves when a client waits and there is none.
//!
//! Clients keep connections open for half an hour between two requests, and anybody may connect and say nothing: neither
//! keeps others out.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Time that a connection gets to leave before the next one is asked: it may be one that waits for a long answer.
const TURN: Duration = Duration::from_millis(10);

/// Places for connections, over all sockets.
#[derive(Debug, Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    /// Wakes those that are in [`Places::wanted`], first come first served.
    wanted: Arc<Notify>,
}

impl Places {
    /// So many places.
    pub(super) fn new(number: usize) -> Self {
        Self { free: Arc::new(Semaphore::new(number)), wanted: Arc::default() }
    }

    /// A place. While there is none, connections are asked to leave, beginning with the one that has been silent for the
    /// longest time. Cancel-safe.
    pub(super) async fn take(&self) -> OwnedSemaphorePermit {
        loop {
            let place = tokio::time::timeout(TURN, Arc::clone(&self.free).acquire_owned());
            match place.await {
                Ok(place) => return place.expect("this semaphore is never closed"),
                Err(_) => self.wanted.notify_one(),
            }
        }
    }

    /// Waits until a place is wanted and the connection that counts its requests in `requests` is the one that has asked
    /// nothing for the longest time.
    pub(super) async fn wanted(&self, requests: &AtomicU64) {
        // A call that nobody was there to hear is repeated, and is not for one that has only just come.
        let mut stale = Box::pin(self.wanted.notified());
        stale.as_mut().enable();
        drop(stale);
        let mut known = requests.load(Ordering::Relaxed);
        let mut turn = pin!(self.wanted.notified());
        poll_fn(|context| {
            let number = requests.load(Ordering::Relaxed);
            if number != known {
                // Back to the end of the queue. A call that has come meanwhile goes to the next one.
                known = number;
                turn.set(self.wanted.notified());
            }
            turn.as_mut().poll(context)
        })
        .await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_has_been_silent_longest_is_asked_to_leave_first() {
        let places = Places::new(2);
        let held = [places.take().await, places.take().await];
        let requests = [AtomicU64::new(0), AtomicU64::new(0)];
        let (mut first, mut second) = (pin!(places.wanted(&requests[0])), pin!(places.wanted(&requests[1])));
        let is_asked = |future: std::pin::Pin<&mut dyn Future<Output = ()>>| {
            future.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready()
        };
        assert!(!is_asked(first.as_mut()) && !is_asked(second.as_mut()));
        // The older one has spoken since.
        requests[0].fetch_add(1, Ordering::Relaxed);
        assert!(!is_asked(first.as_mut()) && !is_asked(second.as_mut()));
        let mut third = pin!(places.take());
        let early = tokio::time::timeout(TURN + TURN / 2, third.as_mut()).await;
        assert!(early.is_err(), "no place is free");
        assert!(is_asked(second.as_mut()) && !is_asked(first.as_mut()));
        drop(held);
        drop(third.await);
    }
}
