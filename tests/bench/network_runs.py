"""Runs of many instances with networks of their own: how long they take to begin and to end, and how many can meet.

All figures are of the daemon's clock: a run begins when its task is submitted and ends with its task, both from the
daemon's record; what is between comes from the instances' outputs. Artifacts are built before.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from tests import ordinary_user
from tests.bench.home import CHECKOUT, Home, artifact, opened, task
from tests.bench.row import Row, at_least, below

SIZES = {100: 3.0, 500: 15.0}
"""Instances, and seconds in which all of them should be initialised."""
TEARDOWN_PER_100 = 1.0
MANY = 1200

MANIFEST = """
name = "{name}"
[builders."exec:go"]
[builders."exec:generic"]
artifact = "placebo.sh"
[runners."local:exec"]
[[testcases]]
name = "ok"
instances = {{ min = 1, max = 2000 }}
"""
SHELL = """#!/bin/sh
: > "$TEST_OUTPUTS_PATH/began"
echo '{"event":{"success_event":{"group":"single"}}}'
"""
GO_MOD = "module reach\n\ngo 1.16\n"
ISOLATED = ("--run-cfg", "network=isolated")
PLANS = Path(__file__).parent / "plans"
SDK_PLAN = CHECKOUT / "examples" / "08-go-sdk"
"""Its requirements are those of a plan on the Go SDK."""


def bench(go: bool) -> Iterator[Row]:
    """Without `go`, the toolchain, only what a shell can do."""
    for who, become in _users():
        with opened(_plans(), become) as home:
            if go:
                yield from _shaped(home, who)
            yield from _placebo(home, who)
    if go:
        with opened(_plans()) as home:
            yield from _many(home)


def _users() -> list[tuple[str, Callable[..., Sequence[str]]]]:
    if os.geteuid() != 0:
        return [("ordinary user", lambda *argv: argv)]
    users: list[tuple[str, Callable[..., Sequence[str]]]] = [("root", lambda *argv: argv)]
    if ordinary_user.possible():
        users.append(("ordinary user", ordinary_user.command))
    return users


def _plans() -> dict[str, dict[str, str]]:
    requirements = {name: (SDK_PLAN / name).read_text() for name in ("go.mod", "go.sum")}
    return {
        "shaped": {"manifest.toml": MANIFEST.format(name="shaped"), **requirements} | _program("shaped.go"),
        "reach": {"manifest.toml": MANIFEST.format(name="reach"), "go.mod": GO_MOD} | _program("reach.go"),
        "placebo": {"manifest.toml": MANIFEST.format(name="placebo"), "placebo.sh": SHELL},
    }


def _program(name: str) -> dict[str, str]:
    return {"main.go": (PLANS / name).read_text()}


def _shaped(home: Home, who: str) -> Iterator[Row]:
    built = _built(home, "shaped")
    for count, seconds in SIZES.items():
        submitted, done, run = _run(home, "shaped", "exec:go", count, "--use-build", built)
        said = [_moments(path) for path in home.outputs("shaped", run, "run.out")]
        initialised, shaped, ended = (max(moments[what] for moments in said) for what in ("all", "this", "end"))
        yield below(f"{count} Go instances, {who}: submitted to all initialised", initialised - submitted, seconds, "s")
        yield Row("  to all shaped", shaped - submitted, "s")
        yield _teardown(done - ended, count)


def _moments(output: Path) -> dict[str, float]:
    """When an instance said its messages, by their first word, and when it was done: the last line it wrote."""
    found = {}
    for line in output.read_text().splitlines():
        entry = json.loads(line)
        found["end"] = entry["ts"] / 1e9
        if message := entry["event"].get("message_event"):
            found[message["message"].partition(" ")[0]] = entry["ts"] / 1e9
    return found


def _placebo(home: Home, who: str) -> Iterator[Row]:
    """What a shell script writes as its first step has the time at which it did."""
    built = _built(home, "placebo", "exec:generic")
    for count, seconds in SIZES.items():
        submitted, done, run = _run(home, "placebo", "exec:generic", count, "--use-build", built)
        began = max(path.stat().st_mtime for path in home.outputs("placebo", run, "began"))
        yield below(f"{count} shell instances, {who}: submitted to all begun", began - submitted, seconds, "s")
        yield _teardown(done - began, count)


def _many(home: Home) -> Iterator[Row]:
    built = _built(home, "reach")
    submitted, done, run = _run(home, "reach", "exec:go", MANY, "--use-build", built)
    [heard] = home.outputs("reach", run, "heard")
    seconds = heard.stat().st_mtime - submitted
    reached = int(heard.read_text())
    yield at_least(f"{MANY} on one data network: others that reached the first in {seconds:.1f} s", reached, MANY - 1)
    yield Row("  from submission to the end of the task", done - submitted, "s")


def _teardown(seconds: float, count: int) -> Row:
    return below("  the last instance's end to the task's, per 100", seconds * 100 / count, TEARDOWN_PER_100, "s")


def _built(home: Home, plan: str, builder: str = "exec:go") -> str:
    _, output = home.run("build", "single", "--plan", plan, "--builder", builder, "--wait")
    return artifact(output)


def _run(home: Home, plan: str, builder: str, count: int, *more: str) -> tuple[float, float, str]:
    """Start and end of the run's task, and its id."""
    _, output = home.single(plan, builder, count, *ISOLATED, *more)
    if f"outcome = success (single:{count}/{count})" not in output:
        raise RuntimeError(f"{count} instances of {plan} did not succeed:\n{output[-5000:]}")
    run = task(output)
    submitted, *_, done = home.moments(run)
    return submitted, done, run
