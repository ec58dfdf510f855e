//! What `start`, `stop`, `signal` and `clear` have in common: names, handled one after another.

use std::collections::HashSet;

use supervisor_proto::v1::{
    ClearLogsRequest, ListProcessesRequest, OperationRequest, Process, ProcessResult, ProcessState, Reason,
    SignalRequest,
};

use super::Verb;
use crate::{
    client::Failure,
    render::{Done, Item as _, Operation, Plain, exit},
    session::Session,
};

/// What to do to each process.
#[derive(Clone, Copy)]
pub(super) enum Order<'a> {
    Start,
    Stop,
    /// Send the signal of this name.
    Signal(&'a str),
    Clear,
}

impl Order<'_> {
    fn operation(self) -> Operation {
        match self {
            Self::Start => Operation::Start,
            Self::Stop => Operation::Stop,
            Self::Signal(_) => Operation::Signal,
            Self::Clear => Operation::Clear,
        }
    }

    /// Its verb, and the exit status when it is given no name.
    fn verb(self) -> (Verb, u8) {
        match self {
            Self::Start => (Verb::Start, exit::INVALID_ARGS),
            Self::Stop => (Verb::Stop, exit::GENERIC),
            Self::Signal(_) => (Verb::Signal, exit::GENERIC),
            Self::Clear => (Verb::Clear, exit::GENERIC),
        }
    }
}

/// Carries out `order` on each of the names in `arg`, waiting for one before the next begins.
pub(super) async fn run(session: &mut Session, order: Order<'_>, arg: &str) -> Result<(), Failure> {
    let names: Vec<&str> = arg.split_whitespace().collect();
    if names.is_empty() {
        let (verb, status) = order.verb();
        let message = format!("{} requires a process name", verb.name());
        session.say(&Plain::misuse(verb, &message, status));
        return Ok(());
    }
    session.begin_list();
    if names.contains(&"all") {
        return run_on(session, order, "all").await;
    }
    for name in names {
        run_on(session, order, name).await?;
    }
    Ok(())
}

/// Carries out `order` on the processes of one selector, telling each result as it comes.
async fn run_on(session: &mut Session, order: Order<'_>, name: &str) -> Result<(), Failure> {
    let names = vec![name.to_owned()];
    let mut rpc = session.rpc().await?;
    let answer = match order {
        Order::Start => rpc.start_processes(OperationRequest { names, no_wait: false }).await,
        Order::Stop => rpc.stop_processes(OperationRequest { names, no_wait: false }).await,
        Order::Signal(signal) => {
            rpc.signal_processes(SignalRequest { names, signal: signal.to_owned() }).await
        }
        Order::Clear => rpc.clear_logs(ClearLogsRequest { names }).await,
    };
    let mut results = match answer.map_err(Failure::from) {
        Ok(results) => results.into_inner(),
        Err(Failure::Refused { reason: Reason::BadSignal, message }) => {
            return refuse_signal(session, name, &message).await;
        }
        Err(failure) => return Err(failure),
    };
    let mut told = HashSet::new();
    loop {
        match results.message().await.map_err(Failure::from) {
            Ok(Some(result)) => {
                tell(session, &Done { operation: order.operation(), result: &result });
                told.insert((result.group, result.name));
            }
            Ok(None) => return Ok(()),
            Err(failure) if failure.is_upgrade() => {
                session.disconnect();
                return wait_on(session, order, name, told).await;
            }
            Err(failure) => return Err(failure),
        }
    }
}

/// The daemon was replaced in place while processes were starting or stopping, which they go on with: waits for those
/// of which nothing was told yet.
async fn wait_on(
    session: &mut Session,
    order: Order<'_>,
    name: &str,
    mut told: HashSet<(String, String)>,
) -> Result<(), Failure> {
    let request = ListProcessesRequest { names: vec![name.to_owned()] };
    let mut rpc = session.rpc().await?;
    let now = rpc.list_processes(request.clone()).await?.into_inner().processes;
    let is_named = !is_gathered(name);
    let is_open = |process: &Process| is_named || outcome(order, process).is_none();
    let key = |process: &Process| (process.group.clone(), process.name.clone());
    let mut open: HashSet<_> = now.iter().filter(|process| is_open(process)).map(key).collect();
    open.retain(|key| !told.contains(key));
    let mut changes = rpc.watch_processes(request).await?.into_inner();
    while !open.is_empty() {
        let process = match changes.message().await.map_err(Failure::from) {
            Ok(Some(process)) => process,
            Ok(None) => break,
            Err(failure) if failure.is_upgrade() => {
                session.disconnect();
                return Box::pin(wait_on(session, order, name, told)).await;
            }
            Err(failure) => return Err(failure),
        };
        if let Some(reason) = outcome(order, &process)
            && open.remove(&key(&process))
        {
            told.insert(key(&process));
            let Process { name, group, spawn_error, description, .. } = process;
            let description = if reason == Reason::DependencyDown { description } else { spawn_error };
            let result = ProcessResult { name, group, reason: reason.into(), description, phase: 0 };
            tell(session, &Done { operation: order.operation(), result: &result });
        }
    }
    Ok(())
}

/// What has become of a process that was asked to start or stop; `None` = it is on the way.
fn outcome(order: Order<'_>, process: &Process) -> Option<Reason> {
    match (order, process.state()) {
        (Order::Signal(_) | Order::Clear, _) => Some(Reason::Ok),
        (Order::Start, ProcessState::Starting) if process.stalled => Some(Reason::DependencyDown),
        (Order::Start, ProcessState::Starting) | (Order::Stop, ProcessState::Stopping) => None,
        (Order::Start, ProcessState::Running) => Some(Reason::Ok),
        (Order::Start, ProcessState::Backoff | ProcessState::Fatal) => Some(Reason::SpawnError),
        (Order::Start, _ended) => Some(Reason::AbnormalTermination),
        (Order::Stop, ProcessState::Stopped | ProcessState::Exited | ProcessState::Fatal) => Some(Reason::Ok),
        (Order::Stop, _runs) => Some(Reason::Failed),
    }
}

/// Whether a selector means whatever there is to be done.
fn is_gathered(name: &str) -> bool {
    name == "all" || name.ends_with(':') || name.contains(['*', '?', '['])
}

/// The signal is unknown: says so of each process that would get it. As in Supervisor, an unknown name comes first.
async fn refuse_signal(session: &mut Session, name: &str, message: &str) -> Result<(), Failure> {
    let names = vec![name.to_owned()];
    let reply = session.rpc().await?.list_processes(ListProcessesRequest { names }).await?.into_inner();
    let is_gathered = is_gathered(name);
    let unknown = reply.unmatched.into_iter().map(|unmatched| ProcessResult {
        reason: unmatched.reason,
        name: unmatched.name,
        ..ProcessResult::default()
    });
    let concerned = reply.processes.into_iter().filter(|process| !is_gathered || is_signallable(process));
    let refused = concerned.map(|process| ProcessResult {
        name: process.name,
        group: process.group,
        reason: Reason::BadSignal.into(),
        description: message.to_owned(),
        ..ProcessResult::default()
    });
    for result in unknown.chain(refused) {
        session.say(&Done { operation: Operation::Signal, result: &result });
    }
    Ok(())
}

/// Whether a signal to all would reach it.
fn is_signallable(process: &Process) -> bool {
    matches!(process.state(), ProcessState::Starting | ProcessState::Running | ProcessState::Stopping)
}

/// Shows a result at once, and to a person the cause that Supervisor's line keeps back.
fn tell(session: &mut Session, done: &Done<'_>) {
    session.say(done);
    session.flush();
    if done.status().is_some()
        && let Some(cause) = done.cause()
    {
        session.hint(&cause);
    }
}
