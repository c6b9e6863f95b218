"""What to change when a plan failed for a reason that it cannot know itself."""

from __future__ import annotations

from collections.abc import Set

from testground.api.task import InstanceFailure, RunResult
from testground.sync.service import Member

OPTION = 'set {option} = true in [runners."local:exec"], or use --run-cfg {option}=true'

UNKNOWN_NAME = ("testground-sync-service", "failed to lookup address information")
"""The second is all that sdk-rust says."""
SIDECAR = "a plan that looks for the host testground-sync-service needs a sidecar"

SDK_GO = ("registering default http handler at", "redis")
"""What sdk-go before 0.3.0 says while it looks for Redis."""
REDIS = "it never connected to the sync service; sdk-go 0.2.6 and 0.2.7 look for Redis instead, which that speaks, too"


def advise(result: RunResult, connected: Set[Member], *, sidecar: bool, redis: bool) -> list[str]:
    """A line for each option that may help. `connected`: who has had a connection to the sync service."""
    known = {str(member) for member in connected}
    advice = {}
    for failure in result.failures:
        if not sidecar and _said(failure, UNKNOWN_NAME):
            advice["sidecar"] = SIDECAR
        elif not redis and failure.instance not in known and _said(failure, SDK_GO):
            advice["redis"] = REDIS
    return [f"hint: {reason}: {OPTION.format(option=option)}" for option, reason in advice.items()]


def _said(failure: InstanceFailure, texts: tuple[str, ...]) -> bool:
    said = "\n".join(failure.last_lines).lower()
    return any(text in said for text in texts)
