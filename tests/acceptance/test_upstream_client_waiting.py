"""Upstream's published client waits: interrupts, the queue, the end of our daemon (client-daemon §5, §8.8)."""

from __future__ import annotations

import contextlib
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.processes import started
from tests.upstream import client, programs
from tests.upstream.client import GoClient

pytestmark = [
    pytest.mark.skipif(bool(programs.missing()), reason=programs.missing()),
    pytest.mark.timeout(programs.BUILD_DEADLINE),
]

NARROW = "[daemon.scheduler]\nworkers = 1\nqueue_size = 2\n"
BUILD = ("build", "single", "--plan", "shell", "--builder", "exec:generic")
BRANCH = ("--metadata-repo", "some/repo", "--metadata-branch", "trunk")


@pytest.fixture(scope="module")
def narrow_endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A daemon with one worker and room for two that wait."""
    with started(tmp_path_factory.mktemp("narrow"), NARROW) as daemon:
        yield daemon.endpoint


@pytest.fixture
def narrow(narrow_endpoint: str, tmp_path: Path) -> GoClient:
    return client.create(tmp_path, narrow_endpoint)


@contextlib.contextmanager
def busy(go: GoClient) -> Iterator[None]:
    """The only worker has a run for as long as this lasts."""
    with go.start(*client.single("hang"), "--wait") as running:
        running.read_until("hanging")
        yield
        running.process.send_signal(signal.SIGINT)
        running.finish()


def ended(go: GoClient, task_id: str) -> dict[str, str]:
    """The fields of a task, when it has come to its end."""
    done = go("logs", "--task", task_id, "--follow")
    return dict(re.findall(r"^([A-Z][A-Za-z ]+):\t+(.*)$", done.stdout, re.MULTILINE))


# -- the client goes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_ends_with_the_client_that_waits_for_it(go: GoClient, number: signal.Signals) -> None:
    """The instance says nothing; upstream notices only when it does (§7.1 no. 12)."""
    with go.start(*client.single("quiet"), "--wait", "--collect") as running:
        running.read_until("starting run")
        running.process.send_signal(number)
        done = running.finish()
    [run_id] = done.run_ids
    assert ended(go, run_id)["Outcome"] == "canceled"
    assert go("logs", "--task", run_id).log("the client that waited for it went away")
    assert not list(go.directory.iterdir())
    if number != signal.SIGKILL:
        assert (done.exit_code, done.stdout.splitlines()[-1]) == (1, "context canceled")


def test_an_interrupted_build_is_canceled(go: GoClient) -> None:
    build = 'build = ["sh", "-c", "echo compiling; exec sleep 1000"]\nartifact = "run.sh"'
    (go.home / "plans" / "shell" / "manifest.toml").write_text(client.MANIFEST.replace('artifact = "run.sh"', build))
    with go.start(*BUILD, "--wait") as running:
        running.read_until("compiling")
        running.process.send_signal(signal.SIGINT)
        done = running.finish()
    assert done.exit_code == 1
    [task_id] = client.awk(done.stdout, "build queued with ID: ", 9)
    assert ended(go, task_id)["Outcome"] == "canceled"


def test_the_runs_after_an_interrupted_one_are_not_sent(go: GoClient) -> None:
    go.write(
        "c.toml",
        '[global]\nplan = "shell"\ncase = "hang"\nbuilder = "exec:generic"\nrunner = "local:exec"\n'
        '[[groups]]\nid = "a"\ninstances = { count = 1 }\n'
        '[[runs]]\nid = "one"\ngroups = [{ id = "a" }]\n[[runs]]\nid = "two"\ngroups = [{ id = "a" }]\n',
    )
    with go.start("run", "composition", "-f", "c.toml", "--result-file", "r.csv") as running:
        running.read_until("hanging")
        running.process.send_signal(signal.SIGINT)
        done = running.finish()
    assert (done.exit_code, len(done.run_ids)) == (1, 1)
    assert go.read("r.csv") == "run_id,task_id,outcome,error\none,N/A,canceled,canceled\ntwo,N/A,canceled,canceled\n"
    assert ended(go, done.run_ids[0])["Outcome"] == "canceled"


def test_a_run_goes_on_without_a_client_that_only_looks(go: GoClient) -> None:
    [run_id] = go.run("hang").run_ids
    with go.start("logs", "--task", run_id, "--follow") as running:
        running.read_until("hanging")
        running.process.send_signal(signal.SIGINT)
        assert running.finish().exit_code == 1
    looked = go("logs", "--task", run_id)
    assert looked.exit_code == 0
    assert looked.log("OTHER << single[000] >> hanging")
    assert "Status:\t\tprocessing\nOutcome:\tunknown\n" in looked.stdout
    assert go("terminate", "--runner", "local:exec").exit_code == 0
    assert ended(go, run_id)["Outcome"] == "canceled"


# -- the queue ------------------------------------------------------------------------------------------------------


def test_a_full_queue_refuses_and_a_newer_run_replaces_an_older_one(narrow: GoClient) -> None:
    """Q1. Upstream answers who waits for the replaced run with an error too, but about a missing file."""
    with busy(narrow), narrow.start(*client.single("ok"), *BRANCH, "--wait") as replaced:
        replaced.read_until("waiting for a free worker")
        with narrow.start(*client.single("ok"), "--wait") as urgent:
            urgent.read_until("waiting for a free worker")
            refused = narrow.run("ok")
            refused_build = narrow(*BUILD)
            [newer] = narrow.run("ok", *BRANCH).run_ids
            old = replaced.finish()
            [old_id] = old.run_ids
            rows = [row.split() for row in narrow("tasks").stdout.splitlines() if row.startswith((newer, old_id))]
            with narrow.start("logs", "--task", newer, "--follow") as follower:
                follower.read_until("waiting for a free worker")
                looked = narrow("logs", "--task", newer)
                assert narrow("terminate", "--runner", "local:exec").exit_code == 0
                done, followed = urgent.finish(), follower.finish()
    for answer, kind in ((refused, "run"), (refused_build, "build")):
        assert answer.exit_code == 1
        assert answer.stdout.splitlines()[-1].startswith(f"engine {kind} error: queue full")
    assert old.exit_code == 1
    assert old.log("run canceled: a newer run of the same branch took its place in the queue")
    assert old.stdout.splitlines()[-1].startswith("task of type run cancelled: a newer run")
    assert old.log("result default[N/A]: canceled")
    assert narrow.status(old_id)["Outcome"] == "canceled"
    assert [(row[0], row[-2]) for row in rows] == [(newer, "scheduled"), (old_id, "canceled")]
    assert looked.exit_code == 0
    assert "Status:\t\tscheduled\nOutcome:\tunknown\n" in looked.stdout
    assert (done.exit_code, followed.exit_code) == (0, 0)
    assert followed.log("run finished with outcome = success")
    assert narrow.status(done.run_ids[0])["Last update"] < narrow.status(newer)["Last update"]


def test_a_waiting_run_leaves_the_queue_with_its_client(narrow: GoClient) -> None:
    with busy(narrow), narrow.start(*client.single("ok"), "--wait") as queued:
        queued.read_until("waiting for a free worker")
        [run_id] = [row.split()[0] for row in narrow("tasks").stdout.splitlines() if " scheduled " in row]
        with narrow.start("logs", "--task", run_id, "--follow") as follower:
            follower.read_until("waiting for a free worker")
            queued.process.send_signal(signal.SIGINT)
            done, followed = queued.finish(), follower.finish()
    assert (done.exit_code, done.run_ids) == (1, [run_id])
    assert followed.exit_code == 0
    assert "Status:\t\tcanceled\nOutcome:\tcanceled\n" in followed.stdout


def test_two_clients_run_at_once(go: GoClient) -> None:
    with go.start(*client.single("hang"), "--wait") as first:
        first.read_until("hanging")
        other = go.run("ok", "--wait", "--collect")
        assert other.exit_code == 0
        assert first.process.poll() is None
        first.process.send_signal(signal.SIGINT)
        assert ended(go, first.finish().run_ids[0])["Outcome"] == "canceled"


def test_a_client_that_does_not_read_holds_nobody_up(go: GoClient) -> None:
    """Its output, 32 MB on the wire, is more than all buffers on the way hold."""
    arguments = client.single("flood", instances=3)
    with go.start(*arguments, "--wait", "--collect", "--collect-file", "flood") as first:
        first.read_until("starting run")
        first.process.send_signal(signal.SIGSTOP)
        [run_id, *_] = [row.split()[0] for row in go("tasks").stdout.splitlines() if " flood " in row]
        assert ended(go, run_id)["Outcome"] == "success"
        assert first.process.poll() is None
        first.process.send_signal(signal.SIGCONT)
        done = first.finish()
    assert done.exit_code == 0
    assert done.log("run finished with outcome = success")
    assert (go.directory / "flood.tgz").is_file()


# -- the daemon goes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "message"), [(signal.SIGTERM, "the daemon is shutting down"), (signal.SIGKILL, "unexpected EOF")]
)
def test_a_client_learns_that_the_daemon_has_gone(tmp_path: Path, number: signal.Signals, message: str) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with started(home) as daemon:
        go = client.create(tmp_path, daemon.endpoint)
        with go.start(*client.single("hang"), "--collect") as running:
            running.read_until("hanging")
            daemon.process.send_signal(number)
            done = running.finish()
    assert (done.exit_code, done.stdout.splitlines()[-1]) == (1, message)
    assert done.log("result default[N/A]: canceled")
    refused = go("tasks")
    assert refused.exit_code == 1
    assert refused.stdout.splitlines()[-1].endswith("connection refused")
    with started(home) as daemon:
        again = GoClient(go.home, go.directory, daemon.endpoint)
        status = again.status(done.run_ids[0])
        assert (status["Status"], status["Outcome"], status["Result"]) == ("canceled", "canceled", None)
        assert again.run("ok", "--wait").exit_code == 0


# -- time -----------------------------------------------------------------------------------------------------------


def test_a_run_that_takes_too_long_fails_the_client(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with started(home, "[daemon.scheduler]\ntask_timeout_min = 0.1\n") as daemon:
        go = client.create(tmp_path, daemon.endpoint)
        with go.start(*client.single("hang"), "--wait", "--collect", "--collect-file", "late") as running:
            running.read_until("hanging")
            running.read_until("run canceled after reaching the task timeout")
            done = running.finish()
        status = go.status(done.run_ids[0])
    assert (done.exit_code, done.stderr) == (1, 'run "default" failed\n')
    assert re.findall(r"run finished with outcome (= )?([a-z0-9-]+)", done.stdout) == [("= ", "failure")]
    assert (status["Status"], status["Outcome"]) == ("complete", "failure")
    assert (go.directory / "late.tgz").is_file()
