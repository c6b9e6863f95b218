from __future__ import annotations

from pathlib import Path

import pytest

from testground.builders import bundle


@pytest.fixture
def package(tmp_path: Path) -> Path:
    package = tmp_path / "checkout" / "testground"
    for name in ("__init__.py", "errors.py", "py.typed", "sdk/__init__.py", "sync/wire.py", "daemon/main.py"):
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        (package / name).write_text(name)
    return package


def test_a_bundle_holds_the_sdk_and_nothing_of_the_daemon(package: Path, tmp_path: Path) -> None:
    bundle.copy(package, tmp_path / "packages")
    files = [file.relative_to(tmp_path / "packages") for file in tmp_path.glob("packages/**/*") if file.is_file()]
    assert sorted(map(str, files)) == [f"testground/{name}" for name in sorted(_NAMES)]


def test_only_what_a_bundle_holds_decides_over_its_name(package: Path) -> None:
    before = bundle.digest(package)
    (package / "daemon" / "main.py").write_text("changed")
    (package / "sdk" / "__pycache__").mkdir()
    (package / "sdk" / "__pycache__" / "x.pyc").write_text("")
    assert bundle.digest(package) == before
    (package / "sdk" / "__init__.py").write_text("changed")
    assert bundle.digest(package) != before


def test_own_package() -> None:
    assert (bundle.own() / "errors.py").is_file()
    assert len(bundle.digest(bundle.own())) == 16


def test_a_linked_sdk_is_a_checkout(package: Path, tmp_path: Path) -> None:
    assert bundle.linked(package.parent) == package
    assert bundle.linked(package) is None
    package.parent.rename(tmp_path / "src")
    assert bundle.linked(tmp_path) == tmp_path / "src" / "testground"


_NAMES = ("__init__.py", "errors.py", "py.typed", "sdk/__init__.py", "sync/wire.py")
