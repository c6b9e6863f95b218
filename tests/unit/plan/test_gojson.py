from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from testground.plan import gojson


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (True, "true"),
        (30000000, "30000000"),
        (1.0, "1"),
        (-0.0, "-0"),
        (1.5, "1.5"),
        (0.00001, "0.00001"),
        (0.000001, "0.000001"),
        (0.0000001, "1e-7"),
        (1.5e-10, "1.5e-10"),
        (1e20, "100000000000000000000"),
        (1.2345678901234567e20, "123456789012345670000"),
        (1e21, "1e+21"),
        (9007199254740993, "9007199254740993"),
        ("<&>\u2028\u2029é", '"\\u003c\\u0026\\u003e\\u2028\\u2029é"'),
        ('"\\\n\r\t\b\f\x01', '"\\"\\\\\\n\\r\\t\\u0008\\u000c\\u0001"'),
        ("\\b", '"\\\\b"'),
        (["x", "<y>"], '["x","\\u003cy\\u003e"]'),
        ({"b": 1, "a": {"d": [], "c": {}}}, '{"a":{"c":{},"d":[]},"b":1}'),
        (datetime.date(2026, 1, 2), '"2026-01-02"'),
    ],
)
def test_text(value: Any, text: str) -> None:
    assert gojson.dumps(value) == text


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(-(2**53), 2**53) | st.text(),
        lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(), children, max_size=3),
        max_leaves=8,
    )
)
def test_it_is_json_and_means_the_same(value: Any) -> None:
    assert json.loads(gojson.dumps(value)) == value
