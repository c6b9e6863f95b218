from __future__ import annotations

from typing import Any

import pytest

from testground.api.composition import Composition
from testground.errors import CompositionError
from testground.plan import validate


def composition(**changes: Any) -> Composition:
    value: dict[str, Any] = {
        "global": {"plan": "p", "case": "c", "builder": "b", "runner": "r"},
        "groups": [{"id": "alpha", "instances": {"count": 1}}, {"id": "beta", "instances": {"count": 1}}],
        "runs": [{"id": "one", "groups": [{"id": "alpha"}]}],
    }
    return Composition.model_validate(value | changes)


def runs(*groups: dict[str, Any], **run: Any) -> list[dict[str, Any]]:
    return [{"id": "one", "groups": list(groups)} | run]


def test_a_good_one_comes_back() -> None:
    given = composition()
    assert validate.for_run(given) is given
    assert validate.for_build(given) is given


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"runs": []}, "Key: 'Composition.Runs' Error:Field validation for 'Runs' failed on the 'gt' tag"),
        ({"runs": None}, "Key: 'Composition.Runs' Error:Field validation for 'Runs' failed on the 'required' tag"),
        ({"groups": [{"id": "a"}, {"id": "a"}]}, "group ids not unique; found duplicate: a"),
        ({"runs": runs() + runs()}, "runs ids not unique; found duplicate: one"),
        (
            {"runs": runs({"id": "x", "group_id": "alhpa"})},
            "run one:x references non-existent group alhpa; did you mean 'alpha'?",
        ),
        ({"runs": runs({"id": "x"})}, "run one:x references non-existent group x"),
        (
            {"runs": runs({"id": "alpha"}, {"id": "alpha", "group_id": "beta"})},
            "group ids not unique; found duplicate: one:alpha",
        ),
        (
            {"runs": runs({"id": "alpha"}, total_instances=3)},
            "total instances mismatch: computed: 1 != configured: 3 (run 'one')",
        ),
        (
            {"runs": runs({"id": "alpha", "instances": {"percentage": 0.5}})},
            "groups count percentage requires a total_instance configuration (run 'one')",
        ),
    ],
)
def test_texts(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(CompositionError) as caught:
        validate.for_run(composition(**changes))
    assert str(caught.value) == text


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "/etc", "a\nb", "a\x1b[31m", "é" * 101])
def test_ids_that_cannot_name_a_directory(name: str) -> None:
    with pytest.raises(CompositionError, match="group id .* cannot be the name of a directory"):
        validate.for_run(composition(runs=runs({"id": name, "group_id": "alpha"})) if name else _unnamed())
    if name:
        with pytest.raises(CompositionError, match="run id .* cannot be the name of a directory"):
            validate.for_run(composition(runs=runs({"id": "alpha"}, id=name)))


def _unnamed() -> Composition:
    return composition(groups=[{"id": "", "instances": {"count": 1}}], runs=runs({"id": ""}))


def test_a_build_needs_less() -> None:
    lean = Composition.model_validate({"global": {"plan": "p", "builder": "b"}, "groups": [{"id": "a"}]})
    assert validate.for_build(lean) is lean
    with pytest.raises(CompositionError, match="group a is missing a builder"):
        validate.for_build(Composition.model_validate({"global": {"plan": "p"}, "groups": [{"id": "a"}]}))
