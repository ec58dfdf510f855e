#!/usr/bin/env python3
"""`supervisord --take-over` puts ours in the place of a real Supervisor 4.3 that runs 50 programs, again and again.

The programs write numbered lines: into files that are rotated, into AUTO logs, with redirect_stderr, in groups, as another
user, as a FastCGI program; two of them as fast as they are read. After each take-over all have their pids, every log holds
every line once and in order over all its rotations, clients were never refused, and supervisorctl works at once. A take-over
that is refused leaves Supervisor working. Run it with a Python that has Supervisor. Prints a line for each check, and a
closing line; status 1 if one failed.
"""

import argparse
import base64
import collections
import contextlib
import ctypes
import http.client
import os
import pathlib
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import xmlrpc.client

BOUND = 120  # seconds, the longest wait for anything
MARK = "SUPERVISOR_TAKEOVER_TEST"
NOBODY = 65534
PTRACE_TRACEME, PTRACE_SYSCALL = 0, 24  # as on every architecture of Linux

# Writes numbered lines of 80 bytes in bursts, to each of its outputs in turn: `writer.py NAME PAUSE [stderr|both|wild]`.
# With `both` each output has numbers of its own, `wild` writes without a pause while a file `wild` is beside it, but not
# more than 100 MB each time: however long that takes, its log keeps all of it.
WRITER = r"""
import os, random, sys, time
name, pause, how = sys.argv[1], float(sys.argv[2]), sys.argv[3]
draw = random.Random(name)
numbers = {1: 0, 2: 0}
gate, left = os.path.join(os.path.dirname(sys.argv[0]), "wild"), 0
while True:
    out = draw.choice((1, 2)) if how in ("one", "both") else 1
    count = 1 if how == "one" else out
    burst = b""
    for _ in range(draw.randrange(1, 20)):
        numbers[count] += 1
        burst += b"%-79d\n" % numbers[count]
    left -= len(burst)
    while burst:
        burst = burst[os.write(out, burst[:1600]):]
    is_wild = how == "wild" and os.path.exists(gate)
    if not is_wild:
        left = 100 << 20
    if not is_wild or left <= 0:
        time.sleep(draw.random() * pause)
"""

# Answers each connection with its pid, and writes a numbered line for it.
WORKER = r"""
import os, socket
listener, number = socket.socket(fileno=0), 0
while True:
    connection, _ = listener.accept()
    number += 1
    os.write(1, b"%-79d\n" % number)
    connection.sendall(b"%d\n" % os.getpid())
    connection.close()
"""

# Answers each event, and says on stderr that it was started.
LISTENER = r"""
import os, sys
os.write(2, b"started\n")
while True:
    os.write(1, b"READY\n")
    words = dict(word.split(":") for word in sys.stdin.readline().split())
    sys.stdin.read(int(words["len"]))
    os.write(1, b"RESULT 2\nOK")
"""

CONFIG = """
[supervisord]
logfile={dir}/supervisord.log
pidfile={dir}/supervisord.pid
childlogdir={dir}
user=root
environment={mark}="{id}"
[unix_http_server]
file={dir}/s.sock
username=u
password=secret
[inet_http_server]
port=127.0.0.1:{port}
username=u
password=secret
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{dir}/s.sock
username=u
password=secret
[program:plain]
command={python} {dir}/writer.py plain%(process_num)02d 0.1 stdout
process_name=%(program_name)s%(process_num)02d
numprocs=10
stdout_logfile={dir}/%(program_name)s%(process_num)02d.log
stdout_logfile_maxbytes=100KB
stdout_logfile_backups=500
[program:one]
command={python} {dir}/writer.py one%(process_num)02d 0.1 one
process_name=%(program_name)s%(process_num)02d
numprocs=10
redirect_stderr=true
stdout_logfile={dir}/%(program_name)s%(process_num)02d.log
stdout_logfile_maxbytes=100KB
stdout_logfile_backups=500
[program:both]
command={python} {dir}/writer.py both%(process_num)02d 0.1 both
process_name=%(program_name)s%(process_num)02d
numprocs=8
stdout_logfile={dir}/%(program_name)s%(process_num)02d.log
stderr_logfile={dir}/%(program_name)s%(process_num)02d.err
[group:team]
programs=alpha,beta
[program:alpha]
command={python} {dir}/writer.py alpha%(process_num)02d 0.1 stdout
process_name=%(program_name)s%(process_num)02d
numprocs=4
stdout_logfile={dir}/%(program_name)s%(process_num)02d.log
[program:beta]
command={python} {dir}/writer.py beta%(process_num)02d 0.1 one
process_name=%(program_name)s%(process_num)02d
numprocs=4
redirect_stderr=true
stdout_logfile={dir}/%(program_name)s%(process_num)02d.log
[program:other]
command={python} {dir}/writer.py other%(process_num)02d 0.1 stdout
process_name=%(program_name)s%(process_num)02d
numprocs=6
user={other}
stdout_logfile={dir}/%(program_name)s%(process_num)02d.log
[program:auto]
command={python} {dir}/writer.py auto%(process_num)02d 0.1 stdout
process_name=%(program_name)s%(process_num)02d
numprocs=3
stdout_logfile_maxbytes=100KB
stdout_logfile_backups=500
[program:nowhere]
command={python} {dir}/writer.py nowhere 0.1 both
stdout_logfile=NONE
stderr_logfile=NONE
[program:wild]
command={python} {dir}/writer.py wild%(process_num)02d 0.05 wild
process_name=%(program_name)s%(process_num)02d
numprocs=2
stdout_logfile={dir}/%(program_name)s%(process_num)02d.log
stdout_logfile_maxbytes=1MB
stdout_logfile_backups=900
[fcgi-program:worker]
command={python} {dir}/worker.py
socket=unix://{dir}/worker.sock
process_name=%(program_name)s%(process_num)02d
numprocs=2
stdout_logfile={dir}/%(program_name)s%(process_num)02d.log
[program:stopped]
command=/bin/sleep 1000
[program:done]
command=/bin/sh -c "exit 3"
startsecs=0
exitcodes=3
autorestart=unexpected
[program:broken]
command=/bin/false
startretries=0
startsecs=1000
[eventlistener:listener]
command={python} {dir}/listener.py
events=PROCESS_STATE
stderr_logfile={dir}/listener.err
"""
RUNNING = 50
UP = ("STARTING", "RUNNING")
STATES = {"stopped": "STOPPED", "done": "EXITED", "broken": "FATAL"}


def interpreter():
    """A Python that every user may run; that of this script may be in somebody's home."""
    return shutil.which("python3", path="/usr/bin:/usr/local/bin") or os.path.realpath(sys.executable)


def until(what, condition):
    """Waits until `condition` yields something true, and returns it."""
    end = time.monotonic() + BOUND
    while not (found := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.005)
    return found


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=BOUND)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(BOUND)
        self.sock.connect(self.path)


def call(connection, method, *params):
    """One XML-RPC call over a connection of its own."""
    credentials = base64.b64encode(b"u:secret").decode()
    headers = {"Content-Type": "text/xml", "Authorization": f"Basic {credentials}", "Connection": "close"}
    with contextlib.closing(connection):
        connection.request("POST", "/RPC2", xmlrpc.client.dumps(params, method), headers)
        return xmlrpc.client.loads(connection.getresponse().read())[0][0]


class Client(threading.Thread):
    """Asks without a pause, and counts answers, cut connections, refusals."""

    def __init__(self, ask):
        super().__init__(daemon=True)
        self.ask, self.counts, self.ended = ask, collections.Counter(), threading.Event()

    def run(self):
        while not self.ended.is_set():
            try:
                self.ask()
                self.counts["answered"] += 1
            except (ConnectionRefusedError, FileNotFoundError) as error:
                self.counts[f"refused: {error}"] += 1
            except (OSError, ValueError, http.client.HTTPException):
                # What the old daemon had accepted ends with it.
                self.counts["cut"] += 1
            self.ended.wait(0.002)

    def end(self):
        self.ended.set()
        self.join(BOUND)
        return self.counts


class Place:
    """A directory with a configuration, and everything that runs because of it."""

    def __init__(self, options, is_wild=False):
        self.options, self.is_wild, self.id = options, is_wild, f"{os.getpid()}-{time.monotonic_ns()}"
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="svk-"))
        self.dir.chmod(0o755)
        for name, text in {"writer": WRITER, "worker": WORKER, "listener": LISTENER}.items():
            (self.dir / f"{name}.py").write_text(text)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        other = pwd.getpwuid(NOBODY if os.getuid() == 0 else os.getuid()).pw_name
        text = CONFIG.format(dir=self.dir, port=self.port, mark=MARK, id=self.id, other=other,
                             python=f"{interpreter()} -I -S")
        if os.getuid() != 0:
            text = text.replace("user=root\n", "")
        self.write(text)

    @contextlib.contextmanager
    def wildness(self):
        """Meanwhile two programs write as fast as they are read, if this is such a place."""
        gate = self.dir / "wild"
        if self.is_wild:
            gate.touch()
        yield
        gate.unlink(missing_ok=True)

    def write(self, text, name="supervisord.conf"):
        path = self.dir / name
        path.write_text(text)
        return path

    @property
    def config(self):
        return self.dir / "supervisord.conf"

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            print((self.dir / "supervisord.log").read_text(errors="replace")[-8000:], file=sys.stderr)
        daemon = self.daemon()
        for pid in ([daemon] if daemon else []) + list(self.marked()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until("everything to end", lambda: not list(self.marked()))
        shutil.rmtree(self.dir, ignore_errors=True)

    def marked(self):
        """Living programs of this place."""
        wanted = f"{MARK}={self.id}".encode()
        for entry in os.listdir("/proc"):
            if entry.isdigit():
                with contextlib.suppress(OSError):
                    if wanted in pathlib.Path(f"/proc/{entry}/environ").read_bytes().split(b"\0"):
                        yield int(entry)

    def daemon(self):
        """The pid of the daemon, if it is alive."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.dir / "supervisord.pid").read_text())
            if "supervisord" in pathlib.Path(f"/proc/{pid}/cmdline").read_text():
                return pid
        return None

    def run(self, program, *words, **more):
        command = [*program, *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=BOUND, check=False,
                              stdin=subprocess.DEVNULL, **more)

    def ours(self, program, *words, **more):
        return self.run([f"{self.options.bin_dir}/{program}"], "-c", str(self.config), *words, **more)

    def start_supervisor(self):
        words = [sys.executable, "-m", "supervisor.supervisord"]
        done = self.run(words, "-c", str(self.config))
        assert done.returncode == 0, done
        # Besides: the listener, and the one that is stopped in a moment.
        until("50 programs", lambda: len(self.running()) == RUNNING + 2)
        until("the others", lambda: all(self.states()[name] == state for name, state in STATES.items()
                                        if name != "stopped"))
        self.call("supervisor.stopProcess", "stopped")

    def call(self, method, *params):
        return call(UnixConnection(str(self.dir / "s.sock")), method, *params)

    def infos(self):
        return {f"{info['group']}:{info['name']}": info for info in self.call("supervisor.getAllProcessInfo")}

    def states(self):
        return {info["name"]: info["statename"] for info in self.infos().values()}

    def running(self):
        return {name: info["pid"] for name, info in self.infos().items() if info["statename"] in UP}

    def ask_worker(self):
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(BOUND)
            connection.connect(str(self.dir / "worker.sock"))
            return int(connection.recv(100))

    def logs(self):
        """Each log that programs write numbers to, by name."""
        found = {}
        for info in self.infos().values():
            if re.search(r"\d\d$", info["name"]):
                channels = ["stdout", "stderr"] if info["group"] == "both" else ["stdout"]
                for channel in channels:
                    found[f"{info['name']} {channel}"] = pathlib.Path(info[f"{channel}_logfile"])
        return found

    def lines(self):
        """How many lines each log has over all its rotations; fails where one is missing, doubled or torn."""
        return {name: count_lines(name, path) for name, path in self.logs().items()}

    def until_more(self, least=30):
        """Waits until every log has grown, and checks all of them."""
        before = {name: size_of(path) for name, path in self.logs().items()}
        workers = [name for name in before if name.startswith("worker")]

        def have_grown():
            if workers:
                self.ask_worker()
            return all(size_of(path) >= before[name] + 80 * (1 if name in workers else least)
                       for name, path in self.logs().items())

        until("every log to grow", have_grown)
        return self.lines()


def files_of(path):
    """A log and what was rotated, the oldest first. While it is rotated one may be missing: then none is told."""
    numbers = sorted(int(file.suffix[1:]) for file in path.parent.glob(f"{path.name}.*") if file.suffix[1:].isdigit())
    if numbers != list(range(1, len(numbers) + 1)):
        raise FileNotFoundError(path)
    return [pathlib.Path(f"{path}.{number}") for number in reversed(numbers)] + [path]


def size_of(path):
    with contextlib.suppress(FileNotFoundError):
        return sum(file.stat().st_size for file in files_of(path))
    return 0


def text_of(path):
    """What a log and all its rotations hold, as of one moment: it may be rotated while it is opened."""
    while True:
        with contextlib.ExitStack() as stack, contextlib.suppress(FileNotFoundError):
            first = os.stat(path).st_ino
            files = [stack.enter_context(open(file, "rb")) for file in files_of(path)]
            if os.stat(path).st_ino == first == os.fstat(files[-1].fileno()).st_ino:
                return b"".join(file.read() for file in files)


def count_lines(name, path):
    lines = text_of(path).split(b"\n")
    torn = lines.pop()
    for number, line in enumerate(lines, 1):
        assert line == b"%-79d" % number, f"{name}: line {number} is {line!r}"
    assert (b"%-79d" % (len(lines) + 1)).startswith(torn), f"{name}: torn {torn!r}"
    return len(lines)


class Report:
    """Counts and prints checks."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, name, holds, what=""):
        holds = bool(holds)
        print(f"{'ok  ' if holds else 'FAIL'} {name}{'' if holds else f': {what}'}", flush=True)
        self.passed, self.failed = self.passed + holds, self.failed + (not holds)


def take_over(place, report, title, *words):
    """Takes over with clients that ask all the time. Returns the pids from before."""
    pids, states, infos = place.running(), place.states(), place.infos()
    old = place.daemon()
    clients = {
        "unix": Client(lambda: call(UnixConnection(str(place.dir / "s.sock")), "supervisor.getPID")),
        "inet": Client(lambda: call(http.client.HTTPConnection("127.0.0.1", place.port, timeout=BOUND),
                                    "supervisor.getPID")),
        "fastcgi": Client(place.ask_worker),
    }
    for client in clients.values():
        client.start()
    begin = time.monotonic()
    done = place.ours("supervisord", "--take-over", *words)
    end = time.monotonic() + BOUND
    while "no quiet moment" in done.stderr and time.monotonic() < end:
        # As it says: Supervisor is never asleep where the machine is too slow for what it reads.
        done = place.ours("supervisord", "--take-over", *words)
    took = time.monotonic() - begin
    status = place.ours("supervisorctl", "status")
    counts = {name: client.end() for name, client in clients.items()}
    print(f"     {title}: {took * 1000:.0f} ms; " + "; ".join(f"{name} {dict(count)}" for name, count in counts.items()))
    report.check(f"{title}: succeeds", done.returncode == 0 and not done.stderr, done)
    report.check(f"{title}: supervisorctl is usable at once",
                 sum(status.stdout.count(state) for state in UP) >= RUNNING and status.returncode == 3, status)
    report.check(f"{title}: nobody is refused",
                 not any(key.startswith("refused") for count in counts.values() for key in count), counts)
    report.check(f"{title}: FastCGI connections are all answered", counts["fastcgi"]["cut"] == 0, counts)
    new = place.daemon()
    report.check(f"{title}: the pidfile names the new daemon, and the old one is dead",
                 new not in (None, old) and state_of(old) in ("Z", "gone"), (old, new))
    after = place.running()
    listener = "listener:listener"
    changed = {name: (pid, after.get(name)) for name, pid in pids.items()
               if name != listener and after.get(name) != pid}
    report.check(f"{title}: every program keeps its pid", not changed, changed)
    until("the listener", lambda: place.states()["listener"] in UP)
    states.pop("listener")
    new_states = place.states()
    differing = {name: new_states[name] for name, state in states.items()
                 if new_states[name] != state and (state, new_states[name]) != UP}
    report.check(f"{title}: every program keeps its state", not differing, differing)
    # Supervisor's time of a start is that of its loop, ours that of the record: the same second.
    starts = {name: info["start"] for name, info in place.infos().items() if name != listener}
    report.check(f"{title}: every program keeps its uptime",
                 all(abs(starts[name] - infos[name]["start"]) <= 1 for name in starts), starts)
    return pids


def holds_lines(place, report, title):
    try:
        lines = place.until_more()
        report.check(f"{title}: every line once, in order ({sum(lines.values())} lines)", True)
    except AssertionError as error:
        report.check(f"{title}: every line once, in order", False, error)


def rounds(options, report):
    """Supervisor is taken over, and then ours by ours; each time from the beginning."""
    for number in range(1, options.rounds + 1):
        with Place(options, is_wild=number % 5 == 0) as place:
            title = f"round {number}"
            place.start_supervisor()
            place.until_more(5)
            with place.wildness():
                take_over(place, report, title)
            holds_lines(place, report, title)
            if number % 4 == 1:
                with place.wildness():
                    crash(place, report, title)
                holds_lines(place, report, f"{title}, after a crash")
                steer(place, report, title)
            if number % 4 == 2:
                with place.wildness():
                    take_over(place, report, f"{title}, again")
                holds_lines(place, report, f"{title}, again")
            done = place.ours("supervisorctl", "shutdown")
            report.check(f"{title}: shuts down", done.returncode == 0, done)
            until("the end of all", lambda: not list(place.marked()))
            until("the end of the daemon", lambda: place.daemon() is None)


def steer(place, report, title):
    """What was taken over is supervised like anything else, also by the daemon after this one."""
    pids = place.running()
    os.kill(pids["plain:plain00"], signal.SIGKILL)
    until("another plain00", lambda: place.running().get("plain:plain00", 0) not in (0, pids["plain:plain00"]))
    log = (place.dir / "supervisord.log").read_text()
    report.check(f"{title}: the exit status of a program that is not our child is known",
                 "exited: plain00 (terminated by SIGKILL" in log or "exited: plain00 (exit status unknown" in log)
    long = place.ours("supervisorctl", "status", "--long", "plain:plain01").stdout
    report.check(f"{title}: what it lacks is said",
                 "taken over from an earlier supervisord" in long and "holds no read end" in long, long)
    done = place.ours("supervisorctl", "restart", "plain:plain01")
    long = place.ours("supervisorctl", "status", "--long", "plain:plain01").stdout
    report.check(f"{title}: a restart mends that",
                 done.returncode == 0 and "taken over" not in long, (done, long))
    done = place.ours("supervisorctl", "start", "stopped")
    report.check(f"{title}: what was stopped can be started", done.returncode == 0, done)


def crash(place, report, title):
    """The daemon after this one takes over what Supervisor has made: its keeper keeps that from SIGPIPE."""
    kept, daemon = place.running(), place.daemon()
    kept.pop("listener:listener")
    os.kill(daemon, signal.SIGKILL)
    until("the death of the daemon", lambda: state_of(daemon) in ("Z", "gone"))
    done = place.ours("supervisord")
    after = place.running()
    changed = {name: (pid, after.get(name)) for name, pid in kept.items() if after.get(name) != pid}
    report.check(f"{title}: kill -9 and a new start keep every pid", done.returncode == 0 and not changed,
                 (done, changed))


def refusals(options, report):
    """Supervisor goes on as if nothing had happened, whatever the reason is."""
    with Place(options) as place:
        place.start_supervisor()
        text = place.config.read_text()
        fewer = place.write(text.replace("programs=alpha,beta", "programs=alpha").replace("[program:beta]", "[x:beta]"),
                            "fewer.conf")
        wrong = place.write(text.replace("password=secret\n[program", "password=wrong\n[program"), "wrong.conf")
        with socket.socket() as taken, socket.socket() as deaf:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            deaf.bind(("127.0.0.1", 0))
            more = place.write(text.replace("[supervisorctl]", "[inet_http_server]\nport=127.0.0.1:%d\n[supervisorctl]"
                                            % taken.getsockname()[1]), "more.conf")
            inet = f"http://127.0.0.1:{place.port}"
            cases = [
                ("a program that our configuration lacks", fewer, ["--take-over"], "the configuration has no such process"),
                ("a wrong password", wrong, ["--take-over"], "another username and password"),
                ("nobody at the socket", place.config, [f"--take-over=unix://{place.dir}/no.sock"], "No such file"),
                ("nobody at the port", place.config,
                 ["--take-over=http://127.0.0.1:%d" % deaf.getsockname()[1]], "refused"),
                ("an address of another form", place.config, ["--take-over=s.sock"], "expected unix:///path or http://"),
                # From here on Supervisor stands still already when it fails.
                ("a port that another program has", more, ["--take-over"], "already listening"),
                ("a log that cannot be opened", place.config, ["--take-over", "-l", str(place.dir / "dir")], "dir"),
            ]
            if os.getuid() == 0:
                cases += [
                    ("another user, at the socket", place.config, ["--take-over"], "ermission denied"),
                    ("another user, at the port", place.config, [f"--take-over={inet}"], "not permitted to take"),
                ]
            (place.dir / "dir").mkdir()
            for name, config, words, expected in cases:
                refuse(place, report, name, (config, words, expected))
        die_while_it_stands_still(place, report)
        take_over(place, report, "after all refusals")
        holds_lines(place, report, "after all refusals")


def refuse(place, report, name, case):
    config, words, expected = case
    old, pids = place.daemon(), place.running()
    more = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if name.startswith("another user") else {}
    binary = f"{place.options.bin_dir}/supervisord"
    if more:
        # Not everybody may enter the directory of a checkout.
        binary = shutil.copy(binary, place.dir / "supervisord")
    done = place.run([binary], "-c", str(config), *words, **more)
    report.check(f"refused for {name}: says so, with status 2",
                 done.returncode == 2 and expected in done.stderr and done.stderr.startswith("Error: "), done)
    goes_on(place, report, f"refused for {name}", (old, pids))


def goes_on(place, report, title, before):
    old, pids = before
    state = state_of(old)
    ctl = place.run([sys.executable, "-m", "supervisor.supervisorctl"], "-c", str(place.config), "status")
    report.check(f"{title}: Supervisor answers, with all its programs",
                 place.daemon() == old and state != "T" and place.running() == pids
                 and sum(ctl.stdout.count(up) for up in UP) >= RUNNING,
                 (place.daemon(), state, ctl))
    try:
        place.until_more(3)
        report.check(f"{title}: and all they write arrives", True)
    except AssertionError as error:
        report.check(f"{title}: and all they write arrives", False, error)


def die_while_it_stands_still(place, report):
    """Ours is killed between stopping Supervisor and ending it."""
    old, pids = place.daemon(), place.running()
    # It opens its log while Supervisor stands still.
    log = place.dir / "died.log"
    command = [f"{place.options.bin_dir}/supervisord", "-n", "-c", str(place.config), "--take-over", "-l", str(log)]
    with open(os.devnull, "r+b") as null:
        new = subprocess.Popen(command, stdin=null, stdout=null, stderr=null, preexec_fn=lambda: ptrace(PTRACE_TRACEME, 0))
    try:
        end = time.monotonic() + BOUND
        while True:
            _, status = os.waitpid(new.pid, 0)
            assert time.monotonic() < end and os.WIFSTOPPED(status), f"it was not caught: {status}"
            if log.exists():
                break
            delivered = os.WSTOPSIG(status)
            ptrace(PTRACE_SYSCALL, new.pid, 0 if delivered == signal.SIGTRAP else delivered)
        report.check("ours is killed on the way: Supervisor stands still", state_of(old) == "T", state_of(old))
    finally:
        # Popen.kill() takes a process that stands still for one that has ended.
        with contextlib.suppress(ProcessLookupError):
            os.kill(new.pid, signal.SIGKILL)
        new.wait(BOUND)
    until("Supervisor to go on", lambda: state_of(old) != "T")
    goes_on(place, report, "ours is killed on the way", (old, pids))


def ptrace(request, pid, data=0):
    """ptrace(2): what is traced stands still at each system call."""
    if ctypes.CDLL(None, use_errno=True).ptrace(request, pid, None, ctypes.c_void_p(data)) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def state_of(pid):
    """The letter of /proc/PID/stat."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "gone"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin-dir", required=True)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    options.bin_dir = os.path.abspath(options.bin_dir)
    report = Report()
    begin = time.monotonic()
    refusals(options, report)
    rounds(options, report)
    print(f"{report.passed} passed, {report.failed} failed ({time.monotonic() - begin:.0f} s)")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
