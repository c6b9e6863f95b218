"""Metrics and events as InfluxDB lines (contract §5.5, §7.7), and their way to an endpoint."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testground.sdk.influx import InfluxWriter, address, point, split_name

TAGS = {"run": "RUN", "group_id": "single"}


class Endpoint:
    """A server that keeps the bodies it gets, and answers with `status`."""

    def __init__(self, status: int) -> None:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                endpoint.paths.append(self.path)
                endpoint.lines += self.rfile.read(int(self.headers["Content-Length"])).decode().splitlines()
                endpoint.got_lines.set()
                self.send_response(status, "as told")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.paths: list[str] = []
        self.lines: list[str] = []
        self.got_lines = threading.Event()
        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@contextmanager
def serve(status: int = 204) -> Iterator[Endpoint]:
    endpoint = Endpoint(status)
    thread = threading.Thread(target=endpoint.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.server.shutdown()
        thread.join()
        endpoint.server.server_close()


def test_lines() -> None:
    with serve() as endpoint:
        writer = InfluxWriter(f"{endpoint.url}/", "tplan-metrics", TAGS, pytest.fail)
        writer.on_event({"start_event": {}})
        writer.on_event({"stage_start_event": {}})
        writer.on_event({"success_event": {"group": "single"}})
        writer.on_result({"ts": 7, "type": "point", "name": "lat,peer=a,dir=in,bad,=x,y=", "measures": {"value": 1.5}})
        writer.on_result({"ts": 8, "type": "meter", "name": "m1", "measures": {"count": 3, "m1": 0, "m15": 0}})
        writer.on_diagnostic({"ts": 9, "type": "point", "name": "diag", "measures": {"value": 1}})
        writer.on_diagnostic({"ts": 10, "type": "counter", "name": "got.info", "measures": {"count": 1}})
        writer.close()
    assert set(endpoint.paths) == {"/write?consistency=&db=testground&precision=ns&rp="}
    assert endpoint.lines == [
        "events,event_type=start_event,group_id=single,run=RUN count=1i",
        "events,event_type=success_event,group_id=single,run=RUN count=1i",
        "results.tplan-metrics.lat.point,dir=in,group_id=single,peer=a,run=RUN value=1.5 7",
        "results.tplan-metrics.m1.meter,group_id=single,run=RUN count=3,m1=0,m15=0 8",
        "diagnostics.tplan-metrics.diag.point,group_id=single,run=RUN value=1 9",
        "diagnostics.tplan-metrics.got.info.counter,group_id=single,run=RUN count=1i 10",
    ]


def test_lines_are_sent_while_the_case_runs() -> None:
    with serve() as endpoint:
        writer = InfluxWriter(endpoint.url, "p-c", TAGS, pytest.fail)
        writer.on_event({"start_event": {}})
        assert endpoint.got_lines.wait(10)
        writer.close()


def test_a_refusal_is_one_message() -> None:
    reports: list[str] = []
    with serve(404) as endpoint:
        writer = InfluxWriter(endpoint.url, "p-c", TAGS, reports.append)
        writer.on_event({"start_event": {}})
        writer.close()
        writer.on_event({"success_event": {}})
        writer.close()
    assert reports == ["InfluxDB unavailable; no metrics will be dispatched: 404 as told: "]


def test_an_endpoint_that_goes_is_one_message() -> None:
    reports: list[str] = []
    with serve() as endpoint:
        writer = InfluxWriter(endpoint.url, "p-c", TAGS, reports.append)
        writer.on_event({"start_event": {}})
        assert endpoint.got_lines.wait(10)
    writer.on_event({"success_event": {}})
    writer.close()
    [report] = reports
    assert report.startswith("InfluxDB unavailable")


def test_where_nobody_listens_there_is_nothing_to_say() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        writer = InfluxWriter(f"http://127.0.0.1:{taken.getsockname()[1]}", "p-c", TAGS, pytest.fail)
        writer.on_event({"start_event": {}})
        writer.close()


@pytest.mark.parametrize("url", ["localhost:8086", "ftp://x", "http://", "nonsense", "http://x:port"])
def test_a_bad_url_is_one_message(url: str) -> None:
    reports: list[str] = []
    writer = InfluxWriter(url, "p-c", TAGS, reports.append)
    writer.on_event({"start_event": {}})
    writer.close()
    assert len(reports) == 1


def test_addresses() -> None:
    assert address("http://h:1/x") == ("h", 1)
    assert address("http://h") == ("h", 80)
    assert address("https://[::1]") == ("::1", 443)


def test_special_characters_are_escaped() -> None:
    line = point("a b,c=d", {"k e": "v,=", "none": ""}, {"f g": "1"}, 5)
    assert line == r"a\ b\,c=d,k\ e=v\,\= f\ g=1 5"


@given(st.text(max_size=30))
def test_every_name_is_one_line(name: str) -> None:
    metric, tags = split_name(name)
    assert "\n" not in point(metric, tags, {"value": "1"})
