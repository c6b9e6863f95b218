"""The sync service as a process of its own, for what might break it."""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

START_SECONDS = 30


@dataclass(frozen=True, slots=True)
class SyncProcess:
    port: int
    pid: int

    @property
    def resident_kib(self) -> int:
        """Its memory."""
        done = subprocess.run(["ps", "-o", "rss=", "-p", str(self.pid)], capture_output=True, text=True, check=True)
        return int(done.stdout)


@pytest.fixture(scope="session")
def sync_process() -> Iterator[SyncProcess]:
    """It must outlive all tests, end when it is told to, and never show a traceback."""
    with tempfile.TemporaryFile("w+") as complaints:
        process = subprocess.Popen(
            [sys.executable, "-m", "testground", "sync-service", "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE,
            stderr=complaints,
        )
        try:
            yield SyncProcess(_port(process), process.pid)
        finally:
            process.terminate()
            process.communicate(timeout=START_SECONDS)
        complaints.seek(0)
        assert (process.returncode, "Traceback" in complaints.read()) == (0, False)


def _port(process: subprocess.Popen[bytes]) -> int:
    """Standard output has nothing but the line that says where it listens."""
    assert process.stdout is not None
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        assert selector.select(START_SECONDS), "the sync service did not start"
    line = os.read(process.stdout.fileno(), 1 << 16).decode()
    found = re.search(r'"address": "127\.0\.0\.1:(\d+)"', line)
    assert found, line
    return int(found.group(1))
