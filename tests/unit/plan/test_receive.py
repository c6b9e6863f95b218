from __future__ import annotations

import io
import json
import os
import stat
import zipfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from testground.config import Home
from testground.errors import PlanError, RequestError, SourcesError
from testground.plan.receive import Received, find_manifest, receive

Part = tuple[dict[str, str], bytes]

BOUNDARY = "c4155014ea869c019f37e330e286e4740d770856d36f91aad4c3fa1d9b07"
TYPE = f"multipart/related; boundary={BOUNDARY}"
REQUEST = {"priority": 1, "composition": {"global": {"plan": "demo"}}}


def zipped(**files: str) -> bytes:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return data.getvalue()


def part(data: bytes, disposition: str | None = None, content_type: str | None = None) -> Part:
    headers = {"Content-Disposition": disposition, "Content-Type": content_type}
    return {name: value for name, value in headers.items() if value is not None}, data


def as_go(name: str, data: bytes) -> Part:
    kind = "application/json" if name.endswith(".json") else "application/zip"
    return part(data, f"attachment; filename={name}", kind)


def body(*parts: Part) -> bytes:
    out = b""
    for headers, data in parts:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        out += f"--{BOUNDARY}\r\n{lines}\r\n".encode() + data + b"\r\n"
    return out + f"--{BOUNDARY}--\r\n".encode()


JSON = as_go("composition.json", json.dumps(REQUEST).encode() + b"\n")
PLAN = as_go("plan.zip", zipped(main="plan"))
SDK = as_go("sdk.zip", zipped(q="sdk"))
EXTRA = as_go("extra.zip", zipped(x="extra"))


async def stream(pieces: Sequence[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def take(
    tmp_path: Path, data: bytes | Sequence[bytes], content_type: str | None = TYPE, **options: Any
) -> Received:
    pieces = [data] if isinstance(data, bytes) else data
    return await receive(content_type, stream(pieces), tmp_path / "req", **options)


async def refused(
    tmp_path: Path, data: bytes | Sequence[bytes], content_type: str | None = TYPE, **options: Any
) -> str:
    with pytest.raises((RequestError, SourcesError)) as caught:
        await take(tmp_path, data, content_type, **options)
    assert os.listdir(tmp_path) == []
    return str(caught.value)


def contents(tmp_path: Path) -> dict[str, str]:
    base = tmp_path / "req"
    return {str(path.relative_to(base)): path.read_text() for path in sorted(base.rglob("*")) if path.is_file()}


# -- cuts -------------------------------------------------------------------------------------------------------


async def test_cut_at_every_byte(tmp_path: Path) -> None:
    data = body(JSON, PLAN)
    for cut in range(len(data) + 1):
        place = tmp_path / str(cut)
        received = await take(place, [data[:cut], data[cut:]])
        assert received.request == REQUEST
        assert contents(place) == {"plan/main": "plan"}


@pytest.mark.parametrize("size", [1, 2, 3, 7, 61])
async def test_small_reads(tmp_path: Path, size: int) -> None:
    data = body(JSON, PLAN, SDK)
    await take(tmp_path, [data[at : at + size] for at in range(0, len(data), size)])
    assert contents(tmp_path) == {"plan/main": "plan", "sdk/q": "sdk"}


@pytest.mark.parametrize(
    ("count", "names"), [(1, "l0"), (5, "l0, l1, l2, l3, l4"), (7, "l0, l1, l2, l3, l4 and 2 more")]
)
async def test_symlinks_that_came_empty_are_warned_of(tmp_path: Path, count: int, names: str) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as archive:
        for number in range(count):
            link = zipfile.ZipInfo(f"l{number}")
            link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
            archive.writestr(link, b"")
    received = await take(tmp_path, body(JSON, as_go("sdk.zip", data.getvalue())))
    assert received.warnings == [
        f"sdk.zip: the client sent symlinks without what they point to, they are empty files in the build: {names}"
    ]


async def test_batches_that_end_at_every_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The parser is fed what was gathered, so small reads alone do not cut its input."""
    monkeypatch.setattr("testground.plan.receive._BATCH", 1)
    data = body(JSON, PLAN)
    for cut in range(0, len(data), 3):
        place = tmp_path / str(cut)
        received = await take(place, [data[:cut], data[cut : cut + 1], data[cut + 1 :]])
        assert received.request == REQUEST
        assert contents(place) == {"plan/main": "plan"}
    await take(tmp_path / "bytes", [bytes([byte]) for byte in data])
    assert contents(tmp_path / "bytes") == {"plan/main": "plan"}


async def test_truncated_at_every_byte(tmp_path: Path) -> None:
    data = body(JSON, PLAN)
    for cut in range(len(data) - 2):
        message = await refused(tmp_path, data[:cut])
        assert message.startswith(("multipart: ", "json decode: EOF")), message
    await take(tmp_path, data[:-2])


async def test_data_that_looks_like_a_boundary(tmp_path: Path) -> None:
    text = f"\r\n--{BOUNDARY[:-1]}\r\n--\r\n\r\n--{BOUNDARY}x"
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("main", text)
    await take(tmp_path, body(JSON, as_go("plan.zip", data.getvalue())))
    assert (tmp_path / "req" / "plan" / "main").read_bytes() == text.encode()


# -- which part is which ----------------------------------------------------------------------------------------

GOOD: dict[str, list[Part]] = {
    "the Go client": [JSON, PLAN, SDK, EXTRA],
    "another order": [JSON, EXTRA, PLAN, SDK],
    "json last": [PLAN, SDK, EXTRA, JSON],
    "form fields": [
        part(JSON[1], 'form-data; name="composition"'),
        part(PLAN[1], 'form-data; name="plan"; filename="blob"', "application/octet-stream"),
        part(SDK[1], 'form-data; name="sdk"'),
        part(EXTRA[1], 'form-data; name="extra"'),
    ],
    "file names in a form": [
        part(JSON[1], 'form-data; name="a"; filename="composition.json"'),
        part(EXTRA[1], 'form-data; name="b"; filename="extra.zip"'),
        part(PLAN[1], 'form-data; name="c"; filename="C:\\\\dir\\\\plan.zip"'),
        part(SDK[1], 'form-data; name="d"; filename="/tmp/sdk.zip"'),
    ],
    "content types and order": [
        part(JSON[1], None, "application/json; charset=utf-8"),
        part(PLAN[1], None, "application/zip"),
        part(SDK[1], None, "application/zip"),
        part(EXTRA[1], None, "application/zip"),
    ],
    "order alone": [part(JSON[1]), part(PLAN[1]), part(SDK[1]), part(EXTRA[1])],
    "zips with types before the json": [part(PLAN[1], None, "application/zip"), JSON, SDK, EXTRA],
    "odd file names": [
        part(JSON[1], "attachment; filename=request.txt"),
        part(PLAN[1], "attachment; filename=my-code.zip"),
        part(SDK[1], "attachment; filename=sdk"),
        part(EXTRA[1], "attachment; filename=more.zip"),
    ],
    "lower-case headers": [
        ({"content-disposition": "attachment; filename=composition.json"}, JSON[1]),
        ({"content-type": "application/zip", "content-disposition": 'ATTACHMENT; FILENAME="plan.zip"'}, PLAN[1]),
        SDK,
        EXTRA,
    ],
}


@pytest.mark.parametrize("parts", GOOD.values(), ids=GOOD)
async def test_parts_are_recognised(tmp_path: Path, parts: list[Part]) -> None:
    received = await take(tmp_path, body(*parts))
    assert received.request == REQUEST
    assert contents(tmp_path) == {"plan/main": "plan", "sdk/q": "sdk", "extra/x": "extra"}
    assert received.sources and received.sources.base_dir == str(tmp_path / "req")


async def test_json_alone_leaves_no_directory(tmp_path: Path) -> None:
    received = await take(tmp_path, body(JSON))
    assert received == Received(REQUEST, None)
    assert os.listdir(tmp_path) == []


async def test_some_parts_only(tmp_path: Path) -> None:
    received = await take(tmp_path, body(JSON, SDK))
    assert received.sources
    assert (received.sources.plan_dir, received.sources.sdk_dir) == ("", str(tmp_path / "req" / "sdk"))


@pytest.mark.parametrize("boundary", ["with blank", "b", "'()+_,-./:=?"])
async def test_boundaries(tmp_path: Path, boundary: str) -> None:
    data = body(JSON, PLAN).replace(BOUNDARY.encode(), boundary.encode())
    await take(tmp_path, data, f'multipart/mixed; charset=utf-8; boundary="{boundary}"')
    assert contents(tmp_path) == {"plan/main": "plan"}


# -- plain JSON -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type", ["application/json", "application/json; charset=utf-8", "text/json", None, "", "text/plain", TYPE]
)
async def test_plain_json(tmp_path: Path, content_type: str | None) -> None:
    data = b" \n" + json.dumps(REQUEST).encode() + b"\ntrailing"
    assert await take(tmp_path, data, content_type) == Received(REQUEST, None)
    assert await take(tmp_path, [data[:1], data[1:9], b"", data[9:]], content_type) == Received(REQUEST, None)


@pytest.mark.parametrize(
    ("given", "request_"),
    [
        ({"global": {}}, {"composition": {"global": {}}}),
        ({"Groups": []}, {"composition": {"Groups": []}}),
        ({"Composition": {}, "global": {}}, {"Composition": {}, "global": {}}),
        ({}, {}),
        ({"build_groups": [0]}, {"build_groups": [0]}),
    ],
)
async def test_a_bare_composition_is_wrapped(tmp_path: Path, given: dict[str, Any], request_: dict[str, Any]) -> None:
    data = json.dumps(given).encode()
    assert (await take(tmp_path, data, "application/json")).request == request_
    assert (await take(tmp_path, body(as_go("composition.json", data)))).request == request_


# -- what is refused --------------------------------------------------------------------------------------------

BAD: list[tuple[bytes, str | None, str]] = [
    (b"", TYPE, "multipart: unexpected EOF"),
    (b"", None, "json decode: EOF"),
    (b"", "application/json", "json decode: EOF"),
    (b"plan", "text/plain", "not a multipart request; Content-Type: text/plain"),
    (b"--x", "application/zip; boundary=x", "not a multipart request; Content-Type: application/zip; boundary=x"),
    (b"--x", "multipart/related", "multipart: boundary is empty"),
    (b"--x", "multipart/related; boundary=", "multipart: boundary is empty"),
    (b"--x", f"multipart/related; boundary={'x' * 300}", "multipart: Boundary length"),
    (b"garbage", TYPE, "multipart: "),
    (b"--other\r\n\r\n", TYPE, "multipart: "),
    (body(), TYPE, "multipart: there is no part with the composition"),
    (body(PLAN), TYPE, "multipart: there is no part with the composition"),
    (body(JSON, PLAN, PLAN), TYPE, "multipart: part plan is there twice"),
    (body(JSON, JSON), TYPE, "multipart: part composition is there twice"),
    (body(JSON, PLAN, SDK, EXTRA, part(b"")), TYPE, "multipart: there are more parts than composition, plan, sdk"),
    (body(as_go("composition.json", b"")), TYPE, "json decode: EOF"),
    (body(as_go("composition.json", b"null")), TYPE, "json decode: an object is needed"),
    (body(as_go("composition.json", b"[1]"), PLAN), TYPE, "json decode: an object is needed"),
    (body(as_go("composition.json", b"{bad"), PLAN), TYPE, "json decode: Expecting property name"),
    (body(as_go("composition.json", b'{"a": NaN}')), TYPE, "json decode: NaN is not JSON"),
    (b'{"a": "\xff"}', None, "json decode: 'utf-8' codec"),
    (b'{"a":' + b"[" * 100_000, None, "json decode: maximum recursion"),
    (body(JSON, as_go("plan.zip", b"no zip")), TYPE, "plan.zip: not a readable zip archive"),
    (body(JSON, PLAN, as_go("sdk.zip", b"")), TYPE, "sdk.zip: not a readable zip archive"),
    (body(JSON, as_go("plan.zip", zipped(**{"../evil": ""}))), TYPE, "plan.zip: the name of entry '../evil' leaves"),
    (body(JSON, ({"Bad Header": "x"}, b"")), TYPE, "multipart: Found invalid character"),
    (body(JSON, ({"X": "x" * 70_000}, b"")), TYPE, "multipart: Maximum header size exceeded"),
    (body(JSON, ({f"X-{n}": "x" for n in range(50)}, b"")), TYPE, "multipart: Maximum header count exceeded"),
]


@pytest.mark.parametrize(("data", "content_type", "text"), BAD)
async def test_bad_requests_leave_nothing(tmp_path: Path, data: bytes, content_type: str | None, text: str) -> None:
    assert text in await refused(tmp_path, data, content_type)


async def test_uploads_are_bounded_while_they_come(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield body(JSON, as_go("plan.zip", b""))[: -len(BOUNDARY) - 8]
        while True:
            yield bytes(1 << 16)

    with pytest.raises(SourcesError, match="the upload is larger than the allowed 3 MiB"):
        await receive(TYPE, endless(), tmp_path / "req", 3 << 20)
    assert os.listdir(tmp_path) == []


async def test_json_is_bounded(tmp_path: Path) -> None:
    large = json.dumps({"composition": {"x": "y" * (17 << 20)}}).encode()
    assert "larger than 16 MiB" in await refused(tmp_path, body(PLAN, as_go("composition.json", large)))
    assert "larger than 16 MiB" in await refused(tmp_path, large, "application/json")


async def test_the_bound_holds_for_all_unpacked_files_together(tmp_path: Path) -> None:
    parts = [JSON, *(as_go(f"{kind}.zip", zipped(x="y" * 3000)) for kind in ("plan", "sdk"))]
    data = body(*parts)
    limit = len(data) - 1000
    assert 6000 < len(data) < 9000
    assert "the upload is larger" in await refused(tmp_path, data, max_bytes=limit)
    compressed = io.BytesIO()
    with zipfile.ZipFile(compressed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x", "y" * 3000)
    data = body(JSON, *(as_go(f"{kind}.zip", compressed.getvalue()) for kind in ("plan", "sdk")))
    message = await refused(tmp_path, data, max_bytes=5999)
    assert message == "sdk.zip: the archive unpacks to 3000 bytes; 2999 are allowed"
    await take(tmp_path, data, max_bytes=6000)


async def test_a_body_that_breaks_off_with_an_error(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield body(JSON, as_go("plan.zip", bytes(2 << 20)))[:-100]
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await receive(TYPE, broken(), tmp_path / "req")
    assert os.listdir(tmp_path) == []


async def test_cancelled_while_the_client_sends_nothing(tmp_path: Path) -> None:
    stalled = anyio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield body(JSON, as_go("plan.zip", bytes(2 << 20)))[:-100]
        stalled.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(receive, TYPE, slow(), tmp_path / "req")
        with anyio.fail_after(5):
            await stalled.wait()
        group.cancel_scope.cancel()
    assert os.listdir(tmp_path) == []


async def test_cancelled_while_unpacking(tmp_path: Path) -> None:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for number in range(400):
            archive.writestr(str(number), bytes(250_000))
    scope = anyio.CancelScope()

    async def then_cancel() -> AsyncIterator[bytes]:
        yield body(JSON, as_go("plan.zip", data.getvalue()))

    async def cancel_when_it_unpacks() -> None:
        while not (tmp_path / "req" / "plan" / "10").exists():
            await anyio.lowlevel.checkpoint()
        scope.cancel()

    with anyio.fail_after(10):
        async with anyio.create_task_group() as group:
            group.start_soon(cancel_when_it_unpacks)
            with scope:
                await receive(TYPE, then_cancel(), tmp_path / "req")
    assert scope.cancelled_caught
    assert os.listdir(tmp_path) == []


async def test_the_loop_runs_on_while_files_are_unpacked(tmp_path: Path) -> None:
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("x", bytes(50_000_000))
    async with anyio.create_task_group() as group:
        group.start_soon(count)
        await take(tmp_path, body(JSON, as_go("plan.zip", data.getvalue())))
        group.cancel_scope.cancel()
    assert turns > 50


async def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "req").write_text("a file")
    with pytest.raises(SourcesError, match="cannot store the upload: "):
        await take(tmp_path, body(JSON, PLAN))


# -- the manifest -----------------------------------------------------------------------------------------------

TOML = 'name = "{}"\n[builders."exec:python"]\n'


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home").create()
    (home.plans / "demo").mkdir()
    (home.plans / "demo" / "manifest.toml").write_text(TOML.format("from the home"))
    return home


async def test_the_manifest_of_the_request_wins(tmp_path: Path, home: Home) -> None:
    request = REQUEST | {"Manifest": {"name": "from the request", "extra_sources": {"a": ["b"]}}}
    parts = [
        as_go("composition.json", json.dumps(request).encode()),
        as_go("plan.zip", zipped(**{"manifest.toml": "bad"})),
    ]
    found = find_manifest(await take(tmp_path, body(*parts)), home)
    assert (found.name, found.extra_sources) == ("from the request", {"a": ["b"]})


async def test_then_the_manifest_of_the_plan_that_was_sent(tmp_path: Path, home: Home) -> None:
    plan = as_go("plan.zip", zipped(**{"manifest.toml": TOML.format("from the zip")}))
    assert find_manifest(await take(tmp_path, body(JSON, plan)), home).name == "from the zip"


@pytest.mark.parametrize("parts", [[JSON], [JSON, PLAN]])
async def test_then_the_manifest_of_the_daemons_own_plan(tmp_path: Path, home: Home, parts: list[Part]) -> None:
    assert find_manifest(await take(tmp_path, body(*parts)), home).name == "from the home"


@pytest.mark.parametrize(
    ("request_", "error", "text"),
    [
        ({"composition": {"global": {"plan": "demoo"}}}, PlanError, "did you mean 'demo'?"),
        ({"composition": {"global": {"plan": "../../etc"}}}, PlanError, "is not a path below"),
        ({"composition": {}}, PlanError, "plan supports no builders; review the manifest"),
        ({}, PlanError, "plan supports no builders; review the manifest"),
        ({"manifest": 5}, RequestError, "manifest: "),
        ({"composition": {"groups": [None]}}, RequestError, "composition.groups[0]: "),
    ],
)
def test_no_manifest_anywhere(home: Home, request_: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error) as caught:
        find_manifest(Received(request_, None), home)
    assert text in str(caught.value)


async def test_a_broken_manifest_in_the_zip_is_named(tmp_path: Path, home: Home) -> None:
    received = await take(tmp_path, body(JSON, as_go("plan.zip", zipped(**{"manifest.toml": "name = 5 5"}))))
    with pytest.raises(PlanError, match=r"plan/manifest\.toml: .*line 1"):
        find_manifest(received, home)
