"""What testground itself costs: a run, a rebuild, an upload, `--help`. Everything through the real command line."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from tests.bench.processes import resident
from tests.bench.row import Row, at_least, below

COMMAND = (sys.executable, "-m", "testground")
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


class Home:
    """A home with the placebo plan and a daemon."""

    def __init__(self, root: Path, daemon: subprocess.Popen[str]) -> None:
        self.root = root
        self.daemon = daemon

    def run(self, *arguments: str) -> tuple[float, str]:
        """Seconds and output of one command."""
        started = time.perf_counter()
        done = subprocess.run(
            [*COMMAND, *arguments],
            env=_environment(self.root),
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - started
        if done.returncode:
            raise RuntimeError(f"{arguments} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
        return seconds, done.stdout

    def single(self, builder: str, instances: int, *more: str) -> tuple[float, str]:
        what = ("--plan", "placebo", "--testcase", "ok", "--builder", builder, "--runner", "local:exec")
        return self.run("run", "single", *what, "--instances", str(instances), "--wait", *more)


def bench() -> list[Row]:
    with _home() as home:
        return [_help(home), *_runs(home), _python(home), *_rebuild(home), *_upload(home)]


def _help(home: Home) -> Row:
    return below("testground --help", min(home.run("--help")[0] for _ in range(5)), 0.3, "s")


def _runs(home: Home) -> Iterator[Row]:
    _, output = home.single("exec:generic", 1)
    artifact = re.search(r'"artifact": "([^"]+)"', output)
    assert artifact, output
    bare = min(_bare_start() for _ in range(5))
    two = min(home.single("exec:generic", 2, "--use-build", artifact.group(1))[0] for _ in range(5))
    yield below("run single of a placebo, 2 instances, built before", two, 0.5, "s")
    yield Row("  of which: an interpreter that starts and ends", bare, "s")
    many = min(home.single("exec:generic", 200)[0] for _ in range(3))
    yield below("run single, 200 shell instances", many, 5, "s")


def _python(home: Home) -> Row:
    home.single("exec:python", 1)
    seconds, output = home.single("exec:python", 500)
    task = re.search(r"finished run with ID: (\S+)", output)
    assert task and "outcome = success (single:500/500)" in output, output[-2000:]
    instances = home.root.glob(f"data/outputs/local_exec/placebo/{task.group(1)}/single/*/run.out")
    whole = sum("success_event" in path.read_text() for path in instances)
    return at_least(f"500 Python instances met at a barrier in {seconds:.0f} s; complete outputs", whole, 500)


def _rebuild(home: Home) -> Iterator[Row]:
    for builder in ("exec:generic", "exec:python"):
        home.run("build", "single", "--plan", "placebo", "--builder", builder, "--wait")
        _, output = home.run("build", "single", "--plan", "placebo", "--builder", builder, "--wait")
        task = re.search(r"build queued with ID: (\S+)", output)
        assert task and "build skipped" in output, output
        yield below(
            f"rebuild with nothing changed, {builder}, in the daemon", _span(home, task.group(1)) * 1000, 100, "ms"
        )


def _span(home: Home, task_id: str) -> float:
    """Seconds from `processing` to `complete`, from the daemon's own record."""
    with sqlite3.connect(f"file:{home.root}/data/daemon/tasks.db?mode=ro", uri=True) as db:
        (document,) = db.execute("SELECT document FROM tasks WHERE id = ?", (task_id,)).fetchone()
    moments = [datetime.fromisoformat(state["created"]) for state in json.loads(document)["states"]]
    return (moments[-1] - moments[1]).total_seconds()


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
        env=_environment(home.root),
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


@contextmanager
def _home() -> Iterator[Home]:
    with tempfile.TemporaryDirectory(prefix="testground-bench-") as directory:
        root = Path(directory)
        plan = root / "plans" / "placebo"
        plan.mkdir(parents=True)
        plan.joinpath("manifest.toml").write_text(MANIFEST)
        plan.joinpath("placebo.sh").write_text(SHELL)
        plan.joinpath("placebo.sh").chmod(0o755)
        plan.joinpath("main.py").write_text(PYTHON)
        root.joinpath(".env.toml").write_text('[daemon]\nlisten = "localhost:0"\nsync_listen = "127.0.0.1:0"\n')
        daemon = subprocess.Popen([*COMMAND, "daemon"], env=_environment(root), stdout=subprocess.PIPE, text=True)
        try:
            assert daemon.stdout is not None
            for line in daemon.stdout:
                if "daemon listening" in line:
                    break
            yield Home(root, daemon)
        finally:
            daemon.terminate()
            daemon.communicate(timeout=60)


def _environment(root: Path) -> dict[str, str]:
    return {**os.environ, "TESTGROUND_HOME": str(root)}
