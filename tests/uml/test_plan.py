"""Isolated networks from end to end: what plans ask of their links, they get, in a kernel with netem.

They are built out here and run by a daemon in there, all of them after one another in one machine.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.platform != "linux":
    pytest.skip("user-mode Linux runs on Linux", allow_module_level=True)

from tests.acceptance.conftest import REPOSITORY, CommandLine, command_line
from tests.uml import plan
from tests.upstream import published

pytestmark = pytest.mark.timeout(600)

BUILD_SECONDS = 280.0
EXAMPLE = REPOSITORY / "examples" / "11-traffic-shaping"
OURS = REPOSITORY / "tests" / "upstream" / "plans" / "links"
MANIFEST = """
name = "measured"
[builders."exec:python"]
[runners."local:exec"]
[[testcases]]
name = "measure"
instances = { min = 2, max = 2 }
"""


class Outside:
    """Builds plans, and notes what is to be run in there."""

    def __init__(self, cli: CommandLine) -> None:
        self._cli = cli
        self.plans: list[str] = []
        self.runs: list[tuple[str, list[str]]] = []

    def add(self, directory: Path, case: str, builder: str, times: int = 1) -> None:
        words = ["single", "-p", directory.name, "-t", case, "-b", builder, "-r", "local:exec", "-i", "2"]
        self.add_run(directory, builder, [*words, "--run-cfg", "network=isolated", "--wait"], times)

    def add_run(self, directory: Path, builder: str, words: list[str], times: int = 1) -> None:
        assert self._cli("plan", "import", "--from", str(directory)).exit_code == 0
        built = self._cli("build", "single", "-p", directory.name, "-b", builder, "--wait", deadline=BUILD_SECONDS)
        found = re.search(r'"artifact": "(.*?)"', built.stdout)
        assert found, built.stdout + built.stderr
        self.plans.append(str(directory))
        self.runs += [(directory.name, [*words, "--use-build", found[1]])] * times


@pytest.fixture(scope="module")
def ran(machine, tmp_path_factory) -> dict[str, list[dict[str, Any]]]:
    """What became of the runs of each plan."""
    home, directory = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("outside")
    (home / ".env.toml").write_text('[daemon]\nlisten = "localhost:0"\nsync_listen = "localhost:0"\n')
    outside = Outside(command_line(home, directory))
    outside.add(measured_plan(directory), "measure", "exec:python")
    outside.add_run(EXAMPLE, "exec:python", shlex.split(readme_of_latency())[2:])
    if shutil.which("go"):
        outside.add(OURS, "round-trips", "exec:go")
    if not published.missing():
        outside.add(published.plan("network", directory), "ping-pong", "exec:go", times=3)
    reports = machine("real.py", memory="512M", plans=outside.plans, runs=[words for _, words in outside.runs])
    by_plan: dict[str, list[dict[str, Any]]] = {}
    for (name, _), report in zip(outside.runs, reports, strict=True):
        by_plan.setdefault(name, []).append(report)
    return by_plan


def measured_plan(directory: Path) -> Path:
    made = directory / "measured"
    made.mkdir()
    (made / "manifest.toml").write_text(MANIFEST)
    shutil.copy(plan.__file__, made / "main.py")
    return made


def readme_of_latency() -> str:
    """The command there that asks for latency."""
    [line] = re.findall(r"^testground run .* latency=.*$", (EXAMPLE / "README.md").read_text(), re.MULTILINE)
    return line


def passed(reports: list[dict[str, Any]]) -> dict[str, str]:
    """The files of the only run."""
    [report] = reports
    assert report["exit"] == 0, report["said"]
    return report["files"]


@pytest.fixture(scope="module")
def measured(ran) -> dict[str, Any]:
    [text] = [text for path, text in passed(ran["measured"]).items() if path.endswith("/measured.json")]
    return json.loads(text)


@pytest.mark.parametrize("latency", plan.LATENCIES)
def test_a_round_trip_takes_the_latency(measured, latency):
    assert measured[f"latency_{latency}_ms"] == pytest.approx(latency, abs=max(1, latency * 0.02))


def test_as_many_are_lost_as_asked(measured):
    """Of three samples the median is within what comes by chance in 99 of 100 cases."""
    expected = plan.PACKETS * plan.LOSS / 100
    assert abs(measured["lost"][1] - expected) <= 2.576 * (expected * (1 - plan.LOSS / 100)) ** 0.5


def test_tcp_gets_the_rate(measured):
    assert measured["rate"] == pytest.approx(plan.RATE, rel=0.05)


def test_the_example_shows_the_latency_that_its_readme_asks_for(ran):
    """Both ways; what the instances themselves take for a trip is known from the time after."""
    files = passed(ran[EXAMPLE.name])
    points = [json.loads(line) for path in files if path.endswith("/results.out") for line in files[path].splitlines()]
    trips = {point["name"].rpartition("_")[2]: point["measures"]["value"] for point in points}
    assert trips["shaped"] - trips["after"] == pytest.approx(200, abs=4)
    assert trips["before"] < 20 and trips["after"] < 20


def test_go_plans_get_the_latency_at_new_addresses(ran):
    if OURS.name not in ran:
        pytest.skip("go is not installed")
    passed(ran[OURS.name])
    trips = re.findall(r"(\d+)ms, number \d: a round trip took (\d+) us", ran[OURS.name][0]["said"])
    assert len(trips) == 10
    for latency in ("100", "10"):
        shortest = min(int(took) / 1000 for asked, took in trips if asked == latency)
        assert shortest == pytest.approx(2 * int(latency), abs=max(1, int(latency) * 0.04))


def test_upstreams_ping_pong_passes(ran):
    """It allows 15 ms more than the latency, of a single trip: on a busy machine, that can be too little."""
    reason = published.missing()
    if reason:
        pytest.skip(reason)
    failed = [report["said"] for report in ran["network"] if report["exit"] != 0]
    assert len(failed) < 3, failed[-1]
    assert all("expected an RTT between" in said for said in failed), failed
