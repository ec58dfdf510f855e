//! The only place where types of the wire and of the domain meet.

use std::{path::Path, time::Duration};

use supervisor_proto::v1;
use tonic::{Code, Status, metadata::MetadataValue};

use crate::{
    event::{Event, EventType},
    output::{follow::Position, tail::ReadError},
    process::ProcessState,
    request::{
        Action, Changes, Channel, ConfiguredProcess, DaemonInfo, Listing, LogSource, Phase, ProcessInfo,
        ProcessResult, ProcessUpdate, Reason, Refusal, Step, UpdateStep, Upgraded,
    },
    subscription::Streamed,
    supervisor::Mode,
};

/// Version of Supervisor whose behaviour is implemented.
pub const SUPERVISOR_VERSION: &str = "4.3.0";
/// Version of Supervisor's remote interface.
pub const API_VERSION: &str = "3.0";

/// Metadata key whose value names the [`Reason`] of a failed call.
const REASON_KEY: &str = "supervisor-reason";

/// A refused call: status code, sentence, and the machine-readable reason as metadata.
pub fn status(refusal: &Refusal) -> Status {
    let code = match refusal.reason {
        Reason::ShuttingDown => Code::Unavailable,
        Reason::BadName | Reason::BadGroup | Reason::NoFile => Code::NotFound,
        Reason::AlreadyAdded => Code::AlreadyExists,
        Reason::CannotReread => Code::InvalidArgument,
        Reason::NotExecutable
        | Reason::AbnormalTermination
        | Reason::SpawnError
        | Reason::AlreadyStarted
        | Reason::NotRunning
        | Reason::DependencyDown
        | Reason::StillRunning => Code::FailedPrecondition,
        Reason::Failed | Reason::Ok => Code::Internal,
    };
    named_status(code, &refusal.message, reason(refusal.reason))
}

/// The end of a stream whose daemon is being replaced in place.
pub fn replaced() -> Status {
    let message = "supervisord is being upgraded in place: connect and ask again";
    named_status(Code::Unavailable, message, v1::Reason::Upgrading)
}

/// An upgrade that is about to happen.
pub fn upgraded(upgraded: Upgraded) -> v1::UpgradeReply {
    v1::UpgradeReply {
        pid: upgraded.pid,
        from_version: upgraded.from,
        to_version: upgraded.to,
        generation: upgraded.generation,
    }
}

/// A place in a log, from the wire.
pub fn position(position: v1::LogPosition) -> Position {
    Position { device: position.device, inode: position.inode, offset: position.offset }
}

/// A place in a log, for the wire.
pub fn log_position(position: Position) -> v1::LogPosition {
    v1::LogPosition { device: position.device, inode: position.inode, offset: position.offset }
}

/// A log that cannot be read.
pub fn unreadable(path: &Path, error: &ReadError) -> Status {
    let reason = match error {
        ReadError::BadArguments { .. } => return Status::invalid_argument(error.to_string()),
        ReadError::NoFile(_) => return status(&Refusal::new(Reason::NoFile, path.display().to_string())),
        ReadError::TooLarge { .. } | ReadError::Io { .. } => Reason::Failed,
    };
    status(&Refusal::new(reason, error.to_string()))
}

/// A call with a signal that does not exist.
pub fn bad_signal(text: &str) -> Status {
    let message = format!("{text:?} is not a signal: give a name such as HUP or SIGUSR1, or a number");
    named_status(Code::InvalidArgument, &message, v1::Reason::BadSignal)
}

fn named_status(code: Code, message: &str, reason: v1::Reason) -> Status {
    let mut status = Status::new(code, message);
    let name = reason.as_str_name().trim_start_matches("REASON_");
    status.metadata_mut().insert(REASON_KEY, MetadataValue::from_static(name));
    status
}

/// The wire's number for a reason.
pub fn reason(reason: Reason) -> v1::Reason {
    match reason {
        Reason::ShuttingDown => v1::Reason::ShuttingDown,
        Reason::BadName => v1::Reason::BadName,
        Reason::NoFile => v1::Reason::NoFile,
        Reason::NotExecutable => v1::Reason::NotExecutable,
        Reason::Failed => v1::Reason::Failed,
        Reason::AbnormalTermination => v1::Reason::AbnormalTermination,
        Reason::SpawnError => v1::Reason::SpawnError,
        Reason::AlreadyStarted => v1::Reason::AlreadyStarted,
        Reason::NotRunning => v1::Reason::NotRunning,
        Reason::Ok => v1::Reason::Ok,
        Reason::AlreadyAdded => v1::Reason::AlreadyAdded,
        Reason::StillRunning => v1::Reason::StillRunning,
        Reason::CannotReread => v1::Reason::CannotReread,
        Reason::BadGroup => v1::Reason::BadGroup,
        Reason::DependencyDown => v1::Reason::DependencyDown,
    }
}

/// The daemon.
pub fn daemon_info(info: DaemonInfo) -> v1::DaemonInfo {
    let state = match info.mode {
        Mode::Running => v1::DaemonState::Running,
        Mode::ShuttingDown => v1::DaemonState::Shutdown,
        Mode::Restarting => v1::DaemonState::Restarting,
    };
    v1::DaemonInfo {
        pid: info.pid,
        identifier: info.identifier,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        supervisor_version: SUPERVISOR_VERSION.to_owned(),
        api_version: API_VERSION.to_owned(),
        state: state.into(),
        started_at: seconds(info.started_at),
        configuration_file: info.configuration_file.to_string_lossy().into_owned(),
        warnings: info.warnings,
        generation: info.generation,
        upgrade_problem: info.upgrade_problem.unwrap_or_default(),
    }
}

/// Processes.
pub fn listing(listing: Listing) -> v1::ListProcessesReply {
    let unmatched = |(name, why): (String, Reason)| v1::Unmatched { name, reason: reason(why).into() };
    v1::ListProcessesReply {
        processes: listing.processes.into_iter().map(process).collect(),
        unmatched: listing.unmatched.into_iter().map(unmatched).collect(),
    }
}

/// One process.
pub fn process(info: ProcessInfo) -> v1::Process {
    let path =
        |path: Option<std::path::PathBuf>| path.map(|p| p.to_string_lossy().into_owned()).unwrap_or_default();
    v1::Process {
        name: info.name,
        group: info.group,
        state: state(info.state).into(),
        description: info.description,
        pid: info.pid,
        start: info.start.map_or(0, seconds),
        stop: info.stop.map_or(0, seconds),
        now: seconds(info.now),
        spawn_error: info.spawn_error,
        stalled: info.is_stalled,
        exit_status: info.exit_status,
        stdout_logfile: path(info.stdout_logfile),
        stderr_logfile: path(info.stderr_logfile),
        exit_signal: info.exit_signal,
        retries: info.retries,
        spawns: info.spawns,
        advice: info.advice,
        output_lost: info.output_lost,
    }
}

fn state(state: ProcessState) -> v1::ProcessState {
    match state {
        ProcessState::Stopped => v1::ProcessState::Stopped,
        ProcessState::Starting => v1::ProcessState::Starting,
        ProcessState::Running => v1::ProcessState::Running,
        ProcessState::Backoff => v1::ProcessState::Backoff,
        ProcessState::Stopping => v1::ProcessState::Stopping,
        ProcessState::Exited => v1::ProcessState::Exited,
        ProcessState::Fatal => v1::ProcessState::Fatal,
        ProcessState::Unknown => v1::ProcessState::Unknown,
    }
}

/// The result of an operation on one process.
pub fn process_result(result: ProcessResult) -> v1::ProcessResult {
    let phase = match result.phase {
        Phase::Whole => v1::process_result::Phase::Unspecified,
        Phase::Stop => v1::process_result::Phase::Stop,
        Phase::Start => v1::process_result::Phase::Start,
    };
    v1::ProcessResult {
        name: result.name,
        group: result.group,
        reason: reason(result.reason).into(),
        description: result.description,
        phase: phase.into(),
    }
}

/// The configuration as last read.
pub fn configuration(processes: Vec<ConfiguredProcess>) -> v1::ListConfigurationReply {
    let one = |process: ConfiguredProcess| v1::ProcessConfiguration {
        name: process.config.name.clone(),
        group: process.group,
        in_use: process.in_use,
        autostart: process.config.autostart,
        group_priority: process.group_priority,
        process_priority: process.config.priority,
    };
    v1::ListConfigurationReply { processes: processes.into_iter().map(one).collect() }
}

/// How the configuration differs.
pub fn changes(changes: Changes) -> v1::RereadReply {
    v1::RereadReply {
        added: changes.added,
        changed: changes.changed,
        removed: changes.removed,
        warnings: changes.warnings,
    }
}

/// One step of an update.
pub fn update_step(step: UpdateStep) -> v1::UpdateProgress {
    let what = match step.step {
        Step::Stopped => v1::update_progress::Step::Stopped,
        Step::Removed => v1::update_progress::Step::Removed,
        Step::Updated => v1::update_progress::Step::Updated,
        Step::Added => v1::update_progress::Step::Added,
        Step::NoSuchGroup => v1::update_progress::Step::NoSuchGroup,
        Step::HasProblems => v1::update_progress::Step::HasProblems,
    };
    let processes = step.processes.into_iter().map(process_update).collect();
    v1::UpdateProgress { group: step.group, step: what.into(), processes }
}

fn process_update(update: ProcessUpdate) -> v1::ProcessUpdate {
    let action = match update.action {
        Action::Unchanged => v1::process_update::Action::Unchanged,
        Action::Applied => v1::process_update::Action::Applied,
        Action::Restarted => v1::process_update::Action::Restarted,
        Action::Started => v1::process_update::Action::Started,
        Action::Added => v1::process_update::Action::Added,
        Action::Removed => v1::process_update::Action::Removed,
    };
    v1::ProcessUpdate { name: update.name, action: action.into() }
}

/// The types of events that a client names.
///
/// # Errors
/// `INVALID_ARGUMENT` for a name that is none.
pub fn event_types(names: &[String]) -> Result<Vec<EventType>, Status> {
    let one = |name: &String| {
        EventType::from_name(&name.to_uppercase()).ok_or_else(|| {
            let known: Vec<&str> = EventType::ALL.iter().map(|kind| kind.name()).collect();
            Status::invalid_argument(format!(
                "{name:?} is not a type of event; there are {}",
                known.join(", ")
            ))
        })
    };
    names.iter().map(one).collect()
}

/// An event, or the gap where some were lost.
pub fn event(streamed: Streamed) -> v1::Event {
    let occurrence = match streamed {
        Streamed::Gap(lost) => {
            return v1::Event { detail: Some(v1::event::Detail::Lost(lost)), ..v1::Event::default() };
        }
        Streamed::Event(occurrence) => occurrence,
    };
    v1::Event {
        r#type: occurrence.event.kind().name().to_owned(),
        at_millis: i64::try_from(occurrence.at.as_millis()).unwrap_or(i64::MAX),
        payload: occurrence.payload.clone(),
        detail: event_detail(&occurrence.event),
    }
}

fn event_detail(event: &Event) -> Option<v1::event::Detail> {
    use v1::event::Detail;
    Some(match event {
        Event::ProcessState { process, from, to, tries, pid, expected } => {
            Detail::ProcessState(v1::ProcessStateChange {
                name: process.name.clone(),
                group: process.group.clone(),
                from: state(*from).into(),
                to: state(*to).into(),
                tries: *tries,
                pid: *pid,
                expected: *expected,
            })
        }
        Event::ProcessLog { process, pid, channel, data }
        | Event::ProcessCommunication { process, pid, channel, data } => Detail::Output(v1::ProcessOutput {
            name: process.name.clone(),
            group: process.group.clone(),
            pid: *pid,
            channel: match channel {
                Channel::Stdout => v1::Channel::Stdout.into(),
                Channel::Stderr => v1::Channel::Stderr.into(),
            },
            data: data.clone(),
        }),
        Event::RemoteCommunication { kind, data } => {
            Detail::Remote(v1::RemoteEvent { r#type: kind.clone(), data: data.clone() })
        }
        Event::Tick { when, .. } => Detail::Tick(i64::try_from(*when).unwrap_or(i64::MAX)),
        Event::GroupAdded(group) | Event::GroupRemoved(group) => Detail::Group(group.clone()),
        Event::SupervisorRunning | Event::SupervisorStopping => return None,
    })
}

/// Which log a client means; an unset source is the daemon's own log.
pub fn log_source(source: Option<v1::LogSource>) -> LogSource {
    match source {
        Some(source) if !source.process.is_empty() => {
            let channel = match source.channel() {
                v1::Channel::Stdout => Channel::Stdout,
                v1::Channel::Stderr => Channel::Stderr,
            };
            LogSource::Process(source.process, channel)
        }
        Some(_) | None => LogSource::Daemon,
    }
}

fn seconds(since_epoch: Duration) -> i64 {
    i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX)
}
