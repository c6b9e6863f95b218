"""The environment that a runner sets (contract §7.1)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from testground.sdk import RunEnv

MakeEnv = Callable[..., RunEnv]


@pytest.fixture
def variables() -> dict[str, str]:
    return {
        "TEST_BRANCH": "",
        "TEST_CAPTURE_PROFILES": "",
        "TEST_CASE": "pubsub",
        "TEST_DISABLE_METRICS": "false",
        "TEST_GROUP_ID": "single",
        "TEST_GROUP_INSTANCE_COUNT": "2",
        "TEST_INSTANCE_COUNT": "2",
        "TEST_INSTANCE_PARAMS": "a=1|b=x",
        "TEST_INSTANCE_ROLE": "",
        "TEST_OUTPUTS_PATH": "/outputs",
        "TEST_PLAN": "tplan",
        "TEST_REPO": "",
        "TEST_RUN": "c0ffee0000000000000g",
        "TEST_SIDECAR": "false",
        "TEST_START_TIME": "2022-01-12T15:48:07-05:00",
        "TEST_SUBNET": "16.0.0.0/16",
        "TEST_TAG": "",
        "TEST_TEMP_PATH": "/temp",
    }


@pytest.fixture
def make_env(variables: dict[str, str]) -> MakeEnv:
    """With the given variables in place of the usual ones."""

    def make(**changes: str) -> RunEnv:
        return RunEnv.from_environ({**variables, **changes})

    return make
