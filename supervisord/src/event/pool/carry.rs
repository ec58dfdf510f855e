//! Pools from one image of the daemon to the next: events that wait, and where each listener is in its protocol.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{EventType, Listener, Pool, Pools, ProcessId, Queued, find};

/// A pool, without its listeners.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CarriedPool {
    name: String,
    #[serde(default)]
    queue: Vec<CarriedEvent>,
    #[serde(default)]
    next_serial: u64,
    #[serde(default)]
    dropped: u64,
}

/// A listener.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CarriedListener {
    listener: Listener,
    #[serde(default)]
    current: Option<CarriedEvent>,
    #[serde(default)]
    owed: Option<u64>,
    #[serde(default)]
    deaf: bool,
    #[serde(default)]
    violations: u32,
}

/// An event that waits, or that a listener has.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct CarriedEvent {
    serial: u64,
    poolserial: u64,
    kind: EventType,
    payload: String,
    #[serde(default)]
    violations: u32,
}

impl From<&Queued> for CarriedEvent {
    fn from(queued: &Queued) -> Self {
        let Queued { serial, poolserial, kind, payload, violations } = queued;
        Self {
            serial: *serial,
            poolserial: *poolserial,
            kind: *kind,
            payload: payload.to_string(),
            violations: *violations,
        }
    }
}

impl From<CarriedEvent> for Queued {
    fn from(carried: CarriedEvent) -> Self {
        let CarriedEvent { serial, poolserial, kind, payload, violations } = carried;
        Self { serial, poolserial, kind, payload: Arc::from(payload), violations }
    }
}

impl From<&Pool> for CarriedPool {
    fn from(pool: &Pool) -> Self {
        Self {
            name: pool.name.clone(),
            queue: pool.queue.iter().map(CarriedEvent::from).collect(),
            next_serial: pool.next_serial,
            dropped: pool.dropped,
        }
    }
}

impl Pools {
    /// All pools, and the number of the next event.
    pub fn carry(&self) -> (Vec<CarriedPool>, u64) {
        (self.pools.iter().map(CarriedPool::from).collect(), self.next_serial)
    }

    /// A listener, if this is one.
    pub fn carry_listener(&self, id: ProcessId) -> Option<CarriedListener> {
        let mut members = self.pools.iter().flat_map(|pool| &pool.members);
        let member = members.find(|member| member.id == id)?;
        Some(CarriedListener {
            listener: member.listener.clone(),
            current: member.current.as_ref().map(CarriedEvent::from),
            owed: member.owed,
            deaf: member.deaf,
            violations: member.violations,
        })
    }

    /// Goes on with what [`Pools::carry`] gave, in pools that have been made.
    pub fn resume(&mut self, pools: Vec<CarriedPool>, next_serial: u64) {
        self.next_serial = next_serial;
        for carried in pools {
            let Some(pool) = self.pools.iter_mut().find(|pool| pool.name == carried.name) else { continue };
            pool.queue = carried.queue.into_iter().map(Queued::from).collect();
            pool.queued_bytes = pool.queue.iter().map(|queued| queued.payload.len()).sum();
            pool.next_serial = carried.next_serial;
            pool.dropped = carried.dropped;
        }
    }

    /// Goes on with a listener of a pool that has been made.
    pub fn resume_listener(&mut self, id: ProcessId, carried: CarriedListener) {
        let Some((pool, member)) = find(&mut self.pools, id) else { return };
        let member = &mut pool.members[member];
        member.listener = carried.listener;
        member.current = carried.current.map(Queued::from);
        member.owed = carried.owed;
        member.deaf = carried.deaf;
        member.violations = carried.violations;
    }
}
