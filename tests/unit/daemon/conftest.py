"""A daemon's application over a real engine and sync service, asked without a socket."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from testground.api.rpc import Chunk, ChunkDecoder
from testground.config import DaemonConfig, EnvConfig, Home, SchedulerConfig
from testground.daemon import app
from testground.daemon.exchange import Exchanges
from testground.engine.engine import Engine
from testground.sync.server import open_server
from testground.sync.service import Service

LISTEN = "localhost:8042"


@dataclass
class Daemon:
    env: EnvConfig
    engine: Engine
    http: httpx.AsyncClient

    async def post(self, path: str, body: Any = b"", **headers: str) -> httpx.Response:
        named = {name.replace("_", "-"): text for name, text in headers.items()}
        if isinstance(body, bytes):
            return await self.http.post(path, content=body, headers=named)
        return await self.http.post(path, json=body, headers=named)

    async def ask(self, path: str, body: Any = b"", **headers: str) -> list[Chunk]:
        """The chunks of an answer that must be a chunk stream."""
        response = await self.post(path, body, **headers)
        assert response.status_code == 200
        assert response.headers["content-type"] == "application/json"
        chunks = self.decode(response.content)
        assert chunks[-1].kind in "re"
        assert all(chunk.kind in "pb" for chunk in chunks[:-1])
        return chunks

    def decode(self, data: bytes) -> list[Chunk]:
        decoder = ChunkDecoder()
        chunks = list(decoder.feed(data))
        decoder.close()
        return chunks

    @property
    def requests(self) -> list[Path]:
        """Directories of requests that are still there."""
        directory = self.env.home.work / "requests"
        return list(directory.iterdir()) if directory.exists() else []


@pytest.fixture
def config() -> DaemonConfig:
    """Overridden where a test needs another one."""
    return DaemonConfig(scheduler=SchedulerConfig(workers=1, queue_size=3))


@pytest.fixture
async def daemon(tmp_path: Path, config: DaemonConfig) -> AsyncIterator[Daemon]:
    async with serving(tmp_path, config) as daemon:
        yield daemon


@asynccontextmanager
async def serving(tmp_path: Path, config: DaemonConfig) -> AsyncIterator[Daemon]:
    env = EnvConfig(home=Home(tmp_path / "home").create(), daemon=config)
    async with open_server(Service(), "127.0.0.1", 0) as sync, anyio.create_task_group() as group:
        engine = Engine(env, sync)
        await group.start(engine.serve)
        transport = httpx.ASGITransport(app=app.create(Exchanges(engine, env), env, LISTEN))
        async with httpx.AsyncClient(transport=transport, base_url=f"http://{LISTEN}", timeout=30) as http:
            yield Daemon(env, engine, http)
        group.cancel_scope.cancel()
