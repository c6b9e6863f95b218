"""Files that plans make."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from testground.sdk import RunEnv

MakeEnv = Callable[..., RunEnv]


def test_raw_assets_are_closed_at_the_end(make_env: MakeEnv, tmp_path: Path) -> None:
    env = make_env(TEST_OUTPUTS_PATH=str(tmp_path))
    file = env.create_raw_asset("deep/dump.bin")
    file.write(b"\x00\x01")
    env._close()
    assert file.closed
    assert (tmp_path / "deep/dump.bin").read_bytes() == b"\x00\x01"


def test_structured_assets_are_lines(make_env: MakeEnv, tmp_path: Path) -> None:
    env = make_env(TEST_OUTPUTS_PATH=str(tmp_path), LOG_LEVEL="error")
    log = env.create_structured_asset("trace.out")
    log.info("dialled", peer="a", attempt=2)
    log.debug("detail")
    first, second = map(json.loads, (tmp_path / "trace.out").read_text().splitlines())
    env._close()
    assert first["ts"] > 1e18
    assert {**first, "ts": 0} == {"ts": 0, "level": "info", "msg": "dialled", "peer": "a", "attempt": 2}
    assert second["level"] == "debug"


@pytest.mark.parametrize("size", [0, 1, 1000, (1 << 20) + 7])
def test_random_files(make_env: MakeEnv, tmp_path: Path, size: int) -> None:
    path = make_env().create_random_file(tmp_path, size)
    assert path.parent == tmp_path
    assert path.name.startswith("tplan")
    assert path.stat().st_size == size


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_random_directories(make_env: MakeEnv, tmp_path: Path, depth: int) -> None:
    top = make_env().create_random_directory(tmp_path, depth)
    names = [path.name for path in sorted(tmp_path.rglob("*"))]
    assert len(names) == depth
    assert top == (tmp_path / names[0] if depth else tmp_path)
    assert [name.startswith("tg") for name in names[1:]] == [True] * max(depth - 1, 0)


class Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.server.asked.release()  # type: ignore[attr-defined]
        self.send_response(200 if self.path == "/metrics" else 500)
        self.end_headers()
        self.wfile.write(b"up 1\n")

    def log_message(self, *_: Any) -> None:
        pass


async def snapshots(env: RunEnv, path: str, count: int) -> None:
    """Take snapshots until the server was asked `count` times."""
    server = HTTPServer(("127.0.0.1", 0), Page)
    asked = server.asked = threading.Semaphore(0)  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}{path}"
    try:
        async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
            taking = tasks.create_task(env.http_periodic_snapshots(url, 0.01, "scrapes"))
            for _ in range(count):
                await asyncio.to_thread(asked.acquire)
            taking.cancel()
    finally:
        await asyncio.to_thread(server.shutdown)
        thread.join()
        server.server_close()


async def test_http_snapshots(make_env: MakeEnv, tmp_path: Path) -> None:
    await snapshots(make_env(TEST_OUTPUTS_PATH=str(tmp_path)), "/metrics", 3)
    [first, *_] = sorted((tmp_path / "scrapes").iterdir())
    assert first.stem.isdecimal()
    assert first.suffix == ".out"
    assert first.read_text() == "up 1\n"


async def test_failed_http_snapshots_are_warnings(
    make_env: MakeEnv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    await snapshots(make_env(TEST_OUTPUTS_PATH=str(tmp_path)), "/missing", 2)
    assert "HTTP Error 500" in capsys.readouterr().out
