from __future__ import annotations

from pathlib import Path

import pytest

from testground.api.composition import Dependency
from testground.builders import golang
from testground.builders.golang import ExecGo, GoConfig
from testground.config import EnvConfig, Home
from testground.errors import BuildError


@pytest.mark.parametrize(
    ("module", "target", "version", "expected"),
    [
        ("example.test/a", "", "v1.2.3", "example.test/a=example.test/a@v1.2.3"),
        ("example.test/a", "example.test/fork", "main", "example.test/a=example.test/fork@main"),
        ("example.test/a", "./fork", "", "example.test/a=./fork"),
    ],
)
def test_replacement(module: str, target: str, version: str, expected: str) -> None:
    assert golang._replacement(Dependency(module=module, target=target, version=version)) == expected


def test_a_module_is_no_option() -> None:
    with pytest.raises(BuildError, match="module = '-x' must not start with a dash"):
        golang._replacement(Dependency(module="-x", version="v1"))


@pytest.mark.parametrize(
    ("exec_pkg", "expected"),
    [
        ("", "."),
        ("cmd/server", "./cmd/server"),
        ("./cmd/server", "./cmd/server"),
        ("example.test/plan/cmd", "example.test/plan/cmd"),
    ],
)
def test_package(tmp_path: Path, exec_pkg: str, expected: str) -> None:
    (tmp_path / "cmd" / "server").mkdir(parents=True)
    assert golang._package(tmp_path, exec_pkg) == expected


def test_only_a_workspace_of_the_plan_takes_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GOWORK", raising=False)
    assert golang._environment(tmp_path)["GOWORK"] == "off"
    (tmp_path / "go.work").write_text("")
    assert "GOWORK" not in golang._environment(tmp_path)


async def test_a_missing_go_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="needs the go tool, which is not on the daemon's PATH; install Go"):
        await ExecGo().toolchain(GoConfig(), EnvConfig(home=Home(tmp_path)))
