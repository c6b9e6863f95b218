"""Who a task was created by: from the flags and the configuration to the stored task and its status (§5.1, §6.2)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import CommandLine, command_line
from tests.acceptance.processes import start, started

METADATA = ("--metadata-repo", "owner/name", "--metadata-branch=main", "--metadata-commit", "0123456")
ALL = {"user": "me", "repo": "owner/name", "branch": "main", "commit": "0123456"}
SUCCESS = """echo '{"event":{"success_event":{"group":"'"$TEST_GROUP_ID"'"}}}'"""
SINGLE = ("run", "single", "-p", "tiny", "-b", "exec:generic", "-r", "local:exec", "-i", "1")
MANIFEST = """
name = "tiny"
[builders."exec:generic"]
[runners."local:exec"]
[[testcases]]
name = "ok"
instances = { min = 1, max = 2 }
[[testcases]]
name = "hold"
instances = { min = 1, max = 2 }
"""
PLAN = f"""#!/bin/sh
[ "$TEST_CASE" = ok ] || exec sleep 600
{SUCCESS}
"""
COMPOSITION = """
[global]
plan = "tiny"
case = "ok"
builder = "exec:generic"
runner = "local:exec"
[[groups]]
id = "g"
instances = { count = 1 }
[[runs]]
id = "a"
groups = [{ id = "g" }]
[[runs]]
id = "b"
groups = [{ id = "g" }]
"""


@pytest.fixture
def one(tmp_path: Path) -> Iterator[CommandLine]:
    """Commands of a user, beside a daemon with one worker."""
    home, directory = tmp_path / "home", tmp_path / "here"
    plan = home / "plans" / "tiny"
    plan.mkdir(parents=True)
    directory.mkdir()
    (plan / "manifest.toml").write_text(MANIFEST)
    (plan / "run").write_text(PLAN)
    with started(home, "scheduler = { workers = 1 }") as daemon:
        daemon.configure('[client]\nuser = "me"\n')
        yield command_line(home, directory)


def task(one: CommandLine, task_id: str) -> dict[str, Any]:
    """The input that `status --extended` shows, as the daemon has stored it."""
    shown = one("status", "--task", task_id, "--extended")
    assert shown.exit_code == 0, shown.stdout
    text = shown.stdout.partition("\nInput:\n")[2].partition("\n\nResult:\n")[0]
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_single_run(one: CommandLine) -> None:
    run = one(*SINGLE, "-t", "ok", "--wait", *METADATA)
    assert run.exit_code == 0, run.stdout
    assert task(one, run.run_ids[0])["created_by"] == ALL


def test_each_run_of_a_composition(one: CommandLine) -> None:
    (one.directory / "c.toml").write_text(COMPOSITION)
    run = one("run", "composition", "-f", "c.toml", *METADATA)
    assert run.exit_code == 0, run.stdout
    assert len(run.run_ids) == 2
    assert [task(one, task_id)["created_by"] for task_id in run.run_ids] == [ALL, ALL]


def test_what_is_not_given_is_left_out(one: CommandLine) -> None:
    run = one(*SINGLE, "-t", "ok", "--wait", "--metadata-branch", "main")
    assert run.exit_code == 0, run.stdout
    assert task(one, run.run_ids[0])["created_by"] == {"user": "me", "branch": "main"}


def test_a_waiting_command_is_told_that_a_newer_run_took_its_place(one: CommandLine) -> None:
    one(*SINGLE, "-t", "hold")
    waits = start(one, *SINGLE, "-t", "ok", "--wait", *METADATA)
    waits.read_until("waiting for a free worker")
    [newer] = one(*SINGLE, "-t", "ok", *METADATA).run_ids
    ended = waits.finish()
    assert ended.exit_code == 1
    [line] = ended.log("WARN\trun canceled: a newer run of the same branch took its place in the queue")
    assert newer in line
    one("terminate", "--runner", "local:exec")
    end = one("logs", "--task", newer, "--follow")
    assert "Outcome:\tsuccess" in end.stdout
