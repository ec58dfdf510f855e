//! Stories of programs that depend on others, on simulated time.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    clock::Moment,
    config::{AutoRestart, Dependency, GroupConfig, GroupKind, ProgramConfig},
    process::{Aftermath, Denied, Effect, Exit, Pid, ProcessState, test_defaults},
    supervisor::{Mode, ProcessId, Supervisor},
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
        let group = GroupConfig {
            name: program.name.clone(),
            priority: program.priority,
            kind: GroupKind::Program,
            processes: vec![Arc::new(program)],
        };
        self.supervisor.add_group(Arc::new(group)).unwrap();
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
                Effect::EndLeftovers { .. } | Effect::Note(_) => {}
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

    fn why(&self, name: &str) -> &str {
        self.supervisor.process(self.id(name)).unwrap().spawn_error().unwrap_or_default()
    }
}

#[test]
fn everything_starts_when_what_it_depends_on_is_up() {
    // T25: front depends on web depends on db; in the order of the file the last comes first.
    let mut sim = Sim::new(vec![program("front", &["web"]), program("web", &["db"]), program("db", &[])]);
    assert_eq!(
        (sim.spawned.as_slice(), sim.why("web")),
        (["db".to_owned()].as_slice(), "waiting for db, which is STARTING")
    );
    assert_eq!(
        (sim.state("front"), sim.why("front")),
        (ProcessState::Starting, "waiting for web, which is STARTING")
    );
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
    assert_eq!(sim.why("web"), "waiting for db, which is BACKOFF");
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
    assert_eq!(sim.why("web"), "waiting for db, which is STARTING", "a reason of now");
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
    assert_eq!(
        (sim.state("web"), sim.why("web")),
        (ProcessState::Fatal, "db, on which it depends, is STOPPED")
    );

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

    let mut sim = Sim::new(programs());
    sim.start("db").unwrap();
    sim.supervisor.stop(sim.id("db"), sim.now).unwrap();
    assert_eq!(sim.start("web"), Err(Denied::DependencyDown));
    assert_eq!(
        sim.supervisor.lacking(sim.id("web")).as_deref(),
        Some("db, on which it depends, is STOPPING")
    );
    assert_eq!(sim.state("web"), ProcessState::Stopped, "nothing has changed");
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
    assert_eq!(
        (sim.state("late"), sim.why("late")),
        (ProcessState::Fatal, "db, on which it depends, is STOPPED")
    );
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
    assert_eq!(sim.why("web"), "waiting for db, which is STARTING", "it is on its way");
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
fn programs_that_depend_on_each_other_are_held_back_with_a_reason() {
    // The configuration is refused then; but groups are updated one by one.
    let mut sim = Sim::new(vec![program("a", &["b"]), program("b", &["a"])]);
    sim.pass(10);
    assert_eq!(sim.spawned.len(), 0);
    assert_eq!((sim.state("a"), sim.why("a")), (ProcessState::Fatal, "b, on which it depends, is FATAL"));
    assert_eq!((sim.state("b"), sim.why("b")), (ProcessState::Fatal, "a, on which it depends, is FATAL"));
    assert_eq!(sim.start("a"), Err(Denied::DependencyDown));
}

#[test]
fn a_thousand_wait_for_one_without_being_looked_at_in_vain() {
    let mut programs = vec![program("db", &[])];
    programs.extend((0..1000).map(|n| program(&format!("web{n}"), &["db"])));
    let mut sim = Sim::new(programs);
    assert_eq!(sim.spawned.len(), 1);
    sim.pass(1);
    assert_eq!(sim.spawned.len(), 1001);
    assert!(sim.supervisor.waiting.by_dependency.is_empty(), "nobody waits any more");
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
    let mut sim = Sim::new(vec![program("a", &["b"]), program("b", &["a"]), program("c", &["a"])]);
    for name in ["a", "b", "c"] {
        // Those that are held back come up when a does.
        let _ = sim.supervisor.start_again(sim.id(name), sim.now);
        sim.perform();
        sim.pass(1);
    }
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
