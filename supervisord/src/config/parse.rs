//! Value types: the text of one key → a typed value, or Supervisor's message.
//!
//! Nothing here touches the machine: what it must be asked (users, directories) comes through [`Machine`].

use libc;

use super::{
    AutoRestart, DaemonDeath, EventLength, FastCgiSocket, KillMode, LogLevel, LogTarget, Owner, Reload,
    StopSignal, User,
    python::{self, dirname, int, repr, strip},
};

/// What the meaning of a value can depend on.
pub trait Machine {
    /// The user of this login name.
    fn user_by_name(&self, name: &str) -> Option<User>;
    /// The user of this id.
    fn user_by_id(&self, uid: u32) -> Option<User>;
    /// The id of the group of this name.
    fn group_by_name(&self, name: &str) -> Option<u32>;
    /// Whether there is a group of this id.
    fn has_group(&self, gid: u32) -> bool;
    /// The home directory of a user, or of ours.
    fn home(&self, user: Option<&str>) -> Option<String>;
    /// Whether `path` is a directory.
    fn is_directory(&self, path: &str) -> bool;
    /// The user id that this program runs as.
    fn own_uid(&self) -> u32;
}

/// `yes true on 1`, `no false off 0`, in any case.
///
/// # Errors
/// `not a valid boolean value: 'maybe'`
pub fn boolean(text: &str) -> Result<bool, String> {
    match text.to_lowercase().as_str() {
        "yes" | "true" | "on" | "1" => Ok(true),
        "no" | "false" | "off" | "0" => Ok(false),
        _ => Err(format!("not a valid boolean value: {}", repr(text))),
    }
}

/// A whole number as Python reads it.
///
/// # Errors
/// `invalid literal for int() with base 10: '1.5'`
pub fn integer(text: &str) -> Result<i64, String> {
    int(text, 10).ok_or_else(|| format!("invalid literal for int() with base 10: {}", repr(text)))
}

/// [`integer`], where a negative number means the same as 0.
///
/// # Errors
/// As [`integer`].
pub fn count(text: &str) -> Result<u64, String> {
    integer(text).map(|number| u64::try_from(number).unwrap_or(0))
}

/// A number of bytes: `1024`, `1 KB`, `50MB`, `2gb`; negative means 0.
///
/// # Errors
/// `invalid literal for int() with base 10: '1k'`
pub fn byte_size(text: &str) -> Result<u64, String> {
    let lower = text.to_lowercase();
    for (suffix, factor) in [("kb", 1_u64 << 10), ("mb", 1 << 20), ("gb", 1 << 30)] {
        if let Some(number) = lower.strip_suffix(suffix) {
            return count(number).map(|number| number.saturating_mul(factor));
        }
    }
    count(&lower)
}

/// A number in base 8, such as `022` or `0o22`.
///
/// # Errors
/// `9 can not be converted to an octal type`
pub fn octal(text: &str) -> Result<u32, String> {
    let number = int(text, 8).and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| format!("{text} can not be converted to an octal type"))
}

/// A signal by number or name, with or without `SIG`, in any case.
///
/// # Errors
/// `value 'FOO' is not a valid signal name`, `value '999' is not a valid signal number`
pub fn signal(text: &str) -> Result<StopSignal, String> {
    let number = match int(text, 10) {
        Some(number) => number,
        None => {
            let name = strip(text).to_uppercase();
            let name = name.strip_prefix("SIG").unwrap_or(&name);
            let found = SIGNALS.iter().find(|(known, _)| *known == name);
            i64::from(found.ok_or_else(|| format!("value {} is not a valid signal name", repr(text)))?.1)
        }
    };
    let known = i32::try_from(number).ok().filter(|number| is_signal(*number));
    known.map(StopSignal).ok_or_else(|| format!("value {} is not a valid signal number", repr(text)))
}

/// Signal numbers that Python names; 0 is its `SIG_DFL`, which Supervisor lets through.
fn is_signal(number: i32) -> bool {
    (0..=31).contains(&number) || number == libc::SIGRTMIN() || number == libc::SIGRTMAX()
}

/// Comma-separated exit statuses; empty = none.
///
/// # Errors
/// `not a valid list of exit codes: '0,256'`
pub fn exit_codes(text: &str) -> Result<Vec<u8>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let codes = text.split(',').map(|code| int(code, 10).and_then(|code| u8::try_from(code).ok()));
    codes.collect::<Option<_>>().ok_or_else(|| format!("not a valid list of exit codes: {}", repr(text)))
}

/// A boolean or `unexpected`.
///
/// # Errors
/// `invalid 'autorestart' value 'sometimes'`
pub fn auto_restart(text: &str) -> Result<AutoRestart, String> {
    let lower = text.to_lowercase();
    match boolean(&lower) {
        Ok(true) => Ok(AutoRestart::Always),
        Ok(false) => Ok(AutoRestart::Never),
        Err(_) if lower == "unexpected" => Ok(AutoRestart::Unexpected),
        Err(_) => Err(format!("invalid 'autorestart' value {}", repr(&lower))),
    }
}

/// `restart` or `keep`, in any case.
///
/// # Errors
/// `invalid 'reload' value 'never', expected restart or keep`
pub fn reload(text: &str) -> Result<Reload, String> {
    match text.to_lowercase().as_str() {
        "restart" => Ok(Reload::Restart),
        "keep" => Ok(Reload::Keep),
        other => Err(format!("invalid 'reload' value {}, expected restart or keep", repr(other))),
    }
}

/// `keep` or `stop`, in any case.
///
/// # Errors
/// `invalid 'on_daemon_death' value 'kill', expected keep or stop`
pub fn daemon_death(text: &str) -> Result<DaemonDeath, String> {
    match text.to_lowercase().as_str() {
        "keep" => Ok(DaemonDeath::Keep),
        "stop" => Ok(DaemonDeath::Stop),
        other => Err(format!("invalid 'on_daemon_death' value {}, expected keep or stop", repr(other))),
    }
}

/// `auto`, `bytes` or `characters`, in any case.
///
/// # Errors
/// `invalid 'event_length' value 'lines', expected auto, bytes or characters`
pub fn event_length(text: &str) -> Result<EventLength, String> {
    match text.to_lowercase().as_str() {
        "auto" => Ok(EventLength::Auto),
        "bytes" => Ok(EventLength::Bytes),
        "characters" => Ok(EventLength::Characters),
        other => {
            Err(format!("invalid 'event_length' value {}, expected auto, bytes or characters", repr(other)))
        }
    }
}

/// `process`, `group` or `tree`, in any case.
///
/// # Errors
/// `invalid 'killmode' value 'all', expected process, group or tree`
pub fn kill_mode(text: &str) -> Result<KillMode, String> {
    match text.to_lowercase().as_str() {
        "process" => Ok(KillMode::Process),
        "group" => Ok(KillMode::Group),
        "tree" => Ok(KillMode::Tree),
        other => Err(format!("invalid 'killmode' value {}, expected process, group or tree", repr(other))),
    }
}

/// Comma-separated texts, each trimmed; empty = none.
pub fn list(text: &str) -> Vec<String> {
    if text.is_empty() { Vec::new() } else { text.split(',').map(|part| strip(part).to_owned()).collect() }
}

/// `critical error warn info debug trace blather`, in any case.
///
/// # Errors
/// `bad logging level name 'verbose'`
pub fn log_level(text: &str) -> Result<LogLevel, String> {
    match text.to_lowercase().as_str() {
        "critical" => Ok(LogLevel::Critical),
        "error" => Ok(LogLevel::Error),
        "warn" => Ok(LogLevel::Warn),
        "info" => Ok(LogLevel::Info),
        "debug" => Ok(LogLevel::Debug),
        "trace" => Ok(LogLevel::Trace),
        "blather" => Ok(LogLevel::Blather),
        _ => Err(format!("bad logging level name {}", repr(text))),
    }
}

/// A program, group or process name, trimmed: no blank, `:` or `/`.
///
/// # Errors
/// `Invalid name: 'x y' because of character: ' '`
pub fn name(text: &str) -> Result<String, String> {
    let trimmed = strip(text);
    match [' ', ':', '/'].into_iter().find(|c| trimmed.contains(*c)) {
        Some(c) => Err(format!("Invalid name: {} because of character: '{c}'", repr(text))),
        None => Ok(trimmed.to_owned()),
    }
}

/// `PORT`, `:PORT`, `*:PORT` or `HOST:PORT`; the host in lower case, empty = all interfaces.
///
/// # Errors
/// `not a valid port number: 'foo' `, `no port number specified in ''`, and the bounds.
pub fn inet_address(text: &str) -> Result<(String, u16), String> {
    let Some((host, number)) = text.rsplit_once(':') else {
        let number = port(text).map_err(|_| format!("not a valid port number: {} ", repr(text)))?;
        return Ok((String::new(), number));
    };
    if number.is_empty() {
        return Err("no port number specified in ''".to_owned());
    }
    let number = port(number)?;
    let host = host.to_lowercase();
    Ok((if host == "*" { String::new() } else { host }, number))
}

fn port(text: &str) -> Result<u16, String> {
    let number = integer(text)?;
    if number < 1 {
        return Err(format!("{number} is below lower bound (1)"));
    }
    u16::try_from(number).map_err(|_| format!("{number} is above upper bound (65535)"))
}

/// A user by name or id.
///
/// # Errors
/// `Invalid user name x`, `Invalid user id 54321`
pub fn user(text: &str, machine: &dyn Machine) -> Result<User, String> {
    match int(text, 10) {
        Some(uid) => u32::try_from(uid)
            .ok()
            .and_then(|uid| machine.user_by_id(uid))
            .ok_or_else(|| format!("Invalid user id {text}")),
        None => machine.user_by_name(text).ok_or_else(|| format!("Invalid user name {text}")),
    }
}

/// `user` or `user:group`, each by name or id. Without a group, its id is `u32::MAX`: leave unchanged.
///
/// # Errors
/// `Invalid user:group definition x`
pub fn owner(text: &str, machine: &dyn Machine) -> Result<Owner, String> {
    let (user_text, group_text) =
        text.split_once(':').map_or((text, None), |(user, group)| (user, Some(group)));
    let gid = match group_text.map(|group| (group, int(group, 10))) {
        None => Some(u32::MAX),
        Some((_, Some(gid))) => u32::try_from(gid).ok().filter(|gid| machine.has_group(*gid)),
        Some((group, None)) => machine.group_by_name(group),
    };
    match (user(user_text, machine), gid) {
        (Ok(user), Some(gid)) => Ok(Owner { uid: user.uid, gid }),
        _ => Err(format!("Invalid user:group definition {text}")),
    }
}

/// `os.path.expanduser`.
pub fn expand_user(text: &str, machine: &dyn Machine) -> String {
    let Some(rest) = text.strip_prefix('~') else { return text.to_owned() };
    let (user, rest) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    match machine.home(Some(user).filter(|user| !user.is_empty())) {
        Some(home) => {
            let path = format!("{}{rest}", home.trim_end_matches('/'));
            if path.is_empty() { "/".to_owned() } else { path }
        }
        None => text.to_owned(),
    }
}

/// A directory that exists; `~` is expanded.
///
/// # Errors
/// `/x is not an existing directory`
pub fn existing_directory(text: &str, machine: &dyn Machine) -> Result<String, String> {
    let path = expand_user(text, machine);
    if machine.is_directory(&path) { Ok(path) } else { Err(format!("{text} is not an existing directory")) }
}

/// A path in a directory that exists; `~` is expanded.
///
/// # Errors
/// `The directory named as part of the path /x/y does not exist`
pub fn path_in_existing_directory(text: &str, machine: &dyn Machine) -> Result<String, String> {
    let path = expand_user(text, machine);
    let directory = dirname(&path);
    if directory.is_empty() || machine.is_directory(directory) {
        Ok(path)
    } else {
        Err(format!("The directory named as part of the path {text} does not exist"))
    }
}

/// The value of `stdout_logfile` or `stderr_logfile`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProgramLog {
    /// A file, AUTO or none.
    Target(LogTarget),
    /// `syslog`, which `…_syslog=true` replaces.
    Syslog,
}

/// `none`/`off`, `auto`, `syslog` in any case, or a path.
///
/// # Errors
/// As [`path_in_existing_directory`].
pub fn program_log(text: &str, machine: &dyn Machine) -> Result<ProgramLog, String> {
    Ok(match text.to_lowercase().as_str() {
        "none" | "off" | "" => ProgramLog::Target(LogTarget::None),
        "auto" => ProgramLog::Target(LogTarget::Auto),
        "syslog" => ProgramLog::Syslog,
        _ => ProgramLog::Target(LogTarget::File(path_in_existing_directory(text, machine)?.into())),
    })
}

/// The `socket` of a `[fcgi-program:x]`: `tcp://host:port` or `unix:///path`.
///
/// # Errors
/// Supervisor's messages, which show the tuple of a Python exception.
pub fn fastcgi_socket(text: &str) -> Result<FastCgiSocket, String> {
    if let Some(path) = text.strip_prefix("unix://") {
        if !path.starts_with('/') {
            return Err(format!("('Unix socket path %s is not an absolute path', {})", repr(path)));
        }
        return Ok(FastCgiSocket::Unix(python::normpath(path).into()));
    }
    let bad = || format!("('Bad socket format %s', {})", repr(text));
    let (host, number) = text.strip_prefix("tcp://").and_then(|rest| rest.split_once(':')).ok_or_else(bad)?;
    let digits = number.strip_suffix('\n').unwrap_or(number);
    let is_host = !host.is_empty() && !host.contains(python::is_space);
    if !is_host || digits.is_empty() || !digits.chars().all(|c| c.is_ascii_digit()) {
        return Err(bad());
    }
    Ok(FastCgiSocket::Tcp(host.to_lowercase(), port(digits)?))
}

/// Python's names of signals, and its constants that look like one.
const SIGNALS: [(&str, i32); 41] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("IOT", libc::SIGIOT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("POLL", libc::SIGPOLL),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
    // Fixed numbers of the kernel less the two that the C library keeps.
    ("RTMIN", 34),
    ("RTMAX", 64),
    ("_DFL", 0),
    ("_BLOCK", 0),
    ("_IGN", 1),
    ("_UNBLOCK", 1),
    ("_SETMASK", 2),
];

#[cfg(test)]
#[path = "parse/tests.rs"]
mod tests;
