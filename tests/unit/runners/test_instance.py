"""What is heard from an instance, and what is kept of it."""

import resource
import shutil
import time
from contextlib import contextmanager

import pytest

from testground.runners import instance
from testground.runners.instance import Listener, Spool, Stage
from testground.runners.verdict import Ledger
from testground.sync.service import Member

OK = b'{"event":{"success_event":{"group":"g"}}}\n'
FAIL = b'{"event":{"failure_event":{"group":"g","error":"oops"}}}\n'
MESSAGE = b'{"event":{"message_event":{"message":"hello"}}}\n'


class Shown:
    """An Output that keeps what it is told."""

    def __init__(self):
        self.lines = []
        self.warnings = []

    def write(self, data):
        self.lines += data.decode().splitlines(keepends=True)

    def warn(self, message, **fields):
        self.warnings.append(message)


@pytest.fixture
def shown():
    return Shown()


@pytest.fixture
def ledger():
    return Ledger(Member("run", "g", 0))


@pytest.fixture
def listener(tmp_path, ledger, shown):
    listener = Listener(ledger, "g[000]", Stage(shown, time.monotonic()), Spool(tmp_path))
    yield listener
    listener.close()


@contextmanager
def full_disk(size):
    """A limit on the size of files stands in for it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize(
    "flood",
    [b"y\n", b'{"level":"info","msg":"a line of a JSON logger"}\n', MESSAGE, b'{"event":{"dance_event":{}}}\n', OK],
    ids=["text", "json", "messages", "unknown events", "successes"],
)
def test_a_flood_of_anything_is_cut_and_what_decides_is_heard(listener, ledger, shown, flood):
    listener.stdout(flood * 30_000)
    assert len(shown.lines) <= instance.SHOWN_LINES + 2
    assert shown.lines[-1].endswith("from here on only its outcome is shown\n")
    listener.stdout(flood * 100 + FAIL + flood * 100)
    assert ledger.complaint == "failed: oops"
    assert shown.lines[-1].endswith("FAIL << g[000] >> oops\n")


def test_what_the_instances_of_a_run_may_show_together_is_bounded(tmp_path, ledger, shown, monkeypatch):
    """Each has a word in any case."""
    monkeypatch.setattr(instance, "SHOWN_OF_ALL", 15_000)
    stage = Stage(shown, time.monotonic())
    for index in range(10):
        listener = Listener(ledger, f"g[{index:03}]", stage, Spool(tmp_path))
        listener.stdout(b"y\n" * 12_000)
        listener.close()
    assert 15_000 <= len(shown.lines) <= 15_000 + 10 * (instance.SHOWN_OF_EACH + 1)
    assert sum("g[009]" in line for line in shown.lines) == instance.SHOWN_OF_EACH + 1


def test_the_last_lines_are_the_last_ones_also_after_a_flood(listener, ledger):
    listener.stdout(b"y\n" * 30_000)
    listener.stdout(b"".join(b"line %d\n" % number for number in range(20)))
    listener.stderr(b"on stderr\n")
    assert list(ledger.last_lines)[-3:] == ["line 18", "line 19", "on stderr"]


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_a_long_line_is_shortened_in_the_log_and_the_result(listener, ledger, shown, stream):
    getattr(listener, stream)(b"x" * 1_000_000 + b"\n")
    assert len(shown.lines[0]) < 2 * instance.LONGEST_SHOWN
    assert len(ledger.last_lines[0]) == instance.LONGEST_LAST


def test_what_cannot_be_processed_is_no_success(listener, ledger, shown, monkeypatch):
    """Whatever goes wrong while an instance is heard: it may have said that it failed."""
    monkeypatch.setattr(shown, "write", lambda data: 1 / 0)
    listener.stdout(b"hello\n")
    monkeypatch.undo()
    listener.stdout(OK)
    ledger.ended(0, 1.0)
    assert ledger.reason == "what it printed could not be read: ZeroDivisionError: division by zero"


def test_output_lies_in_the_outputs_from_the_start_and_gets_its_name_at_the_end(listener, tmp_path, shown):
    listener.stdout(b"hello\n")
    assert (tmp_path / "run.out.partial").read_bytes() == b"hello\n"
    listener.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.err", "run.out"]
    assert (tmp_path / "run.out").read_bytes() == b"hello\n" and (tmp_path / "run.err").read_bytes() == b""
    assert not shown.warnings


def test_files_that_the_instance_writes_itself_are_left_alone(listener, tmp_path):
    listener.stdout(b"before the SDK\n")
    for name in ("run.out", "run.err"):
        (tmp_path / name).write_text("by the SDK")
    listener.stdout(b"after\n")
    listener.stderr(b"after\n")
    listener.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.err", "run.out"]
    assert (tmp_path / "run.out").read_text() == (tmp_path / "run.err").read_text() == "by the SDK"


def test_a_full_disk_costs_output_but_no_verdict(listener, ledger, tmp_path, shown):
    with full_disk(100):
        listener.stdout(b"x" * 200 + b"\n" + OK)
        listener.close()
    assert ledger.said_ok
    assert (tmp_path / "run.out").read_bytes() == b"x" * 100
    assert shown.warnings == ["g[000]: its output is not all in its outputs: run.out: File too large"]


def test_an_instance_that_removes_its_outputs_is_heard_all_the_same(listener, ledger, tmp_path, shown):
    shutil.rmtree(tmp_path)
    listener.stdout(OK)
    listener.close()
    assert ledger.said_ok and "No such file or directory" in shown.warnings[0]


def test_more_output_than_is_kept_is_said(listener, tmp_path, shown, monkeypatch):
    monkeypatch.setattr(instance, "SPOOLED_BYTES", 1 << 20)
    spool = Spool(tmp_path)
    spool.stdout(b"x" * (3 << 20))
    spool.stdout(b"x")
    spool.close()
    assert (tmp_path / "run.out").stat().st_size == 1 << 20
    assert spool.lost == "run.out ends after 1 MiB"
