//! The help texts: those of Supervisor to the byte, tabs and trailing blanks included, and those of the additions.

use crate::commands::Verb;

/// What `help` without a topic prints.
pub const TABLE: &str = concat!(
    "\n",
    "default commands (type help <topic>):\n",
    "=====================================\n",
    "add    exit      open  reload  restart   start   tail   \n",
    "avail  fg        pid   remove  shutdown  status  update \n",
    "clear  maintail  quit  reread  signal    stop    version\n",
);

/// What `help VERB` prints, without the last line's end; empty = there is no help on it.
pub fn topic(verb: Verb) -> &'static str {
    match verb {
        Verb::Add => "add <name> [...]\tActivates any updates in config for process/group",
        Verb::Avail => "avail\t\t\tDisplay all configured processes",
        Verb::Clear => CLEAR,
        Verb::Events => EVENTS,
        Verb::Exit => "exit\tExit the supervisor shell.",
        Verb::Fg => FG,
        Verb::Help => HELP,
        Verb::Maintail => MAINTAIL,
        Verb::Open => OPEN,
        Verb::Pid => PID,
        Verb::Quit => "quit\tExit the supervisor shell.",
        Verb::Reload => "reload \t\tRestart the remote supervisord.",
        Verb::Remove => "remove <name> [...]\tRemoves process/group from active config",
        Verb::Reread => "reread \t\t\tReload the daemon's configuration files without add/remove",
        Verb::Restart => RESTART,
        Verb::Shutdown => "shutdown \tShut the remote supervisord down.",
        Verb::Signal => SIGNAL,
        Verb::Start => START,
        Verb::Status => STATUS,
        Verb::Stop => STOP,
        Verb::Tail => TAIL,
        Verb::Update => UPDATE,
        Verb::Version => "version\t\t\tShow the version of the remote supervisord process",
        Verb::Reopen => "reopen\t\t\tClose and open all log files again (for logrotate)",
        Verb::Upgrade => UPGRADE,
        Verb::Watch => WATCH,
        Verb::Eof => "",
    }
}

const CLEAR: &str = concat!(
    "clear <name>\t\tClear a process' log files.\n",
    "clear <name> <name>\tClear multiple process' log files\n",
    "clear all\t\tClear all process' log files"
);

const EVENTS: &str = concat!(
    "events\t\t\tPrint a line for every event, as event listeners get them (Ctrl-C to exit)\n",
    "events <type> [...]\tPrint events of these types only, for example PROCESS_STATE, TICK_60,\n",
    "\t\t\tPROCESS_LOG, PROCESS_COMMUNICATION, REMOTE_COMMUNICATION, PROCESS_GROUP"
);

const FG: &str = concat!("fg <process>\tConnect to a process in foreground mode\n", "\t\tCtrl-C to exit");

const HELP: &str =
    concat!("help\t\tPrint a list of available actions\n", "help <action>\tPrint help for <action>");

const MAINTAIL: &str = concat!(
    "maintail -f \tContinuous tail of supervisor main log file (Ctrl-C to exit)\n",
    "maintail -100\tlast 100 *bytes* of supervisord main log file\n",
    "maintail\tlast 1600 *bytes* of supervisor main log file\n"
);

const OPEN: &str = concat!(
    "open <url>\tConnect to a remote supervisord process.\n",
    "\t\t(for UNIX domain socket, use unix:///socket/path)"
);

const PID: &str = concat!(
    "pid\t\t\tGet the PID of supervisord.\n",
    "pid <name>\t\tGet the PID of a single child process by name.\n",
    "pid all\t\t\tGet the PID of every child process, one per line."
);

const RESTART: &str = concat!(
    "restart <name>\t\tRestart a process\n",
    "restart <gname>:*\tRestart all processes in a group\n",
    "restart <name> <name>\tRestart multiple processes or groups\n",
    "restart all\t\tRestart all processes\n",
    "Note: restart does not reread config files. For that, see reread and update."
);

const SIGNAL: &str = concat!(
    "signal <signal name> <name>\t\tSignal a process\n",
    "signal <signal name> <gname>:*\t\tSignal all processes in a group\n",
    "signal <signal name> <name> <name>\tSignal multiple processes or groups\n",
    "signal <signal name> all\t\tSignal all processes"
);

const START: &str = concat!(
    "start <name>\t\tStart a process\n",
    "start <gname>:*\t\tStart all processes in a group\n",
    "start <name> <name>\tStart multiple processes or groups\n",
    "start all\t\tStart all processes"
);

const STATUS: &str = concat!(
    "status <name>\t\tGet status for a single process\n",
    "status <gname>:*\tGet status for all processes in a group\n",
    "status <name> <name>\tGet status for multiple named processes\n",
    "status\t\t\tGet all process status info"
);

const STOP: &str = concat!(
    "stop <name>\t\tStop a process\n",
    "stop <gname>:*\t\tStop all processes in a group\n",
    "stop <name> <name>\tStop multiple processes or groups\n",
    "stop all\t\tStop all processes"
);

const TAIL: &str = concat!(
    "tail [-f] <name> [stdout|stderr] (default stdout)\n",
    "Ex:\n",
    "tail -f <name>\t\tContinuous tail of named process stdout\n",
    "\t\t\tCtrl-C to exit.\n",
    "tail -100 <name>\tlast 100 *bytes* of process stdout\n",
    "tail <name> stderr\tlast 1600 *bytes* of process stderr"
);

const UPGRADE: &str = concat!(
    "upgrade\t\t\tReplace supervisord in place by its binary as it is now; programs go on\n",
    "reload --keep\t\tThe same, then applies the configuration as update does\n",
    "Nothing is changed when the new binary cannot take over."
);

const UPDATE: &str = concat!(
    "update\t\t\tReload config and add/remove as necessary, and will restart affected programs\n",
    "update all\t\tReload config and add/remove as necessary, and will restart affected programs\n",
    "update <gname> [...]\tUpdate specific groups"
);

const WATCH: &str = concat!(
    "watch\t\t\tPrint a line whenever a process changes its state (Ctrl-C to exit)\n",
    "watch <name> [...]\tWatch these processes or groups only"
);

/// The additions to Supervisor's actions, for `--help` and the manual page.
pub const ACTIONS: &str = "\
ACTIONS
 add avail clear events exit fg help maintail open pid quit reload remove reopen reread restart shutdown signal start
 status stop tail update upgrade version watch; `help ACTION` tells more about each.

 Processes are named NAME, GROUP:NAME, GROUP:* or all; NAME and GROUP may hold the wildcards *, ? and [...].
 Every action takes --format json. `status --long` shows all that is known about each process. `watch` prints a line
 whenever a process changes its state, `events` one for every event. `reopen` closes and opens all log files again.
 `upgrade` replaces supervisord in place by its binary as it is now; programs go on. `reload --keep` does the same and
 then applies the configuration as `update` does.
";

/// What `--help` prints, `program` being the name it was called by.
pub fn usage(program: &str) -> String {
    format!(
        "supervisorctl -- control applications run by supervisord from the cmd line.

Usage: {program} [options] [action [arguments]]

Options:
-c/--configuration FILENAME -- configuration file path (searches if not given)
-h/--help -- print usage message and exit
-i/--interactive -- start an interactive session for one command too: ask before
     shutdown and reload, and for a password, as the shell does
-s/--serverurl URL -- URL on which supervisord server is listening
     (default \"http://localhost:9001\").
-u/--username USERNAME -- username to use for authentication with server
-p/--password PASSWORD -- password to use for authentication with server
-r/--history_file FILENAME -- keep the history of the shell in this file
-v/--version -- print the version of this program and exit
--format FORMAT -- form of the output, text or json; also allowed after the
     action
--completions SHELL -- print a completion script for bash, zsh or fish
--man -- print the manual page

action [arguments] -- see below

Actions are commands like \"tail\" or \"stop\".  If no action is
specified on the command line, a \"shell\" interpreting actions typed
interactively is started.  Use the action \"help\" to find out about available
actions.

Beyond these: \"status --long\" shows all that is known about each process,
\"watch [name ...]\" prints a line whenever a process changes its state,
\"events [type ...]\" one for every event that event listeners get,
\"reopen\" closes and opens all log files again, \"upgrade\" replaces supervisord
in place while programs go on, \"reload --keep\" too and applies the configuration.
Names of processes and groups
may hold the wildcards *, ? and [...].
"
    )
}
