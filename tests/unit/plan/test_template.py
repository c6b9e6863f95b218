"""Templates: what they render to, where their errors are, and that nothing they say can harm."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testground.plan.template import TemplateError, functions, limits, render, rendered
from tests.unit.plan.template_samples import ENVIRONMENT, RESOURCE, SAMPLES, Sample


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("templates")
    (found / "r.toml").write_text(RESOURCE, encoding="utf-8")
    return found


def text_of(template: str, directory: Path = Path(), environment: dict[str, str] = ENVIRONMENT) -> str:
    return render(template, functions.data(environment), functions.functions(directory, environment))


def error_of(template: str, directory: Path = Path()) -> str:
    with pytest.raises(TemplateError) as caught:
        text_of(template, directory)
    return str(caught.value)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: f"{sample.group}: {sample.template}"[:60])
def test_samples(sample: Sample, directory: Path) -> None:
    if sample.text is None:
        error = error_of(sample.template, directory)
        assert " (at line 1, column " in error or "(at line 2, column" in error
    else:
        assert text_of(sample.template, directory) == sample.text


def test_vector_t1(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("go_version='1.18'\n[[values]]\nid = 'a'\n[[values]]\nid = 'b'\n")
    template = (
        '{{ with (load_resource "./r.toml") }}v="{{ .go_version }}" i="{{ (index .values (atoi "1")).id }}"{{ end }}'
    )
    assert text_of(template, tmp_path) == 'v="1.18" i="b"'
    (tmp_path / "r.toml").unlink()
    assert f"load_resource: {tmp_path}/r.toml: No such file or directory (at line 1, " in error_of(template, tmp_path)


def test_vector_t2(directory: Path) -> None:
    """The key that is not there is one of a table: at the top, upstream fails, and so do we."""
    assert text_of("{{ .Env.NOPE }}") == "<no value>"
    assert text_of('{{ with load_resource "r.toml" }}{{ .nokey }}{{ end }}', directory) == "<no value>"
    assert text_of('{{ index .Env "NOPE" }}') == ""
    assert text_of('{{ range split "a,b" }}[{{ . }}]{{ end }}') == "[a][b]"
    assert text_of('{{ with load_resource "r.toml" }}{{ pick . "absent" | toml }}{{ end }}', directory) == ""
    assert error_of("a = 1\n# {{ nope 1 }}") == (
        "function 'nope' not defined; did you mean 'ne'? (at line 2, column 6)"
    )
    assert error_of("{{ .nokey }}") == "there is no field .nokey here, only .Env (at line 1, column 4)"


@pytest.mark.parametrize(
    ("template", "error"),
    [
        ("a\n  {{ splti .Env.A }}", "function 'splti' not defined; did you mean 'split'? (at line 2, column 6)"),
        ("{{ $one := 1 }}\n{{ $on }}", "undefined variable $on; did you mean '$one'? (at line 2, column 4)"),
        ('{{ define "row" }}{{ end }}{{ template "rwo" }}', "template \"rwo\" not defined; did you mean 'row'? (at"),
        ("a\n{{ if true }}\nb\n", "the '{{ end }}' of this block is missing (at line 2, column 1)"),
        ('{{ define "x" }}{{ range . }}\n{{ end }}', "the '{{ end }}' of this block is missing (at line 1, column 1)"),
        ("\n\n{{ end }}", "{{end}} without a block (at line 3, column 4)"),
        ("é {{ atoi `x` }}", "atoi: 'x' is not a whole number (at line 1, column 6)"),
        ("{{ range 3 }}\n{{ .x }}{{ end }}", "can't evaluate field x in type int (at line 2, column 4)"),
        ("{{ .Env.A", "unclosed action: '}}' is missing (at line 1, column 1)"),
        ("{{/* a", "unclosed comment (at line 1, column 3)"),
        ('{{ "a }}', "unterminated quoted string (at line 1, column 4)"),
        ("{{ (print 1 }}", "unclosed left paren (at line 1, column 4)"),
        ("{{ split }}", "split: wrong number of arguments: 0 instead of 1 (at line 1, column 4)"),
        ("{{ pick .Env `A` }}", "map[string]interface {} is needed, not map[string]string (at line 1, column 9)"),
        ("{{ load_resource `a\nb` }}", r"load_resource: a\nb: No such file or directory (at line 1, column 4)"),
        ("{{ break }}", "{{break}} outside {{range}} (at line 1, column 4)"),
        ("{{ 1 | 2 }}", "only a function can follow '|' (at line 1, column 8)"),
        ('{{ template "tpl" }}', "templates call each other more than 100 deep (at line 1, column 1)"),
        ("{{ range 2000000000 }}{{ end }}", "the template takes more than 1000000 steps (at line 1, column 1)"),
    ],
)
def test_errors_say_what_and_where(template: str, error: str) -> None:
    assert error_of(template).startswith(error)


@pytest.mark.parametrize(
    ("resource", "error"),
    [
        (b"a = 1\nb = x\n", "r.toml, line 2, column 5: Invalid value (at line 1, column 4)"),
        (b"a = 1\n\xff", "r.toml, line 2: not UTF-8 (at line 1, column 4)"),
        (b"a = 9223372036854775808", "r.toml: 9223372036854775808 is out of range (at line 1"),
        (b"a = 1e400", "r.toml: 1e400 is out of range (at line 1"),
        (b"a = " + b"9" * 5000, "r.toml: Exceeds the limit (4300 digits)"),
        (b"a = " + b"[" * 5000, "r.toml: nested too deeply (at line 1"),
    ],
)
def test_errors_in_a_resource_name_it_and_its_line(tmp_path: Path, resource: bytes, error: str) -> None:
    (tmp_path / "r.toml").write_bytes(resource)
    assert f"load_resource: {tmp_path}/{error}" in error_of('{{ load_resource "r.toml" }}', tmp_path)


def test_a_resource_is_looked_for_below_the_directory_unless_it_climbs(tmp_path: Path) -> None:
    """An absolute path is joined, too."""
    (tmp_path / "r.toml").write_text("a = 1")
    (tmp_path / "below").mkdir()
    for name, start in (("r.toml", "."), ("/r.toml", "."), ("../r.toml", "below"), ("./below/../r.toml", ".")):
        assert text_of(f'{{{{ (load_resource "{name}").a }}}}', tmp_path / start) == "1"
    assert f"{tmp_path}/below: Is a directory" in error_of('{{ load_resource "below" }}', tmp_path)
    assert "embedded null byte" in error_of('{{ load_resource "a\\x00b" }}', tmp_path)


DOUBLING = '{{ $x := "aaaaaaaa" }}{{ range 60 }}{{ $x = print $x $x }}{{ end }}{{ $x }}'
GROWING = {
    "a value that doubles": DOUBLING,
    "a long result": "{{ range 1000000 }}{{ $.Env.LONG }}{{ end }}",
    "wide columns": '{{ $x := printf "%1000000d" 1 }}{{ range 1000 }}{{ print $x }}{{ end }}',
    "many wide columns": '{{ printf "' + "%1000000[1]d" * 100 + '" 1 }}',
    "wide items": '{{ printf "%1000000d" (split "' + "," * 100 + '") }}',
    "a long value in many calls": '{{ $x := printf "%1000000d" 1 }}{{ range 900000 }}{{ $y := len $x }}{{ end }}',
    "many values": '{{ range 1000000 }}{{ $x := printf "%1000000d" 1 }}{{ end }}',
}


@pytest.mark.parametrize("name", GROWING)
def test_what_grows_without_bound_is_stopped(name: str) -> None:
    with pytest.raises(TemplateError, match=r"larger than 16 MiB|add up to more than"):
        text_of(GROWING[name], environment={"LONG": "a" * 10_000})


NINES = "9" * 5000


def test_numbers_of_thousands_of_digits() -> None:
    assert text_of('{{ atoi "-' + "0" * 5000 + '7" }}') == "-7"
    for number in (NINES, f"-{NINES}", f"{NINES}.5", f"1e{NINES}", "0x" + "1" * 50_000 + "_p"):
        assert error_of(f"{{{{ {number} }}}}") == "a number has more than 1000 digits (at line 1, column 4)"
    error = error_of(f'{{{{ atoi "{NINES}" }}}}')
    assert error.startswith("atoi: 9999") and len(error) < 1100


@pytest.mark.parametrize(
    "template",
    [
        "{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}",
        "{{ if 1 }}" * 5000 + "{{ end }}" * 5000,
        "{{ if 0 }}" + "{{ else if 0 }}" * 5000 + "{{ end }}",
        '{{ define "x" }}' + "{{ with 1 }}" * 30 + '{{ template "x" }}' + "{{ end }}" * 31 + '{{ template "x" }}',
    ],
)
def test_what_is_nested_without_bound_is_stopped(template: str) -> None:
    assert error_of(template).startswith("nested too deeply")


def test_the_limits_leave_room_for_real_templates() -> None:
    assert limits.MAX_DEPTH >= 100
    rows = text_of("{{ range 20000 }}[[groups]]\nid = '{{ . }}'\n{{ end }}")
    assert rows.count("\n") == 40_000


def test_lines_know_where_they_come_from() -> None:
    template = "a = 1\n{{ range 2 -}}\nb{{ . }} = 1\n{{ end -}}\nc = {{ .Env.NOPE }}\n"
    found = rendered(template, functions.data({}), functions.functions(Path(), {}))
    assert found.text.split("\n") == ["a = 1", "b0 = 1", "b1 = 1", "c = <no value>", ""]
    assert [found.origin(line) for line in (1, 2, 3, 4)] == [1, 3, 3, 5]


@given(st.text().filter(lambda text: "{{" not in text))
def test_text_without_templates_stays(text: str) -> None:
    assert text_of(text) == text


_WORDS = (
    "if with range else end define block template break continue nil true print printf index slice eq len toml split "
    "atoi withEnv pick and {{ }} {{- -}} ( ) | . $ $x := = , \"a\" `b` 'c' 1 -2.5 0x1F .Env .Env.A /* */ %5d \\ é \0"
)
_TOKENS = st.sampled_from([*_WORDS.split(" "), " ", "\n"])


@settings(max_examples=300, deadline=None)
@given(st.lists(_TOKENS | st.text(max_size=3), max_size=40).map("".join))
def test_any_text_renders_or_fails_with_a_place(text: str) -> None:
    try:
        text_of(text)
    except TemplateError as error:
        assert error.line >= 1 and error.column >= 1


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(SAMPLES), st.data())
def test_a_damaged_template_renders_or_fails_with_a_place(directory: Path, sample: Sample, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(sample.template)))
    text = sample.template[:start] + data.draw(_TOKENS) + sample.template[start + data.draw(st.integers(0, 4)) :]
    try:
        text_of(text, directory)
    except TemplateError as error:
        assert error.line >= 1 and error.column >= 1
