"""The configuration and the command lines that run.py compares.

A step is ("ctl", words, stdin), ("when", words, text): the same as soon as it says this, ("raw", words) without `-c`,
("until", names, state), ("file", name, text that must appear), ("end", program that waits for that), ("touch", name),
("configure", text) or ("ended",).
"""

HEAD = """\
[supervisord]
logfile=$DIR/supervisord.log
pidfile=$DIR/supervisord.pid
childlogdir=$DIR
identifier=differential
[unix_http_server]
file=$DIR/s.sock
[inet_http_server]
port=127.0.0.1:$PORT
username=alice
password=secret
[rpcinterface:supervisor]
supervisor.rpcinterface_factory=supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix://$DIR/s.sock
"""

PROGRAMS = """\
[program:sleeper]
command=/bin/sleep 1000
[program:manual]
command=/bin/sleep 1000
autostart=false
startsecs=0
[program:missing]
command=/nonexistent/command with words
startretries=0
[program:unexecutable]
command=/etc/passwd
startretries=0
[program:directory]
command=/etc
startretries=0
[program:crash]
command=/bin/false
startretries=0
startsecs=1000
[program:retry]
command=/bin/false
startretries=1000000
startsecs=1000
autostart=false
[program:once]
command=/bin/sh -c "read line < $DIR/once.end"
startsecs=0
autorestart=false
[program:two]
command=/bin/sh -c "read line < $DIR/two.end; exit 2"
startsecs=0
autorestart=false
exitcodes=0,2
[program:badquote]
command=/bin/echo "never closed
autostart=false
startretries=0
[program:many]
command=/bin/sleep 1000
numprocs=3
numprocs_start=1
process_name=%(program_name)s_%(process_num)02d
startsecs=0
priority=5
[program:alone]
command=/bin/sleep 1000
process_name=other
startsecs=0
autostart=false
[program:member_b]
command=/bin/sleep 1000
startsecs=0
priority=2
[program:member_a]
command=/bin/sleep 1000
startsecs=0
autostart=false
priority=3
[group:duo]
programs=member_b,member_a
priority=7
[group:empty]
programs=
[program:talker]
command=/bin/sh -c "echo out 1; echo out 2; echo err 1 >&2; exec sleep 1000"
startsecs=0
[program:merged]
command=/bin/sh -c "echo out 1; echo err 1 >&2; exec sleep 1000"
startsecs=0
redirect_stderr=true
[program:silent]
command=/bin/sleep 1000
startsecs=0
stdout_logfile=none
stderr_logfile=NONE
[program:echo]
command=/bin/cat
startsecs=0
stdout_logfile=$DIR/echo.log
[program:stubborn]
command=/bin/sh -c "trap '' TERM; while :; do sleep 1000; done"
startsecs=0
stopwaitsecs=1
stopasgroup=true
[program:with_hangup]
command=/bin/sh -c "trap 'echo hung up' HUP; echo ready; while :; do sleep 0.1; done"
startsecs=0
stdout_logfile=$DIR/hangup.log
killasgroup=true
[program:averyveryverylongprogramnamethatexceedsthirtycharacters]
command=/bin/sleep 1000
autostart=false
"""

CONFIG = HEAD + PROGRAMS

# How supervisorctl finds its daemon, and the same over TCP.
OVER_UNIX = "serverurl=unix://$DIR/s.sock\n"
OVER_INET = "serverurl=http://127.0.0.1:$PORT\nusername=alice\npassword=secret\n"

CHANGED = CONFIG.replace("[program:alone]\ncommand=/bin/sleep 1000", "[program:alone]\ncommand=/bin/sleep 1001").replace(
    "[program:merged]\ncommand=/bin/sh -c \"echo out 1; echo err 1 >&2; exec sleep 1000\"\n"
    "startsecs=0\nredirect_stderr=true\n", "") + """\
[program:newcomer]
command=/bin/sleep 1000
startsecs=0
[program:later]
command=/bin/sleep 1000
startsecs=0
autostart=false
"""

BROKEN = CONFIG + "[program:broken]\ncommand=/bin/true\nstartsecs=soon\n"


# A group that was changed is the last one from then on.
REMOVABLE = CONFIG + """\
[program:first]
command=/bin/sleep 1000
autostart=false
[program:second]
command=/bin/sleep 1000
autostart=false
"""

LINGERING = CONFIG + """\
[program:lingering]
command=/bin/sh -c "trap '' TERM; echo ready; while [ ! -e $DIR/enough ]; do sleep 0.05; done"
startsecs=0
stopwaitsecs=1000
stdout_logfile=$DIR/lingering.log
"""


def ctl(*lines, stdin=""):
    return [("ctl", line.split(" ") if line else [], stdin) for line in lines]


HELP_TOPICS = ("add avail clear exit fg help maintail open pid quit reload remove reread restart shutdown signal start "
               "status stop tail update version").split()

BEFORE = [
    ("configure", CONFIG),
    # No daemon, no socket.
    *ctl("status", "pid", "start sleeper", "stop all", "restart sleeper", "signal HUP sleeper", "clear all",
         "tail sleeper", "maintail", "version", "shutdown", "fg sleeper", "avail", "reread", "update", "reload",
         "add x", "remove x", "add", "remove", "help", "nonsense", "quit"),
    ("raw", ["-s", "http://127.0.0.1:$PORT", "status"]),
    ("raw", ["-s", "http://127.0.0.1:$PORT", "shutdown"]),
    ("raw", ["-s", "http://127.0.0.1:$PORT", "pid"]),
    # The command line itself.
    ("raw", ["-c", "$DIR/nonexistent.conf", "status"]),
    ("raw", ["-c"]),
    ("raw", ["-x"]),
    ("raw", ["--nonsense"]),
    ("raw", ["--serverurl"]),
    ("raw", ["-s", "nonsense", "status"]),
    ("raw", ["-s", "foo://x", "status"]),
    ("raw", ["-h"]),
    ("raw", ["--help"]),
    ("raw", ["-?"]),
    ("raw", ["-c", "$DIR/supervisord.conf", "-c", "$DIR/supervisord.conf", "status"]),
    ("raw", ["--conf", "$DIR/supervisord.conf", "status"]),
    ("raw", ["--user", "x", "--pass", "y", "--server", "http://127.0.0.1:$PORT", "status"]),
]

STEADY = ["sleeper", "many:many_01", "many:many_02", "many:many_03", "duo:member_b", "talker", "merged", "silent",
          "echo", "stubborn", "with_hangup"]

# The programs that exit when they are told to: one that does so by itself may have when its start is answered, or not.
END_BOTH = [
    ("until", ["once", "two"], "RUNNING"),
    ("end", "once"),
    ("end", "two"),
    ("until", ["once", "two"], "EXITED"),
]

STEPS = [
    ("until", STEADY, "RUNNING"),
    ("until", ["missing", "unexecutable", "directory", "crash"], "FATAL"),
    *END_BOTH,
    ("file", "hangup.log", "ready"),
    ("when", ["tail", "talker"], "out 2\n"),
    ("when", ["tail", "talker", "stderr"], "err 1\n"),
    ("when", ["tail", "merged"], "out 1\nerr 1\n"),
    *ctl("status", "status all", "status sleeper", "status sleeper sleeper", "status many:*", "status many:",
         "status many:many_01", "status many_01", "status many", "status duo:*", "status duo:member_a",
         "status duo:nosuch", "status nosuch", "status nosuch:*", "status empty:*", "status sleeper nosuch manual",
         "status manual", "status alone:other", "status other", "status once two", "status missing crash",
         "status sleeper:sleeper", "status sleeper:", "status  sleeper", "status :", "status :sleeper",
         "status a:b:c", "status all nosuch", "status nosuch all", "status sleeper many:* duo:*", "status -x"),
    ("ctl", ["status sleeper"], ""),
    ("ctl", ["signal HUP", "with_hangup"], ""),
    ("file", "hangup.log", "hung up"),
    *ctl("pid", "pid all", "pid sleeper", "pid nosuch", "pid manual", "pid sleeper manual nosuch", "pid duo:*",
         "pid duo:member_b", "pid many:many_01", "pid :", "pid sleeper sleeper", "pid all nosuch", "pid many_01"),
    *ctl("start", "start nosuch", "start sleeper", "start nosuch:*", "start empty:*", "start missing",
         "start unexecutable", "start directory", "start badquote", "start crash", "start many_01", "start duo",
         "start :", "start a:b:c", "start nosuch nosuch2:* nosuch3:x", "start duo:nosuch", "start -x", "start all:*"),
    ("until", ["crash"], "FATAL"),
    *ctl("start manual", "start manual", "status manual", "start alone:other", "start duo:*", "start duo:*",
         "start many:*", "start once", "start manual nosuch sleeper"),
    ("end", "once"),
    ("until", ["once"], "EXITED"),
    *ctl("stop", "stop nosuch", "stop manual", "stop manual", "stop nosuch:*", "stop empty:*", "stop duo:*",
         "stop duo:*", "stop many:many_02", "status many:*", "stop missing", "stop once", "stop stubborn",
         "status stubborn", "stop alone:other manual nosuch", "stop many:many_01 many:many_01", "stop :", "stop duo:nosuch", "stop many_01", "stop -x"),
    *ctl("restart", "restart nosuch", "restart sleeper", "restart manual", "restart many:*", "restart duo:*",
         "restart nosuch:*", "restart missing", "restart sleeper nosuch", "restart stubborn", "restart talker echo", "restart duo:member_a duo:nosuch",
         "restart empty:*", "restart unexecutable", "restart badquote", "restart :"),
    ("until", ["unexecutable"], "FATAL"),
    ("until", ["missing"], "FATAL"),
    # It was started twice.
    ("when", ["tail", "talker"], 2 * "out 1\nout 2\n"),
    ("when", ["tail", "talker", "stderr"], 2 * "err 1\n"),
    *ctl("signal", "signal HUP", "signal HUP nosuch", "signal NONSENSE sleeper", "signal SIGCONT sleeper",
         "signal cont sleeper", "signal 18 sleeper", "signal CONT many:*", "signal CONT nosuch:*", "signal CONT crash",
         "signal CONT sleeper crash nosuch", "signal 9999 sleeper", "signal CONT duo:member_b",
         "signal CONT all", "signal -1 sleeper", "signal CONT sleeper:", "signal CONT empty:*", "signal CONT manual once",
         "signal NONSENSE nosuch", "signal NONSENSE all", "signal NONSENSE many:*", "signal CONT :", "signal SIGWINCH talker"),
    *ctl("tail talker", "tail talker stdout", "tail talker STDERR", "tail -4 talker", "tail -0 talker",
         "tail -1000000 talker stderr", "tail nosuch", "tail silent", "tail merged stderr", "tail merged",
         "tail", "tail talker nonsense", "tail -x talker", "tail talker stdout more", "tail -f", "tail -5",
         "tail echo", "tail once", "tail duo:member_b", "tail duo:*", "tail -f nosuch", "tail -f talker nonsense",
         "tail -f talker stdout more", "tail -f silent", "tail -1 talker stderr", "tail +3 talker", "tail talker:talker",
         "tail -5 -5 talker", "tail talker stdout stderr", "tail missing", "tail :"),
    *ctl("maintail nonsense", "maintail -f x y", "maintail -x", "maintail -0x", "maintail -1", "maintail -f x"),
    *ctl("clear", "clear nosuch", "clear talker", "tail talker", "clear duo:*", "clear talker nosuch", "clear silent",
         "clear talker:talker", "clear :", "clear -x", "clear all"),
    *ctl("fg", "fg sleeper talker", "fg nosuch", "fg manual_", "fg crash", "fg many:*", "fg :"),
    *ctl("avail", "avail x", "version", "version x", "open", "open nonsense", "open ftp://x", "pid x y z",
         "open unix://$DIR/s.sock", "open unix://$DIR/nosuch.sock", "open http://127.0.0.1:1"),
    *ctl("help", "?", *(f"help {topic}" for topic in HELP_TOPICS), "help nonsense", "?status", "help a b"),
    *ctl("nonsense", "nonsense with words", "!ls", "STATUS", "stat", "quit", "exit", "EOF"),
    ("ctl", ["   status   ", "manual   "], ""),
    ("ctl", [""], ""),
    # The interactive shell, its input not from a terminal.
    *ctl("", stdin="status manual\nversion\n\nnonsense\nhelp pid\npid nosuch\nquit\n"),
    *ctl("", stdin="status nosuch\n"),
    *ctl("", stdin="reread\navail x\nEOF\n"),
    *ctl("", stdin="shutdown x\nn\nshutdown\nn\nreload\nn\nexit\n"),
    *ctl("-i status manual"),
    *ctl("", stdin="open unix://$DIR/s.sock\nstatus manual\nopen unix://$DIR/nosuch.sock\nquit\n"),
    *ctl("", stdin="tail talker\nclear talker\ntail talker\nsignal CONT talker\npid nosuch\nexit x\n"),
    *ctl("", stdin="help exit\nhelp EOF\nhelp nonsense\nEOF\nstatus\n"),
    *ctl("", stdin="   status   manual   \nstatus manual;version\n!ls\nquit now\n"),
    *ctl("", stdin="start manual\nstop manual\nstart\nsignal\ntail\n? status\n?\n"),
    # Passwords.
    ("raw", ["-s", "http://127.0.0.1:$PORT", "-u", "alice", "-p", "secret", "status", "manual"]),
    ("raw", ["-s", "http://127.0.0.1:$PORT", "-u", "alice", "-p", "secret", "version"]),
    ("raw", ["-s", "http://127.0.0.1:$PORT", "-u", "alice", "-p", "wrong", "version"]),
    ("raw", ["-s", "http://127.0.0.1:$PORT", "status"]),
    # A process that waits for its next try.
    *ctl("start retry"),
    # From time to time it is STARTING.
    ("when", ["status", "retry"], "BACKOFF"),
    *ctl("start retry", "stop retry", "status retry"),
    # Changes of the configuration.
    *ctl("reread", "reread x", "update", "update nosuch", "add", "add nosuch", "add sleeper", "remove", "remove nosuch",
         "remove sleeper", "remove crash", "status crash", "add crash"),
    ("until", ["crash"], "FATAL"),
    ("configure", BROKEN),
    *ctl("reread", "update", "status manual"),
    ("configure", CHANGED),
    *ctl("reread", "reread", "avail", "update nosuch alone", "avail", "update", "update", "reread"),
    ("until", ["newcomer"], "RUNNING"),
    *ctl("status newcomer later merged alone:other"),
    ("configure", CONFIG),
    *ctl("update newcomer", "update all", "reread"),
    ("configure", REMOVABLE),
    *ctl("update"),
    ("configure", REMOVABLE.replace("[program:first]\n", "[program:first]\npriority=1000\n")),
    *ctl("update", "reread"),
    ("configure", CONFIG),
    *ctl("reread", "update"),
    ("until", ["merged"], "RUNNING"),
    *ctl("stop all", "stop all", "start all"),
    ("until", ["missing", "unexecutable", "directory", "crash"], "FATAL"),
    *END_BOTH,
    *ctl("stop retry"),
    *ctl("restart all"),
    ("until", ["missing", "unexecutable", "directory", "crash"], "FATAL"),
    *END_BOTH,
    *ctl("stop retry", "shutdown x", "reload x", "reload"),
    ("until", STEADY, "RUNNING"),
    ("until", ["missing", "unexecutable", "directory", "crash"], "FATAL"),
    *END_BOTH,
    *ctl("status", "avail", "reread"),
    ("configure", BROKEN),
    *ctl("version", "pid nosuch"),
    ("configure", LINGERING),
    *ctl("update"),
    ("until", ["lingering"], "RUNNING"),
    *ctl("add lingering", "remove lingering", "remove lingering sleeper nosuch", "add nosuch nosuch2"),
    ("file", "lingering.log", "ready"),
    *ctl("", stdin="shutdown\ny\nversion\n"),
    # Everything is being stopped, and one program takes its time.
    *ctl("status", "status sleeper", "status nosuch", "pid", "pid sleeper", "version", "start sleeper", "start all",
         "stop sleeper", "stop all", "restart sleeper", "signal HUP sleeper", "clear sleeper", "clear all",
         "tail talker", "maintail", "fg sleeper", "avail", "reread", "update", "add x", "remove x", "reload", "shutdown",
         "help pid", "nonsense", "open x"),
    ("touch", "enough"),
    ("ended",),
    *ctl("status", "shutdown", "version"),
    ("raw", ["-c", "$DIR/supervisord.conf", "-s", "unix://$DIR/other.sock", "status"]),
]
