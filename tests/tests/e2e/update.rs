//! `update` touches what changed and nothing else.

use supervisor_tests::{Daemon, Signal, kill, processes::is_alive};

/// A group of five programs; `a` prints `$WORD` first.
fn five(word: &str) -> String {
    let program = |name: &str, more: &str| {
        format!("[program:{name}]\ncommand=$ACTOR {more}record=$DIR/{name} sleep\nstartsecs=0\n")
    };
    let changing = program("a", &format!("print={word} "));
    let others: String = ["b", "c", "d", "e"].map(|name| program(name, "")).concat();
    format!("{changing}{others}[group:g]\nprograms=a,b,c,d,e\n")
}

/// A program of `count` processes.
fn many(count: u32) -> String {
    format!(
        "[program:w]\ncommand=$ACTOR record=$DIR/w sleep\nstartsecs=0\nnumprocs={count}\nprocess_name=%(program_name)s_%(process_num)d\n"
    )
}

fn pids(daemon: &Daemon, names: &[&str]) -> Vec<i32> {
    names.iter().map(|name| daemon.process_pid(name)).collect()
}

/// What `update` says of each process of its only group: `name result`.
fn actions(reply: &str) -> Vec<String> {
    let steps: serde_json::Value = serde_json::from_str(reply).expect("JSON");
    let steps = steps.as_array().expect("a list of steps");
    let updated = steps.iter().find(|step| step["result"] == "updated").expect("a group was updated");
    let word = |value: &serde_json::Value| value.as_str().expect("a word").to_owned();
    let one =
        |process: &serde_json::Value| format!("{} {}", word(&process["name"]), word(&process["result"]));
    updated["processes"].as_array().expect("a list of processes").iter().map(one).collect()
}

#[test]
fn t51_one_changed_program_of_five_is_the_only_one_that_is_restarted() {
    let daemon = Daemon::start(&five("old"));
    for name in ["a", "b", "c", "d", "e"] {
        daemon.until_starts(name, 1);
    }
    let others = ["g:b", "g:c", "g:d", "g:e"];
    let (changed, before) = (daemon.process_pid("g:a"), pids(&daemon, &others));
    daemon.configure(&five("new"));
    daemon.ctl("update").is("g: stopped\ng: updated process group\n");
    daemon.until_starts("a", 2);
    assert_ne!(daemon.process_pid("g:a"), changed);
    assert_eq!(pids(&daemon, &others), before);
    daemon.ctl("update").is("");
    daemon.configure(&five("newer"));
    let reply = daemon.ctl("--format json update");
    assert_eq!(
        actions(&reply.stdout),
        ["a restarted", "b unchanged", "c unchanged", "d unchanged", "e unchanged"]
    );
}

#[test]
fn t51_numprocs_from_4_to_6_to_3_leaves_the_pids_of_the_survivors() {
    let daemon = Daemon::start(&many(4));
    daemon.until_starts("w", 4);
    let four = ["w:w_0", "w:w_1", "w:w_2", "w:w_3"];
    let before = pids(&daemon, &four);
    daemon.configure(&many(6));
    daemon.ctl("update").is("w: stopped\nw: updated process group\n");
    daemon.until_starts("w", 6);
    assert_eq!(pids(&daemon, &four), before);
    daemon.configure(&many(3));
    let removed = daemon.process_pid("w:w_5");
    let reply = daemon.ctl("--format json update");
    let expected =
        ["w_0 unchanged", "w_1 unchanged", "w_2 unchanged", "w_3 removed", "w_4 removed", "w_5 removed"];
    assert_eq!(actions(&reply.stdout), expected);
    assert_eq!(pids(&daemon, &four[..3]), before[..3]);
    assert!(!is_alive(removed));
    assert_eq!((daemon.programs().len(), daemon.starts("w").len()), (3, 6));
    daemon.ctl("status w:w_3").fails(4, "w:w_3: ERROR (no such process)\n");
}

#[test]
fn settings_that_only_the_daemon_acts_on_are_applied_to_what_runs() {
    let text = |more: &str| {
        format!(
            "[program:x]\ncommand=$ACTOR record=$DIR/x lines-each=400 wait-line lines-each=400 ignore=TERM sleep\nstdout_logfile=$DIR/x.log\nautorestart=true\n{more}"
        )
    };
    let daemon = Daemon::start(&text("startsecs=1000\n"));
    daemon.until_file("x.log", "399");
    let pid = daemon.process_pid("x");
    assert_eq!(daemon.state("x"), "STARTING");
    daemon.configure(&text(
        "startsecs=1\nstopsignal=KILL\npriority=5\nexitcodes=9\nstdout_logfile_maxbytes=1000\nstdout_logfile_backups=2\n",
    ));
    daemon.ctl("update").is("x: stopped\nx: updated process group\n");
    assert_eq!(daemon.process_pid("x"), pid);
    daemon.until_state("x", "RUNNING");
    assert!(daemon.read_bytes("x.log").len() > 1000);
    assert_eq!(daemon.ctl_with_input(&["fg", "x"], "go\n").status, 0);
    daemon.until("the log to be rotated by the new rule", || daemon.path("x.log.1").exists());
    daemon.ctl("stop x").is("x: stopped\n");
    assert!(daemon.log().contains("stopped: x (terminated by SIGKILL)"), "{}", daemon.log());
    assert_eq!(daemon.starts("x").len(), 1);
}

#[test]
fn r20_what_an_operator_stopped_stays_stopped_and_what_he_started_runs_on() {
    let text = |word: &str, more: &str| {
        let program = |name: &str, more: &str| {
            format!(
                "[program:{name}]\ncommand=$ACTOR print={word} record=$DIR/{name} sleep\nstartsecs=0\n{more}"
            )
        };
        [program("stopped", ""), program("manual", "autostart=false\n"), program("later", more)].concat()
    };
    let daemon = Daemon::start(&text("old", "autostart=false\n"));
    daemon.until_starts("stopped", 1);
    daemon.ctl("stop stopped").is("stopped: stopped\n");
    daemon.ctl("start manual").is("manual: started\n");
    daemon.configure(&text("new", "autostart=true\n"));
    daemon.ctl("update").is(
        "later: stopped\nlater: updated process group\nmanual: stopped\nmanual: updated process group\nstopped: stopped\nstopped: updated process group\n",
    );
    daemon.until_starts("manual", 2);
    daemon.until_starts("later", 1);
    assert_eq!((daemon.state("stopped").as_str(), daemon.starts("stopped").len()), ("STOPPED", 1));
    daemon.ctl("start stopped").is("stopped: started\n");
    assert!(daemon.ctl("tail stopped").stdout.contains("new"));
}

#[test]
fn what_an_operator_stops_while_an_update_waits_for_others_stays_stopped() {
    let text = |word: &str| {
        format!(
            "[program:quick]\ncommand=$ACTOR print={word} record=$DIR/quick sleep\nstartsecs=0\n\
             [program:slow]\ncommand=$ACTOR print={word} record=$DIR/slow ignore=TERM gate=$DIR/gate\nstartsecs=0\n\
             [group:g]\nprograms=quick,slow\n"
        )
    };
    let daemon = Daemon::start(&text("old"));
    daemon.until_starts("quick", 1);
    daemon.until_starts("slow", 1);
    daemon.configure(&text("new"));
    let mut update = daemon.ctl_background(&["update"], "update.out");
    daemon.until_state("g:quick", "STOPPED");
    daemon.ctl("stop g:quick").is("g:quick: ERROR (not running)\n");
    daemon.open_gate();
    assert_eq!((update.wait(), update.text().as_str()), (0, "g: stopped\ng: updated process group\n"));
    daemon.until_starts("slow", 2);
    assert_eq!((daemon.state("g:quick").as_str(), daemon.starts("quick").len()), ("STOPPED", 1));
}

#[test]
fn what_was_given_up_is_tried_again_with_its_new_settings() {
    let daemon = Daemon::start("[program:x]\ncommand=/nonexistent/x\nstartretries=0\n");
    daemon.until_state("x", "FATAL");
    daemon.configure("[program:x]\ncommand=$ACTOR sleep\nstartsecs=0\n");
    let reply = daemon.ctl("--format json update");
    assert_eq!(actions(&reply.stdout), ["x started"]);
    daemon.until_state("x", "RUNNING");
}

#[test]
fn a_log_in_another_place_belongs_to_the_next_child_and_keeps_the_old_one_complete() {
    let text = |log: &str| {
        format!(
            "[program:x]\ncommand=$ACTOR lines=1000 print=end sleep\nstartsecs=0\nstdout_logfile=$DIR/{log}\n"
        )
    };
    let daemon = Daemon::start(&text("one.log"));
    daemon.until_file("one.log", "end");
    daemon.configure(&text("two.log"));
    daemon.ctl("update").is("x: stopped\nx: updated process group\n");
    daemon.until_file("two.log", "end");
    assert_eq!(daemon.read("one.log"), daemon.read("two.log"));
}

#[test]
fn one_bad_name_does_not_stop_the_update_of_a_good_one() {
    let daemon = Daemon::start("");
    daemon.configure("[program:good]\ncommand=$ACTOR sleep\nstartsecs=0\n");
    daemon.ctl("update bad good").fails(1, "ERROR: no such group: bad\ngood: added process group\n");
    daemon.until_state("good", "RUNNING");
}

#[test]
fn t52_programs_in_backoff_fatal_and_stopping_are_removed_while_others_are_served() {
    let daemon = Daemon::start(
        "[program:backoff]
command=/nonexistent/x
startretries=1000
[program:fatal]
command=/nonexistent/x
startretries=0
[program:stopping]
command=$ACTOR ignore=TERM record=$DIR/stopping sleep
startsecs=0
stopwaitsecs=600
[program:other]
command=$ACTOR sleep
startsecs=0
",
    );
    daemon.until_starts("stopping", 1);
    daemon.until_state("fatal", "FATAL");
    daemon.until_state("backoff", "BACKOFF");
    let pid = daemon.process_pid("stopping");
    let mut stop = daemon.ctl_background(&["stop", "stopping"], "stop.out");
    daemon.until_state("stopping", "STOPPING");
    daemon.configure("[program:other]\ncommand=$ACTOR sleep\nstartsecs=0\n");
    let mut update = daemon.ctl_background(&["update"], "update.out");
    daemon.until_file("update.out", "fatal: removed process group\n");
    daemon.ctl("restart other").is("other: stopped\nother: started\n");
    assert_eq!(daemon.ctl("status").stdout.lines().count(), 2);
    kill(pid, Signal::SIGKILL);
    assert_eq!((stop.wait(), update.wait()), (0, 0));
    assert_eq!(
        update.text(),
        "backoff: stopped\nbackoff: removed process group\nfatal: stopped\nfatal: removed process group\n\
         stopping: stopped\nstopping: removed process group\n"
    );
    assert_eq!(daemon.ctl("status").stdout.lines().count(), 1);
}

#[test]
fn a_changed_program_in_backoff_takes_its_new_settings_at_once() {
    let daemon = Daemon::start("[program:x]\ncommand=/nonexistent/x\nstartretries=1000\n");
    daemon.until_state("x", "BACKOFF");
    daemon.configure("[program:x]\ncommand=$ACTOR sleep\nstartsecs=0\nstartretries=1000\n");
    daemon.ctl("update").is("x: stopped\nx: updated process group\n");
    daemon.until_state("x", "RUNNING");
}

/// A group whose member ignores SIGTERM up to the gate, and a program that is updated after it.
fn slow(word: &str) -> String {
    format!(
        "[program:quick]\ncommand=$ACTOR print={word} record=$DIR/quick sleep\nstartsecs=0\n\
         [program:slow]\ncommand=$ACTOR print={word} record=$DIR/slow ignore=TERM gate=$DIR/gate\nstartsecs=0\n\
         stopwaitsecs=600\n[group:g]\nprograms=quick,slow\n\
         [program:other]\ncommand=$ACTOR print={word} record=$DIR/other sleep\nstartsecs=0\n"
    )
}

/// A daemon that waits for `slow` in the middle of an update.
fn in_the_middle_of_an_update() -> (Daemon, supervisor_tests::Background) {
    let daemon = Daemon::start(&slow("old"));
    for name in ["quick", "slow", "other"] {
        daemon.until_starts(name, 1);
    }
    daemon.configure(&slow("new"));
    let update = daemon.ctl_background(&["update"], "update.out");
    daemon.until_state("g:quick", "STOPPED");
    (daemon, update)
}

#[test]
fn an_update_that_a_reload_or_a_shutdown_cuts_short_says_so_once() {
    for command in ["reload", "shutdown"] {
        let (daemon, mut update) = in_the_middle_of_an_update();
        assert_eq!(daemon.ctl(command).status, 0);
        daemon.open_gate();
        assert_eq!(
            (update.wait(), update.text().as_str()),
            (1, "g: stopped\nERROR: already shutting down\n"),
            "{command}"
        );
    }
}

#[test]
fn two_updates_at_the_same_time_both_succeed() {
    let daemon = Daemon::start(&slow("old"));
    daemon.until_starts("slow", 1);
    daemon.configure("[program:new]\ncommand=$ACTOR sleep\nstartsecs=0\n");
    let mut updates = ["one.out", "two.out"].map(|output| daemon.ctl_background(&["update"], output));
    daemon.until_state("g:slow", "STOPPING");
    // That the second has found the same to do.
    daemon.ctl("reread").is("g: disappeared\nnew: available\nother: disappeared\n");
    daemon.open_gate();
    let statuses = updates.each_mut().map(|update| update.wait());
    let texts = updates.each_mut().map(|update| update.text());
    assert_eq!(statuses, [0, 0], "{texts:?}");
    daemon.until_state("new", "RUNNING");
    assert_eq!(daemon.ctl("status").stdout.lines().count(), 1);
}

#[test]
fn a_fastcgi_program_that_moves_into_a_group_of_its_name_keeps_its_child() {
    let program =
        "[fcgi-program:a]\ncommand=$ACTOR record=$DIR/a sleep\nstartsecs=0\nsocket=unix://$DIR/a.sock\n";
    let daemon = Daemon::start(program);
    daemon.until_starts("a", 1);
    let pid = daemon.process_pid("a");
    daemon.configure(&format!("{program}[group:a]\nprograms=a\n"));
    daemon.ctl("update").is("a: stopped\na: updated process group\n");
    assert_eq!((daemon.process_pid("a"), daemon.starts("a").len()), (pid, 1));
}

#[test]
fn a_fifo_in_the_place_of_a_configuration_holds_up_nobody() {
    let program = "[program:x]\ncommand=$ACTOR sleep\nstartsecs=0\n[include]\nfiles=$DIR/more/*\n";
    let mut daemon = Daemon::prepare(program);
    std::fs::create_dir(daemon.path("more")).expect("a directory");
    daemon.make_gate("more/fifo");
    daemon.launch(&[]);
    daemon.until_log("more/fifo\" matches but cannot be read, skipped: it is no regular file");
    daemon.ctl("reread").is("No config updates to processes\n");
    daemon.ctl("update").is("");
    assert_eq!(daemon.log().matches("it is no regular file").count(), 1, "{}", daemon.log());
}

#[test]
fn doubts_about_a_configuration_are_in_the_log_once_however_it_was_read() {
    let text = |more: &str| format!("[program:x]\ncommand=$ACTOR sleep\nstartsecs=0\n{more}");
    let daemon = Daemon::start(&text("first=1\n"));
    let doubts = || daemon.log().matches(": unknown key, ignored").count();
    assert_eq!(doubts(), 1);
    daemon.configure(&text("first=1\nsecond=1\n"));
    assert_eq!(daemon.ctl("reread").status, 0);
    assert_eq!(daemon.ctl("update").status, 0);
    assert_eq!(doubts(), 2, "{}", daemon.log());
    // A reload is a new start, as of Supervisor.
    assert_eq!(daemon.ctl("reload").status, 0);
    daemon.until("a second start", || daemon.log().matches("supervisord started with pid").count() == 2);
    assert_eq!(doubts(), 4, "{}", daemon.log());
}

#[test]
fn a_reload_as_another_user_is_refused_and_nothing_is_stopped() {
    let program = "[program:x]\ncommand=$ACTOR record=$DIR/x sleep\nstartsecs=0\n";
    let daemon = Daemon::start(program);
    daemon.until_starts("x", 1);
    let user = if supervisor_tests::runs_as_root() { "nobody" } else { "root" };
    let text = std::fs::read_to_string(daemon.config_file()).expect("a configuration");
    std::fs::write(
        daemon.config_file(),
        text.replace("[supervisord]\n", &format!("[supervisord]\nuser={user}\n")),
    )
    .expect("a configuration");
    let reply = daemon.ctl("reload");
    assert_eq!(reply.status, 1);
    assert!(
        reply.stdout.starts_with(&format!("ERROR: CANT_REREAD: [supervisord] user = \"{user}\": ")),
        "{}",
        reply.stdout
    );
    daemon.signal(Signal::SIGHUP);
    daemon.until_log("not restarting, nothing was changed: [supervisord] user = ");
    assert_eq!((daemon.state("x").as_str(), daemon.starts("x").len()), ("RUNNING", 1));
}
