from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from testground.api.task import DatedState, GroupOutcome, Outcome, RunResult, State, Task, TaskType, rfc3339

NOW = datetime(2026, 11, 23, 18, 26, 17, 516257, tzinfo=UTC)


def made(state: State, kind: TaskType = TaskType.RUN, result: Any = None) -> Task:
    return Task(type=kind, states=[DatedState(created=NOW, state=state)], result=result)


@pytest.mark.parametrize(
    ("task", "outcome"),
    [
        (made(State.SCHEDULED), Outcome.UNKNOWN),
        (made(State.PROCESSING), Outcome.UNKNOWN),
        (made(State.CANCELED, result={"outcome": "success"}), Outcome.CANCELED),
        (made(State.COMPLETE, TaskType.BUILD, ["art"]), Outcome.SUCCESS),
        (made(State.COMPLETE), Outcome.SUCCESS),  # upstream's null result
        (made(State.COMPLETE, result={"outcome": "failure"}), Outcome.FAILURE),
        (made(State.COMPLETE, result={"outcome": "success"}), Outcome.SUCCESS),
        (made(State.COMPLETE, result={"outcome": "canceled"}), Outcome.CANCELED),
        (made(State.COMPLETE, result={}), Outcome.UNKNOWN),
        (made(State.COMPLETE, result={"outcome": "SUCCESS"}), Outcome.UNKNOWN),
        (made(State.COMPLETE, result="success"), Outcome.UNKNOWN),
        (made(State.COMPLETE, result=[]), Outcome.UNKNOWN),
        (made(State.COMPLETE, result={"outcome": 1}), Outcome.UNKNOWN),
        (made(State.COMPLETE, result={"outcome": []}), Outcome.UNKNOWN),
        (made(State.COMPLETE, result={"outcome": {}}), Outcome.UNKNOWN),
    ],
)
def test_what_cannot_be_read_is_never_a_success(task: Task, outcome: Outcome) -> None:
    assert task.outcome is outcome


def test_the_verdict_in_one_line() -> None:
    result = RunResult(
        outcome=Outcome.FAILURE, outcomes={"b": GroupOutcome(ok=1, total=2), "a": GroupOutcome(ok=3, total=3)}
    )
    assert str(result) == "outcome = failure (a:3/3 b:1/2)"


def test_times_are_utc_with_a_z_on_the_wire() -> None:
    assert rfc3339(NOW) == "2026-11-23T18:26:17.516257Z"
    task = made(State.COMPLETE)
    assert task.wire()["states"] == [{"created": "2026-11-23T18:26:17.516257Z", "state": "complete"}]
    assert Task.model_validate(task.wire()) == task


def test_the_keys_of_a_task_are_in_wire_order() -> None:
    assert list(made(State.COMPLETE).wire()) == [
        "version",
        "priority",
        "id",
        "runner",
        "plan",
        "case",
        "states",
        "type",
        "composition",
        "input",
        "result",
        "error",
        "created_by",
    ]


def test_nanoseconds_of_the_go_daemon_are_read() -> None:
    states = [{"created": "2026-11-23T18:26:17.516257978Z", "state": "complete"}]
    assert Task.model_validate({"states": states}).created == NOW.replace(microsecond=516257)
