//! The command line of `supervisord`: Supervisor's options, abbreviations and error texts, and a few of our own.
//!
//! Owns what the words of the command line mean. How they are split: `args/getopt.rs`; the options: `args/table.rs`;
//! what a value means: [`crate::config::parse`].

mod getopt;
mod table;

use std::path::PathBuf;

use crate::config::{
    DaemonLog,
    load::Overrides,
    parse::{self, Machine},
    python::{abspath, repr},
};
use crate::takeover::client::Server;
use table::{Id, Name, OPTIONS, Opt, Setting};

pub use table::command;

/// The version of Supervisor whose behaviour this program has; what `-v` prints, because tools read it.
pub const SUPERVISOR_VERSION: &str = "4.3.0";

/// What the meaning of a value depends on.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Users and directories.
    pub machine: &'a dyn Machine,
    /// Working directory, base of relative paths.
    pub cwd: &'a str,
}

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    /// Read the configuration, then do what [`Args::task`] says.
    Run(Box<Args>),
    /// Print this text on stdout and exit with 0.
    Print(String),
}

/// The options of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Args {
    /// The program's name as typed.
    pub argv0: String,
    /// The configuration file; `None` = the first of the usual places.
    pub configuration: Option<PathBuf>,
    /// Settings of `[supervisord]` given on the command line.
    pub overrides: Overrides,
    /// What to do with the configuration.
    pub task: Task,
    /// The format of the state that [`Task::CheckHandover`] is about, as given.
    pub handover_format: String,
    /// Whether warnings about the configuration are errors.
    pub strict: bool,
    /// The running daemon whose place is to be taken, if one's is.
    pub take_over: Option<TakeOver>,
    /// How children are created; `None` = as the kernel allows.
    pub spawn_method: Option<SpawnMethod>,
}

/// What to do with the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// Supervise.
    Supervise,
    /// Print every error and warning.
    Check,
    /// Print the effective configuration as JSON.
    DumpConfig,
    /// Say whether the state on standard input can be taken over.
    CheckHandover,
}

/// Whose place is to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TakeOver {
    /// That of the daemon which the configuration leads to.
    Configured,
    /// That of the daemon at this URL.
    At(String),
}

/// How children are created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpawnMethod {
    /// `clone` with shared memory.
    Clone,
    /// Plain `fork`.
    Fork,
}

/// A command line that cannot be obeyed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

impl UsageError {
    /// The two lines that Supervisor prints on stderr.
    pub fn report(&self, argv0: &str) -> String {
        report(&self.0, argv0)
    }
}

/// The two lines that Supervisor prints on stderr before it exits with status 2.
pub fn report(message: &str, argv0: &str) -> String {
    format!("Error: {message}\nFor help, use {argv0} -h\n")
}

/// Reads the command line: `argv0`, then `words`.
///
/// # Errors
/// Any text of Supervisor's for options that are unknown, incomplete, repeated or have a bad value.
pub fn parse(
    argv0: &str,
    words: &[String],
    surroundings: &Surroundings<'_>,
) -> Result<Invocation, UsageError> {
    let (found, rest) = getopt::split(OPTIONS, words).map_err(UsageError)?;
    if !rest.is_empty() {
        return Err(UsageError(format!("positional arguments are not supported: {}", python_list(rest))));
    }
    let mut seen = Vec::new();
    let mut args = Args::new(argv0);
    for option in found {
        if let Some(text) = page(&option, argv0)? {
            return Ok(Invocation::Print(text));
        }
        args.set(&option, surroundings)?;
        // Supervisor checks the value of an option before it notices that the option is a repetition.
        if seen.contains(&option.option.id) {
            return Err(UsageError(format!("conflicting command line option {}", repr(&option.spelling))));
        }
        seen.push(option.option.id);
    }
    Ok(Invocation::Run(Box::new(args)))
}

impl Args {
    /// A run without options.
    fn new(argv0: &str) -> Self {
        Self {
            argv0: argv0.to_owned(),
            configuration: None,
            overrides: Overrides::default(),
            task: Task::Supervise,
            handover_format: String::new(),
            strict: false,
            take_over: None,
            spawn_method: None,
        }
    }

    /// Obeys one option.
    fn set(&mut self, found: &getopt::Found<'_>, surroundings: &Surroundings<'_>) -> Result<(), UsageError> {
        match found.option.id {
            Id::Configuration => self.configuration = Some(PathBuf::from(found.text())),
            Id::Setting(setting) => self.override_setting(setting, found, surroundings)?,
            Id::Check => self.task = Task::Check,
            Id::Strict => self.strict = true,
            Id::DumpConfig => {
                one_of(found, &["json"])?;
                self.task = Task::DumpConfig;
            }
            Id::CheckHandover => {
                self.task = Task::CheckHandover;
                self.handover_format = found.text().to_owned();
            }
            Id::TakeOver => {
                self.take_over = Some(match found.value {
                    None => TakeOver::Configured,
                    Some(url) => {
                        // Only its form is looked at.
                        Server::new(url, None, None).map_err(|error| invalid(found, &error.to_string()))?;
                        TakeOver::At(url.to_owned())
                    }
                });
            }
            Id::SpawnMethod => {
                let method = one_of(found, &["clone", "fork"])?;
                self.spawn_method = Some(if method == 0 { SpawnMethod::Clone } else { SpawnMethod::Fork });
            }
            Id::ProfileOptions | Id::Help | Id::Version | Id::Man | Id::Completions => {}
        }
        Ok(())
    }

    /// Sets one setting of `[supervisord]`.
    fn override_setting(
        &mut self,
        setting: Setting,
        found: &getopt::Found<'_>,
        Surroundings { machine, cwd }: &Surroundings<'_>,
    ) -> Result<(), UsageError> {
        let over = &mut self.overrides;
        let (text, machine) = (found.text(), *machine);
        let invalid = |problem: String| invalid(found, &problem);
        let absolute = |path: String| PathBuf::from(abspath(cwd, &path));
        match setting {
            Setting::Nodaemon => over.nodaemon = Some(true),
            Setting::Silent => over.silent = Some(true),
            Setting::Nocleanup => over.nocleanup = Some(true),
            Setting::StripAnsi => over.strip_ansi = Some(true),
            // Supervisor looks the user up later, and then does not say which option it was.
            Setting::User => over.user = Some(parse::user(text, machine).map_err(UsageError)?),
            Setting::Umask => over.umask = Some(parse::octal(text).map_err(invalid)?),
            Setting::Directory => {
                over.directory = Some(parse::existing_directory(text, machine).map_err(invalid)?.into());
            }
            Setting::Logfile => {
                let path = parse::path_in_existing_directory(text, machine).map_err(invalid)?;
                over.logfile =
                    Some(if path == "syslog" { DaemonLog::Syslog } else { DaemonLog::File(absolute(path)) });
            }
            Setting::LogfileMaxbytes => {
                over.logfile_maxbytes = Some(parse::byte_size(text).map_err(invalid)?)
            }
            Setting::LogfileBackups => {
                let backups = parse::count(text).map_err(invalid)?;
                over.logfile_backups = Some(u32::try_from(backups).unwrap_or(u32::MAX));
            }
            Setting::Loglevel => over.loglevel = Some(parse::log_level(text).map_err(invalid)?),
            Setting::Pidfile => {
                over.pidfile =
                    Some(absolute(parse::path_in_existing_directory(text, machine).map_err(invalid)?));
            }
            Setting::Identifier => over.identifier = Some(text.to_owned()),
            Setting::Childlogdir => {
                over.childlogdir = Some(parse::existing_directory(text, machine).map_err(invalid)?.into());
            }
            Setting::Minfds => over.minfds = Some(parse::count(text).map_err(invalid)?),
            Setting::Minprocs => over.minprocs = Some(parse::count(text).map_err(invalid)?),
        }
        Ok(())
    }
}

/// The text of an option that prints something and ends the program as soon as it is met.
fn page(found: &getopt::Found<'_>, argv0: &str) -> Result<Option<String>, UsageError> {
    match found.option.id {
        Id::Help => Ok(Some(table::help(argv0))),
        Id::Version => Ok(Some(format!("{SUPERVISOR_VERSION}\n"))),
        Id::Man => Ok(Some(manual_page())),
        Id::Completions => completions(found).map(Some),
        Id::Configuration
        | Id::Setting(_)
        | Id::ProfileOptions
        | Id::Check
        | Id::Strict
        | Id::DumpConfig
        | Id::TakeOver
        | Id::SpawnMethod
        | Id::CheckHandover => Ok(None),
    }
}

/// The position of the value among `allowed`.
fn one_of(found: &getopt::Found<'_>, allowed: &[&str]) -> Result<usize, UsageError> {
    allowed
        .iter()
        .position(|word| *word == found.text())
        .ok_or_else(|| invalid(found, &format!("expected {}", allowed.join(" or "))))
}

/// Supervisor's words for a value that is not accepted.
fn invalid(found: &getopt::Found<'_>, problem: &str) -> UsageError {
    UsageError(format!("invalid value for {} {}: {problem}", found.spelling, repr(found.text())))
}

/// The manual page in roff.
fn manual_page() -> String {
    let mut page = Vec::new();
    clap_mangen::Man::new(command()).render(&mut page).expect("writing to memory does not fail");
    String::from_utf8_lossy(&page).into_owned()
}

/// Completions for the shell that the option names.
fn completions(found: &getopt::Found<'_>) -> Result<String, UsageError> {
    use clap_complete::Shell;
    let shells = [Shell::Bash, Shell::Zsh, Shell::Fish];
    let shell = one_of(found, &["bash", "zsh", "fish"])?;
    let mut script = Vec::new();
    clap_complete::generate(shells[shell], &mut command(), "supervisord", &mut script);
    Ok(String::from_utf8_lossy(&script).into_owned())
}

/// Python's `str(list)` of words.
fn python_list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| repr(word)).collect();
    format!("[{}]", words.join(", "))
}

#[cfg(test)]
#[path = "args/tests.rs"]
mod tests;
