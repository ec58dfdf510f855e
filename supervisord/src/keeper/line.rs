//! What the daemon says to its keeper: a line of text for each thing.

use std::fmt;

use crate::os::Pid;

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

/// What the daemon says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// A program runs.
    Guard(Ward),
    /// It was reaped.
    Forget(Pid),
    /// Another keeper has taken over: end, and signal nobody.
    Quit,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Guard(Ward { pid, start_time, signal, stop, kill }) => {
                writeln!(f, "guard {pid} {start_time} {signal} {} {}", stop.name(), kill.name())
            }
            Self::Forget(pid) => writeln!(f, "forget {pid}"),
            Self::Quit => writeln!(f, "quit"),
        }
    }
}

impl Line {
    /// What a line means, if anything.
    pub fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let pid = |word: &str| word.parse().ok().filter(|pid| *pid > 1).map(Pid::from_raw);
        match *words.as_slice() {
            ["guard", number, start_time, signal, stop, kill] => Some(Self::Guard(Ward {
                pid: pid(number)?,
                start_time: start_time.parse().ok()?,
                signal: signal.parse().ok()?,
                stop: Reach::parse(stop)?,
                kill: Reach::parse(kill)?,
            })),
            ["forget", number] => pid(number).map(Self::Forget),
            ["quit"] => Some(Self::Quit),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_they_were_written() {
        let ward = |stop, kill| Ward { pid: Pid::from_raw(7), start_time: 9, signal: 15, stop, kill };
        for line in [
            Line::Guard(ward(Reach::Process, Reach::Tree)),
            Line::Guard(ward(Reach::Group, Reach::Group)),
            Line::Forget(Pid::from_raw(7)),
            Line::Quit,
        ] {
            assert_eq!(Line::parse(&line.to_string()), Some(line));
        }
    }

    #[test]
    fn lines_that_would_mean_many_processes_mean_nothing() {
        for line in ["", "guard 1 1 15 process tree", "forget -1", "forget 0", "guard 7 9 15 all tree"] {
            assert_eq!(Line::parse(line), None, "{line}");
        }
    }
}
