"""What is decided before a route is chosen (client-daemon §1.1), in this order:

a path that is not clean         301 to the clean one
unknown path, wrong method       404, 405: without a token
foreign Host or Origin           403: a web page must not steer the daemon of whoever looks at it (design §4)
missing or wrong token           403
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import posixpath
import uuid
from collections.abc import Iterable, Mapping
from email.utils import formatdate
from importlib.metadata import version
from urllib.parse import quote, urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from testground.config import EnvConfig
from testground.daemon import server

REQUEST_ID = "testground.request_id"
"""Key of the scope: the 8 hex digits by which log lines and work directories name a request."""

SERVER = f"testground/{version('testground')}"
"""Tells a client that this is not the Go daemon, which sends no such header."""

log = logging.getLogger(__name__)
_SHOWN = 100
_NO_TOKEN = "it has no token of daemon.tokens, as a header 'Authorization: Bearer TOKEN'"

RawHeaders = list[tuple[bytes, bytes]]

_TEXT: RawHeaders = [(b"content-type", b"text/plain; charset=utf-8"), (b"x-content-type-options", b"nosniff")]


class Gate:
    """ASGI middleware around the whole application; `methods` maps each path to the methods it has."""

    def __init__(self, app: ASGIApp, *, env: EnvConfig, listen: str, methods: Mapping[str, Iterable[str]]) -> None:
        self._app = app
        self._methods = {path: frozenset(names) for path, names in methods.items()}
        self._auth = bool(env.daemon.tokens)
        self._tokens = [token.strip().encode() for token in env.daemon.tokens if token.strip()]
        self._hosts = _own_hosts(env, listen)
        self._root = env.daemon.root_url.rstrip("/").lower()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return

        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(b"date", formatdate(usegmt=True).encode()), (b"server", SERVER.encode())]
                message = {**message, "headers": [*own, *message.get("headers", ())]}
            await send(message)

        scope[REQUEST_ID] = uuid.uuid4().hex[:8]
        refusal = self._refusal(scope)
        if refusal is None:
            await self._app(scope, receive, send_dated)
            return
        status, headers, body = refusal
        headers = [*headers, (b"content-length", str(len(body)).encode())]
        await send_dated({"type": "http.response.start", "status": status, "headers": headers})
        await send_dated({"type": "http.response.body", "body": body})

    def _refusal(self, scope: Scope) -> tuple[int, RawHeaders, bytes] | None:
        path = scope["path"]
        clean = _clean(path)
        if clean != path:
            return 301, [(b"location", _location(clean, scope["query_string"]))], b""
        methods = self._methods.get(path)
        if methods is None:
            return 404, [(b"content-type", b"text/plain; charset=utf-8")], b"404 page not found\n"
        if scope["method"] not in methods:
            return 405, [(b"allow", ", ".join(sorted(methods)).encode())], b""
        problem = self._problem(Headers(scope=scope))
        if problem:
            log.warning("request refused: %s", problem, extra={"fields": {"req_id": scope[REQUEST_ID], "path": path}})
            if scope["method"] == "POST":
                return 403, [], b""
            return 403, _TEXT, f"request refused: {problem}\n".encode()
        return None

    def _problem(self, headers: Headers) -> str:
        """Told to the daemon's log, and to who fetches: clients of the original, which post, show only the status."""
        if not self._own_host(headers):
            host = headers.get("host", "")[:_SHOWN]
            return f"its Host is {host!r}, which may be a web page's: listen for the network, or set daemon.tokens"
        if not self._own_origin(headers):
            return f"its Origin is {headers.get('origin', '')[:_SHOWN]!r}, another site's"
        return "" if self._authorized(headers) else _NO_TOKEN

    def _own_host(self, headers: Headers) -> bool:
        host = headers.get("host", "").lower()
        return not host or self._hosts is None or _names_us(host, self._hosts)

    def _own_origin(self, headers: Headers) -> bool:
        """A browser sends an Origin with each request that can change something; other clients send none."""
        host = headers.get("host", "").lower()
        origin = headers.get("origin")
        return origin is None or origin.lower() in (f"http://{host}", f"https://{host}", self._root)

    def _authorized(self, headers: Headers) -> bool:
        if not self._auth:
            return True
        pieces = headers.get("authorization", "").split("Bearer ")
        if len(pieces) != 2:
            return False
        given = pieces[1].strip().encode("latin-1")  # back to the bytes that came
        return any(hmac.compare_digest(given, token) for token in self._tokens)


def _own_hosts(env: EnvConfig, listen: str) -> frozenset[str] | None:
    """Names that the Host header may have; None: any.

    A foreign name that resolves to a loopback address is how a web page gets past the browser's origin rule. A token
    stops it as well, and a daemon that listens for the network may have any name.
    """
    host = server.split_address(listen, "daemon.listen")[0].lower()
    if env.daemon.tokens or not (host == "localhost" or host.endswith(".localhost") or _is_loopback(host)):
        return None
    root = urlsplit(env.daemon.root_url).hostname if env.daemon.root_url else None
    return frozenset(filter(None, (host, "localhost", root)))


def _names_us(host: str, names: frozenset[str]) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name in names or name.endswith(".localhost") or _address(name) is not None


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_loopback


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _clean(path: str) -> str:
    """As Go's router cleans: no `//`, no dot segments, no slash at the end. A path that is none stays as it is."""
    if not path.startswith("/"):
        return path
    return "/" + posixpath.normpath(path).lstrip("/")


def _location(path: str, query: bytes) -> bytes:
    """Quoted anew, so that nothing in it can be read as another host or another header."""
    return quote(path).encode() + (b"?" + query if query else b"")
