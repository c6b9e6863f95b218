"""What instances may say about themselves, on standard output and on the run-events topic, and what comes of it.

All voices speak in one run of a real daemon, a group each. Contract §2.2, §2.5, §3.8, §7.6; what upstream makes of some
of them is in §8.1 (36, 37, 40): a wrong count, a crash of the daemon, a reader that stops.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.acceptance.voices import Heard, Stage, Voice

SUCCESS, FAILURE = '{"success_event":{"group":"g"}}', '{"failure_event":{"group":"g","error":"oops"}}'
CRASH = '{"crash_event":{"group":"g","error":"panic","stacktrace":"goroutine 1 [running]:"}}'
UNREPORTED = "exited without reporting an outcome (exit code 0)"


def line(event: str) -> str:
    """As sdk-go writes it."""
    return f'{{"ts":1795458264232327051,"msg":"","group_id":"g","run_id":"R","event":{event}}}'


def printed(*events: str) -> Voice:
    return [("print", line(event)) for event in events]


def published(*events: str) -> Voice:
    return [("publish", event) for event in events]


VOICES: dict[str, tuple[Voice, str]] = {
    "printed-success": (printed(SUCCESS), ""),
    "published-success": (published(SUCCESS), ""),
    "success-on-both-channels": ([*printed(SUCCESS), *published(SUCCESS)], ""),
    "silence": ([], UNREPORTED),
    # terminal events twice
    "success-twice": ([*printed(SUCCESS, SUCCESS), *published(SUCCESS, SUCCESS)], ""),
    "success-after-failure": (printed(FAILURE, SUCCESS), "failed: oops"),
    "failure-after-success": (printed(SUCCESS, FAILURE), "failed: oops"),
    "printed-success-published-failure": ([*printed(SUCCESS), *published(FAILURE)], "failed: oops"),
    "published-success-printed-failure": ([*published(SUCCESS), *printed(FAILURE)], "failed: oops"),
    "crash-twice-as-sdk-go-does": (printed(CRASH, CRASH), "crashed: panic"),
    "crash-after-success": ([*printed(SUCCESS), *published(CRASH, CRASH)], "crashed: panic"),
    "first-complaint-stands": (printed(FAILURE, CRASH), "failed: oops"),
    "both-in-one-event": (
        published('{"success_event":{},"failure_event":{"error":"no"}}'),
        "failed: no",
    ),
    # events before init: nothing else has been said or signalled
    "failure-before-init": (published(FAILURE), "failed: oops"),
    "stages-out-of-order": (
        [*published('{"stage_end_event":{"name":"s"}}', '{"stage_start_event":{"name":"s"}}'), *printed(SUCCESS)],
        "",
    ),
    "start-after-the-end": ([*printed(SUCCESS), *printed('{"start_event":{"runenv":{}}}')], ""),
    # of an unknown group, or of another one
    "success-of-an-unknown-group": (published('{"success_event":{"group":"nobody"}}'), ""),
    "failure-of-another-group": (published('{"failure_event":{"group":"printed-success","error":"it"}}'), "failed: it"),
    "success-for-the-silent": ([*published('{"success_event":{"group":"silence"}}')], ""),
    "no-group-at-all": (published('{"success_event":{}}'), ""),
    "crash-of-sdk-rust": (printed('{"crash_event":{"groups":"g","error":"e","stacktrace":""}}'), "crashed: e"),
    # unknown members and odd bodies
    "unknown-event-then-success": ([*printed('{"dance_event":{}}', SUCCESS), *published('{"dance_event":{}}')], ""),
    "unknown-member-beside-success": (published('{"success_event":{"group":"g","mood":[1]},"dance_event":7}'), ""),
    "unknown-events-alone": ([*printed('{"dance_event":{}}'), *published('{"x":{}}', "{}")], UNREPORTED),
    "no-objects": (published("null", "[]", "0", '""', '"success_event"', "true"), UNREPORTED),
    "success-that-is-no-object": ([*published('{"success_event":true}'), *printed('{"success_event":1}')], UNREPORTED),
    "failure-that-is-no-object": (published('{"failure_event":true}'), "failed"),
    "a-number-beyond-all-bounds": (published('{"failure_event":{"error":"e","code":1e999}}'), "failed: e"),
    "half-a-surrogate-pair": (published('{"failure_event":{"error":"half \\ud83d"}}'), "failed: half \ufffd"),
    # lines
    "a-line-longer-than-64-KiB": (
        [("long", ["", ""]), ("long", ['{"event":{"success_event":{"group":"g","x":"', '"}}}'])],
        "",
    ),
    "without-a-time": ([("print", '{"event":{"success_event":{"group":"g"}}}')], ""),
    "key-order-of-sdk-js": (
        [
            (
                "print",
                '{"event":{"failure_event":{"error":"Error: oops","group":"g"}},"group_id":"g","level":"info",'
                '"message":"","run_id":"R","ts":1795459065621000000}',
            )
        ],
        "failed: Error: oops",
    ),
    "old-sdk-go": ([("print", '{"ts":1,"msg":"","event":{"type":"finish","outcome":"ok"}}')], ""),
    "an-event-that-is-no-object": ([("print", '{"event":"success_event"}')], UNREPORTED),
    "half-a-line": ([("print", '{"event":{"success_event":{"group"')], UNREPORTED),
    # exit codes
    "success-then-exit-code": ([*printed(SUCCESS), ("exit", 3)], "reported success, then exited with code 3"),
    "failure-then-exit-code": ([*printed(FAILURE), ("exit", 1)], "failed: oops"),
    "exit-code-alone": ([("exit", 7)], "exited with code 7 before reporting an outcome"),
}


@pytest.fixture(scope="module")
def heard(home: Path, daemon: None, tmp_path_factory: pytest.TempPathFactory) -> Heard:
    """Values of parameters cannot hold these two characters."""
    assert not {"|", "="} & set(json.dumps([voice for voice, _ in VOICES.values()]))
    return Stage(home, tmp_path_factory.mktemp("voices")).hear({name: voice for name, (voice, _) in VOICES.items()})


@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", VOICES)
def test_verdict(heard: Heard, name: str) -> None:
    _, reason = VOICES[name]
    assert heard.reason(name) == reason
    assert heard.outcomes[name] == (not reason, 1)


def test_the_run_has_one_verdict_for_each_instance(heard: Heard) -> None:
    assert heard.task["states"][-1]["state"] == "complete"
    assert heard.task["result"]["outcome"] == "failure"
    failed = [failure["instance"] for failure in heard.task["result"]["failures"]]
    assert sorted(failed) == sorted(f"{name}[000]" for name, (_, reason) in VOICES.items() if reason)
