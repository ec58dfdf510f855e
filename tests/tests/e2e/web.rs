//! The web page by plain HTTP: what it shows, what it does, what it refuses. `tests/web.py` looks at it in a browser.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test fails by a panic")]

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
};

use supervisor_tests::{BOUND, Daemon, Signal, kill};

const PROGRAMS: &str = "\
[program:one]
command=$ACTOR sleep
startsecs=0
[program:off]
command=$ACTOR sleep
autostart=false
startsecs=0
[program:gone]
command=/nonexistent/program
autostart=false
[group:pair]
programs=left,right
[program:left]
command=$ACTOR sleep
startsecs=0
[program:right]
command=$ACTOR sleep
startsecs=0
";

/// What makes a request look like one of a browser on our own page.
const BROWSER: &str = "User-Agent: Mozilla/5.0\r\nSec-Fetch-Site: same-origin\r\n";

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    fn token(&self) -> String {
        let (_, rest) = self.body.split_once("name=\"token\" value=\"").expect("a form with a secret");
        rest.split('"').next().unwrap().to_owned()
    }
}

/// Sends one request and reads the whole answer.
fn ask(daemon: &Daemon, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let mut stream = UnixStream::connect(daemon.path("s.sock")).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let length = body.len();
    let text = format!(
        "{method} {path} HTTP/1.1\r\nHost: sup.example:9001\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(text.as_bytes()).unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    let reply = String::from_utf8_lossy(&reply).into_owned();
    let (head, body) = reply.split_once("\r\n\r\n").expect("a complete answer");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

fn get(daemon: &Daemon, path: &str) -> Answer {
    ask(daemon, "GET", path, "", "")
}

/// A stream of changes, as a browser listens to it.
struct Changes(BufReader<UnixStream>);

impl Changes {
    fn open(daemon: &Daemon, since: &str) -> Self {
        let mut stream = UnixStream::connect(daemon.path("s.sock")).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        let text = format!("GET /ui/changes?since={since} HTTP/1.1\r\nHost: x\r\n{BROWSER}\r\n");
        stream.write_all(text.as_bytes()).unwrap();
        Self(BufReader::new(stream))
    }

    /// Reads until a line contains `text`.
    fn until(&mut self, text: &str) -> String {
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream ended before {text:?}");
            if line.contains(text) {
                return line;
            }
        }
    }
}

#[test]
fn the_page_shows_every_process_with_what_can_be_done_to_it() {
    let daemon = Daemon::start(PROGRAMS);
    for path in ["/", "/index.html", "/?message=x"] {
        let page = get(&daemon, path);
        assert_eq!(page.status, 200);
        assert_eq!(page.header("content-type"), Some("text/html;charset=utf-8"));
        assert_eq!(page.header("cache-control"), Some("no-cache"));
        assert!(page.header("content-security-policy").unwrap().contains("default-src 'none'"));
        assert_eq!(page.header("x-frame-options"), Some("DENY"));
        assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
        for name in ["one", "off", "pair:left", "pair:right"] {
            assert!(page.body.contains(&format!("data-name=\"{name}\"")), "{name}\n{}", page.body);
        }
        assert!(page.body.contains("index.html?processname=pair%3Aleft&amp;action=stop"), "{}", page.body);
    }
    let ok = get(&daemon, "/ok.html");
    assert_eq!((ok.status, ok.body.as_str()), (200, "OK"));
    let head = ask(&daemon, "HEAD", "/", "", "");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(get(&daemon, "/ui/nothing.js").status, 404);
    assert_eq!(get(&daemon, "/nothing.html").status, 404);
    assert_eq!(ask(&daemon, "DELETE", "/", "", "").status, 405);
    for path in ["/nothing.html", "/logtail/nothing", "/ui/nothing.js"] {
        let answer = get(&daemon, path);
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("x-frame-options"), Some("DENY"), "{path}");
        assert!(
            answer.header("content-security-policy").unwrap().contains("frame-ancestors 'none'"),
            "{path}"
        );
    }
    let style = get(&daemon, "/ui/style.css");
    assert_eq!((style.status, style.header("content-type")), (200, Some("text/css; charset=utf-8")));
}

#[test]
fn scripts_go_on_using_the_addresses_of_supervisors_page() {
    let daemon = Daemon::start(PROGRAMS);
    daemon.until_state("one", "RUNNING");
    for (query, message) in [
        ("processname=one&action=stop", "Process%20one%20stopped"),
        ("processname=one&action=stop", "unexpected%20rpc%20fault%20%5B70%5D%20NOT_RUNNING%3A%20one"),
        ("processname=one&action=start", "Process%20one%20started"),
        ("processname=one&action=start", "ERROR%3A%20Process%20one%3A%20already%20started"),
        ("processname=gone&action=start", "ERROR%3A%20Process%20gone%3A%20no%20such%20file"),
        ("processname=off&action=restart", "Process%20off%20restarted"),
        ("processname=pair%3Aleft&action=clearlog", "Log%20for%20pair%3Aleft%20cleared"),
        ("processname=pair%3A*&action=stop", "No%20such%20process%20named%20pair%3A%2A"),
        ("processname=all&action=stop", "No%20such%20process%20named%20all"),
    ] {
        let reply = get(&daemon, &format!("/index.html?{query}"));
        assert_eq!(reply.status, 301, "{query}");
        let location = format!("http://sup.example:9001/?message={message}");
        assert_eq!(reply.header("location"), Some(location.as_str()), "{query}");
    }
    let reply = ask(&daemon, "POST", "/index.html", "", "action=stopall");
    assert!(reply.header("location").unwrap().contains("message=All%20stopped%20at%20"), "{}", reply.head);
    assert_eq!(daemon.state("pair:left"), "STOPPED");
    assert_eq!(get(&daemon, "/index.html?action=dance").status, 400);
}

#[test]
fn a_browser_acts_by_our_own_forms_only() {
    let daemon = Daemon::start(PROGRAMS);
    daemon.until_state("one", "RUNNING");
    let path = "/index.html?processname=one&action=stop";
    // A link shows a question.
    let question = ask(&daemon, "GET", path, BROWSER, "");
    assert_eq!(question.status, 200);
    assert!(question.body.contains("Stop one?"), "{}", question.body);
    // Forms of other sites, forms without the secret, images: nothing.
    let token = format!("token={}", question.token());
    let foreign = "User-Agent: Mozilla/5.0\r\nSec-Fetch-Site: cross-site\r\n";
    let origin = "User-Agent: Mozilla/5.0\r\nOrigin: http://evil.example\r\n";
    for (method, headers, body) in [
        ("POST", foreign, token.as_str()),
        ("POST", origin, token.as_str()),
        ("GET", foreign, ""),
        ("POST", BROWSER, "token=wrong"),
        ("POST", BROWSER, ""),
    ] {
        assert_eq!(ask(&daemon, method, path, headers, body).status, 403, "{method} {headers} {body}");
    }
    let image = "User-Agent: Mozilla/5.0\r\nAccept: image/*\r\n";
    assert_eq!(ask(&daemon, "GET", path, image, "").status, 200);
    assert_eq!(ask(&daemon, "HEAD", path, "", "").status, 200);
    assert_eq!(daemon.state("one"), "RUNNING");
    // What RPC clients use is closed to foreign pages too.
    assert_eq!(ask(&daemon, "POST", "/RPC2", origin, "<methodCall/>").status, 403);
    // A form of an old browser that keeps silent about where it comes from.
    let old = "User-Agent: Mozilla/5.0\r\nAccept-Language: en\r\nContent-Type: text/plain\r\n";
    let call = "<methodCall><methodName>supervisor.stopAllProcesses</methodName></methodCall>";
    assert_eq!(ask(&daemon, "POST", "/RPC2", old, call).status, 403);
    assert_eq!(ask(&daemon, "POST", path, old, "token=wrong").status, 403);
    // The same with bytes, which go without a content type.
    for bytes in ["User-Agent: Mozilla/5.0 Firefox/60.0\r\n", "User-Agent: Mozilla/5.0\r\nContent-Type:\r\n"]
    {
        assert_eq!(ask(&daemon, "POST", "/RPC2", bytes, call).status, 403, "{bytes}");
        assert_eq!(ask(&daemon, "POST", path, bytes, "token=wrong").status, 403, "{bytes}");
    }
    assert_eq!(daemon.state("one"), "RUNNING");
    // Scripts need not say what they send.
    let version = "<methodCall><methodName>supervisor.getSupervisorVersion</methodName></methodCall>";
    let answer = ask(&daemon, "POST", "/RPC2", "User-Agent: curl/8.5\r\n", version);
    assert!(answer.status == 200 && answer.body.contains("<string>4."), "{}\n{}", answer.head, answer.body);
    let done = ask(&daemon, "POST", path, BROWSER, &token);
    assert_eq!((done.status, done.header("location")), (303, Some("./?message=Process%20one%20stopped")));
    assert_eq!(daemon.state("one"), "STOPPED");
    let words = format!("{BROWSER}Accept: text/plain\r\n");
    let done = ask(&daemon, "POST", "/index.html?processname=one&action=start", &words, &token);
    assert_eq!((done.status, done.body.as_str()), (200, "Process one started"));
}

#[test]
fn messages_and_names_cannot_become_markup() {
    let daemon = Daemon::start("[program:<b>x&y]\ncommand=$ACTOR sleep\nautostart=false\n");
    let page = get(&daemon, "/?message=%3Cscript%3Ealert(1)%3C/script%3E");
    assert!(page.body.contains("&lt;script&gt;alert(1)"), "{}", page.body);
    assert!(page.body.contains("data-name=\"&lt;b&gt;x&amp;y\""), "{}", page.body);
    let led = "User-Agent: Mozilla/5.0\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document\r\n";
    let page = ask(&daemon, "GET", "/?message=Call%20me", led, "");
    assert!(page.status == 200 && !page.body.contains("Call me"), "{}", page.body);
    let tail = get(&daemon, "/tail.html?processname=%3Cscript%3E");
    assert!(tail.body.contains("ERROR: unexpected rpc fault [10] BAD_NAME: &lt;script&gt;"), "{}", tail.body);
}

#[test]
fn changes_reach_the_page_without_being_asked_for() {
    let daemon = Daemon::start(PROGRAMS);
    daemon.until_state("one", "RUNNING");
    let page = get(&daemon, "/");
    let since = page.body.split("data-since=\"").nth(1).unwrap().split('"').next().unwrap();
    let mut changes = Changes::open(&daemon, since);
    let first = changes.until("data: ");
    assert!(first.contains("\"rows\":[]") && first.contains("\"total\":5"), "{first}");
    daemon.ctl("stop one");
    let line = changes.until("s-stopped");
    assert!(line.contains("data-name=\\\"one\\\"") && !line.contains("pair:left"), "{line}");
    // One that knows nothing of this daemon is told to begin afresh.
    Changes::open(&daemon, "other.5").until("event: fresh");
    // A program that comes is seen, also one that is not started.
    daemon.configure(&format!("{PROGRAMS}[program:late]\ncommand=$ACTOR sleep\nautostart=false\n"));
    daemon.ctl("update");
    changes.until("\"total\":6");
    // The end of the daemon is not held up by whoever listens.
    drop(page);
}

#[test]
fn changes_can_be_asked_for_once_where_streams_do_not_get_through() {
    let daemon = Daemon::start(PROGRAMS);
    daemon.until_state("one", "RUNNING");
    let page = get(&daemon, "/");
    let since = page.body.split("data-since=\"").nth(1).unwrap().split('"').next().unwrap();
    daemon.ctl("stop one");
    let news = get(&daemon, &format!("/ui/changes?once=1&since={since}"));
    assert_eq!((news.status, news.header("cache-control")), (200, Some("no-store")));
    assert!(news.body.contains("s-stopped") && news.body.contains("\nid: "), "{}", news.body);
    let news = get(&daemon, "/ui/changes?once=1&since=other.5");
    assert!(news.body.contains("event: fresh") && !news.body.contains("\nid: "), "{}", news.body);
}

#[test]
fn a_client_that_does_not_read_holds_up_nobody() {
    let mut daemon = Daemon::start(PROGRAMS);
    daemon.until_state("one", "RUNNING");
    let _silent: Vec<Changes> = (0..20).map(|_| Changes::open(&daemon, "")).collect();
    for _ in 0..5 {
        assert_eq!(get(&daemon, "/index.html?processname=one&action=restart").status, 301);
    }
    assert_eq!(daemon.state("one"), "RUNNING");
    assert!(daemon.terminate().success());
}

#[test]
fn streams_are_bounded_and_their_places_are_given_back() {
    let daemon = Daemon::start(PROGRAMS);
    let many: Vec<Changes> = (0..128)
        .map(|_| {
            let mut changes = Changes::open(&daemon, "");
            changes.until("event: fresh");
            changes
        })
        .collect();
    Changes::open(&daemon, "").until("503");
    drop(many);
    daemon.until("places to be free again", || get_status_of_stream(&daemon) == 200);
}

fn get_status_of_stream(daemon: &Daemon) -> u16 {
    let mut changes = Changes::open(daemon, "");
    let line = changes.until("HTTP/1.1 ");
    line.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn the_page_of_a_log_shows_its_end_and_follows_it() {
    let daemon = Daemon::start(
        "[program:talk]\ncommand=$ACTOR sleep\nstdout_logfile=$DIR/talk.log\n\
         [program:mute]\ncommand=$ACTOR sleep\nstdout_logfile=NONE\n",
    );
    std::fs::write(daemon.path("talk.log"), "x".repeat(3000) + "<end>\x1b[1m\n").unwrap();
    let page = get(&daemon, "/tail.html?processname=talk&limit=1");
    assert!(page.body.contains("<title>Supervisor tail of process talk</title>"), "{}", page.body);
    assert!(page.body.contains("tail.html?processname=talk&amp;limit=1024\">Refresh</a>"), "{}", page.body);
    assert!(page.body.contains("x&lt;end&gt;\n</pre>"), "{}", page.body);
    assert_eq!(page.body.matches('x').count() / 1000, 1, "only the end is shown");
    let text = |path| get(&daemon, path).body;
    assert!(text("/tail.html").contains("No process name found"));
    assert!(text("/tail.html?processname=mute").contains("No file for mute"));
    assert!(text("/tail.html?channel=main").contains("supervisord started with pid"));
    let end = get(&daemon, "/ui/follow?processname=talk&limit=1024&once=1");
    assert!(end.status == 200 && end.body.ends_with("x<end>\u{1b}[1m\n"), "{}", end.body);
    assert_eq!(get(&daemon, "/ui/follow?processname=mute&once=1").status, 404);
    let mut stream = UnixStream::connect(daemon.path("s.sock")).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream.write_all(b"GET /ui/follow?channel=main&limit=1024 HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut follow = Changes(BufReader::new(stream));
    daemon.ctl("stop talk");
    follow.until("stopped: talk");
    assert_eq!(get(&daemon, "/ui/follow?processname=nobody").status, 404);
}

#[test]
fn who_comes_back_to_a_log_gets_what_is_new() {
    let daemon = Daemon::start(
        "[program:talk]\ncommand=$ACTOR sleep\nstdout_logfile=$DIR/talk.log\n\
         [program:other]\ncommand=$ACTOR sleep\nstdout_logfile=$DIR/other.log\n",
    );
    let log = daemon.path("talk.log");
    let write = |text: &str| {
        std::fs::OpenOptions::new().append(true).create(true).open(&log).unwrap().write_all(text.as_bytes())
    };
    let glance = |from: &str| {
        let path = format!("/ui/follow?processname=talk&limit=1024&once=1&from={from}");
        let answer = get(&daemon, &path);
        let place = answer.header("x-log-position").expect("a position").to_owned();
        let (file, offset) = place.rsplit_once('.').unwrap();
        let end = offset.parse::<usize>().unwrap() + answer.body.len();
        (answer.header("x-log-goes-on").is_some(), answer.body, format!("{file}.{end}"))
    };
    write(&"same\n".repeat(1000)).unwrap();
    let (goes_on, end, first) = glance("");
    assert_eq!((goes_on, end.len()), (false, 1024));
    assert_eq!(glance(&first), (true, String::new(), first.clone()), "it has not grown");
    write("same\n").unwrap();
    let (goes_on, new, second) = glance(&first);
    assert_eq!((goes_on, new.as_str()), (true, "same\n"));
    // After a rotation: the rest of that file, then the next one.
    write("rest\n").unwrap();
    std::fs::rename(&log, daemon.path("talk.log.1")).unwrap();
    write("next\n").unwrap();
    let (goes_on, rest, third) = glance(&second);
    assert_eq!((goes_on, rest.as_str()), (true, "rest\n"));
    let (goes_on, next, fourth) = glance(&third);
    assert_eq!((goes_on, next.as_str()), (true, "next\n"));
    // What cannot be gone on from is said to begin anew: other files, a file that was cut, nonsense.
    std::fs::write(daemon.path("other.log"), "secret").unwrap();
    let other = get(&daemon, "/ui/follow?processname=other&once=1");
    assert_eq!((other.status, other.body.as_str()), (200, "secret"));
    std::fs::write(&log, "cut").unwrap();
    let nonsense = "9".repeat(2000);
    for from in
        [other.header("x-log-position").unwrap(), &fourth, "1.2", "%2Fetc%2Fpasswd", nonsense.as_str()]
    {
        let (goes_on, all, _) = glance(from);
        assert_eq!((goes_on, all.as_str()), (false, "cut"), "{from}");
    }
    // A stream that is far behind leaves out what no page could take, and says how much.
    std::fs::write(&log, "").unwrap();
    let (_, _, begin) = glance("");
    write(&"x".repeat(5 << 20)).unwrap();
    let far = get(&daemon, &format!("/ui/follow?processname=talk&once=1&from={begin}"));
    let left_out: usize = far.header("x-log-left-out").expect("a number").parse().unwrap();
    assert_eq!(left_out + far.body.len(), 5 << 20);
}

#[test]
fn a_stream_of_a_log_is_of_one_file() {
    let daemon = Daemon::start("[program:talk]\ncommand=$ACTOR sleep\nstdout_logfile=$DIR/talk.log\n");
    let log = daemon.path("talk.log");
    std::fs::write(&log, "first\n").unwrap();
    let first = get(&daemon, "/ui/follow?processname=talk&once=1");
    let (file, _) = first.header("x-log-position").unwrap().rsplit_once('.').unwrap();
    let mut stream = UnixStream::connect(daemon.path("s.sock")).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    stream
        .write_all(b"GET /ui/follow?processname=talk HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut follow = Changes(BufReader::new(stream));
    follow.until("first");
    std::fs::rename(&log, daemon.path("talk.log.1")).unwrap();
    std::fs::write(&log, "second\n").unwrap();
    daemon.signal(Signal::SIGUSR2);
    let mut rest = String::new();
    follow.0.read_to_string(&mut rest).unwrap();
    assert!(!rest.contains("second"), "{rest}");
    let next = get(&daemon, &format!("/ui/follow?processname=talk&once=1&from={file}.6"));
    assert_eq!((next.header("x-log-goes-on"), next.body.as_str()), (Some("1"), "second\n"));
}

#[test]
fn while_everything_is_being_stopped_the_page_says_so() {
    let daemon = Daemon::start("[program:slow]\ncommand=$ACTOR ignore=TERM sleep\nstopwaitsecs=60\n");
    let page = get(&daemon, "/");
    daemon.signal(Signal::SIGTERM);
    daemon.until_log("waiting for slow to die");
    let during = get(&daemon, "/");
    assert_eq!(during.status, 200);
    assert!(during.body.contains("Supervisor is shutting down"), "{}", during.body);
    let body = format!("token={}", page.token());
    let refused = ask(&daemon, "POST", "/index.html?action=restartall", BROWSER, &body);
    assert!(refused.header("location").unwrap().contains("shutting%20down"), "{}", refused.head);
    for process in daemon.programs() {
        kill(process.pid, Signal::SIGKILL);
    }
}

/// A form of a page, as a browser without JavaScript sees it: where its buttons lead, and the fields that go along.
struct Form {
    buttons: Vec<(String, String)>,
    fields: String,
}

impl Form {
    /// The only form of a page: buttons by their text, or by the name that they are given for people who cannot see them.
    fn of(page: &Answer) -> Self {
        let (_, rest) = page.body.split_once("<form ").expect("a form");
        let (form, _) = rest.split_once("</form>").expect("its end");
        let action = attribute(form, "action").expect("an address");
        assert_eq!(attribute(form, "method").as_deref(), Some("post"));
        let buttons = form.split("<button").skip(1).map(|text| {
            let (tag, rest) = text.split_once('>').expect("the end of a tag");
            let label = attribute(tag, "aria-label")
                .unwrap_or_else(|| rest.split('<').next().unwrap_or_default().to_owned());
            (label, attribute(tag, "formaction").unwrap_or_else(|| action.clone()))
        });
        let hidden = form.split("<input ").skip(1).filter(|tag| tag.starts_with("type=\"hidden\""));
        let field = |tag: &str| Some(format!("{}={}", attribute(tag, "name")?, attribute(tag, "value")?));
        Self { buttons: buttons.collect(), fields: hidden.filter_map(field).collect::<Vec<_>>().join("&") }
    }

    fn target(&self, button: &str) -> String {
        let found = self.buttons.iter().find(|(label, _)| label == button);
        let (_, target) = found.unwrap_or_else(|| panic!("no button {button:?} in {:?}", self.buttons));
        format!("/{target}")
    }
}

/// The value of the first attribute of this name.
fn attribute(tag: &str, name: &str) -> Option<String> {
    let (_, rest) = tag.split_once(&format!("{name}=\""))?;
    let (value, _) = rest.split_once('"')?;
    Some(value.replace("&quot;", "\"").replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
}

/// Presses a button of a page and goes where the answer leads.
fn press(daemon: &Daemon, page: &Answer, button: &str) -> Answer {
    let form = Form::of(page);
    let headers = format!("{BROWSER}Content-Type: application/x-www-form-urlencoded\r\n");
    let answer = ask(daemon, "POST", &form.target(button), &headers, &form.fields);
    assert_eq!(answer.status, 303, "{button}: {} {}", answer.head, answer.body);
    let location = answer.header("location").expect("where to go").trim_start_matches('.').to_owned();
    let next = ask(daemon, "GET", &location, BROWSER, "");
    assert_eq!(next.status, 200, "{location}");
    next
}

#[test]
fn without_javascript_the_buttons_are_those_of_plain_forms() {
    let daemon = Daemon::start(PROGRAMS);
    daemon.until_state("one", "RUNNING");
    let page = || ask(&daemon, "GET", "/", BROWSER, "");
    let first = daemon.process_pid("one");
    for (button, message, name, state) in [
        ("Stop one", "Process one stopped", "one", "STOPPED"),
        ("Start one", "Process one started", "one", "RUNNING"),
        ("Start off", "Process off started", "off", "RUNNING"),
        ("Restart pair:left", "Process pair:left restarted", "pair:left", "RUNNING"),
        ("Start gone", "ERROR: Process gone: no such file", "gone", "STOPPED"),
        ("Clear log one", "Log for one cleared", "one", "RUNNING"),
        ("Refresh", "Page refreshed at", "one", "RUNNING"),
        ("Stop all", "All stopped at", "pair:right", "STOPPED"),
        ("Restart all", "All restarted at", "pair:right", "RUNNING"),
    ] {
        let next = press(&daemon, &page(), button);
        assert!(next.body.contains(message), "{button}: {}", next.body);
        daemon.until_state(name, state);
    }
    assert_ne!(daemon.process_pid("one"), first);
    // What a link asks for is asked back in a form, too.
    let question = ask(&daemon, "GET", "/index.html?processname=one&action=stop", BROWSER, "");
    let next = press(&daemon, &question, "Stop one");
    assert!(next.body.contains("Process one stopped"), "{}", next.body);
    assert_eq!(daemon.state("one"), "STOPPED");
    // Nothing of the page needs a script to be seen: logs are there as links.
    let tail = ask(&daemon, "GET", "/tail.html?processname=one", BROWSER, "");
    assert_eq!(tail.status, 200);
    assert!(page().body.contains("href=\"tail.html?processname=one\""));
}

#[test]
fn an_open_page_is_told_of_an_upgrade_and_goes_on_with_the_next_daemon() {
    let daemon = Daemon::start(PROGRAMS);
    daemon.until_state("one", "RUNNING");
    let page = ask(&daemon, "GET", "/", BROWSER, "");
    let since = attribute(&page.body, "data-since").expect("where the stream begins");
    let mut changes = Changes::open(&daemon, &since);
    changes.until("data: ");
    assert_eq!(daemon.ctl("upgrade").status, 0);
    // The stream ends, orderly: the browser opens it again by itself, with what it has seen last.
    let mut rest = String::new();
    changes.0.read_to_string(&mut rest).expect("an end");
    assert!(rest.ends_with("0\r\n\r\n"), "{rest:?}");
    let mut again = Changes::open(&daemon, &since);
    again.until("event: fresh");
    again.until("\"total\":5");
    daemon.ctl("stop one");
    again.until("s-stopped");
    // A form that was open meanwhile says what to do.
    let form = Form::of(&page);
    let refused = ask(&daemon, "POST", &form.target("Stop pair:left"), BROWSER, &form.fields);
    assert_eq!(refused.status, 403);
    assert!(refused.body.contains("show the status and try again"), "{}", refused.body);
    press(&daemon, &ask(&daemon, "GET", "/", BROWSER, ""), "Stop pair:left");
    assert_eq!(daemon.state("pair:left"), "STOPPED");
}
