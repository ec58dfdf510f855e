#!/usr/bin/env python3
"""Speaks XML-RPC as clients in the wild do, to Supervisor 4.3 and to the daemon under test (T68).

    tests/differential/clients.py [--bin-dir target/release] [--python-bin DIR] [--show]

Requests are written byte for byte as Prometheus' node_exporter, PHP's, Node's, Ruby's and Go's libraries, cesi,
nodervisor, superlance, curl and hand-written scripts write them, over TCP and the unix socket. Status, type and body of
each answer must be equal, without pids and times, and so must what becomes of the connection. Exit status 0 when they are.
"""

import argparse
import base64
import concurrent.futures
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

BOUND = 120  # seconds, the longest wait for anything
UNAUTHORIZED = 401

CONFIG = """
[supervisord]
logfile=$DIR/supervisord.log
pidfile=$DIR/supervisord.pid
childlogdir=$DIR
[unix_http_server]
file=$DIR/s.sock
[inet_http_server]
port=127.0.0.1:$PORT
username=admin
password=se:cret
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[program:web]
command=sleep 1000
process_name=%(program_name)s_%(process_num)02d
numprocs=2
startsecs=0
stdout_logfile=$DIR/%(program_name)s_%(process_num)02d.out
stderr_logfile=NONE
[program:once]
command=sh -c 'read line < $DIR/once.end; exit 3'
autostart=false
autorestart=false
startsecs=0
stdout_logfile=NONE
stderr_logfile=NONE
[program:lonely]
command=sleep 1000
startsecs=0
stdout_logfile=NONE
stderr_logfile=NONE
"""

# Where the two are meant to differ, and why.
KNOWN = {
    "a body in chunks": "Supervisor has no chunked requests (411)",
    "blanks within the name of the method": "Supervisor knows no such method",
}


def call(method, params="", declaration='<?xml version="1.0"?>', inner="<params>{}</params>"):
    """The body of a call; `params` is what stands between `<value>` and `</value>`, divided at blanks."""
    values = "".join(f"<param><value>{value}</value></param>" for value in params.split())
    return f"{declaration}<methodCall><methodName>{method}</methodName>{inner.format(values)}</methodCall>".encode()


def post(body, *headers, path="/RPC2", version="1.1", length="Content-Length"):
    """A request as bytes."""
    head = [f"POST {path} HTTP/{version}", *headers, f"{length}: {len(body)}"]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


BASIC = "Authorization: Basic " + base64.b64encode(b"admin:se:cret").decode()
GO = ("Host: localhost:9001", "User-Agent: Go-http-client/1.1", "Content-Type: text/xml", "Accept-Encoding: gzip")
NODE = ("User-Agent: NodeJS XML-RPC Client", "Content-Type: text/xml", "Accept: text/xml", "Accept-Charset: UTF8",
        "Connection: Keep-Alive", "Host: localhost:9001")
PHP = ("Host: localhost:9001", "User-Agent: GuzzleHttp/7", "Content-Type: text/xml; charset=UTF-8")
RUBY = ("User-Agent: XMLRPC::Client (Ruby 3.1.2)", "Content-Type: text/xml; charset=utf-8", "Connection: keep-alive",
        "Accept-Encoding: identity", "Host: localhost")
PYTHON = ("Host: localhost:9001", "Accept-Encoding: gzip", "Content-Type: text/xml",
          "User-Agent: Python-xmlrpc/3.11")
CURL = ("Host: localhost:9001", "User-Agent: curl/7.88.1", "Accept: */*",
        "Content-Type: application/x-www-form-urlencoded")
SUPERLANCE = ("Host: localhost", "User-Agent: Python-xmlrpc/3.11", "Content-Type: text/xml", "Accept: text/xml",
              "Authorization: Basic Og==")
LATIN = '<?xml version="1.0" encoding="iso-8859-1"?>\n'
UTF8 = '<?xml version="1.0" encoding="UTF-8"?>\n'
TRUE = "<boolean>1</boolean>"


def text(value):
    return f"<string>{value}</string>"


# Stands among requests: the program `once` exits, and its daemon has seen it. A program that exits on its own may have
# done so before Supervisor answers the start, which is then an error, or after.
ONCE_EXITS = "once exits"
ANYTHING = post(call("supervisor.getState"), "Host: x", BASIC)

# What is sent over one connection each: name, and the requests one after the other.
SEQUENCES = [
    ("node_exporter", [post(call("supervisor.getAllProcessInfo"), *GO)] * 2),
    ("node_exporter with credentials", [post(call("supervisor.getAllProcessInfo"), *GO, BASIC)]),
    ("Go without params", [post(call("supervisor.getState", inner=""), *GO)]),
    ("cesi", [
        post(call("system.listMethods", declaration="<?xml version='1.0'?>\n"), *PYTHON),
        post(call("supervisor.getProcessInfo", text("web:web_00")), *PYTHON),
        post(call("supervisor.stopProcess", text("web:web_00")), *PYTHON),
        post(call("supervisor.stopProcess", text("web:web_00")), *PYTHON),
        post(call("supervisor.startProcess", text("web:web_00")), *PYTHON),
        post(call("supervisor.startProcess", text("web:web_00")), *PYTHON),
        post(call("supervisor.startProcess", text("web:*")), *PYTHON),
        post(call("supervisor.stopProcess", text("web:*")), *PYTHON),
        post(call("supervisor.startProcessGroup", text("web")), *PYTHON),
        post(call("supervisor.startProcess", text("nobody")), *PYTHON),
        post(call("supervisor.restart_", ""), *PYTHON),
    ]),
    ("nodervisor", [
        post(call("supervisor.getAllProcessInfo"), *NODE),
        post(call("supervisor.tailProcessStdoutLog", f"{text('web:web_01')} <int>0</int> <int>0</int>"), *NODE),
        post(call("supervisor.tailProcessStdoutLog", f"{text('web:web_01')} <int>0</int> <int>1000</int>"), *NODE),
        post(call("supervisor.tailProcessStderrLog", f"{text('web:web_01')} <int>0</int> <int>1000</int>"), *NODE),
        post(call("supervisor.readProcessStdoutLog", f"{text('web:web_01')} <int>-7</int> <int>0</int>"), *NODE),
        post(call("supervisor.stopAllProcesses", TRUE), *NODE),
        post(call("supervisor.startAllProcesses", TRUE), *NODE),
        ONCE_EXITS,
        post(call("supervisor.getProcessInfo", text("once")), *NODE),
        post(call("supervisor.clearProcessLogs", text("web:web_01")), *NODE),
        post(call("supervisor.clearAllProcessLogs"), *NODE),
    ]),
    ("PHP over HTTP", [post(call("supervisor.getAllProcessInfo", declaration=UTF8), *PHP)]),
    ("PHP's xmlrpc_encode_request", [
        post(call("supervisor.getState", declaration=LATIN, inner="\n<params/>\n"), *PHP),
        post(call("supervisor.getProcessInfo", text("caf&#233;"), declaration=LATIN), *PHP),
    ]),
    ("PHP's file_get_contents", [
        post(call("supervisor.getSupervisorVersion", declaration=LATIN), "Host: localhost:9001", "Connection: close",
             "Content-Type: text/xml", version="1.0"),
    ]),
    ("Ruby", [post(call("supervisor.getProcessInfo", text("café"), declaration='<?xml version="1.0" ?>'), *RUBY)] * 2),
    ("superlance", [
        post(call("supervisor.getAllProcessInfo", declaration="<?xml version='1.0'?>\n"), *SUPERLANCE),
        post(call("supervisor.stopProcess", text("lonely"), declaration="<?xml version='1.0'?>\n"), *SUPERLANCE),
        post(call("supervisor.startProcess", text("lonely"), declaration="<?xml version='1.0'?>\n"), *SUPERLANCE),
    ]),
    ("no declaration", [post(call("supervisor.getState", declaration=""), *CURL)]),
    ("no declaration and no params", [post(call("supervisor.getState", declaration="", inner=""), *CURL)]),
    ("blanks and lines between the elements", [
        post(b"<?xml version='1.0'?>\n\n<methodCall>\n  <methodName>supervisor.getProcessInfo</methodName>\n  <params>\n"
             b"    <param>\n      <value>\n        <string>web:web_00</string>\n      </value>\n    </param>\n  </params>\n"
             b"</methodCall>\n\n", *CURL),
    ]),
    ("blanks within the name of the method", [post(call(" supervisor.getState "), *CURL)]),
    ("a comment", [post(b"<!-- hello -->" + call("supervisor.getState", declaration=""), *CURL)]),
    ("CDATA", [post(call("supervisor.getProcessInfo", "<string><![CDATA[web:web_00]]></string>"), *CURL)]),
    ("a value without a type", [post(call("supervisor.getProcessInfo", "web:web_00"), *CURL)]),
    ("i4, and a number as a string", [
        post(call("supervisor.readLog", "<i4>0</i4> <i4>4</i4>"), *CURL),
        post(call("supervisor.readProcessStdoutLog", f"{text('web:web_00')} 0 {text('3')}"), *CURL),
    ]),
    ("a boolean as a number", [post(call("supervisor.startProcess", text("lonely") + " <int>0</int>"), *CURL)]),
    ("multicall", [
        post(call("system.multicall", "<array><data><value><struct><member><name>methodName</name><value>"
                  "supervisor.getState</value></member><member><name>params</name><value><array><data></data></array>"
                  "</value></member></struct></value><value><struct><member><name>methodName</name><value>"
                  "supervisor.getProcessInfo</value></member><member><name>params</name><value><array><data><value>nobody"
                  "</value></data></array></value></member></struct></value></data></array>"), *CURL),
    ]),
    ("too many parameters", [post(call("supervisor.getState", "<int>1</int>"), *CURL)]),
    ("HTTP/1.0 without Host", [post(call("supervisor.getState"), version="1.0")]),
    ("HTTP/1.0 with keep-alive", [post(call("supervisor.getState"), "Connection: keep-alive", version="1.0")] * 2),
    ("HTTP/1.1 without Host", [post(call("supervisor.getState"))]),
    ("HTTP/1.1 with close", [post(call("supervisor.getState"), "Host: x", "Connection: close")]),
    ("headers in small letters", [post(call("supervisor.getState"), "host: x", "content-type: text/xml",
                                       length="content-length")]),
    ("a path with more behind", [post(call("supervisor.getState"), "Host: x", path="/RPC2/"),
                                 post(call("supervisor.getState"), "Host: x", path="/RPC2?a=b")]),
    ("another type", [post(call("supervisor.getState"), "Host: x", "Content-Type: application/json")]),
    ("not XML", [post(b"hello", *CURL), post(call("supervisor.getState"), *CURL)]),
    ("no name of a method", [post(b"<methodCall></methodCall>", *CURL)]),
    ("GET", [b"GET /RPC2 HTTP/1.1\r\nHost: x\r\n\r\n"]),
    ("no length", [b"POST /RPC2 HTTP/1.1\r\nHost: x\r\n\r\n"]),
    ("a body in chunks", [b"POST /RPC2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
                          + b"%x\r\n%s\r\n0\r\n\r\n" % (len(call("supervisor.getState")), call("supervisor.getState"))]),
    ("a wrong password", [post(call("supervisor.getState"), "Host: x",
                               "Authorization: Basic " + base64.b64encode(b"admin:x").decode())]),
    ("basic in small letters", [post(call("supervisor.getState"), "Host: x", BASIC.replace("Basic", "basic"))]),
]


# Processes with a log.
LOGS = ("web_00", "web_01")


class Side:
    """One daemon in a directory of its own."""

    def __init__(self, name, supervisord):
        self.name = name
        self.dir = tempfile.TemporaryDirectory(prefix=f"clients-{name}-")
        self.path = pathlib.Path(self.dir.name)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.port = listener.getsockname()[1]
        config = CONFIG.replace("$DIR", str(self.path)).replace("$PORT", str(self.port))
        (self.path / "supervisord.conf").write_text(config)
        self.fill_logs()
        # Open on both ends, so that neither side of it ever waits for the other to open it.
        os.mkfifo(self.path / "once.end")
        self.once_end = os.open(self.path / "once.end", os.O_RDWR)
        output = open(self.path / "daemon.out", "wb")
        self.daemon = subprocess.Popen(
            [supervisord, "-n", "-c", self.path / "supervisord.conf"], stdout=output, stderr=output
        )
        for program in LOGS:
            self.wait_for_line(f"success: {program} entered RUNNING")

    def wait_for_line(self, line, count=1):
        """Waits until the daemon has said it so many times."""
        deadline = time.monotonic() + BOUND
        while self.read("daemon.out").count(line) < count:
            if time.monotonic() > deadline:
                raise SystemExit(f"{self.name}: not {count} times {line!r}:\n{self.read('daemon.out')}")
            time.sleep(0.05)

    def let_once_exit(self):
        exited = "exited: once"
        count = self.read("daemon.out").count(exited)
        os.write(self.once_end, b"\n")
        self.wait_for_line(exited, count + 1)

    def fill_logs(self):
        """The same logs for both sides. A program that writes may be stopped before it has."""
        for name in LOGS:
            (self.path / f"{name}.out").write_text("The Øresund bridge\n")

    def read(self, name):
        try:
            return (self.path / name).read_text()
        except FileNotFoundError:
            return ""

    def end(self):
        self.daemon.terminate()
        self.daemon.wait(BOUND)
        os.close(self.once_end)
        self.dir.cleanup()

    def converse(self, transport, requests):
        """Sends the requests over one connection; the answers, and whether the connection is still open after the last."""
        if transport == "unix":
            connection = socket.socket(socket.AF_UNIX)
            address = str(self.path / "s.sock")
        else:
            connection = socket.socket(socket.AF_INET)
            address = ("127.0.0.1", self.port)
        connection.settimeout(BOUND)
        with connection:
            connection.connect(address)
            stream = connection.makefile("rb")
            answers = []
            for request in requests:
                if request is ONCE_EXITS:
                    self.let_once_exit()
                    continue
                try:
                    connection.sendall(request)
                    answers.append(self.tidy(answer(stream)))
                except OSError as error:
                    answers.append(str(error))
                if answers[-1][0] == UNAUTHORIZED:
                    # What says `Connection: close` is not spoken to any more.
                    return answers, "closed"
            # An open connection answers once more, a closed one ends, however long either takes.
            try:
                connection.sendall(ANYTHING)
                is_open = bool(stream.read(1))
            except TimeoutError:
                raise
            except OSError:
                is_open = False
        return answers, "open" if is_open else "closed"

    def tidy(self, parts):
        """An answer without what is different in every run."""
        status, headers, body = parts
        if status == UNAUTHORIZED:
            # The words for people are not Supervisor's.
            headers, body = {"www-authenticate": headers.get("www-authenticate")}, b""
        body = body.decode(errors="replace").replace(str(self.path), "DIR")
        body = re.sub(r"pid \d+, uptime [\d:]+", "pid N, uptime T", body)
        body = re.sub(r"<int>\d{3,}</int>", "<int>N</int>", body)
        body = re.sub(r"<string>\w{3} \d\d \d\d:\d\d [AP]M</string>", "<string>WHEN</string>", body)
        body = re.sub(r"<string>20\d\d$", "<string>YEAR", body)
        # Results of several processes come in the order in which those were done.
        structs = r"<value><struct>(?:(?!<struct>).)*?</struct></value>\n"
        found = iter(sorted(re.findall(structs, body, re.DOTALL)))
        body = re.sub(structs, lambda _: next(found), body, flags=re.DOTALL)
        kept = {name: headers.get(name) for name in ("content-type", "www-authenticate")}
        return status, kept, body


def answer(stream):
    """One answer: status, headers, body."""
    first = stream.readline().split()
    if not first or not first[0].startswith(b"HTTP/"):
        raise ConnectionError(f"no answer but {first}")
    headers = {}
    while line := stream.readline().strip():
        name, _, value = line.decode().partition(":")
        headers[name.lower()] = value.strip()
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(stream.readline(), 16):
            body += stream.read(size)
            stream.readline()
        stream.readline()
    elif "content-length" in headers:
        body = stream.read(int(headers["content-length"]))
    else:
        body = stream.read()
    return int(first[1]), headers, body


def with_credentials(request):
    """The same request from somebody who knows the password."""
    if request is ONCE_EXITS or b"authorization:" in request.lower():
        return request
    line, rest = request.split(b"\r\n", 1)
    return line + b"\r\n" + BASIC.encode() + b"\r\n" + rest


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin-dir", type=pathlib.Path, default=pathlib.Path("target/release"))
    parser.add_argument("--python-bin", type=pathlib.Path, default=pathlib.Path(sys.executable).parent)
    parser.add_argument("--show", action="store_true", help="print all answers")
    options = parser.parse_args()
    sides = [Side("supervisor", options.python_bin / "supervisord"), Side("ours", options.bin_dir / "supervisord")]
    passed, failed, known = 0, 0, 0
    pool = concurrent.futures.ThreadPoolExecutor()
    try:
        for transport in ("unix", "tcp"):
            for name, requests in SEQUENCES:
                if transport == "tcp":
                    requests = [with_credentials(request) for request in requests]
                for side in sides:
                    side.fill_logs()
                theirs, ours = pool.map(lambda side: side.converse(transport, requests), sides)
                is_equal = theirs == ours
                if is_equal:
                    passed += 1
                elif name in KNOWN:
                    known += 1
                else:
                    failed += 1
                if options.show or not is_equal and name not in KNOWN:
                    print(f"{'ok' if is_equal else 'DIFFERENT'} {name} over {transport}: then {theirs[1]} / {ours[1]}")
                    for number, pair in enumerate(zip(theirs[0], ours[0])):
                        if options.show or pair[0] != pair[1]:
                            print(f"  {number} supervisor: {pair[0]}\n  {number} ours:       {pair[1]}")
    finally:
        for side in sides:
            side.end()
    print(f"{passed} passed, {failed} failed, {known} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
