//! The sockets of `[unix_http_server]` and `[inet_http_server]`: who may come in, what is said about open doors, and what
//! becomes of them when the daemon starts anew.

use std::net::TcpListener;

use supervisor_tests::{
    Daemon, Signal,
    http::{self, Answer, basic},
};

const PROGRAM: &str = "[program:x]\ncommand=$ACTOR sleep\nstartsecs=0\nstdout_logfile=$DIR/x.log\n";

fn inet(name: &str, port: u16, more: &str) -> String {
    format!("[inet_http_server{name}]\nport=127.0.0.1:{port}\n{more}\n")
}

fn by_port(port: u16, what: (&str, &str), headers: &str) -> Answer {
    http::ask(http::connect_port(port).expect("a connection"), what, headers, "")
}

fn status_of_port(port: u16, headers: &str) -> u16 {
    by_port(port, ("GET", "/ok.html"), headers).status
}

#[test]
fn every_path_of_both_protocols_asks_for_the_password() {
    let port = http::free_port();
    let locked = "username=alice\npassword=se:cret";
    let daemon = Daemon::start(&format!(
        "{PROGRAM}{}[unix_http_server]\nusername=alice\npassword={{SHA}}9ee0a1c8fd1d8d4a8f8ff4e9d5a4c8d4e9e2c1f0\n\
         [supervisorctl]\nserverurl=http://127.0.0.1:{port}\nusername=alice\npassword=se:cret\n",
        inet("", port, locked)
    ));
    daemon.until_state("x", "RUNNING");
    let paths = [
        "/",
        "/index.html",
        "/index.html?processname=x&action=stop",
        "/tail.html?processname=x",
        "/ok.html",
        "/RPC2",
        "//RPC2",
        "/%52PC2",
        "/RPC2/",
        "/logtail/x",
        "/logtail/x/stderr",
        "/mainlogtail",
        "/ui/changes",
        "/ui/style.css",
        "/ui/follow?channel=main",
        "/nosuch",
        "/supervisor.v1.Supervisor/ListProcesses",
        "*",
        "http://localhost/RPC2",
    ];
    let wrong = [
        String::new(),
        basic("alice", "wrong"),
        basic("alice", "se"),
        basic("Alice", "se:cret"),
        basic("", ""),
        "Authorization: Basic !!!\r\n".to_owned(),
        "Authorization: Bearer abc\r\n".to_owned(),
        basic("alice", "se:cret").replace("Basic", "Digest"),
    ];
    for path in paths {
        for method in ["GET", "POST", "HEAD", "OPTIONS", "DELETE"] {
            for headers in &wrong {
                let answer = by_port(port, (method, path), headers);
                assert_eq!(answer.status, 401, "{method} {path} {headers}");
                assert_eq!(answer.header("www-authenticate"), Some("Basic realm=\"default\""), "{path}");
            }
        }
    }
    assert_eq!(status_of_port(port, &basic("alice", "se:cret")), 200);
    // gRPC, by the name and password of the configuration, and by others.
    assert!(daemon.ctl("status x").stdout.contains("RUNNING"));
    let refused = daemon.ctl_words(&["-u", "alice", "-p", "wrong", "stop", "x"]);
    assert_ne!(refused.status, 0);
    assert!(refused.stdout.contains("Server requires authentication"), "{refused:?}");
    // The other socket has another password.
    let url = format!("unix://{}", daemon.path("s.sock").display());
    let refused = daemon.ctl_words(&["-s", &url, "stop", "x"]);
    assert!(refused.stdout.contains("Server requires authentication"), "{refused:?}");
    assert_eq!(daemon.state("x"), "RUNNING", "nothing was done");
}

#[test]
fn several_sockets_each_with_its_own_password_serve_at_once() {
    let [one, two, three] = [http::free_port(), http::free_port(), http::free_port()];
    let daemon = Daemon::start(&format!(
        "{PROGRAM}{}{}{}[unix_http_server:second]\nfile=$DIR/second.sock\n",
        inet("", one, ""),
        inet(":two", two, "username=u\npassword=two"),
        inet("three", three, "username=u\npassword=three"),
    ));
    assert_eq!(status_of_port(one, ""), 200);
    for (port, password, status) in
        [(two, "two", 200), (two, "three", 401), (three, "three", 200), (three, "two", 401)]
    {
        assert_eq!(status_of_port(port, &basic("u", password)), status, "{port} {password}");
    }
    let second = http::ask(http::connect(&daemon.path("second.sock")), ("GET", "/ok.html"), "", "");
    assert_eq!(second.status, 200);
    // Source: Supervisor 4.3, which says these lines for each.
    let log = daemon.log();
    assert_eq!(log.matches("INFO RPC interface 'supervisor' initialized").count(), 5, "{log}");
    for (section, times) in [
        ("inet_http_server", 1),
        ("unix_http_server", 1),
        ("unix_http_server:second", 1),
        ("inet_http_server:two", 0),
        ("inet_http_serverthree", 0),
    ] {
        let line = format!("CRIT Server '{section}' running without any HTTP authentication checking");
        assert_eq!(log.matches(&line).count(), times, "{section}\n{log}");
    }
}

#[test]
fn an_open_port_is_warned_of_and_loudly_on_all_interfaces() {
    let [narrow, wide, locked] = [http::free_port(), http::free_port(), http::free_port()];
    let daemon = Daemon::start(&format!(
        "{PROGRAM}{}[inet_http_server:wide]\nport=*:{wide}\n[inet_http_server:locked]\nport={locked}\nusername=u\npassword=p\n",
        inet("", narrow, "")
    ));
    let log = daemon.log();
    let line = |text: &str| {
        log.lines().find(|line| line.contains(text)).unwrap_or_else(|| panic!("no {text}\n{log}"))
    };
    let narrow = line(&format!("[inet_http_server] listens on 127.0.0.1:{narrow} without a password"));
    assert!(narrow.contains(" WARN ") && narrow.contains("every user of this machine"), "{narrow}");
    let wide = line(&format!("[inet_http_server:wide] listens on ALL INTERFACES (0.0.0.0:{wide})"));
    assert!(wide.contains(" CRIT ") && wide.contains("set username and password"), "{wide}");
    assert!(!log.contains("[inet_http_server:locked] listens"), "{log}");
}

#[test]
fn a_reload_lets_in_by_the_new_password_at_the_same_port() {
    let port = http::free_port();
    let with =
        |password: &str| format!("{PROGRAM}{}", inet("", port, &format!("username=u\npassword={password}")));
    let daemon = Daemon::start(&with("old"));
    assert_eq!(status_of_port(port, &basic("u", "old")), 200);
    daemon.configure(&with("new"));
    assert_eq!(daemon.ctl("reload").status, 0);
    daemon.until("a second start", || daemon.log().matches("supervisord started with pid").count() == 2);
    daemon.until_state("x", "RUNNING");
    assert_eq!(status_of_port(port, &basic("u", "old")), 401);
    assert_eq!(status_of_port(port, &basic("u", "new")), 200);
    assert!(!daemon.log().contains("no client can connect"), "{}", daemon.log());
}

#[test]
fn a_reload_compares_with_what_is_served_and_not_with_what_was_read() {
    let port = http::free_port();
    let with =
        |password: &str| format!("{PROGRAM}{}", inet("", port, &format!("username=u\npassword={password}")));
    let daemon = Daemon::start(&with("old"));
    let reload = |count| {
        daemon.signal(Signal::SIGHUP);
        daemon.until("a start", || daemon.log().matches("supervisord started with pid").count() == count);
    };
    daemon.configure(&with("new"));
    daemon.ctl("reread").is("No config updates to processes\n");
    reload(2);
    assert_eq!(status_of_port(port, &basic("u", "old")), 401);
    assert_eq!(status_of_port(port, &basic("u", "new")), 200);
    std::fs::remove_file(daemon.path("s.sock")).expect("a socket");
    reload(3);
    daemon.ctl("pid").is(&format!("{}\n", daemon.daemon_pid()));
    // What could not be had is tried again.
    daemon.configure(PROGRAM);
    reload(4);
    let holder = TcpListener::bind(("127.0.0.1", port)).expect("the port is free");
    daemon.configure(&with("newest"));
    reload(5);
    daemon.until_log("no client can connect to [inet_http_server]");
    drop(holder);
    reload(6);
    assert_eq!(status_of_port(port, &basic("u", "newest")), 200);
}

#[test]
fn a_reload_moves_sockets_and_one_that_cannot_be_had_takes_no_other_away() {
    let [first, second] = [http::free_port(), http::free_port()];
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("its address").port();
    let daemon = Daemon::start(&format!("{PROGRAM}{}", inet("", first, "")));
    daemon.configure(&format!(
        "{PROGRAM}{}{}[unix_http_server:more]\nfile=$DIR/more.sock\n",
        inet("", second, ""),
        inet(":taken", taken, ""),
    ));
    assert_eq!(daemon.ctl("reload").status, 0);
    daemon.until("a second start", || daemon.log().matches("supervisord started with pid").count() == 2);
    daemon.until_state("x", "RUNNING");
    assert_eq!(status_of_port(second, ""), 200);
    assert!(http::connect_port(first).is_err(), "nobody listens there any more");
    let more = http::ask(http::connect(&daemon.path("more.sock")), ("GET", "/ok.html"), "", "");
    assert_eq!(more.status, 200);
    daemon
        .until_log("no client can connect to [inet_http_server:taken]: Another program is already listening");
    drop(holder);
    // Once more, back to what it was: the file of the socket that is gone is removed.
    daemon.configure(PROGRAM);
    assert_eq!(daemon.ctl("reload").status, 0);
    daemon.until("a third start", || daemon.log().matches("supervisord started with pid").count() == 3);
    daemon.until_state("x", "RUNNING");
    assert!(!daemon.path("more.sock").exists());
    assert!(http::connect_port(second).is_err());
}

#[test]
fn without_the_rpc_interface_its_methods_are_unknown_and_the_page_works() {
    let daemon = Daemon::prepare("");
    let text = daemon.read("supervisord.conf").replace("[rpcinterface:supervisor]", "[other:section]");
    std::fs::write(daemon.config_file(), format!("{text}{}", daemon.expand(PROGRAM))).expect("written");
    let mut daemon = daemon;
    daemon.launch(&[]);
    let call = |method: &str| {
        let body = format!("<methodCall><methodName>{method}</methodName></methodCall>");
        http::ask(http::connect(&daemon.path("s.sock")), ("POST", "/RPC2"), "", &body).body
    };
    let fault = "<value><int>1</int></value>\n</member>\n<member>\n<name>faultString</name>\n<value><string>UNKNOWN_METHOD<";
    for method in ["supervisor.getState", "supervisor.shutdown", "supervisor.nosuch"] {
        assert!(call(method).contains(fault), "{method}");
    }
    let methods = call("system.listMethods");
    assert!(methods.contains("system.multicall") && !methods.contains("supervisor."), "{methods}");
    let page = http::ask(http::connect(&daemon.path("s.sock")), ("GET", "/"), "", "");
    assert!(page.body.contains("data-name=\"x\""), "{}", page.body);
    assert!(!daemon.log().contains("RPC interface"), "{}", daemon.log());
    // gRPC is no XML-RPC interface.
    assert!(daemon.ctl("status x").stdout.contains('x'));
}
