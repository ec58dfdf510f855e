//! Stories of a process that waits for others.

use super::*;

pub(super) fn coming() -> Dependencies {
    Dependencies::Coming("db, which is STARTING".to_owned())
}

pub(super) fn stalled() -> Dependencies {
    Dependencies::Stalled("db, which is STOPPED".to_owned())
}

pub(super) fn failed() -> Dependencies {
    Dependencies::Failed("db, on which it depends, is FATAL".to_owned())
}

impl Sim {
    pub(super) fn start_after(&mut self, dependencies: Dependencies) {
        let _ = self.process.start_after(dependencies, self.now);
        self.perform();
    }

    pub(super) fn dependencies(&mut self, dependencies: Dependencies) {
        self.process.handle_dependencies(dependencies, self.now);
        self.perform();
    }
}

#[test]
fn a_process_says_what_it_waits_for_and_why_it_is_held_back() {
    let mut sim = Sim::new(|_| ());
    let is = |sim: &Sim, state, words: &str| {
        let description = describe::description(&sim.process, sim.now, &jiff::tz::TimeZone::UTC);
        assert_eq!((sim.process.state(), description.as_str()), (state, words));
    };
    sim.start_after(coming());
    is(&sim, ProcessState::Starting, "waiting for db, which is STARTING");
    sim.dependencies(failed());
    is(&sim, ProcessState::Fatal, "db, on which it depends, is FATAL");
    assert!(sim.process.is_at_rest() && sim.process.is_wanted() && sim.process.knows(&failed()));
    sim.dependencies(stalled());
    is(&sim, ProcessState::Starting, "waiting for db, which is STOPPED");
    assert!(sim.process.is_stalled() && sim.process.knows(&stalled()) && !sim.process.knows(&coming()));
    sim.dependencies(coming());
    is(&sim, ProcessState::Starting, "waiting for db, which is STARTING");
    assert!(!sim.process.is_stalled());
    sim.dependencies(Dependencies::Up);
    is(&sim, ProcessState::Starting, "");
    assert_eq!(sim.process.spawns(), 1);
    let waits = sim.seen.iter().filter(|effect| **effect == Effect::Waits).count();
    assert_eq!(waits, 3, "each other reason is published");
}

#[test]
fn what_ran_waits_for_what_is_on_its_way_and_for_nothing_else() {
    for dependencies in [stalled(), failed()] {
        let mut sim = Sim::new(|_| ());
        let _ = sim.process.start_again(dependencies.clone(), sim.now);
        sim.perform();
        assert_eq!(sim.process.spawns(), 1);

        let mut sim = Sim::new(|_| ());
        let _ = sim.process.start_again(coming(), sim.now);
        sim.perform();
        assert_eq!(sim.process.spawns(), 0);
        sim.dependencies(dependencies);
        assert_eq!(sim.process.spawns(), 1, "that will not come up");
    }
}

#[test]
fn what_an_operator_stops_does_not_wait_any_longer() {
    for dependencies in [coming(), stalled(), failed()] {
        let mut sim = Sim::new(|_| ());
        sim.start_after(dependencies);
        assert_eq!(sim.stop(), Ok(()), "there is something to stop");
        assert_eq!((sim.process.state(), sim.process.is_wanted()), (ProcessState::Stopped, false));
        sim.dependencies(Dependencies::Up);
        assert_eq!(sim.process.spawns(), 0);
        let timeline = crate::clock::timeline();
        let memory = sim.process.memory(timeline);
        let next = Process::restored(Arc::clone(sim.process.config()), &memory, timeline);
        assert!(!sim.process.is_untouched() && !next.is_untouched(), "nor under the next daemon");
    }
}

#[test]
fn a_process_that_waits_goes_on_waiting_under_the_next_daemon_and_says_nothing_of_it() {
    let kinds = [
        (coming(), ProcessState::Starting),
        (stalled(), ProcessState::Starting),
        (failed(), ProcessState::Fatal),
    ];
    for ((dependencies, state), is_halted) in kinds.iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        let state = *state;
        let mut sim = Sim::new(|_| ());
        sim.start_after(dependencies.clone());
        // A shutdown that is cut short.
        if is_halted {
            sim.process.halt();
            let _ = sim.process.stop(sim.now);
        }
        let timeline = crate::clock::timeline();
        let memory = sim.process.memory(timeline);
        let config = Arc::clone(sim.process.config());
        for is_changed in [false, true] {
            let mut next = Process::restored(Arc::clone(&config), &memory, timeline);
            if is_changed {
                assert!(!next.catch_up(false, dependencies.clone(), sim.now) || state == ProcessState::Fatal);
            } else {
                next.resume(dependencies.clone(), sim.now);
            }
            assert_eq!(next.state(), state);
            let mut effects = std::iter::from_fn(|| next.poll_effect());
            let is_said = effects.any(|effect| matches!(effect, Effect::Changed { .. } | Effect::Spawn));
            assert!(!is_said || is_changed && state == ProcessState::Fatal, "{dependencies:?}");
            next.handle_dependencies(Dependencies::Up, sim.now);
            assert!(std::iter::from_fn(|| next.poll_effect()).any(|effect| effect == Effect::Spawn));
        }
    }
}
