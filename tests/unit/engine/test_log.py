import json
import resource

import anyio
import pytest

from testground.api import rpc
from testground.engine import log
from testground.engine.log import TaskLog


async def _collect(iterator):
    return b"".join([piece async for piece in iterator])


async def test_followers_see_what_was_and_what_comes_then_the_end(tmp_path):
    task_log = TaskLog(tmp_path / "x.out")
    task_log.write(b"early\n")
    heard = {}

    async def follow(name):
        heard[name] = await _collect(task_log.follow())

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow, "a")
            tasks.start_soon(follow, "b")
            await anyio.lowlevel.checkpoint()
            for number in range(1000):
                task_log.write(b"line %d\n" % number)
                if number % 100 == 0:
                    await anyio.lowlevel.checkpoint()
            task_log.close()
    assert heard["a"] == heard["b"] == (tmp_path / "x.out").read_bytes()
    chunks = [json.loads(line) for line in heard["a"].splitlines()]
    assert len(chunks) == 1001 and all(chunk["t"] == 112 for chunk in chunks)


async def test_lines_have_the_console_form(tmp_path):
    task_log = TaskLog(tmp_path / "x.out")
    task_log.info("hello", group="a")
    task_log.close()
    decoder = rpc.ChunkDecoder()
    (chunk,) = decoder.feed(await _collect(log.pieces(tmp_path / "x.out")))
    assert chunk.payload.endswith(b'\t\x1b[34mINFO\x1b[0m\thello\t{"group": "a"}\n')


async def test_reading_an_unfinished_log_gives_whole_lines_only(tmp_path):
    path = tmp_path / "x.out"
    path.write_bytes(rpc.progress(b"whole") + b"\n" + b'{"t":112,"p":"aG')
    assert await _collect(log.pieces(path)) == rpc.progress(b"whole") + b"\n"
    assert await _collect(log.pieces(tmp_path / "none.out")) == b""


async def test_a_full_disk_leaves_no_torn_line(tmp_path):
    """A limit on the file's size stands in for the full disk: the write breaks off in the middle of a line."""
    path = tmp_path / "x.out"
    task_log = TaskLog(path)
    task_log.write(b"before")
    whole = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 5, hard))
    try:
        task_log.write(b"does not fit")
        assert "incomplete: File too large" in task_log.lost
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == whole
    task_log.write(b"after")
    task_log.close()
    assert [chunk.payload for chunk in rpc.ChunkDecoder().feed(path.read_bytes())] == [b"before", b"after"]


@pytest.mark.parametrize("torn", [b'{"t":112,"p":"aG', b"x" * 300_000, b""])
@pytest.mark.parametrize("whole", [b"", rpc.progress(b"before the crash") + b"\n"])
async def test_what_a_crash_left_half_written_does_not_spoil_the_next_line(tmp_path, whole, torn):
    path = tmp_path / "x.out"
    path.write_bytes(whole + torn)
    task_log = TaskLog(path)
    task_log.write(b"after")
    task_log.close()
    assert path.read_bytes() == whole + rpc.progress(b"after") + b"\n"


async def test_a_log_that_somebody_removes_ends_all_the_same(tmp_path):
    task_log = TaskLog(tmp_path / "x.out")
    task_log.write(b"before")
    (tmp_path / "x.out").unlink()
    heard = []

    async def follow():
        heard.append(await _collect(task_log.follow()))

    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await anyio.lowlevel.checkpoint()
            task_log.write(b"after")
            assert not heard
            task_log.close()
    assert heard == [b""]


async def test_a_log_that_cannot_be_opened_is_no_reason_to_fail(tmp_path):
    task_log = TaskLog(tmp_path / "missing" / "x.out")
    task_log.write(b"lost")
    assert task_log.lost == "the log of the task is incomplete: No such file or directory"
    task_log.close()
    assert await _collect(task_log.follow()) == b""


async def test_a_line_longer_than_a_read_comes_whole(tmp_path):
    task_log = TaskLog(tmp_path / "x.out")
    for size in (10, 300_000, 5):
        task_log.write(b"x" * size)
    task_log.close()
    sizes = [len(chunk.payload) for chunk in rpc.ChunkDecoder().feed(await _collect(task_log.follow()))]
    assert sizes == [10, 300_000, 5]
