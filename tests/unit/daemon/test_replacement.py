"""A newer run of a branch takes the place of those that wait (client-daemon §5.5, §8.8 Q1)."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import anyio
import pytest

from testground.config import DaemonConfig, SchedulerConfig
from testground.engine import engine as engine_module
from testground.engine import submissions
from testground.errors import RunError
from tests.unit.daemon.conftest import serving
from tests.unit.daemon.test_routes import SUCCESS, run_request, script, submit, until_processing
from tests.unit.daemon.test_submit import GO, multipart, part, plan_part, request

BRANCH = {"repo": "r", "branch": "b"}


@pytest.fixture
def config() -> DaemonConfig:
    return DaemonConfig(scheduler=SchedulerConfig(workers=1, queue_size=2))


@pytest.fixture
async def holding(daemon: Any, tmp_path: Path) -> str:
    """The id of a run of the branch that keeps the only worker busy."""
    directory = tmp_path / "holding"
    directory.mkdir()
    task_id = await submit(daemon, script(directory, "exec sleep 600"), created_by=BRANCH)
    await until_processing(daemon, task_id)
    return task_id


async def test_vector_q1(daemon: Any, holding: str, tmp_path: Path) -> None:
    quick = script(tmp_path, SUCCESS)
    replaced = await submit(daemon, quick, created_by=BRANCH)
    urgent = await submit(daemon, quick, priority=1)
    refused = (await daemon.ask("/run", run_request(quick)))[-1]
    assert refused.payload.startswith("engine run error: queue full")
    newer = await submit(daemon, quick, created_by={**BRANCH, "user": "another", "commit": "c"})

    task = daemon.engine.task(replaced)
    assert [str(entry.state) for entry in task.states] == ["scheduled", "canceled"]
    assert task.error == "task of type run cancelled: a newer run of the same branch took its place in the queue"
    assert not daemon.engine.task(holding).finished, "what is processing goes on"

    daemon.engine.kill(holding, "enough")
    ends = [await end_of(daemon, task_id) for task_id in (urgent, newer)]
    assert [end["result"]["outcome"] for end in ends] == ["success", "success"]
    assert ends[0]["states"][1]["created"] < ends[1]["states"][1]["created"]


async def test_the_log_of_a_replaced_run_says_what_took_its_place(daemon: Any, holding: str, tmp_path: Path) -> None:
    quick = script(tmp_path, SUCCESS)
    replaced = await submit(daemon, quick, created_by=BRANCH)
    newer = await submit(daemon, quick, created_by=BRANCH)
    line, task = await daemon.ask("/logs", {"task_id": replaced})
    assert b"a newer run of the same branch took its place in the queue" in line.payload
    assert newer.encode() in line.payload
    assert task.payload["states"][-1]["state"] == "canceled"


async def test_a_follower_of_a_replaced_run_comes_to_the_end_at_once(
    daemon: Any, holding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "PATIENCE_SECONDS", 0.01)
    quick = script(tmp_path, SUCCESS)
    replaced = await submit(daemon, quick, created_by=BRANCH)
    heard: list[bytes] = []
    waits = anyio.Event()

    async def follow() -> None:
        async for lines in daemon.engine.logs(replaced, follow=True):
            heard.append(lines)
            waits.set()

    with anyio.fail_after(20):
        async with anyio.create_task_group() as group:
            group.start_soon(follow)
            await waits.wait()
            await submit(daemon, quick, created_by=BRANCH)
    texts = [chunk.payload for chunk in daemon.decode(b"".join(heard))]
    assert b"waiting for a free worker" in texts[0]
    assert b"took its place" in texts[-1]


@pytest.mark.parametrize(
    "created_by",
    [
        {},
        {"repo": "r"},
        {"branch": "b"},
        {"repo": "", "branch": ""},
        {"repo": "r", "branch": "other"},
        {"repo": "other", "branch": "b"},
        {"repo": "R", "branch": "b"},
    ],
)
async def test_runs_of_another_branch_or_of_none_replace_nothing(
    daemon: Any, holding: str, tmp_path: Path, created_by: dict[str, str]
) -> None:
    quick = script(tmp_path, SUCCESS)
    waiting = await submit(daemon, quick, created_by=BRANCH)
    await submit(daemon, quick, created_by=created_by)
    assert not daemon.engine.task(waiting).finished


async def test_odd_names_are_compared_as_they_are_stored(daemon: Any, holding: str, tmp_path: Path) -> None:
    quick = script(tmp_path, SUCCESS)
    odd = {"repo": "x' OR '1'='1", "branch": "ü\ud800"}
    plain = await submit(daemon, quick, created_by=BRANCH)
    body = json.dumps(run_request(quick, created_by=odd)).encode()
    first, second = [(await daemon.ask("/run", body, content_type="application/json"))[-1].payload for _ in range(2)]
    assert daemon.engine.task(first).finished
    assert not daemon.engine.task(second).finished
    assert not daemon.engine.task(plain).finished


async def test_a_run_that_cannot_be_stored_replaces_nothing(
    daemon: Any, holding: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = script(tmp_path, SUCCESS)
    waiting = await submit(daemon, quick, created_by=BRANCH)
    monkeypatch.setattr(submissions.xid, "new", lambda: waiting)  # there is a task of this id already
    answer = (await daemon.ask("/run", run_request(quick, created_by=BRANCH)))[-1]
    assert (answer.kind, answer.code) == ("e", RunError.code)
    assert not daemon.engine.task(waiting).finished


async def test_a_task_that_cannot_be_read_is_in_nobodys_way(daemon: Any, holding: str, tmp_path: Path) -> None:
    database = sqlite3.connect(daemon.env.home.daemon / "tasks.db")
    with database:
        database.execute("INSERT INTO tasks VALUES ('c0ffee0000000000000g', 'scheduled', -1, 0, '{torn')")
    database.close()
    quick = script(tmp_path, SUCCESS)
    waiting = await submit(daemon, quick, created_by=BRANCH)
    await submit(daemon, quick, created_by=BRANCH)
    assert daemon.engine.task(waiting).finished


async def test_the_sources_of_a_replaced_run_are_removed(config: DaemonConfig, tmp_path: Path) -> None:
    hold = script(tmp_path, "exec sleep 600")
    body = multipart(part(request(created_by=BRANCH, build_groups=[0])), plan_part())
    async with serving(tmp_path, config) as daemon:
        await until_processing(daemon, await submit(daemon, hold))
        _, newer = [(await daemon.ask("/run", body, content_type=GO))[-1].payload for _ in range(2)]
        kept = daemon.engine.task(newer).input.sources.base_dir
    assert [str(path) for path in daemon.requests] == [kept]  # a daemon that ends has finished what it had begun


async def end_of(daemon: Any, task_id: str) -> dict[str, Any]:
    with anyio.fail_after(30):
        task: dict[str, Any] = (await daemon.ask("/logs", {"task_id": task_id, "follow": True}))[-1].payload
    return task
