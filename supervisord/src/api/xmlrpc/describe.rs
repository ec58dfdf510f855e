//! Processes and their settings as structures, member by member in Supervisor's order.

use std::{borrow::Cow, path::Path, time::Duration};

use super::encode::Writer;
use crate::{
    config::{LogTarget, OutputConfig},
    process::ProcessState,
    request::{ConfiguredProcess, ProcessInfo},
};

/// What `getProcessInfo` answers.
pub(super) fn process(process: &ProcessInfo, writer: &mut Writer) {
    let time = |time: Option<Duration>| time.map_or(0, seconds);
    let stdout = text(process.stdout_logfile.as_deref());
    // As Supervisor, which forgets the exit status of what did not stay up.
    let did_not_stay_up = matches!(process.state, ProcessState::Backoff | ProcessState::Fatal);
    let exit_status = if did_not_stay_up { 0 } else { process.exit_status };
    writer.begin_struct();
    writer.member("name", |w| w.string(&process.name));
    writer.member("group", |w| w.string(&process.group));
    writer.member("start", |w| w.int(time(process.start)));
    writer.member("stop", |w| w.int(time(process.stop)));
    writer.member("now", |w| w.int(seconds(process.now)));
    writer.member("state", |w| w.int(process.state.code().into()));
    writer.member("statename", |w| w.string(process.state.name()));
    writer.member("spawnerr", |w| w.string(&process.spawn_error));
    writer.member("exitstatus", |w| w.int(exit_status.into()));
    // The name that it had before stderr had a log too.
    writer.member("logfile", |w| w.string(&stdout));
    writer.member("stdout_logfile", |w| w.string(&stdout));
    writer.member("stderr_logfile", |w| w.string(&text(process.stderr_logfile.as_deref())));
    writer.member("pid", |w| w.int(process.pid.into()));
    writer.member("description", |w| w.string(&process.description));
    writer.end_struct();
}

/// What `getAllConfigInfo` answers about one process. What is not set is `none`.
pub(super) fn configuration(process: &ConfiguredProcess, writer: &mut Writer) {
    let config = &*process.config;
    writer.begin_struct();
    writer.member("autostart", |w| w.boolean(config.autostart));
    writer.member("directory", |w| w.string(&config.directory.as_deref().map_or_else(none, shown)));
    match &config.user {
        Some(user) => writer.member("uid", |w| w.int(user.uid.into())),
        None => writer.member("uid", |w| w.string("none")),
    }
    writer.member("command", |w| w.string(&config.command));
    writer.member("exitcodes", |w| {
        w.begin_array();
        config.exitcodes.iter().for_each(|code| w.int((*code).into()));
        w.end_array();
    });
    writer.member("group", |w| w.string(&process.group));
    writer.member("group_prio", |w| w.int(process.group_priority.into()));
    writer.member("inuse", |w| w.boolean(process.in_use));
    writer.member("killasgroup", |w| w.boolean(config.killasgroup));
    writer.member("name", |w| w.string(&config.name));
    writer.member("process_prio", |w| w.int(config.priority.into()));
    writer.member("redirect_stderr", |w| w.boolean(config.redirect_stderr));
    writer.member("startretries", |w| w.int(config.startretries.into()));
    writer.member("startsecs", |w| w.int(seconds(config.startsecs)));
    output(&STDOUT, &config.stdout, process.stdout_logfile.as_deref(), writer);
    writer.member("stopsignal", |w| w.int(config.stopsignal.0.into()));
    writer.member("stopwaitsecs", |w| w.int(seconds(config.stopwaitsecs)));
    output(&STDERR, &config.stderr, process.stderr_logfile.as_deref(), writer);
    writer.member("serverurl", |w| w.string(config.serverurl.as_deref().unwrap_or("none")));
    writer.end_struct();
}

/// Names of the members about one stream: capture, events, file, backups, size, syslog.
type Names = [&'static str; 6];

const STDOUT: Names = [
    "stdout_capture_maxbytes",
    "stdout_events_enabled",
    "stdout_logfile",
    "stdout_logfile_backups",
    "stdout_logfile_maxbytes",
    "stdout_syslog",
];

const STDERR: Names = [
    "stderr_capture_maxbytes",
    "stderr_events_enabled",
    "stderr_logfile",
    "stderr_logfile_backups",
    "stderr_logfile_maxbytes",
    "stderr_syslog",
];

fn output(names: &Names, config: &OutputConfig, in_use: Option<&Path>, writer: &mut Writer) {
    let [capture, events, file, backups, size, syslog] = *names;
    let path = match (&config.logfile, in_use) {
        (LogTarget::None, _) => none(),
        (LogTarget::File(path), _) => shown(path),
        (LogTarget::Auto, Some(path)) => shown(path),
        (LogTarget::Auto, None) => "auto".to_owned(),
    };
    writer.member(capture, |w| w.int(bytes(config.capture_maxbytes)));
    writer.member(events, |w| w.boolean(config.events_enabled));
    writer.member(file, |w| w.string(&path));
    writer.member(backups, |w| w.int(config.backups.into()));
    writer.member(size, |w| w.int(bytes(config.maxbytes)));
    writer.member(syslog, |w| w.boolean(config.syslog));
}

fn none() -> String {
    "none".to_owned()
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn text(path: Option<&Path>) -> Cow<'_, str> {
    path.map(Path::to_string_lossy).unwrap_or_default()
}

fn bytes(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn seconds(span: Duration) -> i64 {
    bytes(span.as_secs())
}
