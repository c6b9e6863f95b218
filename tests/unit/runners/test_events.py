"""Event lines of all SDKs (contract §7.6), in our own form."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testground.runners import events
from testground.runners.events import Event, Kind

GO = '{"ts":1795458264109326762,"msg":"","group_id":"single","run_id":"R","event":%s}'
JS = '{"event":%s,"group_id":"single","level":"info","message":"","run_id":"R","ts":1795459065621000000}'
RUST_MESSAGE = '{"event":%s}'
STACK = "goroutine 1 [running]:\nx"
RUST = '{"ts":1795459065621000000,"event":%s}'


@pytest.mark.parametrize("envelope", [GO, JS, RUST_MESSAGE, RUST])
@pytest.mark.parametrize(
    ("event", "kind", "text", "error"),
    [
        ('{"success_event":{"group":"single"}}', Kind.OK, "", ""),
        ('{"failure_event":{"group":"single","error":"oops"}}', Kind.FAIL, "oops", "oops"),
        ('{"failure_event":{"error":"Error: oops","group":"single"}}', Kind.FAIL, "Error: oops", "Error: oops"),
        ('{"crash_event":{"group":"s","error":"e","stacktrace":"st"}}', Kind.CRASH, "e\nst", "e"),
        ('{"crash_event":{"groups":"s","error":"e","stacktrace":""}}', Kind.CRASH, "e", "e"),
        ('{"crash_event":{"error":"goroutine 1 [running]:\\nx","stacktrace":"st"}}', Kind.CRASH, STACK, ""),
        ('{"message_event":{"message":"text"}}', Kind.MESSAGE, "text", ""),
        ('{"start_event":{"runenv":{"plan":"p"}}}', Kind.START, '{"plan":"p"}', ""),
        ('{"stage_start_event":{"name":"network-initialized","group":"s"}}', Kind.STAGE, "network-initialized", ""),
        ('{"type":"finish","outcome":"ok"}', Kind.OK, "", ""),
        ('{"type":"finish","outcome":"failed","error":"why"}', Kind.FAIL, "why", "why"),
    ],
)
def test_every_sdk_every_event(envelope, event, kind, text, error):
    parsed = events.parse_line((envelope % event).encode())
    assert (parsed.kind, parsed.text, parsed.error) == (kind, text, error)
    assert (parsed.timestamp_ns is None) == (envelope == RUST_MESSAGE)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ('{"success_event":5}', Kind.INTERNAL_ERR),
        ('{"success_event":null}', Kind.INTERNAL_ERR),
        ('{"success_event":false}', Kind.INTERNAL_ERR),
        ('{"failure_event":5}', Kind.FAIL),
        ('{"success_event":{},"failure_event":{"error":"no"}}', Kind.FAIL),
        ('{"success_event":{},"crash_event":{"error":"no"}}', Kind.CRASH),
    ],
)
def test_nothing_unclear_is_a_success(event, kind):
    assert events.parse_line(f'{{"event":{event}}}'.encode()).kind is kind


def test_unknown_members_do_not_end_the_reading():
    assert events.parse_line(b'{"event":{"dance_event":{}}}').kind is Kind.INTERNAL_ERR


@pytest.mark.parametrize(
    "line",
    [
        b"plain text",
        b"",
        b"{not json",
        b"[1,2]",
        b'{"msg":"a log line"}',
        b'{"event":"a string"}',
        b'{"event":null}',
        b"\xff\xfe not utf-8",
        b"{" * 100_000,
    ],
)
def test_everything_else_is_shown_as_it_is(line):
    parsed = events.parse_line(line)
    assert parsed.kind is Kind.OTHER and parsed.text == line.decode("utf-8", "replace")


@given(st.binary())
def test_no_line_breaks_the_parser(line):
    assert isinstance(events.parse_line(line), Event)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda c: st.dictionaries(st.text(), c)))
def test_no_event_object_breaks_the_parser(body):
    for member in ("success_event", "failure_event", "crash_event", "message_event", "start_event", "type", "x"):
        events.parse_event({member: body}, ts=body)
        events.parse_line(json.dumps({"event": {member: body}, "ts": body}).encode())


@pytest.mark.parametrize(
    ("line", "kind", "text"),
    [
        (rb'{"event":{"failure_event":{"error":"half \ud83d"}}}', Kind.FAIL, "half ?"),
        (rb'{"event":{"crash_event":{"error":"\udfff","stacktrace":"\ud800"}}}', Kind.CRASH, "?\n?"),
        (rb'{"event":{"start_event":{"runenv":{"\ud800":1}}}}', Kind.START, '{"?":1}'),
        (b'{"event":{"failure_event":{"error":"\xff"}}}', Kind.FAIL, "\ufffd"),
        (b'{"event":{"failure_event":{"error":{"code":3}}}}', Kind.FAIL, '{"code":3}'),
        (b'{"ts":' + b"9" * 400 + b',"event":{"success_event":{}}}', Kind.OK, ""),
        (b'{"event":{"start_event":{"runenv":' + b"[" * 800 + b"]" * 800 + b"}}}", Kind.START, None),
    ],
    ids=["half-pair", "half-pairs", "key", "not-utf-8", "object", "long-ago", "deep"],
)
def test_an_event_that_is_hard_to_show_is_an_event_all_the_same(line, kind, text):
    """Whatever it holds can be shown and stored: an exception here would lose the verdict of the instance."""
    parsed = events.parse_line(line)
    assert parsed.kind is kind and text in (None, parsed.text)
    assert b"<< g[000] >>" in events.display(parsed, "g[000]", (parsed.timestamp_ns or 0) / 1e9)
    parsed.error.encode()


def test_display_form():
    assert events.display(Event(Kind.OK, ""), "single[000]", 1.23456) == b"1.2346s         OK << single[000] >> \n"
    line = events.display(Event(Kind.INCOMPLETE, "exited with code 3"), "a[012]", 0.0)
    assert line == b"0.0000s INCOMPLETE << a[012] >> exited with code 3\n"
