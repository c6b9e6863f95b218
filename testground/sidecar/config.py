"""What a plan asks of its network: `network.Config` of the SDKs (contract §4.1)."""

from __future__ import annotations

from testground.api.model import WireModel


class NetworkConfig(WireModel):
    """One change of an instance's data network."""

    callback_state: str = ""


def parse(payload: object) -> NetworkConfig:
    """The published JSON value. Raises `NetworkError` that names the member."""
    raise NotImplementedError
