#!/usr/bin/env python3
"""Compares what happens, in Supervisor 4.3 and in the daemon under test, in scenarios of several steps.

    tests/differential/scenarios.py [--bin-dir target/release] [--python-bin DIR] [NAME ...]

A configuration without an XML-RPC interface, remote events, a listener that acts over XML-RPC, starts that do not wait,
starting anew, several servers. Both daemons are driven with Supervisor's supervisorctl and by XML-RPC; what was seen
must be the same, but for pids, times and paths. Exit status 0 when it is.
"""

import argparse
import base64
import http.client
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import xmlrpc.client

BOUND = 120  # seconds, the longest wait for anything

HEAD = """\
[supervisord]
logfile=$DIR/supervisord.log
pidfile=$DIR/supervisord.pid
childlogdir=$DIR
identifier=scenario
[unix_http_server]
file=$DIR/s.sock
[supervisorctl]
serverurl=unix://$DIR/s.sock
"""

INTERFACE = """\
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
"""

# Writes down each event that it gets.
RECORDER = """\
import json, sys
from supervisor import childutils
while True:
    headers, payload = childutils.listener.wait(sys.stdin, sys.stdout)
    with open(sys.argv[1], "a") as file:
        print(json.dumps([headers["eventname"], int(headers["len"]) - len(payload.encode()), payload]), file=file)
    childutils.listener.ok(sys.stdout)
"""

# In the manner of superlance: starts its charge again, which the daemon itself does not, and counts.
MONITOR = """\
import os, sys
from supervisor import childutils
rpc = childutils.getRPCInterface(os.environ)
while True:
    headers, payload = childutils.listener.wait(sys.stdin, sys.stdout)
    fields, _ = childutils.eventdata(payload + "\\n")
    if fields["processname"] == "charge" and headers["eventname"] == "PROCESS_STATE_EXITED":
        before = rpc.supervisor.getProcessInfo("charge")
        started = rpc.supervisor.startProcess("charge")
        after = rpc.supervisor.getProcessInfo("charge")
        rpc.supervisor.sendRemoteCommEvent("restarted", "charge")
        with open(sys.argv[1], "a") as file:
            print(fields["expected"], before["statename"], started, after["statename"], file=file)
    childutils.listener.ok(sys.stdout)
"""


class Connection(http.client.HTTPConnection):
    """Over a unix socket."""

    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(BOUND)
        self.sock.connect(self.path)


class Side:
    """One daemon in a directory of its own, driven by Supervisor's client."""

    def __init__(self, name, daemon, client):
        self.name, self.program, self.client = name, daemon, client
        self.dir = tempfile.mkdtemp(prefix="svs-")
        self.ports = [free_port() for _ in range(4)]
        self.process = None

    def path(self, name):
        return os.path.join(self.dir, name)

    def read(self, name):
        path = pathlib.Path(self.path(name))
        return path.read_text(errors="replace") if path.exists() else ""

    def configure(self, text, interface=INTERFACE):
        text = (HEAD + interface + text).replace("$DIR", self.dir).replace("$PYTHON", sys.executable)
        for number, port in enumerate(self.ports):
            text = text.replace(f"$PORT{number}", str(port))
        pathlib.Path(self.path("s.conf")).write_text(text)

    def start(self):
        with open(self.path("out"), "wb") as out:
            self.process = subprocess.Popen([self.program, "-n", "-c", self.path("s.conf")], stdin=subprocess.DEVNULL,
                                            stdout=out, stderr=out, start_new_session=True)
        self.until("the socket", self.answers)

    def answers(self):
        if self.process.poll() is not None:
            sys.exit(f"{self.name}: supervisord ended:\n{self.read('out')}")
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(self.path("s.sock")) == 0

    def until(self, what, condition):
        end = time.monotonic() + BOUND
        while not condition():
            if time.monotonic() > end:
                sys.exit(f"{self.name}: waited in vain for {what}\n{self.read('supervisord.log')}")
            time.sleep(0.05)

    def ctl(self, line, stdin=""):
        done = subprocess.run([self.client, "-c", self.path("s.conf"), *line.split()], input=stdin, timeout=BOUND,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        return line, self.plain(done.stdout), done.returncode

    def plain(self, text):
        text = text.replace(self.dir, "DIR")
        for number, port in enumerate(self.ports):
            text = text.replace(str(port), f"PORT{number}")
        text = re.sub(r"pid \d+, uptime [\d:]+", "pid PID, uptime TIME", text)
        text = re.sub(r": file: \S+ line: \d+", ": file: FILE line: LINE", text)
        return re.sub(r"(?m)^\d{4}-\d\d-\d\d [\d:,]+ ", "", text)

    def call(self, method, *params):
        """The result of a call, or (code, text) of its fault."""
        connection = Connection(self.path("s.sock"))
        try:
            body = xmlrpc.client.dumps(params, method, allow_none=True).encode()
            connection.request("POST", "/RPC2", body, {"Content-Type": "text/xml"})
            return xmlrpc.client.loads(connection.getresponse().read())[0][0]
        except xmlrpc.client.Fault as fault:
            return fault.faultCode, self.plain(fault.faultString)
        finally:
            connection.close()

    def state(self, name):
        info = self.call("supervisor.getProcessInfo", name)
        return info["statename"] if isinstance(info, dict) else info

    def until_state(self, name, state):
        self.until(f"{name} to be {state}", lambda: self.state(name) == state)

    def pid(self, name):
        return self.call("supervisor.getProcessInfo", name)["pid"]

    def status_at(self, port, password):
        """The status that somebody with this password is given at a port; "refused" if nobody listens."""
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=BOUND)
            code = base64.b64encode(f"user:{password}".encode()).decode()
            connection.request("GET", "/ok.html", headers={"Authorization": f"Basic {code}"})
            return connection.getresponse().status
        except ConnectionRefusedError:
            return "refused"

    def end(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(BOUND)
            except subprocess.TimeoutExpired:
                self.process.kill()
        shutil.rmtree(self.dir, ignore_errors=True)


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def no_interface(side):
    """Without [rpcinterface:supervisor] its methods are unknown, and Supervisor's client says so."""
    side.configure("[program:x]\ncommand=sleep 1000\nstartsecs=0\n", interface="")
    side.start()
    side.until("the program", lambda: "spawned: 'x'" in side.read("supervisord.log"))
    lines = ["status", "version", "pid", "start x", "stop all", "reread", "update", "avail", "tail x", "maintail",
             "clear x", "signal HUP x", "add x", "remove x", "shutdown", "reload"]
    seen = [side.ctl(line, "y\n") for line in lines]
    seen.append(side.ctl("", "status\nstart x\nexit\n"))
    for method in ("supervisor.getState", "supervisor.shutdown", "nosuch.method", "system.listMethods"):
        seen.append((method, side.call(method)))
    seen.append(side.call("system.methodHelp", "supervisor.getState"))
    seen.append(side.call("system.multicall", [{"methodName": "supervisor.getState", "params": []}]))
    seen.append("RPC interface" in side.read("supervisord.log"))
    return seen


def remote_events(side):
    """sendRemoteCommEvent reaches a listener."""
    pathlib.Path(side.path("recorder.py")).write_text(RECORDER)
    side.configure("[eventlistener:recorder]\ncommand=$PYTHON $DIR/recorder.py $DIR/events\nstartsecs=0\n"
                   "events=REMOTE_COMMUNICATION\nbuffer_size=50\n")
    side.start()
    side.until_state("recorder", "RUNNING")
    seen = [side.call("supervisor.sendRemoteCommEvent", *words) for words in (
        ("type", "data"), ("", ""), ("a b:c", "first\nsecond:line"), ("<&>", "<data>&amp;</data>"), ("t", "x" * 70000),
        ("one",), (), ("a", "b", "c"), (1, "number"), ("flag", True), (None, 1.5), (1e300, 2.0), (False, -1e-7),
        ("list", [1, "it's", True, [], None, 0.1]), ("map", {"a": 1, "b": {"c": []}}), (xmlrpc.client.Binary(b"b64"), ""))]
    seen.append(side.call("supervisor.sendRemoteCommEvent", "last", "one"))
    side.until("the last event", lambda: '"type:last' in side.read("events"))
    return seen, side.read("events").splitlines()


def process_monitor(side):
    """A listener written with supervisor.childutils starts a program again over SUPERVISOR_SERVER_URL."""
    pathlib.Path(side.path("recorder.py")).write_text(RECORDER)
    pathlib.Path(side.path("monitor.py")).write_text(MONITOR)
    side.configure("[program:charge]\ncommand=sleep 1000\nautorestart=false\nstartsecs=1\n"
                   "[eventlistener:monitor]\ncommand=$PYTHON $DIR/monitor.py $DIR/acted\nevents=PROCESS_STATE_EXITED\n"
                   "startsecs=0\n[eventlistener:recorder]\ncommand=$PYTHON $DIR/recorder.py $DIR/events\nstartsecs=0\n"
                   "events=PROCESS_STATE_EXITED,REMOTE_COMMUNICATION\n")
    side.start()
    for number in (1, 2):
        side.until_state("charge", "RUNNING")
        first = side.pid("charge")
        os.kill(first, signal.SIGKILL)
        side.until("another one", lambda: len(side.read("acted").splitlines()) == number)
        assert side.pid("charge") not in (0, first)
    side.until("the word of the monitor", lambda: side.read("events").count("type:restarted") == 2)
    return side.read("acted").splitlines(), re.sub(r"pid:\d+", "pid:N", side.read("events")).splitlines()


def starts_without_waiting(side):
    """startProcess with wait=false, of what cannot be started too."""
    os.mkfifo(side.path("brief.end"))
    # Open on both ends, so that neither side of it ever waits for the other to open it.
    brief_end = os.open(side.path("brief.end"), os.O_RDWR | os.O_CLOEXEC)
    side.configure("[program:missing]\ncommand=/nonexistent/x\nautostart=false\n"
                   "[program:plain]\ncommand=/etc/passwd\nautostart=false\n"
                   "[program:directory]\ncommand=/etc\nautostart=false\n"
                   "[program:quote]\ncommand=/bin/echo \"never\nautostart=false\n"
                   "[program:relative]\ncommand=./nothere\nautostart=false\n"
                   "[program:unknown]\ncommand=nosuchprogramatall\nautostart=false\n"
                   "[program:slow]\ncommand=sleep 1000\nautostart=false\nstartsecs=1000\n"
                   "[program:soon]\ncommand=sleep 1000\nautostart=false\nstartsecs=1\n"
                   "[program:quick]\ncommand=sleep 1000\nautostart=false\nstartsecs=0\n"
                   "[program:brief]\ncommand=sh -c 'read line < $DIR/brief.end; exit 3'\nautostart=false\nstartretries=0\n"
                   "startsecs=1000\n"
                   "[group:g]\nprograms=gone,there\n[program:gone]\ncommand=/nonexistent/x\nautostart=false\n"
                   "[program:there]\ncommand=sleep 1000\nautostart=false\nstartsecs=0\n")
    side.start()
    seen = []

    def call(method, *params):
        result = side.call(f"supervisor.{method}", *params)
        if isinstance(result, list):
            result = sorted((row["group"], row["name"], row["status"], row["description"]) for row in result)
        seen.append((method, params, result))

    names = ("missing", "plain", "directory", "quote", "relative", "unknown", "slow", "soon", "quick", "brief", "nosuch")
    for name in names:
        call("startProcess", name, False)
    seen.append([side.state(name) for name in ("slow", "quick", "brief")])
    for name in ("slow", "quick", "brief"):
        call("startProcess", name, False)
    call("startProcessGroup", "g", False)
    call("startProcessGroup", "nosuch", False)
    os.write(brief_end, b"\n")
    side.until_state("brief", "FATAL")
    os.close(brief_end)
    seen.append({key: side.call("supervisor.getProcessInfo", "brief")[key]
                 for key in ("spawnerr", "exitstatus", "description", "pid")})
    side.until_state("soon", "RUNNING")
    call("startProcess", "soon", False)
    for name in ("slow", "slow", "soon", "soon", "missing", "nosuch"):
        call("stopProcess", name, False)
    for name in ("slow", "soon"):
        side.until_state(name, "STOPPED")
    return seen


def starting_anew(side):
    """`reload`: another configuration, from the start, by the same process."""
    head = "[program:kept]\ncommand=sleep 1000\nstartsecs=0\n[program:auto]\ncommand=sh -c 'echo hi; exec sleep 1000'\n" \
           "startsecs=0\n[inet_http_server]\nport=127.0.0.1:$PORT0\nusername=user\npassword="
    os.mkdir(side.path("more"))
    pathlib.Path(side.path("more/one.conf")).write_text("")
    side.configure(f"{head}old\n[program:gone]\ncommand=sleep 1000\nstartsecs=0\n[include]\nfiles=more/*.conf none\n")
    side.start()
    for name in ("kept", "auto", "gone"):
        side.until_state(name, "RUNNING")
    before = {name: side.pid(name) for name in ("kept", "auto", "gone")}
    logs = {name for name in os.listdir(side.dir) if "---" in name}
    seen = [side.read("supervisord.pid").strip() == str(side.process.pid)]
    side.ctl("stop kept")
    side.configure(f"{head}new\n[program:come]\ncommand=sleep 1000\nstartsecs=0\n[include]\nfiles=more/*.conf none\n")
    # That it has begun; nothing is waited for.
    seen.append(side.ctl("reload"))
    starts = lambda: side.read("supervisord.log").count("supervisord started with pid")
    side.until("the new start", lambda: starts() == 2)
    side.until("the socket", side.answers)
    for name in ("kept", "auto", "come"):
        side.until_state(name, "RUNNING")
    seen += [side.state("gone"), side.ctl("status"), side.ctl("reread"), side.call("supervisor.getState")]
    seen.append([os.path.exists(f"/proc/{pid}") for pid in before.values()])
    seen.append(side.read("supervisord.pid").strip() == str(side.process.pid))
    seen.append([len(logs), len(logs & set(os.listdir(side.dir)))])
    seen.append([side.status_at(side.ports[0], password) for password in ("old", "new")])
    seen.append([line for line in side.plain(side.read("supervisord.log")).splitlines()
                 if line.startswith(("INFO Included", "INFO Set uid", "WARN No file", "CRIT Supervisor"))])
    return seen


def several_servers(side):
    """Sections whose name begins with that of a server: each is one."""
    side.configure("[inet_http_server]\nport=127.0.0.1:$PORT0\n[inet_http_server:two]\nport=127.0.0.1:$PORT1\n"
                   "username=user\npassword=two\n[inet_http_serverthree]\nport=127.0.0.1:$PORT2\nusername=user\n"
                   "password={SHA}b802f384302cb24fbab0a44997e820bf2e8507bb\n[unix_http_server:more]\nfile=$DIR/more.sock\n"
                   "[inet_http_server:empty]\nport=*:$PORT3\nusername=\npassword=\n"
                   "[program:x]\ncommand=sh -c 'echo $SUPERVISOR_SERVER_URL; exec sleep 1000'\nstartsecs=0\n"
                   "stdout_logfile=$DIR/x.log\n")
    side.start()
    side.until("what the program is told", lambda: side.read("x.log"))
    statuses = [[side.status_at(port, password) for password in ("", "two", "three")] for port in side.ports]
    lines = [line for line in side.plain(side.read("supervisord.log")).splitlines()
             if line.startswith(("INFO RPC", "CRIT Server"))]
    return statuses, sorted(lines), side.plain(side.read("x.log")), os.path.exists(side.path("more.sock"))


SCENARIOS = [no_interface, remote_events, process_monitor, starts_without_waiting, starting_anew, several_servers]


def differences(theirs, ours, where=""):
    """The innermost parts in which two results differ."""
    if isinstance(theirs, (list, tuple)) and isinstance(ours, (list, tuple)) and len(theirs) == len(ours):
        for number, (one, other) in enumerate(zip(theirs, ours)):
            yield from differences(one, other, f"{where}[{number}]")
    elif theirs != ours:
        yield f"  {where}\n    supervisor: {theirs!r:.2000}\n    ours:       {ours!r:.2000}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin-dir", type=pathlib.Path, default=pathlib.Path("target/release"))
    parser.add_argument("--python-bin", type=pathlib.Path, default=pathlib.Path(sys.executable).parent)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these scenarios")
    options = parser.parse_args()
    failed = 0
    for scenario in SCENARIOS:
        if options.names and scenario.__name__ not in options.names:
            continue
        results = []
        for name, bin_dir in (("supervisor", options.python_bin), ("ours", options.bin_dir)):
            side = Side(name, str(bin_dir.resolve() / "supervisord"), str(options.python_bin / "supervisorctl"))
            try:
                results.append(scenario(side))
            finally:
                side.end()
        found = list(differences(*results))
        failed += bool(found)
        print(f"{'DIFFERENT' if found else 'ok       '} {scenario.__name__}", *found, sep="\n", flush=True)
    print(f"{failed} of {len(options.names or SCENARIOS)} scenarios differ")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
