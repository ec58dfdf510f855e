//! A connection whose client takes nothing: since when, and for how long that is put up with.
//!
//! Who reads nothing may have stopped for a moment (`tail -f` in a pager) or for ever. It is told to the end what it was
//! being told, unless somebody else needs its place.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Sleep,
};

use crate::clock;

/// Since when a client has taken nothing of what it is being told. Shared with whoever decides whether it stays.
#[derive(Debug, Clone)]
pub(super) struct Stall {
    begin: Instant,
    /// Nanoseconds after `begin`; [`NEVER`] while it takes what it gets.
    since: Arc<AtomicU64>,
}

/// No client is older than five hundred years.
const NEVER: u64 = u64::MAX;

impl Stall {
    /// Of a connection that has just begun.
    pub(super) fn new() -> Self {
        Self { begin: clock::now().mono, since: Arc::new(AtomicU64::new(NEVER)) }
    }

    /// Whether the client has taken nothing for `span`, though there was something.
    pub(super) fn lasts(&self, span: Duration) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since != NEVER && clock::now().mono >= self.begin + Duration::from_nanos(since) + span
    }

    fn begins(&self) {
        let age = clock::now().mono.saturating_duration_since(self.begin).as_nanos();
        self.since.store(u64::try_from(age).unwrap_or(NEVER - 1), Ordering::Relaxed);
    }

    fn ends(&self) {
        self.since.store(NEVER, Ordering::Relaxed);
    }
}

/// A stream that knows how it stands with its client, and fails when the client has taken nothing for too long.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    stall: Stall,
    longest: Duration,
    /// While the client takes nothing.
    end: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    /// `stream`, which `stall` tells of; a client may take nothing for `longest`.
    pub(super) fn new(stream: S, stall: Stall, longest: Duration) -> Self {
        Self { stream, stall, longest, end: None }
    }

    /// Looks at how a write went.
    fn note<T>(&mut self, result: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if result.is_ready() {
            if self.end.take().is_some() {
                self.stall.ends();
            }
            return result;
        }
        let longest = self.longest;
        let end = self.end.get_or_insert_with(|| {
            self.stall.begins();
            Box::pin(tokio::time::sleep(longest))
        });
        end.as_mut().poll(context).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(result, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.note(result, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_noticed_and_fails_in_the_end_and_who_takes_something_begins_anew() {
        let (ours, mut theirs) = duplex(10);
        let stall = Stall::new();
        let mut watched = Watched::new(ours, stall.clone(), Duration::from_secs(60));
        watched.write_all(&[0; 10]).await.unwrap();
        assert!(!stall.lasts(Duration::ZERO), "all was taken");
        let early = tokio::time::timeout(Duration::from_secs(50), watched.write_all(&[0; 10])).await;
        assert!(early.is_err() && stall.lasts(Duration::ZERO));
        assert!(!stall.lasts(Duration::from_secs(1000)));
        theirs.read_exact(&mut [0; 10]).await.unwrap();
        watched.write_all(&[0; 10]).await.unwrap();
        assert!(!stall.lasts(Duration::ZERO));
        let early = tokio::time::timeout(Duration::from_secs(50), watched.write_all(&[0])).await;
        assert!(early.is_err(), "the time begins anew");
        let error = watched.write_all(&[0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
