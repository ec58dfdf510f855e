#!/usr/bin/env python3
"""How long one XML-RPC client waits, alone and in a crowd. Prints numbers and judges nothing.

    tests/latency.py [--bin-dir target/release] [--python-bin DIR] [--rounds 3] [--seconds 4]

A client calls supervisor.getProcessInfo 200 times a second over the unix socket of a daemon with 100 programs:
  quiet    nobody else is there;
  slow     200 others hold connections: silent ones, half a header, half a body, a byte now and then, answers and logs
           that they do not read;
  crowd    the slow ones, and 50 clients that call getProcessInfo and getAllProcessInfo as fast as they are answered.
The three take turns in each round. With --python-bin, the directory of Supervisor's scripts, Supervisor does the same.
Milliseconds: the median of the rounds, and its ratio to the quiet one.
"""

import argparse
import contextlib
import os
import pathlib
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

BOUND = 60
CONFIG = """\
[supervisord]
logfile={dir}/supervisord.log
pidfile={dir}/supervisord.pid
childlogdir={dir}
[unix_http_server]
file={dir}/s.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[program:p]
command=/bin/sleep 100000
process_name=p%(process_num)03d
numprocs=100
startsecs=0
"""


def request(method, *names):
    params = "".join(f"<param><value><string>{name}</string></value></param>" for name in names)
    body = f"<?xml version='1.0'?><methodCall><methodName>{method}</methodName><params>{params}</params></methodCall>"
    return f"POST /RPC2 HTTP/1.1\r\nHost: x\r\nContent-Type: text/xml\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


ONE, ALL = request("supervisor.getProcessInfo", "p:p001"), request("supervisor.getAllProcessInfo")


def connect(path):
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(BOUND)
    client.connect(path)
    return client


def ask(client, text):
    """Sends a request and reads its answer."""
    client.sendall(text)
    seen = b""
    while b"</methodResponse>" not in seen[-40:]:
        piece = client.recv(1 << 16)
        if not piece:
            raise ConnectionError("closed")
        seen += piece


@contextlib.contextmanager
def daemon(program):
    with tempfile.TemporaryDirectory(prefix="svl-") as directory:
        config = pathlib.Path(directory, "s.conf")
        config.write_text(CONFIG.format(dir=directory))
        with open(os.path.join(directory, "out"), "wb") as out:
            process = subprocess.Popen([program, "-n", "-c", config], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        try:
            path = os.path.join(directory, "s.sock")
            end = time.monotonic() + BOUND
            log = pathlib.Path(directory, "supervisord.log")
            while not log.exists() or log.read_text().count("entered RUNNING") < 100:
                if time.monotonic() > end or process.poll() is not None:
                    sys.exit(f"{program} did not start")
                time.sleep(0.05)
            yield path
        finally:
            process.terminate()
            process.wait(BOUND)


@contextlib.contextmanager
def slow_clients(path, number=200):
    """Connections that take much and give little."""
    held, ended = [], threading.Event()
    try:
        for kind in range(number):
            client = connect(path)
            start = [b"", ONE[:20], ONE[:-5], b"", ALL, b"GET /logtail/p:p001 HTTP/1.1\r\nHost: x\r\n\r\n",
                     b"PRI * HTTP/2.0\r\n", b"P"][kind % 8]
            if start:
                client.sendall(start)
            held.append((kind, client))

        def drip():
            """A byte of a request, every half second, from each of those that have begun one with `P`."""
            at = 1
            while not ended.wait(0.5):
                for kind, client in held:
                    if kind % 8 == 7:
                        with contextlib.suppress(OSError):
                            client.sendall(ONE[at:at + 1])
                at += 1

        thread = threading.Thread(target=drip)
        thread.start()
        yield
    finally:
        ended.set()
        thread.join()
        for _, client in held:
            client.close()


@contextlib.contextmanager
def crowd(path, number=50):
    """Clients in a process of their own, each as fast as it is answered."""
    process = subprocess.Popen([sys.executable, __file__, "--crowd", path, str(number)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True)
    process.stdout.readline()
    try:
        yield
    finally:
        process.stdin.close()
        process.wait(BOUND)


def be_a_crowd(path, number):
    def call(kind):
        client = connect(path)
        while True:
            try:
                ask(client, ALL if kind % 5 == 0 else ONE)
            except OSError:
                client = connect(path)

    for kind in range(number):
        threading.Thread(target=call, args=(kind,), daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)


def measure(path, seconds):
    """(p50, p99, max) in milliseconds of calls at a steady pace."""
    client, times = connect(path), []
    begin = due = time.perf_counter()
    while due < begin + seconds:
        now = time.perf_counter()
        if now < due:
            time.sleep(due - now)
        before = time.perf_counter()
        ask(client, ONE)
        times.append((time.perf_counter() - before) * 1e3)
        due = max(due + 0.005, time.perf_counter() - 0.1)
    client.close()
    times.sort()
    return times[len(times) // 2], times[len(times) * 99 // 100], times[-1]


def main():
    if sys.argv[1:2] == ["--crowd"]:
        return be_a_crowd(sys.argv[2], int(sys.argv[3]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin-dir", type=pathlib.Path, default=pathlib.Path("target/release"))
    parser.add_argument("--python-bin", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4)
    options = parser.parse_args()
    programs = {"ours": options.bin_dir / "supervisord"}
    if options.python_bin:
        programs["supervisor"] = options.python_bin / "supervisord"
    found = {}
    for _ in range(options.rounds):
        for name, program in programs.items():
            with daemon(program.resolve() if name == "ours" else program) as path:
                found.setdefault((name, "quiet"), []).append(measure(path, options.seconds))
                with slow_clients(path):
                    found.setdefault((name, "slow"), []).append(measure(path, options.seconds))
                    with crowd(path):
                        found.setdefault((name, "crowd"), []).append(measure(path, options.seconds))
    print(f"{'':12}{'':7}{'p50 ms':>9}{'ratio':>7}{'p99 ms':>9}{'ratio':>7}{'max ms':>9}{'ratio':>7}")
    for (name, what), rounds in found.items():
        row = [statistics.median(values) for values in zip(*rounds)]
        base = [statistics.median(values) for values in zip(*found[name, "quiet"])]
        print(f"{name:12}{what:7}" + "".join(f"{value:9.2f}{value / quiet:7.1f}" for value, quiet in zip(row, base)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
