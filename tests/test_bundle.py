"""Bundles from real streams, friendly and hostile; nothing is left after a failure."""

from __future__ import annotations

import gzip
import io
import os
import resource
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import rscontainer as rsc
from rscontainer import Bundle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="owners and devices can only be made by root")


def needs(tool: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(tool) is None, reason=f"{tool} is not installed")


def entry(name: str, kind: bytes = tarfile.REGTYPE, **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    """An entry of a tar archive; ``data`` is a file's content."""
    data = more.pop("data", b"")
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(data)
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    info.uid = os.geteuid()
    info.gid = os.getegid()
    for key, value in more.items():
        setattr(info, key, value)
    return info, data


def folder(name: str, **more: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.DIRTYPE, **more)


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.SYMTYPE, linkname=target)


def hard_link(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, tarfile.LNKTYPE, linkname=target)


def archive(*entries: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> io.BytesIO:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        for info, data in entries:
            tar.addfile(info, io.BytesIO(data))
    stream.seek(0)
    return stream


HELLO = (folder("etc"), entry("etc/hello", data=b"hello\n"))


class Place:
    """Where a test makes its bundle, in a folder of which nothing else may change."""

    def __init__(self, path: Path) -> None:
        self.outside = path / "outside"
        self.outside.mkdir()
        (self.outside / "secret").write_text("secret")
        self.parent = path / "bundles"
        self.parent.mkdir()
        self.bundle = self.parent / "box"

    def make(self, rootfs: Any, **more: Any) -> Path:
        return Bundle.create(self.bundle, rootfs=rootfs, **more).rootfs

    def refuses(self, rootfs: Any, match: str, error: type[BaseException] = Exception) -> str:
        with pytest.raises(error, match=match) as raised:
            Bundle.create(self.bundle, rootfs=rootfs)
        assert list(self.parent.iterdir()) == []
        self.unharmed()
        return str(raised.value)

    def unharmed(self) -> None:
        assert [path.name for path in self.outside.iterdir()] == ["secret"]
        assert (self.outside / "secret").read_text() == "secret"


@pytest.fixture
def place(tmp_path: Path) -> Iterable[Place]:
    place = Place(tmp_path)
    yield place
    place.unharmed()
    assert [path.name for path in place.parent.iterdir()] in ([], ["box"])


# The bundle itself


def test_a_bundle_is_a_path_with_a_config_and_a_rootfs(place: Place) -> None:
    bundle = Bundle.create(place.bundle, rootfs=archive(*HELLO))
    assert os.fspath(bundle) == str(bundle.path) == str(place.bundle)
    assert bundle.config == place.bundle / "config.json"
    assert bundle.config.is_file()
    assert bundle.rootfs == place.bundle / "rootfs"
    assert (bundle.rootfs / "etc/hello").read_text() == "hello\n"
    assert bundle.spec is bundle.spec
    assert Bundle(place.bundle) == bundle
    assert repr(bundle) == f"Bundle({str(place.bundle)!r})"


def test_nobody_else_may_enter_a_bundle(place: Place) -> None:
    place.make(archive(*HELLO))
    assert stat.S_IMODE(place.bundle.stat().st_mode) == 0o700


def test_a_given_spec_is_written_with_the_bundles_root(place: Place) -> None:
    spec = rsc.Spec.from_dict(
        {**rsc.Spec.default().to_dict(), "root": {"path": "/elsewhere", "readonly": True}}
    )
    bundle = Bundle.create(place.bundle, rootfs=archive(*HELLO), spec=spec)
    assert bundle.spec.to_dict()["root"] == {"path": "rootfs", "readonly": True}
    assert spec.to_dict()["root"]["path"] == "/elsewhere"


def test_an_empty_folder_is_taken_over_and_a_full_one_is_not(place: Place) -> None:
    place.bundle.mkdir()
    place.make(archive(*HELLO))
    with pytest.raises(rsc.AlreadyExistsError, match="is not an empty folder"):
        place.make(archive(*HELLO))
    assert (place.bundle / "rootfs/etc/hello").exists()


def test_a_file_is_in_the_way(place: Place) -> None:
    place.bundle.write_text("mine")
    with pytest.raises(rsc.AlreadyExistsError):
        place.make(archive(*HELLO))
    assert place.bundle.read_text() == "mine"


def test_missing_folders_are_named(place: Place) -> None:
    with pytest.raises(rsc.NotFoundError, match="parent has to be there"):
        Bundle.create(place.parent / "parent" / "box", rootfs=archive(*HELLO))
    with pytest.raises(rsc.NotFoundError, match=r"has no config\.json"):
        Bundle(place.bundle)
    with pytest.raises(rsc.NotFoundError, match="ENOENT"):
        place.make(place.parent / "no.tar")


@pytest.mark.parametrize("rootfs", [7.5, None, ["a"]])
def test_what_is_no_source_is_a_type_error(place: Place, rootfs: Any) -> None:
    place.refuses(rootfs, "rootfs must be a path", TypeError)


def test_text_is_a_type_error(place: Place) -> None:
    place.refuses(io.StringIO("text"), "binary mode", TypeError)


def test_an_exception_of_the_source_comes_through(place: Place) -> None:
    class Broken:
        def read(self, _size: int) -> bytes:
            raise ZeroDivisionError

    place.refuses(Broken(), "^$", ZeroDivisionError)


def test_a_spec_that_cannot_be_saved_leaves_nothing(place: Place) -> None:
    class Bad:
        def to_dict(self) -> dict[str, Any]:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        place.make(archive(*HELLO), spec=Bad())
    assert list(place.parent.iterdir()) == []


# Where a stream comes from, and how it is compressed


def zstd(data: bytes, *options: str) -> bytes:
    return subprocess.run(
        ["zstd", "-c", *options], input=data, capture_output=True, check=True
    ).stdout


def two_frames(data: bytes) -> bytes:
    skippable = struct.pack("<II", 0x184D2A53, 5) + b"12345"
    return skippable + zstd(data[:1000], "--check") + skippable + zstd(data[1000:]) + skippable


PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "gzip in members": lambda data: gzip.compress(data[:1000]) + gzip.compress(data[1000:]),
    "zstd": zstd,
    "zstd with a large window": lambda data: zstd(data, "--ultra", "-22"),
    "zstd in frames": two_frames,
}


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("way", ["path", "file", "raw file", "object", "pipe"])
def test_every_source_in_every_packing(
    place: Place, tmp_path: Path, packing: str, way: str
) -> None:
    if "zstd" in packing and shutil.which("zstd") is None:
        pytest.skip("zstd is not installed")
    content = os.urandom(300_000) + bytes(2_000_000)
    data = PACKINGS[packing](archive(*HELLO, entry("big", data=content)).read())
    path = tmp_path / "rootfs.tar"
    path.write_bytes(data)
    if way == "path":
        root = place.make(path)
    elif way == "object":
        root = place.make(io.BytesIO(data))
    elif way == "pipe":
        with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as cat:
            root = place.make(cat.stdout)
        assert cat.returncode == 0
    else:
        with open(path, "rb", buffering=0 if way == "raw file" else -1) as file:
            root = place.make(file)
            assert file.read() == b""
    assert (root / "big").read_bytes() == content


def test_standard_input(place: Place) -> None:
    code = "import sys, rscontainer; rscontainer.Bundle.create(sys.argv[1], rootfs='-')"
    stream = archive(*HELLO).read()
    subprocess.run([sys.executable, "-c", code, place.bundle], input=stream, check=True)
    assert (place.bundle / "rootfs/etc/hello").exists()


def test_a_file_is_read_from_where_it_stands(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "rootfs.tar"
    path.write_bytes(b"four" + archive(*HELLO).read())
    with path.open("rb") as file:
        assert file.read(4) == b"four"
        assert (place.make(file) / "etc/hello").exists()


def test_a_gzip_file_object_is_read_through_its_read(place: Place, tmp_path: Path) -> None:
    path = tmp_path / "rootfs.gz"
    path.write_bytes(gzip.compress(b"four" + archive(*HELLO).read()))
    with gzip.open(path) as file:
        file.read(4)
        assert (place.make(file) / "etc/hello").exists()


@needs("tar")
@pytest.mark.parametrize("form", ["gnu", "pax", "ustar", "v7", "oldgnu"])
def test_gnu_tar(place: Place, tmp_path: Path, form: str) -> None:
    tree = tmp_path / "tree"
    (tree / "a/b").mkdir(parents=True)
    (tree / "a/b/file").write_text("text")
    (tree / "a/link").symlink_to("b/file")
    os.link(tree / "a/b/file", tree / "a/hard")
    os.utime(tree / "a", (1, 1_000_000_000))
    command = ["tar", f"--format={form}", "-C", tree, "-cf", "-", "."]
    root = place.make(io.BytesIO(subprocess.run(command, capture_output=True, check=True).stdout))
    assert (root / "a/link").read_text() == "text"
    assert (root / "a/hard").samefile(root / "a/b/file")
    assert (root / "a").stat().st_mtime == 1_000_000_000


@needs("tar")
@pytest.mark.parametrize(
    "form", ["gnu", "pax --sparse-version=0.0", "pax --sparse-version=0.1", "pax"]
)
def test_sparse_files(place: Place, tmp_path: Path, form: str) -> None:
    with (tmp_path / "sparse").open("wb") as file:
        for part in range(40):
            file.seek(part * 1_000_000)
            file.write(b"data %d" % part)
        file.truncate(100_000_000)
    (tmp_path / "hole").touch()
    os.truncate(tmp_path / "hole", 5_000_000)
    command = [
        "tar",
        *f"--format={form}".split(),
        "-S",
        "-C",
        str(tmp_path),
        "-c",
        "sparse",
        "hole",
    ]
    root = place.make(io.BytesIO(subprocess.run(command, capture_output=True, check=True).stdout))
    assert (root / "sparse").read_bytes() == (tmp_path / "sparse").read_bytes()
    assert (root / "sparse").stat().st_blocks * 512 < 10_000_000
    assert (root / "hole").stat().st_size == 5_000_000
    assert (root / "hole").stat().st_blocks == 0


# What an entry may carry


def test_long_names(place: Place) -> None:
    name = "/".join(["long" * 25] * 12)
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        stream = archive(
            entry(name, data=b"x"), symlink("link", name), hard_link("hard", name), form=form
        )
        root = place.make(stream)
        assert (root / "link").read_bytes() == b"x"
        assert (root / "hard").samefile(root / name)
        shutil.rmtree(place.bundle)


def test_modes_times_and_setuid_bits(place: Place) -> None:
    root = place.make(
        archive(
            folder(".", mode=0o750, mtime=1_111_111_111),
            folder("closed", mode=0o555, mtime=1_000_000_000),
            entry("closed/su", mode=0o4755, mtime=-1.5),
            folder("tmp", mode=0o1777),
            folder("group", mode=0o2775),
            symlink("link", "nowhere"),
            entry("fifo", tarfile.FIFOTYPE, mode=0o622),
            entry("implicit/file"),
        )
    )
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in root.rglob("*")}
    del modes["link"]
    assert modes == {
        "closed": 0o555,
        "su": 0o4755,
        "tmp": 0o1777,
        "group": 0o2775,
        "fifo": 0o622,
        "implicit": 0o755,
        "file": 0o644,
    }
    assert stat.S_IMODE(root.stat().st_mode) == 0o750
    assert root.stat().st_mtime == 1_111_111_111
    assert (root / "closed").stat().st_mtime == 1_000_000_000
    assert (root / "closed/su").stat().st_mtime == -1.5
    assert (root / "fifo").is_fifo()


@needs_root
def test_owners_and_devices(place: Place) -> None:
    root = place.make(
        archive(
            entry("file", uid=1000, gid=2000, mode=0o6755),
            folder("folder", uid=1000, gid=2000),
            entry("link", tarfile.SYMTYPE, linkname="x", uid=1000, gid=2000),
            entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666, uid=1000, gid=2000),
            entry("disk", tarfile.BLKTYPE, devmajor=8, devminor=1, mode=0o660, uid=1000, gid=2000),
            entry("huge", uid=4_000_000_000, gid=4_000_000_000),
        )
    )
    for name in ("file", "folder", "link", "null", "disk"):
        found = (root / name).lstat()
        assert (found.st_uid, found.st_gid) == (1000, 2000)
    assert stat.S_IMODE((root / "file").stat().st_mode) == 0o6755
    assert (root / "null").stat().st_rdev == os.makedev(1, 3)
    assert (root / "null").is_char_device()
    assert stat.S_IMODE((root / "null").stat().st_mode) == 0o666
    assert (root / "disk").is_block_device()
    assert (root / "huge").stat().st_uid == 4_000_000_000


def test_an_owner_that_means_no_change_is_refused(place: Place) -> None:
    place.refuses(archive(entry("file", uid=2**32 - 1)), "owner 4294967295 is not between")


CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)


def test_extended_attributes(place: Place) -> None:
    headers = {
        "SCHILY.xattr.user.colour": "green",
        "SCHILY.xattr.trusted.overlay.opaque": "y",
        "SCHILY.xattr.security.selinux": "label",
    }
    if ROOT:
        headers["SCHILY.xattr.security.capability"] = CAPABILITY.decode("latin-1")
    root = place.make(
        archive(
            entry(
                "file", data=b"x", mode=0o444, uid=1 if ROOT else os.geteuid(), pax_headers=headers
            ),
            folder("folder", pax_headers={"SCHILY.xattr.user.colour": "red"}),
        )
    )
    assert os.getxattr(root / "file", "user.colour") == b"green"
    assert os.getxattr(root / "folder", "user.colour") == b"red"
    names = {"user.colour"} | ({"security.capability"} if ROOT else set())
    assert set(os.listxattr(root / "file")) == names
    if ROOT:
        assert os.getxattr(root / "file", "security.capability") == CAPABILITY


def test_the_last_of_several_entries_wins(place: Place) -> None:
    root = place.make(
        archive(
            entry("file", data=b"first, and longer"),
            entry("file", data=b"last"),
            folder("folder/sub"),
            entry("folder/sub/file"),
            entry("folder", data=b"a file now"),
            entry("other"),
            folder("other"),
            entry("other/file"),
            symlink("link", "file"),
            entry("link", data=b"no link"),
            folder("merged", mode=0o700),
            entry("merged/kept"),
            folder("merged", mode=0o711),
        )
    )
    assert (root / "file").read_bytes() == b"last"
    assert (root / "folder").read_bytes() == b"a file now"
    assert (root / "other/file").exists()
    assert (root / "link").read_bytes() == b"no link"
    assert (root / "merged/kept").exists()
    assert stat.S_IMODE((root / "merged").stat().st_mode) == 0o711


def test_hard_links(place: Place) -> None:
    root = place.make(
        archive(
            hard_link("early", "folder/file"),
            entry("folder/file", data=b"x"),
            hard_link("late", "./folder//file"),
            hard_link("late", "folder/file"),
            hard_link("folder/file", "folder/file"),
            symlink("link", "folder/file"),
            hard_link("link2", "link"),
        )
    )
    assert (root / "folder/file").stat().st_nlink == 3
    assert (root / "late").samefile(root / "early")
    assert os.readlink(root / "link2") == "folder/file"


def test_a_hard_link_to_nothing(place: Place) -> None:
    place.refuses(archive(hard_link("a", "b")), 'hard link to "b".*ENOENT.*not in the tree')


@pytest.mark.skipif(not ROOT, reason="becoming an ordinary user takes root")
def test_an_ordinary_user_is_told_what_was_left_out(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for parent in list(tmp_path.parents)[:3]:
        if parent.stat().st_uid == 0 and parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o011)
    home = tmp_path / "home"
    home.mkdir()
    os.chown(home, 1234, 1234)
    stream = archive(
        entry("file", uid=77, gid=77, mode=0o400),
        folder("closed", mode=0o000),
        entry("closed/inside"),
        entry("dev/null", tarfile.CHRTYPE, devmajor=1, devminor=3),
        entry("dev/zero", tarfile.CHRTYPE, devmajor=1, devminor=5),
    ).read()
    # A copy, for the environment may be in a home that is closed to others.
    package = tmp_path / "package"
    shutil.copytree(Path(rsc.__file__).parent, package / "rscontainer")
    code = (
        "import os, sys, warnings; sys.path.insert(0, sys.argv[2]); import rscontainer, io\n"
        "data = sys.stdin.buffer.read()\n"
        "with warnings.catch_warnings(record=True) as told:\n"
        "    warnings.simplefilter('always')\n"
        "    rscontainer.Bundle.create(sys.argv[1], rootfs=io.BytesIO(data))\n"
        "print(*(warning.message for warning in told))\n"
        "try:\n"
        "    rscontainer.Bundle.create(sys.argv[1] + '2', rootfs=io.BytesIO(data[:1200]))\n"
        "except Exception as error:\n"
        "    print(error, os.listdir(os.path.dirname(sys.argv[1])))\n"
    )
    done = subprocess.run(
        [
            "setpriv",
            "--reuid=1234",
            "--regid=1234",
            "--clear-groups",
            sys.executable,
            "-c",
            code,
            home / "box",
            package,
        ],
        input=stream,
        capture_output=True,
        check=False,
    )
    if b"Permission denied" in done.stderr and b"python" in done.stderr:
        pytest.skip(f"an ordinary user cannot run {sys.executable}")
    assert done.returncode == 0, done.stderr
    told, failed = done.stdout.decode().splitlines()
    assert told.endswith("left out device nodes, which only root may make: dev/null and 1 more")
    assert "truncated" in failed
    assert failed.endswith("['box']")
    found = (home / "box/rootfs/file").stat()
    assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (1234, 0o400)
    assert (home / "box/rootfs/closed/inside").exists()


# Attacks


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "a/..", "..", "./../evil"])
@pytest.mark.parametrize("kind", [tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE])
def test_names_that_point_outside_are_refused(place: Place, name: str, kind: bytes) -> None:
    said = place.refuses(archive(entry(name, kind, linkname="x")), "points outside with `..`")
    shown = name + "/" * (kind == tarfile.DIRTYPE)
    assert said.startswith(f'entry "{shown}" at byte 0: ')


def test_absolute_names_are_refused(place: Place) -> None:
    for name in ("/etc/passwd", "//etc", f"{place.outside}/evil"):
        place.refuses(archive(*HELLO, entry(name)), "is absolute and so points outside.*relative")


@pytest.mark.parametrize("target", ["../outside/secret", "/etc/passwd", "etc/../../x", ""])
def test_hard_links_that_point_outside_are_refused(place: Place, target: str) -> None:
    place.refuses(archive(*HELLO, hard_link("link", target)), "hard link to .* its name is|points")


def test_a_symlink_is_created_as_it_is_and_followed_inside_only(place: Place) -> None:
    root = place.make(
        archive(
            symlink("absolute", str(place.outside)),
            symlink("relative", "../../../../outside"),
            folder(str(place.outside)[1:]),
            folder("outside"),
            entry("absolute/evil", data=b"1"),
            entry("relative/evil", data=b"2"),
            folder("relative/made"),
            symlink("relative/made/link", "x"),
            hard_link("relative/hard", "absolute/evil"),
        )
    )
    assert os.readlink(root / "absolute") == str(place.outside)
    assert (root / str(place.outside)[1:] / "evil").read_bytes() == b"1"
    assert (root / "outside/evil").read_bytes() == b"2"
    assert (root / "outside/hard").samefile(root / str(place.outside)[1:] / "evil")


def test_through_a_symlink_to_nowhere_nothing_is_made(place: Place) -> None:
    stream = archive(symlink("link", str(place.outside)), entry("link/evil"))
    place.refuses(stream, 'entry "link/evil" .*ENOENT')


def test_a_file_replaces_the_symlink_of_its_name(place: Place) -> None:
    secret = str(place.outside / "secret")
    root = place.make(
        archive(
            symlink("file", secret),
            entry("file", data=b"mine"),
            symlink("folder", str(place.outside)),
            folder("folder", mode=0o777),
            entry("folder/file"),
            symlink("node", secret),
            entry("node", tarfile.FIFOTYPE),
        )
    )
    assert (root / "file").read_bytes() == b"mine"
    assert not (root / "folder").is_symlink()
    assert (root / "node").is_fifo()


def test_a_hard_link_to_a_symlink_is_no_way_out(place: Place) -> None:
    root = place.make(
        archive(
            symlink("link", str(place.outside / "secret")),
            hard_link("hard", "link"),
            entry("hard", data=b"overwritten"),
        )
    )
    assert (root / "hard").read_bytes() == b"overwritten"
    assert (root / "link").is_symlink()


def test_a_folder_that_becomes_a_symlink_is_no_way_out(place: Place) -> None:
    mode = place.outside.stat().st_mode
    mtime = place.outside.stat().st_mtime
    stream = archive(
        folder("a/b", mode=0o777, mtime=1),
        entry("a/b/file"),
        symlink("a/b", str(place.outside)),
        entry("a/b/evil"),
    )
    place.refuses(stream, 'entry "a/b/evil"')
    root = place.make(
        archive(
            folder("a", mode=0o777, mtime=1),
            folder("a/b", mode=0o777, mtime=1),
            entry("a/b/file"),
            symlink("a", str(place.parent.parent)),
            folder("outside"),
        )
    )
    assert (root / "a").is_symlink()
    assert place.outside.stat().st_mode == mode
    assert place.outside.stat().st_mtime == mtime


def test_links_in_a_ring(place: Place) -> None:
    stream = archive(symlink("a", "b"), symlink("b", "a"), entry("a/file"))
    place.refuses(stream, 'entry "a/file".*ELOOP')


def test_the_root_is_a_folder(place: Place) -> None:
    place.refuses(archive(symlink(".", str(place.outside))), "can only be a folder")
    place.refuses(archive(entry("./", data=b"x", kind=b"7")), "can only be a folder")
    place.refuses(raw("", b"0"), "its name is empty")


def test_a_file_is_no_folder(place: Place) -> None:
    place.refuses(archive(entry("a"), entry("a/b")), 'entry "a/b" at byte 512.*ENOTDIR')


def test_a_nul_in_a_name(place: Place) -> None:
    place.refuses(archive(entry("a", pax_headers={"path": "a\0b"})), "has a NUL in it")


def raw(name: str, kind: bytes, size: bytes = b"00000000000", data: bytes = b"") -> io.BytesIO:
    """An archive of one entry with fields that no library would write."""
    header = bytearray(512)
    header[: len(name)] = name.encode()
    header[100:108] = b"0000644\0"
    header[108:116] = header[116:124] = b"0000000\0"
    header[124 : 124 + len(size)] = size
    header[136:147] = b"00000000000"
    header[148:156] = b" " * 8
    header[156:157] = kind
    header[257:265] = b"ustar\x0000"
    header[148:156] = b"%06o\0 " % sum(header)
    return io.BytesIO(bytes(header) + data + bytes(1024))


@pytest.mark.parametrize(
    ("size", "match"),
    [
        (b"77777777777", "truncated"),
        (b"\x80\0\0\0" + b"\x7f" + b"\xff" * 7, "truncated"),
        (b"\x80\0\0\0" + b"\xff" * 8, "size is not a number that fits"),
        (b"\xff" * 12, "size is negative"),
        (b"12x", "size is not a number that fits"),
    ],
)
def test_absurd_sizes(place: Place, size: bytes, match: str) -> None:
    place.refuses(raw("big", b"0", size), match)


@pytest.mark.parametrize("kind", [b"L", b"K", b"x", b"g"])
def test_a_header_that_would_fill_the_memory(place: Place, kind: bytes) -> None:
    place.refuses(raw("x", kind, b"77777777777"), "over the 1 MiB allowed")


def test_global_headers_that_would_fill_the_memory(place: Place) -> None:
    record = b"900000 x=" + b"y" * (900_000 - 10) + b"\n"
    body = record + bytes(-len(record) % 512)
    one = raw("g", b"g", b"%011o" % len(record), body).read()[:-1024]
    place.refuses(io.BytesIO(one * 3 + bytes(1024)), "over 1 MiB")


@pytest.mark.parametrize(
    "body", [b"5 a=b\n", b"99 a=b\n", b"a=b\n", b"6 ab\n\n", b"-1 a=b\n", b"1 \n"]
)
def test_damaged_extended_headers(place: Place, body: bytes) -> None:
    data = body + bytes(512 - len(body))
    place.refuses(raw("x", b"x", b"%011o" % len(body), data), "extended header is damaged")


def test_damaged_maps_of_holes(place: Place) -> None:
    for numbers in ("0,5,3,2", "10,5", "0", "0,99", "5,-1", "9223372036854775807,5"):
        headers = {"GNU.sparse.map": numbers, "GNU.sparse.size": "12"}
        stream = archive(entry("file", data=b"12345", pax_headers=headers))
        place.refuses(stream, "map of its holes is damaged")


def test_an_unknown_type(place: Place) -> None:
    place.refuses(raw("x", b"Z"), "unknown type 'Z'")


# Streams that are not what they should be


def test_a_truncated_archive_names_the_entry_and_the_place(place: Place) -> None:
    whole = archive(*HELLO, entry("big", data=bytes(100_000))).read()
    cut = io.BytesIO(whole[:50_000])
    place.refuses(cut, 'entry "big" at byte 1536: .*truncated: it ends at byte 50000')
    cut = io.BytesIO(whole[:1536])
    place.refuses(cut, 'after entry "etc/hello" at byte 512: .*truncated')
    place.refuses(io.BytesIO(whole[:100]), "truncated")


def test_damage_in_the_middle(place: Place) -> None:
    whole = bytearray(archive(*HELLO).read())
    whole[520] ^= 1
    place.refuses(io.BytesIO(bytes(whole)), "header at byte 512 is damaged")


@pytest.mark.parametrize("packing", ["gzip", "zstd"])
def test_damaged_and_truncated_compression(place: Place, packing: str) -> None:
    if packing == "zstd" and shutil.which("zstd") is None:
        pytest.skip("zstd is not installed")
    data = PACKINGS[packing](archive(*HELLO, entry("big", data=os.urandom(500_000))).read())
    place.refuses(io.BytesIO(data[:-2000]), f"{packing} stream is .*truncated")
    damaged = bytearray(data)
    damaged[-1 if packing == "zstd" else -6] ^= 0xFF
    place.refuses(io.BytesIO(bytes(damaged)), f"{packing} stream is damaged")


@pytest.mark.parametrize(
    ("data", "looks_like"),
    [
        (b"", "the stream is empty"),
        (b"\xfd7zXZ\0", "xz -dc"),
        (b"BZh9", "bzip2"),
        (b"PK\x03\x04", "zip archive"),
        (b"hsqs", "squashfs"),
        (b"\x7fELF", "a program"),
        (b'{"a": 1}', "JSON"),
        (b"<!DOCTYPE html>", "a web page"),
        (b"something else", "starts with .something else"),
    ],
)
def test_what_is_no_archive_is_named(place: Place, data: bytes, looks_like: str) -> None:
    place.refuses(io.BytesIO(data and data + bytes(2000)), looks_like)


def test_short_streams_are_truncated(place: Place) -> None:
    for data in (b"x", b"\x1f\x8b", b"\x28\xb5\x2f\xfd"):
        place.refuses(io.BytesIO(data), "truncated")


def test_an_empty_archive(place: Place) -> None:
    place.refuses(archive(), "has no entries")


def test_a_saved_image_is_not_a_file_system(place: Place) -> None:
    save = archive(entry("manifest.json", data=b"[]"), folder("blobs"), entry("blobs/layer"))
    place.refuses(save, "image archive, as `docker save`.*use `docker export`")
    layout = archive(entry("oci-layout"), entry("index.json"))
    place.refuses(layout, "docker export")


def test_a_manifest_in_a_file_system_is_no_saved_image(place: Place) -> None:
    place.make(archive(*HELLO, entry("manifest.json")))


@pytest.mark.skipif(ROOT, reason="needs an ordinary user: root may have threads without limit")
def test_no_further_thread(place: Place, tmp_path: Path) -> None:
    file = tmp_path / "archive.tar"
    file.write_bytes(archive(*HELLO).read())
    limits = resource.getrlimit(resource.RLIMIT_NPROC)
    resource.setrlimit(resource.RLIMIT_NPROC, (1, limits[1]))
    try:
        for source in (archive(*HELLO), file):
            place.refuses(
                source, "a thread that unpacks: EAGAIN: .*RLIMIT_NPROC", rsc.SystemCallError
            )
    finally:
        resource.setrlimit(resource.RLIMIT_NPROC, limits)
    place.make(file)


@needs_root
def test_a_full_disk(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", small], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no tmpfs can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        with pytest.raises(rsc.SystemCallError, match=r'entry "big".*ENOSPC'):
            Bundle.create(small / "box", rootfs=archive(entry("big", data=bytes(3_000_000))))
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", small], check=True)


def test_a_tree_deeper_than_a_path_is_removed(place: Place) -> None:
    # Each link makes the next folders start where the last ones ended.
    deep = "/".join(["d"] * 1500)
    entries = []
    for level in range(3):
        at = f"l{level - 1}/{deep}" if level else deep
        entries += [folder(at), symlink(f"l{level}", at)]
    place.refuses(archive(*entries, entry("../evil")), "points outside")


# Interruption


INTERRUPTED = """
import os, sys, rscontainer
try:
    rscontainer.Bundle.create(sys.argv[1], rootfs={rootfs})
except KeyboardInterrupt:
    print("interrupted", os.listdir(os.path.dirname(sys.argv[1])))
"""


@pytest.mark.parametrize("rootfs", ["'-'", "open(0, 'rb', 0)", "sys.argv[2]"])
def test_an_interruption_works_at_once_and_leaves_nothing(
    place: Place, tmp_path: Path, rootfs: str
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    code = INTERRUPTED.format(rootfs=rootfs)
    python = subprocess.Popen(
        [sys.executable, "-c", code, place.bundle, fifo],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with python:
        assert python.stdin is not None
        # A stream that stops in the middle, its writer still there.
        stream = archive(*HELLO, entry("big", data=bytes(2_000_000))).read()[:1_000_000]
        if rootfs != "sys.argv[2]":
            python.stdin.write(stream)
            python.stdin.flush()
        deadline = time.monotonic() + 10
        while not any(place.parent.rglob("rootfs")) and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.2)
        started = time.monotonic()
        python.send_signal(signal.SIGINT)
        assert python.stdout is not None
        assert python.stdout.read() == b"interrupted []\n"
        assert time.monotonic() - started < 2


def test_other_threads_go_on_meanwhile(place: Place) -> None:
    reader, writer = os.pipe()
    stream = archive(*HELLO).read()

    def write() -> None:
        time.sleep(0.3)
        with open(writer, "wb") as file:
            file.write(stream)

    thread = threading.Thread(target=write)
    thread.start()
    with open(reader, "rb", buffering=0) as file:
        place.make(file)
    thread.join()


# A folder


@needs_root
def test_a_folder_is_copied_whole(place: Place, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "sub").mkdir(parents=True)
    (tree / "file").write_bytes(os.urandom(200_000))
    os.chown(tree / "file", 5, 6)
    (tree / "file").chmod(0o4711)
    os.setxattr(tree / "file", "user.colour", b"blue")
    os.setxattr(tree / "file", "security.capability", CAPABILITY)
    os.link(tree / "file", tree / "sub/hard")
    (tree / "sub/link").symlink_to("/etc/passwd")
    os.chown(tree / "sub/link", 7, 8, follow_symlinks=False)
    os.mkfifo(tree / "fifo", 0o600)
    os.mknod(tree / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    with (tree / "sparse").open("wb") as file:
        file.seek(50_000_000)
        file.write(b"end")
        file.truncate(60_000_000)
    os.utime(tree / "sub/link", ns=(1, 2), follow_symlinks=False)
    os.utime(tree / "sub", ns=(10**18 + 1, 10**18 + 2))
    (tree / "sub").chmod(0o2550)
    os.utime(tree, ns=(10**18 + 3, 10**18 + 4))
    root = place.make(str(tree))

    def facts(path: Path) -> tuple[Any, ...]:
        found = path.lstat()
        names = os.listxattr(path, follow_symlinks=False)
        xattrs = [(name, os.getxattr(path, name, follow_symlinks=False)) for name in names]
        size = None if path.is_dir() else found.st_size
        owner = (found.st_mode, found.st_uid, found.st_gid)
        return (*owner, found.st_nlink, found.st_rdev, found.st_mtime_ns, size, xattrs)

    for path in [tree, *tree.rglob("*")]:
        assert facts(root / path.relative_to(tree)) == facts(path), path
    assert (root / "file").read_bytes() == (tree / "file").read_bytes()
    assert (root / "sparse").read_bytes() == (tree / "sparse").read_bytes()
    assert (root / "sparse").stat().st_blocks < 100


@needs_root
def test_what_is_mounted_in_a_folder_stays_out(place: Place, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "mounted").mkdir(parents=True)
    (tree / "file").touch()
    script = (
        'mount --bind "$1" "$0/mounted" && mount --bind "$1/secret" "$0/file" && shift 1 && '
        'exec "$@"'
    )
    code = "import sys, rscontainer; rscontainer.Bundle.create(sys.argv[1], rootfs=sys.argv[2])"
    done = subprocess.run(
        [
            "unshare",
            "-m",
            "sh",
            "-c",
            script,
            tree,
            place.outside,
            sys.executable,
            "-c",
            code,
            place.bundle,
            tree,
        ],
        capture_output=True,
        check=False,
    )
    if b"unshare failed" in done.stderr:
        pytest.skip(f"no mount namespace can be made here: {done.stderr.decode().strip()}")
    assert done.returncode == 0, done.stderr
    root = place.bundle / "rootfs"
    assert list((root / "mounted").iterdir()) == []
    assert (root / "file").read_bytes() == b""


def test_a_folder_is_not_copied_into_itself(place: Place) -> None:
    place.refuses(place.parent, "into itself")


# Busybox


@pytest.mark.skipif(
    shutil.which("busybox") is None,
    reason="busybox is not installed: apt-get install busybox-static",
)
def test_busybox(place: Place) -> None:
    root = place.make("busybox")
    applets = subprocess.run(["busybox", "--list"], capture_output=True, text=True, check=True)
    for applet in applets.stdout.split():
        assert (root / "bin" / applet).samefile(root / "bin/busybox")
    for name in ("proc", "sys", "dev", "tmp", "etc", "root", "run", "var/tmp"):
        assert (root / name).is_dir()
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777
    assert "root:x:0:0:" in (root / "etc/passwd").read_text()
    assert "nogroup:x:65534:" in (root / "etc/group").read_text()
    if ROOT:
        command = ["chroot", root, "/bin/sh", "-c", "id -un && id -un nobody && env true"]
        # Of a host whose /bin is /usr/bin, the caller's PATH may name but one of them.
        path = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=path)
        assert done.stdout == "root\nnobody\n"


@pytest.mark.parametrize(
    ("program", "match"),
    [("python3", "dynamically linked.*apt-get install busybox-static"), ("script", "not an ELF")],
)
def test_a_busybox_that_would_not_run(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, match: str
) -> None:
    busybox = tmp_path / "bin/busybox"
    busybox.parent.mkdir()
    if program == "script":
        busybox.write_text("#!/bin/sh\necho sh\n")
    else:
        shutil.copy("/bin/ls", busybox)
    busybox.chmod(0o755)
    monkeypatch.setenv("PATH", str(busybox.parent))
    place.refuses("busybox", match)
