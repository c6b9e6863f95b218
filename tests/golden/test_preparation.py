"""Preparation vectors of client-daemon §8.7, and the deferred errors of §8.6."""

from __future__ import annotations

from typing import Any

import pytest

from testground.api.composition import Composition
from testground.api.manifest import Manifest
from testground.errors import CompositionError, PlanError, TestgroundError
from testground.plan import instances, prepare


def manifest(*, params: dict[str, Any] | None = None, **changes: Any) -> Manifest:
    case = {"name": "ok", "instances": {"min": 1, "max": 5}, "params": params}
    value = {
        "name": "demo",
        "builders": {"docker:go": {"enabled": False}},
        "runners": {"local:docker": {}},
        "testcases": [case],
    }
    return Manifest.model_validate(value | changes)


def composition(**changes: Any) -> Composition:
    value: dict[str, Any] = {
        "global": {"plan": "suite/demo", "case": "ok", "builder": "docker:go", "runner": "local:docker"},
        "groups": [{"id": "a", "instances": {"count": 1}}],
    }
    value["global"] |= changes.pop("global_", {})
    return Composition.model_validate(value | changes)


def test_p1_parameter_defaults() -> None:
    params = {
        "a": {"type": "int", "default": 30000000},
        "b": {"type": "string"},
        "c": {"default": ["x", "<y>"]},
        "f": {"default": 1.0},
        "t": {"default": True},
        "s": {"default": "<str>"},
    }
    groups = [{"id": "a", "instances": {"count": 1}, "run": {"test_params": {"a": "1"}}}]
    prepared = prepare.prepare_for_run(composition(groups=groups), manifest(params=params))
    assert prepared.runs and prepared.runs[0].groups
    assert prepared.runs[0].groups[0].test_params == {
        "a": "1",
        "b": "null",
        "c": '["x","\\u003cy\\u003e"]',
        "f": "1",
        "s": "<str>",
        "t": "true",
    }


def test_p2_precedence() -> None:
    given = composition(
        global_={"run": {"test_params": {"g": "G", "k": "G"}}},
        groups=[{"id": "a", "resources": {"cpu": "1", "memory": "2"}, "run": {"test_params": {"g": "B", "h": "B"}}}],
        runs=[
            {
                "id": "r",
                "test_params": {"h": "R", "r": "R"},
                "groups": [
                    {"id": "a", "instances": {"count": 1}, "resources": {"cpu": "9"}, "test_params": {"r": "X"}}
                ],
            }
        ],
    )
    prepared = prepare.prepare_for_run(given, manifest(params={"m": {"default": "M"}, "g": {"default": "M"}}))
    assert prepared.runs and prepared.runs[0].groups
    member = prepared.runs[0].groups[0]
    assert member.test_params == {"g": "B", "h": "R", "k": "G", "m": "M", "r": "X"}
    assert (member.resources.cpu, member.resources.memory) == ("9", "2")


@pytest.mark.parametrize(
    ("total", "shares", "counts"),
    [
        (4, [{"percentage": 0.5}, {"percentage": 0.5}], [2, 2]),
        (5, [{"percentage": 0.5}, {"percentage": 0.5}], "total instances mismatch: computed: 6 != configured: 5"),
        (6, [{"count": 3}, {"percentage": 0.5}], [3, 3]),
        (0, [{"percentage": 0.5}], "groups count percentage requires a total_instance configuration"),
    ],
)
def test_p3_instances(total: int, shares: list[dict[str, Any]], counts: list[int] | str) -> None:
    groups = [{"id": f"g{index}", "instances": value} for index, value in enumerate(shares)]
    given = composition(global_={"total_instances": total}, groups=groups)
    generous = manifest(testcases=[{"name": "ok", "instances": {"min": 1, "max": 100}}])
    if isinstance(counts, str):
        with pytest.raises(CompositionError) as caught:
            prepare.prepare_for_run(given, generous)
        assert str(caught.value) == f"error preparing run default: {counts}"
        return
    [run] = prepare.prepare_for_run(given, generous).runs or []
    assert instances.counts(run) == counts
    assert run.total_instances == sum(counts)


def test_p4_a_run_group_may_have_another_name_than_its_group() -> None:
    given = composition(
        groups=[{"id": "g2", "instances": {"count": 1}, "run": {"artifact": "art"}}],
        runs=[{"id": "r", "groups": [{"id": "x", "group_id": "g2"}]}],
    )
    prepared = prepare.prepare_for_run(given, manifest())
    assert prepared.runs and prepared.runs[0].groups
    assert prepared.runs[0].groups[0].id == "x"
    assert prepared.runs[0].groups[0].effective_group_id == "g2"


def keyed(target: str) -> str:
    given = composition(
        global_={
            "build_config": {"g": "glob"},
            "build": {
                "selectors": ["s"],
                "dependencies": [{"module": "z", "version": "1"}, {"module": "a", "version": "0"}],
            },
        },
        groups=[
            {
                "id": "a",
                "build_config": {"x": 2, "d": "<&>"},
                "build": {"dependencies": [{"module": "a", "target": target, "version": "9"}]},
            }
        ],
    )
    options = {"docker:go": {"enabled": False, "go_version": "1", "x": 1}}
    prepared = prepare.prepare_for_build(given, manifest(builders=options))
    assert prepared.groups
    return prepare.build_key(prepared, prepared.groups[0])


P5 = (
    '{"builder":"docker:go","build_config":{"d":"\\u003c\\u0026\\u003e","enabled":false,"g":"glob","go_version":"1",'
    '"x":2},"build_as_key":"selectors=s;dependencies=a:9|z:1|"}'
)


@pytest.mark.parametrize("target", ["", "a"])
def test_p5_build_key(target: str) -> None:
    assert keyed(target) == P5


def test_p5_another_target_is_another_build() -> None:
    assert keyed("t") == P5.replace("a:9|", "a=t:9|")
    assert keyed("t") != keyed("u")


def test_p6_the_order_of_selectors_does_not_matter() -> None:
    groups = [
        {"id": "a", "build": {"selectors": ["b", "a"]}},
        {"id": "b", "build": {"selectors": ["a", "b"]}},
        {"id": "c", "build": {"selectors": ["a"]}},
    ]
    prepared = prepare.prepare_for_build(composition(groups=groups), manifest())
    one, same, other = (prepare.build_key(prepared, group) for group in prepared.groups or [])
    assert one == same != other


def test_p7_an_empty_composition() -> None:
    line = "Key: 'Composition.{0}' Error:Field validation for '{1}' failed on the '{2}' tag"
    expected = [
        line.format("Global.Plan", "Plan", "required"),
        line.format("Global.Case", "Case", "required"),
        line.format("Global.Runner", "Runner", "required"),
        line.format("Groups", "Groups", "required"),
    ]
    with pytest.raises(CompositionError) as caught:
        prepare.validate_for_run(prepare.generate_default_run(Composition()))
    assert str(caught.value).splitlines() == expected
    with pytest.raises(CompositionError) as caught:
        prepare.validate_for_run(Composition())
    assert str(caught.value).splitlines() == [*expected, line.format("Runs", "Runs", "required")]


def test_p8_framing_keeps_the_groups_of_the_run() -> None:
    groups = [{"id": name, "instances": {"count": 1}} for name in "abc"]
    runs = [
        {"id": "a-and-b", "groups": [{"id": "a"}, {"id": "other", "group_id": "b"}]},
        {"id": "c-alone", "groups": [{"id": "c"}]},
    ]
    framed = prepare.frame_for_run(composition(groups=groups, runs=runs), "a-and-b")
    assert [group.id for group in framed.groups or []] == ["a", "b"]
    assert [run.id for run in framed.runs or []] == ["a-and-b"]


DEFERRED: list[tuple[str, dict[str, Any], type[TestgroundError], str]] = [
    ("run", {"global_": {"case": "zz"}}, CompositionError, "test case zz not found in plan demo"),
    (
        "run",
        {"groups": [{"id": "a", "instances": {"count": 9}}]},
        CompositionError,
        "error preparing run default: total instance count (9) outside of allowable range [1, 5] for test case ok",
    ),
    (
        "run",
        {"global_": {"runner": "cluster:k8s"}},
        CompositionError,
        "plan does not support runner 'cluster:k8s'; supported: [local:docker]",
    ),
    (
        "build",
        {"groups": [{"id": "a", "builder": "docker:node"}]},
        CompositionError,
        "error preparing group a: plan does not support builder 'docker:node'; supported: [docker:go]",
    ),
    (
        "validate build",
        {"groups": [{"id": "a"}, {"id": "a"}]},
        CompositionError,
        "group ids not unique; found duplicate: a",
    ),
    (
        "validate build",
        {"groups": []},
        CompositionError,
        "Key: 'Composition.Groups' Error:Field validation for 'Groups' failed on the 'gt' tag",
    ),
    (
        "frame",
        {},
        CompositionError,
        "error while framing composition for run: nope: invalid run id nope: unknown run id nope",
    ),
]


@pytest.mark.parametrize(("step", "changes", "error", "text"), DEFERRED)
def test_8_6_deferred_errors_begin_as_upstream(
    step: str, changes: dict[str, Any], error: type[TestgroundError], text: str
) -> None:
    given = composition(**changes)
    with pytest.raises(error) as caught:
        if step == "run":
            prepare.prepare_for_run(given, manifest())
        elif step == "build":
            prepare.prepare_for_build(given, manifest())
        elif step == "frame":
            prepare.frame_for_run(given, "nope")
        else:
            prepare.validate_for_build(given)
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("key", ["builders", "runners"])
def test_a_plan_that_supports_nothing(key: str) -> None:
    empty = manifest(**{key: None})
    with pytest.raises(PlanError) as caught:
        if key == "builders":
            prepare.prepare_for_build(composition(), empty)
        else:
            prepare.prepare_for_run(composition(), empty)
    assert str(caught.value) == f"plan supports no {key}; review the manifest"


def test_l7_errors_before_contact() -> None:
    with pytest.raises(CompositionError, match="group g1 is missing a builder"):
        prepare.validate_for_build(composition(global_={"builder": ""}, groups=[{"id": "g1"}]))
