//! Events: raised by what happens in the driver, handed to listeners and to clients that stream them.

use std::{collections::HashMap, path::PathBuf, sync::Arc};

use tracing::{debug, error, info, warn};

use super::{Driver, echo, outbox::Outbox};
use crate::{
    clock::Moment,
    config::{GroupConfig, GroupKind, LogLevel, OutputConfig, ProgramConfig},
    event::{
        Buffering, Counted, Event, EventType, Heard, ListenerState, News, PoolSettings, Pools, ProcessName,
        Ticks,
    },
    os::interpreter::{Unit, unit_read_by},
    output::{LogId, LogSpec, Piece, StreamId, Wanted},
    process::{Effect, Pid, Process, ProcessState},
    request::Channel,
    subscription::{Occurrence, Subscriber, Subscription, subscribe},
    supervisor::ProcessId,
};

/// Violations of the protocol by one listener since its start that are logged as warnings; the others are for DEBG.
const LOUD_VIOLATIONS: u32 = 10;

/// Who gets events, and where they come from.
#[derive(Debug, Default)]
pub(super) struct Events {
    pub(super) pools: Pools,
    pub(super) outbox: Outbox,
    pub(super) ticks: Ticks,
    subscribers: Vec<Subscriber>,
    /// Where result handlers print, once one has.
    pub(super) stdout: Option<LogId>,
    /// Streams of which something is wanted.
    sources: HashMap<StreamId, Source>,
}

/// Whose a stream is.
#[derive(Debug, Clone, Copy)]
struct Source {
    process: ProcessId,
    pid: Pid,
    channel: Channel,
    is_listener: bool,
    /// Whether what is written becomes events.
    is_published: bool,
}

fn output_of(config: &ProgramConfig, channel: Channel) -> &OutputConfig {
    match channel {
        Channel::Stdout => &config.stdout,
        Channel::Stderr => &config.stderr,
    }
}

/// What is wanted of a program's output beside its log.
fn wanted(kind: &GroupKind, config: &ProgramConfig, channel: Channel, is_echoed: bool) -> Option<Wanted> {
    if matches!((kind, channel), (GroupKind::EventListener { .. }, Channel::Stdout)) {
        return Some(Wanted::Words);
    }
    let output = output_of(config, channel);
    let capture = Some(output.capture_maxbytes).filter(|size| *size > 0);
    let text = output.events_enabled || is_echoed;
    (text || capture.is_some()).then_some(Wanted::Output { text, capture })
}

impl Events {
    /// Whether anybody subscribes to events of this type.
    fn is_wanted(&self, kind: EventType) -> bool {
        self.pools.is_wanted(kind) || self.subscribers.iter().any(|subscriber| subscriber.wants(kind))
    }
}

/// Events are raised.
impl Driver {
    /// Hands an event to all who subscribe to it. Listeners get it at the end of this turn of the loop.
    pub(super) fn raise(&mut self, event: Event, now: Moment) {
        let kind = event.kind();
        self.events.pools.raise(&event);
        self.events.subscribers.retain(Subscriber::is_open);
        if self.events.subscribers.iter().any(|subscriber| subscriber.wants(kind)) {
            let occurrence = Arc::new(Occurrence { payload: event.payload(), event, at: now.unix });
            for subscriber in self.events.subscribers.iter().filter(|subscriber| subscriber.wants(kind)) {
                subscriber.send(&occurrence);
            }
        }
    }

    /// Raises the event of a state change; other effects raise none.
    pub(super) fn raise_change(&mut self, id: ProcessId, effect: &Effect, now: Moment) {
        let Effect::Changed { from, to, pid, tries, expected } = effect else { return };
        let Some(process) = self.process_name(id) else { return };
        let pid = pid.map_or(0, Pid::as_raw);
        let (from, to, tries, expected) = (*from, *to, *tries, *expected);
        self.raise(Event::ProcessState { process, from, to, tries, pid, expected }, now);
        // One that ended before anybody saw it RUNNING enters that first.
        if to != ProcessState::Running {
            self.events.pools.give_back(id);
        }
    }

    /// A client streams events of these types.
    pub(super) fn stream_events(&mut self, wanted: Vec<EventType>) -> Subscription {
        let (subscriber, subscription) = subscribe(wanted);
        // Those that left while nothing happened would gather.
        self.events.subscribers.retain(Subscriber::is_open);
        self.events.subscribers.push(subscriber);
        subscription
    }

    /// Raises the ticks that are due.
    pub(super) fn raise_ticks(&mut self, now: Moment) {
        let mut ticks = std::mem::take(&mut self.events.ticks);
        self.events.subscribers.retain(Subscriber::is_open);
        let due = ticks.handle(now, |kind| self.events.is_wanted(kind));
        self.events.ticks = ticks;
        for tick in due {
            self.raise(tick, now);
        }
    }

    /// What is wanted of a process's output beside its log.
    pub(super) fn wanted(&self, id: ProcessId, config: &ProgramConfig, channel: Channel) -> Option<Wanted> {
        let (group, _) = self.supervisor.names(id)?;
        let kind = &self.supervisor.group(group)?.config().kind;
        wanted(kind, config, channel, self.log.takes(LogLevel::Debug))
    }

    fn process_name(&self, id: ProcessId) -> Option<ProcessName> {
        let (group, name) = self.supervisor.names(id)?;
        Some(ProcessName { name: name.to_owned(), group: group.to_owned() })
    }
}

/// Output is turned into events.
impl Driver {
    /// Something is wanted of the stream that a new child writes to.
    pub(super) fn add_source(&mut self, stream: StreamId, process: ProcessId, pid: Pid, channel: Channel) {
        let is_listener = channel == Channel::Stdout && self.events.pools.has(process);
        let config = self.supervisor.process(process).map(Process::config);
        let is_published = config.is_some_and(|config| output_of(config, channel).events_enabled);
        let source = Source { process, pid, channel, is_listener, is_published };
        self.events.sources.insert(stream, source);
    }

    /// The streams of a child that has ended: what a listener's heirs print says nothing of its successor.
    pub(super) fn release_sources(&mut self, process: ProcessId) {
        let is_heard = |source: &Source| source.process != process || !source.is_listener;
        self.events.sources.retain(|_, source| is_heard(source));
    }

    /// Forgets streams that have ended.
    pub(super) fn forget_sources(&mut self) {
        let output = &self.output;
        self.events.sources.retain(|stream, _| output.is_attached(*stream));
    }

    /// Turns what programs have written into events, and what listeners have written into their states.
    pub(super) fn handle_pieces(&mut self, now: Moment) {
        while let Some((stream, piece)) = self.output.poll_piece() {
            let Some(source) = self.events.sources.get(&stream).copied() else { continue };
            match piece {
                Piece::Text(words) if source.is_listener => {
                    if self.log.takes(LogLevel::Debug) {
                        debug!("{}", echo::words(&self.name_of(source.process), &words));
                    }
                    if self.events.pools.handle_output(source.process, &words)
                        && self.supervisor.awaited_pool().is_some_and(|pool| self.is_in(source.process, pool))
                    {
                        self.supervisor.handle_pool_answer(now);
                    }
                    self.handle_news(now);
                }
                Piece::Text(data) => self.raise_output(source, data, false, now),
                Piece::Message(data) => self.raise_output(source, data, true, now),
            }
        }
    }

    fn raise_output(&mut self, source: Source, data: Vec<u8>, is_message: bool, now: Moment) {
        let Some(process) = self.process_name(source.process) else { return };
        let (pid, channel) = (source.pid.as_raw(), source.channel);
        if is_message {
            debug!("{}", echo::message(&process.name, channel));
            self.raise(Event::ProcessCommunication { process, pid, channel, data }, now);
            return;
        }
        if self.log.takes(LogLevel::Debug) {
            debug!("{}", echo::text(&process.name, channel, &data));
        }
        if source.is_published {
            self.raise(Event::ProcessLog { process, pid, channel, data }, now);
        }
    }
}

/// Listeners.
impl Driver {
    /// Makes the pool of a group of listeners, or gives it the group's new settings.
    pub(super) fn set_pool(&mut self, group: &GroupConfig, members: &[ProcessId]) {
        let GroupKind::EventListener { events, buffer_size, result_handler, event_length } = &group.kind
        else {
            // It may have been one before.
            return self.events.pools.remove(&group.name);
        };
        let buffering = buffer_size
            .map_or(Buffering::Usual, |size| Buffering::Events(usize::try_from(size).unwrap_or(usize::MAX)));
        let (events, handler, length) = (events.clone(), *result_handler, *event_length);
        let settings = PoolSettings { events, buffering, handler, length };
        self.events.pools.set(&group.name, settings, members);
    }

    /// A child has ended that may have been a listener. What it had is given back with the event of its end.
    pub(super) fn end_listener(&mut self, id: ProcessId, now: Moment) {
        self.events.outbox.forget(id);
        self.events.pools.handle_exit(id);
        self.handle_news(now);
    }

    /// Gives back what a listener had that has ended, also if that changed no state.
    pub(super) fn settle_listener(&mut self, id: ProcessId, now: Moment) {
        self.events.pools.give_back(id);
        self.handle_news(now);
    }

    /// Gives listeners that are ready the events that wait for them.
    pub(super) fn deliver_events(&mut self, now: Moment) {
        self.handle_news(now);
        loop {
            let supervisor = &self.supervisor;
            let outbox = &self.events.outbox;
            // Who answers without reading would have everything kept here that it does not read.
            let is_running = |id| {
                !outbox.is_waiting(id)
                    && supervisor.process(id).is_some_and(|process| process.state() == ProcessState::Running)
            };
            let counted = |id| {
                let pid = supervisor.process(id).and_then(Process::pid);
                match pid.map(|pid| unit_read_by(nix::unistd::Pid::from_raw(pid.as_raw()))) {
                    Some(Unit::Byte) | None => Counted::Bytes,
                    Some(Unit::Character) => Counted::Characters,
                    Some(Unit::Utf16) => Counted::Utf16,
                }
            };
            let Some(delivery) = self.events.pools.poll_delivery(is_running, counted) else { return };
            let (id, serial) = (delivery.to, delivery.serial);
            let name = self.name_of(id);
            let stdin = self.units.get(&id).and_then(|unit| unit.stdin.as_ref());
            let sent = stdin.map(|stdin| self.events.outbox.send(id, stdin, &delivery.bytes));
            match sent {
                Some(Ok(())) => debug!("event {serial} sent to listener {name}"),
                Some(Err(problem)) if problem.kind() != std::io::ErrorKind::BrokenPipe => {
                    error!("cannot send event {serial} to listener {name}: {problem}");
                    self.events.pools.handle_unsent(id);
                }
                Some(Err(_)) | None => {
                    debug!(
                        "epipe occurred while sending event {serial} to listener {name}, listener state unchanged"
                    );
                    self.events.pools.handle_unsent(id);
                }
            }
            self.handle_news(now);
        }
    }

    /// Lets a shutdown stop a pool that has got everything.
    pub(super) fn dismiss_idle_listeners(&mut self, now: Moment) {
        while self.supervisor.awaited_pool().is_some() {
            self.deliver_events(now);
            if !self.is_awaited_pool_idle() {
                return;
            }
            self.supervisor.handle_pool_idle(now);
            // How these listeners are stopped is news for the next pool.
            self.perform_effects(now);
        }
    }

    fn is_in(&self, process: ProcessId, group: &str) -> bool {
        self.supervisor.names(process).is_some_and(|(known, _)| known == group)
    }

    fn is_awaited_pool_idle(&self) -> bool {
        let is_running =
            |id| self.supervisor.process(id).is_some_and(|process| process.state() == ProcessState::Running);
        self.supervisor.awaited_pool().is_some_and(|pool| self.events.pools.is_idle(pool, is_running))
    }

    /// Goes on writing to listeners that have made room.
    pub(super) fn pump_outbox(&mut self) {
        let units = &self.units;
        self.events.outbox.pump(|id| units.get(&id).and_then(|unit| unit.stdin.as_ref()));
    }

    /// Logs what happened in the pools, and prints what result handlers print.
    fn handle_news(&mut self, now: Moment) {
        while let Some(news) = self.events.pools.poll_news() {
            match news {
                News::Overflowed { pool, serial } => {
                    error!("pool {pool} event buffer overflowed, discarding event {serial}");
                }
                News::Rebuffered { pool, serial, size, max } => {
                    debug!("rebuffering event {serial} for pool {pool} (buf size={size}, max={max})");
                }
                News::Unanswered { pool, serial } => error!(
                    "pool {pool}: discarding event {serial}: it was delivered twice, and both times the listener was READY \
                     again without a result that can be used"
                ),
                News::Heard(id, heard) => self.say_heard(id, &heard),
                News::Printed(text) => self.print(&text, now),
                News::MoreViolations(id, more) => {
                    debug!("{}: {more} more event protocol errors in the same output", self.name_of(id));
                }
            }
        }
    }

    /// Prints on the daemon's stdout, as slowly as that takes it.
    fn print(&mut self, text: &[u8], now: Moment) {
        let stdout = self.stdout();
        self.output.write(stdout, text, now);
    }

    /// Where result handlers print.
    pub(super) fn stdout(&mut self) -> LogId {
        let output = &mut self.output;
        *self.events.stdout.get_or_insert_with(|| {
            output.add_log(LogSpec { file: Some(PathBuf::from("/dev/stdout")), ..LogSpec::default() })
        })
    }

    fn say_heard(&self, id: ProcessId, heard: &Heard) {
        let name = self.name_of(id);
        let is_loud = self.events.pools.violations(id) <= LOUD_VIOLATIONS;
        match heard {
            Heard::Changed { from, to } => {
                debug!("{name}: {from} -> {to}");
                match (from, to) {
                    (_, ListenerState::Unknown) if is_loud => warn!(
                        "{name}: has entered the UNKNOWN state and will no longer receive events, this usually indicates \
                         the process violated the eventlistener protocol"
                    ),
                    (ListenerState::Unknown, _) if is_loud => {
                        info!("{name}: follows the eventlistener protocol again and receives events");
                    }
                    (_, _) => {}
                }
            }
            Heard::Processed => debug!("{name}: event was processed"),
            Heard::LateResult(true) => debug!("{name}: event was processed, as its late result says"),
            Heard::Rejected | Heard::LateResult(false) => warn!("{name}: event was rejected"),
            // Printed, not logged.
            Heard::Printed(_) => {}
            Heard::Cut(bytes) => warn!(
                "{name}: the last {bytes} bytes of its result are not printed: with what stands before each line it would \
                 be more than 1 MiB"
            ),
            Heard::Failed if is_loud => warn!("{name}: event caused an error"),
            Heard::Failed => debug!("{name}: event caused an error"),
            Heard::BadResultLine(line) => warn!("{name}: bad result line: '{line}'"),
            Heard::Violation(violation) if is_loud => warn!("{name}: {violation}"),
            Heard::Violation(violation) => debug!("{name}: {violation}"),
        }
    }
}
