from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import anyio
import pytest

from testground.api import xid
from testground.drivers import leftovers, reaper, tools
from testground.drivers.tools import run_tool


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] != "Z"


async def gone(pid: int) -> None:
    """A killed orphan vanishes when init reaps it; there is no event for that."""
    with anyio.fail_after(5):
        while alive(pid):
            await anyio.lowlevel.checkpoint()


async def test_merges_both_streams_in_order_and_returns_the_exit_code() -> None:
    result = await run_tool(["sh", "-c", "echo one; echo two >&2; echo three; exit 3"])
    assert (result.returncode, result.output) == (3, b"one\ntwo\nthree\n")


async def test_a_signal_gives_a_negative_code() -> None:
    assert (await run_tool(["sh", "-c", "kill -9 $$"])).returncode == -signal.SIGKILL


async def test_lines_arrive_whole_and_the_last_one_without_its_end() -> None:
    heard: list[bytes] = []
    code = "import os\nfor part in (b'a', b'bc\\nd', b'e'): os.write(1, part)"
    await run_tool(python(code), output=heard.append)
    assert b"".join(heard) == b"abc\nde"
    assert all(b"\n" not in data[:-1] for data in heard)
    assert heard[-1] == b"de"


async def test_lines_arrive_while_the_tool_runs(tmp_path: Path) -> None:
    """The tool ends only after its line was heard."""
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def heard(data: bytes) -> None:
        assert data == b"waiting\n"
        gate.open("w").close()

    with anyio.fail_after(10):
        result = await run_tool(["sh", "-c", f"echo waiting; read x < {gate}; exit 4"], output=heard)
    assert result.returncode == 4


async def test_an_endless_line_is_passed_on_in_pieces() -> None:
    sizes: list[int] = []
    await run_tool(python("print('x' * 500_000, end='')"), output=lambda data: sizes.append(len(data)))
    assert sum(sizes) == 500_000
    assert len(sizes) > 1


async def test_only_the_end_of_a_flood_is_kept() -> None:
    total = 0

    def count(data: bytes) -> None:
        nonlocal total
        total += len(data)

    result = await run_tool(python("for _ in range(5000): print('y' * 999)\nprint('end')"), output=count)
    assert len(result.output) == tools.KEPT_BYTES
    assert result.output.endswith(b"y\nend\n")
    assert total == 5_000_004


async def test_environment_directory_and_stdin(tmp_path: Path) -> None:
    result = await run_tool(["/bin/sh", "-c", "pwd; echo $A; cat"], cwd=tmp_path, env={"A": "b c", "PATH": "/bin"})
    assert result.output.decode().splitlines() == [str(tmp_path), "b c"]


async def test_no_shell_sees_the_arguments() -> None:
    assert (await run_tool(["echo", "$HOME; false"])).output == b"$HOME; false\n"


async def test_a_missing_program_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="no-such-tool"):
        await run_tool(["no-such-tool"])


async def test_a_file_that_cannot_be_executed(tmp_path: Path) -> None:
    tool = tmp_path / "tool"
    tool.write_text("")
    with pytest.raises(PermissionError):
        await run_tool([tool])


async def test_an_error_of_the_sink_is_raised_after_the_end() -> None:
    def refuse(data: bytes) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        await run_tool(["echo", "x"], output=refuse)


async def test_cancelling_ends_the_whole_group(tmp_path: Path) -> None:
    pids: list[int] = []
    with anyio.fail_after(20), anyio.CancelScope() as scope:

        def heard(data: bytes) -> None:
            pids.extend(map(int, data.split()))
            scope.cancel()

        await run_tool(["sh", "-c", "sleep 100 & echo $$ $!; wait"], output=heard)
    assert scope.cancelled_caught
    assert len(pids) == 2
    for pid in pids:
        await gone(pid)


async def test_cancelling_gives_a_chance_to_clean_up(tmp_path: Path) -> None:
    with anyio.fail_after(20), anyio.CancelScope() as scope:
        script = f"trap 'echo cleaned > {tmp_path}/out; exit' TERM; echo ready; sleep 100 & wait"
        await run_tool(["sh", "-c", script], output=lambda _: scope.cancel())
    assert (tmp_path / "out").read_text() == "cleaned\n"


async def test_a_tool_that_ignores_sigterm_is_killed_after_the_grace() -> None:
    pids: list[int] = []
    with anyio.fail_after(20), anyio.CancelScope() as scope:

        def heard(data: bytes) -> None:
            pids.append(int(data))
            scope.cancel()

        code = "import os, signal\nsignal.signal(15, signal.SIG_IGN)\nprint(os.getpid(), flush=True)\nsignal.pause()"
        await run_tool(python(code + "\nsignal.pause()"), output=heard, grace=0.2)
    await gone(pids[0])


async def test_what_a_tool_leaves_running_is_killed() -> None:
    with anyio.fail_after(20):
        result = await run_tool(["sh", "-c", "sleep 100 & echo $!"])
    assert result.returncode == 0
    await gone(int(result.output))


async def test_a_background_process_in_a_session_of_its_own_does_not_hold_up_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tools, "DRAIN_SECONDS", 0.2)
    code = (
        "import os, signal\nready, done = os.pipe()\n"
        "if os.fork():\n os.close(done)\n os.read(ready, 1)\n os._exit(0)\n"
        "os.setsid()\nprint(os.getpid(), flush=True)\nos.close(done)\nsignal.pause()"
    )
    with anyio.fail_after(20):
        result = await run_tool(python(code))
    os.kill(int(result.output), signal.SIGKILL)
    assert result.returncode == 0


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks into the environment of processes")
async def test_what_outlives_the_tools_of_a_task_is_found_by_the_task() -> None:
    task_id, reset = xid.new(), tools.task.set("")
    tools.task.set(task_id)
    try:
        escape = 'echo $(setsid sh -c "sleep 100 > /dev/null 2>&1 & echo \\$!") $TESTGROUND_TASK'
        result = await run_tool(["sh", "-c", escape])
        escaped, seen = result.output.split()
        assert seen.decode() == task_id
        assert leftovers.kill([task_id]) == [int(escaped)]
    finally:
        tools.task.reset(reset)
        reaper.shared.forget(task_id)
        reaper.shared.close()


def test_works_on_a_loop_in_another_thread() -> None:
    results: list[bytes] = []

    async def main() -> None:
        results.append((await run_tool(["echo", "from a thread"])).output)

    thread = threading.Thread(target=anyio.run, args=(main,))
    thread.start()
    thread.join(20)
    assert results == [b"from a thread\n"]
