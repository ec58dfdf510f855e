"""Differences from Supervisor 4.3 that are meant.

Title of the comparison → (R-number of COMPATIBILITY.md or reason, function of both results that is true when they
differ in just this way). A result is (stdout, stderr, exit status).
"""

import re


def one_line(reference, ours):
    """Supervisor prints a Python exception; here one line says what, where and why. The exit status is the same."""
    return ours[0].startswith("error: ") and ours[0].count("\n") == 1 and ours[2] == reference[2]


def clean_fault(reference, ours):
    """As `reread` says it; the same exit status."""
    fault = ours[0].removeprefix("ERROR: ").strip()
    return fault.startswith("CANT_REREAD: ") and fault in reference[0] and ours[2] == reference[2]


def places_first(reference, ours):
    """Supervisor's two lines, and each mistake with its place before them."""
    return ours[1].endswith(reference[1]) and (ours[0], ours[2]) == (reference[0], reference[2])


def places_on_stderr(reference, ours):
    """The same, and each mistake with its place on stderr."""
    return (ours[0], ours[2]) == (reference[0], reference[2]) and re.match(r"DIR/supervisord.conf:\d+: ", ours[1])


def no_python_warning(reference, ours):
    """Python's warning about the search for a configuration file has its place in Supervisor's sources in it."""
    return "UserWarning" in reference[1] and reference[1].endswith(ours[1]) and ours[2] == reference[2]


def two_lines_there(reference, ours):
    """Supervisor says the same line, then prints a Python exception."""
    return reference[0].startswith(ours[0]) and "error: <class" in reference[0] and ours[2] == reference[2]


def longer_help(reference, ours):
    """All of Supervisor's options; the explanations are our own, and there are more of both."""
    def options(text):
        return set(re.findall(r"(?m)^(-\S+)", text)) - {"-r/--history-file"}
    first_lines = [result[0].splitlines()[:5] for result in (reference, ours)]
    return first_lines[0] == first_lines[1] and options(reference[0]) <= options(ours[0]) and ours[1:] == reference[1:]


def accepted(reference, ours):
    """Refused there, works here."""
    return reference[2] != 0 and ours[2] in (0, 7) and "ERROR" not in ours[0] and "No such" not in ours[0]


R27 = "R27: a clean line instead of a Python exception, same exit status"
HELP = "added options are in the help text"
GROUPS = "R38: names of groups and wildcards are accepted by every command"

DIFFERENCES = {
    **{f"supervisorctl {line}": (R27, one_line) for line in (
        "avail", "reload", "add x", "remove x", "-s foo://x status")},
    "supervisorctl reread": (R27, lambda *results: one_line(*results) or places_on_stderr(*results)),
    "supervisorctl update": (R27, lambda *results: one_line(*results) or clean_fault(*results)),
    **{f"supervisorctl -s http://127.0.0.1:$PORT {line}": (R27, two_lines_there) for line in (
        "-u alice -p wrong version", "status")},
    **{f"supervisorctl {line}": (HELP, longer_help) for line in ("-h", "--help", "-?")},
    **{f"supervisord {line}": (HELP, longer_help) for line in ("-h", "--help", "-?")},
    **{f"supervisord {line}": ("all mistakes are listed with file and line", places_first) for line in (
        "-c $DIR/nonexistent.conf", "--co $DIR/nonexistent.conf", "-c $DIR")},
    **{f"supervisord {line}": ("a Python warning is no part of the interface", no_python_warning) for line in (
        "-u nosuchuser", "-u 54321")},
    "supervisorctl pid duo:*": (GROUPS, accepted),
    "supervisorctl clear duo:*": (GROUPS, accepted),
}
