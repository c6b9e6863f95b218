"""Upstream's published client drives our daemon: the commands that ask and manage (client-daemon §6.2, §6.4).

Builds and runs are in `test_upstream_client_runs.py`, waiting and its ends in `test_upstream_client_waiting.py`.
"""

from __future__ import annotations

import re
import shutil
import tarfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.acceptance.processes import started
from tests.upstream import client, programs
from tests.upstream.client import GoClient

pytestmark = [
    pytest.mark.skipif(bool(programs.missing()), reason=programs.missing()),
    pytest.mark.timeout(programs.BUILD_DEADLINE),
]

UNKNOWN = "c0000000000000000000"
MOMENT = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ \+0000 UTC"


# -- plans, which are the client's own ------------------------------------------------------------------------------


def test_plans_are_imported_and_described_in_the_home_of_the_client(go: GoClient, home: Path) -> None:
    source = client.write_plan(go.directory / "elsewhere", client.MANIFEST.replace('"shell"', '"other"'))
    done = go("plan", "import", "--from", str(source), "--name", "imported")
    assert done.exit_code == 0
    assert (
        f"created symlink {go.home / 'plans' / 'imported'} -> {source}\nimported plans:\nimported ok\n" in done.stdout
    )
    assert (go.home / "plans" / "imported").readlink() == source
    assert not (home / "plans" / "imported").exists()
    assert sorted(go("plan", "list").stdout.splitlines()[-2:]) == ["imported", "shell"]
    described = go("describe", "--plan", "imported").stdout
    assert 'This test plan is called "other".' in described
    assert "It can be built with strategies: [exec:generic]." in described
    assert go.run("ok", "--wait", "--plan", "imported").exit_code == 0


# -- healthcheck ----------------------------------------------------------------------------------------------------


def test_a_healthcheck_reports_and_mends(go: GoClient, home: Path) -> None:
    shutil.rmtree(home / "data" / "outputs" / "local_exec", ignore_errors=True)
    check = ("healthcheck", "--runner", "local:exec")
    ends = []
    for arguments in (check, (*check, "--fix"), (*check, "--fix")):
        done = go(*arguments)
        assert done.exit_code == 0
        assert "\n>>> Server output:\n" in done.stdout
        lines = done.stdout.partition("\n>>> Result:\n")[2].strip().splitlines()
        machine = [line for line in lines if line.startswith(("- isolated-networks: ", "- link-accuracy: "))]
        assert len(machine) == 2
        ends.append([line for line in lines if line not in machine])
    title = "finished checking runner local:exec"
    missing = "- local-outputs-dir: failed; directory does not exist. can recreate."
    assert ends[0] == [title, "Checks:", missing, "Fixes:", "- local-outputs-dir: omitted;"]
    assert ends[1] == [title, "Checks:", missing, "Fixes:", "- local-outputs-dir: ok; directory created successfully."]
    assert ends[2][:3] == [title, "Checks:", "- local-outputs-dir: ok; directory exists."]
    assert ends[2][3:] == ["Fixes:", "- local-outputs-dir: unnecessary;"]


def test_the_healthcheck_of_an_unknown_runner_says_so(go: GoClient) -> None:
    done = go("healthcheck", "--runner", "local:docker")
    assert done.exit_code == 1
    assert "\n>>> Error:\n" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("healthcheck error; err: unknown runner: local:docker")


# -- status and tasks -----------------------------------------------------------------------------------------------


def test_the_status_of_a_run_tells_all_of_it(go: GoClient) -> None:
    (go.home / ".env.toml").write_text('[client]\nuser = "jo"\n')
    metadata = ("--metadata-repo", "a/b", "--metadata-branch", "trunk", "--metadata-commit", "c0ffee")
    [run_id] = go.run("ok", "--wait", *metadata, "--test-param", "word=<&>").run_ids
    status = go.status(run_id)
    assert [status[name] for name in ("ID", "Priority", "Type", "Status", "Outcome")] == [
        *(run_id, "1", "run", "complete", "success")
    ]
    assert re.fullmatch(MOMENT, status["Created"]) and re.fullmatch(MOMENT, status["Last update"])
    asked = status["Input"]
    assert asked["created_by"] == {"branch": "trunk", "commit": "c0ffee", "repo": "a/b", "user": "jo"}
    assert (asked["run_ids"], asked["build_groups"], asked["priority"]) == (["default"], [0], 1)
    assert asked["Sources"]["plan_dir"].endswith("/plan") and asked["Sources"]["extra_dir"] == ""
    assert asked["composition"]["groups"][0]["run"]["test_params"] == {"word": "<&>"}
    assert asked["manifest"]["TestCases"][0]["Parameters"]["times"]["Default"] == 3
    assert status["Result"]["outcome"] == "success"
    assert status["Result"]["outcomes"] == {"single": {"ok": 1, "total": 1}}


def test_the_result_of_a_build_is_a_list_and_of_a_broken_task_null(go: GoClient) -> None:
    done = go("build", "single", "--plan", "shell", "--builder", "exec:generic", "--wait")
    [task_id] = client.awk(done.stdout, "build queued with ID:", 9)
    assert go.status(task_id)["Result"] == client.awk(done.stdout, "generated build artifact", 8, '"')
    [task_id] = go.run("nowhere", "--wait").run_ids
    status = go.status(task_id)
    assert (status["Status"], status["Outcome"], status["Result"]) == ("canceled", "canceled", None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("status", "-t", UNKNOWN), "could not fetch status; err: task not found"),
        (("status", "-t", "bad"), "could not fetch status; err: task key must be a xid id"),
        (("logs", "-t", UNKNOWN), "error while getting task; err: task not found"),
        (("logs", "-f", "-t", UNKNOWN), "error while getting task; err: task not found"),
        (("logs", "-t", "../../x"), "error while getting task; err: task key must be a xid id"),
        (("collect", "--runner", "local:exec", UNKNOWN), "cannot collect outputs; err: task not found"),
    ],
)
def test_unknown_tasks_are_errors(go: GoClient, arguments: tuple[str, ...], message: str) -> None:
    """Upstream's daemon ends `/status` without a word (`EOF`), and `collect` with exit code 0 (§7.1 no. 16)."""
    done = go(*arguments)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1].startswith(message)
    assert "\n>>> Error:\n" in done.stdout


def test_tasks_are_listed_newest_first_with_their_times(go: GoClient) -> None:
    [first] = go.run("fail", "--wait").run_ids
    [second] = client.awk(
        go("build", "single", "--plan", "shell", "--builder", "exec:generic", "--wait").stdout, "queued with ID:", 9
    )
    [third] = go.run("nowhere", "--wait").run_ids
    done = go("tasks")
    assert done.exit_code == 0
    head, *table = done.stdout.partition("\n>>> Result:\n")[2].strip().splitlines()
    assert re.split(r" {3,}", head) == ["ID", "DATE", "TEST PLAN", "TEST CASE", "DURATION", "STATE", "TYPE"]
    rows = [re.split(r" {3,}", row) for row in table if row.startswith((first, second, third))]
    assert [row[0] for row in rows] == [third, second, first]
    for row in rows:
        assert re.fullmatch(MOMENT, row[1])
        age = datetime.now(UTC) - datetime.fromisoformat(row[1].removesuffix(" UTC").replace(" +", "+"))
        assert timedelta() < age < timedelta(minutes=5)
        assert re.fullmatch(r"\d+s", row[-3])
    assert rows[0][2:4] + rows[0][-2:] == ["shell", "nowhere", "canceled", "run"]
    assert rows[1][-2:] == ["complete", "build"]
    assert rows[2][2:4] + rows[2][-2:] == ["shell", "fail", "complete", "run"]


def test_a_daemon_without_tasks_lists_none(tmp_path: Path, home_of_its_own: Path) -> None:
    with started(home_of_its_own) as daemon:
        done = client.create(tmp_path, daemon.endpoint)("tasks")
    assert (done.exit_code, done.stdout.splitlines()[-1].split()[0]) == (0, "ID")


# -- logs and collect -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [(), ("--follow",)])
def test_the_logs_of_a_finished_run_are_what_the_waiting_client_saw(go: GoClient, more: tuple[str, ...]) -> None:
    waited = go.run("fail", "--wait")
    [run_id] = waited.run_ids
    done = go("logs", "--task", run_id, *more)
    assert done.exit_code == 0
    output = done.stdout.partition("\n>>> Server output:\n")[2].partition("\n>>> Result:\n")[0]
    assert output.strip() and output.strip() in waited.stdout
    assert re.findall(r"run finished with outcome (= )?([a-z0-9-]+)", output) == [("= ", "failure")]
    assert f"ID:\t\t{run_id}\n" in done.stdout and "Outcome:\tfailure\n" in done.stdout


def test_collect_writes_an_archive_as_upstreams_extractor_needs_it(go: GoClient) -> None:
    [run_id] = go.run("ok", "--wait", "--instances", "2").run_ids
    done = go("collect", "--runner", "local:exec", run_id)
    assert (done.exit_code, done.log(f"created file: {run_id}.tgz") != []) == (0, True)
    assert go("collect", "--runner", "local:exec", "-o", "named.tgz", run_id).exit_code == 0
    for name in (f"{run_id}.tgz", "named.tgz"):
        with tarfile.open(go.directory / name, "r:gz") as tar:
            members = tar.getmembers()
        assert all(member.isdir() or member.isreg() for member in members)
        names = [member.name for member in members]
        assert names == [
            f"{run_id}/.",
            f"{run_id}/single",
            *(f"{run_id}/single/{path}" for path in ("0", "0/run.err", "0/run.out", "1", "1/run.err", "1/run.out")),
        ]
        sizes = {member.name.rpartition("/")[2]: member.size for member in members if member.isreg()}
        assert sizes["run.out"] > 0
        assert sizes["run.err"] == 0


def test_the_outputs_of_a_build_and_those_that_are_gone_cannot_be_collected(go: GoClient, home: Path) -> None:
    [run_id] = go.run("ok", "--wait").run_ids
    build = go("build", "single", "--plan", "shell", "--builder", "exec:generic", "--wait").stdout
    [build_id] = client.awk(build, "queued with ID:", 9)
    shutil.rmtree(home / "data" / "outputs" / "local_exec" / "shell" / run_id)
    for task_id in (run_id, build_id):
        done = go("collect", "--runner", "local:exec", task_id)
        assert done.exit_code == 1
        assert done.stdout.splitlines()[-1].startswith("cannot collect outputs; err: ")
        assert task_id in done.stdout.splitlines()[-1]


# -- terminate and purge --------------------------------------------------------------------------------------------


def test_terminate_ends_the_run_that_a_client_waits_for(go: GoClient) -> None:
    with go.start(*client.single("hang"), "--wait") as waiting:
        waiting.read_until("hanging")
        done = go("terminate", "--runner", "local:exec")
        ended = waiting.finish()
    assert done.exit_code == 0
    assert done.log("terminating all jobs on component: local:exec")
    assert done.log("all jobs terminated on component: local:exec")
    [run_id] = ended.run_ids
    assert (ended.exit_code, ended.stderr) == (1, 'run "default" failed\n')
    assert ended.log(f"result default[{run_id}]: canceled")
    assert go.status(run_id)["Outcome"] == "canceled"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("terminate", "--builder", "exec:go"), "terminate error; err: component exec:go is not terminatable"),
        (("terminate", "--runner", "x"), "terminate error; err: unknown component: x (type: runner)"),
        (("terminate", "--builder", "x"), "terminate error; err: unknown component: x (type: builder)"),
        (("build", "purge", "--builder", "zz", "--plan", "p"), "build purge error; err: unrecognized builder: zz"),
    ],
)
def test_what_cannot_be_terminated_or_purged_is_named(go: GoClient, arguments: tuple[str, ...], message: str) -> None:
    done = go(*arguments)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1].startswith(message)


def test_purge_makes_the_next_build_a_new_one(go: GoClient) -> None:
    build = ("build", "single", "--plan", "shell", "--builder", "exec:generic", "--wait")
    assert go(*build).exit_code == 0
    assert go(*build).log("build skipped: nothing has changed")
    done = go("build", "purge", "--builder", "exec:generic", "--plan", "shell")
    assert done.exit_code == 0
    assert done.stdout.splitlines()[-1] == "finished purging testplan shell for builder exec:generic"
    assert go(*build).log("build succeeded")


# -- tokens ---------------------------------------------------------------------------------------------------------


def test_only_a_configured_token_is_let_in(tmp_path: Path, home_of_its_own: Path) -> None:
    with started(home_of_its_own, 'tokens = ["first", " second "]') as daemon:
        go = client.create(tmp_path, daemon.endpoint)
        results = {}
        for token in ("", "third", "Bearer first", " first ", "second"):
            (go.home / ".env.toml").write_text(f'[client]\ntoken = "{token}"\n')
            done = go("tasks")
            results[token] = (done.exit_code, "403 Forbidden" in done.stdout)
        (go.home / ".env.toml").unlink()
        refused = go.run("ok", "--wait")
    no, yes = (1, True), (0, False)
    assert results == {"": no, "third": no, "Bearer first": no, " first ": yes, "second": yes}
    assert refused.exit_code == 1
    assert refused.stdout.splitlines()[-1] == "unexpected status code received: 403 Forbidden"


@pytest.fixture
def home_of_its_own(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path
