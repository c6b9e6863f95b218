"""Extra sources of the builders of groups, not of the global one alone (client-daemon §7.1 no. 30)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import CommandLine

MANIFEST = """
name = "extra"
[builders."exec:generic"]
build = ["sh", "build.sh"]
artifact = "made"
[builders."exec:python"]
[runners."local:exec"]
[[testcases]]
name = "ok"
instances = { min = 1, max = 2 }
[extra_sources]
exec_generic = ["../common"]
exec_python = ["../shared"]
"""
BUILD = r"""
set -e
cmp "$TESTGROUND_EXTRA/common/word" ../extra/common/word
cat "$TESTGROUND_EXTRA"/*/word > words
cat > made <<'END'
#!/bin/sh
cat "$(dirname "$0")/words"
echo '{"event":{"success_event":{"group":"'"$TEST_GROUP_ID"'"}}}'
END
"""
PYTHON = """
from testground.sdk import invoke_map

if __name__ == "__main__":
    invoke_map({"ok": lambda env: None})
"""
COMPOSITION = """
[global]
plan = "extra"
case = "ok"
builder = "exec:python"
runner = "local:exec"
[[groups]]
id = "made"
builder = "exec:generic"
instances = { count = 1 }
"""
PYTHON_GROUP = """
[[groups]]
id = "python"
instances = { count = 1 }
"""


@pytest.fixture
def plan(cli: CommandLine, tmp_path: Path) -> Iterator[Path]:
    """Imported from where its extra sources lie beside it."""
    directory = tmp_path / "sources" / "extra"
    directory.mkdir(parents=True)
    for name, text in {"manifest.toml": MANIFEST, "build.sh": BUILD, "main.py": PYTHON}.items():
        (directory / name).write_text(text)
    for name in ("common", "shared"):
        (directory.parent / name).mkdir()
        (directory.parent / name / "word").write_text(f"{name} of {tmp_path.name}\n")
    assert cli("plan", "import", "--from", str(directory)).exit_code == 0
    yield directory
    assert cli("plan", "rm", "--plan", "extra", "--yes").exit_code == 0


def run(cli: CommandLine, composition: str) -> str:
    (cli.directory / "c.toml").write_text(composition)
    done = cli("run", "composition", "-f", "c.toml", "--wait")
    assert done.exit_code == 0, done.stdout
    return done.stdout


def test_a_group_with_a_builder_of_its_own_gets_that_builders(cli: CommandLine, plan: Path, tmp_path: Path) -> None:
    said = run(cli, COMPOSITION)
    assert f"common of {tmp_path.name}" in said
    assert f"shared of {tmp_path.name}" not in said


def test_groups_of_different_builders_share_the_union(cli: CommandLine, plan: Path, tmp_path: Path) -> None:
    said = run(cli, COMPOSITION + PYTHON_GROUP)
    assert f"common of {tmp_path.name}" in said
    assert f"shared of {tmp_path.name}" in said


def test_another_content_is_another_build(cli: CommandLine, plan: Path, tmp_path: Path) -> None:
    run(cli, COMPOSITION)
    (plan.parent / "common" / "word").write_text("something new\n")
    assert "something new" in run(cli, COMPOSITION)
