"""Runs Supervisor's programs without starting an interpreter for each: imports them once and forks per command line.

Reads one JSON object per line from descriptor 0: the program, its argument list, its directory, the files that are
its standard input, output and error. Writes its exit status as one line to descriptor 1. The Python that runs this
has Supervisor installed.
"""

import json
import os
import signal
import sys

import supervisor.supervisorctl
import supervisor.supervisord

MAINS = {"supervisorctl": supervisor.supervisorctl.main, "supervisord": supervisor.supervisord.main}


def become(request):
    """In the forked child: the standard descriptors, directory and arguments of the program."""
    os.setsid()
    signal.alarm(120)
    os.chdir(request["directory"])
    for descriptor, flags in ((0, os.O_RDONLY), (1, os.O_WRONLY), (2, os.O_WRONLY)):
        opened = os.open(request["files"][descriptor], flags)
        os.dup2(opened, descriptor)
        os.close(opened)
    sys.argv = request["argv"]


def main():
    requests, answers = os.fdopen(os.dup(0), "r"), os.fdopen(os.dup(1), "w")
    for line in iter(requests.readline, ""):
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            become(request)
            sys.exit(MAINS[request["program"]]())
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)


if __name__ == "__main__":
    main()
