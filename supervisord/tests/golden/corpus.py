"""What the real Supervisor makes of configuration files, as JSON.

Usage: PYTHON corpus.py real|permissive CONFIG...      (PYTHON has the package supervisor 4.3)

Prints {CONFIG: {"config": effective values} or {"error": message}}. In the mode `permissive` every user, group and
directory exists, so that more than the first error of a file from elsewhere is compared.
"""
import grp
import json
import os
import pwd
import sys
import types
import warnings

from supervisor import datatypes, loggers
from supervisor.options import (EventListenerPoolConfig, FastCGIGroupConfig, ServerOptions)


class Refused(Exception):
    pass


# A plug-in that is built in here, and may not be installed there.
plugin = types.ModuleType("supervisor_stdout")
plugin.event_handler = lambda event, response: None
sys.modules.setdefault("supervisor_stdout", plugin)


class Options(ServerOptions):
    def usage(self, msg):
        raise Refused(str(msg))


def number_of(name):
    return 1000 + sum(name.encode()) % 1000


def be_permissive():
    def user(name):
        return ("x", "x", number_of(name), number_of(name) + 1, "", "/home/x", "")

    pwd.getpwnam = lambda name: user(name)
    pwd.getpwuid = lambda uid: ("x", "x", uid, uid + 1, "", "/home/x", "")
    grp.getgrnam = lambda name: ("x", "x", number_of(name) + 1, [])
    grp.getgrgid = lambda gid: ("x", "x", gid, [])
    real_isdir = os.path.isdir
    os.path.isdir = lambda path: True if not str(path).startswith("/proc") else real_isdir(path)


def log(value):
    if value is datatypes.Automatic:
        return "auto"
    return value or None


def at_least_zero(number):
    return max(0, number)


def process(config):
    restart = {datatypes.RestartUnconditionally: "always", datatypes.RestartWhenExitUnexpected: "unexpected"}
    out = {}
    for stream in ("stdout", "stderr"):
        out[stream] = {
            "logfile": log(getattr(config, stream + "_logfile")),
            "maxbytes": at_least_zero(getattr(config, stream + "_logfile_maxbytes")),
            "backups": at_least_zero(getattr(config, stream + "_logfile_backups")),
            "capture_maxbytes": at_least_zero(getattr(config, stream + "_capture_maxbytes")),
            "events_enabled": getattr(config, stream + "_events_enabled"),
            "syslog": getattr(config, stream + "_syslog"),
        }
    out.update(
        name=config.name, command=config.command, priority=config.priority, autostart=config.autostart,
        autorestart=restart.get(config.autorestart, "never"), startsecs=at_least_zero(config.startsecs),
        startretries=at_least_zero(config.startretries), exitcodes=config.exitcodes, stopsignal=int(config.stopsignal),
        stopwaitsecs=at_least_zero(config.stopwaitsecs), stopasgroup=config.stopasgroup,
        killasgroup=config.killasgroup, uid=config.uid, redirect_stderr=config.redirect_stderr,
        environment=dict(config.environment), directory=config.directory, umask=config.umask,
        serverurl=config.serverurl or None)
    return out


def group(config):
    kind = "other"
    if isinstance(config, EventListenerPoolConfig):
        kind = "eventlistener"
    elif isinstance(config, FastCGIGroupConfig):
        kind = "fastcgi " + config.socket_config.url
    return {"name": config.name, "priority": config.priority, "kind": kind,
            "processes": [process(p) for p in config.process_configs]}


def server(config):
    out = {"section": config["section"], "username": config["username"] or None}
    if "file" in config:
        out.update(file=config["file"], mode=config["chmod"], owner=[c % 2 ** 32 for c in config["chown"]])
    else:
        out.update(host=config["host"], port=config["port"])
    return out


def daemon(options):
    names = ("logfile logfile_maxbytes logfile_backups pidfile umask nodaemon silent minfds minprocs identifier "
             "directory childlogdir nocleanup strip_ansi uid").split()
    out = {name: getattr(options, name) for name in names}
    out["loglevel"] = {value: name for name, value in vars(loggers.LevelsByDescription).items()
                       if isinstance(value, int)}[options.loglevel]
    for name in ("minfds", "minprocs", "logfile_maxbytes", "logfile_backups"):
        out[name] = at_least_zero(out[name])
    for name in ("nodaemon", "silent", "nocleanup", "strip_ansi"):
        out[name] = bool(out[name])
    if isinstance(out["umask"], str):
        out["umask"] = int(out["umask"], 8)
    out["environment"] = options.configroot.supervisord.environment
    return out


def observe(path):
    options = Options()
    try:
        options.realize(["-c", path], doc="", progname="supervisord")
    except Refused as why:
        return {"error": str(why)}
    return {"config": {
        "daemon": daemon(options),
        "groups": [group(g) for g in options.process_group_configs],
        "servers": [server(s) for s in options.server_configs],
        "warnings": options.parse_warnings,
    }}


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    mode, *paths = sys.argv[1:]
    if mode == "permissive":
        be_permissive()
    json.dump({path: observe(path) for path in paths}, sys.stdout)
