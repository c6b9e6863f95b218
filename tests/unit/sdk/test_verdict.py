"""Which exceptions are failures, which crashes, and what is said about them."""

from __future__ import annotations

import asyncio

import pytest

from testground.errors import PeerLostError, SyncError, SyncLostError
from testground.sdk import Failed, NetworkRefusedError, ParamError
from testground.sdk.verdict import judge


@pytest.mark.parametrize(
    ("error", "exit_code", "text"),
    [
        (Failed("3 of 5"), 1, "3 of 5"),
        (Failed(), 1, "Failed"),
        (AssertionError("odd"), 1, "odd"),
        (ParamError("parameter 'x' is not set"), 1, "parameter 'x' is not set"),
        (PeerLostError("single[1] died"), 1, "single[1] died"),
        (SyncLostError("gone"), 2, "gone"),
        (NetworkRefusedError("no netem"), 2, "no netem"),
        (SyncError("refused"), 2, "testground.errors.SyncError: refused"),
        (ValueError("x"), 2, "ValueError: x"),
        (TimeoutError(), 2, "TimeoutError"),
        (SystemExit(0), 2, "the case called sys.exit(0)"),
        (asyncio.CancelledError(), 2, "asyncio.exceptions.CancelledError"),
        (ExceptionGroup("tasks", [Failed("a"), Failed("a"), Failed("b")]), 1, "a; b"),
        (ExceptionGroup("tasks", [ExceptionGroup("inner", [AssertionError("deep")])]), 1, "deep"),
        (ExceptionGroup("tasks", [Failed("a"), KeyError("k")]), 2, "KeyError: 'k'"),
    ],
)
def test_judging(error: BaseException, exit_code: int, text: str) -> None:
    verdict = judge(error)
    assert (verdict.exit_code, verdict.error) == (exit_code, text)
    assert bool(verdict.stacktrace) == (exit_code == 2)


def test_a_bare_assertion_is_told_by_its_source() -> None:
    expected = 4
    with pytest.raises(AssertionError) as caught:
        if expected != 2 + 3:
            raise AssertionError
    verdict = judge(caught.value)
    assert verdict.error.startswith("assertion failed: raise AssertionError (test_verdict.py:")


def test_the_stack_begins_in_the_plan() -> None:
    try:
        {"a": 1}["missing"]
    except KeyError as error:
        stack = judge(error).stacktrace
    assert "test_the_stack_begins_in_the_plan" in stack
    assert stack.endswith("KeyError: 'missing'\n")
