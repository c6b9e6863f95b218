"""Which functions are cases."""

from __future__ import annotations

import functools
import re
from typing import Any

import pytest

from testground.errors import PlanError
from testground.sdk.instance import arity


def plain(env: Any) -> None: ...


async def initialised(env: Any, init: Any) -> None: ...


def optional(env: Any, retries: int = 3, *rest: Any, verbose: bool = False, **more: Any) -> None: ...


def three(env: Any, init: Any, more: Any) -> None: ...


def keyword(env: Any, *, init: Any) -> None: ...


class Callable:
    async def __call__(self, env: Any, init: Any) -> None: ...


@pytest.mark.parametrize(
    ("case", "count"),
    [
        (plain, 1),
        (initialised, 2),
        (optional, 1),
        (Callable(), 2),
        (functools.partial(three, more=1), 2),
        (lambda env: None, 1),
    ],
)
def test_arity(case: Any, count: int) -> None:
    assert arity(case) == count


@pytest.mark.parametrize("case", [three, keyword, lambda: None])
def test_what_is_no_case(case: Any) -> None:
    with pytest.raises(PlanError, match=re.escape(f"the case function {case.__name__}(")):
        arity(case)
