"""One daemon per home."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from testground.config import Home
from testground.daemon import lock
from testground.errors import ConfigError

HOLD = """
import sys, time
from pathlib import Path
from testground.config import Home
from testground.daemon import lock
with lock.hold(Home(Path(sys.argv[1]))) as held:
    held.record(endpoint="http://localhost:1", sync="127.0.0.1:2")
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path).create()


def test_a_second_holder_is_told_who_holds_it(home: Home) -> None:
    with lock.hold(home) as held:
        held.record(endpoint="http://localhost:4711", sync="127.0.0.1:5050")
        with pytest.raises(ConfigError) as caught, lock.hold(home):
            pass
    assert f"process {os.getpid()}" in str(caught.value)
    assert "http://localhost:4711" in str(caught.value)
    assert str(home.root) in str(caught.value)


def test_holder_reads_what_was_recorded_and_nothing_after_the_end(home: Home) -> None:
    assert lock.holder(home) is None
    with lock.hold(home) as held:
        assert lock.holder(home) == lock.Holder(os.getpid())
        held.record(endpoint="http://localhost:4711", sync="127.0.0.1:5050")
        assert lock.holder(home) == lock.Holder(os.getpid(), "http://localhost:4711", "127.0.0.1:5050")
        held.record(endpoint="http://x:1", sync="y:2")
        assert lock.holder(home) == lock.Holder(os.getpid(), "http://x:1", "y:2")
    assert lock.holder(home) is None
    with lock.hold(home):
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"pid":"x"}', '{"endpoint":"e"}', "\udcff"])
def test_a_file_that_makes_no_sense_names_no_holder(home: Home, content: str) -> None:
    (home.daemon / "daemon.lock").write_bytes(content.encode("utf-8", "surrogateescape"))
    assert lock.holder(home) is None


def test_a_killed_holder_leaves_no_lock(home: Home) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"process {process.pid}, http://localhost:1"), lock.hold(home):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    with lock.hold(home):
        assert lock.holder(home) == lock.Holder(os.getpid())
