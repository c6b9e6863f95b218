from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from testground import config
from testground.builders import common
from testground.errors import BuildError
from testground.plugins import BuildInput, BuildSources, ComponentConfig


class Log:
    """An `Output` that remembers."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.raw = b""

    def info(self, message: str, **fields: Any) -> None:
        self.messages.append(message)

    warn = error = info

    def write(self, data: bytes) -> None:
        self.raw += data

    def states(self, group: str, counts: dict[str, int]) -> None:
        raise NotImplementedError


def build_of(base: Path, log: Log) -> BuildInput:
    sdk = base / "sdk"
    return BuildInput(
        build_id="id",
        plan="plan",
        target=base / "work" / "exec-go--plan-0",
        sources=BuildSources(base, base / "plan", sdk if sdk.exists() else None),
        config=ComponentConfig(),
        selectors=(),
        dependencies=(),
        env=config.load(config.Home(base / "home")),
        output=log,
    )


async def test_a_failing_tool_is_quoted(tmp_path: Path) -> None:
    log = Log()
    with pytest.raises(BuildError) as raised:
        await common.run("make", ["sh", "-c", "echo wrong; exit 2"], cwd=tmp_path, output=log)
    assert raised.value.message == "make failed with exit code 2:\nwrong"
    assert log.raw == b"wrong\n"


async def test_a_tool_that_fails_without_a_word(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="^make failed with exit code 1, without a word$"):
        await common.run("make", ["false"], cwd=tmp_path)


async def test_a_killed_tool(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="^make was killed by SIGKILL"):
        await common.run("make", ["sh", "-c", "kill -9 $$"], cwd=tmp_path)


async def test_a_missing_tool(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="^make could not be started: no-such-tool: No such file or directory$"):
        await common.run("make", ["no-such-tool"], cwd=tmp_path)


def test_only_the_end_of_the_output_is_quoted() -> None:
    text = common.tail(b"".join(b"line %d\n" % number for number in range(1000)))
    assert text.splitlines()[-1] == "line 999"
    assert len(text.splitlines()) == 40
    assert len(common.tail(b"x" * 100_000)) == 4000
    assert common.tail(b"\xff\n\n") == "�"


async def test_nothing_half_made_stays(tmp_path: Path) -> None:
    target = tmp_path / "work" / "target"
    with pytest.raises(ZeroDivisionError):
        async with common.partial(target, "id") as path:
            (path / "sub").mkdir(parents=True)
            (path / "sub").chmod(0o500)
            raise ZeroDivisionError
    assert list((tmp_path / "work").iterdir()) == []


async def test_nothing_half_made_stays_after_a_cancellation(tmp_path: Path) -> None:
    with anyio.CancelScope() as scope:
        async with common.partial(tmp_path / "target", "id") as path:
            path.write_text("")
            scope.cancel()
            await anyio.lowlevel.checkpoint()
    assert list(tmp_path.iterdir()) == []


def test_publish_takes_the_place_of_what_is_stale(tmp_path: Path) -> None:
    for stale in ("", "file", "directory"):
        target, finished = tmp_path / f"target-{stale}", tmp_path / f"finished-{stale}"
        if stale == "directory":
            (target / "old").mkdir(parents=True)
        elif stale:
            target.write_text("old")
        (finished / "new").mkdir(parents=True)
        common.publish(finished, target)
        assert [path.name for path in target.iterdir()] == ["new"]
        assert not finished.exists()


def test_remove_read_only_directories(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_text("")
    (tmp_path / "a" / "b").chmod(0o500)
    common.remove(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_remove_a_link_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("directory")
    common.remove(tmp_path / "link")
    common.remove(tmp_path / "nothing")
    assert [path.name for path in tmp_path.iterdir()] == ["directory"]


async def test_purge_takes_one_plan_of_one_builder(tmp_path: Path) -> None:
    env = config.load(config.Home(tmp_path))
    doomed = ("exec-go--a-b-00ff", "exec-go--a-b-00ff.artifact", "exec-go--a-b-11.partial-x", "exec-go--a-b-22.partial")
    kept = ("exec-go--a-00ff", "exec-go--a-b-c-00ff", "exec-python--a-b-00ff", "exec-go--a-00ff.artifact", "requests")
    for name in (*doomed, *kept):
        (env.home.work / name).mkdir()
    log = Log()
    await common.purge("exec:go", "a/b", env, log)
    assert {path.name for path in env.home.work.iterdir()} == set(kept)
    assert log.messages == ["removed 3 artifacts of plan a/b built by exec:go"]
    assert [path.name for path in common.artifacts("exec:go", None, env.home.work)] == [
        "exec-go--a-00ff",
        "exec-go--a-00ff.artifact",
        "exec-go--a-b-c-00ff",
    ]


@pytest.mark.parametrize("path", ["/etc", "..", "a/../../b", "a/..", "a\0b"])
def test_paths_stay_inside_the_plan(path: str) -> None:
    with pytest.raises(BuildError, match="^artifact = '.*' must be a path inside the plan$"):
        common.relative(path, "artifact")


@pytest.mark.parametrize(("path", "expected"), [("", "."), ("a//b/", "a/b"), ("./a", "a")])
def test_relative(path: str, expected: str) -> None:
    assert common.relative(path, "artifact") == expected


def test_an_argument_is_no_option() -> None:
    assert common.argument("./cmd", "exec_pkg") == "./cmd"
    with pytest.raises(BuildError, match="^exec_pkg = '-toolexec=x' must not start with a dash$"):
        common.argument("-toolexec=x", "exec_pkg")


def test_a_linked_sdk(tmp_path: Path) -> None:
    log = Log()
    assert common.linked_sdk(build_of(tmp_path, log), "Go", Path.exists) is None
    (tmp_path / "sdk").mkdir()
    build = build_of(tmp_path, log)
    assert common.linked_sdk(build, "Go", Path.exists) == tmp_path / "sdk"
    with pytest.raises(BuildError, match="the linked SDK is not an SDK for Go"):
        common.linked_sdk(build, "Go", lambda _: False)
    assert log.messages == []
    (tmp_path / "sdk" / "pyproject.toml").write_text("")
    assert common.linked_sdk(build, "Go", lambda _: False) is None
    assert log.messages == ["the linked SDK is for Python; this Go build does not use it"]
