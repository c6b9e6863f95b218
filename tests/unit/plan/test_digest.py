from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from testground.errors import SourcesError
from testground.plan import digest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "d" / "empty").mkdir(parents=True)
    (root / "d" / "file").write_text("content")
    (root / "other").write_text("more")
    (root / "link").symlink_to("other")
    return root


CHANGES: list[Callable[[Path], object]] = [
    lambda root: (root / "d" / "file").write_text("Content"),
    lambda root: (root / "d" / "file").write_text(""),
    lambda root: (root / "d" / "file").rename(root / "d" / "file2"),
    lambda root: (root / "d" / "file").chmod(0o755),
    lambda root: (root / "d" / "file").unlink(),
    lambda root: (root / "d" / "empty").rmdir(),
    lambda root: (root / "new").touch(),
    lambda root: ((root / "link").unlink(), (root / "link").symlink_to("d")),
    lambda root: ((root / "link").unlink(), (root / "link").write_text("other")),
    lambda root: ((root / "link").unlink(), (root / "link").write_text("more")),
    lambda root: (root / "d").rename(root / "e"),
    lambda root: (root / "other").rename(root / "d" / "other"),
    lambda root: ((root / "d" / "empty").rmdir(), (root / "d" / "empty").touch()),
]


@pytest.mark.parametrize("change", range(len(CHANGES)))
def test_any_change_shows(root: Path, change: int) -> None:
    before = digest.digest(root)
    CHANGES[change](root)
    assert digest.digest(root) != before


def test_every_change_gives_another_digest(root: Path, tmp_path: Path) -> None:
    seen = {digest.digest(root)}
    for number, change in enumerate(CHANGES):
        copy = tmp_path / f"copy{number}"
        shutil.copytree(root, copy, symlinks=True)
        change(copy)
        seen.add(digest.digest(copy))
    assert len(seen) == len(CHANGES) + 1


def test_place_times_and_order_do_not_matter(root: Path, tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere" / "copy"
    copy.mkdir(parents=True)
    (copy / "link").symlink_to("other")
    (copy / "other").write_text("more")
    (copy / "d").mkdir()
    (copy / "d" / "file").write_text("content")
    (copy / "d" / "empty").mkdir()
    os.utime(copy / "other", (0, 0))
    assert digest.digest(copy) == digest.digest(root)


def test_contents_cannot_pass_for_names(tmp_path: Path) -> None:
    """Two trees whose names and contents, written one after the other, are the same bytes."""
    for name, files in {
        "one": {"a": "bc", "d": ""},
        "two": {"ab": "c", "d": ""},
        "three": {"a": "b", "c": "d"},
    }.items():
        (tmp_path / name).mkdir()
        for file, text in files.items():
            (tmp_path / name / file).write_text(text)
    assert len({digest.digest(tmp_path / name) for name in ("one", "two", "three")}) == 3


def test_an_empty_directory_and_a_missing_one(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert len(digest.digest(tmp_path / "empty")) == 64
    with pytest.raises(SourcesError, match="cannot read .*nope: No such file"):
        digest.digest(tmp_path / "nope")


def test_caches_of_tools_do_not_count(tmp_path):
    (tmp_path / "main.py").write_text("pass")
    before = digest.digest(tmp_path)
    for name in ("__pycache__", "pkg/__pycache__", ".mypy_cache/3.11"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "x").write_text(name)
    with_directories = digest.digest(tmp_path)
    (tmp_path / "__pycache__" / "x").write_text("other")
    assert digest.digest(tmp_path) == with_directories
    (tmp_path / "pkg" / "x").write_text("counts")
    assert digest.digest(tmp_path) != with_directories
    assert before != with_directories, "the directory pkg is new"
