"""Plans on the published SDKs of other languages, examples 08 to 10: they come from their registries as they are."""

from __future__ import annotations

import re
import shutil
import subprocess

import anyio
import pytest

from testground.drivers import namespaces
from tests.acceptance.conftest import CommandLine
from tests.acceptance.test_examples import EXAMPLES, GO_DEADLINE, failed, metrics, passed, points

pytestmark = pytest.mark.timeout(300)

RUST_DEADLINE = 540.0
"""Seconds; the first build compiles two hundred crates, which takes a minute of a processor that is not busy."""

FOUR = """
[global]
plan = "10-rust-sdk"
case = "meet"
runner = "local:exec"
[[groups]]
id = "go"
builder = "exec:go"
instances = { count = 2 }
[[groups]]
id = "js"
builder = "exec:generic"
instances = { count = 2 }
[groups.build_config]
build = ["npm", "install", "--no-package-lock", "--no-audit", "--no-fund"]
artifact = "main.js"
[[groups]]
id = "python"
builder = "exec:python"
instances = { count = 2 }
[[groups]]
id = "rust"
builder = "exec:generic"
instances = { count = 2 }
"""


def no_rust() -> str:
    """Why plans on sdk-rust cannot be built here; empty when they can."""
    if shutil.which("cargo") is None:
        return "cargo is not installed"
    said = subprocess.run(["cargo", "--version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"cargo (\d+)\.(\d+)", said)
    if version is None or tuple(map(int, version.groups())) < (1, 84):
        return f"needs cargo 1.84 or newer, to find crates that the toolchain can compile: {said.strip()}"
    return ""


go = pytest.mark.skipif(shutil.which("go") is None, reason="go is not installed")
rust = pytest.mark.timeout(600)
node = pytest.mark.skipif(not (shutil.which("node") and shutil.which("npm")), reason="node and npm are not installed")


@pytest.fixture(scope="session")
def sidecar() -> None:
    """`sidecar = true` works on this machine."""
    if obstacle := anyio.run(namespaces.obstacle, "/etc/hosts"):
        pytest.skip(obstacle)


@pytest.fixture
def rust_sdk(sidecar: None, cli: CommandLine) -> CommandLine:
    if obstacle := no_rust():
        pytest.skip(obstacle)
    assert cli("plan", "import", "--from", "examples/10-rust-sdk").exit_code == 0
    return cli


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


@go
def test_go_instances_find_their_address_with_a_sidecar(sidecar: None, cli: CommandLine) -> None:
    """A plan that asks for its address in the data network, and needs none here."""
    assert cli("plan", "import", "--from", "examples/06-go-ping").exit_code == 0
    case = ("run", "single", "-p", "06-go-ping", "-t", "ping", "-b", "exec:go", "-r", "local:exec", "-i", "2")
    run = cli(*case, "--run-cfg", "sidecar=true", "--wait", "--collect", deadline=GO_DEADLINE)
    passed(run, cli, single=2)
    assert run.log(">> listening on 127.0.0.1:")


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


def rust_case(case: str, *more: str) -> list[str]:
    builder = ("-b", "exec:generic", "-r", "local:exec")
    return ["run", "single", "-p", "10-rust-sdk", "-t", case, *builder, "-i", "3", "--wait", *more]


@rust
def test_rust_instances_meet(rust_sdk: CommandLine) -> None:
    """With `sidecar = true` from the manifest they find the sync service by name, each its own door of it."""
    run = rust_sdk.readme("10-rust-sdk", deadline=RUST_DEADLINE)
    archive = passed(run, rust_sdk, single=3)
    assert [output.count("heard rust-1 rust-2 rust-3") for output in archive.named("run.out").values()] == [1] * 3
    numbers = re.findall(r"claimed sequence numbers; global=(\d), group\(single\)=\d", run.stdout)
    assert sorted(numbers) == ["1", "2", "3"]


@rust
def test_rust_failure_explains_itself(rust_sdk: CommandLine) -> None:
    """Its peers get the error in the only form that this SDK can read."""
    first, _, rest = failed(rust_sdk(*rust_case("failure"), deadline=RUST_DEADLINE), "single:0/3").partition("\n")
    assert re.fullmatch(r"single\[00\d\] after [\d.]+s: failed: number 1 has nothing to say", first)
    assert 'failed: Sync-Service: barrier "ready" cannot be met: it needs 3' in rest


@rust
def test_rust_network_configuration_is_refused_at_once(rust_sdk: CommandLine) -> None:
    verdict = failed(rust_sdk(*rust_case("shape"), deadline=RUST_DEADLINE), "single:0/3")
    assert "failed: Sync-Service: network configuration refused: this runner shapes no network" in verdict


@rust
def test_rust_without_a_sidecar_is_told_what_to_do(rust_sdk: CommandLine) -> None:
    run = rust_sdk(*rust_case("meet", "--run-cfg", "sidecar=false"), deadline=RUST_DEADLINE)
    assert 'set sidecar = true in [runners."local:exec"]' in failed(run, "single:0/3")


@rust
def test_rust_and_python_instances_meet(rust_sdk: CommandLine) -> None:
    """Rust instances wait for all to claim their numbers, which other SDKs only do in initialised cases."""
    composition = "examples/10-rust-sdk/mixed.toml"
    run = rust_sdk("run", "composition", "-f", composition, "--wait", "--collect", deadline=RUST_DEADLINE)
    archive = passed(run, rust_sdk, python=2, rust=2)
    heard = "heard python-1 python-2 rust-1 rust-2"
    assert [output.count(heard) for output in archive.named("run.out").values()] == [1] * 4


@rust
@go
@node
def test_instances_of_four_languages_meet(rust_sdk: CommandLine) -> None:
    """The Rust example with those of the JavaScript one, all with a sidecar."""
    plan = rust_sdk.directory / "10-rust-sdk"
    shutil.copytree(EXAMPLES / "10-rust-sdk", plan)
    for name in ("go.mod", "go.sum", "package.json", "main.js", "mixed/main.go"):
        shutil.copy(EXAMPLES / "09-js-sdk" / name, plan / name)
    with (plan / "manifest.toml").open("a") as manifest:
        manifest.write('[builders."exec:go"]\nexec_pkg = "mixed"\n')
    composition = plan / "four.toml"
    composition.write_text(FOUR)
    rust_sdk("plan", "rm", "-p", "10-rust-sdk", "--yes")  # the same name, so that no crate is compiled twice
    try:
        assert rust_sdk("plan", "import", "--from", "10-rust-sdk").exit_code == 0
        run = rust_sdk("run", "composition", "-f", str(composition), "--wait", "--collect", deadline=RUST_DEADLINE)
    finally:
        rust_sdk("plan", "rm", "-p", "10-rust-sdk", "--yes")
    archive = passed(run, rust_sdk, go=2, js=2, python=2, rust=2)
    heard = "heard go-1 go-2 js-1 js-2 python-1 python-2 rust-1 rust-2"
    assert [output.count(heard) for output in archive.named("run.out").values()] == [1] * 8
