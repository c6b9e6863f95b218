"""/build and /run: accepted shapes of a request, and reasons for refusing one (client-daemon §1.3, §7.3, §8.5)."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from testground.config import DaemonConfig, SchedulerConfig

SUCCESS = """#!/bin/sh\necho '{"event":{"success_event":{"group":"single"}}}'\n"""
SLEEP = "#!/bin/sh\nexec sleep 600\n"

MANIFEST: dict[str, Any] = {
    "Name": "demo",
    "Builders": {"exec:generic": {}},
    "Runners": {"local:exec": {}},
    "TestCases": [{"Name": "ok", "Instances": {"Minimum": 1, "Maximum": 1}}],
}

MANIFEST_TOML = """
name = "demo"
builders."exec:generic" = {}
runners."local:exec" = {}
[[testcases]]
name = "ok"
instances = { min = 1, max = 1 }
"""

B = "c4155014ea869c019f37e330e286e4740d770856d36f91aad4c3fa1d9b07"
GO = f"multipart/related; boundary={B}"


def composition(artifact: str = "", **globals_: Any) -> dict[str, Any]:
    members = {"plan": "demo", "case": "ok", "builder": "exec:generic", "runner": "local:exec", **globals_}
    return {"global": members, "groups": [{"id": "single", "instances": {"count": 1}, "run": {"artifact": artifact}}]}


def request(artifact: str = "", **members: Any) -> dict[str, Any]:
    return {"composition": composition(artifact), "manifest": MANIFEST, **members}


def zipped(**files: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in files.items():
            info = zipfile.ZipInfo(name.replace("__", "."))
            info.external_attr = 0o100755 << 16
            archive.writestr(info, text)
    return data.getvalue()


PLAN = zipped(run=SUCCESS, manifest__toml=MANIFEST_TOML)


def part(body: Any, filename: str = "", content_type: str = "", disposition: str = "attachment") -> bytes:
    if isinstance(body, dict | list | None.__class__):
        body = json.dumps(body).encode() + b"\n"
        filename, content_type = filename or "composition.json", content_type or "application/json"
    name = f"; filename={filename}" if filename and filename != "-" else ""
    head = f"Content-Disposition: {disposition}{name}\r\n" if disposition else ""
    head += f"Content-Type: {content_type}\r\n" if content_type else ""
    return f"{head}\r\n".encode() + body


def multipart(*parts: bytes, end: bool = True) -> bytes:
    body = b"".join(b"--" + B.encode() + b"\r\n" + text + b"\r\n" for text in parts)
    return body + (b"--" + B.encode() + b"--\r\n" if end else b"")


def plan_part(data: bytes = PLAN) -> bytes:
    return part(data, "plan.zip", "application/zip")


async def submitted(daemon: Any, path: str, body: Any, content_type: str = GO) -> dict[str, Any]:
    """The task at its end."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    task_id = (await daemon.ask(path, data, content_type=content_type))[-1]
    assert task_id.kind == "r", task_id.payload
    task: dict[str, Any] = (await daemon.ask("/logs", {"task_id": task_id.payload, "follow": True}))[-1].payload
    return task


async def refused(daemon: Any, path: str, body: Any, content_type: str | None = GO) -> str:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {} if content_type is None else {"content_type": content_type}
    error = (await daemon.ask(path, data, **headers))[-1]
    assert error.kind == "e"
    assert "internal error" not in error.payload
    assert daemon.requests == []
    return str(error.payload)


def succeeded(task: dict[str, Any]) -> bool:
    assert task["error"] == ""
    return bool(task["states"][-1]["state"] == "complete" and task["result"]["outcome"] == "success")


# -- accepted ---------------------------------------------------------------------------------------------------


async def test_build_as_the_go_client_sends_it(daemon: Any) -> None:
    task = await submitted(
        daemon, "/build", multipart(part(request(priority=1, created_by={"user": "me"})), plan_part())
    )
    assert task["error"] == ""
    assert task["type"] == "build"
    assert task["priority"] == 1
    assert task["created_by"] == {"user": "me"}
    assert task["composition"] is None
    sources = task["input"]["Sources"]
    assert sources["plan_dir"] == f"{sources['base_dir']}/plan"
    assert Path(sources["base_dir"]).parent == daemon.env.home.work / "requests"
    assert len(Path(sources["base_dir"]).name) == 8
    [artifact] = task["result"]
    assert Path(artifact).read_text() == SUCCESS
    assert daemon.requests == []


async def test_run_as_the_go_client_sends_it(daemon: Any) -> None:
    body = request(build_groups=[0], run_ids=["default"])
    assert succeeded(await submitted(daemon, "/run", multipart(part(body), plan_part())))
    assert daemon.requests == []


async def test_sdk_and_extra_sources_are_unpacked_beside_the_plan(daemon: Any) -> None:
    extra = [part(zipped(q="1"), "sdk.zip", "application/zip"), part(zipped(x="2"), "extra.zip", "application/zip")]
    task = await submitted(daemon, "/build", multipart(part(request()), plan_part(), *extra))
    sources = task["input"]["Sources"]
    assert [Path(sources[f"{kind}_dir"]).name for kind in ("plan", "sdk", "extra")] == ["plan", "sdk", "extra"]


@pytest.mark.parametrize(
    ("content_type", "parts"),
    [
        ("multipart/mixed", [part(request(), "-", "application/json"), part(PLAN, "-", "application/zip")]),
        (
            "multipart/form-data",
            [part(request(), "composition.json"), part(PLAN, "plan.zip", "", 'form-data; name="x"')],
        ),
        ("multipart/related", [plan_part(), part(request())]),
        ("multipart/related", [part(request(), "", "", ""), plan_part()]),
        ("multipart/related", [part({k.upper(): v for k, v in request().items()}), plan_part()]),
    ],
    ids=["no filenames", "form data", "zip first", "bare JSON part", "keys in capitals"],
)
async def test_multipart_in_other_shapes(daemon: Any, content_type: str, parts: list[bytes]) -> None:
    assert succeeded(await submitted(daemon, "/run", multipart(*parts), f"{content_type}; boundary={B}"))


@pytest.mark.parametrize("content_type", ["application/json", "text/json", "application/json; charset=utf-8", "x/y"])
@pytest.mark.parametrize("bare", [True, False])
async def test_run_as_plain_json(daemon: Any, tmp_path: Path, content_type: str, bare: bool) -> None:
    """The protocol page in its plainest reading: no manifest, no ids, no sources; the plan is one of the daemon's."""
    import_plan(daemon, SUCCESS)
    body = composition() if bare else {"composition": composition()}
    task = await submitted(daemon, "/run", body, content_type)
    assert succeeded(task)
    assert task["input"]["run_ids"] == ["default"]
    assert task["input"]["build_groups"] == [0]
    assert daemon.requests == []
    assert (daemon.env.home.plans / "demo" / "run").exists()


async def test_build_as_plain_json_of_a_plan_of_the_daemon(daemon: Any) -> None:
    import_plan(daemon, SUCCESS)
    task = await submitted(daemon, "/build", {"composition": composition()}, "application/json")
    assert Path(task["result"][0]).read_text() == SUCCESS


async def test_run_of_a_ready_made_artifact_needs_no_sources(daemon: Any, tmp_path: Path) -> None:
    task = await submitted(
        daemon, "/run", request(artifact(tmp_path, SUCCESS), run_ids=["default"]), "application/json"
    )
    assert succeeded(task)
    assert task["input"]["Sources"] is None
    assert task["input"]["build_groups"] == []


async def test_explicit_empty_build_groups_build_nothing(daemon: Any, tmp_path: Path) -> None:
    body = request(artifact(tmp_path, SUCCESS), build_groups=[])
    task = await submitted(daemon, "/run", multipart(part(body), plan_part()))
    assert succeeded(task)
    assert task["input"]["build_groups"] == []


async def test_manifest_is_read_from_the_plan_that_was_sent(daemon: Any) -> None:
    task = await submitted(daemon, "/run", multipart(part({"composition": composition()}), plan_part()))
    assert succeeded(task)
    assert task["input"]["manifest"]["Name"] == "demo"


async def test_no_run_ids_mean_the_one_run_there_is(daemon: Any, tmp_path: Path) -> None:
    body = request(artifact(tmp_path, SUCCESS), run_ids=[])
    body["composition"]["runs"] = [{"id": "only", "groups": [{"id": "single"}]}]
    task = await submitted(daemon, "/run", body, "application/json")
    assert task["input"]["run_ids"] == ["only"]
    assert succeeded(task)


async def test_deferred_errors_end_the_task(daemon: Any, tmp_path: Path) -> None:
    """§8.6: the submission succeeds."""
    body = request(artifact(tmp_path, SUCCESS))
    body["composition"]["global"]["case"] = "zz"
    task = await submitted(daemon, "/run", body, "application/json")
    assert task["states"][-1]["state"] == "canceled"
    assert task["error"].startswith("task of type run cancelled: test case zz not found in plan demo")


# -- refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/build", request(), "bad request; err: plan directory not present"),
        ("/run", {"build_groups": [0]}, "failed to consume request; err: plan dir required for build"),
        ("/run", {**request(), "build_groups": [0]}, "failed to consume request; err: plan dir required for build"),
        ("/run", {}, "engine run error: unknown runner: "),
        (
            "/run",
            request() | {"composition": composition(runner="local:exe")},
            "engine run error: unknown runner: local:exe",
        ),
        (
            "/run",
            request() | {"composition": composition(builder="")},
            "engine run error: runner local:exec is incompatible with builder ",
        ),
        (
            "/run",
            {"composition": composition("/x")},
            "failed to consume request; err: plan supports no builders; review",
        ),
        (
            "/run",
            {"composition": composition("/x", plan="../../etc")},
            "failed to consume request; err: plan supports no",
        ),
        ("/run", request("/x", run_ids=["a", "b"]), "engine run error: cannot specify multiple run ids for now"),
        (
            "/run",
            request("/x") | {"composition": {**composition("/x"), "runs": [{"id": "a"}, {"id": "b"}]}},
            "engine run error: cannot specify multiple run ids for now",
        ),
        ("/run", {"composition": {"groups": [None]}}, "failed to consume request; err: composition.groups[0]: "),
        (
            "/run",
            {"composition": {"global": {"total_instances": -1}}},
            "failed to consume request; err: composition.global",
        ),
        ("/run", {"run_ids": ["a", None]}, "failed to consume request; err: run_ids[1]: "),
        ("/run", {"build_groups": ["0"]}, "failed to consume request; err: build_groups[0]: a whole number is needed"),
        ("/run", {"composition": "x"}, "failed to consume request; err: composition: "),
        ("/build", {"priority": 1.5}, "failed to consume request; err: priority: a whole number is needed"),
        (
            "/build",
            {"composition": composition(plan="\0")},
            "failed to consume request; err: composition.global.plan: ",
        ),
    ],
)
async def test_requests_that_cannot_be_met(daemon: Any, path: str, body: dict[str, Any], message: str) -> None:
    for data, content_type in ((multipart(part(body)), GO), (json.dumps(body).encode(), "application/json")):
        assert (await refused(daemon, path, data, content_type)).startswith(message)


@pytest.mark.parametrize("path", ["/build", "/run"])
@pytest.mark.parametrize(
    ("body", "content_type", "detail"),
    [
        (b"x", "text/plain", "not a multipart request; Content-Type: text/plain"),
        (b"x", "multipart/related", "boundary is empty"),
        (b"", None, "EOF"),
        (b"", GO, ""),
        (b"{", "application/json", ""),
        (b"null", "application/json", "an object is needed"),
        (b"[" * 100_000, "application/json", ""),
        (b'{"composition":' * 150 + b"1" + b"}" * 150, "application/json", "levels deep"),
        (b'{"x":1e999}', "application/json", "too large"),
        (b'{"x":NaN}', "application/json", "NaN"),
        (b'{"x":"\xff"}', "application/json", ""),
        (b"garbage", GO, ""),
        (multipart(), GO, ""),
        (multipart(part(None)), GO, ""),
        (multipart(part(b"{bad", "composition.json")), GO, ""),
        (multipart(part(b"", "composition.json")), GO, "EOF"),
        (multipart(part(request()), plan_part(), end=False), GO, ""),
        (multipart(part(request()), plan_part())[:-200], GO, ""),
        (multipart(part(request()), plan_part(b"")), GO, "plan"),
        (multipart(part(request()), plan_part(b"no zip at all")), GO, "plan"),
        (multipart(part(request()), plan_part(PLAN[:-30])), GO, "plan"),
        (multipart(part(request()), plan_part(zipped(**{"../evil": "x"}))), GO, "evil"),
        (multipart(part(request()), plan_part(zipped(**{"/etc/evil": "x"}))), GO, "evil"),
        (multipart(part(request()), plan_part(), plan_part()), GO, "plan"),
        (multipart(plan_part()), GO, ""),
        (multipart(b"No-Colon\r\n\r\nx"), GO, ""),
        (multipart(b"X: " + b"y" * 100_000 + b"\r\n\r\nx"), GO, ""),
    ],
)
async def test_bodies_that_are_no_request(
    daemon: Any, path: str, body: bytes, content_type: str | None, detail: str
) -> None:
    error = await refused(daemon, path, body, content_type)
    assert error.startswith("failed to consume request; err: ")
    assert detail in error


class TestSmallUploads:
    @pytest.fixture
    def config(self) -> DaemonConfig:
        return DaemonConfig(max_upload_mb=1)

    async def test_too_large_an_upload(self, daemon: Any) -> None:
        body = multipart(part(request()), plan_part(b"x" * (2 << 20)))
        assert "larger than the allowed 1 MiB" in await refused(daemon, "/build", body)

    async def test_too_large_when_unpacked(self, daemon: Any) -> None:
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("zeros", b"\0" * (64 << 20))
        assert "plan.zip: " in await refused(daemon, "/build", multipart(part(request()), plan_part(data.getvalue())))


class TestFullQueue:
    @pytest.fixture
    def config(self) -> DaemonConfig:
        return DaemonConfig(scheduler=SchedulerConfig(workers=1, queue_size=1))

    async def test_the_upload_is_removed(self, daemon: Any) -> None:
        slow = multipart(part(request()), plan_part(zipped(run=SLEEP)))
        first = (await daemon.ask("/run", slow, content_type=GO))[-1].payload
        async for lines in daemon.engine.logs(first, follow=True):
            if any(b"starting run" in chunk.payload for chunk in daemon.decode(lines)):
                break
        waiting = (await daemon.ask("/run", slow, content_type=GO))[-1].payload
        before = sorted(daemon.requests)
        for path, message in (
            ("/run", "engine run error: queue full: "),
            ("/build", "engine build error: queue full: "),
        ):
            error = (await daemon.ask(path, slow, content_type=GO))[-1]
            assert error.payload.startswith(message) and error.code == "queue-full"
        assert sorted(daemon.requests) == before
        for task_id in (waiting, first):
            await daemon.ask("/cancel", {"task_id": task_id})
            await daemon.ask("/logs", {"task_id": task_id, "follow": True})
        assert daemon.requests == []


# -- helpers ----------------------------------------------------------------------------------------------------


def import_plan(daemon: Any, script: str) -> None:
    directory = daemon.env.home.plans / "demo"
    directory.mkdir()
    (directory / "manifest.toml").write_text(MANIFEST_TOML)
    artifact(directory, script)


def artifact(directory: Path, script: str) -> str:
    path = directory / "run"
    path.write_text(script)
    path.chmod(0o755)
    return str(path)
