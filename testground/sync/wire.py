"""Frames of the sync service: one JSON document per websocket message (contract §3.2, §3.3). Pure, no I/O."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeAlias, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

MAX_MESSAGE = 32768
"""Bytes of one message in either direction: Go clients take no larger ones and die of them (contract §3.1)."""

MAX_ID = 64
"""Characters of a request id, so that there is a bound to what a reply adds to a payload."""

MAX_ERROR = 4000
"""Characters of an error: in a reply, quoted twice, each may take seven bytes."""

CANNOT_BE_MET = " cannot be met: "
"""Marks the error replies that a dead instance causes; clients tell them from others by it."""

NULL = Raw(b"null")

Int64: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""A Go `int`; a larger one is refused as there, where a barrier could only wait for ever."""


class WireError(Exception):
    """A message that ends its connection, with the websocket close code for it."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class Publish(Struct, forbid_unknown_fields=True, gc=False):
    topic: str = ""
    payload: Raw = NULL


class Subscribe(Struct, forbid_unknown_fields=True, gc=False):
    topic: str = ""


class Barrier(Struct, forbid_unknown_fields=True, gc=False):
    state: str = ""
    target: Int64 = 0


class SignalEntry(Struct, forbid_unknown_fields=True, gc=False):
    state: str = ""


class Request(Struct, forbid_unknown_fields=True, gc=False):
    """At most one operation counts: the first, in the order of the fields."""

    id: str = ""
    is_cancel: bool = False
    publish: Publish | None = None
    subscribe: Subscribe | None = None
    barrier: Barrier | None = None
    signal_entry: SignalEntry | None = None


class Seq(Struct, gc=False):
    seq: int


class Response(Struct, gc=False):
    """Exactly these five keys in this order; `subscribe` is a string that holds JSON, empty when there is none."""

    id: str = ""
    error: str = ""
    publish: Seq | None = None
    subscribe: str = ""
    signal_entry: Seq | None = None


class Call(Struct, gc=False):
    """A request as a client writes it: the operation alone, as the SDKs of other languages do."""

    id: str
    is_cancel: bool = False
    publish: Publish | UnsetType = UNSET
    subscribe: Subscribe | UnsetType = UNSET
    barrier: Barrier | UnsetType = UNSET
    signal_entry: SignalEntry | UnsetType = UNSET


def decode_request(message: bytes | memoryview) -> Request:
    """Read a request. Raises `WireError` for what is none, or for an id that no reply could carry."""
    try:
        request = _decode_exact(message)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        request = _decode_folded(message)
    if len(request.id) > MAX_ID:
        raise WireError(1008, f"id longer than {MAX_ID} characters")
    return request


def encode_call(call: Call) -> bytes:
    """Raises `WireError` when the service would refuse the message for its size."""
    message = _encode(call)
    if len(message) > MAX_MESSAGE:
        raise WireError(1009, f"a message of {len(message)} bytes; the sync service takes {MAX_MESSAGE} at most")
    return message


def decode_response(message: bytes | str) -> Response:
    """Raises `WireError` for what is no response."""
    try:
        return _decode_response(message)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise WireError(1007, f"not a response of a sync service: {error}") from error


def met(request_id: str) -> bytes:
    """The reply to a barrier."""
    return _encode(Response(request_id))


def published(request_id: str, seq: int) -> bytes:
    return _encode(Response(request_id, publish=Seq(seq)))


def signalled(request_id: str, seq: int) -> bytes:
    return _encode(Response(request_id, signal_entry=Seq(seq)))


def failed(request_id: str, error: str, *, quoted: bool) -> bytes:
    """An error reply. `quoted`: as a JSON string, the only form that sdk-rust takes (contract §3.3).

    Of an error that quotes what a client has sent at length, the middle is left out.
    """
    if len(error) > MAX_ERROR:
        error = f"{error[: MAX_ERROR // 2]} … {error[3 - MAX_ERROR // 2 :]}"
    return _encode(Response(request_id, error=_encode(error).decode() if quoted else error))


def delivery_head(request_id: str) -> bytes:
    """The part of a delivery that belongs to the subscription; the message's own part follows it."""
    return b'{"id":' + _encode(request_id)


def delivery_tail(payload: Raw) -> bytes:
    """The part of a delivery that is the same for all subscriptions.

    Raises `WireError` for a payload that is not UTF-8, which decoding a request leaves unseen.
    """
    try:
        text = bytes(payload).decode()
    except UnicodeDecodeError as error:
        raise _unreadable() from error
    return b',"error":"","publish":null,"subscribe":' + _encode(text) + b',"signal_entry":null}'


def payload_of(tail: bytes) -> bytes:
    """The payload of a delivery, see `delivery_tail`."""
    return _decode_response(delivery_head("") + tail).subscribe.encode()


_encode = msgspec.json.Encoder().encode
_decode_exact = msgspec.json.Decoder(Request).decode
_decode_response = msgspec.json.Decoder(Response).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw] | None).decode

MAX_DELIVERY_TAIL = MAX_MESSAGE - len(delivery_head("\x00" * MAX_ID))
"""A message with a longer tail could not be delivered to every possible subscription."""

_OPERATIONS: dict[str, type[Struct]] = {
    "publish": Publish,
    "subscribe": Subscribe,
    "barrier": Barrier,
    "signal_entry": SignalEntry,
}
_FIELDS: dict[str, Any] = {"id": str, "is_cancel": bool, "topic": str, "payload": Raw, "state": str, "target": Int64}

_ESCAPE = re.compile(rb"(?i)\\(?:ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}|(ud[89a-f][0-9a-f]{2})|.)", re.DOTALL)
"""An escape in JSON text. The group matches half of a surrogate pair that stands alone."""

Folded = TypeVar("Folded", bound=Struct)


def _decode_folded(message: bytes | memoryview) -> Request:
    """Read what Go's JSON would: keys in any letter case, unknown ones ignored, null as if absent.

    Text of JavaScript may hold half a surrogate pair, which JSON can write and UTF-8 cannot: U+FFFD takes its place.
    """
    try:
        return _fold(Request, Raw(_ESCAPE.sub(_replace_half, bytes(message))))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable() from error


def _fold(kind: type[Folded], text: Raw) -> Folded:
    members = _decode_members(text) or {}
    values: dict[str, Any] = {}
    for key, value in members.items():
        name = key.casefold()
        if name in kind.__struct_fields__ and bytes(value) != b"null":
            values[name] = _fold_member(name, value)
    return kind(**values)


def _fold_member(name: str, value: Raw) -> Any:
    operation = _OPERATIONS.get(name)
    return _fold(operation, value) if operation else msgspec.json.decode(value, type=_FIELDS[name])


def _replace_half(escape: re.Match[bytes]) -> bytes:
    return rb"\ufffd" if escape[1] else escape[0]


def _unreadable() -> WireError:
    return WireError(1007, "failed to unmarshal JSON")
