//! The scripted child of the end-to-end tests.
//!
//! Its words are steps, performed in order; a `{ … }` after a step is the script of a child. After the last step it
//! exits with 0. It leaves its signals as it found them unless a step says otherwise.
//!
//! | step | does |
//! |---|---|
//! | `record=FILE` | appends the line `PID MONOTONIC_NANOSECONDS` in one write |
//! | `count=FILE:N:STATUS` | exits with STATUS in its first N runs; FILE holds a byte for each run |
//! | `dump=FILE` | writes environment, descriptors, ids, limits and so on as JSON, complete when FILE exists |
//! | `print=TEXT`, `eprint=TEXT` | a line on stdout, stderr |
//! | `lines=N`, `lines-each=N` | numbered lines: in big writes, in one write each |
//! | `lines-paced=N:MS` | numbered lines, one every MS milliseconds |
//! | `lines-wild=SEED` | for ever: bursts of numbered lines of 100 bytes, as fast as they are read, and short pauses |
//! | `lines-wild=SEED:N`, `lines-wild=SEED:N:MS` | the same, N lines; pauses of less than MS milliseconds, none with 0 |
//! | `flood=BYTES` | so many bytes without a line end |
//! | `copy=FILE` | the bytes of FILE on stdout |
//! | `close-stdout`, `close-stderr` | closes the descriptor |
//! | `non-dumpable` | hides its descriptors and its memory from all but root, as a program that was given privileges |
//! | `ignore=TERM,HUP` | these signals stay pending for ever |
//! | `wait-signal=TERM,INT` | until one of them arrives; prints its name on stdout |
//! | `wait-line` | until a line arrives on stdin; prints it on stdout |
//! | `cat` | copies stdin to stdout, line by line, until its end |
//! | `listen=FILE` | is an event listener: appends each event to FILE as a line of JSON and answers OK |
//! | `gate=FIFO` | until somebody opens FIFO for writing |
//! | `claim=NAME` | listens on the abstract unix socket NAME; exits with 98 when it is taken |
//! | `accept` | for ever: takes connections from descriptor 0, writes its pid and a line end to each, and closes it |
//! | `sleep`, `sleep=MS` | for ever, or so many milliseconds |
//! | `spawn { … }` | a child in the same process group |
//! | `daemonize { … }` | a grandchild in a session of its own, its parent gone; stdout and stderr stay open |
//! | `refuse=NAME,…` | has the kernel refuse these system calls to it and its children with EPERM |
//! | `become PROGRAM WORD…` | executes the program in its place |
//! | `kill=SEGV` | sends itself the signal |
//! | `exit=STATUS` | exits |
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the bans are for the product: a scripted child sleeps and starts children as any program does"
)]

use std::{
    collections::BTreeMap,
    error::Error,
    fs::{self, File, OpenOptions},
    io::{self, BufRead, Read as _, Write},
    os::{
        linux::net::SocketAddrExt,
        unix::{
            net::{SocketAddr, UnixListener},
            process::CommandExt as _,
        },
    },
    path::Path,
    process::{Command, ExitCode},
    thread,
    time::Duration,
};

use nix::{
    sys::{
        prctl,
        signal::{SigSet, Signal, raise},
    },
    unistd,
};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match Actor::default().run(&words) {
        Ok(status) => ExitCode::from(status),
        Err(failure) => {
            eprintln!("actor: {failure}");
            ExitCode::from(97)
        }
    }
}

/// What must stay alive as long as the process.
#[derive(Default)]
struct Actor {
    claims: Vec<UnixListener>,
}

impl Actor {
    /// Performs the steps; the result is the exit status.
    fn run(&mut self, words: &[String]) -> Result<u8, Failure> {
        let mut at = 0;
        while at < words.len() {
            let (verb, value) = words[at].split_once('=').unwrap_or((&words[at], ""));
            at += 1;
            if verb == "become" {
                return Err(Command::new(&words[at]).args(&words[at + 1..]).exec().into());
            }
            let script = block(words, &mut at);
            if let Some(status) = self.step(verb, value, script)? {
                return Ok(status);
            }
        }
        Ok(0)
    }

    /// Performs one step; `Some` ends the script with this status.
    fn step(&mut self, verb: &str, value: &str, script: &[String]) -> Result<Option<u8>, Failure> {
        match verb {
            "record" => record(value)?,
            "count" => return count(value),
            "dump" => dump(value)?,
            "close-stdout" => unistd::close(1)?,
            "close-stderr" => unistd::close(2)?,
            "non-dumpable" => prctl::set_dumpable(false)?,
            "ignore" => signals(value)?.thread_block()?,
            "wait-signal" => wait_signal(value)?,
            "gate" => drop(File::open(value)?),
            "claim" => match UnixListener::bind_addr(&SocketAddr::from_abstract_name(value)?) {
                Ok(listener) => self.claims.push(listener),
                Err(error) => {
                    eprintln!("claim {value}: {error}");
                    return Ok(Some(98));
                }
            },
            "accept" => return accept(),
            "sleep" if value.is_empty() => loop {
                thread::park();
            },
            "sleep" => thread::sleep(Duration::from_millis(value.parse()?)),
            "spawn" => drop(Command::new(std::env::current_exe()?).args(script).spawn()?),
            "daemonize" => daemonize(script)?,
            "in-session" => {
                unistd::setsid()?;
                Command::new(std::env::current_exe()?).args(script).spawn()?;
            }
            "listen" => listen(value)?,
            "refuse" => refuse(value)?,
            "kill" => raise(signal(value)?)?,
            "exit" => return Ok(Some(value.parse()?)),
            _ => write(verb, value)?,
        }
        Ok(None)
    }
}

/// The words between the braces at `at`, if there are any; `at` then stands behind them.
fn block<'a>(words: &'a [String], at: &mut usize) -> &'a [String] {
    if words.get(*at).is_none_or(|word| word != "{") {
        return &[];
    }
    let start = *at + 1;
    let mut depth = 0;
    for (index, word) in words.iter().enumerate().skip(*at) {
        depth += match word.as_str() {
            "{" => 1,
            "}" => -1,
            _ => 0,
        };
        if depth == 0 {
            *at = index + 1;
            return &words[start..index];
        }
    }
    *at = words.len();
    &words[start..]
}

/// The steps that read stdin or write output.
fn write(verb: &str, value: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match verb {
        "print" => writeln!(out, "{value}")?,
        "eprint" => writeln!(io::stderr(), "{value}")?,
        "lines" => numbered(value.parse()?, 1 << 16, None)?,
        "lines-each" => numbered(value.parse()?, 0, None)?,
        "lines-paced" => {
            let (number, pace) = value.split_once(':').ok_or("lines-paced=N:MS")?;
            numbered(number.parse()?, 0, Some(Duration::from_millis(pace.parse()?)))?;
        }
        "lines-wild" => {
            let mut words = value.split(':');
            let mut next = |default| words.next().unwrap_or(default).parse::<u64>();
            let (seed, number, pause) = (next("")?, next("999999999")?, next("40")?);
            wild(seed, usize::try_from(number)?, pause)?;
        }
        "flood" => out.write_all(&vec![b'x'; value.parse()?])?,
        "copy" => out.write_all(&fs::read(value)?)?,
        "wait-line" => {
            let mut line = String::new();
            io::stdin().lock().read_line(&mut line)?;
            out.write_all(line.as_bytes())?;
        }
        "cat" => {
            for line in io::stdin().lock().lines() {
                writeln!(out, "{}", line?)?;
                out.flush()?;
            }
        }
        _ => return Err(format!("unknown step {verb:?}").into()),
    }
    Ok(out.flush()?)
}

/// Writes `line 1`, `line 2`, … straight to the descriptor, `chunk` bytes or one line at a time.
fn numbered(number: usize, chunk: usize, pace: Option<Duration>) -> Result<(), Failure> {
    let mut pending = Vec::with_capacity(chunk + 64);
    for n in 1..=number {
        writeln!(pending, "line {n}")?;
        if pending.len() >= chunk || n == number {
            write_all(&pending)?;
            pending.clear();
        }
        if let Some(pace) = pace {
            thread::sleep(pace);
        }
    }
    Ok(())
}

/// Serves the listening socket that is its standard input, of whatever kind.
fn accept() -> Result<Option<u8>, Failure> {
    loop {
        let connection = rustix::net::accept(io::stdin())?;
        let mut rest = format!("{}\n", std::process::id()).into_bytes();
        while !rest.is_empty() {
            let written = rustix::io::write(&connection, &rest)?;
            rest.drain(..written);
        }
    }
}

/// Writes lines of 100 bytes that begin with their number in nine digits, in bursts of random length; a burst is one
/// write or one write for each line, and the pause after it is shorter than `pause` milliseconds, if that is not 0.
fn wild(seed: u64, number: usize, pause: u64) -> Result<(), Failure> {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move |below: u64| {
        // xorshift64: any spread will do.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random >> 11) % below
    };
    let mut line = format!("{:09}{:x<90}\n", 0, "").into_bytes();
    let mut pending = Vec::with_capacity(400 * line.len());
    let mut n = 0;
    while n < number {
        let is_one_write = next(2) == 0;
        let burst = usize::try_from(next(if is_one_write { 400 } else { 60 }))?.min(number - n);
        for _ in 0..burst {
            n += 1;
            // Formatting each would take most of the time.
            count_up(&mut line[..9]);
            pending.extend_from_slice(&line);
            if !is_one_write {
                write_all(&pending)?;
                pending.clear();
            }
        }
        write_all(&pending)?;
        pending.clear();
        if pause > 0 {
            thread::sleep(Duration::from_millis(next(pause)));
        }
    }
    Ok(())
}

/// Adds one to a decimal number.
fn count_up(digits: &mut [u8]) {
    for digit in digits.iter_mut().rev() {
        if *digit < b'9' {
            *digit += 1;
            return;
        }
        *digit = b'0';
    }
}

/// Writes to stdout without the line buffer of the standard library.
fn write_all(mut bytes: &[u8]) -> Result<(), Failure> {
    while !bytes.is_empty() {
        let written = rustix::io::write(io::stdout(), bytes)?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// Installs a seccomp filter; source: seccomp(2).
#[allow(unsafe_code, reason = "there is no safe wrapper for a filter program")]
fn refuse(names: &str) -> Result<(), Failure> {
    let statement = |code, k| libc::sock_filter { code, jt: 0, jf: 0, k };
    let (load, jump, answer) = (0x20, 0x15, 0x06);
    // The number of the system call is the first field of what a filter sees.
    let mut program = vec![statement(load, 0)];
    for name in names.split(',') {
        let number = match name {
            "close_range" => libc::SYS_close_range,
            "fallocate" => libc::SYS_fallocate,
            "unshare" => libc::SYS_unshare,
            _ => return Err(format!("unknown system call {name:?}").into()),
        };
        program.push(libc::sock_filter { jf: 1, ..statement(jump, u32::try_from(number)?) });
        program.push(statement(answer, libc::SECCOMP_RET_ERRNO | libc::EPERM.cast_unsigned()));
    }
    program.push(statement(answer, libc::SECCOMP_RET_ALLOW));
    let filter = libc::sock_fprog { len: u16::try_from(program.len())?, filter: program.as_mut_ptr() };
    prctl::set_no_new_privs()?;
    // SAFETY: the filter is a live array of that length, which the kernel copies.
    let result = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) };
    nix::errno::Errno::result(result)?;
    Ok(())
}

fn signal(name: &str) -> Result<Signal, Failure> {
    Ok(format!("SIG{name}").parse()?)
}

fn signals(names: &str) -> Result<SigSet, Failure> {
    names.split(',').map(signal).collect()
}

fn wait_signal(names: &str) -> Result<(), Failure> {
    let set = signals(names)?;
    set.thread_block()?;
    let arrived = set.wait()?;
    write("print", arrived.as_str())
}

fn append(path: &str, bytes: &[u8]) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).open(path)?.write_all(bytes)
}

fn record(path: &str) -> Result<(), Failure> {
    let now = clock_gettime(ClockId::Monotonic);
    let line = format!("{} {}\n", std::process::id(), now.tv_sec * 1_000_000_000 + now.tv_nsec);
    Ok(append(path, line.as_bytes())?)
}

fn count(value: &str) -> Result<Option<u8>, Failure> {
    let [path, runs, status] = value.split(':').collect::<Vec<_>>()[..] else {
        return Err("count=FILE:N:STATUS".into());
    };
    append(path, b".")?;
    let run = fs::metadata(path)?.len();
    Ok((run <= runs.parse()?).then_some(status.parse()?))
}

/// The event listener protocol, until the end of stdin.
fn listen(path: &str) -> Result<(), Failure> {
    let (mut stdin, mut out) = (io::stdin().lock(), io::stdout().lock());
    loop {
        out.write_all(b"READY\n")?;
        out.flush()?;
        let mut header = String::new();
        if stdin.read_line(&mut header)? == 0 {
            return Ok(());
        }
        let length = header.trim_end().rsplit_once("len:").ok_or("a header without len")?.1.parse()?;
        let mut payload = vec![0; length];
        stdin.read_exact(&mut payload)?;
        let event = json!({"header": header, "payload": String::from_utf8_lossy(&payload)});
        append(path, format!("{event}\n").as_bytes())?;
        out.write_all(b"RESULT 2\nOK")?;
    }
}

/// Starts a grandchild in its own session and waits until its parent has gone.
fn daemonize(script: &[String]) -> Result<(), Failure> {
    let mut words = vec!["in-session".to_owned(), "{".to_owned()];
    words.extend_from_slice(script);
    words.push("}".to_owned());
    Command::new(std::env::current_exe()?).args(words).status()?;
    Ok(())
}

fn dump(path: &str) -> Result<(), Failure> {
    let status = fs::read_to_string("/proc/self/status")?;
    let field = |name: &str| -> Option<String> {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(line.split_whitespace().collect::<Vec<_>>().join(" "))
    };
    let value = json!({
        "pid": std::process::id(),
        "ppid": unistd::getppid().as_raw(),
        "pgid": unistd::getpgrp().as_raw(),
        "sid": unistd::getsid(None)?.as_raw(),
        "args": std::env::args().collect::<Vec<_>>(),
        "environment": std::env::vars().collect::<BTreeMap<_, _>>(),
        "cwd": std::env::current_dir()?,
        "descriptors": descriptors()?,
        "umask": field("Umask"),
        "uid": field("Uid"),
        "gid": field("Gid"),
        "groups": field("Groups"),
        "blocked": field("SigBlk"),
        "nofile": limit("Max open files")?,
    });
    let partial = format!("{path}.partial");
    fs::write(&partial, serde_json::to_vec_pretty(&value)?)?;
    Ok(fs::rename(partial, path)?)
}

/// Descriptor → what it refers to, without the one that lists them.
fn descriptors() -> Result<BTreeMap<String, Value>, Failure> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if let Ok(target) = fs::read_link(Path::new("/proc/self/fd").join(&name)) {
            found.insert(name, json!(target));
        }
    }
    found.retain(|_, target| !target.as_str().is_some_and(|t| t.starts_with("/proc/")));
    Ok(found)
}

/// The soft limit.
fn limit(name: &str) -> Result<Option<u64>, Failure> {
    let limits = fs::read_to_string("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix(name));
    Ok(line.and_then(|line| line.split_whitespace().next()?.parse().ok()))
}
