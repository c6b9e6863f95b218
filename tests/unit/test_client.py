import json
import socket
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from testground import client as client_module
from testground import errors
from testground.api import rpc
from testground.api.task import Outcome, State, TaskType
from testground.client import Client
from testground.plan import sources

ID = "dc28aidqmd2op8cgmlg0"
STAMP = "2026-11-23T18:26:17.516257977Z"


def task(**changes: Any) -> dict[str, Any]:
    states = [{"created": STAMP, "state": "scheduled"}, {"created": STAMP, "state": "complete"}]
    return {"version": 0, "priority": 1, "id": ID, "states": states, "type": "build", "result": ["a"], **changes}


@pytest.fixture
def client(fake_daemon: Any) -> Iterator[Client]:
    with Client(fake_daemon.endpoint) as client:
        yield client


@pytest.mark.parametrize(
    ("path", "call", "body", "result"),
    [
        (
            "/tasks",
            lambda c: c.tasks(
                rpc.TasksRequest(types=list(TaskType), states=[State.SCHEDULED, State.PROCESSING, State.COMPLETE])
            ),
            '{"Types":["build","run"],"States":["scheduled","processing","complete"],'
            '"After":null,"Before":null,"TestPlan":"","TestCase":""}',
            None,
        ),
        ("/status", lambda c: c.status("dc28c55qmd2pf1kojstg"), '{"task_id":"dc28c55qmd2pf1kojstg"}', task()),
        (
            "/logs",
            lambda c: c.logs(ID, follow=True, cancel=True),
            f'{{"task_id":"{ID}","follow":true,"cancel_with_context":true}}',
            task(),
        ),
        (
            "/outputs",
            lambda c: c.outputs("local:docker", "nosuch", bytearray().extend),
            '{"runner":"local:docker","run_id":"nosuch"}',
            False,
        ),
        ("/terminate", lambda c: c.terminate("local:docker"), '{"runner":"local:docker","builder":""}', "Done"),
        (
            "/healthcheck",
            lambda c: c.healthcheck("local:docker", fix=True),
            '{"runner":"local:docker","fix":true}',
            {"Checks": None, "Fixes": None},
        ),
        (
            "/build/purge",
            lambda c: c.purge("docker:go", "suite/demo"),
            '{"builder":"docker:go","testplan":"suite/demo"}',
            "build purge succeeded",
        ),
        ("/cancel", lambda c: c.cancel(ID), f'{{"task_id":"{ID}"}}', "Done"),
        ("/delete", lambda c: c.delete(ID), f'{{"task_id":"{ID}"}}', "Done"),
    ],
)
def test_requests_are_those_of_the_go_client(
    fake_daemon: Any, client: Client, path: str, call: Any, body: str, result: Any
) -> None:
    fake_daemon.result(path, result)
    call(client)
    [request] = fake_daemon.requests
    assert (request.path, request.body.decode()) == (path, body + "\n")
    assert "Authorization" not in request.headers


def test_an_upload_has_a_length_and_the_parts_in_order(fake_daemon: Any, client: Client, tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("pass\n")
    fake_daemon.result("/build", ID)
    with sources.pack(b'{"priority":1}', tmp_path) as body:
        assert client.build(body) == ID
    [request] = fake_daemon.requests
    assert request.parts == ["composition.json", "plan.zip"]
    assert request.json == {"priority": 1}
    assert int(request.headers["Content-Length"]) == len(request.body)
    assert request.headers["Content-Type"].startswith("multipart/related; boundary=")


def test_the_token_is_trimmed_and_sent(fake_daemon: Any) -> None:
    fake_daemon.result("/tasks", None)
    with Client(fake_daemon.endpoint + "/", " tok1\n") as client:
        assert client.tasks(rpc.TasksRequest()) == []
    assert fake_daemon.requests[0].headers["Authorization"] == "Bearer tok1"


def test_results_become_models(fake_daemon: Any, client: Client) -> None:
    fake_daemon.result("/tasks", [task(), task(type="run", result={"outcome": "failure"})])
    fake_daemon.result("/healthcheck", {"checks": [{"Name": "x", "status": "failed", "Message": "m"}], "Fixes": None})
    built, run = client.tasks(rpc.TasksRequest())
    assert (built.outcome, run.outcome) == (Outcome.SUCCESS, Outcome.FAILURE)
    assert client.healthcheck("local:exec").checks_failed


def test_progress_comes_while_the_daemon_still_works(fake_daemon: Any, client: Client) -> None:
    states = {"group": "g", "total": 2, "running": 1, "ok": 1, "failed": 0}
    pieces = rpc.progress(b"half a li") + rpc.progress(b"", states=states) + rpc.progress(b"ne\n")
    fake_daemon.answer("/logs", *(bytes([byte]) for byte in pieces), rpc.result(task()))
    seen: list[rpc.Chunk] = []
    client.logs(ID, on_progress=seen.append)
    assert b"".join(chunk.payload for chunk in seen) == b"half a line\n"
    assert [chunk.extra for chunk in seen] == [{}, {"states": states}, {}]


def test_an_error_chunk_is_raised_as_what_the_daemon_raised(fake_daemon: Any, client: Client) -> None:
    fake_daemon.answer("/status", rpc.error("queue full", "queue-full"))
    fake_daemon.answer("/status", rpc.error("of a daemon that sends no codes"))
    with pytest.raises(errors.QueueFullError, match="^queue full$"):
        client.status(ID)
    with pytest.raises(errors.DaemonError, match="^of a daemon"):
        client.status(ID)


@pytest.mark.parametrize(
    ("status", "error", "message"),
    [
        (403, errors.AuthError, "^unexpected status code received: 403 Forbidden$"),
        (404, errors.DaemonError, "^unexpected status code received: 404 Not Found; is http://.* a testground daemon"),
        (500, errors.DaemonError, "500 Internal Server Error"),
    ],
)
def test_a_bad_status(fake_daemon: Any, client: Client, status: int, error: type[Exception], message: str) -> None:
    fake_daemon.answer("/status", b"<html>", status=status, content_type="text/html")
    with pytest.raises(error, match=message):
        client.status(ID)


def test_a_foreign_web_server(fake_daemon: Any, client: Client) -> None:
    fake_daemon.answer("/status", b"<html>", content_type="text/html")
    with pytest.raises(errors.DaemonError, match="unexpected content-type received: text/html; is http"):
        client.status(ID)


def test_a_content_type_with_a_charset_is_accepted(fake_daemon: Any, client: Client) -> None:
    fake_daemon.answer("/status", rpc.result(task()), content_type="application/json; charset=utf-8")
    assert client.status(ID).id == ID


@pytest.mark.parametrize("broken", [True, False])
def test_an_answer_that_ends_anywhere_is_an_error(fake_daemon: Any, client: Client, broken: bool) -> None:
    answer = rpc.progress(b"hi\n") + b"\n" + rpc.result({"id": "ü"})
    for cut in range(len(answer)):
        fake_daemon.answers.clear()
        fake_daemon.answer("/terminate", answer[:cut], broken=broken)
        with pytest.raises(errors.StreamError, match="EOF"):
            client.terminate("local:exec")


@pytest.mark.parametrize(
    ("path", "call", "value"),
    [
        ("/status", lambda c: c.status(ID), None),
        ("/status", lambda c: c.status(ID), task(states=[])),
        ("/status", lambda c: c.status(ID), task(states=[{"created": "yesterday", "state": "complete"}])),
        ("/tasks", lambda c: c.tasks(rpc.TasksRequest()), {}),
        ("/tasks", lambda c: c.tasks(rpc.TasksRequest()), [1]),
        ("/healthcheck", lambda c: c.healthcheck("x"), []),
        ("/outputs", lambda c: c.outputs("x", ID, print), "true"),
    ],
)
def test_a_result_of_the_wrong_kind(fake_daemon: Any, client: Client, path: str, call: Any, value: Any) -> None:
    fake_daemon.result(path, value)
    with pytest.raises(errors.StreamError):
        call(client)


def test_a_run_whose_result_is_no_id(fake_daemon: Any, client: Client) -> None:
    fake_daemon.result("/run", 7)
    with sources.pack(b"{}") as body, pytest.raises(errors.StreamError, match="^result should be string$"):
        client.run(body)


def test_outputs_of_any_size_need_little_memory(fake_daemon: Any, client: Client) -> None:
    piece = bytes(64 << 10)
    fake_daemon.answer("/outputs", *[rpc.binary(piece)] * 256, rpc.progress(b"log\n"), rpc.result(True))
    sizes: list[int] = []
    tracemalloc.start()
    assert client.outputs("local:exec", ID, lambda data: sizes.append(len(data)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert sum(sizes) == 16 << 20
    assert peak < 4 << 20


def test_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
        with Client(endpoint) as client, pytest.raises(errors.UnreachableError) as caught:
            client.status(ID)
    assert f"no daemon answers at {endpoint}" in str(caught.value)
    assert "testground daemon" in str(caught.value)


@contextmanager
def listener(greeting: bytes) -> Iterator[str]:
    """Something that says `greeting` to whoever connects, once it has heard something, and hangs up."""

    def serve() -> None:
        connection, _ = server.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(greeting)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
        thread.join(10)
        assert not thread.is_alive()


def test_something_else_listens() -> None:
    match = "does not speak HTTP"
    with listener(b"SSH-2.0-OpenSSH\r\n\r\n") as endpoint, pytest.raises(errors.DaemonError, match=match):
        Client(endpoint).status(ID)


def test_the_daemon_dies_before_it_answers() -> None:
    match = "closed the connection before it answered"
    with listener(b"") as endpoint, pytest.raises(errors.StreamError, match=match):
        Client(endpoint).status(ID)


@pytest.mark.parametrize(
    "endpoint", ["", "localhost:8042", "ftp://localhost", "http://", "http://host:port", "http://["]
)
def test_an_endpoint_that_is_none(endpoint: str) -> None:
    with pytest.raises(errors.ConfigError, match="is not a URL such as"):
        Client(endpoint)


def test_a_proxy_of_the_environment_is_not_asked_for_this_machine(
    fake_daemon: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    fake_daemon.result("/tasks", None)
    with Client(fake_daemon.endpoint) as client:
        assert client.tasks(rpc.TasksRequest()) == []


def test_what_follows_the_result_is_ignored(fake_daemon: Any, client: Client) -> None:
    fake_daemon.answer("/status", b"\n " + rpc.result(task()) + b"garbage")
    assert client.status(ID).id == ID
    assert json.loads(fake_daemon.requests[0].body) == {"task_id": ID}


def test_what_listens_and_is_silent_is_no_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "GREETING_SECONDS", 0.05)
    text = r"has not answered within 0\.05 seconds; is it a testground daemon\?$"
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(errors.UnreachableError, match=text):
        Client(f"http://127.0.0.1:{silent.getsockname()[1]}").greet()


def test_any_answer_is_a_greeting(client: Client) -> None:
    client.greet()


def test_who_does_not_say_that_it_is_ours_is_taken_for_the_go_daemon(client: Client) -> None:
    assert not client.original
    client.greet()
    assert client.original


NO_LOG = rpc.error(f"error while getting task; err: error when newTailReader, err: open {ID}.out: no such file")


def test_a_log_that_the_go_daemon_has_not_begun_is_asked_for_again(fake_daemon: Any, client: Client) -> None:
    fake_daemon.answer("/logs", NO_LOG)
    fake_daemon.result("/logs", task())
    client.greet()
    assert client.logs(ID, follow=True).id == ID


@pytest.mark.parametrize(("greeted", "requests"), [(True, 4), (False, 1)])
def test_a_log_that_never_begins_is_an_error(fake_daemon: Any, client: Client, greeted: bool, requests: int) -> None:
    fake_daemon.answer("/logs", NO_LOG)
    if greeted:
        client.greet()
    with pytest.raises(errors.DaemonError, match="newTailReader"):
        client.logs(ID, follow=True)
    assert len(fake_daemon.sent("/logs")) == requests
