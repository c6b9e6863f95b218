"""Compositions with templates, from the command line to the instances."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.acceptance.conftest import CommandLine

RESOURCE = """
[[sizes]]
limit = 10
primes = 4

[[sizes]]
limit = 100
primes = 25
"""

TEMPLATE = """
{{- define "group" }}
[[groups]]
id = "{{ .Env.PREFIX }}-{{ .limit }}"
instances = { count = 1 }
[groups.run.test_params]
limit = "{{ .limit }}"
expected = "{{ .primes }}"
{{ end -}}

# the plan is {{ .Env.PLAN }}
[global]
plan = "{{ .Env.PLAN }}"
case = "primes"
builder = "exec:generic"
runner = "local:exec"
{{ range (load_resource "sizes.toml").sizes }}{{ template "group" (withEnv .) }}{{ end }}
"""

RUN = ("run", "composition", "--file=c.toml", "--wait")


@pytest.fixture
def file(cli: CommandLine, monkeypatch: pytest.MonkeyPatch) -> Path:
    if not (cli.home / "plans" / "07-shell").exists():
        assert cli("plan", "import", "--from=examples/07-shell").exit_code == 0
    monkeypatch.setenv("PLAN", "07-shell")
    monkeypatch.setenv("PREFIX", "up-to")
    (cli.directory / "sizes.toml").write_text(RESOURCE)
    file = cli.directory / "c.toml"
    file.write_text(TEMPLATE)
    return file


def test_groups_from_a_resource_and_names_from_the_environment(cli: CommandLine, file: Path) -> None:
    run = cli(*RUN)
    assert run.exit_code == 0, run.stdout + run.stderr
    assert run.log("run finished with outcome = success (up-to-10:1/1 up-to-100:1/1)")
    assert not run.log("WARN")
    assert file.read_text() == TEMPLATE


def test_writing_artifacts_keeps_the_template(cli: CommandLine, file: Path) -> None:
    run = cli(*RUN, "--write-artifacts")
    assert run.exit_code == 0, run.stdout + run.stderr
    kept = file.with_name("c.toml.template")
    assert kept.read_text() == TEMPLATE
    assert run.log(f"{file.name} now holds the expanded composition; what it held before is kept in {kept.name}")
    groups = tomllib.loads(file.read_text())["groups"]
    assert [group["id"] for group in groups] == ["up-to-10", "up-to-100"]
    assert all(Path(group["run"]["artifact"]).exists() for group in groups)

    again = cli(*RUN, "--write-artifacts")
    assert again.exit_code == 0 and not again.log("performing build"), again.stdout


def test_no_other_file_is_taken_for_the_template(cli: CommandLine, file: Path) -> None:
    """Known before the run, not after it."""
    file.with_name("c.toml.template").write_text("mine")
    run = cli(*RUN, "--write-artifacts")
    assert run.exit_code == 1 and not run.run_ids
    assert "cannot write artifacts to c.toml: its groups come from templates" in run.stdout + run.stderr
    assert (file.read_text(), file.with_name("c.toml.template").read_text()) == (TEMPLATE, "mine")


def test_a_variable_that_is_not_set_is_a_warning_where_text_is_possible(
    cli: CommandLine, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_text(TEMPLATE + '\n[metadata]\nname = "{{ .Env.NOT_SET_HERE }}"\n')
    run = cli(*RUN)
    assert run.exit_code == 0, run.stdout + run.stderr
    assert run.log("'metadata.name' contains <no value>: a template asks for a variable or key that is not there")


@pytest.mark.parametrize(
    ("template", "error"),
    [
        (
            "[global]\n{{ if .Env.PLAN }}",
            "c.toml: failed to process composition template: "
            "the '{{ end }}' of this block is missing (at line 2, column 1)",
        ),
        (
            '{{ load_resource "nope.toml" }}',
            "c.toml: failed to process composition template: load_resource: nope.toml: No such file or directory "
            "(at line 1, column 4)",
        ),
    ],
)
def test_mistakes_are_one_error_with_its_place(cli: CommandLine, file: Path, template: str, error: str) -> None:
    file.write_text(template)
    run = cli(*RUN)
    assert run.exit_code == 1
    assert (run.stdout + run.stderr).strip().endswith(f"failed to load composition file: {error}")
