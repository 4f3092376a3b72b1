"""What happens to a container: memory that runs out, freezing, its end."""

from __future__ import annotations

import gc
import json
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from conftest import PATIENCE, eventually
from limits import FOREVER, GROWING, MIB, has_a_cgroup, limiting, needing_swap, needs

import rscontainer as rsc
from rscontainer import Container

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from conftest import BundleFactory, CommandLine


@pytest.fixture
def running(bundle: BundleFactory, root: Path, box: str) -> Iterator[Container]:
    """A container that sleeps, with a cgroup of its own."""
    with Container.run(box, bundle(args=FOREVER), root=root) as container:
        if not has_a_cgroup(container):
            pytest.skip("the container has no cgroup of its own: none is delegated to this user")
        yield container


class Listener:
    """Hears of a container in a thread of its own."""

    def __init__(self, container: Container) -> None:
        events = container.events()
        self.heard: list[rsc.Event] = []
        self._thread = threading.Thread(target=lambda: self.heard.extend(self._note(events)))
        self.so_far: list[str] = []
        self._thread.start()

    def _note(self, events: Iterator[rsc.Event]) -> Iterator[rsc.Event]:
        for event in events:
            self.so_far.append(event.type)
            yield event

    def hears(self, kind: str) -> None:
        eventually(lambda: kind in self.so_far, f"news of {kind}")

    def to_the_end(self) -> list[str]:
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        return [event.type for event in self.heard]


def little_memory(container: Container) -> None:
    with needing_swap():
        container.update(memory="16M", memory_swap="16M")


def test_the_end_is_the_last(running: Container) -> None:
    listener = Listener(running)
    before = time.time()
    running.kill("KILL")
    assert listener.to_the_end() == ["exit"]
    (event,) = listener.heard
    assert before - 60 < event.time < before + 60
    assert event.count == 1
    # Of one that has ended that is all there is.
    assert [event.type for event in running.events()] == ["exit"]


def test_freezing_and_thawing(running: Container) -> None:
    listener = Listener(running)
    for _ in range(3):
        running.pause()
        listener.hears("frozen")
        running.resume()
        listener.hears("thawed")
        listener.so_far.clear()
    running.kill("KILL")
    assert listener.to_the_end() == ["frozen", "thawed"] * 3 + ["exit"]


def test_what_was_before_is_nothing_new(running: Container) -> None:
    running.pause()
    listener = Listener(running)
    running.resume()
    listener.hears("thawed")
    running.kill("KILL")
    assert listener.to_the_end() == ["thawed", "exit"]


@needs("memory")
def test_memory_runs_out(running: Container) -> None:
    little_memory(running)
    listener = Listener(running)
    for number in (1, 2):
        process = running.exec(GROWING)
        assert process.wait(100) == -9
        eventually(lambda: listener.so_far.count("oom_kill") == number, "the killing")  # noqa: B023
    running.kill("KILL")
    heard = listener.to_the_end()
    assert heard[0] == "oom"
    assert heard[-2:] == ["oom_kill", "exit"]
    assert sum(event.count for event in listener.heard if event.type == "oom_kill") == 2


@needs("memory")
def test_the_killed_init_is_heard_of_before_its_end(
    bundle: BundleFactory, root: Path, box: str
) -> None:
    made = bundle(limiting(memory={"limit": 16 * MIB, "swap": 16 * MIB}), args=GROWING)
    with needing_swap():
        container = Container.create(box, made, root=root)
    with container:
        listener = Listener(container)
        container.start()
        assert container.wait(100) == -9
        heard = listener.to_the_end()
        assert heard[-2:] == ["oom_kill", "exit"]
        assert set(heard) == {"oom", "oom_kill", "exit"}


def test_several_listeners(running: Container) -> None:
    listeners = [Listener(running) for _ in range(4)]
    running.pause()
    running.resume()
    running.kill("KILL")
    for listener in listeners:
        assert listener.to_the_end()[-1] == "exit"


def test_who_stops_listening_leaves_nothing(running: Container) -> None:
    events = running.events()
    running.pause()
    assert next(events).type == "frozen"
    # The leak check counts descriptors.
    del events
    gc.collect()
    running.resume()


def test_ctrl_c_ends_the_wait(running: Container) -> None:
    events = running.events()
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        next(events)
    timer.join()


def test_of_none(running: Container) -> None:
    running.delete(force=True)
    with pytest.raises(rsc.NotFoundError):
        running.events()


# -- the command line -------------------------------------------------------------------------


@needs("memory")
def test_the_command_line_follows(cli: CommandLine, running: Container) -> None:
    little_memory(running)
    argv = cli.argv("events", "--interval", "200ms", running.id)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as follower:
        assert follower.stdout is not None

        def until(kind: str) -> dict[str, Any]:
            for line in follower.stdout or ():
                event: dict[str, Any] = json.loads(line)
                assert event["id"] == running.id
                if event["type"] == kind:
                    return event
            raise AssertionError(f"no {kind} to the end")

        assert until("stats")["data"]["pids"] == {"current": 1}
        assert running.exec(GROWING).wait(100) == -9
        assert until("oom") == {"type": "oom", "id": running.id}
        assert until("stats")["data"]["memory"]["usage"]["limit"] == 16 * MIB
        running.kill("KILL")
        assert {json.loads(line)["type"] for line in follower.stdout} <= {"stats"}
        assert follower.wait(PATIENCE) == 0


def test_it_ends_with_its_reader(cli: CommandLine, running: Container) -> None:
    argv = cli.argv("events", "--interval", "50ms", running.id)
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as follower:
        assert follower.stdout is not None
        assert follower.stdout.readline()
        follower.stdout.close()
        assert follower.wait(PATIENCE) == 0


@pytest.mark.parametrize("interval", ["0s", "-1s", "5", "soon", ""])
def test_intervals_that_are_none(cli: CommandLine, running: Container, interval: str) -> None:
    done = cli("events", f"--interval={interval}", running.id, check=False)
    assert done.returncode == 1
    assert "is no time above zero" in done.stderr
