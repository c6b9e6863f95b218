from __future__ import annotations

from fractions import Fraction
from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testground.api.composition import Group, Instances, Run, RunGroup
from testground.errors import CompositionError
from testground.plan import instances


def run(total: int, *groups: Instances) -> Run:
    members = [RunGroup(id=f"g{index}", instances=given) for index, given in enumerate(groups)]
    return Run(id="r", total_instances=total, groups=members)


@given(st.lists(st.integers(0, 10_000), min_size=1, max_size=6))
def test_counts_alone_make_the_total(given: list[int]) -> None:
    resolved = instances.resolve(run(0, *(Instances(count=count) for count in given)))
    assert instances.counts(resolved) == given
    assert resolved.total_instances == sum(given)
    assert instances.resolve(resolved) == resolved


@given(st.integers(1, 100_000), st.lists(st.integers(1, 1000), min_size=1, max_size=5))
def test_percentages_are_rounded_half_up_and_must_add_up(total: int, weights: list[int]) -> None:
    shares = [weight / sum(weights) for weight in weights]
    expected = [floor(Fraction(share * total) + Fraction(1, 2)) for share in shares]
    given = run(total, *(Instances(percentage=share) for share in shares))
    if sum(expected) == total:
        resolved = instances.resolve(given)
        assert instances.counts(resolved) == expected
        assert resolved.groups == given.groups
        assert instances.counts(instances.resolve(resolved)) == expected
        return
    with pytest.raises(CompositionError) as caught:
        instances.resolve(given)
    assert str(caught.value) == f"total instances mismatch: computed: {sum(expected)} != configured: {total}"


def test_the_largest_float_below_a_half_is_not_rounded_up() -> None:
    assert instances.counts(
        instances.resolve(run(1, Instances(percentage=0.49999999999999994), Instances(count=1)))
    ) == [0, 1]


def test_a_count_wins_but_a_percentage_still_needs_a_total() -> None:
    both = Instances(count=3, percentage=0.9)
    assert instances.counts(instances.resolve(run(3, both))) == [3]
    with pytest.raises(CompositionError, match="requires a total_instance configuration"):
        instances.resolve(run(0, both))


@pytest.mark.parametrize("percentage", [1e308, 5e-324, 2.0])
def test_absurd_percentages_are_a_mismatch(percentage: float) -> None:
    with pytest.raises(CompositionError, match="total instances mismatch"):
        instances.resolve(run(2**62, Instances(percentage=percentage)))


@pytest.mark.parametrize(
    ("own", "inherited"),
    [
        (Instances(), Instances(count=7, percentage=0.5)),
        (Instances(count=1), Instances(count=1)),
        (Instances(percentage=0.1), Instances(percentage=0.1)),
    ],
)
def test_instances_are_inherited_whole_or_not_at_all(own: Instances, inherited: Instances) -> None:
    group = Group(id="g", instances=Instances(count=7, percentage=0.5))
    assert instances.inherit(RunGroup(id="x", group_id="g", instances=own), group) == inherited
