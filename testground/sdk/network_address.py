"""The addresses of an instance: which it has, and which it may be given."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipaddress import IPv4Network

SIOCGIFADDR = 0x8915


def address_in(subnet: IPv4Network) -> str | None:
    """The first address of this machine in a subnet. Raises `OSError`."""
    from ipaddress import IPv4Address

    return next((address for address in addresses() if IPv4Address(address) in subnet), None)


def addresses() -> list[str]:
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


def with_mask(text: object, subnet: IPv4Network | None) -> str:
    """An IPv4 address to be given, with the mask of the data network if it has none. Raises `ValueError`."""
    from ipaddress import IPv4Interface

    if not isinstance(text, str):
        raise ValueError(f"ipv4 is {text!r}: it is a text such as '16.0.1.1/16'")
    try:
        interface = IPv4Interface(text if "/" in text or subnet is None else f"{text}/{subnet.prefixlen}")
    except ValueError as error:
        raise ValueError(f"ipv4 is '{text}': {error}") from error
    if subnet is not None and interface.ip not in subnet:
        raise ValueError(f"ipv4 is '{text}': it is not in the data network {subnet}")
    return str(interface)
