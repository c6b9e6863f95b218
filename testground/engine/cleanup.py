"""What tasks leave behind, and who removes it: the end of a task, or the next daemon. Nothing here raises."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from anyio import to_thread

from testground import plugins
from testground.api.task import State, Task, TaskType
from testground.config import EnvConfig
from testground.drivers import leftovers, reaper, trees
from testground.errors import TestgroundError

log = logging.getLogger(__name__)


def after(task: Task, state: State) -> None:
    """At the end of a task; blocks. Tools that have left their process group survive a build that ended by itself."""
    if state is State.CANCELED:
        leftovers.kill([task.id])
    reaper.shared.forget(task.id)
    discard_sources(task)


def discard_sources(task: Task) -> None:
    """What was unpacked for the task goes with its end. Blocks."""
    if base := _base(task):
        _remove(base)


async def after_crash(interrupted: Sequence[Task], env: EnvConfig) -> list[str]:
    """What tasks of a daemon that died left behind; says what was removed, a sentence each."""
    removed: list[str] = []
    for name in dict.fromkeys(task.runner for task in interrupted if task.type is TaskType.RUN):
        removed += await _reap(name, [task.id for task in interrupted if task.runner == name], env)
    if ended := await to_thread.run_sync(leftovers.kill, [task.id for task in interrupted]):
        removed.append(f"ended {len(ended)} leftover processes of interrupted builds")
    return removed


def remove_strays(work: Path, waiting: Iterable[Task]) -> None:
    """Unpacked requests that no waiting task needs, and builds that were under way. Blocks."""
    kept = {_base(task) for task in waiting}
    for path in (*work.glob("requests/*"), *work.glob("*.partial-*")):
        if path not in kept:
            _remove(path)


async def close_runners() -> None:
    """The daemon ends; one runner's trouble is no other's."""
    for name in plugins.runner_ids():
        try:
            await plugins.runner(name).close()
        except Exception:
            log.exception("runner %s could not be closed", name)
    await to_thread.run_sync(reaper.shared.close)


async def _reap(runner: str, run_ids: Sequence[str], env: EnvConfig) -> list[str]:
    """What a runner cannot remove, or a runner that is gone, must not keep the daemon from starting."""
    try:
        return await plugins.runner(runner).reap(run_ids, env)
    except (TestgroundError, OSError) as error:
        return [f"what the run left behind could not be removed: {error}"]


def _base(task: Task) -> Path | None:
    sources = task.input.sources if task.input else None
    return Path(sources.base_dir) if sources and sources.base_dir else None


def _remove(path: Path) -> None:
    """What cannot be removed now is removed when the next daemon starts."""
    with contextlib.suppress(OSError):
        trees.remove(path)
