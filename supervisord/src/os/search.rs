//! Finding pipes and processes again through `/proc`: who holds which pipe, and taking our ends back.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, OpenOptions},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use nix::unistd::Pid;

use super::family;
use crate::journal::record::{Identity, PipeId, Pipes};

/// Which end of a pipe is to be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// To read what a program writes.
    Read,
    /// To write what a program reads.
    Write,
}

/// The pipe behind a descriptor of ours; none if it is no pipe.
pub fn pipe_of(fd: &OwnedFd) -> Option<PipeId> {
    pipe_at(Path::new(&format!("/proc/self/fd/{}", fd.as_raw_fd())))
}

/// What tells this life of the system, or of the container, from all others: the kernel's `boot_id`, and when process 1
/// has started, for a container that was killed comes back in the same boot. Without the latter where it cannot be seen.
///
/// # Errors
/// Where `/proc` is missing.
pub fn boot_id() -> io::Result<String> {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let boot = boot.trim();
    Ok(match family::stat_of(Pid::from_raw(1)) {
        Ok(first) => format!("{boot}/{}", first.start_time),
        Err(_) => boot.to_owned(),
    })
}

/// The identity of a process that is known to be there, such as a child that was not reaped.
///
/// # Errors
/// When it is gone or hidden.
pub fn identity_of(pid: Pid) -> io::Result<Identity> {
    Ok(Identity { pid: pid.as_raw(), start_time: family::stat_of(pid)?.start_time })
}

/// Opens our end of a pipe that the process `pid` holds, in non-blocking mode. It is looked for at the descriptor
/// `usual` first, then at its others, then at those of its children and of the other members of its process group, for
/// the program may have closed or redirected it. None if nobody holds it: then nobody can use it any more.
pub fn reopen(pid: Pid, pipe: PipeId, usual: i32, end: End) -> Option<OwnedFd> {
    let usual = PathBuf::from(format!("/proc/{pid}/fd/{usual}"));
    open_if(&usual, pipe, end)
        .or_else(|| reopen_any(pid, pipe, end))
        .or_else(|| relatives_of(pid).into_iter().find_map(|relative| reopen_any(relative, pipe, end)))
}

fn reopen_any(pid: Pid, pipe: PipeId, end: End) -> Option<OwnedFd> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    entries.filter_map(|entry| Some(entry.ok()?.path())).find_map(|path| open_if(&path, pipe, end))
}

fn open_if(path: &Path, pipe: PipeId, end: End) -> Option<OwnedFd> {
    if pipe_at(path) != Some(pipe) {
        return None;
    }
    let mut options = OpenOptions::new();
    match end {
        End::Read => options.read(true),
        End::Write => options.write(true),
    };
    let file = options.custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC).open(path).ok()?;
    // The program may have put another file there between the two looks.
    (file.metadata().ok()?.ino() == pipe.0).then(|| file.into())
}

/// Whether the descriptors of a process can be seen.
///
/// # Errors
/// Why not: it has other rights than we, or hides itself.
pub fn look_into(pid: Pid) -> io::Result<()> {
    fs::read_dir(format!("/proc/{pid}/fd")).map(|_| ())
}

/// Whether a process holds one of these pipes.
pub fn holds_any(pid: Pid, pipes: Pipes) -> bool {
    let wanted = [pipes.stdin, pipes.stdout, pipes.stderr].into_iter().flatten();
    !holdings(pid, &wanted.map(|pipe| (pipe, 0)).collect()).is_empty()
}

fn pipe_at(path: &Path) -> Option<PipeId> {
    let target = fs::read_link(path).ok()?;
    let number = target.to_str()?.strip_prefix("pipe:[")?.strip_suffix(']')?;
    number.parse().ok().map(PipeId)
}

/// Other processes of the same process group, and its children.
fn relatives_of(pid: Pid) -> Vec<Pid> {
    // Of one that was reaped the group may be left.
    let Ok(own) = family::stat_of(pid) else {
        let census = super::group::Census::default();
        return census.members_of_group(pid).iter().map(|member| Pid::from_raw(member.pid)).collect();
    };
    // Programs share our session unless they have left it: the group is theirs alone.
    let is_relative = |other: &Pid| {
        *other != pid
            && family::stat_of(*other).is_ok_and(|stat| stat.group == own.group || stat.parent == pid)
    };
    all_processes().filter(is_relative).collect()
}

/// Every process that can be seen.
pub fn all_processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok().map(Pid::from_raw))
}

/// Finds the children of spawns of which only the beginning was written down: for each of `intents` the process that
/// holds its pipes as the spawn would have given them. One that is just being born holds everything that the daemon
/// held: it is waited for, shortly.
pub fn find_newborn(intents: &[Pipes]) -> Vec<Option<Identity>> {
    let mut found = vec![None; intents.len()];
    let wanted: BTreeMap<PipeId, usize> = intents
        .iter()
        .enumerate()
        .flat_map(|(index, pipes)| {
            [pipes.stdin, pipes.stdout, pipes.stderr].into_iter().flatten().map(move |pipe| (pipe, index))
        })
        .collect();
    if wanted.is_empty() {
        return found;
    }
    let own = Pid::this();
    for pid in all_processes().filter(|pid| *pid != own) {
        // The main process leads its group; what it has made itself shares the group or leads another, later.
        let Ok(stat) = family::stat_of(pid) else { continue };
        if holdings(pid, &wanted).is_empty() || !wait_until_born(pid) {
            continue;
        }
        for index in holdings(pid, &wanted) {
            let candidate = Identity { pid: pid.as_raw(), start_time: stat.start_time };
            let slot: &mut Option<Identity> = &mut found[index];
            if slot.is_none_or(|known| candidate.start_time < known.start_time) && is_leader(pid) {
                *slot = Some(candidate);
            }
        }
    }
    found
}

fn is_leader(pid: Pid) -> bool {
    family::stat_of(pid).is_ok_and(|stat| stat.group == pid && !stat.is_dead())
}

/// Which intents' pipes `pid` holds.
fn holdings(pid: Pid, wanted: &BTreeMap<PipeId, usize>) -> BTreeSet<usize> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten();
    let pipes = entries.filter_map(|entry| pipe_at(&entry.ok()?.path()));
    pipes.filter_map(|pipe| wanted.get(&pipe).copied()).collect()
}

/// A child that has not called `exec` yet still is the daemon's program under its name. False if it is our own kind and
/// stays so: another daemon.
fn wait_until_born(pid: Pid) -> bool {
    let Ok(own) = fs::metadata("/proc/self/exe") else { return true };
    for _ in 0..50 {
        let is_ours = fs::metadata(format!("/proc/{pid}/exe"))
            .is_ok_and(|exe| (exe.dev(), exe.ino()) == (own.dev(), own.ino()));
        if !is_ours {
            return true;
        }
        let pause = rustix::time::Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
        // A pause cut short by a signal is long enough.
        let _ = rustix::thread::nanosleep(&pause);
    }
    false
}
