"""Our command line beside upstream's daemon: two homes that know nothing of each other, and an endpoint."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.acceptance.conftest import DEADLINE, CommandLine, Finished
from tests.acceptance.processes import Running, start
from tests.upstream import daemon

PLANS = Path(__file__).parent / "plans"
BUILD_DEADLINE = 400.0
"""Seconds for a first build, in which upstream's builder compiles the standard library without optimisation."""

MANIFEST = """name = "{name}"
[builders."exec:go"]
[runners."local:exec"]
[[testcases]]
name = "end"
instances = {{ min = 1, max = 10 }}
"""


@dataclass(frozen=True, slots=True)
class Remote:
    """Commands that are told on the command line where the daemon listens."""

    cli: CommandLine
    endpoint: str
    artifact: str
    """Of the plan `events`, built by the daemon."""

    def __call__(self, *arguments: str, deadline: float = DEADLINE) -> Finished:
        return self.cli("--endpoint", self.endpoint, *arguments, deadline=deadline)

    def start(self, *arguments: str) -> Running:
        return start(self.cli, "--endpoint", self.endpoint, *arguments)

    def inside(self, directory: Path) -> Remote:
        return replace(self, cli=replace(self.cli, directory=directory))

    def run(self, case: str, *more: str) -> list[str]:
        """Arguments of a run of one instance, which needs no build."""
        plan = ("--plan", "events", "--testcase", case, "--use-build", self.artifact)
        return ["run", "single", *plan, "--builder", "exec:go", "--runner", "local:exec", "--instances", "1", *more]

    def state(self, task_id: str) -> dict[str, str]:
        """What `status` says, line by line."""
        done = self("status", "--task", task_id)
        assert done.exit_code == 0, done
        return dict(line.split(":", 1) for line in done.stdout.replace("\t", "").splitlines() if ":" in line[1:])

    def request(self, task_id: str) -> dict[str, Any]:
        """The request of a task as the daemon has read it."""
        done = self("status", "--task", task_id, "--extended")
        text = done.stdout.partition("\nInput:\n")[2].partition("\n\nResult:\n")[0]
        request: dict[str, Any] = json.loads(text)
        return request


@contextlib.contextmanager
def served(root: Path) -> Iterator[Remote]:
    """A daemon below `root` with four workers, and a home that has the plan `events`."""
    (root / "upstream").mkdir()
    home = home_with_events(root / "home")
    with daemon.started(root / "upstream", "[daemon.scheduler]\nworkers = 4") as endpoint:
        remote = Remote(CommandLine(home, root), endpoint, "")
        built = remote("build", "single", "--plan", "events", "--builder", "exec:go", "--wait", deadline=BUILD_DEADLINE)
        [line] = built.log("generated build artifact")
        yield replace(remote, artifact=json.loads(line.rpartition("\t")[2])["artifact"])


def home_with_events(home: Path, settings: str = "") -> Path:
    (home / "plans").mkdir(parents=True)
    (home / "plans" / "events").symlink_to(PLANS / "events")
    (home / ".env.toml").write_text(settings)
    return home


def write_plan(remote: Remote, name: str, **files: str) -> Path:
    """A Go plan among those of the home, with a manifest and a module unless `files` says otherwise."""
    directory = remote.cli.home / "plans" / name
    directory.mkdir()
    texts = {"manifest.toml": MANIFEST.format(name=name), "go.mod": f"module {name}\n\ngo 1.21\n", **files}
    for path, text in texts.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_text(text)
    return directory
