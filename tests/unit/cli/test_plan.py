import os
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest

from testground.plan import manifest

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


def test_list(cli: Any) -> None:
    assert cli("plan", "list").out == "suite/demo\n"
    assert cli("plan", "list", "--testcases").out == "suite/demo ok\n"


def test_a_broken_manifest_does_not_hide_the_other_plans(cli: Any, home: Path) -> None:
    (home / "plans" / "broken").mkdir()
    (home / "plans" / "broken" / "manifest.toml").write_text("name =")
    result = cli("plan", "list", "--testcases")
    assert (result.status, result.lines[-1]) == (0, "suite/demo ok")
    assert "broken/manifest.toml" in result.lines[0]


def test_describe(cli: Any) -> None:
    assert cli("describe", "--plan", "suite/demo").out == (
        'This test plan is called "demo".\n\n'
        "It can be built with strategies: [exec:go].\n\n"
        "It can be run with strategies: [local:exec].\n\n"
        "It has 1 test cases.\n\n"
        "TEST CASES:\n----------\n"
        "- Test case: ok\n  Instances:\n    minimum: 1\n    maximum: 5\n  Parameters:\n"
        "    | NAME | TYPE   | DESCRIPTION | UNIT | DEFAULT |\n"
        "    | b    | string |             |      |         |\n"
    )


def test_describe_an_unknown_plan(cli: Any) -> None:
    result = cli("describe", "-p", "suite/dmo")
    assert (result.status, result.out.endswith("; did you mean 'suite/demo'?\n")) == (1, True)


# -- import -----------------------------------------------------------------------------------------------------


@pytest.fixture
def elsewhere(tmp_path: Path, home: Path) -> Path:
    directory = tmp_path / "elsewhere" / "ping"
    shutil.copytree(home / "plans" / "suite" / "demo", directory)
    return directory


@pytest.mark.parametrize("form", ["{}", "{}/", "file://{}", "../elsewhere/ping"])
def test_import_links_a_directory(cli: Any, home: Path, elsewhere: Path, form: str) -> None:
    result = cli("plan", "import", "--from", form.format(elsewhere))
    target = home / "plans" / "ping"
    assert result.lines == [f"created symlink {target} -> {elsewhere}", "imported plans:", "ping ok"]
    assert os.readlink(target) == str(elsewhere)


def test_import_of_a_directory_of_plans_under_a_name(cli: Any, elsewhere: Path) -> None:
    result = cli("plan", "import", "--from", str(elsewhere.parent), "--name", "mine")
    assert result.lines[1:] == ["imported plans:", "mine/ping ok"]


def test_import_over_something(cli: Any, home: Path, elsewhere: Path) -> None:
    cli("plan", "import", "--from", str(elsewhere))
    result = cli("plan", "import", "--from", str(elsewhere))
    assert result.status == 0
    assert "\x1b[33mWARN\x1b[0m\tdestination dir already exists" in result.out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ("--from", "https://example.com/x"),
            "unknown scheme https for local files. did you forget to pass --git?",
        ),
        (("--from", "nosuch"), "cannot import nosuch: "),
        (("--from", ".", "--name", "../../x"), "'../../x' is not a path below "),
        (("--from", ".", "--name", "/x"), "'/x' is not a path below "),
    ],
)
def test_import_refused(cli: Any, home: Path, argv: tuple[str, ...], message: str) -> None:
    result = cli("plan", "import", *argv)
    assert (result.status, result.lines[-1][: len(message)]) == (1, message)
    assert os.listdir(home / "plans") == ["suite"]


@needs_git
def test_import_clones_a_repository(cli: Any, home: Path, elsewhere: Path) -> None:
    git = ["git", "-C", str(elsewhere), "-c", "user.name=t", "-c", "user.email=t@example.com"]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "-m", "x"]):
        subprocess.run([*git, *command], check=True)
    result = cli("plan", "import", "--git", "--from", f"file://{elsewhere}", "--name", "copy")
    target = home / "plans" / "copy"
    assert result.lines == [f"cloned plan {target} -> file://{elsewhere}", "imported plans:", "copy ok"]
    assert not (target / ".git").exists()


@needs_git
def test_import_of_what_cannot_be_cloned(cli: Any, home: Path) -> None:
    result = cli("plan", "import", "--git", "--from", "--upload-pack=touch x")
    assert result.status == 1
    assert "cannot clone --upload-pack" in result.out
    assert os.listdir(home / "plans") == ["suite"]
    assert not Path("x").exists()


# -- rm ---------------------------------------------------------------------------------------------------------


def test_rm(cli: Any, home: Path) -> None:
    assert cli("plan", "rm", "-p", "suite/demo").out == "really delete? pass --yes flag to confirm.\n"
    directory = home / "plans" / "suite" / "demo"
    assert directory.exists()
    assert cli("plan", "rm", "-p", "suite/demo", "--yes").out == f"plan at {directory} removed.\n"
    assert not directory.exists()


def test_rm_of_an_import_keeps_what_it_points_to(cli: Any, home: Path, elsewhere: Path) -> None:
    cli("plan", "import", "--from", str(elsewhere.parent), "--name", "mine")
    result = cli("plan", "rm", "-p", "mine/ping", "--yes")
    assert (result.status, "lies in an imported directory" in result.out) == (1, True)
    assert cli("plan", "rm", "-p", "mine", "--yes").status == 0
    assert (elsewhere / "manifest.toml").exists()


@pytest.mark.parametrize("name", ["..", "../home", ".", "", "/etc", "suite/../../x", "nosuch", "suite/demp", "a\0b"])
def test_rm_refused(cli: Any, home: Path, name: str) -> None:
    result = cli("plan", "rm", "--plan", name, "--yes")
    assert result.status == 1
    assert "is not a path below" in result.out or "there is no plan" in result.out
    assert (home / "plans" / "suite" / "demo" / "manifest.toml").exists()


# -- create -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "builder", "files"),
    [
        ("python", "exec:python", {".testgroundignore", "README.md", "main.py", "manifest.toml"}),
        ("go", "exec:go", {".testgroundignore", "README.md", "go.mod", "main.go", "manifest.toml"}),
    ],
)
def test_create(cli: Any, home: Path, target: str, builder: str, files: set[str]) -> None:
    result = cli("plan", "create", "-p", "mine/first", "--target", target, "--module", "example.com/first")
    directory = home / "plans" / "mine" / "first"
    assert result.out == f"new test plan created under: {directory}\n"
    assert {entry.name for entry in directory.iterdir()} - {".git"} == files
    created = manifest.load(directory)
    assert (created.name, list(created.builders or {})) == ("first", [builder])
    assert manifest.unknown_keys(directory) == []
    assert not [name for name in files if "{{" in (directory / name).read_text()]
    assert "--plan=mine/first" in (directory / "README.md").read_text()


def test_a_python_plan_is_the_default_and_compiles(cli: Any, home: Path) -> None:
    cli("plan", "create", "--plan", "first")
    source = home / "plans" / "first" / "main.py"
    compile(source.read_text(), source, "exec")
    parameters = tomllib.loads((source.parent / "manifest.toml").read_text())["testcases"][0]["params"]
    assert parameters["times"]["default"] == 3


@needs_git
def test_create_makes_a_repository(cli: Any, home: Path) -> None:
    cli("plan", "create", "--plan", "first", "--remote", "https://example.com/first.git")
    remote = ["git", "-C", str(home / "plans" / "first"), "remote", "get-url", "origin"]
    assert subprocess.run(remote, capture_output=True, text=True).stdout == "https://example.com/first.git\n"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("-p", "x", "--target", "pyton"), "unknown language target pyton; did you mean 'python'?"),
        (("-p", "x", "--target", ".."), "unknown language target .."),
        (("-p", "suite/demo"), "there is already something at "),
        (("-p", "../x"), "'../x' is not a path below "),
        (("-p", 'a"b'), "cannot name a plan"),
        (("-p", "x", "--target=go", "--module", "a b"), "'a b' is not the path of a Go module"),
        ((), 'Required flag "plan" not set'),
    ],
)
def test_create_refused(cli: Any, home: Path, argv: tuple[str, ...], message: str) -> None:
    result = cli("plan", "create", *argv)
    assert (result.status, message in result.out) == (1, True)
    assert os.listdir(home / "plans") == ["suite"]
