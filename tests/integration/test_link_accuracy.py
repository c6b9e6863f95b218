"""`healthcheck --runner local:exec` measures a link in this kernel; tests/uml has it done in one with netem."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from testground.config import EnvConfig, Home
from testground.runners import isolated_network
from testground.runners.local_exec import LocalExec
from tests import ordinary_user

MEASURE = """
import anyio, json
from testground.sidecar import accuracy
result = anyio.run(accuracy.measure)
print(json.dumps([result.readings[-1].got, str(result)]))
"""


async def test_a_check_tells_the_rate_that_a_link_has(tmp_path: Path) -> None:
    possible, how = await isolated_network.possible()
    if not possible:
        pytest.skip(how)
    checks = {check.name: check for check in LocalExec().checks(EnvConfig(home=Home(tmp_path)))}
    assert checks["link-accuracy"].on_demand, "runs must not wait for it"
    healthy, said = await checks["link-accuracy"].probe()
    assert healthy
    found = re.search(r"asked 10 Mbit/s, got ([\d.]+)", said)
    assert found and 7 < float(found[1]) < 10.7, said  # a busy machine is slower
    assert "asked 20 ms, got" in said or "no netem (CONFIG_NET_SCH_NETEM), which latency and loss would need" in said


async def test_without_isolated_networks_nothing_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def impossible() -> tuple[bool, str]:
        return False, "a setting"

    monkeypatch.setattr(isolated_network, "possible", impossible)
    assert await isolated_network.accuracy() == (True, "not measured, as instances cannot have isolated networks")


@pytest.mark.skipif(sys.platform != "linux", reason="networks are isolated on Linux only")
@pytest.mark.skipif(os.geteuid() != 0, reason="the test above has measured as an ordinary user")
def test_an_ordinary_user_measures_as_well() -> None:
    done = subprocess.run(
        ordinary_user.command(sys.executable, "-c", MEASURE),
        cwd=ordinary_user.CHECKOUT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if ordinary_user.REFUSED in done.stderr:
        pytest.skip("this machine allows user namespaces to root only")
    assert done.returncode == 0, done.stderr
    rate, said = json.loads(done.stdout)
    assert rate == pytest.approx(10_000_000, rel=0.3), said
