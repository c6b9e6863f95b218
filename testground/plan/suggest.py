"""The nearest name, for messages that list all names anyway."""

from __future__ import annotations

from collections.abc import Iterable

from testground.errors import did_you_mean


def nearest(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"`, or nothing when no name is close."""
    text = did_you_mean(name, known)
    return text if text.startswith("; did you mean") else ""
