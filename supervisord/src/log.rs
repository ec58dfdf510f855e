//! The daemon's own log: Supervisor's line format and levels, to a file, an inherited descriptor or syslog, and on
//! stdout too in the foreground.
//!
//! The program logs through `tracing`; [`ActivityLog`] is its only consumer. It prints the message text alone:
//! other fields are for readers of the code. Logging never panics, never blocks and never fails: what cannot be
//! written is kept for a while, then dropped, counted and told once on stderr.

mod outlet;

use std::{
    fmt::{self, Write as _},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use jiff::{Timestamp, tz::TimeZone};
use tokio::sync::watch;
use tracing::{Event, Level, Metadata, Subscriber, field::Field, level_filters::LevelFilter};
use tracing_subscriber::{Layer, Registry, layer::Context, layer::SubscriberExt};

use crate::{
    clock,
    config::{DaemonConfig, DaemonLog, LogLevel},
};
use outlet::Outlet;

/// Logs at Supervisor's most important level, CRIT.
#[macro_export]
macro_rules! crit {
    ($($message:tt)+) => {
        ::tracing::event!(target: $crate::log::CRITICAL_TARGET, ::tracing::Level::ERROR, $($message)+)
    };
}

/// Logs at Supervisor's least important level, BLAT.
#[macro_export]
macro_rules! blat {
    ($($message:tt)+) => {
        ::tracing::event!(target: $crate::log::BLATHER_TARGET, ::tracing::Level::TRACE, $($message)+)
    };
}

/// Target that makes an ERROR event a CRIT one: the facade has five levels, Supervisor seven.
pub const CRITICAL_TARGET: &str = "supervisord::crit";

/// Target that makes a TRACE event a BLAT one.
pub const BLATHER_TARGET: &str = "supervisord::blat";

/// Messages from before the log is open.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Backlog {
    criticals: Vec<String>,
    warnings: Vec<String>,
    infos: Vec<String>,
}

impl Backlog {
    /// Keeps a CRIT message.
    pub fn critical(&mut self, message: impl Into<String>) {
        self.criticals.push(message.into());
    }

    /// Keeps a WARN message.
    pub fn warn(&mut self, message: impl Into<String>) {
        self.warnings.push(message.into());
    }

    /// Keeps an INFO message.
    pub fn info(&mut self, message: impl Into<String>) {
        self.infos.push(message.into());
    }

    /// Logs all of them, in Supervisor's order: CRIT, WARN, INFO.
    pub fn emit(self) {
        for message in self.criticals {
            crate::crit!("{message}");
        }
        for message in self.warnings {
            tracing::warn!("{message}");
        }
        for message in self.infos {
            tracing::info!("{message}");
        }
    }
}

/// The log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The file cannot be opened or created.
    #[error("cannot open the log file {path}: {source}", path = path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The process has a log already.
    #[error("this process has a log already")]
    Installed,
    /// There is no file to clear.
    #[error("the log is not a file")]
    NoFile,
    /// The file cannot be emptied.
    #[error("cannot clear the log file: {0}")]
    Clear(#[source] io::Error),
}

/// The open log. Clones are handles of the same log.
#[derive(Debug, Clone)]
pub struct ActivityLog {
    shared: Arc<Shared>,
}

/// What the handles share.
#[derive(Debug)]
struct Shared {
    /// The least important [`LogLevel`] to log.
    level: AtomicU8,
    outlets: Mutex<Outlets>,
    /// Counts changes of the file, for followers.
    generation: watch::Sender<u64>,
}

/// Where lines go.
#[derive(Debug)]
struct Outlets {
    main: Outlet,
    /// stdout, in the foreground.
    echo: Option<Outlet>,
    /// The configured path, unless it is syslog.
    path: Option<PathBuf>,
    /// Reused for each line.
    line: String,
    /// How many [`Gathering`]s there are.
    gatherings: usize,
}

/// While it lives, lines are gathered and written together at its end: a line costs less, and what is urgent does not
/// wait for the disk. Errors, and more lines than a few, are written at once.
#[derive(Debug)]
#[must_use = "lines are gathered as long as it lives"]
pub struct Gathering(ActivityLog);

impl Drop for Gathering {
    fn drop(&mut self) {
        let mut outlets = self.0.outlets();
        outlets.gatherings -= 1;
        if outlets.gatherings == 0 && outlets.gathered() > 0 {
            outlets.flush();
            drop(outlets);
            self.0.announce();
        }
    }
}

/// So many bytes are gathered at most.
const GATHERED: usize = 16 * 1024;

impl ActivityLog {
    /// Opens the log that `config` describes.
    ///
    /// # Errors
    /// [`LogError::Open`].
    pub fn open(config: &DaemonConfig) -> Result<Self, LogError> {
        Ok(Self::new(Outlets::open(config)?, config.loglevel))
    }

    /// The same for a daemon that goes on in another image: a file that cannot be opened is no reason to end, it is
    /// tried again with each line.
    pub fn open_whatever_happens(config: &DaemonConfig) -> Self {
        Self::new(Outlets::open_whatever_happens(config), config.loglevel)
    }

    fn new(outlets: Outlets, level: LogLevel) -> Self {
        let shared = Shared {
            level: AtomicU8::new(level as u8),
            outlets: Mutex::new(outlets),
            generation: watch::Sender::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Makes this the log of the whole process.
    ///
    /// # Errors
    /// [`LogError::Installed`] when there is one.
    pub fn install(&self) -> Result<(), LogError> {
        tracing::subscriber::set_global_default(Registry::default().with(self.clone()))
            .map_err(|_| LogError::Installed)
    }

    /// Goes over to another configuration; the old log stays on an error.
    ///
    /// # Errors
    /// [`LogError::Open`].
    pub fn reconfigure(&self, config: &DaemonConfig) -> Result<(), LogError> {
        let new = Outlets::open(config)?;
        let mut outlets = self.outlets();
        outlets.flush();
        let gatherings = outlets.gatherings;
        *outlets = Outlets { gatherings, ..new };
        drop(outlets);
        self.set_level(config.loglevel);
        self.announce();
        Ok(())
    }

    /// Closes and opens the file again, after others moved it away. The old file is kept on an error.
    ///
    /// # Errors
    /// [`LogError::Open`].
    pub fn reopen(&self) -> Result<(), LogError> {
        let mut outlets = self.outlets();
        outlets.flush();
        let result = outlets.main.reopen();
        let path = outlets.path.clone().unwrap_or_default();
        drop(outlets);
        self.announce();
        result.map_err(|source| LogError::Open { path, source })
    }

    /// Empties the file; rotated files stay.
    ///
    /// # Errors
    /// [`LogError::NoFile`], [`LogError::Clear`].
    pub fn clear(&self) -> Result<(), LogError> {
        let mut outlets = self.outlets();
        outlets.flush();
        let cleared = outlets.main.clear();
        drop(outlets);
        self.announce();
        match cleared {
            Some(result) => result.map_err(LogError::Clear),
            None => Err(LogError::NoFile),
        }
    }

    /// The file that it is written to; `None` for syslog.
    pub fn path(&self) -> Option<PathBuf> {
        self.outlets().path.clone()
    }

    /// Changes the least important level that is logged.
    pub fn set_level(&self, level: LogLevel) {
        self.shared.level.store(level as u8, Ordering::Relaxed);
        tracing::callsite::rebuild_interest_cache();
    }

    /// Whether messages of this level are logged now: for those that are dear to make.
    pub fn takes(&self, level: LogLevel) -> bool {
        level as u8 <= self.shared.level.load(Ordering::Relaxed)
    }

    /// A number that changes after every line, rotation, reopening and clearing.
    pub fn wake(&self) -> watch::Receiver<u64> {
        self.shared.generation.subscribe()
    }

    /// Messages that were dropped so far.
    pub fn lost(&self) -> u64 {
        self.outlets().main.lost()
    }

    /// Gathers lines until the end of what this returns, or, where there are several, the end of the last one.
    pub fn gather(&self) -> Gathering {
        self.outlets().gatherings += 1;
        Gathering(self.clone())
    }

    /// Wakes followers.
    fn announce(&self) {
        self.shared.generation.send_modify(|generation| *generation += 1);
    }

    /// Exclusive use of the outlets. A panic elsewhere must not end logging.
    fn outlets(&self) -> MutexGuard<'_, Outlets> {
        self.shared.outlets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for ActivityLog {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        // The libraries below us speak of their own affairs.
        metadata.target().starts_with("supervisord")
            && level_of(metadata) as u8 <= self.shared.level.load(Ordering::Relaxed)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let level = self.shared.level.load(Ordering::Relaxed);
        Some(match level {
            _ if level <= LogLevel::Error as u8 => LevelFilter::ERROR,
            _ if level == LogLevel::Warn as u8 => LevelFilter::WARN,
            _ if level == LogLevel::Info as u8 => LevelFilter::INFO,
            _ if level == LogLevel::Debug as u8 => LevelFilter::DEBUG,
            _ => LevelFilter::TRACE,
        })
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = level_of(event.metadata());
        let mut outlets = self.outlets();
        outlets.add(clock::now().unix, level, event);
        if outlets.gatherings > 0 && level > LogLevel::Error && outlets.gathered() < GATHERED {
            return;
        }
        outlets.flush();
        drop(outlets);
        self.announce();
    }
}

impl Outlets {
    /// Opens what `config` names.
    fn open(config: &DaemonConfig) -> Result<Self, LogError> {
        let (main, path) = match &config.logfile {
            DaemonLog::Syslog => (Outlet::syslog(), None),
            DaemonLog::File(path) => {
                let outlet = Outlet::file(path, config.logfile_maxbytes, config.logfile_backups)
                    .map_err(|source| LogError::Open { path: path.clone(), source })?;
                (outlet, Some(path.clone()))
            }
        };
        Ok(Self::new(main, path, config))
    }

    fn open_whatever_happens(config: &DaemonConfig) -> Self {
        let (main, path) = match &config.logfile {
            DaemonLog::Syslog => (Outlet::syslog(), None),
            DaemonLog::File(path) => {
                let (maxbytes, backups) = (config.logfile_maxbytes, config.logfile_backups);
                (Outlet::file_or_missing(path, maxbytes, backups), Some(path.clone()))
            }
        };
        Self::new(main, path, config)
    }

    fn new(main: Outlet, path: Option<PathBuf>, config: &DaemonConfig) -> Self {
        let wants_echo = config.nodaemon && !config.silent && !main.is_stdout();
        // Without a stdout there is nobody to read it.
        let echo = if wants_echo { Outlet::file(Path::new("/dev/stdout"), 0, 0).ok() } else { None };
        Self { main, echo, path, line: String::new(), gatherings: 0 }
    }

    /// Adds the line of one event to all outlets.
    fn add(&mut self, unix: Duration, level: LogLevel, event: &Event<'_>) {
        self.line.clear();
        push_time(&mut self.line, unix, TimeZone::system());
        self.line.push_str(code(level));
        event.record(&mut Message(&mut self.line));
        self.line.push('\n');
        self.main.add(self.line.as_bytes());
        if let Some(echo) = &mut self.echo {
            echo.add(self.line.as_bytes());
        }
    }

    /// Writes what was added.
    fn flush(&mut self) {
        self.main.flush();
        if let Some(echo) = &mut self.echo {
            echo.flush();
        }
    }

    /// Bytes that are not written yet, where there are most of them.
    fn gathered(&self) -> usize {
        self.main.pending().max(self.echo.as_ref().map_or(0, Outlet::pending))
    }
}

/// Appends the message of an event to a line, and no other field.
struct Message<'a>(&'a mut String);

impl tracing::field::Visit for Message<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            // Writing to a String does not fail.
            let _ = write!(self.0, "{value:?}");
        }
    }
}

/// Supervisor's level of an event.
fn level_of(metadata: &Metadata<'_>) -> LogLevel {
    match *metadata.level() {
        Level::ERROR if metadata.target() == CRITICAL_TARGET => LogLevel::Critical,
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG => LogLevel::Debug,
        Level::TRACE if metadata.target() == BLATHER_TARGET => LogLevel::Blather,
        Level::TRACE => LogLevel::Trace,
    }
}

/// The level as it stands in a line, between blanks.
fn code(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Critical => " CRIT ",
        LogLevel::Error => " ERRO ",
        LogLevel::Warn => " WARN ",
        LogLevel::Info => " INFO ",
        LogLevel::Debug => " DEBG ",
        LogLevel::Trace => " TRAC ",
        LogLevel::Blather => " BLAT ",
    }
}

/// Appends `YYYY-MM-DD HH:MM:SS,mmm`, in the time zone of this machine.
fn push_time(line: &mut String, unix: Duration, zone: TimeZone) {
    let milliseconds = i64::try_from(unix.as_millis()).unwrap_or_default();
    let moment = Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH).to_zoned(zone);
    // Writing to a String does not fail.
    let _ = write!(
        line,
        "{:04}-{:02}-{:02} {:02}:{:02}:{:02},{:03}",
        moment.year(),
        moment.month(),
        moment.day(),
        moment.hour(),
        moment.minute(),
        moment.second(),
        moment.millisecond(),
    );
}

#[cfg(test)]
#[path = "log/tests.rs"]
mod tests;
