//! From the text of `command` to the file that is executed, with Supervisor's words for what can be wrong.

use std::{
    ffi::{CString, OsStr},
    os::unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
};

use crate::{
    config::{ProgramConfig, python, shlex},
    request::Reason,
};

/// Where commands are looked for when no PATH is set. Source: Supervisor.
const DEFAULT_PATH: &str = "/bin:/usr/bin:/usr/local/bin";

/// A command that can be executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    /// The words, the program's own name first.
    pub(super) argv: Vec<CString>,
    /// The file.
    pub(super) executable: CString,
}

/// Why a command cannot be executed, in Supervisor's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandError {
    /// Quoting is wrong.
    #[error("can't parse command {command}: {problem}")]
    Unparsable {
        /// The command, quoted.
        command: String,
        /// What is wrong.
        problem: String,
    },
    /// There is no word in it.
    #[error("command is empty")]
    Empty,
    /// A NUL character, which no program can be given.
    #[error("command contains a NUL character")]
    Nul,
    /// The file does not exist.
    #[error("can't find command {0}")]
    NotFound(String),
    /// It is a directory.
    #[error("command at {0} is a directory")]
    Directory(String),
    /// It has no execute bit.
    #[error("command at {0} is not executable")]
    NotExecutable(String),
    /// We may not execute it.
    #[error("no permission to run command {0}")]
    NoPermission(String),
}

impl CommandError {
    /// Supervisor's fault for it.
    pub(super) fn reason(&self) -> Reason {
        match self {
            Self::NotFound(_) => Reason::NoFile,
            Self::Unparsable { .. }
            | Self::Empty
            | Self::Nul
            | Self::Directory(_)
            | Self::NotExecutable(_)
            | Self::NoPermission(_) => Reason::NotExecutable,
        }
    }
}

/// Resolves the command of a program, and checks that it can be executed. `daemon_path` is the daemon's own PATH.
pub(super) fn resolve(config: &ProgramConfig, daemon_path: Option<&str>) -> Result<Command, CommandError> {
    let command = find(config, daemon_path)?;
    command.check(config)?;
    Ok(command)
}

/// Finds the file of a command, which need not be one that can be executed.
///
/// A word with a slash is a path, relative to `directory` if that is set (Supervisor looks for it in the daemon's own
/// working directory, and then executes the other one). Otherwise the first existing entry of PATH wins.
pub(super) fn find(config: &ProgramConfig, daemon_path: Option<&str>) -> Result<Command, CommandError> {
    let words = shlex::split(&config.command).map_err(|error| CommandError::Unparsable {
        command: python::repr(&config.command),
        problem: error.to_string(),
    })?;
    let program = words.first().filter(|word| !word.is_empty()).ok_or(CommandError::Empty)?.clone();
    let base = config.directory.as_deref();
    let path = if program.contains('/') {
        PathBuf::from(&program)
    } else {
        let path = config.environment.get("PATH").or(daemon_path).unwrap_or(DEFAULT_PATH);
        let candidates = path.split(':').map(|directory| Path::new(directory).join(&program));
        candidates
            .into_iter()
            .find(|path| located(path, base).exists())
            .ok_or_else(|| CommandError::NotFound(python::repr(&program)))?
    };
    let argv =
        words.into_iter().map(CString::new).collect::<Result<_, _>>().map_err(|_| CommandError::Nul)?;
    let executable = CString::new(path.into_os_string().as_bytes()).map_err(|_| CommandError::Nul)?;
    Ok(Command { argv, executable })
}

fn located(path: &Path, base: Option<&Path>) -> PathBuf {
    base.map_or_else(|| path.to_owned(), |base| base.join(path))
}

impl Command {
    /// Says why it cannot be executed, where that can be said beforehand.
    pub(super) fn check(&self, config: &ProgramConfig) -> Result<(), CommandError> {
        let path = Path::new(OsStr::from_bytes(self.executable.as_bytes()));
        let shown = || python::repr(&path.to_string_lossy());
        let file = located(path, config.directory.as_deref());
        let Ok(metadata) = file.metadata() else { return Err(CommandError::NotFound(shown())) };
        if metadata.is_dir() {
            return Err(CommandError::Directory(shown()));
        }
        if metadata.permissions().mode() & 0o111 == 0 {
            return Err(CommandError::NotExecutable(shown()));
        }
        nix::unistd::access(&file, nix::unistd::AccessFlags::X_OK)
            .map_err(|_| CommandError::NoPermission(shown()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::test_defaults;

    fn resolved(command: &str) -> Result<String, String> {
        let config = ProgramConfig { command: command.to_owned(), ..test_defaults("x") };
        resolve(&config, Some("/nonexistent:/bin:/usr/bin"))
            .map(|command| command.executable.to_string_lossy().into_owned())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn problems_are_named_in_supervisors_words() {
        assert_eq!(resolved("sh -c true").as_deref(), Ok("/bin/sh"));
        assert_eq!(resolved("").unwrap_err(), "command is empty");
        assert_eq!(resolved("nosuch x").unwrap_err(), "can't find command 'nosuch'");
        assert_eq!(resolved("/no/such").unwrap_err(), "can't find command '/no/such'");
        assert_eq!(resolved("/tmp").unwrap_err(), "command at '/tmp' is a directory");
        assert_eq!(resolved("/etc/passwd").unwrap_err(), "command at '/etc/passwd' is not executable");
        assert_eq!(
            resolved("/bin/echo \"foo").unwrap_err(),
            "can't parse command '/bin/echo \"foo': No closing quotation"
        );
    }

    #[test]
    fn a_relative_command_is_looked_for_where_it_is_executed() {
        let config = ProgramConfig {
            command: "./sh".to_owned(),
            directory: Some(PathBuf::from("/bin")),
            ..test_defaults("x")
        };
        assert_eq!(resolve(&config, None).unwrap().executable.to_str(), Ok("./sh"));
    }
}
