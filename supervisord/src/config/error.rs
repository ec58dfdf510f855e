//! What is wrong or doubtful in a configuration, and how it is said.

use std::{fmt, path::PathBuf, sync::Arc};

/// One mistake in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file it is in.
    pub file: PathBuf,
    /// The line of the key, or of the section when no key is to blame.
    pub line: Option<u32>,
    /// The section, without brackets.
    pub section: Option<String>,
    /// The key.
    pub key: Option<String>,
    /// The value as written; never that of a secret.
    pub value: Option<String>,
    /// What is wrong with it.
    pub problem: String,
    /// The message of Supervisor for the same mistake.
    pub supervisor: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_place(f, &self.file, self.line)?;
        write_key(f, self.section.as_deref(), self.key.as_deref())?;
        if let Some(value) = &self.value {
            write!(f, " = {value:?}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl std::error::Error for ConfigError {}

/// Something doubtful in a configuration that is used all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigWarning {
    /// The file it is in.
    pub file: PathBuf,
    /// The line of the key, or of the section when it is not about a key.
    pub line: Option<u32>,
    /// The section, without brackets.
    pub section: Option<String>,
    /// The key.
    pub key: Option<String>,
    /// What is doubtful.
    pub problem: String,
    /// The words in which Supervisor logs the same warning, if it does.
    pub supervisor: Option<String>,
}

impl fmt::Display for ConfigWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_place(f, &self.file, self.line)?;
        write_key(f, self.section.as_deref(), self.key.as_deref())?;
        write!(f, ": {}", self.problem)
    }
}

fn write_place(f: &mut fmt::Formatter<'_>, file: &std::path::Path, line: Option<u32>) -> fmt::Result {
    write!(f, "{}", file.display())?;
    line.map_or(Ok(()), |line| write!(f, ":{line}"))
}

fn write_key(f: &mut fmt::Formatter<'_>, section: Option<&str>, key: Option<&str>) -> fmt::Result {
    if let Some(section) = section {
        write!(f, ": [{section}]")?;
    }
    key.map_or(Ok(()), |key| write!(f, " {key}"))
}

/// All mistakes of a configuration, at least one, in the order in which Supervisor would meet them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    first: String,
}

impl ConfigErrors {
    /// All of `errors`; `None` when there are none.
    pub fn new(errors: Vec<ConfigError>) -> Option<Self> {
        let first = errors.first()?.supervisor.clone();
        Some(Self { errors, first })
    }

    /// A mistake that concerns a file as a whole.
    pub fn of_file(file: impl Into<PathBuf>, problem: String, supervisor: String) -> Self {
        let first = supervisor.clone();
        let error = ConfigError {
            file: file.into(),
            line: None,
            section: None,
            key: None,
            value: None,
            problem,
            supervisor,
        };
        Self { errors: vec![error], first }
    }

    /// The mistakes, never empty.
    pub fn all(&self) -> &[ConfigError] {
        &self.errors
    }

    /// The one message that Supervisor itself would give: its first mistake in its own words.
    pub fn first_like_supervisor(&self) -> String {
        self.first.clone()
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// A path kept as the text of a message.
pub(super) fn path(file: &Arc<str>) -> PathBuf {
    PathBuf::from(&**file)
}
