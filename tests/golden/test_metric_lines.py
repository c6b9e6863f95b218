"""Metric lines and InfluxDB bodies of instance-contract §7.7, as our SDK writes them. Nothing of ours reads them yet.

Two differ on purpose: the `event_type` of a success is `success_event`, where sdk-go writes `SuccessEvent` by a
mistake, and all fields of a metric go into one point, where it sends a point for each.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from testground.sdk import RunEnv
from testground.sdk.influx import InfluxWriter
from testground.sdk.metrics import Metrics
from tests.unit.conftest import FakeDaemon

WRITE = "/write?consistency=&db=testground&precision=ns&rp="
PERCENTILES = ("p50", "p75", "p95", "p99", "p999", "p9999")


def percentiles(value: int) -> str:
    return ",".join(f'"{name}":{value}' for name in PERCENTILES)


def use_meter(metrics: Metrics) -> None:
    metrics.meter("m1").mark(3)


def use_timer(metrics: Metrics) -> None:
    metrics.timer("t1").update(0.015)


LINES: dict[str, tuple[Callable[[Metrics], None], float, str]] = {
    "7.7-point": (
        lambda metrics: metrics.record_point("donkeypower", 3.0),
        0.0,
        '{"ts":1795458290449700904,"type":"point","name":"donkeypower","measures":{"value":3}}',
    ),
    "7.7-point-with-tags": (
        lambda metrics: metrics.record_point("lat,peer=a,dir=in", 1.5),
        0.0,
        '{"ts":1795458290449783757,"type":"point","name":"lat,peer=a,dir=in","measures":{"value":1.5}}',
    ),
    "7.7-counter": (
        lambda metrics: metrics.counter("c1").inc(5),
        0.0,
        '{"ts":1795458291420477917,"type":"counter","name":"c1","measures":{"count":5}}',
    ),
    "7.7-gauge": (
        lambda metrics: metrics.gauge("g1").update(2.25),
        0.0,
        '{"ts":1795458291420568882,"type":"gauge","name":"g1","measures":{"value":2.25}}',
    ),
    "7.7-histogram": (
        lambda metrics: metrics.histogram("h1").update(7),
        0.0,
        '{"ts":1795458291420621530,"type":"histogram","name":"h1","measures":{"count":1,"max":7,"mean":7,"min":7,'
        f'{percentiles(7)},"stddev":0,"variance":0}}}}',
    ),
    "7.7-meter": (
        use_meter,
        3 / 335083.2123310622,
        '{"ts":1795458291420651435,"type":"meter","name":"m1","measures":{"count":3,"m1":0,"m15":0,"m5":0,'
        '"mean":335083.2123310622}}',
    ),
    "7.7-timer": (
        use_timer,
        1 / 180570.60310581437,
        '{"ts":1795458291420662962,"type":"timer","name":"t1","measures":{"count":1,"m1":0,"m15":0,"m5":0,'
        '"max":15000000,"mean":15000000,"meanrate":180570.60310581437,"min":15000000,'
        f'{percentiles(15000000)},"stddev":0,"variance":0}}}}',
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_lines_of_our_sdk(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    use, age, line = LINES[name]
    now = 0.0
    monkeypatch.setattr("testground.sdk.metrics.time.time_ns", lambda: json.loads(line)["ts"])
    monkeypatch.setattr("testground.sdk.instruments.time.monotonic", lambda: now)
    env = RunEnv(plan="tplan", case="metrics", run="RUN", group="single", instance_count=1, group_instance_count=1)
    metrics = Metrics(env.logger, 0)
    metrics.open(tmp_path / "results.out")
    use(metrics)
    now = age
    metrics.close()
    assert (tmp_path / "results.out").read_text() == f"{line}\n"


def test_7_7_bodies_of_our_sdk(fake_daemon: FakeDaemon) -> None:
    fake_daemon.answer(WRITE)
    writer = InfluxWriter(fake_daemon.endpoint, "tplan-metrics", {"run": "RUN", "group_id": "single"}, pytest.fail)
    writer.on_event({"start_event": {}})
    writer.on_event({"success_event": {"group": "single"}})
    writer.on_result(json.loads(LINES["7.7-point-with-tags"][2]))
    writer.on_result(
        {"ts": 1795458291420651435, "type": "meter", "name": "m1", "measures": {"count": 3, "m15": 0, "m1": 0}}
    )
    writer.on_diagnostic({"ts": 1795458290449843055, "type": "point", "name": "diag", "measures": {"value": 1}})
    writer.on_diagnostic({"ts": 1795459334075754709, "type": "counter", "name": "got.info", "measures": {"count": 1}})
    writer.close()
    assert {request.path for request in fake_daemon.requests} == {WRITE}
    assert b"".join(request.body for request in fake_daemon.requests).decode().splitlines() == [
        "events,event_type=start_event,group_id=single,run=RUN count=1i",
        "events,event_type=success_event,group_id=single,run=RUN count=1i",
        "results.tplan-metrics.lat.point,dir=in,group_id=single,peer=a,run=RUN value=1.5 1795458290449783757",
        "results.tplan-metrics.m1.meter,group_id=single,run=RUN count=3,m1=0,m15=0 1795458291420651435",
        "diagnostics.tplan-metrics.diag.point,group_id=single,run=RUN value=1 1795458290449843055",
        "diagnostics.tplan-metrics.got.info.counter,group_id=single,run=RUN count=1i 1795459334075754709",
    ]
