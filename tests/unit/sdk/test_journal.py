"""Event and log lines, byte for byte (contract §2.1, §2.2, §7.6), and the verdict that events add up to."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from testground.sdk import Failed, RunEnv
from testground.sdk.journal import Journal, encode
from testground.sdk.verdict import SUCCESS, crash, failure

MakeEnv = Callable[..., RunEnv]
TS = 1795458264109326762
HEAD = f'{{"ts":{TS},"msg":"","group_id":"single","run_id":"c0ffee0000000000000g","event":'


@pytest.fixture(autouse=True)
def _fixed_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("testground.sdk.journal.time.time_ns", lambda: TS)


@pytest.mark.parametrize(
    ("record", "event"),
    [
        (
            lambda env: env.record_start(),
            '{"start_event":{"runenv":{"plan":"tplan","case":"pubsub","run":"c0ffee0000000000000g",'
            '"params":{"a":"1","b":"x"},"instances":2,"outputs_path":"/outputs","temp_path":"/temp",'
            '"network":"16.0.0.0/16","group":"single","group_instances":2}}}',
        ),
        (
            lambda env: env.record_message("claimed sequence numbers; global=1, group(single)=1"),
            '{"message_event":{"message":"claimed sequence numbers; global=1, group(single)=1"}}',
        ),
        (lambda env: env.record_success(), '{"success_event":{"group":"single"}}'),
        (
            lambda env: env.record_failure("intentional oops"),
            '{"failure_event":{"group":"single","error":"intentional oops"}}',
        ),
        (
            lambda env: env.record_failure(Failed("intentional oops")),
            '{"failure_event":{"group":"single","error":"intentional oops"}}',
        ),
        (
            lambda env: env.record_failure(ValueError("3 < 4")),
            '{"failure_event":{"group":"single","error":"ValueError: 3 < 4"}}',
        ),
        (
            lambda env: env.record_crash("intentional panic", "goroutine 1 [running]:\n…"),
            '{"crash_event":{"group":"single","error":"intentional panic","stacktrace":"goroutine 1 [running]:\\n…"}}',
        ),
        (
            lambda env: env.record_crash(KeyError("k")),
            '{"crash_event":{"group":"single","error":"KeyError: \'k\'","stacktrace":"KeyError: \'k\'\\n"}}',
        ),
    ],
)
def test_event_lines(
    make_env: MakeEnv, capsys: pytest.CaptureFixture[str], record: Callable[[RunEnv], None], event: str
) -> None:
    record(make_env())
    assert capsys.readouterr().out == f"{HEAD}{event}}}\n"


def test_the_start_event_names_the_sources_when_they_are_known(
    make_env: MakeEnv, capsys: pytest.CaptureFixture[str]
) -> None:
    make_env(TEST_REPO="r", TEST_BRANCH="b", TEST_TAG="t").record_start()
    assert capsys.readouterr().out.endswith('"group_instances":2,"repo":"r","branch":"b","tag":"t"}}}}\n')


def test_the_start_event_on_the_wire_has_another_form(make_env: MakeEnv) -> None:
    heard: list[Any] = []
    env = make_env(TEST_SIDECAR="true", TEST_START_TIME="")
    env._journal.listeners.append(heard.append)
    env.record_start()
    assert heard == [
        {
            "start_event": {
                "runenv": {
                    "plan": "tplan",
                    "case": "pubsub",
                    "run": "c0ffee0000000000000g",
                    "instances": 2,
                    "params": {"a": "1", "b": "x"},
                    "outputs_path": "/outputs",
                    "temp_path": "/temp",
                    "network": "16.0.0.0/16",
                    "group": "single",
                    "group_instances": 2,
                    "test_sidecar": True,
                    "start_time": "0001-01-01T00:00:00Z",
                }
            }
        }
    ]


def test_messages_are_for_stdout_alone(make_env: MakeEnv, capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[Any] = []
    env = make_env()
    env._journal.listeners.append(heard.append)
    env.record_message("hello")
    env.record_success()
    assert heard == [{"success_event": {"group": "single"}}]


@pytest.mark.parametrize(
    ("verdicts", "exit_code", "kinds"),
    [
        ([SUCCESS], 0, ["success_event"]),
        ([SUCCESS, SUCCESS], 0, ["success_event"]),
        ([failure("a"), SUCCESS], 1, ["failure_event"]),
        ([failure("a"), crash("b")], 1, ["failure_event"]),
        ([crash("a"), failure("b"), SUCCESS], 2, ["crash_event"]),
        ([SUCCESS, failure("a"), crash("b")], 1, ["success_event", "failure_event"]),
        ([SUCCESS, crash("a"), SUCCESS], 2, ["success_event", "crash_event"]),
    ],
)
def test_the_first_verdict_stands_unless_it_was_a_success(
    capsys: pytest.CaptureFixture[str], verdicts: list[Any], exit_code: int, kinds: list[str]
) -> None:
    journal = Journal("single", "r")
    for verdict in verdicts:
        journal.end(verdict)
    lines = map(json.loads, capsys.readouterr().out.splitlines())
    assert [kind for line in lines for kind in line["event"]] == kinds
    assert journal.verdict is not None
    assert journal.verdict.exit_code == exit_code


def test_log_lines(make_env: MakeEnv, capsys: pytest.CaptureFixture[str]) -> None:
    env = make_env()
    env.logger.debug("not at this level")
    env.logger.info("writing cpu profile")
    env.logger.warn("odd", peer="p", event={"success_event": {}}, ts=1, path=Path("/x"))
    env.logger.error("bad")
    head = f'{{"ts":{TS},"msg":"%s","group_id":"single","run_id":"c0ffee0000000000000g"'
    assert capsys.readouterr().out.splitlines() == [
        head % "writing cpu profile" + "}",
        head % "odd" + ',"level":"warn","peer":"p","event_":{"success_event":{}},"ts_":1,"path":"/x"}',
        head % "bad" + ',"level":"error"}',
    ]


@pytest.mark.parametrize(("level", "count"), [("debug", 4), ("", 3), ("nonsense", 3), ("WARN", 2), ("error", 1)])
def test_log_level(make_env: MakeEnv, capsys: pytest.CaptureFixture[str], level: str, count: int) -> None:
    logger = make_env(LOG_LEVEL=level).logger
    for write in (logger.debug, logger.info, logger.warning, logger.error):
        write("x")
    assert len(capsys.readouterr().out.splitlines()) == count


def test_logging_can_be_routed(make_env: MakeEnv, capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        make_env().route_logging("INFO")
        logging.getLogger("lib").warning("seen %d", 3)
        logging.getLogger("lib").debug("unseen")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    [line] = map(json.loads, capsys.readouterr().out.splitlines())
    assert (line["msg"], line["level"], line["logger"]) == ("seen 3", "warn", "lib")


def cycle() -> dict[str, Any]:
    value: dict[str, Any] = {"n": 1}
    value["self"] = value
    return value


@pytest.mark.parametrize(
    "value",
    [
        "\ud800 lone surrogate",
        {"event": {"crash_event": {"error": "\udcff"}}},
        {(1, 2): "odd key"},
        10**30,
        float("nan"),
        object(),
        b"\xff",
        cycle(),
        ["\ud800"],
    ],
)
def test_whatever_a_plan_logs_becomes_a_line(value: object) -> None:
    line = json.loads(encode({"ts": 1, "x": value}))
    assert line["ts"] == 1
    assert "x" in line


def test_an_event_with_broken_text_stays_an_event() -> None:
    line = encode({"ts": 1, "event": {"crash_event": {"group": "g", "error": "\udcff", "stacktrace": ""}}})
    assert json.loads(line)["event"]["crash_event"] == {"group": "g", "error": "?", "stacktrace": ""}
