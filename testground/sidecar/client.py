"""The daemon's side of the sidecar process: one per run, for as long as the run lasts."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

import anyio
from anyio import to_thread

from testground.errors import RunError
from testground.sidecar import conversation
from testground.sidecar.conversation import Answer, Conversation, Heard

END_DEADLINE = 10.0
"""Seconds until it must have ended, by itself and then by force."""

_PROGRAM = """
import sys
sys.path[:] = sys.argv[3].split("\\n")
from testground.sidecar import __main__
__main__.main(int(sys.argv[1]), int(sys.argv[2]))
"""
"""With this process's modules, and never those of the directory that it happens to stand in."""


class SidecarError(RunError):
    """The process could not do what was asked; `by_kernel`: because the kernel forbids it."""

    def __init__(self, message: str, *, by_kernel: bool = False) -> None:
        super().__init__(message)
        self.by_kernel = by_kernel


@dataclass(frozen=True, slots=True)
class Change:
    """What has become of a configuration."""

    error: str = ""
    """Why it was refused; of a change that was made, empty."""
    state: str = ""
    """Its callback state."""
    address: str = ""
    """The instance's IPv4 address in the data network, if that is another one now."""
    warnings: Sequence[str] = ()
    """What the configuration says that nothing reads."""


class Sidecar:
    """Made by `open_sidecar`."""

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
        self.user: int | None = None
        """The run's user namespace; none for root."""
        self.hub = -1
        """The network namespace in which its networks meet."""
        self.sync: socket.socket
        """Listens where the instances find the sync service."""
        self.redis: socket.socket
        """Listens where they find it as Redis."""
        self._process = process
        self._conversation = Conversation(connection, self._give_up)
        self._stuck = False

    @property
    def died(self) -> anyio.Event:
        """Set once it answers no more."""
        return self._conversation.ended

    async def add(self, number: int, hostname: str) -> int:
        """Make the network of the instance `number`, from 0; the descriptor of its namespace. Raises `SidecarError`."""
        answer, descriptors = await self._ask({"number": number, "host": hostname})
        if error := answer.get("error"):
            raise SidecarError(error)
        return descriptors[0]

    async def listen(self, port: int) -> socket.socket:
        """A listening socket at the address of the services. Raises `SidecarError`."""
        with anyio.CancelScope(shield=True):  # the descriptor of an answer that comes later would be nobody's
            answer, descriptors = await self._ask({"listen": port})
        if error := answer.get("error"):
            raise SidecarError(error)
        return socket.socket(fileno=descriptors[0])

    async def lead_out(self, link: str, nameserver: IPv4Address, hosts: Collection[IPv4Address]) -> None:
        """Lead what may leave the run's networks to a link of the hub. Raises `SidecarError`.

        Instances added later reach `hosts` whatever their plan asks for; of the nameserver they reach that alone.
        """
        answer, _ = await self._ask(
            {"link": link, "nameserver": str(nameserver), "hosts": [str(host) for host in hosts]}
        )
        if error := answer.get("error"):
            raise SidecarError(error)

    def configure(self, hostname: str, config: str, done: Callable[[Change], None]) -> None:
        """Change an instance's network; `config` is JSON."""

        def heard(answer: Answer, _: list[int]) -> None:
            done(
                Change(
                    answer.get("error", ""),
                    answer.get("state", ""),
                    answer.get("address", ""),
                    answer.get("warnings", ()),
                )
            )

        self._conversation.ask({"host": hostname, "config": config}, heard)

    async def begin(self) -> None:
        """For `open_sidecar`. Raises `SidecarError`."""
        answer, descriptors = await self._answer(self._conversation.expect)
        if self.died.is_set():
            raise SidecarError(await to_thread.run_sync(self.obituary))
        if error := answer.get("refused") or answer.get("error"):
            raise SidecarError(error, by_kernel="refused" in answer)
        self.sync, self.redis = (socket.socket(fileno=descriptor) for descriptor in descriptors[:2])
        self.hub = descriptors[2]
        self.user = descriptors[3] if len(descriptors) > 3 else None

    def close(self) -> None:
        """Blocks until the process has ended, at most for seconds: one that waits in the kernel may never."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_DEADLINE)
            return
        self._process.kill()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(END_DEADLINE)

    def disconnect(self) -> None:
        """The process ends by that. Instances may still ask while they end, and are refused."""
        self._conversation.end()
        for descriptor in (self.hub, self.user):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)

    def obituary(self) -> str:
        """Why it died. Blocks."""
        if self._stuck:
            return f"the sidecar process of this run has not answered for {conversation.ANSWER_DEADLINE:g} seconds"
        code = self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        assert self._process.stderr is not None
        said = self._process.stderr.read().decode("utf-8", "replace").strip().splitlines()
        return f"the sidecar process of this run {how}{f': {said[-1]}' if said else ''}"

    async def _ask(self, request: dict[str, Any]) -> tuple[Answer, list[int]]:
        return await self._answer(lambda heard: self._conversation.ask(request, heard))

    async def _answer(self, ask: Callable[[Heard], None]) -> tuple[Answer, list[int]]:
        came, answers = anyio.Event(), []

        def heard(answer: Answer, descriptors: list[int]) -> None:
            answers.append((answer, descriptors))
            came.set()

        ask(heard)
        await came.wait()
        return answers[0]

    def _give_up(self) -> None:
        self._stuck = True
        self._process.kill()


@asynccontextmanager
async def open_sidecar(task_id: str, instances: int) -> AsyncIterator[Sidecar]:
    """Start the process for a run and end it. Raises `SidecarError` when the run's network cannot be made."""
    ours, theirs = socket.socketpair()
    with theirs:
        arguments = [str(theirs.fileno()), str(instances), "\n".join(sys.path)]
        process = subprocess.Popen(  # noqa: ASYNC220 – it is asyncio's watching of children that is not wanted here
            [sys.executable, "-I", "-S", "-c", _PROGRAM, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            env={**os.environ, "TESTGROUND_TASK": task_id},
            start_new_session=True,
        )
    sidecar = Sidecar(process, ours)
    try:
        await sidecar.begin()
        yield sidecar
    finally:
        sidecar.disconnect()
        with anyio.CancelScope(shield=True):
            await to_thread.run_sync(sidecar.close)
        if process.stderr is not None:
            process.stderr.close()
