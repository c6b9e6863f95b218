"""Starts a program in a mount namespace of its own, where other files stand in the place of some of the machine's.

    python -I -S launcher.py REPORT [SOURCE TARGET]... -- [PROGRAM [ARGUMENT]...]

Run as a script by `namespaces`, once per instance: standard library only, and as little of it as will do. What goes
wrong before the program runs is written to the descriptor REPORT as `STEP⏎ERRNO`. Without a program it only tries.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what `signal` wraps, which takes longer to import than all else
import ctypes
import os
import sys

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000

_libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """A step that the system refused."""

    def __init__(self, step: str, errno: int) -> None:
        super().__init__(step, errno)
        self.report = f"{step}\n{errno}".encode()


def main(report: int, arguments: list[str]) -> None:
    end = arguments.index("--")
    files, program = arguments[:end], arguments[end + 1 :]
    os.set_inheritable(report, False)
    try:
        leave()
        for source, target in zip(files[::2], files[1::2], strict=True):
            mount(source, target, MS_BIND)
        if program:
            start(program)
    except Failed as error:
        os.write(report, error.report)
        sys.exit(1)


def leave() -> None:
    """Into a mount namespace of one's own; for others than root in a user namespace, with the same user and group."""
    try:
        unshare("a mount namespace", CLONE_NEWNS)
    except Failed:
        user, group = os.geteuid(), os.getegid()
        unshare("a user namespace", CLONE_NEWUSER | CLONE_NEWNS)
        write("/proc/self/setgroups", "deny")
        write("/proc/self/uid_map", f"{user} {user} 1")
        write("/proc/self/gid_map", f"{group} {group} 1")
    mount("none", "/", MS_REC | MS_PRIVATE)  # what is mounted here must not appear on the machine


def start(program: list[str]) -> None:
    """Become the program, with the signals and the environment that this process was given: Python changes both."""
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)
    with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 – pathlib costs more time than all the rest
        variables = file.read().split(b"\0")
    environment = dict(variable.split(b"=", 1) for variable in variables if b"=" in variable)
    try:
        os.execve(program[0], program, environment)
    except OSError as error:
        raise Failed("", error.errno or 0) from error


def unshare(what: str, flags: int) -> None:
    if _libc.unshare(flags):
        raise Failed(what, ctypes.get_errno())


def mount(source: str, target: str, flags: int) -> None:
    if _libc.mount(os.fsencode(source), os.fsencode(target), None, ctypes.c_ulong(flags), None):
        raise Failed(f"a mount at {target}", ctypes.get_errno())


def write(path: str, text: str) -> None:
    try:
        with open(path, "w") as file:  # noqa: PTH123
            file.write(text)
    except OSError as error:
        raise Failed(path, error.errno or 0) from error


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
