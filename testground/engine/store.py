"""Tasks in SQLite: a row holds the task as JSON and the few columns that are searched by.

One connection, written from the engine's loop only: an insert takes tens of microseconds, so there is no thread. Other
threads may read.
"""

from __future__ import annotations

import json
import logging
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib import resources
from itertools import takewhile
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import PydanticSerializationError

from testground.api import xid
from testground.api.model import explain
from testground.api.task import DatedState, State, Task
from testground.engine.series import RunKey
from testground.errors import ConfigError, RunError, UnknownError
from testground.plan.suggest import nearest

log = logging.getLogger(__name__)


class Store:
    """All tasks of a home. `path` None keeps them in memory."""

    def __init__(self, path: Path | None) -> None:
        self._path = path or "in memory"
        self._unsaved: dict[str, Task] = {}
        """What could not be written, as with a full disk; it is tried again with every use of the store."""
        try:
            self._db = _open(path)
        except sqlite3.DatabaseError as error:
            raise ConfigError(f"cannot open the task store {path}: {error}") from error

    def close(self) -> None:
        self._catch_up()
        for task in self._unsaved.values():
            log.error("task %s, which is %s (%s), could not be stored", task.id, task.state, task.outcome)
        self._db.close()

    def add(self, task: Task) -> None:
        """Raises `RunError` when there is no room for it."""
        created = task.created.timestamp()
        self._run("insert", **_columns(task), priority=task.priority, created=created)

    def replace(self, replaced: Sequence[Task], task: Task) -> None:
        """Store the new states of waiting tasks, and the task that takes their place: all or nothing.

        Raises `RunError`.
        """
        self._run("begin")
        try:
            for old in replaced:
                self._run("update", **_columns(old))
            self.add(task)
            self._run("commit")
        except BaseException:
            self._db.rollback()
            raise

    def save(self, task: Task) -> None:
        """Store a task again, now or as soon as possible. One that was deleted meanwhile stays deleted."""
        self._unsaved[task.id] = task
        self._catch_up()

    def get(self, task_id: str) -> Task:
        """Raises `UnknownError`, with the nearest id, for one that is malformed or not there."""
        try:
            normal = xid.normalize(task_id)
        except ValueError as error:
            raise UnknownError(f"{error}{self._nearest(task_id)}") from error
        self._catch_up()
        row = self._run("get", id=normal).fetchone()
        if row is None:
            raise UnknownError(f"task not found{self._nearest(task_id)}")
        found = list(self._tasks([row]))
        if not found:
            raise RunError(f"task {normal} cannot be read; another version of testground has written it")
        return found[0]

    def delete(self, task_id: str) -> None:
        self._run("delete", id=task_id)
        self._unsaved.pop(task_id, None)

    def next_waiting(self) -> Task | None:
        """The waiting task of highest priority, the oldest among equals."""
        self._catch_up()
        waiting = (task for task in self._tasks(self._run("waiting")) if task.id not in self._unsaved)
        return next(waiting, None)

    def waiting_of_branch(self, repo: str, branch: str) -> list[Task]:
        """The waiting runs that were created by a branch of a repository."""
        rows = self._run("waiting_of_branch", repo=_storable(repo), branch=_storable(branch))
        return [task for task in self._tasks(rows) if task.id not in self._unsaved]

    def count_waiting(self) -> int:
        count: int = self._run("count_waiting").fetchone()[0]
        return count

    def waiting_ahead(self, task_id: str) -> int:
        """How many waiting tasks come before this one."""
        return sum(1 for _ in takewhile(lambda row: row[0] != task_id, self._run("waiting")))

    def in_state(self, state: State) -> list[Task]:
        return list(self._tasks(self._run("in_state", state=state)))

    def between(self, states: Iterable[State], lower: float, upper: float) -> list[Task]:
        """Newest first; `lower` inclusive, `upper` exclusive, in Unix seconds."""
        wanted = json.dumps(list(states))
        return list(self._tasks(self._run("between", states=wanted, lower=lower, upper=upper)))

    def runs_since(self, moment: float) -> list[RunKey]:
        """The runs created since then, in Unix seconds; oldest first."""
        return sorted(RunKey(*row) for row in self._run("runs_since", moment=moment))  # ids begin with the time

    def _tasks(self, rows: Iterable[tuple[str, str]]) -> Iterator[Task]:
        """One that cannot be read must not stop a daemon from starting."""
        for task_id, document in rows:
            try:
                yield self._unsaved.get(task_id) or Task.model_validate_json(document)
            except ValidationError as error:
                log.warning("task %s cannot be read: %s", task_id, explain(error))

    def _catch_up(self) -> None:
        for task in list(self._unsaved.values()):
            try:
                self._run("update", **_columns(task))
            except (RunError, ValueError) as error:
                log.warning("task %s: %s", task.id, error)
            else:
                del self._unsaved[task.id]

    def _nearest(self, task_id: str) -> str:
        return nearest(task_id, (known for (known,) in self._run("newest")))

    def _run(self, query: str, **values: Any) -> sqlite3.Cursor:
        try:
            return self._db.execute(_QUERIES[query], values)
        except sqlite3.Error as error:
            raise RunError(f"the task store {self._path} cannot be used: {error}") from error


def enter(task: Task, state: State) -> None:
    """Append a state; the last one is the task's current one."""
    task.states.append(DatedState(created=datetime.now(UTC), state=state))


def _open(path: Path | None) -> sqlite3.Connection:
    db = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(_text("schema.sql"))
    except BaseException:
        db.close()
        raise
    return db


def _columns(task: Task) -> dict[str, Any]:
    return {"id": task.id, "state": task.state, "document": _document(task)}


def _document(task: Task) -> str:
    try:
        return task.model_dump_json(by_alias=True)
    except PydanticSerializationError:  # half a surrogate pair, as in the name of a file that is not UTF-8
        return _storable(json.dumps(task.wire(), ensure_ascii=False))


def _storable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()


def _text(name: str) -> str:
    return resources.files("testground.engine").joinpath(name).read_text(encoding="utf-8")


def _queries(text: str) -> dict[str, str]:
    parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


_QUERIES = _queries(_text("queries.sql"))
