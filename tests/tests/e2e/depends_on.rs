//! Key `depends_on`: what waits for what, and what an operator is told.

use supervisor_tests::{Daemon, Gap, Signal, kill};

/// A program that records its starts under its name.
fn program(name: &str, keys: &str) -> String {
    format!("[program:{name}]\ncommand=$ACTOR record=$DIR/{name} sleep\n{keys}\n")
}

/// `db`, which takes `startsecs` to be up, and `web`, which depends on it.
fn pair(startsecs: u32, more: &str) -> String {
    let web = program("web", &format!("startsecs=0\ndepends_on=db\n{more}"));
    web + &program("db", &format!("startsecs={startsecs}\n"))
}

/// What `status` says after name and state.
fn description(daemon: &Daemon, name: &str) -> String {
    daemon.json(name)["description"].as_str().expect("a text").to_owned()
}

#[test]
fn t25_each_of_a_chain_starts_when_the_one_before_it_is_up() {
    let chain = program("a", "startsecs=0\ndepends_on=b") + &pair(1, "");
    let daemon = Daemon::start(&format!("{chain}{}", program("b", "startsecs=1\ndepends_on=web")));
    daemon.until_state("a", "RUNNING");
    let log = daemon.log();
    for (first, then) in [("db", "web"), ("web", "b"), ("b", "a")] {
        let up = log.find(&format!("success: {first} entered RUNNING"));
        let spawned = log.find(&format!("spawned: '{then}'"));
        assert!(up.is_some() && up < spawned, "{then} did not wait for {first}: {log}");
    }
    assert!(log.contains("a starts later: waiting for b, which is STARTING"), "{log}");
    assert!(!log.contains("held back"), "{log}");
}

#[test]
fn t24_dependents_start_when_the_dependency_comes_up_at_its_second_restart() {
    let db = "[program:db]\ncommand=$ACTOR count=$DIR/runs:2:1 record=$DIR/db sleep\nstartsecs=1\n";
    let daemon = Daemon::start(&format!("{}{db}", program("web", "startsecs=0\ndepends_on=db")));
    daemon.until_state("web", "RUNNING");
    assert_eq!((daemon.starts("db").len(), daemon.until_starts("web", 1).len()), (1, 1));
}

#[test]
fn t24_dependents_of_what_is_given_up_say_so_and_come_up_with_it() {
    let db = "[program:db]\ncommand=$DIR/program\nstartretries=0\nstartsecs=1\n";
    let daemon = Daemon::start(&format!("{}{db}", program("web", "startsecs=0\ndepends_on=db")));
    daemon.until_state("web", "FATAL");
    std::os::unix::fs::symlink("/bin/cat", daemon.path("program")).expect("the program");
    assert_eq!(description(&daemon, "web"), "db, on which it depends, is FATAL");
    daemon.until_log(
        "held back: web entered FATAL state until it can be started: db, on which it depends, is FATAL",
    );
    daemon.ctl("start db").is("db: started\n");
    daemon.until_state("web", "RUNNING");
    assert_eq!(daemon.until_starts("web", 1).len(), 1);
}

#[test]
fn t23_stop_restart_update_and_shutdown_of_a_waiting_program_act_at_once() {
    let mut daemon = Daemon::start(&pair(600, ""));
    daemon.until_starts("db", 1);
    daemon.until_state("web", "STARTING");
    assert_eq!(description(&daemon, "web"), "waiting for db, which is STARTING");
    daemon.ctl("start web").is("web: ERROR (already started)\n");
    daemon.ctl("stop web").is("web: stopped\n");
    assert_eq!(daemon.state("web"), "STOPPED");

    let waiting = daemon.ctl_background(&["restart", "web"], "restart");
    daemon.until_state("web", "STARTING");
    daemon.ctl("stop web").is("web: stopped\n");
    drop(waiting);

    let waiting = daemon.ctl_background(&["start", "web"], "start");
    daemon.until_state("web", "STARTING");
    daemon.configure(&program("db", "startsecs=600"));
    daemon.ctl("update").is("web: stopped\nweb: removed process group\n");
    drop(waiting);
    daemon.configure(&pair(600, ""));
    daemon.ctl("update").is("web: added process group\n");
    daemon.until_state("web", "STARTING");
    assert!(daemon.terminate().success());
    assert_eq!((daemon.starts("db").len(), daemon.starts("web").len()), (1, 0), "{}", daemon.log());
}

#[test]
fn t26_a_start_by_hand_starts_what_is_stopped_or_disabled_too() {
    let db = program("db", "startsecs=0\nautostart=false");
    let daemon =
        Daemon::start(&format!("{db}{}", program("web", "startsecs=0\nautostart=false\ndepends_on=db")));
    daemon.ctl("start web").is("web: started\n");
    assert_eq!(daemon.state("db"), "RUNNING");
    daemon.until_log("db is started too, because web depends on it");

    let web = daemon.process_pid("web");
    daemon.ctl("stop db").is("db: stopped\n");
    assert_eq!(
        (daemon.state("web").as_str(), daemon.process_pid("web")),
        ("RUNNING", web),
        "nobody else is stopped"
    );
    daemon.until_starts("web", 1);
    kill(web, Signal::SIGKILL);
    daemon.until_starts("web", 2);
    assert_eq!(daemon.state("db"), "STOPPED", "what starts by itself leaves stopped what was stopped");

    daemon.ctl("restart web").is("web: stopped\nweb: started\n");
    assert_eq!(daemon.state("db"), "RUNNING");
    daemon.ctl("stop all");
    daemon.ctl("start all");
    let log = daemon.log();
    let spawned = ["db", "web"].map(|name| log.rfind(&format!("spawned: '{name}'")));
    assert!(spawned[0] < spawned[1], "db is first: {log}");
}

#[test]
fn t26_a_start_by_hand_that_cannot_have_what_it_needs_says_why() {
    let db = "[program:db]\ncommand=/bin/false\nstartretries=0\nstartsecs=600\nautostart=false\n";
    let daemon =
        Daemon::start(&format!("{}{db}", program("web", "startsecs=0\nautostart=false\ndepends_on=db")));
    daemon.ctl("start web").fails(7, "web: ERROR (db, on which it depends, is FATAL)\n");
    assert_eq!((daemon.state("web").as_str(), daemon.starts("web").len()), ("FATAL", 0));
    let reply = daemon.ctl("--format json start web");
    let result: serde_json::Value = serde_json::from_str(&reply.stdout).expect("JSON");
    assert_eq!(result[0]["result"], "DEPENDENCY_DOWN", "{result}");
    daemon.ctl("stop web").is("web: stopped\n");
    let db = program("db", "startsecs=0\nautostart=false");
    daemon.configure(&format!("{db}{}", program("web", "startsecs=0\nautostart=false\ndepends_on=db")));
    daemon.ctl("update");
    daemon.until_state("db", "RUNNING");
    assert_eq!(
        (daemon.state("web").as_str(), daemon.starts("web").len()),
        ("STOPPED", 0),
        "an operator has stopped it"
    );
}

#[test]
fn a_program_that_waits_goes_on_waiting_under_the_next_daemon() {
    for gap in Gap::ALL {
        let mut daemon = Daemon::start_for_gap(&pair(600, ""));
        daemon.until_state("web", "STARTING");
        let db = daemon.until_starts("db", 1)[0].pid;
        daemon.pass(gap, |_| ());
        daemon.until_state("web", "STARTING");
        assert_eq!(description(&daemon, "web"), "waiting for db, which is STARTING", "{gap:?}");
        daemon.configure(&pair(0, ""));
        daemon.ctl("update").is("db: stopped\ndb: updated process group\n");
        daemon.until_state("web", "RUNNING");
        assert_eq!((daemon.process_pid("db"), daemon.until_starts("web", 1).len()), (db, 1), "{gap:?}");
    }
}

#[test]
fn a_program_that_is_held_back_still_comes_up_under_the_next_daemon() {
    let db = "[program:db]\ncommand=/bin/false\nstartretries=0\n";
    for gap in Gap::ALL {
        let web = program("web", "startsecs=0\ndepends_on=db");
        let mut daemon = Daemon::start_for_gap(&format!("{web}{db}"));
        daemon.until_state("web", "FATAL");
        daemon.pass(gap, |_| ());
        assert_eq!(daemon.state("web"), "FATAL", "{gap:?}");
        assert_eq!(description(&daemon, "web"), "db, on which it depends, is FATAL", "{gap:?}");
        daemon.configure(&format!("{web}{}", program("db", "startsecs=0")));
        daemon.ctl("update").is("db: stopped\ndb: updated process group\n");
        daemon.until_state("web", "RUNNING");
        assert_eq!(daemon.until_starts("web", 1).len(), 1, "{gap:?}");
    }
}

#[test]
fn what_was_stopped_while_it_waited_stays_stopped_under_the_next_daemon() {
    for gap in Gap::ALL {
        let mut daemon = Daemon::start_for_gap(&pair(600, ""));
        daemon.until_state("web", "STARTING");
        daemon.ctl("stop web").is("web: stopped\n");
        daemon.pass(gap, |_| ());
        daemon.pass(gap, |_| ());
        daemon.configure(&(pair(0, "") + &program("app", "startsecs=0\ndepends_on=web")));
        daemon.ctl("update");
        daemon.until_state("db", "RUNNING");
        daemon.until_state("app", "STARTING");
        assert_eq!(description(&daemon, "app"), "waiting for web, which is STOPPED", "{gap:?}");
        assert_eq!((daemon.state("web").as_str(), daemon.starts("web").len()), ("STOPPED", 0), "{gap:?}");
    }
}

#[test]
fn what_was_stopped_and_is_remembered_is_not_started_for_others() {
    let config = format!(
        "{}[supervisord]\nremember_stopped=true\n",
        program("db", "startsecs=0") + &program("web", "startsecs=0\ndepends_on=db")
    );
    let mut daemon = Daemon::start(&config);
    daemon.until_state("web", "RUNNING");
    daemon.ctl("stop db").is("db: stopped\n");
    assert!(daemon.terminate().success());
    daemon.launch(&[]);
    daemon.until_state("web", "STARTING");
    assert_eq!(description(&daemon, "web"), "waiting for db, which is STOPPED");
    assert_eq!(daemon.state("db"), "STOPPED");
}

#[test]
fn stop_all_of_a_program_and_what_it_waits_for_leaves_both_stopped() {
    let config = program("aweb", "startsecs=0\ndepends_on=zdb") + &program("zdb", "startsecs=600");
    let daemon = Daemon::start(&config);
    daemon.until_starts("zdb", 1);
    daemon.until_state("aweb", "STARTING");
    let reply = daemon.ctl("stop all");
    assert_eq!(reply.status, 0, "{reply:?}");
    assert_eq!((daemon.state("aweb").as_str(), daemon.state("zdb").as_str()), ("STOPPED", "STOPPED"));
}

#[test]
fn a_changed_program_waits_for_what_is_added_with_the_change() {
    let daemon = Daemon::start(&program("web", "startsecs=0"));
    daemon.until_state("web", "RUNNING");
    let web = "[program:web]\ncommand=$ACTOR print=x record=$DIR/web sleep\nstartsecs=0\ndepends_on=db\n";
    daemon.configure(&format!("{web}{}", program("db", "startsecs=1")));
    daemon.ctl("update").is("db: added process group\nweb: stopped\nweb: updated process group\n");
    daemon.until("web to be spawned again", || daemon.log().matches("spawned: 'web'").count() == 2);
    let log = daemon.log();
    let (up, spawned) = (log.find("success: db entered RUNNING"), log.rfind("spawned: 'web'"));
    assert!(up.is_some() && up < spawned, "{log}");
}

#[test]
fn a_program_that_is_taken_over_before_what_it_waits_for_comes_up_with_it() {
    let config = program("aweb", "startsecs=0\ndepends_on=zdb,zslow") + &program("zdb", "startsecs=0");
    let slow = |startsecs| program("zslow", &format!("startsecs={startsecs}"));
    for gap in Gap::ALL {
        let mut daemon = Daemon::start_for_gap(&format!("{config}{}", slow(600)));
        daemon.until_starts("zslow", 1);
        daemon.until_state("zdb", "RUNNING");
        daemon.pass(gap, |_| ());
        assert_eq!(description(&daemon, "aweb"), "waiting for zslow, which is STARTING", "{gap:?}");
        daemon.configure(&format!("{config}{}", slow(0)));
        daemon.ctl("update");
        daemon.until_state("aweb", "RUNNING");
    }
}

#[test]
fn start_all_and_stop_all_reach_what_is_held_back() {
    let web = program("web", "startsecs=0\ndepends_on=db");
    let daemon = Daemon::start(&format!(
        "{web}[program:db]\ncommand=$DIR/mended record=$DIR/db sleep\nstartretries=0\nstartsecs=0\n"
    ));
    daemon.until_state("web", "FATAL");
    daemon.ctl("stop all");
    assert_eq!(daemon.state("web"), "STOPPED");
    daemon.ctl("start web").fails(7, "web: ERROR (db, on which it depends, is FATAL)\n");
    std::os::unix::fs::symlink(supervisor_tests::actor(), daemon.path("mended")).expect("a link");
    let reply = daemon.ctl("start all");
    assert_eq!((reply.status, reply.stdout.lines().count()), (0, 2), "{reply:?}");
    assert!(reply.stdout.contains("web: started") && reply.stdout.contains("db: started"), "{reply:?}");
}

#[test]
fn a_client_that_waits_over_an_upgrade_is_told_when_it_waits_in_vain() {
    let db = program("db", "startsecs=600\nautostart=false");
    let web = program("web", "startsecs=0\nautostart=false\ndepends_on=db");
    let mut daemon = Daemon::start_for_gap(&format!("{web}{db}"));
    let mut client = daemon.ctl_background(&["start", "web"], "start");
    daemon.until_state("web", "STARTING");
    daemon.pass(Gap::Upgrade, |_| ());
    daemon.ctl("stop db").is("db: stopped\n");
    assert_eq!(client.wait(), 7);
    assert!(client.text().contains("web: ERROR (waiting for db, which is STOP"), "{}", client.text());
}

#[test]
fn groups_that_an_update_adds_come_in_the_order_of_their_dependencies() {
    let daemon = Daemon::start("");
    daemon.configure(&(program("a", "startsecs=0\ndepends_on=z") + &program("z", "startsecs=0")));
    daemon.ctl("update").is("z: added process group\na: added process group\n");
    daemon.until_state("a", "RUNNING");
    assert!(!daemon.log().contains("held back"), "{}", daemon.log());
    // A changed dependency concerns nobody who runs.
    let pids = ["a", "z"].map(|name| daemon.process_pid(name));
    daemon.configure(&(program("a", "startsecs=0") + &program("z", "startsecs=0")));
    daemon.ctl("update").is("a: stopped\na: updated process group\n");
    assert_eq!(["a", "z"].map(|name| daemon.process_pid(name)), pids);
}

#[test]
fn an_unknown_name_and_a_circle_are_refused_before_anything_starts() {
    for (keys, problem) in [
        ("depends_on=bd", "there is no program or group 'bd'; did you mean \"db\"?"),
        ("depends_on=web", "none of these could ever be started: web depends on web"),
    ] {
        let daemon = Daemon::prepare(&(program("web", keys) + &program("db", "")));
        let reply = daemon.supervisord(&["-c", &daemon.config_file().display().to_string(), "--check"]);
        assert!(reply.status == 2 && reply.stderr.contains(problem), "{reply:?}");
        assert!(
            reply.stderr.contains("[program:web] depends_on"),
            "file, section and key are named: {reply:?}"
        );
    }
}
