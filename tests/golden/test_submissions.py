"""Submissions of client-daemon §8.4 and §8.5 as the Go client sends them, and what our daemon makes of them.

Builder and runner are ones that need no tool, in place of those of the vectors. The other direction, what our
client sends, is in `test_requests.py`; errors of the preparation (§8.6, P1 to P8) are in `test_preparation.py`.
"""

from __future__ import annotations

import io
import json
import socket
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from testground.api import rpc
from testground.api.rpc import ChunkDecoder
from testground.config import DaemonConfig, EnvConfig, Home
from testground.daemon.main import embedded
from tests.golden.test_requests import BUILD, RUN_COMPOSITION

DEADLINE = 30
B = "c4155014ea869c019f37e330e286e4740d770856d36f91aad4c3fa1d9b07"
SUCCESS = """#!/bin/sh\necho '{"event":{"success_event":{"group":"single"}}}'\n"""
MINIMAL_MANIFEST = {
    "Name": "demo",
    "Builders": {"exec:generic": {}},
    "Runners": {"local:exec": {}},
    "TestCases": [{"Name": "ok", "Instances": {"Minimum": 1, "Maximum": 1}}],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return Home(tmp_path_factory.mktemp("home")).create()


@pytest.fixture(scope="module")
def endpoint(home: Home) -> Iterator[str]:
    with embedded(EnvConfig(home=home, daemon=DaemonConfig())) as url:
        yield url


def zipped(**files: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in files.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = 0o100755 << 16
            archive.writestr(info, text)
    return data.getvalue()


def local(request: dict[str, Any]) -> str:
    """A request of the vectors in the Go client's bytes, with a builder and a runner that are here."""
    text = json.dumps(request, separators=(",", ":"))
    for name, ours in (("exec:go", "exec:generic"), ("docker:go", "exec:generic"), ("local:docker", "local:exec")):
        text = text.replace(name, ours)
    return text


def parts(text: str, **archives: bytes) -> list[bytes]:
    """As Go's multipart writer makes them: each ends without a line end, which comes before the next boundary."""
    head = "\r\n--{}\r\nContent-Disposition: attachment; filename={}\r\nContent-Type: {}\r\n\r\n"
    pieces = [head.format(B, "composition.json", "application/json")[2:].encode() + text.encode() + b"\n"]
    pieces += [head.format(B, f"{name}.zip", "application/zip").encode() + data for name, data in archives.items()]
    return [*pieces, f"\r\n--{B}--\r\n".encode()]


def post(endpoint: str, path: str, pieces: list[bytes]) -> bytes:
    """The answer's head and body, to a request whose pieces are HTTP chunks."""
    host, _, port = endpoint.removeprefix("http://").partition(":")
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: Go-http-client/1.1\r\n"
        f"Transfer-Encoding: chunked\r\nContent-Type: multipart/related; boundary={B}\r\nAccept-Encoding: gzip\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), DEADLINE) as connection:
        connection.sendall(head.encode())
        for piece in pieces:
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece))
        connection.sendall(b"0\r\n\r\n")
        answer = b""
        while not answer.endswith(b"0\r\n\r\n"):
            data = connection.recv(1 << 16)
            assert data, answer
            answer += data
    return answer


def submit(endpoint: str, path: str, pieces: list[bytes]) -> dict[str, Any]:
    """The task at its end."""
    head, _, body = post(endpoint, path, pieces).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    [result] = [json.loads(line) for line in body.split(b"\r\n") if line.startswith(b'{"t":114')]
    return finished(endpoint, result["p"])


def finished(endpoint: str, task_id: str) -> dict[str, Any]:
    body = json.dumps({"task_id": task_id, "follow": True, "cancel_with_context": True}) + "\n"
    answer = httpx.post(f"{endpoint}/logs", content=body, timeout=DEADLINE)
    *_, last = answer.content.splitlines()
    task: dict[str, Any] = json.loads(last)["p"]
    return task


def ask(endpoint: str, path: str, content: bytes, content_type: str) -> rpc.Chunk:
    answer = httpx.post(f"{endpoint}{path}", content=content, headers={"Content-Type": content_type}, timeout=DEADLINE)
    return list(ChunkDecoder().feed(answer.content))[-1]


PLAN = zipped(**{".hidden": "x", "run": SUCCESS, "manifest.toml": "", "sub/y.txt": "y"})
RUN = {
    "priority": 1,
    "build_groups": [0],
    "run_ids": ["default"],
    "composition": RUN_COMPOSITION,
    "manifest": {
        "Name": "demo",
        "Builders": {"docker:go": {"enabled": True}},
        "Runners": {"local:docker": {"enabled": True}},
        "TestCases": [{"Name": "ok", "Instances": {"Minimum": 1, "Maximum": 5}, "Parameters": None}],
        "ExtraSources": {"docker_go": ["/abs/path/shared"]},
    },
    "created_by": {"user": "me"},
}


@pytest.mark.parametrize(
    ("model", "request_"),
    [pytest.param(rpc.BuildRequest, BUILD, id="8.4"), pytest.param(rpc.RunRequest, RUN, id="8.5")],
)
def test_requests_are_read_and_written_byte_for_byte(
    model: type[rpc.BuildRequest | rpc.RunRequest], request_: dict[str, Any]
) -> None:
    text = json.dumps(request_, separators=(",", ":"))
    assert json.dumps(model.model_validate(json.loads(text)).wire(), separators=(",", ":")) == text


@pytest.mark.parametrize("size", [0, 1, 7], ids=["8.4-parts", "8.4-bytes", "8.4-sevens"])
def test_8_4_build(endpoint: str, size: int) -> None:
    """In HTTP chunks that are the parts, single bytes, or seven bytes."""
    pieces = parts(local(BUILD), plan=PLAN)
    if size:
        whole = b"".join(pieces)
        pieces = [whole[at : at + size] for at in range(0, len(whole), size)]
    task = submit(endpoint, "/build", pieces)
    assert " ".join(task) == (
        "version priority id runner plan case states type composition input result error created_by"
    )
    assert [state["state"] for state in task["states"]] == ["scheduled", "processing", "complete"]
    assert (task["version"], task["priority"], task["type"], task["error"]) == (0, 1, "build", "")
    assert (task["runner"], task["plan"], task["case"], task["composition"]) == ("", "", "", None)
    assert task["created_by"] == {"user": "me"}
    assert [Path(artifact).read_text() for artifact in task["result"]] == [SUCCESS]
    given = task["input"]
    assert sorted(given["Sources"]) == ["base_dir", "extra_dir", "plan_dir", "sdk_dir"]
    assert (given["Sources"]["extra_dir"], given["Sources"]["sdk_dir"]) == ("", "")
    assert given["Sources"]["plan_dir"] == f"{given['Sources']['base_dir']}/plan"
    assert given["manifest"] == json.loads(local(BUILD))["manifest"]


def test_8_5_run(endpoint: str) -> None:
    task = submit(endpoint, "/run", parts(local(RUN), plan=PLAN, sdk=zipped(q="q"), extra=zipped(x="x")))
    assert (task["error"], task["type"], task["states"][-1]["state"]) == ("", "run", "complete")
    assert task["result"]["outcome"] == "success"
    assert task["result"]["outcomes"] == {"single": {"ok": 2, "total": 2}}
    assert (task["plan"], task["case"], task["runner"]) == ("suite/demo", "ok", "local:exec")
    assert (task["input"]["build_groups"], task["input"]["run_ids"]) == ([0], ["default"])
    assert all(task["input"]["Sources"].values())


def minimal(artifact: str, builder: str = "exec:generic") -> dict[str, Any]:
    names = {"plan": "demo", "case": "ok", "builder": builder, "runner": "local:exec"}
    groups = [{"id": "single", "instances": {"count": 1}, "run": {"artifact": artifact}}]
    return {"run_ids": ["default"], "composition": {"global": names, "groups": groups}, "manifest": MINIMAL_MANIFEST}


def test_8_5_minimal_run(endpoint: str) -> None:
    """Upstream's result is null and its outcome a success; ours has to hear one, which /bin/true does not say."""
    task = submit(endpoint, "/run", parts(json.dumps(minimal("/bin/true"))))
    assert (task["states"][-1]["state"], task["result"]["outcome"]) == ("complete", "failure")
    [failure] = task["result"]["failures"]
    assert failure["reason"] == "exited without reporting an outcome (exit code 0)"


def test_8_5_minimal_build(endpoint: str) -> None:
    request = {
        "composition": {"global": {"plan": "demo", "builder": "exec:generic"}, "groups": [{"id": "g"}]},
        "manifest": MINIMAL_MANIFEST,
    }
    task = submit(endpoint, "/build", parts(json.dumps(request), plan=PLAN))
    assert [Path(artifact).read_text() for artifact in task["result"]] == [SUCCESS]


def test_8_5_plain_json_which_the_go_server_refuses(endpoint: str, tmp_path: Path) -> None:
    (tmp_path / "run").write_text(SUCCESS)
    (tmp_path / "run").chmod(0o755)
    result = ask(endpoint, "/run", json.dumps(minimal(str(tmp_path / "run"))).encode(), "application/json")
    assert finished(endpoint, result.payload)["result"]["outcome"] == "success"


def test_8_5_mixed_parts_without_names(endpoint: str) -> None:
    heads = ("Content-Type: application/json", *["Content-Type: application/zip"] * 2)
    bodies = (json.dumps({**minimal(""), "build_groups": [0]}).encode(), PLAN, zipped(q="q"))
    data = b"".join(
        f"--{B}\r\n{head}\r\n\r\n".encode() + body + b"\r\n" for head, body in zip(heads, bodies, strict=True)
    )
    result = ask(endpoint, "/run", data + f"--{B}--\r\n".encode(), f"multipart/mixed; boundary={B}")
    assert result.kind == "r", result.payload
    assert finished(endpoint, result.payload)["result"]["outcome"] == "success"


@pytest.mark.parametrize(
    ("path", "pieces", "message"),
    [
        pytest.param("/build", parts(local(BUILD)), "bad request; err: plan directory not present", id="8.5-no-plan"),
        pytest.param(
            "/run",
            parts('{"build_groups":[0]}'),
            "failed to consume request; err: plan dir required for build",
            id="8.5-build-groups-alone",
        ),
        pytest.param("/run", parts("{}"), "engine run error: unknown runner: ", id="8.5-nothing"),
        pytest.param(
            "/run",
            parts(json.dumps(minimal("/bin/true", builder=""))),
            "engine run error: runner local:exec is incompatible with builder ",
            id="8.5-no-builder",
        ),
        pytest.param(
            "/run",
            [*parts(local(RUN), plan=PLAN)[:-1], *parts("", plan=PLAN)[1:]],
            "failed to consume request; err: ",
            id="8.5-two-plans",
        ),
        pytest.param(
            "/run",
            parts(local(RUN).replace('"total_instances":2', '"total_instances":-1')),
            "failed to consume request; err: composition.global.total_instances: ",
            id="8.5-negative",  # upstream: cannot unmarshal number -1
        ),
    ],
)
def test_submissions_that_are_refused(endpoint: str, home: Home, path: str, pieces: list[bytes], message: str) -> None:
    answer = ask(endpoint, path, b"".join(pieces), f"multipart/related; boundary={B}")
    assert (answer.kind, answer.payload.startswith(message)) == ("e", True), answer
    assert not list((home.work / "requests").glob("*"))


def test_8_5_a_number_for_a_parameter_is_taken_which_the_go_server_refuses(endpoint: str) -> None:
    text = local(RUN).replace('"test_params":{"a":"1"}', '"test_params":{"a":1}')
    task = submit(endpoint, "/run", parts(text, plan=PLAN))
    assert task["input"]["composition"]["groups"][0]["run"]["test_params"] == {"a": "1"}
