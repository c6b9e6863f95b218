"""`make bench-upstream` compares, and says what it lacks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.bench import load, upstream, upstream_sync
from tests.bench.row import less, more
from tests.upstream import daemon, programs


def test_ratio_says_how_many_times_better_ours_is() -> None:
    assert more("rate", 30, 10, "/s").ratio == 3
    assert less("delay", 30, 10, "ms").ratio == pytest.approx(1 / 3)
    assert more("rate", 30, 10, "/s").ahead
    assert not less("delay", 30, 10, "ms").ahead
    assert not less("memory, where the system tells none", 0, 0, "MiB").known


def test_without_go_it_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.upstream"],
        env={**os.environ, "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "cannot build upstream's programs: no go toolchain\n"


@pytest.mark.timeout(programs.BUILD_DEADLINE)
def test_both_sync_services_answer_the_same_load(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if reason := programs.missing() or daemon.taken():
        pytest.skip(reason)
    for module, name, value in (
        (load, "CONNECTIONS", 5),
        (load, "SIGNALS", 5),
        (upstream_sync, "ROUNDS", 1),
        (upstream_sync, "INSTANCES", 10),
        (upstream_sync, "MESSAGES", 2),
    ):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(sys, "argv", ["upstream", "sync"])
    assert upstream.main() == 0
    output = capsys.readouterr().out
    assert "10 at a barrier: last signal to last release" in output
    assert output.count("ahead") + output.count("behind") >= 4  # and memory, where the system tells
