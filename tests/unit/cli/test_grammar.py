import pytest
from hypothesis import given
from hypothesis import strategies as st

from testground.cli import grammar
from testground.cli.grammar import Flag, Node

HELP = {"help": Flag("--help", False), "h": Flag("--help", False)}
SINGLE = Node(
    {
        **HELP,
        "plan": Flag("--plan", True),
        "p": Flag("--plan", True),
        "test-param": Flag("--test-param", True),
        "tp": Flag("--test-param", True),
        "collect-file": Flag("--collect-file", True),
        "o": Flag("--collect-file", True),
        "wait": Flag("--wait", False),
    }
)
ROOT = Node(
    {**HELP, "endpoint": Flag("--endpoint", True), "v": Flag("--v", False), "vv": Flag("--vv", False)},
    {"run": Node(HELP, {"single": SINGLE, "s": SINGLE}), "collect": SINGLE},
)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("run single -p x", "run single --plan=x"),
        ("run s -plan x --p=y", "run s --plan=x --plan=y"),
        ("run single -tp a=1 --tp=b=2 --test-param c", "run single --test-param=a=1 --test-param=b=2 --test-param=c"),
        ("run single -wait", "run single --wait"),
        ("run single -wait=true -o=file", "run single --wait --collect-file=file"),
        ("run single --wait -wait=false", "run single"),
        ("run single -o -p", "run single --collect-file=-p"),
        ("run single --plan --wait", "run single --plan=--wait"),
        ("collect id -o f", "collect id --collect-file=f"),
        ("collect id --endpoint http://h -vv", "--endpoint=http://h --vv collect id"),
        ("-v --endpoint=u collect", "--v --endpoint=u collect"),
        ("collect -- -p", "collect -- -p"),
        ("run single -plna x", "run single --plna x"),
        ("run single -p", "run single --plan"),
        ("help run single", "run single --help"),
        ("run sngle -p x", "run sngle -p x"),
        ("run -h", "run --help"),
        ("", ""),
    ],
)
def test_normalize(line: str, expected: str) -> None:
    assert grammar.normalize(line.split(), ROOT) == expected.split()


def test_a_boolean_flag_takes_only_a_boolean() -> None:
    with pytest.raises(grammar.UsageError, match='invalid boolean value "maybe" for flag --wait'):
        grammar.normalize(["collect", "-wait=maybe"], ROOT)


VALUES = st.text(min_size=1, max_size=8)


@given(st.lists(st.tuples(st.sampled_from(["plan", "p", "tp", "o", "test-param"]), VALUES, st.integers(0, 3))))
def test_all_spellings_of_a_flag_give_the_same(pairs: list[tuple[str, str, int]]) -> None:
    argv = ["run", "single"]
    expected = ["run", "single"]
    for name, value, form in pairs:
        dashes = "-" if form % 2 else "--"
        argv += [f"{dashes}{name}={value}"] if form < 2 else [f"{dashes}{name}", value]
        expected.append(f"{SINGLE.flags[name].long}={value}")
    assert grammar.normalize(argv, ROOT) == expected


@given(st.lists(st.text(alphabet="-=apvhto x", max_size=6)))
def test_anything_is_normalized_or_refused_and_normal_forms_stay(argv: list[str]) -> None:
    try:
        once = grammar.normalize(["collect", *argv], ROOT)
    except grammar.UsageError:
        return
    if "--" not in once and all(token[2:].partition("=")[0] in ("plan", "wait") for token in once if token[:1] == "-"):
        assert grammar.normalize(once, ROOT) == once
