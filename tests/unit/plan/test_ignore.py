from __future__ import annotations

from pathlib import Path

import pytest

from testground.errors import SourcesError
from testground.plan import ignore, tree

FIXTURE = ["a", "b/c", "b/d", "b/file.out", "b/file.txt", "d/file.txt", "z.out", ".hidden", ".testgroundignore"]


def kept(root: Path, patterns: str, files: list[str]) -> list[str]:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    (root / ignore.FILE).write_text(patterns)
    entries = tree.walk(root, ignore.load(root))
    return [entry.path + "/" * entry.is_directory for entry in entries if entry.path != ignore.FILE]


def test_l8_upstream_fixtures(tmp_path: Path) -> None:
    assert kept(tmp_path, "a\nc\nb/d\n*.out\n", FIXTURE) == [".hidden", "b/", "b/file.txt", "d/", "d/file.txt"]


@pytest.mark.parametrize(
    ("patterns", "left"),
    [
        ("# all of it\n\n", ["d/", "d/e/", "d/e/y", "d/x", "x", "y"]),
        ("  x \r\n", ["d/", "d/e/", "d/e/y", "y"]),
        ("/x", ["d/", "d/e/", "d/e/y", "d/x", "y"]),
        ("d/", ["x", "y"]),
        ("x/", ["d/", "d/e/", "d/e/y", "d/x", "x", "y"]),
        ("d\n!d/x", ["x", "y"]),
        ("d/*\n!d/x", ["d/", "d/x", "x", "y"]),
        ("d/**\n!d/x", ["d/", "d/x", "x", "y"]),
        ("**/y", ["d/", "d/e/", "d/x", "x"]),
        ("d/**/y", ["d/", "d/e/", "d/x", "x", "y"]),
        ("*\n!y", ["y"]),
        ("?", []),
        ("[x]", ["d/", "d/e/", "d/e/y", "y"]),
        ("e/y", ["d/", "d/e/", "d/e/y", "d/x", "x", "y"]),
        ("!x\nx", ["d/", "d/e/", "d/e/y", "y"]),
    ],
)
def test_patterns(tmp_path: Path, patterns: str, left: list[str]) -> None:
    assert kept(tmp_path, patterns, ["x", "y", "d/x", "d/e/y"]) == left


def test_no_file_no_rules(tmp_path: Path) -> None:
    assert ignore.load(tmp_path) is None


@pytest.mark.parametrize("pattern", ["!", "[z-a]", "\\"])
def test_bad_patterns_name_their_line(tmp_path: Path, pattern: str) -> None:
    (tmp_path / ignore.FILE).write_text(f"ok\n{pattern}\n")
    with pytest.raises(SourcesError, match=r"\.testgroundignore: line 2: "):
        ignore.load(tmp_path)


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    (tmp_path / ignore.FILE).write_bytes(b"ok\n\xff\n")
    with pytest.raises(SourcesError, match=r"\.testgroundignore: not UTF-8 \(at line 2\)"):
        ignore.load(tmp_path)
    (tmp_path / ignore.FILE).unlink()
    (tmp_path / ignore.FILE).mkdir()
    with pytest.raises(SourcesError, match="Is a directory"):
        ignore.load(tmp_path)
