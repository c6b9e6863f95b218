import pytest
from hypothesis import given
from hypothesis import strategies as st

from testground.cli import options
from testground.cli.grammar import UsageError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-7", -7),
        ("007", 7),
        ("9223372036854775807", 2**63 - 1),
        ("9223372036854775808", 9223372036854775808.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("1e999", "1e999"),
        ("true", True),
        ("F", False),
        ("t", True),
        ("tRUE", "tRUE"),
        ('"quoted \\" text"', 'quoted " text'),
        ('"1"', "1"),
        ("`raw\\`", "raw\\"),
        ('"open', '"open'),
        ('"\\x"', '"\\x"'),
        ("", ""),
        (" 1", " 1"),
        ("1_000", "1_000"),
        ("١", "١"),
        ("nan", "nan"),
        ("debug", "debug"),
    ],
)
def test_a_config_value_is_what_it_looks_like(text: str, value: object) -> None:
    typed = options.typed(text)
    assert (type(typed), typed) == (type(value), value)


@given(st.text())
def test_every_config_value_has_a_meaning(text: str) -> None:
    assert isinstance(options.typed(text), int | float | str)


def test_a_number_of_thousands_of_digits_is_a_text() -> None:
    assert options.typed("9" * 5000) == "9" * 5000


def test_pairs_are_split_at_the_first_equals_sign() -> None:
    assert options.key_values(["a=b=c", "d=", "a=2"], "x") == {"a": "2", "d": ""}
    assert options.key_values(None, "x") == {}


def test_a_pair_without_equals_sign() -> None:
    with pytest.raises(UsageError, match="^failed while parsing test paremters: invalid key-value: noeq$"):
        options.key_values(["noeq"], "test paremters")


def test_dependencies() -> None:
    [found] = options.dependencies(["github.com/x/y=github.com/z/y@v1.2.3"])
    assert (found.module, found.target, found.version) == ("github.com/x/y", "github.com/z/y", "v1.2.3")
    assert options.dependencies(["m=@v1"])[0].target == ""


@pytest.mark.parametrize("text", ["b", "b@c@d", ""])
def test_a_dependency_needs_exactly_one_version(text: str) -> None:
    with pytest.raises(UsageError, match=f"^invalid target-version: {text}$"):
        options.dependencies([f"a={text}"])
