"""Shapes of what an instance receives, in a kernel with netem; and what becomes of values at their limits."""

import statistics
import sys

import pytest

if sys.platform != "linux":
    pytest.skip("user-mode Linux runs on Linux", allow_module_level=True)

from tests.uml import arriving
from tests.uml.test_links import NINETY_NINE

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def measured(machine):
    return machine("arriving.py")


def test_what_arrives_is_late_by_the_latency(measured):
    assert measured["in_ms"] == pytest.approx(arriving.LATENCY, abs=1.6)
    assert measured["others_ms"] == pytest.approx(measured["unshaped_ms"], abs=1)
    assert measured["reset_ms"] == pytest.approx(measured["unshaped_ms"], abs=1)


def test_both_directions_add_up(measured):
    assert measured["both_ms"] == pytest.approx(arriving.LATENCY + arriving.OUT, abs=2)


def test_the_shape_stays_through_changes_of_the_link(measured):
    assert measured["plugged_in_again_ms"] == pytest.approx(arriving.LATENCY, abs=1.6)
    assert measured["moved_ms"] == pytest.approx(arriving.LATENCY, abs=1.6)


def test_as_many_arrivals_are_lost_as_asked(measured):
    """The median of three: that is outside of what it should be once in 3000 times."""
    low, high = binomial(arriving.LOSS, NINETY_NINE)
    assert low <= statistics.median(measured["lost"]) <= high
    assert measured["lost_elsewhere"] == 0


def test_tcp_arrives_at_the_rate(measured):
    assert measured["rate"] == pytest.approx(arriving.RATE, rel=0.05)


def test_one_lost_packet_is_not_forty(measured):
    """TCP gets somewhere through a loss of 1 %, which it would not if it lost segments by the dozen."""
    assert measured["segments"] > 5_000_000


def test_jitter_without_latency_and_more_of_it_than_latency(measured):
    """Nothing arrives before it is sent, so half of the packets, or nearly, are not delayed at all."""
    for name, latency in (("more_jitter_than_latency_ms", 5), ("jitter_alone_ms", 0)):
        times = measured[name]
        assert min(times) < 5
        assert latency + 25 < max(times)
        assert statistics.median(times) < latency + 50, "others may keep the machine busy"


def test_shares_of_percent(measured):
    low, high = binomial(12.5, 3.891)
    assert low * 0.7 <= measured["corrupted"] <= high
    low, high = binomial(0.5, 3.891)
    assert max(low, 0) <= measured["half_a_percent"] <= high
    assert measured["doubled"] == arriving.PACKETS


def test_what_overtakes_everything_is_not_delayed(measured):
    assert measured["all_overtake_ms"] < 5


def test_latencies_of_an_hour_and_of_the_longest_there_is(measured):
    assert measured["hour"] == measured["longest"] == 0
    assert measured["busy_seconds"] < 10 * measured["idle_seconds"], "the kernel does nothing meanwhile"


def test_the_fastest_and_the_slowest_link(measured):
    assert measured["fastest"] == arriving.PACKETS
    assert measured["slowest"] <= 1
    assert measured["after_all_ms"] == pytest.approx(measured["unshaped_ms"], abs=1)


def binomial(percent: float, deviations: float) -> tuple[float, float]:
    expected = arriving.PACKETS * percent / 100
    half = deviations * (expected * (1 - percent / 100)) ** 0.5
    return expected - half, expected + half
