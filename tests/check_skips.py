"""Counts the skipped tests in a JUnit report by reason, and fails on those nobody expects.

    python tests/check_skips.py REPORT.xml            # counts
    python tests/check_skips.py --strict REPORT.xml   # and fails on an unexpected one
    python tests/check_skips.py --user REPORT.xml     # of the run as an ordinary user
    python tests/check_skips.py --machine REPORT.xml  # of the run in the virtual machine

A suite that skips everything is green as well, so the skips that are right on the machine where the
checks run are listed in expected-skips.txt, each with why.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

EXPECTED = Path(__file__).with_name("expected-skips.txt")


def expected_skips(lines: list[str], sections: set[str]) -> list[tuple[re.Pattern[str], str]]:
    expected = []
    section = ""
    for number, line in enumerate(map(str.strip, lines), 1):
        if line.startswith("["):
            section = line.strip("[]")
        if not line or line.startswith(("#", "[")) or (section and section not in sections):
            continue
        pattern, separator, why = (part.strip() for part in line.partition(" :: "))
        if not (pattern and separator and why):
            sys.exit(f"{EXPECTED.name}:{number}: expected `pattern :: why`, found {line!r}")
        expected.append((re.compile(pattern), why))
    return expected


def skipped_tests(report: Path) -> list[tuple[str, str]]:
    """Returns (test, reason) for each; an expected failure is a result, not a skip."""
    found = []
    # The report is written by the pytest that ran just before this, not by a stranger.
    for case in ElementTree.parse(report).iter("testcase"):
        skipped = case.find("skipped")
        if skipped is not None and skipped.get("type") != "pytest.xfail":
            test = "::".join(filter(None, [case.get("classname"), case.get("name")]))
            found.append((test, skipped.get("message", "no reason given")))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Counts the skipped tests by reason.")
    parser.add_argument("--strict", action="store_true", help="fail on an unexpected skip")
    parser.add_argument("--user", action="store_true", help="it ran as an ordinary user")
    parser.add_argument("--machine", action="store_true", help="it ran in the virtual machine")
    parser.add_argument("report", type=Path, help="what pytest --junitxml wrote")
    options = parser.parse_args()

    sections = {"machine" if options.machine else "host", *(["user"] if options.user else [])}
    expected = expected_skips(EXPECTED.read_text(encoding="utf-8").splitlines(), sections)
    skipped = skipped_tests(options.report)
    unexpected = [
        (test, reason)
        for test, reason in skipped
        if not any(pattern.search(f"{test}: {reason}") for pattern, _ in expected)
    ]

    print(f"{len(skipped)} skipped, {len(unexpected)} of them not in {EXPECTED.name}")
    for reason, count in Counter(reason for _, reason in skipped).most_common():
        print(f"{count:6}  {reason}")
    for test, reason in unexpected:
        print(f"not expected: {test}: {reason}")
    return 1 if options.strict and unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
