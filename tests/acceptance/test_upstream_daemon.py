"""Our command line drives upstream's daemon: builds and runs (client-daemon §6.3, §7.4).

That daemon is the published Go module, v0.6.0, without a Docker engine; `tests/upstream/daemon.py` tells what it can do
so. What asks and manages, and how things fail, is in `test_upstream_daemon_failures.py`.
"""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import REPOSITORY
from tests.upstream import daemon, programs
from tests.upstream.remote import BUILD_DEADLINE, MANIFEST, Remote, write_plan

pytestmark = [
    pytest.mark.skipif(bool(programs.missing()), reason=programs.missing()),
    pytest.mark.timeout(programs.BUILD_DEADLINE),
]

GROUPS = """
[global]
plan = "events"
case = "end"
builder = "exec:go"
runner = "local:exec"

[global.run.test_params]
note = "global"

[[groups]]
id = "left"
instances = { count = 2 }
[groups.run.test_params]
note = "left"

[[groups]]
id = "right"
instances = { percentage = 0.5 }
[groups.build]
selectors = ["right"]
"""

RUNS = """
[[runs]]
id = "small"
total_instances = 4
groups = [{ id = "left" }, { id = "right" }]

[[runs]]
id = "large"
test_params = { note = "run" }
groups = [{ id = "left", instances = { count = 3 } }, { id = "west", group_id = "left" }]
"""

FAILURE = """
[[runs]]
id = "medium"
test_params = { how = "failure" }
groups = [{ id = "left" }]
"""


def composition(remote: Remote, *parts: str) -> Path:
    file = remote.cli.directory / "composition.toml"
    file.write_text("\n".join(parts))
    return file


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def nulls(value: Any) -> bool:
    """Whether any list has an element that is null."""
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return (isinstance(value, list) and None in value) or any(nulls(item) for item in items)


# -- builds ---------------------------------------------------------------------------------------------------------


def test_build_single_names_an_artifact_that_is_there(remote: Remote) -> None:
    assert Path(remote.artifact).name.startswith("exec-go--events-")
    assert os.access(remote.artifact, os.X_OK)


def test_build_composition_writes_the_artifacts_of_all_groups(remote: Remote) -> None:
    file = composition(remote, GROUPS)
    done = remote("build", "composition", "--file", str(file), "--wait", "--write-artifacts")
    assert done.exit_code == 0, done
    assert [line.rpartition('"group": "')[2].split('"')[0] for line in done.log("generated build artifact")] == [
        "left",
        "right",
    ]
    artifacts = [line.split('"')[1] for line in file.read_text().splitlines() if line.startswith("artifact")]
    assert len(set(artifacts)) == 2, "the groups differ in their selectors"
    assert all(os.access(artifact, os.X_OK) for artifact in artifacts)


def test_a_build_that_nobody_waits_for_is_queued(remote: Remote) -> None:
    done = remote("build", "single", "--plan", "events", "--builder", "exec:go")
    assert (done.exit_code, len(done.log("generated build artifact"))) == (0, 0)
    [line] = done.log("build queued with ID: ")
    task_id = line.rpartition(" ")[2]
    followed = remote("logs", "--task", task_id, "--follow")
    assert "build succeeded" in followed.stdout
    assert remote.state(task_id).items() >= {"Type": "build", "Status": "complete", "Priority": "0"}.items()


def test_links_extra_sources_and_a_linked_sdk_reach_the_builder(remote: Remote) -> None:
    """Upstream's daemon makes files of the text of links; it gets copies instead (client-daemon §7.1 no. 20)."""
    module = """module whole

go 1.21

require (
	example.com/shared v0.0.0
	github.com/testground/sdk-go v0.0.0
)

replace example.com/shared => ../extra/shared
"""
    source = """package main

import (
	"fmt"

	"example.com/shared"
	"github.com/testground/sdk-go/greet"
	"whole/linked"
)

func main() {
	fmt.Println("from", shared.Word, greet.Word, words.Word)
	fmt.Println(`{"event":{"success_event":{"group":"single"}}}`)
}
"""
    manifest = MANIFEST.format(name="whole") + '[extra_sources]\nexec_go = ["../../shared"]\n'
    files = {"manifest.toml": manifest, "go.mod": module, "source.txt": source, "lib/a.go": package("words", "links")}
    plan = write_plan(remote, "whole", **files)
    (plan / "main.go").symlink_to("source.txt")
    (plan / "linked").symlink_to("lib")
    other(remote.cli.home / "shared", "example.com/shared", "a.go", package("shared", "extra sources"))
    sdk = other(remote.cli.directory / "sdk", "github.com/testground/sdk-go", "greet/a.go", package("greet", "an SDK"))
    names = ("--plan", "whole", "--testcase", "end", "--builder", "exec:go", "--runner", "local:exec")
    done = remote("run", "single", *names, "--instances", "1", "--link-sdk", str(sdk), "--wait")
    assert done.exit_code == 0, done
    assert done.log("from extra sources an SDK links")


def test_every_file_arrives_as_it_is(remote: Remote) -> None:
    """The daemon unpacks a request before it answers, so nobody has to wait for the build."""
    plan = write_plan(remote, "odd", **{"größe.txt": "ä", "with space": "1", "empty": "", "deep/er/file": "2"})
    (plan / "packed.png").write_bytes(bytes(range(256)) * 4096)
    (plan / "bare").mkdir()
    (plan / "deep" / "er" / "file").chmod(0o755)
    (plan / "empty").chmod(0o600)
    assert remote("build", "single", "--plan", "odd", "--builder", "exec:go").exit_code == 0
    requests = remote.cli.home.parent / "upstream" / "data" / "work" / "requests"
    [arrived] = [file.parent for file in requests.glob("*/plan/größe.txt")]
    assert described(arrived) == described(plan)


def described(root: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and contents of all that is in a directory; a build may already have begun to write beside it."""
    found = [path for path in root.rglob("*") if path.name != "go.sum"]
    return {
        str(path.relative_to(root)): (path.stat().st_mode, b"" if path.is_dir() else path.read_bytes())
        for path in found
    }


def package(name: str, word: str) -> str:
    return f'package {name}\n\nconst Word = "{word}"\n'


def other(directory: Path, module: str, path: str, text: str) -> Path:
    (directory / path).parent.mkdir(parents=True)
    (directory / path).write_text(text)
    (directory / "go.mod").write_text(f"module {module}\n\ngo 1.21\n")
    return directory


# -- runs -----------------------------------------------------------------------------------------------------------


def test_run_single_is_followed_to_its_verdict(remote: Remote) -> None:
    done = remote(*remote.run("end", "--test-param", "note=5", "--wait", "--collect-file", "unused"))
    assert done.exit_code == 0, done
    [run_id] = done.run_ids
    assert done.log("note=5")
    assert done.log("OK << single[000] >>")
    assert done.log("run finished with outcome unknown"), "upstream's local:exec returns no result"
    assert done.stdout.endswith(f"result default[{run_id}]: success\n")
    assert not (remote.cli.directory / "unused.tgz").exists()


def test_a_run_without_an_artifact_is_built_first(remote: Remote) -> None:
    names = ("--plan", "events", "--testcase", "end", "--builder", "exec:go", "--runner", "local:exec")
    done = remote("run", "single", *names, "--instances", "2", "--collect", "--collect-file", "kept")
    assert (done.exit_code, len(done.log("build succeeded"))) == (0, 1)
    archive = remote.cli.collected("kept")
    assert [archive.run_id] == done.run_ids
    assert archive.named("note.txt") == {"single/0": "written by single", "single/1": "written by single"}


def test_runs_follow_each_other_and_share_what_was_built(remote: Remote) -> None:
    file = composition(remote, GROUPS, RUNS)
    created = ("--metadata-repo", "some/repo", "--metadata-branch", "main", "--metadata-commit", "abc")
    arguments = ("run", "composition", "--file", str(file), "--collect", "--result-file", "r.csv", "-w", *created)
    done = remote(*arguments)
    assert done.exit_code == 0, done
    large, small = done.run_ids
    assert [tuple(row.values()) for row in rows(remote.cli.directory / "r.csv")] == [
        ("large", large, "success", ""),
        ("small", small, "success", ""),
    ]
    assert len(done.log("build succeeded")) == 2
    assert len(done.log("note=run")) == 5
    assert len(done.log("note=left")) == 2
    assert len(done.log("note=global")) == 2
    assert sorted(remote.cli.collected(f"multiple-large-{large}").named("note.txt")) == [
        "left/0",
        "left/1",
        "left/2",
        "west/0",
        "west/1",
    ]
    assert len(remote.cli.collected(f"multiple-small-{small}").files) == 4
    assert file.read_text().count('artifact = "/') == 2
    first, second = remote.request(large), remote.request(small)
    assert (first["run_ids"], first["build_groups"]) == (["large"], [0, 1])
    assert (second["run_ids"], second["build_groups"]) == (["small"], [])
    assert [run["total_instances"] for run in second["composition"]["runs"]] == [4, 0], "only what the file says"
    assert first["created_by"] == {"repo": "some/repo", "branch": "main", "commit": "abc"}
    assert not nulls(first) and not nulls(second)


def test_a_chosen_run_alone_uses_the_artifacts_of_the_file(remote: Remote) -> None:
    built = f'artifact = "{remote.artifact}"\n'
    left = GROUPS.replace("[groups.run.test_params]", f"[groups.run]\n{built}[groups.run.test_params]")
    file = composition(remote, left, "[groups.run]", built, RUNS)
    done = remote("run", "composition", "--file", str(file), "--run-ids", "small", "--wait")
    assert (done.exit_code, done.log("performing build")) == (0, [])
    assert remote.request(done.run_ids[0])["build_groups"] == []


def test_a_failing_run_ends_the_sequence_there(remote: Remote) -> None:
    """Upstream's local:exec makes an error of failing instances, and so a canceled task (client-daemon §5.2)."""
    file = composition(remote, GROUPS, RUNS, FAILURE)
    done = remote("run", "composition", "--file", str(file), "--result-file", "r.csv")
    assert done.exit_code == 1
    assert done.stdout.endswith("\ntask of type run cancelled: 2 nodes failed\n")
    large, medium = done.run_ids
    assert [tuple(row.values()) for row in rows(remote.cli.directory / "r.csv")] == [
        ("large", large, "success", ""),
        ("medium", "N/A", "canceled", "canceled"),
        ("small", "N/A", "canceled", "canceled"),
    ]
    assert done.log("FAIL << left[000] >> as it was told")
    assert remote.state(medium).items() >= {"Status": "canceled", "Outcome": "canceled"}.items()


def test_an_empty_parameter_gives_way_to_the_default(remote: Remote) -> None:
    """With our daemon it stays empty; upstream's fills in what is empty (client-daemon §7.1 no. 8)."""
    done = remote(*remote.run("end", "--test-param", "note=", "--wait"))
    assert (done.exit_code, len(done.log("note=none"))) == (0, 1)


def test_an_instance_that_says_nothing_has_failed(remote: Remote) -> None:
    done = remote(*remote.run("end", "--test-param", "how=nothing", "--wait"))
    assert done.exit_code == 1
    assert done.log("INCOMPLETE << single[000] >>")
    assert done.stdout.endswith("task of type run cancelled: 1 nodes failed\n")


def test_a_plan_on_sdk_go_runs_beside_upstreams_sync_service(remote: Remote) -> None:
    """The one test that needs port 5050: instances of upstream's local:exec look for the sync service there."""
    if reason := daemon.taken():
        pytest.skip(reason)
    (remote.cli.home / "plans" / "06-go-ping").symlink_to(REPOSITORY / "examples" / "06-go-ping")
    names = ("--plan", "06-go-ping", "--testcase", "ping", "--builder", "exec:go", "--runner", "local:exec")
    pinned = ("--dep", "github.com/testground/sdk-go=github.com/testground/sdk-go@v0.3.0")
    more = ("--instances", "2", "--disable-metrics", "--collect", "--collect-file", "ping")
    with daemon.sync_service():
        done = remote("run", "single", *names, *pinned, *more, deadline=BUILD_DEADLINE)
    assert done.exit_code == 0, done
    assert done.log("20 pings to 127.0.0.1")
    assert set(remote.cli.collected("ping").named("run.out")) == {"single/0", "single/1"}
