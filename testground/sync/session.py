"""One connection as the service sees it: requests in, replies out, in the order of arrival (contract §3.2 to §3.5)."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from testground.sync import wire
from testground.sync.members import Member
from testground.sync.runs import Barrier, RunFullError, Runs, Subscription, Topic

REPLAY_CHUNK = 128 * 1024
"""Bytes of earlier messages handed to `send` at a time."""

MAX_WAITS = 65536
"""Barriers and subscriptions that one connection may have pending."""


class Session:
    """Made by `Service.open`. Replies go to `send`, which must not call back."""

    __slots__ = ("_binary", "_runs", "member", "patient", "replaying", "send", "waits")

    def __init__(
        self, runs: Runs, send: Callable[[bytes], None], member: Member | None, *, patient: bool = False
    ) -> None:
        self.send = send
        self.member = member
        self.patient = patient
        """Its subscriptions go on when the dead leave nothing to hope for."""
        self.waits: set[Barrier | Subscription] = set()
        self._runs = runs
        self._binary = False
        self.replaying: deque[Subscription] = deque()
        """Subscriptions with messages that `replay` would send."""

    def receive(self, message: bytes, *, binary: bool = False) -> None:
        """Carry out one request. Raises `WireError` when the connection must be closed for it."""
        self._binary = binary
        request = wire.decode_request(message)
        try:
            if request.is_cancel:
                self._cancel(request.id)
            elif request.publish is not None:
                self._publish(request.id, request.publish)
            elif request.subscribe is not None:
                self._subscribe(request.id, request.subscribe)
            elif request.barrier is not None:
                self._barrier(request.id, request.barrier)
            elif request.signal_entry is not None:
                self._signal(request.id, request.signal_entry)
        except RunFullError as error:
            self.fail(request.id, str(error))

    def replay(self) -> None:
        """Send the next chunk of earlier messages; for when what was sent before is on its way."""
        budget = REPLAY_CHUNK
        while self.replaying and budget > 0:
            subscription = self.replaying[0]
            if subscription in self.waits:
                budget = subscription.replay(budget)
                self._settle(subscription.topic)
            if subscription.live or subscription not in self.waits:
                self.replaying.popleft()

    def pause(self) -> None:
        """Its client is behind with reading: send no new messages before `replay` is called."""
        for wait in self.waits:
            if isinstance(wait, Subscription) and wait.live:
                wait.pause()
                self.replaying.append(wait)

    def count(self, state: str) -> int:
        """How often a state, by its full key, was signalled."""
        known = self._runs.states.get(state)
        return known.count if known is not None else 0

    def length(self, topic: str) -> int:
        """How many messages a topic, by its full key, holds."""
        known = self._runs.topics.get(topic)
        return len(known.log) if known is not None else 0

    def messages(self, topic: str, after: int, count: int, budget: int) -> list[bytes]:
        """At most `count` payloads that follow the first `after` of a topic, by its full key; not many more bytes than
        `budget`."""
        known = self._runs.topics.get(topic)
        log = known.log if known is not None else []
        found: list[bytes] = []
        for place in range(after, min(after + count, len(log))):
            if budget <= 0:
                break
            found.append(wire.payload_of(log[place]))
            budget -= len(log[place])
        return found

    def fail(self, request_id: str, error: str) -> None:
        self.send(wire.failed(request_id, error, quoted=self._binary))

    def close(self) -> None:
        """The connection is gone: so is what it waited for."""
        self.replaying.clear()
        for wait in list(self.waits):
            wait.cancel()

    def _signal(self, request_id: str, signal_entry: wire.SignalEntry) -> None:
        state = self._runs.states.get(signal_entry.state) or self._runs.state(signal_entry.state)
        state.count = count = state.count + 1
        if self.member is not None:
            state.signallers.add(self.member)
        self.send(wire.signalled(request_id, count))
        if state.waiting:
            state.release()

    def _barrier(self, request_id: str, request: wire.Barrier) -> None:
        state = self._runs.states.get(request.state) or self._runs.state(request.state)
        if request.target <= state.count:
            self.send(wire.met(request_id))
        elif len(self.waits) >= MAX_WAITS:
            self.fail(request_id, f"more than {MAX_WAITS} barriers and subscriptions pending on one connection")
        else:
            barrier = Barrier(self, request_id, state, request.target)
            self.waits.add(barrier)
            state.add(barrier)
            state.settle()

    def _publish(self, request_id: str, publish: wire.Publish) -> None:
        tail = wire.delivery_tail(publish.payload)
        topic = self._topic(publish.topic)
        if excess := _excess(tail):
            self.fail(request_id, excess)
        elif topic.hostname and self.member is not None and self.member.run_id != topic.run.id:
            self.fail(request_id, "network configuration refused: that is an instance of another run")
        elif topic.hostname and topic.run.on_config is not None:
            judged = partial(self._publish_judged, request_id, self._binary, topic, publish, tail)
            topic.run.on_config(topic.hostname, bytes(publish.payload), judged)
        else:
            self._append(request_id, topic, publish, tail)

    def _publish_judged(
        self, request_id: str, binary: bool, topic: Topic, publish: wire.Publish, tail: bytes, refusal: str
    ) -> None:
        """Other requests may have come meanwhile; the connection may be gone."""
        try:
            if not refusal:
                self._append(request_id, topic, publish, tail)
        except RunFullError as error:
            refusal = str(error)
        if refusal:
            self.send(wire.failed(request_id, refusal, quoted=binary))

    def _append(self, request_id: str, topic: Topic, publish: wire.Publish, tail: bytes) -> None:
        topic.run.reserve(len(tail))
        topic.log.append(tail)
        self.send(wire.published(request_id, len(topic.log)))
        for subscription in topic.subscriptions:
            if subscription.live:
                subscription.holder.send(subscription.head + tail)
        if topic.is_events and topic.run.on_event is not None:
            event = _event(publish.payload)
            if isinstance(event, dict):
                topic.run.on_event(self.member, event)
        if self.member is not None:
            topic.speakers.add(self.member)
            topic.touched.add(self.member)
            self._settle(topic)

    def _subscribe(self, request_id: str, request: wire.Subscribe) -> None:
        if len(self.waits) >= MAX_WAITS:
            self.fail(request_id, f"more than {MAX_WAITS} barriers and subscriptions pending on one connection")
            return
        topic = self._topic(request.topic)
        if self.member is not None:
            topic.touched.add(self.member)
        subscription = Subscription(self, request_id, topic)
        self.waits.add(subscription)
        topic.subscriptions[subscription] = None
        self.replaying.append(subscription)
        if len(self.replaying) == 1:
            self.replay()

    def _cancel(self, request_id: str) -> None:
        for wait in [wait for wait in self.waits if wait.id == request_id]:
            wait.cancel()

    def _topic(self, key: str) -> Topic:
        return self._runs.topics.get(key) or self._runs.topic(key)

    def _settle(self, topic: Topic) -> None:
        if topic.run.members.dead:
            topic.settle()


def _event(payload: msgspec.Raw) -> Any:
    """A number in it that no machine number holds is no reason to miss an outcome."""
    try:
        return msgspec.json.decode(payload)
    except msgspec.DecodeError:
        return json.loads(bytes(payload), parse_int=float)


def _excess(tail: bytes) -> str:
    """What is wrong with a message whose delivery does not fit into what Go clients can read (contract §3.1)."""
    excess = len(tail) - wire.MAX_DELIVERY_TAIL
    if excess <= 0:
        return ""
    return (
        f"message too large: a subscriber would get {wire.MAX_MESSAGE + excess} bytes, "
        f"and may get {wire.MAX_MESSAGE} at most"
    )
