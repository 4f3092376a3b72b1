"""What the map of the code forbids: arrows, unsafe code, files that hold anything or too much."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SRC = ROOT / "src"

# Module, and what it must not use: "a" -> "b" for no arrow, "a" -> only {...} for no others.
FORBIDDEN = [
    ("init", "spec"),
    ("init", "container"),
    ("init", "launch"),
    ("py", "launch"),
    ("py", "sys"),
    ("py", "init"),
    ("plan", "container"),
    ("plan", "launch"),
    ("plan", "init"),
    ("helper/client", "launch"),
    ("helper/client", "container"),
    ("helper/request", "launch"),
    ("spec", "sys"),
    ("spec", "plan"),
    ("cgroup", "container"),
    ("cgroup", "launch"),
    ("resctrl", "container"),
    ("resctrl", "launch"),
    ("resctrl", "plan"),
    ("criu", "container"),
    ("criu", "launch"),
    ("criu", "state"),
    ("state", "container"),
    ("state", "launch"),
]
MODULES = sorted(
    {path.stem if path.is_file() else path.name for path in SRC.iterdir()} - {"lib", "main"}
)
LONGEST = 400
# Longer, with the reason why cutting them would not help the reader.
LONG_FILES = {
    "src/image/stream.rs": "one state machine over compressed and plain input",
    "src/plan/seccomp/table.rs": "data: the numbers of system calls",
    "src/image/tree.rs": "the one place that writes below a rootfs, with its rules together",
    "python/rscontainer/_node.py": "the one class of which all of the config's are made",
    "python/rscontainer/spec.py": "a list of classes, each a few lines of typed attributes",
}


def rust_files(module: str = "") -> list[Path]:
    place = SRC / module
    single = place.with_suffix(".rs")
    files = sorted(place.rglob("*.rs")) if place.is_dir() else [single]
    assert files, f"no module {module!r}"
    assert all(file.is_file() for file in files), f"no module {module!r}"
    return files


def is_test(path: Path) -> bool:
    return path.stem == "tests" or path.stem.endswith("_tests")


def code(path: Path) -> str:
    """The file without comments, strings and its own tests."""
    text = path.read_text()
    text = re.split(r"^#\[cfg\(test\)\]\n(?=mod \w+ \{)", text, maxsplit=1, flags=re.MULTILINE)[0]
    text = re.sub(r'"(?:[^"\\]|\\.)*"', '""', text)
    return re.sub(r"//.*", "", text)


def top_level(text: str) -> list[str]:
    """The parts of a brace list, split at its own commas only."""
    parts, depth, start = [], 0, 0
    for index, character in enumerate(text):
        depth += {"{": 1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    return [*parts, text[start:]]


def used_modules(path: Path) -> set[str]:
    """Modules of the crate that a file names, by `crate::` or by `super::` from the top."""
    text = re.sub(r"\s+", " ", code(path))
    used = set(re.findall(r"\bcrate::(\w+)", text))
    for group in re.findall(r"\bcrate::\{((?:[^{}]|\{[^{}]*\})*)\}", text):
        used |= {match[0] for part in top_level(group) if (match := re.match(r"\s*(\w+)", part))}
    depth = len(path.relative_to(SRC).with_suffix("").parts) - (path.name == "mod.rs")
    used |= set(re.findall(r"(?<![:\w])" + "super::" * depth + r"(\w+)", text))
    return used & set(MODULES)


def test_the_parser_sees_what_it_is_to_forbid() -> None:
    assert {"plan", "sys"} <= used_modules(SRC / "init" / "mod.rs")
    assert {"cgroup", "error", "init", "plan", "sys"} <= used_modules(SRC / "launch" / "mod.rs")
    assert "error" in used_modules(SRC / "hooks.rs")


@pytest.mark.parametrize(("module", "forbidden"), FORBIDDEN)
def test_no_arrow(module: str, forbidden: str) -> None:
    assert (SRC / forbidden).exists() or (SRC / f"{forbidden}.rs").exists()
    arrows = [str(path) for path in rust_files(module) if forbidden in used_modules(path)]
    assert not arrows, f"{module} must not use {forbidden}"


def test_sys_uses_errors_alone() -> None:
    used = {module for path in rust_files("sys") for module in used_modules(path)}
    assert used <= {"sys", "error"}


def test_unsafe_code_is_in_sys_alone() -> None:
    places = [
        str(path.relative_to(ROOT))
        for path in rust_files()
        if re.search(r"\bunsafe\b(?!_code)", code(path)) or "allow(unsafe_code" in path.read_text()
    ]
    assert places, "the search finds nothing at all"
    assert [place for place in places if not place.startswith("src/sys/")] == []


def test_unsafe_code_says_why_it_is_safe() -> None:
    silent = []
    for path in rust_files("sys"):
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if not re.search(r"\bunsafe (?:\{|impl)", line.split("//")[0]):
                continue
            # The comment stands before the statement, of which this may be a later line.
            before = "\n".join(lines[max(0, number - 6) : number])
            if "// SAFETY: " not in before:
                silent.append(f"{path.relative_to(ROOT)}:{number + 1}")
    assert silent == []


def test_no_file_is_named_utils() -> None:
    places = [SRC, ROOT / "python", ROOT / "tests", ROOT / "packaging", ROOT / "benches"]
    files = [path for place in places for path in place.rglob("*") if path.suffix in {".py", ".rs"}]
    vague = re.compile(r"^_?(?:utils?|helpers|common|misc)$")
    assert [str(path) for path in files if vague.match(path.stem)] == []


def test_files_are_short_enough_to_read() -> None:
    def length(path: Path) -> int:
        text = path.read_text()
        text = re.split(r"^#\[cfg\(test\)\]\nmod", text, maxsplit=1, flags=re.MULTILINE)[0]
        return len(text.splitlines())

    files = [path for path in rust_files() if not is_test(path)]
    files += (ROOT / "python").rglob("*.py")
    long = {str(path.relative_to(ROOT)) for path in files if length(path) > LONGEST}
    assert long - set(LONG_FILES) == set()
    assert set(LONG_FILES) - long == set(), "an exception that is not needed any more"
