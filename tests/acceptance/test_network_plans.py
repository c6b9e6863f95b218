"""What plans on sdk-go ask of isolated networks: one of ours, and upstream's own, as root and as an ordinary user.

Latencies need netem: `tests/uml` measures them.
"""

from __future__ import annotations

import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio
import pytest

from testground.runners import isolated_network
from tests import ordinary_user
from tests.acceptance.conftest import CommandLine, Finished
from tests.upstream import published

GO_DEADLINE = 280.0
"""Seconds; the first build downloads the modules and compiles them."""
PLAN = Path(__file__).parents[1] / "upstream" / "plans" / "links"

pytestmark = [
    pytest.mark.skipif(shutil.which("go") is None, reason="go is not installed"),
    pytest.mark.timeout(2 * GO_DEADLINE),
]


@pytest.fixture(autouse=True, scope="module")
def isolated() -> None:
    able, how = anyio.run(isolated_network.possible)
    if not able:
        pytest.skip(how)


@pytest.fixture
def ours(cli: CommandLine) -> CommandLine:
    cli("plan", "import", "--from", str(PLAN))
    return cli


@pytest.fixture
def theirs(cli: CommandLine, tmp_path: Path) -> CommandLine:
    reason = published.missing()
    if reason:
        pytest.skip(reason)
    for name in ("network", "splitbrain", "verify", "benchmarks"):
        cli("plan", "rm", "-p", name, "--yes")
        cli("plan", "import", "--from", str(published.plan(name, tmp_path)))
    return cli


def passed(cli: CommandLine, plan: str, case: str, instances: int, *parameters: str) -> Finished:
    words = ["-p", plan, "-t", case, "-b", "exec:go", "-r", "local:exec", "-i", str(instances)]
    for parameter in parameters:
        words += ["--test-param", parameter]
    run = cli("run", "single", *words, "--run-cfg", "network=isolated", "--wait", deadline=GO_DEADLINE)
    assert run.exit_code == 0, run.stdout + run.stderr
    assert run.log(f"run finished with outcome = success (single:{instances}/{instances})")
    return run


def test_an_instance_moves_with_a_mask_that_is_not_its_networks(ours: CommandLine) -> None:
    run = passed(ours, "links", "round-trips", 2, "latencies=0s 0s")
    assert len(run.log("a round trip took")) == 10


@pytest.mark.parametrize(
    ("filter_", "told"), [("accept", ""), ("reject", "permission denied"), ("drop", "invalid argument")]
)
def test_regions_are_walled_off_by_their_addresses(ours: CommandLine, filter_: str, told: str) -> None:
    """The wall is in the west: who comes against it from the east hears nothing."""
    run = passed(ours, "links", "regions", 3, f"filter={filter_}")
    assert len(run.log("reaches whom it should")) == 6
    reasons = [line.rpartition(": ")[2] for line in run.log("not reached: ")]
    assert sorted(reasons) == sorted([told, "i/o timeout"] if told else [])


def test_only_a_policy_opens_the_control_network(ours: CommandLine) -> None:
    run = passed(ours, "links", "policies", 3)
    assert len(run.log("the control network is open: false")) == 6
    assert len(run.log("the control network is open: true")) == 3


@pytest.mark.slow
def test_upstreams_regions_are_walled_off(theirs: CommandLine) -> None:
    """All at once, for they wait for half a minute: who comes against the wall from outside does."""
    with ThreadPoolExecutor(3) as threads:
        accepted, *walled = threads.map(
            lambda case: passed(theirs, "splitbrain", case, 3), ("accept", "reject", "drop")
        )
    assert len(accepted.log("could not connect 0")) == 3
    for run in walled:
        assert len(run.log("could not connect 0")) == 1
        assert len(run.log("could not connect 1")) == 2


def test_upstreams_instance_may_not_leave(theirs: CommandLine) -> None:
    assert passed(theirs, "network", "traffic-blocked", 1).log("connection failed as expected")


def test_upstreams_pings_take_the_data_network_only(theirs: CommandLine) -> None:
    run = passed(theirs, "verify", "uses-data-network", 2)
    assert run.log("packet loss on 192.18.") and all("100.0" in line for line in run.log("packet loss on 192.18."))
    assert run.log("packet loss on 16.0.") and all(": 0.0" in line for line in run.log("packet loss on 16.0."))


def test_upstreams_connections_storm(theirs: CommandLine) -> None:
    run = passed(theirs, "benchmarks", "storm", 4, "conn_delay_ms=100", "data_size_kb=16")
    assert len(run.log("done writing after barrier")) == 4


@pytest.mark.skipif(os.geteuid() != 0, reason="the tests above have run as an ordinary user")
@pytest.mark.skipif(not ordinary_user.possible(), reason="this machine allows user namespaces to root only")
def test_all_of_this_as_an_ordinary_user(tmp_path: Path) -> None:
    ordinary_user.repeat(__file__, tmp_path, "-m", "not slow")
