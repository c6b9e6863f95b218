"""The service against a model that is too simple to be wrong: every reply of every connection, in order."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from testground.sync.service import Service, Session

KEYS = st.sampled_from(["run:a:plan:p:case:c:states:x", "run:a:plan:p:case:c:topics:x", "run:b:x", "plain"])
IDS = st.sampled_from(["0", "1", "2"])
PAYLOADS = st.sampled_from(["1", '"text"', "null", '{"b":1,"a":[]}', '""'])


@dataclass
class Waiting:
    id: str
    key: str
    target: int


@dataclass(eq=False)
class Peer:
    session: Session
    told: list[bytes]
    expected: list[dict[str, Any]] = field(default_factory=list)
    barriers: list[Waiting] = field(default_factory=list)
    subscriptions: list[Waiting] = field(default_factory=list)

    def expect(self, request_id: str, **result: Any) -> None:
        empty = {"id": request_id, "error": "", "publish": None, "subscribe": "", "signal_entry": None}
        self.expected.append({**empty, **result})


class ServiceMachine(RuleBasedStateMachine):
    peers = Bundle("peers")

    def __init__(self) -> None:
        super().__init__()
        self.service = Service()
        self.open: list[Peer] = []
        self.counts: dict[str, int] = {}
        self.logs: dict[str, list[str]] = {}

    @rule(target=peers)
    def connect(self) -> Peer:
        told: list[bytes] = []
        peer = Peer(self.service.open(told.append), told)
        self.open.append(peer)
        return peer

    @rule(peer=consumes(peers))
    def disconnect(self, peer: Peer) -> None:
        peer.session.close()
        self.open.remove(peer)

    @rule(peer=peers, request_id=IDS, key=KEYS)
    def signal(self, peer: Peer, request_id: str, key: str) -> None:
        count = self.counts[key] = self.counts.get(key, 0) + 1
        peer.expect(request_id, signal_entry={"seq": count})
        for other in self.open:
            for barrier in [b for b in other.barriers if b.key == key and b.target == count]:
                other.barriers.remove(barrier)
                other.expect(barrier.id)
        self._ask(peer, request_id, signal_entry={"state": key})

    @rule(peer=peers, request_id=IDS, key=KEYS, goal=st.integers(-1, 6))
    def barrier(self, peer: Peer, request_id: str, key: str, goal: int) -> None:
        if goal <= self.counts.get(key, 0):
            peer.expect(request_id)
        else:
            peer.barriers.append(Waiting(request_id, key, goal))
        self._ask(peer, request_id, barrier={"state": key, "target": goal})

    @rule(peer=peers, request_id=IDS, key=KEYS, payload=PAYLOADS)
    def publish(self, peer: Peer, request_id: str, key: str, payload: str) -> None:
        log = self.logs.setdefault(key, [])
        log.append(payload)
        peer.expect(request_id, publish={"seq": len(log)})
        for other in self.open:
            for subscription in other.subscriptions:
                if subscription.key == key:
                    other.expect(subscription.id, subscribe=payload)
        message = f'{{"id":"{request_id}","publish":{{"topic":"{key}","payload":{payload}}}}}'
        peer.session.receive(message.encode())

    @rule(peer=peers, request_id=IDS, key=KEYS)
    def subscribe(self, peer: Peer, request_id: str, key: str) -> None:
        for payload in self.logs.get(key, []):
            peer.expect(request_id, subscribe=payload)
        peer.subscriptions.append(Waiting(request_id, key, 0))
        self._ask(peer, request_id, subscribe={"topic": key})

    @rule(peer=peers, request_id=IDS)
    def cancel(self, peer: Peer, request_id: str) -> None:
        peer.barriers = [barrier for barrier in peer.barriers if barrier.id != request_id]
        peer.subscriptions = [subscription for subscription in peer.subscriptions if subscription.id != request_id]
        self._ask(peer, request_id, is_cancel=True)

    @invariant()
    def everybody_was_told_what_is_due(self) -> None:
        for peer in self.open:
            assert [json.loads(reply) for reply in peer.told] == peer.expected

    @invariant()
    def exactly_the_pending_are_waiting(self) -> None:
        barriers = sum(barrier.key.startswith("run:a:") for peer in self.open for barrier in peer.barriers)
        subscriptions = sum(wait.key.startswith("run:a:") for peer in self.open for wait in peer.subscriptions)
        kinds = [wait.kind for wait in self.service.waiting("a")]
        assert (kinds.count("barrier"), kinds.count("subscription")) == (barriers, subscriptions)

    def _ask(self, peer: Peer, request_id: str, **request: Any) -> None:
        peer.session.receive(json.dumps({"id": request_id, **request}).encode())


TestService = ServiceMachine.TestCase
TestService.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
