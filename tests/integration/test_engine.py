"""The engine with a real store, real builds and real instances: queue, kill, timeout, recovery."""

import asyncio
import functools
import json
import re
import shutil
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.lowlevel
import pytest

from testground import config, plugins
from testground.api import rpc
from testground.api.manifest import Manifest
from testground.api.rpc import BuildRequest, RunRequest, TasksRequest
from testground.api.task import GroupOutcome, Outcome, RunResult, Sources, State, Task, TaskType
from testground.builders import generic
from testground.config import Home, SchedulerConfig
from testground.drivers import leftovers
from testground.engine import cleanup
from testground.engine import engine as engine_module
from testground.engine.engine import Engine
from testground.engine.store import Store, enter
from testground.errors import QueueFullError, RequestError, RunError, UnknownError
from testground.runners import local_exec
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
async def _engine(env, **how):
    with anyio.fail_after(60):
        async with open_server(Service(), "127.0.0.1", 0) as server, anyio.create_task_group() as tasks:
            engine = Engine(env, server)
            await tasks.start(functools.partial(engine.serve, **how))
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


def _sources(env, text, name="12345678"):
    base = env.home.work / "requests" / name
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


async def test_the_composition_of_a_task_names_the_plan_as_its_client_did(tmp_path):
    """Instances and outputs have the name in the manifest, but a client finds no plan by that."""
    env = _env(tmp_path)
    request = _run(_script(tmp_path, f'test "$TEST_PLAN" = plan && {OK}'))
    request.composition.global_.plan = "suite/other"
    async with _engine(env) as engine:
        task, _ = await _wait(engine, engine.queue_run(request, MANIFEST, None))
    assert task.outcome is Outcome.SUCCESS
    assert task.composition.global_.plan == task.plan == "suite/other"
    assert task.composition.runs[0].id == "default"
    assert (env.home.outputs / "local_exec" / "plan" / task.id).is_dir()


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


async def test_a_bad_option_of_the_runner_is_told_before_anything_is_built(tmp_path):
    env, request = _env(tmp_path), _run(build_groups=[0])
    request.composition.global_.run_config = {"network": "isolatd"}
    async with _engine(env) as engine:
        task, text = await _wait(engine, engine.queue_run(request, MANIFEST, _sources(env, OK)))
    assert task.error.endswith("local:exec: network: 'isolatd' is not 'host' or 'isolated'; did you mean 'isolated'?")
    assert "build" not in text.lower()


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
        with pytest.raises(QueueFullError, match="^queue full: daemon.scheduler.queue_size = 2 is reached$"):
            engine.queue_run(_run(quick), MANIFEST, None)
        hold.touch()
        ends = [(await _wait(engine, task_id))[0] for task_id in (first, second, third)]
        assert all(task.outcome is Outcome.SUCCESS for task in ends)
        assert ends[2].states[1].created < ends[1].states[1].created


async def test_a_follower_of_a_task_that_waits_is_told_what_for(tmp_path, monkeypatch):
    monkeypatch.setattr(engine_module, "PATIENCE_SECONDS", 0.1)
    async with _engine(_env(tmp_path, workers=1)) as engine:
        held = engine.queue_run(_run(_script(tmp_path, "sleep 1000", "hold.sh")), MANIFEST, None)
        await _until_state(engine, held, State.PROCESSING)
        ahead, waiting = (engine.queue_run(_run(_script(tmp_path, OK)), MANIFEST, None) for _ in range(2))
        heard, decoder = "", rpc.ChunkDecoder()
        async for lines in engine.logs(waiting, follow=True):
            heard += "".join(chunk.payload.decode() for chunk in decoder.feed(lines))
            if not engine.task(held).finished:
                assert 'waiting for a free worker\t{"processing": 1, "ahead": 1}' in heard
                engine.kill(held, "enough")
        assert "run finished with outcome = success" in heard
        assert engine.task(ahead).finished


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


async def test_timeout(tmp_path):
    env = _env(tmp_path)
    scheduler = SchedulerConfig(task_timeout_min=0.01)
    env = env.model_copy(update={"daemon": env.daemon.model_copy(update={"scheduler": scheduler})})
    async with _engine(env) as engine:
        task, text = await _wait(engine, engine.queue_run(_run(_script(tmp_path, "sleep 1000")), MANIFEST, None))
    assert task.state is State.COMPLETE and task.outcome is Outcome.FAILURE
    assert "run canceled after reaching the task timeout" in text
    assert "when the run was ended: the task timeout of 0.6 s was reached (daemon.scheduler.task_timeout_min)" in text


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


async def test_an_idle_engine_leaves_what_waits_until_something_is_queued(tmp_path):
    env = _env(tmp_path)
    script = _script(tmp_path, OK)
    async with _engine(env) as engine:
        template = engine.task(engine.queue_run(_run(script), MANIFEST, None))
        await _wait(engine, template.id)
    store = Store(env.home.daemon / "tasks.db")
    left = template.model_copy(update={"id": "c0ffee0000000000000g", "states": template.states[:1]})
    store.add(left)
    store.close()
    async with _engine(env, idle=True) as engine:
        await anyio.wait_all_tasks_blocked()
        assert engine.task(left.id).state is State.SCHEDULED
        queued = engine.queue_run(_run(script), MANIFEST, None)
        assert (await _wait(engine, queued))[0].outcome is Outcome.SUCCESS
        assert (await _wait(engine, left.id))[0].outcome is Outcome.SUCCESS


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


# -- what must not be lost --------------------------------------------------------------------------------------


async def test_waiting_tasks_keep_their_order_over_a_restart(tmp_path):
    env = _env(tmp_path, workers=1)
    quick = _script(tmp_path, OK)
    async with _engine(env) as engine:
        held = engine.queue_run(_run(_script(tmp_path, "sleep 1000", "hold.sh")), MANIFEST, None)
        await _until_state(engine, held, State.PROCESSING)
        older, younger = (engine.queue_run(_run(quick), MANIFEST, None) for _ in range(2))
        urgent = engine.queue_run(_run(quick, priority=1), MANIFEST, None)
    async with _engine(env) as engine:
        ends = [(await _wait(engine, task_id))[0] for task_id in (urgent, older, younger)]
        assert all(task.outcome is Outcome.SUCCESS for task in ends)
        started = [task.states[1].created for task in ends]
        assert started == sorted(started)
        assert engine.task(held).state is State.CANCELED


async def test_a_shutdown_leaves_what_waits(tmp_path, monkeypatch):
    """The worker is cancelled while it cleans up behind a task, where it cannot be: it must not take the next one."""
    env = _env(tmp_path, workers=1)
    busy, go_on = anyio.Event(), threading.Event()

    def clean_up(*_):
        anyio.from_thread.run_sync(busy.set)
        assert go_on.wait(10)

    monkeypatch.setattr(cleanup, "after", clean_up)
    async with _engine(env) as engine:
        done, waiting = (engine.queue_run(_run(_script(tmp_path, OK)), MANIFEST, None) for _ in range(2))
        await busy.wait()
        asyncio.get_running_loop().call_later(0.05, go_on.set)
    store = Store(env.home.daemon / "tasks.db")
    assert store.get(done).outcome is Outcome.SUCCESS
    assert store.get(waiting).state is State.SCHEDULED
    store.close()


async def test_a_shutdown_at_the_very_end_of_a_run_does_not_cost_its_result(tmp_path, monkeypatch):
    """It comes while the runner cleans up, where it cannot be cancelled."""
    env, real = _env(tmp_path), local_exec._clean

    def clean(*args):
        anyio.from_thread.run_sync(engine._workers.cancel_scope.cancel)
        real(*args)

    monkeypatch.setattr(local_exec, "_clean", clean)
    async with _engine(env) as engine:
        task_id = engine.queue_run(_run(_script(tmp_path, OK)), MANIFEST, None)
        async for _ in engine.logs(task_id, follow=True):
            pass
    store = Store(env.home.daemon / "tasks.db")
    assert store.get(task_id).outcome is Outcome.SUCCESS and store.get(task_id).error == ""
    store.close()


async def test_a_shutdown_during_a_build_leaves_nothing(tmp_path):
    env = _env(tmp_path)
    async with _engine(env) as engine:
        task_id = engine.queue_build(*_build(env, OK, "echo building; sleep 1000"))
        async for lines in engine.logs(task_id, follow=True):
            if any(chunk.payload == b"building\n" for chunk in rpc.ChunkDecoder().feed(lines)):
                break
    assert leftovers.kill([task_id]) == []
    assert not any((env.home.work / "requests").iterdir())
    store = Store(env.home.daemon / "tasks.db")
    assert "the daemon was shut down" in store.get(task_id).error
    store.close()


async def test_a_result_that_finds_no_room_is_not_lost(tmp_path):
    """A store that may not grow stands in for a full disk."""
    env = _env(tmp_path)
    async with _engine(env) as engine:
        other = engine.queue_run(_run(_script(tmp_path, OK)), MANIFEST, None)
        await _wait(engine, other)
        script = _script(tmp_path, f"head -c 200000 /dev/zero | tr '\\0' x; echo; {OK}", "much.sh")
        task_id = engine.queue_run(_run(script), MANIFEST, None)
        engine._store._db.execute("PRAGMA max_page_count = 1")
        task, _ = await _wait(engine, task_id)
        assert task.outcome is Outcome.SUCCESS
        with pytest.raises(RunError, match="full"):
            for _ in range(20):
                engine.queue_run(_run(script), MANIFEST, None)
        engine._store._db.execute("PRAGMA max_page_count = 1000000")
        last = engine.queue_run(_run(_script(tmp_path, OK)), MANIFEST, None)
        assert (await _wait(engine, last))[0].outcome is Outcome.SUCCESS, "the workers are alive"
    store = Store(env.home.daemon / "tasks.db")
    assert store.get(task_id).outcome is Outcome.SUCCESS
    store.close()


async def test_what_no_text_can_hold_does_not_end_the_daemon(tmp_path):
    """Half a surrogate pair is good JSON, and no UTF-8."""
    say = r"""echo '{"event":{"failure_event":{"group":"g","error":"half a \ud83d pair"}}}'"""
    async with _engine(_env(tmp_path)) as engine:
        failing = engine.queue_run(_run(_script(tmp_path, f"{say}\n{OK}")), MANIFEST, None)
        task, text = await _wait(engine, failing)
        assert task.outcome is Outcome.FAILURE
        assert task.result["failures"][0]["reason"] == "failed: half a ? pair" and "half a ? pair" in text


async def test_recovery_from_what_this_daemon_does_not_know(tmp_path):
    """An interrupted run of a runner that is gone, and a row of another format: it starts all the same."""
    env = _env(tmp_path)
    async with _engine(env) as engine:
        done = engine.queue_run(_run(_script(tmp_path, OK)), MANIFEST, None)
        template = engine.task(done)
        await _wait(engine, done)
    store = Store(env.home.daemon / "tasks.db")
    template.id, template.runner = "c0ffee0000000000000g", "local:gone"
    enter(template, State.PROCESSING)
    store.add(template)
    store._db.execute("INSERT INTO tasks VALUES ('c0ffee00000000000010', 'scheduled', 9, 1.0, '[]')")
    store.close()
    async with _engine(env) as engine:
        assert engine.task(template.id).state is State.CANCELED
        log = b"".join([lines async for lines in engine.logs(template.id, follow=True)])
        text = b"".join(chunk.payload for chunk in rpc.ChunkDecoder().feed(log)).decode()
        assert "what the run left behind could not be removed: unknown runner: local:gone" in text
        again = engine.queue_run(_run(_script(tmp_path, OK)), MANIFEST, None)
        assert (await _wait(engine, again))[0].outcome is Outcome.SUCCESS


async def test_a_success_of_fewer_instances_than_asked_for_is_none(tmp_path, monkeypatch):
    """Whatever a runner says, which may come from elsewhere."""

    async def run(run):
        return RunResult(outcome=Outcome.SUCCESS, outcomes={"g": GroupOutcome(ok=1, total=1)})

    monkeypatch.setattr(plugins.runner("local:exec"), "run", run)
    async with _engine(_env(tmp_path)) as engine:
        task, text = await _wait(engine, engine.queue_run(_run("x", instances=2), MANIFEST, None))
        assert task.outcome is Outcome.FAILURE and "not of every instance" in text
        task, _ = await _wait(engine, engine.queue_run(_run("x"), MANIFEST, None))
        assert task.outcome is Outcome.SUCCESS


# -- kill and delete --------------------------------------------------------------------------------------------


async def test_killing_a_waiting_task_ends_its_followers_and_removes_its_sources(tmp_path):
    env = _env(tmp_path, workers=1)
    async with _engine(env) as engine:
        held = engine.queue_run(_run(_script(tmp_path, "sleep 1000", "hold.sh")), MANIFEST, None)
        await _until_state(engine, held, State.PROCESSING)
        sources = _sources(env, OK)
        request = BuildRequest.model_validate({"composition": _run().composition.wire()})
        waiting = engine.queue_build(request, MANIFEST, sources)
        ends = []

        async def follow():
            ends.append((await _wait(engine, waiting))[0])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            await anyio.lowlevel.checkpoint()
            for _ in range(2):
                engine.kill(waiting, "killed by request")
        assert ends[0].state is State.CANCELED and not ends[0].result
        engine.kill(held, "enough")
        await _wait(engine, held)
        with anyio.fail_after(10):
            while Path(sources.base_dir).exists():
                await anyio.lowlevel.checkpoint()


async def test_a_deleted_task_stays_deleted_and_its_processes_go(tmp_path):
    env = _env(tmp_path)
    async with _engine(env) as engine:
        task_id = engine.queue_run(_run(_script(tmp_path, "echo here; sleep 1000")), MANIFEST, None)
        heard, decoder, deleted = "", rpc.ChunkDecoder(), False
        async for lines in engine.logs(task_id, follow=True):
            heard += "".join(chunk.payload.decode() for chunk in decoder.feed(lines))
            if "here" in heard and not deleted:
                deleted = True
                engine.delete(task_id)
                with pytest.raises(UnknownError):
                    engine.task(task_id)
        assert "run canceled" in heard, "who follows it sees its end"
        everything = TasksRequest(types=list(TaskType), states=list(State))
        assert engine.tasks(everything) == []
        assert not list(env.home.daemon.glob("*.out"))
        assert leftovers.kill([task_id]) == []


async def test_a_log_that_disappears_ends_for_its_followers(tmp_path):
    env, hold = _env(tmp_path), tmp_path / "hold"
    waits = _script(tmp_path, f"while [ ! -e {hold} ]; do sleep 0.05; done; {OK}")
    async with _engine(env) as engine:
        task_id = engine.queue_run(_run(waits), MANIFEST, None)
        await _until_state(engine, task_id, State.PROCESSING)
        (env.home.daemon / f"{task_id}.out").unlink()
        asyncio.get_running_loop().call_later(0.05, hold.touch)
        task, text = await _wait(engine, task_id)
        assert task.outcome is Outcome.SUCCESS and text == ""


async def test_terminate_returns_when_all_has_ended(tmp_path):
    async with _engine(_env(tmp_path)) as engine:
        task_id = engine.queue_run(_run(_script(tmp_path, "trap '' TERM; sleep 1000 & wait; wait")), MANIFEST, None)
        await _until_running(engine, task_id)
        await engine.terminate("local:exec", "", _Silent())
        assert leftovers.kill([task_id]) == []
        task, _ = await _wait(engine, task_id)
        assert task.outcome is Outcome.CANCELED


# -- builds -----------------------------------------------------------------------------------------------------


def _build(env, text, command, name="12345678"):
    """A build whose command runs in the plan directory, and the sources it needs."""
    manifest = MANIFEST.model_copy(deep=True)
    manifest.builders["exec:generic"]["build"] = ["sh", "-c", command]
    request = BuildRequest.model_validate({"composition": _run().composition.wire()})
    return request, manifest, _sources(env, text, name)


async def test_a_killed_build_leaves_nothing(tmp_path):
    """Not even a process that has left the build's process group."""
    env = _env(tmp_path)
    escape = "echo $(setsid sh -c 'sleep 1000 > /dev/null 2>&1 & echo escaped $!'); sleep 1000"
    async with _engine(env) as engine:
        task_id = engine.queue_build(*_build(env, OK, escape))
        heard, decoder = "", rpc.ChunkDecoder()
        async for lines in engine.logs(task_id, follow=True):
            heard += "".join(chunk.payload.decode() for chunk in decoder.feed(lines))
            if re.search(r"escaped \d+\n", heard):
                engine.kill(task_id, "killed by request")
        assert engine.task(task_id).error == "task of type build cancelled: killed by request"
        assert leftovers.kill([task_id]) == []
        assert [path.name for path in env.home.work.iterdir()] == ["requests"]
        assert not any((env.home.work / "requests").iterdir())


async def test_two_tasks_that_need_the_same_build_share_it(tmp_path):
    env, count, hold = _env(tmp_path), tmp_path / "count", tmp_path / "hold"
    command = f"echo x >> {count}; while [ ! -e {hold} ]; do sleep 0.05; done"
    async with _engine(env) as engine:
        both = [engine.queue_build(*_build(env, OK, command, name)) for name in ("first", "second")]
        for task_id in both:
            await _until_state(engine, task_id, State.PROCESSING)
        hold.touch()
        ends = [await _wait(engine, task_id) for task_id in both]
        assert ends[0][0].result == ends[1][0].result
        assert sorted("build skipped" in text for _, text in ends) == [False, True]
        assert count.read_text() == "x\n"


async def test_a_build_whose_twin_is_killed_is_done_all_the_same(tmp_path):
    env, started, hold = _env(tmp_path), tmp_path / "started", tmp_path / "hold"
    command = f"touch {started}; while [ ! -e {hold} ]; do sleep 0.05; done"
    async with _engine(env) as engine:
        first = engine.queue_build(*_build(env, OK, command, "first"))
        with anyio.fail_after(20):
            while not started.exists():
                await anyio.lowlevel.checkpoint()
        second = engine.queue_build(*_build(env, OK, command, "second"))
        await _until_state(engine, second, State.PROCESSING)
        engine.kill(first, "killed by request")
        assert (await _wait(engine, first))[0].state is State.CANCELED
        hold.touch()
        task, text = await _wait(engine, second)
        assert task.state is State.COMPLETE and "build succeeded" in text
        assert Path(task.result[0]).read_text().endswith(f"{OK}\n")


async def test_a_removed_artifact_is_built_again(tmp_path):
    env = _env(tmp_path)
    async with _engine(env) as engine:
        artifacts = []
        for _ in range(2):
            task, text = await _wait(engine, engine.queue_build(*_build(env, OK, "true")))
            assert "build succeeded" in text
            Path(task.result[0]).unlink()
            artifacts += task.result
        assert artifacts[0] == artifacts[1]


async def test_a_purge_does_not_disturb_a_build_under_way(tmp_path):
    """Not even in the moment in which its artifact is moved to its place."""
    env, partial = _env(tmp_path), []

    def make_executable(tree, artifact):
        anyio.from_thread.run(engine.purge, "exec:generic", "plan", _Silent())
        partial.append(tree.exists())

    async with _engine(env) as engine:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(generic, "_make_executable", make_executable)
            task, _ = await _wait(engine, engine.queue_build(*_build(env, OK, "true")))
        assert task.state is State.COMPLETE and partial == [True]
        assert Path(task.result[0]).exists()
        await engine.purge("exec:generic", "plan", _Silent())
        assert not Path(task.result[0]).exists()
        assert [path.name for path in env.home.work.iterdir()] == ["requests"]


async def test_a_disk_problem_of_a_build_is_told_as_such(tmp_path):
    env = _env(tmp_path)
    async with _engine(env) as engine:
        request, manifest, sources = _build(env, OK, "true")
        shutil.rmtree(sources.base_dir)
        task, text = await _wait(engine, engine.queue_build(request, manifest, sources))
        assert "No such file or directory" in task.error and "bug" not in text


async def _until_running(engine, task_id):
    async for lines in engine.logs(task_id, follow=True):
        if b'"running":1' in lines.replace(b" ", b""):
            return
