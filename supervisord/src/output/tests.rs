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
        self.tapped(log, None)
    }

    /// A pipe of which something is wanted beside its log.
    fn tapped(&mut self, log: LogId, wanted: Option<Wanted>) -> (StreamId, PipeWriter) {
        // The ends share no description: only the reading one is made non-blocking.
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        rustix::io::ioctl_fionbio(&reader, true).unwrap();
        (self.output.attach_tapped(reader, log, wanted).unwrap(), PipeWriter::from(writer))
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.dir.path().join(name)).unwrap_or_default()
    }

    /// Runs the output as a driver does until `done`, at most 20 s. `done` may be about another thread, whose steps are
    /// no event here.
    async fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let end = now().mono + Duration::from_secs(20);
        while !done(self) {
            let at = now().mono;
            assert!(at < end, "waited in vain");
            let look = at + Duration::from_millis(5);
            let wake = self.output.poll_timeout().unwrap_or(look).min(look);
            tokio::select! {
                () = self.output.ready() => {
                    let round = self.output.look();
                    self.output.pump(&round, now());
                }
                () = tokio::time::sleep_until(wake.into()) => self.output.handle_timeout(now()),
            }
        }
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
    bed.until(|bed| bed.output.streams() == 0).await;
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
    bed.until(|bed| bed.output.streams() == 0).await;
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
    bed.output.release(stream, now());
    bed.output.remove_log(log);
    writer.write_all(b"from a grandchild").unwrap();
    bed.until(|bed| bed.read("log") == b"from a grandchild").await;
    drop(writer);
    bed.until(|bed| bed.output.streams() == 0).await;
    assert_eq!(bed.output.logs.iter().count(), 0);
    bed.output.drain(stream, now());
    bed.output.release(stream, now());
}

#[tokio::test(flavor = "current_thread")]
async fn a_log_that_cannot_be_written_blocks_no_program_and_recovers() {
    let mut bed = Bed::new();
    let dir = bed.dir.path().join("sub");
    fs::create_dir(&dir).unwrap();
    let (log, _, mut writer) = bed.capture(LogSpec { file: Some(dir.join("log")), ..bed.spec() });
    fs::remove_dir_all(&dir).unwrap();
    let total = 1 << 20;
    let flood = std::thread::spawn(move || {
        for _ in 0..total / 1024 {
            writer.write_all(&[b'x'; 1024]).unwrap();
        }
        writer
    });
    bed.until(|_| flood.is_finished()).await;
    assert!(bed.output.health(log).error.is_some());
    fs::create_dir(&dir).unwrap();
    // The pipe may still be full.
    let after = std::thread::spawn(move || flood.join().unwrap().write_all(b"after").unwrap());
    bed.until(|bed| bed.output.streams() == 0).await;
    after.join().unwrap();
    let content = bed.read("sub/log");
    let lost = bed.output.health(log).lost;
    assert_eq!(content.len() as u64 + lost, total + 5);
    assert!(content.ends_with(b"after") && lost > 0);
    let reports = bed.reports();
    let path = dir.join("log");
    assert!(matches!(&reports[0], Report::Failing { path: p, .. } if *p == path), "{reports:?}");
    assert!(reports.contains(&Report::Recovered { path, lost }), "{reports:?}");
    assert_eq!(reports.len(), 3, "once each, and that the file was created anew: {reports:?}");
}

#[tokio::test(flavor = "current_thread")]
async fn a_full_disk_loses_only_what_is_counted() {
    let mut bed = Bed::new();
    let disk = bed.dir.path().join("disk");
    fs::create_dir(&disk).unwrap();
    #[allow(clippy::disallowed_types, reason = "a test has no other children to reap")]
    let run = |command: &str, args: &[&str]| {
        std::process::Command::new(command)
            .args(args)
            .arg(&disk)
            .status()
            .is_ok_and(|status| status.success())
    };
    if !run("mount", &["-t", "tmpfs", "-o", "size=256k", "none"]) {
        eprintln!("not checked: mounting takes root");
        return;
    }
    for strip_ansi in [false, true] {
        let name = format!("log{strip_ansi}");
        let ballast = disk.join("ballast");
        fs::write(&ballast, vec![0; 160 << 10]).unwrap();
        let (log, _, mut writer) =
            bed.capture(LogSpec { file: Some(disk.join(&name)), strip_ansi, ..bed.spec() });
        let lines = 40_000;
        let flood = std::thread::spawn(move || {
            for line in 0..lines {
                writer.write_all(format!("{line:09}\n").as_bytes()).unwrap();
            }
            writer
        });
        bed.until(|_| flood.is_finished()).await;
        assert!(bed.output.health(log).error.is_some_and(|error| error.contains("No space left")));
        fs::remove_file(&ballast).unwrap();
        drop(flood.join().unwrap());
        bed.until(|bed| bed.output.streams() == 0).await;
        let content = String::from_utf8(bed.read(&format!("disk/{name}"))).unwrap();
        let lost = bed.output.health(log).lost;
        assert_eq!(content.len() as u64 + lost, lines * 10);
        // In order and nothing twice: the bytes of each whole line tell its number.
        let numbers: Vec<u64> = content.lines().filter(|line| line.len() == 9).flat_map(str::parse).collect();
        assert!(numbers.is_sorted_by(|a, b| a < b));
        fs::remove_file(disk.join(&name)).unwrap();
    }
    drop(std::mem::replace(&mut bed.output, Output::new().unwrap()));
    assert!(run("umount", &[]));
}

#[tokio::test(flavor = "current_thread")]
async fn a_device_that_refuses_is_reported_once() {
    let mut bed = Bed::new();
    let (log, stream, mut writer) =
        bed.capture(LogSpec { file: Some("/dev/full".into()), maxbytes: 1, ..bed.spec() });
    writer.write_all(b"x").unwrap();
    bed.until(|bed| bed.output.health(log).error.is_some()).await;
    for seconds in 1..5 {
        bed.output.handle_timeout(now().after(Duration::from_secs(2 * seconds)));
    }
    assert!(bed.output.health(log).error.is_some());
    assert_eq!(bed.reports().len(), 1);
    // Nothing keeps a stream whose writers are all gone.
    drop(writer);
    bed.output.release(stream, now());
    bed.until(|bed| bed.output.streams() == 0).await;
}

#[tokio::test(flavor = "current_thread")]
async fn inherited_pipes_and_sockets_are_written_to_and_never_rotated() {
    use std::io::Read as _;
    use std::os::fd::AsRawFd as _;
    let mut bed = Bed::new();
    let (mut here, there) = std::os::unix::net::UnixStream::pair().unwrap();
    let (mut reader, writer_end) = io::pipe().unwrap();
    for strip_ansi in [false, true] {
        for number in [there.as_raw_fd(), writer_end.as_raw_fd()] {
            let file = Some(format!("/dev/fd/{number}").into());
            let (_, _, mut writer) =
                bed.capture(LogSpec { file, maxbytes: 5, backups: 2, strip_ansi, ..bed.spec() });
            for text in ["hello ", "world"] {
                writer.write_all(text.as_bytes()).unwrap();
            }
            drop(writer);
            bed.until(|bed| bed.output.streams() == 0).await;
            let mut read = [0; 11];
            if number == there.as_raw_fd() {
                here.read_exact(&mut read)
            } else {
                reader.read_exact(&mut read)
            }
            .unwrap();
            assert_eq!(&read, b"hello world");
        }
    }
    assert!(bed.reports().is_empty());
}

#[tokio::test(flavor = "current_thread")]
async fn a_slow_target_is_waited_for_and_a_stuck_one_is_not() {
    use std::io::Read as _;
    use std::os::fd::AsRawFd as _;
    let mut bed = Bed::new();
    let (mut reader, writer_end) = io::pipe().unwrap();
    let file = Some(format!("/dev/fd/{}", writer_end.as_raw_fd()).into());
    let (log, _, mut writer) = bed.capture(LogSpec { file, ..bed.spec() });
    let line = |number: u32| format!("{number:09}\n");
    let flood = std::thread::spawn(move || {
        for number in 0..50_000 {
            writer.write_all(line(number).as_bytes()).unwrap();
        }
        writer
    });
    bed.until(|bed| bed.output.troubled.len() == 1).await;
    assert!(!flood.is_finished());
    assert_eq!(bed.output.health(log), LogHealth::default());
    let (tell, told) = std::sync::mpsc::channel();
    let slow_reader = std::thread::spawn(move || {
        let mut text = vec![0; 500_000];
        reader.read_exact(&mut text).unwrap();
        tell.send(()).unwrap();
        (text, reader)
    });
    bed.until(|_| told.try_recv().is_ok()).await;
    let (text, mut reader) = slow_reader.join().unwrap();
    assert!(text == (0..50_000).map(line).collect::<String>().as_bytes());
    let mut writer = flood.join().unwrap();
    bed.until(|bed| bed.output.troubled.is_empty()).await;
    assert!(bed.reports().is_empty());

    // Nobody reads for longer than our patience: the program gets on.
    let flood = std::thread::spawn(move || writer.write_all(&[b'x'; 1 << 20]).map(|()| writer));
    bed.until(|bed| bed.output.troubled.len() == 1).await;
    bed.output.handle_timeout(now().after(PATIENCE + RETRY));
    bed.until(|_| flood.is_finished()).await;
    assert!(matches!(bed.reports()[..], [Report::Stuck { .. }]));
    let mut writer = flood.join().unwrap().unwrap();
    let rest = std::thread::spawn(move || {
        let mut text = Vec::new();
        reader.read_to_end(&mut text).unwrap();
        text
    });
    bed.until(|bed| bed.output.troubled.is_empty()).await;
    let end = std::thread::spawn(move || writer.write_all(b"end").unwrap());
    drop(writer_end);
    bed.until(|bed| bed.output.streams() == 0).await;
    end.join().unwrap();
    let text = rest.join().unwrap();
    assert!(text.ends_with(b"end"));
    assert_eq!(text.len() as u64 + bed.output.health(log).lost, (1 << 20) + 3);
}

#[tokio::test(flavor = "current_thread")]
async fn logs_that_share_a_file_rotate_together() {
    let mut bed = Bed::new();
    let spec = LogSpec { maxbytes: 1000, backups: 200, ..bed.spec() };
    let (_, _, mut one) = bed.capture(spec.clone());
    let (_, _, mut two) = bed.capture(spec);
    let mut written = Vec::new();
    for number in 0..300 {
        let line = format!("{number:09}\n");
        if number % 2 == 0 { &mut one } else { &mut two }.write_all(line.as_bytes()).unwrap();
        written.extend_from_slice(line.as_bytes());
        bed.output.gate.open();
        bed.until(|bed| bed.output.gate.is_shut).await;
    }
    let path = bed.dir.path().join("log");
    let files = (1..=3).rev().map(|backup| rotate::backup(&path, backup)).chain([path.clone()]);
    let all: Vec<u8> = files.flat_map(|path| fs::read(path).unwrap()).collect();
    assert_eq!(String::from_utf8(all), String::from_utf8(written));
}

#[tokio::test(flavor = "current_thread")]
async fn truncation_deletion_and_renaming_by_others_lose_nothing_that_comes_after() {
    let mut bed = Bed::new();
    let (_, stream, mut writer) = bed.capture(bed.spec());
    let path = bed.dir.path().join("log");
    let mut write = |bed: &mut Bed, text: &str| {
        writer.write_all(text.as_bytes()).unwrap();
        bed.output.drain(stream, now());
    };
    write(&mut bed, "before");
    fs::File::options().write(true).truncate(true).open(&path).unwrap();
    write(&mut bed, "truncated");
    assert_eq!(bed.read("log"), b"truncated");
    fs::remove_file(&path).unwrap();
    write(&mut bed, "deleted");
    assert_eq!(bed.read("log"), b"deleted");
    assert_eq!(bed.reports(), [Report::Recreated { path: path.clone() }]);
    fs::rename(&path, bed.dir.path().join("old")).unwrap();
    write(&mut bed, "+late");
    assert!(bed.output.reopen_all().is_empty());
    write(&mut bed, "new");
    assert_eq!((bed.read("old"), bed.read("log")), (b"deleted+late".to_vec(), b"new".to_vec()));
}

#[tokio::test(flavor = "current_thread")]
async fn clear_works_with_and_without_a_running_process() {
    let mut bed = Bed::new();
    let (log, stream, mut writer) = bed.capture(bed.spec());
    writer.write_all(b"old").unwrap();
    bed.output.drain(stream, now());
    bed.output.clear(log).unwrap();
    assert_eq!(bed.read("log"), b"");
    writer.write_all(b"new").unwrap();
    drop(writer);
    bed.until(|bed| bed.output.streams() == 0).await;
    assert_eq!(bed.read("log"), b"new");
    bed.output.clear(log).unwrap();
    assert_eq!(bed.read("log"), b"");
    assert!(bed.output.logs.get_mut(log.0).unwrap().file_mut().is_none(), "nobody writes, so it is closed");
}

#[tokio::test(flavor = "current_thread")]
async fn a_follower_sees_all_and_one_that_does_not_read_costs_nothing() {
    let mut bed = Bed::new();
    let (log, _, mut writer) = bed.capture(LogSpec { maxbytes: 300_000, backups: 9, ..bed.spec() });
    let mut follower = bed.output.follow(log, 0).unwrap();
    let lazy = bed.output.follow(log, 0).unwrap();
    let text: String = (0..100_000).map(|line| format!("{line:09}\n")).collect();
    let flood = std::thread::spawn({
        let text = text.clone();
        move || writer.write_all(text.as_bytes()).unwrap()
    });
    let reading = async {
        let mut seen = Vec::new();
        while seen.len() < text.len() {
            seen.extend_from_slice(&follower.next().await.unwrap().unwrap());
        }
        seen
    };
    let ((), seen) = tokio::join!(bed.until(|bed| bed.output.streams() == 0), reading);
    flood.join().unwrap();
    assert!(seen == text.as_bytes());
    assert!(bed.dir.path().join("log.2").exists());
    drop((lazy, follower));
    assert!(bed.output.follow(log, 0).is_some());
    assert_eq!(bed.output.wakes.len(), 1);
}

#[tokio::test(flavor = "current_thread")]
async fn streams_are_stripped_and_sent_to_syslog() {
    use std::os::unix::net::UnixDatagram;
    let mut bed = Bed::new();
    let socket = bed.dir.path().join("syslog");
    let server = UnixDatagram::bind(&socket).unwrap();
    bed.output.syslog = Syslog::at(&socket);
    let (_, _, mut writer) =
        bed.capture(LogSpec { syslog: Some("web".into()), strip_ansi: true, ..bed.spec() });
    for part in ["\x1b[3", "1mred\x1b[0m\nun", "finished\x1b"] {
        writer.write_all(part.as_bytes()).unwrap();
        bed.output.gate.open();
        bed.until(|bed| bed.output.gate.is_shut).await;
    }
    drop(writer);
    bed.until(|bed| bed.output.streams() == 0).await;
    assert_eq!(bed.read("log"), b"red\nunfinished\x1b");
    for expected in ["<14>supervisord: web red", "<14>supervisord: web unfinished"] {
        let mut record = [0; 100];
        let length = server.recv(&mut record).unwrap();
        assert_eq!(String::from_utf8_lossy(&record[..length]), expected);
    }
}

#[tokio::test(flavor = "current_thread")]
async fn without_a_file_output_is_read_and_thrown_away() {
    let mut bed = Bed::new();
    let (_, _, mut writer) = bed.capture(LogSpec { file: None, ..bed.spec() });
    let flood = std::thread::spawn(move || writer.write_all(&[b'x'; 1 << 20]).unwrap());
    bed.until(|bed| bed.output.streams() == 0).await;
    flood.join().unwrap();
    assert_eq!(fs::read_dir(bed.dir.path()).unwrap().count(), 0);
}

#[tokio::test(flavor = "current_thread")]
async fn an_unopenable_log_is_an_error_with_its_path() {
    let mut bed = Bed::new();
    let log = bed.output.add_log(LogSpec { file: Some("/nowhere/log".into()), ..bed.spec() });
    let error = bed.output.open(log).unwrap_err().to_string();
    assert_eq!(error, "cannot open log /nowhere/log: No such file or directory (os error 2)");
}

/// The text among the pieces that are there.
fn texts(output: &mut Output) -> Vec<u8> {
    let pieces = std::iter::from_fn(|| output.poll_piece());
    let text = |(_, piece)| match piece {
        Piece::Text(text) => text,
        Piece::Message(_) => Vec::new(),
    };
    pieces.flat_map(text).collect()
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_published_is_what_is_logged_through_rotations() {
    for strip_ansi in [false, true] {
        let mut bed = Bed::new();
        let spec = LogSpec { maxbytes: 50_000, backups: 1000, strip_ansi, ..bed.spec() };
        let log = bed.output.add_log(spec);
        bed.output.open(log).unwrap();
        let (_, mut writer) = bed.tapped(log, Some(Wanted::Output { text: true, capture: None }));
        let written: Vec<u8> = (0..20_000).flat_map(|line| format!("line {line}\n").into_bytes()).collect();
        let expected = written.clone();
        let thread = std::thread::spawn(move || writer.write_all(&written).unwrap());
        let mut seen = Vec::new();
        bed.until(|bed| {
            seen.extend(texts(&mut bed.output));
            bed.output.streams() == 0
        })
        .await;
        thread.join().unwrap();
        seen.extend(texts(&mut bed.output));
        assert!(seen == expected, "strip_ansi={strip_ansi}: {} of {} bytes", seen.len(), expected.len());
        let number = |at: usize| if at == 0 { "log".to_owned() } else { format!("log.{at}") };
        let logged: Vec<u8> = (0..1000).rev().flat_map(|at| bed.read(&number(at))).collect();
        assert!(logged == expected, "strip_ansi={strip_ansi}: {} of {} bytes", logged.len(), expected.len());
    }
}

#[tokio::test(flavor = "current_thread")]
async fn words_of_a_listener_are_heard_though_its_log_cannot_be_written() {
    let mut bed = Bed::new();
    let log = bed.output.add_log(LogSpec { file: Some("/dev/full".into()), ..bed.spec() });
    bed.output.open(log).unwrap();
    let (_, mut writer) = bed.tapped(log, Some(Wanted::Words));
    let mut heard = Vec::new();
    for words in ["READY\n", "RESULT 2\nOK", "READY\n"] {
        writer.write_all(words.as_bytes()).unwrap();
        bed.until(|bed| {
            heard.extend(texts(&mut bed.output));
            heard.ends_with(words.as_bytes())
        })
        .await;
    }
    assert_eq!(heard, b"READY\nRESULT 2\nOKREADY\n");
}

#[tokio::test(flavor = "current_thread")]
async fn a_message_is_not_in_the_log_and_what_was_held_back_is_there_when_the_process_has_ended() {
    let mut bed = Bed::new();
    let log = bed.output.add_log(bed.spec());
    bed.output.open(log).unwrap();
    let (stream, mut writer) = bed.tapped(log, Some(Wanted::Output { text: false, capture: Some(1000) }));
    writer.write_all(b"a<!--XSUPERVISOR:BEGIN-->message<!--XSUPERVISOR:END-->b<!--").unwrap();
    bed.until(|bed| bed.read("log") == b"ab").await;
    // The writer lives on, as a descendant of the process would.
    bed.output.drain(stream, now());
    assert_eq!(bed.read("log"), b"ab<!--");
    let pieces: Vec<_> = std::iter::from_fn(|| bed.output.poll_piece()).collect();
    assert_eq!(pieces, [(stream, Piece::Message(b"message".to_vec()))]);
}

#[tokio::test(flavor = "current_thread")]
async fn what_is_written_by_itself_is_whole_where_it_is_taken_and_counted_where_it_is_not() {
    use std::io::Read as _;
    use std::os::fd::AsRawFd as _;
    let mut bed = Bed::new();
    let text: String = (0..200_000).map(|number| format!("{number:09}\n")).collect();
    assert!(text.len() > 1_500_000);
    let idle = bed.output.add_log(bed.spec());
    bed.output.write(idle, text.as_bytes(), now());
    assert!(bed.read("log") == text.as_bytes());
    assert_eq!(bed.output.health(idle), LogHealth::default());

    // Nobody reads from this one: it is filled, and 1 MiB waits.
    let (mut reader, writer) = std::io::pipe().unwrap();
    let file = Some(format!("/dev/fd/{}", writer.as_raw_fd()).into());
    let slow = bed.output.add_log(LogSpec { file, ..bed.spec() });
    bed.output.write(slow, text.as_bytes(), now());
    bed.output.write(slow, b"no room any more\n", now());
    let lost = bed.output.health(slow).lost;
    let kept = text.len() as u64 + 17 - lost;
    assert!(kept > 1 << 20 && lost > 17, "{kept}, {lost}");
    assert!(bed.reports().is_empty());
    let rest = std::thread::spawn(move || {
        let mut text = vec![0; kept as usize];
        reader.read_exact(&mut text).unwrap();
        (text, reader)
    });
    bed.until(|bed| bed.output.troubled.is_empty()).await;
    let (read, mut reader) = rest.join().unwrap();
    assert!(read.ends_with(b"\n") && read == text.as_bytes()[..read.len()]);
    let reports = bed.reports();
    assert!(matches!(reports[..], [Report::Recovered { lost: told, .. }] if told == lost), "{reports:?}");
    bed.output.write(slow, b"more\n", now());
    let mut more = [0; 5];
    reader.read_exact(&mut more).unwrap();
    assert_eq!(&more, b"more\n");
}

#[tokio::test(flavor = "current_thread")]
async fn lines_of_programs_that_share_a_slow_pipe_are_not_torn() {
    let mut bed = Bed::new();
    let path = bed.dir.path().join("fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut reader = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    rustix::io::ioctl_fionbio(&reader, true).unwrap();
    let (writers, lines) = (3, 60_000);
    let mut threads = Vec::new();
    for number in 0..writers {
        let spec = LogSpec { file: Some(path.clone()), ..bed.spec() };
        let (_, _, mut writer) = bed.capture(spec);
        let _ = rustix::pipe::fcntl_setpipe_size(&writer, 1 << 20);
        threads.push(std::thread::spawn(move || {
            for line in 0..lines {
                let line = format!("<{number} {line} {}>\n", "x".repeat(line % 90));
                writer.write_all(line.as_bytes()).unwrap();
            }
        }));
    }
    let (mut text, mut piece) = (Vec::new(), vec![0; 10_000]);
    bed.until(|bed| {
        // Not all that is there: it stays full for most of the time.
        if let Ok(count) = std::io::Read::read(&mut reader, &mut piece) {
            text.extend_from_slice(&piece[..count]);
            return false;
        }
        bed.output.streams() == 0
    })
    .await;
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    let text = String::from_utf8(text).unwrap();
    let mut next = vec![0; writers];
    for line in text.lines() {
        let words: Vec<_> = line.trim_matches(['<', '>']).split(' ').collect();
        let number: usize = words[0].parse().unwrap_or_else(|_| panic!("torn: {line}"));
        assert_eq!(line, format!("<{number} {} {}>", next[number], "x".repeat(next[number] % 90)));
        next[number] += 1;
    }
    assert_eq!(next, [lines; 3]);
}
