use std::os::unix::net::UnixStream;

use super::*;

const PRIVATE: Access = Access { mode: 0o700, owner: None };

fn names_in(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).expect("readable");
    entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn socket_has_its_mode_answers_and_leaves_nothing_else() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("s.sock");
    let socket = bind_unix(&path, Access { mode: 0o770, owner: None }).expect("bound");
    assert!(!socket.was_stale);
    assert_eq!(fs::metadata(&path).expect("there").mode() & 0o7777, 0o770);
    assert_eq!(names_in(dir.path()), ["s.sock"]);
    UnixStream::connect(&path).expect("answers");
    socket.listener.accept().expect("has it");
    assert_eq!(socket.listener.accept().expect_err("non-blocking").kind(), io::ErrorKind::WouldBlock);
    assert!(socket.file.remove().expect("ours"));
    assert!(!path.exists());
}

#[test]
fn temporary_name_is_private_and_does_not_answer() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("s.sock");
    let private = Private::bind(&path).expect("bound");
    assert_eq!(fs::metadata(&private.name.path).expect("there").mode() & 0o077, 0);
    let error = UnixStream::connect(&private.name.path).expect_err("not listening");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    assert!(!path.exists());
    drop(private);
    assert!(names_in(dir.path()).is_empty());
}

#[test]
fn living_socket_is_in_use_and_stays() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("s.sock");
    let first = bind_unix(&path, PRIVATE).expect("bound");
    let error = bind_unix(&path, PRIVATE).expect_err("in use");
    assert!(matches!(error, ListenError::InUse), "{error:?}");
    assert!(error.to_string().starts_with("Another program is already listening on a port that one of our"));
    UnixStream::connect(&path).expect("the first still answers");
    assert_eq!(names_in(dir.path()), ["s.sock"]);
    drop(first);
}

#[test]
fn stale_socket_is_replaced_and_its_owner_does_not_remove_the_new_one() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("s.sock");
    let UnixSocket { listener, file: old, .. } = bind_unix(&path, PRIVATE).expect("bound");
    drop(listener);
    let new = bind_unix(&path, PRIVATE).expect("replaces");
    assert!(new.was_stale);
    assert!(!old.remove().expect("looked"), "not ours any more");
    UnixStream::connect(&path).expect("answers");
}

#[test]
fn a_lent_socket_is_known_by_its_own_name_also_where_a_dead_one_was_and_the_longest_one_fits() {
    let dir = tempfile::tempdir().expect("temp dir");
    let room = SUN_PATH_MAX - dir.path().as_os_str().len() - 1;
    for name in ["short.sock".to_owned(), "x".repeat(room)] {
        let path = dir.path().join(&name);
        for _ in 0..2 {
            let socket = UnixListener::from(lend_unix(&path, PRIVATE, None).expect("made"));
            let own = socket.local_addr().expect("bound");
            assert_eq!(own.as_pathname(), Some(path.as_path()));
            assert_eq!(fs::metadata(&path).expect("there").mode() & 0o7777, 0o700);
            UnixStream::connect(&path).expect("answers");
        }
    }
    assert_eq!(names_in(dir.path()).len(), 2);
    let path = dir.path().join("x".repeat(room + 1));
    let error = lend_unix(&path, PRIVATE, None).expect_err("too long");
    assert!(matches!(error, ListenError::PathTooLong { max: SUN_PATH_MAX, .. }), "{error:?}");
}

#[test]
fn a_lent_socket_takes_the_place_of_a_living_one_which_stays_open() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("s.sock");
    let old = UnixListener::from(lend_unix(&path, PRIVATE, None).expect("made"));
    let waiting = UnixStream::connect(&path).expect("the old one answers");
    let new = UnixListener::from(lend_unix(&path, PRIVATE, None).expect("replaces"));
    UnixStream::connect(&path).expect("the new one answers");
    new.accept().expect("has it");
    old.accept().expect("still has what waited");
    drop(waiting);
    assert_eq!(names_in(dir.path()), ["s.sock"]);
}

#[test]
fn ordinary_file_is_not_removed() {
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("precious");
    fs::write(&path, "text").expect("written");
    let error = bind_unix(&path, PRIVATE).expect_err("refused");
    assert!(matches!(error, ListenError::NotASocket(_)), "{error:?}");
    assert_eq!(fs::read_to_string(&path).expect("still there"), "text");
}

#[test]
fn refusals_read_as_supervisors() {
    let error = bind_unix(Path::new("/no/such/s.sock"), PRIVATE).expect_err("no directory");
    assert_eq!(error.to_string(), "Cannot open an HTTP server: socket.error reported errno.ENOENT (2)");
    let error = bind_tcp("192.0.2.1", 0).expect_err("nobody's address");
    assert_eq!(
        error.to_string(),
        "Cannot open an HTTP server: socket.error reported errno.EADDRNOTAVAIL (99)"
    );
    let path = PathBuf::from(format!("/tmp/{}", "x".repeat(110)));
    let error = bind_unix(&path, PRIVATE).expect_err("too long");
    assert!(matches!(error, ListenError::PathTooLong { max: 98..=105, .. }), "{error:?}");
    let refused = ChownRefused { path: "/s".into(), owner: Owner { uid: 0, gid: 4 }, user: "nobody".into() };
    assert_eq!(
        refused.to_string(),
        "Not permitted to chown /s to uid/gid (0, 4); adjust \"sockchown\" value in config file or on command \
         line to values that the current user (nobody) can successfully chown"
    );
}

#[test]
fn root_gives_the_socket_away() {
    if !nix::unistd::geteuid().is_root() {
        return; // Nothing to give away.
    }
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("s.sock");
    let access = Access { mode: 0o640, owner: Some(Owner { uid: 65534, gid: 4 }) };
    let socket = bind_unix(&path, access).expect("bound");
    assert_eq!(socket.chown_refused, None);
    let found = fs::metadata(&path).expect("there");
    assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (65534, 4, 0o640));
}

#[test]
fn port_is_taken_once() {
    let first = bind_tcp("127.0.0.1", 0).expect("any port");
    let port = first.local_addr().expect("bound").port();
    let error = bind_tcp("127.0.0.1", port).expect_err("in use");
    assert!(matches!(error, ListenError::InUse), "{error:?}");
    drop(first);
    assert!(bind_tcp("localhost", 0).expect("any port").local_addr().expect("bound").is_ipv4());
}

#[test]
fn unknown_host_is_named() {
    let error = bind_tcp("no such host", 0).expect_err("unknown");
    assert!(matches!(&error, ListenError::Host { host, .. } if host == "no such host"), "{error:?}");
}
