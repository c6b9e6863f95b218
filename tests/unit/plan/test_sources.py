from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from testground.errors import SourcesError
from testground.plan import sources
from testground.plan.receive import receive


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go during the test."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    return scratch


def directory(path: Path, **files: str) -> Path:
    path.mkdir(parents=True)
    for name, text in files.items():
        (path / name).write_text(text)
    return path


async def test_what_is_packed_is_received(tmp_path: Path, scratch: Path) -> None:
    plan = directory(tmp_path / "plan", main="1", skipped="2")
    (plan / ".testgroundignore").write_text("skipped\n")
    (plan / "main").chmod(0o755)
    (plan / "link").symlink_to("main")
    sdk = directory(tmp_path / "sdk", q="3")
    (sdk / ".testgroundignore").write_text("q\n")
    extra = [directory(tmp_path / "a" / "shared", x="4"), directory(tmp_path / "b" / "tools", y="5")]
    with sources.pack(b'{"composition": {}}', plan, sdk, extra) as upload:
        received = await receive(upload.content_type, _pieces(upload), tmp_path / "req")
    assert received.request == {"composition": {}}
    base = tmp_path / "req"
    assert received.sources
    assert received.sources.wire() == {
        "base_dir": str(base),
        "extra_dir": str(base / "extra"),
        "plan_dir": str(base / "plan"),
        "sdk_dir": str(base / "sdk"),
    }
    found = sorted(str(path.relative_to(base)) for path in base.rglob("*") if not path.is_dir())
    assert found == [
        "extra/shared/x",
        "extra/tools/y",
        "plan/.testgroundignore",
        "plan/link",
        "plan/main",
        "sdk/.testgroundignore",
        "sdk/q",
    ]
    assert (base / "plan" / "main").stat().st_mode & 0o777 == 0o755
    assert os.listdir(scratch) == []


def test_progress_runs_from_the_first_byte_to_the_last(tmp_path: Path) -> None:
    plan = directory(tmp_path / "plan")
    (plan / "noise").write_bytes(os.urandom(300_000))
    calls: list[tuple[int, int]] = []
    with sources.pack(b"{}", plan, on_progress=lambda sent, total: calls.append((sent, total))) as upload:
        pieces = list(upload)
    total = sum(map(len, pieces))
    assert upload.content_length == total
    assert max(map(len, pieces)) <= 64 << 10
    assert [sent for sent, _ in calls] == sorted(sent for sent, _ in calls)
    assert calls[-1] == (total, total)
    assert {size for _, size in calls} == {total}


def test_json_alone(tmp_path: Path) -> None:
    with sources.pack(b"{}\n") as upload:
        body = b"".join(upload)
    assert upload.content_length == len(body)
    assert body.count(b"Content-Disposition") == 1
    assert b"\r\n\r\n{}\n\r\n--" in body


def test_boundaries_differ() -> None:
    with sources.pack(b"{}") as one, sources.pack(b"{}") as other:
        assert one.content_type != other.content_type


@pytest.mark.parametrize("body", [b"{}", b""])
def test_zip_files_are_gone_after_an_error(tmp_path: Path, scratch: Path, body: bytes) -> None:
    plan = directory(tmp_path / "plan", a="1")
    (plan / "bad").symlink_to("/etc/passwd")
    with pytest.raises(SourcesError, match="symlink"), sources.pack(body, plan):
        pass
    with pytest.raises(ZeroDivisionError), sources.pack(body, directory(tmp_path / "good", a="1")):
        assert os.listdir(scratch)
        raise ZeroDivisionError
    assert os.listdir(scratch) == []


def test_no_place_for_zip_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(SourcesError, match="cannot create a temporary directory: No such file"), sources.pack(b"{}"):
        pass


async def _pieces(upload: sources.Upload):  # type: ignore[no-untyped-def]
    for piece in upload:
        yield piece
