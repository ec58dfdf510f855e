//! A simulation of daemons that are killed between any two things that they do, on a machine where everything that may
//! go wrong does. Core, scribe, heir and the form of the journal are the real ones; the machine is not.
//!
//! Each run follows from its seed. `SIMULATION_SEEDS` says how many are run, `SIMULATION_SEED` runs one and tells what
//! happens in it.

mod daemon;
mod dice;
mod kernel;
mod run;
mod world;

use std::panic::catch_unwind;

/// Seeds that are run if nothing else is said.
const SEEDS: u64 = 150;

#[test]
fn no_death_of_a_daemon_loses_doubles_or_mistakes_a_program() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("SIMULATION_SEED") {
        return run::run(seed, true);
    }
    for seed in 0..number("SIMULATION_SEEDS").unwrap_or(SEEDS) {
        if catch_unwind(|| run::run(seed, false)).is_err() {
            panic!("seed {seed} failed; to see what happens in it: SIMULATION_SEED={seed} just simulate");
        }
    }
}
