from types import SimpleNamespace

import pytest

from testground.runners import way_out
from testground.runners.way_out import WayOut, Wish


@pytest.fixture
def opening(monkeypatch):
    """A way out that is about to open, and goes on opening."""
    monkeypatch.setattr(way_out.slirp, "missing", lambda: "")
    return WayOut(run=None, sidecar=None, tasks=SimpleNamespace(start_soon=lambda task: None))


def test_so_many_changes_wait_and_no_more(opening, monkeypatch):
    monkeypatch.setattr(way_out, "MOST_WAITING", 3)
    applied, refused = [], []
    for payload in (b"allow_all", b"second", b"third", b"fourth"):
        opening.admit(Wish(payload, lambda payload=payload: applied.append(payload), refused.append))
    assert applied == []
    assert refused == ["network configuration refused: 3 earlier ones wait for the way out to open"]
