from __future__ import annotations

import errno
import io
import os
import resource
import shutil
import stat
import subprocess
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testground.errors import SourcesError
from testground.plan.extraction import Limits, unzip

Entry = tuple[str, int, bytes]
FILE, DIR, LINK = stat.S_IFREG | 0o644, stat.S_IFDIR | 0o755, stat.S_IFLNK | 0o777


def info(name: str, mode: int) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo("x")
    made.filename = made.orig_filename = name  # the constructor would tidy it up
    made.create_system = 3
    made.external_attr = mode << 16 | 0x20  # zipfile would take 0 for its own default
    made.compress_type = zipfile.ZIP_DEFLATED
    return made


def zipped(*entries: Entry) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, mode, content in entries:
            archive.writestr(info(name, mode), content)
    return data.getvalue()


def unpack(tmp_path: Path, data: bytes, limits: Limits | None = None) -> Path:
    (tmp_path / "in.zip").write_bytes(data)
    unzip(tmp_path / "in.zip", tmp_path / "out", limits)
    return tmp_path / "out"


def refused(tmp_path: Path, data: bytes, limits: Limits | None = None) -> str:
    """The message; nothing is left, and nothing was written next to the target."""
    with pytest.raises(SourcesError) as caught:
        unpack(tmp_path, data, limits)
    assert sorted(os.listdir(tmp_path)) == ["in.zip"]
    return str(caught.value)


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ([("../evil", FILE, b"")], "the name of entry '../evil' leaves its directory"),
        ([("a/../../evil", FILE, b"")], "the name of entry 'a/../../evil' leaves its directory"),
        ([("a/..", DIR, b"")], "the name of entry 'a/..' leaves its directory"),
        ([("/evil", FILE, b"")], "the name of entry '/evil' is an absolute path"),
        ([("//evil", FILE, b"")], "the name of entry '//evil' is an absolute path"),
        ([("", FILE, b"")], "entry '' has no name"),
        ([("a", FILE, b""), (".", LINK, b"a")], "entry '.' has no name"),
        ([("a\x00b", FILE, b"")], "the name of entry 'a\\x00b' contains a NUL character"),
        ([("x" * 256, FILE, b"")], "is too long"),
        ([("é" * 128, FILE, b"")], "is too long"),
        ([("x/" * 101 + "y", FILE, b"")], "is too long"),
        ([(f"{'x' * 250}/" * 5 + "y", FILE, b"")], "is too long"),
        ([("a", FILE, b"1"), ("a", FILE, b"2")], "entry 'a' is in the archive twice"),
        ([("a", FILE, b"1"), ("./a", FILE, b"2")], "entry './a' is in the archive twice"),
        ([("a", FILE, b"1"), ("b//a", FILE, b""), ("b/a", FILE, b"")], "entry 'b/a' is in the archive twice"),
        ([("a", FILE, b"1"), ("a/", DIR, b"")], "entry 'a/' is in the archive twice"),
        ([("a", FILE, b"1"), ("a/b", FILE, b"2")], "entry 'a' is both a file and a directory"),
        ([("a/b", FILE, b"1"), ("a", FILE, b"2")], "entry 'a' is both a file and a directory"),
        ([("p", stat.S_IFIFO | 0o644, b"")], "entry 'p' is a device, pipe or socket"),
        ([("p", stat.S_IFCHR | 0o644, b"")], "entry 'p' is a device, pipe or socket"),
        ([("l", LINK, b"/etc/passwd")], "symlink 'l' leaves its directory: it points to '/etc/passwd'"),
        ([("l", LINK, b"..")], "symlink 'l' leaves its directory: it points to '..'"),
        ([("d/l", LINK, b"../../x")], "symlink 'd/l' leaves its directory: it points to '../../x'"),
        ([("x", FILE, b""), ("l", LINK, b"../out/x")], "symlink 'l' leaves its directory: it points to '../out/x'"),
        ([("d/e/f", FILE, b""), ("l", LINK, b"m/../../x"), ("m", LINK, b"d")], "symlink 'l' leaves its directory"),
        ([("l", LINK, b"nowhere")], "symlink 'l' leads nowhere: it points to 'nowhere'"),
        ([("l", LINK, b"nowhere/..")], "symlink 'l' leads nowhere: it points to 'nowhere/..'"),
        ([("l", LINK, b"l")], "symlink 'l' leads in a circle"),
        ([("l", LINK, b"m"), ("m", LINK, b"l")], "symlink 'l' leads in a circle"),
        ([("l", LINK, b"x\x00y")], "symlink 'l' leaves its directory"),
        ([("l", LINK, b"x" * 2000)], "symlink 'l' points to a name that is too long"),
        ([("l", LINK, b"d"), ("d/x", FILE, b""), ("l/y", FILE, b"")], "entry 'l' is both a symlink and something else"),
        ([("l/y", FILE, b""), ("d/x", FILE, b""), ("l", LINK, b"d")], "entry 'l' is both a symlink and something else"),
        ([("l", LINK, b"d"), ("d/x", FILE, b""), ("l", FILE, b"evil")], "entry 'l' is in the archive twice"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_bad_entries_are_refused_by_name(tmp_path: Path, entries: list[Entry], text: str) -> None:
    message = refused(tmp_path, zipped(*entries))
    assert text in message
    assert len(message) < 300


def test_modes_are_restored_without_set_id_bits(tmp_path: Path) -> None:
    data = zipped(
        ("d/", stat.S_IFDIR | 0o500, b""),
        ("d/x", stat.S_IFREG | 0o6750, b"x"),
        ("sealed", stat.S_IFREG | 0o111, b""),
        ("plain", 0, b""),
        ("implied/file", FILE, b""),
    )
    out = unpack(tmp_path, data)
    modes = {
        path: oct(stat.S_IMODE((out / path).stat().st_mode)) for path in ("d", "d/x", "sealed", "plain", "implied")
    }
    assert modes == {"d": "0o700", "d/x": "0o750", "sealed": "0o511", "plain": "0o644", "implied": "0o755"}


def test_the_empty_symlinks_of_upstreams_client_become_empty_files(tmp_path: Path) -> None:
    file = unpack(tmp_path, zipped(("l", LINK, b""))) / "l"
    assert not file.is_symlink()
    assert (file.read_bytes(), stat.S_IMODE(file.stat().st_mode)) == (b"", 0o644)


def test_the_empty_symlinks_of_upstreams_client_are_named(tmp_path: Path) -> None:
    (tmp_path / "in.zip").write_bytes(zipped(("z", LINK, b""), ("f", FILE, b""), ("d/l", LINK, b""), ("t", LINK, b"f")))
    assert unzip(tmp_path / "in.zip", tmp_path / "out").hollow == ["d/l", "z"]


def test_links_may_pass_through_each_other(tmp_path: Path) -> None:
    entries = [
        ("a", LINK, b"b/c"),
        ("b", LINK, b"d"),
        ("d/c", LINK, b"../x/./y"),
        ("x/y", FILE, b"hi"),
        ("r", LINK, b"."),
    ]
    out = unpack(tmp_path, zipped(*entries))
    assert (out / "a").read_text() == (out / "r" / "b" / "c").read_text() == "hi"


def test_backslashes_are_just_characters(tmp_path: Path) -> None:
    assert (unpack(tmp_path, zipped(("..\\x", FILE, b"1"))) / "..\\x").read_text() == "1"


def test_future_times_are_now(tmp_path: Path) -> None:
    made = info("x", FILE)
    made.extra = bytes.fromhex("5554050001ffffff7f")
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        archive.writestr(made, b"")
    assert (unpack(tmp_path, data.getvalue()) / "x").stat().st_mtime < 2**31 - 1


# -- archives that are too much ---------------------------------------------------------------------------------


def central(data: bytes, offset: int, value: int, number: int = 0) -> bytes:
    """Overwrite four bytes of the n-th record of the list of entries."""
    start = -1
    for _ in range(number + 1):
        start = data.index(b"PK\x01\x02", start + 1)
    return data[: start + offset] + value.to_bytes(4, "little") + data[start + offset + 4 :]


def test_too_large(tmp_path: Path) -> None:
    data = zipped(("a", FILE, b"x" * 60), ("b", FILE, b"y" * 60))
    assert refused(tmp_path, data, Limits(max_bytes=119)) == "the archive unpacks to 120 bytes; 119 are allowed"
    assert unzip(tmp_path / "in.zip", tmp_path / "out", Limits(max_bytes=120)).size == 120


def test_too_many_entries(tmp_path: Path) -> None:
    data = zipped(*((str(number), FILE, b"") for number in range(11)))
    assert refused(tmp_path, data, Limits(max_entries=10)) == "the archive has 11 entries; 10 are allowed"
    assert len(list(unpack(tmp_path, data, Limits(max_entries=11)).iterdir())) == 11


def test_a_list_of_entries_too_long_to_read_is_refused_unread(tmp_path: Path) -> None:
    data = zipped(*((f"{number:0200}", FILE, b"") for number in range(20)))
    assert refused(tmp_path, data, Limits(max_entries=10)) == "the archive lists more than 10 entries"


def test_the_list_of_a_large_archive_is_measured_too(tmp_path: Path) -> None:
    """An archive with 65,536 entries has its numbers in another record."""
    data = zipped(*((str(number), FILE, b"") for number in range(65_536)))
    assert refused(tmp_path, data, Limits(max_entries=1000)) == "the archive lists more than 1000 entries"
    assert refused(tmp_path, data, Limits(max_entries=60_000)) == "the archive has 65536 entries; 60000 are allowed"


def test_bombs(tmp_path: Path) -> None:
    data = zipped(("zeros", FILE, bytes(100_000)))
    lying = central(data, 24, 1 << 30)
    assert refused(tmp_path, lying) == f"the archive is a bomb: {len(lying)} bytes unpack to {1 << 30}"
    assert unpack(tmp_path, data)


def test_a_bomb_of_overlapping_entries(tmp_path: Path) -> None:
    kernel = os.urandom(10_000)
    data = zipped(("a", FILE, kernel), ("b", FILE, b""))
    size = len(zipped(("a", FILE, kernel))) - 22 - 47 - 31
    data = central(central(central(data, 20, size, 1), 24, 10_000, 1), 42, 0, 1)
    assert refused(tmp_path, data) == "the archive is a bomb: its entries overlap"


def test_sizes_that_lie_are_found_out(tmp_path: Path) -> None:
    assert "cannot unpack 'a': " in refused(tmp_path, central(zipped(("a", FILE, b"x" * 1000)), 24, 10))


# -- archives that are none -------------------------------------------------------------------------------------


def test_other_bytes(tmp_path: Path) -> None:
    for data in (b"", b"PK", b"not a zip" * 100, b"PK\x05\x06", bytes(70_000), b"\x1f\x8b\x08" + bytes(500)):
        assert refused(tmp_path, data).startswith("not a readable zip archive: ")


def test_an_empty_archive_is_an_empty_directory(tmp_path: Path) -> None:
    assert list(unpack(tmp_path, zipped()).iterdir()) == []


def test_encrypted_and_exotic_entries(tmp_path: Path) -> None:
    data = zipped(("a", FILE, b"x" * 100))
    start = data.index(b"PK\x01\x02")
    encrypted = data[: start + 8] + b"\x01" + data[start + 9 :]
    assert refused(tmp_path, encrypted) == "entry 'a' is encrypted"
    lzma = data[: start + 10] + b"\x0e" + data[start + 11 :]
    assert refused(tmp_path, lzma) == "entry 'a' is compressed in a way other than deflate"


GOOD = zipped(
    ("d/", DIR, b""), ("d/text", FILE, b"hello " * 40), ("noise", FILE, bytes(range(256))), ("link", LINK, b"d/text")
)


@pytest.mark.parametrize("cut", range(0, len(GOOD), 7))
def test_truncated(tmp_path: Path, cut: int) -> None:
    assert "not a readable zip archive" in refused(tmp_path, GOOD[:cut])


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4))
def test_damaged_archives_are_refused_or_harmless(changes: list[tuple[int, int]]) -> None:
    data = bytearray(GOOD)
    for place, value in changes:
        data[place] = value
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "in.zip").write_bytes(data)
        try:
            unzip(Path(name) / "in.zip", Path(name) / "out", Limits(max_bytes=1 << 20))
        except SourcesError:
            assert os.listdir(name) == ["in.zip"]
        else:
            assert sorted(os.listdir(name)) == ["in.zip", "out"]


PARTS = st.sampled_from(["a", "b", "..", ".", "", "/"])
PATHS = st.lists(PARTS, min_size=1, max_size=4).map("/".join)


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(PATHS, st.sampled_from([FILE, DIR, LINK]), PATHS), max_size=6))
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_nothing_is_ever_written_or_linked_outside(entries: list[tuple[str, int, str]]) -> None:
    data = zipped(*((path, kind, target.encode()) for path, kind, target in entries))
    with tempfile.TemporaryDirectory() as name:
        base = Path(name, "x", "y")
        base.mkdir(parents=True)
        (base / "in.zip").write_bytes(data)
        try:
            unzip(base / "in.zip", base / "out")
        except SourcesError:
            assert os.listdir(base) == ["in.zip"]
            return
        finally:
            assert os.listdir(name) == ["x"]
            assert os.listdir(Path(name, "x")) == ["y"]
        for directory, names, files in os.walk(base / "out"):
            for entry in names + files:
                assert Path(directory, entry).resolve(strict=True).is_relative_to((base / "out").resolve())


# -- the place it goes to ---------------------------------------------------------------------------------------


def test_a_target_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(SourcesError, match="cannot create .*out: File exists"):
        unpack(tmp_path, GOOD)
    assert (tmp_path / "out" / "mine").exists()


def test_an_interrupted_unpacking_leaves_nothing(tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    (tmp_path / "in.zip").write_bytes(GOOD)
    with pytest.raises(KeyboardInterrupt):
        unzip(tmp_path / "in.zip", tmp_path / "out", checkpoint=interrupt)
    assert os.listdir(tmp_path) == ["in.zip"]


def test_a_file_that_grows_too_large_for_the_system(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    (tmp_path / "in.zip").write_bytes(zipped(("small", FILE, b"x"), ("large", FILE, os.urandom(100_000))))
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        with pytest.raises(SourcesError) as caught:
            unzip(tmp_path / "in.zip", tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert str(caught.value) == f"cannot unpack 'large': {os.strerror(errno.EFBIG).lower()}"
    assert os.listdir(tmp_path) == ["in.zip"]


def test_disk_full(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    if (
        not mount
        or subprocess.run([mount, "-t", "tmpfs", "-o", "size=256k", "tmpfs", disk], capture_output=True).returncode
    ):
        pytest.skip("needs the right to mount a small file system")
    try:
        (tmp_path / "in.zip").write_bytes(zipped(("small", FILE, b"x"), ("large", FILE, os.urandom(1 << 20))))
        with pytest.raises(SourcesError, match="cannot unpack 'large': no space left on device"):
            unzip(tmp_path / "in.zip", disk / "out")
        assert os.listdir(disk) == []
    finally:
        subprocess.run(["umount", disk], check=True)
