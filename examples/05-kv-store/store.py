"""The client side of the store: any majority of the replicas is enough (Attiya, Bar-Noy and Dolev's register)."""

from __future__ import annotations

import asyncio
import enum
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from replica import Tag

PATIENCE = 10.0
"""Seconds to wait for enough replicas to answer."""


class Bug(enum.StrEnum):
    NONE = "none"
    STALE_READS = "stale-reads"
    """A read asks the nearest replica only."""
    NO_WRITE_BACK = "no-write-back"
    """A read leaves it to chance whether later reads see what it saw."""
    SLOPPY_QUORUM = "sloppy-quorum"
    """Whoever finds no majority in time makes do with the replicas that answered."""


class Store:
    """Two majorities always share a replica: what a write left at one majority is seen by any later read."""

    def __init__(self, client: int, writers: Sequence[asyncio.StreamWriter], bug: Bug) -> None:
        self.patience = PATIENCE
        self._client, self._writers, self._bug = client, writers, bug
        self._numbers = itertools.count()
        self._answers: dict[int, asyncio.Queue[dict[str, Any]]] = {}

    async def read(self, key: str) -> str | None:
        if self._bug is Bug.STALE_READS:
            _, value = await self._newest(key, self._nearest)
            return value
        tag, value = await self._newest(key, self._writers)
        if self._bug is not Bug.NO_WRITE_BACK:
            await self._put(key, tag, value)
        return value

    async def write(self, key: str, value: str) -> None:
        (count, _), _ = await self._newest(key, self._writers)
        await self._put(key, (count + 1, self._client), value)

    async def _newest(self, key: str, replicas: Sequence[asyncio.StreamWriter]) -> tuple[Tag, str | None]:
        answers = await self._ask(replicas, get=key)
        return max((tuple(answer["tag"]), answer["value"]) for answer in answers)

    async def _put(self, key: str, tag: Tag, value: str | None) -> None:
        await self._ask(self._writers, put=key, tag=tag, value=value)

    async def _ask(self, replicas: Sequence[asyncio.StreamWriter], **request: Any) -> list[dict[str, Any]]:
        """The answers of the first majority of these replicas; later ones are dropped. Raises `TimeoutError`."""
        number, enough = next(self._numbers), len(replicas) // 2 + 1
        answers = self._answers[number] = asyncio.Queue()
        found: list[dict[str, Any]] = []
        for replica in replicas:
            replica.write(json.dumps({"id": number, **request}).encode() + b"\n")
        try:
            async with asyncio.timeout(self.patience):
                while len(found) < enough:
                    found.append(await answers.get())
        except TimeoutError:
            if not found or self._bug is not Bug.SLOPPY_QUORUM:
                raise TimeoutError(f"fewer than {enough} replicas answered within {self.patience:g} s") from None
        finally:
            del self._answers[number]
        return found

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Hand each answer of one replica to the request it belongs to."""
        async for line in reader:
            answer = json.loads(line)
            if answer["id"] in self._answers:
                self._answers[answer["id"]].put_nowait(answer)

    @property
    def _nearest(self) -> Sequence[asyncio.StreamWriter]:
        return [self._writers[self._client % len(self._writers)]]


@asynccontextmanager
async def connect(client: int, addresses: Sequence[tuple[str, int]], bug: Bug) -> AsyncIterator[Store]:
    """A client of the replicas at these addresses. `client` is unique among all clients."""
    connections = [await asyncio.open_connection(*address) for address in addresses]
    store = Store(client, [writer for _, writer in connections], bug)
    async with asyncio.TaskGroup() as tasks:
        for reader, _ in connections:
            tasks.create_task(store.listen(reader))
        yield store
        for _, writer in connections:
            writer.write_eof()
    for _, writer in connections:
        writer.close()
