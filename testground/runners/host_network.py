"""The machine's own network, where the instances of `local:exec` live: as it is, or with what a sidecar would do.

With `sidecar = true` plans run that need a sidecar to start: the network counts as initialised, and the sync service
has the name and port that SDKs take for granted. Each instance has its door at a loopback address of its own, so no two
runs or daemons meet at that port. Nothing shapes the network: configurations are refused.
"""

from __future__ import annotations

import errno
import platform
import random
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from anyio import to_thread

from testground.drivers import namespaces
from testground.errors import RunError
from testground.plugins import RunInput
from testground.runners import names
from testground.sdk.network import NETWORK_INITIALIZED
from testground.sync.service import Member

SYNC_SERVICE, SYNC_PORT = "testground-sync-service", 5050
"""What sdk-rust connects to, and other SDKs when nobody tells them better (contract §1.4)."""

ADDRESSES_TRIED = 20

REFUSAL = (
    "network configuration refused: this runner shapes no network; the instances share that of their machine "
    '(local:exec, network = "host")'
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where an instance lives: variables that lead to its doors, and what it finds at some of the machine's paths."""

    variables: dict[str, str]
    files: Mapping[str, Path] = field(default_factory=dict)
    home: namespaces.Home | None = None
    """The namespaces that it lives in, when they are not the machine's."""


class HostNetwork:
    """The machine's network as it is."""

    sidecar = False
    subnet = "127.1.0.0/16"

    def __init__(self, run: RunInput, *, redis: bool) -> None:
        self._run, self._redis = run, redis

    async def check(self) -> None:
        """Raises `RunError` when instances cannot live here."""

    @asynccontextmanager
    async def running(self, directory: Path) -> AsyncIterator[None]:
        """Around the whole of the run; `directory` is its own."""
        yield

    async def place(self, member: Member, directory: Path) -> Place:
        """Open the doors of an instance that is about to start; `directory` is its own. Raises `OSError`."""
        sync = self._run.sync
        return Place(await self._variables(member, sync.host, await sync.open_door(member)))

    def started(self, member: Member) -> None:
        """The instance runs."""

    def configure(self, hostname: str, payload: bytes, answer: Callable[[str], None]) -> None:
        """What was published for a sidecar; there is none. `answer` gets the reason why it is refused, or nothing."""
        answer("")

    async def _variables(self, member: Member, host: str, port: int) -> dict[str, str]:
        variables = {
            "INFLUXDB_URL": self._run.env.daemon.influxdb_endpoint,
            "REDIS_HOST": "localhost",
            "SYNC_SERVICE_HOST": host,
            "SYNC_SERVICE_PORT": str(port),
        }
        if self._redis:
            variables["REDIS_HOST"] = self._run.sync.host
            variables["REDIS_PORT"] = str(await self._run.sync.open_redis_door(member))
        return variables


class HostSidecar(HostNetwork):
    """The machine's network, with what a sidecar does at the start of an instance."""

    sidecar = True
    subnet = "127.0.0.0/8"
    """SDKs look for an interface with an address in it, and find 127.0.0.1 (contract §4.2)."""

    async def check(self) -> None:
        if obstacle := await namespaces.obstacle(names.HOSTS):
            raise RunError(
                f"local:exec: sidecar = true needs a {names.HOSTS} for each instance: {obstacle}. "
                "Without this option, plans run that need no sidecar"
            )
        try:
            with socket.create_server((_any_address(), SYNC_PORT)):
                return
        except OSError as error:
            raise RunError(
                f"local:exec: sidecar = true needs port {SYNC_PORT} at loopback addresses: {error.strerror}. "
                "A program that listens on all addresses takes it, such as another sync service; let that one "
                "listen on localhost"
            ) from error

    async def place(self, member: Member, directory: Path) -> Place:
        address = await self._door(member)
        known = {SYNC_SERVICE: address, platform.node(): "127.0.0.1"}
        variables = await self._variables(member, address, SYNC_PORT)
        return Place(variables, await to_thread.run_sync(names.write, directory, known))

    def started(self, member: Member) -> None:
        run = self._run
        state = f"run:{run.run_id}:plan:{run.plan}:case:{run.case}:states:{NETWORK_INITIALIZED}"
        run.sync.service.signal(member, state)

    def configure(self, hostname: str, payload: bytes, answer: Callable[[str], None]) -> None:
        answer(REFUSAL)

    async def _door(self, member: Member) -> str:
        for tries_left in reversed(range(ADDRESSES_TRIED)):
            address = _any_address()
            try:
                await self._run.sync.open_door(member, address, SYNC_PORT)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or not tries_left:
                    raise OSError(error.errno, error.strerror or str(error), f"{address}:{SYNC_PORT}") from error
            else:
                break
        return address


def _any_address() -> str:
    """Of the 16 million of loopback, none of those that programs like to use."""
    return f"127.{random.randint(2, 254)}.{random.randint(0, 255)}.{random.randint(1, 254)}"
