//! What dead main processes left behind: who it is, whether it is gone, and who put itself into the background.
//!
//! Left behind are the members of the main process's group (design D11), and descendants in other groups and sessions
//! (design D5). The latter become our children, for we are a subreaper, and carry our environment variables.

use std::{
    collections::{HashMap, HashSet},
    os::unix::ffi::OsStrExt,
    path::Path,
};

use tracing::debug;

use crate::{
    config::{KillMode, StopSignal, shlex},
    journal::record::{Child, Identity},
    os::{
        family,
        group::{Census, ForeignGroup},
        search, signal,
    },
    process::Pid,
    supervisor::{ProcessId, Supervisor},
};

/// Variables by which a stranger is attributed to its program.
const MARKS: [&str; 2] = ["SUPERVISOR_GROUP_NAME", "SUPERVISOR_PROCESS_NAME"];

/// Bytes of a process's name that the kernel keeps.
const COMM_LENGTH: usize = 15;

/// How often a child without marks is looked at: one that is just calling `exec` has no environment for a moment.
const LOOKS: u8 = 3;

/// What one program left behind.
#[derive(Debug, Default)]
struct Remains {
    /// Process groups of dead main processes that still have members.
    groups: Vec<Pid>,
    /// Those of main processes that were not our children.
    foreign_groups: Vec<ForeignGroup>,
    /// Descendants that became our children, of whatever group: one that was found in the group of its main process
    /// may be about to leave it.
    strays: HashSet<Pid>,
}

impl Remains {
    /// Forgets foreign groups that are gone, and tells members that were not known.
    fn look_again(&mut self, name: Option<(&str, &str)>, census: &Census, found: &mut Vec<Identity>) {
        let is_its = |pid| name.is_some_and(|name| has_marks(pid, name));
        self.foreign_groups.retain_mut(|group| match group.look_again(is_its, census) {
            Some(new) => {
                found.extend(new);
                true
            }
            None => false,
        });
    }
}

/// What all programs left behind.
#[derive(Debug, Default)]
pub(super) struct Family {
    of: HashMap<ProcessId, Remains>,
    /// Processes that are not our children and of whose end nobody tells us yet.
    unwatched: Vec<Identity>,
    /// Children of ours that seem to belong to no program, and how often they were looked at. They are reaped and
    /// otherwise left alone.
    strangers: HashMap<Pid, u8>,
}

impl Family {
    /// Records what is left of the group of the dead main process `leader`.
    pub(super) fn note_group(&mut self, id: ProcessId, leader: Pid) {
        if family::group_exists(leader) {
            self.of.entry(id).or_default().groups.push(leader);
        }
    }

    /// Records what is left of the group of `leader`, a main process that was not our child and ended just now, or
    /// whose group is known to be its own still. Returns whether something is.
    pub(super) fn note_foreign_group(&mut self, id: ProcessId, leader: Identity, census: &Census) -> bool {
        let Some(group) = ForeignGroup::new(leader, |_| true, census) else { return false };
        self.unwatched.extend(group.members());
        self.of.entry(id).or_default().foreign_groups.push(group);
        true
    }

    /// Processes whose end must be watched for, because they are not our children.
    pub(super) fn take_unwatched(&mut self) -> Vec<Identity> {
        std::mem::take(&mut self.unwatched)
    }

    /// The process groups and strays that `id` has left behind.
    pub(super) fn remains_of(&self, id: ProcessId) -> (Vec<i32>, Vec<i32>) {
        let Some(remains) = self.of.get(&id) else { return Default::default() };
        let foreign = remains.foreign_groups.iter().map(ForeignGroup::number);
        let groups = remains.groups.iter().copied().chain(foreign).map(Pid::as_raw).collect();
        let mut strays: Vec<i32> = remains.strays.iter().map(|pid| pid.as_raw()).collect();
        strays.sort_unstable();
        (groups, strays)
    }

    /// More about those of the groups that are not of children of ours.
    pub(super) fn foreign_groups_of(&self, id: ProcessId) -> Vec<ForeignGroup> {
        self.of.get(&id).map(|remains| remains.foreign_groups.clone()).unwrap_or_default()
    }

    /// Looks for children of ours that are nobody's main process, and attributes them by their environment. Returns
    /// those that were found now, with their programs.
    ///
    /// A newcomer without marks may have overwritten its environment with a title, as nginx and PostgreSQL do, or be
    /// calling `exec` just now. It is taken for that of one of `suspects`, the programs whose main processes have ended
    /// a moment ago, if it has its name.
    pub(super) fn find_strays(
        &mut self,
        supervisor: &Supervisor,
        suspects: &[ProcessId],
    ) -> Vec<(ProcessId, Pid)> {
        let mut found = Vec::new();
        for pid in family::children_of_self() {
            if supervisor.owner(pid).is_some()
                || self.strangers.get(&pid).is_some_and(|looks| *looks >= LOOKS)
                || self.is_known_stray(pid)
            {
                continue;
            }
            let program = match origin_of(pid, supervisor) {
                Origin::Program(id) => Some(id),
                Origin::Unmarked if !self.strangers.contains_key(&pid) => namesake(pid, supervisor, suspects),
                Origin::Unmarked | Origin::Elsewhere => None,
            };
            let is_tree = |id: &ProcessId| {
                supervisor.process(*id).is_some_and(|process| process.config().killmode == KillMode::Tree)
            };
            match program.filter(is_tree) {
                Some(id) => {
                    self.of.entry(id).or_default().strays.insert(pid);
                    found.push((id, pid));
                }
                None => *self.strangers.entry(pid).or_default() += 1,
            }
        }
        found
    }

    /// Records that a child of ours belongs to no program for certain.
    pub(super) fn ignore(&mut self, pid: Pid) {
        self.strangers.insert(pid, LOOKS);
    }

    /// Records that a child of ours that is nobody's main process has been reaped.
    pub(super) fn handle_reaped(&mut self, pid: Pid) {
        self.strangers.remove(&pid);
        for remains in self.of.values_mut() {
            remains.strays.remove(&pid);
        }
    }

    /// Programs that have left something behind, as far as is known.
    pub(super) fn bereaved(&self) -> Vec<ProcessId> {
        self.of.keys().copied().collect()
    }

    /// Whether what `id`, which has this group and name, left behind is gone, and forgets it if so.
    pub(super) fn is_gone(&mut self, id: ProcessId, name: Option<(&str, &str)>, census: &Census) -> bool {
        let Some(remains) = self.of.get_mut(&id) else { return true };
        remains.groups.retain(|group| family::group_exists(*group));
        remains.look_again(name, census, &mut self.unwatched);
        let gone =
            remains.groups.is_empty() && remains.foreign_groups.is_empty() && remains.strays.is_empty();
        if gone {
            self.of.remove(&id);
        }
        gone
    }

    /// Sends a signal to everything that `id` left behind.
    pub(super) fn signal(&mut self, id: ProcessId, name: Option<(&str, &str)>, signal: StopSignal) {
        let Some(remains) = self.of.get_mut(&id) else { return };
        remains.look_again(name, &Census::default(), &mut self.unwatched);
        let foreign = remains.foreign_groups.iter().map(ForeignGroup::number);
        for group in remains.groups.iter().copied().chain(foreign) {
            note_refusal(group, signal::kill_group(group, signal.0));
        }
        for stray in &remains.strays {
            let Ok(stat) = family::stat_of(*stray) else { continue };
            if remains.groups.contains(&stat.group) {
                continue; // It was sent the signal with its group.
            }
            // A stray that leads a group takes the group with it: a daemon's workers.
            let leads = stat.group == *stray;
            let sent =
                if leads { signal::kill_group(*stray, signal.0) } else { signal::kill(*stray, signal.0) };
            note_refusal(*stray, sent);
        }
    }

    /// Goes on with what [`Family::remains_of`] and [`Family::foreign_groups_of`] gave.
    pub(super) fn resume(
        &mut self,
        id: ProcessId,
        (groups, strays): (&[i32], &[i32]),
        foreign: Vec<ForeignGroup>,
    ) {
        if groups.is_empty() && strays.is_empty() {
            return;
        }
        let remains = self.of.entry(id).or_default();
        let is_foreign = |group: &Pid| foreign.iter().any(|foreign| foreign.number() == *group);
        let groups = groups.iter().copied().map(Pid::from_raw);
        remains.groups.extend(groups.filter(|group| !is_foreign(group)));
        self.unwatched.extend(foreign.iter().flat_map(ForeignGroup::members));
        remains.foreign_groups.extend(foreign);
        remains.strays.extend(strays.iter().copied().map(Pid::from_raw));
    }

    /// Forgets a program that is no longer supervised.
    pub(super) fn forget(&mut self, id: ProcessId) {
        self.of.remove(&id);
    }

    /// What a program left behind, for a message: `pid 12 (nginx), process group 34`.
    pub(super) fn describe(&self, id: ProcessId) -> String {
        let Some(remains) = self.of.get(&id) else { return String::new() };
        let stray = |pid: &Pid| match family::comm_of(*pid) {
            Some(comm) => format!("pid {pid} ({})", comm.to_string_lossy()),
            None => format!("pid {pid}"),
        };
        let stats = remains.strays.iter().filter_map(|pid| family::stat_of(*pid).ok());
        let named: Vec<Pid> = stats.map(|stat| stat.group).collect();
        let foreign = remains.foreign_groups.iter().map(ForeignGroup::number);
        let groups = remains.groups.iter().copied().chain(foreign);
        let unnamed = groups.filter(|group| !named.contains(group));
        let mut parts: Vec<String> = unnamed.map(|group| format!("process group {group}")).collect();
        parts.extend(remains.strays.iter().map(stray));
        parts.sort();
        parts.join(", ")
    }

    fn is_known_stray(&self, pid: Pid) -> bool {
        self.of.values().any(|remains| remains.strays.contains(&pid))
    }
}

/// Whether the process group with the number of `child`, a main process of the program `name` (group and name) that
/// ended while nobody watched, still is its own. The kernel keeps the number of a group from being a pid again, but the
/// group may have ended too.
pub(super) fn is_group_of(child: Child, name: (&str, &str), census: &Census) -> bool {
    let leader = Pid::from_raw(child.identity.pid);
    match search::identity_of(leader) {
        // Not reaped yet, or another's number by now.
        Ok(identity) => identity == child.identity,
        // One member that can be told is enough.
        Err(_) => census
            .members_of_group(leader)
            .iter()
            .map(|member| Pid::from_raw(member.pid))
            .any(|member| search::holds_any(member, child.pipes) || has_marks(member, name)),
    }
}

fn has_marks(pid: Pid, (group, name): (&str, &str)) -> bool {
    let Ok(environ) = family::environ_of(pid) else { return false };
    let is =
        |mark: &str, value: &str| environ.get(mark).is_some_and(|found| found.as_bytes() == value.as_bytes());
    is(MARKS[0], group) && is(MARKS[1], name)
}

fn note_refusal(pid: Pid, sent: Result<(), signal::SignalError>) {
    match sent {
        Ok(()) | Err(signal::SignalError::Gone) => {}
        Err(error) => debug!("unable to signal pid {pid}, which a program left behind: {error}"),
    }
}

/// Whose a child of ours is that is nobody's main process.
enum Origin {
    /// It carries the marks of this program.
    Program(ProcessId),
    /// It lives and carries no marks that can be seen.
    Unmarked,
    /// It carries the marks of a program that is not supervised here, or is dead.
    Elsewhere,
}

fn origin_of(pid: Pid, supervisor: &Supervisor) -> Origin {
    let environ = family::environ_of(pid).ok();
    let mark = |name| environ.as_ref()?.get(name)?.to_str().map(ToOwned::to_owned);
    if let Some((group, name)) = mark(MARKS[0]).zip(mark(MARKS[1])) {
        return supervisor.find(&group, &name).map_or(Origin::Elsewhere, Origin::Program);
    }
    let lives = family::stat_of(pid).is_ok_and(|stat| stat.state != 'Z');
    if lives { Origin::Unmarked } else { Origin::Elsewhere }
}

/// The suspect whose command has the name of the process.
fn namesake(pid: Pid, supervisor: &Supervisor, suspects: &[ProcessId]) -> Option<ProcessId> {
    let comm = family::comm_of(pid)?;
    let has_its_name = |id: &ProcessId| {
        let words = supervisor.process(*id).and_then(|process| shlex::split(&process.config().command).ok());
        let file = words.as_ref().and_then(|words| Path::new(words.first()?).file_name());
        file.is_some_and(|file| {
            let bytes = file.as_bytes();
            comm.as_bytes() == &bytes[..bytes.len().min(COMM_LENGTH)]
        })
    };
    suspects.iter().copied().find(has_its_name)
}
