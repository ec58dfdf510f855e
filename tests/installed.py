#!/usr/bin/env python3
"""Runs etc/ as it is installed: the system's configuration with the services of conf.d, on their usual paths and ports.

    tests/installed.py [--bin-dir target/release]

In namespaces of its own (network, mounts, pids), so that nothing of this machine is touched or in the way: overlays
take what is written to /etc, /run and /var. Each service must start, answer a request, and answer again after `kill -9`
of its main process, with nothing left of the old one; then restart, stop and shutdown. Needs root, `unshare` and Debian's
packages. Exit status 1 if anything is not as it must be.
"""

import argparse
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
CONFIG = "/etc/supervisor/supervisord.conf"
SERVICES = ("nginx", "apache", "redis", "postgresql", "php-fpm")
# These must answer again, after their main process was killed, at the first try: what is left of the old one is gone then.
AT_ONCE = ("nginx", "apache")
BOUND = 120  # seconds, the longest wait for anything
PHP = "/run/probe.php"
LOG = "/var/log/supervisor/supervisord.log"


def private_machine():
    """Inside new namespaces: loopback, writable overlays, the directories that Debian makes at boot."""
    import fcntl

    with socket.socket() as handle:  # interface flags of lo: up, loopback, running
        fcntl.ioctl(handle, 0x8914, struct.pack("16sh14x", b"lo", 0x49))
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/mnt"], check=True)
    for path in ("/etc", "/run", "/var"):
        upper, work = f"/mnt/upper{path}", f"/mnt/work{path}"
        os.makedirs(upper)
        os.makedirs(work)
        options = f"lowerdir={path},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "overlay", "-o", options, path], check=True)
    for path, owner in (("/run/php", "www-data"), ("/run/postgresql", "postgres"), ("/run/redis", "redis")):
        os.makedirs(path, exist_ok=True)
        shutil.chown(path, owner, owner)


def install():
    """Puts the files of etc/ where `just install` and an administrator put them."""
    for path in (CONFIG, "/etc/supervisor/conf.d", "/run/supervisor.sock", "/run/supervisord.pid"):
        shutil.rmtree(path, ignore_errors=True)
        pathlib.Path(path).unlink(missing_ok=True)
    os.makedirs("/etc/supervisor/conf.d")
    os.makedirs("/var/log/supervisor", exist_ok=True)
    shutil.copy(ROOT / "etc/supervisor/supervisord.conf", CONFIG)
    for name in SERVICES:
        shutil.copy(ROOT / f"etc/conf.d/{name}.conf", "/etc/supervisor/conf.d/")
    # Both web servers want port 80; nginx gets another one.
    site = pathlib.Path("/etc/nginx/sites-enabled/default")
    site.write_text("server { listen 8080; root /var/www/html; location / { return 200 nginx; } }\n")
    pathlib.Path(PHP).write_text("<?php echo 6 * 7;")


def fastcgi(kind, content):
    """A FastCGI record of request 1."""
    return struct.pack(">BBHHBx", 1, kind, 1, len(content), 0) + content


def php():
    """What PHP-FPM answers for PHP."""
    params = {"SCRIPT_FILENAME": PHP, "REQUEST_METHOD": "GET"}
    pairs = b"".join(bytes([len(k), len(v)]) + k.encode() + v.encode() for k, v in params.items())
    request = fastcgi(1, struct.pack(">HB5x", 1, 0)) + fastcgi(4, pairs) + fastcgi(4, b"") + fastcgi(5, b"")
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect("/run/php/php8.2-fpm.sock")
        client.sendall(request)
        answer = b""
        while chunk := client.recv(65536):
            answer += chunk
    return b"\r\n\r\n42" in answer


def redis():
    """Whether Redis answers."""
    with socket.create_connection(("127.0.0.1", 6379), 5) as client:
        client.sendall(b"PING\r\n")
        return client.recv(100) == b"+PONG\r\n"


def postgresql():
    """Whether PostgreSQL answers a query."""
    command = ["runuser", "-u", "postgres", "--", "psql", "-Atc", "select 6 * 7"]
    return subprocess.run(command, capture_output=True, text=True, cwd="/").stdout == "42\n"


def http(port):
    """Whether a web server answers a page."""
    return urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5).status == 200


PROBES = {"nginx": lambda: http(8080), "apache": lambda: http(80), "redis": redis, "postgresql": postgresql, "php-fpm": php}


def answers(name):
    """Whether a service does what it is for."""
    try:
        return PROBES[name]()
    except OSError:
        return False


def until(what, condition):
    """Waits for a condition; how long it took."""
    begin = time.monotonic()
    while not condition():
        if time.monotonic() - begin > BOUND:
            raise AssertionError(f"{what}: not within {BOUND} s")
        time.sleep(0.01)
    return time.monotonic() - begin


def processes():
    """All pids of this pid namespace but our own."""
    return {int(name) for name in os.listdir("/proc") if name.isdigit()} - {os.getpid()}


def reap():
    """Takes the exit statuses of orphans: this is process 1."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


def descendants(pid):
    """A process and all below it."""
    found = {pid}
    for child in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        found |= descendants(int(child))
    return found


def has_ended(pid):
    """Whether nothing is left of a process but its exit status."""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


def starts(name):
    """How often a service was started."""
    return pathlib.Path(LOG).read_text().count(f"spawned: '{name}'")


def check(what, condition):
    """Fails with a sentence."""
    if not condition:
        raise AssertionError(what)


def exercise(daemon, ctl):
    """The life of the services."""
    def run(*words):
        done = subprocess.run([*ctl, *words], capture_output=True, text=True, timeout=BOUND)
        return done.returncode, done.stdout + done.stderr

    until("all RUNNING", lambda: run("status")[1].count("RUNNING") == len(SERVICES))
    for name in SERVICES:
        until(f"{name} answers", lambda: answers(name))
        old = int(run("pid", name)[1])
        tree = descendants(old)
        before = starts(name)
        os.kill(old, signal.SIGKILL)
        until(f"{name}: the old main process is gone", lambda: old not in processes())
        took = until(f"{name} answers after kill -9", lambda: int(run("pid", name)[1]) not in (0, old) and answers(name))
        check(f"{name}: {starts(name) - before} starts", starts(name) == before + 1 or name not in AT_ONCE)
        left = {pid for pid in tree & processes() if not has_ended(pid)}
        check(f"{name}: {left} of the old tree are left", not left)
        print(f"{name}: answers {took * 1000:.0f} ms after kill -9, nothing of {len(tree)} old processes left", flush=True)
    until("all RUNNING again", lambda: run("status")[1].count("RUNNING") == len(SERVICES))
    status, text = run("restart", "nginx")
    check(f"restart nginx: {status}, {text!r}", (status, text) == (0, "nginx: stopped\nnginx: started\n"))
    until("nginx answers after restart", lambda: answers("nginx"))
    print("nginx: restarted", flush=True)
    run("shutdown")
    check("exit status of the daemon", daemon.wait(BOUND) == 0)
    # The keeper sees the end of the daemon, and then ends itself.
    until("no process is left after shutdown", lambda: reap() or not processes())
    for path in ("/run/supervisor.sock", "/run/supervisord.pid"):
        check(f"{path} is left", not os.path.exists(path))
    print("shutdown: no process, socket or pidfile left", flush=True)


def inside(bin_dir):
    """The test itself, as the first process of the new namespaces."""
    private_machine()
    install()
    with tempfile.TemporaryFile() as output:
        daemon = subprocess.Popen([f"{bin_dir}/supervisord", "-n", "-c", CONFIG], stdout=output, stderr=output)
        try:
            exercise(daemon, [f"{bin_dir}/supervisorctl", "-c", CONFIG])
        except AssertionError as failure:
            print(f"FAILED: {failure}")
            output.seek(0)
            print(output.read().decode(errors="replace")[-6000:])
            return 1
    print(f"installed: {len(SERVICES)} services passed")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin-dir", default=ROOT / "target/release", type=pathlib.Path)
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return inside(options.bin_dir.resolve())
    unshare = ["unshare", "--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    if subprocess.run([*unshare, "true"], stderr=subprocess.DEVNULL).returncode:
        print("installed: not run, namespaces cannot be made here")
        return 0
    return subprocess.run([*unshare, sys.executable, __file__, "--inside", "--bin-dir", options.bin_dir]).returncode


if __name__ == "__main__":
    sys.exit(main())
