//! Debian's servers under supervisord: they serve, come back after `kill -9` of their main process with nothing of the
//! old tree left, restart, and are gone after `shutdown`.
//!
//! Runs when `SUPERVISOR_TEST_SERVICES=1` and as root: `just services`.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::fs::chown,
    path::Path,
    time::Duration,
};

use supervisor_tests::{Daemon, Signal, is_root, kill, monotonic, processes, run, set_mode, until_quick};

/// Whether these tests run here; where not, says so.
fn is_wanted(test: &str) -> bool {
    let is_wanted = std::env::var_os("SUPERVISOR_TEST_SERVICES").is_some_and(|value| value == "1");
    if !is_wanted {
        eprintln!("{test}: not run, SUPERVISOR_TEST_SERVICES is not 1");
    }
    is_wanted && is_root(test)
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

/// What a server on this machine answers to `request`, if it does.
fn ask(port: u16, request: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(2))).ok()?;
    stream.write_all(request).ok()?;
    let mut reply = Vec::new();
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = stream.read(&mut chunk) {
        reply.extend_from_slice(&chunk[..length]);
        if reply.ends_with(b"\r\n") || reply.ends_with(b"\n") {
            break;
        }
    }
    (!reply.is_empty()).then(|| String::from_utf8_lossy(&reply).into_owned())
}

fn http_get(port: u16) -> Option<String> {
    ask(port, b"GET / HTTP/1.0\r\n\r\n")
}

/// A server under test.
struct Service<'a> {
    daemon: &'a Daemon,
    name: &'a str,
    is_serving: &'a dyn Fn() -> bool,
}

impl Service<'_> {
    fn pids(&self) -> BTreeSet<i32> {
        let below = processes::descendants(self.daemon.daemon_pid()).into_iter();
        below.filter(|process| !process.is_keeper()).map(|process| process.pid).collect()
    }

    /// Waits until it serves and nothing of `old` lives.
    fn until_only_new(&self, old: &BTreeSet<i32>) {
        self.daemon.until("the old tree to be gone", || old.iter().all(|pid| !processes::is_alive(*pid)));
        self.daemon.until("a request to be served", self.is_serving);
    }

    /// Serve, lose the main process, serve again within `bound`, restart, serve again.
    fn survives(&self, bound: Duration) {
        self.daemon.until("a request to be served", self.is_serving);
        self.daemon.until_state(self.name, "RUNNING");
        until_quick(self.name, bound, || {
            let old = self.pids();
            let main = self.daemon.process_pid(self.name);
            assert!(old.contains(&main));
            kill(main, Signal::SIGKILL);
            let at = monotonic();
            self.until_only_new(&old);
            let took = monotonic() - at;
            eprintln!("{}: served again {took:?} after kill -9 of its main process", self.name);
            self.daemon.until_state(self.name, "RUNNING");
            took
        });
        let old = self.pids();
        self.daemon
            .ctl_words(&["restart", self.name])
            .is(&format!("{0}: stopped\n{0}: started\n", self.name));
        self.until_only_new(&old);
    }
}

/// `shutdown`, after which nothing is left.
fn leaves_nothing(mut daemon: Daemon) {
    daemon.remember();
    daemon.ctl("shutdown").is("Shut down\n");
    assert_eq!(daemon.wait().code(), Some(0));
    let left = daemon.programs();
    assert!(left.is_empty(), "{left:#?}");
    assert!(!daemon.path("s.sock").exists() && !daemon.path("supervisord.pid").exists());
}

fn nginx_conf(daemon: &Daemon, port: u16) {
    let text = format!(
        "user www-data;
worker_processes 2;
pid $DIR/nginx.pid;
error_log $DIR/nginx-error.log;
events {{ }}
http {{
  access_log off;
  client_body_temp_path $DIR/body; proxy_temp_path $DIR/proxy; fastcgi_temp_path $DIR/fastcgi;
  uwsgi_temp_path $DIR/uwsgi; scgi_temp_path $DIR/scgi;
  server {{ listen 127.0.0.1:{port}; location / {{ return 200 \"hello from nginx\\n\"; }} }}
}}
"
    );
    fs::write(daemon.path("nginx.conf"), daemon.expand(&text)).expect("writing nginx.conf");
}

#[test]
fn nginx_comes_back() {
    if !is_wanted("nginx") {
        return;
    }
    let port = free_port();
    let mut daemon = Daemon::prepare(
        "[program:nginx]\ncommand=/usr/sbin/nginx -c $DIR/nginx.conf -g \"daemon off;\"\nstopsignal=QUIT\nautorestart=true\n",
    );
    nginx_conf(&daemon, port);
    daemon.launch(&[]);
    let is_serving = || http_get(port).is_some_and(|reply| reply.contains("hello from nginx"));
    Service { daemon: &daemon, name: "nginx", is_serving: &is_serving }.survives(Duration::from_secs(1));
    leaves_nothing(daemon);
}

#[test]
fn nginx_without_daemon_off_gets_the_named_diagnosis() {
    if !is_wanted("nginx without daemon off") {
        return;
    }
    let port = free_port();
    let mut daemon = Daemon::prepare(
        "[program:nginx]\ncommand=/usr/sbin/nginx -c $DIR/nginx.conf\nstartretries=1\nstartsecs=3600\nautorestart=true\n",
    );
    nginx_conf(&daemon, port);
    daemon.launch(&[]);
    daemon.until_state("nginx", "FATAL");
    let advice = daemon.json("nginx")["advice"].to_string();
    let log = daemon.log();
    for text in [&advice, &log] {
        assert!(
            text.contains("nginx") && text.contains("background") && text.contains("daemon off;"),
            "{text}"
        );
    }
    for line in ["status nginx", "status --long nginx"] {
        let shown = daemon.ctl(line).stdout;
        assert!(shown.contains("put itself into the background") && shown.contains("daemon off;"), "{shown}");
    }
    // The stray of the first try was ended before the second one: one nginx tree at most is left.
    let masters = processes::descendants(daemon.daemon_pid());
    let masters = masters.iter().filter(|process| process.command.contains("nginx: master")).count();
    assert!(masters <= 1, "{masters} masters");
    leaves_nothing(daemon);
}

#[test]
fn apache_comes_back() {
    if !is_wanted("apache") {
        return;
    }
    let port = free_port();
    let mut daemon = Daemon::prepare(
        "[program:apache]\ncommand=/usr/sbin/apache2 -f $DIR/apache.conf -DFOREGROUND\nautorestart=true\nstopsignal=WINCH\n",
    );
    fs::create_dir(daemon.path("www")).expect("a directory");
    fs::write(daemon.path("www/index.html"), "hello from apache\n").expect("a page");
    let modules = "/usr/lib/apache2/modules";
    let text = format!(
        "ServerName localhost
PidFile $DIR/apache.pid
Listen 127.0.0.1:{port}
LoadModule mpm_event_module {modules}/mod_mpm_event.so
LoadModule authz_core_module {modules}/mod_authz_core.so
LoadModule dir_module {modules}/mod_dir.so
User www-data
Group www-data
ErrorLog $DIR/apache-error.log
DefaultRuntimeDir $DIR
DocumentRoot $DIR/www
StartServers 2
<Directory />
  Require all granted
</Directory>
"
    );
    fs::write(daemon.path("apache.conf"), daemon.expand(&text)).expect("writing apache.conf");
    daemon.launch(&[]);
    let is_serving = || http_get(port).is_some_and(|reply| reply.contains("hello from apache"));
    Service { daemon: &daemon, name: "apache", is_serving: &is_serving }.survives(Duration::from_secs(1));
    leaves_nothing(daemon);
}

#[test]
fn redis_comes_back() {
    if !is_wanted("redis") {
        return;
    }
    let port = free_port();
    let daemon = Daemon::start(&format!(
        "[program:redis]\ncommand=/usr/bin/redis-server --port {port} --bind 127.0.0.1 --dir $DIR --save '' --daemonize no\nautorestart=true\n"
    ));
    let is_serving = || ask(port, b"PING\r\n").is_some_and(|reply| reply == "+PONG\r\n");
    Service { daemon: &daemon, name: "redis", is_serving: &is_serving }.survives(Duration::from_secs(5));
    leaves_nothing(daemon);
}

/// `/usr/lib/postgresql/VERSION/bin`
fn postgresql_bin() -> String {
    let versions = fs::read_dir("/usr/lib/postgresql").expect("PostgreSQL is installed");
    let newest = versions.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).max();
    format!("/usr/lib/postgresql/{}/bin", newest.expect("a version"))
}

/// User and group id of `postgres`.
fn postgres_ids() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let line = users.lines().find_map(|line| line.strip_prefix("postgres:")).expect("the user postgres");
    let mut fields = line.split(':').skip(1).map(|field| field.parse().expect("a number"));
    (fields.next().expect("an id"), fields.next().expect("an id"))
}

#[test]
fn postgresql_comes_back() {
    if !is_wanted("postgresql") {
        return;
    }
    let (port, bin) = (free_port(), postgresql_bin());
    let mut daemon = Daemon::prepare(&format!(
        "[program:postgresql]\ncommand={bin}/postgres -D $DIR/pg/data -h 127.0.0.1 -p {port} -k $DIR/pg\nuser=postgres\ndirectory=/\nstopsignal=INT\nautorestart=true\nstartretries=10\n"
    ));
    let (uid, gid) = postgres_ids();
    let home = daemon.path("pg");
    fs::create_dir(&home).expect("a directory");
    chown(&home, Some(uid), Some(gid)).expect("chown");
    set_mode(&home, 0o700);
    let data = home.join("data").display().to_string();
    let made =
        run("runuser", &["-u", "postgres", "--", &format!("{bin}/initdb"), "-N", "-A", "trust", "-D", &data]);
    assert_eq!(made.status, 0, "{made:?}");
    daemon.launch(&[]);
    let port_text = port.to_string();
    let is_serving = || {
        let query = ["-h", "127.0.0.1", "-p", &port_text, "-U", "postgres", "-Atc", "select 41 + 1"];
        run(&format!("{bin}/psql"), &query).stdout == "42\n"
    };
    Service { daemon: &daemon, name: "postgresql", is_serving: &is_serving }
        .survives(Duration::from_secs(20));
    leaves_nothing(daemon);
}

/// A FastCGI record.
fn record(kind: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("short").to_be_bytes();
    [&[1, kind, 0, 1, length[0], length[1], 0, 0], content].concat()
}

/// A FastCGI request for PHP-FPM's ping page.
fn fastcgi_ping() -> Vec<u8> {
    let mut parameters = Vec::new();
    for (name, value) in [("SCRIPT_NAME", "/ping"), ("SCRIPT_FILENAME", "/ping"), ("REQUEST_METHOD", "GET")] {
        parameters
            .extend([u8::try_from(name.len()).expect("short"), u8::try_from(value.len()).expect("short")]);
        parameters.extend(name.bytes().chain(value.bytes()));
    }
    let begin = record(1, &[0, 1, 0, 0, 0, 0, 0, 0]);
    [begin, record(4, &parameters), record(4, &[]), record(5, &[])].concat()
}

#[test]
fn php_fpm_comes_back() {
    if !is_wanted("php-fpm") {
        return;
    }
    let sbin = fs::read_dir("/usr/sbin").expect("/usr/sbin");
    let program =
        sbin.filter_map(|entry| Some(entry.ok()?.path())).find(|path| is_php_fpm(path)).expect("php-fpm");
    let port = free_port();
    let mut daemon = Daemon::prepare(&format!(
        "[program:php]\ncommand={} --nodaemonize -y $DIR/fpm.conf\nstopsignal=QUIT\nautorestart=true\n",
        program.display()
    ));
    let text = format!(
        "[global]\nerror_log=$DIR/fpm.log\npid=$DIR/fpm.pid\n[www]\nuser=www-data\ngroup=www-data\nlisten=127.0.0.1:{port}\npm=static\npm.max_children=2\nping.path=/ping\n"
    );
    fs::write(daemon.path("fpm.conf"), daemon.expand(&text)).expect("writing fpm.conf");
    daemon.launch(&[]);
    let is_serving = || ask(port, &fastcgi_ping()).is_some_and(|reply| reply.contains("pong"));
    Service { daemon: &daemon, name: "php", is_serving: &is_serving }.survives(Duration::from_secs(5));
    leaves_nothing(daemon);
}

fn is_php_fpm(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("php-fpm"))
}
