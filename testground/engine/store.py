"""Tasks in SQLite: a row holds the task as JSON and the few columns that are searched by.

One connection, used from the engine's loop only: an insert takes tens of microseconds, so there is no thread.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from typing import Any

from testground.api import xid
from testground.api.task import DatedState, State, Task
from testground.errors import ConfigError, RunError, UnknownError


class Store:
    """All tasks of a home. `path` None keeps them in memory."""

    def __init__(self, path: Path | None) -> None:
        try:
            self._db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.executescript(_text("schema.sql"))
        except sqlite3.DatabaseError as error:
            raise ConfigError(f"cannot open the task store {path}: {error}") from error

    def close(self) -> None:
        self._db.close()

    def add(self, task: Task) -> None:
        created = task.created.timestamp()
        self._run("insert", **_columns(task), priority=task.priority, created=created)

    def save(self, task: Task) -> None:
        """Store a task again. One that was deleted meanwhile stays deleted."""
        self._run("update", **_columns(task))

    def get(self, task_id: str) -> Task:
        """Raises `UnknownError` for an id that is malformed or not there."""
        try:
            normal = xid.normalize(task_id)
        except ValueError as error:
            raise UnknownError(str(error)) from error
        row = self._run("get", id=normal).fetchone()
        if row is None:
            raise UnknownError("task not found")
        return _task(row)

    def delete(self, task_id: str) -> None:
        self._run("delete", id=task_id)

    def next_waiting(self) -> Task | None:
        """The waiting task of highest priority, the oldest among equals."""
        row = self._run("next").fetchone()
        return _task(row) if row else None

    def count_waiting(self) -> int:
        count: int = self._run("count_waiting").fetchone()[0]
        return count

    def in_state(self, state: State) -> list[Task]:
        return [_task(row) for row in self._run("in_state", state=state)]

    def between(self, states: Iterable[State], lower: float, upper: float) -> list[Task]:
        """Newest first; `lower` inclusive, `upper` exclusive, in Unix seconds."""
        wanted = json.dumps(list(states))
        return [_task(row) for row in self._run("between", states=wanted, lower=lower, upper=upper)]

    def _run(self, query: str, **values: Any) -> sqlite3.Cursor:
        try:
            return self._db.execute(_QUERIES[query], values)
        except sqlite3.Error as error:
            raise RunError(f"the task store cannot be used: {error}") from error


def enter(task: Task, state: State) -> None:
    """Append a state; the last one is the task's current one."""
    task.states.append(DatedState(created=datetime.now(UTC), state=state))


def _columns(task: Task) -> dict[str, Any]:
    return {"id": task.id, "state": task.state, "document": task.model_dump_json(by_alias=True)}


def _task(row: tuple[str]) -> Task:
    return Task.model_validate_json(row[0])


def _text(name: str) -> str:
    return resources.files("testground.engine").joinpath(name).read_text(encoding="utf-8")


def _queries(text: str) -> dict[str, str]:
    parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


_QUERIES = _queries(_text("queries.sql"))
