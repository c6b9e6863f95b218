"""The environments of instance-contract §7.1: what a runner of ours sets, and what our SDK reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from testground.runners import environment
from testground.sdk import RunEnv

OUTPUTS = "/home/u/testground/data/outputs/local_exec/tplan/c0ffee0000000000000g/single/0"
EXEC = f"""TEST_BRANCH=
TEST_CAPTURE_PROFILES=
TEST_CASE=pubsub
TEST_DISABLE_METRICS=false
TEST_GROUP_ID=single
TEST_GROUP_INSTANCE_COUNT=2
TEST_INSTANCE_COUNT=2
TEST_INSTANCE_PARAMS=a=1|b=x
TEST_INSTANCE_ROLE=
TEST_OUTPUTS_PATH={OUTPUTS}
TEST_PLAN=tplan
TEST_REPO=
TEST_RUN=c0ffee0000000000000g
TEST_SIDECAR=false
TEST_START_TIME=2022-01-12T15:48:07-05:00
TEST_SUBNET=127.1.0.0/16
TEST_TAG=
TEST_TEMP_PATH=/tmp/testground123456789
"""
EXEC_MORE = "INFLUXDB_URL=http://localhost:8086\nREDIS_HOST=localhost\nSYNC_SERVICE_HOST=localhost\n"
DOCKER = (
    EXEC.replace(OUTPUTS, "/outputs")
    .replace("/tmp/testground123456789", "/temp")
    .replace("SIDECAR=false", "SIDECAR=true")
    .replace("127.1.", "16.0.")
)
DOCKER_MORE = "INFLUXDB_URL=http://testground-influxdb:8086\nREDIS_HOST=testground-redis\nADDITIONAL_HOSTS=\n"


@dataclass(frozen=True)
class Group:
    id: str = "single"
    instances: int = 2
    parameters: dict[str, str] = field(default_factory=lambda: {"b": "x", "a": "1"})
    profiles: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    run_id: str = "c0ffee0000000000000g"
    plan: str = "tplan"
    case: str = "pubsub"
    total_instances: int = 2
    disable_metrics: bool = False


@pytest.mark.parametrize(
    ("text", "outputs", "temp", "subnet", "sidecar"),
    [
        pytest.param(EXEC, OUTPUTS, "/tmp/testground123456789", "127.1.0.0/16", False, id="7.1-local:exec"),
        pytest.param(DOCKER, "/outputs", "/temp", "16.0.0.0/16", True, id="7.1-local:docker"),
    ],
)
def test_what_our_runners_set(text: str, outputs: str, temp: str, subnet: str, sidecar: bool) -> None:
    """In the order of the vector. What a runner of ours sets besides is in the acceptance checklist."""
    variables = environment.test_variables(
        Run(),  # type: ignore[arg-type]
        Group(),  # type: ignore[arg-type]
        outputs=Path(outputs),
        temp=Path(temp),
        subnet=subnet,
        sidecar=sidecar,
        start_time=datetime(2022, 1, 12, 15, 48, 7, 999999, timezone(timedelta(hours=-5))),
    )
    assert "".join(f"{name}={value}\n" for name, value in variables.items()) == text


@pytest.mark.parametrize(
    ("text", "outputs", "temp", "subnet", "sidecar", "sync_host", "influxdb"),
    [
        pytest.param(
            EXEC + EXEC_MORE,
            OUTPUTS,
            "/tmp/testground123456789",
            "127.1.0.0/16",
            False,
            "localhost",
            "http://localhost:8086",
            id="7.1-local:exec",
        ),
        pytest.param(
            DOCKER + DOCKER_MORE,
            "/outputs",
            "/temp",
            "16.0.0.0/16",
            True,
            "",
            "http://testground-influxdb:8086",
            id="7.1-local:docker",
        ),
    ],
)
def test_what_our_sdk_reads(
    text: str, outputs: str, temp: str, subnet: str, sidecar: bool, sync_host: str, influxdb: str
) -> None:
    env = RunEnv.from_environ(dict(line.split("=", 1) for line in text.splitlines()))
    assert (env.plan, env.case, env.run, env.group) == ("tplan", "pubsub", "c0ffee0000000000000g", "single")
    assert (env.instance_count, env.group_instance_count, env.params) == (2, 2, {"a": "1", "b": "x"})
    assert (env.outputs_path, env.temp_path) == (Path(outputs), Path(temp))
    assert (env.subnet, env.sidecar) == (IPv4Network(subnet), sidecar)
    assert env.start_time == datetime(2022, 1, 12, 15, 48, 7, tzinfo=timezone(timedelta(hours=-5)))
    assert (env.role, env.repo, env.branch, env.tag, env.profiles) == ("", "", "", "", {})
    assert (env.sync_host, env.sync_port, env.influxdb_url) == (sync_host, 5050, influxdb)
    assert env.disable_metrics is False
