"""User-mode Linux for tests; where it is missing they are skipped with the reason."""

from pathlib import Path

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

    def run(script: str, memory: str = "256M"):
        path = Path(__file__).with_name(script)
        return boot.run(path, tmp_path_factory.mktemp("uml"), MODULES, seconds=SECONDS, memory=memory)

    return run
