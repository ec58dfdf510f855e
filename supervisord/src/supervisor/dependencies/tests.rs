//! Stories of programs that depend on others, on simulated time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    clock::Moment,
    config::{AutoRestart, Dependency, GroupConfig, GroupKind, ProgramConfig},
    process::{Aftermath, Denied, Effect, Exit, Pid, ProcessState, test_defaults},
    supervisor::{Mode, ProcessId, Replaced, Supervisor},
};

/// A supervisor of groups of one program each, and the names of what was spawned, in order.
struct Sim {
    supervisor: Supervisor,
    now: Moment,
    next_pid: i32,
    children: BTreeMap<Pid, ProcessId>,
    spawned: Vec<String>,
    states: Vec<(String, ProcessState)>,
    /// Who was sent a signal, in order.
    told: Vec<String>,
}

fn program(name: &str, depends_on: &[&str]) -> ProgramConfig {
    let depends_on = depends_on.iter().map(|name| Dependency::Program((*name).to_owned())).collect();
    ProgramConfig { depends_on, ..test_defaults(name) }
}

impl Sim {
    /// The groups are active, in this order, and what starts with them has been asked for.
    fn new(programs: Vec<ProgramConfig>) -> Self {
        let mut sim = Self {
            supervisor: Supervisor::new(),
            now: crate::clock::now(),
            next_pid: 100,
            children: BTreeMap::new(),
            spawned: Vec::new(),
            states: Vec::new(),
            told: Vec::new(),
        };
        let names: Vec<String> = programs.iter().map(|program| program.name.clone()).collect();
        for program in programs {
            sim.add(program);
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        sim.supervisor.autostart_but(&Default::default(), &names, sim.now);
        sim.perform();
        sim
    }

    fn add(&mut self, program: ProgramConfig) {
        let group = Self::group(program);
        self.supervisor.add_group(group).unwrap();
    }

    /// A group of this program alone.
    fn group(program: ProgramConfig) -> Arc<GroupConfig> {
        let (name, priority, kind) = (program.name.clone(), program.priority, GroupKind::Program);
        Arc::new(GroupConfig { name, priority, kind, processes: vec![Arc::new(program)] })
    }

    fn id(&self, name: &str) -> ProcessId {
        self.supervisor.find(name, name).unwrap()
    }

    fn perform(&mut self) {
        while let Some((id, effect)) = self.supervisor.poll_effect() {
            let name = self.supervisor.names(id).unwrap().1.to_owned();
            match effect {
                Effect::Spawn => {
                    self.spawned.push(name);
                    self.next_pid += 1;
                    let pid = Pid::from_raw(self.next_pid);
                    self.children.insert(pid, id);
                    self.supervisor.handle_spawned(id, pid, self.now);
                }
                Effect::Changed { to, .. } => self.states.push((name, to)),
                Effect::Signal { .. } => self.told.push(name),
                Effect::EndLeftovers { .. } | Effect::Waits | Effect::Note(_) => {}
            }
        }
    }

    fn start(&mut self, name: &str) -> Result<(), Denied> {
        let answer = self.supervisor.start(self.id(name), self.now);
        self.perform();
        answer
    }

    /// Stops a process that obeys.
    fn stop(&mut self, name: &str) {
        self.supervisor.stop(self.id(name), self.now).unwrap();
        self.perform();
        if self.supervisor.process(self.id(name)).unwrap().pid().is_some() {
            self.exit(name, 0);
        }
    }

    fn exit(&mut self, name: &str, status: u8) {
        let id = self.id(name);
        let pid = self.supervisor.process(id).unwrap().pid().expect("it runs");
        self.children.remove(&pid);
        self.supervisor.handle_reaped(pid);
        self.supervisor.handle_exit(id, Exit::Code(status), Aftermath::default(), self.now);
        self.perform();
    }

    /// Lets time pass, in which all that runs goes on.
    fn pass(&mut self, seconds: u64) {
        let end = self.now.after(Duration::from_secs(seconds));
        while let Some(due) = self.supervisor.poll_timeout().filter(|due| *due <= end.mono) {
            self.now = self.now.after(due.saturating_duration_since(self.now.mono));
            self.supervisor.handle_timeout(self.now);
            self.perform();
        }
        self.now = end;
    }

    /// Starts fail until the process is given up.
    fn give_up(&mut self, name: &str) {
        while self.state(name) != ProcessState::Fatal {
            if self.state(name) == ProcessState::Starting {
                self.exit(name, 1);
            } else {
                self.pass(1);
            }
        }
    }

    fn state(&self, name: &str) -> ProcessState {
        self.supervisor.process(self.id(name)).unwrap().state()
    }

    /// What it waits for, or why it does not.
    fn why(&self, name: &str) -> &str {
        let process = self.supervisor.process(self.id(name)).unwrap();
        process.waits_for().or_else(|| process.spawn_error()).unwrap_or_default()
    }

    fn replace(&mut self, program: ProgramConfig) -> Vec<Replaced> {
        let replaced = self.supervisor.replace_group(Self::group(program), self.now).unwrap();
        self.perform();
        replaced
    }
}

#[test]
fn everything_starts_when_what_it_depends_on_is_up() {
    // T25: front depends on web depends on db; in the order of the file the last comes first.
    let mut sim = Sim::new(vec![program("front", &["web"]), program("web", &["db"]), program("db", &[])]);
    assert_eq!(
        (sim.spawned.as_slice(), sim.why("web")),
        (["db".to_owned()].as_slice(), "db, which is STARTING")
    );
    assert_eq!((sim.state("front"), sim.why("front")), (ProcessState::Starting, "web, which is STARTING"));
    sim.pass(1);
    assert_eq!((sim.spawned.len(), sim.state("db")), (2, ProcessState::Running));
    sim.pass(1);
    assert_eq!(sim.spawned, ["db", "web", "front"]);
    sim.pass(1);
    assert_eq!(sim.state("front"), ProcessState::Running);
}

#[test]
fn t24_a_dependency_that_comes_up_late_is_waited_for() {
    let mut sim = Sim::new(vec![program("db", &[]), program("web", &["db"])]);
    sim.exit("db", 1);
    assert_eq!(sim.why("web"), "db, which is BACKOFF");
    sim.pass(1);
    sim.exit("db", 1);
    sim.pass(3);
    assert_eq!((sim.state("db"), sim.state("web")), (ProcessState::Running, ProcessState::Starting));
    assert_eq!(sim.spawned, ["db", "db", "db", "web"]);
}

#[test]
fn t24_a_dependency_that_is_given_up_gives_a_reason_and_may_come_back() {
    let mut sim = Sim::new(vec![program("db", &[]), program("web", &["db"]), program("front", &["web"])]);
    sim.give_up("db");
    assert_eq!(
        (sim.state("web"), sim.why("web")),
        (ProcessState::Fatal, "db, on which it depends, is FATAL")
    );
    assert_eq!(
        (sim.state("front"), sim.why("front")),
        (ProcessState::Fatal, "web, on which it depends, is FATAL")
    );
    sim.start("db").unwrap();
    assert_eq!((sim.state("web"), sim.why("web")), (ProcessState::Starting, "db, which is STARTING"));
    assert_eq!((sim.state("front"), sim.why("front")), (ProcessState::Starting, "web, which is STARTING"));
    sim.pass(3);
    assert_eq!(sim.spawned[sim.spawned.len() - 3..], ["db", "web", "front"]);
    assert_eq!(sim.state("front"), ProcessState::Running);
}

#[test]
fn t23_whatever_is_asked_of_a_process_that_waits_is_done_at_once() {
    let mut sim = Sim::new(vec![program("db", &[]), program("web", &["db"])]);
    let web = sim.id("web");
    assert_eq!(sim.start("web"), Err(Denied::AlreadyStarted));
    sim.supervisor.stop(web, sim.now).unwrap();
    assert_eq!(sim.supervisor.process(web).unwrap().state(), ProcessState::Stopped);
    sim.pass(5);
    assert_eq!(sim.spawned, ["db"], "it was stopped");

    let mut sim = Sim::new(vec![program("db", &[]), program("web", &["db"])]);
    sim.supervisor.stop_for_start(sim.id("web"), sim.now).unwrap();
    sim.start("web").unwrap();
    sim.pass(2);
    assert_eq!(sim.spawned, ["db", "web"], "one web");

    let mut sim = Sim::new(vec![program("db", &[]), program("web", &["db"])]);
    sim.stop("db");
    assert_eq!((sim.state("web"), sim.why("web")), (ProcessState::Starting, "db, which is STOPPED"));

    let mut sim = Sim::new(vec![program("db", &[]), program("web", &["db"])]);
    sim.states.clear();
    sim.supervisor.begin_shutdown(Mode::ShuttingDown, sim.now);
    sim.perform();
    assert_eq!(sim.states[0], ("web".to_owned(), ProcessState::Stopped), "and not FATAL");
    sim.exit("db", 0);
    assert!(sim.supervisor.is_shut_down());
}

#[test]
fn t26_a_start_by_hand_starts_what_it_depends_on() {
    let manual = |name, depends_on| ProgramConfig { autostart: false, ..program(name, depends_on) };
    let programs = || vec![manual("front", &["web"][..]), manual("web", &["db"]), manual("db", &[])];
    let mut sim = Sim::new(programs());
    assert_eq!(sim.spawned.len(), 0);
    sim.start("front").unwrap();
    sim.pass(3);
    assert_eq!(sim.spawned, ["db", "web", "front"], "never started before");

    sim.stop("db");
    assert_eq!(sim.state("web"), ProcessState::Running, "nobody else is stopped");
    sim.start("front").unwrap_err();
    sim.stop("front");
    sim.start("front").unwrap();
    assert_eq!(sim.spawned.len(), 4, "web is up, and so db is nobody's affair");

    sim.stop("web");
    sim.start("web").unwrap();
    sim.pass(2);
    assert_eq!(sim.spawned[4..], ["db", "web"], "an operator had stopped it, and asks for what needs it");
}

#[test]
fn t26_a_start_by_hand_of_what_is_held_back_tries_again() {
    let mut sim = Sim::new(vec![program("db", &[]), program("web", &["db"])]);
    sim.give_up("db");
    assert_eq!((sim.state("web"), sim.start("web")), (ProcessState::Fatal, Ok(())));
    assert_eq!((sim.state("web"), sim.state("db")), (ProcessState::Starting, ProcessState::Starting));
    assert_eq!(sim.start("web"), Err(Denied::AlreadyStarted));
    sim.pass(2);
    assert_eq!(sim.state("web"), ProcessState::Running);
}

#[test]
fn t26_a_start_by_hand_reaches_through_what_waits_and_what_is_being_stopped() {
    let mut sim = Sim::new(vec![program("db", &[]), program("mid", &["db"]), program("top", &["mid"])]);
    sim.stop("db");
    assert_eq!((sim.why("mid"), sim.why("top")), ("db, which is STOPPED", "mid, which is STARTING"));
    sim.start("top").unwrap();
    assert_eq!((sim.state("db"), sim.why("mid")), (ProcessState::Starting, "db, which is STARTING"));
    sim.pass(3);
    assert_eq!(sim.state("top"), ProcessState::Running);

    sim.stop("top");
    sim.stop("mid");
    sim.supervisor.stop(sim.id("db"), sim.now).unwrap();
    sim.start("mid").unwrap();
    assert_eq!((sim.state("db"), sim.why("mid")), (ProcessState::Stopping, "db, which is STOPPING"));
    assert!(!sim.supervisor.process(sim.id("mid")).unwrap().is_stalled(), "it is restarted");
    sim.exit("db", 0);
    sim.pass(3);
    assert_eq!((sim.state("db"), sim.state("mid")), (ProcessState::Running, ProcessState::Running));
}

#[test]
fn the_second_half_of_a_restart_waits_for_what_is_on_its_way() {
    let mut sim = Sim::new(vec![program("db", &[]), program("web", &["db"])]);
    sim.pass(2);
    for name in ["db", "web"] {
        sim.supervisor.renew(sim.id(name), sim.now);
    }
    sim.perform();
    sim.exit("web", 0);
    assert_eq!((sim.state("web"), sim.why("web")), (ProcessState::Starting, "db, which is STOPPING"));
    sim.exit("db", 0);
    assert_eq!(sim.spawned, ["db", "web", "db"]);
    sim.pass(1);
    assert_eq!(sim.spawned[3..], ["web"]);

    sim.pass(1);
    sim.stop("db");
    sim.supervisor.renew(sim.id("web"), sim.now);
    sim.perform();
    sim.exit("web", 0);
    assert_eq!(sim.spawned[4..], ["web"], "it ran without");
}

#[test]
fn who_is_restored_first_does_not_take_others_for_what_they_are_not_yet() {
    let programs = || vec![program("web", &["db", "slow"]), program("db", &[]), program("slow", &[])];
    let mut sim = Sim::new(programs());
    sim.pass(0);
    sim.supervisor.start(sim.id("slow"), sim.now).unwrap_err();
    let timeline = crate::clock::timeline();
    let names = ["web", "db", "slow"];
    let memories = names.map(|name| sim.supervisor.process(sim.id(name)).unwrap().memory(timeline));
    let mut next = Sim::new(Vec::new());
    next.now = sim.now;
    for program in programs() {
        next.add(program);
    }
    for (name, memory) in names.iter().zip(&memories) {
        let at = (timeline, next.now);
        next.supervisor.restore(next.id(name), memory, None, at);
    }
    for name in names {
        next.supervisor.resume(next.id(name), next.now);
    }
    assert_eq!((next.why("web"), next.states.len()), ("db, which is STARTING", 0));
    next.pass(1);
    assert_eq!(next.spawned, ["web"]);
}

#[test]
fn a_start_that_nobody_asked_for_leaves_stopped_what_was_stopped() {
    let mut sim =
        Sim::new(vec![ProgramConfig { autostart: false, ..program("db", &[]) }, program("web", &["db"])]);
    assert_eq!(sim.spawned, ["db"], "it is needed, and nobody has stopped it");
    sim.stop("db");
    sim.add(program("late", &["db"]));
    sim.supervisor.autostart("late", sim.now);
    sim.perform();
    assert_eq!((sim.state("late"), sim.why("late")), (ProcessState::Starting, "db, which is STOPPED"));
}

#[test]
fn what_ran_is_restarted_whatever_has_become_of_its_dependencies() {
    let mut sim = Sim::new(vec![program("db", &[]), program("web", &["db"])]);
    sim.pass(2);
    sim.stop("db");
    sim.exit("web", 1);
    sim.pass(1);
    assert_eq!((sim.spawned.len(), sim.state("web")), (3, ProcessState::Running), "after an exit");
    sim.stop("web");
    sim.supervisor.start_again(sim.id("web"), sim.now).unwrap();
    sim.perform();
    assert_eq!(sim.spawned.len(), 4, "for an update");
    sim.start("db").unwrap();
    sim.stop("web");
    sim.supervisor.start_again(sim.id("web"), sim.now).unwrap();
    sim.perform();
    assert_eq!(sim.why("web"), "db, which is STARTING", "it is on its way");
}

#[test]
fn what_has_done_its_work_is_up_and_what_failed_at_it_is_not() {
    let once = ProgramConfig { autorestart: AutoRestart::Never, ..program("migrate", &[]) };
    for (status, state) in [(0, ProcessState::Starting), (1, ProcessState::Fatal)] {
        let mut sim =
            Sim::new(vec![once.clone(), ProgramConfig { autostart: false, ..program("web", &["migrate"]) }]);
        sim.pass(1);
        sim.exit("migrate", status);
        assert_eq!(sim.state("migrate"), ProcessState::Exited);
        sim.supervisor.start_by_itself(sim.id("web"), sim.now).unwrap();
        sim.perform();
        assert_eq!(sim.state("web"), state);
        if status == 1 {
            assert_eq!(sim.why("web"), "migrate, on which it depends, is EXITED (exit status 1)");
        }
    }
}

#[test]
fn programs_that_depend_on_each_other_wait_and_say_so() {
    // The configuration is refused then; but groups are updated one by one.
    let mut sim = Sim::new(vec![program("a", &["b"]), program("b", &["a"])]);
    sim.pass(10);
    assert_eq!(sim.spawned.len(), 0);
    for (name, other) in [("a", "b, which is STARTING"), ("b", "a, which is STARTING")] {
        let process = sim.supervisor.process(sim.id(name)).unwrap();
        assert_eq!((process.is_stalled(), process.waits_for()), (true, Some(other)));
    }
    sim.start("a").unwrap();
    assert_eq!(sim.spawned.len(), 0);
    sim.stop("a");
    assert_eq!((sim.state("a"), sim.why("b")), (ProcessState::Stopped, "a, which is STOPPED"));
}

#[test]
fn who_waits_is_told_of_other_settings_and_of_processes_that_have_gone() {
    let mut sim = Sim::new(vec![program("db", &[]), program("cache", &[]), program("web", &["db", "cache"])]);
    sim.stop("db");
    sim.pass(1);
    assert_eq!(sim.why("web"), "db, which is STOPPED");
    sim.replace(ProgramConfig { command: "another".to_owned(), ..program("web", &["db"]) });
    assert_eq!(
        (sim.state("web"), sim.spawned.len()),
        (ProcessState::Starting, 2),
        "a new command starts nothing"
    );
    sim.replace(program("web", &["cache", "late"]));
    assert_eq!(sim.why("web"), "late, which is not active");
    sim.start("db").unwrap();
    sim.stop("db");
    assert_eq!(sim.why("web"), "late, which is not active", "db is nobody's affair any more");
    sim.add(ProgramConfig { autostart: false, ..program("late", &[]) });
    sim.replace(program("web", &["late"]));
    assert_eq!(sim.spawned.last().unwrap(), "late", "what is needed and untouched is started");
    sim.stop("late");
    sim.supervisor.remove_group("late", sim.now).unwrap();
    assert_eq!(sim.why("web"), "late, which is not active");
    sim.replace(program("web", &["cache"]));
    assert_eq!(sim.spawned.last().unwrap(), "web");
}

#[test]
fn a_process_that_leaves_the_group_that_is_waited_for_is_not_waited_for() {
    let web = || ProgramConfig { depends_on: vec![Dependency::Group("g".to_owned())], ..program("web", &[]) };
    let mut sim = Sim::new(vec![web()]);
    let group = |names: &[&str]| {
        let processes = names.iter().map(|name| Arc::new(program(name, &[]))).collect();
        Arc::new(GroupConfig { name: "g".to_owned(), priority: 1, kind: GroupKind::Group, processes })
    };
    assert_eq!(sim.why("web"), "g:*, which is not active");
    sim.supervisor.add_group(group(&["a", "b"])).unwrap();
    let a = sim.supervisor.find("g", "a").unwrap();
    sim.supervisor.start(a, sim.now).unwrap();
    sim.perform();
    sim.pass(1);
    assert_eq!(sim.why("web"), "g:b, which is STOPPED");
    sim.supervisor.replace_group(group(&["a"]), sim.now).unwrap();
    sim.perform();
    assert_eq!(sim.spawned, ["a", "web"]);
}

#[test]
fn the_worst_of_several_is_named() {
    let mut sim = Sim::new(vec![program("a", &[]), program("b", &[]), program("web", &["a", "b"])]);
    assert_eq!(sim.why("web"), "a, which is STARTING");
    sim.stop("a");
    assert_eq!(sim.why("web"), "a, which is STOPPED");
    sim.give_up("b");
    assert_eq!((sim.state("web"), sim.why("web")), (ProcessState::Fatal, "b, on which it depends, is FATAL"));
    sim.start("b").unwrap();
    assert_eq!((sim.state("web"), sim.why("web")), (ProcessState::Starting, "a, which is STOPPED"));
    sim.pass(1);
    sim.start("a").unwrap();
    assert_eq!(sim.why("web"), "a, which is STARTING");
    sim.pass(1);
    assert_eq!(sim.spawned.last().unwrap(), "web");
}

#[test]
fn a_shutdown_ends_what_a_dependency_left_behind_before_its_turn() {
    let mut sim = Sim::new(vec![
        ProgramConfig { autorestart: AutoRestart::Never, ..program("db", &[]) },
        program("web", &["db"]),
    ]);
    sim.pass(2);
    sim.supervisor.begin_shutdown(Mode::ShuttingDown, sim.now);
    sim.perform();
    assert_eq!(sim.told, ["web"]);
    let db = sim.id("db");
    let pid = sim.supervisor.process(db).unwrap().pid().unwrap();
    sim.supervisor.handle_reaped(pid);
    let remains = Aftermath { remains: true, diagnosis: None };
    sim.supervisor.handle_exit(db, Exit::Code(0), remains, sim.now);
    sim.perform();
    sim.exit("web", 0);
    assert!(!sim.supervisor.is_shut_down(), "something of db is left");
    sim.supervisor.handle_leftovers_gone(db, sim.now);
    assert!(sim.supervisor.is_shut_down());
}

#[test]
fn many_that_depend_on_many_are_started_and_stopped_in_order() {
    let group = |name: &str, depends_on: &[&str]| {
        let of = |n| {
            let own = program(&format!("{name}{n}"), depends_on);
            Arc::new(ProgramConfig { program: name.to_owned(), startsecs: Duration::ZERO, ..own })
        };
        let processes = (0..300).map(of).collect();
        Arc::new(GroupConfig { name: name.to_owned(), priority: 1, kind: GroupKind::Program, processes })
    };
    let mut sim = Sim::new(Vec::new());
    sim.supervisor.add_group(group("web", &["db"])).unwrap();
    sim.supervisor.add_group(group("db", &[])).unwrap();
    sim.supervisor.autostart_but(&Default::default(), &["web", "db"], sim.now);
    sim.perform();
    assert!(sim.spawned[..300].iter().all(|name| name.starts_with("db")));
    assert_eq!(sim.spawned.len(), 600);
    sim.supervisor.begin_shutdown(Mode::ShuttingDown, sim.now);
    sim.perform();
    for round in 0..2 {
        assert_eq!(sim.told.len(), 300 * (round + 1));
        for pid in sim.children.keys().copied().collect::<Vec<_>>() {
            let id = sim.children[&pid];
            if sim.supervisor.process(id).unwrap().state() == ProcessState::Stopping {
                sim.children.remove(&pid);
                sim.supervisor.handle_reaped(pid);
                sim.supervisor.handle_exit(id, Exit::Code(0), Aftermath::default(), sim.now);
            }
        }
        sim.perform();
    }
    assert!(sim.told[..300].iter().all(|name| name.starts_with("web")) && sim.supervisor.is_shut_down());
}

#[test]
fn a_thousand_wait_for_one_without_being_looked_at_in_vain() {
    let mut programs = vec![program("db", &[])];
    programs.extend((0..1000).map(|n| program(&format!("web{n}"), &["db"])));
    let mut sim = Sim::new(programs);
    assert_eq!(sim.spawned.len(), 1);
    sim.pass(1);
    assert_eq!(sim.spawned.len(), 1001);
    assert!(sim.supervisor.waiting.watched.is_empty(), "nobody waits any more");
}

#[test]
fn a_shutdown_stops_what_depends_on_others_before_these() {
    // By priority db would be stopped first, and lone with it.
    let first = |name, depends_on| ProgramConfig { priority: 1000, ..program(name, depends_on) };
    let programs =
        vec![program("front", &["web"]), program("web", &["db"]), first("db", &[]), first("lone", &[])];
    let mut sim = Sim::new(programs);
    sim.pass(3);
    sim.supervisor.begin_shutdown(Mode::ShuttingDown, sim.now);
    sim.perform();
    assert_eq!(sim.told, ["front", "lone"]);
    sim.exit("lone", 0);
    assert_eq!(sim.told.len(), 2, "web waits for front");
    sim.exit("front", 0);
    assert_eq!(sim.told[2..], ["web"]);
    sim.exit("web", 0);
    assert_eq!(sim.told[3..], ["db"]);
    assert!(!sim.supervisor.is_shut_down());
    sim.exit("db", 0);
    assert!(sim.supervisor.is_shut_down());
}

#[test]
fn a_shutdown_ends_whatever_depends_on_whatever() {
    let mut sim = Sim::new(vec![program("a", &[]), program("b", &["a"]), program("c", &["a"])]);
    sim.pass(2);
    let circle = Sim::group(program("a", &["b"]));
    sim.supervisor.replace_group(circle, sim.now).unwrap();
    let mut chain: Vec<ProgramConfig> =
        (0..3000).map(|n| program(&format!("p{n}"), &[&format!("p{}", n + 1)])).collect();
    chain.push(program("p3000", &[]));
    for program in chain {
        sim.add(program);
    }
    sim.supervisor.begin_shutdown(Mode::ShuttingDown, sim.now);
    sim.perform();
    assert_eq!(sim.told, ["c"], "the rest never ran");
    sim.exit("c", 0);
    assert_eq!(sim.told.len(), 3, "a and b wait for nobody but each other");
    sim.exit("a", 0);
    sim.exit("b", 0);
    assert!(sim.supervisor.is_shut_down());
}
