"""The README does what it says: its plan runs, its composition too, and its configuration has no unknown key."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import pytest

from testground import config
from tests.acceptance.conftest import REPOSITORY, CommandLine, Finished

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
SCRIPT, MANIFEST, COMPOSITION, TEMPLATE, SETTINGS = re.findall(r"```(?:python|toml)\n(.*?)```", README, re.DOTALL)


def command(cli: CommandLine, start: str, **words: str) -> Finished:
    """Run the line of the README that starts like this, with some of its words replaced."""
    [line] = re.findall(rf"^    testground ({start} [^#\n]*)", README, re.MULTILINE)
    return cli(*(words.get(word, word) for word in line.split()))


def test_a_plan(cli: CommandLine) -> None:
    assert command(cli, "plan create").exit_code == 0
    plan = cli.home / "plans" / "mine"
    assert command(cli, "run single").exit_code == 0  # the plan as it was created
    (plan / "main.py").write_text(SCRIPT)
    (plan / "manifest.toml").write_text(MANIFEST)
    run = command(cli, "run single")
    assert run.exit_code == 0, run.stdout
    assert not run.log("WARN")
    assert run.log("I am number 2 of 2")
    assert run.log(f"created file: {run.run_ids[0]}.tgz")
    for start in ("tasks", "logs", "status", "collect"):
        assert command(cli, start, ID=run.run_ids[0]).exit_code == 0


def test_a_composition(cli: CommandLine) -> None:
    (cli.directory / "composition.toml").write_text(COMPOSITION)
    assert command(cli, "plan import").exit_code == 0
    run = command(cli, "run composition")
    assert run.exit_code == 0, run.stdout
    assert not run.log("WARN")
    assert len(list(cli.directory.glob("multiple-*.tgz"))) == 2
    with (cli.directory / "results.csv").open() as file:
        assert [(row["run_id"], row["outcome"]) for row in csv.DictReader(file)] == [
            ("quick", "success"),
            ("slow", "success"),
        ]


def test_a_template(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    (cli.directory / "template.toml").write_text(TEMPLATE)
    assert command(cli, "plan import").exit_code == 0
    [line] = re.findall(r"^    FANOUTS=(.*) testground (run composition .*)", README, re.MULTILINE)
    monkeypatch.setenv("FANOUTS", line[0])
    run = cli(*line[1].split())
    assert run.exit_code == 0, run.stdout
    assert run.log("(group0:4/4 group1:4/4)")


def test_the_configuration(tmp_path: Path) -> None:
    (tmp_path / ".env.toml").write_text(SETTINGS)
    env = config.load(config.Home(tmp_path))
    assert env.warnings == ()
    assert env.client.token in env.daemon.tokens
