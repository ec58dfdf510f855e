//! Finds and reads configuration files: the only input and output of the configuration.
//!
//! Everything that the result depends on besides the files comes in [`Inputs`], so that a later reading of the same
//! files cannot differ by accident.

use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    str::Utf8Error,
};

use nix::{
    fcntl::OFlag,
    unistd::{Gid, Group, Uid, User as SystemUser},
};

pub use super::daemon::Overrides;
use super::{
    Config, CtlConfig, User, ctl,
    error::{ConfigError, ConfigErrors, ConfigWarning},
    evaluation::{self, Surroundings},
    expand::{self, Names, Value},
    ini::{Reader, Section, SyntaxError},
    parse::Machine,
    python::{abspath, dirname, join},
};

/// What a configuration depends on besides its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inputs {
    /// Variables for `%(ENV_x)s`.
    pub environment: BTreeMap<String, String>,
    /// Working directory, base of relative paths.
    pub cwd: PathBuf,
    /// Name of this host: `%(host_node_name)s`.
    pub host_node_name: String,
    /// Default of `childlogdir`.
    pub temporary_directory: PathBuf,
}

impl Inputs {
    /// Those of this process, now. Variables that are not UTF-8 cannot be named in a configuration and are left out.
    ///
    /// # Errors
    /// When the working directory is gone.
    pub fn of_this_process() -> io::Result<Self> {
        let text = |text: std::ffi::OsString| text.into_string().ok();
        let environment: BTreeMap<_, _> =
            std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect();
        let cwd = std::env::current_dir()?;
        let host_node_name = nix::unistd::gethostname()?.to_string_lossy().into_owned();
        let temporary_directory = temporary_directory(&environment, &cwd);
        Ok(Self { environment, cwd, host_node_name, temporary_directory })
    }
}

/// The first directory that exists, as Python chooses it.
fn temporary_directory(environment: &BTreeMap<String, String>, cwd: &Path) -> PathBuf {
    let named =
        ["TMPDIR", "TEMP", "TMP"].iter().filter_map(|name| environment.get(*name)).map(String::as_str);
    let usual = ["/tmp", "/var/tmp", "/usr/tmp"];
    let candidates = named.filter(|path| !path.is_empty()).chain(usual).map(|path| cwd.join(path));
    candidates.into_iter().find(|path| path.is_dir()).unwrap_or_else(|| cwd.to_owned())
}

/// A configuration that can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// The settings, command line included.
    pub config: Config,
    /// What is doubtful.
    pub warnings: Vec<ConfigWarning>,
    /// The files that `[include]` names, in the order of reading.
    pub included: Vec<PathBuf>,
    /// Absolute path of the main file, for a later reading from another working directory.
    pub path: PathBuf,
    /// What the result depends on besides the files.
    pub inputs: Inputs,
}

/// No configuration file is at a default place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "No config file found at default paths ({}); use the -c option to specify a config file at a different path",
    .0.join(", ")
)]
pub struct NoConfigFile(pub Vec<String>);

/// Looks for a configuration file at Supervisor's default places; `argv0` is the name that this program was called by.
///
/// # Errors
/// [`NoConfigFile`], which lists the places.
pub fn search(argv0: &str) -> Result<PathBuf, NoConfigFile> {
    let paths = search_paths(argv0);
    match paths.iter().find(|path| Path::new(path).exists()) {
        Some(path) => Ok(PathBuf::from(path)),
        None => Err(NoConfigFile(paths)),
    }
}

/// The default places of a configuration file, best first.
pub fn search_paths(argv0: &str) -> Vec<String> {
    let prefix = dirname(dirname(argv0));
    let mut paths = vec![join(prefix, "etc/supervisord.conf"), join(prefix, "supervisord.conf")];
    paths.extend(DEFAULT_PATHS.map(str::to_owned));
    paths
}

/// Reads the daemon's configuration from `path` and the files it includes.
///
/// # Errors
/// [`ConfigErrors`] with every mistake in all of the files.
pub fn load(path: &Path, inputs: &Inputs, overrides: &Overrides) -> Result<Loaded, ConfigErrors> {
    load_for(path, inputs, overrides, &ThisMachine::new(inputs))
}

/// As [`load`], by a daemon that has other things to do: waits for nobody who may write into a FIFO or type on a terminal.
///
/// # Errors
/// As [`load`].
pub fn load_again(path: &Path, inputs: &Inputs, overrides: &Overrides) -> Result<Loaded, ConfigErrors> {
    let main = path.to_string_lossy();
    match fs::metadata(inputs.cwd.join(path)) {
        Ok(found) if !may_wait(&found) => load(path, inputs, overrides),
        Ok(_) => Err(unreadable_main(&main, &not_a_file())),
        // It says why not.
        Err(_) => load(path, inputs, overrides),
    }
}

/// As [`load`], for a machine with other users and directories.
///
/// # Errors
/// As [`load`].
pub fn load_for(
    path: &Path,
    inputs: &Inputs,
    overrides: &Overrides,
    machine: &dyn Machine,
) -> Result<Loaded, ConfigErrors> {
    let files = Files::read(path, inputs, Reader::default(), |_| true)?;
    let environment: Vec<_> = inputs.environment.clone().into_iter().collect();
    let around = files.surroundings(inputs, &environment, machine);
    let (mut config, warnings) = evaluation::evaluate(&files.sections, &around, overrides.overridden())?;
    overrides.apply(&mut config.daemon);
    let mut all = files.warnings;
    all.extend(warnings);
    let path = PathBuf::from(abspath(&files.cwd, &files.main));
    let included = files.included.iter().map(PathBuf::from).collect();
    Ok(Loaded { config, warnings: all, included, path, inputs: inputs.clone() })
}

/// Reads `[supervisorctl]` from `path` or, where that has none, from the files it includes.
///
/// Like Supervisor, it does not look at included files as long as it need not: they may depend on variables or be
/// protected by modes which the user of the daemon has and the user of `supervisorctl` has not.
///
/// # Errors
/// [`ConfigErrors`] with every mistake that concerns it.
pub fn load_ctl(path: &Path) -> Result<CtlConfig, ConfigErrors> {
    let inputs = Inputs::of_this_process().map_err(|error| {
        let problem = format!("the working directory cannot be determined: {error}");
        ConfigErrors::of_file(path, problem.clone(), problem)
    })?;
    // Of hundreds of programs, nothing else is of interest here.
    let reader = Reader::only(&["supervisorctl", "ctlplugin:", "include"]);
    let files = Files::read(path, &inputs, reader, |main| !main.contains("supervisorctl"))?;
    let environment: Vec<_> = inputs.environment.clone().into_iter().collect();
    ctl::evaluate(&files.sections, &files.surroundings(&inputs, &environment, &ThisMachine::new(&inputs)))
}

/// The text of all files, taken apart.
struct Files {
    /// The main file as named by the user.
    main: String,
    cwd: String,
    here: String,
    temporary_directory: String,
    sections: Vec<Section>,
    included: Vec<String>,
    warnings: Vec<ConfigWarning>,
}

impl Files {
    /// Reads the main file, and what it includes if that is wanted in view of its own sections.
    fn read(
        path: &Path,
        inputs: &Inputs,
        mut reader: Reader,
        wants_included: fn(&Reader) -> bool,
    ) -> Result<Self, ConfigErrors> {
        let main = path.to_string_lossy().into_owned();
        let cwd = inputs.cwd.to_string_lossy().into_owned();
        let temporary_directory = inputs.temporary_directory.to_string_lossy().into_owned();
        let here = abspath(&cwd, dirname(&main));
        let mut errors = Vec::new();
        let text = main_text(&main, &inputs.cwd)?;
        if let Err(error) = reader.read(&main, &text) {
            errors.extend(syntax_errors(&main, &error));
        }
        let (included, warnings) = (Vec::new(), Vec::new());
        let mut files =
            Self { main, cwd, here, temporary_directory, sections: Vec::new(), included, warnings };
        if wants_included(&reader) {
            files.include(&mut reader, inputs, &mut errors)?;
        }
        if let Some(errors) = ConfigErrors::new(errors) {
            return Err(errors);
        }
        files.sections = sections(&reader, &files.main)?;
        Ok(files)
    }

    fn surroundings<'a>(
        &'a self,
        inputs: &'a Inputs,
        environment: &'a [(String, String)],
        machine: &'a dyn Machine,
    ) -> Surroundings<'a> {
        Surroundings {
            file: &self.main,
            here: &self.here,
            cwd: &self.cwd,
            host_node_name: &inputs.host_node_name,
            temporary_directory: &self.temporary_directory,
            environment,
            machine,
        }
    }

    /// Reads what `[include] files` names.
    fn include(
        &mut self,
        reader: &mut Reader,
        inputs: &Inputs,
        errors: &mut Vec<ConfigError>,
    ) -> Result<(), ConfigErrors> {
        if !reader.contains("include") {
            return Ok(());
        }
        reader.expand_here(&self.here);
        let sections = sections(reader, &self.main)?;
        let Some(section) = sections.iter().find(|section| section.name == "include") else { return Ok(()) };
        let patterns = match include_patterns(section, &self.here, inputs) {
            Ok(patterns) => patterns,
            Err(error) => {
                errors.push(*error);
                return Ok(());
            }
        };
        for pattern in patterns {
            let pattern = join(&self.here, &pattern);
            let matches = matches(&pattern);
            if matches.is_empty() {
                let problem = format!("No file matches via include \"{pattern}\"");
                self.warn(section, problem.clone(), Some(problem));
            }
            for file in matches {
                self.include_one(reader, &file, section, errors);
            }
        }
        Ok(())
    }

    fn include_one(
        &mut self,
        reader: &mut Reader,
        file: &str,
        section: &Section,
        errors: &mut Vec<ConfigError>,
    ) {
        self.included.push(file.to_owned());
        match open_included(Path::new(file)).map_err(ReadError::Io).and_then(read_bounded) {
            Ok(text) => {
                if let Err(error) = reader.read(file, &text) {
                    errors.extend(syntax_errors(file, &error));
                }
                reader.expand_here(&abspath(&self.cwd, dirname(file)));
            }
            // Supervisor skips what it cannot open without a word.
            Err(ReadError::Io(error)) => {
                self.warn(section, format!("{file:?} matches but cannot be read, skipped: {error}"), None);
            }
            Err(error @ (ReadError::TooBig | ReadError::Encoding(_))) => {
                errors.push(error.into_config_error(file))
            }
        }
    }

    fn warn(&mut self, section: &Section, problem: String, supervisor: Option<String>) {
        let entry = section.get("files");
        let file = entry.map_or(&section.file, |entry| &entry.file);
        self.warnings.push(ConfigWarning {
            file: PathBuf::from(&**file),
            line: Some(entry.map_or(section.line, |entry| entry.line)),
            section: Some(section.name.clone()),
            key: Some("files".to_owned()),
            problem,
            supervisor,
        });
    }
}

fn sections(reader: &Reader, main: &str) -> Result<Vec<Section>, ConfigErrors> {
    reader.sections().map_err(|error| ConfigErrors::of_file(main, error.to_string(), error.to_string()))
}

fn main_text(main: &str, cwd: &Path) -> Result<String, ConfigErrors> {
    let path = cwd.join(main);
    if !path.exists() {
        let problem = format!("could not find config file {main}");
        return Err(ConfigErrors::of_file(main, problem.clone(), problem));
    }
    let file = File::open(&path).map_err(|error| unreadable_main(main, &error))?;
    read_bounded(file).map_err(|error| match error {
        ReadError::Io(error) => unreadable_main(main, &error),
        error @ (ReadError::TooBig | ReadError::Encoding(_)) => {
            let error = error.into_config_error(main);
            ConfigErrors::of_file(main, error.problem, error.supervisor)
        }
    })
}

fn unreadable_main(main: &str, error: &io::Error) -> ConfigErrors {
    ConfigErrors::of_file(
        main,
        format!("cannot be read: {error}"),
        format!("could not read config file {main}"),
    )
}

/// The values of `[include] files`, one by one.
fn include_patterns(section: &Section, here: &str, inputs: &Inputs) -> Result<Vec<String>, Box<ConfigError>> {
    let error = |line, key: Option<&str>, value: Option<&str>, problem: String| {
        Box::new(ConfigError {
            file: PathBuf::from(&*section.file),
            line: Some(line),
            section: Some(section.name.clone()),
            key: key.map(str::to_owned),
            value: value.map(str::to_owned),
            problem: problem.clone(),
            supervisor: problem,
        })
    };
    let Some(entry) = section.get("files") else {
        let problem = ".ini file has [include] section, but no files setting".to_owned();
        return Err(error(section.line, None, None, problem));
    };
    let mut names: Names = inputs
        .environment
        .iter()
        .map(|(name, value)| (format!("ENV_{name}"), Value::Text(value.clone())))
        .collect();
    names.insert("here".to_owned(), Value::Text(here.to_owned()));
    names.insert("host_node_name".to_owned(), Value::Text(inputs.host_node_name.clone()));
    match expand::expand(&entry.value, &[&names], "include.files") {
        Ok(text) => Ok(text.split_whitespace().map(str::to_owned).collect()),
        Err(problem) => Err(error(entry.line, Some("files"), Some(&entry.value), problem)),
    }
}

/// Files that match a pattern like Python's `glob.glob`, sorted.
fn matches(pattern: &str) -> Vec<String> {
    let options = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let found = glob::glob_with(&glob_pattern(pattern), options);
    let paths = found.map(|paths| paths.filter_map(Result::ok).collect::<Vec<_>>()).unwrap_or_default();
    let mut paths: Vec<String> = paths.iter().map(|path| path.to_string_lossy().into_owned()).collect();
    paths.sort();
    paths
}

/// The pattern in the dialect of crate `glob`, where `**` and an open bracket have a meaning that Python's lack.
fn glob_pattern(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    for (at, c) in pattern.char_indices() {
        match c {
            '*' if out.ends_with('*') => {}
            '[' if !has_closing_bracket(&pattern[at + 1..]) => out.push_str("[[]"),
            c => out.push(c),
        }
    }
    out
}

/// Whether a class that was opened before `rest` is closed within its path component.
fn has_closing_bracket(rest: &str) -> bool {
    let rest = rest.strip_prefix('!').unwrap_or(rest);
    let component = rest.split('/').next().unwrap_or(rest);
    // A bracket in the first place is a member of the class.
    component.char_indices().any(|(at, c)| c == ']' && at > 0)
}

/// Why the text of a file is not available.
#[derive(Debug)]
enum ReadError {
    Io(io::Error),
    TooBig,
    /// Position of the first bad byte, and Python's description of it.
    Encoding(String),
}

impl ReadError {
    fn into_config_error(self, file: &str) -> ConfigError {
        let problem = match self {
            Self::Io(error) => format!("cannot be read: {error}"),
            Self::TooBig => {
                format!("larger than the {} MiB that a configuration file may have", FILE_MAX >> 20)
            }
            Self::Encoding(problem) => problem,
        };
        ConfigError {
            file: PathBuf::from(file),
            line: None,
            section: None,
            key: None,
            value: None,
            problem: problem.clone(),
            supervisor: problem,
        }
    }
}

/// Opens what a pattern has found: any file of a directory, perhaps a FIFO that nobody writes to.
fn open_included(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)?;
    if may_wait(&file.metadata()?) { Err(not_a_file()) } else { Ok(file) }
}

/// Whether reading may take as long as somebody else likes: a FIFO, a terminal. A directory says at once that it is one.
fn may_wait(found: &Metadata) -> bool {
    !found.is_file() && !found.is_dir()
}

fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")
}

fn read_bounded(file: File) -> Result<String, ReadError> {
    let mut bytes = Vec::new();
    file.take(FILE_MAX + 1).read_to_end(&mut bytes).map_err(ReadError::Io)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_MAX) {
        return Err(ReadError::TooBig);
    }
    String::from_utf8(bytes)
        .map_err(|error| ReadError::Encoding(encoding_problem(error.as_bytes(), error.utf8_error())))
}

/// Python's message for bytes that are not UTF-8.
fn encoding_problem(bytes: &[u8], error: Utf8Error) -> String {
    let start = error.valid_up_to();
    let (length, reason) = match error.error_len() {
        None => (bytes.len() - start, "unexpected end of data"),
        Some(length) if !matches!(bytes[start], 0xc2..=0xf4) => (length, "invalid start byte"),
        Some(length) => (length, "invalid continuation byte"),
    };
    if length == 1 {
        format!("'utf-8' codec can't decode byte 0x{:02x} in position {start}: {reason}", bytes[start])
    } else {
        format!("'utf-8' codec can't decode bytes in position {start}-{}: {reason}", start + length - 1)
    }
}

/// One error per bad line; each carries Supervisor's message about the whole file.
fn syntax_errors(file: &str, error: &SyntaxError) -> Vec<ConfigError> {
    let one = |line: u32, text: &str, problem: &str| ConfigError {
        file: PathBuf::from(file),
        line: Some(line),
        section: None,
        key: None,
        value: None,
        problem: format!("{problem}: {:?}", text.trim_end()),
        supervisor: error.to_string(),
    };
    match error {
        SyntaxError::NoSectionHeader { line, text, .. } => {
            vec![one(*line, text, "expected a section such as [supervisord] first")]
        }
        SyntaxError::BadLines { lines, .. } => {
            lines.iter().map(|(line, text)| one(*line, text, "expected a key and =, or a section")).collect()
        }
    }
}

/// The machine that this program runs on.
#[derive(Debug, Clone, Copy)]
pub struct ThisMachine<'a> {
    /// `HOME` of the environment that the configuration is read with.
    home: Option<&'a str>,
}

impl<'a> ThisMachine<'a> {
    /// The machine, with the home directory that `inputs` names.
    pub fn new(inputs: &'a Inputs) -> Self {
        Self { home: inputs.environment.get("HOME").map(String::as_str) }
    }
}

fn user(found: nix::Result<Option<SystemUser>>) -> Option<User> {
    let found = found.ok().flatten()?;
    Some(User { name: found.name, uid: found.uid.as_raw(), gid: found.gid.as_raw() })
}

impl Machine for ThisMachine<'_> {
    fn user_by_name(&self, name: &str) -> Option<User> {
        user(SystemUser::from_name(name))
    }

    fn user_by_id(&self, uid: u32) -> Option<User> {
        user(SystemUser::from_uid(Uid::from_raw(uid)))
    }

    fn group_by_name(&self, name: &str) -> Option<u32> {
        Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
    }

    fn has_group(&self, gid: u32) -> bool {
        Group::from_gid(Gid::from_raw(gid)).is_ok_and(|group| group.is_some())
    }

    fn home(&self, name: Option<&str>) -> Option<String> {
        let found = match name {
            Some(name) => SystemUser::from_name(name),
            None => match self.home {
                Some(home) => return Some(home.to_owned()),
                None => SystemUser::from_uid(Uid::current()),
            },
        };
        found.ok().flatten().map(|user| user.dir.to_string_lossy().into_owned())
    }

    fn is_directory(&self, path: &str) -> bool {
        Path::new(path).is_dir()
    }

    fn own_uid(&self) -> u32 {
        Uid::current().as_raw()
    }
}

/// A configuration file holds kilobytes: more than this is some other file.
const FILE_MAX: u64 = 16 << 20;

const DEFAULT_PATHS: [&str; 4] =
    ["supervisord.conf", "etc/supervisord.conf", "/etc/supervisord.conf", "/etc/supervisor/supervisord.conf"];

#[cfg(test)]
#[path = "load/tests.rs"]
mod tests;
