"""Pipelines: the part of the grammar between `{{` and `}}`."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from testground.errors import did_you_mean
from testground.plan.template import lexer, nodes
from testground.plan.template.errors import TemplateError
from testground.plan.template.lexer import Kind, Token
from testground.plan.template.literals import literal
from testground.plan.template.nodes import Operand, Pipe

_LITERALS = frozenset((Kind.BOOL, Kind.STRING, Kind.RAW, Kind.CHARACTER, Kind.NUMBER))
_STARTS = _LITERALS | {Kind.WORD, Kind.FIELD, Kind.VARIABLE, Kind.DOT}


class Pipelines:
    """Reads tokens one ahead, and pipelines. `variables` are those in scope; who opens a block closes its scope."""

    def __init__(self, text: str, functions: Collection[str]) -> None:
        self._tokens = lexer.tokens(text)
        self.ahead = next(self._tokens)
        self.variables = ["$"]
        self._functions = functions

    def next(self) -> Token:
        token = self.ahead
        if token.kind is not Kind.END:
            self.ahead = next(self._tokens)
        return token

    def expect(self, kind: Kind, where: str) -> Token:
        token = self.next()
        if token.kind is not kind:
            raise unexpected(token, where)
        return token

    def is_mark(self, *texts: str) -> bool:
        return self.ahead.kind is Kind.MARK and self.ahead.text in texts

    def pipe(self, where: str) -> Pipe:
        offset = self.ahead.offset
        variables, assigns, first = self._declarations(where)
        commands: list[Sequence[Operand]] = []
        while first is not None or self._starts_operand():
            commands.append(self._command(first))
            first = None
            if len(commands) > 1 and isinstance(commands[-1][0], nodes.Literal | nodes.Dot | nodes.Nil):
                raise TemplateError("only a function can follow '|'", commands[-1][0].offset)
            if not self.is_mark("|"):
                break
            self.next()
        if self.ahead.kind is not Kind.RIGHT and not self.is_mark(")"):
            raise unexpected(self.ahead, where)
        if not commands:
            raise TemplateError(f"missing value for {where}", self.ahead.offset)
        return Pipe(offset, commands, variables, assigns)

    def _declarations(self, where: str) -> tuple[list[str], bool, Token | None]:
        """The variables before `:=` or `=`; or, if there is no such mark, the token that was read to find out."""
        names: list[str] = []
        while self.ahead.kind is Kind.VARIABLE:
            token = self.next()
            if self.is_mark(":=", "="):
                assigns = self.next().text == "="
                names.append(token.text)
                self.variables.extend(names[-1:])
                return names, assigns, None
            if not self.is_mark(","):
                if names:
                    raise TemplateError("range can only initialize variables", token.offset)
                return [], False, token
            names.append(token.text)
            self.variables.append(token.text)
            comma = self.next()
            if where != "range" or len(names) > 1:
                raise TemplateError(f"too many declarations in {where}", comma.offset)
        if names:
            raise TemplateError("range can only initialize variables", self.ahead.offset)
        return [], False, None

    def _starts_operand(self) -> bool:
        ahead = self.ahead
        return ahead.kind in _STARTS or self.is_mark("(") or (ahead.kind is Kind.KEYWORD and ahead.text == "nil")

    def _command(self, first: Token | None) -> list[Operand]:
        operands: list[Operand] = []
        while True:
            operands.append(self._operand(first or self.next()))
            first = None
            if not self._starts_operand():
                return operands
            if not self.ahead.spaced:
                raise unexpected(self.ahead, "operand")

    def _operand(self, token: Token) -> Operand:
        operand = self._term(token)
        names: list[str] = []
        while self.ahead.kind is Kind.FIELD and not self.ahead.spaced:
            names.append(self.next().text[1:])
        if not names:
            return operand
        if isinstance(operand, nodes.Chain):
            return nodes.Chain(operand.offset, operand.operand, [*operand.names, *names])
        if isinstance(operand, nodes.Literal | nodes.Nil | nodes.Dot):
            raise TemplateError(f"unexpected . after term {token.text}", token.offset + len(token.text))
        return nodes.Chain(operand.offset, operand, names)

    def _term(self, token: Token) -> Operand:
        if token.kind in _LITERALS:
            return literal(token)
        if token.kind is Kind.DOT:
            return nodes.Dot(token.offset)
        if token.kind is Kind.FIELD:
            return nodes.Chain(token.offset, nodes.Dot(token.offset), [token.text[1:]])
        if token.kind is Kind.VARIABLE:
            if token.text not in self.variables:
                raise TemplateError(
                    f"undefined variable {token.text}{did_you_mean(token.text, self.variables[1:])}", token.offset
                )
            return nodes.Variable(token.offset, token.text)
        if token.kind is Kind.WORD:
            if token.text not in self._functions:
                hint = did_you_mean(token.text, self._functions)
                raise TemplateError(f"function '{token.text}' not defined{hint}", token.offset)
            return nodes.Word(token.offset, token.text)
        if token.kind is Kind.KEYWORD and token.text == "nil":
            return nodes.Nil(token.offset)
        inside = self.pipe("parenthesized pipeline")
        closing = self.next()
        if closing.text != ")":
            raise unexpected(closing, "parenthesized pipeline")
        return inside


def unexpected(token: Token, where: str) -> TemplateError:
    what = "end of the file" if token.kind is Kind.END else f"'{token.text}'"
    return TemplateError(f"unexpected {what} in {where}", token.offset)
