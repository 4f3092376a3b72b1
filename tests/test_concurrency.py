"""Many containers at once, many after each other, and several hands on the same one."""

from __future__ import annotations

import fcntl
import gc
import os
import random
import shutil
import subprocess
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Callable

import pytest
from conftest import ORDINARY, cgroups, descriptors, eventually, mounts, repeated

import rscontainer as rsc

if TYPE_CHECKING:
    from conftest import BundleFactory, CommandLine

pytestmark = pytest.mark.timeout(300)

QUIET = {"stdin": rsc.DEVNULL, "stdout": rsc.DEVNULL, "stderr": rsc.DEVNULL}


@pytest.fixture
def sleeper(bundle: BundleFactory) -> rsc.Bundle:
    return bundle(args=["sleep", "1000"])


def family() -> Counter[str]:
    """What the launcher of this process has under it, zombies too, by name and state."""
    rsc.start_launcher()
    found: Counter[str] = Counter()
    parents = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            stat = Path(f"/proc/{name}/stat").read_bytes().decode(errors="replace")
        except OSError:
            continue
        command, rest = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2 :]
        state, parent = rest.split()[:2]
        parents[int(name)] = (int(parent), command, state)
    ours = launchers()
    for parent, command, state in parents.values():
        if parent in ours or parent == os.getpid():
            found[f"{command} {'Z' if state == 'Z' else ''}"] += 1
    return found


def launchers() -> set[int]:
    """Launchers that have a pidfd of this process, to hear of its end."""
    found = set()
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if Path(f"/proc/{name}/comm").read_text() != "rsc:[launcher]\n":
                continue
            for number in os.listdir(f"/proc/{name}/fdinfo"):
                info = Path(f"/proc/{name}/fdinfo/{number}").read_text()
                if f"Pid:\t{os.getpid()}\n" in info:
                    found.add(int(name))
        except OSError:
            continue
    return found


def test_two_hundred_containers_from_sixteen_threads(
    bundle: BundleFactory, root: Path, unique_id: Callable[[], str]
) -> None:
    place = bundle(args=["sh", "-c", "read x; echo out $x $$; echo err $x >&2; exit ${x#*-}"])
    barrier = threading.Barrier(16)

    def one(number: int) -> None:
        if number < 16:
            barrier.wait(60)
        r = rsc.run(
            place,
            id=unique_id(),
            root=root,
            input=f"n-{number}\n",
            capture_output=True,
            text=True,
        )
        assert r.stdout == f"out n-{number} 1\n"
        assert r.stderr == f"err n-{number}\n"
        assert r.returncode == number

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(one, range(200)))
    assert not list(root.iterdir())


def test_two_hundred_containers_alive_together(
    bundle: BundleFactory, root: Path, unique_id: Callable[[], str]
) -> None:
    place = bundle(args=["cat"])
    # Each has a session keyring, of which an ordinary user may have two hundred with all others.
    many = 150 if ORDINARY else 200

    def begin(_: int) -> rsc.Container:
        return rsc.Container.run(
            unique_id(), place, root=root, stdin=rsc.PIPE, stdout=rsc.PIPE, text=True
        )

    def end(numbered: tuple[int, rsc.Container]) -> str:
        number, c = numbered
        with c:
            out, _ = c.init.communicate(f"{c.id} {number}", timeout=60)
            assert c.init.returncode == 0
        return out

    with ThreadPoolExecutor(16) as pool:
        made = list(pool.map(begin, range(many)))
        assert len({c.pid for c in made}) == many
        listed = [c.id for c in rsc.Container.list(root=root)]
        assert listed == sorted(c.id for c in made)
        said = list(pool.map(end, enumerate(made)))
    assert said == [f"{c.id} {number}" for number, c in enumerate(made)]


def test_shared_containers_from_many_threads(
    sleeper: rsc.Bundle, root: Path, unique_id: Callable[[], str]
) -> None:
    """Whatever the order: each verb does what it says or tells why not, and none gets stuck."""
    ids = [unique_id() for _ in range(4)]
    dice = random.Random(1)
    plans = [[(dice.choice(ids), dice.randrange(7)) for _ in range(40)] for _ in range(12)]
    outcomes: Counter[str] = Counter()

    def act(id: str, verb: int) -> None:
        if verb == 0:
            rsc.Container.run(id, sleeper, root=root, **QUIET).init.close()
            return
        c = rsc.Container.load(id, root=root)
        if verb == 1:
            p = c.exec(["sh", "-c", "echo $$; exit 5"], stdout=rsc.PIPE)
            out, _ = p.communicate(timeout=60)
            # Unless somebody has killed the container by now.
            assert (p.returncode, bool(out)) == (5, True) or p.returncode == -9
        elif verb == 2:
            c.kill("KILL")
        elif verb == 3:
            c.delete()
        elif verb == 4:
            c.delete(force=True)
        elif verb == 5:
            c.pause()
            c.resume()
        else:
            assert c.status in ("creating", "created", "running", "paused", "stopped")
            assert c.state()["id"] == id

    def work(plan: list[tuple[str, int]]) -> None:
        for id, verb in plan:  # noqa: A001
            try:
                act(id, verb)
                outcomes["done"] += 1
            except (  # noqa: PERF203
                rsc.AlreadyExistsError,
                rsc.NotFoundError,
                rsc.StateError,
            ) as error:
                outcomes[type(error).__name__] += 1
            except rsc.ContainerError as error:
                # A program that was about to enter a container which another thread has ended.
                if verb > 1:
                    raise AssertionError(f"verb {verb} of {id}") from error
                outcomes["killed"] += 1

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(work, plans))
    assert sum(outcomes.values()) == 12 * 40
    assert outcomes["done"] > 50
    for id in ids:  # noqa: A001
        if (root / id).exists():
            rsc.Container.load(id, root=root).delete(force=True)


def test_one_object_in_many_hands(sleeper: rsc.Bundle, root: Path, box: str) -> None:
    with rsc.Container.run(box, sleeper, root=root, **QUIET) as c, ThreadPoolExecutor(16) as pool:
        waits = [pool.submit(c.wait, 60) for _ in range(8)]
        execs = [pool.submit(lambda n=n: c.exec(["sh", "-c", f"exit {n}"])) for n in range(24)]
        # Both pools share threads, so the waits must end for all of these to be served.
        done = [execs[n].result(60).wait(60) for n in range(8)]
        assert done == list(range(8))
        c.kill("KILL")
        assert {wait.result(60) for wait in waits} == {-9}
        for run in execs[8:]:
            if run.exception(60) is None:
                assert run.result().wait(60) in (*range(8, 24), -9)
            else:
                assert isinstance(run.exception(), rsc.ContainerError), run.exception()
        deletes = [pool.submit(c.delete, True) for _ in range(8)]
        assert [delete.result(60) for delete in deletes] == [None] * 8


def test_delete_meets_no_half_deleted_container(
    sleeper: rsc.Bundle, root: Path, unique_id: Callable[[], str]
) -> None:
    with ThreadPoolExecutor(8) as pool:
        for _ in range(10):
            c = rsc.Container.create(unique_id(), sleeper, root=root, **QUIET)
            results = [pool.submit(c.delete) for _ in range(8)]
            errors = [result.exception(60) for result in results]
            assert errors.count(None) == 1
            for error in errors:
                assert error is None or isinstance(error, rsc.NotFoundError), error
            c.init.close()


def test_a_verb_that_waited_while_the_container_was_deleted(
    sleeper: rsc.Bundle, root: Path, box: str, tmp_path: Path
) -> None:
    container = rsc.Container.run(box, sleeper, root=root)
    record, copy = root / box, tmp_path / "record"
    lock = os.open(record, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(container.pause)
            try:
                eventually(lambda: is_waited_for(lock), "the verb that waits")
                shutil.copytree(record, copy, symlinks=True)
                shutil.rmtree(record)
            finally:
                fcntl.flock(lock, fcntl.LOCK_UN)
            with pytest.raises(rsc.NotFoundError, match="does not exist"):
                waiting.result(60)
    finally:
        os.close(lock)
        shutil.move(copy, record)
        container.delete(force=True)


def is_waited_for(lock: int) -> bool:
    """Whether somebody waits for this file's lock (proc_locks(5))."""
    inode = os.fstat(lock).st_ino
    lines = Path("/proc/locks").read_text().splitlines()
    return any("->" in line and f":{inode} " in line for line in lines)


def test_starts_of_the_same_container(
    bundle: BundleFactory, root: Path, unique_id: Callable[[], str]
) -> None:
    place = bundle(args=["sh", "-c", "echo once; exec sleep 1000"])
    with ThreadPoolExecutor(8) as pool:
        for _ in range(5):
            streams = {"stdin": rsc.DEVNULL, "stdout": rsc.PIPE}
            with rsc.Container.create(unique_id(), place, root=root, **streams) as c:
                errors = [run.exception(60) for run in [pool.submit(c.start) for _ in range(8)]]
                assert errors.count(None) == 1
                for error in errors:
                    assert error is None or isinstance(error, rsc.StateError), error
                assert c.init.stdout.readline() == b"once\n"
                c.kill("KILL")
                assert c.init.stdout.read() == b""


def test_a_thousand_containers_after_each_other(
    sleeper: rsc.Bundle, root: Path, unique_id: Callable[[], str]
) -> None:
    def one(_: int) -> None:
        c = rsc.Container.create(unique_id(), sleeper, root=root, **QUIET)
        c.delete()
        c.init.close()

    with ThreadPoolExecutor(4) as pool:
        # What is made once and kept, such as threads, is there before it is counted.
        list(pool.map(one, range(8)))
        gc.collect()
        eventually(lambda: not any("Z" in name for name in family()), "no zombie")
        before = (mounts(), own(cgroups()), descriptors(), len(os.listdir("/proc/self/task")))
        relatives = family()
        list(pool.map(one, range(repeated(1000))))
        gc.collect()
        after = (mounts(), own(cgroups()), descriptors(), len(os.listdir("/proc/self/task")))
        assert before == after
    assert list(root.iterdir()) == []
    # A worker that has answered may still be ending.
    eventually(lambda: family() == relatives, "the same processes as before")


def test_five_hundred_cgroups_from_eight_threads(
    bundle: BundleFactory, root: Path, unique_id: Callable[[], str]
) -> None:
    """Each in a folder that others share, made by the first of them and gone with the last."""
    pod = unique_id()

    def place(spec: rsc.Spec) -> None:
        spec.process.args = ["true"]
        spec.linux.resources.pids = {"limit": 20}
        if not ORDINARY:
            spec.linux.cgroupsPath = f"/{pod}/{threading.get_ident()}/{unique_id()}"

    names = [unique_id() for _ in range(500)]
    made = threading.local()

    def one(name: str) -> None:
        if not hasattr(made, "bundle"):
            # One for each thread, and with it a folder for its containers.
            made.bundle = bundle(place)
        with rsc.Container.run(name, made.bundle, root=root, **QUIET) as c:
            assert c.wait(60) == 0

    before = (mounts(), own(cgroups()), descriptors())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(one, names))
    gc.collect()
    eventually(lambda: (mounts(), own(cgroups()), descriptors()) == before, "nothing left behind")
    assert list(root.iterdir()) == []


def own(found: set[str]) -> set[str]:
    """Of the cgroups, those of this run's containers."""
    return {path for path in found if f"/t{os.getpid()}-" in path}


def test_two_processes_race_for_an_id(
    sleeper: rsc.Bundle, root: Path, unique_id: Callable[[], str], cli: CommandLine
) -> None:
    text = """
import os, sys
import rscontainer as rsc
rsc.start_launcher()
for line in sys.stdin:
    try:
        rsc.Container.run(line.strip(), sys.argv[1], root=sys.argv[2], detach=True,
                          stdin=rsc.DEVNULL, stdout=rsc.DEVNULL, stderr=rsc.DEVNULL)
        print("won", flush=True)
    except rsc.AlreadyExistsError as error:
        print("lost" if line.strip() in str(error) else error, flush=True)
"""
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", text, sleeper.path, root],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for _ in range(20):
        id = unique_id()  # noqa: A001
        for racer in racers:
            racer.stdin.write(f"{id}\n")
        for racer in racers:
            racer.stdin.flush()
        assert sorted(racer.stdout.readline() for racer in racers) == ["lost\n", "won\n"]
        # The loser has taken nothing of the winner's away.
        c = rsc.Container.load(id, root=root)
        assert c.status == "running"
        assert c.exec(["true"], **QUIET).wait(60) == 0
        cli("delete", "--force", id)
    for racer in racers:
        racer.stdin.close()
        assert racer.wait(60) == 0
        racer.stdout.close()


def test_binaries_race_for_an_id(sleeper: rsc.Bundle, box: str, cli: CommandLine) -> None:
    racers = [
        subprocess.Popen(
            cli.argv("create", "-b", sleeper.path, box),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(6)
    ]
    # The container inherits the pipe: what is read ends with the container.
    codes = sorted(racer.wait(60) for racer in racers)
    assert codes == [0, 1, 1, 1, 1, 1]
    cli("start", box)
    cli("delete", "--force", box)
    for racer in racers:
        said = racer.stderr.read()
        racer.stderr.close()
        assert racer.returncode == 0 or "exists already" in said
