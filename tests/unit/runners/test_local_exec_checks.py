"""What `healthcheck --runner local:exec` says of isolated networks: how they are made, or what is in the way."""

from pathlib import Path

import pytest

from testground import health
from testground.config import EnvConfig, Home
from testground.runners import isolated_network
from testground.runners.local_exec import LocalExec


@pytest.mark.parametrize(
    ("possible", "said"),
    [
        ((True, "instances can have isolated networks, as root."), "instances can have isolated networks, as root."),
        ((False, "a setting"), 'not on this machine, where network = "host" works: a setting'),
    ],
)
async def test_a_machine_without_isolated_networks_is_healthy(
    possible: tuple[bool, str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer() -> tuple[bool, str]:
        return possible

    monkeypatch.setattr(isolated_network, "possible", answer)
    [check] = [
        check for check in LocalExec().checks(EnvConfig(home=Home(tmp_path))) if check.name == "isolated-networks"
    ]
    report = await health.examine([check], fix=False)
    assert not report.checks_failed
    assert said in str(report)
