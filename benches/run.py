"""One table of what a container costs here, and at whoever else can run one.

python benches/run.py [--quick] [--only SECTION ...] [--peers DIR] [--json FILE]
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import platform
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Union

from bundle import make_bundles
from competitors import (
    Bubblewrap,
    CompetitorError,
    HungError,
    Limit,
    Python,
    PythonDiscarding,
    Runs,
    Runtime,
    build_limit,
    find,
    version,
)
from engines import Engine, engines
from memory import Holds, idle_cost, processes

GIB = 1 << 30
MS = 1e6

# One call gives one sample, or one sample each of several measures.
Sample = Callable[[], Union[int, Mapping[str, int]]]

RUN = "run to exit"
RESTED = "run to exit, host at rest"
EXEC = "exec to exit"
LIST = "list, of many"
STATE = "state, of one of many"
RESIDENT = "run to exit, small and big"
HELPERS = "idle: helper processes"
HOST = "idle: whole host"


@dataclass
class Results:
    """Every sample, by measure and by who was measured."""

    units: dict[str, tuple[str, float]] = field(default_factory=dict)
    samples: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    # In which order the competitors are shown, since they are measured in none.
    order: list[str] = field(default_factory=list)

    def add(
        self, measure: str, who: str, value: float, unit: str = "ms", divisor: float = MS
    ) -> None:
        self.units[measure] = (unit, divisor)
        if who not in self.order:
            self.order.append(who)
        self.samples.setdefault((measure, who), []).append(value)

    def median(self, measure: str, who: str) -> float | None:
        values = self.samples.get((measure, who))
        return statistics.median(values) if values else None

    def note(self, text: str) -> None:
        self.notes.append(text)
        progress("")
        print(f"note: {text}", file=sys.stderr)


@dataclass
class Field:
    """The competitors that are here."""

    results: Results
    cleanup: ExitStack
    state: Path
    true: Path
    idle: Path
    samples: int
    quick: bool
    resident: int
    runtimes: dict[str, Runtime] = field(default_factory=dict)
    python: Python | None = None
    bwrap: Bubblewrap | None = None
    limits: list[Limit] = field(default_factory=list)

    def peers(self) -> list[Runtime]:
        return list(self.runtimes.values())


def progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def in_turn(
    results: Results, measure: str, subjects: Mapping[str, Sample], samples: int, rest: float = 0
) -> None:
    """Sample every subject once a round, in another order each round.

    So all of them see the same host, and what one leaves behind for the kernel to tidy up
    falls on each of the others in its turn.
    """
    shuffle = random.Random(1).shuffle
    left = dict(subjects)
    hung: Counter[str] = Counter()
    results.order += [who for who in subjects if who not in results.order]
    for number in range(-2, samples):
        order = list(left)
        shuffle(order)
        for who in order:
            progress(f"{measure}: {max(number, 0)}/{samples} {who}")
            time.sleep(rest)
            try:
                took = left[who]()
            except HungError as error:
                if number >= 0:
                    hung[f"{measure}: {who} {error}"] += 1
                continue
            except CompetitorError as error:
                results.note(f"{measure}: {who} left out: {error}")
                del left[who]
                continue
            if number < 0:
                continue
            for part, value in ({measure: took} if isinstance(took, int) else took).items():
                results.add(part, who, value)
    progress("")
    for what, times in hung.items():
        results.note(f"{what}: {times} of {samples} samples not counted")


def section_run(field: Field) -> None:
    subjects: list[Runs] = []
    if field.python is not None:
        subjects += [field.python, PythonDiscarding(field.python)]
    subjects += field.peers()
    if field.bwrap is not None:
        subjects.append(field.bwrap)
    subjects += field.limits
    in_turn(field.results, RUN, {who.name: who.run for who in subjects}, field.samples)


def section_rest(field: Field) -> None:
    """A host on which nothing has just happened, as under a hand-typed command."""
    subjects: list[Runs] = [*field.peers(), *field.limits]
    if field.python is not None:
        subjects.insert(0, field.python)
    chosen = {who.name: who.run for who in subjects}
    in_turn(field.results, RESTED, chosen, field.samples, rest=0.1)


def section_verbs(field: Field) -> None:
    subjects: dict[str, Sample] = {who.name: who.verbs for who in field.peers()}
    if field.python is not None:
        subjects = {field.python.name: field.python.verbs, **subjects}
    in_turn(field.results, "create, start, delete", subjects, field.samples)


def section_exec(field: Field) -> None:
    subjects: dict[str, Sample] = {who.name: who.exec for who in field.peers()}
    if field.python is not None:
        subjects = {field.python.name: field.python.exec, **subjects}
    in_turn(field.results, EXEC, subjects, field.samples)
    for runtime in field.peers():
        runtime.release()
    if field.python is not None:
        field.python.release()


def section_resident(field: Field) -> None:
    if field.python is None:
        return
    wanted = field.resident * GIB
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if free < wanted + GIB:
        field.results.note(f"no {field.resident} GiB to spare: the big Python is left out")
        return
    big = Python(big_name(field.resident), field.state, field.true, field.idle, wanted)
    try:
        subjects = {who.name: who.run for who in (field.python, big)}
        in_turn(field.results, RESIDENT, subjects, field.samples)
    finally:
        big.close()


def big_name(resident: int) -> str:
    return f"python, {resident} GiB"


def section_threads(field: Field) -> None:
    if field.python is None:
        return
    rounds, each = (1, 32) if field.quick else (3, 96)
    for _ in range(rounds):
        for threads in (1, 2, 4, 8, 16):
            measure = f"{threads} thread{'s' if threads > 1 else ''}"
            progress(measure)
            share = each // threads
            try:
                took = field.python.many(threads, share)
            except CompetitorError as error:
                field.results.note(f"{measure}: {error}")
                continue
            rate = threads * share / took * 1e9
            field.results.add(measure, field.python.name, rate, "/s", 1)
    progress("")


def section_list(field: Field) -> None:
    """What is asked about 1,000 containers that idle, of everybody's own."""
    count = 100 if field.quick else 1000
    subjects: dict[str, Sample] = {}
    try:
        for runtime in field.peers():
            progress(f"{count} idle containers: {runtime.name}")
            try:
                held = runtime.hold(count)
            except CompetitorError as error:
                field.results.note(f"list: {runtime.name} left out: {error}")
                continue
            subjects[runtime.name] = lambda it=runtime, one=held[count // 2][0]: {
                LIST: it.list(),
                STATE: it.state(one),
            }
        in_turn(field.results, LIST, subjects, field.samples)
    finally:
        for runtime in field.peers():
            runtime.release()


def section_memory(field: Field) -> None:
    count = 10 if field.quick else 50

    def measure(
        who: str, subject: Holds, before: set[int], executable: str, also: int | None
    ) -> None:
        progress(f"{count} idle containers: {who}")
        try:
            helpers, host = idle_cost(subject, count, before, executable, also)
        except CompetitorError as error:
            field.results.note(f"idle: {who} left out: {error}")
            return
        field.results.add(HELPERS, who, helpers, "KiB", 1024)
        field.results.add(HOST, who, host, "KiB", 1024)

    # The whole host moves by itself as well: more than one round tells by how much.
    for _ in range(1 if field.quick else 5):
        if field.python is not None:
            before = processes()
            # Of its own, so that its launcher is new as well.
            python = Python(field.python.name, field.state, field.true, field.idle)
            try:
                measure(python.name, python, before, "/memfd:", python.pid)
            finally:
                python.close()
        for runtime in field.peers():
            measure(runtime.name, runtime, processes(), runtime.path, None)
    progress("")


def section_engines(field: Field) -> None:
    """The same program, started by engines under each runtime."""
    paths = {who.name: who.path for who in field.peers()}
    place = Path(field.cleanup.enter_context(tempfile.TemporaryDirectory(prefix="rsc-engines-")))
    for engine in engines(place, field.true / "rootfs", paths):
        if not isinstance(engine, Engine):
            field.results.note(engine)
            continue
        field.cleanup.callback(engine.close)
        subjects: dict[str, Sample] = {
            name: functools.partial(engine.run_with, name, path) for name, path in paths.items()
        }
        in_turn(field.results, engine.name, subjects, field.samples)


SECTIONS: dict[str, Callable[[Field], None]] = {
    "run": section_run,
    "rest": section_rest,
    "verbs": section_verbs,
    "exec": section_exec,
    "list": section_list,
    "resident": section_resident,
    "threads": section_threads,
    "memory": section_memory,
    "engines": section_engines,
}


@dataclass(frozen=True)
class Target:
    """One median over another, and what it shall not exceed."""

    says: str
    above: tuple[str, str]
    below: tuple[str, str]
    bound: float


LIMIT = "limit +cgroups, in process"


def targets(resident: int) -> list[Target]:
    big = big_name(resident)
    return [
        Target("python : limit +cgroups", (RUN, "python"), (RUN, LIMIT), 1.5),
        Target("python : crun", (RUN, "python"), (RUN, "crun"), 0.4),
        Target("binary : crun", (RUN, "rscontainer"), (RUN, "crun"), 0.5),
        Target("binary : runc", (RUN, "rscontainer"), (RUN, "runc"), 0.2),
        Target("list : runc", (LIST, "rscontainer"), (LIST, "runc"), 0.2),
        Target("state : runc", (STATE, "rscontainer"), (STATE, "runc"), 0.2),
        Target(f"{big} : small", (RESIDENT, big), (RESIDENT, "python"), 1.1),
        Target("exec from python : crun", (EXEC, "python"), (EXEC, "crun"), 0.4),
        Target("exec from binary : crun", (EXEC, "rscontainer"), (EXEC, "crun"), 0.4),
    ]


def aligned(rows: list[list[str]]) -> str:
    """Words to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if number < 2 else cell.rjust(width)
            for number, (cell, width) in enumerate(zip(row, widths))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def table(results: Results) -> str:
    rows = [["measure", "who", "median", "p10", "p90", "", "n", "of runc", "of crun", "of limit"]]
    shown = ""
    measures = list(results.units)

    def place(key: tuple[str, str]) -> tuple[int, int]:
        measure, who = key
        return measures.index(measure), results.order.index(who)

    for measure, who in sorted(results.samples, key=place):
        values = results.samples[measure, who]
        unit, divisor = results.units[measure]
        median = statistics.median(values)
        deciles = statistics.quantiles(values, n=10) if len(values) > 1 else [median] * 9
        figures = [f"{value / divisor:.2f}" for value in (median, deciles[0], deciles[-1])]
        ratios = []
        for reference in ("runc", "crun", LIMIT):
            against = results.median(measure, reference)
            ratios.append(f"{median / against:.2f}" if against else "")
        first = measure if measure != shown else ""
        shown = measure
        rows.append([first, who, *figures, unit, str(len(values)), *ratios])
    return aligned(rows)


def verdicts(results: Results, resident: int) -> str:
    rows = []
    for target in targets(resident):
        above, below = results.median(*target.above), results.median(*target.below)
        if above is None or below is None:
            rows.append([target.says, "not measured", "", f"≤ {target.bound}"])
            continue
        ratio = above / below
        verdict = "met" if ratio <= target.bound else "missed"
        rows.append([target.says, verdict, f"{ratio:.2f}", f"≤ {target.bound}"])
    return aligned([["target", "", "ratio", "bound"], *rows])


def host() -> str:
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(":")[2].strip()
            break
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    v1 = sum(words[2] == "cgroup" for words in mounts)
    v2 = sum(words[2] == "cgroup2" for words in mounts)
    return (
        f"{os.cpu_count()} processors ({model}), Linux {platform.release()}, "
        f"{v1} cgroup v1 hierarchies, {v2} unified, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.2f}"
    )


def gather(field: Field, peers: Path | None, binary: str | None) -> list[str]:
    """Find who is here; a line about each."""
    found = []
    for name in ("rscontainer", "crun", "runc", "youki"):
        path = binary if name == "rscontainer" and binary else find(name, peers)
        if path is None:
            field.results.note(f"{name} is not installed")
            continue
        runtime = Runtime(name, path, field.state, field.true, field.idle)
        field.runtimes[name] = runtime
        field.cleanup.callback(runtime.close)
        found.append(f"{name} {version(path)} ({path})")
    try:
        field.python = Python("python", field.state, field.true, field.idle)
    except CompetitorError:
        field.results.note("rscontainer cannot be imported")
    else:
        field.cleanup.callback(field.python.close)
        found.append(f"python: rscontainer {field.python.version}")
    bwrap = find("bwrap", peers)
    if bwrap is None:
        field.results.note("bwrap is not installed")
    else:
        field.bwrap = Bubblewrap(bwrap, field.true)
        found.append(f"bwrap {version(bwrap)} ({bwrap})")
    limit = build_limit()
    for repeated in (False, True):
        for flags in ((), ("--cgroups",)):
            field.limits.append(Limit(limit, field.true, *flags, repeated=repeated))
            field.cleanup.callback(field.limits[-1].close)
    return found


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure what containers cost.")
    parser.add_argument("--quick", action="store_true", help="ten samples of each, not fifty")
    parser.add_argument("--samples", type=int, help="how many samples of each")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="measure only these")
    parser.add_argument("--peers", type=Path, help="a folder to search before PATH (RSC_PEERS)")
    parser.add_argument("--binary", help="the rscontainer binary, instead of the one on PATH")
    parser.add_argument("--resident", type=int, default=4, help="GiB the big Python holds")
    parser.add_argument("--json", type=Path, help="write every sample to this file")
    options = parser.parse_args()
    if options.peers is None and os.environ.get("RSC_PEERS"):
        options.peers = Path(os.environ["RSC_PEERS"])
    if options.samples is None:
        options.samples = 10 if options.quick else 50
    return options


def states_in_memory(folder: Path, cleanup: ExitStack) -> Path:
    """Where all keep what they know of containers: on a tmpfs, as /run is nearly everywhere."""
    state = folder / "state"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", state], check=True)
    cleanup.callback(unmount, state)
    return state


def unmount(place: Path) -> None:
    """Helpers that are at their end may have something to delete there yet."""
    for _ in range(20):
        if subprocess.run(["umount", place], check=False, capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    subprocess.run(["umount", "--lazy", place], check=False)


def measure(options: argparse.Namespace, results: Results) -> list[str]:
    with ExitStack() as cleanup:
        folder = Path(cleanup.enter_context(tempfile.TemporaryDirectory(prefix="rsc-bench-")))
        true, idle = make_bundles(folder)
        state = states_in_memory(folder, cleanup)
        field = Field(
            results, cleanup, state, true, idle, options.samples, options.quick, options.resident
        )
        found = gather(field, options.peers, options.binary)
        for name, section in SECTIONS.items():
            if options.only is None or name in options.only:
                section(field)
    return found


def main() -> int:
    options = arguments()
    if os.geteuid() != 0:
        print("run.py: must be root: the other runtimes would do less work", file=sys.stderr)
        return 1
    # So that whatever ends it, what it started is tidied up; a shell starts what it puts in the
    # background with SIGINT ignored.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    results = Results()
    before = host()
    try:
        found = measure(options, results)
    except KeyboardInterrupt:
        progress("")
        return 130
    print("\n".join([before, *found, ""]))
    print(table(results), end="\n\n")
    print(verdicts(results, options.resident))
    if options.json is not None:
        samples = [
            {"measure": measure, "who": who, "unit": results.units[measure][0], "samples": values}
            for (measure, who), values in results.samples.items()
        ]
        report = {"host": before, "found": found, "notes": results.notes, "samples": samples}
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
