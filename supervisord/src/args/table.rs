//! The options of `supervisord`: one table from which the parser, the help text and the `clap` command (for the
//! man page and shell completions) are made.

use clap::builder::{PossibleValuesParser, ValueParser};

/// What an option is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    /// `-x`
    Short(char),
    /// `--word`
    Long(&'static str),
    /// `-x`, `--word`
    Both(char, &'static str),
}

/// What an option does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Id {
    /// Prints the help text.
    Help,
    /// Prints the version.
    Version,
    /// Names the configuration file.
    Configuration,
    /// Overrides a setting of `[supervisord]`.
    Setting(Setting),
    /// Accepted and checked, without effect.
    ProfileOptions,
    /// Validates the configuration and ends.
    Check,
    /// Counts warnings as errors.
    Strict,
    /// Prints the effective configuration.
    DumpConfig,
    /// Takes the place of a running daemon.
    TakeOver,
    /// How children are created.
    SpawnMethod,
    /// Answers whether this binary can take over from a running daemon.
    CheckHandover,
    /// Prints the man page.
    Man,
    /// Prints shell completions.
    Completions,
}

/// A setting of `[supervisord]` that the command line may override.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setting {
    /// `nodaemon`
    Nodaemon,
    /// `silent`
    Silent,
    /// `user`
    User,
    /// `umask`
    Umask,
    /// `directory`
    Directory,
    /// `logfile`
    Logfile,
    /// `logfile_maxbytes`
    LogfileMaxbytes,
    /// `logfile_backups`
    LogfileBackups,
    /// `loglevel`
    Loglevel,
    /// `pidfile`
    Pidfile,
    /// `identifier`
    Identifier,
    /// `childlogdir`
    Childlogdir,
    /// `nocleanup`
    Nocleanup,
    /// `minfds`
    Minfds,
    /// `minprocs`
    Minprocs,
    /// `strip_ansi`
    StripAnsi,
}

/// One option.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Opt {
    /// What it does.
    pub(super) id: Id,
    /// What it is called.
    pub(super) name: Name,
    /// The name of its argument in the help text; `None` for a flag.
    pub(super) argument: Option<&'static str>,
    /// Whether it may come without its argument: that is then part of the same word, behind `=`.
    pub(super) optional: bool,
    /// Whether Supervisor does not have it.
    pub(super) extension: bool,
    /// Whether the help text leaves it out.
    pub(super) hidden: bool,
    /// What the help text says.
    pub(super) help: &'static str,
}

/// An option of Supervisor.
const fn option(id: Id, name: Name, argument: Option<&'static str>, help: &'static str) -> Opt {
    Opt { id, name, argument, optional: false, extension: false, hidden: false, help }
}

/// An option that Supervisor does not have.
const fn extension(id: Id, name: &'static str, argument: Option<&'static str>, help: &'static str) -> Opt {
    Opt { extension: true, ..option(id, Name::Long(name), argument, help) }
}

/// The same, with or without its argument.
const fn optional(option: Opt) -> Opt {
    Opt { optional: true, ..option }
}

/// The same, left out of the help text.
const fn hidden(option: Opt) -> Opt {
    Opt { hidden: true, ..option }
}

/// A setting with a short and a long name.
const fn setting(
    setting: Setting,
    (short, long): (char, &'static str),
    argument: Option<&'static str>,
    help: &'static str,
) -> Opt {
    option(Id::Setting(setting), Name::Both(short, long), argument, help)
}

/// Every option, in the order of the help text.
pub(super) static OPTIONS: &[Opt] = &[
    option(
        Id::Configuration,
        Name::Both('c', "configuration"),
        Some("FILENAME"),
        "read this configuration file (default: the first of the usual places that exists)",
    ),
    setting(Setting::Nodaemon, ('n', "nodaemon"), None, "stay in the foreground (as nodaemon=true)"),
    setting(
        Setting::Silent,
        ('s', "silent"),
        None,
        "in the foreground, write no log to stdout (as silent=true)",
    ),
    option(Id::Help, Name::Both('h', "help"), None, "print this text and exit"),
    hidden(option(Id::Help, Name::Short('?'), None, "print the help text and exit")),
    option(
        Id::Version,
        Name::Both('v', "version"),
        None,
        "print the version of Supervisor that this replaces and exit",
    ),
    setting(Setting::User, ('u', "user"), Some("USER"), "become this user (name or number)"),
    setting(
        Setting::Umask,
        ('m', "umask"),
        Some("UMASK"),
        "file mode mask of the daemon, octal (default 022)",
    ),
    setting(Setting::Directory, ('d', "directory"), Some("DIRECTORY"), "working directory of the daemon"),
    setting(Setting::Logfile, ('l', "logfile"), Some("FILENAME"), "use FILENAME as logfile path"),
    setting(
        Setting::LogfileMaxbytes,
        ('y', "logfile_maxbytes"),
        Some("BYTES"),
        "rotate the logfile at this size (default 50MB, 0 = never)",
    ),
    setting(
        Setting::LogfileBackups,
        ('z', "logfile_backups"),
        Some("NUM"),
        "rotated logfiles to keep (default 10)",
    ),
    setting(
        Setting::Loglevel,
        ('e', "loglevel"),
        Some("LEVEL"),
        "log this and what is more important: critical, error, warn, info, debug, trace, blather (default info)",
    ),
    setting(
        Setting::Pidfile,
        ('j', "pidfile"),
        Some("FILENAME"),
        "write the process id of the daemon to FILENAME",
    ),
    setting(
        Setting::Identifier,
        ('i', "identifier"),
        Some("STR"),
        "name of this instance (default supervisor)",
    ),
    setting(
        Setting::Childlogdir,
        ('q', "childlogdir"),
        Some("DIRECTORY"),
        "directory of automatic program logs",
    ),
    setting(Setting::Nocleanup, ('k', "nocleanup"), None, "keep the automatic program logs of earlier runs"),
    setting(
        Setting::Minfds,
        ('a', "minfds"),
        Some("NUM"),
        "file descriptors that must be available (default 1024)",
    ),
    setting(
        Setting::StripAnsi,
        ('t', "strip_ansi"),
        None,
        "remove ANSI escape sequences from programs' logs",
    ),
    option(
        Id::Setting(Setting::Minprocs),
        Name::Long("minprocs"),
        Some("NUM"),
        "processes that must be available (default 200)",
    ),
    option(
        Id::ProfileOptions,
        Name::Long("profile_options"),
        Some("OPTIONS"),
        "accepted for compatibility, without effect",
    ),
    extension(Id::Check, "check", None, "validate the configuration, print every problem and exit"),
    extension(Id::Strict, "strict", None, "count warnings about the configuration as errors"),
    extension(Id::DumpConfig, "dump-config", Some("json"), "print the effective configuration and exit"),
    optional(extension(
        Id::TakeOver,
        "take-over",
        Some("SERVERURL"),
        "take the place of the supervisord that runs, or of the one at SERVERURL; its programs run on",
    )),
    hidden(extension(Id::SpawnMethod, "spawn-method", Some("METHOD"), "create children with clone or fork")),
    hidden(extension(
        Id::CheckHandover,
        "check-handover",
        Some("FORMAT"),
        "say whether the state on standard input can be taken over, and exit",
    )),
    hidden(extension(Id::Man, "man", None, "print the manual page and exit")),
    hidden(extension(
        Id::Completions,
        "completions",
        Some("SHELL"),
        "print completions for this shell and exit",
    )),
];

/// The help text for a program called `argv0`.
pub(super) fn help(argv0: &str) -> String {
    let mut text = format!(
        "supervisord -- run a set of applications as daemons.\n\nUsage: {argv0} [options]\n\nOptions:\n"
    );
    for option in OPTIONS.iter().filter(|option| !option.hidden) {
        let argument = match option.argument {
            Some(argument) if option.optional => format!("[={argument}]"),
            Some(argument) if option.extension => format!("={argument}"),
            Some(argument) => format!(" {argument}"),
            None => String::new(),
        };
        text.push_str(&format!("{}{argument} -- {}\n", option.name, option.help));
    }
    text.push_str(&format!(
        "\n--completions=SHELL (bash, zsh or fish) and --man print what a package installs.\n\
         This is version {} of a drop-in successor of Supervisor {}.\n",
        env!("CARGO_PKG_VERSION"),
        super::SUPERVISOR_VERSION,
    ));
    text
}

/// The same options as a `clap` command, for the manual page and completions only.
pub fn command() -> clap::Command {
    let command = clap::Command::new("supervisord")
        .about("run a set of applications as daemons")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_flag(true)
        .disable_version_flag(true);
    let visible = OPTIONS.iter().filter(|option| !option.hidden);
    visible.fold(command, |command, option| command.arg(argument(option)))
}

/// One option for `clap`.
fn argument(option: &'static Opt) -> clap::Arg {
    let id = match option.name {
        Name::Both(_, word) | Name::Long(word) => word,
        Name::Short(_) => "short",
    };
    let arg = clap::Arg::new(id).help(option.help);
    let arg = match option.name {
        Name::Both(short, long) => arg.short(short).long(long),
        Name::Long(long) => arg.long(long),
        Name::Short(short) => arg.short(short),
    };
    let Some(value) = option.argument else { return arg.action(clap::ArgAction::SetTrue) };
    let arg = arg.value_name(value).action(clap::ArgAction::Set);
    let arg = if option.optional { arg.num_args(0..=1).require_equals(true) } else { arg };
    match value {
        "FILENAME" => arg.value_hint(clap::ValueHint::FilePath),
        "DIRECTORY" => arg.value_hint(clap::ValueHint::DirPath),
        "USER" => arg.value_hint(clap::ValueHint::Username),
        "LEVEL" => {
            arg.value_parser(possible(&["critical", "error", "warn", "info", "debug", "trace", "blather"]))
        }
        "json" => arg.value_parser(possible(&["json"])),
        _ => arg,
    }
}

/// A parser of exactly these words.
fn possible(words: &'static [&'static str]) -> ValueParser {
    PossibleValuesParser::new(words).into()
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Short(short) => write!(f, "-{short}"),
            Self::Long(long) => write!(f, "--{long}"),
            Self::Both(short, long) => write!(f, "-{short}/--{long}"),
        }
    }
}
