"""Starts a program in a mount namespace of its own, where other files stand in the place of some of the machine's.

    python -I -S launcher.py REPORT USER NETWORK HOSTNAME [SOURCE TARGET]... -- [PROGRAM [ARGUMENT]...]

USER and NETWORK are descriptors of namespaces that it shall live in, or `-`. With HOSTNAME, which may be empty, the
machine has that name for it.

Run as a script by `namespaces`, once per instance: standard library only, and as little of it as will do. What goes
wrong before the program runs is written to the descriptor REPORT as `STEP⏎ERRNO`. Without a program it only tries.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # what `signal` wraps, which takes longer to import than all else
import ctypes
import os
import sys

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
PR_CAPBSET_DROP, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 24, 47, 2
CAP_NET_ADMIN, CAP_NET_RAW = 12, 13
CAPABILITY_VERSION = 0x20080522
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000

_libc = ctypes.CDLL(None, use_errno=True)


class Failed(Exception):
    """A step that the system refused."""

    def __init__(self, step: str, errno: int) -> None:
        super().__init__(step, errno)
        self.report = f"{step}\n{errno}".encode()


def main(report: int, user: str, network: str, hostname: str, arguments: list[str]) -> None:
    end = arguments.index("--")
    files, program = arguments[:end], arguments[end + 1 :]
    os.set_inheritable(report, False)
    try:
        join(user, network)
        leave(hostname)
        for source, target in zip(files[::2], files[1::2], strict=True):
            mount(source, target, MS_BIND)
        if program:
            start(program)
    except Failed as error:
        os.write(report, error.report)
        sys.exit(1)


def join(user: str, network: str) -> None:
    """Into namespaces that exist. The program cannot change the links and routes there, but it may open raw sockets."""
    if user != "-":
        enter(int(user), "the run's user namespace", CLONE_NEWUSER)
    if network != "-":
        enter(int(network), "the instance's network namespace", CLONE_NEWNET)
        if _libc.prctl(PR_CAPBSET_DROP, CAP_NET_ADMIN, 0, 0, 0):
            raise Failed("giving up a capability", ctypes.get_errno())
        if os.geteuid():
            keep(CAP_NET_RAW)


def keep(capability: int) -> None:
    """For the program, too: others than root lose theirs when they start one."""
    header, sets = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION), (ctypes.c_uint32 * 6)()
    _libc.capget(header, sets)
    sets[2] |= 1 << capability  # effective, permitted, inheritable
    if _libc.capset(header, sets) or _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0):
        raise Failed("keeping a capability", ctypes.get_errno())


def leave(hostname: str) -> None:
    """Into a mount namespace of one's own; for others than root in a user namespace, with the same user and group."""
    flags = CLONE_NEWNS | (CLONE_NEWUTS if hostname else 0)
    try:
        unshare("a mount namespace", flags)
    except Failed:
        own_user_namespace(flags)
    mount("none", "/", MS_REC | MS_PRIVATE)  # what is mounted here must not appear on the machine
    if hostname and _libc.sethostname(hostname.encode(), len(hostname)):
        raise Failed("a hostname", ctypes.get_errno())


def own_user_namespace(flags: int = 0) -> None:
    """And into other new namespaces along with it, where this process may do what root may."""
    user, group = os.geteuid(), os.getegid()
    unshare("a user namespace", CLONE_NEWUSER | flags)
    write("/proc/self/setgroups", "deny")
    write("/proc/self/uid_map", f"{user} {user} 1")
    write("/proc/self/gid_map", f"{group} {group} 1")


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


def enter(namespace: int, what: str, kind: int) -> None:
    """`namespace`: its descriptor, which the program will not have."""
    os.set_inheritable(namespace, False)
    if _libc.setns(namespace, kind):
        raise Failed(what, ctypes.get_errno())


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
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])
