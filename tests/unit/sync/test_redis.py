"""The service as Redis: the commands of sdk-go 0.2.6 and 0.2.7, and old and new SDKs in one run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from testground.sync import resp
from testground.sync.redis import MAX_PENDING, MAX_READ, Clients, RedisSession
from testground.sync.resp import RespError
from testground.sync.service import Member, Service

RUN = "c0ffee0000000000000g"
STATE = f"run:{RUN}:plan:p:case:c:states:ready"
TOPIC = f"run:{RUN}:plan:p:case:c:topics:peers"
EVENTS = f"run:{RUN}:plan:p:case:c:run_events"


@dataclass
class Alarm:
    seconds: float
    action: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class World:
    service: Service = field(default_factory=Service)
    clients: Clients = field(default_factory=Clients)
    alarms: list[Alarm] = field(default_factory=list)

    def client(self, member: Member | None = None) -> Client:
        replies: list[bytes] = []
        return Client(RedisSession(self.service, replies.append, self.clients, self._call_later, member), replies)

    def ring(self) -> None:
        due, self.alarms = self.alarms, []
        for alarm in due:
            if not alarm.cancelled:
                alarm.action()

    def _call_later(self, seconds: float, action: Callable[[], None]) -> Alarm:
        self.alarms.append(Alarm(seconds, action))
        return self.alarms[-1]


@dataclass
class Client:
    session: RedisSession
    replies: list[bytes]

    def __call__(self, *words: str) -> bytes:
        """The replies that a command brings at once."""
        self.session.receive([word.encode() for word in words])
        return self.heard()

    def heard(self) -> bytes:
        said = b"".join(self.replies)
        self.replies.clear()
        return said


def message(topic: str, seq: int, payload: str) -> bytes:
    """What `XREAD` answers for one message."""
    entry = resp.array([resp.bulk(b"%d-0" % seq), resp.array([resp.bulk(b"p"), resp.bulk(payload.encode())])])
    return resp.array([resp.array([resp.bulk(topic.encode()), resp.array([entry])])])


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (("PING",), b"+PONG\r\n"),
        (("ping", "hello"), b"$5\r\nhello\r\n"),
        (("SELECT", "0"), b"+OK\r\n"),
        (("SELECT", "1"), b"-ERR there is one database: 0\r\n"),
        (("CLIENT", "ID"), b":1\r\n"),
        (("CLIENT", "SETNAME", "x"), b"+OK\r\n"),
        (("INCR", STATE), b":1\r\n"),
        (("INCR",), b"-ERR wrong number of arguments for INCR\r\n"),
        (("GET", STATE), b"$-1\r\n"),
        (("MGET", STATE, "other"), b"*2\r\n$-1\r\n$-1\r\n"),
        (("XLEN", TOPIC), b":0\r\n"),
        (("XADD", TOPIC, "*", "p", "1"), b"$3\r\n1-0\r\n"),
        (("XADD", TOPIC, "*", "q", "1"), b"-ERR of XADD there is: XADD key * p payload\r\n"),
        (("XADD", TOPIC, "*", "p", "{bad"), b"-ERR failed to unmarshal JSON\r\n"),
        (("XREAD", "STREAMS", TOPIC, "0"), b"*-1\r\n"),
        (("EXEC",), b"-ERR EXEC without MULTI\r\n"),
        (("DISCARD",), b"-ERR DISCARD without MULTI\r\n"),
    ],
)
def test_commands_are_answered_as_redis_does(world: World, command: tuple[str, ...], reply: bytes) -> None:
    assert world.client()(*command) == reply


@pytest.mark.parametrize("arguments", [(), ("STREAMS",), ("STREAMS", "k"), ("COUNT", "x", "STREAMS", "k", "0"), ("k",)])
def test_a_read_that_makes_no_sense_is_refused(world: World, arguments: tuple[str, ...]) -> None:
    assert world.client()("XREAD", *arguments).startswith(b"-ERR ")


def test_an_unknown_command_is_named(world: World) -> None:
    assert b"unknown command 'FLUSHALL'" in world.client()("flushall")


def test_a_state_counts_for_all_clients(world: World) -> None:
    one, other = world.client(), world.client()
    assert [one("INCR", STATE), other("INCR", STATE)] == [b":1\r\n", b":2\r\n"]
    assert one("MGET", STATE, "none") == b"*2\r\n$1\r\n2\r\n$-1\r\n"


def test_publishing_is_a_transaction_that_tells_the_place_of_the_message(world: World) -> None:
    client = world.client()
    assert client("MULTI") == b"+OK\r\n"
    assert client("XADD", TOPIC, "*", "p", '"a"') == b"+QUEUED\r\n"
    assert client("XLEN", TOPIC) == b"+QUEUED\r\n"
    assert client("EXEC") == b"*2\r\n$3\r\n1-0\r\n:1\r\n"


def test_a_transaction_with_an_unknown_command_does_nothing(world: World) -> None:
    client = world.client()
    client("MULTI")
    assert client("FLUSHALL").startswith(b"-ERR unknown command")
    assert client("INCR", STATE) == b"+QUEUED\r\n"
    assert client("EXEC").startswith(b"-EXECABORT")
    assert client("GET", STATE) == b"$-1\r\n"


def test_a_discarded_transaction_does_nothing(world: World) -> None:
    client = world.client()
    client("MULTI")
    assert client("MULTI") == b"-ERR MULTI calls can not be nested\r\n"
    client("INCR", STATE)
    assert client("DISCARD") == b"+OK\r\n"
    assert client("GET", STATE) == b"$-1\r\n"


def test_a_reader_gets_earlier_messages_at_once_and_later_ones_as_they_come(world: World) -> None:
    writer, reader = world.client(), world.client()
    writer("XADD", TOPIC, "*", "p", '"early"')
    assert reader("XREAD", "COUNT", "10", "BLOCK", "0", "STREAMS", TOPIC, "0") == message(TOPIC, 1, '"early"')
    assert reader("XREAD", "COUNT", "10", "BLOCK", "0", "STREAMS", TOPIC, "1-0") == b""
    writer("XADD", TOPIC, "*", "p", '"late"')
    assert reader.heard() == message(TOPIC, 2, '"late"')


def test_a_read_ends_at_its_count(world: World) -> None:
    client = world.client()
    for number in range(3):
        client("XADD", TOPIC, "*", "p", str(number))
    assert client("XREAD", "COUNT", "1", "STREAMS", TOPIC, "1-0") == message(TOPIC, 2, "1")


def test_a_read_of_several_topics_tells_of_those_with_messages(world: World) -> None:
    writer, reader = world.client(), world.client()
    assert reader("XREAD", "BLOCK", "0", "STREAMS", TOPIC, "second", "0", "$") == b""
    writer("XADD", "second", "*", "p", "2")
    assert reader.heard() == message("second", 1, "2")


def test_a_blocking_read_gives_up_after_its_time(world: World) -> None:
    client = world.client()
    assert client("XREAD", "BLOCK", "1500", "STREAMS", TOPIC, "0") == b""
    assert [alarm.seconds for alarm in world.alarms] == [1.5]
    world.ring()
    assert client.heard() == b"*-1\r\n"


def test_a_time_that_is_no_longer_needed_is_cancelled(world: World) -> None:
    writer, reader = world.client(), world.client()
    reader("XREAD", "BLOCK", "1500", "STREAMS", TOPIC, "0")
    writer("XADD", TOPIC, "*", "p", "1")
    assert [alarm.cancelled for alarm in world.alarms] == [True]


@pytest.mark.parametrize(("how", "reply"), [((), b"*-1\r\n"), (("TIMEOUT",), b"*-1\r\n"), (("ERROR",), b"-UNBLOCKED")])
def test_a_client_can_unblock_another(world: World, how: tuple[str, ...], reply: bytes) -> None:
    blocked, other = world.client(), world.client()
    blocked("XREAD", "BLOCK", "0", "STREAMS", TOPIC, "0")
    assert other("CLIENT", "UNBLOCK", "1", *how) == b":1\r\n"
    assert blocked.heard().startswith(reply)
    assert other("CLIENT", "UNBLOCK", "1", *how) == b":0\r\n"
    assert other("CLIENT", "UNBLOCK", "77") == b":0\r\n"


def test_commands_behind_one_that_blocks_keep_their_turn(world: World) -> None:
    writer, reader = world.client(), world.client()
    reader("XREAD", "BLOCK", "0", "STREAMS", TOPIC, "0")
    assert reader("PING", "first") == b""
    writer("XADD", TOPIC, "*", "p", "1")
    assert reader.heard() == message(TOPIC, 1, "1")
    assert reader("PING", "second") == b""
    world.ring()
    assert reader.heard() == resp.bulk(b"first") + resp.bulk(b"second")


def test_what_waits_behind_a_read_does_not_grow_without_end(world: World) -> None:
    client = world.client()
    client("XREAD", "BLOCK", "0", "STREAMS", TOPIC, "0")
    for _ in range(MAX_PENDING):
        client("PING")
    with pytest.raises(RespError, match="behind one that blocks"):
        client("PING")


def test_a_reply_holds_no_more_than_can_be_kept_in_memory(world: World) -> None:
    """However much is asked for; who reads asks on, and gets all of it."""
    client, payload = world.client(), json.dumps("x" * 30_000)
    for _ in range(100):
        client("XADD", TOPIC, "*", "p", payload)
    got = 0
    while (answer := client("XREAD", "COUNT", "9" * 18, "STREAMS", TOPIC, f"{got}-0")) != b"*-1\r\n":
        assert len(answer) < MAX_READ + 40_000
        got += answer.count(payload.encode())
    assert got == 100


def test_a_read_goes_on_when_the_dead_leave_nothing_to_hope_for(world: World) -> None:
    """An error would be a reason for old SDKs to ask again at once."""
    alive, dead = Member(RUN, "g", 0), Member(RUN, "g", 1)
    world.service.begin_run(RUN, [alive, dead], lambda member, event: None)
    for member in (alive, dead):
        world.service.give_door(member)
    reader, writer = world.client(alive), world.client(alive)
    world.service.member_ended(dead, "it died")
    assert reader("XREAD", "BLOCK", "0", "STREAMS", TOPIC, "0") == b""
    writer("XADD", TOPIC, "*", "p", "1")
    assert reader.heard() == message(TOPIC, 1, "1")


def test_a_connection_of_another_instance_cannot_be_unblocked(world: World) -> None:
    reader, stranger, friend = (world.client(Member(RUN, "g", index)) for index in (0, 1, 0))
    number = reader("CLIENT", "ID")[1:-2].decode()
    reader("XREAD", "BLOCK", "0", "STREAMS", TOPIC, "0")
    assert stranger("CLIENT", "UNBLOCK", number) == b":0\r\n"
    assert reader.heard() == b""
    assert friend("CLIENT", "UNBLOCK", number) == b":1\r\n"


@pytest.mark.parametrize(
    "payload",
    ["", "x", "1 2", '1},"is_cancel":true,"x":{"y":1', '1},"publish":{"topic":"other","payload":2', "[" * 100_000],
)
def test_a_payload_that_is_no_json_value_is_refused(world: World, payload: str) -> None:
    client = world.client()
    assert client("XADD", TOPIC, "*", "p", payload) == b"-ERR failed to unmarshal JSON\r\n"
    assert client("XLEN", TOPIC) == client("XLEN", "other") == b":0\r\n"


def test_half_a_character_is_replaced_as_for_present_sdks(world: World) -> None:
    client = world.client()
    assert client("XADD", TOPIC, "*", "p", r'"a\ud800"') == b"$3\r\n1-0\r\n"
    assert client("XREAD", "STREAMS", TOPIC, "0") == message(TOPIC, 1, r'"a\ufffd"')


def test_a_closed_connection_hears_nothing_more(world: World) -> None:
    writer, reader = world.client(), world.client()
    reader("XREAD", "BLOCK", "0", "STREAMS", TOPIC, "0")
    reader("PING")
    reader.session.close()
    writer("XADD", TOPIC, "*", "p", "1")
    world.ring()
    assert reader.heard() == b""


def test_old_and_new_sdks_meet(world: World) -> None:
    old = world.client()
    frames: list[dict[str, Any]] = []
    new = world.service.open(lambda frame: frames.append(json.loads(frame)))
    new.receive(json.dumps({"id": "b", "barrier": {"state": STATE, "target": 2}}).encode())
    new.receive(json.dumps({"id": "s", "subscribe": {"topic": TOPIC}}).encode())
    new.receive(json.dumps({"id": "i", "signal_entry": {"state": STATE}}).encode())
    assert old("INCR", STATE) == b":2\r\n"
    old("XADD", TOPIC, "*", "p", '{"N":9007199254740993}')
    assert [frame["id"] for frame in frames] == ["i", "b", "s"]
    assert frames[-1]["subscribe"] == '{"N":9007199254740993}'
    new.receive(json.dumps({"id": "p", "publish": {"topic": TOPIC, "payload": "hi"}}).encode())
    assert old("XREAD", "STREAMS", TOPIC, "1-0") == message(TOPIC, 2, '"hi"')


def test_events_of_an_old_sdk_count_for_its_instance(world: World) -> None:
    member = Member(RUN, "single", 0)
    seen: list[tuple[Member | None, dict[str, Any]]] = []
    world.service.begin_run(RUN, [member], lambda *event: seen.append(event))
    world.client(member)("XADD", EVENTS, "*", "p", '{"success_event":{"group":"single"}}')
    assert seen == [(member, {"success_event": {"group": "single"}})]


def test_a_message_that_new_sdks_could_not_take_is_refused(world: World) -> None:
    assert b"message" in world.client()("XADD", TOPIC, "*", "p", '"' + "x" * 40_000 + '"')
