"""Multipart bodies of upstream's clients and of the protocol page, parsed as they come (client-daemon §1.3, §7.3)."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from testground.errors import RequestError, SourcesError

KINDS = ("plan", "sdk", "extra")
MAX_JSON = 16 << 20

_JSON = "composition"

logging.getLogger("python_multipart").setLevel(logging.ERROR)  # its warnings reach the client as errors of ours


class Multipart:
    """Feed it any cut of a body: the JSON part is kept in `json`, zip parts are written to `directory/<kind>.zip`.

    Blocking: meant for a worker thread. Raises `RequestError`, `SourcesError`.
    """

    def __init__(self, boundary: bytes, directory: Path) -> None:
        self.json: bytearray | None = None
        self.zips: dict[str, Path] = {}
        self._directory = directory
        self._headers: dict[str, str] = {}
        self._field = bytearray()
        self._value = bytearray()
        self._sink: BinaryIO | None = None
        self._ended = False
        with _readable():
            self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin_part,
                    "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                    "on_header_end": self._end_header,
                    "on_headers_finished": self._begin_data,
                    "on_part_data": self._data,
                    "on_part_end": self._end_part,
                    "on_end": self._end,
                },
                max_header_size=16 << 10,
            )

    def feed(self, data: bytes) -> None:
        with _readable():
            self._parser.write(data)

    def close(self) -> None:
        """Call it at the end, also after an error."""
        if self._sink:
            self._sink.close()

    def finish(self) -> bytes:
        """The JSON part, once the body is complete."""
        if not self._ended:
            raise RequestError("multipart: unexpected EOF: the body ends before its last boundary")
        if self.json is None:
            raise RequestError("multipart: there is no part with the composition")
        return bytes(self.json)

    def _begin_part(self) -> None:
        self._headers = {}

    def _end_header(self) -> None:
        name = self._field.decode("latin-1").lower()
        self._headers[name] = self._value.decode("utf-8", "replace")
        self._field.clear()
        self._value.clear()

    def _begin_data(self) -> None:
        kind = self._kind()
        if kind in self.zips or (kind == _JSON and self.json is not None):
            raise RequestError(f"multipart: part {kind} is there twice")
        if kind == _JSON:
            self.json = bytearray()
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        self.zips[kind] = self._directory / f"{kind}.zip"
        self._sink = self.zips[kind].open("xb")

    def _kind(self) -> str:
        """By file name, else by field name, else by content type and order (§7.3 no. 1)."""
        _, options = parse_options_header(self._headers.get("content-disposition", ""))
        content_type = self._headers.get("content-type", "").partition(";")[0].strip().lower()
        for option in (b"filename", b"name"):
            name = options.get(option, b"").decode("utf-8", "replace").replace("\\", "/").rpartition("/")[2]
            if (stem := name.removesuffix(".zip")) in KINDS:
                return stem
            if name.removesuffix(".json") == _JSON:
                return _JSON
        if content_type in ("application/json", "text/json"):
            return _JSON
        if self.json is None and not self.zips and content_type != "application/zip":
            return _JSON
        free = [kind for kind in KINDS if kind not in self.zips]
        if not free:
            raise RequestError("multipart: there are more parts than composition, plan, sdk and extra")
        return free[0]

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._sink is not None:
            self._sink.write(memoryview(data)[start:end])
        elif self.json is not None:
            self.json += memoryview(data)[start:end]
            if len(self.json) > MAX_JSON:
                raise RequestError(f"the request is larger than {MAX_JSON >> 20} MiB, not counting its sources")

    def _end_part(self) -> None:
        if self._sink is not None:
            self._sink.close()
            self._sink = None

    def _end(self) -> None:
        self._ended = True


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except FormParserError as error:
        raise RequestError(f"multipart: {error}") from error
    except OSError as error:
        raise SourcesError(f"cannot store the upload: {(error.strerror or str(error)).lower()}") from error
