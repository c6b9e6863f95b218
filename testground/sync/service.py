"""The sync service as a state machine (contract §3.4): sessions of instances, and what runners must know of them.

No I/O and no clock. A session is handed messages and a `send` that takes replies; everything happens inside these
calls, in the order in which they are made. So requests of one connection are answered in order, and a topic has one
order for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from testground.sync import wire
from testground.sync.members import Member as Member
from testground.sync.members import MemberOf as MemberOf
from testground.sync.runs import OnConfig, OnEvent, Runs
from testground.sync.runs import Wait as Wait
from testground.sync.session import Session as Session


class Service:
    def __init__(self) -> None:
        self._runs = Runs()

    def open(self, send: Callable[[bytes], None], member: Member | None = None, *, patient: bool = False) -> Session:
        """A session for one connection; `member` when it is known whose it is.

        One that is `patient` is not told of subscriptions that the dead leave without hope.
        """
        if member is not None and (run := self._runs.find(member.run_id)) is not None:
            run.members.connected.add(member)
        return Session(self._runs, send, member, patient=patient)

    def begin_run(
        self, run_id: str, members: Iterable[Member], on_event: OnEvent, *, on_config: OnConfig | None = None
    ) -> None:
        """Make the instances of a run known, before their doors are opened.

        `on_event` gets every object published on the run's `run_events` topic, with its publisher when that is known.
        `on_config` gets every network configuration (contract §4.1) and says when it is in force, or why it never will
        be: until then its publisher has no reply. Without it they are messages like others.
        """
        run = self._runs.run(run_id)
        run.on_config = on_config
        run.on_event = on_event
        run.members.begin(members)

    def give_door(self, member: Member) -> None:
        """Note that a member's connections can be told from others. Raises `ValueError` if it is in no run."""
        run = self._runs.find(member.run_id)
        if run is None or member not in run.members.live:
            raise ValueError(f"{member} is no live instance of run {member.run_id}")
        run.members.give_door(member)
        run.settle()

    def signal(self, member: Member, state: str) -> None:
        """Signal a state, by its full key, for a member: what its sidecar would do. That is no connection of it."""
        call = wire.Call("", signal_entry=wire.SignalEntry(state))
        Session(self._runs, lambda reply: None, member).receive(wire.encode_call(call))

    def member_ended(self, member: Member, reason: str | None) -> None:
        """None: it ended well. A text: it died of that; what can no longer be met for it fails at once."""
        run = self._runs.find(member.run_id)
        if run is not None and run.members.end(member, reason):
            run.settle()

    def waiting(self, run_id: str) -> list[Wait]:
        """Who waits where, barriers first."""
        run = self._runs.find(run_id)
        return run.waiting() if run is not None else []

    def connected(self, run_id: str) -> frozenset[Member]:
        """The members that have had a connection."""
        run = self._runs.find(run_id)
        return frozenset(run.members.connected) if run is not None else frozenset()

    def end_run(self, run_id: str) -> None:
        """Forget all keys and members of a run. Who still waits for it is told so."""
        run = self._runs.drop(run_id)
        if run is None:
            return
        for barrier in list(run.barriers()):
            barrier.fail(f"run {run_id} has ended")
        for subscription in list(run.subscriptions()):
            subscription.fail(f"run {run_id} has ended")
        run.topics.clear()  # they refer to the run: the garbage collector would let up to 1 GiB lie for long
        run.states.clear()
