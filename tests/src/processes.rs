//! What `/proc` tells about processes: which are alive, who belongs to whom, what they cost.

use std::{fs, path::PathBuf, time::Duration};

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
    /// What `/proc` tells of `pid`.
    fn of(pid: i32) -> Self {
        Self { pid, ppid: parent(pid).unwrap_or(0), started: started(pid), command: command(pid) }
    }

    /// Whether it is a daemon's keeper.
    pub fn is_keeper(&self) -> bool {
        self.command.starts_with("supervisor-keeper ")
    }

    /// Whether it is still this process, and alive.
    pub fn lives(&self) -> bool {
        is_alive(self.pid) && started(self.pid) == self.started
    }
}

fn started(pid: i32) -> u64 {
    stat(pid, 22).and_then(|ticks| ticks.parse().ok()).unwrap_or(0)
}

/// How long ago `pid` started.
pub fn age(pid: i32) -> Duration {
    let uptime = fs::read_to_string("/proc/uptime").expect("Linux");
    let uptime: f64 = uptime.split(' ').next().and_then(|text| text.parse().ok()).expect("seconds");
    // Clock ticks of 10 ms.
    Duration::from_secs_f64(uptime).saturating_sub(Duration::from_millis(10 * started(pid)))
}

/// One field of `/proc/PID/stat` after the command, counted as in proc(5): 3 = state.
fn stat(pid: i32, field: usize) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split_whitespace().nth(field - 3).map(str::to_owned)
}

/// Whether `pid` exists and is no zombie.
pub fn is_alive(pid: i32) -> bool {
    stat(pid, 3).is_some_and(|state| !matches!(state.as_str(), "Z" | "X"))
}

/// Whether `pid` has ended and waits to be reaped.
pub fn is_zombie(pid: i32) -> bool {
    stat(pid, 3).is_some_and(|state| state == "Z")
}

/// Whether SIGSTOP holds `pid`.
pub fn is_stopped(pid: i32) -> bool {
    stat(pid, 3).is_some_and(|state| state == "T")
}

/// Parent of `pid`.
pub fn parent(pid: i32) -> Option<i32> {
    stat(pid, 4)?.parse().ok()
}

/// All pids.
pub fn all() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// All processes that have not ended.
pub fn living() -> impl Iterator<Item = Process> {
    all().into_iter().filter(|pid| is_alive(*pid)).map(Process::of)
}

/// Children of `pid`, zombies included.
pub fn children(pid: i32) -> Vec<i32> {
    all().into_iter().filter(|child| parent(*child) == Some(pid)).collect()
}

/// Everything below `pid`, zombies excepted.
pub fn descendants(pid: i32) -> Vec<Process> {
    let parents: Vec<(i32, i32)> = all().into_iter().filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut found = vec![pid];
    let mut at = 0;
    while let Some(ancestor) = found.get(at).copied() {
        found.extend(parents.iter().filter(|(_, parent)| *parent == ancestor).map(|(pid, _)| *pid));
        at += 1;
    }
    let living = found.into_iter().skip(1).filter(|pid| is_alive(*pid));
    living.map(Process::of).collect()
}

/// Living processes whose environment holds `variable` (`NAME=value`).
pub fn with_variable(variable: &str) -> Vec<Process> {
    let mut found = Vec::new();
    for pid in all() {
        let Ok(environment) = fs::read(format!("/proc/{pid}/environ")) else { continue };
        if environment.split(|b| *b == 0).any(|pair| pair == variable.as_bytes()) && is_alive(pid) {
            found.push(Process::of(pid));
        }
    }
    found
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
