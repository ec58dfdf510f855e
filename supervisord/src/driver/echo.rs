//! Output of programs as it is repeated in the daemon's log at level debug. Pure. Words are Supervisor's.

use std::borrow::Cow;

use crate::{config::python, request::Channel};

/// What a program has written.
pub(super) fn text(name: &str, channel: Channel, data: &[u8]) -> String {
    let data = match std::str::from_utf8(data) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(format!("Undecodable: {}", python::repr_bytes(data))),
    };
    format!("{} {} output:\n{data}", python::repr(name), word(channel))
}

/// What an event listener has written to its stdout: words of the protocol.
pub(super) fn words(name: &str, data: &[u8]) -> String {
    format!("{} {} output:\n{}", python::repr(name), word(Channel::Stdout), python::repr_bytes(data))
}

/// That a program has sent a message of capture mode.
pub(super) fn message(name: &str, channel: Channel) -> String {
    format!("{} {} emitted a comm event", python::repr(name), word(channel))
}

fn word(channel: Channel) -> &'static str {
    match channel {
        Channel::Stdout => "stdout",
        Channel::Stderr => "stderr",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_repeated_in_supervisors_words() {
        for (channel, data, expected) in [
            (Channel::Stdout, &b"hello\n"[..], "'cat' stdout output:\nhello\n"),
            (Channel::Stderr, "Øresund".as_bytes(), "'cat' stderr output:\nØresund"),
            (Channel::Stdout, b"\x88\n", "'cat' stdout output:\nUndecodable: b'\\x88\\n'"),
            (Channel::Stdout, b"it's \xff", "'cat' stdout output:\nUndecodable: b\"it's \\xff\""),
        ] {
            assert_eq!(text("cat", channel, data), expected);
        }
    }

    #[test]
    fn words_of_a_listener_are_repeated_as_bytes() {
        assert_eq!(words("l", b"RESULT 2\nOKREADY\n"), "'l' stdout output:\nb'RESULT 2\\nOKREADY\\n'");
        assert_eq!(message("l", Channel::Stderr), "'l' stderr emitted a comm event");
    }
}
