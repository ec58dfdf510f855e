//! The log, through the same macros that the program uses.

use super::*;

fn config(path: &Path, level: LogLevel) -> DaemonConfig {
    DaemonConfig {
        logfile: DaemonLog::File(path.to_owned()),
        logfile_maxbytes: 0,
        logfile_backups: 0,
        loglevel: level,
        pidfile: PathBuf::new(),
        umask: 0o022,
        nodaemon: false,
        silent: false,
        minfds: 0,
        minprocs: 0,
        user: None,
        identifier: String::new(),
        directory: None,
        childlogdir: PathBuf::new(),
        nocleanup: false,
        strip_ansi: false,
        reload: crate::config::Reload::Restart,
        runtime_directory: "/".into(),
        remember_stopped: false,
        on_daemon_death: crate::config::DaemonDeath::Keep,
        environment: crate::config::Environment::default(),
    }
}

/// Runs `body` with a log of its own and returns what was written, without the times.
fn logged(level: LogLevel, body: impl FnOnce(&ActivityLog)) -> Vec<String> {
    let dir = tempfile::tempdir().unwrap();
    let log = ActivityLog::open(&config(&dir.path().join("log"), level)).unwrap();
    tracing::subscriber::with_default(Registry::default().with(log.clone()), || body(&log));
    let text = std::fs::read_to_string(log.path().unwrap()).unwrap();
    text.lines().map(|line| line.get(24..).unwrap_or(line).to_owned()).collect()
}

#[test]
fn every_level_has_its_code_and_only_the_message_is_printed() {
    let lines = logged(LogLevel::Blather, |_| {
        crate::crit!("a {}", 1);
        tracing::error!(errno = 5, "b");
        tracing::warn!("c");
        tracing::info!(secret = "hidden", "d 'e'");
        tracing::debug!("f");
        tracing::trace!("g");
        crate::blat!("h");
    });
    assert_eq!(lines, ["CRIT a 1", "ERRO b", "WARN c", "INFO d 'e'", "DEBG f", "TRAC g", "BLAT h"]);
}

#[test]
fn level_decides_and_can_be_changed() {
    let lines = logged(LogLevel::Warn, |log| {
        tracing::info!("too small");
        log.set_level(LogLevel::Info);
        tracing::info!("now");
        log.set_level(LogLevel::Critical);
        tracing::error!("not important enough");
        crate::crit!("important");
    });
    assert_eq!(lines, ["INFO now", "CRIT important"]);
}

#[test]
fn libraries_are_not_heard() {
    assert!(logged(LogLevel::Blather, |_| tracing::error!(target: "h2::proto", "frame")).is_empty());
}

#[test]
fn backlog_comes_in_the_order_of_importance() {
    let mut backlog = Backlog::default();
    backlog.info("i");
    backlog.warn("w");
    backlog.critical("c");
    assert_eq!(logged(LogLevel::Info, |_| backlog.emit()), ["CRIT c", "WARN w", "INFO i"]);
}

#[test]
fn followers_wake_and_clear_empties() {
    let lines = logged(LogLevel::Info, |log| {
        let mut wake = log.wake();
        tracing::info!("one");
        assert!(wake.has_changed().unwrap());
        wake.mark_unchanged();
        log.clear().unwrap();
        assert!(wake.has_changed().unwrap());
        tracing::info!("two");
    });
    assert_eq!(lines, ["INFO two"]);
}

#[test]
fn reopen_leaves_the_moved_file_alone() {
    let lines = logged(LogLevel::Info, |log| {
        tracing::info!("one");
        let path = log.path().unwrap();
        let moved = path.with_extension("1");
        std::fs::rename(&path, &moved).unwrap();
        log.reopen().unwrap();
        tracing::info!("two");
        assert!(std::fs::read_to_string(moved).unwrap().ends_with("INFO one\n"));
    });
    assert_eq!(lines, ["INFO two"]);
}

#[test]
fn time_is_local_with_milliseconds() {
    let mut line = String::new();
    let zone = TimeZone::fixed(jiff::tz::offset(2));
    push_time(&mut line, Duration::from_millis(1_763_700_333_007), zone);
    assert_eq!(line, "2025-11-21 06:45:33,007");
}

#[test]
fn unwritable_log_is_named() {
    let error = ActivityLog::open(&config(Path::new("/nonexistent/log"), LogLevel::Info)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "cannot open the log file /nonexistent/log: No such file or directory (os error 2)"
    );
}

#[test]
fn gathered_lines_are_written_at_the_end_errors_at_once_and_all_in_order() {
    let lines = logged(LogLevel::Info, |log| {
        let text = || std::fs::read_to_string(log.path().unwrap()).unwrap();
        let mut wake = log.wake();
        let outer = log.gather();
        tracing::info!("first");
        drop(log.gather());
        assert_eq!((text().lines().count(), wake.has_changed().unwrap()), (0, false));
        tracing::error!("second");
        assert_eq!((text().lines().count(), wake.has_changed().unwrap()), (2, true));
        wake.mark_unchanged();
        tracing::info!("third");
        drop(outer);
        assert_eq!((text().lines().count(), wake.has_changed().unwrap()), (3, true));
        tracing::info!("fourth");
        assert_eq!(text().lines().count(), 4);
    });
    assert_eq!(lines, ["INFO first", "ERRO second", "INFO third", "INFO fourth"]);
}

#[test]
fn a_crowd_of_gathered_lines_is_written_before_any_is_dropped() {
    let lines = logged(LogLevel::Info, |log| {
        let _gathering = log.gather();
        for number in 0..20_000 {
            tracing::info!("line {number} with some words in it");
        }
        assert_eq!(log.lost(), 0);
    });
    assert_eq!(lines.len(), 20_000);
}

#[test]
fn what_waits_for_the_second_outlet_counts_also_when_the_first_takes_all_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let log = ActivityLog::open(&config(&dir.path().join("log"), LogLevel::Info)).unwrap();
    let mut outlets = log.outlets();
    // As beside syslog, which keeps nothing.
    outlets.echo.insert(Outlet::file(&dir.path().join("echo"), 0, 0).unwrap()).add(b"line\n");
    assert_eq!(outlets.gathered(), 5);
    outlets.flush();
    assert_eq!(outlets.gathered(), 0);
}
