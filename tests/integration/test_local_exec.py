"""The runner with real processes and a real sync service: verdicts, faults, and what is left behind (nothing)."""

import os
import resource
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from testground import config
from testground.api import xid
from testground.api.task import Outcome
from testground.config import Home
from testground.drivers import leftovers, reaper
from testground.errors import RunError
from testground.plugins import RunGroupInput, RunInput, Stop
from testground.runners import local_exec
from testground.runners.local_exec import LocalExec, LocalExecConfig
from testground.sync.server import open_server
from testground.sync.service import Service

OK = """echo '{"event":{"success_event":{"group":"g"}}}'\n"""


class Notes:
    """An Output that keeps everything and can be waited for."""

    def __init__(self):
        self.text = ""
        self.counts: list[tuple[str, dict[str, int]]] = []
        self._more = anyio.Event()

    async def until(self, text: str) -> None:
        with anyio.fail_after(15):
            while text not in self.text:
                await self._more.wait()

    def info(self, message, **fields):
        self._add(f"INFO {message} {fields}\n")

    def warn(self, message, **fields):
        self._add(f"WARN {message} {fields}\n")

    def error(self, message, **fields):
        self._add(f"ERROR {message} {fields}\n")

    def write(self, data):
        self._add(data.decode())

    def states(self, group, counts):
        self.counts.append((group, counts))

    def _add(self, text):
        self.text += text
        more, self._more = self._more, anyio.Event()
        more.set()


class Bench:
    """Runs shell and Python scripts as instances."""

    def __init__(self, tmp_path: Path) -> None:
        self.env = config.load(Home(tmp_path / "home"))
        self.tmp_path = tmp_path
        self.run_id = xid.new()
        self.notes = Notes()
        self.stop = Stop()
        self.runner = LocalExec()
        self.config = LocalExecConfig()

    def script(self, name: str, text: str, interpreter: str = "/bin/sh") -> str:
        path = self.tmp_path / name
        path.write_text(f"#!{interpreter}\n{textwrap.dedent(text)}")
        path.chmod(0o755)
        return str(path)

    async def run(self, *groups: RunGroupInput, timeout: float = 30, disable_metrics: bool = False):
        with anyio.fail_after(timeout):
            async with open_server(Service(), "127.0.0.1", 0) as server:
                self.server = server
                return await self.runner.run(
                    RunInput(
                        run_id=self.run_id,
                        plan="plan",
                        case="case",
                        groups=groups,
                        disable_metrics=disable_metrics,
                        config=self.config,
                        env=self.env,
                        output=self.notes,
                        sync=server,
                        stop=self.stop,
                    )
                )

    async def shell(self, text: str, instances: int = 1, **options):
        return await self.run(RunGroupInput("g", instances, self.script("g.sh", text)), **options)

    def outputs(self, group: str = "g", index: int = 0) -> Path:
        return self.env.home.outputs / "local_exec" / "plan" / self.run_id / group / str(index)


@pytest.fixture
def bench(tmp_path):
    bench = Bench(tmp_path)
    yield bench
    anyio.run(bench.runner.close)
    assert leftovers.kill([bench.run_id]) == [], "processes of the run were left behind"


async def test_success_counts_and_layout(bench):
    result = await bench.shell(f"echo hello; {OK}", instances=3)
    assert str(result) == "outcome = success (g:3/3)" and result.failures == []
    assert bench.notes.counts[-1] == ("g", {"total": 3, "running": 0, "ok": 3, "failed": 0})
    assert "<< g[002] >> hello" in bench.notes.text
    assert bench.outputs(index=2).joinpath("run.out").read_text().startswith("hello\n")
    assert bench.outputs(index=2).joinpath("run.err").read_text() == ""


async def test_environment_is_the_contracts(bench):
    """Contract §7.1: the eighteen variables and our extras, and nothing else."""
    script = bench.script("g.sh", f"env > $TEST_OUTPUTS_PATH/env; {OK}")
    group = RunGroupInput("single", 2, script, parameters={"b": "x", "a": "1"}, profiles={"cpu": ""})
    await bench.run(group, disable_metrics=True)
    lines = bench.outputs("single", 1).joinpath("env").read_text().splitlines()
    env = dict(line.split("=", 1) for line in lines)
    own = {"PWD", "SHLVL", "_", "OLDPWD"}  # the shell's
    fixed = {
        "INFLUXDB_URL": "",
        "TEST_BRANCH": "",
        "TEST_CAPTURE_PROFILES": "cpu=",
        "TEST_CASE": "case",
        "TEST_DISABLE_METRICS": "true",
        "TEST_GROUP_ID": "single",
        "TEST_GROUP_INSTANCE_COUNT": "2",
        "TEST_INSTANCE_COUNT": "2",
        "TEST_INSTANCE_PARAMS": "a=1|b=x",
        "TEST_INSTANCE_ROLE": "",
        "TEST_OUTPUTS_PATH": str(bench.outputs("single", 1)),
        "TEST_PLAN": "plan",
        "TEST_REPO": "",
        "TEST_RUN": bench.run_id,
        "TEST_SIDECAR": "false",
        "TEST_SUBNET": "127.1.0.0/16",
        "TEST_TAG": "",
    }
    assert {key: env[key] for key in fixed} == fixed
    varying = {"TEST_START_TIME", "TEST_TEMP_PATH", "SYNC_SERVICE_HOST", "SYNC_SERVICE_PORT", "REDIS_HOST"}
    extras = {"PATH", "HOME", "HOSTNAME", "TMPDIR"}
    assert env.keys() - own == fixed.keys() | varying | extras
    assert env["TEST_START_TIME"].endswith("Z") and len(env["TEST_START_TIME"]) == len("2022-01-12T15:48:07Z")
    assert not Path(env["TEST_TEMP_PATH"]).exists(), "the temporary directory is removed after the run"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 0", "exited without reporting an outcome (exit code 0)"),
        ("echo last words; exit 3", "exited with code 3 before reporting an outcome"),
        ("kill -9 $$", "was killed by SIGKILL before reporting an outcome"),
        (f"{OK} exit 4", "reported success, then exited with code 4"),
        ("""echo '{"event":{"failure_event":{"group":"g","error":"oops"}}}'""", "failed: oops"),
    ],
)
async def test_anything_unclear_is_a_failure_with_its_reason(bench, script, reason):
    result = await bench.shell(script)
    assert result.outcome is Outcome.FAILURE
    assert result.failures[0].reason == reason
    assert "first failure: g[000] after" in bench.notes.text and reason in bench.notes.text


async def test_last_words_are_shown(bench):
    result = await bench.shell("echo one; echo two >&2; exit 3")
    assert sorted(result.failures[0].last_lines) == ["one", "two"]
    assert "ERROR     two" in bench.notes.text


async def test_an_artifact_that_cannot_start(bench, tmp_path):
    result = await bench.run(RunGroupInput("g", 2, str(tmp_path / "missing")))
    assert str(result) == "outcome = failure (g:0/2)"
    assert result.failures[0].reason == f"failed to start: {tmp_path}/missing: No such file or directory"


async def test_a_plan_that_floods_stdout_neither_blocks_nor_hides_its_verdict(bench):
    result = await bench.shell(f"yes | head -c 30000000; {OK}", timeout=60)
    assert result.outcome is Outcome.SUCCESS
    assert len(bench.notes.text) < 2_000_000
    assert "only its outcome is shown" in bench.notes.text
    assert bench.outputs().joinpath("run.out").stat().st_size > 30_000_000


async def test_an_event_line_of_many_megabytes(bench):
    script = bench.script(
        "g.py",
        """
        import json
        error = "x" * (5 << 20)
        print(json.dumps({"event": {"failure_event": {"group": "g", "error": error}}}))
        """,
        sys.executable,
    )
    result = await bench.run(RunGroupInput("g", 1, script))
    assert result.failures[0].reason == f"failed: {'x' * 2000}…", "the result is stored and sent around: it stays small"
    assert len(bench.notes.text) < 1 << 20 and "(5242880 characters)" in bench.notes.text


async def test_a_plan_that_forks_leaves_nothing(bench):
    """One child in the group, one that has left it; both hold the output open."""
    result = await bench.shell(f"sleep 1000 & setsid sleep 1000 & {OK}")
    assert result.outcome is Outcome.SUCCESS


async def test_timeout_says_who_was_running(bench):
    script = bench.script("g.sh", "trap '' TERM; echo started; while :; do sleep 1000; done")
    started = time.monotonic()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_when, bench.notes, "started", lambda: bench.stop.request("the timeout", timed_out=True))
        result = await bench.run(RunGroupInput("g", 1, script))
    assert result.outcome is Outcome.FAILURE
    assert "run canceled after reaching the task timeout" in bench.notes.text
    assert result.failures[0].reason == "was still running when the run was ended: the timeout"
    assert time.monotonic() - started < 20


async def test_terminate_ends_all_runs_at_once(bench):
    async def terminate():
        await bench.runner.terminate(bench.env, bench.notes)

    script = bench.script("g.sh", "echo started; sleep 1000")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_when, bench.notes, "started", terminate)
        result = await bench.run(RunGroupInput("g", 3, script))
    assert result.outcome is Outcome.CANCELED
    assert {failure.reason for failure in result.failures} == {
        "was still running when the run was ended: terminated by request"
    }


async def test_a_cancelled_run_leaves_nothing(bench):
    script = bench.script("g.sh", "echo started; sleep 1000 & setsid sleep 1000 & wait")
    with anyio.move_on_after(20) as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_when, bench.notes, "started", scope.cancel)
            await bench.run(RunGroupInput("g", 2, script))
    assert not list(Path(os.environ.get("TMPDIR", "/tmp")).glob(f"testground-{bench.run_id}"))


@pytest.mark.parametrize("checkpoints", [0, 1, 2, 3, 5, 8, 13, 21, 34, 55])
async def test_a_run_cancelled_at_any_moment_leaves_nothing(bench, checkpoints):
    """Before, while and after its instances start."""
    script = bench.script("g.sh", "sleep 1000")
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bench.run, RunGroupInput("g", 20, script))
            for _ in range(checkpoints):
                await anyio.lowlevel.checkpoint()
            scope.cancel()
    assert not list(Path(tempfile.gettempdir()).glob(f"testground-{bench.run_id}"))
    assert leftovers.kill([bench.run_id]) == []
    assert bench.runner._running == {} and bench.run_id not in reaper.shared._watched


async def test_a_run_that_is_stopped_before_it_starts_says_so(bench):
    bench.stop.request("killed by request")
    result = await bench.shell("sleep 1000", instances=40)
    assert result.outcome is Outcome.CANCELED
    assert {failure.reason for failure in result.failures} == {
        "had not started when the run was ended: killed by request"
    }


async def test_no_instances_are_no_success(bench):
    assert (await bench.run(RunGroupInput("g", 0, bench.script("g.sh", OK)))).outcome is Outcome.FAILURE


async def test_more_instances_than_a_machine_has_ports(bench):
    with pytest.raises(RunError, match="local:exec runs at most 20000 instances, not 30000"):
        await bench.shell(OK, instances=30_000)


async def test_a_temporary_directory_that_cannot_be_made(bench, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with pytest.raises(RunError, match=f"^cannot create the temporary directory {tmp_path}/missing/.*: No such file"):
        await bench.shell(OK)


PEER = """
import asyncio, json, os, sys
from testground.sync.client import SyncConnection

def say(**event):
    print(json.dumps({"event": event}), flush=True)

async def main():
    keys = f"run:{os.environ['TEST_RUN']}:plan:plan:case:case:"
    host, port = os.environ["SYNC_SERVICE_HOST"], int(os.environ["SYNC_SERVICE_PORT"])
    async with SyncConnection.open(host, port) as sync:
        WORK
    say(success_event={"group": "g"})

try:
    asyncio.run(main())
except Exception as error:
    say(failure_event={"group": "g", "error": str(error)})
    sys.exit(1)
"""


@pytest.mark.parametrize(
    ("work", "text"),
    [
        ('await sync.signal(keys + "states:ready"); await sync.barrier(keys + "states:ready", 3)', 'barrier "ready"'),
        (
            'await sync.publish(keys + "topics:peers", b"1"); n = 0\n'
            '        async for _ in sync.subscribe(keys + "topics:peers"):\n'
            "            n += 1\n"
            "            if n == 3: break",
            "peers",
        ),
    ],
    ids=["barrier", "subscription"],
)
async def test_dead_peers_do_not_hang_the_living(bench, work, text):
    living = bench.script("living.py", PEER.replace("WORK", work), sys.executable)
    dead = bench.script("dead.sh", "echo about to die; exit 7")
    started = time.monotonic()
    result = await bench.run(RunGroupInput("dead", 1, dead), RunGroupInput("living", 2, living))
    assert time.monotonic() - started < 20
    assert str(result) == "outcome = failure (dead:0/1 living:0/2)"
    assert result.failures[0].instance == "dead[000]"
    for failure in result.failures[1:]:
        assert text in failure.reason and "dead[000]" in failure.reason and "cannot be met" in failure.reason


async def test_timeout_says_who_waited_where(bench):
    work = 'say(message_event={"message": "here"}); await sync.barrier(keys + "states:never", 2)'
    script = bench.script("g.py", PEER.replace("WORK", work), sys.executable)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_when_waiting, bench)
        result = await bench.run(RunGroupInput("g", 1, script))
    assert 'waiting on barrier "never" (0 of 2)' in result.failures[0].reason


async def _when(notes: Notes, text: str, act) -> None:
    """Act once the text has been logged."""
    await notes.until(text)
    outcome = act()
    if outcome is not None:
        await outcome


async def _when_waiting(bench: Bench) -> None:
    await bench.notes.until("here")
    with anyio.fail_after(15):
        while not bench.server.service.waiting(bench.run_id):
            await anyio.lowlevel.checkpoint()
    bench.stop.request("the timeout", timed_out=True)


async def test_a_daemon_that_may_lack_descriptors_says_so(bench, monkeypatch):
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    monkeypatch.setattr(local_exec, "DESCRIPTORS", limit)
    await bench.shell(OK, instances=2)
    assert f"2 instances may need {2 * limit} file descriptors of the daemon, which has {limit}" in bench.notes.text
