"""Golden vectors: bytes that upstream's programs exchanged, in our own form, in both directions.

The number of a vector is in the name of its test. Here are those of client-daemon §8.1 to §8.7 (C1 to C10, 8.2 to
8.6, P1 to P8) and of instance-contract §7.1, §7.6 and §7.7. The conversations §7.2 to §7.5 are in
`tests/integration/test_sync_golden.py`, Q1 to Q4 and L1 to L8 in `tests/acceptance/test_client_vectors.py`, the
templates T1 and T2 with their parser in `tests/unit/plan`.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from testground.client import Client
from tests.unit.conftest import FakeDaemon, fake_daemon

__all__ = ["fake_daemon"]


@pytest.fixture
def client(fake_daemon: FakeDaemon) -> Iterator[Client]:
    with Client(fake_daemon.endpoint) as client:
        yield client
