"""Carries out the trees of templates."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from testground.errors import did_you_mean
from testground.plan.template import arguments, limits, nodes
from testground.plan.template.builtins import Function
from testground.plan.template.errors import Place, Refused, TemplateError
from testground.plan.template.nodes import Node, Operand, Pipe, Templates
from testground.plan.template.printing import shown
from testground.plan.template.values import ABSENT, Struct, field, is_true, type_name

Piece = tuple[str, int]
"""Some text of the result, and the place in the template that it comes from."""

_NOTHING_PIPED = object()


class Leaving(enum.Enum):
    BREAK = enum.auto()
    CONTINUE = enum.auto()


def execute(templates: Templates, data: Any, functions: Mapping[str, Function]) -> list[Piece]:
    """The text of the template `ROOT`. Raises `TemplateError`."""
    executor = _Executor(templates, functions)
    executor.run(templates.get(nodes.ROOT, ()), data)
    return executor.pieces


class _Executor:
    def __init__(self, templates: Templates, functions: Mapping[str, Function]) -> None:
        self.pieces: list[Piece] = []
        self._bodies = templates
        self._functions = functions
        self._budget = limits.Budget()
        self._depth = 0
        self._variables: list[tuple[str, Any]] = []

    def run(self, body: Sequence[Node], data: Any) -> None:
        """One template: `$` is its data, and it sees no other variables."""
        outside, self._variables = self._variables, [("$", data)]
        self._walk(body, data)
        self._variables = outside

    def _walk(self, body: Iterable[Node], dot: Any) -> Leaving | None:
        for node in body:
            with Place(node.offset):
                self._budget.step()
            if leaving := self._visit(node, dot):
                return leaving
        return None

    def _visit(self, node: Node, dot: Any) -> Leaving | None:
        if isinstance(node, nodes.Text):
            self._write(node, node.text)
        elif isinstance(node, nodes.Action):
            value = self._pipe(node.pipe, dot)
            if not node.pipe.variables:
                with Place(node.offset):
                    text = shown(value)
                self._write(node, text)
        elif isinstance(node, nodes.Branch):
            return self._branch(node, dot)
        elif isinstance(node, nodes.Range):
            return self._range(node, dot)
        elif isinstance(node, nodes.Call):
            self._template(node, dot)
        else:
            return Leaving.BREAK if node.for_good else Leaving.CONTINUE
        return None

    def _write(self, node: Node, text: str) -> None:
        with Place(node.offset):
            self._budget.write(text)
        self.pieces.append((text, node.offset))

    def _branch(self, node: nodes.Branch, dot: Any) -> Leaving | None:
        scope = len(self._variables)
        value = self._pipe(node.pipe, dot)
        if is_true(value):
            leaving = self._walk(node.body, value if node.moves_dot else dot)
        else:
            leaving = self._walk(node.otherwise, dot)
        del self._variables[scope:]
        return leaving

    def _range(self, node: nodes.Range, dot: Any) -> Leaving | None:
        scope = len(self._variables)
        value = self._pipe(node.pipe, dot)
        leaving = None
        rounds = 0
        for key, item in _items(value, node):
            rounds += 1
            with Place(node.offset):
                self._budget.step()
            inside = len(self._variables)
            self._bind(node.pipe, key, item)
            left = self._walk(node.body, item)
            del self._variables[inside:]
            if left is Leaving.BREAK:
                break
        if not rounds and self._walk(node.otherwise, dot) is Leaving.CONTINUE:
            leaving = Leaving.CONTINUE  # of the loop around this one; a break leaves only this one
        del self._variables[scope:]
        return leaving

    def _bind(self, pipe: Pipe, key: Any, item: Any) -> None:
        """Give the variables of a loop their values of one round."""
        values = [item] if len(pipe.variables) == 1 else [key, item]
        for place, (name, value) in enumerate(zip(pipe.variables, values, strict=False)):
            if pipe.assigns:
                self._assign(name, value, pipe.offset)
            else:
                self._variables[len(self._variables) - len(pipe.variables) + place] = (name, value)

    def _template(self, node: nodes.Call, dot: Any) -> None:
        body = self._bodies.get(node.name)
        if body is None:
            known = (name for name in self._bodies if name != nodes.ROOT)
            raise TemplateError(f'template "{node.name}" not defined{did_you_mean(node.name, known)}', node.offset)
        data = ABSENT if node.pipe is None else self._pipe(node.pipe, dot)
        if self._depth == limits.MAX_DEPTH:
            raise TemplateError(f"templates call each other more than {limits.MAX_DEPTH} deep", node.offset)
        self._depth += 1
        self.run(body, data)
        self._depth -= 1

    # Values

    def _pipe(self, pipe: Pipe, dot: Any) -> Any:
        value: Any = _NOTHING_PIPED
        for command in pipe.commands:
            value = self._command(command, dot, value)
            value = ABSENT if value is None else value
        for name in pipe.variables:
            if pipe.assigns:
                self._assign(name, value, pipe.offset)
            else:
                self._variables.append((name, value))
        return value

    def _assign(self, name: str, value: Any, offset: int) -> None:
        for place in range(len(self._variables) - 1, -1, -1):
            if self._variables[place][0] == name:
                self._variables[place] = (name, value)
                return
        raise TemplateError(f"undefined variable {name}; ':=' makes one", offset)

    def _command(self, command: Sequence[Operand], dot: Any, piped: Any) -> Any:
        first = command[0]
        has_arguments = len(command) > 1 or piped is not _NOTHING_PIPED
        if isinstance(first, nodes.Word):
            return self._call(first, command[1:], dot, piped)
        if isinstance(first, nodes.Nil):
            raise TemplateError("nil is not a command", first.offset)
        if has_arguments and not isinstance(first, nodes.Chain):
            raise TemplateError("only functions take arguments", first.offset)
        return self._operand(first, dot, has_arguments=has_arguments)

    def _operand(self, operand: Operand, dot: Any, *, has_arguments: bool = False) -> Any:
        if isinstance(operand, nodes.Dot):
            return dot
        if isinstance(operand, nodes.Nil):
            return None
        if isinstance(operand, nodes.Literal):
            if operand.problem:
                raise TemplateError(operand.problem, operand.offset)
            return operand.value
        if isinstance(operand, nodes.Word):
            return self._call(operand, (), dot, _NOTHING_PIPED)
        if isinstance(operand, nodes.Pipe):
            return self._pipe(operand, dot)
        if isinstance(operand, nodes.Variable):
            return self._value(operand)
        return self._fields(self._operand(operand.operand, dot), operand, has_arguments)

    def _value(self, variable: nodes.Variable) -> Any:
        for name, value in reversed(self._variables):
            if name == variable.name:
                return value
        raise TemplateError(f"undefined variable {variable.name}", variable.offset)  # {{ $x := $x }}

    def _fields(self, value: Any, chain: nodes.Chain, has_arguments: bool) -> Any:
        with Place(chain.offset):
            for place, name in enumerate(chain.names):
                if has_arguments and place == len(chain.names) - 1 and isinstance(value, dict):
                    raise Refused(f"{name} has arguments but is not a function")
                value = field(value, name)
        return value

    # Functions

    def _call(self, word: nodes.Word, operands: Sequence[Operand], dot: Any, piped: Any) -> Any:
        function = self._functions[word.name]
        with Place(word.offset, word.name):
            arguments.check_count(function, len(operands) + (piped is not _NOTHING_PIPED))
        values = self._values(word, function, operands, dot, piped)
        if word.name in ("and", "or"):
            return arguments.first_deciding(values, word.name == "or")
        given = list(values)
        with Place(word.offset, word.name):
            self._budget.take(given)
            result = function.call(*given)
            self._budget.produce(result)
        return result

    def _values(
        self, word: nodes.Word, function: Function, operands: Sequence[Operand], dot: Any, piped: Any
    ) -> Iterator[Any]:
        """One argument after the other, as `and` and `or` may not ask for all."""
        for number, operand in enumerate(operands):
            takes = arguments.takes(function, number)
            if isinstance(operand, nodes.Nil):
                value: Any = ABSENT
            else:
                value = self._operand(operand, dot)
            with Place(operand.offset):
                yield arguments.accepted(value, takes)
        if piped is not _NOTHING_PIPED:
            with Place(word.offset, word.name):
                yield arguments.accepted(piped, arguments.takes(function, len(operands)))


def _items(value: Any, node: nodes.Range) -> Iterator[tuple[Any, Any]]:
    """Pairs of key and value. A whole number has itself for both, and cannot be gone through with two variables."""
    if value is ABSENT:
        return iter(())
    if isinstance(value, dict) and not isinstance(value, Struct):
        return iter(sorted(value.items()))
    if isinstance(value, list):
        return iter(enumerate(value))
    if isinstance(value, int) and not isinstance(value, bool):
        if len(node.pipe.variables) > 1:
            raise TemplateError(f"can't use {value} to iterate over more than one variable", node.pipe.offset)
        return ((type(value)(number), type(value)(number)) for number in range(value))
    raise TemplateError(f"range can't iterate over {type_name(value)}", node.pipe.offset)
