"""The command line: reads it, and goes from the image to the tests' exit status."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from guests import GUESTS, KERNEL
from host import ROOT, HostError, say
from image import image_of
from machine import EMULATED, QUICK, Machine, accelerator
from parcel import build_wheel, pack, requirements, unpack
from shares import run_shares, share_out, usual_number

# How many times longer than usual a test may take where every instruction is translated.
SLOWNESS = 10


def options() -> tuple[argparse.Namespace, list[str]]:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    parser = argparse.ArgumentParser(
        prog="tests/vm/run",
        description="Runs the tests in a virtual machine with Debian, systemd and AppArmor.",
        epilog="All other arguments are pytest's; paths are relative to the project's folder.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--guest", choices=GUESTS, default="bookworm", help="the release of Debian (%(default)s)")
    add("--kernel", default=KERNEL, metavar="PACKAGE", help="of that release (%(default)s)")
    add("--cmdline", action="append", default=[], metavar="WORDS", help="more for the kernel")
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--user", action="store_true", help="as root, then as an ordinary user")
    who.add_argument("--only-user", action="store_true", help="as an ordinary user alone")
    add("--wheel", type=Path, help="the wheel to test, instead of one that is built now")
    add("--timeout", type=float, default=7200, metavar="S", help="for all (%(default)s seconds)")
    add("--memory", default="3G", help="the guest's (%(default)s)")
    add("--machines", type=int, metavar="N", help="share the files out (1; all, emulated: 2)")
    add("--cache", type=Path, default=Path(cache, "rscontainer-vm"), help="images (%(default)s)")
    add("--strict", action="store_true", help="fail on a skipped test that nobody expects there")
    add("--results", type=Path, help="where reports and logs go (target/vm/GUEST)")
    return parser.parse_known_args()


def run() -> int:
    asked, arguments = options()
    image = image_of(GUESTS[asked.guest], asked.kernel, requirements(), asked.cache.resolve())
    chosen = accelerator(image)
    emulated = chosen == EMULATED
    place = (asked.results or ROOT / "target/vm" / asked.guest).resolve()
    place.mkdir(parents=True, exist_ok=True)
    for report in place.glob("**/junit*.xml"):
        # One of an earlier run must not be taken for this one's.
        report.unlink()
    settings = {
        "WHO": "both" if asked.user else "user" if asked.only_user else "root",
        "PATIENCE": str(SLOWNESS if emulated else 1),
    }
    with tempfile.TemporaryDirectory(prefix="rscontainer-vm-") as temporary:
        parcel = Path(temporary, "in.tar")
        wheel = asked.wheel or build_wheel(Path(temporary))
        number = asked.machines or usual_number(arguments, emulated)
        if number > 1:
            return run_shares(share_out(arguments, number), place, wheel)
        pack(parcel, wheel, arguments, settings)
        cmdline = [*([QUICK] if emulated else []), *asked.cmdline]
        machine = Machine(image, parcel, place, asked.memory, cmdline, chosen)
        say(f"booting {asked.guest}; the console is {machine.console}")
        status = run_machine(machine, asked.timeout)
        if status is None and emulated and machine.stumbled():
            say("its kernel ran into an instruction half written, by the emulation's fault: again")
            status = run_machine(machine, asked.timeout)
    if status is None:
        raise HostError(f"the guest ended without a result. {machine.last_words()}")
    for report, more in {"junit.xml": [], "junit-user.xml": ["--user"]}.items():
        if (place / report).exists():
            check = [sys.executable, "-B", str(ROOT / "tests/check_skips.py"), "--machine", *more]
            check += ["--strict"] if asked.strict else []
            done = subprocess.run([*check, str(place / report)], check=False)
            status = status or done.returncode
    say(f"exit status {status}; reports are in {place}")
    return status


def run_machine(machine: Machine, timeout: float) -> int | None:
    """Run it to its end; gives the tests' exit status, none where there is no result."""
    try:
        machine.run(timeout)
    finally:
        status = unpack(machine.results, machine.place)
    return status


def main() -> int:
    # Ended by whoever waits for it no longer, it takes the machine with it.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        return run()
    except HostError as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        return 130
