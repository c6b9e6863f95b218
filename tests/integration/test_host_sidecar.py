"""`sidecar = true` of local:exec: what a sidecar does at the start of an instance, on the machine's own network."""

import json
import socket
import sys

import pytest

from testground.api.task import Outcome
from testground.drivers import namespaces
from testground.errors import RunError
from testground.plugins import RunGroupInput
from testground.runners import host_network
from testground.runners.local_run import LocalExecConfig
from tests.integration.test_local_exec import OK, Bench
from tests.integration.test_local_exec import bench as bench

SDK = """
import json, os, socket
from pathlib import Path
from testground.sdk import *
from testground.errors import SyncError

async def case(env, init):
    seen = {
        "door": socket.gethostbyname("testground-sync-service"),
        "host": socket.gethostbyname(socket.gethostname()),
        "data": init.net.get_data_network_ip(),
        "sidecar": env.sidecar,
    }
    Path(os.environ["TEST_OUTPUTS_PATH"], "seen").write_text(json.dumps(seen))
    with socket.create_connection(("testground-sync-service", 5050)):
        pass
    await init.sync.signal_and_wait("met", env.instance_count)
    await init.net.configure_network(NetworkConfig(callback_state="shaped"))

invoke(case)
"""
REFUSED = "network configuration refused: this runner shapes no network; the instances share that of their machine"


@pytest.fixture
async def sidecar(bench: Bench) -> Bench:
    bench.config = LocalExecConfig(sidecar=True)
    if obstacle := await namespaces.obstacle("/etc/hosts"):
        pytest.skip(obstacle)
    return bench


async def test_instances_find_their_doors_by_name_and_cannot_shape_the_network(sidecar):
    """They meet at `network-initialized` before their case starts; a configuration does not leave them waiting."""
    script = sidecar.script("case.py", SDK, sys.executable)
    result = await sidecar.run(RunGroupInput("g", 3, script))
    assert str(result) == "outcome = failure (g:0/3)"
    assert all(REFUSED in failure.reason for failure in result.failures)
    seen = [json.loads(sidecar.outputs("g", index).joinpath("seen").read_text()) for index in range(3)]
    doors = {each.pop("door") for each in seen}
    assert len(doors) == 3 and all(door.startswith("127.") for door in doors)
    assert seen == [{"host": "127.0.0.1", "data": "127.0.0.1", "sidecar": True}] * 3


async def test_environment(sidecar):
    result = await sidecar.shell(f"env; {OK}")
    assert result.outcome is Outcome.SUCCESS
    env = dict(line.split("=", 1) for line in sidecar.outputs().joinpath("run.out").read_text().splitlines()[:-1])
    assert (env["TEST_SIDECAR"], env["TEST_SUBNET"], env["SYNC_SERVICE_PORT"]) == ("true", "127.0.0.0/8", "5050")
    assert env["SYNC_SERVICE_HOST"].startswith("127.") and "LC_CTYPE" not in env


async def test_an_artifact_that_cannot_start(sidecar, tmp_path):
    result = await sidecar.run(RunGroupInput("g", 2, str(tmp_path / "missing")))
    assert result.failures[0].reason == f"failed to start: {tmp_path}/missing: No such file or directory"


async def test_what_the_launcher_says_before_it_fails_is_kept(sidecar, monkeypatch):
    program = "import os, sys; os.write(2, b'oh no\\n'); os.write(int(sys.argv[1]), b'a mount\\n1')"
    monkeypatch.setattr(namespaces, "_LAUNCHER", (sys.executable, "-c", program))
    result = await sidecar.shell(OK)
    assert result.failures[0].reason == "failed to start: a mount: Operation not permitted"
    assert sidecar.outputs().joinpath("run.err").read_text() == "oh no\n"


async def test_an_address_that_is_taken_is_passed_over(sidecar, monkeypatch):
    with socket.create_server(("127.2.2.2", 0)) as taken:
        monkeypatch.setattr(host_network, "SYNC_PORT", taken.getsockname()[1])
        addresses = iter(["127.2.2.3", "127.2.2.2", "127.2.2.4"])  # the first is for the check before the run
        monkeypatch.setattr(host_network, "_any_address", lambda: next(addresses))
        result = await sidecar.shell(f"echo $SYNC_SERVICE_HOST; {OK}")
    assert result.outcome is Outcome.SUCCESS
    assert "127.2.2.4" in sidecar.notes.text


async def test_a_port_that_is_taken_everywhere_is_one_error(sidecar, monkeypatch):
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(host_network, "SYNC_PORT", port)
        with pytest.raises(RunError, match=f"needs port {port} at loopback addresses: Address already in use"):
            await sidecar.shell(OK)


async def test_a_machine_without_namespaces_is_one_error(bench, monkeypatch):
    async def obstacle(target):
        return f"this machine refuses {target}"

    bench.config = LocalExecConfig(sidecar=True)
    monkeypatch.setattr(namespaces, "obstacle", obstacle)
    with pytest.raises(RunError, match="a /etc/hosts for each instance: this machine refuses /etc/hosts. Without this"):
        await bench.shell(OK)
    assert "g[000]" not in bench.notes.text


async def test_a_plan_that_needs_it_is_told_so(bench):
    """What sdk-rust says when the name of the sync service is unknown, and it has no other."""
    script = "echo 'failed to lookup address information: Name or service not known' >&2; exit 1"
    await bench.shell(script)
    assert 'set sidecar = true in [runners."local:exec"]' in bench.notes.text


async def test_other_plans_are_not(bench):
    await bench.shell("exit 1")
    assert "sidecar" not in bench.notes.text
