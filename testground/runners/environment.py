"""The environment of an instance (contract §1.1): the 18 `TEST_*` variables, always all of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from testground.plugins import RunGroupInput, RunInput


def pack(values: Mapping[str, str]) -> str:
    """`k=v|k2=v2`, sorted; there is no escaping, so compositions with `|` or `=` are refused before they get here."""
    return "|".join(f"{key}={value}" for key, value in sorted(values.items()))


def test_variables(
    run: RunInput,
    group: RunGroupInput,
    *,
    outputs: Path,
    temp: Path,
    subnet: str,
    sidecar: bool,
    start_time: datetime,
) -> dict[str, str]:
    """What every runner sets for every instance (contract §1.1)."""
    return {
        "TEST_BRANCH": "",
        "TEST_CAPTURE_PROFILES": pack(group.profiles),
        "TEST_CASE": run.case,
        "TEST_DISABLE_METRICS": _boolean(run.disable_metrics),
        "TEST_GROUP_ID": group.id,
        "TEST_GROUP_INSTANCE_COUNT": str(group.instances),
        "TEST_INSTANCE_COUNT": str(run.total_instances),
        "TEST_INSTANCE_PARAMS": pack(group.parameters),
        "TEST_INSTANCE_ROLE": "",
        "TEST_OUTPUTS_PATH": str(outputs),
        "TEST_PLAN": run.plan,
        "TEST_REPO": "",
        "TEST_RUN": run.run_id,
        "TEST_SIDECAR": _boolean(sidecar),
        "TEST_START_TIME": start_time.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "TEST_SUBNET": subnet,
        "TEST_TAG": "",
        "TEST_TEMP_PATH": str(temp),
    }


def _boolean(value: bool) -> str:
    return "true" if value else "false"
