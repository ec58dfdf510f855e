//! XML-RPC over a raw connection: many clients, slow ones, broken ones, and what the others notice of them.
//! T-numbers are scenarios of the project's list of what users suffer from.

use std::{
    io::{self, Read, Write},
    net::Shutdown,
    os::unix::net::UnixStream,
    thread,
};

use supervisor_tests::{BOUND, Daemon, Signal, kill, processes};

const PROGRAM: &str = "[program:x]\ncommand=$ACTOR sleep\nstartsecs=0\n";

/// A request by HTTP/1.1 with this body.
fn post(body: &str) -> String {
    format!("POST /RPC2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn call(method: &str, params: &str) -> String {
    post(&format!(
        "<?xml version='1.0'?><methodCall><methodName>{method}</methodName><params>{params}</params></methodCall>"
    ))
}

fn connect(daemon: &Daemon) -> UnixStream {
    let stream = UnixStream::connect(daemon.path("s.sock")).expect("a connection");
    stream.set_read_timeout(Some(BOUND)).expect("a bound");
    stream
}

/// Reads one answer: its status line, and its body.
fn read_answer(stream: &mut UnixStream) -> io::Result<(String, String)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).to_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    Ok((head.lines().next().unwrap_or_default().to_owned(), String::from_utf8_lossy(&body).into_owned()))
}

fn ask(daemon: &Daemon, request: &str) -> (String, String) {
    let mut stream = connect(daemon);
    stream.write_all(request.as_bytes()).expect("sent");
    read_answer(&mut stream).expect("an answer")
}

#[test]
fn t55_broken_oversized_and_slow_requests_hinder_nobody() {
    let daemon = Daemon::start(PROGRAM);
    let bomb = "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><methodCall><methodName>&b;</methodName></methodCall>";
    for (request, status) in [
        (post("no xml"), "400"),
        (post(bomb), "400"),
        (post(&"<a>".repeat(100_000)), "400"),
        ("POST /RPC2 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "411"),
        ("POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n".to_owned(), "413"),
        ("GET /RPC2 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(), "400"),
    ] {
        let (line, _) = ask(&daemon, &request);
        assert!(line.contains(status), "{line}: {}", &request[..request.len().min(80)]);
    }
    // Clients that say nothing, half a header, or half a body.
    let silent: Vec<_> = (0..200)
        .map(|n| {
            let mut stream = connect(&daemon);
            let whole = call("supervisor.getState", "");
            let length = [0, 10, whole.len() - 5][n % 3];
            stream.write_all(&whole.as_bytes()[..length]).expect("sent");
            stream
        })
        .collect();
    let (line, body) = ask(&daemon, &call("supervisor.getState", ""));
    assert!(line.contains("200") && body.contains("RUNNING"), "{line} {body}");
    let descriptors =
        || std::fs::read_dir(format!("/proc/{}/fd", daemon.daemon_pid())).map_or(0, Iterator::count);
    assert!(descriptors() > 200);
    drop(silent);
    daemon.until("the descriptors of clients that left to be closed", || descriptors() < 60);
    assert!(processes::is_alive(daemon.daemon_pid()));
}

#[test]
fn fifty_clients_at_once_are_all_answered() {
    let daemon = Daemon::start(PROGRAM);
    daemon.until_state("x", "RUNNING");
    thread::scope(|scope| {
        for _ in 0..50 {
            scope.spawn(|| {
                let mut stream = connect(&daemon);
                for _ in 0..20 {
                    stream.write_all(call("supervisor.getAllProcessInfo", "").as_bytes()).expect("sent");
                    let (line, body) = read_answer(&mut stream).expect("an answer");
                    assert!(line.contains("200") && body.contains("RUNNING"), "{line}");
                }
            });
        }
    });
}

#[test]
fn t56_answers_on_one_connection_come_in_the_order_of_the_requests() {
    let daemon = Daemon::start(PROGRAM);
    let mut stream = connect(&daemon);
    let methods =
        ["supervisor.getAPIVersion", "supervisor.getIdentification", "nosuch.method", "supervisor.getPID"];
    let all: String = methods.iter().map(|method| call(method, "")).collect();
    stream.write_all(all.as_bytes()).expect("sent");
    let pid = daemon.daemon_pid().to_string();
    for expected in ["3.0", "<string>supervisor</string>", "UNKNOWN_METHOD", &pid] {
        let (_, body) = read_answer(&mut stream).expect("an answer");
        assert!(body.contains(expected), "{expected}: {body}");
    }
}

#[test]
fn a_start_that_waits_blocks_no_other_client() {
    let daemon = Daemon::start(
        "[program:slow]\ncommand=$ACTOR sleep\nstartsecs=3600\nautostart=false\n\
         [program:soon]\ncommand=$ACTOR sleep\nstartsecs=1\nautostart=false\n",
    );
    let mut waiting = connect(&daemon);
    let name = "<param><value><string>slow</string></value></param>";
    waiting.write_all(call("supervisor.startProcess", name).as_bytes()).expect("sent");
    daemon.until_state("slow", "STARTING");
    let (_, body) = ask(&daemon, &call("supervisor.getProcessInfo", name));
    assert!(body.contains("STARTING"), "answered while the other waits: {body}");
    let (_, body) = ask(&daemon, &call("supervisor.startProcess", &name.replace("slow", "soon")));
    assert!(body.contains("<boolean>1</boolean>"), "so is another that waits: {body}");
    kill(daemon.process_pid("slow"), Signal::SIGKILL);
    let (_, body) = read_answer(&mut waiting).expect("an answer");
    assert!(body.contains("<name>faultCode</name>"), "{body}");
}

/// `nc -N` and `socat` do so.
#[test]
fn who_closes_its_side_after_the_request_is_answered_and_a_log_is_followed_no_further() {
    let daemon = Daemon::start(&format!(
        "{PROGRAM}stdout_logfile=$DIR/x.log\n[program:slow]\ncommand=$ACTOR sleep\nstartsecs=1\nautostart=false\n"
    ));
    daemon.until_state("x", "RUNNING");
    std::fs::write(daemon.path("x.log"), "a line\n").expect("written");
    let page = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned();
    let log = "GET /logtail/x HTTP/1.1\r\nHost: x\r\n\r\n".to_owned();
    let start = call("supervisor.startProcess", "<param><value><string>slow</string></value></param>");
    for (request, expected) in [
        (call("supervisor.getState", ""), "RUNNING"),
        (call("supervisor.getAllProcessInfo", ""), "RUNNING"),
        (call("system.multicall", "<param><value><array><data/></array></value></param>"), "<data>"),
        (start, "<boolean>1</boolean>"),
        (page, "</html>"),
        (log, "a line"),
    ] {
        for _ in 0..5 {
            let mut stream = connect(&daemon);
            stream.write_all(request.as_bytes()).expect("sent");
            stream.shutdown(Shutdown::Write).expect("closed on this side");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).expect("an answer and its end");
            assert!(answer.contains(expected), "{request}\n{answer}");
            if request.contains("startProcess") {
                break;
            }
        }
    }
}

#[test]
fn programs_whose_names_look_like_wildcards_are_steered_by_them() {
    let daemon = Daemon::start(
        "[program:st*r]\ncommand=$ACTOR sleep\nstartsecs=0\nstdout_logfile=$DIR/x.log\n\
         [program:star]\ncommand=$ACTOR sleep\nstartsecs=0\n\
         [program:br[1]]\ncommand=$ACTOR sleep\nstartsecs=0\n",
    );
    for name in ["st*r", "star", "br[1]"] {
        daemon.until_state(name, "RUNNING");
    }
    let star = daemon.process_pid("star");
    let value = |text: &str| format!("<param><value><string>{text}</string></value></param>");
    for name in ["st*r", "st*r:st*r", "br[1]"] {
        for (method, rest, expected) in [
            ("getProcessInfo", "", "<string>RUNNING</string>"),
            ("signalProcess", "CONT", "<boolean>1</boolean>"),
            ("signalProcessGroup", "CONT", if name.contains(':') { "BAD_NAME" } else { "<int>80</int>" }),
            ("sendProcessStdin", "x", "<boolean>1</boolean>"),
            ("stopProcess", "", "<boolean>1</boolean>"),
            ("stopProcess", "", "NOT_RUNNING"),
            ("startProcess", "", "<boolean>1</boolean>"),
        ] {
            let rest = if rest.is_empty() { String::new() } else { value(rest) };
            let (_, body) = ask(&daemon, &call(&format!("supervisor.{method}"), &(value(name) + &rest)));
            assert!(body.contains(expected) && !body.contains(">star<"), "{method} {name}: {body}");
        }
    }
    let (_, body) = ask(&daemon, &call("supervisor.stopProcess", &value("st*r:*")));
    assert!(body.contains(">st*r<") && !body.contains(">star<"), "{body}");
    let (_, body) = ask(&daemon, &call("supervisor.getProcessInfo", &value("s*")));
    assert!(body.contains("BAD_NAME: s*"), "no wildcards here: {body}");
    let mut stream = connect(&daemon);
    stream.write_all(b"GET /logtail/st%2Ar HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("sent");
    let mut line = [0; 15];
    stream.read_exact(&mut line).expect("an answer");
    assert_eq!(&line, b"HTTP/1.1 200 OK");
    // supervisorctl means by it what is called so.
    assert_eq!(daemon.ctl("start st*r").stdout, "st*r: started\n");
    assert_eq!(daemon.ctl("stop st*r").stdout, "st*r: stopped\n");
    assert_eq!(daemon.process_pid("star"), star);
}

#[test]
fn a_signal_reaches_a_group_by_priority() {
    let daemon = Daemon::start(
        "[program:m1]\ncommand=$ACTOR sleep\nstartsecs=0\npriority=20\n\
         [program:m2]\ncommand=$ACTOR sleep\nstartsecs=0\npriority=10\n[group:g]\nprograms=m1,m2\n",
    );
    for name in ["g:m1", "g:m2"] {
        daemon.until_state(name, "RUNNING");
    }
    let signal = "<param><value><string>CONT</string></value></param>";
    let group = "<param><value><string>g</string></value></param>";
    for (method, params) in
        [("signalProcessGroup", format!("{group}{signal}")), ("signalAllProcesses", signal.to_owned())]
    {
        let (_, body) = ask(&daemon, &call(&format!("supervisor.{method}"), &params));
        let [first, second] = ["m2", "m1"].map(|name| body.find(&format!(">{name}<")).expect("signalled"));
        assert!(first < second, "{body}");
    }
}

#[test]
fn numbers_without_bound_and_odd_arguments_of_a_multicall_are_read_as_by_python() {
    let daemon = Daemon::start(&format!("{PROGRAM}stdout_logfile=$DIR/x.log\n"));
    daemon.until_state("x", "RUNNING");
    std::fs::write(daemon.path("x.log"), "a line\n").expect("written");
    let huge = "1000000000000000000000000000000";
    for (method, offset, length, expected) in [
        ("tailProcessStdoutLog", huge, "5", "<string></string>"),
        ("tailProcessStdoutLog", &format!("-{huge}"), "5", "<string>line\n</string>"),
        ("tailProcessStdoutLog", "0", huge, "<string>a line\n</string>"),
        ("readProcessStdoutLog", "0", &format!("-{huge}"), "BAD_ARGUMENTS"),
        ("readProcessStdoutLog", "2", huge, "<string>line\n</string>"),
    ] {
        let numbers =
            [offset, length].map(|number| format!("<param><value><int>{number}</int></value></param>"));
        let params = format!("<param><value>x</value></param>{}", numbers.concat());
        let (_, body) = ask(&daemon, &call(&format!("supervisor.{method}"), &params));
        assert!(body.contains(expected), "{method} {offset} {length}: {body}");
    }
    let member =
        |name: &str, value: &str| format!("<member><name>{name}</name><value>{value}</value></member>");
    let calls = ["<string/>", "<struct/>", "<array><data/></array>"].map(|params| {
        let members = member("methodName", "supervisor.getAPIVersion") + &member("params", params);
        format!("<value><struct>{members}</struct></value>")
    });
    let calls = format!("<param><value><array><data>{}</data></array></value></param>", calls.concat());
    let (_, body) = ask(&daemon, &call("system.multicall", &calls));
    assert_eq!(body.matches("<string>3.0</string>").count(), 3, "{body}");
}

#[test]
fn a_log_of_any_bytes_is_delivered_as_xml() {
    let daemon = Daemon::prepare(
        "[program:x]\ncommand=$ACTOR copy=$DIR/bytes sleep\nstartsecs=0\nstdout_logfile=$DIR/x.log\n",
    );
    let bytes: Vec<u8> = (0..=255).chain(b"\x1b[31mred\n".iter().copied()).collect();
    std::fs::write(daemon.path("bytes"), &bytes).expect("the bytes");
    let mut daemon = daemon;
    daemon.launch(&[]);
    daemon.until("the log", || daemon.read_bytes("x.log").len() == bytes.len());
    let params = "<param><value>x</value></param><param><value><int>0</int></value></param><param><value><int>0</int></value></param>";
    let (line, body) = ask(&daemon, &call("supervisor.readProcessStdoutLog", params));
    assert!(line.contains("200") && body.contains("[31mred"), "{line} {body}");
    assert!(
        body.chars().all(|c| matches!(c, '\t' | '\n' | ' '..)),
        "a character that XML cannot carry: {body:?}"
    );
}

#[test]
fn a_start_that_fails_at_once_is_told_also_to_who_does_not_wait() {
    let daemon = Daemon::start(
        "[program:x]\ncommand=$ACTOR sleep\ndirectory=/nonexistent\nautostart=false\nstartretries=0\n\
         [program:y]\ncommand=$ACTOR sleep\nautostart=false\n",
    );
    let start = |name: &str| {
        let params =
            format!("<param><value>{name}</value></param><param><value><boolean>0</boolean></value></param>");
        ask(&daemon, &call("supervisor.startProcess", &params)).1
    };
    assert!(start("y").contains("<boolean>1</boolean>"));
    let answer = start("x");
    assert!(answer.contains("<int>50</int>") && answer.contains("SPAWN_ERROR: x"), "{answer}");
}
