"""Log lines, as upstream's console encoder writes them. Without models, so that small processes can log, too."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

LEVELS = {"debug": 35, "info": 34, "warn": 33, "error": 31}
"""Level → ANSI colour, as upstream's console encoder."""


def console_line(level: str, message: str, fields: dict[str, Any] | None = None, now: datetime | None = None) -> str:
    """`Nov 23 18:27:12.181313⇥INFO⇥message⇥{"k": "v"}⏎` (client-daemon §2.3): scripts split it on blanks."""
    moment = (now or datetime.now(UTC)).astimezone(UTC)
    stamp = f"{moment:%b} {moment.day:2d} {moment:%H:%M:%S.%f}"
    line = f"{stamp}\t\x1b[{LEVELS[level]}m{level.upper()}\x1b[0m\t{message}"
    if fields:
        line += "\t" + json.dumps(fields, ensure_ascii=False, default=str)
    return line + "\n"
