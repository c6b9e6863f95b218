"""Compositions: what we make of them is what upstream's own code makes of them (client-daemon §3, §4, §8.7).

Upstream's code is the Go module v0.6.0. What differs on purpose is shown in `test_upstream_differences.py`. What
generates compositions leaves it out, or `tests/upstream/comparing.py` levels it where that says so. Anything else that
differs is a bug of ours.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from testground.api.composition import Composition
from testground.api.manifest import Manifest
from testground.errors import TestgroundError
from testground.plan import composition as compositions
from testground.plan import prepare, writeback
from tests.upstream import compositions as generated
from tests.upstream import oracle, programs
from tests.upstream.comparing import agree, from_body, from_toml, manifest_from_toml, same
from tests.upstream.oracle import Oracle

COMPOSITIONS = {
    "plans/_integrations_interop/_compositions/issue-1337-groups-builder-configuration-global-override.toml",
    "plans/_integrations_interop/_compositions/issue-1337-groups-builder-configuration.toml",
    "plans/_integrations_mixed_builders/_compositions/issue-1357-mix-builder-configuration.toml",
    "plans/_integrations_mixed_builders/_compositions/issue-1412-path-and-go-dependencies.toml",
    "plans/_integrations_runs/_compositions/issue-1493-break-the-build.toml",
    "plans/_integrations_runs/_compositions/issue-1493-happy-mix-builders-and-groups.toml",
    "plans/_integrations_runs/_compositions/issue-1493-multiple-runs-failure-with-first-run.toml",
    "plans/_integrations_runs/_compositions/issue-1493-multiple-runs-happy-path.toml",
    "plans/_integrations_runs/_compositions/issue-1493-multiple-runs-obvious-failure.toml",
    "plans/example-browser-node/compositions/sync-cross-runtime.toml",
    "pkg/cmd/fixtures/templates/with-resource.toml",
    "pkg/cmd/fixtures/templates/with-resource-complex.toml",
}
"""All in the module that name a plan, but for one template that is to fail.

Plans that are Go modules of their own are not part of it; the integration tests run two more compositions, of `placebo`
and `benchmarks`, and most manifests are there.
"""

TO_FAIL = "pkg/cmd/fixtures/templates/missing-ressource.toml"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Oracle]:
    if programs.missing():
        pytest.skip(programs.missing())
    with oracle.running(programs.program("oracle")) as running:
        yield running


@pytest.fixture(scope="module")
def module(upstream: Oracle) -> Path:
    """The directory of upstream's module, which is there since the program has been built."""
    command = ["go", "list", "-mod=readonly", "-m", "-f", "{{.Dir}}", "github.com/testground/testground"]
    done = subprocess.run(command, cwd=programs.MODULE, capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


# -- upstream's own files ---------------------------------------------------------------------------------------


def test_no_composition_of_upstream_is_left_out(module: Path) -> None:
    files = [file for file in module.rglob("*.toml") if re.search(r"^\s*plan\s*=", file.read_text(), re.MULTILINE)]
    assert {str(file.relative_to(module)) for file in files} == COMPOSITIONS | {TO_FAIL}


@pytest.mark.parametrize("name", sorted(COMPOSITIONS))
def test_compositions_of_upstream_prepare_to_the_same(upstream: Oracle, module: Path, name: str) -> None:
    file = module / name
    expanded = file.with_name(f"{file.name}.expected")
    ours = compositions.load(file)
    manifest = manifest_for(file, ours)
    text = (expanded if expanded.exists() else file).read_text()
    text = text.replace('\n"""', '\\n"""')  # upstream's TOML library loses the last line end after an escaped one
    theirs = upstream.ask_toml(text, manifest)
    same(ours.wire(), theirs["composition"].value)
    assert theirs["built"].value and theirs["run"].value, "it is there to be prepared"
    agree(theirs, ours, manifest_from_toml(manifest))


def manifest_for(file: Path, composition: Composition) -> str:
    """The manifest of its plan; else one that allows what it asks for."""
    beside = file.parents[1] / "manifest.toml"
    if beside.exists():
        return beside.read_text()
    settings = composition.global_
    builders = {composition.builder_of(group) for group in composition.groups or []}
    return tomli_w.dumps(
        {
            "name": settings.plan,
            "builders": {builder: {"enabled": True, "y": 1.5} for builder in builders},
            "runners": {settings.runner: {"enabled": True, "x": [1]}},
            "testcases": [
                {
                    "name": settings.case,
                    "instances": {"min": 1, "max": 100},
                    "params": {"a": {"default": 30000000}, "b": {"type": "string"}},
                }
            ],
        }
    )


def test_manifests_of_upstream_are_read_alike(upstream: Oracle, module: Path) -> None:
    files = sorted(module.glob("plans/*/manifest.toml"))
    assert len(files) == 5
    for file in files:
        theirs = upstream.ask_toml("", file.read_text(), decode=True)
        same(manifest_from_toml(file.read_text()).wire(), theirs["manifest"].value)


# -- generated --------------------------------------------------------------------------------------------------

some = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=80)


@some
@given(st.data())
def test_files_are_read_and_prepared_alike(upstream: Oracle, data: st.DataObject) -> None:
    own = data.draw(st.booleans())
    composition = tomli_w.dumps(data.draw(generated.compositions(own_instances=own)))
    manifest = tomli_w.dumps(data.draw(generated.manifests()))
    theirs = upstream.ask_toml(composition, manifest)
    ours = from_toml(composition), manifest_from_toml(manifest)
    same(ours[0].wire(), theirs["composition"].value)
    same(ours[1].wire(), theirs["manifest"].value)
    agree(theirs, *ours, without=() if own else ("valid_for_run",))


@some
@given(st.data())
def test_requests_are_read_and_prepared_alike(upstream: Oracle, data: st.DataObject) -> None:
    own = data.draw(st.booleans())
    body = data.draw(generated.bodies(own_instances=own))
    theirs = upstream.ask_body(body)
    ours = from_body(body)
    manifest = ours.manifest or Manifest()
    same(ours.wire() | {"manifest": manifest.wire()}, theirs["decoded"].value)
    agree(theirs, ours.composition, manifest, without=() if own else ("valid_for_run",))


@some
@given(st.data())
def test_a_wrong_type_is_refused_alike(upstream: Oracle, data: st.DataObject) -> None:
    body = data.draw(generated.bodies().flatmap(generated.spoiled))
    theirs = upstream.ask_body(body, decode=True)["decoded"]
    assert read(body) is None if theirs.refused else read(body) is not None


@settings(some, max_examples=30)
@given(given=generated.compositions())
def test_what_either_side_writes_the_other_one_reads(
    upstream: Oracle, tmp_path_factory: pytest.TempPathFactory, given: dict[str, Any]
) -> None:
    composition = prepare.generate_default_run(from_toml(tomli_w.dumps(given)))
    theirs = upstream.ask_toml(tomli_w.dumps(given), "")["written"]
    if not theirs.refused:  # it cannot write a list of a number and a text, and some more
        same(without_empty(from_toml(theirs.value).wire()), without_empty(composition.wire()))

    file = tmp_path_factory.mktemp("written") / "composition.toml"
    file.touch()
    writeback.write_back(file, composition)
    read = upstream.ask_toml(file.read_text(), "", decode=True)["composition"].value
    same(without_empty(read), without_empty(composition.wire()))


def without_empty(value: Any) -> Any:
    """TOML has no null, and upstream writes no empty list."""
    if isinstance(value, dict):
        pruned = {key: without_empty(item) for key, item in value.items()}
        return {key: item for key, item in pruned.items() if item not in (None, [], {})}
    return [without_empty(item) for item in value] if isinstance(value, list) else value


# -- JSON -------------------------------------------------------------------------------------------------------


def settings_of(text: str) -> str:
    return f'{{"composition":{{"global":{{{text}}}}}}}'


def group(text: str) -> str:
    return f'{{"composition":{{"groups":[{{{text}}}]}}}}'


def manifest(text: str) -> str:
    return f'{{"manifest":{{{text}}}}}'


REQUESTS = [
    # keys
    settings_of('"plan":"a","Plan":"b"'),
    settings_of('"Plan":"b","plan":"a"'),
    settings_of('"plan":"a","PLAN":null'),
    settings_of('"PLAN":"a","tOtAl_InStAnCeS":3'),
    settings_of('"totalinstances":4,"plan":"a","unknown":{"plan":1}'),
    settings_of('"build_config":{"a":1,"A":2,"a":{"x":1}}'),
    manifest('"testcases":[{"name":"x","INSTANCES":{"minimum":1}}]'),
    # zero values
    "{}",
    '{"composition":null,"manifest":null,"priority":null,"created_by":null,"run_ids":null}',
    '{"composition":{"global":null,"groups":null,"runs":null,"metadata":null}}',
    settings_of('"total_instances":null,"plan":null,"build":null,"run":null,"run_config":null,"disable_metrics":null'),
    settings_of('"run":{"test_params":{"a":null},"profiles":null}'),
    settings_of('"build":{"selectors":[null],"dependencies":[null]}'),
    group('"run":null,"build":null,"resources":null,"instances":null,"id":null'),
    manifest('"TestCases":[{"Parameters":{"a":null,"b":{"Default":{"x":[1,null]}}}}],"ExtraSources":{"x":[null]}'),
    settings_of('"build_config":{"a":null,"b":[null]}'),
    # wrong types
    *(f'{{"composition":{value}}}' for value in ("[]", "1", '"x"', "true")),
    *(settings_of(f'"plan":{value}') for value in ("1", "true", "[]", "{}")),
    *(
        settings_of(f'"total_instances":{value}')
        for value in ("-1", "1.5", '"1"', "true", "[]", "{}", "18446744073709551616")
    ),
    *(settings_of(f'"concurrent_builds":{value}') for value in ("-3", "1.5", '"1"', "9223372036854775808")),
    *(settings_of(f'"disable_metrics":{value}') for value in ("1", "0", '"true"', '""', "[]", "true")),
    *(settings_of(f'"build":{value}') for value in ("[]", '""', '{"selectors":"x"}', '{"selectors":[1]}')),
    *(settings_of(f'"build":{{"dependencies":{value}}}') for value in ("{}", "[1]", '[{"module":1}]')),
    *(settings_of(f'"run_config":{value}') for value in ("[]", "1", "true")),
    *(settings_of(f'"run":{{"test_params":{value}}}') for value in ("[]", '{"a":[]}', '{"a":{}}', '"x"')),
    *(group(f'"instances":{{"count":{value}}}') for value in ("-1", "1.5", '"1"', "true")),
    *(group(f'"instances":{{"percentage":{value}}}') for value in ('"0.5"', "true", "[]", "1", "0.5")),
    *(group(f'"{key}":[]') for key in ("run", "resources", "instances", "id", "build_config")),
    *(f'{{"composition":{{"groups":{value}}}}}' for value in ("{}", '"x"', "[1]", "[[]]")),
    *(manifest(f'"Builders":{value}') for value in ("[]", '{"a":[]}', '{"a":1}', '{"a":{}}')),
    *(manifest(f'"TestCases":{value}') for value in ("{}", "[1]", '[{"Parameters":{"a":1}}]', '[{"Instances":[]}]')),
    *(manifest(f'"ExtraSources":{value}') for value in ('{"a":"b"}', '{"a":[1]}', "[]")),
    manifest('"TestCases":[{"Instances":{"Minimum":-1,"Maximum":1.5}}]'),
    '{"priority":1.5}',
    '{"priority":9223372036854775807}',
    '{"priority":9223372036854775808}',
    '{"created_by":[]}',
    '{"run_ids":"x"}',
    '{"run_ids":[1]}',
    '{"build_groups":[1.5]}',
    '{"build_groups":["a"]}',
    # numbers of no type
    settings_of('"build_config":{"a":-1e-7,"b":1E5,"c":123456789012,"d":1.0,"e":-0.0}'),
    settings_of('"build_config":{"a":1e400}'),
    # text
    settings_of(r'"plan":"\ud83d\ude00 <&> \u2028"'),
    settings_of(r'"plan":"a\ud800b"'),
    settings_of(r'"build_config":{"\ude00\ud83d":1}'),
    settings_of(r'"plan":"\x"'),
    settings_of('"plan":"a\tb"'),
    settings_of('"plan":"\x01"'),
    # what is no JSON, and what follows it
    *("", " ", "[]", "1", "true", '"x"', "nonsense", "{", '{"priority":01}', "{'priority':1}", '{"priority":1,}'),
    *(settings_of(f'"build_config":{{"a":{value}}}') for value in ("NaN", "Infinity", "-Infinity", "+1", ".5", "0x1")),
    '\ufeff{"priority":1}',
    ' \t\r\n{"priority":1}',
    '{"priority":1} trailing',
    '{"priority":1}{"priority":2}',
    '{"priority":1}\x00',
]


@pytest.mark.parametrize("body", REQUESTS)
def test_requests_are_read_as_strictly(upstream: Oracle, body: str) -> None:
    theirs = upstream.ask_body(body, decode=True)["decoded"]
    ours = read(body)
    assert (ours is None) == bool(theirs.refused), theirs.refused
    if ours is not None:
        same(ours, theirs.value)


def read(body: str) -> Any:
    """What the daemon takes from a request; None if it refuses it."""
    try:
        request = from_body(body)
    except (ValidationError, TestgroundError):
        return None
    return request.wire() | {"manifest": (request.manifest or Manifest()).wire()}
