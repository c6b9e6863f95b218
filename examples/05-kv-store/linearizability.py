"""Whether what clients saw can be explained: Wing and Gong's search with Lowe's memory of what was tried before.

A history is linearizable if each operation can be given a moment between its start and its end at which it takes effect
at once, so that every read returns what was written last. Keys do not depend on each other: each is checked alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

OPEN = 1 << 62
"""The end of a write that nobody confirmed: it may take effect at any later time, or never."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What one client did and saw. Times are nanoseconds of the clock that all processes of a machine share."""

    client: int
    kind: Literal["read", "write"]
    key: str
    value: str | None
    """Written or read. None: nothing had been written."""
    start: int
    end: int


def violations(history: Iterable[Operation]) -> dict[str, list[Operation]]:
    """For each key whose history cannot be explained: a few operations that show it, none of them to spare."""
    keys: dict[str, list[Operation]] = {}
    for operation in history:
        keys.setdefault(operation.key, []).append(operation)
    return {key: _smallest(operations) for key, operations in sorted(keys.items()) if not is_linearizable(operations)}


def is_linearizable(operations: Iterable[Operation]) -> bool:
    """Look for an order that explains the operations of one key.

    A state of the search is what has come so far and the value it left; no state is visited twice.
    """
    calls = sorted(operations, key=lambda operation: operation.start)
    everything = (1 << len(calls)) - 1
    start: tuple[int, str | None] = (0, None)
    pending, seen = [start], {start}
    while pending:
        done, value = pending.pop()
        if done == everything:
            return True
        for index in _next(calls, done, value):
            state = (done | 1 << index, calls[index].value)
            if state not in seen:
                seen.add(state)
                pending.append(state)
    return False


def describe(operations: Sequence[Operation], origin: int) -> str:
    """One operation a line, in the order of their starts, with milliseconds since `origin`."""
    return "\n".join(
        f"    client {call.client} {_VERBS[call.kind]} {call.value or 'nothing':<6}"
        f" from {(call.start - origin) / 1e6:8.3f} ms to {_end(call, origin)}"
        for call in sorted(operations, key=lambda operation: operation.start)
    )


def _end(call: Operation, origin: int) -> str:
    return "nobody knows when" if call.end == OPEN else f"{(call.end - origin) / 1e6:8.3f} ms"


_VERBS = {"read": "read ", "write": "wrote"}


def _next(calls: Sequence[Operation], done: int, value: str | None) -> list[int]:
    """What to try next. A read of the present value changes nothing for the others: it alone is enough."""
    candidates = list(_candidates(calls, done))
    reads = [index for index in candidates if calls[index].kind == "read" and calls[index].value == value]
    return reads[:1] or [index for index in candidates if calls[index].kind == "write"]


def _candidates(calls: Sequence[Operation], done: int) -> Iterator[int]:
    """Which of the rest may come next: those that began before any of the rest had ended."""
    horizon: float = float("inf")
    first = (~done & done + 1).bit_length() - 1
    for index in range(first, len(calls)):
        if done >> index & 1:
            continue
        if calls[index].start > horizon:
            return
        horizon = min(horizon, calls[index].end)
        yield index


def _smallest(operations: Sequence[Operation]) -> list[Operation]:
    """Leave out reads, then writes that nobody read, as long as the rest still cannot be explained.

    Both can be left out of any explanation, so what the rest shows holds for the whole.
    """
    rest = _thinned(operations, [call for call in operations if call.kind == "read"])
    seen = {call.value for call in rest if call.kind == "read"}
    return _thinned(rest, [call for call in rest if call.kind == "write" and call.value not in seen])


def _thinned(operations: Sequence[Operation], spare: Sequence[Operation]) -> list[Operation]:
    """Leave out what can be of `spare`: all of it, else halves, quarters and so on down to single operations."""
    rest, size = list(operations), len(spare)
    while size:
        for first in range(0, len(spare), size):
            left_out = {id(call) for call in spare[first : first + size]}
            fewer = [call for call in rest if id(call) not in left_out]
            if len(fewer) < len(rest) and not is_linearizable(fewer):
                rest = fewer
        size //= 2
    return rest
