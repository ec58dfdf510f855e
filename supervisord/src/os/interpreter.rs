//! What counts the length of an event: who reads the stdin of a listener, told by the program that it executes.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt as _, path::PathBuf};

use nix::unistd::Pid;

use super::family::{all_processes, read_small, stat_of};

/// Whether a listener, or another process of its group (it may be a script around the one that reads), is run by an
/// interpreter in which text is read by characters.
pub fn reads_characters(leader: Pid) -> bool {
    let is_member = |pid: &Pid| stat_of(*pid).is_ok_and(|stat| stat.group == leader && !stat.is_dead());
    executes_text_reader(leader) || all_processes().into_iter().filter(is_member).any(executes_text_reader)
}

fn executes_text_reader(pid: Pid) -> bool {
    let Some(program) = program_of(pid) else { return false };
    program.file_name().and_then(|name| name.to_str()).is_some_and(is_text_reader)
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

/// Whether programs in this interpreter usually read text by characters, of which `len` then means so many. Those of
/// Python do: it decodes stdin, and `childutils` of Supervisor reads that.
fn is_text_reader(program: &str) -> bool {
    // Behind the name of one that was replaced stands ` (deleted)`.
    let name = program.split(' ').next().unwrap_or_default();
    let is_python = ["python", "pypy"].iter().any(|interpreter| name.starts_with(interpreter));
    is_python || ["node", "nodejs", "deno", "bun", "java"].contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_that_read_text_by_characters() {
        for name in
            ["python", "python3", "python3.11", "python3.11 (deleted)", "pypy3.10", "node", "nodejs", "java"]
        {
            assert!(is_text_reader(name), "{name}");
        }
        for name in ["", "bash", "dash", "busybox", "perl", "ruby", "php8.2", "nodejs-exporter", "listener"] {
            assert!(!is_text_reader(name), "{name}");
        }
    }

    #[test]
    fn we_are_no_interpreter_and_nobody_is_one_after_its_end() {
        assert!(!executes_text_reader(Pid::this()));
        assert!(!reads_characters(Pid::from_raw(i32::MAX)));
    }
}
