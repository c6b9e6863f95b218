"""Our command line drives upstream's daemon: what asks and manages, and how things fail (client-daemon §1.4, §7.4).

The daemon is the published Go module, v0.6.0, without a Docker engine; where it needs one, the test's name says so.
"""

from __future__ import annotations

import signal
import tarfile
from pathlib import Path

import pytest

from tests.acceptance.conftest import CommandLine
from tests.upstream import daemon, programs
from tests.upstream.remote import MANIFEST, Remote, home_with_events, write_plan

pytestmark = [
    pytest.mark.skipif(bool(programs.missing()), reason=programs.missing()),
    pytest.mark.timeout(programs.BUILD_DEADLINE),
]

UNKNOWN = "c0000000000000000000"
NO_DOCKER = "Cannot connect to the Docker daemon at unix://"


# -- asking and managing --------------------------------------------------------------------------------------------


def test_a_run_that_nobody_waits_for_is_looked_after_by_its_id(remote: Remote) -> None:
    queued = remote(*remote.run("end", "--test-param", "note=later"))
    assert queued.exit_code == 0
    [run_id] = queued.run_ids
    followed = remote("logs", "--task", run_id, "--follow")
    assert (followed.exit_code, len(followed.log("OK << single[000] >>"))) == (0, 1)
    assert followed.stdout.splitlines()[-7:-1] == [
        f"ID:\t\t{run_id}",
        "Priority:\t0",
        *[line for line in followed.stdout.splitlines() if line.startswith("Created:\t20")],
        "Type:\t\trun",
        "Status:\t\tcomplete",
        "Outcome:\tsuccess",
    ]
    again = remote("logs", "--task", run_id)
    assert again.stdout == followed.stdout
    row = [line.split() for line in remote("tasks").stdout.splitlines() if line.startswith(run_id)]
    assert [(columns[2:4], columns[5:]) for columns in row] == [(["events", "end"], ["complete", "run"])]
    [group] = remote.request(run_id)["composition"]["runs"][0]["groups"]
    assert group["test_params"]["note"] == "later"
    collected = remote("collect", run_id, "--runner", "local:exec", "--output", "kept.tgz")
    assert (collected.exit_code, len(collected.log("created file: kept.tgz"))) == (0, 1)
    assert remote.cli.collected("kept").files == {"single/0/note.txt": "written by single"}
    with tarfile.open(remote.cli.directory / "kept.tgz") as tar:
        assert tar.getnames()[0] == f"{run_id}/.", "as upstream names the directory of a run"


def test_a_healthcheck_aborts_where_upstream_needs_docker(remote: Remote) -> None:
    done = remote("healthcheck", "--runner", "local:exec", "--fix")
    assert done.exit_code == 1, "aborted checks leave something broken"
    names = ("control-network", "local-grafana", "local-redis", "local-sync-service", "local-influxdb")
    for name in names:
        [check] = done.log(f"- {name}: aborted; ")
        assert NO_DOCKER in check
        assert done.log(f"- {name}: omitted; ")
    assert len(done.log("- local-outputs-dir: ")) == 2
    unknown = remote("healthcheck", "--runner", "local:nothing")
    assert (unknown.exit_code, unknown.stdout.splitlines()[-1]) == (
        1,
        "healthcheck error; err: unknown runner: local:nothing",
    )


@pytest.mark.parametrize("component", [("--runner", "local:exec"), ("--builder", "docker:go")])
def test_terminate_fails_as_upstream_needs_docker(remote: Remote, component: tuple[str, str]) -> None:
    """Upstream ends containers only, not even the instances of local:exec."""
    done = remote("terminate", *component)
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1].startswith("terminate error; err: ")
    assert NO_DOCKER in done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("builder", "message"),
    [
        ("exec:go", "purge not implemented for exec:go"),
        ("exec:python", "unrecognized builder: exec:python"),
    ],
)
def test_build_purge_fails_as_upstream_purges_docker_images_only(remote: Remote, builder: str, message: str) -> None:
    done = remote("build", "purge", "--builder", builder, "--plan", "events")
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (1, f"build purge error; err: {message}")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("status", "--task", UNKNOWN), "task not found"),
        (("status", "--task", "nonsense"), "task key must be a xid id"),
        (("logs", "--task", UNKNOWN), "error while getting task; err: error while os.Open"),
        (("logs", "--task", UNKNOWN, "--follow"), "error while e.Status, err: task not found"),
        (("collect", UNKNOWN, "--runner", "local:exec"), f"run {UNKNOWN} has no outputs"),
    ],
)
def test_an_unknown_id_is_an_error(remote: Remote, command: tuple[str, ...], message: str) -> None:
    done = remote(*command)
    assert (done.exit_code, bool(done.log(message))) == (1, True), done
    assert "Traceback" not in done.stdout + done.stderr
    assert list(remote.cli.directory.glob("*.tgz")) == []


def test_status_of_an_unknown_id_names_the_daemon_that_broke_off(remote: Remote) -> None:
    """Upstream ends this answer without a result or an error (client-daemon §1.4)."""
    done = remote("status", "--task", UNKNOWN)
    assert done.stdout.splitlines()[-1] == f"EOF: the daemon at {remote.endpoint} ended its answer without a result"


def test_only_the_right_token_is_served(remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "upstream").mkdir()
    with daemon.started(tmp_path / "upstream", 'tokens = ["secret"]') as endpoint:
        for token, exit_code, said in (
            ("", 1, "unexpected status code received: 403 Forbidden"),
            ("guessed", 1, "unexpected status code received: 403 Forbidden"),
            ("secret", 0, "ID   DATE"),
        ):
            home = home_with_events(tmp_path / f"home-{token}", f'[client]\ntoken = "{token}"\n')
            done = Remote(CommandLine(home, tmp_path), endpoint, remote.artifact)("tasks")
            assert (done.exit_code, bool(done.log(said))) == (exit_code, True), done
            assert ("set client.token" in done.stderr) == bool(exit_code)


# -- failures -------------------------------------------------------------------------------------------------------


def test_a_broken_build_shows_what_the_compiler_said(remote: Remote) -> None:
    write_plan(remote, "broken", **{"main.go": "package main\n\nfunc main() { nothing() }\n"})
    done = remote("build", "single", "--plan", "broken", "--builder", "exec:go", "--wait")
    assert done.exit_code == 1
    assert done.log("main.go:3:15: undefined: nothing")
    assert done.stdout.endswith("\ntask of type build cancelled: failed to run the build; exit status 1\n")


@pytest.mark.parametrize(
    ("command", "builder", "runner", "message"),
    [
        ("run", "exec:python", "local:exec", "runner local:exec is incompatible with builder exec:python"),
        ("run", "exec:go", "local:nowhere", "unknown runner: local:nowhere"),
        ("build", "exec:python", "", "task of type build cancelled: unrecognized builder: exec:python"),
        (
            "build",
            "exec:nothing",
            "",
            "plan does not support builder 'exec:nothing'; supported: [exec:go, exec:python]",
        ),
    ],
)
def test_what_upstream_does_not_know_is_named(
    remote: Remote, command: str, builder: str, runner: str, message: str
) -> None:
    more = ("--testcase", "end", "--instances", "1", "--runner", runner) if runner else ()
    done = remote(command, "single", "--plan", "events", "--builder", builder, *more, "--wait")
    assert done.exit_code == 1
    assert message in done.stdout.splitlines()[-1]
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("case", "instances", "message"),
    [
        ("end", "11", "total instance count (11) outside of allowable range [1, 10] for test case end"),
        ("start", "1", "test case start not found in plan events"),
    ],
)
def test_what_the_manifest_does_not_allow_is_refused(remote: Remote, case: str, instances: str, message: str) -> None:
    done = remote(*remote.run(case, "--instances", instances, "--wait"))
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1].endswith(message)


def test_a_whole_number_as_an_option_is_explained(remote: Remote) -> None:
    """Upstream reads numbers off JSON as floats and refuses them as integers (client-daemon §7.1 no. 3).

    Without Docker none of its builders and runners takes a number; this run fails before it needs an engine.
    """
    manifest = MANIFEST.format(name="numbers").replace("exec:go", "docker:go").replace("local:exec", "local:docker")
    write_plan(remote, "numbers", **{"manifest.toml": manifest})
    names = ("--plan", "numbers", "--testcase", "end", "--builder", "docker:go", "--runner", "local:docker")
    option = ("--run-cfg", "outcomes_collection_timeout=5")
    done = remote("run", "single", *names, "--instances", "1", "--use-build", "image", *option, "--wait")
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1].endswith("cannot load TOML value of type float64 into a Go integer")
    assert "whole numbers as options" in done.stderr


def test_a_repository_on_which_upstream_would_crash_is_refused(remote: Remote, tmp_path: Path) -> None:
    """A daemon that reports to GitHub ends on a repository without a slash, whoever else it serves (§7.1 no. 1)."""
    (tmp_path / "upstream").mkdir()
    with daemon.running(tmp_path / "upstream", 'github_repo_status_token = "unused"') as reporting:
        alone = Remote(remote.cli, reporting.endpoint, remote.artifact)
        names = ("--metadata-repo", "name", "--metadata-branch", "main", "--metadata-commit", "abc")
        done = alone(*alone.run("end", *names))
        assert (done.exit_code, alone("tasks").exit_code) == (1, 0)
        assert done.log("--metadata-repo name: write OWNER/NAME; the Go daemon may crash on anything else")


def test_a_client_that_is_interrupted_takes_its_run_along(remote: Remote) -> None:
    """Upstream notices when the run logs its next line (client-daemon §7.1 no. 12), and it has no /cancel."""
    with remote.start(*remote.run("tick", "--wait")) as running:
        running.read_until("tick 3")
        running.process.send_signal(signal.SIGINT)
        done = running.finish()
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (1, "interrupted by SIGINT")
    [run_id] = done.run_ids
    note = f"interrupted: the daemon cancels task {run_id} when that logs its next line"
    assert done.stderr.splitlines() == [note]
    followed = remote("logs", "--task", run_id, "--follow")
    assert followed.log("Status:\t\tcanceled")
    assert not followed.log("tick 400")


def test_who_only_looks_at_the_log_leaves_the_run_alone(remote: Remote) -> None:
    [run_id] = remote(*remote.run("tick")).run_ids
    with remote.start("logs", "--task", run_id, "--follow") as running:
        running.read_until("tick 3")
        running.process.send_signal(signal.SIGINT)
        assert running.finish().exit_code == 1
    with remote.start("logs", "--task", run_id, "--follow") as running:
        running.read_until("tick 40")
    assert remote.state(run_id)["Status"] == "processing"


def test_a_daemon_that_dies_in_the_middle_of_an_answer_is_an_error(remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "upstream").mkdir()
    with daemon.running(tmp_path / "upstream") as dying:
        alone = Remote(remote.cli, dying.endpoint, remote.artifact)
        with alone.start(*alone.run("tick", "--wait", "--collect")) as running:
            running.read_until("tick 3")
            dying.process.kill()
            done = running.finish()
    assert done.exit_code == 1
    gone = f"unexpected EOF: the daemon at {dying.endpoint} went away in the middle of its answer; was it killed?"
    assert done.stdout.splitlines()[-1] == gone
    assert list(tmp_path.glob("*.tgz")) == []
