"""Instances that say what a test wants them to say, on standard output and to the sync service, run by a daemon.

A voice is a list of steps, each a pair: `print` a line, or a `long` one that has a megabyte between two texts;
`publish` an event (JSON text) on the run-events topic, or at a host and a port of its own (`publish-at`); put the
environment as JSON into a `file` of the outputs; `exit` with a code.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import httpx

from testground.api.rpc import Chunk, ChunkDecoder
from testground.config import Home
from testground.daemon import lock
from tests.acceptance.conftest import DEADLINE

Voice: TypeAlias = Sequence[tuple[str, Any]]

VOICE = f"""#!{sys.executable}
import asyncio, json, os, pathlib, sys
from testground.sync.client import SyncConnection

env = os.environ
prefix = "run:{{TEST_RUN}}:plan:{{TEST_PLAN}}:case:{{TEST_CASE}}:".format_map(env)

async def say(steps, sync):
    for verb, value in steps:
        if verb == "print":
            print(value, flush=True)
        elif verb == "long":
            print(value[0] + "x" * 1_000_000 + value[1], flush=True)
        elif verb == "publish":
            await sync.publish(prefix + "run_events", value.encode())
        elif verb == "publish-at":
            async with SyncConnection.open(value[0], value[1]) as named:
                await named.publish(prefix + "run_events", value[2].encode())
        elif verb == "file":
            pathlib.Path(env["TEST_OUTPUTS_PATH"], value).write_text(json.dumps(dict(env)))
        elif verb == "exit":
            return value
    return 0

async def main():
    [voice] = [entry[6:] for entry in env["TEST_INSTANCE_PARAMS"].split("|") if entry.startswith("voice=")]
    host, port = env["SYNC_SERVICE_HOST"], int(env["SYNC_SERVICE_PORT"])
    async with SyncConnection.open(host, port) as sync:
        return await say(json.loads(voice), sync)

sys.exit(asyncio.run(main()))
"""


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of a run: its task, and its log."""

    task: dict[str, Any]
    log: str

    @property
    def outcomes(self) -> dict[str, tuple[int, int]]:
        return {group: (counts["ok"], counts["total"]) for group, counts in self.task["result"]["outcomes"].items()}

    def reason(self, group: str, index: int = 0) -> str:
        """Why an instance failed; empty if it did not."""
        name = f"{group}[{index:03}]"
        return "".join(failure["reason"] for failure in self.task["result"]["failures"] if failure["instance"] == name)


@dataclass(frozen=True, slots=True)
class Stage:
    """A running daemon, and where artifacts for it may lie."""

    home: Path
    directory: Path

    @property
    def sync_port(self) -> int:
        return int(self._holder.sync.rpartition(":")[2])

    def hear(self, voices: Mapping[str, Voice], instances: int = 1, **options: Any) -> Heard:
        """Run a group of that many instances for each voice, and wait for the end. `options` are the runner's."""
        artifact = self.directory / "voice.py"
        artifact.write_text(VOICE)
        artifact.chmod(0o755)
        groups = [
            {
                "id": name,
                "instances": {"count": instances},
                "run": {"artifact": str(artifact), "test_params": {"voice": json.dumps(voice)}},
            }
            for name, voice in voices.items()
        ]
        most = len(groups) * instances
        task_id = self.ask("/run", _request(groups, most, options))[-1].payload
        *progress, task = self.ask("/logs", {"task_id": task_id, "follow": True})
        assert isinstance(task.payload, dict), task
        return Heard(task.payload, b"".join(chunk.payload for chunk in progress).decode())

    def ask(self, path: str, body: dict[str, Any]) -> list[Chunk]:
        answer = httpx.post(f"{self._holder.endpoint}{path}", json=body, timeout=DEADLINE)
        return list(ChunkDecoder().feed(answer.content))

    @property
    def _holder(self) -> lock.Holder:
        found = lock.holder(Home(self.home))
        assert found is not None
        return found


def _request(groups: list[dict[str, Any]], most: int, options: dict[str, Any]) -> dict[str, Any]:
    names = {"plan": "voices", "case": "speak", "builder": "exec:generic", "runner": "local:exec"}
    whole = {**names, "run_config": options}
    case = {"Name": "speak", "Instances": {"Minimum": 1, "Maximum": most}, "Parameters": {"voice": {"Type": "json"}}}
    manifest = {"Name": "voices", "Builders": {"exec:generic": {}}, "Runners": {"local:exec": {}}, "TestCases": [case]}
    return {"composition": {"global": whole, "groups": groups}, "manifest": manifest}
