//! The built program, run as its users run it.
#![allow(
    clippy::disallowed_types,
    reason = "the ban is for the product: a test waits for the program it starts"
)]

use std::process::{Command, Output};

fn run(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_supervisorctl")).args(words).output().expect("starting it")
}

#[test]
fn help_begins_as_supervisors_does() {
    let output = run(&["--help"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let first = "supervisorctl -- control applications run by supervisord from the cmd line.\n";
    assert!(text.starts_with(first), "{text}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_bad_option_is_a_usage_error_on_stderr() {
    let output = run(&["--nonsense"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("Error: option --nonsense not recognized\nFor help, use "), "{text}");
    assert_eq!((output.stdout.len(), output.status.code()), (0, Some(2)));
}
