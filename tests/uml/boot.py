"""Runs a Python script in user-mode Linux: a kernel with netem, as an ordinary process, with this machine's files."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

KERNEL = "linux.uml"
MODULES = Path("/usr/lib/uml/modules")
FIRST = Path(__file__).with_name("first.py")
TEXT_AT_THE_END = 3000


def missing() -> str:
    """Why there is no user-mode Linux here; empty when there is."""
    if shutil.which(KERNEL) is None:
        return f"{KERNEL} is not installed (the package user-mode-linux of Debian)"
    return "" if MODULES.is_dir() else f"{MODULES} has no modules for {KERNEL}"


def run(
    script: Path,
    scratch: Path,
    modules: Iterable[str],
    arguments: Mapping[str, Any],
    *,
    seconds: float,
    memory: str = "256M",
) -> Any:
    """What the function `report` of `script` returns. Raises `AssertionError` with the console's end when it does not.

    `script` is run by this interpreter as the first process there, with the checkout in its path.
    """
    result, console = scratch / "result.json", scratch / "console.txt"
    order = {"script": str(script), "modules": list(modules), "directory": str(MODULES), "result": str(result)}
    order["arguments"] = dict(arguments)
    (scratch / "order.json").write_text(json.dumps(order))
    options = [f"mem={memory}", "rootfstype=hostfs", "rootflags=/", "rw", "quiet", "panic=-1"]
    options += ["con=null", "con0=null,fd:1", f"uml_dir={scratch}/", "umid=machine", f"init={sys.executable}"]
    argv = [KERNEL, *options, "--", "-I", str(FIRST), str(scratch / "order.json")]
    with console.open("wb") as out:
        machine = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            env={"PATH": os.environ["PATH"], "HOME": str(scratch), "TMPDIR": str(scratch)},
        )  # fmt: skip
        hurry(machine.pid)
        try:
            machine.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(machine.pid, signal.SIGKILL)
            machine.wait()
            said = f"did not end within {seconds} s"
        else:
            said = f"ended with {machine.returncode} and reported nothing"
    if result.exists():
        return json.loads(result.read_text())
    end = console.read_text(errors="replace")[-TEXT_AT_THE_END:]
    raise AssertionError(f"user-mode Linux {said}; its console ends with:\n{end}")


def hurry(pid: int) -> None:
    """Have the machine's clock go on while others are busy, where root asks for it: times are measured in there."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/autogroup").write_text("-10")
        os.setpriority(os.PRIO_PGRP, pid, -10)
