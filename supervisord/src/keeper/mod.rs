//! The keeper: a small process that has what must outlive the daemon.
//!
//! It holds copies of descriptors that would be gone with the daemon: the read ends of programs' pipes, so that what a
//! program writes last is there for the next daemon though the program has ended; handles of main processes, by which the
//! kernel tells their exit statuses; listening sockets of FastCGI programs. It never reads from any of them. And it ends
//! the programs with `on_daemon_death=stop` once the daemon is gone.
//!
//! It is this binary, started by the daemon with [`OPTION`]. On its standard input is a socket over which the daemon
//! says what to hold ([`Line`]); the end of that is the daemon's death, whatever its cause. The kernel's own signal for
//! the death of a parent would not do: it is sent when a thread ends, and a program that changes its user loses it.
//! From then on the next daemon finds the keeper at its door, takes everything back, starts a keeper of its own, and
//! sends this one away. Without a door, or with nothing to hold, it ends at once.

mod ending;
pub mod line;

use std::{
    collections::BTreeMap,
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    time::Duration,
};

use ending::{Doomed, Ending};
use line::{Key, Line};
use nix::poll::{PollFd, PollFlags};

use crate::{
    journal::record::Identity,
    os::{
        Pid, handover, limits, memory,
        passing::{self, Door, Message, Wait},
        pipe,
    },
};

/// The option by which the daemon starts it; not for users. What it is of follows, for who lists processes.
pub const OPTION: &str = "--keeper";
/// What it calls itself: whoever looks for `supervisord` by name is not to find it.
pub const NAME: &str = "supervisor-keeper";

/// The directory in a keeper's command line, in the form of `/proc/PID/cmdline`: where the journal is that names it.
pub fn directory_in(command_line: &[u8]) -> Option<&[u8]> {
    let mut words = command_line.split(|byte| *byte == 0);
    let is_keeper = words.next()? == NAME.as_bytes() && words.next()? == OPTION.as_bytes();
    words.next().filter(|directory| is_keeper && !directory.is_empty())
}

/// How long a daemon that takes everything back may leave us waiting.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs as the keeper; returns when there is nothing left to keep.
pub fn run() {
    // It has to outlive what ends the daemon and its programs.
    handover::hold_signals();
    // Without it there is room for as much as the daemon has room for.
    let _ = limits::raise_own_files();
    limits::never_preempt();
    // Shown by some lists; the kernel keeps the beginning.
    let _ = rustix::thread::set_name(c"supervisor-keep");
    let Ok(daemon) = io::stdin().as_fd().try_clone_to_owned() else { return };
    memory::give_back();
    Keeper::new(daemon).serve();
}

/// What the keeper knows.
struct Keeper {
    /// The way to the daemon while it lives.
    daemon: Option<OwnedFd>,
    door: Option<OpenDoor>,
    held: BTreeMap<Key, OwnedFd>,
    wards: BTreeMap<Pid, Doomed>,
    /// Programs that are being ended.
    ending: Ending,
    /// Another one has taken over.
    is_dismissed: bool,
}

/// Where the next daemon finds us.
struct OpenDoor {
    door: Door,
    /// Tells that its name was removed: then nobody will ever come. None where that cannot be told.
    watch: Option<OwnedFd>,
}

/// What has happened.
#[derive(Clone, Copy)]
enum Source {
    Daemon,
    Door,
    DoorFile,
    Program,
}

impl Keeper {
    fn new(daemon: OwnedFd) -> Self {
        Self {
            daemon: Some(daemon),
            door: None,
            held: BTreeMap::new(),
            wards: BTreeMap::new(),
            ending: Ending::default(),
            is_dismissed: false,
        }
    }

    fn serve(mut self) {
        let mut buffer = vec![0; passing::MOST_TEXT];
        while self.has_purpose() {
            for source in self.wait() {
                match source {
                    Source::Daemon => self.hear(&mut buffer),
                    Source::Door => self.admit(),
                    Source::DoorFile => self.look_at_door(),
                    Source::Program => {}
                }
            }
            if self.ending.advance() {
                // Who was ended and left no word needs no next daemon.
                self.held.retain(|key, pipe| !matches!(key, Key::Pipe(_)) || !pipe::is_exhausted(pipe));
            }
        }
    }

    fn has_purpose(&self) -> bool {
        let is_awaited = self.door.is_some() && !self.held.is_empty();
        !self.ending.is_over() || (!self.is_dismissed && (self.daemon.is_some() || is_awaited))
    }

    /// Waits until something happens, or programs are to be looked at again.
    fn wait(&self) -> Vec<Source> {
        let mut waited: Vec<(Source, BorrowedFd<'_>)> = Vec::new();
        match (&self.daemon, &self.door) {
            _ if self.is_dismissed => {}
            (Some(daemon), _) => waited.push((Source::Daemon, daemon.as_fd())),
            (None, Some(OpenDoor { door, watch })) => {
                waited.push((Source::Door, door.socket.as_fd()));
                waited.extend(watch.iter().map(|watch| (Source::DoorFile, watch.as_fd())));
            }
            (None, None) => {}
        }
        waited.extend(self.ending.handles().map(|handle| (Source::Program, handle)));
        let mut fds: Vec<PollFd<'_>> =
            waited.iter().map(|(_, fd)| PollFd::new(*fd, PollFlags::POLLIN)).collect();
        // An error, of memory, only makes the wait shorter.
        let _ = nix::poll::poll(&mut fds, self.ending.pause());
        let ready = waited.iter().zip(&fds).filter(|(_, fd)| fd.any().unwrap_or(false));
        ready.map(|((source, _), _)| *source).collect()
    }

    fn hear(&mut self, buffer: &mut [u8]) {
        let Some(daemon) = &self.daemon else { return };
        match passing::receive(daemon, buffer) {
            Ok(Some(message)) => self.obey(message),
            // It cannot be heard any more: an error is the same as the end.
            Ok(None) | Err(_) => self.handle_death(),
        }
    }

    fn obey(&mut self, message: Message) {
        let mut descriptors = message.descriptors.into_iter();
        for line in message.text.lines() {
            match Line::parse(line) {
                Some(Line::Guard(ward)) => {
                    self.wards.extend(Doomed::new(ward).map(|doomed| (ward.pid, doomed)));
                }
                Some(Line::Unguard(pid)) => drop(self.wards.remove(&pid)),
                Some(Line::Hold(key)) => {
                    self.held.extend(descriptors.next().map(|descriptor| (key, descriptor)));
                }
                Some(Line::Forget(key)) => drop(self.held.remove(&key)),
                Some(Line::Door) => {
                    if let (Some(socket), Some(file)) = (descriptors.next(), descriptors.next()) {
                        self.open_door(Door { socket, file });
                    }
                }
                Some(Line::Sync) => self.answer(),
                Some(Line::Give) => {
                    if self.give().is_err() {
                        self.handle_death();
                    }
                }
                Some(Line::Quit) => {
                    self.is_dismissed = true;
                    self.held.clear();
                }
                // Not for us, or by a daemon of another version.
                Some(Line::Held(_) | Line::End) | None => {}
            }
        }
    }

    fn answer(&self) {
        // A daemon that does not hear it waits in vain, for a short time.
        let send = |daemon| passing::send(daemon, &Line::End.to_string(), &[], Wait::No);
        let _ = self.daemon.as_ref().map(send);
    }

    fn open_door(&mut self, door: Door) {
        if passing::open_door(&door).is_ok() {
            let watch = passing::watch_door(&door).ok();
            self.door = Some(OpenDoor { door, watch });
            // If it was removed before it was watched nobody would tell.
            self.look_at_door();
        }
    }

    /// Hands out copies of everything that is held.
    fn give(&self) -> io::Result<()> {
        let Some(daemon) = &self.daemon else { return Ok(()) };
        let all: Vec<(&Key, &OwnedFd)> = self.held.iter().collect();
        for some in all.chunks(passing::MOST_DESCRIPTORS) {
            let text: String = some.iter().map(|(key, _)| Line::Held((*key).clone()).to_string()).collect();
            let descriptors: Vec<BorrowedFd<'_>> =
                some.iter().map(|(_, descriptor)| descriptor.as_fd()).collect();
            passing::send(daemon, &text, &descriptors, Wait::Yes)?;
        }
        passing::send(daemon, &Line::End.to_string(), &[], Wait::Yes)
    }

    /// The daemon is gone: ends who is to end with it, and waits for the next one.
    fn handle_death(&mut self) {
        self.daemon = None;
        let doomed: Vec<Doomed> = std::mem::take(&mut self.wards).into_values().collect();
        for one in &doomed {
            // How they end says nothing of them: the next daemon starts them again.
            let identity = Identity { pid: one.ward().pid.as_raw(), start_time: one.ward().start_time };
            self.held.remove(&Key::Process(identity));
        }
        self.ending.begin(doomed);
    }

    fn admit(&mut self) {
        let Some(OpenDoor { door, .. }) = &self.door else { return };
        let Ok(caller) = passing::admit(door) else { return };
        let is_ours =
            passing::peer(&caller).is_ok_and(|(_, uid)| uid == 0 || uid == nix::unistd::geteuid().as_raw());
        if is_ours && passing::set_patience(&caller, PATIENCE).is_ok() {
            self.daemon = Some(caller);
        }
    }

    fn look_at_door(&mut self) {
        if self.door.as_ref().is_some_and(|door| passing::is_removed(&door.door)) {
            self.door = None;
        } else if let Some(OpenDoor { watch: Some(watch), .. }) = &self.door {
            // What has changed does not matter. It is read, or it would be told again.
            let _ = rustix::io::read(watch, &mut [0; 256]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_door_that_was_removed_before_it_is_opened_is_none() {
        let directory = tempfile::tempdir().expect("made");
        let directory = std::fs::File::open(directory.path()).expect("there");
        for is_removed in [false, true] {
            let (_daemon, ours) = passing::pair().expect("made");
            let mut keeper = Keeper::new(ours);
            let door = passing::make_door(&directory, "door").expect("made");
            if is_removed {
                passing::remove_door(&directory, "door").expect("removed");
            }
            keeper.open_door(door);
            assert_eq!(keeper.door.is_none(), is_removed);
        }
    }
}
