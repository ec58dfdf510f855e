//! The worker fleets that frameworks run under Supervisor: what their manuals configure must behave as they say.
//! T-numbers are scenarios of the project's list of what users suffer from.

use supervisor_tests::{Daemon, Signal, kill, processes};

/// Eight queue workers as Laravel's manual configures them; `script` is what each does.
fn queue(script: &str) -> String {
    format!(
        "[program:queue]
process_name=%(program_name)s_%(process_num)02d
command=$ACTOR {script}
numprocs=8
autostart=true
autorestart=true
stopasgroup=true
killasgroup=true
redirect_stderr=true
stdout_logfile=$DIR/worker.log
stopwaitsecs=3600
"
    )
}

/// Names of the workers of [`queue`].
fn workers() -> impl Iterator<Item = String> {
    (0..8).map(|number| format!("queue:queue_{number:02}"))
}

fn count_log(daemon: &Daemon, text: &str) -> usize {
    daemon.log().matches(text).count()
}

#[test]
fn t65_queue_workers_that_exit_with_0_on_request_are_all_replaced_without_backoff() {
    let daemon = Daemon::start(&queue("record=$DIR/starts gate=$DIR/gate print=done"));
    daemon.until("eight workers", || count_log(&daemon, "entered RUNNING state") == 8);
    let old = daemon.until_starts("starts", 8);
    // `queue:restart`: each worker ends its job, sees that it shall exit, and does so with 0.
    daemon.open_gate();
    daemon.until("eight replacements", || count_log(&daemon, "entered RUNNING state") == 16);
    assert_eq!(daemon.starts("starts").len(), 16, "one replacement for each");
    assert!(old.iter().all(|start| !processes::is_alive(start.pid)));
    assert_eq!(daemon.read("worker.log"), "done\n".repeat(8), "every job was finished");
    let log = daemon.log();
    assert_eq!(log.matches("(exit status 0; expected)").count(), 8, "{log}");
    assert!(!log.contains("BACKOFF") && !log.contains("FATAL"), "{log}");
    assert!(workers().all(|name| daemon.state(&name) == "RUNNING"));
}

#[test]
fn t65_a_stop_waits_for_the_jobs_and_kills_nobody() {
    let daemon = Daemon::start(&queue("record=$DIR/starts wait-signal=TERM gate=$DIR/gate print=finished"));
    daemon.until_starts("starts", 8);
    let mut stop = daemon.ctl_background(&["stop", "queue:*"], "stop.out");
    daemon.until("all workers to be asked", || daemon.read("worker.log").matches("SIGTERM\n").count() == 8);
    assert!(workers().all(|name| daemon.state(&name) == "STOPPING"));
    daemon.open_gate();
    daemon.until("all jobs to be finished", || daemon.read("worker.log").matches("finished\n").count() == 8);
    assert_eq!(stop.wait(), 0);
    assert!(workers().all(|name| stop.text().contains(&format!("{name}: stopped\n"))), "{}", stop.text());
    assert!(!daemon.log().contains("SIGKILL"), "{}", daemon.log());
    daemon.until_no_programs();
}

#[test]
fn t65_a_stop_reaches_what_a_worker_has_started() {
    let daemon = Daemon::start(&queue("record=$DIR/starts spawn { record=$DIR/jobs sleep } sleep"));
    daemon.until_starts("starts", 8);
    let jobs = daemon.until_starts("jobs", 8);
    assert_eq!(daemon.ctl("stop all").status, 0);
    assert!(jobs.iter().all(|job| !processes::is_alive(job.pid)), "a job outlived its worker");
}

#[test]
fn t65_a_worker_that_finds_no_job_within_startsecs_becomes_fatal_and_says_why() {
    let daemon = Daemon::start(
        "[program:queue]
command=$ACTOR record=$DIR/starts
startsecs=3600
startretries=1
autorestart=true
",
    );
    daemon.until_state("queue", "FATAL");
    assert_eq!(daemon.starts("starts").len(), 2);
    let status = daemon.ctl("status queue").stdout;
    assert!(status.ends_with("Exited too quickly (process log may have details)\n"), "{status}");
    assert!(daemon.log().contains("exited: queue (exit status 0; not expected)"), "{}", daemon.log());
}

#[test]
fn t65_with_startsecs_0_a_worker_may_end_at_once_for_ever() {
    let daemon = Daemon::start(
        "[program:queue]
command=$ACTOR record=$DIR/starts
startsecs=0
startretries=1
autorestart=true
",
    );
    daemon.until_starts("starts", 10);
    assert!(!daemon.log().contains("FATAL"), "{}", daemon.log());
    daemon.ctl("stop queue");
    daemon.until_state("queue", "STOPPED");
}

/// A pool worker that survives SIGTERM, and records it.
const STUBBORN: &str = "wait-signal=TERM record=$DIR/asked sleep";

/// A leader with two pool workers, as Celery's sample configures it; `end` is what the leader does after SIGTERM, `pool`
/// what a worker does.
fn celery(stopwaitsecs: u32, end: &str, pool: &str) -> String {
    let worker = format!("spawn {{ record=$DIR/pool {pool} }}");
    format!(
        "[program:celery]
command=$ACTOR {worker} {worker} record=$DIR/leaders wait-signal=TERM record=$DIR/warm {end}
startsecs=0
autorestart=true
stopwaitsecs={stopwaitsecs}
killasgroup=true
"
    )
}

#[test]
fn t66_term_goes_to_the_leader_alone_and_kill_to_the_whole_pool() {
    let daemon = Daemon::start(&celery(1, "sleep", STUBBORN));
    let leader = daemon.until_starts("leaders", 1)[0].pid;
    let pool = daemon.until_starts("pool", 2);
    daemon.ctl("stop celery").is("celery: stopped\n");
    assert_eq!(daemon.starts("warm").len(), 1, "the leader was asked to shut down warmly");
    assert_eq!(daemon.starts("asked"), [], "the pool was asked too");
    assert!(daemon.log().contains("stopped: celery (terminated by SIGKILL)"), "{}", daemon.log());
    let left = pool.iter().map(|start| start.pid).chain([leader]).filter(|pid| processes::is_alive(*pid));
    assert_eq!(left.collect::<Vec<_>>(), [0; 0]);
}

#[test]
fn t66_a_warm_shutdown_lets_the_pool_finish_its_tasks() {
    let daemon = Daemon::start(&celery(600, "gate=$DIR/gate print=tasks-finished", "sleep"));
    daemon.until_starts("leaders", 1);
    let pool = daemon.until_starts("pool", 2);
    let mut stop = daemon.ctl_background(&["stop", "celery"], "stop.out");
    daemon.until_starts("warm", 1);
    daemon.until_state("celery", "STOPPING");
    assert!(pool.iter().all(|start| processes::is_alive(start.pid)), "the pool works on");
    daemon.open_gate();
    assert_eq!(stop.wait(), 0);
    assert!(daemon.log().contains("stopped: celery (exit status 0)"), "{}", daemon.log());
    assert!(!daemon.log().contains("SIGKILL"), "{}", daemon.log());
}

#[test]
fn t66_a_reload_leaves_one_set_of_workers() {
    let daemon = Daemon::start(&celery(1, "sleep", STUBBORN));
    let old = daemon.until_starts("leaders", 1)[0];
    let old_pool = daemon.until_starts("pool", 2);
    daemon.signal(Signal::SIGHUP);
    daemon.until_starts("leaders", 2);
    daemon.until_starts("pool", 4);
    assert!(!processes::is_alive(old.pid) && old_pool.iter().all(|start| !processes::is_alive(start.pid)));
    assert_eq!(daemon.programs().len(), 3, "a leader and its pool");
}

#[test]
fn t66_a_killed_leader_leaves_no_pool_beside_its_replacement() {
    let daemon = Daemon::start(&celery(1, "sleep", STUBBORN));
    let leader = daemon.until_starts("leaders", 1)[0].pid;
    let pool = daemon.until_starts("pool", 2);
    kill(leader, Signal::SIGKILL);
    daemon.until_starts("leaders", 2);
    assert!(pool.iter().all(|start| !processes::is_alive(start.pid)), "two sets of workers");
    daemon.until_starts("pool", 4);
    assert_eq!(daemon.programs().len(), 3, "a leader and its pool");
}
