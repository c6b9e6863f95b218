"""Upstream's integration tests that need no Docker, in our own form: its client, our daemon, a plan on its Go SDK.

By the names of upstream's scripts:

- here: 03_exec_go_placebo_ok, 13_docker_builder_configuration (its selectors), 14_docker_silent_test_failure,
  16_show_task_outcome_in_cli, 18_block_runners, 20_exec_go_mod_rewrites, 1493_abort_on_broken_build,
  1493_continue_on_failure, 1493_runs_feature, 1493_runs_feature_mixed_builders, and of the Go tests
  TestPanickingTestWillEndAnyway. Where they name docker:go and local:docker, here are exec:go and local:exec.
- elsewhere: 19_limit_runs_per_branch in `test_upstream_client_waiting.py`. It cannot be as upstream has it: the first
  of two runs starts at once here, it waits for no worker to look. TestStalledTestWillEndAnyway is there, too;
  TestIssue1170TestgroundIgnoreFile is in `test_upstream_client_sources.py`.
- not without Docker or Kubernetes: 01 and 02 (k8s), 04_docker_placebo_ok, 05_docker_placebo_stall, 06 to 08 (network),
  09 to 11 (splitbrain), the modfiles of 13, 15 and 15_02 (mixed_builders), 17_docker_benchmark_storm_ok,
  20_docker_additional_hosts, example_01_rust, example_02_js, example_03_generic_artifact, example_04_browser_node.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from tests.acceptance import processes
from tests.acceptance.conftest import REPOSITORY, Archive, Finished
from tests.acceptance.processes import started
from tests.upstream import client, programs
from tests.upstream.client import GoClient

pytestmark = [
    pytest.mark.skipif(bool(programs.missing()), reason=programs.missing()),
    pytest.mark.timeout(programs.BUILD_DEADLINE),
]

CASES = ("ok", "panic", "silent", "optional", "barrier")
MANIFEST = """name = "placebo"
[builders."exec:go"]
[builders."exec:generic"]
artifact = "plan.sh"
[runners."local:exec"]
""" + "".join(
    f'[[testcases]]\nname = "{case}"\ninstances = {{ min = 1, max = 10 }}\n'
    '[testcases.params]\nshould_fail = { type = "bool", default = false }\n'
    'expected = { type = "string", default = "go" }\n'
    for case in CASES
)

MAIN = """package main

import (
	"context"
	"errors"
	"os"
	"runtime/debug"

	"github.com/testground/sdk-go/run"
	"github.com/testground/sdk-go/runtime"
)

func main() {
	run.InvokeMap(map[string]interface{}{
		"ok": ok, "panic": fall, "silent": silent, "optional": optional, "barrier": run.InitializedTestCaseFn(barrier),
	})
}

func ok(env *runtime.RunEnv) error {
	info, _ := debug.ReadBuildInfo()
	for _, module := range info.Deps {
		if module.Path == "github.com/testground/sdk-go" {
			for ; module.Replace != nil; module = module.Replace {
			}
			env.RecordMessage("sdk %s %s, flavour %s", module.Path, module.Version, flavour)
		}
	}
	return nil
}

func fall(env *runtime.RunEnv) error {
	panic("over the edge")
}

func silent(env *runtime.RunEnv) error {
	os.Exit(0)
	return nil
}

func optional(env *runtime.RunEnv) error {
	if env.BooleanParam("should_fail") {
		return errors.New("as wished")
	}
	if expected := env.StringParam("expected"); expected != "go" {
		return errors.New("this is go, not " + expected)
	}
	return nil
}

func barrier(env *runtime.RunEnv, init *run.InitContext) error {
	if init.GlobalSeq == 1 {
		panic("over the edge")
	}
	init.SyncClient.MustBarrier(context.Background(), "all", env.TestInstanceCount)
	return nil
}
"""

PLAIN = '//go:build !salted\n\npackage main\n\nconst flavour = "plain"\n'
SALTED = '//go:build salted\n\npackage main\n\nconst flavour = "salted"\n'
SHELL = r"""#!/bin/sh
case "$TEST_INSTANCE_PARAMS" in
    *expected=generic*) printf '{"event":{"success_event":{"group":"%s"}}}\n' "$TEST_GROUP_ID" ;;
    *) printf '{"event":{"failure_event":{"group":"%s","error":"this is generic"}}}\n' "$TEST_GROUP_ID" ;;
esac
"""

GLOBAL = '[global]\nplan = "testground/placebo"\ncase = "{case}"\nbuilder = "exec:go"\nrunner = "local:exec"\n'
GROUP = '[[groups]]\nid = "group_simple"\ninstances = { count = 1 }\n'
COMMIT = "v0.3.1-0.20220525111316-b6b10897b578"
"""A commit of sdk-go, the one that upstream's own module needs."""


@pytest.fixture
def go(home: Path, daemon: None, tmp_path: Path) -> GoClient:
    return with_placebo(tmp_path, processes.endpoint(home))


def with_placebo(root: Path, endpoint: str) -> GoClient:
    """As the scripts do, plans are imported together, so that a plan has a name with a slash."""
    go = client.create(root, endpoint)
    plan = go.directory / "plans" / "placebo"
    plan.mkdir(parents=True)
    for name in ("go.mod", "go.sum"):
        shutil.copy(REPOSITORY / "examples" / "06-go-ping" / name, plan)
    texts = {"manifest.toml": MANIFEST, "main.go": MAIN, "plain.go": PLAIN, "salted.go": SALTED, "plan.sh": SHELL}
    for name, text in texts.items():
        (plan / name).write_text(text)
    (plan / "plan.sh").chmod(0o755)
    assert go("plan", "import", "--from", "./plans", "--name", "testground").exit_code == 0
    return go


def single(go: GoClient, case: str, instances: int, *more: str) -> Finished:
    plan = ("--plan=testground/placebo", f"--testcase={case}", "--builder=exec:go", "--runner=local:exec")
    return go("run", "single", *plan, f"--instances={instances}", *more)


def composition(go: GoClient, text: str, *more: str) -> Finished:
    go.write("c.toml", text)
    return go("run", "composition", "-f", "c.toml", "--result-file=./results.csv", "--wait", *more)


def runs(*wanted: tuple[str, int, bool]) -> str:
    """A `[[runs]]` table for each name, number of instances, and whether it is to fail."""
    return "".join(
        f'[[runs]]\nid = "{name}"\n[[runs.groups]]\nid = "group_simple"\ninstances = {{ count = {count} }}\n'
        f'test_params = {{ should_fail = "{str(fails).lower()}" }}\n'
        for name, count, fails in wanted
    )


def outcomes(go: GoClient, done: Finished) -> list[str]:
    """Of the tasks of a command, as `status` shows them."""
    ids = client.awk(done.stdout, "run is queued with ID", 10)
    return [client.awk(go("status", "-t", task_id).stdout, "Outcome:", 2)[0] for task_id in ids]


def results(go: GoClient) -> list[str]:
    """Column 3 of the result file."""
    return [line.split(",")[2] for line in go.read("results.csv").splitlines()[1:]]


def test_03_exec_go_placebo_ok(go: GoClient) -> None:
    done = single(go, "ok", 2, "--collect", "--wait")
    assert done.exit_code == 0
    [run_id] = client.awk(done.stdout, "finished run with ID", 9)
    archive = Archive.read(go.directory / f"{run_id}.tgz")
    assert (len(run_id), archive.run_id) == (20, run_id)
    assert all(archive.named("run.out").values()) and len(archive.named("run.out")) == 2
    assert archive.named("run.err") == {"single/0": "", "single/1": ""}
    assert go("terminate", "--runner", "local:exec").exit_code == 0


def test_13_selectors_of_groups_make_different_binaries_in_one_run(go: GoClient) -> None:
    salted = '[[groups]]\nid = "salted"\ninstances = { count = 1 }\nbuild = { selectors = ["salted"] }\n'
    done = composition(go, GLOBAL.format(case="ok") + GROUP + salted)
    assert done.exit_code == 0
    assert [len(done.log(f"{name}[000] >> sdk")) for name in ("group_simple", "salted")] == [1, 1]
    assert done.log("group_simple[000] >> sdk")[0].endswith("flavour plain")
    assert done.log("salted[000] >> sdk")[0].endswith("flavour salted")


def test_14_silent_test_failure(go: GoClient) -> None:
    done = single(go, "silent", 1, "--wait")
    assert (done.exit_code, outcomes(go, done)) == (1, ["failure"])


@pytest.mark.parametrize(("case", "outcome"), [("ok", "success"), ("panic", "failure")])
def test_16_show_task_outcome_in_cli(go: GoClient, case: str, outcome: str) -> None:
    done = single(go, case, 1, "--wait")
    assert outcomes(go, done) == [outcome]
    assert bool(done.log("over the edge")) == (case == "panic")


def test_18_block_runners(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with started(home, '[runners."local:exec"]\ndisabled = true\n') as daemon:
        go = with_placebo(tmp_path, daemon.endpoint)
        assert go("healthcheck", "--runner", "local:exec", "--fix").exit_code == 0
        done = single(go, "ok", 2, "--wait")
        assert (done.exit_code, outcomes(go, done)) == (1, ["canceled"])
    assert done.stdout.splitlines()[-1] == "task of type run cancelled: runner is disabled by config"


def test_20_exec_go_mod_rewrites(go: GoClient) -> None:
    sdk = "github.com/testground/sdk-go"
    replaced = f'[[groups.build.dependencies]]\nmodule = "{sdk}"\nversion = "{COMMIT}"\n'
    other = '[[groups]]\nid = "other"\ninstances = { count = 1 }\n'
    done = composition(go, GLOBAL.format(case="ok") + GROUP + replaced + other, "--collect")
    assert done.exit_code == 0
    assert done.log(f"group_simple[000] >> sdk {sdk} {COMMIT}")
    assert done.log(f"other[000] >> sdk {sdk} v0.3.0")
    plan = ("--plan", "testground/placebo", "--builder", "exec:go")
    built = go("build", "single", *plan, "--dep", f"{sdk}={sdk}@{COMMIT}", "--wait")
    assert built.exit_code == 0
    [artifact] = client.awk(built.stdout, "generated build artifact", 8, '"')
    assert single(go, "ok", 1, "--wait", f"--use-build={artifact}").log(f"sdk {sdk} {COMMIT}")


def test_a_linked_sdk_takes_the_place_of_the_published_one(go: GoClient) -> None:
    sdk = go.home / "sdks" / "sdk-go"
    cache = subprocess.run(["go", "env", "GOMODCACHE"], capture_output=True, text=True, check=True).stdout.strip()
    published = Path(cache) / "github.com" / "testground" / "sdk-go@v0.3.0"
    assert single(go, "ok", 1, "--wait").log("sdk github.com/testground/sdk-go v0.3.0")
    for file in (path for path in published.rglob("*") if path.is_file()):
        copy = sdk / file.relative_to(published)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(file.read_bytes())
    done = single(go, "ok", 1, "--wait", "--link-sdk", "sdk-go")
    assert done.exit_code == 0
    assert done.log("sdk ../sdk (devel)")


def test_1493_abort_on_broken_build(go: GoClient) -> None:
    broken = '[[groups]]\nid = "second_group"\ninstances = { count = 1 }\nbuild_config = { exec_pkg = "missing" }\n'
    wanted = [("run_simple_1", 1, False), ("run_simple_2", 2, True), ("run_simple_4", 4, False)]
    done = composition(go, GLOBAL.format(case="optional") + GROUP + broken + runs(*wanted), "--collect")
    assert (done.exit_code, outcomes(go, done)) == (1, ["canceled"])
    assert go.read("results.csv") == "run_id,task_id,outcome,error\n" + "".join(
        f"{name},N/A,canceled,canceled\n" for name, _, _ in wanted
    )
    assert re.search(r"task of type run cancelled: go build failed.*\n(.*\n)*.*missing", done.stdout)


@pytest.mark.parametrize("fails", [(False, True, False), (True, True, False)])
def test_1493_continue_on_failure(go: GoClient, fails: tuple[bool, bool, bool]) -> None:
    wanted = [(f"run_simple_{count}", count, failing) for count, failing in zip((1, 2, 4), fails, strict=True)]
    done = composition(go, GLOBAL.format(case="optional") + GROUP + runs(*wanted), "--collect")
    expected = ["failure" if failing else "success" for failing in fails]
    assert done.exit_code == 1
    assert outcomes(go, done) == results(go) == expected
    archives = sorted(go.directory.glob("multiple-*.tgz"))
    assert [len(Archive.read(path).named("run.out")) for path in archives] == [1, 2, 4]


def test_1493_runs_feature(go: GoClient) -> None:
    renamed = '[[runs.groups]]\nid = "another_group"\ngroup_id = "group_simple"\ninstances = { count = 1 }\n'
    first, second, fourth = (runs((f"run_simple_{count}", 1 if count < 4 else 4, False)) for count in (1, 2, 4))
    text = GLOBAL.format(case="optional") + GROUP + first + second + renamed + fourth
    done = composition(go, text, "--run-ids=run_simple_4", "--collect")
    assert (done.exit_code, outcomes(go, done)) == (0, ["success"])
    [run_id] = client.awk(done.stdout, "finished run with ID", 9)
    assert len(Archive.read(go.directory / f"{run_id}.tgz").named("run.out")) == 4
    done = composition(go, text, "--collect")
    assert done.exit_code == 0
    assert outcomes(go, done) == results(go) == ["success"] * 3
    assert done.log("(another_group:1/1 group_simple:1/1)")


def test_a_composition_written_back_still_names_its_plan(go: GoClient) -> None:
    """With upstream's daemon it has the name in the manifest, where no plan lies (client-daemon §7.1 no. 5)."""
    assert composition(go, GLOBAL.format(case="optional") + GROUP, "--write-artifacts").exit_code == 0
    assert tomllib.loads(go.read("c.toml"))["global"]["plan"] == "testground/placebo"
    done = composition(go, go.read("c.toml"))
    assert done.exit_code == 0
    assert not done.log("performing build")


def test_1493_runs_feature_mixed_builders(go: GoClient) -> None:
    """Runs rename groups; parameters of groups, of runs and of their groups override each other."""

    def group(name: str, group_id: str, expected: str = "") -> str:
        params = f'test_params = {{ expected = "{expected}" }}\n' if expected else ""
        return f'[[runs.groups]]\nid = "{name}"\ngroup_id = "{group_id}"\ninstances = {{ count = 1 }}\n{params}'

    generic = 'builder = "exec:generic"\ninstances = { count = 1 }\n'
    text = (
        GLOBAL.format(case="optional")
        + '[[groups]]\nid = "go"\ninstances = { count = 1 }\n'
        + f'[[groups]]\nid = "generic_missing"\n{generic}'
        + f'[[groups]]\nid = "generic"\n{generic}run = {{ test_params = {{ expected = "generic" }} }}\n'
        + '[[runs]]\nid = "1"\n'
        + group("a", "go", "go")
        + group("b", "go", "go")
        + group("generic", "generic")
        + '[[runs]]\nid = "2"\n'
        + group("a", "generic")
        + group("b", "generic")
        + '[[runs]]\nid = "3"\ntest_params = { expected = "go" }\n'
        + group("a", "go")
        + '[[runs]]\nid = "4"\ntest_params = { expected = "go" }\n'
        + group("a", "go")
        + group("b", "generic_missing", "generic")
    )
    done = composition(go, text)
    assert done.exit_code == 0
    assert outcomes(go, done) == results(go) == ["success"] * 4


def test_a_panicking_test_will_end_anyway(go: GoClient) -> None:
    """Upstream's end comes with a timeout; here the barrier fails with the instance that it needs."""
    done = single(go, "barrier", 2, "--wait")
    assert (done.exit_code, outcomes(go, done)) == (1, ["failure"])
    assert done.log("over the edge")
