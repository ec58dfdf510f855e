#!/usr/bin/env python3
"""Checks the files in etc/ with the real Supervisor, and with our daemon.

    tests/examples.py --python VENV/bin/python [--supervisord target/release/supervisord]

Every example must mean the same to both: each configuration is read by Supervisor's own parser (from the given Python)
and by `supervisord --check`. The reference part of etc/supervisord.conf is read with all its keys switched on.
The unit file is verified by systemd-analyze where that is installed. Exit status 1 if anything is refused.
"""

import argparse
import pathlib
import pwd
import re
import shutil
import subprocess
import sys
import tempfile

ETC = pathlib.Path(__file__).resolve().parent.parent / "etc"
LOGS = "/var/log/supervisor"  # exists only where the unit has run; replaced by a temporary directory

# Reads one file as Supervisor's daemon and client do, and prints the processes it defines.
PARSE = """
import sys
from supervisor.options import ClientOptions, ServerOptions
server = ServerOptions()
server.realize(["-c", sys.argv[1]])
client = ClientOptions()
client.realize(["-c", sys.argv[1]])
for group in server.process_group_configs:
    for process in group.process_configs:
        print(f"{group.name}:{process.name}")
"""


def switched_on(text):
    """The reference part with every key and section active; the demo part before it stays as it is."""
    return re.sub(r"^;(?=[a-z\[])", "", text, flags=re.M)


def on_this_machine(text, logs):
    """Replaces what depends on installed packages: the log directory, and users that are missing here."""
    def user(match):
        try:
            pwd.getpwnam(match[1])
            return match[0]
        except KeyError:
            return "user=nobody"

    return re.sub(r"^user=(\S+)$", user, text, flags=re.M).replace(LOGS, str(logs))


def fragment(path):
    """A file of conf.d as the only content of a main file."""
    return f"[supervisord]\nlogfile={LOGS}/x.log\npidfile={LOGS}/x.pid\n[supervisorctl]\n" + path.read_text()


def cases():
    """Name and text of every configuration to check."""
    main = (ETC / "supervisord.conf").read_text()
    yield "supervisord.conf", main
    yield "supervisord.conf, reference switched on", switched_on(main)
    yield "supervisor/supervisord.conf", (ETC / "supervisor/supervisord.conf").read_text()
    for path in sorted((ETC / "conf.d").glob("*.conf")):
        yield f"conf.d/{path.name}", fragment(path)


def run(command):
    """Runs a command and returns its exit status and its output."""
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=300)
    return done.returncode, done.stdout + done.stderr


def processes(dump):
    """The lines of PARSE from our `--dump-config=json`."""
    import json

    return [f"{group['name']}:{process['name']}" for group in json.loads(dump)["groups"] for process in group["processes"]]


def check_config(name, text, options):
    """Problems of one configuration, as a list of sentences."""
    with tempfile.TemporaryDirectory(prefix="examples-") as directory:
        place = pathlib.Path(directory)
        (place / "run").mkdir()
        (place / "conf.d").mkdir()
        (place / "conf.d/included.conf").write_text("[program:included]\ncommand=/bin/cat\n")
        config = place / "supervisord.conf"
        config.write_text(on_this_machine(text, place))
        status, theirs = run([options.python, "-W", "ignore", "-c", PARSE, str(config)])
        problems = [f"Supervisor refuses it: {theirs.strip()}"] if status else []
        if options.supervisord:
            status, ours = run([options.supervisord, "--check", "--strict", "-c", str(config)])
            if status:
                problems.append(f"supervisord --check --strict refuses it: {ours.strip()}")
            status, dump = run([options.supervisord, "--dump-config=json", "-c", str(config)])
            if status:
                problems.append(f"supervisord --dump-config fails: {dump.strip()}")
            elif not problems and sorted(processes(dump)) != sorted(theirs.split()):
                problems.append(f"other processes: {processes(dump)}, not {theirs.split()}")
        return problems


def check_unit():
    """Problems of the unit file; its programs need not be installed, its man pages neither."""
    if not shutil.which("systemd-analyze"):
        return ["systemd-analyze is not installed"]
    with tempfile.TemporaryDirectory(prefix="examples-") as directory:
        unit = pathlib.Path(directory) / "supervisord.service"
        text = (ETC / "systemd/supervisord.service").read_text()
        unit.write_text(re.sub(r"/usr/bin/supervisor(d|ctl)\b", "/bin/true", text))
        status, output = run(["systemd-analyze", "verify", "--man=no", str(unit)])
        return [output.strip()] if status or output.strip() else []


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", default=sys.executable, help="interpreter that has Supervisor 4.3 installed")
    parser.add_argument("--supervisord", help="our daemon; without it only Supervisor is asked")
    options = parser.parse_args()
    results = [(name, check_config(name, text, options)) for name, text in cases()]
    results.append(("systemd/supervisord.service", check_unit()))
    for name, problems in results:
        print(f"{'refused' if problems else 'ok':8} etc/{name}", *problems, sep="\n         ")
    refused = sum(bool(problems) for _, problems in results)
    print(f"etc: {len(results)} checked, {refused} refused")
    return 1 if refused else 0


if __name__ == "__main__":
    sys.exit(main())
