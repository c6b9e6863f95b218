"""The SDK's network client in isolated networks: what it asks for is what packets meet."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from testground.api.task import Outcome
from testground.plugins import RunGroupInput
from testground.runners import isolated_network
from testground.runners.local_run import LocalExecConfig
from tests import ordinary_user
from tests.integration.test_local_exec import Bench
from tests.integration.test_local_exec import bench as bench

PLAN = """
import asyncio, errno, json, os
from pathlib import Path
from testground.sdk import LinkRule, NetworkRefusedError, invoke

seen = {}

async def reach(address):
    try:
        async with asyncio.timeout(10):
            _, writer = await asyncio.open_connection(address, 7000)
    except OSError as error:
        return errno.errorcode[error.errno]
    writer.close()
    return "reached"

async def case(env, init):
    net = init.net
    async with await asyncio.start_server(lambda reader, writer: writer.close(), "", 7000):
        await net.configure(ipv6=f"fd00::{init.global_seq + 1:x}/64")
        if init.global_seq == 1:
            await net.configure(ipv4="16.0.77.7")
        peers = await net.meet()
        other = next(peer for peer in peers if peer.address != net.get_data_network_ip())

        async def look(name):
            await init.sync.signal_and_wait(name, env.instance_count)
            seen[name] = [await reach(other.address), await reach(other.ipv6.partition("/")[0])]
            await init.sync.signal_and_wait("after " + name, env.instance_count)

        await look("plain")
        await net.partition([peers[0]], [peers[1]], filter="reject")
        await look("rejected")
        await net.partition([peers[0]])
        await look("dropped")
        await net.configure(enable=False)
        await net.heal()
        await net.configure(enable=True)
        await look("healed while unplugged")
        async with net.shaped(filter="drop", bandwidth="1Mbit"):
            await look("all dropped")
            await net.configure(rules=[LinkRule.to(other)])
            await look("but the other's IPv4")
        await look("restored")
        async with net.shaped(ingress={"bandwidth": "1Mbit"}):
            await look("slow to arrive")
        try:
            await net.configure(ipv4="16.0.0.1")
        except NetworkRefusedError as refused:
            seen["refused"] = str(refused)
        seen["peers"] = sorted(peer.address for peer in peers)
    Path(os.environ["TEST_OUTPUTS_PATH"], "seen").write_text(json.dumps(seen))

invoke(case)
"""


async def test_what_is_asked_for_is_what_packets_meet(bench: Bench) -> None:
    possible, how = await isolated_network.possible()
    if not possible:
        pytest.skip(how)
    bench.config = LocalExecConfig(network="isolated")
    result = await bench.run(RunGroupInput("g", 2, bench.script("case.py", PLAN, sys.executable)))
    assert result.outcome is Outcome.SUCCESS, bench.notes.text
    for index in range(2):
        seen = json.loads(bench.outputs(index=index).joinpath("seen").read_text())
        assert "16.0.77.7" in seen.pop("peers")
        assert "16.0.0.1 is an address of the data network itself" in seen.pop("refused")
        assert seen == {
            "plain": ["reached"] * 2,
            "rejected": ["EACCES"] * 2,
            "dropped": ["EINVAL"] * 2,  # of a blackhole, as from the original's (contract §4.6)
            "healed while unplugged": ["reached"] * 2,
            "all dropped": ["EINVAL"] * 2,
            "but the other's IPv4": ["reached", "EINVAL"],
            "restored": ["reached"] * 2,
            "slow to arrive": ["reached"] * 2,
        }


@pytest.mark.skipif(os.geteuid() != 0, reason="the test above has run as an ordinary user")
@pytest.mark.skipif(not ordinary_user.possible(), reason="this machine allows user namespaces to root only")
def test_the_same_as_an_ordinary_user(tmp_path: Path) -> None:
    said = ordinary_user.repeat(__file__, tmp_path, "-k", "packets_meet")
    assert "1 passed" in said
