"""The exec builders with the real tools: uv, go, a C compiler, a shell. No package index is needed."""

from __future__ import annotations

import base64
import functools
import hashlib
import http.server
import json
import os
import shutil
import subprocess
import threading
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from testground import config
from testground.api.composition import Dependency
from testground.builders import environments
from testground.builders.generic import ExecGeneric
from testground.builders.golang import ExecGo
from testground.builders.python import ExecPython
from testground.config import EnvConfig
from testground.errors import BuildError
from testground.plugins import Builder, BuildInput, BuildSources


class Log:
    """An `Output` that remembers, and calls `heard` with each message and each piece of a tool's output."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.warnings: list[str] = []
        self.raw = b""
        self.heard: Callable[[str], None] = lambda text: None

    def info(self, message: str, **fields: Any) -> None:
        self.messages.append(message)
        self.heard(message)

    def warn(self, message: str, **fields: Any) -> None:
        self.warnings.append(message)

    def error(self, message: str, **fields: Any) -> None:
        raise AssertionError(message)

    def write(self, data: bytes) -> None:
        self.raw += data
        self.heard(data.decode())

    def states(self, group: str, counts: dict[str, int]) -> None:
        raise AssertionError


class Workshop:
    """Builds plans the way the engine does: each in a private copy of its sources, at a path named by a hash."""

    def __init__(self, env: EnvConfig) -> None:
        self.env = env
        self.log = Log()
        self._builds = 0

    @property
    def work(self) -> Path:
        return self.env.home.work

    def input(self, builder: Builder, files: dict[str, str], **options: Any) -> BuildInput:
        """`files` go below `plan/`, or below the base when their name starts with `../`."""
        self._builds += 1
        base = self.work / "requests" / str(self._builds)
        (base / "plan").mkdir(parents=True)
        for name, text in files.items():
            file = base / "plan" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        key = hashlib.sha256(repr((files, options)).encode()).hexdigest()[:16]
        table = options.pop("config", {})
        return BuildInput(
            build_id=f"{self._builds:012x}",
            plan="plan",
            target=self.work / f"{builder.id.replace(':', '-')}--plan-{key}",
            sources=BuildSources(
                base, base / "plan", *((base / part) if (base / part).is_dir() else None for part in ("sdk", "extra"))
            ),
            config=builder.config_model.model_validate(table),
            selectors=options.get("selectors", ()),
            dependencies=options.get("dependencies", ()),
            env=self.env,
            output=self.log,
        )

    async def build(self, builder: Builder, files: dict[str, str], **options: Any) -> str:
        build = self.input(builder, files, **options)
        with anyio.fail_after(50):
            artifact = await builder.build(build)
        assert builder.is_cached(artifact)
        assert not list(self.work.glob(f"*partial-{build.build_id}*"))  # others may be under way
        return artifact

    def environments(self) -> list[Path]:
        return sorted((self.work / "python-envs").glob("*"))

    def left(self) -> set[str]:
        """What lies in the work directory but the sources."""
        found = {path.name for path in self.work.rglob("*") if path.relative_to(self.work).parts[0] != "requests"}
        return found - {"requests", "python-envs"}


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    return Workshop(config.load(config.Home(tmp_path / "home")))


def run(artifact: str, *arguments: str, cwd: str = "/") -> str:
    """As the runner does: with nothing of the test's environment."""
    env = {"PATH": os.environ["PATH"]}
    done = subprocess.run([artifact, *arguments], cwd=cwd, env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return done.stdout


@contextmanager
def cancelled_when(workshop: Workshop, part: str) -> Iterator[None]:
    """Cancels the block once `part` was heard; fails if it never was."""
    with anyio.fail_after(50), anyio.CancelScope() as scope:
        workshop.log.heard = lambda text: scope.cancel() if part in text else None
        yield
    assert scope.cancelled_caught


# --- exec:generic


SHELL = {"main": '#!/bin/sh\necho "hello $1"; cat "$(dirname "$0")/data.txt"\n', "data.txt": "beside it\n"}


async def test_generic_shell_script_with_files_beside_it(workshop: Workshop) -> None:
    artifact = await workshop.build(ExecGeneric(), SHELL)
    assert run(artifact, "you") == "hello you\nbeside it\n"


async def test_generic_c(workshop: Workshop) -> None:
    _need("cc")
    files = {"src/main.c": "#include <stdio.h>\nint main(void) { puts(WORD); }\n"}
    table = {"build": [["mkdir", "out"], ["cc", '-DWORD="hi there"', "-o", "out/x", "src/main.c"]], "artifact": "out/x"}
    assert run(await workshop.build(ExecGeneric(), files, config=table)) == "hi there\n"
    assert workshop.log.messages[0] == "running mkdir out"


async def test_generic_ready_made_binary(workshop: Workshop) -> None:
    build = workshop.input(ExecGeneric(), {}, config={"artifact": "bin/echo"})
    (build.sources.plan / "bin").mkdir()
    shutil.copyfile(shutil.which("echo") or "", build.sources.plan / "bin" / "echo")
    assert run(await ExecGeneric().build(build), "a", "b") == "a b\n"


async def test_generic_commands_see_their_inputs(workshop: Workshop) -> None:
    files = {"sub/Makefile": "", "../sdk/lib.h": "", "../extra/more.txt": ""}
    script = "pwd > where; env | grep ^TESTGROUND_ > vars; echo $COLOUR >> vars; echo '#!/bin/sh' > ../run"
    table = {"build": ["sh", "-c", script], "path": "sub", "env": {"COLOUR": 7}}
    artifact = await workshop.build(
        ExecGeneric(), files, config=table, selectors=("a", "b"), dependencies=(Dependency(module="x"),)
    )
    tree = Path(artifact).parent
    assert (tree / "sub" / "where").read_text().endswith("/plan/sub\n")
    base = workshop.work / "requests" / "1"
    assert sorted((tree / "sub" / "vars").read_text().splitlines()) == [
        "7",
        f"TESTGROUND_CACHE={workshop.env.home.work}/exec-generic-cache/plan",
        f"TESTGROUND_EXTRA={base}/extra",
        f"TESTGROUND_SDK={base}/sdk",
        "TESTGROUND_SELECTORS=a,b",
        f"TESTGROUND_TARGET={tree}",
    ]
    assert workshop.log.warnings == ["exec:generic does not know how to replace dependencies; it ignores them"]


async def test_generic_failing_command(workshop: Workshop) -> None:
    table = {"build": [["sh", "-c", "echo 'no rule to make it' >&2; exit 2"], ["touch", "never"]]}
    with pytest.raises(BuildError) as raised:
        await workshop.build(ExecGeneric(), SHELL, config=table)
    assert raised.value.message.endswith("failed with exit code 2:\nno rule to make it")
    assert workshop.log.raw == b"no rule to make it\n"
    assert workshop.left() == set()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            {"build": "no-such-tool all"},
            "no-such-tool all could not be started: no-such-tool: No such file or directory",
        ),
        ({"build": ["./data.txt"]}, "./data.txt could not be started: ./data.txt: Permission denied"),
        ({"path": "sub"}, "exec:generic: path = 'sub' is not a directory of the plan"),
        ({"artifact": "data.txt"}, "exec:generic: artifact 'data.txt' is neither executable nor starts with '#!'"),
    ],
)
async def test_generic_mistakes(workshop: Workshop, table: dict[str, Any], message: str) -> None:
    with pytest.raises(BuildError) as raised:
        await workshop.build(ExecGeneric(), SHELL, config=table)
    assert raised.value.message == message
    assert workshop.left() == set()


async def test_generic_cancelled_build_leaves_nothing(workshop: Workshop) -> None:
    table = {"build": ["sh", "-c", "sleep 1000 & echo $$ $!; wait"]}
    with cancelled_when(workshop, "\n"):
        await workshop.build(ExecGeneric(), SHELL, config=table)
    assert workshop.left() == set()
    for pid in workshop.log.raw.split():
        await _gone(int(pid))


async def test_generic_cache_stays_until_a_purge(workshop: Workshop) -> None:
    script = 'mkdir -p "$TESTGROUND_CACHE"; echo build >> "$TESTGROUND_CACHE/log"; cp "$TESTGROUND_CACHE/log" .'
    table = {"build": ["sh", "-c", script]}
    logs = []
    for _ in range(2):
        artifact = await workshop.build(ExecGeneric(), SHELL, config=table)
        logs.append(Path(artifact).with_name("log").read_text())
    await ExecGeneric().purge("other", workshop.env, workshop.log)
    await workshop.build(ExecGeneric(), SHELL, config=table)
    await ExecGeneric().purge("plan", workshop.env, workshop.log)
    artifact = await workshop.build(ExecGeneric(), SHELL, config=table)
    assert [*logs, Path(artifact).with_name("log").read_text()] == ["build\n", "build\n" * 2, "build\n"]


async def test_generic_purge(workshop: Workshop) -> None:
    builder = ExecGeneric()
    artifact = await workshop.build(builder, SHELL)
    await builder.purge("plan", workshop.env, workshop.log)
    assert not builder.is_cached(artifact)
    assert workshop.left() == set()


# --- exec:go


GO_MOD = "module example.test/hello\n\ngo 1.21\n"
GO_MAIN = 'package main\n\nimport "fmt"\n\nfunc main() { fmt.Println("hello") }\n'
GO = {"go.mod": GO_MOD, "main.go": GO_MAIN}
GREETER = {
    "go.mod": GO_MOD,
    "main.go": 'package main\n\nimport "%s"\n\nfunc main() { println(greet.Word) }\n',
}


@pytest.fixture
def go(monkeypatch: pytest.MonkeyPatch) -> ExecGo:
    """Without a module proxy: nothing here needs one."""
    _need("go")
    monkeypatch.setenv("GOPROXY", "off")
    return ExecGo()


async def test_go_hello(workshop: Workshop, go: ExecGo) -> None:
    artifact = await workshop.build(go, GO)
    assert run(artifact) == "hello\n"
    toolchain = await go.toolchain(go.config_model(), workshop.env)
    assert toolchain.startswith("go1.")
    assert workshop.left() == {Path(artifact).name}
    await go.purge("plan", workshop.env, workshop.log)
    assert not go.is_cached(artifact)


async def test_go_selectors(workshop: Workshop, go: ExecGo) -> None:
    files = GO | {"broken.go": "//go:build foo && bar\n\npackage main\n\nno Go at all\n"}
    assert run(await workshop.build(go, files)) == "hello\n"
    assert run(await workshop.build(go, files, selectors=("foo",))) == "hello\n"
    left = workshop.left()
    with pytest.raises(BuildError) as raised:
        await workshop.build(go, files, selectors=("foo", "bar"))
    assert raised.value.message.startswith("go build failed with exit code 1:")
    assert "broken.go:5:1: syntax error" in raised.value.message
    assert b"broken.go:5:1: syntax error" in workshop.log.raw
    assert workshop.left() == left


async def test_go_package_in_a_sub_directory(workshop: Workshop, go: ExecGo) -> None:
    files = {"go.mod": GO_MOD, "cmd/hi/main.go": GO_MAIN, "lib/lib.go": "package lib\n"}
    for package in ("cmd/hi", "./cmd/hi", "example.test/hello/cmd/hi"):
        assert run(await workshop.build(go, files, config={"exec_pkg": package})) == "hello\n"
    with pytest.raises(BuildError, match=r"\./lib is not a main package"):
        await workshop.build(go, files, config={"exec_pkg": "lib"})


async def test_go_dependency_replaced_by_a_directory(workshop: Workshop, go: ExecGo) -> None:
    files = GREETER | {"main.go": GREETER["main.go"] % "example.test/greet"}
    files |= {"fork/go.mod": "module example.test/greet\n", "fork/greet.go": 'package greet\n\nconst Word = "fork"\n'}
    with pytest.raises(BuildError) as raised:
        await workshop.build(go, files)
    assert "go build failed" in raised.value.message
    assert "module lookup disabled" in raised.value.message, "what go mod tidy said belongs to the error"
    artifact = await workshop.build(go, files, dependencies=(Dependency(module="example.test/greet", target="./fork"),))
    assert _stderr(artifact) == "fork\n"


async def test_go_vendored_plan_needs_no_tidying(workshop: Workshop, go: ExecGo) -> None:
    module = "example.test/greet"
    files = GREETER | {"main.go": GREETER["main.go"] % module, "go.mod": f"{GO_MOD}\nrequire {module} v1.0.0\n"}
    files["vendor/modules.txt"] = f"# {module} v1.0.0\n## explicit\n{module}\n"
    files[f"vendor/{module}/greet.go"] = 'package greet\n\nconst Word = "vendored"\n'
    assert _stderr(await workshop.build(go, files)) == "vendored\n"
    assert workshop.log.warnings == []


async def test_go_linked_sdk(workshop: Workshop, go: ExecGo) -> None:
    module = "github.com/testground/sdk-go"
    files = GREETER | {"main.go": GREETER["main.go"] % f"{module}/greet"}
    files |= {
        "../sdk/go.mod": f"module {module}\n",
        "../sdk/greet/greet.go": 'package greet\n\nconst Word = "linked"\n',
    }
    assert _stderr(await workshop.build(go, files)) == "linked\n"


async def test_go_foreign_linked_sdk_is_a_warning(workshop: Workshop, go: ExecGo) -> None:
    assert run(await workshop.build(go, GO | {"../sdk/pyproject.toml": ""})) == "hello\n"
    assert workshop.log.warnings == ["the linked SDK is for Python; this Go build does not use it"]


async def test_go_fresh_module(workshop: Workshop, go: ExecGo) -> None:
    table = {"fresh_gomod": True, "module_path": "example.test/new"}
    assert run(await workshop.build(go, {"main.go": GO_MAIN, "go.mod": "broken"}, config=table)) == "hello\n"
    assert "creating new go.mod" in workshop.log.messages


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({}, "the plan has no go.mod"),
        ({"fresh_gomod": True}, "fresh_gomod needs module_path"),
        ({"fresh_gomod": True, "module_path": "-x"}, "module_path = '-x' must not start with a dash"),
    ],
)
async def test_go_mistakes(workshop: Workshop, go: ExecGo, table: dict[str, Any], message: str) -> None:
    with pytest.raises(BuildError, match=message):
        await workshop.build(go, {"main.go": GO_MAIN}, config=table)
    assert workshop.left() == set()


async def test_go_cancelled_build_leaves_nothing(
    workshop: Workshop, go: ExecGo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled while the C compiler, a grandchild, is at work."""
    pid, compiler = tmp_path / "pid", tmp_path / "cc"
    os.mkfifo(pid)
    compiler.write_text(f"#!/bin/sh\necho $$ > {pid}\nexec sleep 1000\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    monkeypatch.setenv("CGO_ENABLED", "1")
    files = GO | {"c.go": 'package main\n\n// int one(void) { return 1; }\nimport "C"\n\nvar _ = C.one()\n'}
    with anyio.fail_after(50):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(workshop.build, go, files)
            started = int(await anyio.Path(pid).read_text())
            tasks.cancel_scope.cancel()
    await _gone(started)
    assert workshop.left() == set()


# --- exec:python


PYTHON = {"main.py": "import sys, helper\n\nprint(helper.word, *sys.argv[1:])\n", "helper.py": "word = 'hello'\n"}


async def test_python_plan_without_requirements(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    artifact = await workshop.build(ExecPython(), PYTHON)
    assert run(artifact, "a b", "c") == "hello a b c\n"
    assert Path(artifact).name == "run"


async def test_python_plan_sees_the_sdk_but_not_the_daemon(workshop: Workshop) -> None:
    probe = (
        "import importlib.util as u, json, sys\n"
        "import testground.sdk, testground.sync.wire, testground.errors, websockets, msgspec\n"
        "names = ['pydantic', 'fastapi', 'picows', 'anyio', 'httpx', 'testground.daemon', 'testground.api']\n"
        "found = {name: u.find_spec(name) is not None for name in names}\n"
        "print(json.dumps([found, testground.__file__, sys.modules['testground.sync.wire'].__cached__]))\n"
    )
    found, file, cached = json.loads(run(await workshop.build(ExecPython(), {"main.py": probe})))
    assert not any(found.values()), found
    assert Path(file).is_relative_to(workshop.work / "python-envs")
    assert Path(cached).is_file(), "compiled when it was built"


async def test_python_output_is_not_buffered(workshop: Workshop) -> None:
    files = {"main.py": "import os\nprint('last words')\nos._exit(0)\n"}
    assert run(await workshop.build(ExecPython(), files)) == "last words\n"


async def test_python_entry_points(workshop: Workshop) -> None:
    files = {
        "lib.py": "def main():\n    print('function')\n",
        "sub/start.py": "import lib, beside\n\nlib.main()\n",
        "sub/beside.py": "",
    }
    for entry in ("lib:main", "sub/start.py"):
        assert run(await workshop.build(ExecPython(), files, config={"entrypoint": entry})) == "function\n"


async def test_python_plan_with_a_file_named_like_the_launcher(workshop: Workshop) -> None:
    artifact = await workshop.build(ExecPython(), PYTHON | {"run": "the plan's own"})
    assert run(artifact) == "hello\n"
    assert (Path(artifact).parent / "run").read_text() == "the plan's own"


async def test_python_traceback_names_the_artifact(workshop: Workshop) -> None:
    files = {"main.py": "import helper\nhelper.fail()\n", "helper.py": "def fail():\n    return 1 / 0\n"}
    artifact = await workshop.build(ExecPython(), files)
    done = subprocess.run([artifact], capture_output=True, text=True, timeout=30)
    assert f'File "{Path(artifact).parent}/helper.py", line 2, in fail\n    return 1 / 0' in done.stderr


async def test_python_entry_point_that_does_not_compile(workshop: Workshop) -> None:
    await workshop.build(ExecPython(), PYTHON | {"template.py": "{{ not python }"})
    with pytest.raises(BuildError) as raised:
        await workshop.build(ExecPython(), PYTHON | {"main.py": "import sys\ndef main(:\n"})
    assert raised.value.message.startswith("exec:python: main.py does not compile:\n")
    assert "line 2" in raised.value.message
    assert "SyntaxError" in raised.value.message


async def test_python_plans_with_equal_requirements_share_an_environment(workshop: Workshop) -> None:
    builder = ExecPython()
    plans = [PYTHON | {"number.txt": str(number)} for number in range(3)]
    async with anyio.create_task_group() as tasks:
        for plan in plans:
            tasks.start_soon(workshop.build, builder, plan)
    assert workshop.log.messages == ["creating a Python environment"]
    assert len(workshop.environments()) == 1


async def test_python_requirement_from_the_plan(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")
    for version in ("1.0", "2.0"):
        build = workshop.input(
            ExecPython(),
            {"main.py": "import tiny\nprint(tiny.version)\n"},
            config={"requirements": [f"./tiny-{version}-py3-none-any.whl"]},
        )
        _wheel(build.sources.plan, "tiny", version)
        assert run(await ExecPython().build(build)) == f"{version}\n"
    assert len(workshop.environments()) == 2


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[http.server.ThreadingHTTPServer]:
    """A package index with tiny 1.0 and 2.0 and nothing else, and a cache of its own for uv."""
    packages = tmp_path / "index" / "tiny"
    packages.mkdir(parents=True)
    for version in ("1.0", "2.0"):
        _wheel(packages, "tiny", version)
    handler = functools.partial(_Quiet, directory=str(tmp_path / "index"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        for name in ("UV_FIND_LINKS", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_OFFLINE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("UV_DEFAULT_INDEX", f"http://127.0.0.1:{server.server_port}/")
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv-cache"))
        monkeypatch.setenv("UV_HTTP_RETRIES", "0")
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(10)


TINY = {"main.py": "import tiny\nprint(tiny.version)\n"}


async def test_python_requirements_from_an_index(workshop: Workshop, index: Any) -> None:
    builder = ExecPython()
    assert run(await workshop.build(builder, TINY | {"requirements.txt": "tiny\n"})) == "2.0\n"
    project = {"pyproject.toml": '[project]\nname = "x"\nversion = "0"\ndependencies = ["tiny<2", "testground"]\n'}
    assert run(await workshop.build(builder, TINY | project)) == "1.0\n"
    override = (Dependency(module="tiny", version="1.0"),)
    assert (
        run(await workshop.build(builder, TINY, config={"requirements": ["tiny>1"]}, dependencies=override)) == "1.0\n"
    )
    assert b"Installed 1 package" in workshop.log.raw


async def test_python_builds_without_the_index_it_was_installed_from(workshop: Workshop, index: Any) -> None:
    builder = ExecPython()
    await workshop.build(builder, TINY | {"requirements.txt": "tiny"})
    index.shutdown()
    index.server_close()
    said = workshop.log.raw
    assert run(await workshop.build(builder, TINY | {"requirements.txt": "tiny", "new.txt": ""})) == "2.0\n"
    assert workshop.log.raw == said, "the environment was there"
    assert run(await workshop.build(builder, TINY | {"requirements.txt": "tiny>0"})) == "2.0\n"
    assert workshop.log.warnings == ["no package index can be reached; the requirements were met from uv's cache"]
    with pytest.raises(BuildError, match="uv is configured by UV_DEFAULT_INDEX or uv.toml, not as pip is"):
        await workshop.build(builder, TINY | {"requirements.txt": "other"})


async def test_python_unknown_requirement(workshop: Workshop, index: Any) -> None:
    with pytest.raises(BuildError) as raised:
        await workshop.build(ExecPython(), TINY | {"requirements.txt": "tiny\nno-such-thing"})
    assert raised.value.message.startswith("uv pip install failed with exit code 1:")
    assert "no-such-thing was not found" in raised.value.message
    assert workshop.environments() == []


async def test_python_requirement_that_the_sdk_cannot_live_with(workshop: Workshop, index: Any) -> None:
    with pytest.raises(BuildError, match="websockets"):
        await workshop.build(ExecPython(), TINY | {"requirements.txt": "websockets<3"})


async def test_python_version_that_nobody_has(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    with pytest.raises(BuildError, match=r"uv venv failed with exit code \d:\n(.|\n)*3\.99"):
        await workshop.build(ExecPython(), PYTHON, config={"python": "3.99"})
    assert workshop.environments() == []


def test_python_too_old_for_the_sdk(tmp_path: Path) -> None:
    (tmp_path / "lib" / "python3.10" / "site-packages").mkdir(parents=True)
    with pytest.raises(BuildError, match=r"Python 3\.10 is too old for the SDK; it needs 3\.11 or newer"):
        environments._site_packages(tmp_path)


async def test_python_linked_sdk(workshop: Workshop) -> None:
    files = {"main.py": "import testground.sdk\nprint(testground.sdk.word)\n"}
    files |= {f"../sdk/testground/{name}": "" for name in ("__init__.py", "errors.py")}
    files |= {"../sdk/testground/sdk/__init__.py": "word = 'linked'\n"}
    assert run(await workshop.build(ExecPython(), files)) == "linked\n"


async def test_python_selectors_are_a_warning(workshop: Workshop) -> None:
    await workshop.build(ExecPython(), PYTHON, selectors=("a",))
    assert workshop.log.warnings == ["exec:python has no use for selectors; it ignores them"]


@pytest.mark.parametrize("moment", ["creating a Python environment", "Resolved"])
async def test_python_cancelled_build_leaves_nothing(workshop: Workshop, index: Any, moment: str) -> None:
    builder = ExecPython()
    with cancelled_when(workshop, moment):
        await workshop.build(builder, TINY | {"requirements.txt": "tiny"})
    assert workshop.environments() == []
    assert not list(workshop.work.glob("exec-*"))
    workshop.log.heard = lambda text: None
    assert run(await workshop.build(builder, TINY | {"requirements.txt": "tiny"})) == "2.0\n"


async def test_python_half_made_environment_of_a_killed_daemon_is_made_again(workshop: Workshop) -> None:
    builder = ExecPython()
    artifact = await workshop.build(builder, PYTHON)
    (environment,) = workshop.environments()
    (environment / "testground.json").unlink()
    assert not builder.is_cached(artifact)
    assert run(await workshop.build(builder, PYTHON)) == "hello\n"


async def test_python_purge_keeps_what_other_plans_need(workshop: Workshop) -> None:
    builder = ExecPython()
    mine = await workshop.build(builder, PYTHON)
    other = workshop.input(builder, PYTHON)
    target = other.target.with_name("exec-python--other-00ff")
    theirs = await builder.build(
        BuildInput(**{name: getattr(other, name) for name in other.__slots__} | {"target": target})
    )
    await builder.purge("plan", workshop.env, workshop.log)
    assert not builder.is_cached(mine)
    assert builder.is_cached(theirs)
    await builder.purge("other", workshop.env, workshop.log)
    assert not builder.is_cached(theirs)
    assert workshop.log.messages[-1] == "removed 1 Python environments that no artifact needs"
    assert workshop.left() == set()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


def _wheel(directory: Path, name: str, version: str) -> None:
    """The smallest wheel there can be: one module with its version in it."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"version = '{version}'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{file},{_sha256(text)},{len(text)}\n" for file, text in files.items())
    with zipfile.ZipFile(directory / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for file, text in {**files, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(file, text)


def _sha256(text: str) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


def _stderr(artifact: str) -> str:
    return subprocess.run([artifact], capture_output=True, text=True, timeout=30, check=True).stderr


def _need(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool}")


async def _gone(pid: int) -> None:
    """A killed orphan vanishes when init reaps it; there is no event for that."""
    with anyio.fail_after(5):
        while _alive(pid):
            await anyio.lowlevel.checkpoint()


def _alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
