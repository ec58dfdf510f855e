#!/usr/bin/env python3
"""superlance's listeners, and others in Python, run unchanged under supervisord and have their real effect.

crashmail mails when a program crashes, fatalmailbatch when one becomes FATAL, memmon restarts a program that has grown,
httpok one whose HTTP check fails. A listener made with Supervisor's childutils gets every character of what programs
print. Mail goes into sinks: a replacement of sendmail, a small SMTP server. --bin-dir DIR
has supervisord and supervisorctl (Supervisor's own scripts do too), --superlance DIR the programs of superlance.
Exit status: 0 when each has done its work.
"""

import argparse
import http.server
import os
import pathlib
import re
import socketserver
import subprocess
import sys
import tempfile
import threading
import time

BOUND = 300  # seconds, the longest wait for anything

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
"""

SENDMAIL = '#!/bin/sh\ncat > "$1.new" && mv "$1.new" "$1"\n'


class Daemon:
    """supervisord with a configuration, in a directory of its own."""

    def __init__(self, options, config):
        self.options, self.dir = options, tempfile.mkdtemp(prefix="svl-")
        sendmail = pathlib.Path(self.dir, "sendmail")
        sendmail.write_text(SENDMAIL)
        sendmail.chmod(0o755)
        text = (CONFIG + config).replace("$DIR", self.dir).replace("$LANCE", os.path.abspath(options.superlance))
        self.config = pathlib.Path(self.dir, "supervisord.conf")
        self.config.write_text(text)
        command = [os.path.join(options.bin_dir, "supervisord"), "-n", "-c", str(self.config)]
        with open(os.path.join(self.dir, "daemon.out"), "wb") as out:
            self.child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                          start_new_session=True)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.child.terminate()
        self.child.wait(BOUND)
        if kind:
            for path in sorted(pathlib.Path(self.dir).glob("*.log")):
                print(f"--- {path.name}\n{path.read_text(errors='replace')}", file=sys.stderr)

    def read(self, name):
        path = pathlib.Path(self.dir, name)
        return path.read_text() if path.exists() else ""

    def pid(self, name):
        """The pid of a process, 0 if it has none."""
        command = [os.path.join(self.options.bin_dir, "supervisorctl"), "-c", str(self.config), "pid", name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=BOUND, check=False)
        return int(done.stdout) if done.stdout.strip().isdigit() else 0

    def wait_for(self, what, condition):
        end = time.monotonic() + BOUND
        while not (found := condition()):
            if self.child.poll() is not None:
                raise AssertionError(f"supervisord ended while waiting for {what}: {self.read('daemon.out')}")
            if time.monotonic() > end:
                raise AssertionError(f"waited in vain for {what}")
            time.sleep(0.1)
        return found

    def expect_no_violation(self):
        log = self.read("supervisord.log")
        assert "UNKNOWN" not in log, "a listener is said to have violated the protocol"


def crashmail(options):
    with Daemon(options, """
[eventlistener:crashmail]
command=$LANCE/crashmail -a -m admin@example.test -s "$DIR/sendmail $DIR/mail"
events=PROCESS_STATE_EXITED
stderr_logfile=$DIR/crashmail.log
startsecs=0
[program:crash]
command=sh -c 'sleep 0.5; exit 7'
autorestart=false
startsecs=0
""") as daemon:
        mail = daemon.wait_for("the mail", lambda: daemon.read("mail"))
        assert re.search(r"^To: admin@example.test\nSubject:  ?crash crashed at ", mail), mail
        assert re.search(r"Process crash in group crash exited unexpectedly \(pid \d+\) from state RUNNING", mail), mail
        daemon.expect_no_violation()


class Smtp(socketserver.StreamRequestHandler):
    """Takes every mail."""

    mails = []

    def say(self, line):
        self.wfile.write(line.encode() + b"\r\n")

    def handle(self):
        self.say("220 sink")
        for line in iter(self.rfile.readline, b""):
            word = line[:4].upper()
            if word == b"DATA":
                self.say("354 go on")
                text = b""
                while not text.endswith(b"\r\n.\r\n"):
                    text += self.rfile.readline()
                self.mails.append(text.decode())
            self.say("221 bye" if word == b"QUIT" else "250 sink")


def fatalmailbatch(options):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Smtp) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Daemon(options, f"""
[eventlistener:fatalmailbatch]
command=$LANCE/fatalmailbatch -t admin@example.test -f d@example.test -i 0.01 -e TICK_5 -H 127.0.0.1:{server.server_address[1]}
events=PROCESS_STATE,TICK_5
stderr_logfile=$DIR/fatalmailbatch.log
startsecs=0
[program:bad]
command=sh -c 'exit 1'
startretries=0
startsecs=1000
""") as daemon:
            mail = daemon.wait_for("the mail", lambda: Smtp.mails and Smtp.mails[0])
            assert "Subject: Fatal start alert from supervisord" in mail, mail
            assert "Process bad:bad failed to start too many times" in mail, mail
            daemon.expect_no_violation()
        server.shutdown()


def memmon(options):
    with Daemon(options, """
[eventlistener:memmon]
command=$LANCE/memmon -p grower=60MB -m admin@example.test -s "$DIR/sendmail $DIR/mail"
events=TICK_5
stderr_logfile=$DIR/memmon.log
startsecs=0
[program:grower]
command=%s -c "import time; x = b'x' * (100 << 20); time.sleep(1000)"
[program:small]
command=sleep 1000
""" % sys.executable) as daemon:
        first = daemon.wait_for("the program", lambda: daemon.pid("grower"))
        small = daemon.wait_for("the small program", lambda: daemon.pid("small"))
        mail = daemon.wait_for("the mail", lambda: daemon.read("mail"))
        assert "grower" in mail and "RSS" in mail, mail
        daemon.wait_for("the restart", lambda: daemon.pid("grower") not in (0, first))
        assert daemon.pid("small") == small, "a small program was restarted"
        daemon.expect_no_violation()


class Sick(http.server.BaseHTTPRequestHandler):
    """A service that does not work."""

    def do_GET(self):
        self.send_error(500)

    def log_message(self, *_):
        pass


def httpok(options):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Sick) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with Daemon(options, f"""
[eventlistener:httpok]
command=$LANCE/httpok -p web -t 5 -m admin@example.test -s "$DIR/sendmail $DIR/mail" http://127.0.0.1:{server.server_address[1]}/
events=TICK_5
stderr_logfile=$DIR/httpok.log
startsecs=0
[program:web]
command=sleep 1000
startsecs=0
""") as daemon:
            first = daemon.wait_for("the program", lambda: daemon.pid("web"))
            daemon.wait_for("the restart", lambda: daemon.pid("web") not in (0, first))
            mail = daemon.wait_for("the mail", lambda: daemon.read("mail"))
            assert "web" in mail and "500" in mail, mail
            daemon.expect_no_violation()
        server.shutdown()


RECORDER = """
import sys
from supervisor import childutils
while True:
    headers, payload = childutils.listener.wait(sys.stdin, sys.stdout)
    with open(sys.argv[1], "a", encoding="utf-8") as out:
        out.write(childutils.eventdata(payload)[1])
    childutils.listener.ok(sys.stdout)
"""


def childutils(options):
    """What programs print is not ASCII: `len` counts what the listener reads, which is characters in Python."""
    text = "plain\nØresund ☃ naïve\nß\nplain again\n"
    with tempfile.TemporaryDirectory(prefix="svl-") as directory:
        script, lines = pathlib.Path(directory, "recorder.py"), pathlib.Path(directory, "lines")
        script.write_text(RECORDER)
        lines.write_text(text)
        with Daemon(options, f"""
[eventlistener:recorder]
command=$LANCE/python {script} $DIR/recorded
events=PROCESS_LOG
stderr_logfile=$DIR/recorder.log
startsecs=0
[program:speaker]
command=bash -c 'while read -r line; do echo "$line"; sleep 0.2; done < {lines}; sleep 1000'
stdout_events_enabled=true
startsecs=0
""") as daemon:
            daemon.wait_for("all that was printed", lambda: daemon.read("recorded") == text)
            daemon.expect_no_violation()


LISTENERS = [crashmail, fatalmailbatch, memmon, httpok, childutils]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin-dir", required=True, help="directory of supervisord and supervisorctl")
    parser.add_argument("--superlance", required=True, help="directory of superlance's programs")
    parser.add_argument("listeners", nargs="*", help="names of listeners; all if none is given")
    options = parser.parse_args()
    failed = 0
    for listener in LISTENERS:
        if options.listeners and listener.__name__ not in options.listeners:
            continue
        try:
            listener(options)
            print(f"{listener.__name__}: ok")
        except AssertionError as problem:
            failed += 1
            print(f"{listener.__name__}: {problem}")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
