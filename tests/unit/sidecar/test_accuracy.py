"""What a link did beside what was asked of it: which difference is a difference, and how it is told."""

import sys

import pytest

from testground.sidecar import accuracy
from testground.sidecar.accuracy import Reading, Result
from testground.sidecar.client import SidecarError


@pytest.mark.parametrize(
    ("reading", "off"),
    [
        (Reading("latency", 20, 20.99), False),
        (Reading("latency", 20, 21.01), True),
        (Reading("latency", 20, 18.9), True),
        (Reading("latency", 300, 305.9), False),
        (Reading("latency", 300, 306.1), True),
        (Reading("rate", 10e6, 9.51e6), False),
        (Reading("rate", 10e6, 9.49e6), True),
        (Reading("rate", 10e6, 10.51e6), True),
        (Reading("loss", 10, 13.1, 1000), False),
        (Reading("loss", 10, 13.2, 1000), True),
        (Reading("loss", 10, 6.8, 1000), True),
        (Reading("loss", 10, 10.4, 100_000), True),
        (Reading("loss", 0, 0, 1000), False),
        (Reading("loss", 0, 0.1, 1000), True),
    ],
)
def test_what_is_more_than_a_measurement_is_wrong_by_is_off(reading: Reading, off: bool) -> None:
    assert reading.off is off


def test_a_person_reads_what_was_asked_and_got() -> None:
    readings = [
        Reading("latency", 20, 20.1234),
        Reading("rate", 10_000_000, 9_941_000),
        Reading("loss", 10, 25.5, 1000),
    ]
    assert str(Result(readings, ["not measured: a reason"])) == (
        "asked 20 ms, got 20.1 ms; asked 10 Mbit/s, got 9.94; asked 10 % loss, got 25.5 % of 1000 (off); "
        "not measured: a reason"
    )


@pytest.mark.skipif(sys.platform == "win32", reason="a daemon runs on Unix")
@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("raise SystemExit('no way')", "the process that measures exited with code 1: no way"),
        ("import os; os.kill(os.getpid(), 9)", "the process that measures exited with code -9: "),
        ("""print('{"error": "the kernel is out of links"}')""", "the kernel is out of links"),
        ("""print('{"refused": "this machine refuses it"}')""", "this machine refuses it"),
        ("import signal; signal.pause()", "it took longer than 0.5 seconds: this machine is too busy to measure"),
    ],
)
async def test_a_measurement_that_fails_says_why(program: str, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "_PROGRAM", program)
    if "pause" in program:
        monkeypatch.setattr(accuracy, "SECONDS", 0.5)
    with pytest.raises(SidecarError) as failed:
        await accuracy.measure()
    assert str(failed.value) == said
