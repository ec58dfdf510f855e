//! The configuration against CPython and Supervisor 4.3.
//!
//! `golden/*.json` keeps what they make of tricky texts (written by `golden/generate_ini.py`), so that no Python is needed.
//! With `SUPERVISOR_PYTHON` (a Python with Supervisor) and `SUPERVISOR_CORPUS` (a directory of configuration files), the
//! effective values of real files are compared as well.

#![expect(clippy::unwrap_used, reason = "a test ends where something is missing")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use supervisord::config::{
    Config, GroupKind, Listen, LogTarget, OutputConfig, ProgramConfig, User, environment,
    error::ConfigErrors,
    expand::{self, Names},
    ini::Reader,
    load::{Inputs, Loaded, Overrides, load, load_for},
    parse::Machine,
    shlex,
};

/// The users and directories that the golden results were made with.
struct TestMachine {
    /// Whether every user and directory exists.
    is_permissive: bool,
}

const RESTRICTED: TestMachine = TestMachine { is_permissive: false };
const PERMISSIVE: TestMachine = TestMachine { is_permissive: true };

impl TestMachine {
    /// The same number as in `golden/corpus.py`.
    fn number(name: &str) -> u32 {
        1000 + name.bytes().map(u32::from).sum::<u32>() % 1000
    }

    fn user(name: &str, uid: u32, gid: u32) -> Option<User> {
        Some(User { name: name.to_owned(), uid, gid })
    }
}

impl Machine for TestMachine {
    fn user_by_name(&self, name: &str) -> Option<User> {
        match name {
            name if self.is_permissive => Self::user(name, Self::number(name), Self::number(name) + 1),
            "root" => Self::user("root", 0, 0),
            _ => None,
        }
    }

    fn user_by_id(&self, uid: u32) -> Option<User> {
        if self.is_permissive || uid == 0 {
            Self::user("x", uid, uid + u32::from(self.is_permissive))
        } else {
            None
        }
    }

    fn group_by_name(&self, name: &str) -> Option<u32> {
        if self.is_permissive { Some(Self::number(name) + 1) } else { (name == "root").then_some(0) }
    }

    fn has_group(&self, gid: u32) -> bool {
        self.is_permissive || gid == 0
    }

    fn home(&self, user: Option<&str>) -> Option<String> {
        user.is_none().then(|| "/home/x".to_owned())
    }

    fn is_directory(&self, path: &str) -> bool {
        (self.is_permissive && !path.starts_with("/proc")) || Path::new(path).is_dir()
    }

    fn own_uid(&self) -> u32 {
        0
    }
}

fn golden(name: &str) -> Vec<(String, Value)> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Compares every result with its golden one, and reports all differences at once.
fn compare(name: &str, at_least: usize, ours: impl Fn(&str) -> Value) {
    let rows = golden(name);
    assert!(rows.len() >= at_least, "{name} has only {} rows", rows.len());
    let differences: Vec<String> = rows
        .iter()
        .map(|(text, theirs)| (text, theirs, ours(text)))
        .filter(|(_, theirs, ours)| *theirs != ours)
        .map(|(text, theirs, ours)| format!("{text:?}\n  expected {theirs}\n  got      {ours}"))
        .collect();
    assert!(
        differences.is_empty(),
        "{} of {} differ:\n{}",
        differences.len(),
        rows.len(),
        differences.join("\n")
    );
}

fn outcome<T: Into<Value>, E: ToString>(result: Result<T, E>) -> Value {
    match result {
        Ok(value) => json!({ "ok": value.into() }),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

#[test]
fn ini_texts_are_read_like_by_cpython() {
    compare("ini.json", 80, |text| {
        let mut reader = Reader::default();
        outcome(reader.read("f.conf", text).map(|()| {
            let sections = reader.sections().unwrap().into_iter().map(|section| {
                // Python lists the keys of `[DEFAULT]` first.
                let (inherited, own): (Vec<_>, Vec<_>) =
                    section.entries.into_iter().partition(|entry| entry.is_inherited);
                let pairs = inherited.into_iter().chain(own).map(|entry| json!([entry.key, entry.value]));
                json!([section.name, pairs.collect::<Value>()])
            });
            sections.collect::<Value>()
        }))
    });
}

#[test]
fn command_lines_are_split_like_by_cpython() {
    compare("shlex.json", 40, |text| outcome(shlex::split(text)));
}

#[test]
fn environments_are_read_like_by_supervisor() {
    compare("environment.json", 60, |text| {
        outcome(environment::parse(text).map(|parsed| {
            let pairs = parsed.environment.0.into_iter().map(|(name, value)| json!([name, value]));
            pairs.collect::<Value>()
        }))
    });
}

#[test]
fn expressions_are_expanded_like_by_cpython() {
    let text = |text: &str| expand::Value::Text(text.to_owned());
    let number = expand::Value::Number;
    let names = [
        ("here", text("/etc")),
        ("process_num", number(7)),
        ("neg", number(-3)),
        ("big", number(1_234_567)),
        ("zero", number(0)),
        ("é", text("ü")),
        ("a(b)c", text("nested")),
        ("", text("empty")),
        ("s", text("it's")),
    ];
    let names: Names = names.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    compare("expansion.json", 100, |text| outcome(expand::expand(text, &[&names], "k")));
}

#[test]
fn configurations_have_the_values_and_errors_of_supervisor() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_str().unwrap();
    let environment = [("HOME", "/home/x"), ("PATH", "/bin"), ("X", "x value"), ("P", "50%")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let inputs = Inputs {
        environment: BTreeMap::from(environment),
        cwd: directory.path().to_owned(),
        host_node_name: "host".to_owned(),
        temporary_directory: directory.path().to_owned(),
    };
    let path = directory.path().join("supervisord.conf");
    compare("configs.json", 300, |text| {
        fs::write(&path, text.replace("@DIR@", root)).unwrap();
        let observed = observe(load_for(&path, &inputs, &Overrides::default(), &RESTRICTED));
        serde_json::from_str(&observed.to_string().replace(root, "@DIR@")).unwrap()
    });
}

/// Our counterpart of `observe` in `golden/corpus.py`.
fn observe(result: Result<Loaded, ConfigErrors>) -> Value {
    match result {
        Err(errors) => json!({ "error": errors.first_like_supervisor() }),
        Ok(Loaded { config, warnings, .. }) => {
            let warnings: Vec<_> = warnings.into_iter().filter_map(|warning| warning.supervisor).collect();
            json!({ "config": {
                "daemon": daemon(&config),
                "groups": groups(&config),
                "servers": servers(&config),
                "warnings": warnings,
            } })
        }
    }
}

fn variables(environment: &supervisord::config::Environment) -> Value {
    environment
        .0
        .iter()
        .map(|(name, value)| (name.clone(), json!(value)))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

fn daemon(config: &Config) -> Value {
    let daemon = &config.daemon;
    let logfile = match &daemon.logfile {
        supervisord::config::DaemonLog::File(path) => json!(path),
        supervisord::config::DaemonLog::Syslog => json!("syslog"),
    };
    json!({
        "logfile": logfile, "logfile_maxbytes": daemon.logfile_maxbytes, "logfile_backups": daemon.logfile_backups,
        "pidfile": daemon.pidfile, "umask": daemon.umask, "nodaemon": daemon.nodaemon, "silent": daemon.silent,
        "minfds": daemon.minfds, "minprocs": daemon.minprocs, "identifier": daemon.identifier,
        "directory": daemon.directory, "childlogdir": daemon.childlogdir, "nocleanup": daemon.nocleanup,
        "strip_ansi": daemon.strip_ansi, "uid": daemon.user.as_ref().map(|user| user.uid), "loglevel": daemon.loglevel,
        "environment": variables(&daemon.environment),
    })
}

fn groups(config: &Config) -> Value {
    let groups = config.groups.iter().map(|group| {
        let kind = match &group.kind {
            GroupKind::Program | GroupKind::Group => "other".to_owned(),
            GroupKind::EventListener { .. } => "eventlistener".to_owned(),
            GroupKind::FastCgi => {
                let socket = group.processes.first().and_then(|process| process.fastcgi.as_ref());
                format!("fastcgi {}", socket.expect("a FastCGI program has a socket").socket.url())
            }
        };
        let processes = group.processes.iter().map(|one| process(one)).collect::<Value>();
        json!({ "name": group.name, "priority": group.priority, "kind": kind, "processes": processes })
    });
    groups.collect()
}

fn process(process: &ProgramConfig) -> Value {
    json!({
        "stdout": output(&process.stdout), "stderr": output(&process.stderr),
        "name": process.name, "command": process.command, "priority": process.priority,
        "autostart": process.autostart, "autorestart": process.autorestart,
        "startsecs": process.startsecs.as_secs(), "startretries": process.startretries,
        "exitcodes": process.exitcodes, "stopsignal": process.stopsignal.0,
        "stopwaitsecs": process.stopwaitsecs.as_secs(), "stopasgroup": process.stopasgroup,
        "killasgroup": process.killasgroup, "uid": process.user.as_ref().map(|user| user.uid),
        "redirect_stderr": process.redirect_stderr, "environment": variables(&process.environment),
        "directory": process.directory, "umask": process.umask, "serverurl": process.serverurl,
    })
}

fn output(output: &OutputConfig) -> Value {
    let logfile = match &output.logfile {
        LogTarget::None => Value::Null,
        LogTarget::Auto => json!("auto"),
        LogTarget::File(path) => json!(path),
    };
    json!({
        "logfile": logfile, "maxbytes": output.maxbytes, "backups": output.backups,
        "capture_maxbytes": output.capture_maxbytes, "events_enabled": output.events_enabled,
        "syslog": output.syslog,
    })
}

fn servers(config: &Config) -> Value {
    let servers = config.servers.iter().map(|server| {
        let username = server.credentials.as_ref().map(|credentials| &credentials.username);
        match &server.listen {
            Listen::Unix { path, mode, owner } => {
                let owner = owner.map_or((u32::MAX, u32::MAX), |owner| (owner.uid, owner.gid));
                json!({ "section": server.section, "username": username, "file": path, "mode": mode, "owner": owner })
            }
            Listen::Inet { host, port } => {
                json!({ "section": server.section, "username": username, "host": host, "port": port })
            }
        }
    });
    servers.collect()
}

/// Real files; those without `[supervisord]` are included by a main file of their own.
fn corpus(directory: &Path, scratch: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "conf"));
    files.sort();
    let main = |path: PathBuf| {
        if fs::read_to_string(&path).unwrap().contains("[supervisord]") {
            return path;
        }
        let main = scratch.join(path.file_name().unwrap());
        fs::write(&main, format!("[supervisord]\n[include]\nfiles={}\n", path.display())).unwrap();
        main
    };
    files.into_iter().map(main).collect()
}

/// `ENV_x` names in the corpus, with made-up values.
fn named_variables(directory: &Path) -> BTreeMap<String, String> {
    let files =
        fs::read_dir(directory).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    let mut variables = BTreeMap::new();
    for text in files {
        for rest in text.split("%(ENV_").skip(1) {
            let name = rest.split(')').next().unwrap().to_owned();
            variables.insert(name.clone(), format!("1{}", name.to_lowercase()));
        }
    }
    variables
}

#[test]
fn real_files_have_the_values_and_errors_of_supervisor() {
    let variable = |name| std::env::var_os(name).map(PathBuf::from);
    let (Some(python), Some(directory)) = (variable("SUPERVISOR_PYTHON"), variable("SUPERVISOR_CORPUS"))
    else {
        eprintln!("not compared: SUPERVISOR_PYTHON and SUPERVISOR_CORPUS are not set");
        return;
    };
    let scratch = tempfile::tempdir().unwrap();
    let files = corpus(&directory, scratch.path());
    assert!(!files.is_empty(), "no .conf file in {}", directory.display());
    for (mode, is_permissive) in [("real", false), ("permissive", true)] {
        let mut environment = if is_permissive { named_variables(&directory) } else { BTreeMap::new() };
        for (name, value) in
            [("HOME", "/home/x"), ("PATH", "/bin"), ("LC_ALL", "C.UTF-8"), ("TMPDIR", "/tmp")]
        {
            environment.insert(name.to_owned(), value.to_owned());
        }
        let theirs = supervisors_view(&python, mode, &files, &environment, scratch.path());
        let inputs = Inputs {
            environment,
            cwd: scratch.path().to_owned(),
            host_node_name: nix::unistd::gethostname().unwrap().into_string().unwrap(),
            temporary_directory: PathBuf::from("/tmp"),
        };
        let mut differences = Vec::new();
        for file in &files {
            let ours = observe(if is_permissive {
                load_for(file, &inputs, &Overrides::default(), &PERMISSIVE)
            } else {
                load(file, &inputs, &Overrides::default())
            });
            let theirs = &theirs[file.to_str().unwrap()];
            if ours != *theirs {
                differences.push(format!("{}\n  expected {theirs}\n  got      {ours}", file.display()));
            }
        }
        let errors =
            files.iter().filter(|file| theirs[file.to_str().unwrap()].get("error").is_some()).count();
        println!("{mode}: {} files compared, {errors} of them refused by both", files.len());
        assert!(differences.is_empty(), "{} files differ:\n{}", differences.len(), differences.join("\n"));
    }
}

#[expect(clippy::disallowed_types, reason = "a test runs the original, and is no supervisor")]
fn supervisors_view(
    python: &Path,
    mode: &str,
    files: &[PathBuf],
    environment: &BTreeMap<String, String>,
    cwd: &Path,
) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/corpus.py");
    let mut command = std::process::Command::new(python);
    command.arg(script).arg(mode).args(files).env_clear().envs(environment).current_dir(cwd);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
