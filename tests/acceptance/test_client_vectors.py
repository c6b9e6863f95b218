"""Vectors of client-daemon §8.8 with the real programs: the command line L1 to L6, the queue Q1, Q2 and Q4.

L7 and L8, errors before contact and ignored files, need no daemon: they are in `tests/unit/cli` and
`tests/unit/plan`. Of Q3, the id of a task is in `tests/unit/api/test_xid.py`; the key of upstream's database has no
counterpart.
"""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from testground.api.rpc import Chunk
from tests.acceptance.conftest import CommandLine
from tests.acceptance.processes import started
from tests.acceptance.voices import Stage

pytestmark = pytest.mark.timeout(120)

MANIFEST = """name = "vectors"
[builders."exec:generic"]
artifact = "run.sh"
[runners."local:exec"]
[[testcases]]
name = "ok"
instances = { min = 1, max = 5 }
[testcases.params]
word = { type = "string", default = "ok" }
"""
RUN = """#!/bin/sh
case "$TEST_INSTANCE_PARAMS" in *word=fail*) exit 3;; esac
echo '{"event":{"success_event":{"group":"'"$TEST_GROUP_ID"'"}}}'
"""
COMPOSITION = """[global]
plan = "vectors"
case = "ok"
builder = "exec:generic"
runner = "local:exec"
[[groups]]
id = "a"
instances = { count = 1 }
[[groups]]
id = "b"
instances = { count = 1 }
[[runs]]
id = "zrun"
groups = [{ id = "a" }, { id = "b" }]
[[runs]]
id = "arun"
groups = [{ id = "a" }]
test_params = { word = "fail" }
"""
SINGLE = ["run", "single", "-p", "vectors", "-t", "ok", "-b", "exec:generic", "-r", "local:exec", "-i", "2"]


@pytest.fixture
def vectors(cli: CommandLine) -> CommandLine:
    """Commands with the daemon of the session, which has the plan."""
    plan = cli.home / "plans" / "vectors"
    plan.mkdir(parents=True, exist_ok=True)
    (plan / "manifest.toml").write_text(MANIFEST)
    (plan / "run.sh").write_text(RUN)
    (plan / "run.sh").chmod(0o755)
    (cli.directory / "c.toml").write_text(COMPOSITION)
    return cli


def test_l1_two_runs(vectors: CommandLine) -> None:
    done = vectors("run", "composition", "-f", "c.toml", "--collect", "--result-file", "r.csv")
    assert (done.exit_code, done.stderr) == (1, 'run "arun" failed\n')
    arun, zrun = done.run_ids
    assert (vectors.directory / "r.csv").read_text() == (
        f"run_id,task_id,outcome,error\narun,{arun},failure,\nzrun,{zrun},success,\n"
    )
    archives = sorted(path.name for path in vectors.directory.glob("*.tgz"))
    assert archives == [f"multiple-arun-{arun}.tgz", f"multiple-zrun-{zrun}.tgz"]
    inputs = [_task(vectors, run_id)["input"] for run_id in (arun, zrun)]
    assert [(given["build_groups"], given["run_ids"]) for given in inputs] == [([0, 1], ["arun"]), ([], ["zrun"])]


def test_l2_a_broken_build_ends_all_runs(vectors: CommandLine) -> None:
    (vectors.home / "plans" / "vectors" / "run.sh").unlink()
    (vectors.directory / "c.toml").write_text(COMPOSITION + '[[runs]]\nid = "mrun"\ngroups = [{ id = "b" }]\n')
    done = vectors("run", "composition", "-f", "c.toml", "--wait", "--collect", "--result-file", "r.csv")
    [only] = done.run_ids
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1] == _task(vectors, only)["error"]
    assert (vectors.directory / "r.csv").read_text().splitlines()[1:] == [
        f"{run},N/A,canceled,canceled" for run in ("arun", "mrun", "zrun")
    ]


def test_l3_without_waiting_the_result_file_has_its_head_alone_and_l5_scripts_find_the_id(vectors: CommandLine) -> None:
    done = vectors("run", "composition", "-f", "c.toml", "--run-ids", "zrun", "--result-file", "r.csv")
    assert (done.exit_code, (vectors.directory / "r.csv").read_text()) == (0, "run_id,task_id,outcome,error\n")
    [line] = done.log("run is queued with ID: ")
    assert [line.split()[9]] == done.run_ids


def test_l4_status_of_what_is_no_id(vectors: CommandLine) -> None:
    """The Go daemon answers nothing, and its client says `EOF`; ours say why."""
    done = vectors("status", "-t", "bad")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (
        1,
        "could not fetch status; err: task key must be a xid id",
    )


def test_l5_l6_a_run_and_its_archive(vectors: CommandLine) -> None:
    done = vectors(*SINGLE, "--collect")
    assert done.exit_code == 0, done.stdout
    [run_id] = done.run_ids
    [finished] = done.log("finished run with ID: ")
    assert finished.split()[8] == run_id
    with tarfile.open(vectors.directory / f"{run_id}.tgz") as archive:
        names = archive.getnames()
    assert names == [
        f"{run_id}/{name}"
        for name in (".", "single", *(f"single/{i}{file}" for i in (0, 1) for file in ("", "/run.err", "/run.out")))
    ]


def _task(cli: CommandLine, task_id: str) -> dict[str, Any]:
    task: dict[str, Any] = Stage(cli.home, cli.directory).ask("/status", {"task_id": task_id})[-1].payload
    return task


# -- the queue --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def queue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    home = tmp_path_factory.mktemp("home")
    with started(home, "[daemon.scheduler]\nworkers = 1\nqueue_size = 2"):
        yield Stage(home, home)


def submit(queue: Stage, script: str, **members: Any) -> Chunk:
    artifact = queue.directory / f"{len(script)}.sh"
    artifact.write_text(f"#!/bin/sh\n{script}\n")
    artifact.chmod(0o755)
    names = {"plan": "vectors", "case": "ok", "builder": "exec:generic", "runner": "local:exec"}
    groups = [{"id": "a", "instances": {"count": 1}, "run": {"artifact": str(artifact)}}]
    manifest = {
        "Name": "vectors",
        "Builders": {"exec:generic": {}},
        "Runners": {"local:exec": {}},
        "TestCases": [{"Name": "ok", "Instances": {"Minimum": 1, "Maximum": 1}}],
    }
    request = {"composition": {"global": names, "groups": groups}, "manifest": manifest, **members}
    return queue.ask("/run", request)[-1]


def finished(queue: Stage, task_id: str) -> dict[str, Any]:
    task: dict[str, Any] = queue.ask("/logs", {"task_id": task_id, "follow": True})[-1].payload
    return task


def states(task: dict[str, Any]) -> list[str]:
    return [state["state"] for state in task["states"]]


SLEEP, SUCCEED = "exec sleep 600", """echo '{"event":{"success_event":{"group":"a"}}}'"""


def test_q1_the_newer_run_of_a_branch_replaces_the_older_and_q2_a_kill_is_complete(
    queue: Stage, tmp_path: Path
) -> None:
    """Upstream leaves the error of the replaced task empty, which clients take for a success; ours says why."""
    gate = tmp_path / "started"
    os.mkfifo(gate)
    branch = {"user": "me", "repo": "r", "branch": "b"}
    a = submit(queue, f"echo . > {gate}; {SLEEP}").payload
    assert gate.read_text() == ".\n"  # it runs
    b = submit(queue, SUCCEED, created_by=branch).payload
    c = submit(queue, SUCCEED, priority=1).payload
    d = submit(queue, SUCCEED)
    assert (d.kind, d.payload.startswith("engine run error: queue full")) == ("e", True)
    e = submit(queue, SUCCEED, created_by=branch).payload
    replaced = queue.ask("/status", {"task_id": b})[-1].payload
    assert states(replaced) == ["scheduled", "canceled"]
    assert replaced["error"]

    assert queue.ask("/cancel", {"task_id": a})[-1].payload == "Done"
    killed = finished(queue, a)
    assert (states(killed)[-1], killed["result"]["outcome"], killed["error"]) == ("complete", "canceled", "")

    first, second = finished(queue, c), finished(queue, e)
    assert [task["result"]["outcome"] for task in (first, second)] == ["success", "success"]
    assert first["states"][2]["created"] <= second["states"][1]["created"]


def test_q4_tasks_by_time(queue: Stage) -> None:
    """`Before` is the lower bound and `After` the upper one. Upstream leaves out what was queued in the same second."""
    task_id = submit(queue, SUCCEED).payload
    now = datetime.now(UTC)
    listed = {
        name: task_id in [task["id"] for task in queue.ask("/tasks", {**_all(), **bounds})[-1].payload or []]
        for name, bounds in {
            "at once": {},
            "before an hour ago": {"Before": _text(now - timedelta(hours=1))},
            "before the future": {"Before": _text(now + timedelta(hours=1))},
            "after an hour ago": {"After": _text(now - timedelta(hours=1))},
        }.items()
    }
    assert listed == {
        "at once": True,
        "before an hour ago": True,
        "before the future": False,
        "after an hour ago": False,
    }
    finished(queue, task_id)


def _all() -> dict[str, Any]:
    text = (
        '{"Types":["build","run"],"States":["scheduled","processing","complete"],"After":null,"Before":null,'
        '"TestPlan":"","TestCase":""}'
    )
    request: dict[str, Any] = json.loads(text)
    return request


def _text(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")
