//! What one image of the daemon hands to the next when it executes its binary anew, and the way back.
//!
//! Owns the form of the [`State`] in memory, its version, and how it travels: a memory file whose number stands in the
//! environment variable [`MARKER`]. What happens when is in `driver/upgrade.rs`; the system calls are in
//! [`crate::os::handover`].
//!
//! A state is JSON. Fields that a reader does not know are ignored, fields that it misses have defaults; a change that
//! an older or newer reader would misunderstand raises [`FORMAT`], and other formats are refused before the old image
//! has given anything up.

mod check;
mod origin;
mod programs;

use std::{
    collections::BTreeMap,
    ffi::{CString, OsString},
    fs::File,
    io,
    os::{
        fd::{AsFd as _, OwnedFd, RawFd},
        unix::ffi::OsStrExt as _,
    },
    path::PathBuf,
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{
    config::Listen,
    journal::record::Identity,
    os::{
        environment,
        handover::{self, Inherited, Program},
        listen::SocketFile,
    },
};

pub use check::{Verdict, answer, parse_verdict, refuse_other_user};
pub use origin::Origin;
pub use programs::{Carried, CarriedLog, CarriedPipe, CarriedSocket, Programs};

/// Version of the form of a [`State`]; readers take no other.
pub const FORMAT: u32 = 1;

/// Names, in the environment of a new image, the memory file with the [`State`]; after a blank why an image that was
/// tried in between has given up.
pub const MARKER: &str = "SUPERVISORD_HANDOVER";

/// The option by which a binary is asked whether it could take over; its value is [`FORMAT`].
pub const CHECK_OPTION: &str = "--check-handover";

/// All that the next image needs beside the configuration, which it reads anew.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct State {
    /// [`FORMAT`] of the writer.
    pub format: u32,
    /// Version of the program that wrote it.
    pub version: String,
    /// How often the daemon was replaced in place before.
    #[serde(default)]
    pub generation: u32,
    /// What was started, and where.
    pub origin: Origin,
    /// Whether the daemon has left its terminal.
    #[serde(default)]
    pub detached: bool,
    /// When the daemon was first started, since 1970-01-01 UTC.
    #[serde(default)]
    pub started: Duration,
    /// Whether the configuration is to be applied once the next image stands, as by `update`.
    #[serde(default)]
    pub apply: bool,
    /// The pidfile and its lock.
    #[serde(default)]
    pub pidfile: Option<(PathBuf, RawFd)>,
    /// The directory of the journal.
    #[serde(default)]
    pub journal: Option<PathBuf>,
    /// Listening sockets of control servers.
    #[serde(default)]
    pub sockets: Vec<Socket>,
    /// Limit of open files that programs get: soft, hard.
    #[serde(default)]
    pub open_files: Option<(u64, u64)>,
    /// The binary of the image that wrote this, to go back to.
    #[serde(default)]
    pub binary: Option<RawFd>,
    /// The keeper (`keeper/`), which is not to think that the daemon has died, and earlier ones.
    #[serde(default)]
    pub keepers: Vec<CarriedKeeper>,
    /// Programs and groups.
    #[serde(default)]
    pub programs: Programs,
}

/// A listening socket of a control server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Socket {
    /// Where it listens, as configured.
    pub listen: Listen,
    /// The descriptor.
    pub fd: RawFd,
    /// The file of a unix socket.
    pub file: Option<SocketFile>,
}

/// A keeper of the image that wrote a [`State`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CarriedKeeper {
    /// Its process.
    pub identity: Identity,
    /// The way to it.
    pub fd: RawFd,
}

/// A state that cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The variable does not name a memory file.
    #[error("{MARKER} = {0:?} does not name an open state: it is set by supervisord alone")]
    Marker(OsString),
    /// The state cannot be read.
    #[error("the state of the running supervisord cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is in a form of another version.
    #[error("the running supervisord ({version}) hands over in format {found}, this one ({}) takes {FORMAT}", env!("CARGO_PKG_VERSION"))]
    Format {
        /// The format found.
        found: u32,
        /// Who wrote it.
        version: String,
    },
    /// It is not what a state looks like.
    #[error("the state of the running supervisord is not understood: {0}")]
    Json(#[from] serde_json::Error),
}

/// What can be read of a state of any format.
#[derive(Deserialize)]
struct Header {
    format: u32,
    #[serde(default)]
    version: String,
}

impl State {
    /// Reads a state.
    ///
    /// # Errors
    /// [`StateError::Format`], [`StateError::Json`].
    pub fn parse(text: &[u8]) -> Result<Self, StateError> {
        let Header { format, version } = serde_json::from_slice(text)?;
        if format != FORMAT {
            return Err(StateError::Format { found: format, version });
        }
        Ok(serde_json::from_slice(text)?)
    }

    /// The state as text.
    ///
    /// # Errors
    /// When a path or a number in it has no form in JSON.
    pub fn to_text(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}

/// A state and everything that came with it, taken over by this image.
#[derive(Debug)]
pub struct Handover {
    /// The state.
    pub state: State,
    /// Why an image that was tried before this one has given up.
    pub failure: Option<String>,
    memory: File,
    descriptors: BTreeMap<RawFd, OwnedFd>,
}

impl Handover {
    /// Takes over what the image before this one left, if there was one; the marker is gone from the environment
    /// then. Call it before any thread exists and before anything is opened.
    ///
    /// # Errors
    /// [`StateError`].
    pub fn take() -> Result<Option<Self>, StateError> {
        let Some(marker) = environment::take(MARKER)? else { return Ok(None) };
        let text = marker.as_bytes();
        let (number, failure) = match text.iter().position(|byte| *byte == b' ') {
            Some(at) => (&text[..at], Some(String::from_utf8_lossy(&text[at + 1..]).into_owned())),
            None => (text, None),
        };
        let number = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
        let unknown = || StateError::Marker(marker.clone());
        let memory = handover::take(number.ok_or_else(unknown)?).map_err(|_| unknown())?;
        let memory = File::from(memory);
        let state = State::parse(&handover::read_whole(memory.try_clone()?)?)?;
        let mut descriptors = BTreeMap::new();
        for number in handover::open_unmarked()? {
            descriptors.insert(number, handover::take(number)?);
        }
        Ok(Some(Self { state, failure, memory, descriptors }))
    }

    /// Takes a descriptor that came with the state. Once one was taken there is no way back.
    pub fn descriptor(&mut self, number: RawFd) -> Option<OwnedFd> {
        self.descriptors.remove(&number)
    }

    /// A duplicate of a descriptor that came with the state: the way back stays open.
    ///
    /// # Errors
    /// When it did not come, or there are no descriptors left.
    pub fn duplicate(&self, number: RawFd) -> io::Result<OwnedFd> {
        let found = self.descriptors.get(&number).ok_or(io::ErrorKind::NotFound)?;
        found.try_clone()
    }

    /// Executes the binary of the image that wrote the state, which goes on from there and says why. Returns only when
    /// that is not possible.
    pub fn go_back(&self, problem: &str) -> io::Error {
        if self.failure.is_some() {
            return io::Error::other("it was gone back to already");
        }
        let Some(binary) = self.state.binary.and_then(|number| self.descriptors.get(&number)) else {
            return io::ErrorKind::NotFound.into();
        };
        let mut inherited = Inherited::default();
        for descriptor in self.descriptors.values() {
            inherited.add(descriptor.as_fd());
        }
        let memory = inherited.add(self.memory.as_fd());
        let problem = problem.trim().replace('\n', "; ");
        let envp = environment_with(&[(MARKER, format!("{memory} {problem}").into())]);
        handover::execute(&Program::Open(binary.as_fd()), &self.state.origin.argv(), &envp, &inherited)
    }
}

/// The environment of this process with more variables.
pub fn environment_with(more: &[(&str, OsString)]) -> Vec<CString> {
    let own = std::env::vars_os().filter(|(name, _)| more.iter().all(|(other, _)| name != *other));
    let more = more.iter().map(|(name, value)| (OsString::from(name), value.clone()));
    let text = |(name, value): (OsString, OsString)| {
        CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok()
    };
    own.chain(more).filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State {
            format: FORMAT,
            version: "0.1.0".to_owned(),
            generation: 3,
            origin: Origin {
                executable: "/usr/bin/supervisord".into(),
                directory: "/".into(),
                arguments: vec!["supervisord".into()],
            },
            detached: true,
            started: Duration::from_secs(7),
            apply: false,
            pidfile: Some(("/run/x.pid".into(), 9)),
            journal: Some("/run/s.state".into()),
            sockets: vec![Socket {
                listen: Listen::Inet { host: "localhost".to_owned(), port: 9001 },
                fd: 8,
                file: None,
            }],
            open_files: Some((1024, 4096)),
            binary: Some(5),
            keepers: Vec::new(),
            programs: Programs::default(),
        }
    }

    #[test]
    fn a_state_survives_its_text() {
        let text = state().to_text().unwrap();
        assert_eq!(State::parse(&text).unwrap().to_text().unwrap(), text);
    }

    #[test]
    fn unknown_fields_are_ignored_and_missing_ones_have_defaults() {
        let text = br#"{"format": 1, "version": "0.2.0", "new": [1],
            "origin": {"executable": "/x", "directory": "/", "new": 1}}"#;
        let state = State::parse(text).unwrap();
        assert_eq!((state.generation, state.sockets.len(), state.pidfile), (0, 0, None));
    }

    #[test]
    fn another_format_is_refused_by_its_number_whatever_else_it_holds() {
        let error = State::parse(br#"{"format": 2, "version": "9.0", "origin": 5}"#).unwrap_err();
        let expected = format!(
            "the running supervisord (9.0) hands over in format 2, this one ({}) takes 1",
            env!("CARGO_PKG_VERSION")
        );
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn variables_are_added_or_replaced() {
        let all = environment_with(&[("SUPERVISORD_TEST_MORE", "1".into()), ("PATH", "x".into())]);
        let count = |text: &str| all.iter().filter(|one| one.to_bytes().starts_with(text.as_bytes())).count();
        assert_eq!((count("SUPERVISORD_TEST_MORE=1"), count("PATH=x"), count("PATH=")), (1, 1, 1));
    }
}
