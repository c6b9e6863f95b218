"""Isolated networks from end to end: what a plan asks of its link, it gets, in a kernel with netem."""

import pytest

from tests.uml import plan

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def measured(machine):
    report = machine("real.py", memory="512M")
    assert report["exit"] == 0, report["said"]
    [found] = report["measured"]
    return found


@pytest.mark.parametrize("latency", plan.LATENCIES)
def test_a_round_trip_takes_the_latency(measured, latency):
    assert measured[f"latency_{latency}_ms"] == pytest.approx(latency, abs=max(1, latency * 0.02))


def test_as_many_are_lost_as_asked(measured):
    """Of three samples the median is within what comes by chance in 99 of 100 cases."""
    expected = plan.PACKETS * plan.LOSS / 100
    assert abs(measured["lost"][1] - expected) <= 2.576 * (expected * (1 - plan.LOSS / 100)) ** 0.5


def test_tcp_gets_the_rate(measured):
    assert measured["rate"] == pytest.approx(plan.RATE, rel=0.05)
