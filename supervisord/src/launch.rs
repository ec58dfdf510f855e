//! What happens before there is a daemon: command line, configuration, and the split into launcher and daemon.
//!
//! Owns what is printed on the terminal and the exit status of everything that ends here. The steps of the daemon
//! itself are in `startup`.

use std::{env, io::Write, process::ExitCode};

use crate::{
    args::{self, Args, Invocation, Surroundings, Task},
    config::{
        error::{ConfigErrors, ConfigWarning},
        load::{self, Inputs, Loaded, ThisMachine},
    },
    daemonize::{self, Readiness, Role, USAGE_STATUS, Verdict},
    handover::{self, Handover, Origin},
    notify::ServiceManager,
    startup::{self, ReadySignal, Start, StartError},
};

/// The program ends here, with this status; everything was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended(pub u8);

impl From<Ended> for ExitCode {
    fn from(ended: Ended) -> Self {
        Self::from(ended.0)
    }
}

/// What a start is given beside command line and configuration.
#[derive(Debug)]
pub struct Launch {
    /// Whom to tell that the daemon is ready.
    pub ready: ReadySignal,
    /// What was started.
    pub origin: Origin,
    /// The image of this daemon before this one, if there was one.
    pub predecessor: Option<Handover>,
}

/// What an image of this daemon before this one has left to us.
///
/// # Errors
/// [`Ended`] when it left something that cannot be understood: its check must have said so before.
pub fn predecessor() -> Result<Option<Handover>, Ended> {
    Handover::take().map_err(|error| {
        complain(&format!("Error: {error}\n"));
        Ended(1)
    })
}

/// Which file this process was started from.
///
/// # Errors
/// [`Ended`] when neither its name nor its directory can be told.
pub fn origin() -> Result<Origin, Ended> {
    Origin::of_this_process().map_err(|error| {
        complain(&format!("Error: cannot determine the working directory and the binary: {error}\n"));
        Ended(USAGE_STATUS)
    })
}

/// Goes on where the image before this one left off. When a step fails, that image is executed again: the programs
/// run, and only it can supervise them.
///
/// # Errors
/// [`Ended`] when there is no way back either.
pub fn succeed<F>(predecessor: Handover, driver: F) -> Result<ExitCode, Ended>
where
    F: AsyncFnOnce(Start) -> ExitCode,
{
    let (origin, failed) =
        (predecessor.state.origin.clone(), |_: Ended| "its start fails as shown on stderr");
    let prepared = env::set_current_dir(&origin.directory)
        .map_err(|error| format!("cannot return to {}: {error}", origin.directory.display()))
        .and_then(|()| {
            let args = command_line().map_err(|ended| failed(ended).to_owned())?;
            let loaded = configuration(&args).map_err(|ended| failed(ended).to_owned())?;
            let manager = ServiceManager::take_from_environment().unwrap_or_default();
            Ok((args, loaded, manager))
        });
    match prepared {
        Ok((args, loaded, manager)) => {
            let ready = ReadySignal::new(Readiness::foreground(), manager);
            run(loaded, args, Launch { ready, origin, predecessor: Some(predecessor) }, driver)
        }
        Err(problem) => Err(give_up(&predecessor, &problem)),
    }
}

/// Executes the image before this one again; returns only when that fails too.
pub fn give_up(predecessor: &Handover, problem: &str) -> Ended {
    let error = predecessor.go_back(problem);
    complain(&format!(
        "Error: supervisord cannot take over from version {} ({problem}) and cannot go back to it ({error})\n",
        predecessor.state.version
    ));
    Ended(1)
}

/// Reads the command line of this process.
///
/// # Errors
/// [`Ended`] after a usage error, and after options such as `--help` which only print.
pub fn command_line() -> Result<Args, Ended> {
    let mut words = env::args_os().map(|word| word.to_string_lossy().into_owned());
    let argv0 = words.next().unwrap_or_else(|| "supervisord".to_owned());
    let words: Vec<String> = words.collect();
    let inputs = Inputs::of_this_process().map_err(|error| {
        complain(&args::report(&format!("cannot determine the working directory: {error}"), &argv0));
        Ended(USAGE_STATUS)
    })?;
    let machine = ThisMachine::new(&inputs);
    let cwd = inputs.cwd.to_string_lossy();
    match args::parse(&argv0, &words, &Surroundings { machine: &machine, cwd: &cwd }) {
        Ok(Invocation::Run(args)) => Ok(*args),
        Ok(Invocation::Print(text)) => {
            print(&text);
            Err(Ended(0))
        }
        Err(error) => {
            complain(&error.report(&argv0));
            Err(Ended(USAGE_STATUS))
        }
    }
}

/// Reads the configuration; for `--check` and `--dump-config` says what was asked for.
///
/// # Errors
/// [`Ended`] when the configuration is refused, and after a task that does not supervise.
pub fn configuration(args: &Args) -> Result<Loaded, Ended> {
    let refused = |text: String| {
        complain(&text);
        Ended(USAGE_STATUS)
    };
    let path = match &args.configuration {
        Some(path) => path.clone(),
        None => search(&args.argv0).map_err(|message| refused(args::report(&message, &args.argv0)))?,
    };
    let inputs = Inputs::of_this_process().map_err(|error| {
        refused(args::report(&format!("cannot determine the working directory: {error}"), &args.argv0))
    })?;
    let loaded =
        load::load(&path, &inputs, &args.overrides).map_err(|errors| refused(refusal(&errors, args)))?;
    if args.strict || args.task == Task::Check {
        complain(&loaded.warnings.iter().map(warning_line).collect::<String>());
    }
    if args.strict && !loaded.warnings.is_empty() {
        let warnings = match loaded.warnings.len() {
            1 => "1 warning".to_owned(),
            count => format!("{count} warnings"),
        };
        return Err(refused(args::report(&format!("{warnings}, and --strict is given"), &args.argv0)));
    }
    match args.task {
        Task::Supervise => return Ok(loaded),
        Task::Check => {
            print(&format!("{}: no errors\n", loaded.path.display()));
        }
        Task::DumpConfig => print(&dump(&loaded)),
        Task::CheckHandover => {
            let answer = handover::answer(&args.handover_format, &loaded.config);
            print(&answer.map_err(|problem| refused(format!("{problem}\n")))?);
        }
    }
    Err(Ended(0))
}

/// The configuration file at a usual place.
fn search(argv0: &str) -> Result<std::path::PathBuf, String> {
    if nix::unistd::getuid().is_root() {
        complain(
            "UserWarning: Supervisord is running as root and it is searching for its configuration file in default \
             locations (including its current working directory); you probably want to specify a \"-c\" argument \
             specifying an absolute path to a configuration file for improved security.\n",
        );
    }
    load::search(argv0).map_err(|error| error.to_string())
}

/// All mistakes with their places, then the two lines of Supervisor; these alone where there is nothing to add.
fn refusal(errors: &ConfigErrors, args: &Args) -> String {
    let report = args::report(&errors.first_like_supervisor(), &args.argv0);
    match errors.all() {
        [error] if error.line.is_none() && error.problem == error.supervisor => report,
        _places => format!("{errors}\n{report}"),
    }
}

/// One warning on the terminal.
fn warning_line(warning: &ConfigWarning) -> String {
    format!("warning: {warning}\n")
}

/// The effective configuration as JSON.
fn dump(loaded: &Loaded) -> String {
    let json = serde_json::to_string_pretty(&loaded.config).expect("a configuration has only string keys");
    json + "\n"
}

/// Splits into launcher and daemon, unless the daemon stays in the foreground.
///
/// # Errors
/// [`Ended`] in the launcher, when the daemon is ready or has failed.
pub fn detach(loaded: &Loaded, manager: ServiceManager) -> Result<ReadySignal, Ended> {
    if loaded.config.daemon.nodaemon {
        return Ok(ReadySignal::new(Readiness::foreground(), manager));
    }
    match daemonize::detach() {
        Ok(Role::Daemon(readiness)) => Ok(ReadySignal::new(readiness, manager)),
        Ok(Role::Launcher(Verdict::Ready)) => Err(Ended(0)),
        Ok(Role::Launcher(Verdict::Failed { status, text })) => {
            complain(&text);
            Err(Ended(status))
        }
        Err(error) => {
            complain(&format!("Error: {error}\n"));
            Err(Ended(1))
        }
    }
}

/// Performs the daemon's start and runs `driver` on a runtime of one thread.
///
/// # Errors
/// [`Ended`] when the start fails.
pub fn run<F>(loaded: Loaded, args: Args, launch: Launch, driver: F) -> Result<ExitCode, Ended>
where
    F: AsyncFnOnce(Start) -> ExitCode,
{
    let argv0 = args.argv0.clone();
    let backlog = startup::remarks(&loaded);
    let Launch { mut ready, origin, mut predecessor } = launch;
    // The runtime starts no thread. It comes first, because a failed start must be told from one place.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let prepared = runtime.map_err(StartError::Runtime).and_then(|runtime| {
        let inside = runtime.enter();
        let start = match &mut predecessor {
            Some(_) => startup::succeed(loaded, args, backlog, (&mut ready, origin), &mut predecessor)?,
            None => startup::prepare(loaded, args, backlog, (&mut ready, origin))?,
        };
        drop(inside);
        Ok((runtime, start))
    });
    match prepared {
        Ok((runtime, start)) => Ok(runtime.block_on(driver(start))),
        Err(error) => {
            if let Some(predecessor) = &predecessor {
                give_up(predecessor, &error.to_string());
            }
            ready.failed(&error, &argv0);
            Err(Ended(error.status()))
        }
    }
}

/// Prints on stdout. A reader that went away wants no more.
fn print(text: &str) {
    drop(std::io::stdout().write_all(text.as_bytes()));
}

/// Prints on stderr, the last resort: nothing can be done when it fails.
fn complain(text: &str) {
    drop(std::io::stderr().write_all(text.as_bytes()));
}
