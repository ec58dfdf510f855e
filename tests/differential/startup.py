"""Command lines of supervisord that must fail, and with what words: bad options and bad configurations."""

OPTIONS = [
    ["-x"], ["--nonsense"], ["-c"], ["--mi"], ["positional"], ["-n", "positional", "words"], ["-n", "-n"],
    ["-m", "99"], ["-m", "x"], ["-y", "1.5"], ["-y", "1k"], ["-z", "x"], ["-e", "verbose"], ["-a", "x"],
    ["--minprocs", "x"], ["-d", "/nonexistent"], ["-l", "/nonexistent/log"], ["-j", "/nonexistent/pid"],
    ["-q", "/nonexistent"], ["-c", "$DIR/supervisord.conf", "-u", "nosuchuser"], ["-c", "$DIR/supervisord.conf", "-u", "54321"], ["--nodaemon=x"], ["-c", "$DIR/nonexistent.conf"],
    ["-c", "$DIR"], ["-h"], ["-v"], ["--version"], ["-?"], ["--help"], ["-nv"], ["-ny"], ["--logfile_m"],
    ["--logfile_ma", "x"], ["--co", "$DIR/nonexistent.conf"], ["-i"], ["-s", "-s"], ["-kk"], ["-t", "-k", "-x"],
]

# One mistake each. Supervisor stops at the first and names no line; here all are reported, each with its line, before
# Supervisor's words: what is compared is the exit status and the text from "Error:" on.
CONFIGURATIONS = {
    "empty": "",
    "no section": "foo=bar\n",
    "junk": "[supervisord]\nthis is junk\n",
    "program without command": "[supervisord]\n[program:x]\nstartsecs=1\n",
    "bad integer": "[supervisord]\n[program:x]\ncommand=/bin/true\nstartsecs=1.5\n",
    "bad boolean": "[supervisord]\n[program:x]\ncommand=/bin/true\nautostart=maybe\n",
    "bad autorestart": "[supervisord]\n[program:x]\ncommand=/bin/true\nautorestart=sometimes\n",
    "bad signal": "[supervisord]\n[program:x]\ncommand=/bin/true\nstopsignal=FOO\n",
    "bad exit codes": "[supervisord]\n[program:x]\ncommand=/bin/true\nexitcodes=0,256\n",
    "bad umask": "[supervisord]\n[program:x]\ncommand=/bin/true\numask=9\n",
    "bad user": "[supervisord]\n[program:x]\ncommand=/bin/true\nuser=nosuchuser\n",
    "bad name": "[supervisord]\n[program:x y]\ncommand=/bin/true\n",
    "log in a missing directory": "[supervisord]\n[program:x]\ncommand=/bin/true\nstdout_logfile=/nonexistent/x.log\n",
    "unknown expansion": "[supervisord]\n[program:x]\ncommand=/bin/true %(nosuch)s\n",
    "bad expansion": "[supervisord]\n[program:x]\ncommand=/bin/date +%%Y %Y\n",
    "numprocs without process_num": "[supervisord]\n[program:x]\ncommand=/bin/true\nnumprocs=2\n",
    "killasgroup=false": "[supervisord]\n[program:x]\ncommand=/bin/true\nstopasgroup=true\nkillasgroup=false\n",
    "unknown program in group": "[supervisord]\n[group:g]\nprograms=nosuch\n",
    "bad environment": "[supervisord]\n[program:x]\ncommand=/bin/true\nenvironment=A=1,B\n",
    "unclosed environment": "[supervisord]\n[program:x]\ncommand=/bin/true\nenvironment=A=\"1\n",
    "bad loglevel": "[supervisord]\nloglevel=verbose\n",
    "bad size": "[supervisord]\nlogfile_maxbytes=1k\n",
    "bad minfds": "[supervisord]\nminfds=many\n",
    "bad directory": "[supervisord]\ndirectory=/nonexistent\n",
    "bad childlogdir": "[supervisord]\nchildlogdir=/nonexistent\n",
    "bad logfile": "[supervisord]\nlogfile=/nonexistent/log\n",
    "inet without port": "[supervisord]\n[inet_http_server]\n",
    "bad port": "[supervisord]\n[inet_http_server]\nport=foo\n",
    "port out of range": "[supervisord]\n[inet_http_server]\nport=127.0.0.1:70000\n",
    "unix without file": "[supervisord]\n[unix_http_server]\n",
    "bad chmod": "[supervisord]\n[unix_http_server]\nfile=$DIR/s.sock\nchmod=9\n",
    "bad chown": "[supervisord]\n[unix_http_server]\nfile=$DIR/s.sock\nchown=nosuch:group\n",
    "half a password": "[supervisord]\n[unix_http_server]\nfile=$DIR/s.sock\nusername=alice\n",
    "include without files": "[supervisord]\n[include]\n",
    "socket in a missing directory": "[supervisord]\nlogfile=$DIR/x.log\npidfile=$DIR/x.pid\n"
                                     "[unix_http_server]\nfile=/nonexistent/s.sock\n",
    "listener without events": "[supervisord]\n[eventlistener:e]\ncommand=/bin/true\n",
    "unknown event": "[supervisord]\n[eventlistener:e]\ncommand=/bin/true\nevents=FOO\n",
    "continuation first": "  indented\n[supervisord]\n",
    "no closing bracket": "[supervisord\nnodaemon=true\n",
    "bad startretries": "[supervisord]\n[program:x]\ncommand=/bin/true\nstartretries=many\n",
    "bad priority": "[supervisord]\n[program:x]\ncommand=/bin/true\npriority=high\n",
    "bad numprocs": "[supervisord]\n[program:x]\ncommand=/bin/true\nnumprocs=x\n",
    "bad stopwaitsecs": "[supervisord]\n[program:x]\ncommand=/bin/true\nstopwaitsecs=-\n",
    "bad log size": "[supervisord]\n[program:x]\ncommand=/bin/true\nstdout_logfile_maxbytes=lots\n",
    "bad log backups": "[supervisord]\n[program:x]\ncommand=/bin/true\nstderr_logfile_backups=x\n",
    "bad redirect_stderr": "[supervisord]\n[program:x]\ncommand=/bin/true\nredirect_stderr=perhaps\n",
    "bad server url": "[supervisord]\n[program:x]\ncommand=/bin/true\nserverurl=x\nstartsecs=x\n",
    "bad process name": "[supervisord]\n[program:x]\ncommand=/bin/true\nprocess_name=a:b\n",
    "unknown expansion in process name": "[supervisord]\n[program:x]\ncommand=/bin/true\nprocess_name=%(y)s\n",
    "unknown environment variable": "[supervisord]\n[program:x]\ncommand=%(ENV_NOSUCH_VARIABLE)s\n",
    "bad daemon environment": "[supervisord]\nenvironment=A\n",
    "bad daemon umask": "[supervisord]\numask=8\n",
    "bad daemon user": "[supervisord]\nuser=nosuchuser\n",
    "bad nodaemon": "[supervisord]\nnodaemon=2\n",
    "bad minprocs": "[supervisord]\nminprocs=x\n",
    "bad logfile_backups": "[supervisord]\nlogfile_backups=x\n",
    "bad nocleanup": "[supervisord]\nnocleanup=x\n",
    "bad group priority": "[supervisord]\n[program:x]\ncommand=/bin/true\n[group:g]\nprograms=x\npriority=x\n",
    "bad group name": "[supervisord]\n[program:x]\ncommand=/bin/true\n[group:a:b]\nprograms=x\n",
    "bad expansion in files": "[supervisord]\n[include]\nfiles=%(nosuch)s/*.conf\n",
    "plug-in of unknown kind": "[supervisord]\n[rpcinterface:x]\nfoo=bar\n",
    "listener with bad buffer": "[supervisord]\n[eventlistener:e]\ncommand=/bin/true\nevents=TICK_5\nbuffer_size=0\n",
    "listener with redirect": "[supervisord]\n[eventlistener:e]\ncommand=/bin/true\nevents=TICK_5\n"
                              "redirect_stderr=true\n",
    "fcgi with bad socket": "[supervisord]\n[fcgi-program:f]\ncommand=/bin/true\nsocket=foo\n",
    "fcgi with bad owner": "[supervisord]\n[fcgi-program:f]\ncommand=/bin/true\nsocket=unix:///tmp/x\n"
                           "socket_owner=nosuchuser\n",
    "fcgi without socket": "[supervisord]\n[fcgi-program:f]\ncommand=/bin/true\n",
}


def cases():
    """(title, function of a side that gives a comparable result)."""
    for words in OPTIONS:
        yield "supervisord " + " ".join(words), lambda side, words=words: side.run("supervisord", words)
    for name, text in CONFIGURATIONS.items():
        yield f"configuration: {name}", lambda side, text=text: configuration(side, text)


def configuration(side, text):
    side.configure(text, "bad.conf")
    out, err, status = side.run("supervisord", ["-n", "-c", "$DIR/bad.conf"])
    lines = err.splitlines(True)
    begin = next((at for at, line in enumerate(lines) if line.startswith("Error: ")), 0)
    return out, "".join(lines[begin:]), status
