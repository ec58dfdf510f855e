//! What counts the length of an event: who reads the stdin of a listener, told by the program that it executes.

use std::{collections::HashSet, ffi::OsStr, fs, os::unix::ffi::OsStrExt as _, path::PathBuf};

use nix::unistd::Pid;

use super::family::{Stat, all_processes, read_small, stat_of};

/// Of what so many are read as a number says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Byte,
    /// Characters, in Unicode code points.
    Character,
    /// Units of UTF-16.
    Utf16,
}

/// What a listener counts, by the interpreter that runs it, another process of its group, or a descendant of these: it
/// may be something around the one that reads, a script, `setsid -w`, `sudo`.
pub fn unit_read_by(leader: Pid) -> Unit {
    let others = || relatives(leader).into_iter().find_map(text_unit_read_by);
    text_unit_read_by(leader).or_else(others).unwrap_or(Unit::Byte)
}

/// The living processes of a group, then those that descend from them, the nearest first.
fn relatives(leader: Pid) -> Vec<Pid> {
    let stats = all_processes().into_iter().filter_map(|pid| Some((pid, stat_of(pid).ok()?)));
    let stats: Vec<(Pid, Stat)> = stats.filter(|(_, stat)| !stat.is_dead()).collect();
    let pids = |is_one: &dyn Fn(&(Pid, Stat)) -> bool| -> Vec<Pid> {
        stats.iter().filter(|one| is_one(one)).map(|(pid, _)| *pid).collect()
    };
    let mut found = pids(&|(_, stat)| stat.group == leader);
    let mut known: HashSet<Pid> = found.iter().copied().collect();
    let mut done = 0;
    while done < found.len() {
        let parents: HashSet<Pid> = found[done..].iter().copied().collect();
        done = found.len();
        let children = pids(&|(pid, stat)| parents.contains(&stat.parent) && !known.contains(pid));
        known.extend(&children);
        found.extend(children);
    }
    found
}

fn text_unit_read_by(pid: Pid) -> Option<Unit> {
    text_unit(program_of(pid)?.file_name()?.to_str()?)
}

/// What a process executes, or where we may not look, what it was called with. As root we may not look at other users'
/// processes where `CAP_SYS_PTRACE` is missing, as in most containers; command lines are for everybody.
fn program_of(pid: Pid) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok().or_else(|| {
        let line = read_small(format!("/proc/{pid}/cmdline")).ok()?;
        let first = line.split(|byte| *byte == 0).next()?;
        Some(PathBuf::from(OsStr::from_bytes(first)))
    })
}

/// What programs in this interpreter usually read, if that is text and no bytes. Those of Python do: it decodes stdin,
/// and `childutils` of Supervisor reads that. In Java and JavaScript the length of a string is that of its UTF-16.
fn text_unit(program: &str) -> Option<Unit> {
    // Behind the name of one that was replaced stands ` (deleted)`.
    let name = program.split(' ').next().unwrap_or_default();
    let is_python = ["python", "pypy"].iter().any(|interpreter| name.starts_with(interpreter));
    let is_utf16 = ["node", "nodejs", "deno", "bun", "java"].contains(&name);
    is_python.then_some(Unit::Character).or_else(|| is_utf16.then_some(Unit::Utf16))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_that_read_text() {
        for name in ["python", "python3", "python3.11", "python3.11 (deleted)", "pypy3.10"] {
            assert_eq!(text_unit(name), Some(Unit::Character), "{name}");
        }
        for name in ["node", "nodejs", "deno", "bun", "java", "java (deleted)"] {
            assert_eq!(text_unit(name), Some(Unit::Utf16), "{name}");
        }
        for name in ["", "bash", "dash", "busybox", "perl", "ruby", "php8.2", "nodejs-exporter", "listener"] {
            assert_eq!(text_unit(name), None, "{name}");
        }
    }

    #[test]
    fn we_are_no_interpreter_and_nobody_is_one_after_its_end() {
        assert_eq!(text_unit_read_by(Pid::this()), None);
        assert_eq!(unit_read_by(Pid::from_raw(i32::MAX)), Unit::Byte);
    }
}
