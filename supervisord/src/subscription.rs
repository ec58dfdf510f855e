//! Events on their way from the driver to one client, which may be slow: it never holds up the driver, and where it
//! misses events it learns how many.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::mpsc::{self, error::TryRecvError};

use crate::event::{Event, EventType};

/// Events that wait for a client at most, and bytes of payload.
const QUEUE: usize = 1024;
const QUEUE_BYTES: usize = 4 << 20;

/// An event, and when it happened.
#[derive(Debug, Clone)]
pub struct Occurrence {
    /// What happened.
    pub event: Event,
    /// Its payload, as listeners get it.
    pub payload: String,
    /// When, since 1970-01-01 UTC.
    pub at: Duration,
}

/// What a client gets.
#[derive(Debug, Clone)]
pub enum Streamed {
    /// An event.
    Event(Arc<Occurrence>),
    /// So many events were lost here.
    Gap(u64),
}

/// What both ends count.
#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicUsize,
    lost: AtomicU64,
}

/// The driver's end.
#[derive(Debug)]
pub struct Subscriber {
    wanted: Vec<EventType>,
    queue: mpsc::Sender<Streamed>,
    counts: Arc<Counts>,
}

/// The client's end.
#[derive(Debug)]
pub struct Subscription {
    queue: mpsc::Receiver<Streamed>,
    counts: Arc<Counts>,
}

/// A subscription to these types of events; to none means to all.
pub fn subscribe(wanted: Vec<EventType>) -> (Subscriber, Subscription) {
    let wanted = if wanted.is_empty() { vec![EventType::Event] } else { wanted };
    let (sender, receiver) = mpsc::channel(QUEUE);
    let counts = Arc::new(Counts::default());
    let subscriber = Subscriber { wanted, queue: sender, counts: Arc::clone(&counts) };
    (subscriber, Subscription { queue: receiver, counts })
}

impl Subscriber {
    /// Whether the client is still there.
    pub fn is_open(&self) -> bool {
        !self.queue.is_closed()
    }

    /// Whether it wants events of this type.
    pub fn wants(&self, kind: EventType) -> bool {
        self.wanted.iter().any(|wanted| kind.is_a(*wanted))
    }

    /// Hands over an event, or counts it as lost.
    pub fn send(&self, occurrence: &Arc<Occurrence>) {
        let size = occurrence.payload.len();
        let lost = self.counts.lost.load(Ordering::Relaxed);
        let needed = if lost > 0 { 2 } else { 1 };
        let is_full = self.counts.bytes.load(Ordering::Relaxed) + size > QUEUE_BYTES;
        if is_full || self.queue.capacity() < needed {
            self.counts.lost.store(lost + 1, Ordering::Relaxed);
            return;
        }
        if lost > 0 {
            self.counts.lost.store(0, Ordering::Relaxed);
            // There is room, and nobody else sends.
            let _ = self.queue.try_send(Streamed::Gap(lost));
        }
        self.counts.bytes.fetch_add(size, Ordering::Relaxed);
        // A client that is gone misses nothing.
        let _ = self.queue.try_send(Streamed::Event(Arc::clone(occurrence)));
    }
}

impl Subscription {
    /// The next event, or gap; `None` when the driver has ended. Cancel-safe.
    pub async fn next(&mut self) -> Option<Streamed> {
        let next = match self.queue.try_recv() {
            Ok(next) => Some(next),
            Err(TryRecvError::Disconnected) => None,
            Err(TryRecvError::Empty) => match self.counts.lost.swap(0, Ordering::Relaxed) {
                0 => self.queue.recv().await,
                // Everything before the gap has been delivered, and nothing that came after it is there yet.
                lost => Some(Streamed::Gap(lost)),
            },
        };
        if let Some(Streamed::Event(occurrence)) = &next {
            self.counts.bytes.fetch_sub(occurrence.payload.len(), Ordering::Relaxed);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn occurrence(data: &str) -> Arc<Occurrence> {
        let event = Event::RemoteCommunication { kind: "t".to_owned(), data: data.to_owned() };
        Arc::new(Occurrence { payload: event.payload(), event, at: Duration::ZERO })
    }

    #[tokio::test]
    async fn t57_a_slow_client_learns_how_many_events_it_missed_and_where() {
        let (subscriber, mut subscription) = subscribe(Vec::new());
        for _ in 0..QUEUE + 7 {
            subscriber.send(&occurrence("x"));
        }
        for _ in 0..QUEUE {
            assert!(matches!(subscription.next().await, Some(Streamed::Event(_))));
        }
        assert!(matches!(subscription.next().await, Some(Streamed::Gap(7))));
        subscriber.send(&occurrence("y"));
        assert!(matches!(subscription.next().await, Some(Streamed::Event(_))));
    }

    #[tokio::test]
    async fn a_gap_stands_before_the_events_after_it() {
        let (subscriber, mut subscription) = subscribe(vec![EventType::RemoteCommunication]);
        let big = "x".repeat(QUEUE_BYTES / 2 - 100);
        for _ in 0..3 {
            subscriber.send(&occurrence(&big));
        }
        assert!(matches!(subscription.next().await, Some(Streamed::Event(_))));
        subscriber.send(&occurrence("small"));
        assert!(matches!(subscription.next().await, Some(Streamed::Event(_))));
        assert!(matches!(subscription.next().await, Some(Streamed::Gap(1))));
        let Some(Streamed::Event(last)) = subscription.next().await else { panic!("the small one") };
        assert_eq!(last.payload, "type:t\nsmall");
        drop(subscriber);
        assert!(subscription.next().await.is_none());
    }

    #[test]
    fn only_wanted_types_are_wanted() {
        let (subscriber, subscription) = subscribe(vec![EventType::ProcessState]);
        assert!(subscriber.wants(EventType::ProcessStateFatal) && !subscriber.wants(EventType::Tick5));
        assert!(subscriber.is_open());
        drop(subscription);
        assert!(!subscriber.is_open());
    }
}
