"""Requests and answers of client-daemon §8.2 and §8.3: what our daemon answers and what our client hears.

Where ours differ on purpose, a comment says how. All our errors carry a further member `c`, which other clients ignore,
and come after a warning as progress.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from testground import health
from testground.api import rpc
from testground.api.rpc import Chunk, ChunkDecoder
from testground.api.task import State, TaskType
from testground.client import Client
from testground.config import ClientConfig, DaemonConfig, EnvConfig, Home
from testground.daemon.main import embedded
from testground.errors import AuthError, DaemonError, RunError, StreamError, TestgroundError
from testground.health import Check
from tests.unit.conftest import FakeDaemon

DEADLINE = 30
TASK = {"id": "dc28aidqmd2op8cgmlg0", "states": [{"created": "2026-11-23T18:26:17.516257977Z", "state": "complete"}]}


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    env = EnvConfig(home=Home(tmp_path_factory.mktemp("home")).create(), daemon=DaemonConfig())
    with embedded(env) as url:
        yield url


def ask(endpoint: str, path: str, body: str, **headers: str) -> httpx.Response:
    return httpx.post(f"{endpoint}{path}", content=body.encode(), headers=headers, timeout=DEADLINE)


# -- 8.2 --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asked:
    """A request as the Go client writes it, the call of ours that writes the same, and how our daemon takes it."""

    body: str
    call: Callable[[Client], object]
    result: Any
    """That lets the call succeed."""
    answer: Chunk | str
    """The last chunk of our daemon, or the beginning of its error."""


ASKED = {
    "/tasks": Asked(
        '{"Types":["build","run"],"States":["scheduled","processing","complete"],"After":null,"Before":null,"TestPlan":"",'
        '"TestCase":""}',
        lambda c: c.tasks(
            rpc.TasksRequest(types=list(TaskType), states=[State.SCHEDULED, State.PROCESSING, State.COMPLETE])
        ),
        None,
        Chunk("r", None),
    ),
    "/status": Asked(
        '{"task_id":"dc28c55qmd2pf1kojstg"}',
        lambda c: c.status("dc28c55qmd2pf1kojstg"),
        TASK,
        "could not fetch status; err: task not found",
    ),
    "/logs": Asked(
        '{"task_id":"dc28aidqmd2op8cgmlg0","follow":true,"cancel_with_context":true}',
        lambda c: c.logs("dc28aidqmd2op8cgmlg0", follow=True, cancel=True),
        TASK,
        "error while getting task; err: task not found",
    ),
    "/outputs": Asked(
        '{"runner":"local:docker","run_id":"nosuch"}',
        lambda c: c.outputs("local:docker", "nosuch", bytearray().extend),
        False,
        "cannot collect outputs; err: task key must be a xid id",
    ),
    "/terminate": Asked(
        '{"runner":"local:docker","builder":""}',
        lambda c: c.terminate("local:docker"),
        "Done",
        "terminate error; err: unknown component: local:docker (type: runner)",
    ),
    "/healthcheck": Asked(
        '{"runner":"local:docker","fix":true}',
        lambda c: c.healthcheck("local:docker", fix=True),
        {"Checks": None, "Fixes": None},
        "healthcheck error; err: unknown runner: local:docker",
    ),
    "/build/purge": Asked(
        '{"builder":"docker:go","testplan":"suite/demo"}',
        lambda c: c.purge("docker:go", "suite/demo"),
        "build purge succeeded",
        "build purge error; err: unrecognized builder: docker:go",
    ),
}


@pytest.mark.parametrize("path", [pytest.param(path, id=f"8.2-{path[1:]}") for path in ASKED])
def test_our_client_asks_as_the_go_client(fake_daemon: FakeDaemon, client: Client, path: str) -> None:
    asked = ASKED[path]
    fake_daemon.result(path, asked.result)
    asked.call(client)
    [request] = fake_daemon.requests
    assert (request.path, request.body.decode()) == (path, f"{asked.body}\n")


@pytest.mark.parametrize("path", [pytest.param(path, id=f"8.2-{path[1:]}") for path in ASKED])
def test_our_daemon_understands_the_go_client(endpoint: str, path: str) -> None:
    asked = ASKED[path]
    response = ask(endpoint, path, f"{asked.body}\n", user_agent="Go-http-client/1.1")
    last = list(ChunkDecoder().feed(response.content))[-1]
    if isinstance(asked.answer, Chunk):
        assert last == asked.answer
    else:
        assert (last.kind, last.payload.startswith(asked.answer)) == ("e", True), last


# -- 8.3 --------------------------------------------------------------------------------------------------------

ANSWERS = [
    pytest.param(
        "/status",
        '{"task_id":"bad"}',
        "could not fetch status; err: task key must be a xid id",
        id="8.3-status-bad",  # upstream only logs a warning
    ),
    pytest.param("/status", "{bad", "status json decode; err: ", id="8.3-status-json"),
    pytest.param("/terminate", "{}", "terminate error; err: unknown component:  (type: )", id="8.3-terminate-nothing"),
    pytest.param("/terminate", "", "terminate json decode; err: EOF", id="8.3-terminate-empty"),
    pytest.param(
        "/terminate",
        '{"runner":"a","builder":"b"}',
        "cannot terminate a runner and a builder at the same time",
        id="8.3-terminate-both",
    ),
    pytest.param(
        "/terminate",
        '{"builder":"exec:go"}',
        "terminate error; err: component exec:go is not terminatable",
        id="8.3-terminate-builder",
    ),
    pytest.param(
        "/build/purge",
        '{"builder":"zz","testplan":"p"}',
        "build purge error; err: unrecognized builder: zz",
        id="8.3-purge-unknown",
    ),
    pytest.param(
        "/healthcheck",
        '{"runner":"nope"}',
        "healthcheck error; err: unknown runner: nope",
        id="8.3-healthcheck-unknown",
    ),
    pytest.param(
        "/outputs",
        '{"runner":"x","run_id":"bad"}',
        "cannot collect outputs; err: task key must be a xid id",
        id="8.3-outputs-unknown",  # upstream sends false
    ),
]


@pytest.mark.parametrize(("path", "body", "message"), ANSWERS)
def test_errors_of_our_daemon(endpoint: str, path: str, body: str, message: str) -> None:
    response = ask(endpoint, path, body)
    assert response.headers["content-type"] == "application/json"
    *progress, error = list(ChunkDecoder().feed(response.content))
    assert (error.kind, error.payload.startswith(message)) == ("e", True), error
    assert any("\x1b[33mWARN\x1b[0m\t" in chunk.payload.decode() for chunk in progress)
    last = json.loads(response.content[response.content.rindex(b'{"t":101') :])
    assert list(last) == ["t", "e", "c"]


@pytest.mark.parametrize(
    ("path", "body", "result"),
    [
        pytest.param("/tasks", "{}", b'{"t":114,"p":null}', id="8.3-tasks-none"),
        pytest.param("/terminate", '{"runner":"local:exec"}', b'{"t":114,"p":"Done"}', id="8.3-terminate-runner"),
        pytest.param(
            "/build/purge",
            '{"builder":"exec:go","testplan":"p"}',
            b'{"t":114,"p":"build purge succeeded"}',
            id="8.3-purge",  # not implemented upstream
        ),
    ],
)
def test_results_of_our_daemon(endpoint: str, path: str, body: str, result: bytes) -> None:
    content = ask(endpoint, path, body).content
    assert content.endswith(result)
    if path == "/terminate":
        log = b"".join(chunk.payload for chunk in ChunkDecoder().feed(content) if chunk.kind == "p").decode()
        texts = ["terminating all jobs on component: local:exec", "all jobs terminated on component: local:exec"]
        assert [text in log for text in texts] == [True, True]


def test_8_3_outputs_without_a_request_is_a_bare_400(endpoint: str) -> None:
    response = ask(endpoint, "/outputs", "{bad")
    assert (response.status_code, response.headers["content-length"], response.content) == (400, "0", b"")


@pytest.mark.parametrize(
    ("method", "path", "status", "location"),
    [
        pytest.param("GET", "/tasks/", 301, "/tasks", id="8.3-get-tasks-slash"),
        pytest.param("GET", "/describe", 404, None, id="8.3-get-describe"),
        pytest.param("GET", "/build", 405, None, id="8.3-get-build"),
        pytest.param("PUT", "/tasks", 405, None, id="8.3-put-tasks"),
        pytest.param("GET", "/kill?task_id=x", 404, None, id="8.3-get-kill"),  # ours does not change by GET
        pytest.param("GET", "/delete?task_id=nope", 405, None, id="8.3-get-delete"),  # nor this
    ],
)
def test_pages_of_our_daemon(endpoint: str, method: str, path: str, status: int, location: str | None) -> None:
    response = httpx.request(method, f"{endpoint}{path}", timeout=DEADLINE)
    assert (response.status_code, response.headers.get("location")) == (status, location)


def test_8_3_the_envelope_of_answers(endpoint: str) -> None:
    response = ask(endpoint, "/tasks", "{}")
    headers = dict(response.headers)
    assert headers.pop("date").endswith(" GMT")
    assert headers.pop("server").startswith("testground/")  # ours alone
    assert headers == {"content-type": "application/json", "transfer-encoding": "chunked"}


async def _good() -> tuple[bool, str]:
    return True, "fine"


async def _bad() -> tuple[bool, str]:
    return False, "missing"


async def _erring() -> tuple[bool, str]:
    raise RunError("boom")


async def _mend() -> str:
    return "fixed it"


@pytest.mark.parametrize(
    ("fix", "fixes"),
    [
        pytest.param(False, '[{"Name":"bad","Status":"omitted","Message":""}]', id="8.3-healthcheck"),
        pytest.param(
            True,
            '[{"Name":"good","Status":"unnecessary","Message":""},{"Name":"bad","Status":"ok","Message":"fixed it"},'
            '{"Name":"err","Status":"omitted","Message":""}]',
            id="8.3-healthcheck-fix",
        ),
    ],
)
async def test_a_health_report_in_both_directions(fix: bool, fixes: str) -> None:
    """Our message of a check that could not be made begins with its name, where upstream's is the check's own."""
    checks = [Check("good", _good, _mend), Check("bad", _bad, _mend), Check("err", _erring, _mend)]
    wire = (
        '{"t":114,"p":{"Checks":[{"Name":"good","Status":"ok","Message":"fine"},{"Name":"bad","Status":"failed","Message":'
        '"missing"},{"Name":"err","Status":"aborted","Message":"err could not be checked; error: boom"}],"Fixes":%s}}'
    )
    report = await health.examine(checks, fix=fix)
    assert rpc.result(report.wire()).decode() == wire % fixes
    assert health.parse(json.loads(wire % fixes)["p"]) == report


HEARD = [
    pytest.param(b'{"t":112,"p":"TG9n"}', StreamError, "EOF", id="8.3-status-bad"),
    pytest.param(b"", StreamError, "EOF", id="8.3-nothing"),
    pytest.param(
        b'{"t":112,"p":"TG9n"}{"t":101,"e":{"m":"terminate error; err: unknown component:  (type: )"}}',
        DaemonError,
        "terminate error; err: unknown component:  (type: )",
        id="8.3-terminate-nothing",
    ),
]


@pytest.mark.parametrize(("answer", "error", "message"), HEARD)
def test_errors_as_our_client_hears_them(
    fake_daemon: FakeDaemon, client: Client, answer: bytes, error: type[TestgroundError], message: str
) -> None:
    fake_daemon.answer("/status", answer)
    with pytest.raises(error, match=r"\A" + message.replace("(", r"\(").replace(")", r"\)")):
        client.status("bad")


def test_8_3_results_as_our_client_hears_them(fake_daemon: FakeDaemon, client: Client) -> None:
    fake_daemon.answer("/tasks", b'{"t":114,"p":null}')
    fake_daemon.answer("/outputs", b'{"t":114,"p":false}')
    fake_daemon.answer("/terminate", b'{"t":112,"p":"aGk="}{"t":114,"p":"Done"}')
    assert client.tasks(rpc.TasksRequest()) == []
    assert client.outputs("x", "bad", bytearray().extend) is False
    client.terminate("local:docker")


@pytest.mark.parametrize(
    ("header", "status"), [(None, 403), ("Bearer tok1", 200), ("bearer tok1", 403), ("Bearer tok2", 200)]
)
def test_8_3_auth(tmp_path_factory: pytest.TempPathFactory, header: str | None, status: int) -> None:
    """A daemon embedded into a client knows one token, its own."""
    token = "tok2" if header == "Bearer tok2" else "tok1"
    home = Home(tmp_path_factory.mktemp("home")).create()
    with embedded(EnvConfig(home=home, daemon=DaemonConfig(), client=ClientConfig(token=token))) as endpoint:
        response = ask(endpoint, "/tasks", "{}", **({"authorization": header} if header else {}))
        assert response.status_code == status
        if status == 403:
            assert (response.headers["content-length"], response.content) == ("0", b"")
        assert httpx.get(f"{endpoint}/describe").status_code == 404
        assert httpx.put(f"{endpoint}/tasks").status_code == 405
        with Client(endpoint, "wrong") as client, pytest.raises(AuthError, match="403 Forbidden"):
            client.tasks(rpc.TasksRequest())
