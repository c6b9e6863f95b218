"""The sidecar process of one run: makes its networks, then one line of JSON at a time what the daemon asks for.

It ends when the daemon's end of the connection closes, in whatever way. With it and the instances all of the networks
is gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from typing import Any

from testground.drivers import launcher
from testground.errors import NetworkError
from testground.sidecar import config, misspelt
from testground.sidecar.reactor import Instance, LinkInfo
from testground.sidecar.topology import Hub, Space, TopologyError

_MOST_READ = 1 << 16


class Server:
    def __init__(self, connection: socket.socket, hub: Hub) -> None:
        self._connection, self._hub = connection, hub
        self._spaces: dict[str, Space] = {}
        self._numbers: dict[str, int] = {}
        self._instances: dict[str, Instance] = {}
        self._taken: dict[Any, str] = {}
        self._hosts: list[IPv4Address] = []
        self._unready: deque[str] = deque()
        """Hosts of whose links nothing is known yet."""
        self._led_out = False
        self._lent: list[socket.socket] = []
        """Sockets that are the daemon's once it has them."""

    def serve(self) -> None:
        """Answer requests in their order until the connection closes; between them, get ready for the next."""
        for line in _lines(self._connection, self._get_ready):
            request = json.loads(line)
            answer, descriptors = self._carry_out(request)
            say(self._connection, {"id": request["id"], **answer}, descriptors)
            while self._lent:
                self._lent.pop().close()

    def _carry_out(self, request: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        try:
            if "config" in request:
                return self._configure(request["host"], request["config"]), []
            if "listen" in request:
                return self._listen(request["listen"])
            if "link" in request:
                return self._lead_out(request["link"], request["nameserver"], request["hosts"]), []
            return self._add(request["host"], request["number"])
        except launcher.Failed as error:
            return {"error": refused(error)}, []
        except TopologyError as error:
            return {"error": str(error)}, []
        except OSError as error:
            return {"error": error.strerror or str(error)}, []

    def _add(self, host: str, number: int) -> tuple[dict[str, Any], list[int]]:
        space = self._hub.add(number)
        self._spaces[host], self._numbers[host] = space, number
        self._unready.append(host)
        self._taken[space.data.ip] = host
        return {}, [space.netns]

    def _listen(self, port: int) -> tuple[dict[str, Any], list[int]]:
        listener = self._hub.listen(port)
        self._lent.append(listener)
        return {}, [listener.fileno()]

    def _lead_out(self, link: str, nameserver: str, hosts: list[str]) -> dict[str, Any]:
        self._hosts = [IPv4Address(host) for host in hosts]
        self._hub.lead_out(link, IPv4Address(nameserver), self._hosts)
        self._led_out = True
        for instance in self._instances.values():
            instance.lead_out(self._hub.control[1])
        return {}

    def _configure(self, host: str, text: str) -> dict[str, Any]:
        """`text` is JSON, as it was published."""
        if host not in self._spaces:
            return {"error": f"{host} has not started yet"}
        try:
            payload = json.loads(text)
        except (ValueError, RecursionError) as error:  # JSON all the same: a number of thousands of digits
            return {"error": f"the network configuration cannot be read: {error}"}
        try:
            instance = self._instances.get(host) or self._instance(host)
            change = config.parse(payload)
            before = instance.ipv4
            instance.apply(change)
        except NetworkError as error:
            return {"error": str(error)}
        moved = {"address": str(instance.ipv4)} if instance.ipv4 != before else {}
        return {"state": change.callback_state, "warnings": misspelt.warnings(payload), **moved}

    def _get_ready(self) -> bool:
        """Once all are there, look at the links of one: its first change would wait for that. Whether there was one."""
        if len(self._spaces) < self._hub.instances or not self._unready:
            return False
        host = self._unready.popleft()
        if host not in self._instances:
            with contextlib.suppress(NetworkError):  # whoever asks for a change shall hear it
                self._instance(host)
        return True

    def _instance(self, host: str) -> Instance:
        space = self._spaces[host]
        instance = Instance(
            host,
            space.netns,
            control=LinkInfo("eth0", space.control),
            data=LinkInfo("eth1", space.data),
            services=[self._hub.control[1]],
            hosts=self._hosts,
            taken=self._taken,
            port=self._hub.port(self._numbers[host]),
        )
        instance.initialise()
        if self._led_out:
            instance.lead_out(self._hub.control[1])
        self._instances[host] = instance
        return instance


def open_hub(instances: int) -> tuple[Hub, int | None]:
    """The hub, and the descriptor of the user namespace that it takes for others than root."""
    user = None
    try:
        launcher.unshare("a network namespace", launcher.CLONE_NEWNET)
    except launcher.Failed:
        launcher.own_user_namespace()
        user = os.open("/proc/self/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    return Hub(instances), user


def say(connection: socket.socket, message: dict[str, Any], descriptors: list[int]) -> None:
    message["descriptors"] = len(descriptors)
    socket.send_fds(connection, [json.dumps(message).encode() + b"\n"], descriptors)


def refused(error: launcher.Failed) -> str:
    step, number = error.args
    return f"this machine refuses {step} ({os.strerror(number)})"


def _lines(connection: socket.socket, idle: Callable[[], bool]) -> Iterator[bytes]:
    """While nothing comes, `idle` is called for as long as it has something to do."""
    received = b""
    while True:
        try:
            data = connection.recv(_MOST_READ, socket.MSG_DONTWAIT)
        except BlockingIOError:
            if idle():
                continue
            data = connection.recv(_MOST_READ)
        if not data:
            return
        *lines, received = (received + data).split(b"\n")
        yield from lines
