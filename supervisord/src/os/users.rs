//! Users and groups of the machine, and becoming one of them.

use std::ffi::CString;
use std::io;
use std::path::PathBuf;

use nix::errno::Errno;
use nix::unistd::{Gid, Uid, getgrouplist, getuid, setgid, setgroups, setuid};

use super::spawn::Identity;
use crate::config;

/// A user of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The login name.
    pub name: String,
    /// The user id.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// The home directory.
    pub home: PathBuf,
    /// The login shell.
    pub shell: PathBuf,
}

impl From<nix::unistd::User> for User {
    fn from(user: nix::unistd::User) -> Self {
        Self {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            name: user.name,
            home: user.dir,
            shell: user.shell,
        }
    }
}

/// Why we cannot know or become a user. The texts are Supervisor's.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// The number had a user when the configuration was read, and has none now.
    #[error("Can't find uid {0}")]
    Vanished(u32),
    /// Only root may become somebody else.
    #[error("Can't drop privilege as nonroot user")]
    NotRoot,
    /// `setgroups` failed.
    #[error("Could not set groups of effective user")]
    Groups(#[source] Errno),
    /// `setgid` failed.
    #[error("Could not set group id of effective user")]
    Group(#[source] Errno),
    /// `setuid` failed: Supervisor has no words for it.
    #[error("Could not set user id of effective user")]
    User(#[source] Errno),
    /// The machine's user database did not answer.
    #[error("cannot look up user \"{uid}\": {errno:?}")]
    Lookup {
        /// The number asked for.
        uid: u32,
        /// Its answer.
        errno: Errno,
    },
}

/// The user with this number, if there is one.
///
/// # Errors
/// When the user database does not answer.
pub fn by_uid(uid: u32) -> Result<Option<User>, Errno> {
    Ok(nix::unistd::User::from_uid(Uid::from_raw(uid))?.map(User::from))
}

/// All groups of a user, the primary one `gid` first.
///
/// # Errors
/// When the group database does not answer.
pub fn groups_of(name: &str, gid: u32) -> io::Result<Vec<u32>> {
    let groups = getgrouplist(&CString::new(name)?, Gid::from_raw(gid))?;
    let others = groups.into_iter().map(Gid::as_raw).filter(|group| *group != gid);
    Ok(std::iter::once(gid).chain(others).collect())
}

/// What a child needs to become `user`.
///
/// # Errors
/// As [`groups_of`].
pub fn identity_of(user: &config::User) -> io::Result<Identity> {
    Ok(Identity { uid: user.uid, gid: user.gid, groups: groups_of(&user.name, user.gid)? })
}

/// Makes the daemon itself run as `uid` for good. Who is that user already keeps everything.
///
/// # Errors
/// With Supervisor's texts, see [`UserError`]. After an error the daemon must not go on: part of its rights are gone.
pub fn drop_privileges(uid: u32) -> Result<(), UserError> {
    let failed = |errno| UserError::Lookup { uid, errno };
    let user = by_uid(uid).map_err(failed)?.ok_or(UserError::Vanished(uid))?;
    if getuid().as_raw() == uid {
        return Ok(());
    }
    if !getuid().is_root() {
        return Err(UserError::NotRoot);
    }
    let groups = groups_of(&user.name, user.gid).map_err(|error| UserError::Groups(errno_of(&error)))?;
    let groups: Vec<Gid> = groups.into_iter().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(UserError::Groups)?;
    setgid(Gid::from_raw(user.gid)).map_err(UserError::Group)?;
    setuid(Uid::from_raw(uid)).map_err(UserError::User)
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_by_number() {
        let root = by_uid(0).expect("answered").expect("every machine has one");
        assert_eq!((root.name.as_str(), root.uid, root.gid), ("root", 0, 0));
        assert_eq!(by_uid(3_999_999_999), Ok(None));
        assert_eq!(groups_of("root", 0).expect("known").first(), Some(&0));
    }

    #[test]
    fn an_unknown_user_is_refused_in_supervisors_words() {
        assert_eq!(
            drop_privileges(3_999_999_999).expect_err("unknown").to_string(),
            "Can't find uid 3999999999"
        );
    }

    #[test]
    fn becoming_oneself_changes_nothing() {
        let uid = getuid().as_raw();
        if by_uid(uid).expect("answers").is_some() {
            drop_privileges(uid).expect("already so");
        }
        assert_eq!(getuid().as_raw(), uid);
    }
}
