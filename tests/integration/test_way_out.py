"""The tests of `ways_out.py`, each in a world of its own: as who runs the tests, and as an ordinary user."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from testground.drivers import slirp
from tests import ordinary_user

TESTS = Path(__file__).with_name("ways_out.py")
WORLD = Path(__file__).parents[1] / "world.py"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("who", ["who runs the tests", "an ordinary user"])
def test_ways_out(tmp_path, who):
    if lack := slirp.missing():
        pytest.skip(lack)
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    argv = [sys.executable, str(WORLD), str(tmp_path), sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider",
            f"--basetemp={tmp_path / 'tests'}", str(TESTS)]  # fmt: skip
    if who == "an ordinary user" and os.geteuid() == 0:
        argv = ordinary_user.command(*argv)
    done = subprocess.run(argv, cwd=ordinary_user.CHECKOUT, capture_output=True, text=True, check=False)
    if "launcher.Failed: (" in done.stderr:
        pytest.skip(f"this machine allows no namespaces: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout and "skipped" not in done.stdout, done.stdout
