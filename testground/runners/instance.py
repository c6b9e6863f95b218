"""What a runner hears from one instance: its lines become a ledger for the verdict and a log for people."""

from __future__ import annotations

import re
import time
from io import FileIO
from pathlib import Path

from testground.drivers.process import LineSplitter
from testground.plugins import Output
from testground.runners import events
from testground.runners.events import Event, Kind
from testground.runners.verdict import Ledger

SHOWN_LINES = 10_000
"""Lines that one instance may put into the task's log; beyond, only what decides over its outcome is shown."""
SHOWN_BYTES = 8 << 20
SHOWN_OF_ALL = 200_000
"""Lines that all instances of a run may put there together, beyond the few that each may in any case."""
SHOWN_OF_EACH = 100
SPOOLED_BYTES = 256 << 20
PARTIAL = ".partial"
LONGEST_SHOWN = 8192
LONGEST_TRACE = 1 << 18
"""Of a failure or crash, with its stack trace."""
LONGEST_LAST = 1000
"""Of one of the last lines, which are part of the result."""

_DECISIVE = frozenset((Kind.OK, Kind.FAIL, Kind.CRASH))
_DECISIVE_LINES = re.compile(rb'^\{.*"(?:success_event|failure_event|crash_event|finish)".*$', re.MULTILINE)


class Stage:
    """What the instances of a run share: where they are shown, the clock, and how much may still be shown."""

    def __init__(self, output: Output, started: float) -> None:
        self.output = output
        self.started = started
        self.lines_left = SHOWN_OF_ALL


class Listener:
    """Both output streams of one instance; `tag` names it in the log."""

    def __init__(self, ledger: Ledger, tag: str, stage: Stage, spool: Spool) -> None:
        self._ledger, self._tag, self._stage, self._spool = ledger, tag, stage, spool
        self._started_ns = time.time_ns() - int((time.monotonic() - stage.started) * 1e9)
        self._shown: list[bytes] = []
        self._lines = self._bytes = 0
        self._silenced = False
        self._stdout = LineSplitter(self._stdout_line)
        self._stderr = LineSplitter(self._stderr_line)

    def stdout(self, data: bytes) -> None:
        self._spool.stdout(data)
        try:
            self._stdout.feed(data)
            self._flush()
        except Exception as error:  # asyncio would log it and go on
            self._ledger.unheard(f"what it printed could not be read: {type(error).__name__}: {error}")

    def stderr(self, data: bytes) -> None:
        self._spool.stderr(data)
        self._stderr.feed(data)
        self._flush()

    def close(self) -> None:
        self._stdout.close()
        self._stderr.close()
        self._flush()
        self._spool.close()
        if self._spool.lost:
            self._stage.output.warn(f"{self._tag}: its output is not all in its outputs: {self._spool.lost}")

    def show(self, event: Event) -> None:
        """Put a line into the task's log."""
        self._show(event)
        self._flush()

    def _show(self, event: Event) -> None:
        text = event.text
        longest = LONGEST_TRACE if event.kind in _DECISIVE else LONGEST_SHOWN
        if len(text) > longest:
            text = f"{text[:longest]}… ({len(text)} characters)"
        shown = Event(event.kind, text)
        self._shown.append(events.display(shown, self._tag, self._elapsed(event.timestamp_ns)))

    def _flush(self) -> None:
        """Lines that came at once go into the log at once."""
        if self._shown:
            self._stage.output.write(b"".join(self._shown))
            self._shown.clear()

    def _stdout_line(self, line: bytes) -> None:
        if self._silenced and not line.startswith(b"{"):
            self._remember(line[:LONGEST_LAST].decode("utf-8", "replace"))
            return
        event = events.parse_line(line)
        if event.kind in _DECISIVE and self._ledger.note(event):
            if event.error:
                self._remember(events_line(event))
            self._show(event)
        elif event.kind is not Kind.STAGE:
            self._plain(event)

    def _stderr_line(self, line: bytes) -> None:
        self._plain(Event(Kind.ERROR, line.decode("utf-8", "replace").rstrip("\r")))

    def _plain(self, event: Event) -> None:
        if event.kind is not Kind.START:
            self._remember(events_line(event) if event.error else event.text)
        if self._silenced:
            return
        self._lines += 1
        self._bytes += min(len(event.text), LONGEST_SHOWN)
        self._stage.lines_left -= 1
        self._show(event)
        if self._lines >= (SHOWN_LINES if self._stage.lines_left > 0 else SHOWN_OF_EACH) or self._bytes >= SHOWN_BYTES:
            self._fall_silent()

    def _fall_silent(self) -> None:
        self._silenced = True
        self._stdout.skim = self._stderr.skim = _DECISIVE_LINES
        notice = f"this instance has printed {self._lines} lines; from here on only its outcome is shown"
        self._show(Event(Kind.OTHER, notice))

    def _remember(self, text: str) -> None:
        if text:
            self._ledger.last_lines.append(text[:LONGEST_LAST])

    def _elapsed(self, timestamp_ns: int | None) -> float:
        if timestamp_ns is None:
            return time.monotonic() - self._stage.started
        return max(0.0, (timestamp_ns - self._started_ns) / 1e9)


class Spool:
    """Keeps an instance's output for `run.out` and `run.err`, in case it does not write these files itself.

    SDKs do (contract §2.6); a program without one does not, and its output would be missing from the archive. It lies
    in the outputs from the start, so that it is there even if the daemon is killed.
    """

    def __init__(self, outputs: Path) -> None:
        self._out, self._err = _Copy(outputs / "run.out"), _Copy(outputs / "run.err")
        self.stdout, self.stderr = self._out.write, self._err.write

    def close(self) -> None:
        """Name what the instance did not write itself as it should be."""
        self._out.close()
        self._err.close()

    @property
    def lost(self) -> str:
        """Why output is missing, such as a full disk; empty when nothing is. Never an exception: a verdict hangs on
        the same bytes."""
        return self._out.lost or self._err.lost


def name_spooled(run_directory: Path) -> None:
    """What was spooled when a daemon was killed gets its name now."""
    for partial in run_directory.glob(f"*/*/run.*{PARTIAL}"):
        target = partial.with_name(partial.name.removesuffix(PARTIAL))
        if target.exists():
            partial.unlink()
        else:
            partial.replace(target)


class _Copy:
    """One stream, on its way to `target`."""

    def __init__(self, target: Path) -> None:
        self.lost = ""
        self._target, self._partial = target, target.with_name(f"{target.name}{PARTIAL}")
        self._file: FileIO | None = None
        self._room = SPOOLED_BYTES

    def write(self, data: bytes) -> None:
        if not self._room:
            return
        try:
            self._keep(data)
        except OSError as error:
            self._give_up(error)

    def close(self) -> None:
        try:
            if self._file is not None:
                self._file.close()
            if not self._target.exists():
                self._partial.touch()
                self._partial.replace(self._target)
            elif self._file is not None:
                self._partial.unlink(missing_ok=True)
        except OSError as error:
            self._give_up(error)

    def _keep(self, data: bytes) -> None:
        if self._file is None:
            if self._target.exists():
                self._room = 0  # the SDK keeps it; nothing to spool
                return
            self._file = FileIO(self._partial, "w")
        view = memoryview(data)[: self._room]
        self._room -= len(view)
        while view:
            view = view[self._file.write(view) :]
        if not self._room:
            self.lost = f"{self._target.name} ends after {SPOOLED_BYTES >> 20} MiB"

    def _give_up(self, error: OSError) -> None:
        self._room = 0
        self.lost = self.lost or f"{self._target.name}: {error.strerror}"


def events_line(event: Event) -> str:
    """A failure or crash as one of the last lines of its instance; a stack trace is in the log and on stderr."""
    return f"{event.kind}: {event.error[:2000].strip()}"
