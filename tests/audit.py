#!/usr/bin/env python3
"""Enforces deny.toml on the dependencies in Cargo.lock, offline: licences, banned crates and features, sources.

    tests/audit.py

The same policy that `cargo deny check bans licenses sources` reads, without compiling that tool. Reads the
packages from `cargo metadata`. Knows only the keys which deny.toml uses, and refuses others. Exit status 1 if the
policy is broken.
"""

import collections
import json
import pathlib
import re
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
KNOWN = {
    "graph": {"targets"},
    "licenses": {"allow", "private"},
    "bans": {"multiple-versions", "wildcards", "skip", "deny", "features"},
    "sources": {"unknown-registry", "unknown-git"},
}


def is_allowed(expression, allow):
    """Whether an SPDX licence expression can be satisfied with the allowed licences."""
    tokens = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))
    position = 0

    def take():
        nonlocal position
        position += 1
        return tokens[position - 1]

    def peek():
        return tokens[position] if position < len(tokens) else None

    def atom():
        name = take()
        if name == "(":
            value = either()
            take()
            return value
        if peek() == "WITH":
            take()
            name = f"{name} WITH {take()}"
        return name in allow

    def both():
        value = atom()
        while peek() == "AND":
            take()
            value = atom() and value
        return value

    def either():
        value = both()
        while peek() == "OR":
            take()
            value = both() or value
        return value

    return either()


def metadata(targets):
    """`cargo metadata` of the packages that the given targets really use."""
    command = ["cargo", "metadata", "--locked", "--format-version", "1"]
    for target in targets:
        command += ["--filter-platform", target]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def without_tests(nodes, members):
    """Ids of the packages that remain when dependencies of tests are left out: their duplicates cost nobody."""
    found, rest = set(), list(members)
    while rest:
        package = rest.pop()
        if package not in found:
            found.add(package)
            rest += [dep["pkg"] for dep in nodes[package]["deps"] if any(kind["kind"] != "dev" for kind in dep["dep_kinds"])]
    return found


def licence_problems(packages, policy):
    """Packages of others whose licence is missing or not in the list."""
    for package in packages:
        if package["source"] and not is_allowed(package["license"] or "(none)", policy["allow"]):
            yield f"{package['name']} {package['version']}: licence {package['license']} is not in [licenses] allow"


def version_problems(packages, skip):
    """Packages in several versions beyond the skipped ones, and skips that skip nothing."""
    versions = collections.defaultdict(set)
    for package in packages:
        versions[package["name"]].add(package["version"])
    for entry in skip:
        name, version = entry["crate"].split("@")
        if version in versions[name]:
            versions[name].remove(version)
        else:
            yield f"[bans] skip: {entry['crate']} is not in the tree"
    for name, found in sorted(versions.items()):
        if len(found) > 1:
            yield f"{name}: {len(found)} versions ({', '.join(sorted(found))})"


def ban_problems(packages, features, policy):
    """Banned packages and banned features."""
    names = {package["name"] for package in packages}
    for entry in policy["deny"]:
        if entry["crate"] in names:
            yield f"{entry['crate']} is banned: {entry['reason']}"
    for entry in policy["features"]:
        for feature in entry["deny"]:
            if feature in features[entry["crate"]]:
                yield f"{entry['crate']} with feature {feature!r} is banned: {entry['reason']}"


def source_problems(packages):
    """Packages from anywhere but the workspace and the default registry (which `cargo metadata` leaves unnamed)."""
    for package in packages:
        if not (package["source"] or "registry+").startswith("registry+"):
            yield f"{package['name']}: comes from {package['source']}"
        for dependency in package["dependencies"]:
            if dependency["registry"]:
                yield f"{package['name']}: takes {dependency['name']} from {dependency['registry']}"


def main():
    policy = tomllib.loads((ROOT / "deny.toml").read_text())
    problems = [f"deny.toml: [{section}] {key} is not known to this script"
                for section, keys in policy.items() for key in set(keys) - KNOWN.get(section, set())]
    found = metadata(policy["graph"]["targets"])
    nodes = {node["id"]: node for node in found["resolve"]["nodes"]}
    packages = [package for package in found["packages"] if package["id"] in nodes]
    features = collections.defaultdict(set)
    for package in packages:
        features[package["name"]].update(nodes[package["id"]]["features"])
    problems += licence_problems(packages, policy["licenses"])
    built = without_tests(nodes, found["workspace_members"])
    problems += version_problems([package for package in packages if package["id"] in built], policy["bans"]["skip"])
    problems += ban_problems(packages, features, policy["bans"])
    problems += source_problems(packages)
    print(*problems, sep="\n", end="\n" if problems else "")
    print(f"dependencies: {len(packages)} packages checked, {len(problems)} problems")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
