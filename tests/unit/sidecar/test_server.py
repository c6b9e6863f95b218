"""The sidecar process answers whatever it is asked: its end would be that of the run."""

import json
import socket

import pytest

from testground.sidecar.server import Server


class NoHub:
    instances = 1


@pytest.fixture
def ask():
    """What it answers to requests."""
    ours, theirs = socket.socketpair()

    def ask(*requests):
        for number, request in enumerate(requests):
            ours.sendall(json.dumps({"id": number, **request}).encode() + b"\n")
        ours.shutdown(socket.SHUT_WR)
        server = Server(theirs, NoHub())
        server._spaces["known"] = None
        server.serve()
        theirs.close()
        with ours, ours.makefile() as answers:
            return [json.loads(line) for line in answers]

    return ask


def test_a_change_of_what_is_not_there_yet(ask):
    [answer] = ask({"host": "unknown", "config": "{}"})
    assert (answer["id"], answer["error"]) == (0, "unknown has not started yet")


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 100_000 + "]" * 100_000])
def test_json_that_cannot_be_read(ask, text):
    first, second = ask({"host": "known", "config": text}, {"host": "other", "config": "{}"})
    assert "the network configuration cannot be read" in first["error"]
    assert second["error"] == "other has not started yet"


def test_instances_are_looked_at_while_nobody_asks_for_anything(monkeypatch):
    """Before their first change, which then need not wait for that."""
    ours, theirs = socket.socketpair()
    looked_at = []

    def look(server, host):
        looked_at.append(host)
        if len(looked_at) == NoHub.instances:
            ours.shutdown(socket.SHUT_WR)

    monkeypatch.setattr(Server, "_instance", look)
    with ours, theirs:
        server = Server(theirs, NoHub())
        server._spaces["known"] = None
        server._unready.append("known")
        server.serve()
    assert looked_at == ["known"]
