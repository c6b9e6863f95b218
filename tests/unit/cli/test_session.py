from pathlib import Path
from typing import Any

import pytest

from testground import config
from testground.cli.session import Session


def test_a_go_daemon_at_the_default_address_is_used_and_named(
    home: Path, fake_daemon: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fake daemon does not say that it is ours, and nobody asked for its address."""
    env = config.load()
    default = type(env.client).model_construct(_fields_set=set(), endpoint=fake_daemon.endpoint, token="", user="")
    session = Session()
    session.env = env.model_copy(update={"client": default})
    with session.daemon() as daemon:
        assert (daemon.client.endpoint, daemon.client.original) == (fake_daemon.endpoint, True)
    assert capsys.readouterr().err == f"using the Go daemon at {fake_daemon.endpoint}\n"
