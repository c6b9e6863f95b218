"""Dead peers do not hang the living: what fails when an instance dies, when, and in which words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from testground.sync.service import Member, Service

STATES = "run:r1:plan:p:case:c:states:"
TOPICS = "run:r1:plan:p:case:c:topics:"


class Run:
    """A run whose instances are connected, one connection each."""

    def __init__(self, size: int, *, doors: bool = True) -> None:
        self.service = Service()
        self.members = [Member("r1", "single", index) for index in range(size)]
        self.service.begin_run("r1", self.members, lambda *_: None)
        self.replies: list[list[bytes]] = [[] for _ in self.members]
        self.sessions = [
            self.service.open(replies.append, member)
            for member, replies in zip(self.members, self.replies, strict=True)
        ]
        if doors:
            for member in self.members:
                self.service.give_door(member)

    def ask(self, index: int, request_id: str, **request: Any) -> None:
        self.sessions[index].receive(json.dumps({"id": request_id, **request}).encode())

    def signal(self, state: str, *indices: int) -> None:
        for index in indices:
            self.ask(index, "sig", signal_entry={"state": STATES + state})

    def barrier(self, index: int, state: str, target: int) -> None:
        self.ask(index, "bar", barrier={"state": STATES + state, "target": target})

    def publish(self, topic: str, *indices: int) -> None:
        for index in indices:
            self.ask(index, "pub", publish={"topic": TOPICS + topic, "payload": index})

    def subscribe(self, topic: str, *indices: int) -> None:
        for index in indices:
            self.ask(index, topic, subscribe={"topic": TOPICS + topic})

    def end(self, index: int, reason: str | None = None) -> None:
        self.service.member_ended(self.members[index], reason)

    def errors(self, index: int) -> list[str]:
        """Error replies since the last call."""
        replies = [json.loads(reply) for reply in self.replies[index]]
        self.replies[index].clear()
        return [reply["error"] for reply in replies if reply["error"]]

    def waits(self) -> int:
        return len(self.service.waiting("r1"))


def test_a_pending_barrier_fails_with_the_death() -> None:
    run = Run(3)
    run.signal("ready", 0, 2)
    run.barrier(0, "ready", 3)
    assert run.errors(0) == []
    run.end(1, "exit code 1")
    assert run.errors(0) == [
        'barrier "ready" cannot be met: it needs 3, has 2; single[001] died (exit code 1) before signalling it'
    ]
    assert run.waits() == 0


def test_a_later_barrier_fails_at_once() -> None:
    run = Run(3)
    run.end(1, "killed by signal 9")
    run.barrier(0, "ready", 3)
    assert run.errors(0) == [
        'barrier "ready" cannot be met: it needs 3, has 0; single[001] died (killed by signal 9) before signalling it'
    ]


def test_a_barrier_that_the_living_can_meet_stays() -> None:
    run = Run(3)
    run.signal("ready", 0, 1)
    run.signal("other", 0)
    run.barrier(0, "ready", 3)
    run.barrier(0, "other", 2)
    run.end(1, "exit code 1")
    assert run.errors(0) == []
    run.signal("ready", 2)
    run.signal("other", 2)
    assert run.waits() == 0
    assert run.errors(0) == []


def test_who_only_waits_does_not_signal() -> None:
    """A barrier on what another one was to say: the waiter itself is not the one that can still say it."""
    run = Run(2)
    run.barrier(0, "leader-is-up", 1)
    run.end(1, "exit code 1")
    assert run.errors(0) == [
        'barrier "leader-is-up" cannot be met: it needs 1, has 0; single[001] died (exit code 1) before signalling it'
    ]
    assert run.waits() == 0


def test_a_barrier_fails_when_the_last_that_could_signal_leaves_well() -> None:
    run = Run(3)
    run.end(1, "exit code 1")
    run.signal("ready", 0)
    run.barrier(0, "ready", 2)
    assert run.errors(0) == []
    run.end(2)
    assert run.errors(0) == [
        'barrier "ready" cannot be met: it needs 2, has 1; single[001] died (exit code 1) before signalling it, '
        "single[002] ended without signalling it"
    ]


def test_members_that_end_well_fail_nothing() -> None:
    run = Run(3)
    run.barrier(0, "ready", 3)
    run.subscribe("peers", 0)
    run.end(1)
    run.end(2)
    assert run.errors(0) == []
    assert run.waits() == 2


def test_a_target_beyond_the_run_names_who_died() -> None:
    run = Run(2)
    run.signal("ready", 0, 1)
    run.end(1, "exit code 3")
    run.barrier(0, "ready", 5)
    assert run.errors(0) == ['barrier "ready" cannot be met: it needs 5, has 2; single[001] died (exit code 3)']


def test_many_dead_are_counted() -> None:
    run = Run(7)
    run.barrier(0, "ready", 7)
    for index in range(1, 6):
        run.end(index, "exit code 1")
    run.barrier(6, "ready", 7)
    (error,) = run.errors(6)
    assert error.endswith(
        "it needs 7, has 0; single[001], single[002], single[003] and 2 more died (exit code 1) before signalling it"
    )


def test_each_reason_is_named_once() -> None:
    run = Run(6)
    run.barrier(0, "ready", 6)
    for index, reason in ((1, "exit code 1"), (2, "exit code 1"), (3, "exit code 1"), (4, "killed")):
        run.end(index, reason)
    run.barrier(5, "ready", 6)
    (error,) = run.errors(5)
    assert error.endswith(
        "single[001], single[002], single[003] died (exit code 1) before signalling it, "
        "single[004] died (killed) before signalling it"
    )


def test_long_names_are_cut() -> None:
    run = Run(2)
    run.end(1, "it said " + "x" * 40000)
    run.barrier(0, "n" * 30000, 2)
    (error,) = run.errors(0)
    assert len(error) < 1000


def test_a_connection_that_is_closed_does_not_make_its_member_dead() -> None:
    run = Run(3)
    run.signal("ready", 0)
    run.barrier(0, "ready", 2)
    run.sessions[2].close()
    run.end(1, "exit code 1")
    assert run.errors(0) == []


def test_nothing_is_judged_while_connections_may_be_anybodys() -> None:
    run = Run(3, doors=False)
    run.barrier(0, "ready", 3)
    run.end(1, "exit code 1")
    assert run.errors(0) == []
    run.service.give_door(run.members[0])
    assert run.errors(0) == []
    run.service.give_door(run.members[2])
    run.barrier(2, "ready", 3)
    assert len(run.errors(0)) == len(run.errors(2)) == 1


def test_only_the_first_end_counts() -> None:
    run = Run(2)
    run.end(1)
    run.end(1, "killed")
    run.barrier(0, "ready", 2)
    assert run.errors(0) == []
    run.service.member_ended(Member("other", "single", 0), "killed")


def test_only_live_members_get_doors() -> None:
    service = Service()
    member = Member("r1", "single", 0)
    with pytest.raises(ValueError, match="no live instance of run r1"):
        service.give_door(member)
    service.begin_run("r1", [member], lambda *_: None)
    service.give_door(member)
    service.member_ended(member, None)
    with pytest.raises(ValueError, match="no live instance of run r1"):
        service.give_door(member)


def test_a_subscription_fails_once_all_living_have_had_their_say() -> None:
    run = Run(3)
    run.publish("peers", 0)
    run.subscribe("peers", 0)
    run.end(1, "exit code 1")
    assert run.errors(0) == []
    run.publish("peers", 2)
    assert [json.loads(reply)["subscribe"] for reply in run.replies[0]][-2:] == ["2", ""]
    assert run.errors(0) == [
        'subscription to "peers" cannot be met: single[001] died (exit code 1) before publishing to it; '
        "nobody else is left to publish"
    ]
    assert run.waits() == 0


def test_a_subscription_fails_with_the_death_or_at_once_after_it() -> None:
    run = Run(3)
    run.publish("peers", 0, 2)
    run.subscribe("peers", 0)
    run.end(1, "exit code 1")
    assert len(run.errors(0)) == 1
    run.subscribe("peers", 2)
    assert [json.loads(reply)["subscribe"] for reply in run.replies[2]][-3:] == ["0", "2", ""]
    assert len(run.errors(2)) == 1


def test_subscribing_is_having_had_ones_say() -> None:
    run = Run(3)
    run.subscribe("peers", 0)
    run.end(1, "exit code 1")
    assert run.errors(0) == []
    run.subscribe("peers", 2)
    assert len(run.errors(0)) == len(run.errors(2)) == 1


def test_a_subscription_stays_when_the_dead_had_published() -> None:
    run = Run(2)
    run.publish("peers", 0, 1)
    run.subscribe("peers", 0)
    run.end(1, "exit code 1")
    run.subscribe("peers", 0)
    assert run.errors(0) == []


def test_a_member_that_leaves_well_is_not_waited_for() -> None:
    run = Run(3)
    run.subscribe("peers", 0)
    run.end(1, "exit code 1")
    assert run.errors(0) == []
    run.end(2)
    assert len(run.errors(0)) == 1


@pytest.mark.parametrize("key", ["run:r1:plan:p:case:c:run_events", TOPICS + "network:host"])
def test_events_and_network_topics_are_not_judged(key: str) -> None:
    run = Run(2)
    run.ask(0, "e", subscribe={"topic": key})
    run.end(1, "exit code 1")
    assert run.errors(0) == []
    assert run.waits() == 1


def test_other_runs_are_not_touched() -> None:
    run = Run(2)
    run.ask(0, "b", barrier={"state": "run:r2:plan:p:case:c:states:ready", "target": 2})
    run.ask(0, "t", subscribe={"topic": "run:r2:plan:p:case:c:topics:peers"})
    run.end(1, "exit code 1")
    assert run.errors(0) == []
