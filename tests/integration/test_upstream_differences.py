"""Compositions: where we differ from upstream's own code on purpose; what each side does (client-daemon §7.1, §7.3).

Upstream's code is the Go module v0.6.0. `test_upstream_compositions.py` shows that everything else is the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import ValidationError

from testground.api.composition import Composition
from testground.errors import TestgroundError
from testground.plan import prepare
from tests.upstream import oracle, programs
from tests.upstream.comparing import from_body, from_toml, manifest_from_toml, steps
from tests.upstream.oracle import Answer, Oracle, Step


@pytest.fixture(scope="module")
def upstream() -> Iterator[Oracle]:
    if programs.missing():
        pytest.skip(programs.missing())
    with oracle.running(programs.program("oracle")) as running:
        yield running


# -- reading ----------------------------------------------------------------------------------------------------

REFUSED = "refused"


@dataclass(frozen=True)
class Reading:
    """A text of which the value `at` a place differs. REFUSED: of which nothing is read."""

    text: str
    at: str
    ours: Any
    theirs: Any


def setting(key: str, value: str, ours: Any, theirs: Any) -> Reading:
    return Reading(f'{{"composition":{{"global":{{"{key}":{value}}}}}}}', f"composition.global.{key}", ours, theirs)


def manifest(key: str, value: str, ours: Any, theirs: Any) -> Reading:
    return Reading(f'{{"manifest":{{"{key}":{value}}}}}', f"manifest.{key}", ours, theirs)


def composition(text: str, at: str, ours: Any, theirs: Any) -> Reading:
    return Reading(f'{{"composition":{text}}}', f"composition.{at}", ours, theirs)


REQUESTS = {
    "large whole numbers stay exact (§7.1 no. 3)": setting(
        "build_config", '{"a":9007199254740993}', {"a": 2**53 + 1}, {"a": 2**53}
    ),
    "a whole number may be written with a point": setting("total_instances", "2.0", 2, REFUSED),
    "a whole number may have an exponent": setting("total_instances", "1e2", 100, REFUSED),
    "a count may be -0": setting("total_instances", "-0", 0, REFUSED),
    "a number is a parameter (§7.3 no. 7)": setting("run", '{"test_params":{"a":1}}', {"a": "1"}, REFUSED),
    "true is a parameter (§7.3 no. 7)": setting("run", '{"test_params":{"a":true}}', {"a": "true"}, REFUSED),
    "a table may be JSON in a string (§7.3 no. 6)": setting("run_config", r'"{\"a\":1}"', {"a": 1}, REFUSED),
    "a table may be TOML in a string (§7.3 no. 6)": setting("run_config", '"a = 1"', {"a": 1}, REFUSED),
    "a table may be an empty string (§7.3 no. 6)": setting("run_config", '""', None, REFUSED),
    "a bare composition is a request (§7.3 no. 3)": Reading(
        '{"global":{"plan":"x"}}', "composition.global.plan", "x", ""
    ),
    "a manifest may be spelled as in TOML (§7.3 no. 4)": manifest(
        "TestCases", '[{"instances":{"min":1,"max":2}}]', [1, 2], [0, 0]
    ),
    "so may its extra sources (§7.3 no. 4)": Reading(
        '{"manifest":{"extra_sources":{"a":["b"]}}}', "manifest.ExtraSources", {"a": ["b"]}, None
    ),
    "settings that are null are empty": manifest("Builders", '{"a":null}', {"a": {}}, {"a": None}),
    "no group is null, which ends upstream's daemon (§7.1 no. 1)": composition(
        '{"groups":[null]}', "groups", REFUSED, [None]
    ),
    "no run is null": composition('{"runs":[null]}', "runs", REFUSED, [None]),
    "no test case is null": manifest("TestCases", "[null]", REFUSED, [None]),
    "no run id is null": Reading('{"run_ids":[null]}', "run_ids", REFUSED, [""]),
    "nobody runs 2**63 instances": setting("total_instances", "9223372036854775808", REFUSED, 2**63),
    "no share is negative": composition('{"groups":[{"instances":{"percentage":-1}}]}', "groups", REFUSED, [-1]),
    "no text has a NUL character, which no environment can hold": setting("plan", r'"a\u0000"', REFUSED, "a\0"),
    "of a table that is given twice, the last one counts": composition(
        '{"global":{"plan":"a"},"global":{"case":"b"}}', "global.plan", "", "a"
    ),
    "of a value that is given twice, the last one counts, null too": composition(
        '{"global":{"plan":"a","plan":null}}', "global.plan", "", "a"
    ),
    "letter case is that of ASCII": composition('{"global":{"ca\u017fe":"x"}}', "global.case", "", "x"),
    "nesting has a bound": setting("build_config", f'{{"a":{"[" * 120}{"]" * 120}}}', REFUSED, "deep"),
    "a request is an object": Reading("null", "composition.global.plan", REFUSED, ""),
}


@pytest.mark.parametrize("reading", REQUESTS.values(), ids=REQUESTS)
def test_requests(upstream: Oracle, reading: Reading) -> None:
    theirs = upstream.ask_body(reading.text, decode=True)["decoded"]
    assert found(theirs, reading.at) == reading.theirs
    assert found(attempt(lambda: from_body(reading.text).wire()), reading.at) == reading.ours


def found(step: Step, at: str) -> Any:
    """The value at a place, without what is around it."""
    if step.refused:
        return REFUSED
    value = step.value
    for key in at.split("."):
        value = value[key]
    match value:
        case {"test_params": value}:
            return value
        case [{"instances": {"percentage": share}}]:
            return [share]
        case [{"Instances": {"Minimum": least, "Maximum": most}}]:
            return [least, most]
        case {"a": [[*_]]}:
            return "deep"
    return value


def attempt(function: Any) -> Step:
    try:
        return Step(value=function())
    except (TestgroundError, ValidationError) as error:
        return Step(error=str(error))


def option(value: str, ours: Any, theirs: Any) -> Reading:
    return Reading(f"[global.build_config]\nx = {value}", "global.build_config", ours, theirs)


def shares(value: str, ours: Any, theirs: Any) -> Reading:
    return Reading(f"[[groups]]\ninstances = {{ percentage = {value} }}", "groups", ours, theirs)


FILES = {
    "a whole number may be written with a point": Reading(
        "[global]\ntotal_instances = 2.0", "global.total_instances", 2, REFUSED
    ),
    "no count is negative, which upstream takes for a very large one": Reading(
        "[global]\ntotal_instances = -1", "global.total_instances", REFUSED, 2**64 - 1
    ),
    "all instances are a share of 1": shares("1", [1], REFUSED),
    "no share is negative": shares("-0.5", REFUSED, [-0.5]),
    "a number is a parameter": Reading("[global.run.test_params]\na = 1", "global.run", {"a": "1"}, REFUSED),
    "a list is no table, which upstream overlooks": Reading(
        "[global]\nbuild_config = []", "global.build_config", REFUSED, None
    ),
    "nor is a text": Reading("[global]\nbuild_config = 'x y'", "global.build_config", REFUSED, None),
    "an empty list is one": option("[]", {"x": []}, {"x": None}),
    "the line end after an escaped one stays": option('"""a \\\n  b\n"""', {"x": "a b\n"}, {"x": "a b"}),
    "whole numbers have no bound": option("12345678901234567890", {"x": 12345678901234567890}, REFUSED),
    "a date has no time": option("1979-05-27", {"x": "1979-05-27"}, {"x": "1979-05-27T00:00:00Z"}),
    "a time has no date": option("07:32:00", {"x": "07:32:00"}, {"x": "0000-01-01T07:32:00Z"}),
    "fractions of a second have six digits": option(
        "1979-05-27T07:32:00.5Z", {"x": "1979-05-27T07:32:00.500000Z"}, {"x": "1979-05-27T07:32:00.5Z"}
    ),
    "the sign for what is no character is one itself": option('"\ufffd"', {"x": "\ufffd"}, REFUSED),
    "a carriage return alone ends no line": Reading('[global]\nplan="x"\rcase="y"', "global.plan", REFUSED, "x"),
    "a table is defined once": Reading("a.b = 1\n[a]\nc = 2", "global.plan", REFUSED, ""),
}


@pytest.mark.parametrize("reading", FILES.values(), ids=FILES)
def test_files(upstream: Oracle, reading: Reading) -> None:
    theirs = upstream.ask_toml(reading.text, "", decode=True)["composition"]
    assert found(theirs, reading.at) == reading.theirs
    assert found(attempt(lambda: from_toml(reading.text).wire()), reading.at) == reading.ours


# -- preparing --------------------------------------------------------------------------------------------------


def both(upstream: Oracle, *, default: bool = True, **changes: Any) -> tuple[Answer, Answer]:
    """The steps of a composition of one group `a`, ours and theirs. Changes go to `global_`, `case`, or the top."""
    case = {"Name": "ok", "Instances": {"Minimum": 0, "Maximum": 9}} | changes.pop("case", {})
    settings = {"plan": "demo", "case": "ok", "builder": "exec:go", "runner": "local:exec"} | changes.pop("global_", {})
    name = changes.pop("name", "demo")
    body = {
        "composition": {"global": settings, "groups": [{"id": "a", "instances": {"count": 1}}]} | changes,
        "manifest": {"Name": name, "Builders": {"exec:go": {}}, "Runners": {"local:exec": {}}, "TestCases": [case]},
    }
    given = from_body(json.dumps(body))
    assert given.manifest
    return steps(given.composition, given.manifest), upstream.ask_body(json.dumps(body), default=default)


def members(step: Step) -> list[Any]:
    assert not step.refused, step
    return [member for run in step.value["runs"] for member in run["groups"]]


def test_forks_of_a_module_are_built_apart(upstream: Oracle) -> None:
    """§7.1 no. 7: two groups with the same module at the same version, but of different forks, shared one artifact."""
    forks = [
        {"id": target, "build": {"dependencies": [{"module": "m", "target": target, "version": "1"}]}}
        for target in ("one", "two")
    ]
    ours, theirs = both(upstream, groups=forks)
    assert len({*theirs["build_keys"].value}) == 1
    composition = Composition.model_validate(ours["built"].value)
    assert len({prepare.build_key(composition, group) for group in composition.groups or []}) == 2


def test_an_empty_parameter_is_given(upstream: Oracle) -> None:
    """§7.1 no. 8: it could not override the default of a parameter."""
    group = {"id": "a", "instances": {"count": 1}, "run": {"test_params": {"p": ""}, "profiles": {"cpu": ""}}}
    common = {"run": {"test_params": {"p": "global"}, "profiles": {"cpu": "1s"}}}
    ours, theirs = both(upstream, groups=[group], global_=common)
    assert [members(theirs["run"])[0][key] for key in ("test_params", "profiles")] == [{"p": "global"}, {"cpu": "1s"}]
    assert [members(ours["run"])[0][key] for key in ("test_params", "profiles")] == [{"p": ""}, {"cpu": ""}]


def test_run_groups_may_leave_their_instances_to_their_groups(upstream: Oracle) -> None:
    """§7.1 no. 9: a client counted before they had them, and refused a right total or sent a wrong one."""
    groups = [{"id": "a", "instances": {"count": 3}}, {"id": "b", "instances": {"percentage": 0.25}}]
    ours, theirs = both(
        upstream, groups=groups, runs=[{"id": "r", "total_instances": 4, "groups": [{"id": "a"}, {"id": "b"}]}]
    )
    assert theirs["valid_for_run"].error == "total instances mismatch: computed: 0 != configured: 4"
    assert ours["valid_for_run"].value
    assert ours["run"].value == theirs["run"].value  # the daemon counts after them
    assert ours["counts"].value == theirs["counts"].value == [[3, 1]]


def test_the_total_of_a_run_is_not_written_by_checking_it() -> None:
    """§7.1 no. 9: upstream's client sends what it has counted; ours leaves the count to the daemon."""
    given = from_toml('[global]\nplan="p"\ncase="c"\nrunner="r"\nbuilder="b"\n[[groups]]\nid="a"\ninstances={count=2}')
    composition = prepare.validate_for_run(prepare.generate_default_run(given))
    assert [run.total_instances for run in composition.runs or []] == [0]


def test_instances_are_inherited_whole(upstream: Oracle) -> None:
    """§7.1 no. 10: a run group that asked for a share got the count of its group as well, and that won."""
    groups = [{"id": "a", "instances": {"count": 3}}]
    runs = [{"id": "r", "total_instances": 4, "groups": [{"id": "a", "instances": {"percentage": 1}}]}]
    ours, theirs = both(upstream, groups=groups, runs=runs)
    assert theirs["run"].error == "error preparing run r: total instances mismatch: computed: 3 != configured: 4"
    assert members(ours["run"])[0]["instances"] == {"count": 0, "percentage": 1}
    assert ours["counts"].value == [[4]]


def test_the_default_run_shares_nothing_with_its_groups(upstream: Oracle) -> None:
    """Upstream's daemon, when it is sent no runs, writes the parameters of the default run into the groups too."""
    case = {"Parameters": {"p": {"Default": "d"}}}
    groups = [{"id": "a", "instances": {"count": 1}, "run": {"test_params": {"x": "1"}}}]
    ours, theirs = both(upstream, default=False, groups=groups, case=case)
    assert theirs["run"].value["groups"][0]["run"]["test_params"] == {"p": "d", "x": "1"}
    assert ours["run"].value["groups"][0]["run"]["test_params"] == {"x": "1"}
    assert members(ours["run"]) == members(theirs["run"])


def test_a_run_has_instances(upstream: Oracle) -> None:
    """A run without any would be a success that proves nothing."""
    ours, theirs = both(upstream, groups=[{"id": "a"}])
    assert theirs["run"].value
    assert ours["run"].error == (
        "error preparing run default: a run without instances proves nothing; set the instances of its groups"
    )


@pytest.mark.parametrize("name", ["a/b", "..", "a\nb", ""])
def test_ids_name_directories(upstream: Oracle, name: str) -> None:
    """Upstream takes any group id, and makes a directory of that name for its outputs."""
    ours, theirs = both(upstream, groups=[{"id": name, "instances": {"count": 1}}])
    assert theirs["valid_for_run"].value
    assert ours["valid_for_run"].error == f"group id {name!r} cannot be the name of a directory"


@pytest.mark.parametrize("name", ["", ".."])
def test_so_do_names_of_plans(upstream: Oracle, name: str) -> None:
    ours, theirs = both(upstream, name=name)
    assert theirs["run"].value and theirs["built"].value
    assert "name" in ours["run"].error and "name" in ours["built"].error


@pytest.mark.parametrize("entry", [{"p": "a|b"}, {"a=b": "p"}, {"": "p"}])
def test_parameters_are_such_that_instances_get_them(upstream: Oracle, entry: dict[str, str]) -> None:
    """They travel as key=value|key=value: upstream sends what every SDK takes for something else."""
    ours, theirs = both(upstream, groups=[{"id": "a", "instances": {"count": 1}, "run": {"test_params": entry}}])
    assert theirs["run"].value and theirs["valid_for_run"].value
    assert "parameter" in ours["run"].error and "parameter" in ours["valid_for_run"].error


def test_the_message_names_the_builder_that_is_not_there(upstream: Oracle) -> None:
    """Upstream names the global one, whichever the group has."""
    ours, theirs = both(upstream, groups=[{"id": "a", "builder": "exec:og"}])
    supported = "supported: [exec:go]"
    assert theirs["built"].error == f"error preparing group a: plan does not support builder 'exec:go'; {supported}"
    assert ours["built"].error == (
        f"error preparing group a: plan does not support builder 'exec:og'; {supported}; did you mean 'exec:go'?"
    )


def test_messages_name_the_nearest_that_there_is(upstream: Oracle) -> None:
    ours, theirs = both(upstream, global_={"case": "okk", "runner": "local:exce"})
    assert theirs["run"].error == "test case okk not found in plan demo"
    assert ours["run"].error == "test case okk not found in plan demo; did you mean 'ok'?"


def test_messages_name_the_run(upstream: Oracle) -> None:
    ours, theirs = both(
        upstream, runs=[{"id": "r", "total_instances": 2, "groups": [{"id": "a", "instances": {"count": 1}}]}]
    )
    assert theirs["valid_for_run"].error == "total instances mismatch: computed: 1 != configured: 2"
    assert ours["valid_for_run"].error == "total instances mismatch: computed: 1 != configured: 2 (run 'r')"


def test_a_default_that_is_an_empty_list_is_one(upstream: Oracle) -> None:
    """Upstream's client reads an empty list of a manifest as nothing at all."""
    text = 'name = "demo"\n[[testcases]]\nname = "ok"\nparams = { p = { default = [] } }'
    theirs = upstream.ask_toml("", text, decode=True)["manifest"].value
    assert theirs["TestCases"][0]["Parameters"]["p"]["Default"] is None
    case = manifest_from_toml(text).case("ok")
    assert case and case.parameters and case.parameters["p"].default == []


def test_escapes_in_json_text_are_those_of_older_go(upstream: Oracle) -> None:
    """Go 1.22 writes two characters shorter than what upstream was released with."""
    ours, theirs = both(upstream, case={"Parameters": {"p": {"Default": ["\b\f"]}}})
    assert members(theirs["run"])[0]["test_params"] == {"p": r'["\b\f"]'}
    assert members(ours["run"])[0]["test_params"] == {"p": r'["\u0008\u000c"]'}
