#!/usr/bin/env python3
"""Compares the events that listeners get from Supervisor 4.3 and from the daemon under test.

The same recording listener runs under both (--python-bin DIR, default: beside the running Python; --bin-dir DIR) while
the same things happen: programs start, stop, crash and become FATAL, write to published and captured output, groups
come and go. Headers (without serials and lengths, which are checked by themselves) and payloads (without pids) must be
equal, for each process or group in order. Exit status: 0 when they are.

Then configurations of several listeners are reloaded and shut down. Supervisor stops a pool as its loop turns, so that
its listeners get more or fewer of the last events; ours must get all of them, in the same words: everything that happens
before their pool is stopped.
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

BOUND = 120  # seconds, the longest wait for anything
PATIENCE = 1  # seconds that ours waits at the end for listeners which do not answer

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
startsecs=1000
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
command=sh -c 'echo out; read line < $DIR/talk.go; echo err >&2; sleep 1000'
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

HEAD = CONFIG[:CONFIG.index("[eventlistener:recorder]")]


def a_pool(name, more=""):
    return (f"[eventlistener:{name}]\ncommand=$PYTHON $DIR/listener.py $DIR/{name}\nbuffer_size=200\nstartsecs=0\n"
            f"events=SUPERVISOR_STATE_CHANGE,PROCESS_STATE_STOPPING,PROCESS_STATE_STOPPED\n{more}\n")


def a_program(name, more="", command="sleep 1000"):
    return f"[program:{name}]\ncommand={command}\nstartsecs=0\n{more}\n"


QUICK = "".join(map(a_program, "abc"))
SLOW = "sh -c 'trap \"sleep 0.5; exit\" TERM; while :; do sleep 0.1; done'"

RUNNING = "SUPERVISOR_STATE_CHANGE_RUNNING "

# What is stopped: a name, the configuration, and for each pool the processes that have ended when it is stopped.
ENDINGS = [
    ("programs that stop at once", a_pool("one") + QUICK, {"one": "abc"}),
    ("a program that takes its time", a_pool("one") + a_program("slow", command=SLOW) + QUICK,
     {"one": ["slow", *"abc"]}),
    ("programs of several priorities", a_pool("one") + "".join(
        a_program(name, f"priority={at}") for at, name in enumerate("abc")), {"one": "abc"}),
    ("members of a group", a_pool("one") + QUICK + "[group:team]\nprograms=a,b,c\n", {"one": "abc"}),
    ("two pools", a_pool("one") + a_pool("two") + QUICK, {"two": "abc", "one": ["two", *"abc"]}),
    ("two pools of different priority", a_pool("one", "priority=-5") + a_pool("two", "priority=5") + QUICK,
     {"two": "abc", "one": ["two", *"abc"]}),
    ("two listeners of a pool", a_pool("pair", "numprocs=2\nprocess_name=pair%(process_num)s") + QUICK,
     {"pair": "abc"}),
    ("a pool that is stopped first", a_pool("one", "priority=1000") + QUICK, {"one": ""}),
    ("a pool of the programs' priority", a_pool("one", "priority=999") + QUICK, {"one": ""}),
    ("nothing else", a_pool("one"), {"one": ""}),
]

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
    (["start", "talk"], ("PROCESS_LOG_STDOUT", "processname:talk ")),
    # What is written to both at once may be read in either order.
    (["let-go", "talk.go"], ("PROCESS_LOG_STDERR", "processname:talk ")),
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

    def __init__(self, name, bin_dir, python, text=CONFIG):
        self.text = text
        self.name, self.bin_dir, self.dir = name, os.path.abspath(bin_dir), tempfile.mkdtemp(prefix="sve-")
        pathlib.Path(self.dir, "listener.py").write_text(LISTENER)
        pathlib.Path(self.dir, "capture.sh").write_text(CAPTURE)
        # Open on both ends, so that neither side of it ever waits for the other to open it.
        os.mkfifo(os.path.join(self.dir, "talk.go"))
        self.gate = os.open(os.path.join(self.dir, "talk.go"), os.O_RDWR | os.O_CLOEXEC)
        self.python = python
        self.configure("")
        with open(os.path.join(self.dir, "daemon.out"), "wb") as out:
            self.daemon = subprocess.Popen([os.path.join(self.bin_dir, "supervisord"), "-n", "-c", self.config],
                                           stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True)

    @property
    def config(self):
        return os.path.join(self.dir, "supervisord.conf")

    def configure(self, more):
        text = (self.text + more).replace("$DIR", self.dir).replace("$PYTHON", self.python)
        pathlib.Path(self.config).write_text(text)

    def ctl(self, *words):
        command = [os.path.join(self.bin_dir, "supervisorctl"), "-c", self.config, *words]
        subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, timeout=BOUND, check=False)

    def events(self, file="events"):
        path = pathlib.Path(self.dir, file)
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
            elif verb == "let-go":
                os.write(self.gate, b"\n")
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
            # The end is looked at by itself.
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

    def endings(self, pools, processes):
        """What each pool gets when everything is stopped: by a reload, then by a shutdown; and how long that takes."""
        found, longest = {}, 0
        for how in ("reload", "shutdown"):
            starts = 1 if how == "reload" else 2
            self.wait("the start", lambda: all(self.starts(pool) == starts for pool in pools))
            self.wait("its programs", lambda: self.is_up(processes))
            seen = {pool: len(self.events(pool)) for pool in pools}
            begin = time.monotonic()
            if how == "reload":
                self.ctl("reload")
                self.wait("a new start", lambda: all(self.starts(pool) == 2 for pool in pools))
            else:
                self.daemon.send_signal(signal.SIGTERM)
                self.daemon.wait(BOUND)
            longest = max(longest, time.monotonic() - begin)
            for pool in pools:
                events = [ending(*event) for event in self.events(pool)[seen[pool]:]]
                found[how, pool] = events[:events.index(RUNNING)] if how == "reload" else events
        return found, longest

    def starts(self, pool):
        """How often a pool was told that the daemon supervises."""
        return [ending(*event) for event in self.events(pool)].count(RUNNING)

    def is_up(self, processes):
        command = [os.path.join(self.bin_dir, "supervisorctl"), "-c", self.config, "status"]
        status = subprocess.run(command, capture_output=True, text=True, timeout=BOUND, check=False).stdout
        return len(re.findall("RUNNING", status)) == processes

    def wait(self, what, is_so):
        end = time.monotonic() + BOUND
        while not is_so():
            if time.monotonic() > end:
                sys.exit(f"{self.name}: waited too long for {what}: {self.text}")
            time.sleep(0.05)

    def end(self):
        os.close(self.gate)
        if self.daemon.poll() is None:
            self.daemon.terminate()
            self.daemon.wait(BOUND)


def ending(header, payload):
    """An event in short: its type and its payload without pid."""
    return re.search(r"eventname:(\S+)", header)[1] + " " + re.sub(r"pid:[1-9][0-9]*", "pid:N", payload)


def whole_ending(processes, team):
    """What a pool gets that is stopped after `processes`."""
    state = "PROCESS_STATE_{} processname:{} groupname:{} from_state:{} pid:N"
    both = [("STOPPING", "RUNNING"), ("STOPPED", "STOPPING")]
    of_processes = [state.format(to, name, team if name in "abc" and team else name, come_from)
                    for name in processes for to, come_from in both]
    return sorted(["SUPERVISOR_STATE_CHANGE_STOPPING ", *of_processes])


def both_endings(options, text, pools):
    """What Supervisor's listeners get and what ours get at the end, and how long ours takes for it."""
    sides = [Side("Supervisor", options.python_bin, sys.executable, HEAD + text),
             Side("ours", options.bin_dir, sys.executable, HEAD + text)]
    processes = text.count("\ncommand=") + text.count("numprocs=2")
    try:
        (expected, _), (found, took) = (side.endings(pools, processes) for side in sides)
    finally:
        for side in sides:
            side.end()
    return expected, found, took


def compare_endings(options):
    """How many configurations end in another way than they should."""
    failed, told, all_told = 0, 0, 0
    for name, text, pools in ENDINGS:
        end = time.monotonic() + BOUND
        while True:
            expected, found, took = both_endings(options, text, pools)
            problems = []
            for (how, pool), events in found.items():
                whole = whole_ending(pools[pool], "team" if "[group:team]" in text else None)
                missing = [event for event in expected[how, pool] if event not in events]
                if sorted(events) != whole or missing:
                    problems.append(f"{name}, {how}, pool {pool}:\n  Supervisor: {expected[how, pool]}\n"
                                    f"  ours: {events}\n  should be: {whole}")
            # Ours waits for listeners a second, all in all, which is too short for them on a machine that stands still.
            if not problems or took < PATIENCE or time.monotonic() > end:
                break
        failed += len(problems)
        print(*problems, sep="\n", end="\n" if problems else "")
        told, all_told = told + sum(map(len, expected.values())), all_told + sum(map(len, found.values()))
    print(f"{len(ENDINGS)} configurations reloaded and shut down: Supervisor's listeners got {told} of the {all_told} "
          f"events that ours got, {failed} differ")
    return failed


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
    failed += compare_endings(options)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
