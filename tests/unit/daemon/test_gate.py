"""Paths, methods, origins and tokens (client-daemon §1.1, §8.3)."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from testground.config import DaemonConfig, EnvConfig, Home
from testground.daemon import gate

METHODS = {"/tasks": ("POST",), "/docs": ("GET",), "/build/purge": ("POST",)}


async def inner(scope: Scope, receive: Receive, send: Send) -> None:
    await PlainTextResponse(scope[gate.REQUEST_ID])(scope, receive, send)


def open_client(listen: str = "localhost:8042", **config: object) -> httpx.AsyncClient:
    env = EnvConfig(home=Home(Path("/nowhere")), daemon=DaemonConfig.model_validate(config))
    app = gate.Gate(inner, env=env, listen=listen, methods=METHODS)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://localhost:8042")


async def ask(client: httpx.AsyncClient, method: str, path: str, **headers: str) -> httpx.Response:
    return await client.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/tasks", 200),
        ("GET", "/docs", 200),
        ("GET", "/describe", 404),
        ("POST", "/list", 404),
        ("POST", "/", 404),
        ("PUT", "/tasks", 405),
        ("HEAD", "/tasks", 405),
        ("GET", "/tasks", 405),
        ("OPTIONS", "/tasks", 405),
        ("POST", "/docs", 405),
        ("POST", "/Tasks", 404),
        ("POST", "/.tasks", 404),
        ("POST", "/tasks%00", 404),
        ("POST", "/%ff%fe", 404),
    ],
)
async def test_paths_and_methods(method: str, path: str, status: int) -> None:
    async with open_client() as client:
        response = await ask(client, method, path)
    assert response.status_code == status
    assert "date" in response.headers
    assert response.headers["server"].startswith("testground/")


async def test_unknown_path_has_the_body_of_go() -> None:
    async with open_client(tokens=["t"]) as client:
        response = await ask(client, "GET", "/describe")
    assert response.text == "404 page not found\n"
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


async def test_wrong_method_has_no_body_and_needs_no_token() -> None:
    async with open_client(tokens=["t"]) as client:
        response = await ask(client, "PUT", "/tasks")
    assert (response.status_code, response.content) == (405, b"")
    assert response.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/tasks/", "/tasks"),
        ("//tasks", "/tasks"),
        ("/build//purge", "/build/purge"),
        ("/tasks/?a=b&c=%20d", "/tasks?a=b&c=%20d"),
        ("/unknown/", "/unknown"),
        ("//evil.example//", "/evil.example"),
        ("/%5Cevil.example/", "/%5Cevil.example"),
        ("/a%0d%0aSet-Cookie:x/", "/a%0D%0ASet-Cookie%3Ax"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_unclean_path_is_redirected(method: str, path: str, location: str) -> None:
    async with open_client(tokens=["t"]) as client:
        url = client.base_url.copy_with(raw_path=path.encode())
        response = await client.request(method, url)
    assert (response.status_code, response.content) == (301, b"")
    assert response.headers["location"] == location


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 403),
        ("Bearer tok1", 200),
        ("Bearer tok2", 200),
        ("Bearer   tok1  ", 200),
        ("bearer tok1", 403),
        ("Bearer tok", 403),
        ("Bearer tok11", 403),
        ("Bearer ", 403),
        ("tok1", 403),
        ("Basic Bearer tok1", 200),  # split on the exact text, as upstream
        ("Bearer tok1Bearer tok1", 403),
        ("Bearer", 403),
    ],
)
async def test_token(header: str | None, status: int) -> None:
    async with open_client(tokens=[" tok1 ", "tok2", ""]) as client:
        headers = {} if header is None else {"authorization": header}
        response = await client.post("/tasks", headers=headers)
    assert response.status_code == status
    if status == 403:
        assert response.content == b""
        assert "content-type" not in response.headers


async def test_token_that_is_not_ascii() -> None:
    async with open_client(tokens=["tök"]) as client:
        response = await client.post("/tasks", headers={b"authorization": "Bearer tök".encode()})
    assert response.status_code == 200


async def test_tokens_that_are_all_blank_lock_everyone_out() -> None:
    async with open_client(tokens=["", " "]) as client:
        assert (await ask(client, "POST", "/tasks")).status_code == 403
        assert (await ask(client, "POST", "/tasks", authorization="Bearer ")).status_code == 403


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        ("http://localhost:8042", "localhost:8042", 200),
        ("http://127.0.0.1:8042", "127.0.0.1:8042", 200),
        ("http://[::1]:8042", "[::1]:8042", 200),
        ("HTTP://LOCALHOST:8042", "localhost:8042", 200),
        ("https://ci.example.org", "localhost:8042", 200),  # the root_url of a proxy
        ("https://ci.example.org", "ci.example.org", 200),
        ("http://evil.example", "localhost:8042", 403),
        ("http://localhost:9999", "localhost:8042", 403),
        ("http://127.0.0.1:8042", "localhost:8042", 403),
        ("null", "localhost:8042", 403),
        ("", "localhost:8042", 403),
        ("http://evil.example:8042", "evil.example:8042", 403),  # a name that was made to resolve to us
        (None, "evil.example:8042", 403),
        (None, "localhost:8042", 200),
        (None, "dash.localhost", 200),
        (None, "192.168.1.5:8042", 200),
        (None, "[", 403),
        (None, "localhost.evil.example", 403),
    ],
)
async def test_foreign_pages_are_refused(origin: str | None, host: str, status: int) -> None:
    async with open_client(root_url="https://ci.example.org/") as client:
        headers = {"host": host} if origin is None else {"host": host, "origin": origin}
        response = await client.post("/tasks", headers=headers)
    assert (response.status_code, response.content == b"") == (status, status == 403)


@pytest.mark.parametrize("config", [{"listen": "0.0.0.0:8042"}, {"listen": "build-server:8042"}, {"tokens": ["t"]}])
async def test_any_host_when_open_to_the_network_or_guarded_by_tokens(config: dict[str, object]) -> None:
    async with open_client(**config) as client:  # type: ignore[arg-type]
        response = await ask(client, "POST", "/tasks", host="daemon.internal:8042", authorization="Bearer t")
        crossed = await ask(client, "POST", "/tasks", host="daemon.internal", origin="http://evil.example")
    assert response.status_code == 200
    assert crossed.status_code == 403


async def test_each_request_has_an_id_of_its_own_that_a_client_cannot_choose() -> None:
    async with open_client() as client:
        ids = {(await ask(client, "POST", "/tasks", x_request_id="../../x")).text for _ in range(3)}
    assert len(ids) == 3
    assert all(len(text) == 8 and set(text) <= set("0123456789abcdef") for text in ids)


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({"host": "testground.example:8042"}, "its Host is 'testground.example:8042', which may be a web page's"),
        ({"origin": "http://evil.example"}, "its Origin is 'http://evil.example', another site's"),
        ({"origin": "http://" + "x" * 1000}, f"its Origin is 'http://{'x' * 93}', another site's"),
    ],
)
async def test_the_log_tells_why_a_request_was_refused(
    headers: dict[str, str], problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_client() as client:
        assert (await ask(client, "POST", "/tasks", **headers)).status_code == 403
    assert f"request refused: {problem}" in caplog.text


async def test_the_log_never_shows_a_token(caplog: pytest.LogCaptureFixture) -> None:
    async with open_client(tokens=["secret"]) as client:
        assert (await ask(client, "POST", "/tasks", authorization="Bearer guess")).status_code == 403
    assert "request refused: it has no token of daemon.tokens" in caplog.text
    assert "secret" not in caplog.text and "guess" not in caplog.text
