"""Every example does what its README says: its commands are run as they stand there."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.conftest import DEADLINE, REPOSITORY, Archive, CommandLine, Finished, command_line

pytestmark = pytest.mark.timeout(180)
EXAMPLES = REPOSITORY / "examples"
PYTHON = ("-b", "exec:python", "-r", "local:exec")
GO_DEADLINE = 280.0
"""Seconds; the first build downloads the modules and compiles them."""


def test_hello(cli: CommandLine) -> None:
    run = cli.readme("01-hello")
    archive = passed(run, cli, single=1)
    assert [line.partition(">> ")[2] for line in run.log("MESSAGE")] == ["Hello, single!"] * 2
    assert points(archive, "single/0") == {"greetings": [2]}


def test_hello_with_other_parameters(cli: CommandLine) -> None:
    archive = passed(cli.readme("01-hello", "-i", "3", "--test-param", "times=5"), cli, single=3)
    assert [points(archive, f"single/{index}")["greetings"] for index in range(3)] == [[5]] * 3


@pytest.mark.parametrize(
    ("times", "reason"),
    [("0", "cannot say 'Hello' 0 times"), ("lots", "parameter 'times': 'lots' is not a whole number")],
)
def test_hello_fails_with_a_reason(cli: CommandLine, times: str, reason: str) -> None:
    run = cli.readme("01-hello", "--test-param", f"times={times}")
    assert reason in failed(run, "single:0/1")


def test_ping_pong(cli: CommandLine) -> None:
    archive = passed(cli.readme("02-ping-pong"), cli, single=2)
    trips = [points(archive, instance).get("rtt_ms", []) for instance in ("single/0", "single/1")]
    assert sorted(map(len, trips)) == [0, 100]
    assert all(trip > 0 for trip in trips[0] + trips[1])


@pytest.mark.parametrize(
    ("line", "consequence"),
    [
        pytest.param('"""Send everything back', 'subscription to "address" cannot be met: single[', id="listener"),
        pytest.param("[(host, port)] = await", 'barrier "done" cannot be met: it needs 2', id="dialler"),
    ],
)
def test_a_partner_that_dies_does_not_leave_the_other_waiting(cli: CommandLine, line: str, consequence: str) -> None:
    plan = cli.directory / "02-broken"
    shutil.copytree(EXAMPLES / "02-ping-pong", plan)
    replace(plan / "manifest.toml", "02-ping-pong", plan.name)
    replace(plan / "main.py", line, f'raise RuntimeError("no port left")\n    {line}')
    cli("plan", "rm", "-p", plan.name, "--yes")
    assert cli("plan", "import", "--from", plan.name).exit_code == 0
    run = cli("run", "single", "-p", plan.name, "-t", "ping-pong", *PYTHON, "-i", "2", "--wait")
    first, _, rest = failed(run, "single:0/2").partition("\n")
    assert "crashed: RuntimeError: no port left" in first
    assert "then single[" in rest and consequence in rest


def test_gossip(cli: CommandLine) -> None:
    archive = passed(cli.readme("03-gossip"), cli, core=8, edge=16)
    instances = archive.named("results.out")
    coverage = [points(archive, instance).get("coverage_ms", []) for instance in instances]
    assert sorted(map(len, coverage)) == [0] * 23 + [1]
    hops = [points(archive, instance)["hops"][0] for instance in instances]
    assert sorted(hops)[:2] == [0, 1]
    fanouts = {(instance[:4], started_with(text)["fanout"]) for instance, text in archive.named("run.out").items()}
    assert fanouts == {("core", "4"), ("edge", "1")}


def test_storm(cli: CommandLine) -> None:
    archive = passed(cli.readme("04-storm"), cli, single=10)
    for instance in archive.named("results.out"):
        received = points(archive, instance)
        assert received["connections"] == [9 * 4]
        assert received["bytes"] == [9 * 4 * 256 * 1024]
        assert [each["measures"]["count"] for each in metrics(archive, instance, "timer")][-1] == 9 * 4


def test_storm_scales_by_parameter(cli: CommandLine) -> None:
    more = ("-i", "4", "--test-param", "connections=9", "--test-param", "size=1kB")
    archive = passed(cli.readme("04-storm", *more), cli, single=4)
    assert points(archive, "single/3")["bytes"] == [3 * 9 * 1000]


def test_kv_store(cli: CommandLine) -> None:
    run = cli.readme("05-kv-store")
    passed(run, cli, checker=1, clients=4, replicas=3)
    assert run.log("checking a history of 800 operations")


def test_kv_store_with_a_bug_is_caught(cli: CommandLine) -> None:
    """A failed run does not keep the next one from running, and both come from one build."""
    run = cli.readme("05-kv-store", "--run-ids", "stale-reads,correct", "-o", "kv", "--result-file", "results.csv")
    verdict = failed(run, "checker:0/1 clients:4/4 replicas:3/3")
    assert "not linearizable: no order of these operations explains what was read" in verdict
    assert re.search(r"client \d wrote \d-\d+ +from +[\d.]+ ms to +[\d.]+ ms\n", verdict)
    assert re.search(r"client \d read +\d-\d+ +from +[\d.]+ ms to +[\d.]+ ms\n", verdict)
    assert run.stderr == 'run "stale-reads" failed\n'
    stale, correct = run.run_ids
    assert (cli.directory / "results.csv").read_text().splitlines() == [
        "run_id,task_id,outcome,error",
        f"stale-reads,{stale},failure,",
        f"correct,{correct},success,",
    ]
    assert len(run.log("performing build for groups")) == 1
    assert cli.collected(f"kv-stale-reads-{stale}").run_id == stale
    assert cli.collected(f"kv-correct-{correct}").run_id == correct


def test_kv_store_clients_that_die_end_the_run(cli: CommandLine) -> None:
    shutil.copy(EXAMPLES / "05-kv-store" / "composition.toml", cli.directory)
    replace(cli.directory / "composition.toml", 'bug = "stale-reads"', 'bug = "steal-reads"')
    cli("plan", "import", "--from", "examples/05-kv-store")
    run = cli("run", "composition", "-f", "composition.toml", "--run-ids", "stale-reads", "--wait")
    verdict = failed(run, "checker:0/1 clients:0/4 replicas:0/3")
    assert "ValueError: 'steal-reads' is not a valid Bug" in verdict
    assert 'barrier "done" cannot be met: it needs 8' in verdict
    assert 'subscription to "lengths" cannot be met' in verdict


@pytest.mark.timeout(300)
@pytest.mark.skipif(shutil.which("go") is None, reason="go is not installed")
def test_go_ping(cli: CommandLine) -> None:
    archive = passed(cli.readme("06-go-ping", deadline=GO_DEADLINE), cli, single=2)
    trips = [points(archive, instance).get("rtt_ms", []) for instance in ("single/0", "single/1")]
    assert sorted(map(len, trips)) == [0, 20]


def test_shell(cli: CommandLine) -> None:
    archive = passed(cli.readme("07-shell"), cli, single=3)
    for primes in archive.named("primes.txt").values():
        assert primes.split()[:4] == ["2", "3", "5", "7"]
        assert len(primes.split()) == 168


def test_shell_fails_with_a_reason(cli: CommandLine) -> None:
    run = cli.readme("07-shell", "--test-param", "expected=167")
    assert "found 168 primes up to 1000, expected 167" in failed(run, "single:0/3")


def test_a_second_run_builds_nothing(cli: CommandLine) -> None:
    cli.readme("07-shell")
    assert cli.readme("07-shell").log("build skipped: nothing has changed")


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir()))
def test_has_a_page_of_one_screen(example: str) -> None:
    lines = (EXAMPLES / example / "README.md").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith(f"# {example[:2]} ")
    assert len(lines) <= 50 and "## Try next" in lines


def test_demo_with_a_daemon_of_its_own(tmp_path: Path) -> None:
    """What `make demo` runs, in an empty home: the command line brings the daemon along, and it ends with it."""
    if _somebody_listens(8042):
        pytest.skip("another daemon listens at the default endpoint of this machine")
    cli = command_line(tmp_path / "home", tmp_path)
    bin_directory = tmp_path / "bin"
    bin_directory.mkdir()
    (bin_directory / "testground").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m testground "$@"\n')
    (bin_directory / "testground").chmod(0o755)
    for _ in range(2):  # a second time in the same home is no different
        done = subprocess.run(
            ["sh", "examples/demo.sh"],
            cwd=tmp_path,
            env={
                **os.environ,
                "TESTGROUND_HOME": str(cli.home),
                "PATH": f"{bin_directory}{os.pathsep}{os.environ['PATH']}",
            },
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "run finished with outcome = success (core:8/8 edge:16/16)" in done.stdout
        assert "this command runs its own at" in done.stdout + done.stderr
        assert len(cli.collected("gossip").named("run.out")) == 24
    assert not (cli.home / "data" / "daemon" / "daemon.lock").read_text()


def replace(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1
    file.write_text(text.replace(old, new), encoding="utf-8")


def passed(run: Finished, cli: CommandLine, **groups: int) -> Archive:
    """Check the verdict of a single run and the layout of its archive; returns the archive."""
    assert run.exit_code == 0, run.stdout + run.stderr
    [run_id] = run.run_ids
    counts = " ".join(f"{group}:{count}/{count}" for group, count in sorted(groups.items()))
    assert run.log(f"run finished with outcome = success ({counts})")
    assert run.log(f"finished run with ID: {run_id}")
    assert run.log(f"[{run_id}]: success")
    assert run.log(f"created file: {run_id}.tgz")
    archive = cli.collected(run_id)
    assert archive.run_id == run_id
    instances = {f"{group}/{index}" for group, count in groups.items() for index in range(count)}
    outputs, errors = archive.named("run.out"), archive.named("run.err")
    assert set(outputs) == set(errors) == instances
    assert all(outputs.values())
    assert errors == dict.fromkeys(instances, "")
    return archive


def failed(run: Finished, counts: str) -> str:
    """Check that a single run failed; returns its verdict in words."""
    assert run.exit_code == 1, run.stdout + run.stderr
    assert run.log(f"run finished with outcome = failure ({counts})")
    assert run.log(f"[{run.run_ids[0]}]: failure")
    verdict = run.stdout.partition("first failure: ")[2].partition("run finished with outcome")[0]
    assert verdict, run.stdout
    return verdict


def metrics(archive: Archive, instance: str, kind: str) -> list[dict]:
    lines = [json.loads(line) for line in archive.files[f"{instance}/results.out"].splitlines()]
    return [line for line in lines if line["type"] == kind]


def points(archive: Archive, instance: str) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for line in metrics(archive, instance, "point"):
        found.setdefault(line["name"], []).append(line["measures"]["value"])
    return found


def started_with(output: str) -> dict[str, str]:
    """The parameters of an instance, from the start event in its `run.out`."""
    events = [json.loads(line).get("event", {}) for line in output.splitlines()]
    return next(event["start_event"]["runenv"]["params"] for event in events if "start_event" in event)


def _somebody_listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
