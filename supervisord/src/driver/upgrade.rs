//! `supervisorctl upgrade` and SIGUSR1: the daemon executes its binary anew, in place.
//!
//! Four steps, each of which can end the attempt and leave everything as it was: the new binary, run as a child, says
//! whether it can take over (`handover/check.rs`); an update under way is waited for; clients are sent off; `execve`.
//! What the new image finds is in `handover`.

use std::{
    fs::File,
    io::Read as _,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tracing::{error, info, warn};

use super::{Driver, requests::answer};
use crate::{
    api::{Endpoint, Servers},
    clock::{self, Moment},
    handover::{MARKER, State, Verdict, environment_with, parse_verdict},
    os::{
        handover::{self, Inherited, Program},
        signal,
    },
    process::{Exit, Pid},
    request::{Answer, Reason, Refusal, Upgraded},
    signals::DaemonSignal,
    supervisor::Mode,
};

/// How long the new binary may take to read configuration and state.
const CHECK_BOUND: Duration = Duration::from_secs(20);
/// How long an update under way is waited for.
const SETTLE_BOUND: Duration = Duration::from_secs(30);
/// What is read of what the new binary prints.
const MOST_OUTPUT: u64 = 64 << 10;

/// Upgrades: past, present, and how clients learn of them.
#[derive(Debug, Default)]
pub(super) struct Upgrades {
    /// How often this daemon was replaced in place.
    pub(super) generation: u32,
    /// Why the last attempt failed after it had been answered.
    pub(super) problem: Option<String>,
    under_way: Option<Attempt>,
    /// Sends clients off; gives the sockets back.
    parting: JoinSet<Vec<Endpoint>>,
}

/// An upgrade under way.
#[derive(Debug)]
struct Attempt {
    /// Whether the configuration is to be applied afterwards.
    apply: bool,
    /// Who asked, if a client did.
    asked: Option<Answer<Upgraded>>,
    step: Step,
}

/// How far an upgrade is.
#[derive(Debug)]
enum Step {
    /// The new binary is asked; what it prints.
    Checking { pid: Pid, output: OwnedFd, until: Instant },
    /// An update is waited for; the version of the new binary.
    Settling { version: String, until: Instant },
    /// Clients are sent off.
    Parting,
}

impl Upgrades {
    /// Waits until clients have been sent off; for ever when they are not. Cancel-safe.
    pub(super) async fn parted(&mut self) -> Vec<Endpoint> {
        match self.parting.join_next().await {
            Some(Ok(endpoints)) => endpoints,
            // A panic there is a bug, and costs the sockets.
            Some(Err(_)) => Vec::new(),
            None => std::future::pending().await,
        }
    }

    /// When something is due, if anything.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        match &self.under_way.as_ref()?.step {
            Step::Checking { until, .. } | Step::Settling { until, .. } => Some(*until),
            Step::Parting => None,
        }
    }
}

/// Steps.
impl Driver {
    /// Begins an upgrade; `apply`: the configuration is applied as well, as by `update`.
    pub(super) fn begin_upgrade(&mut self, apply: bool, asked: Option<Answer<Upgraded>>, now: Moment) {
        let refusal = self.refuse_while_ending().err().or_else(|| {
            let message = "an upgrade is under way already";
            self.upgrades.under_way.is_some().then(|| Refusal::new(Reason::Failed, message))
        });
        let checking = match refusal {
            Some(refusal) => Err(refusal),
            None => self.check(apply, now).map_err(|problem| self.cannot_upgrade(&problem)),
        };
        match checking {
            Ok(step) => {
                self.upgrades.problem = None;
                self.upgrades.under_way = Some(Attempt { apply, asked, step });
            }
            Err(refusal) => refuse(asked, refusal),
        }
    }

    /// Starts the new binary as a child that is to read configuration and state.
    fn check(&mut self, apply: bool, now: Moment) -> Result<Step, String> {
        let state = self.state(&[], apply, &mut Inherited::default());
        let text = state.to_text().map_err(|error| error.to_string())?;
        let memory = handover::memory_file(&text).map_err(|error| error.to_string())?;
        let (pid, output) = self.launcher.ask(&self.origin, memory.as_fd())?;
        info!("upgrade: asking {} (pid {pid}) whether it can take over", self.origin.executable.display());
        Ok(Step::Checking { pid, output, until: now.deadline(CHECK_BOUND) })
    }

    fn cannot_upgrade(&self, problem: &str) -> Refusal {
        let executable = self.origin.executable.display();
        Refusal::new(Reason::Failed, format!("{executable} cannot take over, nothing was changed: {problem}"))
    }

    /// Records that a child of ours has ended; whether it was the new binary that was asked.
    pub(super) fn handle_check_ended(&mut self, pid: Pid, exit: Exit, now: Moment) -> bool {
        let Some(attempt) = &mut self.upgrades.under_way else { return false };
        let Step::Checking { pid: asked, output, .. } = &mut attempt.step else { return false };
        if *asked != pid {
            return false;
        }
        let mut printed = Vec::new();
        // The pipe is non-blocking: what another process still has to say is not waited for.
        let read = output.try_clone().map(|output| File::from(output).take(MOST_OUTPUT));
        drop(read.and_then(|mut output| output.read_to_end(&mut printed)));
        match parse_verdict(exit, &printed) {
            Verdict::Ready(version) => {
                attempt.step = Step::Settling { version, until: now.deadline(SETTLE_BOUND) };
            }
            Verdict::Refused(problem) => {
                let refusal = self.cannot_upgrade(&problem);
                self.give_upgrade_up(refusal);
            }
        }
        true
    }

    /// Goes on with an upgrade as far as possible.
    pub(super) fn advance_upgrade(&mut self, now: Moment) {
        let Some(attempt) = &self.upgrades.under_way else { return };
        let is_late = self.upgrades.poll_timeout().is_some_and(|at| at <= now.mono);
        let is_ending = self.supervisor.mode() != Mode::Running;
        match &attempt.step {
            Step::Checking { pid, .. } if is_late || is_ending => {
                // It is a child that was not reaped: the number is its own. If it has ended, all the better.
                let _ = signal::kill(*pid, nix::libc::SIGKILL);
                let problem = format!("it did not answer within {} seconds", CHECK_BOUND.as_secs());
                let refusal = self.refuse_while_ending().err();
                let refusal = refusal.unwrap_or_else(|| self.cannot_upgrade(&problem));
                self.give_upgrade_up(refusal);
            }
            Step::Settling { .. } if is_ending => {
                if let Err(refusal) = self.refuse_while_ending() {
                    self.give_upgrade_up(refusal);
                }
            }
            Step::Settling { version, .. } if self.jobs.is_empty() => {
                let version = version.clone();
                self.part(version);
            }
            Step::Settling { .. } if is_late => {
                let message = "an update is under way; upgrade when it has ended";
                self.give_upgrade_up(Refusal::new(Reason::Failed, message));
            }
            Step::Checking { .. } | Step::Settling { .. } | Step::Parting => {}
        }
    }

    /// Answers who asked, and sends all clients off.
    fn part(&mut self, version: String) {
        let Some(attempt) = &mut self.upgrades.under_way else { return };
        attempt.step = Step::Parting;
        let upgraded = Upgraded {
            pid: std::process::id().cast_signed(),
            from: env!("CARGO_PKG_VERSION").to_owned(),
            to: version,
            generation: self.upgrades.generation + 1,
        };
        if let Some(asked) = attempt.asked.take() {
            answer(asked, Ok(upgraded));
        }
        self.ready.manager.reloading();
        self.handle.set_parting(true);
        match self.servers.take() {
            Some(servers) => self.upgrades.parting.spawn(servers.part()),
            None => self.upgrades.parting.spawn(std::future::ready(Vec::new())),
        };
    }

    /// All clients are gone: becomes the new image. Comes back when that cannot be done.
    pub(super) async fn execute(&mut self, endpoints: Vec<Endpoint>) {
        let Some(attempt) = self.upgrades.under_way.take() else { return };
        if self.supervisor.mode() == Mode::Running {
            handover::hold_signals();
            self.pass_signals_on().await;
            let now = clock::now();
            self.reap(now);
            self.perform_effects(now);
            self.handle_pieces(now);
            self.deliver_events(now);
            let problem = self.become_next_image(&endpoints, attempt.apply);
            handover::release_signals();
            error!("the upgrade failed, nothing was changed: {problem}");
            self.upgrades.problem = Some(problem);
            self.ready.manager.ready();
        } else {
            warn!("the upgrade was given up: supervisord is shutting down or restarting");
        }
        self.handle.set_parting(false);
        match Servers::start(endpoints, &self.routers) {
            Ok(servers) => self.servers = Some(servers),
            Err(error) => error!("no client can connect any more: {error}"),
        }
    }

    /// Signals that have come and were not looked at wait for the new image, like those that come from now on.
    async fn pass_signals_on(&mut self) {
        // The runtime takes them in while this task waits.
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        while let Some(waiting) = self.signals.take_waiting() {
            if waiting != DaemonSignal::ChildExited && waiting != DaemonSignal::Upgrade {
                signal::raise(waiting.number());
            }
        }
    }

    /// Executes the new binary; returns only on failure, with the reason.
    fn become_next_image(&self, endpoints: &[Endpoint], apply: bool) -> String {
        let attempt = || -> std::io::Result<std::convert::Infallible> {
            let binary = std::fs::OpenOptions::new()
                .read(true)
                .custom_flags(nix::libc::O_PATH | nix::libc::O_CLOEXEC)
                .open("/proc/self/exe")?;
            let mut inherited = Inherited::default();
            let mut state: State = self.state(endpoints, apply, &mut inherited);
            state.binary = Some(inherited.add(binary.as_fd()));
            let memory = handover::memory_file(&state.to_text()?)?;
            let number = inherited.add(memory.as_fd()).to_string();
            let mut more = vec![(MARKER, number.into())];
            more.extend(self.ready.manager.variable());
            let path = std::ffi::CString::new(self.origin.executable.as_os_str().as_bytes())?;
            let (argv, envp) = (self.origin.argv(), environment_with(&more));
            Err(handover::execute(&Program::Path(&path), &argv, &envp, &inherited))
        };
        match attempt() {
            Ok(never) => match never {},
            Err(error) => format!("cannot execute {}: {error}", self.origin.executable.display()),
        }
    }

    fn give_upgrade_up(&mut self, refusal: Refusal) {
        if let Some(attempt) = self.upgrades.under_way.take() {
            refuse(attempt.asked, refusal);
        }
    }
}

/// Tells who asked why there is no upgrade, and the log.
fn refuse(asked: Option<Answer<Upgraded>>, refusal: Refusal) {
    error!("not upgrading: {refusal}");
    if let Some(asked) = asked {
        answer(asked, Err(refusal));
    }
}
