//! Children made by both methods: what reaches them, what does not, and which step is named when one fails.
//!
//! Statuses are taken by pid only, so that tests may run side by side.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use supervisord::os::spawn::{Identity, Method, SpawnPlan, Spawner, Step, Subject};
use supervisord::os::{Errno, pipe, reap};
use supervisord::process::exit::Exit;

/// No child of these tests runs longer.
const BOUND: u16 = 20_000;

fn c(text: &str) -> CString {
    CString::new(text).unwrap()
}

fn null() -> OwnedFd {
    File::options().read(true).write(true).open("/dev/null").unwrap().into()
}

fn plan<'fd>(argv: &[&str], stdin: BorrowedFd<'fd>, stdout: BorrowedFd<'fd>) -> SpawnPlan<'fd> {
    SpawnPlan {
        executable: c(argv[0]),
        argv: argv.iter().map(|word| c(word)).collect(),
        envp: vec![c"PATH=/usr/bin:/bin".into(), c"MARK=42".into()],
        directory: None,
        umask: None,
        open_files: None,
        identity: None,
        stdin,
        stdout,
        stderr: stdout,
    }
}

/// Waits for `pid` on its pidfd, and takes its status.
fn exit_of(child: &supervisord::os::spawn::Child) -> Exit {
    let pidfd = child.pidfd.as_ref().expect("this kernel has pidfds");
    let mut fds = [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)];
    assert_eq!(poll(&mut fds, PollTimeout::from(BOUND)), Ok(1), "child ends in time");
    reap::reap(child.pid).expect("ended").1
}

/// Runs a program with changes to its plan; its output and its exit.
fn run(method: Method, argv: &[&str], change: impl FnOnce(&mut SpawnPlan<'_>)) -> (String, Exit) {
    let mut spawner = Spawner::with_method(method).unwrap();
    let (read, write) = std::io::pipe().unwrap();
    let stdin = null();
    let mut plan = plan(argv, stdin.as_fd(), write.as_fd());
    change(&mut plan);
    let child = spawner.spawn(&plan).unwrap();
    drop(plan);
    drop(write);
    let exit = exit_of(&child);
    let mut text = String::new();
    { read }.read_to_string(&mut text).unwrap();
    (text, exit)
}

/// The failure of a spawn; no zombie may be left of it, which `zombies` sees.
fn failure(method: Method, change: impl FnOnce(&mut SpawnPlan<'_>)) -> (Step, Errno) {
    let null = null();
    let mut plan = plan(&["/bin/true"], null.as_fd(), null.as_fd());
    change(&mut plan);
    let failure = Spawner::with_method(method).unwrap().spawn(&plan).unwrap_err();
    (failure.step, failure.errno)
}

fn both(test: impl Fn(Method)) {
    test(Method::Clone);
    test(Method::Fork);
}

#[test]
fn probing_finds_clone_here() {
    assert_eq!(Spawner::probe().method(), Method::Clone);
}

#[test]
fn child_gets_arguments_environment_directory_and_umask() {
    both(|method| {
        let script = "echo $0 $1 $MARK; pwd; umask";
        let (text, exit) = run(method, &["/bin/sh", "-c", script, "zero", "one"], |plan| {
            plan.directory = Some(c("/usr"));
            plan.umask = Some(0o027);
        });
        assert_eq!(text, "zero one 42\n/usr\n0027\n");
        assert_eq!(exit, Exit::Code(0));
    });
    assert_ne!(std::env::current_dir().unwrap(), std::path::Path::new("/usr"), "ours is unchanged");
}

#[test]
fn exit_codes_and_signals_are_told_apart() {
    both(|method| {
        assert_eq!(run(method, &["/bin/sh", "-c", "exit 200"], |_| ()).1, Exit::Code(200));
        let (_, exit) = run(method, &["/bin/sh", "-c", "kill -9 $$"], |_| ());
        assert_eq!(exit, Exit::Signal { signal: 9, core_dumped: false });
        let (_, exit) = run(method, &["/bin/sh", "-c", "kill -40 $$"], |_| ());
        assert_eq!(exit, Exit::Signal { signal: 40, core_dumped: false }, "a real-time signal");
    });
}

#[test]
fn child_leads_its_own_process_group_in_our_session() {
    both(|method| {
        let (text, _) = run(method, &["/bin/cat", "/proc/self/stat"], |_| ());
        let fields: Vec<&str> = text.split(' ').collect();
        assert_eq!(fields[0], fields[4], "its group is its pid");
        assert_eq!(fields[5], nix::unistd::getsid(None).unwrap().to_string());
    });
}

#[test]
fn failing_step_is_named() {
    both(|method| {
        assert_eq!(failure(method, |plan| plan.executable = c("/no/such")), (Step::Exec, Errno::ENOENT));
        assert_eq!(failure(method, |plan| plan.executable = c("/etc/passwd")), (Step::Exec, Errno::EACCES));
        assert_eq!(
            failure(method, |plan| plan.directory = Some(c("/no/such"))),
            (Step::Chdir, Errno::ENOENT)
        );
        assert_eq!(
            failure(method, |plan| plan.directory = Some(c("/etc/passwd"))),
            (Step::Chdir, Errno::ENOTDIR)
        );
    });
    assert_eq!(Step::Chdir.subject(), Subject::Directory);
}

#[test]
fn failure_reads_well() {
    let null = null();
    let mut plan = plan(&["/no/such"], null.as_fd(), null.as_fd());
    let text = |plan: &SpawnPlan<'_>| Spawner::probe().spawn(plan).unwrap_err().to_string();
    assert_eq!(text(&plan), "couldn't exec: ENOENT (No such file or directory)");
    plan.directory = Some(c("/no/such"));
    assert_eq!(text(&plan), "couldn't chdir: ENOENT (No such file or directory)");
}

#[test]
fn only_descriptors_0_to_2_reach_the_child() {
    let null = null();
    // What a careless library or shell would do.
    let stray = nix::unistd::dup(&null).unwrap();
    nix::fcntl::fcntl(&stray, nix::fcntl::FcntlArg::F_SETFD(nix::fcntl::FdFlag::empty())).unwrap();
    both(|method| {
        // No listing: that would need a descriptor itself.
        let script = "n=0; while [ $n -lt 256 ]; do [ -e /proc/$$/fd/$n ] && echo $n; n=$((n+1)); done";
        let (text, _) = run(method, &["/bin/sh", "-c", script], |_| ());
        assert_eq!(text, "0\n1\n2\n", "while {} was open", stray.as_raw_fd());
    });
}

#[test]
fn descriptors_may_come_in_any_order() {
    // Ours in another order: each is the target of one and the source of another.
    let link = |number: i32| fs::read_link(format!("/proc/self/fd/{number}")).unwrap().display().to_string();
    let expected = format!("{}\n{}\n", link(2), link(0));
    let (stdin, stderr) = (std::io::stdin(), std::io::stderr());
    both(|method| {
        let (read, write) = std::io::pipe().unwrap();
        let script = ["/bin/sh", "-c", "readlink /proc/$$/fd/0 /proc/$$/fd/2"];
        let mut plan = plan(&script, stderr.as_fd(), write.as_fd());
        plan.stderr = stdin.as_fd();
        let child = Spawner::with_method(method).unwrap().spawn(&plan).unwrap();
        drop(write);
        assert_eq!(exit_of(&child), Exit::Code(0));
        assert_eq!(std::io::read_to_string(read).unwrap(), expected);
    });
}

#[test]
fn no_signal_is_blocked_or_ignored_in_the_child() {
    use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, pthread_sigmask};
    let mask = SigSet::from_iter([Signal::SIGTERM, Signal::SIGUSR1]);
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&mask), None).unwrap();
    ignore(Signal::SIGXFSZ, SigHandler::SigIgn);
    both(|method| {
        let (text, _) = run(method, &["/bin/cat", "/proc/self/status"], |_| ());
        for field in ["SigBlk", "SigIgn", "SigCgt"] {
            let line = text.lines().find(|line| line.starts_with(field)).unwrap();
            assert_eq!(line.split_whitespace().nth(1), Some("0000000000000000"), "{field} by {method:?}");
        }
    });
    let ours = SigSet::thread_get_mask().unwrap();
    assert!(ours.contains(Signal::SIGTERM) && !ours.contains(Signal::SIGINT), "ours is restored");
}

#[allow(unsafe_code, reason = "the parent ignores a signal on purpose")]
fn ignore(signal: nix::sys::signal::Signal, handler: nix::sys::signal::SigHandler) {
    // SAFETY: no handler function involved.
    unsafe { nix::sys::signal::signal(signal, handler) }.unwrap();
}

#[test]
fn root_gives_a_child_to_another_user() {
    if !nix::unistd::geteuid().is_root() {
        return; // Nothing to give away.
    }
    both(|method| {
        let identity = Identity { uid: 65534, gid: 65534, groups: vec![65534, 4] };
        let (text, _) =
            run(method, &["/bin/cat", "/proc/self/status"], |plan| plan.identity = Some(identity));
        let field = |name| text.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
        assert_eq!(field("Uid:"), "65534\t65534\t65534\t65534");
        assert_eq!(field("Gid:"), "65534\t65534\t65534\t65534");
        let mut groups: Vec<_> = field("Groups:").split(' ').map(str::to_owned).collect();
        groups.sort();
        assert_eq!(groups, ["4", "65534"]);
        assert!(nix::sys::prctl::get_dumpable().unwrap(), "our own core dumps stay possible");
    });
}

#[test]
fn invalid_user_is_named_as_the_failing_step() {
    both(|method| {
        let nobody = Identity { uid: u32::MAX, gid: 65534, groups: vec![65534] };
        let expected = if nix::unistd::geteuid().is_root() {
            (Step::Setuid, Errno::EINVAL)
        } else {
            (Step::Setgroups, Errno::EPERM)
        };
        assert_eq!(failure(method, |plan| plan.identity = Some(nobody.clone())), expected);
        assert_eq!(expected.0.subject(), Subject::User);
    });
}

/// What an ended child has left in its pipe. Not up to its end: a child that another test is just making may hold the
/// other end for a moment, and then the end is not there yet.
fn what_is_in(pipe: OwnedFd) -> String {
    let mut text = [0; 256];
    let count = File::from(pipe).read(&mut text).unwrap();
    String::from_utf8_lossy(&text[..count]).into_owned()
}

#[test]
fn output_of_an_orphaned_pipe_is_kept() {
    let mut spawner = Spawner::probe();
    let null = null();
    let output = pipe::output_pipe(None).unwrap();
    let child = spawner
        .spawn(&plan(&["/bin/sh", "-c", "echo out; echo err >&2"], null.as_fd(), output.child.as_fd()))
        .unwrap();
    drop(output.child);
    assert_eq!(exit_of(&child), Exit::Code(0));
    assert_eq!(what_is_in(output.read), "out\nerr\n");
}

#[test]
fn another_user_can_open_its_own_output_by_name() {
    if !nix::unistd::geteuid().is_root() {
        return; // Needs two users.
    }
    both(|method| {
        let null = null();
        let output = pipe::output_pipe(Some(65534)).unwrap();
        let script = ["/bin/sh", "-c", "echo again > /dev/stdout"];
        let mut plan = plan(&script, null.as_fd(), output.child.as_fd());
        plan.identity = Some(Identity { uid: 65534, gid: 65534, groups: vec![65534] });
        let child = Spawner::with_method(method).unwrap().spawn(&plan).unwrap();
        drop(output.child);
        assert_eq!(exit_of(&child), Exit::Code(0));
        assert_eq!(what_is_in(output.read), "again\n");
    });
}

#[test]
fn input_reaches_the_child() {
    let mut spawner = Spawner::probe();
    let input = pipe::input_pipe(None, pipe::OnDaemonDeath::EndOfFile).unwrap();
    let (read, write) = std::io::pipe().unwrap();
    let child = spawner.spawn(&plan(&["/bin/cat"], input.child.as_fd(), write.as_fd())).unwrap();
    drop((input.child, write));
    nix::unistd::write(&input.write, b"hello").unwrap();
    drop(input.write);
    assert_eq!(exit_of(&child), Exit::Code(0));
    let mut text = String::new();
    { read }.read_to_string(&mut text).unwrap();
    assert_eq!(text, "hello");
}
