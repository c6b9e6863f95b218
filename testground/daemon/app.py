"""The application: routes, the gate in front of them, and the documents that describe them."""

from __future__ import annotations

from importlib import resources
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from pydantic.json_schema import models_json_schema
from starlette.responses import Response
from starlette.types import ASGIApp

from testground.api import rpc
from testground.config import EnvConfig
from testground.daemon import submit
from testground.daemon.downloads import DOWNLOADS, Download
from testground.daemon.exchange import Answer, Exchanges
from testground.daemon.gate import Gate
from testground.daemon.routes import ROUTES, Route

assert submit  # registers /build and /run

TITLE = "Testground daemon"
DESCRIPTION = (
    "Every POST answers 200 with a stream of JSON chunks, one object after the other without a separator. Member t is "
    "the code of the chunk's kind: 112 progress and 98 binary (p is base64), 114 result (p is any value), 101 error "
    "(e.m is the message, c its code). The stream ends after one result or error. What GET fetches is plain text or "
    "an archive; with a status from 400 on, the text says why there is none."
)

_STATUSES = {
    400: "The body is not a JSON object; no content.",
    403: "Missing or wrong token, or a foreign Host or Origin; no content.",
    405: "Wrong method; no content.",
}
_REASONS = {
    400: "The parameter is missing or malformed.",
    404: "There is nothing of this name.",
    500: "What was asked for cannot be read.",
}
_CHUNK = {
    "type": "object",
    "required": ["t"],
    "properties": {
        "t": {"type": "integer", "enum": [98, 101, 112, 114]},
        "p": {"description": "payload"},
        "e": {"type": "object", "properties": {"m": {"type": "string"}}},
        "c": {"type": "string", "description": "code of an error"},
        "states": {"type": "object", "description": "live instance states of a group, in progress chunks"},
    },
}
_MULTIPART = {
    "type": "string",
    "format": "binary",
    "description": "The JSON object as composition.json, then plan.zip, and sdk.zip and extra.zip if there are any.",
}


def create(exchanges: Exchanges, env: EnvConfig, listen: str) -> ASGIApp:
    """The daemon's ASGI application. `listen` is the address it is served at, as the configuration writes it."""
    app = FastAPI(
        title=TITLE,
        description=DESCRIPTION,
        version=version("testground"),
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for route in ROUTES:
        _add(app, route, exchanges)
    for download in DOWNLOADS:
        _add_download(app, download, exchanges)
    _document(app)
    return Gate(app, env=env, listen=listen, methods=_methods())


def _methods() -> dict[str, set[str]]:
    methods: dict[str, set[str]] = {"/openapi.json": {"GET"}, "/docs": {"GET"}}
    for route in ROUTES:
        methods.setdefault(route.path, set()).add("POST")
    for download in DOWNLOADS:
        methods.setdefault(download.path, set()).add("GET")
    return methods


def _add(app: FastAPI, route: Route, exchanges: Exchanges) -> None:
    async def endpoint() -> Response:
        return Answer(exchanges, route.handler)

    summary, description = _words(route.handler.__doc__)
    app.add_api_route(
        route.path,
        endpoint,
        methods=["POST"],
        name=route.handler.__name__,
        summary=summary,
        description=description,
        response_class=Response,
        responses=_responses(route),
        openapi_extra={"requestBody": {"required": True, "content": _content(route)}},
    )


def _add_download(app: FastAPI, download: Download, exchanges: Exchanges) -> None:
    async def endpoint(request: Request) -> Response:
        return await download.answer(exchanges, request)

    summary, description = _words(download.fetch.__doc__)
    parameter = {"name": download.parameter, "in": "query", "required": True, "description": download.description}
    app.add_api_route(
        download.path,
        endpoint,
        methods=["GET"],
        name=f"get_{download.fetch.__name__}",
        summary=summary,
        description=description,
        response_class=Response,
        responses=_download_responses(download),
        openapi_extra={"parameters": [{**parameter, "schema": {"type": "string"}}]},
    )


def _words(docstring: str | None) -> tuple[str, str]:
    summary, _, details = (docstring or "").partition("\n")
    return summary, " ".join(details.split())


def _download_responses(download: Download) -> dict[int | str, dict[str, Any]]:
    media_type = download.media_type.partition(";")[0]
    found = {"description": "What was asked for.", "content": {media_type: {"schema": {"type": "string"}}}}
    told: dict[int | str, dict[str, Any]] = {
        status: {"description": reason, "content": {"text/plain": {"schema": {"type": "string"}}}}
        for status, reason in _REASONS.items()
    }
    bare: dict[int | str, dict[str, Any]] = {status: {"description": _STATUSES[status]} for status in (403, 405)}
    return {200: found, **told, **bare}


def _responses(route: Route) -> dict[int | str, dict[str, Any]]:
    bare: dict[int | str, dict[str, Any]] = {
        status: {"description": _STATUSES[status]} for status in (*route.statuses, 403, 405)
    }
    chunks = {"description": "A stream of chunks.", "content": {rpc.CONTENT_TYPE: {"schema": _CHUNK}}}
    return {200: chunks, **bare}


def _content(route: Route) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": f"#/components/schemas/{route.model.__name__}"}}}
    if route.multipart:
        content["multipart/related"] = {"schema": _MULTIPART}
    return content


def _document(app: FastAPI) -> None:
    """Serve `/docs`, a page without foreign scripts, and complete `/openapi.json` with the models of the requests."""
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        models = [(route.model, "validation") for route in ROUTES]
        _, schemas = models_json_schema(models, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
        document["components"] = {"schemas": schemas["$defs"]}
        return document

    @app.get("/docs", include_in_schema=False)
    async def docs(_: Request) -> HTMLResponse:
        import jinja2  # 1.7 MiB, for who asks

        template = resources.files("testground.daemon").joinpath("templates/docs.html").read_text(encoding="utf-8")
        page = jinja2.Environment(autoescape=True).from_string(template)
        policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return HTMLResponse(page.render(api=app.openapi()), headers=policy)

    app.openapi = openapi  # type: ignore[method-assign]
