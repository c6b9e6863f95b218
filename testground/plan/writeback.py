"""Writing artifacts back into a composition file (client-daemon §3.10)."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tomli_w
import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable

from testground.api.composition import Composition
from testground.errors import CompositionError
from testground.plan.composition import expanded_document


def write_back(file: Path, composition: Composition, *, plan: str = "") -> Path | None:
    """Store the artifacts of `composition` in the file it was read from.

    A file that lists the same groups only gets its artifacts changed: comments, order, templates and everything else
    stay. Any other one is replaced by the whole composition. If templates made its groups, then that is what upstream
    does too, and scripts go on with the file; but nobody's template is thrown away: it is kept at the place that is
    returned. `plan` is the path that the user gave: the daemon puts the manifest's name in its place.
    Raises `CompositionError`.
    """
    artifacts = {group.id: group.run.artifact for group in composition.groups or []}
    with _named(file):
        text = file.read_bytes().decode()
        edited = _with_artifacts(text, artifacts, file)
        template = None if edited is not None else _template_place(file, text)
        if template is not None:
            shutil.copy2(file, template)
        _replace(file, edited or _whole(composition, plan))
    return template


def check(file: Path, composition: Composition) -> None:
    """Find out before a run whether its artifacts can be written. Raises `CompositionError`."""
    with _named(file):
        text = file.read_bytes().decode()
        if _with_artifacts(text, {group.id: group.id for group in composition.groups or []}, file) is None:
            _template_place(file, text)


@contextlib.contextmanager
def _named(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeError) as error:
        raise CompositionError(f"failed to write composition file {file}: {error}") from error


def _with_artifacts(text: str, artifacts: dict[str, str], file: Path) -> str | None:
    """The text with nothing but the artifacts changed, or None if it does not list exactly these groups."""
    with contextlib.suppress(
        CompositionError, tomllib.TOMLDecodeError, TOMLKitError, KeyError, TypeError, AttributeError
    ):
        written = tomllib.loads(text)
        if [group["id"] for group in written["groups"]] != list(artifacts):
            return None
        expected = expanded_document(text, file)
        edited = tomlkit.parse(text)
        for group, before, meant in zip(edited["groups"], written["groups"], expected["groups"], strict=True):
            if artifact := artifacts[before["id"]]:
                meant.setdefault("run", {})["artifact"] = artifact
                _set_artifact(group, artifact)
        result = tomlkit.dumps(edited)
        if expanded_document(result, file) == expected:  # an odd layout can be more than tomlkit knows how to edit
            return result
    return None


def _template_place(file: Path, text: str) -> Path | None:
    """Where a file is kept that has templates; None for one that has not. Raises `CompositionError` if it is taken."""
    if "{{" not in text:
        return None
    place = file.with_name(f"{file.name}.template")
    if place.exists() and place.read_bytes() != text.encode():
        raise CompositionError(
            f"cannot write artifacts to {file}: its groups come from templates, which would be kept in {place}, "
            "but that is another file already; move it away, or leave --write-artifacts out"
        )
    return place


def _set_artifact(group: Any, artifact: str) -> None:
    if "run" in group:
        group["run"]["artifact"] = artifact
        return
    table = tomlkit.inline_table() if isinstance(group, InlineTable) else tomlkit.table()
    table["artifact"] = artifact
    group["run"] = table


def _whole(composition: Composition, plan: str) -> str:
    content = composition.model_dump(by_alias=True)  # not JSON: to upstream, `1` is no share, and dates stay dates
    if plan:
        content["global"]["plan"] = plan
    return tomli_w.dumps(_without_none(content))


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
