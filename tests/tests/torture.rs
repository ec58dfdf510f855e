//! Many programs write while the daemon is killed, upgraded, updated and reloaded at random moments: every program keeps
//! its pid, every log holds every line once and in order, every exit is known.
//!
//! The ordinary run is short. `SUPERVISOR_TORTURE=PROGRAMS:ROUNDS` makes it longer (`just torture`), and
//! `SUPERVISOR_TORTURE_SEED` repeats a run: the choices are the same, the moments are the machine's.

use std::{collections::BTreeMap, env, time::Duration};

use supervisor_tests::{Daemon, Signal, lines, observe};

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

/// Programs that write with the actor's own pauses; more of them pause longer, so that a long run does not fill the disk.
const USUAL: usize = 12;

/// The programs of a run.
struct Cast {
    /// Never end by themselves; every fourth has its own stderr, every fifth rotates often.
    steady: usize,
    /// End once, each with its own status, some time during the run.
    passing: usize,
}

impl Cast {
    /// `round` is in a key that no running program has to be restarted for, and in a program of its own.
    fn configuration(&self, round: u64) -> String {
        let mut text = format!("[program:extra]\ncommand=$ACTOR print=round-{} sleep\n", round / 4);
        let pause = 40 * (self.steady + self.passing).max(USUAL) / USUAL;
        for n in 0..self.steady {
            let size = if n % 5 == 0 { "1MB" } else { "5MB" };
            text += &format!(
                "[program:s{n}]\ncommand=$ACTOR lines-wild={seed}:999999999:{pause}\nstartsecs=0\nautorestart=true\nstopwaitsecs={wait}\n\
                 stdout_logfile=$DIR/s{n}.log\nstdout_logfile_maxbytes={size}\nstdout_logfile_backups=9999\n\
                 redirect_stderr={redirect}\n",
                seed = n + 1,
                wait = 10 + round % 7,
                redirect = n % 4 != 0,
            );
        }
        for n in 0..self.passing {
            text += &format!(
                "[program:p{n}]\ncommand=$ACTOR lines-wild={seed}:{lines}:{pause} exit={status}\nstartsecs=0\n\
                 autorestart=false\nstdout_logfile=$DIR/p{n}.log\nstdout_logfile_maxbytes=1MB\nstdout_logfile_backups=50\n",
                seed = 1000 + n,
                lines = Self::lines_of_passing(n),
                status = Self::status_of_passing(n),
            );
        }
        text
    }

    fn lines_of_passing(n: usize) -> usize {
        2_000 + 9_000 * n
    }

    fn status_of_passing(n: usize) -> usize {
        n % 100 + 1
    }

    /// Pid by name of those that must keep it.
    fn pids(&self, daemon: &Daemon) -> BTreeMap<String, i32> {
        (0..self.steady)
            .map(|n| format!("s{n}"))
            .map(|name| (name.clone(), daemon.process_pid(&name)))
            .collect()
    }
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
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let cast = Cast { steady: programs - programs / 8, passing: programs / 8 };
    let mut daemon = Daemon::prepare(&cast.configuration(0));
    daemon.launch(&[]);
    let first = cast.pids(&daemon);
    let mut done = BTreeMap::<&str, u32>::new();
    for round in 1..=rounds {
        observe(Duration::from_millis(random.below(150)));
        let what = disturb(&mut daemon, &cast, &mut random, round);
        *done.entry(what).or_default() += 1;
    }
    println!("{done:?}");
    for n in 0..cast.passing {
        daemon.until_state(&format!("p{n}"), "EXITED");
        let process = daemon.json(&format!("p{n}"));
        assert_eq!(process["exitstatus"], Cast::status_of_passing(n), "p{n}: {process}");
    }
    assert_eq!(cast.pids(&daemon), first, "a program was restarted; seed {seed}");
    check_logs(&daemon, &cast, seed);
}

/// One random misfortune; its name.
fn disturb(daemon: &mut Daemon, cast: &Cast, random: &mut Random, round: u64) -> &'static str {
    match random.below(10) {
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
        _ => {
            daemon.configure(&cast.configuration(round));
            crash(daemon);
            "another configuration while no daemon runs"
        }
    }
}

/// Kills the daemon and starts another.
fn crash(daemon: &mut Daemon) {
    daemon.remember();
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    daemon.launch(&[]);
}

/// Every line once and in order, over all rotations of every log.
fn check_logs(daemon: &Daemon, cast: &Cast, seed: u64) {
    // As they stand, nobody writes any more: what is still in the pipes does not count.
    daemon.signal(Signal::SIGSTOP);
    for n in 0..cast.steady {
        let lines = lines::count(daemon, &format!("s{n}.log"));
        assert!(lines > 0, "s{n} wrote nothing; seed {seed}");
    }
    for n in 0..cast.passing {
        let lines = lines::count(daemon, &format!("p{n}.log"));
        assert_eq!(lines, Cast::lines_of_passing(n), "p{n}; seed {seed}");
    }
    daemon.signal(Signal::SIGCONT);
}
