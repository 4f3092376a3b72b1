"""What goes in and what comes out: tar streams, on a disk and through a port."""

from __future__ import annotations

import io
import re
import shlex
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

from host import ROOT, HostError, need, python, say

if TYPE_CHECKING:
    from pathlib import Path

# Of what the project's tests need, what the guest's do not have to check.
NEEDED = ("hypothesis", "pytest", "pytest-timeout")


def requirements() -> list[str]:
    """The packages of Python that the tests need, with the versions that pyproject.toml names."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^test = \[(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    every = re.findall(r'"([^"]+)"', listed[1]) if listed else []
    found = [one for one in every if re.split(r"[<>=~! ]", one)[0] in NEEDED]
    if len(found) != len(NEEDED):
        raise HostError(f"pyproject.toml does not list {', '.join(NEEDED)} as what tests need")
    return found


def build_wheel(place: Path) -> Path:
    say("building the wheel")
    command = [python(), "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir"]
    if subprocess.run([*command, place, ROOT], check=False, stdout=sys.stderr).returncode != 0:
        raise HostError("the wheel could not be built; pip says why above")
    (wheel,) = place.glob("*.whl")
    return wheel


def pack(parcel: Path, wheel: Path, arguments: list[str], settings: dict[str, str]) -> None:
    """Write the disk that the guest unpacks: the tree as it is now, the wheel, what to do."""
    need("git")
    listing = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others"]
    done = subprocess.run([*listing, "--exclude-standard"], check=False, stdout=subprocess.PIPE)
    if done.returncode != 0:
        raise HostError("the tests are handed in as git lists them, and this is no checkout")
    shell = "".join(f"{name}={shlex.quote(value)}\n" for name, value in settings.items())
    with tarfile.open(parcel, "w") as tar:
        for name in filter(None, done.stdout.decode().split("\0")):
            if (ROOT / name).exists():
                tar.add(ROOT / name, name, filter=of_root)
        tar.add(wheel, wheel.name, filter=of_root)
        add(tar, "arguments", "".join(f"{argument}\0" for argument in arguments))
        add(tar, "settings", shell)


def of_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    # The owner is somebody else in the guest, or nobody; and an ordinary user shall read it there.
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.mode |= 0o444 if member.isfile() and not member.mode & 0o100 else 0o555
    return member


def add(tar: tarfile.TarFile, name: str, text: str) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(text.encode())
    tar.addfile(member, io.BytesIO(text.encode()))


def unpack(stream: Path, place: Path) -> int | None:
    """Lay out what came back, and give the exit status of the tests if they came to one."""
    wanted = {"./junit.xml": "junit.xml", "./user/junit-user.xml": "junit-user.xml"}
    status = None
    try:
        with tarfile.open(stream) as tar:
            for member in tar:
                source = tar.extractfile(member)
                if source is None:
                    continue
                if member.name in wanted:
                    (place / wanted[member.name]).write_bytes(source.read())
                elif member.name == "./status":
                    status = int(source.read())
    except tarfile.ReadError:
        return None
    return status
