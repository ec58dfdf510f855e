//! One try: the old daemon is stopped, everything is looked at once more while it stands still, and copied.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::unistd::Pid;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{SocketType, sockopt};

use super::Problem;
use super::plan::{self, Child, Ends, Match, OldProcess};
use super::sockets::Sockets;
use crate::journal::record::Identity;
use crate::keeper;
use crate::os::family;
use crate::os::foreign::{self, Descriptor, Direction, Foreign, Object, Standing};
use crate::os::search;
use crate::os::signal::SignalError;
use crate::process::Exit;

/// Times that the old daemon is stopped before it is asked again. Each stop costs it about a millisecond.
const CATCHES: u32 = 40;

/// Why this was no good moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unsettled {
    /// It did not sleep.
    #[error("the old daemon is never at rest")]
    Busy,
    /// The old daemon has not noticed yet.
    #[error("{0} comes and goes")]
    Changed(String),
    /// A child that it has not told of.
    #[error("it has a child with pid {0} which it does not tell of")]
    Child(Pid),
    /// Nobody knows whose it is.
    #[error("it holds a pipe whose other end belongs to no program: {0}")]
    Pipe(String),
}

/// Why nothing was seized.
#[derive(Debug)]
pub enum Failure {
    /// Worth another try.
    Unsettled(Unsettled),
    /// Not worth one.
    Problem(Problem),
}

impl From<Unsettled> for Failure {
    fn from(why: Unsettled) -> Self {
        Self::Unsettled(why)
    }
}

/// What connects the old daemon with one of its children, copied.
#[derive(Debug)]
pub struct Grip {
    /// The child.
    pub child: Foreign,
    /// Writes to its stdin.
    pub stdin: Option<OwnedFd>,
    /// Reads its stdout.
    pub stdout: Option<OwnedFd>,
    /// Reads its stderr.
    pub stderr: Option<OwnedFd>,
    /// The FastCGI socket that it accepts connections from.
    pub socket: Option<OwnedFd>,
    /// Where these lead.
    pub ends: Ends,
    /// Whether it can write to our pipes only: what it writes while nobody reads ends it.
    pub only_writes: bool,
    /// How it ended while the old daemon stood still, if it did.
    pub exit: Option<Exit>,
}

/// Everything that the old daemon holds.
#[derive(Debug)]
pub struct Seized {
    /// By the pid of the child.
    pub grips: BTreeMap<i32, Grip>,
    /// Its listening sockets.
    pub sockets: Sockets,
    /// Keeps its keeper quiet, if it has one.
    pub keepers: Vec<(Identity, OwnedFd)>,
}

impl Seized {
    /// Takes the exit statuses of children that have ended since: their zombies are still there, for their parent stands
    /// still.
    pub fn note_ends(&mut self) {
        for grip in self.grips.values_mut() {
            if let Ok(stat) = grip.child.stat()
                && stat.state == 'Z'
            {
                grip.exit = Some(Exit::from_wait_status(stat.wait_status));
            }
        }
    }
}

/// Stops the old daemon and copies everything; lets it go on if that fails. `known` are children that it had before it was
/// asked for `processes`.
///
/// # Errors
/// See [`Failure`].
pub fn try_to_seize(
    old: &Foreign,
    matches: &[Match],
    processes: &[OldProcess],
    known: &[Pid],
) -> Result<Seized, Failure> {
    let children = open_children(old, matches)?;
    catch_asleep(old)?;
    let seized = look(old, children, matches, processes, known);
    if seized.is_err() {
        let_go_on(old);
    }
    seized
}

/// Stops the old daemon until it does so where it sleeps. One with much to do is rarely there.
fn catch_asleep(old: &Foreign) -> Result<(), Failure> {
    for span in (1..=CATCHES).map(|try_| Duration::from_micros(50 * u64::from(try_))) {
        old.signal(libc::SIGSTOP).map_err(|error| refused(old, error))?;
        match old.standing() {
            Ok(Standing::Asleep) => return Ok(()),
            Ok(Standing::Busy) => let_go_on(old),
            Err(error) => {
                let_go_on(old);
                return Err(Failure::Problem(Problem::Step { what: "stop the old daemon", error }));
            }
        }
        // Never in step with what it does.
        foreign::pause(span);
    }
    Err(Unsettled::Busy.into())
}

fn let_go_on(old: &Foreign) {
    // Refused only where the stop was refused too.
    let _ = old.signal(libc::SIGCONT);
}

/// A signal was refused.
fn refused(old: &Foreign, error: SignalError) -> Failure {
    let error = match error {
        SignalError::Denied => io::ErrorKind::PermissionDenied.into(),
        error => io::Error::other(error),
    };
    Failure::Problem(Problem::Rights { pid: old.pid, error })
}

/// Names all children for good.
fn open_children(old: &Foreign, matches: &[Match]) -> Result<BTreeMap<i32, Foreign>, Failure> {
    let mut children = BTreeMap::new();
    let adopted = adopted_by(old)?;
    for one in matches {
        let Some(pid) = one.old.pid else { continue };
        let changed = || Unsettled::Changed(one.old.full_name());
        let child = Foreign::open(Pid::from_raw(pid)).map_err(|_| changed())?;
        if !is_its(&child, old, &adopted) {
            return Err(changed().into());
        }
        children.insert(pid, child);
    }
    Ok(children)
}

/// Processes that the old daemon waits for without being their parent: one of our kind has taken them over itself.
fn adopted_by(old: &Foreign) -> Result<BTreeSet<i32>, Failure> {
    foreign::watched_by(old.pid).map_err(|error| Failure::Problem(Problem::Rights { pid: old.pid, error }))
}

/// Whether a process is the one that the old daemon means, and no other of this pid: it is its child, or the daemon has a
/// handle of it.
fn is_its(child: &Foreign, old: &Foreign, adopted: &BTreeSet<i32>) -> bool {
    child.is_alive()
        && child.stat().is_ok_and(|stat| stat.parent == old.pid || adopted.contains(&child.pid.as_raw()))
}

/// While the old daemon stands still: is everything as it has told, and can all of it be had?
fn look(
    old: &Foreign,
    children: BTreeMap<i32, Foreign>,
    matches: &[Match],
    processes: &[OldProcess],
    known: &[Pid],
) -> Result<Seized, Failure> {
    let step = |what| move |error| Failure::Problem(Problem::Step { what, error });
    verify_children(old, &children, matches, processes, known)?;
    let daemon = foreign::descriptors_of(old.pid).map_err(step("read the descriptors of the old daemon"))?;
    let (assignment, held) = assign(old, &daemon, &children, matches)?;
    let take = |end: Option<Descriptor>| end.map(|end| old.take(&end)).transpose();
    let mut grips = BTreeMap::new();
    for (pid, child) in children {
        let ends = assignment.get(&pid).copied().unwrap_or_default();
        let error = step("take a descriptor from the old daemon");
        let own = held.iter().find(|one| one.pid == pid).map_or(&[][..], |one| &one.own);
        let grip = Grip {
            child,
            only_writes: [ends.stdout, ends.stderr].into_iter().flatten().any(|end| {
                own.iter()
                    .filter(|held| held.object == end.object)
                    .all(|held| held.direction == Direction::Write)
            }),
            stdin: take(ends.stdin).map_err(error)?,
            stdout: take(ends.stdout).map_err(error)?,
            stderr: take(ends.stderr).map_err(error)?,
            socket: take(ends.socket).map_err(error)?,
            ends,
            exit: None,
        };
        grips.insert(pid, grip);
    }
    let sockets = Sockets::of(old).map_err(step("take the listening sockets of the old daemon"))?;
    let keepers = keepers_of(old, &daemon).map_err(step("take the way to the old daemon's keeper"))?;
    Ok(Seized { grips, sockets, keepers })
}

/// No child has come or gone since the old daemon was asked.
fn verify_children(
    old: &Foreign,
    children: &BTreeMap<i32, Foreign>,
    matches: &[Match],
    processes: &[OldProcess],
    known: &[Pid],
) -> Result<(), Failure> {
    let adopted = adopted_by(old)?;
    for one in matches {
        let Some(child) = one.old.pid.and_then(|pid| children.get(&pid)) else { continue };
        if !is_its(child, old, &adopted) {
            return Err(Unsettled::Changed(one.old.full_name()).into());
        }
    }
    let told: BTreeSet<i32> = processes.iter().filter_map(|process| process.pid).collect();
    // Children of another kind (of a plugin, say) were there before it was asked.
    let is_new = |pid: &Pid| !told.contains(&pid.as_raw()) && !known.contains(pid);
    let new = foreign::children_of(old.pid).into_iter().find(is_new);
    new.map_or(Ok(()), |pid| Err(Unsettled::Child(pid).into()))
}

/// The keeper of a daemon of our kind, with each way that leads to one: nothing else of such a daemon is a connection of
/// this type.
fn keepers_of(old: &Foreign, daemon: &[Descriptor]) -> io::Result<Vec<(Identity, OwnedFd)>> {
    let is_keeper = |pid: &Pid| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        words.split(|byte| *byte == 0).nth(1) == Some(keeper::OPTION.as_bytes())
    };
    let Some(keeper) = foreign::children_of(old.pid).into_iter().find(is_keeper) else {
        return Ok(Vec::new());
    };
    let identity = search::identity_of(keeper)?;
    let mut ways = Vec::new();
    for socket in daemon.iter().filter(|descriptor| matches!(descriptor.object, Object::Socket(_))) {
        let copy = old.take(socket)?;
        if sockopt::socket_type(&copy)? == SocketType::SEQPACKET {
            ways.push((identity, copy));
        }
    }
    Ok(ways)
}

/// Whose the pipes and sockets of the old daemon are, and what its children have open.
fn assign(
    old: &Foreign,
    daemon: &[Descriptor],
    children: &BTreeMap<i32, Foreign>,
    matches: &[Match],
) -> Result<(BTreeMap<i32, Ends>, Vec<Child>), Failure> {
    let mut of_children = Vec::new();
    for one in matches {
        let Some(child) = one.old.pid.and_then(|pid| children.get(&pid)) else { continue };
        let own = foreign::descriptors_of(child.pid)
            .map_err(|error| Failure::Problem(Problem::Rights { pid: child.pid, error }))?;
        let redirect_stderr = one.config.redirect_stderr;
        of_children.push(Child { pid: child.pid.as_raw(), redirect_stderr, own, family: Vec::new() });
    }
    let first = plan::assign(daemon, &of_children);
    if first.left_over.is_empty() {
        return Ok((first.ends, of_children));
    }
    add_families(old, &mut of_children, matches);
    let second = plan::assign(daemon, &of_children);
    for pipe in &second.left_over {
        if !has_other_end(old, pipe) {
            continue;
        }
        let holders = holders_of(old, pipe);
        if !holders.iter().any(|holder| is_older_than(*holder, old)) {
            return Err(Unsettled::Pipe(describe(pipe, &holders)).into());
        }
    }
    Ok((second.ends, of_children))
}

/// Looks through all processes for those that belong to a child: descendants, members of its process group, and what
/// carries its name in the environment.
fn add_families(old: &Foreign, children: &mut [Child], matches: &[Match]) {
    let all = family::all_processes();
    let stats: BTreeMap<i32, family::Stat> =
        all.iter().filter_map(|pid| Some((pid.as_raw(), family::stat_of(*pid).ok()?))).collect();
    let owners: BTreeSet<i32> = children.iter().map(|child| child.pid).collect();
    for pid in all.iter().map(|pid| pid.as_raw()) {
        if owners.contains(&pid) || pid == old.pid.as_raw() {
            continue;
        }
        let owner = ancestor_among(pid, &stats, &owners).or_else(|| named_owner(pid, matches));
        let Some(child) = children.iter_mut().find(|child| Some(child.pid) == owner) else { continue };
        // It may be gone, or of another user: then what it holds is not found, and that is said.
        child.family.extend(foreign::descriptors_of(Pid::from_raw(pid)).unwrap_or_default());
    }
}

/// The child of which `pid` is a descendant, or whose process group it is in.
fn ancestor_among(pid: i32, stats: &BTreeMap<i32, family::Stat>, owners: &BTreeSet<i32>) -> Option<i32> {
    let group = stats.get(&pid)?.group.as_raw();
    if owners.contains(&group) {
        return Some(group);
    }
    let mut at = pid;
    // No chain of parents is longer than there are processes, unless it changes while it is read.
    for _ in 0..stats.len() {
        at = stats.get(&at)?.parent.as_raw();
        if owners.contains(&at) {
            return Some(at);
        }
    }
    None
}

/// The child under whose name `pid` was started.
fn named_owner(pid: i32, matches: &[Match]) -> Option<i32> {
    let environ = family::environ_of(Pid::from_raw(pid)).ok()?;
    let (group, name) = (environ.get("SUPERVISOR_GROUP_NAME")?, environ.get("SUPERVISOR_PROCESS_NAME")?);
    let is_it = |one: &&Match| group == one.old.group.as_str() && name == one.old.name.as_str();
    matches.iter().find(is_it)?.old.pid
}

/// Whether somebody else has the other end of a pipe, or something is left in it. If not, nobody can miss it.
fn has_other_end(old: &Foreign, pipe: &Descriptor) -> bool {
    let Ok(copy) = old.take(pipe) else { return true };
    let mut looks = [PollFd::new(&copy, PollFlags::IN | PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    if poll(&mut looks, Some(&now)).is_err() {
        return true;
    }
    let events = looks[0].revents();
    let is_alone = events.intersects(PollFlags::HUP | PollFlags::ERR);
    !is_alone || events.contains(PollFlags::IN)
}

/// Who else holds a pipe, as far as we may look.
fn holders_of(old: &Foreign, pipe: &Descriptor) -> Vec<Pid> {
    let holds = |pid: &Pid| {
        let open = foreign::descriptors_of(*pid).unwrap_or_default();
        *pid != old.pid && open.iter().any(|held| held.object == pipe.object)
    };
    family::all_processes().into_iter().filter(holds).collect()
}

/// Whether a process was there before the old daemon. What both hold the daemon has not made: whoever started it has left
/// it open.
fn is_older_than(pid: Pid, old: &Foreign) -> bool {
    family::stat_of(pid).is_ok_and(|stat| stat.start_time < old.start_time)
}

/// A pipe and who holds it.
fn describe(pipe: &Descriptor, holders: &[Pid]) -> String {
    let shown = holders.iter().map(|pid| {
        let comm = family::comm_of(*pid).unwrap_or_default();
        format!("pid {pid} ({})", comm.to_string_lossy())
    });
    let shown: Vec<String> = shown.collect();
    let who = if shown.is_empty() { "nobody that we may look at".to_owned() } else { shown.join(", ") };
    format!("its descriptor {}, held by {who}", pipe.number)
}
