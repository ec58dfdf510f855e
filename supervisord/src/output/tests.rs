//! Real pipes and files.

use std::fs;
use std::io::{PipeWriter, Write as _};

use rustix::pipe::{PipeFlags, pipe_with};

use super::*;
use crate::clock::now;

/// An `Output` in a directory of its own.
struct Bed {
    dir: tempfile::TempDir,
    output: Output,
}

impl Bed {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().unwrap(), output: Output::new().unwrap() }
    }

    fn spec(&self) -> LogSpec {
        LogSpec {
            file: Some(self.dir.path().join("log")),
            mode: 0o666,
            maxbytes: 0,
            backups: 0,
            syslog: None,
            strip_ansi: false,
        }
    }

    /// A log and a pipe that goes to it.
    fn capture(&mut self, spec: LogSpec) -> (LogId, StreamId, PipeWriter) {
        let log = self.output.add_log(spec);
        self.output.open(log).unwrap();
        let (stream, writer) = self.pipe(log);
        (log, stream, writer)
    }

    fn pipe(&mut self, log: LogId) -> (StreamId, PipeWriter) {
        // The ends share no description: only the reading one is made non-blocking.
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        (self.output.attach(reader, log).unwrap(), PipeWriter::from(writer))
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.dir.path().join(name)).unwrap_or_default()
    }

    /// Runs the output as a driver does until `done`, at most 20 s.
    async fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let end = now().mono + Duration::from_secs(20);
        while !done(self) {
            assert!(now().mono < end, "waited in vain");
            let wake = self.output.poll_timeout().unwrap_or(end).min(end);
            tokio::select! {
                () = self.output.ready() => self.output.pump(now()),
                () = tokio::time::sleep_until(wake.into()) => self.output.handle_timeout(now()),
            }
        }
    }

    fn streams(&self) -> usize {
        self.output.streams.iter().count()
    }

    fn reports(&mut self) -> Vec<Report> {
        std::iter::from_fn(|| self.output.poll_report()).collect()
    }
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_written_is_in_the_file_and_the_stream_ends_with_its_writers() {
    let mut bed = Bed::new();
    let (_, _, mut writer) = bed.capture(bed.spec());
    writer.write_all(b"one\xff\0\n").unwrap();
    bed.until(|bed| bed.read("log") == b"one\xff\0\n").await;
    writer.write_all(b"two").unwrap();
    drop(writer);
    bed.until(|bed| bed.streams() == 0).await;
    assert_eq!(bed.read("log"), b"one\xff\0\ntwo");
    bed.until(|bed| bed.output.poll_timeout().is_none()).await;
}

#[tokio::test(flavor = "current_thread")]
async fn many_writers_through_rotations_lose_and_mix_nothing() {
    let mut bed = Bed::new();
    let (writers, lines) = (8, 20_000);
    let mut threads = Vec::new();
    for number in 0..writers {
        let name = format!("log{number}");
        let spec = LogSpec {
            file: Some(bed.dir.path().join(&name)),
            maxbytes: 20_000,
            backups: 100,
            strip_ansi: number % 2 == 1,
            ..bed.spec()
        };
        let (_, _, mut writer) = bed.capture(spec);
        threads.push(std::thread::spawn(move || {
            for line in 0..lines {
                writer
                    .write_all(format!("{number} {line:09} {}\n", "x".repeat(line % 60)).as_bytes())
                    .unwrap();
            }
        }));
    }
    bed.until(|bed| bed.streams() == 0).await;
    for thread in threads {
        thread.join().unwrap();
    }
    for number in 0..writers {
        let name = format!("log{number}");
        let path = bed.dir.path().join(&name);
        let all: Vec<u8> = (1..=100)
            .rev()
            .map(|backup| rotate::backup(&path, backup))
            .chain([path.clone()])
            .filter_map(|path| fs::read(path).ok())
            .inspect(|content| assert!(content.len() <= 20_000 + CHUNK))
            .flatten()
            .collect();
        let expected: String =
            (0..lines).map(|line| format!("{number} {line:09} {}\n", "x".repeat(line % 60))).collect();
        assert!(all == expected.as_bytes(), "{name}: {} bytes instead of {}", all.len(), expected.len());
        assert!(rotate::backup(&path, 5).exists());
    }
}

#[tokio::test(flavor = "current_thread")]
async fn drain_puts_the_last_words_into_the_file_at_once() {
    let mut bed = Bed::new();
    let (_, stream, mut writer) = bed.capture(bed.spec());
    writer.write_all(b"last words").unwrap();
    bed.output.drain(stream, now());
    assert_eq!(bed.read("log"), b"last words");
}

#[tokio::test(flavor = "current_thread")]
async fn a_released_stream_is_read_until_the_last_holder_is_gone() {
    let mut bed = Bed::new();
    let (log, stream, mut writer) = bed.capture(bed.spec());
    bed.output.drain(stream, now());
    bed.output.release(stream);
    bed.output.remove_log(log);
    writer.write_all(b"from a grandchild").unwrap();
    bed.until(|bed| bed.read("log") == b"from a grandchild").await;
    drop(writer);
    bed.until(|bed| bed.streams() == 0).await;
    assert_eq!(bed.output.logs.iter().count(), 0);
    bed.output.drain(stream, now());
    bed.output.release(stream);
}
