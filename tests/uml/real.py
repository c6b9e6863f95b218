"""Has a real daemon run plans in isolated networks. Run within user-mode Linux."""

from __future__ import annotations

import os
import re
import selectors
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from testground.sidecar import layout
from tests.uml import first

SECONDS = 120
COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def report(plans: list[str], runs: list[list[str]]) -> list[dict[str, Any]]:
    """What became of `testground run` with the words of each of `runs`, one after the other.

    `plans` are their directories. They should name what was built outside: to start processes is slow in here.
    """
    layout.Channel().carry_out([layout.up(1)])
    home = Path(tempfile.mkdtemp())
    first.mount("tmpfs", str(home))  # the files of the machine outside have no sockets
    environ = os.environ | {"TESTGROUND_HOME": str(home), "HOME": str(home)}
    settle(home, plans)
    daemon = subprocess.Popen(testground("daemon"), env=environ, stdout=subprocess.PIPE)
    try:
        wait_for(daemon, b"daemon listening")
        return [carry_out(words, home, environ) for words in runs]
    finally:
        daemon.terminate()
        daemon.wait(SECONDS)


def settle(home: Path, plans: list[str]) -> None:
    (home / ".env.toml").write_text('[daemon]\nlisten = "127.0.0.1:0"\nsync_listen = "127.0.0.1:0"\n')
    (home / "plans").mkdir()
    for plan in map(Path, plans):
        (home / "plans" / plan.name).symlink_to(plan)


def carry_out(words: list[str], home: Path, environ: dict[str, str]) -> dict[str, Any]:
    """`files` are those of the instances, by their path below the run's directory.

    There is one processor in here, and what the instances measure is more urgent than to print what they say.
    """
    began = time.perf_counter()
    done = subprocess.run(
        ["nice", "-n", "19", *testground("run", *words)], env=environ, cwd=home, text=True, timeout=SECONDS,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    elapsed = time.perf_counter() - began
    [run_id] = re.findall(r"run is queued with ID: (\w+)", done.stdout) or [""]
    files = {}
    for directory in home.glob(f"data/outputs/*/*/{run_id}") if run_id else ():
        for path in directory.rglob("*"):
            if path.is_file():
                files[str(path.relative_to(directory))] = path.read_text(errors="replace")
    return {"exit": done.returncode, "said": COLOUR.sub("", done.stdout), "seconds": elapsed, "files": files}


def testground(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "testground", *arguments]


def wait_for(daemon: subprocess.Popen[bytes], text: bytes) -> None:
    said = b""
    ends = time.monotonic() + SECONDS
    with selectors.DefaultSelector() as selector:
        selector.register(daemon.stdout, selectors.EVENT_READ)
        while text not in said:
            ready = selector.select(max(0.0, ends - time.monotonic()))
            data = os.read(daemon.stdout.fileno(), 1 << 16) if ready else b""
            if not data:
                raise AssertionError(f"waited for {text!r} in {said!r}")
            said += data
