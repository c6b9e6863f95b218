from __future__ import annotations

import inspect
from typing import Annotated, Literal

import pydantic
import pytest

from testground import errors


def test_docstring_draws_every_class():
    classes = [
        cls
        for _, cls in inspect.getmembers(errors, inspect.isclass)
        if issubclass(cls, errors.TestgroundError) and cls.__module__ == errors.__name__
    ]
    assert all(cls.__name__ in errors.__doc__ for cls in classes)
    assert len({cls.code for cls in classes}) == len(classes)


def test_code_brings_the_class_back():
    assert isinstance(errors.from_code("queue-full", "queue full"), errors.QueueFullError)
    assert type(errors.from_code("from-the-future", "x")) is errors.DaemonError
    assert type(errors.from_code(None, "x")) is errors.DaemonError


@pytest.mark.parametrize(
    ("name", "known", "text"),
    [
        ("local:exce", ["local:exec", "local:docker"], "; did you mean 'local:exec'?"),
        ("zzz", ["alpha", "beta"], "; there is: alpha, beta"),
        ("zzz", [], ""),
        ("zzz", [f"case-{i}" for i in range(40)], ""),
    ],
)
def test_nearest_name(name, known, text):
    assert errors.did_you_mean(name, known) == text


def test_unwrapped_prefers_the_error_for_the_user():
    with pytest.raises(errors.PlanError), errors.unwrapped():
        raise ExceptionGroup("g", [ValueError("x"), ExceptionGroup("h", [errors.PlanError("p")])])
    with pytest.raises(ValueError, match="alone"), errors.unwrapped():
        raise ExceptionGroup("g", [ValueError("alone")])
    with pytest.raises(ExceptionGroup), errors.unwrapped():
        raise ExceptionGroup("g", [ValueError("x"), KeyError("y")])


class Model(pydantic.BaseModel):
    number: int = pydantic.Field(0, ge=0, lt=100)
    share: float = pydantic.Field(0, ge=0, allow_inf_nan=False)
    text: str = ""
    flag: bool = False
    names: list[str] = []
    pair: tuple[str, ...] = ()
    table: dict[str, int] = {}
    below: Model | None = None
    word: Literal["host", "isolated"] = "host"
    odd: Annotated[str, pydantic.AfterValidator(lambda value: int(value) and value)] = ""


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("number", -1, "at least 0 is needed"),
        ("number", 100, "less than 100 is needed"),
        ("number", "x", "a whole number is needed"),
        ("number", 1.5, "a whole number is needed"),
        ("share", "x", "a number is needed"),
        ("share", float("inf"), "a finite number is needed"),
        ("text", 5, "a string is needed"),
        ("flag", "perhaps", "true or false is needed"),
        ("names", "x", "a list is needed"),
        ("pair", "x", "a list is needed"),
        ("table", [], "a table is needed"),
        ("below", 3, "a table is needed"),
        ("word", "isolatd", "'isolatd' is not 'host' or 'isolated'; did you mean 'isolated'?"),
        ("odd", "x", "invalid literal for int() with base 10: 'x'"),
    ],
)
def test_what_a_value_must_be_is_said_without_the_words_of_pydantic(key, value, text):
    with pytest.raises(pydantic.ValidationError) as caught:
        Model.model_validate({key: value})
    assert errors.in_words(caught.value.errors()[0]) == text
