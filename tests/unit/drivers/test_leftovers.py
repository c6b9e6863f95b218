import os
import signal
import subprocess
import sys

from testground.api import xid
from testground.drivers import leftovers
from testground.drivers.reaper import Reaper


def _sleeper(run_id: str, *, escaped: bool = False, mark: str = "TEST_RUN") -> subprocess.Popen[bytes]:
    env = {**os.environ, mark: run_id}
    return subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); import time; time.sleep(1000)"],
        env=env,
        start_new_session=escaped,
        stdout=subprocess.PIPE,
    )


def _ready(*processes: subprocess.Popen[bytes]) -> None:
    for running in processes:
        assert running.stdout.readline() == b"\n"


def _end(running: subprocess.Popen[bytes]) -> int:
    code = running.wait(10)
    running.stdout.close()
    return code


def test_only_processes_of_the_run_are_ended():
    mine, other = xid.new(), xid.new()
    a, b, c = _sleeper(mine), _sleeper(mine, escaped=True), _sleeper(other)
    try:
        _ready(a, b, c)
        assert sorted(leftovers.kill([mine])) == sorted([a.pid, b.pid])
        assert _end(a) == _end(b) == -signal.SIGKILL
        assert c.poll() is None
    finally:
        c.kill()
        _end(c)


def test_tools_of_a_task_are_found_and_what_only_mentions_it_is_not():
    task_id = xid.new()
    tool = _sleeper(task_id, mark="TESTGROUND_TASK")
    bystander = _sleeper(f"x TEST_RUN={task_id} y", mark="COMMAND")
    try:
        _ready(tool, bystander)
        assert leftovers.kill([task_id]) == [tool.pid]
        _end(tool)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        _end(bystander)


def test_nothing_to_do():
    assert leftovers.kill([]) == []
    assert leftovers.kill([xid.new()]) == []


def test_reaper_cleans_up_when_its_daemon_is_gone(tmp_path):
    """The daemon here is a process that is killed with -9."""
    kept, lost = xid.new(), xid.new()
    for name in (kept, lost):
        (tmp_path / name).mkdir()
    script = (
        "import pathlib, sys, time\n"
        "from testground.drivers.reaper import Reaper\n"
        "reaper, base = Reaper(), pathlib.Path(sys.argv[1])\n"
        "for run in sys.argv[2:]: reaper.watch(run, base / run)\n"
        "reaper.forget(sys.argv[2])\n"
        "print(reaper._process.pid, flush=True)\n"
        "time.sleep(1000)\n"
    )
    daemon = subprocess.Popen([sys.executable, "-c", script, str(tmp_path), kept, lost], stdout=subprocess.PIPE)
    survivor, victim = _sleeper(kept), _sleeper(lost, escaped=True)
    try:
        _ready(survivor, victim)
        reaper_pid = int(daemon.stdout.readline())
        watcher = os.pidfd_open(reaper_pid)
        daemon.kill()
        _end(daemon)
        assert _end(victim) == -signal.SIGKILL
        _wait_gone(watcher)
        assert survivor.poll() is None
        assert (tmp_path / kept).is_dir() and not (tmp_path / lost).exists()
    finally:
        survivor.kill()
        _end(survivor)


def test_closing_the_reaper_ends_it(tmp_path):
    reaper, task_id = Reaper(), xid.new()
    reaper.watch(task_id, tmp_path / "gone")
    pid = reaper._process.pid
    reaper.close()
    assert os.path.exists(f"/proc/{pid}"), "it still watches"
    reaper.forget(task_id)
    reaper.close()
    assert not os.path.exists(f"/proc/{pid}")


def test_a_reaper_that_was_ended_is_replaced(tmp_path):
    reaper, first, second = Reaper(), xid.new(), xid.new()
    reaper.watch(first, tmp_path)
    reaper._process.kill()
    reaper._process.wait(10)
    reaper.forget(xid.new())
    reaper.watch(second)
    assert reaper._process.poll() is None and reaper._watched == {first: tmp_path, second: None}
    for task_id in (first, second):
        reaper.forget(task_id)
    reaper.close()


def test_a_reaper_does_not_look_for_modules_where_the_daemon_stands(tmp_path):
    for name in ("signal", "shutil", "testground"):
        tmp_path.joinpath(f"{name}.py").write_text("raise SystemExit('the wrong module')")
    lost, victim_directory = xid.new(), tmp_path / "victim"
    victim_directory.mkdir()
    script = (
        "import pathlib, sys\n"
        "from testground.drivers.reaper import Reaper\n"
        "reaper = Reaper()\n"
        "reaper.watch(sys.argv[1], pathlib.Path(sys.argv[2]))\n"
        "print(reaper._process.pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    daemon = subprocess.Popen(
        [sys.executable, "-P", "-c", script, lost, str(victim_directory)],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    watcher = os.pidfd_open(int(daemon.stdout.readline()))
    daemon.kill()
    daemon.stdin.close()
    _end(daemon)
    _wait_gone(watcher)
    assert not victim_directory.exists()


def _wait_gone(pidfd: int) -> None:
    import select

    ready, _, _ = select.select([pidfd], [], [], 10)
    os.close(pidfd)
    assert ready, "waited 10 s for the reaper to end"
