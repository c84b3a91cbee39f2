"""The first code that runs in loomproxy.pyz: finds or makes the unpacked files and starts from them.

Native libraries cannot be loaded from inside a zip, and workers are started by name from real
directories, so the content is unpacked once into a directory named after the hash of that content.
Who finds it there starts from it; nobody ever changes it. Two first starts at once take turns, and
a half-done unpacking is never seen, because it gets its name last. The unpacking itself is shiv's,
which built the file.

This file must be readable by every Python 3, so that an old one can say that it is too old.
"""

import importlib
import os
import stat
import sys

BUILD_ID = "@BUILD_ID@"
ENTRY_POINT = "@ENTRY_POINT@"
PYTHONS = "@PYTHONS@"


def refuse(problem):
    """Leave with a message of one line and the exit code for wrong usage."""
    sys.stderr.write("loomproxy: %s\n" % problem)
    sys.exit(2)


def interpreter_kind():
    """Return the interpreter's name, as Python 2 and 3 both know it."""
    return importlib.import_module("platform").python_implementation()


def check_interpreter():
    """Refuse an interpreter whose native parts are not in the file."""
    version = "%d.%d" % sys.version_info[:2]
    kind = interpreter_kind()
    if version not in PYTHONS.split() or kind != "CPython":
        refuse(
            "this is %s %s, and the file has native parts for CPython %s. Start it with one of those: python%s %s"
            % (
                kind,
                version,
                ", ".join(PYTHONS.split()),
                PYTHONS.split(None, 1)[0],
                sys.argv[0],
            )
        )


def is_safe(directory):
    """Tell whether only this user, or root, can put files into the directory."""
    facts = os.lstat(directory)
    closed = not facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid in (0, os.geteuid()) and closed


def candidates():
    """Return the directories that may hold the cache, the preferred one first."""
    named = os.environ.get("LOOMPROXY_CACHE")
    if named:
        return [os.path.realpath(named)]
    found = []
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # The XDG specification: a relative path is invalid and ignored.
        base = os.path.join(os.path.expanduser("~"), ".cache")
    if os.path.isabs(base):
        found.append(os.path.realpath(os.path.join(base, "loomproxy")))
    # A service's user often has no home. This name can be guessed, so links are not followed and
    # the owner counts.
    found.append(os.path.join(os.environ.get("TMPDIR") or "/tmp", "loomproxy-%d" % os.geteuid()))
    return found


def unpacked():
    """Return the directory with the unpacked content, unpacking it where no start has done so before."""
    refusals = []
    for cache in candidates():
        packages = os.path.join(cache, BUILD_ID, "site-packages")
        try:
            os.makedirs(cache, mode=0o700, exist_ok=True)
            if not is_safe(cache):
                refusals.append("%s belongs to another user, or others may write to it" % cache)
                continue
            if not os.path.isdir(packages):
                unpack(os.path.dirname(packages))
        except OSError as problem:
            refusals.append("%s: %s" % (cache, problem.strerror or problem))
            continue
        return packages
    return refuse(
        "found no directory to unpack into (%s). Set LOOMPROXY_CACHE to one that this user may write to."
        % "; ".join(refusals)
    )


def unpack(target):
    """Unpack the content, unless another start did so while this one waited for its turn."""
    path, zipfile, shiv = map(importlib.import_module, ("pathlib", "zipfile", "_bootstrap"))
    with zipfile.ZipFile(sys.argv[0]) as archive:
        shiv.extract_site_packages(archive, path.Path(target))


def main():
    """Start loomproxy from the unpacked content; nothing of it is imported from inside the zip."""
    check_interpreter()
    sys.path[0] = unpacked()
    module, function = ENTRY_POINT.split(":")
    sys.exit(getattr(importlib.import_module(module), function)())
