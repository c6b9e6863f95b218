"""The network client: what an instance asks of its data network (contract §4.1, §4.2)."""

from __future__ import annotations

import enum
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from testground.errors import SyncError
from testground.sdk.runenv import RunEnv
from testground.sdk.sync import SyncClient, Topic

if TYPE_CHECKING:
    from ipaddress import IPv4Network

DEFAULT_NETWORK = "default"
NETWORK_INITIALIZED = "network-initialized"
SIOCGIFADDR = 0x8915


class FilterAction(enum.IntEnum):
    """What becomes of packets to a rule's subnet."""

    ACCEPT = 0
    REJECT = 1
    """The sender is told."""
    DROP = 2
    """The sender is left waiting."""


class RoutingPolicy(enum.StrEnum):
    """Whether an instance reaches anything beyond the data network and the infrastructure."""

    ALLOW_ALL = "allow_all"
    DENY_ALL = "deny_all"


@dataclass(frozen=True, kw_only=True)
class LinkShape:
    """How what an instance sends travels. Zero everywhere is the network as it is."""

    latency: float = 0
    """Seconds."""
    jitter: float = 0
    """Seconds."""
    bandwidth: int = 0
    """Bits per second; 0 is unlimited."""
    filter: FilterAction = FilterAction.ACCEPT
    """Honoured in rules only."""
    loss: float = 0
    """Percent, as all that follow."""
    corrupt: float = 0
    corrupt_corr: float = 0
    reorder: float = 0
    reorder_corr: float = 0
    duplicate: float = 0
    duplicate_corr: float = 0

    def __post_init__(self) -> None:
        for name in ("latency", "jitter", "bandwidth"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: it cannot be negative")
        for name in _PERCENTAGES:
            if not 0 <= getattr(self, name) <= 100:
                raise ValueError(f"{name} is {getattr(self, name)}: it is a percentage, 0 to 100")

    def wire(self) -> dict[str, Any]:
        """Durations in whole nanoseconds, whole percentages without a fraction."""
        return {
            "latency": round(self.latency * 1e9),
            "jitter": round(self.jitter * 1e9),
            "bandwidth": int(self.bandwidth),
            "filter": int(self.filter),
            **{name: _plain(getattr(self, name)) for name in _PERCENTAGES},
        }


@dataclass(frozen=True, kw_only=True)
class LinkRule(LinkShape):
    """What is different towards a part of the data network. Of the shape, sidecars honour the filter alone."""

    subnet: str
    """CIDR, such as `16.0.0.9/32`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_cidr("subnet", self.subnet)

    def wire(self) -> dict[str, Any]:
        return {**super().wire(), "subnet": self.subnet}


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig:
    """One change of the data network. It replaces the shape, the rules and the policy of the one before."""

    callback_state: str
    """Signalled by the sidecar once the change is in force."""
    callback_target: int = 0
    """How many instances to wait for; 0: all of the run."""
    network: str = DEFAULT_NETWORK
    enable: bool = True
    """False unplugs the instance."""
    ipv4: str | None = None
    """A new address with its mask, such as `16.0.1.1/16`; None keeps the one there is."""
    ipv6: str | None = None
    default: LinkShape = field(default_factory=LinkShape)
    rules: Sequence[LinkRule] = ()
    routing_policy: RoutingPolicy = RoutingPolicy.DENY_ALL

    def __post_init__(self) -> None:
        if not self.callback_state:
            raise ValueError("failed to configure network; no callback state provided")
        if self.ipv4 is not None:
            _check_cidr("ipv4", self.ipv4)

    def wire(self) -> dict[str, Any]:
        return {
            "network": self.network,
            "IPv4": self.ipv4,
            "IPv6": self.ipv6,
            "enable": self.enable,
            "default": self.default.wire(),
            "rules": [rule.wire() for rule in self.rules] or None,
            "callback_state": self.callback_state,
            "routing_policy": str(self.routing_policy),
        }


class NetworkClient:
    """Configures the data network through the sidecar. Without one it says so in the log and changes nothing."""

    def __init__(self, sync: SyncClient, env: RunEnv) -> None:
        self._sync = sync
        self._env = env

    async def wait_network_initialized(self) -> None:
        """Wait until the sidecar has prepared every instance. An initialised case has done so already."""
        stage = {"name": NETWORK_INITIALIZED, "group": self._env.group}
        await self._sync.signal_event({"stage_start_event": stage})
        try:
            if self._env.sidecar:
                await self._sync.barrier(NETWORK_INITIALIZED, self._env.instance_count)
        except SyncError:
            self._env.record_message("network initialisation failed")
            raise
        self._env.record_message("network initialisation successful")
        await self._sync.signal_event({"stage_end_event": stage})

    async def configure_network(self, config: NetworkConfig) -> None:
        """Have a change made, and wait until it is in force for `callback_target` instances."""
        if not self._env.sidecar:
            self._env.logger.warn("ignoring a network configuration: this runner has no sidecar")
            return
        topic: Topic[dict[str, Any]] = Topic(f"network:{socket.gethostname()}", dict[str, Any])
        await self._sync.publish(topic, config.wire())
        await self._sync.barrier(config.callback_state, config.callback_target or self._env.instance_count)

    def get_data_network_ip(self) -> str:
        """The instance's address in the data network; 127.0.0.1 without a sidecar. Raises `OSError` for none."""
        if not self._env.sidecar:
            return "127.0.0.1"
        found = _address_in(self._env.subnet) if self._env.subnet else None
        if found is None:
            raise OSError(f"no interface has an address in the data network {self._env.subnet}")
        return found


_PERCENTAGES = ("loss", "corrupt", "corrupt_corr", "reorder", "reorder_corr", "duplicate", "duplicate_corr")


def _plain(value: float) -> int | float:
    return int(value) if float(value).is_integer() else value


def _check_cidr(name: str, text: str) -> None:
    from ipaddress import ip_interface

    if "/" not in text:
        raise ValueError(f"{name} is '{text}': it needs a mask, such as {text}/32")
    try:
        ip_interface(text)
    except ValueError as error:
        raise ValueError(f"{name} is '{text}': {error}") from error


def _address_in(subnet: IPv4Network) -> str | None:
    from ipaddress import IPv4Address

    return next((address for address in _addresses() if IPv4Address(address) in subnet), None)


def _addresses() -> list[str]:
    """The IPv4 address of each interface. Sidecars exist on Linux only, so its request is enough."""
    import fcntl

    found = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                answer = fcntl.ioctl(probe, SIOCGIFADDR, request)
            except OSError:  # an interface without an address
                continue
            found.append(socket.inet_ntoa(answer[20:24]))
    return found
