"""User-mode Linux for tests; where it is missing they are skipped with the reason."""

from pathlib import Path
from typing import Any

import pytest

from tests.uml import boot

MODULES = ("bridge", "ipv6", "veth", "sch_htb", "sch_netem", "cls_u32")
SECONDS = 240


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory):
    """Runs a script in there and gives what it reports."""
    reason = boot.missing()
    if reason:
        pytest.skip(reason)

    def run(script: str, memory: str = "256M", **arguments: Any):
        path, scratch = Path(__file__).with_name(script), tmp_path_factory.mktemp("uml")
        return boot.run(path, scratch, MODULES, arguments, seconds=SECONDS, memory=memory)

    return run
