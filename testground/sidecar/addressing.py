"""The addresses of every run's networks (contract §4.3)."""

from __future__ import annotations

from ipaddress import IPv4Network

CONTROL = IPv4Network("192.18.0.0/16")
DATA = IPv4Network("16.0.0.0/16")
FIRST_HOST = 2
"""The first of a network is the hub's."""
