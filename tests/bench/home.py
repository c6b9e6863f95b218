"""A daemon in a home of its own, its plans, and what it wrote down about them."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

COMMAND = (sys.executable, "-m", "testground")
CHECKOUT = Path(__file__).parents[2]
SETTINGS = '[daemon]\nlisten = "localhost:0"\nsync_listen = "127.0.0.1:0"\n'
STOP_SECONDS = 60

FINISHED = re.compile(r"finished run with ID: (\S+)")
ARTIFACT = re.compile(r"artifact\W+(/[^\s\"]+)")


class Home:
    """Made by `opened`."""

    def __init__(self, root: Path, daemon: subprocess.Popen[str]) -> None:
        self.root = root
        self.daemon = daemon

    def run(self, *arguments: str) -> tuple[float, str]:
        """Seconds and output of one command."""
        started = time.perf_counter()
        done = subprocess.run(
            [*COMMAND, *arguments],
            env=environment(self.root),
            cwd=self.root,
            capture_output=True,
            text=True,
            check=False,
        )
        seconds = time.perf_counter() - started
        if done.returncode:
            raise RuntimeError(f"{arguments} exited with {done.returncode}:\n{done.stdout[-5000:]}{done.stderr}")
        return seconds, done.stdout

    def single(self, plan: str, builder: str, instances: int, *more: str) -> tuple[float, str]:
        """A run of the test case `ok` on `local:exec`."""
        what = ("--plan", plan, "--testcase", "ok", "--builder", builder, "--runner", "local:exec")
        return self.run("run", "single", *what, "--instances", str(instances), "--wait", *more)

    def moments(self, task_id: str) -> list[float]:
        """When a task was submitted, taken up and done, in seconds of the clock, from the daemon's own record."""
        with sqlite3.connect(f"file:{self.root}/data/daemon/tasks.db?mode=ro", uri=True) as db:
            (document,) = db.execute("SELECT document FROM tasks WHERE id = ?", (task_id,)).fetchone()
        return [datetime.fromisoformat(state["created"]).timestamp() for state in json.loads(document)["states"]]

    def outputs(self, plan: str, task_id: str, name: str) -> list[Path]:
        """The file `name` of all instances of a run of one group."""
        return sorted(self.root.glob(f"data/outputs/local_exec/{plan}/{task_id}/single/*/{name}"))


@contextmanager
def opened(
    plans: Mapping[str, Mapping[str, str]], become: Callable[..., Sequence[str]] = lambda *argv: argv
) -> Iterator[Home]:
    """Each plan is its files, by name. `become` makes the daemon's command line one that runs it as somebody else."""
    with tempfile.TemporaryDirectory(prefix="testground-bench-") as directory:
        root = Path(directory)
        for plan, files in plans.items():
            folder = root / "plans" / plan
            folder.mkdir(parents=True)
            for name, text in files.items():
                folder.joinpath(name).write_text(text)
                folder.joinpath(name).chmod(0o755)
        root.joinpath(".env.toml").write_text(SETTINGS)
        daemon = subprocess.Popen(
            become(*COMMAND, "daemon"), env=environment(root), stdout=subprocess.PIPE, cwd=CHECKOUT, text=True
        )
        try:
            assert daemon.stdout is not None
            for line in daemon.stdout:
                if "daemon listening" in line:
                    break
            yield Home(root, daemon)
        finally:
            daemon.terminate()
            daemon.communicate(timeout=STOP_SECONDS)


def task(output: str) -> str:
    """The id of the run that a command has waited for."""
    found = FINISHED.search(output)
    assert found, output[-2000:]
    return found[1]


def artifact(output: str) -> str:
    """Which one a command has built."""
    found = ARTIFACT.search(output)
    assert found, output[-2000:]
    return found[1]


def environment(root: Path) -> dict[str, str]:
    return {**os.environ, "TESTGROUND_HOME": str(root)}
