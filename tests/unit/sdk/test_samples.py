"""Samples and what is computed from them."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testground.sdk import ExpDecaySample, UniformSample
from testground.sdk.samples import RESCALE_AFTER, Sample, describe, percentile

SAMPLES = [UniformSample, ExpDecaySample]
NUMBERS = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50)


@pytest.mark.parametrize("kind", SAMPLES)
def test_small_samples_hold_everything(kind: type[UniformSample] | type[ExpDecaySample]) -> None:
    sample: Sample = kind(10)
    for value in range(10):
        sample.update(value)
    assert sorted(sample.values()) == list(range(10))
    sample.clear()
    assert list(sample.values()) == []


@pytest.mark.parametrize("kind", SAMPLES)
def test_samples_are_bounded_and_spread_over_all_values(kind: type[UniformSample] | type[ExpDecaySample]) -> None:
    sample: Sample = kind(100)
    for value in range(10_000):
        sample.update(value)
    assert len(sample.values()) == 100
    assert 3000 < statistics.mean(sample.values()) < 7000


def test_decay_prefers_what_is_recent(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("testground.sdk.samples.time.monotonic", lambda: now)
    sample = ExpDecaySample(100, alpha=0.1)
    for second in range(1000):
        now = float(second)
        sample.update(second)
    assert min(sample.values()) > 500


def test_decay_survives_for_days(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("testground.sdk.samples.time.monotonic", lambda: now)
    sample = ExpDecaySample(10)
    for hour in range(500):
        now = hour * RESCALE_AFTER
        for _ in range(10):
            sample.update(hour)
    assert min(sample.values()) >= 490


def test_percentiles() -> None:
    ordered = list(range(1, 11))
    points = {0.5: 5.5, 0.75: 8.25, 0.95: 10, 0.99: 10, 0.05: 1}
    assert {point: percentile(ordered, point) for point in points} == points


@given(NUMBERS)
def test_descriptions(values: list[float]) -> None:
    found = describe(values)
    assert (found["min"], found["max"]) == (min(values), max(values))
    assert found["mean"] == pytest.approx(statistics.fmean(values), abs=1e-3)
    assert found["variance"] == pytest.approx(statistics.pvariance(values), rel=1e-6, abs=1e-3)
    assert found["stddev"] == pytest.approx(math.sqrt(found["variance"]))
    ranks = [found[name] for name in ("min", "p50", "p75", "p95", "p99", "p999", "p9999", "max")]
    assert ranks == sorted(ranks)


def test_nothing_is_described_as_zeros() -> None:
    assert set(describe([]).values()) == {0}
