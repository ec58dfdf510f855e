#!/usr/bin/env python3
"""Compares the events that listeners get from Supervisor 4.3 and from the daemon under test.

The same recording listener runs under both (--python-bin DIR, default: beside the running Python; --bin-dir DIR) while
the same things happen: programs start, stop, crash and become FATAL, write to published and captured output, groups
come and go, everything is stopped. Headers (without serials and lengths, which are checked by themselves) and payloads
(without pids) must be equal, for each process or group in order. Exit status: 0 when they are.
"""

import argparse
import collections
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

BOUND = 40  # seconds, the longest wait for anything

LISTENER = r"""
import json, os, sys
stdin, out = sys.stdin.buffer, open(sys.argv[1], "a")
while True:
    os.write(1, b"READY\n")
    header = stdin.readline().decode()
    if not header:
        break
    length = int(header.rsplit("len:", 1)[1])
    payload = stdin.read(length).decode()
    print(json.dumps([header, payload]), file=out, flush=True)
    os.write(1, b"RESULT 2\nOK")
"""

CONFIG = """
[supervisord]
logfile=$DIR/supervisord.log
pidfile=$DIR/supervisord.pid
childlogdir=$DIR
loglevel=debug
[unix_http_server]
file=$DIR/s.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://$DIR/s.sock
[eventlistener:recorder]
command=$PYTHON $DIR/listener.py $DIR/events
events=EVENT
buffer_size=200
startsecs=0
[program:web]
command=sleep 1000
autostart=false
startsecs=0
[program:slow]
command=sleep 1000
autostart=false
startsecs=1
[program:once]
command=sh -c 'sleep 0.2; exit 3'
autostart=false
autorestart=false
startsecs=0
[program:good]
command=sh -c 'sleep 0.2; exit 0'
autostart=false
autorestart=false
startsecs=0
[program:shot]
command=sh -c 'sleep 0.2; kill -9 $$'
autostart=false
autorestart=false
startsecs=0
[program:bad]
command=sh -c 'exit 1'
autostart=false
startretries=1
startsecs=3
[program:absent]
command=/nowhere/at/all
startretries=0
[program:member]
command=sleep 1000
autostart=false
startsecs=0
[group:team]
programs=member
[program:talk]
command=sh -c 'echo out; sleep 0.3; echo err >&2; sleep 1000'
autostart=false
startsecs=0
stdout_events_enabled=true
stderr_events_enabled=true
[program:both]
command=sh -c 'echo one >&2; sleep 1000'
autostart=false
startsecs=0
redirect_stderr=true
stdout_events_enabled=true
stderr_events_enabled=true
[program:binary]
command=sh -c 'printf "\\377\\047\\t\\n"; sleep 1000'
autostart=false
startsecs=0
stdout_logfile=NONE
stdout_events_enabled=true
[program:capture]
command=sh $DIR/capture.sh
autostart=false
startsecs=0
stdout_logfile=$DIR/capture.out
stdout_capture_maxbytes=1MB
[program:capturelog]
command=sh $DIR/capture.sh
autostart=false
startsecs=0
stdout_capture_maxbytes=1MB
stdout_events_enabled=true
"""

CAPTURE = """printf 'before<!--XSUPERVISOR:BEGIN-->message one<!--XSUPERVISOR:END-->between, and more than a token is long'
sleep 0.4
printf '<!--XSUPERVISOR:BEGIN-->cut by'
sleep 0.4
printf ' a pause, and longer than a token is<!--XSUPERVISOR:END-->and so on with enough text'
sleep 1000
"""

ADDED = "[program:added]\ncommand=sleep 1000\nstartsecs=0\nautostart=false\n"

# What must have been recorded before the next step; the last word of a payload's first line is not looked at.
STEPS = [
    (["start", "web"], ("PROCESS_STATE_RUNNING", "processname:web ")),
    (["stop", "web"], ("PROCESS_STATE_STOPPED", "processname:web ")),
    (["start", "slow"], ("PROCESS_STATE_RUNNING", "processname:slow ")),
    (["restart", "slow"], ("PROCESS_STATE_STOPPED", "processname:slow ")),
    (["start", "once"], ("PROCESS_STATE_EXITED", "processname:once ")),
    (["start", "good"], ("PROCESS_STATE_EXITED", "processname:good ")),
    (["start", "shot"], ("PROCESS_STATE_EXITED", "processname:shot ")),
    (["start", "bad"], ("PROCESS_STATE_FATAL", "processname:bad ")),
    (["start", "team:member"], ("PROCESS_STATE_RUNNING", "groupname:team ")),
    (["start", "talk"], ("PROCESS_LOG_STDERR", "processname:talk ")),
    (["start", "both"], ("PROCESS_LOG_STDOUT", "processname:both ")),
    (["start", "binary"], ("PROCESS_LOG_STDOUT", "processname:binary ")),
    (["start", "capture"], ("PROCESS_COMMUNICATION_STDOUT", "a pause")),
    (["start", "capturelog"], ("PROCESS_LOG_STDOUT", "and so on")),
    (["update-with", ADDED], ("PROCESS_GROUP_ADDED", "groupname:added")),
    (["update-with", ""], ("PROCESS_GROUP_REMOVED", "groupname:added")),
    (["stop", "web", "slow", "talk", "both"], ("PROCESS_STATE_STOPPED", "processname:both ")),
]

HEADER = re.compile(r"ver:3\.0 server:supervisor serial:(\d+) pool:recorder poolserial:(\d+) eventname:([A-Z0-9_]+) "
                    r"len:(\d+)\n\Z")


class Side:
    """One daemon and what its listener has recorded."""

    def __init__(self, name, bin_dir, python):
        self.name, self.bin_dir, self.dir = name, os.path.abspath(bin_dir), tempfile.mkdtemp(prefix="sve-")
        pathlib.Path(self.dir, "listener.py").write_text(LISTENER)
        pathlib.Path(self.dir, "capture.sh").write_text(CAPTURE)
        self.python = python
        self.configure("")
        with open(os.path.join(self.dir, "daemon.out"), "wb") as out:
            self.daemon = subprocess.Popen([os.path.join(self.bin_dir, "supervisord"), "-n", "-c", self.config],
                                           stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)

    @property
    def config(self):
        return os.path.join(self.dir, "supervisord.conf")

    def configure(self, more):
        text = (CONFIG + more).replace("$DIR", self.dir).replace("$PYTHON", self.python)
        pathlib.Path(self.config).write_text(text)

    def ctl(self, *words):
        command = [os.path.join(self.bin_dir, "supervisorctl"), "-c", self.config, *words]
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=BOUND, check=False)

    def events(self):
        path = pathlib.Path(self.dir, "events")
        text = path.read_text() if path.exists() else ""
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def wait_for(self, kind, text):
        end = time.monotonic() + BOUND
        while not any(f"eventname:{kind} " in header and text in payload for header, payload in self.events()):
            if time.monotonic() > end:
                sys.exit(f"{self.name}: no {kind} {text!r} in {json.dumps(self.events(), indent=1)}")
            time.sleep(0.05)

    def run(self):
        """Everything that is to happen."""
        self.wait_for("PROCESS_STATE_FATAL", "processname:absent ")
        for (verb, *words), expected in STEPS:
            if verb == "update-with":
                self.configure(words[0])
                self.ctl("update")
            else:
                self.ctl(verb, *words)
            self.wait_for(*expected)
        self.daemon.send_signal(signal.SIGTERM)
        self.daemon.wait(BOUND)

    def summary(self):
        """The events of each process or group in order; complains about headers that are wrong by themselves."""
        by_subject = collections.defaultdict(list)
        last = -1
        for header, payload in self.events():
            match = HEADER.match(header)
            if not match:
                sys.exit(f"{self.name}: a header like no other: {header!r}")
            serial, poolserial, kind, length = match.groups()
            if int(serial) != last + 1 or int(poolserial) != int(serial) or int(length) != len(payload.encode()):
                sys.exit(f"{self.name}: serials or length are wrong: {header!r} {payload!r}")
            last = int(serial)
            if kind.startswith("TICK"):
                continue
            subject = re.match(r"(?:processname:(\S+) )?groupname:(\S+)", payload)
            key = " ".join(word or "" for word in subject.groups()) if subject else kind
            # What happens while everything is stopped reaches the listener or not, as it happens.
            if kind == "SUPERVISOR_STATE_CHANGE_STOPPING":
                break
            payload = re.sub(r"pid:[1-9][0-9]*", "pid:N", payload)
            before = by_subject[key][-1:]
            if kind.startswith("PROCESS_LOG") and before and before[0][0] == kind:
                # Where output is cut depends on when it is read.
                by_subject[key][-1] = (kind, before[0][1] + payload.split("\n", 1)[1])
            else:
                by_subject[key].append((kind, payload))
        return by_subject

    def end(self):
        if self.daemon.poll() is None:
            self.daemon.terminate()
            self.daemon.wait(BOUND)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin-dir", required=True, help="directory of the binaries under test")
    parser.add_argument("--python-bin", default=os.path.dirname(os.path.abspath(sys.executable)),
                        help="directory of Supervisor's scripts")
    options = parser.parse_args()
    sides = [Side("Supervisor", options.python_bin, sys.executable), Side("ours", options.bin_dir, sys.executable)]
    try:
        for side in sides:
            side.run()
        expected, found = (side.summary() for side in sides)
    finally:
        for side in sides:
            side.end()
    failed = 0
    for subject in sorted(set(expected) | set(found)):
        if expected[subject] != found[subject]:
            failed += 1
            print(f"{subject}:")
            for name, events in (("Supervisor", expected[subject]), ("ours", found[subject])):
                print("\n".join([f"  {name}:"] + [f"    {kind} {payload!r}" for kind, payload in events]))
    print(f"{sum(map(len, expected.values()))} events of {len(expected)} subjects compared, {failed} differ")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
