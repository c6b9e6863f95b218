"""A plan's filters: a routing table of their own, asked before the instance's (contract §4.6).

In a table of their own they cannot take the place of the routes by which the data network and the services are reached,
and an accepted subnet within a blocked one goes on to those.
"""

from __future__ import annotations

import errno
from collections.abc import Mapping

from testground.errors import NetworkError
from testground.sidecar import messages, rtsocket
from testground.sidecar.config import Filter, Subnet
from testground.sidecar.rtsocket import RoutingSocket


class Verdicts:
    """Those of one instance. Failures are a `NetworkError` or an `OSError`."""

    def __init__(self, kernel: RoutingSocket) -> None:
        self._kernel = kernel
        self._asked: set[int] = set()
        self._filters: dict[Subnet, Filter] = {}

    def set(self, filters: Mapping[Subnet, Filter]) -> None:
        """The narrowest subnet decides; what none holds is accepted."""
        for version in {subnet.version for subnet in filters} - self._asked:
            self._ask(version)
        for subnet, filter_ in filters.items():
            if self._filters.get(subnet) is not filter_:
                self._kernel.request(messages.verdict(subnet, filter_))
                self._filters[subnet] = filter_
        for subnet in self._filters.keys() - filters.keys():
            with rtsocket.tolerated(errno.ESRCH):
                self._kernel.request(messages.no_verdict(subnet))
            del self._filters[subnet]

    def _ask(self, version: int) -> None:
        try:
            with rtsocket.tolerated(errno.EEXIST):
                self._kernel.request(messages.ask_verdicts(version))
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EOPNOTSUPP):
                raise
            option = "IPV6_MULTIPLE_TABLES" if version == 6 else "IP_MULTIPLE_TABLES"
            raise NetworkError(f"this kernel has no routing tables (CONFIG_{option}), which filters need") from error
        self._asked.add(version)
