"""Test parameters: their defaults, and what cannot be handed to an instance (client-daemon §4.2, contract §1.1)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from testground.api.composition import Composition
from testground.api.manifest import Manifest, TestCase
from testground.errors import CompositionError, did_you_mean
from testground.plan import gojson

Layer = tuple[str, str, Mapping[str, str]]
"""Where it stands, in words; `parameter` or `profile`; the entries."""


def defaults(case: TestCase) -> dict[str, str]:
    """A string as it is, anything else as JSON text; a parameter without a default is `null`, as upstream."""
    return {
        name: parameter.default if isinstance(parameter.default, str) else gojson.dumps(parameter.default)
        for name, parameter in (case.parameters or {}).items()
    }


def check(composition: Composition) -> None:
    """Raises `CompositionError` for what TEST_INSTANCE_PARAMS cannot carry.

    Entries are packed as `key=value|key=value` without escaping: a `|` cuts a value in two. A second `=` is for some
    SDKs, see `half_carried`; in a profile it has no meaning.
    """
    for place, kind, entries in _layers(composition):
        for name, value in entries.items():
            _check_entry(place, kind, name, value)


def undeclared(composition: Composition, manifest: Manifest) -> list[str]:
    """One sentence, with the nearest declared name, for each parameter that the manifest's case does not know.

    Of several places that give it, the first one is named.
    """
    case = manifest.case(composition.global_.case)
    if case is None:
        return []
    known = case.parameters or {}
    found: dict[str, str] = {}
    for place, kind, entries in _layers(composition):
        if kind == "parameter":
            for name in sorted(entries.keys() - known):
                found.setdefault(name, place)
    return [
        f"parameter '{name}' of {place} is not declared by test case {case.name}{did_you_mean(name, known)}"
        for name, place in found.items()
    ]


def half_carried(composition: Composition) -> list[str]:
    """One sentence for each value that not every SDK hands to its plan; of equal ones, the first place is named."""
    found: dict[tuple[str, str], str] = {}
    for place, kind, entries in _layers(composition):
        if kind == "parameter":
            for name in sorted(name for name, value in entries.items() if "=" in value):
                found.setdefault((name, entries[name]), place)
    return [
        f"the value of parameter '{name}' of {place} contains '=': sdk-go and sdk-js drop the parameter; "
        "plans on sdk-rust, on the Python SDK and in shell get it whole"
        for (name, _), place in found.items()
    ]


def _layers(composition: Composition) -> Iterator[Layer]:
    if composition.global_.run:
        yield "global.run", "parameter", composition.global_.run.test_params or {}
        yield "global.run", "profile", composition.global_.run.profiles or {}
    for group in composition.groups or []:
        yield f"group '{group.id}'", "parameter", group.run.test_params or {}
        yield f"group '{group.id}'", "profile", group.run.profiles or {}
    for run in composition.runs or []:
        yield f"run '{run.id}'", "parameter", run.test_params or {}
        for member in run.groups or []:
            place = f"group '{member.id}' of run '{run.id}'"
            yield place, "parameter", member.test_params or {}
            yield place, "profile", member.profiles or {}


def _check_entry(place: str, kind: str, name: str, value: str) -> None:
    if not name:
        raise CompositionError(f"{place} has a {kind} without a name")
    for char in ("|", "=", "\x00"):
        shown = "a NUL character" if char == "\x00" else f"'{char}'"
        if char in name:
            raise CompositionError(f"the name of {kind} {name!r} of {place} contains {shown}{_REASON}")
        if char in value and (char, kind) != ("=", "parameter"):
            raise CompositionError(f"the value of {kind} '{name}' of {place} contains {shown}{_REASON}")


_REASON = ": instances receive them as key=value|key=value, without escaping"
