"""What a runner hears from one instance: its lines become a ledger for the verdict and a log for people."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import BinaryIO

from testground.drivers.process import LineSplitter
from testground.plugins import Output
from testground.runners import events
from testground.runners.events import Event, Kind
from testground.runners.verdict import Ledger

SHOWN_LINES = 10_000
"""Lines without an event that one instance may put into the task's log; beyond, only its events are shown."""
SHOWN_BYTES = 8 << 20
SPOOLED_BYTES = 256 << 20
LONGEST_SHOWN = 8192


class Listener:
    """Both output streams of one instance. `started` is the clock of the run, `tag` names the instance in the log."""

    def __init__(self, ledger: Ledger, tag: str, started: float, output: Output, spool: Spool) -> None:
        self._ledger, self._tag, self._output, self._spool = ledger, tag, output, spool
        self._started, self._started_ns = started, time.time_ns() - int((time.monotonic() - started) * 1e9)
        self._lines = self._bytes = 0
        self._stdout = LineSplitter(self._stdout_line)
        self._stderr = LineSplitter(self._stderr_line)

    def stdout(self, data: bytes) -> None:
        self._spool.stdout(data)
        self._stdout.feed(data)

    def stderr(self, data: bytes) -> None:
        self._spool.stderr(data)
        self._stderr.feed(data)

    def close(self) -> None:
        self._stdout.close()
        self._stderr.close()

    def show(self, event: Event) -> None:
        """Put a line into the task's log."""
        text = event.text
        if len(text) > LONGEST_SHOWN and event.kind is Kind.OTHER:
            text = f"{text[:LONGEST_SHOWN]}… ({len(text)} characters)"
        shown = Event(event.kind, text)
        self._output.write(events.display(shown, self._tag, self._elapsed(event.timestamp_ns)))

    def _stdout_line(self, line: bytes) -> None:
        if self._silenced and not line.startswith(b"{"):
            return
        event = events.parse_line(line)
        if event.kind is Kind.OTHER:
            self._plain(event)
            return
        if event.kind is Kind.STAGE:
            return
        if event.error:
            self._ledger.last_lines.append(events_line(event))
        elif event.kind is Kind.MESSAGE:
            self._ledger.last_lines.append(event.text)
        self.show(event)
        self._ledger.note(event)

    def _stderr_line(self, line: bytes) -> None:
        if not self._silenced:
            self._plain(Event(Kind.ERROR, line.decode("utf-8", "replace").rstrip("\r")))

    def _plain(self, event: Event) -> None:
        if event.text:
            self._ledger.last_lines.append(event.text[:LONGEST_SHOWN])
        self._lines += 1
        self._bytes += len(event.text)
        self.show(event)
        if self._silenced:
            notice = f"this instance has printed {self._lines} lines; from here on only its events are shown"
            self.show(Event(Kind.OTHER, notice))

    @property
    def _silenced(self) -> bool:
        return self._lines >= SHOWN_LINES or self._bytes >= SHOWN_BYTES

    def _elapsed(self, timestamp_ns: int | None) -> float:
        if timestamp_ns is None:
            return time.monotonic() - self._started
        return max(0.0, (timestamp_ns - self._started_ns) / 1e9)


class Spool:
    """Keeps an instance's output for `run.out` and `run.err`, in case it does not write these files itself.

    SDKs do (contract §2.6); a program without one does not, and its output would be missing from the archive.
    """

    def __init__(self, directory: Path, outputs: Path) -> None:
        self._outputs = outputs
        self._paths = {name: directory / name for name in ("run.out", "run.err")}
        self._files: dict[str, BinaryIO] = {}
        self._written = dict.fromkeys(self._paths, 0)

    def stdout(self, data: bytes) -> None:
        self._write("run.out", data)

    def stderr(self, data: bytes) -> None:
        self._write("run.err", data)

    def close(self) -> None:
        """Move what the instance did not write itself into its outputs."""
        for file in self._files.values():
            file.close()
        for name, path in self._paths.items():
            target = self._outputs / name
            with contextlib.suppress(OSError):
                if not target.exists():
                    path.touch()
                    path.replace(target)

    def _write(self, name: str, data: bytes) -> None:
        written = self._written[name]
        if written >= SPOOLED_BYTES:
            return
        if name not in self._files:
            if (self._outputs / name).exists():
                self._written[name] = SPOOLED_BYTES  # the SDK keeps it; nothing to spool
                return
            self._files[name] = self._paths[name].open("wb")
        self._written[name] = written + len(data)
        self._files[name].write(data[: SPOOLED_BYTES - written])


def events_line(event: Event) -> str:
    """A failure or crash as one of the last lines of its instance; a stack trace is in the log and on stderr."""
    return f"{event.kind}: {event.error[:2000].strip()}"
