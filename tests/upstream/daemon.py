"""Upstream's daemon (Go, v0.6.0) and sync service as processes of a test, without Docker.

How a run comes to its verdict there:

- `local:exec` begins with a healthcheck that is to mend what is missing. Without a Docker engine each check that asks
  for one is `aborted`, its fix is `omitted`, and the run goes on ("some healthchecks failed, but continuing").
  `started` names an engine that is nowhere, so that no container is started where there is a real one.
- `local:exec` takes `exec:go` only. That builder calls `go mod tidy` and `go build` without optimisation, and keeps
  nothing: every request builds again. A plan without requirements builds in about a second, an artifact that was named
  (`run single --use-build`) not at all. The program needs no SDK: one line of JSON on standard output is a verdict.
- Plans on an SDK need a sync service at `localhost:5050`. Upstream's own listens there and nowhere else, on all
  addresses; its state is in memory, it needs no Redis. `sync_service` starts it; `taken` tells whether it can.
- Plans on sdk-go send metrics to `http://localhost:8086`, whatever `.env.toml` says, and try for 8 seconds when nobody
  listens: run them with `--disable-metrics`.
- A worker looks for a task once a second, and `logs` with `follow` ends 2 to 4 seconds after a task has: a run takes
  about 3 seconds from its submission to the client's last line, however little it does.
- `local:docker` needs more care: once a sync service has taken its connection, the end of that connection ends the
  whole daemon (`error while reading socket`).
- The daemon's end leaves the instances of its runs alive. They are in its process group, which `started` ends.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.upstream.programs import program

DEADLINE = 30.0
"""Seconds for a start or an end."""

SYNC_PORT = 5050
LISTENING = re.compile(r'daemon listening\s+\{"addr": "([^"]+)"\}')


@dataclass(frozen=True, slots=True)
class Daemon:
    endpoint: str
    process: subprocess.Popen[str]


@contextlib.contextmanager
def started(home: Path, settings: str = "") -> Iterator[str]:
    """A daemon with this home and these `[daemon]` settings, on a port that the system picks. Yields its endpoint."""
    with running(home, settings) as daemon:
        yield daemon.endpoint


@contextlib.contextmanager
def running(home: Path, settings: str = "") -> Iterator[Daemon]:
    """As `started`, for who needs the process too."""
    (home / ".env.toml").write_text(f'[daemon]\nlisten = "localhost:0"\n{settings}\n')
    temporary = home / "tmp"
    temporary.mkdir(exist_ok=True)
    surroundings = {
        "TESTGROUND_HOME": str(home),
        "DOCKER_HOST": f"unix://{home / 'no-docker.sock'}",
        "GOTOOLCHAIN": "local",
        "TMPDIR": str(temporary),  # runs that fail leave directories there
    }
    environ = {**os.environ, **surroundings}
    with _process(program("testground"), "daemon", environ=environ, cwd=home, ready=LISTENING) as (process, found):
        yield Daemon(f"http://{found}", process)


def taken() -> str:
    """Why the sync service cannot be started now; empty if it can."""
    with socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", SYNC_PORT))
        except OSError as error:
            return f"port {SYNC_PORT}, which upstream's sync service cannot change, is taken: {error.strerror}"
    return ""


@contextlib.contextmanager
def sync_service() -> Iterator[str]:
    """Upstream's sync service, on the one port that it knows. Yields its endpoint; see `taken` first."""
    listening = re.compile(r'sync service listening\s+\{"addr": "[^"]*:(\d+)"\}')
    with _process(program("sync-service"), environ=dict(os.environ), cwd=Path("/"), ready=listening) as (_, port):
        yield f"ws://localhost:{port}"


@contextlib.contextmanager
def _process(
    path: Path, *arguments: str, environ: dict[str, str], cwd: Path, ready: re.Pattern[str]
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process in a group of its own, and what `ready` found in its log. The group ends with the context."""
    process = subprocess.Popen(
        [str(path), *arguments],
        env=environ,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    log = _Log(process, ready)
    try:
        yield process, log.wait()
    finally:
        process.terminate()
        try:
            process.wait(DEADLINE)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            log.close()


class _Log:
    """Reads what a process says until it ends, so that it never waits for a reader; keeps what it said at first."""

    def __init__(self, process: subprocess.Popen[str], ready: re.Pattern[str]) -> None:
        self._process = process
        self._ready = ready
        self._text = ""
        self._found = ""
        self._event = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def wait(self) -> str:
        self._event.wait(DEADLINE)
        assert self._found, f"waited for {self._ready.pattern!r} in:\n{self._text}"
        return self._found

    def close(self) -> None:
        self._thread.join(DEADLINE)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            if self._found:
                continue
            self._text += line
            if match := self._ready.search(line):
                self._found = match.group(1)
                self._event.set()
        self._event.set()  # it ended: nobody needs to wait for it
