"""The body of /build and /run as the client sends it: JSON, then zip files (client-daemon §1.3, §8.4)."""

from __future__ import annotations

import contextlib
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from testground.errors import SourcesError

Progress = Callable[[int, int], None]
"""Called with the bytes sent so far and their total."""

_CHUNK = 64 << 10


class Upload:
    """A request body of known length. Can be iterated once."""

    def __init__(self, boundary: str, length: int, pieces: Iterator[bytes]) -> None:
        self.content_type = f"multipart/related; boundary={boundary}"
        self.content_length = length
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces


@contextlib.contextmanager
def pack(
    request: bytes,
    plan: Path | None = None,
    sdk: Path | None = None,
    extra: Sequence[Path] = (),
    on_progress: Progress | None = None,
    *,
    keep_links: bool = True,
) -> Iterator[Upload]:
    """Zip the given directories and yield the body; the zip files live as long as the context. Constant memory.

    `request` is JSON text. Only the plan is filtered by its `.testgroundignore`. Without `keep_links`, symlinks become
    copies of what they lead to. Raises `SourcesError`.
    """
    with _workspace() as directory, contextlib.ExitStack() as stack:
        document = request.rstrip(b"\n") + b"\n"
        files = [stack.enter_context(file.open("rb")) for file in _zips(directory, plan, sdk, extra, keep_links)]
        yield _streamed(document, files, on_progress) if files else _document_alone(document)


@contextlib.contextmanager
def _workspace() -> Iterator[Path]:
    try:
        directory = tempfile.TemporaryDirectory(prefix="testground-")
    except OSError as error:
        raise SourcesError(f"cannot create a temporary directory: {error.strerror}") from error
    with directory as name:
        yield Path(name)


def _zips(
    directory: Path, plan: Path | None, sdk: Path | None, extra: Sequence[Path], keep_links: bool
) -> Iterator[Path]:
    from testground.plan import archive, ignore

    if plan is not None:
        archive.write_zip(plan, directory / "plan.zip", ignore.load(plan), keep_links=keep_links)
        yield directory / "plan.zip"
    if sdk is not None:
        archive.write_zip(sdk, directory / "sdk.zip", keep_links=keep_links)
        yield directory / "sdk.zip"
    if extra:
        archive.write_zip_of(extra, directory / "extra.zip", keep_links=keep_links)
        yield directory / "extra.zip"


def _document_alone(document: bytes) -> Upload:
    """What needs no build needs no sources, and no streaming encoder, which takes long to import."""
    boundary = _boundary()
    head = (
        f"--{boundary}\r\nContent-Disposition: attachment; filename=composition.json\r\n"
        "Content-Type: application/json\r\n\r\n"
    )
    body = head.encode() + document + f"\r\n--{boundary}--\r\n".encode()
    return Upload(boundary, len(body), iter((body,)))


def _streamed(document: bytes, files: Sequence[BinaryIO], on_progress: Progress | None) -> Upload:
    from testground.plan.encoder import MultipartEncoderMonitor, RelatedEncoder

    parts: list[tuple[str, str, Any]] = [("composition.json", "application/json", document)]
    parts += [(Path(file.name).name, "application/zip", file) for file in files]
    boundary = _boundary()
    encoder = RelatedEncoder(parts, boundary)
    report = on_progress or (lambda sent, total: None)
    monitor = MultipartEncoderMonitor(encoder, lambda monitor: report(monitor.bytes_read, encoder.len))
    return Upload(boundary, encoder.len, iter(lambda: monitor.read(_CHUNK), b""))


def _boundary() -> str:
    return secrets.token_hex(30)
