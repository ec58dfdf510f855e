//! Whether a log holds what the actor's `lines-wild` has written: every line once, in order, none torn.

use std::{
    collections::HashMap,
    fs,
    io::{Read as _, Seek as _, SeekFrom},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::Daemon;

/// Bytes of a line.
const LINE: usize = 100;

/// Digits of its number.
const DIGITS: usize = 9;

/// A log that is checked piece by piece, over all its rotations.
#[derive(Debug)]
pub struct History {
    name: String,
    lines: usize,
    /// The beginning of a line that goes on in the next file, or is not written yet.
    rest: Vec<u8>,
    /// The file up to whose end all is checked: its inode, and that end.
    last: Option<(u64, u64)>,
    /// Bytes of files that were removed.
    removed: u64,
}

impl History {
    /// Nothing of the log `name` is checked yet.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), lines: 0, rest: Vec::new(), last: None, removed: 0 }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Lines that were checked.
    pub fn lines(&self) -> usize {
        self.lines
    }

    /// Bytes that were checked.
    pub fn bytes(&self) -> u64 {
        (self.lines * LINE + self.rest.len()) as u64
    }

    /// Checks what has been written since the last time.
    ///
    /// # Panics
    /// Where a line is missing, doubled, out of order or torn; only the last one may end early.
    #[track_caller]
    pub fn check(&mut self, daemon: &Daemon) {
        for file in files(daemon, &self.name) {
            self.check_file(&file);
        }
        let Self { name, lines, rest, .. } = self;
        assert!(line(*lines + 1).starts_with(rest), "{name}: line {} is torn: {rest:?}", *lines + 1);
    }

    /// The same, and removes what will not be written to any more. To be called while nobody writes, for the daemon gives
    /// other files the names of those that were checked.
    #[track_caller]
    pub fn check_and_remove(&mut self, daemon: &Daemon) {
        self.check(daemon);
        let log = daemon.path(&self.name);
        for file in files(daemon, &self.name).into_iter().filter(|file| *file != log) {
            let metadata = fs::metadata(&file).expect("nobody else removes it");
            fs::remove_file(&file).expect("nobody else removes it");
            self.removed += metadata.len();
            // Its number may be given to another file.
            self.last = self.last.filter(|(inode, _)| *inode != metadata.ino());
        }
    }

    /// Takes the new lines of one file into account.
    #[track_caller]
    fn check_file(&mut self, path: &Path) {
        let mut file = fs::File::open(path).expect("a readable log");
        let metadata = file.metadata().expect("a readable log");
        if let Some((inode, end)) = self.last.filter(|(inode, _)| *inode == metadata.ino()) {
            assert!(metadata.len() >= end, "{}: it was cut", path.display());
            file.seek(SeekFrom::Start(end)).expect("a file");
            self.last = Some((inode, end));
        } else {
            self.last = Some((metadata.ino(), 0));
        }
        let start = self.rest.len();
        let mut bytes = std::mem::take(&mut self.rest);
        file.read_to_end(&mut bytes).expect("a readable log");
        if let Some((_, end)) = &mut self.last {
            *end += (bytes.len() - start) as u64;
        }
        self.rest = check(&bytes, &mut self.lines, path);
    }
}

/// How many lines the log `name` has over all its rotations; none where there is no such log yet.
///
/// # Panics
/// Where one is missing, doubled, out of order or torn; only the last one may end early.
#[track_caller]
pub fn count(daemon: &Daemon, name: &str) -> usize {
    let mut history = History::new(name);
    history.check(daemon);
    history.lines()
}

/// Bytes that were written to each of these logs in `directory`, those that were removed included.
pub fn written(directory: &Path, logs: &[History]) -> Vec<u64> {
    let mut sizes = HashMap::<String, HashMap<u64, u64>>::new();
    for entry in fs::read_dir(directory).expect("a readable directory") {
        let Ok(entry) = entry else { continue };
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(end) = name.find(".log").map(|at| at + 4) else { continue };
        // One that is renamed meanwhile may be seen twice, or not at all.
        let Ok(metadata) = entry.metadata() else { continue };
        sizes.entry(name[..end].to_owned()).or_default().insert(metadata.ino(), metadata.len());
    }
    let of = |log: &History| {
        let present = sizes.get(&log.name).map_or(0, |files| files.values().sum());
        present + log.removed
    };
    logs.iter().map(of).collect()
}

/// How many whole lines a text has that begins with the first one.
///
/// # Panics
/// As [`count`].
#[track_caller]
pub fn check_text(text: &[u8]) -> usize {
    let mut lines = 0;
    let rest = check(text, &mut lines, Path::new("a text"));
    assert!(line(lines + 1).starts_with(&rest), "line {} is torn: {rest:?}", lines + 1);
    lines
}

/// The log and what was rotated, the oldest first.
fn files(daemon: &Daemon, name: &str) -> Vec<PathBuf> {
    let log = daemon.path(name);
    let entries = fs::read_dir(log.parent().expect("it has a directory")).expect("a readable directory");
    let number = |entry: fs::DirEntry| -> Option<u32> {
        entry.file_name().to_str()?.strip_prefix(name)?.strip_prefix('.')?.parse().ok()
    };
    let mut numbers: Vec<u32> = entries.filter_map(|entry| number(entry.ok()?)).collect();
    numbers.sort_unstable_by(|one, other| other.cmp(one));
    let rotated = numbers.into_iter().map(|n| daemon.path(&format!("{name}.{n}")));
    rotated.chain([log.clone()].into_iter().filter(|log| log.exists())).collect()
}

/// Takes the whole lines of `bytes` into account; what is behind them.
#[track_caller]
fn check(bytes: &[u8], lines: &mut usize, path: &Path) -> Vec<u8> {
    let mut whole = bytes.chunks_exact(LINE);
    // Counted up in place: a long run has many millions of lines.
    let mut expected = line(*lines + 1);
    for found in &mut whole {
        *lines += 1;
        assert!(
            found == expected.as_slice(),
            "{}: line {lines} is {:?}",
            path.display(),
            String::from_utf8_lossy(found)
        );
        count_up(&mut expected[..DIGITS]);
    }
    whole.remainder().to_vec()
}

/// Adds one to a decimal number.
fn count_up(digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
}

/// The line with this number.
fn line(number: usize) -> Vec<u8> {
    format!("{number:0DIGITS$}{:x<90}\n", "").into_bytes()
}

impl Daemon {
    /// Waits until a log of `lines-wild` has grown by a good deal, over the capacity of a pipe, and checks all of it.
    #[track_caller]
    pub fn until_more_lines(&self, name: &str) {
        let wanted = (count(self, name) + 2_000) * LINE;
        let size = || -> u64 {
            let sizes = files(self, name).into_iter().filter_map(|file| Some(fs::metadata(file).ok()?.len()));
            sizes.sum()
        };
        self.until(&format!("more lines in {name}"), || size() > wanted as u64);
        count(self, name);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        panic::{AssertUnwindSafe, catch_unwind},
    };

    use super::*;

    fn text(numbers: impl IntoIterator<Item = usize>) -> Vec<u8> {
        numbers.into_iter().flat_map(line).collect()
    }

    fn fails(history: &mut History, daemon: &Daemon) -> bool {
        catch_unwind(AssertUnwindSafe(|| history.check(daemon))).is_err()
    }

    #[test]
    fn history_goes_on_over_rotations_and_removals() {
        let daemon = Daemon::prepare("");
        let log = daemon.path("x.log");
        let whole = text(1..=50);
        let write = |range: std::ops::Range<usize>| {
            let file = fs::OpenOptions::new().append(true).create(true).open(&log);
            file.and_then(|mut file| file.write_all(&whole[range])).expect("ours");
        };
        let rotate = |number: usize| fs::rename(&log, daemon.path(&format!("x.log.{number}"))).expect("ours");
        let mut history = History::new("x.log");
        let mut check = |end: usize| {
            history.check_and_remove(&daemon);
            assert_eq!((history.bytes(), history.lines()), (end as u64, end / LINE));
            assert_eq!(written(&daemon.path("."), std::slice::from_ref(&history)), [end as u64]);
            assert!(!daemon.path("x.log.1").exists());
        };
        check(0);
        write(0..1030);
        check(1030);
        write(1030..1050);
        rotate(1);
        write(1050..2000);
        check(2000);
        rotate(1);
        check(2000);
        write(2000..2500);
        rotate(2);
        write(2500..3333);
        rotate(1);
        write(3333..4321);
        check(4321);
    }

    #[test]
    fn what_is_lost_doubled_exchanged_or_torn_is_found_wherever_it_is() {
        let whole = text(1..=30);
        let without = |at: usize| [&whole[..at], &whole[at + 1..]].concat();
        let twice = |at: usize, size: usize| [&whole[..at + size], &whole[at..]].concat();
        let broken =
            [without(0), without(1234), without(2998), twice(500, 100), twice(1234, 1), text([1, 3, 2])];
        for text in broken {
            for cut in [0, 1234] {
                let daemon = Daemon::prepare("");
                fs::write(daemon.path("x.log.1"), &text[..cut.min(text.len())]).expect("ours");
                fs::write(daemon.path("x.log"), &text[cut.min(text.len())..]).expect("ours");
                assert!(fails(&mut History::new("x.log"), &daemon), "{:?}", String::from_utf8_lossy(&text));
            }
        }
    }
}
