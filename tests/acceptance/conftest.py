"""The command line as users have it: a process, in a home of its own, beside a daemon that serves the whole session."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.upstream.client import GoClient
    from tests.upstream.remote import Remote

TESTGROUND = (sys.executable, "-m", "testground")
REPOSITORY = Path(__file__).parents[2]
DEADLINE = 50.0
"""Seconds for one command, below pytest's own limit for a test."""

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that has ended. Its output is without colours."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def run_ids(self) -> list[str]:
        return re.findall(r"run is queued with ID: ([0-9a-v]{20})$", self.stdout, re.MULTILINE)

    def log(self, text: str) -> list[str]:
        """The log lines that contain a text."""
        return [line for line in self.stdout.splitlines() if text in line]


@dataclass(frozen=True, slots=True)
class CommandLine:
    """Runs `testground` in `directory`, where `examples` leads to those of the repository."""

    home: Path
    directory: Path

    def __call__(self, *arguments: str, deadline: float = DEADLINE) -> Finished:
        done = subprocess.run(
            [*TESTGROUND, *arguments],
            cwd=self.directory,
            env={**os.environ, "TESTGROUND_HOME": str(self.home)},
            capture_output=True,
            text=True,
            timeout=deadline,
            check=False,
        )
        return Finished(done.returncode, _COLOUR.sub("", done.stdout), _COLOUR.sub("", done.stderr))

    def readme(self, example: str, *more: str, deadline: float = DEADLINE) -> Finished:
        """Run what the README of an example says, with `more` at the end of its last command, which this returns."""
        text = (self.directory / "examples" / example / "README.md").read_text(encoding="utf-8")
        block = text.partition("```sh\n")[2].partition("```")[0]
        *first, last = [shlex.split(line)[1:] for line in block.splitlines()]
        for command in first:
            assert self(*command).exit_code == 0
        return self(*last, *more, deadline=deadline)

    def collected(self, name: str) -> Archive:
        return Archive.read(self.directory / f"{name}.tgz")


@dataclass(frozen=True, slots=True)
class Archive:
    """A collected archive: its files by their path below the run's directory, which all of them share."""

    run_id: str
    files: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> Archive:
        with tarfile.open(path, "r:gz") as tar:
            named = {member.name: tar.extractfile(member) for member in tar if member.isfile()}
            texts = {name: file.read().decode("utf-8", "replace") for name, file in named.items() if file is not None}
        [run_id] = {name.partition("/")[0] for name in texts}
        return cls(run_id, {name.partition("/")[2]: text for name, text in texts.items()})

    def named(self, name: str) -> dict[str, str]:
        """The files of this name, by instance: `group/index`."""
        suffix = f"/{name}"
        return {path.removesuffix(suffix): text for path, text in self.files.items() if path.endswith(suffix)}


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its daemon listens where the system likes, beside whatever else runs on this machine."""
    root = tmp_path_factory.mktemp("home")
    (root / ".env.toml").write_text('[daemon]\nlisten = "localhost:0"\nsync_listen = "localhost:0"\n')
    return root


@pytest.fixture(scope="session")
def daemon(home: Path) -> Iterator[None]:
    process = subprocess.Popen(
        [*TESTGROUND, "daemon"],
        env={**os.environ, "TESTGROUND_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    log = _Log(process)
    try:
        assert log.listening.wait(DEADLINE) and process.poll() is None, f"the daemon did not start:\n{log.text}"
        yield
    finally:
        process.terminate()
        exit_code = process.wait(DEADLINE)
        log.close()
    assert exit_code == 0, f"the daemon ended with {exit_code}:\n{log.text}"


@pytest.fixture
def cli(home: Path, daemon: None, tmp_path: Path) -> CommandLine:
    """Commands that find the daemon of the session."""
    return command_line(home, tmp_path)


@pytest.fixture
def go(home: Path, daemon: None, tmp_path: Path) -> GoClient:
    """Upstream's client, which is told where the daemon of the session listens."""
    from tests.acceptance import processes  # these import this module themselves
    from tests.upstream import client

    return client.create(tmp_path, processes.endpoint(home))


@pytest.fixture(scope="session")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Remote]:
    from tests.upstream.remote import served

    with served(tmp_path_factory.mktemp("upstream")) as remote:
        yield remote


@pytest.fixture
def remote(upstream: Remote, tmp_path: Path) -> Remote:
    """Our command line beside upstream's daemon, which serves the whole session."""
    return upstream.inside(tmp_path)


def command_line(home: Path, directory: Path) -> CommandLine:
    (directory / "examples").symlink_to(REPOSITORY / "examples")
    return CommandLine(home, directory)


class _Log:
    """Reads what the daemon says until it ends, so that it never waits for a reader."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.listening = threading.Event()
        self.text = ""
        self._process = process
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._thread.join(DEADLINE)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self.text += line
            if "daemon listening" in line:
                self.listening.set()
        self.listening.set()  # it ended: nobody needs to wait for it
