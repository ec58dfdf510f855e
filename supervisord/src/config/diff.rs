//! What changes between two configurations: groups as `reread` names them, processes as `update` treats them.
//!
//! Unlike Supervisor, effective settings are compared truthfully: a log that changes from a path to AUTO is a change,
//! and so are the owner, mode and backlog of a FastCGI socket.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use super::{AutoRestart, FastCgi, GroupConfig, GroupKind, LogTarget, OutputConfig, ProgramConfig};
use crate::journal::{FNV_START, fnv1a};

/// Groups that differ, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// In the new configuration only, in its order.
    pub added: Vec<String>,
    /// In both but different, in the new order.
    pub changed: Vec<String>,
    /// Active only, in the order of activation.
    pub removed: Vec<String>,
}

/// Compares the active groups with those of a new configuration.
pub fn compare(active: &[GroupConfig], new: &[GroupConfig]) -> Changes {
    let active_by_name: HashMap<&str, &GroupConfig> =
        active.iter().map(|group| (group.name.as_str(), group)).collect();
    let new_names: HashSet<&str> = new.iter().map(|group| group.name.as_str()).collect();
    let mut changes = Changes::default();
    for group in new {
        match active_by_name.get(group.name.as_str()) {
            None => changes.added.push(group.name.clone()),
            Some(known) if !is_same_group(known, group) => changes.changed.push(group.name.clone()),
            Some(_) => {}
        }
    }
    let removed = active.iter().filter(|group| !new_names.contains(group.name.as_str()));
    changes.removed = removed.map(|group| group.name.clone()).collect();
    changes
}

/// Whether two groups have the same effective settings; the order of variables and events is none.
fn is_same_group(a: &GroupConfig, b: &GroupConfig) -> bool {
    let is_same_process = |(a, b): (&Arc<ProgramConfig>, &Arc<ProgramConfig>)| ordered(a) == ordered(b);
    (&a.name, a.priority, ordered_kind(&a.kind)) == (&b.name, b.priority, ordered_kind(&b.kind))
        && a.processes.len() == b.processes.len()
        && a.processes.iter().zip(&b.processes).all(is_same_process)
}

/// `process` with its variables in the order of their names.
fn ordered(process: &ProgramConfig) -> ProgramConfig {
    let mut process = process.clone();
    process.environment.0.sort();
    process
}

/// `kind` without what makes no difference: a `[program:x]` alone is a group like any other.
fn ordered_kind(kind: &GroupKind) -> GroupKind {
    let mut kind = kind.clone();
    match &mut kind {
        GroupKind::EventListener { events, .. } => events.sort(),
        GroupKind::Group => kind = GroupKind::Program,
        GroupKind::Program | GroupKind::FastCgi => {}
    }
    kind
}

/// Whether children of `old` can live on in `new`: what a listener prints is a protocol. Its pool is the daemon's affair,
/// and the socket of a FastCGI program is a setting of the program, in a group or alone.
fn is_same_for_children(old: &GroupKind, new: &GroupKind) -> bool {
    is_pool(old) == is_pool(new)
}

fn is_pool(kind: &GroupKind) -> bool {
    match kind {
        GroupKind::EventListener { .. } => true,
        GroupKind::Program | GroupKind::Group | GroupKind::FastCgi => false,
    }
}

/// What a new configuration means for one process of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessChange {
    /// Nothing.
    Unchanged,
    /// New settings that a running child need not be restarted for.
    Live,
    /// Settings that only a new child has.
    Restart,
    /// The process is new.
    Added,
    /// The process is gone.
    Removed,
}

/// The change of every process, by name: those of `new` in its order, then the removed ones.
pub fn process_changes(old: &GroupConfig, new: &GroupConfig) -> Vec<(String, ProcessChange)> {
    let by_name: HashMap<&str, &ProgramConfig> =
        old.processes.iter().map(|process| (process.name.as_str(), &**process)).collect();
    let new_names: HashSet<&str> = new.processes.iter().map(|process| process.name.as_str()).collect();
    let is_same_kind = is_same_for_children(&old.kind, &new.kind);
    let of_new = new.processes.iter().map(|process| {
        let change = match by_name.get(process.name.as_str()) {
            None => ProcessChange::Added,
            Some(_) if !is_same_kind => ProcessChange::Restart,
            Some(known) => process_change(&ordered(known), &ordered(process)),
        };
        (process.name.clone(), change)
    });
    let gone = old.processes.iter().filter(|process| !new_names.contains(process.name.as_str()));
    of_new.chain(gone.map(|process| (process.name.clone(), ProcessChange::Removed))).collect()
}

/// A number for the settings that say which ends are followed by a start; as stable as [`digest`].
pub fn policy_digest(process: &ProgramConfig) -> u64 {
    let of = |policy: &str| fnv1a(FNV_START, policy.as_bytes());
    match process.autorestart {
        AutoRestart::Never => of("never"),
        AutoRestart::Unexpected => of(&format!("{:?}", process.exitcodes)),
        AutoRestart::Always => of("always"),
    }
}

/// A number for the settings that only a new child has: the same in every version of this program, and for a setting
/// that is left at its default the same as before there was such a setting.
///
/// It is asked for twice in each restart: what is mostly there costs no allocation.
pub fn digest(kind: &GroupKind, process: &ProgramConfig) -> u64 {
    let mut hash = FNV_START;
    // A key, and the parts of its value.
    let mut add = |key: &str, parts: &[&str]| {
        hash = fnv1a(fnv1a(hash, key.as_bytes()), &[0]);
        hash = fnv1a(parts.iter().fold(hash, |hash, part| fnv1a(hash, part.as_bytes())), &[0]);
    };
    add("name", &[&process.name]);
    add("command", &[&process.command]);
    if let Some(user) = &process.user {
        add("user", &[&user.uid.to_string()]);
    }
    if let Some(directory) = &process.directory {
        add("directory", &[&directory.to_string_lossy()]);
    }
    if let Some(umask) = process.umask {
        add("umask", &[&umask.to_string()]);
    }
    if let Some(url) = &process.serverurl {
        add("serverurl", &[url]);
    }
    if process.login_environment {
        add("login_environment", &[]);
    }
    if process.redirect_stderr {
        add("redirect_stderr", &[]);
    }
    let mut variables: Vec<&(String, String)> = process.environment.0.iter().collect();
    variables.sort();
    for (name, value) in variables {
        add("environment", &[name, "=", value]);
    }
    for (key, output) in [("stdout", &process.stdout), ("stderr", &process.stderr)] {
        let is_captured = output.logfile != LogTarget::None || output.syslog;
        add(key, &[if is_captured { "true" } else { "false" }]);
    }
    match kind {
        GroupKind::Program | GroupKind::Group | GroupKind::FastCgi => {}
        GroupKind::EventListener { .. } => add("listener", &[]),
    }
    if let Some(fastcgi) = &process.fastcgi {
        add("socket", &[&fastcgi.socket.url()]);
    }
    hash
}

fn process_change(old: &ProgramConfig, new: &ProgramConfig) -> ProcessChange {
    if old == new {
        ProcessChange::Unchanged
    } else if with_live_settings(old, new) == *new {
        ProcessChange::Live
    } else {
        ProcessChange::Restart
    }
}

/// `old` with those settings of `new` that only the daemon acts on.
fn with_live_settings(old: &ProgramConfig, new: &ProgramConfig) -> ProgramConfig {
    let output = |old: &OutputConfig, new: &OutputConfig| OutputConfig {
        maxbytes: new.maxbytes,
        backups: new.backups,
        ..old.clone()
    };
    // The socket itself stays: workers hold it.
    let fastcgi = |old: &FastCgi| match &new.fastcgi {
        Some(new) => FastCgi { socket: old.socket.clone(), ..new.clone() },
        None => old.clone(),
    };
    ProgramConfig {
        program: new.program.clone(),
        priority: new.priority,
        autostart: new.autostart,
        autorestart: new.autorestart,
        startsecs: new.startsecs,
        startretries: new.startretries,
        exitcodes: new.exitcodes.clone(),
        stopsignal: new.stopsignal,
        stopwaitsecs: new.stopwaitsecs,
        stopasgroup: new.stopasgroup,
        killasgroup: new.killasgroup,
        killmode: new.killmode,
        depends_on: new.depends_on.clone(),
        stdout: output(&old.stdout, &new.stdout),
        stderr: output(&old.stderr, &new.stderr),
        fastcgi: old.fastcgi.as_ref().map(fastcgi),
        ..old.clone()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::{collections::BTreeMap, fs};

    use super::*;
    use crate::config::{
        Config,
        error::ConfigErrors,
        load::{Inputs, Overrides, load},
    };

    /// Reads a file with this text after `[supervisord]`.
    pub(in crate::config) fn read(text: &str) -> Result<Config, ConfigErrors> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.conf");
        fs::write(&path, format!("[supervisord]\n{text}")).unwrap();
        let inputs = Inputs {
            environment: BTreeMap::new(),
            cwd: "/".into(),
            host_node_name: "h".to_owned(),
            temporary_directory: "/tmp".into(),
        };
        load(&path, &inputs, &Overrides::default()).map(|loaded| loaded.config)
    }

    fn groups(text: &str) -> Vec<GroupConfig> {
        read(text).unwrap().groups
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn groups_are_added_changed_and_removed() {
        let old = groups(
            "[program:z]\ncommand=z\n[program:same]\ncommand=s\n[program:c]\ncommand=1\n[program:a]\ncommand=a\n",
        );
        let new =
            groups("[program:c]\ncommand=2\n[program:same]\ncommand=s ; note\n[program:new]\ncommand=n\n");
        let expected =
            Changes { added: names(&["new"]), changed: names(&["c"]), removed: names(&["a", "z"]) };
        assert_eq!(compare(&old, &new), expected);
    }

    #[test]
    fn what_means_the_same_is_no_change() {
        let old = groups("[program:a]\ncommand=x\nenvironment=A=1,B=2\nstdout_logfile=AUTO\n");
        let new = groups(
            "[program:a]\nenvironment=B=\"2\",A='1'\ncommand : x\nautostart=yes\nstderr_logfile=auto\n",
        );
        assert_eq!(compare(&old, &new), Changes::default());
        let change = process_changes(&old[0], &new[0]);
        assert_eq!(change, [("a".to_owned(), ProcessChange::Unchanged)]);
    }

    #[test]
    fn a_log_that_becomes_auto_is_a_change() {
        let old = groups("[program:a]\ncommand=x\nstdout_logfile=/tmp/x\n");
        let new = groups("[program:a]\ncommand=x\n");
        assert_eq!(compare(&old, &new).changed, ["a"]);
        assert_eq!(process_changes(&old[0], &new[0]), [("a".to_owned(), ProcessChange::Restart)]);
    }

    #[test]
    fn each_key_has_its_effect_on_a_running_process() {
        let old = groups("[program:a]\ncommand=x\n");
        for key in [
            "priority=1",
            "autostart=false",
            "autorestart=true",
            "startsecs=5",
            "startretries=5",
            "exitcodes=3",
            "stopsignal=INT",
            "stopwaitsecs=3",
            "stopasgroup=true",
            "killasgroup=true",
            "stdout_logfile_maxbytes=1",
            "stderr_logfile_backups=1",
        ] {
            let new = groups(&format!("[program:a]\ncommand=x\n{key}\n"));
            assert_eq!(process_changes(&old[0], &new[0]), [("a".to_owned(), ProcessChange::Live)], "{key}");
        }
        for key in [
            "user=root",
            "directory=/",
            "umask=022",
            "environment=A=1",
            "serverurl=http://x:1",
            "redirect_stderr=true",
            "stdout_logfile=/tmp/x",
            "stdout_capture_maxbytes=1",
            "stdout_events_enabled=true",
            "stderr_syslog=true",
        ] {
            let new = groups(&format!("[program:a]\ncommand=x\n{key}\n"));
            assert_eq!(
                process_changes(&old[0], &new[0]),
                [("a".to_owned(), ProcessChange::Restart)],
                "{key}"
            );
        }
    }

    #[test]
    fn more_or_fewer_processes_leave_the_others_alone() {
        let text = |count: u32| {
            groups(&format!("[program:a]\ncommand=x\nnumprocs={count}\nprocess_name=%(process_num)d\n"))
        };
        let of = |change| move |name: &str| (name.to_owned(), change);
        let mut expected: Vec<_> = ["0", "1"].map(of(ProcessChange::Unchanged)).to_vec();
        expected.push(of(ProcessChange::Added)("2"));
        assert_eq!(process_changes(&text(2)[0], &text(3)[0]), expected);
        expected[2].1 = ProcessChange::Removed;
        assert_eq!(process_changes(&text(3)[0], &text(2)[0]), expected);
    }

    #[test]
    fn a_group_of_the_same_name_and_process_is_no_change() {
        let old = groups("[program:a]\ncommand=x\n");
        let new = groups("[program:a]\ncommand=x\n[group:a]\nprograms=a\n");
        assert_eq!(compare(&old, &new), Changes::default());
        assert_eq!(process_changes(&old[0], &new[0]), [("a".to_owned(), ProcessChange::Unchanged)]);
    }

    #[test]
    fn other_events_of_a_listener_do_not_restart_it() {
        let old = groups("[eventlistener:a]\ncommand=x\nevents=TICK_5,TICK_60\n");
        assert_eq!(
            compare(&old, &groups("[eventlistener:a]\ncommand=x\nevents=TICK_60,tick_5\n")),
            Changes::default()
        );
        let new = groups("[eventlistener:a]\ncommand=x\nevents=TICK_5\n");
        assert_eq!(compare(&old, &new).changed, ["a"]);
        assert_eq!(process_changes(&old[0], &new[0]), [("a".to_owned(), ProcessChange::Unchanged)]);
    }

    #[test]
    fn a_fastcgi_socket_takes_another_mode_owner_and_backlog_live_and_another_address_not() {
        let text = |more: &str| groups(&format!("[fcgi-program:a]\ncommand=x\nsocket=unix:///tmp/x\n{more}"));
        let old = text("");
        for (more, change) in [
            ("socket_mode=0770", ProcessChange::Live),
            ("socket_owner=root", ProcessChange::Live),
            ("socket_backlog=7", ProcessChange::Live),
            ("socket=unix:///tmp/y", ProcessChange::Restart),
            ("socket=tcp://localhost:9", ProcessChange::Restart),
        ] {
            let new = text(more);
            assert_eq!(compare(&old, &new).changed, ["a"], "{more}");
            assert_eq!(process_changes(&old[0], &new[0]), [("a".to_owned(), change)], "{more}");
        }
    }

    #[test]
    fn a_fastcgi_program_may_move_into_a_group_of_its_name_and_out_of_it() {
        let program = "[fcgi-program:a]\ncommand=x\nsocket=unix:///tmp/x\n";
        let (alone, grouped) = (groups(program), groups(&format!("{program}[group:a]\nprograms=a\n")));
        for (old, new) in [(&alone, &grouped), (&grouped, &alone)] {
            assert_eq!(compare(old, new).changed, ["a"]);
            assert_eq!(process_changes(&old[0], &new[0]), [("a".to_owned(), ProcessChange::Unchanged)]);
        }
    }

    #[test]
    fn another_kind_of_group_restarts_everything() {
        let old = groups("[program:a]\ncommand=x\n");
        let new = groups("[eventlistener:a]\ncommand=x\nevents=TICK_5\npriority=999\n");
        assert_eq!(compare(&old, &new).changed, ["a"]);
        assert_eq!(process_changes(&old[0], &new[0]), [("a".to_owned(), ProcessChange::Restart)]);
    }

    #[test]
    fn digests_are_those_of_every_other_version() {
        let text = "[program:a]\ncommand=x y\ndirectory=/d\numask=022\nserverurl=http://x:1\nredirect_stderr=true\n\
                    environment=B=2,A=\"1,%%\"\nstdout_logfile=NONE\nuser=root\n\
                    [fcgi-program:b]\ncommand=y\nsocket=unix:///tmp/x\nautorestart=true\n\
                    [eventlistener:c]\ncommand=z\nevents=TICK_5\nexitcodes=3,4\n";
        let digests: Vec<(u64, u64)> = groups(text)
            .iter()
            .map(|group| (digest(&group.kind, &group.processes[0]), policy_digest(&group.processes[0])))
            .collect();
        let known = [
            (15422654959938191551, 12775889705957752068),
            (1160739590472809408, 15883872741538156825),
            (6524242125721414913, 17853578303721956676),
        ];
        assert_eq!(digests, known);
    }
}
