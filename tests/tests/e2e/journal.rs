//! The journal when it cannot be written, when it is of another version, and when the daemon dies at awkward moments.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use supervisor_tests::{Background, Daemon, Gap, Signal, actor, is_root, journal, kill, processes, set_mode};

/// A program, and one that its operator has stopped.
const TWO: &str = "\
[program:x]
command=$ACTOR record=$DIR/starts lines-wild=1
startsecs=0
stdout_logfile=$DIR/x.log
[program:y]
command=$ACTOR record=$DIR/y sleep
startsecs=0
";

/// Starts a daemon with [`TWO`], stops `y` and kills the daemon. The pid of `x`.
fn start_two() -> (Daemon, i32) {
    let mut daemon = Daemon::start(TWO);
    daemon.until_more_lines("x.log");
    daemon.until_state("y", "RUNNING");
    daemon.ctl("stop y").is("y: stopped\n");
    let pid = daemon.process_pid("x");
    daemon.crash();
    (daemon, pid)
}

/// Puts a journal from the folder `journals` in the place of the daemon's: `x` in it is the `x` that runs.
fn put_journal(daemon: &Daemon, name: &str) {
    let path = format!("{}/journals/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(path).expect("a journal");
    let process = &daemon.last_child_in_journal("x")["process"];
    let child = &process["child"];
    let lines = text.lines().filter(|line| line.starts_with('{')).map(|line| {
        let line = line.replace("BOOT", &journal::boot_id());
        [
            ("111111", &child["identity"]["pid"]),
            ("222222", &child["identity"]["start_time"]),
            ("333333", &child["pipes"]["stdout"]),
            ("444444", &child["pipes"]["stderr"]),
            ("555555", &process["settings"]),
        ]
        .iter()
        .fold(line, |line, (placeholder, value)| line.replace(placeholder, &value.to_string()))
    });
    daemon.write_journal(&lines.collect::<Vec<_>>());
}

/// Lines of the daemon's log about the journal.
fn said_of_the_journal(daemon: &Daemon) -> Vec<String> {
    daemon.log().lines().filter(|line| line.contains("journal")).map(str::to_owned).collect()
}

#[test]
fn journal_of_an_earlier_version_is_understood() {
    for name in ["format-0", "format-1"] {
        let (mut daemon, pid) = start_two();
        put_journal(&daemon, name);
        daemon.launch(&[]);
        assert_eq!(daemon.process_pid("x"), pid, "{name}");
        assert_eq!(
            (daemon.state("x").as_str(), daemon.state("y").as_str()),
            ("RUNNING", "STOPPED"),
            "{name}"
        );
        daemon.until_more_lines("x.log");
        assert_eq!(daemon.starts("starts").len(), 1, "{name}");
        assert_eq!(said_of_the_journal(&daemon), [""; 0], "{name}");
    }
}

#[test]
fn journal_of_a_later_version_is_one_warning_and_nothing_runs_twice() {
    let (mut daemon, pid) = start_two();
    put_journal(&daemon, "format-2");
    daemon.launch(&[]);
    // Its settings are in words of which nothing is known here: another takes its place, after its end.
    daemon.until_starts("starts", 2);
    daemon.until_state("x", "RUNNING");
    assert!(!processes::is_alive(pid) || processes::is_zombie(pid), "there would be two");
    assert_eq!(daemon.state("y"), "STOPPED", "a line that can be read is believed");
    let said = said_of_the_journal(&daemon);
    assert!(said.len() == 1 && said[0].contains("WARN") && said[0].contains("version 2"), "{said:?}");
}

#[test]
fn journal_that_cannot_be_read_at_all_is_one_warning_and_is_kept() {
    let (mut daemon, _) = start_two();
    fs::write(daemon.path("supervisord.state/journal"), b"\x7fELF nonsense").expect("ours");
    daemon.launch(&[]);
    daemon.until_starts("starts", 2);
    daemon.until_state("y", "RUNNING");
    let said = said_of_the_journal(&daemon);
    assert!(said.len() == 1 && said[0].contains("it does not begin like a journal"), "{said:?}");
    assert_eq!(daemon.read_bytes("supervisord.state/journal.alien"), b"\x7fELF nonsense");
}

/// Makes the journal end with the intent to start `x`, as if the daemon had died before it could write down the child.
fn forget_the_child(daemon: &Daemon) {
    let mut record = daemon.last_child_in_journal("x");
    let process = record["process"].as_object_mut().expect("an object");
    let pipes = process["child"]["pipes"].clone();
    process.insert("child".to_owned(), serde_json::Value::Null);
    process.insert("intent".to_owned(), pipes);
    process.insert("life".to_owned(), "spawning".into());
    let mut lines = daemon.journal();
    lines.push(record.to_string());
    daemon.write_journal(&lines);
}

#[test]
fn child_of_a_start_that_was_cut_short_is_found_by_its_pipes() {
    let (mut daemon, pid) = start_two();
    forget_the_child(&daemon);
    daemon.launch(&[]);
    assert_eq!(daemon.process_pid("x"), pid);
    daemon.until_more_lines("x.log");
    assert_eq!(daemon.starts("starts").len(), 1);
}

#[test]
fn start_that_was_cut_short_before_there_was_a_child_is_made_good() {
    let (mut daemon, pid) = start_two();
    forget_the_child(&daemon);
    kill(pid, Signal::SIGKILL);
    daemon.until("its end", || !processes::is_alive(pid) || processes::is_zombie(pid));
    daemon.launch(&[]);
    daemon.until_starts("starts", 2);
    daemon.until_state("x", "RUNNING");
    assert_eq!(daemon.json("x")["retries"], 0);
    assert_eq!(daemon.starts("starts").len(), 2);
}

#[test]
fn daemon_that_dies_in_or_right_after_an_upgrade_is_followed_by_one_that_knows_all() {
    let mut daemon = Daemon::start_for_gap(TWO);
    daemon.until_more_lines("x.log");
    daemon.until_state("y", "RUNNING");
    daemon.ctl("stop y").is("y: stopped\n");
    let pid = daemon.process_pid("x");
    for round in 0..4 {
        if round % 2 == 0 {
            daemon.hold_upgrade();
        } else {
            let reply = daemon.ctl("upgrade");
            assert_eq!(reply.status, 0, "{reply:?}");
        }
        daemon.crash();
        daemon.launch_copy();
        assert_eq!(daemon.process_pid("x"), pid, "round {round}");
        assert_eq!(daemon.state("y"), "STOPPED");
        daemon.until_more_lines("x.log");
    }
    daemon.pass(Gap::Upgrade, |_| {});
    assert_eq!(daemon.process_pid("x"), pid);
    assert_eq!(daemon.starts("starts").len(), 1);
}

/// A small file system of its own for the journal of `daemon`, which must be configured for [`STATE`]. It is there as long
/// as what is returned.
fn mount_small(daemon: &Daemon) -> Background {
    fs::create_dir(daemon.path("state")).expect("a directory");
    let mount = daemon
        .expand("mount -t tmpfs -o size=1m,mode=700 none $DIR/state && echo mounted && exec sleep 1000");
    let holder = daemon.beside("unshare", &["-m", "sh", "-c", &mount]);
    daemon.until("the mount", || holder.text().contains("mounted"));
    holder
}

/// Where the journal of [`mount_small`] is.
const STATE: &str = "runtime_directory=$DIR/state";

/// Programs that are restarted in [`programs_started_on_a_full_disk_are_taken_over_however_many_there_were`].
const MANY: usize = 16;

/// How to start a daemon that sees what was mounted, with words in front of its command line.
fn within<'a>(holder: &'a str, words: &[&'a str]) -> Vec<&'a str> {
    [&["nsenter", "-m", "-t", holder], words].concat()
}

/// A file in what was mounted.
fn inside(holder: &Background, daemon: &Daemon, name: &str) -> PathBuf {
    let path = daemon.path(&format!("state/{name}"));
    format!("/proc/{}/root{}", holder.pid(), path.display()).into()
}

#[test]
fn programs_started_on_a_full_disk_are_taken_over_however_many_there_were() {
    if !is_root("programs_started_on_a_full_disk_are_taken_over_however_many_there_were") {
        return;
    }
    let mut daemon = Daemon::prepare(&format!(
        "[supervisord]
{STATE}
[program:x]
command=$ACTOR record=$DIR/x sleep
startsecs=0
numprocs={MANY}
process_name=%(process_num)d
"
    ));
    let holder = mount_small(&daemon);
    let target = holder.pid().to_string();
    daemon.launch_in(&within(&target, &[]));
    let mut starts = daemon.until_starts("x", MANY);
    fill(&inside(&holder, &daemon, "filler"));
    let journal = inside(&holder, &daemon, "journal");
    let identity = || fs::metadata(&journal).map_or(0, |file| file.ino());
    for _ in 0..3 {
        let mut last = identity();
        // Until the journal was written anew several times: each of both files was in either place.
        for round in 0..4 {
            while identity() == last {
                let pids = starts[starts.len() - MANY..].iter().map(|start| start.pid);
                pids.for_each(|pid| kill(pid, Signal::SIGKILL));
                starts = daemon.until_starts("x", starts.len() + MANY);
                assert!(starts.len() < 10_000, "the journal is not written anew, round {round}");
            }
            last = identity();
        }
        daemon.until("all to run", || daemon.ctl("status").stdout.matches("RUNNING").count() == MANY);
        let pids = daemon.ctl("pid all").stdout;
        let reply = daemon.ctl("status --long");
        assert!(!reply.stderr.contains("journal"), "there is nothing to be said: {reply:?}");
        daemon.crash_without_keeper();
        daemon.launch_in(&within(&target, &[]));
        assert_eq!(daemon.ctl("pid all").stdout, pids);
        assert_eq!(daemon.starts("x").len(), starts.len(), "there are two");
    }
    assert_eq!(said_of_the_journal(&daemon), [""; 0]);
}

/// What is demanded when the journal cannot be written for a while. The disk is full when the daemon begins, or has been
/// filled since where no space can be set aside.
fn check_that_an_unwritable_journal_is_said_and_hinders_nobody(is_full_before: bool) {
    let mut daemon = Daemon::prepare(&format!("[supervisord]\n{STATE}\n{TWO}"));
    let holder = mount_small(&daemon);
    let target = holder.pid().to_string();
    let filler = inside(&holder, &daemon, "filler");
    let actor = actor();
    let refusing = [path(&actor), "refuse=fallocate", "become"];
    let words = if is_full_before { &[] } else { refusing.as_slice() };
    if is_full_before {
        fill(&filler);
    }
    daemon.launch_in(&within(&target, words));
    daemon.until_state("y", "RUNNING");
    if !is_full_before {
        fill(&filler);
    }
    for round in 2..=12 {
        daemon.ctl("restart x").is("x: stopped\nx: started\n");
        daemon.until_starts("starts", round);
        let pid = daemon.until_starts("y", round - 1)[round - 2].pid;
        kill(pid, Signal::SIGKILL);
    }
    daemon.until_state("y", "RUNNING");
    let complaints = || daemon.log().matches("for the journal cannot be written").count();
    assert_eq!(complaints(), 1, "said once");
    let reply = daemon.ctl("status --long");
    assert!(
        reply.stderr.contains("the journal cannot be written") && reply.stderr.contains("No space"),
        "{reply:?}"
    );
    fs::remove_file(&filler).expect("the filler");
    daemon.until_log("the journal can be written again");
    let reply = daemon.ctl("status --long");
    assert!(!reply.stderr.contains("journal"), "{reply:?}");
    // And what it says is true again.
    let names = ["x", "y"];
    let pids = names.map(|name| daemon.process_pid(name));
    daemon.crash();
    daemon.launch_in(&within(&target, words));
    assert_eq!(names.map(|name| daemon.process_pid(name)), pids);
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path of the test")
}

#[test]
fn journal_on_a_disk_that_is_full_from_the_beginning_is_said_and_hinders_nobody() {
    if is_root("journal_on_a_disk_that_is_full_from_the_beginning_is_said_and_hinders_nobody") {
        check_that_an_unwritable_journal_is_said_and_hinders_nobody(true);
    }
}

#[test]
fn journal_on_a_full_disk_where_no_space_can_be_set_aside_is_said_and_hinders_nobody() {
    if is_root("journal_on_a_full_disk_where_no_space_can_be_set_aside_is_said_and_hinders_nobody") {
        check_that_an_unwritable_journal_is_said_and_hinders_nobody(false);
    }
}

#[test]
fn journal_for_which_too_little_space_is_left_says_so_until_there_is_more() {
    if !is_root("journal_for_which_too_little_space_is_left_says_so_until_there_is_more") {
        return;
    }
    let mut daemon = Daemon::prepare(&format!("[supervisord]\n{STATE}\n{TWO}"));
    let holder = mount_small(&daemon);
    let filler = inside(&holder, &daemon, "filler");
    fs::write(&filler, vec![b'x'; 600 << 10]).expect("a file");
    let target = holder.pid().to_string();
    daemon.launch_in(&within(&target, &[]));
    daemon.until_log("no space can be set aside for the journal");
    let reply = daemon.ctl("status --long");
    assert!(reply.stderr.contains("no space can be set aside for the journal"), "{reply:?}");
    assert_eq!(daemon.ctl("status").stderr, "", "scripts read what Supervisor would print");
    fs::remove_file(&filler).expect("the filler");
    daemon.until_log("space for the journal is set aside again");
    let reply = daemon.ctl("status --long");
    assert!(!reply.stderr.contains("journal"), "{reply:?}");
    assert_eq!(said_of_the_journal(&daemon).len(), 2);
}

#[test]
fn journal_that_could_not_be_closed_is_not_believed_by_the_next_daemon() {
    let test = "journal_that_could_not_be_closed_is_not_believed_by_the_next_daemon";
    if !is_root(test) {
        return;
    }
    let mut daemon =
        Daemon::prepare(&format!("[supervisord]\n{STATE}\nremember_stopped=true\n{TWO}autostart=false\n"));
    let holder = mount_small(&daemon);
    let target = holder.pid().to_string();
    let actor = actor();
    daemon.launch_in(&within(&target, &[path(&actor), "refuse=fallocate", "become"]));
    daemon.ctl("start y").is("y: started\n");
    fill(&inside(&holder, &daemon, "filler"));
    assert!(daemon.terminate().success());
    daemon.launch_in(&within(&target, &[]));
    daemon.until_state("x", "RUNNING");
    // After an orderly end what starts by itself does, and nothing else.
    assert_eq!((daemon.state("y").as_str(), daemon.starts("y").len()), ("STOPPED", 1));
}

/// Fills the file system.
fn fill(path: &Path) {
    let mut file = fs::File::create(path).expect("a file");
    for size in [1 << 16, 1 << 12, 1] {
        let block = vec![b'x'; size];
        loop {
            match file.write(&block) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => break,
                Err(error) => panic!("{}: {error}", path.display()),
            }
        }
    }
}

#[test]
fn directory_that_others_may_write_to_is_said_and_hinders_nobody() {
    let mut daemon = Daemon::prepare(&format!("[supervisord]\nruntime_directory=$DIR/state\n{TWO}"));
    fs::create_dir(daemon.path("state")).expect("a directory");
    set_mode(&daemon.path("state"), 0o777);
    daemon.launch(&[]);
    daemon.until_state("x", "RUNNING");
    let said = said_of_the_journal(&daemon);
    assert!(said.len() == 1 && said[0].contains("has mode 777"), "{said:?}");
    let reply = daemon.ctl("status --long");
    assert!(reply.stderr.contains("has mode 777: others can write to it"), "{reply:?}");
    assert_eq!(daemon.ctl("status").stderr, "", "scripts read what Supervisor would print");
    assert_eq!(fs::metadata(daemon.path("state")).expect("it").permissions().mode() & 0o777, 0o777);
}

/// Puts the journal into another place, as far as the configuration goes: by the key of its own, and by the pidfile.
const OTHER_PLACES: [(&str, &str); 2] =
    [("runtime_directory=$DIR/other.state", "other.state"), ("pidfile=$DIR/new.pid", "new.state")];

fn configure_place(daemon: &Daemon, key: &str) {
    daemon.configure(&format!("[supervisord]\n{key}\n{TWO}"));
}

/// Kills the daemon, starts it, and makes sure that it goes on with `x` that has the pid `pid` and was started `starts`
/// times.
fn check_that_a_killed_daemon_is_followed(daemon: &mut Daemon, pid: i32, starts: usize) {
    daemon.crash();
    daemon.launch(&[]);
    assert_eq!(daemon.process_pid("x"), pid);
    let size = || fs::metadata(daemon.path("x.log")).map_or(0, |log| log.len());
    let before = size();
    daemon.until("more lines", || size() > before);
    assert_eq!(daemon.starts("starts").len(), starts, "{}", daemon.log());
    daemon.until("one keeper", || daemon.keepers().len() == 1);
}

#[test]
fn reload_moves_the_journal_and_the_door_of_the_keeper() {
    for (key, place) in OTHER_PLACES {
        let mut daemon = Daemon::start(TWO);
        daemon.until_starts("starts", 1);
        configure_place(&daemon, key);
        daemon.ctl("reload").is("Restarted supervisord\n");
        daemon.until_starts("starts", 2);
        daemon.until_state("x", "RUNNING");
        // That of before may still be about to end.
        let has_door = |keeper: i32| daemon.path(&format!("{place}/keeper.{keeper}")).exists();
        daemon.until("the keeper behind its new door", || daemon.keeper().is_some_and(has_door));
        assert!(!daemon.path("supervisord.state").exists(), "{key}");
        assert!(daemon.path(&format!("{place}/journal")).exists(), "{key}");
        let pid = daemon.process_pid("x");
        check_that_a_killed_daemon_is_followed(&mut daemon, pid, 2);
        assert_eq!(daemon.terminate().code(), Some(0));
        assert!(!daemon.path(place).exists(), "{key}: it is removed at the end");
    }
}

#[test]
fn reload_leaves_the_journal_where_it_is_when_the_new_place_is_refused() {
    let mut daemon = Daemon::start(TWO);
    daemon.until_starts("starts", 1);
    let (key, place) = OTHER_PLACES[0];
    fs::create_dir(daemon.path(place)).expect("a directory");
    set_mode(&daemon.path(place), 0o777);
    configure_place(&daemon, key);
    daemon.ctl("reload").is("Restarted supervisord\n");
    daemon.until_starts("starts", 2);
    daemon.until_state("x", "RUNNING");
    let said = || daemon.log().lines().filter(|line| line.contains("the journal stays in")).count();
    assert_eq!(said(), 1, "{}", daemon.log());
    assert!(daemon.path("supervisord.state/journal").exists());
    let pid = daemon.process_pid("x");
    daemon.until_some("the keeper", || daemon.keeper());
    check_that_a_killed_daemon_is_followed(&mut daemon, pid, 2);
    assert!(daemon.path("supervisord.state/journal").exists());
}

#[test]
fn reload_does_not_overwrite_the_journal_of_programs_that_run() {
    let (mut other, pid) = start_two();
    let mut daemon = Daemon::start(TWO);
    daemon.until_starts("starts", 1);
    configure_place(&daemon, &format!("runtime_directory={}", other.path("supervisord.state").display()));
    daemon.ctl("reload").is("Restarted supervisord\n");
    daemon.until_starts("starts", 2);
    daemon.until_log("holds what a supervisord that was killed has left, and programs of it run");
    assert_eq!(daemon.terminate().code(), Some(0));
    other.launch(&[]);
    assert_eq!(other.process_pid("x"), pid);
}

#[test]
fn killed_daemon_is_followed_in_another_place_whether_or_not_it_knew_of_it() {
    for ((key, place), command) in OTHER_PLACES.into_iter().zip(["update", "version"]) {
        let mut daemon = Daemon::start(TWO);
        daemon.until_more_lines("x.log");
        daemon.until_state("y", "RUNNING");
        daemon.ctl("stop y").is("y: stopped\n");
        let pid = daemon.process_pid("x");
        configure_place(&daemon, key);
        assert_eq!(daemon.ctl(command).status, 0);
        assert!(
            daemon.path("supervisord.state/journal").exists() && !daemon.path(place).exists(),
            "{command}"
        );
        check_that_a_killed_daemon_is_followed(&mut daemon, pid, 1);
        assert_eq!(daemon.state("y"), "STOPPED", "{command}");
        daemon.until("the old place to go", || !daemon.path("supervisord.state").exists());
        check_that_a_killed_daemon_is_followed(&mut daemon, pid, 1);
        assert_eq!(daemon.state("y"), "STOPPED", "{command}");
    }
}

#[test]
fn upgrade_moves_the_journal() {
    for (key, place) in OTHER_PLACES {
        let mut daemon = Daemon::start(TWO);
        daemon.until_more_lines("x.log");
        let pid = daemon.process_pid("x");
        configure_place(&daemon, key);
        let reply = daemon.ctl("upgrade");
        assert_eq!(reply.status, 0, "{reply:?}");
        daemon.until("the old place to go", || !daemon.path("supervisord.state").exists());
        assert!(daemon.path(&format!("{place}/journal")).exists(), "{key}");
        check_that_a_killed_daemon_is_followed(&mut daemon, pid, 1);
    }
}
