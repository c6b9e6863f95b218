"""The streaming multipart encoder. A module of its own: requests-toolbelt brings all of requests, 0.1 s to import."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from requests_toolbelt import MultipartEncoder, MultipartEncoderMonitor
from urllib3.fields import RequestField

__all__ = ["MultipartEncoderMonitor", "RelatedEncoder"]


class RelatedEncoder(MultipartEncoder):  # type: ignore[misc]
    """multipart/related with the two headers per part that the Go daemon's clients send, in their order.

    `parts` are triples of file name, content type, and bytes or an open file.
    """

    def __init__(self, parts: list[tuple[str, str, Any]], boundary: str) -> None:
        super().__init__(parts, boundary=boundary)

    def _iter_fields(self) -> Iterator[RequestField]:
        for filename, content_type, data in self.fields:
            headers = {"Content-Disposition": f"attachment; filename={filename}", "Content-Type": content_type}
            yield RequestField(filename, data, headers=headers)
