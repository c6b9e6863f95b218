"""Topics, states, barriers and cancellation, without sockets (contract §3.4, §3.5)."""

from __future__ import annotations

import gc
import json
from typing import Any

import pytest

from testground.sync import runs
from testground.sync import session as sessions
from testground.sync.service import Member, Service, Wait
from testground.sync.wire import MAX_MESSAGE, WireError

PREFIX = "run:r1:plan:p:case:c:"


class Peer:
    """One connection: what it asks, and what it was told."""

    def __init__(self, service: Service, member: Member | None = None) -> None:
        self.replies: list[bytes] = []
        self.session = service.open(self.replies.append, member)

    def ask(self, request_id: str, *, binary: bool = False, **request: Any) -> list[dict[str, Any]]:
        """Returns what came back, at once or from before."""
        self.session.receive(json.dumps({"id": request_id, **request}).encode(), binary=binary)
        return self.told()

    def told(self) -> list[dict[str, Any]]:
        told = [json.loads(reply) for reply in self.replies]
        self.replies.clear()
        return told

    def publish(self, topic: str, payload: Any) -> list[dict[str, Any]]:
        return self.ask("pub", publish={"topic": topic, "payload": payload})

    def signal(self, state: str) -> int:
        seq: int = self.ask("sig", signal_entry={"state": state})[-1]["signal_entry"]["seq"]
        return seq


def test_signals_count_from_one_for_all() -> None:
    service = Service()
    one, two = Peer(service), Peer(service)
    assert [one.signal("s"), two.signal("s"), one.signal("s"), two.signal("other")] == [1, 2, 3, 1]


def test_states_and_topics_do_not_share_names() -> None:
    peer = Peer(Service())
    assert peer.signal("name") == 1
    assert peer.publish("name", 0)[0]["publish"] == {"seq": 1}


@pytest.mark.parametrize("target", [2, 1, 0, -5])
def test_barriers_that_are_met_pass_at_once(target: int) -> None:
    peer = Peer(Service())
    peer.signal("s")
    peer.signal("s")
    (reply,) = peer.ask("b", barrier={"state": "s", "target": target})
    assert reply == {"id": "b", "error": "", "publish": None, "subscribe": "", "signal_entry": None}


def test_barriers_pass_once_with_the_signal_that_meets_them() -> None:
    service = Service()
    waiting, signalling = Peer(service), Peer(service)
    assert waiting.ask("three", barrier={"state": "s", "target": 3}) == []
    assert waiting.ask("two", barrier={"state": "s", "target": 2}) == []
    signalling.signal("s")
    assert waiting.told() == []
    signalling.signal("s")
    assert [reply["id"] for reply in waiting.told()] == ["two"]
    signalling.signal("s")
    assert [reply["id"] for reply in waiting.told()] == ["three"]
    signalling.signal("s")
    assert waiting.told() == []


def test_a_signal_is_answered_before_the_barrier_that_it_meets() -> None:
    peer = Peer(Service())
    peer.ask("b", barrier={"state": "s", "target": 1})
    assert [reply["id"] for reply in peer.ask("s", signal_entry={"state": "s"})] == ["s", "b"]


def test_subscriptions_get_the_whole_log_then_what_comes() -> None:
    service = Service()
    early, late = Peer(service), Peer(service)
    assert early.ask("e", subscribe={"topic": "t"}) == []
    assert early.publish("t", {"b": 1, "a": 2}) == [
        {"id": "pub", "error": "", "publish": {"seq": 1}, "subscribe": "", "signal_entry": None},
        {"id": "e", "error": "", "publish": None, "subscribe": '{"b": 1, "a": 2}', "signal_entry": None},
    ]
    early.publish("t", None)
    early.told()
    assert [reply["subscribe"] for reply in late.ask("l", subscribe={"topic": "t"})] == ['{"b": 1, "a": 2}', "null"]
    assert early.publish("t", "")[-1]["subscribe"] == '""'
    assert [reply["subscribe"] for reply in late.told()] == ['""']


def test_two_subscriptions_with_one_id_both_deliver() -> None:
    peer = Peer(Service())
    peer.ask("same", subscribe={"topic": "t"})
    peer.ask("same", subscribe={"topic": "t"})
    assert [reply["id"] for reply in peer.publish("t", 1)] == ["pub", "same", "same"]


def test_a_long_log_is_replayed_in_chunks_and_in_order() -> None:
    service = Service()
    publisher, subscriber = Peer(service), Peer(service)
    payload = "x" * 1000
    for number in range(500):
        publisher.publish("t", [number, payload])
    first = subscriber.ask("s", subscribe={"topic": "t"})
    assert 0 < len(first) < 500
    publisher.publish("t", [500, payload])
    got = first
    while subscriber.session.replaying:
        subscriber.session.replay()
        chunk = subscriber.told()
        assert sum(len(json.dumps(reply)) for reply in chunk) < 2 * sessions.REPLAY_CHUNK
        got += chunk
    publisher.publish("t", [501, payload])
    got += subscriber.told()
    assert [json.loads(reply["subscribe"])[0] for reply in got] == list(range(502))


def test_a_replay_ends_with_its_cancellation() -> None:
    service = Service()
    publisher, subscriber = Peer(service), Peer(service)
    for number in range(500):
        publisher.publish("t", [number, "x" * 1000])
    subscriber.ask("s", subscribe={"topic": "t"})
    subscriber.ask("next", subscribe={"topic": "t"})
    assert subscriber.ask("s", is_cancel=True) == []
    while subscriber.session.replaying:
        subscriber.session.replay()
    assert {reply["id"] for reply in subscriber.told()} == {"next"}


def test_what_comes_while_a_client_is_behind_waits_in_the_topics() -> None:
    service = Service()
    publisher, slow = Peer(service), Peer(service)
    for name in ("t", "u", "cancelled"):
        slow.ask(name, subscribe={"topic": name})
    publisher.publish("t", 1)
    assert [reply["subscribe"] for reply in slow.told()] == ["1"]
    slow.session.pause()
    for topic, payload in (("t", 2), ("u", 3), ("cancelled", 4), ("t", 5)):
        publisher.publish(topic, payload)
    slow.session.pause()
    assert slow.ask("cancelled", is_cancel=True) == []
    assert slow.signal("s") == 1
    slow.session.replay()
    told = [(reply["id"], reply["subscribe"]) for reply in slow.told()]
    assert [text for name, text in told if name == "t"] == ["2", "5"]
    assert [text for name, text in told if name != "t"] == ["3"]
    publisher.publish("t", 6)
    assert [reply["subscribe"] for reply in slow.told()] == ["6"]


def test_the_first_operation_counts() -> None:
    peer = Peer(Service())
    reply = peer.ask("both", publish={"topic": "t"}, signal_entry={"state": "s"}, barrier={"state": "s", "target": 0})
    assert [r["publish"] for r in reply] == [{"seq": 1}]
    assert peer.signal("s") == 1


@pytest.mark.parametrize("message", [b"null", b"{}", b'{"id":"n"}', b'{"id":"n2","publish":null}'])
def test_no_operation_is_no_reply(message: bytes) -> None:
    peer = Peer(Service())
    peer.session.receive(message)
    assert peer.told() == []
    assert peer.signal("s") == 1


def test_cancelling_stops_barriers_and_subscriptions_silently() -> None:
    service = Service()
    peer, other = Peer(service), Peer(service)
    peer.ask("b", barrier={"state": "s", "target": 1})
    peer.ask("t", subscribe={"topic": "t"})
    assert peer.ask("b", is_cancel=True) == []
    assert peer.ask("t", is_cancel=True) == []
    assert peer.ask("unknown", is_cancel=True) == []
    other.signal("s")
    other.publish("t", 1)
    assert peer.told() == []


def test_ids_belong_to_their_connection() -> None:
    service = Service()
    one, two = Peer(service), Peer(service)
    one.ask("0", subscribe={"topic": "t"})
    two.ask("0", subscribe={"topic": "t"})
    two.ask("0", is_cancel=True)
    two.publish("t", 1)
    assert len(one.told()) == 1


def test_a_closed_connection_waits_for_nothing() -> None:
    service = Service()
    gone, other = Peer(service), Peer(service)
    gone.ask("b", barrier={"state": PREFIX + "states:s", "target": 1})
    gone.ask("t", subscribe={"topic": PREFIX + "topics:t"})
    gone.session.close()
    other.signal(PREFIX + "states:s")
    other.publish(PREFIX + "topics:t", 1)
    assert gone.told() == []
    assert service.waiting("r1") == []


def test_messages_whose_delivery_would_be_too_large_are_refused_and_not_stored() -> None:
    service = Service()
    peer, subscriber = Peer(service), Peer(service)
    subscriber.ask("x" * 64, subscribe={"topic": "t"})
    sizes = [32000, 32200, 32300, 32400, 32600]
    refused = [size for size in sizes if peer.publish("t", "x" * size)[0]["error"]]
    assert refused == sizes[len(sizes) - len(refused) :]
    assert 0 < len(refused) < len(sizes)
    assert len(subscriber.replies) == len(sizes) - len(refused)
    assert all(len(frame) <= MAX_MESSAGE for frame in subscriber.replies)
    (reply,) = peer.publish("t", '"' * 10000)
    assert reply["error"].startswith("message too large: a subscriber would get 4")
    assert peer.publish("t", "small")[0]["publish"] == {"seq": len(sizes) - len(refused) + 1}


def test_errors_are_quoted_for_peers_that_send_binary_frames() -> None:
    peer = Peer(Service())
    publish = {"topic": "t", "payload": "x" * MAX_MESSAGE}
    (plain,) = peer.ask("p", publish=publish)
    (quoted,) = peer.ask("p", binary=True, publish=publish)
    assert json.loads(quoted["error"]) == plain["error"]


def test_messages_have_a_limit_per_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "MAX_STORED", runs.KEY_COST + 1000)
    peer = Peer(Service())
    topic = PREFIX + "topics:t"
    assert peer.publish(topic, "x" * 500)[0]["publish"] == {"seq": 1}
    assert "full" in peer.publish(topic, "x" * 500)[0]["error"]
    assert peer.publish("run:r2:plan:p:case:c:topics:t", "x" * 500)[0]["publish"] == {"seq": 1}


def test_topics_and_states_have_a_limit_per_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their names are the plan's: one that invents them without end must not take all memory."""
    monkeypatch.setattr(runs, "MAX_STORED", 3 * runs.KEY_COST)
    service = Service()
    peer = Peer(service)
    assert peer.signal(PREFIX + "states:1") == 1
    assert peer.publish(PREFIX + "topics:1", 1)[0]["publish"] == {"seq": 1}
    full = "this run is full: its topics and states take 0 MiB"
    for request in (
        {"signal_entry": {"state": PREFIX + "states:2"}},
        {"barrier": {"state": PREFIX + "states:2", "target": 1}},
        {"subscribe": {"topic": PREFIX + "topics:2"}},
        {"publish": {"topic": PREFIX + "topics:2", "payload": 1}},
    ):
        assert [reply["error"] for reply in peer.ask("x", **request)] == [full]
    assert peer.signal(PREFIX + "states:1") == 2
    assert peer.signal("run:r2:plan:p:case:c:states:1") == 1
    assert service.waiting("r1") == []


def test_a_connection_has_a_limit_of_what_it_waits_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_WAITS", 1)
    peer = Peer(Service())
    assert peer.ask("1", barrier={"state": "s", "target": 1}) == []
    assert "pending" in peer.ask("2", barrier={"state": "s", "target": 1})[0]["error"]
    assert "pending" in peer.ask("3", subscribe={"topic": "t"})[0]["error"]


def test_run_events_are_told_with_their_publisher() -> None:
    service = Service()
    events: list[tuple[Member | None, dict[str, Any]]] = []
    member = Member("r1", "single", 0)
    service.begin_run("r1", [member], lambda who, event: events.append((who, event)))
    known, unknown = Peer(service, member), Peer(service)
    known.publish(PREFIX + "run_events", {"success_event": {"group": "single"}})
    unknown.publish(PREFIX + "run_events", {"message_event": {"message": "hi"}})
    unknown.publish(PREFIX + "run_events", "no object")
    known.publish(PREFIX + "topics:x:run_events", {"no": "event"})
    known.publish("run:r2:plan:p:case:c:run_events", {"no": "event of this run"})
    assert events == [(member, {"success_event": {"group": "single"}}), (None, {"message_event": {"message": "hi"}})]


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 5000])
def test_an_event_with_a_number_beyond_all_bounds_is_told(number: str) -> None:
    service = Service()
    events: list[dict[str, Any]] = []
    service.begin_run("r1", [], lambda member, event: events.append(event))
    peer = Peer(service)
    body = f'{{"failure_event":{{"error":"e","x":{number}}}}}'
    peer.session.receive(f'{{"publish":{{"topic":"{PREFIX}run_events","payload":{body}}}}}'.encode())
    assert [event["failure_event"]["error"] for event in events] == ["e"]
    assert peer.told()[0]["publish"] == {"seq": 1}


def test_a_signal_for_a_member_is_no_connection_of_it() -> None:
    """Whether an instance has ever connected tells what to advise."""
    service, member = Service(), Member("r1", "clients", 2)
    service.begin_run("r1", [member], lambda *_: None)
    service.signal(member, PREFIX + "states:ready")
    assert service.connected("r1") == frozenset()
    peer = Peer(service, member)
    assert peer.signal(PREFIX + "states:ready") == 2
    assert service.connected("r1") == {member}


def test_waiting_says_who_waits_where() -> None:
    service = Service()
    member = Member("r1", "clients", 2)
    service.begin_run("r1", [member], lambda *_: None)
    peer = Peer(service, member)
    peer.signal(PREFIX + "states:ready")
    peer.ask("b", barrier={"state": PREFIX + "states:ready", "target": 3})
    peer.publish(PREFIX + "topics:peers", 1)
    Peer(service).ask("t", subscribe={"topic": PREFIX + "topics:peers"})
    peer.ask("elsewhere", barrier={"state": "run:r2:plan:p:case:c:states:ready", "target": 3})
    assert service.waiting("r1") == [
        Wait(member, "barrier", "ready", 3, 1),
        Wait(None, "subscription", "peers", 0, 1),
    ]
    assert service.waiting("unknown") == []
    assert str(member) == "clients[002]"


def test_the_end_of_a_run_forgets_its_keys_and_nothing_else() -> None:
    service = Service()
    service.begin_run("r1", [], lambda *_: None)
    peer = Peer(service)
    other = "run:r10:plan:p:case:c:states:s"
    for state in (PREFIX + "states:s", other, "plain"):
        peer.signal(state)
    peer.publish(PREFIX + "topics:t", 1)
    peer.ask("b", barrier={"state": PREFIX + "states:s", "target": 9})
    peer.ask("t", subscribe={"topic": PREFIX + "topics:t"})
    peer.told()
    service.end_run("r1")
    assert [(reply["id"], reply["error"]) for reply in peer.told()] == [
        ("b", "run r1 has ended"),
        ("t", "run r1 has ended"),
    ]
    assert [peer.signal(PREFIX + "states:s"), peer.signal(other), peer.signal("plain")] == [1, 2, 2]
    assert peer.publish(PREFIX + "topics:t", 2)[0]["publish"] == {"seq": 1}
    service.end_run("unknown")


def test_what_a_run_stored_is_gone_with_it_at_once() -> None:
    """The garbage collector of a daemon that has little to do may not come by for long."""
    service = Service()
    service.begin_run("r1", [], lambda *_: None)
    peer = Peer(service)
    peer.publish(PREFIX + "topics:large", 1)
    peer.ask("t", subscribe={"topic": PREFIX + "topics:large"})
    gc.disable()
    try:
        service.end_run("r1")
        peer.session.close()
        left = [topic for topic in gc.get_objects() if isinstance(topic, runs.Topic) and topic.name == "large"]
    finally:
        gc.enable()
    assert left == []


@pytest.mark.parametrize("message", [b"nonsense", b"[]", b'{"publish":{"topic":"t","payload":"\xff"}}'])
def test_what_is_no_request_changes_nothing(message: bytes) -> None:
    peer = Peer(Service())
    with pytest.raises(WireError):
        peer.session.receive(message)
    assert peer.told() == []
    assert peer.publish("t", 1)[0]["publish"] == {"seq": 1}


def test_a_state_can_be_signalled_for_a_member() -> None:
    """As a sidecar does; it counts as the member's own signal when somebody dies."""
    service = Service()
    members = [Member("r1", "g", index) for index in range(2)]
    service.begin_run("r1", members, lambda *_: None)
    peer = Peer(service, members[0])
    assert peer.ask("b", barrier={"state": PREFIX + "states:network-initialized", "target": 2}) == []
    for member in members:
        service.signal(member, PREFIX + "states:network-initialized")
    [met] = peer.told()
    assert (met["id"], met["error"]) == ("b", "")


@pytest.mark.parametrize("binary", [False, True])
def test_network_configurations_that_nobody_would_apply_are_refused(binary: bool) -> None:
    service = Service()
    service.begin_run("r1", [], lambda *_: None, on_config=lambda host, config, answer: answer("nobody shapes it"))
    peer = Peer(service)
    publish = {"topic": PREFIX + "topics:network:host", "payload": {"enable": True}}
    [reply] = peer.ask("p", publish=publish, binary=binary)
    assert (json.loads(reply["error"]) if binary else reply["error"]) == "nobody shapes it"
    assert peer.publish(PREFIX + "topics:networks", 1)[0]["error"] == ""


def test_nobody_configures_the_network_of_another_run() -> None:
    service, asked = Service(), []
    mine, other = Member("r1", "g", 0), Member("r2", "g", 0)
    for member in (mine, other):
        service.begin_run(member.run_id, [member], lambda *_: None, on_config=lambda *config: asked.append(config))
    publish = {"topic": PREFIX + "topics:network:host", "payload": {}}
    [reply] = Peer(service, other).ask("p", publish=publish)
    assert reply["error"] == "network configuration refused: that is an instance of another run"
    assert Peer(service, mine).ask("p", publish=publish) == [] and len(asked) == 1


def test_the_publisher_of_a_network_configuration_gets_its_reply_when_it_is_in_force() -> None:
    service, asked = Service(), []
    service.begin_run("r1", [], lambda *_: None, on_config=lambda *config: asked.append(config))
    peer, subscriber = Peer(service), Peer(service)
    subscriber.ask("s", subscribe={"topic": PREFIX + "topics:network:host"})
    assert peer.ask("p", publish={"topic": PREFIX + "topics:network:host", "payload": {"enable": True}}) == []
    assert peer.ask("s", signal_entry={"state": PREFIX + "states:other"})[0]["id"] == "s"
    [(hostname, payload, answer)] = asked
    assert (hostname, json.loads(payload), subscriber.told()) == ("host", {"enable": True}, [])
    answer("")
    assert [reply["publish"]["seq"] for reply in peer.told()] == [1]
    assert len(subscriber.told()) == 1


def test_a_network_configuration_refused_later_is_no_message() -> None:
    service, asked = Service(), []
    service.begin_run("r1", [], lambda *_: None, on_config=lambda *config: asked.append(config))
    peer = Peer(service)
    peer.ask("p", publish={"topic": PREFIX + "topics:network:host", "payload": {}})
    asked[0][-1]("no such link")
    assert [(reply["id"], reply["error"]) for reply in peer.told()] == [("p", "no such link")]
    assert peer.ask("s", subscribe={"topic": PREFIX + "topics:network:host"}) == []
