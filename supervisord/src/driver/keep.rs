//! The daemon's side of `keeper/`: starts the keeper with the first program, tells it what to hold and what to forget,
//! replaces it when it ends, and sends those of earlier daemons away.
//!
//! What there is to tell waits in a queue and is sent when the journal knows of it, many things in one message. A keeper
//! that is behind is never waited for: the queue is sent later, and one that does not listen at all is replaced. Without
//! a keeper programs are supervised all the same.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use tracing::{debug, error, info, warn};

use super::{Driver, kept, sockets::SocketKey};
use crate::{
    clock::Moment,
    config::{DaemonDeath, KillMode, ProgramConfig},
    handover::CarriedKeeper,
    journal::record::{Identity, PipeId},
    keeper::line::{Key, Line, Reach, Ward},
    os::{
        handover::Inherited,
        passing::{self, Wait},
        pipe, search, signal, watch,
    },
    output::StreamId,
    process::Pid,
    supervisor::ProcessId,
};

/// One that lived shorter is not replaced at once: it would be for nothing again.
const SHORTEST_LIFE: Duration = Duration::from_secs(1);
/// Time between attempts to start one.
const RETRY: Duration = Duration::from_secs(10);
/// Time until a keeper that is behind is told again, and how much may wait for it until it is replaced.
const BEHIND: Duration = Duration::from_millis(5);
const MOST_NEWS: usize = 10_000;
/// How long it is waited for until a socket is closed. It takes microseconds; one that takes longer is replaced.
const PATIENCE: Duration = Duration::from_millis(200);
/// How long it may hold what is not needed any more, if there is nothing else to tell: mostly there is soon, and then one
/// message does for both.
const LAZY: Duration = Duration::from_millis(100);
/// How long it may not know of a new child while others wait to be replaced: a message for each would cost as much as the
/// replacement.
const CROWDED: Duration = Duration::from_millis(2);
/// How much may wait while many programs are started.
const MANY_NEWS: usize = 32;
/// Descriptors and bytes that one thing to be told takes at most; a socket's names are the longest.
const MOST_AT_ONCE: usize = 3;
const LONGEST_LINE: usize = 4 << 10;

/// The keeper, and what it knows.
#[derive(Debug, Default)]
pub(super) struct Keep {
    running: Option<Keeper>,
    /// Those of daemons and images before this one, until ours knows all.
    predecessors: Vec<Keeper>,
    /// Whether what they hold has been taken over.
    may_dismiss: bool,
    wards: BTreeMap<Pid, Ward>,
    /// What it has not been told yet.
    news: VecDeque<News>,
    /// A new one is to be told everything, not only the news.
    is_ignorant: bool,
    /// Pipes that it holds.
    pipes: HashMap<StreamId, PipeId>,
    /// Sockets that it holds.
    sockets: BTreeSet<SocketKey>,
    /// When to tell it again.
    retry_at: Option<Instant>,
    /// Since when there is something to tell, and when to tell it, if all of it can wait.
    waits: Option<(Instant, Instant)>,
    /// No keeper is started before.
    not_before: Option<Instant>,
    /// Why there is none, if so.
    problem: Option<String>,
}

/// A keeper, ours or an earlier one.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Its process.
    pub(super) identity: Identity,
    /// Where it hears us; the end of that is our death.
    pub(super) channel: OwnedFd,
    /// Since when it runs, or we know it.
    pub(super) since: Instant,
}

/// Something to tell.
#[derive(Debug)]
enum News {
    /// The child of a process, with its handle, and its pipes.
    Child(ProcessId, Identity, Option<OwnedFd>),
    /// A pipe whose main process is gone.
    Pipe(StreamId),
    /// A listening socket.
    Socket(SocketKey),
    /// One of them is not needed any more.
    Forget(Key),
    /// About programs that end with us.
    Ward(Line),
}

impl News {
    /// How long it may wait for company.
    fn patience(&self, is_crowded: bool) -> Duration {
        match self {
            Self::Forget(Key::Process(_) | Key::Pipe(_)) => LAZY,
            Self::Child(..) if is_crowded => CROWDED,
            Self::Child(..)
            | Self::Pipe(_)
            | Self::Socket(_)
            | Self::Forget(Key::Socket(_))
            | Self::Ward(_) => Duration::ZERO,
        }
    }
}

/// One message.
#[derive(Default)]
struct Batch<'a> {
    text: String,
    descriptors: Vec<Fd<'a>>,
    pipes: Vec<(StreamId, PipeId)>,
    /// Whether it is waited for: a socket must be closed before another can have its address.
    is_awaited: bool,
}

enum Fd<'a> {
    Ours(OwnedFd),
    Lent(BorrowedFd<'a>),
}

impl AsFd for Fd<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Ours(fd) => fd.as_fd(),
            Self::Lent(fd) => fd.as_fd(),
        }
    }
}

impl<'a> Batch<'a> {
    fn is_full(&self) -> bool {
        self.descriptors.len() + MOST_AT_ONCE > passing::MOST_DESCRIPTORS
            || self.text.len() + LONGEST_LINE > passing::MOST_TEXT
    }

    fn hold(&mut self, key: Key, descriptor: Fd<'a>) {
        let line = Line::Hold(key).to_string();
        if line.len() <= LONGEST_LINE {
            self.text += &line;
            self.descriptors.push(descriptor);
        }
    }

    fn hold_pipe(&mut self, stream: StreamId, descriptor: Option<BorrowedFd<'a>>) {
        // It may have ended meanwhile.
        let Some(descriptor) = descriptor else { return };
        let Some(id) = pipe::id_of(descriptor) else { return };
        self.pipes.push((stream, id));
        self.hold(Key::Pipe(id), Fd::Lent(descriptor));
    }
}

impl Keep {
    /// What the next image shall find open.
    pub(super) fn carry<'a>(&'a self, inherited: &mut Inherited<'a>) -> Vec<CarriedKeeper> {
        let all = self.running.iter().chain(&self.predecessors);
        all.map(|keeper| CarriedKeeper {
            identity: keeper.identity,
            fd: inherited.add(keeper.channel.as_fd()),
        })
        .collect()
    }

    /// Those of earlier daemons or images, which hold what was not taken over yet.
    pub(super) fn add_predecessors(&mut self, predecessors: impl IntoIterator<Item = Keeper>) {
        self.predecessors.extend(predecessors);
    }

    /// All that they hold was taken over.
    pub(super) fn let_predecessors_go(&mut self) {
        self.may_dismiss = true;
    }

    /// Everybody who may hold something, for the journal.
    pub(super) fn identities(&self) -> Vec<Identity> {
        self.running.iter().chain(&self.predecessors).map(|keeper| keeper.identity).collect()
    }

    /// Whether more should not wait until everything that is under way has been done.
    pub(super) fn has_much_to_tell(&self) -> bool {
        self.news.len() >= MANY_NEWS && self.retry_at.is_none()
    }

    /// When [`Driver::tell_keeper`] must next be called, if ever.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let of_start = self.not_before.filter(|_| self.is_ignorant && self.running.is_none());
        let waits = self.waits.map(|(_, until)| until);
        self.retry_at.into_iter().chain(waits).chain(of_start).min()
    }

    /// What clients should know about it.
    pub(super) fn problem(&self) -> Option<String> {
        self.problem.as_ref().map(|problem| self.consequence(problem))
    }

    fn consequence(&self, problem: &str) -> String {
        let wards = if self.wards.is_empty() { "" } else { ", and those with on_daemon_death=stop run on" };
        format!(
            "if supervisord is killed, programs that end before it is started again lose their exit status and what they \
             wrote last{wards}, for there is no keeper: {problem}"
        )
    }

    /// Whether all that there is to tell can wait. `is_crowded` says that more programs are to be replaced at once.
    fn may_wait(&mut self, is_crowded: bool, now: Moment) -> bool {
        let patience = self.news.iter().map(|news| news.patience(is_crowded)).min().unwrap_or_default();
        if patience.is_zero() || self.news.len() >= MANY_NEWS || !self.predecessors.is_empty() {
            self.waits = None;
            return false;
        }
        let since = self.waits.map_or(now.mono, |(since, _)| since);
        self.waits = Some((since, since + patience));
        since + patience > now.mono
    }

    fn push(&mut self, news: News) {
        self.news.push_back(news);
    }

    /// Something that it may have been told is not needed any more. One that is yet to be started is not told at all.
    fn forget(&mut self, key: Key) {
        if self.running.is_some() {
            self.push(News::Forget(key));
        }
    }
}

impl Driver {
    /// Has the handle and the pipes of a running process kept, and lets it end with the daemon, if it is to. To be
    /// called for each that was started or taken over.
    pub(super) fn keep(&mut self, id: ProcessId, pidfd: Option<OwnedFd>) {
        let (Some(unit), Some(process)) = (self.units.get(&id), self.supervisor.process(id)) else { return };
        let Some(child) = unit.child else {
            return error!("{}: cannot look at its process, so supervisord must not die", self.name_of(id));
        };
        if self.journal.is_some() {
            self.keep.push(News::Child(id, child.identity, pidfd));
        }
        if process.config().on_daemon_death == DaemonDeath::Stop {
            let ward = ward(process.config(), child.identity);
            self.keep.wards.insert(ward.pid, ward);
            self.keep.push(News::Ward(Line::Guard(ward)));
        }
    }

    /// Has a pipe kept whose main process is gone.
    pub(super) fn keep_pipe(&mut self, stream: StreamId) {
        if self.journal.is_some() && !self.keep.pipes.contains_key(&stream) {
            self.keep.push(News::Pipe(stream));
        }
    }

    /// Forgets the process of a unit, which was reaped; its pipes are forgotten when they end.
    pub(super) fn unkeep(&mut self, id: ProcessId, pid: Pid) {
        if self.keep.wards.remove(&pid).is_some() && self.keep.running.is_some() {
            self.keep.push(News::Ward(Line::Unguard(pid)));
        }
        if let Some(child) = self.units.get(&id).and_then(|unit| unit.child) {
            self.keep.forget(Key::Process(child.identity));
        }
    }

    /// Records that a child of ours has ended; whether it was a keeper.
    pub(super) fn handle_keeper_ended(&mut self, pid: Pid, now: Moment) -> bool {
        let known = self.keep.predecessors.len();
        self.keep.predecessors.retain(|keeper| keeper.identity.pid != pid.as_raw());
        if self.keep.predecessors.len() < known {
            return true;
        }
        let Some(keeper) = self.keep.running.take_if(|keeper| keeper.identity.pid == pid.as_raw()) else {
            return false;
        };
        self.remove_door(&keeper);
        self.keep.is_ignorant = true;
        if now.mono.duration_since(keeper.since) >= SHORTEST_LIFE {
            warn!("the keeper (pid {pid}) ended, starting another");
        } else {
            self.cannot_keep("it ended at once".to_owned(), now);
        }
        true
    }

    /// Tells the keeper what it does not know yet, and starts it if there is something to tell. To be called when the
    /// journal is written.
    pub(super) fn tell_keeper(&mut self, now: Moment) {
        self.note_ended_pipes();
        self.note_sockets();
        let is_retry = self.keep.retry_at.is_some_and(|at| at > now.mono);
        if is_retry && self.keep.news.len() <= MOST_NEWS || self.keep.may_wait(self.more_exits, now) {
            return;
        }
        (self.keep.retry_at, self.keep.waits) = (None, None);
        let has_news = self.keep.is_ignorant || !self.keep.news.is_empty();
        if has_news && self.keep.running.is_none() {
            self.start_keeper(now);
        }
        while let (Some(keeper), false) = (&self.keep.running, self.keep.news.is_empty()) {
            let (batch, count) = self.batch();
            let descriptors: Vec<BorrowedFd<'_>> = batch.descriptors.iter().map(Fd::as_fd).collect();
            let mut sent = match batch.text.as_str() {
                "" => Ok(()),
                text => passing::send(&keeper.channel, text, &descriptors, Wait::No),
            };
            if sent.is_ok() && batch.is_awaited {
                // What it answers is always the same.
                sent = passing::receive(&keeper.channel, &mut [0; 64]).map(drop);
            }
            let Batch { pipes, is_awaited, .. } = batch;
            match sent {
                Ok(()) => {
                    self.keep.news.drain(..count);
                    self.keep.pipes.extend(pipes);
                }
                Err(error) => return self.handle_untold(&error, is_awaited, now),
            }
        }
        self.dismiss_predecessors(now);
    }

    fn handle_untold(&mut self, error: &io::Error, is_awaited: bool, now: Moment) {
        let Some(keeper) = &self.keep.running else { return };
        self.keep.retry_at = Some(now.mono + BEHIND);
        let is_behind = error.kind() == io::ErrorKind::WouldBlock && !is_awaited;
        if !is_behind || self.keep.news.len() > MOST_NEWS {
            let pid = keeper.identity.pid;
            if !passing::is_gone(error.kind()) {
                warn!("the keeper (pid {pid}) does not listen, ending it: {error}");
            }
            // While its channel is open, for it must not take us for dead. Not reaped yet: the number is its own. That
            // it ends is seen like the end of every child.
            let _ = signal::kill(Pid::from_raw(pid), nix::libc::SIGKILL);
            self.keep.news.clear();
            self.keep.retry_at = None;
        }
    }

    /// The beginning of the news, as one message, and how many of them are in it.
    fn batch(&self) -> (Batch<'_>, usize) {
        let mut batch = Batch::default();
        let mut count = 0;
        for news in &self.keep.news {
            if batch.is_full() {
                break;
            }
            count += 1;
            match news {
                News::Child(id, identity, pidfd) => {
                    self.hold_child(*id, *identity, pidfd.as_ref(), &mut batch)
                }
                News::Pipe(stream) => batch.hold_pipe(*stream, self.output.pipe(*stream)),
                News::Socket(key) => {
                    if let Some(socket) = self.sockets.find(key) {
                        batch.hold(key_of(key), Fd::Lent(socket));
                    }
                }
                News::Forget(key) => {
                    batch.text += &Line::Forget(key.clone()).to_string();
                    if matches!(key, Key::Socket(_)) {
                        batch.text += &Line::Sync.to_string();
                        batch.is_awaited = true;
                        break;
                    }
                }
                News::Ward(line) => batch.text += &line.to_string(),
            }
        }
        (batch, count)
    }

    fn hold_child<'a>(
        &'a self,
        id: ProcessId,
        identity: Identity,
        pidfd: Option<&'a OwnedFd>,
        batch: &mut Batch<'a>,
    ) {
        let is_it = |unit: &&super::unit::Unit| unit.child.is_some_and(|child| child.identity == identity);
        let Some(unit) = self.units.get(&id).filter(is_it) else { return };
        let pidfd = pidfd
            .map(AsFd::as_fd)
            .or_else(|| self.watch.pidfd(identity))
            .map(Fd::Lent)
            // An error would be one of descriptors: then its exit is not known after a crash.
            .or_else(|| watch::open(identity).ok().flatten().map(Fd::Ours));
        if let Some(pidfd) = pidfd {
            batch.hold(Key::Process(identity), pidfd);
        }
        for stream in &unit.streams {
            batch.hold_pipe(*stream, self.output.pipe(*stream));
        }
    }

    /// Pipes that have ended are not to be kept.
    fn note_ended_pipes(&mut self) {
        while let Some(stream) = self.output.poll_ended() {
            if let Some(id) = self.keep.pipes.remove(&stream) {
                self.keep.forget(Key::Pipe(id));
            }
        }
    }

    /// Sockets come and go seldom.
    fn note_sockets(&mut self) {
        if !self.sockets.take_changed() || self.journal.is_none() {
            return;
        }
        // Who connects to a program that ended with the daemon must not wait for ever.
        let processes = self.supervisor.groups().iter().flat_map(|group| &group.config().processes);
        let ending: BTreeSet<&str> = processes
            .filter(|process| process.on_daemon_death == DaemonDeath::Stop)
            .map(|process| process.program.as_str())
            .collect();
        let open = self.sockets.sockets().map(|(key, _)| key);
        let open: BTreeSet<SocketKey> =
            open.filter(|key| !ending.contains(key.program.as_str())).cloned().collect();
        for closed in self.keep.sockets.difference(&open).cloned().collect::<Vec<_>>() {
            self.keep.forget(key_of(&closed));
        }
        for new in open.difference(&self.keep.sockets).cloned().collect::<Vec<_>>() {
            self.keep.push(News::Socket(new));
        }
        self.keep.sockets = open;
    }

    /// Everything that a new keeper has to know.
    fn all_news(&self) -> VecDeque<News> {
        let mut news = VecDeque::new();
        if self.journal.is_some() {
            for (id, unit) in &self.units {
                news.extend(unit.child.map(|child| News::Child(*id, child.identity, None)));
                news.extend(unit.trailing.iter().map(|stream| News::Pipe(*stream)));
            }
            news.extend(self.keep.sockets.iter().cloned().map(News::Socket));
        }
        news.extend(self.keep.wards.values().map(|ward| News::Ward(Line::Guard(*ward))));
        news
    }

    /// Starts a keeper, if it is time, and plans to tell it everything.
    fn start_keeper(&mut self, now: Moment) {
        if self.keep.is_ignorant {
            self.keep.news = self.all_news();
            self.keep.pipes.clear();
            self.keep.is_ignorant = !self.keep.news.is_empty();
        }
        if self.keep.news.is_empty() {
            return;
        }
        if self.keep.not_before.is_some_and(|at| at > now.mono) {
            self.keep.news.clear();
            self.keep.is_ignorant = true;
            return;
        }
        let directory = self.journal.as_ref().map(|journal| journal.directory().to_owned());
        let started = self.launcher.start_keeper(directory.as_deref()).and_then(|(pid, channel)| {
            self.family.ignore(pid);
            let identity = search::identity_of(pid).map_err(|error| error.to_string())?;
            passing::set_patience(&channel, PATIENCE).map_err(|error| error.to_string())?;
            Ok(Keeper { identity, channel, since: now.mono })
        });
        let keeper = match started {
            Ok(keeper) => keeper,
            Err(problem) => return self.cannot_keep(problem, now),
        };
        debug!("started the keeper (pid {})", keeper.identity.pid);
        if let Err(error) = self.give_door(&keeper) {
            warn!("nobody will find the keeper (pid {}): {error}", keeper.identity.pid);
        }
        if self.keep.problem.take().is_some() {
            info!("there is a keeper again");
        }
        self.keep.running = Some(keeper);
        self.keep.is_ignorant = false;
        self.announce_keeper(now);
    }

    /// There is none for now. Said once.
    fn cannot_keep(&mut self, problem: String, now: Moment) {
        self.keep.news.clear();
        self.keep.is_ignorant = true;
        self.keep.not_before = Some(now.mono + RETRY);
        if self.keep.problem.is_none() {
            warn!("{}", self.keep.consequence(&problem));
        }
        self.keep.problem = Some(problem);
    }

    /// Makes the door at which the next daemon finds the keeper, beside the journal that names it.
    fn give_door(&self, keeper: &Keeper) -> io::Result<()> {
        let Some(journal) = &self.journal else { return Ok(()) };
        let door = passing::make_door(journal.lock(), &kept::door_of(keeper.identity))?;
        let both = [door.socket.as_fd(), door.file.as_fd()];
        passing::send(&keeper.channel, &Line::Door.to_string(), &both, Wait::No)
    }

    fn remove_door(&self, keeper: &Keeper) {
        for journal in self.journal.iter().chain(&self.former_journal) {
            // One that stays leads nowhere.
            let _ = passing::remove_door(journal.lock(), &kept::door_of(keeper.identity));
        }
    }

    /// Sends keepers of earlier daemons and images away when ours knows all.
    fn dismiss_predecessors(&mut self, now: Moment) {
        let is_told = self.keep.news.is_empty() && !self.keep.is_ignorant;
        if self.keep.may_dismiss && is_told {
            for keeper in std::mem::take(&mut self.keep.predecessors) {
                self.dismiss(&keeper);
            }
            self.leave_former_place(now);
        }
    }

    /// The orderly end: nothing is to be kept any more.
    pub(super) fn dismiss_keepers(&mut self) {
        for keeper in self.keep.running.take().into_iter().chain(std::mem::take(&mut self.keep.predecessors))
        {
            self.dismiss(&keeper);
        }
    }

    fn dismiss(&self, keeper: &Keeper) {
        // It may have ended by itself. One that is not told sees its door removed, and ends for that.
        if let Err(error) = passing::send(&keeper.channel, &Line::Quit.to_string(), &[], Wait::No) {
            debug!("cannot dismiss the keeper (pid {}): {error}", keeper.identity.pid);
        }
        self.remove_door(keeper);
    }
}

fn key_of(socket: &SocketKey) -> Key {
    Key::Socket(Box::new((socket.program.clone(), socket.url.clone())))
}

fn ward(config: &ProgramConfig, main: Identity) -> Ward {
    let kill = match config.killmode {
        KillMode::Tree => Reach::Tree,
        KillMode::Process if !config.killasgroup => Reach::Process,
        KillMode::Group | KillMode::Process => Reach::Group,
    };
    let stop = if config.stopasgroup { Reach::Group } else { Reach::Process };
    let (pid, start_time) = (Pid::from_raw(main.pid), main.start_time);
    Ward { pid, start_time, signal: config.stopsignal.0, stop, kill }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        config::{GroupConfig, GroupKind},
        process::test_defaults,
        supervisor::Supervisor,
    };

    fn id() -> ProcessId {
        let processes = vec![Arc::new(test_defaults("x"))];
        let group = GroupConfig { name: "x".to_owned(), priority: 1, kind: GroupKind::Program, processes };
        Supervisor::new().add_group(Arc::new(group)).unwrap()[0]
    }

    #[test]
    fn a_new_child_waits_for_others_only_among_a_crowd_and_not_for_long() {
        let identity = Identity { pid: 7, start_time: 9 };
        let mut keep = Keep::default();
        let now = crate::clock::now();
        assert!(!keep.may_wait(true, now), "there is nothing to tell");
        keep.push(News::Forget(Key::Process(identity)));
        assert!(keep.may_wait(false, now));
        assert_eq!(keep.poll_timeout(), Some(now.mono + LAZY));
        let later = now.after(CROWDED / 2);
        keep.push(News::Child(id(), identity, None));
        assert!(keep.may_wait(true, later));
        assert_eq!(keep.poll_timeout(), Some(now.mono + CROWDED), "since the first of them");
        assert!(!keep.may_wait(false, later), "nobody else is to be replaced");
        assert!(keep.may_wait(true, later));
        assert!(!keep.may_wait(true, later.after(CROWDED)));
        keep.news.extend((0..MANY_NEWS).map(|_| News::Forget(Key::Process(identity))));
        assert!(!keep.may_wait(true, later), "a message is full");
    }
}
