"""`RunEnv`: what an instance knows about its run, and where it reports to."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from testground.sdk import assets, environ
from testground.sdk.journal import Journal, Logger
from testground.sdk.metrics import Metrics
from testground.sdk.params import Parameters
from testground.sdk.verdict import SUCCESS, crash, failure, format_stack, judge

if TYPE_CHECKING:
    import logging
    from ipaddress import IPv4Network

RESULTS_FREQUENCY, DIAGNOSTICS_FREQUENCY = 1.0, 5.0
"""Seconds between harvests."""

YEAR_ONE = "0001-01-01T00:00:00Z"
"""What Go writes for a time that is not set."""


@dataclass(eq=False)
class RunEnv(Parameters):
    """The environment of one instance: its place in the run, its parameters, its records, metrics and files.

    The fields are plain data. Everything that records may be called from any thread.
    """

    _: KW_ONLY
    plan: str
    case: str
    run: str
    group: str
    """The run group's id."""
    instance_count: int
    """Instances of the whole run."""
    group_instance_count: int
    params: Mapping[str, str] = field(default_factory=dict)
    """As text; better read through `int_param` and its siblings."""
    profiles: Mapping[str, str] = field(default_factory=dict)
    outputs_path: Path = Path()
    """What is written here is collected. The working directory when the runner names none."""
    temp_path: Path = Path()
    """For what nobody needs after the run; the system's directory when the runner names none."""
    subnet: IPv4Network | None = None
    """Of the data network."""
    sidecar: bool = False
    """Whether the network can be configured."""
    start_time: datetime | None = None
    disable_metrics: bool = False
    role: str = ""
    repo: str = ""
    branch: str = ""
    tag: str = ""
    sync_host: str = ""
    sync_port: int = environ.SYNC_PORT
    influxdb_url: str = ""
    log_level: str = ""

    def __post_init__(self) -> None:
        self._journal = Journal(self.group, self.run, self.log_level)
        self.logger = Logger(self._journal.log)
        self._results = Metrics(self.logger, RESULTS_FREQUENCY)
        self._diagnostics = Metrics(self.logger, DIAGNOSTICS_FREQUENCY)
        self._assets = assets.Assets()

    @classmethod
    def from_environ(cls, variables: Mapping[str, str] = os.environ) -> RunEnv:
        """Read the variables of a runner. Raises `EnvError` with all that is missing or malformed."""
        return cls(**environ.read(variables))

    def record_message(self, message: str) -> None:
        """Tell whoever watches the run; `logger` is for what only a reader of the outputs wants."""
        self._journal.message(message)

    def record_start(self) -> None:
        """`invoke` has done it already."""
        self._journal.start(self._printed(), self._published())

    def record_success(self) -> None:
        """A case that returns has succeeded; this is for those who must say so earlier."""
        self._journal.end(SUCCESS)

    def record_failure(self, error: str | BaseException) -> None:
        """The instance has failed, even if the case goes on and returns. `raise Failed(…)` ends it at once."""
        self._journal.end(failure(judge(error).error if isinstance(error, BaseException) else error))

    def record_crash(self, error: str | BaseException, stacktrace: str = "") -> None:
        if isinstance(error, BaseException):
            self._journal.end(crash(judge(error).error, stacktrace or format_stack(error)))
        else:
            self._journal.end(crash(error, stacktrace))

    def R(self) -> Metrics:
        """Results: what the run is made for. In `results.out`, harvested every second."""
        return self._results

    def D(self) -> Metrics:
        """Diagnostics: what explains the results. In `diagnostics.out`, harvested every five seconds."""
        return self._diagnostics

    def port_number(self, label: str, default: int | None = None) -> int:
        """The port that the runner exposed as `label`. Raises `EnvError` when there is none and no default."""
        return environ.port_number(label, default)

    def create_raw_asset(self, name: str) -> BinaryIO:
        """A file among the outputs, closed when the instance ends. Raises `OSError`."""
        return self._assets.create(self.outputs_path / name)

    def create_structured_asset(self, name: str) -> Logger:
        """A file of JSON lines among the outputs, written as a log is."""
        return self._assets.create_structured(self.outputs_path / name)

    def create_random_file(self, directory: str | Path, size: int) -> Path:
        """A file of `size` random bytes."""
        return assets.create_random_file(Path(directory), self.plan, size)

    def create_random_directory(self, directory: str | Path, depth: int) -> Path:
        """`depth` directories inside each other; returns the outermost, or `directory` for a depth of 0."""
        return assets.create_random_directory(Path(directory), self.plan, depth)

    async def http_periodic_snapshots(self, url: str, every: float, directory: str) -> None:
        """GET `url` every so many seconds into `<outputs>/<directory>/<unix time>.out`, until cancelled."""
        from http.client import HTTPException

        while True:
            try:
                await asyncio.to_thread(assets.snapshot, url, self.outputs_path / directory)
            except (OSError, HTTPException) as error:
                self.logger.warn("no snapshot", url=url, reason=str(error))
            await asyncio.sleep(every)

    def route_logging(self, level: int | str = "INFO") -> None:
        """Send what `logging` gets from `level` up to the lines of `logger`, instead of stderr."""
        import logging

        root = logging.getLogger()
        root.handlers[:] = [_handler(self.logger)]
        root.setLevel(level)

    def _open(self) -> None:
        """Take over stdout and stderr, open the files of the instance. Raises `OSError`."""
        directory = self.outputs_path if self._keeps_outputs() else None
        self._journal.output.open(directory)
        self._results.open(directory / "results.out" if directory else None)
        self._diagnostics.open(directory / "diagnostics.out" if directory else None)

    def _close_metrics(self) -> None:
        self._results.close()
        self._diagnostics.close()

    def _close(self) -> None:
        self._assets.close()
        self._journal.output.close()

    def _keeps_outputs(self) -> bool:
        return self.outputs_path != Path()

    def _printed(self) -> dict[str, Any]:
        optional = {"repo": self.repo, "branch": self.branch, "tag": self.tag}
        return {
            "plan": self.plan,
            "case": self.case,
            "run": self.run,
            "params": self.params,
            "instances": self.instance_count,
            "outputs_path": str(self.outputs_path) if self._keeps_outputs() else "",
            "temp_path": str(self.temp_path),
            "network": str(self.subnet or ""),
            "group": self.group,
            "group_instances": self.group_instance_count,
            **{key: value for key, value in optional.items() if value},
        }

    def _published(self) -> dict[str, Any]:
        printed = self._printed()
        required = {key: printed.pop(key) for key in ("plan", "case", "run", "instances")}
        optional = {
            **printed,
            "role": self.role,
            "test_sidecar": self.sidecar,
            "capture_profiles": self.profiles,
            "disable_metrics": self.disable_metrics,
        }
        start_time = self.start_time.isoformat() if self.start_time else YEAR_ONE
        return {**required, **{key: value for key, value in optional.items() if value}, "start_time": start_time}


def _handler(logger: Logger) -> logging.Handler:
    import logging

    writers = (logger.debug, logger.info, logger.warn, logger.error)

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            try:
                level = min(max(record.levelno // 10, 1), len(writers))
                writers[level - 1](self.format(record), logger=record.name)
            except Exception:
                self.handleError(record)

    return Handler()
