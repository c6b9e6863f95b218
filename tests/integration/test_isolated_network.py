"""`network = "isolated"` of local:exec: real namespaces, real links, and what becomes of them.

All run as who runs the tests; the last one runs the others once more as an ordinary user, if that is root.
"""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from testground.api import xid
from testground.api.task import Outcome
from testground.errors import RunError
from testground.plugins import RunGroupInput
from testground.runners import isolated_network
from testground.runners.local_run import LocalExecConfig
from testground.sidecar.client import open_sidecar
from testground.sync.service import Member
from tests import ordinary_user
from tests.acceptance.processes import Running, started
from tests.integration.test_local_exec import OK, Bench
from tests.integration.test_local_exec import bench as bench
from tests.namespaces import foreign_namespace, network_namespaces

PLAN = """
import asyncio, json, os, socket, sys
from pathlib import Path
from testground.sdk import Topic, invoke
from testground.errors import SyncError

def note(name, value):
    Path(os.environ["TEST_OUTPUTS_PATH"], name).write_text(json.dumps(value))

async def serve():
    return await asyncio.start_server(lambda reader, writer: writer.close(), "0.0.0.0", 7000)

async def reach(address):
    try:
        _, writer = await asyncio.wait_for(asyncio.open_connection(address, 7000), 3)
        writer.close()
        return "reached"
    except (OSError, TimeoutError) as error:
        return type(error).__name__ + ": " + (os.strerror(error.errno) if getattr(error, "errno", 0) else "")

async def configure(init, host=None, state="configured", **change):
    config = {{"network": "default", "enable": True, "callback_state": state, **change}}
    await init.sync.publish(Topic("network:" + (host or socket.gethostname()), dict), config)
    await init.sync.barrier(state, 1)

async def refusal(init, host=None, **change):
    try:
        await configure(init, host, **change)
    except SyncError as error:
        return str(error)
    return ""

async def meet(init, name):
    await init.sync.signal_and_wait(name, init.env.instance_count)

async def case(env, init):
{body}

invoke(case)
"""


@pytest.fixture
async def isolated(bench: Bench) -> Bench:
    bench.config = LocalExecConfig(network="isolated")
    possible, how = await isolated_network.possible()
    if not possible:
        pytest.skip(how)
    return bench


def plan(bench: Bench, body: str, name: str = "case.py") -> str:
    indented = "".join(f"    {line}\n" for line in body.strip().splitlines())
    return bench.script(name, PLAN.format(body=indented), sys.executable)


async def succeed(bench: Bench, body: str, instances: int = 2) -> None:
    result = await bench.run(RunGroupInput("g", instances, plan(bench, body)))
    assert result.outcome is Outcome.SUCCESS, bench.notes.text


def noted(bench: Bench, name: str, index: int = 0) -> object:
    return json.loads(bench.outputs(index=index).joinpath(name).read_text())


async def test_every_instance_has_a_name_and_two_addresses_of_its_own(isolated):
    await succeed(
        isolated,
        """
import fcntl
def address(link):
    with socket.socket() as probe:
        return socket.inet_ntoa(fcntl.ioctl(probe, 0x8915, link.encode().ljust(256, b"\\0"))[20:24])
note("seen", {
    "links": [name for _, name in socket.if_nameindex()],
    "control": address("eth0"), "data": address("eth1"), "sdk": init.net.get_data_network_ip(),
    "host": socket.gethostname(), "HOSTNAME": os.environ["HOSTNAME"],
    "own": socket.gethostbyname(socket.gethostname()),
    "sync": socket.gethostbyname("testground-sync-service"),
    "subnet": os.environ["TEST_SUBNET"], "sidecar": os.environ["TEST_SIDECAR"],
})
""",
    )
    first, second = noted(isolated, "seen", 0), noted(isolated, "seen", 1)
    assert first["host"] != second["host"]
    for index, seen in enumerate((first, second)):
        host = seen.pop("host")
        assert len(host) == 12 and int(host, 16) and seen.pop("HOSTNAME") == host
        assert set(seen.pop("links")) >= {"lo", "eth0", "eth1"}
        data = f"16.0.0.{index + 2}"
        assert seen == {
            "control": f"192.18.0.{index + 2}",
            "data": data,
            "sdk": data,
            "own": data,
            "sync": "192.18.0.1",
            "subnet": "16.0.0.0/16",
            "sidecar": "true",
        }


async def test_only_the_data_network_and_the_services_are_reachable(isolated):
    await succeed(
        isolated,
        """
server = await serve()
await meet(init, "listening")
note("reached", [await reach(f"{network}.0.{host}") for network in ("16.0", "192.18") for host in (2, 3)])
note("beyond", [await reach(address) for address in ("1.1.1.1", "10.0.0.1")])
await meet(init, "done")
""",
    )
    unreachable = f"OSError: {os.strerror(101)}"
    assert noted(isolated, "reached", 0) == ["reached", "reached", "reached", unreachable]
    assert noted(isolated, "reached", 1) == ["reached", "reached", unreachable, "reached"]
    assert noted(isolated, "beyond") == [unreachable, unreachable]


async def test_everybody_reaches_everybody_at_once(isolated):
    """More pairs than the kernel remembers neighbours."""
    await succeed(
        isolated,
        """
server = await serve()
await meet(init, "listening")
note("missed", [host for host in range(2, 42) if await reach(f"16.0.0.{host}") != "reached"])
await meet(init, "done")
""",
        instances=40,
    )
    assert [noted(isolated, "missed", index) for index in range(40)] == [[]] * 40


async def test_an_address_that_another_instance_had_before(isolated):
    await succeed(
        isolated,
        """
server = await serve()
await meet(init, "listening")
if socket.gethostname().endswith("0"):
    await configure(init, IPv4="16.0.9.9/16", state="left")
await init.sync.barrier("left", 1)
if socket.gethostname().endswith("1"):
    await configure(init, IPv4="16.0.0.2/16", state="taken")
await init.sync.barrier("taken", 1)
note("seen", [await reach("16.0.9.9"), await reach("16.0.0.2")])
await meet(init, "done")
""",
        instances=3,
    )
    assert [noted(isolated, "seen", index) for index in range(3)] == [["reached"] * 2] * 3


async def test_hostnames_follow_their_instances(isolated):
    """Before the change is acknowledged, and in files that are open."""
    await succeed(
        isolated,
        """
hosts = open("/etc/hosts")
names = init.sync.subscribe(Topic("names", str))
await init.sync.publish(Topic("names", str), socket.gethostname())
names = sorted(await names.take(3))
before = hosts.read()
if socket.gethostname() == names[0]:
    await configure(init, IPv4="16.0.111.222/16", state="moved")
await init.sync.barrier("moved", 1)
if socket.gethostname() == names[1]:
    await configure(init, IPv4="16.0.0.2/16", state="followed")
await init.sync.barrier("followed", 1)
hosts.seek(0)
note("seen", [socket.gethostbyname(name) for name in names])
note("length", [len(before), len(hosts.read())])
""",
        instances=3,
    )
    for index in range(3):
        assert noted(isolated, "seen", index) == ["16.0.111.222", "16.0.0.2", "16.0.0.4"]
        before, after = noted(isolated, "length", index)
        assert before == after


def test_no_hostname_could_be_a_number():
    """The C library takes it for an address, a wrong one, and does not look it up."""
    members = [Member("run", "g", index) for index in range(3)]
    names = [name for run in range(300) for name in isolated_network._hostnames(f"run{run}", members)]
    assert len(set(names)) == len(names)
    assert all(len(name) == 12 and int(name, 16) and name[0].isalpha() for name in names)


async def test_an_ordinary_user_may_ping_serve_any_port_and_open_raw_sockets(isolated):
    """As root may, and everybody in a container of Docker."""
    await succeed(
        isolated,
        """
ping = socket.socket(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP)
with socket.create_server(("0.0.0.0", 80)), ping:
    ping.settimeout(5)
    ping.sendto(bytes([8, 0, 0, 0, 0, 0, 0, 1]), ("16.0.0.1", 0))
    note("answer", ping.recv(100)[0])
with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
    raw.settimeout(5)
    raw.sendto(bytes([8, 0, 0xF7, 0xFD, 0, 1, 0, 1]), ("16.0.0.1", 0))
    note("raw", raw.recv(100)[20])
""",
        instances=1,
    )
    assert noted(isolated, "answer") == noted(isolated, "raw") == 0


async def test_the_service_knows_whose_connection_it_is(isolated):
    """Otherwise those who wait for a dead one would wait for ever."""
    script = plan(
        isolated,
        """
if init.global_seq == 1:
    os._exit(3)
await meet(init, "never")
""",
    )
    result = await isolated.run(RunGroupInput("g", 3, script))
    assert str(result) == "outcome = failure (g:0/3)"
    assert isolated.notes.text.count('barrier "never" cannot be met') >= 2


async def test_old_sdks_find_redis(isolated):
    isolated.config = LocalExecConfig(network="isolated", redis=True)
    await succeed(
        isolated,
        """
with socket.create_connection((os.environ["REDIS_HOST"], 6379), timeout=5) as redis:
    redis.sendall(b"*1\\r\\n$4\\r\\nPING\\r\\n")
    note("answer", redis.recv(100).decode())
""",
        instances=1,
    )
    assert noted(isolated, "answer") == "+PONG\r\n"


async def test_a_new_address_is_in_force_when_it_is_acknowledged(isolated):
    await succeed(
        isolated,
        """
server = await serve()
if socket.gethostname().endswith("0"):
    await configure(init, IPv4="16.0.9.9/16", state="moved")
    note("now", init.net.get_data_network_ip())
await init.sync.barrier("moved", 1)
note("reached", [await reach("16.0.9.9"), await reach("16.0.0.2")])
await meet(init, "done")
""",
    )
    assert noted(isolated, "now") == "16.0.9.9"
    new, old = noted(isolated, "reached", 1)
    assert new == "reached" and old != "reached"


async def test_an_instance_leaves_the_network_and_comes_back(isolated):
    await succeed(
        isolated,
        """
server = await serve()
await meet(init, "listening")
if socket.gethostname().endswith("0"):
    seen = [await reach("16.0.0.3")]
    await configure(init, enable=False, state="off")
    seen.append(await reach("16.0.0.3"))
    await init.sync.barrier("looked", 1)
    await configure(init, state="on")
    note("seen", [*seen, await reach("16.0.0.3")])
else:
    await init.sync.barrier("off", 1)
    seen = [await reach("16.0.0.2")]
    await init.sync.signal_entry("looked")
    await init.sync.barrier("on", 1)
    note("seen", [*seen, await reach("16.0.0.2")])
await meet(init, "done")
""",
    )
    without, again = noted(isolated, "seen", 1)
    assert without != "reached" and again == "reached"
    assert noted(isolated, "seen") == ["reached", f"OSError: {os.strerror(101)}", "reached"]


@pytest.mark.parametrize(("filter_", "seen"), [(1, "PermissionError"), (2, "OSError")])
async def test_filters(isolated, filter_, seen):
    await succeed(
        isolated,
        f"""
server = await serve()
await meet(init, "listening")
if socket.gethostname().endswith("0"):
    rule = {{"subnet": "16.0.0.3/32", "filter": {filter_}}}
    await configure(init, rules=[rule], state="cut")
    note("cut", [await reach("16.0.0.3"), await reach("16.0.0.4")])
    await configure(init, rules=[{{**rule, "filter": 0}}], state="healed")
    note("healed", await reach("16.0.0.3"))
await meet(init, "done")
""",
        instances=3,
    )
    blocked, other = noted(isolated, "cut")
    assert blocked.startswith((seen, "OSError", "TimeoutError")) and other == "reached"
    assert noted(isolated, "healed") == "reached"


async def test_what_cannot_be_applied_is_refused_with_its_reason_and_changes_nothing(isolated):
    await succeed(
        isolated,
        """
server = await serve()
await meet(init, "listening")
if socket.gethostname().endswith("0"):
    note("refused", [
        await refusal(init, IPv4="16.0.0.3/16"),
        await refusal(init, IPv4="17.0.0.3/16"),
        await refusal(init, network="other"),
        await refusal(init, default={"latency": "soon"}),
        await refusal(init, host="nobody"),
    ])
    note("after", [init.net.get_data_network_ip(), await reach("16.0.0.3")])
await meet(init, "done")
""",
    )
    conflict, outside, unknown, unreadable, nobody = noted(isolated, "refused")
    assert "16.0.0.3 is the address of another instance" in conflict
    assert "17.0.0.3 is not in the data network 16.0.0.0/16" in outside
    assert "unsupported network: 'other'" in unknown
    assert "latency" in unreadable
    assert "no instance of this run has the hostname 'nobody'" in nobody
    assert noted(isolated, "after") == ["16.0.0.2", "reached"]


async def test_refusals_of_what_is_very_long_reach_their_instance(isolated):
    """What is refused is quoted, and grows by that: no reply to anybody could be sent any more."""
    await succeed(
        isolated,
        """
refusals = [await refusal(init, IPv4="1.1.1." + chr(127) * 30_000 + "/8"), await refusal(init, network="other")]
note("refusals", refusals)
""",
        instances=1,
    )
    first, second = noted(isolated, "refusals")
    assert "Only decimal digits permitted" in first and len(first) < 5000
    assert "unsupported network: 'other'" in second


async def test_a_number_that_no_machine_number_holds(isolated):
    await succeed(isolated, 'note("refusal", await refusal(init, default={"loss": 10**400}))', instances=1)
    assert "default.loss: at most 100 is needed" in noted(isolated, "refusal")


async def test_members_that_nothing_reads_are_told_once_and_change_nothing(isolated):
    await succeed(
        isolated,
        """
for number in (1, 2):
    await configure(init, state=f"done{number}-{init.global_seq}", callback_target=1, latency=5,
        default={"bandwith": 5}, rules=[{"subnet": "16.0.0.9/32", "fliter": 2}], routing_policy="nonsense")
await configure(init, state=f"many-{init.global_seq}", **{f"extra{number}": 1 for number in range(50)})
""",
    )
    warnings = [line for line in isolated.notes.text.splitlines() if line.startswith("WARN")]
    start = "WARN local:exec: network configuration: "
    assert all(line.startswith(start) and line.endswith(("'g[0]'}", "'g[1]'}")) for line in warnings)
    told = [line.removeprefix(start).partition(" {")[0] for line in warnings]
    assert told[0] == "routing_policy 'nonsense' counts as 'deny_all'; there is: allow_all, deny_all"
    assert told[1].startswith("unknown member 'latency'; there is: IPv4, ")
    assert told[2:4] == [
        "unknown member 'default.bandwith'; did you mean 'bandwidth'?",
        "unknown member 'rules[].fliter'; did you mean 'filter'?",
    ]
    assert len(told) == len(set(told)) == 20


async def test_configurations_of_one_instance_are_applied_in_their_order(isolated):
    await succeed(
        isolated,
        """
changes = [configure(init, IPv4=f"16.0.7.{k}/16", state=f"change{k}") for k in range(2, 22)]
await asyncio.gather(*changes)
note("last", init.net.get_data_network_ip())
""",
        instances=1,
    )
    assert noted(isolated, "last") == "16.0.7.21"


async def test_a_plan_cannot_change_its_own_links_and_routes(isolated):
    """Not even as root: what a run's networks are is the sidecar's to say."""
    await succeed(
        isolated,
        """
import fcntl, struct
await meet(init, "started")
refused = []
with socket.socket() as probe:
    for change, target in ((0x8914, b"eth1"), (0x8916, b"eth1"), (0x890B, b""), (0x890C, b"")):  # up, address, routes
        try:
            fcntl.ioctl(probe, change, struct.pack("16sh118x", target, 0))
        except OSError as error:
            refused.append(type(error).__name__)
note("refused", refused)
server = await serve()
await meet(init, "tried")
note("reached", [await reach(f"16.0.0.{host}") for host in (2, 3)])
await meet(init, "ended")
""",
    )
    assert noted(isolated, "refused") == ["PermissionError"] * 4
    assert noted(isolated, "reached") == ["reached"] * 2


async def test_two_runs_do_not_meet(isolated, tmp_path):
    """They have the same addresses, at the same time."""
    body = """
server = await serve()
await meet(init, "listening")
note("reached", [await reach(f"16.0.0.{host}") for host in range(2, 5)])
await meet(init, "done")
"""
    script = plan(isolated, body)
    other = Bench(tmp_path)
    other.config = isolated.config
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(isolated.run, RunGroupInput("g", 3, script))
        tasks.start_soon(other.run, RunGroupInput("g", 2, script))
    assert noted(isolated, "reached") == ["reached"] * 3
    assert noted(other, "reached")[:2] == ["reached"] * 2 and noted(other, "reached")[2] != "reached"


@pytest.mark.timeout(120)
async def test_daemons_of_two_homes_do_not_meet(isolated, tmp_path):
    """Nor do they touch a namespace that is nobody's of them."""
    with foreign_namespace() as foreign, contextlib.ExitStack() as daemons:
        commands = []
        for name, count in (("one", 2), ("two", 3)):
            home = tmp_path / name
            write_plan(home / "plans" / "meet")
            daemons.enter_context(started(home))
            commands.append(daemons.enter_context(Running(home, home, *RUN_MEETING, "-i", str(count))))
        for command in commands:
            done = await anyio.to_thread.run_sync(command.finish)
            assert done.exit_code == 0, done.stdout + done.stderr
        assert network_namespaces() >= {foreign}


ISOLATED = ("--run-cfg", "network=isolated")
RUN_MEETING = ("run", "single", "-p", "meet", "-t", "ok", "-b", "exec:generic", "-r", "local:exec", "--wait", *ISOLATED)


def write_plan(directory: Path) -> None:
    """Its instances reach each other, and find that there are no others."""
    directory.mkdir(parents=True)
    directory.joinpath("manifest.toml").write_text(
        'name = "meet"\n[builders."exec:generic"]\nartifact = "meet.py"\n[runners."local:exec"]\n'
        '[[testcases]]\nname = "ok"\ninstances = { min = 2, max = 3 }\n'
    )
    body = """
server = await serve()
await meet(init, "listening")
reached = [await reach(f"16.0.0.{host}") for host in range(2, 6)]
await meet(init, "counted")
assert reached.count("reached") == env.instance_count, reached
"""
    indented = "".join(f"    {line}\n" for line in body.strip().splitlines())
    artifact = directory / "meet.py"
    artifact.write_text(f"#!{sys.executable}\n{PLAN.format(body=indented)}")
    artifact.chmod(0o755)


def sidecar_of(run_id: str) -> int:
    """The process id."""
    mark = f"TESTGROUND_TASK={run_id}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if mark in entry.joinpath("environ").read_bytes():
                    return int(entry.name)
            except OSError:
                continue
    raise AssertionError(f"no sidecar process of run {run_id}")


@pytest.mark.timeout(120)
async def test_a_run_whose_sidecar_is_killed_fails_within_a_second_and_says_so(isolated):
    """The best of three, as the machine may be busy with something else."""
    took = [await end_of_a_run_without_sidecar(isolated) for _ in range(3)]
    assert min(took) < 1


async def end_of_a_run_without_sidecar(isolated: Bench) -> float:
    """Seconds from the death of the sidecar to the end of the run."""
    ended = 0.0

    async def run() -> None:
        nonlocal ended
        with pytest.raises(RunError, match=r"the sidecar process of this run was killed by SIGKILL"):
            await isolated.shell("echo hanging; exec sleep 1000", instances=3)
        ended = time.monotonic()

    isolated.run_id, isolated.notes.text = xid.new(), ""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        for index in range(3):
            await isolated.notes.until(f"<< g[{index:03}] >> hanging")
        killed = time.monotonic()
        os.kill(sidecar_of(isolated.run_id), signal.SIGKILL)
    return ended - killed


async def test_a_sidecar_that_is_killed_while_instances_start(isolated, monkeypatch):
    added = isolated_network.Sidecar.add

    async def add(sidecar, number, hostname):
        if number == 5:
            os.kill(sidecar_of(isolated.run_id), signal.SIGKILL)
        return await added(sidecar, number, hostname)

    monkeypatch.setattr(isolated_network.Sidecar, "add", add)
    with pytest.raises(RunError, match="killed by SIGKILL"):
        await isolated.shell("exec sleep 1000", instances=40)


async def test_a_sidecar_that_is_stopped_fails_its_run(isolated, monkeypatch):
    """It neither dies nor answers, and instances on their way into the world cannot be cancelled."""
    monkeypatch.setattr("testground.sidecar.conversation.ANSWER_DEADLINE", 0.5)
    monkeypatch.setattr("testground.sidecar.client.END_DEADLINE", 0.5)
    added = isolated_network.Sidecar.add

    async def add(sidecar, number, hostname):
        if number == 5:
            os.kill(sidecar_of(isolated.run_id), signal.SIGSTOP)
        return await added(sidecar, number, hostname)

    monkeypatch.setattr(isolated_network.Sidecar, "add", add)
    with pytest.raises(RunError, match=r"the sidecar process of this run has not answered for 0\.5 seconds"):
        await isolated.shell("exec sleep 1000", instances=40)
    with pytest.raises(AssertionError, match="no sidecar process"):
        sidecar_of(isolated.run_id)


async def test_a_sidecar_that_cannot_even_start(isolated, monkeypatch):
    monkeypatch.setattr("testground.sidecar.client._PROGRAM", "raise RuntimeError('broken')")
    with pytest.raises(RunError, match="exited with code 1: RuntimeError: broken"):
        await isolated.shell(OK)


async def test_a_run_that_ends_while_the_sidecar_opens_a_port_keeps_no_descriptor():
    if not (await isolated_network.possible())[0]:
        pytest.skip("instances cannot have isolated networks here")
    async with open_sidecar("test", 1) as sidecar:
        with sidecar.sync, sidecar.redis:
            before, opened = set(os.listdir("/proc/self/fd")), []
            with anyio.CancelScope() as run:
                run.cancel()
                opened.append(await sidecar.listen(8000))
            opened.append(await sidecar.listen(8001))
            for listening in opened:
                listening.close()
            assert set(os.listdir("/proc/self/fd")) == before


async def test_an_instance_that_dies_within_a_change_of_its_network(isolated):
    script = plan(
        isolated,
        """
if socket.gethostname().endswith("0"):
    for k in range(50):
        asyncio.ensure_future(configure(init, IPv4=f"16.0.7.{k + 2}/16", state="moved"))
    await asyncio.sleep(0)
    os._exit(3)
await configure(init, IPv4="16.0.8.8/16", state="other")
""",
    )
    result = await isolated.run(RunGroupInput("g", 2, script))
    assert str(result) == "outcome = failure (g:1/2)"
    assert "code 3" in result.failures[0].reason


async def test_nothing_is_left_of_a_run(isolated):
    before = network_namespaces()
    await isolated.shell(f"readlink /proc/self/ns/net; {OK}", instances=2)
    assert network_namespaces() <= before
    with pytest.raises(AssertionError, match="no sidecar process"):
        sidecar_of(isolated.run_id)


async def test_a_machine_that_forbids_it_says_which_setting_to_change(isolated, monkeypatch):
    settings = {"user.max_net_namespaces": (Path("/proc/sys/user/max_net_namespaces").read_text().strip(), "10000")}
    monkeypatch.setattr(isolated_network.namespaces, "_SETTINGS", settings)
    monkeypatch.setattr("testground.sidecar.client._PROGRAM", REFUSING)
    with pytest.raises(RunError) as caught:
        await isolated.shell(OK)
    assert "this machine refuses a user namespace (Operation not permitted)" in str(caught.value)
    assert "run 'sysctl -w user.max_net_namespaces=10000' as root" in str(caught.value)


REFUSING = """
import errno, sys
sys.path[:] = sys.argv[3].split("\\n")
from testground.drivers import launcher
def unshare(what, flags):
    raise launcher.Failed(what, errno.EPERM)
launcher.unshare = unshare
from testground.sidecar import __main__
__main__.main(int(sys.argv[1]), int(sys.argv[2]))
"""


async def test_more_instances_than_one_bridge_has_ports(isolated, monkeypatch):
    """Instances on different bridges are neighbours all the same."""
    monkeypatch.setattr("testground.sidecar.client._PROGRAM", FEW_PORTS)
    await succeed(
        isolated,
        """
server = await serve()
await meet(init, "listening")
note("reached", [await reach(f"16.0.0.{host}") for host in range(2, 9)])
await meet(init, "done")
""",
        instances=7,
    )
    assert [noted(isolated, "reached", index) for index in range(7)] == [["reached"] * 7] * 7


@pytest.mark.slow
@pytest.mark.timeout(180)
async def test_1200_instances_on_one_data_network(isolated):
    first = plan(
        isolated,
        """
server = await serve()
await init.sync.signal_and_wait("listening", 2)
await init.sync.barrier("reached", 1)
""",
        "first.py",
    )
    last = plan(
        isolated,
        """
await init.sync.signal_and_wait("listening", 2)
note("seen", [init.net.get_data_network_ip(), await reach("16.0.0.2")])
await init.sync.signal_entry("reached")
""",
        "last.py",
    )
    between = RunGroupInput("many", 1198, isolated.script("many.sh", OK))
    groups = (RunGroupInput("g", 1, first), between, RunGroupInput("last", 1, last))
    result = await isolated.run(*groups, timeout=150)
    assert str(result) == "outcome = success (g:1/1 last:1/1 many:1198/1198)"
    assert json.loads(isolated.outputs("last").joinpath("seen").read_text()) == ["16.0.4.177", "reached"]


FEW_PORTS = """
import sys
sys.path[:] = sys.argv[3].split("\\n")
from testground.sidecar import __main__, topology
topology.PORTS = 3
__main__.main(int(sys.argv[1]), int(sys.argv[2]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="the tests above have run as an ordinary user")
@pytest.mark.skipif(not ordinary_user.possible(), reason="this machine allows user namespaces to root only")
@pytest.mark.timeout(180)
def test_all_of_this_as_an_ordinary_user(tmp_path):
    said = ordinary_user.repeat(__file__, tmp_path, "-m", "not slow")
    assert "1 skipped" in said, "only this test does not run there"
