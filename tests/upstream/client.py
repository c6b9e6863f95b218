"""Upstream's client (Go, v0.6.0) as a user has it: a process with a home of its own, told where our daemon listens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.acceptance.conftest import Finished
from tests.acceptance.processes import Running
from tests.upstream.programs import program

CASES = ("ok", "fail", "optional", "silent", "hang", "quiet", "odd", "flood", "list")

MANIFEST = """name = "shell"
[builders."exec:generic"]
artifact = "run.sh"
[runners."local:exec"]
""" + "".join(
    f'[[testcases]]\nname = "{case}"\ninstances = {{ min = 1, max = 20 }}\n'
    '[testcases.params]\nword = { type = "string", desc = "a word", default = "hello" }\n'
    'times = { type = "int", desc = "how often", unit = "times", default = 3 }\n'
    for case in CASES
)

RUN = r"""#!/bin/sh
finish() { printf '{"event":{"%s":{"group":"%s"%s}}}\n' "$1" "$TEST_GROUP_ID" "$2"; }
case "$TEST_CASE" in
    fail) finish failure_event ',"error":"as planned"'; exit 1 ;;
    optional) case "$TEST_INSTANCE_PARAMS" in
        *word=fail*) finish failure_event ',"error":"as wished"'; exit 1 ;;
        *) finish success_event ;;
        esac ;;
    silent) ;;
    hang) echo hanging; exec sleep 1000 ;;
    quiet) exec sleep 1000 ;;
    odd) printf 'odd \377 <&> \033[1mbold\033[0m\n'; head -c 200000 /dev/zero | tr '\0' x; echo; finish success_event ;;
    flood) yes "$(head -c 4000 /dev/zero | tr '\0' x)" | head -n 2000; finish success_event ;;
    list) cd "$(dirname "$0")" && find . -type f | sort; finish success_event ;;
    *) echo "$TEST_INSTANCE_PARAMS metrics disabled: $TEST_DISABLE_METRICS"; finish success_event ;;
esac
"""


@dataclass(frozen=True, slots=True)
class GoClient:
    """Runs in `directory`. Its plans are those below `home`, which the daemon knows nothing of.

    Without an `endpoint`, it has that of its configuration.
    """

    home: Path
    directory: Path
    endpoint: str

    def __call__(self, *arguments: str) -> Finished:
        return self.start(*arguments).finish()

    def start(self, *arguments: str) -> Running:
        command = [str(program("testground")), *(("--endpoint", self.endpoint) if self.endpoint else ())]
        leftovers = {"TMPDIR": str(self.home)}  # it never removes its copies of plans
        return Running(self.home, self.directory, *arguments, program=command, environ=leftovers)

    def run(self, case: str, *more: str) -> Finished:
        return self(*single(case), *more)

    def status(self, task_id: str) -> dict[str, Any]:
        """What `status --extended` prints; the documents under `Input` and `Result`."""
        done = self("status", "--task", task_id, "--extended")
        assert done.exit_code == 0, done
        head, _, documents = done.stdout.partition("\nInput:\n")
        first, _, second = documents.partition("\n\nResult:\n")
        fields = dict(line.split(":\t", 1) for line in head.splitlines() if ":\t" in line)
        stripped = {name: value.strip() for name, value in fields.items()}
        return {**stripped, "Input": json.loads(first), "Result": json.loads(second)}

    def write(self, name: str, text: str) -> None:
        (self.directory / name).write_text(text)

    def read(self, name: str) -> str:
        return (self.directory / name).read_text()


def create(root: Path, endpoint: str) -> GoClient:
    """A client with a new home below `root` and the plan `shell`, which has a test case for each kind of end."""
    home, directory = root / "go-home", root / "work"
    directory.mkdir()
    write_plan(home / "plans" / "shell")
    return GoClient(home, directory, endpoint.replace("//localhost:", "//127.0.0.1:"))


def write_plan(plan: Path, manifest: str = MANIFEST) -> Path:
    plan.mkdir(parents=True)
    (plan / "manifest.toml").write_text(manifest)
    (plan / "run.sh").write_text(RUN)
    (plan / "run.sh").chmod(0o755)
    return plan


def single(case: str, instances: int = 1) -> list[str]:
    """`run single` of a case of the plan `shell`."""
    plan = ("--plan", "shell", "--testcase", case, "--builder", "exec:generic", "--runner", "local:exec")
    return ["run", "single", *plan, "--instances", str(instances)]


def awk(text: str, pattern: str, field: int, separator: str | None = None) -> list[str]:
    """`awk '/pattern/ { print $field }'`, which is how upstream's scripts read the client's output."""
    lines = [line for line in text.splitlines() if pattern in line]
    return [line.split(separator)[field - 1] for line in lines]
