"""One replica of the store: for every key the value with the highest tag, over TCP, a JSON object a line.

{"id": 1, "get": "x"}                              -> {"id": 1, "tag": [4, 2], "value": "2-17"}
{"id": 2, "put": "x", "tag": [5, 1], "value": "…"} -> {"id": 2}
"""

from __future__ import annotations

import asyncio
import json
import random
from typing import Any

Tag = tuple[int, int]
"""How many writes came before, and who wrote: orders all writes of a key."""


class Replica:
    """Answers late, by up to `max_delay` seconds, so that replicas disagree for a while, as real ones do."""

    def __init__(self, max_delay: float) -> None:
        self._max_delay = max_delay
        self._cells: dict[str, tuple[Tag, str | None]] = {}

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one client until it hangs up; its requests may overtake each other."""
        loop = asyncio.get_running_loop()
        async for line in reader:
            loop.call_later(self._delay(), self._answer, json.loads(line), writer)
        writer.close()

    def _answer(self, request: dict[str, Any], writer: asyncio.StreamWriter) -> None:
        answer = {"id": request["id"]}
        if "put" in request:
            self._put(request["put"], tuple(request["tag"]), request["value"])
        else:
            answer["tag"], answer["value"] = self._get(request["get"])
        if not writer.is_closing():
            writer.write(json.dumps(answer).encode() + b"\n")

    def _get(self, key: str) -> tuple[Tag, str | None]:
        return self._cells.get(key, ((0, 0), None))

    def _put(self, key: str, tag: Tag, value: str | None) -> None:
        if tag > self._get(key)[0]:
            self._cells[key] = (tag, value)

    def _delay(self) -> float:
        """Mostly short, now and then long."""
        return self._max_delay * random.random() ** 3
