"""The event lines of instance-contract §7.6: as our SDK prints them, and as our runners read them in any cut."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from testground.drivers.process import LineSplitter
from testground.runners import events
from testground.runners.events import Kind
from testground.runners.verdict import Ledger
from testground.sdk import RunEnv
from testground.sync.service import Member

RUN = "c0ffee0000000000000g"
STACK = "goroutine 1 [running]:\n…"
RUNENV = (
    '{"plan":"tplan","case":"pubsub","run":"RUN","params":{"a":"1","b":"x"},"instances":2,"outputs_path":"/outputs",'
    '"temp_path":"/temp","network":"16.0.0.0/16","group":"single","group_instances":2}'
)


def go(ts: int, event: str) -> str:
    return f'{{"ts":{ts},"msg":"","group_id":"single","run_id":"RUN","event":{event}}}'


@dataclass(frozen=True)
class Vector:
    line: str
    kind: Kind
    text: str = ""
    error: str = ""
    ts: int | None = None
    reason: str = "exited without reporting an outcome (exit code 0)"
    """The verdict on an instance that has said this alone."""


VECTORS = {
    "7.6-start": Vector(
        go(1795458264109326762, f'{{"start_event":{{"runenv":{RUNENV}}}}}'),
        Kind.START,
        RUNENV,
        ts=1795458264109326762,
    ),
    "7.6-message": Vector(
        go(1795458264125540324, '{"message_event":{"message":"claimed sequence numbers; global=1, group(single)=1"}}'),
        Kind.MESSAGE,
        "claimed sequence numbers; global=1, group(single)=1",
        ts=1795458264125540324,
    ),
    "7.6-success": Vector(
        go(1795458264232327051, '{"success_event":{"group":"single"}}'), Kind.OK, ts=1795458264232327051, reason=""
    ),
    "7.6-failure": Vector(
        go(1795458284680576823, '{"failure_event":{"group":"single","error":"intentional oops"}}'),
        Kind.FAIL,
        "intentional oops",
        "intentional oops",
        1795458284680576823,
        "failed: intentional oops",
    ),
    "7.6-crash": Vector(
        go(
            1795458287615936461,
            '{"crash_event":{"group":"single","error":"intentional panic","stacktrace":"goroutine 1 [running]:\\n…"}}',
        ),
        Kind.CRASH,
        f"intentional panic\n{STACK}",
        "intentional panic",
        1795458287615936461,
        "crashed: intentional panic",
    ),
    "7.6-log-line": Vector(
        '{"ts":1795459206188734242,"msg":"writing cpu profile","group_id":"single","run_id":"RUN"}',
        Kind.OTHER,
        '{"ts":1795459206188734242,"msg":"writing cpu profile","group_id":"single","run_id":"RUN"}',
    ),
    "7.6-failure-of-js": Vector(
        '{"event":{"failure_event":{"error":"Error: intentional oops","group":"single"}},"group_id":"single",'
        '"level":"info","message":"","run_id":"RUN","ts":1795459065621000000}',
        Kind.FAIL,
        "Error: intentional oops",
        "Error: intentional oops",
        1795459065621000000,
        "failed: Error: intentional oops",
    ),
    "7.6-message-of-rust": Vector(
        '{"event":{"message_event":{"message":"text from rust"}}}', Kind.MESSAGE, "text from rust"
    ),
    "7.6-success-of-rust": Vector(
        '{"ts":1795459065621000000,"event":{"success_event":{"group":"single"}}}',
        Kind.OK,
        ts=1795459065621000000,
        reason="",
    ),
    "7.6-old-sdk-go": Vector('{"ts":1,"msg":"","event":{"type":"finish","outcome":"ok"}}', Kind.OK, ts=1, reason=""),
}

PRINTED: dict[str, Callable[[RunEnv], None]] = {
    "7.6-start": lambda env: env.record_start(),
    "7.6-message": lambda env: env.record_message("claimed sequence numbers; global=1, group(single)=1"),
    "7.6-success": lambda env: env.record_success(),
    "7.6-failure": lambda env: env.record_failure("intentional oops"),
    "7.6-crash": lambda env: env.record_crash("intentional panic", STACK),
    "7.6-log-line": lambda env: env.logger.info("writing cpu profile"),
}


@pytest.mark.parametrize("name", PRINTED)
def test_our_sdk_prints_the_lines_of_sdk_go(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    line = VECTORS[name].line
    monkeypatch.setattr("testground.sdk.journal.time.time_ns", lambda: json.loads(line)["ts"])
    env = RunEnv(
        plan="tplan",
        case="pubsub",
        run=RUN,
        group="single",
        instance_count=2,
        group_instance_count=2,
        params={"a": "1", "b": "x"},
        outputs_path=Path("/outputs"),
        temp_path=Path("/temp"),
        subnet="16.0.0.0/16",
    )
    PRINTED[name](env)
    assert capsys.readouterr().out == line.replace("RUN", RUN) + "\n"


@pytest.mark.parametrize("name", VECTORS)
def test_what_our_runners_read_in_every_cut(name: str) -> None:
    vector = VECTORS[name]
    data = f"before\n{vector.line}\nafter\n".encode()
    pieces = [[data[:cut], data[cut:]] for cut in range(len(data))] + [[data[at : at + 1] for at in range(len(data))]]
    for cut in pieces:
        lines: list[bytes] = []
        splitter = LineSplitter(lines.append)
        for piece in cut:
            splitter.feed(piece)
        splitter.close()
        assert lines == [b"before", vector.line.encode(), b"after"]
    event = events.parse_line(vector.line.encode())
    assert (event.kind, event.text, event.error, event.timestamp_ns) == (
        vector.kind,
        vector.text,
        vector.error,
        vector.ts,
    )


@pytest.mark.parametrize("name", VECTORS)
def test_the_verdict_that_follows(name: str) -> None:
    ledger = Ledger(Member(RUN, "single", 0))
    ledger.note(events.parse_line(VECTORS[name].line.encode()))
    ledger.ended(0, 1.0)
    assert (ledger.reason or "") == VECTORS[name].reason
