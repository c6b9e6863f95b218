"""The command as its users start it: a process, a real daemon, a terminal, signals."""

import csv
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTGROUND = [sys.executable, "-c", "from testground.cli.app import main; main()"]
DEADLINE = 50

MANIFEST = """
name = "shell"
[builders."exec:generic"]
artifact = "run.sh"
[runners."local:exec"]
[[testcases]]
name = "ok"
instances = { min = 1, max = 50 }
[[testcases]]
name = "fail"
instances = { min = 1, max = 50 }
[[testcases]]
name = "hang"
instances = { min = 1, max = 50 }
[[testcases]]
name = "stubborn"
instances = { min = 1, max = 50 }
"""

RUN = """#!/bin/sh
echo "case $TEST_CASE"
case "$TEST_CASE" in
    fail) echo "it rained" >&2; exit 3;;
    hang) exec sleep 1000;;
    stubborn) trap "" TERM INT; while :; do sleep 1; done;;
esac
echo '{"event":{"success_event":{"group":"'"$TEST_GROUP_ID"'"}}}'
"""

COMPOSITION = """
[global]
plan = "shell"
case = "ok"
builder = "exec:generic"
runner = "local:exec"
[[groups]]
id = "a"
instances = { count = 1 }
[[groups]]
id = "b"
instances = { count = 2 }
[[runs]]
id = "second"
[[runs.groups]]
id = "a"
[[runs]]
id = "first"
[[runs.groups]]
id = "a"
[[runs.groups]]
id = "b"
"""


def single(case: str, *more: str, instances: int = 2) -> list[str]:
    names = ["-p", "shell", "-t", case, "-b", "exec:generic", "-r", "local:exec", "-i", str(instances)]
    return ["run", "single", *names, *more]


class Home:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.work = root / "work"
        self.work.mkdir(parents=True)
        plan = root / "plans" / "shell"
        plan.mkdir(parents=True)
        (plan / "manifest.toml").write_text(MANIFEST)
        (plan / "run.sh").write_text(RUN)
        (plan / "run.sh").chmod(0o755)
        (root / ".env.toml").write_text('[daemon]\nlisten = "127.0.0.1:0"\nsync_listen = "127.0.0.1:0"\n')
        self.environment = {**os.environ, "TESTGROUND_HOME": str(root)}
        self.environment.pop("LOG_LEVEL", None)

    def start(self, *argv: str, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*TESTGROUND, *argv],
            cwd=self.work,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*argv)
        try:
            out, err = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
            process.communicate()
        return subprocess.CompletedProcess(argv, process.returncode, out, err)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def served(home: Home) -> Iterator[Home]:
    """A home with a daemon, on a port that only the lock of the home tells."""
    daemon = home.start("daemon")
    try:
        read_until(daemon, "daemon listening")
        yield home
    finally:
        daemon.terminate()
        _, err = daemon.communicate(timeout=DEADLINE)
    assert (daemon.returncode, err) == (0, "")


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Lines of standard output up to one that has `text`."""
    assert process.stdout is not None
    seen, deadline = "", time.monotonic() + DEADLINE
    while text not in seen:
        ready, _, _ = select.select([process.stdout], [], [], deadline - time.monotonic())
        data = os.read(process.stdout.fileno(), 1 << 16).decode() if ready else ""
        assert data, f"waited for {text!r} in {seen!r}"
        seen += data
    return seen


def queued(text: str) -> str:
    found = re.search(r"queued with ID: (\w{20})", text)
    assert found, text
    return found.group(1)


def status(home: Home, task_id: str) -> dict[str, str]:
    out = home.run("status", "--task", task_id).stdout
    return {name: value.strip() for name, _, value in (line.partition(":") for line in out.splitlines())}


def test_a_run_from_the_queue_to_the_archive(served: Home) -> None:
    done = served.run(*single("ok", "--collect"))
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"run finished with outcome (= )?success", done.stdout)
    task_id = queued(done.stdout)
    with tarfile.open(served.work / f"{task_id}.tgz") as archive:
        names = set(archive.getnames())
        assert archive.extractfile(f"{task_id}/single/0/run.out").read()  # type: ignore[union-attr]
        assert archive.extractfile(f"{task_id}/single/0/run.err").read() == b""  # type: ignore[union-attr]
    assert {f"{task_id}/single/1/run.out", f"{task_id}/single/1/run.err"} <= names
    assert status(served, task_id)["Outcome"] == "success"
    again = served.run("collect", task_id, "--runner", "local:exec", "-o", "again.tgz")
    assert (again.returncode, (served.work / "again.tgz").exists()) == (0, True)
    assert task_id in served.run("tasks").stdout
    assert "run finished with outcome" in served.run("logs", "-t", task_id).stdout


def test_a_failed_run(served: Home) -> None:
    done = served.run(*single("fail", "--wait"))
    assert (done.returncode, done.stderr) == (1, 'run "default" failed\n')
    assert "it rained" in done.stdout
    task_id = queued(done.stdout)
    assert f"finished run with ID: {task_id}" in done.stdout
    assert status(served, task_id)["Outcome"] == "failure"


def test_two_runs_of_a_composition(served: Home) -> None:
    (served.work / "c.toml").write_text(COMPOSITION)
    done = served.run("run", "composition", "-f", "c.toml", "--collect", "--result-file", "r.csv", "-w")
    assert (done.returncode, done.stderr) == (0, "")
    with (served.work / "r.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["run_id"], row["outcome"]) for row in rows] == [("first", "success"), ("second", "success")]
    for row in rows:
        assert (served.work / f"multiple-{row['run_id']}-{row['task_id']}.tgz").exists()
    assert (served.work / "c.toml").read_text().count("artifact = ") == 2
    assert done.stdout.count("performing build for groups") == 1


def test_build_and_use_the_artifact(served: Home) -> None:
    built = served.run("build", "single", "-p", "shell", "-b", "exec:generic", "--wait")
    [line] = [line for line in built.stdout.splitlines() if "generated build artifact" in line]
    artifact = line.split('"')[7]
    assert Path(artifact).exists()
    shutil.move(served.root / "plans" / "shell" / "run.sh", served.root / "gone.sh")
    done = served.run(*single("ok", "--use-build", artifact, "--wait"))
    assert done.returncode == 0
    assert "performing build" not in done.stdout


def test_what_a_daemon_refuses(served: Home) -> None:
    for argv, text in (
        (("status", "-t", "bad"), "task key must be a xid id"),
        (("terminate", "--runner", "local:exek"), "local:exek"),
        (("healthcheck", "--runner", "local:exek"), "did you mean 'local:exec'?"),
        (("collect", "nosuch", "--runner", "local:exec"), "no such testplan run"),
    ):
        done = served.run(*argv)
        assert (done.returncode, text in done.stdout) == (1, True), done
        assert "Traceback" not in done.stdout + done.stderr


def test_healthcheck_and_terminate(served: Home) -> None:
    done = served.run("healthcheck", "--runner", "local:exec", "--fix")
    assert done.returncode == 0
    assert "finished checking runner local:exec" in done.stdout
    assert served.run("terminate", "--runner", "local:exec").returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_cancels_the_run(served: Home, number: signal.Signals) -> None:
    process = served.start(*single("hang", "--wait"))
    task_id = queued(read_until(process, "case hang"))
    process.send_signal(number)
    out, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, out.splitlines()[-1]) == (1, f"interrupted by {number.name}")
    assert f"canceling task {task_id}" in err
    assert "(outcome canceled)" in err
    assert status(served, task_id)["Outcome"] == "canceled"


def test_a_second_interrupt_leaves_at_once(served: Home) -> None:
    process = served.start(*single("stubborn", "--wait", instances=1))
    task_id = queued(read_until(process, "case stubborn"))
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert "interrupt again to leave at once" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE)
    assert (process.returncode, err) == (255, "interrupted twice; leaving at once\n")
    served.run("logs", "--task", task_id, "--follow")
    assert status(served, task_id)["Outcome"] == "canceled"


def test_a_killed_client_cancels_the_run(served: Home) -> None:
    process = served.start(*single("hang", "--wait"))
    task_id = queued(read_until(process, "case hang"))
    process.kill()
    process.communicate(timeout=DEADLINE)
    served.run("logs", "--task", task_id, "--follow")
    assert status(served, task_id)["Outcome"] == "canceled"


def test_leaving_the_log_leaves_the_run_alone(served: Home) -> None:
    task_id = queued(served.run(*single("hang")).stdout)
    process = served.start("logs", "--task", task_id, "--follow")
    read_until(process, "case hang")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=DEADLINE)
    assert (process.returncode, status(served, task_id)["Status"]) == (1, "processing")
    served.run("terminate", "--runner", "local:exec")


def test_a_terminal_sees_a_verdict(served: Home) -> None:
    leader, follower = pty.openpty()
    served.environment.update(TERM="xterm-256color", COLUMNS="100")
    process = served.start(*single("fail", "--wait"), stdout=follower)
    os.close(follower)
    shown = read_terminal(leader)
    process.communicate(timeout=DEADLINE)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown)
    assert process.returncode == 1
    assert "╭─ shell:fail run default: failure" in plain
    assert "single: 0/2 ok" in plain
    assert "first failure: single[" in plain
    assert ">>> Server output" not in plain


def read_terminal(leader: int) -> str:
    seen = b""
    with open(leader, "rb", buffering=0) as stream:
        while True:
            try:
                data = stream.read(1 << 16)
            except OSError:  # Linux says so when the other end is closed
                data = b""
            if not data:
                return seen.decode()
            seen += data


# -- which daemon -----------------------------------------------------------------------------------------------


def default_is_free() -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", 8042)) != 0


needs_default = pytest.mark.skipif(not default_is_free(), reason="something listens at the default endpoint")


@needs_default
def test_without_a_daemon_a_command_brings_its_own(home: Home) -> None:
    done = home.run(*single("ok"))
    assert done.returncode == 0
    assert f"finished run with ID: {queued(done.stdout)}" in done.stdout, "it waits although it was not told to"
    assert re.fullmatch(r"no daemon answers at http://localhost:8042; this command runs its own at \S+\n", done.stderr)
    assert queued(done.stdout) in home.run("tasks").stdout
    assert (home.root / "data" / "daemon" / "daemon.lock").read_text() == ""


@needs_default
def test_an_interrupt_ends_the_embedded_daemon_and_its_run(home: Home) -> None:
    process = home.start(*single("hang"))
    read_until(process, "case hang")
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert "(outcome canceled)" in err
    assert (home.root / "data" / "daemon" / "daemon.lock").read_text() == ""


@needs_default
def test_an_embedded_daemon_outlives_the_tasks_of_its_guests(home: Home) -> None:
    host = home.start(*single("hang"))
    hosted = queued(read_until(host, "case hang"))
    guest = home.start(*single("hang", "--wait"))
    queued(read_until(guest, "case hang"))
    assert home.run("tasks").stderr == ""
    cancel(home, hosted)
    assert host.stderr is not None
    while "waiting for 1 other task" not in (line := host.stderr.readline()):
        assert line
    guest.send_signal(signal.SIGTERM)
    guest.communicate(timeout=DEADLINE)
    host.communicate(timeout=DEADLINE)
    assert (guest.returncode, host.returncode) == (1, 1)


def cancel(home: Home, task_id: str) -> None:
    from testground.client import Client

    holder = json.loads((home.root / "data" / "daemon" / "daemon.lock").read_text())
    with Client(holder["endpoint"]) as client:
        client.cancel(task_id)


def test_a_lock_that_a_crash_left_behind_is_not_believed(home: Home) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    (home.root / "data" / "daemon").mkdir(parents=True)
    lock = {"pid": gone.pid, "endpoint": "http://127.0.0.1:9", "sync": ""}
    (home.root / "data" / "daemon" / "daemon.lock").write_text(json.dumps(lock))
    assert home.run("tasks").returncode == 0


@pytest.mark.parametrize("place", ["flag", "file"])
def test_a_named_endpoint_must_answer(home: Home, place: str) -> None:
    argv = ["tasks"]
    if place == "flag":
        argv += ["--endpoint", "http://127.0.0.1:9"]
    else:
        (home.root / ".env.toml").write_text('[client]\nendpoint = "http://127.0.0.1:9"\n')
    done = home.run(*argv)
    assert done.returncode == 1
    assert done.stdout.startswith("no daemon answers at http://127.0.0.1:9 (")
    assert "`testground daemon`" in done.stdout


def test_the_default_endpoint_is_no_longer_the_default_when_it_is_written_down(home: Home) -> None:
    if not default_is_free():
        pytest.skip("something listens at the default endpoint")
    (home.root / ".env.toml").write_text('[client]\nendpoint = "http://localhost:8042"\n')
    assert home.run("tasks").stdout.startswith("no daemon answers at http://localhost:8042 (")


# -- services ---------------------------------------------------------------------------------------------------


def test_sync_service(home: Home) -> None:
    service = home.start("sync-service", "--listen", "127.0.0.1:0")
    line = read_until(service, "sync service listening")
    found = re.search(r'"address": "127\.0\.0\.1:(\d+)"', line)
    assert found
    socket.create_connection(("127.0.0.1", int(found.group(1))), 5).close()
    service.send_signal(signal.SIGTERM)
    _, err = service.communicate(timeout=DEADLINE)
    assert (service.returncode, err) == (0, "")


@pytest.mark.parametrize("address", ["127.0.0.1:99999", "nonsense"])
def test_sync_service_at_no_address(home: Home, address: str) -> None:
    done = home.run("sync-service", "--listen", address)
    assert (done.returncode, "Traceback" in done.stderr + done.stdout, done.stdout.count("\n")) == (1, False, 1)


def test_a_second_daemon_for_the_same_home(served: Home) -> None:
    done = served.run("daemon")
    assert done.returncode == 1
    assert "another daemon already serves" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


# -- created plans ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "builder"),
    [
        ("python", "exec:python"),
        pytest.param("go", "exec:go", marks=pytest.mark.skipif(shutil.which("go") is None, reason="needs go")),
    ],
)
def test_a_created_plan_runs_at_once(served: Home, target: str, builder: str) -> None:
    served.run("plan", "create", "--plan", "mine", "--target", target)
    for case in ("hello", "meet"):
        done = served.run(
            "run", "single", "-p", "mine", "-t", case, "-b", builder, "-r", "local:exec", "-i", "3", "--wait"
        )
        assert done.returncode == 0, done.stdout[-2000:]
        assert "(single:3/3)" in done.stdout
