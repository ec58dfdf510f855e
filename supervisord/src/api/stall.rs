//! A connection whose client takes nothing: since when, and for how long that is put up with.
//!
//! Who reads nothing may have stopped for a moment (`tail -f` in a pager) or for ever. It is told to the end what it was
//! being told, unless somebody else needs its place. Here too, what is done about clients at the end of a connection: one
//! that has gone while it waits for news, and one that still sends what nobody reads.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
    time::Sleep,
};

use crate::clock;

/// Since when a client has taken nothing of what it is being told. Shared with whoever decides whether it stays.
#[derive(Debug, Clone)]
pub(super) struct Stall {
    begin: Instant,
    /// Nanoseconds after `begin`; [`NEVER`] while it takes what it gets.
    since: Arc<AtomicU64>,
    /// The client says no more; it may have gone.
    has_ended: Arc<AtomicBool>,
}

/// No client is older than five hundred years.
const NEVER: u64 = u64::MAX;

impl Stall {
    /// Of a connection that has just begun.
    pub(super) fn new() -> Self {
        Self { begin: clock::now().mono, since: Arc::new(AtomicU64::new(NEVER)), has_ended: Arc::default() }
    }

    /// Whether the client has taken nothing for `span`, though there was something.
    pub(super) fn lasts(&self, span: Duration) -> bool {
        let since = self.since.load(Ordering::Relaxed);
        since != NEVER && clock::now().mono >= self.begin + Duration::from_nanos(since) + span
    }

    /// Whether the client has closed its side: it may only have nothing more to say, or be gone.
    pub(super) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::Relaxed)
    }

    fn begins(&self) {
        let age = clock::now().mono.saturating_duration_since(self.begin).as_nanos();
        self.since.store(u64::try_from(age).unwrap_or(NEVER - 1), Ordering::Relaxed);
    }

    fn ends(&self) {
        self.since.store(NEVER, Ordering::Relaxed);
    }
}

/// Time for which a client that is refused may go on to send what it has begun.
const LINGER: Duration = Duration::from_secs(2);
/// Bytes of it at most: several times the largest request, and nothing to a flood.
const LINGER_BYTES: usize = 16 << 20;

/// Whether the client of a connection waits for something to happen: for the next line of a log, and not for an answer
/// that is on its way. Shared by the answers and the stream.
#[derive(Debug, Clone, Default)]
pub(super) struct Waiting(Arc<AtomicBool>);

impl Waiting {
    /// From here on it does, or no longer.
    pub(super) fn set(&self, is_waiting: bool) {
        self.0.store(is_waiting, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A stream that tells when its client says no more.
pub(super) trait Ending {
    /// Ready when the client has closed its side and all that it said has been read.
    fn poll_end(&self, context: &mut Context<'_>) -> Poll<()>;
}

/// Whether the end has been reached, given that there is something to read.
fn at_end(peeked: io::Result<usize>) -> Option<Poll<()>> {
    match peeked {
        Ok(0) => Some(Poll::Ready(())),
        // Another request, which has its turn later.
        Ok(_) => Some(Poll::Pending),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(_) => Some(Poll::Ready(())),
    }
}

fn peek(socket: impl rustix::fd::AsFd) -> io::Result<usize> {
    Ok(rustix::net::recv(socket, &mut [0_u8; 1], rustix::net::RecvFlags::PEEK)?.0)
}

/// Both kinds of socket do it in the same way, but have no trait for it.
macro_rules! ending {
    ($socket:ty) => {
        impl Ending for $socket {
            fn poll_end(&self, context: &mut Context<'_>) -> Poll<()> {
                loop {
                    if ready!(self.poll_read_ready(context)).is_err() {
                        return Poll::Ready(());
                    }
                    if let Some(end) = at_end(self.try_io(Interest::READABLE, || peek(self))) {
                        return end;
                    }
                }
            }
        }
    };
}

ending!(UnixStream);
ending!(TcpStream);

/// A stream that knows how it stands with its client, and fails when the client has taken nothing for too long, or is
/// gone while it waits.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    stall: Stall,
    waiting: Waiting,
    longest: Duration,
    /// While the client takes nothing; at the end, while it still sends.
    end: Option<Pin<Box<Sleep>>>,
    is_shut: bool,
    /// Bytes that came after that.
    lingered: usize,
}

impl<S> Watched<S> {
    /// `stream`, which `stall` and `waiting` tell of; a client may take nothing for `longest`.
    pub(super) fn new(stream: S, stall: Stall, waiting: Waiting, longest: Duration) -> Self {
        Self { stream, stall, waiting, longest, end: None, is_shut: false, lingered: 0 }
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

impl<S: AsyncRead + Unpin> Watched<S> {
    /// Takes what a client is sending, for a while: were the socket closed upon it, the kernel would throw away the answer
    /// that the client has not read yet.
    fn poll_linger(&mut self, context: &mut Context<'_>) -> Poll<()> {
        // First, for a client that never pauses leaves no time to look at a clock.
        if self.end.as_mut().is_some_and(|end| end.as_mut().poll(context).is_ready()) {
            return Poll::Ready(());
        }
        let mut buffer = [0; 16 << 10];
        loop {
            let mut buffer = ReadBuf::new(&mut buffer);
            match Pin::new(&mut self.stream).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() && self.lingered < LINGER_BYTES => {
                    self.lingered += buffer.filled().len();
                    if self.end.is_none() {
                        let mut end = Box::pin(tokio::time::sleep(LINGER));
                        // Asks to be woken.
                        let _ = end.as_mut().poll(context);
                        self.end = Some(end);
                    }
                }
                Poll::Ready(_) => return Poll::Ready(()),
                // Nothing is on its way, or something has been.
                Poll::Pending if self.end.is_none() => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Ending + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note(result, context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.stream.poll_end(context).is_ready() {
            self.stall.has_ended.store(true, Ordering::Relaxed);
            if self.waiting.is_set() {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
        }
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_shut {
            ready!(Pin::new(&mut self.stream).poll_shutdown(context))?;
            (self.is_shut, self.end) = (true, None);
        }
        self.poll_linger(context).map(Ok)
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    impl Ending for DuplexStream {
        fn poll_end(&self, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }
    }

    fn watched<S>(stream: S) -> (Watched<S>, Stall, Waiting) {
        let (stall, waiting) = (Stall::new(), Waiting::default());
        (Watched::new(stream, stall.clone(), waiting.clone(), Duration::from_secs(60)), stall, waiting)
    }

    #[tokio::test]
    async fn who_has_gone_is_noticed_while_it_waits_and_only_then() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (mut watched, stall, waiting) = watched(ours);
        theirs.write_all(b"another request").await.unwrap();
        theirs.shutdown().await.unwrap();
        watched.flush().await.unwrap();
        waiting.set(true);
        watched.flush().await.unwrap();
        assert!(!stall.has_ended(), "it has said something that was not heard");
        watched.read_exact(&mut [0; 15]).await.unwrap();
        watched.flush().await.unwrap_err();
        waiting.set(false);
        watched.flush().await.unwrap();
        assert!(stall.has_ended());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_refused_client_still_sends_is_taken_for_a_while() {
        let (ours, mut theirs) = duplex(1 << 16);
        let (mut watched, ..) = watched(ours);
        // Nothing is on its way: nothing to wait for.
        let at_once = tokio::time::timeout(LINGER / 2, watched.shutdown()).await;
        at_once.unwrap().unwrap();
        theirs.write_all(&[0; 10]).await.unwrap();
        let sender = tokio::spawn(async move {
            let sent = theirs.write_all(&[0; 1 << 20]).await;
            drop(theirs);
            sent
        });
        watched.shutdown().await.unwrap();
        drop(watched);
        sender.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_for_ever_is_not_listened_to_for_ever() {
        let (ours, mut theirs) = duplex(10);
        let (mut slow, ..) = watched(ours);
        theirs.write_all(&[0; 10]).await.unwrap();
        let end = tokio::time::timeout(2 * LINGER, slow.shutdown()).await;
        end.unwrap().unwrap();
        let (ours, mut theirs) = duplex(1 << 20);
        let (mut flooded, ..) = watched(ours);
        theirs.write_all(&[0; 10]).await.unwrap();
        let flood = tokio::spawn(async move { theirs.write_all(&vec![0; 2 * LINGER_BYTES]).await });
        flooded.shutdown().await.unwrap();
        drop(flooded);
        flood.await.unwrap().unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_noticed_and_fails_in_the_end_and_who_takes_something_begins_anew() {
        let (ours, mut theirs) = duplex(10);
        let (mut watched, stall, _) = watched(ours);
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
