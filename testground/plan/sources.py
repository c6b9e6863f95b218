"""The body of /build and /run as the client sends it: JSON, then zip files (client-daemon §1.3, §8.4)."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from requests_toolbelt import MultipartEncoder, MultipartEncoderMonitor
from urllib3.fields import RequestField

from testground.errors import SourcesError
from testground.plan import archive, ignore

Progress = Callable[[int, int], None]
"""Called with the bytes sent so far and their total."""

_CHUNK = 64 << 10


class Upload:
    """A request body of known length. Can be iterated once."""

    def __init__(self, encoder: _RelatedEncoder, on_progress: Progress | None) -> None:
        self.content_type: str = encoder.content_type
        self.content_length: int = encoder.len
        self._on_progress = on_progress
        self._monitor = MultipartEncoderMonitor(encoder, self._advance)

    def __iter__(self) -> Iterator[bytes]:
        while data := self._monitor.read(_CHUNK):
            yield data

    def _advance(self, monitor: MultipartEncoderMonitor) -> None:
        if self._on_progress:
            self._on_progress(monitor.bytes_read, self.content_length)


@contextlib.contextmanager
def pack(
    request: bytes,
    plan: Path | None = None,
    sdk: Path | None = None,
    extra: Sequence[Path] = (),
    on_progress: Progress | None = None,
) -> Iterator[Upload]:
    """Zip the given directories and yield the body; the zip files live as long as the context. Constant memory.

    `request` is JSON text. Only the plan is filtered by its `.testgroundignore`. Raises `SourcesError`.
    """
    with _workspace() as directory, contextlib.ExitStack() as stack:
        parts: list[tuple[str, str, Any]] = [("composition.json", "application/json", request.rstrip(b"\n") + b"\n")]
        for file in _zips(directory, plan, sdk, extra):
            parts.append((file.name, "application/zip", stack.enter_context(file.open("rb"))))
        yield Upload(_RelatedEncoder(parts), on_progress)


@contextlib.contextmanager
def _workspace() -> Iterator[Path]:
    try:
        directory = tempfile.TemporaryDirectory(prefix="testground-")
    except OSError as error:
        raise SourcesError(f"cannot create a temporary directory: {error.strerror}") from error
    with directory as name:
        yield Path(name)


def _zips(directory: Path, plan: Path | None, sdk: Path | None, extra: Sequence[Path]) -> Iterator[Path]:
    if plan is not None:
        archive.write_zip(plan, directory / "plan.zip", ignore.load(plan))
        yield directory / "plan.zip"
    if sdk is not None:
        archive.write_zip(sdk, directory / "sdk.zip")
        yield directory / "sdk.zip"
    if extra:
        archive.write_zip_of(extra, directory / "extra.zip")
        yield directory / "extra.zip"


class _RelatedEncoder(MultipartEncoder):  # type: ignore[misc]
    """multipart/related with the two headers per part that the Go daemon's clients send, in their order."""

    def __init__(self, parts: list[tuple[str, str, Any]]) -> None:
        super().__init__(parts, boundary=secrets.token_hex(30))

    @property
    def content_type(self) -> str:
        return f"multipart/related; boundary={self.boundary_value}"

    def _iter_fields(self) -> Iterator[RequestField]:
        for filename, content_type, data in self.fields:
            headers = {"Content-Disposition": f"attachment; filename={filename}", "Content-Type": content_type}
            yield RequestField(filename, data, headers=headers)
