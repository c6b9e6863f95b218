"""The life of a daemon: one per home, from the lock to the last task's clean-up."""

from __future__ import annotations

import contextlib
import errno
import functools
import logging
import resource
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator

import anyio
import anyio.from_thread
import anyio.lowlevel
from anyio.abc import TaskStatus

from testground.config import EnvConfig
from testground.daemon import app, console, lock, server
from testground.daemon import signals as process_signals
from testground.daemon.exchange import Exchanges
from testground.daemon.server import Server
from testground.drivers import process
from testground.engine.engine import Engine
from testground.errors import ConfigError, DaemonError, unwrapped
from testground.sync.server import SyncServer, open_server
from testground.sync.service import Service

SYNC_LISTEN = "localhost:5050"
FILE_LIMITS = (1 << 20, 1 << 16, 10240)
"""Open files to ask for, the most first; macOS refuses more than the last."""

START_SECONDS = 60
"""Of an embedded daemon; recovery after a crash is part of it."""

STOP_SECONDS = 30

log = logging.getLogger(__name__)
Ready = Callable[[str], None]


async def serve(
    env: EnvConfig,
    *,
    listen: str | None = None,
    on_ready: Ready | None = None,
    signals: bool = True,
    idle: bool = False,
) -> None:
    """Serve a home until SIGINT, SIGTERM or SIGHUP, or until cancelled; nothing is left running then.

    `listen` overrides the configuration; port 0 picks a free one. `on_ready` is called with the endpoint once requests
    are answered. With `signals` (main thread only) the daemon owns the process: it reports on standard output, and a
    second signal, or 30 seconds after the first, ends the process at once.
    Raises `ConfigError` when the home is served by another daemon or an address cannot be used.
    """
    stop = anyio.Event()
    process.prepare_loop()
    with unwrapped(), contextlib.ExitStack() as stack:
        stack.enter_context(console.attached() if signals else console.muted())
        if signals:
            stack.enter_context(process_signals.setting(stop))
            for warning in env.warnings:
                log.warning(warning)
        await _serve(env, listen or env.daemon.listen, stop, on_ready, idle)


@contextlib.contextmanager
def embedded(env: EnvConfig, *, idle: bool = False) -> Iterator[str]:
    """A daemon on free loopback ports for the duration of the block; yields its endpoint.

    It takes the client's token of `env`, or none. `idle`: it is only to answer, see `Engine.serve`. Raises what `serve`
    raises.
    """
    daemon = _Embedded(env, idle)
    try:
        yield daemon.start()
    finally:
        daemon.stop()


def raise_file_limit() -> None:
    """Every instance costs the daemon a few descriptors; the usual soft limit of 1024 ends at some 200 instances."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in FILE_LIMITS:
        limit = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        if soft == resource.RLIM_INFINITY or soft >= limit:
            return
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            return


async def _serve(env: EnvConfig, listen: str, stop: anyio.Event, on_ready: Ready | None, idle: bool) -> None:
    with lock.hold(env.home) as held, server.bind(listen, "daemon.listen") as sock:
        endpoint = server.endpoint_of(sock, listen, "daemon.listen")
        raise_file_limit()
        async with _open_sync(env.daemon.sync_listen) as sync, anyio.create_task_group() as group:
            engine = Engine(env, sync)
            exchanges = Exchanges(engine, env)
            web = Server(app.create(exchanges, env, listen))
            await group.start(functools.partial(engine.serve, idle=idle))
            await group.start(_serve_web, web, sock)
            try:
                held.record(endpoint=endpoint, sync=f"{sync.host}:{sync.port}")
                _say("daemon listening", endpoint=endpoint, sync=f"{sync.host}:{sync.port}")
                if on_ready is not None:
                    on_ready(endpoint)
                await stop.wait()
            finally:
                _say("daemon shutting down")
                with anyio.CancelScope(shield=True):
                    exchanges.close()
                    web.stop()
                    await web.stopped.wait()
            group.cancel_scope.cancel()


async def _serve_web(web: Server, sock: socket.socket, *, task_status: TaskStatus[None]) -> None:
    """Shielded: a cancelled daemon still answers what it was asked, within `server.GRACE_SECONDS`."""
    with anyio.CancelScope(shield=True):
        async with anyio.create_task_group() as group:
            group.start_soon(web.serve, [sock])
            await web.ready.wait()
            task_status.started()


@contextlib.asynccontextmanager
async def _open_sync(listen: str) -> AsyncIterator[SyncServer]:
    """The embedded sync service at the configured address, else at 5050, else at any port."""
    address = listen or SYNC_LISTEN
    host, port = server.split_address(address, "daemon.sync_listen")
    host = host or "0.0.0.0"
    async with contextlib.AsyncExitStack() as stack:
        try:
            opened = await stack.enter_async_context(open_server(Service(), host, port))
        except OSError as error:
            if listen or error.errno != errno.EADDRINUSE:
                raise ConfigError(f"daemon.sync_listen: cannot listen on {address}: {server.reason(error)}") from error
            opened = await stack.enter_async_context(open_server(Service(), host, 0))
            log.warning("%s is taken; the sync service listens on port %d instead", address, opened.port)
        yield opened


def _say(message: str, **fields: str) -> None:
    log.info(message, extra={"fields": fields})


class _Embedded:
    def __init__(self, env: EnvConfig, idle: bool) -> None:
        self._env = _private(env)
        self._idle = idle
        self._thread = threading.Thread(target=self._run, name="testground-daemon", daemon=True)
        self._decided = threading.Event()
        self._scope: anyio.CancelScope | None = None
        self._token: anyio.lowlevel.EventLoopToken | None = None
        self._stopping = False
        self._endpoint = ""
        self._error: BaseException | None = None

    def start(self) -> str:
        self._thread.start()
        if not self._decided.wait(START_SECONDS):
            raise DaemonError(f"the embedded daemon did not start within {START_SECONDS} seconds")
        if self._error is not None:
            raise self._error
        return self._endpoint

    def stop(self) -> None:
        self._stopping = True
        if self._token is not None and self._scope is not None:
            with contextlib.suppress(anyio.RunFinishedError):
                anyio.from_thread.run_sync(self._scope.cancel, token=self._token)
        self._thread.join(STOP_SECONDS)
        if self._thread.is_alive():
            log.warning("the embedded daemon did not end within %d seconds", STOP_SECONDS)

    def _run(self) -> None:
        try:
            anyio.run(self._main)
        except BaseException as error:
            self._error = error
        finally:
            self._decided.set()

    async def _main(self) -> None:
        self._scope = anyio.CancelScope()
        self._token = anyio.lowlevel.current_token()
        if self._stopping:
            return
        with self._scope:
            await serve(self._env, on_ready=self._ready, signals=False, idle=self._idle)

    def _ready(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._decided.set()


def _private(env: EnvConfig) -> EnvConfig:
    """The configuration with free ports, and for this process alone."""
    tokens = (env.client.token,) if env.client.token.strip() else ()
    changes = {"listen": "127.0.0.1:0", "sync_listen": "127.0.0.1:0", "tokens": tokens}
    return env.model_copy(update={"daemon": env.daemon.model_copy(update=changes)})
