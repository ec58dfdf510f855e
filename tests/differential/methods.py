#!/usr/bin/env python3
"""Compares XML-RPC answers method by method: Supervisor 4.3 and the daemon under test.

    tests/differential/methods.py [--bin-dir target/release] [--python-bin DIR] [--show]

Every method is called with right arguments, with one too few and one too many, and with arguments of wrong types. The
result (value and type, or code and text of the fault) must be the same, but for pids, times and paths. Exit status 0
when it is.
"""

import argparse
import http.client
import pathlib
import re
import socket
import sys
import xmlrpc.client

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import clients

LOG = "web:web_00"
CALLS = [
    *((f"supervisor.{name}", ()) for name in (
        "getAPIVersion", "getVersion", "getSupervisorVersion", "getIdentification", "getState", "getPID",
        "getAllProcessInfo", "getAllConfigInfo", "clearAllProcessLogs", "reloadConfig", "nosuch", "", "a.b")),
    ("nosuch.getState", ()), ("getState", ()), ("system.nosuch", ()),
    *(("supervisor.getProcessInfo", (name,)) for name in (
        "lonely", LOG, "web_00", "nosuch", "web:*", "web:", "all", "", ":", "a:b:c", "once", "é", 5, None, True, 1.5, [])),
    *((f"supervisor.{verb}Process", (name,)) for verb in ("stop", "start") for name in (
        "lonely", "lonely", "nosuch", "nosuch:*", "web:nosuch", "", ":", 5)),
    ("supervisor.startProcess", ("lonely", False)), ("supervisor.startProcess", ("lonely", True, 1)),
    *((f"supervisor.{verb}ProcessGroup", (name,)) for verb in ("stop", "start") for name in (
        "lonely", "lonely", "nosuch", "web:web_00", "")),
    ("supervisor.startProcess", ("once",)), ("supervisor.sendProcessStdin", ("once", "x")),
    (clients.ONCE_EXITS, ()), ("supervisor.getProcessInfo", ("once",)),
    *(("supervisor.signalProcess", (name, signal)) for name, signal in (
        ("lonely", "CONT"), ("lonely", "SIGCONT"), ("lonely", "18"), ("lonely", "cont"), ("lonely", "NONSENSE"),
        ("lonely", 18), ("lonely", "-1"), ("lonely", ""), ("nosuch", "CONT"), ("nosuch", "NONSENSE"), ("web:*", "CONT"))),
    ("supervisor.signalProcessGroup", ("lonely", "CONT")), ("supervisor.signalProcessGroup", ("nosuch", "CONT")),
    *((f"supervisor.readProcess{stream}Log", (LOG, offset, length)) for stream in ("Stdout", "Stderr")
      for offset, length in ((0, 0), (0, 3), (-3, 0), (-3, 3), (3, -1), (1000, 0), ("0", 0), ("x", 0), (0, None))),
    *((f"supervisor.tailProcess{stream}Log", (LOG, offset, length)) for stream in ("Stdout", "Stderr")
      for offset, length in ((0, 0), (0, 3), (5, 3), (-3, 3), (3, -1), (1000, 10), (0, 1000))),
    ("supervisor.readProcessStdoutLog", ("nosuch", 0, 0)), ("supervisor.tailProcessStdoutLog", ("nosuch", 0, 0)),
    ("supervisor.readLog", (0, 4)), ("supervisor.readLog", (-1, 5)), ("supervisor.readMainLog", (0,)),
    ("supervisor.clearProcessLogs", (LOG,)), ("supervisor.clearProcessLog", ("nosuch",)),
    ("supervisor.sendProcessStdin", ("lonely", "x")), ("supervisor.sendProcessStdin", ("nosuch", "x")),
    ("supervisor.sendProcessStdin", ("once", "x")),
    ("supervisor.sendRemoteCommEvent", ("a", "b")), ("supervisor.sendRemoteCommEvent", ("a",)),
    ("supervisor.addProcessGroup", ("lonely",)), ("supervisor.addProcessGroup", ("nosuch",)),
    ("supervisor.removeProcessGroup", ("lonely",)), ("supervisor.removeProcessGroup", ("nosuch",)),
    ("supervisor.removeProcessGroup", ("once",)), ("supervisor.addProcessGroup", ("once",)),
    ("system.listMethods", ()), ("system.listMethods", (1,)), ("system.methodSignature", ("supervisor.startProcess",)),
    ("system.methodSignature", ("nosuch",)), ("system.methodHelp", ("nosuch",)), ("system.multicall", ()),
    ("system.multicall", ([],)), ("system.multicall", ([{"params": []}],)),
    ("system.multicall", ([{"methodName": "system.multicall", "params": [[]]}],)),
    ("system.multicall", ([{"methodName": "supervisor.nosuch", "params": []},
                           {"methodName": "supervisor.stopProcess", "params": ["lonely"]},
                           {"methodName": "supervisor.startProcess", "params": ["lonely"]}],)),
    *((f"supervisor.{name}", (1,)) for name in ("getPID", "getState", "shutdown", "restart", "reloadConfig")),
]

INCORRECT_PARAMETERS, BAD_NAME = 2, 10

# Arguments that Supervisor does not look at when there is no file.
UNREAD = {"supervisor.readProcessStderrLog('web:web_00', 'x', 0)", "supervisor.readProcessStderrLog('web:web_00', 0, None)"}


def is_meant(title, theirs, ours):
    """Whether they are meant to differ so: Supervisor fails on arguments of a wrong type, here that is a fault."""
    is_fault = isinstance(ours, tuple) and ours[0] in (INCORRECT_PARAMETERS, BAD_NAME)
    return is_fault and (theirs == "status 500" or title in UNREAD)


class Connection(http.client.HTTPConnection):
    """Over a unix socket."""

    def __init__(self, path):
        super().__init__("localhost")
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(clients.BOUND)
        self.sock.connect(self.path)


def call(side, method, params):
    """The result of a call, comparable: a value, a fault, or a status."""
    connection = Connection(str(side.path / "s.sock"))
    try:
        connection.request("POST", "/RPC2", xmlrpc.client.dumps(params, method, allow_none=True).encode(),
                           {"Content-Type": "text/xml"})
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return f"no answer: {error}"
    finally:
        connection.close()
    if answer.status != http.client.OK:
        return f"status {answer.status}"
    try:
        return tidy(xmlrpc.client.loads(body)[0][0], side)
    except xmlrpc.client.Fault as fault:
        return fault.faultCode, tidy(fault.faultString, side)


def tidy(value, side):
    """A value without what is different in every run."""
    if isinstance(value, dict):
        return {name: "T" if name in ("start", "stop", "now", "pid") and member else tidy(member, side)
                for name, member in value.items()}
    if isinstance(value, list):
        items = [tidy(item, side) for item in value]
        return sorted(items, key=str) if items and isinstance(items[0], dict) else items
    if isinstance(value, str):
        text = value.replace(str(side.path), "DIR")
        text = re.sub(r"\w{3} \d\d \d\d:\d\d [AP]M", "WHEN", text)
        return re.sub(r"pid \d+, uptime [\d:]+", "pid N, uptime T", text)
    return value


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin-dir", type=pathlib.Path, default=pathlib.Path("target/release"))
    parser.add_argument("--python-bin", type=pathlib.Path, default=pathlib.Path(sys.executable).parent)
    parser.add_argument("--show", action="store_true", help="print all answers")
    options = parser.parse_args()
    sides = [clients.Side("supervisor", options.python_bin / "supervisord"),
             clients.Side("ours", options.bin_dir / "supervisord")]
    passed, failed, known = 0, 0, 0
    try:
        for method, params in CALLS:
            if method is clients.ONCE_EXITS:
                for side in sides:
                    side.let_once_exit()
                continue
            theirs, ours = (call(side, method, params) for side in sides)
            if method == "supervisor.getPID" and not params:
                theirs, ours = type(theirs), type(ours)
            title = f"{method}{params}"
            if theirs == ours:
                passed += 1
            elif is_meant(title, theirs, ours):
                known += 1
            else:
                failed += 1
                print(f"DIFFERENT {title}\n  supervisor: {theirs!r}\n  ours:       {ours!r}")
            if options.show:
                print(f"{title}: {ours!r}")
    finally:
        for side in sides:
            side.end()
    print(f"{passed} passed, {failed} failed, {known} differ as documented")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
