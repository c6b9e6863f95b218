"""Generated compositions and manifests, as hypothesis strategies: what people write, with what they get wrong.

Values are as TOML spells them. What we handle otherwise than upstream on purpose is left out here, and shown case by
case in `tests/integration/test_upstream_differences.py`: empty parameters, parameters with `|` or `=`, ids that cannot
name a directory, runs of no instances, run groups with half of their group's instances, whole numbers beyond 2**53,
empty lists and dates in tables, the character U+FFFD.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import strategies as st

Document = dict[str, Any]

IDS = ["a", "b", "c", "grüße", "<&>", "with space", 'quo"te']
BUILDERS = ["exec:go", "docker:go", "docker:generic"]
RUNNERS = ["local:exec", "local:docker"]
CASES = ["ok", "other", "a/b"]
PARAMETERS = ["p", "Q", "peers", "é", "<x>"]
MODULES = ["github.com/x/y", "github.com/x/z", "a"]
TABLES = {"build_config", "run_config", "test_params", "profiles", "Builders", "Runners", "ExtraSources"} | {
    "Default",
    "unknown",
}
"""Below these, keys are the user's: their letter case matters, and none is unknown."""
KEPT = {"composition", "manifest", "id", "group_id", "name", "instances", "count", "percentage", "minimum"}
"""Where a null would make what is left out here: no instances, half of a group's instances, no name."""

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0|=\ufffd"), min_size=1, max_size=6)
numbers = st.integers(-(2**53), 2**53) | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False)
scalars = st.booleans() | numbers | words | st.just("")


def nested(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda value: st.lists(value, min_size=1, max_size=2) | st.dictionaries(words, value, max_size=2),
        max_leaves=4,
    )


values = nested(scalars)
options = st.dictionaries(st.sampled_from(["enabled", "x", "Y", "path"]) | words, values, max_size=3)
parameters = st.dictionaries(st.sampled_from(PARAMETERS), words, max_size=3)
dependency = st.fixed_dictionaries(
    {"module": st.sampled_from(MODULES)},
    optional={"target": st.sampled_from(MODULES), "version": st.sampled_from(["v1", "v2", ""])},
)
build = st.fixed_dictionaries(
    {},
    optional={
        "selectors": st.lists(st.sampled_from(["x", "y", "é<"]), max_size=3),
        "dependencies": st.lists(dependency, max_size=3),
    },
)
params = st.fixed_dictionaries({}, optional={"artifact": words, "test_params": parameters, "profiles": parameters})
resources = st.fixed_dictionaries({}, optional={"memory": st.sampled_from(["1Gi", ""]), "cpu": words})
totals = st.sampled_from([0, 0, 1, 2, 4, 8])


def mostly(usual: st.SearchStrategy[Any], rare: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.integers(0, 19).flatmap(lambda number: rare if number == 19 else usual)


@st.composite
def manifests(draw: st.DrawFn) -> Document:
    def subset(names: list[str]) -> Document:
        chosen = draw(mostly(st.just(names), st.lists(st.sampled_from(names), max_size=2)))
        return {name: draw(options) for name in chosen}

    parameter = st.fixed_dictionaries({}, optional={"type": words, "desc": words, "unit": words, "default": values})
    case = st.fixed_dictionaries(
        {
            "instances": st.fixed_dictionaries(
                {"min": st.integers(1, 2), "max": mostly(st.just(99), st.integers(-1, 9))},
                optional={"default": st.just(1)},
            )
        },
        optional={"params": st.dictionaries(st.sampled_from(PARAMETERS), parameter, max_size=3)},
    )
    document: Document = {
        "name": draw(st.sampled_from(["demo", "suite/démo<>"])),
        "builders": subset(BUILDERS),
        "runners": subset(RUNNERS),
        "testcases": [draw(case) | {"name": name} for name in draw(mostly(st.just(CASES), st.just(CASES[1:])))],
        "extra_sources": draw(st.dictionaries(words, st.lists(words, max_size=2), max_size=1)),
        "defaults": {"builder": "exec:go"},
    }
    return without_some(draw, document, keep=("name",))


@st.composite
def compositions(draw: st.DrawFn, *, own_instances: bool = True) -> Document:
    """`own_instances`: run groups do not leave their instances to the groups they are made of."""
    kinds = {name: draw(st.sampled_from(["count", "count", "percentage", "both"])) for name in IDS}
    percentages = st.sampled_from([0.5, 0.25, 1.0, 1 / 3, 0.5])

    def instances(group: str, may_inherit: bool) -> Document:
        if may_inherit and draw(st.integers(0, 5)) == 0:
            return {}
        given = {"count": draw(st.integers(1, 4)), "percentage": draw(percentages)}
        kind = kinds.get(group, "count")
        return given if kind == "both" else {kind: given[kind]}

    def group(name: str) -> Document:
        return {"id": name, "instances": instances(name, True)} | draw(
            st.fixed_dictionaries(
                {},
                optional={
                    "builder": mostly(st.sampled_from([*BUILDERS, ""]), st.just("nope")),
                    "build_config": options,
                    "build": build,
                    "resources": resources,
                    "run": params,
                },
            )
        )

    def run_group(name: str) -> Document:
        name = draw(mostly(st.just(name), st.sampled_from(IDS)))
        refers = draw(st.booleans())
        more = draw(
            st.fixed_dictionaries(
                {}, optional={"test_params": parameters, "profiles": parameters, "resources": resources}
            )
        )
        identity = {"id": name + draw(mostly(st.just("2"), st.just(""))), "group_id": name} if refers else {"id": name}
        return identity | {"instances": instances(name, not own_instances)} | more

    def run(name: str, groups: list[Document]) -> Document:
        members = [run_group(group) for group in ids([group["id"] for group in groups] or IDS)]
        more = draw(st.fixed_dictionaries({}, optional={"test_params": parameters}))
        inherited = {group["id"]: group["instances"] for group in groups}
        counted = [
            member["instances"] or inherited.get(member.get("group_id") or member["id"], {}) for member in members
        ]
        return {"id": name, "total_instances": total(counted), "groups": members} | more

    def ids(known: list[str]) -> list[str]:
        smallest = draw(mostly(st.just(1), st.just(0)))
        names = draw(st.lists(st.sampled_from(known), min_size=smallest, max_size=3, unique=True))
        return names + draw(mostly(st.just([]), st.just(names[:1])))

    def total(counted: list[Document]) -> int:
        return draw(mostly(st.just(_fitting(counted)), totals))

    groups = [group(name) for name in ids(IDS)]
    document: Document = {
        "metadata": draw(st.fixed_dictionaries({}, optional={"name": words, "author": words})),
        "global": draw(settings()) | {"total_instances": total([group["instances"] for group in groups])},
        "groups": groups,
        "unknown": draw(values),
    }
    if draw(st.booleans()):
        document["runs"] = [run(name, groups) for name in ids(IDS)]
    return without_some(draw, document)


def _fitting(counted: list[Document]) -> int:
    """A total that the shares of it add up to; 0 if nothing asks for one, or nothing fits."""
    if not any(instances.get("percentage") for instances in counted):
        return 0
    for total in range(1, 50):
        shares = (instances.get("count") or int(instances.get("percentage", 0) * total + 0.5) for instances in counted)
        if sum(shares) == total:
            return total
    return 0


def settings() -> st.SearchStrategy[Document]:
    return st.fixed_dictionaries(
        {
            "plan": mostly(st.just("demo"), st.just("")),
            "case": mostly(st.sampled_from(CASES), st.sampled_from(["nope", ""])),
            "builder": mostly(st.sampled_from(BUILDERS), st.sampled_from(["nope", ""])),
            "runner": mostly(st.sampled_from(RUNNERS), st.sampled_from(["nope", ""])),
        },
        optional={
            "concurrent_builds": st.integers(-1, 3),
            "build_config": options,
            "build": build,
            "run_config": options,
            "run": params,
            "disable_metrics": st.booleans(),
        },
    )


def without_some(draw: st.DrawFn, document: Document, keep: tuple[str, ...] = ()) -> Document:
    missing = draw(mostly(st.none(), st.sampled_from(sorted(document))))
    return {key: value for key, value in document.items() if key != missing or key in keep}


# -- JSON -------------------------------------------------------------------------------------------------------


def manifest_json(document: Document) -> Document:
    """The keys as they are on the wire."""
    cases = [
        {
            "Name": case["name"],
            "Instances": {"Minimum": case["instances"]["min"], "Maximum": case["instances"]["max"]},
            "Parameters": {
                name: {
                    "Type": parameter.get("type", ""),
                    "Description": parameter.get("desc", ""),
                    "Unit": parameter.get("unit", ""),
                    "Default": parameter.get("default"),
                }
                for name, parameter in case.get("params", {}).items()
            },
        }
        for case in document.get("testcases", [])
    ]
    return {
        "Name": document["name"],
        "Builders": document.get("builders"),
        "Runners": document.get("runners"),
        "TestCases": cases,
        "ExtraSources": document.get("extra_sources"),
    }


@st.composite
def bodies(draw: st.DrawFn, *, own_instances: bool = True) -> str:
    """The JSON of a /run request: keys in any letter case, unknown ones, nulls for what is not given."""
    body = {
        "priority": draw(st.integers(0, 1)),
        "build_groups": draw(st.none() | st.lists(st.integers(0, 3), max_size=2)),
        "run_ids": draw(st.none() | st.lists(words, max_size=2)),
        "composition": draw(compositions(own_instances=own_instances)),
        "manifest": manifest_json(draw(manifests())),
        "created_by": draw(st.fixed_dictionaries({}, optional={"user": words, "repo": words})),
    }
    spelled = draw(st.sampled_from([str, str, str.upper, str.title, str.swapcase]))
    dressed = _dressed(draw, body, spelled)
    return json.dumps(dressed, ensure_ascii=draw(st.booleans())) + draw(st.sampled_from(["", "\n", " trailing"]))


def _dressed(draw: st.DrawFn, value: Any, spelled: Callable[[str], str]) -> Any:
    if isinstance(value, list):
        return [_dressed(draw, item, spelled) for item in value]
    if not isinstance(value, dict):
        return value
    dressed: Document = {}
    for key, item in value.items():
        if key == "Parameters":
            dressed[spelled(key)] = {name: _dressed(draw, parameter, spelled) for name, parameter in item.items()}
        else:
            dressed[spelled(key)] = item if key in TABLES else _dressed(draw, item, spelled)
    if draw(st.integers(0, 9)) == 9:
        dressed["unheard of"] = draw(nested(scalars | st.none()))
    optional = sorted(key for key in dressed if key.lower() not in KEPT)
    if optional and draw(st.integers(0, 9)) == 9:
        dressed[draw(st.sampled_from(optional))] = None
    return dressed


@st.composite
def spoiled(draw: st.DrawFn, body: str) -> str:
    """The body with one value of a wrong type, which nobody accepts."""
    value = json.loads(body.removesuffix(" trailing"))
    places = list(_places(value, ""))
    if places:
        holder, key, wrong = draw(st.sampled_from(places))
        holder[key] = draw(st.sampled_from(wrong))
    return json.dumps(value)


def _places(value: Any, inside: str) -> Iterator[tuple[Any, Any, list[Any]]]:
    """Where a type matters: what holds the value, its key, and wrong values."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        name = key if isinstance(key, str) else inside
        lower = str(name).lower()
        if lower in ("unheard of", "unknown", "default") or item is None:
            continue
        if lower in ("build_config", "run_config"):
            yield value, key, [[], 1, True]
            continue
        free = inside.lower() in ("builders", "runners")
        yield value, key, _wrong(item, inside.lower() in ("test_params", "profiles"))
        if not free:
            yield from _places(item, name)


def _wrong(item: Any, parameter: bool) -> list[Any]:
    match item:
        case str():
            return [[], {}] if parameter else [1, True, [], {}]
        case bool():
            return [0, 1, "true", []]
        case float():
            return ["0.5", True, [], {}]
        case int():
            return ["1", True, 1.5, [], {}]
        case dict():
            return [[], 1, "x", False]
        case list():
            return [{}, 1, "x", False]
    return [item]
