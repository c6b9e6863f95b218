import pytest

from testground.api.task import Outcome
from testground.plugins import Stop
from testground.runners import verdict
from testground.runners.events import Event, Kind
from testground.runners.verdict import Ledger
from testground.sync.service import Member, Wait

OK, FAIL, CRASH = Event(Kind.OK), Event(Kind.FAIL, "oops", "oops"), Event(Kind.CRASH, "e\nstack", "e")
GO_STACK = Event(Kind.CRASH, "goroutine 7 [running]:\nmain.f()")


def _ledger(*noted, code=0, after=1.0, index=0, group="g"):
    ledger = Ledger(Member("run", group, index))
    for event in noted:
        ledger.note(event)
    ledger.ended(code, after)
    return ledger


@pytest.mark.parametrize(
    ("noted", "code", "reason"),
    [
        ([OK], 0, None),
        ([OK, OK], 0, None),
        ([FAIL], 0, "failed: oops"),
        ([FAIL, OK], 0, "failed: oops"),
        ([OK, FAIL], 0, "failed: oops"),
        ([CRASH, CRASH], 0, "crashed: e"),
        ([GO_STACK], 0, "crashed"),
        ([GO_STACK, CRASH], 0, "crashed: e"),
        ([GO_STACK, FAIL], 0, "crashed"),
        ([], 0, "exited without reporting an outcome (exit code 0)"),
        ([], 3, "exited with code 3 before reporting an outcome"),
        ([], -9, "was killed by SIGKILL before reporting an outcome"),
        ([OK], 3, "reported success, then exited with code 3"),
        ([OK], -11, "reported success, then was killed by SIGSEGV"),
        ([FAIL], 1, "failed: oops"),
    ],
)
def test_an_instance_succeeds_only_if_all_says_so(noted, code, reason):
    assert _ledger(*noted, code=code).reason == reason


def test_an_instance_whose_end_was_never_seen_did_not_succeed():
    ledger = Ledger(Member("run", "g", 0))
    ledger.note(OK)
    assert ledger.reason == "its end was never seen"


def test_what_an_instance_says_about_being_ended_is_not_the_reason():
    ledger = Ledger(Member("run", "g", 0))
    ledger.stopped("was still running when the run was ended: timeout")
    ledger.note(FAIL)
    ledger.ended(-15, 3)
    assert ledger.reason == "was still running when the run was ended: timeout"


def test_result_counts_by_group_and_orders_failures_by_time():
    ledgers = [
        _ledger(OK, index=0),
        _ledger(FAIL, index=1, after=5),
        _ledger(code=3, index=0, group="h", after=2),
    ]
    result = verdict.judge(ledgers, Stop())
    assert result.outcome is Outcome.FAILURE
    assert str(result) == "outcome = failure (g:1/2 h:0/1)"
    assert [failure.instance for failure in result.failures] == ["h[000]", "g[001]"]
    assert verdict.judge([_ledger(OK)], Stop()).outcome is Outcome.SUCCESS


def test_a_timeout_is_a_failure_and_a_kill_is_canceled():
    timeout, kill = Stop(), Stop()
    timeout.request("timeout", timed_out=True)
    kill.request("killed")
    kill.request("too late", timed_out=True)
    assert verdict.judge([_ledger(code=-9)], timeout).outcome is Outcome.FAILURE
    assert verdict.judge([_ledger(OK)], kill).outcome is Outcome.CANCELED


def test_the_verdict_in_words():
    dead = _ledger(code=3, after=0.5, index=1)
    dead.last_lines.append("about to divide by zero")
    broken = Event(Kind.FAIL, "", 'barrier "ready" cannot be met')
    ledgers = [_ledger(broken, index=0, after=0.6), dead, _ledger(broken, index=2, after=0.7)]
    waits = [Wait(Member("run", "g", index), "barrier", "ready", 3, 2) for index in (0, 2)]
    assert verdict.explain(verdict.judge(ledgers, Stop()), waits) == [
        "first failure: g[001] after 0.5s: exited with code 3 before reporting an outcome",
        "    about to divide by zero",
        'g[000], g[002] waited on barrier "ready" (2 of 3)',
        'then g[000], g[002]: failed: barrier "ready" cannot be met',
    ]
    assert verdict.explain(verdict.judge([_ledger(OK)], Stop()), []) == []
