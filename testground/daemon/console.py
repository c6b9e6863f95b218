"""What the daemon says: records of `logging` as console lines (client-daemon §2.3)."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime

from testground.api import rpc

_LEVELS = {logging.DEBUG: "debug", logging.INFO: "info", logging.WARNING: "warn", logging.ERROR: "error"}
_LOGGERS = ("testground", "uvicorn")


@contextlib.contextmanager
def attached() -> Iterator[None]:
    """Print what the daemon's modules log on standard output, from the level in `$LOG_LEVEL` on (default: info)."""
    handler = logging.StreamHandler(sys.stdout)
    handler.addFilter(lambda record: not record.name.startswith("uvicorn") or record.levelno >= logging.WARNING)
    level = logging.getLevelNamesMapping().get(os.environ.get("LOG_LEVEL", "").upper(), logging.INFO)
    with _handling(handler, level):
        yield


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Nothing but bugs, on standard error: whoever embeds a daemon says the rest."""
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(lambda record: bool(record.exc_info))
    with _handling(handler, logging.ERROR):
        yield


@contextlib.contextmanager
def _handling(handler: logging.Handler, level: int) -> Iterator[None]:
    handler.setFormatter(_Formatter())
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(level)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, (old_level, propagate) in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(old_level)
            logger.propagate = propagate


class _Formatter(logging.Formatter):
    """`extra={"fields": {…}}` of a log call becomes the fields of the line."""

    def format(self, record: logging.LogRecord) -> str:
        level = _LEVELS.get(record.levelno, "error")
        fields = getattr(record, "fields", None)
        moment = datetime.fromtimestamp(record.created, UTC)
        text = rpc.console_line(level, record.getMessage(), fields, moment).removesuffix("\n")
        if record.exc_info and record.exc_info[0] is not None:
            text += "\n" + "".join(traceback.format_exception(*record.exc_info)).rstrip()
        return text
