//! Output of programs: every byte, in order, once; rotation, reopening, full disks, closed descriptors.
//! T-numbers are scenarios of the project's list of what users suffer from.

use std::fs;

use supervisor_tests::{Daemon, Signal, is_root, kill, processes};

/// What `lines=N` of the actor writes.
fn lines(range: std::ops::RangeInclusive<usize>) -> String {
    range.map(|n| format!("line {n}\n")).collect()
}

/// The file and its rotated predecessors, oldest first, as one text.
fn with_backups(daemon: &Daemon, name: &str, backups: usize) -> String {
    let mut text: String = (1..=backups).rev().map(|n| daemon.read(&format!("{name}.{n}"))).collect();
    text += &daemon.read(name);
    text
}

#[test]
fn every_line_arrives_once_and_in_order_through_rotation() {
    let daemon = Daemon::start(
        "[program:x]
command=$ACTOR lines=30000 lines-each=2000 print=end sleep
startsecs=0
stdout_logfile=$DIR/x.log
stdout_logfile_maxbytes=100KB
stdout_logfile_backups=20
",
    );
    daemon.until("the end", || with_backups(&daemon, "x.log", 20).ends_with("end\n"));
    let expected = lines(1..=30000) + &lines(1..=2000) + "end\n";
    assert!(with_backups(&daemon, "x.log", 20) == expected, "lost, doubled or out of order");
    assert!(daemon.path("x.log.1").exists() && !daemon.path("x.log.20").exists());
}

/// A program that says `begin`, then the name of each signal it gets, one at a time: what arrives in one read does
/// not depend on when the daemon gets the processor. Every second of these lines fills its log.
fn saying_signals(backups: usize) -> Daemon {
    let daemon = Daemon::start(&format!(
        "[program:x]
command=$ACTOR ignore=HUP,INT,USR1,USR2,TERM,QUIT print=begin {} sleep
startsecs=0
stdout_logfile=$DIR/x.log
stdout_logfile_maxbytes=10
stdout_logfile_backups={backups}
",
        "wait-signal=HUP,INT,USR1,USR2,TERM,QUIT ".repeat(6),
    ));
    daemon.until("the first line", || daemon.read("x.log") == "begin\n");
    daemon
}

#[test]
fn rotation_keeps_as_many_backups_as_configured() {
    let daemon = saying_signals(2);
    let pid = daemon.process_pid("x");
    for signal in ["SIGHUP", "SIGINT", "SIGUSR1", "SIGUSR2", "SIGTERM", "SIGQUIT"] {
        kill(pid, signal.parse().expect("a signal"));
        daemon.until(signal, || with_backups(&daemon, "x.log", 2).ends_with(&format!("{signal}\n")));
    }
    daemon.until("the last rotation", || daemon.read("x.log") == "SIGQUIT\n");
    assert_eq!(daemon.read("x.log.1"), "SIGUSR2\nSIGTERM\n");
    assert_eq!(daemon.read("x.log.2"), "SIGINT\nSIGUSR1\n");
    assert!(!daemon.path("x.log.3").exists());
}

#[test]
fn rotation_without_backups_begins_the_file_anew() {
    let daemon = saying_signals(0);
    let pid = daemon.process_pid("x");
    kill(pid, Signal::SIGHUP);
    daemon.until("an empty file", || daemon.read("x.log").is_empty());
    kill(pid, Signal::SIGINT);
    daemon.until("the next line", || daemon.read("x.log") == "SIGINT\n");
    assert!(!daemon.path("x.log.1").exists());
}

#[test]
fn t31_dev_stdout_and_dev_stderr_are_the_daemons_own_and_never_rotate() {
    let mut daemon = Daemon::prepare(
        "[program:unlimited]
command=$ACTOR lines=2000 print=end-unlimited sleep
startsecs=0
stdout_logfile=/dev/stdout
stdout_logfile_maxbytes=0
redirect_stderr=true
[program:limited]
command=$ACTOR eprint=on-stderr lines=2000 print=end-limited sleep
startsecs=0
stdout_logfile=/dev/stdout
stdout_logfile_maxbytes=1KB
stderr_logfile=/dev/stderr
",
    );
    // `daemon.out` is a file; the daemon must neither seek in it nor rename it.
    daemon.launch(&["--silent"]);
    daemon.until_file("daemon.out", "end-unlimited\n");
    daemon.until_file("daemon.out", "end-limited\n");
    daemon.until_file("daemon.err", "on-stderr\n");
    assert_eq!(daemon.read("daemon.out").matches("line 2000\n").count(), 2);
    assert_eq!(daemon.read("daemon.out").matches("line 1\n").count(), 2);
    assert!(!daemon.log().contains("CRIT uncaptured") && !daemon.log().contains("seek"), "{}", daemon.log());
    assert!(!daemon.path("daemon.out.1").exists());
}

#[test]
fn t31_dev_stdout_works_when_it_is_a_pipe() {
    let mut daemon = Daemon::prepare(
        "[program:x]
command=$ACTOR lines=20000 print=end-of-output sleep
startsecs=0
stdout_logfile=/dev/stdout
stdout_logfile_maxbytes=1KB
",
    );
    // `cat` is the container's log driver; the daemon's own standard output is the pipe to it.
    let piped = daemon.expand("\"$@\" | cat > $DIR/piped");
    daemon.launch_in(&["sh", "-c", &piped, "sh"]);
    daemon.until_file("piped", "end-of-output\n");
    assert_eq!(daemon.read("piped").lines().filter(|line| line.starts_with("line ")).count(), 20_000);
}

#[test]
fn t32_the_daemons_descriptors_work_after_a_change_of_user() {
    if !is_root("t32") {
        return;
    }
    let mut daemon = Daemon::prepare(
        "[supervisord]
user=nobody
logfile=/dev/null
logfile_maxbytes=0
pidfile=/dev/null
[unix_http_server]
file=$DIR/open/s.sock
[supervisorctl]
serverurl=unix://$DIR/open/s.sock
[program:x]
command=$ACTOR print=said-by-nobody eprint=error-of-nobody sleep
startsecs=0
stdout_logfile=/dev/stdout
stdout_logfile_maxbytes=0
stderr_logfile=/dev/fd/2
stderr_logfile_maxbytes=0
",
    );
    fs::create_dir(daemon.path("open")).expect("a directory");
    supervisor_tests::set_mode(&daemon.path("open"), 0o777);
    // Root's 0600 files: nobody could not open them again by path.
    for name in ["daemon.out", "daemon.err"] {
        fs::write(daemon.path(name), "").expect("an output file");
        supervisor_tests::set_mode(&daemon.path(name), 0o600);
    }
    daemon.launch_without_waiting();
    daemon.until_file("daemon.out", "said-by-nobody\n");
    daemon.until_file("daemon.err", "error-of-nobody\n");
    daemon.until_state("x", "RUNNING");
}

#[test]
fn t33_a_deleted_log_comes_back_and_the_program_never_waits() {
    let daemon = Daemon::start(
        "[program:x]
command=$ACTOR lines=10 gate=$DIR/gate lines=20000 record=$DIR/written sleep
startsecs=0
stdout_logfile=$DIR/x.log
stdout_logfile_maxbytes=20KB
stdout_logfile_backups=2
",
    );
    daemon.until_file("x.log", "line 10\n");
    fs::remove_file(daemon.path("x.log")).expect("the log");
    daemon.open_gate();
    daemon.until_starts("written", 1);
    daemon.until("the log to be there again", || daemon.path("x.log").exists());
    daemon.until("the newest output", || with_backups(&daemon, "x.log", 2).ends_with("line 20000\n"));
}

#[test]
fn t34_a_full_disk_never_stops_a_program_and_is_reported_once() {
    if !is_root("t34") {
        return;
    }
    let mut daemon = Daemon::prepare(
        "[program:x]
command=$ACTOR lines=500000 record=$DIR/written gate=$DIR/gate print=afterwards sleep
startsecs=0
stdout_logfile=$DIR/full/x.log
stdout_logfile_maxbytes=0
",
    );
    fs::create_dir(daemon.path("full")).expect("a directory");
    let mount = daemon.expand("mount -t tmpfs -o size=2m none $DIR/full && exec \"$@\"");
    daemon.launch_in(&["unshare", "-m", "sh", "-c", &mount, "sh"]);
    daemon.until_starts("written", 1);
    let advice = |daemon: &Daemon| daemon.json("x")["advice"].to_string();
    daemon.until("the loss to be told", || daemon.json("x")["lost"].as_u64() > Some(1_000_000));
    assert!(advice(&daemon).contains("x.log"), "{}", advice(&daemon));
    let complaints = daemon.log().lines().filter(|line| line.contains("full/x.log")).count();
    assert!((1..=2).contains(&complaints), "{}", daemon.log());
    // Space again.
    let inside = format!("/proc/{}/root{}", daemon.daemon_pid(), daemon.path("full/x.log").display());
    assert!(fs::metadata(&inside).expect("the log").len() > 0);
    fs::OpenOptions::new().write(true).open(&inside).and_then(|file| file.set_len(0)).expect("truncating");
    daemon.open_gate();
    daemon.until("what follows", || {
        fs::read_to_string(&inside).is_ok_and(|text| text.ends_with("afterwards\n"))
    });
}

#[test]
fn t35_a_log_that_cannot_be_opened_is_a_clear_spawn_error() {
    let daemon = Daemon::start(
        "[program:x]
command=$ACTOR record=$DIR/starts sleep
startretries=0
stdout_logfile=$DIR/directory
",
    );
    // The path becomes a directory after the configuration was read.
    daemon.until_starts("starts", 1);
    daemon.ctl("stop x").is("x: stopped\n");
    fs::remove_file(daemon.path("directory")).expect("the log");
    fs::create_dir(daemon.path("directory")).expect("a directory");
    let reply = daemon.ctl("start x");
    reply.fails(7, "x: ERROR (spawn error)\n");
    daemon.until_state("x", "FATAL");
    let status = daemon.ctl("status x").stdout;
    assert!(
        status.contains("unknown error making dispatchers for 'x': EISDIR (cannot open log "),
        "{status}"
    );
    assert_eq!(daemon.process_pid("x"), 0);
}

#[test]
fn t36_any_bytes_reach_the_log_unchanged_and_tail_shows_them() {
    let mut daemon = Daemon::prepare(
        "[program:x]
command=$ACTOR copy=$DIR/bytes sleep
startsecs=0
stdout_logfile=$DIR/x.log
stdout_logfile_maxbytes=0
",
    );
    let mut bytes = b"\xff\xfe\x00 nul, \x1b[31mred\x1b[0m, \x88\n".to_vec();
    bytes.extend("漢字".repeat(100_000).bytes());
    bytes.extend(vec![b'x'; 10_000_000]);
    bytes.extend(b"\n\xf0\x9f\x92 cut");
    fs::write(daemon.path("bytes"), &bytes).expect("writing the bytes");
    daemon.launch(&[]);
    daemon.until("all bytes", || {
        fs::metadata(daemon.path("x.log")).is_ok_and(|log| log.len() >= bytes.len() as u64)
    });
    assert!(daemon.read_bytes("x.log") == bytes, "the bytes differ");
    let mut tail = daemon.ctl_background(&["tail", "-7", "x"], "tail.out");
    assert_eq!(tail.wait(), 0);
    assert_eq!(tail.output(), b"\xf0\x9f\x92 cut\n", "seven bytes and a line end");
    let follow = daemon.ctl_background(&["tail", "-f", "x"], "follow.out");
    daemon.until("tail -f to show the end", || follow.output().ends_with(b"\n\xf0\x9f\x92 cut"));
    drop(follow);
    assert_eq!(daemon.ctl("tail -0 x").status, 0);
}

#[test]
fn t37_a_program_that_closes_its_output_goes_on_and_costs_nothing() {
    let daemon = Daemon::start(
        "[program:x]
command=$ACTOR print=before close-stdout close-stderr record=$DIR/starts sleep
startsecs=0
stdout_logfile=$DIR/x.log
",
    );
    daemon.until_starts("starts", 1);
    daemon.until_state("x", "RUNNING");
    supervisor_tests::until_idle(daemon.daemon_pid());
    assert_eq!(daemon.read("x.log"), "before\n");
    daemon.ctl("stop x").is("x: stopped\n");
}

#[test]
fn t38_logrotates_rename_and_usr2_lose_and_double_nothing() {
    let daemon = Daemon::start(
        "[program:x]
command=$ACTOR lines-each=40000 print=end sleep
startsecs=0
stdout_logfile=$DIR/x.log
stdout_logfile_maxbytes=0
",
    );
    for round in 0..5 {
        daemon.until("some output", || {
            let is_over = with_backups(&daemon, "x.log", 5).ends_with("end\n");
            is_over || fs::metadata(daemon.path("x.log")).is_ok_and(|log| log.len() > 10_000)
        });
        fs::rename(daemon.path("x.log"), daemon.path(&format!("x.log.{}", 5 - round)))
            .expect("renaming the log");
        daemon.signal(Signal::SIGUSR2);
        daemon.until("the new file", || daemon.path("x.log").exists());
    }
    daemon.until("the end", || with_backups(&daemon, "x.log", 5).ends_with("end\n"));
    assert!(with_backups(&daemon, "x.log", 5) == lines(1..=40000) + "end\n", "lost, doubled or out of order");
    daemon.until_log("received SIGUSR2 indicating log reopen request");
}

#[test]
fn t38_copytruncate_leaves_no_hole() {
    let daemon = Daemon::start(
        "[program:x]
command=$ACTOR lines=1000 gate=$DIR/gate print=afterwards sleep
startsecs=0
stdout_logfile=$DIR/x.log
",
    );
    daemon.until_file("x.log", "line 1000\n");
    let log = fs::OpenOptions::new().write(true).open(daemon.path("x.log")).expect("the log");
    log.set_len(0).expect("truncating the log");
    daemon.open_gate();
    daemon.until_file("x.log", "afterwards\n");
    assert_eq!(daemon.read_bytes("x.log"), b"afterwards\n");
}

#[test]
fn t39_rotations_and_changes_of_the_configuration_leave_no_descriptor_behind() {
    let changing = |n: usize| {
        format!(
            "[program:x]
command=$ACTOR lines-each=8000 print=end sleep
startsecs=0
stdout_logfile=$DIR/x.log
stdout_logfile_maxbytes=100
stdout_logfile_backups=1
[program:changing{n}]
command=/bin/sleep 1000
startsecs=0
stdout_logfile=$DIR/changing.log
"
        )
    };
    let daemon = Daemon::start(&changing(0));
    daemon.until("the end", || with_backups(&daemon, "x.log", 1).contains("end\n"));
    // The way to its keeper is open by then.
    daemon.until_state("x", "RUNNING");
    let before = processes::descriptors(daemon.daemon_pid()).len();
    for n in 1..=10 {
        daemon.configure(&changing(n));
        assert_eq!(daemon.ctl("update").status, 0);
    }
    daemon.until_state("changing10", "RUNNING");
    let now = || processes::descriptors(daemon.daemon_pid());
    daemon.until("as few descriptors as before", || now().len() <= before);
    assert!(
        !now().iter().any(|path| path.to_string_lossy().contains(".log.") || path.ends_with("(deleted)"))
    );
}

#[test]
fn t40_the_last_words_are_in_the_log_when_the_exit_is_reported() {
    let daemon = Daemon::start(
        "[program:x]
command=$ACTOR lines=5000 print=last-words kill=KILL
startsecs=0
autorestart=false
stdout_logfile=$DIR/x.log
",
    );
    daemon.until_log("exited: x (terminated by SIGKILL; not expected)");
    assert!(daemon.read("x.log").ends_with("last-words\n"));
    assert_eq!(daemon.state("x"), "EXITED");
}

#[test]
fn t41_a_restart_appends_to_the_log() {
    let mut daemon = Daemon::prepare(
        "[program:x]\ncommand=$ACTOR print=again sleep\nstartsecs=0\nstdout_logfile=$DIR/x.log\n",
    );
    fs::write(daemon.path("x.log"), "from earlier\n").expect("writing the log");
    daemon.launch(&[]);
    daemon.until_file("x.log", "again\n");
    daemon.ctl("restart x").is("x: stopped\nx: started\n");
    daemon.until("the second run", || daemon.read("x.log") == "from earlier\nagain\nagain\n");
}

#[test]
fn t41_sizes_are_read_as_supervisor_reads_them() {
    let mut daemon = Daemon::prepare("");
    for (size, accepted) in
        [("1MB", true), ("1 mb", true), ("1024", true), ("1kb", true), ("1M", false), ("1k", false)]
    {
        daemon.configure(&format!("[program:x]\ncommand=/bin/true\nstdout_logfile_maxbytes={size}\n"));
        let config = daemon.config_file();
        let reply = daemon.supervisord(&["--check", "-c", &config.display().to_string()]);
        assert_eq!(reply.status == 0, accepted, "{size}: {reply:?}");
    }
    daemon.configure("[program:x]\ncommand=$ACTOR lines-paced=200:1 print=end sleep\nstartsecs=0\nstdout_logfile=$DIR/x.log\nstdout_logfile_maxbytes=1kb\n");
    daemon.launch(&[]);
    daemon.until("the end", || with_backups(&daemon, "x.log", 1).ends_with("end\n"));
    let rotated = fs::metadata(daemon.path("x.log.1")).expect("it was rotated").len();
    assert!((1024..2048).contains(&rotated), "{rotated}");
}

#[test]
fn t43_a_reader_that_stops_reading_stops_nobody() {
    let daemon = Daemon::start(
        "[program:x]
command=$ACTOR print=begin gate=$DIR/gate lines=300000 record=$DIR/written sleep
startsecs=0
stdout_logfile=$DIR/x.log
stdout_logfile_maxbytes=0
",
    );
    daemon.until_state("x", "RUNNING");
    let stuck = daemon.ctl_background(&["tail", "-f", "x"], "stuck.out");
    daemon.until("tail -f to be there", || stuck.text().contains("begin\n"));
    stuck.signal(Signal::SIGSTOP);
    let reader = daemon.ctl_background(&["tail", "-f", "x"], "reader.out");
    daemon.until("tail -f to be there", || reader.text().contains("begin\n"));
    daemon.open_gate();
    daemon.until_starts("written", 1);
    daemon.until("the other reader", || reader.text().ends_with("line 300000\n"));
    stuck.signal(Signal::SIGCONT);
    daemon.until("the stopped reader", || stuck.text().ends_with("line 300000\n"));
    for (name, text) in [("the reader", reader.text()), ("the stopped reader", stuck.text())] {
        let text = text.strip_prefix("==> Press Ctrl-C to exit <==\nbegin\n").expect("the first line");
        let gap = text.lines().zip(1..).find(|(line, n)| *line != format!("line {n}"));
        assert_eq!(gap, None, "{name} misses lines");
        assert_eq!(text.lines().count(), 300_000);
    }
}

#[test]
fn tail_f_follows_through_rotation_and_ends_with_ctrl_c() {
    let daemon = Daemon::start(
        "[program:x]
command=$ACTOR print=begin gate=$DIR/gate lines-paced=300:1 print=end sleep
startsecs=0
stdout_logfile=$DIR/x.log
stdout_logfile_maxbytes=500
stdout_logfile_backups=10
",
    );
    let mut follow = daemon.ctl_background(&["tail", "-f", "x"], "follow.out");
    daemon.until("tail -f to show what is there", || follow.text().contains("begin\n"));
    daemon.open_gate();
    daemon.until("the end", || follow.text().contains("end\n"));
    assert_eq!(follow.text(), format!("==> Press Ctrl-C to exit <==\nbegin\n{}end\n", lines(1..=300)));
    follow.signal(Signal::SIGINT);
    assert_eq!(follow.wait(), 0);
}

#[test]
fn redirect_stderr_keeps_both_streams_in_one_file_in_order() {
    let daemon = Daemon::start(
        "[program:x]
command=$ACTOR print=1 eprint=2 print=3 eprint=4 sleep
startsecs=0
redirect_stderr=true
stdout_logfile=$DIR/x.log
[program:apart]
command=$ACTOR print=1 eprint=2 sleep
startsecs=0
stdout_logfile=$DIR/apart.out
stderr_logfile=$DIR/apart.err
",
    );
    daemon.until("all output", || daemon.read("x.log") == "1\n2\n3\n4\n");
    daemon.until("its output", || daemon.read("apart.out") == "1\n" && daemon.read("apart.err") == "2\n");
    daemon.ctl("tail x stderr").fails(1, "x: ERROR (no log file)\n");
}

#[test]
fn auto_logs_have_supervisors_names_and_the_next_start_removes_them() {
    let mut daemon = Daemon::prepare(
        "[supervisord]
identifier=mine
[program:x]
command=$ACTOR print=out eprint=err sleep
startsecs=0
[program:merged]
command=$ACTOR print=out sleep
startsecs=0
redirect_stderr=true
",
    );
    fs::write(daemon.path("y-stdout---mine-abcdefgh.log"), "old").expect("writing");
    fs::write(daemon.path("y-stdout---mine-abcdefgh.log.3"), "old").expect("writing");
    fs::write(daemon.path("y-stdout---other-abcdefgh.log"), "of another").expect("writing");
    daemon.launch(&[]);
    daemon.until_state("x", "RUNNING");
    assert!(!daemon.path("y-stdout---mine-abcdefgh.log").exists());
    assert!(!daemon.path("y-stdout---mine-abcdefgh.log.3").exists());
    assert!(daemon.path("y-stdout---other-abcdefgh.log").exists());
    let logs = || -> Vec<String> {
        let entries = fs::read_dir(daemon.path("")).expect("the directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
        let mut names: Vec<_> = names.filter(|name| name.contains("---mine-")).collect();
        names.sort();
        names
    };
    let kinds: Vec<_> = logs().iter().map(|name| name.split("---").next().unwrap_or("").to_owned()).collect();
    assert_eq!(kinds, ["merged-stdout", "x-stderr", "x-stdout"]);
    daemon.until("its output", || daemon.read(&logs()[2]) == "out\n" && daemon.read(&logs()[1]) == "err\n");
    let tail = daemon.ctl("tail x");
    tail.is("out\n\n");
}

#[test]
fn strip_ansi_removes_colours_and_nothing_else() {
    let mut daemon = Daemon::prepare(
        "[supervisord]
strip_ansi=true
[program:x]
command=$ACTOR copy=$DIR/coloured sleep
startsecs=0
stdout_logfile=$DIR/x.log
",
    );
    fs::write(daemon.path("coloured"), b"\x1b[1;31mred\x1b[0m and \xff plain\n").expect("writing");
    daemon.launch(&[]);
    daemon.until("the output", || daemon.read_bytes("x.log") == b"red and \xff plain\n");
}

#[test]
fn output_without_a_log_is_discarded_and_never_blocks() {
    let daemon = Daemon::start(
        "[program:x]
command=$ACTOR flood=1000000 record=$DIR/written sleep
startsecs=0
stdout_logfile=NONE
stderr_logfile=none
",
    );
    daemon.until_starts("written", 1);
    daemon.ctl("tail x").fails(1, "x: ERROR (no log file)\n");
}

#[test]
fn a_device_as_a_log_is_neither_removed_by_clear_nor_rotated() {
    let dir = tempfile::tempdir().expect("a directory");
    let device = dir.path().join("null");
    let null = nix::sys::stat::stat("/dev/null").expect("the device").st_rdev;
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o666);
    // Only root may make one; others could not remove one either.
    if nix::sys::stat::mknod(&device, nix::sys::stat::SFlag::S_IFCHR, mode, null).is_err() {
        return;
    }
    let path = device.display();
    let config = format!(
        "[program:x]\ncommand=$ACTOR print=0123456789 record=$DIR/there sleep\nstdout_logfile={path}\n\
         stdout_logfile_maxbytes=5\nstderr_logfile={path}\n"
    );
    let daemon = Daemon::start(&config);
    daemon.until("the program to write", || daemon.path("there").exists());
    daemon.ctl("clear x").is("x: cleared\n");
    daemon.ctl("reopen");
    daemon.ctl("restart x");
    let kind = std::fs::symlink_metadata(&device).expect("it is still there").file_type();
    assert!(std::os::unix::fs::FileTypeExt::is_char_device(&kind), "{kind:?}");
}

#[test]
fn clear_empties_the_log_of_a_running_and_of_a_stopped_program() {
    let daemon = Daemon::start(
        "[program:x]
command=$ACTOR print=first gate=$DIR/gate print=second sleep
startsecs=0
stdout_logfile=$DIR/x.log
[program:never]
command=$ACTOR sleep
autostart=false
stdout_logfile=$DIR/never.log
",
    );
    daemon.until_file("x.log", "first\n");
    daemon.ctl("clear x").is("x: cleared\n");
    daemon.ctl("clear never").is("never: cleared\n");
    assert!(!daemon.path("never.log").exists(), "as in Supervisor, there is none before it is started");
    assert_eq!(daemon.read("x.log"), "");
    daemon.open_gate();
    daemon.until("what follows", || daemon.read("x.log") == "second\n");
    daemon.ctl("stop x").is("x: stopped\n");
    daemon.ctl("clear x").is("x: cleared\n");
    assert_eq!(daemon.read("x.log"), "");
}

#[test]
fn programs_that_share_a_log_file_lose_nothing() {
    let program = |name: &str| {
        format!(
            "[program:{name}]
command=$ACTOR lines-each=3000 record=$DIR/written sleep
startsecs=0
stdout_logfile=$DIR/shared.log
stdout_logfile_maxbytes=10KB
stdout_logfile_backups=50
"
        )
    };
    let daemon = Daemon::start(&(program("a") + &program("b")));
    daemon.until_starts("written", 2);
    daemon.until("every line twice", || {
        let text = with_backups(&daemon, "shared.log", 50);
        text.lines().count() == 6000 && text.matches("line 3000\n").count() == 2
    });
}

#[test]
fn the_daemons_log_is_supervisors() {
    let daemon = Daemon::start("[program:x]\ncommand=$ACTOR record=$DIR/starts sleep\nstartsecs=0\n");
    let pid = daemon.until_starts("starts", 1)[0].pid;
    daemon.until_log("entered RUNNING state");
    daemon.ctl("stop x").is("x: stopped\n");
    let log = daemon.log();
    for message in [
        format!("INFO supervisord started with pid {}", daemon.daemon_pid()),
        format!("INFO spawned: 'x' with pid {pid}"),
        "INFO success: x entered RUNNING state, process has stayed up for > than 0 seconds (startsecs)"
            .to_owned(),
        "INFO waiting for x to stop".to_owned(),
        "WARN stopped: x (terminated by SIGTERM)".to_owned(),
    ] {
        let line =
            log.lines().find(|line| line.ends_with(&message)).unwrap_or_else(|| panic!("{message}\n{log}"));
        let stamp = line.strip_suffix(&message).expect("the message ends the line");
        let shape: String = stamp.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00 00:00:00,000 ");
    }
    kill(daemon.daemon_pid(), Signal::SIGKILL);
}

#[test]
fn at_level_debug_output_is_repeated_in_the_daemons_log() {
    let daemon = Daemon::start(
        "[supervisord]
loglevel=debug
[program:words]
command=$ACTOR print=hello eprint=trouble copy=$DIR/bytes sleep
stdout_logfile=$DIR/out
stderr_logfile=NONE
autostart=false
startsecs=0
",
    );
    std::fs::write(daemon.path("bytes"), b"\x88\n").expect("a file of the test");
    assert_eq!(daemon.ctl("start words").status, 0);
    daemon.until("all of it", || daemon.read_bytes("out") == b"hello\n\x88\n");
    daemon.until_log("'words' stdout output:");
    daemon.until_log("'words' stderr output:\ntrouble\n\n");
    daemon.until_log("Undecodable: b'");
    assert!(daemon.log().contains("\\x88\\n'\n"), "{}", daemon.log());
}

#[test]
fn a_fifo_in_the_place_of_a_log_is_written_to_and_halts_nobody() {
    use std::os::unix::fs::OpenOptionsExt as _;
    let daemon = Daemon::start(
        "[program:x]
command=/bin/sh -c 'while echo line; do sleep 0.05; done'
stdout_logfile=$DIR/x.log
stopasgroup=true
",
    );
    let path = daemon.path("x.log");
    daemon.until_file("x.log", "line");
    std::fs::remove_file(&path).expect("a log");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("a FIFO");
    daemon.until_log("x.log");
    // Whatever it answers.
    daemon.ctl("tail x");
    daemon.ctl("pid").is(&format!("{}\n", daemon.daemon_pid()));
    let open = std::fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
    let mut reader = open.expect("a FIFO");
    daemon.until("a line in the FIFO", || {
        let mut bytes = [0; 100];
        std::io::Read::read(&mut reader, &mut bytes).is_ok_and(|read| bytes[..read].starts_with(b"line"))
    });
    daemon.ctl("stop x").is("x: stopped\n");
    drop(reader);
    daemon.ctl("tail x");
    daemon.ctl("pid").is(&format!("{}\n", daemon.daemon_pid()));
}

#[test]
fn clients_are_answered_while_more_programs_than_are_served_at_a_time_write_without_a_pause() {
    let daemon = Daemon::start(
        "[program:x]
command=$ACTOR lines-wild=%(process_num)d1:999999999:0
process_name=%(process_num)d
numprocs=80
startsecs=0
stdout_logfile=$DIR/x%(process_num)d.log
stdout_logfile_maxbytes=1MB
stdout_logfile_backups=0
",
    );
    let size = |n| fs::metadata(daemon.path(&format!("x{n}.log"))).map_or(0, |log| log.len());
    daemon.until("all to write", || (0..80).all(|n| size(n) > 0));
    assert_eq!(daemon.ctl("status").stdout.matches("RUNNING").count(), 80);
    assert_eq!(daemon.ctl("stop all").stdout.matches(": stopped").count(), 80);
}
