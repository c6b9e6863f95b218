"""Composition templates for tests: upstream's own renderer, and a grammar that draws templates and data for both."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
from hypothesis import strategies as st

DEADLINE = 30
"""Seconds for upstream's renderer to end."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a renderer made of a template: bytes, or an error."""

    text: bytes | None
    error: str = ""


class Renderer:
    """Upstream's template code, one request after the other. See go/template/main.go."""

    def __init__(self, program: Path) -> None:
        environment = {**os.environ, "TZ": "UTC"}  # it prints local times with the machine's offset
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)

    def render(self, file: Path, environment: Mapping[str, str]) -> Said:
        assert self._process.stdin is not None and self._process.stdout is not None
        request = {"path": str(file), "env": dict(environment)}
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if answer["error"]:
            return Said(None, answer["error"])
        return Said(base64.b64decode(answer["text"] or ""))

    def close(self) -> None:
        self._process.communicate(timeout=DEADLINE)


@dataclass(frozen=True, slots=True)
class Case:
    template: str
    environment: dict[str, str]
    resource: str
    """The text of r.toml, beside the template."""


NAMES = ("a", "b", "c", "d", "rows", "list")
VARIABLES = ("A", "B", "LIST", "NUMBER")

_words = st.text(st.sampled_from("ab1 ,é<&\"'\\\n\t%"), max_size=6)
_numbers = st.integers(-3, 1000) | st.floats(-1e9, 1e9, allow_nan=False).map(lambda value: round(value, 3))
_scalars = _words | _numbers | st.booleans() | st.sampled_from([1e-9, 1e21, 123456789.0, 2**62])
_values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def environments(draw: st.DrawFn) -> dict[str, str]:
    found = draw(st.dictionaries(st.sampled_from(("A", "B", "LIST")), _words, max_size=3))
    return found | {"NUMBER": draw(st.sampled_from(["0", "1", "2", "-1", "x", ""]))}


@st.composite
def resources(draw: st.DrawFn) -> str:
    table = draw(st.dictionaries(st.sampled_from(NAMES), _values, max_size=5))
    rows = draw(st.lists(st.dictionaries(st.sampled_from(NAMES), _scalars, max_size=3), max_size=3))
    if rows:
        table["rows"] = rows
    return tomli_w.dumps(table)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    return Case(_Grammar(draw).file(), draw(environments()), draw(resources()))


@st.composite
def mutated(draw: st.DrawFn, seeds: list[str]) -> str:
    """One of the seeds with some tokens lost, doubled, or put where they do not belong."""
    text = draw(st.sampled_from(seeds))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(text)))
        lost = draw(st.integers(0, 3))
        text = text[:place] + draw(st.sampled_from(_TOKENS)) + text[place + lost :]
    return text


_TOKENS = (
    "", "{{", "}}", "{{-", "-}}", "{{- ", " -}}", "{{end}}", "{{else}}", "{{/*", "*/}}", "(", ")", "|", ".", "$", "$x",
    ":=", "=", ",", '"', "`", "'", "'a'", "\\", " ", "\n", "nil", "true", "1", "-1", "1.5", "0x", "1_0", ".Env", ".A",
    " if ", " with ", " range ", " define ", " block ", " template ", " break ", " continue ", " else ", " end ",
    " print ", " and ", "%", "#", "é", "\x00", "/*", "-", "\r\n", "%d", "%v",
)  # fmt: skip


class _Grammar:
    """Draws templates most of which succeed. Values are asked for by kind, and now and then are of another one."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw
        self._scope: list[str] = []
        self._defined: list[str] = []
        self._loops = 0
        self._blocks = 0

    def file(self) -> str:
        parts = []
        for name in self._draw(st.lists(st.sampled_from(("one", "two")), unique=True, max_size=2)):
            scope, self._scope = self._scope, []
            parts.append(f'{self._open()}define "{name}"{self._close()}{self._body(2)}{{{{end}}}}')
            self._scope = scope
            self._defined.append(name)
        return "".join(parts) + self._body(3)

    def _pick(self, *choices: Any) -> Any:
        return self._draw(st.sampled_from(choices))

    def _open(self) -> str:
        return str(self._pick("{{", "{{ ", "{{- "))

    def _close(self) -> str:
        return str(self._pick("}}", " }}", " -}}"))

    def _action(self, inside: str) -> str:
        return self._open() + inside + self._close()

    def _body(self, depth: int) -> str:
        scope = len(self._scope)
        body = "".join(self._node(depth) for _ in range(self._draw(st.integers(1, 3))))
        del self._scope[scope:]
        return body

    def _node(self, depth: int) -> str:
        plain = ("text", "value", "value", "value", "declare", "assign", "comment", "leave")
        deep = ("if", "with", "range", "range", "template", "block") if depth > 0 else ()
        return str(getattr(self, f"_node_{self._pick(*plain, *deep)}")(depth))

    def _node_text(self, depth: int) -> str:
        return str(self._pick("x", " ", "\n", "a = 1\n", "  - ", "{ }", "é"))

    def _node_value(self, depth: int) -> str:
        return self._action(self._pipeline(self._pick("any", "string", "int", "bool", "list", "table"), depth))

    def _node_declare(self, depth: int) -> str:
        name = str(self._pick("$x", "$y", "$z"))
        text = self._action(f"{name}{self._pick(':=', ' := ')}{self._pipeline('any', depth)}")
        self._scope.append(name)
        return text

    def _node_assign(self, depth: int) -> str:
        if not self._scope:
            return ""
        return self._action(f"{self._pick(*self._scope)} = {self._pipeline('any', depth)}")

    def _node_comment(self, depth: int) -> str:
        return str(self._pick("{{/* x */}}", " {{- /* }} */ -}} "))

    def _node_leave(self, depth: int) -> str:
        return self._action(str(self._pick("break", "continue"))) if self._loops else ""

    def _node_if(self, depth: int) -> str:
        return self._branch("if", depth)

    def _node_with(self, depth: int) -> str:
        return self._branch("with", depth)

    def _branch(self, keyword: str, depth: int) -> str:
        scope = len(self._scope)
        text = self._action(f"{keyword} {self._declared(depth)}") + self._body(depth - 1)
        if self._pick(True, False, False):
            text += self._action(f"else {keyword} {self._declared(depth)}") + self._body(depth - 1)
        if self._pick(True, False):
            text += self._action("else") + self._body(depth - 1)
        del self._scope[scope:]
        return text + self._action("end")

    def _declared(self, depth: int) -> str:
        if self._pick(True, False, False):
            self._scope.append("$x")
            return f"$x := {self._pipeline('any', depth)}"
        return self._pipeline(str(self._pick("any", "bool", "table", "string")), depth)

    def _node_range(self, depth: int) -> str:
        scope = len(self._scope)
        over = self._pipeline(str(self._pick("list", "list", "table", "int", "any")), depth)
        variables = str(self._pick("", "", "$x := ", "$x, $y := "))
        self._scope.extend(name for name in ("$x", "$y") if name in variables)
        text = self._action(f"range {variables}{over}")
        self._loops += 1
        text += self._body(depth - 1)
        self._loops -= 1
        if self._pick(True, False):
            text += self._action("else") + self._body(depth - 1)
        del self._scope[scope:]
        return text + self._action("end")

    def _node_template(self, depth: int) -> str:
        if not self._defined:
            return ""
        pipe = self._pick("", " .", " (withEnv .)", " " + self._pipeline("any", depth))
        return self._action(f'template "{self._pick(*self._defined)}"{pipe}')

    def _node_block(self, depth: int) -> str:
        self._blocks += 1
        name = f"block{self._blocks}"
        pipe = self._pipeline("any", depth)
        scope, self._scope = self._scope, []
        loops, self._loops = self._loops, 0
        text = self._action(f'block "{name}" {pipe}') + self._body(depth - 1) + self._action("end")
        self._scope, self._loops = scope, loops
        self._defined.append(name)
        return text

    # Values

    def _pipeline(self, kind: str, depth: int) -> str:
        if self._pick(*[False] * 5, True):
            stage = {
                "string": ("print", 'printf "%s|"', "html", "js", "urlquery", 'printf "%v"'),
                "int": ("len", 'index (split "1,2") | len', "atoi"),
                "bool": ("not", "eq 1", "and true", "or false"),
            }.get(kind, ("toml", "split", "withEnv", "and 1", "print"))
            return f"{self._command(str(self._pick('any', kind)), depth)} | {self._pick(*stage)}"
        return self._command(kind, depth)

    def _command(self, kind: str, depth: int) -> str:
        kind = str(self._pick(*[kind] * 12, "any"))
        return str(getattr(self, f"_{kind}")(depth))

    def _operand(self, kind: str, depth: int) -> str:
        command = self._command(kind, depth - 1)
        return f"({command})" if " " in command and not command.startswith(("(", '"', "`")) else command

    def _any(self, depth: int) -> str:
        if depth <= 0 or self._pick(True, False):
            return str(
                self._pick(
                    ".", ".", "$", "$.Env", "$.Env.A", "$.Env.LIST", *self._scope,
                    *((".a", ".b.c", *(f"{name}.a" for name in self._scope[:1])) if depth < 3 else ()),
                )
            )  # fmt: skip
        return self._command(str(self._pick("string", "int", "bool", "list", "table", "number")), depth)

    def _string(self, depth: int) -> str:
        literal = self._pick('"a"', '""', '"a,b"', "`r\\n`", '"\\t\\u00e9\\x41"', '"<&\'>"', '"%d %5.2f"')
        if depth <= 0 or self._pick(True, False):
            return str(self._pick(literal, "$.Env.A", "$.Env.LIST", "$.Env.NONE", literal))
        any_ = self._operand("any", depth)
        return str(
            self._pick(
                f"print {any_} {self._operand('any', depth)}",
                f"println {any_} {literal}",
                f"printf {self._format()} {any_} {self._operand('any', depth)}",
                f"html {any_}",
                f"js {self._operand('string', depth)}",
                f"urlquery {any_}",
                f"slice {self._operand('string', depth)} {self._operand('int', depth)}",
                f'index $.Env "{self._pick(*VARIABLES, "NONE")}"',
                f"toml {self._operand('table', depth)}",
            )
        )

    def _format(self) -> str:
        verbs = self._draw(st.lists(st.sampled_from("vdsqtTcoXU"), min_size=1, max_size=3))
        flags = [self._pick("", "", "", "5", "-6", "+", "#", "05", ".2", "6.2", " ", "[1]", "[2]") for _ in verbs]
        return '"' + "|".join(f"%{flag}{verb}" for flag, verb in zip(flags, verbs, strict=True)) + '"'

    def _int(self, depth: int) -> str:
        literal = self._pick("0", "1", "2", "-1", "3", "0x1F", "1_000", "'a'", "0b11", "017")
        if depth <= 0 or self._pick(True, True, False):
            return str(literal)
        return str(
            self._pick(
                f"len {self._operand('any', depth)}",
                f"len {self._operand('list', depth)}",
                f"atoi {self._pick('$.Env.NUMBER', '`12`', self._operand('string', depth))}",
                f"index {self._operand('string', depth)} {literal}",
            )
        )

    def _number(self, depth: int) -> str:
        return str(self._pick("1.5", "1e3", "1e21", "-0.0", ".5", "1E-7", "123456789.0", "0x1p-2", "2."))

    def _bool(self, depth: int) -> str:
        if depth <= 0:
            return str(self._pick("true", "false"))
        kind = self._pick("string", "int", "bool", "number", "any")
        first, second = self._operand(kind, depth), self._operand(kind, depth)
        return str(
            self._pick(
                "true",
                f"not {first}",
                f"eq {first} {second} {self._operand(kind, depth)}",
                f"{self._pick('eq', 'ne', 'lt', 'le', 'gt', 'ge')} {first} {second}",
                f"{self._pick('and', 'or')} {first} {second} {self._operand('any', depth)}",
                f"eq {first} nil",
            )
        )

    def _list(self, depth: int) -> str:
        if depth <= 0 or self._pick(True, False):
            return str(self._pick("split $.Env.LIST", 'split "x,y,z"', *(f"({_LOAD}).{name}" for name in NAMES)))
        return f"slice {self._operand('list', depth)} {self._pick('0 1', '1', '0', '0 1 1', '2')}"

    def _table(self, depth: int) -> str:
        if depth <= 0 or self._pick(True, False):
            return str(self._pick(_LOAD, _LOAD, "$.Env", "."))
        return str(
            self._pick(
                f'pick ({_LOAD}) "{self._pick(*NAMES, "absent")}"',
                f"withEnv {self._operand('table', depth)}",
                f'index ({_LOAD}) "{self._pick(*NAMES)}"',
                f"index ({_LOAD}).rows {self._operand('int', depth)}",
            )
        )


_LOAD = 'load_resource "r.toml"'
