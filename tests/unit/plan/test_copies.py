from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from testground.errors import SourcesError
from testground.plan import archive, ignore


def packed(root: Path) -> dict[str, tuple[str, int]]:
    """Contents and mode of what is packed without links, by path."""
    target = root.parent / "out.zip"
    archive.write_zip(root, target, ignore.load(root), keep_links=False)
    with zipfile.ZipFile(target) as file:
        return {item.filename: (file.read(item).decode(), item.external_attr >> 16) for item in file.infolist()}


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    root = tmp_path / "plan"
    (root / "lib" / "deep").mkdir(parents=True)
    (root / "lib" / "deep" / "run").write_text("deep")
    (root / "lib" / "deep" / "run").chmod(0o755)
    (root / "lib" / "near").symlink_to("deep/run")
    return root


def test_a_link_to_a_file_is_packed_as_the_file(plan: Path) -> None:
    (plan / "run").symlink_to("lib/near")
    files = packed(plan)
    assert files["run"] == files["lib/near"] == files["lib/deep/run"] == ("deep", 0o100755)


def test_a_link_to_a_directory_is_packed_with_all_that_is_in_it(plan: Path) -> None:
    (plan / "alias").symlink_to("lib")
    files = packed(plan)
    assert {path for path in files if path.startswith("alias")} == {
        "alias/",
        "alias/deep/",
        "alias/deep/run",
        "alias/near",
    }
    assert files["alias/near"] == ("deep", 0o100755)
    assert files["alias/"] == files["lib/"]


def test_what_is_ignored_is_not_packed_through_a_link(plan: Path) -> None:
    (plan / "lib" / "secret").write_text("1")
    (plan / "alias").symlink_to("lib")
    (plan / ".testgroundignore").write_text("secret\n")
    assert not [path for path in packed(plan) if "secret" in path]


@pytest.mark.parametrize(
    ("links", "message"),
    [
        ({"here": "."}, "leads to a directory that holds it"),
        ({"lib/up": "../lib"}, "leads to a directory that holds it"),
        ({"one/two": "../two", "two/one": "../one"}, "leads to a directory that holds it"),
        ({"away": "/"}, "leaves"),
        ({"lost": "nothing"}, "leads nowhere"),
    ],
)
def test_a_link_of_which_no_copy_can_be_made_is_refused(plan: Path, links: dict[str, str], message: str) -> None:
    for path, text in links.items():
        (plan / path).parent.mkdir(exist_ok=True)
        (plan / path).symlink_to(text)
    with pytest.raises(SourcesError, match=f"symlink .* {message}"):
        packed(plan)


def test_links_of_extra_sources_are_packed_as_copies(plan: Path, tmp_path: Path) -> None:
    archive.write_zip_of([plan], tmp_path / "extra.zip", keep_links=False)
    with zipfile.ZipFile(tmp_path / "extra.zip") as file:
        assert file.read("plan/lib/near") == b"deep"
