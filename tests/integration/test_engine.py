"""The engine with a real store, real builds and real instances: queue, kill, timeout, recovery."""

import json
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from testground import config
from testground.api import rpc
from testground.api.manifest import Manifest
from testground.api.rpc import BuildRequest, RunRequest, TasksRequest
from testground.api.task import Outcome, Sources, State, Task, TaskType
from testground.config import Home
from testground.engine.engine import Engine
from testground.engine.store import Store, enter
from testground.errors import QueueFullError, RequestError, UnknownError
from testground.sync.server import open_server
from testground.sync.service import Service

OK = """echo '{"event":{"success_event":{"group":"g"}}}'"""
MANIFEST = Manifest.model_validate(
    {
        "name": "plan",
        "builders": {"exec:generic": {"artifact": "run"}},
        "runners": {"local:exec": {}},
        "testcases": [{"name": "ok", "instances": {"min": 1, "max": 10}}],
    }
)


def _env(tmp_path, **scheduler):
    settings = "".join(f"{key} = {json.dumps(value)}\n" for key, value in scheduler.items())
    home = Home(tmp_path / "home").create()
    home.env_file.write_text(f"[daemon.scheduler]\n{settings}")
    return config.load(home)


@asynccontextmanager
async def _engine(env):
    with anyio.fail_after(60):
        async with open_server(Service(), "127.0.0.1", 0) as server, anyio.create_task_group() as tasks:
            engine = Engine(env, server)
            await tasks.start(engine.serve)
            yield engine
            tasks.cancel_scope.cancel()


def _script(tmp_path, text, name="run.sh"):
    path = tmp_path / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def _run(artifact="", instances=1, priority=0, case="ok", run_ids=("default",), build_groups=()):
    group = {"id": "g", "instances": {"count": instances}, "run": {"artifact": artifact}}
    composition = {
        "global": {"plan": "plan", "case": case, "builder": "exec:generic", "runner": "local:exec"},
        "groups": [group],
    }
    return RunRequest.model_validate(
        {
            "composition": composition,
            "run_ids": list(run_ids),
            "build_groups": list(build_groups),
            "priority": priority,
        }
    )


def _sources(env, text):
    base = env.home.work / "requests" / "12345678"
    (base / "plan").mkdir(parents=True)
    path = base / "plan" / "run"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return Sources(base_dir=str(base), plan_dir=str(base / "plan"))


async def _wait(engine, task_id) -> tuple[Task, str]:
    """Follow a task to its end. Returns it with the text of its log."""
    decoder, text = rpc.ChunkDecoder(), ""
    async for lines in engine.logs(task_id, follow=True):
        text += "".join(chunk.payload.decode() for chunk in decoder.feed(lines))
    task = engine.task(task_id)
    assert task.finished
    return task, text


async def test_a_run_from_artifact_to_result(tmp_path):
    async with _engine(_env(tmp_path)) as engine:
        task_id = engine.queue_run(_run(_script(tmp_path, OK), instances=2), MANIFEST, None)
        task, text = await _wait(engine, task_id)
        assert task.state is State.COMPLETE and task.outcome is Outcome.SUCCESS and task.error == ""
        assert [str(state.state) for state in task.states] == ["scheduled", "processing", "complete"]
        assert "run finished with outcome = success (g:2/2)" in text
        archive = b"".join([piece async for piece in engine.collect(task_id)])
        assert archive[:2] == b"\x1f\x8b"


async def test_build_is_kept_and_second_one_skipped(tmp_path):
    env = _env(tmp_path)
    async with _engine(env) as engine:
        artifacts = []
        for expected in ("build succeeded", "build skipped: nothing has changed"):
            request = BuildRequest.model_validate({"composition": _run().composition.wire()})
            task, text = await _wait(engine, engine.queue_build(request, MANIFEST, _sources(env, OK)))
            assert task.state is State.COMPLETE, task.error
            assert expected in text
            artifacts += task.result
        assert artifacts[0] == artifacts[1]
        assert not any((env.home.work / "requests").iterdir()), "unpacked sources are removed with their task"


async def test_failing_instances_are_a_complete_task_with_outcome_failure(tmp_path):
    async with _engine(_env(tmp_path)) as engine:
        task, text = await _wait(engine, engine.queue_run(_run(_script(tmp_path, "exit 3")), MANIFEST, None))
    assert task.state is State.COMPLETE and task.outcome is Outcome.FAILURE
    assert task.result["outcomes"] == {"g": {"ok": 0, "total": 1}}
    assert task.result["failures"][0]["reason"] == "exited with code 3 before reporting an outcome"
    assert "first failure: g[000]" in text


@pytest.mark.parametrize(
    ("request_", "cause"),
    [
        (_run("x", case="zz"), "test case zz not found in plan plan"),
        (_run("x", instances=11), "error preparing run default: total instance count (11) outside of allowable range"),
        (_run("x", run_ids=["nope"]), "unknown run id nope"),
        (_run("x", run_ids=["a", "b"]), "cannot specify multiple run ids for now"),
        (_run("x", run_ids=[]), "missing run ids"),
    ],
)
async def test_deferred_errors_cancel_the_task(tmp_path, request_, cause):
    async with _engine(_env(tmp_path)) as engine:
        task, text = await _wait(engine, engine.queue_run(request_, MANIFEST, None))
    assert task.state is State.CANCELED and task.outcome is Outcome.CANCELED
    assert task.error.startswith("task of type run cancelled: ") and cause in task.error
    assert cause in text


async def test_disabled_runner(tmp_path):
    env = _env(tmp_path)
    env.home.env_file.write_text('[runners."local:exec"]\ndisabled = true\n')
    async with _engine(config.load(env.home)) as engine:
        task, _ = await _wait(engine, engine.queue_run(_run(_script(tmp_path, OK)), MANIFEST, None))
        assert task.error == "task of type run cancelled: runner is disabled by config"
        assert (await engine.healthcheck("local:exec", True, _Silent())).checks


async def test_refused_at_the_door(tmp_path):
    async with _engine(_env(tmp_path)) as engine:
        wrong_runner, wrong_builder = _run("x"), _run("x")
        wrong_runner.composition.global_.runner = "local:exce"
        wrong_builder.composition.global_.builder = "docker:go"
        with pytest.raises(UnknownError, match=r"^unknown runner: local:exce; did you mean 'local:exec'\?"):
            engine.queue_run(wrong_runner, MANIFEST, None)
        with pytest.raises(RequestError, match="^runner local:exec is incompatible with builder docker:go"):
            engine.queue_run(wrong_builder, MANIFEST, None)
        with pytest.raises(RequestError, match="^plan dir required for build$"):
            engine.queue_run(_run(build_groups=[0]), MANIFEST, None)


async def test_queue_order_and_capacity(tmp_path):
    """One worker: the running task does not count; priority wins over age."""
    hold = tmp_path / "hold"
    waits = _script(tmp_path, f"while [ ! -e {hold} ]; do sleep 0.05; done; {OK}", "waits.sh")
    quick = _script(tmp_path, OK)
    async with _engine(_env(tmp_path, workers=1, queue_size=2)) as engine:
        first = engine.queue_run(_run(waits), MANIFEST, None)
        await _until_state(engine, first, State.PROCESSING)
        second = engine.queue_run(_run(quick), MANIFEST, None)
        third = engine.queue_run(_run(quick, priority=1), MANIFEST, None)
        with pytest.raises(QueueFullError, match="^queue full$"):
            engine.queue_run(_run(quick), MANIFEST, None)
        hold.touch()
        ends = [(await _wait(engine, task_id))[0] for task_id in (first, second, third)]
        assert all(task.outcome is Outcome.SUCCESS for task in ends)
        assert ends[2].states[1].created < ends[1].states[1].created


async def test_kill(tmp_path):
    async with _engine(_env(tmp_path, workers=1)) as engine:
        running = engine.queue_run(_run(_script(tmp_path, "sleep 1000")), MANIFEST, None)
        waiting = engine.queue_run(_run(_script(tmp_path, OK)), MANIFEST, None)
        await _until_state(engine, running, State.PROCESSING)
        for _ in range(2):
            engine.kill(waiting, "killed by request")
            engine.kill(running, "killed by request")
        task, text = await _wait(engine, running)
        assert task.state is State.COMPLETE and task.outcome is Outcome.CANCELED and task.error == ""
        assert "run canceled" in text
        assert engine.task(waiting).error == "task of type run cancelled: killed by request"
        engine.kill(running, "again")
        engine.delete(running)
        with pytest.raises(UnknownError):
            engine.task(running)


async def test_timeout(tmp_path, monkeypatch):
    env = _env(tmp_path)
    async with _engine(env) as engine:
        monkeypatch.setattr(engine, "_config", env.daemon.scheduler.model_copy(update={"task_timeout_min": 0.01}))
        task, text = await _wait(engine, engine.queue_run(_run(_script(tmp_path, "sleep 1000")), MANIFEST, None))
    assert task.state is State.COMPLETE and task.outcome is Outcome.FAILURE
    assert "run canceled after reaching the task timeout" in text


async def test_recovery_after_a_crash(tmp_path):
    """What a dead daemon left in the store: a task it was working on, and one that waited."""
    env = _env(tmp_path)
    async with _engine(env) as engine:
        waiting = engine.queue_run(_run(_script(tmp_path, OK)), MANIFEST, None)
        template = engine.task(waiting)
        await _wait(engine, waiting)
    store = Store(env.home.daemon / "tasks.db")
    interrupted, pending = template.model_copy(deep=True), template.model_copy(deep=True)
    interrupted.id, pending.id = "c0ffee0000000000000g", "c0ffee00000000000010"
    enter(interrupted, State.PROCESSING)
    store.add(interrupted)
    store.add(pending)
    store.close()
    stray = env.home.work / "requests" / "stray"
    stray.mkdir(parents=True)
    async with _engine(env) as engine:
        canceled = engine.task(interrupted.id)
        assert canceled.state is State.CANCELED
        assert canceled.error == (
            "task of type run cancelled: the daemon was interrupted while the task was processing"
        )
        done, _ = await _wait(engine, pending.id)
        assert done.outcome is Outcome.SUCCESS
        assert engine.task(waiting).outcome is Outcome.SUCCESS
        assert not stray.exists()


async def test_shutdown_cancels_what_is_under_way(tmp_path):
    env = _env(tmp_path)
    async with _engine(env) as engine:
        task_id = engine.queue_run(_run(_script(tmp_path, "sleep 1000")), MANIFEST, None)
        await _until_state(engine, task_id, State.PROCESSING)
    store = Store(env.home.daemon / "tasks.db")
    task = store.get(task_id)
    store.close()
    assert task.state is State.CANCELED and "the daemon was shut down" in task.error


async def test_tasks_filter(tmp_path):
    async with _engine(_env(tmp_path)) as engine:
        task_id = engine.queue_run(_run(_script(tmp_path, OK)), MANIFEST, None)
        task, _ = await _wait(engine, task_id)

        def ids(**filter_):
            return [found.id for found in engine.tasks(TasksRequest(**filter_))]

        everything = {"types": [TaskType.BUILD, TaskType.RUN], "states": list(State)}
        assert ids(**everything) == [task_id]
        assert ids() == ids(types=[TaskType.RUN]) == ids(types=[TaskType.BUILD], states=[State.COMPLETE]) == []
        assert ids(**everything, test_plan="plan", test_case="ok") == [task_id]
        assert ids(**everything, test_plan="other") == []
        assert ids(**everything, before=task.created) == [task_id]
        assert ids(**everything, after=task.created) == []


async def test_terminate_and_purge_texts(tmp_path):
    async with _engine(_env(tmp_path)) as engine:
        for arguments, text in [
            (("a", "b"), "cannot terminate a runner and a builder at the same time"),
            (("", ""), "unknown component:  (type: )"),
            (("", "exec:go"), "component exec:go is not terminatable"),
            (("nope", ""), "unknown component: nope (type: runner)"),
        ]:
            with pytest.raises((RequestError, UnknownError)) as caught:
                await engine.terminate(*arguments, _Silent())
            assert caught.value.message.startswith(text)
        with pytest.raises(UnknownError, match="^unrecognized builder: zz"):
            await engine.purge("zz", "plan", _Silent())


class _Silent:
    def info(self, message, **fields): ...

    warn = error = info

    def write(self, data): ...

    def states(self, group, counts): ...


async def _until_state(engine, task_id, state):
    with anyio.fail_after(20):
        while engine.task(task_id).state is not state:
            await anyio.lowlevel.checkpoint()
