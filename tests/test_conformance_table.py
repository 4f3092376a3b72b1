"""docs/conformance.md: what it names exists, and no property is missing."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import rscontainer as rsc
from rscontainer import Spec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rscontainer.spec import Node

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "conformance.md").read_text()
VERSIONS = {"1.0.0", "1.0.2", "1.1.0", "1.2.0", "1.2.1", "1.3.0"}


class Row(NamedTuple):
    """A line of one of the tables."""

    section: str
    subject: str
    since: str
    file: str
    test: str

    def paths(self) -> Iterator[str]:
        """What it is about, with ``{a,b}`` written out."""
        parts = re.split(r"\{([^}]*)\}", self.subject.strip("`"))
        choices = [part.split(",") if odd % 2 else [part] for odd, part in enumerate(parts)]
        return ("".join(choice) for choice in itertools.product(*choices))


def rows() -> Iterator[Row]:
    section = ""
    for line in TEXT.splitlines():
        if line.startswith("## "):
            section = line[3:]
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| ") and section.endswith(".md") and cells[1] != "since":
            assert len(cells) == 5, line
            yield Row(section, *cells[:4])


ROWS = list(rows())


def properties(node: type[Node], path: str, above: tuple[type[Node], ...] = ()) -> Iterator[str]:
    """The JSON paths of all properties that the package knows."""
    for name, known in node._properties.items():
        at = f"{path}.{name}"
        yield at
        kind = known.kind
        if not isinstance(kind, type) or kind in above:
            continue
        at += "[]" if type(known).__name__ == "ObjectsProperty" else ""
        while kind._item is not None:
            kind, at = kind._item, f"{at}[*]"
        yield from properties(kind, at, (*above, kind))


def members(value: object, path: str = "$") -> Iterator[str]:
    if isinstance(value, dict) and path != "$.annotations":
        for name, member in value.items():
            yield f"{path}.{name}"
            yield from members(member, f"{path}.{name}")


def test_there_are_tables() -> None:
    sections = {row.section for row in ROWS}
    assert sections == {
        "config.md",
        "config-linux.md",
        "runtime.md",
        "runtime-linux.md",
        "features.md",
        "features-linux.md",
    }
    assert len(ROWS) > 150


def fault(row: Row) -> str | None:
    file, _, name = row.test.strip("`").partition("::")
    if row.since not in VERSIONS:
        return f"no version {row.since}"
    for path in row.file.strip("`"), file:
        if not (ROOT / path).is_file():
            return f"no file {path}"
    text = (ROOT / file).read_text()
    if name and not re.search(rf"^(?:def|fn) {name}\(", text, re.MULTILINE):
        return f"no test {row.test}"
    return None


def test_what_a_row_names_is_there() -> None:
    assert [f"{row.subject}: {fault(row)}" for row in ROWS if fault(row)] == []


def test_no_property_of_a_config_is_missing() -> None:
    listed = [path for row in ROWS if row.section.startswith("config") for path in row.paths()]
    assert len(set(listed)) == len(listed), "a property is there twice"
    known = set(properties(Spec, "$"))
    # A name that no attribute can have, for it is a word of Python's.
    assert set(listed) - known == {"$.process.ioPriority.class"}
    assert known - set(listed) == set()


def test_no_feature_is_missing() -> None:
    listed = {path for row in ROWS if row.section.startswith("features") for path in row.paths()}
    assert set(members(rsc.features())) - listed == set()
