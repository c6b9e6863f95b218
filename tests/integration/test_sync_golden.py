"""Recorded conversations of the SDKs, byte for byte over a real socket (contract §7.2 to §7.5)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import anyio
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError

from testground.sync.server import SyncServer, open_server
from testground.sync.service import Service

RUN = "run:c0ffee0000000000000g:plan:tplan:case:pubsub:"
PEER = r'{"ID":"\u003ca\u0026b\u003e","addrs":["/ip4/1"],"N":9007199254740993}'
NETWORK = (
    '{"network":"default","IPv4":"16.0.1.1/16","IPv6":null,"enable":true,"default":{"latency":100000000,"loss":1.5},'
    '"rules":[{"filter":2,"subnet":"16.0.0.9/32"}],"callback_state":"network-configured","routing_policy":"deny_all"}'
)


@pytest.fixture
async def server() -> AsyncIterator[SyncServer]:
    async with open_server(Service(), "127.0.0.1", 0) as server:
        yield server


def asked(request_id: int | str, operation: str) -> str:
    """As sdk-go writes it."""
    return f'{{"id":"{request_id}","is_cancel":false,{operation}}}\n'


def event(body: str) -> str:
    return f'"publish":{{"topic":"{RUN}run_events","payload":{body}}}'


def stage(kind: str) -> str:
    return event(f'{{"stage_{kind}_event":{{"name":"network-initialized","group":"single"}}}}')


def signal(state: str) -> str:
    return f'"signal_entry":{{"state":"{RUN}states:{state}"}}'


def barrier(state: str, target: int) -> str:
    return f'"barrier":{{"state":"{RUN}states:{state}","target":{target}}}'


def answered(request_id: int | str, *, publish: int = 0, subscribe: str = "", signal_entry: int = 0) -> str:
    numbers = {
        name: f'{{"seq":{seq}}}' if seq else "null"
        for name, seq in (("publish", publish), ("signal_entry", signal_entry))
    }
    return (
        f'{{"id":"{request_id}","error":"","publish":{numbers["publish"]},"subscribe":{json.dumps(subscribe)},'
        f'"signal_entry":{numbers["signal_entry"]}}}'
    )


GO_WITHOUT_SIDECAR = [
    *[
        step
        for offset, name in enumerate(("C1", "C2"))
        for step in (
            (name, ">", asked(0, stage("start"))),
            (name, "<", answered(0, publish=1 + 2 * offset)),
            (name, ">", asked(1, stage("end"))),
            (name, "<", answered(1, publish=2 + 2 * offset)),
            (name, ">", asked(2, signal("initialized_global"))),
            (name, "<", answered(2, signal_entry=1 + offset)),
            (name, ">", asked(3, signal("initialized_group_single"))),
            (name, "<", answered(3, signal_entry=1 + offset)),
            (name, ">", asked(4, f'"publish":{{"topic":"{RUN}topics:peers","payload":{PEER}}}')),
            (name, "<", answered(4, publish=1 + offset)),
        )
    ],
    ("C1", ">", asked(5, f'"subscribe":{{"topic":"{RUN}topics:peers"}}')),
    ("C1", "<", answered(5, subscribe=PEER)),
    ("C1", "<", answered(5, subscribe=PEER)),
    ("C1", ">", asked(6, signal("done"))),
    ("C1", "<", answered(6, signal_entry=1)),
    ("C1", ">", asked(7, barrier("done", 2))),
    ("C2", ">", asked(6, signal("done"))),
    ("C2", "<", answered(6, signal_entry=2)),
    ("C1", "<", answered(7)),
    ("C2", ">", asked(7, barrier("done", 2))),
    ("C2", "<", answered(7)),
    ("C1", ">", asked(8, event('{"success_event":{"group":"single"}}'))),
    ("C1", "<", answered(8, publish=5)),
    ("C2", ">", asked(8, event('{"success_event":{"group":"single"}}'))),
    ("C2", "<", answered(8, publish=6)),
    ("C1", "close", "1000"),
    ("C2", "close", "1000"),
]

GO_WITH_SIDECAR = [
    ("C1", ">", asked(1, barrier("network-initialized", 2))),
    ("sidecar", ">", asked(0, signal("network-initialized"))),
    ("sidecar", "<", answered(0, signal_entry=1)),
    ("sidecar", ">", asked(1, signal("network-initialized"))),
    ("sidecar", "<", answered(1, signal_entry=2)),
    ("C1", "<", answered(1)),
    ("sidecar", ">", asked(2, f'"subscribe":{{"topic":"{RUN}topics:network:HOST"}}')),
    ("C1", ">", asked(5, f'"publish":{{"topic":"{RUN}topics:network:HOST","payload":{NETWORK}}}')),
    ("C1", "<", answered(5, publish=1)),
    ("sidecar", "<", answered(2, subscribe=NETWORK)),
    ("C1", ">", asked(6, barrier("network-configured", 1))),
    ("sidecar", ">", asked(3, signal("network-configured"))),
    ("sidecar", "<", answered(3, signal_entry=1)),
    ("C1", "<", answered(6)),
]

# No `is_cancel`, the id last, no line end; and a close without a code.
JS = [
    ("js", ">", f'{{"publish":{{"topic":"{RUN}run_events","payload":{{"start_event":{{"runenv":{{}}}}}}}},"id":"0"}}'),
    ("js", "<", answered(0, publish=1)),
    ("js", ">", f'{{"signal_entry":{{"state":"{RUN}states:initialized_global"}},"id":"4"}}'),
    ("js", "<", answered(4, signal_entry=1)),
    ("js", ">", f'{{"barrier":{{"state":"{RUN}states:initialized_global","target":1}},"id":"5"}}'),
    ("js", "<", answered(5)),
    ("js", "close", "1005"),
]

EDGES = [
    ("C1", ">", '{"id":"b","barrier":{"state":"s","target":0}}'),
    ("C1", "<", answered("b")),
    ("C1", ">", '{"id":"b2","barrier":{"state":"s","target":-5}}'),
    ("C1", "<", answered("b2")),
    ("C1", ">", '{"id":"n"}'),
    ("C1", ">", '{"id":"n2","publish":null}'),
    ("C1", ">", "null"),
    ("C1", ">", '{"id":"dup","publish":{"topic":"t"}}'),
    ("C1", "<", answered("dup", publish=1)),
    ("C1", ">", '{"ID":"CI","Signal_Entry":{"STATE":"s"}}'),
    ("C1", "<", answered("CI", signal_entry=1)),
    ("C1", ">", '{"id":"both","publish":{"topic":"t","payload":""},"signal_entry":{"state":"s"}}'),
    ("C1", "<", answered("both", publish=2)),
    ("C1", ">", '{"id":"4","publish":{"topic":"t","payload":[]}}'),
    ("C1", "<", answered(4, publish=3)),
    ("C1", ">", '{"id":"5","publish":{"topic":"t","payload":0}}'),
    ("C1", "<", answered(5, publish=4)),
    ("C1", ">", '{"id":"sub","subscribe":{"topic":"t"}}'),
    *[("C1", "<", answered("sub", subscribe=payload)) for payload in ("null", '""', "[]", "0")],
    ("C1", ">", '{"id":"sub","is_cancel":true}'),
    ("C1", ">", '{"id":"6","publish":{"topic":"t","payload":1}}'),
    ("C1", "<", answered(6, publish=5)),
    ("C1", ">", '{"id":"7","signal_entry":{"state":"s"}}'),
    ("C1", "<", answered(7, signal_entry=2)),
]


@pytest.mark.parametrize(
    "conversation",
    [
        pytest.param(GO_WITHOUT_SIDECAR, id="sdk-go"),
        pytest.param(GO_WITH_SIDECAR, id="sdk-go with a sidecar"),
        pytest.param(JS, id="sdk-js"),
        pytest.param(EDGES, id="edges"),
    ],
)
async def test_conversation(server: SyncServer, conversation: list[tuple[str, str, str]]) -> None:
    clients: dict[str, ClientConnection] = {}
    for name, direction, text in conversation:
        if name not in clients:
            clients[name] = await connect(f"ws://127.0.0.1:{server.port}/any/path?x=1")
        await _step(clients[name], direction, text)
    for client in clients.values():
        await client.close()


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        ("nonsense", 1007, "failed to unmarshal JSON"),
        ("[]", 1007, "failed to unmarshal JSON"),
        ('{"id":3,"signal_entry":{"state":"s"}}', 1007, "failed to unmarshal JSON"),
        ('{"id":"x","barrier":{"state":"s","target":1.5}}', 1007, "failed to unmarshal JSON"),
        ('{"id":"x","barrier":{"state":"s","target":2.0}}', 1007, "failed to unmarshal JSON"),
        (b"\xff\xfe", 1007, "failed to unmarshal JSON"),
        ('{"id":"x"}' + " " * 32759, 1009, "read limited at 32769 bytes"),
        ("x" * 1_000_000, 1009, "read limited at 32769 bytes"),
        (["y" * 20000] * 3, 1009, "read limited at 32769 bytes"),
        ('{"id":"' + "x" * 65 + '"}', 1008, "id longer than 64 characters"),
    ],
)
async def test_what_closes_a_connection(
    server: SyncServer, message: str | bytes | list[str], code: int, reason: str
) -> None:
    async with connect(f"ws://127.0.0.1:{server.port}") as client, connect(f"ws://127.0.0.1:{server.port}") as other:
        await client.send(message)
        with anyio.fail_after(10), pytest.raises(ConnectionClosedError) as caught:
            await client.recv()
        assert caught.value.rcvd is not None
        assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (code, reason)
        await _step(other, ">", '{"id":"0","signal_entry":{"state":"s"}}')
        await _step(other, "<", answered(0, signal_entry=1))


async def test_a_message_of_exactly_the_limit_is_read(server: SyncServer) -> None:
    async with connect(f"ws://127.0.0.1:{server.port}") as client:
        await _step(client, ">", '{"id":"x","barrier":{"state":"s"}}'.ljust(32768))
        await _step(client, "<", answered("x"))


async def _step(client: ClientConnection, direction: str, text: str) -> None:
    with anyio.fail_after(10):
        if direction == ">":
            await client.send(text)
        elif direction == "<":
            assert await client.recv() == text
        elif text == "1005":
            client.protocol.send_close()
            client.send_data()
            await client.wait_closed()
            assert client.close_code == 1005
        else:
            await client.close(int(text))
            assert client.close_code == int(text)
