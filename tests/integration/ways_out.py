"""What leads out of isolated networks, in a world whose addresses, names and servers are known (`tests/world.py`).

`test_way_out.py` runs all this, as root and as an ordinary user.
"""

import contextlib
import http.server
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from testground.drivers import leftovers, slirp
from testground.errors import RunError
from testground.plugins import RunGroupInput
from testground.runners import isolated_network, metrics_endpoint
from testground.runners.local_run import LocalExecConfig
from tests import world
from tests.acceptance.processes import Running, started
from tests.integration.test_isolated_network import ISOLATED, noted, plan, sidecar_of, succeed
from tests.integration.test_isolated_network import isolated as isolated
from tests.integration.test_local_exec import OK, Bench
from tests.integration.test_local_exec import bench as bench

TOOLS = f"""
import ssl, time, urllib.request
def outcome(call):
    started = time.monotonic()
    try:
        return call()
    except OSError as error:
        assert time.monotonic() - started < 2, error  # it does not hang, wherever it may not go
        return type(getattr(error, "reason", error)).__name__
def get(url="{world.PAGE}"):
    def fetch():
        context = ssl._create_unverified_context()
        with urllib.request.urlopen(url, timeout=5, context=context if url.startswith("https") else None) as answer:
            return answer.read().decode()
    return outcome(fetch)
def look_up(name="page.example"):
    return outcome(lambda: socket.gethostbyname(name))
def connect(address, port):
    return outcome(lambda: socket.create_connection((address, port), 5).close() or "reached")
async def policy(init, name, state):
    await configure(init, routing_policy=name, state=state)
"""
HELLO = world.HELLO.decode()


async def carry_out(bench: Bench, body: str, instances: int = 1) -> None:
    await succeed(bench, TOOLS + body, instances)


def slirps() -> list[int]:
    """Process ids of those that live in this world."""
    mine, found = os.readlink("/proc/self/ns/net"), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                name = entry.joinpath("comm").read_text().strip()
                if name == slirp.PROGRAM and os.readlink(entry / "ns/net") == mine:
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


async def test_allow_all_leads_out_by_name_and_deny_all_does_not(isolated):
    await carry_out(
        isolated,
        f"""
seen = [get(), look_up(), connect("{world.WEB}", {world.PORT})]
await policy(init, "allow_all", "allowed")
seen += [get(), look_up("nobody.example"), connect("{world.WEB}", {world.PORT})]
await policy(init, "deny_all", "denied")
seen += [get(), look_up(), connect("{world.WEB}", {world.PORT})]
await policy(init, "allow_all", "again")
seen += [get()]
note("seen", seen)
await meet(init, "the services are there")
""",
    )
    shut = ["gaierror", "gaierror", "OSError"]
    assert noted(isolated, "seen") == [*shut, HELLO, "gaierror", "reached", *shut, HELLO]
    assert not slirps()


async def test_a_run_that_stays_inside_starts_nothing(isolated):
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(isolated.shell, f"echo looking; read go < {isolated.tmp_path}/go; {OK}")
        os.mkfifo(isolated.tmp_path / "go")
        await isolated.notes.until("looking")
        assert not slirps()
        await anyio.to_thread.run_sync(isolated.tmp_path.joinpath("go").write_text, "go\n")


async def test_many_instances_go_out_at_once(isolated):
    """More than slirp4netns remembers neighbours."""
    await carry_out(
        isolated,
        f"""
await policy(init, "allow_all", f"allowed{{init.global_seq}}")
await meet(init, "all out")
note("seen", [await asyncio.to_thread(get, "http://{world.WEB}:{world.PORT}/") for _ in range(3)])
""",
        instances=40,
    )
    assert [noted(isolated, "seen", index) for index in range(40)] == [[HELLO] * 3] * 40


async def test_the_machines_own_services_stay_out_of_reach(isolated):
    """Neither its loopback addresses nor, at the nameserver's, anything but names."""
    await carry_out(
        isolated,
        f"""
await policy(init, "allow_all", "allowed")
note("seen", [connect("{slirp.MACHINE}", {world.PORT}), connect("{slirp.NAMESERVER}", {world.PORT}), look_up()])
""",
    )
    machine, nameserver, name = noted(isolated, "seen")
    assert machine == nameserver == "OSError" and name == world.WEB


async def test_what_is_disabled_is_not_reached_by_way_of_the_hub(isolated):
    await carry_out(
        isolated,
        """
server = await serve()
await policy(init, "allow_all", f"allowed{init.global_seq}")
await meet(init, "listening")
if socket.gethostname().endswith("0"):
    await configure(init, enable=False, routing_policy="allow_all", state="off")
    note("seen", [await reach("16.0.0.3"), await reach("192.18.0.3"), get()])
await meet(init, "done")
""",
        instances=2,
    )
    assert noted(isolated, "seen") == [f"OSError: {os.strerror(101)}", "reached", HELLO]


async def test_additional_hosts_are_reachable_whatever_the_policy(isolated):
    wanted = ("database.example", f"web={world.WEB}", "nobody.example", "inside.example")
    isolated.config = LocalExecConfig(network="isolated", additional_hosts=wanted)
    await carry_out(
        isolated,
        f"""
def reached():
    return [get("http://database.example:{world.PORT}/"), connect("web", 443), look_up("web"), look_up(),
            connect("{world.NAMESERVER}", {world.PORT}), look_up("nobody.example")]
note("first", reached())
await policy(init, "deny_all", "denied")
note("denied", reached())
await policy(init, "allow_all", "allowed")
note("allowed", reached())
await policy(init, "deny_all", "denied again")
note("last", reached())
await configure(init, rules=[{{"subnet": "0.0.0.0/0", "filter": 2}}], state="walled off")
note("walled off", reached())
await configure(init, rules=[{{"subnet": "{world.WEB}/32", "filter": 1}}], state="this one, too")
note("rejected", connect("web", 443))
""",
    )
    assert noted(isolated, "rejected") == "PermissionError"
    known = [HELLO, "reached", world.WEB]
    for state in ("first", "denied", "last", "walled off"):
        assert noted(isolated, state) == [*known, "gaierror", "OSError", "gaierror"]
    assert noted(isolated, "allowed") == [*known, world.WEB, "reached", "gaierror"]
    assert isolated.notes.text.count("additional_hosts: 'nobody.example' is left out") == 1
    assert "'inside.example' is left out, as its address cannot be found: 16.0.0.9 lies in" in isolated.notes.text


async def test_a_service_of_this_machine_as_an_additional_host(isolated):
    isolated.config = LocalExecConfig(network="isolated", additional_hosts=("service=127.0.0.1",))
    await carry_out(
        isolated,
        f"""
note("seen", [get("http://service:{world.PORT}/"), look_up("service"), connect("{world.WEB}", {world.PORT})])
""",
    )
    assert noted(isolated, "seen") == [HELLO, str(slirp.MACHINE), "OSError"]


class Metrics(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        size = int(self.headers["Content-Length"])
        self.server.written.append((self.path, self.headers["Host"], self.rfile.read(size)))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format, *args):
        """Nobody reads it."""


WRITE = """
request = urllib.request.Request(os.environ["INFLUXDB_URL"] + "/write?db=testground", b"point value=1 1")
note("status", outcome(lambda: urllib.request.urlopen(request, timeout=5).status))
note("url", os.environ["INFLUXDB_URL"])
"""


def send_metrics_to(bench: Bench, url: str) -> None:
    daemon = bench.env.daemon.model_copy(update={"influxdb_endpoint": url})
    bench.env = bench.env.model_copy(update={"daemon": daemon})


@pytest.mark.parametrize("address", ["127.0.0.1", world.DATABASE])
async def test_the_metrics_endpoint_is_a_service_of_the_run(isolated, address):
    with http.server.ThreadingHTTPServer((address, 0), Metrics) as server:
        server.written = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        send_metrics_to(isolated, f"http://{address}:{server.server_port}/base")
        await carry_out(isolated, WRITE)
        server.shutdown()
    here = f"{metrics_endpoint.NAME}:{server.server_port}"
    assert noted(isolated, "url") == f"http://{here}/base" and noted(isolated, "status") == 204
    written, of_the_sdk = server.written
    assert written == ("/base/write?db=testground", here, b"point value=1 1")
    assert of_the_sdk[0].startswith("/base/write?") and b"event_type=success_event" in of_the_sdk[2]
    assert not slirps()


async def test_a_metrics_endpoint_that_does_not_answer(isolated):
    send_metrics_to(isolated, "http://127.0.0.1:9")
    await carry_out(isolated, WRITE + WRITE)
    assert isolated.notes.text.count("daemon.influxdb_endpoint does not answer: 127.0.0.1:9: Connection refused") == 1


async def test_a_metrics_endpoint_at_the_port_of_another_service(isolated):
    send_metrics_to(isolated, "http://127.0.0.1:5050")
    await isolated.shell(f"echo url=$INFLUXDB_URL.; {OK}")
    assert "url=.\n" in isolated.notes.text
    assert "cannot reach daemon.influxdb_endpoint; their metrics are in the outputs: " in isolated.notes.text


async def test_a_way_out_that_is_killed_is_lost_with_that_reason(isolated):
    script = plan(
        isolated,
        TOOLS
        + f"""
await policy(init, "allow_all", "allowed")
env.record_message("out")
with open("{isolated.tmp_path}/go") as go:
    go.read()
refused = await refusal(init, routing_policy="allow_all")
await policy(init, "deny_all", "denied")
note("seen", [get("http://{world.WEB}:{world.PORT}/"), look_up(), refused])
""",
    )
    os.mkfifo(isolated.tmp_path / "go")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(isolated.run, RunGroupInput("g", 1, script))
        await isolated.notes.until(">> out")
        for pid in slirps():
            os.kill(pid, signal.SIGKILL)
        await isolated.notes.until("slirp4netns was killed by SIGKILL")
        await anyio.to_thread.run_sync(isolated.tmp_path.joinpath("go").write_text, "go\n")
    web, name, refused = noted(isolated, "seen")
    assert web == "OSError" and name == "gaierror"
    assert "the way out of this run's networks is gone: slirp4netns was killed by SIGKILL" in refused


def fake(bench: Bench, monkeypatch, text: str) -> None:
    """Another program of that name, which fails."""
    directory = bench.tmp_path / "bin"
    directory.mkdir()
    directory.joinpath(slirp.PROGRAM).symlink_to(bench.script("fake.sh", text))
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")


FAILING = {
    "exec sleep 1000": "slirp4netns was not ready within 0.3 seconds",
    "echo it is broken >&2; exit 3": "slirp4netns exited with code 3: it is broken",
}


@pytest.mark.parametrize("text", FAILING)
async def test_a_way_out_that_does_not_open(isolated, monkeypatch, text):
    fake(isolated, monkeypatch, text)
    monkeypatch.setattr(slirp, "READY_SECONDS", 0.3)
    await carry_out(
        isolated,
        """
server = await serve()
changes = [refusal(init, routing_policy="allow_all"), refusal(init, IPv4="16.0.7.7/16")]
note("refused", await asyncio.gather(*changes))
note("again", await refusal(init, routing_policy="allow_all"))
note("address", init.net.get_data_network_ip())
""",
    )
    first, other = noted(isolated, "refused")
    assert first == noted(isolated, "again") and first.endswith(FAILING[text]) and other == ""
    assert noted(isolated, "address") == "16.0.7.7"
    isolated.config = LocalExecConfig(network="isolated", additional_hosts=(f"web={world.WEB}",))
    with pytest.raises(RunError, match="additional_hosts: .*" + FAILING[text]):
        await isolated.shell(OK)


async def test_without_the_program_the_run_is_warned_once(isolated, monkeypatch):
    monkeypatch.setattr(slirp, "PROGRAM", "slirp4netns-that-is-not-installed")
    await carry_out(
        isolated,
        """
server = await serve()
await policy(init, "allow_all", f"allowed{init.global_seq}")
await meet(init, "allowed")
note("seen", [await reach("192.18.0.2"), await reach("192.18.0.3"), get(), look_up()])
await meet(init, "done")
""",
        instances=2,
    )
    assert noted(isolated, "seen") == ["reached", "reached", "gaierror", "gaierror"]
    assert isolated.notes.text.count("slirp4netns-that-is-not-installed is not installed: install the package") == 1
    isolated.config = LocalExecConfig(network="isolated", additional_hosts=("web",))
    with pytest.raises(RunError, match="additional_hosts: .* is not installed: install the package"):
        await isolated.shell(OK)
    possible, how = await isolated_network.possible()
    assert possible and "nothing leads out of them" in how and "is not installed" in how


async def test_without_the_device_that_is_said(isolated, monkeypatch):
    monkeypatch.setattr(slirp, "DEVICE", isolated.tmp_path / "tun")
    assert "tun is missing: load the kernel's module tun" in slirp.missing()


async def test_the_healthcheck_says_that_there_is_a_way_out(isolated):
    possible, how = await isolated_network.possible()
    assert possible and "plans can let them out, and additional_hosts are reachable" in how
    assert not slirps()


async def test_nothing_is_left_when_the_sidecar_is_killed(isolated):
    script = plan(
        isolated, TOOLS + "await policy(init, 'allow_all', 'allowed')\nenv.record_message('out')\ntime.sleep(99)"
    )

    async def run() -> None:
        with pytest.raises(RunError, match="the sidecar process of this run was killed by SIGKILL"):
            await isolated.run(RunGroupInput("g", 1, script))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await isolated.notes.until(">> out")
        assert slirps()
        os.kill(sidecar_of(isolated.run_id), signal.SIGKILL)
    assert not slirps()


HOLDER = """
import sys, anyio
sys.path.insert(0, sys.argv[1])
from testground.drivers import slirp
from testground.sidecar.client import open_sidecar
async def hold():
    async with open_sidecar("held-by-a-test", 1) as sidecar:
        async with slirp.opened("held-by-a-test", sidecar.hub, sidecar.user, loopback=False) as way:
            print(way.pid, flush=True)
            await anyio.sleep_forever()
anyio.run(hold)
"""


@contextlib.contextmanager
def held() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process with a way out, and the process id of that; nobody else looks after it."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(world.CHECKOUT)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process, int(process.stdout.readline())
        finally:
            process.kill()


def ended(pidfd: int, seconds: float) -> bool:
    return bool(select.select([pidfd], [], [], seconds)[0])


def test_it_ends_with_who_opened_it_even_by_kill_9():
    with held() as (holder, pid):
        pidfd = os.pidfd_open(pid)
        holder.kill()
        assert ended(pidfd, 2), "slirp4netns outlives the process that opened it"
        os.close(pidfd)


def test_it_is_found_among_what_a_task_has_left():
    with held() as (_, pid):
        assert pid in leftovers.kill(["held-by-a-test"])


RUN = ("run", "single", "-p", "out", "-t", "ok", "-b", "exec:generic", "-r", "local:exec", "-i", "1", "--wait")


@pytest.mark.timeout(120)
def test_a_daemon_that_is_killed_leaves_no_way_out(tmp_path):
    home, plans = tmp_path / "home", tmp_path / "home" / "plans" / "out"
    plans.mkdir(parents=True)
    plans.joinpath("manifest.toml").write_text(
        'name = "out"\n[builders."exec:generic"]\nartifact = "out.sh"\n[runners."local:exec"]\n'
        'additional_hosts = ["nobody.example"]\n[[testcases]]\nname = "ok"\ninstances = { min = 1, max = 1 }\n'
    )
    script = plans / "out.sh"
    script.write_text("#!/bin/sh\ngrep database.example /etc/hosts\necho reading; exec sleep 1000\n")
    script.chmod(0o755)
    wanted = f"additional_hosts=database.example,web={world.WEB}"
    with started(home) as daemon, Running(home, home, *RUN, *ISOLATED, "--run-cfg", wanted) as command:
        command.read_until("reading")
        pidfds = [os.pidfd_open(pid) for pid in slirps()]
        assert len(pidfds) == 1
        daemon.process.kill()
        assert ended(pidfds[0], 5)
        os.close(pidfds[0])
        said = command.finish()
    assert f"{world.DATABASE}" in said.stdout and "nobody.example" not in said.stdout
    with started(home):
        assert not slirps()


@pytest.mark.timeout(120)
def test_a_bad_host_in_a_command_is_refused_with_its_option(tmp_path):
    plan_directory = tmp_path / "plans" / "out"
    plan_directory.mkdir(parents=True)
    plan_directory.joinpath("manifest.toml").write_text(
        'name = "out"\n[builders."exec:generic"]\nartifact = "out.sh"\n[runners."local:exec"]\n'
        '[[testcases]]\nname = "ok"\ninstances = { min = 1, max = 1 }\n'
    )
    script = plan_directory / "out.sh"
    script.write_text(f"#!/bin/sh\n{OK}")
    script.chmod(0o755)
    with Running(tmp_path, tmp_path, *RUN, "--run-cfg", "additional_hosts=a,10.0.0.7") as command:
        said = command.finish()
    assert said.exit_code != 0
    assert (
        "local:exec: additional_hosts: '10.0.0.7': 10.0.0.7 is an address; give it a name" in said.stdout + said.stderr
    )


async def test_on_the_machines_network_additional_hosts_are_a_warning(bench):
    bench.config = LocalExecConfig(additional_hosts=("database.example",))
    await bench.shell(OK)
    assert bench.notes.text.count('additional_hosts is for network = "isolated"') == 1
