import json
import resource

import anyio

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
