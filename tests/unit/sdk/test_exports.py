"""What a plan author imports is all there, and all explained."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap

import pytest

from testground import sdk


@pytest.mark.parametrize("name", sdk.__all__)
def test_every_export_is_documented(name: str) -> None:
    export = getattr(sdk, name)
    assert export.__module__.startswith("testground.")
    assert export.__doc__ or issubclass(export, Exception)
    assert not (export.__doc__ or "").startswith(f"{name}("), "the text of a dataclass documents nothing"


def test_every_import_is_exported() -> None:
    public = {name for name, value in vars(sdk).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert public - {"annotations"} == set(sdk.__all__)
    assert list(sdk.__all__) == sorted(sdk.__all__)


def test_the_example_of_the_guide_compiles() -> None:
    lines = (sdk.__doc__ or "").splitlines()
    example = textwrap.dedent("\n".join(line for line in lines if not line or line.startswith("    ")))
    compile(example, "guide", "exec")
    assert "invoke_map" in example


def test_importing_is_light() -> None:
    heavy = ["pydantic", "anyio", "websockets", "http.client", "cProfile", "tracemalloc", "urllib.request", "tempfile"]
    code = f"import sys, testground.sdk; print([name for name in {heavy!r} if name in sys.modules])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert shown.stdout.strip() == "[]"
