"""Networks of the run's own for the instances of `local:exec`: each has its addresses, and a link that it can shape.

A sidecar process per run makes and changes them. What a plan asks of its network is answered once it is in force, or
with the reason why not.
"""

from __future__ import annotations

import hashlib
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path

import anyio
from anyio import to_thread
from anyio.abc import TaskGroup

from testground.drivers import namespaces, slirp
from testground.errors import RunError
from testground.plugins import RunInput
from testground.runners import hosts, metrics_endpoint, names
from testground.runners.host_network import SYNC_PORT, SYNC_SERVICE, HostNetwork, Place
from testground.runners.hosts import Host
from testground.runners.way_out import WayOut, Wish
from testground.sdk.network import NETWORK_INITIALIZED
from testground.sidecar import addressing
from testground.sidecar.accuracy import measure
from testground.sidecar.client import Change, Sidecar, SidecarError, open_sidecar
from testground.sidecar.misspelt import MOST_WARNINGS
from testground.sync.service import Member

SERVICES = str(addressing.CONTROL[1])
"""Where instances find them."""

LINUX_ONLY = "isolated networks exist on Linux only"

VARIABLES = {
    "REDIS_HOST": hosts.REDIS,
    "SYNC_SERVICE_HOST": SYNC_SERVICE,
    "SYNC_SERVICE_PORT": str(SYNC_PORT),
}


class IsolatedNetwork(HostNetwork):
    """A namespace for each instance, with a link to the services and one to the other instances."""

    sidecar = True
    subnet = str(addressing.DATA)

    def __init__(self, run: RunInput, members: Sequence[Member], *, redis: bool, hosts: Sequence[Host] = ()) -> None:
        super().__init__(run, redis=redis)
        self._hosts = hosts
        self._numbers = {member: number for number, member in enumerate(members)}
        self._hostnames = _hostnames(run.run_id, members)
        self._members = dict(zip(self._hostnames, members, strict=True))
        self._by_address = {
            str(addressing.CONTROL[addressing.FIRST_HOST + number]): member for number, member in enumerate(members)
        }
        self._homes: dict[Member, int] = {}
        self._warned: set[str] = set()
        self._files: Mapping[str, Path] = {}
        self._sidecar: Sidecar
        self._way_out: WayOut
        self._listening: list[socket.socket] = []
        self._influxdb_url = ""  # sdk-go would try for seconds to reach the machine's

    async def check(self) -> None:
        if sys.platform != "linux":
            raise RunError(f'local:exec: network = "isolated": {LINUX_ONLY}')
        if self._hosts and (lack := slirp.missing()):
            raise RunError(f"local:exec: additional_hosts: nothing leads out of isolated networks here: {lack}")

    @asynccontextmanager
    async def running(self, directory: Path) -> AsyncIterator[None]:
        run = self._run
        found = await hosts.resolve(self._hosts, run.output.warn)
        try:
            async with open_sidecar(run.run_id, len(self._numbers)) as self._sidecar:
                await run.sync.open_shared_door(run.run_id, self._sidecar.sync, self._by_address.get)
                if self._redis:
                    await run.sync.open_shared_redis_door(run.run_id, self._sidecar.redis, self._by_address.get)
                else:
                    self._sidecar.redis.close()
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._watch)
                    self._way_out = WayOut(run, self._sidecar, tasks)
                    known = self._names() | await self._open_metrics(tasks) | await self._lead_to(found)
                    nameserver = None if slirp.missing() else slirp.NAMESERVER
                    self._files = await to_thread.run_sync(names.write, directory, known, nameserver)
                    yield
                    tasks.cancel_scope.cancel()
        except SidecarError as error:
            raise RunError(f'local:exec: network = "isolated": {_explained(error)}') from error
        finally:
            for descriptor in self._homes.values():
                os.close(descriptor)
            for listening in self._listening:
                listening.close()

    async def place(self, member: Member, directory: Path) -> Place:
        number = self._numbers[member]
        hostname = self._hostnames[number]
        try:
            network = self._homes[member] = await self._sidecar.add(number, hostname)
        except SidecarError as error:
            raise OSError(0, str(error), "its network") from error
        self._run.sync.service.give_door(member)
        home = namespaces.Home(self._sidecar.user, network, hostname)
        return Place({**VARIABLES, "INFLUXDB_URL": self._influxdb_url}, self._files, home)

    def started(self, member: Member) -> None:
        os.close(self._homes.pop(member))
        self._signal(member, NETWORK_INITIALIZED)

    def configure(self, hostname: str, payload: bytes, answer: Callable[[str], None]) -> None:
        """What an instance has published for its sidecar; `answer` gets why it is refused, once that is known."""
        member = self._members.get(hostname)
        if member is None:
            answer(f"network configuration refused: no instance of this run has the hostname '{hostname[:100]}'")
            return
        done = partial(self._configured, member, answer)
        apply = partial(self._sidecar.configure, hostname, payload.decode("utf-8", "replace"), done)
        self._way_out.admit(Wish(payload, apply, answer))

    def _configured(self, member: Member, answer: Callable[[str], None], change: Change) -> None:
        if change.address:
            self._move(member, change.address)
        for warning in change.warnings:
            self._warn(member, warning)
        answer(f"network configuration refused: {change.error}" if change.error else "")
        if change.state:
            self._signal(member, change.state)

    def _warn(self, member: Member, warning: str) -> None:
        """Once in a run, whoever else does the same."""
        if warning not in self._warned and len(self._warned) < MOST_WARNINGS:
            self._warned.add(warning)
            instance = f"{member.group}[{member.index}]"
            self._run.output.warn(f"local:exec: network configuration: {warning}", instance=instance)

    def _move(self, member: Member, address: str) -> None:
        """The instances find each other by name where they are now."""
        try:
            names.move(self._files[names.HOSTS], self._hostnames[self._numbers[member]], address)
        except OSError as error:
            self._run.output.warn("hostnames lead to earlier addresses", reason=str(error))

    def _signal(self, member: Member, state: str) -> None:
        run = self._run
        key = f"run:{run.run_id}:plan:{run.plan}:case:{run.case}:states:{state}"
        run.sync.service.signal(member, key)

    def _names(self) -> dict[str, str]:
        found = {
            hostname: str(addressing.DATA[addressing.FIRST_HOST + number])
            for number, hostname in enumerate(self._hostnames)
        }
        return dict.fromkeys(hosts.SERVICES, SERVICES) | found

    async def _lead_to(self, found: Mapping[str, IPv4Address]) -> dict[str, str]:
        """Additional hosts at the addresses where instances reach them, by name."""
        beyond = {name: slirp.MACHINE if address.is_loopback else address for name, address in found.items()}
        if beyond:
            addresses = set(beyond.values())
            await self._way_out.open(addresses, loopback=slirp.MACHINE in addresses)
        return {name: str(address) for name, address in beyond.items()}

    async def _open_metrics(self, tasks: TaskGroup) -> dict[str, str]:
        """Where instances find the metrics endpoint, if there is one, by name."""
        url, output = self._run.env.daemon.influxdb_endpoint, self._run.output
        if not url:
            return {}
        try:
            endpoint = metrics_endpoint.parse(url)
            listening = await self._sidecar.listen(endpoint.port)
            self._listening.append(listening)
        except (ValueError, SidecarError) as error:
            output.warn(f"instances cannot reach daemon.influxdb_endpoint; their metrics are in the outputs: {error}")
            return {}
        metrics_endpoint.serve(endpoint, listening, tasks, output)
        self._influxdb_url = endpoint.url
        return {endpoint.name: SERVICES}

    async def _watch(self) -> None:
        await self._sidecar.died.wait()
        raise RunError(await to_thread.run_sync(self._sidecar.obituary))


async def possible() -> tuple[bool, str]:
    """Whether runs can have such networks on this machine, and how, or what would help."""
    if sys.platform != "linux":
        return False, LINUX_ONLY
    try:
        async with open_sidecar("healthcheck", 1) as sidecar:
            os.close(await sidecar.add(0, "healthcheck"))
            beyond = await _way_out(sidecar)
            for listener in (sidecar.sync, sidecar.redis):
                listener.close()
            how = "as root" if sidecar.user is None else "in a user namespace for each run"
    except SidecarError as error:
        return False, _explained(error)
    if obstacle := await namespaces.obstacle(names.HOSTS):
        return False, obstacle
    return True, f"instances can have isolated networks, {how}; {beyond}."


async def _way_out(sidecar: Sidecar) -> str:
    """Whether something leads out of isolated networks here."""
    try:
        async with slirp.opened("healthcheck", sidecar.hub, sidecar.user, loopback=False):
            await sidecar.lead_out(slirp.LINK, slirp.NAMESERVER, ())
    except RunError as error:
        return f"nothing leads out of them (routing_policy, additional_hosts): {error}"
    return "plans can let them out, and additional_hosts are reachable"


async def accuracy() -> tuple[bool, str]:
    """What links do here beside what is asked of them. Nothing to fail for: a machine may be busy just now."""
    possible_here, _ = await possible()
    if not possible_here:
        return True, "not measured, as instances cannot have isolated networks"
    try:
        return True, str(await measure())
    except SidecarError as error:
        return True, f"not measured: {error}"


def _explained(error: SidecarError) -> str:
    return f"{error}. {namespaces.remedy()}" if error.by_kernel else str(error)


def _hostnames(run_id: str, members: Sequence[Member]) -> list[str]:
    """12 hexadecimal digits, as Docker has them, that differ between instances and, in all likelihood, between runs.

    The first is a letter: the C library looks for no name that could be a number.
    """
    digest = hashlib.sha256(run_id.encode())
    start = "abcdef"[digest.digest()[-1] % 6] + digest.hexdigest()[:6]
    return [f"{start}{number:05x}" for number in range(len(members))]
