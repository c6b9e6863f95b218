"""Questions to upstream's own code about compositions: a typed front of `go/oracle`."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DEADLINE = 20.0
"""Seconds for one answer, which takes about a millisecond."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one of upstream's functions made: a JSON value, or the text of its error or panic."""

    value: Any = None
    error: str = ""
    panic: str = ""

    @property
    def refused(self) -> str:
        return self.error or self.panic


Answer = Mapping[str, Step]
"""Steps by name: `default_run`, `valid_for_build`, `valid_for_run`, `built`, `build_keys`, `run`, `counts`, `framed`,
`written`; before them `decoded`, or `composition` and `manifest`. Nothing follows a text that cannot be decoded."""


class Oracle:
    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._rest = b""

    def ask_body(self, body: str, *, default: bool = True, decode: bool = False) -> Answer:
        """Of the JSON that the daemon gets with /run.

        `default`: first make the default run and send that over the wire, as every client does. Upstream's preparation
        changes what it is given, and a run made on the spot shares its parameters with its groups.
        """
        return self._ask({"body": body, "default": default, "decode": decode})

    def ask_toml(self, composition: str, manifest: str, *, default: bool = True, decode: bool = False) -> Answer:
        """Of the texts of two files, as the client reads them."""
        return self._ask({"composition": composition, "manifest": manifest, "default": default, "decode": decode})

    def _ask(self, request: dict[str, Any]) -> Answer:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        return {name: Step(**step) for name, step in json.loads(self._line()).items()}

    def _line(self) -> bytes:
        assert self._process.stdout is not None
        end = time.monotonic() + DEADLINE
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(end - time.monotonic()):
                    raise TimeoutError(f"no answer of upstream's code within {DEADLINE:g} s")
                data = os.read(self._process.stdout.fileno(), 1 << 20)
                if not data:
                    raise EOFError("the program with upstream's code has ended; its standard error tells why")
                self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        return line


@contextmanager
def running(program: Path) -> Iterator[Oracle]:
    """One process for all questions."""
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            yield Oracle(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(DEADLINE)
            except subprocess.TimeoutExpired:
                process.kill()
