"""Where the static binary is that was installed together with this package."""

from __future__ import annotations

import errno
import os
import sys

_NAME = "rscontainer"
_found: str | None = None


def binary() -> str:
    """Return the path of the installed ``rscontainer`` binary.

    The installer's own record decides, never ``PATH``: another installation's binary, or anyone
    else's, must not be started in its place.
    """
    global _found
    if _found is None or not os.access(_found, os.X_OK):
        _found = _search()
    return _found


def _search() -> str:
    paths = _candidates()
    for path in paths:
        if os.access(path, os.X_OK):
            return path
    if paths:
        reason = f"the rscontainer binary is missing or not executable at {' and '.join(paths)}"
    else:
        reason = "the rscontainer package is not installed, only its files are on sys.path"
    hint = "reinstall it with `pip install --force-reinstall`, which puts the binary in place"
    raise FileNotFoundError(errno.ENOENT, f"{reason}; {hint}", _NAME)


def _candidates() -> list[str]:
    # importlib.metadata would answer the same, but importing it takes longer than to run a
    # container.
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    found: list[str] = []
    # An editable install keeps its record in site-packages, and the package elsewhere.
    for site in dict.fromkeys([here, *map(os.path.abspath, sys.path)]):
        try:
            entries = os.listdir(site)
        except OSError:
            continue
        for entry in entries:
            if not (entry.startswith(f"{_NAME}-") and entry.endswith(".dist-info")):
                continue
            # `pip install --target` moves the binary here after having recorded it elsewhere.
            # First, because the recorded path may then be that of another installation.
            moved = os.path.join(site, "bin", _NAME)
            if os.path.lexists(moved):
                found.append(moved)
            try:
                with open(os.path.join(site, entry, "RECORD"), encoding="utf-8") as record:
                    paths = [line.rsplit(",", 2)[0].strip('"') for line in record]
            except OSError:
                continue
            # The record is relative to the folder's name as installed, not to where a symbolic
            # link in it leads, so ".." is taken from the text.
            found += [
                os.path.normpath(os.path.join(site, path))
                for path in paths
                if os.path.basename(path) == _NAME
            ]
        if found:
            break
    return found
