import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from testground.cli import app, grammar, session
from testground.cli.output import Output
from testground.errors import TestgroundError

TESTGROUND = [sys.executable, "-c", "from testground.cli.app import main; main()"]
TREE = grammar.tree(typer.main.get_command(app.app))


def commands(node: grammar.Node, *path: str) -> list[tuple[str, ...]]:
    found = [path] if path else []
    return found + [leaf for name, child in node.commands.items() for leaf in commands(child, *path, name)]


@pytest.mark.parametrize("path", commands(TREE))
def test_each_command_explains_itself_with_an_example(cli: Any, path: tuple[str, ...]) -> None:
    result = cli(*path, "--help")
    assert result.status == 0
    assert "Usage: testground " + " ".join(path) in result.out
    assert "Example: " in result.out
    assert "\n testground " in result.out
    assert "<bool>" not in result.out
    assert cli("help", *path).out == result.out


def test_no_example_is_longer_than_a_line_of_a_terminal() -> None:
    """A wrapped one cannot be copied."""
    pending = [typer.main.get_command(app.app)]
    while pending:
        command = pending.pop()
        pending += getattr(command, "commands", {}).values()
        for line in (command.epilog or "").splitlines():
            assert len(line.replace("\\[", "[")) <= 78 or line.startswith("[bold]"), line


def test_flags_of_upstream_are_all_there() -> None:
    """client-daemon §6.2, as `name(alias)`."""
    expected = {
        ("build", "composition"): "file(f) write-artifacts(w) link-sdk wait",
        ("build", "single"): "builder(b) plan(p) build-cfg dep(d) link-sdk wait",
        ("build", "purge"): "builder(b) plan(p)",
        ("run", "composition"): "file(f) write-artifacts(w) link-sdk wait ignore-artifacts(i) collect collect-file(o) "
        "run-ids result-file(O) metadata-repo metadata-branch metadata-commit",
        ("run", "single"): "builder(b) plan(p) build-cfg dep(d) link-sdk wait instances(i) runner(r) testcase(t) "
        "run-cfg test-param(tp) use-build(ub) collect collect-file(o) metadata-repo metadata-branch metadata-commit "
        "disable-metrics",
        ("collect",): "runner(r) output(o)",
        ("terminate",): "runner builder",
        ("healthcheck",): "runner fix",
        ("tasks",): "",
        ("status",): "task(t) extended",
        ("logs",): "task(t) follow(f)",
        ("describe",): "plan(p)",
        ("plan", "create"): "plan(p) target module remote",
        ("plan", "import"): "from git name",
        ("plan", "rm"): "plan(p) yes",
        ("plan", "list"): "testcases",
        ("daemon",): "",
        ("version",): "",
        ("sync-service",): "listen",
    }
    for path, flags in expected.items():
        node = TREE
        for name in path:
            node = node.commands[name]
        for flag in flags.split():
            name, _, alias = flag.rstrip(")").partition("(")
            assert node.flags[name].long == f"--{name}"
            assert not alias or node.flags[alias] == node.flags[name]
    assert {"endpoint", "v", "vv"} <= TREE.flags.keys()
    for group, aliases in {"run": "sc", "build": "scp"}.items():
        assert set(aliases) <= TREE.commands[group].commands.keys()


@pytest.mark.parametrize("argv", [(), ("run",), ("plan",), ("--vv",)])
def test_without_a_command(cli: Any, argv: tuple[str, ...]) -> None:
    result = cli(*argv)
    assert result.status == (1 if argv == ("--vv",) else 0)
    assert "Usage: testground" in result.out or result.out == "Missing command.\n"


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (("rnu",), "No help topic for 'rnu'; did you mean 'run'?"),
        (("plan", "crate"), "No help topic for 'crate'; did you mean 'create'?"),
        (("sidecarr",), "No help topic for 'sidecarr'"),
    ],
)
def test_an_unknown_command_is_exit_status_3(cli: Any, argv: tuple[str, ...], text: str) -> None:
    result = cli(*argv)
    assert (result.status, result.lines) == (3, [text])


def test_missing_flags_are_named_below_the_help(cli: Any) -> None:
    result = cli("build", "single", "--wait")
    assert (result.status, result.lines[-1]) == (1, 'Required flags "plan, builder" not set')
    assert "Usage: testground build single" in result.out


def test_version(cli: Any) -> None:
    result = cli("version")
    assert result.lines[0] == "Testground"
    assert len(result.lines[1].removeprefix("Git commit: ")) in (5, 8)
    assert result.lines[2] == "Version: 0.1.0"


def test_a_broken_configuration(cli: Any, home: Path) -> None:
    (home / ".env.toml").write_text("[daemon\n")
    result = cli("tasks")
    assert (result.status, result.lines[-1].partition(", but")[0]) == (1, f"found .env.toml at {home / '.env.toml'}")
    assert cli("version").status == 0


def test_unknown_keys_of_the_configuration_are_named(cli: Any, home: Path, fake_daemon: Any) -> None:
    (home / ".env.toml").write_text(f'[client]\nendpoint = "{fake_daemon.endpoint}"\ntokn = "x"\n')
    fake_daemon.result("/tasks", None)
    assert "unknown key 'client.tokn'; did you mean 'token'?" in cli("tasks").lines[0]


@pytest.mark.parametrize("verbose", [False, True])
def test_an_unexpected_error_is_one_line(cli: Any, monkeypatch: pytest.MonkeyPatch, verbose: bool) -> None:
    monkeypatch.setattr(session, "_answers", None)
    monkeypatch.setattr(session.Session, "daemon", None)
    result = cli("tasks", *(["--vv"] if verbose else []))
    assert (result.status, result.lines) == (1, ["internal error: TypeError: 'NoneType' object is not callable"])
    assert ("Traceback" in result.err) == verbose
    assert ("--vv" in result.err) != verbose


def test_errors_have_their_exit_status(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class SpecialError(TestgroundError):
        exit_code = 7

    def fail(self: object, **how: bool) -> None:
        raise SpecialError("special")

    monkeypatch.setattr(session.Session, "daemon", fail)
    result = cli("tasks")
    assert (result.status, result.out) == (7, "special\n")


def test_log_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [
        ({}, False, "iwe"),
        ({}, True, "diwe"),
        ({"LOG_LEVEL": "warn"}, True, "we"),
        ({"LOG_LEVEL": "x"}, False, "iwe"),
    ]
    for environ, verbose, expected in cases:
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        output = Output()
        output.set_level(verbose=verbose, environ=environ)
        for level in ("debug", "info", "warn", "error"):
            output.log(level, level)
        text = sys.stdout.getvalue()
        assert "".join(level[0] for level in ("debug", "info", "warn", "error") if f"\t{level}\n" in text) == expected


# -- as a process -----------------------------------------------------------------------------------------------


def test_help_imports_nothing_heavy() -> None:
    """Rich only draws the help; the rest belongs to the commands that need it."""
    script = (
        "import sys, testground.cli.app;"
        "heavy = ('pydantic', 'httpx', 'rich', 'fastapi', 'anyio', 'jinja2', 'requests', 'msgspec', 'tomlkit');"
        "sys.exit(' '.join(name for name in heavy if name in sys.modules) or 0)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")


@pytest.mark.parametrize("argv", [["--help"], ["plan", "list"], ["version"]])
def test_a_reader_that_goes_away_is_no_news(home: Path, argv: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    environment = {**os.environ, "TESTGROUND_HOME": str(home)}
    found = subprocess.run([*TESTGROUND, *argv], stdout=writer, stderr=subprocess.PIPE, env=environment)
    os.close(writer)
    assert (found.returncode, found.stderr) == (1, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_one_sentence(home: Path) -> None:
    environment = {**os.environ, "TESTGROUND_HOME": str(home)}
    with Path("/dev/full").open("w") as full:
        found = subprocess.run(
            [*TESTGROUND, "version"], stdout=full, stderr=subprocess.PIPE, text=True, env=environment
        )
    assert (found.returncode, found.stderr.count("\n")) == (1, 1)
    assert "No space left on device" in found.stderr


def test_a_closed_output_is_no_error(home: Path) -> None:
    shell = f"{sys.executable} -c 'from testground.cli.app import main; main()' version >&- 2>&-"
    assert subprocess.run(["sh", "-c", shell]).returncode == 0


def test_arguments_are_text(cli: Any) -> None:
    result = cli("describe", "-p", "\udcff")
    assert (result.status, result.out) == (1, "the argument '\\udcff' is not UTF-8\n")
