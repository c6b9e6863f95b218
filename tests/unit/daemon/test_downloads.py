"""What can be fetched with GET (client-daemon §1.5, §7.1 nos. 11, 18, 23)."""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from testground.api import rpc
from testground.api.task import TaskType
from testground.config import DaemonConfig
from testground.runners import outputs
from tests.unit.daemon.test_routes import SUCCESS, UNKNOWN, script, submit, until_processing

FILES = """mkdir -p "$TEST_OUTPUTS_PATH"; echo kept > "$TEST_OUTPUTS_PATH/file"; """
TEXT = "text/plain; charset=utf-8"


async def get(daemon: Any, path: str, **parameters: str) -> httpx.Response:
    return await daemon.http.get(path, params=parameters)


async def finished(daemon: Any, artifact: str, **members: Any) -> str:
    task_id = await submit(daemon, artifact, **members)
    with anyio.fail_after(30):
        await daemon.ask("/logs", {"task_id": task_id, "follow": True})
    return task_id


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/logs", "url param `task_id` is missing"),
        ("/logs?task_id=", "url param `task_id` is missing"),
        ("/logs?run_id=x", "url param `task_id` is missing"),
        ("/outputs", "url param `run_id` is missing"),
        ("/journal", "url param `task_id` is missing"),
        ("/data", "query param `series` is missing"),
    ],
)
async def test_a_missing_parameter(daemon: Any, path: str, text: str) -> None:
    response = await daemon.http.get(path)
    assert (response.status_code, response.text) == (400, text)
    assert response.headers["content-type"] == TEXT


@pytest.mark.parametrize("name", [UNKNOWN, "bad", "../../etc/passwd", "..", "/", "a\x00b", "x" * 5000, "<script>"])
@pytest.mark.parametrize(
    ("path", "parameter", "text"),
    [
        ("/logs", "task_id", "error while getting task; err: "),
        ("/outputs", "run_id", "cannot collect outputs; err: "),
        ("/journal", "task_id", "cannot fetch tsk"),
    ],
)
async def test_an_unknown_task(daemon: Any, path: str, parameter: str, text: str, name: str) -> None:
    response = await get(daemon, path, **{parameter: name})
    assert response.status_code == 404
    assert response.text.startswith(text)
    assert response.headers["content-type"] == TEXT
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("method", ["HEAD", "PUT", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/logs", "/outputs", "/journal", "/data"])
async def test_other_methods(daemon: Any, path: str, method: str) -> None:
    response = await daemon.http.request(method, path)
    assert response.status_code == 405
    assert "GET" in response.headers["allow"]


async def test_the_log_is_the_text_of_its_chunks(daemon: Any, tmp_path: Path) -> None:
    task_id = await finished(daemon, script(tmp_path, f"echo 'grüße <b>'; {SUCCESS}"))
    response = await get(daemon, "/logs", task_id=task_id)
    assert response.status_code == 200
    assert response.headers["content-type"] == TEXT
    assert "grüße <b>" in response.text
    assert "\tINFO\trun finished with outcome = success (single:1/1)" in response.text
    assert "\x1b" not in response.text
    assert '"t":112' not in response.text


async def test_the_log_of_a_task_that_waits_is_empty(daemon: Any, tmp_path: Path) -> None:
    held = await submit(daemon, script(tmp_path, "exec sleep 600"))
    await until_processing(daemon, held)
    waiting = await submit(daemon, script(tmp_path, SUCCESS))
    response = await get(daemon, "/logs", task_id=waiting)
    assert (response.status_code, response.content) == (200, b"")
    assert b"starting run" in (await get(daemon, "/logs", task_id=held)).content


async def test_the_log_of_a_task_under_way_has_whole_chunks_only(daemon: Any, tmp_path: Path) -> None:
    task_id = await finished(daemon, script(tmp_path, SUCCESS))
    whole = (await get(daemon, "/logs", task_id=task_id)).text
    with (daemon.env.home.daemon / f"{task_id}.out").open("ab") as log:
        log.write(rpc.progress(b"half a chunk")[:-5])
    assert (await get(daemon, "/logs", task_id=task_id)).text == whole


async def test_a_log_that_cannot_be_read_says_so_at_its_end(daemon: Any, tmp_path: Path) -> None:
    task_id = await finished(daemon, script(tmp_path, SUCCESS))
    with (daemon.env.home.daemon / f"{task_id}.out").open("ab") as log:
        log.write(b"garbage\n")
    text = (await get(daemon, "/logs", task_id=task_id)).text
    assert "run finished with outcome = success" in text
    assert text.splitlines()[-1].startswith("error while parsing logs: ")


async def test_outputs_are_a_whole_archive(daemon: Any, tmp_path: Path) -> None:
    task_id = await finished(daemon, script(tmp_path, FILES + SUCCESS))
    response = await get(daemon, "/outputs", run_id=task_id)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/tar+gzip"
    assert response.headers["content-disposition"] == f'attachment; filename="{task_id}.tgz"'
    with tarfile.open(fileobj=io.BytesIO(response.content), mode="r:gz") as tar:  # reads the trailer
        [kept] = [member for member in tar if member.name == f"{task_id}/single/0/file"]
        file = tar.extractfile(kept)
        assert file is not None and file.read() == b"kept\n"


async def test_a_build_has_no_outputs(daemon: Any, tmp_path: Path) -> None:
    task_id = await finished(daemon, script(tmp_path, SUCCESS))
    task = daemon.engine.task(task_id)
    build = task.model_copy(update={"id": UNKNOWN, "type": TaskType.BUILD})
    daemon.engine._store.add(build)
    response = await get(daemon, "/outputs", run_id=UNKNOWN)
    assert response.status_code == 404
    assert "only runs have outputs" in response.text


async def test_outputs_that_cannot_be_read_do_not_look_whole(
    daemon: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = await finished(daemon, script(tmp_path, FILES + SUCCESS))
    monkeypatch.setattr(outputs, "_file", unreadable)
    response = await get(daemon, "/outputs", run_id=task_id)
    assert response.status_code == 500
    assert response.text.startswith("cannot collect outputs; err: cannot read ")


async def test_journal(daemon: Any, tmp_path: Path) -> None:
    task_id = await finished(daemon, script(tmp_path, SUCCESS))
    assert (await get(daemon, "/journal", task_id=task_id)).text == "No events or statuses captured for this run.\n"
    task = daemon.engine.task(task_id)
    task.result["journal"] = {"events": {"a": "one", "b": "two"}, "pods_statuses": {"ready": {}, "<gone>": {"x": 1}}}
    daemon.engine._store.save(task)
    response = await get(daemon, "/journal", task_id=task_id)
    assert response.headers["content-type"] == TEXT
    assert response.text == "Events\n=================\none\ntwo\nStatuses\n=================\nready\n<gone>\n"


@pytest.mark.parametrize("result", [None, [], "x", {}, {"journal": None}, {"journal": {"events": [1]}}, ["artifact"]])
async def test_the_journal_of_an_odd_result_is_empty(daemon: Any, tmp_path: Path, result: Any) -> None:
    task_id = await finished(daemon, script(tmp_path, SUCCESS))
    task = daemon.engine.task(task_id)
    task.result = result
    daemon.engine._store.save(task)
    response = await get(daemon, "/journal", task_id=task_id)
    assert (response.status_code, response.text) == (200, "No events or statuses captured for this run.\n")


METRIC = '{"ts":%s000000000,"type":"point","name":"lat,peer=a","measures":{"value":1.5}}'
MEASURING = f"""echo '{METRIC}' | sed "s/%s/$(date +%s)/" > "$TEST_OUTPUTS_PATH/results.out"; """


async def test_data_has_a_row_for_each_run(daemon: Any, tmp_path: Path) -> None:
    for _ in range(2):
        await finished(daemon, script(tmp_path, MEASURING + SUCCESS))
    response = await get(daemon, "/data", series="results.demo-ok.lat.point")
    assert (response.status_code, response.headers["content-type"]) == (200, TEXT)
    header, *rows = response.text.splitlines()
    assert header == "Time,peer=a"
    assert [re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ,1\.5", row) is not None for row in rows] == [True, True]


async def test_data_of_a_series_without_values_is_its_header(daemon: Any) -> None:
    assert (await get(daemon, "/data", series="results.demo-ok.lat.point")).text == "Time\n"


@pytest.mark.parametrize("name", ["x", "../../etc", "results.", "a\x00b"])
async def test_data_of_what_is_no_series(daemon: Any, name: str) -> None:
    response = await get(daemon, "/data", series=name)
    assert response.status_code == 400
    assert response.text == f"failed to get data for series {name}: a series is named results.PLAN-CASE.METRIC.TYPE"


def unreadable(path: Path, name: str) -> Any:
    raise PermissionError(13, "Permission denied", str(path))


class TestGuarded:
    @pytest.fixture
    def config(self) -> DaemonConfig:
        return DaemonConfig(tokens=("secret",))

    @pytest.mark.parametrize("path", ["/logs", "/outputs", "/journal", "/data"])
    async def test_a_token_is_needed(self, daemon: Any, path: str) -> None:
        refused = await daemon.http.get(path)
        assert refused.status_code == 403
        assert "it has no token of daemon.tokens" in refused.text
        allowed = await daemon.http.get(path, headers={"Authorization": "Bearer secret"})
        assert allowed.status_code == 400
        foreign = {"Authorization": "Bearer secret", "Origin": "http://elsewhere.example"}
        assert (await daemon.http.get(path, headers=foreign)).status_code == 403
