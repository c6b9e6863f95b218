"""The verbs on components and tasks over a real engine (client-daemon §1.4, §8.2, §8.3)."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from testground.api import xid

SUCCESS = """echo '{"event":{"success_event":{"group":"single"}}}'"""

UNKNOWN = xid.new(1_700_000_000)

ALL_TASKS = {
    "Types": ["build", "run"],
    "States": ["scheduled", "processing", "complete"],
    "After": None,
    "Before": None,
    "TestPlan": "",
    "TestCase": "",
}

JSON_ROUTES = {
    "/build/purge": "build purge",
    "/terminate": "terminate",
    "/healthcheck": "healthcheck",
    "/tasks": "tasks",
    "/status": "status",
    "/logs": "logs",
    "/cancel": "cancel",
    "/delete": "delete",
}

MALFORMED = [
    b"",
    b"\n",
    b"{bad",
    b'{"a":',
    b"[]",
    b"[null]",
    b'"x"',
    b"3",
    b"true",
    b"\x00",
    b"\xff\xfe",
    b'{"task_id":{},"runner":[],"builder":{},"run_id":0,"Types":0}',
    b'{"task_id":"\\u0000","runner":"\\u0000","builder":"\\u0000","run_id":"\\u0000","TestPlan":"\\u0000"}',
    b'{"task_id":' + b"9" * 10_000 + b"}",
    b'{"task_id":1e999}',
    b'{"x":NaN}',
    b"[" * 100_000,
    b'{"a":' * 10_000,
    b'{"x":"' + b"y" * (5 << 20) + b'"}',
]


def script(directory: Path, text: str) -> str:
    path = directory / "plan.sh"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def run_request(artifact: str, **members: Any) -> dict[str, Any]:
    """The smallest request that the Go daemon accepts (§8.5)."""
    return {
        "run_ids": ["default"],
        "composition": {
            "global": {"plan": "demo", "case": "ok", "builder": "exec:generic", "runner": "local:exec"},
            "groups": [{"id": "single", "instances": {"count": 1}, "run": {"artifact": artifact}}],
        },
        "manifest": {
            "Name": "demo",
            "Builders": {"exec:generic": {}},
            "Runners": {"local:exec": {}},
            "TestCases": [{"Name": "ok", "Instances": {"Minimum": 1, "Maximum": 1}}],
        },
        **members,
    }


async def submit(daemon: Any, artifact: str, **members: Any) -> str:
    result = (await daemon.ask("/run", run_request(artifact, **members)))[-1]
    assert result.kind == "r", result.payload
    assert xid.normalize(result.payload) == result.payload
    return str(result.payload)


async def test_a_run_from_submission_to_outputs(daemon: Any, tmp_path: Path) -> None:
    task_id = await submit(daemon, script(tmp_path, SUCCESS), created_by={"user": "me", "repo": "r"}, priority=1)
    *lines, task = await daemon.ask("/logs", {"task_id": task_id, "follow": True, "cancel_with_context": True})
    assert b"run finished with outcome = success" in b"".join(line.payload for line in lines)
    assert task.payload["states"][-1]["state"] == "complete"
    assert task.payload["states"][-1]["created"].endswith("Z")
    assert task.payload["result"]["outcome"] == "success"
    assert task.payload["created_by"] == {"user": "me", "repo": "r"}
    assert task.payload["priority"] == 1
    assert task.payload["input"]["run_ids"] == ["default"]
    assert task.payload["input"]["Sources"] is None

    assert (await daemon.ask("/status", {"task_id": task_id}))[-1] == task
    assert (await daemon.ask("/logs", {"TASK_ID": task_id}))[-1] == task

    *pieces, done = await daemon.ask("/outputs", {"runner": "ignored", "run_id": task_id})
    assert done.payload is True
    assert {piece.kind for piece in pieces} == {"b"}
    assert f"{task_id}/single/0/run.out".encode() in gzip.decompress(b"".join(piece.payload for piece in pieces))


async def test_log_lines_are_sent_as_go_sends_them(daemon: Any, tmp_path: Path) -> None:
    task_id = await submit(daemon, script(tmp_path, SUCCESS))
    response = await daemon.post("/logs", {"task_id": task_id, "follow": True})
    *lines, result = response.content.split(b"\n")
    assert all(json.loads(line)["t"] == 112 for line in lines)
    assert json.loads(result)["t"] == 114
    assert not response.content.endswith(b"\n")


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/status", {"task_id": "bad"}, "could not fetch status; err: task key must be a xid id"),
        ("/status", {"task_id": UNKNOWN}, "could not fetch status; err: task not found"),
        ("/status", {}, "could not fetch status; err: task key must be a xid id"),
        ("/status", {"task_id": "../../../etc/passwd"}, "could not fetch status; err: task key must be a xid id"),
        ("/logs", {"task_id": UNKNOWN, "follow": True}, "error while getting task; err: task not found"),
        ("/logs", {"task_id": "../x"}, "error while getting task; err: task key must be a xid id"),
        ("/cancel", {"task_id": UNKNOWN}, "cannot cancel task; err: task not found"),
        ("/cancel", {}, "cannot cancel task; err: task key must be a xid id"),
        ("/delete", {"task_id": UNKNOWN}, "cannot delete task; err: task not found"),
        ("/outputs", {"runner": "x", "run_id": "bad"}, "cannot collect outputs; err: task key must be a xid id"),
        ("/outputs", {"run_id": UNKNOWN}, "cannot collect outputs; err: task not found"),
        ("/terminate", {}, "terminate error; err: unknown component:  (type: )"),
        ("/terminate", {"runner": "zz"}, "terminate error; err: unknown component: zz (type: runner)"),
        ("/terminate", {"builder": "zz"}, "terminate error; err: unknown component: zz (type: builder)"),
        ("/terminate", {"runner": "a", "builder": "b"}, "cannot terminate a runner and a builder at the same time"),
        ("/terminate", {"builder": "exec:go"}, "terminate error; err: component exec:go is not terminatable"),
        ("/build/purge", {"builder": "zz", "testplan": "p"}, "build purge error; err: unrecognized builder: zz"),
        ("/healthcheck", {"runner": "nope"}, "healthcheck error; err: unknown runner: nope"),
        ("/healthcheck", {}, "healthcheck error; err: unknown runner: "),
        ("/status", b"{bad", "status json decode; err: "),
        ("/terminate", b"", "terminate json decode; err: EOF"),
        ("/tasks", {"Types": ["x"]}, "tasks json decode; err: Types"),
        ("/tasks", {"Before": "yesterday"}, "tasks json decode; err: Before"),
    ],
)
async def test_errors(daemon: Any, path: str, body: Any, message: str) -> None:
    *progress, error = await daemon.ask(path, body)
    assert error.kind == "e"
    assert error.payload.startswith(message)
    assert error.code
    warning = progress[-1].payload.decode()
    assert "\x1b[33mWARN\x1b[0m\t" + error.payload in warning
    assert '"req_id": "' in warning


@pytest.mark.parametrize("body", MALFORMED)
@pytest.mark.parametrize("path", JSON_ROUTES)
async def test_malformed_json_is_an_error_chunk(daemon: Any, path: str, body: bytes) -> None:
    error = (await daemon.ask(path, body))[-1]
    if b"{}" in body or b"x" in body[:3]:  # well-formed for the routes that have no such member
        return
    assert error.kind == "e"
    assert "internal error" not in error.payload


@pytest.mark.parametrize("path", JSON_ROUTES)
async def test_malformed_json_names_its_route(daemon: Any, path: str) -> None:
    error = (await daemon.ask(path, b"{"))[-1]
    assert error.payload.startswith(f"{JSON_ROUTES[path]} json decode; err: ")
    assert error.code == "request"


@pytest.mark.parametrize("body", [b"{bad", b"", b"[]", b'{"run_id":7}'])
async def test_malformed_json_on_outputs_is_a_bare_400(daemon: Any, body: bytes) -> None:
    response = await daemon.post("/outputs", body)
    assert (response.status_code, response.content) == (400, b"")


@pytest.mark.parametrize("body", [{}, {"Types": None, "States": None}, {**ALL_TASKS, "States": ["canceled"]}, b"null"])
async def test_no_tasks_is_null(daemon: Any, tmp_path: Path, body: Any) -> None:
    await submit(daemon, script(tmp_path, SUCCESS))
    assert (await daemon.post("/tasks", body)).content == b'{"t":114,"p":null}'


async def test_tasks_of_the_current_second_are_listed(daemon: Any, tmp_path: Path) -> None:
    task_id = await submit(daemon, script(tmp_path, SUCCESS))
    for change in ({}, {"TestPlan": "demo"}, {"TestCase": "ok", "Before": hours(-1)}, {"After": hours(+1)}):
        assert [task["id"] for task in (await daemon.ask("/tasks", {**ALL_TASKS, **change}))[-1].payload] == [task_id]
    for change in ({"TestPlan": "other"}, {"Before": hours(+1)}, {"After": hours(-1)}, {"Types": ["build"]}):
        assert (await daemon.ask("/tasks", {**ALL_TASKS, **change}))[-1].payload is None


@pytest.mark.parametrize(
    "moment", ["0001-01-01T00:00:00", "9999-12-31T23:59:59", "2026-01-01T00:00:00", 0, -62135596800]
)
async def test_odd_times_break_nothing(daemon: Any, moment: Any) -> None:
    for key in ("After", "Before"):
        answer = (await daemon.ask("/tasks", {**ALL_TASKS, key: moment}))[-1]
        assert answer.kind == "r" or "internal error" not in answer.payload


async def test_healthcheck_report(daemon: Any) -> None:
    report = (await daemon.ask("/healthcheck", {"runner": "local:exec", "fix": True}))[-1].payload
    assert set(report) == {"Checks", "Fixes"}
    assert all(set(item) == {"Name", "Status", "Message"} for item in report["Checks"])


async def test_terminate_ends_the_runs_of_a_runner(daemon: Any, tmp_path: Path) -> None:
    task_id = await submit(daemon, script(tmp_path, "exec sleep 600"))
    await until_processing(daemon, task_id)
    assert (await daemon.ask("/terminate", {"runner": "local:exec"}))[-1].payload == "Done"
    task = (await daemon.ask("/logs", {"task_id": task_id, "follow": True}))[-1].payload
    assert task["states"][-1]["state"] in ("complete", "canceled")


async def test_cancel_ends_a_run_and_may_be_repeated(daemon: Any, tmp_path: Path) -> None:
    task_id = await submit(daemon, script(tmp_path, "exec sleep 600"))
    await until_processing(daemon, task_id)
    for _ in range(3):
        assert (await daemon.ask("/cancel", {"task_id": task_id}))[-1].payload == "Done"
    task = (await daemon.ask("/logs", {"task_id": task_id, "follow": True}))[-1].payload
    assert task["result"]["outcome"] == "canceled" or task["states"][-1]["state"] == "canceled"
    assert (await daemon.ask("/cancel", {"task_id": task_id}))[-1].payload == "Done"


async def test_cancel_of_a_waiting_task(daemon: Any, tmp_path: Path) -> None:
    first = await submit(daemon, script(tmp_path, "exec sleep 600"))
    second = await submit(daemon, script(tmp_path, "exec sleep 600"))
    await until_processing(daemon, first)
    await daemon.ask("/cancel", {"task_id": second})
    *_, task = await daemon.ask("/logs", {"task_id": second, "follow": True})
    assert [state["state"] for state in task.payload["states"]] == ["scheduled", "canceled"]
    await daemon.ask("/cancel", {"task_id": first})


async def test_delete_forgets_a_task_and_its_log(daemon: Any, tmp_path: Path) -> None:
    task_id = await submit(daemon, script(tmp_path, SUCCESS))
    await daemon.ask("/logs", {"task_id": task_id, "follow": True})
    assert list(daemon.env.home.daemon.glob(f"{task_id}*"))
    assert (await daemon.ask("/delete", {"task_id": task_id}))[-1].payload == "Done"
    assert not list(daemon.env.home.daemon.glob(f"{task_id}*"))
    assert (await daemon.ask("/status", {"task_id": task_id}))[-1].kind == "e"


async def until_processing(daemon: Any, task_id: str) -> None:
    """Until the runner says so in the log of the task."""
    with anyio.fail_after(20):
        async for lines in daemon.engine.logs(task_id, follow=True):
            text = b"".join(chunk.payload for chunk in daemon.decode(lines))
            if b"starting run" in text:
                return
    raise AssertionError("the run ended before it was seen running")


def hours(number: int) -> str:
    return (datetime.now(UTC) + timedelta(hours=number)).isoformat().replace("+00:00", "Z")
