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
        /// Bytes at the end of the result that are not among them: it would be too much.
        cut: usize,
    },
    /// The listener does not want it.
    Rejected,
    /// The handler can make nothing of it.
    Failed,
}

/// Judges `result` as `handler` does.
pub(super) fn judge(handler: ResultHandler, result: &[u8]) -> Verdict {
    match handler {
        ResultHandler::Default if result == OK => Verdict::Processed { printed: Vec::new(), cut: 0 },
        ResultHandler::Default => Verdict::Rejected,
        ResultHandler::SupervisorStdout => match prefixed(result) {
            Some((printed, cut)) => Verdict::Processed { printed, cut },
            None => Verdict::Failed,
        },
    }
}

/// A payload of PROCESS_LOG as lines of `NAME CHANNEL | TEXT`, and how much of it was cut off; `None` if it is none.
/// The listener chooses the name that stands before each of its lines: what comes of both has a bound.
fn prefixed(payload: &[u8]) -> Option<(Vec<u8>, usize)> {
    let end = payload.iter().take(LONGEST_HEAD + 1).position(|byte| *byte == b'\n')?;
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
    let mut rest = &payload[end + 1..];
    let mut printed = Vec::new();
    while let Some(line) = rest.split_inclusive(|byte| *byte == b'\n').next() {
        let text = line.strip_suffix(b"\n").unwrap_or(line);
        if printed.len() + prefix.len() + text.len() + 1 > MOST_PRINTED {
            break;
        }
        for part in [prefix.as_bytes(), text, b"\n"] {
            printed.extend_from_slice(part);
        }
        rest = &rest[line.len()..];
    }
    Some((printed, rest.len()))
}

const OK: &[u8] = b"OK";
/// Bytes of the first line of a payload of PROCESS_LOG: names, numbers and keys.
const LONGEST_HEAD: usize = 1 << 10;
/// Bytes that are printed of one result.
const MOST_PRINTED: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_handler_takes_ok_and_nothing_else() {
        let judged = |result: &[u8]| judge(ResultHandler::Default, result);
        assert_eq!(judged(b"OK"), Verdict::Processed { printed: Vec::new(), cut: 0 });
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
            assert_eq!(
                verdict,
                Verdict::Processed { printed: printed.as_bytes().to_vec(), cut: 0 },
                "{text:?}"
            );
        }
    }

    #[test]
    fn what_is_printed_has_a_bound_whatever_name_the_listener_makes_up() {
        let result = |name: usize, lines: usize| {
            let head = format!("processname:{} channel:stdout\n", "n".repeat(name));
            [head, "\n".repeat(lines)].concat()
        };
        let judged = |name, lines| judge(ResultHandler::SupervisorStdout, result(name, lines).as_bytes());
        let Verdict::Processed { printed, cut } = judged(900, 30_000) else { panic!("it is well-formed") };
        let line = format!("{} stdout | \n", "n".repeat(900));
        let lines = MOST_PRINTED / line.len();
        assert_eq!((printed.len(), cut), (lines * line.len(), 30_000 - lines));
        assert!(printed.ends_with(line.as_bytes()));
        assert_eq!(judged(15_000, 15_000), Verdict::Failed);
        let name = LONGEST_HEAD - "processname: channel:stdout".len();
        assert!(matches!(judged(name, 1), Verdict::Processed { cut: 0, .. }));
        assert_eq!(judged(name + 1, 1), Verdict::Failed);
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
