use std::fmt::Debug;

use super::*;

/// A machine with the user and group `web` (33) and the directories `/`, `/log` and `/home/web`.
struct TestMachine;

fn web() -> User {
    User { name: "web".to_owned(), uid: 33, gid: 34 }
}

impl Machine for TestMachine {
    fn user_by_name(&self, name: &str) -> Option<User> {
        (name == "web").then(web)
    }
    fn user_by_id(&self, uid: u32) -> Option<User> {
        (uid == 33).then(web)
    }
    fn group_by_name(&self, name: &str) -> Option<u32> {
        (name == "web").then_some(34)
    }
    fn has_group(&self, gid: u32) -> bool {
        gid == 34
    }
    fn home(&self, user: Option<&str>) -> Option<String> {
        matches!(user, None | Some("web")).then(|| "/home/web".to_owned())
    }
    fn is_directory(&self, path: &str) -> bool {
        matches!(path, "/" | "/log" | "/home/web")
    }
    fn own_uid(&self) -> u32 {
        0
    }
}

fn table<T: PartialEq + Debug>(
    parse: impl Fn(&str) -> Result<T, String>,
    rows: impl IntoIterator<Item = (&'static str, Result<T, &'static str>)>,
) {
    for (text, expected) in rows {
        assert_eq!(parse(text), expected.map_err(str::to_owned), "{text:?}");
    }
}

#[test]
fn booleans() {
    table(boolean, ["yes", "TRUE", "On", "1"].map(|text| (text, Ok(true))));
    table(boolean, ["no", "False", "OFF", "0"].map(|text| (text, Ok(false))));
    table(
        boolean,
        [
            ("maybe", Err("not a valid boolean value: 'maybe'")),
            ("", Err("not a valid boolean value: ''")),
            (" yes", Err("not a valid boolean value: ' yes'")),
        ],
    );
}

#[test]
fn numbers() {
    table(
        integer,
        [
            ("007", Ok(7)),
            (" -1_000 ", Ok(-1000)),
            ("1.5", Err("invalid literal for int() with base 10: '1.5'")),
            ("", Err("invalid literal for int() with base 10: ''")),
        ],
    );
    table(count, [("5", Ok(5)), ("-5", Ok(0)), ("x", Err("invalid literal for int() with base 10: 'x'"))]);
    table(
        byte_size,
        [
            ("10", Ok(10)),
            ("1KB", Ok(1024)),
            ("1 mb", Ok(1 << 20)),
            ("2GB", Ok(2 << 30)),
            ("-1", Ok(0)),
            ("1K", Err("invalid literal for int() with base 10: '1k'")),
            ("1.5MB", Err("invalid literal for int() with base 10: '1.5'")),
            ("MB", Err("invalid literal for int() with base 10: ''")),
            ("99999999999999999999gb", Ok(u64::MAX)),
        ],
    );
    table(
        octal,
        [
            ("022", Ok(0o22)),
            ("0o17", Ok(0o17)),
            ("9", Err("9 can not be converted to an octal type")),
            ("-1", Err("-1 can not be converted to an octal type")),
        ],
    );
}

#[test]
fn signals() {
    let accepted =
        [("HUP", 1), ("sigusr1", 10), (" Term ", 15), ("9", 9), ("CLD", 17), ("POLL", 29), ("RTMIN", 34)];
    table(signal, accepted.map(|(text, number)| (text, Ok(StopSignal(number)))));
    table(signal, [("0", 0), ("_IGN", 1), ("64", 64)].map(|(text, number)| (text, Ok(StopSignal(number)))));
    table(
        signal,
        [
            ("FOO", Err("value 'FOO' is not a valid signal name")),
            ("", Err("value '' is not a valid signal name")),
            ("999", Err("value '999' is not a valid signal number")),
            ("35", Err("value '35' is not a valid signal number")),
            ("-1", Err("value '-1' is not a valid signal number")),
        ],
    );
}

#[test]
fn lists_and_words() {
    table(
        exit_codes,
        [
            ("", Ok(vec![])),
            ("0, 2 ,255", Ok(vec![0, 2, 255])),
            ("0,256", Err("not a valid list of exit codes: '0,256'")),
            ("0,", Err("not a valid list of exit codes: '0,'")),
            ("-1", Err("not a valid list of exit codes: '-1'")),
        ],
    );
    table(
        auto_restart,
        [
            ("Unexpected", Ok(AutoRestart::Unexpected)),
            ("YES", Ok(AutoRestart::Always)),
            ("0", Ok(AutoRestart::Never)),
            ("Sometimes", Err("invalid 'autorestart' value 'sometimes'")),
        ],
    );
    table(
        log_level,
        [
            ("INFO", Ok(LogLevel::Info)),
            ("blather", Ok(LogLevel::Blather)),
            ("warning", Err("bad logging level name 'warning'")),
        ],
    );
    table(
        name,
        [
            (" x ", Ok("x".to_owned())),
            ("", Ok(String::new())),
            ("x y", Err("Invalid name: 'x y' because of character: ' '")),
            ("a:b", Err("Invalid name: 'a:b' because of character: ':'")),
            ("a/b", Err("Invalid name: 'a/b' because of character: '/'")),
        ],
    );
    assert_eq!(list(""), [""; 0]);
    assert_eq!(list("a, b ,"), ["a", "b", ""]);
}

#[test]
fn addresses() {
    let at = |host: &str, port| Ok((host.to_owned(), port));
    table(
        inet_address,
        [
            ("9001", at("", 9001)),
            (":9001", at("", 9001)),
            ("*:9001", at("", 9001)),
            ("LocalHost:1", at("localhost", 1)),
            ("foo", Err("not a valid port number: 'foo' ")),
            ("0", Err("not a valid port number: '0' ")),
            ("h:", Err("no port number specified in ''")),
            ("h:0", Err("0 is below lower bound (1)")),
            ("h:70000", Err("70000 is above upper bound (65535)")),
        ],
    );
    table(
        fastcgi_socket,
        [
            ("tcp://H:9000", Ok(FastCgiSocket::Tcp("h".to_owned(), 9000))),
            ("unix:///a/../b", Ok(FastCgiSocket::Unix("/b".into()))),
            ("foo", Err("('Bad socket format %s', 'foo')")),
            ("tcp://h:x", Err("('Bad socket format %s', 'tcp://h:x')")),
            ("unix://r", Err("('Unix socket path %s is not an absolute path', 'r')")),
        ],
    );
}

#[test]
fn users_and_owners() {
    table(
        |text| user(text, &TestMachine),
        [
            ("web", Ok(web())),
            ("33", Ok(web())),
            ("nosuch", Err("Invalid user name nosuch")),
            ("54321", Err("Invalid user id 54321")),
        ],
    );
    table(
        |text| owner(text, &TestMachine),
        [
            ("web", Ok(Owner { uid: 33, gid: u32::MAX })),
            ("33:web", Ok(Owner { uid: 33, gid: 34 })),
            ("web:34", Ok(Owner { uid: 33, gid: 34 })),
            ("web:nosuch", Err("Invalid user:group definition web:nosuch")),
            ("nosuch:web", Err("Invalid user:group definition nosuch:web")),
        ],
    );
}

#[test]
fn paths() {
    table(
        |text| path_in_existing_directory(text, &TestMachine),
        [
            ("x", Ok("x".to_owned())),
            ("/x", Ok("/x".to_owned())),
            ("/log/x", Ok("/log/x".to_owned())),
            ("~/x", Ok("/home/web/x".to_owned())),
            ("~web/x", Ok("/home/web/x".to_owned())),
            ("/no/x", Err("The directory named as part of the path /no/x does not exist")),
            ("~nosuch/x", Err("The directory named as part of the path ~nosuch/x does not exist")),
        ],
    );
    table(
        |text| existing_directory(text, &TestMachine),
        [("~", Ok("/home/web".to_owned())), ("/no", Err("/no is not an existing directory"))],
    );
    table(
        |text| program_log(text, &TestMachine),
        [
            ("NONE", Ok(ProgramLog::Target(LogTarget::None))),
            ("off", Ok(ProgramLog::Target(LogTarget::None))),
            ("", Ok(ProgramLog::Target(LogTarget::None))),
            ("Auto", Ok(ProgramLog::Target(LogTarget::Auto))),
            ("syslog", Ok(ProgramLog::Syslog)),
            ("x.log", Ok(ProgramLog::Target(LogTarget::File("x.log".into())))),
        ],
    );
}
