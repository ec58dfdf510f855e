//! The built program, run as its users run it.
#![allow(
    clippy::disallowed_types,
    reason = "the ban is for the product: a test waits for the program it starts"
)]

use std::process::{Command, Output};

fn run(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_supervisord")).args(words).output().expect("starting it")
}

#[test]
fn version_is_that_of_the_supervisor_it_replaces() {
    for option in ["-v", "--version"] {
        let output = run(&[option]);
        assert_eq!((output.stdout.as_slice(), output.status.code()), (&b"4.3.0\n"[..], Some(0)), "{option}");
    }
}

#[test]
fn a_bad_option_is_a_usage_error_on_stderr() {
    let output = run(&["--nonsense"]);
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.starts_with("Error: option --nonsense not recognized\nFor help, use "), "{text}");
    assert_eq!((output.stdout.len(), output.status.code()), (0, Some(2)));
}

#[test]
fn check_has_nothing_to_say_about_fastcgi_programs() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("supervisord.conf");
    let text = "[supervisord]\n[fcgi-program:mail]\ncommand=/bin/cat\nsocket=tcp://127.0.0.1:9\n[program:a]\ncommand=/bin/cat\n";
    std::fs::write(&file, text).unwrap();
    let output = run(&["--check", "--strict", "-c", file.to_str().unwrap()]);
    assert_eq!((String::from_utf8(output.stderr).unwrap().as_str(), output.status.code()), ("", Some(0)));
}
