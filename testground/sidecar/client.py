"""The daemon's side of the sidecar process: one per run, for as long as the run lasts.

Requests go out as lines of JSON and are answered in their order; namespaces and sockets come as descriptors.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any

import anyio
from anyio import to_thread

from testground.errors import RunError

START_DEADLINE = 30.0
"""Seconds until the process must have made the run's hub; it takes a fraction of one."""

_PROGRAM = """
import sys
sys.path[:] = sys.argv[3].split("\\n")
from testground.sidecar import __main__
__main__.main(int(sys.argv[1]), int(sys.argv[2]))
"""
"""With this process's modules, and never those of the directory that it happens to stand in."""

_DESCRIPTORS = 253
"""The most that one message carries."""

Answer = dict[str, Any]


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


class Sidecar:
    """Made by `open_sidecar`."""

    def __init__(self, process: subprocess.Popen[bytes], connection: socket.socket) -> None:
        self.died = anyio.Event()
        self.user: int | None = None
        """The run's user namespace; none for root."""
        self.hub = -1
        """The network namespace in which its networks meet."""
        self.sync: socket.socket
        """Listens where the instances find the sync service."""
        self.redis: socket.socket
        """Listens where they find it as Redis."""
        self._process, self._connection = process, connection
        self._unsent = bytearray()
        self._received = bytearray()
        self._descriptors: deque[int] = deque()
        self._asked: deque[Callable[[Answer, list[int]], None]] = deque()
        self._number = 0
        self._loop = asyncio.get_running_loop()

    async def add(self, number: int, hostname: str) -> int:
        """Make the network of the instance `number`, from 0; the descriptor of its namespace. Raises `SidecarError`."""
        answer, descriptors = await self._ask({"number": number, "host": hostname})
        if error := answer.get("error"):
            raise SidecarError(error)
        return descriptors[0]

    async def listen(self, port: int) -> socket.socket:
        """A listening socket at the address of the services. Raises `SidecarError`."""
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
            done(Change(answer.get("error", ""), answer.get("state", ""), answer.get("address", "")))

        self._request({"host": hostname, "config": config}, heard)

    async def begin(self) -> None:
        """For `open_sidecar`. Raises `SidecarError`."""
        self._loop.add_reader(self._connection, self._receive)
        with anyio.move_on_after(START_DEADLINE):
            answer, descriptors = await self._answer(self._asked.append)
            if self.died.is_set():
                raise SidecarError(await to_thread.run_sync(self.obituary))
            if error := answer.get("refused") or answer.get("error"):
                raise SidecarError(error, by_kernel="refused" in answer)
            self.sync, self.redis = (socket.socket(fileno=descriptor) for descriptor in descriptors[:2])
            self.hub = descriptors[2]
            self.user = descriptors[3] if len(descriptors) > 3 else None
            return
        raise SidecarError(f"the sidecar process has not made the run's network within {START_DEADLINE:g} seconds")

    def close(self) -> None:
        """The process ends by that. Blocks until it has, at most for seconds."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
            return
        self._process.kill()
        self._process.wait()

    def disconnect(self) -> None:
        self._loop.remove_reader(self._connection)
        self._loop.remove_writer(self._connection)
        self._connection.close()
        for descriptor in (*self._descriptors, self.hub, self.user):
            if descriptor is not None and descriptor >= 0:
                os.close(descriptor)

    def obituary(self) -> str:
        """Why it died."""
        code = self._process.wait()
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with code {code}"
        assert self._process.stderr is not None
        said = self._process.stderr.read().decode("utf-8", "replace").strip().splitlines()
        return f"the sidecar process of this run {how}{f': {said[-1]}' if said else ''}"

    async def _ask(self, request: dict[str, Any]) -> tuple[Answer, list[int]]:
        return await self._answer(lambda heard: self._request(request, heard))

    async def _answer(self, ask: Callable[[Callable[[Answer, list[int]], None]], None]) -> tuple[Answer, list[int]]:
        came, answers = anyio.Event(), []

        def heard(answer: Answer, descriptors: list[int]) -> None:
            answers.append((answer, descriptors))
            came.set()

        ask(heard)
        await came.wait()
        return answers[0]

    def _request(self, request: dict[str, Any], heard: Callable[[Answer, list[int]], None]) -> None:
        if self.died.is_set():
            heard({"error": "the sidecar process is gone"}, [])
            return
        self._number += 1
        self._asked.append(heard)
        self._unsent += json.dumps({"id": self._number, **request}).encode() + b"\n"
        self._send()

    def _send(self) -> None:
        with suppress(BlockingIOError, ConnectionError):
            sent = self._connection.send(self._unsent)
            del self._unsent[:sent]
        if self._unsent and not self.died.is_set():
            self._loop.add_writer(self._connection, self._send)
        else:
            self._loop.remove_writer(self._connection)

    def _receive(self) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._connection, 1 << 16, _DESCRIPTORS)
        except BlockingIOError:
            return
        except ConnectionError:
            data, descriptors = b"", []
        self._descriptors.extend(descriptors)
        if not data:
            self._lost()
            return
        self._received += data
        *lines, rest = self._received.split(b"\n")
        self._received = rest
        for line in lines:
            answer = json.loads(line)
            came = [self._descriptors.popleft() for _ in range(answer["descriptors"])]
            self._asked.popleft()(answer, came)

    def _lost(self) -> None:
        self._loop.remove_reader(self._connection)
        self._loop.remove_writer(self._connection)
        self.died.set()
        while self._asked:
            self._asked.popleft()({"error": "the sidecar process is gone"}, [])


@asynccontextmanager
async def open_sidecar(task_id: str, instances: int) -> AsyncIterator[Sidecar]:
    """Start the process for a run and end it. Raises `SidecarError` when the run's network cannot be made."""
    ours, theirs = socket.socketpair()
    with theirs:
        ours.setblocking(False)
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
