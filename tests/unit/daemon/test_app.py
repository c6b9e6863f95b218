"""The documents that describe the API."""

from __future__ import annotations

from typing import Any

import pytest

from testground.daemon.app import DOWNLOADS, ROUTES


async def test_document_names_every_route_with_its_request(daemon: Any) -> None:
    document = (await daemon.http.get("/openapi.json")).json()
    assert set(document["paths"]) == {route.path for route in (*ROUTES, *DOWNLOADS)}
    for route in ROUTES:
        operation = document["paths"][route.path]["post"]
        content = operation["requestBody"]["content"]
        assert content["application/json"]["schema"] == {"$ref": f"#/components/schemas/{route.model.__name__}"}
        assert ("multipart/related" in content) is (route.path in ("/build", "/run"))
        assert operation["summary"].endswith((".", "task", "run"))
        assert {"200", "403", "405"} <= set(operation["responses"])
    assert "400" in document["paths"]["/outputs"]["post"]["responses"]
    for download in DOWNLOADS:
        operation = document["paths"][download.path]["get"]
        assert [parameter["name"] for parameter in operation["parameters"]] == [download.parameter]
        assert operation["summary"].endswith(".")
        assert set(operation["responses"]) == {"200", "400", "403", "404", "405", "500"}


async def test_every_reference_of_the_document_leads_somewhere(daemon: Any) -> None:
    document = (await daemon.http.get("/openapi.json")).json()
    schemas = document["components"]["schemas"]
    assert {"BuildRequest", "RunRequest", "Composition", "Manifest"} <= set(schemas)
    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in schemas
    assert set(schemas["Composition"]["properties"]) == {"metadata", "global", "groups", "runs"}


async def test_docs_are_a_page_of_our_own(daemon: Any) -> None:
    response = await daemon.http.get("/docs")
    assert response.status_code == 200
    assert response.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    for route in ROUTES:
        assert f"POST {route.path}" in response.text
        assert f'href="#{route.model.__name__}"' in response.text
        assert f'id="{route.model.__name__}"' in response.text
    for download in DOWNLOADS:
        assert f"GET {download.path}" in response.text
    assert "<script" not in response.text
    assert "//" not in response.text.replace("http://localhost", "")


@pytest.mark.parametrize("path", ["/", "/tasks", "/kill", "/cancel", "/delete", "/describe", "/redoc"])
async def test_pages_that_are_not_there(daemon: Any, path: str) -> None:
    known = path in {route.path for route in ROUTES}
    assert (await daemon.http.get(path, params={"task_id": "x"})).status_code == (405 if known else 404)


def references(value: Any) -> list[str]:
    if isinstance(value, dict):
        found = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return found + [reference for child in value.values() for reference in references(child)]
    if isinstance(value, list):
        return [reference for child in value for reference in references(child)]
    return []
