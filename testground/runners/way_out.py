"""The way from a run's isolated networks to the world: opened when it is first needed, closed with the run.

Runs that need none pay nothing. While it opens, what instances ask of their networks waits, in its order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from ipaddress import IPv4Address

import anyio
from anyio.abc import TaskGroup, TaskStatus

from testground.drivers import slirp
from testground.errors import RunError
from testground.plugins import RunInput
from testground.sidecar.client import Sidecar
from testground.sidecar.config import ALLOW_ALL

MOST_WAITING = 4096
"""Changes that may wait while the way out opens: a few of each instance of a large run."""

_ALLOW_ALL = ALLOW_ALL.encode()


@dataclass(frozen=True, slots=True)
class Wish:
    """What an instance asks of its network."""

    payload: bytes
    apply: Callable[[], None]
    refuse: Callable[[str], None]

    @property
    def leads_out(self) -> bool:
        """As far as one can tell without reading it: nothing is lost if a name happens to contain the words."""
        return _ALLOW_ALL in self.payload


class WayOut:
    """That of one run."""

    def __init__(self, run: RunInput, sidecar: Sidecar, tasks: TaskGroup) -> None:
        self._run, self._sidecar, self._tasks = run, sidecar, tasks
        self._admit: Callable[[Wish], None] = self._first
        self._waiting: list[Wish] = []
        self._lost = ""

    async def open(self, hosts: Collection[IPv4Address], *, loopback: bool) -> None:
        """Now, with a way to `hosts` whatever plans ask for. Raises `RunError`."""
        try:
            await self._tasks.start(self._stay_open, hosts, loopback)
        except RunError as error:
            raise RunError(f"local:exec: additional_hosts: {error}") from error

    def admit(self, wish: Wish) -> None:
        """Have a change made once what it needs is there, or refused."""
        self._admit(wish)

    def _first(self, wish: Wish) -> None:
        if not wish.leads_out:
            wish.apply()
        elif lack := slirp.missing():
            self._run.output.warn(
                f'routing_policy "{ALLOW_ALL}": the instances reach each other in the control network, but nothing '
                f"outside of this machine and no other names: {lack}"
            )
            self._settle(_apply)
            wish.apply()
        else:
            self._admit = self._wait
            self._waiting.append(wish)
            self._tasks.start_soon(self._open_late)

    def _wait(self, wish: Wish) -> None:
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(wish)
        else:
            wish.refuse(f"network configuration refused: {MOST_WAITING} earlier ones wait for the way out to open")

    async def _open_late(self) -> None:
        try:
            await self._stay_open((), False)
        except RunError as error:
            self._lose(f"there is no way out of this run's networks: {error}")

    async def _stay_open(
        self,
        hosts: Collection[IPv4Address],
        loopback: bool,
        *,
        task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED,
    ) -> None:
        sidecar = self._sidecar
        async with slirp.opened(self._run.run_id, sidecar.hub, sidecar.user, loopback=loopback) as running:
            await sidecar.lead_out(slirp.LINK, slirp.NAMESERVER, hosts)
            self._settle(_apply)
            task_status.started()
            reason = await running.obituary()
        self._lose(f"the way out of this run's networks is gone: {reason}")

    def _lose(self, reason: str) -> None:
        self._run.output.error(reason)
        self._lost = reason
        self._settle(self._refuse)

    def _refuse(self, wish: Wish) -> None:
        if wish.leads_out:
            wish.refuse(f"network configuration refused: {self._lost}")
        else:
            wish.apply()

    def _settle(self, admit: Callable[[Wish], None]) -> None:
        self._admit = admit
        waiting, self._waiting = self._waiting, []
        for wish in waiting:
            admit(wish)


def _apply(wish: Wish) -> None:
    wish.apply()
