"""Who takes part in a run, and what the living can no longer expect once one of them died.

Each instance is taken to signal a state once, and before it waits for it. So a barrier is lost when its target is more
than the signals that came plus the living that have neither signalled nor wait, and a subscription is lost when every
living instance has had its say on the topic while a dead one never had. Both are decided only after a death, and only
while every living instance has a door of its own: a connection that belongs to nobody could be anybody's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence, Set
from dataclasses import dataclass
from typing import TypeAlias

from testground.sync.wire import CANNOT_BE_MET

MAX_NAMED = 3
"""Missing instances of one reason, and reasons, that an error names; the others are counted."""

MAX_NAME = 200
"""Characters of a state's or topic's name, or of a reason, that an error repeats: it must fit into a message."""


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """One instance of a run; `index` counts within its group, from 0."""

    run_id: str
    group: str
    index: int

    def __str__(self) -> str:
        return f"{self.group}[{self.index:03}]"


MemberOf: TypeAlias = Callable[[str], Member | None]
"""By the address that a connection comes from: whose it is, when that is known."""


class Members:
    """The instances of one run: alive, ended well, or dead with a reason."""

    def __init__(self) -> None:
        self.live: set[Member] = set()
        self.ended: set[Member] = set()
        self.dead: dict[Member, str] = {}
        self.connected: set[Member] = set()
        self._doorless: set[Member] = set()

    def begin(self, members: Iterable[Member]) -> None:
        joining = set(members)
        self.live |= joining
        self._doorless |= joining

    def give_door(self, member: Member) -> None:
        self._doorless.discard(member)

    def end(self, member: Member, reason: str | None) -> bool:
        """Only the first end counts. Returns whether this was it."""
        if member not in self.live:
            return False
        self.live.remove(member)
        self._doorless.discard(member)
        if reason is None:
            self.ended.add(member)
        else:
            self.dead[member] = reason[:MAX_NAME]
        return True

    @property
    def judged(self) -> bool:
        """Whether what is lost can be told at all."""
        return bool(self.dead) and not self._doorless

    def most_signals(self, count: int, signallers: Set[Member], waiters: Set[Member]) -> int:
        """How far a state that stands at `count` can still get; who waits for it (`waiters`) does not signal it."""
        return count + len(self.live - signallers - waiters)

    def silent(self, speakers: Set[Member], touched: Set[Member]) -> bool:
        """Whether all living have had their say on a topic (`touched`), and a dead one never had (`speakers`)."""
        return self.live <= touched and not self.dead.keys() <= speakers

    def barrier_error(self, name: str, target: int, count: int, signallers: Set[Member]) -> str:
        missing = self._missing(signallers, "before signalling it", "without signalling it")
        return f'barrier "{name[:MAX_NAME]}"{CANNOT_BE_MET}it needs {target}, has {count}; {missing}'

    def subscription_error(self, name: str, speakers: Set[Member]) -> str:
        missing = _listed(self._died(speakers, " before publishing to it"))
        return f'subscription to "{name[:MAX_NAME]}"{CANNOT_BE_MET}{missing}; nobody else is left to publish'

    def _missing(self, done: Set[Member], died: str, ended: str) -> str:
        gone = sorted(self.ended - done)
        sentences = [*self._died(done, f" {died}"), *([f"{_listed(gone)} ended {ended}"] if gone else ())]
        return _listed(sentences or self._died(frozenset(), ""))

    def _died(self, done: Set[Member], before: str) -> list[str]:
        """A sentence per reason, for the dead that are not in `done`."""
        by_reason: dict[str, list[Member]] = {}
        for member, reason in self.dead.items():
            if member not in done:
                by_reason.setdefault(reason, []).append(member)
        return [f"{_listed(members)} died ({reason}){before}" for reason, members in by_reason.items()]


def _listed(items: Sequence[object]) -> str:
    named = ", ".join(str(item) for item in items[:MAX_NAMED])
    more = len(items) - MAX_NAMED
    return f"{named} and {more} more" if more > 0 else named
