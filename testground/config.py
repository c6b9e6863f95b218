"""The home directory and `.env.toml`, read once into a frozen `EnvConfig`."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from testground.errors import ConfigError, did_you_mean, in_words

DEFAULT_LISTEN = "localhost:8042"
DEFAULT_ENDPOINT = "http://localhost:8042"

_ADDRESS = re.compile(r"https?://[^\s/?#]+[^\s#]*")


@dataclass(frozen=True, slots=True)
class Home:
    """Directories below `$TESTGROUND_HOME`; `create()` makes them."""

    root: Path

    @property
    def plans(self) -> Path:
        return self.root / "plans"

    @property
    def sdks(self) -> Path:
        return self.root / "sdks"

    @property
    def outputs(self) -> Path:
        return self.root / "data" / "outputs"

    @property
    def work(self) -> Path:
        return self.root / "data" / "work"

    @property
    def daemon(self) -> Path:
        return self.root / "data" / "daemon"

    @property
    def env_file(self) -> Path:
        return self.root / ".env.toml"

    def create(self) -> Home:
        try:
            for directory in (self.plans, self.sdks, self.outputs, self.work, self.daemon):
                directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"cannot create the home directory {self.root}: {error.strerror}") from error
        return self


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class SchedulerConfig(_Section):
    workers: int = Field(default=2, ge=1)
    queue_size: int = Field(default=100, ge=1)
    task_repo_type: str = "disk"
    """`disk` (SQLite below the home) or `memory` (lost with the daemon)."""
    task_timeout_min: float = Field(default=10, ge=0, allow_inf_nan=False)
    """Minutes, or a fraction of one, for build plus run of one task; 0 means the default of 10."""


class DaemonConfig(_Section):
    listen: str = DEFAULT_LISTEN
    tokens: tuple[str, ...] = ()
    slack_webhook_url: str = ""
    """Where the end of each run is told, a line each. A secret."""
    github_repo_status_token: str = ""
    """Sets the status of the commits that runs name: an access token, or `user:token` in base64 as upstream has it."""
    github_api_url: str = "https://api.github.com"
    root_url: str = ""
    """Where users reach the daemon, such as `https://testground.example`; notifications link there."""
    influxdb_endpoint: str = ""
    """Where instances send metrics as they run. Empty: nowhere; they are in the outputs all the same.

    Upstream's default is a local InfluxDB; where there is none, sdk-go tries for eight seconds before it ends.
    """
    sync_listen: str = ""
    """`HOST:PORT` of the embedded sync service. Empty: localhost:5050, or any free port when that one is taken."""
    max_upload_mb: int = Field(default=4096, ge=1)
    """Largest request body, and largest sum of unpacked files, in MiB."""
    scheduler: SchedulerConfig = SchedulerConfig()

    @field_validator("root_url")
    @classmethod
    def _has_host(cls, value: str) -> str:
        urlsplit(value)  # raises ValueError for what is only half an IPv6 address
        return value

    @field_validator("slack_webhook_url", "github_api_url")
    @classmethod
    def _is_address(cls, value: str) -> str:
        """The message does not repeat what may be a secret."""
        if value and not _ADDRESS.fullmatch(value):
            raise ValueError("an address such as https://example.com/path is needed")
        return value


class ClientConfig(_Section):
    endpoint: str = DEFAULT_ENDPOINT
    token: str = ""
    user: str = ""


class EnvConfig(_Section):
    """`.env.toml` over the defaults, plus the home it was read from. Immutable; passed down, never global."""

    home: Home = Field(exclude=True)
    daemon: DaemonConfig = DaemonConfig()
    client: ClientConfig = ClientConfig()
    builders: dict[str, dict[str, Any]] = {}
    runners: dict[str, dict[str, Any]] = {}
    aws: dict[str, Any] = {}
    dockerhub: dict[str, Any] = {}
    warnings: tuple[str, ...] = Field(default=(), exclude=True)
    """Unknown keys of `.env.toml`, one sentence each."""

    def runner_disabled(self, runner: str) -> bool:
        return self.runners.get(runner, {}).get("disabled") is True


def find_home(environ: dict[str, str] | None = None) -> Home:
    """`$TESTGROUND_HOME`, else `~/testground` if it exists, else `$XDG_CONFIG_HOME/testground`."""
    env = os.environ if environ is None else environ
    if env.get("TESTGROUND_HOME"):
        return Home(Path(env["TESTGROUND_HOME"]).expanduser().absolute())
    legacy = Path.home() / "testground"
    if legacy.is_dir():
        return Home(legacy)
    base = env.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Home(Path(base).expanduser().absolute() / "testground")


def load(home: Home | None = None) -> EnvConfig:
    """Create the home if need be and read its `.env.toml`. Raises `ConfigError` naming the file and the key."""
    home = (home or find_home()).create()
    document = _read(home.env_file)
    try:
        return EnvConfig(home=home, warnings=tuple(_unknown_keys(EnvConfig, document)), **_known(document))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigError(f"{home.env_file}: {key}: {in_words(first)}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, RecursionError, OSError) as error:  # not TOML, not UTF-8, or more digits than Python reads
        raise ConfigError(f"found .env.toml at {path}, but failed to parse: {error}") from error


def _known(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in ("home", "warnings")}


def _unknown_keys(model: type[BaseModel], table: dict[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key, value in table.items():
        field = model.model_fields.get(key)
        if field is None:
            found.append(f".env.toml: unknown key '{prefix}{key}'{did_you_mean(key, model.model_fields)}")
        elif isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel) and isinstance(value, dict):
            found.extend(_unknown_keys(field.annotation, value, f"{prefix}{key}."))
    return found
