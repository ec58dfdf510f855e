"""Differences from Supervisor 4.3 that are meant: each is a row of COMPATIBILITY.md.

An entry says how the results of some comparisons differ; any other difference in them fails, and so does an entry
which is not needed any more. A result is (stdout, stderr, exit status).
"""

import dataclasses
import re
import typing


@dataclasses.dataclass(frozen=True)
class Difference:
    titles: tuple
    reason: str
    describes: typing.Callable


def one_line(reference, ours):
    """There a Python exception, here one line that says what, where and why."""
    exception, line = reference[0], ours[0]
    return (exception.startswith("error: <class ") and line.startswith("error: ") and line.count("\n") == 1
            and "<class" not in line and reference[1:] == ours[1:])


def said_once(reference, ours):
    """There the same again as a Python exception."""
    rest = reference[0].removeprefix(ours[0])
    return ours[0] == "Server requires authentication\n" and rest.startswith("error: <class ") and \
        reference[1:] == ours[1:]


PLACE = re.compile(r"DIR/supervisord\.conf:\d+: \[program:broken\] startsecs = \"soon\": .*\n")


def place_of_the_mistake(reference, ours):
    """The mistakes with their lines go to stderr; the rest is the same, without a Python exception around it."""
    fault = re.fullmatch(r"error: <class 'xmlrpc\.client\.Fault'>, <Fault 92: \"(.*)\">: file: .*\n", reference[0])
    expected = f"ERROR: {fault[1]}\n" if fault else reference[0]
    return expected == ours[0] and not reference[1] and PLACE.fullmatch(ours[1]) and reference[2] == ours[2]


def cause_before_the_error(reference, ours):
    return ours[1].endswith(reference[1]) and ours[1].count("\n") == reference[1].count("\n") + 1 and \
        (reference[0], reference[2]) == (ours[0], ours[2])


def more_help(reference, ours):
    """All that is there is here too; `-i` (no shell follows an action) and `-r` were explained wrongly."""
    lost = set(reference[0].splitlines()) - set(ours[0].splitlines())
    return all(line.startswith(("-r/", "-i/", "Actions are commands")) for line in lost) and reference[1:] == ours[1:]


def same_options(reference, ours):
    options = [set(re.findall(r"(?m)^(?:-\w/)?--\w+(?: [A-Z]+)?", text)) for text in (reference[0], ours[0])]
    return options[0] < options[1] and reference[1:] == ours[1:]


ENDING = "error: <class 'xmlrpc.client.Fault'>, <Fault 6: 'SHUTDOWN_STATE'>: "


def refused_while_ending(reference, ours):
    return reference[0].startswith(ENDING) and reference[1:] == ours[1:] and \
        ours[0] in ("error: supervisord is shutting down or restarting\n", "ERROR: process not running\n")


def answers_while_ending(reference, ours):
    return ENDING in reference[0] and "error: " not in ours[0] and reference[1] == ours[1] == ""


def group_form(*expected):
    return lambda reference, ours: reference == (expected[0], "", 1) and ours == (expected[1], "", expected[2])


def keeps_its_past(reference, ours):
    """There a changed group is made anew, and its stopped processes have never run; here they have."""
    return re.sub(r"Not started(?=\n\Z)", "DATE", reference[0]) == ours[0] and reference[1:] == ours[1:]


DIFFERENCES = [
    Difference(("supervisorctl status newcomer later merged alone:other",), "R20: update goes process by process",
               keeps_its_past),
    Difference(
        tuple(f"supervisorctl {line}" for line in
              ("avail", "reread", "update", "reload", "add x", "remove x", "-s foo://x status")),
        "R27: one clean line", one_line),
    Difference(
        ("supervisorctl -s http://127.0.0.1:$PORT -u alice -p wrong version",
         "supervisorctl -s http://127.0.0.1:$PORT status"),
        "R27: 401 is reported once", said_once),
    Difference(("supervisorctl reread", "supervisorctl update"), "mistakes with their places", place_of_the_mistake),
    Difference(("supervisord -c $DIR",), "the system's reason", cause_before_the_error),
    Difference(("supervisorctl -h", "supervisorctl --help", "supervisorctl -?"), "options of our own", more_help),
    Difference(("supervisord -h", "supervisord --help", "supervisord -?"), "options of our own", same_options),
    Difference(("supervisorctl pid duo:*",), "R38: pid and clear take groups",
               group_form("No such process duo:*\n", "0\nPID\n", 7)),
    Difference(("supervisorctl clear duo:*",), "R38: pid and clear take groups",
               group_form("duo:None: ERROR (no such process)\n",
                          "duo:member_a: cleared\nduo:member_b: cleared\n", 0)),
    Difference(("supervisorctl clear :",), "R38: pid and clear take groups",
               group_form(":None: ERROR (no such process)\n", ": ERROR (no such group)\n", 1)),
    Difference(
        tuple(f"supervisorctl {line}" for line in
              ("start sleeper", "start all", "stop sleeper", "stop all", "restart sleeper", "signal HUP sleeper",
               "clear sleeper", "clear all", "tail talker", "maintail", "fg sleeper")),
        "commands while everything is being stopped", refused_while_ending),
    Difference(
        ("supervisorctl status", "supervisorctl status sleeper", "supervisorctl status nosuch", "supervisorctl pid",
         "supervisorctl pid sleeper", "supervisorctl version", "supervisorctl  < 'shutdown\\ny\\nversion\\n'"),
        "commands while everything is being stopped", answers_while_ending),
]

# With Supervisor's client on both sides nothing differs.
OF_ITS_CLIENT = []
