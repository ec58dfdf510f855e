//! What `/proc` tells about processes: which are alive, who belongs to whom, what they cost.

use std::{fs, path::PathBuf, sync::OnceLock, time::Duration};

/// A process that has not ended (a zombie has).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: i32,
    /// Its parent.
    pub ppid: i32,
    /// When it started, in clock ticks since boot: with the pid this names one process for ever.
    pub started: u64,
    /// Its command line, words joined by blanks.
    pub command: String,
}

impl Process {
    /// The process of an entry.
    fn of(entry: &Entry) -> Self {
        let Entry { pid, ppid, started, .. } = *entry;
        Self { pid, ppid, started, command: command(pid) }
    }

    /// Whether it is a daemon's keeper.
    pub fn is_keeper(&self) -> bool {
        self.command.starts_with("supervisor-keeper ")
    }

    /// Whether it is still this process, and alive.
    pub fn lives(&self) -> bool {
        Entry::of(self.pid).is_some_and(|entry| entry.started == self.started && entry.is_alive())
    }
}

/// What a single look at `/proc/PID/stat` tells.
#[derive(Debug, Clone, Copy)]
struct Entry {
    pid: i32,
    ppid: i32,
    state: u8,
    started: u64,
}

impl Entry {
    fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = after_command(&stat)?;
        let state = *fields.next()?.as_bytes().first()?;
        let ppid = fields.next()?.parse().ok()?;
        let started = fields.nth(22 - 5)?.parse().ok()?;
        Some(Self { pid, ppid, state, started })
    }

    fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X')
    }
}

/// The fields of a `/proc/PID/stat` from the third one on, which is the first behind the command.
fn after_command(stat: &str) -> Option<std::str::Split<'_, char>> {
    // The command may hold anything, also parentheses.
    let end = stat.rfind(')')?;
    Some(stat.get(end + 2..)?.split(' '))
}

/// One field of `/proc/PID/stat` after the command, counted as in proc(5): 3 = state.
fn stat(pid: i32, field: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    after_command(&stat)?.nth(field - 3).map(str::to_owned)
}

/// How long ago `pid` started.
pub fn age(pid: i32) -> Duration {
    let uptime = fs::read_to_string("/proc/uptime").expect("Linux");
    let uptime: f64 = uptime.split(' ').next().and_then(|text| text.parse().ok()).expect("seconds");
    let started = Entry::of(pid).map_or(0, |entry| entry.started);
    // Clock ticks of 10 ms.
    Duration::from_secs_f64(uptime).saturating_sub(Duration::from_millis(10 * started))
}

/// Whether `pid` exists and is no zombie.
pub fn is_alive(pid: i32) -> bool {
    Entry::of(pid).is_some_and(|entry| entry.is_alive())
}

/// Whether `pid` has ended and waits to be reaped.
pub fn is_zombie(pid: i32) -> bool {
    Entry::of(pid).is_some_and(|entry| entry.state == b'Z')
}

/// Whether SIGSTOP holds `pid`.
pub fn is_stopped(pid: i32) -> bool {
    Entry::of(pid).is_some_and(|entry| entry.state == b'T')
}

/// All pids.
pub fn all() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// All processes of the machine, each looked at once: waiting tests do this often.
pub struct Table(Vec<Entry>);

impl Table {
    /// How it is now.
    pub fn read() -> Self {
        Self(all().into_iter().filter_map(Entry::of).collect())
    }

    /// Those that may be of a test of this program: all that are as young as itself, zombies excepted. Whose descendants
    /// they are says less, for parents end while this is read.
    fn young(&self) -> impl Iterator<Item = &Entry> {
        static START: OnceLock<u64> = OnceLock::new();
        let start = *START.get_or_init(|| Entry::of(own_pid()).expect("this process exists").started);
        self.0.iter().filter(move |entry| entry.started >= start && entry.is_alive())
    }

    /// Those whose environment holds `variable` (`NAME=value`).
    pub fn with_variable(&self, variable: &str) -> Vec<Process> {
        self.young().filter(|entry| has_variable(entry.pid, variable)).map(Process::of).collect()
    }

    /// Keepers, of all tests.
    pub fn keepers(&self) -> impl Iterator<Item = Process> {
        self.young().map(Process::of).filter(Process::is_keeper)
    }

    /// Everything below `pid`, zombies included.
    fn below(&self, pid: i32) -> Vec<Entry> {
        let mut found: Vec<Entry> = Vec::new();
        let mut parents = vec![pid];
        while let Some(ancestor) = parents.pop() {
            let children = self.0.iter().filter(|entry| entry.ppid == ancestor);
            parents.extend(children.clone().map(|entry| entry.pid));
            found.extend(children);
        }
        found
    }

    /// Everything below `pid`, zombies excepted.
    pub fn descendants(&self, pid: i32) -> Vec<Process> {
        self.below(pid).iter().filter(|entry| entry.is_alive()).map(Process::of).collect()
    }
}

fn own_pid() -> i32 {
    i32::try_from(std::process::id()).expect("pids are positive")
}

/// Children of `pid`, zombies included.
pub fn children(pid: i32) -> Vec<i32> {
    Table::read().0.iter().filter(|entry| entry.ppid == pid).map(|entry| entry.pid).collect()
}

/// Everything below `pid`, zombies excepted.
pub fn descendants(pid: i32) -> Vec<Process> {
    Table::read().descendants(pid)
}

/// Whether the environment of `pid` holds `variable` (`NAME=value`).
fn has_variable(pid: i32, variable: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|b| *b == 0).any(|pair| pair == variable.as_bytes())
}

/// Command line of `pid`, words joined by blanks; empty when it has gone.
pub fn command(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = bytes.split(|b| *b == 0).filter(|word| !word.is_empty()).collect();
    words.iter().map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ")
}

/// Processor time that `pid` has used, in clock ticks of 10 ms.
pub fn cpu_ticks(pid: i32) -> u64 {
    let ticks = |field| stat(pid, field).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
    ticks(14) + ticks(15)
}

/// How often `pid`'s main thread went to sleep by itself.
pub fn voluntary_switches(pid: i32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// What the open descriptors of `pid` refer to.
pub fn descriptors(pid: i32) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok()).collect()
}

/// Bytes that `pid` has written to anything.
pub fn written(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).expect("it lives");
    let number = text.lines().find_map(|line| line.strip_prefix("wchar: ")?.parse().ok());
    number.expect("a kernel that counts")
}

/// Whether the kernel tells how a process ended that another has reaped.
pub fn kernel_tells_exits() -> bool {
    is_kernel((6, 15))
}

/// Whether the kernel has this version or a later one.
pub fn is_kernel(version: (u32, u32)) -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("Linux");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|word| word.parse().ok());
    (numbers.next(), numbers.next()) >= (Some(version.0), Some(version.1))
}
