"""A plan on sdk-go 0.2.7, the last that speaks Redis, beside instances on the present Python SDK."""

import shutil
from pathlib import Path

import pytest

from tests.acceptance.conftest import CommandLine

PLAN = Path(__file__).parents[1] / "upstream" / "plans" / "old-sdk"
GO_DEADLINE = 280.0
"""Seconds; the first build downloads the modules and compiles them."""

pytestmark = [
    pytest.mark.skipif(shutil.which("go") is None, reason="go is not installed"),
    pytest.mark.timeout(GO_DEADLINE + 20),
]


def test_old_and_new_sdks_meet_at_one_barrier_and_hear_each_other_on_one_topic(cli: CommandLine) -> None:
    assert cli("plan", "import", "--from", str(PLAN)).exit_code == 0
    run = cli("run", "composition", "-f", str(PLAN / "both.toml"), "--wait", deadline=GO_DEADLINE)
    assert run.exit_code == 0, run.stdout + run.stderr
    assert run.log("run finished with outcome = success (new:1/1 old:2/2)")
    for instance in ("old[000]", "old[001]", "new[000]"):
        heard = sorted(line.partition("heard ")[2] for line in run.log(f"<< {instance} >> heard peer"))
        assert [peer.partition(" of ")[0] for peer in heard] == ["peer 1", "peer 2", "peer 3"]
        assert sorted(peer.partition(" of ")[2] for peer in heard) == ["new", "old", "old"]
