from __future__ import annotations

import os
import socket
import stat
import tempfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testground.errors import SourcesError
from testground.plan import archive, digest, extraction, ignore

Tree = dict[str, tuple[str, int, bytes]]
"""Path → `d`, `f` or `l`; mode; contents or link text."""

NAMES = st.text(st.characters(exclude_characters="/\x00", exclude_categories=["Cs"]), min_size=1, max_size=8).filter(
    lambda name: name not in (".", "..")
)
MODES = st.sampled_from([0o644, 0o755, 0o600, 0o700, 0o444, 0o664])


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Directories, files, and links to any of them; all links stay inside."""
    directories, tree = [""], Tree()
    for name in draw(st.lists(NAMES, max_size=4, unique=True)):
        path = os.path.join(draw(st.sampled_from(directories)), name)
        directories.append(path)
        tree[path] = ("d", draw(st.sampled_from([0o755, 0o700, 0o777])), b"")
    for name in draw(st.lists(NAMES, max_size=5, unique=True)):
        path = os.path.join(draw(st.sampled_from(directories)), name)
        tree.setdefault(path, ("f", draw(MODES), draw(st.binary(max_size=300))))
    for name in draw(st.lists(NAMES, max_size=3, unique=True)):
        parent = draw(st.sampled_from(directories))
        target = draw(st.sampled_from(sorted({*tree, *directories})))
        text = os.path.relpath(f"/{target}", f"/{parent}")
        tree.setdefault(os.path.join(parent, name), ("l", 0o777, text.encode()))
    return tree


def build(root: Path, tree: Tree) -> Path:
    root.mkdir(parents=True)
    for path, (kind, mode, data) in sorted(tree.items(), key=lambda item: item[0].count("/")):
        if kind == "d":
            (root / path).mkdir()
        elif kind == "f":
            (root / path).write_bytes(data)
        else:
            (root / path).symlink_to(data.decode())
        if kind != "l":
            (root / path).chmod(mode)
    return root


def describe(root: Path) -> Tree:
    found = Tree()
    for directory, names, files in os.walk(root):
        for name in names + files:
            file = Path(directory, name)
            path, mode = str(file.relative_to(root)), stat.S_IMODE(file.lstat().st_mode)
            if file.is_symlink():
                found[path] = ("l", 0o777, os.readlink(file).encode())
            else:
                found[path] = ("d", mode, b"") if file.is_dir() else ("f", mode, file.read_bytes())
    return found


def packed(tmp_path: Path, root: Path, rules: ignore.Ignore | None = None) -> Path:
    archive.write_zip(root, tmp_path / "out.zip", rules)
    return tmp_path / "out.zip"


def names(file: Path) -> list[str]:
    with zipfile.ZipFile(file) as opened:
        return opened.namelist()


@settings(deadline=None, max_examples=60)
@given(trees())
def test_names_modes_links_and_contents_come_back(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as name:
        tmp_path = Path(name)
        root = build(tmp_path / "in", tree)
        unpacked = extraction.unzip(packed(tmp_path, root), tmp_path / "out")
        assert describe(tmp_path / "out") == tree
        assert unpacked.size == sum(len(data) for kind, _, data in tree.values() if kind == "f")
        assert unpacked.hollow == []
        assert digest.digest(tmp_path / "out") == digest.digest(root)


def test_order_and_directory_entries(tmp_path: Path) -> None:
    tree: Tree = {
        "b": ("d", 0o755, b""),
        "a.txt": ("f", 0o644, b""),
        "b/z": ("f", 0o644, b""),
        "b/.h": ("f", 0o644, b""),
    }
    root = build(tmp_path / "in", tree | {"b/e": ("d", 0o755, b""), "c": ("f", 0o644, b"")})
    assert names(packed(tmp_path, root)) == ["a.txt", "b/", "b/.h", "b/e/", "b/z", "c"]


def test_compressed_files_are_stored(tmp_path: Path) -> None:
    root = build(tmp_path / "in", {"a.PNG": ("f", 0o644, b"0" * 999), "a.txt": ("f", 0o644, b"0" * 999)})
    with zipfile.ZipFile(packed(tmp_path, root)) as opened:
        kinds = {info.filename: info.compress_type for info in opened.infolist()}
    assert kinds == {"a.PNG": zipfile.ZIP_STORED, "a.txt": zipfile.ZIP_DEFLATED}


def test_set_id_bits_are_dropped_and_times_kept(tmp_path: Path) -> None:
    root = build(tmp_path / "in", {"a": ("f", 0o755, b"x"), "ancient": ("f", 0o644, b"")})
    (root / "a").chmod(0o6755)
    os.utime(root / "a", (1_600_000_001, 1_600_000_001))
    os.utime(root / "ancient", (0, 0))
    extraction.unzip(packed(tmp_path, root), tmp_path / "out")
    status = (tmp_path / "out" / "a").stat()
    assert stat.S_IMODE(status.st_mode) == 0o755
    assert status.st_mtime == 1_600_000_001


def test_a_plan_that_is_a_symlink_is_packed_as_what_it_points_to(tmp_path: Path) -> None:
    build(tmp_path / "real", {"x": ("f", 0o644, b""), "y": ("l", 0o777, b"x")})
    (tmp_path / "linked").symlink_to("real")
    assert names(packed(tmp_path, tmp_path / "linked")) == ["x", "y"]


def test_links_that_hold_in_this_place_only_are_made_relative(tmp_path: Path) -> None:
    root = build(tmp_path / "in", {"sub": ("d", 0o755, b""), "sub/x": ("f", 0o644, b"hi"), "dir": ("d", 0o755, b"")})
    (root / "dir" / "absolute").symlink_to(root / "sub" / "x")
    (root / "dir" / "around").symlink_to("../../in/sub/x")
    (root / "self").symlink_to(".")
    (root / "dir" / "up").symlink_to("..")
    (root / "via").symlink_to("dir/up/sub/x")
    extraction.unzip(packed(tmp_path, root), tmp_path / "out")
    out = tmp_path / "out"
    links = {path: data.decode() for path, (kind, _, data) in describe(out).items() if kind == "l"}
    assert links == {
        "dir/absolute": "../sub/x",
        "dir/around": "../sub/x",
        "dir/up": "..",
        "self": ".",
        "via": "dir/up/sub/x",
    }
    assert (out / "via").read_text() == (out / "dir" / "around").read_text() == "hi"


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("../outside", "leaves"),
        ("/etc/passwd", "leaves"),
        ("..", "leaves"),
        ("hop", "leaves"),
        ("nowhere", "leads nowhere"),
        ("bad", "leads nowhere"),
    ],
)
def test_links_that_leave_or_lead_nowhere_are_refused_by_name(tmp_path: Path, target: str, problem: str) -> None:
    (tmp_path / "outside").write_text("secret")
    root = build(tmp_path / "in", {"zhop": ("l", 0o777, b"../outside"), "bad": ("l", 0o777, target.encode())})
    if target == "hop":
        (root / "hop").symlink_to("../outside")
    with pytest.raises(SourcesError) as caught:
        packed(tmp_path, root)
    assert f"symlink {root / 'bad'} {problem}" in str(caught.value)
    assert f"it points to {target}" in str(caught.value)
    assert ".testgroundignore" in str(caught.value)


def test_links_and_ignored_files(tmp_path: Path) -> None:
    tree: Tree = {"bad": ("l", 0o777, b"/etc/passwd"), "keep": ("l", 0o777, b"d/x"), "d": ("d", 0o755, b"")}
    root = build(tmp_path / "in", tree | {"d/x": ("f", 0o644, b"")})
    assert names(packed(tmp_path, root, ignore.Ignore(["bad"]))) == ["d/", "d/x", "keep"]
    with pytest.raises(SourcesError, match=r"keep points to d/x, which .testgroundignore leaves out"):
        packed(tmp_path, root, ignore.Ignore(["bad", "d/"]))
    assert names(packed(tmp_path, root, ignore.Ignore(["bad", "d", "keep"]))) == []


def test_pipes_and_sockets_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = build(tmp_path / "in", {"d": ("d", 0o755, b"")})
    os.mkfifo(root / "d" / "pipe")
    with pytest.raises(SourcesError, match=r"in/d/pipe is a device, pipe or socket"):
        packed(tmp_path, root)
    (root / "d" / "pipe").unlink()
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(SourcesError, match=r"in/socket is a device, pipe or socket"):
            packed(tmp_path, root)
        assert names(packed(tmp_path, root, ignore.Ignore(["socket"]))) == ["d/"]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourcesError, match="nope: it is not a directory"):
        packed(tmp_path, tmp_path / "nope")


def test_files_without_permission_are_named() -> None:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o777)
        root = build(Path(name) / "in", {"secret": ("f", 0o000, b"")})
        user = os.geteuid()
        try:
            if user == 0:  # root can read everything
                os.seteuid(65534)
            with pytest.raises(SourcesError, match="in/secret: Permission denied"):
                archive.write_zip(root, Path(name) / "out.zip")
        finally:
            os.seteuid(user)


def test_names_that_are_not_utf8_are_refused(tmp_path: Path) -> None:
    root = build(tmp_path / "in", {})
    try:
        Path(os.fsdecode(os.fsencode(root) + b"/\xff")).touch()
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    with pytest.raises(SourcesError, match=r"\\xff' is not UTF-8"):
        packed(tmp_path, root)


def test_disk_full_while_packing(tmp_path: Path) -> None:
    root = build(tmp_path / "in", {"a": ("f", 0o644, os.urandom(1 << 20))})
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full here")
    with pytest.raises(SourcesError, match="No space left on device"):
        archive.write_zip(root, Path("/dev/full"))


def test_several_directories_keep_their_names(tmp_path: Path) -> None:
    build(tmp_path / "one" / "shared", {"x.txt": ("f", 0o600, b"x"), "l": ("l", 0o777, b"x.txt")})
    build(tmp_path / "two" / "common-v2", {"y": ("f", 0o644, b"")})
    (tmp_path / "common").symlink_to(tmp_path / "two" / "common-v2")
    archive.write_zip_of([tmp_path / "one" / "shared", tmp_path / "common"], tmp_path / "extra.zip")
    assert names(tmp_path / "extra.zip") == ["shared/", "shared/l", "shared/x.txt", "common/", "common/y"]
    with pytest.raises(SourcesError, match="two extra sources have the name shared"):
        archive.write_zip_of([tmp_path / "one" / "shared"] * 2, tmp_path / "extra.zip")
