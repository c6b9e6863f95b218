import inspect

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
