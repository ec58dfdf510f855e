//! What a spawn costs the daemon, by each method and by the standard library's `posix_spawn`.
//!
//! `cargo run --profile release-dev -p supervisord --example spawn_cost [SPAWNS [DIRTY_MEGABYTES]]` prints for each method
//! the microseconds that the call takes and those until the child (`/bin/true`) has ended: median and 99th percentile.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on ends")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "measures the calls which are banned elsewhere"
)]

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use supervisord::os::reap;
use supervisord::os::spawn::{Method, SpawnPlan, Spawner};

const PROGRAM: &str = "/bin/true";

fn main() {
    let mut numbers = std::env::args().skip(1).map(|word| word.parse::<usize>().unwrap());
    let spawns = numbers.next().unwrap_or(500).max(1);
    let megabytes = numbers.next().unwrap_or(0);
    // Written page by page: what a fork has to copy the tables of.
    let dirty = std::hint::black_box(vec![1u8; megabytes << 20]);
    println!("{spawns} spawns of {PROGRAM}, {megabytes} MB dirty; µs: call p50 p99, until its end p50 p99");
    report("clone", spawns, by_spawner(Method::Clone));
    report("fork", spawns, by_spawner(Method::Fork));
    report("posix_spawn", spawns, by_standard_library);
    drop(dirty);
}

/// Runs `once` `spawns` times; it returns the time of the call and the time until the child has ended.
fn report(name: &str, spawns: usize, mut once: impl FnMut() -> (Duration, Duration)) {
    let (mut calls, mut ends): (Vec<_>, Vec<_>) = (0..spawns).map(|_| once()).unzip();
    println!(
        "{name:12} {:7} {:7} {:7} {:7}",
        percentile(&mut calls, 50),
        percentile(&mut calls, 99),
        percentile(&mut ends, 50),
        percentile(&mut ends, 99)
    );
}

fn percentile(times: &mut [Duration], percent: usize) -> u128 {
    times.sort_unstable();
    times[(times.len() - 1) * percent / 100].as_micros()
}

fn by_spawner(method: Method) -> impl FnMut() -> (Duration, Duration) {
    let mut spawner = Spawner::with_method(method).unwrap();
    let null: OwnedFd = File::options().read(true).write(true).open("/dev/null").unwrap().into();
    move || {
        let plan = SpawnPlan {
            executable: c"/bin/true".into(),
            argv: vec![c"true".into()],
            envp: vec![c"PATH=/usr/bin:/bin".into()],
            directory: None,
            umask: Some(0o022),
            open_files: None,
            identity: None,
            stdin: null.as_fd(),
            stdout: null.as_fd(),
            stderr: null.as_fd(),
        };
        let begin = Instant::now();
        let child = spawner.spawn(&plan).unwrap();
        let call = begin.elapsed();
        let pidfd = child.pidfd.unwrap();
        poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE).unwrap();
        let end = begin.elapsed();
        reap::reap(child.pid).unwrap();
        (call, end)
    }
}

fn by_standard_library() -> (Duration, Duration) {
    let mut command = Command::new(PROGRAM);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let begin = Instant::now();
    let mut child = command.spawn().unwrap();
    let call = begin.elapsed();
    child.wait().unwrap();
    (call, begin.elapsed())
}
