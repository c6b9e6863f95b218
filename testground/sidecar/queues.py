"""What an interface sends, shaped: one class of traffic for all of it, and one more for each subnet with a shape.

The tree (contract §4.6) is planted when a shape asks for it first and then stays: changes are made in place, so that
nothing that is under way is lost, and an interface that nobody shapes is as fast as it was.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping

from testground.errors import NetworkError
from testground.sidecar import kernel, messages, rtsocket, shaping
from testground.sidecar.config import LinkShape, Subnet
from testground.sidecar.rtsocket import RoutingSocket

_FIRST_BRANCH = 0x10
_LAST_BRANCH = 0xFFFE
_TWO_NETEMS = "duplicating netems"
"""In the words of kernels that refuse a tree with two, one of which duplicates."""
_DUPLICATES = "this kernel does not duplicate on a link that also delays or loses by another rule"


class Queues:
    """Those of one interface. A failure is a `NetworkError` or an `OSError`, and leaves the tree in between."""

    def __init__(self, kernel: RoutingSocket, index: int, *, cut: Callable[[int], None] | None = None) -> None:
        """`cut` has that many packets handed over at a time; None: by programs, to the interface."""
        self._kernel = kernel
        self._index = index
        self._cut_at = cut or self._cut_here
        self._planted = False
        self._segments = shaping.MOST_SEGMENTS
        self._emulated: set[int] = set()
        self._branches: dict[Subnet, int] = {}

    def shape(self, default: LinkShape, branches: Mapping[Subnet, LinkShape]) -> None:
        """Shape everything by `default`, but what goes to the subnets of `branches`."""
        if default.plain and not branches and not self._planted:
            return
        self._plant()
        self._cut(min(map(shaping.segments, (default, *branches.values()))))
        self._set(messages.DEFAULT_CLASS, default)
        before = dict(self._branches)
        for subnet, shape in branches.items():
            self._set(self._branch(subnet), shape)
        for subnet in before.keys() - branches.keys():
            del self._branches[subnet]
        if self._branches != before:
            self._direct()
        for subnet in before.keys() - branches.keys():
            with rtsocket.tolerated(errno.ENOENT):
                self._kernel.request(messages.no_branch(self._index, before[subnet]))
            self._emulated.discard(before[subnet])

    def _plant(self) -> None:
        try:
            with rtsocket.tolerated(errno.EEXIST):
                self._kernel.request(messages.tree(self._index))
        except OSError as error:
            raise kernel.HTB.explain(error, "limited rates") from error
        self._planted = True

    def _cut(self, segments: int) -> None:
        """Connections notice when they look for their route again, new ones at once."""
        if segments != self._segments:
            self._cut_at(segments)
            self._segments = segments

    def _cut_here(self, segments: int) -> None:
        self._kernel.request(messages.link_segments(self._index, segments))

    def _set(self, minor: int, shape: LinkShape) -> None:
        self._kernel.request(messages.branch(self._index, minor, shape))
        if not shape.emulated and minor not in self._emulated:
            return
        try:
            self._kernel.request(messages.queue(self._index, minor, shape))
        except OSError as error:
            if _TWO_NETEMS in (error.strerror or ""):
                raise NetworkError(_DUPLICATES) from error
            raise kernel.NETEM.explain(error, _emulated(shape)) from error
        self._emulated.add(minor)

    def _branch(self, subnet: Subnet) -> int:
        if subnet not in self._branches:
            used = set(self._branches.values())
            free = (minor for minor in range(_FIRST_BRANCH, _LAST_BRANCH) if minor not in used)
            self._branches[subnet] = next(free)
        return self._branches[subnet]

    def _direct(self) -> None:
        """The kernel numbers filters itself, so they are all made anew."""
        with rtsocket.tolerated(errno.ENOENT):
            self._kernel.request(messages.no_directions(self._index))
        try:
            for subnet, minor in self._branches.items():
                self._kernel.request(messages.direct(self._index, subnet, minor))
        except OSError as error:
            raise kernel.U32.explain(error, "a shape for a part of the network") from error


def _emulated(shape: LinkShape) -> str:
    names = ("latency", "jitter", "loss", "corrupt", "reorder", "duplicate")
    asked = [name for name in names if getattr(shape, name)]
    return " and ".join([", ".join(asked[:-1]), asked[-1]] if asked[1:] else asked)
