import sqlite3
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta

import pytest

from testground.api import xid
from testground.api.task import CreatedBy, DatedState, State, Task, TaskType
from testground.engine.store import Store, enter
from testground.errors import ConfigError, RunError, UnknownError

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def _task(state=State.SCHEDULED, priority=0, age=0, kind=TaskType.RUN):
    states = [DatedState(created=NOW - timedelta(seconds=age), state=state)]
    return Task(id=xid.new(), type=kind, priority=priority, states=states)


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "tasks.db")
    yield store
    store.close()


def test_priority_first_then_age(store):
    young, old, urgent = _task(age=1), _task(age=9), _task(priority=1)
    for task in (young, old, urgent):
        store.add(task)
    order = []
    while task := store.next_waiting():
        order.append(task.id)
        enter(task, State.PROCESSING)
        store.save(task)
    assert order == [urgent.id, old.id, young.id]
    assert store.count_waiting() == 0


def test_survives_reopening(tmp_path):
    first = Store(tmp_path / "tasks.db")
    task = _task()
    first.add(task)
    first.close()
    second = Store(tmp_path / "tasks.db")
    assert second.get(task.id) == task
    second.close()


def test_other_spellings_of_an_id_are_the_same_task(store):
    task = _task()
    task.id = xid.encode(bytes(11) + b"\x01")  # ends in one significant bit
    store.add(task)
    other = task.id[:-1] + xid.ALPHABET[xid.ALPHABET.index(task.id[-1]) + 1]
    assert store.get(other).id == task.id


@pytest.mark.parametrize(
    ("task_id", "text"), [("bad", "task key must be a xid id"), ("c0ffee0000000000000g", "task not found")]
)
def test_unknown_ids(store, task_id, text):
    with pytest.raises(UnknownError, match=text):
        store.get(task_id)


def test_the_nearest_id_is_named(store):
    task = _task()
    store.add(task)
    mistyped = ("0" if task.id[5] != "0" else "1").join((task.id[:5], task.id[6:]))
    for wrong in (mistyped, task.id[1:], task.id + "x"):
        with pytest.raises(UnknownError, match=f"; did you mean '{task.id}'\\?$"):
            store.get(wrong)
    with pytest.raises(UnknownError, match="xid id$"):
        store.get("nothing like it")


def test_between_bounds(store):
    early, late = _task(age=100), _task(age=10)
    store.add(early)
    store.add(late)
    at = NOW.timestamp()
    assert [t.id for t in store.between([State.SCHEDULED], at - 100, at)] == [late.id, early.id]
    assert [t.id for t in store.between([State.SCHEDULED], at - 99, at)] == [late.id]
    assert [t.id for t in store.between([State.SCHEDULED], 0, at - 10)] == [early.id]
    assert store.between([], 0, at) == [] and store.between([State.COMPLETE], 0, at) == []


def test_deleted_stays_deleted(store):
    task = _task()
    store.add(task)
    store.delete(task.id)
    store.save(task)
    with pytest.raises(UnknownError):
        store.get(task.id)


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "tasks.db").write_text("hello, this is not a database\n" * 100)
    with pytest.raises(ConfigError, match="cannot open the task store"):
        Store(tmp_path / "tasks.db")


def test_what_finds_no_room_is_kept_and_stored_later(tmp_path, caplog):
    """A store that may not grow stands in for a full disk."""
    store = Store(tmp_path / "tasks.db")
    task = _task()
    store.add(task)
    with _no_room(store):
        enter(task, State.PROCESSING)
        task.error = "x" * 100_000
        store.save(task)
        assert store.next_waiting() is None, "its row still says that it waits"
        with pytest.raises(RunError, match="full"):
            store.add(_task().model_copy(update={"error": "x" * 100_000}))
        enter(task, State.COMPLETE)
        store.save(task)
        assert store.get(task.id).state is State.COMPLETE
    store.close()
    again = Store(tmp_path / "tasks.db")
    assert again.get(task.id) == task
    with _no_room(again):
        task.error = "y" * 200_000
        again.save(task)
        again.close()
    assert "could not be stored" in caplog.text


def test_what_could_not_be_stored_can_be_deleted(store):
    task = _task()
    store.add(task)
    with _no_room(store):
        task.error = "x" * 100_000
        store.save(task)
        store.delete(task.id)
    with pytest.raises(UnknownError):
        store.get(task.id)


def test_one_task_that_cannot_be_read_hides_no_other(store):
    """As after a change of the format."""
    foreign, task = _task(age=1), _task()
    for each in (foreign, task):
        store.add(each)
    store._db.execute("UPDATE tasks SET document = '{\"states\": 3}' WHERE id = ?", [foreign.id])
    assert store.next_waiting() == task
    assert store.in_state(State.SCHEDULED) == [task] == store.between([State.SCHEDULED], 0, NOW.timestamp() + 1)
    with pytest.raises(RunError, match=f"task {foreign.id} cannot be read"):
        store.get(foreign.id)
    store.delete(foreign.id)


def test_text_that_is_no_unicode_is_stored(store):
    task = _task()
    store.add(task)
    task.error, task.result = "half a \ud83d pair", {"failures": [{"reason": "\udcff"}]}
    store.save(task)
    assert store.get(task.id).error == "half a ? pair"


@contextmanager
def _no_room(store):
    store._db.execute("PRAGMA max_page_count = 1")  # as many as there are
    yield
    with suppress(sqlite3.ProgrammingError):  # it was closed
        store._db.execute("PRAGMA max_page_count = 1000000")


def _of_branch(repo="r", branch="b", **how):
    return _task(**how).model_copy(update={"created_by": CreatedBy(repo=repo, branch=branch)})


def test_waiting_runs_of_a_branch(store):
    wanted = _of_branch()
    others = [
        _of_branch(repo="other"),
        _of_branch(branch="other"),
        _of_branch(kind=TaskType.BUILD),
        _of_branch(state=State.PROCESSING),
        _task(),
    ]
    for task in (wanted, *others):
        store.add(task)
    assert [task.id for task in store.waiting_of_branch("r", "b")] == [wanted.id]


def test_replacement_is_all_or_nothing(store):
    old, new = _of_branch(), _of_branch()
    store.add(old)
    canceled = store.get(old.id)
    enter(canceled, State.CANCELED)
    with pytest.raises(RunError):
        store.replace([canceled], old)  # its id is taken
    assert store.get(old.id).state is State.SCHEDULED
    store.replace([canceled], new)
    assert store.get(old.id).state is State.CANCELED
    assert store.next_waiting().id == new.id
