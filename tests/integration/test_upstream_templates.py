"""Templates of compositions beside upstream's own code: the same text, or a failure of both.

Measured with Go 1.26. `{{ .nokey }}` at the top fails, as the data there is a struct; keys of tables may be missing.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from testground.plan.template import TemplateError, functions, render
from tests.unit.plan import template_samples
from tests.unit.plan.template_samples import SAMPLES
from tests.upstream import programs
from tests.upstream.templates import Case, Renderer, Said, cases, mutated

pytestmark = pytest.mark.skipif(bool(programs.missing()), reason=programs.missing() or "can be built")

RESOURCE = """
n = 3
f = 1.5
utc = 1979-05-27T07:32:00Z
exact = 1979-05-27T07:32:00.123456789Z
empty = []
nested = [[]]
inline = [{ a = 1 }]
mixed = [{ a = 1 }, 2]
"""


@dataclass(frozen=True, slots=True)
class Difference:
    """Something that upstream renders, and we do not, or otherwise. `ours` starts with "error: " for a failure."""

    template: str
    upstream: str
    ours: str
    resource: str = RESOURCE


LOAD = '(load_resource "r.toml")'
LIST_150 = "a," * 149 + "a"
DIFFERENCES = {
    "complex numbers": Difference("{{ 1i }}", "(0+1i)", "error: complex numbers are not supported"),
    "methods of times": Difference(
        f"{{{{ {LOAD}.utc.Year }}}}", "1979", "error: can't evaluate field Year in type time.Time"
    ),
    "times as the fields of a struct": Difference(
        f'{{{{ printf "%#v" {LOAD}.utc }}}}',
        "time.Date(1979, time.May, 27, 7, 32, 0, 0, time.UTC)",
        "error: printf: %v of a time is not supported",
    ),
    "nanoseconds of times": Difference(
        f"{{{{ {LOAD}.exact }}}}", "1979-05-27 07:32:00.123456789 +0000 UTC", "1979-05-27 07:32:00.123456 +0000 UTC"
    ),
    "floats in base 2 and 16": Difference('{{ printf "%x" 1.5 }}', "0x1.8p+00", "error: printf: %x of a float is not"),
    "floats with all their zeros": Difference('{{ printf "%#g" 1.0 }}', "1.00000", "error: printf: %#g of a float is"),
    "the type of inline lists of tables": Difference(
        f'{{{{ printf "%T" {LOAD}.inline }}}}', "[]interface {}", "[]map[string]interface {}"
    ),
    "lists past their end": Difference(
        '{{ slice (slice (split "a,b") 0 1) 0 2 }}', "[a b]", "error: slice: index out of range: 2"
    ),
    "TOML of empty lists in lists": Difference(
        f'{{{{ toml (pick {LOAD} "nested") }}}}',
        "error: cannot encode array with nil element",
        "nested = [[]]\n",
    ),
    "TOML of tables and other values in one list": Difference(
        f'{{{{ toml (pick {LOAD} "mixed") }}}}', "error: eTable: unhandled", "mixed = [{a = 1}, 2]\n"
    ),
    "TOML that adds to an inline table": Difference(
        f"{{{{ {LOAD} }}}}", "map[a:map[b:1 c:2]]", "error: Cannot mutate immutable", "a = { b = 1 }\na.c = 2"
    ),
    "TOML that opens a table twice": Difference(
        f"{{{{ {LOAD} }}}}", "map[a:map[b:map[c:1 d:2]]]", "error: Cannot declare", "a.b.c = 1\n[a.b]\nd = 2"
    ),
    "TOML with the line ends of old Macs": Difference(
        f"{{{{ {LOAD} }}}}", "map[a:1 b:2]", "error: Expected newline", "a = 1\rb = 2"
    ),
    "text that is not UTF-8": Difference('{{ "\\xff" }}', "\udcff", "error: the result is not UTF-8"),
    "deep recursion": Difference(
        f'{{{{ define "x" }}}}{{{{ if . }}}}{{{{ template "x" (slice . 1) }}}}{{{{ end }}}}{{{{ end }}}}'
        f'{{{{ template "x" (split "{LIST_150}") }}}}',
        "",
        "error: templates call each other more than 100 deep",
    ),
    "numbers of more than 1000 digits": Difference(
        f"{{{{ 1.{'0' * 1000} }}}}", "1", "error: a number has more than 1000 digits"
    ),
    "long loops": Difference("{{ range 2000000 }}{{ end }}", "", "error: the template takes more than 1000000 steps"),
}
"""What differs on purpose: upstream's mistakes, what nobody writes in a composition, and bounds.

And one that depends on the machine: local times print with the offset 0 and not with that of the machine's zone.
"""

REFUSED = ("not supported", "not UTF-8", "larger than", "more than")
"""What our failures of the list say, where drawn templates meet them."""

MISTAKES = ("cannot encode array with nil element", "eTable: unhandled")
"""Failures of upstream's TOML writer that drawn templates meet, too."""

MODULE = "github.com/testground/testground"


@pytest.fixture(scope="module")
def upstream() -> Iterator[Renderer]:
    renderer = Renderer(programs.program("template"))
    yield renderer
    renderer.close()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("templates")


def said(template: str, environment: dict[str, str], directory: Path) -> Said:
    try:
        text = render(template, functions.data(environment), functions.functions(directory, environment))
    except TemplateError as error:
        return Said(None, str(error))
    return Said(text.encode())


def compare(upstream: Renderer, case: Case, place: Path) -> None:
    file = place / "composition.toml"
    file.write_bytes(case.template.encode())
    (place / "r.toml").write_bytes(case.resource.encode())
    theirs = upstream.render(file, case.environment)
    ours = said(case.template, case.environment, place)
    if any(mistake in theirs.error for mistake in MISTAKES) or any(reason in ours.error for reason in REFUSED):
        return
    assert (ours.text is None) == (theirs.text is None) and ours.text == theirs.text, f"{theirs} but {ours} for {case}"


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(case=cases())
def test_drawn_templates_render_the_same(upstream: Renderer, place: Path, case: Case) -> None:
    compare(upstream, case, place)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_damaged_templates_are_judged_the_same(upstream: Renderer, place: Path, data: st.DataObject) -> None:
    seeds = [sample.template for sample in SAMPLES]
    damaged = Case(data.draw(mutated(seeds)), template_samples.ENVIRONMENT, template_samples.RESOURCE)
    compare(upstream, damaged, place)


def test_samples_render_the_same(upstream: Renderer, place: Path) -> None:
    """What the unit tests expect is what upstream does."""
    for sample in SAMPLES:
        compare(upstream, Case(sample.template, template_samples.ENVIRONMENT, template_samples.RESOURCE), place)


@pytest.mark.parametrize("name", DIFFERENCES)
def test_differences_on_purpose(upstream: Renderer, tmp_path: Path, name: str) -> None:
    difference = DIFFERENCES[name]
    file = tmp_path / "composition.toml"
    file.write_text(difference.template)
    (tmp_path / "r.toml").write_bytes(difference.resource.encode())
    assert_said(upstream.render(file, {}), difference.upstream)
    assert_said(said(difference.template, {}, tmp_path), difference.ours)


def assert_said(what: Said, expected: str) -> None:
    if expected.startswith("error: "):
        assert what.text is None and expected.removeprefix("error: ") in what.error
    else:
        assert what.text == expected.encode(errors="surrogateescape"), what


def test_upstreams_compositions_render_the_same(upstream: Renderer) -> None:
    """All TOML files of upstream's module: its plans, their compositions, and the fixtures of its template tests."""
    found = [file for file in sorted(module().rglob("*.toml")) if "{{" in file.read_text()]
    others = [file for file in sorted(module().rglob("_compositions/*.toml")) if file not in found]
    assert len(found) >= 4 and len(others) >= 8
    environment = {"MyValue": "123"}
    for file in found + others:
        theirs = upstream.render(file, environment)
        ours = said(file.read_text(), environment, file.parent)
        assert (ours.text is None) == (theirs.text is None) and ours.text == theirs.text, file
        expected = file.with_name(f"{file.name}.expected")
        assert not expected.exists() or ours.text == expected.read_bytes()


def module() -> Path:
    done = subprocess.run(
        ["go", "list", "-m", "-json", MODULE], cwd=programs.MODULE, capture_output=True, text=True, check=True
    )
    return Path(json.loads(done.stdout)["Dir"])
