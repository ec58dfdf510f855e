//! Sends lines to the system log (`stdout_syslog`, `logfile=syslog`): RFC 3164 datagrams to `/dev/log`.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A connection to the system log that never blocks: what cannot be sent now is dropped and counted.
#[derive(Debug)]
pub struct Syslog {
    path: PathBuf,
    socket: Option<UnixDatagram>,
    lost: u64,
}

impl Syslog {
    /// A connection to `/dev/log`, made at the first message.
    pub fn new() -> Self {
        Self::at(Path::new("/dev/log"))
    }

    /// The same, to a socket elsewhere.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_path_buf(), socket: None, lost: 0 }
    }

    /// Sends one record: `LOG_USER | LOG_INFO`, from `supervisord`. The receiver adds the time.
    pub fn send(&mut self, text: &[u8]) {
        let record = [b"<14>supervisord: ", text].concat();
        // Twice, since a restarted syslog daemon leaves us connected to a socket which nobody reads.
        if self.try_send(&record).or_else(|_| self.try_send(&record)).is_err() {
            self.lost += 1;
        }
    }

    /// Records that could not be sent so far.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    fn try_send(&mut self, record: &[u8]) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                socket.connect(&self.path)?;
                socket
            }
        };
        let result = socket.send(record);
        if !result.as_ref().is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
            self.socket = Some(socket);
        }
        result.map(|_| ())
    }
}

impl Default for Syslog {
    fn default() -> Self {
        Self::new()
    }
}

/// Puts the chunks of one stream together to lines.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    /// Calls `line` for each line completed by `data`, without its end. A longer one than [`LONGEST`] is cut.
    pub(super) fn feed(&mut self, data: &[u8], mut line: impl FnMut(&[u8])) {
        for piece in data.split_inclusive(|byte| *byte == b'\n') {
            for part in piece.chunks(LONGEST) {
                if self.partial.len() + part.len() > LONGEST {
                    self.finish(&mut line);
                }
                self.partial.extend_from_slice(part);
            }
            if piece.ends_with(b"\n") {
                self.finish(&mut line);
            }
        }
    }

    /// Calls `line` for what is left at the end of the stream.
    pub(super) fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        let text = self.partial.trim_ascii_end();
        if !text.is_empty() {
            line(text);
        }
        self.partial.clear();
    }
}

/// Longest text of one record in bytes: what common syslog daemons take whole.
const LONGEST: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_priority_ident_and_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let server = UnixDatagram::bind(&path).unwrap();
        Syslog::at(&path).send(b"web hello");
        let mut record = [0; 100];
        let length = server.recv(&mut record).unwrap();
        assert_eq!(&record[..length], b"<14>supervisord: web hello");
    }

    #[test]
    fn a_missing_or_full_receiver_costs_only_the_record() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let mut syslog = Syslog::at(&path);
        syslog.send(b"nobody");
        assert_eq!(syslog.lost(), 1);
        let server = UnixDatagram::bind(&path).unwrap();
        for _ in 0..10_000 {
            syslog.send(&[b'x'; 1000]);
        }
        assert!(syslog.lost() > 1, "the receiver's queue is finite");
        drop(server);
        std::fs::remove_file(&path).unwrap();
        let server = UnixDatagram::bind(&path).unwrap();
        let lost = syslog.lost();
        syslog.send(b"again");
        assert_eq!(syslog.lost(), lost);
        let mut record = [0; 100];
        assert_eq!(server.recv(&mut record).unwrap(), b"<14>supervisord: again".len());
    }

    #[test]
    fn chunks_become_lines() {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        lines.feed(b"one\ntw", |line| seen.push(line.to_vec()));
        lines.feed(b"o\r\n\nthree", |line| seen.push(line.to_vec()));
        lines.finish(|line| seen.push(line.to_vec()));
        assert_eq!(seen, [b"one".to_vec(), b"two".to_vec(), b"three".to_vec()]);
    }

    #[test]
    fn a_line_without_end_is_cut() {
        let (mut lines, mut seen) = (Lines::default(), Vec::new());
        lines.feed(&vec![b'x'; 3 * LONGEST], |line| seen.push(line.len()));
        lines.finish(|line| seen.push(line.len()));
        assert_eq!(seen, [LONGEST, LONGEST, LONGEST]);
    }
}
