//! Tests of payloads, envelope and pools.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    config::{EventLength, GroupConfig, GroupKind, ResultHandler},
    process::test_defaults,
    supervisor::{ProcessId, Supervisor},
};

/// Ids of so many processes.
fn ids(count: usize) -> Vec<ProcessId> {
    let processes = (0..count).map(|n| Arc::new(test_defaults(&format!("l{n}")))).collect();
    let group = GroupConfig { name: "l".to_owned(), priority: -1, kind: GroupKind::Program, processes };
    Supervisor::new().add_group(Arc::new(group)).unwrap().to_vec()
}

fn name() -> ProcessName {
    ProcessName { name: "web".to_owned(), group: "site".to_owned() }
}

fn change(from: ProcessState, to: ProcessState) -> Event {
    Event::ProcessState { process: name(), from, to, tries: 2, pid: 77, expected: false }
}

#[test]
fn payloads_are_supervisors_to_the_byte() {
    use ProcessState::{Backoff, Exited, Fatal, Running, Starting, Stopped, Stopping, Unknown};
    let data = b"say \xc3\xa4\n".to_vec();
    let (stdout, stderr) = (Channel::Stdout, Channel::Stderr);
    for (event, kind, payload) in [
        (
            change(Exited, Starting),
            "PROCESS_STATE_STARTING",
            "processname:web groupname:site from_state:EXITED tries:2",
        ),
        (
            change(Starting, Running),
            "PROCESS_STATE_RUNNING",
            "processname:web groupname:site from_state:STARTING pid:77",
        ),
        (
            change(Starting, Backoff),
            "PROCESS_STATE_BACKOFF",
            "processname:web groupname:site from_state:STARTING tries:2",
        ),
        (
            change(Running, Stopping),
            "PROCESS_STATE_STOPPING",
            "processname:web groupname:site from_state:RUNNING pid:77",
        ),
        (
            change(Running, Exited),
            "PROCESS_STATE_EXITED",
            "processname:web groupname:site from_state:RUNNING expected:0 pid:77",
        ),
        (
            change(Stopping, Stopped),
            "PROCESS_STATE_STOPPED",
            "processname:web groupname:site from_state:STOPPING pid:77",
        ),
        (change(Backoff, Fatal), "PROCESS_STATE_FATAL", "processname:web groupname:site from_state:BACKOFF"),
        (
            change(Stopping, Unknown),
            "PROCESS_STATE_UNKNOWN",
            "processname:web groupname:site from_state:STOPPING",
        ),
        (
            Event::ProcessLog { process: name(), pid: 77, channel: stdout, data: data.clone() },
            "PROCESS_LOG_STDOUT",
            "processname:web groupname:site pid:77 channel:stdout\nsay ä\n",
        ),
        (
            Event::ProcessLog { process: name(), pid: 77, channel: stderr, data: b"\xff'\"\t\\".to_vec() },
            "PROCESS_LOG_STDERR",
            "processname:web groupname:site pid:77 channel:stderr\nUndecodable: b'\\xff\\'\"\\t\\\\'",
        ),
        (
            Event::ProcessCommunication { process: name(), pid: 77, channel: stdout, data },
            "PROCESS_COMMUNICATION_STDOUT",
            "processname:web groupname:site pid:77\nsay ä\n",
        ),
        (
            Event::ProcessCommunication {
                process: name(),
                pid: 77,
                channel: stderr,
                data: b"\x00\xfe'".to_vec(),
            },
            "PROCESS_COMMUNICATION_STDERR",
            "processname:web groupname:site pid:77\nUndecodable: b\"\\x00\\xfe'\"",
        ),
        (
            Event::RemoteCommunication { kind: "deploy".to_owned(), data: "v2".to_owned() },
            "REMOTE_COMMUNICATION",
            "type:deploy\nv2",
        ),
        (Event::SupervisorRunning, "SUPERVISOR_STATE_CHANGE_RUNNING", ""),
        (Event::SupervisorStopping, "SUPERVISOR_STATE_CHANGE_STOPPING", ""),
        (Event::Tick { period: Period::Minute, when: 120 }, "TICK_60", "when:120"),
        (Event::GroupAdded("site".to_owned()), "PROCESS_GROUP_ADDED", "groupname:site\n"),
        (Event::GroupRemoved("site".to_owned()), "PROCESS_GROUP_REMOVED", "groupname:site\n"),
    ] {
        assert_eq!(event.kind().name(), kind);
        assert_eq!(event.payload(), payload, "{kind}");
    }
}

#[test]
fn the_envelope_counts_bytes_characters_or_units_of_utf_16() {
    let envelope =
        Envelope { server: "supervisor", serial: 21, pool: "mails", poolserial: 3, kind: EventType::Tick5 };
    for (counted, length) in [(Counted::Bytes, 9), (Counted::Characters, 3), (Counted::Utf16, 4)] {
        let expected = format!(
            "ver:3.0 server:supervisor serial:21 pool:mails poolserial:3 eventname:TICK_5 len:{length}\nä☃😀"
        );
        assert_eq!(envelope.around("ä☃😀", counted), expected.as_bytes());
    }
}

#[test]
fn what_a_listener_counts_is_looked_up_once_and_only_where_it_matters() {
    let mut sim = Sim::new(Buffering::Events(10), 1);
    let all = PoolSettings { events: vec![EventType::Event], ..settings(EventType::Tick, Buffering::Usual) };
    sim.pools.set("p", all.clone(), &sim.listeners);
    let looks = std::cell::Cell::new(0);
    let length_of = |sim: &mut Sim, text: &str| {
        sim.pools.raise(&Event::RemoteCommunication { kind: String::new(), data: text.to_owned() });
        sim.says(0, "READY\n");
        let counted = |_| {
            looks.set(looks.get() + 1);
            Counted::Characters
        };
        let delivery = sim.pools.poll_delivery(|_| true, counted).unwrap();
        sim.says(0, "RESULT 2\nOK");
        let header = String::from_utf8(delivery.bytes).unwrap();
        let length: usize = header.lines().next().unwrap().rsplit_once("len:").unwrap().1.parse().unwrap();
        (length - "type:\n".len(), looks.get())
    };
    assert_eq!(length_of(&mut sim, "a"), (1, 0), "ASCII");
    assert_eq!(length_of(&mut sim, "ä"), (1, 1));
    assert_eq!(length_of(&mut sim, "ä☃"), (2, 1));
    sim.pools.handle_spawned(sim.listeners[0]);
    assert_eq!(length_of(&mut sim, "ä"), (1, 2), "another program");
    sim.pools.set("p", PoolSettings { length: EventLength::Bytes, ..all.clone() }, &sim.listeners);
    assert_eq!(length_of(&mut sim, "ä☃"), (5, 2), "it was said");
    sim.pools.set("p", PoolSettings { length: EventLength::Characters, ..all }, &sim.listeners);
    assert_eq!(length_of(&mut sim, "ä☃"), (2, 2), "it was said");
}

fn bytes(_: ProcessId) -> Counted {
    Counted::Bytes
}

fn settings(events: EventType, buffering: Buffering) -> PoolSettings {
    PoolSettings {
        events: vec![events],
        buffering,
        handler: ResultHandler::default(),
        length: EventLength::default(),
    }
}

/// Pools and their listeners, all of them RUNNING.
struct Sim {
    pools: Pools,
    listeners: Vec<ProcessId>,
}

impl Sim {
    fn new(buffering: Buffering, listeners: usize) -> Self {
        let listeners = ids(listeners);
        let mut pools = Pools::default();
        pools.set_server("supervisor");
        pools.set("p", settings(EventType::Tick, buffering), &listeners);
        Self { pools, listeners }
    }

    fn tick(&mut self, when: u64) {
        self.pools.raise(&Event::Tick { period: Period::Five, when });
    }

    fn ends(&mut self, listener: usize) {
        self.pools.handle_exit(self.listeners[listener]);
        self.pools.give_back(self.listeners[listener]);
    }

    fn says(&mut self, listener: usize, text: &str) {
        self.pools.handle_output(self.listeners[listener], text.as_bytes());
    }

    /// Serials of events that are delivered now, and to whom.
    fn deliveries(&mut self) -> Vec<(usize, u64)> {
        let mut all = Vec::new();
        while let Some(delivery) = self.pools.poll_delivery(|_| true, bytes) {
            let at = self.listeners.iter().position(|id| *id == delivery.to).unwrap();
            all.push((at, delivery.serial));
        }
        all
    }

    fn news(&mut self) -> Vec<String> {
        let mut all = Vec::new();
        while let Some(news) = self.pools.poll_news() {
            match news {
                News::Overflowed { serial, .. } => all.push(format!("overflow {serial}")),
                News::Rebuffered { serial, size, max, .. } => all.push(format!("back {serial} {size}/{max}")),
                News::Unanswered { serial, .. } => all.push(format!("unanswered {serial}")),
                News::Printed(text) => all.push(format!("printed {}", String::from_utf8(text).unwrap())),
                News::Heard(..) | News::MoreViolations(..) => {}
            }
        }
        all
    }
}

#[test]
fn an_event_goes_to_one_ready_listener_and_the_next_to_another() {
    let mut sim = Sim::new(Buffering::Events(10), 2);
    sim.tick(5);
    sim.tick(10);
    sim.tick(15);
    assert!(sim.deliveries().is_empty());
    sim.says(0, "READY\n");
    sim.says(1, "READY\n");
    assert_eq!(sim.deliveries(), [(0, 0), (1, 1)]);
    sim.says(1, "RESULT 2\nOKREADY\n");
    assert_eq!(sim.deliveries(), [(1, 2)]);
}

#[test]
fn only_running_listeners_get_events() {
    let mut sim = Sim::new(Buffering::Events(10), 1);
    sim.tick(5);
    sim.says(0, "READY\n");
    assert_eq!(sim.pools.poll_delivery(|_| false, bytes), None);
    assert_eq!(sim.deliveries(), [(0, 0)]);
}

#[test]
fn a_pool_is_idle_when_no_listener_has_an_event_or_would_get_one() {
    let idle = |sim: &Sim| sim.pools.is_idle("p", |_| true);
    let mut sim = Sim::new(Buffering::Events(10), 1);
    assert!(idle(&sim) && sim.pools.is_idle("no such pool", |_| true));
    sim.tick(5);
    assert!(!idle(&sim), "it will be ready");
    assert!(sim.pools.is_idle("p", |_| false), "it does not run");
    sim.says(0, "READY\n");
    assert!(!idle(&sim), "it has not been sent yet");
    assert_eq!(sim.deliveries(), [(0, 0)]);
    assert!(!idle(&sim), "it owes a result");
    assert!(sim.pools.is_idle("p", |_| false));
    sim.says(0, "RESULT 2\nOK");
    assert!(idle(&sim), "nothing is left");
    sim.says(0, "READY\n");
    assert!(idle(&sim));
    sim.tick(10);
    assert_eq!(sim.deliveries(), [(0, 1)]);
    sim.says(0, "RESULT 4\nFAIL");
    assert!(!idle(&sim), "a rejected event comes again");
    sim.says(0, "nonsense\n");
    assert!(idle(&sim), "nobody waits for who is not in step");
}

#[test]
fn a_pool_whose_listener_reads_no_more_is_idle() {
    let mut sim = Sim::new(Buffering::Events(10), 2);
    sim.tick(5);
    sim.says(0, "READY\n");
    let delivery = sim.pools.poll_delivery(|_| true, bytes).unwrap();
    sim.pools.handle_unsent(delivery.to);
    assert!(!sim.pools.is_idle("p", |_| true), "there is another");
    sim.ends(1);
    assert!(sim.pools.is_idle("p", |id| id == delivery.to));
}

#[test]
fn events_that_nobody_subscribed_to_take_no_serial() {
    let mut sim = Sim::new(Buffering::Events(10), 1);
    sim.pools.raise(&Event::SupervisorRunning);
    sim.tick(5);
    sim.says(0, "READY\n");
    let delivery = sim.pools.poll_delivery(|_| true, bytes).unwrap();
    let text = "ver:3.0 server:supervisor serial:0 pool:p poolserial:0 eventname:TICK_5 len:6\nwhen:5";
    assert_eq!(String::from_utf8(delivery.bytes).unwrap(), text);
}

#[test]
fn t57_a_full_buffer_drops_the_oldest_and_says_so_and_poolserial_shows_the_gap() {
    let mut sim = Sim::new(Buffering::Events(2), 1);
    for when in 1..=4 {
        sim.tick(when * 5);
    }
    assert_eq!(sim.news(), ["overflow 0", "overflow 1"]);
    assert!(sim.pools.advice(sim.listeners[0])[0].starts_with("2 events for pool p were discarded"));
    sim.says(0, "READY\n");
    let delivery = sim.pools.poll_delivery(|_| true, bytes).unwrap();
    assert!(String::from_utf8(delivery.bytes).unwrap().contains("serial:2 pool:p poolserial:2 "));
}

#[test]
fn t57_the_usual_buffer_takes_a_storm_but_not_without_bounds() {
    let mut sim = Sim::new(Buffering::Usual, 1);
    for when in 1..=500 {
        sim.tick(when * 5);
    }
    assert!(sim.news().is_empty());
    sim.pools.set("big", settings(EventType::RemoteCommunication, Buffering::Usual), &[]);
    for _ in 0..20 {
        sim.pools.raise(&Event::RemoteCommunication { kind: String::new(), data: "x".repeat(1 << 20) });
    }
    // Ten are kept whatever their size: the events before them are 500 ticks.
    assert_eq!(sim.news(), (500..510).map(|serial| format!("overflow {serial}")).collect::<Vec<_>>());
}

#[test]
fn a_rejected_event_goes_back_to_the_head_of_its_own_pool_only() {
    let mut sim = Sim::new(Buffering::Events(10), 1);
    sim.pools.set("other", settings(EventType::Tick, Buffering::Events(10)), &[]);
    sim.tick(5);
    sim.tick(10);
    sim.says(0, "READY\n");
    assert_eq!(sim.deliveries(), [(0, 0)]);
    sim.says(0, "RESULT 4\nFAILREADY\n");
    assert_eq!(sim.news(), ["back 0 1/10"]);
    assert_eq!(sim.deliveries(), [(0, 0)]);
    sim.says(0, "RESULT 2\nOKREADY\n");
    assert_eq!(sim.deliveries(), [(0, 1)]);
}

#[test]
fn an_event_comes_back_when_its_listener_ends_or_cannot_be_written_to() {
    let mut sim = Sim::new(Buffering::Events(10), 2);
    sim.tick(5);
    sim.says(0, "READY\n");
    assert_eq!(sim.deliveries(), [(0, 0)]);
    sim.ends(0);
    assert_eq!(sim.news(), ["back 0 0/10"]);
    sim.says(1, "READY\n");
    assert_eq!(sim.deliveries(), [(1, 0)]);
    sim.pools.handle_unsent(sim.listeners[1]);
    assert!(sim.deliveries().is_empty(), "a deaf listener is not tried again");
    let deaf = "its stdin takes nothing any more: it gets no events until it is restarted";
    assert_eq!(sim.pools.advice(sim.listeners[1]), [deaf]);
    assert!(sim.pools.advice(sim.listeners[0]).is_empty());
    sim.pools.handle_spawned(sim.listeners[1]);
    sim.says(1, "READY\n");
    assert_eq!(sim.deliveries(), [(1, 0)]);
}

#[test]
fn news_come_in_supervisors_order() {
    for (words, expected) in [
        ("RESULT 4\nFAIL", &["Rejected", "to Acknowledged", "rebuffered"] as &[_]),
        ("RESULT x\n", &["BadResultLine", "Violation", "to Unknown", "rebuffered"]),
    ] {
        let mut sim = Sim::new(Buffering::Events(10), 1);
        sim.tick(5);
        sim.says(0, "READY\n");
        sim.deliveries();
        while sim.pools.poll_news().is_some() {}
        sim.says(0, words);
        let word = |news: News| match news {
            News::Heard(_, Heard::Changed { to, .. }) => format!("to {to:?}"),
            News::Heard(_, heard) => {
                let text = format!("{heard:?}");
                text.split(['(', ' ']).next().unwrap_or_default().to_owned()
            }
            News::Rebuffered { .. } => "rebuffered".to_owned(),
            other => format!("{other:?}"),
        };
        let found: Vec<String> = std::iter::from_fn(|| sim.pools.poll_news()).map(word).collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn in_a_full_buffer_others_make_room_for_what_a_dead_listener_had() {
    let mut sim = Sim::new(Buffering::Events(3), 1);
    sim.tick(5);
    sim.says(0, "READY\n");
    assert_eq!(sim.deliveries(), [(0, 0)]);
    for when in 2..=4 {
        sim.tick(when * 5);
    }
    sim.pools.handle_exit(sim.listeners[0]);
    // What happens at its end.
    sim.tick(25);
    sim.pools.handle_spawned(sim.listeners[0]);
    sim.pools.give_back(sim.listeners[0]);
    assert_eq!(sim.news(), ["overflow 1", "back 0 3/3", "overflow 2"]);
    for expected in [0, 3, 4] {
        sim.says(0, "READY\n");
        assert_eq!(sim.deliveries(), [(0, expected)]);
        sim.says(0, "RESULT 2\nOK");
    }
}

#[test]
fn t58_noise_before_a_result_neither_loses_nor_repeats_the_event() {
    let mut sim = Sim::new(Buffering::Events(10), 1);
    sim.tick(5);
    sim.tick(10);
    sim.says(0, "READY\n");
    assert_eq!(sim.deliveries(), [(0, 0)]);
    sim.says(0, "working on it\nRESULT 2\nOKREADY\n");
    assert_eq!(sim.deliveries(), [(0, 1)]);
    let advice = sim.pools.advice(sim.listeners[0]);
    assert!(advice[0].contains("it printed \"working on it\" on stdout"), "{advice:?}");
    assert!(advice[0].ends_with("it has been in step again since"), "{advice:?}");
}

#[test]
fn t58_a_listener_that_never_gives_results_does_not_get_one_event_for_ever() {
    let mut sim = Sim::new(Buffering::Events(10), 1);
    sim.tick(5);
    sim.says(0, "READY\n");
    assert_eq!(sim.deliveries(), [(0, 0)]);
    sim.says(0, "READY\n");
    assert_eq!(sim.deliveries(), [(0, 0)]);
    sim.news();
    sim.says(0, "READY\n");
    assert_eq!(sim.news(), ["back 0 0/10", "unanswered 0"]);
    assert!(sim.deliveries().is_empty());
    let advice = sim.pools.advice(sim.listeners[0]);
    assert!(advice.iter().all(|line| !line.contains("buffer")), "the buffer was never full: {advice:?}");
}

#[test]
fn a_result_that_its_handler_cannot_use_is_delivered_once_more_and_no_third_time() {
    let mut sim = Sim::new(Buffering::Events(10), 1);
    let handler = ResultHandler::SupervisorStdout;
    let stdout = PoolSettings { handler, ..settings(EventType::Event, Buffering::Events(10)) };
    sim.pools.set("p", stdout, &sim.listeners);
    sim.tick(5);
    let process = ProcessName { name: "web".to_owned(), group: "g".to_owned() };
    let (data, channel) = (b"hello\n".to_vec(), Channel::Stderr);
    sim.pools.raise(&Event::ProcessLog { process, pid: 7, channel, data });
    sim.says(0, "READY\n");
    for violations in 1..=2 {
        assert_eq!(sim.deliveries(), [(0, 0)]);
        sim.says(0, "RESULT 6\nwhen:5");
        assert!(sim.deliveries().is_empty() && sim.pools.is_idle("p", |_| true));
        assert_eq!(sim.pools.violations(sim.listeners[0]), violations);
        sim.says(0, "READY\n");
    }
    assert_eq!(sim.news(), ["back 0 1/10", "back 0 1/10", "unanswered 0"]);
    let delivery = sim.pools.poll_delivery(|_| true, bytes).unwrap();
    let text = String::from_utf8(delivery.bytes).unwrap();
    let (_, payload) = text.split_once('\n').unwrap();
    sim.says(0, &format!("RESULT {}\n{payload}READY\n", payload.len()));
    assert_eq!(sim.news(), ["printed web stderr | hello\n"]);
}

proptest! {
    #[test]
    fn no_event_is_lost_silently(
        steps in prop::collection::vec((0usize..2, 0u8..7), 1..120), size in 1usize..5
    ) {
        let mut sim = Sim::new(Buffering::Events(size), 2);
        let (mut raised, mut settled) = (0u64, 0u64);
        let mut count = |sim: &mut Sim| {
            while let Some(news) = sim.pools.poll_news() {
                match news {
                    News::Heard(_, Heard::Processed | Heard::LateResult(true)) => settled += 1,
                    News::Overflowed { .. } | News::Unanswered { .. } => settled += 1,
                    News::Heard(..)
                    | News::MoreViolations(..)
                    | News::Rebuffered { .. }
                    | News::Printed(_) => {}
                }
            }
            settled
        };
        for (who, what) in steps {
            match what {
                0 | 1 => {
                    sim.tick(raised * 5);
                    raised += 1;
                }
                2 => sim.says(who, "READY\n"),
                3 => sim.says(who, "RESULT 2\nOKREADY\n"),
                4 => sim.says(who, "RESULT 4\nFAILREADY\n"),
                5 => sim.says(who, "noise\n"),
                _ => sim.ends(who),
            }
            sim.deliveries();
            count(&mut sim);
        }
        sim.ends(0);
        sim.ends(1);
        sim.says(0, "READY\n");
        while !sim.deliveries().is_empty() {
            sim.says(0, "RESULT 2\nOKREADY\n");
        }
        prop_assert!(count(&mut sim) >= raised);
    }
}

#[test]
fn a_flood_of_junk_is_understood_in_time_and_few_words_are_made_of_it() {
    let mut sim = Sim::new(Buffering::Usual, 1);
    sim.says(0, &"\n".repeat(1 << 20));
    sim.says(0, "READY\n");
    while sim.pools.poll_news().is_some() {}
    sim.says(0, &"junk\n".repeat(1 << 17));
    let news: Vec<News> = std::iter::from_fn(|| sim.pools.poll_news()).collect();
    assert!(news.len() < 6 && news.iter().any(|news| matches!(news, News::MoreViolations(..))), "{news:?}");
    // One before it was READY, and one for each line since.
    assert_eq!(sim.pools.violations(sim.listeners[0]), 1 + (1 << 17));
    sim.tick(5);
    assert_eq!(sim.deliveries(), [(0, 0)], "it has been READY all the time");
}
