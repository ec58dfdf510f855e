//! The question to another binary whether it could take over, and its answer.
//!
//! It runs as a child with the state on its standard input, before anything is given up: `--check-handover=FORMAT` with
//! the options of the daemon. It reads the configuration and the state as it would as the next image, and prints one
//! line. Everything else, whatever its exit status, is a refusal: the binary may be anything.

use std::{fs::File, os::fd::AsFd as _};

use super::{FORMAT, State, StateError};
use crate::{
    config::{Config, DaemonConfig},
    os::handover,
    process::Exit,
};

/// First word of the answer.
const WORD: &str = "supervisord-takes-over";

/// Lines of a refusal that are told.
const LINES_TOLD: usize = 5;

/// What another binary answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It can take over; its version.
    Ready(String),
    /// It cannot, and why.
    Refused(String),
}

/// The answer of this binary about the state on standard input: what to print.
///
/// # Errors
/// Why it cannot take over.
pub fn answer(format: &str, config: &Config) -> Result<String, String> {
    if format != FORMAT.to_string() {
        return Err(format!("a state of format {format} is asked for, this version takes {FORMAT}"));
    }
    let read = || -> Result<State, StateError> {
        let stdin = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
        State::parse(&handover::read_whole(stdin)?)
    };
    let state = read().map_err(|error| error.to_string())?;
    state.programs.understand(config)?;
    refuse_other_user(&config.daemon)?;
    Ok(format!("{WORD} {FORMAT} {}\n", env!("CARGO_PKG_VERSION")))
}

/// A daemon cannot become another user in place: its programs and files belong to the one that it is.
///
/// # Errors
/// A sentence that says so.
pub fn refuse_other_user(config: &DaemonConfig) -> Result<(), String> {
    let uid = nix::unistd::getuid().as_raw();
    match &config.user {
        Some(user) if user.uid != uid => Err(format!(
            "[supervisord] user = {:?}: the running supervisord has uid {uid}, which cannot change in place; \
             shut it down and start it again",
            user.name
        )),
        Some(_) | None => Ok(()),
    }
}

/// Reads the answer of a binary that has ended so, and printed this.
pub fn parse_verdict(exit: Exit, output: &[u8]) -> Verdict {
    let text = String::from_utf8_lossy(output);
    let answer = text.lines().find_map(|line| line.strip_prefix(WORD)?.strip_prefix(' '));
    if exit == Exit::Code(0)
        && let Some((format, version)) = answer.and_then(|rest| rest.split_once(' '))
        && format == FORMAT.to_string()
    {
        return Verdict::Ready(version.to_owned());
    }
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("For help, use ")).collect();
    let told = lines[..lines.len().min(LINES_TOLD)].join("; ");
    let ended = match exit {
        Exit::Code(0) => "it is no supervisord that can take over".to_owned(),
        Exit::Code(code) => format!("it ended with status {code}"),
        Exit::Signal { signal, .. } => format!("signal {signal} ended it"),
        Exit::Unknown => "its exit status is not known".to_owned(),
    };
    Verdict::Refused(if told.is_empty() { ended } else { format!("{ended}: {told}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_answer_and_success_mean_ready() {
        let ready = Verdict::Ready("0.2.0".to_owned());
        assert_eq!(parse_verdict(Exit::Code(0), b"warning: x\nsupervisord-takes-over 1 0.2.0\n"), ready);
        for (exit, output, expected) in [
            (Exit::Code(0), &b""[..], "it is no supervisord that can take over"),
            (Exit::Code(0), b"hello\n", "it is no supervisord that can take over: hello"),
            (
                Exit::Code(1),
                b"supervisord-takes-over 1 0.2.0\n",
                "it ended with status 1: supervisord-takes-over 1 0.2.0",
            ),
            (Exit::Code(2), b"Error: a\nFor help, use x -h\n", "it ended with status 2: Error: a"),
            (
                Exit::Code(0),
                b"supervisord-takes-over 2 9.0\n",
                "it is no supervisord that can take over: supervisord-takes-over 2 9.0",
            ),
            (Exit::Signal { signal: 9, core_dumped: false }, b"", "signal 9 ended it"),
        ] {
            assert_eq!(parse_verdict(exit, output), Verdict::Refused(expected.to_owned()));
        }
    }
}
