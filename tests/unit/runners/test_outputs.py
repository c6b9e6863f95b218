import errno
import io
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from testground.config import Home
from testground.errors import RunError, UnknownError
from testground.runners import outputs

RUN = "c0ffee0000000000000g"


@pytest.fixture
def run_directory(tmp_path):
    directory = outputs.directory(Home(tmp_path), "local:exec", "plan", RUN)
    for index in range(2):
        instance = directory / "single" / str(index)
        instance.mkdir(parents=True)
        (instance / "run.out").write_text(f"out {index}\n")
        (instance / "run.err").touch()
    return directory


async def _archive(directory):
    return b"".join([piece async for piece in outputs.archive(directory)])


async def test_l6_layout_is_upstreams(run_directory):
    data = await _archive(run_directory)
    assert data[:2] == b"\x1f\x8b"
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = tar.getnames()
        assert tar.extractfile(f"{RUN}/single/1/run.out").read() == b"out 1\n"
        assert all(member.isfile() or member.isdir() for member in tar)
    assert names == [
        f"{RUN}/.",
        f"{RUN}/single",
        f"{RUN}/single/0",
        f"{RUN}/single/0/run.err",
        f"{RUN}/single/0/run.out",
        f"{RUN}/single/1",
        f"{RUN}/single/1/run.err",
        f"{RUN}/single/1/run.out",
    ]


async def test_big_files_long_names_and_modes(run_directory):
    content = bytes(range(256)) * 4096 + b"odd"
    path = run_directory / "single" / "0" / ("long-" * 40) / "ünï"
    path.parent.mkdir()
    path.write_bytes(content)
    path.chmod(0o755)
    with tarfile.open(fileobj=io.BytesIO(await _archive(run_directory))) as tar:
        member = tar.getmember(f"{RUN}/single/0/{'long-' * 40}/ünï")
        assert member.mode == 0o755
        assert tar.extractfile(member).read() == content


async def test_links_that_leave_the_run_are_left_out(run_directory, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("secret")
    instance = run_directory / "single" / "0"
    (instance / "leaves").symlink_to(secret)
    (instance / "dangles").symlink_to("nowhere")
    (instance / "inside").symlink_to("run.out")
    (instance / "up").symlink_to("..", target_is_directory=True)
    with tarfile.open(fileobj=io.BytesIO(await _archive(run_directory))) as tar:
        names = tar.getnames()
        assert tar.extractfile(f"{RUN}/single/0/inside").read() == b"out 0\n"
    assert not any(name.endswith(("leaves", "dangles", "up")) for name in names)


async def test_what_is_neither_file_nor_directory_and_what_leads_nowhere(run_directory):
    instance = run_directory / "single" / "0"
    (instance / "loop").symlink_to("loop")
    (instance / "there").symlink_to("back")
    (instance / "back").symlink_to("there")
    os.mkfifo(instance / "fifo")
    with tarfile.open(fileobj=io.BytesIO(await _archive(run_directory))) as tar:
        assert [name for name in tar.getnames() if "/0/" in name] == [
            f"{RUN}/single/0/run.err",
            f"{RUN}/single/0/run.out",
        ]


async def test_a_run_under_way_changes_while_it_is_collected(run_directory, monkeypatch):
    """Between the listing and the reading, a file goes, one shrinks, one grows, and a directory goes."""
    instance = run_directory / "single" / "0"
    for name in ("gone", "shrunk", "grown"):
        (instance / name).write_bytes(b"x" * 1000)
    (instance / "tmp").mkdir()
    (instance / "tmp" / "deep").touch()
    listed = list(outputs._entries(run_directory))
    monkeypatch.setattr(outputs, "_entries", lambda _: iter(listed))
    real = outputs._info

    def info(name, status):
        if name.endswith("shrunk"):
            (instance / "shrunk").write_bytes(b"y" * 10)
        return real(name, status)

    monkeypatch.setattr(outputs, "_info", info)
    (instance / "gone").unlink()
    (instance / "grown").write_bytes(b"x" * 5000)
    shutil.rmtree(instance / "tmp")
    with tarfile.open(fileobj=io.BytesIO(await _archive(run_directory))) as tar:
        names = tar.getnames()
        assert tar.extractfile(f"{RUN}/single/0/shrunk").read() == b"y" * 10 + bytes(990)
        assert tar.extractfile(f"{RUN}/single/0/grown").read() == b"x" * 5000
        assert tar.extractfile(f"{RUN}/single/1/run.out").read() == b"out 1\n"
    assert not any("gone" in name or "deep" in name for name in names)


async def test_what_cannot_be_read_is_named(run_directory, monkeypatch):
    """Nothing is left out in silence. Root may read everything, so the refusal is played."""

    def refuse(self, *args):
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(RunError, match=r"^cannot read .*/single/0/run.err: Permission denied$"):
        await _archive(run_directory)


def test_find_needs_exactly_one(run_directory, tmp_path):
    home = Home(tmp_path)
    assert outputs.find(home, "local:exec", RUN) == run_directory
    with pytest.raises(UnknownError, match="run ID nosuch not found with runner local:exec"):
        outputs.find(home, "local:exec", "nosuch")
    outputs.directory(home, "local:exec", "other", RUN).mkdir(parents=True)
    with pytest.raises(UnknownError):
        outputs.find(home, "local:exec", RUN)
