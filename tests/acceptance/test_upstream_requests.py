"""Told the same, our command line and upstream's client ask the same of a daemon (client-daemon §1.3, §1.4, §6.3).

Both are run in one home against a server that keeps what it gets. Documents are compared as values, archives by path,
mode and contents. Some differences are on purpose, or harmless; `compared` and `counted` take them away:

- Upstream's client counts the instances of runs before they inherit any (§7.1 no. 9); ours sends what the file says.
- Where nothing is to be built, upstream's sends `null` for `build_groups`, ours an empty list.
- Upstream's sends `--dep` options in the order of a Go map, which is any.
- Upstream's makes the paths of extra sources absolute only for those that it sends, ours makes all of them so.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import CommandLine
from tests.upstream import programs
from tests.upstream.client import GoClient
from tests.upstream.recorder import TASK_ID, Recorder, Request, recorder
from tests.upstream.remote import Remote

pytestmark = [
    pytest.mark.skipif(bool(programs.missing()), reason=programs.missing()),
    pytest.mark.timeout(programs.BUILD_DEADLINE),
]

MANIFEST = """
name = "named"

[builders."docker:go"]
enabled = true
go_version = "1.14"
ulimits = ["a", "b"]
[builders."exec:go"]
[runners."local:docker"]
enabled = true
timeout = 7
[runners."local:exec"]

[extra_sources]
docker_go = ["../../../shared"]

[[testcases]]
name = "ok"
instances = { min = 1, max = 200, default = 1 }
[testcases.params]
a = { type = "int", desc = "a number", unit = "bytes", default = 30000000 }
b = { type = "string" }
c = { type = "list", default = ["x", "<y>"] }
f = { type = "float", default = 1.5 }
t = { type = "bool", default = true }

[[testcases]]
name = "other"
instances = { min = 1, max = 1 }
"""

EVERYTHING = """
[metadata]
name = "all there is"
author = "someone"

[global]
plan = "suite/demo"
case = "ok"
total_instances = 8
concurrent_builds = 2
builder = "docker:go"
runner = "local:docker"
disable_metrics = true
[global.build_config]
go_version = "1.16"
nested = { list = [1, 2.5, "three"], flag = false }
[global.build]
selectors = ["one", "two"]
dependencies = [{ module = "example.com/m", target = "example.com/fork", version = "v1.0.0" }]
[global.run_config]
ulimits = ["nofile=1:1"]
[global.run]
artifact = "unused"
[global.run.test_params]
a = "global"
[global.run.profiles]
heap = "1s"

[[groups]]
id = "left"
builder = "docker:go"
instances = { count = 3 }
resources = { memory = "1Gi", cpu = "100m" }
[groups.build_config]
go_version = "1.17"
[groups.build]
selectors = ["three"]
dependencies = [{ module = "example.com/n", version = "v2.0.0" }]
[groups.run]
artifact = "made before"
[groups.run.test_params]
b = "<left> & more"
[groups.run.profiles]
cpu = "true"

[[groups]]
id = "right"
instances = { percentage = 0.5 }
"""

RUNS = """
[[runs]]
id = "first"
total_instances = 8
[runs.test_params]
t = "false"
[[runs.groups]]
id = "left"
instances = { count = 4 }
[[runs.groups]]
id = "east"
group_id = "right"
instances = { percentage = 0.5 }
resources = { memory = "2Gi" }
[runs.groups.test_params]
f = "2"
[runs.groups.profiles]
heap = "2s"

[[runs]]
id = "second"
[[runs.groups]]
id = "left"
instances = { count = 1 }
"""

TEMPLATE = """
{{ with (load_resource "./values.toml") }}
[global]
plan = "suite/demo"
case = "ok"
builder = "docker:go"
runner = "local:docker"
{{ range .groups }}
[[groups]]
id = "{{ .id }}"
instances = { count = {{ .count }} }
{{ end }}
{{ end }}
"""

NAMES = ("--plan", "suite/demo", "--builder", "docker:go")
RUN = (*NAMES, "--testcase", "ok", "--runner", "local:docker", "--instances", "2")
OPTIONS = ("--build-cfg", "n=5", "--build-cfg", "f=0.5", "--build-cfg", "y=true", "--build-cfg", 's="5"')
RUN_OPTIONS = ("--run-cfg", "n=5", "--run-cfg", "s=text", "--test-param", "a=1", "--test-param", "b=x,y z")
DEPENDENCIES = ("--dep", "example.com/m=example.com/fork@v1.0.0", "--dep", "example.com/n=example.com/n@v2.0.0")
CREATED = ("--metadata-repo", "some/repo", "--metadata-branch", "main", "--metadata-commit", "abc")


@pytest.fixture(scope="module")
def recording() -> Iterator[Recorder]:
    with recorder() as found:
        yield found


@pytest.fixture
def home(tmp_path: Path) -> Path:
    plan = tmp_path / "home" / "plans" / "suite" / "demo"
    (plan / "sub" / "empty").mkdir(parents=True)
    (plan / "manifest.toml").write_text(MANIFEST)
    (plan / "main.go").write_text("package main\n")
    (plan / ".hidden").write_text("hidden")
    (plan / ".testgroundignore").write_text("*.out\n")
    (plan / "sub" / "kept.sh").write_text("#!/bin/sh\n")
    (plan / "sub" / "kept.sh").chmod(0o755)
    (plan / "sub" / "left.out").write_text("1")
    for path in ("shared/x.go", "sdk/q.txt"):
        (tmp_path / "home" / path).parent.mkdir()
        (tmp_path / "home" / path).write_text(path)
    (tmp_path / "home" / ".env.toml").write_text('[client]\nuser = "me"\n')
    return tmp_path / "home"


@pytest.fixture
def sent(home: Path, tmp_path: Path, recording: Recorder) -> Any:
    """What both send when they are told the same, upstream's client first."""

    def both(*arguments: str) -> tuple[list[Request], list[Request]]:
        found = []
        for client in (
            GoClient(home, tmp_path, recording.endpoint),
            Remote(CommandLine(home, tmp_path), recording.endpoint, ""),
        ):
            done = client(*arguments)
            assert done.exit_code == 0, done
            found.append([compared(request) for request in recording.taken()])
        return found[0], found[1]

    return both


def compared(request: Request) -> Request:
    document = request.document
    if "composition" not in document:
        return request
    for group in document["composition"]["groups"]:
        (group["build"]["dependencies"] or []).sort(key=lambda dependency: dependency["module"])
    if request.path == "/run":
        document = document | {"build_groups": document["build_groups"] or []}
    if request.archives or request.path != "/run":
        return replace(request, document=document)
    return replace(request, document=document | {"manifest": document["manifest"] | {"ExtraSources": None}})


def counted(request: Request) -> Request:
    """With the totals of runs taken away."""
    composition = request.document["composition"]
    runs = [run | {"total_instances": None} for run in composition["runs"]]
    return replace(request, document=request.document | {"composition": composition | {"runs": runs}})


def totals(request: Request) -> list[int]:
    return [run["total_instances"] for run in request.document["composition"]["runs"]]


@pytest.mark.parametrize(
    "arguments",
    [
        ("tasks",),
        ("status", "--task", TASK_ID),
        ("logs", "--task", TASK_ID),
        ("logs", "--task", TASK_ID, "--follow"),
        ("collect", "--runner", "local:exec", TASK_ID),
        ("terminate", "--runner", "local:exec"),
        ("terminate", "--builder", "docker:go"),
        ("healthcheck", "--runner", "local:exec"),
        ("healthcheck", "--runner", "local:exec", "--fix"),
        ("build", "purge", *NAMES),
        ("build", "single", *NAMES),
        ("build", "single", *NAMES, *OPTIONS, *DEPENDENCIES),
        ("run", "single", *RUN),
        ("run", "single", *RUN, "--wait", "--collect"),
        ("run", "single", *RUN, *OPTIONS, *RUN_OPTIONS, *DEPENDENCIES, *CREATED),
        ("run", "single", *RUN, "--use-build", "artifact", "--disable-metrics"),
    ],
    ids=lambda arguments: " ".join(arguments).replace("/", ":"),
)
def test_commands_with_flags_alone(sent: Any, arguments: tuple[str, ...]) -> None:
    theirs, ours = sent(*arguments)
    assert theirs, "the command asked nothing"
    assert ours == theirs


@pytest.mark.parametrize("command", [("build", "single", *NAMES), ("run", "single", *RUN)])
def test_a_linked_sdk_goes_along(sent: Any, home: Path, command: tuple[str, ...]) -> None:
    theirs, ours = sent(*command, "--link-sdk", str(home / "sdk"))
    assert list(theirs[0].archives) == ["plan.zip", "sdk.zip", "extra.zip"]
    assert ours == theirs


@pytest.mark.parametrize("more", [(), ("--ignore-artifacts",), CREATED], ids=["", "ignore-artifacts", "metadata"])
def test_one_run_of_a_composition(sent: Any, tmp_path: Path, more: tuple[str, ...]) -> None:
    (tmp_path / "c.toml").write_text(EVERYTHING + RUNS.partition('[[runs]]\nid = "second"')[0])
    theirs, ours = sent("run", "composition", "--file", "c.toml", *more)
    assert [request.path for request in theirs] == ["/run"]
    assert ours == theirs


def test_a_chosen_run_of_a_composition(sent: Any, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(EVERYTHING + RUNS)
    [theirs], [ours] = sent("run", "composition", "--file", "c.toml", "--run-ids", "second")
    assert (totals(theirs), totals(ours)) == ([8, 1], [8, 0])
    assert counted(ours) == counted(theirs)


def test_builds_of_a_composition(sent: Any, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(EVERYTHING)
    theirs, ours = sent("build", "composition", "--file", "c.toml")
    assert [request.path for request in theirs] == ["/build"]
    assert ours == theirs


def test_a_template_is_expanded_before_it_is_sent(sent: Any, tmp_path: Path) -> None:
    (tmp_path / "values.toml").write_text('[[groups]]\nid = "a"\ncount = 1\n[[groups]]\nid = "b"\ncount = 2\n')
    (tmp_path / "c.toml").write_text(TEMPLATE)
    [theirs], [ours] = sent("run", "composition", "--file", "c.toml")
    assert [group["id"] for group in theirs.document["composition"]["groups"]] == ["a", "b"]
    assert (totals(theirs), totals(ours)) == ([3], [0])
    assert counted(ours) == counted(theirs)
