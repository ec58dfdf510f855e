//! Process groups of others' children: who is in them, and whether they are still the same.

use std::{cell::OnceCell, collections::HashMap};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::{family, search};
use crate::journal::record::Identity;

/// Who lives in which process group, as `/proc` tells it at one moment: when it is first asked and cannot be told without
/// it. To be used for everything that is done at once, for it costs some microseconds for each process of the machine.
#[derive(Debug, Default)]
pub struct Census(OnceCell<HashMap<Pid, Vec<Identity>>>);

impl Census {
    /// Living members of a process group.
    pub fn members_of_group(&self, group: Pid) -> &[Identity] {
        // Mostly there is none, and the kernel knows at once. One of the dead, too, seems to exist until they are reaped.
        if !family::group_exists(group) {
            return &[];
        }
        self.0.get_or_init(take_census).get(&group).map_or(&[], Vec::as_slice)
    }
}

fn take_census() -> HashMap<Pid, Vec<Identity>> {
    let mut groups: HashMap<Pid, Vec<Identity>> = HashMap::new();
    for pid in search::all_processes() {
        if let Ok(stat) = family::stat_of(pid)
            && !stat.is_dead()
        {
            let identity = Identity { pid: pid.as_raw(), start_time: stat.start_time };
            groups.entry(stat.group).or_default().push(identity);
        }
    }
    groups
}

/// Whether this process lives, and belongs to the process group.
pub fn is_in_group(member: Identity, group: Pid) -> bool {
    family::stat_of(Pid::from_raw(member.pid))
        .is_ok_and(|stat| stat.start_time == member.start_time && stat.group == group && !stat.is_dead())
}

/// The process group of a dead main process that was not our child. It may end without our being told, and then its
/// number may become another's: while a known member is in it, it is the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignGroup {
    /// The main process, whose pid is the number of the group.
    leader: Identity,
    /// Members that have been seen.
    members: Vec<Identity>,
}

impl ForeignGroup {
    /// The group of a dead main process, if it has members; those count for which `is_its` holds.
    pub fn new(leader: Identity, is_its: impl Fn(Pid) -> bool, census: &Census) -> Option<Self> {
        let number = Pid::from_raw(leader.pid);
        // Then the group was gone before: a pid that is the number of a group is given to nobody.
        let is_anothers =
            leader.is_seen() && search::identity_of(number).is_ok_and(|seen| !leader.is(Some(seen)));
        if is_anothers {
            return None;
        }
        let members = census.members_of_group(number).iter().copied();
        let members: Vec<Identity> = members
            .filter(|member| is_in_group(*member, number) && is_its(Pid::from_raw(member.pid)))
            .collect();
        (!members.is_empty()).then_some(Self { leader, members })
    }

    /// Its number.
    pub fn number(&self) -> Pid {
        Pid::from_raw(self.leader.pid)
    }

    /// The members that are known.
    pub fn members(&self) -> &[Identity] {
        &self.members
    }

    /// Whether it is still there and the same; when no known member is left, those for which `is_its` holds tell. Returns
    /// members that were not known.
    pub fn look_again(&mut self, is_its: impl Fn(Pid) -> bool, census: &Census) -> Option<Vec<Identity>> {
        let number = self.number();
        if self.members.iter().any(|member| is_in_group(*member, number)) {
            return Some(Vec::new());
        }
        *self = Self::new(self.leader, is_its, census)?;
        Some(self.members.clone())
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "a test has no other reaper")]
mod tests {
    use std::{
        os::unix::process::CommandExt as _,
        process::{Child, Command},
    };

    use super::*;

    /// A process in the group `group`; 0: in one of its own.
    fn start(group: i32) -> (Child, Identity) {
        let child = Command::new("/bin/sleep").arg("1000").process_group(group).spawn().unwrap();
        let identity = search::identity_of(Pid::from_raw(child.id().cast_signed())).unwrap();
        (child, identity)
    }

    fn end(mut child: Child) {
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn look(group: &mut ForeignGroup, is_its: bool) -> Option<Vec<Identity>> {
        group.look_again(|_| is_its, &Census::default())
    }

    #[test]
    fn a_group_is_the_same_while_a_known_member_or_one_of_its_program_is_in_it() {
        let (leader, identity) = start(0);
        let (first, known) = start(identity.pid);
        end(leader);
        let mut group = ForeignGroup::new(identity, |_| true, &Census::default()).unwrap();
        assert_eq!(group.members(), [known]);
        let (second, later) = start(identity.pid);
        assert_eq!(look(&mut group, false), Some(Vec::new()));
        end(first);
        assert_eq!(look(&mut group.clone(), false), None, "whose is it now?");
        assert_eq!(look(&mut group, true), Some(vec![later]));
        assert_eq!(look(&mut group, false), Some(Vec::new()));
        end(second);
        assert_eq!(look(&mut group, true), None);
    }

    #[test]
    fn a_group_whose_number_is_the_pid_of_another_process_is_another() {
        let (leader, identity) = start(0);
        let earlier = Identity { start_time: identity.start_time - 1, ..identity };
        assert!(ForeignGroup::new(identity, |_| true, &Census::default()).is_some());
        assert_eq!(ForeignGroup::new(earlier, |_| true, &Census::default()), None);
        let gone = Identity { pid: identity.pid, start_time: identity.start_time + 1 };
        let mut group = ForeignGroup { leader: earlier, members: vec![gone] };
        assert_eq!(look(&mut group, true), None);
        end(leader);
    }
}
