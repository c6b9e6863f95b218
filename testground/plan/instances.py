"""How many instances each group of a run has (client-daemon §3.5)."""

from __future__ import annotations

import math

from testground.api.composition import Group, Instances, Run, RunGroup
from testground.errors import CompositionError


def inherit(member: RunGroup, group: Group) -> Instances:
    """A run group's own instances, else those of the group it refers to; never half of each."""
    return member.instances if member.instances.given else group.instances


def resolve(run: Run) -> Run:
    """The run with its total. Raises `CompositionError` when that and the groups do not fit together.

    A group that has a percentage keeps it: the composition can be written back, and then run with another total.
    """
    if run.total_instances == 0 and any(group.instances.percentage > 0 for group in run.groups or []):
        raise CompositionError("groups count percentage requires a total_instance configuration")
    total = sum(counts(run))
    if run.total_instances not in (0, total):
        raise CompositionError(f"total instances mismatch: computed: {total} != configured: {run.total_instances}")
    return run.model_copy(update={"total_instances": total})


def counts(run: Run) -> list[int]:
    """How many instances each group of a run has; the run has its total if one of them needs it."""
    return [
        group.instances.count or _rounded(group.instances.percentage * run.total_instances)
        for group in run.groups or []
    ]


def _rounded(share: float) -> int:
    """Halves go up, as in Go."""
    share = min(share, 2.0**63)  # more than any total can be; infinity is no integer
    whole = math.floor(share)
    return whole + (share - whole >= 0.5)
