//! Whether a log holds what the actor's `lines-wild` has written: every line once, in order, none torn.

use std::{fs, io::Read as _, path::PathBuf};

use crate::Daemon;

/// Bytes of a line.
const LINE: usize = 100;

/// Digits of its number.
const DIGITS: usize = 9;

/// How many lines the log `name` has over all its rotations; none where there is no such log yet.
///
/// # Panics
/// Where one is missing, doubled, out of order or torn; only the last one may end early.
#[track_caller]
pub fn count(daemon: &Daemon, name: &str) -> usize {
    let mut lines = 0;
    // The beginning of a line that goes on in the next file.
    let mut rest = Vec::new();
    for file in files(daemon, name) {
        check(&file, &mut rest, &mut lines);
    }
    assert!(line(lines + 1).starts_with(&rest), "{name}: line {} is torn: {rest:?}", lines + 1);
    lines
}

/// How many whole lines a text has that begins with the first one.
///
/// # Panics
/// As [`count`].
#[track_caller]
pub fn check_text(text: &[u8]) -> usize {
    let whole = text.chunks_exact(LINE);
    let rest = whole.remainder();
    let mut lines = 0;
    for found in whole {
        lines += 1;
        assert!(found == line(lines), "line {lines} is {:?}", String::from_utf8_lossy(found));
    }
    assert!(line(lines + 1).starts_with(rest), "line {} is torn: {rest:?}", lines + 1);
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

/// Takes the lines of one file into account.
#[track_caller]
fn check(file: &PathBuf, rest: &mut Vec<u8>, lines: &mut usize) {
    let mut bytes = std::mem::take(rest);
    fs::File::open(file).and_then(|mut file| file.read_to_end(&mut bytes)).expect("a readable log");
    let mut whole = bytes.chunks_exact(LINE);
    // Counted up in place: a long run has many millions of lines.
    let mut expected = line(*lines + 1);
    for found in &mut whole {
        *lines += 1;
        assert!(
            found == expected.as_slice(),
            "{}: line {lines} is {:?}",
            file.display(),
            String::from_utf8_lossy(found)
        );
        count_up(&mut expected[..DIGITS]);
    }
    *rest = whole.remainder().to_vec();
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
