"""The build backend: the static binary first, then everything else by maturin.

maturin packs either a library or a program into a wheel. This project has both, so the program is
built here and left in maturin's data folder, whose `scripts` end up on PATH as they are. That
holds for editable installs too, where the module and the program are those of the last install.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Optional

import maturin

Settings = Optional[Mapping[str, Any]]

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "data" / "scripts"
# Goes to the environment's `share`, where man(1) and bash-completion look for what is beside a
# program on PATH.
SHARE = ROOT / "data" / "data" / "share"
NAME = "rscontainer"


def fail(reason: str) -> NoReturn:
    # An exit rather than an exception: pip prints either, and a traceback would bury the reason.
    sys.exit(f"\nerror: cannot build {NAME}: {reason}\n")


def prepare() -> None:
    """Puts cargo on PATH, for maturin too, and checks that it is one that can build this."""
    # maturin looks for its data folder even when it is only asked for the metadata.
    SCRIPTS.mkdir(parents=True, exist_ok=True)
    if shutil.which("cargo") is None:
        # rustup changes PATH through the login shell's files, which a service, a notebook or the
        # shell that has just installed it has not read.
        home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
        os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), f"{home}/bin"])
    manifest = (ROOT / "Cargo.toml").read_text(encoding="utf-8")
    needed = re.search(r'^rust-version = "(\d+)\.(\d+)', manifest, re.MULTILINE)
    wanted = ".".join(needed.groups()) if needed else "stable"
    advice = f"Rust {wanted} or newer is needed; https://rustup.rs installs it, without root"
    cargo = shutil.which("cargo")
    if cargo is None:
        fail(f"there is no cargo on PATH nor in ~/.cargo/bin. {advice}.")
    answer = subprocess.run([cargo, "--version"], stdout=subprocess.PIPE, text=True, check=False)
    # An older cargo would stop at the manifest's edition, with a message that does not say "old".
    found = re.match(r"cargo (\d+)\.(\d+)", answer.stdout)
    if found is None:
        fail(f"`{cargo} --version` does not answer with a version. {advice}.")
    if needed and tuple(map(int, found.groups())) < tuple(map(int, needed.groups())):
        fail(f"{cargo} is version {'.'.join(found.groups())}. {advice}.")
    if shutil.which("cc") is None and shutil.which("gcc") is None:
        fail("there is no C linker. On Debian and Ubuntu: apt-get install gcc libc6-dev.")


def build_static(program: str, *flags: str, **environment: str) -> Path:
    """Builds one program of the crate, linked statically, and says where it is."""
    command = ["cargo", "rustc", "--release", "--locked", "--bin", program]
    command += ["--no-default-features", "--features", "cli"]
    command += ["--message-format", "json-render-diagnostics"]
    # Not position-independent: relocating it took a quarter of what `state` takes, for each command
    # and each container anew. Stack, heap and what is mapped stay at random addresses.
    # Given to the last link alone: as RUSTFLAGS it would reach the proc macros, which cannot be
    # static, and would keep the module's build from using the same compiled dependencies.
    command += ["--", "-C", "target-feature=+crt-static", "-C", "relocation-model=static", *flags]
    print(f"Running `{' '.join(command)}`", flush=True)
    built = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if built.returncode != 0:
        fail("cargo could not build the program; its messages are above.")
    # cargo says where the program is, whatever target folder or triple the environment sets.
    messages = [json.loads(line) for line in built.stdout.splitlines() if line.startswith("{")]
    return Path([message["executable"] for message in messages if message.get("executable")][-1])


def build_binary() -> None:
    """Builds the program and leaves it where maturin packs it.

    It carries a second one, the stage, which clones for it from sealed memory where the program
    itself cannot. That one is copied for each container, so it is small.
    """
    stage = build_static(f"{NAME}-stage")
    program = build_static(NAME, "--cfg", "stage", RSCONTAINER_STAGE=str(stage))
    # Renamed into place, so that a build running beside this one never packs half a file.
    partial = SCRIPTS.parent / f"{NAME}.{os.getpid()}"
    shutil.copy2(program, partial)
    partial.replace(SCRIPTS / NAME)


def build_manual() -> None:
    """Writes manual pages and shells' completions, made of the command line's definitions."""
    partial = SHARE.parent / f"share.{os.getpid()}"
    command = ["cargo", "run", "--quiet", "--locked"]
    command += ["--manifest-path", str(ROOT / "crates" / "manual" / "Cargo.toml")]
    target = os.environ.get("CARGO_TARGET_DIR", str(ROOT / "target"))
    print(f"Running `{' '.join(command)}`", flush=True)
    try:
        built = subprocess.run(
            [*command, "--", str(partial)],
            cwd=ROOT,
            env={**os.environ, "CARGO_TARGET_DIR": target},
            check=False,
        )
        if built.returncode != 0:
            fail("cargo could not make the manual pages; its messages are above.")
        shutil.rmtree(SHARE, ignore_errors=True)
        partial.replace(SHARE)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def build_wheel(directory: str, settings: Settings = None, metadata: str | None = None) -> str:
    prepare()
    build_binary()
    build_manual()
    return maturin.build_wheel(directory, settings, metadata)


def build_editable(directory: str, settings: Settings = None, metadata: str | None = None) -> str:
    prepare()
    build_binary()
    build_manual()
    return maturin.build_editable(directory, settings, metadata)


def build_sdist(directory: str, settings: Settings = None) -> str:
    prepare()
    return maturin.build_sdist(directory, settings)


def prepare_metadata_for_build_wheel(directory: str, settings: Settings = None) -> str:
    prepare()
    return maturin.prepare_metadata_for_build_wheel(directory, settings)


def get_requires_for_build_wheel(settings: Settings = None) -> list[str]:
    # Without this maturin would ask for a whole toolchain to be downloaded behind the user's back.
    prepare()
    return maturin.get_requires_for_build_wheel(settings)


def get_requires_for_build_sdist(settings: Settings = None) -> list[str]:
    prepare()
    return maturin.get_requires_for_build_sdist(settings)


prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel
get_requires_for_build_editable = get_requires_for_build_wheel
