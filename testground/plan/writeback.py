"""Writing artifacts back into a composition file (client-daemon §3.10)."""

from __future__ import annotations

import contextlib
import os
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


def write_back(file: Path, composition: Composition) -> Path | None:
    """Store the artifacts of `composition` in the file it was read from.

    A file that lists the same groups only gets its artifacts changed: comments, order, templates and everything else
    stay. Any other one is replaced by the whole composition. If templates made its groups, then that is what upstream
    does too, and scripts go on with the file; but nothing that somebody wrote is thrown away, also if it was written
    while the run went on: it is kept at the place that is returned. Raises `CompositionError`.
    """
    artifacts = {group.id: group.run.artifact for group in composition.groups or []}
    with _named(file):
        text = file.read_bytes().decode()
        edited = _with_artifacts(text, artifacts, file)
        if edited is not None:
            _replace(file, edited)
            return None
        place = _free_place(file, text)
        if not place.exists():
            _keep(place, text, file)
        _replace(file, _whole(composition))
    return place


def check(file: Path, composition: Composition) -> None:
    """Find out before a run whether its artifacts can be written. Raises `CompositionError`."""
    with _named(file):
        text = file.read_bytes().decode()
        directory = file.resolve().parent
        if not os.access(directory, os.W_OK):
            raise CompositionError(f"cannot write artifacts to {file}: {directory} cannot be written to")
        if _with_artifacts(text, {group.id: group.id for group in composition.groups or []}, file) is None:
            _free_place(file, text)


@contextlib.contextmanager
def _named(file: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, UnicodeError) as error:
        raise CompositionError(f"failed to write composition file {file}: {error}") from error


def _with_artifacts(text: str, artifacts: dict[str, str], file: Path) -> str | None:
    """The text with nothing but the artifacts changed, or None if it does not list exactly these groups."""
    with contextlib.suppress(
        CompositionError, TOMLKitError, ValueError, RecursionError, KeyError, TypeError, AttributeError
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
        if result.endswith("\n\n") and not text.endswith("\n\n"):
            result = result[:-1]
        if expanded_document(result, file) == expected:  # an odd layout can be more than tomlkit knows how to edit
            return result
    return None


def _free_place(file: Path, text: str) -> Path:
    """Where a file is kept that is to be replaced. Raises `CompositionError` if something else is there."""
    reason = "its groups come from templates" if "{{" in text else "it would have to be written anew"
    place = file.with_name(f"{file.name}.{'template' if '{{' in text else 'old'}")
    if place.is_symlink() or (place.exists() and place.read_bytes() != text.encode()):
        raise CompositionError(
            f"cannot write artifacts to {file}: {reason}, and what it holds would be kept in {place}, "
            "but that is another file already; move it away, or leave --write-artifacts out"
        )
    return place


def _set_artifact(group: Any, artifact: str) -> None:
    if "run" in group:
        group["run"]["artifact"] = artifact
        return
    if isinstance(group, InlineTable):
        group["run"] = tomlkit.inline_table().append("artifact", artifact)
    else:
        group["run"] = tomlkit.table().append("artifact", artifact).add(tomlkit.nl())


def _whole(composition: Composition) -> str:
    content = composition.model_dump(by_alias=True)  # not JSON: to upstream, `1` is no share, and dates stay dates
    return tomli_w.dumps(_without_none(content))


def _without_none(value: Any) -> Any:
    """TOML has no null: what is not given is left out."""
    if isinstance(value, dict):
        return {key: _without_none(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_none(item) for item in value if item is not None]
    return value


def _keep(place: Path, text: str, file: Path) -> None:
    """Write a copy of `file`, but over nothing that somebody else has put there in the meantime."""
    with place.open("x", encoding="utf-8", newline="") as stream:
        _finish(stream, text, file)


def _replace(file: Path, text: str) -> None:
    """All or nothing; a symlink stays one."""
    target = file.resolve()
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="", dir=target.parent, delete=False) as stream:
        temporary = Path(stream.name)
        try:
            _finish(stream, text, target)
            temporary.replace(target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _finish(stream: Any, text: str, like: Path) -> None:
    """All of the text is on the disk, with the mode of `like`."""
    stream.write(text)
    stream.flush()
    os.fsync(stream.fileno())
    os.fchmod(stream.fileno(), like.stat().st_mode & 0o777)
