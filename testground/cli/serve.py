"""Commands that serve until they are told to stop: daemon, sync-service."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import typer

from testground.cli import interrupt, session
from testground.cli.grammar import Command

DEFAULT_SYNC = "localhost:5050"

DAEMON = """[bold]Example[/]: serve this machine; other commands find the daemon by themselves

testground daemon

[bold]Example[/]: let other machines in, set in $TESTGROUND_HOME/.env.toml

daemon.listen = "0.0.0.0:8042"

daemon.tokens = \\["s3cret"]"""

SYNC = """[bold]Example[/]: a sync service for instances that something else starts

testground sync-service --listen=0.0.0.0:5050"""


def daemon() -> None:
    """Build and run what clients ask for, until interrupted.

    Commands that find no daemon start one for their own duration; a daemon that stays keeps its queue and its builds.
    """
    import anyio

    from testground import config
    from testground.daemon.main import serve

    env = config.load()
    interrupt.release()
    anyio.run(serve, env)


def sync_service(
    ctx: typer.Context,
    listen: Annotated[str, typer.Option("--listen", metavar="HOST:PORT", help="Where to listen.")] = DEFAULT_SYNC,
) -> None:
    """Serve states, barriers and topics to instances, without a daemon, until interrupted."""
    import anyio

    output = session.of(ctx).output
    interrupt.release()
    anyio.run(_serve_sync, listen, lambda address: output.log("info", "sync service listening", address=address))


def add_to(app: typer.Typer, panel: str) -> None:
    """These commands stand at the top level."""
    app.command("daemon", cls=Command, epilog=DAEMON, rich_help_panel=panel)(daemon)
    app.command("sync-service", cls=Command, epilog=SYNC, rich_help_panel=panel)(sync_service)


async def _serve_sync(listen: str, on_ready: Callable[[str], None]) -> None:
    import asyncio

    import anyio

    from testground.sync.server import serve_alone

    with anyio.CancelScope() as scope:
        for number in interrupt.WATCHED:
            asyncio.get_running_loop().add_signal_handler(number, scope.cancel)
        await serve_alone(listen, on_ready)
