//! The processes of one `[program:x]`, `[eventlistener:x]` or `[fcgi-program:x]` section.

use std::{path::PathBuf, time::Duration};

use super::{
    AutoRestart, DaemonDeath, Dependency, Environment, KillMode, LogTarget, OutputConfig, ProgramConfig,
    StopSignal, User,
    daemon::saturated,
    environment,
    evaluation::{Evaluation, Source, Subject},
    expand::{Names, Value, expand},
    groups::clamped,
    ini::Section,
    parse::{
        ProgramLog, auto_restart, boolean, byte_size, count, daemon_death, exit_codes, integer, kill_mode,
        name, octal, program_log, signal, user,
    },
    python::strip,
};

/// What all processes of a section have in common.
struct Shared<'a> {
    from: Source<'a>,
    program: String,
    process_name: String,
    priority: i32,
    autostart: bool,
    autorestart: AutoRestart,
    startsecs: Duration,
    startretries: u32,
    stopsignal: StopSignal,
    stopwaitsecs: Duration,
    stopasgroup: bool,
    killasgroup: bool,
    killmode: KillMode,
    on_daemon_death: DaemonDeath,
    login_environment: bool,
    exitcodes: Vec<u8>,
    redirect_stderr: bool,
    first: i64,
    count: i64,
    stdout: Captured,
    stderr: Captured,
    serverurl: Option<String>,
    user: Option<User>,
    umask: Option<u32>,
    depends_on: Vec<Dependency>,
}

/// What is captured of one stream; read once per section, unlike its log file.
#[derive(Clone, Copy)]
struct Captured {
    maxbytes: u64,
    events_enabled: bool,
}

/// The names that `%(name)s` can use in the keys of one process.
struct ProcessNames {
    /// Those of the section, and `process_num` and `numprocs`.
    process: Names,
    /// `ENV_x` of the program's own `environment`; those of an earlier process of the section stay.
    own: Names,
}

#[derive(Clone, Copy)]
enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

impl<'a> Evaluation<'a> {
    /// The processes of `section` in the group `group_name`, by priority and name.
    pub(super) fn processes(&mut self, section: &'a Section, group_name: &str) -> Vec<ProgramConfig> {
        let from = Source { section, is_program: true };
        let Some(program) = self.section_name(from) else { return Vec::new() };
        let text = |text: &str| Value::Text(text.to_owned());
        let mut common = self.here.clone();
        common.insert("program_name".to_owned(), text(&program));
        common.insert("host_node_name".to_owned(), text(self.around.host_node_name));
        common.insert("group_name".to_owned(), text(group_name));
        let shared = self.shared(from, program, &common);
        let mut names = ProcessNames { process: common, own: Names::new() };
        let mut processes = Vec::new();
        let errors = self.error_count();
        for process_num in shared.first..shared.first.saturating_add(shared.count.min(NUMPROCS_MAX)) {
            names.process.insert("process_num".to_owned(), Value::Number(process_num));
            names.process.insert("numprocs".to_owned(), Value::Number(shared.count));
            processes.push(self.process(&shared, &mut names));
            // The same mistakes would come again for each of the processes.
            if self.error_count() > errors {
                break;
            }
        }
        processes.sort_by(|a, b| (a.priority, &a.name).cmp(&(b.priority, &b.name)));
        processes
    }

    /// The keys that Supervisor reads once per section, in its order.
    fn shared(&mut self, from: Source<'a>, program: String, common: &Names) -> Shared<'a> {
        let names: &[&Names] = &[common];
        let machine = self.around.machine;
        let priority = self.read(from, "priority", names, integer).map_or(999, clamped);
        let autostart = self.read(from, "autostart", names, boolean).unwrap_or(true);
        let autorestart =
            self.read(from, "autorestart", names, auto_restart).unwrap_or(AutoRestart::Unexpected);
        let startsecs = self.read(from, "startsecs", names, count).unwrap_or(1);
        let startretries = self.read(from, "startretries", names, count).map_or(3, saturated);
        let stopsignal = self.read(from, "stopsignal", names, signal).unwrap_or(StopSignal::TERM);
        let stopwaitsecs = self.read(from, "stopwaitsecs", names, count).unwrap_or(10);
        let stopasgroup = self.read(from, "stopasgroup", names, boolean).unwrap_or(false);
        let killasgroup = self.read(from, "killasgroup", names, boolean).unwrap_or(stopasgroup);
        let killmode = self.read(from, "killmode", names, kill_mode).unwrap_or(KillMode::Tree);
        let on_daemon_death =
            self.read(from, "on_daemon_death", names, daemon_death).unwrap_or(self.on_daemon_death);
        let login_environment = self.read(from, "login_environment", names, boolean).unwrap_or(false);
        let exitcodes = self.read(from, "exitcodes", names, exit_codes).unwrap_or_else(|| vec![0]);
        let redirect_stderr = self.read(from, "redirect_stderr", names, boolean).unwrap_or(false);
        let numprocs = self.read(from, "numprocs", names, numprocs).unwrap_or(1);
        let first = self.read(from, "numprocs_start", names, integer).unwrap_or(0);
        let stdout = self.captured(from, Stream::Stdout, names);
        let stderr = self.captured(from, Stream::Stderr, names);
        let serverurl = self.text(from, "serverurl", names).filter(|url| !url.is_empty() && !is_auto(url));
        let user = self.read(from, "user", names, |text| user(text, machine));
        let umask = self.read(from, "umask", names, octal);
        let depends_on = self.dependencies(from, names);
        let process_name = self.process_name(from, numprocs);
        if stopasgroup && !killasgroup {
            let subject = from.section.get("killasgroup").map_or(Subject::Key("killasgroup"), Subject::Entry);
            self.error(from, subject, "Cannot set stopasgroup=true and killasgroup=false");
        }
        let (startsecs, stopwaitsecs) = (Duration::from_secs(startsecs), Duration::from_secs(stopwaitsecs));
        Shared {
            from,
            program,
            process_name,
            priority,
            autostart,
            autorestart,
            startsecs,
            startretries,
            stopsignal,
            stopwaitsecs,
            stopasgroup,
            killasgroup,
            killmode,
            on_daemon_death,
            login_environment,
            exitcodes,
            redirect_stderr,
            first,
            count: numprocs,
            stdout,
            stderr,
            serverurl,
            user,
            umask,
            depends_on,
        }
    }

    fn captured(&mut self, from: Source<'a>, stream: Stream, names: &[&Names]) -> Captured {
        let stream = stream.name();
        let maxbytes = self.read(from, &format!("{stream}_capture_maxbytes"), names, byte_size).unwrap_or(0);
        let events_enabled =
            self.read(from, &format!("{stream}_events_enabled"), names, boolean).unwrap_or(false);
        Captured { maxbytes, events_enabled }
    }

    /// The pattern of process names, not yet expanded.
    fn process_name(&mut self, from: Source<'a>, numprocs: i64) -> String {
        let Some(entry) = from.section.get("process_name") else {
            if numprocs > 1 {
                self.error(from, Subject::Key("process_name"), NEEDS_PROCESS_NUM);
            }
            return "%(program_name)s".to_owned();
        };
        match name(&entry.value) {
            Ok(pattern) => {
                if numprocs > 1 && !pattern.contains("%(process_num)") {
                    self.error(from, Subject::Entry(entry), NEEDS_PROCESS_NUM);
                }
                pattern
            }
            Err(problem) => {
                self.error(from, Subject::Entry(entry), problem);
                String::new()
            }
        }
    }

    /// One process; its keys are read in Supervisor's order.
    fn process(&mut self, shared: &Shared<'a>, names: &mut ProcessNames) -> ProgramConfig {
        let from = shared.from;
        // Supervisor keeps the variables of the process before this one, except where the daemon's hide them.
        names.own.retain(|name, _| !self.env.contains_key(name));
        let environment = self.program_environment(from, names);
        let layers: &[&Names] = &[&names.process, &names.own];
        let directory = self.text(from, "directory", layers).map(PathBuf::from);
        let stdout = self.output(shared, Stream::Stdout, layers);
        let mut stderr = self.output(shared, Stream::Stderr, layers);
        if shared.redirect_stderr {
            if matches!(stderr.logfile, LogTarget::File(_)) {
                let subject = from.section.get("stderr_logfile").map_or(Subject::Section, Subject::Entry);
                let problem = format!(
                    "For [{}], redirect_stderr=true but stderr_logfile has also been set to a filename, the filename \
                     has been ignored",
                    from.section.name
                );
                self.warn_like_supervisor(from.section, subject, problem);
            }
            stderr.logfile = LogTarget::None;
        }
        if from.section.get("command").is_none() {
            let problem = format!("program section {} does not specify a command", from.section.name);
            self.error(from, Subject::Key("command"), problem);
        }
        let command = self.text(from, "command", layers).unwrap_or_default();
        let name = self.expanded_name(shared, layers);
        ProgramConfig {
            program: shared.program.clone(),
            name,
            command,
            priority: shared.priority,
            autostart: shared.autostart,
            autorestart: shared.autorestart,
            startsecs: shared.startsecs,
            startretries: shared.startretries,
            exitcodes: shared.exitcodes.clone(),
            stopsignal: shared.stopsignal,
            stopwaitsecs: shared.stopwaitsecs,
            stopasgroup: shared.stopasgroup,
            killasgroup: shared.killasgroup,
            killmode: shared.killmode,
            on_daemon_death: shared.on_daemon_death,
            login_environment: shared.login_environment,
            user: shared.user.clone(),
            redirect_stderr: shared.redirect_stderr,
            stdout,
            stderr,
            environment,
            directory,
            umask: shared.umask,
            fastcgi: None,
            serverurl: shared.serverurl.clone(),
            depends_on: shared.depends_on.clone(),
        }
    }

    fn expanded_name(&mut self, shared: &Shared<'a>, layers: &[&Names]) -> String {
        let mut all = vec![&self.env];
        all.extend(layers);
        match expand(&shared.process_name, &all, "process_name") {
            Ok(name) => name,
            Err(problem) => {
                let entry = shared.from.section.get("process_name");
                self.error(shared.from, entry.map_or(Subject::Key("process_name"), Subject::Entry), problem);
                String::new()
            }
        }
    }

    /// The program's own variables, which its other keys know as `ENV_x`.
    fn program_environment(&mut self, from: Source<'a>, names: &mut ProcessNames) -> Environment {
        let Some(entry) = from.section.get("environment") else { return Environment::default() };
        let text = expand(&entry.value, &[&self.env, &names.process, &names.own], "environment");
        match text.and_then(|text| environment::parse(&text)) {
            Ok(parsed) => {
                for loss in parsed.losses {
                    self.warn(from.section, Subject::Entry(entry), loss);
                }
                let pairs = parsed.environment.0.iter();
                names
                    .own
                    .extend(pairs.map(|(name, value)| (format!("ENV_{name}"), Value::Text(value.clone()))));
                parsed.environment
            }
            Err(problem) => {
                self.error(from, Subject::Entry(entry), problem);
                Environment::default()
            }
        }
    }

    fn output(&mut self, shared: &Shared<'a>, stream: Stream, layers: &[&Names]) -> OutputConfig {
        let (from, machine, stream_name) = (shared.from, self.around.machine, stream.name());
        let key = format!("{stream_name}_logfile");
        let mut log = ProgramLog::Target(LogTarget::Auto);
        if let Some(entry) = from.section.get(&key) {
            let text = self.expanded_twice(from, entry, layers, layers);
            match text.and_then(|text| program_log(&text, machine)) {
                Ok(found) => log = found,
                Err(problem) => self.error(from, Subject::Entry(entry), problem),
            }
        }
        let backups = self.read(from, &format!("{key}_backups"), layers, count).map_or(10, saturated);
        let maxbytes = self.read(from, &format!("{key}_maxbytes"), layers, byte_size).unwrap_or(50 << 20);
        let mut syslog = self.read(from, &format!("{stream_name}_syslog"), layers, boolean).unwrap_or(false);
        let subject = from.section.get(&key).map_or(Subject::Section, Subject::Entry);
        let section = &from.section.name;
        let logfile = match log {
            ProgramLog::Target(target) => target,
            ProgramLog::Syslog => {
                let problem = format!(
                    "For [{section}], {key}=syslog but this is deprecated and will be removed.  Use \
                     {stream_name}_syslog=true to enable syslog instead."
                );
                self.warn_like_supervisor(from.section, subject, problem);
                syslog = true;
                LogTarget::None
            }
        };
        if logfile == LogTarget::Auto && maxbytes == 0 {
            let problem = format!(
                "For [{section}], AUTO logging used for {key} without rollover, set maxbytes > 0 to avoid filling up \
                 filesystem unintentionally"
            );
            self.warn_like_supervisor(from.section, subject, problem);
        }
        let captured = match stream {
            Stream::Stdout => shared.stdout,
            Stream::Stderr => shared.stderr,
        };
        let Captured { maxbytes: capture_maxbytes, events_enabled } = captured;
        OutputConfig { logfile, maxbytes, backups, capture_maxbytes, events_enabled, syslog }
    }
}

fn numprocs(text: &str) -> Result<i64, String> {
    match integer(text)? {
        number if number > NUMPROCS_MAX => {
            Err(format!("{number} processes are more than the {NUMPROCS_MAX} allowed"))
        }
        number => Ok(number),
    }
}

fn is_auto(url: &str) -> bool {
    strip(url).eq_ignore_ascii_case("auto")
}

/// A bound for memory and time: no Linux runs more processes of one program than it has process ids by default.
const NUMPROCS_MAX: i64 = 32_768;
const NEEDS_PROCESS_NUM: &str = "%(process_num) must be present within process_name when numprocs > 1";
