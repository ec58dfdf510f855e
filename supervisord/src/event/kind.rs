//! The types of events: names and hierarchy, as in Supervisor.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Defines [`EventType`] from lines of variant, name and parent.
macro_rules! types {
    ($($variant:ident $name:literal $parent:expr;)*) => {
        /// A type of event. Whoever subscribes to a type gets the types below it too.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "each is Supervisor's type of its name")]
        pub enum EventType { $($variant),* }

        impl EventType {
            /// Every type.
            pub const ALL: &[Self] = &[$(Self::$variant),*];

            /// Its name, as in the key `events` and in `eventname:`.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),* }
            }

            /// The type that it is a kind of.
            pub fn parent(self) -> Option<Self> {
                match self { $(Self::$variant => $parent),* }
            }
        }
    };
}

types! {
    Event "EVENT" None;
    ProcessState "PROCESS_STATE" Some(Self::Event);
    ProcessStateStopped "PROCESS_STATE_STOPPED" Some(Self::ProcessState);
    ProcessStateExited "PROCESS_STATE_EXITED" Some(Self::ProcessState);
    ProcessStateStarting "PROCESS_STATE_STARTING" Some(Self::ProcessState);
    ProcessStateStopping "PROCESS_STATE_STOPPING" Some(Self::ProcessState);
    ProcessStateBackoff "PROCESS_STATE_BACKOFF" Some(Self::ProcessState);
    ProcessStateFatal "PROCESS_STATE_FATAL" Some(Self::ProcessState);
    ProcessStateRunning "PROCESS_STATE_RUNNING" Some(Self::ProcessState);
    ProcessStateUnknown "PROCESS_STATE_UNKNOWN" Some(Self::ProcessState);
    ProcessCommunication "PROCESS_COMMUNICATION" Some(Self::Event);
    ProcessCommunicationStdout "PROCESS_COMMUNICATION_STDOUT" Some(Self::ProcessCommunication);
    ProcessCommunicationStderr "PROCESS_COMMUNICATION_STDERR" Some(Self::ProcessCommunication);
    ProcessLog "PROCESS_LOG" Some(Self::Event);
    ProcessLogStdout "PROCESS_LOG_STDOUT" Some(Self::ProcessLog);
    ProcessLogStderr "PROCESS_LOG_STDERR" Some(Self::ProcessLog);
    RemoteCommunication "REMOTE_COMMUNICATION" Some(Self::Event);
    SupervisorStateChange "SUPERVISOR_STATE_CHANGE" Some(Self::Event);
    SupervisorStateChangeRunning "SUPERVISOR_STATE_CHANGE_RUNNING" Some(Self::SupervisorStateChange);
    SupervisorStateChangeStopping "SUPERVISOR_STATE_CHANGE_STOPPING" Some(Self::SupervisorStateChange);
    Tick "TICK" Some(Self::Event);
    Tick5 "TICK_5" Some(Self::Tick);
    Tick60 "TICK_60" Some(Self::Tick);
    Tick3600 "TICK_3600" Some(Self::Tick);
    ProcessGroup "PROCESS_GROUP" Some(Self::Event);
    ProcessGroupAdded "PROCESS_GROUP_ADDED" Some(Self::ProcessGroup);
    ProcessGroupRemoved "PROCESS_GROUP_REMOVED" Some(Self::ProcessGroup);
}

impl EventType {
    /// The type of this name, in upper case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// Whether an event of this type is delivered to a subscriber of `other`.
    pub fn is_a(self, other: Self) -> bool {
        self == other || self.parent().is_some_and(|parent| parent.is_a(other))
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        let found = Self::ALL.iter().copied().find(|kind| kind.name() == name);
        found.ok_or_else(|| D::Error::custom(format!("{name:?} is no type of event")))
    }
}

impl Serialize for EventType {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_extends_that_of_its_parent_and_leads_to_its_type() {
        assert_eq!(EventType::ALL.len(), 27);
        for kind in EventType::ALL {
            assert_eq!(EventType::from_name(kind.name()), Some(*kind));
            assert!(kind.is_a(*kind) && kind.is_a(EventType::Event));
            match kind.parent() {
                None | Some(EventType::Event) => {}
                Some(parent) => assert!(kind.name().starts_with(&format!("{parent}_"))),
            }
        }
        assert_eq!(EventType::from_name("tick"), None);
    }

    #[test]
    fn subscribers_get_what_is_below_their_type_and_nothing_beside_it() {
        assert!(EventType::ProcessLogStderr.is_a(EventType::ProcessLog));
        assert!(!EventType::ProcessLog.is_a(EventType::ProcessLogStderr));
        assert!(!EventType::ProcessStateFatal.is_a(EventType::ProcessLog));
    }
}
