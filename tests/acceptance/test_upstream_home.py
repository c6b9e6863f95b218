"""A home that upstream's daemon has used is taken over as it is: its configuration, its plans, beside its old data."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance import processes
from tests.acceptance.processes import Running
from tests.upstream import client, daemon, programs
from tests.upstream.client import GoClient

pytestmark = [
    pytest.mark.skipif(bool(programs.missing()), reason=programs.missing()),
    pytest.mark.timeout(programs.BUILD_DEADLINE),
]

SETTINGS = """
[daemon.scheduler]
task_timeout_min = 5
task_repo_type = "disk"
workers = 1

[aws]
region = "nowhere"

[dockerhub]
repo = "some/repo"
username = "me"

[runners."cluster:k8s"]
run_timeout_min = 1
testplan_pod_cpu = "10m"
autoscaler_enabled = false
sysctls = []

[runners."local:docker"]
ulimits = ["nofile=1048576:1048576"]

[builders."docker:go"]
go_proxy_mode = "direct"
"""


@contextlib.contextmanager
def ours(home: Path) -> Iterator[GoClient]:
    """Our daemon in a home, listening as upstream's examples tell it to: on any address. The client finds it by the
    configuration that both read."""
    listen = '[daemon]\nlisten = ":0"\nsync_listen = "127.0.0.1:0"\n'
    (home / ".env.toml").write_text(listen + SETTINGS)
    with Running(home, home, "daemon") as running:
        running.read_until("daemon listening")
        endpoint = processes.endpoint(home)
        (home / ".env.toml").write_text(f'{listen}{SETTINGS}\n[client]\nendpoint = "{endpoint}"\nuser = "me"\n')
        yield GoClient(home, home.parent / "work", "")
        running.process.terminate()
        assert running.finish().exit_code == 0


def test_a_home_is_taken_over(tmp_path: Path) -> None:
    home = client.create(tmp_path, "").home
    manifest = client.MANIFEST.replace("[runners.", '[builders."exec:go"]\nenabled = true\n[runners.')
    (home / "plans" / "shell" / "manifest.toml").write_text(manifest)
    artifact = str(home / "plans" / "shell" / "run.sh")
    again = ("--builder", "exec:go", "--use-build", artifact, "--wait", "--collect")
    with daemon.started(home, SETTINGS) as endpoint:
        before = GoClient(home, tmp_path / "work", endpoint).run("ok", *again)
    assert before.exit_code == 0
    assert (home / "tasks.db").is_dir()
    with ours(home) as go:
        assert go("plan", "list").stdout.splitlines()[-1] == "shell"
        after = go.run("ok", *again)
        assert after.exit_code == 0
        assert after.log("run finished with outcome = success")
        listed = go("tasks").stdout
        assert after.run_ids[0] in listed and before.run_ids[0] not in listed  # its tasks are in a format of its own
        assert go.status(after.run_ids[0])["Input"]["created_by"] == {"user": "me"}
    assert {path.stem for path in go.directory.glob("*.tgz")} == {*before.run_ids, *after.run_ids}
