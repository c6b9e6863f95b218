"""From what instances said and how they ended to the outcome of the run, in words.

An instance succeeded only if it said so, never said otherwise, and exited with 0. All else is a failure with a reason.
"""

from __future__ import annotations

import math
import signal
from collections import deque
from collections.abc import Iterable, Sequence

from testground.api.task import GroupOutcome, InstanceFailure, Outcome, RunResult
from testground.plugins import Stop
from testground.runners.events import Event, Kind
from testground.sync.service import Member, Wait

LAST_LINES = 12
LONGEST_REASON = 2000


class Ledger:
    """What is known of one instance, from either channel, in order of arrival."""

    def __init__(self, member: Member) -> None:
        self.member = member
        self.said_ok = False
        self.complaint = ""
        self.last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self.ended_after: float | None = None
        """Seconds since the start of the run."""
        self._exit_code: int | None = None
        self._stopped = ""

    def note(self, event: Event) -> bool:
        """A failure or crash beats a success; the first complaint that says why is kept.

        Returns whether the event changed anything.
        """
        if self._stopped:
            return False  # what it says about being ended is not the reason
        if event.kind is Kind.OK and not self.said_ok:
            self.said_ok = True
            return True
        if event.kind not in (Kind.FAIL, Kind.CRASH):
            return False
        word = "failed" if event.kind is Kind.FAIL else "crashed"
        if not self.complaint or (self.complaint == word and event.error):
            self.complaint = f"{word}: {first_line(event.error)}" if event.error else word
            return True
        return False

    def ended(self, exit_code: int, after: float) -> None:
        self._exit_code, self.ended_after = exit_code, after

    def unheard(self, reason: str) -> None:
        """Something that it said is lost, which may have been a failure."""
        self.complaint = self.complaint or reason

    def never_started(self, reason: str, after: float) -> None:
        self.complaint, self.ended_after = f"failed to start: {reason}", after

    def stopped(self, why: str) -> None:
        """It had not ended when the run was, for this reason."""
        self._stopped = why

    @property
    def reason(self) -> str | None:
        """Why the instance did not succeed; None if it did."""
        if self.complaint:
            return self.complaint
        if self._stopped:
            return self._stopped
        if self._exit_code is None:
            return "its end was never seen"
        if self._exit_code != 0:
            how = exit_text(self._exit_code)
            return f"reported success, then {how}" if self.said_ok else f"{how} before reporting an outcome"
        return None if self.said_ok else "exited without reporting an outcome (exit code 0)"


def judge(ledgers: Sequence[Ledger], stop: Stop) -> RunResult:
    """The result of the run; failures in the order in which instances ended."""
    outcomes: dict[str, GroupOutcome] = {}
    for ledger in ledgers:
        group = outcomes.setdefault(ledger.member.group, GroupOutcome())
        group.total += 1
        group.ok += ledger.reason is None
    failures = [
        InstanceFailure(
            instance=str(ledger.member),
            reason=ledger.reason,
            seconds=round(ledger.ended_after or 0.0, 3),
            last_lines=list(ledger.last_lines),
        )
        for ledger in sorted(ledgers, key=lambda ledger: math.inf if ledger.ended_after is None else ledger.ended_after)
        if ledger.reason is not None
    ]
    passed = bool(ledgers) and not failures
    return RunResult(outcome=_outcome(passed, stop), outcomes=outcomes, failures=failures)


def explain(result: RunResult, waits: Sequence[Wait]) -> list[str]:
    """The verdict in plain words, a line each: first failure, its last lines, who waited where, the rest by reason."""
    if not result.failures:
        return []
    first = result.failures[0]
    lines = [f"first failure: {first.instance} after {first.seconds:.1f}s: {first.reason}"]
    lines += [f"    {line}" for text in first.last_lines for line in text.splitlines()]
    lines += _who_waited(waits)
    by_reason: dict[str, list[str]] = {}
    for failure in result.failures[1:]:
        by_reason.setdefault(failure.reason, []).append(failure.instance)
    return [*lines, *(f"then {_names(names)}: {reason}" for reason, names in by_reason.items())]


def waiting_text(waits: Iterable[Wait]) -> str:
    """`waiting on barrier "ready" (2 of 3)`, for the waits of one instance; empty when it waited nowhere."""
    return ", ".join(_wait(wait) for wait in waits)


def exit_text(code: int) -> str:
    """`exited with code 3`, `was killed by SIGKILL`."""
    if code >= 0:
        return f"exited with code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def first_line(text: str) -> str:
    """At most `LONGEST_REASON` characters of it."""
    line = text.strip().partition("\n")[0]
    return line if len(line) <= LONGEST_REASON else f"{line[:LONGEST_REASON]}…"


def _outcome(passed: bool, stop: Stop) -> Outcome:
    if stop.requested and not stop.timed_out:
        return Outcome.CANCELED
    return Outcome.SUCCESS if passed else Outcome.FAILURE


def _who_waited(waits: Sequence[Wait]) -> list[str]:
    """A barrier is where an instance stands; a subscription may be one that it has long stopped to read."""
    at_barriers = {wait.member for wait in waits if wait.kind == "barrier"}
    places: dict[str, list[str]] = {}
    for wait in waits:
        if wait.kind != "barrier" and wait.member in at_barriers:
            continue
        places.setdefault(_wait(wait), []).append(str(wait.member or "an unknown client"))
    return [f"{_names(names)} waited {place}" for place, names in places.items()]


def _wait(wait: Wait) -> str:
    if wait.kind == "barrier":
        return f'on barrier "{wait.name}" ({wait.current} of {wait.target})'
    return f'on topic "{wait.name}" ({wait.current} messages so far)'


def _names(names: Sequence[str], most: int = 5) -> str:
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
