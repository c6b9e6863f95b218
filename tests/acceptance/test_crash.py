"""The daemon is killed with -9 in the middle of its work: what is left, and what the next daemon makes of it."""

import contextlib
import json
import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from testground.drivers import namespaces
from testground.runners import isolated_network
from tests.namespaces import foreign_namespace, network_namespaces

MANIFEST = """
name = "crash"
[builders."exec:generic"]
artifact = "run.sh"
[runners."local:exec"]
[[testcases]]
name = "hang"
instances = { min = 1, max = 5 }
[[testcases]]
name = "ok"
instances = { min = 1, max = 5 }
"""

RUN = """#!/bin/sh
if [ "$TEST_CASE" = hang ]; then
    setsid sleep 1000 &   # a process that has left the instance's group
    echo "$!" > "$TEST_OUTPUTS_PATH/escaped"
    echo hanging
    sleep 1000
fi
echo '{"event":{"success_event":{"group":"single"}}}'
"""

BUILD = """#!/bin/sh
setsid sh -c 'sleep 1000 > /dev/null 2>&1 & echo $!' > "$TESTGROUND_HOME/build-pids"   # has left the build's group
echo $$ >> "$TESTGROUND_HOME/build-pids"
echo building
sleep 1000
"""

DEADLINE = 60


class Home:
    """A home with one plan, its daemons and its commands."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.daemons: list[subprocess.Popen[str]] = []
        plan = root / "plans" / "crash"
        plan.mkdir(parents=True)
        plan.joinpath("manifest.toml").write_text(MANIFEST)
        plan.joinpath("run.sh").write_text(RUN)
        plan.joinpath("run.sh").chmod(0o755)
        root.joinpath(".env.toml").write_text(
            '[daemon]\nlisten = "localhost:0"\nsync_listen = "127.0.0.1:0"\n[daemon.scheduler]\nworkers = 1\n'
        )

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "TESTGROUND_HOME": str(self.root)}

    def start(self) -> subprocess.Popen[str]:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "testground", "daemon"],
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.daemons.append(daemon)
        seen = ""
        for line in daemon.stdout:
            seen += line
            if "daemon listening" in line:
                return daemon
        raise AssertionError(f"the daemon did not start:\n{seen}")

    def command(self, *arguments: str, check: bool = True) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "testground", *arguments],
            env=self.environment,
            cwd=self.root,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def submit(self, case: str, *options: str) -> str:
        arguments = ("--plan", "crash", "--testcase", case, "--builder", "exec:generic", "--runner", "local:exec")
        output = self.command("run", "single", *arguments, "--instances", "2", *options)
        return re.search(r"run is queued with ID: (\S{20})", output).group(1)

    def end(self, daemon: subprocess.Popen[str], number: int) -> int:
        daemon.send_signal(number)
        code = daemon.wait(DEADLINE)
        daemon.stdout.close()
        return code


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path)
    yield home
    for daemon in home.daemons:
        if daemon.poll() is None:
            home.end(daemon, signal.SIGKILL)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watches processes by pidfd (Linux)")
@pytest.mark.timeout(180)
@pytest.mark.parametrize("option", ["network=host", "sidecar=true", "network=isolated"])
def test_killed_daemon(home, option):
    """Also with instances in namespaces, which end with their processes."""
    if option == "sidecar=true" and (obstacle := anyio.run(namespaces.obstacle, "/etc/hosts")):
        pytest.skip(obstacle)
    if option == "network=isolated":
        possible, why = anyio.run(isolated_network.possible)
        if not possible:
            pytest.skip(why)
    options = ("--run-cfg", option)
    daemon = home.start()
    hanging = home.submit("hang", *options)
    waiting = home.submit("ok")
    escaped = _pids_once_there(home, hanging)
    sidecars = _children(daemon.pid, b"testground.sidecar")
    assert len(sidecars) == (option == "network=isolated")
    watchers = [os.pidfd_open(pid) for pid in (*escaped, *sidecars)]
    home.end(daemon, signal.SIGKILL)
    for watcher in watchers:
        _wait_gone(watcher)

    second = home.start()
    follow = home.command("logs", "--task", waiting, "--follow")
    assert "run finished with outcome = success (single:2/2)" in follow
    kept = home.root.glob(f"data/outputs/local_exec/crash/{hanging}/single/*/run.*")
    assert sorted((file.name, file.read_text()) for file in kept) == 2 * [("run.out", "hanging\n")]
    status = home.command("status", "--task", hanging)
    assert "canceled" in status
    log = home.command("logs", "--task", hanging)
    assert "the daemon was interrupted while the task was processing" in log and "hanging" in log
    home.command("collect", "--runner", "local:exec", "-o", "out.tgz", waiting)
    assert home.root.joinpath("out.tgz").stat().st_size > 0
    assert not list(home.root.glob("data/work/requests/*"))
    assert home.end(second, signal.SIGTERM) == 0
    assert json.loads(home.root.joinpath("data/daemon/daemon.lock").read_text() or "{}").get("pid") != second.pid


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watches processes by pidfd (Linux)")
@pytest.mark.timeout(180)
def test_killed_daemon_and_nobody_to_clean_up(home):
    """Then the next daemon does, and says so. The networks are gone by themselves; others' are left alone."""
    possible, why = anyio.run(isolated_network.possible)
    if not possible:
        pytest.skip(why)
    daemon = home.start()
    hanging = home.submit("hang", "--run-cfg", "network=isolated")
    escaped = _pids_once_there(home, hanging)
    networks = {os.readlink(f"/proc/{pid}/ns/net") for pid in escaped}
    assert len(networks - {os.readlink("/proc/self/ns/net")}) == 2
    [sidecar], [reaper] = (_children(daemon.pid, name) for name in (b"testground.sidecar", b"import reaper"))
    watchers = [os.pidfd_open(pid) for pid in (*escaped, sidecar)]
    with foreign_namespace() as foreign:
        os.kill(reaper, signal.SIGKILL)
        home.end(daemon, signal.SIGKILL)
        _wait_gone(watchers.pop())
        second = home.start()
        for watcher in watchers:
            _wait_gone(watcher)
        left = network_namespaces()
        assert foreign in left and not networks - {os.readlink("/proc/self/ns/net")} & left
    log = home.command("logs", "--task", hanging)
    assert re.search("ended [0-9]+ leftover processes of interrupted runs, and with them their networks", log)
    home.end(second, signal.SIGTERM)


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="watches processes by pidfd (Linux)")
@pytest.mark.timeout(180)
def test_daemon_killed_while_it_builds(home):
    plan = home.root / "plans" / "crash"
    plan.joinpath("build.sh").write_text(BUILD)
    plan.joinpath("manifest.toml").write_text(MANIFEST.replace("artifact =", 'build = ["sh", "build.sh"]\nartifact ='))
    daemon = home.start()
    task_id = home.submit("ok")
    _follow_until(home, task_id, "building", 1)
    watchers = [os.pidfd_open(int(pid)) for pid in home.root.joinpath("build-pids").read_text().split()]
    assert len(watchers) == 2
    home.end(daemon, signal.SIGKILL)
    for watcher in watchers:
        _wait_gone(watcher)
    second = home.start()
    assert "the daemon was interrupted while the task was processing" in home.command("status", "--task", task_id)
    assert [path.name for path in home.root.glob("data/work/*")] == ["requests"]
    assert not list(home.root.glob("data/work/requests/*"))
    home.end(second, signal.SIGTERM)


def _children(parent: int, name: bytes) -> list[int]:
    """Those whose command line contains `name`."""
    children = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone meanwhile
            mine = f"\nPPid:\t{parent}\n" in entry.joinpath("status").read_text()
            if mine and name in entry.joinpath("cmdline").read_bytes():
                children.append(int(entry.name))
    return children


def _pids_once_there(home: Home, run_id: str) -> list[int]:
    """The escaped processes, once both instances have said in the log that they hang."""
    _follow_until(home, run_id, ">> hanging", 2)
    files = home.root.glob(f"data/outputs/local_exec/crash/{run_id}/single/*/escaped")
    return [int(file.read_text()) for file in files]


def _follow_until(home: Home, task_id: str, text: str, times: int) -> None:
    """Until so many lines of the task's log have ended with a text."""
    follower = subprocess.Popen(
        [sys.executable, "-m", "testground", "logs", "--task", task_id, "--follow"],
        env=home.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    seen = 0
    for line in follower.stdout:
        seen += line.rstrip().endswith(text)
        if seen == times:
            break
    follower.kill()
    follower.wait()
    follower.stdout.close()
    assert seen == times, f"{text!r} did not come {times} times"


def _wait_gone(pidfd: int) -> None:

    ready, _, _ = select.select([pidfd], [], [], DEADLINE)
    os.close(pidfd)
    assert ready, "waited for a process of the killed daemon's run to end"
