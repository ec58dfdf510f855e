//! A stand-in for systemd that runs `etc/systemd/supervisord.service`: it starts what `ExecStart=` says, waits for its
//! notification, kills what `KillMode=` says and starts it again when `Restart=` says so. What it does follows
//! systemd.service(5) and systemd.kill(5); only the paths in the unit are replaced.

use std::{
    collections::BTreeMap, fs, os::unix::net::UnixDatagram, os::unix::process::ExitStatusExt as _,
    process::ExitStatus, time::Duration,
};

use supervisor_tests::{BOUND, Daemon, Reply, Signal, kill, lines, observe, processes};

/// A writer, one that must not be ended before it, and one that takes its own stop signal.
const PROGRAMS: &str = "\
[program:writer]
command=$ACTOR record=$DIR/writer lines-wild=1
startsecs=0
stdout_logfile=$DIR/writer.log
priority=2
[program:first]
command=$ACTOR record=$DIR/first wait-signal=QUIT record=$DIR/ended sleep=200 record=$DIR/ended
startsecs=0
stopsignal=QUIT
priority=1
";

const NAMES: [&str; 2] = ["writer", "first"];

/// The `[Service]` section of the unit.
fn settings() -> BTreeMap<String, String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../etc/systemd/supervisord.service");
    let text = fs::read_to_string(path).expect("the unit");
    let service = text.split("[Service]").nth(1).and_then(|rest| rest.split("\n[").next());
    let lines = service.expect("a section").lines().filter(|line| !line.starts_with('#'));
    let pairs = lines.filter_map(|line| line.split_once('='));
    pairs.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())).collect()
}

/// The service manager, and the service.
struct Manager {
    settings: BTreeMap<String, String>,
    daemon: Daemon,
    notifications: UnixDatagram,
}

impl Manager {
    /// Starts the service.
    fn start(settings: BTreeMap<String, String>, config: &str) -> Self {
        let daemon = Daemon::prepare(config);
        let notifications = UnixDatagram::bind(daemon.path("notify")).expect("a socket");
        notifications.set_read_timeout(Some(BOUND)).expect("a timeout");
        let mut manager = Self { settings, daemon, notifications };
        manager.launch();
        manager
    }

    fn setting(&self, key: &str) -> &str {
        self.settings.get(key).unwrap_or_else(|| panic!("the unit says nothing of {key}"))
    }

    /// Runs `ExecStart=` and waits until the service is ready.
    fn launch(&mut self) {
        assert_eq!(self.setting("Type"), "notify");
        let command = "/usr/bin/supervisord -n -c /etc/supervisor/supervisord.conf";
        assert_eq!(self.setting("ExecStart"), command, "`launch_in` gives the daemon these options");
        let variable = format!("NOTIFY_SOCKET={}", self.daemon.path("notify").display());
        self.daemon.launch_in(&["env", &variable]);
        assert_eq!(self.heard(), format!("READY=1\nMAINPID={}\n", self.daemon.daemon_pid()));
    }

    /// The next notification.
    fn heard(&self) -> String {
        let mut buffer = [0; 500];
        let length = self.notifications.recv(&mut buffer).expect("a message in time");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

    /// Runs `ExecReload=`, with the client and the configuration of the test.
    fn reload(&self) -> Reply {
        let command = self.setting("ExecReload").to_owned();
        let words = command.strip_prefix("/usr/bin/supervisorctl -c /etc/supervisor/supervisord.conf ");
        self.daemon.ctl(words.expect("a command of supervisorctl"))
    }

    /// The main process has ended: what is left of the service is killed, and it is started again if that is so.
    /// Whether it was.
    fn handle_end(&mut self, status: ExitStatus) -> bool {
        self.kill_rest();
        assert_eq!(self.setting("Restart"), "on-failure");
        let prevented = self.setting("RestartPreventExitStatus").split_whitespace();
        let is_prevented =
            prevented.filter_map(|word| word.parse().ok()).any(|code| Some(code) == status.code());
        // systemd counts an end by these signals as a success.
        let is_clean = status.success() || matches!(status.signal(), Some(1 | 2 | 13 | 15));
        if is_clean || is_prevented {
            return false;
        }
        let seconds = self.setting("RestartSec").parse().expect("a number of seconds");
        observe(Duration::from_secs(seconds));
        self.launch();
        true
    }

    /// What `KillMode=` does to those that the main process leaves in the control group.
    fn kill_rest(&self) {
        let signal = match self.setting("KillMode") {
            "process" => return,
            "control-group" => Signal::SIGTERM,
            "mixed" => Signal::SIGKILL,
            other => panic!("KillMode={other}"),
        };
        for process in self.daemon.programs() {
            kill(process.pid, signal);
        }
        self.daemon.until_no_programs();
    }

    /// `systemctl kill --kill-whom=main --signal=KILL`, or a crash. Whether the service runs again.
    fn crash(&mut self) -> bool {
        self.daemon.remember();
        self.daemon.signal(Signal::SIGKILL);
        let status = self.daemon.wait();
        self.handle_end(status)
    }

    /// `systemctl stop`.
    fn stop(&mut self) {
        self.daemon.remember();
        if self.setting("KillMode") == "control-group" {
            for process in self.daemon.programs() {
                kill(process.pid, Signal::SIGTERM);
            }
        }
        self.daemon.signal(Signal::SIGTERM);
        let status = self.daemon.wait();
        assert!(status.success(), "{status}");
        self.kill_rest();
    }

    fn pids(&self) -> [i32; 2] {
        NAMES.map(|name| self.daemon.process_pid(name))
    }

    fn until_running(&self) {
        for name in NAMES {
            self.daemon.until_state(name, "RUNNING");
        }
    }
}

#[test]
fn crash_under_the_unit_is_repaired_and_programs_keep_their_pids() {
    let mut manager = Manager::start(settings(), PROGRAMS);
    manager.until_running();
    let pids = manager.pids();
    for _ in 0..2 {
        manager.daemon.until_more_lines("writer.log");
        assert!(manager.crash(), "it is started again");
        assert_eq!(manager.pids(), pids);
    }
    manager.daemon.until_more_lines("writer.log");
    assert_eq!(manager.daemon.starts("writer").len(), 1);
    manager.stop();
    manager.daemon.until_no_programs();
}

#[test]
fn reload_and_upgrade_under_the_unit_keep_the_main_process_and_the_programs() {
    let manager = Manager::start(settings(), PROGRAMS);
    manager.until_running();
    let (main, pids) = (manager.daemon.daemon_pid(), manager.pids());
    manager.daemon.configure(&format!("{PROGRAMS}[program:new]\ncommand=$ACTOR sleep\nstartsecs=0\n"));
    assert_eq!(manager.reload().status, 0);
    manager.daemon.until_state("new", "RUNNING");
    assert_eq!(manager.daemon.ctl("upgrade").status, 0);
    assert!(manager.heard().starts_with("RELOADING=1"));
    assert_eq!(
        manager.heard(),
        format!("READY=1\nMAINPID={main}\n"),
        "systemd goes on watching the same process"
    );
    assert_eq!(manager.pids(), pids);
    manager.daemon.configure("[program:writer]\ncommand=$ACTOR sleep\nstartsecs=ten\n");
    assert_ne!(manager.reload().status, 0, "`systemctl reload` fails");
    assert_eq!(manager.pids(), pids);
    manager.daemon.until_more_lines("writer.log");
}

#[test]
fn stop_under_the_unit_leaves_the_order_and_the_signals_to_the_daemon_and_nobody_behind() {
    let mut manager = Manager::start(settings(), PROGRAMS);
    manager.until_running();
    manager.daemon.until_more_lines("writer.log");
    let pids = manager.pids();
    manager.stop();
    assert_eq!(manager.heard(), "STOPPING=1\n");
    manager.daemon.until_no_programs();
    assert_eq!(manager.daemon.starts("ended").len(), 2, "told by its own signal, and it had its time");
    let log = manager.daemon.log();
    let stopped: Vec<&str> = log.lines().filter(|line| line.contains("stopped: ")).collect();
    assert!(
        stopped.len() == 2 && stopped[0].contains("writer") && stopped[1].contains("first"),
        "{stopped:?}"
    );
    lines::count(&manager.daemon, "writer.log");
    // `systemctl restart` is that and a start: all programs are new.
    manager.launch();
    manager.until_running();
    assert!(manager.pids().iter().all(|pid| !pids.contains(pid)));
}

#[test]
fn shutdown_by_its_own_client_is_respected_and_a_broken_configuration_is_not_tried_again() {
    let mut manager = Manager::start(settings(), PROGRAMS);
    manager.until_running();
    assert_eq!(manager.daemon.ctl("shutdown").status, 0);
    let status = manager.daemon.wait();
    assert!(!manager.handle_end(status), "an end with {status} is as wanted");
    manager.daemon.configure("[program:writer]\ncommand=$ACTOR sleep\nstartsecs=ten\n");
    manager.daemon.launch_without_waiting();
    let status = manager.daemon.wait();
    assert!(!manager.handle_end(status), "{status} needs a human");
}

#[test]
fn unit_that_kills_its_control_group_loses_the_programs_with_the_daemon() {
    for mode in ["control-group", "mixed"] {
        let mut settings = settings();
        settings.insert("KillMode".to_owned(), mode.to_owned());
        let mut manager = Manager::start(settings, PROGRAMS);
        manager.until_running();
        let pids = manager.pids();
        assert!(manager.crash(), "it is started again");
        manager.until_running();
        assert!(manager.pids().iter().all(|pid| !pids.contains(pid)), "{mode}");
        assert!(pids.iter().all(|pid| !processes::is_alive(*pid)), "{mode}");
    }
}
