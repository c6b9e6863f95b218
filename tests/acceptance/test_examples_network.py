"""Plans that change their network, examples 11 and 12: in isolated networks."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import anyio
import pytest

from testground.runners import isolated_network
from tests import ordinary_user
from tests.acceptance.conftest import CommandLine
from tests.acceptance.test_examples import PYTHON, failed, metrics, passed

pytestmark = pytest.mark.timeout(180)
ISOLATED = ("--run-cfg", "network=isolated")


@pytest.fixture(autouse=True, scope="module")
def isolated() -> None:
    able, how = anyio.run(isolated_network.possible)
    if not able:
        pytest.skip(how)


def test_traffic_is_shaped_for_a_while(cli: CommandLine) -> None:
    run = cli.readme("11-traffic-shaping")
    archive = passed(run, cli, single=2)
    points = [point for index in range(2) for point in metrics(archive, f"single/{index}", "point")]
    trips = {point["name"]: point["measures"]["value"] for point in points}
    assert trips["rtt_ms_shaped"] > 23 > trips["rtt_ms_before"]


def test_latency_is_refused_in_the_words_of_the_readme_where_there_is_no_netem(cli: CommandLine) -> None:
    """Where there is: `tests/uml`."""
    cli("plan", "import", "--from", "examples/11-traffic-shaping")
    readme = (cli.directory / "examples" / "11-traffic-shaping" / "README.md").read_text()
    [command] = re.findall(r"^testground (run .* latency=.*)$", readme, re.MULTILINE)
    run = cli(*shlex.split(command))
    if run.exit_code == 0:
        pytest.skip("this kernel has netem")
    reason = "netem (CONFIG_NET_SCH_NETEM), which latency would need"
    assert reason in readme and reason in run.stdout


@pytest.mark.parametrize(
    ("parameter", "reason"),
    [
        ("bandwidth=2MB", "it is in bits per second, not bytes; write 2Mbit, or 16Mbit where bytes are meant"),
        ("latency=50", "latency is '50': it needs a unit, such as 50ms"),
    ],
)
def test_a_shape_without_its_unit_is_told_so(cli: CommandLine, parameter: str, reason: str) -> None:
    cli("plan", "import", "--from", "examples/11-traffic-shaping")
    words = ("-p", "11-traffic-shaping", "-t", "ping-pong", *PYTHON, "-i", "2", *ISOLATED, "--test-param", parameter)
    assert reason in failed(cli("run", "single", *words, "--wait"), "single:0/2")


def test_a_network_that_nobody_shapes_is_told_so(cli: CommandLine) -> None:
    cli("plan", "import", "--from", "examples/11-traffic-shaping")
    run = cli("run", "single", "-p", "11-traffic-shaping", "-t", "ping-pong", *PYTHON, "-i", "2", "--wait")
    assert 'add --run-cfg network="isolated"' in failed(run, "single:0/2")


def test_a_partition_takes_the_minority_out_of_service(cli: CommandLine) -> None:
    run = cli.readme("12-splitbrain")
    passed(run, cli, checker=1, clients=4, replicas=3)
    assert len(run.log("parted: 5 operations found no majority of the replicas")) == 2
    assert run.log("linearizable")


def test_a_store_that_goes_on_without_a_majority_is_caught(cli: CommandLine) -> None:
    run = cli.readme("12-splitbrain", "--run-ids", "sloppy")
    verdict = failed(run, "checker:0/1 clients:4/4 replicas:3/3")
    assert "not linearizable: no order of these operations explains what was read" in verdict
    assert re.search(r"client \d read +\d-\d+ +from", verdict)


@pytest.mark.skipif(os.geteuid() != 0, reason="the tests above have run as an ordinary user")
@pytest.mark.skipif(not ordinary_user.possible(), reason="this machine allows user namespaces to root only")
def test_what_the_readmes_say_as_an_ordinary_user(tmp_path: Path) -> None:
    said = ordinary_user.repeat(__file__, tmp_path, "-k", "shaped_for_a_while or minority")
    assert "2 passed" in said
