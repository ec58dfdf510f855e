//! The command line: Supervisor's options, parsed by its rules, and the settings that follow from it and the file.
//!
//! Owns [`parse`] (words → [`Invocation`], pure) and [`settle`] (options and configuration file → [`Settings`]).
//! Supervisor's rules are those of the classical `getopt`, which clap cannot express (options end at the first other
//! word, the same option twice is an error, the words of an error): so the table below decides, and the clap
//! [`command`] beside it serves completions and the manual page; a test keeps them equal.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, ValueHint};
use clap_complete::Shell;
use supervisord::config::{Credentials, CtlConfig, error::ConfigErrors, load};

use crate::{help, render::Format};

/// What the command line asks for.
pub enum Invocation {
    /// Run a command, or the shell.
    Run(Box<Options>),
    /// Print this text, made for the program's name.
    Print(Box<dyn FnOnce(&str) -> String>),
}

/// The options as given; `None` = not given.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Options {
    /// `-c`
    pub configuration: Option<String>,
    /// `-i`
    pub interactive: bool,
    /// `-s`
    pub serverurl: Option<String>,
    /// `-u`
    pub username: Option<String>,
    /// `-p`
    pub password: Option<String>,
    /// `-r`
    pub history_file: Option<String>,
    /// `--format`
    pub format: Format,
    /// The other words, joined by one blank; `None` = there are none. An empty word is a command that does nothing, not
    /// the shell: a script with an empty variable must not wait for input.
    pub command: Option<String>,
}

/// What a run works with: options over configuration file over defaults.
pub struct Settings {
    /// `unix:///path` or `http://host:port`.
    pub serverurl: String,
    /// Presented to the daemon when both parts are known.
    pub credentials: Option<Credentials>,
    /// May questions be asked?
    pub interactive: bool,
    /// Form of the output.
    pub format: Format,
    /// Prompt of the shell, without its `> `.
    pub prompt: String,
    /// Where the shell keeps its history.
    pub history_file: Option<PathBuf>,
    /// The configuration file that was read.
    pub configuration: Option<PathBuf>,
    /// The one command to run; `None` = run the shell.
    pub command: Option<String>,
}

/// A mistake on the command line.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum UsageError {
    /// No such option.
    #[error("option {0} not recognized")]
    Unknown(String),
    /// An abbreviation that fits several options.
    #[error("option {0} not a unique prefix")]
    Ambiguous(String),
    /// A value is missing.
    #[error("option {0} requires argument")]
    NeedsValue(String),
    /// `--help=x`
    #[error("option {0} must not have an argument")]
    NoValue(String),
    /// The same option twice.
    #[error("conflicting command line option '{0}'")]
    Twice(String),
    /// A value of the wrong form.
    #[error("invalid value for {option} '{value}': {problem}")]
    Invalid {
        /// As it was written, `-s` or `--serverurl`.
        option: String,
        /// The value.
        value: String,
        /// What is wrong with it and what is allowed.
        problem: String,
    },
}

/// What an option is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opt {
    Configuration,
    Help,
    Interactive,
    Serverurl,
    Username,
    Password,
    HistoryFile,
    Version,
    Format,
    Completions,
    Man,
}

/// One row of the table of options.
struct Spec {
    opt: Opt,
    short: &'static [char],
    long: &'static str,
    /// Name of the value, if it takes one.
    value: Option<&'static str>,
    /// An addition to Supervisor's options must be written out, so that no abbreviation which works there becomes
    /// ambiguous here.
    addition: bool,
    hidden: bool,
    help: &'static str,
}

const OPTIONS: &[Spec] = &[
    Spec {
        opt: Opt::Configuration,
        short: &['c'],
        long: "configuration",
        value: Some("FILENAME"),
        addition: false,
        hidden: false,
        help: "Configuration file (searched for if not given)",
    },
    Spec {
        opt: Opt::Help,
        short: &['h', '?'],
        long: "help",
        value: None,
        addition: false,
        hidden: false,
        help: "Print the options and leave",
    },
    Spec {
        opt: Opt::Interactive,
        short: &['i'],
        long: "interactive",
        value: None,
        addition: false,
        hidden: false,
        help: "Ask before shutdown and reload, and for a password",
    },
    Spec {
        opt: Opt::Serverurl,
        short: &['s'],
        long: "serverurl",
        value: Some("URL"),
        addition: false,
        hidden: false,
        help: "Where supervisord listens: unix:///path or http://host:port",
    },
    Spec {
        opt: Opt::Username,
        short: &['u'],
        long: "username",
        value: Some("USERNAME"),
        addition: false,
        hidden: false,
        help: "User name for supervisord",
    },
    Spec {
        opt: Opt::Password,
        short: &['p'],
        long: "password",
        value: Some("PASSWORD"),
        addition: false,
        hidden: false,
        help: "Password for supervisord",
    },
    Spec {
        opt: Opt::HistoryFile,
        short: &['r'],
        long: "history_file",
        value: Some("FILENAME"),
        addition: false,
        hidden: false,
        help: "Keep the history of the shell in this file",
    },
    Spec {
        opt: Opt::Version,
        short: &['v'],
        long: "version",
        value: None,
        addition: true,
        hidden: false,
        help: "Print the version of this program and leave",
    },
    Spec {
        opt: Opt::Format,
        short: &[],
        long: "format",
        value: Some("FORMAT"),
        addition: true,
        hidden: false,
        help: "Form of the output: text or json; also allowed after the action",
    },
    Spec {
        opt: Opt::Completions,
        short: &[],
        long: "completions",
        value: Some("SHELL"),
        addition: true,
        hidden: true,
        help: "Print a completion script for bash, zsh or fish",
    },
    Spec {
        opt: Opt::Man,
        short: &[],
        long: "man",
        value: None,
        addition: true,
        hidden: true,
        help: "Print the manual page",
    },
];

/// An option of the command line: its row, the way it was written, its value.
struct Given {
    spec: &'static Spec,
    written: String,
    value: String,
}

/// Understands the words after the program's name.
///
/// # Errors
/// The first mistake, in Supervisor's words.
pub fn parse(words: &[String]) -> Result<Invocation, UsageError> {
    let (given, rest) = split(words)?;
    let mut options = Options { command: (!rest.is_empty()).then(|| rest.join(" ")), ..Options::default() };
    let mut seen = Vec::new();
    for Given { spec, written, value } in given {
        if seen.contains(&spec.opt) {
            return Err(UsageError::Twice(written));
        }
        seen.push(spec.opt);
        match spec.opt {
            Opt::Configuration => options.configuration = Some(value),
            Opt::Interactive => options.interactive = true,
            Opt::Serverurl => options.serverurl = Some(checked_url(written, value)?),
            Opt::Username => options.username = Some(value),
            Opt::Password => options.password = Some(value),
            Opt::HistoryFile => options.history_file = Some(value),
            Opt::Format => options.format = checked_format(written, value)?,
            Opt::Help => return Ok(Invocation::Print(Box::new(help::usage))),
            Opt::Version => return Ok(print_always(concat!(env!("CARGO_PKG_VERSION"), "\n").to_owned())),
            Opt::Man => return Ok(print_always(manual())),
            Opt::Completions => return Ok(print_always(completions(written, &value)?)),
        }
    }
    Ok(Invocation::Run(Box::new(options)))
}

/// Completes `options` from the configuration file, if there is one.
///
/// # Errors
/// What is wrong with the file, in Supervisor's words where it has some.
pub fn settle(options: Options, program: &str) -> Result<Settings, String> {
    let configuration = options.configuration.map(PathBuf::from).or_else(|| load::search(program).ok());
    let file = match &configuration {
        Some(path) => load::load_ctl(path).map_err(|errors| explain(&errors))?,
        None => CtlConfig::default(),
    };
    let credentials = options.username.or(file.username).zip(options.password.or(file.password));
    Ok(Settings {
        serverurl: options.serverurl.unwrap_or(file.serverurl),
        credentials: credentials.map(|(username, password)| Credentials { username, password }),
        interactive: options.interactive || options.command.is_none(),
        format: options.format,
        prompt: file.prompt,
        history_file: options.history_file.map(PathBuf::from).or(file.history_file),
        configuration,
        command: options.command,
    })
}

/// Supervisor's words about a file as a whole; else each mistake with its place, where Supervisor has a traceback.
fn explain(errors: &ConfigErrors) -> String {
    match errors.all() {
        [error] if error.line.is_none() => errors.first_like_supervisor(),
        _several => errors.to_string(),
    }
}

/// Separates options from the other words by the rules of the classical `getopt`.
fn split(words: &[String]) -> Result<(Vec<Given>, &[String]), UsageError> {
    let mut given = Vec::new();
    let mut at = 0;
    while let Some(word) = words.get(at) {
        if word == "-" || !word.starts_with('-') {
            break;
        }
        at += 1;
        if word == "--" {
            break;
        }
        at += match word.strip_prefix("--") {
            Some(long) => take_long(long, words.get(at), &mut given)?,
            None => take_shorts(&word[1..], words.get(at), &mut given)?,
        };
    }
    Ok((given, &words[at..]))
}

/// Takes `--name`, `--name=value` or an abbreviation; tells how many of the next words it used.
fn take_long(text: &str, next: Option<&String>, given: &mut Vec<Given>) -> Result<usize, UsageError> {
    let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
    let spec = find_long(name)?;
    let written = format!("--{}", spec.long);
    let (value, used) = match (spec.value, value, next) {
        (None, None, _) => (String::new(), 0),
        (None, Some(_), _) => return Err(UsageError::NoValue(written)),
        (Some(_), Some(value), _) => (value.to_owned(), 0),
        (Some(_), None, Some(next)) => (next.clone(), 1),
        (Some(_), None, None) => return Err(UsageError::NeedsValue(written)),
    };
    given.push(Given { spec, written, value });
    Ok(used)
}

/// The option called `name` or, among Supervisor's, the only one that begins so.
fn find_long(name: &str) -> Result<&'static Spec, UsageError> {
    if let Some(spec) = OPTIONS.iter().find(|spec| spec.long == name) {
        return Ok(spec);
    }
    let mut fitting = OPTIONS.iter().filter(|spec| !spec.addition && spec.long.starts_with(name));
    match (fitting.next(), fitting.next()) {
        (None, _) => Err(UsageError::Unknown(format!("--{name}"))),
        (Some(spec), None) => Ok(spec),
        (Some(_), Some(_)) => Err(UsageError::Ambiguous(format!("--{name}"))),
    }
}

/// Takes `-i`, `-ih`, `-cfile` or `-c file`; tells how many of the next words it used.
fn take_shorts(text: &str, next: Option<&String>, given: &mut Vec<Given>) -> Result<usize, UsageError> {
    for (at, letter) in text.char_indices() {
        let written = format!("-{letter}");
        let Some(spec) = OPTIONS.iter().find(|spec| spec.short.contains(&letter)) else {
            return Err(UsageError::Unknown(written));
        };
        if spec.value.is_none() {
            given.push(Given { spec, written, value: String::new() });
            continue;
        }
        let attached = &text[at + letter.len_utf8()..];
        let (value, used) = match (attached, next) {
            ("", Some(next)) => (next.clone(), 1),
            ("", None) => return Err(UsageError::NeedsValue(written)),
            (attached, _) => (attached.to_owned(), 0),
        };
        given.push(Given { spec, written, value });
        return Ok(used);
    }
    Ok(0)
}

/// A URL has a scheme and something behind it; whether we can speak to it shows when we connect.
fn checked_url(option: String, value: String) -> Result<String, UsageError> {
    let is_scheme = |scheme: &str| {
        scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme.chars().all(|letter| letter.is_ascii_alphanumeric() || "+-.".contains(letter))
    };
    match value.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) && !rest.is_empty() && rest != "//" => Ok(value),
        _ => {
            let problem = format!("value '{value}' is not a URL");
            Err(UsageError::Invalid { option, value, problem })
        }
    }
}

/// `text` or `json`.
fn checked_format(option: String, value: String) -> Result<Format, UsageError> {
    Format::from_name(&value).ok_or_else(|| {
        let problem = "expected text or json".to_owned();
        UsageError::Invalid { option, value, problem }
    })
}

/// The same text whatever the program is called.
fn print_always(text: String) -> Invocation {
    Invocation::Print(Box::new(|_program| text))
}

/// The options as a clap command.
pub fn command() -> Command {
    let mut command = Command::new("supervisorctl")
        .about("Controls the programs run by supervisord")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_flag(true)
        .disable_version_flag(true)
        .after_help(help::ACTIONS);
    for spec in OPTIONS {
        let mut arg = Arg::new(spec.long).long(spec.long).help(spec.help).hide(spec.hidden);
        if let Some((first, others)) = spec.short.split_first() {
            arg = arg.short(*first).short_aliases(others.iter().copied());
        }
        arg = match spec.value {
            Some(name) => arg.value_name(name).action(ArgAction::Set),
            None => arg.action(ArgAction::SetTrue),
        };
        arg = match spec.opt {
            Opt::Configuration | Opt::HistoryFile => arg.value_hint(ValueHint::FilePath),
            Opt::Serverurl => arg.value_hint(ValueHint::Url),
            Opt::Format => arg.value_parser(["text", "json"]),
            Opt::Completions => arg.value_parser(["bash", "zsh", "fish"]),
            Opt::Help | Opt::Interactive | Opt::Username | Opt::Password | Opt::Version | Opt::Man => arg,
        };
        command = command.arg(arg);
    }
    let verbs: Vec<&str> = crate::commands::Verb::ALL.iter().map(|verb| verb.name()).collect();
    command
        .arg(
            Arg::new("action").help("What to do; see ACTIONS").value_parser(verbs).hide_possible_values(true),
        )
        .arg(Arg::new("arguments").help("What to do it with").num_args(0..).trailing_var_arg(true))
}

/// The completion script for one shell.
fn completions(option: String, shell: &str) -> Result<String, UsageError> {
    let shell = match shell {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        other => {
            let (value, problem) = (other.to_owned(), "expected bash, zsh or fish".to_owned());
            return Err(UsageError::Invalid { option, value, problem });
        }
    };
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut command(), "supervisorctl", &mut text);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The manual page, as roff.
fn manual() -> String {
    let mut text = Vec::new();
    clap_mangen::Man::new(command()).render(&mut text).expect("writing into memory does not fail");
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(line: &str) -> Result<Options, UsageError> {
        let words: Vec<String> = line.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        match parse(&words)? {
            Invocation::Run(options) => Ok(*options),
            Invocation::Print(_) => {
                Ok(Options { command: Some("(printed)".to_owned()), ..Options::default() })
            }
        }
    }

    #[test]
    fn options_end_at_the_first_other_word() {
        let parsed = options("-c a.conf -i status -c x --help").unwrap();
        assert_eq!(parsed.configuration.as_deref(), Some("a.conf"));
        assert_eq!((parsed.interactive, parsed.command.as_deref()), (true, Some("status -c x --help")));
        assert_eq!(options("-i -- -x y").unwrap().command.as_deref(), Some("-x y"));
        assert_eq!(options("- y").unwrap().command.as_deref(), Some("- y"));
        assert_eq!(options("-i").unwrap().command, None);
        let Ok(Invocation::Run(empty)) = parse(&[String::new()]) else { panic!("it is a command") };
        assert_eq!(empty.command.as_deref(), Some(""), "an empty word is not the shell");
    }

    #[test]
    fn values_follow_or_are_attached_and_long_names_may_be_abbreviated() {
        for line in ["-sunix:///x", "-s unix:///x", "--serverurl=unix:///x", "--se unix:///x", "-isunix:///x"]
        {
            assert_eq!(options(line).unwrap().serverurl.as_deref(), Some("unix:///x"), "{line}");
        }
        assert_eq!(options("--p secret --u=me").unwrap().password.as_deref(), Some("secret"));
        assert_eq!(options("--co x").unwrap().configuration.as_deref(), Some("x"));
        assert_eq!(options("--hi x").unwrap().history_file.as_deref(), Some("x"));
    }

    #[test]
    fn additions_are_not_abbreviated() {
        assert_eq!(options("--vers"), Err(UsageError::Unknown("--vers".to_owned())));
        assert_eq!(options("--form json"), Err(UsageError::Unknown("--form".to_owned())));
        assert_eq!(options("--format json status").unwrap().format, Format::Json);
    }

    #[test]
    fn help_counts_where_it_stands() {
        assert_eq!(options("-h -i").unwrap().command.as_deref(), Some("(printed)"));
        assert_eq!(options("-h -x"), Err(UsageError::Unknown("-x".to_owned())));
        assert_eq!(options("-i -i -h"), Err(UsageError::Twice("-i".to_owned())));
    }

    #[test]
    fn a_url_has_a_scheme_and_something_behind_it() {
        for (url, is_good) in [
            ("http://localhost:9001", true),
            ("unix:///x", true),
            ("localhost:9001", true),
            ("foo", false),
            ("http:", false),
            ("http://", false),
            ("", false),
        ] {
            assert_eq!(checked_url("-s".to_owned(), url.to_owned()).is_ok(), is_good, "{url:?}");
        }
    }

    #[test]
    fn the_clap_command_knows_every_option() {
        let command = command();
        command.clone().debug_assert();
        for spec in OPTIONS {
            let arg = command.get_arguments().find(|arg| arg.get_long() == Some(spec.long)).unwrap();
            assert_eq!(arg.get_short(), spec.short.first().copied(), "{}", spec.long);
            assert_eq!(arg.get_action().takes_values(), spec.value.is_some(), "{}", spec.long);
        }
    }

    #[test]
    fn the_help_text_names_every_option() {
        let text = help::usage("supervisorctl");
        for spec in OPTIONS {
            assert!(text.contains(&format!("--{} ", spec.long)), "{}", spec.long);
        }
    }
}
