"""The outputs of a run as a file."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from testground.cli.session import Session
from testground.client import Client
from testground.errors import TestgroundError, UnknownError


def collect(session: Session, client: Client, runner: str, run_id: str, target: Path) -> bool:
    """Write the archive to `target`, all or nothing. False, after saying so: there is no such run.

    Whatever was at `target` stays until the archive is complete. Raises what the client raises, and `TestgroundError`
    when the file cannot be written.
    """
    try:
        with _replacing(target) as file, session.output.answer() as show:
            if not client.outputs(runner, run_id, file.write, show):
                raise UnknownError(f"run {run_id} has no outputs")
    except UnknownError as error:
        session.output.log("error", "no such testplan run", run_id=run_id, runner=runner, error=error.message)
        return False
    except OSError as error:
        raise TestgroundError(f"cannot write the outputs to {target}: {error.strerror or error}") from error
    session.output.log("info", f"created file: {target}")
    return True


@contextlib.contextmanager
def _replacing(target: Path) -> Iterator[BinaryIO]:
    """A file beside `target` that takes its place at the end, or is gone after an error."""
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    try:
        with partial.open("xb") as file:
            yield file
        partial.replace(target)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
