use std::fs;

use proptest::prelude::*;

use super::*;
use crate::config::{GroupKind, LogTarget};

struct Directory(tempfile::TempDir);

impl Directory {
    fn with(files: &[(&str, &str)]) -> Self {
        let directory = Self(tempfile::tempdir().unwrap());
        for (name, text) in files {
            let path = directory.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        directory
    }

    fn inputs(&self) -> Inputs {
        Inputs {
            environment: BTreeMap::from([
                ("HOME".to_owned(), "/".to_owned()),
                ("V".to_owned(), "v".to_owned()),
            ]),
            cwd: self.0.path().to_owned(),
            host_node_name: "node".to_owned(),
            temporary_directory: PathBuf::from("/tmp"),
        }
    }

    fn load(&self) -> Result<Loaded, ConfigErrors> {
        load(Path::new("main.conf"), &self.inputs(), &Overrides::default())
    }
}

fn errors(text: &str) -> Vec<String> {
    let errors = Directory::with(&[("main.conf", text)]).load().unwrap_err();
    errors.all().iter().map(ToString::to_string).collect()
}

fn warnings(text: &str) -> Vec<String> {
    let loaded = Directory::with(&[("main.conf", text)]).load().unwrap();
    loaded.warnings.iter().map(ToString::to_string).collect()
}

#[test]
fn all_errors_are_told_with_their_places() {
    let text = "[supervisord]\nminfds=many\n[program:a]\ncommand=x\nstartsecs = ten\nexitcodes=0,999\n\
                [program:b]\n[group:g]\nprograms=c\n[inet_http_server]\nport=1\nusername=u%\npassword=p\n";
    assert_eq!(
        errors(text),
        [
            "main.conf:2: [supervisord] minfds = \"many\": invalid literal for int() with base 10: 'many'",
            "main.conf:9: [group:g] programs = \"c\": [group:g] names unknown program or fcgi-program c",
            "main.conf:5: [program:a] startsecs = \"ten\": invalid literal for int() with base 10: 'ten'",
            "main.conf:6: [program:a] exitcodes = \"0,999\": not a valid list of exit codes: '0,999'",
            "main.conf:7: [program:b] command: program section program:b does not specify a command",
            "main.conf:12: [inet_http_server] username: Format string '(hidden)' for 'inet_http_server.username' is badly \
         formatted: incomplete format",
        ]
    );
}

#[test]
fn syntax_errors_of_all_files_are_told() {
    let directory = Directory::with(&[
        ("main.conf", "[supervisord]\njunk\n[include]\nfiles=*.ini\n"),
        ("a.ini", "x=1\n"),
        ("b.ini", "[b]\nmore junk\n"),
    ]);
    let errors = directory.load().unwrap_err();
    let root = directory.0.path().display();
    let expected = [
        "main.conf:2: expected a key and =, or a section: \"junk\"".to_owned(),
        format!("{root}/a.ini:1: expected a section such as [supervisord] first: \"x=1\""),
        format!("{root}/b.ini:2: expected a key and =, or a section: \"more junk\""),
    ];
    assert_eq!(errors.all().iter().map(ToString::to_string).collect::<Vec<_>>(), expected);
    let first = "Source contains parsing errors: 'main.conf'\n\t[line  2]: 'junk\\n'";
    assert_eq!(errors.first_like_supervisor(), first);
}

#[test]
fn included_files_are_read_sorted_and_override() {
    let directory = Directory::with(&[
        ("main.conf", "[include]\nfiles = conf.d/*.conf nosuch/*.x\n[supervisord]\nidentifier=main\n"),
        ("conf.d/b.conf", "[supervisord]\nidentifier=b\n[program:b]\ncommand=%(here)s/run\n"),
        ("conf.d/a.conf", "[supervisord]\nidentifier=a\n[include]\nfiles=never\n"),
        ("conf.d/.hidden.conf", "junk"),
        ("conf.d/d.conf/x", ""),
    ]);
    let loaded = directory.load().unwrap();
    let root = directory.0.path();
    assert_eq!(loaded.config.daemon.identifier, "b");
    assert_eq!(loaded.included, ["a", "b", "d"].map(|name| root.join(format!("conf.d/{name}.conf"))));
    assert_eq!(loaded.config.groups[0].processes[0].command, format!("{}/conf.d/run", root.display()));
    assert_eq!(loaded.path, root.join("main.conf"));
    let warnings: Vec<_> = loaded.warnings.iter().map(ToString::to_string).collect();
    let nosuch = format!(
        "main.conf:2: [include] files: No file matches via include \"{}/nosuch/*.x\"",
        root.display()
    );
    assert!(warnings[0].contains("d.conf\" matches but cannot be read, skipped"), "{warnings:?}");
    assert_eq!(warnings[1], nosuch);
}

#[test]
fn files_that_cannot_be_used_are_told_like_by_supervisor() {
    let directory = Directory::with(&[("d/x", "")]);
    let first = |name: &str| {
        load(Path::new(name), &directory.inputs(), &Overrides::default()).unwrap_err().first_like_supervisor()
    };
    assert_eq!(first("nosuch.conf"), "could not find config file nosuch.conf");
    fs::write(directory.0.path().join("bad.conf"), b"[a]\nx=\xff\n").unwrap();
    assert_eq!(first("bad.conf"), "'utf-8' codec can't decode byte 0xff in position 6: invalid start byte");
    assert_eq!(first("d"), "could not read config file d");
    let big = fs::File::create(directory.0.path().join("big.conf")).unwrap();
    big.set_len(FILE_MAX + 1).unwrap();
    assert_eq!(first("big.conf"), "larger than the 16 MiB that a configuration file may have");
}

#[test]
fn doubtful_things_are_warned_of() {
    let text = "[supervisord]\n[program:a]\ncommand=bash -c 'x ; y'\nautostrt=true\nenvironment=A=b c\n\
                [program:g]\ncommand=z\n[group:g]\nprograms=a\npriority=1\n[progam:x]\n[program:y\nk=v\n";
    assert_eq!(
        warnings(text),
        [
            "main.conf:3: [program:a] command: a blank before ; or # starts a comment, even between quotes: the rest of \
         the line is not part of the value",
            "main.conf:4: [program:a] autostrt: unknown key, ignored; did you mean \"autostart\"?",
            "main.conf:11: [progam:x]: unknown section, ignored; did you mean [program:x]?",
            "main.conf:5: [program:a] environment: what follows the first word of A= is not part of its value: quote the value",
            "main.conf:6: [program:g]: ignored, because [group:g] is a group of the same name \"g\"",
        ]
    );
}

#[test]
fn percent_signs_of_shared_variables_can_be_doubled_once_or_twice() {
    let text =
        "[supervisord]\nenvironment=A=\"50%%\",B=\"x\"\n[program:a]\ncommand=%(ENV_A)s\nstdout_logfile=l%%\n";
    let config = Directory::with(&[("main.conf", text)]).load().unwrap().config;
    assert_eq!(config.daemon.environment.get("A"), Some("50%"));
    assert_eq!(config.groups[0].processes[0].command, "50%");
    assert_eq!(config.groups[0].processes[0].stdout.logfile, LogTarget::File("l%".into()));
    let twice =
        Directory::with(&[("main.conf", "[supervisord]\nenvironment=A=\"50%%%%\"\n")]).load().unwrap();
    assert_eq!(twice.config.daemon.environment.get("A"), Some("50%"));
}

#[test]
fn the_command_line_wins_but_the_file_must_be_valid() {
    let overrides = Overrides { minfds: Some(7), nodaemon: Some(true), ..Overrides::default() };
    let directory = Directory::with(&[("main.conf", "[supervisord]\nminfds=9\nminprocs=8\n")]);
    let daemon = load(Path::new("main.conf"), &directory.inputs(), &overrides).unwrap().config.daemon;
    assert_eq!((daemon.minfds, daemon.minprocs, daemon.nodaemon), (7, 8, true));
    let directory = Directory::with(&[("main.conf", "[supervisord]\nminfds=x\n")]);
    assert!(load(Path::new("main.conf"), &directory.inputs(), &overrides).is_err());
}

#[test]
fn plug_ins_in_python_are_refused_by_name() {
    let told = errors("[supervisord]\n[rpcinterface:x]\nsupervisor.rpcinterface_factory=a.b:make\n");
    assert_eq!(
        told,
        [
            "main.conf:3: [rpcinterface:x] supervisor.rpcinterface_factory = \"a.b:make\": a.b:make cannot be resolved \
          within [rpcinterface:x]: an RPC interface is Python code, which is not supported; only \
          supervisor.rpcinterface:make_main_rpcinterface is"
        ]
    );
}

#[test]
fn passwords_are_not_dumped() {
    let text = "[supervisord]\n[inet_http_server]\nport=1\nusername=me\npassword=secret\n";
    let config = Directory::with(&[("main.conf", text)]).load().unwrap().config;
    let dump = serde_json::to_string(&config).unwrap();
    assert!(dump.contains("(hidden)") && !dump.contains("secret") && !dump.contains("\"me\""), "{dump}");
    assert!(!format!("{config:?}").contains("secret"));
}

#[test]
fn supervisorctl_reads_its_section_from_included_files_too() {
    let directory = Directory::with(&[
        ("main.conf", "[include]\nfiles=ctl.ini\n"),
        ("ctl.ini", "[supervisorctl]\nserverurl=unix://%(here)s/s.sock\nprompt=p\nusername=u\npassword=w\n"),
    ]);
    let ctl = load_ctl(&directory.0.path().join("main.conf")).unwrap();
    assert_eq!(ctl.serverurl, format!("unix://{}/s.sock", directory.0.path().display()));
    assert_eq!((ctl.prompt.as_str(), ctl.username.as_deref()), ("p", Some("u")));
    let text = "[include]\nfiles=%(ENV_NOT_SET_HERE)s\n[supervisorctl]\nprompt=main\n";
    fs::write(directory.0.path().join("other.conf"), text).unwrap();
    assert_eq!(load_ctl(&directory.0.path().join("other.conf")).unwrap().prompt, "main");
    let text = "[supervisorctl]\n[ctlplugin:x]\nsupervisor.ctl_factory=a:b\n";
    fs::write(directory.0.path().join("plugin.conf"), text).unwrap();
    let error = load_ctl(&directory.0.path().join("plugin.conf")).unwrap_err().first_like_supervisor();
    assert_eq!(error, "a:b cannot be resolved within [ctlplugin:x]");
    fs::write(directory.0.path().join("ctl.ini"), "").unwrap();
    let error = load_ctl(&directory.0.path().join("main.conf")).unwrap_err().first_like_supervisor();
    assert_eq!(error, ".ini file does not include supervisorctl section");
}

#[test]
fn default_places_are_supervisors() {
    assert_eq!(
        search_paths("/usr/bin/supervisord")[..2],
        ["/usr/etc/supervisord.conf", "/usr/supervisord.conf"]
    );
    assert_eq!(search_paths("supervisord")[..2], ["etc/supervisord.conf", "supervisord.conf"]);
    let text = NoConfigFile(vec!["a".to_owned(), "b".to_owned()]).to_string();
    let expected = "No config file found at default paths (a, b); use the -c option to specify a config file at a \
                    different path";
    assert_eq!(text, expected);
}

#[test]
fn patterns_mean_what_they_mean_to_python() {
    for (pattern, expected) in
        [("a*", "a*"), ("a**/b", "a*/b"), ("a[b", "a[[]b"), ("a[b]", "a[b]"), ("[]", "[[]]")]
    {
        assert_eq!(glob_pattern(pattern), expected);
    }
}

proptest! {
    /// Whatever the text, reading ends with a configuration or with errors that can be printed.
    #[test]
    fn any_text_is_answered(keys in proptest::collection::vec(("[a-z_]{1,12}", "\\PC{0,20}"), 0..12),
                            kinds in proptest::collection::vec(0..8_usize, 1..5), known in 0..32_usize) {
        let headers = ["supervisord", "program:a", "program:b", "group:g", "eventlistener:e", "fcgi-program:f",
                       "unix_http_server", "inet_http_server"];
        let names = ["command", "numprocs", "process_name", "environment", "programs", "socket", "file", "port", "user"];
        let mut text = "[supervisord]\n".to_owned();
        for kind in kinds {
            text.push_str(&format!("[{}]\n{}={}\n", headers[kind], names[known % names.len()], known));
            for (key, value) in &keys {
                text.push_str(&format!("{key}={value}\n{}={value}\n", names[key.len() % names.len()]));
            }
        }
        match Directory::with(&[("main.conf", &text)]).load() {
            Ok(loaded) => {
                prop_assert!(loaded.config.groups.iter().all(|group| group.kind != GroupKind::Group || !group.name.contains(':')));
                prop_assert!(serde_json::to_string(&loaded.config).is_ok());
            }
            Err(errors) => prop_assert!(!errors.to_string().is_empty() && !errors.first_like_supervisor().is_empty()),
        }
    }
}

#[test]
fn nobody_is_waited_for_who_may_write_into_a_fifo() {
    let directory =
        Directory::with(&[("main.conf", "[supervisord]\n[include]\nfiles=more/*\n"), ("more/a", "")]);
    let fifo = |name: &str| {
        nix::unistd::mkfifo(&directory.0.path().join(name), nix::sys::stat::Mode::S_IRWXU).unwrap();
    };
    fifo("more/b");
    fifo("pipe");
    let again = |name: &str| load_again(Path::new(name), &directory.inputs(), &Overrides::default());
    for loaded in [directory.load(), again("main.conf")] {
        let warnings: Vec<String> = loaded.unwrap().warnings.iter().map(ToString::to_string).collect();
        let [warning] = &warnings[..] else { panic!("{warnings:?}") };
        assert!(
            warning.ends_with("/more/b\" matches but cannot be read, skipped: it is no regular file"),
            "{warning}"
        );
    }
    let errors = again("pipe").unwrap_err();
    assert_eq!(errors.to_string(), "pipe: cannot be read: it is no regular file");
    assert_eq!(errors.first_like_supervisor(), "could not read config file pipe");
    assert_eq!(again("none").unwrap_err().to_string(), "none: could not find config file none");
}

#[test]
fn a_plugin_of_supervisorctl_is_its_own_or_an_error_that_names_it() {
    let read = |factory: &str| {
        let text = format!("[supervisorctl]\nprompt=p\n[ctlplugin:x]\nsupervisor.ctl_factory={factory}\n");
        let directory = Directory::with(&[("main.conf", &text)]);
        load_ctl(&directory.0.path().join("main.conf")).map_err(|errors| errors.to_string())
    };
    assert_eq!(read("supervisor.supervisorctl:DefaultControllerPlugin").unwrap().prompt, "p");
    let error = read("mine:make").unwrap_err();
    assert!(
        error.ends_with(
            "main.conf:4: [ctlplugin:x] supervisor.ctl_factory = \"mine:make\": mine:make cannot be resolved within \
             [ctlplugin:x]: a plug-in is Python code, which is not supported; only \
             supervisor.supervisorctl:DefaultControllerPlugin is"
        ),
        "{error}"
    );
}
