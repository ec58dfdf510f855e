#!/usr/bin/env python3
"""Runs real Celery workers under supervisord (T66): no task is lost by a stop, no worker set is left beside another.

    tests/celery.py [--bin-dir target/release]

Celery comes from PyPI into target/celery; its broker is a directory. Exit status 1 if anything is not as it must be.
"""

import argparse
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / "target/celery"
BOUND = 300  # seconds, the longest wait for anything

TASKS = """
import os, pathlib, time
from celery import Celery
here = pathlib.Path(__file__).parent
app = Celery("tasks", broker="filesystem://")
app.conf.update(
    broker_transport_options={
        "data_folder_in": str(here / "queue"), "data_folder_out": str(here / "queue"),
        "control_folder": str(here / "control"),
    },
    worker_prefetch_multiplier=1, task_acks_late=True,
)

@app.task
def work(name, seconds):
    (here / f"{name}.begun").write_text(str(os.getpid()))
    time.sleep(seconds)
    (here / f"{name}.done").write_text("")
"""

CONFIG = """[supervisord]
logfile={dir}/supervisord.log
pidfile={dir}/supervisord.pid
childlogdir={dir}
[unix_http_server]
file={dir}/s.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{dir}/s.sock
[program:celery]
command={bin}/celery -A tasks worker --concurrency=2 --loglevel=INFO --without-gossip --without-mingle
directory={dir}
redirect_stderr=true
stdout_logfile={dir}/celery.log
startsecs=3
stopwaitsecs={stopwaitsecs}
killasgroup=true
"""


class Fleet:
    """A daemon with a Celery worker in a directory of its own."""

    def __init__(self, bin_dir):
        self.bin_dir = bin_dir
        self.temporary = tempfile.TemporaryDirectory(prefix="celery-")
        self.dir = pathlib.Path(self.temporary.name)
        for name in ("queue", "control"):
            (self.dir / name).mkdir()
        (self.dir / "tasks.py").write_text(TASKS)
        self.configure(stopwaitsecs=600)
        self.daemon = subprocess.Popen(
            [bin_dir / "supervisord", "-n", "-c", self.dir / "supervisord.conf"], stdout=subprocess.DEVNULL
        )
        self.until("the worker to be ready", lambda: self.ready() == 1)

    def configure(self, stopwaitsecs):
        text = CONFIG.format(dir=self.dir, bin=VENV / "bin", stopwaitsecs=stopwaitsecs)
        (self.dir / "supervisord.conf").write_text(text)

    def ctl(self, *words):
        command = [self.bin_dir / "supervisorctl", "-c", self.dir / "supervisord.conf", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=2 * BOUND).stdout

    def read(self, name):
        path = self.dir / name
        return path.read_text(errors="replace") if path.exists() else ""

    def ready(self):
        """How many workers have become ready so far."""
        return self.read("celery.log").count(" ready.")

    def until(self, what, condition):
        deadline = time.monotonic() + BOUND
        while not condition():
            if time.monotonic() > deadline:
                for name in ("supervisord.log", "celery.log"):
                    print(f"--- {name}\n{self.read(name)[-3000:]}", file=sys.stderr)
                raise SystemExit(f"waited in vain for {what}")
            time.sleep(0.05)

    def send(self, name, seconds):
        """Puts a task into the queue and waits until a worker has it; the worker's pid."""
        code = f"import tasks; tasks.work.delay({name!r}, {seconds})"
        subprocess.run([VENV / "bin/python", "-c", code], cwd=self.dir, check=True, timeout=BOUND)
        self.until(f"task {name} to begin", lambda: self.read(f"{name}.begun"))
        return int(self.read(f"{name}.begun"))

    def workers(self):
        """Pids of all processes of Celery that belong to this directory."""
        found = []
        for entry in pathlib.Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and b"worker" in (entry / "cmdline").read_bytes():
                    if os.readlink(entry / "cwd") == str(self.dir):
                        found.append(int(entry.name))
            except OSError:
                continue
        return found

    def end(self):
        self.daemon.terminate()
        self.daemon.wait(BOUND)
        left = self.workers()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        self.temporary.cleanup()
        return left


def check(fleet):
    """The scenarios; yields what was seen and whether it is right."""
    yield "a leader and two workers run", len(fleet.workers()) == 3
    pid = fleet.send("warm", 4)
    said = fleet.ctl("stop", "celery")
    yield "stop ends with its usual words", said == "celery: stopped\n"
    yield "a stop lets the task end", (fleet.dir / "warm.done").exists()
    yield "a stop leaves nobody", not fleet.workers() and not pathlib.Path(f"/proc/{pid}").exists()
    yield "the stop was warm", "Warm shutdown" in fleet.read("celery.log")
    fleet.ctl("start", "celery")
    fleet.until("the second worker", lambda: fleet.ready() == 2)
    old = fleet.workers()
    os.kill(int(fleet.ctl("pid", "celery")), signal.SIGKILL)
    fleet.until("a replacement", lambda: fleet.ready() == 3)
    yield "a killed leader's pool is not left beside the new one", not set(old) & set(fleet.workers())
    yield "there is one set of workers", len(fleet.workers()) == 3
    old = fleet.workers()
    fleet.configure(stopwaitsecs=2)
    fleet.daemon.send_signal(signal.SIGHUP)
    fleet.until("a worker after the reload", lambda: fleet.ready() == 4)
    yield "a reload leaves one set of workers", len(fleet.workers()) == 3 and not set(old) & set(fleet.workers())
    fleet.send("long", 1000)
    fleet.ctl("stop", "celery")
    yield "after stopwaitsecs the pool is killed with its leader", not fleet.workers()
    yield "the log says so", "stopped: celery (terminated by SIGKILL)" in fleet.read("supervisord.log")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin-dir", type=pathlib.Path, default=ROOT / "target/release")
    options = parser.parse_args()
    if not (VENV / "bin/celery").exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([VENV / "bin/pip", "--disable-pip-version-check", "-q", "install", "celery==5.*"], check=True)
    fleet = Fleet(options.bin_dir.resolve(strict=True))
    try:
        results = []
        for what, is_right in check(fleet):
            results.append(is_right)
            print(f"{'ok    ' if is_right else 'FAILED'} {what}", flush=True)
    finally:
        left = fleet.end()
    results.append(not left)
    print(f"{'ok    ' if not left else 'FAILED'} the end of the daemon is the end of all workers")
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
