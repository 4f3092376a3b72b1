"""Configs that nobody wrote: whatever comes in, what comes out is a plan or an error by name."""

from __future__ import annotations

import copy
import datetime
import json
import os
import re
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

import pytest
from conftest import repeated
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import rscontainer as rsc
from rscontainer import Spec, SpecError

if TYPE_CHECKING:
    from conftest import BundleFactory

    from rscontainer.spec import Node

SEED = json.loads((Path(__file__).parent / "bundles" / "busybox" / "config.json").read_text())
DEFAULT = Spec.default().to_dict()
# Where the checks run, the same examples each time: what fails there fails everywhere.
SETTINGS = settings(
    derandomize="CI" in os.environ,
    database=None,
    deadline=datetime.timedelta(seconds=5),
    max_examples=repeated(300),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

# -- what is generated ------------------------------------------------------------------------

# What is empty, leads out, cannot reach the kernel, or means something somewhere.
WORDS = st.sampled_from(
    [
        *("", "/", "/proc", "..", "a\0b", "\x7f\x9b", "\N{SNOWMAN}", "x" * 5000, "0-3", "c"),
        *("RLIMIT_NOFILE", "SCHED_FIFO", "CAP_KILL", "MPOL_BIND", "rbind", "idmap", "user", "rwm"),
    ]
)
NUMBERS = st.sampled_from(
    [0, -1, 1, 4095, 65536, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), 10**30, 0.5, 1e300]
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.integers(), WORDS, st.text(max_size=20))
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)


def shaped(node: type[Node]) -> st.SearchStrategy[Any]:
    """Objects whose members are those of the specification, with values of all kinds."""
    members: dict[str, st.SearchStrategy[Any]] = {}
    for name, known in node._properties.items():
        kind = type(known).__name__
        if kind == "ObjectProperty":
            member = st.deferred(lambda inner=known.kind: shaped(inner))
        elif kind == "ObjectsProperty":
            one = st.deferred(lambda inner=known.kind: shaped(inner))
            member = st.lists(one, max_size=2)
        elif kind == "ValuesProperty":
            member = st.lists(st.one_of(WORDS, NUMBERS), max_size=3)
        else:
            member = st.one_of(WORDS, NUMBERS, st.booleans())
        members[name] = st.one_of(member, ANYTHING) if node is Spec else member
    if not members:
        return st.dictionaries(WORDS, ANYTHING, max_size=2)
    return st.fixed_dictionaries({}, optional=members)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in a tree, the tree's own first."""
    found = [path]
    if isinstance(value, (dict, list)):
        members = value.items() if isinstance(value, dict) else enumerate(value)
        for key, member in members:
            found += places(member, (*path, key))
    return found


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A good config with a few wounds."""
    config = copy.deepcopy(draw(st.sampled_from([SEED, DEFAULT])))
    for _ in range(draw(st.integers(1, 4))):
        *way, last = draw(st.sampled_from(places(config)[1:]))
        parent = config
        for key in way:
            parent = parent[key]
        action = draw(st.sampled_from(["remove", "replace", "replace", "twice", "add"]))
        if action == "remove":
            del parent[last]
        elif action == "twice" and isinstance(parent, list):
            parent.insert(last, copy.deepcopy(parent[last]))
        elif action == "add" and isinstance(parent, dict):
            parent[draw(st.text(max_size=8))] = draw(ANYTHING)
        else:
            parent[last] = draw(ANYTHING)
        if not places(config)[1:]:
            break
    return config


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """Bytes near JSON: cut off, not UTF-8, nested deeply."""
    text = json.dumps(draw(st.sampled_from([SEED, DEFAULT])), indent=draw(st.sampled_from([0, 2])))
    data = bytearray(text.encode())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        end = at + draw(st.integers(0, 12))
        data[at:end] = draw(
            st.one_of(
                st.binary(max_size=4),
                st.sampled_from([b"\xff", b"\xed\xa0\x80", b"NaN", b"1e999", b'"\\ud800"', b"//"]),
                st.sampled_from([b"[" * 3000, b'{"a":' * 3000, b"0" * 5000, b"\x00", b"{", b'"']),
            )
        )
    return bytes(data[: draw(st.sampled_from([len(data), len(data) // 2]))])


# -- what must hold ---------------------------------------------------------------------------


def is_there(config: Any, path: str) -> bool:
    """Whether a JSON path leads to a value, or to members that are missing."""
    value, missing = config, False
    tokens = re.findall(r'\.(\w+)|\[(\d+)\]|\[("(?:[^"\\]|\\.)*")\]', path[1:])
    rebuilt = "".join(f".{a}" if a else f"[{b or c}]" for a, b, c in tokens)
    if not path.startswith("$") or rebuilt != path[1:]:
        return False
    for name, index, quoted in tokens:
        if index:
            if missing or not isinstance(value, list) or int(index) >= len(value):
                return False
            value = value[int(index)]
            continue
        # Escapes in it are the core's, and what they stand for is beside the point.
        missing = missing or not isinstance(value, dict) or bool(quoted) or name not in value
        if not missing:
            value = value[name]
            missing = value is None
    return True


def check(error: rsc.ContainerError, config: Any = None) -> None:
    """An error keeps to its line, and a config's names where."""
    said = str(error)
    assert not any(unicodedata.category(character) == "Cc" for character in said), repr(said)
    path = getattr(error, "path", None) if isinstance(error, SpecError) else None
    if config is not None:
        asked_by = path or said.partition("asked for by ")[2].partition(")")[0]
        assert is_there(config, asked_by), said


def walk(config: Any) -> bool:
    """Takes a config all the way to a plan; whether it is valid."""
    try:
        spec = Spec.from_json(json.dumps(config))
        spec.validate()
    except SpecError as error:
        check(error, config)
        return False
    try:
        plan = spec.explain("/nonexistent")
    except rsc.ContainerError as error:
        # This host, or this version, cannot; that too has its place.
        check(error, config)
        return True
    assert plan.endswith("\n")
    again = Spec.from_json(spec.to_json())
    assert again == spec
    assert again.to_json() == spec.to_json()
    assert again.explain("/nonexistent") == plan
    assert Spec.from_dict(spec.to_dict()).to_json(2) == spec.to_json(2)
    return True


@SETTINGS
@given(mutated())
@example(SEED)
@example(DEFAULT)
def test_wounded_configs(config: Any) -> None:
    walk(config)


@SETTINGS
@given(shaped(Spec))
def test_configs_of_the_right_shape(config: Any) -> None:
    walk(config)


@SETTINGS
@given(ANYTHING)
def test_any_json(config: Any) -> None:
    if isinstance(config, dict):
        assert not walk(config)
        return
    with pytest.raises(SpecError):
        Spec.from_json(json.dumps(config))


@SETTINGS
@given(st.one_of(texts(), st.binary(max_size=200)))
@example(b"\xff\xfe{\x00}\x00")
@example(b"\xef\xbb\xbf{}")
@example(b"[" * 200_000)
@example(b'{"process":' * 100_000)
@example(b'{"ociVersion": ' + b"1" * 100_000 + b"}")
def test_any_bytes(data: bytes) -> None:
    try:
        spec = Spec.from_json(data)
        spec.validate()
        spec.explain("/nonexistent")
    except rsc.ContainerError as error:
        check(error)


def test_the_path_check_sees_what_is_wrong() -> None:
    config = {"process": {"args": ["a"], "cwd": None}}
    for there in "$", "$.process.args[0]", "$.process.cwd", "$.root.path":
        assert is_there(config, there)
    for absent in "", "process", "$.process.args[1]", "$.mounts[0]", "$.process.args[0", "$..a":
        assert not is_there(config, absent)


# -- containers -------------------------------------------------------------------------------

NAMES = st.from_regex(r"[a-z]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True)
VALUES = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\n\r", exclude_categories=["Cs"]),
    max_size=30,
)
CAPABILITIES = ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SETUID", "CAP_SYS_CHROOT"]


@st.composite
def containers(draw: st.DrawFn) -> dict[str, Any]:
    """What is asked of a small container, each of which it can tell of itself."""
    low = draw(st.integers(16, 200))
    return {
        "hostname": draw(NAMES),
        "umask": draw(st.integers(0, 0o777)),
        "value": draw(VALUES),
        "argument": draw(VALUES),
        "limits": (low, draw(st.integers(low, 300))),
        "capabilities": draw(st.sets(st.sampled_from(CAPABILITIES))),
        "no_new_privileges": draw(st.booleans()),
        "score": draw(st.integers(0, 1000)),
        "uid": draw(st.sampled_from([0, 1, 1000, 65534])),
        "cwd": "/tmp/" + draw(NAMES),
        "options": draw(st.lists(st.sampled_from(["nosuid", "noexec", "ro", "noatime", "sync"]))),
        "without": draw(st.sets(st.sampled_from(["network", "ipc", "cgroup"]))),
    }


SCRIPT = r"""
hostname; umask; printf '%s\n' "$VALUE" "$0"; ulimit -Sn; ulimit -Hn
grep -E '^(CapBnd|NoNewPrivs):' /proc/self/status | tr -d '\t'
cat /proc/self/oom_score_adj; id -u; pwd
grep -c ' /tmp ' /proc/self/mounts
"""


def change(asked: dict[str, Any]) -> Callable[[Spec], None]:
    def apply(spec: Spec) -> None:
        process = spec.process
        spec.hostname = asked["hostname"]
        process.user = {"uid": asked["uid"], "gid": 0, "umask": asked["umask"]}
        process.env.append(f"VALUE={asked['value']}")
        soft, hard = asked["limits"]
        process.rlimits = [{"type": "RLIMIT_NOFILE", "soft": soft, "hard": hard}]
        process.capabilities = {"bounding": sorted(asked["capabilities"])}
        process.noNewPrivileges = asked["no_new_privileges"]
        process.oomScoreAdj = asked["score"]
        process.cwd = asked["cwd"]
        mount = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}
        spec.mounts.append({**mount, "options": [*asked["options"], "mode=1777"]})
        kinds = [kind for kind in spec.linux.namespaces if kind.type not in asked["without"]]
        spec.linux.namespaces = kinds
        process.args = ["sh", "-c", SCRIPT, asked["argument"]]

    return apply


NUMBERS_OF_CAPABILITIES = {
    "CAP_CHOWN": 0,
    "CAP_KILL": 5,
    "CAP_NET_BIND_SERVICE": 10,
    "CAP_SETUID": 7,
    "CAP_SYS_CHROOT": 18,
}


@pytest.mark.requires_root("to make devices and limit resources as configs ask")
def test_generated_containers(bundle: BundleFactory, root: Path) -> None:
    @settings(SETTINGS, max_examples=25, deadline=datetime.timedelta(seconds=60))
    @given(containers())
    def run(asked: dict[str, Any]) -> None:
        # A folder that is missing is made, which a read-only file system refuses.
        if "ro" in asked["options"]:
            asked = {**asked, "cwd": "/tmp"}
        done = rsc.run(bundle(change(asked)), capture_output=True, root=root, timeout=60)
        assert done.returncode == 0, done.stderr
        soft, hard = asked["limits"]
        bounding = sum(1 << NUMBERS_OF_CAPABILITIES[name] for name in asked["capabilities"])
        assert done.stdout.decode().split("\n") == [
            asked["hostname"],
            f"{asked['umask']:04o}",
            asked["value"],
            asked["argument"],
            str(soft),
            str(hard),
            f"CapBnd:{bounding:016x}",
            f"NoNewPrivs:{int(asked['no_new_privileges'])}",
            str(asked["score"]),
            str(asked["uid"]),
            asked["cwd"],
            "1",
            "",
        ]

    run()
