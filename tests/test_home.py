"""HOME, which the container's own /etc/passwd gives where the config does not."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

import rscontainer as rsc
from rscontainer import Container

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import BundleFactory

PATH = "PATH=/bin"
# passwd(5) knows no comments, but the C libraries do.
PASSWD = """\
root:x:0:0:root:/root:/bin/sh
# 7:7:7:7:7:7
short:x:7
first:x:7:7::/home/first:/bin/sh
second:x:7:7::/home/second:/bin/sh
nowhere:x:8:8:::/bin/sh
last:x:9:9::/the last one"""


def home(made: rsc.Bundle, root: Path, env: list[str], uid: int = 0, **more: Any) -> list[str]:
    """The lines of env(1) that begin with HOME=."""
    spec = made.spec
    spec.process.update(env=env, user={"uid": uid, "gid": 0}, **more)
    spec.save(made.path / "config.json")
    done = rsc.run(made, ["env"], capture_output=True, text=True, root=root, timeout=60)
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if line.startswith("HOME=")]


@pytest.fixture
def listed(bundle: BundleFactory) -> rsc.Bundle:
    made = bundle(args=["sleep", "1000"], own_rootfs=True, several_ids=True)
    (made.rootfs / "etc").mkdir(exist_ok=True)
    (made.rootfs / "etc" / "passwd").write_text(PASSWD)
    return made


@pytest.mark.parametrize(
    ("uid", "found"),
    [(0, "/root"), (7, "/home/first"), (8, "/"), (9, "/the last one"), (10, "/")],
)
def test_home_is_looked_up(listed: rsc.Bundle, root: Path, uid: int, found: str) -> None:
    assert home(listed, root, [PATH], uid) == [f"HOME={found}"]
    # An empty one counts as none.
    assert home(listed, root, ["HOME=/x", PATH, "HOME="], uid) == [f"HOME={found}"]


def test_home_of_the_config_stays(listed: rsc.Bundle, root: Path) -> None:
    assert home(listed, root, ["HOME=/given", PATH]) == ["HOME=/given"]
    assert home(listed, root, ["HOME=", PATH, "HOME=/given"])[-1] == "HOME=/given"


def test_home_in_exec(listed: rsc.Bundle, root: Path, box: str) -> None:
    with Container.run(box, listed, root=root) as container:
        for user, env, found in [
            (7, {"PATH": "/bin"}, "/home/first"),
            (9, None, "/the last one"),
            (0, {"PATH": "/bin", "HOME": "/given"}, "/given"),
        ]:
            args = ["sh", "-c", "echo $HOME"]
            with container.exec(args, user=user, env=env, stdout=rsc.PIPE, text=True) as process:
                assert process.stdout.read() == f"{found}\n"


def test_links_stay_in_the_rootfs(listed: rsc.Bundle, root: Path, tmp_path: Path) -> None:
    passwd = listed.rootfs / "etc" / "passwd"
    outside = tmp_path / "passwd"
    outside.write_text("root:x:0:0::/outside:/bin/sh\n")
    passwd.rename(listed.rootfs / "etc" / "accounts")
    for target, found in [
        ("accounts", "/root"),
        ("/etc/accounts", "/root"),
        ("../../../../../etc/accounts", "/root"),
        (str(outside), "/"),
        ("/proc/1/root/etc/accounts", "/"),
        ("passwd", "/"),
    ]:
        passwd.symlink_to(target)
        assert home(listed, root, [PATH]) == [f"HOME={found}"], target
        passwd.unlink()


def test_whatever_is_there_is_not_waited_for(listed: rsc.Bundle, root: Path) -> None:
    passwd = listed.rootfs / "etc" / "passwd"
    passwd.unlink()
    assert home(listed, root, [PATH]) == ["HOME=/"]
    os.mkfifo(passwd)
    assert home(listed, root, [PATH]) == ["HOME=/"]
    passwd.unlink()
    passwd.mkdir()
    assert home(listed, root, [PATH]) == ["HOME=/"]
    passwd.rmdir()
    for content in (b"\0" * 100, b"root:x:0:0::/a\0b:/bin/sh\n", b"\xff:x:x:0\n", b":" * 99):
        passwd.write_bytes(content)
        assert home(listed, root, [PATH]) == ["HOME=/"]


@pytest.mark.requires_root("to make devices")
def test_a_device_is_not_read(listed: rsc.Bundle, root: Path) -> None:
    passwd = listed.rootfs / "etc" / "passwd"
    passwd.unlink()
    os.mknod(passwd, 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    assert home(listed, root, [PATH]) == ["HOME=/"]


def test_a_file_without_end_is_given_up(listed: rsc.Bundle, root: Path) -> None:
    passwd = listed.rootfs / "etc" / "passwd"
    with passwd.open("wb") as file:
        file.truncate(1 << 40)
        file.seek(0, os.SEEK_END)
        file.write(b"\nroot:x:0:0::/late:/bin/sh\n")
    assert home(listed, root, [PATH]) == ["HOME=/"]
    passwd.unlink()


def test_it_is_read_with_the_rights_of_the_program(listed: rsc.Bundle, root: Path) -> None:
    """What the program may not read tells it nothing."""
    (listed.rootfs / "etc" / "passwd").chmod(0o600)
    assert home(listed, root, [PATH], 7) == ["HOME=/"]
    assert home(listed, root, [PATH], 0) == ["HOME=/root"]
