//! Taking over processes that another daemon, or another image of this one, has made.
//!
//! Owns the one way in: [`Driver::adopt`]. Who finds out what is left of whom: `crash` after the death of a daemon, the
//! upgrade in place, and the take-over of another running daemon.

use std::os::fd::{BorrowedFd, OwnedFd};

use tracing::{info, warn};

use super::{Driver, sockets::SocketKey};
use crate::{
    clock::{Moment, Timeline},
    continuity::heir::{self, Bond},
    journal::record::{Identity, Record},
    os::group::Census,
    output::{LogId, LogSpec},
    process::{Aftermath, Pid},
    request::Channel,
    supervisor::ProcessId,
};

/// A process that somebody else has made, and our ends of its pipes.
#[derive(Debug)]
pub(super) struct Adopted {
    /// What is known of it.
    pub(super) record: Record,
    /// Its main process.
    pub(super) bond: Bond<OwnedFd>,
    /// Reads its stdout.
    pub(super) stdout: Option<OwnedFd>,
    /// Reads its stderr.
    pub(super) stderr: Option<OwnedFd>,
    /// Writes to its stdin.
    pub(super) stdin: Option<OwnedFd>,
    /// Read what others wrote, or still write, to the pipes of main processes before it.
    pub(super) trailing: Vec<(Channel, OwnedFd)>,
}

impl Driver {
    /// Takes these processes over. Their groups are active and none of them has been started. Those that the active
    /// groups do not have are left alone.
    pub(super) fn adopt(&mut self, all: Vec<Adopted>, now: Moment) {
        let (timeline, census) = (self.timeline, Census::default());
        let mut taken = Vec::new();
        for one in all {
            if let Some(id) = self.supervisor.find(&one.record.group, &one.record.name) {
                taken.push((id, self.adopt_one(id, one, &census, (timeline, now))));
            }
        }
        self.perform_effects(now);
        for (id, can_go_on) in taken {
            if can_go_on {
                self.supervisor.resume(id, now);
            } else {
                self.catch_up(id, now);
            }
        }
        self.perform_effects(now);
    }

    /// Puts one process in its place. Returns whether its child can go on as it is.
    fn adopt_one(
        &mut self,
        id: ProcessId,
        adopted: Adopted,
        census: &Census,
        at: (Timeline, Moment),
    ) -> bool {
        let (timeline, now) = at;
        let Adopted { record, bond, stdout, stderr, stdin, trailing } = adopted;
        let ended = bond.exit();
        let child = record.child.filter(|_| ended.is_none());
        let remains =
            ended.is_some() && record.child.is_some_and(|child| self.note_orphans(id, child, census));
        if let Some(unit) = self.units.get_mut(&id) {
            unit.stdin = stdin;
            unit.child = child;
        }
        for (channel, pipe) in trailing {
            self.trail_again(id, channel, pipe, now);
        }
        self.capture_again(id, &record, [stdout, stderr]);
        if let Some(exit) = ended {
            self.read_to_the_end(id, now);
            info!("{} ended while no supervisord ran ({exit})", record.name);
        } else if let Some(child) = child {
            self.bind(id, child.identity, bond, now);
        }
        let ended = ended.map(|exit| (exit, Aftermath { remains, diagnosis: None }));
        let is_listener = self.units.get(&id).is_some_and(|unit| unit.is_listener);
        let can_go_on =
            heir::restore(&mut self.supervisor, id, (&record, ended), is_listener, (timeline, now));
        self.hold_socket(id);
        can_go_on
    }

    /// A process that does not rest holds the listening socket of its program, if that was taken over.
    fn hold_socket(&mut self, id: ProcessId) {
        let Some(process) = self.supervisor.process(id) else { return };
        if let Some(fastcgi) = &process.config().fastcgi
            && !process.is_at_rest()
        {
            let key = SocketKey::new(&process.config().program, fastcgi);
            self.sockets.hold(id, &key);
            // Its mode and owner may have changed while no daemon ran.
            if let Err(error) = self.sockets.reconfigure(&key, fastcgi) {
                warn!("{}: {error}", self.name_of(id));
            }
        }
    }

    /// The main process has ended: its last words are still in the pipe, and come before its replacement's.
    fn read_to_the_end(&mut self, id: ProcessId, now: Moment) {
        let streams = self.units.get_mut(&id).map(|unit| std::mem::take(&mut unit.streams));
        let streams = streams.unwrap_or_default();
        for stream in &streams {
            self.output.drain(*stream, now);
        }
        self.trail(id, &streams);
        // What a listener said to a dead daemon is for nobody.
        self.release_sources(id);
        self.handle_pieces(now);
        for stream in streams {
            self.output.release(stream, now);
        }
        self.handle_pieces(now);
        self.forget_sources();
    }

    /// Reads on what others write to a pipe whose main process is gone.
    fn trail_again(&mut self, id: ProcessId, channel: Channel, pipe: OwnedFd, now: Moment) {
        let Some(log) = self.units.get(&id).and_then(|unit| unit.log(channel)) else { return };
        // See below.
        let _ = self.output.open(log);
        match self.output.attach(pipe, log) {
            Ok(stream) => {
                self.trail(id, &[stream]);
                self.output.release(stream, now);
            }
            Err(error) => warn!("cannot watch what '{}' left behind: {error}", self.name_of(id)),
        }
    }

    /// Reads on what a process writes.
    fn capture_again(&mut self, id: ProcessId, record: &Record, pipes: [Option<OwnedFd>; 2]) {
        let pid = record.child.map(|child| Pid::from_raw(child.identity.pid));
        for (pipe, channel) in pipes.into_iter().zip([Channel::Stdout, Channel::Stderr]) {
            let Some(unit) = self.units.get(&id) else { return };
            let wanted = match channel {
                Channel::Stdout => unit.wanted_stdout,
                Channel::Stderr => unit.wanted_stderr,
            };
            let Some(pipe) = pipe else { continue };
            let (log, goes_nowhere) = match self.log_for(id, channel) {
                Some(log) => (log, false),
                None => (self.output.add_log(LogSpec::default()), true),
            };
            // A log that cannot be opened now is said and tried again with the first output.
            let _ = self.output.open(log);
            match self.output.attach_tapped(pipe, log, wanted) {
                Ok(stream) => {
                    if let (Some(_), Some(pid)) = (wanted, pid) {
                        self.add_source(stream, id, pid, channel);
                    }
                    if let Some(unit) = self.units.get_mut(&id) {
                        unit.streams.push(stream);
                    }
                }
                Err(error) => warn!("cannot watch the output of '{}': {error}", record.name),
            }
            if goes_nowhere {
                // It lasts as long as the pipe.
                self.output.remove_log(log);
            }
        }
    }

    /// Where the output of a process goes that was made with other settings, perhaps: what it has a pipe for is read, for
    /// else it would end when it writes.
    fn log_for(&self, id: ProcessId, channel: Channel) -> Option<LogId> {
        let unit = self.units.get(&id)?;
        let is_redirected =
            self.supervisor.process(id).is_some_and(|process| process.config().redirect_stderr);
        unit.log(if is_redirected { Channel::Stdout } else { channel })
    }

    /// Watches the main process of an adopted one, and says that it goes on.
    fn bind(&mut self, id: ProcessId, identity: Identity, bond: Bond<OwnedFd>, now: Moment) {
        match bond {
            Bond::Foreign(pidfd) => {
                if let Some(unit) = self.units.get_mut(&id)
                    && let Some(child) = &mut unit.child
                {
                    child.adopted.get_or_insert(now.unix.as_secs());
                }
                self.watch_foreign(identity, pidfd);
                self.keep(id, None);
                info!("adopted: '{}' with pid {}", self.name_of(id), identity.pid);
            }
            Bond::Ours | Bond::None | Bond::Unseen | Bond::Ended(_) => {}
        }
    }

    /// Waits for the end of a process that is not our child.
    pub(super) fn watch_foreign(&mut self, identity: Identity, pidfd: OwnedFd) {
        if let Err(error) = self.watch.add(identity, pidfd) {
            warn!("the end of pid {} will not be noticed: {error}", identity.pid);
        }
    }

    /// The settings have changed while no daemon ran: as an update would treat it. Likewise a listener.
    fn catch_up(&mut self, id: ProcessId, now: Moment) {
        let is_listener = self.units.get(&id).is_some_and(|unit| unit.is_listener);
        if self.supervisor.catch_up(id, is_listener, now) {
            let why = if is_listener { "it is an event listener" } else { "its settings have changed" };
            info!("{}: {why}, so it is restarted", self.name_of(id));
        }
    }

    /// The handle of the main process of `id`, if that is not our child.
    pub(super) fn foreign(&self, id: ProcessId) -> Option<BorrowedFd<'_>> {
        self.watch.pidfd(self.units.get(&id)?.child?.identity)
    }
}
