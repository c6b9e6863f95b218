"""The acceptance checklist of the instance contract (instance-contract §8.3), a test for each of its bullets.

Two of the ten belong to parts that do not exist yet, and have no test here:
"eth0 = control 192.18/16, eth1 = data 16.x; deny by default after init; IPv4 change by address only, mask ignored"
belongs to isolated networks, and "Influx `/write` merges partial points; accepts integer and float `count`; 204" to
metrics.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from websockets.asyncio.client import connect

from testground.drivers import namespaces
from testground.sync.server import open_server
from testground.sync.service import Service
from tests.acceptance.voices import Heard, Stage
from tests.frames import BINARY, CLOSE, HANDSHAKE, TEXT, Raw, connected, frame

SUCCESS = '{"success_event":{"group":"g"}}'
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; client_no_context_takeover; server_no_context_takeover"
HOURS = 2 * 3600.0
REPLIES = {
    "publish": '{"id":"1","error":"","publish":{"seq":1},"subscribe":"","signal_entry":null}',
    "signal": '{"id":"2","error":"","publish":null,"subscribe":"","signal_entry":{"seq":1}}',
    "barrier": '{"id":"3","error":"","publish":null,"subscribe":"","signal_entry":null}',
    "delivery": '{"id":"4","error":"","publish":null,"subscribe":"[1, 2]","signal_entry":null}',
}

VARYING = frozenset(("TEST_START_TIME", "TEST_TEMP_PATH"))
OTHERS = frozenset(("INFLUXDB_URL", "REDIS_HOST", "SYNC_SERVICE_HOST", "PATH"))
EXTRAS = frozenset(("SYNC_SERVICE_PORT", "HOME", "HOSTNAME", "TMPDIR"))
"""Beyond what upstream sets for local:exec, as the contract advises."""


@pytest.fixture
def stage(home: Path, daemon: None, tmp_path: Path) -> Stage:
    return Stage(home, tmp_path)


@pytest.fixture
async def deadline() -> AsyncIterator[None]:
    with anyio.fail_after(40):
        yield


@pytest.mark.usefixtures("deadline")
@pytest.mark.parametrize(
    ("path", "headers"),
    [
        pytest.param("/", ("Host: testground-sync-service:5050", DEFLATE), id="sdk-go"),
        pytest.param(
            "/", ("host: x", "sec-websocket-extensions: permessage-deflate; client_max_window_bits"), id="sdk-js"
        ),
        pytest.param("/", ("Host: ...",), id="sdk-rust"),
        pytest.param("/any/path?query", (), id="no Host"),
        pytest.param("/", ("Host: x", "Origin: http://elsewhere.example"), id="foreign Origin"),
    ],
)
@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
async def test_server_accepts_any_client_and_answers_in_five_keys_without_acknowledging_subscriptions(
    stage: Stage, path: str, headers: tuple[str, ...], opcode: int
) -> None:
    """`server accepts text+binary, any path, odd Host, no Origin, with/without deflate; five-key replies; no subscribe
    ack`
    """
    names = f"{path}{headers}{opcode}"
    topic, state = json.dumps(f"{names} topic"), json.dumps(f"{names} state")
    async with await anyio.connect_tcp("127.0.0.1", stage.sync_port) as stream:
        client = Raw(stream)
        assert "101" in (await client.shake(*headers, *HANDSHAKE, path=path))[0]
        for text, reply in (
            (f'{{"id":"0","is_cancel":false,"subscribe":{{"topic":{json.dumps(names)}}}}}', None),
            (f'{{"id":"1","is_cancel":false,"publish":{{"topic":{topic},"payload":[1, 2]}}}}\n', "publish"),
            (f'{{"signal_entry":{{"state":{state}}},"id":"2"}}', "signal"),
            (f'{{"id":"3","is_cancel":false,"barrier":{{"state":{state},"target":1}}}}', "barrier"),
            (f'{{"id":"4","is_cancel":false,"subscribe":{{"topic":{topic}}}}}', "delivery"),
        ):
            await client.send(opcode, text.encode())
            if reply is not None:
                assert await client.text() == REPLIES[reply]


async def test_full_replay_in_one_order_and_nothing_larger_than_go_can_read(stage: Stage, deadline: None) -> None:
    """`full replay + total order per topic; ≥32 KiB publish policy decided (never send >32768-byte frames to go
    clients; answer an error instead)`
    """
    topic, count = {"topic": "checklist order"}, 200
    async with connected(stage.sync_port) as one, connected(stage.sync_port) as two:
        async with anyio.create_task_group() as tasks:
            for client, start in ((one, 0), (two, count)):
                tasks.start_soon(_publish, client, topic, range(start, start + count))
        orders = []
        for client in (one, two):
            await client.send(TEXT, json.dumps({"id": "s", "subscribe": topic}).encode())
            orders.append([json.loads((await client.reply())["subscribe"]) for _ in range(2 * count)])
        assert orders[0] == orders[1]
        assert sorted(orders[0]) == list(range(2 * count))
        assert orders[0].index(0) < orders[0].index(count - 1)

        refused = await one.ask("p", publish={**topic, "payload": "x" * 32600})
        assert (refused["publish"], "message too large" in refused["error"]) == (None, True)
        await one.ask("p", publish={**topic, "payload": "next"})
        assert json.loads((await two.reply())["subscribe"]) == "next"


async def _publish(client: Raw, topic: dict[str, str], numbers: range) -> None:
    for number in numbers:
        assert (await client.ask("p", publish={**topic, "payload": number}))["publish"]


async def test_close_frames_are_echoed_and_idle_connections_stay(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """`close frames echoed with the client's code; connections never dropped mid-run, no idle timeout`

    Hours pass by the clock of an event loop in this process: whatever had a time limit would be over.
    """
    for payload in (b"", (1000).to_bytes(2, "big"), (1001).to_bytes(2, "big") + b"bye", (4000).to_bytes(2, "big")):
        async with connected(stage.sync_port) as client:
            await client.stream.send(frame(CLOSE, payload))
            assert await client.receive() == (0x80 | CLOSE, payload)
            assert await client.ended()
    async with open_server(Service(), "127.0.0.1", 0) as server, connected(server.port) as idle:
        await idle.ask("0", signal_entry={"state": "s"})
        await _hours_later(monkeypatch, server.port)
        assert (await idle.ask("0", signal_entry={"state": "s"}))["signal_entry"] == {"seq": 2}


async def test_barriers_that_are_met_pass_at_once_and_counters_are_kept(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`barrier ≤ current / 0 / negative immediate; counters survive the whole run`"""
    state = "checklist barrier"
    async with connected(stage.sync_port) as client:
        for target in (0, -1, -5):
            assert not (await client.ask("b", barrier={"state": "untouched", "target": target}))["error"]
        for _ in range(3):
            await client.ask("s", signal_entry={"state": state})
        for target in (1, 2, 3):
            assert not (await client.ask("b", barrier={"state": state, "target": target}))["error"]
        await client.send(TEXT, json.dumps({"id": "later", "barrier": {"state": state, "target": 4}}).encode())
        assert (await client.ask("s", signal_entry={"state": state}))["id"] == "s"
        assert (await client.reply())["id"] == "later"
    async with open_server(Service(), "127.0.0.1", 0) as server:
        async with connected(server.port) as first:
            await first.ask("s", signal_entry={"state": state})
            await first.ask("p", publish={"topic": "t", "payload": 1})
        await _hours_later(monkeypatch, server.port)
        async with connected(server.port) as second:
            assert not (await second.ask("b", barrier={"state": state, "target": 1}))["error"]
            await second.send(TEXT, b'{"id":"t","subscribe":{"topic":"t"}}')
            assert (await second.reply())["subscribe"] == "1"


async def _hours_later(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    """Let everything happen that the event loop has been asked to do within the hours to come."""
    loop = asyncio.get_running_loop()
    now, past = loop.time, asyncio.Event()
    loop.call_later(HOURS - 1, past.set)
    monkeypatch.setattr(loop, "time", lambda: now() + HOURS)
    await past.wait()
    async with connect(f"ws://127.0.0.1:{port}") as other:
        await other.send('{"id":"0","signal_entry":{"state":"other"}}')
        assert await other.recv()


def test_verdicts_are_per_connection_from_both_channels_and_the_exit_code(stage: Stage) -> None:
    """`per-connection verdicts; both event sources (topic, stdout) merged; exit code used as a tie-breaker`"""
    heard = stage.hear(
        {
            "topic-alone": [("publish", SUCCESS)],
            "stdout-alone": [("print", f'{{"event":{SUCCESS}}}')],
            "both": [("publish", SUCCESS), ("print", f'{{"event":{SUCCESS}}}')],
            "disagreement": [("publish", '{"failure_event":{"error":"oops"}}'), ("print", f'{{"event":{SUCCESS}}}')],
            "for-another": [("publish", SUCCESS.replace('"g"', '"silent"'))],
            "silent": [],
            "exits": [("publish", SUCCESS), ("exit", 4)],
        },
        instances=2,
    )
    assert heard.outcomes == {
        "topic-alone": (2, 2),
        "stdout-alone": (2, 2),
        "both": (2, 2),
        "disagreement": (0, 2),
        "for-another": (2, 2),
        "silent": (0, 2),
        "exits": (0, 2),
    }
    assert heard.reason("disagreement", 1) == "failed: oops"
    assert heard.reason("silent") == "exited without reporting an outcome (exit code 0)"
    assert heard.reason("exits") == "reported success, then exited with code 4"


def test_the_environment_is_that_of_the_contract(stage: Stage) -> None:
    """`env exactly as §1 plus documented extras; …`, whose other half is the next test"""
    voice = [("file", "env.json"), ("print", f'{{"event":{SUCCESS}}}')]
    heard = stage.hear({"one": voice, "two": voice}, instances=2)
    run_id = heard.task["id"]
    outputs = stage.home / "data" / "outputs" / "local_exec" / "voices" / run_id
    for group in ("one", "two"):
        for index in range(2):
            env = json.loads((outputs / group / str(index) / "env.json").read_text())
            varying = {name: env.pop(name) for name in VARYING | OTHERS | EXTRAS}
            env.pop("LC_CTYPE", None)  # set by the interpreter itself
            assert env == {
                "TEST_BRANCH": "",
                "TEST_CAPTURE_PROFILES": "",
                "TEST_CASE": "speak",
                "TEST_DISABLE_METRICS": "false",
                "TEST_GROUP_ID": group,
                "TEST_GROUP_INSTANCE_COUNT": "2",
                "TEST_INSTANCE_COUNT": "4",
                "TEST_INSTANCE_PARAMS": f"voice={json.dumps(voice)}",
                "TEST_INSTANCE_ROLE": "",
                "TEST_OUTPUTS_PATH": str(outputs / group / str(index)),
                "TEST_PLAN": "voices",
                "TEST_REPO": "",
                "TEST_RUN": run_id,
                "TEST_SIDECAR": "false",
                "TEST_SUBNET": "127.1.0.0/16",
                "TEST_TAG": "",
            }
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(Z|[+-]\d\d:\d\d)", varying["TEST_START_TIME"])
            assert varying["TMPDIR"] == varying["TEST_TEMP_PATH"]
            assert not Path(varying["TEST_TEMP_PATH"]).exists()


async def test_the_sync_service_has_the_name_that_sdk_rust_takes_for_granted(stage: Stage) -> None:
    """`…; testground-sync-service:5050 reachable by name`, with `sidecar = true`, which sdk-rust needs anyway"""
    if obstacle := await namespaces.obstacle("/etc/hosts"):
        pytest.skip(obstacle)
    voice = [("publish-at", ["testground-sync-service", 5050, SUCCESS])]
    heard = await anyio.to_thread.run_sync(lambda: stage.hear({"named": voice}, instances=2, sidecar=True))
    assert heard.outcomes == {"named": (2, 2)}


def test_lines_of_all_sdks_are_tolerated(stage: Stage) -> None:
    """`unknown event members, long lines, missing ts, groups, js key order tolerated`"""
    js = '{"event":{"success_event":{"group":"g"}},"group_id":"g","level":"info","message":"","run_id":"R","ts":1}'
    heard = stage.hear(
        {
            "unknown": [
                ("print", '{"ts":1,"event":{"dance_event":{"x":1}}}'),
                ("print", f'{{"ts":2,"event":{SUCCESS}}}'),
            ],
            "long": [("long", ['{"event":{"success_event":{"group":"g","more":"', '"}}}'])],
            "long-then-short": [("long", ["", ""]), ("print", f'{{"ts":2,"event":{SUCCESS}}}')],
            "no-time": [("print", f'{{"event":{SUCCESS}}}')],
            "groups": [("print", '{"event":{"crash_event":{"groups":"g","error":"e","stacktrace":"s"}}}')],
            "js": [("print", js)],
        }
    )
    assert heard.outcomes == {
        **dict.fromkeys(("unknown", "long", "long-then-short", "no-time", "js"), (1, 1)),
        "groups": (0, 1),
    }
    assert heard.reason("groups") == "crashed: e"
    assert "INTERNAL_ERR << unknown[000] >> unknown event" in heard.log


def test_outputs_lie_and_are_packed_as_upstream_does(stage: Stage) -> None:
    """`outputs layout and tgz prefix as in 2.6`"""
    heard = stage.hear({"single": [("print", f'{{"event":{SUCCESS}}}'), ("file", "mine.json")]}, instances=2)
    run_id = heard.task["id"]
    instance = stage.home / "data" / "outputs" / "local_exec" / "voices" / run_id / "single" / "1"
    assert sorted(path.name for path in instance.iterdir()) == ["mine.json", "run.err", "run.out"]
    with _collected(stage, heard) as archive:
        directories = [f"{run_id}/.", f"{run_id}/single", f"{run_id}/single/0", f"{run_id}/single/1"]
        files = [f"{run_id}/single/{i}/{name}" for i in range(2) for name in ("mine.json", "run.err", "run.out")]
        assert sorted(archive.getnames()) == sorted(directories + files)
        out, err = (archive.extractfile(f"{run_id}/single/1/{name}") for name in ("run.out", "run.err"))
        assert out is not None and err is not None
        assert (out.read(), err.read()) == (f'{{"event":{SUCCESS}}}\n'.encode(), b"")


def _collected(stage: Stage, heard: Heard) -> tarfile.TarFile:
    *pieces, done = stage.ask("/outputs", {"runner": "local:exec", "run_id": heard.task["id"]})
    assert (done.payload, {piece.kind for piece in pieces}) == (True, {"b"})
    return tarfile.open(fileobj=io.BytesIO(b"".join(piece.payload for piece in pieces)), mode="r:gz")
