//! What the user types: lines from standard input, whatever it is, and a password that is not shown.
//!
//! Owns the bytes of standard input that were read and not yet used, so that the shell, its questions and `fg` read
//! one after the other from the same pipe without losing any.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::termios::{self, LocalFlags, SetArg, Termios},
};
use tokio::io::{Interest, unix::AsyncFd};

/// Lines of standard input.
#[derive(Default)]
pub struct Input {
    /// Read, and not yet taken.
    buffer: Vec<u8>,
}

impl Input {
    /// The next line without its end; `None` at the end of the input.
    ///
    /// Cancel-safe: bytes that were read stay for the next call.
    pub async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return Some(String::from_utf8_lossy(&line[..end]).into_owned());
            }
            let mut chunk = [0; 4096];
            match read_stdin(&mut chunk).await {
                Ok(count) if count > 0 => self.buffer.extend_from_slice(&chunk[..count]),
                // An input that cannot be read has ended.
                Ok(_) | Err(_) if self.buffer.is_empty() => return None,
                Ok(_) | Err(_) => {
                    let line = std::mem::take(&mut self.buffer);
                    return Some(String::from_utf8_lossy(&line).into_owned());
                }
            }
        }
    }

    /// The next line, typed without being shown when standard input is a terminal; `None` also after Ctrl-C, which
    /// would otherwise leave the terminal mute.
    pub async fn hidden_line(&mut self) -> Option<String> {
        let _restored_when_done = Hidden::new();
        tokio::select! {
            biased;
            _interrupt = tokio::signal::ctrl_c() => None,
            line = self.line() => line,
        }
    }
}

/// Reads what is there, waiting for the first byte. Cancel-safe: it is only cancelled while nothing was read.
async fn read_stdin(chunk: &mut [u8]) -> nix::Result<usize> {
    // A regular file cannot be waited for, and need not be.
    if let Ok(stdin) = watch_stdin() {
        while !is_readable(io::stdin().as_fd()) {
            if let Ok(mut ready) = stdin.readable().await
                && !is_readable(io::stdin().as_fd())
            {
                ready.clear_ready();
            }
        }
    }
    nix::unistd::read(io::stdin(), chunk)
}

/// Standard input, registered with the event loop under a descriptor of its own.
#[allow(deprecated, reason = "the successor is unsafe for descriptors that may be closed; this one is owned")]
fn watch_stdin() -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(io::stdin().as_fd().try_clone_to_owned()?, Interest::READABLE)
}

/// Would a read return at once?
fn is_readable(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|count| count > 0)
}

/// The terminal's echo is off as long as this lives.
struct Hidden {
    before: Option<Termios>,
}

impl Hidden {
    fn new() -> Self {
        let before = termios::tcgetattr(io::stdin()).ok();
        if let Some(mut attributes) = before.clone() {
            attributes.local_flags.remove(LocalFlags::ECHO);
            // A terminal that refuses shows the password; Supervisor asks nevertheless, after a warning.
            let _shown = termios::tcsetattr(io::stdin(), SetArg::TCSAFLUSH, &attributes);
        }
        Self { before }
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        if let Some(attributes) = &self.before {
            // Nothing is left to try.
            let _stuck = termios::tcsetattr(io::stdin(), SetArg::TCSAFLUSH, attributes);
        }
    }
}
