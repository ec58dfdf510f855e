//! Tests of names, order and shutdown of all processes together, on simulated time.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{
    config::GroupKind,
    process::{ProcessState, test_defaults},
};

/// A supervisor, a clock that only the test moves, and the children that exist.
struct Sim {
    supervisor: Supervisor,
    now: Moment,
    next_pid: i32,
    /// Living children, and whether they have been sent SIGTERM or SIGKILL.
    children: BTreeMap<Pid, (ProcessId, Option<i32>)>,
    /// Process names in the order of their stop signals.
    stopped: Vec<String>,
}

impl Sim {
    fn new() -> Self {
        Self {
            supervisor: Supervisor::new(),
            now: crate::clock::now(),
            next_pid: 100,
            children: BTreeMap::new(),
            stopped: Vec::new(),
        }
    }

    fn add(&mut self, name: &str, priority: i32, processes: &[&str]) {
        let processes = processes.iter().map(|name| Arc::new(test_defaults(name))).collect();
        let group = GroupConfig { name: name.to_owned(), priority, kind: GroupKind::Program, processes };
        self.supervisor.add_group(Arc::new(group)).unwrap();
        self.supervisor.autostart(name, self.now);
        self.perform();
    }

    fn perform(&mut self) {
        while let Some((id, effect)) = self.supervisor.poll_effect() {
            match effect {
                Effect::Spawn => {
                    assert!(self.children.values().all(|(owner, _)| *owner != id), "a second child");
                    self.next_pid += 1;
                    let pid = Pid::from_raw(self.next_pid);
                    self.children.insert(pid, (id, None));
                    self.supervisor.handle_spawned(id, pid, self.now);
                }
                Effect::Signal { pid, signal, .. } => {
                    if let Some((_, sent)) = self.children.get_mut(&pid) {
                        *sent = Some(signal.0);
                        self.stopped.push(self.supervisor.names(id).unwrap().1.to_owned());
                    }
                }
                Effect::EndLeftovers { .. } | Effect::Changed { .. } | Effect::Note(_) => {}
            }
        }
    }

    fn exit(&mut self, pid: Pid) {
        self.children.remove(&pid);
        let killed = Exit::Signal { signal: libc::SIGTERM, core_dumped: false };
        self.supervisor.handle_exit(pid, killed, Aftermath::default(), self.now);
        self.perform();
    }

    /// Ends every child that was sent a signal.
    fn obey(&mut self) {
        let told: Vec<Pid> =
            self.children.iter().filter(|(_, (_, sent))| sent.is_some()).map(|(pid, _)| *pid).collect();
        for pid in told {
            self.exit(pid);
        }
    }

    fn pass(&mut self, span: Duration) {
        self.now = self.now.after(span);
        while self.supervisor.poll_timeout().is_some_and(|at| at <= self.now.mono) {
            self.supervisor.handle_timeout(self.now);
            self.perform();
        }
    }

    fn names_of(&self, selection: Selection) -> Vec<String> {
        let ids = match selection {
            Selection::One(id) => vec![id],
            Selection::Many(ids) => ids,
            Selection::NoProcess | Selection::NoGroup => panic!("nothing is named"),
        };
        ids.iter()
            .map(|id| self.supervisor.names(*id).map(|(group, name)| format!("{group}:{name}")).unwrap())
            .collect()
    }
}

#[test]
fn selectors_name_what_supervisors_do_and_wildcards_more() {
    let mut sim = Sim::new();
    sim.add("web", 999, &["web"]);
    sim.add("workers", 999, &["job_00", "job_01", "other"]);
    sim.add("webhook", 999, &["webhook"]);
    sim.add("empty", 999, &[]);
    let named = |selector: &str| sim.names_of(select(&sim.supervisor, selector));
    assert_eq!(named("empty:*"), [""; 0]);
    assert_eq!(named("web"), ["web:web"]);
    assert_eq!(named("web:web"), ["web:web"]);
    assert_eq!(named("workers:job_01"), ["workers:job_01"]);
    assert_eq!(named("workers:*"), ["workers:job_00", "workers:job_01", "workers:other"]);
    assert_eq!(named("workers:"), named("workers:*"));
    assert_eq!(named("web*"), ["web:web", "webhook:webhook"]);
    assert_eq!(named("workers:job_0?"), ["workers:job_00", "workers:job_01"]);
    assert_eq!(named("all").len(), 5);
    for (selector, what) in [
        ("job_00", Selection::NoProcess),
        ("workers", Selection::NoProcess),
        ("workers:nosuch", Selection::NoProcess),
        ("nosuch:*", Selection::NoGroup),
        ("nosuch:", Selection::NoGroup),
        ("x*", Selection::NoProcess),
        ("[", Selection::NoProcess),
    ] {
        assert_eq!(select(&sim.supervisor, selector), what, "{selector}");
    }
}

#[test]
fn a_shutdown_stops_high_priority_numbers_first_and_equal_ones_together() {
    let mut sim = Sim::new();
    sim.add("db", 1, &["db"]);
    sim.add("app", 500, &["app"]);
    sim.add("api", 500, &["api"]);
    sim.add("web", 900, &["web"]);
    sim.supervisor.begin_shutdown(Mode::ShuttingDown, sim.now);
    sim.perform();
    assert_eq!(sim.stopped, ["web"]);
    sim.obey();
    assert_eq!(sim.stopped, ["web", "app", "api"]);
    sim.obey();
    assert_eq!(sim.stopped, ["web", "app", "api", "db"]);
    assert!(!sim.supervisor.is_shut_down());
    sim.obey();
    assert!(sim.supervisor.is_shut_down());
}

#[test]
fn a_shutdown_of_nothing_is_over_at_once() {
    let mut sim = Sim::new();
    sim.supervisor.begin_shutdown(Mode::ShuttingDown, sim.now);
    assert!(sim.supervisor.is_shut_down());
}

#[test]
fn t10_a_shutdown_ends_with_processes_in_backoff_and_starting() {
    let mut sim = Sim::new();
    sim.add("a", 999, &["a"]);
    sim.add("b", 999, &["b"]);
    let first = *sim.children.keys().next().unwrap();
    sim.exit(first);
    let a = sim.supervisor.find("a", "a").unwrap();
    assert_eq!(sim.supervisor.process(a).unwrap().state(), ProcessState::Backoff);
    sim.supervisor.begin_shutdown(Mode::ShuttingDown, sim.now);
    sim.perform();
    assert_eq!(sim.stopped, ["b"]);
    sim.obey();
    assert!(sim.supervisor.is_shut_down());
}

#[test]
fn t15_a_late_exit_of_an_earlier_child_does_not_touch_its_replacement() {
    let mut sim = Sim::new();
    sim.add("a", 999, &["a"]);
    let first = *sim.children.keys().next().unwrap();
    sim.pass(Duration::from_secs(1));
    sim.exit(first);
    let second = *sim.children.keys().next().unwrap();
    assert_ne!(first, second);
    sim.exit(first);
    let a = sim.supervisor.find("a", "a").unwrap();
    assert_eq!(sim.supervisor.process(a).unwrap().pid(), Some(second));
    assert_eq!(sim.supervisor.owner(second), Some(a));
}

#[test]
fn a_group_is_removed_only_when_it_is_at_rest() {
    let mut sim = Sim::new();
    sim.add("a", 999, &["a"]);
    assert_eq!(sim.supervisor.remove_group("a"), Err(GroupDenied::StillRunning));
    assert_eq!(sim.supervisor.remove_group("b"), Err(GroupDenied::NoSuchGroup));
    let a = sim.supervisor.find("a", "a").unwrap();
    sim.supervisor.stop(a, sim.now).unwrap();
    sim.perform();
    sim.obey();
    assert_eq!(sim.supervisor.remove_group("a"), Ok(vec![a]));
    assert_eq!((sim.supervisor.find("a", "a"), sim.supervisor.poll_timeout()), (None, None));
}

#[test]
fn bulk_order_is_by_priority_of_group_then_process() {
    let mut sim = Sim::new();
    sim.add("late", 999, &["late"]);
    sim.add("early", 1, &["early"]);
    let ids = sim.supervisor.in_name_order();
    assert_eq!(
        sim.names_of(Selection::Many(sim.supervisor.in_start_order(&ids))),
        ["early:early", "late:late"]
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn a_shutdown_at_any_time_leaves_no_child(
        priorities in prop::collection::vec(0..3i32, 1..6),
        ops in prop::collection::vec((0..6usize, 0..4u8), 0..30),
    ) {
        let mut sim = Sim::new();
        for (at, priority) in priorities.iter().enumerate() {
            sim.add(&format!("g{at}"), *priority, &["a", "b"]);
        }
        let ids = sim.supervisor.in_name_order();
        for (which, what) in ops {
            let id = ids[which % ids.len()];
            match what {
                0 => _ = sim.supervisor.start(id, sim.now),
                1 => _ = sim.supervisor.stop(id, sim.now),
                2 => if let Some(pid) = sim.children.keys().nth(which).copied() { sim.exit(pid) },
                _ => sim.pass(Duration::from_millis(700)),
            }
            sim.perform();
        }
        sim.supervisor.begin_shutdown(Mode::ShuttingDown, sim.now);
        for _ in 0..10 {
            sim.perform();
            sim.obey();
            sim.pass(Duration::from_secs(11));
        }
        prop_assert!(sim.supervisor.is_shut_down() && sim.children.is_empty());
    }
}
