"""Reading the variables that a runner sets (contract §1.1), all their faults collected into one error."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from testground.errors import TestgroundError
from testground.sdk.params import unpack

if TYPE_CHECKING:
    from ipaddress import IPv4Network

Value = TypeVar("Value")

SYNC_HOST, SYNC_PORT = "testground-sync-service", 5050
"""Where plans look for the sync service when no variable says otherwise."""

_NOTHING: dict[str, str] = {}


class EnvError(TestgroundError):
    """Variables of the environment that are missing or malformed, all of them in one message."""

    code = "environment"


def read(environ: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a `RunEnv`. Raises `EnvError`."""
    if not any(name.startswith("TEST_") for name in environ):
        raise EnvError("this program is a test plan: start it with 'testground run single', which sets TEST_PLAN & co.")
    reader = _Reader(environ)
    fields: dict[str, Any] = {
        "plan": reader.required("TEST_PLAN"),
        "case": reader.required("TEST_CASE"),
        "run": reader.required("TEST_RUN"),
        "group": reader.required("TEST_GROUP_ID"),
        "instance_count": reader.parsed("TEST_INSTANCE_COUNT", _count, 0, required=True),
        "group_instance_count": reader.parsed("TEST_GROUP_INSTANCE_COUNT", _count, 0, required=True),
        "params": reader.parsed("TEST_INSTANCE_PARAMS", unpack, _NOTHING),
        "profiles": reader.parsed("TEST_CAPTURE_PROFILES", unpack, _NOTHING),
        "role": environ.get("TEST_INSTANCE_ROLE", ""),
        "repo": environ.get("TEST_REPO", ""),
        "branch": environ.get("TEST_BRANCH", ""),
        "tag": environ.get("TEST_TAG", ""),
        "outputs_path": Path(environ.get("TEST_OUTPUTS_PATH", "")),
        "temp_path": Path(environ.get("TEST_TEMP_PATH") or _system_temp_path()),
        "sidecar": reader.parsed("TEST_SIDECAR", _flag, False),
        "subnet": reader.parsed("TEST_SUBNET", _subnet, None),
        "start_time": reader.parsed("TEST_START_TIME", _time, None),
        "disable_metrics": reader.parsed("TEST_DISABLE_METRICS", _flag, False),
        "sync_host": environ.get("SYNC_SERVICE_HOST", ""),
        "sync_port": reader.parsed("SYNC_SERVICE_PORT", _port, SYNC_PORT),
        "influxdb_url": environ.get("INFLUXDB_URL", ""),
        "log_level": environ.get("LOG_LEVEL", ""),
    }
    reader.check()
    return fields


def port_number(label: str, default: int | None, environ: Mapping[str, str] = os.environ) -> int:
    """The port that the runner exposed under a label, from `<LABEL>_PORT`. Raises `EnvError`."""
    reader = _Reader(environ)
    variable = f"{label.strip().upper()}_PORT"
    port = reader.parsed(variable, _port, default, required=default is None)
    reader.check()
    return port or 0


class _Reader:
    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ
        self._faults: list[str] = []

    def required(self, name: str) -> str:
        return self.parsed(name, str, "", required=True)

    def parsed(self, name: str, parse: Callable[[str], Value], default: Value, *, required: bool = False) -> Value:
        text = self._environ.get(name, "")
        if not text:
            if required:
                self._faults.append(f"{name} is not set" if name not in self._environ else f"{name} is empty")
            return default
        try:
            return parse(text)
        except ValueError as error:
            self._faults.append(f"{name} is '{text}': {error}")
            return default

    def check(self) -> None:
        if self._faults:
            raise EnvError(f"malformed environment: {'; '.join(self._faults)}")


def _system_temp_path() -> str:
    import tempfile

    return tempfile.gettempdir()


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise ValueError("not a whole number of at least 1")
    return int(text)


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 65536:
        raise ValueError("not a port number")
    return int(text)


def _flag(text: str) -> bool:
    """As Go reads booleans (contract §1.4)."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ValueError("not true or false")


def _subnet(text: str) -> IPv4Network:
    from ipaddress import IPv4Network

    try:
        return IPv4Network(text)
    except ValueError as error:
        raise ValueError(f"not the CIDR of an IPv4 network ({error})") from error


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        time = None
    if time is None or time.tzinfo is None or "T" not in text.upper():
        raise ValueError("not a time such as 2022-01-12T15:48:07Z")
    return time
