"""Series of values over the runs of the last days, read from the outputs of the runs (client-daemon §1.5).

A series is `results.PLAN-CASE.METRIC.TYPE`, as instances name what they send to InfluxDB (contract §5.5). Its rows are
runs, its columns the combinations of tags that the metric has; a cell is the mean over all instances. Only points and
gauges have one value; as in the original, the other types make an empty table.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple

import msgspec
from anyio import from_thread

from testground.config import Home
from testground.errors import RequestError, RunError, UnknownError
from testground.runners import outputs

DAYS = 7
FORM = "results.PLAN-CASE.METRIC.TYPE"

_IGNORED = frozenset(("plan", "case", "group_id", "run"))
"""Tags that tell instances and runs apart, not what was measured."""

_LONGEST_LINE = 1 << 16


class RunKey(NamedTuple):
    """What tells which series a run has values of."""

    id: str
    runner: str
    plan: str
    case: str


class _Line(msgspec.Struct):
    ts: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
    type: str
    name: str
    measures: dict[str, float]


@dataclass(slots=True)
class _Row:
    last: int = 0
    """Time of the last value, in nanoseconds."""
    sums: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    counts: dict[str, int] = field(default_factory=lambda: defaultdict(int))


def table(name: str, runs: Iterable[RunKey], home: Home, since: float) -> list[list[str]]:
    """`Time` and the columns, then a row for each run that has values younger than `since`, in Unix seconds.

    Reads many files: call it in a worker thread. Raises `RequestError` for a name that is not of the form of a series.
    """
    head, _, kind = name.rpartition(".")
    if not head.startswith("results.") or head.count(".") < 2 or not kind:
        raise RequestError(f"{name}: a series is named {FORM}")
    rows = []
    for run in runs:
        prefix = f"results.{_flat(run.plan)}-{_flat(run.case)}."
        if head.startswith(prefix):
            row = _row(run, head.removeprefix(prefix), kind, home, since)
            rows += [row] if row.counts else []
    columns = sorted({column for row in rows for column in row.counts})
    return [["Time", *columns], *(_cells(row, columns) for row in rows)]


def _flat(name: str) -> str:
    return name.replace("/", "-")


def _row(run: RunKey, metric: str, kind: str, home: Home, since: float) -> _Row:
    row = _Row()
    for file in _files(run, home):
        from_thread.check_cancelled()
        with _opened(file) as opened:
            for line in _lines(opened):
                name, _, tags = line.name.partition(",")
                value = line.measures.get("value")
                if name == metric and line.type == kind and value is not None and line.ts > since * 1e9:
                    column = _column(tags)
                    row.sums[column] += value
                    row.counts[column] += 1
                    row.last = max(row.last, line.ts)
    return row


def _files(run: RunKey, home: Home) -> Iterator[Path]:
    """The results of each instance; a plan may have put something else than a file in their place."""
    try:
        directory = outputs.find(home, run.runner, run.id)
    except UnknownError:
        return
    yield from (path for path in sorted(directory.glob("*/*/results.out")) if path.is_file())


def _opened(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise RunError(f"{file} cannot be read: {error.strerror}") from error


def _lines(file: BinaryIO) -> Iterator[_Line]:
    """What is not a line of metrics, such as one that is being written, is left out."""
    decoder = msgspec.json.Decoder(_Line)
    for line in iter(lambda: file.readline(_LONGEST_LINE), b""):
        try:
            yield decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue


def _column(tags: str) -> str:
    """`dir=in,peer=a`, sorted; `value` for a metric without tags."""
    pairs = (pair.partition("=") for pair in tags.split(","))
    return ",".join(sorted(f"{key}={value}" for key, _, value in pairs if value and key not in _IGNORED)) or "value"


def _cells(row: _Row, columns: Iterable[str]) -> list[str]:
    means = (_number(row.sums[column] / row.counts[column]) if column in row.counts else "" for column in columns)
    return [_moment(row.last), *means]


def _number(value: float) -> str:
    return repr(value).removesuffix(".0")


def _moment(nanoseconds: int) -> str:
    """RFC 3339 with as many digits as are needed, as InfluxDB writes it."""
    seconds, fraction = divmod(nanoseconds, 10**9)
    text = f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{fraction:09d}"
    return text.rstrip("0").rstrip(".") + "Z"
