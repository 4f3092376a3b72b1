"""What the shells complete of the command line, with the files that are installed beside it."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sysconfig
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from conftest import PATIENCE

if TYPE_CHECKING:
    from conftest import CommandLine

SHARE = Path(sysconfig.get_path("data"), "share")
BASH = SHARE / "bash-completion/completions/rscontainer"


def typed(cli: CommandLine, keys: str, expected: str) -> bool:
    """Whether an interactive bash shows what is expected after these keys."""
    master, slave = pty.openpty()
    environment = {"PATH": f"{Path(cli.binary).parent}:{os.environ['PATH']}", "TERM": "dumb"}
    shell = subprocess.Popen(
        ["bash", "--noprofile", "--norc", "-i"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**environment, "PS1": "> ", "INPUTRC": "/dev/null"},
        start_new_session=True,
    )
    os.close(slave)
    shown = ""
    try:
        os.write(master, f"source '{BASH}' && echo rea''dy\n".encode())
        for wanted, then in (("ready\r\n", keys), (expected, "")):
            until = time.monotonic() + PATIENCE
            while wanted not in shown and time.monotonic() < until:
                if select.select([master], [], [], 0.1)[0]:
                    shown += os.read(master, 4096).decode()
            os.write(master, then.encode())
        return expected in shown
    finally:
        shell.kill()
        shell.wait()
        os.close(master)


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("rscontainer chec\t", "rscontainer checkpoint "),
        ("rscontainer run --no-new\t", "rscontainer run --no-new-keyring "),
        ("rscontainer --log-format j\t", "rscontainer --log-format json "),
        ("rscontainer list --format t\t", "rscontainer list --format table "),
        ("rscontainer exec --ign\t", "rscontainer exec --ignore-paused "),
    ],
)
def test_bash_completes(cli: CommandLine, keys: str, expected: str) -> None:
    assert typed(cli, keys, expected)


@pytest.mark.parametrize(
    "place",
    [
        "bash-completion/completions/rscontainer",
        "zsh/site-functions/_rscontainer",
        "fish/vendor_completions.d/rscontainer.fish",
    ],
)
def test_every_shells_knows_every_command(place: str) -> None:
    script = (SHARE / place).read_text()
    for word in (
        "create",
        "checkpoint",
        "explain",
        "ignore-paused",
        "console-socket",
        "systemd-cgroup",
    ):
        assert word in script, word
    shell = place.partition("/")[0].partition("-")[0]
    if shutil.which(shell):
        subprocess.run([shell, "-n", SHARE / place], check=True)
