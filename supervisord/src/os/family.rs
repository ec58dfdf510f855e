//! Who belongs to whom: process groups, descendants that were left to us, and what `/proc` tells about them.
//!
//! A pid read here may belong to another process a moment later unless it is an unreaped child of ours.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::{
    ffi::{OsStrExt, OsStringExt},
    fs::MetadataExt,
};
use std::path::Path;

use nix::unistd::Pid;

use super::signal::{SignalError, kill_group};

/// Largest environment that is read: the kernel's own limit with its default stack size.
const ENVIRON_MAX: u64 = 2 << 20;
/// What the kernel hands out of most files below `/proc` at a time.
const PAGE: usize = 4096;

/// From now on, descendants whose parent has ended become our children.
///
/// # Errors
/// Where a sandbox forbids it.
pub fn become_subreaper() -> io::Result<()> {
    Ok(nix::sys::prctl::set_child_subreaper(true)?)
}

/// Whether the group has a member. A zombie counts until it is reaped: reap the leader first.
pub fn group_exists(pgid: Pid) -> bool {
    match kill_group(pgid, 0) {
        Ok(()) | Err(SignalError::Denied) => true,
        Err(
            SignalError::Gone | SignalError::BadSignal | SignalError::NotOneChild(_) | SignalError::Other(_),
        ) => false,
    }
}

/// All children of this process, zombies included. Where the kernel has no list of children
/// (`CONFIG_PROC_CHILDREN`), all processes are looked through, which costs some microseconds for each.
///
/// Both ways may miss a child if another ends meanwhile; ask again after reaping.
pub fn children_of_self() -> Vec<Pid> {
    match read_small("/proc/thread-self/children") {
        Ok(list) if is_single_thread() => parse_list(&list),
        Ok(_) => children_by_lists(),
        Err(_) => children_by_scan(),
    }
}

/// Each thread has a list of its own.
fn children_by_lists() -> Vec<Pid> {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return Vec::new() };
    // The list of a thread that ends meanwhile cannot be read: its children have become another thread's.
    let lists = threads.filter_map(|thread| read_small(thread.ok()?.path().join("children")).ok());
    lists.flat_map(|list| parse_list(&list)).collect()
}

/// Whether no other thread of ours can have children. Source: proc(5), the directory has a link for each thread.
fn is_single_thread() -> bool {
    fs::metadata("/proc/self/task").is_ok_and(|directory| directory.nlink() == 3)
}

fn parse_list(list: &[u8]) -> Vec<Pid> {
    let words = list.split(u8::is_ascii_whitespace);
    words.filter_map(|word| parse_pid(std::str::from_utf8(word).ok()?)).collect()
}

/// Reads a file below `/proc` in as few calls as possible: the usual ways feel their way, for these have no size.
pub(super) fn read_small(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut bytes = vec![0; PAGE];
    let mut len = 0;
    loop {
        match file.read(&mut bytes[len..]) {
            Ok(0) => {
                bytes.truncate(len);
                return Ok(bytes);
            }
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if len == bytes.len() {
            bytes.resize(2 * len, 0);
        }
    }
}

fn children_by_scan() -> Vec<Pid> {
    let own = Pid::this();
    let is_child = |pid: &Pid| stat_of(*pid).is_ok_and(|stat| stat.parent == own);
    all_processes().into_iter().filter(is_child).collect()
}

/// All processes that we may see.
pub fn all_processes() -> Vec<Pid> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|entry| parse_pid(entry.ok()?.file_name().to_str()?)).collect()
}

fn parse_pid(text: &str) -> Option<Pid> {
    text.parse().ok().map(Pid::from_raw)
}

/// What `/proc/PID/stat` tells of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// Its name, at most 15 bytes, as the kernel knows it.
    pub comm: OsString,
    /// `R`, `S`, `D`, `T`, `Z`, …
    pub state: char,
    /// Its parent.
    pub parent: Pid,
    /// Its process group.
    pub group: Pid,
    /// When it started, in clock ticks since boot: together with the pid this names one process for ever.
    pub start_time: u64,
    /// How it ended, as `wait` tells it; meaningful while it is a zombie, and 0 for who may not look.
    pub wait_status: i32,
}

impl Stat {
    /// Whether it has ended, and only waits to be reaped.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// Reads `/proc/PID/stat`.
///
/// # Errors
/// When the process is gone or hidden.
pub fn stat_of(pid: Pid) -> io::Result<Stat> {
    let bytes = read_small(format!("/proc/{pid}/stat"))?;
    parse_stat(&bytes)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unexpected form of /proc/PID/stat"))
}

/// The name stands in parentheses and may contain some itself, so the last one ends it.
fn parse_stat(bytes: &[u8]) -> Option<Stat> {
    let open = bytes.iter().position(|byte| *byte == b'(')?;
    let close = bytes.iter().rposition(|byte| *byte == b')')?;
    let comm = OsStr::from_bytes(bytes.get(open + 1..close)?).to_owned();
    let fields: Vec<&str> =
        std::str::from_utf8(bytes.get(close + 1..)?).ok()?.split_ascii_whitespace().collect();
    // proc(5) counts from 1, and the first of these is its field 3.
    let field = |number: usize| fields.get(number - 3);
    let pid = |number: usize| parse_pid(field(number)?);
    Some(Stat {
        comm,
        state: field(3)?.chars().next()?,
        parent: pid(4)?,
        group: pid(5)?,
        start_time: field(22)?.parse().ok()?,
        wait_status: field(52)?.parse().ok()?,
    })
}

/// The name of a process; none when it is gone or hidden.
pub fn comm_of(pid: Pid) -> Option<OsString> {
    stat_of(pid).ok().map(|stat| stat.comm)
}

/// The environment that a process was started with, as far as it has not overwritten it; empty for a zombie, and for
/// a moment while it calls `exec`.
#[derive(Debug)]
pub struct Environ(Vec<u8>);

impl Environ {
    /// The value of a variable.
    pub fn get(&self, name: &str) -> Option<OsString> {
        self.0.split(|byte| *byte == 0).find_map(|entry| {
            let value = entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
            Some(OsString::from_vec(value.to_vec()))
        })
    }
}

/// Reads the environment of a process.
///
/// # Errors
/// When the process is gone, or may not be inspected.
pub fn environ_of(pid: Pid) -> io::Result<Environ> {
    let mut bytes = Vec::new();
    File::open(format!("/proc/{pid}/environ"))?.take(ENVIRON_MAX).read_to_end(&mut bytes)?;
    Ok(Environ(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stat_survives_a_hostile_name() {
        let rest = (7..=52).map(|n| n.to_string()).collect::<Vec<_>>().join(" ");
        let text = format!("42 (a) R 1 (b c) S 1 42 41 {rest}\n");
        let stat = parse_stat(text.as_bytes()).expect("well-formed");
        assert_eq!(stat.comm, "a) R 1 (b c");
        assert_eq!((stat.state, stat.parent.as_raw(), stat.group.as_raw()), ('S', 1, 42));
        assert_eq!((stat.start_time, stat.wait_status), (22, 52));
    }

    #[test]
    fn truncated_stat_is_no_stat() {
        assert_eq!(parse_stat(b""), None);
        assert_eq!(parse_stat(b"42 (a"), None);
        assert_eq!(parse_stat(b"42 )a( S"), None);
        assert_eq!(parse_stat(b"42 (a) S 1 42 41 0"), None);
    }

    #[test]
    fn own_stat_is_true() {
        let stat = stat_of(Pid::this()).expect("alive");
        assert_eq!(stat.parent, Pid::parent());
        assert_eq!(stat.group, nix::unistd::getpgrp());
        assert!(stat.start_time > 0);
        assert_eq!(comm_of(Pid::from_raw(i32::MAX)), None);
    }

    #[test]
    fn variable_is_found_by_its_whole_name() {
        let environ = Environ(b"XPATH=no\0PATH=/bin\0EMPTY=\0PATHS=no\0EQ=a=b\0".to_vec());
        assert_eq!(environ.get("PATH"), Some("/bin".into()));
        assert_eq!(environ.get("EMPTY"), Some("".into()));
        assert_eq!(environ.get("EQ"), Some("a=b".into()));
        assert_eq!(environ.get("PAT"), None);
    }

    #[test]
    fn own_environment_can_be_read() {
        let environ = environ_of(Pid::this()).expect("our own");
        let (path, none) = (environ.get("PATH"), environ.get("NO_SUCH_VARIABLE"));
        assert_eq!(path, std::env::var_os("PATH"));
        assert_eq!(none, None);
    }

    #[test]
    fn group_of_this_process_exists_and_a_wild_one_does_not() {
        assert!(group_exists(nix::unistd::getpgrp()));
        assert!(!group_exists(Pid::from_raw(i32::MAX)));
    }
}
