"""`make bench-network` measures what it says, here for few instances, and says what it lacks."""

from __future__ import annotations

import shutil
import subprocess
import sys

import anyio
import pytest

if sys.platform != "linux":
    pytest.skip("networks are isolated on Linux only", allow_module_level=True)

from testground.runners import isolated_network
from testground.sidecar.accuracy import Reading
from tests import ordinary_user
from tests.bench import network, network_changes, network_links, network_runs
from tests.uml import boot


@pytest.fixture(scope="module", autouse=True)
def isolated() -> None:
    possible, how = anyio.run(isolated_network.possible)
    if not possible:
        pytest.skip(how)


def printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, part: str) -> str:
    monkeypatch.setattr(sys, "argv", ["network", part])
    assert network.main() == 0
    return capsys.readouterr().out


def test_a_rate_that_the_processor_cannot_do_is_nobodys_fault() -> None:
    slow = {"latency": Reading("latency", 20, 20), "rate": Reading("rate", 50e6, 20e6)}
    late = {"latency": Reading("latency", 20, 30), "rate": Reading("rate", 50e6, 20e6)}
    assert network_links.Cell(slow, busy=True).ok is None
    assert network_links.Cell(slow, busy=False).ok is False
    assert network_links.Cell(late, busy=True).ok is False
    assert network_links.Cell({"loss": Reading("loss", 10, 9.9, 1000)}, busy=True).ok is True


def test_links_of_this_kernel(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(network_links, "REAL_RATES", (2_000_000,))
    monkeypatch.setattr(network_links, "GRID", [(20, 10, 0)])
    monkeypatch.setattr(network_links, "FAST", [])
    monkeypatch.setattr(boot, "missing", lambda: "there is no other")
    output = printed(capsys, monkeypatch, "links")
    assert "│ 2 Mbit/s" in output
    assert "│ 20 ms, 10 %" in output or "has no netem, and there is no other" in output


def test_links_in_user_mode_linux() -> None:
    if reason := boot.missing():
        pytest.skip(reason)
    [cell] = network_links._cells(network_links._in_user_mode_linux("grid", asked=[(20, 10, 1_000_000)]))
    assert set(cell.readings) == {"latency", "loss", "rate"}
    assert cell.readings["latency"].got == pytest.approx(20, abs=2)


def test_throughput(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(network_links, "SAMPLES", 1)
    assert "two unshaped instances beside a bare veth pair" in printed(capsys, monkeypatch, "throughput")


def test_changes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (("ALONE", 3), ("INSTANCES", 2), ("TOGETHER", 2)):
        monkeypatch.setattr(network_changes, name, value)
    output = printed(capsys, monkeypatch, "changes")
    assert "first change of a run" in output
    assert "first changes of 2 instances at once" in output
    assert "2 instances, 2 changes each" in output


@pytest.mark.timeout(180)
def test_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("go") is None:
        pytest.skip("no go toolchain")
    monkeypatch.setattr(network_runs, "SIZES", {3: 60.0})
    monkeypatch.setattr(network_runs, "MANY", 4)
    monkeypatch.setattr(network_runs, "_users", lambda: [("somebody", lambda *argv: argv)])
    output = printed(capsys, monkeypatch, "runs")
    assert "3 Go instances, somebody: submitted to all initialised" in output
    assert "3 shell instances, somebody: submitted to all begun" in output
    assert "4 on one data network: others that reached the first" in output


def test_runs_without_go_as_an_ordinary_user(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if not ordinary_user.possible():
        pytest.skip("this machine allows user namespaces to root only")
    monkeypatch.setattr(network_runs, "SIZES", {3: 60.0})
    monkeypatch.setattr(network_runs, "_users", lambda: [("ordinary user", ordinary_user.command)])
    monkeypatch.setattr(shutil, "which", lambda _: None)
    output = printed(capsys, monkeypatch, "runs")
    assert "runs of Go instances are not measured: no go toolchain" in output
    assert "3 shell instances, ordinary user: submitted to all begun" in output


def test_an_unknown_part_is_an_error() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.network", "link"],
        cwd=ordinary_user.CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "no part named link; there is: links, throughput, changes, runs" in done.stderr
