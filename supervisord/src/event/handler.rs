//! What becomes of the result that a listener gives for an event. Pure.
//!
//! Supervisor calls a Python function, which the configuration names. The ones that are known here do what theirs do.

use crate::config::ResultHandler;

/// What a result says of its event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is done with; this is to be printed on the daemon's stdout.
    Processed {
        /// Lines with their ends; mostly none.
        printed: Vec<u8>,
    },
    /// The listener does not want it.
    Rejected,
    /// The handler can make nothing of it.
    Failed,
}

/// Judges `result` as `handler` does.
pub(super) fn judge(handler: ResultHandler, result: &[u8]) -> Verdict {
    match handler {
        ResultHandler::Default if result == OK => Verdict::Processed { printed: Vec::new() },
        ResultHandler::Default => Verdict::Rejected,
        ResultHandler::SupervisorStdout => match prefixed(result) {
            Some(printed) => Verdict::Processed { printed },
            None => Verdict::Failed,
        },
    }
}

/// A payload of PROCESS_LOG as lines of `NAME CHANNEL | TEXT`; `None` if it is none.
fn prefixed(payload: &[u8]) -> Option<Vec<u8>> {
    let end = payload.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&payload[..end]).ok()?;
    let (mut name, mut channel) = (None, None);
    for word in head.split_whitespace() {
        let (key, value) = word.split_once(':').filter(|(_, value)| !value.contains(':'))?;
        match key {
            "processname" => name = Some(value),
            "channel" => channel = Some(value),
            _ => {}
        }
    }
    let prefix = format!("{} {} | ", name?, channel?);
    let lines = payload[end + 1..].split_inclusive(|byte| *byte == b'\n');
    let lines =
        lines.map(|line| [prefix.as_bytes(), line.strip_suffix(b"\n").unwrap_or(line), b"\n"].concat());
    Some(lines.flatten().collect())
}

const OK: &[u8] = b"OK";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_handler_takes_ok_and_nothing_else() {
        let judged = |result: &[u8]| judge(ResultHandler::Default, result);
        assert_eq!(judged(b"OK"), Verdict::Processed { printed: Vec::new() });
        for other in [&b""[..], b"ok", b"OK\n", b"FAIL"] {
            assert_eq!(judged(other), Verdict::Rejected, "{other:?}");
        }
    }

    #[test]
    fn supervisor_stdout_prints_each_line_with_process_and_channel_and_nothing_more() {
        let head = "processname:web groupname:g pid:7 channel:stderr";
        for (text, printed) in [
            ("one\n", "web stderr | one\n"),
            ("one\ntwo", "web stderr | one\nweb stderr | two\n"),
            ("one\r\n\n10%\r20%", "web stderr | one\r\nweb stderr | \nweb stderr | 10%\r20%\n"),
            ("\n", "web stderr | \n"),
            ("", ""),
            ("caf\u{e9}: a b\n", "web stderr | caf\u{e9}: a b\n"),
        ] {
            let verdict = judge(ResultHandler::SupervisorStdout, format!("{head}\n{text}").as_bytes());
            assert_eq!(verdict, Verdict::Processed { printed: printed.as_bytes().to_vec() }, "{text:?}");
        }
    }

    #[test]
    fn supervisor_stdout_fails_with_what_is_no_output_of_a_program() {
        for payload in [
            "",
            "OK",
            "processname:web channel:stdout",
            "processname:web groupname:g pid:7\nmessage",
            "groupname:g channel:stdout\ntext",
            "a head without colons\ntext",
            "processname:we:b channel:stdout\ntext",
        ] {
            assert_eq!(
                judge(ResultHandler::SupervisorStdout, payload.as_bytes()),
                Verdict::Failed,
                "{payload:?}"
            );
        }
    }
}
