//! The interactive shell: reads lines, runs them as commands, completes words, keeps a history.
//!
//! On a terminal rustyline reads the lines; else they come from standard input as they are, after a prompt each, as
//! Supervisor does.

use std::{cell::RefCell, io::IsTerminal as _, path::PathBuf};

use rustyline::{
    Config, Context, Editor, completion::Completer, error::ReadlineError, highlight::Highlighter,
    hint::Hinter, history::FileHistory, validate::Validator,
};
use supervisor_proto::v1::{ListProcessesRequest, Process};
use tokio::runtime::Runtime;

use crate::{
    client::Client,
    commands::{self, Flow, Verb},
    session::{Daemon, Session},
};

/// What the shell is told.
pub struct Settings {
    /// Before its `> `.
    pub prompt: String,
    /// Where the history is kept.
    pub history: Option<PathBuf>,
}

/// Lines that the history holds.
const HISTORY_LINES: usize = 1000;

/// Runs commands until the user leaves, beginning with `status`.
pub fn run(runtime: &Runtime, session: &mut Session, settings: &Settings) {
    let prompt = format!("{}> ", settings.prompt);
    if run_line(runtime, session, "status") == Flow::Quit {
        return;
    }
    if !std::io::stdin().is_terminal() {
        return read_input(runtime, session, &prompt);
    }
    match editor(runtime, settings) {
        Ok(editor) => edit_lines(editor, session, &prompt, settings),
        // A terminal that cannot be edited on can still be read from.
        Err(_no_editing) => read_input(runtime, session, &prompt),
    }
}

/// Runs one line. Ctrl-C leaves the shell, as in Supervisor, but for commands that have a use for it.
fn run_line(runtime: &Runtime, session: &mut Session, line: &str) -> Flow {
    let flow = runtime.block_on(async {
        tokio::select! {
            // The command first: what it makes of Ctrl-C counts.
            biased;
            flow = commands::run_line(session, line) => Some(flow),
            _interrupt = tokio::signal::ctrl_c() => None,
        }
    });
    // The daemon may have been restarted when the next command comes.
    session.disconnect();
    flow.unwrap_or_else(|| {
        session.print("");
        session.flush();
        Flow::Quit
    })
}

/// Reads lines from standard input as they are.
fn read_input(runtime: &Runtime, session: &mut Session, prompt: &str) {
    loop {
        session.write(prompt.as_bytes());
        if !session.flush() {
            return;
        }
        let line = runtime.block_on(session.input.line());
        let line = line.unwrap_or_else(|| Verb::Eof.name().to_owned());
        if run_line(runtime, session, &line) == Flow::Quit {
            return;
        }
    }
}

type LineEditor<'a> = Editor<Words<'a>, FileHistory>;

/// Prepares the terminal: completion and the history of earlier sessions.
fn editor<'a>(runtime: &'a Runtime, settings: &Settings) -> rustyline::Result<LineEditor<'a>> {
    let config = Config::builder()
        .max_history_size(HISTORY_LINES)?
        .completion_type(rustyline::CompletionType::List)
        .auto_add_history(true)
        .build();
    let mut editor = Editor::with_config(config)?;
    editor.set_helper(Some(Words { runtime, daemon: None, known: RefCell::new(None) }));
    if let Some(path) = &settings.history {
        // A first session has none; one that cannot be read is no reason not to work.
        let _none_yet = editor.load_history(path);
    }
    Ok(editor)
}

/// Reads lines from the terminal until the user leaves, then keeps the history.
fn edit_lines(mut editor: LineEditor<'_>, session: &mut Session, prompt: &str, settings: &Settings) {
    while let Some(words) = editor.helper_mut() {
        let runtime = words.runtime;
        words.daemon = Some(session.daemon());
        words.known.replace(None);
        let line = match editor.readline(prompt) {
            Ok(line) => line,
            Err(ReadlineError::Interrupted) => {
                session.print("");
                session.flush();
                break;
            }
            Err(_end_of_input) => Verb::Eof.name().to_owned(),
        };
        if run_line(runtime, session, &line) == Flow::Quit {
            break;
        }
    }
    if let Some(path) = &settings.history {
        // As in Supervisor, a history that cannot be kept is no failure of the shell.
        let _not_kept = editor.save_history(path);
    }
}

/// Completes the words of a line.
struct Words<'a> {
    runtime: &'a Runtime,
    /// Whom to ask for names.
    daemon: Option<Daemon>,
    /// What it answered since the last command.
    known: RefCell<Option<Vec<Process>>>,
}

impl Words<'_> {
    /// The processes of the daemon; none when it cannot be asked.
    fn processes(&self) -> Vec<Process> {
        self.known.borrow_mut().get_or_insert_with(|| self.ask()).clone()
    }

    fn ask(&self) -> Vec<Process> {
        let Some(daemon) = &self.daemon else { return Vec::new() };
        self.runtime
            .block_on(async {
                let client = Client::connect(&daemon.url, daemon.credentials.as_ref()).await.ok()?;
                let reply = client.rpc.clone().list_processes(ListProcessesRequest::default()).await.ok()?;
                Some(reply.into_inner().processes)
            })
            .unwrap_or_default()
    }
}

impl Completer for Words<'_> {
    type Candidate = String;

    fn complete(&self, line: &str, at: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<String>)> {
        let line = &line[..at];
        let begin = line.rfind(char::is_whitespace).map_or(0, |blank| blank + 1);
        let text = &line[begin..];
        let words = match subject(line) {
            Subject::Action => {
                Verb::ALL.iter().filter(|verb| **verb != Verb::Eof).map(|v| v.name().to_owned()).collect()
            }
            Subject::Group => groups(&self.processes()),
            Subject::Process => processes(&self.processes(), text),
            Subject::Nothing => Vec::new(),
        };
        let fitting = words.into_iter().filter(|word| word.starts_with(text)).map(|word| word + " ");
        Ok((begin, fitting.collect()))
    }
}

/// Nothing is hinted at, coloured or checked while a line is typed.
impl Hinter for Words<'_> {
    type Hint = String;
}
impl Highlighter for Words<'_> {}
impl Validator for Words<'_> {}
impl rustyline::Helper for Words<'_> {}

/// What the last word of a line names.
#[derive(Debug, PartialEq, Eq)]
enum Subject {
    Action,
    Group,
    Process,
    Nothing,
}

/// What the last word of `line` names.
fn subject(line: &str) -> Subject {
    let mut words = line.split_whitespace();
    let Some(first) = words.next() else { return Subject::Action };
    if words.next().is_none() && !line.ends_with(char::is_whitespace) {
        return Subject::Action;
    }
    match Verb::from_name(first) {
        Some(Verb::Help) => Subject::Action,
        Some(Verb::Add | Verb::Remove | Verb::Update) => Subject::Group,
        Some(Verb::Clear | Verb::Fg | Verb::Pid | Verb::Restart | Verb::Signal | Verb::Start) => {
            Subject::Process
        }
        Some(Verb::Status | Verb::Stop | Verb::Tail | Verb::Watch) => Subject::Process,
        Some(
            Verb::Eof
            | Verb::Avail
            | Verb::Events
            | Verb::Exit
            | Verb::Maintail
            | Verb::Open
            | Verb::Quit
            | Verb::Reload,
        )
        | None => Subject::Nothing,
        Some(Verb::Reopen | Verb::Reread | Verb::Shutdown | Verb::Upgrade | Verb::Version) => {
            Subject::Nothing
        }
    }
}

/// The names of the groups, each once.
fn groups(processes: &[Process]) -> Vec<String> {
    let mut groups: Vec<String> = processes.iter().map(|process| process.group.clone()).collect();
    groups.dedup();
    groups
}

/// How processes and groups can be named: `name` where that is enough and no colon has been typed.
fn processes(processes: &[Process], text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for Process { group, name, .. } in processes {
        if group == name && !text.contains(':') {
            words.push(name.clone());
            continue;
        }
        words.push(format!("{group}:{name}"));
        let all = format!("{group}:*");
        if !words.contains(&all) {
            words.push(all);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Vec<Process> {
        let process = |group: &str, name: &str| Process {
            group: group.to_owned(),
            name: name.to_owned(),
            ..Process::default()
        };
        vec![process("cat", "cat"), process("grp", "a"), process("grp", "b")]
    }

    #[test]
    fn the_first_word_is_an_action_and_the_others_depend_on_it() {
        for (line, expected) in [
            ("", Subject::Action),
            ("  ", Subject::Action),
            ("sta", Subject::Action),
            ("start", Subject::Action),
            ("start ", Subject::Process),
            ("start a b", Subject::Process),
            ("help st", Subject::Action),
            ("update ", Subject::Group),
            ("open ", Subject::Nothing),
            ("nonsense ", Subject::Nothing),
        ] {
            assert_eq!(subject(line), expected, "{line:?}");
        }
    }

    #[test]
    fn processes_are_offered_as_supervisor_offers_them() {
        assert_eq!(processes(&known(), ""), ["cat", "grp:a", "grp:*", "grp:b"]);
        assert_eq!(processes(&known(), "cat:"), ["cat:cat", "cat:*", "grp:a", "grp:*", "grp:b"]);
        assert_eq!(groups(&known()), ["cat", "grp"]);
    }
}
