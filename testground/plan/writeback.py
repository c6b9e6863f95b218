"""Writing artifacts back into a composition file (client-daemon §3.10)."""

from __future__ import annotations

import contextlib
import tempfile
import tomllib
from pathlib import Path
from typing import Any

import tomli_w
import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable

from testground.api.composition import Composition
from testground.errors import CompositionError


def write_back(file: Path, composition: Composition, *, plan: str = "") -> None:
    """Store the artifacts of `composition` in the file it was read from.

    A file with the same groups only gets its artifacts changed: comments, order and everything else stay. Any other
    one, such as a template, is replaced by the whole composition. `plan` is the path that the user gave: the daemon
    puts the manifest's name in its place. Raises `CompositionError`.
    """
    artifacts = {group.id: group.run.artifact for group in composition.groups or []}
    try:
        text = _with_artifacts(file.read_bytes().decode(), artifacts)
        _replace(file, text or _whole(composition, plan))
    except (OSError, UnicodeError) as error:
        raise CompositionError(f"failed to write composition file {file}: {error}") from error


def _with_artifacts(text: str, artifacts: dict[str, str]) -> str | None:
    """The text with nothing but the artifacts changed, or None if it does not list exactly these groups."""
    with contextlib.suppress(tomllib.TOMLDecodeError, TOMLKitError, KeyError, TypeError, AttributeError):
        expected = tomllib.loads(text)
        if [group["id"] for group in expected["groups"]] != list(artifacts):
            return None
        edited = tomlkit.parse(text)
        for group, before in zip(edited["groups"], expected["groups"], strict=True):
            if artifact := artifacts[before["id"]]:
                before.setdefault("run", {})["artifact"] = artifact
                _set_artifact(group, artifact)
        result = tomlkit.dumps(edited)
        if tomllib.loads(result) == expected:  # an odd layout can be more than tomlkit knows how to edit
            return result
    return None


def _set_artifact(group: Any, artifact: str) -> None:
    if "run" in group:
        group["run"]["artifact"] = artifact
        return
    table = tomlkit.inline_table() if isinstance(group, InlineTable) else tomlkit.table()
    table["artifact"] = artifact
    group["run"] = table


def _whole(composition: Composition, plan: str) -> str:
    wire = composition.wire()
    if plan:
        wire["global"]["plan"] = plan
    return tomli_w.dumps(_without_none(wire))


def _without_none(value: Any) -> Any:
    """TOML has no null: what is not given is left out."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value if item is not None]
    return value


def _replace(file: Path, text: str) -> None:
    """All or nothing; a symlink stays one, and the mode stays."""
    target = file.resolve()
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="", dir=target.parent, delete=False) as stream:
        temporary = Path(stream.name)
        try:
            stream.write(text)
            stream.close()
            temporary.chmod(target.stat().st_mode & 0o777)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
