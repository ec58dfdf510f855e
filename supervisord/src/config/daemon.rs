//! `[supervisord]`, its command-line overrides, and the `[rpcinterface:x]` sections.

use std::{collections::BTreeMap, path::PathBuf};

use super::{
    DaemonConfig, DaemonDeath, DaemonLog, Environment, LogLevel, Reload, User, environment,
    evaluation::{Evaluation, Source, Subject},
    expand::{Names, Value},
    ini::Section,
    parse::{
        boolean, byte_size, count, daemon_death, existing_directory, log_level, octal,
        path_in_existing_directory, reload, user,
    },
    python::abspath,
};

/// What the command line sets; it wins over the file for the life of the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// `--nodaemon`
    pub nodaemon: Option<bool>,
    /// `--user`
    pub user: Option<User>,
    /// `--umask`
    pub umask: Option<u32>,
    /// `--directory`
    pub directory: Option<PathBuf>,
    /// `--logfile`, absolute
    pub logfile: Option<DaemonLog>,
    /// `--logfile_maxbytes`
    pub logfile_maxbytes: Option<u64>,
    /// `--logfile_backups`
    pub logfile_backups: Option<u32>,
    /// `--loglevel`
    pub loglevel: Option<LogLevel>,
    /// `--pidfile`, absolute
    pub pidfile: Option<PathBuf>,
    /// `--identifier`
    pub identifier: Option<String>,
    /// `--childlogdir`
    pub childlogdir: Option<PathBuf>,
    /// `--nocleanup`
    pub nocleanup: Option<bool>,
    /// `--minfds`
    pub minfds: Option<u64>,
    /// `--minprocs`
    pub minprocs: Option<u64>,
    /// `--strip_ansi`
    pub strip_ansi: Option<bool>,
    /// `--silent`
    pub silent: Option<bool>,
}

/// Keys of the file that are not even validated, because the command line sets them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overridden {
    /// `user`
    pub user: bool,
}

impl Overrides {
    /// Which keys of the file need not be valid.
    pub fn overridden(&self) -> Overridden {
        Overridden { user: self.user.is_some() }
    }

    /// Puts these settings over those of the file.
    pub fn apply(&self, daemon: &mut DaemonConfig) {
        fn set<T: Clone>(value: &mut T, over: Option<&T>) {
            if let Some(over) = over {
                value.clone_from(over);
            }
        }
        set(&mut daemon.nodaemon, self.nodaemon.as_ref());
        set(&mut daemon.umask, self.umask.as_ref());
        set(&mut daemon.logfile, self.logfile.as_ref());
        set(&mut daemon.logfile_maxbytes, self.logfile_maxbytes.as_ref());
        set(&mut daemon.logfile_backups, self.logfile_backups.as_ref());
        set(&mut daemon.loglevel, self.loglevel.as_ref());
        set(&mut daemon.pidfile, self.pidfile.as_ref());
        set(&mut daemon.identifier, self.identifier.as_ref());
        set(&mut daemon.childlogdir, self.childlogdir.as_ref());
        set(&mut daemon.nocleanup, self.nocleanup.as_ref());
        set(&mut daemon.minfds, self.minfds.as_ref());
        set(&mut daemon.minprocs, self.minprocs.as_ref());
        set(&mut daemon.strip_ansi, self.strip_ansi.as_ref());
        set(&mut daemon.silent, self.silent.as_ref());
        if self.user.is_some() {
            daemon.user.clone_from(&self.user);
        }
        if self.directory.is_some() {
            daemon.directory.clone_from(&self.directory);
        }
        if daemon.runtime_directory.as_os_str().is_empty() {
            daemon.runtime_directory = daemon.pidfile.with_extension("state");
        }
    }
}

impl<'a> Evaluation<'a> {
    /// The settings of an empty `[supervisord]`.
    pub(super) fn daemon_defaults(&self) -> DaemonConfig {
        let in_cwd = |name: &str| PathBuf::from(abspath(self.around.cwd, name));
        DaemonConfig {
            logfile: DaemonLog::File(in_cwd("supervisord.log")),
            logfile_maxbytes: 50 << 20,
            logfile_backups: 10,
            loglevel: LogLevel::Info,
            pidfile: in_cwd("supervisord.pid"),
            umask: 0o022,
            nodaemon: false,
            silent: false,
            minfds: 1024,
            minprocs: 200,
            user: None,
            identifier: "supervisor".to_owned(),
            directory: None,
            childlogdir: PathBuf::from(self.around.temporary_directory),
            nocleanup: false,
            strip_ansi: false,
            reload: Reload::Restart,
            runtime_directory: PathBuf::new(),
            remember_stopped: false,
            on_daemon_death: DaemonDeath::Keep,
            environment: Environment::default(),
        }
    }

    /// `[supervisord]` without its `user`.
    pub(super) fn daemon(&mut self, section: &'a Section) -> DaemonConfig {
        let mut daemon = self.daemon_defaults();
        let from = Source { section, is_program: false };
        let here = self.here.clone();
        let names: &[&Names] = &[&here];
        let (machine, cwd) = (self.around.machine, self.around.cwd);
        let path = |text: &str| path_in_existing_directory(text, machine);
        let directory = |text: &str| existing_directory(text, machine).map(PathBuf::from);
        let backups = |text: &str| count(text).map(saturated);
        let log = |text: &str| {
            path(text).map(|path| match path.as_str() {
                "syslog" => DaemonLog::Syslog,
                path => DaemonLog::File(abspath(cwd, path).into()),
            })
        };
        fn set<T>(value: &mut T, found: Option<T>) {
            if let Some(found) = found {
                *value = found;
            }
        }
        set(&mut daemon.minfds, self.read(from, "minfds", names, count));
        set(&mut daemon.minprocs, self.read(from, "minprocs", names, count));
        daemon.directory = self.read(from, "directory", names, directory);
        // Its text is expanded here, and looked up at the end, by `daemon_user`.
        self.text(from, "user", names);
        set(&mut daemon.umask, self.read(from, "umask", names, octal));
        set(&mut daemon.logfile, self.read(from, "logfile", names, log));
        set(&mut daemon.logfile_maxbytes, self.read(from, "logfile_maxbytes", names, byte_size));
        set(&mut daemon.logfile_backups, self.read(from, "logfile_backups", names, backups));
        set(&mut daemon.loglevel, self.read(from, "loglevel", names, log_level));
        let pidfile = self.read(from, "pidfile", names, path).map(|path| abspath(cwd, &path).into());
        set(&mut daemon.pidfile, pidfile);
        set(&mut daemon.identifier, self.text(from, "identifier", names));
        set(&mut daemon.nodaemon, self.read(from, "nodaemon", names, boolean));
        set(&mut daemon.silent, self.read(from, "silent", names, boolean));
        set(&mut daemon.childlogdir, self.read(from, "childlogdir", names, directory));
        set(&mut daemon.nocleanup, self.read(from, "nocleanup", names, boolean));
        set(&mut daemon.strip_ansi, self.read(from, "strip_ansi", names, boolean));
        set(&mut daemon.reload, self.read(from, "reload", names, reload));
        let state = self.read(from, "runtime_directory", names, path).map(|path| abspath(cwd, &path).into());
        set(&mut daemon.runtime_directory, state);
        set(&mut daemon.remember_stopped, self.read(from, "remember_stopped", names, boolean));
        set(&mut daemon.on_daemon_death, self.read(from, "on_daemon_death", names, daemon_death));
        self.on_daemon_death = daemon.on_daemon_death;
        daemon.environment = self.daemon_environment(from);
        daemon
    }

    /// `[supervisord] environment`, which all later `%(ENV_x)s` know.
    fn daemon_environment(&mut self, from: Source<'a>) -> Environment {
        let Some(entry) = from.section.get("environment") else { return Environment::default() };
        let mut second = self.here.clone();
        let host = Value::Text(self.around.host_node_name.to_owned());
        second.insert("host_node_name".to_owned(), host);
        let text = self.expanded_twice(from, entry, &[&self.here], &[&second]);
        match text.and_then(|text| environment::parse(&text)) {
            Ok(parsed) => {
                for loss in parsed.losses {
                    self.warn(from.section, Subject::Entry(entry), loss);
                }
                for (name, value) in &parsed.environment.0 {
                    self.env.insert(format!("ENV_{name}"), Value::Text(value.clone()));
                }
                parsed.environment
            }
            Err(problem) => {
                self.error(from, Subject::Entry(entry), problem);
                Environment::default()
            }
        }
    }

    /// The user of `[supervisord]`.
    pub(super) fn daemon_user(&mut self, section: &'a Section) -> Option<User> {
        let from = Source { section, is_program: false };
        let (here, machine) = (self.here.clone(), self.around.machine);
        self.read(from, "user", &[&here], |text| user(text, machine))
    }

    /// `[rpcinterface:x]` sections.
    pub(super) fn rpc_interfaces(&mut self) -> BTreeMap<String, BTreeMap<String, String>> {
        let mut interfaces = BTreeMap::new();
        for section in self.sections_of("rpcinterface:") {
            let from = Source { section, is_program: false };
            if section.get(FACTORY).is_none() {
                let problem = format!("section [{}] does not specify a {FACTORY}", section.name);
                self.error(from, Subject::Key(FACTORY), problem);
            }
            let mut keys = BTreeMap::new();
            for entry in &section.entries {
                if let Some(value) = self.text(from, &entry.key, &[]) {
                    keys.insert(entry.key.clone(), value);
                }
            }
            if let (Some(factory), Some(entry)) = (keys.get(FACTORY), section.get(FACTORY))
                && factory != MAIN_FACTORY
            {
                let supervisor = format!("{factory} cannot be resolved within [{}]", section.name);
                let problem = format!(
                    "{supervisor}: an RPC interface is Python code, which is not supported; only {MAIN_FACTORY} is"
                );
                self.error_as(from, Subject::Entry(entry), problem, supervisor);
            }
            let name = section.name.trim_start_matches("rpcinterface:").to_owned();
            interfaces.insert(name, keys);
        }
        interfaces
    }
}

/// `number`, or the largest that fits.
pub(super) fn saturated(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

const FACTORY: &str = "supervisor.rpcinterface_factory";
const MAIN_FACTORY: &str = "supervisor.rpcinterface:make_main_rpcinterface";
