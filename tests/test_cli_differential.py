"""The same words said to runc and to this program: exit statuses, output, what is in the log."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from conftest import PATIENCE, eventually
from limits import delete_theirs

from rscontainer import _binary

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import BundleFactory

    import rscontainer as rsc

RUNC = shutil.which("runc", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")

pytestmark = [
    pytest.mark.skipif(RUNC is None, reason="runc is not installed here"),
    pytest.mark.requires_root("to run runc as it is run"),
]


@dataclass
class Program:
    """One of the two, with states, a log and a folder to work in of its own."""

    path: str
    place: Path

    @property
    def log(self) -> Path:
        return self.place / "log"

    @property
    def call(self) -> list[str]:
        return [self.path, "--root", str(self.place / "states")]

    def __call__(self, *words: object, log: bool = True, **more: Any) -> tuple[int, str]:
        """The exit status and what was printed."""
        options = ["--log", str(self.log), "--log-format", "json"] if log else []
        argv = [*self.call, *options, *map(str, words)]
        settings = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True, **more}
        done = subprocess.run(
            argv,
            cwd=self.place,
            stderr=subprocess.DEVNULL,
            timeout=PATIENCE,
            check=False,
            **settings,
        )
        return done.returncode, done.stdout or ""

    def logged(self) -> list[tuple[list[str], str]]:
        """What each line of the log has, and its level."""
        lines = self.log.read_text().splitlines() if self.log.exists() else []
        return [(sorted(line), line["level"]) for line in map(json.loads, lines)]


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[tuple[Program, Program]]:
    both = []
    for name, path in (("ours", _binary.binary()), ("runc", str(RUNC))):
        place = tmp_path / name
        (place / "states").mkdir(parents=True)
        both.append(Program(path, place))
    yield both[0], both[1]
    for program in both:
        for id in program("list", "-q", log=False)[1].split():  # noqa: A001
            program("delete", "--force", id, log=False)


ANSWERED = """
|help|h|help run|h exec|--help|-h|-help|run -h|run --help|--version|-v|-version
list|list -q|list -quiet|list --quiet=true|list --quiet=false|list -f table|list --format=table
--systemd-cgroup=false list|--debug=false list|--log= list|list --format json --format table
delete -f missing|delete --force missing|delete missing --force|spec|spec --rootless|spec -b .
features --help
"""

REFUSED = """
nosuch|list --nosuch|list x|list --format xml|list --format|--log /no/such/log list|list --root /x
state|state a b|state missing|state missing --nosuch|start missing|kill|kill a b c|kill missing
kill missing NOSUCH|delete|delete missing|delete --force=false missing|pause missing
resume missing|ps|ps missing|events missing|events --stats missing|events --interval 0s missing
events --interval x missing|update missing|update --pids-limit 5 missing
create|create missing|create -b /no/such missing|run missing|run -b /no/such missing
run --preserve-fds x missing|exec|exec missing|exec missing true|exec --nosuch missing true
checkpoint missing|restore missing
"""


# Of these runc's log says nothing: it is not open yet.
UNREAD = """
--nosuch list|--log-format xml list|--debug=perhaps list|--debug list --debug=perhaps
"""


def table(text: str) -> list[list[str]]:
    return [line.split() for line in text.strip("\n").replace("\n", "|").split("|")]


@pytest.mark.parametrize("words", table(ANSWERED), ids=lambda words: " ".join(words) or "nothing")
def test_answers(programs: tuple[Program, Program], words: list[str]) -> None:
    ours, theirs = [(program(*words), program.logged()) for program in programs]
    assert ours[0][0] == theirs[0][0] == 0
    assert bool(ours[0][1]) == bool(theirs[0][1])
    assert ours[1] == theirs[1] == []


@pytest.mark.parametrize("words", table(REFUSED), ids=" ".join)
def test_refusals(programs: tuple[Program, Program], words: list[str]) -> None:
    # runc prints its help where the words are wrong; what is wrong is in both logs.
    ours, theirs = [(program(*words)[0], program.logged()) for program in programs]
    assert ours[0] == theirs[0] != 0
    assert ours[1] == theirs[1]


@pytest.mark.parametrize("words", table(UNREAD), ids=" ".join)
def test_global_flags_are_refused(programs: tuple[Program, Program], words: list[str]) -> None:
    ours, theirs = [program(*words)[0] for program in programs]
    assert ours == theirs == 1


def test_a_config_that_is_there_is_not_written_over(programs: tuple[Program, Program]) -> None:
    for program in programs:
        (program.place / "config.json").write_text("{}")
        assert program("spec")[0] == 1
        assert (program.place / "config.json").read_text() == "{}"
        assert [level for _, level in program.logged()] == ["error"]


# Said one after the other to a container that sleeps, and to what becomes of it.
LIFE = [
    "create -b BUNDLE ID",
    "create -b BUNDLE ID",
    "state ID",
    "list",
    "exec ID true",
    "kill ID 0",
    "start ID",
    "start ID",
    "state ID",
    "list -f json",
    "ps -f json ID",
    "ps ID",
    "ps ID -eo pid,comm",
    "ps ID --nosuch",
    "exec ID sh -c 'exit 3'",
    "exec ID sh -c 'kill -9 $$'",
    "exec ID echo -t --cwd",
    "exec -e A=1 -e B=2 ID sh -c 'echo $B'",
    "exec --cwd /tmp ID pwd",
    "exec -cwd=/tmp ID pwd",
    "exec -u 0:0 ID id -u",
    "exec --user x ID id",
    "exec --tty=false ID true",
    "exec --user= --process= --pid-file= ID echo unset",
    "exec --preserve-fds 0 ID true",
    "exec --process /no/such ID",
    "exec ID /no/such",
    "exec --cap CAP_NET_ADMIN ID true",
    "exec --no-new-privs ID grep NoNewPrivs /proc/self/status",
    "exec ID",
    "update --nosuch ID",
    "update --memory x ID",
    "update --resources /no/such ID",
    "delete ID",
    "pause ID",
    "list -q",
    "state ID",
    "pause ID",
    "exec ID true",
    "start ID",
    "resume ID",
    "kill ID NOSUCH",
    "kill ID 999",
    "kill ID cont",
    "kill --all ID SIGCONT",
    "kill ID KILL",
    "state ID",
    "kill ID KILL",
    "kill -all ID KILL",
    "pause ID",
    "resume ID",
    "exec ID true",
    "events --stats ID",
    "start ID",
    "delete ID",
    "delete ID",
    "create -b BUNDLE --pid-file=pid ID",
    "delete ID",
    "state ID",
]


def test_life(programs: tuple[Program, Program], bundle: BundleFactory, box: str) -> None:
    def older(spec: rsc.Spec) -> None:
        spec.ociVersion = "1.0.2"

    place = bundle(older, args=["sleep", "1000"])
    differing = {}
    for line in LIFE:
        # An id is the name of a cgroup too, so each has its own.
        said = [
            say(program, line, box + letter, str(place.path))
            for program, letter in zip(programs, "ab")
        ]
        if said[0] != said[1]:
            differing[line] = said
    # It is gone, but for a cgroup maybe.
    delete_theirs(programs[1].call, box + "b")
    assert not differing
    assert [level for _, level in programs[0].logged()] == [
        level for _, level in programs[1].logged()
    ]


def say(program: Program, line: str, box: str, place: str) -> tuple[int, object]:
    words = [box if word == "ID" else place if word == "BUNDLE" else word for word in split(line)]
    if words[0] == "create":
        # The container keeps what it is given.
        return program(*words, stdout=subprocess.DEVNULL)
    code, out = program(*words)
    if words[:2] == ["kill", box] and words[-1] == "KILL" and code == 0:
        eventually(lambda: '"stopped"' in program("state", box, log=False)[1], "the end")
    # Where words are wrong, runc prints how they are used.
    return code, comparable(words, out.replace(box, "ID")) if code == 0 else ""


def split(line: str) -> list[str]:
    return [quoted or bare for quoted, bare in re.findall(r"'([^']*)'|(\S+)", line)]


def comparable(words: list[str], out: str) -> object:
    """What is printed, without what differs from one container to the next."""
    if words[0] == "ps" and "json" not in words:
        # The pids tell how many there are.
        return [line.split()[-2:] for line in out.splitlines()][:1], len(out.splitlines())
    if words[0] == "list" and "-f" not in words and "-q" not in words:
        header, *rows = out.splitlines()
        return header.partition("OWNER")[0].rstrip(), [row.split()[0] for row in rows]
    try:
        value = json.loads(out)
    except ValueError:
        return out
    if isinstance(value, list):
        return [same(entry) if isinstance(entry, dict) else "pid" for entry in value]
    return same(value) if isinstance(value, dict) else out


def same(state: dict[str, Any]) -> dict[str, Any]:
    """Of a state or a row of the list. runc tells its own version of the specification."""
    varying = {"pid": bool(state["pid"]), "created": state["created"][:10], "ociVersion": ""}
    return {**state, **varying, "owner": None}
