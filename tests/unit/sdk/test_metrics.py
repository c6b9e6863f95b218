"""Metric lines, byte for byte (contract §2.7, §7.7), and when they are written."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from testground.sdk import RunEnv, UniformSample, runtime
from testground.sdk.instruments import TICK, Ewma, Meter
from testground.sdk.metrics import Metrics

MakeEnv = Callable[..., RunEnv]
TS = 1795458290449700904
DEADLINE = 10


class Recorder:
    """Metrics into a file, without a clock."""

    def __init__(self, env: RunEnv, directory: Path, frequency: float = 0) -> None:
        self.path = directory / "results.out"
        self.metrics = Metrics(env.logger, frequency)
        self.metrics.open(self.path)

    @property
    def lines(self) -> list[str]:
        return self.path.read_text().splitlines()

    @property
    def measures(self) -> list[dict[str, Any]]:
        return [json.loads(line)["measures"] for line in self.lines]


@pytest.fixture
def recorder(make_env: MakeEnv, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    monkeypatch.setattr("testground.sdk.metrics.time.time_ns", lambda: TS)
    recorder = Recorder(make_env(), tmp_path)
    yield recorder
    recorder.metrics.close()


def use_point(metrics: Metrics) -> None:
    metrics.record_point("donkeypower", 3.0)


def use_tagged_point(metrics: Metrics) -> None:
    metrics.record_point("lat,peer=a,dir=in", 1.5)


def use_counter(metrics: Metrics) -> None:
    metrics.counter("c1").inc(6)
    metrics.counter("c1").dec()


def use_gauge(metrics: Metrics) -> None:
    metrics.gauge("g1").update(1)
    metrics.gauge("g1").update(2.25)


def use_function(metrics: Metrics) -> None:
    metrics.gauge_f("g1", lambda: 2.25)


def use_histogram(metrics: Metrics) -> None:
    metrics.histogram("h1").update(7)


def use_ewma(metrics: Metrics) -> None:
    metrics.ewma("e1", 0.5).update(3)


@pytest.mark.parametrize(
    ("use", "line"),
    [
        (use_point, '"type":"point","name":"donkeypower","measures":{"value":3}'),
        (use_tagged_point, '"type":"point","name":"lat,peer=a,dir=in","measures":{"value":1.5}'),
        (use_counter, '"type":"counter","name":"c1","measures":{"count":5}'),
        (use_gauge, '"type":"gauge","name":"g1","measures":{"value":2.25}'),
        (use_function, '"type":"gauge","name":"g1","measures":{"value":2.25}'),
        (
            use_histogram,
            '"type":"histogram","name":"h1","measures":{"count":1,"max":7,"mean":7,"min":7,"p50":7,"p75":7,"p95":7,'
            '"p99":7,"p999":7,"p9999":7,"stddev":0,"variance":0}',
        ),
        (use_ewma, '"type":"ewma","name":"e1","measures":{"rate":0}'),
    ],
)
def test_lines(recorder: Recorder, use: Callable[[Metrics], None], line: str) -> None:
    use(recorder.metrics)
    recorder.metrics.close()
    assert recorder.lines == [f'{{"ts":{TS},{line}}}']


def test_rates(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("testground.sdk.instruments.time.monotonic", lambda: now)
    recorder.metrics.meter("m1").mark(3)
    recorder.metrics.timer("t1").update(0.015)
    now = 2.0
    recorder.metrics.close()
    assert recorder.lines == [
        f'{{"ts":{TS},"type":"meter","name":"m1","measures":{{"count":3,"m1":0,"m15":0,"m5":0,"mean":1.5}}}}',
        f'{{"ts":{TS},"type":"timer","name":"t1","measures":{{"count":1,"m1":0,"m15":0,"m5":0,"max":15000000,'
        '"mean":15000000,"meanrate":0.5,"min":15000000,"p50":15000000,"p75":15000000,"p95":15000000,"p99":15000000,'
        '"p999":15000000,"p9999":15000000,"stddev":0,"variance":0}}',
    ]


def test_moving_averages(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("testground.sdk.instruments.time.monotonic", lambda: now)
    average, meter = Ewma(0.5), Meter()
    average.update(10)
    meter.mark(10)
    now = TICK
    assert average.rate() == 2
    assert meter.rates() == {"m1": 2, "m5": 2, "m15": 2}
    now = 3 * TICK
    assert average.rate() == 0.5
    rates = meter.rates()
    assert rates["m1"] < rates["m5"] < rates["m15"] < 2


def test_counters_count_anew_after_each_harvest(recorder: Recorder) -> None:
    counter = recorder.metrics.counter("c")
    counter.inc(2)
    recorder.metrics.harvest()
    counter.inc(3)
    recorder.metrics.close()
    assert recorder.measures == [{"count": 2}, {"count": 3}]


def test_resetting_histograms_forget_at_each_harvest_and_others_do_not(recorder: Recorder) -> None:
    kept, reset = recorder.metrics.histogram("k", UniformSample(5)), recorder.metrics.resetting_histogram("r")
    for value in (1, 3):
        kept.update(value)
        reset.update(value)
    recorder.metrics.harvest()
    recorder.metrics.close()
    assert [(m["count"], m["max"], m["mean"]) for m in recorder.measures] == [
        (2, 3, 2),
        (2, 3, 2),
        (2, 3, 2),
        (0, 0, 0),
    ]


def test_percentiles_of_a_resetting_histogram_are_not_all_the_minimum(recorder: Recorder) -> None:
    histogram = recorder.metrics.resetting_histogram("h")
    for value in range(1, 11):
        histogram.update(value)
    recorder.metrics.close()
    [measures] = recorder.measures
    assert (measures["p50"], measures["p9999"]) == (5.5, 10)


def test_timers_measure_blocks(recorder: Recorder) -> None:
    timer = recorder.metrics.timer("t")
    with pytest.raises(KeyError), timer.time():
        raise KeyError
    recorder.metrics.close()
    [measures] = recorder.measures
    assert measures["count"] == 1
    assert 0 < measures["max"] < 1e9


def test_a_name_is_one_metric(recorder: Recorder) -> None:
    assert recorder.metrics.counter("x") is recorder.metrics.counter("x")
    with pytest.raises(TypeError, match="the metric 'x' is a counter already"):
        recorder.metrics.gauge("x")


def test_what_is_not_finite_is_left_out(recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    recorder.metrics.record_point("p", float("nan"))
    recorder.metrics.record_point("q", float("inf"))
    recorder.metrics.record_point("r", 1e300)
    assert recorder.measures == [{"value": 1e300}]
    assert capsys.readouterr().out.count("a metric is not a finite number") == 2


def test_a_broken_gauge_does_not_end_the_harvest(recorder: Recorder, capsys: pytest.CaptureFixture[str]) -> None:
    recorder.metrics.gauge_f("bad", lambda: 1 / 0)
    recorder.metrics.counter("good").inc()
    recorder.metrics.close()
    assert recorder.measures == [{"count": 1}]
    assert "ZeroDivisionError" in capsys.readouterr().out


def test_harvests_happen_on_a_clock(make_env: MakeEnv, tmp_path: Path) -> None:
    recorder = Recorder(make_env(), tmp_path, frequency=0.01)
    seen = threading.Semaphore(0)
    recorder.metrics.gauge_f("g", lambda: seen.release() or 1.0)  # type: ignore[func-returns-value]
    assert seen.acquire(timeout=DEADLINE)
    assert seen.acquire(timeout=DEADLINE)
    recorder.metrics.close()
    assert len(recorder.lines) >= 3


def test_the_frequency_can_be_changed_while_the_clock_waits(make_env: MakeEnv, tmp_path: Path) -> None:
    recorder = Recorder(make_env(), tmp_path, frequency=1000)
    seen = threading.Semaphore(0)
    recorder.metrics.gauge_f("g", lambda: seen.release() or 1.0)  # type: ignore[func-returns-value]
    recorder.metrics.set_frequency(0.01)
    assert seen.acquire(timeout=DEADLINE)
    recorder.metrics.set_frequency(0)
    recorder.metrics.close()


def test_nothing_is_written_after_the_end(recorder: Recorder) -> None:
    recorder.metrics.close()
    recorder.metrics.record_point("late", 1)
    recorder.metrics.close()
    assert recorder.lines == []


def test_counting_in_many_threads_loses_nothing(recorder: Recorder) -> None:
    def work() -> None:
        for _ in range(1000):
            recorder.metrics.counter("c").inc()
            recorder.metrics.histogram("h").update(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    recorder.metrics.harvest()
    for thread in threads:
        thread.join()
    recorder.metrics.close()
    counts = [m["count"] for line, m in zip(recorder.lines, recorder.measures, strict=True) if '"counter"' in line]
    assert sum(counts) == 8000
    assert recorder.measures[-1]["count"] == 8000


def test_gauges_of_the_runtime(recorder: Recorder) -> None:
    runtime.register(recorder.metrics)
    recorder.metrics.close()
    found = {json.loads(line)["name"]: json.loads(line)["measures"]["value"] for line in recorder.lines}
    assert 1 << 20 < found["runtime.rss"] < 1 << 40
    assert found["runtime.threads"] >= 1
    assert found["runtime.cpu"] > 0
    assert {"runtime.gc.collections", "runtime.gc.collected"} <= found.keys()
