"""The service as Redis, for SDKs from before its websocket: sdk-go up to 0.2.7 (contract §3.10, §8.2). Pure, no I/O.

A state is a counter (`INCR`, `MGET`), a topic a stream with the one field `p` (`XADD`, `XLEN`, `XREAD`). All of it is a
session of the same service underneath, so plans on old and new SDKs meet at the same barriers and topics.

Those SDKs take an error for a reason to ask again at once, or ignore it. So what the dead make impossible is not told
to them: such a plan waits until its own deadline or that of the task.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from testground.sync import redis_arguments as arguments
from testground.sync import resp, wire
from testground.sync.redis_arguments import CommandError
from testground.sync.service import Member, Service

MAX_PENDING = 128
"""Commands that may wait behind one that blocks."""

MAX_QUEUED = 128
"""Commands of one transaction."""

MAX_READ = 1 << 20
"""Bytes of messages after which a reply holds no further one; who reads asks on after the last that it got."""

FIELD = b"p"


class Timer(Protocol):
    def cancel(self) -> None: ...


CallLater = Callable[[float, Callable[[], None]], Timer]
"""Seconds, and what to do then."""


@dataclass(slots=True)
class Read:
    """An `XREAD`: the index after which to read, by topic."""

    after: dict[str, int]
    count: int
    timer: Timer | None = None


class Clients:
    """Numbers the connections of a server, so that one can unblock another."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._sessions: dict[int, RedisSession] = {}

    def add(self, session: RedisSession) -> int:
        number = next(self._numbers)
        self._sessions[number] = session
        return number

    def remove(self, number: int) -> None:
        self._sessions.pop(number, None)

    def unblock(self, number: int, member: Member | None, reply: bytes) -> bool:
        """Only for a connection of the same member."""
        session = self._sessions.get(number)
        return session is not None and session.member == member and session.unblock(reply)


class RedisSession:
    """One connection. Replies go to `send`, in the order of the commands; `send` must not call back."""

    def __init__(
        self,
        service: Service,
        send: Callable[[bytes], None],
        clients: Clients,
        call_later: CallLater,
        member: Member | None = None,
    ) -> None:
        self.member = member
        self._send = send
        self._clients = clients
        self._call_later = call_later
        self._number = clients.add(self)
        self._session = service.open(self._on_frame, member, patient=True)
        self._reply: wire.Response | None = None
        self._followed: dict[str, str] = {}
        """The ids of the subscriptions, by topic."""
        self._ids = itertools.count(1)
        self._queued: list[list[bytes]] | None = None
        self._spoiled = False
        self._blocked: Read | None = None
        self._pending: deque[list[bytes]] = deque()
        self._closed = False

    def receive(self, command: list[bytes]) -> None:
        """Carry out one command, or keep it until the one that blocks is done.

        Raises `RespError` when too many are kept.
        """
        if self._blocked is None and not self._pending:
            self._handle(command)
        elif len(self._pending) >= MAX_PENDING:
            raise resp.RespError(f"more than {MAX_PENDING} commands behind one that blocks")
        else:
            self._pending.append(command)

    def unblock(self, reply: bytes) -> bool:
        """End a command that blocks. Returns whether there was one."""
        if self._blocked is None:
            return False
        self._finish(reply)
        return True

    def close(self) -> None:
        self._closed = True
        self._stop_blocking()
        self._clients.remove(self._number)
        self._session.close()

    def _handle(self, command: list[bytes]) -> None:
        name = command[0].decode("latin-1").upper()
        try:
            reply = self._perform(name, command)
        except (CommandError, wire.WireError) as error:
            reply = resp.error(str(error))
        if reply is not None:
            self._send(reply)

    def _perform(self, name: str, command: list[bytes]) -> bytes | None:
        if self._queued is not None and name not in ("EXEC", "DISCARD", "MULTI"):
            return self._queue(name, command)
        return self._carry_out(name, command[1:], may_block=True)

    def _carry_out(self, name: str, given: list[bytes], *, may_block: bool) -> bytes | None:
        """The reply, or None when it comes later."""
        if name == "XREAD":
            return self._xread(given, may_block=may_block)
        handler = _HANDLERS.get(name)
        if handler is None:
            raise _unknown(name)
        return handler(self, given)

    def _queue(self, name: str, command: list[bytes]) -> bytes:
        assert self._queued is not None
        if name != "XREAD" and name not in _HANDLERS:
            self._spoiled = True
            raise _unknown(name)
        if len(self._queued) >= MAX_QUEUED:
            self._spoiled = True
            raise CommandError(f"more than {MAX_QUEUED} commands in a transaction")
        self._queued.append(command)
        return resp.simple("QUEUED")

    def _multi(self, _: list[bytes]) -> bytes:
        if self._queued is not None:
            raise CommandError("MULTI calls can not be nested")
        self._queued, self._spoiled = [], False
        return resp.OK

    def _discard(self, _: list[bytes]) -> bytes:
        if self._queued is None:
            raise CommandError("DISCARD without MULTI")
        self._queued = None
        return resp.OK

    def _exec(self, _: list[bytes]) -> bytes:
        queued, self._queued = self._queued, None
        if queued is None:
            raise CommandError("EXEC without MULTI")
        if self._spoiled:
            return resp.error("Transaction discarded because of previous errors.", "EXECABORT")
        return resp.array(self._one_of_many(command) for command in queued)

    def _one_of_many(self, command: list[bytes]) -> bytes:
        try:
            reply = self._carry_out(command[0].decode("latin-1").upper(), command[1:], may_block=False)
        except (CommandError, wire.WireError) as error:
            return resp.error(str(error))
        return reply or resp.NIL_ARRAY

    def _ping(self, given: list[bytes]) -> bytes:
        return resp.bulk(given[0]) if given else resp.simple("PONG")

    def _select(self, given: list[bytes]) -> bytes:
        if given != [b"0"]:
            raise CommandError("there is one database: 0")
        return resp.OK

    def _client(self, given: list[bytes]) -> bytes:
        match [argument.upper() for argument in given]:
            case [b"ID"]:
                return resp.integer(self._number)
            case [b"SETNAME", _]:
                return resp.OK
            case [b"UNBLOCK", number, *how]:
                ended = resp.error("client unblocked via CLIENT UNBLOCK", "UNBLOCKED")
                reply = ended if how == [b"ERROR"] else resp.NIL_ARRAY
                return resp.integer(self._clients.unblock(arguments.integer(number), self.member, reply))
        raise CommandError("of CLIENT there are ID, SETNAME and UNBLOCK")

    def _incr(self, given: list[bytes]) -> bytes:
        [key] = arguments.exactly(1, given, "INCR")
        response = self._call(wire.Call("", signal_entry=wire.SignalEntry(arguments.text(key))))
        if response.signal_entry is None:
            raise CommandError(response.error)
        return resp.integer(response.signal_entry.seq)

    def _mget(self, given: list[bytes]) -> bytes:
        counts = [self._session.count(arguments.text(key)) for key in given]
        return resp.array(resp.bulk(b"%d" % count) if count else resp.NIL for count in counts)

    def _get(self, given: list[bytes]) -> bytes:
        [key] = arguments.exactly(1, given, "GET")
        count = self._session.count(arguments.text(key))
        return resp.bulk(b"%d" % count) if count else resp.NIL

    def _xadd(self, given: list[bytes]) -> bytes:
        key, number, field, payload = arguments.exactly(4, given, "XADD")
        if number != b"*" or field != FIELD:
            raise CommandError("of XADD there is: XADD key * p payload")
        publish = wire.Publish(arguments.text(key), arguments.json_value(payload))
        response = self._call(wire.Call("", publish=publish))
        if response.publish is None:
            raise CommandError(response.error)
        return resp.bulk(_entry_id(response.publish.seq))

    def _xlen(self, given: list[bytes]) -> bytes:
        [key] = arguments.exactly(1, given, "XLEN")
        return resp.integer(self._session.length(arguments.text(key)))

    def _xread(self, given: list[bytes], *, may_block: bool) -> bytes | None:
        count, block, keys, ids = arguments.xread(given)
        after = {arguments.text(key): entry_id for key, entry_id in zip(keys, ids, strict=True)}
        read = Read({topic: self._index(topic, entry_id) for topic, entry_id in after.items()}, count)
        found = self._entries(read)
        if found or block is None or not may_block:
            return found or resp.NIL_ARRAY
        for topic in read.after:
            self._follow(topic)
        self._blocked = read
        if block:
            read.timer = self._call_later(block / 1000, lambda: self._finish(resp.NIL_ARRAY))
        return None

    def _follow(self, topic: str) -> None:
        """Subscribe, unless that was done before: not for the messages, which the service keeps, but to be woken."""
        if topic in self._followed:
            return
        request_id = self._followed[topic] = str(next(self._ids))
        self._session.receive(wire.encode_call(wire.Call(request_id, subscribe=wire.Subscribe(topic))))
        while self._session.replaying:
            self._session.replay()

    def _index(self, topic: str, entry_id: bytes) -> int:
        return self._session.length(topic) if entry_id == b"$" else arguments.integer(entry_id.partition(b"-")[0])

    def _entries(self, read: Read) -> bytes:
        """The reply to a read, or nothing while there is nothing to tell."""
        found = []
        for topic, after in read.after.items():
            new = self._session.messages(topic, after, read.count, MAX_READ)
            entries = [
                resp.array((resp.bulk(_entry_id(seq)), resp.array((resp.bulk(FIELD), resp.bulk(payload)))))
                for seq, payload in enumerate(new, start=after + 1)
            ]
            if entries:
                found.append(resp.array((resp.bulk(topic.encode()), resp.array(entries))))
        return resp.array(found) if found else b""

    def _call(self, call: wire.Call) -> wire.Response:
        self._session.receive(wire.encode_call(call))
        reply, self._reply = self._reply, None
        assert reply is not None, "the service answers a signal and a publication at once"
        return reply

    def _on_frame(self, frame: bytes) -> None:
        """A reply to `_call`, whose id is empty, or a message of a topic that is followed."""
        response = wire.decode_response(frame)
        if not response.id:
            self._reply = response
            return
        if response.error:
            self._followed = {topic: number for topic, number in self._followed.items() if number != response.id}
        elif self._blocked is not None and (found := self._entries(self._blocked)):
            self._finish(found)

    def _finish(self, reply: bytes) -> None:
        """End the command that blocks. Those behind it come later: this may run within a publication of another."""
        self._stop_blocking()
        self._send(reply)
        if self._pending:
            self._call_later(0, self._resume)

    def _resume(self) -> None:
        while self._pending and self._blocked is None and not self._closed:
            self._handle(self._pending.popleft())

    def _stop_blocking(self) -> None:
        if self._blocked is not None and self._blocked.timer is not None:
            self._blocked.timer.cancel()
        self._blocked = None


_HANDLERS: dict[str, Callable[[RedisSession, list[bytes]], bytes]] = {
    "CLIENT": RedisSession._client,
    "DISCARD": RedisSession._discard,
    "EXEC": RedisSession._exec,
    "GET": RedisSession._get,
    "INCR": RedisSession._incr,
    "MGET": RedisSession._mget,
    "MULTI": RedisSession._multi,
    "PING": RedisSession._ping,
    "SELECT": RedisSession._select,
    "XADD": RedisSession._xadd,
    "XLEN": RedisSession._xlen,
}


def _entry_id(seq: int) -> bytes:
    return b"%d-0" % seq


def _unknown(name: str) -> CommandError:
    return CommandError(f"unknown command '{name[:32]}'; this is testground's sync service, which knows few of Redis's")
