"""Members of a configuration that nothing reads. It is valid, as for the original; the run's log tells of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeAlias

from testground.errors import did_you_mean
from testground.sidecar.config import ALLOW_ALL, CONFIG, DENY_ALL, RULE, SHAPE
from testground.sidecar.reading import quoted, shortened

Names: TypeAlias = tuple[str, ...]

MOST_WARNINGS = 20
"""Different ones, of a configuration and of a run."""


def warnings(payload: Mapping[str, Any]) -> list[str]:
    """Of a configuration that can be parsed: a sentence for each such member, with the nearest valid name."""
    unknown = [
        f"unknown member {quoted(at + key)}{_nearest(key, known)}"
        for at, key, known in islice(dict.fromkeys(_unknown(payload)), MOST_WARNINGS)
    ]
    return [*_policies(payload), *unknown][:MOST_WARNINGS]


def _unknown(payload: Mapping[str, Any]) -> Iterator[tuple[str, str, Names]]:
    for at, item, known in _objects(payload):
        if isinstance(item, dict):
            names = {name.lower() for name in known}
            yield from ((at, key, known) for key in item if key.lower() not in names)


def _objects(payload: Mapping[str, Any]) -> Iterator[tuple[str, object, Names]]:
    """Where each is, and its members' names. The value of a key with a later spelling may be anything."""
    yield "", payload, _CONFIG
    for key, value in payload.items():
        name = key.lower()
        if name in ("default", "ingress"):
            yield f"{name}.", value, _SHAPE
        elif name == "rules" and isinstance(value, list):
            yield from (("rules[].", rule, _RULE) for rule in value)


def _policies(payload: Mapping[str, Any]) -> Iterator[str]:
    for key, value in payload.items():
        if key.lower() == "routing_policy" and isinstance(value, str) and value not in ("", *_POLICIES):
            yield f"routing_policy {quoted(value)} counts as '{DENY_ALL}'{_nearest(value, _POLICIES)}"


def _nearest(name: str, known: Iterable[str]) -> str:
    return did_you_mean(shortened(name).lower(), known)


_CONFIG = (*CONFIG, "callback_target")  # which some SDKs send, for their own use
_SHAPE = tuple(SHAPE)
_RULE = tuple(RULE)
_POLICIES = (ALLOW_ALL, DENY_ALL)
