//! Tests of the state machine on simulated time: single stories, the table of every (state, input) pair, and random
//! sequences with invariants.

mod dependencies;

use std::{fmt::Write as _, path::PathBuf};

use dependencies::{coming, failed, stalled};
use proptest::{prelude::*, test_runner::RngAlgorithm};

use super::*;
use crate::config::{
    AutoRestart, DaemonDeath, Environment, KillMode, LogTarget, OutputConfig, diff::ProcessChange,
};

/// The settings of `[program:x]` with nothing but a command.
pub(crate) fn defaults(name: &str) -> ProgramConfig {
    let output = OutputConfig {
        logfile: LogTarget::None,
        maxbytes: 50 << 20,
        backups: 10,
        capture_maxbytes: 0,
        events_enabled: false,
        syslog: false,
    };
    ProgramConfig {
        program: name.to_owned(),
        name: name.to_owned(),
        command: "true".to_owned(),
        priority: 999,
        autostart: true,
        autorestart: AutoRestart::Unexpected,
        startsecs: Duration::from_secs(1),
        startretries: 3,
        exitcodes: vec![0],
        stopsignal: StopSignal::TERM,
        stopwaitsecs: Duration::from_secs(10),
        stopasgroup: false,
        killasgroup: false,
        killmode: KillMode::Tree,
        on_daemon_death: DaemonDeath::Keep,
        login_environment: false,
        user: None,
        redirect_stderr: false,
        stdout: output.clone(),
        stderr: output,
        environment: Environment::default(),
        directory: Some(PathBuf::from("/")),
        umask: None,
        fastcgi: None,
        serverurl: None,
        depends_on: Vec::new(),
    }
}

/// A process, a clock that only the test moves, and the children that exist.
struct Sim {
    process: Process,
    now: Moment,
    next_pid: i32,
    child: Option<Pid>,
    leftovers: bool,
    /// Whether the next spawn fails.
    broken: bool,
    /// Everything that was done, in order.
    seen: Vec<Effect>,
}

impl Sim {
    fn new(change: impl FnOnce(&mut ProgramConfig)) -> Self {
        let mut config = defaults("x");
        change(&mut config);
        Self {
            process: Process::new(Arc::new(config)),
            now: crate::clock::now(),
            next_pid: 100,
            child: None,
            leftovers: false,
            broken: false,
            seen: Vec::new(),
        }
    }

    /// Performs all effects as the driver does.
    fn perform(&mut self) {
        while let Some(effect) = self.process.poll_effect() {
            if effect == Effect::Spawn {
                assert_eq!(self.child, None, "a second child");
                assert!(!self.leftovers, "a child beside leftovers");
                if self.broken {
                    self.process.handle_spawn_failed("can't find command 'x'".to_owned(), self.now);
                } else {
                    self.next_pid += 1;
                    let pid = Pid::from_raw(self.next_pid);
                    self.child = Some(pid);
                    self.process.handle_spawned(pid, self.now);
                }
            }
            self.seen.push(effect);
        }
    }

    fn start(&mut self) -> Result<(), Denied> {
        let answer = self.process.start(self.now);
        self.perform();
        answer
    }

    fn stop(&mut self) -> Result<(), Denied> {
        let answer = self.process.stop(self.now);
        self.perform();
        answer
    }

    fn exit(&mut self, exit: Exit, remains: bool) {
        self.child = None;
        self.leftovers |= remains;
        let now = self.now;
        self.process.handle_exit(exit, Aftermath { remains: self.leftovers, diagnosis: None }, now);
        self.perform();
    }

    fn leftovers_gone(&mut self) {
        self.leftovers = false;
        self.process.handle_leftovers_gone(self.now);
        self.perform();
    }

    fn pass(&mut self, span: Duration) {
        let end = self.now.after(span);
        while let Some(due) = self.process.poll_timeout().filter(|due| *due <= end.mono) {
            let ahead = due.saturating_duration_since(self.now.mono);
            self.now = self.now.after(ahead);
            self.process.handle_timeout(self.now);
            self.perform();
            assert_ne!(self.process.poll_timeout(), Some(due), "a deadline that was acted on stays");
        }
        self.now = end;
    }

    fn up() -> Self {
        let mut sim = Self::new(|_| ());
        sim.start().unwrap();
        sim.pass(Duration::from_secs(1));
        sim
    }

    fn signals(&self) -> Vec<(i32, bool)> {
        let signal = |effect: &Effect| match effect {
            Effect::Signal { signal, group, .. } => Some((signal.0, *group)),
            Effect::Spawn
            | Effect::EndLeftovers { .. }
            | Effect::Changed { .. }
            | Effect::Waits
            | Effect::Note(_) => None,
        };
        self.seen.iter().filter_map(signal).collect()
    }
}

const KILLED: Exit = Exit::Signal { signal: libc::SIGKILL, core_dumped: false };

#[test]
fn times_beyond_what_the_clock_counts_mean_very_long() {
    let mut sim = Sim::new(|config| {
        config.startsecs = Duration::MAX;
        config.stopwaitsecs = Duration::MAX;
    });
    sim.start().unwrap();
    sim.pass(Duration::from_secs(86_400));
    assert_eq!(sim.process.state(), ProcessState::Starting);
    sim.stop().unwrap();
    sim.pass(Duration::from_secs(86_400));
    assert_eq!((sim.process.state(), sim.signals()), (ProcessState::Stopping, vec![(libc::SIGTERM, false)]));
}

#[test]
fn it_is_running_after_startsecs_and_not_before() {
    let mut sim = Sim::new(|_| ());
    sim.start().unwrap();
    sim.pass(Duration::from_millis(999));
    assert_eq!(sim.process.state(), ProcessState::Starting);
    sim.pass(Duration::from_millis(1));
    assert_eq!(sim.process.state(), ProcessState::Running);
}

#[test]
fn it_gives_up_after_startretries_with_growing_delays() {
    let mut sim = Sim::new(|_| ());
    sim.start().unwrap();
    for delay in 1..=3 {
        sim.exit(Exit::Code(0), false);
        assert_eq!(sim.process.state(), ProcessState::Backoff);
        sim.pass(Duration::from_millis(delay * 1000 - 1));
        assert_eq!(sim.child, None);
        sim.pass(Duration::from_millis(1));
        assert!(sim.child.is_some());
    }
    sim.exit(Exit::Code(0), false);
    assert_eq!(sim.process.state(), ProcessState::Fatal);
    assert_eq!(sim.process.poll_timeout(), None);
}

#[test]
fn a_death_after_startsecs_counts_as_running_even_when_the_timer_has_not_fired() {
    let mut sim = Sim::new(|config| config.autorestart = AutoRestart::Never);
    sim.start().unwrap();
    sim.now = sim.now.after(Duration::from_secs(1));
    sim.exit(Exit::Code(0), false);
    let states: Vec<_> = sim
        .seen
        .iter()
        .filter_map(|effect| if let Effect::Changed { to, .. } = effect { Some(to.name()) } else { None })
        .collect();
    assert_eq!(states, ["STARTING", "RUNNING", "EXITED"]);
}

#[test]
fn stop_escalates_to_sigkill_after_stopwaitsecs() {
    let mut sim = Sim::up();
    sim.stop().unwrap();
    sim.pass(Duration::from_millis(9999));
    assert_eq!(sim.signals(), [(libc::SIGTERM, false)]);
    sim.pass(Duration::from_millis(1));
    assert_eq!(sim.signals(), [(libc::SIGTERM, false), (libc::SIGKILL, false)]);
    sim.exit(KILLED, false);
    assert_eq!(sim.process.state(), ProcessState::Stopped);
}

#[test]
fn t05_stopsignal_kill_without_patience_sends_one_sigkill() {
    let mut sim = Sim::new(|config| {
        config.stopsignal = StopSignal::KILL;
        config.stopwaitsecs = Duration::ZERO;
    });
    sim.start().unwrap();
    sim.stop().unwrap();
    sim.pass(Duration::from_millis(900));
    assert_eq!(sim.signals(), [(libc::SIGKILL, false)]);
}

#[test]
fn the_replacement_waits_for_the_leftovers_of_the_dead_leader() {
    let mut sim = Sim::up();
    sim.exit(KILLED, true);
    assert_eq!((sim.process.state(), sim.child), (ProcessState::Starting, None));
    assert!(sim.seen.contains(&Effect::EndLeftovers { signal: StopSignal::TERM }));
    sim.pass(Duration::from_secs(1));
    assert!(sim.seen.contains(&Effect::EndLeftovers { signal: StopSignal::KILL }));
    sim.leftovers_gone();
    assert!(sim.child.is_some());
}

#[test]
fn leftovers_that_are_found_late_are_ended_beside_the_replacement() {
    let mut sim = Sim::up();
    sim.exit(KILLED, false);
    let replacement = sim.child;
    assert!(replacement.is_some());
    sim.leftovers = true;
    sim.process.handle_leftovers_found(sim.now);
    sim.perform();
    assert!(sim.seen.contains(&Effect::EndLeftovers { signal: StopSignal::TERM }));
    sim.leftovers_gone();
    assert_eq!((sim.child, sim.process.has_leftovers()), (replacement, false));
}

#[test]
fn leftovers_stay_when_nothing_replaces_the_leader() {
    let mut sim = Sim::up();
    sim.exit(Exit::Code(0), true);
    assert_eq!(sim.process.state(), ProcessState::Exited);
    assert!(sim.process.is_at_rest() && sim.process.has_leftovers());
    sim.start().unwrap();
    assert_eq!(sim.child, None, "they are ended first");
}

#[test]
fn a_stop_ends_when_the_leftovers_have_ended() {
    let mut sim = Sim::up();
    sim.stop().unwrap();
    sim.exit(Exit::Code(0), true);
    assert_eq!(sim.process.state(), ProcessState::Stopping);
    assert_eq!(sim.process.stop(sim.now), Err(Denied::NotRunning));
    sim.leftovers_gone();
    assert_eq!(sim.process.state(), ProcessState::Stopped);
}

#[test]
fn leftovers_that_survive_sigkill_are_given_up() {
    let mut sim = Sim::up();
    sim.stop().unwrap();
    sim.exit(Exit::Code(0), true);
    sim.pass(Duration::from_secs(11));
    assert_eq!(sim.process.state(), ProcessState::Stopped);
    assert!(sim.seen.contains(&Effect::Note(Note::LeftoversRemain)));
}

#[test]
fn a_stop_forgets_failed_starts() {
    let mut sim = Sim::new(|_| ());
    sim.start().unwrap();
    sim.exit(Exit::Code(1), false);
    sim.stop().unwrap();
    assert_eq!((sim.process.state(), sim.process.failures()), (ProcessState::Stopped, 0));
}

#[test]
fn a_program_that_exits_at_once_is_restarted_at_a_bounded_rate() {
    let mut sim = Sim::new(|config| config.startsecs = Duration::ZERO);
    sim.start().unwrap();
    for _ in 0..100 {
        sim.exit(Exit::Code(1), false);
        assert_eq!(sim.child, None);
        sim.pass(SPAWN_SPACING);
        assert!(sim.child.is_some());
    }
    sim.now = sim.now.after(SPAWN_SPACING);
    sim.exit(Exit::Code(1), false);
    assert!(sim.child.is_some(), "one that ran longer than the spacing is replaced at once");
}

#[test]
fn t30_a_stepped_wall_clock_hurries_and_delays_nothing() {
    let hours = Duration::from_secs(5 * 3600);
    for step in [Duration::saturating_add, Duration::saturating_sub] {
        let mut sim = Sim::new(|_| ());
        sim.start().unwrap();
        sim.now.unix = step(sim.now.unix, hours);
        sim.pass(Duration::from_millis(999));
        assert_eq!(sim.process.state(), ProcessState::Starting);
        sim.pass(Duration::from_millis(1));
        assert_eq!(sim.process.state(), ProcessState::Running);
        sim.now.unix = step(sim.now.unix, hours);
        sim.pass(Duration::from_secs(61));
        let uptime = describe::description(&sim.process, sim.now, &jiff::tz::TimeZone::UTC);
        assert!(uptime.ends_with("uptime 0:01:02"), "{uptime}");
        sim.stop().unwrap();
        sim.now.unix = step(sim.now.unix, hours);
        sim.pass(Duration::from_millis(9999));
        assert_eq!(sim.signals().len(), 1, "no early SIGKILL");
        sim.pass(Duration::from_millis(1));
        assert_eq!(sim.signals().len(), 2);
    }
}

#[test]
fn start_that_is_refused_while_it_is_stopped_is_not_wanted_later() {
    let mut sim = Sim::up();
    sim.stop().unwrap();
    assert_eq!(sim.start(), Err(Denied::Stopping));
    sim.exit(KILLED, false);
    assert!(!sim.process.is_wanted(), "the next daemon would start it");
}

#[test]
fn nothing_is_restarted_once_the_daemon_ends() {
    let mut sim = Sim::up();
    sim.process.halt();
    sim.exit(Exit::Code(1), false);
    assert_eq!(sim.process.state(), ProcessState::Exited);
    assert!(sim.process.is_at_rest());
}

/// Every state, reached by inputs.
fn every_state() -> Vec<(&'static str, Sim)> {
    let quick = |sim: &mut Sim| sim.exit(Exit::Code(1), false);
    let made = |change: fn(&mut ProgramConfig), reach: &dyn Fn(&mut Sim)| {
        let mut sim = Sim::new(change);
        reach(&mut sim);
        sim
    };
    let up = |sim: &mut Sim| {
        sim.start().unwrap();
        sim.pass(Duration::from_secs(1));
    };
    vec![
        ("STOPPED", Sim::new(|_| ())),
        ("STARTING, waits", made(|_| (), &|sim| sim.start_after(coming()))),
        ("FATAL, waits", made(|_| (), &|sim| sim.start_after(failed()))),
        ("STARTING, no child", made(|_| (), &|sim| (up(sim), sim.exit(KILLED, true)).1)),
        ("STARTING", made(|_| (), &|sim| sim.start().unwrap())),
        ("RUNNING", made(|_| (), &up)),
        ("BACKOFF", made(|_| (), &|sim| (sim.start().unwrap(), quick(sim)).1)),
        ("STOPPING", made(|_| (), &|sim| (up(sim), sim.stop().unwrap()).1)),
        ("STOPPING, no child", made(|_| (), &|sim| (up(sim), sim.stop().unwrap(), sim.exit(KILLED, true)).2)),
        ("EXITED", made(|_| (), &|sim| (up(sim), sim.exit(Exit::Code(0), false)).1)),
        (
            "EXITED, held back",
            made(|config| config.startsecs = Duration::ZERO, &|sim| (sim.start().unwrap(), quick(sim)).1),
        ),
        ("EXITED, leftovers", made(|_| (), &|sim| (up(sim), sim.exit(Exit::Code(0), true)).1)),
        ("FATAL", made(|config| config.startretries = 0, &|sim| (sim.start().unwrap(), quick(sim)).1)),
        (
            "UNKNOWN",
            made(|_| (), &|sim| {
                (up(sim), sim.process.handle_signal_refused("EPERM".to_owned()), sim.perform()).2
            }),
        ),
    ]
}

/// What happens to a process.
type Input = fn(&mut Sim);

/// Every input.
fn every_input() -> Vec<(&'static str, Input)> {
    vec![
        ("start", |sim| _ = sim.start()),
        ("stop", |sim| _ = sim.stop()),
        ("signal HUP", |sim| {
            _ = sim.process.signal(StopSignal(libc::SIGHUP));
            sim.perform();
        }),
        ("exit 0", |sim| sim.exit(Exit::Code(0), false)),
        ("exit 1", |sim| sim.exit(Exit::Code(1), false)),
        ("exit 0, leftovers", |sim| sim.exit(Exit::Code(0), true)),
        ("early timeout", |sim| (sim.process.handle_timeout(sim.now), sim.perform()).1),
        ("timeout", |sim| {
            let due = sim.process.poll_timeout().unwrap_or(sim.now.mono);
            sim.now = sim.now.after(due.saturating_duration_since(sim.now.mono));
            sim.process.handle_timeout(sim.now);
            sim.perform();
        }),
        ("leftovers gone", Sim::leftovers_gone),
        ("end leftovers", |sim| (sim.process.end_leftovers(sim.now), sim.perform()).1),
        ("signal refused", |sim| (sim.process.handle_signal_refused("EPERM".to_owned()), sim.perform()).1),
        ("halt", |sim| (sim.process.halt(), sim.perform()).1),
        ("dependencies up", |sim| sim.dependencies(Dependencies::Up)),
        ("dependencies coming", |sim| sim.dependencies(coming())),
        ("dependencies stalled", |sim| sim.dependencies(stalled())),
        ("dependencies failed", |sim| sim.dependencies(failed())),
    ]
}

#[test]
fn every_input_in_every_state_does_what_the_table_says() {
    let mut table = String::new();
    for at in 0..every_state().len() {
        for (input_name, input) in every_input() {
            let (state_name, mut sim) = every_state().swap_remove(at);
            if input_name.starts_with("exit") && sim.child.is_none() {
                continue; // The driver reports only exits of children; the property test covers late ones.
            }
            let before = sim.seen.len();
            input(&mut sim);
            let mut effects = String::new();
            for effect in &sim.seen[before..] {
                let text = match effect {
                    Effect::Spawn => "spawn".to_owned(),
                    Effect::Signal { signal, group, .. } => {
                        format!("{}{}", signal.name(), if *group { " to the group" } else { "" })
                    }
                    Effect::EndLeftovers { signal } => format!("{} to leftovers", signal.name()),
                    Effect::Changed { to, .. } => format!("-> {to}"),
                    Effect::Waits | Effect::Note(_) => continue,
                };
                effects += if effects.is_empty() { "" } else { ", " };
                effects += &text;
            }
            writeln!(
                table,
                "{state_name:<20} {input_name:<20} {}",
                if effects.is_empty() { "-" } else { &effects }
            )
            .unwrap();
        }
    }
    assert_eq!(table.trim(), include_str!("table.txt").trim(), "the table is now:\n{table}");
}

#[test]
fn new_startsecs_count_from_the_spawn() {
    let mut sim = Sim::new(|config| config.startsecs = Duration::from_secs(60));
    sim.start().unwrap();
    sim.pass(Duration::from_secs(5));
    sim.process.handle_settings(Arc::new(defaults("x")));
    sim.pass(Duration::ZERO);
    assert_eq!(sim.process.state(), ProcessState::Running);
}

#[test]
fn new_settings_leave_a_wait_and_a_stop_as_they_are() {
    let mut sim = Sim::new(|_| ());
    sim.start().unwrap();
    sim.exit(Exit::Code(1), false);
    let retry = sim.process.poll_timeout();
    sim.process.handle_settings(Arc::new(ProgramConfig { startretries: 0, ..defaults("x") }));
    assert_eq!((sim.process.state(), sim.process.poll_timeout()), (ProcessState::Backoff, retry));
    sim.pass(Duration::from_secs(1));
    sim.exit(Exit::Code(1), false);
    assert_eq!(sim.process.state(), ProcessState::Fatal, "the new startretries are none");
    let mut sim = Sim::up();
    sim.stop().unwrap();
    let kill = sim.process.poll_timeout();
    sim.process.handle_settings(Arc::new(ProgramConfig { stopwaitsecs: Duration::ZERO, ..defaults("x") }));
    assert_eq!((sim.process.state(), sim.process.poll_timeout()), (ProcessState::Stopping, kill));
}

#[test]
fn new_settings_start_what_was_meant_to_run_and_not_what_was_stopped() {
    let asks = |sim: &Sim, autostart: bool, autorestart, change| {
        let new = ProgramConfig { autostart, autorestart, ..defaults("x") };
        sim.process.is_asked_to_start_by(&new, change)
    };
    let both = |sim: &Sim, autostart| {
        [ProcessChange::Live, ProcessChange::Restart]
            .map(|change| asks(sim, autostart, AutoRestart::Unexpected, change))
    };
    let manual = |config: &mut ProgramConfig| config.autostart = false;

    let mut never_started = Sim::new(manual);
    assert_eq!((both(&never_started, true), both(&never_started, false)), ([true; 2], [false; 2]));
    never_started.start().unwrap();
    never_started.stop().unwrap();
    never_started.exit(KILLED, false);
    assert_eq!(both(&never_started, true), [false; 2], "an operator stopped it");

    let mut stopped = Sim::up();
    assert_eq!(both(&stopped, true), [false; 2], "it runs");
    stopped.stop().unwrap();
    stopped.exit(KILLED, false);
    assert_eq!(both(&stopped, true), [false; 2]);

    let mut failed = Sim::new(|config| config.startretries = 0);
    failed.start().unwrap();
    failed.exit(Exit::Code(0), false);
    assert_eq!((both(&failed, true), both(&failed, false)), ([true; 2], [true; 2]));
    assert!(!asks(&failed, true, AutoRestart::Always, ProcessChange::Unchanged));
    assert_eq!(failed.stop(), Err(Denied::NotRunning));
    assert_eq!(both(&failed, true), [false; 2], "an operator wants it stopped");

    let mut ended = Sim::up();
    ended.exit(Exit::Code(0), false);
    assert_eq!((both(&ended, true), both(&ended, false)), ([false, true], [false; 2]));
    assert!(asks(&ended, false, AutoRestart::Always, ProcessChange::Live));
    assert_eq!(ended.stop(), Err(Denied::NotRunning));
    assert_eq!(both(&ended, true), [false; 2], "an operator wants it stopped");
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Start,
    Stop,
    Signal,
    Exit(u8, bool),
    Killed(bool),
    LateExit,
    Pass(u16),
    LeftoversGone,
    Break(bool),
    Halt,
    /// New `startsecs` and `stopwaitsecs`.
    Settings(u8),
    /// A start that waits for other programs: up, coming, stalled or failed.
    StartAfter(u8),
    /// How it stands with them now.
    Dependencies(u8),
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => Just(Op::Start),
        2 => Just(Op::Stop),
        1 => Just(Op::Signal),
        3 => (0..3u8, any::<bool>()).prop_map(|(code, remains)| Op::Exit(code, remains)),
        1 => any::<bool>().prop_map(Op::Killed),
        1 => Just(Op::LateExit),
        4 => (0..15_000u16).prop_map(Op::Pass),
        2 => Just(Op::LeftoversGone),
        1 => any::<bool>().prop_map(Op::Break),
        1 => (0..4u8).prop_map(Op::Settings),
        2 => (0..4u8).prop_map(Op::StartAfter),
        2 => (0..4u8).prop_map(Op::Dependencies),
        1 => prop_oneof![19 => Just(Op::LateExit), 1 => Just(Op::Halt)],
    ]
}

fn any_config() -> impl Strategy<Value = ProgramConfig> {
    let autorestart =
        prop_oneof![Just(AutoRestart::Never), Just(AutoRestart::Unexpected), Just(AutoRestart::Always)];
    (autorestart, 0..3u64, 0..4u32, 0..12u64, any::<[bool; 2]>()).prop_map(
        |(autorestart, startsecs, startretries, stopwaitsecs, [stopasgroup, killasgroup])| ProgramConfig {
            autorestart,
            startsecs: Duration::from_secs(startsecs),
            startretries,
            stopwaitsecs: Duration::from_secs(stopwaitsecs),
            stopasgroup,
            killasgroup,
            ..defaults("x")
        },
    )
}

impl Sim {
    /// Does one random thing; the invariants that hold at every step are checked here and in `perform`.
    fn apply(&mut self, op: Op) {
        let spawns = self.process.spawns();
        let (was_at_rest, was_held_back) = (self.process.is_at_rest(), self.process.is_held_back());
        let dependencies =
            |which: u8| [Dependencies::Up, coming(), stalled(), failed()][usize::from(which)].clone();
        let halted = self.process.halted;
        match op {
            Op::Start => _ = self.start(),
            Op::Stop => _ = self.stop(),
            Op::Signal => _ = self.process.signal(StopSignal(libc::SIGHUP)),
            Op::Exit(code, remains) if self.child.is_some() => self.exit(Exit::Code(code), remains),
            Op::Killed(remains) if self.child.is_some() => self.exit(KILLED, remains),
            Op::LeftoversGone if self.leftovers => self.leftovers_gone(),
            Op::Pass(millis) => self.pass_with_mortal_leftovers(Duration::from_millis(u64::from(millis))),
            Op::Break(broken) => self.broken = broken,
            Op::Halt => self.process.halt(),
            Op::StartAfter(which) => self.start_after(dependencies(which)),
            Op::Dependencies(which) => self.dependencies(dependencies(which)),
            Op::Settings(seconds) => {
                let seconds = Duration::from_secs(u64::from(seconds));
                let config = self.process.config().as_ref().clone();
                let config = ProgramConfig { startsecs: seconds, stopwaitsecs: seconds, ..config };
                self.process.handle_settings(Arc::new(config));
            }
            Op::Exit(..) | Op::Killed(_) | Op::LeftoversGone | Op::LateExit => {}
        }
        self.perform();
        assert_eq!(self.process.pid(), self.child, "an untracked child");
        let started = self.process.spawns() > spawns;
        assert!(!(started && halted), "a start after the daemon began to end");
        let is_asked_for = matches!(op, Op::Start | Op::StartAfter(0)) || was_held_back;
        assert!(!(started && was_at_rest) || is_asked_for, "a start that nobody asked for");
        let may_start = matches!(op, Op::Start | Op::StartAfter(0) | Op::Dependencies(0));
        assert!(!(started && was_held_back) || may_start, "a start before what it depends on");
        if self.process.state() == ProcessState::Backoff {
            let delay = Duration::from_secs(u64::from(self.process.failures()));
            let ended = self.now.mono;
            let due = self.process.poll_timeout().expect("a retry is pending");
            assert!(due <= ended + delay, "a retry later than its delay");
        }
    }

    /// Leftovers die of SIGKILL, as real ones do.
    fn pass_with_mortal_leftovers(&mut self, span: Duration) {
        let before = self.seen.len();
        self.pass(span.min(Duration::from_millis(900)));
        let kill = Effect::EndLeftovers { signal: StopSignal::KILL };
        if self.seen[before..].contains(&kill) {
            self.leftovers_gone();
        }
    }

    /// A child that only SIGKILL ends.
    fn dies_of_sigkill(&mut self) {
        for _ in 0..200 {
            let before = self.seen.len();
            self.pass_with_mortal_leftovers(Duration::from_millis(500));
            let killed = self.seen[before..]
                .iter()
                .any(|effect| matches!(effect, Effect::Signal { signal: StopSignal::KILL, .. }));
            if killed && self.child.is_some() {
                self.exit(KILLED, false);
            }
            if self.process.state() == ProcessState::Stopped {
                return;
            }
        }
        panic!("STOPPING for ever: {:?}", self.process);
    }
}

#[test]
fn a_start_that_is_refused_does_not_undo_the_stop() {
    let mut sim = Sim::up();
    sim.stop().unwrap();
    assert_eq!(sim.start(), Err(Denied::Stopping));
    assert!(!sim.process.is_wanted());
}

proptest! {
    // The usual generator takes most of the time in a debug build.
    #![proptest_config(ProptestConfig {
        cases: 10_000,
        rng_algorithm: RngAlgorithm::XorShift,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_sequence_makes_two_children_or_loses_one(
        config in any_config(),
        ops in prop::collection::vec(any_op(), 1..40),
    ) {
        let mut sim = Sim::new(|own| *own = config);
        for op in ops {
            sim.apply(op);
        }
        if sim.process.stop(sim.now).is_ok() || sim.process.state() == ProcessState::Stopping {
            sim.perform();
            sim.dies_of_sigkill();
        }
        prop_assert!(sim.child.is_none() || sim.process.state() == ProcessState::Unknown);
    }
}
