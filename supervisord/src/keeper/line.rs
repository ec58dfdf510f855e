//! What a daemon and its keeper say to each other: a line of text for each thing, some with descriptors.

use std::fmt;

use crate::{
    journal::record::{Identity, PipeId},
    os::Pid,
};

/// Which processes of a program a signal is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The main process.
    Process,
    /// Its process group.
    Group,
    /// That, and its descendants.
    Tree,
}

impl Reach {
    fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Group => "group",
            Self::Tree => "tree",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Process, Self::Group, Self::Tree].into_iter().find(|reach| reach.name() == name)
    }
}

/// How a program is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ward {
    /// Its main process, and its process group.
    pub pid: Pid,
    /// When that started, in clock ticks since boot.
    pub start_time: u64,
    /// Its stop signal.
    pub signal: i32,
    /// Who gets that.
    pub stop: Reach,
    /// Who gets SIGKILL.
    pub kill: Reach,
}

/// Names a descriptor that is kept.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// The handle of a main process: by it the kernel tells the exit status of one that was reaped by others.
    Process(Identity),
    /// The read end of a pipe that programs write to.
    Pipe(PipeId),
    /// What a FastCGI program listens on: program and URL.
    Socket(Box<(String, String)>),
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(Identity { pid, start_time }) => write!(f, "process {pid} {start_time}"),
            Self::Pipe(PipeId(inode)) => write!(f, "pipe {inode}"),
            // As JSON, for both may contain anything.
            Self::Socket(names) => {
                write!(f, "socket {}", serde_json::to_string(names).map_err(|_| fmt::Error)?)
            }
        }
    }
}

impl Key {
    fn parse(text: &str) -> Option<Self> {
        match text.split_once(' ')? {
            ("process", words) => {
                let (pid, start_time) = words.split_once(' ')?;
                let identity = Identity { pid: pid.parse().ok()?, start_time: start_time.parse().ok()? };
                Some(Self::Process(identity))
            }
            ("pipe", inode) => inode.parse().ok().map(|inode| Self::Pipe(PipeId(inode))),
            ("socket", names) => serde_json::from_str(names).ok().map(Self::Socket),
            _ => None,
        }
    }
}

/// What is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// By the daemon: a program runs that is to end with it.
    Guard(Ward),
    /// By the daemon: it was reaped.
    Unguard(Pid),
    /// By the daemon, with a descriptor: keep it.
    Hold(Key),
    /// By the daemon: close it.
    Forget(Key),
    /// By the daemon, with the two descriptors of a door: there you can be found when it is gone.
    Door,
    /// By the daemon: say [`Line::End`] when all before this is done.
    Sync,
    /// By the next daemon: hand out everything.
    Give,
    /// By the keeper, with a descriptor: this was kept.
    Held(Key),
    /// By the keeper: that is all.
    End,
    /// By a daemon: another keeper has taken over. End, and signal nobody.
    Quit,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guard(Ward { pid, start_time, signal, stop, kill }) => {
                writeln!(f, "guard {pid} {start_time} {signal} {} {}", stop.name(), kill.name())
            }
            Self::Unguard(pid) => writeln!(f, "unguard {pid}"),
            Self::Hold(key) => writeln!(f, "hold {key}"),
            Self::Forget(key) => writeln!(f, "forget {key}"),
            Self::Door => writeln!(f, "door"),
            Self::Sync => writeln!(f, "sync"),
            Self::Give => writeln!(f, "give"),
            Self::Held(key) => writeln!(f, "held {key}"),
            Self::End => writeln!(f, "end"),
            Self::Quit => writeln!(f, "quit"),
        }
    }
}

impl Line {
    /// What a line means, if anything.
    pub fn parse(line: &str) -> Option<Self> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match (verb, rest) {
            ("guard", words) => parse_ward(words).map(Self::Guard),
            ("unguard", pid) => parse_pid(pid).map(Self::Unguard),
            ("hold", key) => Key::parse(key).map(Self::Hold),
            ("forget", key) => Key::parse(key).map(Self::Forget),
            ("held", key) => Key::parse(key).map(Self::Held),
            ("door", "") => Some(Self::Door),
            ("sync", "") => Some(Self::Sync),
            ("give", "") => Some(Self::Give),
            ("end", "") => Some(Self::End),
            ("quit", "") => Some(Self::Quit),
            _ => None,
        }
    }
}

fn parse_ward(words: &str) -> Option<Ward> {
    let words: Vec<&str> = words.split(' ').collect();
    let [pid, start_time, signal, stop, kill] = *words.as_slice() else { return None };
    Some(Ward {
        pid: parse_pid(pid)?,
        start_time: start_time.parse().ok()?,
        signal: signal.parse().ok()?,
        stop: Reach::parse(stop)?,
        kill: Reach::parse(kill)?,
    })
}

/// Of a single process: not 0, 1 or less, which mean many or all.
fn parse_pid(word: &str) -> Option<Pid> {
    word.parse().ok().filter(|pid| *pid > 1).map(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_written() {
        let ward = |stop, kill| Ward { pid: Pid::from_raw(7), start_time: 9, signal: 15, stop, kill };
        let process = Key::Process(Identity { pid: 7, start_time: 9 });
        let socket = Key::Socket(Box::new(("a \"b\"\n".to_owned(), "unix:///x y".to_owned())));
        for line in [
            Line::Guard(ward(Reach::Process, Reach::Tree)),
            Line::Guard(ward(Reach::Group, Reach::Group)),
            Line::Unguard(Pid::from_raw(7)),
            Line::Hold(process.clone()),
            Line::Hold(socket.clone()),
            Line::Forget(Key::Pipe(PipeId(5))),
            Line::Held(process),
            Line::Held(socket),
            Line::Door,
            Line::Sync,
            Line::Give,
            Line::End,
            Line::Quit,
        ] {
            let text = line.to_string();
            assert_eq!(text.lines().map(Line::parse).collect::<Vec<_>>(), [Some(line)], "{text}");
        }
    }

    #[test]
    fn lines_that_would_mean_many_processes_mean_nothing() {
        for line in
            ["", "guard 1 1 15 process tree", "unguard -1", "unguard 0", "guard 7 9 15 all tree", "hold x"]
        {
            assert_eq!(Line::parse(line), None, "{line}");
        }
    }
}
