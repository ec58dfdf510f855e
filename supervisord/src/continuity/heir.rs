//! What becomes of the records of the last daemon: which of them count, whose children they are about, and how each
//! process goes on.

#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc, time::Duration};

use crate::{
    clock::{Moment, Timeline},
    config::{
        AutoRestart, DaemonDeath, Environment, GroupConfig, GroupKind, LogTarget, OutputConfig,
        ProgramConfig, StopSignal, diff,
    },
    journal::{
        Snapshot,
        record::{Child, Due, Identity, Life, Past, Pipes, Record, Remains},
    },
    process::{Aftermath, Exit, Memory, Process, restarts_after},
    supervisor::{ProcessId, Supervisor},
};

/// How we are connected with a main process; `H` is a handle that tells its end and is that of no later process.
#[derive(Debug)]
pub enum Bond<H> {
    /// There is none: it is stopped, or waits.
    None,
    /// It is our child: its end comes by `waitid`.
    Ours,
    /// It is another's child.
    Foreign(H),
    /// It may live, but could not be looked at.
    Unseen,
    /// It has ended.
    Ended(Exit),
}

impl<H> Bond<H> {
    /// How it has ended, if it has.
    pub fn exit(&self) -> Option<Exit> {
        match self {
            Self::Ended(exit) => Some(*exit),
            Self::None | Self::Ours | Self::Foreign(_) | Self::Unseen => None,
        }
    }

    /// Whether the process lives.
    pub fn is_alive(&self) -> bool {
        match self {
            Self::Ours | Self::Foreign(_) => true,
            Self::None | Self::Unseen | Self::Ended(_) => false,
        }
    }

    /// Whether the process lives, or nobody can tell.
    pub fn may_live(&self) -> bool {
        match self {
            Self::Ours | Self::Foreign(_) | Self::Unseen => true,
            Self::None | Self::Ended(_) => false,
        }
    }
}

/// What was found under the pid of a recorded main process: a handle of it, and how it has ended if it has; nothing if
/// it is gone. Or why it cannot be told.
pub type Found<H> = Result<Option<(H, Option<Exit>)>, String>;

/// The records that count in this boot. After an orderly end, or a reboot, those are of programs that did not end in
/// time, and of what operators have stopped if that is to be remembered.
pub fn records_that_count(
    found: Snapshot,
    boot: &str,
    remember_stopped: bool,
    supervisor: &Supervisor,
) -> Vec<Record> {
    let is_of_boot = found.is_of_boot(boot);
    let is_closed = found.header.as_ref().is_some_and(|header| header.is_closed);
    let mut records: Vec<Record> = found.records.into_values().collect();
    if !is_of_boot || is_closed {
        records.retain_mut(|record| {
            let may_run = is_of_boot && (record.child.is_some() || record.intent.is_some());
            if may_run {
                // It should have ended: what operators wanted before counts no more than that of the others.
                let was_stopped = remember_stopped && !record.wanted;
                record.wanted = !was_stopped && starts_by_itself(supervisor, record);
            }
            may_run || outlives_an_end(record, remember_stopped, supervisor)
        });
    }
    records
}

fn starts_by_itself(supervisor: &Supervisor, record: &Record) -> bool {
    let id = supervisor.find(&record.group, &record.name);
    id.and_then(|id| supervisor.process(id)).is_some_and(|process| process.config().autostart)
}

/// Whether nothing but the will of the operators is to be remembered, and is; then that is what is left of the record.
fn outlives_an_end(record: &mut Record, remember_stopped: bool, supervisor: &Supervisor) -> bool {
    if record.wanted || !remember_stopped {
        return false;
    }
    let is_known = supervisor.find(&record.group, &record.name).is_some();
    record.life = Life::Stopped;
    record.child = None;
    record.intent = None;
    record.remains = Remains::default();
    // One that never ran was stopped all the same.
    record.past = Past { spawns: record.past.spawns, stopped: true, ..Past::default() };
    is_known
}

/// Records of spawns that nobody lived to see the end of, and the pipes by which the child is found.
pub fn unborn(records: &mut [Record]) -> Vec<(&mut Record, Pipes)> {
    let intent = |record: &Record| record.intent.filter(|_| record.child.is_none());
    records.iter_mut().filter_map(|record| intent(record).map(|pipes| (record, pipes))).collect()
}

/// Completes the record of such a spawn by what was found.
pub fn complete(
    record: &mut Record,
    (pipes, newborn): (Pipes, Option<Identity>),
    supervisor: &Supervisor,
    (timeline, now): (Timeline, Moment),
) {
    record.intent = None;
    let Some(identity) = newborn else { return };
    let config = supervisor.find(&record.group, &record.name);
    let config = config.and_then(|id| supervisor.process(id)).map(|process| process.config());
    let startsecs = config.map_or(Duration::ZERO, |config| config.startsecs);
    let up_at = timeline.to_shared(now.deadline(startsecs));
    record.life = Life::Starting(Due(u64::try_from(up_at.as_nanos()).unwrap_or(u64::MAX)));
    record.past.spawns += 1;
    record.past.exit = None;
    record.child = Some(Child { identity, pipes, adopted: None, only_writes: false });
}

/// What is left of one recorded process; `look` looks at its main process.
pub fn bond_of<H>(record: &mut Record, look: impl FnOnce(Identity) -> Found<H>) -> Bond<H> {
    // Of what dead main processes have left behind only numbers were written down, which may be others' by now.
    record.remains = Remains::default();
    let Some(child) = record.child else { return Bond::None };
    match look(child.identity) {
        Ok(Some((handle, None))) => {
            if record.life == Life::Unknown {
                // It could not be looked at or signalled before; if it is to be stopped, that is tried again.
                record.life = Life::Running;
            }
            Bond::Foreign(handle)
        }
        Ok(Some((_, Some(exit)))) => Bond::Ended(exit),
        Ok(None) => Bond::Ended(Exit::Unknown),
        Err(problem) => {
            // It may live: better one that cannot be steered than two.
            record.life = Life::Unknown;
            record.past.spawn_error = Some(format!("cannot be taken over: {problem}"));
            Bond::Unseen
        }
    }
}

/// Puts a process in the place of the one that was just added. Returns whether it can go on as it is: with [`Supervisor::resume`], else with [`Supervisor::catch_up`], both of them when all processes are in place and
/// what that brought about was done.
pub fn restore(
    supervisor: &mut Supervisor,
    id: ProcessId,
    (record, ended): (&Record, Option<(Exit, Aftermath)>),
    is_listener: bool,
    at: (Timeline, Moment),
) -> bool {
    let has_ended = ended.is_some();
    let is_same = super::scribe::settings_of(supervisor, id) == Some(record.settings);
    let mut memory = Memory::from(record);
    if is_same && is_asked_to_start(supervisor, id, record) {
        memory.life =
            Life::Exited(Some(Due(u64::try_from(at.0.to_shared(at.1.mono).as_nanos()).unwrap_or(0))));
    }
    if has_ended && matches!(record.life, Life::Starting(_) | Life::Running) && !record.wanted {
        memory.life = Life::Stopping(Due(0)); // It was about to be stopped.
    }
    supervisor.restore(id, &memory, ended, at);
    if has_ended && supervisor.process(id).is_some_and(Process::is_to_run) {
        return true; // It is replaced already, by one with the present settings.
    }
    // What a listener and a dead daemon have said to each other last is not known; if it has ended, it did so for want of
    // a daemon, whatever its exit status.
    is_same && !(is_listener && record.child.is_some())
}

/// Whether a program that has ended by itself, and is left alone by the policy of then, is started by that of today: as
/// [`Process::is_asked_to_start_by`].
fn is_asked_to_start(supervisor: &Supervisor, id: ProcessId, record: &Record) -> bool {
    let (Life::Exited(None), Some(policy), Some(exit)) = (record.life, record.policy, record.past.exit)
    else {
        return false;
    };
    let config = supervisor.process(id).map(Process::config);
    record.wanted
        && config.is_some_and(|config| policy != diff::policy_digest(config) && restarts_after(config, exit))
}

/// Gives a process that is not in the configuration any more, and may live, a group of its own to be stopped in: one of
/// its name may be active. To be done before anything is written down: the next daemon must know of it too.
pub fn set_apart(record: &mut Record, is_taken: impl Fn(&str) -> bool) -> GroupConfig {
    let process = stand_in(record);
    // No configured group has a slash in its name: with one, a daemon before has set it apart already. A colon or a blank
    // would take the headers of events apart.
    if !record.group.contains('/') {
        // Versions before this one did so with a colon.
        let group = record.group.split(':').next().unwrap_or_default();
        let name = format!("{group}/{}-removed", record.name);
        let others = (2..).map(|n| format!("{group}/{}-removed-{n}", record.name));
        let mut names = std::iter::once(name).chain(others);
        record.group = names.find(|name| !is_taken(name)).unwrap_or_default();
    }
    record.settings = diff::digest(&GroupKind::Program, &process);
    record.wanted = false;
    let processes = vec![Arc::new(process)];
    GroupConfig { name: record.group.clone(), priority: 999, kind: GroupKind::Program, processes }
}

/// Settings by which a program is stopped that is in the configuration no more.
fn stand_in(record: &Record) -> ProgramConfig {
    let output = |path: &Option<PathBuf>| OutputConfig {
        logfile: path.clone().map_or(LogTarget::None, LogTarget::File),
        maxbytes: 0,
        backups: 0,
        capture_maxbytes: 0,
        events_enabled: false,
        syslog: false,
    };
    ProgramConfig {
        program: record.name.clone(),
        name: record.name.clone(),
        command: String::new(),
        priority: 999,
        autostart: false,
        autorestart: AutoRestart::Never,
        startsecs: Duration::ZERO,
        startretries: 0,
        exitcodes: vec![0],
        stopsignal: StopSignal(record.manner.signal),
        stopwaitsecs: Duration::from_secs(record.manner.wait),
        stopasgroup: record.manner.stop_group,
        killasgroup: record.manner.kill_group,
        killmode: record.manner.killmode,
        login_environment: false,
        user: None,
        redirect_stderr: record.logs[1].is_none(),
        stdout: output(&record.logs[0]),
        stderr: output(&record.logs[1]),
        environment: Environment::default(),
        directory: None,
        umask: None,
        serverurl: None,
        fastcgi: None,
        on_daemon_death: DaemonDeath::Keep,
        depends_on: Vec::new(),
    }
}
