#!/usr/bin/env python3
"""Runs the end-to-end tests of Supervisor 4.3, unmodified, with our binaries in place of its two scripts.

    tests/supervisor_e2e.py [--bin-dir target/release] [--only SUBSTRING] [--reference] [--jobs N]

The tests come from Supervisor's source distribution, which pip fetches into target/supervisor-e2e. They begin programs
with `python -m supervisor.supervisord` and `python -m supervisor.supervisorctl`; a copy of the package on PYTHONPATH has
two modules that become our binaries instead, with the same arguments. Every other module is Supervisor's: its XML-RPC
client, `pidproxy`, `echo_supervisord_conf`. A test that fails is repeated with the real Supervisor, and counts as ours
only if it passes there. No program of ours may be left when a test is over. Exit status 1 if a test of ours fails.
"""

import argparse
import concurrent.futures
import contextlib
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
HOME = ROOT / "target/supervisor-e2e"
VERSION = "4.3.0"
MODULE = "supervisor.tests.test_end_to_end"
# Supervisor's own waits are of up to 60 s.
TIME_LIMIT = 600
# Seconds that programs have to end after SIGINT, which is how each test ends.
PATIENCE = 120
MARK = "SUPERVISOR_E2E"
# Tests whose configurations name the same socket; one lock lets them run one after the other.
SHARING = {"test_issue_565", "test_issue_836"}
TURN = threading.Lock()
# A fixture of test_issue_565 that the distribution lacks.
HELLO = """for number in 1 2 3 4 5 6 7 8 9; do
    echo "The Øresund bridge ends in Malmö - $number"
    sleep 1
done
"""
SHIM = """import os, sys
os.execv({binary!r}, [{name!r}, *sys.argv[1:]])
"""


def prepare(bin_dir):
    """Fetches what is needed; returns the Python to run with."""
    python = HOME / "venv/bin/python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", HOME / "venv"], check=True)
    pip = [python, "-m", "pip", "--disable-pip-version-check", "-q"]
    archive = HOME / f"supervisor-{VERSION}.tar.gz"
    if not archive.exists():
        # setuptools: what the distribution is built with, which pip asks for its name and version.
        subprocess.run([*pip, "install", "pexpect", "setuptools<81", "wheel"], check=True)
        download = ["download", "--no-binary", ":all:", "--no-deps", "--no-build-isolation"]
        subprocess.run([*pip, *download, "-d", HOME, f"supervisor=={VERSION}"], check=True)
    shutil.rmtree(HOME / "tmp", ignore_errors=True)
    for variant in ("ours", "reference"):
        shutil.rmtree(HOME / variant, ignore_errors=True)
        with tarfile.open(archive) as package:
            package.extractall(HOME / variant)
        fixtures = HOME / variant / f"supervisor-{VERSION}" / "supervisor/tests/fixtures"
        (fixtures / "hello.sh").write_text(HELLO)
    package = HOME / "ours" / f"supervisor-{VERSION}" / "supervisor"
    for name in ("supervisord", "supervisorctl"):
        binary = str((bin_dir / name).resolve(strict=True))
        (package / f"{name}.py").write_text(SHIM.format(binary=binary, name=name))
    return python


def marked(mark):
    """The processes that one test began, and what they are."""
    found = {}
    for entry in pathlib.Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and f"{MARK}={mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
    return found


def end_leftovers(mark):
    """Waits for the programs of a test to end; ends and returns those which do not."""
    deadline = time.monotonic() + PATIENCE
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for pid in left:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    return left


def run(python, variant, test):
    """Runs one test; returns its output if it fails, None if it passes."""
    with TURN if test in SHARING else contextlib.nullcontext():
        return run_alone(python, variant, test)


def run_alone(python, variant, test):
    """The same, while nobody else uses its socket."""
    mark = f"{variant}-{test}-{os.getpid()}"
    # Programs' logs are there, and a daemon that starts removes those of others.
    temporary = HOME / "tmp" / mark
    temporary.mkdir(parents=True)
    environment = os.environ | {
        "END_TO_END": "1",
        "PYTHONPATH": str(HOME / variant / f"supervisor-{VERSION}"),
        "PATH": f"{python.parent}:{os.environ['PATH']}",
        "LC_ALL": "C.UTF-8",
        "TMPDIR": str(temporary),
        MARK: mark,
    }
    command = [python, "-m", "unittest", f"{MODULE}.EndToEndTests.{test}"]
    process = subprocess.Popen(
        command, env=environment, cwd=HOME, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
    )
    try:
        output, _ = process.communicate(timeout=TIME_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        output = process.communicate()[0] + f"\nnot over after {TIME_LIMIT} s"
    left = end_leftovers(mark)
    if left and variant == "ours":
        output += "".join(f"\nstill there {PATIENCE} s after the test: {pid} {what}" for pid, what in left.items())
    # A run of no test is no success either.
    is_success = process.returncode == 0 and "Ran 1 test" in output and not (left and variant == "ours")
    return None if is_success else output


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin-dir", type=pathlib.Path, default=ROOT / "target/release")
    parser.add_argument("--only", default="", help="tests whose name contains this")
    parser.add_argument("--reference", action="store_true", help="run the real Supervisor instead of our binaries")
    parser.add_argument("--jobs", type=int, default=4, help="tests at a time: they mostly wait")
    options = parser.parse_args()
    HOME.mkdir(parents=True, exist_ok=True)
    python = prepare(options.bin_dir)
    source = HOME / "reference" / f"supervisor-{VERSION}" / "supervisor/tests/test_end_to_end.py"
    tests = [name for name in re.findall(r"def (test_\w+)", source.read_text()) if options.only in name]
    variant = "reference" if options.reference else "ours"
    passed, failed, excused = 0, 0, 0
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        for test, output in zip(tests, pool.map(lambda test: run(python, variant, test), tests)):
            if output is None:
                passed += 1
                print(f"ok      {test}", flush=True)
            elif variant == "ours" and run(python, "reference", test) is not None:
                excused += 1
                print(f"skipped {test}: Supervisor fails it too", flush=True)
            else:
                failed += 1
                print(f"FAILED  {test}\n{output}", flush=True)
    print(f"{passed} passed, {failed} failed, {excused} skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
