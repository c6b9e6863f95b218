"""Task ids: xid (client-daemon §5.3), 12 bytes as 20 characters that sort by time."""

from __future__ import annotations

import itertools
import os
import re
import secrets
import time

ALPHABET = "0123456789abcdefghijklmnopqrstuv"
_PATTERN = re.compile(r"[0-9a-v]{20}")
_machine = secrets.token_bytes(3)
_counter = itertools.count(secrets.randbelow(1 << 24))


def new(seconds: int | None = None) -> str:
    """A fresh id; unique in this process, and across processes by machine bytes and process id."""
    raw = (
        (int(time.time()) if seconds is None else seconds).to_bytes(4, "big")
        + _machine
        + (os.getpid() & 0xFFFF).to_bytes(2, "big")
        + (next(_counter) & 0xFFFFFF).to_bytes(3, "big")
    )
    return encode(raw)


def encode(raw: bytes) -> str:
    """12 bytes → 20 characters of base32hex in lower case, padded with zero bits."""
    bits = int.from_bytes(raw, "big") << 4
    return "".join(ALPHABET[(bits >> shift) & 31] for shift in range(95, -1, -5))


def decode(text: str) -> bytes:
    """The 12 bytes of an id. Raises `ValueError` for anything that is not one."""
    if not _PATTERN.fullmatch(text):
        raise ValueError("task key must be a xid id")
    bits = 0
    for char in text:
        bits = bits << 5 | ALPHABET.index(char)
    return (bits >> 4).to_bytes(12, "big")


def normalize(text: str) -> str:
    """The one spelling of an id: its last character carries a single significant bit."""
    return encode(decode(text))


def seconds(text: str) -> int:
    """Unix seconds at which the id was made."""
    return int.from_bytes(decode(text)[:4], "big")
