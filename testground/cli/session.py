"""What the commands of one invocation share: output, configuration, and the daemon that they talk to (design §4)."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from testground.cli.interrupt import Interrupted
from testground.cli.output import Output
from testground.errors import ConfigError, TestgroundError

if TYPE_CHECKING:
    import typer

    from testground.api.task import State
    from testground.client import Client
    from testground.config import EnvConfig
    from testground.daemon.lock import Holder

PROBE_SECONDS = 2.0
START_SECONDS = 10.0
"""How long another command, which holds the home's lock, may take to say where its daemon listens."""


@dataclass(frozen=True, slots=True)
class Daemon:
    """A daemon that answers. An embedded one lives as long as this command."""

    client: Client
    embedded: bool = False


@dataclass
class Session:
    output: Output = field(default_factory=Output)
    endpoint: str = ""
    """Of the command line; empty: not given."""
    verbose: bool = False
    """Show tracebacks."""

    @cached_property
    def env(self) -> EnvConfig:
        """Read when a command first needs it; `version` and `--help` work with a broken home."""
        from testground import config

        env = config.load()
        for warning in env.warnings:
            self.output.log("warn", warning)
        return env

    @contextlib.contextmanager
    def daemon(self, *, idle: bool = False) -> Iterator[Daemon]:
        """The daemon at the given endpoint, else the one of this home, else one that ends with this command.

        A command that only asks for something wants the last one `idle`: it leaves waiting tasks to another.
        """
        from testground.client import Client

        endpoint, expected = self._running()
        if endpoint:
            with Client(endpoint, self.env.client.token) as client:
                client.greet()
                if not expected:
                    self.output.note(self._stranger(client))
                yield Daemon(client)
            return
        with self._embedded(idle) as daemon:
            yield daemon

    def _running(self) -> tuple[str, bool]:
        """An endpoint, and whether it was asked for or serves this home. Empty: neither, and the default is silent."""
        client = self.env.client
        if self.endpoint or "endpoint" in client.model_fields_set:
            return self.endpoint or client.endpoint, True
        if served := self._served():
            return served, True
        return (client.endpoint if _answers(client.endpoint) else ""), False

    def _stranger(self, client: Client) -> str:
        """The Go daemon keeps no lock that would tell which home it serves."""
        if client.original:
            return f"using the Go daemon at {client.endpoint}"
        return f"using the daemon at {client.endpoint}; it does not serve {self.env.home.root}"

    def _served(self) -> str:
        """The endpoint of the daemon that serves this home."""
        holder = self._lock_holder()
        return holder.endpoint if holder and holder.endpoint and _answers(holder.endpoint) else ""

    def _lock_holder(self) -> Holder | None:
        from testground.daemon import lock

        holder = lock.holder(self.env.home)
        return holder if holder and _alive(holder.pid) else None

    @contextlib.contextmanager
    def _embedded(self, idle: bool) -> Iterator[Daemon]:
        from testground.api.task import State
        from testground.client import Client
        from testground.daemon.main import embedded

        with contextlib.ExitStack() as stack:
            try:
                endpoint, ours = stack.enter_context(embedded(self.env, idle=idle)), True
            except ConfigError:
                endpoint, ours = self._neighbour(), False
                if not endpoint:
                    raise
            if ours:
                default = self.env.client.endpoint
                self.output.note(f"no daemon answers at {default}; this command runs its own at {endpoint}")
            client = stack.enter_context(Client(endpoint, self.env.client.token))
            try:
                yield Daemon(client, embedded=ours)
            finally:
                if ours and not isinstance(sys.exception(), Interrupted):
                    self._linger(client, [State.PROCESSING] if idle else [State.PROCESSING, State.SCHEDULED])

    def _neighbour(self) -> str:
        """The daemon of another command, which was starting when this one looked for it. Empty: there is none."""
        deadline = time.monotonic() + START_SECONDS
        while self._lock_holder() and time.monotonic() < deadline:
            if endpoint := self._served():
                return endpoint
            time.sleep(0.05)
        return ""

    def _linger(self, client: Client, states: list[State]) -> None:
        """Tasks of other commands that found our daemon, or of one that died, end before it does."""
        from testground.api import rpc
        from testground.api.task import TaskType

        wanted = rpc.TasksRequest(types=list(TaskType), states=states)
        followed: set[str] = set()
        with contextlib.suppress(TestgroundError):
            while waiting := [task for task in client.tasks(wanted) if task.id not in followed]:
                self.output.note(f"waiting for {len(waiting)} other task(s) of this daemon; Ctrl-C cancels them")
                for task in waiting:
                    followed.add(task.id)
                    client.logs(task.id, follow=True)


def of(ctx: typer.Context) -> Session:
    """The session of a command."""
    session = ctx.find_root().obj
    assert isinstance(session, Session)
    return session


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _answers(endpoint: str) -> bool:
    """Whether something listens there; what it is, the first request shows."""
    try:
        parts = urlsplit(endpoint)
        socket.create_connection((parts.hostname or "", parts.port or 80), PROBE_SECONDS).close()
    except (OSError, ValueError):
        return False
    return True
