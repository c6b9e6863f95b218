"""Recorded conversations of the SDKs, byte for byte over a real socket (contract §7.2 to §7.5), and in every cut.

What our own SDK sends is held to §7.2 and §7.3 in `test_sdk_client.py`. One answer differs on purpose: upstream rounds
9007199254740993 and sorts keys, we deliver a payload as it was published.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator

import anyio
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosedError
from websockets.utils import accept_key

from testground.sync.server import SyncServer, open_server
from testground.sync.service import Service
from testground.sync.transport import Socket
from tests.frames import BINARY, CONTINUATION, HANDSHAKE, TEXT, Raw, connected, frame

RUN = "run:c0ffee0000000000000g:plan:tplan:case:pubsub:"
PEER = r'{"ID":"\u003ca\u0026b\u003e","addrs":["/ip4/1"],"N":9007199254740993}'
NO_SHAPE = '"corrupt":0,"corrupt_corr":0,"reorder":0,"reorder_corr":0,"duplicate":0,"duplicate_corr":0'
NETWORK = (
    '{"network":"default","IPv4":"16.0.1.1/16","IPv6":null,"enable":true,"default":{"latency":100000000,"jitter":0,'
    f'"bandwidth":1048576,"filter":0,"loss":1.5,{NO_SHAPE}}},"rules":[{{"latency":0,"jitter":0,"bandwidth":0,"filter":2,'
    f'"loss":0,{NO_SHAPE},"subnet":"16.0.0.9/32"}}],"callback_state":"network-configured","routing_policy":"deny_all"}}'
)
NETWORK_OF_JS = (
    '{"network":"default","enable":true,"default":{"latency":100000000,"bandwidth":1048576},"callback_state":'
    '"network-configured","callback_target":1,"IPv4":"16.0.1.1/16","routing_policy":"deny_all"}'
)
NETWORK_OF_RUST = (
    '{"network":"default","IPv4":"16.0.1.1/24","IPv6":null,"enable":true,"default":{"loss":0.0},"rules":null,'
    '"callback_state":"latency-reduced","routing_policy":"deny_all"}'
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


def with_sidecar(config: str) -> list[tuple[str, str, str]]:
    return [
        ("C1", ">", asked(1, barrier("network-initialized", 2))),
        ("sidecar", ">", asked(0, signal("network-initialized"))),
        ("sidecar", "<", answered(0, signal_entry=1)),
        ("sidecar", ">", asked(1, signal("network-initialized"))),
        ("sidecar", "<", answered(1, signal_entry=2)),
        ("C1", "<", answered(1)),
        ("sidecar", ">", asked(2, f'"subscribe":{{"topic":"{RUN}topics:network:HOST"}}')),
        ("C1", ">", asked(5, f'"publish":{{"topic":"{RUN}topics:network:HOST","payload":{config}}}')),
        ("C1", "<", answered(5, publish=1)),
        ("sidecar", "<", answered(2, subscribe=config)),
        ("C1", ">", asked(6, barrier("network-configured", 1))),
        ("sidecar", ">", asked(3, signal("network-configured"))),
        ("sidecar", "<", answered(3, signal_entry=1)),
        ("C1", "<", answered(6)),
    ]


# No `is_cancel`, the id last, no line end; and a close without a code.
def published_by_js(request_id: int, body: str) -> str:
    return f'{{"publish":{{"topic":"{RUN}run_events","payload":{body}}},"id":"{request_id}"}}'


JS = [
    (
        "js",
        ">",
        published_by_js(
            0,
            '{"start_event":{"runenv":{"plan":"tplan","case":"ok","run":"RUN","instances":2,"outputs_path":"/outputs",'
            '"network":"16.0.0.0/16","group":"single","group_instances":2,"repo":"","branch":"","tag":""}}}',
        ),
    ),
    ("js", "<", answered(0, publish=1)),
    ("js", ">", published_by_js(1, '{"stage_start_event":{"name":"network-initialized","group":"single"}}')),
    ("js", "<", answered(1, publish=2)),
    ("js", ">", published_by_js(2, '{"stage_end_event":{"name":"network-initialized","group":"single"}}')),
    ("js", "<", answered(2, publish=3)),
    ("js", ">", published_by_js(3, '{"message_event":{"message":"network initialisation successful"}}')),
    ("js", "<", answered(3, publish=4)),
    ("js", ">", f'{{"signal_entry":{{"state":"{RUN}states:initialized_global"}},"id":"4"}}'),
    ("js", "<", answered(4, signal_entry=1)),
    ("js", ">", f'{{"barrier":{{"state":"{RUN}states:initialized_global","target":1}},"id":"5"}}'),
    ("js", "<", answered(5)),
    ("js", ">", published_by_js(1, '{"failure_event":{"group":"single","error":"Error: intentional oops"}}')),
    ("js", "<", answered(1, publish=5)),
    ("js", "close", "1005"),
]

EDGES = {
    "target-0": [
        (">", '{"id":"b","barrier":{"state":"s","target":0}}'),
        ("<", '{"id":"b","error":"","publish":null,"subscribe":"","signal_entry":null}'),
    ],
    "target-negative": [(">", '{"id":"b2","barrier":{"state":"s","target":-5}}'), ("<", answered("b2"))],
    "no-operation": [
        (">", '{"id":"n"}'),
        (">", '{"id":"n2","publish":null}'),
        (">", '{"id":"x","signal_entry":{"state":"s"}}'),
        ("<", answered("x", signal_entry=1)),
    ],
    "null": [  # upstream's connection falls mute
        (">", "null"),
        (">", '{"id":"x","signal_entry":{"state":"s"}}'),
        ("<", answered("x", signal_entry=1)),
    ],
    "no-payload": [
        (">", '{"id":"dup","publish":{"topic":"t"}}'),
        ("<", answered("dup", publish=1)),
        (">", '{"id":"s","subscribe":{"topic":"t"}}'),
        ("<", answered("s", subscribe="null")),
    ],
    "letter-case": [(">", '{"ID":"CI","Signal_Entry":{"STATE":"s"}}'), ("<", answered("CI", signal_entry=1))],
    "both": [
        (">", '{"id":"both","publish":{"topic":"t","payload":1},"signal_entry":{"state":"s"}}'),
        ("<", answered("both", publish=1)),
        (">", '{"id":"x","signal_entry":{"state":"s"}}'),
        ("<", answered("x", signal_entry=1)),
    ],
    "payloads": [
        (">", '{"id":"s","subscribe":{"topic":"t"}}'),
        *[
            step
            for seq, payload in enumerate(('""', "null", "[]", "0"), start=1)
            for step in (
                (">", f'{{"id":"{seq}","publish":{{"topic":"t","payload":{payload}}}}}'),
                ("<", answered(seq, publish=seq)),
                ("<", answered("s", subscribe=payload)),
            )
        ],
    ],
    "half-a-surrogate-pair": [  # as `JSON.stringify` may write it
        (">", '{"id":"s","subscribe":{"topic":"t"}}'),
        (">", '{"publish":{"topic":"t","payload":"a\\ud800b"},"id":"p"}'),
        ("<", answered("p", publish=1)),
        ("<", answered("s", subscribe='"a\\ufffdb"')),
    ],
    "cancel": [  # upstream keeps delivering
        (">", '{"id":"sub","subscribe":{"topic":"t"}}'),
        (">", '{"id":"sub","is_cancel":true}'),
        (">", '{"id":"6","publish":{"topic":"t","payload":1}}'),
        ("<", answered(6, publish=1)),
        (">", '{"id":"7","signal_entry":{"state":"s"}}'),
        ("<", answered(7, signal_entry=1)),
    ],
}
CONVERSATIONS = {
    "7.2-sdk-go": GO_WITHOUT_SIDECAR,
    "7.3-sdk-go": with_sidecar(NETWORK),
    "7.3-sdk-js": with_sidecar(NETWORK_OF_JS),
    "7.3-sdk-rust": with_sidecar(NETWORK_OF_RUST),
    "7.4-sdk-js": JS,
    **{f"7.5-{name}": [("C1", *step) for step in steps] for name, steps in EDGES.items()},
}


@pytest.mark.parametrize("name", CONVERSATIONS)
async def test_conversation(server: SyncServer, name: str) -> None:
    clients: dict[str, ClientConnection] = {}
    for who, direction, text in CONVERSATIONS[name]:
        if who not in clients:
            clients[who] = await connect(f"ws://127.0.0.1:{server.port}/any/path?x=1")
        await _step(clients[who], direction, text)
    for client in clients.values():
        await client.close()


@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
async def test_frames_cut_at_every_byte(server: SyncServer, opcode: int) -> None:
    """Before the second part is sent, the service has read the first: it has answered somebody else in between."""
    requests = [
        asked("p", f'"publish":{{"topic":"{RUN}topics:peers","payload":{PEER}}}'),
        published_by_js(1, '{"failure_event":{"group":"single","error":"Error: intentional oops"}}'),
        asked("s", signal("initialized_global")),
    ]
    stream = b"".join(frame(opcode, request.encode()) for request in requests)
    with anyio.fail_after(50):
        async with connected(server.port) as client, connected(server.port) as other:
            for cut in range(len(stream)):
                await client.stream.send(stream[: cut + 1])
                await other.ask("o", signal_entry={"state": "other"})
                if stream[cut + 1 :]:
                    await client.stream.send(stream[cut + 1 :])
                for reply in (
                    answered("p", publish=cut + 1),
                    answered(1, publish=cut + 1),
                    answered("s", signal_entry=cut + 1),
                ):
                    assert await client.text() == reply


async def test_messages_in_fragments_cut_at_every_byte(server: SyncServer) -> None:
    request = asked(6, signal("done")).encode()
    async with connected(server.port) as client:
        for cut in range(len(request) + 1):
            await client.send(TEXT, request[:cut], fin=False)
            await client.send(CONTINUATION, request[cut:])
            assert await client.text() == answered(6, signal_entry=cut + 1)


async def test_handshakes_cut_at_every_byte(server: SyncServer) -> None:
    head = "\r\n".join(["GET / HTTP/1.1", "Host: ...", *HANDSHAKE, "", ""]).encode()
    request = frame(TEXT, asked(0, signal("s")).encode())
    with anyio.fail_after(50):
        async with connected(server.port) as other:
            for cut in range(1, len(head)):
                async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
                    await stream.send(head[:cut])
                    await other.ask("o", signal_entry={"state": "other"})
                    await stream.send(head[cut:] + request)
                    client = Raw(stream)
                    assert b" 101 " in await client.buffer.receive_until(b"\r\n\r\n", 4096)
                    assert await client.text() == answered(0, signal_entry=cut)


async def test_what_our_client_reads_cut_at_every_byte() -> None:
    """The handshake and the answers of §7.2, handed to the protocol as the event loop would."""
    answers = [answered(0, signal_entry=1), answered(1, subscribe=PEER), answered(1, subscribe=PEER), answered(2)]
    for kept in (slice(1), slice(len(answers))):
        frames = b"".join(frame(TEXT, text.encode(), masked=False) for text in answers[kept])
        size = len(_accepted("x" * 24)) + len(frames)
        for cut in range(1, size):
            messages: list[bytes] = []
            client = Socket("ws://127.0.0.1:1/", messages.append, lambda reason: None)
            wire = Wire()
            client.connection_made(wire)
            stream = _accepted(wire.key) + frames
            client.data_received(stream[:cut])
            client.data_received(stream[cut:])
            with anyio.fail_after(10):
                await client.wait_open()
            assert [message.decode() for message in messages] == answers[kept]


class Wire(asyncio.Transport):
    """Leads nowhere, and remembers the key of the handshake."""

    key = ""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if found := re.search(rb"Sec-WebSocket-Key: (\S+)", bytes(data)):
            self.key = found.group(1).decode()

    def is_closing(self) -> bool:
        return False


def _accepted(key: str) -> bytes:
    lines = ("HTTP/1.1 101 Switching Protocols", *HANDSHAKE[:2], f"Sec-WebSocket-Accept: {accept_key(key)}", "", "")
    return "\r\n".join(lines).encode()


MALFORMED = "failed to unmarshal JSON"
CLOSING: dict[str, tuple[str | bytes, int, str]] = {
    "7.5-nonsense": ("nonsense", 1007, MALFORMED),
    "7.5-list": ("[]", 1007, MALFORMED),
    "7.5-id-3": ('{"id":3,"signal_entry":{"state":"s"}}', 1007, MALFORMED),
    "7.5-target-1.5": ('{"id":"x","barrier":{"state":"s","target":1.5}}', 1007, MALFORMED),
    "7.5-target-2.0": ('{"id":"x","barrier":{"state":"s","target":2.0}}', 1007, MALFORMED),
    "7.5-target-2-to-the-63": ('{"id":"x","barrier":{"state":"s","target":9223372036854775808}}', 1007, MALFORMED),
    "7.5-two-documents": ('{"id":"x"} {"id":"y"}', 1007, MALFORMED),
    "7.5-empty": ("", 1007, MALFORMED),
    "7.5-binary": (b"\xff\xfe", 1007, MALFORMED),
    "7.5-32769-bytes": ('{"id":"x"}' + " " * 32759, 1009, "read limited at 32769 bytes"),
}


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        *[pytest.param(*closing, id=name) for name, closing in CLOSING.items()],
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
