"""What links that the sidecar shaped really do, in a kernel that can shape them.

"Binomial" below: as many as come by chance in 99 of 100 cases; of single samples, in all but one of 10 000.
"""

import statistics
import sys

import pytest

if sys.platform != "linux":
    pytest.skip("user-mode Linux runs on Linux", allow_module_level=True)

from tests.uml import links

pytestmark = pytest.mark.timeout(300)

NINETY_NINE, ALMOST_ALL = 2.576, 3.891
"""Standard deviations."""


@pytest.fixture(scope="module")
def measured(machine):
    return machine("links.py")


@pytest.mark.parametrize("latency", links.LATENCIES)
def test_a_round_trip_takes_the_latency(measured, latency):
    assert measured[f"latency_{latency}_ms"] == pytest.approx(latency, abs=max(1, latency * 0.02))


def test_latency_goes_away_again(measured):
    assert measured["reset_ms"] == pytest.approx(measured["unshaped_ms"], abs=1)


def test_jitter_spreads_round_trips_around_the_latency(measured):
    times = measured["jitter_ms"]
    assert statistics.mean(times) == pytest.approx(50, abs=6)
    assert 29 <= min(times) < 40
    assert max(times) > 60


@pytest.mark.parametrize("percent", links.LOSSES)
def test_as_many_are_lost_as_asked(measured, percent):
    """The median of three: that is outside of what it should be once in 3000 times."""
    low, high = binomial(percent, NINETY_NINE)
    assert low <= statistics.median(measured[f"loss_{percent}"]) <= high


def test_as_many_are_doubled_as_asked(measured):
    low, high = binomial(20, ALMOST_ALL)
    assert low <= measured["duplicated"] <= high


def test_corrupted_packets_fail_their_checksum(measured):
    """One flipped bit may hit the link's header, or what no checksum covers."""
    low, high = binomial(20, ALMOST_ALL)
    assert low * 0.7 <= measured["corrupted"] <= high


def test_some_packets_overtake_others(measured):
    assert measured["reordered"] > 0


def test_a_delayed_queue_loses_nothing(measured):
    """The original's holds 1000 packets."""
    assert measured["under_way"] == links.PACKETS


def test_a_change_loses_nothing_that_is_under_way(measured):
    assert measured["changed_under_way"] == links.PACKETS


@pytest.mark.parametrize("rate", links.RATES)
def test_tcp_gets_the_rate(measured, rate):
    assert measured[f"rate_{rate}"] == pytest.approx(rate, rel=0.05)


def test_packets_get_the_rate_in_spite_of_latency(measured):
    assert measured["rate_with_latency"] == pytest.approx(2_000_000, rel=0.05)


def test_a_rule_shapes_the_way_to_one_peer_only(measured):
    times = measured["towards"]
    assert times["there"] == pytest.approx(80, abs=1.6)
    assert times["elsewhere"] == pytest.approx(5, abs=1)
    assert times["taken_back"] == pytest.approx(5, abs=1)


def test_duplicates_beside_another_queue_are_made_or_refused_in_words(measured):
    assert measured["both"] in ("accepted", links.REFUSED)


def test_a_healthcheck_measures_latency_loss_and_rate(measured):
    """How long a trip takes, what is lost and how fast it is: within what this machine may add to it."""
    calibrated = measured["calibrated"]
    assert calibrated["lacking"] == []
    readings = {reading["what"]: reading for reading in calibrated["readings"]}
    assert readings["latency"]["asked"] == 20
    assert readings["latency"]["got"] == pytest.approx(20, abs=1)
    assert readings["loss"]["packets"] == 1000
    assert readings["loss"]["got"] == pytest.approx(10, abs=ALMOST_ALL * 0.95)  # 0.95 % of 1000 is a deviation
    assert readings["rate"]["got"] == pytest.approx(10_000_000, rel=0.5)  # this kernel's processor is emulated


def binomial(percent: float, deviations: float) -> tuple[float, float]:
    expected = links.PACKETS * percent / 100
    half = deviations * (expected * (1 - percent / 100)) ** 0.5
    return expected - half, expected + half
