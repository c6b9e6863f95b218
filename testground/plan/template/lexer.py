"""Templates as tokens: text, and between `{{` and `}}` words, literals and marks."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass

from testground.plan.template.errors import TemplateError

SPACE = " \t\r\n"
KEYWORDS = frozenset(("block", "break", "continue", "define", "else", "end", "if", "nil", "range", "template", "with"))

_NUMBER = re.compile(
    r"[+-]?(?:0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?"
    r"|0[oO][0-7_]*|0[bB][01_]*"
    r"|[0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?)i?"
)
_WORD = re.compile(r"\w*")
_QUOTED = re.compile(r'"(?:[^"\\\n]|\\[^\n])*"')
_CHARACTER = re.compile(r"'(?:[^'\\\n]|\\[^\n])*'")
_RAW = re.compile(r"`[^`]*`")
_RIGHT = re.compile(r"[ \t\r\n]+-\}\}|\}\}")
_SPACES = re.compile(r"[ \t\r\n]+")


class Kind(enum.Enum):
    TEXT = "text"
    LEFT = "{{"
    RIGHT = "}}"
    WORD = "word"
    KEYWORD = "keyword"
    FIELD = "field"
    VARIABLE = "variable"
    DOT = "."
    BOOL = "bool"
    STRING = "string"
    RAW = "raw string"
    CHARACTER = "character"
    NUMBER = "number"
    MARK = "mark"
    """One of `| ( ) , = :=`, or a character that has no meaning."""
    END = "end"


@dataclass(frozen=True, slots=True)
class Token:
    kind: Kind
    text: str
    offset: int
    spaced: bool = False
    """There is white space before it."""


def tokens(text: str) -> Iterator[Token]:
    """Raises `TemplateError` where the text cannot be cut."""
    position, trim = 0, False
    while True:
        left = text.find("{{", position)
        end = len(text) if left < 0 else left
        if kept := _between(text, position, end, trim):
            yield kept
        if left < 0:
            yield Token(Kind.END, "", end)
            return
        start = left + 2
        if text[start : start + 1] == "-" and text[start + 1 : start + 2] in tuple(SPACE):
            start += 2
        if text.startswith("/*", start):
            position, trim = _comment(text, start)
            continue
        yield Token(Kind.LEFT, "{{", left)
        action = _Action(text, start)
        yield from action.tokens()
        position, trim = action.position, action.trim


def _between(text: str, start: int, end: int, trim: bool) -> Token | None:
    """The text from one action to the next, without what the trim markers on both sides take."""
    cut = text[start:end]
    if trim:
        cut = cut.lstrip(SPACE)
        start = end - len(cut)
    if text[end + 2 : end + 3] == "-" and text[end + 3 : end + 4] in tuple(SPACE):
        cut = cut.rstrip(SPACE)
    return Token(Kind.TEXT, cut, start) if cut else None


def _comment(text: str, start: int) -> tuple[int, bool]:
    """Where the text goes on after a comment, and whether the white space there is to be taken away."""
    close = text.find("*/", start + 2)
    if close < 0:
        raise TemplateError("unclosed comment", start)
    right = _RIGHT.match(text, close + 2)
    if right is None or len(right[0]) > 4:
        raise TemplateError("a comment must be alone between '{{' and '}}'", start)
    return right.end(), right[0] != "}}"


class _Action:
    """The tokens from `{{` to `}}`. Afterwards, `position` and `trim` say how the text goes on."""

    def __init__(self, text: str, position: int) -> None:
        self.position = position
        self.trim = False
        self._text = text
        self._start = position
        self._parens: list[int] = []

    def tokens(self) -> Iterator[Token]:
        while True:
            right = _RIGHT.match(self._text, self.position)
            if right is not None:
                if self._parens:
                    raise TemplateError("unclosed left paren", self._parens[-1])
                yield Token(Kind.RIGHT, "}}", self.position)
                self.position, self.trim = right.end(), right[0] != "}}"
                return
            spaces = _SPACES.match(self._text, self.position)
            if spaces is not None:
                self.position = spaces.end()
                if _RIGHT.match(self._text, self.position):
                    continue
            if self.position >= len(self._text):
                raise TemplateError("unclosed action: '}}' is missing", self._start - 2)
            token = self._next(spaces is not None)
            yield token
            self.position = token.offset + len(token.text)

    def _next(self, spaced: bool) -> Token:
        text, here = self._text, self.position
        first, second = text[here], text[here + 1 : here + 2]
        if first in "\"`'":
            return self._quoted(first, spaced)
        if first in "+-" or _digit(first) or (first == "." and _digit(second)):
            return self._number(spaced)
        if first == ".":
            name = _word(text, here + 1)
            kind = Kind.FIELD if name else Kind.DOT
            return self._terminated(Token(kind, f".{name}", here, spaced))
        if first == "$":
            return self._terminated(Token(Kind.VARIABLE, f"${_word(text, here + 1)}", here, spaced))
        if word := _word(text, here):
            kind = Kind.BOOL if word in ("true", "false") else Kind.KEYWORD if word in KEYWORDS else Kind.WORD
            return self._terminated(Token(kind, word, here, spaced))
        return self._mark(first, second, spaced)

    def _mark(self, first: str, second: str, spaced: bool) -> Token:
        if first == "(":
            self._parens.append(self.position)
        elif first == ")":
            if not self._parens:
                raise TemplateError("unexpected right paren", self.position)
            self._parens.pop()
        return Token(Kind.MARK, ":=" if first + second == ":=" else first, self.position, spaced)

    def _quoted(self, quote: str, spaced: bool) -> Token:
        pattern, kind, what = {
            '"': (_QUOTED, Kind.STRING, "quoted string"),
            "'": (_CHARACTER, Kind.CHARACTER, "character constant"),
            "`": (_RAW, Kind.RAW, "raw string"),
        }[quote]
        found = pattern.match(self._text, self.position)
        if found is None:
            raise TemplateError(f"unterminated {what}", self.position)
        return Token(kind, found[0], self.position, spaced)

    def _number(self, spaced: bool) -> Token:
        found = _NUMBER.match(self._text, self.position)
        number = found[0] if found else ""
        after = self._text[self.position + len(number) : self.position + len(number) + 1]
        if after == "_" or after.isalnum():
            raise TemplateError(f"bad number syntax: {number + after}", self.position)
        return Token(Kind.NUMBER, number, self.position, spaced)

    def _terminated(self, token: Token) -> Token:
        """Names end at white space or a mark; `print"x"` is a mistake."""
        after = token.offset + len(token.text)
        following = self._text[after : after + 1]
        if following and following not in " \t\r\n.,|:()" and not self._text.startswith("}}", after):
            raise TemplateError(f"bad character {following!r} after '{token.text}'", after)
        return token


def _digit(character: str) -> bool:
    return character != "" and character in "0123456789"


def _word(text: str, start: int) -> str:
    found = _WORD.match(text, start)
    return found[0] if found else ""
