"""The checker of examples/05-kv-store against its definition: all orders of small histories."""

from __future__ import annotations

import importlib.util
import itertools
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

Call = Any
"""An `Operation` of the example, whose module is not on the path."""


def _load() -> ModuleType:
    path = Path(__file__).parents[3] / "examples" / "05-kv-store" / "linearizability.py"
    spec = importlib.util.spec_from_file_location("kv_store_linearizability", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


checker = _load()


def call(kind: str, value: str | None, start: int, end: int, *, client: int = 1, key: str = "x") -> Call:
    return checker.Operation(client, kind, key, value, start, end)


def by_definition(calls: list[Call]) -> bool:
    """Some order that keeps what was over before something else began explains all reads."""
    return any(_in_time(order) and _explains(order) for order in itertools.permutations(calls))


def _in_time(order: tuple[Call, ...]) -> bool:
    return not any(later.end < earlier.start for earlier, later in itertools.combinations(order, 2))


def _explains(order: tuple[Call, ...]) -> bool:
    value = None
    for each in order:
        if each.kind == "read" and each.value != value:
            return False
        value = each.value
    return True


@st.composite
def calls(draw: st.DrawFn) -> Call:
    kind = draw(st.sampled_from(["read", "write"]))
    values = ["a", "b"] if kind == "write" else ["a", "b", None]
    start = draw(st.integers(0, 12))
    return call(kind, draw(st.sampled_from(values)), start, start + draw(st.integers(0, 6)))


histories = st.lists(calls(), max_size=6)


@given(histories)
def test_agrees_with_the_definition(history: list[Call]) -> None:
    assert checker.is_linearizable(history) == by_definition(history)


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc")), max_size=80))
def test_one_after_the_other_is_always_linearizable(script: list[tuple[bool, str]]) -> None:
    history, value = [], None
    for moment, (writes, wanted) in enumerate(script):
        value = wanted if writes else value
        history.append(call("write" if writes else "read", value, 2 * moment, 2 * moment + 1))
    assert checker.is_linearizable(history)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5), st.integers(0, 5)), max_size=60))
def test_what_happened_at_one_moment_each_is_linearizable(script: list[tuple[bool, int, int]]) -> None:
    """Intervals of any length around the moments at which a real register was used."""
    history, value = [], None
    for moment, (writes, before, after) in enumerate(script):
        value = str(moment) if writes else value
        history.append(call("write" if writes else "read", value, moment - before, moment + after))
    assert checker.violations(history) == {}


@given(histories)
def test_what_it_shows_is_wrong_and_nothing_of_it_can_be_spared(history: list[Call]) -> None:
    for shown in checker.violations(history).values():
        assert not by_definition(shown)
        for index, one in enumerate(shown):
            rest = shown[:index] + shown[index + 1 :]
            read_elsewhere = any(other.kind == "read" and other.value == one.value for other in rest)
            assert by_definition(rest) or (one.kind == "write" and read_elsewhere)


@pytest.mark.parametrize(
    "history",
    [
        pytest.param([call("read", "a", 0, 1)], id="read of what nobody wrote"),
        pytest.param([call("write", "a", 0, 1), call("read", None, 2, 3)], id="lost write"),
        pytest.param([call("write", "a", 0, 1), call("write", "b", 2, 3), call("read", "a", 4, 5)], id="stale read"),
        pytest.param([call("read", "a", 0, 1), call("write", "a", 2, 3)], id="read of the future"),
        pytest.param(
            [call("write", "a", 0, 9), call("read", "a", 1, 2), call("read", None, 3, 4)], id="new and then old"
        ),
    ],
)
def test_known_violations_are_shown_whole(history: list[Call]) -> None:
    noise = [call("write", "n", 20, 21, client=2), call("read", "n", 22, 23, client=2)]
    assert checker.violations(noise + history) == {"x": history}


def test_keys_do_not_depend_on_each_other() -> None:
    stale = [call("write", "a", 0, 1), call("read", None, 2, 3)]
    fine = [call("write", "a", 0, 1, key="y"), call("read", "a", 2, 3, key="y")]
    assert list(checker.violations(fine + stale)) == ["x"]


def test_many_clients_at_once_are_checked_quickly() -> None:
    """500 rounds of six overlapping operations each; without memory the search would not end."""
    history = []
    for start in range(0, 5000, 10):
        history += [call("write", f"{start}-{client}", start, start + 8, client=client) for client in range(5)]
        history.append(call("read", f"{start}-{start % 5}", start + 1, start + 9, client=6))
    assert checker.is_linearizable(history)
    stale = call("read", "0-0", 4000, 4001, client=7)
    assert checker.violations([*history, stale])["x"][-1] == stale


def test_describes_in_the_order_of_time() -> None:
    shown = [call("read", None, 2_000_000, 3_500_000, client=2), call("write", "1-7", 1_000_000, 1_500_000)]
    assert checker.describe(shown, origin=1_000_000).splitlines() == [
        "    client 1 wrote 1-7    from    0.000 ms to    0.500 ms",
        "    client 2 read  nothing from    1.000 ms to    2.500 ms",
    ]
