"""Where an instance's lines go: stdout with a copy in `run.out`, stderr with a copy in `run.err` (contract §2.6).

A line is one write, so it stays whole among the prints of the plan, from whatever thread they come.
"""

from __future__ import annotations

import contextlib
import faulthandler
import io
import sys
import threading
from pathlib import Path
from typing import BinaryIO, TextIO


class Output:
    """The sink of event and log lines."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._copy: BinaryIO | None = None
        self._stdout: TextIO | None = None

    def open(self, directory: Path | None) -> None:
        """Take over the process's stdout and stderr; keep copies in `directory`. Raises `OSError`."""
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
            self._copy = (directory / "run.out").open("ab", buffering=0)
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout = self._stdout = _PlanStdout(sys.stdout)
        if isinstance(sys.stderr, io.TextIOWrapper):
            sys.stderr = _PlanStderr(sys.stderr, directory)
            with contextlib.suppress(OSError):
                faulthandler.enable(sys.__stderr__ or sys.stderr)

    def write(self, line: bytes) -> None:
        """Write a line, which ends with its newline. A sink that is gone or full costs the line, never the case."""
        with self._lock:
            with contextlib.suppress(OSError, ValueError):
                self._write_stdout(line)
            if self._copy is not None:
                with contextlib.suppress(OSError):
                    self._copy.write(line)

    def close(self) -> None:
        with self._lock:
            copy, self._copy = self._copy, None
        if copy is not None:
            copy.close()

    def _write_stdout(self, line: bytes) -> None:
        stdout = self._stdout or sys.stdout
        if isinstance(stdout, _PlanStdout) and not stdout.at_line_start:
            line = b"\n" + line
        stdout.write(line.decode())
        stdout.flush()


class _PlanStdout(io.TextIOWrapper):
    """Flushed with every line, so that prints and events keep their order; knows whether a line is open."""

    at_line_start = True

    def __init__(self, original: io.TextIOWrapper) -> None:
        original.flush()
        self._original = original  # which would close the shared buffer when collected
        super().__init__(original.buffer, encoding="utf-8", errors="backslashreplace", line_buffering=True)

    def write(self, text: str) -> int:
        if text:
            self.at_line_start = text.endswith("\n")
        return super().write(text)


class _PlanStderr(io.TextIOWrapper):
    """Copies what is written into `run.err`, a file that is empty after a clean run."""

    def __init__(self, original: io.TextIOWrapper, directory: Path | None) -> None:
        super().__init__(original.buffer, encoding="utf-8", errors="backslashreplace", write_through=True)
        self._original = original
        self._copy = (directory / "run.err").open("ab", buffering=0) if directory else None

    def write(self, text: str) -> int:
        if self._copy is not None:
            with contextlib.suppress(OSError, ValueError):
                self._copy.write(text.encode("utf-8", "backslashreplace"))
        return super().write(text)
