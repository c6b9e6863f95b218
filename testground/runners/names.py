"""Names of hosts that one instance resolves in its own way: its `/etc/hosts`, and who is asked before and after."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from ipaddress import IPv4Address
from pathlib import Path

HOSTS, ORDER, RESOLVER = "/etc/hosts", "/etc/nsswitch.conf", "/etc/resolv.conf"

_WIDTH = len("255.255.255.255")
"""Of every address here, so that another one fits in its place."""


def write(directory: Path, known: Mapping[str, str], nameserver: IPv4Address | None = None) -> dict[str, Path]:
    """Write what an instance needs to resolve `known`, names with their addresses; by the path where it needs it.

    With `nameserver`, that is asked for all other names, and not the machine's.
    """
    contents = {HOSTS: hosts(_read(HOSTS), known)}
    order = _read(ORDER)
    if files_first(order) != order:
        contents[ORDER] = files_first(order)
    if nameserver is not None and Path(RESOLVER).exists():  # nothing can be mounted where nothing is
        contents[RESOLVER] = resolver(_read(RESOLVER), nameserver)
    written = {path: directory / Path(path).name for path in contents}
    for path, file in written.items():
        file.write_text(contents[path], encoding="utf-8", errors="surrogateescape")
        file.chmod(0o644)
    return written


def hosts(machine: str, known: Mapping[str, str]) -> str:
    """A hosts file with `known`, and of the machine's what does not contradict it."""
    lines = [f"{address:<{_WIDTH}}\t{name}" for name, address in known.items()]
    for line in machine.splitlines():
        address, *names = line.partition("#")[0].split() or [""]
        if kept := [name for name in names if name not in known]:
            lines.append("\t".join([address, *kept]))
    return "\n".join([*lines, ""])


def move(file: Path, name: str, address: str) -> None:
    """Give one of the names that are `known` in a hosts file another address. Raises `OSError`.

    In place and in one piece: instances have the file mounted, may be reading it, and lines must not shift meanwhile.
    """
    with file.open("r+b", buffering=0) as opened:
        at = opened.readall().find(f"\t{name}\n".encode()) - _WIDTH
        if at >= 0:
            os.pwrite(opened.fileno(), f"{address:<{_WIDTH}}".encode(), at)


def resolver(machine: str, nameserver: IPv4Address) -> str:
    """The machine's `/etc/resolv.conf` with another nameserver."""
    kept = [line for line in machine.splitlines() if line.split(maxsplit=1)[:1] not in (["nameserver"], ["sortlist"])]
    return "\n".join([*kept, f"nameserver {nameserver}", ""])


def files_first(machine: str) -> str:
    """`/etc/nsswitch.conf` with the hosts file as the first source.

    Some systems ask a service first, which reads the machine's file and knows for sure that there is no other name.
    """
    return re.sub(r"(?m)^([ \t]*hosts:)(?![ \t]*files\b)(.*)$", _files_first, machine)


def _files_first(line: re.Match[str]) -> str:
    others = re.sub(r"\bfiles\b([ \t]*\[[^]]*\])?", "", line[2]).split()
    return " ".join([line[1], "files", *others])


def _read(path: str) -> str:
    """Empty where there is no such file."""
    file = Path(path)
    return file.read_text(encoding="utf-8", errors="surrogateescape") if file.is_file() else ""
