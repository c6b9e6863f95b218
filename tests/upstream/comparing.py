"""Our side of a comparison with upstream's code, and what counts as equal."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio

from testground.api.composition import Composition, Group
from testground.api.manifest import Manifest
from testground.api.rpc import RunRequest
from testground.daemon import jsonbody
from testground.errors import TestgroundError
from testground.plan import composition as compositions
from testground.plan import document, instances, prepare, receive
from tests.upstream.oracle import Answer, Step

FILE = Path("composition.toml")


def from_toml(text: str) -> Composition:
    return compositions.parse(document.parse(text, TestgroundError), FILE)


def manifest_from_toml(text: str) -> Manifest:
    return document.decode(Manifest, document.parse(text, TestgroundError), TestgroundError)


def from_body(text: str) -> RunRequest:
    """As the daemon reads a request."""

    async def body() -> AsyncIterator[bytes]:
        yield text.encode("utf-8", "surrogatepass")

    async def received() -> receive.Received:
        return await receive.receive("application/json", body(), Path("unused"))

    return RunRequest.model_validate(jsonbody.checked(anyio.run(received).request))


def steps(given: Composition, manifest: Manifest) -> dict[str, Step]:
    """The same steps as upstream's, by the same names."""

    def built() -> Composition:
        return prepare.prepare_for_build(given, manifest)

    def ran() -> Composition:
        return prepare.prepare_for_run(given, manifest)

    def keys() -> list[str]:
        return [prepare.build_key(given, without_targets(group)) for group in built().groups or []]

    def counts() -> list[list[int]]:
        return [instances.counts(run) for run in ran().runs or []]

    def framed() -> dict[str, Step]:
        ids = [run.id for run in given.runs or []]
        return {id: attempt(lambda id=id: prepare.frame_for_run(given, id).wire()) for id in ids}

    given = prepare.generate_default_run(given)
    made: dict[str, Callable[[], Any]] = {
        "default_run": given.wire,
        "valid_for_build": lambda: bool(prepare.validate_for_build(given)),
        "valid_for_run": lambda: bool(prepare.validate_for_run(given)),
        "built": lambda: built().wire(),
        "build_keys": keys,
        "run": lambda: ran().wire(),
        "counts": counts,
        "framed": framed,
    }
    return {name: attempt(function) for name, function in made.items()}


def without_targets(group: Group) -> Group:
    """As upstream sees a group when it makes a key (§7.1 no. 7)."""
    replaced = [each.model_copy(update={"target": ""}) for each in group.build.dependencies or []]
    return group.model_copy(update={"build": group.build.model_copy(update={"dependencies": replaced})})


def attempt(function: Callable[[], Any]) -> Step:
    try:
        return Step(value=function())
    except TestgroundError as error:
        return Step(error=str(error))


def agree(theirs: Answer, given: Composition, manifest: Manifest, without: tuple[str, ...] = ()) -> None:
    """Fails for the first step, of those not in `without`, that gives something else on our side."""
    ours = steps(given, manifest)
    ids = [group.id for group in given.groups or []]
    if len(ids) > len({*ids}):
        without += ("framed",)  # both sides refuse it, before anybody asks which of the two is meant
    for name, step in ours.items():
        if name not in without:
            same(step, theirs[name], name)


def same(ours: Any, theirs: Any, what: str = "") -> None:
    left, right = canonical(ours), canonical(theirs)
    if left != right:
        lines = difflib.unified_diff(left.splitlines(), right.splitlines(), "ours", "theirs", lineterm="", n=5)
        raise AssertionError("\n".join((what, *lines)))


def canonical(value: Any) -> str:
    """Text to compare. JSON has one kind of number; what upstream lists in no order is sorted."""
    return json.dumps(_settled(value), sort_keys=True, indent=1, ensure_ascii=False)


def _settled(value: Any) -> Any:
    match value:
        case Step(error=""):
            return _settled({"value": value.value})
        case Step() | {"error": str()}:
            return plain(value.error if isinstance(value, Step) else value["error"])
        case {"dependencies": list(dependencies)}:
            ordered = sorted(dependencies, key=lambda dependency: dependency["module"])
            return _settled(value | {"dependencies": tuple(ordered)})
        case {"groups": list(groups), "runs": list()}:
            ordered = sorted(groups, key=lambda group: group["id"])
            return _settled(value | {"groups": tuple(ordered)})
        case dict():
            return {key: _settled(item) for key, item in value.items()}
        case list() | tuple():
            return [_settled(item) for item in value]
        case str():  # since Go 1.22, JSON text has short escapes where it had long ones
            return value.replace(r"\u0008", r"\b").replace(r"\u000c", r"\f")
        case bool() | None:
            return value
    return float(value) or 0.0


def plain(error: str) -> str:
    """Our text without what we say on top, both without names that upstream takes from a map.

    It names the first of unknown groups in no order, and the global builder where a group's own one is meant.
    """
    error = re.sub("^error while framing composition for run: .*?: (?=invalid)", "", error)
    error = re.sub("^invalid group id .*", "invalid group id", error)
    error = re.sub("(?<=: )(run .* references non-existent|unknown) group .*", "unknown group", error)
    error = re.sub(r"; did you mean '.*'\?|; there is: .*|, whose manifest sets no .*| \(run '.*'\)$", "", error)
    return re.sub(r"does not support (builder|runner) '.*'; supported: \[.*\]", r"does not support \1", error)
