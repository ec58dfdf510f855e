use proptest::prelude::*;

use super::*;
use crate::process::test_defaults;

fn old(group: &str, name: &str, state: ProcessState) -> OldProcess {
    OldProcess {
        group: group.into(),
        name: name.into(),
        pid: (!state.is_stopped()).then_some(7),
        state,
        start: 1,
        stop: 0,
        exit_status: 0,
        spawn_error: String::new(),
        stdout_log: None,
        stderr_log: None,
    }
}

fn group(name: &str, processes: &[&str]) -> GroupConfig {
    let processes = processes.iter().map(|process| Arc::new(test_defaults(process)));
    GroupConfig { name: name.into(), priority: 999, kind: GroupKind::Program, processes: processes.collect() }
}

fn pipe(number: i32, inode: u64, direction: Direction) -> Descriptor {
    Descriptor { number, object: Object::Pipe(inode), direction }
}

fn socket(number: i32, inode: u64) -> Descriptor {
    Descriptor { number, object: Object::Socket(inode), direction: Direction::Both }
}

fn child(pid: i32, own: &[Descriptor]) -> Child {
    Child { pid, own: own.to_vec(), ..Child::default() }
}

use Direction::{Both, Read, Write};

#[test]
fn every_process_finds_its_settings_by_group_and_name() {
    let groups = [group("a", &["a"]), group("g", &["x", "y"])];
    let processes = [
        old("a", "a", ProcessState::Running),
        old("g", "x", ProcessState::Stopped),
        old("g", "y", ProcessState::Fatal),
    ];
    let matches = match_processes(&processes, &groups).unwrap();
    let names: Vec<_> = matches.iter().map(|one| (one.old.full_name(), one.config.name.clone())).collect();
    assert_eq!(
        names,
        [("a", "a"), ("g:x", "x"), ("g:y", "y")].map(|(full, name)| (full.into(), name.into()))
    );
}

#[test]
fn what_cannot_be_carried_on_is_refused_all_at_once() {
    let groups = [group("a", &["a"]), group("g", &["x"])];
    let processes = [
        old("a", "a", ProcessState::Stopping),
        old("g", "x", ProcessState::Unknown),
        old("g", "gone", ProcessState::Running),
        old("b", "b", ProcessState::Backoff),
    ];
    let refusals = match_processes(&processes, &groups).unwrap_err();
    assert_eq!(
        refusals.iter().map(ToString::to_string).collect::<Vec<_>>(),
        [
            "a is being stopped: try again when it has stopped",
            "g:x is in state UNKNOWN: end it by hand, and restart it with supervisorctl restart g:x",
            "g:gone is RUNNING, and the configuration has no such process: add it, or stop it with supervisorctl stop \
             g:gone",
            "b is BACKOFF, and the configuration has no such process: add it, or stop it with supervisorctl stop b",
        ]
    );
}

#[test]
fn what_does_not_run_and_is_not_configured_is_left_out() {
    let processes = [old("b", "b", ProcessState::Exited), old("c", "c", ProcessState::Stopped)];
    assert!(match_processes(&processes, &[]).unwrap().is_empty());
}

#[test]
fn structure_of_get_process_info_is_read() {
    let text = |text: &str| Value::Text(text.to_owned());
    let members = [
        ("name", text("x")),
        ("group", text("g")),
        ("start", Value::Int(1700)),
        ("stop", Value::Int(0)),
        ("state", Value::Int(20)),
        ("spawnerr", text("")),
        ("exitstatus", Value::Int(0)),
        ("stdout_logfile", text("/tmp/x-stdout---supervisor-abcdefgh.log")),
        ("stderr_logfile", text("")),
        ("pid", Value::Int(44)),
    ];
    let info = Value::Struct(members.map(|(name, value)| (name.to_owned(), value)).into());
    let read = OldProcess::read(&info).unwrap();
    assert_eq!((read.pid, read.state, read.start), (Some(44), ProcessState::Running, 1700));
    assert_eq!(read.stdout_log, Some("/tmp/x-stdout---supervisor-abcdefgh.log".into()));
    assert_eq!(read.stderr_log, None);
    assert_eq!(OldProcess::read(&Value::Int(1)), None);
}

#[test]
fn pipes_go_to_the_children_that_have_their_other_ends() {
    let daemon =
        [pipe(6, 10, Write), pipe(7, 11, Read), pipe(9, 12, Read), pipe(10, 20, Write), pipe(11, 21, Read)];
    let children = [
        child(100, &[pipe(0, 10, Read), pipe(1, 11, Write), pipe(2, 12, Write)]),
        child(200, &[pipe(0, 20, Read), pipe(1, 21, Write), pipe(2, 21, Write)]),
    ];
    let assignment = assign(&daemon, &children);
    assert_eq!(assignment.left_over, []);
    let first =
        Ends { stdin: Some(daemon[0]), stdout: Some(daemon[1]), stderr: Some(daemon[2]), socket: None };
    let second = Ends { stdin: Some(daemon[3]), stdout: Some(daemon[4]), ..Ends::default() };
    assert_eq!(assignment.ends, [(100, first), (200, second)].into());
}

#[test]
fn pipe_that_only_a_descendant_has_goes_to_the_child_that_started_it() {
    let daemon = [pipe(6, 10, Write), pipe(7, 11, Read)];
    let mut shell = child(100, &[pipe(0, 10, Read)]);
    assert_eq!(assign(&daemon, &[shell.clone()]).left_over, [daemon[1]]);
    shell.family = vec![pipe(1, 11, Write)];
    let assignment = assign(&daemon, &[shell]);
    assert_eq!(assignment.left_over, []);
    assert_eq!(assignment.ends[&100].stdout, Some(daemon[1]));
}

#[test]
fn outputs_that_a_child_has_swapped_are_told_by_the_order_in_which_they_were_made() {
    let daemon = [pipe(6, 10, Write), pipe(7, 11, Read), pipe(9, 12, Read)];
    let swapped = child(100, &[pipe(0, 10, Read), pipe(1, 12, Write), pipe(2, 11, Write)]);
    let ends = assign(&daemon, &[swapped]).ends[&100];
    assert_eq!((ends.stdout, ends.stderr), (Some(daemon[1]), Some(daemon[2])));
}

#[test]
fn single_output_is_stderr_where_the_child_says_so() {
    let daemon = [pipe(9, 12, Read)];
    let ends = assign(&daemon, &[child(100, &[pipe(2, 12, Write)])]).ends[&100];
    assert_eq!((ends.stdout, ends.stderr), (None, Some(daemon[0])));
    let redirected = Child { redirect_stderr: true, ..child(100, &[pipe(2, 12, Write)]) };
    let ends = assign(&daemon, &[redirected]).ends[&100];
    assert_eq!((ends.stdout, ends.stderr), (Some(daemon[0]), None));
}

#[test]
fn socket_of_a_fastcgi_program_belongs_to_all_its_processes() {
    let daemon = [socket(5, 99), pipe(7, 11, Read), pipe(8, 21, Read), socket(9, 100)];
    let children =
        [child(100, &[socket(0, 99), pipe(1, 11, Write)]), child(200, &[socket(0, 99), pipe(1, 21, Write)])];
    let assignment = assign(&daemon, &children);
    assert_eq!(assignment.ends[&100].socket, Some(daemon[0]));
    assert_eq!(assignment.ends[&200].socket, Some(daemon[0]));
}

#[test]
fn pipes_that_the_daemon_has_as_its_own_standard_descriptors_are_nobodys() {
    // In the foreground, with a log /dev/stdout that was opened anew.
    let daemon = [pipe(1, 50, Write), pipe(4, 50, Write), pipe(7, 11, Read)];
    let assignment = assign(&daemon, &[child(100, &[pipe(1, 11, Write)])]);
    assert_eq!(assignment.left_over, []);
}

#[test]
fn pipe_of_which_the_daemon_has_both_ends_is_its_own() {
    let daemon = [pipe(5, 60, Read), pipe(6, 60, Write), pipe(7, 11, Read)];
    let assignment = assign(&daemon, &[child(100, &[pipe(1, 11, Write)])]);
    assert_eq!((assignment.ends[&100].stdout, assignment.left_over), (Some(daemon[2]), vec![]));
}

#[test]
fn our_own_children_hold_both_directions_of_their_pipes() {
    let daemon = [pipe(6, 10, Write), pipe(7, 11, Read)];
    let ours = child(100, &[pipe(0, 10, Both), pipe(1, 11, Both), pipe(2, 11, Both)]);
    let ends = assign(&daemon, &[ours]).ends[&100];
    assert_eq!((ends.stdin, ends.stdout), (Some(daemon[0]), Some(daemon[1])));
}

proptest! {
    #[test]
    fn every_pipe_is_given_once_or_left_over(
        held in prop::collection::vec((0_i32..6, 0_i32..8, 10_u64..30, any::<bool>()), 0..40),
        offered in prop::collection::btree_map(10_u64..30, any::<bool>(), 0..20),
    ) {
        let direction = |is_read| if is_read { Read } else { Write };
        let daemon: Vec<Descriptor> = (3..)
            .zip(&offered)
            .map(|(number, (inode, is_read))| pipe(number, *inode, direction(*is_read)))
            .collect();
        let children: Vec<Child> = (0..6)
            .map(|pid| {
                let its = held.iter().filter(|(owner, ..)| *owner == pid);
                child(pid, &its.map(|(_, number, inode, read)| pipe(*number, *inode, direction(*read))).collect::<Vec<_>>())
            })
            .collect();
        let assignment = assign(&daemon, &children);
        let mut numbers: Vec<i32> =
            assignment.ends.values().flat_map(Ends::pipes).map(|end| end.number).collect();
        numbers.extend(assignment.left_over.iter().map(|end| end.number));
        numbers.sort_unstable();
        prop_assert_eq!(numbers, daemon.iter().map(|end| end.number).collect::<Vec<_>>());
    }
}
