from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from testground.builders import python
from testground.builders.python import Entry, ExecPython, parse_entry
from testground.errors import BuildError


def test_a_script(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "main.py").write_text("")
    assert parse_entry("src/main.py", tmp_path) == Entry("src/main.py")
    assert parse_entry("./src//main.py", tmp_path) == Entry("src/main.py")


@pytest.mark.parametrize(
    ("text", "module", "function"), [("plan:main", "plan", "main"), ("a.b_c:run_1", "a.b_c", "run_1")]
)
def test_a_function(tmp_path: Path, text: str, module: str, function: str) -> None:
    entry = parse_entry(text, tmp_path)
    assert (entry.module, entry.function) == (module, function)
    compile(entry.source, "", "exec")


def test_a_missing_script_names_the_nearest(tmp_path: Path) -> None:
    (tmp_path / "plan.py").write_text("")
    with pytest.raises(BuildError, match=r"no entry point 'plam\.py'; did you mean 'plan\.py'\?"):
        parse_entry("plam.py", tmp_path)


@pytest.mark.parametrize("text", ["/etc/passwd", "../main.py"])
def test_a_script_outside_the_plan_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(BuildError, match="must be a path inside the plan"):
        parse_entry(text, tmp_path)


@pytest.mark.parametrize("text", ["plan:main()", "plan:", ":main", "a b:main", "a:b:c", ""])
def test_what_is_neither(tmp_path: Path, text: str) -> None:
    with pytest.raises(BuildError):
        parse_entry(text, tmp_path)


@pytest.mark.parametrize("script", ["main.py", "it's here/main.py"])
def test_the_launcher_quotes_what_it_runs(tmp_path: Path, script: str) -> None:
    environment = tmp_path / "it's $HOME"
    (environment / "bin").mkdir(parents=True)
    fake = environment / "bin" / "python"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$PYTHONPATH" "$@"\n')
    fake.chmod(0o755)
    launcher = tmp_path / "run"
    launcher.write_text(python._launcher(environment, tmp_path / "a b", Entry(script)))
    launcher.chmod(0o755)
    said = subprocess.run([launcher, "x y"], capture_output=True, text=True, check=True, env={"PYTHONPATH": "old"})
    path = f"{tmp_path}/a b:old" if "/" in script else "old"
    assert said.stdout.splitlines() == [path, "-u", "-B", f"{tmp_path}/a b/{script}", "x y"]


def test_an_artifact_without_its_environment_is_not_cached(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("#!/bin/sh\n")
    (tmp_path / "run").chmod(0o755)
    assert not ExecPython().is_cached(str(tmp_path / "run"))
    (tmp_path / ".testground.json").write_text('{"environment": "/nowhere"}')
    assert not ExecPython().is_cached(str(tmp_path / "run"))
