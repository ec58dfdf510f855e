//! The command line, compared with what Supervisor 4.3.0 prints.

use super::*;
use crate::config::{LogLevel, User};

/// A machine with one user, one directory and no surprises.
struct Plain;

impl Machine for Plain {
    fn user_by_name(&self, name: &str) -> Option<User> {
        (name == "root").then(|| User { name: "root".into(), uid: 0, gid: 0 })
    }
    fn user_by_id(&self, uid: u32) -> Option<User> {
        (uid == 0).then(|| User { name: "root".into(), uid: 0, gid: 0 })
    }
    fn group_by_name(&self, _: &str) -> Option<u32> {
        None
    }
    fn has_group(&self, _: u32) -> bool {
        false
    }
    fn home(&self, _: Option<&str>) -> Option<String> {
        None
    }
    fn is_directory(&self, path: &str) -> bool {
        ["/tmp", ".."].contains(&path)
    }
    fn own_uid(&self) -> u32 {
        0
    }
}

fn run(words: &[&str]) -> Result<Invocation, String> {
    let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    parse("supervisord", &words, &Surroundings { machine: &Plain, cwd: "/srv" }).map_err(|error| error.0)
}

fn overrides(words: &[&str]) -> Overrides {
    match run(words) {
        Ok(Invocation::Run(args)) => args.overrides,
        other => panic!("{words:?}: {other:?}"),
    }
}

#[test]
fn values_become_typed_settings() {
    let all = [
        "-nsktu0",
        "-m027",
        "-d",
        "/tmp",
        "-l",
        "d.log",
        "-y",
        "1KB",
        "-z3",
        "-eBlather",
        "-j",
        "../d.pid",
        "-i",
        "me",
        "-q/tmp",
        "-a",
        "10",
        "--minprocs=20",
    ];
    let expected = Overrides {
        nodaemon: Some(true),
        silent: Some(true),
        nocleanup: Some(true),
        strip_ansi: Some(true),
        user: Plain.user_by_id(0),
        umask: Some(0o027),
        directory: Some("/tmp".into()),
        logfile: Some(DaemonLog::File("/srv/d.log".into())),
        logfile_maxbytes: Some(1024),
        logfile_backups: Some(3),
        loglevel: Some(LogLevel::Blather),
        pidfile: Some("/d.pid".into()),
        identifier: Some("me".into()),
        childlogdir: Some("/tmp".into()),
        minfds: Some(10),
        minprocs: Some(20),
    };
    assert_eq!(overrides(&all), expected);
    assert_eq!(overrides(&["-l", "syslog"]).logfile, Some(DaemonLog::Syslog));
    assert_eq!(overrides(&[]), Overrides::default());
}

/// Command lines that Supervisor refuses, with its words after `Error: `.
#[test]
fn refuses_what_supervisor_refuses_in_its_words() {
    let table: &[(&[&str], &str)] = &[
        (&["-x"], "option -x not recognized"),
        (&["-nx"], "option -x not recognized"),
        (&["--nosuch"], "option --nosuch not recognized"),
        (&["-c"], "option -c requires argument"),
        (&["-nc"], "option -c requires argument"),
        (&["--conf"], "option --configuration requires argument"),
        (&["--mi"], "option --mi not a unique prefix"),
        (&["--m", "1"], "option --m not a unique prefix"),
        (&["--nodae=1"], "option --nodaemon must not have an argument"),
        (&["foo"], "positional arguments are not supported: ['foo']"),
        (&["-n", "foo", "-x", "it's"], "positional arguments are not supported: ['foo', '-x', \"it's\"]"),
        (&["-"], "positional arguments are not supported: ['-']"),
        (&["-n", "--", "-s"], "positional arguments are not supported: ['-s']"),
        (&["-n", "-n"], "conflicting command line option '-n'"),
        (&["-nn"], "conflicting command line option '-n'"),
        (&["-n", "--nodae"], "conflicting command line option '--nodaemon'"),
        (&["-m", "99"], "invalid value for -m '99': 99 can not be converted to an octal type"),
        (&["-d", "/no"], "invalid value for -d '/no': /no is not an existing directory"),
        (&["-q/no"], "invalid value for -q '/no': /no is not an existing directory"),
        (
            &["-l", "/no/x"],
            "invalid value for -l '/no/x': The directory named as part of the path /no/x does not exist",
        ),
        (
            &["--pid=/no/x"],
            "invalid value for --pidfile '/no/x': The directory named as part of the path /no/x does not exist",
        ),
        (&["-y", "1k"], "invalid value for -y '1k': invalid literal for int() with base 10: '1k'"),
        (&["-z", "x"], "invalid value for -z 'x': invalid literal for int() with base 10: 'x'"),
        (&["-e", "loud"], "invalid value for -e 'loud': bad logging level name 'loud'"),
        (&["-a", "1.5"], "invalid value for -a '1.5': invalid literal for int() with base 10: '1.5'"),
        (&["--minp", ""], "invalid value for --minprocs '': invalid literal for int() with base 10: ''"),
        (&["-u", "nosuch"], "Invalid user name nosuch"),
        (&["-u", "12345"], "Invalid user id 12345"),
        (&["-c", "a", "--conf=b"], "conflicting command line option '--configuration'"),
    ];
    for (words, message) in table {
        assert_eq!(run(words), Err((*message).to_owned()), "{words:?}");
    }
}

#[test]
fn prints_two_lines_on_a_usage_error() {
    let error = UsageError("option -x not recognized".to_owned());
    assert_eq!(
        error.report("/x/supervisord"),
        "Error: option -x not recognized\nFor help, use /x/supervisord -h\n"
    );
}

#[test]
fn prints_the_version_that_tools_expect() {
    assert_eq!(run(&["-v"]), Ok(Invocation::Print("4.3.0\n".to_owned())));
    assert_eq!(run(&["--vers"]), Ok(Invocation::Print("4.3.0\n".to_owned())));
}

#[test]
fn help_starts_as_supervisors_and_has_every_option() {
    for word in ["-h", "-?", "--help", "--he"] {
        let Ok(Invocation::Print(text)) = run(&[word]) else { panic!("{word} prints no text") };
        assert!(text.starts_with(
            "supervisord -- run a set of applications as daemons.\n\nUsage: supervisord [options]"
        ));
        assert!(text.contains("\n-l/--logfile FILENAME -- use FILENAME as logfile path\n"));
        assert!(text.contains("\n--minprocs NUM -- "));
        assert!(!text.contains("--spawn-method"));
    }
}

/// Options act in the order of the command line, after all of it has been split.
#[test]
fn help_comes_before_later_mistakes_of_meaning_but_not_of_form() {
    assert!(matches!(run(&["-h", "-n", "-n"]), Ok(Invocation::Print(_))));
    assert_eq!(run(&["-h", "-x"]), Err("option -x not recognized".to_owned()));
}

#[test]
fn values_are_taken_in_all_forms() {
    for words in
        [&["-cfile"][..], &["-c", "file"], &["-ncfile"], &["--conf", "file"], &["--configuration=file"]]
    {
        let Ok(Invocation::Run(args)) = run(words) else { panic!("{words:?} refused") };
        assert_eq!(args.configuration, Some(PathBuf::from("file")), "{words:?}");
    }
}

/// Our own options never make an abbreviation ambiguous that Supervisor accepts.
#[test]
fn abbreviations_of_supervisors_options_stay_unique() {
    for (prefix, value) in [("--ch", "/tmp"), ("--co", "x"), ("--d", "/tmp"), ("--i", "x")] {
        assert!(matches!(run(&[prefix, value]), Ok(Invocation::Run(_))), "{prefix}");
    }
    let Ok(Invocation::Run(args)) = run(&["--st"]) else { panic!("--st refused") };
    assert!(!args.strict);
    let Ok(Invocation::Run(args)) = run(&["--stric", "--check"]) else { panic!("--stric refused") };
    assert!(args.strict);
    assert_eq!(args.task, Task::Check);
}

#[test]
fn own_options_name_what_is_allowed() {
    assert_eq!(
        run(&["--dump-config=yaml"]),
        Err("invalid value for --dump-config 'yaml': expected json".to_owned())
    );
    assert_eq!(
        run(&["--spawn-method", "vfork"]),
        Err("invalid value for --spawn-method 'vfork': expected clone or fork".to_owned())
    );
}

#[test]
fn an_optional_value_is_taken_from_the_same_word_only() {
    for (words, expected) in [
        (&["--take-over"][..], TakeOver::Configured),
        (&["--take", "-n"], TakeOver::Configured),
        (&["--take-over=unix:///run/s.sock"], TakeOver::At("unix:///run/s.sock".to_owned())),
        (&["--take=http://localhost:9001", "-n"], TakeOver::At("http://localhost:9001".to_owned())),
    ] {
        let Ok(Invocation::Run(args)) = run(words) else { panic!("{words:?} refused") };
        assert_eq!(args.take_over, Some(expected), "{words:?}");
    }
    for (word, value) in [("--take-over=", "''"), ("--take=/run/s.sock", "'/run/s.sock'")] {
        let expected =
            format!("invalid value for --take-over {value}: expected unix:///path or http://host:port");
        assert_eq!(run(&[word]), Err(expected));
    }
    assert_eq!(
        run(&["--take-over", "http://localhost:9001"]),
        Err("positional arguments are not supported: ['http://localhost:9001']".to_owned())
    );
    assert_eq!(
        run(&["--take-over", "--take-over=http://h:1"]),
        Err("conflicting command line option '--take-over'".to_owned())
    );
}

#[test]
fn completions_and_manual_page_are_made_from_the_same_table() {
    let Ok(Invocation::Print(script)) = run(&["--completions=bash"]) else { panic!("refused") };
    assert!(script.contains("--logfile_maxbytes"));
    let Ok(Invocation::Print(page)) = run(&["--man"]) else { panic!("refused") };
    assert!(page.contains(".TH supervisord"));
}

#[test]
fn the_clap_command_is_consistent() {
    command().debug_assert();
}
