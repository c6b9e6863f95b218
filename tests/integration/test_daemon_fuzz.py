"""Schemathesis over the daemon's own API document: no server error, no status that the document does not declare."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from testground.config import ClientConfig, DaemonConfig, EnvConfig, Home, SchedulerConfig
from testground.daemon import app
from testground.daemon.main import embedded

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]
EFFORT = settings(
    max_examples=25, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
TOKEN = "fuzz"
OPERATIONS = [("POST", route.path) for route in app.ROUTES] + [("GET", download.path) for download in app.DOWNLOADS]


@pytest.fixture(scope="module", params=["", TOKEN], ids=["open", "guarded"])
def schema(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[schemathesis.BaseSchema]:
    env = EnvConfig(
        home=Home(Path(tmp_path_factory.mktemp("home"))).create(),
        daemon=DaemonConfig(scheduler=SchedulerConfig(queue_size=5)),
        client=ClientConfig(token=request.param),
    )
    with embedded(env) as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json", headers={"Authorization": f"Bearer {TOKEN}"})


@pytest.mark.parametrize("mode", GenerationMode)
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_request_breaks_the_daemon(
    schema: schemathesis.BaseSchema, method: str, path: str, mode: GenerationMode
) -> None:
    @EFFORT
    @given(case=schema[path][method].as_strategy(generation_mode=mode))
    def check(case: schemathesis.Case) -> None:
        for headers in ({"Authorization": f"Bearer {TOKEN}"}, {}):
            response = case.call(headers=headers, timeout=20)
            case.validate_response(response, checks=CHECKS)
            assert b"internal error" not in response.content

    check()


def test_the_document_describes_all_routes(schema: schemathesis.BaseSchema) -> None:
    operations = [operation.ok() for operation in schema.get_all_operations()]
    assert {(operation.method.upper(), operation.path) for operation in operations} == set(OPERATIONS)
