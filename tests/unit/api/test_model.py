from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from testground.api import composition, manifest, rpc, task
from testground.api.composition import Composition
from testground.api.manifest import Manifest
from testground.api.model import WireModel, explain

REQUESTS: list[type[WireModel]] = [
    rpc.BuildRequest,
    rpc.RunRequest,
    rpc.PurgeRequest,
    rpc.OutputsRequest,
    rpc.TerminateRequest,
    rpc.HealthcheckRequest,
    rpc.TasksRequest,
    rpc.TaskRequest,
    rpc.LogsRequest,
    Composition,
    Manifest,
    task.Task,
]

COMPOSITION: dict[str, Any] = {
    "metadata": {"name": "n", "author": "a"},
    "global": {
        "plan": "p",
        "case": "c",
        "total_instances": 3,
        "concurrent_builds": 1,
        "builder": "exec:go",
        "build_config": {"Keep": {"Case": 1}},
        "build": {"selectors": ["x"], "dependencies": [{"module": "m", "target": "t", "version": "v"}]},
        "runner": "local:exec",
        "run_config": None,
        "run": {"artifact": "", "test_params": {"Name": "1"}, "profiles": None},
        "disable_metrics": True,
    },
    "groups": [
        {
            "id": "g",
            "builder": "",
            "build_config": None,
            "build": {"selectors": None, "dependencies": None},
            "resources": {"memory": "1Mi", "cpu": ""},
            "instances": {"count": 0, "percentage": 0.5},
            "run": {"artifact": "a", "test_params": {}, "profiles": {"cpu": "1s"}},
        }
    ],
    "runs": None,
}

MANIFEST: dict[str, Any] = {
    "Name": "demo",
    "Builders": {"exec:go": {"enabled": True}},
    "Runners": None,
    "TestCases": [
        {
            "Name": "ok",
            "Instances": {"Minimum": 1, "Maximum": 5},
            "Parameters": {"Keep": {"Type": "int", "Description": "d", "Unit": "u", "Default": 1}},
        }
    ],
    "ExtraSources": {"docker_go": ["../x"]},
}

MAPS = ("build_config", "test_params", "profiles", "Builders", "Parameters", "ExtraSources")
"""Below these, keys are the user's and keep their case."""


def recased(value: Any, change: Any, inside_map: bool = False) -> Any:
    if isinstance(value, list):
        return [recased(item, change) for item in value]
    if not isinstance(value, dict):
        return value
    out = {}
    for key, item in value.items():
        is_map = key in MAPS
        spelled = key if inside_map else change(key)
        out[spelled] = item if key in ("build_config", "Builders") else recased(item, change, is_map)
    return out


@pytest.mark.parametrize("change", [str.upper, str.lower, str.title, str.swapcase])
@pytest.mark.parametrize(("model", "value"), [(Composition, COMPOSITION), (Manifest, MANIFEST)])
def test_keys_match_in_any_letter_case_and_come_out_as_go_writes_them(
    model: type[WireModel], value: dict[str, Any], change: Any
) -> None:
    assert model.model_validate(recased(value, change)).wire() == value


@given(st.data())
def test_any_mixture_of_letter_cases(data: st.DataObject) -> None:
    def mixed(key: str) -> str:
        return "".join(char.upper() if data.draw(st.booleans()) else char.lower() for char in key)

    assert Composition.model_validate(recased(COMPOSITION, mixed)).wire() == COMPOSITION


def test_the_last_of_several_spellings_wins() -> None:
    assert rpc.TaskRequest.model_validate({"TASK_ID": "b", "task_id": "a"}).task_id == "a"
    assert rpc.TaskRequest.model_validate({"task_id": "a", "Task_Id": "b"}).task_id == "b"
    assert rpc.TaskRequest.model_validate({"task_id": "a", "Task_Id": None}).task_id == "a"


def test_nulls_in_lists_and_maps_are_zero_values() -> None:
    build = composition.Build.model_validate({"selectors": [None], "dependencies": [None]})
    assert build.wire() == {"selectors": [""], "dependencies": [composition.Dependency().wire()]}
    plan = manifest.Manifest.model_validate(
        {
            "Builders": {"exec:go": None},
            "TestCases": [{"Parameters": {"p": None}}],
            "ExtraSources": {"a": None, "b": [None]},
        }
    )
    assert plan.builders == {"exec:go": {}}
    assert plan.testcases and plan.testcases[0].parameters == {"p": manifest.Parameter()}
    assert plan.extra_sources == {"a": [], "b": [""]}


def test_toml_spellings_of_the_manifest_are_read() -> None:
    toml = {
        "name": "demo",
        "builders": {"exec:go": {"enabled": True}},
        "testcases": [
            {
                "name": "ok",
                "instances": {"min": 1, "max": 5, "default": 1},
                "params": {"Keep": {"type": "int", "desc": "d", "unit": "u", "default": 1}},
            }
        ],
        "extra_sources": {"docker_go": ["../x"]},
        "defaults": {"builder": "exec:go"},
    }
    assert Manifest.model_validate(toml).wire() == MANIFEST


@pytest.mark.parametrize("model", REQUESTS)
def test_empty_objects_and_nulls_are_zero_values(model: type[WireModel]) -> None:
    zero = model.model_validate({})
    assert model.model_validate(dict.fromkeys(zero.wire())).wire() == zero.wire() or model is task.Task


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"groups": [None]}, "groups[0]: "),
        ({"groups": {}}, "groups: "),
        ({"global": []}, "global: "),
        ({"global": {"plan": 1}}, "global.plan: a string is needed"),
        ({"global": {"plan": "a\x00b"}}, "global.plan: a string without NUL characters is needed"),
        ({"global": {"total_instances": -1}}, "global.total_instances: "),
        ({"global": {"total_instances": 1.5}}, "global.total_instances: a whole number is needed"),
        ({"global": {"total_instances": True}}, "global.total_instances: a whole number is needed"),
        ({"global": {"total_instances": "2"}}, "global.total_instances: a whole number is needed"),
        ({"global": {"total_instances": 2**63}}, "global.total_instances: "),
        ({"groups": [{"instances": {"percentage": -0.5}}]}, "groups[0].instances.percentage: "),
        ({"groups": [{"instances": {"percentage": float("inf")}}]}, "groups[0].instances.percentage: "),
        ({"groups": [{"instances": {"percentage": "0.5"}}]}, "groups[0].instances.percentage: a number is needed"),
        ({"groups": [{"instances": {"percentage": True}}]}, "groups[0].instances.percentage: a number is needed"),
        ({"global": {"disable_metrics": "true"}}, "global.disable_metrics: true or false is needed"),
        ({"global": {"disable_metrics": 1}}, "global.disable_metrics: true or false is needed"),
        ({"groups": [{"run": {"test_params": {"a": []}}}]}, "groups[0].run.test_params.a: a string is needed"),
        ({"global": {"run_config": "nonsense"}}, "global.run_config: a table is needed"),
        ({"global": {"run_config": "[1]"}}, "global.run_config: "),
    ],
)
def test_wrong_types_name_the_key(value: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Composition.model_validate(value)
    assert explain(caught.value).startswith(problem)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("x", "x"),
        (1, "1"),
        (1.0, "1"),
        (1.5, "1.5"),
        (True, "true"),
        (False, "false"),
        (10**400, str(10**400)),
        (1e300, str(int(1e300))),
    ],
)
def test_parameters_of_foreign_clients_are_spelled_out(given: Any, text: str) -> None:
    run = composition.Run.model_validate({"test_params": {"a": given}})
    assert run.test_params == {"a": text}


@pytest.mark.parametrize(
    ("given", "table"), [("", None), ('{"a": 1}', {"a": 1}), ("a = 1", {"a": 1}), ({"a": 1}, {"a": 1})]
)
def test_config_tables_may_be_text(given: Any, table: Any) -> None:
    assert Composition.model_validate({"global": {"run_config": given}}).global_.run_config == table


def test_integral_floats_are_integers() -> None:
    group = composition.Group.model_validate({"instances": {"count": 2.0}})
    assert json.dumps(group.wire()["instances"]) == '{"count": 2, "percentage": 0}'


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5) | st.just(10**400),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=3), children, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("model", REQUESTS)
@given(data=st.data())
def test_any_json_is_accepted_or_refused_with_a_sentence(model: type[WireModel], data: st.DataObject) -> None:
    keys = st.sampled_from([field.alias or name for name, field in model.model_fields.items()])
    value = data.draw(st.dictionaries(keys, VALUES, max_size=4))
    try:
        json.dumps(model.model_validate(value).wire())
    except ValidationError as error:
        assert explain(error)


def test_created_by_omits_what_is_empty() -> None:
    assert task.CreatedBy(user="me").wire() == {"user": "me"}
    assert task.CreatedBy().wire() == {}


def test_manifest_of_two_models_do_not_share_their_names() -> None:
    assert manifest.Bounds.model_validate({"MIN": 1, "maximum": 2}).wire() == {"Minimum": 1, "Maximum": 2}
