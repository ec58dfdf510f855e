//! Tests of names, order and shutdown of all processes together, on simulated time.

use std::time::Duration;

use proptest::{prelude::*, test_runner::RngAlgorithm};

use super::*;
use crate::{
    config::{EventLength, GroupKind, ProgramConfig, ResultHandler, diff::ProcessChange},
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
        self.add_kind(GroupKind::Program, name, priority, processes);
    }

    fn add_listener(&mut self, name: &str, priority: i32) {
        let kind = GroupKind::EventListener {
            events: Vec::new(),
            buffer_size: None,
            result_handler: ResultHandler::default(),
            event_length: EventLength::default(),
        };
        self.add_kind(kind, name, priority, &[name]);
    }

    fn add_kind(&mut self, kind: GroupKind, name: &str, priority: i32, processes: &[&str]) {
        let processes = processes.iter().map(|name| Arc::new(test_defaults(name))).collect();
        let group = GroupConfig { name: name.to_owned(), priority, kind, processes };
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
                Effect::EndLeftovers { .. } | Effect::Changed { .. } | Effect::Waits | Effect::Note(_) => {}
            }
        }
    }

    fn exit(&mut self, pid: Pid) {
        self.children.remove(&pid);
        let killed = Exit::Signal { signal: libc::SIGTERM, core_dumped: false };
        if let Some(id) = self.supervisor.handle_reaped(pid) {
            self.supervisor.handle_exit(id, killed, Aftermath::default(), self.now);
        }
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
        ("\0web*", Selection::NoProcess),
        ("\0all", Selection::NoProcess),
        ("\0w*:*", Selection::NoGroup),
    ] {
        assert_eq!(select(&sim.supervisor, selector), what, "{selector}");
    }
}

#[test]
fn a_name_with_a_wildcard_in_it_means_what_is_called_so() {
    let mut sim = Sim::new();
    sim.add("w*", 999, &["w*"]);
    sim.add("web", 999, &["web"]);
    sim.add("br[1]", 999, &["a?", "ab"]);
    let named = |selector: &str| sim.names_of(select(&sim.supervisor, selector));
    for (selector, names) in [
        ("w*", &["w*:w*"][..]),
        ("w*:*", &["w*:w*"]),
        ("w?*", &["w*:w*", "web:web"]),
        ("br[1]:a?", &["br[1]:a?"]),
        ("br[1]:*", &["br[1]:a?", "br[1]:ab"]),
        ("br*:a?", &["br[1]:a?", "br[1]:ab"]),
    ] {
        assert_eq!(named(selector), names, "{selector}");
    }
    assert_eq!(named(&literally("br[1]:a?")), ["br[1]:a?"]);
    assert_eq!(named(&literally("br[1]:*")).len(), 2);
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

/// What is stopped in a shutdown, and which pools are waited for (`?pool`), in order; `idle` pools need no time.
fn steps(sim: &mut Sim, idle: impl Fn(&str) -> bool) -> Vec<String> {
    let mut steps = Vec::new();
    sim.supervisor.begin_shutdown(Mode::ShuttingDown, sim.now);
    while !sim.supervisor.is_shut_down() {
        sim.perform();
        steps.append(&mut sim.stopped);
        if let Some(pool) = sim.supervisor.awaited_pool().map(str::to_owned) {
            assert!(sim.children.values().all(|(_, sent)| sent.is_none()), "a pool waits for all before it");
            steps.push(format!("?{pool}"));
            if idle(&pool) {
                sim.supervisor.handle_pool_idle(sim.now);
            } else {
                sim.pass(Duration::from_millis(999));
                assert_eq!(sim.supervisor.awaited_pool(), Some(pool.as_str()));
                sim.pass(Duration::from_millis(1));
                assert_ne!(sim.supervisor.awaited_pool(), Some(pool.as_str()));
            }
        } else {
            sim.obey();
        }
    }
    assert!(sim.children.is_empty() && sim.supervisor.awaited_pool().is_none());
    assert_eq!(sim.supervisor.poll_timeout(), None);
    steps
}

#[test]
fn pools_are_stopped_one_by_one_in_their_place_when_they_have_got_what_happened_before() {
    /// Name, priority and whether it is a pool, of each group in order of activation.
    type Groups = &'static [(&'static str, i32, bool)];
    let table: [(Groups, &[&str]); 7] = [
        (&[("a", 999, false), ("l", -1, true)], &["a", "?l", "l"]),
        (&[("l", -1, true), ("a", 999, false), ("b", 999, false)], &["a", "b", "?l", "l"]),
        (&[("l", -1, true), ("m", -1, true), ("a", 9, false)], &["a", "?m", "m", "?l", "l"]),
        (&[("l", -2, true), ("m", 5, true), ("a", 9, false)], &["a", "?m", "m", "?l", "l"]),
        (&[("l", 10, true), ("a", 9, false)], &["?l", "l", "a"]),
        (&[("a", 9, false), ("l", 9, true), ("f", 9, false)], &["f", "?l", "l", "a"]),
        (&[("l", -1, true)], &["?l", "l"]),
    ];
    for (groups, expected) in table {
        let mut sim = Sim::new();
        for (name, priority, is_pool) in groups {
            if *is_pool { sim.add_listener(name, *priority) } else { sim.add(name, *priority, &[name]) }
        }
        assert_eq!(steps(&mut sim, |_| true), expected, "{groups:?}");
    }
}

#[test]
fn pools_that_do_not_answer_cost_a_shutdown_a_second_all_in_all() {
    let mut sim = Sim::new();
    for name in ["l", "m", "n"] {
        sim.add_listener(name, -1);
    }
    // Nobody is asked once the patience is used up.
    assert_eq!(steps(&mut sim, |pool| pool == "n"), ["?n", "n", "?m", "m", "l"]);
    let mut sim = Sim::new();
    sim.add_listener("l", -1);
    sim.add_listener("m", -1);
    let begin = sim.now;
    sim.supervisor.begin_shutdown(Mode::Restarting, sim.now);
    sim.pass(Duration::from_millis(400));
    sim.supervisor.handle_pool_idle(sim.now);
    sim.perform();
    sim.obey();
    assert_eq!(sim.supervisor.awaited_pool(), Some("l"));
    assert_eq!(sim.supervisor.poll_timeout(), Some(begin.after(Duration::from_secs(1)).mono));
}

#[test]
fn pools_that_answer_slowly_cost_a_shutdown_three_seconds_all_in_all() {
    let mut sim = Sim::new();
    for name in ["l", "m", "n"] {
        sim.add_listener(name, -1);
    }
    sim.supervisor.begin_shutdown(Mode::ShuttingDown, sim.now);
    let answers = |sim: &mut Sim, count: usize| {
        for _ in 0..count {
            sim.pass(Duration::from_millis(600));
            sim.supervisor.handle_pool_answer(sim.now);
        }
    };
    answers(&mut sim, 2);
    assert_eq!(sim.supervisor.awaited_pool(), Some("n"), "it has never been silent for a second");
    sim.supervisor.handle_pool_idle(sim.now);
    sim.perform();
    sim.obey();
    answers(&mut sim, 2);
    assert_eq!(sim.supervisor.awaited_pool(), Some("m"));
    sim.pass(Duration::from_millis(599));
    assert_eq!(sim.supervisor.awaited_pool(), Some("m"));
    sim.pass(Duration::from_millis(1));
    sim.perform();
    sim.obey();
    sim.perform();
    assert_eq!(
        (sim.stopped.clone(), sim.supervisor.awaited_pool()),
        (["n", "m", "l"].map(str::to_owned).to_vec(), None)
    );
}

#[test]
fn a_pool_that_is_idle_before_it_is_asked_changes_nothing() {
    let mut sim = Sim::new();
    sim.add_listener("l", -1);
    sim.supervisor.handle_pool_idle(sim.now);
    assert_eq!((sim.supervisor.mode(), sim.supervisor.awaited_pool()), (Mode::Running, None));
    sim.add("a", 999, &["a"]);
    sim.supervisor.begin_shutdown(Mode::ShuttingDown, sim.now);
    sim.supervisor.handle_pool_idle(sim.now);
    sim.perform();
    assert_eq!((sim.stopped.clone(), sim.supervisor.awaited_pool()), (vec!["a".to_owned()], None));
    sim.obey();
    assert_eq!(sim.supervisor.awaited_pool(), Some("l"));
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
    assert_eq!(sim.supervisor.remove_group("a", sim.now), Err(GroupDenied::StillRunning));
    assert_eq!(sim.supervisor.remove_group("b", sim.now), Err(GroupDenied::NoSuchGroup));
    let a = sim.supervisor.find("a", "a").unwrap();
    sim.supervisor.stop(a, sim.now).unwrap();
    sim.perform();
    sim.obey();
    assert_eq!(sim.supervisor.remove_group("a", sim.now), Ok(vec![a]));
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
    let mut sim = Sim::new();
    for (name, priorities) in [("a", &[("x", 30), ("y", 20)][..]), ("b", &[("z", 10)])] {
        let one = |(name, priority): &(&str, i32)| {
            Arc::new(ProgramConfig { priority: *priority, ..test_defaults(name) })
        };
        let processes = priorities.iter().map(one).collect();
        let config = GroupConfig { name: name.to_owned(), priority: 999, kind: GroupKind::Group, processes };
        sim.supervisor.add_group(Arc::new(config)).unwrap();
    }
    let ids = sim.supervisor.in_name_order();
    let order = sim.names_of(Selection::Many(sim.supervisor.in_start_order(&ids)));
    assert_eq!(order, ["a:y", "a:x", "b:z"], "group by group");
}

/// A group `g` of processes, each with a command and a stop time; the name of each is its number.
fn group_of(programs: &BTreeMap<u8, (u8, u8)>, priority: i32) -> GroupConfig {
    let one = |(name, (command, stopwaitsecs)): (&u8, &(u8, u8))| ProgramConfig {
        command: format!("run {command}"),
        stopwaitsecs: Duration::from_secs(u64::from(*stopwaitsecs)),
        ..test_defaults(&name.to_string())
    };
    let processes = programs.iter().map(one).map(Arc::new).collect();
    GroupConfig { name: "g".to_owned(), priority, kind: GroupKind::Group, processes }
}

/// Processes `0..count` with the same settings.
fn numbered(count: u8) -> GroupConfig {
    group_of(&(0..count).map(|name| (name, (1, 10))).collect(), 999)
}

impl Sim {
    fn children_by_name(&self) -> BTreeMap<String, Pid> {
        let name = |id: &ProcessId| self.supervisor.names(*id).unwrap().1.to_owned();
        self.children.iter().map(|(pid, (id, _))| (name(id), *pid)).collect()
    }

    /// Updates as the driver does: what is in the way stops first, then what was asked to start starts.
    fn update(&mut self, new: GroupConfig) -> Vec<Replaced> {
        let new = Arc::new(new);
        let in_the_way = self.supervisor.in_the_way_of(&new).unwrap();
        let running: Vec<ProcessId> = in_the_way
            .iter()
            .copied()
            .filter(|id| self.supervisor.process(*id).unwrap().is_to_run())
            .collect();
        for id in in_the_way {
            let _ = self.supervisor.stop(id, self.now);
        }
        self.perform();
        self.obey();
        let replaced = self.supervisor.replace_group(new, self.now).unwrap();
        for one in &replaced {
            if one.is_to_start || running.contains(&one.id) {
                let _ = self.supervisor.start(one.id, self.now);
            }
        }
        self.perform();
        replaced
    }

    /// Every table of the supervisor says the same.
    fn check_tables(&self) {
        let supervisor = &self.supervisor;
        let grouped: BTreeSet<ProcessId> =
            supervisor.groups.iter().flat_map(|group| group.processes.iter().copied()).collect();
        assert_eq!(grouped, supervisor.entries.keys().copied().collect(), "orphans");
        assert_eq!(grouped, supervisor.by_name.values().copied().collect());
        assert_eq!(grouped.len(), supervisor.by_name.len());
        for (id, entry) in &supervisor.entries {
            let name = entry.process.config().name.clone();
            assert_eq!(supervisor.by_name[&(entry.group.name.clone(), name)], *id);
            let group = supervisor.group(&entry.group.name).unwrap();
            assert!(Arc::ptr_eq(&group.config, &entry.group));
            let config =
                group.config.processes.iter().find(|program| program.name == entry.process.config().name);
            assert!(Arc::ptr_eq(config.unwrap(), entry.process.config()));
            assert_eq!(entry.deadline, entry.process.poll_timeout());
            assert!(entry.process.pid().is_none_or(|pid| supervisor.by_pid.get(&pid) == Some(id)));
        }
        let deadlines = supervisor.entries.iter().filter_map(|(id, entry)| Some((entry.deadline?, *id)));
        assert_eq!(supervisor.deadlines, deadlines.collect());
        assert_eq!(supervisor.by_pid.len(), self.children.len());
    }
}

#[test]
fn t51_more_and_fewer_processes_leave_the_pids_of_the_others() {
    let mut sim = Sim::new();
    sim.supervisor.add_group(Arc::new(numbered(4))).unwrap();
    sim.supervisor.autostart("g", sim.now);
    sim.perform();
    let four = sim.children_by_name();
    assert_eq!(sim.update(numbered(6)).iter().filter(|one| one.change == ProcessChange::Added).count(), 2);
    let six = sim.children_by_name();
    assert!(six.len() == 6 && four.iter().all(|(name, pid)| six[name] == *pid));
    let removed = sim.update(numbered(3)).into_iter().filter(|one| one.change == ProcessChange::Removed);
    assert_eq!(removed.map(|one| one.name).collect::<Vec<_>>(), ["3", "4", "5"]);
    let three = sim.children_by_name();
    assert!(three.len() == 3 && three.iter().all(|(name, pid)| four[name] == *pid));
    sim.check_tables();
}

#[test]
fn a_group_is_replaced_only_when_nothing_is_in_the_way() {
    let mut sim = Sim::new();
    sim.supervisor.add_group(Arc::new(numbered(2))).unwrap();
    sim.supervisor.autostart("g", sim.now);
    sim.perform();
    assert_eq!(sim.supervisor.replace_group(Arc::new(numbered(1)), sim.now), Err(GroupDenied::StillRunning));
    assert_eq!(sim.supervisor.in_the_way_of(&numbered(1)).unwrap().len(), 1);
    assert_eq!(sim.supervisor.in_the_way_of(&numbered(3)), Ok(Vec::new()));
    let other = GroupConfig { name: "other".to_owned(), ..numbered(1) };
    assert_eq!(sim.supervisor.replace_group(Arc::new(other), sim.now), Err(GroupDenied::NoSuchGroup));
    sim.check_tables();
    sim.supervisor.begin_shutdown(Mode::ShuttingDown, sim.now);
    assert_eq!(sim.supervisor.replace_group(Arc::new(numbered(3)), sim.now), Err(GroupDenied::StillRunning));
}

proptest! {
    // The usual generator takes most of the time in a debug build.
    #![proptest_config(ProptestConfig {
        cases: 1000,
        rng_algorithm: RngAlgorithm::XorShift,
        ..ProptestConfig::default()
    })]

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

    #[test]
    fn no_sequence_of_updates_touches_what_did_not_change(
        first in prop::collection::btree_map(0..6u8, (0..2u8, 1..3u8), 0..6),
        updates in prop::collection::vec(
            (prop::collection::btree_map(0..6u8, (0..2u8, 1..3u8), 0..6), 0..3i32, 0..6usize, 0..4u8), 0..12,
        ),
    ) {
        let mut sim = Sim::new();
        sim.supervisor.add_group(Arc::new(group_of(&first, 1))).unwrap();
        sim.supervisor.autostart("g", sim.now);
        sim.perform();
        let mut known = first;
        for (programs, priority, which, what) in updates {
            if let Some(id) = sim.supervisor.in_name_order().get(which).copied() {
                match what {
                    0 => _ = sim.supervisor.start(id, sim.now),
                    1 => _ = sim.supervisor.stop(id, sim.now),
                    2 => if let Some(pid) = sim.children.keys().nth(which).copied() { sim.exit(pid) },
                    _ => sim.pass(Duration::from_millis(700)),
                }
                sim.perform();
                sim.obey();
            }
            let states: BTreeMap<String, ProcessState> = sim.supervisor.in_name_order().into_iter().map(|id| {
                (sim.supervisor.names(id).unwrap().1.to_owned(), sim.supervisor.process(id).unwrap().state())
            }).collect();
            let before = sim.children_by_name();
            sim.update(group_of(&programs, priority));
            sim.check_tables();
            let after = sim.children_by_name();
            for (name, (command, _)) in &programs {
                let key = name.to_string();
                match known.get(name) {
                    Some((old, _)) if old == command => {
                        prop_assert!(!before.contains_key(&key) || before.get(&key) == after.get(&key));
                    }
                    Some(_) => prop_assert!(!before.contains_key(&key) || after[&key] != before[&key]),
                    None => prop_assert!(after.contains_key(&key)),
                }
                if states.get(&key) == Some(&ProcessState::Stopped) {
                    prop_assert!(!after.contains_key(&key), "what was stopped was started");
                }
            }
            prop_assert!(after.keys().all(|name| programs.contains_key(&name.parse().unwrap())));
            known = programs;
        }
    }
}

#[test]
fn starting_anew_forgets_all_processes() {
    let mut sim = Sim::new();
    sim.add("g", 999, &["a"]);
    assert_eq!(sim.supervisor.take_forgotten(), Forgotten::default());
    sim.supervisor.begin_anew();
    assert_eq!(sim.supervisor.take_forgotten(), Forgotten::All);
    assert_eq!(sim.supervisor.take_forgotten(), Forgotten::default());
}

#[test]
fn pid_of_a_reaped_child_is_another_processs_and_gets_no_signal_of_its_own() {
    let mut sim = Sim::new();
    sim.add("g", 999, &["a", "b"]);
    let [a, b] = ["a", "b"].map(|name| sim.supervisor.find("g", name).unwrap());
    let pid = sim.supervisor.process(a).and_then(Process::pid).unwrap();
    let killed = Exit::Signal { signal: libc::SIGKILL, core_dumped: false };
    // All that have ended are reaped first, then handled one by one.
    let pid_of_b = sim.supervisor.process(b).and_then(Process::pid).unwrap();
    assert_eq!(sim.supervisor.handle_reaped(pid_of_b), Some(b));
    assert_eq!(sim.supervisor.handle_reaped(pid), Some(a));
    sim.supervisor.stop(a, sim.now).unwrap();
    sim.perform();
    assert!(sim.stopped.is_empty(), "a signal to whoever has the pid now");
    sim.supervisor.handle_exit(b, killed, Aftermath::default(), sim.now);
    // The replacement of `b` gets the pid that `a` had.
    sim.supervisor.handle_timeout(sim.now.after(Duration::from_secs(1)));
    while sim.supervisor.poll_effect().is_some() {}
    sim.supervisor.handle_spawned(b, pid, sim.now);
    sim.supervisor.handle_exit(a, killed, Aftermath::default(), sim.now);
    assert_eq!(sim.supervisor.process(a).map(Process::state), Some(ProcessState::Stopped));
    assert_eq!(sim.supervisor.process(b).and_then(Process::pid), Some(pid));
    assert_eq!(sim.supervisor.owner(pid), Some(b));
}

#[test]
fn a_group_that_was_replaced_is_the_last_one() {
    let mut sim = Sim::new();
    for name in ["a", "b", "c"] {
        sim.add(name, 999, &[name]);
    }
    let another = GroupConfig { priority: 1, ..sim.supervisor.groups()[0].config().as_ref().clone() };
    sim.supervisor.replace_group(Arc::new(another), sim.now).unwrap();
    let names = |sim: &Sim| {
        sim.supervisor.groups().iter().map(|group| group.config().name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(names(&sim), ["b", "c", "a"]);
    for name in ["a", "b", "c"] {
        assert_eq!(sim.supervisor.group(name).unwrap().config().name, name);
    }
}
