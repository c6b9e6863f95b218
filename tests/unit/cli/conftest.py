from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from testground.cli import app

MANIFEST = """
name = "demo"
[builders."exec:go"]
enabled = true
[runners."local:exec"]
enabled = true
[[testcases]]
name = "ok"
instances = { min = 1, max = 5 }
  [testcases.params]
  b = { type = "string" }
"""


@dataclass
class Result:
    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


Cli = Callable[..., Result]


@pytest.fixture
def home(tmp_path: Path, fake_daemon: Any, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with the plan suite/demo, whose configuration names the fake daemon."""
    root = tmp_path / "home"
    plan = root / "plans" / "suite" / "demo"
    plan.mkdir(parents=True)
    (plan / "manifest.toml").write_text(MANIFEST)
    (plan / "main.go").write_text("package main\n")
    (root / ".env.toml").write_text(f'[client]\nendpoint = "{fake_daemon.endpoint}"\nuser = "me"\n')
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("TESTGROUND_HOME", str(root))
    monkeypatch.delenv("LOG_LEVEL", raising=False)
    return root


@pytest.fixture
def cli(home: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    def call(*argv: str) -> Result:
        status = app.run_command(argv)
        captured = capsys.readouterr()
        return Result(status, captured.out, captured.err)

    return call
