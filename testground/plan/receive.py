"""The body of /build and /run as the daemon takes it: a stream, straight to disk (client-daemon §1.3, §7.3)."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
from pydantic import ValidationError
from python_multipart.multipart import parse_options_header

from testground.api import rpc
from testground.api.manifest import Manifest
from testground.api.model import explain
from testground.api.task import Sources
from testground.config import Home
from testground.errors import PlanError, RequestError, SourcesError
from testground.plan import extraction, manifest
from testground.plan.extraction import Limits, Unpacked
from testground.plan.multipart import MAX_JSON, Multipart

_BATCH = 1 << 20
_CLEANUP_SECONDS = 60
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Received:
    """`request` has a `composition`, also when the client sent a bare one. `sources` is None when no zip came."""

    request: dict[str, Any]
    sources: Sources | None
    warnings: list[str] = field(default_factory=list)
    """What the client should know about its sources."""


async def receive(
    content_type: str | None, body: AsyncIterator[bytes], directory: Path, max_bytes: int = Limits.max_bytes
) -> Received:
    """Consume a request body; zip files are unpacked to `plan`, `sdk` and `extra` below `directory`.

    `directory` is this request's alone: it is made when a zip file comes, and is gone after any error. `max_bytes`
    bounds the body, and the sum of all unpacked files. Raises `RequestError` for what is no request, `SourcesError`
    for what cannot be stored or unpacked.
    """
    try:
        return await _receive(content_type or "", _Body(body, max_bytes), directory, max_bytes)
    except BaseException:
        with anyio.move_on_after(_CLEANUP_SECONDS, shield=True):
            await anyio.to_thread.run_sync(lambda: shutil.rmtree(directory, ignore_errors=True))
        raise


def find_manifest(received: Received, home: Home) -> Manifest:
    """The manifest of the request, else of the plan that came with it, else of the daemon's own plan of that name.

    Raises `PlanError`, `RequestError`.
    """
    try:
        request = rpc.BuildRequest.model_validate(received.request)
    except ValidationError as error:
        raise RequestError(explain(error)) from error
    if request.manifest is not None:
        return request.manifest
    if received.sources and received.sources.plan_dir:
        plan_dir = Path(received.sources.plan_dir)
        if (plan_dir / manifest.FILE).is_file():
            return manifest.load(plan_dir)
    try:
        return manifest.load(manifest.find_plan(home, request.composition.global_.plan))
    except PlanError as error:
        raise PlanError(f"plan supports no builders; review the manifest: the request has none; {error}") from error


class _Body:
    """Reads a body in pieces worth a hop to another thread. Raises `SourcesError` once it is too large."""

    def __init__(self, body: AsyncIterator[bytes], allowed: int) -> None:
        self._body = body
        self._allowed = allowed
        self._total = 0

    async def read(self) -> bytes:
        """Empty at the end."""
        pieces: list[bytes] = []
        size = 0
        async for piece in self._body:
            pieces.append(piece)
            size += len(piece)
            self._total += len(piece)
            if self._total > self._allowed:
                allowed = f"{_mebibytes(self._allowed)} (daemon.max_upload_mb)"
                raise SourcesError(f"the upload is larger than the allowed {allowed}")
            if size >= _BATCH:
                break
        return b"".join(pieces)


async def _receive(content_type: str, body: _Body, directory: Path, max_bytes: int) -> Received:
    head = await body.read()
    media_type, options = parse_options_header(content_type)
    if media_type in (b"", b"application/json", b"text/json") or head.lstrip().startswith(b"{"):
        return Received(_request(await _whole(head, body)), None)
    if not media_type.startswith(b"multipart/"):
        raise RequestError(f"not a multipart request; Content-Type: {content_type}")
    if not options.get(b"boundary"):
        raise RequestError("failed to parse request: multipart: boundary is empty")
    parser = Multipart(options[b"boundary"], directory)
    try:
        while head:
            await anyio.to_thread.run_sync(parser.feed, head)
            head = await body.read()
        request = _request(parser.finish())
    finally:
        parser.close()
    return await _unpack(request, parser.zips, directory, max_bytes)


async def _whole(head: bytes, body: _Body) -> bytes:
    data = bytearray()
    while head:
        data += head
        if len(data) > MAX_JSON:
            raise RequestError(f"the request is larger than {_mebibytes(MAX_JSON)}")
        head = await body.read()
    return bytes(data)


def _request(data: bytes) -> dict[str, Any]:
    """The first JSON value, an object; a bare composition is wrapped (§7.3 no. 3)."""
    try:
        text = data.decode().lstrip()
        value, _ = json.JSONDecoder(parse_constant=_no_constant).raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"json decode: {'EOF' if not data.strip() else error}") from error
    if not isinstance(value, dict):
        raise RequestError("json decode: an object is needed")
    keys = {key.lower() for key in value}
    if "composition" not in keys and keys & {"global", "groups"}:
        return {"composition": value}
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


async def _unpack(request: dict[str, Any], zips: dict[str, Path], directory: Path, max_bytes: int) -> Received:
    if not zips:
        return Received(request, None)
    found = {"base_dir": str(directory)}
    warnings = []
    for kind, file in zips.items():
        try:
            unpacked = await anyio.to_thread.run_sync(_unzip, file, directory / kind, Limits(max_bytes))
        except SourcesError as error:
            raise SourcesError(f"{kind}.zip: {error}") from error
        max_bytes -= unpacked.size
        if unpacked.hollow:
            warnings.append(f"{kind}.zip: {_explain_hollow(unpacked.hollow)}")
        found[f"{kind}_dir"] = str(directory / kind)
    return Received(request, Sources(**found), warnings)


def _unzip(file: Path, target: Path, limits: Limits) -> Unpacked:
    unpacked = extraction.unzip(file, target, limits, anyio.from_thread.check_cancelled)
    file.unlink()
    return unpacked


def _explain_hollow(names: list[str]) -> str:
    shown = ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
    return f"the client sent symlinks without what they point to, they are empty files in the build: {shown}"


def _mebibytes(size: int) -> str:
    return f"{size >> 20} MiB" if size >= 1 << 20 else f"{size} bytes"
