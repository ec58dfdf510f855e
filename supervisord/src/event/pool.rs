//! Pools of listeners: who subscribes to what, what waits for a listener, and who gets it.
//!
//! Each pool has one buffer; each event goes to one of its listeners. What a listener rejects or leaves unanswered goes
//! back to the head of the buffer of its own pool, and of no other (Supervisor gives it to others too).

mod carry;

use std::{collections::VecDeque, sync::Arc};

use super::{Counted, Envelope, Event, EventType, Heard, Listener, ListenerState, Violation};
use crate::{
    config::{EventLength, ResultHandler},
    supervisor::ProcessId,
};

pub use carry::{CarriedListener, CarriedPool};

/// How much a pool keeps while all its listeners are busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Buffering {
    /// So many events: what `buffer_size` says.
    Events(usize),
    /// Nothing was said: enough for a storm, not enough to be a burden.
    Usual,
}

/// Events and bytes of payload that a pool keeps when `buffer_size` is not set. Supervisor keeps 10 events: so do we,
/// whatever their size.
const USUAL_EVENTS: usize = 4096;
const USUAL_BYTES: usize = 8 << 20;
const LEAST_EVENTS: usize = 10;

impl Buffering {
    /// Most events that are kept.
    pub fn events(self) -> usize {
        match self {
            Self::Events(events) => events,
            Self::Usual => USUAL_EVENTS,
        }
    }

    /// Whether another event of `size` bytes finds no room beside `events` of `bytes` bytes.
    fn is_full(self, events: usize, bytes: usize, size: usize) -> bool {
        let is_heavy = match self {
            Self::Events(_) => false,
            Self::Usual => events >= LEAST_EVENTS && bytes + size > USUAL_BYTES,
        };
        events >= self.events() || is_heavy
    }
}

/// Something for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// The oldest event was dropped to make room.
    Overflowed {
        /// The pool.
        pool: String,
        /// The event.
        serial: u64,
    },
    /// An event went back to the head of the buffer.
    Rebuffered {
        /// The pool.
        pool: String,
        /// The event.
        serial: u64,
        /// Events in the buffer.
        size: usize,
        /// Most that there may be.
        max: usize,
    },
    /// An event was dropped: it was answered twice, and never with a result that can be used.
    Unanswered {
        /// The pool.
        pool: String,
        /// The event.
        serial: u64,
    },
    /// A listener has said something.
    Heard(ProcessId, Heard),
    /// What a result handler prints on the daemon's stdout.
    Printed(Vec<u8>),
    /// After a violation of the protocol, so many more of them in one piece of output.
    MoreViolations(ProcessId, u32),
}

/// An event for a listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The listener.
    pub to: ProcessId,
    /// The event.
    pub serial: u64,
    /// Header and payload.
    pub bytes: Vec<u8>,
}

/// An event in a buffer, or with a listener.
#[derive(Debug, Clone)]
struct Queued {
    serial: u64,
    poolserial: u64,
    kind: EventType,
    payload: Arc<str>,
    /// How often a listener has had it and then violated the protocol, or given a result that its handler cannot use.
    violations: u32,
}

#[derive(Debug)]
struct Member {
    id: ProcessId,
    listener: Listener,
    /// What it has and owes a result for.
    current: Option<Queued>,
    /// What it had when it ended or did not process it, until its new state is told.
    left: Option<Queued>,
    /// What was taken back from it when it violated the protocol.
    owed: Option<u64>,
    /// Its stdin takes nothing any more.
    deaf: bool,
    /// What it was found to count, once that mattered.
    counted: Option<Counted>,
    /// The last violation of the protocol since it was started.
    violation: Option<Violation>,
    violations: u32,
}

impl Member {
    fn new(id: ProcessId) -> Self {
        Self {
            id,
            listener: Listener::default(),
            current: None,
            left: None,
            owed: None,
            deaf: false,
            counted: None,
            violation: None,
            violations: 0,
        }
    }

    /// Takes its event from a listener that enters UNKNOWN.
    fn take_back(&mut self) {
        if let Some(mut current) = self.current.take() {
            self.owed = Some(current.serial);
            current.violations += 1;
            self.left = Some(current);
        }
    }
}

#[derive(Debug)]
struct Pool {
    name: String,
    events: Vec<EventType>,
    buffering: Buffering,
    handler: ResultHandler,
    length: EventLength,
    queue: VecDeque<Queued>,
    queued_bytes: usize,
    next_serial: u64,
    members: Vec<Member>,
    dropped: u64,
}

/// The settings of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolSettings {
    /// What it subscribes to.
    pub events: Vec<EventType>,
    /// How much it keeps.
    pub buffering: Buffering,
    /// Who judges the results of its listeners.
    pub handler: ResultHandler,
    /// What its listeners count.
    pub length: EventLength,
}

/// All pools.
#[derive(Debug, Default)]
pub struct Pools {
    server: String,
    /// In order of activation.
    pools: Vec<Pool>,
    next_serial: u64,
    news: VecDeque<News>,
}

/// Pools come and go.
impl Pools {
    /// Sets the name of the daemon that events carry.
    pub fn set_server(&mut self, identifier: &str) {
        identifier.clone_into(&mut self.server);
    }

    /// Adds a pool of these listeners, or gives it new settings: listeners that stay keep their state, and what waits
    /// goes on waiting.
    pub fn set(&mut self, name: &str, settings: PoolSettings, members: &[ProcessId]) {
        let PoolSettings { events, buffering, handler, length } = settings;
        if let Some(pool) = self.pools.iter_mut().find(|pool| pool.name == name) {
            pool.events = events;
            pool.buffering = buffering;
            pool.handler = handler;
            pool.length = length;
            pool.keep_members(members, &mut self.news);
            return;
        }
        self.pools.push(Pool {
            name: name.to_owned(),
            events,
            buffering,
            handler,
            length,
            queue: VecDeque::new(),
            queued_bytes: 0,
            next_serial: 0,
            members: members.iter().map(|id| Member::new(*id)).collect(),
            dropped: 0,
        });
    }

    /// Forgets a pool and what waits in it.
    pub fn remove(&mut self, name: &str) {
        self.pools.retain(|pool| pool.name != name);
    }

    /// Forgets all pools. Serials go on.
    pub fn clear(&mut self) {
        self.pools.clear();
    }

    /// Whether a pool subscribes to events of this type.
    pub fn is_wanted(&self, kind: EventType) -> bool {
        self.pools.iter().any(|pool| pool.wants(kind))
    }

    /// Whether a process is a listener.
    pub fn has(&self, id: ProcessId) -> bool {
        self.pools.iter().any(|pool| pool.members.iter().any(|member| member.id == id))
    }

    /// Whether nothing is to be expected of a pool: no listener has an event, and none that could take one would get
    /// one. Who has violated the protocol, or reads nothing any more, takes none.
    pub fn is_idle(&self, name: &str, is_running: impl Fn(ProcessId) -> bool) -> bool {
        let Some(pool) = self.pools.iter().find(|pool| pool.name == name) else { return true };
        !pool.members.iter().filter(|member| is_running(member.id)).any(|member| {
            match member.listener.state() {
                ListenerState::Busy => true,
                ListenerState::Acknowledged | ListenerState::Ready => !pool.queue.is_empty() && !member.deaf,
                ListenerState::Unknown => false,
            }
        })
    }

    /// Violations of the protocol by a listener since it was started.
    pub fn violations(&self, id: ProcessId) -> u32 {
        let mut members = self.pools.iter().flat_map(|pool| &pool.members);
        members.find(|member| member.id == id).map_or(0, |member| member.violations)
    }

    /// What an administrator should know about a listener.
    pub fn advice(&self, id: ProcessId) -> Vec<String> {
        let mut advice = Vec::new();
        for pool in &self.pools {
            let Some(member) = pool.members.iter().find(|member| member.id == id) else { continue };
            if let Some(violation) = &member.violation {
                let now = match member.listener.state() {
                    ListenerState::Unknown => "it gets no events until it prints \"READY\\n\"",
                    ListenerState::Acknowledged | ListenerState::Ready | ListenerState::Busy => {
                        "it has been in step again since"
                    }
                };
                advice.push(format!("{violation}; {now}"));
            }
            if member.deaf {
                advice.push(
                    "its stdin takes nothing any more: it gets no events until it is restarted".to_owned(),
                );
            }
            advice.extend(pool.advice());
        }
        advice
    }
}

/// Events come and go.
impl Pools {
    /// Buffers an event for every pool that subscribes to it.
    pub fn raise(&mut self, event: &Event) {
        let kind = event.kind();
        let mut shared = None;
        for pool in self.pools.iter_mut().filter(|pool| pool.wants(kind)) {
            let (serial, payload) = shared.get_or_insert_with(|| {
                let serial = self.next_serial;
                self.next_serial += 1;
                (serial, Arc::<str>::from(event.payload()))
            });
            let (serial, payload) = (*serial, Arc::clone(payload));
            let poolserial = pool.next_serial;
            pool.next_serial += 1;
            pool.make_room(payload.len(), &mut self.news);
            pool.queued_bytes += payload.len();
            pool.queue.push_back(Queued { serial, poolserial, kind, payload, violations: 0 });
        }
    }

    /// The next event that a listener takes, which is BUSY from now on. `is_running` tells who may get one, `counted` what
    /// a listener counts of which that was not said.
    pub fn poll_delivery(
        &mut self,
        is_running: impl Fn(ProcessId) -> bool,
        counted: impl Fn(ProcessId) -> Counted,
    ) -> Option<Delivery> {
        let is_free = |member: &Member| {
            member.listener.state() == ListenerState::Ready && !member.deaf && is_running(member.id)
        };
        for pool in &mut self.pools {
            if pool.queue.is_empty() {
                continue;
            }
            let Some(member) = pool.members.iter_mut().find(|member| is_free(member)) else { continue };
            let Some(queued) = pool.queue.pop_front() else { continue };
            pool.queued_bytes -= queued.payload.len();
            let Queued { serial, poolserial, kind, .. } = queued;
            let envelope = Envelope { server: &self.server, serial, pool: &pool.name, poolserial, kind };
            let counted = match pool.length {
                EventLength::Bytes => Counted::Bytes,
                EventLength::Characters => Counted::Characters,
                // It makes no difference.
                EventLength::Auto if queued.payload.is_ascii() => Counted::Bytes,
                EventLength::Auto => *member.counted.get_or_insert_with(|| counted(member.id)),
            };
            let bytes = envelope.around(&queued.payload, counted);
            member.listener.handle_sent();
            member.owed = None;
            member.current = Some(queued);
            return Some(Delivery { to: member.id, serial, bytes });
        }
        None
    }

    /// Records that the stdin of a listener does not take an event: another gets it.
    pub fn handle_unsent(&mut self, id: ProcessId) {
        let Some((pool, member)) = find(&mut self.pools, id) else { return };
        let member = &mut pool.members[member];
        member.listener.handle_unsent();
        member.deaf = true;
        let current = member.current.take();
        pool.put_back(current, &mut self.news);
    }

    /// Records that a listener has been started.
    pub fn handle_spawned(&mut self, id: ProcessId) {
        let Some((pool, member)) = find(&mut self.pools, id) else { return };
        let member = &mut pool.members[member];
        *member = Member { left: member.left.take(), ..Member::new(id) };
    }

    /// Records that a listener has ended. What it had goes to another: [`Pools::give_back`] must follow.
    pub fn handle_exit(&mut self, id: ProcessId) {
        let Some((pool, member)) = find(&mut self.pools, id) else { return };
        let member = &mut pool.members[member];
        let violation = member.violation.take();
        *member = Member { violation, left: member.current.take(), ..Member::new(id) };
    }

    /// Puts back what a listener had when it ended. As in Supervisor that comes after the event of its end: in a full
    /// buffer others make room for what was given back, and not the other way.
    pub fn give_back(&mut self, id: ProcessId) {
        let Some((pool, member)) = find(&mut self.pools, id) else { return };
        let left = pool.members[member].left.take();
        pool.put_back(left, &mut self.news);
    }

    /// Records what a listener has printed on its stdout; whether it has processed an event.
    pub fn handle_output(&mut self, id: ProcessId, bytes: &[u8]) -> bool {
        let Some((pool, member)) = find(&mut self.pools, id) else { return false };
        let before = pool.members[member].violations;
        let (mut more, mut told) = (0, None);
        let mut has_processed = false;
        for heard in pool.members[member].listener.handle_output(bytes, pool.handler) {
            has_processed |= heard == Heard::Processed;
            let is_first = pool.members[member].violations == before;
            match &heard {
                Heard::Printed(text) => self.news.push_back(News::Printed(text.clone())),
                // A flood of lines is not one of news; where they have led to is told in the end.
                Heard::Violation(_) if !is_first => more += 1,
                Heard::Changed { from, .. } if more > 0 => told = told.or(Some(*from)),
                Heard::Changed { .. }
                | Heard::Processed
                | Heard::LateResult(_)
                | Heard::Rejected
                | Heard::Cut(_)
                | Heard::Failed
                | Heard::BadResultLine(_)
                | Heard::Violation(_) => self.news.push_back(News::Heard(id, heard.clone())),
            }
            pool.settle(member, heard, &mut self.news);
        }
        if more > 0 {
            self.news.push_back(News::MoreViolations(id, more));
            let to = pool.members[member].listener.state();
            if let Some(from) = told.filter(|from| *from != to) {
                self.news.push_back(News::Heard(id, Heard::Changed { from, to }));
            }
        }
        has_processed
    }

    /// Takes the next thing to be logged.
    pub fn poll_news(&mut self) -> Option<News> {
        self.news.pop_front()
    }
}

/// The pool of a listener, and its place there.
fn find(pools: &mut [Pool], id: ProcessId) -> Option<(&mut Pool, usize)> {
    pools.iter_mut().find_map(|pool| {
        let at = pool.members.iter().position(|member| member.id == id)?;
        Some((pool, at))
    })
}

impl Pool {
    fn wants(&self, kind: EventType) -> bool {
        self.events.iter().any(|wanted| kind.is_a(*wanted))
    }

    /// What an administrator should know about its buffer.
    fn advice(&self) -> Option<String> {
        let (dropped, were) = match self.dropped {
            0 => return None,
            1 => ("1 event".to_owned(), "was"),
            more => (format!("{more} events"), "were"),
        };
        let room = match self.buffering {
            Buffering::Events(events) => format!("of {events}"),
            Buffering::Usual => format!("of {USUAL_EVENTS} events or {} MiB", USUAL_BYTES >> 20),
        };
        Some(format!(
            "{dropped} for pool {} {were} discarded because its buffer {room} was full: make the listener quicker, or \
             raise numprocs or buffer_size (a gap in poolserial shows the listener where)",
            self.name
        ))
    }

    fn keep_members(&mut self, ids: &[ProcessId], news: &mut VecDeque<News>) {
        let mut old = std::mem::take(&mut self.members);
        for id in ids {
            let known = old.iter().position(|member| member.id == *id);
            self.members.push(known.map_or_else(|| Member::new(*id), |at| old.remove(at)));
        }
        for gone in old {
            self.put_back(gone.current, news);
            self.put_back(gone.left, news);
        }
    }

    /// Draws the conclusions from what a listener has said.
    fn settle(&mut self, at: usize, heard: Heard, news: &mut VecDeque<News>) {
        let member = &mut self.members[at];
        match heard {
            Heard::Processed => member.current = None,
            Heard::Rejected => member.left = member.current.take(),
            Heard::Violation(violation) => {
                member.violation = Some(violation);
                member.violations += 1;
                member.take_back();
            }
            Heard::Failed => {
                member.violations += 1;
                member.take_back();
            }
            Heard::LateResult(is_ok) => {
                if let Some(serial) = member.owed.take().filter(|_| is_ok) {
                    self.forget(serial);
                }
            }
            Heard::Changed { to, .. } => {
                let left = member.left.take();
                self.put_back(left, news);
                if to == ListenerState::Ready {
                    self.give_up_unanswered(at, news);
                }
            }
            Heard::BadResultLine(_) | Heard::Printed(_) | Heard::Cut(_) => {}
        }
    }

    /// A listener is READY that was in UNKNOWN, and has never given a result that can be used: when that happens again
    /// with the same event it would do so for ever.
    fn give_up_unanswered(&mut self, at: usize, news: &mut VecDeque<News>) {
        if let Some(serial) = self.members[at].owed.take()
            && self.queue.iter().any(|queued| queued.serial == serial && queued.violations > 1)
        {
            self.forget(serial);
            news.push_back(News::Unanswered { pool: self.name.clone(), serial });
        }
    }

    fn put_back(&mut self, event: Option<Queued>, news: &mut VecDeque<News>) {
        let Some(event) = event else { return };
        let (size, max) = (self.queue.len(), self.buffering.events());
        news.push_back(News::Rebuffered { pool: self.name.clone(), serial: event.serial, size, max });
        self.make_room(event.payload.len(), news);
        self.queued_bytes += event.payload.len();
        self.queue.push_front(event);
    }

    /// Drops the oldest events until another of this size fits.
    fn make_room(&mut self, size: usize, news: &mut VecDeque<News>) {
        while self.buffering.is_full(self.queue.len(), self.queued_bytes, size)
            && let Some(oldest) = self.queue.pop_front()
        {
            self.queued_bytes -= oldest.payload.len();
            self.dropped += 1;
            news.push_back(News::Overflowed { pool: self.name.clone(), serial: oldest.serial });
        }
    }

    fn forget(&mut self, serial: u64) {
        if let Some(at) = self.queue.iter().position(|queued| queued.serial == serial)
            && let Some(event) = self.queue.remove(at)
        {
            self.queued_bytes -= event.payload.len();
        }
    }
}
