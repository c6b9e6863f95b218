"""Tokens to trees: the grammar of Go's text/template."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from testground.plan.template import lexer, nodes
from testground.plan.template.errors import TemplateError
from testground.plan.template.lexer import Kind, Token
from testground.plan.template.literals import literal
from testground.plan.template.nodes import Node, Templates
from testground.plan.template.pipelines import Pipelines, unexpected

_BLOCKS = frozenset(("if", "with", "range", "block"))


def parse(text: str, functions: Collection[str]) -> Templates:
    """`functions` are the names that a template can call. Raises `TemplateError`."""
    return _Parser(text, functions).templates()


class _Parser(Pipelines):
    def __init__(self, text: str, functions: Collection[str]) -> None:
        super().__init__(text, functions)
        self._found: Templates = {}
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
        known = self._found.get(name, ())
        if not _is_empty(known):
            if not _is_empty(body):
                raise TemplateError(f'multiple definition of template "{name}"', offset)
            return
        self._found[name] = body

    def _list(self, *, top: bool = False) -> tuple[list[Node], Token | None]:
        """The nodes up to an `end` or `else`, which is returned too, or up to the end of the text if `top`."""
        found: list[Node] = []
        while self.ahead.kind is not Kind.END:
            token = self.next()
            if token.kind is Kind.TEXT:
                found.append(nodes.Text(token.offset, token.text))
                continue
            if self.ahead.kind is Kind.KEYWORD and self.ahead.text in ("end", "else"):
                return found, self.next()
            if node := self._action(token.offset, top):
                found.append(node)
        if not top:
            raise TemplateError("the '{{ end }}' of this block is missing", self._opened[-1])
        return found, None

    def _action(self, offset: int, top: bool) -> Node | None:
        if self.ahead.kind is not Kind.KEYWORD:
            pipe = self.pipe("command")
            self.expect(Kind.RIGHT, "command")
            return nodes.Action(offset, pipe)
        word = self.next()
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
        raise unexpected(word, "command")

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
        scope = len(self.variables)
        pipe = self.pipe(keyword)
        self.expect(Kind.RIGHT, keyword)
        body, closing = self._list()
        otherwise: list[Node] = []
        if closing is not None and closing.text == "else":
            if self.ahead.kind is Kind.KEYWORD and self.ahead.text == keyword and self.ahead.spaced:
                otherwise = [self._branch(self.next().offset, keyword)]
            else:
                self.expect(Kind.RIGHT, "else")
                otherwise = self._last()
        else:
            self.expect(Kind.RIGHT, "end")
        del self.variables[scope:]
        return nodes.Branch(offset, pipe, body, otherwise, keyword == "with")

    def _range(self, offset: int) -> nodes.Range:
        scope = len(self.variables)
        pipe = self.pipe("range")
        self.expect(Kind.RIGHT, "range")
        self._ranges += 1
        body, closing = self._list()
        self._ranges -= 1
        otherwise: list[Node] = []
        self.expect(Kind.RIGHT, "end" if closing is None else closing.text)
        if closing is not None and closing.text == "else":
            otherwise = self._last()
        del self.variables[scope:]
        return nodes.Range(offset, pipe, body, otherwise)

    def _last(self) -> list[Node]:
        """The nodes after an `else`; nothing but `end` can follow them."""
        found, closing = self._list()
        if closing is None or closing.text != "end":
            raise TemplateError("expected {{end}}; found {{else}}", closing.offset if closing else 0)
        self.expect(Kind.RIGHT, "end")
        return found

    def _call(self, offset: int) -> nodes.Call:
        name = self._name("template clause")
        pipe = None if self.ahead.kind is Kind.RIGHT else self.pipe("template clause")
        self.expect(Kind.RIGHT, "template clause")
        return nodes.Call(offset, name, pipe)

    def _block(self, offset: int) -> nodes.Call:
        name = self._name("block clause")
        pipe = self.pipe("block clause")
        self.expect(Kind.RIGHT, "block clause")
        self._body(name, offset)
        return nodes.Call(offset, name, pipe)

    def _definition(self, offset: int) -> None:
        name = self._name("define clause")
        self.expect(Kind.RIGHT, "define clause")
        self._body(name, offset)

    def _body(self, name: str, offset: int) -> None:
        """A body of its own: it sees no variables from outside, and leaves no loop of others."""
        outside, self.variables = self.variables, ["$"]
        ranges, self._ranges = self._ranges, 0
        body = self._last()
        self.variables, self._ranges = outside, ranges
        self._define(name, body, offset)

    def _leave(self, offset: int, word: Token) -> nodes.Leave:
        if not self._ranges:
            raise TemplateError(f"{{{{{word.text}}}}} outside {{{{range}}}}", word.offset)
        self.expect(Kind.RIGHT, word.text)
        return nodes.Leave(offset, word.text == "break")

    def _name(self, where: str) -> str:
        token = self.next()
        if token.kind not in (Kind.STRING, Kind.RAW):
            raise unexpected(token, where)
        return str(literal(token).value)


def _is_empty(body: Sequence[Node]) -> bool:
    return all(isinstance(node, nodes.Text) and not node.text.strip(lexer.SPACE) for node in body)
