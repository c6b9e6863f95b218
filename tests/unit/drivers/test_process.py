import os
import re
import select
import signal
import sys
import threading
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from testground.drivers import process
from testground.drivers.process import LineSplitter


@given(st.binary(), st.lists(st.integers(1, 20)))
def test_lines_do_not_depend_on_the_cuts(data, cuts):
    lines = []
    splitter = LineSplitter(lines.append)
    rest = data
    for cut in cuts:
        splitter.feed(rest[:cut])
        rest = rest[cut:]
    splitter.feed(rest)
    splitter.close()
    expected = data.split(b"\n")
    assert lines == (expected[:-1] if expected[-1] == b"" else expected)


@given(st.lists(st.sampled_from([b"", b"x", b"{", b"{1", b" {", b"y" * 50])), st.lists(st.integers(1, 400)))
def test_skimming_misses_no_wanted_line_and_no_last_one(written, cuts):
    data, lines = b"".join(line + b"\n" for line in written), []
    splitter = LineSplitter(lines.append)
    splitter.skim = re.compile(rb"^\{.*$", re.MULTILINE)
    for cut in cuts:
        splitter.feed(data[:cut])
        data = data[cut:]
    splitter.feed(data)
    splitter.close()
    assert [line for line in lines if line.startswith(b"{")] == [line for line in written if line.startswith(b"{")]
    assert lines[-process.SKIMMED_LINES + 1 :] == written[-process.SKIMMED_LINES + 1 :]


@given(st.binary(max_size=200), st.integers(1, 16))
def test_a_long_line_comes_in_pieces_and_none_is_longer_than_the_limit(data, limit):
    lines = []
    splitter = LineSplitter(lines.append, limit)
    splitter.feed(data)
    splitter.close()
    assert all(len(line) <= limit for line in lines)
    assert b"".join(lines) == data.replace(b"\n", b"")


class Heard:
    def __init__(self):
        self.out, self.err = bytearray(), bytearray()

    async def spawn(self, script: str, tmp_path: Path) -> process.Process:
        return await process.spawn(
            ["/bin/sh", "-c", script],
            env={"PATH": "/usr/bin:/bin"},
            cwd=tmp_path,
            stdout=self.out.extend,
            stderr=self.err.extend,
        )


async def test_output_and_exit_code(tmp_path):
    heard = Heard()
    running = await heard.spawn("echo out; echo err >&2; exit 3", tmp_path)
    with anyio.fail_after(10):
        assert await running.wait() == 3
    assert (heard.out, heard.err) == (b"out\n", b"err\n")


async def test_exactly_the_given_environment(tmp_path):
    heard = Heard()
    running = await process.spawn(
        [sys.executable, "-I", "-c", "import os; print(sorted(os.environ))"],
        env={"ONLY": "this", "LC_ALL": "C.UTF-8"},
        cwd=tmp_path,
        stdout=heard.out.extend,
        stderr=heard.err.extend,
    )
    with anyio.fail_after(10):
        assert await running.wait() == 0
    assert heard.out == b"['LC_ALL', 'ONLY']\n"


async def test_an_instance_is_over_when_its_main_process_is(tmp_path):
    """A child in the background holds the pipes open; it is ended with the group."""
    heard = Heard()
    running = await heard.spawn("sleep 1000 & echo $!", tmp_path)
    with anyio.fail_after(10):
        assert await running.wait() == 0
    assert _ends(int(heard.out))


async def test_stop_is_polite_first(tmp_path):
    heard = Heard()
    running = await heard.spawn("trap 'echo bye; exit 0' TERM; echo ready; sleep 1000 & wait", tmp_path)
    await _until(heard.out, b"ready")
    with anyio.fail_after(10):
        await running.stop(grace=5)
        assert await running.wait() == 0
    assert heard.out == b"ready\nbye\n"


async def test_stop_does_not_ask_twice(tmp_path):
    heard = Heard()
    running = await heard.spawn("trap '' TERM; echo ready; while :; do sleep 1000; done", tmp_path)
    await _until(heard.out, b"ready")
    with anyio.fail_after(10):
        await running.stop(grace=0.1)
        assert await running.wait() == -signal.SIGKILL


async def test_missing_program_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        await process.spawn(
            [str(tmp_path / "no-such-program")], env={}, cwd=tmp_path, stdout=lambda _: None, stderr=lambda _: None
        )


def test_every_thread_may_spawn(tmp_path):
    """An embedded daemon has its loop in a thread."""
    heard = Heard()

    async def main():
        running = await heard.spawn("echo from a thread", tmp_path)
        assert await running.wait() == 0

    process.prepare_loop()
    thread = threading.Thread(target=anyio.run, args=(main,))
    thread.start()
    thread.join(20)
    assert heard.out == b"from a thread\n"


async def _until(buffer: bytearray, text: bytes) -> None:
    with anyio.fail_after(10):
        while text not in buffer:
            await anyio.lowlevel.checkpoint()


def _ends(pid: int) -> bool:
    """A killed process closes its pipes a moment before it has ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    ready, _, _ = select.select([pidfd], [], [], 10)
    os.close(pidfd)
    return bool(ready)
