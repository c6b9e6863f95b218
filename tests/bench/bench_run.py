"""What testground itself costs: a run, a rebuild, an upload, `--help`. Everything through the real command line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator

from tests.bench.home import COMMAND, Home, artifact, environment, opened, task
from tests.bench.processes import resident
from tests.bench.row import Row, at_least, below

MEBIBYTE = 1 << 20

MANIFEST = """
name = "placebo"
[builders."exec:generic"]
artifact = "placebo.sh"
[builders."exec:python"]
[runners."local:exec"]
[[testcases]]
name = "ok"
instances = { min = 1, max = 1000 }
"""

SHELL = """#!/bin/sh
echo '{"event":{"success_event":{"group":"single"}}}'
"""

PYTHON = """from testground.sdk import RunEnv, InitContext, invoke_map


async def ok(env: RunEnv, init: InitContext) -> None:
    await init.wait_all_instances_initialized()


invoke_map({"ok": ok})
"""


def bench() -> list[Row]:
    files = {"manifest.toml": MANIFEST, "placebo.sh": SHELL, "main.py": PYTHON}
    with opened({"placebo": files}) as home:
        return [_help(home), *_runs(home), _python(home), *_rebuild(home), *_upload(home)]


def _help(home: Home) -> Row:
    return below("testground --help", min(home.run("--help")[0] for _ in range(5)), 0.3, "s")


def _runs(home: Home) -> Iterator[Row]:
    _, output = home.single("placebo", "exec:generic", 1)
    bare = min(_bare_start() for _ in range(5))
    two = min(home.single("placebo", "exec:generic", 2, "--use-build", artifact(output))[0] for _ in range(5))
    yield below("run single of a placebo, 2 instances, built before", two, 0.5, "s")
    yield Row("  of which: an interpreter that starts and ends", bare, "s")
    many = min(home.single("placebo", "exec:generic", 200)[0] for _ in range(3))
    yield below("run single, 200 shell instances", many, 5, "s")


def _python(home: Home) -> Row:
    home.single("placebo", "exec:python", 1)
    seconds, output = home.single("placebo", "exec:python", 500)
    assert "outcome = success (single:500/500)" in output, output[-2000:]
    whole = sum("success_event" in path.read_text() for path in home.outputs("placebo", task(output), "run.out"))
    return at_least(f"500 Python instances met at a barrier in {seconds:.0f} s; complete outputs", whole, 500)


def _rebuild(home: Home) -> Iterator[Row]:
    for builder in ("exec:generic", "exec:python"):
        home.run("build", "single", "--plan", "placebo", "--builder", builder, "--wait")
        _, output = home.run("build", "single", "--plan", "placebo", "--builder", builder, "--wait")
        queued = re.search(r"build queued with ID: (\S+)", output)
        assert queued and "build skipped" in output, output
        _, taken_up, *_, done = home.moments(queued[1])
        yield below(f"rebuild with nothing changed, {builder}, in the daemon", (done - taken_up) * 1000, 100, "ms")


def _upload(home: Home) -> Iterator[Row]:
    plan = home.root / "plans" / "placebo"
    build = ("build", "single", "--plan", "placebo", "--builder", "exec:generic", "--wait")
    client_before, daemon_before = _client_peak(home, build), resident(home.daemon.pid, "VmHWM")
    with plan.joinpath("big.bin").open("wb") as file:
        for _ in range(200):
            file.write(os.urandom(MEBIBYTE))
    started = time.perf_counter()
    client_after = _client_peak(home, build)
    seconds = time.perf_counter() - started
    daemon_after = resident(home.daemon.pid, "VmHWM")
    plan.joinpath("big.bin").unlink()
    yield below(
        f"200 MB plan uploaded and built in {seconds:.1f} s; the client grows by",
        client_after - client_before,
        80,
        "MiB",
    )
    yield below("  and the daemon by", daemon_after - daemon_before, 80, "MiB")


def _client_peak(home: Home, arguments: tuple[str, ...]) -> float:
    """Peak resident memory of one command, in MiB."""
    script = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *COMMAND, *arguments],
        env=environment(home.root),
        cwd=home.root,
        capture_output=True,
        text=True,
        check=True,
    )
    unit = 1 if sys.platform == "darwin" else 1024
    return int(done.stdout) * unit / MEBIBYTE


def _bare_start() -> float:
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - started
