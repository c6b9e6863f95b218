"""Commands that serve until they are told to stop: daemon, sync-service."""

from __future__ import annotations

import os
import sys
from pathlib import Path
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

ROOT = Path(__file__).parents[2]
ALONE = """
import sys
sys.path.append(sys.argv[1])
from testground.sync import alone
sys.exit(alone.main(sys.argv[2], quiet=bool(sys.argv[3])))
"""
"""Not `python -m`, which would first look for modules in the directory that the command happens to stand in."""


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
    # In place of this process: what reads command lines would stay in memory as long as the service, 12 MiB of 42.
    quiet = not session.of(ctx).output.shows("info")
    os.execv(sys.executable, [sys.executable, "-P", "-c", ALONE, str(ROOT), listen, "quiet" if quiet else ""])


def add_to(app: typer.Typer, panel: str) -> None:
    """These commands stand at the top level."""
    app.command("daemon", cls=Command, epilog=DAEMON, rich_help_panel=panel)(daemon)
    app.command("sync-service", cls=Command, epilog=SYNC, rich_help_panel=panel)(sync_service)
