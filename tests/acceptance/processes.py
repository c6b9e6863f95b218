"""Daemons of a home of their own, and commands that are under way while a test goes on."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from testground.config import Home
from testground.daemon import lock
from tests.acceptance.conftest import DEADLINE, TESTGROUND, CommandLine, Finished

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Running:
    """A command, and what it has said so far."""

    def __init__(
        self,
        home: Path,
        directory: Path,
        *arguments: str,
        program: Sequence[str] = TESTGROUND,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.process = subprocess.Popen(
            [*program, *arguments],
            cwd=directory,
            env={**os.environ, "TESTGROUND_HOME": str(home), **(environ or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._said = b""

    def __enter__(self) -> Running:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing of it is left, whatever failed."""
        self.process.kill()
        self.process.communicate()

    def read_until(self, text: str, deadline: float = DEADLINE) -> None:
        """Wait for a text on standard output."""
        assert self.process.stdout is not None
        deadline += time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while text.encode() not in self._said:
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                data = os.read(self.process.stdout.fileno(), 1 << 16) if ready else b""
                assert data, f"waited for {text!r} in {self._said!r}"
                self._said += data

    def finish(self) -> Finished:
        try:
            out, err = self.process.communicate(timeout=DEADLINE)
        finally:
            self.process.kill()
            self.process.communicate()
        return Finished(self.process.returncode, _plain(self._said + out), _plain(err))


@dataclass(frozen=True, slots=True)
class Daemon:
    home: Path
    settings: str
    process: subprocess.Popen[bytes]

    @property
    def endpoint(self) -> str:
        return endpoint(self.home)

    def configure(self, more: str) -> None:
        """Change the configuration for the commands to come; the daemon has read its own."""
        _write(self.home, self.settings, more)


def endpoint(home: Path) -> str:
    """Where the daemon of a home listens."""
    holder = lock.holder(Home(home))
    assert holder is not None and holder.endpoint, f"no daemon serves {home}"
    return holder.endpoint


def start(cli: CommandLine, *arguments: str) -> Running:
    return Running(cli.home, cli.directory, *arguments)


@contextlib.contextmanager
def started(home: Path, settings: str = "") -> Iterator[Daemon]:
    """A daemon with these `[daemon]` settings, on ports that the system picks; commands find it by the home's lock."""
    _write(home, settings)
    running = Running(home, home, "daemon")
    try:
        running.read_until("daemon listening")
        yield Daemon(home, settings, running.process)
    finally:
        running.process.terminate()
        running.finish()


def _write(home: Path, settings: str, more: str = "") -> None:
    text = f'{more}\n[daemon]\nlisten = "localhost:0"\nsync_listen = "localhost:0"\n{settings}\n'
    (home / ".env.toml").write_text(text)


def _plain(data: bytes) -> str:
    return _COLOUR.sub("", data.decode())
