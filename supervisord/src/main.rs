//! `supervisord`: command line → configuration → daemon → runtime → driver → exit status.
//!
//! Synchronous, because a process must fork before it has threads. What each step prints is in `launch`.

use std::process::ExitCode;

use supervisord::{
    driver, keeper,
    launch::{self, Ended, Launch},
    notify::ServiceManager,
};

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == keeper::OPTION) {
        keeper::run();
        return ExitCode::SUCCESS;
    }
    run().unwrap_or_else(ExitCode::from)
}

/// All steps; `Err` is an end before there was a daemon.
fn run() -> Result<ExitCode, Ended> {
    // First of all: what an image of this daemon before this one left open is not to be confused with our own.
    if let Some(predecessor) = launch::predecessor()? {
        return launch::succeed(predecessor, driver::run);
    }
    let origin = launch::origin()?;
    let args = launch::command_line()?;
    let loaded = launch::configuration(&args)?;
    // Programs must not inherit the way to the service manager; without one, nobody is told.
    let manager = ServiceManager::take_from_environment().unwrap_or_default();
    let ready = launch::detach(&loaded, manager)?;
    launch::run(loaded, args, Launch { ready, origin, predecessor: None }, driver::run)
}
