"""Has a real daemon run a real plan in isolated networks. Run within user-mode Linux."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from testground.sidecar import layout
from tests.uml import first

PLAN = Path(__file__).with_name("plan.py")
SECONDS = 120
MANIFEST = """
name = "links"
[builders."exec:generic"]
artifact = "plan.py"
[runners."local:exec"]
[[testcases]]
name = "measure"
instances = { min = 2, max = 2 }
"""


def report() -> dict[str, Any]:
    layout.Channel().carry_out([layout.up(1)])
    home = Path(tempfile.mkdtemp())
    first.mount("tmpfs", str(home))  # the files of the machine outside have no sockets
    environ = os.environ | {"TESTGROUND_HOME": str(home), "PYTHONPATH": first.CHECKOUT, "HOME": str(home)}
    write_plan(home)
    daemon = subprocess.Popen(testground("daemon"), env=environ, stdout=subprocess.PIPE)
    try:
        wait_for(daemon, b"daemon listening")
        began = time.perf_counter()
        argv = ["run", "single", "-p", "links", "-t", "measure", "-b", "exec:generic", "-r", "local:exec", "-i", "2"]
        done = subprocess.run(
            testground(*argv, "--run-cfg", "network=isolated", "--wait"),
            env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=SECONDS,
        )  # fmt: skip
        elapsed = time.perf_counter() - began
    finally:
        daemon.terminate()
        daemon.wait(SECONDS)
    measured = [json.loads(path.read_text()) for path in home.glob("data/outputs/**/measured.json")]
    return {"exit": done.returncode, "said": done.stdout, "measured": measured, "seconds": elapsed}


def testground(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "testground", *arguments]


def write_plan(home: Path) -> None:
    (home / ".env.toml").write_text('[daemon]\nlisten = "127.0.0.1:0"\nsync_listen = "127.0.0.1:0"\n')
    plan = home / "plans" / "links"
    plan.mkdir(parents=True)
    (plan / "manifest.toml").write_text(MANIFEST)
    header = f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {first.CHECKOUT!r})\n"
    text = PLAN.read_text().replace("from __future__ import annotations\n", "")
    (plan / "plan.py").write_text(header + text)
    (plan / "plan.py").chmod(0o755)


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
