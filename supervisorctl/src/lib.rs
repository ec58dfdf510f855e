//! Everything of `supervisorctl` but its `main`: one command from the command line, or a shell that reads commands.
//!
//! Owns the order of things: options, then settings, then one command or the shell, then the exit status. The words
//! and exit statuses are Supervisor's; `render` and `help` hold them.

pub mod args;
pub mod client;
pub mod commands;
pub mod help;
pub mod input;
pub mod render;
pub mod session;
pub mod shell;

use std::{env, io::Write as _, process::ExitCode};

use args::Invocation;
use render::exit;
use session::Session;

/// The whole program, from the words of the command line to the exit status.
pub fn main() -> ExitCode {
    let mut words = env::args_os().map(|word| word.to_string_lossy().into_owned());
    let program = words.next().unwrap_or_else(|| "supervisorctl".to_owned());
    let words: Vec<String> = words.collect();
    let outcome =
        args::parse(&words).map_err(|error| error.to_string()).and_then(|invocation| match invocation {
            Invocation::Run(options) => {
                args::settle(*options, &program).map(|settings| run(settings, &program))
            }
            Invocation::Print(text) => Ok(print(&text(&program))),
        });
    ExitCode::from(outcome.unwrap_or_else(|problem| usage_error(&problem, &program)))
}

/// Runs the one command of the command line, or the shell when there is none.
fn run(settings: args::Settings, program: &str) -> u8 {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return usage_error(&format!("no event loop: {error}"), program),
    };
    let command = settings.command.clone();
    let shell = shell::Settings { prompt: settings.prompt.clone(), history: settings.history_file.clone() };
    let mut session = Session::new(settings);
    match command {
        Some(line) => {
            runtime.block_on(commands::run_line(&mut session, &line));
            session.exit_status()
        }
        None => {
            shell::run(&runtime, &mut session, &shell);
            exit::OK
        }
    }
}

/// Prints `text` and tells the exit status; a reader that has gone away is no error.
fn print(text: &str) -> u8 {
    let mut out = std::io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if written.is_ok() { exit::OK } else { exit::GENERIC }
}

/// Reports a mistake of the command line or the configuration the way Supervisor does.
fn usage_error(problem: &str, program: &str) -> u8 {
    let text = format!("Error: {problem}\nFor help, use {program} -h\n");
    // Nobody is left to tell when stderr is closed: the exit status still says it.
    let _unheard = std::io::stderr().write_all(text.as_bytes());
    exit::INVALID_ARGS
}
