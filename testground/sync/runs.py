"""What the service remembers of each run: its topics, its states, and who waits for them. Kept for the whole run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from testground.sync import wire
from testground.sync.members import Member, Members

OnEvent: TypeAlias = Callable[[Member | None, dict[str, Any]], None]

OnConfig: TypeAlias = Callable[[str, bytes, Callable[[str], None]], None]
"""Gets a hostname, the published configuration of its network, and who is told why it is refused, or nothing."""

MAX_STORED = 1 << 30
"""Bytes that the topics and states of one run may take."""

KEY_COST = 1024
"""Bytes that a topic or a state takes with nothing in it, about, beside its key."""


class RunFullError(Exception):
    """What a request would add to a run is too much."""


class Holder(Protocol):
    """The session that a barrier or subscription belongs to."""

    member: Member | None
    patient: bool
    send: Callable[[bytes], None]
    waits: set[Barrier | Subscription]

    def fail(self, request_id: str, error: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Wait:
    """Who waits where: `current` counts signals of a state, or messages delivered of a topic, which has no target."""

    member: Member | None
    kind: Literal["barrier", "subscription"]
    name: str
    target: int
    current: int


class Barrier:
    __slots__ = ("holder", "id", "state", "target")

    def __init__(self, holder: Holder, request_id: str, state: State, target: int) -> None:
        self.holder = holder
        self.id = request_id
        self.state = state
        self.target = target

    def cancel(self) -> None:
        waiting = self.state.waiting[self.target]
        del waiting[self]
        if not waiting:
            del self.state.waiting[self.target]
        self.holder.waits.discard(self)

    def fail(self, error: str) -> None:
        self.cancel()
        self.holder.fail(self.id, error)


class Subscription:
    """`next` is the place of the next message; once it has caught up, `live`, messages are pushed as they come."""

    __slots__ = ("head", "holder", "id", "live", "next", "topic")

    def __init__(self, holder: Holder, request_id: str, topic: Topic) -> None:
        self.holder = holder
        self.id = request_id
        self.head = wire.delivery_head(request_id)
        self.topic = topic
        self.next = 0
        self.live = False

    def pause(self) -> None:
        """From here on, messages wait in the topic for `replay`."""
        self.live = False
        self.next = len(self.topic.log)

    def replay(self, budget: int) -> int:
        """Send earlier messages of about `budget` bytes, and go live after the last; returns what is left of it."""
        log = self.topic.log
        while self.next < len(log):
            if budget <= 0:
                return budget
            frame = self.head + log[self.next]
            self.next += 1
            budget -= len(frame)
            self.holder.send(frame)
        self.live = True
        return budget

    def cancel(self) -> None:
        del self.topic.subscriptions[self]
        self.holder.waits.discard(self)

    def fail(self, error: str) -> None:
        self.cancel()
        self.holder.fail(self.id, error)


class State:
    """A counter, and the barriers that wait for it, by target and in the order in which they came."""

    __slots__ = ("count", "name", "run", "signallers", "waiting")

    def __init__(self, run: Run, name: str) -> None:
        self.run = run
        self.name = name
        self.count = 0
        self.signallers: set[Member] = set()
        self.waiting: dict[int, dict[Barrier, None]] = {}

    def release(self) -> None:
        """Answer the barriers that the latest signal met."""
        for barrier in self.waiting.pop(self.count, ()):
            barrier.holder.waits.discard(barrier)
            barrier.holder.send(wire.met(barrier.id))

    def add(self, barrier: Barrier) -> None:
        self.waiting.setdefault(barrier.target, {})[barrier] = None

    def settle(self) -> None:
        """Fail the barriers that the dead will never let pass."""
        members = self.run.members
        if not self.waiting or not members.judged:
            return
        barriers = (barrier for waiting in self.waiting.values() for barrier in waiting)
        waiters = {barrier.holder.member for barrier in barriers if barrier.holder.member is not None}
        most = members.most_signals(self.count, self.signallers, waiters)
        for target in sorted(target for target in self.waiting if target > most):
            error = members.barrier_error(self.name, target, self.count, self.signallers)
            for barrier in list(self.waiting[target]):
                barrier.fail(error)


class Topic:
    """A log of messages, each as the part of its delivery that all subscriptions share."""

    __slots__ = ("hostname", "is_events", "is_judged", "log", "name", "run", "speakers", "subscriptions", "touched")

    def __init__(self, run: Run, name: str, *, is_events: bool) -> None:
        self.run = run
        self.name = name
        self.is_events = is_events
        # The topics of network configurations have one publisher each, which is not known here (contract §4.1).
        self.hostname = name.removeprefix("network:") if not is_events and name.startswith("network:") else ""
        """Whose network is configured here; empty for other topics."""
        self.is_judged = not is_events and not self.hostname
        self.log: list[bytes] = []
        self.speakers: set[Member] = set()
        self.touched: set[Member] = set()
        self.subscriptions: dict[Subscription, None] = {}

    def settle(self) -> None:
        """Fail the subscriptions that have nothing more to hope for, once they got all there is."""
        members = self.run.members
        if not self.is_judged or not members.judged or not members.silent(self.speakers, self.touched):
            return
        for subscription in list(self.subscriptions):
            if subscription.live and not subscription.holder.patient:
                subscription.fail(members.subscription_error(self.name, self.speakers))


class Run:
    __slots__ = ("id", "members", "on_config", "on_event", "states", "stored", "topics")

    def __init__(self, run_id: str) -> None:
        self.id = run_id
        self.members = Members()
        self.on_event: OnEvent | None = None
        self.on_config: OnConfig | None = None
        self.topics: dict[str, Topic] = {}
        self.states: dict[str, State] = {}
        self.stored = 0
        """Bytes that its topics and states take."""

    def reserve(self, size: int) -> None:
        """Raises `RunFullError` if there is no room for so many bytes."""
        if self.stored + size > MAX_STORED:
            raise RunFullError(f"this run is full: its topics and states take {MAX_STORED >> 20} MiB")
        self.stored += size

    def settle(self) -> None:
        """Tell those who wait in vain, after somebody died or left."""
        for state in self.states.values():
            state.settle()
        for topic in self.topics.values():
            topic.settle()

    def barriers(self) -> Iterator[Barrier]:
        for state in self.states.values():
            for waiting in state.waiting.values():
                yield from waiting

    def subscriptions(self) -> Iterator[Subscription]:
        for topic in self.topics.values():
            yield from topic.subscriptions

    def waiting(self) -> list[Wait]:
        barriers = [Wait(b.holder.member, "barrier", b.state.name, b.target, b.state.count) for b in self.barriers()]
        subscriptions = [
            Wait(s.holder.member, "subscription", s.topic.name, 0, len(s.topic.log) if s.live else s.next)
            for s in self.subscriptions()
        ]
        return barriers + subscriptions


class Runs:
    """All topics and states by their full key, made on first use. Keys without a run belong to the run named ""."""

    def __init__(self) -> None:
        self.topics: dict[str, Topic] = {}
        self.states: dict[str, State] = {}
        self._runs: dict[str, Run] = {}

    def run(self, run_id: str) -> Run:
        found = self._runs.get(run_id)
        if found is None:
            found = self._runs[run_id] = Run(run_id)
        return found

    def find(self, run_id: str) -> Run | None:
        return self._runs.get(run_id)

    def topic(self, key: str) -> Topic:
        """A new one. Raises `RunFullError`."""
        run = self.run(_run_id(key))
        run.reserve(KEY_COST + len(key))
        _, found, name = key.partition(":topics:")
        is_events = not found and key.endswith(":run_events")
        topic = Topic(run, name or ("run_events" if is_events else key), is_events=is_events)
        self.topics[key] = run.topics[key] = topic
        return topic

    def state(self, key: str) -> State:
        """A new one. Raises `RunFullError`."""
        run = self.run(_run_id(key))
        run.reserve(KEY_COST + len(key))
        state = State(run, key.partition(":states:")[2] or key)
        self.states[key] = run.states[key] = state
        return state

    def drop(self, run_id: str) -> Run | None:
        """Forget a run with all its keys."""
        run = self._runs.pop(run_id, None)
        if run is not None:
            for key in run.topics:
                del self.topics[key]
            for key in run.states:
                del self.states[key]
        return run


def _run_id(key: str) -> str:
    """`run:RUN:plan:…` (contract §3.6)."""
    return key[4:].partition(":")[0] if key.startswith("run:") else ""
