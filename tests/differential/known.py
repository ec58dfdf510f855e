"""Differences from Supervisor 4.3 that are meant.

Title of the comparison → (R-number of COMPATIBILITY.md or reason, function of both results that is true when they
differ in just this way). A result is (stdout, stderr, exit status).
"""


def one_line(reference, ours):
    """Supervisor prints a Python exception; here one line says what, where and why. The exit status is the same."""
    return ours[0].startswith("error: ") and ours[0].count("\n") <= 2 and ours[2] == reference[2]


DIFFERENCES = {}
