"""Upstream's published client builds and runs single groups on our daemon (client-daemon §6.3, §8.4–§8.8).

The client knows no builder by name: that the plan's manifest names `exec:generic` or `exec:python` is enough for it.
What it sends of a plan is in `test_upstream_client_sources.py`, compositions in `test_upstream_client_compositions.py`.
"""

from __future__ import annotations

import re
import shutil
import tarfile

import pytest

from tests.acceptance.conftest import REPOSITORY
from tests.upstream import client, programs
from tests.upstream.client import GoClient

pytestmark = [
    pytest.mark.skipif(bool(programs.missing()), reason=programs.missing()),
    pytest.mark.timeout(programs.BUILD_DEADLINE),
]


def test_a_run_is_sent_waited_for_and_collected(go: GoClient) -> None:
    done = go.run("ok", "--collect", "--instances", "2")
    assert (done.exit_code, done.stderr) == (0, "")
    [run_id] = client.awk(done.stdout, "run is queued with ID: ", 10)
    assert len(run_id) == 20
    assert client.awk(done.stdout, "finished run with ID", 9) == [run_id]
    assert re.findall(r"run finished with outcome (= )?([a-z0-9-]+)", done.stdout) == [("= ", "success")]
    assert done.log("run finished with outcome = success (single:2/2)")
    assert done.log(f"created file: {run_id}.tgz")
    assert done.stdout.splitlines()[-1].endswith(f"result default[{run_id}]: success")
    order = [
        done.stdout.index(text)
        for text in ("queued with ID", ">>> Server output:", "finished run with", "created file")
    ]
    assert order == sorted(order)
    with tarfile.open(go.directory / f"{run_id}.tgz", "r:gz") as tar:
        files = [member.name for member in tar if member.isreg()]
    assert files == [f"{run_id}/single/{n}/run.{kind}" for n in (0, 1) for kind in ("err", "out")]


def test_a_run_that_is_not_waited_for_goes_on_alone(go: GoClient) -> None:
    done = go.run("ok")
    assert (done.exit_code, done.stderr) == (0, "")
    [run_id] = done.run_ids
    assert ">>> Server output:" not in done.stdout
    followed = go("logs", "--task", run_id, "--follow")
    assert followed.exit_code == 0
    assert "Status:\t\tcomplete\nOutcome:\tsuccess\n" in followed.stdout
    assert go.status(run_id)["Priority"] == "0"


@pytest.mark.parametrize(
    ("case", "reason"),
    [("fail", "first failure: single[000] after "), ("silent", "exited without reporting an outcome (exit code 0)")],
)
def test_a_failed_run_is_complete_and_fails_the_client(go: GoClient, case: str, reason: str) -> None:
    done = go.run(case, "--collect", "--collect-file", "failed")
    [run_id] = done.run_ids
    assert (done.exit_code, done.stderr) == (1, 'run "default" failed\n')
    assert done.log(reason)
    assert client.awk(done.stdout, "finished run with ID", 9) == [run_id]
    assert done.stdout.splitlines()[-1].endswith(f"result default[{run_id}]: failure")
    assert (go.directory / "failed.tgz").is_file()
    status = go.status(run_id)
    assert (status["Status"], status["Outcome"]) == ("complete", "failure")


def test_options_of_the_client_reach_the_instances(go: GoClient) -> None:
    done = go.run(
        *("ok", "--wait", "--test-param", "word=<a> & 日本", "--test-param", "times=7"),
        *("--run-cfg", "network=host", "--build-cfg", "artifact=run.sh", "--disable-metrics"),
    )
    assert done.exit_code == 0
    assert done.log("times=7|word=<a> & 日本 metrics disabled: true")
    assert not done.log("WARN")
    assert go.run("ok", "--wait").log("times=3|word=hello metrics disabled: false")
    assert go.run("ok", "--wait", "--test-param", "word=").log("times=3|word= metrics")  # not the default, §7.1 no. 8


def test_output_of_any_kind_reaches_the_client(go: GoClient) -> None:
    done = go.run("odd", "--wait")
    assert done.exit_code == 0
    assert done.log("odd \ufffd <&> bold")
    assert done.log("x" * 8192 + "… (200000 characters)")


def test_an_artifact_is_used_as_it_is(go: GoClient) -> None:
    built = go("build", "single", "--plan", "shell", "--builder", "exec:generic", "--wait")
    assert built.exit_code == 0
    assert len(built.log("build queued with ID: ")) == 1
    [artifact] = client.awk(built.stdout, "generated build artifact", 8, '"')
    shutil.copy(artifact, go.directory / "copy")
    done = go.run("ok", "--wait", "--use-build", str(go.directory / "copy"))
    assert done.exit_code == 0
    assert not done.log("performing build")
    done = go.run("ok", "--wait", "--use-build", "/nowhere/x")
    assert done.exit_code == 1
    assert done.log("failed to start: /nowhere/x")


def test_python_plans_are_built(go: GoClient) -> None:
    shutil.copytree(REPOSITORY / "examples" / "01-hello", go.home / "plans" / "suite" / "hello")
    plan = ("-p", "suite/hello", "-t", "hello", "-b", "exec:python", "-r", "local:exec")
    done = go("run", "single", *plan, "-i", "2", "--wait", "--collect")
    assert done.exit_code == 0
    assert len(done.log("Hello, single!")) == 4
    assert go("tasks").stdout.partition(done.run_ids[0])[2].split()[4] == "suite/hello"


def test_go_plans_are_built_and_compiler_errors_come_back(go: GoClient) -> None:
    plan = go.home / "plans" / "ping"
    shutil.copytree(REPOSITORY / "examples" / "06-go-ping", plan)
    arguments = ("run", "single", "-p", "ping", "-t", "ping", "-b", "exec:go", "-r", "local:exec", "-i", "2", "--wait")
    done = go(*arguments, "--collect", "--collect-file", "out")
    assert done.exit_code == 0
    assert done.log("20 pings to 127.0.0.1:")
    assert (go.directory / "out.tgz").is_file()
    (plan / "main.go").write_text("package main\n\nfunc main() { undefinedThing() }\n")
    for broken in (go(*arguments, "--collect"), go("build", "single", "-p", "ping", "-b", "exec:go", "--wait")):
        assert broken.exit_code == 1
        output, _, end = broken.stdout.rpartition("task of type ")
        assert "./main.go:3:15: undefined: undefinedThing" in output
        assert re.match(r"(run|build) cancelled: go build failed with exit code 1", end)
        assert "./main.go:3:15: undefined: undefinedThing" in end
    assert not list(go.directory.glob("dc*.tgz"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--testcase", "zz"), "test case zz not found in plan shell"),
        (
            ("--instances", "21"),
            "error preparing run default: total instance count (21) outside of allowable range [1, 20] for",
        ),
        (
            ("--builder", "exec:go"),
            "error preparing group single: plan does not support builder 'exec:go'; supported: [exec:generic]",
        ),
        (("--run-cfg", "network=7"), "network"),
    ],
)
def test_what_fails_before_the_first_instance_ends_canceled(
    go: GoClient, arguments: tuple[str, ...], message: str
) -> None:
    """The texts of client-daemon §8.6."""
    done = go.run("ok", "--wait", *arguments)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1].startswith("task of type run cancelled: ")
    assert message in done.stdout.splitlines()[-1]
    assert done.log("result default[N/A]: canceled")
    assert go.status(done.run_ids[0])["Outcome"] == "canceled"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--runner", "local:docker", "--builder", "docker:go"), "engine run error: unknown runner: local:docker"),
        (("--builder", "docker:go"), "engine run error: runner local:exec is incompatible with builder docker:go"),
    ],
)
def test_what_fails_at_once_is_never_queued(go: GoClient, arguments: tuple[str, ...], message: str) -> None:
    done = go.run("ok", *arguments)
    assert (done.exit_code, done.run_ids) == (1, [])
    assert "\n>>> Error:\n" in done.stdout
    assert done.stdout.splitlines()[-1].startswith(message)


@pytest.mark.parametrize(
    ("builder", "options", "message"),
    [
        (
            "exec:generic",
            'build = ["sh", "-c", "echo no such header >&2; exit 2"]\nartifact = "run.sh"',
            "no such header",
        ),
        ("exec:generic", 'artifact = "missing.sh"', "missing.sh"),
        ("exec:python", 'entrypoint = "missing.py"', "missing.py"),
    ],
)
def test_a_broken_build_comes_back_with_its_output(go: GoClient, builder: str, options: str, message: str) -> None:
    manifest = go.home / "plans" / "shell" / "manifest.toml"
    _, _, rest = client.MANIFEST.partition("[runners.")
    manifest.write_text(f'name = "shell"\n[builders."{builder}"]\n{options}\n[runners.{rest}')
    done = go("build", "single", "--plan", "shell", "--builder", builder, "--wait")
    assert done.exit_code == 1
    output, _, end = done.stdout.rpartition("task of type build cancelled: ")
    assert message in output and message in end
    done = go.run("ok", "--collect", "--builder", builder)
    assert (done.exit_code, done.run_ids != []) == (1, True)
    assert message in done.stdout.rpartition("task of type run cancelled: ")[2]
    assert done.log("result default[N/A]: canceled")
    assert not list(go.directory.iterdir())
