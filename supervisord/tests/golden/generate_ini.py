"""Writes the golden results beside this file: what CPython and Supervisor 4.3 make of tricky texts.

Usage: PYTHON generate_ini.py                           (PYTHON has the package supervisor 4.3)
"""
import json
import os
import shlex
import sys
import tempfile

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
ENVIRONMENT = {"HOME": "/home/x", "PATH": "/bin", "X": "x value", "P": "50%"}
os.environ.clear()
os.environ.update(ENVIRONMENT)

import corpus  # noqa: E402
from supervisor.datatypes import dict_of_key_value_pairs  # noqa: E402
from supervisor.options import UnhosedConfigParser, expand  # noqa: E402

INI = [
    "", "\n\n", "; c\n# d\n", "[a]\nx=1\n", "[a]\nx = 1\ny: 2\n", "[a]\r\nx=1\r\n", "[a]\rx=1\r", "[a]\nx=1",
    "[a]\nm:a=b\n", "[a]\nm=a:b\n", "[a]\nX=1\n", "[a]\nx=1\nX=2\n", "[a]\nx=\n", "[a]\nx=\n  y\n", "[a]\nx=1;2\n",
    "[a]\nx=1 ;2\n", "[a]\nx=1\t;2\n", "[a]\nx=1#2\n", "[a]\nx=1 #2\n", "[a]\nu=;foo\n", "[a]\nq= ;foo\n",
    "[a]\nq=x ;foo\n   y ;bar\n", "[a]\nc=bash -c 'foo ; bar'\n", "[a]\nx=1\n  2\n  3\n", "[a]\nx=1\n\n  2\n",
    "[a]\nx=1\n\n\n", "[a]\nx=1\n  ; c\n  2\n", "[a]\nx=1\n; c\n  2\n", "[a]\nx=1\n# c\n\n  2\n", "[a]\n  x=1\n  y=2\n",
    "[a]\n  x=1\n    y=2\n", "[a]\n  x=1\ny=2\n  z=3\n", "[a]\nx=1\n  [b]\ny=2\n", "[a]\n  [b]\nx=1\n", "  [a]\nx=1\n",
    "[a]junk\nx=1\n", "[a[b]]\nx=1\n", "[a] [b]\nx=1\n", "[]\nx=1\n", "[a]\n[]\n", "[a]\n[]=1\n", "[a]\n[b\n", "[ a ]\nx=1\n",
    "[a]\n[program:x\ny=1\n", "[a]\nx=1\n[b]\ny=2\n[a]\nz=3\nx=4\n", "[DEFAULT]\nx=1\n[a]\ny=2\n[b]\nx=3\n",
    "[a]\ny=2\n[DEFAULT]\nx=1\n", "[default]\nx=1\n", "[a]\njunk\n", "[a]\njunk\nx=1\nmore junk\n  y\n", "[a]\n=1\n",
    "[a]\n:1\n", "[a]\n = 1\nx=2\n", "[a]\n=1\n  y\nz=2\n  w\n", "foo=bar\n", "foo\n[a]\n", "\ufeff[a]\nx=1\n", "[a]\nx='q' \"r\"\n", "[a]\nx=a\\\n",
    "[a]\nx=a\\nb\\\\c\\x41\n", "[a]\nx=a\\\ny=2\n", "[a]\nx=\"quoted\"\n", "[a]\n\"k\"='v'\n", "[a]\nk k=v v\n",
    "[a]\nx=é ü 日本\n", "[a]\nÄ=1\n", "[\u00e4]\nx=1\n", "[a]\nx=\u00a0nbsp\u00a0\n", "[a]\nx=a\u00a0;c\n",
    "[a]\nx=\x0ba\x0c\n", "[a]\nx=a\tb\n", "[a]\nx==1\n", "[a]\nx=:1\n", "[a]\nx:=1\n", "[a]\n\tx=1\n\t\ty\n",
    "[a]\nx=1\n ;c\n ;d\n", "[a];c\nx=1\n", "[a] ;c\nx=1\n", "[a ;c]\nx=1\n", "[a#c]\nx=1\n", "[a;b]\nx=1\n",
    "[a]\nk;k=1\n", "[a]\nk ;k=1\n", "[a]\nx=1\n\n[b]\n\n  y=2\n\n  z=3\n", "[a]\nx=1\n  y=2\nz=3\n", "[a]\nx=%(y)s %%\n",
    "[a]\nx=${y}\n", "[a]\nx=1\n \n  2\n", "[a]\nx= \n  1\n   2\n  3\n", "[a]\nx=1\n\x0c\n  2\n", "[a]\nx=`~!@$^&*()_+{}|<>?\n",
    "[a]\nx=[b]\n[c]\n", "[a]\nx=1\n]\n", "[a]\nx=a\0b\n", "[a]\nx=\U0001f600\n", "[a]\nenv=A=\"1\",\n  B='2' ; c\n  ,C=3\n",
    "[a]\nx=1\x1c\n", "[a]\nx=a\x85b\n", "[a]\nx=a\u2028b\n",
]
WORDS = [
    "", " ", "a b", "a  b\tc\nd\re", "''", "a '' b", '""', "'a b'", '"a b"', "a'b'c", "a\"b\"c", "a\\ b", "\\'", "'a\\b'",
    '"a\\"b"', '"a\\\\b"', '"a\\$b"', '"a\\nb"', "a\\\nb", '"a\\\nb"', "a;b", "a # b", "#a", "a#b", "$HOME `x` | y > z &&",
    "'", '"', "a \\", '"a\\', "'a\"b'", "\"a'b\"", "é 日本 \U0001f600", "a\x0bb", "a\u00a0b", "\\", "''''", "a''", "''a",
    "bash -c 'while true; do date; sleep 1; done'", "x=\"y z\"=w", "\\\\", "\\\\\\ a", "(a) {b}", "*.c ?", "~", "a\0b",
]
ENVIRONMENTS = [
    "", "A=1", "A=1,B=2", "A=1,", "A=1,\nB=2", "A=1 , B=2", 'A="x,y",B=2', "A='x y'", 'A="it\'s"', "A=\"'x'\"", 'A=""', "A=''",
    "A=foo bar", "A=foo#bar,B=2", "A=foo #bar\n,B=2", "A=$HOME", "A=~/x", "A=http://x/?q=1", "A=1;B=2", "A=a@b", "A=[x]",
    "A=1,,B=2", "A=", 'A="x"y', 'A="a\\"b"', "A==", "A", "A,B", "A=1,B", "A=1,A=2", "A=1,B=2,A=3", "A=x:y/z.w+v-u(t)", '"A"=1',
    'A="x', "A='x\ny'", "A=\"a,b;c#d\"", "A=é", "A=日", "A-B=1", "A:B=1", "=A", "A=1 B=2", "A='a' 'b'", "A=x\"y z\"", "A=x'y,B=2",
    "A=%", "A=a%b", "A=\\x", "#c", "A=1#c", "A=1 #c", "A=1,#c\nB=2", "A=\"#\"", "A= 1", "A =1", "A = 1 ,B = 2 ,", ",A=1", "A=1,\t\r\n",
    "A=\"1\",B=\"2\"", "A=\"1\"B=\"2\"", "A=*", "A=1|2", "A='\"'", "A=a\x0bb", "A=\u00a0",
]
NAMES = {"here": "/etc", "process_num": 7, "neg": -3, "big": 1234567, "zero": 0, "é": "ü", "a(b)c": "nested", "": "empty", "s": "it's"}
FORMATS = [
    "", "a", "%%", "%", "a%", "%%%", "%(here)s", "%(here)", "%(here", "%(", "%()s", "%(a(b)c)s", "%(a(b)s", "%(nosuch)s",
    "%(nosuch)Y", "%(nosuch)s %", "%(process_num)d", "%(process_num)02d", "%(process_num)03d", "%(process_num)s", "%(process_num)x",
    "%(big)x", "%(big)X", "%(big)#x", "%(big)#X", "%(big)o", "%(big)#o", "%(neg)d", "%(neg)03d", "%(neg)-5d|", "%(neg)5d|",
    "%(neg)x", "%(neg)#06x", "%(process_num)+d", "%(process_num) d", "%(process_num)+ d", "%(process_num).3d", "%(process_num)6.3d",
    "%(process_num)06.3d", "%(process_num)-06d|", "%(process_num)ld", "%(process_num)hd", "%(process_num)Ld", "%(process_num)lld",
    "%(process_num)i", "%(process_num)u", "%(process_num)r", "%(process_num)a", "%(process_num)c", "%(big)c", "%(neg)c", "%(here)c",
    "%(here)d", "%(here)i", "%(here)x", "%(here)o", "%(here)f", "%(here)e", "%(here)r", "%(s)r", "%(é)s", "%(é)a", "%(here)10s|",
    "%(here)-10s|", "%(here)010s|", "%(here).2s", "%(here).0s", "%(here).s", "%(here)5.2s|", "%(process_num)f", "%(process_num).2f",
    "%(process_num).0f", "%(process_num)#.0f", "%(process_num)08.2f", "%(neg)08.2f", "%(process_num)e", "%(big)e", "%(big).2e",
    "%(big).0e", "%(big)#.0e", "%(big)E", "%(big)g", "%(big).3g", "%(big)G", "%(process_num)g", "%(process_num)#g", "%(zero)g", "%(zero)e",
    "%(process_num)F", "%(here)%", "%5%", "% %", "%Y", "date +%Y-%m-%d", "%(here)s %Y", "%(here)s %d", "%d", "%x", "%f", "%c", "%i",
    "100% done", "%é", "%(process_num)\x01", "%(process_num)*d", "%*d", "%(here)*s", "%(process_num).*d", "%(process_num)b", "%(here)n",
    "%-(here)s", "%(here)s%(here)s", "%(zero)d%(neg)s", "%(process_num)99999999999999999999d", "%(process_num).99999999999999999999d",
    "%%(here)s", "%%%(here)s", "%(s)s", "%(here)ls", "%(process_num)#d", "%(zero)#x", "%(zero).0d|", "%h", "%l", "%.", "%(here)5", "%.3",
]
D = "[supervisord]\n"
P = D + "[program:x]\ncommand=/bin/cat\n"
F = D + "[fcgi-program:f]\ncommand=/bin/cat\n"
E = D + "[eventlistener:e]\ncommand=/bin/cat\n"
U = D + "[unix_http_server]\nfile=@DIR@/s\n"
I = D + "[inet_http_server]\n"
VALUES = {
    "minfds": ["1", "x", "1.5", "-5", " 7 ", "1_0", "0x1", ""],
    "minprocs": ["1", "x"], "umask": ["022", "9", "0o17", "x", ""], "loglevel": ["DEBUG", "warning", "crit", "Blather", ""],
    "logfile": ["/nonexist/a", "x.log", "@DIR@/x", "none", "syslog", "/", "//x", "~/y", "a/../b", "%(here)s/l"],
    "pidfile": ["/nonexist/a", "x", "@DIR@/../x"], "logfile_maxbytes": ["1KB", "1 MB", "2gb", "1k", "-1", "1.5MB", "", "kb", "10"],
    "logfile_backups": ["-1", "0", "x", "7"], "directory": ["/nonexist", "/", "~"], "childlogdir": ["/nonexist", "/", "%(nosuch)s"],
    "nodaemon": ["maybe", "ON", "1", "2", ""], "silent": ["x", "yes"], "nocleanup": ["x", "yes"], "strip_ansi": ["x", "yes"],
    "user": ["root", "0", "nosuch", "54321", "%(nosuch)s", ""], "identifier": ["a b", "%(here)s", "%(nope)s", "100%%", "%(host_node_name)s"],
    "environment": ["A=1,B=\"2\"", "A", "A='", "A=\"%(here)s\"", "A=\"%(ENV_X)s\"", "A=%(nosuch)s", "A=\"%%%%\"", "A=\"%%%%d\""],
}
PROGRAM = {
    "priority": ["1", "x", "-1", "%(here)s", "%(program_name)s"], "autostart": ["maybe", "No"],
    "autorestart": ["sometimes", "TRUE", "false", "Unexpected", "1", "off"], "startsecs": ["0", "-1", "x", "1.5"],
    "startretries": ["0", "-1", "x"], "exitcodes": ["", "0,2", "0, 2 ", "0,256", "0,", "-1", "x", "0 2"],
    "stopsignal": ["HUP", "sigusr1", " 15 ", "9", "999", "0", "FOO", "35", "34", "64", "RTMIN", "CLD", "IOT", "POLL", "_DFL", "SIG", ""],
    "stopwaitsecs": ["0", "-1", "x"], "stopasgroup": ["true", "x"], "killasgroup": ["true", "x"],
    "redirect_stderr": ["true", "x"], "numprocs": ["0", "-3", "1", "2", "x"], "numprocs_start": ["5", "x"],
    "process_name": ["a b", "a:b", "a/b", " y ", "%(program_name)s_%(process_num)02d", "%(nosuch)s", "%(process_num)Y", "%(here)d", "%%"],
    "stdout_logfile": ["NONE", "off", "auto", "AUTO", "syslog", "x", "", "/nonexist/x.log", "/dev/stdout", "%(here)s/a%(process_num)d", "a%%%%b", "~/z",
                       "%(nosuch)s"],
    "stderr_logfile": ["NONE", "syslog", "x", "/nonexist/x.log"],
    "stdout_logfile_maxbytes": ["0", "1k", "2KB"], "stdout_logfile_backups": ["0", "x", "-1"], "stdout_syslog": ["true", "x"],
    "stdout_capture_maxbytes": ["1MB", "x"], "stdout_events_enabled": ["true", "x"], "stderr_capture_maxbytes": ["1MB", "x"],
    "stderr_events_enabled": ["true", "x"], "stderr_logfile_maxbytes": ["0", "x"], "stderr_logfile_backups": ["3", "x"], "stderr_syslog": ["on"],
    "environment": ["A=1,B=\"%(ENV_X)s\"", "A=%(ENV_A)s", "A", "A='", "A=\"%(process_num)d%(group_name)s\"", "A=\"%%\"", "A=foo bar"],
    "directory": ["/nonexist", "~/x", "%(here)s", "%(ENV_NOPE)s"], "umask": ["022", "9"], "user": ["root", "0", "nosuch", "54321", ""],
    "serverurl": ["AUTO", "auto", "", "http://x:1"], "command": ["", "a %% b", "a %(ENV_X)s %(here)s", "%(nosuch)s", "date +%Y", "a\n  b\n\n  c", "x ; y", "%(ENV_P)s"],
}
CONFIGS = (
    ["", "[a]\n", "junk\n", "[supervisord\n", D, D + "junk\n", D + "junk\nmore\n", D + "[include]\n", D + "[include]\nfiles=nosuch*.conf other\n",
     D + "[include]\nfiles=%(nosuch)s\n", D + "[include]\nfiles=%(here)s/none-%(ENV_X)s.conf\n"]
    + [D + f"{key}={value}\n" for key, values in VALUES.items() for value in values]
    + [P + f"{key}={value}\n" for key, values in PROGRAM.items() for value in values]
    + [
        D + "[program:x]\n", D + "[program:x y]\ncommand=a\n", D + "[program:]\ncommand=a\n", D + "[program: x ]\ncommand=a\n",
        D + "[program:a:b]\ncommand=a\n", P + "numprocs=2\nprocess_name=%(process_num)d\n", P + "numprocs=2\nprocess_name=x\n",
        P + "numprocs=3\nnumprocs_start=5\nprocess_name=p%(process_num)02d\nstdout_logfile=l%(process_num)d\nenvironment=N=\"%(process_num)d\"\n"
        + "directory=/%(ENV_N)s/%(numprocs)d\n", P + "numprocs=0\nprocess_name=y\n", P + "numprocs=11\nprocess_name=%(process_num)d\n",
        P + "stopasgroup=true\nkillasgroup=false\n", P + "stopasgroup=true\nkillasgroup=true\n", P + "startsecs=x\nstartretries=y\n",
        P + "redirect_stderr=true\nstderr_logfile=/tmp/x\n", P + "redirect_stderr=true\nstderr_logfile=auto\n",
        P + "stdout_logfile_maxbytes=0\nstderr_logfile_maxbytes=0\n", P + "environment=A=\"1\"\ncommand=c %(ENV_A)s\nstdout_logfile=%(ENV_A)s\n",
        D + "environment=A=\"d\",B=\"e\"\n[program:x]\ncommand=c %(ENV_A)s %(ENV_B)s\nenvironment=A=\"p\",C=\"q\"\n",
        D + "[program:b]\ncommand=b\n[program:a]\ncommand=a\n[program:c]\ncommand=c\npriority=1\n",
        P + "[group:g]\nprograms=x\n", P + "[group:g]\nprograms=x\npriority=5\n[group:h]\nprograms=x\n", P + "[group:g]\nprograms=nosuch\n",
        P + "[group:g]\nprograms=x,nosuch\n", P + "[group:g]\nprograms=x,\n", P + "[group:g]\n", P + "[group:g]\nprograms=\n", P + "[group:a b]\nprograms=x\n",
        P + "[group:g]\nprograms=x\npriority=y\n", P + "[group:g]\nprograms=%(nosuch)s\n", P + "[fcgi-program:x]\ncommand=a\nsocket=tcp://a:1\n[group:g]\nprograms=x\n",
        P + "priority=7\n[program:y]\ncommand=b\npriority=3\n[group:g]\nprograms= x , y \n", P + "[group:g]\nprograms=x\n[program:z]\ncommand=%(group_name)s\n",
        P + "user=nosuch\n[group:g]\nprograms=x\n", P + "startsecs=%(group_name)s\n[group:7]\nprograms=x\n",
        D + "[DEFAULT]\nautostart=false\nstdout_logfile=%(here)s/x\n[program:x]\ncommand=c\n",
        D + "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\n", D + "[rpcinterface:supervisor]\n",
        D + "[rpcinterface:supervisor]\nsupervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface\nx=%(here)s\n",
        E + "events=TICK_5\n", E + "events=tick_5, process_state\npriority=3\nbuffer_size=50\n", E, E + "events=\n", E + "events=FOO\n", E + "events=TICK_5\nbuffer_size=0\n",
        E + "events=TICK_5\nbuffer_size=x\n", E + "events=TICK_5\nredirect_stderr=true\n", E + "events=TICK_5\nresult_handler=no.such:thing\n", E + "events=TICK_5\nredirect_stderr=x\n", E + "events=TICK_5\nstartsecs=x\n",
        E + "events=TICK_5\nnumprocs=2\nprocess_name=%(process_num)d\n", D + "[eventlistener:e f]\ncommand=a\nevents=TICK_5\n", D + "[eventlistener:e]\nevents=TICK_5\n",
        F, F + "socket=\n", F + "socket=foo\n", F + "socket=tcp://Host:9000\n", F + "socket=tcp://host:0\n", F + "socket=tcp://host:70000\n", F + "socket=tcp://host:x\n",
        F + "socket=tcp://:1\n", F + "socket=unix:///tmp/../x/%(program_name)s.sock\n", F + "socket=unix://rel/x.sock\n", F + "socket=tcp://h:1\nsocket_owner=root\n",
        F + "socket=tcp://h:1\nsocket_mode=0700\n", F + "socket=unix:///x\nsocket_owner=nosuch\n", F + "socket=unix:///x\nsocket_mode=9\n", F + "socket=unix:///x\nsocket_backlog=0\n",
        F + "socket=unix:///x\nsocket_backlog=x\n", F + "socket=unix:///x\nsocket_backlog=128\nsocket_mode=0666\nsocket_owner=root:root\n", F + "socket=unix:///x\nuser=nosuch\n",
        F + "socket=unix:///x\n[group:g]\nprograms=f\n", F + "socket=foo\nsocket_mode=0700\n",
        I, I + "port=\n", I + "port=foo\n", I + "port=9001\n", I + "port=:9001\n", I + "port=*:9001\n", I + "port=Host:9001\n", I + "port=h:\n", I + "port=h:x\n", I + "port=h:0\n",
        I + "port=70000\n", I + "port=h:70000\n", I + "port=0\n", I + "port=::1:9001\n", I + "port=%(here)s\n", I + "port=1\nusername=a\n", I + "port=1\npassword=a\n",
        I + "port=1\nusername=a\npassword=b\n", I + "port=1\nusername=\npassword=b\n", I + "port=1\nusername=a\npassword=%%x\n",
        I + "port=1\n[inet_http_server:b]\nport=2\n[inet_http_serverX]\nport=3\n", U, D + "[unix_http_server]\n", U + "chmod=9\n", U + "chmod=0770\n", U + "chown=root\n",
        U + "chown=root:root\n", U + "chown=0:0\n", U + "chown=nosuch:root\n", U + "chown=root:nosuch\n", U + "chown=\n", U + "username=a\n", U + "port=1\n", U + "username=a\npassword=b\n",
        D + "[unix_http_server]\nfile=s.sock\n", D + "[unix_http_server]\nfile=%(here)s/s\n[include]\nfiles=none*\n", D + "[unix_http_server]\nfile=~/s\n",
        "[include]\nfiles=none*\n" + D + "[inet_http_server]\nport=1\nusername=%(here)s\npassword=x\n", D + "[inet_http_server]\nport=1\nusername=x\npassword=x\n" + U[len(D):],
        P + "unknown=%(nosuch)s\n[unknown]\nx=%(nosuch)s\n", D + "[supervisorctl]\nserverurl=%(nosuch)s\n",
        D + "environment=A=\"1\"\nuser=nosuch\n[program:x]\n", P + "stopwaitsecs=x\n[program:a]\ncommand=b\nstartsecs=y\n[group:g]\nprograms=a\n",
    ]
)


def outcome(function, *arguments):
    try:
        return {"ok": function(*arguments)}
    except ValueError as why:
        return {"error": str(why)}
    except Exception as why:  # The parsing errors of configparser.
        return {"error": str(why)}


def parse(text):
    parser = UnhosedConfigParser()
    with open("f.conf", "w", newline="", encoding="utf-8") as out:
        out.write(text)
    with open("f.conf", encoding="utf-8") as lines:
        parser.read_file(lines)
    return [[name, list(map(list, parser.items(name)))] for name in parser.sections()]


def configured(text, directory):
    path = os.path.join(directory, "supervisord.conf")
    with open(path, "w", encoding="utf-8") as out:
        out.write(text.replace("@DIR@", directory))
    return json.loads(json.dumps(corpus.observe(path)).replace(directory, "@DIR@"))


def write(name, rows):
    with open(os.path.join(HERE, name), "w", encoding="utf-8") as out:
        out.write("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        tempfile.tempdir = directory
        write("ini.json", [[text, outcome(parse, text)] for text in INI])
        write("shlex.json", [[text, outcome(shlex.split, text)] for text in WORDS])
        write("environment.json", [[text, outcome(lambda text: list(map(list, dict_of_key_value_pairs(text).items())), text)]
                                   for text in ENVIRONMENTS])
        write("expansion.json", [[text, outcome(expand, text, NAMES, "k")] for text in FORMATS])
        write("configs.json", [[text, configured(text, directory)] for text in CONFIGS])
