//! Events on their way to the stdin of listeners that do not read at once. The loop never waits for a listener.

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use rustix::event::{Timespec, epoll};
use tokio::io::{Interest, unix::AsyncFd};

use crate::supervisor::ProcessId;

/// What could not be written yet.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// Holds the pipes that something waits for; made when something has to wait for the first time.
    watched: Option<AsyncFd<OwnedFd>>,
    pending: BTreeMap<ProcessId, Vec<u8>>,
}

impl Outbox {
    /// Writes to the stdin of a listener, now or as soon as there is room.
    ///
    /// # Errors
    /// `BrokenPipe` when nobody reads it any more; then nothing waits.
    pub(super) fn send(&mut self, id: ProcessId, stdin: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
        if let Some(pending) = self.pending.get_mut(&id) {
            pending.extend_from_slice(bytes);
            return Ok(());
        }
        let written = write_some(stdin, bytes)?;
        if written < bytes.len() {
            self.watch(stdin)?;
            self.pending.insert(id, bytes[written..].to_vec());
        }
        Ok(())
    }

    /// Writes to the stdin of a program, now or as soon as there is room; false if too much waits, and then nothing was
    /// written.
    ///
    /// # Errors
    /// `BrokenPipe` when nobody reads it any more.
    pub(super) fn offer(&mut self, id: ProcessId, stdin: &OwnedFd, bytes: &[u8]) -> io::Result<bool> {
        // Kept whole at most, as if nothing had been written: how much the pipe takes is known only afterwards.
        if self.waiting(id).len() + bytes.len() > MOST_KEPT {
            return Ok(false);
        }
        self.send(id, stdin, bytes).map(|()| true)
    }

    /// Whether something waits for the stdin of a process.
    pub(super) fn is_waiting(&self, id: ProcessId) -> bool {
        self.pending.contains_key(&id)
    }

    /// What waits for the stdin of a process.
    pub(super) fn waiting(&self, id: ProcessId) -> &[u8] {
        self.pending.get(&id).map_or(&[], Vec::as_slice)
    }

    /// Forgets what waits for a listener that has ended.
    pub(super) fn forget(&mut self, id: ProcessId) {
        self.pending.remove(&id);
    }

    /// Waits until [`Outbox::pump`] has something to do. Cancel-safe.
    pub(super) async fn ready(&self) {
        let readable = match &self.watched {
            Some(watched) if !self.pending.is_empty() => watched.readable().await.is_ok(),
            Some(_) | None => false,
        };
        if !readable {
            std::future::pending().await
        }
    }

    /// Writes what there is room for. A listener that reads no more is left to its exit.
    pub(super) fn pump<'fd>(&mut self, stdin_of: impl Fn(ProcessId) -> Option<&'fd OwnedFd>) {
        if let Some(watched) = &self.watched {
            // Clears the readiness: each pipe is armed anew below.
            let _ = watched.try_io(Interest::READABLE, |epoll| {
                epoll::wait(epoll, &mut [super::super::output::no_event(); 16], Some(&Timespec::default()))?;
                Err::<(), _>(io::Error::from(io::ErrorKind::WouldBlock))
            });
        }
        let ids: Vec<ProcessId> = self.pending.keys().copied().collect();
        for id in ids {
            let Some(mut rest) = self.pending.remove(&id) else { continue };
            let Some(stdin) = stdin_of(id) else { continue };
            let Ok(written) = write_some(stdin, &rest) else { continue };
            rest.drain(..written);
            if !rest.is_empty() && self.watch(stdin).is_ok() {
                self.pending.insert(id, rest);
            }
        }
    }

    fn watch(&mut self, stdin: &OwnedFd) -> io::Result<()> {
        if self.watched.is_none() {
            let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
            #[allow(
                deprecated,
                reason = "its successor is unsafe since `AsRawFd` types may lie; an `OwnedFd` owns a valid descriptor"
            )]
            let watched = AsyncFd::with_interest(epoll, Interest::READABLE)?;
            self.watched = Some(watched);
        }
        let Some(watched) = &self.watched else { return Ok(()) };
        let (data, flags) =
            (epoll::EventData::new_u64(0), epoll::EventFlags::OUT | epoll::EventFlags::ONESHOT);
        match epoll::add(watched.get_ref(), stdin.as_fd(), data, flags) {
            Err(rustix::io::Errno::EXIST) => {
                Ok(epoll::modify(watched.get_ref(), stdin.as_fd(), data, flags)?)
            }
            result => Ok(result?),
        }
    }
}

/// Bytes that are kept for a program which does not read.
const MOST_KEPT: usize = 1 << 20;

/// How many bytes the pipe took.
fn write_some(stdin: &OwnedFd, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match rustix::io::write(stdin, &bytes[written..]) {
            Ok(count) => written += count,
            Err(rustix::io::Errno::AGAIN) => break,
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use std::{io::Read as _, sync::Arc};

    use super::*;
    use crate::{
        config::{GroupConfig, GroupKind},
        os::pipe::{InputPipe, OnDaemonDeath, input_pipe},
        process::test_defaults,
        supervisor::Supervisor,
    };

    fn id() -> ProcessId {
        let processes = vec![Arc::new(test_defaults("x"))];
        let group = GroupConfig { name: "x".to_owned(), priority: 1, kind: GroupKind::Program, processes };
        Supervisor::new().add_group(Arc::new(group)).unwrap()[0]
    }

    #[tokio::test]
    async fn what_a_pipe_does_not_take_whole_is_kept_and_what_is_refused_is_not_written() {
        let InputPipe { write, child } = input_pipe(None, OnDaemonDeath::EndOfFile).unwrap();
        let (mut outbox, id) = (Outbox::default(), id());
        let message: Vec<u8> = (0..5000).map(|number| number as u8).collect();
        let mut taken = 0;
        while outbox.offer(id, &write, &message).unwrap() {
            taken += 1;
        }
        assert!(taken * message.len() > MOST_KEPT && outbox.is_waiting(id), "{taken}");
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            std::fs::File::from(child).read_to_end(&mut all).map(|_| all)
        });
        while outbox.is_waiting(id) {
            outbox.ready().await;
            outbox.pump(|_| Some(&write));
        }
        drop((outbox, write));
        assert!(reader.join().unwrap().unwrap() == message.repeat(taken), "every message, and nothing else");
    }
}
