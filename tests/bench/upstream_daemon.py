"""Our daemon and commands beside the Go ones: runs and builds of a placebo, each command from its start to its end.

The placebo is a Go program without requirements that prints its success, so that `exec:go` and `local:exec` of both
take it. The Go daemon is told of no Docker engine: its healthcheck fails at that and lets the run go on. Daemon and
instances are on one core, the command on the other; commands of ours and of Go alternate, and the best round counts.
Ours sent to the Go daemon, and the Go command sent to ours, tell what is the daemon's part.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.processes import Server, load_on_the_other_core, resident, started
from tests.bench.row import Comparison, less
from tests.upstream import daemon, programs

ROUNDS = 4
COMMAND_SECONDS = 120
OURS = (sys.executable, "-m", "testground")

MANIFEST = """name = "placebo"

[defaults]
builder = "exec:go"
runner = "local:exec"

[builders."exec:go"]
enabled = true

[runners."local:exec"]
enabled = true

[[testcases]]
name = "ok"
instances = { min = 1, max = 100, default = 1 }
"""
GO_MOD = "module placebo\n\ngo 1.16\n"
SOURCE = """package main

import "fmt"

func main() {
	fmt.Println(`{"event":{"success_event":{"group":"single"}}}`)
}
"""
WHY_LARGER = (
    "ours contains its sync service, which Go starts beside the daemon. Of ours the interpreter with asyncio is 20 "
    "MiB, pydantic 8, FastAPI and uvicorn 16: even without all the rest that is as much as Go's."
)
PLACEBO = ("--plan", "placebo", "--builder", "exec:go", "--wait")
BUILD = ("build", "single", *PLACEBO)
RUN = ("run", "single", *PLACEBO, "--testcase", "ok", "--runner", "local:exec", "--instances", "2")
ARTIFACT = re.compile(r"artifact\W+(/\S+?)[\"\s]")


@dataclass(frozen=True, slots=True)
class Side:
    """A daemon, its resident memory when it had done nothing yet, and its home with the plan and an artifact of it."""

    daemon: Server
    idle: float
    home: Path
    artifact: str = ""

    def seconds(self, command: tuple[str, ...], *arguments: str) -> float:
        """Of a command to this daemon, from its start to its end. Raises `RuntimeError` when it fails."""
        begun = time.perf_counter()
        self.output(command, *arguments)
        return time.perf_counter() - begun

    def output(self, command: tuple[str, ...], *arguments: str) -> str:
        done = subprocess.run(
            [*command, "--endpoint", f"http://localhost:{self.daemon.port}", *arguments],
            env={**os.environ, "TESTGROUND_HOME": str(self.home)},
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{done.args} exited with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def change_plan(self, number: int) -> None:
        source = SOURCE.replace("func main() {", f"func main() {{\n\tfmt.Println({number})")
        self.home.joinpath("plans", "placebo", "main.go").write_text(source)


def compare() -> list[Comparison]:
    """Raises `RuntimeError` when the port that Go's sync service needs is taken, or a command fails."""
    if reason := daemon.taken():
        raise RuntimeError(reason)
    go = (str(programs.program("testground")),)
    with started(str(programs.program("sync-service"))) as service:
        go_sync = resident(service.pid)
    with load_on_the_other_core(), _side(OURS) as ours, _side(go) as theirs:
        return [*_runs(go, ours, theirs), *_builds(go, ours, theirs), *_memory(ours, theirs, go_sync)]


def _runs(go: tuple[str, ...], ours: Side, theirs: Side) -> Iterator[Comparison]:
    rounds: dict[tuple[tuple[str, ...], Side], list[float]] = {
        pair: [] for pair in itertools.product((OURS, go), (ours, theirs))
    }
    for _ in range(ROUNDS):
        for (command, side), seconds in rounds.items():
            seconds.append(side.seconds(command, *RUN, "--use-build", side.artifact))
    best = {pair: min(seconds) for pair, seconds in rounds.items()}
    yield less("run single of a placebo, 2 instances, built before", best[OURS, ours], best[go, theirs], "s")
    yield less("  the Go command to both daemons", best[go, ours], best[go, theirs], "s")
    yield less("  our command to both daemons", best[OURS, ours], best[OURS, theirs], "s")


def _builds(go: tuple[str, ...], ours: Side, theirs: Side) -> Iterator[Comparison]:
    """Each command with its own daemon. Go's builds without optimisation, ours with."""
    pairs = ((OURS, ours), (go, theirs))
    builds: tuple[list[float], list[float]] = ([], [])
    runs: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS):
        for (command, side), built, ran in zip(pairs, builds, runs, strict=True):
            side.change_plan(number)
            built.append(side.seconds(command, *BUILD))
            ran.append(side.seconds(command, *RUN))
    yield less("build single of it, exec:go, a line changed", *map(min, builds), "s")
    yield less("run single of it from sources without a change", *map(min, runs), "s")


def _memory(ours: Side, theirs: Side, go_sync: float) -> Iterator[Comparison]:
    """Ours serves its instances a sync service; who runs the Go daemon runs one beside it."""
    yield less("daemon and sync service, resident memory, idle", ours.idle, theirs.idle + go_sync, "MiB")
    yield less("  the Go daemon without a sync service", ours.idle, theirs.idle, "MiB", WHY_LARGER)
    after = (resident(side.daemon.pid) for side in (ours, theirs))
    yield less("  daemon after these runs and builds", *after, "MiB")


@contextmanager
def _side(command: tuple[str, ...]) -> Iterator[Side]:
    with tempfile.TemporaryDirectory(prefix="testground-bench-") as directory:
        home = Path(directory)
        plan = home / "plans" / "placebo"
        plan.mkdir(parents=True)
        for name, text in (("manifest.toml", MANIFEST), ("go.mod", GO_MOD), ("main.go", SOURCE)):
            plan.joinpath(name).write_text(text)
        home.joinpath(".env.toml").write_text('[daemon]\nlisten = "localhost:0"\nsync_listen = "127.0.0.1:0"\n')
        nowhere = f"unix://{home}/no-docker.sock"
        with started(*command, "daemon", home=home, DOCKER_HOST=nowhere, GOTOOLCHAIN="local") as server:
            side = Side(server, resident(server.pid), home)
            built = ARTIFACT.search(side.output(command, *BUILD))
            assert built, "the build named no artifact"
            yield dataclasses.replace(side, artifact=built[1])
