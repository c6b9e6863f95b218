"""Plans as real processes against a real sync service: what they print, write, publish and exit with."""

from __future__ import annotations

import json
import os
import pstats
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from testground.sync.server import SyncServer, open_server
from testground.sync.service import Member, Service

PLAN = Path(__file__).parent / "plans" / "sdk_plan.py"
RUN = "c0ffee0000000000000g"
DEADLINE = 30
TERMINAL = ("success_event", "failure_event", "crash_event")


@dataclass
class Ended:
    """A process that has ended, and what it left."""

    exit_code: int
    stdout: bytes
    stderr: str
    outputs: Path

    @property
    def events(self) -> list[dict[str, Any]]:
        return [line["event"] for line in self.lines if "event" in line]

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stdout.splitlines() if line.startswith(b"{")]

    @property
    def messages(self) -> list[str]:
        return [event["message_event"]["message"] for event in self.events if "message_event" in event]

    @property
    def verdict(self) -> dict[str, Any]:
        """The one terminal event."""
        [verdict] = [event for event in self.events if event.keys() & set(TERMINAL)]
        return verdict

    def file(self, name: str) -> str:
        return (self.outputs / name).read_text()


@dataclass
class Run:
    """A run of `sdk_plan` on a sync service, its events by the instance that published them."""

    directory: Path
    server: SyncServer | None = None
    events: list[tuple[Member | None, dict[str, Any]]] = field(default_factory=list)

    def begin(self, instances: int) -> list[Member]:
        assert self.server is not None
        members = [Member(RUN, "single", index) for index in range(instances)]
        self.server.service.begin_run(RUN, members, lambda member, event: self.events.append((member, event)))
        return members

    def published(self, member: Member | None) -> list[str]:
        return [kind for publisher, event in self.events if publisher == member for kind in event]

    @asynccontextmanager
    async def start(self, case: str, *, port: int = 0, index: int = 0, **variables: str) -> AsyncIterator[Instance]:
        outputs = self.directory / str(index)
        environment = {
            "TEST_PLAN": "tplan",
            "TEST_CASE": case,
            "TEST_RUN": RUN,
            "TEST_GROUP_ID": "single",
            "TEST_INSTANCE_COUNT": "1",
            "TEST_GROUP_INSTANCE_COUNT": "1",
            "TEST_INSTANCE_PARAMS": "number=1",
            "TEST_SUBNET": "127.1.0.0/16",
            "TEST_OUTPUTS_PATH": str(outputs),
            "SYNC_SERVICE_HOST": "127.0.0.1" if port else "",
            "SYNC_SERVICE_PORT": str(port or ""),
            "PATH": os.environ["PATH"],
            **variables,
        }
        command = [sys.executable, "-W", "error", str(PLAN)]
        with anyio.fail_after(DEADLINE, shield=False):
            async with await anyio.open_process(command, env=environment, stdin=subprocess.DEVNULL) as process:
                try:
                    yield Instance(process, outputs)
                finally:
                    with anyio.CancelScope(shield=True):
                        if process.returncode is None:
                            process.kill()

    async def to_end(self, case: str, **options: Any) -> Ended:
        async with self.start(case, **options) as instance:
            return await instance.end()


class Instance:
    def __init__(self, process: Process, outputs: Path) -> None:
        assert process.stdout is not None
        self.process = process
        self._outputs = outputs
        self._stdout = BufferedByteReceiveStream(process.stdout)
        self._seen = b""

    async def says(self, text: str) -> None:
        """Wait until it has printed a line with `text`."""
        line = b""
        while text.encode() not in line:
            line = await self._stdout.receive_until(b"\n", 1 << 20) + b"\n"
            self._seen += line

    async def end(self) -> Ended:
        assert self.process.stderr is not None
        errors: list[bytes] = []

        async def read_stderr() -> None:
            async for chunk in self.process.stderr:  # type: ignore[union-attr]
                errors.append(chunk)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(read_stderr)
            async for chunk in self._stdout:
                self._seen += chunk
        return Ended(await self.process.wait(), self._seen, b"".join(errors).decode(), self._outputs)


@pytest.fixture
async def run(tmp_path: Path) -> AsyncIterator[Run]:
    """With a sync service."""
    async with open_server(Service(), "127.0.0.1", 0) as server:
        yield Run(tmp_path, server)


@pytest.fixture
def lone(tmp_path: Path) -> Run:
    """Without one."""
    return Run(tmp_path)


def port_of(run: Run) -> int:
    assert run.server is not None
    return run.server.port


async def test_success(lone: Run) -> None:
    ended = await lone.to_end("succeed")
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert [next(iter(event)) for event in ended.events] == ["start_event", "message_event", "success_event"]
    printed = [line for line in ended.stdout.splitlines() if not line.startswith(b"{")]
    assert printed == [b"no line end", b"printed"]
    written = [line for line in ended.stdout.splitlines(keepends=True) if line.startswith(b"{")]
    assert (ended.outputs / "run.out").read_bytes() == b"".join(written)
    assert ended.file("run.err") == ""


async def test_metrics_are_complete_even_after_a_short_case(lone: Run) -> None:
    ended = await lone.to_end("succeed")
    results = [json.loads(line) for line in ended.file("results.out").splitlines()]
    assert [(line["type"], line["name"], line["measures"]) for line in results] == [
        ("point", "point", {"value": 1.5}),
        ("counter", "count", {"count": 3}),
    ]
    diagnostics = [json.loads(line)["name"] for line in ended.file("diagnostics.out").splitlines()]
    assert "runtime.rss" in diagnostics


async def test_without_an_outputs_directory_nothing_is_written(lone: Run, tmp_path: Path) -> None:
    ended = await lone.to_end("succeed", TEST_OUTPUTS_PATH="")
    assert ended.exit_code == 0
    assert list(tmp_path.iterdir()) == []


async def test_an_outputs_directory_that_cannot_be_made(lone: Run, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ended = await lone.to_end("succeed", TEST_OUTPUTS_PATH=str(tmp_path / "file" / "outputs"))
    assert ended.exit_code == 1
    assert "cannot write to the outputs directory" in ended.verdict["failure_event"]["error"]


@pytest.mark.parametrize(
    ("case", "error"),
    [
        ("fail", "intentional oops"),
        ("fail_in_group", "intentional oops"),
        ("assert", "assertion failed: assert env.instance_count == 99 (sdk_plan.py:"),
        ("bad_param", "parameter 'numbr' is not set; did you mean 'number'?"),
        ("return_error", "returned, not raised"),
        ("fail_early", "seen early"),
        ("suceed", "unrecognized test case: suceed; did you mean 'succeed'?"),
        ("three_parameters", "the case function three_parameters(env: "),
    ],
)
async def test_failures(lone: Run, case: str, error: str) -> None:
    ended = await lone.to_end(case)
    assert ended.exit_code == 1
    failure = ended.verdict["failure_event"]
    assert failure["group"] == "single"
    assert failure["error"].startswith(error)


@pytest.mark.parametrize(
    ("case", "error"),
    [
        ("crash", "ValueError: intentional ? crash"),
        ("crash_in_thread", "ValueError: intentional crash"),
        ("crash_in_side_thread", "IndexError: list index out of range"),
        ("exit", "the case called sys.exit(0)"),
    ],
)
async def test_crashes(lone: Run, case: str, error: str) -> None:
    ended = await lone.to_end(case)
    assert ended.exit_code == 2
    crash = ended.verdict["crash_event"]
    assert crash["error"] == error
    assert "sdk_plan.py" in crash["stacktrace"]
    assert "instance.py" not in crash["stacktrace"]
    assert "sdk_plan.py" in ended.stderr
    assert ended.file("run.err") == ended.stderr


async def test_a_case_that_cancels_itself_has_not_succeeded(lone: Run) -> None:
    ended = await lone.to_end("cancel_itself")
    assert ended.exit_code == 2
    assert ended.verdict["crash_event"]["error"] == "the case ended by cancelling itself"


async def test_an_early_success_does_not_hide_a_crash(lone: Run) -> None:
    ended = await lone.to_end("succeed_too_early")
    assert ended.exit_code == 2
    assert [kind for event in ended.events for kind in event][1:] == ["success_event", "crash_event"]


async def test_a_forgotten_thread_does_not_keep_the_process(lone: Run) -> None:
    ended = await lone.to_end("leave_thread")
    assert ended.exit_code == 0
    assert "success_event" in ended.verdict
    assert ended.stderr == "testground: left behind 2 s after the end: forgotten\n"


async def test_lines_stay_whole_among_the_prints_of_threads(lone: Run) -> None:
    ended = await lone.to_end("flood")
    assert ended.messages == ["x" * 100_000] * 80
    assert ended.stdout.splitlines().count(b"print") == 80


async def test_logging_goes_where_the_lines_go(lone: Run) -> None:
    ended = await lone.to_end("route_logging")
    assert ended.stderr == ""
    assert [line["msg"] for line in ended.lines if line.get("logger") == "library"] == ["from a library"]


async def test_all_malformed_variables_are_one_failure(lone: Run) -> None:
    ended = await lone.to_end("succeed", TEST_INSTANCE_COUNT="many", TEST_SUBNET="here")
    assert ended.exit_code == 1
    assert ended.lines[0]["run_id"] == RUN
    error = ended.verdict["failure_event"]["error"]
    assert error.startswith("malformed environment: TEST_INSTANCE_COUNT is 'many': ")
    assert "; TEST_SUBNET is 'here': " in error
    assert ended.stderr == f"{error}\n"


async def test_profiles(lone: Run) -> None:
    ended = await lone.to_end("crash_in_thread", TEST_CAPTURE_PROFILES="cpu=|heap=1m")
    stats = pstats.Stats(str(ended.outputs / "cpu.prof"))
    assert any(name == "crash_in_thread" for _, _, name in stats.stats)  # type: ignore[attr-defined]
    assert len(list(ended.outputs.glob("heap.*.prof"))) == 1


async def test_a_plain_case_publishes_too(run: Run) -> None:
    assert run.server is not None
    [member] = run.begin(1)
    ended = await run.to_end("fail", port=await run.server.open_door(member))
    assert ended.exit_code == 1
    assert run.published(member) == ["start_event", "failure_event"]
    [(_, start), (_, failure)] = run.events
    assert start["start_event"]["runenv"]["start_time"] == "0001-01-01T00:00:00Z"
    assert failure == {"failure_event": {"group": "single", "error": "intentional oops"}}


async def test_a_plain_case_needs_no_sync_service(lone: Run, free_port: int) -> None:
    ended = await lone.to_end("succeed_in_thread", port=free_port)
    assert (ended.exit_code, ended.stderr) == (0, "")
    assert ended.messages == ["from a thread"]


async def test_a_plain_case_may_open_a_connection(run: Run) -> None:
    ended = await run.to_end("own_connection", port=port_of(run))
    assert ended.messages == ["signalled 1"]


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.mark.parametrize("case", ["meet", "meet_blocking"])
async def test_initialised_instances_meet(run: Run, case: str) -> None:
    assert run.server is not None
    members = run.begin(3)
    all_ended: list[Ended] = []

    async def play(index: int, port: int) -> None:
        counts = {"TEST_INSTANCE_COUNT": "3", "TEST_GROUP_INSTANCE_COUNT": "3"}
        all_ended.append(await run.to_end(case, port=port, index=index, **counts))

    async with anyio.create_task_group() as tasks:
        for member in members:
            tasks.start_soon(play, member.index, await run.server.open_door(member))
    assert [(ended.exit_code, ended.stderr, ended.verdict) for ended in all_ended] == [
        (0, "", {"success_event": {"group": "single"}})
    ] * 3
    for member in members:
        kinds = run.published(member)
        assert sorted(kinds) == ["stage_end_event", "stage_start_event", "start_event", "success_event"]
        assert kinds[-1] == "success_event"
    claims = [ended.messages[3] for ended in all_ended]
    assert sorted(claims) == [f"claimed sequence numbers; global={n}, group(single)={n}" for n in (1, 2, 3)]
    assert [ended.messages[:3] for ended in all_ended] == [
        [
            "waiting for network to initialize",
            "network initialisation successful",
            "network initialization complete",
        ]
    ] * 3


async def test_undecodable_messages_are_skipped_with_a_warning(run: Run) -> None:
    ended = await run.to_end("meet", port=port_of(run))
    assert ended.exit_code == 0
    [warning] = [line for line in ended.lines if line["msg"] == "skipped a message"]
    assert (warning["level"], warning["topic"]) == ("warn", "peers")


async def test_a_dead_peer_is_a_failure_that_names_it(run: Run) -> None:
    assert run.server is not None
    member, other = run.begin(2)
    door = await run.server.open_door(member)
    await run.server.open_door(other)
    async with run.start("wait_in_vain", port=door, TEST_INSTANCE_COUNT="2") as instance:
        await instance.says('waiting"')
        run.server.service.member_ended(other, "exited with code 3")
        ended = await instance.end()
    assert ended.exit_code == 1
    error = ended.verdict["failure_event"]["error"]
    assert 'barrier "never" cannot be met' in error
    assert "single[001] died (exited with code 3)" in error
    assert run.published(member)[-1] == "failure_event"


@pytest.mark.parametrize("case", ["sleep", "sleep_blocking", "wait_in_vain", "handle_loss", "stubborn"])
async def test_a_lost_sync_service_ends_the_instance(tmp_path: Path, case: str) -> None:
    async with open_server(Service(), "127.0.0.1", 0) as server:
        run = Run(tmp_path, server)
        async with run.start(case, port=server.port) as instance:
            await instance.says('waiting"')
            await server.stop()
            ended = await instance.end()
    assert ended.exit_code == 2
    error = ended.verdict["crash_event"]["error"]
    assert "the connection to the sync service" in error
    assert "the sync service is going away" in error
    if case == "sleep":
        assert ended.messages[-1] == "cleaned up"
    if case == "stubborn":
        assert "the case did not end within 1 s after it was told to" in ended.stderr


async def test_a_missing_sync_service_is_a_crash(lone: Run) -> None:
    async def hang_up(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, hang_up)
        ended = await lone.to_end("meet", port=listener.extra(anyio.abc.SocketAttribute.local_port))
        tasks.cancel_scope.cancel()
    assert ended.exit_code == 2
    assert "is no sync service" in ended.verdict["crash_event"]["error"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("case", ["sleep", "sleep_blocking", "sleep_in_loop", "stubborn"])
async def test_signals(run: Run, case: str, number: signal.Signals) -> None:
    [member] = run.begin(1)
    assert run.server is not None
    async with run.start(case, port=await run.server.open_door(member)) as instance:
        await instance.says('waiting"')
        instance.process.send_signal(number)
        ended = await instance.end()
    assert ended.exit_code == 2
    assert ended.verdict == {
        "crash_event": {"group": "single", "error": f"terminated by {number.name}", "stacktrace": ""}
    }
    if case in ("sleep", "sleep_blocking"):
        assert run.published(member)[-1] == "crash_event"
        assert ended.stderr == ""


async def test_a_signal_after_the_end_changes_nothing(lone: Run) -> None:
    async with lone.start("end_slowly") as instance:
        await instance.says('waiting"')
        instance.process.send_signal(signal.SIGTERM)
        ended = await instance.end()
    assert ended.exit_code == 0
    assert ended.verdict == {"success_event": {"group": "single"}}


async def test_large_events_are_cut_for_the_wire_only(run: Run) -> None:
    [member] = run.begin(1)
    assert run.server is not None
    ended = await run.to_end("large_crash", port=await run.server.open_door(member))
    assert len(ended.verdict["crash_event"]["error"]) > 100_000
    [published] = [event["crash_event"] for _, event in run.events if "crash_event" in event]
    assert published["error"].startswith("ValueError: xxx")
    assert len(published["error"]) < 5000
    assert "sdk_plan.py" in published["stacktrace"]


async def test_a_value_of_another_type_is_not_published(run: Run) -> None:
    ended = await run.to_end("bad_topic", port=port_of(run))
    assert ended.exit_code == 2
    assert "Topic('numbers', int) cannot carry 'one'" in ended.verdict["crash_event"]["error"]


async def test_metrics_reach_an_influxdb_endpoint(lone: Run) -> None:
    bodies: list[bytes] = []

    async def answer(stream: anyio.abc.SocketStream) -> None:
        reader = BufferedByteReceiveStream(stream)
        async with stream:
            try:
                head = await reader.receive_until(b"\r\n\r\n", 1 << 16)
            except (anyio.IncompleteRead, anyio.BrokenResourceError):  # only looked whether somebody listens
                return
            [size] = re.findall(rb"(?i)content-length: (\d+)", head)
            bodies.append(await reader.receive_exactly(int(size)))
            await stream.send(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, answer)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        ended = await lone.to_end("succeed", INFLUXDB_URL=f"http://127.0.0.1:{port}")
        tasks.cancel_scope.cancel()
    assert ended.exit_code == 0
    assert ended.messages == ["hello"]
    lines = b"".join(bodies)
    assert b"results.tplan-succeed.count.counter,group_id=single,run=c0ffee0000000000000g count=3 " in lines
    assert b"events,event_type=success_event,group_id=single,run=c0ffee0000000000000g count=1i\n" in lines
