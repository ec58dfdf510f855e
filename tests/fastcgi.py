#!/usr/bin/env python3
"""A real php-cgi behind [fcgi-program:x] answers real FastCGI requests while its workers are killed: none is refused.

Needs Debian's php-cgi. Prints a line for each check, and a closing line; status 1 if one failed.
"""

import argparse
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

BOUND = 120  # seconds, the longest wait for anything

CONFIG = """
[supervisord]
logfile={dir}/supervisord.log
pidfile={dir}/supervisord.pid
[unix_http_server]
file={dir}/s.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{dir}/s.sock
[fcgi-program:php]
command=/usr/bin/php-cgi
socket={socket}
process_name=%(program_name)s_%(process_num)d
numprocs=2
startsecs=0
autorestart=true
"""


def pair(name, value):
    name, value = name.encode(), value.encode()
    return bytes([len(name), len(value)]) + name + value


def record(kind, body):
    return struct.pack("!BBHHBB", 1, kind, 1, len(body), 0, 0) + body


def request(address, script):
    """The answer of the script as one FastCGI request, and its status. Source: the FastCGI specification, 1.0."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(BOUND)
        connection.connect(address)
        params = {"SCRIPT_FILENAME": script, "REQUEST_METHOD": "GET", "REDIRECT_STATUS": "200", "QUERY_STRING": ""}
        body = b"".join(pair(*item) for item in params.items())
        connection.sendall(record(1, struct.pack("!HB5x", 1, 0)) + record(4, body) + record(4, b"") + record(5, b""))
        received = b""
        while piece := connection.recv(65536):
            received += piece
    output = b""
    while len(received) >= 8:
        _, kind, _, length, padding, _ = struct.unpack("!BBHHBB", received[:8])
        if kind == 6:
            output += received[8:8 + length]
        received = received[8 + length + padding:]
    return output.decode()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def run(binaries, kind):
    """The checks over one kind of socket: pairs of a name and whether it holds."""
    with tempfile.TemporaryDirectory() as directory:
        address = f"{directory}/php.sock" if kind == "unix" else ("127.0.0.1", free_port())
        url = f"unix://{address}" if kind == "unix" else "tcp://%s:%d" % address
        script = f"{directory}/pid.php"
        with open(script, "w", encoding="utf-8") as file:
            file.write("<?php echo 'worker ', getmypid();")
        path = f"{directory}/supervisord.conf"
        with open(path, "w", encoding="utf-8") as file:
            file.write(CONFIG.format(dir=directory, socket=url))
        daemon = subprocess.Popen([f"{binaries}/supervisord", "-n", "-c", path], stdout=subprocess.DEVNULL)
        try:
            yield from check(binaries, path, address, script)
        finally:
            daemon.terminate()
            daemon.wait(BOUND)


def check(binaries, path, address, script):
    def pids():
        names = ["php:php_0", "php:php_1"]
        command = [f"{binaries}/supervisorctl", "-c", path, "pid", *names]
        shown = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
        return [int(pid) for pid in shown if pid.isdigit() and pid != "0"]

    deadline = time.monotonic() + BOUND
    while len(pids()) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    first = request(address, script)
    yield "a request is answered by a worker", int(first.rsplit(" ", 1)[1]) in pids()
    refused, unanswered, answered = 0, 0, 0
    for _ in range(10):
        for pid in pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for _ in range(5):
            try:
                answer = request(address, script)
                answered, unanswered = answered + ("worker " in answer), unanswered + ("worker " not in answer)
            except ConnectionRefusedError:
                refused += 1
            except ConnectionResetError:
                unanswered += 1
    print(f"     {answered} answered, {unanswered} cut by a kill, {refused} refused")
    yield "no connection is refused while workers are killed", refused == 0
    yield "requests are answered all the time", answered >= 25
    upgraded = subprocess.run([f"{binaries}/supervisorctl", "-c", path, "upgrade"], capture_output=True, check=False)
    yield "an upgrade keeps the socket", upgraded.returncode == 0 and "worker " in request(address, script)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin-dir", required=True)
    binaries = os.path.abspath(parser.parse_args().bin_dir)
    passed = failed = 0
    for kind in ["unix", "tcp"]:
        for name, holds in run(binaries, kind):
            print(f"{'ok  ' if holds else 'FAIL'} {kind}: {name}")
            passed, failed = passed + holds, failed + (not holds)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
