//! What a listener says on its stdout: the event listener protocol, as an automaton over bytes.
//!
//! Where the bytes are cut makes no difference. A listener that prints something else enters UNKNOWN, as in Supervisor,
//! but not for ever: as soon as a line says what the listener is at, it is back in step.

use serde::{Deserialize, Serialize};

use std::fmt;

use super::handler::{Verdict, judge};
use crate::config::{ResultHandler, python};

/// Where a listener is in the protocol. Names are Supervisor's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerState {
    /// It has just been started, or has given its result.
    Acknowledged,
    /// It waits for an event.
    Ready,
    /// It has an event and owes a result.
    Busy,
    /// It has violated the protocol.
    Unknown,
}

impl fmt::Display for ListenerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Acknowledged => "ACKNOWLEDGED",
            Self::Ready => "READY",
            Self::Busy => "BUSY",
            Self::Unknown => "UNKNOWN",
        })
    }
}

/// What the protocol allows next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expected {
    /// `READY` and a line end.
    Ready,
    /// Nothing: an event comes first.
    Silence,
    /// `RESULT n`, a line end and n bytes.
    Result,
}

/// Something that is not allowed where it was printed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What was allowed.
    pub expected: Expected,
    /// The beginning of what was printed instead.
    pub found: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let expected = match self.expected {
            Expected::Ready => "\"READY\\n\"",
            Expected::Silence => "nothing before the next event (it is READY)",
            Expected::Result => "\"RESULT n\\n\" and n bytes",
        };
        write!(
            f,
            "event protocol error: it printed {:?} on stdout, expected {expected}; a listener's stdout belongs to the \
             protocol: print everything else to stderr",
            self.found
        )
    }
}

/// What was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It is in another state now.
    Changed {
        /// Before.
        from: ListenerState,
        /// After.
        to: ListenerState,
    },
    /// The handler of results has something to be printed on the daemon's stdout.
    Printed(Vec<u8>),
    /// So many bytes at the end of the result are not printed: it would be too much.
    Cut(usize),
    /// The event is done with: by default the result was `OK`.
    Processed,
    /// By default: the result was something else.
    Rejected,
    /// The handler of results can make nothing of it.
    Failed,
    /// Not a result, though one was expected: the line. A [`Heard::Violation`] follows.
    BadResultLine(String),
    /// The protocol was violated. An event that it had is rejected.
    Violation(Violation),
    /// The result for an event that was rejected by a violation, and whether that is done with now.
    LateResult(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum State {
    Acknowledged,
    Ready,
    /// `result`: so many bytes of result follow.
    Busy {
        result: Option<usize>,
    },
    /// `expected`: what was expected before.
    Unknown {
        expected: Expected,
        result: Option<usize>,
    },
}

/// A listener as its stdout shows it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listener {
    state: State,
    pending: Vec<u8>,
    /// So many bytes of it have been understood; none between two calls.
    #[serde(skip)]
    done: usize,
}

impl Default for Listener {
    fn default() -> Self {
        Self { state: State::Acknowledged, pending: Vec::new(), done: 0 }
    }
}

impl Listener {
    /// Where it is.
    pub fn state(&self) -> ListenerState {
        match self.state {
            State::Acknowledged => ListenerState::Acknowledged,
            State::Ready => ListenerState::Ready,
            State::Busy { .. } => ListenerState::Busy,
            State::Unknown { .. } => ListenerState::Unknown,
        }
    }

    /// Records that it was sent an event; only a READY one is.
    pub fn handle_sent(&mut self) {
        self.state = State::Busy { result: None };
    }

    /// Records that the event could not be sent after all.
    pub fn handle_unsent(&mut self) {
        self.state = State::Ready;
    }

    /// Records what it has printed; results are for `handler`.
    pub fn handle_output(&mut self, bytes: &[u8], handler: ResultHandler) -> Vec<Heard> {
        self.pending.extend_from_slice(bytes);
        let mut heard = Vec::new();
        while self.step(handler, &mut heard) {}
        // Once, and not for each line: there may be thousands.
        self.pending.drain(..std::mem::take(&mut self.done));
        heard
    }

    /// Understands one piece of what is pending; false when there is none.
    fn step(&mut self, handler: ResultHandler, heard: &mut Vec<Heard>) -> bool {
        match self.state {
            State::Acknowledged => self.step_acknowledged(heard),
            State::Ready if self.rest().is_empty() => false,
            State::Ready => self.violate(Expected::Silence, heard),
            State::Busy { result: None } => self.step_busy(heard),
            State::Busy { result: Some(length) } => {
                self.take_result(length, handler).is_some_and(|verdict| self.settle(verdict, heard))
            }
            State::Unknown { expected, result: None } => self.resynchronise(expected, heard),
            State::Unknown { result: Some(length), .. } => {
                self.take_result(length, handler).is_some_and(|verdict| self.settle_late(verdict, heard))
            }
        }
    }

    fn settle(&mut self, verdict: Verdict, heard: &mut Vec<Heard>) -> bool {
        let next = match verdict {
            Verdict::Processed { printed, cut } => {
                print(printed, cut, heard);
                heard.push(Heard::Processed);
                State::Acknowledged
            }
            Verdict::Rejected => {
                heard.push(Heard::Rejected);
                State::Acknowledged
            }
            // So it is in Supervisor, where it stays there.
            Verdict::Failed => {
                heard.push(Heard::Failed);
                State::Unknown { expected: Expected::Ready, result: None }
            }
        };
        self.enter(next, heard)
    }

    fn settle_late(&mut self, verdict: Verdict, heard: &mut Vec<Heard>) -> bool {
        let is_processed = match verdict {
            Verdict::Processed { printed, cut } => {
                print(printed, cut, heard);
                true
            }
            Verdict::Rejected | Verdict::Failed => false,
        };
        heard.push(Heard::LateResult(is_processed));
        self.enter(State::Acknowledged, heard)
    }

    fn step_acknowledged(&mut self, heard: &mut Vec<Heard>) -> bool {
        if self.rest().starts_with(READY) {
            self.done += READY.len();
            return self.enter(State::Ready, heard);
        }
        let is_whole = self.rest().len() >= READY.len() || self.rest().contains(&b'\n');
        is_whole && self.violate(Expected::Ready, heard)
    }

    fn step_busy(&mut self, heard: &mut Vec<Heard>) -> bool {
        let Some(end) = self.line_end() else {
            return self.rest().len() > LONGEST_LINE && self.violate(Expected::Result, heard);
        };
        // The word before the number is not looked at: so it is in Supervisor.
        let length = self.rest()[..end].get(RESULT.len()..).and_then(number);
        if let Some(length) = length {
            self.done += end + 1;
            self.state = State::Busy { result: Some(length) };
            return true;
        }
        heard.push(Heard::BadResultLine(beginning(super::text_of(&self.rest()[..end]))));
        self.violate(Expected::Result, heard)
    }

    /// Looks for a line whose end says where the listener is. What stands before it on the line is noise.
    fn resynchronise(&mut self, expected: Expected, heard: &mut Vec<Heard>) -> bool {
        let Some(end) = self.line_end() else {
            // Only the end of the line matters.
            self.done += self.rest().len().saturating_sub(LONGEST_LINE);
            return false;
        };
        let line = &self.pending[self.done..][..end];
        self.done += end + 1;
        if line.ends_with(&READY[..READY.len() - 1]) {
            return self.enter(State::Ready, heard);
        }
        match expected {
            Expected::Ready => {}
            // It has been ready all the time, and still is.
            Expected::Silence => return self.enter(State::Ready, heard),
            Expected::Result => {
                let at = line.windows(RESULT.len()).rposition(|word| word == RESULT);
                let result = at.and_then(|at| number(&line[at + RESULT.len()..]));
                self.state = State::Unknown { expected, result };
            }
        }
        true
    }

    /// What is pending stays, to be searched for something that makes sense.
    fn violate(&mut self, expected: Expected, heard: &mut Vec<Heard>) -> bool {
        let end = self.line_end().unwrap_or(self.rest().len());
        // Of an empty line its end is shown: that is what was printed too much.
        let found = String::from_utf8_lossy(&self.rest()[..end.max(1)]).into_owned();
        heard.push(Heard::Violation(Violation { expected, found: beginning(found) }));
        self.enter(State::Unknown { expected, result: None }, heard)
    }

    fn enter(&mut self, next: State, heard: &mut Vec<Heard>) -> bool {
        let from = self.state();
        self.state = next;
        heard.push(Heard::Changed { from, to: self.state() });
        true
    }

    fn line_end(&self) -> Option<usize> {
        self.rest().iter().position(|byte| *byte == b'\n')
    }

    /// What has not been understood yet.
    fn rest(&self) -> &[u8] {
        &self.pending[self.done..]
    }

    /// What the result says, once all of it is there.
    fn take_result(&mut self, length: usize, handler: ResultHandler) -> Option<Verdict> {
        let verdict = judge(handler, self.rest().get(..length)?);
        self.done += length;
        Some(verdict)
    }
}

fn print(text: Vec<u8>, cut: usize, heard: &mut Vec<Heard>) {
    if !text.is_empty() {
        heard.push(Heard::Printed(text));
    }
    if cut > 0 {
        heard.push(Heard::Cut(cut));
    }
}

/// A length, as Python reads it, that is not absurd.
fn number(text: &[u8]) -> Option<usize> {
    let number = usize::try_from(python::int(std::str::from_utf8(text).ok()?, 10)?).ok()?;
    (number <= LONGEST_RESULT).then_some(number)
}

/// The beginning, for people.
fn beginning(mut text: String) -> String {
    if let Some((at, _)) = text.char_indices().nth(EXCERPT) {
        text.truncate(at);
    }
    text
}

const READY: &[u8] = b"READY\n";
const RESULT: &[u8] = b"RESULT ";
/// Bytes without a line end that are kept.
const LONGEST_LINE: usize = 64 << 10;
/// Bytes of a result that are waited for.
const LONGEST_RESULT: usize = 1 << 20;
/// Characters of a violation that are shown.
const EXCERPT: usize = 80;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEFAULT: ResultHandler = ResultHandler::Default;

    /// A listener in this state, and what it is expected to say there.
    fn listener(state: ListenerState) -> Listener {
        let mut listener = Listener::default();
        match state {
            ListenerState::Acknowledged => {}
            ListenerState::Ready => drop(listener.handle_output(b"READY\n", DEFAULT)),
            ListenerState::Busy => {
                listener.handle_output(b"READY\n", DEFAULT);
                listener.handle_sent();
            }
            ListenerState::Unknown => drop(listener.handle_output(b"noise\n", DEFAULT)),
        }
        assert_eq!(listener.state(), state);
        listener
    }

    fn words(heard: &[Heard]) -> String {
        let word = |heard: &Heard| match heard {
            Heard::Changed { to, .. } => to.to_string(),
            Heard::Printed(_) => "printed".to_owned(),
            Heard::Cut(bytes) => format!("cut:{bytes}"),
            Heard::Processed => "processed".to_owned(),
            Heard::Failed => "failed".to_owned(),
            Heard::Rejected => "rejected".to_owned(),
            Heard::BadResultLine(_) => "bad".to_owned(),
            Heard::Violation(_) => "violation".to_owned(),
            Heard::LateResult(is_ok) => format!("late:{is_ok}"),
        };
        heard.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_state_understands_what_it_expects_and_names_what_it_does_not() {
        use ListenerState::{Acknowledged, Busy, Ready, Unknown};
        for (state, input, expected, then) in [
            (Acknowledged, "READY\n", "READY", Ready),
            (Acknowledged, "READY", "", Acknowledged),
            (Acknowledged, "", "", Acknowledged),
            (Acknowledged, "hello", "", Acknowledged),
            (Acknowledged, "hello\n", "violation UNKNOWN", Unknown),
            (Acknowledged, "hi\n", "violation UNKNOWN", Unknown),
            (Acknowledged, "READY\r\n", "violation UNKNOWN", Unknown),
            (Acknowledged, "RESULT 2\nOK", "violation UNKNOWN", Unknown),
            (Acknowledged, "hello\nREADY\n", "violation UNKNOWN READY", Ready),
            (Acknowledged, "helloREADY\n", "violation UNKNOWN READY", Ready),
            (Ready, "", "", Ready),
            (Ready, "x", "violation UNKNOWN", Unknown),
            (Ready, "noise\n", "violation UNKNOWN READY", Ready),
            (Ready, "READY\n", "violation UNKNOWN READY", Ready),
            (Busy, "RESULT 2\nOK", "processed ACKNOWLEDGED", Acknowledged),
            (Busy, "RESULT 2\nOKREADY\n", "processed ACKNOWLEDGED READY", Ready),
            (Busy, "RESULT 4\nFAIL", "rejected ACKNOWLEDGED", Acknowledged),
            (Busy, "RESULT 0\n", "rejected ACKNOWLEDGED", Acknowledged),
            (Busy, "RESULT 2\nO", "", Busy),
            (Busy, "RESULT 2", "", Busy),
            (Busy, "anybody 2\nOK", "processed ACKNOWLEDGED", Acknowledged),
            (Busy, "whatev 2\nOK", "processed ACKNOWLEDGED", Acknowledged),
            (Busy, "RESULT  2 \r\nOK", "processed ACKNOWLEDGED", Acknowledged),
            (Busy, "RESULT +0_2\nOK", "processed ACKNOWLEDGED", Acknowledged),
            (Busy, "RESULT two\n", "bad violation UNKNOWN", Unknown),
            (Busy, "RESULT -1\n", "bad violation UNKNOWN", Unknown),
            (Busy, "RESULT 99999999999\n", "bad violation UNKNOWN", Unknown),
            (Busy, "\n", "bad violation UNKNOWN", Unknown),
            (
                Busy,
                "noise here\nRESULT 2\nOKREADY\n",
                "bad violation UNKNOWN late:true ACKNOWLEDGED READY",
                Ready,
            ),
            (Busy, "noise RESULT 4\nFAIL", "bad violation UNKNOWN late:false ACKNOWLEDGED", Acknowledged),
            (Busy, "READY\n", "bad violation UNKNOWN READY", Ready),
            (Unknown, "more\nRESULT 2\nOK\n", "", Unknown),
            (Unknown, "READY\n", "READY", Ready),
        ] {
            let mut listener = listener(state);
            let heard = listener.handle_output(input.as_bytes(), DEFAULT);
            assert_eq!(words(&heard), expected, "{state} {input:?}");
            assert_eq!(listener.state(), then, "{state} {input:?}");
        }
    }

    #[test]
    fn a_violation_says_what_was_printed_what_was_expected_and_what_to_do() {
        let heard = listener(ListenerState::Acknowledged).handle_output(b"Starting up...\nREADY\n", DEFAULT);
        let Heard::Violation(violation) = &heard[0] else { panic!("{heard:?}") };
        assert_eq!(
            violation.to_string(),
            "event protocol error: it printed \"Starting up...\" on stdout, expected \"READY\\n\"; a listener's stdout \
             belongs to the protocol: print everything else to stderr"
        );
    }

    #[test]
    fn what_was_printed_is_shown_as_supervisor_shows_it() {
        let bad = |line: &[u8]| {
            let heard = listener(ListenerState::Busy).handle_output(line, DEFAULT);
            let [Heard::BadResultLine(line), Heard::Violation(violation), ..] = &heard[..] else {
                panic!("{heard:?}")
            };
            (line.clone(), violation.found.clone())
        };
        assert_eq!(bad(b"it's bad\n"), ("it's bad".to_owned(), "it's bad".to_owned()));
        assert_eq!(bad(b"RESULT \xff\n").0, "Undecodable: b'RESULT \\xff'");
        assert_eq!(bad(b"\n"), (String::new(), "\n".to_owned()));
        assert_eq!(bad(format!("{}\n", "ä".repeat(100)).as_bytes()).0, "ä".repeat(EXCERPT));
        let heard = listener(ListenerState::Acknowledged).handle_output(b"\nREADY\n", DEFAULT);
        assert!(matches!(&heard[0], Heard::Violation(violation) if violation.found == "\n"), "{heard:?}");
    }

    #[test]
    fn a_result_that_its_handler_can_use_is_printed_and_another_one_is_a_failure() {
        let say = |text: &str| {
            let mut listener = listener(ListenerState::Busy);
            let heard = listener.handle_output(text.as_bytes(), ResultHandler::SupervisorStdout);
            (words(&heard), listener.state(), heard)
        };
        let (said, state, heard) = say("RESULT 32\nprocessname:a channel:stdout\nhi\nREADY\n");
        assert_eq!((said.as_str(), state), ("printed processed ACKNOWLEDGED READY", ListenerState::Ready));
        assert_eq!(heard[0], Heard::Printed(b"a stdout | hi\n".to_vec()));
        let (said, state, _) = say("RESULT 2\nOK");
        assert_eq!((said.as_str(), state), ("failed UNKNOWN", ListenerState::Unknown));
        let (said, state, _) = say("RESULT 2\nOKREADY\n");
        assert_eq!((said.as_str(), state), ("failed UNKNOWN READY", ListenerState::Ready));
        let (said, ..) = say("oh\nRESULT 32\nprocessname:a channel:stdout\nhi\n");
        assert_eq!(said, "bad violation UNKNOWN printed late:true ACKNOWLEDGED");
        let (said, ..) = say("oh\nRESULT 2\nOK");
        assert_eq!(said, "bad violation UNKNOWN late:false ACKNOWLEDGED");
    }

    #[test]
    fn a_line_without_end_takes_no_more_memory() {
        let mut listener = listener(ListenerState::Unknown);
        for _ in 0..40 {
            listener.handle_output(&[b'x'; 10_000], DEFAULT);
        }
        assert!(listener.pending.len() <= LONGEST_LINE);
        assert_eq!(words(&listener.handle_output(b"READY\n", DEFAULT)), "READY");
    }

    /// Pieces of what listeners print, right and wrong.
    fn speech() -> impl Strategy<Value = Vec<u8>> {
        let pieces: [&[u8]; 8] = [
            b"READY\n",
            b"RESULT 2\nOK",
            b"RESULT 4\nFAIL",
            b"RESULT x\n",
            b"noise\n",
            b"noise",
            b"\n",
            b"\xff",
        ];
        let piece = prop::sample::select(pieces.to_vec());
        prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_makes_no_difference(text in speech(), busy in any::<bool>()) {
            let begin = || listener(if busy { ListenerState::Busy } else { ListenerState::Acknowledged });
            let whole = words(&begin().handle_output(&text, DEFAULT));
            for at in 0..=text.len() {
                let mut listener = begin();
                let mut heard = listener.handle_output(&text[..at], DEFAULT);
                heard.extend(listener.handle_output(&text[at..], DEFAULT));
                prop_assert_eq!(words(&heard), whole.clone(), "cut at {}", at);
            }
            let mut listener = begin();
            let bytewise: Vec<Heard> = text.iter().flat_map(|byte| listener.handle_output(&[*byte], DEFAULT)).collect();
            prop_assert_eq!(words(&bytewise), whole);
        }

        #[test]
        fn no_listener_is_lost_for_ever(text in speech(), busy in any::<bool>()) {
            let mut listener = listener(if busy { ListenerState::Busy } else { ListenerState::Acknowledged });
            listener.handle_output(&text, DEFAULT);
            if listener.state() == ListenerState::Unknown {
                listener.handle_output(b"\nREADY\nREADY\n", DEFAULT);
                prop_assert_eq!(listener.state(), ListenerState::Ready);
            }
        }
    }
}
