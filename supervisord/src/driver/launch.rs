//! Makes a child from the settings of its program: command, descriptors, environment, identity.

use std::{
    ffi::{CStr, CString},
    fs::{File, OpenOptions},
    io,
    os::{
        fd::{AsFd as _, BorrowedFd, OwnedFd},
        unix::{ffi::OsStrExt as _, fs::OpenOptionsExt as _},
    },
    path::Path,
    sync::Arc,
};

use super::command::{self, CommandError};
use crate::{
    config::{Config, ProgramConfig, User, python},
    handover::{CHECK_OPTION, FORMAT, Origin},
    journal::record::Pipes,
    keeper,
    os::{
        limits, passing,
        pipe::{self, InputPipe, OnDaemonDeath, OutputPipe},
        spawn::{self, Identity, OpenFiles, SpawnFailure, SpawnPlan, Spawner, Subject},
        users::Register,
    },
    process::Pid,
};

/// What children have in common.
#[derive(Debug)]
pub(super) struct Launcher {
    spawner: Spawner,
    /// The daemon's environment: each name, and `name=value`, which all children share.
    environment: Vec<(Vec<u8>, Arc<CStr>)>,
    path: Option<String>,
    server_url: Option<String>,
    /// The limit that the daemon had before it raised its own.
    open_files: Option<OpenFiles>,
    users: Register,
    null: File,
}

/// A child and our ends of its descriptors.
#[derive(Debug)]
pub(super) struct Launched {
    /// The child.
    pub(super) pid: Pid,
    /// Its handle, where there can be one.
    pub(super) pidfd: Option<OwnedFd>,
    /// Which pipes these are.
    pub(super) pipes: Pipes,
    /// Writes to its stdin, unless that is a socket.
    pub(super) stdin: Option<OwnedFd>,
    /// Reads its stdout, if it is captured.
    pub(super) stdout: Option<OwnedFd>,
    /// Reads its stderr, if it is captured on its own.
    pub(super) stderr: Option<OwnedFd>,
}

/// No child could be made.
#[derive(Debug)]
pub(super) struct Failed {
    /// Why.
    pub(super) error: LaunchError,
    /// Reads what is to be found in the log of stderr (of stdout, if redirected) about it.
    pub(super) last_words: Option<OwnedFd>,
}

impl<E: Into<LaunchError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self { error: error.into(), last_words: None }
    }
}

/// What a child needs, made and not used yet.
#[derive(Debug)]
pub(super) struct Prepared {
    /// Its pipes.
    pub(super) pipes: Pipes,
    command: command::Command,
    environment: Vec<Arc<CStr>>,
    directory: Option<CString>,
    identity: Option<Identity>,
    stdin: Option<InputPipe>,
    stdout: Option<OutputPipe>,
    stderr: Option<OutputPipe>,
}

/// Which outputs to capture, and how the input ends.
#[derive(Debug, Clone, Copy)]
pub(super) struct Captured {
    /// Standard output.
    pub(super) stdout: bool,
    /// Standard error.
    pub(super) stderr: bool,
    /// What its stdin does without us.
    pub(super) on_daemon_death: OnDaemonDeath,
}

/// Why no child could be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaunchError {
    /// The command cannot be executed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// No pipe could be made.
    #[error("too many open files to spawn {name}")]
    TooManyFiles {
        /// The process, quoted.
        name: String,
    },
    /// No pipe could be made.
    #[error("can't make pipes for {name}: {error}")]
    Pipe {
        /// The process, quoted.
        name: String,
        /// Why.
        error: io::Error,
    },
    /// The user database does not answer.
    #[error("can't look up user {user} and its groups: {error}")]
    Groups {
        /// The user.
        user: String,
        /// Why.
        error: io::Error,
    },
    /// A NUL character where none can be.
    #[error("{what} contains a NUL character")]
    Nul {
        /// Which setting.
        what: &'static str,
    },
    /// A step between the call and the running program failed.
    #[error("{}", explain(name, subject, failure))]
    Step {
        /// The process, quoted.
        name: String,
        /// What the step was about: the directory, the user, the file.
        subject: String,
        /// The step and the error.
        failure: SpawnFailure,
    },
}

/// Supervisor's words where it has some: `couldn't chdir to /x: ENOENT (No such file or directory)`.
fn explain(name: &str, subject: &str, failure: &SpawnFailure) -> String {
    let errno = format!("{:?} ({})", failure.errno, failure.errno.desc());
    match failure.step.subject() {
        Subject::Executable => format!("couldn't exec {subject}: {errno}"),
        Subject::Directory => format!("couldn't chdir to {subject}: {errno}"),
        Subject::User => format!("couldn't {} to {subject}: {errno}", failure.step.name()),
        Subject::System if failure.errno == nix::errno::Errno::EAGAIN => {
            format!("Too many processes in process table to spawn {name}")
        }
        Subject::System => format!("couldn't {} for {name}: {errno}", failure.step.name()),
    }
}

impl Launcher {
    /// A launcher for the daemon's present environment.
    ///
    /// # Errors
    /// When `/dev/null` cannot be opened.
    pub(super) fn new(spawner: Spawner, config: &Config) -> io::Result<Self> {
        let pair = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            let text = [name.as_bytes(), b"=", value.as_bytes()].concat();
            CString::new(text).ok().map(|text| (name.as_bytes().to_vec(), text.into()))
        };
        // Strangers' descriptors must reach no program, also where the kernel cannot close a range of them.
        spawn::mark_inherited_cloexec()?;
        Ok(Self {
            spawner,
            open_files: limits::raise_own_files().ok(),
            environment: std::env::vars_os().filter_map(pair).collect(),
            path: std::env::var("PATH").ok(),
            server_url: server_url(config),
            users: Register::default(),
            null: OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_CLOEXEC)
                .open("/dev/null")?,
        })
    }

    /// What is known of users and their groups may have changed, and whoever asks for a start wants that to count. When a
    /// program is started again by itself, it does not: a database that takes its time must not hold up all others.
    pub(super) fn forget_users(&mut self) {
        self.users.forget();
    }

    /// The limit of open files that children get.
    pub(super) fn open_files(&self) -> Option<OpenFiles> {
        self.open_files
    }

    /// Children get the limit that they had from the image of this daemon before this one.
    pub(super) fn set_open_files(&mut self, limit: OpenFiles) {
        self.open_files = Some(limit);
    }

    /// Asks another binary, as a child, whether it could take over from the `state` on its standard input. Returns the
    /// child and what reads its answer.
    pub(super) fn ask(&mut self, origin: &Origin, state: BorrowedFd<'_>) -> Result<(Pid, OwnedFd), String> {
        let text = |text: &std::ffi::OsStr| CString::new(text.as_bytes()).map_err(|error| error.to_string());
        let OutputPipe { read, child: output } =
            pipe::output_pipe(None).map_err(|error| error.to_string())?;
        let mut argv = origin.argv();
        argv.push(text(format!("{CHECK_OPTION}={FORMAT}").as_ref())?);
        let plan = SpawnPlan {
            executable: text(origin.executable.as_os_str())?,
            argv,
            envp: self.environment.iter().map(|(_, text)| text.clone()).collect(),
            directory: Some(text(origin.directory.as_os_str())?),
            umask: None,
            open_files: self.open_files,
            identity: None,
            stdin: state,
            stdout: output.as_fd(),
            stderr: output.as_fd(),
        };
        let child = self.spawner.spawn(&plan).map_err(|failure| {
            format!("couldn't {}: {:?} ({})", failure.step.name(), failure.errno, failure.errno.desc())
        })?;
        Ok((child.pid, read))
    }

    /// Starts a keeper from the file that this process runs, be it replaced or gone; the end of the channel is our
    /// death. `of` is for who lists processes.
    pub(super) fn start_keeper(&mut self, of: Option<&Path>) -> Result<(Pid, OwnedFd), String> {
        let (ours, theirs) = passing::pair().map_err(|error| error.to_string())?;
        let text = |text: &[u8]| CString::new(text).map_err(|error| error.to_string());
        let mut argv = vec![text(keeper::NAME.as_bytes())?, text(keeper::OPTION.as_bytes())?];
        argv.extend(of.map(|of| text(of.as_os_str().as_bytes())).transpose()?);
        let plan = SpawnPlan {
            executable: c"/proc/self/exe".to_owned(),
            argv,
            // Nothing by which it could be taken for a program.
            envp: Vec::new(),
            directory: Some(c"/".to_owned()),
            umask: None,
            open_files: None,
            identity: None,
            stdin: theirs.as_fd(),
            stdout: self.null.as_fd(),
            stderr: self.null.as_fd(),
        };
        let child = self.spawner.spawn(&plan).map_err(|failure| failure.to_string())?;
        Ok((child.pid, ours))
    }

    /// Takes over what children learn from a new configuration.
    pub(super) fn set_config(&mut self, config: &Config) {
        self.server_url = server_url(config);
        self.forget_users();
    }

    /// Checks that the command of a program can be executed.
    pub(super) fn check(&self, config: &ProgramConfig) -> Result<(), CommandError> {
        command::resolve(config, self.path.as_deref()).map(|_| ())
    }

    /// Checks that a program leaves the daemon enough descriptors: without them nobody could stop it again.
    pub(super) fn check_room(&self, config: &ProgramConfig) -> Result<(), LaunchError> {
        let too_many = || LaunchError::TooManyFiles { name: python::repr(&config.name) };
        limits::has_room_for_program(&self.null).then_some(()).ok_or_else(too_many)
    }

    /// Makes everything that a child needs. Its stdin is a pipe unless it serves a socket.
    pub(super) fn prepare(
        &self,
        group: &str,
        config: &ProgramConfig,
        captured: Captured,
    ) -> Result<Prepared, LaunchError> {
        let command = command::find(config, self.path.as_deref())?;
        let name = python::repr(&config.name);
        let pipe_error = |error: io::Error| match error.raw_os_error() {
            Some(libc::EMFILE) => LaunchError::TooManyFiles { name: name.clone() },
            _ => LaunchError::Pipe { name: name.clone(), error },
        };
        let owner = config.user.as_ref().map(|user| user.uid);
        let input = || pipe::input_pipe(owner, captured.on_daemon_death).map_err(pipe_error);
        let output = |wanted: bool| wanted.then(|| pipe::output_pipe(owner)).transpose().map_err(pipe_error);
        let stdin = config.fastcgi.is_none().then(input).transpose()?;
        let stdout = output(captured.stdout)?;
        let stderr = output(captured.stderr && !config.redirect_stderr)?;
        let id = |pipe: &OwnedFd| pipe::id_of(pipe);
        let pipes = Pipes {
            stdin: stdin.as_ref().and_then(|pipe| id(&pipe.write)),
            stdout: stdout.as_ref().and_then(|pipe| id(&pipe.read)),
            stderr: stderr.as_ref().and_then(|pipe| id(&pipe.read)),
        };
        let environment = self.environment_for(group, config)?;
        let directory = config.directory.as_deref().map(path_text).transpose()?;
        let identity = config.user.as_ref().map(|user| self.identity(user)).transpose()?;
        Ok(Prepared { pipes, command, environment, directory, identity, stdin, stdout, stderr })
    }

    /// Makes a child of what was prepared. `socket` is the listening socket that is its stdin instead of a pipe.
    pub(super) fn launch(
        &mut self,
        config: &ProgramConfig,
        prepared: Prepared,
        socket: Option<BorrowedFd<'_>>,
    ) -> Result<Launched, Failed> {
        let Prepared { pipes, command, environment, directory, identity, stdin, stdout, stderr } = prepared;
        let stdin_fd = stdin.as_ref().map(|pipe| pipe.child.as_fd()).or(socket);
        let stdout_fd = stdout.as_ref().map_or(self.null.as_fd(), |pipe| pipe.child.as_fd());
        let stderr_fd = match &stderr {
            Some(pipe) => pipe.child.as_fd(),
            None if config.redirect_stderr => stdout_fd,
            None => self.null.as_fd(),
        };
        let plan = SpawnPlan {
            executable: command.executable,
            argv: command.argv,
            envp: environment,
            directory,
            umask: config.umask,
            open_files: self.open_files,
            identity,
            stdin: stdin_fd.unwrap_or(self.null.as_fd()),
            stdout: stdout_fd,
            stderr: stderr_fd,
        };
        let child = match self.spawner.spawn(&plan) {
            Ok(child) => child,
            Err(failure) => {
                // Only a failure is worth the question whether the command could be executed at all.
                self.check(config)?;
                let error = step_error(config, &plan, failure);
                let pipe = if config.redirect_stderr { stdout } else { stderr };
                return Err(Failed { last_words: pipe.and_then(|pipe| leave_word(pipe, &error)), error });
            }
        };
        Ok(Launched {
            pid: child.pid,
            pidfd: child.pidfd,
            pipes,
            stdin: stdin.map(|pipe| pipe.write),
            stdout: stdout.map(|pipe| pipe.read),
            stderr: stderr.map(|pipe| pipe.read),
        })
    }

    /// The daemon's environment, then Supervisor's own variables, then those of the program; later ones win.
    fn environment_for(&self, group: &str, config: &ProgramConfig) -> Result<Vec<Arc<CStr>>, LaunchError> {
        let mut own: Vec<(&str, &str)> = vec![("SUPERVISOR_ENABLED", "1")];
        if let Some(url) = config.serverurl.as_deref().or(self.server_url.as_deref()) {
            own.push(("SUPERVISOR_SERVER_URL", url));
        }
        own.push(("SUPERVISOR_PROCESS_NAME", &config.name));
        own.push(("SUPERVISOR_GROUP_NAME", group));
        let login = self.login_environment(config)?;
        own.extend(login.iter().map(|(name, value)| (*name, value.as_str())));
        own.retain(|(name, _)| config.environment.get(name).is_none());
        own.extend(config.environment.0.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let is_own = |name: &[u8]| own.iter().any(|(known, _)| known.as_bytes() == name);
        let inherited =
            self.environment.iter().filter(|(name, _)| !is_own(name)).map(|(_, text)| Ok(text.clone()));
        let added = own.iter().map(|(name, value)| {
            let text = CString::new(format!("{name}={value}"));
            text.map(Arc::from).map_err(|_| LaunchError::Nul { what: "environment" })
        });
        inherited.chain(added).collect()
    }

    /// What a login as the program's user would set, if that is wanted.
    fn login_environment(&self, config: &ProgramConfig) -> Result<Vec<(&'static str, String)>, LaunchError> {
        let Some(user) = config.user.as_ref().filter(|_| config.login_environment) else {
            return Ok(Vec::new());
        };
        let unknown = |error| LaunchError::Groups { user: user.name.clone(), error };
        let found = self.users.by_uid(user.uid).map_err(|errno| unknown(errno.into()))?;
        let found = found.ok_or_else(|| unknown(io::ErrorKind::NotFound.into()))?;
        let text = |path: std::path::PathBuf| path.to_string_lossy().into_owned();
        Ok(vec![
            ("HOME", text(found.home)),
            ("USER", found.name.clone()),
            ("LOGNAME", found.name),
            ("SHELL", text(found.shell)),
        ])
    }

    fn identity(&self, user: &User) -> Result<Identity, LaunchError> {
        self.users.identity_of(user).map_err(|error| LaunchError::Groups { user: user.name.clone(), error })
    }
}

/// Writes the error where the program would have written it, as Supervisor's child does. Returns the read end.
fn leave_word(pipe: OutputPipe, error: &LaunchError) -> Option<OwnedFd> {
    let text = format!("supervisor: {error}\nsupervisor: child process was not spawned\n");
    // An empty pipe has room for two lines.
    pipe::write_whole(&pipe.child, text.as_bytes()).ok()?;
    Some(pipe.read)
}

fn path_text(path: &Path) -> Result<CString, LaunchError> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| LaunchError::Nul { what: "directory" })
}

fn step_error(config: &ProgramConfig, plan: &SpawnPlan<'_>, failure: SpawnFailure) -> LaunchError {
    let subject = match failure.step.subject() {
        Subject::Executable => plan.executable.to_string_lossy().into_owned(),
        Subject::Directory => config.directory.as_deref().unwrap_or(Path::new("")).display().to_string(),
        Subject::User => config.user.as_ref().map(|user| user.uid.to_string()).unwrap_or_default(),
        Subject::System => String::new(),
    };
    LaunchError::Step { name: python::repr(&config.name), subject, failure }
}

/// The first unix server, else the last inet server. Source: Supervisor.
fn server_url(config: &Config) -> Option<String> {
    let is_unix =
        |server: &&crate::config::ServerConfig| matches!(server.listen, crate::config::Listen::Unix { .. });
    let unix = config.servers.iter().find(is_unix);
    unix.or(config.servers.last()).map(|server| server.listen.url())
}
