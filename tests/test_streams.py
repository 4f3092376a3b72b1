"""Standard input, output and error of the command line: closed, or read by nobody."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from conftest import PATIENCE

if TYPE_CHECKING:
    from conftest import BundleFactory, CommandLine


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)], ids=str)
def test_nothing_that_is_opened_takes_the_place_of_a_closed_stream(
    cli: CommandLine, bundle: BundleFactory, box: str, closed: tuple[int, ...]
) -> None:
    # As a container's program would find it: a folder of the host's, the state or a pidfd.
    argv = cli.argv("run", "--detach", "--bundle", bundle(args=["sleep", "1000"]).path, box)
    closing = " ".join(f"{number}>&-" for number in closed)
    script = f'exec "$@" {closing}'
    done = subprocess.run(
        ["sh", "-c", script, "sh", *argv],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=PATIENCE,
    )
    assert done.returncode == 0
    streams = [cli("exec", box, "readlink", f"/proc/1/fd/{number}").stdout for number in range(3)]
    cli("delete", "--force", box)
    assert streams == ["/dev/null\n"] * 3


@pytest.mark.parametrize("words", [["list"], ["features"], ["help"], ["--version"]], ids=" ".join)
def test_output_that_nobody_reads_is_no_fault(cli: CommandLine, words: list[str]) -> None:
    cli.root.mkdir()
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        program = subprocess.Popen(cli.argv(*words), stdout=pipe, stderr=subprocess.PIPE)
        _, errors = program.communicate(timeout=PATIENCE)
    assert (program.returncode, errors) == (0, b"")
