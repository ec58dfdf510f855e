//! Many programs write as fast as they are read while the daemon is killed, upgraded, updated and reloaded at random
//! moments: every program keeps its pid, every log holds every line once and in order, every exit is known.
//!
//! From before each disturbance until the programs are known to be taken over and its log grows again, no program pauses.
//! Then they are held, so that a run writes no more than that: what each of them has written by then must be in its log, to
//! the byte. It is checked in order, once, and removed as far as it was rotated: the disk needs to have space for a round.
//!
//! The ordinary run is short. `SUPERVISOR_TORTURE=PROGRAMS:ROUNDS` makes it longer (`just torture`), and
//! `SUPERVISOR_TORTURE_SEED` repeats a run: the choices are the same, the moments are the machine's.

use std::{
    collections::BTreeMap,
    env,
    path::Path,
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::Duration,
};

use supervisor_tests::{
    Daemon, Signal, kill,
    lines::{self, History},
    observe, processes,
};

/// Bytes by which every log must grow beyond all that its program had written when it was known to be taken over: more than
/// the write that was under way.
const GROWTH: u64 = 64 << 10;

/// Most bytes of a round. A machine that is quick with writing and slow with all else must not fill its disk.
const MOST: u64 = 2 << 30;

/// Choices that a seed repeats.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

/// The programs of a run.
struct Cast {
    /// Never end by themselves; every fourth has its own stderr, every fifth rotates often.
    steady: usize,
    /// Wait for a round of their own, and then end by themselves, each with its own status.
    passing: usize,
}

impl Cast {
    /// `round` is in a key that no running program has to be restarted for, and in a program of its own.
    fn configuration(&self, round: u64) -> String {
        let mut text = format!("[program:extra]\ncommand=$ACTOR print=round-{} sleep\n", round / 4);
        for n in 0..self.steady {
            let size = if n % 5 == 0 { "200KB" } else { "2MB" };
            text += &format!(
                "[program:s{n}]\ncommand=$ACTOR lines-wild={seed}:999999999:0\nstartsecs=0\nautorestart=true\nstopwaitsecs={wait}\n\
                 stdout_logfile=$DIR/s{n}.log\nstdout_logfile_maxbytes={size}\nstdout_logfile_backups=9999\n\
                 redirect_stderr={redirect}\n",
                seed = n + 1,
                wait = 10 + round % 7,
                redirect = n % 4 != 0,
            );
        }
        for n in 0..self.passing {
            text += &format!(
                "[program:p{n}]\ncommand=$ACTOR gate=$DIR/gate-p{n} lines-wild={seed}:{lines}:0 exit={status}\nstartsecs=0\n\
                 autorestart=false\nstdout_logfile=$DIR/p{n}.log\nstdout_logfile_maxbytes=1MB\nstdout_logfile_backups=50\n",
                seed = 1000 + n,
                lines = Self::lines_of_passing(n),
                status = Self::status_of_passing(n),
            );
        }
        text
    }

    /// Some end before the daemon does, some while there is none, some under the next one.
    fn lines_of_passing(n: usize) -> usize {
        500 << (n % 7)
    }

    fn status_of_passing(n: usize) -> usize {
        n % 100 + 1
    }

    /// Those whose round it is, spread evenly: before the first one most runs have had a crash, so that they are children of
    /// no daemon that lives.
    fn passing_in(&self, round: u64, rounds: u64) -> impl Iterator<Item = usize> + use<> {
        let passing = self.passing;
        (0..passing).filter(move |n| 1 + (*n as u64 + 1) * rounds / (passing as u64 + 1) == round)
    }
}

/// A run under way.
struct Torture {
    daemon: Daemon,
    cast: Cast,
    random: Random,
    /// Of the steady ones.
    pids: Vec<i32>,
    logs: Vec<History>,
}

#[test]
fn nothing_is_lost_whatever_happens_to_the_daemon() {
    let plan = env::var("SUPERVISOR_TORTURE").unwrap_or_else(|_| "12:8".to_owned());
    let (programs, rounds) = plan.split_once(':').expect("SUPERVISOR_TORTURE=PROGRAMS:ROUNDS");
    let (programs, rounds): (usize, u64) =
        (programs.parse().expect("a number"), rounds.parse().expect("a number"));
    let seed = env::var("SUPERVISOR_TORTURE_SEED").map_or_else(
        |_| u64::from(std::process::id()) | 1,
        |seed| seed.parse().expect("SUPERVISOR_TORTURE_SEED is a number"),
    );
    println!("seed {seed}");
    let cast = Cast { steady: programs - programs / 8, passing: programs / 8 };
    let mut torture = Torture::begin(cast, Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1));
    let mut done = BTreeMap::<&str, u32>::new();
    for round in 1..=rounds {
        for n in torture.cast.passing_in(round, rounds) {
            torture.daemon.open(&format!("gate-p{n}"));
        }
        let what = torture.round(round);
        *done.entry(what).or_default() += 1;
    }
    println!("{done:?}, {} lines", torture.logs.iter().map(History::lines).sum::<usize>());
    torture.check_exits();
}

impl Torture {
    /// Starts all; the steady ones are held.
    fn begin(cast: Cast, random: Random) -> Self {
        let mut daemon = Daemon::prepare(&cast.configuration(0));
        (0..cast.passing).for_each(|n| daemon.make_gate(&format!("gate-p{n}")));
        daemon.launch(&[]);
        let pids = pids_of_steady(&daemon, &cast);
        let logs = (0..cast.steady).map(|n| History::new(&format!("s{n}.log"))).collect();
        let mut torture = Self { daemon, cast, random, pids, logs };
        torture.hold_and_check();
        torture
    }

    /// All write, and something happens; what.
    fn round(&mut self, round: u64) -> &'static str {
        let Self { daemon, cast, random, pids, logs } = self;
        let (pids, logs) = (&*pids, &*logs);
        let directory = daemon.path(".");
        let held = lines::written(&directory, logs);
        pids.iter().for_each(|pid| kill(*pid, Signal::SIGCONT));
        let what = thread::scope(|scope| {
            let (end, ended) = mpsc::channel();
            scope.spawn(|| hold_what_would_fill_the_disk(&directory, logs, pids, ended));
            daemon.until_at_last("all to write", || {
                let now = lines::written(&directory, logs);
                now.iter().zip(&held).all(|(now, held)| now > held)
            });
            observe(Duration::from_millis(random.below(100)));
            let what = disturb(daemon, cast, random, round);
            drop(end);
            what
        });
        pids.iter().for_each(|pid| kill(*pid, Signal::SIGCONT));
        assert_eq!(pids_of_steady(&self.daemon, &self.cast), self.pids, "a program was restarted by {what}");
        self.until_logs_grow(what);
        self.hold_and_check();
        what
    }

    /// Waits until every log grows again, and holds each program whose log does.
    fn until_logs_grow(&self, what: &str) {
        let taken_over: Vec<u64> = self.pids.iter().map(|pid| processes::written(*pid)).collect();
        let mut is_held = vec![false; self.pids.len()];
        self.daemon.until_at_last(&format!("all logs to grow after {what}"), || {
            let now = lines::written(&self.daemon.path("."), &self.logs);
            for (n, is_held) in is_held.iter_mut().enumerate().filter(|(_, is_held)| !**is_held) {
                if now[n] >= taken_over[n] + GROWTH {
                    kill(self.pids[n], Signal::SIGSTOP);
                    *is_held = true;
                }
            }
            is_held.iter().all(|is_held| *is_held)
        });
    }

    /// Holds all that write for ever, and checks that all they have written is in their logs.
    fn hold_and_check(&mut self) {
        self.pids.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP));
        self.daemon
            .until_at_last("all to be held", || self.pids.iter().all(|pid| processes::is_stopped(*pid)));
        let expected: Vec<u64> = self.pids.iter().map(|pid| processes::written(*pid)).collect();
        self.daemon.until_at_last("all that was written to be logged", || {
            let now = lines::written(&self.daemon.path("."), &self.logs);
            // More would be found below.
            now.iter().zip(&expected).all(|(now, expected)| now >= expected)
        });
        // It answers when it has done with the files.
        assert_eq!(self.daemon.ctl("version").status, 0);
        let daemon = &self.daemon;
        let threads = thread::available_parallelism().map_or(2, usize::from);
        let share = self.logs.len().div_ceil(threads);
        thread::scope(|scope| {
            for logs in self.logs.chunks_mut(share) {
                scope.spawn(|| logs.iter_mut().for_each(|log| log.check_and_remove(daemon)));
            }
        });
        for (log, expected) in self.logs.iter().zip(expected) {
            assert_eq!(log.bytes(), expected, "{} is not what was written", log.name());
        }
    }

    /// Those that have ended by themselves have written all, and it is known how they ended.
    fn check_exits(&self) {
        for n in 0..self.cast.passing {
            let name = format!("p{n}");
            self.daemon.until_state(&name, "EXITED");
            let process = self.daemon.json(&name);
            assert_eq!(process["exitstatus"], Cast::status_of_passing(n), "{name}: {process}");
            let log = format!("{name}.log");
            let is_whole = || lines::count(&self.daemon, &log) == Cast::lines_of_passing(n);
            self.daemon.until(&format!("{log} to be whole"), is_whole);
        }
    }
}

/// One random misfortune; its name.
fn disturb(daemon: &mut Daemon, cast: &Cast, random: &mut Random, round: u64) -> &'static str {
    match random.below(11) {
        0..=4 => {
            crash(daemon);
            "kill -9"
        }
        5 | 6 => {
            let reply = daemon.ctl("upgrade");
            assert_eq!(reply.status, 0, "{reply:?}");
            "upgrade"
        }
        7 => {
            daemon.signal(Signal::SIGUSR1);
            observe(Duration::from_millis(random.below(30)));
            crash(daemon);
            "kill -9 during an upgrade"
        }
        8 => {
            daemon.configure(&cast.configuration(round));
            let reply = daemon.ctl("update");
            assert_eq!(reply.status, 0, "{reply:?}");
            "update"
        }
        9 => {
            daemon.configure(&cast.configuration(round));
            let reply = daemon.ctl("reload --keep");
            assert_eq!(reply.status, 0, "{reply:?}");
            "reload --keep"
        }
        _ => {
            daemon.configure(&cast.configuration(round));
            crash(daemon);
            "another configuration while no daemon runs"
        }
    }
}

/// Until `ended` is closed.
fn hold_what_would_fill_the_disk(directory: &Path, logs: &[History], pids: &[i32], ended: Receiver<()>) {
    let written = || lines::written(directory, logs).iter().sum::<u64>();
    let most = written() + MOST;
    while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(Duration::from_millis(50)) {
        if written() > most {
            pids.iter().for_each(|pid| kill(*pid, Signal::SIGSTOP));
        }
    }
}

/// The pids of the steady programs. One that has none is 0.
fn pids_of_steady(daemon: &Daemon, cast: &Cast) -> Vec<i32> {
    let status = daemon.ctl("status").stdout;
    let pids: BTreeMap<&str, i32> = status
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let name = words.next()?;
            Some((name, words.nth(2)?.strip_suffix(',')?.parse().ok()?))
        })
        .collect();
    (0..cast.steady).map(|n| pids.get(format!("s{n}").as_str()).copied().unwrap_or(0)).collect()
}

/// Kills the daemon and starts another.
fn crash(daemon: &mut Daemon) {
    daemon.remember();
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    daemon.launch(&[]);
}
