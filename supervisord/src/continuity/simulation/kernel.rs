//! The simulated machine below the daemon: processes whose pids are soon used again, pipes, signals, parents that reap
//! late, a disk that is full or torn, boots.

use std::fmt;

use super::dice::Dice;
use crate::{
    journal::{
        condition::Aside,
        record::{Identity, PipeId, Pipes},
    },
    process::Exit,
};

/// Group and name of a supervised process.
pub(super) type Key = (String, String);

/// First pid and number of pids: few, so that they are soon used again.
const PIDS: (i32, i32) = (100, 24);

/// What a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// The main process of a program.
    Main(Key),
    /// What a main process has left behind in its group.
    Leftover(Key),
    /// Somebody else's.
    Stranger,
}

/// Where a process of the machine is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Being {
    Alive,
    /// Will end in this way before long.
    Dying(Exit),
    /// Has ended; its parent has not reaped it, so that its pid is its own.
    Zombie(Exit),
    Gone(Exit),
}

/// A process of the machine.
#[derive(Debug, Clone)]
pub(super) struct Proc {
    pub(super) identity: Identity,
    pub(super) kind: Kind,
    group: i32,
    pipes: Pipes,
    /// Whether the living daemon is its parent.
    is_ours: bool,
    /// Whether it ends on its stop signal.
    obeys: bool,
    /// Whether a daemon has forgotten it because it could not be signalled. One that finds it in the journal may go on.
    is_given_up: bool,
    being: Being,
}

impl Proc {
    /// Whether it has a pid: it lives or was not reaped.
    fn is_there(&self) -> bool {
        match self.being {
            Being::Alive | Being::Dying(_) | Being::Zombie(_) => true,
            Being::Gone(_) => false,
        }
    }

    /// Whether it runs.
    pub(super) fn lives(&self) -> bool {
        match self.being {
            Being::Alive | Being::Dying(_) => true,
            Being::Zombie(_) | Being::Gone(_) => false,
        }
    }

    fn key(&self) -> Option<&Key> {
        match &self.kind {
            Kind::Main(key) | Kind::Leftover(key) => Some(key),
            Kind::Stranger => None,
        }
    }
}

impl fmt::Display for Proc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} {:?} pid {} since {}",
            self.kind, self.being, self.identity.pid, self.identity.start_time
        )
    }
}

/// A handle of a process, which is never that of a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Handle(usize);

/// The machine.
#[derive(Debug)]
pub(super) struct Kernel {
    boot: u32,
    ticks: u64,
    last_pid: i32,
    last_pipe: u64,
    procs: Vec<Proc>,
    /// Whether handles tell how a process that was reaped has ended.
    tells_exits: bool,
    /// Whether programs end only when they are told to.
    pub(super) is_calm: bool,
}

impl Kernel {
    /// A machine on which nothing of ours runs yet.
    pub(super) fn new(dice: &mut Dice) -> Self {
        Self {
            boot: 1,
            ticks: 1000,
            last_pid: PIDS.0,
            last_pipe: 0,
            procs: Vec::new(),
            tells_exits: dice.is(1, 2),
            is_calm: false,
        }
    }

    /// The name of this boot.
    pub(super) fn boot(&self) -> String {
        format!("boot-{}", self.boot)
    }

    /// A process that cannot be signalled is nobody's any more, unless the next daemon finds it written down.
    pub(super) fn give_up(&mut self, identity: Identity) {
        for proc in self.procs.iter_mut().filter(|proc| proc.identity == identity) {
            proc.is_given_up = true;
        }
    }

    /// Everything ends.
    pub(super) fn reboot(&mut self) {
        self.boot += 1;
        self.procs.clear();
        self.ticks = 1000;
    }

    /// What happens by itself, between any two steps of the daemon.
    pub(super) fn stir(&mut self, dice: &mut Dice) {
        let (mut ended, is_calm) = (Vec::new(), self.is_calm);
        for proc in &mut self.procs {
            match proc.being {
                Being::Dying(exit) if dice.is(1, 2) => {
                    proc.being = if proc.is_ours { Being::Zombie(exit) } else { Being::Gone(exit) };
                    // Some init processes take their time.
                    if !proc.is_ours && dice.is(1, 3) {
                        proc.being = Being::Zombie(exit);
                    }
                    ended.push(proc.clone());
                }
                Being::Zombie(exit) if !proc.is_ours && dice.is(1, 3) => proc.being = Being::Gone(exit),
                Being::Alive if proc.kind == Kind::Stranger && dice.is(1, 20) => {
                    proc.being = Being::Gone(Exit::Code(0));
                }
                Being::Alive if !is_calm && proc.kind != Kind::Stranger && dice.is(1, 40) => {
                    proc.being = Being::Dying(random_exit(dice));
                }
                Being::Alive | Being::Dying(_) | Being::Zombie(_) | Being::Gone(_) => {}
            }
        }
        for dead in ended {
            // Of programs that somebody else reaps nothing is left behind here: whose that is only /proc tells.
            if let (Kind::Main(key), true) = (dead.kind, dead.is_ours)
                && dice.is(1, 8)
            {
                self.bear(Kind::Leftover(key), Pipes::default(), Some(dead.group), dice);
            }
        }
        if dice.is(1, 6) && self.there().count() < PIDS.1 as usize / 2 {
            self.bear(Kind::Stranger, Pipes::default(), None, dice);
        }
    }

    /// Makes the pipes of a child.
    pub(super) fn pipes(&mut self) -> Pipes {
        let mut pipe = || {
            self.last_pipe += 1;
            Some(PipeId(self.last_pipe))
        };
        Pipes { stdin: pipe(), stdout: pipe(), stderr: pipe() }
    }

    /// Makes a child of the daemon.
    pub(super) fn spawn(&mut self, key: Key, pipes: Pipes, dice: &mut Dice) -> Identity {
        self.bear(Kind::Main(key), pipes, None, dice)
    }

    fn bear(&mut self, kind: Kind, pipes: Pipes, group: Option<i32>, dice: &mut Dice) -> Identity {
        let next = |pid: i32| PIDS.0 + (pid + 1 - PIDS.0) % PIDS.1;
        let is_taken = |pid| self.there().any(|proc| proc.identity.pid == pid || proc.group == pid);
        let mut pid = next(self.last_pid);
        while is_taken(pid) {
            pid = next(pid);
        }
        self.last_pid = pid;
        self.ticks += 1;
        let identity = Identity { pid: self.last_pid, start_time: self.ticks };
        let is_ours = kind != Kind::Stranger;
        let group = group.unwrap_or(identity.pid);
        let obeys = dice.is(3, 4);
        self.procs.push(Proc {
            identity,
            kind,
            group,
            pipes,
            is_ours,
            obeys,
            is_given_up: false,
            being: Being::Alive,
        });
        identity
    }

    fn there(&self) -> impl Iterator<Item = &Proc> {
        self.procs.iter().filter(|proc| proc.is_there())
    }

    /// The daemon is dead: its children are another's, who reaps those that have ended.
    pub(super) fn orphan(&mut self) {
        for proc in &mut self.procs {
            proc.is_ours = false;
        }
    }

    /// A child that has ended; from now on its pid is anybody's.
    pub(super) fn reap(&mut self) -> Option<(i32, Exit)> {
        self.procs.iter_mut().find_map(|proc| match proc.being {
            Being::Zombie(exit) if proc.is_ours => {
                proc.being = Being::Gone(exit);
                Some((proc.identity.pid, exit))
            }
            Being::Alive | Being::Dying(_) | Being::Zombie(_) | Being::Gone(_) => None,
        })
    }

    /// A handle of whatever process has this pid now.
    pub(super) fn open(&self, pid: i32) -> Option<Handle> {
        self.procs.iter().position(|proc| proc.is_there() && proc.identity.pid == pid).map(Handle)
    }

    /// Who has this pid now.
    pub(super) fn seen(&self, pid: i32) -> Option<Identity> {
        self.there().find(|proc| proc.identity.pid == pid).map(|proc| proc.identity)
    }

    /// How the process of a handle has ended, if it has.
    pub(super) fn exit_of(&self, handle: Handle) -> Option<Exit> {
        match self.procs[handle.0].being {
            Being::Alive | Being::Dying(_) => None,
            Being::Zombie(exit) => Some(exit),
            Being::Gone(exit) => Some(if self.tells_exits { exit } else { Exit::Unknown }),
        }
    }

    /// The living leader that holds these pipes.
    pub(super) fn holder(&self, pipes: Pipes) -> Option<Identity> {
        let mut holders = self.procs.iter().filter(|proc| proc.lives() && proc.pipes == pipes);
        holders.find(|proc| proc.group == proc.identity.pid).map(|proc| proc.identity)
    }

    /// Whether a process group has members, dead ones included.
    pub(super) fn has_group(&self, group: i32) -> bool {
        self.there().any(|proc| proc.group == group)
    }

    /// Sends a signal meant for the process of `key`, or for its group. False if nobody is there.
    pub(super) fn kill(&mut self, pid: i32, signal: i32, group: bool, key: &Key, dice: &mut Dice) -> bool {
        let is_meant = |proc: &&mut Proc| {
            proc.is_there() && if group { proc.group == pid } else { proc.identity.pid == pid }
        };
        let mut reached = false;
        for proc in self.procs.iter_mut().filter(is_meant) {
            assert_eq!(proc.key(), Some(key), "signal {signal} to a stranger: {proc}");
            deliver(proc, signal, dice);
            reached = true;
        }
        reached
    }

    /// Sends a signal to the process of a handle, or to the group that it leads.
    pub(super) fn kill_handle(
        &mut self,
        handle: Handle,
        signal: i32,
        group: bool,
        key: &Key,
        dice: &mut Dice,
    ) -> bool {
        let proc = &mut self.procs[handle.0];
        assert_eq!(proc.key(), Some(key), "signal {signal} by a handle to a stranger: {proc}");
        if !proc.is_there() {
            return false;
        }
        let pid = proc.identity.pid;
        if group {
            return self.kill(pid, signal, true, key, dice);
        }
        deliver(proc, signal, dice);
        true
    }

    /// The main processes that run and were not given up.
    pub(super) fn mains(&self) -> impl Iterator<Item = (&Key, &Proc)> {
        self.procs.iter().filter(|proc| proc.lives() && !proc.is_given_up).filter_map(|proc| {
            match &proc.kind {
                Kind::Main(key) => Some((key, proc)),
                Kind::Leftover(_) | Kind::Stranger => None,
            }
        })
    }
}

fn deliver(proc: &mut Proc, signal: i32, dice: &mut Dice) {
    let ends = signal == libc::SIGKILL || (proc.obeys && signal != libc::SIGHUP);
    if proc.being == Being::Alive && ends {
        let by_signal = Exit::Signal { signal, core_dumped: false };
        proc.being =
            Being::Dying(if signal != libc::SIGKILL && dice.is(1, 2) { Exit::Code(0) } else { by_signal });
    }
}

fn random_exit(dice: &mut Dice) -> Exit {
    match dice.below(3) {
        0 => Exit::Code(0),
        1 => Exit::Code(1),
        _ => Exit::Signal { signal: libc::SIGSEGV, core_dumped: false },
    }
}

/// The file of the journal, and the space on its disk.
#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) text: Vec<u8>,
    pub(super) is_full: bool,
    /// Whether space can be set aside.
    can_set_aside: bool,
    /// Bytes that are set aside for the present file, and for the next one.
    aside: [u64; 2],
}

impl Disk {
    /// An empty one.
    pub(super) fn new(dice: &mut Dice) -> Self {
        Self { can_set_aside: dice.is(3, 4), ..Self::default() }
    }

    /// Whether so many bytes can be appended.
    pub(super) fn takes(&self, bytes: usize) -> bool {
        !self.is_full || (self.text.len() + bytes) as u64 <= self.aside[0]
    }

    /// Puts another file in the place of the journal: a new one, or what was set aside for that, which the former one
    /// then is. Returns whether there is space for it.
    pub(super) fn replace(&mut self, bytes: Vec<u8>) -> bool {
        if self.is_full && bytes.len() as u64 > self.aside[1] {
            return false;
        }
        self.text = bytes;
        if self.is_full {
            self.aside.reverse();
        } else {
            self.aside[0] = 0;
        }
        true
    }

    /// Sets space for `bytes` aside for either file.
    pub(super) fn set_aside(&mut self, bytes: u64) -> Aside {
        if !self.can_set_aside {
            return Aside::Impossible;
        }
        if !self.is_full {
            self.aside = self.aside.map(|aside| aside.max(bytes));
        }
        if self.aside.iter().all(|aside| *aside >= bytes) {
            Aside::Complete(bytes)
        } else {
            Aside::Short(self.aside[0], "full".to_owned())
        }
    }

    /// Whether everything that is to be written can be, for as long as the disk is full: there was space once.
    pub(super) fn is_prepared(&self) -> bool {
        self.aside.iter().all(|aside| *aside > 0)
    }

    /// The machine lost its power: what was written last may be lost.
    pub(super) fn lose_tail(&mut self, dice: &mut Dice) {
        if dice.is(1, 2) {
            let kept = dice.below(self.text.len() + 1);
            self.text.truncate(kept);
        }
    }
}
