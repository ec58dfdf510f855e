#!/usr/bin/env python3
"""Drives both daemons with Ansible's module `supervisorctl`: what it says of each task must be the same (T67).

    tests/ansible.py [--bin-dir target/release] [--python PYTHON] [--ours-only] [--show]

One playbook for each implementation, with its own daemon and its own `supervisorctl`; the module comes from PyPI's
package `ansible`, unmodified, into target/ansible. Each task below names what must come of it; `changed`, `failed`, the
message and who was affected must equal what happens with the real Supervisor, which PYTHON has installed. Exit status
1 if anything differs.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOME = ROOT / "target/ansible"
MODULE = "community.general.supervisorctl"
# What of the package `ansible` is kept: it is large, and one module of it is wanted.
KEPT = re.compile(r"ansible_collections/community/general/(MANIFEST\.json|meta/|plugins/modules/supervisorctl\.py)")
COLLECTIONS = "ansible==12.3.0"
CORE = "ansible-core==2.19.*"

CONFIG = """[supervisord]
logfile={dir}/supervisord.log
pidfile={dir}/supervisord.pid
childlogdir={dir}
[unix_http_server]
file={dir}/s.sock
[inet_http_server]
port=127.0.0.1:{port}
username=admin
password=secret
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://{dir}/s.sock
[include]
files={dir}/conf.d/*.conf
[program:lonely]
command=sleep 1000
startsecs=0
[program:listening]
command=sh -c 'trap : USR1; touch {dir}/listening.up; while :; do sleep 0.1; done'
startsecs=0
[program:web1]
command=sleep 1000
startsecs=1
[program:web2]
command=sleep 1000
startsecs=0
[group:web]
programs=web1,web2
"""

BROKEN = """[program:fatal]
command=sh -c 'exit 1'
startretries=0
startsecs=1000
# Its log cannot be opened: while it is tried again, nobody sees it STARTING.
[program:backoff]
command=sleep 1000
stdout_logfile=DIR/a-directory
startretries=1000
"""

LATE = """[program:late]
command=sleep 1000
startsecs=0
[program:member]
command=sleep 1000
startsecs=0
[group:fleet]
programs=member
"""

CHANGED, SAME, FAILED = "changed", "same", "failed"


def task(outcome, name, state, **parameters):
    """A use of the module and what must come of it."""
    return {"outcome": outcome, "parameters": {"name": name, "state": state} | parameters}


def shell(text):
    """What is done between two tasks. `ctl` is supervisorctl, DIR the directory of the test."""
    return {"shell": text}


def until(program, state):
    return shell(f"until ctl status {program} | grep -q {state}; do sleep 0.05; done")


STEPS = [
    until("lonely", "RUNNING"),
    until("web:web2", "RUNNING"),
    shell("until test -e DIR/listening.up; do sleep 0.05; done"),
    task(SAME, "lonely", "started"),
    task(CHANGED, "lonely", "stopped"),
    task(SAME, "lonely", "stopped"),
    task(CHANGED, "lonely", "started"),
    task(CHANGED, "lonely", "restarted"),
    task(CHANGED, "lonely", "stopped", check_mode=True),
    task(SAME, "lonely", "started"),
    task(SAME, "lonely", "present"),
    task(FAILED, "nobody", "started"),
    task(FAILED, "nobody", "restarted"),
    task(FAILED, "nobody", "present"),
    task(SAME, "nobody", "absent"),
    # Signals.
    task(CHANGED, "listening", "signalled", signal="USR1"),
    task(CHANGED, "listening", "signalled", signal="SIGUSR1"),
    task(FAILED, "listening", "signalled", signal="NOSUCH"),
    task(FAILED, "listening", "signalled"),
    task(CHANGED, "listening", "stopped"),
    task(SAME, "listening", "signalled", signal="USR1"),
    task(CHANGED, "listening", "restarted"),
    # A group, with and without the colon; one member.
    until("web:web1", "RUNNING"),
    task(SAME, "web:", "started"),
    task(CHANGED, "web:web1", "stopped"),
    task(SAME, "web:web1", "stopped"),
    task(CHANGED, "web:", "started"),
    task(CHANGED, "web:", "restarted"),
    task(CHANGED, "web:", "signalled", signal="CONT"),
    task(CHANGED, "web:", "stopped"),
    task(SAME, "web:", "stopped"),
    task(CHANGED, "web:web2", "restarted"),
    task(FAILED, "web", "started"),
    task(FAILED, "nobody:", "started"),
    # Everything.
    task(CHANGED, "all", "started"),
    task(SAME, "all", "started"),
    task(CHANGED, "all", "restarted"),
    task(CHANGED, "all", "stopped"),
    task(SAME, "all", "stopped"),
    task(CHANGED, "all", "started"),
    # New in the configuration.
    shell(f"cat > DIR/conf.d/late.conf <<'END'\n{LATE}END"),
    task(CHANGED, "late", "present", check_mode=True),
    task(CHANGED, "late", "present"),
    until("late", "RUNNING"),
    task(SAME, "late", "present"),
    task(FAILED, "late", "absent"),
    task(CHANGED, "late", "absent", stop_before_removing=True, check_mode=True),
    task(CHANGED, "late", "absent", stop_before_removing=True),
    task(SAME, "late", "absent"),
    task(CHANGED, "fleet", "present"),
    # The module looks for a process of that name, and there is only the group.
    task(FAILED, "fleet", "present"),
    until("fleet:", "RUNNING"),
    task(FAILED, "fleet:", "absent"),
    task(CHANGED, "fleet:", "absent", stop_before_removing=True),
    # `restarted` takes over the whole configuration.
    task(CHANGED, "late", "restarted"),
    shell("rm DIR/conf.d/late.conf"),
    task(CHANGED, "lonely", "restarted"),
    task(FAILED, "late", "started"),
    # Programs that do not come up.
    shell(f"mkdir DIR/a-directory; cat > DIR/conf.d/broken.conf <<'END'\n{BROKEN}END"),
    task(CHANGED, "fatal", "present"),
    until("fatal", "FATAL"),
    task(FAILED, "fatal", "started"),
    task(SAME, "fatal", "stopped"),
    task(SAME, "fatal", "signalled", signal="USR1"),
    task(FAILED, "fatal", "restarted"),
    until("fatal", "FATAL"),
    task(CHANGED, "fatal", "absent"),
    # The update that is part of `restarted` has added it.
    task(SAME, "backoff", "present"),
    until("backoff", "BACKOFF"),
    task(FAILED, "backoff", "started"),
    task(SAME, "backoff", "stopped"),
    shell("ctl stop backoff"),
    task(CHANGED, "backoff", "absent"),
    # By address, with a password.
    task(SAME, "lonely", "started", server_url="URL", username="admin", password="secret"),
    task(CHANGED, "lonely", "restarted", server_url="URL", username="admin", password="secret"),
    task(FAILED, "lonely", "started", server_url="URL", username="admin", password="wrong"),
    task(FAILED, "lonely", "started", server_url="unix:///nonexistent/s.sock"),
    shell("ctl shutdown; while test -e DIR/supervisord.pid; do sleep 0.05; done"),
    task(FAILED, "lonely", "started"),
]


def prepare():
    """Fetches Ansible; returns the directory of its programs."""
    programs = HOME / "venv/bin"
    if not programs.exists():
        subprocess.run([sys.executable, "-m", "venv", HOME / "venv"], check=True)
    pip = [programs / "python", "-m", "pip", "--disable-pip-version-check", "-q"]
    if not (programs / "ansible-playbook").exists():
        subprocess.run([*pip, "install", CORE], check=True)
    if not (HOME / "collections").exists():
        with tempfile.TemporaryDirectory() as download:
            subprocess.run([*pip, "download", "--no-deps", "-d", download, COLLECTIONS], check=True)
            [wheel] = pathlib.Path(download).iterdir()
            with zipfile.ZipFile(wheel) as package:
                package.extractall(HOME / "collections", [name for name in package.namelist() if KEPT.match(name)])
    return programs


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def playbook(directory, ctl, port):
    """The steps as Ansible's tasks; what comes of each is gathered in a file."""
    tasks = []
    for number, step in enumerate(STEPS):
        if "shell" in step:
            text = step["shell"].replace("DIR", str(directory))
            script = f"ctl() {{ {ctl} -c {directory}/supervisord.conf \"$@\"; }}\n{text}"
            # Some of these end in supervisorctl's exit status, which says nothing here.
            command = {"argv": ["timeout", "300", "sh", "-c", script]}
            tasks.append({"ansible.builtin.command": command, "failed_when": False})
            continue
        parameters = dict(step["parameters"], supervisorctl_path=str(ctl))
        check_mode = parameters.pop("check_mode", False)
        if parameters.get("server_url") == "URL":
            parameters["server_url"] = f"http://127.0.0.1:{port}"
        if "server_url" not in parameters:
            parameters["config"] = f"{directory}/supervisord.conf"
        tasks.append({
            MODULE: parameters,
            "register": f"step{number}",
            "ignore_errors": True,
            "check_mode": check_mode,
        })
    numbers = [number for number, step in enumerate(STEPS) if "shell" not in step]
    content = "{" + ", ".join(f"'{number}': step{number}" for number in numbers) + "}"
    tasks.append({"ansible.builtin.copy": {"content": "{{ " + content + " | to_json }}", "dest": f"{directory}/results"}})
    return [{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": tasks}]


def run(programs, supervisord, ctl, name):
    """Runs the playbook with one implementation; returns what came of each step."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix=f"ansible-{name}-"))
    (directory / "conf.d").mkdir()
    port = free_port()
    (directory / "supervisord.conf").write_text(CONFIG.format(dir=directory, port=port))
    (directory / "play.yml").write_text(json.dumps(playbook(directory, ctl, port)))
    daemon = subprocess.Popen([supervisord, "-n", "-c", directory / "supervisord.conf"], stdout=subprocess.DEVNULL)
    environment = os.environ | {
        "ANSIBLE_COLLECTIONS_PATH": str(HOME / "collections"),
        "ANSIBLE_LOCALHOST_WARNING": "False",
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_HOME": str(directory / "home"),
        "ANSIBLE_PYTHON_INTERPRETER": str(programs / "python"),
        "LC_ALL": "C.UTF-8",
    }
    try:
        deadline = time.monotonic() + 120
        while not (directory / "s.sock").exists():
            if time.monotonic() > deadline:
                raise SystemExit(f"{name}: the daemon did not start")
            time.sleep(0.05)
        command = [programs / "ansible-playbook", "-i", "localhost,", directory / "play.yml"]
        with open(HOME / f"{name}.log", "w") as log:
            subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=3600)
        if not (directory / "results").exists():
            raise SystemExit(f"{name}: the playbook did not come to its end:\n{(HOME / f'{name}.log').read_text()[-3000:]}")
        results = json.loads((directory / "results").read_text())
        return {int(number): said(result, directory, port, ctl) for number, result in results.items()}
    finally:
        daemon.terminate()
        daemon.wait(120)
        shutil.rmtree(directory)


def said(result, directory, port, ctl):
    """What a playbook sees of a step, without what is different in every run."""
    kept = {key: result.get(key) for key in ("changed", "failed", "msg", "affected", "rc", "stdout", "stderr", "name", "state")}
    text = json.dumps(kept)
    for value, word in ((str(directory), "DIR"), (str(port), "PORT"), (str(ctl), "CTL")):
        text = text.replace(value, word)
    return json.loads(text)


def outcome(result):
    if result["failed"]:
        return FAILED
    return CHANGED if result["changed"] else SAME


def describe(step):
    return " ".join(f"{key}={value}" for key, value in step["parameters"].items())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin-dir", type=pathlib.Path, default=ROOT / "target/release")
    parser.add_argument("--python", type=pathlib.Path, default=pathlib.Path(sys.executable), help="has Supervisor")
    parser.add_argument("--ours-only", action="store_true", help="without the comparison")
    parser.add_argument("--show", action="store_true", help="print what came of every step")
    options = parser.parse_args()
    HOME.mkdir(parents=True, exist_ok=True)
    programs = prepare()
    directories = {"ours": options.bin_dir.resolve(strict=True)}
    if not options.ours_only:
        # Not resolved: in a virtual environment the interpreter is a link to the system's.
        directories["supervisor"] = pathlib.Path(shutil.which(options.python) or options.python).absolute().parent
    with concurrent.futures.ThreadPoolExecutor() as pool:
        futures = {
            name: pool.submit(run, programs, directory / "supervisord", directory / "supervisorctl", name)
            for name, directory in directories.items()
        }
        results = {name: future.result() for name, future in futures.items()}
    passed, failed = 0, 0
    for number, ours in sorted(results["ours"].items()):
        step = STEPS[number]
        problems = []
        for name, result in results.items():
            if outcome(result[number]) != step["outcome"]:
                problems.append(f"{name}: {outcome(result[number])}, not {step['outcome']}")
        if ours != results.get("supervisor", results["ours"])[number]:
            problems.append("they differ")
        passed, failed = passed + (not problems), failed + bool(problems)
        if problems or options.show:
            print(f"{'FAILED' if problems else 'ok    '} {describe(step)}: {'; '.join(problems)}")
            for name, result in results.items():
                print(f"    {name}: {json.dumps(result[number])}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
