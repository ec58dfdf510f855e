//! Logs that the daemon names itself (`stdout_logfile = AUTO`): their names, their creation, and the removal of those of
//! earlier runs.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Which stream a log is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Channel {
    /// The name used in file names.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Mode of an AUTO log: programs print secrets, and the directory is usually `/tmp`.
pub const MODE: u32 = 0o600;

/// Creates `PROCESS-CHANNEL---IDENTIFIER-RANDOM.log` in `directory`, never taking a file that exists, and returns its path.
///
/// # Errors
/// Those of creating a file and of reading random bytes.
pub fn create(directory: &Path, process: &str, channel: Channel, identifier: &str) -> io::Result<PathBuf> {
    loop {
        let name = format!("{process}-{}---{identifier}-{}.log", channel.name(), random()?);
        // A process name may hold a slash, a file name not.
        let path = directory.join(name.replace('/', "_"));
        match OpenOptions::new().write(true).create_new(true).mode(MODE).open(&path) {
            Ok(_) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
}

/// Removes the AUTO logs, rotated ones included, that earlier daemons of this identifier left in `directory`: regular
/// files of `uid` only, and none of `keep` nor what was rotated from it. Returns those that could not be removed.
///
/// # Errors
/// Those of reading the directory.
pub fn clean_up(
    directory: &Path,
    identifier: &str,
    uid: u32,
    keep: &BTreeSet<PathBuf>,
) -> io::Result<Vec<(PathBuf, io::Error)>> {
    let mut errors = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if !name.to_str().is_some_and(|name| is_auto(name, identifier)) || is_kept(&entry.path(), keep) {
            continue;
        }
        // `metadata` of an entry does not follow symbolic links. A file that vanished meanwhile is as wished.
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_file()
            && meta.uid() == uid
            && let Err(error) = fs::remove_file(entry.path())
            && error.kind() != io::ErrorKind::NotFound
        {
            errors.push((entry.path(), error));
        }
    }
    Ok(errors)
}

/// Is this one of the logs to keep, or a rotated one of it? Pure.
fn is_kept(path: &Path, keep: &BTreeSet<PathBuf>) -> bool {
    if keep.contains(path) {
        return true;
    }
    let is_rotated = path.extension().is_some_and(|number| number != "log");
    is_rotated && keep.contains(&path.with_extension(""))
}

/// Is this the path of an AUTO log in `directory`?
pub fn is_auto_path(path: &Path, directory: &Path, identifier: &str) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    path.parent() == Some(directory)
        && name.is_some_and(|name| name.ends_with(".log") && is_auto(name, identifier))
}

/// Is this the name of an AUTO log of this identifier, or of a rotated one? Pure.
fn is_auto(name: &str, identifier: &str) -> bool {
    // The identifier may itself contain what separates the parts, so the name is read from its end.
    let (stem, number) = name.rsplit_once(".log").unwrap_or_default();
    let number_is_fine = match number.strip_prefix('.') {
        Some(digits) => (1..=10).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit()),
        None => number.is_empty(),
    };
    let Some((head, random)) = stem.rsplit_once('-') else { return false };
    let random_is_fine = random.len() == RANDOM && random.bytes().all(|byte| ALPHABET.contains(&byte));
    let identifier = identifier.replace('/', "_");
    let process = head.strip_suffix(&identifier).and_then(|head| head.strip_suffix("---"));
    let process =
        process.and_then(|head| head.strip_suffix("-stdout").or_else(|| head.strip_suffix("-stderr")));
    number_is_fine && random_is_fine && process.is_some_and(|process| !process.is_empty())
}

fn random() -> io::Result<String> {
    let mut bytes = [0; RANDOM];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| char::from(ALPHABET[usize::from(*byte) % ALPHABET.len()])).collect())
}

/// Length of the random part of a name.
const RANDOM: usize = 8;
/// What it is made of, as in Supervisor.
const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789_";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_recognised_by_all_their_parts() {
        for (name, expected) in [
            ("web-stdout---supervisor-ab_01xyz.log", true),
            ("web-stderr---supervisor-ab_01xyz.log.12", true),
            ("a:b_00-stdout---supervisor-ab_01xyz.log", true),
            ("web-stdout---supervisorX-ab_01xyz.log", false),
            ("web-stdout---xsupervisor-ab_01xyz.log", false),
            ("web-stdout---supervisor-ab_01xy.log", false),
            ("web-stdout---supervisor-AB_01xyz.log", false),
            ("web-stdout---supervisor-ab_01xyz.log.gz", false),
            ("web-stdout---supervisor-ab_01xyz.logs", false),
            ("-stdout---supervisor-ab_01xyz.log", false),
            ("supervisor.log", false),
        ] {
            assert_eq!(is_auto(name, "supervisor"), expected, "{name}");
        }
        assert!(!is_auto("web-stdout---aXb-ab_01xyz.log", "a.b"));
        assert!(is_auto("web-stdout---a---b-ab_01xyz.log", "a---b"));
    }

    #[test]
    fn creates_private_files_and_removes_only_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = create(dir.path(), "grp/web", Channel::Stdout, "me").unwrap();
        let other = create(dir.path(), "web", Channel::Stderr, "other").unwrap();
        let meta = fs::metadata(&path).unwrap();
        assert_eq!(meta.mode() & 0o777, 0o600);
        let precious = dir.path().join("precious");
        fs::write(&precious, "x").unwrap();
        let link = dir.path().join("web-stdout---me-aaaaaaaa.log");
        std::os::unix::fs::symlink(&precious, &link).unwrap();
        assert!(clean_up(dir.path(), "me", meta.uid().wrapping_add(1), &BTreeSet::new()).unwrap().is_empty());
        assert!(path.exists());
        let kept = create(dir.path(), "kept", Channel::Stdout, "me").unwrap();
        let rotated = PathBuf::from(format!("{}.1", kept.display()));
        fs::write(&rotated, "x").unwrap();
        let keep = BTreeSet::from([kept.clone()]);
        assert!(clean_up(dir.path(), "me", meta.uid(), &keep).unwrap().is_empty());
        assert!(kept.exists() && rotated.exists());
        assert!(!path.exists() && other.exists() && precious.exists() && link.is_symlink());
    }
}
