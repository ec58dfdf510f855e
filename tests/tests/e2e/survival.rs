//! README's table "What survives what": each of its cells has a test, those that have none elsewhere here.

use std::{fs, io::Read as _, os::unix::fs::MetadataExt as _, os::unix::net::UnixStream, path::Path};

use supervisor_tests::{Daemon, Signal, is_root, kill, lines, processes};

/// Tests of a row: what its event contains, then those for each column of the table.
type Row = (&'static str, [&'static [&'static str]; 4]);

const TESTS: &[Row] = &[
    (
        "crash of the daemon",
        [
            &[
                "continuity::t13_killed_daemon_is_replaced_and_programs_keep_pid_and_log",
                "gap::program_of_another_user_goes_on",
                "events::a_listener_ends_with_the_daemon_though_that_is_killed",
            ],
            &[
                "gap::program_whose_child_writes_for_it_goes_on",
                "torture::nothing_is_lost_whatever_happens_to_the_daemon",
                "keeper::t14_last_words_and_exit_status_of_a_program_that_ends_without_a_daemon_are_kept",
                "keeper::what_others_write_to_the_pipe_of_a_program_that_has_ended_is_read_over_a_crash",
            ],
            &[
                "survival::exit_status_that_the_kernel_still_tells_is_known_after_a_crash",
                "keeper::t14_last_words_and_exit_status_of_a_program_that_ends_without_a_daemon_are_kept",
            ],
            &[
                "startup::t44_a_killed_daemons_socket_and_pidfile_are_no_obstacle",
                "fastcgi::the_socket_stays_through_an_upgrade_and_workers_go_on_after_a_crash_of_the_daemon",
                "fastcgi::the_socket_outlives_the_daemon_and_all_workers_and_who_waits_is_answered_by_the_next",
            ],
        ],
    ),
    (
        "the keeper is killed too",
        [
            &["gap::program_whose_child_writes_for_it_goes_on"],
            &["keeper::without_its_keeper_a_new_daemon_goes_on_as_well_as_it_can"],
            &["keeper::without_its_keeper_a_new_daemon_goes_on_as_well_as_it_can"],
            &["keeper::without_its_keeper_a_new_daemon_goes_on_as_well_as_it_can"],
        ],
    ),
    (
        "on_daemon_death=stop",
        [
            &["daemon_death::t12_programs_that_are_to_stop_end_within_a_second_and_others_run_on"],
            &["survival::what_ends_with_the_daemon_is_logged_up_to_then_and_its_sockets_are_closed"],
            &[],
            &["survival::what_ends_with_the_daemon_is_logged_up_to_then_and_its_sockets_are_closed"],
        ],
    ),
    (
        "`supervisorctl upgrade`",
        [
            &[
                "upgrade::daemon_and_programs_keep_pid_descriptors_and_sockets_over_generations",
                "upgrade::sigusr1_upgrades_and_says_so_in_the_log",
            ],
            &["upgrade::t17_under_load_nothing_restarts_no_line_is_lost_and_a_pending_kill_comes_in_time"],
            &["upgrade::exit_statuses_of_programs_that_end_meanwhile_are_known"],
            &[
                "upgrade::no_client_is_refused_while_the_daemon_is_replaced",
                "upgrade::sockets_of_fastcgi_programs_stay_open_with_or_without_a_worker",
            ],
        ],
    ),
    ("--take-over", [&["survival::take_over_of_one_of_ours_keeps_pids_output_and_sockets"]; 4]),
    (
        "`update`",
        [
            &[
                "update::t51_one_changed_program_of_five_is_the_only_one_that_is_restarted",
                "upgrade::reload_keep_applies_the_configuration_and_keeps_what_is_unchanged",
            ],
            &["survival::update_keeps_output_exit_statuses_and_sockets"],
            &["survival::update_keeps_output_exit_statuses_and_sockets"],
            &["survival::update_keeps_output_exit_statuses_and_sockets"],
        ],
    ),
    (
        "another configuration while no daemon runs",
        [&["survival::another_configuration_while_no_daemon_runs_is_as_an_update"]; 4],
    ),
    ("`reload`, SIGHUP", [&["survival::reload_restarts_all_and_loses_no_last_word"]; 4]),
    (
        "`shutdown`, SIGTERM",
        [
            &["survival::shutdown_loses_no_last_word_and_the_next_start_is_a_new_one"],
            &["survival::shutdown_loses_no_last_word_and_the_next_start_is_a_new_one"],
            &[],
            &["survival::shutdown_loses_no_last_word_and_the_next_start_is_a_new_one"],
        ],
    ),
    (
        "a reboot",
        [
            &[
                "continuity::t14_journal_of_another_boot_is_no_reason_to_believe_a_pid",
                "continuity::t14_end_of_a_program_by_an_orderly_shutdown_or_a_reboot_is_no_failure",
            ],
            &[],
            &[],
            &[],
        ],
    ),
];

/// What the table says of an event, by column.
fn table() -> Vec<(String, Vec<String>)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md");
    let text = fs::read_to_string(path).expect("the README");
    let section = text.split("\n## What survives what\n").nth(1).expect("its section");
    let rows = section.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    let rows = rows.take_while(|line| line.starts_with('|')).map(|line| {
        let mut cells = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned());
        (cells.next().expect("an event"), cells.collect())
    });
    rows.collect()
}

/// Whether `file::name` is a test.
fn exists(test: &str) -> bool {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let (file, name) = test.split_once("::").expect("a file and a name");
    // Not all are parts of the same program.
    ["e2e", ""].iter().any(|place| {
        fs::read_to_string(directory.join(place).join(format!("{file}.rs")))
            .is_ok_and(|text| text.contains(&format!("#[test]\nfn {name}()")))
    })
}

#[test]
fn every_cell_of_the_table_has_a_test() {
    let table = table();
    assert!(table.len() >= TESTS.len(), "rows are missing: {table:#?}");
    for (event, cells) in table {
        let row = TESTS.iter().find(|(key, _)| event.contains(key));
        let (_, tests) = row.unwrap_or_else(|| panic!("no tests are named for {event:?}"));
        assert_eq!(cells.len(), tests.len(), "{event}");
        for (cell, tests) in cells.iter().zip(tests) {
            assert_eq!(cell == "–", tests.is_empty(), "{event}: {cell:?} is shown by {tests:?}");
            for test in *tests {
                assert!(exists(test), "{event}: {cell:?} is to be shown by {test}, which is not there");
            }
        }
    }
}

/// Says much, and more when it is told to end.
const TALKER: &str =
    "command=$ACTOR record=$DIR/talker lines=2000 wait-signal=TERM lines=2000 print=bye exit=4
startsecs=0
stdout_logfile=$DIR/talker.log
";

const FASTCGI: &str = "[fcgi-program:f]
command=$ACTOR accept
startsecs=0
socket=unix://$DIR/f.sock
";

/// What the talker writes in one life.
fn one_life() -> String {
    let lines: String = (1..=2000).map(|n| format!("line {n}\n")).collect();
    format!("{lines}SIGTERM\n{lines}bye\n")
}

/// Waits until the talker waits for its signal.
fn until_talked(daemon: &Daemon, lives: usize) {
    let size = (lives - 1) * one_life().len() + one_life().len() / 2 - 10;
    daemon.until("the first half", || daemon.read("talker.log").len() >= size);
}

fn inode(daemon: &Daemon, name: &str) -> u64 {
    fs::metadata(daemon.path(name)).expect("a socket").ino()
}

#[test]
fn exit_status_that_the_kernel_still_tells_is_known_after_a_crash() {
    let mut daemon = Daemon::start(
        "[program:x]\ncommand=$ACTOR wait-signal=USR1 exit=3\nstartsecs=0\nautorestart=unexpected\nexitcodes=3\n",
    );
    daemon.until_state("x", "RUNNING");
    let pid = daemon.process_pid("x");
    daemon.crash();
    kill(pid, Signal::SIGUSR1);
    // Its parent is this test now, which takes its time to reap it.
    daemon.until("it to end", || processes::is_zombie(pid));
    daemon.launch(&[]);
    daemon.until_state("x", "EXITED");
    assert_eq!(daemon.json("x")["exitstatus"], 3);
}

#[test]
fn what_ends_with_the_daemon_is_logged_up_to_then_and_its_sockets_are_closed() {
    let mut daemon = Daemon::start(&format!(
        "[supervisord]\non_daemon_death=stop\n{FASTCGI}\
         [program:x]\ncommand=$ACTOR lines-wild=1\nstartsecs=0\nstdout_logfile=$DIR/x.log\n"
    ));
    daemon.until_more_lines("x.log");
    daemon.until_state("f", "RUNNING");
    let mut caller = UnixStream::connect(daemon.path("f.sock")).expect("somebody listens");
    // Whoever leaves before is the end of the program, and its replacement is not what this is about.
    caller.read_to_string(&mut String::new()).expect("an answer");
    let before = lines::count(&daemon, "x.log");
    daemon.crash();
    daemon.until_no_programs();
    assert!(lines::count(&daemon, "x.log") >= before);
    for name in ["f.sock", "s.sock"] {
        assert!(UnixStream::connect(daemon.path(name)).is_err(), "{name}");
    }
}

#[test]
fn update_keeps_output_exit_statuses_and_sockets() {
    let config = format!(
        "{FASTCGI}[program:x]\ncommand=$ACTOR lines-wild=1\nstartsecs=0\nstdout_logfile=$DIR/x.log\n\
         [program:once]\ncommand=$ACTOR wait-signal=USR1 exit=7\nstartsecs=0\nautorestart=false\n"
    );
    let daemon = Daemon::start(&config);
    daemon.until_more_lines("x.log");
    daemon.until_state("once", "RUNNING");
    daemon.until_state("f", "RUNNING");
    let names = ["x", "once", "f"];
    let pids = names.map(|name| daemon.process_pid(name));
    let sockets = ["s.sock", "f.sock"];
    let inodes = sockets.map(|name| inode(&daemon, name));
    for (round, update) in ["update", "reload --keep", "update"].into_iter().enumerate() {
        daemon.configure(&format!("{config}[program:new{round}]\ncommand=$ACTOR sleep\nstartsecs=0\n"));
        assert_eq!(daemon.ctl(update).status, 0);
        daemon.until_state(&format!("new{round}"), "RUNNING");
        daemon.until_more_lines("x.log");
    }
    assert_eq!(names.map(|name| daemon.process_pid(name)), pids);
    assert_eq!(sockets.map(|name| inode(&daemon, name)), inodes);
    drop(UnixStream::connect(daemon.path("f.sock")).expect("somebody listens"));
    kill(pids[1], Signal::SIGUSR1);
    daemon.until_state("once", "EXITED");
    assert_eq!(daemon.json("once")["exitstatus"], 7);
}

#[test]
fn another_configuration_while_no_daemon_runs_is_as_an_update() {
    let program = |name: &str, more: &str| {
        format!(
            "[program:{name}]\ncommand=$ACTOR record=$DIR/{name} lines-wild=1\nstdout_logfile=$DIR/{name}.log\nstartsecs=0\n{more}"
        )
    };
    let changed = "environment=A=1\n";
    let (same, once) = (
        program("same", ""),
        "[program:once]\ncommand=$ACTOR wait-signal=USR1 exit=7\nstartsecs=0\nautorestart=false\n",
    );
    let mut daemon =
        Daemon::start(&format!("{FASTCGI}{same}{once}{}{}", program("changed", ""), program("gone", "")));
    for name in ["same", "changed", "gone"] {
        daemon.until_more_lines(&format!("{name}.log"));
    }
    daemon.until_state("once", "RUNNING");
    daemon.until_state("f", "RUNNING");
    let kept = ["same", "once", "f"];
    let pids = kept.map(|name| daemon.process_pid(name));
    let ended = ["changed", "gone"].map(|name| daemon.process_pid(name));
    daemon.crash();
    daemon.configure(&format!("{FASTCGI}{same}{once}{}{}", program("changed", changed), program("new", "")));
    daemon.launch(&[]);
    daemon.until_starts("changed", 2);
    daemon.until_starts("new", 1);
    daemon.until("what does not belong any more to end", || {
        ended.iter().all(|pid| !processes::is_alive(*pid) || processes::is_zombie(*pid))
    });
    assert_eq!(kept.map(|name| daemon.process_pid(name)), pids);
    daemon.until_more_lines("same.log");
    drop(UnixStream::connect(daemon.path("f.sock")).expect("somebody listens"));
    kill(pids[1], Signal::SIGUSR1);
    daemon.until_state("once", "EXITED");
    lines::count(&daemon, "gone.log");
    assert_eq!(daemon.starts("gone").len(), 1);
    assert_eq!(daemon.starts("same").len(), 1);
}

#[test]
fn take_over_of_one_of_ours_keeps_pids_output_and_sockets() {
    if !is_root("take_over_of_one_of_ours_keeps_pids_output_and_sockets") {
        return;
    }
    let mut daemon = Daemon::start(&format!(
        "{FASTCGI}[program:x]\ncommand=$ACTOR lines-wild=1\nstartsecs=0\nstdout_logfile=$DIR/x.log\n\
         [program:once]\ncommand=$ACTOR wait-signal=USR1 exit=7\nstartsecs=0\nautorestart=false\n"
    ));
    daemon.until_more_lines("x.log");
    let names = ["x", "once", "f"];
    for name in names {
        daemon.until_state(name, "RUNNING");
    }
    let (main, pids) = (daemon.daemon_pid(), names.map(|name| daemon.process_pid(name)));
    let sockets = ["s.sock", "f.sock"];
    let inodes = sockets.map(|name| inode(&daemon, name));
    daemon.supersede();
    assert_ne!(daemon.daemon_pid(), main);
    assert_eq!(names.map(|name| daemon.process_pid(name)), pids);
    assert_eq!(sockets.map(|name| inode(&daemon, name)), inodes);
    drop(UnixStream::connect(daemon.path("f.sock")).expect("somebody listens"));
    daemon.until_more_lines("x.log");
    kill(pids[1], Signal::SIGUSR1);
    daemon.until_state("once", "EXITED");
    assert_eq!(daemon.json("once")["exitstatus"], 7);
}

#[test]
fn reload_restarts_all_and_loses_no_last_word() {
    let daemon = Daemon::start(&format!("{FASTCGI}[program:talker]\n{TALKER}"));
    let mut before = 0;
    let socket = inode(&daemon, "s.sock");
    for round in 1..=3 {
        until_talked(&daemon, round);
        daemon.until_state("f", "RUNNING");
        let pid = daemon.process_pid("talker");
        assert_ne!(pid, before);
        before = pid;
        if round == 2 {
            daemon.signal(Signal::SIGHUP);
        } else {
            assert_eq!(daemon.ctl("reload").status, 0);
        }
        daemon.until_starts("talker", round + 1);
    }
    until_talked(&daemon, 4);
    assert!(daemon.read("talker.log").starts_with(&one_life().repeat(3)), "a line is lost or doubled");
    assert_eq!(
        daemon.log().matches("stopped: talker (exit status 4)").count(),
        3,
        "its exit status is known"
    );
    assert_eq!(inode(&daemon, "s.sock"), socket, "it is unchanged, so it is kept");
    drop(UnixStream::connect(daemon.path("f.sock")).expect("somebody listens"));
}

#[test]
fn shutdown_loses_no_last_word_and_the_next_start_is_a_new_one() {
    let mut daemon = Daemon::start(&format!("{FASTCGI}[program:talker]\n{TALKER}"));
    for round in 1..=2 {
        until_talked(&daemon, round);
        daemon.until_state("f", "RUNNING");
        let pid = daemon.process_pid("talker");
        if round == 1 {
            assert!(daemon.terminate().success());
        } else {
            daemon.remember();
            assert_eq!(daemon.ctl("shutdown").status, 0);
            daemon.wait();
        }
        daemon.until_no_programs();
        assert_eq!(daemon.read("talker.log"), one_life().repeat(round), "every byte is there");
        for name in ["f.sock", "s.sock"] {
            assert!(UnixStream::connect(daemon.path(name)).is_err(), "{name}");
        }
        daemon.launch(&[]);
        let starts = daemon.until_starts("talker", round + 1);
        assert_ne!(starts[round].pid, pid);
    }
}
