"""The daemon's end of the connection to a sidecar process: requests go out, answers come in their order.

Both are lines of JSON; an answer may bring descriptors. Nothing here blocks, and nobody waits for ever.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

import anyio

ANSWER_DEADLINE = 30.0
"""Seconds without an answer to what was asked, after which the process counts as stuck; answers take milliseconds."""

MOST_UNSENT = 64 << 20
"""Bytes that wait for the process to read them. A thousand instances may each ask for a thousand rules at once."""

_DESCRIPTORS = 253
"""The most that one message carries."""

Answer = dict[str, Any]
Heard: TypeAlias = Callable[[Answer, list[int]], None]

GONE: Answer = {"error": "the sidecar process is gone"}
NO_ROOM: Answer = {"error": "this process has no file descriptors left: start it with more (ulimit -n)"}
BUSY: Answer = {"error": f"the sidecar process of this run is behind by {MOST_UNSENT >> 20} MiB of requests"}


class Conversation:
    def __init__(self, connection: socket.socket, give_up: Callable[[], None]) -> None:
        """`give_up` is called when an answer does not come, before the conversation ends for it."""
        self.ended = anyio.Event()
        self._connection, self._give_up = connection, give_up
        self._unsent = bytearray()
        self._received = bytearray()
        self._descriptors: deque[int] = deque()
        self._asked: deque[Heard] = deque()
        self._number = 0
        self._loop = asyncio.get_running_loop()
        self._patience: asyncio.TimerHandle | None = None
        connection.setblocking(False)
        self._loop.add_reader(connection, self._receive)

    def ask(self, request: dict[str, Any], heard: Heard) -> None:
        """`heard` gets the answer, or why there is none."""
        if self.ended.is_set():
            heard(GONE, [])
            return
        if len(self._unsent) > MOST_UNSENT:
            heard(BUSY, [])
            return
        self.expect(heard)
        self._number += 1
        self._unsent += json.dumps({"id": self._number, **request}).encode() + b"\n"
        self._send()

    def expect(self, heard: Heard) -> None:
        """An answer that nobody has to ask for."""
        self._asked.append(heard)
        if self._patience is None:
            self._wait_again()

    def end(self) -> None:
        """What has not been answered never will be."""
        self._lost()
        self._connection.close()
        while self._descriptors:
            os.close(self._descriptors.popleft())

    def _send(self) -> None:
        with suppress(BlockingIOError, ConnectionError):
            sent = self._connection.send(self._unsent)
            del self._unsent[:sent]
        if self._unsent and not self.ended.is_set():
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
            self._hear(json.loads(line))
        self._wait_again()

    def _hear(self, answer: Answer) -> None:
        """Descriptors for which there is no room here do not come at all, now or later."""
        count = answer["descriptors"]
        came = [self._descriptors.popleft() for _ in range(min(count, len(self._descriptors)))]
        heard = self._asked.popleft()
        if len(came) == count:
            heard(answer, came)
            return
        for descriptor in came:
            os.close(descriptor)
        heard(NO_ROOM, [])

    def _wait_again(self) -> None:
        """For the next answer, if there is one to come."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if self._asked and not self.ended.is_set():
            self._patience = self._loop.call_later(ANSWER_DEADLINE, self._stuck)

    def _stuck(self) -> None:
        """Somebody has stopped the process, say. Nothing of a run may wait for it any longer, its end least of all."""
        self._give_up()
        self._lost()

    def _lost(self) -> None:
        self._loop.remove_reader(self._connection)
        self._loop.remove_writer(self._connection)
        self.ended.set()
        while self._asked:
            self._asked.popleft()(GONE, [])
        self._wait_again()
