from pathlib import Path
from typing import Any

import pytest

from testground.api import rpc

ID = "dc28b05qmd2op8cgmlh0"
STATES = [
    {"created": "2026-11-23T18:29:40.270872816Z", "state": "scheduled"},
    {"created": "2026-11-23T18:29:41Z", "state": "processing"},
    {"created": "2026-11-23T18:32:43.5Z", "state": "complete"},
]


def task(**changes: Any) -> dict[str, Any]:
    base = {"priority": 1, "id": ID, "plan": "demo", "case": "ok", "states": STATES, "type": "run"}
    return base | {"input": {"priority": 1}, "result": {"outcome": "failure"}, "error": ""} | changes


STATUS = [
    f"ID:\t\t{ID}",
    "Priority:\t1",
    "Created:\t2026-11-23 18:29:40.270872 +0000 UTC",
    "Type:\t\trun",
    "Status:\t\tcomplete",
    "Outcome:\tfailure",
    "Last update:\t2026-11-23 18:32:43.5 +0000 UTC",
]


def test_status(cli: Any, fake_daemon: Any) -> None:
    fake_daemon.result("/status", task())
    result = cli("status", "-t", ID)
    assert (result.status, result.lines[-7:]) == (0, STATUS)
    extended = cli("status", "--task", ID, "--extended").out
    assert '\n\nInput:\n{\n  "Sources": null,' in extended
    assert extended.endswith('\n\nResult:\n{\n  "outcome": "failure"\n}\n')


def test_l4_status_of_a_bad_id(cli: Any, fake_daemon: Any) -> None:
    """L4: the Go daemon says nothing but a warning, ours gives the reason."""
    fake_daemon.answer("/status", rpc.progress(b"WARN could not fetch status\n"))
    fake_daemon.answer("/status", rpc.error("task key must be a xid id"))
    result = cli("status", "-t", "bad")
    assert (result.status, result.lines[-1][:3]) == (1, "EOF")
    result = cli("status", "-t", "bad")
    assert (result.status, result.lines[-1]) == (1, "task key must be a xid id")


def test_logs(cli: Any, fake_daemon: Any) -> None:
    fake_daemon.result("/logs", task(error="it rained"), rpc.progress(b"a line\n"))
    result = cli("logs", "-t", ID, "-f")
    assert result.status == 0
    assert "a line" in result.lines
    assert result.lines[-8:] == [*STATUS, "Error:\t\tit rained"]
    assert fake_daemon.sent("/logs") == [{"task_id": ID, "follow": True, "cancel_with_context": False}]


def test_tasks(cli: Any, fake_daemon: Any) -> None:
    build = {"type": "build", "plan": "", "case": "", "input": {"composition": {"global": {"plan": "ping"}}}}
    fake_daemon.result("/tasks", [task(), task(**build)])
    result = cli("tasks")
    assert (result.status, result.lines[-3:]) == (
        0,
        [
            "ID                     DATE                   TEST PLAN   TEST CASE   DURATION   STATE      TYPE",
            f"{ID}   2026-11-23T18:29:40Z   demo        ok          3m3s       complete   run",
            f"{ID}   2026-11-23T18:29:40Z   ping        -           3m3s       complete   build",
        ],
    )


def test_no_tasks(cli: Any, fake_daemon: Any) -> None:
    fake_daemon.result("/tasks", None)
    assert cli("tasks").lines[-1] == "ID   DATE   TEST PLAN   TEST CASE   DURATION   STATE   TYPE"


def test_collect(cli: Any, fake_daemon: Any) -> None:
    fake_daemon.answer("/outputs", rpc.binary(b"tgz"), rpc.result(True))
    result = cli("collect", ID, "--runner=local:exec")
    assert (result.status, result.lines[-1].split("\t")[2]) == (0, f"created file: {ID}.tgz")
    assert Path(f"{ID}.tgz").read_bytes() == b"tgz"
    assert cli("collect", "-r", "local:exec", "-o", "x.out", ID).status == 0
    assert Path("x.out").read_bytes() == b"tgz"


@pytest.mark.parametrize("answer", [rpc.result(False), rpc.error("unknown run nosuch", "unknown")])
def test_collect_of_an_unknown_run(cli: Any, fake_daemon: Any, answer: bytes) -> None:
    Path("nosuch.tgz").write_bytes(b"an older one stays")
    fake_daemon.answer("/outputs", rpc.binary(b"part"), answer)
    result = cli("collect", "nosuch", "--runner", "local:exec")
    assert result.status == 1
    assert 'no such testplan run\t{"run_id": "nosuch", "runner": "local:exec"' in result.lines[-1]
    assert [path.read_bytes() for path in Path.cwd().iterdir()] == [b"an older one stays"]


def test_collect_that_breaks_off_leaves_nothing(cli: Any, fake_daemon: Any) -> None:
    fake_daemon.answer("/outputs", rpc.binary(b"part"), broken=True)
    result = cli("collect", ID, "-r", "local:exec")
    assert (result.status, list(Path.cwd().iterdir())) == (1, [])


def test_collect_into_nowhere(cli: Any, fake_daemon: Any) -> None:
    fake_daemon.answer("/outputs", rpc.binary(b"part"), rpc.result(True))
    result = cli("collect", ID, "-r", "local:exec", "-o", "no/such/dir.tgz")
    assert result.status == 1
    assert result.lines[-1] == "cannot write the outputs to no/such/dir.tgz: No such file or directory"


def test_terminate(cli: Any, fake_daemon: Any) -> None:
    fake_daemon.result("/terminate", "Done", rpc.progress(b"all jobs terminated\n"))
    result = cli("terminate", "--runner", "local:exec")
    assert (result.status, "all jobs terminated" in result.lines) == (0, True)
    assert fake_daemon.sent("/terminate") == [{"runner": "local:exec", "builder": ""}]


def test_healthcheck(cli: Any, fake_daemon: Any) -> None:
    checks = [{"Name": "good", "Status": "ok", "Message": "fine"}, {"Name": "bad", "Status": "failed", "Message": "no"}]
    fixes = [{"Name": "bad", "Status": "ok", "Message": "fixed it"}]
    fake_daemon.result("/healthcheck", {"Checks": checks, "Fixes": fixes})
    fake_daemon.result("/healthcheck", {"Checks": checks, "Fixes": None})
    fake_daemon.result("/healthcheck", {"Checks": checks, "Fixes": [{"Name": "bad", "Status": "omitted"}]})
    result = cli("healthcheck", "--runner", "local:exec", "--fix")
    assert result.status == 0
    assert result.lines[-6:] == [
        "finished checking runner local:exec",
        "Checks:",
        "- good: ok; fine",
        "- bad: failed; no",
        "Fixes:",
        "- bad: ok; fixed it",
    ]
    result = cli("healthcheck", "--runner", "local:exec")
    assert (result.status, result.lines[-1]) == (1, "No fixes applied.")
    result = cli("healthcheck", "--runner", "local:exec")
    assert (result.status, result.lines[-1]) == (1, "- bad: omitted; ")
    assert "'testground healthcheck --runner local:exec --fix' mends what it can" in result.err
    assert [sent["fix"] for sent in fake_daemon.sent("/healthcheck")] == [True, False, False]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("terminate",), "specify something to terminate"),
        (
            ("terminate", "--runner=a", "--builder=b"),
            "cannot accept runner and builder at the same time; please do one at a time",
        ),
        (("collect", "--runner", "local:exec"), "missing run id"),
        (("collect", ID), 'Required flag "runner" not set'),
        (("status",), 'Required flag "task" not set'),
        (("healthcheck", "--fix"), 'Required flag "runner" not set'),
    ],
)
def test_l7_bad_usage(cli: Any, fake_daemon: Any, argv: tuple[str, ...], message: str) -> None:
    result = cli(*argv)
    assert (result.status, result.lines[-1]) == (1, message)
    assert fake_daemon.requests == []
