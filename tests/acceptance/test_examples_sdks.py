"""Plans on the published SDKs of other languages, examples 08 to 10: they come from their registries as they are."""

from __future__ import annotations

import re
import shutil

import pytest

from tests.acceptance.conftest import CommandLine
from tests.acceptance.test_examples import GO_DEADLINE, failed, metrics, passed, points

pytestmark = pytest.mark.timeout(300)

go = pytest.mark.skipif(shutil.which("go") is None, reason="go is not installed")
node = pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="node and npm are not installed")


@pytest.fixture
def go_sdk(cli: CommandLine) -> CommandLine:
    assert cli("plan", "import", "--from", "examples/08-go-sdk").exit_code == 0
    return cli


def go_case(case: str) -> list[str]:
    builder = ("-b", "exec:go", "-r", "local:exec")
    return ["run", "single", "-p", "08-go-sdk", "-t", case, *builder, "-i", "3", "--wait"]


@go
def test_go_instances_meet(cli: CommandLine) -> None:
    """Initialised, over a topic and a barrier; `passed` sees to it that the socket was closed without a word."""
    run = cli.readme("08-go-sdk", deadline=GO_DEADLINE)
    archive = passed(run, cli, single=3)
    assert [points(archive, f"single/{index}") for index in range(3)] == [{"greetings": [3]}] * 3
    numbers = re.findall(r"I am number (\d) of all, (\d) of group single", run.stdout)
    assert sorted(numbers) == [("1", "1"), ("2", "2"), ("3", "3")]


@go
def test_go_metrics_and_profiles(go_sdk: CommandLine) -> None:
    composition = "examples/08-go-sdk/composition.toml"
    run = go_sdk("run", "composition", "-f", composition, "--wait", "--collect", deadline=GO_DEADLINE)
    archive = passed(run, go_sdk, measured=2)
    for instance in ("measured/0", "measured/1"):
        first = {
            kind: metrics(archive, instance, kind)[0] for kind in ("counter", "meter", "timer", "histogram", "gauge")
        }
        names = {kind: (line["name"], line["measures"].get("count")) for kind, line in first.items()}
        assert names.pop("gauge") == ("instances", None)
        assert names == {
            "counter": ("rounds", 20),
            "meter": ("speed", 20),
            "timer": ("round", 20),
            "histogram": ("sizes", 20),
        }
        assert first["gauge"]["measures"] == {"value": 2}
        assert len(points(archive, instance)["took_ms,work=sum"]) == 20
        diagnostics = archive.files[f"{instance}/diagnostics.out"]
        assert '"name":"done"' in diagnostics and '"name":"runtime.NumGoroutine"' in diagnostics
        assert f"{instance}/cpu.prof" in archive.files
        assert any(name.startswith(f"{instance}/heap.") for name in archive.files)


@go
def test_go_panic_explains_itself(go_sdk: CommandLine) -> None:
    verdict = failed(go_sdk(*go_case("panic"), deadline=GO_DEADLINE), "single:0/3")
    first, _, rest = verdict.partition("\n")
    assert re.fullmatch(r"single\[00\d\] after [\d.]+s: crashed: assignment to entry in nil map", first)
    assert 'barrier "ready" cannot be met: it needs 3' in rest
    assert "died (crashed: assignment to entry in nil map) before signalling it" in rest


@go
def test_go_failure_explains_itself(go_sdk: CommandLine) -> None:
    run = go_sdk(*go_case("failure"), "--test-param", "wanted=7", deadline=GO_DEADLINE)
    first, _, rest = failed(run, "single:0/3").partition("\n")
    assert re.fullmatch(r"single\[00\d\] after [\d.]+s: failed: heard 0 greetings, wanted 7", first)
    assert 'barrier "ready" cannot be met: it needs 3' in rest


@node
def test_js_instances_meet(cli: CommandLine) -> None:
    run = cli.readme("09-js-sdk")
    passed(run, cli, single=3)
    assert len(run.log(">> heard js-1 js-2 js-3")) == 3


@node
def test_js_failure_explains_itself(cli: CommandLine) -> None:
    assert cli("plan", "import", "--from", "examples/09-js-sdk").exit_code == 0
    case = ("run", "single", "-p", "09-js-sdk", "-t", "failure", "-b", "exec:generic", "-r", "local:exec", "-i", "3")
    first, _, rest = failed(cli(*case, "--wait"), "single:0/3").partition("\n")
    assert re.fullmatch(r"single\[00\d\] after [\d.]+s: failed: Error: heard 0 greetings, wanted 1000", first)
    assert 'failed: Error: subscription to "greetings" cannot be met: single[00' in rest


@go
@node
def test_go_js_and_python_instances_meet(cli: CommandLine) -> None:
    """At one barrier, and each hears all others on one topic."""
    assert cli("plan", "import", "--from", "examples/09-js-sdk").exit_code == 0
    composition = "examples/09-js-sdk/mixed.toml"
    run = cli("run", "composition", "-f", composition, "--wait", "--collect", deadline=GO_DEADLINE)
    archive = passed(run, cli, go=2, js=2, python=2)
    outputs = archive.named("run.out").values()
    assert [output.count("heard go-1 go-2 js-1 js-2 python-1 python-2") for output in outputs] == [1] * 6
