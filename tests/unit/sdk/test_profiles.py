"""Profiles on demand (contract §6.3)."""

from __future__ import annotations

import pstats
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from testground.sdk import RunEnv
from testground.sdk.profiles import Profiles

MakeEnv = Callable[..., RunEnv]


def profile(make_env: MakeEnv, directory: Path, **wanted: str) -> None:
    profiles = Profiles(wanted, directory, make_env().logger)
    profiles.start()
    with profiles.cpu():
        sorted(range(1000))
    profiles.stop()


def test_the_processor_profile_can_be_read(make_env: MakeEnv, tmp_path: Path) -> None:
    profile(make_env, tmp_path, cpu="")
    stats = pstats.Stats(str(tmp_path / "cpu.prof"))
    assert any("sorted" in name for _, _, name in stats.stats)  # type: ignore[attr-defined]


def test_a_heap_profile_is_taken_at_the_end_too(make_env: MakeEnv, tmp_path: Path) -> None:
    try:
        profile(make_env, tmp_path, heap="1h")
    finally:
        tracemalloc.stop()
    [path] = tmp_path.iterdir()
    assert re.fullmatch(r"heap\.\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d\.prof", path.name)
    assert tracemalloc.Snapshot.load(str(path)).statistics("filename")


@pytest.mark.parametrize(
    ("wanted", "warning"),
    [
        ({"hepa": "5s"}, "unknown profile 'hepa'; did you mean 'heap'?"),
        ({"goroutine": "5s"}, "unknown profile 'goroutine'; there is: cpu, heap"),
        ({"heap": "often"}, "no heap profiles: 'often' is not a duration such as 5s"),
        ({"heap": "0s"}, "no heap profiles: '0s' is not a duration such as 5s"),
    ],
)
def test_what_cannot_be_profiled_is_one_warning(
    make_env: MakeEnv, tmp_path: Path, capsys: pytest.CaptureFixture[str], wanted: dict[str, str], warning: str
) -> None:
    profile(make_env, tmp_path, **wanted)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1
    assert f'"msg":"{warning}"' in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_without_profiles_nothing_is_traced(make_env: MakeEnv, tmp_path: Path) -> None:
    profile(make_env, tmp_path)
    assert not tracemalloc.is_tracing()


def test_a_full_disk_costs_the_profile_only(
    make_env: MakeEnv, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    profile(make_env, tmp_path / "missing", cpu="")
    assert "cannot write a profile" in capsys.readouterr().out
