"""Compositions as files: reading, making one for a single group, writing artifacts back (client-daemon §3.1, §3.10)."""

from __future__ import annotations

import contextlib
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import tomli_w
import tomlkit
from pydantic import BaseModel
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import InlineTable

from testground.api.composition import Build, Composition, Dependency, Global, GlobalRun, Group, Instances
from testground.errors import CompositionError
from testground.plan import document, prepare


def load(file: Path) -> Composition:
    """Raises `CompositionError` that names the file, and the line or the key."""
    return parse(read(file), file)


def read(file: Path) -> dict[str, Any]:
    """The document in a composition file, not yet checked against the schema. Raises `CompositionError`."""
    try:
        text = document.read(file)
    except OSError as error:
        raise _failure(file)(error.strerror or str(error)) from error
    except ValueError as error:
        raise _failure(file)(str(error)) from error
    return document.parse(text, _failure(file))


def parse(content: dict[str, Any], file: Path) -> Composition:
    """Check a document that came from `file`. Raises `CompositionError` that names the key."""
    return document.decode(Composition, content, _failure(file))


def unknown_keys(content: dict[str, Any]) -> list[str]:
    """One sentence, with the nearest valid name, for each key of a document that nothing reads."""
    return document.unknown_keys(Composition, content, _keys)


def single(
    *,
    plan: str,
    builder: str,
    case: str = "",
    runner: str = "",
    instances: int = 0,
    build_config: dict[str, Any] | None = None,
    run_config: dict[str, Any] | None = None,
    dependencies: Sequence[Dependency] = (),
    test_params: dict[str, str] | None = None,
    artifact: str = "",
    disable_metrics: bool = False,
) -> Composition:
    """What `build single` and `run single` send: one group `single` and the run `default` (§6.2, §8.4, §8.5)."""
    group = Group(
        id="single",
        build=Build(dependencies=list(dependencies)),
        instances=Instances(count=instances),
        run=GlobalRun(artifact=artifact, test_params=dict(test_params or {})),
    )
    settings = Global(
        plan=plan,
        case=case,
        total_instances=instances,
        builder=builder,
        build_config=dict(build_config or {}),
        runner=runner,
        run_config=dict(run_config or {}),
        disable_metrics=disable_metrics,
    )
    return prepare.generate_default_run(Composition(global_=settings, groups=[group]))


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


def _failure(file: Path) -> document.Failure:
    return lambda problem: CompositionError(f"failed to load composition file: {file}: {problem}")


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


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
