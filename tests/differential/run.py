#!/usr/bin/env python3
"""Compares supervisorctl and supervisord with Supervisor 4.3, command line by command line.

A reference daemon (--python-bin DIR, default: beside the running Python) and the one under test (--bin-dir DIR) run
with the same configuration in a temporary directory each and are brought to the same state. Then every command line
of cases.py runs on both, each with its own supervisorctl; pids, times and paths are made equal; standard output,
standard error and exit status must be equal to the byte. startup.py's command lines follow: bad options and bad
configurations of supervisord. With --client Supervisor's supervisorctl drives both daemons instead, over the unix
socket or over TCP with a password.

Differences that are meant are listed in known.py, each with its reason, and stand in COMPATIBILITY.md; what is listed
there must differ in just the way that it says. Only the Python standard library is used. Exit status: 0 when nothing
failed.
"""

import argparse
import difflib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import cases
import known
import startup

BOUND = 120  # seconds, the longest wait for anything


class Side:
    """One of the two implementations: its programs, its directory, its daemon."""

    def __init__(self, name, bin_dir):
        self.name = name
        self.bin_dir = os.path.abspath(bin_dir)
        self.dir = tempfile.mkdtemp(prefix="svd-")
        self.port = free_port()
        self.over_inet = False
        self.daemon = None
        # Open on both ends, so that neither side of it ever waits for the other to open it.
        self.ends = {}
        for name in ("once", "two"):
            path = os.path.join(self.dir, f"{name}.end")
            os.mkfifo(path)
            self.ends[name] = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.environment = dict(os.environ, LANG="C.UTF-8", LC_ALL="C.UTF-8", PYTHONIOENCODING="utf-8", TZ="UTC")
        for program in ("supervisord", "supervisorctl"):
            if not os.access(self.program(program), os.X_OK):
                sys.exit(f"{self.program(program)} is missing: see --help")

    def program(self, name):
        return os.path.join(self.bin_dir, name)

    def expand(self, text):
        if self.over_inet:
            text = text.replace(cases.OVER_UNIX, cases.OVER_INET)
        return text.replace("$DIR", self.dir).replace("$PORT", str(self.port))

    def configure(self, text, name="supervisord.conf"):
        pathlib.Path(self.dir, name).write_text(self.expand(text))

    def start(self):
        out = open(os.path.join(self.dir, "daemon.out"), "wb")
        self.daemon = subprocess.Popen(
            [self.program("supervisord"), "-n", "-c", os.path.join(self.dir, "supervisord.conf")],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=self.environment, start_new_session=True)
        wait_for(f"{self.name}: the socket", lambda: self.answers())

    def launch(self, program, words, stdin):
        """(stdout, stderr, exit status) of one run."""
        done = subprocess.run([self.program(program), *words], input=stdin, capture_output=True, timeout=BOUND,
                              env=self.environment, cwd=self.dir)
        return done.stdout, done.stderr, done.returncode

    def answers(self):
        if self.daemon.poll() is not None:
            text = pathlib.Path(self.dir, "daemon.out").read_text(errors="replace")
            sys.exit(f"{self.name}: supervisord ended with {self.daemon.returncode}:\n{text}")
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(os.path.join(self.dir, "s.sock")) == 0

    def run(self, program, words, stdin=""):
        """(stdout, stderr, exit status), made comparable."""
        words = [self.expand(word) for word in words]
        stdout, stderr, status = self.launch(program, words, self.expand(stdin).encode())
        return self.plain(stdout), self.plain(stderr), status

    def ctl(self, words, stdin=""):
        return self.run("supervisorctl", ["-c", "$DIR/supervisord.conf", *words], stdin)

    def plain(self, output):
        text = output.decode("utf-8", "replace")
        for program in ("supervisorctl", "supervisord"):
            text = text.replace(self.program(program), f"BIN/{program}")
        text = text.replace(self.dir, "DIR").replace(str(self.port), "PORT")
        for pattern, replacement in PLAIN:
            text = pattern.sub(replacement, text)
        return text

    def end(self):
        if self.daemon is not None:
            if self.daemon.poll() is None:
                self.daemon.send_signal(signal.SIGTERM)
            try:
                self.daemon.wait(BOUND)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
        for descriptor in self.ends.values():
            os.close(descriptor)
        shutil.rmtree(self.dir, ignore_errors=True)


class Python(Side):
    """Programs of Supervisor. It costs a third of a second to start one of them; reference.py saves that."""

    def __init__(self, name, bin_dir):
        super().__init__(name, bin_dir)
        self.server = subprocess.Popen(
            [os.path.join(self.bin_dir, "python3"), os.path.join(os.path.dirname(__file__), "reference.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.environment, text=True)

    def launch(self, program, words, stdin):
        files = [os.path.join(self.dir, f"standard.{descriptor}") for descriptor in range(3)]
        for path, content in zip(files, (stdin, b"", b"")):
            pathlib.Path(path).write_bytes(content)
        json.dump({"program": program, "argv": [self.program(program), *words], "directory": self.dir, "files": files},
                  self.server.stdin)
        print(file=self.server.stdin, flush=True)
        status = int(self.server.stdout.readline())
        return pathlib.Path(files[1]).read_bytes(), pathlib.Path(files[2]).read_bytes(), status

    def end(self):
        self.server.stdin.close()
        self.server.wait(BOUND)
        super().end()


class Reference(Python):
    """Supervisor. It acts once a second unless a client connects: one that does so all the time makes it faster."""

    def __init__(self, name, bin_dir):
        super().__init__(name, bin_dir)
        self.ended = threading.Event()

    def start(self):
        super().start()
        threading.Thread(target=self.hurry, daemon=True).start()

    def hurry(self):
        while not self.ended.wait(0.02):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect_ex(os.path.join(self.dir, "s.sock"))

    def end(self):
        self.ended.set()
        super().end()


class Mixed(Python):
    """The daemon under test, driven by Supervisor's client."""

    def __init__(self, name, client_dir, bin_dir):
        self.daemon_program = os.path.join(os.path.abspath(bin_dir), "supervisord")
        super().__init__(name, client_dir)

    def program(self, name):
        return self.daemon_program if name == "supervisord" else super().program(name)


PLAIN = [
    (re.compile(r"\bpid \d+, uptime (\d+ days?, )?\d+:\d\d:\d\d"), "pid PID, uptime TIME"),
    (re.compile(r"\b(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) \d\d \d\d:\d\d [AP]M\b"), "DATE"),
    (re.compile(r"(?m)^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} "), "TIME "),
    (re.compile(r"(?m)^[1-9]\d{1,6}$"), "PID"),
    # Where in Python's own sources an exception came from, is no behaviour.
    (re.compile(r": file: \S+ line: \d+"), ": file: FILE line: LINE"),
]


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def wait_for(what, condition):
    end = time.monotonic() + BOUND
    while not condition():
        if time.monotonic() > end:
            sys.exit(f"waited in vain for {what}")
        time.sleep(0.05)


def on_both(sides, action):
    """Runs action(side) for both at the same time; the results in order, None for one that was not to be had."""
    results = [None] * len(sides)

    def call(index):
        try:
            results[index] = action(sides[index])
        except SystemExit as why:
            # A thread would say nothing.
            print(why, file=sys.stderr)

    threads = [threading.Thread(target=call, args=(index,)) for index in range(len(sides))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def on_both_surely(sides, action):
    """The same for what must succeed: ends everything if it does not."""
    for done in on_both(sides, lambda side: [action(side)]):
        if done is None:
            sys.exit(1)


class Table:
    """What was compared and how it went."""

    def __init__(self, verbose, differences):
        self.differences = differences
        self.passed, self.failed, self.listed, self.verbose = 0, 0, 0, verbose
        self.used = set()

    def compare(self, title, reference, ours):
        if reference is None or ours is None:
            self.failed += 1
            print(f"FAIL {title}\n     a command did not end in {BOUND} s")
            return
        for entry in self.differences:
            if reference != ours and title in entry.titles and entry.describes(reference, ours):
                self.used.add((entry, title))
                self.listed += 1
                if self.verbose:
                    print(f"diff {title}: {entry.reason}")
                return
        if reference == ours:
            self.passed += 1
            if self.verbose:
                print(f"ok   {title}")
            return
        self.failed += 1
        print(f"FAIL {title}")
        for part, left, right in zip(("stdout", "stderr"), reference, ours):
            if left != right:
                lines = difflib.ndiff(left.splitlines(True), right.splitlines(True))
                print("".join(f"     {part} {line!r}\n" for line in lines if line[0] != "?"), end="")
        if reference[2] != ours[2]:
            print(f"     exit status: {reference[2]} there, {ours[2]} here")

    def report(self):
        listed = {(entry, title) for entry in self.differences for title in entry.titles}
        for entry, title in listed - self.used:
            self.failed += 1
            print(f"FAIL {title}\n     listed in known.py ({entry.reason}), and does not differ so")
        print(f"{self.passed} passed, {self.failed} failed, {self.listed} differ as documented")
        return 1 if self.failed else 0


def perform(table, sides, step):
    kind, *rest = step
    if kind == "ctl":
        words, stdin = rest
        title = "supervisorctl " + " ".join(words) + (f" < {stdin!r}" if stdin else "")
        results = on_both(sides, lambda side: side.ctl(words, stdin))
        table.compare(title, *(map(in_any_order, results) if is_bulk(words) else results))
    elif kind == "when":
        words, text = rest
        table.compare("supervisorctl " + " ".join(words), *on_both(sides, lambda side: when(side, words, text)))
    elif kind == "raw":
        (words,) = rest
        title = "supervisorctl " + " ".join(words)
        table.compare(title, *on_both(sides, lambda side: side.run("supervisorctl", words)))
    elif kind == "until":
        names, state = rest
        on_both_surely(sides, lambda side: until_state(side, names, state))
    elif kind == "file":
        name, text = rest
        on_both_surely(sides, lambda side: wait_for(
            f"{side.name}: {text!r} in {name}",
            lambda: text in pathlib.Path(side.dir, name).read_text(errors="replace")))
    elif kind == "end":
        on_both_surely(sides, lambda side: os.write(side.ends[rest[0]], b"\n"))
    elif kind == "touch":
        on_both_surely(sides, lambda side: pathlib.Path(side.dir, rest[0]).touch())
    elif kind == "configure":
        on_both_surely(sides, lambda side: side.configure(rest[0]))
    elif kind == "ended":
        on_both_surely(sides, lambda side: side.daemon.wait(BOUND))
    else:
        raise ValueError(kind)


def is_bulk(words):
    """Whether the results come in the order in which processes happen to end or start."""
    return words[:1] and words[0] in ("start", "stop", "restart", "signal") and any(w == "all" or w.endswith("*") for w in words)


def in_any_order(result):
    return "".join(sorted(result[0].splitlines(True))), *result[1:]


def when(side, words, text):
    """The result of a command line that says `text`, which it may not do at first."""
    result = None

    def says_so():
        nonlocal result
        result = side.ctl(words)
        return text in result[0]

    wait_for(f"{side.name}: {text!r} from {words}", says_so)
    return result


def until_state(side, names, state):
    def reached():
        rows = [line.split() for line in side.ctl(["status", *names])[0].splitlines()]
        return len(rows) == len(names) and all(row[1] == state for row in rows)
    wait_for(f"{side.name}: {names} to be {state}", reached)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python-bin", default=os.path.dirname(os.path.abspath(sys.executable)), metavar="DIR",
                        help="directory of Supervisor 4.3's programs (default: that of the running Python)")
    parser.add_argument("--bin-dir", required=True, metavar="DIR", help="directory of the programs under test")
    parser.add_argument("-v", "--verbose", action="store_true", help="print what is equal too")
    parser.add_argument("--client", choices=("unix", "inet"),
                        help="drive both daemons with Supervisor's supervisorctl over this kind of socket")
    options = parser.parse_args()

    table = Table(options.verbose, known.OF_ITS_CLIENT if options.client else known.DIFFERENCES)
    sides = [Reference("Supervisor", options.python_bin),
             Mixed("under test", options.python_bin, options.bin_dir) if options.client else
             Side("under test", options.bin_dir)]
    for side in sides:
        side.over_inet = options.client == "inet"
    try:
        for step in cases.BEFORE:
            perform(table, sides, step)
        on_both_surely(sides, lambda side: side.configure(cases.CONFIG))
        on_both_surely(sides, lambda side: side.start())
        for step in cases.STEPS:
            perform(table, sides, step)
        for title, action in startup.cases() if not options.client else ():
            table.compare(title, *on_both(sides, action))
    finally:
        for side in sides:
            side.end()
    return table.report()


if __name__ == "__main__":
    sys.exit(main())
