//! The keeper: a small process that ends the programs with `on_daemon_death=stop` once the daemon is gone.
//!
//! It is this binary, started by the daemon with [`OPTION`], and reads [`Line`]s from it on its standard input. The end
//! of that pipe is the daemon's death, whatever its cause. The kernel's own signal for the death of a parent would not
//! do: it is sent when a thread ends, and a program that changes its user loses it.

mod ending;
pub mod line;

use std::{
    collections::BTreeMap,
    io::{self, BufRead as _},
};

use ending::{Doomed, end_all};
use line::Line;

use crate::os::handover;

/// The option by which the daemon starts it; not for users.
pub const OPTION: &str = "--keeper";

/// Runs as the keeper; returns when there is nothing left to guard.
pub fn run() {
    // It has to outlive what ends the daemon and its programs.
    handover::hold_signals();
    let mut wards = BTreeMap::new();
    for line in io::stdin().lock().lines() {
        // An error is the same as the end: the daemon cannot be heard any more.
        let Ok(line) = line else { break };
        match Line::parse(&line) {
            Some(Line::Guard(ward)) => {
                wards.extend(Doomed::new(ward).map(|doomed| (ward.pid, doomed)));
            }
            Some(Line::Forget(pid)) => drop(wards.remove(&pid)),
            Some(Line::Quit) => return,
            // Said by a daemon of another version, which this binary cannot be: it is started from the same file.
            None => {}
        }
    }
    end_all(wards.into_values().collect());
}
