//! Answers to clients: listings, logs, stdin; `operate` has the operations on processes, `groups` those on groups.

use std::sync::{Arc, Weak};

use super::Driver;
use crate::{
    clock::Moment,
    event::Event,
    journal::record::Child,
    os::watch,
    output::{LogId, follow::Follower},
    process::{ProcessState, describe::description},
    request::{
        Channel, DaemonInfo, ListQuery, Listing, LogSource, Phase, ProcessInfo, ProcessResult, Reason,
        Refusal, Request,
    },
    supervisor::{Mode, ProcessId, Selection, select},
};

/// The listing of all processes that was made last, if anybody still has it.
#[derive(Debug, Default)]
pub(super) struct LastListing {
    /// When, in seconds since 1970-01-01 UTC.
    second: u64,
    listing: Weak<Listing>,
}

impl Driver {
    /// Answers one request. Effects are performed by the caller.
    pub(super) fn handle_request(&mut self, request: Request, now: Moment) {
        match request {
            Request::Info(reply) => answer(reply, self.info()),
            Request::List(reply, query) => answer(reply, self.list(&query, now)),
            Request::ListAll(reply) => answer(reply, self.list_all(now)),
            Request::Changes(reply) => answer(reply, self.generation.subscribe()),
            Request::Operate(reply, operate) => self.handle_operate(reply, &operate, now),
            Request::ListConfiguration(reply) => {
                let result = self.refuse_while_ending().map(|()| self.configured_processes());
                answer(reply, result);
            }
            Request::Reread(reply) => {
                let result = self.refuse_while_ending().and_then(|()| self.reread());
                answer(reply, result);
            }
            Request::Update(reply, groups) => {
                let result = self.refuse_while_ending().and_then(|()| self.begin_update(groups));
                answer(reply, result);
            }
            Request::AddGroup(reply, group) => {
                let result = self.refuse_while_ending().and_then(|()| self.add_group(&group, now));
                answer(reply, result);
            }
            Request::RemoveGroup(reply, group) => {
                let result = self.refuse_while_ending().and_then(|()| self.remove_group(&group, now));
                answer(reply, result);
            }
            Request::StopGroup(reply, group) => {
                self.stop_group(reply, &group, now);
            }
            Request::StopOutdated(reply, group) => {
                let result = self.stop_outdated(&group, now);
                answer(reply, result);
            }
            Request::ReplaceGroup(reply, group, to_restart) => {
                let result = self.replace_group(&group, &to_restart, now);
                answer(reply, result);
            }
            Request::Log(reply, source) => {
                let result = self.refuse_while_ending().and_then(|()| self.log_path(&source));
                answer(reply, result);
            }
            Request::Follow(reply, source, backlog) => {
                let result = self.refuse_while_ending().and_then(|()| self.follow(&source, backlog));
                answer(reply, result);
            }
            Request::ClearLogs(reply, names) => {
                let result = self.refuse_while_ending().map(|()| self.clear_logs(&names));
                answer(reply, result);
            }
            Request::ClearDaemonLog(reply) => {
                let result = self.refuse_while_ending().and_then(|()| self.clear_daemon_log());
                answer(reply, result);
            }
            Request::ReopenLogs(reply) => {
                self.reopen_logs();
                answer(reply, ());
            }
            Request::WriteStdin(reply, name, data) => {
                let result = self.refuse_while_ending().and_then(|()| self.write_stdin(&name, &data));
                answer(reply, result);
            }
            Request::Events(reply, wanted) => answer(reply, self.stream_events(wanted)),
            Request::RemoteEvent(reply, kind, data) => {
                self.raise(Event::RemoteCommunication { kind, data }, now);
                answer(reply, ());
            }
            Request::Shutdown(reply) => {
                let result = self.refuse_while_ending().map(|()| self.begin_shutdown(now));
                answer(reply, result);
            }
            Request::Upgrade(reply, apply) => self.begin_upgrade(apply, Some(reply), now),
            Request::Reload(reply) => {
                let result = self.refuse_while_ending().and_then(|()| self.begin_reload(now));
                answer(reply, result);
            }
        }
    }

    fn info(&self) -> DaemonInfo {
        DaemonInfo {
            pid: std::process::id().cast_signed(),
            identifier: self.available.daemon.identifier.clone(),
            started_at: self.started.unix,
            mode: self.supervisor.mode(),
            configuration_file: self.configuration_file.clone(),
            warnings: self.health_warnings(),
            generation: self.upgrades.generation,
            upgrade_problem: self.upgrades.problem.clone(),
        }
    }

    /// Tells everybody what may be called.
    pub(super) fn publish_interfaces(&self) {
        self.handle.publish(&self.interfaces, self.supervisor.mode() != Mode::Running);
    }

    fn health_warnings(&self) -> Vec<String> {
        let logs = self.units.values().flat_map(super::unit::Unit::logs);
        let mut warnings: Vec<String> = logs.filter_map(|log| self.output.health(log).error).collect();
        warnings.extend(self.journal_problem());
        warnings.extend(self.keep.problem());
        if self.log.lost() > 0 {
            warnings.push(format!("{} bytes of the daemon's own log could not be written", self.log.lost()));
        }
        warnings
    }

    fn list(&self, query: &ListQuery, now: Moment) -> Listing {
        let generation = *self.generation.borrow();
        let (ids, unmatched) = if query.names.is_empty() {
            (self.supervisor.in_name_order(), Vec::new())
        } else {
            self.resolve_in_order(&query.names)
        };
        let is_wanted = |id: &ProcessId| {
            query.since.is_none_or(|since| self.units.get(id).is_some_and(|unit| unit.changed > since))
        };
        let processes =
            ids.into_iter().filter(is_wanted).filter_map(|id| self.process_info(id, now)).collect();
        Listing { processes, unmatched, total: self.units.len(), generation }
    }

    /// All processes. Times are shown in whole seconds: many clients that ask at once are given one listing.
    fn list_all(&mut self, now: Moment) -> Arc<Listing> {
        let second = now.unix.as_secs();
        let is_current = |listing: &Arc<Listing>| {
            self.last_listing.second == second
                && listing.generation == *self.generation.borrow()
                && listing.total == self.units.len()
        };
        if let Some(listing) = self.last_listing.listing.upgrade().filter(is_current) {
            return listing;
        }
        let listing = Arc::new(self.list(&ListQuery::default(), now));
        self.last_listing = LastListing { second, listing: Arc::downgrade(&listing) };
        listing
    }

    fn resolve_in_order(&self, names: &[String]) -> (Vec<ProcessId>, Vec<(String, Reason)>) {
        let mut ids = Vec::new();
        let mut unmatched = Vec::new();
        let mut repeats = Repeats::default();
        for name in names {
            match select(&self.supervisor, name) {
                Selection::One(id) => ids.push(id),
                // Supervisor's status does not tell an empty group from none.
                Selection::Many(many) if many.is_empty() && name.contains(':') => {
                    unmatched.push((name.clone(), Reason::BadGroup));
                }
                Selection::Many(many) => {
                    let name_of = |id: &ProcessId| {
                        self.supervisor.names(*id).map(|(group, name)| (group.to_owned(), name.to_owned()))
                    };
                    let mut many = repeats.bound(many);
                    many.sort_by_key(name_of);
                    ids.extend(many);
                }
                Selection::NoProcess => unmatched.push((name.clone(), Reason::BadName)),
                Selection::NoGroup => unmatched.push((name.clone(), Reason::BadGroup)),
            }
        }
        (ids, unmatched)
    }

    /// What is wrong with a log, if anything is.
    fn output_problem(&self, log: LogId) -> Option<String> {
        let error = self.output.health(log).error?;
        let path = self.output.path(log).map(|path| path.display().to_string()).unwrap_or_default();
        Some(format!("its output cannot be written to {path}: {error}"))
    }

    /// What clients see of a process.
    pub(super) fn process_info(&self, id: ProcessId, now: Moment) -> Option<ProcessInfo> {
        let process = self.supervisor.process(id)?;
        let (group, name) = self.supervisor.names(id)?;
        let unit = self.units.get(&id)?;
        let path = |channel| unit.log(channel).and_then(|log| self.output.path(log)).map(ToOwned::to_owned);
        let mut advice = unit.advice.clone();
        if process.has_leftovers() {
            advice.push(format!("its last main process left behind: {}", self.family.describe(id)));
        }
        advice.extend(self.events.pools.advice(id));
        advice.extend(unit.child.and_then(|child| adopted_note(child, now)));
        advice.extend(unit.logs().filter_map(|log| self.output_problem(log)));
        Some(ProcessInfo {
            name: name.to_owned(),
            group: group.to_owned(),
            state: process.state(),
            description: description(process, now, &self.zone),
            pid: process.pid().map_or(0, nix::unistd::Pid::as_raw),
            start: process.spawned_at().map(|at| at.unix),
            stop: process.ended_at().map(|at| at.unix),
            now: now.unix,
            spawn_error: process.spawn_error().unwrap_or_default().to_owned(),
            is_stalled: process.is_stalled(),
            exit_status: process.exit().map_or(0, crate::process::Exit::status),
            exit_signal: process.exit().and_then(crate::process::Exit::signal).unwrap_or(0),
            retries: process.failures(),
            spawns: process.spawns(),
            stdout_logfile: path(Channel::Stdout),
            stderr_logfile: path(Channel::Stderr),
            advice,
            output_lost: unit.logs().map(|log| self.output.health(log).lost).sum(),
        })
    }
}

/// How often groups and wildcards of one request have named each process.
#[derive(Debug, Default)]
pub(super) struct Repeats(std::collections::BTreeMap<ProcessId, u8>);

impl Repeats {
    /// Those that have not been named too often. Supervisor's clients show what is named twice twice; a few bytes of a
    /// request may not fill the memory with answers.
    pub(super) fn bound(&mut self, mut ids: Vec<ProcessId>) -> Vec<ProcessId> {
        ids.retain(|id| {
            let times = self.0.entry(*id).or_default();
            *times = times.saturating_add(1);
            *times <= MOST_REPEATS
        });
        ids
    }
}

/// Times that groups and wildcards of one request may name the same process.
const MOST_REPEATS: u8 = 8;

/// What is to be known of a process that an earlier daemon has made.
fn adopted_note(child: Child, now: Moment) -> Option<String> {
    let since = child.adopted?;
    let ago = now.unix.as_secs().saturating_sub(since);
    let end = if watch::tells_exits() {
        "its exit status will be known"
    } else {
        "its exit status will be unknown if its parent is quick to reap it (the kernel is older than 6.15)"
    };
    let pipe = if child.only_writes {
        "; should supervisord and its keeper both be killed, the next line that it writes ends it, until it has been \
         restarted once: it was made by another kind of daemon and holds no read end of its pipe"
    } else {
        ""
    };
    Some(format!(
        "taken over from an earlier supervisord {ago} s ago; it is not a child of this one, {end}{pipe}"
    ))
}

/// Logs and stdin.
impl Driver {
    fn one(&self, name: &str) -> Result<ProcessId, Refusal> {
        match select(&self.supervisor, name) {
            Selection::One(id) => Ok(id),
            Selection::Many(_) | Selection::NoProcess | Selection::NoGroup => {
                Err(Refusal::new(Reason::BadName, format!("no process is called {name:?}")))
            }
        }
    }

    fn log_path(&self, source: &LogSource) -> Result<std::path::PathBuf, Refusal> {
        let no_file = |message: &str| Refusal::new(Reason::NoFile, message);
        match source {
            LogSource::Daemon => self.log.path().ok_or_else(|| no_file("the daemon's log is not a file")),
            LogSource::Process(name, channel) => {
                let id = self.one(name)?;
                let log = self.units.get(&id).and_then(|unit| unit.log(*channel));
                let path = log.and_then(|log| self.output.path(log)).map(ToOwned::to_owned);
                path.ok_or_else(|| no_file("this output of the process is not kept in a file"))
            }
        }
    }

    fn follow(&mut self, source: &LogSource, backlog: u64) -> Result<Follower, Refusal> {
        let path = self.log_path(source)?;
        if !path.exists() {
            return Err(Refusal::new(Reason::NoFile, path.display().to_string()));
        }
        match source {
            LogSource::Daemon => Ok(Follower::new(path, backlog, self.log.wake())),
            LogSource::Process(name, channel) => {
                let id = self.one(name)?;
                let log = self.units.get(&id).and_then(|unit| unit.log(*channel));
                let follower = log.and_then(|log| self.output.follow(log, backlog));
                follower.ok_or_else(|| Refusal::new(Reason::NoFile, path.display().to_string()))
            }
        }
    }

    fn clear_logs(&mut self, names: &[String]) -> Vec<ProcessResult> {
        let (mut ids, unmatched) = self.resolve_in_order(names);
        if names == ["all"] {
            ids = self.supervisor.in_start_order(&ids);
        }
        let mut results: Vec<ProcessResult> = unmatched
            .into_iter()
            .map(|(name, reason)| ProcessResult {
                name,
                group: String::new(),
                reason,
                description: String::new(),
                phase: Phase::Whole,
            })
            .collect();
        for id in ids {
            let logs: Vec<_> = self.units.get(&id).into_iter().flat_map(super::unit::Unit::logs).collect();
            let failure = logs.into_iter().find_map(|log| self.output.clear(log).err());
            results.push(match failure {
                None => self.result_of(id, Reason::Ok),
                Some(error) => self.result_with(id, Reason::Failed, error.to_string()),
            });
        }
        results
    }

    fn clear_daemon_log(&mut self) -> Result<(), Refusal> {
        let path = self.log_path(&LogSource::Daemon)?;
        if !path.exists() {
            return Err(Refusal::new(Reason::NoFile, path.display().to_string()));
        }
        self.log.clear().map_err(|error| Refusal::new(Reason::Failed, error.to_string()))?;
        tracing::info!("reopening log file");
        Ok(())
    }

    /// Closes and opens the daemon's log and all others again.
    pub(super) fn reopen_logs(&mut self) {
        if let Err(error) = self.log.reopen() {
            tracing::error!("{error}");
        }
        tracing::info!("supervisord logreopen");
        for error in self.output.reopen_all() {
            tracing::warn!("can't reopen log file {error}");
        }
    }

    fn write_stdin(&mut self, name: &str, data: &[u8]) -> Result<(), Refusal> {
        let id = self.one(name)?;
        let is_running = self
            .process_is(id, |process| process.pid().is_some() && process.state() != ProcessState::Stopping);
        if !is_running {
            return Err(Refusal::new(Reason::NotRunning, format!("{name} is not running")));
        }
        if self.events.pools.has(id) && self.events.outbox.is_waiting(id) {
            let message = format!("{name} is an event listener and has not read its last event yet");
            return Err(Refusal::new(Reason::Failed, message));
        }
        let Some(stdin) = self.units.get(&id).and_then(|unit| unit.stdin.as_ref()) else {
            return Err(Refusal::new(Reason::NoFile, format!("the stdin of {name} is closed")));
        };
        match self.events.outbox.offer(id, stdin, data) {
            Ok(true) => Ok(()),
            Ok(false) => {
                let message =
                    format!("{name} does not read its stdin: there is no room for {} bytes", data.len());
                Err(Refusal::new(Reason::Failed, message))
            }
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
                Err(Refusal::new(Reason::NoFile, format!("the stdin of {name} is closed")))
            }
            Err(error) => Err(Refusal::new(Reason::Failed, error.to_string())),
        }
    }
}

/// Gives a client its answer.
pub(super) fn answer<T>(reply: crate::request::Reply<T>, value: T) {
    // The client may be gone: its answer concerns nobody else.
    let _ = reply.send(value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{GroupConfig, GroupKind},
        process::test_defaults,
        supervisor::Supervisor,
    };

    #[test]
    fn groups_and_wildcards_do_not_name_a_process_without_end() {
        let processes = (0..3).map(|n| Arc::new(test_defaults(&format!("p{n}")))).collect();
        let group = GroupConfig { name: "g".to_owned(), priority: 1, kind: GroupKind::Program, processes };
        let ids = Supervisor::new().add_group(Arc::new(group)).unwrap().to_vec();
        let mut repeats = Repeats::default();
        let named: usize = (0..4096).map(|_| repeats.bound(ids.clone()).len()).sum();
        assert_eq!(named, 3 * usize::from(MOST_REPEATS));
    }
}
