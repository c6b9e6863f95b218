from __future__ import annotations

from typing import Any

import pytest

from testground.api.composition import Composition
from testground.api.manifest import Manifest
from testground.errors import CompositionError
from testground.plan import parameters, prepare

MANIFEST = Manifest.model_validate(
    {
        "name": "demo",
        "runners": {"r": {}},
        "testcases": [{"name": "ok", "instances": {"max": 9}, "params": {"size": {"default": "1"}, "secret": {}}}],
    }
)


def composition(params: dict[str, str] | None = None, **layers: dict[str, str]) -> Composition:
    return Composition.model_validate(
        {
            "global": {
                "plan": "p",
                "case": "ok",
                "builder": "b",
                "runner": "r",
                "run": {"test_params": layers.get("common"), "profiles": layers.get("common_profiles")},
            },
            "groups": [
                {
                    "id": "servers",
                    "instances": {"count": 1},
                    "run": {"test_params": params, "profiles": layers.get("profiles")},
                }
            ],
            "runs": [
                {
                    "id": "first",
                    "test_params": layers.get("run"),
                    "groups": [
                        {
                            "id": "servers",
                            "test_params": layers.get("member"),
                            "profiles": layers.get("member_profiles"),
                        }
                    ],
                }
            ],
        }
    )


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (composition({"a": "x|y"}), "the value of parameter 'a' of group 'servers' contains '|'"),
        (composition({"a|b": "x"}), "the name of parameter 'a|b' of group 'servers' contains '|'"),
        (composition({"a=b": "x"}), "the name of parameter 'a=b' of group 'servers' contains '='"),
        (composition({"a\x00": "x"}), "the name of parameter 'a\\x00' of group 'servers' contains a NUL character"),
        (composition(common={"a": "|"}), "the value of parameter 'a' of global.run contains '|'"),
        (composition(run={"a": "|"}), "the value of parameter 'a' of run 'first' contains '|'"),
        (composition(member={"a": "|"}), "the value of parameter 'a' of group 'servers' of run 'first' contains '|'"),
        (composition(profiles={"cpu": "1s|"}), "the value of profile 'cpu' of group 'servers' contains '|'"),
        (composition(common_profiles={"=": "1s"}), "the name of profile '=' of global.run contains '='"),
        (
            composition(member_profiles={"cpu": "a=b"}),
            "the value of profile 'cpu' of group 'servers' of run 'first' contains '='",
        ),
    ],
)
def test_what_an_instance_cannot_be_handed_is_refused(given: Composition, text: str) -> None:
    with pytest.raises(CompositionError) as caught:
        prepare.validate_for_run(given)
    assert str(caught.value) == text + ": instances receive them as key=value|key=value, without escaping"


def test_a_name_is_needed() -> None:
    with pytest.raises(CompositionError, match="^group 'servers' has a parameter without a name$"):
        prepare.validate_for_run(composition({"": "x"}))


def test_defaults_of_the_manifest_are_looked_at_too() -> None:
    case: dict[str, Any] = {"name": "ok", "instances": {"max": 9}, "params": {"size": {"default": ["a|b"]}}}
    manifest = Manifest.model_validate({"name": "demo", "runners": {"r": {}}, "testcases": [case]})
    with pytest.raises(CompositionError, match=r"parameter 'size' of group 'servers' of run 'first' contains '\|'"):
        prepare.prepare_for_run(composition(), manifest)
    assert prepare.prepare_for_run(composition({"size": "1"}), manifest)


@pytest.mark.parametrize("value", ["", " ", "a b\nc", "ü", '["x","y"]', "-", "100%", "a=b", "="])
def test_all_else_is_carried(value: str) -> None:
    given = composition({"size": value})
    assert prepare.validate_for_run(given) is given


def test_undeclared_parameters_come_with_the_nearest_name() -> None:
    given = composition({"sise": "1", "size": "1"}, common={"zzz": "1"}, member={"secrte": "1"}, profiles={"cpu": "1s"})
    assert prepare.warnings(given, MANIFEST) == [
        "parameter 'zzz' of global.run is not declared by test case ok; there is: secret, size",
        "parameter 'sise' of group 'servers' is not declared by test case ok; did you mean 'size'?",
        "parameter 'secrte' of group 'servers' of run 'first' is not declared by test case ok; did you mean 'secret'?",
    ]


def test_a_parameter_that_is_passed_on_is_named_once() -> None:
    given = composition({"sise": "1"}, run={"sise": "2"})
    sentence = "parameter 'sise' of group 'servers' is not declared by test case ok; did you mean 'size'?"
    assert prepare.warnings(given, MANIFEST) == [sentence]
    assert prepare.warnings(prepare.prepare_for_run(given, MANIFEST), MANIFEST) == [sentence]


def test_a_value_that_some_sdks_drop_is_named_once() -> None:
    given = composition({"size": "a=b", "secret": "1"}, member={"secret": "c=d"})
    text = (
        "the value of parameter '{}' of {} contains '=': sdk-go and sdk-js drop the parameter; "
        "plans on sdk-rust, on the Python SDK and in shell get it whole"
    )
    sentences = [text.format("size", "group 'servers'"), text.format("secret", "group 'servers' of run 'first'")]
    assert prepare.warnings(given, MANIFEST) == sentences
    assert prepare.warnings(prepare.prepare_for_run(given, MANIFEST), MANIFEST) == sentences


def test_an_unknown_case_is_not_the_place_to_complain_about_parameters() -> None:
    given = Composition.model_validate({"global": {"case": "no", "run": {"test_params": {"a": "1"}}}})
    assert parameters.undeclared(given, MANIFEST) == []


def test_defaults() -> None:
    case = MANIFEST.case("ok")
    assert case
    assert parameters.defaults(case) == {"size": "1", "secret": "null"}
