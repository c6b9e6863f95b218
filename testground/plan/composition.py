"""Compositions as files: reading, and making one for a single group (client-daemon §3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from testground.api.composition import Build, Composition, Dependency, Global, GlobalRun, Group, Instances
from testground.errors import CompositionError, in_words
from testground.plan import document, expansion, prepare
from testground.plan.template import NO_VALUE


def load(file: Path) -> Composition:
    """Raises `CompositionError` that names the file, and the line or the key."""
    return parse(read(file), file)


def read(file: Path) -> dict[str, Any]:
    """The document in a composition file, its templates expanded, not yet checked against the schema.

    Raises `CompositionError` that names the line: of the file, and of the expanded text where the two differ.
    """
    try:
        text = document.read(file)
    except OSError as error:
        raise _failure(file)(error.strerror or str(error)) from error
    except ValueError as error:
        raise _failure(file)(str(error)) from error
    return expanded_document(text, file)


def expanded_document(text: str, file: Path) -> dict[str, Any]:
    """What `text` would mean in `file`. Raises `CompositionError`."""
    failure = _failure(file)
    expanded = expansion.expand(text, file.parent, failure)
    return document.parse(expanded.text, expansion.explained(text, expanded, failure))


def parse(content: dict[str, Any], file: Path) -> Composition:
    """Check a document that came from `file`. Raises `CompositionError` that names the key."""
    return document.decode(Composition, content, _failure(file))


def unknown_keys(content: dict[str, Any]) -> list[str]:
    """One sentence, with the nearest valid name, for each key of a document that nothing reads."""
    return document.unknown_keys(Composition, content, _keys)


def missing_values(content: dict[str, Any]) -> list[str]:
    """One sentence for each value of a document that a template has left open."""
    return [
        f"'{path}' contains {NO_VALUE}: a template asks for a variable or key that is not there"
        for path, value in document.leaves(content)
        if isinstance(value, str) and NO_VALUE in value
    ]


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
    """What `build single` and `run single` send: one group `single` and the run `default` (§6.2, §8.4, §8.5).

    Raises `CompositionError` for a number of instances that does not fit.
    """
    group = Group(
        id="single",
        build=Build(dependencies=list(dependencies)),
        instances=_count(instances),
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


def _count(instances: int) -> Instances:
    try:
        return Instances(count=instances)
    except ValidationError as error:
        raise CompositionError(f"instances: {in_words(error.errors()[0])}") from error


def _failure(file: Path) -> document.Failure:
    return lambda problem: CompositionError(f"failed to load composition file: {file}: {problem}")


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]
