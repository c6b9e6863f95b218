"""Variables of a runner into the fields of a `RunEnv` (contract §1)."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from testground.sdk import EnvError, RunEnv

MakeEnv = Callable[..., RunEnv]


def test_fields(make_env: MakeEnv) -> None:
    env = make_env(TEST_CAPTURE_PROFILES="cpu=|heap=5s", TEST_TAG="v1", SYNC_SERVICE_HOST="h", SYNC_SERVICE_PORT="7")
    assert (env.plan, env.case, env.run, env.group) == ("tplan", "pubsub", "c0ffee0000000000000g", "single")
    assert (env.instance_count, env.group_instance_count) == (2, 2)
    assert env.params == {"a": "1", "b": "x"}
    assert env.profiles == {"cpu": "", "heap": "5s"}
    assert (env.outputs_path, env.temp_path) == (Path("/outputs"), Path("/temp"))
    assert env.subnet == IPv4Network("16.0.0.0/16")
    assert env.start_time == datetime(2022, 1, 12, 15, 48, 7, tzinfo=timezone(timedelta(hours=-5)))
    assert (env.sidecar, env.disable_metrics) == (False, False)
    assert (env.role, env.repo, env.branch, env.tag) == ("", "", "", "v1")
    assert (env.sync_host, env.sync_port) == ("h", 7)


def test_what_is_optional_may_be_absent() -> None:
    required = {
        "TEST_PLAN": "p",
        "TEST_CASE": "c",
        "TEST_RUN": "r",
        "TEST_GROUP_ID": "g",
        "TEST_INSTANCE_COUNT": "3",
        "TEST_GROUP_INSTANCE_COUNT": "1",
    }
    env = RunEnv.from_environ(required)
    assert (env.params, env.profiles, env.subnet, env.start_time) == ({}, {}, None, None)
    assert env.outputs_path == Path()
    assert env.temp_path.is_dir()
    assert (env.sync_host, env.sync_port, env.influxdb_url) == ("", 5050, "")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("1", True),
        ("T", True),
        ("TRUE", True),
        ("0", False),
        ("F", False),
        ("False", False),
        ("", False),
    ],
)
def test_booleans_are_those_of_go(make_env: MakeEnv, text: str, value: bool) -> None:
    assert make_env(TEST_SIDECAR=text, TEST_DISABLE_METRICS=text).sidecar is value


@pytest.mark.parametrize(
    ("variable", "text", "complaint"),
    [
        ("TEST_PLAN", "", "TEST_PLAN is empty"),
        ("TEST_INSTANCE_COUNT", "x", "TEST_INSTANCE_COUNT is 'x': not a whole number of at least 1"),
        ("TEST_INSTANCE_COUNT", "-1", "TEST_INSTANCE_COUNT is '-1': not a whole number of at least 1"),
        ("TEST_INSTANCE_COUNT", "0", "TEST_INSTANCE_COUNT is '0': not a whole number of at least 1"),
        ("TEST_GROUP_INSTANCE_COUNT", "1.0", "TEST_GROUP_INSTANCE_COUNT is '1.0': not a whole number of at least 1"),
        ("TEST_INSTANCE_PARAMS", "a=1|b", "TEST_INSTANCE_PARAMS is 'a=1|b': 'b' is not of the form name=value"),
        ("TEST_CAPTURE_PROFILES", "cpu", "TEST_CAPTURE_PROFILES is 'cpu': 'cpu' is not of the form name=value"),
        ("TEST_SIDECAR", "yes", "TEST_SIDECAR is 'yes': not true or false"),
        ("TEST_DISABLE_METRICS", "2", "TEST_DISABLE_METRICS is '2': not true or false"),
        ("TEST_SUBNET", "16.0.0.0/99", "TEST_SUBNET is '16.0.0.0/99': not the CIDR of an IPv4 network ("),
        ("TEST_START_TIME", "yesterday", "TEST_START_TIME is 'yesterday': not a time such as 2022-01-12T15:48:07Z"),
        ("TEST_START_TIME", "2022-01-12T15:48:07", "TEST_START_TIME is '2022-01-12T15:48:07': not a time"),
        ("SYNC_SERVICE_PORT", "66000", "SYNC_SERVICE_PORT is '66000': not a port number"),
    ],
)
def test_each_malformed_variable_is_a_clear_error(make_env: MakeEnv, variable: str, text: str, complaint: str) -> None:
    with pytest.raises(EnvError, match=re.escape(f"malformed environment: {complaint}")):
        make_env(**{variable: text})


def test_all_faults_are_told_at_once() -> None:
    with pytest.raises(EnvError) as caught:
        RunEnv.from_environ({"TEST_PLAN": "p", "TEST_CASE": "c", "TEST_RUN": "r", "TEST_SIDECAR": "?"})
    assert str(caught.value) == (
        "malformed environment: TEST_GROUP_ID is not set; TEST_INSTANCE_COUNT is not set; "
        "TEST_GROUP_INSTANCE_COUNT is not set; TEST_SIDECAR is '?': not true or false"
    )


def test_started_by_hand() -> None:
    with pytest.raises(EnvError, match="is a test plan: start it with 'testground run single'"):
        RunEnv.from_environ({"PATH": "/bin"})


def test_exposed_ports(make_env: MakeEnv, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_PORT", "8080")
    monkeypatch.setenv("BAD_PORT", "many")
    env = make_env()
    assert env.port_number(" api ", 1) == 8080
    assert env.port_number("other", 1) == 1
    with pytest.raises(EnvError, match="OTHER_PORT is not set"):
        env.port_number("other")
    with pytest.raises(EnvError, match="BAD_PORT is 'many': not a port number"):
        env.port_number("bad", 1)
