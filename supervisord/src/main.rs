//! `supervisord`: command line → configuration → daemon → runtime → driver → exit status.
//!
//! Synchronous, because a process must fork before it has threads. What each step prints is in `launch`.

use std::process::ExitCode;

use supervisord::{
    launch::{self, Ended},
    notify::ServiceManager,
};

fn main() -> ExitCode {
    run().unwrap_or_else(ExitCode::from)
}

/// All steps; `Err` is an end before there was a daemon.
fn run() -> Result<ExitCode, Ended> {
    let args = launch::command_line()?;
    let loaded = launch::configuration(&args)?;
    // Programs must not inherit the way to the service manager; without one, nobody is told.
    let manager = ServiceManager::take_from_environment().unwrap_or_default();
    let ready = launch::detach(&loaded, manager)?;
    launch::run(loaded, args, ready, serve)
}

/// Answers clients until a signal ends the daemon.
async fn serve(start: supervisord::startup::Start) -> ExitCode {
    use supervisord::{api, signals};
    let supervisord::startup::Start { endpoints, mut ready, pidfile, socket_files, .. } = start;
    let (Ok(mut signals), Ok((grpc, _health))) =
        (signals::Signals::install(), api::grpc_router(tonic::service::Routes::builder().routes()))
    else {
        return ExitCode::FAILURE;
    };
    let Ok(servers) = api::Servers::start(endpoints, &api::Routers { grpc, http: api::http_router() }) else {
        return ExitCode::FAILURE;
    };
    ready.ready();
    while !matches!(signals.next().await, signals::DaemonSignal::Terminate(_)) {}
    ready.manager.stopping();
    servers.shutdown().await;
    drop((pidfile, socket_files));
    ExitCode::SUCCESS
}
