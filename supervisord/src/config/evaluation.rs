//! Reading keys of sections: expansion, typing, and the collection of every error and warning on the way.
//!
//! Keys are read in the order in which Supervisor reads them, so that the first error is the one it would report.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::Arc,
};

use super::{
    Config, DaemonDeath,
    error::{ConfigError, ConfigErrors, ConfigWarning, path},
    expand::{Names, Value, expand},
    ini::{Entry, Section},
    keys,
    parse::Machine,
    python::repr,
};

/// Everything that the meaning of a configuration depends on, besides its text.
pub struct Surroundings<'a> {
    /// The main file as the user named it.
    pub file: &'a str,
    /// Its absolute directory: `%(here)s`.
    pub here: &'a str,
    /// The working directory: base of a relative `logfile`, `pidfile` and socket `file`.
    pub cwd: &'a str,
    /// `%(host_node_name)s`.
    pub host_node_name: &'a str,
    /// Default of `childlogdir`.
    pub temporary_directory: &'a str,
    /// Variables of this program's environment: `%(ENV_x)s`.
    pub environment: &'a [(String, String)],
    /// Users and directories.
    pub machine: &'a dyn Machine,
}

/// The sections of a configuration while they become typed values.
pub struct Evaluation<'a> {
    /// The sections.
    pub(super) sections: &'a [Section],
    /// What else the values depend on.
    pub(super) around: &'a Surroundings<'a>,
    /// `ENV_x`, from the environment and from `[supervisord] environment`.
    pub(super) env: Names,
    /// `here` alone, which most sections know.
    pub(super) here: Names,
    /// What `[supervisord]` says for programs that do not say so themselves.
    pub(super) on_daemon_death: DaemonDeath,
    errors: Vec<ConfigError>,
    warnings: Vec<ConfigWarning>,
    /// Texts of `errors` and `warnings`, to say everything once.
    reported: HashSet<String>,
    /// Position of each name in `sections`.
    index: HashMap<&'a str, usize>,
}

/// The section that keys are read from.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    /// The section.
    pub(super) section: &'a Section,
    /// Whether Supervisor names section and file after its message.
    pub(super) is_program: bool,
}

/// What an error is about.
#[derive(Clone, Copy)]
pub(super) enum Subject<'a> {
    /// A key with its value.
    Entry(&'a Entry),
    /// A key that is not there.
    Key(&'a str),
    /// The section.
    Section,
}

/// Evaluates all sections.
///
/// # Errors
/// [`ConfigErrors`] with everything that is wrong.
pub fn evaluate(
    sections: &[Section],
    around: &Surroundings<'_>,
    is_overridden: super::daemon::Overridden,
) -> Result<(Config, Vec<ConfigWarning>), ConfigErrors> {
    let mut evaluation = Evaluation::new(sections, around);
    evaluation.warn_of_suspicious_keys();
    let config = evaluation.config(is_overridden);
    let Evaluation { errors, warnings, .. } = evaluation;
    match ConfigErrors::new(errors) {
        Some(errors) => Err(errors),
        None => Ok((config, warnings)),
    }
}

impl<'a> Evaluation<'a> {
    /// Starts with no errors.
    pub(super) fn new(sections: &'a [Section], around: &'a Surroundings<'a>) -> Self {
        let env = around
            .environment
            .iter()
            .map(|(name, value)| (format!("ENV_{name}"), Value::Text(value.clone())));
        let here = Names::from([("here".to_owned(), Value::Text(around.here.to_owned()))]);
        let index = sections.iter().enumerate().map(|(at, section)| (section.name.as_str(), at)).collect();
        let (errors, warnings, reported) = (Vec::new(), Vec::new(), HashSet::new());
        Self {
            sections,
            around,
            env: env.collect(),
            here,
            on_daemon_death: DaemonDeath::Keep,
            errors,
            warnings,
            reported,
            index,
        }
    }

    fn config(&mut self, is_overridden: super::daemon::Overridden) -> Config {
        let Some(section) = self.section("supervisord") else {
            let problem = ".ini file does not include supervisord section";
            self.errors.push(ConfigError {
                file: PathBuf::from(self.around.file),
                line: None,
                section: None,
                key: None,
                value: None,
                problem: problem.to_owned(),
                supervisor: problem.to_owned(),
            });
            return Config {
                daemon: self.daemon_defaults(),
                servers: Vec::new(),
                groups: Vec::new(),
                rpc_interfaces: Default::default(),
            };
        };
        let mut daemon = self.daemon(section);
        let rpc_interfaces = self.rpc_interfaces();
        let groups = self.groups(&daemon.environment);
        let servers = self.servers();
        // Supervisor looks the user up last, and only the one that is in force.
        if !is_overridden.user {
            daemon.user = self.daemon_user(section);
        }
        Config { daemon, servers, groups, rpc_interfaces }
    }

    /// The section of this name.
    pub(super) fn section(&self, name: &str) -> Option<&'a Section> {
        self.index.get(name).map(|at| &self.sections[*at])
    }

    /// Sections whose names start with `prefix`.
    pub(super) fn sections_of(&self, prefix: &'a str) -> impl Iterator<Item = &'a Section> + use<'a> {
        self.sections.iter().filter(move |section| section.name.starts_with(prefix))
    }

    /// Whether anything is wrong so far.
    pub(super) fn error_count(&self) -> usize {
        self.errors.len()
    }

    /// The expanded text of a key; `None` when it is absent, or wrong (then it has been reported).
    pub(super) fn text(&mut self, from: Source<'_>, key: &str, layers: &[&Names]) -> Option<String> {
        self.read(from, key, layers, |text| Ok(text.to_owned()))
    }

    /// The typed value of a key; `None` when it is absent, or wrong (then it has been reported).
    pub(super) fn read<T>(
        &mut self,
        from: Source<'_>,
        key: &str,
        layers: &[&Names],
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let entry = from.section.get(key)?;
        match self.expanded(from, entry, layers).and_then(|text| parse(&text)) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.error(from, Subject::Entry(entry), problem);
                None
            }
        }
    }

    /// The text of `entry` after expansion with `ENV_x` and `layers`.
    pub(super) fn expanded(
        &self,
        from: Source<'_>,
        entry: &Entry,
        layers: &[&Names],
    ) -> Result<String, String> {
        if !entry.value.contains('%') {
            return Ok(entry.value.clone());
        }
        let mut all = vec![&self.env];
        all.extend(layers);
        expand(&entry.value, &all, &format!("{}.{}", from.section.name, entry.key))
    }

    /// As [`Self::expanded`], then once more with `second`, as Supervisor does with some keys.
    ///
    /// Its documentation asks for `%%` where its double expansion needs `%%%%`: when the second expansion fails, the
    /// first one is taken, so that both are understood.
    pub(super) fn expanded_twice(
        &self,
        from: Source<'_>,
        entry: &Entry,
        first: &[&Names],
        second: &[&Names],
    ) -> Result<String, String> {
        let once = self.expanded(from, entry, first)?;
        let mut all = vec![&self.env];
        all.extend(second);
        Ok(expand(&once, &all, &entry.key).unwrap_or(once))
    }

    /// Records an error in Supervisor's words.
    pub(super) fn error(&mut self, from: Source<'_>, subject: Subject<'_>, problem: impl Into<String>) {
        let problem = problem.into();
        let supervisor = if from.is_program {
            format!("{problem} in section {} (file: {})", repr(&from.section.name), repr(&from.section.file))
        } else {
            problem.clone()
        };
        self.error_as(from, subject, problem, supervisor);
    }

    /// Records an error for which Supervisor has words that ours do not follow from.
    pub(super) fn error_as(
        &mut self,
        from: Source<'_>,
        subject: Subject<'_>,
        problem: String,
        supervisor: String,
    ) {
        let (file, line, key, value) = match subject {
            Subject::Entry(entry) => {
                (&entry.file, entry.line, Some(entry.key.clone()), Some(entry.value.clone()))
            }
            Subject::Key(key) => (&from.section.file, from.section.line, Some(key.to_owned()), None),
            Subject::Section => (&from.section.file, from.section.line, None, None),
        };
        let mut error = ConfigError {
            file: path(file),
            line: Some(line),
            section: Some(from.section.name.clone()),
            key,
            value,
            problem,
            supervisor,
        };
        hide_secret(&mut error);
        // A program of several groups is read for each of them.
        if self.reported.insert(error.to_string()) {
            self.errors.push(error);
        }
    }

    /// Records a warning of our own.
    pub(super) fn warn(&mut self, section: &Section, subject: Subject<'_>, problem: String) {
        self.warn_as(section, subject, problem, None);
    }

    /// Records a warning that Supervisor gives in the words of `problem`.
    pub(super) fn warn_like_supervisor(&mut self, section: &Section, subject: Subject<'_>, problem: String) {
        let words = problem.clone();
        self.warn_as(section, subject, problem, Some(words));
    }

    fn warn_as(
        &mut self,
        section: &Section,
        subject: Subject<'_>,
        problem: String,
        supervisor: Option<String>,
    ) {
        let (file, line, key): (&Arc<str>, _, _) = match subject {
            Subject::Entry(entry) => (&entry.file, entry.line, Some(entry.key.clone())),
            Subject::Key(key) => (&section.file, section.line, Some(key.to_owned())),
            Subject::Section => (&section.file, section.line, None),
        };
        let section = Some(section.name.clone());
        let warning = ConfigWarning { file: path(file), line: Some(line), section, key, problem, supervisor };
        if self.reported.insert(warning.to_string()) {
            self.warnings.push(warning);
        }
    }

    fn warn_of_suspicious_keys(&mut self) {
        let sections = self.sections;
        for section in sections {
            if let Some(problem) = keys::unknown_section(&section.name) {
                self.warn(section, Subject::Section, problem);
                continue;
            }
            for entry in section.entries.iter().filter(|entry| !entry.is_inherited) {
                if let Some(problem) = keys::suspicious(&section.name, entry) {
                    self.warn(section, Subject::Entry(entry), problem);
                }
            }
        }
    }

    /// Ends with what was found.
    pub(super) fn finish(self) -> Option<ConfigErrors> {
        ConfigErrors::new(self.errors)
    }
}

/// Takes user names and passwords of servers out of an error.
fn hide_secret(error: &mut ConfigError) {
    if !matches!(error.key.as_deref(), Some("username" | "password")) {
        return;
    }
    if let Some(value) = error.value.take() {
        for text in [&mut error.problem, &mut error.supervisor] {
            *text = text.replace(&repr(&value), "'(hidden)'");
        }
    }
}
