"""New plans from the templates beside this file (client-daemon §6.5)."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from testground.cli import importing
from testground.config import Home
from testground.errors import PlanError, did_you_mean

TEMPLATES = Path(__file__).parent / "templates"
SUFFIX = ".j2"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_MODULE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._~/-]*")


def create(home: Home, plan: str, *, target: str, module: str, remote: str = "") -> Path:
    """Make the plan's directory, all or nothing, as a git repository if there is a git. Raises `PlanError`."""
    directory = importing.inside(home, plan)
    languages = sorted(entry.name for entry in TEMPLATES.iterdir() if entry.is_dir())
    if target not in languages:
        raise PlanError(f"unknown language target {target}{did_you_mean(target, languages)}")
    if not _NAME.fullmatch(directory.name):
        raise PlanError(f"'{directory.name}' cannot name a plan: use letters, digits and . _ -")
    if not _MODULE.fullmatch(module):
        raise PlanError(f"'{module}' is not the path of a Go module")
    if directory.is_symlink() or directory.exists():
        raise PlanError(f"there is already something at {directory}; remove it, or choose another name")
    try:
        _write(TEMPLATES / target, directory, {"name": directory.name, "plan": plan, "module": module})
    except OSError as error:
        raise PlanError(f"cannot create {directory}: {error.strerror or error}") from error
    _init_repository(directory, remote)
    return directory


def _write(template: Path, directory: Path, values: dict[str, str]) -> None:
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=directory.parent, prefix=".create-") as name:
        built = Path(name) / "plan"
        for source in sorted(template.rglob("*" + SUFFIX)):
            file = built / source.relative_to(template).with_suffix("")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(_rendered(source, values), encoding="utf-8")
        built.rename(directory)


def _rendered(source: Path, values: dict[str, str]) -> str:
    import jinja2

    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    return environment.from_string(source.read_text(encoding="utf-8")).render(values)


def _init_repository(directory: Path, remote: str) -> None:
    """A plan without history works as well: what git says against it is no error."""
    if shutil.which("git") is None:
        return
    initialised = subprocess.run(["git", "init", "--quiet", str(directory)], capture_output=True).returncode == 0
    if initialised and remote:
        subprocess.run(["git", "-C", str(directory), "remote", "add", "--", "origin", remote], capture_output=True)
