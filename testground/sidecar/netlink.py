"""What all messages to the kernel's routing socket are made of: headers, attributes, and the objects they are about.

Written out, and not by a library: pyroute2 takes a fifth of a second to import, longer than it takes to connect the
instances of most runs, and the first change of a network would wait for it. Tests hold these bytes against its own.
"""

from __future__ import annotations

import struct

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
REPLACE, EXCLUSIVE, CREATE = 0x100, 0x200, 0x400

NEW_LINK, GET_LINK = 16, 18
NEW_ADDRESS, DELETE_ADDRESS = 20, 21
NEW_ROUTE, DELETE_ROUTE, GET_ROUTE = 24, 25, 26
NEW_NEIGHBOUR, DELETE_NEIGHBOUR = 28, 29
NEW_RULE = 32
NEW_QUEUE, NEW_CLASS, DELETE_CLASS, NEW_FILTER, DELETE_FILTER = 36, 40, 41, 44, 45

FAMILIES = {4: 2, 6: 10}
"""By the version of IP."""
BRIDGES = 7
MAIN_TABLE, STATIC, UNICAST = 254, 4, 1
ANYWHERE, ON_LINK = 0, 253
"""How far a route leads."""

HEADER = struct.Struct("=IHHII")
ROUTE = struct.Struct("=BBBBBBBBI")
_LINK = struct.Struct("=BBHiII")
_ADDRESS = struct.Struct("=BBBBI")
_NEIGHBOUR = struct.Struct("=BBHiHBB")
_TRAFFIC = struct.Struct("=BBHiIII")
_ATTRIBUTE = struct.Struct("=HH")

_UP = 1


def message(kind: int, flags: int, body: bytes, number: int = 0) -> bytes:
    return HEADER.pack(HEADER.size + len(body), kind, flags, number, 0) + body


def attribute(kind: int, data: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(data), kind) + data + bytes(-len(data) % 4)


def number(kind: int, value: int) -> bytes:
    return attribute(kind, struct.pack("=I", value))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def link(index: int, *, up: bool | None = None) -> bytes:
    """None leaves it as it is."""
    return _LINK.pack(0, 0, 0, index, _UP if up else 0, 0 if up is None else _UP)


def address(version: int, prefix: int, index: int, flags: int = 0) -> bytes:
    return _ADDRESS.pack(FAMILIES[version], prefix, flags, 0, index)


def route(version: int, prefix: int, *, table: int = MAIN_TABLE, scope: int = ANYWHERE, kind: int = UNICAST) -> bytes:
    return ROUTE.pack(FAMILIES[version], prefix, 0, 0, table, STATIC, scope, kind, 0)


def neighbour(family: int, index: int, state: int, flags: int = 0) -> bytes:
    return _NEIGHBOUR.pack(family, 0, 0, index, state, flags, 0)


def rule(version: int, table: int, action: int) -> bytes:
    return ROUTE.pack(FAMILIES[version], 0, 0, 0, table, 0, 0, action, 0)


def traffic(index: int, parent: int, handle: int, info: int = 0) -> bytes:
    return _TRAFFIC.pack(0, 0, 0, index, handle, parent, info)
