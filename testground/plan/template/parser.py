"""Tokens to trees: the grammar of Go's text/template."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from testground.errors import did_you_mean
from testground.plan.template import lexer, nodes
from testground.plan.template.errors import TemplateError
from testground.plan.template.lexer import Kind, Token
from testground.plan.template.literals import literal
from testground.plan.template.nodes import Node, Operand, Pipe, Templates

_LITERALS = frozenset((Kind.BOOL, Kind.STRING, Kind.RAW, Kind.CHARACTER, Kind.NUMBER))
_STARTS = _LITERALS | {Kind.WORD, Kind.FIELD, Kind.VARIABLE, Kind.DOT}

_BLOCKS = frozenset(("if", "with", "range", "block"))


def parse(text: str, functions: Collection[str]) -> Templates:
    """`functions` are the names that a template can call. Raises `TemplateError`."""
    return _Parser(text, functions).templates()


class _Parser:
    def __init__(self, text: str, functions: Collection[str]) -> None:
        self._tokens = lexer.tokens(text)
        self._ahead = next(self._tokens)
        self._functions = functions
        self._found = Templates()
        self._variables = ["$"]
        self._ranges = 0
        """How many `range` bodies the current place is in."""
        self._opened: list[int] = []
        """Where the blocks begin that the current place is in."""

    def templates(self) -> Templates:
        body, closing = self._list(top=True)
        if closing is not None:
            raise TemplateError(f"{{{{{closing.text}}}}} without a block", closing.offset)
        self._define(nodes.ROOT, body, 0)
        return self._found

    def _define(self, name: str, body: Sequence[Node], offset: int) -> None:
        """Of two bodies with a name, an empty one gives way; two that say something are a mistake."""
        known = self._found.bodies.get(name, ())
        if not _is_empty(known):
            if not _is_empty(body):
                raise TemplateError(f'multiple definition of template "{name}"', offset)
            return
        self._found.bodies[name] = body

    # Tokens

    def _next(self) -> Token:
        token = self._ahead
        if token.kind is not Kind.END:
            self._ahead = next(self._tokens)
        return token

    def _expect(self, kind: Kind, where: str) -> Token:
        token = self._next()
        if token.kind is not kind:
            raise _unexpected(token, where)
        return token

    def _is_mark(self, *texts: str) -> bool:
        return self._ahead.kind is Kind.MARK and self._ahead.text in texts

    # Lists of nodes

    def _list(self, *, top: bool = False) -> tuple[list[Node], Token | None]:
        """The nodes up to an `end` or `else`, which is returned too, or up to the end of the text if `top`."""
        found: list[Node] = []
        while self._ahead.kind is not Kind.END:
            token = self._next()
            if token.kind is Kind.TEXT:
                found.append(nodes.Text(token.offset, token.text))
                continue
            if self._ahead.kind is Kind.KEYWORD and self._ahead.text in ("end", "else"):
                return found, self._next()
            if node := self._action(token.offset, top):
                found.append(node)
        if not top:
            raise TemplateError("the '{{ end }}' of this block is missing", self._opened[-1])
        return found, None

    def _action(self, offset: int, top: bool) -> Node | None:
        if self._ahead.kind is not Kind.KEYWORD:
            pipe = self._pipe("command")
            self._expect(Kind.RIGHT, "command")
            return nodes.Action(offset, pipe)
        word = self._next()
        if word.text == "template":
            return self._call(offset)
        if word.text in ("break", "continue"):
            return self._leave(offset, word)
        if word.text in _BLOCKS or (word.text == "define" and top):
            self._opened.append(offset)
            node = self._opening(offset, word.text)
            self._opened.pop()
            return node
        if word.text == "nil":
            raise TemplateError("nil is not a command", word.offset)
        raise _unexpected(word, "command")

    def _opening(self, offset: int, keyword: str) -> Node | None:
        if keyword == "range":
            return self._range(offset)
        if keyword == "block":
            return self._block(offset)
        if keyword == "define":
            self._definition(offset)
            return None
        return self._branch(offset, keyword)

    def _branch(self, offset: int, keyword: str) -> nodes.Branch:
        scope = len(self._variables)
        pipe = self._pipe(keyword)
        self._expect(Kind.RIGHT, keyword)
        body, closing = self._list()
        otherwise: list[Node] = []
        if closing is not None and closing.text == "else":
            if self._ahead.kind is Kind.KEYWORD and self._ahead.text == keyword and self._ahead.spaced:
                otherwise = [self._branch(self._next().offset, keyword)]
            else:
                self._expect(Kind.RIGHT, "else")
                otherwise = self._last()
        else:
            self._expect(Kind.RIGHT, "end")
        del self._variables[scope:]
        return nodes.Branch(offset, pipe, body, otherwise, keyword == "with")

    def _range(self, offset: int) -> nodes.Range:
        scope = len(self._variables)
        pipe = self._pipe("range")
        self._expect(Kind.RIGHT, "range")
        self._ranges += 1
        body, closing = self._list()
        self._ranges -= 1
        otherwise: list[Node] = []
        self._expect(Kind.RIGHT, "end" if closing is None else closing.text)
        if closing is not None and closing.text == "else":
            otherwise = self._last()
        del self._variables[scope:]
        return nodes.Range(offset, pipe, body, otherwise)

    def _last(self) -> list[Node]:
        """The nodes after an `else`; nothing but `end` can follow them."""
        found, closing = self._list()
        if closing is None or closing.text != "end":
            raise TemplateError("expected {{end}}; found {{else}}", closing.offset if closing else 0)
        self._expect(Kind.RIGHT, "end")
        return found

    def _call(self, offset: int) -> nodes.Call:
        name = self._name("template clause")
        pipe = None if self._ahead.kind is Kind.RIGHT else self._pipe("template clause")
        self._expect(Kind.RIGHT, "template clause")
        return nodes.Call(offset, name, pipe)

    def _block(self, offset: int) -> nodes.Call:
        name = self._name("block clause")
        pipe = self._pipe("block clause")
        self._expect(Kind.RIGHT, "block clause")
        self._body(name, offset)
        return nodes.Call(offset, name, pipe)

    def _definition(self, offset: int) -> None:
        name = self._name("define clause")
        self._expect(Kind.RIGHT, "define clause")
        self._body(name, offset)

    def _body(self, name: str, offset: int) -> None:
        """A body of its own: it sees no variables from outside, and leaves no loop of others."""
        outside, self._variables = self._variables, ["$"]
        ranges, self._ranges = self._ranges, 0
        body = self._last()
        self._variables, self._ranges = outside, ranges
        self._define(name, body, offset)

    def _leave(self, offset: int, word: Token) -> nodes.Leave:
        if not self._ranges:
            raise TemplateError(f"{{{{{word.text}}}}} outside {{{{range}}}}", word.offset)
        self._expect(Kind.RIGHT, word.text)
        return nodes.Leave(offset, word.text == "break")

    def _name(self, where: str) -> str:
        token = self._next()
        if token.kind not in (Kind.STRING, Kind.RAW):
            raise _unexpected(token, where)
        return str(literal(token).value)

    # Pipelines

    def _pipe(self, where: str) -> Pipe:
        offset = self._ahead.offset
        variables, assigns, first = self._declarations(where)
        commands: list[Sequence[Operand]] = []
        while first is not None or self._starts_operand():
            commands.append(self._command(first))
            first = None
            if len(commands) > 1 and isinstance(commands[-1][0], nodes.Literal | nodes.Dot | nodes.Nil):
                raise TemplateError("only a function can follow '|'", commands[-1][0].offset)
            if not self._is_mark("|"):
                break
            self._next()
        if self._ahead.kind is not Kind.RIGHT and not self._is_mark(")"):
            raise _unexpected(self._ahead, where)
        if not commands:
            raise TemplateError(f"missing value for {where}", self._ahead.offset)
        return Pipe(offset, commands, variables, assigns)

    def _declarations(self, where: str) -> tuple[list[str], bool, Token | None]:
        """The variables before `:=` or `=`; or, if there is no such mark, the token that was read to find out."""
        names: list[str] = []
        while self._ahead.kind is Kind.VARIABLE:
            token = self._next()
            if self._is_mark(":=", "="):
                assigns = self._next().text == "="
                names.append(token.text)
                self._variables.extend(names[-1:])
                return names, assigns, None
            if not self._is_mark(","):
                if names:
                    raise TemplateError("range can only initialize variables", token.offset)
                return [], False, token
            names.append(token.text)
            self._variables.append(token.text)
            comma = self._next()
            if where != "range" or len(names) > 1:
                raise TemplateError(f"too many declarations in {where}", comma.offset)
        if names:
            raise TemplateError("range can only initialize variables", self._ahead.offset)
        return [], False, None

    def _starts_operand(self) -> bool:
        ahead = self._ahead
        return ahead.kind in _STARTS or self._is_mark("(") or (ahead.kind is Kind.KEYWORD and ahead.text == "nil")

    def _command(self, first: Token | None) -> list[Operand]:
        operands: list[Operand] = []
        while True:
            operands.append(self._operand(first or self._next()))
            first = None
            if not self._starts_operand():
                return operands
            if not self._ahead.spaced:
                raise _unexpected(self._ahead, "operand")

    def _operand(self, token: Token) -> Operand:
        operand = self._term(token)
        names: list[str] = []
        while self._ahead.kind is Kind.FIELD and not self._ahead.spaced:
            names.append(self._next().text[1:])
        if not names:
            return operand
        if isinstance(operand, nodes.Fields):
            return nodes.Fields(operand.offset, [*operand.names, *names])
        if isinstance(operand, nodes.Variable):
            return nodes.Variable(operand.offset, operand.name, names)
        if isinstance(operand, nodes.Literal | nodes.Nil | nodes.Dot):
            raise TemplateError(f"unexpected . after term {token.text}", token.offset + len(token.text))
        return nodes.Chain(operand.offset, operand, names)

    def _term(self, token: Token) -> Operand:
        if token.kind in _LITERALS:
            return literal(token)
        if token.kind is Kind.DOT:
            return nodes.Dot(token.offset)
        if token.kind is Kind.FIELD:
            return nodes.Fields(token.offset, [token.text[1:]])
        if token.kind is Kind.VARIABLE:
            if token.text not in self._variables:
                raise TemplateError(
                    f"undefined variable {token.text}{did_you_mean(token.text, self._variables[1:])}", token.offset
                )
            return nodes.Variable(token.offset, token.text, [])
        if token.kind is Kind.WORD:
            if token.text not in self._functions:
                hint = did_you_mean(token.text, self._functions)
                raise TemplateError(f"function '{token.text}' not defined{hint}", token.offset)
            return nodes.Word(token.offset, token.text)
        if token.kind is Kind.KEYWORD and token.text == "nil":
            return nodes.Nil(token.offset)
        inside = self._pipe("parenthesized pipeline")
        closing = self._next()
        if closing.text != ")":
            raise _unexpected(closing, "parenthesized pipeline")
        return inside


def _is_empty(body: Sequence[Node]) -> bool:
    return all(isinstance(node, nodes.Text) and not node.text.strip(lexer.SPACE) for node in body)


def _unexpected(token: Token, where: str) -> TemplateError:
    what = "end of the file" if token.kind is Kind.END else f"'{token.text}'"
    return TemplateError(f"unexpected {what} in {where}", token.offset)
