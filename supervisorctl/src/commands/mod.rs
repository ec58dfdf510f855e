//! The commands: their names, how a line becomes one, and what they have in common.
//!
//! Each verb has its file; this one owns the table of verbs and the way a failure is told.

mod add;
mod avail;
mod clear;
mod events;
mod fg;
mod help;
mod maintail;
mod open;
mod operate;
mod pid;
mod quit;
mod reload;
mod remove;
mod reopen;
mod reread;
mod restart;
mod shutdown;
mod signal;
mod start;
mod status;
mod stop;
mod tail;
mod update;
mod upgrade;
mod version;
mod watch;

use supervisord::config::Credentials;

use crate::{
    client::Failure,
    render::{Format, Item as _, Plain, exit, failure},
    session::Session,
};

/// Whether the shell goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// With the next line.
    Continue,
    /// Not at all.
    Quit,
}

/// Defines [`Verb`] and what depends on its names alone.
macro_rules! verbs {
    ($($variant:ident $name:literal),* $(,)?) => {
        /// The first word of a command.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each is the command of its name, see `help`")]
        pub enum Verb { $($variant),* }

        impl Verb {
            /// All verbs that can be typed and explained, in alphabetical order.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// What is typed.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }
        }
    };
}

verbs! {
    Eof "EOF", Add "add", Avail "avail", Clear "clear", Events "events", Exit "exit", Fg "fg", Help "help", Maintail "maintail",
    Open "open", Pid "pid", Quit "quit", Reload "reload", Remove "remove", Reopen "reopen", Reread "reread",
    Restart "restart", Shutdown "shutdown", Signal "signal", Start "start", Status "status", Stop "stop",
    Tail "tail", Update "update", Upgrade "upgrade", Version "version", Watch "watch",
}

impl Verb {
    /// The verb that is typed so.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|verb| verb.name() == name)
    }

    /// Does it look whether the daemon is up before anything else, even its own arguments?
    pub fn checks_first(self) -> bool {
        match self {
            Self::Clear
            | Self::Events
            | Self::Fg
            | Self::Maintail
            | Self::Pid
            | Self::Restart
            | Self::Signal => true,
            Self::Start | Self::Status | Self::Stop | Self::Tail | Self::Version | Self::Watch => true,
            Self::Eof | Self::Add | Self::Avail | Self::Exit | Self::Help | Self::Open | Self::Quit => false,
            Self::Reload | Self::Remove | Self::Reopen | Self::Reread => false,
            Self::Shutdown | Self::Update | Self::Upgrade => false,
        }
    }
}

/// A line, taken apart as Supervisor does.
#[derive(Debug, PartialEq, Eq)]
enum Parsed<'a> {
    Nothing,
    /// The verb and the stripped rest.
    Command(Verb, &'a str),
    Unknown(&'a str),
}

/// `?` stands for `help`; the verb is as many letters, digits and `_` as there are.
fn parse_line(line: &str) -> Parsed<'_> {
    let line = line.trim();
    if line.is_empty() {
        return Parsed::Nothing;
    }
    if let Some(topic) = line.strip_prefix('?') {
        return Parsed::Command(Verb::Help, topic.trim());
    }
    let end =
        line.find(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').unwrap_or(line.len());
    let (word, rest) = line.split_at(end);
    Verb::from_name(word).map_or(Parsed::Unknown(line), |verb| Parsed::Command(verb, rest.trim()))
}

/// Runs one command line and tells everything about it, failures included.
pub async fn run_line(session: &mut Session, line: &str) -> Flow {
    let usual = session.format;
    let flow = match with_format(session, line) {
        Ok(line) => run_parsed(session, parse_line(&line)).await,
        Err(mistake) => {
            session.say(&mistake);
            Flow::Continue
        }
    };
    session.end_answer();
    session.format = usual;
    flow
}

/// Takes `--format FORMAT` out of the words after the verb.
fn with_format(session: &mut Session, line: &str) -> Result<String, Plain> {
    if !line.contains("--format") {
        return Ok(line.to_owned());
    }
    let mut words = Vec::new();
    let mut rest = line.split_whitespace();
    while let Some(word) = rest.next() {
        let value = match word.strip_prefix("--format") {
            Some("") => rest.next().unwrap_or_default(),
            Some(value) if value.starts_with('=') => &value[1..],
            Some(_) | None => {
                words.push(word);
                continue;
            }
        };
        session.format = Format::from_name(value).ok_or_else(|| {
            let message = format!("invalid value for --format '{value}': expected text or json");
            Plain::mistake(&message, exit::INVALID_ARGS)
        })?;
    }
    Ok(words.join(" "))
}

/// Runs a command until it neither fails for want of credentials nor can be given some.
async fn run_parsed(session: &mut Session, parsed: Parsed<'_>) -> Flow {
    let (verb, arg) = match parsed {
        Parsed::Nothing => return Flow::Continue,
        Parsed::Command(verb, arg) => (verb, arg),
        Parsed::Unknown(line) => {
            let text = format!("*** Unknown syntax: {line}");
            session.say(&Plain::error(text, "UNKNOWN_COMMAND", line, Some(exit::GENERIC)));
            return Flow::Continue;
        }
    };
    loop {
        let problem = match perform(session, verb, arg).await {
            Ok(flow) => return flow,
            Err(problem) => session.explain(problem).await,
        };
        if matches!(problem, Failure::Unauthenticated) && session.interactive {
            session.print("Server requires authentication");
            if log_in(session).await {
                continue;
            }
        }
        tell(session, verb, &problem);
        return Flow::Continue;
    }
}

/// Tells why a command failed, and what to do about it.
fn tell(session: &mut Session, verb: Verb, problem: &Failure) {
    let cure = match problem {
        Failure::Connect(error) => session.cure(error),
        Failure::Unauthenticated => {
            Some("set username and password in [supervisorctl], or give them with -u and -p".to_owned())
        }
        Failure::Refused { .. } | Failure::Broken(_) => None,
    };
    let item = failure(verb, problem, session.url(), cure.as_deref());
    session.say_failure(&item);
    if let Failure::Refused { reason: supervisor_proto::v1::Reason::CannotReread, message } = problem
        && let Some((_, places)) = message.split_once("\n\n")
    {
        session.add(places);
    }
    if let Some(cure) = cure.filter(|cure| !item.text().contains(cure.as_str())) {
        session.hint(&cure);
    }
}

/// Asks for user name and password; false when there is nobody to answer.
async fn log_in(session: &mut Session) -> bool {
    session.write(b"Username:");
    session.flush();
    let Some(username) = session.input.line().await else { return false };
    session.write(b"Password:");
    session.flush();
    let Some(password) = session.input.hidden_line().await else { return false };
    session.print("\n");
    session.log_in(Credentials { username, password });
    true
}

/// Asks a question whose answer is no unless it begins with y.
async fn confirm(session: &mut Session, question: &str) -> bool {
    if !session.interactive {
        return true;
    }
    session.write(question.as_bytes());
    session.flush();
    session.input.line().await.is_some_and(|answer| answer.starts_with(['y', 'Y']))
}

/// Runs one command.
async fn perform(session: &mut Session, verb: Verb, arg: &str) -> Result<Flow, Failure> {
    if verb.checks_first() {
        session.connect().await?;
    }
    match verb {
        Verb::Eof | Verb::Exit | Verb::Quit => return Ok(quit::run(session)),
        Verb::Add => add::run(session, arg).await?,
        Verb::Avail => avail::run(session, arg).await?,
        Verb::Clear => clear::run(session, arg).await?,
        Verb::Events => events::run(session, arg).await?,
        Verb::Fg => fg::run(session, arg).await?,
        Verb::Help => help::run(session, arg),
        Verb::Maintail => maintail::run(session, arg).await?,
        Verb::Open => open::run(session, arg).await?,
        Verb::Pid => pid::run(session, arg).await?,
        Verb::Reload => reload::run(session, arg).await?,
        Verb::Remove => remove::run(session, arg).await?,
        Verb::Reopen => reopen::run(session, arg).await?,
        Verb::Reread => reread::run(session, arg).await?,
        Verb::Restart => restart::run(session, arg).await?,
        Verb::Shutdown => shutdown::run(session, arg).await?,
        Verb::Signal => signal::run(session, arg).await?,
        Verb::Start => start::run(session, arg).await?,
        Verb::Status => status::run(session, arg).await?,
        Verb::Stop => stop::run(session, arg).await?,
        Verb::Tail => tail::run(session, arg).await?,
        Verb::Update => update::run(session, arg).await?,
        Verb::Upgrade => upgrade::run(session, arg).await?,
        Verb::Version => version::run(session, arg).await?,
        Verb::Watch => watch::run(session, arg).await?,
    }
    Ok(Flow::Continue)
}

/// A command that takes no arguments was given some.
fn refuse_arguments(session: &mut Session, verb: Verb, arg: &str) -> bool {
    if !arg.is_empty() {
        let message = format!("{} accepts no arguments", verb.name());
        session.say(&Plain::misuse(verb, &message, exit::GENERIC));
    }
    !arg.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_apart_as_supervisor_does() {
        for (line, expected) in [
            ("", Parsed::Nothing),
            ("  ", Parsed::Nothing),
            (" status  a b ", Parsed::Command(Verb::Status, "a b")),
            ("status-x", Parsed::Command(Verb::Status, "-x")),
            ("start:x", Parsed::Command(Verb::Start, ":x")),
            ("?", Parsed::Command(Verb::Help, "")),
            ("? start", Parsed::Command(Verb::Help, "start")),
            ("EOF", Parsed::Command(Verb::Eof, "")),
            ("Status", Parsed::Unknown("Status")),
            ("stat", Parsed::Unknown("stat")),
            ("!ls -l", Parsed::Unknown("!ls -l")),
        ] {
            assert_eq!(parse_line(line), expected, "{line:?}");
        }
    }
}
