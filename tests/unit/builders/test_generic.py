from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from testground.builders import generic
from testground.builders.generic import ExecGeneric, GenericConfig
from testground.config import EnvConfig, Home
from testground.errors import BuildError


@pytest.mark.parametrize(
    ("build", "expected"),
    [
        ("", []),
        ([], []),
        ("make", [["make"]]),
        ("cc -o 'my file' x.c", [["cc", "-o", "my file", "x.c"]]),
        (["cc", "-o", "my file"], [["cc", "-o", "my file"]]),
        ([["make"], ["make", "install"]], [["make"], ["make", "install"]]),
    ],
)
def test_commands(build: Any, expected: list[list[str]]) -> None:
    assert GenericConfig.model_validate({"build": build}).build == expected


@pytest.mark.parametrize("build", ["'open", 3, [["make"], "install"], [[]], [["make", 1]], {"a": "b"}])
def test_malformed_commands(build: Any) -> None:
    with pytest.raises(ValidationError):
        GenericConfig.model_validate({"build": build})


def test_numbers_in_the_environment_are_spelled_out() -> None:
    assert GenericConfig.model_validate({"env": {"A": 1, "B": True, "C": "x"}}).env == {"A": "1", "B": "true", "C": "x"}


async def test_tools_of_the_system_are_part_of_the_toolchain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    env = EnvConfig(home=Home(tmp_path))
    without = await ExecGeneric().toolchain(GenericConfig(), env)
    assert await ExecGeneric().toolchain(GenericConfig(build=[["./build.sh"]]), env) == f"{without} "
    monkeypatch.setenv("CFLAGS", "-O3")
    assert "CFLAGS=-O3" in await ExecGeneric().toolchain(GenericConfig(), env)
    assert "/sh@" in await ExecGeneric().toolchain(GenericConfig(build=[["sh", "build.sh"]]), env)


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    (tmp_path / "plan").mkdir()
    return tmp_path / "plan"


def finish(plan: Path, **config: str) -> str:
    return generic._finish(plan, plan.with_name("tree"), GenericConfig.model_validate(config))


@pytest.mark.parametrize("name", ["main", "run"])
def test_the_usual_artifact(plan: Path, name: str) -> None:
    (plan / name).write_text("#!/bin/sh")
    assert finish(plan) == name


def test_the_usual_artifact_in_the_directory_of_the_build(plan: Path) -> None:
    (plan / "sub").mkdir()
    (plan / "sub" / "run").write_text("#!/bin/sh")
    (plan / "main").write_text("#!/bin/sh")
    assert finish(plan, path="sub") == "sub/run"


def test_no_usual_artifact(plan: Path) -> None:
    with pytest.raises(BuildError, match="no executable named 'main' or 'run'; set 'artifact'"):
        finish(plan)


@pytest.mark.parametrize("start", [b"#!/bin/sh\n", b"\x7fELF\x02"])
def test_what_lost_its_mode_is_made_executable(plan: Path, start: bytes) -> None:
    (plan / "x").write_bytes(start)
    finish(plan, artifact="x")
    assert (plan.with_name("tree") / "x").stat().st_mode & 0o111 == 0o111


def test_what_is_no_executable_is_named(plan: Path) -> None:
    (plan / "notes.txt").write_text("echo hello")
    with pytest.raises(BuildError, match=r"artifact 'notes\.txt' is neither executable nor starts with '#!'"):
        finish(plan, artifact="notes.txt")


def test_a_missing_artifact_is_named_with_the_nearest(plan: Path) -> None:
    (plan / "server").write_text("")
    with pytest.raises(BuildError, match="left no file 'serve' in the plan directory; did you mean 'server'"):
        finish(plan, artifact="serve")


def test_a_link_into_the_place_of_the_build_is_dead(plan: Path) -> None:
    (plan / "real").write_text("#!/bin/sh")
    (plan / "main").symlink_to(plan / "real")
    with pytest.raises(BuildError, match="left no file 'main'"):
        finish(plan, artifact="main")


def test_an_artifact_outside_the_plan_is_refused(plan: Path) -> None:
    with pytest.raises(BuildError, match="artifact = '/bin/true' must be a path inside the plan"):
        finish(plan, artifact="/bin/true")
