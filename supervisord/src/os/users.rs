//! Users and groups of the machine, and becoming one of them.

use std::cell::RefCell;
use std::collections::BTreeMap;
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

/// What the user database has said. One on a network may take its time, and everything waits meanwhile: it is asked
/// once, until somebody wants to know anew.
#[derive(Debug, Default)]
pub struct Register {
    groups: Answers<(String, u32), Vec<u32>>,
    users: Answers<u32, Option<User>>,
}

impl Register {
    /// The database is asked again.
    pub fn forget(&mut self) {
        *self = Self::default();
    }

    /// What a child needs to become `user`.
    ///
    /// # Errors
    /// As [`groups_of`].
    pub fn identity_of(&self, user: &config::User) -> io::Result<Identity> {
        let ask = || groups_of(&user.name, user.gid);
        let groups = self.groups.get((user.name.clone(), user.gid), ask)?;
        Ok(Identity { uid: user.uid, gid: user.gid, groups })
    }

    /// See [`by_uid`].
    ///
    /// # Errors
    /// As [`by_uid`].
    pub fn by_uid(&self, uid: u32) -> Result<Option<User>, Errno> {
        self.users.get(uid, || by_uid(uid))
    }
}

/// Answers that are known.
#[derive(Debug)]
struct Answers<K, V>(RefCell<BTreeMap<K, V>>);

impl<K, V> Default for Answers<K, V> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<K: Ord, V: Clone> Answers<K, V> {
    /// A refusal is no answer: the next one asks again.
    fn get<E>(&self, key: K, ask: impl FnOnce() -> Result<V, E>) -> Result<V, E> {
        if let Some(known) = self.0.borrow().get(&key) {
            return Ok(known.clone());
        }
        let answer = ask()?;
        self.0.borrow_mut().insert(key, answer.clone());
        Ok(answer)
    }
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
    fn an_answer_is_asked_for_once_and_after_a_refusal_again() {
        let answers = Answers::default();
        let mut asked = 0;
        for (answer, expected) in [(Err("busy"), Err("busy")), (Ok(5), Ok(5)), (Ok(6), Ok(5))] {
            let ask = || {
                asked += 1;
                answer
            };
            assert_eq!(answers.get("key", ask), expected);
        }
        assert_eq!(asked, 2);
        let mut register = Register::default();
        let root = register.by_uid(0);
        assert_eq!((root.clone(), root), (register.by_uid(0), by_uid(0)));
        register.forget();
        assert!(register.users.0.borrow().is_empty());
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
