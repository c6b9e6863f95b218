"""Hints: given where they help, and nowhere else."""

import pytest

from testground.api.task import InstanceFailure, Outcome, RunResult
from testground.runners.advice import advise
from testground.sync.service import Member

OLD_GO = ["registering default http handler at: http://[::]:6060/ (pprof: http://[::]:6060/debug/pprof/)"]
RUST = ["Error: failed to lookup address information: Name or service not known"]
GO = ["dial tcp: lookup testground-sync-service: no such host"]
MEMBER, OTHER = (Member("c0ffee0000000000000g", "single", index) for index in (0, 1))


def failed(lines: list[str]) -> RunResult:
    failures = [InstanceFailure(instance=f"single[{n:03}]", reason="died", seconds=1, last_lines=lines) for n in (0, 1)]
    return RunResult(outcome=Outcome.FAILURE, outcomes={}, failures=failures)


@pytest.mark.parametrize(
    ("lines", "option"),
    [
        pytest.param(OLD_GO, "redis", id="an SDK that waits for Redis"),
        pytest.param(RUST, "sidecar", id="sdk-rust"),
        pytest.param(GO, "sidecar", id="a name that does not resolve"),
    ],
)
def test_the_option_that_helps_is_named_once(lines: list[str], option: str) -> None:
    [hint] = advise(failed(lines), frozenset(), sidecar=False, redis=False)
    assert hint.startswith("hint: ")
    assert hint.endswith(f'set {option} = true in [runners."local:exec"], or use --run-cfg {option}=true')


def test_who_had_a_connection_does_not_look_for_redis() -> None:
    assert advise(failed(OLD_GO), {MEMBER, OTHER}, sidecar=False, redis=False) == []


@pytest.mark.parametrize(
    ("lines", "sidecar", "redis"),
    [
        pytest.param(OLD_GO, False, True, id="redis is set"),
        pytest.param(RUST, True, False, id="sidecar is set"),
        pytest.param(["no words of an SDK"], False, False, id="another program"),
    ],
)
def test_others_are_not_bothered(lines: list[str], sidecar: bool, redis: bool) -> None:
    assert advise(failed(lines), frozenset(), sidecar=sidecar, redis=redis) == []
