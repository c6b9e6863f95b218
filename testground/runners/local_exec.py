"""`local:exec`: instances are processes of this machine, on its own network.

Every instance gets a door of its own to the sync service (`SYNC_SERVICE_PORT`), so that the service knows who signals,
who waits and who is missing when one dies, with any SDK.
"""

from __future__ import annotations

import contextlib
import resource
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import anyio
from anyio import to_thread

from testground.api.task import RunResult
from testground.config import EnvConfig, Home
from testground.drivers import leftovers, reaper, trees
from testground.errors import RunError, UnknownError
from testground.health import Check
from testground.plugins import Output, RunInput, Stop
from testground.runners import isolated_network, outputs
from testground.runners.instance import name_spooled
from testground.runners.local_run import RUNNER, LocalExecConfig, LocalRun

TERMINATE_SECONDS = 75.0
"""How long `terminate` waits for the runs that it has asked to end; the engine loses patience before."""

DESCRIPTORS = 6
"""File descriptors for an instance: its door and connection, two pipes, a few more for moments."""

MOST_INSTANCES = 20_000
"""Each takes a port for its door; a machine gives out less than thirty thousand."""


class LocalExec:
    """The runner; it knows its runs under way, so that `terminate` can end them."""

    id = RUNNER
    compatible_builders = frozenset(("exec:go", "exec:python", "exec:generic"))
    config_model = LocalExecConfig

    def __init__(self) -> None:
        self._running: dict[Stop, anyio.Event] = {}
        """Each run's event is set once nothing of it is left."""

    async def run(self, run: RunInput) -> RunResult:
        config = run.config
        assert isinstance(config, LocalExecConfig)
        _check(run)
        work = _make_work_directory(run.run_id)
        reaper.shared.watch(run.run_id, work)
        ended = self._running[run.stop] = anyio.Event()
        try:
            return await LocalRun(run, config, work).carry_out()
        finally:
            with anyio.CancelScope(shield=True):
                await to_thread.run_sync(_clean, run.run_id, work)
            reaper.shared.forget(run.run_id)
            del self._running[run.stop]
            ended.set()

    def checks(self, env: EnvConfig) -> Sequence[Check]:
        directory = env.home.outputs / "local_exec"

        async def probe() -> tuple[bool, str]:
            there = directory.is_dir()
            return there, "directory exists." if there else "directory does not exist. can recreate."

        async def fix() -> str:
            directory.mkdir(parents=True, exist_ok=True)
            return "directory created successfully."

        async def isolation() -> tuple[bool, str]:
            """Never a failure: most runs live on the machine's network, and those that do not say it themselves."""
            possible, how = await isolated_network.possible()
            return True, how if possible else f'not on this machine, where network = "host" works: {how}'

        return [
            Check("local-outputs-dir", probe, fix),
            Check("isolated-networks", isolation, on_demand=True),
            Check("link-accuracy", isolated_network.accuracy, on_demand=True),
        ]

    async def terminate(self, env: EnvConfig, output: Output) -> None:
        running = dict(self._running)
        output.info(f"terminating all jobs on component: {self.id}", runs=len(running))
        for stop in running:
            stop.request("terminated by request")
        with anyio.move_on_after(TERMINATE_SECONDS) as scope:
            for ended in running.values():
                await ended.wait()
        if scope.cancelled_caught:
            raise RunError(f"the runs on {self.id} have not ended within {TERMINATE_SECONDS:g} seconds")
        output.info(f"all jobs terminated on component: {self.id}")

    def collect(self, run_id: str, env: EnvConfig) -> AsyncIterator[bytes]:
        return outputs.archive(outputs.find(env.home, self.id, run_id))

    async def reap(self, run_ids: Sequence[str], env: EnvConfig) -> list[str]:
        """Networks of their own need no more: a namespace is gone, with its links, once no process lives in it."""
        ended = await to_thread.run_sync(leftovers.kill, list(run_ids))
        for run_id in run_ids:
            await to_thread.run_sync(_tidy, env.home, run_id)
        if not ended:
            return []
        return [f"ended {len(ended)} leftover processes of interrupted runs, and with them their networks, if any"]

    async def close(self) -> None:
        await to_thread.run_sync(reaper.shared.close)


def _check(run: RunInput) -> None:
    if run.total_instances > MOST_INSTANCES:
        raise RunError(f"local:exec runs at most {MOST_INSTANCES} instances, not {run.total_instances}")
    _check_descriptors(run)
    for group in run.groups:
        if group.resources.cpu or group.resources.memory:
            run.output.warn(f"group {group.id}: local:exec does not limit resources; cpu and memory are ignored")
        if not group.artifact:
            raise RunError(f"group {group.id} has no artifact: build it first")


def _check_descriptors(run: RunInput) -> None:
    needed, (limit, _) = DESCRIPTORS * run.total_instances, resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and needed > limit:
        run.output.warn(
            f"{run.total_instances} instances may need {needed} file descriptors of the daemon, which has {limit}: "
            "start it with more (ulimit -n)"
        )


def _make_work_directory(run_id: str) -> Path:
    work = _work_directory(run_id)
    try:
        work.mkdir(mode=0o700)
    except OSError as error:
        raise RunError(f"cannot create the temporary directory {work}: {error.strerror}") from error
    return work


def _work_directory(run_id: str) -> Path:
    """In the system's temporary directory, so that paths of sockets stay short."""
    return Path(tempfile.gettempdir()) / f"testground-{run_id}"


def _clean(run_id: str, work: Path) -> None:
    leftovers.kill([run_id])
    _remove(work)


def _tidy(home: Home, run_id: str) -> None:
    _remove(_work_directory(run_id))
    with contextlib.suppress(UnknownError, OSError):
        name_spooled(outputs.find(home, RUNNER, run_id))


def _remove(work: Path) -> None:
    with contextlib.suppress(OSError):
        trees.remove(work)
