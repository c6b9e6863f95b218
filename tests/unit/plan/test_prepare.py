from __future__ import annotations

from typing import Any

import pytest

from testground.api.composition import Composition
from testground.api.manifest import Manifest
from testground.errors import CompositionError, PlanError
from testground.plan import instances, prepare


def manifest(**changes: Any) -> Manifest:
    value = {
        "name": "demo",
        "builders": {"exec:go": {"module_path": "m", "nested": {"a": 1}}, "exec:python": {}},
        "runners": {"local:exec": {"network": "host", "limit": 5}},
        "testcases": [
            {"name": "ok", "instances": {"min": 1, "max": 5}, "params": {"p": {"default": "manifest"}}},
            {"name": "idle", "instances": {"min": 0, "max": 0}},
        ],
    }
    return Manifest.model_validate(value | changes)


def composition(groups: list[dict[str, Any]] | None = None, runs: Any = None, **settings: Any) -> Composition:
    common = {"plan": "suite/demo", "case": "ok", "builder": "exec:go", "runner": "local:exec"}
    default = [{"id": "a", "instances": {"count": 1}}]
    return Composition.model_validate({"global": common | settings, "groups": groups or default, "runs": runs})


def members(prepared: Composition) -> list[Any]:
    return [member for run in prepared.runs or [] for member in run.groups or []]


def test_the_default_run_copies_its_groups() -> None:
    given = composition(
        [
            {"id": "a", "resources": {"cpu": "1"}, "instances": {"count": 2}, "run": {"test_params": {"x": "1"}}},
            {"id": "b", "instances": {"percentage": 0.5}, "run": {"profiles": {"cpu": "1s"}}},
        ],
        total_instances=4,
    )
    made = prepare.generate_default_run(given)
    assert given.runs is None
    assert made.runs
    assert made.runs[0].model_dump() == {
        "id": "default",
        "test_params": None,
        "total_instances": 4,
        "groups": [
            {
                "id": "a",
                "group_id": "a",
                "resources": {"memory": "", "cpu": "1"},
                "instances": {"count": 2, "percentage": 0},
                "test_params": {"x": "1"},
                "profiles": None,
            },
            {
                "id": "b",
                "group_id": "b",
                "resources": {"memory": "", "cpu": ""},
                "instances": {"count": 0, "percentage": 0.5},
                "test_params": None,
                "profiles": {"cpu": "1s"},
            },
        ],
    }
    assert prepare.generate_default_run(made) is made


def test_build_options_are_filled_from_global_and_manifest_top_level_only() -> None:
    given = composition(
        [{"id": "a", "build_config": {"own": 1, "nested": {"b": 2}}}, {"id": "b", "builder": "exec:python"}],
        build_config={"own": 2, "common": 3},
    )
    prepared = prepare.prepare_for_build(given, manifest())
    assert prepared.global_.plan == "demo"
    a, b = prepared.groups or []
    assert (a.builder, b.builder) == ("exec:go", "exec:python")
    assert a.build_config == {"own": 1, "nested": {"b": 2}, "common": 3, "module_path": "m"}
    assert b.build_config == {"own": 2, "common": 3}


@pytest.mark.parametrize(
    ("own", "common", "selectors", "modules"),
    [
        ({}, None, None, None),
        ({}, {"selectors": ["x"], "dependencies": [{"module": "m"}]}, ["x"], ["m"]),
        ({"selectors": ["y"]}, {"selectors": ["x"]}, ["y"], None),
        ({"selectors": []}, {"selectors": ["x"]}, ["x"], None),
        (
            {"dependencies": [{"module": "a"}]},
            {"dependencies": [{"module": "b"}, {"module": "a"}]},
            None,
            ["a", "b"],
        ),
        (
            {"dependencies": [{"module": "a"}]},
            {"dependencies": [{"module": "b"}, {"module": "b"}]},
            None,
            ["a", "b"],
        ),
        ({"dependencies": [{"module": "a"}]}, {"selectors": ["x"]}, ["x"], ["a"]),
    ],
)
def test_build_settings(own: Any, common: Any, selectors: Any, modules: Any) -> None:
    prepared = prepare.prepare_for_build(composition([{"id": "a", "build": own}], build=common), manifest())
    assert prepared.groups
    build = prepared.groups[0].build
    assert build.selectors == selectors
    assert (build.dependencies and [dependency.module for dependency in build.dependencies]) == modules


def test_the_message_names_the_builder_of_the_group() -> None:
    with pytest.raises(CompositionError) as caught:
        prepare.prepare_for_build(composition([{"id": "a"}, {"id": "b", "builder": "exec:pyton"}]), manifest())
    assert str(caught.value) == (
        "error preparing group b: plan does not support builder 'exec:pyton'; "
        "supported: [exec:go, exec:python]; did you mean 'exec:python'?"
    )


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"case": "okk"}, "test case okk not found in plan demo; did you mean 'ok'?"),
        ({"case": "zzz"}, "test case zzz not found in plan demo; there is: idle, ok"),
        (
            {"runner": "local:exce"},
            "plan does not support runner 'local:exce'; supported: [local:exec]; did you mean 'local:exec'?",
        ),
        (
            {"case": "idle"},
            "error preparing run default: total instance count (1) outside of allowable range [0, 0] for "
            "test case idle, whose manifest sets no instances.max",
        ),
    ],
)
def test_unknown_names_come_with_the_nearest_one(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(CompositionError) as caught:
        prepare.prepare_for_run(composition(**settings), manifest())
    assert str(caught.value) == text


def test_runner_options_are_filled_from_the_manifest() -> None:
    prepared = prepare.prepare_for_run(composition(run_config={"limit": 9}), manifest())
    assert prepared.global_.run_config == {"network": "host", "limit": 9}


def test_an_explicitly_empty_parameter_is_kept() -> None:
    given = composition([{"id": "a", "instances": {"count": 1}, "run": {"test_params": {"p": ""}}}])
    assert members(prepare.prepare_for_run(given, manifest()))[0].test_params == {"p": ""}


def test_parameters_are_never_null_once_prepared() -> None:
    bare = manifest(testcases=[{"name": "ok", "instances": {"max": 1}}])
    assert members(prepare.prepare_for_run(composition(), bare))[0].test_params == {}


def test_instances_come_from_the_group_before_anything_is_counted() -> None:
    groups = [{"id": "a", "instances": {"count": 2}}, {"id": "b", "instances": {"percentage": 0.5}}]
    runs = [
        {"id": "all", "total_instances": 4, "groups": [{"id": "a"}, {"id": "b"}]},
        {
            "id": "mixed",
            "total_instances": 5,
            "groups": [{"id": "x", "group_id": "b", "instances": {"count": 3}}, {"id": "a"}],
        },
    ]
    given = composition(groups, runs)
    prepare.validate_for_run(given)
    prepared = prepare.prepare_for_run(given, manifest())
    assert [instances.counts(run) for run in prepared.runs or []] == [[2, 2], [3, 2]]


def test_every_run_is_prepared_and_the_broken_one_is_named() -> None:
    runs = [{"id": "good", "groups": [{"id": "a"}]}, {"id": "bad", "groups": [{"id": "a", "instances": {"count": 9}}]}]
    with pytest.raises(CompositionError, match=r"error preparing run bad: total instance count \(9\)"):
        prepare.prepare_for_run(composition(runs=runs), manifest())


def test_a_run_without_instances_proves_nothing() -> None:
    with pytest.raises(CompositionError, match="error preparing run default: a run without instances"):
        prepare.prepare_for_run(composition([{"id": "a"}], case="idle"), manifest())


def test_preparing_twice_changes_nothing() -> None:
    given = composition([{"id": "a", "instances": {"percentage": 1}}], total_instances=3, build={"selectors": ["x"]})
    once = prepare.prepare_for_run(prepare.prepare_for_build(given, manifest()), manifest())
    assert prepare.prepare_for_run(prepare.prepare_for_build(once, manifest()), manifest()) == once
    assert Composition.model_validate(once.wire()) == once


def test_what_is_given_stays_as_it_is() -> None:
    given, plan = composition(run_config={"a": {}}), manifest()
    before = given.model_dump_json(), plan.model_dump_json()
    built = prepare.prepare_for_build(given, plan)
    ran = prepare.prepare_for_run(built, plan)
    framed = prepare.frame_for_run(ran, "default")
    for made in (built, ran, framed):
        for group in made.groups or []:
            group.run.artifact = "changed"
            (group.build_config or {}).clear()
        (made.global_.run_config or {}).get("a", {})["changed"] = True
    assert (given.model_dump_json(), plan.model_dump_json()) == before


def test_an_unknown_run_comes_with_the_nearest_one() -> None:
    given = composition(runs=[{"id": "warm-up", "groups": []}, {"id": "main", "groups": []}])
    with pytest.raises(CompositionError) as caught:
        prepare.frame_for_run(given, "warmup")
    assert str(caught.value) == (
        "error while framing composition for run: warmup: invalid run id warmup: unknown run id warmup; "
        "did you mean 'warm-up'?"
    )


def test_a_run_of_an_unknown_group_comes_with_the_nearest_one() -> None:
    with pytest.raises(CompositionError) as caught:
        prepare.frame_for_run(composition([{"id": "peers"}], [{"id": "main", "groups": [{"id": "peer"}]}]), "main")
    assert str(caught.value) == (
        "error while framing composition for run: main: invalid group id peer: unknown group id peer; "
        "did you mean 'peers'?"
    )


@pytest.mark.parametrize("name", ["", ".", "..", "a\nb", "x" * 300])
def test_a_plan_needs_a_name_that_can_be_a_directory(name: str) -> None:
    for step in (prepare.prepare_for_build, prepare.prepare_for_run):
        with pytest.raises(PlanError, match="name"):
            step(composition(), manifest(name=name))


def test_keys_differ_where_builds_do() -> None:
    def key(**group: Any) -> str:
        prepared = prepare.prepare_for_build(composition([{"id": "a"} | group]), manifest())
        return prepare.build_key(prepared, (prepared.groups or [])[0])

    dependency = {"module": "m", "target": "t", "version": "1"}
    keys = {
        key(),
        key(builder="exec:python"),
        key(build_config={"a": 1}),
        key(build_config={"a": 2}),
        key(build={"selectors": ["x"]}),
        key(build={"dependencies": [dependency]}),
        key(build={"dependencies": [dependency | {"target": "u"}]}),
        key(build={"dependencies": [dependency | {"target": ""}]}),
        key(build={"dependencies": [dependency | {"version": "2"}]}),
    }
    assert len(keys) == 9
    assert key() == key(id="other", instances={"count": 3}, run={"test_params": {"a": "b"}}, resources={"cpu": "1"})
