//! Harness of the end-to-end tests: a temporary directory, a configuration, the real daemon and the real client.
//!
//! A test starts a [`Daemon`] with a piece of configuration, steers it with [`Daemon::ctl`], and waits with
//! [`Daemon::until`] for what it expects to see. Everything that the daemon starts carries a variable that only this
//! test uses; when the [`Daemon`] is dropped, what still carries it is ended, and nothing else ever is.
//!
//! `SUPERVISOR_TEST_BIN_DIR` names a directory with other binaries to test, for example an installation.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the bans are for the product: tests start programs and wait for them by the clock"
)]

mod command;
mod gap;
pub mod http;
pub mod journal;
pub mod lines;
mod patience;
pub mod processes;

use std::{
    env, fs,
    fs::File,
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Once,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

pub use command::{Background, Reply, run};
use command::{finish, run_to_end};
pub use gap::Gap;
pub use nix::sys::signal::Signal;
use nix::{
    errno::Errno,
    sys::wait::{WaitPidFlag, waitpid},
    unistd::{Pid, geteuid},
};
use patience::Patience;
use processes::{Process, Table};
use tempfile::TempDir;

/// Longest wait for anything; generous, because only a failure waits so long.
pub const BOUND: Duration = Duration::from_secs(120);

/// Variable by which the processes of one test are recognised.
const MARK: &str = "SUPERVISOR_TEST_MARK";

/// In front of every configuration; a later section of the same name adds to it and overrides it.
const BASE: &str = "\
[supervisord]
logfile=$DIR/supervisord.log
pidfile=$DIR/supervisord.pid
childlogdir=$DIR
[unix_http_server]
file=$DIR/s.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://$DIR/s.sock
";

/// A daemon in its own temporary directory.
pub struct Daemon {
    dir: TempDir,
    mark: String,
    child: Option<Child>,
    /// The daemon itself where it is not `child`: daemonized, or inside a namespace.
    pid: Option<i32>,
    /// Whose it is, where [`Daemon::launch_as`] has said so.
    user: Option<u32>,
    /// What ran below the daemon when it began to end: what survives it, against expectation, may have overwritten the
    /// mark and must be ended all the same.
    last_seen: Vec<Process>,
}

/// One line of an actor's `record=FILE`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Pid of the actor.
    pub pid: i32,
    /// When it ran, on the monotonic clock.
    pub at: Duration,
}

impl Daemon {
    /// Writes the configuration; nothing runs yet. `$DIR`, `$ACTOR` and `$MARK` in it are replaced.
    pub fn prepare(config: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        static SUBREAPER: Once = Once::new();
        // What outlives a killed daemon must come to us, not escape to init.
        SUBREAPER.call_once(|| {
            nix::sys::prctl::set_child_subreaper(true).expect("any process may become a subreaper");
        });
        let dir = tempfile::Builder::new().prefix("svt-").tempdir().expect("a temporary directory");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let daemon = Self {
            dir,
            mark: format!("{}-{number}", std::process::id()),
            child: None,
            pid: None,
            user: None,
            last_seen: Vec::new(),
        };
        // Programs of other users must get at the files of the test.
        set_mode(daemon.dir.path(), 0o755);
        if config.contains("gate=$DIR/gate") {
            daemon.make_gate("gate");
        }
        daemon.configure(config);
        daemon
    }

    /// Starts the daemon in the foreground and waits until it is ready.
    pub fn start(config: &str) -> Self {
        let mut daemon = Self::prepare(config);
        daemon.launch(&[]);
        daemon
    }

    /// Replaces the configuration file, at once: the daemon may be reading it.
    pub fn configure(&self, config: &str) {
        let new = self.path("supervisord.conf.new");
        fs::write(&new, self.expand(&format!("{BASE}{config}"))).expect("writing the configuration");
        fs::rename(new, self.config_file()).expect("replacing the configuration");
    }

    /// `text` with `$DIR`, `$ACTOR` and `$MARK` (a word that no other test uses) replaced.
    pub fn expand(&self, text: &str) -> String {
        text.replace("$DIR", &self.dir.path().display().to_string())
            .replace("$ACTOR", &actor().display().to_string())
            .replace("$MARK", &self.mark)
    }

    /// Starts the daemon in the foreground with more options and waits until it is ready.
    pub fn launch(&mut self, options: &[&str]) {
        let mut command = self.command(&binary("supervisord"));
        command.arg("-n").arg("-c").arg(self.config_file()).args(options);
        self.run(command);
    }

    /// Starts the daemon with `prefix` (for example `unshare …`) in front of its command line.
    /// The daemon is then the innermost of the processes that run one inside the other.
    pub fn launch_in(&mut self, prefix: &[&str]) {
        let mut command = self.command(Path::new(prefix[0]));
        command.args(&prefix[1..]).arg(binary("supervisord")).arg("-n").arg("-c").arg(self.config_file());
        self.run(command);
        let outer = self.daemon_pid();
        self.pid = Some(innermost_daemon(outer).expect("supervisord runs below what was started"));
    }

    /// Starts the daemon in the foreground from a copy of the binary, `$DIR/supervisord`, which a test may replace.
    pub fn launch_copy(&mut self) {
        let program = self.path("supervisord");
        copy_program(&binary("supervisord"), &program);
        let mut command = self.command(&program);
        command.arg("-n").arg("-c").arg(self.config_file());
        self.run(command);
    }

    /// Puts a file in the place of that copy, as a package upgrade does: the old one stays what runs.
    pub fn replace_copy(&self, content: &[u8], mode: u32) {
        let new = self.path("supervisord.new");
        self.write_program("supervisord.new", content, mode);
        fs::rename(new, self.path("supervisord")).expect("replacing the binary");
    }

    /// Writes a file of the directory that is going to be executed.
    pub fn write_program(&self, name: &str, content: &[u8], mode: u32) {
        let text = self.path(&format!("{name}.text"));
        fs::write(&text, content).expect("writing a program");
        copy_program(&text, &self.path(name));
        set_mode(&self.path(name), mode);
    }

    /// Starts the daemon in the foreground as another user from a copy of the binary, `$DIR/supervisord`, and gives that
    /// user the directory.
    pub fn launch_as(&mut self, uid: u32) {
        let program = self.path("supervisord");
        copy_program(&binary("supervisord"), &program);
        for path in [self.dir.path().to_owned(), self.config_file()] {
            std::os::unix::fs::chown(path, Some(uid), Some(uid)).expect("chown of a file of the test");
        }
        let mut command = self.command(&program);
        command.arg("-n").arg("-c").arg(self.config_file()).uid(uid).gid(uid);
        self.user = Some(uid);
        self.run(command);
    }

    /// Starts the daemon in the foreground, for a test that knows itself when it is ready (without the usual log).
    /// Files `daemon.out` and `daemon.err` are kept as they are and appended to.
    pub fn launch_without_waiting(&mut self) {
        let mut command = self.command(&binary("supervisord"));
        command.arg("-n").arg("-c").arg(self.config_file());
        let append = |name| fs::OpenOptions::new().append(true).create(true).open(self.path(name));
        command.stdout(append("daemon.out").expect("an output file"));
        command.stderr(append("daemon.err").expect("an output file"));
        self.child = Some(command.spawn().expect("starting supervisord"));
    }

    /// Runs `command` as the daemon and waits until it is ready.
    fn run(&mut self, mut command: Command) {
        let before = self.count_ready();
        command.stdout(self.create("daemon.out")).stderr(self.create("daemon.err"));
        self.child = Some(command.spawn().expect("starting supervisord"));
        self.until("the daemon to be ready", || {
            assert!(!self.has_exited(), "supervisord ended instead of starting");
            self.count_ready() > before
        });
    }

    /// How often the log says that the daemon has started.
    fn count_ready(&self) -> usize {
        self.log().matches("supervisord started with pid").count()
    }

    /// Starts the daemon in the background, as its user does; the reply is that of the foreground process.
    pub fn daemonize(&mut self, options: &[&str]) -> Reply {
        let mut command = self.command(&binary("supervisord"));
        command.arg("-c").arg(self.config_file()).args(options);
        let reply = finish(command);
        if reply.status == 0 {
            let pid = self.until_some("the pidfile", || self.read("supervisord.pid").trim().parse().ok());
            self.pid = Some(pid);
        }
        reply
    }

    /// Runs a second daemon on the same directory, to its end.
    pub fn supervisord(&self, options: &[&str]) -> Reply {
        let mut command = self.command(&binary("supervisord"));
        finish({
            command.args(options);
            command
        })
    }

    /// Runs `supervisorctl` with these words, divided at blanks.
    pub fn ctl(&self, line: &str) -> Reply {
        self.ctl_words(&line.split_whitespace().collect::<Vec<_>>())
    }

    /// Runs `supervisorctl` with these words.
    pub fn ctl_words(&self, words: &[&str]) -> Reply {
        let mut command = self.ctl_command();
        command.args(words);
        finish(command)
    }

    /// Runs `supervisorctl` with these words and this standard input.
    pub fn ctl_with_input(&self, words: &[&str], input: &str) -> Reply {
        let path = self.path("ctl.in");
        fs::write(&path, input).expect("writing the input");
        let mut command = self.ctl_command();
        command.args(words).stdin(File::open(path).expect("the input"));
        run_to_end(command)
    }

    /// Starts `supervisorctl` beside the test; its output goes to the file `output` of the directory.
    pub fn ctl_background(&self, words: &[&str], output: &str) -> Background {
        let mut command = self.ctl_command();
        command.args(words);
        Background::start(command, self.path(output))
    }

    /// Starts any program beside the test.
    pub fn beside(&self, program: &str, words: &[&str]) -> Background {
        let mut command = self.command(Path::new(program));
        command.args(words);
        Background::start(command, self.path("beside.out"))
    }

    /// `supervisorctl -c FILE`, ready for more words.
    pub fn ctl_command(&self) -> Command {
        self.ctl_command_of(&binary("supervisorctl"))
    }

    /// `PROGRAM -c FILE`, ready for more words.
    pub fn ctl_command_of(&self, program: &Path) -> Command {
        let mut command = self.command(program);
        command.arg("-c").arg(self.config_file());
        command
    }

    /// A command that carries the mark, in its own process group.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env(MARK, &self.mark).process_group(0).stdin(Stdio::null());
        command
    }

    /// A file of the temporary directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The configuration file.
    pub fn config_file(&self) -> PathBuf {
        self.path("supervisord.conf")
    }

    /// Content of a file, empty when there is none; bytes that are no UTF-8 are replaced.
    pub fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&self.read_bytes(name)).into_owned()
    }

    /// Content of a file, empty when there is none.
    pub fn read_bytes(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap_or_default()
    }

    /// The daemon's own log.
    pub fn log(&self) -> String {
        self.read("supervisord.log")
    }

    /// Makes the FIFO of actors that wait at `gate=$DIR/NAME`; [`Daemon::open`] lets them pass. That with the name `gate`
    /// is there if the configuration has it.
    pub fn make_gate(&self, name: &str) {
        let made = nix::unistd::mkfifo(&self.path(name), nix::sys::stat::Mode::from_bits_truncate(0o600));
        made.expect("a FIFO");
        set_mode(&self.path(name), 0o666);
    }

    /// Lets the actors pass that wait at the gate, as soon as one does.
    pub fn open_gate(&self) {
        self.open("gate");
    }

    /// The same for the gate with this name.
    pub fn open(&self, gate: &str) {
        self.until("somebody to wait at the gate", || {
            fs::OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(self.path(gate)).is_ok()
        });
    }

    /// What actors recorded in a file, in order.
    pub fn starts(&self, name: &str) -> Vec<Start> {
        let text = self.read(name);
        text.lines()
            .filter_map(|line| {
                let (pid, at) = line.split_once(' ')?;
                Some(Start { pid: pid.parse().ok()?, at: Duration::from_nanos(at.parse().ok()?) })
            })
            .collect()
    }

    /// Waits until actors have recorded at least `number` starts in a file.
    pub fn until_starts(&self, name: &str, number: usize) -> Vec<Start> {
        self.until_some(&format!("{number} starts in {name}"), || {
            Some(self.starts(name)).filter(|starts| starts.len() >= number)
        })
    }

    /// Waits until `condition` holds.
    pub fn until(&self, what: &str, mut condition: impl FnMut() -> bool) {
        self.until_some(what, || condition().then_some(()));
    }

    /// Waits until `condition` yields something.
    pub fn until_some<T>(&self, what: &str, condition: impl FnMut() -> Option<T>) -> T {
        Self::wait_for(BOUND, what, condition)
    }

    /// Waits until `condition` holds, for what takes long on a slow machine.
    pub fn until_at_last(&self, what: &str, mut condition: impl FnMut() -> bool) {
        Self::wait_for(6 * BOUND, what, || condition().then_some(()));
    }

    fn wait_for<T>(bound: Duration, what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
        let mut patience = Patience::new(bound);
        loop {
            if let Some(found) = condition() {
                return found;
            }
            assert!(patience.wait(), "waited in vain for {what}");
        }
    }

    /// Waits until the daemon's log contains `text`.
    pub fn until_log(&self, text: &str) {
        self.until(&format!("the log to say {text:?}"), || self.log().contains(text));
    }

    /// Waits until a file contains `text`.
    pub fn until_file(&self, name: &str, text: &str) {
        self.until(&format!("{name} to contain {text:?}"), || self.read(name).contains(text));
    }

    /// State of one process, for example `RUNNING`.
    pub fn state(&self, name: &str) -> String {
        let reply = self.ctl_words(&["status", name]);
        reply.stdout.split_whitespace().nth(1).unwrap_or_default().to_owned()
    }

    /// Waits until a process is in `state`.
    pub fn until_state(&self, name: &str, state: &str) {
        self.until(&format!("{name} to be {state}"), || self.state(name) == state);
    }

    /// Pid of a process.
    pub fn process_pid(&self, name: &str) -> i32 {
        let reply = self.ctl_words(&["pid", name]);
        reply.stdout.trim().parse().unwrap_or_else(|_| panic!("pid {name}: {reply:?}"))
    }

    /// One process as `status --format json` shows it.
    pub fn json(&self, name: &str) -> serde_json::Value {
        let reply = self.ctl_words(&["--format", "json", "status", name]);
        let value: serde_json::Value =
            serde_json::from_str(&reply.stdout).unwrap_or_else(|error| panic!("{error}: {reply:?}"));
        value[0].clone()
    }

    /// Pid of the daemon.
    pub fn daemon_pid(&self) -> i32 {
        let child = self.child.as_ref().map(|child| i32::try_from(child.id()).expect("pids are positive"));
        self.pid.or(child).expect("a daemon was started")
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.daemon_pid(), signal);
    }

    /// Whether the foreground daemon has ended; its status stays for [`Daemon::wait`].
    fn has_exited(&self) -> bool {
        let id = self.child.as_ref().map(|child| i32::try_from(child.id()).expect("pids are positive"));
        id.is_some_and(|pid| !processes::is_alive(pid))
    }

    /// Remembers what runs below the daemon, to be called before it is made to end.
    pub fn remember(&mut self) {
        self.last_seen.extend(processes::descendants(self.daemon_pid()));
    }

    /// Waits until the foreground daemon has ended.
    pub fn wait(&mut self) -> ExitStatus {
        let mut child = self.child.take().expect("a daemon runs in the foreground");
        let status =
            self.until_some("the daemon to end", || child.try_wait().expect("waiting for supervisord"));
        self.pid = None;
        status
    }

    /// Asks the daemon to end with SIGTERM and waits.
    pub fn terminate(&mut self) -> ExitStatus {
        self.remember();
        self.signal(Signal::SIGTERM);
        self.wait()
    }

    /// Living processes that this test started, the daemon and keepers excepted.
    pub fn programs(&self) -> Vec<Process> {
        let mut found = self.marked();
        let daemon = self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok());
        found.retain(|process| {
            Some(process.pid) != self.pid && Some(process.pid) != daemon && !process.is_keeper()
        });
        found
    }

    /// The keeper of the daemon that runs, if it has one.
    pub fn keeper(&self) -> Option<i32> {
        let daemon = self.daemon_pid();
        self.keepers().into_iter().find(|keeper| keeper.ppid == daemon).map(|keeper| keeper.pid)
    }

    /// Keepers of this daemon and of earlier ones, which carry no mark.
    pub fn keepers(&self) -> Vec<Process> {
        self.keepers_in(&Table::read())
    }

    fn keepers_in(&self, table: &Table) -> Vec<Process> {
        let directory = self.dir.path().display().to_string();
        table.keepers().filter(|keeper| keeper.command.contains(&directory)).collect()
    }

    /// Living processes that this test started: those that carry the mark, and those below the daemon, for some
    /// programs overwrite their environment.
    fn marked(&self) -> Vec<Process> {
        let table = Table::read();
        let child = self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok());
        let below = self.pid.into_iter().chain(child).flat_map(|pid| table.descendants(pid));
        let survivors = self.last_seen.iter().filter(|process| process.lives()).cloned();
        let mut found = table.with_variable(&format!("{MARK}={}", self.mark));
        for process in below.chain(survivors).chain(self.keepers_in(&table)) {
            if !found.iter().any(|known| known.pid == process.pid) {
                found.push(process);
            }
        }
        found
    }

    /// Waits until no process of this test but the daemon lives.
    pub fn until_no_programs(&self) {
        let mut patience = Patience::new(BOUND);
        loop {
            let left = self.programs();
            if left.is_empty() {
                return;
            }
            assert!(patience.wait(), "still alive: {left:#?}");
        }
    }

    /// An empty file for output.
    fn create(&self, name: &str) -> File {
        File::create(self.path(name)).expect("creating an output file")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            self.report();
        }
        // The daemon would replace what is ended here, and what it leaves behind is found below it only while it lives.
        for process in
            self.daemons_first().iter().take_while(|process| process.command.contains("supervisord"))
        {
            kill(process.pid, Signal::SIGSTOP);
        }
        for process in self.daemons_first() {
            kill(process.pid, Signal::SIGKILL);
        }
        if let Some(child) = &mut self.child {
            // It was killed above, or had ended before.
            let _ = child.wait();
        }
        let mut patience = Patience::new(BOUND);
        loop {
            let left = self.marked();
            for process in &left {
                kill(process.pid, Signal::SIGKILL);
                reap(process.pid);
            }
            if left.is_empty() || !patience.wait() {
                break;
            }
        }
    }
}

impl Daemon {
    /// What is to be ended, the daemon before its programs.
    fn daemons_first(&self) -> Vec<Process> {
        let mut all = self.marked();
        all.sort_by_key(|process| !process.command.contains("supervisord"));
        all
    }

    /// The files of the directory: size, name, last bytes.
    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.dir.path()).into_iter().flatten().flatten();
        let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let mut files: Vec<_> = names
            .filter(|name| self.path(name).is_file())
            .map(|name| {
                let bytes = self.read_bytes(&name);
                let end = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(40)..]).into_owned();
                format!("{:>10} {name} …{end:?}", bytes.len())
            })
            .collect();
        files.sort();
        files
    }

    /// Prints what a failure needs for its explanation.
    fn report(&self) {
        for name in ["supervisord.conf", "supervisord.log", "daemon.err"] {
            let text = self.read(name);
            let start = text.len().saturating_sub(20_000);
            let start = (start..text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
            eprintln!("--- {name}\n{}", &text[start..]);
        }
        eprintln!("--- files\n{}", self.files().join("\n"));
        eprintln!("--- processes\n{:#?}", self.marked());
    }
}

/// Sends a signal to a process of the test; one that has gone is left alone.
pub fn kill(pid: i32, signal: Signal) {
    assert!(pid > 1, "{pid} is not a process of the test");
    match nix::sys::signal::kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => panic!("kill {pid} {signal}: {error}"),
    }
}

/// Takes the exit status of an orphan, if it is ours: as init does with those of a daemon that was killed.
pub fn reap(pid: i32) {
    // It belongs to the daemon, or is not dead yet: both are nothing to reap here.
    let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
}

/// Whether the tests run as root.
pub fn runs_as_root() -> bool {
    geteuid().is_root()
}

/// Whether the tests run as root; where not, says which test does nothing.
pub fn is_root(test: &str) -> bool {
    let root = runs_as_root();
    if !root {
        eprintln!("{test}: not run, it needs root");
    }
    root
}

/// A window of time during which something is measured. Not a way to wait.
pub fn observe(window: Duration) {
    thread::sleep(window);
}

/// Measures until a result is below `limit`. The machine has other work, so a single one says little; what always takes
/// longer is never below it.
#[track_caller]
pub fn until_quick(what: &str, limit: Duration, mut measure: impl FnMut() -> Duration) {
    let end = Instant::now() + BOUND;
    let mut best = Duration::MAX;
    while best >= limit {
        assert!(Instant::now() < end, "{what}: {best:?} at best");
        best = best.min(measure());
    }
}

/// Waits for half a second in which a process uses no processor and hardly wakes up: it may first have to end something.
#[track_caller]
pub fn until_idle(pid: i32) {
    let end = Instant::now() + BOUND;
    loop {
        let (ticks, switches) = (processes::cpu_ticks(pid), processes::voluntary_switches(pid));
        observe(Duration::from_millis(500));
        let used = (processes::cpu_ticks(pid) - ticks, processes::voluntary_switches(pid) - switches);
        if used.0 <= 1 && used.1 <= 2 {
            return;
        }
        assert!(Instant::now() < end, "it never rests: {} ticks, woken {} times", used.0, used.1);
    }
}

/// The time on the clock of [`Start::at`].
pub fn monotonic() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).expect("below a second"))
}

/// The process that runs supervisord, at or below `pid`.
fn innermost_daemon(pid: i32) -> Option<i32> {
    let command = processes::command(pid);
    let mut words = command.split(' ');
    let program = words.next().filter(|word| !word.contains("python")).or_else(|| words.next());
    if program.is_some_and(|word| word.ends_with("/supervisord")) {
        return Some(pid);
    }
    processes::children(pid).into_iter().find_map(innermost_daemon)
}

/// Copies a program, by another process: were the copy open for writing in this one, a child that another test makes
/// at that moment would have it open too, and it could not be run ("text file busy"). What runs `to` goes on.
pub fn copy_program(from: &Path, to: &Path) {
    let status =
        Command::new("cp").arg("--remove-destination").arg(from).arg(to).status().expect("running cp");
    assert!(status.success(), "cp {} {}: {status}", from.display(), to.display());
}

/// Sets the mode of a file.
pub fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod of a file of the test");
}

/// The scripted child, beside the test.
pub fn actor() -> PathBuf {
    profile_dir().join("actor")
}

/// One of the binaries under test.
pub fn binary(name: &str) -> PathBuf {
    let dir = env::var_os("SUPERVISOR_TEST_BIN_DIR").map_or_else(profile_dir, PathBuf::from);
    let path = dir.join(name);
    assert!(path.exists(), "{} is missing: run cargo build --workspace", path.display());
    path
}

/// `target/PROFILE`: the test runs in its `deps`.
fn profile_dir() -> PathBuf {
    let executable = env::current_exe().expect("the path of the test");
    executable.ancestors().nth(2).expect("target/PROFILE/deps/TEST").to_owned()
}
